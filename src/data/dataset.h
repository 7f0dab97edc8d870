// The dataset behind usplit_dataset: frames with their pyramid, split, clip value, statistics, and the
// patches drawn from them (data sections 2 and 3). Read-only once made.
#ifndef US_DATASET_H
#define US_DATASET_H

#include "base/context.h"
#include "patch/patch.h"

typedef struct us_statistics {
    double clip_value;                  // grey levels; INFINITY: no clipping
    double input_mean, input_deviation; // pooled over channels of clipped training frames
    double target_mean[USPLIT_MAX_CHANNELS];
    double target_deviation[USPLIT_MAX_CHANNELS];
    int32_t padding;
    double padding_value;
} us_statistics;

usplit_dataset *us_dataset_retain(usplit_dataset *dataset);
void us_dataset_release(usplit_dataset *dataset);
const us_statistics *us_dataset_statistics(const usplit_dataset *dataset);

// A pyramid plane (level 0 is full resolution) of a clipped frame.
us_plane us_dataset_plane(const usplit_dataset *dataset, int64_t frame, int64_t channel, int level);

// Patches of an epoch (2.5): sum over the set's frames of floor(H/P) * floor(W/P).
int64_t us_dataset_n_items(const usplit_dataset *dataset, int32_t set, int64_t patch);

// Training patch `item` (0-based place in the epoch's order) of `epoch`: frame and position are functions
// of (seed, epoch, item) alone. input: n_levels planes of patch x patch, the mean of the channels,
// normalised with the pooled statistics; target: patch x patch x channels (channel fastest), normalised
// per channel.
usplit_status us_dataset_train_patch(const usplit_dataset *dataset, uint64_t seed, int64_t epoch,
                                     int64_t item, int64_t patch, int n_levels, float *input, float *target);

// Where that patch lies, without cutting it.
usplit_status us_dataset_train_place(const usplit_dataset *dataset, uint64_t seed, int64_t epoch, int64_t item,
                                     int64_t patch, int64_t *frame, int64_t *y, int64_t *x);

// Does the set hold the frame?
int us_dataset_in_set(const usplit_dataset *dataset, int32_t set, int64_t frame);

// Grid patch `item` of a set (2.6): top-left grid of step P, frame index fastest.
usplit_status us_dataset_grid_patch(const usplit_dataset *dataset, int32_t set, int64_t item, int64_t patch,
                                    int n_levels, float *input, float *target);

// The patch of a frame at (y0, x0), any position, padded outside. In all three calls input or target may be
// NULL: not wanted.
usplit_status us_dataset_patch(const usplit_dataset *dataset, int64_t frame, int64_t y0, int64_t x0,
                               int64_t patch, int n_levels, float *input, float *target);

#endif
