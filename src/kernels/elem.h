// Elementwise arithmetic, written once for C and CUDA: branch-free so that compilers vectorise it.
// Sources are sections of the specification of the published networks ("networks x.y").
#ifndef US_ELEM_H
#define US_ELEM_H

#include <stdint.h>
#include <string.h>

#include "kernels/philox.h"

US_HD float us_float_of(int32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

US_HD int32_t us_bits_of(float f)
{
    int32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

// exp(x): x = n ln 2 + r, |r| <= ln 2 / 2, Taylor to degree 7; about 1 unit in the last place. Adding
// 1.5 * 2^23 rounds to an integer, which then stands in the low bits. NaN stays NaN.
US_HD float us_exp_low(float c)                                     // c <= 88
{
    c = c < -87.0f ? -87.0f : c;
    float m = c * 1.44269504f + 12582912.0f;
    float n = m - 12582912.0f;
    float r = c - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    uint32_t bits = (uint32_t)us_bits_of(m) << 23;
    float scale = us_float_of((int32_t)(bits + 0x3f800000u));
    return p * scale + scale;
}

US_HD float us_exp(float x)
{
    return us_exp_low(x > 88.0f ? 88.0f : x);
}

// log(x) for normal x > 0 (Cephes logf polynomial).
US_HD float us_log(float x)
{
    int32_t bits = us_bits_of(x);
    int32_t e = ((bits >> 23) & 255) - 126;
    float m = us_float_of((bits & 0x007fffff) | 0x3f000000);       // [0.5, 1)
    int32_t low = m < 0.70710678f;
    e -= low;
    m = low ? m + m - 1.0f : m - 1.0f;
    float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float y = m * z * p;
    float fe = (float)e;
    y = y - 2.12194440e-4f * fe - 0.5f * z;
    return m + y + 0.693359375f * fe;
}

US_HD float us_elu(float x)                                         // networks 1.4
{
    float e = us_exp_low(x > 0.0f ? 0.0f : x) - 1.0f;
    return x > 0.0f ? x : e;
}

US_HD float us_elu_grad(float g, float y)                           // y = elu(x); exp(x) = y + 1
{
    return g * (y > 0.0f ? 1.0f : y + 1.0f);
}

US_HD float us_leaky(float x, float slope)                          // networks 1.4; slope 0: ReLU
{
    return x > 0.0f ? x : slope * x;
}

US_HD float us_leaky_grad(float g, float y, float slope)            // y = leaky(x), whose sign is that of x
{
    return y > 0.0f ? g : slope * g;
}

US_HD float us_sigmoid(float x)
{
    return 1.0f / (1.0f + us_exp(-x));
}

US_HD float us_sigmoid_grad(float g, float s)
{
    return g * s * (1.0f - s);
}

US_HD float us_sigma(float r, float clip)                           // networks 1.10
{
    float l = r > clip ? clip : r;
    float low = us_exp_low(l > 0.0f ? 0.0f : l);
    float e = l > 0.0f ? 1.0f + l : low;
    return sqrtf(e + 1e-6f);
}

US_HD float us_sigma_grad(float g, float r, float sigma, float clip)
{
    float slope = us_exp_low(r > 0.0f ? 0.0f : r);                  // exp(0) = 1 above
    return r > clip ? 0.0f : g * slope / (2.0f * sigma);
}

US_HD float us_kl(float z, float mu_p, float sigma_p, float sigma_q, float eps)     // networks 3.6 step 5
{
    float u = (z - mu_p) / sigma_p;
    return us_log(sigma_p) - us_log(sigma_q) + 0.5f * (u * u - eps * eps);
}

US_HD float us_kl_dz(float z, float mu_p, float sigma_p, float w)   // networks 3.6, backward
{
    float u = (z - mu_p) / sigma_p;
    return w * u / sigma_p;
}

US_HD float us_kl_dsq(float g, float eps, float sigma_q, float w)
{
    return eps * g - w / sigma_q;
}

US_HD float us_kl_dsp(float z, float mu_p, float sigma_p, float w)
{
    float u = (z - mu_p) / sigma_p;
    return w * (1.0f - u * u) / sigma_p;
}

US_HD float us_kl_full(float mu_q, float sigma_q, float mu_p, float sigma_p)         // networks 3.6, in closed form
{
    float d = (mu_q - mu_p) / sigma_p, r = sigma_q / sigma_p;
    return us_log(sigma_p) - us_log(sigma_q) + 0.5f * (r * r + d * d) - 0.5f;
}

US_HD float us_kl_full_dmq(float mu_q, float mu_p, float sigma_p, float w)
{
    return w * (mu_q - mu_p) / (sigma_p * sigma_p);
}

US_HD float us_kl_full_dsq(float sigma_q, float sigma_p, float w)
{
    return w * (sigma_q / (sigma_p * sigma_p) - 1.0f / sigma_q);
}

US_HD float us_kl_full_dsp(float mu_q, float sigma_q, float mu_p, float sigma_p, float w)
{
    float d = (mu_q - mu_p) / sigma_p, r = sigma_q / sigma_p;
    return w * (1.0f - r * r - d * d) / sigma_p;
}

US_HD float us_mse(float target, float output, float factor)        // networks 7.5
{
    float d = output - target;
    return factor * d * d;
}

US_HD float us_mse_d(float target, float output, float k)           // k holds 2 * factor
{
    return k * (output - target);
}

US_HD float us_nll(float target, float mean, float lv)              // networks 5.1
{
    float d = target - mean;
    return 0.5f * (d * d * us_exp(-lv) + lv + 1.83787707f);
}

US_HD float us_nll_dm(float target, float mean, float lv, float k)
{
    return k * (mean - target) * us_exp(-lv);
}

US_HD float us_nll_dlv(float target, float mean, float lv, float raw, float k, float bound)
{
    float d = target - mean;
    float g = k * 0.5f * (1.0f - d * d * us_exp(-lv));
    return raw < bound ? 0.0f : g;
}

// ---- Draws ----

// A stream's key: the seed mixed with what the stream is for and two numbers (step and sample, say).
US_HD uint64_t us_key(uint64_t seed, uint32_t purpose, uint64_t a, uint32_t b)
{
    us_u32x4 r = us_philox(seed, (uint32_t)a, (uint32_t)(a >> 32), b, purpose);
    return ((uint64_t)r.v[0] << 32) | r.v[1];
}

// Dropout multiplier of a channel of a layer: 0 with probability p, else 1/(1-p) (networks 1.5).
US_HD float us_draw_mask(uint64_t stream, uint32_t layer, uint32_t channel, float p)
{
    us_u32x4 r = us_philox(stream, channel, layer, 0, US_RNG_DROPOUT);
    return us_uniform24(r.v[0]) < p ? 0.0f : 1.0f / (1.0f - p);
}

// sin and cos of 2 pi u, u in [0,1): quarter turn and polynomials on [-pi/4, pi/4].
US_HD void us_sincos_turn(float u, float *s, float *c)
{
    float q = (u * 4.0f + 12582912.0f) - 12582912.0f;
    float t = (u * 4.0f - q) * 1.57079633f;
    int32_t k = (int32_t)q;
    float t2 = t * t;
    float sn = t + t * t2 * (-1.6666654611e-1f + t2 * (8.3321608736e-3f - t2 * 1.9515295891e-4f));
    float cs = 1.0f - 0.5f * t2 + t2 * t2 * (4.166664568298827e-2f + t2 * (-1.388731625493765e-3f +
                                                                         t2 * 2.443315711809948e-5f));
    float a = (k & 1) ? cs : sn, b = (k & 1) ? sn : cs;
    *s = (k & 2) ? -a : a;
    *c = ((k + 1) & 2) ? -b : b;
}

// Four standard normals for latent channels 4*group .. 4*group+3 at cell (y, x) of a level (Box-Muller).
US_HD void us_draw_normal4(uint64_t stream, int32_t y, int32_t x, uint32_t group, uint32_t level, float out[4])
{
    us_u32x4 r = us_philox(stream, (uint32_t)y, (uint32_t)x, group | (level << 16), US_RNG_LATENT);
    float s, c;
    float m = sqrtf(-2.0f * us_log((float)((r.v[0] >> 8) + 1) * (1.0f / 16777216.0f)));
    us_sincos_turn(us_uniform24(r.v[1]), &s, &c);
    out[0] = m * c;
    out[1] = m * s;
    m = sqrtf(-2.0f * us_log((float)((r.v[2] >> 8) + 1) * (1.0f / 16777216.0f)));
    us_sincos_turn(us_uniform24(r.v[3]), &s, &c);
    out[2] = m * c;
    out[3] = m * s;
}

#endif
