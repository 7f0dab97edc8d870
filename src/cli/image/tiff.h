// TIFF in and out, one of the kinds behind images.h. Reading goes through libtiff and never trusts the file: sizes,
// offsets and types are checked before pixels are decoded, allocations are limited, and its messages become the
// error line. Writing is our own: uncompressed pages at places known beforehand, so that bands of all channels can
// be written as they come.
#ifndef CLI_TIFF_H
#define CLI_TIFF_H

#include "cli/image/image_kind.h"

typedef struct tiff_file tiff_file;

int tiff_open(tiff_file **out, const image_choice *choice);
void tiff_close(tiff_file *file);
void tiff_info(const tiff_file *file, image_facts *facts);
int tiff_page_size(tiff_file *file, int64_t page, int64_t *height, int64_t *width);
int tiff_read_rows(tiff_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst);

typedef struct tiff_writer tiff_writer;

int tiff_create(tiff_writer **out, const char *path, const image_layout *layout);
int tiff_write_rows(tiff_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
int tiff_commit(tiff_writer *writer, int64_t *saturated);
void tiff_writer_free(tiff_writer *writer);

#endif
