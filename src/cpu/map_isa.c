// The elementwise kernels. Compiled once per instruction set with -DUS_ISA=name; plain loops that the
// compiler vectorises. A block is np pixels x c channels, channel fastest.
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "cpu/map.h"
#include "kernels/elem.h"
#include "kernels/spatial.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define RUN JOIN(us_map_run_, US_ISA)

void RUN(const us_program *program, us_map_env *env);

typedef struct block {
    int64_t p0;         // first pixel of the domain, row-major
    int np, c, n;       // pixels, channels, np * c
} block;

// Is the tensor's memory itself the register: same channels, same rows?
static int is_direct(const us_tensor *t, const us_program *p, int c0, int oy, int ox)
{
    return t->c == p->c && c0 == 0 && ox == 0 && t->w == p->w && oy >= 0 && oy + p->h <= t->h;
}

// A run of pixels within one row of the domain -> the tensor's row, zero outside.
static void load_row(const us_tensor *t, const float *base, int c0, int c, int y, int x, int n, float *restrict dst)
{
    int x1 = x + n;
    if (y < 0 || y >= t->h) {
        memset(dst, 0, (size_t)n * (size_t)c * sizeof *dst);
        return;
    }
    int lo = x < 0 ? (x1 < 0 ? x1 : 0) : x, hi = x1 > t->w ? (x > t->w ? x : t->w) : x1;
    if (lo > x) {
        memset(dst, 0, (size_t)(lo - x) * (size_t)c * sizeof *dst);
    }
    if (hi < x1) {
        memset(dst + (ptrdiff_t)(hi - x) * c, 0, (size_t)(x1 - hi) * (size_t)c * sizeof *dst);
    }
    const float *src = base + ((ptrdiff_t)y * t->w + lo) * t->c + c0;
    float *out = dst + (ptrdiff_t)(lo - x) * c;
    if (t->c == c) {
        if (hi > lo) {
            memcpy(out, src, (size_t)(hi - lo) * (size_t)c * sizeof *dst);
        }
        return;
    }
    for (int i = lo; i < hi; i++, src += t->c, out += c) {
        for (int j = 0; j < c; j++) {
            out[j] = src[j];
        }
    }
}

static void load(const us_program *p, const us_uop *op, const us_tensor *t, const float *base, block b, float *dst)
{
    int64_t px = b.p0;
    for (int left = b.np; left > 0;) {
        int y = (int)(px / p->w), x = (int)(px % p->w), n = p->w - x < left ? p->w - x : left;
        load_row(t, base, op->c0, b.c, y + op->oy, x + op->ox, n, dst);
        dst += (ptrdiff_t)n * b.c;
        px += n;
        left -= n;
    }
}

static void store(const us_uop *op, const us_tensor *t, float *base, block b, const float *src)
{
    // a stored tensor has the domain's rows and columns; only its channels may be more
    float *dst = base + b.p0 * t->c + op->c0;
    for (int i = 0; i < b.np; i++, dst += t->c, src += b.c) {
        memcpy(dst, src, (size_t)b.c * sizeof *dst);
    }
}

// Prior parameters are stored (channel, y, x); a block wants (pixel, channel).
static void load_param(const us_program *p, const us_uop *op, const us_map_env *env, block b, float *dst)
{
    const us_param *param = &env->plan->graph->params[op->ref];
    const float *src = env->params + param->offset;
    int64_t side_h = param->dims[2], side_w = param->dims[3];
    for (int i = 0; i < b.np; i++) {
        int64_t y = (b.p0 + i) / p->w + op->oy, x = (b.p0 + i) % p->w + op->ox;
        for (int j = 0; j < b.c; j++) {
            dst[(ptrdiff_t)i * b.c + j] = src[((op->c0 + j) * side_h + y) * side_w + x];
        }
    }
}

enum { GROUPS = 32 };

static void draw_noise(const us_program *p, const us_uop *op, const us_map_env *env, block b, float *dst)
{
    int level = op->ref;
    if (env->mean_latents) {
        memset(dst, 0, (size_t)b.n * sizeof *dst);
        return;
    }
    for (int i = 0; i < b.np; i++) {
        int y = (int)((b.p0 + i) / p->w) + op->oy, x = (int)((b.p0 + i) % p->w) + op->ox;
        float *out = dst + (ptrdiff_t)i * b.c;
        if (env->noise[level]) {    // given: the latent of the whole patch
            int width = env->plan->graph->nodes[env->plan->graph->latent[level]].w;
            memcpy(out, env->noise[level] + ((ptrdiff_t)y * width + x) * b.c, (size_t)b.c * sizeof *out);
            continue;
        }
        int32_t ay = (int32_t)(env->noise_y[level] + y), ax = (int32_t)(env->noise_x[level] + x);
        for (int g0 = 0; g0 < b.c; g0 += 4 * GROUPS) {
            float draws[4 * GROUPS];
            int n = b.c - g0 < 4 * GROUPS ? b.c - g0 : 4 * GROUPS;
            for (int g = 0; g < (n + 3) / 4; g++) {
                us_draw_normal4(env->stream, ay, ax, (uint32_t)(g0 / 4 + g), (uint32_t)level, draws + 4 * g);
            }
            memcpy(out + g0, draws, (size_t)n * sizeof *out);
        }
    }
}

// Multipliers of single elements: drawn again wherever they are needed.
static void drop(const us_program *p, const us_uop *op, const us_map_env *env, block b, const float *restrict a,
                 float *restrict y)
{
    float rate = (float)env->plan->graph->config.dropout, draws[4];
    for (int i = 0; i < b.np; i++) {
        int64_t py = (b.p0 + i) / p->w + op->oy, px = (b.p0 + i) % p->w + op->ox;
        uint32_t first = (uint32_t)((py * (int64_t)op->k + px) * (int64_t)op->k2 + op->c0);
        for (int j = 0; j < b.c; j++) {
            uint32_t at = first + (uint32_t)j;
            if (j == 0 || at % 4 == 0) {
                us_draw_drop4(env->drops, (uint32_t)op->ref, at / 4, rate, draws);
            }
            y[i * b.c + j] = a[i * b.c + j] * draws[at % 4];
        }
    }
}

// Sums of one channel run in float over RUN_PIXELS pixels, then go on in double: with few channels a block has many
// pixels, and what cancels would drown.
enum { RUN_PIXELS = 16 };

static void add_up(const float *restrict a, block b, double *restrict sums)
{
    for (int i0 = 0; i0 < b.np; i0 += RUN_PIXELS) {
        int end = i0 + RUN_PIXELS < b.np ? i0 + RUN_PIXELS : b.np;
        for (int j0 = 0; j0 < b.c; j0 += 64) {
            float s[64] = {0};
            int m = b.c - j0 < 64 ? b.c - j0 : 64;
            for (int i = i0; i < end; i++) {
                const float *x = a + (ptrdiff_t)i * b.c + j0;
                for (int j = 0; j < m; j++) {
                    s[j] += x[j];
                }
            }
            for (int j = 0; j < m; j++) {
                sums[j0 + j] += (double)s[j];
            }
        }
    }
}

static void add_up_square(const float *restrict a, block b, double *restrict sums)
{
    for (int i0 = 0; i0 < b.np; i0 += RUN_PIXELS) {
        int n = b.np - i0 < RUN_PIXELS ? b.np - i0 : RUN_PIXELS;
        for (int j0 = 0; j0 < b.c; j0 += 64) {
            float s[64] = {0}, s2[64] = {0};
            int m = b.c - j0 < 64 ? b.c - j0 : 64;
            const float *first = a + (ptrdiff_t)i0 * b.c + j0;
            for (int i = 1; i < n; i++) {
                const float *x = first + (ptrdiff_t)i * b.c;
                for (int j = 0; j < m; j++) {
                    float d = x[j] - first[j];
                    s[j] += d;
                    s2[j] += d * d;
                }
            }
            for (int j = 0; j < m; j++) {
                double f = (double)first[j], d = (double)s[j];
                sums[j0 + j] += n * f + d;
                sums[b.c + j0 + j] += (double)s2[j] + 2 * f * d + n * f * f;
            }
        }
    }
}

static void add_up2(const float *restrict a, const float *restrict a2, block b, double *restrict sums)
{
    if (a == a2) {
        add_up_square(a, b, sums);
        return;
    }
    for (int i0 = 0; i0 < b.np; i0 += RUN_PIXELS) {
        int end = i0 + RUN_PIXELS < b.np ? i0 + RUN_PIXELS : b.np;
        for (int j0 = 0; j0 < b.c; j0 += 64) {
            float s[64] = {0}, s2[64] = {0};
            int m = b.c - j0 < 64 ? b.c - j0 : 64;
            for (int i = i0; i < end; i++) {
                const float *x = a + (ptrdiff_t)i * b.c + j0, *y = a2 + (ptrdiff_t)i * b.c + j0;
                for (int j = 0; j < m; j++) {
                    s[j] += x[j];
                    s2[j] += x[j] * y[j];
                }
            }
            for (int j = 0; j < m; j++) {
                sums[j0 + j] += (double)s[j];
                sums[b.c + j0 + j] += (double)s2[j];
            }
        }
    }
}

// y[p, c] = v0[c] * a (+ v1[c] or v1[c] * b2 + v2[c])
static void affine(const float *restrict a, block b, const float *restrict v0, const float *restrict v1,
                   float *restrict y)
{
    for (int i = 0; i < b.np; i++) {
        ptrdiff_t at = (ptrdiff_t)i * b.c;
        for (int j = 0; j < b.c; j++) {
            y[at + j] = v0[j] * a[at + j] + v1[j];
        }
    }
}

static void affine2(const float *restrict a, const float *restrict a2, block b, const float *restrict v0,
                    const float *restrict v1, const float *restrict v2, float *restrict y)
{
    for (int i = 0; i < b.np; i++) {
        ptrdiff_t at = (ptrdiff_t)i * b.c;
        for (int j = 0; j < b.c; j++) {
            y[at + j] = v0[j] * a[at + j] + (v1[j] * a2[at + j] + v2[j]);
        }
    }
}

static void mask(const float *restrict a, block b, const float *restrict v, float *restrict y)
{
    for (int i = 0; i < b.np; i++) {
        ptrdiff_t at = (ptrdiff_t)i * b.c;
        for (int j = 0; j < b.c; j++) {
            y[at + j] = v[j] * a[at + j];
        }
    }
}

#define EACH(expression)                                                                          \
    for (int i = 0; i < b.n; i++) {                                                               \
        y[i] = (expression);                                                                      \
    }                                                                                             \
    break

// One register operation; y never overlaps an input.
static void compute(const us_uop *op, const us_map_env *env, block b, float *const *r, float *restrict y)
{
    const float *restrict a0 = r[0], *restrict a1 = r[1], *restrict a2 = r[2], *restrict a3 = r[3],
                *restrict a4 = r[4];
    const float k = op->k, k2 = op->k2;
    switch (op->code) {
    case US_U_ADD: EACH(a0[i] + a1[i]);
    case US_U_MUL: EACH(a0[i] * a1[i]);
    case US_U_MADD: EACH(a0[i] + a1[i] * a2[i]);
    case US_U_SCALE: EACH(k * a0[i]);
    case US_U_AFFINE: affine(a0, b, env->vec + op->vec[0], env->vec + op->vec[1], y); break;
    case US_U_AFFINE2:
        affine2(a0, a1, b, env->vec + op->vec[0], env->vec + op->vec[1], env->vec + op->vec[2], y);
        break;
    case US_U_MASK: {
        const us_mask *m = &env->plan->masks[op->ref];
        mask(a0, b, env->vec + m->offset + (ptrdiff_t)env->sample * ((m->c + 15) / 16 * 16) + op->c0, y);
        break;
    }
    case US_U_LEAKY: EACH(us_leaky(a0[i], k));
    case US_U_LEAKY_GRAD: EACH(us_leaky_grad(a0[i], a1[i], k));
    case US_U_ELU: EACH(us_elu(a0[i]));
    case US_U_ELU_GRAD: EACH(us_elu_grad(a0[i], a1[i]));
    case US_U_SIGMOID: EACH(us_sigmoid(a0[i]));
    case US_U_SIGMOID_GRAD: EACH(us_sigmoid_grad(a0[i], a1[i]));
    case US_U_SIGMA: EACH(us_sigma(a0[i], k));
    case US_U_SIGMA_GRAD: EACH(us_sigma_grad(a0[i], a1[i], a2[i], k));
    case US_U_KL: EACH(us_kl(a0[i], a1[i], a2[i], a3[i], a4[i]));
    case US_U_KL_DZ: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_dz(a0[i], a1[i], a2[i], w));
    }
    case US_U_KL_DSQ: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_dsq(a0[i], a1[i], a2[i], w));
    }
    case US_U_KL_DSP: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_dsp(a0[i], a1[i], a2[i], w));
    }
    case US_U_KL_FULL: EACH(us_kl_full(a0[i], a1[i], a2[i], a3[i]));
    case US_U_KL_FULL_DMQ: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_full_dmq(a0[i], a1[i], a2[i], w));
    }
    case US_U_KL_FULL_DSQ: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_full_dsq(a0[i], a1[i], w));
    }
    case US_U_KL_FULL_DSP: {
        const float w = env->kl_weight[op->ref];
        EACH(us_kl_full_dsp(a0[i], a1[i], a2[i], a3[i], w));
    }
    case US_U_MSE: EACH(us_mse(a0[i], a1[i], k));
    case US_U_MSE_D: {
        const float w = k * env->batch_scale;
        EACH(us_mse_d(a0[i], a1[i], w));
    }
    case US_U_MAX: EACH(a0[i] < k ? k : a0[i]);
    case US_U_NLL: EACH(us_nll(a0[i], a1[i], a2[i]));
    case US_U_NLL_DM: {
        const float w = k * env->batch_scale;
        EACH(us_nll_dm(a0[i], a1[i], a2[i], w));
    }
    case US_U_NLL_DLV: {
        const float w = k * env->batch_scale;
        EACH(us_nll_dlv(a0[i], a1[i], a2[i], a3[i], w, k2));
    }
    default: break;
    }
}

void RUN(const us_program *p, us_map_env *env)
{
    int size = env->block;
    int64_t pixels = (int64_t)p->h * p->w;
    int step = size / p->c < 1 ? 1 : size / p->c;
    float *at[64];                              // where each register slot is now
    for (int64_t p0 = 0; p0 < pixels; p0 += step) {
        block b = {.p0 = p0, .np = (int)(pixels - p0 < step ? pixels - p0 : step), .c = p->c};
        b.n = b.np * b.c;
        for (int i = 0; i < p->n_ops; i++) {
            const us_uop *op = &p->ops[i];
            float *in[US_UOP_MAX_IN] = {0};
            for (int j = 0; j < us_uop_arity(op->code); j++) {
                in[j] = at[op->in[j]];
            }
            float *y = op->dst >= 0 ? env->registers + (ptrdiff_t)op->dst * size : NULL;
            if (op->into >= 0) {        // a STORE of it follows: write it there at once
                const us_tensor *t = &env->plan->tensors[op->into];
                y = us_map_tensor(env, t) + p0 * t->c;
            }
            if (op->code == US_U_LOAD) {
                const us_tensor *t = &env->plan->tensors[op->ref];
                float *base = us_map_tensor(env, t);
                if (op->into < 0 && is_direct(t, p, op->c0, op->oy, op->ox)) {
                    y = base + ((int64_t)op->oy * t->w + p0) * t->c;
                } else {
                    load(p, op, t, base, b, y);
                }
            } else if (op->code == US_U_STORE) {
                const us_tensor *t = &env->plan->tensors[op->ref];
                float *base = us_map_tensor(env, t);
                if (t->c != p->c) {
                    store(op, t, base, b, in[0]);
                } else if (in[0] != base + p0 * t->c) {
                    memcpy(base + p0 * t->c, in[0], (size_t)b.n * sizeof *base);
                }
            } else if (op->code == US_U_SUM) {
                add_up(in[0], b, env->sums + op->ref);
            } else if (op->code == US_U_SUM2) {
                add_up2(in[0], in[1], b, env->sums + op->ref);
            } else if (op->code == US_U_NOISE) {
                draw_noise(p, op, env, b, y);
            } else if (op->code == US_U_DROP) {
                drop(p, op, env, b, in[0], y);
            } else if (op->code == US_U_PARAM) {
                load_param(p, op, env, b, y);
            } else {
                compute(op, env, b, in, y);
            }
            if (y) {
                at[op->dst] = y;
            }
        }
    }
}
