// Blosc, zlib and Zstandard for chunks. Each decoder is given the bytes that a chunk must have and never writes more;
// what a header claims is compared with that before it is believed.
#include "cli/zarr/zarr_codec.h"

// Sources are const for zlib, too.
#define ZLIB_CONST
#include <blosc.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/cli.h"

static int decode_blosc(const unsigned char *src, int64_t n, unsigned char *dst, int64_t dst_bytes)
{
    size_t claimed = 0;
    if (n < BLOSC_MIN_HEADER_LENGTH || blosc_cbuffer_validate(src, (size_t)n, &claimed) != 0 ||
        claimed != (size_t)dst_bytes) {
        return 0;
    }
    return blosc_decompress_ctx(src, dst, (size_t)dst_bytes, 1) == dst_bytes;
}

static int decode_zlib(const unsigned char *src, int64_t n, unsigned char *dst, int64_t dst_bytes)
{
    enum { ZLIB_OR_GZIP = 15 + 32 };
    z_stream z;
    memset(&z, 0, sizeof z);
    if (inflateInit2(&z, ZLIB_OR_GZIP) != Z_OK) {
        return 0;
    }
    z.next_in = src;              // both sizes are below 2 GB
    z.avail_in = (uInt)n;
    z.next_out = dst;
    z.avail_out = (uInt)dst_bytes;
    int end = inflate(&z, Z_FINISH);
    int is_whole = end == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    return is_whole;
}

int zarr_decode(zarr_codec codec, const char *path, const unsigned char *src, int64_t n, unsigned char *dst,
                int64_t dst_bytes)
{
    static const char *const names[] = {"plain", "blosc", "zlib", "zstd"};
    int is_whole = 0;
    switch (codec) {
    case ZARR_RAW:
        is_whole = n == dst_bytes;
        if (is_whole) {
            memcpy(dst, src, (size_t)n);
        }
        break;
    case ZARR_BLOSC: is_whole = decode_blosc(src, n, dst, dst_bytes); break;
    case ZARR_ZLIB: is_whole = decode_zlib(src, n, dst, dst_bytes); break;
    case ZARR_ZSTD: is_whole = ZSTD_decompress(dst, (size_t)dst_bytes, src, (size_t)n) == (size_t)dst_bytes; break;
    }
    if (!is_whole) {
        return cli_error(CLI_FAILED, "%s: is damaged: its %lld bytes do not decode to a %s chunk of %lld bytes", path,
                         (long long)n, names[codec], (long long)dst_bytes);
    }
    return CLI_OK;
}

int64_t zarr_encoded_room(int64_t chunk_bytes)
{
    return chunk_bytes + BLOSC_MAX_OVERHEAD;
}

int64_t zarr_encode(const unsigned char *src, int64_t chunk_bytes, int item_bytes, unsigned char *dst)
{
    int n = blosc_compress_ctx(5, BLOSC_SHUFFLE, (size_t)item_bytes, (size_t)chunk_bytes, src, dst,
                               (size_t)zarr_encoded_room(chunk_bytes), BLOSC_LZ4_COMPNAME, 0, 1);
    return n > 0 ? n : 0;
}
