// The tiler with the CPU backend and small random networks: memory, the same bits for any number of threads,
// tiles against patches predicted whole and alone, noise keyed by position.
#include "property/tiler_case.h"

// ---- Memory -----------------------------------------------------------------------------------------

// What a run holds stays within the plan's bytes; 64 KiB are allowed for bookkeeping of the backend.
static void check_plan_holds(int shifts, int patch)
{
    usplit_model *m = make_model(make_context(2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 32);
    live_range l = {.before = us_alloc_live()};
    usplit_tiler_options o = make_options(0, -1, 0);
    o.shifts = shifts;
    o.deviations = shifts > 1;
    o.patch = patch;
    usplit_tiler *t = make_tiler(m, &o);
    int64_t h = 150, w = 203, bytes = plan_bytes(t, h, w);
    float *pixels = random_pixels(h * w);
    stream s = make_stream(pixels, h, w, t->planes);
    usplit_tiler_result r = {.struct_size = sizeof r};
    size_t idle = us_alloc_live();
    assert_ok(run_stream(t, &s, &r, watch_live, &l));
    assert_int_equal(us_alloc_live(), idle);
    assert_true(l.reports >= 1 && l.last_done == l.total && l.seconds_left == 0);
    assert_true(r.peak_bytes <= bytes && r.peak_bytes > 0);
    print_message("# plan %lld, live %zu\n", (long long)bytes, l.most - l.before);
    assert_true(l.most - l.before <= (size_t)bytes + (1 << 16));
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, h, w, &c));
    assert_true(c.seconds > 0 && c.seconds < 600);
    free(s.out);
    free(pixels);
    usplit_tiler_free(t);
    us_model_release(m);
    assert_int_equal(us_alloc_live(), 0);
}

static void test_plan_holds_what_runs(void **state)
{
    (void)state;
    check_plan_holds(0, 0);
    check_plan_holds(3, 40);
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
    usplit_context_options o = {.struct_size = sizeof o, .threads = threads, .device = "cpu",
                                .alloc = hook_alloc, .release = hook_release, .alloc_user = k};
    assert_ok(usplit_context_create(&c, &o));
    return c;
}

// With a budget the bytes are reckoned from two small executables: the same as of the one that runs.
static void test_budget_reckons_right(void **state)
{
    (void)state;
    usplit_model *m = make_model(make_context(4), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 2, 32);
    usplit_tiler_options o = make_options(0, -1, 0);
    usplit_tiler *free_one = make_tiler(m, &o);
    o.memory_budget = (int64_t)1 << 40;
    usplit_tiler *bound = make_tiler(m, &o);
    int64_t bytes = plan_bytes(bound, 90, 80), none = plan_bytes(free_one, 90, 80);
    assert_true(llabs(bytes - none) <= 1024);
    float *pixels = random_pixels(90 * 80), *expected = run_planes(free_one, pixels, 1, 90, 80, NULL);
    usplit_tiler_free(bound);
    o.memory_budget = bytes - 1;
    bound = make_tiler(m, &o);
    usplit_tiler_cost c = {.struct_size = sizeof c};
    usplit_tiler_result r = {.struct_size = sizeof r};
    assert_ok(usplit_tiler_plan(bound, 90, 80, &c));
    assert_int_equal(c.workers, 3);
    float *out = run_planes(bound, pixels, 1, 90, 80, &r);
    assert_true(r.peak_bytes <= c.host_bytes && c.host_bytes < bytes);
    assert_memory_equal(out, expected, 2 * 90 * 80 * sizeof *out);
    free(out);
    free(expected);
    free(pixels);
    usplit_tiler_free(free_one);
    usplit_tiler_free(bound);
    us_model_release(m);
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

// ---- Numbers --------------------------------------------------------------------------------------

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
            int family = v == 3 ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
            usplit_model *m = make_model(make_context(threads), family, variants[v], 2, 16);
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

typedef struct side {
    usplit_tiler *tiler;
    float *pixels, *out;
} side;

static void *run_side(void *user)
{
    side *s = user;
    for (int i = 0; i < 3; i++) {
        free(s->out);
        s->out = run_planes(s->tiler, s->pixels, 1, 50, 40, NULL);
    }
    return NULL;
}

// Two tilers of one model, each on its own thread.
static void test_tilers_side_by_side(void **state)
{
    (void)state;
    begin_case(1);
    usplit_model *m = make_model(make_context(2), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
    float *pixels = random_pixels(50 * 40);
    side sides[2] = {{.pixels = pixels}, {.pixels = pixels}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        sides[i].tiler = make_tiler(m, NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, run_side, &sides[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        usplit_tiler_free(sides[i].tiler);
    }
    assert_memory_equal(sides[0].out, sides[1].out, 2 * 50 * 40 * sizeof *pixels);
    free(sides[0].out);
    free(sides[1].out);
    free(pixels);
    us_model_release(m);
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
            assert_ok(t->backend->predict(exec, 0, 1, &run, &head));
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

// A network for whole patches of the tiler's size, to predict them one at a time.
static us_exec *whole_patches(const usplit_tiler *t, us_plan **plan)
{
    us_exec *exec;
    us_plan_options whole = {.mode = US_PLAN_PREDICT, .batch = 1};
    assert_ok(us_plan_build(plan, NULL, t->plan->graph, &whole));
    assert_ok(t->backend->compile(&exec, t->context, *plan, 1));
    assert_ok(t->backend->prepare(exec, t->model->params));
    return exec;
}

// The values of pixel (y, x): one per pass, from the tile of the pass's grid that holds it.
static void values_of(const usplit_tiler *t, us_exec *exec, const us_tile_grid *g, const us_plane *levels, int coarsest,
                      int64_t y, int64_t x, double (*values)[2])
{
    for (int pass = 0; pass < g->shifts * t->samples; pass++) {
        us_tile_shift s = us_tile_grid_shift(g, pass / t->samples);
        int64_t row = (y + s.y) / g->inner, column = (x + s.x) / g->inner;
        given_patch patch = {levels, coarsest, g->patch, row * g->inner - s.y - g->pad,
                             column * g->inner - s.x - g->pad};
        us_run run = {.seed = 9, .step = pass, .mean_latents = t->mean_latents, .tile_y = patch.y, .tile_x = patch.x,
                      .fill = fill_given, .user = &patch};
        const float *head;
        assert_ok(t->backend->predict(exec, 0, 1, &run, &head));
        for (int c = 0; c < 2; c++) {
            values[pass][c] = head[((y - patch.y) * g->patch + x - patch.x) * 4 + c];
        }
    }
}

// Compares what the tiler wrote for pixel (y, x) with the mean, and deviation, of its values; returns the deviation.
static double check_pixel(const usplit_tiler *t, const float *out, int64_t n_pixels, int64_t pixel,
                          double (*values)[2], double *worst)
{
    double deviation = 0;
    int passes = t->samples * t->shape.shifts;
    for (int c = 0; c < 2; c++) {
        double mean = 0, square = 0;
        for (int p = 0; p < passes; p++) {
            mean += values[p][c] / passes;
        }
        for (int p = 0; p < passes; p++) {
            square += (values[p][c] - mean) * (values[p][c] - mean);
        }
        *worst = fmax(*worst, fabs((100 + 20 * c) * mean + 300 + 50 * c - out[c * n_pixels + pixel]));
        if (t->options.deviations) {
            deviation = (100 + 20 * c) * sqrt(square / (passes - 1));
            *worst = fmax(*worst, fabs(deviation - out[(2 + c) * n_pixels + pixel]));
        }
    }
    return deviation;
}

// Patches of other sizes than the training's, shifted grids, deviations: a pixel is the mean, and the deviation, of
// what whole patches, predicted alone, have there.
static void test_patches_and_shifts(void **state)
{
    (void)state;
    enum { H = 45, W = 38, LC = 2 };
    static const struct {
        int family, variant, patch, pad, shifts, samples;
    } cases[] = {
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 20, 3, 3, 2},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, 4, 5, 1},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 24, 4, 1, 3},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_LEAN, 48, 0, 2, 1},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA, 17, 3, 4, 1},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_VANILLA, 45, 0, 1, 1},
    };
    double worst = 0, most = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_case((uint32_t)i);
        usplit_model *m = make_model(make_context(2), cases[i].family, cases[i].variant, LC, 16);
        usplit_tiler_options o = make_options(0, cases[i].pad, 0);
        o.patch = cases[i].patch;
        o.shifts = cases[i].shifts;
        o.samples = cases[i].samples;
        o.seed = 9;
        o.deviations = o.shifts * o.samples > 1;
        usplit_tiler *t = make_tiler(m, &o);
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, H, W, &l));
        float *pixels = random_pixels(H * W), *data[US_MAX_LC], *copy = malloc(H * W * sizeof *copy);
        memcpy(copy, pixels, H * W * sizeof *copy);
        us_plane levels[US_MAX_LC];
        int coarsest = cases[i].variant == USPLIT_VARIANT_VANILLA ? 0 : LC;
        make_pyramid(levels, data, coarsest, copy, H, W, 900);
        float *out = run_planes(t, pixels, 1, H, W, NULL);
        us_plan *plan;
        us_exec *exec = whole_patches(t, &plan);
        for (int n = 0; n < 8; n++) {
            double values[16][2];
            int64_t y = n < 2 ? n * (H - 1) : draw(0, H - 1), x = n < 2 ? n * (W - 1) : draw(0, W - 1);
            values_of(t, exec, &l.grid, levels, coarsest, y, x, values);
            most = fmax(most, check_pixel(t, out, H * W, y * W + x, values, &worst));
        }
        t->backend->release(exec);
        us_plan_free(plan);
        for (int k = 0; k <= coarsest; k++) {
            free(data[k]);
        }
        free(out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
    print_message("# worst difference %.2e grey levels of about 300, largest deviation %.2e\n", worst, most);
    assert_true(worst <= 3e-3 && most > 1);
}

// Several grids: the same bits for any number of threads and budget, so wherever bands end, and streamed; one grid is
// none, and the training's patch is the usual one.
static void test_shifts_repeat(void **state)
{
    (void)state;
    begin_case(1);
    int64_t h = 83, w = 37;
    size_t bytes = (size_t)(4 * h * w) * sizeof(float);
    float *pixels = random_pixels(h * w), *first = NULL, *plain = NULL;
    int64_t bands = 0;
    for (int i = 0; i < 5; i++) {
        int threads = i < 3 ? 1 << i : 4, one = i == 4;
        usplit_model *m = make_model(make_context(threads), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
        usplit_tiler_options o = make_options(0, -1, 0);
        o.seed = 42;
        o.samples = 2;
        o.shifts = one ? 1 : 5;
        o.deviations = !one;
        o.patch = one ? 16 : 0;
        usplit_tiler *t = make_tiler(m, &o);
        if (i == 3) {                   // fewer workers, so another height of bands
            o.memory_budget = plan_bytes(t, h, w) - 1;
            usplit_tiler_free(t);
            t = make_tiler(m, &o);
        }
        us_tile_layout l;
        assert_ok(us_tiler_layout(t, h, w, &l));
        bands |= (int64_t)1 << l.band_rows;
        stream s = make_stream(pixels, h, w, t->planes);
        assert_ok(run_stream(t, &s, NULL, NULL, NULL));
        assert_true(!first || one || memcmp(first, s.out, bytes) == 0);
        if (one) {
            usplit_tiler_options usual = make_options(0, -1, 0);
            usual.seed = 42;
            usual.samples = 2;
            usplit_tiler *u = make_tiler(m, &usual);
            plain = run_planes(u, pixels, 1, h, w, NULL);
            assert_memory_equal(plain, s.out, bytes / 2);
            assert_true(memcmp(plain, first, bytes / 2) != 0);
            usplit_tiler_free(u);
        }
        if (first) {
            free(s.out);
        } else {
            first = s.out;
        }
        usplit_tiler_free(t);
        us_model_release(m);
    }
    assert_true((bands & (bands - 1)) != 0);    // of several heights
    free(first);
    free(plain);
    free(pixels);
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
        assert_ok(us_backend_cpu.predict(exec[i], 0, 1, &run, &head));
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
        cmocka_unit_test(test_plan_holds_what_runs),
        cmocka_unit_test(test_bands_ask_for_no_memory),
        cmocka_unit_test(test_refused_allocations),
        cmocka_unit_test(test_budget_reckons_right),
        cmocka_unit_test(test_threads_and_streams),
        cmocka_unit_test(test_tilers_side_by_side),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_pad_sweep),
        cmocka_unit_test(test_patches_and_shifts),
        cmocka_unit_test(test_shifts_repeat),
        cmocka_unit_test(test_noise_is_keyed_by_position),
    };
    return cmocka_run_group_tests_name("tiler, networks", tests, NULL, NULL);
}
