// A caller's strided view (u8, u16, f32) to float32 rows, and back. Nothing is kept.
#ifndef US_VIEW_H
#define US_VIEW_H

#include "base/status.h"

// Checks pointer, type, sizes >= 1, overflow of sizes, strides that reach every pixel without wrapping.
// `name` opens the message ("src: width is -3; accepted: 1 or more").
usplit_status us_view_check(const usplit_image *image, const char *name);

// Reads n_rows rows of one plane into dst (row-major, width floats a row). USPLIT_ERR_NUMERIC names the image and
// its first pixel that is NaN or infinite.
usplit_status us_view_read(const usplit_image *image, const char *name, int64_t frame, int64_t channel, int64_t row,
                           int64_t n_rows, float *dst);

// Writes rows into a plane; integer types are rounded to nearest and saturated, *saturated (may be NULL)
// grows by how many were.
usplit_status us_view_write(const usplit_image *image, int64_t frame, int64_t channel, int64_t row,
                            int64_t n_rows, const float *src, int64_t *saturated);

// Index of the first value that is NaN or infinite; -1: all are finite.
int64_t us_view_find_bad(const float *values, int64_t n);

#endif
