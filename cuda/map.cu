// The interpreter of elementwise programs (program.h). What an operation does is src/cpu/map_isa.c; arithmetic
// is that of kernels/elem.h and step.h.
//
// A thread owns a group of L neighbouring channels and walks over pixels of its block's share, running the whole
// program on each. The decision what an op is falls once per L values and is the same for the whole block. The
// value made last stays in the thread (US_CU_LAST), so a chain of ops touches no memory; other registers are rows
// of shared memory, which lies as
//
//   ops of the program | a double per thread | rows [row][piece of 4 floats][thread]
//
// so that threads next to each other read pieces of 16 bytes next to each other: no bank conflicts.
//
// Sums are made in float per thread (a few hundred pixels), in double per block and over blocks, each in a fixed
// order. The partials of a block are doubles: of sums of squares whose variance is far below the squared mean, a
// float would lose what the pivot of add_square saved.
#include "gpu.h"

#include <limits.h>

#include "kernels/elem.h"
#include "kernels/spatial.h"
#include "kernels/step.h"
#include "plan/plan.h"
#include "program.h"

// 512 threads are what a block of a program with sums may have, and two such blocks fit a multiprocessor: that
// leaves 64 registers for a thread.
enum { MOST_THREADS = 256, MOST_THREADS_SUMS = 512, LEAST_THREADS = 64, WARP = 32 };

#ifdef US_EMULATE
#define BOUNDS
#else
#define BOUNDS __launch_bounds__(MOST_THREADS_SUMS, 2)
#endif

typedef struct alignas(16) us_piece {
    float x[4];
} us_piece;

// ---- A thread's registers ----

typedef struct us_walk {
    const us_cu_op *ops;
    float *rows;                // this thread's piece of row 0
    int sample, channel;        // channel of lane 0
    int pixel, y, x;            // where it is
    int first;                  // its first pixel: sums begin with it
} us_walk;

template <int L> US_DEVICE void get_row(const us_walk *w, int row, float *x)
{
    if (L == 1) {
        x[0] = w->rows[row * us_threads()];
        return;
    }
    const us_piece *from = (const us_piece *)w->rows + row * (L / 4) * us_threads();
    for (int i = 0; i < L / 4; i++) {
        us_piece piece = from[i * us_threads()];
        for (int j = 0; j < 4; j++) {
            x[4 * i + j] = piece.x[j];
        }
    }
}

template <int L> US_DEVICE void put_row(const us_walk *w, int row, const float *x)
{
    if (L == 1) {
        w->rows[row * us_threads()] = x[0];
        return;
    }
    us_piece *to = (us_piece *)w->rows + row * (L / 4) * us_threads();
    for (int i = 0; i < L / 4; i++) {
        us_piece piece;
        for (int j = 0; j < 4; j++) {
            piece.x[j] = x[4 * i + j];
        }
        to[i * us_threads()] = piece;
    }
}

template <int L> US_DEVICE void get_input(const us_walk *w, const us_cu_op *op, int input, const float *last, float *x)
{
    int row = op->in[input];
    if (row != US_CU_LAST) {
        get_row<L>(w, row, x);
        return;
    }
    for (int i = 0; i < L; i++) {
        x[i] = last[i];
    }
}

// ---- Memory ----

template <typename T, int L> US_DEVICE void read_values(const T *from, float *x)
{
    if (L == 8) {
        us_load8(from, x);
    } else {
        x[0] = us_to_float(*from);
    }
}

// Outside the tensor's rows and columns is zero.
template <typename T, int L> US_DEVICE void load(const us_cu_env *env, const us_cu_op *op, const us_walk *w, float *v)
{
    int y = w->y + op->oy, x = w->x + op->ox;
    if (y < 0 || y >= op->t_h || x < 0 || x >= op->t_w) {
        for (int i = 0; i < L; i++) {
            v[i] = 0;
        }
        return;
    }
    int64_t at = op->at + w->sample * op->stride + ((int64_t)y * op->t_w + x) * op->t_c + op->c0 + w->channel;
    read_values<T, L>((const T *)env->arena + at, v);
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

// ---- Sums of one thread, in its accumulator rows ----

template <int L> US_DEVICE void add_to(const us_walk *w, int row, const float *x)
{
    float sum[L];
    if (w->pixel == w->first) {
        put_row<L>(w, row, x);
        return;
    }
    get_row<L>(w, row, sum);
    for (int i = 0; i < L; i++) {
        sum[i] += x[i];
    }
    put_row<L>(w, row, sum);
}

// Rows: the thread's first value, sum of differences from it, sum of their squares. A variance far smaller than
// the squared mean survives.
template <int L> US_DEVICE void add_square(const us_walk *w, int row, const float *x)
{
    float d[L];
    if (w->pixel == w->first) {
        put_row<L>(w, row, x);
    }
    get_row<L>(w, row, d);
    for (int i = 0; i < L; i++) {
        d[i] = x[i] - d[i];
    }
    add_to<L>(w, row + 1, d);
    for (int i = 0; i < L; i++) {
        d[i] *= d[i];
    }
    add_to<L>(w, row + 2, d);
}

template <int L> US_DEVICE void add_two(const us_walk *w, int row, const float *a, const float *b)
{
    float product[L];
    for (int i = 0; i < L; i++) {
        product[i] = a[i] * b[i];
    }
    add_to<L>(w, row, a);
    add_to<L>(w, row + 1, product);
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

#define IN(n, x) get_input<L>(w, op, n, v, x)
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

// v: the value made last, before and after.
template <typename T, int L>
US_DEVICE void run_op(const us_cu_env *env, const us_cu_op *op, const us_walk *w, float *v)
{
    float a[L], b[L], c[L], d[L], e[L];
    const float k = op->k;
    switch (op->code) {
    case US_U_LOAD: load<T, L>(env, op, w, v); break;
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
        if (op->code == US_U_KL_DZ) {
            EACH(us_kl_dz(a[i], b[i], c[i], weight));
        }
        if (op->code == US_U_KL_DSQ) {
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
    case US_U_SUM: IN1; add_to<L>(w, op->acc, a); break;
    case US_U_SUM2:
        IN2;
        if (op->square) {
            add_square<L>(w, op->acc, a);
        } else {
            add_two<L>(w, op->acc, a, b);
        }
        break;
    default: break;
    }
    if (op->dst >= 0) {
        put_row<L>(w, op->dst, v);
    }
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

template <typename T, int L>
US_DEVICE void walk_pixels(const us_cu_program *p, const us_cu_env *env, const us_share *s, us_walk *w)
{
    int slot = us_thread() / s->width, dy = s->step / p->w, dx = s->step % p->w;
    if (slot >= s->step) {
        return;
    }
    w->channel = (s->first + us_thread() % s->width) * L;
    w->first = w->pixel = s->from + slot;
    w->y = w->pixel / p->w;
    w->x = w->pixel % p->w;
    for (; w->pixel < s->to; w->pixel += s->step) {
        float v[L] = {0};
        for (int i = 0; i < p->n_ops; i++) {
            run_op<T, L>(env, &w->ops[i], w, v);
        }
        w->x += dx;
        w->y += dy;
        if (w->x >= p->w) {
            w->x -= p->w;
            w->y++;
        }
    }
}

// A sample that is not active stores zeros: weight gradients are sums over the whole batch.
template <typename T, int L> US_DEVICE void clear_stores(const us_cu_program *p, const us_cu_env *env, us_walk *w)
{
    const float zeros[L] = {0};
    int groups = p->c / L, step = p->blocks * us_threads();
    for (int at = us_block() % p->blocks * us_threads() + us_thread(); at < p->h * p->w * groups; at += step) {
        w->pixel = at / groups;
        w->channel = at % groups * L;
        for (int i = 0; i < p->n_ops; i++) {
            if (w->ops[i].code == US_U_STORE) {
                store<T, L>(env, &w->ops[i], w, zeros);
            }
        }
    }
}

// ---- Sums of a block ----

US_DEVICE int kinds_of(const us_cu_op *op)
{
    return op->code == US_U_SUM2 ? 2 : op->code == US_U_SUM ? 1 : 0;
}

// What the thread at `slot` of a channel adds to sum `kind` of the op. rows: row 0 of the block.
template <int L>
US_DEVICE double thread_sum(const us_share *s, const us_cu_op *op, const float *rows, int kind, int channel, int slot)
{
    const int piece = L < 4 ? L : 4, threads = us_threads();
    int lane = channel % L, thread = slot * s->width + channel / L;
    const float *at = rows + ((op->acc * (L / piece) + lane / piece) * threads + thread) * piece + lane % piece;
    const int row = L * threads;
    if (!op->square) {
        return (double)at[kind * row];
    }
    double n = (s->to - s->from - slot + s->step - 1) / s->step;
    double first = (double)at[0], sum = (double)at[row];
    return kind == 0 ? n * first + sum : (double)at[2 * row] + 2 * first * sum + n * first * first;
}

// One op. A task is a sum of one channel; all threads share the tasks' slots evenly, then one thread of a task
// adds up what they got. Called by every thread.
template <int L>
US_DEVICE void block_sums(const us_cu_program *p, const us_cu_env *env, const us_share *s, const us_cu_op *op,
                          const float *rows, double *scratch)
{
    int channels = s->width * L, tasks = kinds_of(op) * channels;
    int slots = s->to - s->from < s->step ? s->to - s->from : s->step;  // that have seen a pixel
    int sample = us_block() / p->blocks, block = us_block() % p->blocks;
    for (int first = 0; first < tasks; first += us_threads()) {
        int n = tasks - first < us_threads() ? tasks - first : us_threads(), splits = us_threads() / n;
        int task = first + us_thread() % n, split = us_thread() / n;
        int kind = task / channels, channel = task % channels;
        double sum = 0;
        for (int slot = split; split < splits && slot < slots; slot += splits) {
            sum += thread_sum<L>(s, op, rows, kind, channel, slot);
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
    us_publish();
    us_barrier();
    if (us_thread() == 0) {
        *flag = us_arrive(counter) == (unsigned)us_blocks() - 1;
    }
    us_barrier();
    us_publish();               // reads of what others wrote come after the count
    return *flag;
}

// In the order of the blocks, eight reads under way at a time.
US_DEVICE double sum_of_blocks(const double *partials, int blocks)
{
    enum { AHEAD = 8 };
    double sum = 0;
    for (int at = 0; at < blocks; at += AHEAD) {
        double x[AHEAD];
        for (int i = 0; i < AHEAD; i++) {
            x[i] = at + i < blocks ? partials[at + i] : 0;
        }
        for (int i = 0; i < AHEAD; i++) {
            sum += x[i];
        }
    }
    return sum;
}

US_DEVICE void add_blocks(const us_cu_program *p, const us_cu_env *env, const us_cu_op *op)
{
    int active = env->run->active, slots = kinds_of(op) * p->c;
    for (int task = us_thread(); task < slots * active; task += us_threads()) {
        int slot = task / active, sample = task % active;
        const double *from = env->partials + ((int64_t)(op->part + slot) * env->batch + sample) * p->blocks;
        env->sums[(int64_t)sample * env->n_sums + op->slot + slot] = sum_of_blocks(from, p->blocks);
    }
}

// Over the active samples, in their order.
US_DEVICE double total_of(const us_cu_env *env, int slot)
{
    double sum = 0;
    for (int s = 0; s < env->run->active; s++) {
        sum += env->sums[(int64_t)s * env->n_sums + slot];
    }
    return sum;
}

// A parameter that an earlier finish has written the gradient of: the same thread of another launch, or of this one.
US_DEVICE void add_gradient(const us_cu_env *env, const us_cu_finish *f, int64_t at, double sum)
{
    env->grads[at] = (float)sum + (f->adds_up ? env->grads[at] : 0.0f);
}

// One channel (networks 1.3).
US_DEVICE void finish_channel(const us_cu_env *env, const us_cu_finish *f, int c)
{
    double n = (double)env->run->active * (double)f->count, sum = total_of(env, f->slot + c);
    if (f->kind == US_CU_FINISH_BIAS) {
        add_gradient(env, f, f->gamma + c, sum);
        return;
    }
    double second = total_of(env, f->slot + f->c + c);
    if (f->kind == US_CU_FINISH_BN) {
        us_bn_forward b = us_bn_of_sums(sum, second, n, env->params[f->gamma + c], env->params[f->beta + c]);
        env->moments[f->moments + c] = b.mean;
        env->moments[f->moments + f->c + c] = b.var;
        env->vec[f->scale + c] = b.scale;
        env->vec[f->shift + c] = b.shift;
        env->vec[f->inverse + c] = b.inverse;
        env->vec[f->centre + c] = b.centre;
        return;
    }
    add_gradient(env, f, f->beta + c, sum);
    add_gradient(env, f, f->gamma + c, second);
    us_bn_back(sum, second, n, env->params[f->gamma + c], env->vec[f->inverse + c], &env->vec[f->ga + c],
               &env->vec[f->gb + c], &env->vec[f->gc + c]);
}

US_DEVICE void finish(const us_cu_program *p, const us_cu_env *env, const us_cu_op *ops)
{
    for (int i = 0; i < p->n_ops; i++) {
        if (kinds_of(&ops[i])) {
            add_blocks(p, env, &ops[i]);
        }
    }
    us_barrier();
    for (int i = 0; i < p->n_finish; i++) {
        const us_cu_finish *f = &env->finishes[p->first_finish + i];
        for (int c = us_thread(); c < f->c; c += us_threads()) {
            finish_channel(env, f, c);
        }
    }
    if (us_thread() == 0) {
        env->counters[p->counter] = 0;
    }
}

// ---- The kernel ----

US_DEVICE void copy_ops(const us_cu_program *p, const us_cu_env *env, us_cu_op *to)
{
    const uint32_t *from = (const uint32_t *)(env->ops + p->first_op);
    for (int i = us_thread(); i < p->n_ops * (int)(sizeof *to / sizeof *from); i += us_threads()) {
        ((uint32_t *)to)[i] = from[i];
    }
}

// Grid: samples x blocks of a sample.
template <typename T, int L> US_KERNEL(BOUNDS us_map_kernel)(const us_cu_program p, const us_cu_env env)
{
    us_cu_op *ops = (us_cu_op *)us_shared();
    double *scratch = (double *)(ops + p.n_ops);
    float *rows = (float *)(scratch + us_threads());
    copy_ops(&p, &env, ops);
    us_barrier();
    int sample = us_block() / p.blocks, block = us_block() % p.blocks, groups = p.c / L;
    us_walk w;
    w.ops = ops;
    w.rows = rows + us_thread() * (L < 4 ? L : 4);
    w.sample = sample;
    if (sample >= env.run->active) {
        clear_stores<T, L>(&p, &env, &w);
    }
    for (int first = 0; sample < env.run->active && first < groups; first += us_threads()) {
        us_share s = share_of(&p, block, L, first);
        walk_pixels<T, L>(&p, &env, &s, &w);
        us_barrier();
        for (int i = 0; p.parts && i < p.n_ops; i++) {
            if (kinds_of(&ops[i])) {
                block_sums<L>(&p, &env, &s, &ops[i], rows, scratch);
            }
        }
    }
    if (p.parts && is_last_block(&env.counters[p.counter], (int *)scratch)) {
        finish(&p, &env, ops);
    }
}

static int64_t shared_bytes_of(const us_cu_program *p, int threads)
{
    return p->n_ops * (int64_t)sizeof(us_cu_op) +
           threads * (int64_t)(sizeof(double) + (size_t)p->rows * (size_t)p->lanes * sizeof(float));
}

extern "C" const char *us_cu_map(us_stream *stream, const us_cu_program *p, const us_cu_env *env)
{
    int64_t blocks = (int64_t)env->batch * p->blocks, bytes = shared_bytes_of(p, p->threads);
    if (env->half) {
        return p->lanes == 8
                   ? US_LAUNCH((us_map_kernel<us_half, 8>), blocks, p->threads, bytes, stream, *p, *env)
                   : US_LAUNCH((us_map_kernel<us_half, 1>), blocks, p->threads, bytes, stream, *p, *env);
    }
    return p->lanes == 8 ? US_LAUNCH((us_map_kernel<float, 8>), blocks, p->threads, bytes, stream, *p, *env)
                         : US_LAUNCH((us_map_kernel<float, 1>), blocks, p->threads, bytes, stream, *p, *env);
}

// ---- Registers ----

static const int arity[] = {
#define X(name, n) n,
    US_UOPS(X)
#undef X
};

static int reads(const us_cu_op *op, int reg)
{
    for (int j = 0; j < arity[op->code]; j++) {
        if (op->in[j] == reg) {
            return 1;
        }
    }
    return 0;
}

// The last op that reads what op i wrote, -1: none.
static int last_reader(const us_cu_op *ops, int n_ops, int i)
{
    int last = -1;
    for (int j = i + 1; j < n_ops; j++) {
        last = reads(&ops[j], ops[i].dst) ? j : last;
        if (ops[j].dst == ops[i].dst) {
            break;
        }
    }
    return last;
}

// Reads of op i's value until another value is made become US_CU_LAST.
static void read_as_last(us_cu_op *ops, int n_ops, int i)
{
    for (int j = i + 1; j < n_ops; j++) {
        for (int k = 0; k < arity[ops[j].code]; k++) {
            ops[j].in[k] = ops[j].in[k] == ops[i].dst ? (int16_t)US_CU_LAST : ops[j].in[k];
        }
        if (ops[j].dst >= 0) {
            return;
        }
    }
}

// The first name from base on whose latest value nobody reads after op i.
static int free_name(const us_cu_op *ops, int n_ops, int i, int base)
{
    for (int name = base;; name++) {
        int j = i - 1;
        while (j >= 0 && ops[j].dst != name) {
            j--;
        }
        if (j < 0 || last_reader(ops, n_ops, j) <= i) {
            return name;
        }
    }
}

static void rename_value(us_cu_op *ops, int n_ops, int i, int name)
{
    int last = last_reader(ops, n_ops, i);
    for (int j = i + 1; j <= last; j++) {
        for (int k = 0; k < arity[ops[j].code]; k++) {
            ops[j].in[k] = ops[j].in[k] == ops[i].dst ? (int16_t)name : ops[j].in[k];
        }
    }
    ops[i].dst = (int16_t)name;
}

// New names are given above the old ones, so that the two never meet, and brought down at the end.
extern "C" int us_cu_map_chain(us_cu_op *ops, int n_ops)
{
    int base = 0, n = 0;
    for (int i = 0; i < n_ops; i++) {
        base = ops[i].dst >= base ? ops[i].dst + 1 : base;
        if (ops[i].dst >= 0) {
            read_as_last(ops, n_ops, i);
        }
    }
    for (int i = 0; i < n_ops; i++) {
        if (ops[i].dst >= 0 && last_reader(ops, n_ops, i) < 0) {
            ops[i].dst = -1;
        } else if (ops[i].dst >= 0) {
            rename_value(ops, n_ops, i, free_name(ops, n_ops, i, base));
        }
    }
    for (int i = 0; i < n_ops; i++) {
        for (int k = 0; k < arity[ops[i].code]; k++) {
            ops[i].in[k] = (int16_t)(ops[i].in[k] >= base ? ops[i].in[k] - base : ops[i].in[k]);
        }
        if (ops[i].dst >= 0) {
            ops[i].dst = (int16_t)(ops[i].dst - base);
            n = ops[i].dst >= n ? ops[i].dst + 1 : n;
        }
    }
    return n;
}

// ---- Shape ----

// Part of a block's threads that work, in thousandths.
static int used_threads(int groups, int threads)
{
    if (groups <= threads) {
        return 1000 * (threads / groups * groups) / threads;
    }
    int passes = (groups + threads - 1) / threads;
    return (int)(1000 * (int64_t)groups / ((int64_t)passes * threads));
}

// Two blocks and what the device takes for each fit a multiprocessor; where not, one small block.
static int most_threads(const us_cu_program *p, int64_t shared_bytes)
{
    enum { RESERVED = 1024 };
    int threads = p->parts ? MOST_THREADS_SUMS : MOST_THREADS;
    while (threads > LEAST_THREADS && 2 * (shared_bytes_of(p, threads) + RESERVED) > shared_bytes) {
        threads -= WARP;
    }
    while (threads > WARP && shared_bytes_of(p, threads) > shared_bytes) {
        threads -= WARP;
    }
    return threads;
}

// A number that channel groups divide well, the largest of equals; small where there is little to do, so that every
// multiprocessor gets a block.
static int threads_for(const us_cu_program *p, int batch, int processors, int64_t shared_bytes)
{
    int groups = p->c / p->lanes, most = most_threads(p, shared_bytes);
    int least = most < LEAST_THREADS ? most : LEAST_THREADS;
    int64_t share = (int64_t)batch * p->h * p->w * groups / processors / WARP * WARP;
    most = share < least ? least : share < most ? (int)share : most;
    int best = most;
    for (int threads = most - WARP; threads >= most / 2 && threads >= least; threads -= WARP) {
        best = used_threads(groups, threads) > used_threads(groups, best) ? threads : best;
    }
    return best;
}

// Blocks at work on the device at a time. A program without sums gets four rounds of them, so that the last ones do
// not work alone for long. One with sums gets large blocks and a single round of one per multiprocessor: its last
// block reads a double per sum, sample and block, alone. With 128 sums and 132 blocks that is 135 kB, two or three
// microseconds; more blocks would cost more there than a fuller device gains.
static int64_t blocks_wanted(const us_cu_program *p, int processors, int64_t shared_bytes)
{
    int64_t room = shared_bytes / shared_bytes_of(p, p->threads);
    int64_t most = (p->parts ? MOST_THREADS_SUMS : 1024) / p->threads;
    int64_t resident = room < most ? room : most;
    return processors * (resident < 1 ? 1 : resident) * (p->parts ? 1 : 4);
}

extern "C" void us_cu_map_shape(us_cu_program *p, int batch, int processors, int64_t shared_bytes)
{
    int groups = p->c / p->lanes;
    p->threads = threads_for(p, batch, processors, shared_bytes);
    int at_once = groups < p->threads ? p->threads / groups : 1;
    int64_t rounds = ((int64_t)p->h * p->w + at_once - 1) / at_once;
    int64_t blocks = (blocks_wanted(p, processors, shared_bytes) + batch - 1) / batch;
    int64_t each = blocks < rounds ? (rounds + blocks - 1) / blocks : 1;
    p->blocks = (int)((rounds + each - 1) / each);
}
