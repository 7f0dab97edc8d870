// What the threads of a block do for an elementwise program (program.h): memory, every op, sums, and what the last
// block finishes. Shared by the interpreter (map.cu) and by the programs that are compiled at run time (source.h),
// whose compiler is given this file as text. What an operation does is src/cpu/map_isa.c; arithmetic is that of
// kernels/elem.h and step.h.
//
// A thread owns a group of L neighbouring channels and walks over pixels of its block's share, running the whole
// program on each. Sums are made in float per thread (a few hundred pixels), in double per block and over blocks, each
// in a fixed order. The partials of a block are doubles: of sums of squares whose variance is far below the squared
// mean, a float would lose what the pivot of us_add_square saved.
#ifndef US_WALK_H
#define US_WALK_H

#include "gpu.h"
#include "kernels/spatial.h"
#include "kernels/step.h"
#include "plan/uops.h"
#include "program.h"

typedef struct us_walk {
    int sample, channel;        // channel of lane 0
    int pixel, y, x;            // where it is
    int first;                  // its first pixel: sums begin with it
} us_walk;

// ---- Memory ----

// L neighbouring elements as they lie in memory: fetched first, opened when they are needed.
template <typename T, int L> struct us_fetched;
template <typename T> struct us_fetched<T, 8> {
    us_eight<T> x;
};
template <typename T> struct us_fetched<T, 1> {
    T x;
};

template <typename T> US_DEVICE void us_fetch(const T *from, us_fetched<T, 8> *f)
{
    f->x = us_fetch8(from);
}

template <typename T> US_DEVICE void us_fetch(const T *from, us_fetched<T, 1> *f)
{
    f->x = *from;
}

template <typename T> US_DEVICE void us_open(const us_fetched<T, 8> *f, float *x)
{
    us_open8(f->x, x);
}

template <typename T> US_DEVICE void us_open(const us_fetched<T, 1> *f, float *x)
{
    x[0] = us_to_float(f->x);
}

template <typename T, int L> US_DEVICE void read_values(const T *from, float *x)
{
    us_fetched<T, L> f;
    us_fetch(from, &f);
    us_open(&f, x);
}

// whole: the tensor has the program's rows and columns. Else what is outside of it is zero.
template <typename T, int L>
US_DEVICE us_fetched<T, L> us_load(const us_cu_env *env, const us_cu_op *op, const us_walk *w, int whole)
{
    us_fetched<T, L> f = us_fetched<T, L>();
    int y = w->y + op->oy, x = w->x + op->ox;
    if (whole || (y >= 0 && y < op->t_h && x >= 0 && x < op->t_w)) {
        int64_t pixel = whole ? w->pixel : (int64_t)y * op->t_w + x;
        us_fetch((const T *)env->arena + op->at + w->sample * op->stride + pixel * op->t_c + op->c0 + w->channel, &f);
    }
    return f;
}

// A stored tensor has the program's rows and columns; only its channels may be more.
template <typename T, int L>
US_DEVICE void store(const us_cu_env *env, const us_cu_op *op, const us_walk *w, const float *v)
{
    T *to = (T *)env->arena + op->at + w->sample * op->stride + (int64_t)w->pixel * op->t_c + op->c0 + w->channel;
    if (L == 8) {
        us_store8(to, v);
    } else {
        us_from_float(v[0], to);
    }
}

// The top prior is stored (channel, y, x).
template <int L> US_DEVICE void read_prior(const us_cu_env *env, const us_cu_op *op, const us_walk *w, float *v)
{
    int64_t at = (int64_t)(w->y + op->oy) * op->t_w + w->x + op->ox;
    for (int i = 0; i < L; i++) {
        v[i] = env->params[op->at + (op->c0 + w->channel + i) * op->stride + at];
    }
}

template <int L> US_DEVICE void draw_noise(const us_cu_env *env, const us_cu_op *op, const us_walk *w, float *v)
{
    int level = op->level, y = w->y + op->oy, x = w->x + op->ox, channel = op->c0 + w->channel;
    if (env->run->mean_latents) {
        for (int i = 0; i < L; i++) {
            v[i] = 0;
        }
    } else if (env->run->given >> level & 1) {
        int64_t row = (int64_t)w->sample * env->noise_h[level] + y;
        const float *from = env->noise[level] + (row * env->noise_w[level] + x) * env->noise_c[level] + channel;
        for (int i = 0; i < L; i++) {
            v[i] = from[i];
        }
    } else {
        const us_cu_sample *s = &env->samples[w->sample];
        int32_t ay = (int32_t)((int64_t)s->y[level] + y), ax = (int32_t)((int64_t)s->x[level] + x);
        for (int i = 0; i < L; i += 4) {        // channels of four lanes, or the four that this one is among
            float draws[4];
            us_draw_normal4(s->stream, ay, ax, (uint32_t)(channel + i) / 4, (uint32_t)level, draws);
            for (int j = 0; j < 4; j++) {
                if (L == 1) {
                    v[0] = channel % 4 == j ? draws[j] : v[0];
                } else {
                    v[i + j] = draws[j];
                }
            }
        }
    }
}

// Multipliers of the node's elements: four to a draw, channel fastest. Eight lanes begin at a multiple of four.
template <int L>
US_DEVICE void draw_drop(const us_cu_env *env, const us_cu_op *op, const us_walk *w, const float *a, float *v)
{
    const us_cu_sample *s = &env->samples[w->sample];
    int64_t pixel = (w->y + op->oy) * (int64_t)op->k + w->x + op->ox;
    uint32_t at = (uint32_t)(pixel * (int64_t)op->k2 + op->c0 + w->channel);
    for (int i = 0; i < L; i += 4) {
        float draws[4];
        us_draw_drop4(s->drops, (uint32_t)op->level, (at + (uint32_t)i) / 4, env->dropout, draws);
        for (int j = 0; j < 4; j++) {
            if (L == 1) {
                v[0] = at % 4 == (uint32_t)j ? a[0] * draws[j] : v[0];
            } else {
                v[i + j] = a[i + j] * draws[j];
            }
        }
    }
}

// ---- One op ----

template <int L> US_DEVICE void read_vector(const us_cu_env *env, int64_t at, float *x)
{
    read_values<float, L>(env->vec + at, x);
}

// Gradients of the likelihood: the constant is planned for a full batch and an unscaled loss.
US_DEVICE float gradient_scale(const us_cu_env *env, float k)
{
    return k * env->run->batch_scale * env->state->loss_scale;
}

US_DEVICE float kl_weight(const us_cu_env *env, const us_cu_op *op, const us_walk *w)
{
    return env->kl_weight[w->sample * US_CU_LEVELS + op->level];
}

#define IN(n, x) in->get(n, x)
#define IN1 IN(0, a)
#define IN2 IN1, IN(1, b)
#define IN3 IN2, IN(2, c)
#define IN4 IN3, IN(3, d)
#define IN5 IN4, IN(4, e)
#define EACH(expression)                                                                          \
    for (int i = 0; i < L; i++) {                                                                 \
        v[i] = (expression);                                                                      \
    }                                                                                             \
    break

// Every op but loads and sums. in: get(n, x) copies input n; v: the value it makes, which may be an input.
template <typename T, int L, typename In>
US_DEVICE void us_apply(int code, const us_cu_env *env, const us_cu_op *op, const us_walk *w, const In *in, float *v)
{
    float a[L], b[L], c[L], d[L], e[L];
    const float k = op->k;
    switch (code) {
    case US_U_NOISE: draw_noise<L>(env, op, w, v); break;
    case US_U_PARAM: read_prior<L>(env, op, w, v); break;
    case US_U_ADD: IN2; EACH(a[i] + b[i]);
    case US_U_MUL: IN2; EACH(a[i] * b[i]);
    case US_U_MADD: IN3; EACH(a[i] + b[i] * c[i]);
    case US_U_SCALE: IN1; EACH(k * a[i]);
    case US_U_AFFINE:
        IN1;
        read_vector<L>(env, op->vec[0] + w->channel, b);
        read_vector<L>(env, op->vec[1] + w->channel, c);
        EACH(b[i] * a[i] + c[i]);
    case US_U_AFFINE2:
        IN2;
        read_vector<L>(env, op->vec[0] + w->channel, c);
        read_vector<L>(env, op->vec[1] + w->channel, d);
        read_vector<L>(env, op->vec[2] + w->channel, e);
        EACH(c[i] * a[i] + (d[i] * b[i] + e[i]));
    case US_U_MASK:
        IN1;
        read_vector<L>(env, op->vec[0] + (int64_t)w->sample * op->vec[1] + op->c0 + w->channel, b);
        EACH(b[i] * a[i]);
    case US_U_LEAKY: IN1; EACH(us_leaky(a[i], k));
    case US_U_LEAKY_GRAD: IN2; EACH(us_leaky_grad(a[i], b[i], k));
    case US_U_DROP: IN1; draw_drop<L>(env, op, w, a, v); break;
    case US_U_ELU: IN1; EACH(us_elu(a[i]));
    case US_U_ELU_GRAD: IN2; EACH(us_elu_grad(a[i], b[i]));
    case US_U_SIGMOID: IN1; EACH(us_sigmoid(a[i]));
    case US_U_SIGMOID_GRAD: IN2; EACH(us_sigmoid_grad(a[i], b[i]));
    case US_U_SIGMA: IN1; EACH(us_sigma(a[i], k));
    case US_U_SIGMA_GRAD: IN3; EACH(us_sigma_grad(a[i], b[i], c[i], k));
    case US_U_KL: IN5; EACH(us_kl(a[i], b[i], c[i], d[i], e[i]));
    case US_U_KL_DZ:
    case US_U_KL_DSQ:
    case US_U_KL_DSP: {
        const float weight = kl_weight(env, op, w);
        IN3;
        if (code == US_U_KL_DZ) {
            EACH(us_kl_dz(a[i], b[i], c[i], weight));
        }
        if (code == US_U_KL_DSQ) {
            EACH(us_kl_dsq(a[i], b[i], c[i], weight));
        }
        EACH(us_kl_dsp(a[i], b[i], c[i], weight));
    }
    case US_U_KL_FULL: IN4; EACH(us_kl_full(a[i], b[i], c[i], d[i]));
    case US_U_KL_FULL_DMQ: {
        const float weight = kl_weight(env, op, w);
        IN3;
        EACH(us_kl_full_dmq(a[i], b[i], c[i], weight));
    }
    case US_U_KL_FULL_DSQ: {
        const float weight = kl_weight(env, op, w);
        IN2;
        EACH(us_kl_full_dsq(a[i], b[i], weight));
    }
    case US_U_KL_FULL_DSP: {
        const float weight = kl_weight(env, op, w);
        IN4;
        EACH(us_kl_full_dsp(a[i], b[i], c[i], d[i], weight));
    }
    case US_U_MSE: IN2; EACH(us_mse(a[i], b[i], k));
    case US_U_MSE_D: {
        const float scale = gradient_scale(env, k);
        IN2;
        EACH(us_mse_d(a[i], b[i], scale));
    }
    case US_U_MAX: IN1; EACH(a[i] < k ? k : a[i]);
    case US_U_NLL: IN3; EACH(us_nll(a[i], b[i], c[i]));
    case US_U_NLL_DM: {
        const float scale = gradient_scale(env, k);
        IN3;
        EACH(us_nll_dm(a[i], b[i], c[i], scale));
    }
    case US_U_NLL_DLV: {
        const float scale = gradient_scale(env, k), bound = op->k2;
        IN4;
        EACH(us_nll_dlv(a[i], b[i], c[i], d[i], scale, bound));
    }
    case US_U_STORE: IN1; store<T, L>(env, op, w, a); break;
    default: break;
    }
}

#undef IN
#undef IN1
#undef IN2
#undef IN3
#undef IN4
#undef IN5
#undef EACH

// ---- Sums of one thread ----

// first: the thread's first pixel, with which its sums begin.
template <int L> US_DEVICE void us_add(float *sum, const float *x, int first)
{
    for (int i = 0; i < L; i++) {
        sum[i] = first ? x[i] : sum[i] + x[i];
    }
}

// The first value, the sum of differences from it, the sum of their squares. A variance far smaller than the squared
// mean survives.
template <int L> US_DEVICE void us_add_square(float *pivot, float *sum, float *squares, const float *x, int first)
{
    for (int i = 0; i < L; i++) {
        pivot[i] = first ? x[i] : pivot[i];
        float d = x[i] - pivot[i];
        sum[i] = first ? d : sum[i] + d;
        squares[i] = first ? d * d : squares[i] + d * d;
    }
}

template <int L> US_DEVICE void us_add_two(float *sum, float *products, const float *a, const float *b, int first)
{
    for (int i = 0; i < L; i++) {
        sum[i] = first ? a[i] : sum[i] + a[i];
        products[i] = first ? a[i] * b[i] : products[i] + a[i] * b[i];
    }
}

// ---- Rows of shared memory: a row is L floats for every thread of the block ----

typedef struct alignas(16) us_piece {
    float x[4];
} us_piece;

// rows: this thread's piece of row 0.
template <int L> US_DEVICE void us_get_row(const float *rows, int row, float *x)
{
    if (L == 1) {
        x[0] = rows[row * us_threads()];
        return;
    }
    const us_piece *from = (const us_piece *)rows + row * (L / 4) * us_threads();
    for (int i = 0; i < L / 4; i++) {
        us_piece piece = from[i * us_threads()];
        for (int j = 0; j < 4; j++) {
            x[4 * i + j] = piece.x[j];
        }
    }
}

template <int L> US_DEVICE void us_put_row(float *rows, int row, const float *x)
{
    if (L == 1) {
        rows[row * us_threads()] = x[0];
        return;
    }
    us_piece *to = (us_piece *)rows + row * (L / 4) * us_threads();
    for (int i = 0; i < L / 4; i++) {
        us_piece piece;
        for (int j = 0; j < 4; j++) {
            piece.x[j] = x[4 * i + j];
        }
        to[i * us_threads()] = piece;
    }
}

// This thread's piece of row 0 of the block's rows.
template <int L> US_DEVICE float *us_own_rows(float *rows)
{
    return rows + us_thread() * (L < 4 ? L : 4);
}

// ---- A block's share ----

// Pixels from .. to of a block, `step` at a time: `width` channel groups of each, from group `first` on.
typedef struct us_share {
    int from, to, step, first, width;
} us_share;

// A program of more groups than threads goes over its pixels once for every `threads` of them.
US_DEVICE us_share share_of(const us_cu_program *p, int block, int lanes, int first)
{
    int groups = p->c / lanes, threads = us_threads(), pixels = p->h * p->w;
    int full = threads / (groups < threads ? groups : threads), rounds = (pixels + full - 1) / full;
    int share = (rounds + p->blocks - 1) / p->blocks * full;
    us_share s;
    s.first = first;
    s.width = groups - first < threads ? groups - first : threads;
    s.step = threads / s.width;
    s.from = block * share < pixels ? block * share : pixels;
    s.to = pixels - s.from < share ? pixels : s.from + share;
    return s;
}

// Puts the thread on its first pixel; 0: it has nothing to do.
US_DEVICE int us_begin(const us_cu_program *p, const us_share *s, int lanes, us_walk *w)
{
    int slot = us_thread() / s->width;
    w->channel = (s->first + us_thread() % s->width) * lanes;
    w->first = w->pixel = s->from + slot;
    w->y = w->pixel / p->w;
    w->x = w->pixel % p->w;
    return slot < s->step && w->pixel < s->to;
}

US_DEVICE void us_advance(const us_cu_program *p, const us_share *s, us_walk *w)
{
    w->pixel += s->step;
    w->x += s->step % p->w;
    w->y += s->step / p->w;
    if (w->x >= p->w) {
        w->x -= p->w;
        w->y++;
    }
}

// A sample that is not active stores zeros: weight gradients are sums over the whole batch.
template <typename T, int L> US_OUTLINE void clear_stores(const us_cu_program *p, const us_cu_env *env, int sample)
{
    const float zeros[L] = {0};
    const us_cu_op *ops = env->ops + p->first_op;
    us_walk w = {sample, 0, 0, 0, 0, 0};
    int groups = p->c / L, step = p->blocks * us_threads();
    for (int at = us_block() % p->blocks * us_threads() + us_thread(); at < p->h * p->w * groups; at += step) {
        w.pixel = at / groups;
        w.channel = at % groups * L;
        for (int i = 0; i < p->n_ops; i++) {
            if (ops[i].code == US_U_STORE) {
                store<T, L>(env, &ops[i], &w, zeros);
            }
        }
    }
}

// ---- Sums of a block ----

// What the thread at `slot` of a channel, which has seen so many pixels, adds to sum `kind` of the op. rows: row 0 of
// the block.
template <int L>
US_DEVICE double thread_sum(const us_share *s, const us_cu_op *op, const float *rows, int kind, int channel, int slot,
                            int pixels)
{
    const int piece = L < 4 ? L : 4, threads = us_threads();
    int lane = channel % L, thread = slot * s->width + channel / L;
    const float *at = rows + ((op->acc * (L / piece) + lane / piece) * threads + thread) * piece + lane % piece;
    const int row = L * threads;
    if (!op->square) {
        return (double)at[kind * row];
    }
    double n = pixels;
    double first = (double)at[0], sum = (double)at[row];
    return kind == 0 ? n * first + sum : (double)at[2 * row] + 2 * first * sum + n * first * first;
}

// One op. A task is a sum of one channel; all threads share the tasks' slots evenly, then one thread of a task
// adds up what they got. Called by every thread.
template <int L>
US_DEVICE void block_sums(const us_cu_program *p, const us_cu_env *env, const us_share *s, const us_cu_op *op,
                          const float *rows, double *scratch)
{
    enum { AHEAD = 4 };
    int channels = s->width * L, tasks = us_cu_sum_kinds(op) * channels;
    int slots = s->to - s->from < s->step ? s->to - s->from : s->step;  // that have seen a pixel
    int each = (s->to - s->from) / s->step, more = (s->to - s->from) % s->step;     // pixels; slots with one more
    int sample = us_block() / p->blocks, block = us_block() % p->blocks;
    for (int first = 0; first < tasks; first += us_threads()) {
        int n = tasks - first < us_threads() ? tasks - first : us_threads(), splits = us_threads() / n;
        int task = first + us_thread() % n, split = us_thread() / n;
        int kind = task / channels, channel = task % channels;
        double sum = 0;
        for (int slot = split; split < splits && slot < slots; slot += AHEAD * splits) {
            double x[AHEAD];
            US_UNROLL
            for (int i = 0; i < AHEAD; i++) {
                int at = slot + i * splits;
                x[i] = at < slots ? thread_sum<L>(s, op, rows, kind, channel, at, each + (at < more)) : 0;
            }
            US_UNROLL
            for (int i = 0; i < AHEAD; i++) {
                sum += x[i];
            }
        }
        scratch[us_thread()] = sum;
        us_barrier();
        if (split == 0) {
            for (int i = 1; i < splits; i++) {
                sum += scratch[us_thread() + i * n];
            }
            int64_t part = op->part + kind * p->c + s->first * L + channel;
            env->partials[(part * env->batch + sample) * p->blocks + block] = sum;
        }
        us_barrier();
    }
}

// ---- Sums of all blocks, by the last one ----

// Is this block the last to get here? The answer lies in *flag of shared memory.
US_DEVICE int is_last_block(unsigned *counter, int *flag)
{
    us_barrier();               // the block's writes are this thread's to publish
    if (us_thread() == 0) {
        us_publish();
        *flag = us_arrive(counter) == (unsigned)us_blocks() - 1;
        us_publish();           // reads of what others wrote come after the count
    }
    us_barrier();
    return *flag;
}

// Every sample's sums out of its blocks', in the order of the blocks; some of both are read at a time.
US_DEVICE void add_blocks(const us_cu_program *p, const us_cu_env *env, const us_cu_op *op, int active)
{
    enum { TASKS = 4, AHEAD = 4 };
    const int slots = us_cu_sum_kinds(op) * p->c, n = slots * active, threads = us_threads(), blocks = p->blocks;
    for (int first = us_thread(); first < n; first += TASKS * threads) {
        const double *from[TASKS];
        double sum[TASKS], x[TASKS][AHEAD];
        US_UNROLL
        for (int k = 0; k < TASKS; k++) {
            int task = first + k * threads < n ? first + k * threads : first;
            from[k] = env->partials + ((int64_t)(op->part + task / active) * env->batch + task % active) * blocks;
            sum[k] = 0;
        }
        for (int at = 0; at < blocks; at += AHEAD) {
            US_UNROLL
            for (int k = 0; k < TASKS; k++) {
                US_UNROLL
                for (int i = 0; i < AHEAD; i++) {
                    x[k][i] = at + i < blocks ? from[k][at + i] : 0;
                }
            }
            US_UNROLL
            for (int k = 0; k < TASKS; k++) {
                US_UNROLL
                for (int i = 0; i < AHEAD; i++) {
                    sum[k] += x[k][i];
                }
            }
        }
        US_UNROLL
        for (int k = 0; k < TASKS; k++) {
            int task = first + k * threads, slot = task / active, sample = task % active;
            if (task < n) {
                env->sums[(int64_t)sample * env->n_sums + op->slot + slot] = sum[k];
            }
        }
    }
}

// A parameter that an earlier finish has written the gradient of: the same thread of another launch, or of this one.
US_DEVICE void add_gradient(const us_cu_env *env, const us_cu_finish *f, int64_t at, double sum)
{
    float before = f->adds_up ? env->grads[at] : 0.0f;
    env->grads[at] = (float)sum + before;
}

// What the finish of a channel reads besides its sums; read while others still add up.
typedef struct us_finish_inputs {
    float gamma, beta, inverse;
} us_finish_inputs;

US_DEVICE us_finish_inputs read_inputs(const us_cu_env *env, const us_cu_finish *f, int c)
{
    us_finish_inputs in = {0, 0, 0};
    if (f->kind != US_CU_FINISH_BIAS && c < f->c) {
        in.gamma = env->params[f->gamma + c];
        in.beta = env->params[f->beta + c];
        in.inverse = f->kind == US_CU_FINISH_BN_BACK ? env->vec[f->inverse + c] : 0.0f;
    }
    return in;
}

// One channel (networks 1.3), from its one or two sums over the samples.
US_DEVICE void finish_channel(const us_cu_env *env, const us_cu_finish *f, const us_finish_inputs *in, int c, double n,
                              double sum, double second)
{
    if (f->kind == US_CU_FINISH_BIAS) {
        add_gradient(env, f, f->gamma + c, sum);
    } else if (f->kind == US_CU_FINISH_BN) {
        us_bn_forward b = us_bn_of_sums(sum, second, n, in->gamma, in->beta);
        env->moments[f->moments + c] = b.mean;
        env->moments[f->moments + f->c + c] = b.var;
        env->vec[f->scale + c] = b.scale;
        env->vec[f->shift + c] = b.shift;
        env->vec[f->inverse + c] = b.inverse;
        env->vec[f->centre + c] = b.centre;
    } else {
        float ga, gb, gc;
        us_bn_back(sum, second, n, in->gamma, in->inverse, &ga, &gb, &gc);
        env->vec[f->ga + c] = ga;
        env->vec[f->gb + c] = gb;
        env->vec[f->gc + c] = gc;
        add_gradient(env, f, f->beta + c, sum);
        add_gradient(env, f, f->gamma + c, second);
    }
}

// Of n partials every `step`-th from `first` on, in their order; some reads are under way at a time.
US_DEVICE double sum_partials(const double *partials, int first, int step, int n)
{
    enum { AHEAD = 16 };
    double sum = 0;
    for (int at = first; at < n; at += AHEAD * step) {
        double x[AHEAD];
        US_UNROLL
        for (int i = 0; i < AHEAD; i++) {
            x[i] = at + i * step < n ? partials[at + i * step] : 0;
        }
        US_UNROLL
        for (int i = 0; i < AHEAD; i++) {
            sum += x[i];
        }
    }
    return sum;
}

// What waits for an op's sums takes them over all samples: one after the other lie the partials of a slot. The block's
// threads share the slots, and a slot among as many threads as there are; a channel is one thread's then.
US_DEVICE void finish_op(const us_cu_program *p, const us_cu_env *env, const us_cu_op *op, int active, double *scratch)
{
    const us_cu_finish f = env->finishes[p->first_finish + op->finish];
    const int slots = us_cu_sum_kinds(op) * p->c, threads = us_threads(), parts = slots < threads ? threads / slots : 1;
    const int n = active * p->blocks, all = env->batch * p->blocks;
    const double *partials = env->partials + (int64_t)op->part * all;
    if (us_thread() < parts * slots) {      // with more slots than threads: by each channel's thread below
        const double *of_slot = partials + (int64_t)(us_thread() / parts) * all;
        scratch[us_thread()] = slots > threads ? 0 : sum_partials(of_slot, us_thread() % parts, parts, n);
    }
    us_finish_inputs own = read_inputs(env, &f, us_thread());
    us_barrier();
    for (int c = us_thread(); c < f.c; c += threads) {
        us_finish_inputs in = c == us_thread() ? own : read_inputs(env, &f, c);
        double sum = 0, second = 0;
        for (int i = 0; i < parts && slots <= threads; i++) {
            sum += scratch[c * parts + i];
            second += f.kind == US_CU_FINISH_BIAS ? 0 : scratch[(f.c + c) * parts + i];
        }
        if (slots > threads) {
            sum = sum_partials(partials + (int64_t)c * all, 0, 1, n);
            second = f.kind == US_CU_FINISH_BIAS ? 0 : sum_partials(partials + (int64_t)(f.c + c) * all, 0, 1, n);
        }
        finish_channel(env, &f, &in, c, (double)active * (double)f.count, sum, second);
    }
    us_barrier();
}

// What waits for sums gets them at once; the others are left sample by sample.
US_DEVICE void finish(const us_cu_program *p, const us_cu_env *env, const us_cu_op *ops, int active, double *scratch)
{
    for (int i = 0; i < p->n_ops; i++) {
        const us_cu_op *op = &ops[i];
        if (us_cu_sum_kinds(op) && op->finish >= 0) {
            finish_op(p, env, op, active, scratch);
        } else if (us_cu_sum_kinds(op)) {
            add_blocks(p, env, op, active);
        }
    }
    if (us_thread() == 0) {
        env->counters[p->counter] = 0;
    }
}

// ---- A block, from its first pixel to the last block's finish ----

// Grid: samples x blocks of a sample. work: walk(share, walk) runs the program on a share, sums(share) adds up
// what its threads have found.
// scratch: a double per thread.
template <typename T, int L, typename Work>
US_DEVICE void us_run_block(const us_cu_program *p, const us_cu_env *env, const us_cu_op *ops, Work *work,
                            double *scratch)
{
    const int sample = us_block() / p->blocks, block = us_block() % p->blocks, groups = p->c / L;
    const int active = env->run->active;
    if (sample >= active) {
        clear_stores<T, L>(p, env, sample);
    }
    for (int first = 0; sample < active && first < groups; first += us_threads()) {
        us_share s = share_of(p, block, L, first);
        us_walk w;
        w.sample = sample;
        if (us_begin(p, &s, L, &w)) {
            work->walk(&s, &w);
        }
        if (p->parts) {
            us_barrier();
            work->sums(&s);
        }
    }
    if (p->parts && is_last_block(&env->counters[p->counter], (int *)scratch)) {
        us_barrier();
        finish(p, env, ops, active, scratch);
    }
}

#endif
