// What a prediction leaves of its input, and how much that is: input - sum of weight x predicted plane, rows at a time.
#ifndef US_RESIDUAL_H
#define US_RESIDUAL_H

#include "image/sketch.h"

typedef struct us_residual {
    int64_t width, rows;        // pixels of a row; rows so far
    int channels;
    double weights[USPLIT_MAX_CHANNELS];
    float clip_value;           // input above it is set to it
    us_sketch input, rest, step;    // the input; the residual; its absolute steps from one pixel to its right neighbour
    float *line;                // [width]
} us_residual;

// weights NULL: 1 / channels each. On failure everything is released.
usplit_status us_residual_open(us_residual *r, const us_allocator *a, int64_t width, int channels,
                               const double *weights, double clip_value);
void us_residual_close(us_residual *r, const us_allocator *a);
// input: n_rows x width; planes: `channels` planes of n_rows x width; dst: the residual, may be NULL. All finite.
void us_residual_add(us_residual *r, int64_t n_rows, const float *input, const float *planes, float *dst);
void us_residual_get(const us_residual *r, usplit_residual_facts *facts);

#endif
