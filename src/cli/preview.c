// Frames are split by a model read from the checkpoint just written, so that the trainer has its own for itself. Of a
// large frame the middle PREDICTED pixels are split, and the middle SHOWN of them are pictures. At most KEPT epochs
// are kept: where another comes, the one goes whose neighbours are closest.
//
// The page itself is where pictures wait for a resumed training: html_figure puts an image on a line of its own, and
// its mark says epoch, frame and column.
#include "cli/preview.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/html.h"
#include "cli/picture.h"

enum { KEPT = 8, FRAMES = 2, PREDICTED = 256, SHOWN = 160, COLUMNS = 1 + USPLIT_MAX_CHANNELS, MANY = 3 };
static const double share_of_time = 0.05;
static const char mark_start[] = "<img data-preview='", data_start[] = "' src='data:image/png;base64,";

typedef struct source {         // one frame
    int64_t number, height, width;      // of the part that is split
    int64_t top, left;                  // shown part within it
    int64_t shown_height, shown_width;
    float *truth, *input;       // [channel][height][width], [height][width]
    double low[COLUMNS], high[COLUMNS], span;   // contrast of input and channels
    char *pictures[COLUMNS];    // input and true channels
} source;

typedef struct moment {         // one epoch
    int64_t epoch;
    char *pictures[FRAMES][COLUMNS];    // what is left over, and predicted channels
} moment;

struct preview {
    usplit_context *context;
    int n_channels, n_frames, n_moments, trained_on;
    char (*names)[USPLIT_NAME_BYTES];
    double pixel_size, last_end, cost;  // seconds
    int64_t memory_budget;
    source frames[FRAMES];
    moment moments[KEPT + 1];
};

static void drop_moment(moment *m)
{
    for (int f = 0; f < FRAMES; f++) {
        for (int c = 0; c < COLUMNS; c++) {
            free(m->pictures[f][c]);
        }
    }
    memset(m, 0, sizeof *m);
}

void preview_free(preview *p)
{
    if (p == NULL) {
        return;
    }
    for (int f = 0; f < FRAMES; f++) {
        for (int c = 0; c < COLUMNS; c++) {
            free(p->frames[f].pictures[c]);
        }
        free(p->frames[f].truth);
        free(p->frames[f].input);
    }
    for (int i = 0; i < p->n_moments; i++) {
        drop_moment(&p->moments[i]);
    }
    free(p);
}

static char *encode(const preview *p, const source *s, const float *plane, int map, double low, double high,
                    int scale_bar)
{
    float *part = cli_alloc((size_t)(s->shown_height * s->shown_width), sizeof *part);
    char *text = NULL;
    if (part != NULL) {
        for (int64_t y = 0; y < s->shown_height; y++) {
            memcpy(part + y * s->shown_width, plane + (s->top + y) * s->width + s->left,
                   (size_t)s->shown_width * sizeof *part);
        }
        picture_cell cell = {.pixels = part, .map = map, .low = low, .high = high};
        text = html_encode_cell(&cell, s->shown_height, s->shown_width, SHOWN, scale_bar ? p->pixel_size : 0);
    }
    free(part);
    return text;
}

// ---- The frames -----------------------------------------------------------------------------------------

static int take_frame(preview *p, const usplit_dataset *dataset, int64_t number, source *s)
{
    int rc = CLI_FAILED;
    int64_t h, w;
    float *whole = NULL;
    s->number = number;
    CLI_LIB(usplit_dataset_get_frame(dataset, number, 0, 0, NULL, &h, &w));
    s->height = h < PREDICTED ? h : PREDICTED;
    s->width = w < PREDICTED ? w : PREDICTED;
    s->shown_height = s->height < SHOWN ? s->height : SHOWN;
    s->shown_width = s->width < SHOWN ? s->width : SHOWN;
    s->top = (s->height - s->shown_height) / 2;
    s->left = (s->width - s->shown_width) / 2;
    int64_t n = s->height * s->width, top = (h - s->height) / 2, left = (w - s->width) / 2;
    rc = CLI_FAILED;
    whole = cli_alloc((size_t)(h * w), sizeof *whole);
    s->truth = cli_alloc((size_t)n, sizeof *s->truth * (size_t)p->n_channels);
    s->input = cli_alloc((size_t)n, sizeof *s->input);
    if (whole == NULL || s->truth == NULL || s->input == NULL) {
        goto done;
    }
    for (int c = 0; c < p->n_channels; c++) {
        float *plane = s->truth + c * n;
        CLI_LIB(usplit_dataset_get_frame(dataset, number, c, 0, whole, &h, &w));
        for (int64_t y = 0; y < s->height; y++) {
            memcpy(plane + y * s->width, whole + (top + y) * w + left, (size_t)s->width * sizeof *plane);
        }
        for (int64_t i = 0; i < n; i++) {
            s->input[i] += plane[i] / (float)p->n_channels;
        }
    }
    for (int c = 0; c <= p->n_channels; c++) {
        const float *plane = c == 0 ? s->input : s->truth + (c - 1) * n;
        CLI_TRY(picture_range(plane, n, 0.005, 0.995, &s->low[c], &s->high[c]));
        s->pictures[c] = encode(p, s, plane, c == 0 ? PICTURE_MAP_GREY : PICTURE_MAP_COLOUR + c - 1, s->low[c],
                                s->high[c], c == 0);
    }
    s->span = s->high[0] - s->low[0];
    rc = CLI_OK;
done:
    free(whole);
    return rc;
}

int preview_open(preview **out, usplit_context *context, const usplit_dataset *dataset,
                 char (*names)[USPLIT_NAME_BYTES], double pixel_size, int64_t memory_budget)
{
    int rc;
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    int64_t n = 0, *numbers = NULL;
    preview *p = *out = cli_alloc(1, sizeof *p);
    if (p == NULL) {
        return CLI_FAILED;
    }
    CLI_LIB(usplit_dataset_info(dataset, &facts));
    p->context = context;
    p->n_channels = (int)facts.n_channels;
    p->names = names;
    p->pixel_size = pixel_size;
    p->memory_budget = memory_budget;
    p->trained_on = facts.n_validation == 0;
    int32_t set = p->trained_on ? USPLIT_SET_TRAIN : USPLIT_SET_VALIDATION;
    CLI_LIB(usplit_dataset_get_set(dataset, set, NULL, &n));
    numbers = cli_alloc((size_t)n, sizeof *numbers);
    if (numbers == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    CLI_LIB(usplit_dataset_get_set(dataset, set, numbers, &n));
    int wanted = p->n_channels > MANY ? 1 : FRAMES;
    for (int f = 0; f < wanted && f < n; f++) {
        CLI_TRY(take_frame(p, dataset, numbers[f == 0 ? 0 : n / 2], &p->frames[f]));
        p->n_frames++;
    }
done:
    free(numbers);
    if (rc != CLI_OK) {
        preview_free(p);
        *out = NULL;
    }
    return rc;
}

// ---- Epochs ---------------------------------------------------------------------------------------------

int preview_is_due(const preview *p, int64_t epoch, int wanted)
{
    int there = p->n_moments > 0 && p->moments[p->n_moments - 1].epoch >= epoch;
    return !there && (wanted || p->cost == 0 || cli_seconds() - p->last_end >= p->cost / share_of_time);
}

static void keep_few(preview *p)
{
    if (p->n_moments <= KEPT) {
        return;
    }
    int drop = 1;
    for (int i = 2; i + 1 < p->n_moments; i++) {
        if (p->moments[i + 1].epoch - p->moments[i - 1].epoch <
            p->moments[drop + 1].epoch - p->moments[drop - 1].epoch) {
            drop = i;
        }
    }
    drop_moment(&p->moments[drop]);
    p->n_moments--;
    memmove(&p->moments[drop], &p->moments[drop + 1], (size_t)(p->n_moments - drop) * sizeof p->moments[0]);
    memset(&p->moments[p->n_moments], 0, sizeof p->moments[0]);
}

static int split(const preview *p, usplit_tiler *tiler, const source *s, char **pictures)
{
    int rc = CLI_FAILED;
    int64_t n = s->height * s->width;
    usplit_image src, dst;
    float *planes = cli_alloc((size_t)n, sizeof *planes * (size_t)p->n_channels);
    float *rest = cli_alloc((size_t)n, sizeof *rest);
    if (planes == NULL || rest == NULL) {
        goto done;
    }
    CLI_LIB(usplit_image_init(&src, sizeof src, s->input, USPLIT_TYPE_F32, 1, s->height, s->width, 1));
    CLI_LIB(usplit_image_init(&dst, sizeof dst, planes, USPLIT_TYPE_F32, 1, s->height, s->width, p->n_channels));
    dst.stride_column = (int64_t)sizeof(float);
    dst.stride_row = s->width * (int64_t)sizeof(float);
    dst.stride_channel = n * (int64_t)sizeof(float);
    dst.stride_frame = p->n_channels * dst.stride_channel;
    CLI_LIB(usplit_tiler_run(tiler, &src, &dst, NULL, NULL, NULL));
    memcpy(rest, s->input, (size_t)n * sizeof *rest);
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < p->n_channels; c++) {
            rest[i] -= planes[c * n + i] / (float)p->n_channels;
        }
    }
    pictures[0] = encode(p, s, rest, PICTURE_MAP_SIGNED, -s->span / 2, s->span / 2, 0);
    for (int c = 0; c < p->n_channels; c++) {
        pictures[1 + c] = encode(p, s, planes + c * n, PICTURE_MAP_COLOUR + c, s->low[1 + c], s->high[1 + c], 0);
    }
    rc = CLI_OK;
done:
    free(planes);
    free(rest);
    return rc;
}

int preview_add(preview *p, const char *model_file, int64_t epoch)
{
    int rc;
    double began = cli_seconds();
    usplit_model *model = NULL;
    usplit_tiler *tiler = NULL;
    usplit_tiler_options options;
    moment *m = &p->moments[p->n_moments];
    CLI_LIB(usplit_model_load(&model, p->context, model_file));
    CLI_LIB(usplit_tiler_options_init(&options, sizeof options));
    options.latent = USPLIT_LATENT_MEAN;
    options.memory_budget = p->memory_budget;
    CLI_LIB(usplit_tiler_create(&tiler, model, &options));
    for (int f = 0; f < p->n_frames; f++) {
        CLI_TRY(split(p, tiler, &p->frames[f], m->pictures[f]));
    }
    m->epoch = epoch;
    p->n_moments++;
    keep_few(p);
done:
    if (rc != CLI_OK) {
        drop_moment(m);
    }
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    p->last_end = cli_seconds();
    p->cost = p->last_end - began;
    return rc;
}

// ---- A page written earlier -----------------------------------------------------------------------------

// "12 0 3' ..." -> three numbers; 0 where it is something else.
static int read_numbers(const char *text, int64_t *numbers)
{
    char *end;
    for (int i = 0; i < 3; i++) {
        numbers[i] = strtol(text, &end, 10);
        if (end == text || numbers[i] < 0 || *end != (i < 2 ? ' ' : '\'')) {
            return 0;
        }
        text = end + 1;
    }
    return 1;
}

static void take_line(preview *p, const char *line, int64_t n_epochs)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    int64_t v[3];
    const char *data = strstr(line, data_start);
    int at = 0;
    if (strncmp(line, mark_start, sizeof mark_start - 1) != 0 || data == NULL ||
        !read_numbers(line + sizeof mark_start - 1, v) || v[0] < 1 || v[0] > n_epochs || v[1] >= p->n_frames ||
        v[2] > p->n_channels) {
        return;
    }
    while (at < p->n_moments && p->moments[at].epoch < v[0]) {
        at++;
    }
    if (at == p->n_moments || p->moments[at].epoch != v[0]) {
        if (p->n_moments == KEPT) {
            return;
        }
        memmove(&p->moments[at + 1], &p->moments[at], (size_t)(p->n_moments - at) * sizeof p->moments[0]);
        memset(&p->moments[at], 0, sizeof p->moments[0]);
        p->moments[at].epoch = v[0];
        p->n_moments++;
    }
    char **place = &p->moments[at].pictures[v[1]][v[2]];
    data += sizeof data_start - 1;
    free(*place);
    *place = cli_format("%.*s", (int)strspn(data, digits), data);
}

void preview_read(preview *p, const char *page, int64_t n_epochs)
{
    FILE *file = fopen(page, "rb");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL) {
        return;
    }
    while (getline(&line, &room, file) >= 0) {
        take_line(p, line, n_epochs);
    }
    free(line);
    fclose(file);
}

// ---- The part of the page -------------------------------------------------------------------------------

static void put_truth(const preview *p, const source *s, FILE *file)
{
    char caption[64];
    fprintf(file, "<div class='pictures' style='--n:%d'>\n", 1 + p->n_channels);
    for (int c = 0; c <= p->n_channels; c++) {
        char *name = c == 0 ? cli_format("input") : cli_format("%s, true", p->names[c - 1]);
        snprintf(caption, sizeof caption, "%.4g to %.4g", s->low[c], s->high[c]);
        html_figure(file, "", s->pictures[c], name, caption);
        free(name);
    }
    fputs("</div>\n", file);
}

static void put_moment(const preview *p, const moment *m, int frame, FILE *file)
{
    char mark[96], caption[64];
    fprintf(file, "<div class='pictures' style='--n:%d'>\n", 1 + p->n_channels);
    for (int c = 0; c <= p->n_channels; c++) {
        snprintf(mark, sizeof mark, "data-preview='%lld %d %d' ", (long long)m->epoch, frame, c);
        snprintf(caption, sizeof caption, "epoch %lld", (long long)m->epoch);
        html_figure(file, mark, m->pictures[frame][c], c == 0 ? "left over" : p->names[c - 1], caption);
    }
    fputs("</div>\n", file);
}

void preview_put(const preview *p, FILE *file)
{
    html_heading(file, p->trained_on ? "Training frames, split" : "Validation frames, split");
    html_paragraph(file, "faint",
                   "%sThe middle of each frame, at most %d x %d pixels. A channel has one contrast everywhere, 0.5 to "
                   "99.5 percent of its true pixels. Left over: input less mean of the predicted channels, red where "
                   "the input is brighter, over half the input's contrast to both sides. Latents at their mean.",
                   p->trained_on ? "There are no validation frames: these were trained on. " : "", SHOWN, SHOWN);
    for (int f = 0; f < p->n_frames; f++) {
        html_paragraph(file, "frame", "Frame %lld", (long long)p->frames[f].number + 1);
        put_truth(p, &p->frames[f], file);
        for (int i = p->n_moments - 1; i >= 0; i--) {
            if (i == p->n_moments - 2) {
                fputs("<details><summary>earlier epochs</summary>\n", file);
            }
            put_moment(p, &p->moments[i], f, file);
        }
        fputs(p->n_moments > 1 ? "</details>\n" : "", file);
    }
    if (p->n_moments == 0) {
        html_paragraph(file, "faint", "No epoch has ended yet.");
    }
}
