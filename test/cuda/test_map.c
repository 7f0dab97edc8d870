// The interpreter of elementwise programs (map.cu) against the CPU's on random programs, its sums against sums in
// double, in any order of the blocks.
#include "map_case.h"

enum { ROUNDS = 160 };

// ---- Running a case ----

typedef struct map_run {
    float *arena;               // [batch][sample_floats]
    double *sums, *moments;     // sums: [batch][n_sums]
    float *vec, *grads;
    int n_moments, n_grads;
} map_run;

// [batch][sample_floats] <-> every tensor [batch][h][w][c]
static void change_layout(const map_case *m, float *samples, float *tensors, int back)
{
    for (int t = 0; t < m->n_tensors; t++) {
        const us_tensor *x = &m->tensors[t];
        for (int s = 0; s < m->batch; s++) {
            float *a = samples + s * m->sample_floats + x->offset;
            float *b = tensors + x->offset * m->batch + s * x->floats;
            memcpy(back ? a : b, back ? b : a, (size_t)x->floats * sizeof *a);
        }
    }
}

// A table on the device whose first `before` rows are another program's.
static void *table_up(const void *rows, int n, int before, size_t size)
{
    char *table = room((size_t)(n + before) * size);
    memset(table, 0x55, (size_t)before * size);
    memcpy(table + (size_t)before * size, n ? rows : "", (size_t)n * size);
    void *device = up(table, (size_t)(n + before) * size);
    free(table);
    return device;
}

// Runs it twice: the second run finds the arrival counter as the first one left it.
static void run_device(const map_case *m, const us_cu_program *p, const us_cu_op *ops, const us_cu_finish *finishes,
                       map_run *r)
{
    size_t arena = (size_t)(m->batch * m->sample_floats), sums = (size_t)(m->batch * m->n_sums);
    size_t noise = (size_t)(m->batch * m->noise_h * m->noise_w * p->c) * sizeof(float);
    size_t prior = (size_t)(m->prior.dims[1] * m->prior.dims[2] * m->prior.dims[3] + m->prior.offset);
    unsigned counters[3] = {7, 0, 9};
    us_cu_run run = {.active = m->active, .mean_latents = m->mean_latents, .batch_scale = m->batch_scale,
                     .given = m->given};
    us_cu_state state = {.loss_scale = m->loss_scale};
    us_cu_env env = {.batch = m->batch, .n_sums = m->n_sums, .half = m->half, .dropout = (float)DROP_RATE};
    void *partials;
    float *elements = room(arena * sizeof *elements);
    memcpy(elements, m->arena, arena * sizeof *elements);
    change_layout(m, m->arena, elements, 0);
    env.arena = elements_up(elements, arena, m->half);
    env.ops = table_up(ops, p->n_ops, 2, sizeof *ops);
    env.finishes = table_up(finishes, p->n_finish, 1, sizeof *finishes);
    env.run = up(&run, sizeof run);
    env.state = up(&state, sizeof state);
    env.samples = up(m->samples, (size_t)m->batch * sizeof *m->samples);
    env.params = up(m->params, prior * sizeof(float));
    env.vec = up(m->vec, (size_t)m->n_vec * sizeof(float));
    env.kl_weight = up(m->kl_weight, (size_t)(m->batch * US_CU_LEVELS) * sizeof(float));
    env.sums = up(r->sums, sums * sizeof(double));
    env.moments = up(r->moments, (size_t)r->n_moments * sizeof(double));
    env.grads = up(r->grads, (size_t)r->n_grads * sizeof(float));
    env.counters = up(counters, sizeof counters);
    for (int i = 0; i < LEVELS; i++) {
        env.noise[i] = m->given >> i & 1 ? up(m->noise[i], noise) : NULL;
        env.noise_h[i] = m->noise_h, env.noise_w[i] = m->noise_w, env.noise_c[i] = p->c;
    }
    ok(us_device_alloc(&partials, (int64_t)p->parts * m->batch * p->blocks * (int64_t)sizeof(double) + 1));
    env.partials = partials;
    us_cu_program placed = *p;
    placed.counter = 1, placed.first_op = 2, placed.first_finish = 1;
    for (int i = 0; i < 2; i++) {
        ok(us_cu_map(stream, &placed, &env));
    }
    elements_down(elements, env.arena, arena, m->half);
    change_layout(m, r->arena, elements, 1);
    down(r->sums, env.sums, sums * sizeof(double));
    down(r->moments, env.moments, (size_t)r->n_moments * sizeof(double));
    down(r->grads, env.grads, (size_t)r->n_grads * sizeof(float));
    down(r->vec, env.vec, (size_t)m->n_vec * sizeof(float));
    down(counters, env.counters, sizeof counters);
    assert_true(counters[0] == 7 && counters[1] == 0 && counters[2] == 9);
    const void *rest[] = {env.ops, env.finishes, env.run, env.state, env.samples, env.params, env.kl_weight,
                          env.noise[0], env.noise[1], env.noise[2], partials};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        us_device_free((void *)(uintptr_t)rest[i]);
    }
    free(elements);
}

static map_run run_begin(const map_case *m, int n_moments, int n_grads)
{
    size_t sums = (size_t)(m->batch * m->n_sums), arena = (size_t)(m->batch * m->sample_floats) * sizeof(float);
    map_run r = {.n_moments = n_moments, .n_grads = n_grads};
    r.arena = room(arena);
    memcpy(r.arena, m->arena, arena);           // with the padding between tensors
    r.sums = room(sums * sizeof *r.sums);
    r.moments = room((size_t)n_moments * sizeof *r.moments);
    r.vec = room((size_t)m->n_vec * sizeof *r.vec);
    r.grads = random_floats((size_t)n_grads, 1);
    for (size_t i = 0; i < sums; i++) {
        r.sums[i] = -123;
    }
    for (int i = 0; i < n_moments; i++) {
        r.moments[i] = -7;
    }
    return r;
}

static void run_free(map_run *r)
{
    free(r->arena);
    free(r->sums);
    free(r->moments);
    free(r->vec);
    free(r->grads);
}

// ---- Comparing ----

static int64_t stored_in(const map_case *m, int tensor, int64_t i)      // is element i one that the program stores
{
    int c = (int)(i % m->tensors[tensor].c);
    for (int j = 0; j < m->program.n_ops; j++) {
        const us_uop *op = &m->uops[j];
        if (op->code == US_U_STORE && op->ref == tensor) {
            return c >= op->c0 && c < op->c0 + m->program.c;
        }
    }
    return 0;
}

// A stored half is rounded: 2^-11 of its value, 2^-25 where it is subnormal. Everything else keeps its bits.
static void compare_arena(const map_case *m, const float *want, const float *got)
{
    for (int t = 0; t < m->n_tensors; t++) {
        const us_tensor *x = &m->tensors[t];
        for (int s = 0; s < m->batch; s++) {
            const float *a = want + s * m->sample_floats + x->offset, *b = got + s * m->sample_floats + x->offset;
            for (int64_t i = 0; i < x->floats; i++) {
                double tolerance = 0;
                if (m->store_error[t] >= 0 && s >= m->active && stored_in(m, t, i)) {
                    assert_true(b[i] == 0);
                    continue;
                }
                if (m->store_error[t] >= 0 && stored_in(m, t, i)) {
                    tolerance = m->store_error[t];
                    tolerance += m->half ? (fabs((double)a[i]) + tolerance) / 2048 + 1.0 / 33554432 : 0;
                }
                if (!(fabs((double)a[i] - (double)b[i]) <= tolerance)) {
                    fail_msg("tensor %d sample %d element %d: %.9g, should be %.9g within %.3g", t, s, (int)i,
                             (double)b[i], (double)a[i], tolerance);
                }
            }
        }
    }
}

// Both sides add at most `longest` values in float before they go on in double: each rounding is of a sum of at
// most that many. The pivot of a square doubles values, so squares are four times as large.
static void compare_sums(const map_case *m, const double *want, const double *got)
{
    double pixels = (double)m->program.h * m->program.w, longest = larger(pixels, 64);
    for (int i = 0; i < m->program.n_ops; i++) {
        const us_uop *op = &m->uops[i];
        int n = (op->code == US_U_SUM2 ? 2 : 1) * m->program.c;
        if (op->code != US_U_SUM && op->code != US_U_SUM2) {
            continue;
        }
        double tolerance = pixels * (4 * m->sum_error[i] + 4 * longest * UNIT * m->sum_bound[i]);
        for (int s = 0; s < m->batch; s++) {
            for (int j = 0; j < n; j++) {
                double a = s < m->active ? want[s * m->n_sums + op->ref + j] : -123;
                double b = got[s * m->n_sums + op->ref + j];
                if (!(fabs(a - b) <= tolerance)) {
                    fail_msg("sum %d of op %d sample %d: %.9g, should be %.9g within %.3g", j, i, s, b, a, tolerance);
                }
            }
        }
    }
    for (int s = 0; s < m->batch; s++) {            // the two slots in front belong to others
        assert_true(got[s * m->n_sums] == -123 && got[s * m->n_sums + 1] == -123);
    }
}

static void same_bits(const map_case *m, const map_run *a, const map_run *b)
{
    assert_memory_equal(a->arena, b->arena, (size_t)(m->batch * m->sample_floats) * sizeof(float));
    assert_memory_equal(a->sums, b->sums, (size_t)(m->batch * m->n_sums) * sizeof(double));
    assert_memory_equal(a->vec, b->vec, (size_t)m->n_vec * sizeof(float));
    assert_memory_equal(a->moments, b->moments, (size_t)a->n_moments * sizeof(double));
    assert_memory_equal(a->grads, b->grads, (size_t)a->n_grads * sizeof(float));
}

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

static map_case *random_case(int round)
{
    int lanes = below(2) ? 8 : 1, batch = 1 + below(3), c = lanes == 8 ? 8 * (1 + below(5)) : 1 + below(19);
    map_case *m = case_begin(batch, 1 + below(batch), round % 3 == 0, lanes, c, 1 + below(20), 1 + below(20));
    int sources = 1 + below(4), computed = below(24), stores = 1 + below(3), sums = below(2) * below(4);
    for (int i = 0; i < sources; i++) {
        push_source(m);
    }
    for (int i = 0; i < computed; i++) {
        int code = US_U_ADD + below(US_U_STORE - US_U_ADD);
        int before = m->program.n_ops;
        if (positive_inputs(code)) {
            push_compute(m, US_U_SIGMA);        // something to divide by
        }
        for (int tries = 0; tries < 8 && m->program.n_ops < before + (positive_inputs(code) ? 2 : 1); tries++) {
            push_compute(m, code);
        }
        if (below(5) == 0 && stores > 1) {
            push_store(m);
            stores--;
        }
        if (below(5) == 0 && sums > 0) {
            push_sum(m, below(2) ? US_U_SUM : US_U_SUM2);
            sums--;
        }
    }
    for (int i = 0; i < stores; i++) {
        push_store(m);
    }
    for (int i = 0; i < sums; i++) {
        push_sum(m, below(2) ? US_U_SUM : US_U_SUM2);
    }
    case_end(m);
    return m;
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
