// The tiler with a backend that hands the patch back ("identity network"): grid, windows of rows, streaming,
// keys of the noise, budget, cancel, bad input. The numbers of real networks are in test_tiler_network.c.
#include "property/tiler_case.h"

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
    atomic_int n, wrong_worker, wrong_key;
    int32_t seen[MAX_SEEN][3];          // tile_y, tile_x, sample
    uint64_t seed;                      // expected
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
    e->worker_floats = plan->options.batch * hw * (US_MAX_LC + 2 * g->config.channels);
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
static usplit_status fake_one(us_exec *e, float *memory, const us_run *run, const float **head)
{
    const us_graph *g = e->plan->graph;
    int64_t size = g->size, k = g->config.channels;
    us_rect want = e->plan->options.want;
    float *dst = memory + US_MAX_LC * size * size;
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
    if (run->seed != fake.seed || run->mean_latents || run->noise) {
        atomic_store(&fake.wrong_key, 1);
    }
    *head = dst;
    if (fake.fail_after && i + 1 >= fake.fail_after) {
        US_FAIL(USPLIT_ERR_BACKEND, "pass %d failed", i);
    }
    return USPLIT_OK;
}

static usplit_status fake_predict(us_exec *e, int worker, int n, const us_run *runs, const float **heads)
{
    int batch = e->plan->options.batch;
    if (worker < 0 || worker >= e->workers || n < 1 || n > batch || atomic_exchange(&e->busy[worker], 1)) {
        atomic_store(&fake.wrong_worker, 1);
        US_FAIL(USPLIT_ERR_INTERNAL, "worker %d", worker);
    }
    usplit_status status = USPLIT_OK;
    for (int i = 0; i < n && status == USPLIT_OK; i++) {
        float *memory = e->memory + (worker * batch + i) * (e->worker_floats / batch);
        status = fake_one(e, memory, &runs[i], &heads[i]);
    }
    atomic_store(&e->busy[worker], 0);
    return status;
}

static int64_t fake_bytes(const us_exec *e)
{
    return (int64_t)sizeof *e + e->workers * e->worker_floats * 4;
}

static us_backend fake_backend = {
    .name = "fake",
    .tile_batch = 1,
    .compile = fake_compile,
    .release = fake_release,
    .prepare = fake_prepare,
    .predict = fake_predict,
    .bytes = fake_bytes,
};

// Regular has lateral context at all levels; Vanilla none.
static usplit_model *make_fake(int threads, int variant, int levels, int patch)
{
    usplit_context *c = make_context(threads);
    c->backend = &fake_backend;
    usplit_model *m = make_model(c, USPLIT_FAMILY_HVAE, variant, levels, patch);
    atomic_store(&fake.n, 0);
    atomic_store(&fake.wrong_worker, 0);
    atomic_store(&fake.wrong_key, 0);
    fake.seed = 0;
    fake.fail_after = 0;
    return m;
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

// One axis of a crop centred between pixels: the two pixels that place i lies between and the share of the second, by
// the middle's share of the axis and a walk that turns round at the ends of what is inside; -1: outside, constant.
static double between(int64_t start, int patch, int64_t i, int64_t native, int64_t n, int reflect, int64_t at[2])
{
    double centre = (double)(start + patch / 2) * (double)n / (double)native, whole = floor(centre + 1e-9);
    double share = centre - whole < 1e-9 ? 0 : centre - whole;
    int64_t first = (int64_t)whole - patch / 2, end = first + patch + (share > 0);
    int64_t low = first > 0 ? first : 0, high = end < n ? end : n;
    if (low >= high) {                  // wholly outside: the nearest pixel
        low = end <= 0 ? 0 : n - 1;
        at[0] = at[1] = reflect ? low : -1;
        return share;
    }
    for (int k = 0; k < 2; k++) {
        int64_t p = first + i + k, step = p < low ? 1 : -1;
        at[k] = p;
        if (p >= low && p < high) {
            continue;
        }
        at[k] = reflect ? (p < low ? low : high - 1) : -1;
        for (int64_t left = reflect && high - low > 1 ? (p < low ? low - p : p - high + 1) : 0; left > 0; left--) {
            step = at[k] + step < low || at[k] + step >= high ? -step : step;
            at[k] += step;
        }
    }
    return share;
}

static double exact_pixel(us_plane level, us_plane native, int64_t y, int64_t x, int patch, int64_t i, int64_t j,
                          const usplit_model_normalisation *n)
{
    int64_t rows[2], columns[2];
    int reflect = n->padding == USPLIT_PADDING_REFLECT;
    double down = between(y, patch, i, native.height, level.height, reflect, rows), sum = 0;
    double right = between(x, patch, j, native.width, level.width, reflect, columns);
    for (int k = 0; k < 4; k++) {
        int64_t row = rows[k / 2], column = columns[k % 2];
        double share = (k / 2 ? down : 1 - down) * (k % 2 ? right : 1 - right);
        double grey = row < 0 || column < 0 ? n->padding_value
                      : share > 0 ? (double)level.data[row * level.width + column] : 0;
        sum += share * grey;
    }
    return (sum - n->input_mean) / n->input_deviation;
}

// The patches cut from windows of rows are those of whole planes, for every tile and level.
static void patches_equal_whole_planes(int exact)
{
    for (uint32_t seed = 1; seed <= 60; seed++) {
        begin_case(seed);
        int coarsest = (int)draw(0, 4), patch = 2 * (int)draw(4, 12), pad = (int)draw(0, patch / 2 - 1);
        int64_t least = (int64_t)1 << coarsest, h = draw(least, seed % 3 ? 160 : 20 + least);
        int64_t w = draw(least, 90 + least), band_rows = draw(1, 3);
        us_tile_grid g = {.patch = patch, .inner = patch - 2 * pad, .pad = pad, .exact = exact};
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
                    for (int64_t p = 0; exact && p < (int64_t)n_floats; p++) {
                        double want = exact_pixel(levels[k], levels[0], y, x, g.patch, p / g.patch, p % g.patch, &n);
                        assert_true(fabs((double)ours[p] - want) <= 1e-5);  // grey levels to 900, deviation 250
                    }
                    if (exact) {
                        continue;
                    }
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

static void test_patches_equal_whole_planes(void **state)
{
    (void)state;
    patches_equal_whole_planes(0);
}

static void test_exact_patches_equal_whole_planes(void **state)
{
    (void)state;
    patches_equal_whole_planes(1);
}

// ---- Identity network -------------------------------------------------------------------------------

static int compare_seen(const void *a, const void *b)
{
    return memcmp(a, b, sizeof fake.seen[0]);
}

// Every pass of every grid once, with its own place and number.
static void check_passes(const us_tile_grid *g, int samples)
{
    int n = atomic_load(&fake.n);
    assert_int_equal(n, g->tiles * samples);
    assert_true(n <= MAX_SEEN);
    qsort(fake.seen, (size_t)n, sizeof fake.seen[0], compare_seen);
    for (int i = 0; i < n; i++) {
        assert_true(i == 0 || memcmp(fake.seen[i - 1], fake.seen[i], sizeof fake.seen[0]) != 0);
        assert_true(fake.seen[i][2] >= 0 && fake.seen[i][2] < samples * g->shifts);
        us_tile_shift s = us_tile_grid_shift(g, fake.seen[i][2] / samples);
        int64_t y = fake.seen[i][0] + g->pad + s.y, x = fake.seen[i][1] + g->pad + s.x;
        assert_true(y >= 0 && x >= 0 && y % g->inner == 0 && x % g->inner == 0);
        assert_true(y / g->inner < s.rows && x / g->inner < s.columns);
    }
}

// Every pixel had every pass once. With deviations, the values of a pixel are some number + 0, 1, ..., passes - 1.
static void check_identity(const usplit_model *m, const float *in, const float *out, const us_tile_grid *g,
                           int passes)
{
    const usplit_model_normalisation *n = &m->normalisation;
    int64_t hw = g->height * g->width;
    for (int64_t p = 0; p < hw * m->graph->config.channels; p++) {
        int64_t c = p / hw, y = p % hw / g->width, x = p % g->width;
        double clipped = fmin((double)in[p % hw], n->clip_value);
        double net = (clipped - n->input_mean) / n->input_deviation * (double)(c + 1) + 0.5 * (passes - 1);
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
        fake_backend.tile_batch = 1 + (int)(seed % 4);      // tiles a worker takes at a time
        int levels = (int)draw(1, 3), lateral = (int)draw(0, 1), patch = 8 * (int)draw(1, 4);
        int outer = (int)draw(0, 3) == 0, cover = (int)draw(0, 1), samples = (int)draw(1, 4);
        int pad = outer ? 4 * (int)draw(0, 2) : (int)draw(0, patch / 2 - 1);
        int least = lateral ? 1 << levels : 1, inner = outer ? patch : patch - 2 * pad;
        int64_t low = cover && inner > least ? inner : least;
        int64_t h = draw(low, 50 + low), w = draw(low, 70 + low);
        int variant = lateral ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA;
        usplit_model *m = make_fake((int)draw(1, 4), variant, levels, patch);
        usplit_tiler_options o = make_options(outer, pad, cover);
        o.samples = samples;
        o.seed = fake.seed = 1234567890123u + seed;
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
        assert_false(atomic_load(&fake.wrong_key));
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

static void check_deviations(const usplit_model *m, const float *out, const us_tile_grid *g, int passes)
{
    int64_t hw = g->height * g->width, channels = m->graph->config.channels;
    double n = passes, spread = sqrt(n * (n + 1) / 12);
    for (int64_t p = 0; p < hw * channels; p++) {
        double expected = m->normalisation.target_deviation[p / hw] * spread;
        assert_true(fabs(out[hw * channels + p] - expected) <= 1e-5 * expected);    // a few roundings of float
    }
}

// Several grids: every pixel is covered by each of them once, bands and deviations included.
static void test_shifted_grids(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        begin_case(seed);
        fake_backend.tile_batch = 1 + (int)(seed % 3);
        int levels = (int)draw(1, 3), lateral = (int)draw(0, 1), least = lateral ? 1 << levels : 1;
        int pad = (int)draw(0, 7), samples = (int)draw(1, 3);
        int64_t h = draw(least, seed % 4 ? 90 + least : 9 + least), w = draw(least, seed % 5 ? 40 + least : 9 + least);
        usplit_model *m = make_fake((int)draw(1, 4), lateral ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA, levels,
                                    16);
        usplit_tiler_options o = make_options(0, pad, 0);
        o.samples = samples;
        o.seed = fake.seed = seed;
        o.patch = 16 + 8 * (int32_t)draw(0, 2);     // of the training or larger
        int inner = o.patch - 2 * pad;
        o.shifts = (int32_t)draw(1, inner < 7 ? inner : 7);
        int passes = samples * o.shifts;
        o.deviations = passes > 1 && draw(0, 1);
        usplit_tiler *t = make_tiler(m, &o);
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, h, w, &l));
        float *pixels = random_pixels(h * w);
        stream s = make_stream(pixels, h, w, o.deviations ? 4 : 2);
        usplit_tiler_result r = {.struct_size = sizeof r};
        usplit_tiler_cost c = {.struct_size = sizeof c};
        assert_ok(usplit_tiler_plan(t, h, w, &c));
        assert_ok(run_stream(t, &s, &r, NULL, NULL));
        assert_false(atomic_load(&fake.wrong_worker) || atomic_load(&fake.wrong_key));
        assert_true(s.next_row == h && s.rows_read == h);
        assert_true(r.tiles == l.grid.tiles && r.passes == r.tiles * samples);
        assert_true(c.tiles == r.tiles && c.passes == r.passes && c.patch == o.patch && c.inner == inner);
        assert_int_equal(r.peak_bytes, c.host_bytes);
        check_passes(&l.grid, samples);
        check_identity(m, pixels, s.out, &l.grid, passes);
        if (o.deviations) {
            check_deviations(m, s.out, &l.grid, passes);
        }
        free(s.out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
    fake_backend.tile_batch = 1;
}

// Borders of S grids: no line twice, evenly spaced, on both axes.
static void test_shifts_are_even(void **state)
{
    (void)state;
    for (int inner = 1; inner <= 64; inner++) {
        for (int n = 1; n <= inner; n++) {
            us_tile_grid g = {.inner = inner, .shifts = n, .height = 100, .width = 100};
            int rows[64] = {0}, columns[64] = {0};
            for (int s = 0; s < n; s++) {
                us_tile_shift shift = us_tile_grid_shift(&g, s);
                assert_true(shift.y >= 0 && shift.y < inner && shift.x >= 0 && shift.x < inner);
                assert_true(!rows[shift.y]++ && !columns[shift.x]++);
                assert_int_equal(shift.y, s * inner / n);
            }
            for (int at = 0, last = 0; at < inner; at++) {
                last = columns[at] ? at : last;
                assert_true(at - last < (inner + n - 1) / n);
            }
        }
    }
}

// Larger patches are fewer at a time, unless a number is asked for; that is never more than the backend takes.
static void test_batches_shrink_with_patches(void **state)
{
    (void)state;
    const struct {
        int patch, asked, batch;
    } cases[] = {{16, 0, 100}, {64, 0, 100}, {128, 0, 25}, {192, 0, 11}, {1024, 0, 1}, {1024, 7, 7}, {16, 3, 3}, {16, 1000, 100}};
    fake_backend.tile_batch = 100;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_case((uint32_t)i);
        usplit_model *m = make_fake(1, USPLIT_VARIANT_VANILLA, 2, 16);
        usplit_tiler_options o = make_options(0, 0, 0);
        o.patch = cases[i].patch;
        o.batch = cases[i].asked;
        usplit_tiler *t = make_tiler(m, &o);
        usplit_tiler_cost c = {.struct_size = sizeof c};
        assert_ok(usplit_tiler_plan(t, 50, 60, &c));
        assert_int_equal(c.batch, cases[i].batch);
        usplit_tiler_free(t);
        us_model_release(m);
    }
    fake_backend.tile_batch = 1;
}

// One row, one column, one pixel: legal without lateral context.
static void test_thin_images(void **state)
{
    (void)state;
    fake_backend.tile_batch = 1;
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

static void test_budget(void **state)
{
    (void)state;
    usplit_model *m = make_fake(4, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler_options o = make_options(0, -1, 0);
    usplit_tiler *t = make_tiler(m, &o);
    int64_t h = 90, w = 300, most = plan_bytes(t, h, w);
    int64_t worker = t->exec->worker_floats * 4, own = t->own_bytes;
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
    o.memory_budget = own + (int64_t)sizeof(struct us_exec) + worker + 10000;
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

static void run_callbacks(int shifts)
{
    usplit_model *m = make_fake(2, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler_options o = make_options(0, -1, 0);
    o.shifts = shifts;
    usplit_tiler *t = make_tiler(m, &o);
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
    check_identity(m, pixels, s.out, &l.grid, shifts ? shifts : 1);
    assert_ok(run_stream(t, &s, NULL, free_it, &t));    // freed while it runs
    assert_null(t);
    free(s.out);
    free(pixels);
    us_model_release(m);
    assert_int_equal(us_alloc_live(), 0);
}

static void test_callbacks(void **state)
{
    (void)state;
    run_callbacks(0);
    run_callbacks(3);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_counts),
        cmocka_unit_test(test_patches_equal_whole_planes),
        cmocka_unit_test(test_exact_patches_equal_whole_planes),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_shifted_grids),
        cmocka_unit_test(test_shifts_are_even),
        cmocka_unit_test(test_batches_shrink_with_patches),
        cmocka_unit_test(test_thin_images),
        cmocka_unit_test(test_memory_does_not_grow_with_height),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_bad_pixels),
        cmocka_unit_test(test_integer_frames),
    };
    return cmocka_run_group_tests_name("tiler", tests, NULL, NULL);
}
