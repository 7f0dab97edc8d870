// The checks that a foreign dataset must pass before it is read. Storage and filters come first, because even
// asking a virtual dataset for its shape can open other files. No plug-in is ever looked for.
#include "ckpt/h5.h"

#include "ckpt/container.h"

// A chunk is decompressed as a whole.
#define MAX_CHUNK_BYTES ((uint64_t)1 << 30)

#define FAIL(source, fmt, ...)                                                                               \
    return us_fail(USPLIT_ERR_FORMAT, "%s: '%s' " fmt, us_ckpt_shown((source)->file), (source)->path,        \
                   __VA_ARGS__)

static usplit_status check_filters(hid_t plist, const us_h5_source *source)
{
    int n = H5Pget_nfilters(plist);
    if (n < 0) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s': the filters cannot be read",
                          us_ckpt_shown(source->file), source->path);
    }
    for (int i = 0; i < n; i++) {
        unsigned flags = 0;
        size_t n_values = 0;
        char name[64] = "";
        // No filter_config: asking for it looks for the filter.
        H5Z_filter_t id =
            H5Pget_filter2(plist, (unsigned)i, &flags, &n_values, NULL, sizeof name, name, NULL);
        if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_SHUFFLE && id != H5Z_FILTER_FLETCHER32) {
            FAIL(source, "has filter %d; accepted: deflate, shuffle, fletcher32", (int)id);
        }
    }
    return USPLIT_OK;
}

static usplit_status check_layout(H5D_layout_t *layout, hid_t plist, const us_h5_source *source)
{
    *layout = H5Pget_layout(plist);
    if (*layout != H5D_CONTIGUOUS && *layout != H5D_CHUNKED) {
        const char *name = *layout == H5D_VIRTUAL   ? "virtual"
                           : *layout == H5D_COMPACT ? "compact"
                                                    : "unknown";
        FAIL(source, "has %s storage; accepted: contiguous or chunked", name);
    }
    if (H5Pget_external_count(plist) != 0) {
        FAIL(source, "%s; accepted: data inside this file", "lies in an external file");
    }
    return check_filters(plist, source);
}

static usplit_status read_type(us_h5_array *out, hid_t type, const us_h5_source *source)
{
    const hid_t known[] = {H5T_STD_U8LE,  H5T_STD_U8BE,   H5T_STD_U16LE,
                           H5T_STD_U16BE, H5T_IEEE_F32LE, H5T_IEEE_F32BE};
    out->element_bytes = H5Tget_size(type);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (H5Tequal(type, known[i]) > 0) {
            return USPLIT_OK;
        }
    }
    static const char *const classes[] = {"integer",   "float",           "time",     "string",
                                          "bit field", "opaque",          "compound", "reference",
                                          "enum",      "variable-length", "array"};
    int class = (int)H5Tget_class(type);
    FAIL(source, "has %zu-byte elements of class %s; accepted: u8, u16, f32", out->element_bytes,
         class >= 0 && class < 11 ? classes[class] : "unknown");
}

static usplit_status read_shape(us_h5_array *out, uint64_t *total, hid_t space, const us_h5_source *source)
{
    H5S_class_t class = H5Sget_simple_extent_type(space);
    int rank = class == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
    if (class != H5S_SIMPLE && class != H5S_SCALAR) {
        FAIL(source, "%s; accepted: a scalar or an array", "has no shape");
    }
    if (rank < 0 || rank > US_H5_MAX_RANK) {
        FAIL(source, "has rank %d; accepted: 0 to %d", rank, US_H5_MAX_RANK);
    }
    out->rank = rank;
    if (rank > 0 && H5Sget_simple_extent_dims(space, out->dims, NULL) != rank) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s': the shape cannot be read",
                          us_ckpt_shown(source->file), source->path);
    }
    uint64_t bytes = out->element_bytes;
    for (int i = 0; i < rank; i++) {
        if (out->dims[i] > source->max_bytes ||
            (out->dims[i] > 0 && bytes > source->max_bytes / out->dims[i])) {
            FAIL(source, "has more than %llu bytes (dimension %d is %llu)",
                 (unsigned long long)source->max_bytes, i, (unsigned long long)out->dims[i]);
        }
        bytes *= out->dims[i];
    }
    *total = bytes;
    return USPLIT_OK;
}

static usplit_status check_storage(const us_h5_array *array, uint64_t bytes, hid_t dataset, hid_t plist,
                                   H5D_layout_t layout, const us_h5_source *source)
{
    if (layout == H5D_CONTIGUOUS) {
        uint64_t stored = H5Dget_storage_size(dataset), at = bytes > 0 ? H5Dget_offset(dataset) : 0;
        if (stored != bytes || at > source->file_bytes || bytes > source->file_bytes - at) {
            FAIL(source, "should have %llu bytes but has %llu, or they lie outside the file",
                 (unsigned long long)bytes, (unsigned long long)stored);
        }
        return USPLIT_OK;
    }
    hsize_t chunk[US_H5_MAX_RANK] = {0};
    if (H5Pget_chunk(plist, array->rank, chunk) != array->rank) {
        FAIL(source, "%s", "has chunks of another rank than its own");
    }
    uint64_t chunk_bytes = array->element_bytes;
    for (int i = 0; i < array->rank; i++) {
        if (chunk[i] == 0 || chunk_bytes > MAX_CHUNK_BYTES / chunk[i]) {
            FAIL(source, "has chunks over %llu bytes", (unsigned long long)MAX_CHUNK_BYTES);
        }
        chunk_bytes *= chunk[i];
    }
    return USPLIT_OK;
}

usplit_status us_h5_describe(us_h5_array *out, hid_t dataset, const us_h5_source *source)
{
    *out = (us_h5_array){0};
    hid_t plist = H5Dget_create_plist(dataset), type = -1, space = -1;
    uint64_t bytes = 0;
    H5D_layout_t layout = H5D_LAYOUT_ERROR;
    usplit_status status;
    if (plist < 0) {
        status = us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s' cannot be read", us_ckpt_shown(source->file),
                            source->path);
        goto done;
    }
    US_TRY_GOTO(check_layout(&layout, plist, source));
    type = H5Dget_type(dataset);
    space = H5Dget_space(dataset);
    if (type < 0 || space < 0) {
        status = us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s' cannot be read", us_ckpt_shown(source->file),
                            source->path);
        goto done;
    }
    US_TRY_GOTO(read_type(out, type, source));
    US_TRY_GOTO(read_shape(out, &bytes, space, source));
    US_TRY_GOTO(check_storage(out, bytes, dataset, plist, layout, source));
done:
    us_h5_close(space);
    us_h5_close(type);
    us_h5_close(plist);
    return status;
}
