// Data, patches, metrics and synthetic frames against a pieces.h5. Sizes and settings are read from the
// file. An error is the largest difference, relative to the largest value unless said otherwise.
#include "parity/pieces.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/critters.h"
#include "data/dataset_impl.h"
#include "image/quality.h"

enum { MAX_DIMS = 6 };

typedef struct session {
    hid_t file;
    us_parity_report_fn report;
    void *user;
    int failed;
    usplit_context *context;
} session;

typedef struct array {
    hsize_t dims[MAX_DIMS];
    int n_dims;
    int64_t count;
    double *values; // NULL: not in the file
} array;

static void tell(session *s, const char *group, double worst, double tolerance)
{
    int ok = worst <= tolerance; // false for NaN
    s->failed += !ok;
    s->report(group, worst, tolerance, ok, s->user);
}

// ---- Reading the file ----------------------------------------------------------------------------

static int has(const session *s, const char *path)
{
    char part[256];
    for (const char *slash = strchr(path, '/');; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", slash ? (int)(slash - path) : 255, path);
        if (H5Lexists(s->file, part, H5P_DEFAULT) <= 0) {
            return 0;
        }
        if (!slash) {
            return 1;
        }
    }
}

static array load(const session *s, const char *path)
{
    array a = {.n_dims = 0};
    if (!has(s, path)) {
        return a;
    }
    hid_t set = H5Dopen2(s->file, path, H5P_DEFAULT);
    hid_t space = H5Dget_space(set);
    int n_dims = H5Sget_simple_extent_ndims(space);
    if (n_dims >= 0 && n_dims <= MAX_DIMS) {
        a.n_dims = n_dims;
        H5Sget_simple_extent_dims(space, a.dims, NULL);
        a.count = (int64_t)H5Sget_simple_extent_npoints(space);
        a.values = malloc((size_t)a.count * sizeof *a.values + 1);
        if (a.values && H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, a.values) < 0) {
            free(a.values);
            a.values = NULL;
        }
    }
    H5Sclose(space);
    H5Dclose(set);
    return a;
}

// A number or a boolean attribute; NaN when it is missing.
static double attribute(const session *s, const char *path, const char *name)
{
    double value = NAN;
    if (!has(s, path) || H5Aexists_by_name(s->file, path, name, H5P_DEFAULT) <= 0) {
        return value;
    }
    hid_t at = H5Aopen_by_name(s->file, path, name, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = H5Aget_type(at);
    if (H5Tget_class(type) == H5T_ENUM) {
        signed char flag = 0;
        H5Aread(at, type, &flag);
        value = flag;
    } else {
        H5Aread(at, H5T_NATIVE_DOUBLE, &value);
    }
    H5Tclose(type);
    H5Aclose(at);
    return value;
}

// A variable-length text attribute as written by h5py; the caller frees it.
static char *text_attribute(const session *s, const char *path, const char *name)
{
    if (H5Aexists_by_name(s->file, path, name, H5P_DEFAULT) <= 0) {
        return NULL;
    }
    hid_t at = H5Aopen_by_name(s->file, path, name, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = H5Aget_type(at);
    char *text = NULL;
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
        char *loaned = NULL;
        if (H5Aread(at, type, &loaned) >= 0 && loaned) {
            text = strdup(loaned);
            H5free_memory(loaned);
        }
    }
    H5Tclose(type);
    H5Aclose(at);
    return text;
}

static float *to_floats(const array *a)
{
    float *f = malloc((size_t)a->count * sizeof *f + 1);
    for (int64_t i = 0; f && i < a->count; i++) {
        f[i] = (float)a->values[i];
    }
    return f;
}

// max |ours - theirs| / max |theirs|
static double relative_error(const float *ours, const double *theirs, int64_t n)
{
    double worst = 0.0, largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - theirs[i]);
        worst = d > worst || isnan(d) ? d : worst;
        largest = fabs(theirs[i]) > largest ? fabs(theirs[i]) : largest;
    }
    return largest > 0.0 ? worst / largest : worst;
}

static double larger(double a, double b)
{
    return b > a || isnan(b) ? b : a;
}

// ---- lc, lc_even: pyramids and patches -----------------------------------------------------------

typedef struct pyramid {
    int levels, channels;
    us_plane plane[32][8];
    float *data[32];
} pyramid;

// Level 0 is the image; every further level our halving of our level before.
static double check_pyramid(const session *s, const char *group, pyramid *p)
{
    double worst = 0.0;
    char path[128];
    snprintf(path, sizeof path, "%s/image", group);
    array image = load(s, path);
    *p = (pyramid){.levels = 0};
    if (!image.values || image.n_dims != 3 || image.dims[0] > 8) {
        free(image.values);
        return NAN;
    }
    p->channels = (int)image.dims[0];
    int64_t h = (int64_t)image.dims[1], w = (int64_t)image.dims[2];
    for (int k = 0; k < 32; k++) {
        snprintf(path, sizeof path, "%s/pyramid/%d", group, k);
        array level = load(s, path);
        if (!level.values) {
            break;
        }
        int64_t area = h * w;
        p->data[k] = k == 0 ? to_floats(&image) : malloc((size_t)(p->channels * area) * sizeof(float) + 1);
        for (int c = 0; c < p->channels; c++) {
            if (k > 0 && us_patch_halve(NULL, p->plane[k - 1][c], p->data[k] + c * area) != USPLIT_OK) {
                worst = NAN;
            }
            p->plane[k][c] = (us_plane){p->data[k] + c * area, h, w};
        }
        if (level.count != p->channels * area) {
            worst = NAN;
        } else {
            worst = larger(worst, relative_error(p->data[k], level.values, level.count));
        }
        p->levels = k + 1;
        h /= 2;
        w /= 2;
        free(level.values);
    }
    free(image.values);
    return worst;
}

static void free_pyramid(pyramid *p)
{
    for (int k = 0; k < p->levels; k++) {
        free(p->data[k]);
    }
}

static double check_patches(const session *s, const pyramid *p, const char *path, int32_t padding)
{
    array starts = load(s, "lc/starts"), centres = load(s, "lc/centres"), patches = load(s, path);
    double worst = NAN;
    if (starts.values && patches.values && patches.n_dims == 5 && (int)patches.dims[2] <= p->levels) {
        int64_t scales = (int64_t)patches.dims[2], size = (int64_t)patches.dims[3];
        float *crop = malloc((size_t)(size * size) * sizeof *crop);
        const double *expected = patches.values;
        worst =
            size == (int64_t)attribute(s, "lc", "patch") && scales == (int64_t)attribute(s, "lc", "scales")
                ? 0.0
                : NAN;
        for (int64_t i = 0; i < (int64_t)patches.dims[0]; i++) {
            for (int c = 0; c < p->channels; c++) {
                for (int k = 0; k < scales; k++) {
                    int64_t y = us_patch_context_start((int64_t)starts.values[2 * i], size, k);
                    int64_t x = us_patch_context_start((int64_t)starts.values[2 * i + 1], size, k);
                    us_patch_cut(p->plane[k][c], y, x, size, padding, 0.0f, 0.0f, 1.0f, crop);
                    worst = larger(worst, relative_error(crop, expected, size * size));
                    expected += size * size;
                }
            }
            if (centres.values && (starts.values[2 * i] + (double)(size / 2) != centres.values[2 * i])) {
                worst = NAN;
            }
        }
        free(crop);
    }
    free(starts.values);
    free(centres.values);
    free(patches.values);
    return worst;
}

static void check_lc(session *s)
{
    pyramid p;
    if (has(s, "lc")) {
        double worst = check_pyramid(s, "lc", &p);
        tell(s, "lc/pyramid", worst, 1e-5);
        tell(s, "lc/reflect", check_patches(s, &p, "lc/reflect/patches", USPLIT_PADDING_REFLECT), 1e-5);
        tell(s, "lc/constant", check_patches(s, &p, "lc/constant/patches", USPLIT_PADDING_CONSTANT), 1e-5);
        free_pyramid(&p);
    }
    if (has(s, "lc_even")) {
        double worst = check_pyramid(s, "lc_even", &p);
        tell(s, "lc_even/pyramid", worst, 1e-5);
        free_pyramid(&p);
    }
}

// ---- norm: clip value, statistics, a normalised patch --------------------------------------------

static usplit_status frame_size(void *user, int64_t frame, int64_t *height, int64_t *width)
{
    const array *a = user;
    (void)frame;
    *height = (int64_t)a->dims[2];
    *width = (int64_t)a->dims[3];
    return USPLIT_OK;
}

static usplit_status read_frame(void *user, int64_t frame, int64_t height, int64_t width, float *dst)
{
    const array *a = user;
    int64_t n = (int64_t)a->dims[1] * height * width;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = (float)a->values[frame * n + i];
    }
    return USPLIT_OK;
}

static double check_values(const session *s, const char *path, const double *ours, int64_t n)
{
    array a = load(s, path);
    double worst = a.values && a.count == n ? 0.0 : NAN;
    for (int64_t i = 0; i < n && a.values && a.count == n; i++) {
        worst = larger(worst, fabs(ours[i] - a.values[i]) / fabs(a.values[i]));
    }
    free(a.values);
    return worst;
}

static double check_examples(const session *s, const usplit_dataset *d, double *target_error)
{
    array starts = load(s, "norm/example/starts"), frames = load(s, "norm/example/frame");
    array input = load(s, "norm/example/input"), target = load(s, "norm/example/target");
    double worst = NAN;
    *target_error = NAN;
    if (starts.values && frames.values && input.values && target.values && input.n_dims == 4) {
        int levels = (int)input.dims[1], channels = (int)target.dims[1];
        int64_t size = (int64_t)input.dims[2], area = size * size;
        float *x = malloc((size_t)(levels * area) * sizeof *x),
              *t = malloc((size_t)(channels * area) * sizeof *t);
        float *raw = malloc((size_t)area * sizeof *raw);
        const us_statistics *st = us_dataset_statistics(d);
        worst = *target_error = 0.0;
        for (int64_t i = 0; i < (int64_t)input.dims[0]; i++) {
            if (us_dataset_patch(d, (int64_t)frames.values[i], (int64_t)starts.values[2 * i],
                                 (int64_t)starts.values[2 * i + 1], size, levels, x, t) != USPLIT_OK) {
                worst = NAN;
                break;
            }
            worst = larger(worst, relative_error(x, input.values + i * levels * area, levels * area));
            for (int c = 0; c < channels; c++) {
                for (int64_t k = 0; k < area; k++) {
                    raw[k] =
                        (float)(st->target_mean[c] + st->target_deviation[c] * (double)t[k * channels + c]);
                }
                const double *theirs = target.values + (i * channels + c) * area;
                *target_error = larger(*target_error, relative_error(raw, theirs, area));
            }
        }
        free(raw);
        free(t);
        free(x);
    }
    free(starts.values);
    free(frames.values);
    free(input.values);
    free(target.values);
    return worst;
}

static void compare_norm(session *s, const usplit_dataset *d)
{
    const us_statistics *st = us_dataset_statistics(d);
    double clip = attribute(s, "norm", "max_val");
    tell(s, "norm/max_val", fabs(st->clip_value - clip) / fabs(clip), 1e-6);
    array clipped = load(s, "norm/clipped");
    double worst = clipped.values ? 0.0 : NAN;
    const double *theirs = clipped.values;
    for (int64_t f = 0; theirs && f < d->n_frames; f++) {
        for (int64_t c = 0; c < d->channels; c++) {
            us_plane plane = us_dataset_plane(d, f, c, 0);
            worst = larger(worst, relative_error(plane.data, theirs, plane.height * plane.width));
            theirs += plane.height * plane.width;
        }
    }
    free(clipped.values);
    tell(s, "norm/clipped", worst, 1e-6);
    // float32 sums there (about 1e-4, data section 2.4), exact ones in f64
    double both[2] = {st->input_mean, st->input_deviation};
    double means[2] = {st->input_mean, st->input_mean},
           deviations[2] = {st->input_deviation, st->input_deviation};
    worst = larger(check_values(s, "norm/input_mean", means, 2),
                   check_values(s, "norm/input_std", deviations, 2));
    worst = larger(worst, check_values(s, "norm/target_mean", st->target_mean, d->channels));
    worst = larger(worst, check_values(s, "norm/target_std", st->target_deviation, d->channels));
    tell(s, "norm/statistics", worst, 1e-4);
    worst = check_values(s, "norm/f64/input_mean_std", both, 2);
    worst = larger(worst, check_values(s, "norm/f64/target_mean", st->target_mean, d->channels));
    worst = larger(worst, check_values(s, "norm/f64/target_std", st->target_deviation, d->channels));
    tell(s, "norm/f64", worst, 1e-6);
    double target_error;
    worst = check_examples(s, d, &target_error);
    tell(s, "norm/example/input", worst, 1e-5);
    tell(s, "norm/example/target", target_error, 1e-5);
}

static void check_norm(session *s)
{
    if (!has(s, "norm")) {
        return;
    }
    array data = load(s, "norm/data"), example = load(s, "norm/example/input");
    usplit_dataset_options options;
    usplit_dataset_options_init(&options, sizeof options);
    options.validation_fraction = options.test_fraction = 0.0;
    options.clip_quantile = attribute(s, "norm", "quantile");
    options.levels = example.n_dims == 4 ? (int32_t)example.dims[1] : 1;
    usplit_dataset *d = NULL;
    if (data.values && data.n_dims == 4) {
        us_data_source source = {
            (int64_t)data.dims[0], (int64_t)data.dims[1], 0, frame_size, read_frame, &data, NULL};
        us_data_build(&d, s->context, &source, &options);
    }
    if (d) {
        compare_norm(s, d);
    } else {
        tell(s, "norm", NAN, 0.0);
    }
    us_dataset_release(d);
    free(data.values);
    free(example.values);
}

// ---- datasplit -----------------------------------------------------------------------------------

typedef struct set_pair {
    const int64_t *first, *second;
    int64_t n_first, n_second;
} set_pair;

static int contains(const int64_t *list, int64_t n, double value)
{
    for (int64_t i = 0; i < n; i++) {
        if ((double)list[i] == value) {
            return 1;
        }
    }
    return 0;
}

// Frames of the file's set that neither of our sets has.
static double count_missing(const session *s, const char *group, const char *name, const set_pair *ours)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", group, name);
    array theirs = load(s, path);
    double missing = theirs.values ? 0.0 : NAN;
    for (int64_t i = 0; theirs.values && i < theirs.count; i++) {
        missing += !contains(ours->first, ours->n_first, theirs.values[i]) &&
                   !contains(ours->second, ours->n_second, theirs.values[i]);
    }
    free(theirs.values);
    return missing;
}

// With equal fractions the three sets must be the file's. With unequal ones the published code moves frames
// between validation and test by a fixed shuffle, which the library leaves out on purpose (data section 2.2):
// then the training frames and the frames of the other two sets together are compared.
static void check_split(session *s, const char *group)
{
    usplit_dataset_options options;
    usplit_dataset_options_init(&options, sizeof options);
    options.validation_fraction = attribute(s, group, "val_fraction");
    options.test_fraction = attribute(s, group, "test_fraction");
    options.split =
        attribute(s, group, "starting_test") != 0.0 ? USPLIT_SPLIT_SEQUENTIAL : USPLIT_SPLIT_INTERLEAVED;
    int64_t total = (int64_t)attribute(s, group, "total");
    int64_t *set[4] = {NULL, NULL, NULL, NULL}, n[4];
    double wrong = NAN;
    int equal = options.validation_fraction == options.test_fraction;
    if (us_data_split(NULL, total, &options, set, n) == USPLIT_OK) {
        set_pair train = {set[USPLIT_SET_TRAIN], NULL, n[USPLIT_SET_TRAIN], 0};
        set_pair val = {set[USPLIT_SET_VALIDATION], set[USPLIT_SET_TEST], n[USPLIT_SET_VALIDATION],
                        equal ? 0 : n[USPLIT_SET_TEST]};
        set_pair test = {set[USPLIT_SET_TEST], set[USPLIT_SET_VALIDATION], n[USPLIT_SET_TEST],
                         equal ? 0 : n[USPLIT_SET_VALIDATION]};
        // as many as there are frames, each found: the sets are the same
        wrong = fabs((double)(n[1] + n[2] + n[3] - total)) + count_missing(s, group, "train", &train) +
                count_missing(s, group, "val", &val) + count_missing(s, group, "test", &test);
    }
    for (int k = 0; k < 4; k++) {
        us_free(NULL, set[k]);
    }
    char label[160];
    snprintf(label, sizeof label, "%s%s", group, equal ? "" : " (validation and test as one)");
    tell(s, label, wrong, 0.0);
}

static void check_splits(session *s)
{
    for (int i = 0; i < 1000; i++) {
        char group[64];
        snprintf(group, sizeof group, "datasplit/%d", i);
        if (!has(s, group)) {
            return;
        }
        check_split(s, group);
    }
}

// ---- metrics -------------------------------------------------------------------------------------

// Largest absolute difference of one measured column to the file's.
static double column_error(const session *s, const char *path, const double *ours, int64_t n)
{
    array a = load(s, path);
    double worst = a.values && a.count == n ? 0.0 : NAN;
    for (int64_t i = 0; i < n && a.values && a.count == n; i++) {
        worst = larger(worst, fabs(ours[i] - a.values[i]));
    }
    free(a.values);
    return worst;
}

static double find_average(const double *v, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i] / (double)n;
    }
    return sum;
}

static void check_metrics(session *s)
{
    array target = load(s, "metrics/target"), prediction = load(s, "metrics/prediction");
    if (target.values && prediction.values && target.n_dims == 3 && target.count == prediction.count) {
        int64_t n = (int64_t)target.dims[0], h = (int64_t)target.dims[1], w = (int64_t)target.dims[2];
        float *t = to_floats(&target), *p = to_floats(&prediction);
        double *ri = malloc((size_t)n * 3 * sizeof *ri), *psnr = ri + n, *ssim = ri + 2 * n;
        us_val_psnr running;
        us_val_psnr_init(&running, 1);
        for (int64_t i = 0; i < n; i++) {
            usplit_image_quality q;
            us_image_quality(NULL, t + i * h * w, p + i * h * w, h, w, &q);
            ri[i] = q.ri_psnr;
            psnr[i] = q.psnr;
            ssim[i] = q.ssim;
            us_val_psnr_add(&running, 0, t + i * h * w, 1, p + i * h * w, 1, h * w);
        }
        double worst = larger(column_error(s, "metrics/range_invariant_psnr", ri, n),
                              column_error(s, "metrics/f64/range_invariant_psnr", ri, n));
        tell(s, "metrics/range_invariant_psnr", worst, 1e-4);
        tell(s, "metrics/psnr", column_error(s, "metrics/psnr", psnr, n), 1e-4);
        worst =
            larger(column_error(s, "metrics/ssim", ssim, n), column_error(s, "metrics/f64/ssim", ssim, n));
        tell(s, "metrics/ssim", worst, 1e-5);
        tell(s, "metrics/running_psnr",
             fabs(us_val_psnr_result(&running) - attribute(s, "metrics", "running_psnr")), 1e-4);
        // rounded to two digits in the file
        worst = larger(fabs(find_average(ri, n) - attribute(s, "metrics", "avg_range_inv_psnr")),
                       fabs(find_average(psnr, n) - attribute(s, "metrics", "avg_psnr")));
        tell(s, "metrics/averages", worst, 0.005 + 1e-4);
        tell(s, "metrics/avg_ssim", fabs(find_average(ssim, n) - attribute(s, "metrics", "avg_ssim_mean")),
             1e-5);
        free(ri);
        free(t);
        free(p);
    } else if (has(s, "metrics")) {
        tell(s, "metrics", NAN, 0.0);
    }
    free(target.values);
    free(prediction.values);
}

// ---- sinosoidal ----------------------------------------------------------------------------------

typedef struct replay {
    const array *uniforms;
    int64_t next;
} replay;

static double replay_next(void *user)
{
    replay *r = user;
    return r->next < r->uniforms->count ? r->uniforms->values[r->next++] : NAN;
}

// "[[0.05, 0.07], ...]"
static int read_ranges(const session *s, const char *group, us_critter_setup *setup)
{
    char *text = text_attribute(s, group, "frequency_ranges");
    int n = 0;
    for (char *p = text; p && *p && n < 2 * US_CRITTER_RANGES;) {
        char *end = p + 1;
        if ((*p >= '0' && *p <= '9') || *p == '.') {
            setup->range[n / 2][n % 2] = strtod(p, &end);
            n++;
        }
        p = end;
    }
    free(text);
    return n == 2 * US_CRITTER_RANGES;
}

static int read_setup(const session *s, const char *group, us_critter_setup *setup)
{
    us_critters_default(setup);
    setup->size = (int64_t)attribute(s, group, "frame_size");
    setup->n_curves = (int32_t)attribute(s, group, "num_curves");
    setup->thickness = (int32_t)attribute(s, group, "curve_thickness");
    setup->samples_per_pixel = (int32_t)lround(1.0 / attribute(s, group, "granularity"));
    setup->amplitude = attribute(s, group, "curve_amplitude");
    setup->max_vertical_shift = attribute(s, group, "max_vertical_shift_factor");
    setup->max_horizontal_shift = attribute(s, group, "max_horizontal_shift_factor");
    setup->min_spacing = attribute(s, group, "vertical_min_spacing");
    double joiner = attribute(s, group, "connecting_w_len");
    setup->three_waves = !isnan(joiner);
    if (setup->three_waves) {
        setup->joiner_fraction = joiner;
        setup->joiner_frequency = attribute(s, group, "joining_frequency");
        setup->initial_phase = attribute(s, group, "curve_initial_phase");
    }
    return read_ranges(s, group, setup) && us_critters_check(setup) == USPLIT_OK &&
           attribute(s, group, "max_rotation") == 0.0;
}

// Share of pixels that differ by more than 1e-5: truncation lets a last bit of a sine move a pixel.
static double compare_frames(const us_critter_setup *setup, const array *channels, const array *uniforms)
{
    if (!channels->values || !uniforms->values || channels->n_dims != 4) {
        return NAN;
    }
    int64_t per_frame = US_CRITTER_CHANNELS * setup->size * setup->size, wrong = 0;
    if (channels->count != (int64_t)channels->dims[0] * per_frame) {
        return NAN;
    }
    float *frame = malloc((size_t)per_frame * sizeof *frame);
    replay r = {uniforms, 0};
    for (int64_t f = 0; f < (int64_t)channels->dims[0]; f++) {
        if (us_critters_frame(NULL, setup, replay_next, &r, frame) != USPLIT_OK) {
            wrong = channels->count;
            break;
        }
        for (int64_t i = 0; i < per_frame; i++) {
            wrong += !(fabs((double)frame[i] - channels->values[f * per_frame + i]) <= 1e-5);
        }
    }
    free(frame);
    // every uniform must have been used, none asked for in vain
    return r.next == uniforms->count ? (double)wrong / (double)channels->count : NAN;
}

static herr_t check_critters(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    (void)group;
    (void)info;
    session *s = user;
    char path[256], label[128];
    snprintf(label, sizeof label, "sinosoidal/%.100s", name);
    us_critter_setup setup;
    if (!read_setup(s, label, &setup)) {
        tell(s, label, NAN, 1e-3);
        return 0;
    }
    snprintf(path, sizeof path, "%s/channels", label);
    array channels = load(s, path);
    snprintf(path, sizeof path, "%s/uniforms", label);
    array uniforms = load(s, path);
    tell(s, label, compare_frames(&setup, &channels, &uniforms), 1e-3);
    free(channels.values);
    free(uniforms.values);
    return 0;
}

// ---- The door ------------------------------------------------------------------------------------

int us_parity_pieces_data(const char *pieces_h5, us_parity_report_fn report, void *user)
{
    session s = {.report = report, .user = user};
    s.file = H5Fopen(pieces_h5, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (s.file < 0 || usplit_context_create(&s.context, NULL) != USPLIT_OK) {
        return -1;
    }
    check_lc(&s);
    check_norm(&s);
    check_splits(&s);
    check_metrics(&s);
    if (has(&s, "sinosoidal")) {
        hid_t group = H5Gopen2(s.file, "sinosoidal", H5P_DEFAULT);
        H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, check_critters, &s);
        H5Gclose(group);
    }
    usplit_context_free(s.context);
    H5Fclose(s.file);
    return s.failed;
}
