// The container around the HDF5 bytes: a 512-byte user block with magic, version, length and SHA-256
// (docs/checkpoint-format.md), written whole or not at all and verified before anything is parsed.
// Knows nothing of HDF5.
#ifndef US_CKPT_CONTAINER_H
#define US_CKPT_CONTAINER_H

#include "base/alloc.h"
#include "base/status.h"

enum { US_CKPT_BLOCK_BYTES = 512, US_CKPT_FORMAT = 1 };

// No checkpoint is larger than this, written or read.
#define US_CKPT_MAX_BYTES ((uint64_t)8 << 30)

// Fills the user block for these HDF5 bytes.
void us_ckpt_block_fill(unsigned char block[US_CKPT_BLOCK_BYTES], const void *body, size_t n_body);

// Replaces `file` by user block + body: temporary name in the same folder, fsync, rename, fsync of the
// folder. Every failure before the rename leaves the old file and no temporary one.
usplit_status us_ckpt_container_write(const us_allocator *a, const char *file, const void *body,
                                      size_t n_body);

// Reads the whole file, verifies it and hands over the HDF5 bytes; free *body with us_free.
usplit_status us_ckpt_container_read(unsigned char **body, size_t *n_body, const us_allocator *a,
                                     const char *file);

// Opens a regular file for reading (never blocks on a pipe) and tells its size.
usplit_status us_ckpt_open_regular(int *fd, uint64_t *size, const char *file);

// A file name for messages: the end of it when it is long, so that the reason still fits.
const char *us_ckpt_shown(const char *file);

// strerror without its shared buffer. Valid as long as `buffer`.
const char *us_ckpt_strerror(int error, char buffer[128]);

#endif
