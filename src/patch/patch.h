// One patch and its lateral context: shared by dataset and tiler, so that training and prediction
// cannot disagree about which pixels a patch contains (data sections 3.1 to 3.3).
#ifndef US_PATCH_H
#define US_PATCH_H

#include "base/alloc.h"
#include "base/status.h"
#include "kernels/place.h"

typedef struct us_plane {
    const float *data; // row-major, `width` floats a row
    int64_t height, width;
} us_plane;

// dst is (h/2) x (w/2), rounded down, h and w >= 2: Gaussian blur of sigma (r-1)/2, mirrored border,
// linear interpolation, clamp to the input's range (3.1). Needs scratch from the allocator.
usplit_status us_patch_halve(const us_allocator *a, us_plane src, float *dst);

// The same, streaming: rows [row0, row0 + n) of the halved plane of an h x w image, where src holds the
// full-resolution rows [src_row0, src_row0 + src_rows), which must include those listed by
// us_patch_halve_need. No clamp to the input's range (it has no effect, 3.1).
void us_patch_halve_need(int64_t h, int64_t row0, int64_t n, int64_t *src_row0, int64_t *src_rows);
usplit_status us_patch_halve_rows(const us_allocator *a, const float *src, int64_t src_row0, int64_t src_rows,
                                  int64_t h, int64_t w, int64_t row0, int64_t n, float *dst);

// The index rules are in kernels/place.h.
static inline int64_t us_patch_mirror(int64_t i, int64_t n)
{
    return us_place_mirror(i, n);
}

static inline int64_t us_patch_context_start(int64_t start, int64_t patch, int level)
{
    return us_place_context(start, patch, level);
}

// Copies rows [y0, y0+size), columns [x0, x0+size) of the plane into dst (row-major, size x size);
// outside pixels by padding: USPLIT_PADDING_REFLECT mirrors the part inside, CONSTANT writes `value`
// (3.3). A crop wholly outside mirrors the nearest edge pixel. out = (pixel - mean) * inverse_deviation.
void us_patch_cut(us_plane plane, int64_t y0, int64_t x0, int64_t size, int32_t padding, float value,
                  float mean, float inverse_deviation, float *dst);

// The same for the mean of n_planes planes of one size (the mixture of the channels), and with the pixels
// of dst `step` floats apart (to write one channel of a channels-last patch).
void us_patch_cut_mean(const us_plane *planes, int n_planes, int64_t y0, int64_t x0, int64_t size,
                       int32_t padding, float value, float mean, float inverse_deviation, float *dst,
                       int64_t step);

// One channel's crop of a patch that is mixed from several places, turned, or centred between pixels.
typedef struct us_patch_part {
    const float *data;                  // rows of the level from `first` on
    int64_t first, width;
    us_edge rows, columns;
    float weight;
} us_patch_part;

// dst = (sum of weight * crop - mean) * inverse_deviation, turned by `turn` (kernels/place.h); constant padding is
// `value` in every part. A pixel at a time: us_patch_cut_mean is the fast way for one place, unturned.
void us_patch_mix(const us_patch_part *parts, int n_parts, int64_t size, int turn, int32_t padding, float value,
                  float mean, float inverse_deviation, float *dst, int64_t step);

#endif
