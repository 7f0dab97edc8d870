// A run: for every frame, band by band: read rows, predict the band's tiles on all workers, write the band.
//
// The tiles of a band are worked off in groups of about GROUP_SECONDS; between groups the calling thread
// reports progress and looks at the cancel flag (workers look at it before every pass). A tile belongs to
// one worker, which adds its samples in order, shifted grids are worked off one after the other, and noise is keyed
// by position and pass: neither the number of workers nor the groups nor the bands change a bit.
#include "tile/tile.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kernels/place.h"

#define GROUP_SECONDS 0.3       // a few tiles of each worker, so that waiting for the last one costs little

typedef struct run {
    usplit_tiler *tiler;
    const us_tile_io *io;
    us_tile_layout layout;
    us_tile_rows rows;
    float *band;                        // planes of band_height x width
    float *carry;                       // planes of `carried` x width: the first rows of the next band
    int64_t frame;
    int64_t tile_row, tile_row_end;     // to be predicted, of all grids
    int64_t begin_y, end_y;             // rows of the image that they make, without what no tile covers
    int64_t first_row, end_row;         // of tiles of the band, in every grid
    int64_t band_y, band_height;        // first row of the band, and its rows that lie in the image
    int64_t carried;
    int there;                          // tiles are put together on the device
    int64_t done, total;                // passes
    double begin, busy;                 // seconds: when the run began; spent predicting, of one worker
    usplit_progress_fn progress;
    void *user;
} run;

// A group: samples [sample, sample_end) of the band's tiles [next, tile_end) of one grid.
typedef struct group {
    run *r;
    int number;                         // of the grid
    us_tile_shift shift;
    atomic_int_fast64_t next;
    atomic_int stop;
    int64_t tile_end;
    int sample, sample_end;
} group;

typedef struct patch_place {
    const us_tile_rows *rows;
    int64_t y0, x0;
} patch_place;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- One tile ---------------------------------------------------------------------------------------

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const patch_place *p = user;
    (void)sample;
    (void)target;
    for (int k = 0; k <= p->rows->coarsest; k++) {
        if (levels[k]) {
            us_tile_rows_cut(p->rows, p->y0, p->x0, k, levels[k]);
        }
    }
    return USPLIT_OK;
}

// Values per pixel of a head: means, and what else the network says of them.
static int64_t head_values(const usplit_tiler *t)
{
    return us_net_head_channels(&t->model->graph->config);
}

// Sum of squares about the mean of n values, from that of the n - 1 before: `sum` has the new value in it (Youngs and
// Cramer, "Some results relevant to choice of sum and sum-of-product algorithms", 1971).
static float add_square(float old, float value, float sum, int n)
{
    float d = (float)n * value - sum;
    return n == 1 ? 0 : old + d * d / ((float)n * (float)(n - 1));
}

// As calibrated, where that is asked for.
static float deviation_of(const usplit_tiler *t, int c, float deviation)
{
    if (!t->options.calibrated) {
        return deviation;
    }
    float v = (float)t->calibration.slope[c] * deviation + (float)t->calibration.offset[c];
    return v < 0 ? 0 : v;
}

// One row of one plane. pass counts the values of a pixel; the last one makes grey levels of their mean, and of
// their deviation where `squares` is given (data 5.4, 5.5).
static void add_row(const usplit_tiler *t, int c, const float *src, int64_t n, int pass, float *dst, float *squares)
{
    const int passes = t->samples * t->shape.shifts, first = pass == 0, last = pass == passes - 1;
    const float share = 1.0f / (float)passes;
    const float gain = (float)t->normalisation.target_deviation[c];
    const float offset = (float)t->normalisation.target_mean[c];
    const int64_t step = head_values(t);
    for (int64_t j = 0; squares && j < n; j++) {
        float value = src[j * step], sum = first ? value : dst[j] + value;
        float square = add_square(squares[j], value, sum, pass + 1);
        squares[j] = last ? deviation_of(t, c, gain * sqrtf(square / (float)(passes - 1))) : square;
    }
    for (int64_t j = 0; j < n; j++) {
        dst[j] = us_place_add(dst[j], src[j * step], first, last, share, gain, offset);
    }
}

// Adds one value to every pixel of the tile at (y, x) of the image, as far as the band goes.
static void add_tile(const run *r, int64_t y, int64_t x, const float *head, int pass)
{
    const usplit_tiler *t = r->tiler;
    int64_t g = r->layout.grid.inner, width = r->layout.grid.width, below = r->band_y + r->band_height;
    int64_t top = y > r->band_y ? y : r->band_y, left = x > 0 ? x : 0;
    int64_t bottom = y + g < below ? y + g : below, right = x + g < width ? x + g : width;
    for (int c = 0; c < t->channels; c++) {
        for (int64_t i = top; i < bottom; i++) {
            const float *src = head + ((i - y) * g + left - x) * head_values(t) + c;
            float *dst = r->band + (c * r->band_height + i - r->band_y) * width + left;
            float *squares = t->options.deviations ? dst + t->channels * r->band_height * width : NULL;
            add_row(t, c, src, right - left, pass, dst, squares);
        }
    }
}

// n neighbouring tiles in the order of the band, at most the batch.
static usplit_status predict_tiles(const group *g, int64_t tile, int n, int worker)
{
    const run *r = g->r;
    usplit_tiler *t = r->tiler;
    const us_tile_grid *grid = &r->layout.grid;
    patch_place places[US_TILE_MAX_BATCH];
    us_run runs[US_TILE_MAX_BATCH];
    const float *heads[US_TILE_MAX_BATCH];
    for (int i = 0; i < n; i++) {
        int64_t row = r->first_row + (tile + i) / g->shift.columns, column = (tile + i) % g->shift.columns;
        places[i] = (patch_place){&r->rows, row * grid->inner - g->shift.y - grid->pad,
                                  column * grid->inner - g->shift.x - grid->pad};
        runs[i] = (us_run){.seed = t->options.seed, .mean_latents = t->mean_latents, .tile_y = places[i].y0,
                           .tile_x = places[i].x0, .fill = fill, .user = &places[i]};
    }
    for (int s = g->sample; s < g->sample_end; s++) {
        if (atomic_load_explicit(&t->cancelled, memory_order_relaxed)) {
            US_FAIL(USPLIT_ERR_CANCELLED, "cancelled by usplit_tiler_cancel");
        }
        int pass = g->number * t->samples + s;
        for (int i = 0; i < n; i++) {
            runs[i].step = pass;
        }
        US_TRY(t->backend->predict(t->exec, worker, n, runs, heads));
        for (int i = 0; i < n && !r->there; i++) {      // else the device has added them up
            add_tile(r, places[i].y0 + grid->pad, places[i].x0 + grid->pad, heads[i], pass);
        }
    }
    return USPLIT_OK;
}

// ---- Groups of tiles --------------------------------------------------------------------------------

// As many tasks run as there are workers of the executable: the task number is the worker.
static usplit_status work(void *user, int task, int worker)
{
    group *g = user;
    (void)worker;
    int batch = g->r->tiler->batch;
    while (!atomic_load(&g->stop)) {
        int64_t tile = atomic_fetch_add(&g->next, batch);
        if (tile >= g->tile_end) {
            break;
        }
        int n = g->tile_end - tile < batch ? (int)(g->tile_end - tile) : batch;
        usplit_status status = predict_tiles(g, tile, n, task);
        if (status != USPLIT_OK) {
            atomic_store(&g->stop, 1);
            return status;
        }
    }
    return USPLIT_OK;
}

static usplit_status report(const run *r)
{
    if (!r->progress) {
        return USPLIT_OK;
    }
    double elapsed = now() - r->begin;
    double left = r->done ? elapsed / (double)r->done * (double)(r->total - r->done) : -1;
    usplit_progress p = {
        .struct_size = sizeof p,
        .phase = USPLIT_PHASE_TILE,
        .done = r->done,
        .total = r->total,
        .seconds_elapsed = elapsed,
        .seconds_left = left,
        .loss = NAN,
        .val_psnr = NAN,
        .best_val_psnr = NAN,
        .learning_rate = NAN,
        .patches_per_second = elapsed > 0 ? (double)r->done / elapsed : 0,
    };
    int32_t answer = r->progress(&p, r->user);
    if (answer != 0) {
        US_FAIL(USPLIT_ERR_CANCELLED, "the progress callback returned %d", answer);
    }
    return USPLIT_OK;
}

// Runs the group and measures it.
static usplit_status run_group(group *g, int64_t tile)
{
    run *r = g->r;
    usplit_tiler *t = r->tiler;
    int workers = r->layout.workers;
    atomic_init(&g->next, tile);
    atomic_init(&g->stop, 0);
    double start = now();
    US_TRY(us_pool_run(t->context->pool, workers, work, g));
    int64_t tiles = g->tile_end - tile, passes = tiles * (g->sample_end - g->sample);
    int64_t each = (int64_t)workers * t->batch;
    int64_t rounds = (tiles + each - 1) / each * t->batch * (g->sample_end - g->sample);
    r->busy += (now() - start) / (double)rounds * (double)passes;
    r->done += passes;
    t->seconds_per_pass = r->busy / (double)r->done;
    return USPLIT_OK;
}

// Rows of tiles of a grid, up to the last one that is wanted.
static int64_t grid_end(const run *r, us_tile_shift shift)
{
    int64_t inner = r->layout.grid.inner;
    return (r->end_y + shift.y + inner - 1) / inner;
}

// The band's tiles of one grid.
static usplit_status predict_grid(run *r, int number)
{
    const usplit_tiler *t = r->tiler;
    group g = {.r = r, .number = number, .shift = us_tile_grid_shift(&r->layout.grid, number)};
    int64_t wanted = grid_end(r, g.shift), end_row = r->end_row < wanted ? r->end_row : wanted;
    int64_t tiles = (end_row - r->first_row) * g.shift.columns;     // none or less below the image
    for (int64_t tile = 0; tile < tiles; tile = g.tile_end) {
        // passes of each worker in a group, a batch of tiles each
        double wish = t->seconds_per_pass > 0 ? GROUP_SECONDS / t->seconds_per_pass / t->batch : 1;
        int64_t passes = wish < 1 ? 1 : wish > 1e6 ? 1000000 : (int64_t)wish;
        int64_t batches = passes / t->samples > 1 ? passes / t->samples : 1;
        int64_t most = batches * t->batch * r->layout.workers;
        g.tile_end = tile + most < tiles ? tile + most : tiles;
        for (g.sample = 0; g.sample < t->samples; g.sample = g.sample_end) {
            g.sample_end = batches > 1 || passes >= t->samples - g.sample ? t->samples : g.sample + (int)passes;
            US_TRY(run_group(&g, tile));
            if (g.tile_end < tiles || g.sample_end < t->samples) {  // else after the band is written
                US_TRY(report(r));
            }
        }
    }
    return USPLIT_OK;
}

static usplit_status predict_band(run *r)
{
    for (int s = 0; s < r->layout.grid.shifts; s++) {
        US_TRY(predict_grid(r, s));
    }
    return USPLIT_OK;
}

// ---- Bands and frames -------------------------------------------------------------------------------

static usplit_status read_rows(void *user, int64_t row, int64_t n, float *dst)
{
    run *r = user;
    return r->io->read(r->io->user, r->frame, row, n, dst);
}

// Rows that no tile covers, and columns: 0 (data 5.1).
static usplit_status write_rest(run *r)
{
    const us_tile_grid *grid = &r->layout.grid;
    int64_t most = r->layout.band_rows * grid->inner;
    for (int64_t row = grid->covered_height, n; row < grid->height; row += n) {
        n = grid->height - row < most ? grid->height - row : most;
        memset(r->band, 0, (size_t)(r->tiler->planes * n * grid->width) * sizeof *r->band);
        US_TRY(r->io->write(r->io->user, r->frame, row, n, r->band));
    }
    return USPLIT_OK;
}

static us_rows held_rows(void *user, int64_t frame, int level)
{
    (void)frame;
    return us_tile_rows_held(user, level);
}

// The band's tiles on a device: rows up, tiles predicted and put together there, grey levels down.
static usplit_status predict_band_there(run *r)
{
    const usplit_tiler *t = r->tiler;
    const us_tile_rows *rows = &r->rows;
    const usplit_model_normalisation *n = &t->normalisation;
    us_images images = {.frames = 1, .levels = rows->coarsest + 1, .channels = 1, .size = rows->patch,
                        .rows = held_rows, .user = &r->rows, .reflect = rows->padding == USPLIT_PADDING_REFLECT,
                        .padding_value = rows->padding_value, .mean = rows->mean,
                        .inverse_deviation = rows->inverse_deviation, .exact = rows->exact};
    us_band band = {.y = r->band_y, .rows = r->band_height, .width = r->layout.grid.width,
                    .pad = r->layout.grid.pad, .samples = t->samples};
    for (int c = 0; c < t->channels; c++) {
        band.gain[c] = (float)n->target_deviation[c];
        band.offset[c] = (float)n->target_mean[c];
    }
    US_TRY(t->backend->band_begin(t->exec, &images, &band));
    usplit_status status = predict_band(r);
    usplit_status fetched = t->backend->band_end(t->exec, status == USPLIT_OK ? r->band : NULL);
    return status == USPLIT_OK ? fetched : status;
}

// Makes the band the rows [from, below) of the image: those carried over, and new ones.
static void begin_band(run *r, int64_t from, int64_t below)
{
    const usplit_tiler *t = r->tiler;
    const us_tile_grid *grid = &r->layout.grid;
    size_t old = (size_t)(r->carried * grid->width);
    r->band_y = from;
    r->band_height = below - from;
    if (grid->covered_width < grid->width) {
        memset(r->band, 0, (size_t)(t->planes * r->band_height * grid->width) * sizeof *r->band);
    }
    for (int64_t p = 0; r->carried && p < t->planes; p++) {
        memcpy(r->band + p * r->band_height * grid->width, r->carry + (size_t)p * old, old * sizeof *r->band);
    }
}

// Writes the band's first n rows; the others are carried over.
static usplit_status write_band(run *r, int64_t n)
{
    const usplit_tiler *t = r->tiler;
    int64_t width = r->layout.grid.width;
    size_t done = (size_t)(n * width), rest = (size_t)((r->band_height - n) * width);
    for (int64_t p = 0; rest && p < t->planes; p++) {
        float *plane = r->band + p * r->band_height * width;
        memcpy(r->carry + (size_t)p * rest, plane + done, rest * sizeof *plane);
        memmove(r->band + (size_t)p * done, plane, done * sizeof *plane);
    }
    r->carried = r->band_height - n;
    return r->io->write(r->io->user, r->frame, r->band_y, n, r->band);
}

static usplit_status run_frame(run *r)
{
    const us_tile_grid *grid = &r->layout.grid;
    us_tile_rows_rewind(&r->rows);
    if (r->tile_row > 0) {
        US_TRY(us_tile_rows_seek(&r->rows, r->begin_y - grid->reach - grid->pad));
    }
    r->carried = 0;
    for (int64_t i = r->tile_row, end; i < r->tile_row_end; i = end) {
        end = i + r->layout.band_rows < r->tile_row_end ? i + r->layout.band_rows : r->tile_row_end;
        int64_t from = i * grid->inner - grid->reach, below = end * grid->inner, done = below - grid->reach;
        r->first_row = i;
        r->end_row = end;
        US_TRY(us_tile_rows_advance(&r->rows, from - grid->pad, below - grid->inner - grid->pad));
        begin_band(r, from > r->begin_y ? from : r->begin_y, below < r->end_y ? below : r->end_y);
        US_TRY(r->there ? predict_band_there(r) : predict_band(r));
        US_TRY(write_band(r, end < r->tile_row_end ? done - r->band_y : r->band_height));
        if (end == r->tile_row_end && r->end_y == grid->covered_height) {
            US_TRY(write_rest(r));
        }
        US_TRY(report(r));
    }
    return USPLIT_OK;
}

// Which rows of tiles. A row of the image is the mean of all grids: those that are shifted upwards reach it with one row
// of tiles more, which the run of the rows below predicts as well.
static usplit_status choose_rows(run *r, int64_t *tiles)
{
    const us_tile_grid *grid = &r->layout.grid;
    int64_t first = r->io->first_tile_row, n = r->io->n_tile_rows;
    US_CHECK_ARG(first >= 0 && first < grid->rows, "first_tile_row is %lld; accepted: 0 to %lld", (long long)first,
                 (long long)grid->rows - 1);
    US_CHECK_ARG(n >= 0 && n <= grid->rows - first, "n_tile_rows is %lld; accepted from row %lld on: 0 (all) to %lld",
                 (long long)n, (long long)first, (long long)(grid->rows - first));
    int64_t end = n ? first + n : grid->rows;
    r->tile_row = first;
    r->begin_y = first * grid->inner;
    r->end_y = end < grid->rows ? end * grid->inner : grid->covered_height;
    r->tile_row_end = 0;
    *tiles = 0;
    for (int s = 0; s < grid->shifts; s++) {
        us_tile_shift shift = us_tile_grid_shift(grid, s);
        int64_t last = grid_end(r, shift);
        r->tile_row_end = last > r->tile_row_end ? last : r->tile_row_end;
        *tiles += (last - first) * shift.columns;
    }
    return USPLIT_OK;
}

static usplit_status start(run *r)
{
    usplit_tiler *t = r->tiler;
    const us_tile_layout *l = &r->layout;
    int64_t tiles = 0;
    US_TRY(us_tiler_layout(t, r->io->height, r->io->width, &r->layout));
    US_TRY(choose_rows(r, &tiles));
    if (__builtin_mul_overflow(tiles, (int64_t)t->samples, &r->total) ||
        __builtin_mul_overflow(r->total, r->io->frames, &r->total)) {
        US_FAIL(USPLIT_ERR_SHAPE, "%lld frames have more tiles than can be counted",
                (long long)r->io->frames);
    }
    US_TRY(us_tiler_compile(t, l->exec_workers));
    US_TRY(us_tile_rows_open(&r->rows, t->a, &l->grid, t->coarsest, l->band_rows, &t->normalisation));
    r->rows.read = read_rows;
    r->rows.user = r;
    // a device puts whole bands together, of one grid and without deviations
    r->there = t->backend->band_begin && l->grid.shifts == 1 && !t->options.deviations;
    r->band = us_alloc(t->a, (size_t)l->band_bytes, 1);
    r->carry = r->band ? r->band + l->band_floats : NULL;
    return r->band ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

static void fill_result(const run *r, usplit_tiler_result *result)
{
    const usplit_tiler *t = r->tiler;
    const us_tile_layout *l = &r->layout;
    result->passes = r->done;
    result->tiles = r->done / t->samples;
    result->peak_bytes = t->own_bytes + t->backend->bytes(t->exec) + l->rows_bytes + l->band_bytes;
    result->seconds = now() - r->begin;
    for (int c = 0; c < t->channels; c++) {
        result->gain[c] = t->normalisation.target_deviation[c];
        result->offset[c] = t->normalisation.target_mean[c];
        result->deviation_slope[c] = t->options.calibrated ? t->calibration.slope[c] : 1;
        result->deviation_offset[c] = t->options.calibrated ? t->calibration.offset[c] : 0;
    }
    result->clip_value = t->normalisation.clip_value;
    result->clipped_pixels = r->rows.clipped;
    result->calibrated = t->options.calibrated;
    result->samples = t->samples;
    result->latent = t->mean_latents ? USPLIT_LATENT_MEAN : USPLIT_LATENT_SAMPLE;
    snprintf(result->device, sizeof result->device, "%s", t->context->facts.device);
}

usplit_status us_tiler_run(usplit_tiler *t, const us_tile_io *io, usplit_tiler_result *result,
                           usplit_progress_fn progress, void *user)
{
    if (atomic_exchange(&t->running, 1)) {
        US_FAIL(USPLIT_ERR_BUSY, "the tiler is running: it was called from its own callback");
    }
    us_tiler_retain(t);                 // a callback may free the caller's reference
    atomic_store(&t->cancelled, 0);
    run r = {.tiler = t, .io = io, .begin = now(), .progress = progress, .user = user};
    usplit_status status;
    US_TRY_GOTO(start(&r));
    for (r.frame = 0; r.frame < io->frames; r.frame++) {
        US_TRY_GOTO(run_frame(&r));
        us_tile_input_judge(&r.rows.input, t->model, (double)r.rows.mean, r.frame == 0, result);
    }
    fill_result(&r, result);
done:
    us_free(t->a, r.band);
    us_tile_rows_close(&r.rows);
    atomic_store(&t->running, 0);
    us_tiler_release(t);
    return status;
}
