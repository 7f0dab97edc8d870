// Image files in and out, whatever their kind: a name is opened and becomes pages of one channel; a layout is
// created and takes rows. Which kind reads or writes a file is decided in images.c, from its name (image_kind.h
// says what a kind must do). Commands use this header only.
#ifndef CLI_IMAGES_H
#define CLI_IMAGES_H

#include <stdint.h>

#include <usplit.h>

// ---- Reading: one channel of a file, as pages -------------------------------------------------------

typedef struct image_file image_file;

typedef struct image_facts {
    int64_t pages;              // of the channel chosen
    int64_t height, width;      // of the first page
    int32_t type;               // USPLIT_TYPE_* that holds the values: F32 for types the library has no name for
    double pixel_width, pixel_height;   // micrometres; 0: not said
    int64_t slices, frames;     // pages = slices x frames; page = slice + slices * frame
    double spacing, interval;   // micrometres, seconds; 0: not said
    int64_t channels, channel;  // in the file; the one chosen, from 0
    char name[USPLIT_NAME_BYTES];       // of that channel; "": not said
} image_facts;

// `name` is a path, or path@2 for the second channel of a file with several; of an HDF5 file also
// file.h5:/dataset and file.h5:/dataset@2. A file of several channels needs one to be chosen.
int image_open(image_file **out, const char *name);
// The same with the axes named, slowest first (--axes): letters of T, Z, C, then Y, X; a number after T, Z or C is
// its size ("T10ZYX"). They replace what the file says of itself. NULL: as image_open.
int image_open_axes(image_file **out, const char *name, const char *axes);
void image_close(image_file *file);
void image_info(const image_file *file, image_facts *facts);
int image_page_size(image_file *file, int64_t page, int64_t *height, int64_t *width);
// Rows [row, row + n_rows) of a page, row-major n_rows x width.
int image_read_rows(image_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst);

// ---- Writing ----------------------------------------------------------------------------------------

typedef struct image_writer image_writer;

enum { IMAGE_MAX_CHANNELS = 2 * USPLIT_MAX_CHANNELS };  // means and deviations

typedef struct image_layout {
    int64_t height, width, channels, slices, frames;    // pages: channels first, then slices, then frames
    int32_t type;               // USPLIT_TYPE_*
    double pixel_width, pixel_height, spacing, interval;    // 0: not known
    const char *names[IMAGE_MAX_CHANNELS];              // NULL or "": none
    const char *info;           // free text shown by viewers (ImageJ: Image > Show Info); NULL: none
    int force_big;              // TIFF: BigTIFF whatever the size
} image_layout;

// The ending of `path` says what is written; nothing appears under that name before image_commit.
int image_create(image_writer **out, const char *path, const image_layout *layout);
// Channel-major: channels planes of n_rows x width, of place = slice + slices * frame. Integer types are
// rounded and saturated.
int image_write_rows(image_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
// Makes the file appear under its name. *saturated (may be NULL): values cut to the type's range.
int image_commit(image_writer *writer, int64_t *saturated);
// Frees the writer; a file that was not committed is removed.
void image_writer_free(image_writer *writer);

// ---- Names ------------------------------------------------------------------------------------------

int image_is_file(const char *path);            // its ending belongs to a kind that is read (a folder's may, too)
int image_is_listed(const char *path);          // and it is taken when a whole folder is named
int image_is_written(const char *path);         // its ending can be written
// A name for what is made of an image, without folder and ending; to free. "a/x.ome.tif" x, "x.tif@2" x_ch2,
// "x.h5:/raw/a" x_raw_a.
char *image_stem(const char *name);
// 0, or CLI_USAGE where the text of --axes is none.
int image_check_axes(const char *axes);

#endif
