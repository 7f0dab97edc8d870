// What the training inputs look like, frame by frame, so that an image of another kind can be told later.
#ifndef US_INPUTS_H
#define US_INPUTS_H

#include "data/dataset.h"

typedef struct us_input_record {
    int64_t frames;
    double mean[4];             // of frames' means: average, deviation between frames, lowest, highest
    double deviation[4];        // of frames' deviations: geometric mean, deviation of the logarithm, lowest, highest
} us_input_record;

// Of the training frames' inputs: the mean of the channels, clipped, or their sum, or the measured images. Unpaired
// channels have no frames in common: frames is 0.
usplit_status us_data_inputs(const usplit_dataset *dataset, us_input_record *record);

#endif
