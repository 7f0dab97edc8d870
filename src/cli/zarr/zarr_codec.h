// Chunks as they are stored: decoding of what others write, and the one way we write.
#ifndef CLI_ZARR_CODEC_H
#define CLI_ZARR_CODEC_H

#include <stdint.h>

#include "cli/zarr/zarr_array.h"

// Decodes n bytes into exactly dst_bytes; anything else is an error that names `path`.
int zarr_decode(zarr_codec codec, const char *path, const unsigned char *src, int64_t n, unsigned char *dst,
                int64_t dst_bytes);

// Bytes that zarr_encode may need for a chunk.
int64_t zarr_encoded_room(int64_t chunk_bytes);
// Blosc with LZ4 and byte shuffle, as .zarray has it: {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}.
// Returns the bytes in dst; 0: failed.
int64_t zarr_encode(const unsigned char *src, int64_t chunk_bytes, int item_bytes, unsigned char *dst);

#endif
