// Runs a map_case (map_case.h) on the device, and compares what came of it with the CPU's and with another run's.
#ifndef MAP_RUN_H
#define MAP_RUN_H

#include "kernels.h"
#include "map_case.h"

// ---- Running a case ----

typedef struct map_run {
    float *arena;               // [batch][sample_floats]
    double *sums, *moments;     // sums: [batch][n_sums]
    float *vec, *grads;
    int n_moments, n_grads;
} map_run;

// [batch][sample_floats] <-> every tensor [batch][h][w][c]
static inline void change_layout(const map_case *m, float *samples, float *tensors, int back)
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
static inline void *table_up(const void *rows, int n, int before, size_t size)
{
    char *table = room((size_t)(n + before) * size);
    memset(table, 0x55, (size_t)before * size);
    memcpy(table + (size_t)before * size, n ? rows : "", (size_t)n * size);
    void *device = up(table, (size_t)(n + before) * size);
    free(table);
    return device;
}

// A kernel of its own for the case's program.
typedef struct map_kernel {
    const us_cu_kernel_table *table;
    const us_cu_kernel *kernel;
} map_kernel;

static inline const char *launch_case(const us_cu_program *p, const us_cu_env *env, const us_cu_op *ops,
                                      const map_kernel *k)
{
    return k ? k->table->launch(k->kernel, stream, (int64_t)env->batch * p->blocks, us_cu_map_room(p), p, env, ops)
             : us_cu_map(stream, p, env);
}

// Runs it twice: the second run finds the arrival counter as the first one left it. k: NULL: interpreted.
static inline void run_on(const map_case *m, const us_cu_program *p, const us_cu_op *ops, const us_cu_finish *finishes,
                          const map_kernel *k, map_run *r)
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
    us_cu_op own[MOST_OPS];
    memcpy(own, ops, (size_t)p->n_ops * sizeof *own);
    for (int i = 0; i < p->n_ops; i++) {        // what waits for an op's sums
        own[i].finish = -1;
        for (int j = 0; j < p->n_finish; j++) {
            int adds = own[i].code == US_U_SUM || own[i].code == US_U_SUM2;
            own[i].finish = adds && finishes[j].slot == own[i].slot ? j : own[i].finish;
        }
    }
    env.ops = table_up(own, p->n_ops, 2, sizeof *own);
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
        ok(launch_case(&placed, &env, own, k));
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

static inline void run_device(const map_case *m, const us_cu_program *p, const us_cu_op *ops,
                              const us_cu_finish *finishes, map_run *r)
{
    run_on(m, p, ops, finishes, NULL, r);
}

static inline map_run run_begin(const map_case *m, int n_moments, int n_grads)
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

static inline void run_free(map_run *r)
{
    free(r->arena);
    free(r->sums);
    free(r->moments);
    free(r->vec);
    free(r->grads);
}

// ---- Comparing ----

// Is element i one that the program stores?
static inline int64_t stored_in(const map_case *m, int tensor, int64_t i)
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
static inline void compare_arena(const map_case *m, const float *want, const float *got)
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
static inline void compare_sums(const map_case *m, const double *want, const double *got)
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

static inline void same_bits(const map_case *m, const map_run *a, const map_run *b)
{
    assert_memory_equal(a->arena, b->arena, (size_t)(m->batch * m->sample_floats) * sizeof(float));
    assert_memory_equal(a->sums, b->sums, (size_t)(m->batch * m->n_sums) * sizeof(double));
    assert_memory_equal(a->vec, b->vec, (size_t)m->n_vec * sizeof(float));
    assert_memory_equal(a->moments, b->moments, (size_t)a->n_moments * sizeof(double));
    assert_memory_equal(a->grads, b->grads, (size_t)a->n_grads * sizeof(float));
}

// ---- Random programs ----

static inline map_case *random_case(int round)
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

#endif
