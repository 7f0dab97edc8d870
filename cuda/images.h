// Images that lie on the device: patches cut there for a dataset or for tiles, and tiles put back together
// (images.cu). Index rules and arithmetic are those of the CPU (kernels/place.h). Plain C.
//
// Planes are raw grey levels in float, one per channel, as the host has them; the means and deviations are
// applied when a patch is cut. So input, targets and tiles read the same pixels, values equal the CPU's, and
// a plane of grey levels up to 65535 loses nothing, which half would. The level-0 planes of K channels serve
// as targets and, averaged, as input: a normalised copy of the input would be one plane more.
#ifndef US_IMAGES_H
#define US_IMAGES_H

#include <stdint.h>

#include "kernels/place.h"
#include "program.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { US_CU_CHANNELS = 8 };

// One pyramid level of a frame; all of its rows, or a window of them that holds every row asked for.
typedef struct us_cu_plane {
    const float *data;          // [channels][rows held][width], device memory
    int64_t height, width;      // of the whole level
    int64_t first;              // row of the level that data begins with
    int64_t stride;             // floats from a channel to the next one
} us_cu_plane;

typedef struct us_cu_place {
    int64_t y, x;               // gather: first pixel of the patch, may be outside; stitch: of the tile in the band
    int32_t frame;              // gather
    int32_t sample;             // stitch: number of the posterior sample, 0 first
} us_cu_place;

// A tensor of the arena.
typedef struct us_cu_tensor {
    int64_t at, stride;         // elements from the arena's start to sample 0 (-1: not wanted), and per sample
} us_cu_tensor;

typedef struct us_cu_gather_plan {
    const us_cu_plane *planes;  // [frames][levels], device memory
    int32_t levels, channels, size;             // size: of a patch, pixels
    int32_t reflect;            // 0: constant padding
    float padding_value;        // grey level
    float mean, inverse_deviation;              // of the input
    float target_mean[US_CU_CHANNELS], target_inverse_deviation[US_CU_CHANNELS];
    us_cu_tensor input[US_CU_LEVELS + 1];       // [size][size] per level
    us_cu_tensor target;        // [size][size][channels]
    int32_t any;                // 1: patches are us_place, mixed, turned and centred by the rules of kernels/place.h;
                                // 0: the mean of one place of the channels, whole pixels
    int32_t held;               // channels of a plane
    int32_t exact;              // 1: context centred between pixels
} us_cu_gather_plan;

typedef struct us_cu_stitch_plan {
    float *band;                // [channels][rows][width] grey levels, device memory
    int64_t rows, width;        // pixels beyond are dropped
    int32_t channels, inner;    // inner: side of a tile
    int32_t values;             // of a pixel of the head; the first `channels` are means
    int32_t samples;            // posterior samples of every tile
    float gain[US_CU_CHANNELS], offset[US_CU_CHANNELS];
    us_cu_tensor head;          // [inner][inner][values]
} us_cu_stitch_plan;

// Inputs and targets of the active samples into the arena, zeros for the others; places, or `any`: [batch], device
// memory.
const char *us_cu_gather(struct us_stream *s, const us_cu_env *env, const us_cu_gather_plan *plan,
                         const us_cu_place *places, const us_place *any);
// One posterior sample of each active tile into the band. The tiles of a launch do not overlap. Samples of a
// tile come in order, in different launches.
const char *us_cu_stitch(struct us_stream *s, const us_cu_env *env, const us_cu_stitch_plan *plan,
                         const us_cu_place *places);

#ifdef __cplusplus
}
#endif
#endif
