// The noun residual: what a prediction leaves of its input, of images in memory and rows at a time.
#include <math.h>

#include "base/structs.h"
#include "image/residual.h"
#include "image/view.h"

enum { MAX_WIDTH = 1 << 24 };

struct usplit_residual {
    us_residual r;
};

static usplit_status check_numbers(const double *weights, int64_t channels, double clip_value)
{
    for (int64_t c = 0; weights && c < channels; c++) {
        US_CHECK_ARG(isfinite(weights[c]), "weights[%lld] is %g; accepted: finite", (long long)c, weights[c]);
    }
    US_CHECK_ARG(!isnan(clip_value), "clip_value is NaN; accepted: a grey level, or infinity for no clipping");
    return USPLIT_OK;
}

static usplit_status check_finite(const float *values, int64_t n, const char *name)
{
    int64_t bad = us_view_find_bad(values, n);
    if (bad >= 0) {
        US_FAIL(USPLIT_ERR_NUMERIC, "%s: value %lld is %g; accepted: finite values", name, (long long)bad,
                (double)values[bad]);
    }
    return USPLIT_OK;
}

usplit_status usplit_residual_create(usplit_residual **out, int64_t width, int32_t channels, const double *weights,
                                     double clip_value)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(width >= 1 && width <= MAX_WIDTH, "width is %lld; accepted: 1 to %d", (long long)width, MAX_WIDTH);
    US_CHECK_ARG(channels >= 1 && channels <= USPLIT_MAX_CHANNELS, "channels is %d; accepted: 1 to %d", channels,
                 USPLIT_MAX_CHANNELS);
    US_TRY(check_numbers(weights, channels, clip_value));
    usplit_residual *r = us_calloc(NULL, 1, sizeof *r);
    if (!r) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = us_residual_open(&r->r, NULL, width, channels, weights, clip_value);
    if (status != USPLIT_OK) {
        us_free(NULL, r);
        return status;
    }
    *out = r;
    return USPLIT_OK;
}

usplit_status usplit_residual_add(usplit_residual *residual, int64_t n_rows, const float *input, const float *planes,
                                  float *dst)
{
    US_CHECK_ARG(residual != NULL && input != NULL && planes != NULL, "%s is NULL",
                 !residual ? "residual" : input ? "planes" : "input");
    us_residual *r = &residual->r;
    US_CHECK_ARG(n_rows >= 1 && n_rows <= MAX_WIDTH, "n_rows is %lld; accepted: 1 to %d", (long long)n_rows,
                 MAX_WIDTH);
    US_TRY(check_finite(input, n_rows * r->width, "input"));
    US_TRY(check_finite(planes, n_rows * r->width * r->channels, "planes"));
    us_residual_add(r, n_rows, input, planes, dst);
    return USPLIT_OK;
}

usplit_status usplit_residual_info(const usplit_residual *residual, usplit_residual_facts *facts)
{
    US_CHECK_ARG(residual != NULL, "residual is NULL");
    if (residual->r.rows == 0) {
        US_FAIL(USPLIT_ERR_STATE, "no rows were added yet");
    }
    usplit_residual_facts f = {.struct_size = sizeof f};
    us_residual_get(&residual->r, &f);
    return us_struct_write(facts, &f, sizeof f, "facts");
}

void usplit_residual_free(usplit_residual *residual)
{
    if (residual) {
        us_residual_close(&residual->r, NULL);
        us_free(NULL, residual);
    }
}

static usplit_status read_view(usplit_image *view, const usplit_image *theirs, const char *name,
                               const usplit_image *like, int64_t channels)
{
    US_CHECK_ARG(theirs != NULL, "%s is NULL", name);
    *view = (usplit_image){.struct_size = sizeof *view};
    US_TRY(us_struct_read(view, sizeof *view, theirs, name));
    US_TRY(us_view_check(view, name));
    if (view->frames != 1 || (channels > 0 && view->channels != channels) || view->channels > USPLIT_MAX_CHANNELS) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s has %lld frames of %lld channels; accepted: 1 frame of %s", name,
                (long long)view->frames, (long long)view->channels, channels == 1 ? "1 channel" : "1 to 8 channels");
    }
    if (like && (view->height != like->height || view->width != like->width)) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s is %lld x %lld, input %lld x %lld; accepted: one size", name,
                (long long)view->height, (long long)view->width, (long long)like->height, (long long)like->width);
    }
    return USPLIT_OK;
}

usplit_status usplit_image_residual(const usplit_image *input, const usplit_image *prediction, const double *weights,
                                    double clip_value, const usplit_image *residual, usplit_residual_facts *facts)
{
    usplit_image x, y, rest;
    US_CHECK_ARG(facts != NULL, "facts is NULL");
    US_TRY(read_view(&x, input, "input", NULL, 1));
    US_TRY(read_view(&y, prediction, "prediction", &x, 0));
    if (residual) {
        US_TRY(read_view(&rest, residual, "residual", &x, 1));
    }
    US_TRY(check_numbers(weights, y.channels, clip_value));
    usplit_residual_facts f = {.struct_size = sizeof f};
    us_residual r = {0};
    usplit_status status;
    float *line = us_alloc(NULL, (size_t)x.width, (size_t)(1 + y.channels) * sizeof *line);
    if (!line) {
        return USPLIT_ERR_MEMORY;
    }
    US_TRY_GOTO(us_residual_open(&r, NULL, x.width, (int)y.channels, weights, clip_value));
    for (int64_t i = 0; i < x.height; i++) {
        US_TRY_GOTO(us_view_read(&x, "input", 0, 0, i, 1, line));
        for (int64_t c = 0; c < y.channels; c++) {
            US_TRY_GOTO(us_view_read(&y, "prediction", 0, c, i, 1, line + (1 + c) * x.width));
        }
        us_residual_add(&r, 1, line, line + x.width, NULL);
        if (residual) {
            US_TRY_GOTO(us_view_write(&rest, 0, 0, i, 1, r.line, NULL));
        }
    }
    us_residual_get(&r, &f);
    status = us_struct_write(facts, &f, sizeof f, "facts");
done:
    us_residual_close(&r, NULL);
    us_free(NULL, line);
    return status;
}
