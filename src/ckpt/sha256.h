// SHA-256 (FIPS 180-4) of bytes in memory or in pieces: tells a damaged checkpoint from a whole one.
#ifndef US_CKPT_SHA256_H
#define US_CKPT_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { US_SHA256_BYTES = 32 };

typedef struct us_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;        // seen so far
    unsigned char block[64]; // the bytes of the unfinished block
} us_sha256;

void us_sha256_init(us_sha256 *sha);
void us_sha256_update(us_sha256 *sha, const void *bytes, size_t n);
void us_sha256_final(us_sha256 *sha, unsigned char digest[US_SHA256_BYTES]);

// All three in one call.
void us_sha256_of(const void *bytes, size_t n, unsigned char digest[US_SHA256_BYTES]);

#endif
