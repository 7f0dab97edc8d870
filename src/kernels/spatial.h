// Index arithmetic of the spatial ops, written once for C and CUDA: which inputs an output pixel reads, which
// outputs an input pixel reached (the adjoint). One axis or one element at a time; planes, windows and loops are the
// callers'.
#ifndef US_SPATIAL_H
#define US_SPATIAL_H

#include "kernels/elem.h"

// ---- Max pooling 2 x 2 (networks 1.6) ----

// Which of a window's four values, in row-major order, is the largest: the first of equals.
US_HD int us_pool_first(float a, float b, float c, float d)
{
    int at = 0;
    float most = a;
    if (b > most) {
        most = b;
        at = 1;
    }
    if (c > most) {
        most = c;
        at = 2;
    }
    return d > most ? 3 : at;
}

// ---- Bilinear up-sampling, factor 2, corners aligned (networks 1.7) ----

typedef struct us_linear {
    int i0, i1;                 // inputs on both sides
    float f;                    // weight of i1
} us_linear;

// Output o of 2 n reads between inputs o (n - 1) / (2 n - 1).
US_HD us_linear us_linear_at(int o, int n)
{
    us_linear l;
    int64_t place = (int64_t)o * (n - 1), by = 2 * (int64_t)n - 1;
    l.i0 = (int)(place / by);
    l.i1 = l.i0 + 1 < n ? l.i0 + 1 : n - 1;
    l.f = (float)(place % by) / (float)by;
    return l;
}

// Outputs [*lo, *hi] are those that may read input i.
US_HD void us_linear_reach(int i, int n, int *lo, int *hi)
{
    if (n == 1) {
        *lo = 0;
        *hi = 1;
        return;
    }
    int64_t by = 2 * (int64_t)n - 1, step = n - 1;
    *lo = i > 0 ? (int)((i - 1) * by / step) : 0;
    *hi = i + 1 < n ? (int)((i + 1) * by / step) : 2 * n - 1;
}

// Weight with which output o reads input i.
US_HD float us_linear_weight(int o, int i, int n)
{
    us_linear l = us_linear_at(o, n);
    return (l.i0 == i ? 1.0f - l.f : 0.0f) + (l.i1 == i ? l.f : 0.0f);
}

// ---- Reflection, the edge not repeated; pad < n (networks 9.1) ----

US_HD int us_reflect_at(int o, int n, int pad)
{
    int i = o - pad;
    i = i < 0 ? -i : i;
    return i < n ? i : 2 * (n - 1) - i;
}

// The outputs that repeat input i, in ascending order: number j of three, -1 where it repeats another number's or lies
// outside the padding.
US_HD int us_reflect_copy(int i, int n, int pad, int j)
{
    int o = j == 0 ? pad - i : j == 1 ? pad + i : pad + 2 * (n - 1) - i;
    int there = j == 1 || (j == 0 ? i > 0 && o >= 0 : i < n - 1 && o < n + 2 * pad);
    return there ? o : -1;
}

// ---- Recurrences of the context transfer (networks 7.4) ----
// Directions in the order of the weight planes: 0 up (from the first row on), 1 down (from the last), 2 left (from
// the first column), 3 right. In the output their order is left, right, up, down.

US_HD int us_scan_slot(int direction)
{
    return direction < 2 ? direction + 2 : direction - 2;
}

US_HD int us_scan_along_rows(int direction)     // 1: rows follow each other, 0: columns
{
    return direction < 2;
}

US_HD int us_scan_from_end(int direction)
{
    return direction & 1;
}

// y: what came before; gate: sigmoid of the plane at its place. Rectified but for the first.
US_HD float us_scan_next(float x, float y, float gate)
{
    float pre = gate * y + x;
    return pre < 0.0f ? 0.0f : pre;
}

US_HD int us_scan_passes(float x, float y, float gate)      // does the gradient pass the rectifier?
{
    return gate * y + x >= 0.0f;
}

// ---- Dropout of single elements (networks 1.5) ----

// Multipliers of elements 4 * group .. 4 * group + 3 (of a sample, channel fastest) of a layer: 0 with probability p,
// else 1/(1-p).
US_HD void us_draw_drop4(uint64_t stream, uint32_t layer, uint32_t group, float p, float out[4])
{
    us_u32x4 r = us_philox(stream, group, layer, 1, US_RNG_DROPOUT);
    for (int i = 0; i < 4; i++) {
        out[i] = us_uniform24(r.v[i]) < p ? 0.0f : 1.0f / (1.0f - p);
    }
}

#endif
