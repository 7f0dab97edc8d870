// Predicted deviations against real errors, and the line between them. One pass, fixed memory.
#ifndef US_CALIBRATE_H
#define US_CALIBRATE_H

#include "base/alloc.h"
#include "base/status.h"

enum { US_CALIBRATE_BINS = 30 };

typedef struct us_calibrate_bin {
    int64_t n;
    double squares, errors;     // sums of squared deviations and of squared errors
} us_calibrate_bin;

typedef struct us_calibrate {
    us_calibrate_bin *fine;     // by the deviation's upper bits: 256 bins for every doubling
    us_calibrate_bin all;
} us_calibrate;

typedef struct us_calibrate_line {
    double slope, offset;       // error = slope x deviation + offset
    double rmse, deviation;     // root mean squares over all pixels
} us_calibrate_line;

usplit_status us_calibrate_open(us_calibrate *c, const us_allocator *a);
void us_calibrate_close(us_calibrate *c, const us_allocator *a);
// deviations: finite, 0 or more.
void us_calibrate_add(us_calibrate *c, const float *deviations, const float *predictions, const float *truth,
                      int64_t n);
// channel: for the message when nothing can be fitted (USPLIT_ERR_NUMERIC).
usplit_status us_calibrate_fit(const us_calibrate *c, int channel, us_calibrate_line *line);

#endif
