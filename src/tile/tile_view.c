// A run between two images in memory: the same code with callbacks that read and write strided views.
#include "image/view.h"
#include "tile/tile.h"

typedef struct views {
    const usplit_image *src, *dst;
    int64_t saturated;
} views;

static usplit_status read_view(void *user, int64_t frame, int64_t row, int64_t n, float *dst)
{
    const views *v = user;
    return us_view_read(v->src, "src", frame, 0, row, n, dst);
}

static usplit_status write_view(void *user, int64_t frame, int64_t row, int64_t n, const float *src)
{
    views *v = user;
    for (int64_t c = 0; c < v->dst->channels; c++) {
        US_TRY(us_view_write(v->dst, frame, c, row, n, src + c * n * v->dst->width, &v->saturated));
    }
    return USPLIT_OK;
}

static usplit_status check_views(const usplit_tiler *t, const usplit_image *src, const usplit_image *dst)
{
    if (src->channels != 1) {
        US_FAIL(USPLIT_ERR_SHAPE, "src has %lld channels; accepted: 1", (long long)src->channels);
    }
    if (dst->channels != t->planes) {
        US_FAIL(USPLIT_ERR_SHAPE, "dst has %lld channels; accepted: the model's %d%s", (long long)dst->channels,
                t->channels, t->options.deviations ? ", twice for the deviations" : "");
    }
    if (dst->frames != src->frames || dst->height != src->height || dst->width != src->width) {
        US_FAIL(USPLIT_ERR_SHAPE, "dst has %lld frames of %lld x %lld; accepted: as src, %lld of %lld x %lld",
                (long long)dst->frames, (long long)dst->height, (long long)dst->width, (long long)src->frames,
                (long long)src->height, (long long)src->width);
    }
    return USPLIT_OK;
}

usplit_status us_tiler_run_views(usplit_tiler *t, const usplit_image *src, const usplit_image *dst,
                                 usplit_tiler_result *result, usplit_progress_fn progress, void *user)
{
    US_TRY(us_view_check(src, "src"));
    US_TRY(us_view_check(dst, "dst"));
    US_TRY(check_views(t, src, dst));
    views v = {.src = src, .dst = dst};
    us_tile_io io = {.frames = src->frames, .height = src->height, .width = src->width, .read = read_view,
                     .write = write_view, .user = &v};
    US_TRY(us_tiler_run(t, &io, result, progress, user));
    result->saturated_pixels = v.saturated;
    return USPLIT_OK;
}
