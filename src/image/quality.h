// How good a predicted plane is (data section 6), and the running metric of validation (data section 4.3).
#ifndef US_QUALITY_H
#define US_QUALITY_H

#include "base/alloc.h"
#include "base/status.h"

// Both planes row-major height x width, finite. Needs scratch of a few rows for the SSIM.
usplit_status us_image_quality(const us_allocator *a, const float *target, const float *prediction,
                               int64_t height, int64_t width, usplit_image_quality *quality);

// val_psnr: one range of the targets and one mean of the patches' squared errors per channel, over all
// validation patches in normalised units. Not comparable with us_image_quality's figures.
typedef struct us_val_psnr {
    int32_t channels;
    int32_t reserved0;
    int64_t patches[USPLIT_MAX_CHANNELS];  // whose error is a number
    double error_sum[USPLIT_MAX_CHANNELS]; // of the mean squared errors of those
    double lowest[USPLIT_MAX_CHANNELS];
    double highest[USPLIT_MAX_CHANNELS];
} us_val_psnr;

void us_val_psnr_init(us_val_psnr *psnr, int32_t channels);

// One patch of one channel: n pixels, target_step and prediction_step floats apart (the channel count for
// channels-last patches, 1 for planes).
void us_val_psnr_add(us_val_psnr *psnr, int32_t channel, const float *target, int64_t target_step,
                     const float *prediction, int64_t prediction_step, int64_t n);

// dB, the mean over channels. NaN before the first patch.
double us_val_psnr_result(const us_val_psnr *psnr);

#endif
