// Whole frames in one pass: the trained network, made anew for patches as large as a frame.
#ifndef CLI_REPRO_WHOLE_H
#define CLI_REPRO_WHOLE_H

#include <usplit.h>

// A model with the parameters of `model` whose patch is the frame of `frames`, all square and of one size.
int repro_whole_model(usplit_model **out, usplit_context *context, const usplit_model *model,
                      const usplit_dataset_reader *frames);

#endif
