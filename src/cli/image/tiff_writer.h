// Inside the TIFF writer: the file being written, shared by tiff_header.c (its directories) and tiff_write.c
// (pixels and the file itself).
#ifndef CLI_TIFF_WRITER_H
#define CLI_TIFF_WRITER_H

#include "cli/files.h"
#include "cli/image/ome.h"
#include "cli/image/tiff.h"

enum { TIFF_RANGE_SAMPLES = 1 << 15, TIFF_DESCRIPTION_ROOM = 512 };

struct tiff_writer {
    image_layout layout;
    char *names[IMAGE_MAX_CHANNELS], *info;
    files_output output;
    int is_big;
    char *ome;                  // OME-XML of the first page; NULL: ImageJ's words
    int64_t sample_bytes, page_bytes, pages, rows_per_strip, strips;
    int64_t data_at;            // file offset of the first pixel
    int64_t saturated;
    int64_t seen, step;         // values met and the distance between those kept for the display range
    float *kept[IMAGE_MAX_CHANNELS];   // room for TIFF_RANGE_SAMPLES + 1 each
    int64_t n_kept[IMAGE_MAX_CHANNELS];
    unsigned char *converted;   // one row
};

// Header, directories and metadata as they stand now; *data is the caller's to free. NULL: out of memory.
unsigned char *tiff_build_header(const tiff_writer *w, int64_t *n);

#endif
