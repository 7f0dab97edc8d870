// Inside the TIFF reader: the open file and its current page, shared by tiff_open.c (the file and its list
// of pages), tiff_axes.c (what the pages are), tiff_page.c (one page, checked) and tiff_rows.c (pixels).
#ifndef CLI_TIFF_FILE_H
#define CLI_TIFF_FILE_H

#include <tiffio.h>

#include "cli/describe.h"
#include "cli/image/ome.h"
#include "cli/image/tiff.h"

// Bytes one allocation of libtiff, or one strip of ours, may take.
static const int64_t tiff_max_allocation = (int64_t)4 << 30;

struct tiff_file {
    TIFF *tiff;
    char *path;
    char detail[256];           // libtiff's first message since it was cleared
    int64_t size;               // of the file, bytes
    uint64_t *directories;      // file offsets of the pages that count
    int64_t n_directories;
    int64_t raw_pages;          // > 0: ImageJ's big stack, one directory followed by bare pixels
    image_axes axes;
    int64_t *pages;             // [frame][slice][page channel]: index into directories, or of a bare page
    int64_t page_channels, page_channel;    // channels that are pages, and the one chosen
    int sample;                 // chosen of a page's samples
    image_facts facts;

    int64_t open_directory;     // its facts follow; -1: none
    int64_t height, width, band_rows, tile_width;   // band_rows: of a strip or a tile
    int bits, format;           // of a sample; format: SAMPLEFORMAT_*
    int samples, is_tiled, is_planar;
    unsigned char *band;        // decoded pixels of one strip or row of tiles, of all interleaved samples
    int64_t band_bytes, band_first;                 // first row in band; -1: none
};

// Makes a page of the file the current one. Its facts are valid only when this succeeded.
int tiff_open_directory(tiff_file *file, int64_t directory);
// Records libtiff's words, or `what` when it said nothing, as the error of a page.
int tiff_bad_page(tiff_file *file, int64_t directory, const char *what);
// What the pages are, and which belong to the channel chosen. `ome` is NULL where the file has none.
int tiff_map_pages(tiff_file *file, const image_choice *choice, const ome_image *ome);
// Bytes of n samples of the page's type side by side; packed types end with a whole byte.
int64_t tiff_sample_bytes(const tiff_file *file, int64_t n);

#endif
