// Archives for the tests of usplit import, member by member, so that anything in them can be wrong.
#ifndef TEST_ZIP_MAKER_H
#define TEST_ZIP_MAKER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZIP_MAKER_BYTES = 1 << 20 };

typedef struct zip_maker {
    unsigned char file[ZIP_MAKER_BYTES], directory[1 << 14];
    size_t n, n_directory, n_members;
} zip_maker;

static inline uint32_t zip_maker_crc(const unsigned char *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

static inline void zip_maker_put(unsigned char *at, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        at[i] = (unsigned char)(value >> 8 * i);
    }
}

// One member, stored. Returns where its row of the directory begins in `directory`.
static inline size_t zip_maker_add(zip_maker *z, const char *name, const void *data, size_t n_data)
{
    size_t n_name = strlen(name), row = z->n_directory;
    unsigned char *local = z->file + z->n, *central = z->directory + row;
    memset(local, 0, 30);
    memset(central, 0, 46);
    zip_maker_put(local, 0x04034b50, 4);
    zip_maker_put(local + 26, n_name, 2);
    memcpy(local + 30, name, n_name);
    memcpy(local + 30 + n_name, data, n_data);
    zip_maker_put(central, 0x02014b50, 4);
    zip_maker_put(central + 16, zip_maker_crc(data, n_data), 4);
    zip_maker_put(central + 20, n_data, 4);
    zip_maker_put(central + 24, n_data, 4);
    zip_maker_put(central + 28, n_name, 2);
    zip_maker_put(central + 42, z->n, 4);
    memcpy(central + 46, name, n_name);
    z->n += 30 + n_name + n_data;
    z->n_directory += 46 + n_name;
    z->n_members++;
    return row;
}

// Moves sizes and place of the last member, whose row this is, to a ZIP64 field of so many bytes (24), as of a member
// beyond 4 GB.
static inline void zip_maker_widen(zip_maker *z, size_t row, int n_bytes)
{
    static const int from[3] = {24, 20, 42};    // size, stored size, place
    unsigned char *central = z->directory + row, *extra = z->directory + z->n_directory;
    zip_maker_put(extra, 1, 2);
    zip_maker_put(extra + 2, (uint64_t)n_bytes, 2);
    for (int i = 0; i < 3; i++) {
        memcpy(extra + 4 + 8 * i, central + from[i], 4);
        memset(extra + 8 + 8 * i, 0, 4);
        zip_maker_put(central + from[i], UINT32_MAX, 4);
    }
    zip_maker_put(central + 30, 4 + (uint64_t)n_bytes, 2);
    z->n_directory += 4 + (size_t)n_bytes;
}

// The directory and the record after it; with zip64 the numbers stand in the record of ZIP64 only. Returns where the
// record begins: number of members at 10, bytes of the directory at 12, its place at 16.
static inline size_t zip_maker_finish(zip_maker *z, int zip64)
{
    size_t place = z->n;
    memcpy(z->file + z->n, z->directory, z->n_directory);
    z->n += z->n_directory;
    if (zip64) {
        unsigned char *record = z->file + z->n;
        memset(record, 0, 76);
        zip_maker_put(record, 0x06064b50, 4);
        zip_maker_put(record + 24, z->n_members, 8);
        zip_maker_put(record + 32, z->n_members, 8);
        zip_maker_put(record + 40, z->n_directory, 8);
        zip_maker_put(record + 48, place, 8);
        zip_maker_put(record + 56, 0x07064b50, 4);
        zip_maker_put(record + 64, z->n, 8);
        z->n += 76;
    }
    unsigned char *end = z->file + z->n;
    memset(end, 0, 22);
    zip_maker_put(end, 0x06054b50, 4);
    zip_maker_put(end + 10, zip64 ? UINT16_MAX : z->n_members, 2);
    zip_maker_put(end + 12, zip64 ? UINT32_MAX : z->n_directory, 4);
    zip_maker_put(end + 16, zip64 ? UINT32_MAX : place, 4);
    z->n += 22;
    return z->n - 22;
}

static inline int zip_maker_write(const char *path, const unsigned char *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    int ok = file != NULL && fwrite(bytes, 1, n, file) == n;
    return file != NULL && fclose(file) == 0 && ok ? 0 : -1;
}

// A whole file; NULL: it cannot be read. To free.
static inline unsigned char *zip_maker_read(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = malloc(ZIP_MAKER_BYTES);
    *n = file != NULL && bytes != NULL ? fread(bytes, 1, ZIP_MAKER_BYTES, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return bytes;
}

#endif
