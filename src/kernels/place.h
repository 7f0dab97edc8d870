// Which pixels a patch holds, and what a tile's pixel becomes: index rules and arithmetic, written once for C
// and CUDA (data sections 3.1 to 3.4, 5.4, 5.5).
#ifndef US_PLACE_H
#define US_PLACE_H

#include <stdint.h>

#include "kernels/philox.h"

// Index of position i in an axis of length n mirrored without repeating its edges, period 2(n - 1) (3.1).
US_HD int64_t us_place_mirror(int64_t i, int64_t n)
{
    if (n == 1) {
        return 0;
    }
    int64_t period = 2 * (n - 1);
    i %= period;
    i = i < 0 ? i + period : i;
    return i < n ? i : period - i;
}

// First row (or column) of the level-k crop of a native patch that starts at `start` (3.2):
// floor((start + patch/2) / 2^k) - patch/2. The centre may be negative (tiles that hang over).
US_HD int64_t us_place_context(int64_t start, int64_t patch, int level)
{
    int64_t centre = start + patch / 2;
    int64_t factor = (int64_t)1 << level;
    int64_t halved = centre >= 0 ? centre / factor : -((-centre + factor - 1) / factor);
    return halved - patch / 2;
}

// Part of a crop that lies inside an axis of the image.
typedef struct us_span {
    int64_t dst0;                               // its first place in the crop
    int64_t n;                                  // its length
    int64_t src0;                               // its first place in the image
} us_span;

// A crop wholly outside gets the nearest edge pixel as its inside part when it is mirrored.
US_HD us_span us_place_span(int64_t start, int64_t size, int64_t n, int reflect)
{
    int64_t first = start > 0 ? start : 0;
    int64_t end = start + size < n ? start + size : n;
    us_span s;
    int inside = first < end;
    s.dst0 = inside ? first - start : 0;
    s.n = inside ? end - first : reflect ? 1 : 0;
    s.src0 = inside ? first : start < 0 ? 0 : n - 1;
    return s;
}

// Place in the image of place i of the crop: mirrored from the inside part (3.3), or -1 for constant padding.
US_HD int64_t us_place_source(us_span s, int64_t i, int reflect)
{
    int64_t at = i - s.dst0;
    if (at >= 0 && at < s.n) {
        return s.src0 + at;
    }
    return reflect ? s.src0 + us_place_mirror(at, s.n) : -1;
}

// ---- Patches that are more than one place of one frame ------------------------------------------------------

enum { US_PLACE_CHANNELS = 9 };                 // held channels: structures (USPLIT_MAX_CHANNELS), a measured mixture

// Where a training patch comes from, channel by channel, and what is made of it.
typedef struct us_place {
    int64_t frame[US_PLACE_CHANNELS];
    int64_t y[US_PLACE_CHANNELS], x[US_PLACE_CHANNELS];     // first pixel, may be outside the image
    float weight[US_PLACE_CHANNELS];            // in the input; 0: not part of it
    float gain[US_PLACE_CHANNELS];              // of the target
    int32_t turn;                               // 0 to 7, us_place_turn; the same at every level
} us_place;

// Pixel (i, j) of a turned patch is pixel (*y, *x) of the patch as it was cut. turn & 3: quarter turns; turn & 4: then
// mirrored. All turn about the middle of the square, and 0 to 7 are the eight symmetries of it.
US_HD void us_place_turn(int turn, int64_t size, int64_t i, int64_t j, int64_t *y, int64_t *x)
{
    int64_t last = size - 1, quarters = turn & 3, row = i, column = turn & 4 ? last - j : j;
    *y = quarters == 0 ? row : quarters == 1 ? column : quarters == 2 ? last - row : last - column;
    *x = quarters == 0 ? column : quarters == 1 ? last - row : quarters == 2 ? last - column : row;
}

// A crop along one axis of a level.
typedef struct us_edge {
    us_span span;
    float fraction;                             // its pixels lie so far beyond those of the level, 0 to under 1
} us_edge;

// First pixel of the level-k crop with exact centres, and how far beyond it the crop begins: the middle of the patch
// is at start + patch/2 of n_native pixels, so at the same share of the level's n. Also exact where sides are odd.
US_HD int64_t us_place_exact(int64_t start, int64_t patch, int64_t n_native, int64_t n, double *fraction)
{
    int64_t at = (start + patch / 2) * n;
    int64_t whole = at >= 0 ? at / n_native : -((-at + n_native - 1) / n_native);
    *fraction = (double)(at - whole * n_native) / (double)n_native;
    return whole - patch / 2;
}

// exact 0: the published floored centres. Between pixels a crop shows one more pixel of the level.
US_HD us_edge us_place_edge(int64_t start, int64_t patch, int level, int64_t n_native, int64_t n, int reflect, int exact)
{
    double fraction = 0;
    int64_t first = exact ? us_place_exact(start, patch, n_native, n, &fraction)
                          : us_place_context(start, patch, level);
    us_edge e;
    e.fraction = (float)fraction;
    e.span = us_place_span(first, patch + (e.fraction > 0), n, reflect);
    return e;
}

// Pixel (y, x) of a level, either -1: outside. data: rows from `first` on.
US_HD float us_place_grey(const float *data, int64_t first, int64_t width, int64_t y, int64_t x, float outside)
{
    return y < 0 || x < 0 ? outside : data[(y - first) * width + x];
}

// Pixel (i, j) of a crop: linear between pixels of the level where its centre lies between them.
US_HD float us_place_pixel(const float *data, int64_t first, int64_t width, const us_edge *rows,
                           const us_edge *columns, int64_t i, int64_t j, int reflect, float outside)
{
    int64_t y = us_place_source(rows->span, i, reflect), x = us_place_source(columns->span, j, reflect);
    float v = us_place_grey(data, first, width, y, x, outside), below = 0, fx = columns->fraction;
    int64_t right = fx > 0 ? us_place_source(columns->span, j + 1, reflect) : x;
    if (fx > 0) {
        v += fx * (us_place_grey(data, first, width, y, right, outside) - v);
    }
    if (rows->fraction > 0) {
        y = us_place_source(rows->span, i + 1, reflect);
        below = us_place_grey(data, first, width, y, x, outside);
        if (fx > 0) {
            below += fx * (us_place_grey(data, first, width, y, right, outside) - below);
        }
        v += rows->fraction * (below - v);
    }
    return v;
}

US_HD float us_place_normal(float pixel, float mean, float inverse_deviation)       // 3.4
{
    return (pixel - mean) * inverse_deviation;
}

// Sum of a tile's samples so far -> what the band keeps: the last sample makes grey levels of the mean (5.4, 5.5).
US_HD float us_place_add(float old, float mean, int first, int last, float share, float gain, float offset)
{
    float sum = first ? mean : old + mean;
    return last ? gain * (share * sum) + offset : sum;
}

#endif
