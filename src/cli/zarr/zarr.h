// OME-Zarr (NGFF 0.4 and before, Zarr v2) in and out, with the calls of cli/tiff.h. Reading never trusts the
// store: sizes, names and types are checked before chunks are decoded, and memory is bounded whatever the image's
// size. Writing makes chunks and the halved copies (the pyramid) as the rows come.
#ifndef CLI_ZARR_H
#define CLI_ZARR_H

#include <stdint.h>

#include <usplit.h>

enum { ZARR_MAX_CHANNELS = 2 * USPLIT_MAX_CHANNELS };   // written: means and deviations

// 1 when the folder `path` holds a Zarr array or group of any version (asks for its metadata files).
int zarr_is_store(const char *path);

// ---- Reading: one channel of the full-resolution image, as pages --------------------------------------

typedef struct zarr_file zarr_file;

typedef struct zarr_facts {
    int64_t pages;              // of the channel chosen
    int64_t height, width;      // all pages have one size
    int32_t type;               // USPLIT_TYPE_*; F32 for what is converted (signed, 32 and 64 bit)
    double pixel_width, pixel_height;   // micrometres; 0: not said
    int64_t slices, frames;     // pages = slices x frames, slices first
    double spacing, interval;   // micrometres, seconds; 0: not said
    int64_t channels;           // of the image
    const char *channel_name;   // of the channel chosen; "": not said. Lives as long as the file
} zarr_facts;

// `name` is the folder of an image or of a bare array, or folder@2 for the second of several channels. `axes`
// names a bare array's dimensions, slowest first, with letters of "tczyx" ("zyx"); NULL: as the metadata says, and
// without metadata yx, tyx and tczyx for two, three and five dimensions.
int zarr_open(zarr_file **out, const char *name, const char *axes);
void zarr_close(zarr_file *file);
void zarr_info(const zarr_file *file, zarr_facts *facts);
int zarr_page_size(zarr_file *file, int64_t page, int64_t *height, int64_t *width);
// Rows [row, row + n_rows) of a page, row-major n_rows x width. Chunks that are not stored hold the fill value.
int zarr_read_rows(zarr_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst);

// ---- Writing ----------------------------------------------------------------------------------------

typedef struct zarr_writer zarr_writer;

typedef struct zarr_layout {
    int64_t height, width, channels, slices, frames;
    int32_t type;               // USPLIT_TYPE_*
    double pixel_width, pixel_height, spacing, interval;    // 0: not known
    const char *names[ZARR_MAX_CHANNELS];               // NULL or "": none
    const char *info;           // free text kept in the metadata; NULL: none
} zarr_layout;

// A Zarr folder of that name is replaced at the commit (who calls asks first); anything else of that name is refused.
int zarr_create(zarr_writer **out, const char *path, const zarr_layout *layout);
// Channel-major: channels planes of n_rows x width, of place = slice + slices * frame. Rows of a place come from top
// to bottom, place after place. Integer types are rounded and saturated.
int zarr_write_rows(zarr_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
// Makes the folder appear under its name. *saturated (may be NULL): full-resolution values cut to the type's range.
int zarr_commit(zarr_writer *writer, int64_t *saturated);
// Frees the writer; a folder that was not committed is removed.
void zarr_writer_free(zarr_writer *writer);

#endif
