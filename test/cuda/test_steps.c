// The steps of the CUDA backend that are not programs, run by the emulator, against those of the CPU: masks,
// losses, prior, norm, optimiser, running statistics, conversions. Random sizes, blocks in random order.
//
// Where both do the same operations in the same order the results are compared to the bit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu/exec.h"
#include "device_case.h"
#include "kernels/philox.h"
#include "steps.h"

enum { ROUNDS = 40 };

// ---- Masks ------------------------------------------------------------------------------------------

static float expected_mask(const us_cu_run *run, int sample, int layer, int c, float p)
{
    us_u32x4 k = us_philox(run->seed, (uint32_t)run->step, (uint32_t)((uint64_t)run->step >> 32), (uint32_t)sample,
                           US_RNG_DROPOUT);
    uint64_t key = ((uint64_t)k.v[0] << 32) | k.v[1];
    return us_uniform24(us_philox(key, (uint32_t)c, (uint32_t)layer, 0, US_RNG_DROPOUT).v[0]) < p ? 0 : 1 / (1 - p);
}

static void test_masks(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        us_cu_mask masks[6];
        int batch = 1 + below(6), n = round == 1 ? 0 : 1 + below(6);
        float p = 0.1f + 0.05f * (float)below(10);
        us_cu_run run = {.active = 1 + below(batch), .seed = draw(), .step = (int64_t)draw() << 10};
        int64_t floats = 5;
        for (int i = 0; i < n; i++) {
            int c = 1 + below(150);
            masks[i] = (us_cu_mask){c, (c + 15) / 16 * 16, floats};
            floats += (int64_t)masks[i].stride * batch;
        }
        float *vec = random_floats((size_t)floats, 1), *got = room((size_t)floats * 4);
        us_cu_mask *table = up(masks, sizeof masks);
        us_cu_run *there = up(&run, sizeof run);
        us_cu_env env = {.run = there, .batch = batch, .vec = up(vec, (size_t)floats * 4)};
        ok(us_cu_draw_masks(stream, &env, table, n, p));
        down(got, env.vec, (size_t)floats * 4);
        for (int i = 0; i < n; i++) {
            for (int s = 0; s < run.active; s++) {
                for (int c = 0; c < masks[i].c; c++) {
                    vec[masks[i].at + (int64_t)s * masks[i].stride + c] = expected_mask(&run, s, i, c, p);
                }
            }
        }
        assert_memory_equal(vec, got, (size_t)floats * 4);      // and nothing else was written
        us_device_free(table);
        us_device_free(there);
        free(vec);
        free(got);
    }
}

// ---- Losses -----------------------------------------------------------------------------------------

typedef struct loss_case {
    us_plan plan;
    us_graph graph;
    us_node nodes[2 * US_MAX_LOSSES + USPLIT_MAX_LEVELS];
    us_exec exec;
    us_cu_loss loss;
} loss_case;

// Reconstruction losses: nodes 2 i output, 2 i + 1 loss. Returns the first slot behind theirs.
static int make_parts(loss_case *t, int slot)
{
    int n = below(2) ? 1 : 1 + below(US_MAX_LOSSES);
    t->graph.n_losses = t->loss.n_parts = n;
    for (int i = 0; i < n; i++) {
        us_node *output = &t->nodes[2 * i], *loss = output + 1;
        *output = (us_node){.h = 1 + below(9), .w = 1 + below(9)};
        *loss = (us_node){.c = 1 + below(USPLIT_MAX_CHANNELS), .in = {2 * i}};
        t->graph.losses[i] = 2 * i + 1;
        t->graph.loss_weight[i] = n == 1 ? 1 : 0.1 + (double)real() / 16;
        t->plan.loss_sums[i] = slot;
        t->loss.part[i] = (us_cu_loss_part){.slot = slot, .channels = loss->c, .pixels = (int64_t)output->h * output->w,
                                            .weight = t->graph.loss_weight[i]};
        slot += loss->c;
    }
    return slot;
}

// A network of nothing but what losses look at: LATENT + i latent i.
static void make_loss_case(loss_case *t, int free_bits)
{
    enum { LATENT = 2 * US_MAX_LOSSES };
    int levels = below(USPLIT_MAX_LEVELS + 1), slot;
    *t = (loss_case){.graph = {.nodes = t->nodes}, .plan = {.graph = &t->graph}};
    t->exec = (us_exec){.plan = &t->plan, .samples = 1 + below(120)};
    t->exec.active = 1 + below(t->exec.samples);
    slot = make_parts(t, below(5));
    t->graph.n_latents = t->loss.levels = levels;
    t->plan.options.kl_weight = 0.25 * below(9);
    t->plan.options.free_bits = free_bits ? 0.5 : 0;
    t->loss.kl_weight = t->plan.options.kl_weight, t->loss.free_bits = t->plan.options.free_bits;
    for (int i = 0; i < levels; i++) {
        us_node *z = &t->nodes[LATENT + i];
        int has = below(4) > 0;
        *z = (us_node){.c = 1 + below(40), .h = 1 + below(4), .w = 1 + below(4)};
        t->graph.latent[i] = LATENT + i;
        t->graph.kl[i] = has ? LATENT + i : -1;
        t->plan.kl_sums[i] = slot;
        t->loss.n_kl += has;
        t->loss.level[i] = (us_cu_loss_level){has ? slot : -1, z->c, (int64_t)z->c * z->h * z->w};
        slot += has ? z->c : 0;
    }
    t->plan.n_sums = slot + below(3);
}

static void check_losses(const us_losses *want, const us_cu_state *got, const us_cu_loss *loss)
{
    if (isnan(want->loss)) {
        assert_true(isnan(got->loss));
        return;
    }
    const double error = ldexp(8, -53) * (1 + fabs(want->reconstruction) + 2 * fabs(want->kl));
    same_value(got->loss, want->loss, error);
    same_value(got->reconstruction, want->reconstruction, error);
    same_value(got->kl, want->kl, error);
    for (int c = 0; c < loss->part[0].channels; c++) {
        same_value(got->channel[c], want->channel[c], error);
    }
    for (int i = 0; i < loss->levels; i++) {
        same_value(got->level[i], want->level[i], error);
    }
}

static void test_loss(void **state)
{
    (void)state;
    int bound = 0, not_bound = 0, rounds_of_block = 0;
    for (int round = 0; round < ROUNDS; round++) {
        static loss_case t;
        us_losses want;
        begin_round(round);
        make_loss_case(&t, round % 2);
        us_exec *e = &t.exec;
        size_t n = (size_t)e->samples * (size_t)t.plan.n_sums, weights = (size_t)e->samples * US_CU_LEVELS;
        float scale = round % 3 ? 4096.0f : 1.0f, weight[120 * US_CU_LEVELS], got_weight[120 * US_CU_LEVELS];
        e->sums = room(n * sizeof *e->sums);
        for (size_t i = 0; i < n; i++) {        // per element about free_bits on average
            e->sums[i] = (real() + 0.5) * 16;
        }
        if (round % 10 == 9) {
            e->sums[t.plan.loss_sums[0]] = NAN;
        }
        for (size_t i = 0; i < weights; i++) {
            weight[i] = -3;
        }
        assert_true((int)US_CU_LEVELS >= (int)USPLIT_MAX_LEVELS);
        float packed[120 * USPLIT_MAX_LEVELS];
        for (int i = 0; i < e->samples * USPLIT_MAX_LEVELS; i++) {
            packed[i] = -3 / scale;
        }
        us_cu_state s = {.loss_scale = scale};
        us_cu_run run = {.active = e->active};
        us_cu_run *there = up(&run, sizeof run);
        us_cu_state *device = up(&s, sizeof s);
        float *kl_weight = up(weight, weights * 4);
        us_cu_env env = {.run = there, .batch = e->samples, .n_sums = t.plan.n_sums,
                         .sums = up(e->sums, n * sizeof *e->sums)};
        ok(us_cu_loss_run(stream, &env, &t.loss, device, kl_weight));
        down(&s, device, sizeof s);
        down(got_weight, kl_weight, weights * 4);
        e->kl_weight = packed;
        us_exec_loss(e, &want);
        check_losses(&want, &s, &t.loss);
        for (int i = 0; i < e->samples; i++) {
            for (int l = 0; l < US_CU_LEVELS; l++) {
                float w = l < USPLIT_MAX_LEVELS ? packed[i * USPLIT_MAX_LEVELS + l] * scale : -3;
                assert_true(got_weight[i * US_CU_LEVELS + l] == w);
                bound += w == 0 && t.plan.options.kl_weight > 0;
                not_bound += w > 0 && round % 2;
            }
        }
        rounds_of_block += t.loss.levels && e->active > 256 / t.loss.levels;
        us_device_free(there);
        us_device_free(env.sums);
        free(e->sums);
    }
    assert_true(bound > 0 && not_bound > 0 && rounds_of_block > 0);
}

// ---- Prior ------------------------------------------------------------------------------------------

static void test_prior(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        int half = round % 2, batch = 1 + below(5), active = 1 + below(batch), c = 1 + below(70);
        int h = 1 + below(5), w = 1 + below(5);
        int64_t at = below(50), stride = (int64_t)c * h * w + below(30), grad = below(100);
        size_t n = (size_t)(at + stride * batch), n_grads = (size_t)(grad + (int64_t)c * h * w + 10);
        float *src = random_floats(n, 3), *got = random_floats(n_grads, 1), *want = room(n_grads * 4);
        memcpy(want, got, n_grads * 4);
        for (size_t i = 0; i < n && half; i++) {
            src[i] = us_half_bits_value(us_half_bits_of(src[i]));
        }
        us_cu_run run = {.active = active}, *there = up(&run, sizeof run);
        us_cu_env env = {.run = there, .batch = batch, .half = half, .arena = elements_up(src, n, half),
                         .grads = up(got, n_grads * 4)};
        ok(us_cu_sum_prior(stream, &env, at, stride, c, (int64_t)h * w, grad));
        down(got, env.grads, n_grads * 4);
        us_tensor tensor = {.offset = at};
        us_param param = {.n_dims = 4, .dims = {1, c, h, w}, .offset = grad};
        us_graph graph = {.params = &param};
        us_plan plan = {.graph = &graph, .tensors = &tensor, .sample_floats = stride};
        us_exec e = {.plan = &plan, .active = active, .sample_arena = src, .grads = want};
        us_step step = {.kind = US_STEP_SUM_PRIOR};
        assert_int_equal(us_exec_sum_prior(&e, &step), USPLIT_OK);
        assert_memory_equal(want, got, n_grads * 4);
        us_device_free(there);
        us_device_free(env.arena);
        free(src);
        free(got);
        free(want);
    }
}

// ---- Optimiser --------------------------------------------------------------------------------------

enum { MAX_PARAMS = 20 };

// Parameters in device layout, on the host and on the device; the CPU sees the same arrays.
typedef struct optimiser_case {
    us_cu_param table[MAX_PARAMS];
    us_param params[MAX_PARAMS];
    unsigned char has_grad[MAX_PARAMS];
    us_graph graph;
    us_plan plan;
    us_exec exec;
    us_cu_optimiser o;
    size_t n;
    float *w, *m, *u, *g, *copy;                // as the device should have them; g: raw gradients
} optimiser_case;

static void make_table(optimiser_case *t, int n_params, int most)
{
    int64_t at = 0;
    for (int i = 0; i < n_params; i++) {
        int64_t count = i == 0 ? most : 1 + below(i % 3 ? 40 : 3000);
        int kind = below(5);                    // 0: a running statistic; 1: no part in the loss
        t->table[i] = (us_cu_param){.at = at, .count = count, .weight_gradient = below(2), .trained = kind > 1};
        t->params[i] = (us_param){.kind = kind ? US_PARAM_WEIGHT : US_PARAM_RUNNING_VAR, .count = count, .offset = at};
        t->has_grad[i] = kind > 1;
        if (i == 0) {
            t->table[0].trained = t->has_grad[0] = 1;
            t->params[0].kind = US_PARAM_BIAS;
        }
        at += (count + 63) / 64 * 64 + 64 * below(2);
    }
    t->n = (size_t)at;
}

// Values everywhere, padding included; gradients that must not be read are NaN.
static void fill_arrays(optimiser_case *t, int half, float scale)
{
    float *grads = room(t->n * 4), *weight_grads = room(t->n * 4);
    us_cu_optimiser *o = &t->o;
    t->w = random_floats(t->n, 1);
    t->m = random_floats(t->n, 0.1f);
    t->u = random_floats(t->n, 0.1f);
    t->copy = random_floats(t->n, 1);
    t->g = room(t->n * 4);
    for (size_t i = 0; i < t->n; i++) {
        t->u[i] = fabsf(t->u[i]) + 0.001f;
        t->copy[i] = half ? us_half_bits_value(us_half_bits_of(t->copy[i])) : t->copy[i];
        t->g[i] = grads[i] = weight_grads[i] = NAN;
    }
    for (int p = 0; p < o->n_params; p++) {
        for (int64_t j = 0; j < t->table[p].count && t->table[p].trained; j++) {
            size_t i = (size_t)(t->table[p].at + j);
            t->g[i] = real() * scale * 0.02f;
            if (t->table[p].weight_gradient) {
                t->g[i] = half ? us_half_bits_value(us_half_bits_of(t->g[i])) : t->g[i];
                weight_grads[i] = t->g[i];
            } else {
                grads[i] = t->g[i];
            }
        }
    }
    o->params = up(t->w, t->n * 4);
    o->m = up(t->m, t->n * 4);
    o->u = up(t->u, t->n * 4);
    o->grads = up(grads, t->n * 4);
    o->weight_grads = elements_up(weight_grads, t->n, half);
    o->weights = half ? elements_up(t->copy, t->n, half) : NULL;
    free(grads);
    free(weight_grads);
}

static void make_case(optimiser_case *t, usplit_context *context, int n_params, int most, int half, float scale)
{
    unsigned zero = 0;
    *t = (optimiser_case){.graph = {.params = t->params, .n_params = n_params},
                          .plan = {.graph = &t->graph, .has_grad = t->has_grad}};
    t->exec = (us_exec){.context = context, .plan = &t->plan, .squares = room(MAX_PARAMS * sizeof(double))};
    make_table(t, n_params, most);
    t->o = (us_cu_optimiser){.table = up(t->table, sizeof t->table), .n_params = n_params, .half = half,
                             .n_floats = (int64_t)t->n, .counter = up(&zero, sizeof zero)};
    ok(us_device_alloc((void **)&t->o.partials, 8 * us_cu_norm_partials(&t->o)));
    fill_arrays(t, half, scale);
}

static void free_case(optimiser_case *t)
{
    us_cu_optimiser *o = &t->o;
    unsigned counter;
    union { const us_cu_param *p; void *v; } table = {o->table};
    down(&counter, o->counter, sizeof counter);
    assert_int_equal(counter, 0);
    void *device[] = {table.v, o->params, o->m, o->u, o->grads, o->weight_grads, o->weights, o->partials};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) {
        us_device_free(device[i]);
    }
    void *host[] = {t->w, t->m, t->u, t->g, t->copy, t->exec.squares};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) {
        free(host[i]);
    }
}

// One step on the device: *s and the arrays of the optimiser move on.
static void device_step(optimiser_case *t, const us_cu_run *run, us_cu_state *s)
{
    us_cu_run *there = up(run, sizeof *run);
    us_cu_state *device = up(s, sizeof *s);
    ok(us_cu_norm(stream, &t->o, there, device));
    ok(us_cu_adamax(stream, &t->o, there, device));
    down(s, device, sizeof *s);
    us_device_free(there);
}

static void read_floats(float *host, const float *device, size_t n)
{
    ok(us_copy_down(stream, host, device, (int64_t)n * 4));
    ok(us_stream_wait(stream));
}

// After a step. A parameter moves by at most rate * m / u = 0.05 * 0.1 / 0.001 = 5 and m, u stay below 0.1: some ten
// roundings of 2^-24 of that. exact: nothing was computed.
static void check_arrays(optimiser_case *t, int exact)
{
    const double error = exact ? 0 : ldexp(64, -24);
    float *x = room(t->n * 4);
    const float *device[] = {t->o.params, t->o.m, t->o.u}, *want[] = {t->w, t->m, t->u};
    for (int i = 0; i < 3; i++) {
        read_floats(x, device[i], t->n);
        same_floats(x, want[i], t->n, error);
    }
    if (t->o.weights) {
        elements_down(x, t->o.weights, t->n, 1);
        t->o.weights = NULL;
        same_floats(x, t->copy, t->n, exact ? 0 : ldexp(1, -10));      // the next half
    }
    free(x);
}

// The CPU's step on the host's arrays, with the factor that the device found.
static void cpu_step(optimiser_case *t, const us_cu_run *run, const us_cu_state *s)
{
    assert_int_equal(us_exec_adamax(&t->exec, t->w, t->g, t->m, t->u, (double)run->lr, s->updates,
                                    (double)s->applied), USPLIT_OK);
    for (int p = 0; p < t->o.n_params && t->o.half; p++) {
        for (int64_t i = t->table[p].at; i < t->table[p].at + t->table[p].count && t->table[p].trained; i++) {
            t->copy[i] = us_half_bits_value(us_half_bits_of(t->w[i]));
        }
    }
}

// Squares are added in float, 8 here and 16 on the CPU, the rest in double: relative errors of the sums up to
// 8 and 16 units of 2^-24, half of that in the root.
static void check_norm(const optimiser_case *t, double norm, float scale)
{
    double exact = 0, cpu;
    for (size_t i = 0; i < t->n; i++) {
        exact += isnan(t->g[i]) ? 0 : (double)t->g[i] * (double)t->g[i];
    }
    exact = sqrt(exact) / (double)scale;
    union { const us_exec *c; us_exec *e; } exec = {&t->exec};
    assert_int_equal(us_exec_gradient_norm(exec.e, t->g, &cpu), USPLIT_OK);
    assert_true(fabs(norm - exact) <= 4 * ldexp(1, -24) * exact);
    assert_true(fabs(norm - cpu / (double)scale) <= 12 * ldexp(1, -24) * exact);
}

static void test_optimiser(void **state)
{
    int clipped = 0, free_norm = 0;
    for (int round = 0; round < ROUNDS; round++) {
        static optimiser_case t;
        begin_round(round);
        int half = round % 2;
        float scale = half ? (float)(1 << below(15)) : 1;
        make_case(&t, *state, 1 + below(MAX_PARAMS), 1 + below(9000), half, scale);
        us_cu_run run = {.active = 1, .lr = 0.001f * (float)(1 + below(5)), .clip_norm = round % 5 ? 0.5f : 0};
        us_cu_state s = {.loss_scale = scale, .good_steps = round % 7 ? 10 : 1999, .updates = below(100), .skipped = 3,
                         .counted = 4, .sum_loss = 1, .sum_reconstruction = 2, .sum_kl = 3, .loss = 0.5,
                         .reconstruction = 0.25, .kl = 0.125}, before = s;
        device_step(&t, &run, &s);
        assert_true(s.ok == 1 && s.updates == before.updates + 1 && s.skipped == 3 && s.counted == 5);
        assert_true(s.sum_loss == 1.5 && s.sum_reconstruction == 2.25 && s.sum_kl == 3.125);
        assert_int_equal(s.good_steps, half ? (round % 7 ? 11 : 0) : before.good_steps);
        assert_true(s.loss_scale == (half && round % 7 == 0 ? 2 * scale : scale));
        check_norm(&t, s.norm, scale);
        double clip = run.clip_norm > 0 && s.norm + 1e-6 > 0.5 ? 0.5 / (s.norm + 1e-6) : 1;
        assert_true(s.applied == (float)(clip / (double)scale));
        clipped += clip < 1;
        free_norm += clip >= 1;
        cpu_step(&t, &run, &s);
        check_arrays(&t, 0);
        free_case(&t);
    }
    assert_true(clipped > 0 && free_norm > 0);
}

// Puts a value that is not finite into the last trained parameter's last gradient.
static void spoil(optimiser_case *t, float bad)
{
    int p = t->o.n_params - 1;
    while (!t->table[p].trained) {
        p--;
    }
    int64_t at = t->table[p].at + t->table[p].count - 1;
    uint16_t bits = us_half_bits_of(bad);
    if (!t->table[p].weight_gradient) {
        ok(us_copy_up(stream, t->o.grads + at, &bad, 4));
    } else if (t->o.half) {
        ok(us_copy_up(stream, (uint16_t *)t->o.weight_grads + at, &bits, 2));
    } else {
        ok(us_copy_up(stream, (float *)t->o.weight_grads + at, &bad, 4));
    }
}

static void test_skipped(void **state)
{
    for (int round = 0; round < ROUNDS; round++) {
        static optimiser_case t;
        begin_round(round);
        int half = round % 2, bad_loss = round % 3 == 0;
        float scale = half ? (round % 4 == 1 ? 1.0f : 1024.0f) : 1;
        make_case(&t, *state, 1 + below(MAX_PARAMS), 1 + below(3000), half, scale);
        us_cu_run run = {.active = 1, .lr = 0.001f, .clip_norm = 0.5f};
        us_cu_state s = {.loss_scale = scale, .good_steps = 10, .updates = 6, .skipped = 3, .counted = 4,
                         .sum_loss = 1, .sum_reconstruction = 2, .sum_kl = 3, .loss = bad_loss ? NAN : 0.5, .ok = 1};
        if (!bad_loss) {
            spoil(&t, round % 4 < 2 ? INFINITY : NAN);
        } else if (round % 2) {
            s.loss = INFINITY;
        }
        device_step(&t, &run, &s);
        assert_true(s.ok == 0 && s.updates == 6 && s.skipped == 4 && s.counted == 4 && !isfinite(s.norm));
        assert_true(!bad_loss || isnan(s.norm));
        assert_true(s.sum_loss == 1 && s.sum_reconstruction == 2 && s.sum_kl == 3);
        assert_true(s.loss_scale == (scale > 1 ? scale / 2 : 1) && s.good_steps == (half ? 0 : 10));
        check_arrays(&t, 1);                    // nothing changed
        free_case(&t);
    }
}

// More elements than one pass of the grid takes; the sum does not depend on the order of the blocks.
static void test_large(void **state)
{
    static optimiser_case t;
    double norm = 0;
    for (int half = 0; half < 2; half++) {
        begin_round(0);
        make_case(&t, *state, 3, 2300001, half, 1);
        us_cu_run run = {.active = 1, .lr = 0.001f}, *there = up(&run, sizeof run);
        for (uint64_t seed = 0; seed < 3; seed++) {
            us_cu_state s = {.loss_scale = 1, .loss = 1}, *device = up(&s, sizeof s);
            us_emulate_shuffle(seed);
            ok(us_cu_norm(stream, &t.o, there, device));
            down(&s, device, sizeof s);
            check_norm(&t, s.norm, 1);
            assert_true(seed == 0 || s.norm == norm);
            norm = s.norm;
        }
        us_device_free(there);
        us_cu_state s = {.loss_scale = 1, .loss = 1};
        device_step(&t, &run, &s);
        cpu_step(&t, &run, &s);
        check_arrays(&t, 0);
        free_case(&t);
    }
}

// ---- Running statistics -----------------------------------------------------------------------------

static void test_running(void **state)
{
    (void)state;
    enum { N = 4 };
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        us_cu_bn_running table[N];
        us_bnorm bnorms[N];
        us_param params[5 * N];
        int64_t moments_at[N], floats = 3, vecs = 1, moments = 2;
        for (int i = 0; i < N; i++) {
            int c = 1 + below(100), shares = i >= 2 && round % 2 ? i - 2 : -1;     // the parameters of an earlier one
            us_bnorm *b = &bnorms[i];
            c = shares >= 0 ? bnorms[shares].c : c;
            *b = (us_bnorm){.c = c, .gamma = 5 * i, .beta = 5 * i + 1, .mean = 5 * i + 2, .var = 5 * i + 3,
                            .counter = 5 * i + 4, .count = 2 + below(50), .scale = (int)vecs, .shift = (int)vecs + c};
            for (int p = 0; p < 5; p++) {
                params[5 * i + p].offset = shares >= 0 ? params[5 * shares + p].offset : floats;
                floats += shares >= 0 ? 0 : c + below(9);
            }
            table[i] = (us_cu_bn_running){
                .mean = params[b->mean].offset, .var = params[b->var].offset, .counter = params[b->counter].offset,
                .gamma = params[b->gamma].offset, .beta = params[b->beta].offset, .count = b->count, .c = c,
                .moments = (int32_t)moments, .scale = b->scale, .shift = b->shift};
            if (shares >= 0) {
                table[shares].later = i;
                table[i].shared = 1;
            }
            moments_at[i] = moments;
            moments += 2 * c;
            vecs += 2 * c + 3;
        }
        size_t n = (size_t)floats, n_vec = (size_t)vecs;
        float *w = random_floats(n, 2), *vec = random_floats(n_vec, 1), *got = room(n * 4), *got_vec = room(n_vec * 4);
        double *m = room((size_t)moments * 8);
        for (int64_t i = 0; i < moments; i++) {
            m[i] = (double)real();
        }
        for (int i = 0; i < N; i++) {           // variances
            for (int c = 0; c < bnorms[i].c; c++) {
                w[table[i].var + c] = fabsf(w[table[i].var + c]);
                m[moments_at[i] + bnorms[i].c + c] = fabs(m[moments_at[i] + bnorms[i].c + c]);
            }
        }
        us_cu_run run = {.active = 1 + below(20)}, *there = up(&run, sizeof run);
        us_cu_state s = {.ok = round % 5 > 0}, *device = up(&s, sizeof s);
        us_cu_bn_running *bn = up(table, sizeof table);
        float *d_params = up(w, n * 4), *d_vec = up(vec, n_vec * 4);
        double *d_moments = up(m, (size_t)moments * 8);
        ok(us_cu_running(stream, bn, N, there, device, d_moments, d_params));
        ok(us_cu_running_coefficients(stream, bn, N, d_params, d_vec));
        down(got, d_params, n * 4);
        down(got_vec, d_vec, n_vec * 4);
        us_graph graph = {.params = params};
        us_plan plan = {.graph = &graph, .bnorms = bnorms, .n_bnorms = N};
        us_exec e = {.plan = &plan, .active = run.active, .moments = m, .moments_at = moments_at, .vec = vec,
                     .params = w};
        if (s.ok) {
            us_exec_update_statistics(&e, w);
        }
        us_exec_running_statistics(&e);
        same_floats(got, w, n, ldexp(2, -24));          // made in double: the next float at most
        same_floats(got_vec, vec, n_vec, ldexp(2, -24));
        us_device_free(there);
        us_device_free(device);
        us_device_free(bn);
        us_device_free(d_moments);
        free(w);
        free(vec);
        free(got);
        free(got_vec);
        free(m);
    }
}

// ---- Conversions ------------------------------------------------------------------------------------

static void test_conversions(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        int half = round % 2, from = below(9), to = below(9);
        size_t n = round == 0 ? 0 : (size_t)below(round % 3 ? 5000 : 20), room_n = n + 16;
        float *src = random_floats(room_n, 100000), *want = random_floats(room_n, 1), *got = room(room_n * 4);
        for (size_t i = 0; i < room_n && half; i++) {
            want[i] = us_half_bits_value(us_half_bits_of(want[i]));
        }
        float *d_src = up(src, room_n * 4);
        char *d_dst = elements_up(want, room_n, half);
        ok(us_cu_to_elements(stream, d_src + from, d_dst + to * (half ? 2 : 4), (int64_t)n, half));
        float *d_back = up(src, room_n * 4);
        ok(us_cu_to_floats(stream, d_dst + to * (half ? 2 : 4), d_back + from, (int64_t)n, half));
        elements_down(got, d_dst, room_n, half);
        for (size_t i = 0; i < n; i++) {
            float x = src[from + (int)i];
            want[to + (int)i] = half ? us_half_bits_value(us_half_bits_of(x)) : x;
        }
        assert_memory_equal(got, want, room_n * 4);
        down(got, d_back, room_n * 4);
        memcpy(src + from, want + to, n * 4);
        assert_memory_equal(got, src, room_n * 4);
        us_device_free(d_src);
        free(src);
        free(want);
        free(got);
    }
}

// dst += src, where a sample is active.
static void test_add(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        int half = round % 2;
        size_t n = 1 + (size_t)below(round % 10 ? 5000 : 600000);
        float *x = random_floats(n, 1), *y = random_floats(n, 1), *got = room(n * sizeof *got);
        us_cu_run run = {.active = round % 5 > 0}, *there = up(&run, sizeof run);
        us_cu_env env = {.run = there, .half = half};
        void *src = elements_up(x, n, half), *dst = elements_up(y, n, half);
        ok(us_cu_add(stream, &env, src, dst, (int64_t)n));
        elements_down(got, dst, n, half);
        for (size_t i = 0; i < n; i++) {
            float a = half ? us_half_bits_value(us_half_bits_of(x[i])) : x[i];
            float b = half ? us_half_bits_value(us_half_bits_of(y[i])) : y[i], want = run.active ? a + b : b;
            assert_true(got[i] == (half ? us_half_bits_value(us_half_bits_of(want)) : want));
        }
        us_device_free(src);
        us_device_free(there);
        free(x);
        free(y);
        free(got);
    }
}

static void test_copy_weights(void **state)
{
    for (int half = 0; half < 2; half++) {
        static optimiser_case t;
        begin_round(half + 1);
        make_case(&t, *state, 7, 1001, half, 1);
        ok(us_cu_copy_weights(stream, &t.o));
        for (size_t i = 0; i < t.n; i++) {
            t.copy[i] = us_half_bits_value(us_half_bits_of(t.w[i]));
        }
        check_arrays(&t, 1);
        free_case(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),       cmocka_unit_test(test_loss),    cmocka_unit_test(test_prior),
        cmocka_unit_test(test_optimiser),   cmocka_unit_test(test_skipped), cmocka_unit_test(test_large),
        cmocka_unit_test(test_running),     cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_copy_weights), cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
