// The noun image: views of the caller's pixels, the comparison of two planes, seams in one.
#include <string.h>

#include "base/alloc.h"
#include "base/structs.h"
#include "image/quality.h"
#include "image/seams.h"
#include "image/view.h"

enum { MAX_TILE = 1 << 24 };

usplit_status usplit_image_init(usplit_image *image, size_t struct_size, void *data, int32_t type,
                                int64_t frames, int64_t height, int64_t width, int64_t channels)
{
    int64_t bytes = type == USPLIT_TYPE_U8 ? 1 : type == USPLIT_TYPE_U16 ? 2 : 4;
    usplit_image filled = {
        .struct_size = sizeof filled,
        .data = data,
        .type = type,
        .frames = frames,
        .height = height,
        .width = width,
        .channels = channels,
    };
    filled.stride_channel = bytes;
    int overflow = __builtin_mul_overflow(filled.stride_channel, channels, &filled.stride_column) ||
                   __builtin_mul_overflow(filled.stride_column, width, &filled.stride_row) ||
                   __builtin_mul_overflow(filled.stride_row, height, &filled.stride_frame);
    if (overflow) {
        US_FAIL(USPLIT_ERR_SHAPE, "image: %lld x %lld x %lld pixels are more than memory can hold",
                (long long)height, (long long)width, (long long)channels);
    }
    US_TRY(us_view_check(&filled, "image"));
    return us_struct_init(image, struct_size, &filled, sizeof filled);
}

// Copies a caller's view and checks that it is one frame of so many channels.
static usplit_status read_planes_view(usplit_image *view, const usplit_image *theirs, const char *name, int channels)
{
    US_CHECK_ARG(theirs != NULL, "%s is NULL", name);
    US_TRY(us_struct_read(view, sizeof *view, theirs, name));
    US_TRY(us_view_check(view, name));
    if (view->frames != 1 || view->channels != channels) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s has %lld frames of %lld channels; accepted: 1 frame of %d channel%s", name,
                (long long)view->frames, (long long)view->channels, channels, channels == 1 ? "" : "s");
    }
    return USPLIT_OK;
}

static usplit_status read_plane_view(usplit_image *view, const usplit_image *theirs, const char *name)
{
    return read_planes_view(view, theirs, name, 1);
}

static usplit_status check_one_size(const usplit_image *t, const usplit_image *p)
{
    if (t->height != p->height || t->width != p->width) {
        US_FAIL(USPLIT_ERR_SHAPE, "target is %lld x %lld, prediction %lld x %lld; accepted: one size",
                (long long)t->height, (long long)t->width, (long long)p->height, (long long)p->width);
    }
    return USPLIT_OK;
}

usplit_status usplit_image_compare(const usplit_image *target, const usplit_image *prediction,
                                   usplit_image_quality *quality)
{
    usplit_image t = {.struct_size = sizeof t}, p = {.struct_size = sizeof p};
    US_CHECK_ARG(quality != NULL, "quality is NULL");
    US_TRY(read_plane_view(&t, target, "target"));
    US_TRY(read_plane_view(&p, prediction, "prediction"));
    US_TRY(check_one_size(&t, &p));
    usplit_image_quality result = {.struct_size = sizeof result};
    usplit_status status = USPLIT_OK;
    size_t n = (size_t)t.height * (size_t)t.width;
    float *pixels_t = us_alloc(NULL, n, sizeof *pixels_t);
    float *pixels_p = pixels_t ? us_alloc(NULL, n, sizeof *pixels_p) : NULL;
    if (!pixels_p) {
        status = USPLIT_ERR_MEMORY;
        goto done;
    }
    US_TRY_GOTO(us_view_read(&t, "target", 0, 0, 0, t.height, pixels_t));
    US_TRY_GOTO(us_view_read(&p, "prediction", 0, 0, 0, p.height, pixels_p));
    US_TRY_GOTO(us_image_quality(NULL, pixels_t, pixels_p, t.height, t.width, &result));
    US_TRY_GOTO(us_struct_write(quality, &result, sizeof result, "quality"));
done:
    us_free(NULL, pixels_p);
    us_free(NULL, pixels_t);
    return status;
}

// Channel i of the target is predicted by channel i, or, exchanged, by the other.
static void keep_assignment(usplit_image_quality q[2][2], usplit_image_pair_quality *result)
{
    double straight = q[0][0].ri_psnr + q[1][1].ri_psnr, swapped = q[0][1].ri_psnr + q[1][0].ri_psnr;
    result->swapped = !(straight > swapped);
    for (int c = 0; c < 2; c++) {
        const usplit_image_quality *kept = &q[c][result->swapped ? 1 - c : c];
        result->ri_psnr[c] = kept->ri_psnr;
        result->psnr[c] = kept->psnr;
        result->ssim[c] = kept->ssim;
        result->rmse[c] = kept->rmse;
    }
}

usplit_status usplit_image_compare_pair(const usplit_image *target, const usplit_image *prediction,
                                        usplit_image_pair_quality *quality)
{
    usplit_image t = {.struct_size = sizeof t}, p = {.struct_size = sizeof p};
    US_CHECK_ARG(quality != NULL, "quality is NULL");
    US_TRY(read_planes_view(&t, target, "target", 2));
    US_TRY(read_planes_view(&p, prediction, "prediction", 2));
    US_TRY(check_one_size(&t, &p));
    usplit_image_pair_quality result = {.struct_size = sizeof result};
    usplit_image_quality q[2][2];
    usplit_status status = USPLIT_OK;
    size_t n = (size_t)t.height * (size_t)t.width;
    float *pixels = us_alloc(NULL, n, 4 * sizeof *pixels);      // two of the target, two of the prediction
    if (!pixels) {
        return USPLIT_ERR_MEMORY;
    }
    for (int c = 0; c < 2; c++) {
        US_TRY_GOTO(us_view_read(&t, "target", 0, c, 0, t.height, pixels + (size_t)c * n));
        US_TRY_GOTO(us_view_read(&p, "prediction", 0, c, 0, p.height, pixels + (size_t)(2 + c) * n));
    }
    for (int c = 0; c < 2; c++) {
        for (int k = 0; k < 2; k++) {
            US_TRY_GOTO(us_image_quality(NULL, pixels + (size_t)c * n, pixels + (size_t)(2 + k) * n, t.height, t.width,
                                         &q[c][k]));
        }
    }
    keep_assignment(q, &result);
    US_TRY_GOTO(us_struct_write(quality, &result, sizeof result, "quality"));
done:
    us_free(NULL, pixels);
    return status;
}

usplit_status usplit_image_seams(const usplit_image *plane, int64_t tile, int64_t row, int64_t column,
                                 usplit_image_seam_facts *facts)
{
    usplit_image p = {.struct_size = sizeof p};
    US_CHECK_ARG(facts != NULL, "facts is NULL");
    US_TRY(read_planes_view(&p, plane, "plane", 1));
    US_CHECK_ARG(tile >= 4 && tile <= MAX_TILE, "tile is %lld; accepted: 4 to %d pixels", (long long)tile, MAX_TILE);
    usplit_image_seam_facts result = {.struct_size = sizeof result};
    usplit_status status;
    float *pixels = us_alloc(NULL, (size_t)p.height * (size_t)p.width, sizeof *pixels);
    if (!pixels) {
        return USPLIT_ERR_MEMORY;
    }
    US_TRY_GOTO(us_view_read(&p, "plane", 0, 0, 0, p.height, pixels));
    us_image_seams(pixels, p.height, p.width, tile, row, column, &result);
    US_TRY_GOTO(us_struct_write(facts, &result, sizeof result, "facts"));
done:
    us_free(NULL, pixels);
    return status;
}
