// Quantiles of a stream of numbers in one pass and fixed memory: a histogram whose bins are narrow near an anchor and
// grow with the distance from it (1/128 of that distance or less), so that neither outliers nor a large common offset
// cost accuracy. Counts are whole numbers: the order and the portions in which values come change nothing.
#ifndef US_SKETCH_H
#define US_SKETCH_H

#include "base/alloc.h"
#include "base/status.h"

enum { US_SKETCH_BINS = 1 << 16 };

typedef struct us_sketch {
    float anchor;               // about the middle of the values; set before the first is added
    uint64_t n;
    uint64_t *bins;             // [US_SKETCH_BINS]
} us_sketch;

usplit_status us_sketch_open(us_sketch *sketch, const us_allocator *a);
void us_sketch_close(us_sketch *sketch, const us_allocator *a);
// Finite values.
void us_sketch_add(us_sketch *sketch, float value);
// The q-quantile, 0 <= q <= 1. NaN before the first value.
double us_sketch_quantile(const us_sketch *sketch, double q);
// The q-quantile of |value - centre|.
double us_sketch_distance(const us_sketch *sketch, double centre, double q);

#endif
