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
