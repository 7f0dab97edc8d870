// .zarray: accepted or refused in words before any chunk is looked at.
#include "cli/zarr/zarr_array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/zarr/zarr_codec.h"
#include "cli/zarr/zarr_store.h"

// Bytes a decoded chunk may take, and the largest side.
static const int64_t max_chunk_bytes = (int64_t)1 << 30, max_side = (int64_t)1 << 24;

static int read_sizes(const zarr_array *a, const json_t *meta, const char *key, int64_t *sizes, int *n)
{
    const json_t *list = json_object_get(meta, key);
    *n = (int)(json_array_size(list) <= ZARR_MAX_DIMS ? json_array_size(list) : 0);
    int is_good = *n >= 2;
    for (int i = 0; i < *n && is_good; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        sizes[i] = json_is_integer(value) ? json_integer_value(value) : 0;
        is_good = sizes[i] >= 1 && sizes[i] <= max_side;
    }
    if (!is_good) {
        return cli_error(CLI_FAILED, "%s: has %s %s; 2 to %d sizes from 1 to %lld are read", a->path, key,
                         zarr_quote_json(list).text, ZARR_MAX_DIMS, (long long)max_side);
    }
    return CLI_OK;
}

static int read_shape(zarr_array *a, const json_t *meta)
{
    int rc, n_chunk;
    CLI_TRY(read_sizes(a, meta, "shape", a->shape, &a->n_dims));
    CLI_TRY(read_sizes(a, meta, "chunks", a->chunk, &n_chunk));
    if (n_chunk != a->n_dims) {
        return cli_error(CLI_FAILED, "%s: has %d sizes in shape and %d in chunks", a->path, a->n_dims, n_chunk);
    }
    a->chunk_bytes = a->item_bytes;
    for (int i = 0; i < a->n_dims; i++) {
        if (a->chunk_bytes > max_chunk_bytes / a->chunk[i]) {
            return cli_error(CLI_FAILED, "%s: has chunks %s of %d-byte values; chunks of at most %lld MB are read",
                             a->path, zarr_quote_json(json_object_get(meta, "chunks")).text, a->item_bytes,
                             (long long)(max_chunk_bytes >> 20));
        }
        a->chunk_bytes *= a->chunk[i];
    }
    const char *order = json_string_value(json_object_get(meta, "order"));
    if (order == NULL || strcmp(order, "C") != 0) {
        return cli_error(CLI_FAILED, "%s: has order %s; chunks in order \"C\" are read", a->path,
                         zarr_quote_json(json_object_get(meta, "order")).text);
    }
    rc = CLI_OK;
done:
    return rc;
}

static int read_type(zarr_array *a, const json_t *meta)
{
    const json_t *value = json_object_get(meta, "dtype");
    const char *type = json_is_string(value) ? json_string_value(value) : "";
    const uint16_t one = 1;
    const char native = *(const unsigned char *)&one == 1 ? '<' : '>';
    int is_good = strlen(type) == 3 && strchr("<>|", type[0]) != NULL;
    if (is_good) {
        a->kind = type[1];
        a->item_bytes = type[2] - '0';
        is_good = a->kind == 'f' ? a->item_bytes == 4 || a->item_bytes == 8
                                 : (a->kind == 'u' || a->kind == 'i') &&
                                       (a->item_bytes == 1 || a->item_bytes == 2 || a->item_bytes == 4);
        is_good = is_good && (type[0] != '|' || a->item_bytes == 1);
        a->is_swapped = a->item_bytes > 1 && type[0] != native;
    }
    if (!is_good) {
        return cli_error(CLI_FAILED,
                         "%s: has dtype %s; u1, u2, u4, i1, i2, i4, f4 and f8 of either byte order are read", a->path,
                         zarr_quote_json(value).text);
    }
    return CLI_OK;
}

static int read_fill(zarr_array *a, const json_t *meta)
{
    const json_t *value = json_object_get(meta, "fill_value");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (value == NULL || json_is_null(value)) {
        a->fill = 0;
    } else if (json_is_number(value)) {
        a->fill = (float)json_number_value(value);
    } else if (strcmp(text, "NaN") == 0) {
        a->fill = NAN;
    } else if (strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0) {
        a->fill = text[0] == '-' ? -INFINITY : INFINITY;
    } else {
        return cli_error(CLI_FAILED, "%s: has fill_value %s; a number or null is read", a->path,
                         zarr_quote_json(value).text);
    }
    return CLI_OK;
}

static int read_codec(zarr_array *a, const json_t *meta)
{
    static const struct {
        const char *name;
        zarr_codec codec;
    } codecs[] = {{"blosc", ZARR_BLOSC}, {"zlib", ZARR_ZLIB}, {"gzip", ZARR_ZLIB}, {"zstd", ZARR_ZSTD}};
    const json_t *filters = json_object_get(meta, "filters"), *value = json_object_get(meta, "compressor");
    if (filters != NULL && !json_is_null(filters) && (!json_is_array(filters) || json_array_size(filters) > 0)) {
        return cli_error(CLI_FAILED, "%s: has filters %s; arrays without filters are read", a->path,
                         zarr_quote_json(filters).text);
    }
    a->codec = ZARR_RAW;
    if (value == NULL || json_is_null(value)) {
        return CLI_OK;
    }
    const char *id = json_string_value(json_object_get(value, "id"));
    for (size_t i = 0; id != NULL && i < sizeof codecs / sizeof codecs[0]; i++) {
        if (strcmp(id, codecs[i].name) == 0) {
            a->codec = codecs[i].codec;
            return CLI_OK;
        }
    }
    return cli_error(CLI_FAILED, "%s: has compressor %s; blosc, zlib, gzip, zstd and null are read", a->path,
                     zarr_quote_json(value).text);
}

static int read_separator(zarr_array *a, const json_t *meta)
{
    const json_t *value = json_object_get(meta, "dimension_separator");
    const char *text = value == NULL ? "." : json_is_string(value) ? json_string_value(value) : "";
    if (strcmp(text, ".") != 0 && strcmp(text, "/") != 0) {
        return cli_error(CLI_FAILED, "%s: has dimension_separator %s; \".\" and \"/\" are read", a->path,
                         zarr_quote_json(value).text);
    }
    a->separator = text[0];
    return CLI_OK;
}

int zarr_array_read(zarr_array *a, const char *folder)
{
    int rc;
    json_t *meta = NULL;
    memset(a, 0, sizeof *a);
    a->path = cli_format("%s", folder);
    CLI_TRY(zarr_read_json(&meta, folder, ".zarray"));
    if (meta == NULL) {
        rc = cli_error(CLI_FAILED, "%s: no such array (it has no .zarray)", folder);
        goto done;
    }
    const json_t *format = json_object_get(meta, "zarr_format");
    if (!json_is_integer(format) || json_integer_value(format) != 2) {
        rc = cli_error(CLI_FAILED, "%s: has zarr_format %s; 2 is read", folder, zarr_quote_json(format).text);
        goto done;
    }
    CLI_TRY(read_type(a, meta));
    CLI_TRY(read_shape(a, meta));
    CLI_TRY(read_fill(a, meta));
    CLI_TRY(read_codec(a, meta));
    CLI_TRY(read_separator(a, meta));
done:
    json_decref(meta);
    return rc;
}

void zarr_array_free(zarr_array *a)
{
    free(a->path);
    memset(a, 0, sizeof *a);
}

int zarr_array_chunk(const zarr_array *a, const int64_t *index, unsigned char *dst, int *is_there,
                     unsigned char **file, size_t *room)
{
    int64_t n;
    char name[ZARR_MAX_DIMS * 21 + 1];
    int length = 0;
    for (int i = 0; i < a->n_dims; i++) {
        length += snprintf(name + length, sizeof name - (size_t)length, "%s%lld",
                           i == 0 ? "" : a->separator == '/' ? "/" : ".", (long long)index[i]);
    }
    char *path = cli_format("%s/%s", a->path, name);
    // No codec makes incompressible data longer by an eighth.
    int rc = zarr_read_file(path, file, room, &n, a->chunk_bytes + a->chunk_bytes / 8 + 4096);
    *is_there = rc == CLI_OK && n >= 0;
    if (*is_there) {
        rc = zarr_decode(a->codec, path, *file, n, dst, a->chunk_bytes);
    }
    free(path);
    return rc;
}

static void swap_bytes(unsigned char *value, int n)
{
    for (int i = 0; i < n / 2; i++) {
        unsigned char held = value[i];
        value[i] = value[n - 1 - i];
        value[n - 1 - i] = held;
    }
}

// A loop of its own for each type, so that it can be vectorised.
#define CONVERT(type)                                  \
    for (int64_t i = 0; i < n; i++) {                  \
        type value;                                    \
        memcpy(&value, src + i * (int64_t)sizeof value, sizeof value); \
        dst[i] = (float)value;                         \
    }

static void convert(char kind, int item_bytes, const unsigned char *src, int64_t n, float *dst)
{
    switch (kind * 16 + item_bytes) {
    case 'u' * 16 + 1: CONVERT(uint8_t) break;
    case 'u' * 16 + 2: CONVERT(uint16_t) break;
    case 'u' * 16 + 4: CONVERT(uint32_t) break;
    case 'i' * 16 + 1: CONVERT(int8_t) break;
    case 'i' * 16 + 2: CONVERT(int16_t) break;
    case 'i' * 16 + 4: CONVERT(int32_t) break;
    case 'f' * 16 + 4: memcpy(dst, src, (size_t)n * sizeof *dst); break;
    default: CONVERT(double) break;
    }
}

void zarr_array_to_float(const zarr_array *a, const unsigned char *src, int64_t n, float *dst)
{
    if (!a->is_swapped) {
        convert(a->kind, a->item_bytes, src, n, dst);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        unsigned char value[8];
        memcpy(value, src + i * a->item_bytes, (size_t)a->item_bytes);
        swap_bytes(value, a->item_bytes);
        convert(a->kind, a->item_bytes, value, 1, dst + i);
    }
}
