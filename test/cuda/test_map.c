// The interpreter of elementwise programs (map.cu) against the CPU's on random programs, its sums against sums in
// double, in any order of the blocks.
#include "map_run.h"

enum { ROUNDS = 160 };

// ---- Tests ----

static int64_t shared_bytes_of(const us_cu_program *p)
{
    return p->n_ops * (int64_t)sizeof(us_cu_op) + p->threads * (8 + (int64_t)p->rows * p->lanes * 4);
}

// What us_cu_map_shape promises, for a device of any size.
static void check_shape(const us_cu_program *p, int64_t shared_bytes)
{
    int64_t bytes = shared_bytes_of(p);
    int groups = p->c / p->lanes, at_once = groups < p->threads ? p->threads / groups : 1;
    int rounds = (p->h * p->w + at_once - 1) / at_once, each = (rounds + p->blocks - 1) / p->blocks;
    assert_true(p->threads >= 32 && p->threads <= 512 && p->threads % 32 == 0);
    assert_true(bytes <= shared_bytes && (p->threads <= 64 || 2 * bytes <= shared_bytes));
    assert_true(p->blocks >= 1 && (p->blocks - 1) * each < rounds);     // no block without pixels
}

// Any threads and blocks must do, also more blocks than there are pixels. threads != 0: that many.
static void choose_shape(const map_case *m, us_cu_program *p)
{
    if (p->threads) {
        p->blocks = 1 + below(4);
    } else if (below(2)) {
        us_cu_map_shape(p, m->batch, 1 + below(8), 65536);
        check_shape(p, 65536);
    } else {
        p->threads = 32 * (1 + below(3));
        p->threads = shared_bytes_of(p) > 65536 ? 32 : p->threads;
        p->blocks = 1 + below(12);
    }
}

// The CPU's values; then the device's in another order and with chained registers: the same bits each time.
static void check_case(const map_case *m, int seed)
{
    us_cu_program p = m->shape, chained = m->shape;
    us_cu_op ops[MOST_OPS];
    size_t arena = (size_t)(m->batch * m->sample_floats) * sizeof(float);
    float *want = room(arena);
    double *sums = room((size_t)(m->batch * m->n_sums) * sizeof *sums);
    map_run runs[3];
    choose_shape(m, &p);
    memcpy(want, m->arena, arena);
    run_cpu(m, want, sums);
    memcpy(ops, m->ops, sizeof ops);
    int registers = us_cu_map_chain(ops, p.n_ops);
    assert_true(registers <= m->program.n_regs);
    number_rows(ops, &chained, registers);
    chained.threads = p.threads, chained.blocks = p.blocks;
    for (int i = 0; i < 3; i++) {
        runs[i] = run_begin(m, 1, 1);
        runs[i].grads[0] = 0;
        us_emulate_shuffle((uint64_t)(seed * i));
        run_device(m, i == 2 ? &chained : &p, i == 2 ? ops : m->ops, NULL, &runs[i]);
    }
    compare_arena(m, want, runs[0].arena);
    compare_sums(m, sums, runs[0].sums);
    same_bits(m, &runs[0], &runs[1]);
    same_bits(m, &runs[0], &runs[2]);
    for (int i = 0; i < 3; i++) {
        run_free(&runs[i]);
    }
    free(sums);
    free(want);
}

static void test_random_programs(void **state)
{
    int seen[US_U_COUNT] = {0};
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        map_case *m = random_case(round);
        for (int i = 0; i < m->program.n_ops; i++) {
            seen[m->uops[i].code]++;
        }
        check_case(m, round + 1);
        case_free(m);
    }
    for (int i = 0; i < US_U_COUNT; i++) {
        if (seen[i] < 4) {
            fail_msg("operation %d was tried %d times only", i, seen[i]);
        }
    }
}

// More channel groups than threads, or nearly as many: passes of different width; sums of each channel.
static void test_wide_programs(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        begin_round(round);
        int lanes = round % 2 ? 1 : 8;
        map_case *m = case_begin(2, 1 + round % 2, 0, lanes, lanes * (31 + 9 * round), 3, 5);
        push_load(m);
        push_load(m);
        push_compute(m, US_U_ADD);
        push_sum(m, US_U_SUM2);
        push_store(m);
        push_sum(m, US_U_SUM);
        case_end(m);
        m->shape.threads = 32;
        check_case(m, round + 1);
        case_free(m);
    }
}

// Chained registers: none for a chain, and one for a value that waits.
static void test_chain(void **state)
{
    (void)state;
    us_cu_op chain[4] = {{.code = US_U_LOAD, .dst = 5}, {.code = US_U_ELU, .dst = 3, .in = {5}},
                         {.code = US_U_MUL, .dst = 9, .in = {3, 3}}, {.code = US_U_STORE, .dst = -1, .in = {9}}};
    assert_int_equal(us_cu_map_chain(chain, 4), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(chain[i].dst, -1);
    }
    us_cu_op waits[5] = {{.code = US_U_LOAD, .dst = 0}, {.code = US_U_ELU, .dst = 1, .in = {0}},
                         {.code = US_U_ADD, .dst = 0, .in = {0, 1}}, {.code = US_U_STORE, .dst = -1, .in = {0}},
                         {.code = US_U_SUM2, .dst = -1, .in = {0, 0}}};
    assert_int_equal(us_cu_map_chain(waits, 5), 1);
    assert_true(waits[0].dst == 0 && waits[1].dst == -1 && waits[1].in[0] == US_CU_LAST);
    assert_true(waits[2].in[0] == 0 && waits[2].in[1] == US_CU_LAST && waits[2].dst == -1);
    assert_true(waits[3].in[0] == US_CU_LAST && waits[4].in[0] == US_CU_LAST && waits[4].in[1] == US_CU_LAST);
}

// Every draw is us_draw_normal4's. Roundings saved are few, but the largest draws are near 6.
static void test_noise(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        begin_round(round);
        int lanes = round % 2 ? 8 : 1;
        map_case *m = case_begin(3, 2, 0, lanes, lanes == 8 ? 16 : 7, 5, 4);
        map_value v = {.bound = 6};
        push(m, (us_uop){.code = US_U_NOISE, .ref = 2, .oy = 1, .ox = 2}, &v);
        push_store(m);
        case_end(m);
        m->mean_latents = round == 4;
        m->given = round == 2 || round == 3 ? 4 : 0;
        choose_shape(m, &m->shape);
        map_run r = run_begin(m, 0, 0);
        run_device(m, &m->shape, m->ops, NULL, &r);
        const us_tensor *t = &m->tensors[0];
        for (int i = 0; i < m->active * 20 * m->program.c; i++) {
            int c = i % m->program.c, x = i / m->program.c % 4, y = i / m->program.c / 4 % 5, s = i / m->program.c / 20;
            const us_cu_sample *sample = &m->samples[s];
            float draws[4], want;
            us_draw_normal4(sample->stream, sample->y[2] + y + 1, sample->x[2] + x + 2, (uint32_t)c / 4, 2, draws);
            want = m->given ? m->noise[2][((s * m->noise_h + y + 1) * m->noise_w + x + 2) * m->program.c + c]
                            : m->mean_latents ? 0 : draws[c % 4];
            same_value(r.arena[s * m->sample_floats + t->offset + (y * 4 + x) * t->c + m->uops[1].c0 + c], want,
                       64 * UNIT);
        }
        run_free(&r);
        case_free(m);
    }
}

// ---- Finishes ----

enum { FINISH_C = 24, GAMMA = 40, BETA = 80, BIAS = 120, N_GRADS = 160, COEFFICIENTS = 7 };

// Two tensors x and g: statistics of x, gradient sums g and g * x, sum of g. Values of x lie around `centre`.
static map_case *finish_case(int lanes, int batch, int active, float centre, float spread)
{
    map_case *m = case_begin(batch, active, 0, lanes, FINISH_C, 9, 13);
    us_program *p = &m->program;
    map_value v = {.bound = fabs((double)centre) + spread, .exact = 1};
    for (int i = 0; i < 2; i++) {
        int t = add_tensor(m, FINISH_C, p->h, p->w);
        place_tensor(m, push(m, (us_uop){.code = US_U_LOAD, .ref = t}, &v), t);
    }
    const int in[3][2] = {{0, 0}, {1, 0}, {1, 1}}, code[3] = {US_U_SUM2, US_U_SUM2, US_U_SUM};
    for (int i = 0; i < 3; i++) {
        us_uop op = {.code = (us_uop_code)code[i], .in = {in[i][0], in[i][1]}, .ref = m->n_sums};
        us_cu_op *d = push(m, op, NULL);
        d->square = i == 0;
        d->slot = m->n_sums;
        d->part = m->shape.parts;
        m->shape.parts += (i == 2 ? 1 : 2) * FINISH_C;
        m->n_sums += (i == 2 ? 1 : 2) * FINISH_C + 1;
    }
    m->prior.dims[1] = 100;             // room for gamma and beta among the parameters
    m->n_vec += COEFFICIENTS * FINISH_C;
    case_end(m);
    for (int64_t i = 0; i < m->tensors[0].floats * batch; i++) {
        float *x = m->arena + i / m->tensors[0].floats * m->sample_floats + i % m->tensors[0].floats;
        *x = centre + spread * real();
    }
    return m;
}

static double input_of(const map_case *m, int tensor, int sample, int pixel, int c)
{
    return (double)m->arena[sample * m->sample_floats + m->tensors[tensor].offset + pixel * FINISH_C + c];
}

typedef struct finish_sums {
    double n, mean, var, g, gx;         // in double, mean first
} finish_sums;

static finish_sums finish_sums_of(const map_case *m, int c)
{
    finish_sums f = {0};
    int pixels = m->program.h * m->program.w;
    for (int pass = 0; pass < 2; pass++) {
        for (int s = 0; s < m->active; s++) {
            for (int p = 0; p < pixels; p++) {
                double x = input_of(m, 0, s, p, c), g = input_of(m, 1, s, p, c);
                f.n += pass == 0;
                f.mean += pass == 0 ? x : 0;
                f.var += pass == 1 ? (x - f.mean) * (x - f.mean) : 0;
                f.g += pass == 1 ? g : 0;
                f.gx += pass == 1 ? g * x : 0;
            }
        }
        if (pass == 0) {
            f.mean /= f.n;
        }
    }
    f.var /= f.n;
    return f;
}

static void near_value(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%.12g, should be %.12g within %.3g", got, want, tolerance);
    }
}

// Offsets of scale, shift, inverse, centre, ga, gb, gc behind everything else of the vector store.
static int coefficient(const map_case *m, int which)
{
    return m->n_vec - (COEFFICIENTS - which) * FINISH_C;
}

// Sums: a thread adds at most the pixels of a sample in float, so every sum is within pixels * u of its terms'
// absolute values. Coefficients follow from the sums with a rounding to float each (two where they are products).
// times: how often gradients were added up, each within the same bounds.
static void check_finishes(const map_case *m, const map_run *r, double centre, double spread, int times)
{
    double pixels = (double)m->program.h * m->program.w;
    for (int c = 0; c < FINISH_C; c++) {
        finish_sums f = finish_sums_of(m, c);
        const double mean = r->moments[3 + c], var = r->moments[3 + FINISH_C + c];
        const float gamma = m->params[GAMMA + c], beta = m->params[BETA + c], *vec = r->vec;
        near_value(mean, f.mean, pixels * UNIT * 2 * spread);
        near_value(var, f.var, pixels * UNIT * 8 * spread * spread + 1e-15 * centre * centre);
        double inverse = 1 / sqrt(var + 1e-5);
        near_value(vec[coefficient(m, 0) + c], gamma * inverse, 2 * UNIT * fabs(gamma * inverse));
        near_value(vec[coefficient(m, 1) + c], beta - gamma * inverse * mean, 2 * UNIT * (1 + inverse * fabs(mean)));
        near_value(vec[coefficient(m, 3) + c], -mean * inverse, 2 * UNIT * inverse * fabs(mean));
        const double dbeta = r->grads[BETA + c] / times, dgamma = r->grads[GAMMA + c] / times;
        const double bound = fabs(centre) + spread;
        near_value(dbeta, f.g, (pixels + 2) * UNIT * 2 * f.n);
        near_value(dgamma, f.gx, (pixels + 3) * UNIT * 2 * f.n * bound);
        near_value(r->grads[BIAS + c] / times, f.g, (pixels + 2) * UNIT * 2 * f.n);
        double ga = gamma * (double)vec[coefficient(m, 2) + c];
        near_value(vec[coefficient(m, 4) + c], ga, 2 * UNIT * fabs(ga));
        near_value(vec[coefficient(m, 5) + c], -ga * dgamma / f.n, 4 * UNIT * fabs(ga * dgamma / f.n));
        near_value(vec[coefficient(m, 6) + c], -ga * dbeta / f.n, 4 * UNIT * fabs(ga * dbeta / f.n));
    }
}

static void run_finishes(map_case *m, double centre, double spread, int seed)
{
    us_cu_finish finishes[3] = {
        {.kind = US_CU_FINISH_BN, .slot = m->ops[2].slot, .moments = 3, .scale = coefficient(m, 0),
         .shift = coefficient(m, 1), .inverse = coefficient(m, 2), .centre = coefficient(m, 3)},
        {.kind = US_CU_FINISH_BN_BACK, .slot = m->ops[3].slot, .inverse = coefficient(m, 2), .ga = coefficient(m, 4),
         .gb = coefficient(m, 5), .gc = coefficient(m, 6)},
        {.kind = US_CU_FINISH_BIAS, .slot = m->ops[4].slot}};
    for (int i = 0; i < 3; i++) {
        finishes[i].c = FINISH_C;
        finishes[i].count = (int64_t)m->program.h * m->program.w;
        finishes[i].adds_up = seed % 2;     // run_device runs it twice
        finishes[i].gamma = i == 2 ? BIAS : GAMMA, finishes[i].beta = BETA;
    }
    m->shape.n_finish = 3;
    choose_shape(m, &m->shape);
    map_run runs[2];
    for (int i = 0; i < 2; i++) {
        runs[i] = run_begin(m, 3 + 2 * FINISH_C, N_GRADS);
        memset(runs[i].grads, 0, N_GRADS * sizeof(float));
        us_emulate_shuffle((uint64_t)(i * seed));
        run_device(m, &m->shape, m->ops, finishes, &runs[i]);
    }
    same_bits(m, &runs[0], &runs[1]);
    check_finishes(m, &runs[0], centre, spread, 1 + seed % 2);
    run_free(&runs[0]);
    run_free(&runs[1]);
}

static void test_finishes(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        begin_round(round);
        int batch = 1 + below(4);
        map_case *m = finish_case(round % 2 ? 8 : 1, batch, 1 + below(batch), real(), 1);
        run_finishes(m, 1, 1, round + 1);
        case_free(m);
    }
}

// Variance 1e-6 of the squared mean and less: what a float sum of squares would lose.
static void test_far_mean(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        begin_round(round);
        float centre = round < 2 ? 1000 : -300, spread = 0.1f;
        map_case *m = finish_case(round % 2 ? 8 : 1, 3, 2, centre, spread);
        run_finishes(m, (double)centre, (double)spread, round + 1);
        case_free(m);
    }
}

// What the device has too little of is an error text, not a fault.
static void test_too_much_memory(void **state)
{
    (void)state;
    begin_round(0);
    map_case *m = case_begin(1, 1, 0, 8, 8, 4, 4);
    push_load(m);
    push_store(m);
    case_end(m);
    us_cu_program p = m->shape;
    p.threads = 512, p.blocks = 1, p.rows = 64;
    us_cu_env env = {.batch = 1};
    assert_non_null(us_cu_map(stream, &p, &env));
    case_free(m);
}

static void test_shapes(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        begin_round(round);
        int lanes = below(2) ? 8 : 1, c = lanes * (1 + below(below(10) ? 40 : 400));
        us_cu_program p = {.h = 1 + below(300), .w = 1 + below(300), .c = c, .lanes = lanes, .n_ops = 1 + below(80),
                           .rows = 1 + below(20), .parts = below(2) * c};
        int64_t shared = below(2) ? 232448 : 65536;
        us_cu_map_shape(&p, 1 + below(64), 1 + below(140), shared);
        check_shape(&p, shared);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_programs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wide_programs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_noise, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_finishes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_far_mean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_much_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shapes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
