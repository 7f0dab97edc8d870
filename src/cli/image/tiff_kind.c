// TIFF's row in the table of image kinds: the functions of tiff.h behind plain pointers.
#include <stddef.h>

#include "cli/image/tiff.h"

static int open_file(void **out, const image_choice *choice)
{
    tiff_file *file = NULL;
    int rc = tiff_open(&file, choice);
    *out = file;
    return rc;
}

static void close_file(void *file)
{
    tiff_close(file);
}

static void info(const void *file, image_facts *facts)
{
    tiff_info(file, facts);
}

static int page_size(void *file, int64_t page, int64_t *height, int64_t *width)
{
    return tiff_page_size(file, page, height, width);
}

static int read_rows(void *file, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    return tiff_read_rows(file, page, row, n_rows, dst);
}

static int create(void **out, const char *path, const image_layout *layout)
{
    tiff_writer *writer = NULL;
    int rc = tiff_create(&writer, path, layout);
    *out = writer;
    return rc;
}

static int write_rows(void *writer, int64_t place, int64_t row, int64_t n_rows, const float *src)
{
    return tiff_write_rows(writer, place, row, n_rows, src);
}

static int commit(void *writer, int64_t *saturated)
{
    return tiff_commit(writer, saturated);
}

static void writer_free(void *writer)
{
    tiff_writer_free(writer);
}

static const char *const endings[] = {".tif", ".tiff", ".ome.tif", ".ome.tiff", NULL};

const image_kind tiff_kind = {
    .endings = endings,
    .is_listed = 1,
    .open = open_file,
    .close = close_file,
    .info = info,
    .page_size = page_size,
    .read_rows = read_rows,
    .create = create,
    .write_rows = write_rows,
    .commit = commit,
    .writer_free = writer_free,
};
