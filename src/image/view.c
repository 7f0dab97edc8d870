// Views of the caller's pixels: the one place that knows pixel types and strides. Pixels may lie at any
// byte, so they are loaded with memcpy, which compiles to a plain load.
#include "image/view.h"

#include <math.h>
#include <string.h>

static int64_t pixel_bytes(int32_t type)
{
    return type == USPLIT_TYPE_U8 ? 1 : type == USPLIT_TYPE_U16 ? 2 : type == USPLIT_TYPE_F32 ? 4 : 0;
}

// Adds the reach of one axis, |stride| * (size - 1), to the bytes before or after the first pixel.
static int add_reach(int64_t size, int64_t stride, int64_t *before, int64_t *after)
{
    int64_t reach;
    if (__builtin_mul_overflow(size - 1, stride, &reach) || reach == INT64_MIN) {
        return 0;
    }
    return reach < 0 ? !__builtin_add_overflow(*before, -reach, before)
                     : !__builtin_add_overflow(*after, reach, after);
}

static usplit_status check_size(const char *name, const char *axis, int64_t size)
{
    US_CHECK_ARG(size >= 1, "%s: %s is %lld; accepted: 1 or more", name, axis, (long long)size);
    return USPLIT_OK;
}

usplit_status us_view_check(const usplit_image *image, const char *name)
{
    US_CHECK_ARG(image != NULL, "%s is NULL", name);
    US_CHECK_ARG(image->struct_size >= sizeof *image,
                 "%s: struct_size is %zu; accepted: what usplit_image_init wrote", name, image->struct_size);
    US_CHECK_ARG(image->data != NULL, "%s: data is NULL", name);
    int64_t bytes = pixel_bytes(image->type);
    US_CHECK_ARG(bytes != 0, "%s: type is %d; accepted: USPLIT_TYPE_U8 (1), _U16 (2), _F32 (3)", name,
                 image->type);
    US_TRY(check_size(name, "frames", image->frames));
    US_TRY(check_size(name, "height", image->height));
    US_TRY(check_size(name, "width", image->width));
    US_TRY(check_size(name, "channels", image->channels));
    int64_t count = bytes, before = 0, after = bytes;
    int ok = !__builtin_mul_overflow(count, image->frames, &count) &&
             !__builtin_mul_overflow(count, image->height, &count) &&
             !__builtin_mul_overflow(count, image->width, &count) &&
             !__builtin_mul_overflow(count, image->channels, &count);
    if (!ok) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s: %lld x %lld x %lld x %lld pixels are more than memory can hold", name,
                (long long)image->frames, (long long)image->height, (long long)image->width,
                (long long)image->channels);
    }
    ok = add_reach(image->frames, image->stride_frame, &before, &after) &&
         add_reach(image->height, image->stride_row, &before, &after) &&
         add_reach(image->width, image->stride_column, &before, &after) &&
         add_reach(image->channels, image->stride_channel, &before, &after);
    uintptr_t first = (uintptr_t)image->data;
    if (!ok || (uint64_t)before > first || (uint64_t)after > UINTPTR_MAX - first) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s: the strides lead outside the address space", name);
    }
    return USPLIT_OK;
}

int64_t us_view_find_bad(const float *values, int64_t n)
{
    enum { BLOCK = 1024 };
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t end = begin + BLOCK < n ? begin + BLOCK : n;
        uint32_t bad = 0; // exponent bits all set: NaN or infinite
        for (int64_t i = begin; i < end; i++) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            bad |= (bits & 0x7F800000u) == 0x7F800000u;
        }
        for (int64_t i = begin; bad && i < end; i++) {
            if (!isfinite(values[i])) {
                return i;
            }
        }
    }
    return -1;
}

static usplit_status check_rows(const usplit_image *image, int64_t frame, int64_t channel, int64_t row,
                                int64_t n_rows)
{
    US_CHECK_ARG(frame >= 0 && frame < image->frames, "frame is %lld; accepted: 0 to %lld", (long long)frame,
                 (long long)image->frames - 1);
    US_CHECK_ARG(channel >= 0 && channel < image->channels, "channel is %lld; accepted: 0 to %lld",
                 (long long)channel, (long long)image->channels - 1);
    US_CHECK_ARG(row >= 0 && n_rows >= 0 && n_rows <= image->height && row <= image->height - n_rows,
                 "rows %lld to %lld are outside an image of %lld rows", (long long)row,
                 (long long)(row + n_rows - 1), (long long)image->height);
    return USPLIT_OK;
}

static char *find_row(const usplit_image *image, int64_t frame, int64_t channel, int64_t row)
{
    return (char *)image->data + frame * image->stride_frame + channel * image->stride_channel +
           row * image->stride_row;
}

static void read_row(const char *src, int32_t type, int64_t step, int64_t n, float *restrict dst)
{
    if (type == USPLIT_TYPE_F32 && step == (int64_t)sizeof(float)) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
    } else if (type == USPLIT_TYPE_F32) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(&dst[i], src + i * step, sizeof *dst);
        }
    } else if (type == USPLIT_TYPE_U16) {
        for (int64_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, src + i * step, sizeof v);
            dst[i] = (float)v;
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            dst[i] = (float)*(const uint8_t *)(src + i * step);
        }
    }
}

usplit_status us_view_read(const usplit_image *image, const char *name, int64_t frame, int64_t channel, int64_t row,
                           int64_t n_rows, float *dst)
{
    US_TRY(check_rows(image, frame, channel, row, n_rows));
    for (int64_t r = 0; r < n_rows; r++) {
        float *to = dst + r * image->width;
        read_row(find_row(image, frame, channel, row + r), image->type, image->stride_column, image->width,
                 to);
        int64_t bad = image->type == USPLIT_TYPE_F32 ? us_view_find_bad(to, image->width) : -1;
        if (bad >= 0) {
            US_FAIL(
                USPLIT_ERR_NUMERIC,
                "%s: frame %lld, channel %lld: the pixel at row %lld, column %lld is %g; accepted: finite values",
                name, (long long)frame, (long long)channel, (long long)(row + r), (long long)bad, (double)to[bad]);
        }
    }
    return USPLIT_OK;
}

// To nearest (ties to even), cut to [0, highest]; NaN becomes 0. Returns how many values were cut.
static int64_t write_integers(char *dst, int32_t type, int64_t step, int64_t n, const float *src)
{
    const float highest = type == USPLIT_TYPE_U8 ? 255.0f : 65535.0f;
    int64_t cut = 0;
    for (int64_t i = 0; i < n; i++) {
        float v = src[i];
        cut += !(v >= -0.5f && v < highest + 0.5f);
        v = v > 0.0f ? v : 0.0f;
        long rounded = lrintf(v < highest ? v : highest);
        if (type == USPLIT_TYPE_U8) {
            *(uint8_t *)(dst + i * step) = (uint8_t)rounded;
        } else {
            uint16_t u = (uint16_t)rounded;
            memcpy(dst + i * step, &u, sizeof u);
        }
    }
    return cut;
}

usplit_status us_view_write(const usplit_image *image, int64_t frame, int64_t channel, int64_t row,
                            int64_t n_rows, const float *src, int64_t *saturated)
{
    US_TRY(check_rows(image, frame, channel, row, n_rows));
    for (int64_t r = 0; r < n_rows; r++) {
        char *to = find_row(image, frame, channel, row + r);
        const float *from = src + r * image->width;
        if (image->type != USPLIT_TYPE_F32) {
            int64_t cut = write_integers(to, image->type, image->stride_column, image->width, from);
            if (saturated) {
                *saturated += cut;
            }
        } else if (image->stride_column == (int64_t)sizeof(float)) {
            memcpy(to, from, (size_t)image->width * sizeof *from);
        } else {
            for (int64_t i = 0; i < image->width; i++) {
                memcpy(to + i * image->stride_column, &from[i], sizeof *from);
            }
        }
    }
    return USPLIT_OK;
}
