// The dataset behind usplit_dataset: frames with their pyramid, split, clip value, statistics, and the
// patches drawn from them (data sections 2 and 3). Read-only once made.
#ifndef US_DATASET_H
#define US_DATASET_H

#include "base/context.h"
#include "patch/patch.h"

typedef struct us_statistics {
    double clip_value;                  // of the structures, grey levels; INFINITY: no clipping
    double input_clip_value;            // of what they are mixed to, or of the measured image
    double input_mean, input_deviation; // of clipped training frames: pooled over channels, of sums, or measured
    double target_mean[USPLIT_MAX_CHANNELS];
    double target_deviation[USPLIT_MAX_CHANNELS];
    int32_t padding;
    double padding_value;
    int32_t input, centring;            // USPLIT_INPUT_*, USPLIT_CENTRING_*
} us_statistics;

// How training patches are drawn and mixed (data 11.1), beyond what is a matter of the dataset.
typedef struct us_drawing {
    int augment, fixed_targets;
    double uncorrelated;                // probability of places of their own
    double low[USPLIT_MAX_CHANNELS], high[USPLIT_MAX_CHANNELS]; // weights of the channels
} us_drawing;

extern const us_drawing us_drawing_published;

usplit_dataset *us_dataset_retain(usplit_dataset *dataset);
void us_dataset_release(usplit_dataset *dataset);
const us_statistics *us_dataset_statistics(const usplit_dataset *dataset);

// Channels in the memory of a frame: the structures and a measured image; 1 of an unpaired frame.
int us_dataset_held(const usplit_dataset *dataset);

// 1: every patch is the mean of one place of the channels, whole pixels, unturned, as published.
int us_dataset_is_plain(const usplit_dataset *dataset, const us_drawing *drawing);

// A pyramid plane (level 0 is full resolution) of a clipped frame. Of an unpaired frame every channel is its own.
us_plane us_dataset_plane(const usplit_dataset *dataset, int64_t frame, int64_t channel, int level);

// Patches of an epoch (2.5): sum over the set's frames of floor(H/P) * floor(W/P). Unpaired: of the channel that has
// most, 0 where one has none.
int64_t us_dataset_n_items(const usplit_dataset *dataset, int32_t set, int64_t patch);

// Training patch `item` (0-based place in the epoch's order) of `epoch`: a function of (seed, epoch, item) alone.
usplit_status us_dataset_train_place(const usplit_dataset *dataset, const us_drawing *drawing, uint64_t seed,
                                     int64_t epoch, int64_t item, int64_t patch, us_place *place);
// Grid patch `item` of a set (2.6): top-left grid of step P, frame index fastest. Unpaired channels have a grid each,
// which begins again at its end; weights are in the middle of their ranges.
usplit_status us_dataset_grid_place(const usplit_dataset *dataset, const us_drawing *drawing, int32_t set,
                                    int64_t item, int64_t patch, us_place *place);

// Cuts and mixes. input: n_levels planes of patch x patch, normalised with the input's statistics; target: patch x
// patch x channels (channel fastest), normalised per channel. Here and below either may be NULL: not wanted.
usplit_status us_dataset_cut(const usplit_dataset *dataset, const us_place *place, int64_t patch, int n_levels,
                             float *input, float *target);

// The same in one, drawn as published.
usplit_status us_dataset_train_patch(const usplit_dataset *dataset, uint64_t seed, int64_t epoch,
                                     int64_t item, int64_t patch, int n_levels, float *input, float *target);

// Does the set hold the frame?
int us_dataset_in_set(const usplit_dataset *dataset, int32_t set, int64_t frame);

usplit_status us_dataset_grid_patch(const usplit_dataset *dataset, int32_t set, int64_t item, int64_t patch,
                                    int n_levels, float *input, float *target);

// The patch of a paired frame at (y0, x0), any position, padded outside.
usplit_status us_dataset_patch(const usplit_dataset *dataset, int64_t frame, int64_t y0, int64_t x0,
                               int64_t patch, int n_levels, float *input, float *target);

#endif
