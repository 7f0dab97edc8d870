// Learning rate on plateau and early stopping (data section 4.2). Plain numbers, so that they can be saved.
#ifndef US_SCHEDULE_H
#define US_SCHEDULE_H

#include <stdint.h>

typedef struct us_schedule {
    double learning_rate;
    double best;                // NaN: none yet
    int64_t bad;                // epochs without improvement
} us_schedule;

// One epoch's metric. maximise 1: larger is better, an improvement is m > best * (1 + 1e-4); else
// m < best * (1 - 1e-4). After more than `patience` bad epochs the rate is multiplied by `factor`.
void us_schedule_step(us_schedule *s, double metric, int maximise, double factor, int64_t patience);

// Returns 1 when training should stop: `patience` epochs without m - 1e-6 > best, or a metric that is not
// finite. *improved tells whether this epoch is the best so far.
int us_early_stop(double *best, int64_t *bad, double metric, int64_t patience, int *improved);

#endif
