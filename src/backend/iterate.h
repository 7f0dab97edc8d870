// One training iteration on any backend: forward, backward, clipping, optimiser, running statistics.
// begin -> step, step, ... -> sync -> step ... The arrays given to begin are current only after a sync that asks
// for them; change them, and begin anew.
#ifndef US_ITERATE_H
#define US_ITERATE_H

#include "backend/backend.h"

typedef struct us_iterate {
    const us_backend *backend;
    us_exec *exec;
    int batch;                  // samples of the executable's plan; a larger step is run in parts
    int64_t n_floats;
    float *grads;               // [n_floats], for backends without a step of their own; else NULL
    float *part;                // [n_floats] where a step has parts and grads is there; else NULL
    us_trained arrays;
    us_tally tally;
} us_iterate;

// Takes the arrays and the tally over: counts and sums go on from there.
usplit_status us_iterate_begin(us_iterate *it, const us_trained *arrays, const us_tally *tally);
// One step over run->samples samples. More than the plan's batch are run in parts of nearly equal size, whose
// losses and gradients are added up by their shares: the numbers of the whole batch, but that each part has batch
// statistics of its own, and running statistics move towards those of the last part.
// A step whose loss or gradient is not finite changes nothing and is counted as skipped.
usplit_status us_iterate_step(us_iterate *it, const us_run *run, const us_update *update);
// it->tally, and with arrays != 0 also the arrays, are up to date afterwards.
usplit_status us_iterate_sync(us_iterate *it, int arrays);

// Samples of part i of n.
static inline int us_iterate_part(int samples, int parts, int i)
{
    return samples / parts + (i < samples % parts);
}

#endif
