// The noun tiler: arguments checked here, the work is in src/tile.
#include <limits.h>
#include <stdint.h>

#include "base/structs.h"
#include "tile/tile.h"

static const usplit_tiler_options defaults = {
    .struct_size = sizeof defaults,
    .tiling = USPLIT_TILING_INNER,
    .cover = USPLIT_COVER_ALL,
    .pad = -1,
    .samples = 1,
    .latent = USPLIT_LATENT_SAMPLE,
};

usplit_status usplit_tiler_options_init(usplit_tiler_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static usplit_status check_options(const usplit_tiler_options *o)
{
    US_CHECK_ARG(o->tiling == USPLIT_TILING_INNER || o->tiling == USPLIT_TILING_OUTER,
                 "tiling is %d; accepted: USPLIT_TILING_INNER (0), _OUTER (1)", o->tiling);
    US_CHECK_ARG(o->cover == USPLIT_COVER_ALL || o->cover == USPLIT_COVER_WHOLE_TILES,
                 "cover is %d; accepted: USPLIT_COVER_ALL (0), _WHOLE_TILES (1)", o->cover);
    US_CHECK_ARG(o->samples >= 1 && o->samples <= US_TILE_MAX_SAMPLES, "samples is %d; accepted: 1 to %d",
                 o->samples, US_TILE_MAX_SAMPLES);
    US_CHECK_ARG(o->latent == USPLIT_LATENT_SAMPLE || o->latent == USPLIT_LATENT_MEAN,
                 "latent is %d; accepted: USPLIT_LATENT_SAMPLE (0), _MEAN (1)", o->latent);
    US_CHECK_ARG(o->batch >= 0, "batch is %d; accepted: 0 (chosen) or more", o->batch);
    US_CHECK_ARG(o->deviations == 0 || o->deviations == 1, "deviations is %d; accepted: 0 and 1", o->deviations);
    US_CHECK_ARG(o->calibrated == 0 || (o->calibrated == 1 && o->deviations),
                 "calibrated is %d; accepted: 0, and 1 with deviations", o->calibrated);
    US_CHECK_ARG(o->memory_budget >= 0, "memory_budget is %lld; accepted: 0 (no limit) or more",
                 (long long)o->memory_budget);
    return USPLIT_OK;
}

usplit_status usplit_tiler_create(usplit_tiler **out, const usplit_model *model,
                                  const usplit_tiler_options *options)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(model != NULL, "model is NULL");
    usplit_tiler_options o = defaults;
    US_TRY(us_struct_read(&o, sizeof o, options, "tiler options"));
    US_TRY(check_options(&o));
    if (!model->has_normalisation) {
        US_FAIL(USPLIT_ERR_STATE, "the model has no normalisation: train it, or call "
                                  "usplit_model_set_normalisation");
    }
    if (o.calibrated && !model->has_calibration) {
        US_FAIL(USPLIT_ERR_STATE, "the model has no calibration: usplit_model_calibrate makes one");
    }
    // only the reference count changes
    return us_tiler_new(out, (usplit_model *)(uintptr_t)model, &o);
}

static usplit_status check_idle(const usplit_tiler *tiler)
{
    if (atomic_load(&tiler->running)) {
        US_FAIL(USPLIT_ERR_BUSY, "the tiler is running: it was called from its own callback");
    }
    return USPLIT_OK;
}

usplit_status usplit_tiler_plan(const usplit_tiler *tiler, int64_t height, int64_t width,
                                usplit_tiler_cost *cost)
{
    US_CHECK_ARG(tiler != NULL, "tiler is NULL");
    US_CHECK_ARG(cost != NULL, "cost is NULL");
    US_TRY(check_idle(tiler));
    us_tile_layout l;
    US_TRY(us_tiler_layout(tiler, height, width, &l));
    const us_tile_grid *g = &l.grid;
    usplit_tiler_cost c = {
        .struct_size = sizeof c,
        .tiles = g->tiles,
        .tile_rows = g->rows,
        .tile_columns = g->columns,
        .patch = g->patch,
        .inner = g->inner,
        .batch = tiler->batch,
        .device_bytes = us_tiler_device_bytes(tiler),
        .workers = l.workers,
        .host_bytes = l.fixed_bytes + l.rows_bytes + l.band_bytes - us_tiler_device_bytes(tiler),
        .covered_height = g->covered_height,
        .covered_width = g->covered_width,
    };
    if (__builtin_mul_overflow(c.tiles, (int64_t)tiler->samples, &c.passes)) {
        c.passes = INT64_MAX;
    }
    if (__builtin_mul_overflow(tiler->plan->macs, c.passes, &c.macs)) {
        c.macs = INT64_MAX;
    }
    c.seconds = tiler->seconds_per_pass * (double)c.passes / l.workers;
    return us_struct_write(cost, &c, sizeof c, "cost");
}

// The caller's result is checked, and cleared, before anything runs.
static usplit_status begin(const usplit_tiler *tiler, usplit_tiler_result *result, usplit_tiler_result *r)
{
    US_CHECK_ARG(tiler != NULL, "tiler is NULL");
    US_TRY(check_idle(tiler));
    *r = (usplit_tiler_result){.struct_size = sizeof *r};
    return result ? us_struct_write(result, r, sizeof *r, "result") : USPLIT_OK;
}

static usplit_status finish(usplit_tiler_result *result, const usplit_tiler_result *r)
{
    return result ? us_struct_write(result, r, sizeof *r, "result") : USPLIT_OK;
}

usplit_status usplit_tiler_run(usplit_tiler *tiler, const usplit_image *src, const usplit_image *dst,
                               usplit_tiler_result *result, usplit_progress_fn progress, void *user)
{
    usplit_tiler_result r;
    US_TRY(begin(tiler, result, &r));
    usplit_image from = {.struct_size = sizeof from}, to = from;
    US_CHECK_ARG(src != NULL, "src is NULL");
    US_CHECK_ARG(dst != NULL, "dst is NULL");
    US_TRY(us_struct_read(&from, sizeof from, src, "src"));
    US_TRY(us_struct_read(&to, sizeof to, dst, "dst"));
    US_TRY(us_tiler_run_views(tiler, &from, &to, &r, progress, user));
    return finish(result, &r);
}

static usplit_status read_stream(void *user, int64_t frame, int64_t row, int64_t n, float *dst)
{
    const usplit_tiler_stream *s = user;
    (void)frame;
    int32_t answer = s->read(row, n, dst, s->user);
    if (answer != 0) {
        US_FAIL(USPLIT_ERR_CALLBACK, "read returned %d for rows %lld to %lld", answer, (long long)row,
                (long long)(row + n - 1));
    }
    return USPLIT_OK;
}

static usplit_status write_stream(void *user, int64_t frame, int64_t row, int64_t n, const float *src)
{
    const usplit_tiler_stream *s = user;
    (void)frame;
    int32_t answer = s->write(row, n, src, s->user);
    if (answer != 0) {
        US_FAIL(USPLIT_ERR_CALLBACK, "write returned %d for rows %lld to %lld", answer, (long long)row,
                (long long)(row + n - 1));
    }
    return USPLIT_OK;
}

usplit_status usplit_tiler_run_stream(usplit_tiler *tiler, const usplit_tiler_stream *stream,
                                      usplit_tiler_result *result, usplit_progress_fn progress, void *user)
{
    usplit_tiler_result r;
    US_TRY(begin(tiler, result, &r));
    US_CHECK_ARG(stream != NULL, "stream is NULL");
    usplit_tiler_stream s = {.struct_size = sizeof s};
    US_TRY(us_struct_read(&s, sizeof s, stream, "stream"));
    US_CHECK_ARG(s.read != NULL, "stream: read is NULL");
    US_CHECK_ARG(s.write != NULL, "stream: write is NULL");
    us_tile_io io = {.frames = 1, .height = s.height, .width = s.width, .read = read_stream,
                     .write = write_stream, .user = &s, .first_tile_row = s.first_tile_row,
                     .n_tile_rows = s.n_tile_rows};
    US_TRY(us_tiler_run(tiler, &io, &r, progress, user));
    return finish(result, &r);
}

void usplit_tiler_cancel(usplit_tiler *tiler)
{
    if (tiler) {
        atomic_store(&tiler->cancelled, 1);
    }
}

void usplit_tiler_free(usplit_tiler *tiler)
{
    us_tiler_release(tiler);
}
