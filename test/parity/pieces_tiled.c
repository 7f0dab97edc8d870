// Group `tiled` of a pieces.h5: a small network with published weights, every latent at its mean, predicts
// an image tile by tile. Patches with their context, single patches, and the stitched image by the floor and
// the ceil rule, all in normalised units. Sizes and settings are read from the file.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parity/fixture.h"
#include "parity/pieces_more.h"
#include "tile/tile.h"

#define TOLERANCE 1e-5

typedef struct tiled {
    fixture f;
    us_parity_report_fn report;
    void *user;
    int failed;
    usplit_context *context;
    usplit_model *model;
    float *image;
    int64_t height, width;
    int patch, inner, pad, levels, channels;
} tiled;

// A check that could not be made counts as failed.
static void tell(tiled *t, const char *group, double worst)
{
    int ok = worst <= TOLERANCE;
    t->failed += !ok;
    t->report(group, worst, TOLERANCE, ok, t->user);
}

static double worst_error(const float *ours, const float *theirs, int64_t n)
{
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - theirs[i]);
        worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
        most = fmax(most, fabs((double)theirs[i]));
    }
    return worst / (most > 0 ? most : 1);
}

// ---- The model --------------------------------------------------------------------------------------

static void read_config(const char *j, us_net_config *o)
{
    double z[USPLIT_MAX_LEVELS];
    memset(o, 0, sizeof *o);
    o->levels = json_list(j, "model", "z_dims", z, USPLIT_MAX_LEVELS);
    for (int i = 0; i < o->levels; i++) {
        o->z_dims[i] = (int)z[i];
    }
    int lc = (int)json_number(j, "data", "multiscale_lowres_count", 1) - 1;
    int retain = json_true(j, "decoder", "multiscale_retain_spatial_dims");
    o->family = json_true(j, "model", "non_stochastic_version") ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
    o->lc_count = lc < 0 ? 0 : lc;
    o->variant = o->lc_count == 0 ? USPLIT_VARIANT_VANILLA
                 : !retain        ? USPLIT_VARIANT_LEAN
                 : o->levels > 4  ? USPLIT_VARIANT_DEEP
                                  : USPLIT_VARIANT_REGULAR;
    o->filters = (int)json_number(j, "model", "n_filters", 64);
    o->patch = (int)json_number(j, "data", "image_size", 64);
    o->channels = (int)json_number(j, NULL, "target_channels", 2);
    o->logvar_lower_bound = json_number(j, "model", "logvar_lowerbound", -5);
    o->var_clip_max = json_number(j, "model", "var_clip_max", 20);
}

static int read_weights(tiled *t)
{
    const us_graph *g = t->model->graph;
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        char path[200];
        int n;
        int64_t d[8], count = 1;
        snprintf(path, sizeof path, "tiled/weights/%s", p->name);
        float *values = fixture_read(&t->f, path, &n, d);
        for (int k = 0; values && k < n; k++) {
            count *= d[k];
        }
        if (!values || count != p->count) {
            fprintf(stderr, "%s: no entry '%s' of %lld values\n", t->f.path, path, (long long)p->count);
            free(values);
            return 1;
        }
        memcpy(t->model->params + p->offset, values, (size_t)count * sizeof *values);
        free(values);
    }
    return 0;
}

static int open_model(tiled *t)
{
    us_net_config config;
    char *json = fixture_text(&t->f, "tiled", "config"), *padding = fixture_text(&t->f, "tiled", "padding");
    read_config(json ? json : "", &config);
    t->levels = config.lc_count + 1;
    t->channels = config.channels;
    int bad = !json || usplit_context_create(&t->context, NULL) ||
              us_model_new(&t->model, t->context, &config) || read_weights(t);
    if (!bad) {
        usplit_model_normalisation *n = &t->model->normalisation;
        n->clip_value = 1e30;
        n->input_mean = fixture_number(&t->f, "tiled", "input_mean", 0);
        n->input_deviation = fixture_number(&t->f, "tiled", "input_std", 1);
        n->padding = padding && strcmp(padding, "constant") == 0 ? USPLIT_PADDING_CONSTANT
                                                                 : USPLIT_PADDING_REFLECT;
        for (int c = 0; c < config.channels; c++) {
            n->target_deviation[c] = 1;
        }
        t->model->has_normalisation = 1;
    }
    t->patch = (int)fixture_number(&t->f, "tiled", "patch", config.patch);
    t->inner = (int)fixture_number(&t->f, "tiled", "grid", t->patch / 2);
    t->pad = (t->patch - t->inner) / 2;
    free(json);
    free(padding);
    return bad;
}

// ---- Patches ----------------------------------------------------------------------------------------

static usplit_status read_image(void *user, int64_t row, int64_t n, float *dst)
{
    const tiled *t = user;
    memcpy(dst, t->image + row * t->width, (size_t)(n * t->width) * sizeof *dst);
    return USPLIT_OK;
}

// Tiles in any order: a step back starts from the top again.
static usplit_status seek(us_tile_rows *rows, int64_t *at, int64_t y, const tiled *t)
{
    if (y < *at) {
        us_tile_rows_rewind(rows);
        *at = -t->pad;
    }
    do {
        *at = *at + t->inner < y ? *at + t->inner : y;
        US_TRY(us_tile_rows_advance(rows, *at, *at));
    } while (*at < y);
    return USPLIT_OK;
}

static void check_inputs(tiled *t, const float *starts, int64_t n_tiles)
{
    int n;
    int64_t d[8], hw = (int64_t)t->patch * t->patch;
    float *theirs = fixture_read(&t->f, "tiled/tile_input", &n, d);
    if (!theirs) {
        return;
    }
    us_tile_grid grid = {.patch = t->patch, .inner = t->inner, .pad = t->pad};
    us_tile_rows rows;
    float *ours = malloc((size_t)(n_tiles * t->levels * hw) * sizeof *ours);
    double worst = INFINITY;
    if (ours && d[0] == n_tiles && d[1] == t->levels && d[2] == t->patch && d[3] == t->patch &&
        us_tile_grid_fit(&grid, USPLIT_COVER_ALL, t->levels - 1, t->height, t->width) == USPLIT_OK &&
        us_tile_rows_open(&rows, NULL, &grid, t->levels - 1, 1, &t->model->normalisation) == USPLIT_OK) {
        int64_t at = -t->pad;
        int bad = 0;
        rows.read = read_image;
        rows.user = t;
        for (int64_t i = 0; i < n_tiles && !bad; i++) {
            int64_t y = (int64_t)starts[2 * i], x = (int64_t)starts[2 * i + 1];
            bad = seek(&rows, &at, y, t) != USPLIT_OK;
            for (int k = 0; k < t->levels && !bad; k++) {
                us_tile_rows_cut(&rows, y, x, k, ours + (i * t->levels + k) * hw);
            }
        }
        us_tile_rows_close(&rows);
        worst = bad ? INFINITY : worst_error(ours, theirs, n_tiles * t->levels * hw);
    }
    tell(t, "tiled/tile_input", worst);
    free(ours);
    free(theirs);
}

typedef struct feed {
    const float *input;                 // [levels][patch][patch]
    int levels;
    int64_t hw;
} feed;

static usplit_status feed_patch(void *user, int sample, float *const *levels, float *target)
{
    const feed *f = user;
    (void)sample;
    (void)target;
    for (int k = 0; k < f->levels; k++) {
        if (levels[k]) {
            memcpy(levels[k], f->input + k * f->hw, (size_t)f->hw * sizeof(float));
        }
    }
    return USPLIT_OK;
}

// Whole patches of the file's own inputs, without the tiler.
static void check_predictions(tiled *t, int64_t n_tiles)
{
    int n;
    int64_t d[8], e[8], hw = (int64_t)t->patch * t->patch;
    float *input = fixture_read(&t->f, "tiled/tile_input", &n, e);
    float *theirs = fixture_read(&t->f, "tiled/tile_prediction", &n, d);
    us_plan *plan = NULL;
    us_exec *exec = NULL;
    double worst = INFINITY;
    us_plan_options options = {.mode = US_PLAN_PREDICT, .batch = 1};
    const us_backend *backend = t->context->backend;
    if (input && theirs && e[0] == n_tiles && e[1] == t->levels && e[2] == t->patch && e[3] == t->patch &&
        d[0] == n_tiles && d[1] == t->channels && d[2] == t->patch && d[3] == t->patch &&
        t->patch == t->model->graph->size &&
        us_plan_build(&plan, NULL, t->model->graph, &options) == USPLIT_OK &&
        backend->compile(&exec, t->context, plan, 1) == USPLIT_OK &&
        backend->prepare(exec, t->model->params) == USPLIT_OK) {
        float *ours = malloc((size_t)(n_tiles * t->channels * hw) * sizeof *ours);
        int bad = ours == NULL;
        for (int64_t i = 0; i < n_tiles && !bad; i++) {
            const float *head;
            feed f = {input + i * t->levels * hw, t->levels, hw};
            us_run run = {.mean_latents = 1, .fill = feed_patch, .user = &f};
            bad = backend->predict(exec, 0, 1, &run, &head) != USPLIT_OK;
            for (int64_t p = 0; p < t->channels * hw && !bad; p++) {
                ours[i * t->channels * hw + p] = head[p % hw * 2 * t->channels + p / hw];
            }
        }
        worst = bad ? INFINITY : worst_error(ours, theirs, n_tiles * t->channels * hw);
        free(ours);
    }
    if (theirs) {
        tell(t, "tiled/tile_prediction", worst);
    }
    if (exec) {
        backend->release(exec);
    }
    us_plan_free(plan);
    free(input);
    free(theirs);
}

// ---- The whole image --------------------------------------------------------------------------------

static void check_stitched(tiled *t, const char *path, int32_t cover)
{
    int n;
    int64_t d[8], hw = t->height * t->width;
    float *theirs = fixture_read(&t->f, path, &n, d);
    if (!theirs) {
        return;
    }
    usplit_tiler_options options;
    usplit_tiler *tiler = NULL;
    usplit_image src, dst;
    float *ours = malloc((size_t)(t->channels * hw) * sizeof *ours);
    double worst = INFINITY;
    usplit_tiler_options_init(&options, sizeof options);
    options.cover = cover;
    options.latent = USPLIT_LATENT_MEAN;
    options.tiling = t->patch == t->model->graph->size ? USPLIT_TILING_INNER : USPLIT_TILING_OUTER;
    options.pad = t->pad;
    usplit_image_init(&src, sizeof src, t->image, USPLIT_TYPE_F32, 1, t->height, t->width, 1);
    usplit_image_init(&dst, sizeof dst, ours, USPLIT_TYPE_F32, 1, t->height, t->width, t->channels);
    dst.stride_column = sizeof(float);
    dst.stride_row = t->width * (int64_t)sizeof(float);
    dst.stride_channel = hw * (int64_t)sizeof(float);
    if (ours && d[0] == t->channels && d[1] == t->height && d[2] == t->width &&
        usplit_tiler_create(&tiler, t->model, &options) == USPLIT_OK &&
        usplit_tiler_run(tiler, &src, &dst, NULL, NULL, NULL) == USPLIT_OK) {
        worst = worst_error(ours, theirs, t->channels * hw);
    } else {
        fprintf(stderr, "%s: %s: %s\n", t->f.path, path, usplit_error_message());
    }
    tell(t, path, worst);
    usplit_tiler_free(tiler);
    free(ours);
    free(theirs);
}

int us_parity_pieces_tiled(const char *pieces_h5, us_parity_report_fn report, void *user)
{
    tiled t = {.report = report, .user = user};
    if (fixture_open(&t.f, pieces_h5)) {
        return -1;
    }
    if (fixture_has(&t.f, "tiled")) {
        int n;
        int64_t d[8] = {0}, e[8] = {0};
        t.image = fixture_read(&t.f, "tiled/image", &n, d);
        t.height = d[0];
        t.width = d[1];
        float *starts = fixture_read(&t.f, "tiled/tile_starts", &n, e);
        if (!t.image || open_model(&t)) {
            tell(&t, "tiled", INFINITY);
        } else {
            if (starts) {
                check_inputs(&t, starts, e[0]);
                check_predictions(&t, e[0]);
            }
            check_stitched(&t, "tiled/stitched", USPLIT_COVER_WHOLE_TILES);
            check_stitched(&t, "tiled/stitched_full", USPLIT_COVER_ALL);
        }
        free(starts);
        free(t.image);
        us_model_release(t.model);
        usplit_context_free(t.context);
    }
    fixture_close(&t.f);
    return t.failed;
}
