// What a folder's NGFF metadata say: which array is the full-resolution image, and what its dimensions are.
#ifndef CLI_ZARR_NGFF_H
#define CLI_ZARR_NGFF_H

#include <jansson.h>

#include "cli/zarr/zarr_array.h"

typedef struct zarr_image {
    char *path;                 // folder of the full-resolution array
    char axes[ZARR_MAX_DIMS + 1];       // "tczyx" or less, slowest first; '?': some other axis. "": not said
    double scale[ZARR_MAX_DIMS];        // of each axis, micrometres or seconds; 0: not said
    json_t *channels;           // omero's list, NULL: none
} zarr_image;

// Reads folder's metadata; a folder that is an array itself has no axes. zarr_image_free also after a failure.
int zarr_image_read(zarr_image *image, const char *folder);
void zarr_image_free(zarr_image *image);
// "" when there is none.
const char *zarr_image_channel_name(const zarr_image *image, int64_t channel);

#endif
