// One array of a store: what its .zarray says, checked.
#ifndef CLI_ZARR_ARRAY_H
#define CLI_ZARR_ARRAY_H

#include <stddef.h>
#include <stdint.h>

enum { ZARR_MAX_DIMS = 8 };

typedef enum zarr_codec {
    ZARR_RAW,
    ZARR_BLOSC,
    ZARR_ZLIB,                  // and gzip
    ZARR_ZSTD,
} zarr_codec;

typedef struct zarr_array {
    char *path;                 // its folder
    int n_dims;
    int64_t shape[ZARR_MAX_DIMS], chunk[ZARR_MAX_DIMS];
    char kind;                  // 'u', 'i', 'f'
    int item_bytes, is_swapped; // swapped: of the other byte order than this machine's
    int64_t chunk_bytes;        // decoded
    float fill;
    zarr_codec codec;
    char separator;             // of chunk names
} zarr_array;

// Reads folder/.zarray; zarr_array_free also after a failure.
int zarr_array_read(zarr_array *array, const char *folder);
void zarr_array_free(zarr_array *array);

// Reads and decodes the chunk at `index` (n_dims numbers, in chunks) into dst, chunk_bytes long. *is_there is 0, and
// dst untouched, when the store has no such chunk. *file and *room: kept between calls, see zarr_read_file.
int zarr_array_chunk(const zarr_array *array, const int64_t *index, unsigned char *dst, int *is_there,
                     unsigned char **file, size_t *room);

// n values from chunk data to float.
void zarr_array_to_float(const zarr_array *array, const unsigned char *src, int64_t n, float *dst);

#endif
