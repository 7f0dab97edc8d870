// What a TIFF's ImageDescription says about its pages, other than OME-XML (ome.h): ImageJ's "key=value" lines and
// the shape that Python's tifffile notes; and the ImageJ text that we write.
#ifndef CLI_DESCRIBE_H
#define CLI_DESCRIBE_H

#include <stddef.h>
#include <stdint.h>

typedef struct image_axes {
    int64_t images;             // pages the text claims; 0: not said
    int64_t channels, slices, frames;   // 1 when not said; pages run in this order
    int is_imagej;
    double unit;                // ImageJ: micrometres per resolution unit; 0: not said
    double spacing;             // between slices, micrometres; 0: not said
    double interval;            // between frames, seconds; 0: not said
    int64_t shape[8];           // tifffile: sizes of an array, slowest first
    int n_shape;
    char order[9];              // tifffile: letters of its axes; "": not said
} image_axes;

// Reads `text`, which may be NULL or anything at all.
void describe_read(image_axes *axes, const char *text);

typedef struct image_labels {
    int64_t channels, slices, frames;
    int has_pixel_size;
    double spacing, interval;   // 0: not known
    double low, high;           // display range
} image_labels;

// ImageJ's text for these axes; returns its length (as snprintf does).
int describe_write(char *text, size_t size, const image_labels *labels);

#endif
