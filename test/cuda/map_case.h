// Random elementwise programs in both languages, that of plan.h for the CPU and that of program.h for the device,
// with everything they read, and a bound on how far two correct evaluations in float32 may be apart.
//
// Every register has `bound` (of the absolute value), `low` (of the value, where it is positive) and `error`: how
// far the value may be from what exact arithmetic makes of the same inputs, to first order. An operation passes the
// errors of its inputs on with its partial derivatives and adds roundings of u = 2^-24 each; us_exp, us_log and
// division count as 4. So the two evaluations are within twice the error of each other, and within twice that with
// terms of higher order. A compiler that fuses multiplications and additions stays inside.
#ifndef US_MAP_CASE_H
#define US_MAP_CASE_H

#include <math.h>
#include <string.h>

#include "cpu/map.h"
#include "kernels/elem.h"

#include "device_case.h"
#include "program.h"

enum { MOST_OPS = 80, MOST_TENSORS = 48, LEVELS = 3, NOISE_EDGE = 3 };

void us_map_run_base(const us_program *program, us_map_env *env);

typedef struct map_value {
    double bound, low, error;
    int exact;                  // a load: both sides see the same bits
} map_value;

typedef struct map_case {
    int batch, active, half, lanes, mean_latents, given;
    float batch_scale, loss_scale;
    us_plan plan;
    us_graph graph;
    us_node nodes[LEVELS];
    us_param prior;
    us_mask mask;
    us_tensor tensors[MOST_TENSORS];
    int n_tensors;
    int64_t sample_floats;
    us_uop uops[MOST_OPS];
    us_program program;
    us_cu_op ops[MOST_OPS];
    us_cu_program shape;
    int n_sums, n_vec, noise_h, noise_w;
    map_value values[MOST_OPS];
    double store_error[MOST_TENSORS], sum_bound[MOST_OPS], sum_error[MOST_OPS];     // sum_*: per op
    float *arena;               // [batch][sample_floats]
    float *params, *vec, *kl_weight, *noise[LEVELS];
    us_cu_sample *samples;
} map_case;

static const double UNIT = 1.0 / 16777216, DROP_RATE = 0.25;

static inline float half_or_float(float x, int half)
{
    return half ? us_half_bits_value(us_half_bits_of(x)) : x;
}

static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

// ---- What an operation does to bounds and errors ----

typedef struct kl_terms {
    double u, error, log_p, log_q, log_error;
    double r, r_error;          // in closed form: sigma_q / sigma_p
} kl_terms;

static inline double log_bound(const map_value *s)
{
    return larger(fabs(log(s->low)), fabs(log(s->bound)));
}

// (z - mu) / sigma_p
static inline kl_terms kl_of(const map_value *z, const map_value *mu, const map_value *s)
{
    kl_terms t = {.u = (z->bound + mu->bound) / s->low};
    t.error = (z->error + mu->error) / s->low + t.u * s->error / s->low + 4 * UNIT * t.u;
    return t;
}

static inline kl_terms kl_full_of(const map_value *mu_q, const map_value *s_q, const map_value *mu_p,
                                  const map_value *s_p)
{
    kl_terms t = kl_of(mu_q, mu_p, s_p);
    t.log_p = log_bound(s_p), t.log_q = log_bound(s_q);
    t.r = s_q->bound / s_p->low;
    t.r_error = s_q->error / s_p->low + t.r * s_p->error / s_p->low + 4 * UNIT * t.r;
    return t;
}

static inline map_value bounds_of(int code, const map_value *const *in, double k, double k2, double weight)
{
    const map_value *a = in[0], *b = in[1], *c = in[2], *d = in[3], *e = in[4];
    map_value r = {0};
    kl_terms t;
    double apart, grown, floor2;
    int n = 3;                                  // roundings of the result
    switch (code) {
    case US_U_ADD: r.bound = a->bound + b->bound, r.error = a->error + b->error; break;
    case US_U_MUL: r.bound = a->bound * b->bound, r.error = a->bound * b->error + b->bound * a->error; break;
    case US_U_MADD:
        r.bound = a->bound + b->bound * c->bound;
        r.error = a->error + b->bound * c->error + c->bound * b->error;
        break;
    case US_U_SCALE: r.bound = fabs(k) * a->bound, r.error = fabs(k) * a->error; break;
    case US_U_AFFINE: r.bound = a->bound + 1, r.error = a->error; break;
    case US_U_AFFINE2: r.bound = a->bound + b->bound + 1, r.error = a->error + b->error; break;
    case US_U_MASK: r.bound = 2 * a->bound, r.error = 2 * a->error; break;
    case US_U_ELU: r.bound = larger(a->bound, 1), r.error = a->error + 4 * UNIT; break;
    case US_U_ELU_GRAD:
        r.bound = a->bound * (1 + b->bound);
        r.error = a->error * (1 + b->bound) + a->bound * b->error;
        break;
    case US_U_SIGMOID:
        r.bound = 1, r.low = 1 / (1 + exp(a->bound)), r.error = a->error / 4, n = 8;
        break;
    case US_U_SIGMOID_GRAD:
        r.bound = a->bound * b->bound * (1 + b->bound);
        r.error = a->error * b->bound * (1 + b->bound) + a->bound * b->error * (1 + 2 * b->bound);
        break;
    case US_U_SIGMA:
        r.bound = sqrt(1 + a->bound + 1e-6), r.low = exp(-a->bound / 2);
        r.error = (a->error + 6 * UNIT * (1 + a->bound)) / (2 * r.low);
        break;
    case US_U_SIGMA_GRAD:
        r.bound = a->bound / (2 * c->low), n = 8;
        r.error = (a->error + a->bound * (b->error + 4 * UNIT)) / (2 * c->low) + r.bound * c->error / c->low;
        break;
    case US_U_KL:
        t = kl_of(a, b, c);
        t.log_p = log_bound(c), t.log_q = log_bound(d);
        r.bound = t.log_p + t.log_q + 0.5 * (t.u * t.u + e->bound * e->bound);
        r.error = c->error / c->low + d->error / d->low + 4 * UNIT * (2 + t.log_p + t.log_q) + t.u * t.error +
                  e->bound * e->error;
        break;
    case US_U_KL_DZ:
        t = kl_of(a, b, c);
        r.bound = weight * t.u / c->low, n = 8;
        r.error = weight * (t.error / c->low + t.u * c->error / (c->low * c->low));
        break;
    case US_U_KL_DSQ:
        r.bound = a->bound * b->bound + weight / c->low, n = 8;
        r.error = a->bound * b->error + b->bound * a->error + weight * c->error / (c->low * c->low);
        break;
    case US_U_KL_DSP:
        t = kl_of(a, b, c);
        floor2 = c->low * c->low;
        r.bound = weight * (1 + t.u * t.u) / c->low, n = 8;
        r.error = weight * (2 * t.u * t.error / c->low + (1 + t.u * t.u) * c->error / floor2);
        break;
    case US_U_KL_FULL:
        t = kl_full_of(a, b, c, d);
        r.bound = t.log_p + t.log_q + 0.5 * (t.r * t.r + t.u * t.u) + 0.5;
        r.error = d->error / d->low + b->error / b->low + 4 * UNIT * (2 + t.log_p + t.log_q) + t.r * t.r_error +
                  t.u * t.error;
        break;
    case US_U_KL_FULL_DMQ:
        t = kl_of(a, b, c);
        r.bound = weight * t.u / c->low, n = 8;
        r.error = weight * (t.error / c->low + t.u * c->error / (c->low * c->low));
        break;
    case US_U_KL_FULL_DSQ:
        floor2 = b->low * b->low;
        r.bound = weight * (a->bound / floor2 + 1 / a->low), n = 8;
        r.error = weight * (a->error / floor2 + 2 * a->bound * b->error / (floor2 * b->low) +
                            a->error / (a->low * a->low));
        break;
    case US_U_KL_FULL_DSP:
        t = kl_full_of(a, b, c, d);
        apart = 1 + t.r * t.r + t.u * t.u;
        r.bound = weight * apart / d->low, n = 8;
        r.error = weight * (2 * (t.r * t.r_error + t.u * t.error) / d->low + apart * d->error / (d->low * d->low));
        break;
    case US_U_LEAKY:                            // slopes are at most 1
    case US_U_LEAKY_GRAD: r.bound = a->bound, r.error = a->error; break;
    case US_U_DROP: r.bound = a->bound / (1 - DROP_RATE), r.error = a->error / (1 - DROP_RATE); break;
    case US_U_MSE:
    case US_U_MSE_D:
        apart = a->bound + b->bound;
        r.error = a->error + b->error + UNIT * apart;               // of the difference
        r.error *= fabs(k) * (code == US_U_MSE ? 2 * apart : 1);
        r.bound = fabs(k) * apart * (code == US_U_MSE ? apart : 1);
        break;
    case US_U_MAX: r.bound = larger(a->bound, fabs(k)), r.low = k > 0 ? k : 0, r.error = a->error; break;
    case US_U_NLL:
    case US_U_NLL_DM:
    case US_U_NLL_DLV:
        apart = a->bound + b->bound, grown = exp(c->bound);
        r.error = a->error + b->error + UNIT * apart;               // of the difference
        if (code == US_U_NLL_DM) {
            r.bound = fabs(k) * apart * grown;
            r.error = fabs(k) * grown * (r.error + apart * (c->error + 4 * UNIT));
            break;
        }
        r.error = grown * (2 * apart * r.error + apart * apart * (c->error + 4 * UNIT)) / 2;
        if (code == US_U_NLL) {
            r.bound = 0.5 * (apart * apart * grown + c->bound + 1.84);
            r.error += c->error / 2;
        } else {
            r.bound = fabs(k) * 0.5 * (1 + apart * apart * grown);
            r.error *= fabs(k);
        }
        break;
    default: break;
    }
    (void)k2;
    r.error += n * UNIT * r.bound;
    return r;
}

// ---- Making a program ----

static const int map_arity[] = {
#define X(name, n) n,
    US_UOPS(X)
#undef X
};

// Inputs that must be positive, as bits; inputs that must be the same bits on both sides, since a value is
// compared with a bound.
static inline int positive_inputs(int code)
{
    return code == US_U_KL ? 12 : code == US_U_KL_DZ || code == US_U_KL_DSQ || code == US_U_KL_DSP ? 4
           : code == US_U_SIGMA_GRAD || code == US_U_KL_FULL_DMQ ? 4 : code == US_U_KL_FULL_DSQ ? 3
           : code == US_U_KL_FULL || code == US_U_KL_FULL_DSP ? 10 : 0;
}

static inline int exact_inputs(int code)
{
    return code == US_U_SIGMA_GRAD || code == US_U_LEAKY_GRAD ? 2 : code == US_U_NLL_DLV ? 8 : 0;
}

// A register made so far, -1: none is fit.
static inline int pick(const map_case *m, int positive, int exact)
{
    for (int i = 0; i < 20; i++) {
        int r = below(m->program.n_regs);
        if ((!positive || m->values[r].low > 0.1) && (!exact || m->values[r].exact)) {
            return r;
        }
    }
    return -1;
}

static inline int add_tensor(map_case *m, int c, int h, int w)
{
    us_tensor *t = &m->tensors[m->n_tensors];
    *t = (us_tensor){.c = c, .h = h, .w = w, .floats = (int64_t)c * h * w, .offset = m->sample_floats};
    m->sample_floats += (t->floats + 15) / 16 * 16;
    m->store_error[m->n_tensors] = -1;
    return m->n_tensors++;
}

static inline us_cu_op *push(map_case *m, us_uop uop, const map_value *value)
{
    us_program *p = &m->program;
    us_cu_op *op = &m->ops[p->n_ops];
    uop.into = -1;
    uop.dst = value ? p->n_regs : -1;
    if (value) {
        m->values[p->n_regs++] = *value;
    }
    m->uops[p->n_ops++] = uop;
    *op = (us_cu_op){.code = (int16_t)uop.code, .dst = (int16_t)uop.dst, .level = (int16_t)uop.ref, .c0 = uop.c0,
                     .oy = uop.oy, .ox = uop.ox, .vec = {uop.vec[0], uop.vec[1], uop.vec[2]}, .k = uop.k,
                     .k2 = uop.k2};
    for (int i = 0; i < map_arity[uop.code]; i++) {
        op->in[i] = (int16_t)uop.in[i];
    }
    return op;
}

static inline void place_tensor(const map_case *m, us_cu_op *op, int tensor)
{
    const us_tensor *t = &m->tensors[tensor];
    op->t_c = t->c, op->t_h = t->h, op->t_w = t->w;
    op->at = t->offset * m->batch;
    op->stride = t->floats;
}

// Windows hang over every border, or lie beyond it.
static inline void push_load(map_case *m)
{
    const us_program *p = &m->program;
    int c0 = below(3) * m->lanes, exact = below(4) == 0;
    int t = exact ? add_tensor(m, p->c, p->h, p->w)
                  : add_tensor(m, p->c + c0 + below(2) * m->lanes, 1 + below(p->h + 4), 1 + below(p->w + 4));
    map_value v = {.bound = 2, .exact = 1};
    us_uop op = {.code = US_U_LOAD, .ref = t, .c0 = exact ? 0 : c0, .oy = exact ? 0 : below(9) - 4,
                 .ox = exact ? 0 : below(9) - 4};
    place_tensor(m, push(m, op, &v), t);
}

static inline void push_source(map_case *m)
{
    int what = below(4);
    if (what > 1) {
        push_load(m);
    } else if (what == 1) {
        map_value v = {.bound = 6, .error = 64 * UNIT};     // six standard deviations: of 24 bits there are no more
        push(m, (us_uop){.code = US_U_NOISE, .ref = below(LEVELS), .oy = below(NOISE_EDGE), .ox = below(NOISE_EDGE)},
             &v);
    } else {
        map_value v = {.bound = 1, .exact = 1};
        int64_t extra = m->prior.dims[1] - m->program.c;
        us_cu_op *op = push(m, (us_uop){.code = US_U_PARAM, .ref = 0, .c0 = below((int)extra + 1),
                                        .oy = below(3), .ox = below(3)}, &v);
        op->c0 = m->uops[m->program.n_ops - 1].c0 = op->c0 / m->lanes * m->lanes;
        op->at = m->prior.offset;
        op->stride = m->prior.dims[2] * m->prior.dims[3];
        op->t_h = (int32_t)m->prior.dims[2], op->t_w = (int32_t)m->prior.dims[3];
    }
}

// One operation on registers; gives up where no register is fit or the result would grow too large.
static inline void push_compute(map_case *m, int code)
{
    us_uop op = {.code = (us_uop_code)code, .ref = below(LEVELS), .k = real(), .k2 = real()};
    const map_value *in[US_UOP_MAX_IN] = {0};
    double weight = 1, k = op.k;
    for (int i = 0; i < map_arity[code]; i++) {
        op.in[i] = pick(m, positive_inputs(code) >> i & 1, exact_inputs(code) >> i & 1);
        if (op.in[i] < 0) {
            return;
        }
        in[i] = &m->values[op.in[i]];
    }
    if (code == US_U_NLL_DM || code == US_U_NLL_DLV || code == US_U_MSE_D) {
        k *= m->batch_scale * m->loss_scale;
    }
    if (((code == US_U_SIGMA || code == US_U_SIGMOID) && in[0]->bound > 4) ||
        (code >= US_U_NLL && code <= US_U_NLL_DLV && in[2]->bound > 3)) {
        return;
    }
    map_value v = bounds_of(code, in, k, op.k2, weight);
    if (v.bound > 256 || v.error > 3e-4) {
        return;
    }
    if (code == US_U_AFFINE || code == US_U_AFFINE2) {
        for (int i = 0; i < 3; i++) {
            op.vec[i] = below(3) * 16 + below(3) * m->lanes;
        }
    }
    if (code == US_U_MASK) {
        op.c0 = below(2) * m->lanes;
        op.ref = 0;
    }
    if (code == US_U_DROP) {                    // a part of a node that is wider and has more channels
        op.oy = below(3), op.ox = below(3);
        op.c0 = below(3) * m->lanes;
        op.k = (float)(m->program.w + op.ox + below(3));
        op.k2 = (float)(m->program.c + op.c0 + below(3) * m->lanes);
    }
    us_cu_op *d = push(m, op, &v);
    if (code == US_U_MASK) {
        d->vec[0] = (int32_t)m->mask.offset;
        d->vec[1] = (m->mask.c + 15) / 16 * 16;
    }
}

static inline void push_store(map_case *m)
{
    const us_program *p = &m->program;
    int c0 = below(2) * below(3) * m->lanes, r = pick(m, 0, 0);
    int t = add_tensor(m, p->c + c0 + below(2) * m->lanes, p->h, p->w);
    m->store_error[t] = 4 * m->values[r].error;
    place_tensor(m, push(m, (us_uop){.code = US_U_STORE, .in = {r}, .ref = t, .c0 = c0}, NULL), t);
}

static inline void push_sum(map_case *m, int code)
{
    us_program *p = &m->program;
    int a = pick(m, 0, 0), b = below(2) ? a : pick(m, 0, 0), square = code == US_U_SUM2 && a == b, at = p->n_ops;
    const map_value *x = &m->values[a], *y = &m->values[b];
    us_cu_op *op = push(m, (us_uop){.code = (us_uop_code)code, .in = {a, b}, .ref = m->n_sums}, NULL);
    op->square = square;
    op->slot = m->n_sums;
    op->part = m->shape.parts;
    m->sum_bound[at] = code == US_U_SUM ? x->bound : larger(x->bound, x->bound * y->bound);
    m->sum_error[at] = code == US_U_SUM ? x->error
                                        : larger(x->error, x->bound * y->error + y->bound * x->error);
    m->shape.parts += (code == US_U_SUM ? 1 : 2) * p->c;
    m->n_sums += (code == US_U_SUM ? 1 : 2) * p->c + 3;
}

// Accumulators stand behind the registers.
static inline void number_rows(us_cu_op *ops, us_cu_program *p, int registers)
{
    p->rows = registers;
    for (int i = 0; i < p->n_ops; i++) {
        ops[i].acc = p->rows;
        p->rows += us_cu_sum_rows(&ops[i]);
    }
}

static inline map_case *case_begin(int batch, int active, int half, int lanes, int c, int h, int w)
{
    map_case *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->batch = batch, m->active = active, m->half = half, m->lanes = lanes;
    m->mean_latents = below(4) == 0;
    m->given = below(8);
    m->batch_scale = (float)batch / (float)active;
    m->loss_scale = half ? 8.0f : 1.0f;
    m->program = (us_program){.h = h, .w = w, .c = c, .ops = m->uops};
    m->prior = (us_param){.n_dims = 4, .dims = {1, c + 2 * lanes, h + 3, w + 2}, .offset = 5};
    m->mask = (us_mask){.c = c + lanes, .offset = 3 * 16 + (c + 2 * lanes + 15) / 16 * 16};
    m->n_vec = (int)m->mask.offset + batch * ((m->mask.c + 15) / 16 * 16);
    m->n_sums = 2;
    m->noise_h = h + NOISE_EDGE, m->noise_w = w + NOISE_EDGE + 1;
    return m;
}

// Memory and the device's side, once all ops are there.
static inline void case_end(map_case *m)
{
    us_program *p = &m->program;
    m->shape.h = p->h, m->shape.w = p->w, m->shape.c = p->c, m->shape.lanes = m->lanes, m->shape.n_ops = p->n_ops;
    number_rows(m->ops, &m->shape, p->n_regs);
    m->plan = (us_plan){.graph = &m->graph, .tensors = m->tensors, .masks = &m->mask, .max_regs = p->n_regs};
    m->graph.nodes = m->nodes;
    m->graph.config.dropout = DROP_RATE;
    m->graph.params = &m->prior;
    size_t prior = (size_t)(m->prior.dims[1] * m->prior.dims[2] * m->prior.dims[3] + m->prior.offset);
    size_t arena = (size_t)(m->batch * m->sample_floats), noise = (size_t)(m->batch * m->noise_h * m->noise_w * p->c);
    m->params = random_floats(prior, 1);
    m->vec = random_floats((size_t)m->n_vec, 1);
    for (int i = (int)m->mask.offset; i < m->n_vec; i++) {
        m->vec[i] = below(2) ? 2.0f : 0.0f;
    }
    m->kl_weight = random_floats((size_t)(m->batch * US_CU_LEVELS), 1);
    m->arena = random_floats(arena, 2);
    for (size_t i = 0; i < arena; i++) {
        m->arena[i] = half_or_float(m->arena[i], m->half);
    }
    m->samples = room((size_t)m->batch * sizeof *m->samples);
    memset(m->samples, 0, (size_t)m->batch * sizeof *m->samples);
    for (int i = 0; i < LEVELS; i++) {
        m->graph.latent[i] = i;
        m->nodes[i].w = m->noise_w;
        m->noise[i] = random_floats(noise, 2);
    }
    for (int s = 0; s < m->batch; s++) {
        m->samples[s].stream = (uint64_t)draw() << 32 | draw();
        m->samples[s].drops = (uint64_t)draw() << 32 | draw();
        for (int i = 0; i < LEVELS; i++) {
            m->samples[s].y[i] = below(2000) - 1000, m->samples[s].x[i] = below(2000) - 1000;
        }
    }
}

static inline void case_free(map_case *m)
{
    for (int i = 0; i < LEVELS; i++) {
        free(m->noise[i]);
    }
    free(m->samples);
    free(m->arena);
    free(m->kl_weight);
    free(m->vec);
    free(m->params);
    free(m);
}

// ---- The CPU's answer ----

// arena: [batch][sample_floats], changed in place; sums: [batch][n_sums].
static inline void run_cpu(const map_case *m, float *arena, double *sums)
{
    float *registers = room((size_t)m->program.n_regs * US_BLOCK * sizeof *registers);
    memset(sums, 0, (size_t)(m->batch * m->n_sums) * sizeof *sums);
    for (int s = 0; s < m->active; s++) {
        us_map_env env = {.plan = &m->plan, .sample_base = arena + s * m->sample_floats, .params = m->params,
                          .vec = m->vec, .sample = s, .sums = sums + s * m->n_sums,
                          .kl_weight = m->kl_weight + s * US_CU_LEVELS, .batch_scale = m->batch_scale * m->loss_scale,
                          .stream = m->samples[s].stream, .drops = m->samples[s].drops, .mean_latents = m->mean_latents, .registers = registers,
                          .block = US_BLOCK};
        for (int i = 0; i < LEVELS; i++) {
            env.noise_y[i] = m->samples[s].y[i], env.noise_x[i] = m->samples[s].x[i];
            env.noise[i] = m->given >> i & 1
                               ? m->noise[i] + (ptrdiff_t)s * m->noise_h * m->noise_w * m->program.c : NULL;
        }
        us_map_run_base(&m->program, &env);
    }
    free(registers);
}

#endif
