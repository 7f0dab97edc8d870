// The noun dip: argument checks, the mixing of known pairs; the run is in src/dip.
#include <math.h>

#include "backend/backend.h"
#include "base/structs.h"
#include "dip/dip.h"
#include "image/view.h"

static const usplit_dip_options defaults = {.struct_size = sizeof(usplit_dip_options), .mix = {0.5, 0.3}};

usplit_status usplit_dip_options_init(usplit_dip_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static usplit_status read_view(usplit_image *view, const usplit_image *theirs, const char *name)
{
    *view = (usplit_image){.struct_size = sizeof *view};
    US_CHECK_ARG(theirs != NULL, "%s is NULL", name);
    US_TRY(us_struct_read(view, sizeof *view, theirs, name));
    US_TRY(us_view_check(view, name));
    if (view->frames != 1) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s has %lld frames; accepted: 1", name, (long long)view->frames);
    }
    return USPLIT_OK;
}

static usplit_status check_same_size(const usplit_image *a, const char *a_name, const usplit_image *b,
                                     const char *b_name)
{
    if (a->height != b->height || a->width != b->width) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s is %lld x %lld, %s %lld x %lld; accepted: one size", a_name,
                (long long)a->height, (long long)a->width, b_name, (long long)b->height, (long long)b->width);
    }
    return USPLIT_OK;
}

static usplit_status check_channels(const usplit_image *view, const char *name, int least)
{
    if (view->channels < least || view->channels > 2) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s has %lld channels; accepted: %s", name, (long long)view->channels,
                least == 2 ? "2" : "1 or 2");
    }
    return USPLIT_OK;
}

static usplit_status check_options(const usplit_dip_options *o)
{
    US_CHECK_ARG(o->mode >= 0 && o->mode <= USPLIT_DIP_TWO,
                 "mode is %d; accepted: 0 (by the number of mixtures), 1 (single), 2 (two)", o->mode);
    US_CHECK_ARG(o->iterations >= 0 && o->iterations <= 1000000000,
                 "iterations is %lld; accepted: 0 (as proposed) to 1000000000", (long long)o->iterations);
    US_CHECK_ARG(o->learning_rate >= 0 && o->learning_rate < 1,
                 "learning_rate is %g; accepted: 0 (as proposed) or more, below 1", o->learning_rate);
    US_CHECK_ARG(isfinite(o->exclusion_weight), "exclusion_weight is %g; accepted: finite", o->exclusion_weight);
    US_CHECK_ARG(o->max_seconds >= 0, "max_seconds is %g; accepted: 0 (no limit) or more", o->max_seconds);
    for (int i = 0; i < 2; i++) {
        US_CHECK_ARG(o->mix[i] >= 0 && o->mix[i] <= 1, "mix[%d] is %g; accepted: 0 to 1", i, o->mix[i]);
    }
    return USPLIT_OK;
}

usplit_status usplit_dip_mix(const usplit_image *pair, const usplit_image *mixtures, const usplit_dip_options *options)
{
    usplit_dip_options o = defaults;
    usplit_image from, to;
    US_TRY(us_struct_read(&o, sizeof o, options, "dip options"));
    US_TRY(check_options(&o));
    US_TRY(read_view(&from, pair, "pair"));
    US_TRY(read_view(&to, mixtures, "mixtures"));
    US_TRY(check_channels(&from, "pair", 2));
    US_TRY(check_channels(&to, "mixtures", 1));
    US_TRY(check_same_size(&from, "pair", &to, "mixtures"));
    US_CHECK_ARG(to.channels == 1 || o.mix[0] < o.mix[1] || o.mix[0] > o.mix[1],
                 "mix is %g for both mixtures; accepted: two different shares", o.mix[0]);
    usplit_status status = USPLIT_OK;
    float *rows = us_alloc(NULL, (size_t)from.width, 3 * sizeof *rows);
    if (!rows) {
        return USPLIT_ERR_MEMORY;
    }
    float *first = rows, *second = rows + from.width, *mixed = second + from.width;
    for (int64_t y = 0; y < from.height; y++) {
        US_TRY_GOTO(us_view_read(&from, "pair", 0, 0, y, 1, first));
        US_TRY_GOTO(us_view_read(&from, "pair", 0, 1, y, 1, second));
        for (int c = 0; c < (int)to.channels; c++) {
            for (int64_t x = 0; x < from.width; x++) {
                mixed[x] = (float)(o.mix[c] * (double)first[x] + (1 - o.mix[c]) * (double)second[x]);
            }
            US_TRY_GOTO(us_view_write(&to, 0, c, y, 1, mixed, NULL));
        }
    }
done:
    us_free(NULL, rows);
    return status;
}

// What is left at zero, as proposed for the number of mixtures (networks 9.2, 9.3).
static usplit_status complete(usplit_dip_options *o, const usplit_image *mixtures)
{
    int given = (int)mixtures->channels;
    US_CHECK_ARG(o->mode == 0 || o->mode == given, "mode %d takes %d mixtures; the image has %d channels", o->mode,
                 o->mode, given);
    o->mode = given;
    int two = given == USPLIT_DIP_TWO;
    o->iterations = o->iterations > 0 ? o->iterations : two ? 4000 : 8000;
    o->learning_rate = o->learning_rate > 0 ? o->learning_rate : two ? 1e-3 : 5e-4;
    if (o->exclusion_weight < 0) {
        o->exclusion_weight = 0;
    } else if (!(o->exclusion_weight > 0)) {
        o->exclusion_weight = two ? 0.1 : 0.01;
    }
    return USPLIT_OK;
}

static usplit_status check_image(const usplit_context *context, const usplit_image *from, const usplit_image *to)
{
    US_TRY(check_channels(from, "mixtures", 1));
    US_TRY(check_channels(to, "dst", 2));
    US_TRY(check_same_size(from, "mixtures", to, "dst"));
    int64_t least = from->height < from->width ? from->height : from->width;
    int64_t most = from->height > from->width ? from->height : from->width;
    if (least < US_DIP_SMALLEST || most > US_DIP_LARGEST) {
        US_FAIL(USPLIT_ERR_SHAPE, "mixtures: %lld x %lld pixels; accepted: sides of %d to %d", (long long)from->height,
                (long long)from->width, US_DIP_SMALLEST, US_DIP_LARGEST);
    }
    if (context->backend != &us_backend_cpu) {
        US_FAIL(USPLIT_ERR_UNSUPPORTED, "Double-DIP runs on the CPU, the context on %s; one with device \"cpu\" helps",
                context->facts.device);
    }
    return USPLIT_OK;
}

usplit_status usplit_dip_run(usplit_context *context, const usplit_image *mixtures, const usplit_image *dst,
                             const usplit_dip_options *options, usplit_dip_result *result, usplit_progress_fn progress,
                             void *user)
{
    usplit_dip_options o = defaults;
    usplit_dip_result r = {.struct_size = sizeof r};
    usplit_image from, to;
    US_CHECK_ARG(context != NULL, "context is NULL");
    US_TRY(us_struct_read(&o, sizeof o, options, "dip options"));
    US_TRY(check_options(&o));
    US_TRY(read_view(&from, mixtures, "mixtures"));
    US_TRY(read_view(&to, dst, "dst"));
    US_TRY(check_image(context, &from, &to));
    US_TRY(complete(&o, &from));
    if (result) {                       // a caller that forgot struct_size hears of it now
        US_TRY(us_struct_write(result, &r, sizeof r, "result"));
    }
    int64_t n = from.height * from.width;
    const us_allocator *a = &context->allocator;
    float *image = us_alloc(a, (size_t)(from.channels * n), sizeof *image);
    float *estimates = us_alloc(a, (size_t)(2 * n), sizeof *estimates);
    usplit_status status = image && estimates ? USPLIT_OK : USPLIT_ERR_MEMORY, ran;
    for (int c = 0; c < (int)from.channels && status == USPLIT_OK; c++) {
        status = us_view_read(&from, "mixtures", 0, c, 0, from.height, image + c * n);
    }
    if (status != USPLIT_OK) {
        goto done;
    }
    ran = us_dip_run(context, image, (int)from.height, (int)from.width, &o, estimates, &r, progress, user);
    if (ran != USPLIT_OK && ran != USPLIT_ERR_CANCELLED) {
        status = ran;
        goto done;
    }
    for (int c = 0; c < 2; c++) {
        US_TRY_GOTO(us_view_write(&to, 0, c, 0, to.height, estimates + c * n, NULL));
    }
    if (result) {
        US_TRY_GOTO(us_struct_write(result, &r, sizeof r, "result"));
    }
    status = ran;
done:
    us_free(a, image);
    us_free(a, estimates);
    return status;
}
