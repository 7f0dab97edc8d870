// One training iteration on any backend: forward, backward, clipping, optimiser, running statistics.
// begin -> step, step, ... -> sync -> step ... The arrays given to begin are current only after a sync that asks
// for them; change them, and begin anew.
#ifndef US_ITERATE_H
#define US_ITERATE_H

#include "backend/backend.h"

typedef struct us_iterate {
    const us_backend *backend;
    us_exec *exec;
    float *grads;               // [n_floats], for backends without a step of their own; else NULL
    us_trained arrays;
    us_tally tally;
} us_iterate;

// tally: where the counting starts; its sums begin at zero after us_iterate_clear.
usplit_status us_iterate_begin(us_iterate *it, const us_trained *arrays, const us_tally *tally);
// A step whose loss or gradient is not finite changes nothing and is counted as skipped.
usplit_status us_iterate_step(us_iterate *it, const us_run *run, const us_update *update);
// it->tally, and with arrays != 0 also the arrays, are up to date afterwards.
usplit_status us_iterate_sync(us_iterate *it, int arrays);

#endif
