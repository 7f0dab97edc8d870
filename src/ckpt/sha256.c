// SHA-256 after FIPS 180-4, section 6.2: plain C, one 64-byte block at a time.
// It guards against damage (a truncated copy, a flipped bit), not against an author who means harm:
// whoever can write the file can write the right digest.
#include "ckpt/sha256.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
    return (x >> n) | (x << (32 - n));
}

static void take_block(uint32_t state[8], const unsigned char *p)
{
    uint32_t w[64];
    for (int t = 0; t < 16; t++) {
        w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 | (uint32_t)p[4 * t + 2] << 8 |
               p[4 * t + 3];
    }
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ (w[t - 15] >> 3);
        uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ (w[t - 2] >> 10);
        w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + K[t] + w[t];
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

void us_sha256_init(us_sha256 *sha)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(sha, 0, sizeof *sha);
    memcpy(sha->state, first, sizeof first);
}

void us_sha256_update(us_sha256 *sha, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    size_t held = (size_t)(sha->n_bytes % 64);
    sha->n_bytes += n;
    if (held > 0) {
        size_t room = 64 - held;
        size_t part = n < room ? n : room;
        if (part > 0) {
            memcpy(sha->block + held, p, part);
        }
        if (part < room) {
            return;
        }
        take_block(sha->state, sha->block);
        p += part;
        n -= part;
    }
    for (; n >= 64; p += 64, n -= 64) {
        take_block(sha->state, p);
    }
    if (n > 0) {
        memcpy(sha->block, p, n);
    }
}

void us_sha256_final(us_sha256 *sha, unsigned char digest[US_SHA256_BYTES])
{
    uint64_t n_bits = sha->n_bytes * 8;
    size_t held = (size_t)(sha->n_bytes % 64);
    unsigned char tail[72] = {0x80}; // a one bit, zeros to byte 56 of a block, the length in bits
    size_t n = (held < 56 ? 56 : 120) - held;
    for (int i = 0; i < 8; i++) {
        tail[n + (size_t)i] = (unsigned char)(n_bits >> (56 - 8 * i));
    }
    us_sha256_update(sha, tail, n + 8);
    for (int i = 0; i < US_SHA256_BYTES; i++) {
        digest[i] = (unsigned char)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void us_sha256_of(const void *bytes, size_t n, unsigned char digest[US_SHA256_BYTES])
{
    us_sha256 sha;
    us_sha256_init(&sha);
    us_sha256_update(&sha, bytes, n);
    us_sha256_final(&sha, digest);
}
