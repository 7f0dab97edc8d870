// Arithmetic of the steps that see a whole batch: batch normalisation, losses, optimiser. Written once for C
// and CUDA; one value or one element at a time. Sums are made by the callers, in the order of the samples.
#ifndef US_STEP_H
#define US_STEP_H

#include <math.h>
#include <stdint.h>

#include "kernels/philox.h"

#define US_BN_EPS 1e-5                          // inside the root (networks 1.3)
#define US_BN_MOMENTUM 0.1

// ---- Batch normalisation (networks 1.3) ----

typedef struct us_bn_forward {
    double mean, var;
    float scale, shift;                         // y = scale * x + shift
    float inverse, centre;                      // xh = inverse * x + centre
} us_bn_forward;

// One channel from the sums of its n values and their squares.
US_HD us_bn_forward us_bn_of_sums(double sum, double square, double n, float gamma, float beta)
{
    us_bn_forward b;
    b.mean = sum / n;
    double var = square / n - b.mean * b.mean;
    b.var = var > 0 ? var : var == var ? 0 : var;               // NaN stays NaN
    double inverse = 1.0 / sqrt(b.var + US_BN_EPS);
    b.scale = (float)(gamma * inverse);
    b.shift = (float)(beta - gamma * inverse * b.mean);
    b.inverse = (float)inverse;
    b.centre = (float)(-b.mean * inverse);
    return b;
}

// dx = ga * g + gb * xh + gc
US_HD void us_bn_back(double dbeta, double dgamma, double n, float gamma, float inverse, float *ga, float *gb,
                      float *gc)
{
    double a = gamma * (double)inverse;
    *ga = (float)a;
    *gb = (float)(-a * dgamma / n);
    *gc = (float)(-a * dbeta / n);
}

// One running statistic moves towards the batch's; the variance has its share of n - 1 values.
US_HD float us_bn_run_mean(float old, double mean)
{
    return (float)((1 - US_BN_MOMENTUM) * old + US_BN_MOMENTUM * mean);
}

US_HD float us_bn_run_var(float old, double var, double n)
{
    return (float)((1 - US_BN_MOMENTUM) * old + US_BN_MOMENTUM * var * n / (n - 1));
}

// Evaluation mode: running statistics -> scale and shift.
US_HD void us_bn_of_running(float mean, float var, float gamma, float beta, float *scale, float *shift)
{
    double inverse = 1.0 / sqrt((double)var + US_BN_EPS);
    double a = gamma * inverse;
    *scale = (float)a;
    *shift = (float)(beta - a * mean);
}

// ---- Losses (networks 5.2 to 5.4) ----

// Free bits (networks 5.3): a level's KL below the bound counts as the bound and has no gradient.
US_HD int us_kl_bound(double kl, double free_bits)
{
    return free_bits >= 1e-6 && kl < free_bits;
}

// Gradient of the loss with respect to one KL element of a sample.
US_HD float us_kl_weight(double kl, double free_bits, double weight, int levels, int active, double elements)
{
    return us_kl_bound(kl, free_bits) ? 0.0f : (float)(weight / (levels * (double)active * elements));
}

// sum: of the n_kl levels that have a KL; the mean is over all levels.
US_HD double us_kl_total(double sum, int n_kl, int levels)
{
    return n_kl ? sum / levels : 0;
}

US_HD double us_loss_total(double reconstruction, double kl, int n_kl, double weight)
{
    return reconstruction + (n_kl ? weight * kl : 0);
}

// ---- Optimiser (data 4.2, 4.4) ----

// What gradients of norm `norm` are multiplied by; limit 0: nothing is clipped.
US_HD double us_clip_factor(double norm, double limit)
{
    return limit > 0 && norm + 1e-6 > limit ? limit / (norm + 1e-6) : 1;
}

// Adamax step size of update t = 1, 2, ...
US_HD float us_adamax_rate(double lr, int64_t t)
{
    return (float)(lr / (1.0 - pow(0.9, (double)t)));
}

US_HD void us_adamax(float g, float rate, float *w, float *m, float *u)
{
    *m = 0.9f * *m + 0.1f * g;
    float a = fabsf(g) + 1e-8f, b = 0.999f * *u;
    *u = a > b ? a : b;
    *w -= rate * (*m / *u);
}

// The loss scale after a step: half after a bad one, double after 2000 good ones in a row. Kept within
// [1, 2^30], so that it never becomes infinite itself.
US_HD float us_loss_scale_next(float scale, int good, int32_t *good_steps)
{
    *good_steps = good ? *good_steps + 1 : 0;
    if (!good) {
        return scale > 2.0f ? 0.5f * scale : 1.0f;
    }
    if (*good_steps < 2000) {
        return scale;
    }
    *good_steps = 0;
    return scale < 1073741824.0f ? 2.0f * scale : scale;
}

#endif
