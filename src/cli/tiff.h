// TIFF in and out. Reading goes through libtiff and never trusts the file: sizes, offsets and types are
// checked before pixels are decoded, allocations are limited, and its messages become the error line.
// Writing is our own: uncompressed pages at places known beforehand, so that bands of all channels can be
// written as they come, and ImageJ opens the result as a hyperstack.
#ifndef CLI_TIFF_H
#define CLI_TIFF_H

#include <stdint.h>

#include <usplit.h>

// ---- Reading: one channel of a file, as pages -------------------------------------------------------

typedef struct tiff_file tiff_file;

typedef struct tiff_facts {
    int64_t pages;              // of the channel chosen
    int64_t height, width;      // of the first page
    int32_t type;               // USPLIT_TYPE_*, of the first page
    double pixel_width, pixel_height;   // micrometres; 0: not said
    int64_t slices, frames;     // pages = slices x frames, slices first
    double spacing, interval;   // micrometres, seconds; 0: not said
} tiff_facts;

// `name` is a path, or path@2 for the second channel (sample or ImageJ/OME channel) of a file with several.
int tiff_open(tiff_file **out, const char *name);
void tiff_close(tiff_file *file);
void tiff_info(const tiff_file *file, tiff_facts *facts);
int tiff_page_size(tiff_file *file, int64_t page, int64_t *height, int64_t *width);
// Rows [row, row + n_rows) of a page, row-major n_rows x width.
int tiff_read_rows(tiff_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst);

// ---- Writing ----------------------------------------------------------------------------------------

typedef struct tiff_writer tiff_writer;

enum { TIFF_MAX_CHANNELS = 2 * USPLIT_MAX_CHANNELS };   // means and deviations

typedef struct tiff_layout {
    int64_t height, width, channels, slices, frames;    // pages: channels first, then slices, then frames
    int32_t type;               // USPLIT_TYPE_*
    double pixel_width, pixel_height, spacing, interval;    // 0: not known
    const char *names[TIFF_MAX_CHANNELS];               // NULL or "": none
    const char *info;           // free text shown by ImageJ (Image > Show Info); NULL: none
    int force_big;              // BigTIFF whatever the size
} tiff_layout;

int tiff_create(tiff_writer **out, const char *path, const tiff_layout *layout);
// Channel-major: channels planes of n_rows x width, of place = slice + slices * frame. Integer types are
// rounded and saturated.
int tiff_write_rows(tiff_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
// Makes the file appear under its name. *saturated (may be NULL): values cut to the type's range.
int tiff_commit(tiff_writer *writer, int64_t *saturated);
// Frees the writer; a file that was not committed is removed.
void tiff_writer_free(tiff_writer *writer);

#endif
