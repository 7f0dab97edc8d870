// The tiler on random sizes. With a backend of our own that hands the patch back ("identity network") the
// grid, the streaming, the keys of the noise and the limits are checked; with the CPU backend and a small
// random network the numbers. Draws come from a fixed list of seeds, printed before each case.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/philox.h"
#include "tile/tile.h"

#define assert_ok(call)                                                                           \
    do {                                                                                          \
        usplit_status status_ = (call);                                                           \
        if (status_ != USPLIT_OK) {                                                               \
            fail_msg("%s: %d, %s", #call, status_, usplit_error_message());                       \
        }                                                                                         \
    } while (0)

static uint32_t draw_seed, draw_at;

static int64_t draw(int64_t low, int64_t high)
{
    us_u32x4 r = us_philox(draw_seed, draw_at++, 0, 0, 0);
    return low + (int64_t)(r.v[0] % (uint64_t)(high - low + 1));
}

static void begin_case(uint32_t seed)
{
    draw_seed = seed;
    draw_at = 0;
    print_message("# seed %u\n", (unsigned)seed);
}

static float *random_pixels(int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) {
        p[i] = (float)draw(0, 4000) * 0.25f;
    }
    return p;
}

// ---- Models -----------------------------------------------------------------------------------------

static usplit_context *make_context(int threads)
{
    usplit_context *c = NULL;
    usplit_context_options o;
    assert_ok(usplit_context_options_init(&o, sizeof o));
    o.threads = threads;
    o.device = "cpu";
    assert_ok(usplit_context_create(&c, &o));
    return c;
}

// Releases the context: the model keeps it.
static usplit_model *make_model(usplit_context *c, int family, int variant, int levels, int patch)
{
    usplit_model_options o = {.struct_size = sizeof o, .family = family, .variant = variant, .levels = levels,
                              .filters = 4, .patch = patch, .z_dims = {4}};
    us_net_config config;
    usplit_model *m = NULL;
    assert_ok(us_net_config_from(&config, &o));
    assert_ok(us_model_new(&m, c, &config));
    us_graph_init_params(m->graph, 7, m->params);
    m->normalisation.clip_value = 900;
    m->normalisation.input_mean = 400;
    m->normalisation.input_deviation = 250;
    for (int k = 0; k < m->graph->config.channels; k++) {
        m->normalisation.target_mean[k] = 300 + 50 * k;
        m->normalisation.target_deviation[k] = 100 + 20 * k;
    }
    m->has_normalisation = 1;
    usplit_context_free(c);
    return m;
}

static usplit_tiler_options make_options(int tiling, int pad, int cover)
{
    usplit_tiler_options o;
    assert_ok(usplit_tiler_options_init(&o, sizeof o));
    o.tiling = tiling;
    o.pad = pad;
    o.cover = cover;
    return o;
}

static usplit_tiler *make_tiler(usplit_model *m, const usplit_tiler_options *o)
{
    usplit_tiler *t = NULL;
    assert_ok(usplit_tiler_create(&t, m, o));
    return t;
}

static usplit_image view(void *pixels, int64_t frames, int64_t h, int64_t w, int64_t channels)
{
    usplit_image v;
    assert_ok(usplit_image_init(&v, sizeof v, pixels, USPLIT_TYPE_F32, frames, h, w, channels));
    v.stride_column = 4;                // planes
    v.stride_row = 4 * w;
    v.stride_channel = 4 * w * h;
    return v;
}

// Runs in memory; the result's planes, to be freed.
static float *run_planes(usplit_tiler *t, float *pixels, int64_t frames, int64_t h, int64_t w,
                         usplit_tiler_result *result)
{
    float *out = malloc((size_t)(frames * t->channels * h * w) * sizeof *out);
    usplit_image src = view(pixels, frames, h, w, 1), dst = view(out, frames, h, w, t->channels);
    assert_ok(usplit_tiler_run(t, &src, &dst, result, NULL, NULL));
    return out;
}

// ---- The identity backend ---------------------------------------------------------------------------

enum { MAX_WORKERS = 8, MAX_SEEN = 20000 };

struct us_exec {
    usplit_context *context;
    const us_plan *plan;
    int workers;
    float *memory;                      // per worker: the inputs, then the head
    int64_t worker_floats;
    atomic_int busy[MAX_WORKERS];
};

static struct {
    atomic_int n, wrong_worker;
    int32_t seen[MAX_SEEN][3];          // tile_y, tile_x, sample
    uint64_t seed;
    int mean_latents;
    int fail_after;                     // passes; 0: never
} fake;

static usplit_status fake_compile(us_exec **out, usplit_context *context, const us_plan *plan, int workers)
{
    const us_graph *g = plan->graph;
    int64_t hw = (int64_t)g->size * g->size;
    us_exec *e = us_calloc(&context->allocator, 1, sizeof *e);
    *out = NULL;
    if (!e) {
        return USPLIT_ERR_MEMORY;
    }
    e->worker_floats = hw * (US_MAX_LC + 2 * g->config.channels);
    e->memory = us_calloc(&context->allocator, (size_t)(workers * e->worker_floats), sizeof *e->memory);
    if (!e->memory) {
        us_free(&context->allocator, e);
        return USPLIT_ERR_MEMORY;
    }
    e->context = us_context_retain(context);
    e->plan = plan;
    e->workers = workers;
    *out = e;
    return USPLIT_OK;
}

static void fake_release(us_exec *e)
{
    usplit_context *context = e->context;
    us_free(&context->allocator, e->memory);
    us_free(&context->allocator, e);
    us_context_release(context);
}

static usplit_status fake_prepare(us_exec *e, const float *params)
{
    return e && params ? USPLIT_OK : USPLIT_ERR_INTERNAL;
}

// Channel c of the head: the wanted window of the patch, times c + 1, plus the number of the sample.
static usplit_status fake_predict(us_exec *e, int worker, const us_run *run, const float **head)
{
    const us_graph *g = e->plan->graph;
    int64_t size = g->size, k = g->config.channels;
    us_rect want = e->plan->options.want;
    if (worker < 0 || worker >= e->workers || atomic_exchange(&e->busy[worker], 1)) {
        atomic_store(&fake.wrong_worker, 1);
        US_FAIL(USPLIT_ERR_INTERNAL, "worker %d", worker);
    }
    float *memory = e->memory + worker * e->worker_floats, *dst = memory + US_MAX_LC * size * size;
    float *levels[US_MAX_LC];
    for (int i = 0; i < US_MAX_LC; i++) {
        levels[i] = e->plan->input[i] >= 0 ? memory + i * size * size : NULL;
    }
    US_TRY(run->fill(run->user, 0, levels, NULL));
    for (int64_t p = 0; p < (int64_t)want.h * want.w; p++) {
        float v = levels[0][(want.y0 + p / want.w) * size + want.x0 + p % want.w];
        for (int64_t c = 0; c < k; c++) {
            dst[p * 2 * k + c] = v * (float)(c + 1) + (float)run->step;
            dst[p * 2 * k + k + c] = 1e9f;
        }
    }
    int i = atomic_fetch_add(&fake.n, 1);
    if (i < MAX_SEEN) {
        fake.seen[i][0] = (int32_t)run->tile_y;
        fake.seen[i][1] = (int32_t)run->tile_x;
        fake.seen[i][2] = (int32_t)run->step;
    }
    fake.seed = run->seed;
    fake.mean_latents = run->mean_latents;
    *head = dst;
    atomic_store(&e->busy[worker], 0);
    if (fake.fail_after && i + 1 >= fake.fail_after) {
        US_FAIL(USPLIT_ERR_BACKEND, "pass %d failed", i);
    }
    return USPLIT_OK;
}

static int64_t fake_bytes(const us_exec *e)
{
    return (int64_t)sizeof *e + e->workers * e->worker_floats * 4;
}

static const us_backend fake_backend = {.name = "fake", .compile = fake_compile, .release = fake_release,
                                        .prepare = fake_prepare, .predict = fake_predict, .bytes = fake_bytes};

// Regular has lateral context at all levels; Vanilla none.
static usplit_model *make_fake(int threads, int variant, int levels, int patch)
{
    usplit_context *c = make_context(threads);
    c->backend = &fake_backend;
    usplit_model *m = make_model(c, USPLIT_FAMILY_HVAE, variant, levels, patch);
    atomic_store(&fake.n, 0);
    atomic_store(&fake.wrong_worker, 0);
    fake.fail_after = 0;
    return m;
}

// ---- A stream that checks the rules -----------------------------------------------------------------

typedef struct stream {
    const float *pixels;
    float *out;                         // planes
    int64_t h, w, channels, next_row;
    int64_t rows_read;
    int out_of_order, n_writes, n_reads;
    int fail_read, fail_write;          // number of the call that fails; 0: none
    usplit_tiler *tiler;                // called back into, when given
    usplit_status inner;
    size_t allocations;                 // at the second write
} stream;

static int32_t stream_read(int64_t row, int64_t n, float *dst, void *user)
{
    stream *s = user;
    s->n_reads++;
    s->rows_read += n;
    if (row < 0 || n < 1 || row + n > s->h || s->n_reads == s->fail_read) {
        return 5;
    }
    memcpy(dst, s->pixels + row * s->w, (size_t)(n * s->w) * sizeof *dst);
    if (s->tiler) {
        s->inner = usplit_tiler_run_stream(s->tiler, NULL, NULL, NULL, NULL);
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        if (usplit_tiler_plan(s->tiler, 64, 64, &cost) != USPLIT_ERR_BUSY) {
            s->inner = USPLIT_OK;
        }
    }
    return 0;
}

static int32_t stream_write(int64_t row, int64_t n, const float *src, void *user)
{
    stream *s = user;
    s->n_writes++;
    s->out_of_order |= row != s->next_row || n < 1 || row + n > s->h;
    if (s->out_of_order || s->n_writes == s->fail_write) {
        return 6;
    }
    for (int64_t c = 0; c < s->channels; c++) {
        memcpy(s->out + (c * s->h + row) * s->w, src + c * n * s->w, (size_t)(n * s->w) * sizeof *src);
    }
    s->next_row += n;
    return 0;
}

static stream make_stream(const float *pixels, int64_t h, int64_t w, int64_t channels)
{
    return (stream){.pixels = pixels, .out = calloc((size_t)(channels * h * w), sizeof(float)), .h = h, .w = w,
                    .channels = channels};
}

static usplit_status run_stream(usplit_tiler *t, stream *s, usplit_tiler_result *result,
                                usplit_progress_fn progress, void *user)
{
    usplit_tiler_stream u = {.struct_size = sizeof u, .height = s->h, .width = s->w, .read = stream_read,
                             .write = stream_write, .user = s};
    s->next_row = 0;
    return usplit_tiler_run_stream(t, &u, result, progress, user);
}

// ---- Grid -------------------------------------------------------------------------------------------

static void check_count(int tiling, int patch, int pad, int64_t h, int64_t w, int64_t tiles, int64_t rest)
{
    us_tile_grid g;
    usplit_tiler_options o = make_options(tiling, pad, USPLIT_COVER_WHOLE_TILES);
    assert_ok(us_tile_grid_shape(&g, &o, patch));
    assert_ok(us_tile_grid_fit(&g, o.cover, 0, h, w));
    assert_int_equal(g.rows * g.columns, tiles);
    assert_int_equal(h - g.covered_height, rest);
}

// Tile counts of data sections 5.1 and 12.3.
static void test_published_counts(void **state)
{
    (void)state;
    const int pads[4][2] = {{0, 1764}, {16, 7225}, {24, 28900}, {28, 115600}};
    for (int i = 0; i < 4; i++) {
        check_count(USPLIT_TILING_INNER, 64, pads[i][0], 2720, 2720, pads[i][1], i ? 0 : 32);
        check_count(USPLIT_TILING_OUTER, 64, pads[i][0], 2720, 2720, 1764, 32);
    }
    check_count(USPLIT_TILING_INNER, 512, 192, 2720, 2720, 441, 32);
    check_count(USPLIT_TILING_INNER, 64, 24, 2048, 2048, 16384, 0);
    check_count(USPLIT_TILING_INNER, 16, 4, 70, 45, 40, 6);
    check_count(USPLIT_TILING_INNER, 16, 6, 70, 45, 187, 2);
    check_count(USPLIT_TILING_INNER, 16, 3, 70, 45, 28, 0);
    check_count(USPLIT_TILING_INNER, 24, 4, 70, 45, 8, 6);
}

// ---- Rows and patches -------------------------------------------------------------------------------

typedef struct plane_source {
    const float *pixels;
    int64_t w, next;
} plane_source;

static usplit_status read_plane(void *user, int64_t row, int64_t n, float *dst)
{
    plane_source *s = user;
    assert_int_equal(row, s->next);     // every row once, in order
    s->next += n;
    memcpy(dst, s->pixels + row * s->w, (size_t)(n * s->w) * sizeof *dst);
    return USPLIT_OK;
}

static void make_pyramid(us_plane *levels, float **data, int coarsest, float *pixels, int64_t h, int64_t w,
                         float clip)
{
    data[0] = pixels;
    levels[0] = (us_plane){pixels, h, w};
    for (int64_t i = 0; i < h * w; i++) {
        pixels[i] = pixels[i] > clip ? clip : pixels[i];
    }
    for (int k = 1; k <= coarsest; k++) {
        data[k] = malloc((size_t)((h >> k) * (w >> k)) * sizeof(float));
        levels[k] = (us_plane){data[k], h >> k, w >> k};
        assert_ok(us_patch_halve(NULL, levels[k - 1], data[k]));
    }
}

// The patches cut from windows of rows are those of whole planes, for every tile and level.
static void test_patches_equal_whole_planes(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        begin_case(seed);
        int coarsest = (int)draw(0, 4), patch = 2 * (int)draw(4, 12), pad = (int)draw(0, patch / 2 - 1);
        int64_t least = (int64_t)1 << coarsest, h = draw(least, seed % 3 ? 160 : 20 + least);
        int64_t w = draw(least, 90 + least), band_rows = draw(1, 3);
        us_tile_grid g = {.patch = patch, .inner = patch - 2 * pad, .pad = pad};
        if (seed % 5 == 0) {            // outer: larger patches, same rule
            g.patch += 16;
            g.pad += 8;
        }
        usplit_model_normalisation n = {.clip_value = 900, .input_mean = 400, .input_deviation = 250,
                                        .padding = (int32_t)draw(0, 1), .padding_value = 17};
        assert_ok(us_tile_grid_fit(&g, USPLIT_COVER_ALL, coarsest, h, w));
        float *pixels = random_pixels(h * w), *data[US_MAX_LC];
        us_plane levels[US_MAX_LC];
        plane_source source = {pixels, w, 0};
        us_tile_rows rows;
        size_t live = us_alloc_live();
        assert_ok(us_tile_rows_open(&rows, NULL, &g, coarsest, band_rows, &n));
        assert_int_equal(us_alloc_live() - live, us_tile_rows_bytes(&g, coarsest, band_rows));
        make_pyramid(levels, data, coarsest, pixels, h, w, 900);
        rows.read = read_plane;
        rows.user = &source;
        size_t n_floats = (size_t)g.patch * (size_t)g.patch;
        float *ours = malloc(n_floats * sizeof *ours), *theirs = malloc(n_floats * sizeof *theirs);
        for (int64_t i = 0; i < g.rows; i++) {
            if (i % band_rows == 0) {
                int64_t end = i + band_rows < g.rows ? i + band_rows : g.rows;
                assert_ok(us_tile_rows_advance(&rows, i * g.inner - g.pad, (end - 1) * g.inner - g.pad));
            }
            for (int64_t j = 0; j < g.columns; j++) {
                for (int k = 0; k <= coarsest; k++) {
                    int64_t y = i * g.inner - g.pad, x = j * g.inner - g.pad;
                    us_tile_rows_cut(&rows, y, x, k, ours);
                    us_patch_cut(levels[k], us_patch_context_start(y, g.patch, k),
                                 us_patch_context_start(x, g.patch, k), g.patch, n.padding, 17, 400,
                                 (float)(1.0 / 250), theirs);
                    for (size_t p = 0; p < n_floats; p++) {     // whole planes are clamped to their range
                        assert_true(fabsf(ours[p] - theirs[p]) <= 1e-6f * 4);
                    }
                }
            }
        }
        assert_int_equal(source.next, h);
        us_tile_rows_close(&rows);
        assert_int_equal(us_alloc_live(), live);
        for (int k = 0; k <= coarsest; k++) {
            free(data[k]);
        }
        free(ours);
        free(theirs);
    }
}

// ---- Identity network -------------------------------------------------------------------------------

static int compare_seen(const void *a, const void *b)
{
    return memcmp(a, b, sizeof fake.seen[0]);
}

// Every pass of the grid once, with its own place and sample number.
static void check_passes(const us_tile_grid *g, int samples)
{
    int n = atomic_load(&fake.n);
    assert_int_equal(n, g->rows * g->columns * samples);
    assert_true(n <= MAX_SEEN);
    qsort(fake.seen, (size_t)n, sizeof fake.seen[0], compare_seen);
    for (int i = 0; i < n; i++) {
        assert_true(i == 0 || memcmp(fake.seen[i - 1], fake.seen[i], sizeof fake.seen[0]) != 0);
        int64_t y = fake.seen[i][0] + g->pad, x = fake.seen[i][1] + g->pad;
        assert_true(y >= 0 && x >= 0 && y % g->inner == 0 && x % g->inner == 0);
        assert_true(y / g->inner < g->rows && x / g->inner < g->columns);
        assert_true(fake.seen[i][2] >= 0 && fake.seen[i][2] < samples);
    }
}

static void check_identity(const usplit_model *m, const float *in, const float *out, const us_tile_grid *g,
                           int samples)
{
    const usplit_model_normalisation *n = &m->normalisation;
    int64_t hw = g->height * g->width;
    for (int64_t p = 0; p < hw * m->graph->config.channels; p++) {
        int64_t c = p / hw, y = p % hw / g->width, x = p % g->width;
        double clipped = fmin((double)in[p % hw], n->clip_value);
        double net = (clipped - n->input_mean) / n->input_deviation * (double)(c + 1) + 0.5 * (samples - 1);
        double expected = n->target_deviation[c] * net + n->target_mean[c];
        int covered = y < g->covered_height && x < g->covered_width;
        assert_true(fabs((covered ? expected : 0) - (double)out[p]) <= 1e-3);
    }
}

static void test_identity(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        begin_case(seed);
        int levels = (int)draw(1, 3), lateral = (int)draw(0, 1), patch = 8 * (int)draw(1, 4);
        int outer = (int)draw(0, 3) == 0, cover = (int)draw(0, 1), samples = (int)draw(1, 4);
        int pad = outer ? 4 * (int)draw(0, 2) : (int)draw(0, patch / 2 - 1);
        int least = lateral ? 1 << levels : 1, inner = outer ? patch : patch - 2 * pad;
        int64_t low = cover && inner > least ? inner : least;
        int64_t h = draw(low, 50 + low), w = draw(low, 70 + low);
        usplit_model *m = make_fake((int)draw(1, 4), lateral ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA,
                                    levels, patch);
        usplit_tiler_options o = make_options(outer, pad, cover);
        o.samples = samples;
        o.seed = 1234567890123u + seed;
        usplit_tiler *t = make_tiler(m, &o);
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, h, w, &l));
        float *pixels = random_pixels(h * w);
        stream s = make_stream(pixels, h, w, 2);
        usplit_tiler_result r = {.struct_size = sizeof r};
        assert_ok(run_stream(t, &s, &r, NULL, NULL));
        assert_false(atomic_load(&fake.wrong_worker));
        assert_int_equal(s.next_row, h);
        assert_true(cover || s.rows_read == h);
        assert_true(fake.seed == o.seed && fake.mean_latents == 0);
        assert_int_equal(r.tiles, l.grid.rows * l.grid.columns);
        assert_int_equal(r.passes, r.tiles * samples);
        check_passes(&l.grid, samples);
        check_identity(m, pixels, s.out, &l.grid, samples);
        int64_t clipped = 0;
        for (int64_t i = 0; i < h * w; i++) {
            clipped += pixels[i] > 900;
        }
        assert_true(cover ? r.clipped_pixels <= clipped : r.clipped_pixels == clipped);
        assert_true(r.gain[1] == 120 && r.offset[0] == 300 && r.clip_value == 900);
        free(s.out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
}

// One row, one column, one pixel: legal without lateral context.
static void test_thin_images(void **state)
{
    (void)state;
    const int sizes[][2] = {{1, 1}, {1, 37}, {50, 1}, {2, 3}, {1, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        begin_case((uint32_t)i);
        usplit_model *m = make_fake(2, USPLIT_VARIANT_VANILLA, 2, 16);
        usplit_tiler *t = make_tiler(m, NULL);
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, sizes[i][0], sizes[i][1], &l));
        float *pixels = random_pixels(sizes[i][0] * sizes[i][1]);
        stream s = make_stream(pixels, sizes[i][0], sizes[i][1], 2);
        assert_ok(run_stream(t, &s, NULL, NULL, NULL));
        check_identity(m, pixels, s.out, &l.grid, 1);
        free(s.out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
}

// ---- Memory -----------------------------------------------------------------------------------------

static int64_t plan_bytes(const usplit_tiler *t, int64_t h, int64_t w)
{
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, h, w, &c));
    return c.host_bytes;
}

static void test_memory_does_not_grow_with_height(void **state)
{
    (void)state;
    usplit_model *m = make_fake(2, USPLIT_VARIANT_REGULAR, 4, 64);
    usplit_tiler *t = make_tiler(m, NULL);
    assert_int_equal(plan_bytes(t, 1024, 3000), plan_bytes(t, 100000, 3000));
    assert_int_equal(plan_bytes(t, 1301, 3001), plan_bytes(t, 12345677, 3001));
    assert_true(plan_bytes(t, 1000, 6000) > plan_bytes(t, 1000, 3000));
    assert_true(plan_bytes(t, 100, 3000) < plan_bytes(t, 1000, 3000));
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, 2720, 2720, &c));
    assert_true(c.tiles == 7225 && c.passes == 7225 && c.tile_rows == 85 && c.tile_columns == 85);
    assert_true(c.patch == 64 && c.inner == 32 && c.batch == 1 && c.workers == 2 && c.device_bytes == 0);
    assert_true(c.covered_height == 2720 && c.covered_width == 2720 && c.seconds == 0);
    assert_true(c.macs == 7225 * t->plan->macs);
    usplit_tiler_free(t);
    us_model_release(m);
}

typedef struct live_range {
    size_t before, most;
    size_t count_first, count_last;     // allocations made, at the first and at the last report
    int reports;
    double seconds_left;
    int64_t last_done, total;
} live_range;

static int32_t watch_live(const usplit_progress *p, void *user)
{
    live_range *l = user;
    size_t live = us_alloc_live();
    l->most = live > l->most ? live : l->most;
    l->reports++;
    l->seconds_left = p->seconds_left;
    assert_true(p->phase == USPLIT_PHASE_TILE && p->done > l->last_done && p->done <= p->total);
    l->last_done = p->done;
    l->total = p->total;
    return 0;
}

// The CPU backend: what a run holds stays within the plan's bytes. Bookkeeping (the tiler, its plan and
// graph) is small beside it and is not in the plan: 1 MiB is allowed for it.
static void test_plan_holds_what_runs(void **state)
{
    (void)state;
    usplit_model *m = make_model(make_context(2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 32);
    live_range l = {.before = us_alloc_live()};
    usplit_tiler *t = make_tiler(m, NULL);
    int64_t h = 150, w = 203, bytes = plan_bytes(t, h, w);
    float *pixels = random_pixels(h * w);
    stream s = make_stream(pixels, h, w, 2);
    usplit_tiler_result r = {.struct_size = sizeof r};
    size_t idle = us_alloc_live();
    assert_ok(run_stream(t, &s, &r, watch_live, &l));
    assert_int_equal(us_alloc_live(), idle);
    assert_true(l.reports >= 1 && l.last_done == l.total && l.seconds_left == 0);
    assert_true(r.peak_bytes <= bytes && r.peak_bytes > 0);
    print_message("# plan %lld, live %zu (%zu bookkeeping)\n", (long long)bytes, l.most - l.before,
                  l.most - l.before - (size_t)bytes);
    assert_true(l.most - l.before <= (size_t)bytes + (1 << 20));
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, h, w, &c));
    assert_true(c.seconds > 0 && c.seconds < 600);
    free(s.out);
    free(pixels);
    usplit_tiler_free(t);
    us_model_release(m);
    assert_int_equal(us_alloc_live(), 0);
}

// A caller's allocator that counts, and refuses the n-th request.
typedef struct hook {
    atomic_int n;
    int refuse;                         // 0: none
} hook;

static void *hook_alloc(size_t bytes, void *user)
{
    hook *k = user;
    return atomic_fetch_add(&k->n, 1) + 1 == k->refuse ? NULL : malloc(bytes);
}

static void hook_release(void *block, void *user)
{
    (void)user;
    free(block);
}

static usplit_context *hook_context(hook *k, int threads)
{
    usplit_context *c = NULL;
    usplit_context_options o = {.struct_size = sizeof o, .threads = threads, .alloc = hook_alloc, .device = "cpu",
                                .release = hook_release, .alloc_user = k};
    assert_ok(usplit_context_create(&c, &o));
    return c;
}

static hook *counted;
static int asked_at_first, asked_at_last;

static int32_t watch_hook(const usplit_progress *p, void *user)
{
    (void)user;
    (void)p;
    asked_at_last = atomic_load(&counted->n);
    asked_at_first = asked_at_first ? asked_at_first : asked_at_last;
    return 0;
}

static void test_bands_ask_for_no_memory(void **state)
{
    (void)state;
    hook k = {.refuse = 0};
    counted = &k;
    asked_at_first = 0;
    usplit_model *m =
        make_model(hook_context(&k, 2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler *t = make_tiler(m, NULL);
    int64_t h = 101, w = 67;
    float *pixels = random_pixels(h * w);
    stream s = make_stream(pixels, h, w, 2);
    assert_ok(run_stream(t, &s, NULL, watch_hook, NULL));
    assert_true(s.n_writes > 5);
    assert_int_equal(asked_at_first, asked_at_last);
    free(s.out);
    free(pixels);
    usplit_tiler_free(t);
    us_model_release(m);
}

// Every allocation of creation and of a run is refused in turn: the right status, nothing lost, and the tiler
// works afterwards.
static void test_refused_allocations(void **state)
{
    (void)state;
    hook k = {.refuse = 0};
    usplit_model *m =
        make_model(hook_context(&k, 2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 1, 16);
    usplit_tiler_options o = make_options(USPLIT_TILING_INNER, -1, 0);
    o.memory_budget = 1 << 30;
    size_t live = us_alloc_live();
    usplit_tiler *t = NULL;
    int refused = 0;
    do {
        k.refuse = atomic_load(&k.n) + ++refused;
        usplit_status status = usplit_tiler_create(&t, m, &o);
        assert_true(status == (t ? USPLIT_OK : USPLIT_ERR_MEMORY));
        assert_true(t || us_alloc_live() == live);
    } while (!t);
    print_message("# creation: %d allocations\n", refused - 1);
    float pixels[20 * 30] = {0};
    stream s = make_stream(pixels, 20, 30, 2);
    live = us_alloc_live();
    usplit_status status;
    refused = 0;
    do {
        k.refuse = atomic_load(&k.n) + ++refused;
        status = run_stream(t, &s, NULL, NULL, NULL);
        assert_true(status == USPLIT_OK || status == USPLIT_ERR_MEMORY);
        assert_int_equal(us_alloc_live(), live);
    } while (status != USPLIT_OK);
    print_message("# run: %d allocations\n", refused - 1);
    assert_true(refused > 2);
    free(s.out);
    usplit_tiler_free(t);
    us_model_release(m);
}

static void test_budget(void **state)
{
    (void)state;
    usplit_model *m = make_fake(4, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler_options o = make_options(0, -1, 0);
    usplit_tiler *t = make_tiler(m, &o);
    int64_t h = 90, w = 300, most = plan_bytes(t, h, w);
    int64_t worker = t->exec->worker_floats * 4;
    float *pixels = random_pixels(h * w), *expected = run_planes(t, pixels, 1, h, w, NULL);
    usplit_tiler_free(t);
    int before = 5;
    for (int64_t budget = most; before > 1; budget -= worker / 3) {
        o.memory_budget = budget;
        t = make_tiler(m, &o);
        usplit_tiler_cost c = {.struct_size = sizeof c};
        usplit_status status = usplit_tiler_plan(t, h, w, &c);
        if (status == USPLIT_OK) {
            usplit_tiler_result r = {.struct_size = sizeof r};
            float *out = run_planes(t, pixels, 1, h, w, &r);
            assert_true(c.host_bytes <= budget && c.workers <= before && c.workers >= 1);
            assert_int_equal(r.peak_bytes, c.host_bytes);
            assert_memory_equal(out, expected, (size_t)(2 * h * w) * sizeof *out);
            before = c.workers;
            free(out);
        }
        assert_ok(status);
        usplit_tiler_free(t);
    }
    // enough for the executable, too little for the rows of a wide image
    o.memory_budget = fake_bytes(&(struct us_exec){.workers = 1, .worker_floats = worker / 4}) + 10000;
    t = make_tiler(m, &o);
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, 30, 20, &c));
    assert_int_equal(c.workers, 1);
    assert_int_equal(usplit_tiler_plan(t, h, 3000, &c), USPLIT_ERR_BUDGET);
    assert_non_null(strstr(usplit_error_message(), "memory_budget is"));
    assert_non_null(strstr(usplit_error_message(), "3000"));
    stream s = make_stream(pixels, 9, 3000, 2);
    assert_int_equal(run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_BUDGET);
    assert_int_equal(s.n_reads, 0);
    free(s.out);
    s = make_stream(pixels, 30, 20, 2);     // it stays usable
    assert_ok(run_stream(t, &s, NULL, NULL, NULL));
    free(s.out);
    usplit_tiler_free(t);
    o.memory_budget = 1000;
    assert_int_equal(usplit_tiler_create(&t, m, &o), USPLIT_ERR_BUDGET);
    assert_null(t);
    free(pixels);
    free(expected);
    us_model_release(m);
}

// ---- Callbacks, cancel, errors ----------------------------------------------------------------------

static int32_t stop_at_once(const usplit_progress *p, void *user)
{
    (void)p;
    ++*(int *)user;
    return -3;
}

static int32_t free_it(const usplit_progress *p, void *user)
{
    usplit_tiler **t = user;
    (void)p;
    usplit_tiler_free(*t);
    *t = NULL;
    return 0;
}

static int32_t cancel_it(const usplit_progress *p, void *user)
{
    (void)p;
    usplit_tiler_cancel(user);
    return 0;
}

static void *cancel_soon(void *tiler)
{
    while (atomic_load(&fake.n) < 50) {
    }
    usplit_tiler_cancel(tiler);
    return NULL;
}

static void test_callbacks(void **state)
{
    (void)state;
    usplit_model *m = make_fake(2, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler *t = make_tiler(m, NULL);
    begin_case(1);
    int64_t h = 200, w = 130;
    float *pixels = random_pixels(h * w);
    stream s = make_stream(pixels, h, w, 2);
    usplit_tiler_result r = {.struct_size = sizeof r};
    int calls = 0;
    assert_int_equal(run_stream(t, &s, &r, stop_at_once, &calls), USPLIT_ERR_CANCELLED);
    assert_true(calls == 1 && r.passes == 0);
    assert_non_null(strstr(usplit_error_message(), "-3"));
    assert_int_equal(run_stream(t, &s, NULL, cancel_it, t), USPLIT_ERR_CANCELLED);
    usplit_tiler_cancel(t);                 // of no run: forgotten
    assert_ok(run_stream(t, &s, &r, NULL, NULL));
    s.tiler = t;
    assert_ok(run_stream(t, &s, NULL, NULL, NULL));
    assert_int_equal(s.inner, USPLIT_ERR_BUSY);
    s.tiler = NULL;

    atomic_store(&fake.n, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, t), 0);
    usplit_status status;
    do {
        status = run_stream(t, &s, NULL, NULL, NULL);
    } while (status == USPLIT_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, USPLIT_ERR_CANCELLED);

    for (int i = 1; i <= 3; i++) {
        stream f = make_stream(pixels, h, w, 2);
        f.fail_read = i;
        assert_int_equal(run_stream(t, &f, NULL, NULL, NULL), USPLIT_ERR_CALLBACK);
        assert_non_null(strstr(usplit_error_message(), "read returned 5"));
        f.n_reads = f.n_writes = f.fail_read = 0;
        f.fail_write = i;
        assert_int_equal(run_stream(t, &f, NULL, NULL, NULL), USPLIT_ERR_CALLBACK);
        assert_non_null(strstr(usplit_error_message(), "write returned 6"));
        free(f.out);
    }
    atomic_store(&fake.n, 0);
    fake.fail_after = 100;
    assert_int_equal(run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_BACKEND);
    fake.fail_after = 0;
    memset(s.out, 0, (size_t)(2 * h * w) * sizeof *s.out);
    assert_ok(run_stream(t, &s, NULL, NULL, NULL));
    us_tile_layout l;
    assert_ok(us_tiler_layout(t, h, w, &l));
    check_identity(m, pixels, s.out, &l.grid, 1);
    assert_ok(run_stream(t, &s, NULL, free_it, &t));    // freed while it runs
    assert_null(t);
    free(s.out);
    free(pixels);
    us_model_release(m);
    assert_int_equal(us_alloc_live(), 0);
}

static void test_bad_pixels(void **state)
{
    (void)state;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    usplit_model *m = make_fake(2, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler *t = make_tiler(m, NULL);
    for (int i = 0; i < 3; i++) {
        begin_case((uint32_t)i);
        int64_t h = 75, w = 40, y = draw(0, h - 1), x = draw(0, w - 1);
        float *pixels = random_pixels(h * w);
        pixels[y * w + x] = bad[i];
        stream s = make_stream(pixels, h, w, 2);
        char place[64];
        snprintf(place, sizeof place, "row %d, column %d", (int)y, (int)x);
        assert_int_equal(run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_NUMERIC);
        assert_non_null(strstr(usplit_error_message(), place));
        usplit_image src = view(pixels, 1, h, w, 1), dst = view(s.out, 1, h, w, 2);
        assert_int_equal(usplit_tiler_run(t, &src, &dst, NULL, NULL, NULL), USPLIT_ERR_NUMERIC);
        assert_non_null(strstr(usplit_error_message(), place));
        pixels[y * w + x] = 1;
        assert_ok(usplit_tiler_run(t, &src, &dst, NULL, NULL, NULL));
        free(s.out);
        free(pixels);
    }
    usplit_tiler_free(t);
    us_model_release(m);
}

// Integer images in and out: rounded, cut, counted; frames one after the other.
static void test_integer_frames(void **state)
{
    (void)state;
    enum { F = 3, H = 21, W = 34 };
    static uint16_t in[F * H * W];
    static uint8_t out[F * H * W][2];
    begin_case(1);
    usplit_model *m = make_fake(2, USPLIT_VARIANT_REGULAR, 2, 16);
    m->normalisation.target_mean[0] = 100;
    m->normalisation.target_deviation[0] = m->normalisation.target_deviation[1] = 250;
    m->normalisation.input_mean = 0;
    usplit_tiler *t = make_tiler(m, NULL);
    for (int i = 0; i < F * H * W; i++) {
        in[i] = (uint16_t)draw(0, 1000);
    }
    usplit_image src, dst;
    usplit_tiler_result r = {.struct_size = sizeof r};
    live_range l = {.before = 0};
    assert_ok(usplit_image_init(&src, sizeof src, in, USPLIT_TYPE_U16, F, H, W, 1));
    assert_ok(usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_U8, F, H, W, 2));
    assert_ok(usplit_tiler_run(t, &src, &dst, &r, watch_live, &l));
    int64_t cut = 0, clipped = 0;
    for (int i = 0; i < F * H * W; i++) {
        int v = in[i] > 900 ? 900 : in[i];
        clipped += in[i] > 900;
        for (int c = 0; c < 2; c++) {
            int expected = v * (c + 1) + (c ? 350 : 100);
            cut += expected > 255;
            assert_true(abs(out[i][c] - (expected > 255 ? 255 : expected)) <= 1);
        }
    }
    assert_int_equal(r.saturated_pixels, cut);
    assert_int_equal(r.clipped_pixels, clipped);
    assert_int_equal(r.passes, l.total);
    assert_int_equal(r.tiles, F * 3 * 5);
    usplit_tiler_free(t);
    us_model_release(m);
}

// ---- The CPU backend --------------------------------------------------------------------------------

// The same bits for any number of threads, in memory and streamed, alone and in a stack.
static void test_threads_and_streams(void **state)
{
    (void)state;
    const int variants[4] = {USPLIT_VARIANT_VANILLA, USPLIT_VARIANT_LEAN, USPLIT_VARIANT_REGULAR,
                             USPLIT_VARIANT_REGULAR};
    for (int v = 0; v < 4; v++) {
        begin_case((uint32_t)v);
        int64_t h = draw(30, 70), w = draw(30, 90);
        float *pixels = random_pixels(2 * h * w), *first = NULL;
        size_t bytes = (size_t)(2 * h * w) * sizeof *pixels;
        for (int threads = 1; threads <= 4; threads *= 2) {
            usplit_model *m = make_model(make_context(threads), v == 3 ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE,
                                         variants[v], 2, 16);
            usplit_tiler_options o = make_options(0, -1, 0);
            o.samples = v == 3 ? 5 : 2;
            o.seed = 42;
            usplit_tiler *t = make_tiler(m, &o);
            usplit_tiler_result r = {.struct_size = sizeof r};
            float *stack = run_planes(t, pixels, 2, h, w, &r);
            assert_int_equal(r.samples, v == 3 ? 1 : 2);
            assert_int_equal(r.latent, v == 3 ? USPLIT_LATENT_MEAN : USPLIT_LATENT_SAMPLE);
            for (int f = 0; f < 2; f++) {
                stream s = make_stream(pixels + f * h * w, h, w, 2);
                assert_ok(run_stream(t, &s, NULL, NULL, NULL));
                assert_memory_equal(s.out, stack + f * 2 * h * w, bytes);
                free(s.out);
            }
            assert_true(!first || memcmp(first, stack, 2 * bytes) == 0);
            if (first) {
                free(stack);
            } else {
                first = stack;
            }
            usplit_tiler_free(t);
            us_model_release(m);
        }
        free(first);
        free(pixels);
    }
}

// Another seed draws other noise; the posterior mean draws none.
static void test_seeds(void **state)
{
    (void)state;
    begin_case(1);
    float *pixels = random_pixels(40 * 40), *out[4];
    usplit_model *m = make_model(make_context(2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
    for (int i = 0; i < 4; i++) {
        usplit_tiler_options o = make_options(0, -1, 0);
        o.seed = (uint64_t)i % 2;
        o.latent = i < 2 ? USPLIT_LATENT_SAMPLE : USPLIT_LATENT_MEAN;
        o.samples = 3;
        usplit_tiler *t = make_tiler(m, &o);
        out[i] = run_planes(t, pixels, 1, 40, 40, NULL);
        usplit_tiler_free(t);
    }
    size_t bytes = 2 * 40 * 40 * sizeof(float);
    assert_true(memcmp(out[0], out[1], bytes) != 0);
    assert_true(memcmp(out[0], out[2], bytes) != 0);
    assert_memory_equal(out[2], out[3], bytes);
    for (int i = 0; i < 4; i++) {
        free(out[i]);
    }
    free(pixels);
    us_model_release(m);
}

typedef struct given_patch {
    const us_plane *levels;
    int coarsest, patch;
    int64_t y, x;
} given_patch;

static usplit_status fill_given(void *user, int sample, float *const *levels, float *target)
{
    const given_patch *g = user;
    (void)sample;
    (void)target;
    for (int k = 0; k <= g->coarsest; k++) {
        us_patch_cut(g->levels[k], us_patch_context_start(g->y, g->patch, k),
                     us_patch_context_start(g->x, g->patch, k), g->patch, USPLIT_PADDING_REFLECT, 0, 400,
                     (float)(1.0 / 250), levels[k]);
    }
    return USPLIT_OK;
}

// Every pixel of a tile is what its whole patch, predicted alone, has there: inner and outer padding, all
// pads that the network takes.
static void test_pad_sweep(void **state)
{
    (void)state;
    enum { H = 45, W = 38, P = 16, LC = 2 };
    begin_case(3);
    usplit_model *m = make_model(make_context(2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, LC, P);
    float *pixels = random_pixels(H * W), *data[US_MAX_LC], *copy = malloc(H * W * sizeof *copy);
    memcpy(copy, pixels, H * W * sizeof *copy);
    us_plane levels[US_MAX_LC];
    make_pyramid(levels, data, LC, copy, H, W, 900);
    double worst = 0;
    for (int i = 0; i < 12; i++) {
        int outer = i >= 8, pad = outer ? 3 * (i - 8) : i;
        usplit_tiler_options o = make_options(outer, pad, 0);
        o.seed = 9;
        usplit_tiler *t = make_tiler(m, &o);
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, H, W, &l));
        float *out = run_planes(t, pixels, 1, H, W, NULL);
        us_plan *plan;
        us_exec *exec;
        us_plan_options whole = {.mode = US_PLAN_PREDICT, .batch = 1};
        assert_ok(us_plan_build(&plan, NULL, t->plan->graph, &whole));
        assert_ok(t->backend->compile(&exec, t->context, plan, 1));
        assert_ok(t->backend->prepare(exec, m->params));
        for (int n = 0; n < 6; n++) {
            int64_t row = draw(0, l.grid.rows - 1), column = draw(0, l.grid.columns - 1);
            given_patch g = {levels, LC, l.grid.patch, row * l.grid.inner - pad, column * l.grid.inner - pad};
            us_run run = {.seed = 9, .tile_y = g.y, .tile_x = g.x, .fill = fill_given, .user = &g};
            const float *head;
            assert_ok(t->backend->predict(exec, 0, &run, &head));
            for (int p = 0; p < l.grid.inner * l.grid.inner * 2; p++) {
                int c = p % 2, dy = p / 2 / l.grid.inner + pad, dx = p / 2 % l.grid.inner + pad;
                int64_t y = g.y + dy, x = g.x + dx;
                if (y < H && x < W) {
                    double expected = (100 + 20 * c) * head[(dy * l.grid.patch + dx) * 4 + c] + 300 + 50 * c;
                    worst = fmax(worst, fabs(expected - out[(c * H + y) * W + x]));
                }
            }
        }
        t->backend->release(exec);
        us_plan_free(plan);
        free(out);
        usplit_tiler_free(t);
    }
    print_message("# worst difference %.2e grey levels of about 300\n", worst);
    assert_true(worst <= 3e-3);
    for (int k = 0; k <= LC; k++) {
        free(data[k]);
    }
    free(pixels);
    us_model_release(m);
}

// Latents that are nothing but noise: patches that lie a whole number of top cells apart draw the same noise
// where they overlap (design 4).
static void test_noise_is_keyed_by_position(void **state)
{
    (void)state;
    enum { P = 32, LEVELS = 3 };
    usplit_model *m = make_model(make_context(1), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, LEVELS, P);
    const us_graph *g = m->graph;
    for (int i = 0; i < g->n_params; i++) {
        if (strstr(g->params[i].name, "conv_in_q")) {
            memset(m->params + g->params[i].offset, 0, (size_t)g->params[i].count * sizeof(float));
        }
    }
    us_plan *plan;
    us_exec *exec[2];
    us_plan_options o = {.mode = US_PLAN_PREDICT, .batch = 1, .outputs = g->latent, .n_outputs = LEVELS};
    assert_ok(us_plan_build(&plan, NULL, g, &o));
    float *pixels = random_pixels(80 * 80), *data[US_MAX_LC];
    us_plane levels[US_MAX_LC];
    make_pyramid(levels, data, LEVELS, pixels, 80, 80, 900);
    const int64_t place[2][2] = {{-8, -8}, {8, -24}};      // the top cell is 16 pixels
    for (int i = 0; i < 2; i++) {
        given_patch p = {levels, LEVELS, P, place[i][0], place[i][1]};
        us_run run = {.seed = 5, .step = 2, .tile_y = p.y, .tile_x = p.x, .fill = fill_given, .user = &p};
        const float *head;
        assert_ok(us_backend_cpu.compile(&exec[i], m->context, plan, 1));
        assert_ok(us_backend_cpu.prepare(exec[i], m->params));
        assert_ok(us_backend_cpu.predict(exec[i], 0, &run, &head));
    }
    for (int k = 0; k < LEVELS; k++) {
        const us_node *z = &g->nodes[g->latent[k]];
        const float *a = us_backend_cpu.output(exec[0], 0, g->latent[k]);
        const float *b = us_backend_cpu.output(exec[1], 0, g->latent[k]);
        int dy = 16 >> (k + 1), dx = -dy, seen = 0;        // b's corner in a's cells
        for (int y = 0; y < z->h; y++) {
            for (int x = 0; x < z->w; x++) {
                if (y + dy < z->h && x + dx >= 0) {
                    assert_memory_equal(a + ((y + dy) * z->w + x + dx) * z->c, b + (y * z->w + x) * z->c,
                                        (size_t)z->c * sizeof *a);
                    assert_true(b[(y * z->w + x) * z->c] != 0);
                    seen++;
                }
            }
        }
        assert_true(seen > 0);
    }
    for (int i = 0; i < 2; i++) {
        us_backend_cpu.release(exec[i]);
    }
    for (int k = 0; k <= LEVELS; k++) {
        free(data[k]);
    }
    us_plan_free(plan);
    us_model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_counts),
        cmocka_unit_test(test_patches_equal_whole_planes),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_thin_images),
        cmocka_unit_test(test_memory_does_not_grow_with_height),
        cmocka_unit_test(test_plan_holds_what_runs),
        cmocka_unit_test(test_bands_ask_for_no_memory),
        cmocka_unit_test(test_refused_allocations),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_bad_pixels),
        cmocka_unit_test(test_integer_frames),
        cmocka_unit_test(test_threads_and_streams),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_pad_sweep),
        cmocka_unit_test(test_noise_is_keyed_by_position),
    };
    return cmocka_run_group_tests_name("tiler", tests, NULL, NULL);
}
