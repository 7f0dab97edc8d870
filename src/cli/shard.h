// One run of usplit split shared by several machines: which rows each of them predicts, and the file that carries them
// to usplit merge. A shard file says first what all shards of a run must agree on (the job), then which rows it has,
// then holds these as float32, row after row, the planes of a row one after the other. It is read by the same machine
// kind that wrote it (little-endian).
//
//     usplit-shard 1 LENGTH | part 2 8 | engine | job: model, options, images | pieces | end | rows | checksum
#ifndef CLI_SHARD_H
#define CLI_SHARD_H

#include <stdint.h>

#include "cli/files.h"
#include "cli/image/images.h"

typedef struct shard_image {
    char *source, *output;      // names without folders
    char *names[IMAGE_MAX_CHANNELS], *info;
    image_layout layout;         // its texts are those above
    uint64_t pixels;            // fingerprint of the input
    int64_t pages;
    int64_t tile_rows, tile_columns, inner;     // of a page
} shard_image;

typedef struct shard_piece {    // rows [row, row + n_rows) of a page: tile rows [tile_row, tile_row + n_tile_rows)
    int64_t image, page, row, n_rows, tile_row, n_tile_rows;
} shard_piece;

typedef struct shard {
    char *path;
    int64_t part, parts;        // part counts from 1
    char *engine, *model, *options;
    shard_image *images;
    int64_t n_images;
    shard_piece *pieces;
    int64_t n_pieces;
    char *job;                  // what all parts agree on, as text
    int64_t rows_at;            // where the rows begin in the file
} shard;

// "2/8" into part and parts: 0 or CLI_USAGE.
int shard_parse(shard *s, const char *text);
// "out.2of8.shard" for "out" or "out/"; to free.
char *shard_path(const char *out, int64_t part, int64_t parts);

// Adds an image; its layout's texts are copied. The other fields are the caller's to fill.
int shard_add_image(shard *s, const char *source, const char *output, const image_layout *layout, shard_image **added);
// Divides the tile rows of all pages of all images evenly, by tiles: this part's become pieces.
int shard_divide(shard *s);
void shard_free(shard *s);

// Text that stands for a file's bytes, or for pixels: the 64-bit FNV-1a hash.
uint64_t shard_hash(uint64_t before, const void *bytes, size_t n);
enum { SHARD_HASH_BYTES = 17 };
int shard_hash_file(char text[SHARD_HASH_BYTES], const char *path);

// ---- The file ---------------------------------------------------------------------------------------

typedef struct shard_writer {
    files_output output;
    uint64_t sum;
} shard_writer;

int shard_create(shard_writer *w, shard *s);
// planes x n_rows x width, channel-major as the tiler gives them.
int shard_write_rows(shard_writer *w, const float *src, int64_t planes, int64_t n_rows, int64_t width);
int shard_commit(shard_writer *w);
void shard_discard(shard_writer *w);

// Reads what a file says before its rows, and checks that the file is whole.
int shard_read(shard *s, const char *path);
// The next n_rows of the file as planes x n_rows x width; `row` holds planes x width.
int shard_read_rows(FILE *file, const char *path, float *dst, float *row, int64_t planes, int64_t n_rows, int64_t width);

#endif
