// The picture of a split: input, channels, what is left over, and deviations where there are.
#ifndef CLI_SPLIT_PREVIEW_H
#define CLI_SPLIT_PREVIEW_H

#include <stdint.h>

#include <usplit.h>

// planes: K channels, with `deviations` followed by their K deviations. pixel_size in micrometres; 0: no scale bar.
int split_preview_write(const char *path, const usplit_model_facts *model, int64_t height, int64_t width,
                        const float *input, const float *planes, int deviations, double pixel_size);

#endif
