// OME-Zarr (NGFF 0.4 and before, Zarr v2) in and out, one of the kinds behind images.h; an image is a folder. Reading
// never trusts the store: sizes, names and types are checked before chunks are decoded, and memory is bounded whatever
// the image's size. Writing makes chunks and the halved copies (the pyramid) as the rows come.
#ifndef CLI_ZARR_H
#define CLI_ZARR_H

#include "cli/image/image_kind.h"

// 1 when the folder `path` holds a Zarr array or group of any version (asks for its metadata files).
int zarr_is_store(const char *path);

typedef struct zarr_file zarr_file;

// The full-resolution image, or a bare array: its dimensions are those of the axes chosen, and without them yx, tyx and
// tczyx for two, three and five. `inside` names a folder within.
int zarr_open(zarr_file **out, const image_choice *choice);
void zarr_close(zarr_file *file);
void zarr_info(const zarr_file *file, image_facts *facts);
int zarr_page_size(zarr_file *file, int64_t page, int64_t *height, int64_t *width);
// Chunks that are not stored hold the fill value.
int zarr_read_rows(zarr_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst);

typedef struct zarr_writer zarr_writer;

// A Zarr folder of that name is replaced at the commit (who calls asks first); anything else of that name is refused.
int zarr_create(zarr_writer **out, const char *path, const image_layout *layout);
// Rows of a place come from top to bottom, place after place.
int zarr_write_rows(zarr_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
int zarr_commit(zarr_writer *writer, int64_t *saturated);
void zarr_writer_free(zarr_writer *writer);

#endif
