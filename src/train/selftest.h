// A small input with its expected output, stored in a checkpoint so that it can be checked on any device.
#ifndef US_SELFTEST_H
#define US_SELFTEST_H

#include "backend/backend.h"
#include "net/model.h"

// Runs the model (latents at their means) on a fixed input and keeps the pair in the model. exec: a
// prediction executable over the whole patch of the model's graph, or NULL to make one for the occasion.
usplit_status us_selftest_make(usplit_model *model, us_exec *exec);

// Largest deviation of a run from the stored output, relative to the output's maximum.
usplit_status us_selftest_check(const usplit_model *model, double *error);

#endif
