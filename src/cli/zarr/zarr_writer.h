// Inside the Zarr writer: the image being written, shared by zarr_write.c (pixels, levels, chunks) and zarr_attrs.c
// (metadata).
#ifndef CLI_ZARR_WRITER_H
#define CLI_ZARR_WRITER_H

#include "cli/zarr/zarr.h"
#include "cli/zarr/zarr_folder.h"

enum { ZARR_CHUNK_SIDE = 512, ZARR_MAX_LEVELS = 32 };

typedef struct zarr_level {     // of the pyramid; 0 is full resolution
    int64_t height, width, chunk_rows, chunk_columns;
    unsigned char *pixels;      // the row of chunks being filled: channels x chunk_rows x width samples
    float *half;                // channels x width: the upper one of two rows that become one of the next level
} zarr_level;

typedef struct zarr_range {
    double low, high;           // low > high: nothing seen
} zarr_range;

struct zarr_writer {
    image_layout layout;
    char *names[IMAGE_MAX_CHANNELS], *info;
    zarr_folder folder;
    int sample_bytes, n_levels;
    zarr_level levels[ZARR_MAX_LEVELS];
    unsigned char *chunk, *encoded;
    int64_t place, row;         // what comes next
    int64_t saturated;
    zarr_range whole[IMAGE_MAX_CHANNELS];    // of the values of the full resolution,
    zarr_range shown[IMAGE_MAX_CHANNELS];    // and of the last level, where single pixels count for little
};

// Writes .zgroup, .zattrs and the levels' .zarray.
int zarr_write_metadata(const zarr_writer *writer);

#endif
