// The numbers are of at most LOOKED training frames, evenly spread, and of about PIXELS pixels per channel; constant
// frames are looked for in all.
//
// Correlation and length are of frames at half resolution, which takes away noise that would hide what they have in
// common and make specks of single pixels; frames of more than SMALL pixels are halved further.
//
// Length of structures: bright pixels are those over mean + 1 deviation of their frame; those that touch, corners
// included, are a structure, as long as the longer side of its bounding box. Half of the bright pixels belong to
// structures at least as long as the number given: one long structure among many specks does not decide it, and specks
// do not hide a few long ones. Structures that touch count as one.
#include "cli/datacheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/picture.h"

enum { LOOKED = 24, LEAST = 3, PIXELS = 50000000, SMALL = 4000000, SAMPLE = 4096, LENGTHS = 1 << 16 };

// From here on there is a warning.
static const double alike = 0.7, saturated = 0.01;
enum { FEW_FRAMES = 3, FEW_PATCHES = 100 };

typedef struct looker {
    datacheck *d;
    const usplit_dataset *dataset;
    usplit_dataset_facts facts;
    int64_t *frames;            // the training set
    float *plane;               // room for the largest frame
    float *small[USPLIT_MAX_CHANNELS];          // and for all channels of one, made smaller
    int32_t *parent;            // union-find over a small plane
    int32_t *box;               // [pixels][top, left, bottom, right, area]
    double *lengths[USPLIT_MAX_CHANNELS];       // bright pixels by the length of their structure
    float *sample[USPLIT_MAX_CHANNELS];
    int64_t n_sample;
    double top[USPLIT_MAX_CHANNELS];
    int64_t n_top[USPLIT_MAX_CHANNELS], n;
    double sum_r[USPLIT_MAX_CHANNELS][USPLIT_MAX_CHANNELS];
    int64_t n_r[USPLIT_MAX_CHANNELS][USPLIT_MAX_CHANNELS];
} looker;

static void warn(datacheck *d, const char *fmt, ...) CLI_PRINTF(2, 3);
static void warn(datacheck *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (d->n_warnings < DATACHECK_WARNINGS) {
        vsnprintf(d->warnings[d->n_warnings], sizeof d->warnings[0], fmt, args);
        d->n_warnings++;
    }
    va_end(args);
}

static void moments(const float *v, int64_t n, double *mean, double *deviation)
{
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)v[i];
    }
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        square += ((double)v[i] - *mean) * ((double)v[i] - *mean);
    }
    *deviation = sqrt(square / (double)n);
}

// ---- Structures -----------------------------------------------------------------------------------------

static int32_t root_of(int32_t *parent, int32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

static void join(int32_t *parent, int32_t a, int32_t b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a < b) {
        parent[b] = a;
    } else {
        parent[a] = b;
    }
}

// Adds the structures of a plane to a histogram of lengths; `scale` pixels to one of the plane.
static void add_structures(looker *k, const float *v, int64_t height, int64_t width, int scale, double *lengths)
{
    double mean, deviation;
    int32_t *parent = k->parent;
    moments(v, height * width, &mean, &deviation);
    float bright = (float)(mean + deviation);
    if (!(deviation > 0)) {
        return;
    }
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            int64_t i = y * width + x;
            parent[i] = v[i] > bright ? (int32_t)i : -1;
            if (parent[i] < 0) {
                continue;
            }
            memcpy(k->box + 5 * i, (int32_t[]){(int32_t)y, (int32_t)x, (int32_t)y, (int32_t)x, 0}, 5 * sizeof(int32_t));
            const int64_t back[4] = {i - 1, i - width - 1, i - width, i - width + 1};
            const int there[4] = {x > 0, y > 0 && x > 0, y > 0, y > 0 && x + 1 < width};
            for (int b = 0; b < 4; b++) {
                if (there[b] && parent[back[b]] >= 0) {
                    join(parent, (int32_t)back[b], (int32_t)i);
                }
            }
        }
    }
    for (int64_t i = 0; i < height * width; i++) {
        if (parent[i] >= 0) {
            int32_t *box = k->box + 5 * root_of(parent, (int32_t)i), y = (int32_t)(i / width), x = (int32_t)(i % width);
            box[0] = y < box[0] ? y : box[0];
            box[1] = x < box[1] ? x : box[1];
            box[2] = y > box[2] ? y : box[2];
            box[3] = x > box[3] ? x : box[3];
            box[4]++;
        }
    }
    for (int64_t i = 0; i < height * width; i++) {
        if (parent[i] == i) {
            const int32_t *box = k->box + 5 * i;
            int64_t tall = box[2] - box[0] + 1, wide = box[3] - box[1] + 1;
            int64_t length = scale * (tall > wide ? tall : wide);
            lengths[length < LENGTHS ? length : LENGTHS - 1] += box[4];
        }
    }
}

static double middle_length(const double *lengths)
{
    double all = 0, so_far = 0;
    for (int i = 0; i < LENGTHS; i++) {
        all += lengths[i];
    }
    for (int i = 0; i < LENGTHS && all > 0; i++) {
        so_far += lengths[i];
        if (so_far >= all / 2) {
            return i;
        }
    }
    return NAN;
}

// ---- One frame ------------------------------------------------------------------------------------------

static void count_top(looker *k, int c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v = (double)k->plane[i];
        if (v > k->top[c]) {
            k->top[c] = v;
            k->n_top[c] = 0;
        }
        k->n_top[c] += v == k->top[c];
    }
}

static void add_correlation(looker *k, int a, int b, int64_t n)
{
    double mean[2], deviation[2], sum = 0;
    moments(k->small[a], n, &mean[0], &deviation[0]);
    moments(k->small[b], n, &mean[1], &deviation[1]);
    if (!(deviation[0] > 0 && deviation[1] > 0)) {
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        sum += ((double)k->small[a][i] - mean[0]) * ((double)k->small[b][i] - mean[1]);
    }
    k->sum_r[a][b] += sum / ((double)n * deviation[0] * deviation[1]);
    k->n_r[a][b]++;
}

// How many pixels of a frame lie side by side under one of the small plane.
static int shrink_by(int64_t height, int64_t width)
{
    int by = 2;
    while (height / by * (width / by) > SMALL) {
        by *= 2;
    }
    return by;
}

static void shrink(const float *src, int64_t width, int by, float *dst, int64_t small_height, int64_t small_width)
{
    for (int64_t y = 0; y < small_height; y++) {
        for (int64_t x = 0; x < small_width; x++) {
            double sum = 0;
            for (int j = 0; j < by; j++) {
                for (int i = 0; i < by; i++) {
                    sum += (double)src[(y * by + j) * width + x * by + i];
                }
            }
            dst[y * small_width + x] = (float)(sum / (by * by));
        }
    }
}

static int look_at(looker *k, int64_t frame)
{
    int rc = CLI_OK;
    int64_t h = 0, w = 0, n = 0;
    for (int c = 0; c < k->d->n_channels; c++) {
        CLI_LIB(usplit_dataset_get_frame(k->dataset, frame, c, 0, k->plane, &h, &w));
        int by = shrink_by(h, w);
        int64_t small_height = h / by, small_width = w / by;
        n = h * w;
        count_top(k, c, n);
        for (int64_t i = 0; i < SAMPLE; i++) {
            k->sample[c][k->n_sample + i] = k->plane[(int64_t)((double)i / SAMPLE * (double)n)];
        }
        if (small_height < 1 || small_width < 1) {
            continue;
        }
        shrink(k->plane, w, by, k->small[c], small_height, small_width);
        add_structures(k, k->small[c], small_height, small_width, by, k->lengths[c]);
        for (int b = 0; b < c; b++) {
            add_correlation(k, b, c, small_height * small_width);
        }
    }
    k->n += n;
    k->n_sample += SAMPLE;
done:
    return rc;
}

static int is_constant(const float *v, int64_t n)
{
    int64_t i = 1;
    while (i < n && v[i] == v[0]) {
        i++;
    }
    return i >= n;
}

// In small first: what is not constant there is not constant.
static int count_constant(looker *k)
{
    int rc = CLI_OK;
    int small = k->facts.levels - 1 < 2 ? k->facts.levels - 1 : 2;
    for (int64_t f = 0; f < k->d->frames; f++) {
        for (int c = 0; c < k->d->n_channels; c++) {
            int64_t h, w;
            CLI_LIB(usplit_dataset_get_frame(k->dataset, k->frames[f], c, small, k->plane, &h, &w));
            if (!is_constant(k->plane, h * w)) {
                continue;
            }
            CLI_LIB(usplit_dataset_get_frame(k->dataset, k->frames[f], c, 0, k->plane, &h, &w));
            k->d->channels[c].constant += is_constant(k->plane, h * w);
        }
    }
done:
    return rc;
}

static int count_patches(looker *k, int64_t patch)
{
    int rc = CLI_OK;
    for (int64_t f = 0; f < k->d->frames; f++) {
        int64_t h, w;
        CLI_LIB(usplit_dataset_get_frame(k->dataset, k->frames[f], 0, 0, NULL, &h, &w));
        k->d->patches += h / patch * (w / patch);
    }
done:
    return rc;
}

// ---- Warnings -------------------------------------------------------------------------------------------

static void warn_of_frames(datacheck *d, int64_t n_validation)
{
    if (d->frames < FEW_FRAMES) {
        warn(d, "Only %lld training frame%s: the network may not know what other images look like. Several frames, of "
             "several cells or days, are better than one large one.", (long long)d->frames, d->frames == 1 ? "" : "s");
    }
    if (d->patches < FEW_PATCHES) {
        warn(d, "Only %lld patches fit in the training frames without overlap: expect a network that knows these "
             "images by heart. %d or more are a start, thousands are better.", (long long)d->patches, FEW_PATCHES);
    }
    if (n_validation == 0) {
        warn(d, "No validation frames: nothing tells when to stop, and the newest model is kept instead of the best.");
    }
    for (int c = 0; c < d->n_channels; c++) {
        const datacheck_channel *h = &d->channels[c];
        if (h->constant > 0) {
            warn(d, "%.63s: %lld of %lld training frames hold one value only: empty, or not recorded?", h->name,
                 (long long)h->constant, (long long)d->frames);
        }
    }
}

static void warn_of_pixels(const looker *k, double clip_quantile)
{
    datacheck *d = k->d;
    double at_clip = 0;
    for (int c = 0; c < d->n_channels; c++) {
        const datacheck_channel *h = &d->channels[c];
        if (k->top[c] >= k->facts.clip_value) {
            at_clip += h->at_top / d->n_channels;
        } else if (h->at_top > saturated && h->constant < d->frames) {
            warn(d, "%.63s: %.2g %% of the pixels are at the brightest value, %.6g: saturated when recorded? What lies "
                 "above is lost.", h->name, 100 * h->at_top, k->top[c]);
        }
    }
    if (at_clip > 1 - clip_quantile + saturated) {
        warn(d, "%.2g %% of the pixels are at the clip value, %.6g, where %.2g %% were to be: saturated when recorded? "
             "What lies above is lost.", 100 * at_clip, k->facts.clip_value, 100 * (1 - clip_quantile));
    }
    for (int b = 1; b < d->n_channels; b++) {
        for (int a = 0; a < b; a++) {
            if (fabs(d->correlation[a][b]) > alike) {
                warn(d, "%.63s and %.63s are alike: correlation %.2f within frames. The network can hardly tell what "
                     "belongs to which: bleed-through, or the same file twice?", d->channels[a].name,
                     d->channels[b].name, d->correlation[a][b]);
            }
        }
    }
    for (int c = 0; c < d->n_channels; c++) {
        const datacheck_channel *h = &d->channels[c];
        if (h->length > (double)d->field) {
            warn(d, "%.63s: half of the bright pixels belong to structures %.0f pixels long or longer; the network "
                 "sees %lld. Lateral context (--variant lean, a larger --lc) or a larger --patch shows it more.",
                 h->name, h->length, (long long)d->field);
        }
    }
}

// ---- All ------------------------------------------------------------------------------------------------

static int make_room(looker *k)
{
    int64_t largest = 0, largest_small = 0, n = 0;
    int rc;
    CLI_LIB(usplit_dataset_get_set(k->dataset, USPLIT_SET_TRAIN, NULL, &n));
    k->d->frames = n;
    k->frames = cli_alloc((size_t)n, sizeof *k->frames);
    if (k->frames == NULL) {
        return CLI_FAILED;
    }
    CLI_LIB(usplit_dataset_get_set(k->dataset, USPLIT_SET_TRAIN, k->frames, &n));
    for (int64_t i = 0; i < n; i++) {
        int64_t h, w;
        CLI_LIB(usplit_dataset_get_frame(k->dataset, k->frames[i], 0, 0, NULL, &h, &w));
        int64_t by = shrink_by(h, w), small = h / by * (w / by);
        largest = h * w > largest ? h * w : largest;
        largest_small = small > largest_small ? small : largest_small;
    }
    int64_t fit = largest > 0 ? PIXELS / largest : LOOKED;
    k->d->looked_at = fit < LEAST ? LEAST : fit > LOOKED ? LOOKED : fit;
    k->d->looked_at = k->d->looked_at < n ? k->d->looked_at : n;
    k->plane = cli_alloc((size_t)largest, sizeof *k->plane);
    k->parent = cli_alloc((size_t)largest_small, sizeof *k->parent);
    k->box = cli_alloc((size_t)largest_small, 5 * sizeof *k->box);
    int whole = k->plane != NULL && k->parent != NULL && k->box != NULL;
    for (int c = 0; c < k->d->n_channels; c++) {
        k->small[c] = cli_alloc((size_t)largest_small, sizeof(float));
        k->sample[c] = cli_alloc((size_t)k->d->looked_at, SAMPLE * sizeof(float));
        k->lengths[c] = cli_alloc(LENGTHS, sizeof(double));
        whole = whole && k->small[c] != NULL && k->sample[c] != NULL && k->lengths[c] != NULL;
    }
    rc = whole ? CLI_OK : CLI_FAILED;
done:
    return rc;
}

static void drop_room(looker *k)
{
    for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
        free(k->small[c]);
        free(k->sample[c]);
        free(k->lengths[c]);
    }
    free(k->frames);
    free(k->plane);
    free(k->parent);
    free(k->box);
}

static int sum_up(looker *k)
{
    int rc = CLI_OK;
    datacheck *d = k->d;
    for (int c = 0; c < d->n_channels; c++) {
        datacheck_channel *h = &d->channels[c];
        h->mean = k->facts.target_mean[c];
        h->deviation = k->facts.target_deviation[c];
        h->at_top = (double)k->n_top[c] / (double)k->n;
        h->length = middle_length(k->lengths[c]);
        CLI_TRY(picture_range(k->sample[c], k->n_sample, 0.005, 0.995, &h->low, &h->high));
        for (int b = 0; b < d->n_channels; b++) {
            int one = b < c ? b : c, other = b < c ? c : b;
            d->correlation[b][c] = b == c ? 1 : k->n_r[one][other] > 0 ?
                                   k->sum_r[one][other] / (double)k->n_r[one][other] : NAN;
        }
    }
done:
    return rc;
}

int datacheck_run(datacheck *d, const usplit_dataset *dataset, const usplit_model_facts *model,
                  char (*names)[USPLIT_NAME_BYTES], double clip_quantile)
{
    int rc;
    looker k = {.d = d, .dataset = dataset};
    memset(d, 0, sizeof *d);
    k.facts.struct_size = sizeof k.facts;
    CLI_LIB(usplit_dataset_info(dataset, &k.facts));
    d->n_channels = (int)k.facts.n_channels;
    d->field = (int64_t)model->patch << model->lc_count;
    for (int c = 0; c < d->n_channels; c++) {
        snprintf(d->channels[c].name, sizeof d->channels[c].name, "%s", names[c]);
        k.top[c] = -INFINITY;
    }
    CLI_TRY(make_room(&k));
    CLI_TRY(count_patches(&k, model->patch));
    CLI_TRY(count_constant(&k));
    for (int64_t i = 0; i < d->looked_at; i++) {
        CLI_TRY(look_at(&k, k.frames[i * d->frames / d->looked_at]));
    }
    CLI_TRY(sum_up(&k));
    warn_of_frames(d, k.facts.n_validation);
    warn_of_pixels(&k, clip_quantile);
done:
    drop_room(&k);
    return rc;
}
