// OME-XML, as far as pages of a TIFF need it: read by a small scanner that knows tags, attributes and the five
// predefined entities, and no others (nothing is expanded or fetched); and the text that we write.
#ifndef CLI_OME_H
#define CLI_OME_H

#include "cli/image/images.h"

enum { OME_C, OME_Z, OME_T };

typedef struct ome_block {      // TiffData: `count` planes from `first` on lie in pages from `page` on
    int64_t page, first[3], count;      // count 0: all that are left
    int is_elsewhere;           // in another file of the set
} ome_block;

typedef struct ome_image {      // the first image described
    int n_images;
    int64_t sizes[3];           // of C, Z, T
    int order[3];               // OME_C, ... from the axis that runs fastest
    double pixel_width, pixel_height, spacing, interval;    // micrometres, seconds; 0: not said
    char (*names)[USPLIT_NAME_BYTES];   // of channels
    int64_t n_names;
    ome_block *blocks;
    int64_t n_blocks;
} ome_image;

// 1: `text` describes an image, which is in *out and must be freed; 0: it does not. `file_name` tells which blocks
// of a set of files are this one's.
int ome_read(ome_image *out, const char *text, const char *file_name);
void ome_free(ome_image *image);

// Page of every plane, [T][Z][C] of the box of planes that this file holds; to free. *box: first and size of C, Z, T.
// NULL: the blocks and the number of pages do not fit each other, or there is no memory.
int64_t *ome_pages(const ome_image *image, int64_t n_pages, int64_t samples, int64_t first[3], int64_t size[3]);

// Text for `layout`, pages in the order XYCZT; to free. NULL: out of memory.
char *ome_write(const image_layout *layout, const char *const *names, const char *info, const char *creator);

#endif
