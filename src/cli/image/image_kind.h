// What a kind of image file must do to be read and written by the program. Each kind is one constant table in its
// own file, listed in images.c; its functions behave as those of images.h with the same name.
#ifndef CLI_IMAGE_KIND_H
#define CLI_IMAGE_KIND_H

#include "cli/image/images.h"

typedef struct image_choice {   // what is opened
    const char *path;           // without @channel and :dataset
    const char *inside;         // after "path:", as given ("/raw"); NULL: none
    int64_t channel;            // from 1; 0: not chosen, which is an error in a file of several
    const char *axes;           // checked; NULL: not given
} image_choice;

typedef struct image_kind {
    const char *const *endings;         // ".tif", in lower case; a NULL ends them
    int is_listed;              // taken when a folder is named
    int has_inside;             // names may go on with ":/dataset"
    // Reading. `open` gives a handle for the others, or records its error line.
    int (*open)(void **file, const image_choice *choice);
    void (*close)(void *file);
    void (*info)(const void *file, image_facts *facts);
    int (*page_size)(void *file, int64_t page, int64_t *height, int64_t *width);
    int (*read_rows)(void *file, int64_t page, int64_t row, int64_t n_rows, float *dst);
    // Writing; NULL: a kind that is only read.
    int (*create)(void **writer, const char *path, const image_layout *layout);
    int (*write_rows)(void *writer, int64_t place, int64_t row, int64_t n_rows, const float *src);
    int (*commit)(void *writer, int64_t *saturated);
    void (*writer_free)(void *writer);
} image_kind;

extern const image_kind tiff_kind, hdf5_kind;
extern const image_kind zarr_kind;     // zarr/

// Defines NAME_kind, which is read and written, from functions that take a NAME_file and a NAME_writer instead of plain
// pointers: NAME_open, NAME_close, NAME_info, NAME_page_size, NAME_read_rows, NAME_create, NAME_write_rows, NAME_commit
// and NAME_writer_free. The other fields follow the name.
#define IMAGE_KIND(name, ...)                                                                                   \
    static int name##_kind_open(void **out, const image_choice *choice)                                         \
    {                                                                                                           \
        name##_file *file = NULL;                                                                               \
        int rc = name##_open(&file, choice);                                                                    \
        *out = file;                                                                                            \
        return rc;                                                                                              \
    }                                                                                                           \
    static void name##_kind_close(void *file)                                                                   \
    {                                                                                                           \
        name##_close(file);                                                                                     \
    }                                                                                                           \
    static void name##_kind_info(const void *file, image_facts *facts)                                          \
    {                                                                                                           \
        name##_info(file, facts);                                                                               \
    }                                                                                                           \
    static int name##_kind_page_size(void *file, int64_t page, int64_t *height, int64_t *width)                 \
    {                                                                                                           \
        return name##_page_size(file, page, height, width);                                                     \
    }                                                                                                           \
    static int name##_kind_read_rows(void *file, int64_t page, int64_t row, int64_t n_rows, float *dst)         \
    {                                                                                                           \
        return name##_read_rows(file, page, row, n_rows, dst);                                                  \
    }                                                                                                           \
    static int name##_kind_create(void **out, const char *path, const image_layout *layout)                     \
    {                                                                                                           \
        name##_writer *writer = NULL;                                                                           \
        int rc = name##_create(&writer, path, layout);                                                          \
        *out = writer;                                                                                          \
        return rc;                                                                                              \
    }                                                                                                           \
    static int name##_kind_write_rows(void *writer, int64_t place, int64_t row, int64_t n_rows, const float *src) \
    {                                                                                                           \
        return name##_write_rows(writer, place, row, n_rows, src);                                              \
    }                                                                                                           \
    static int name##_kind_commit(void *writer, int64_t *saturated)                                             \
    {                                                                                                           \
        return name##_commit(writer, saturated);                                                                \
    }                                                                                                           \
    static void name##_kind_writer_free(void *writer)                                                           \
    {                                                                                                           \
        name##_writer_free(writer);                                                                             \
    }                                                                                                           \
    const image_kind name##_kind = {                                                                            \
        .open = name##_kind_open,                                                                               \
        .close = name##_kind_close,                                                                             \
        .info = name##_kind_info,                                                                               \
        .page_size = name##_kind_page_size,                                                                     \
        .read_rows = name##_kind_read_rows,                                                                     \
        .create = name##_kind_create,                                                                           \
        .write_rows = name##_kind_write_rows,                                                                   \
        .commit = name##_kind_commit,                                                                           \
        .writer_free = name##_kind_writer_free,                                                                 \
        __VA_ARGS__                                                                                             \
    }

// ---- For all kinds ----------------------------------------------------------------------------------

// The text of --axes, read: letters in order, slowest first, and their sizes where given (0: not).
typedef struct image_order {
    char letters[8];            // "TZCYX"; S, samples of a pixel, reads as C
    int64_t sizes[8];
    int n;
} image_order;
// 1: read; 0: it is none. Records no error.
int image_read_axes(image_order *order, const char *axes);

// Picks the channel: *channel from 0, of n; an error line where one must be chosen or there is none such.
int image_pick_channel(const image_choice *choice, int64_t n, int64_t *channel);

#endif
