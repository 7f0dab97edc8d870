// Inside src/data: the dataset itself and what its files do for each other. Others include dataset.h.
//
// Building goes through one door, us_data_build, whatever the frames come from: a source tells the sizes
// and writes frames. Order: sizes, split, frames, clip value, clipping and pyramids, statistics.
#ifndef US_DATASET_IMPL_H
#define US_DATASET_IMPL_H

#include <stdatomic.h>

#include "data/dataset.h"

enum {
    US_DATA_MAX_LEVELS = USPLIT_MAX_LEVELS + 1, // one per hierarchy level, and full resolution
    US_DATA_MAX_SIDE = 1 << 24                  // pixels
};

// data holds, one after the other, [level][held channel][height >> level][width >> level] f32.
typedef struct us_frame {
    int64_t height, width;
    float *data;
    int32_t channel; // of an unpaired frame; else 0
    int32_t set; // USPLIT_SET_* that has the frame beside ALL; ALL: none
} us_frame;

struct usplit_dataset {
    atomic_int refs;
    int32_t channels, levels; // channels: structures
    int32_t unpaired;
    usplit_context *context;
    int64_t n_frames;
    us_frame *frames;
    int same_size;   // all frames have one size
    int64_t *set[4]; // frame numbers, indexed by USPLIT_SET_*
    int64_t set_count[4];
    int64_t first[4][USPLIT_MAX_CHANNELS + 1]; // unpaired: where a channel's frames begin in a set
    int64_t bytes; // of pixels, pyramids included
    us_statistics statistics;
};

// Where frames come from. read writes all channels of a frame, planes one after the other; of an unpaired frame the
// one it has. A source whose frames are independent computations sets `parallel`: read is then called from the
// pool's threads.
typedef struct us_data_source {
    int64_t n_frames;
    int64_t n_channels;
    int parallel;
    usplit_status (*size)(void *user, int64_t frame, int64_t *height, int64_t *width);
    usplit_status (*read)(void *user, int64_t frame, int64_t height, int64_t width, float *dst);
    void *user;
    const int64_t *channel_frames; // unpaired: frames of each channel, n_frames together
} us_data_source;

// The channel of an unpaired frame, and its number within it.
int us_data_channel(const int64_t *channel_frames, int64_t frame, int64_t *number);

// options: complete (defaults filled in). *out is NULL on failure.
usplit_status us_data_build(usplit_dataset **out, usplit_context *context, const us_data_source *source,
                            const usplit_dataset_options *options);

// Frame numbers of each set, in order: set[USPLIT_SET_*] are allocated here (released by the caller, also
// on failure; NULL before the call) and count[] their lengths (data section 2.2).
usplit_status us_data_split(const us_allocator *a, int64_t n_frames, const usplit_dataset_options *options,
                            int64_t *set[4], int64_t count[4]);

// The q-quantile of all pixels of the planes, by linear interpolation between order statistics (data
// section 2.3). Exact, without a copy of the pixels.
usplit_status us_data_quantile(const us_allocator *a, us_pool *pool, const us_plane *planes, int64_t n_planes,
                               double q, double *value);

// Means and population deviations of planes, owner[] their channels: of the structures, and of the input that
// statistics->input asks for (data section 2.4): MEAN, pooled; SUM, of independent channels; MEASURED, of channel
// number `channels`. even: pooled as if channels had equally many pixels. A channel without spread is
// USPLIT_ERR_ARGUMENT.
usplit_status us_data_moments(const us_allocator *a, us_pool *pool, const us_plane *planes, const int32_t *owner,
                              int64_t n_planes, int channels, int even, us_statistics *statistics);

// Where `place` of an epoch's order lands: a permutation of 0..n-1 that is a function of (seed, epoch).
int64_t us_data_permute(int64_t n, uint64_t seed, int64_t epoch, int64_t place);

#endif
