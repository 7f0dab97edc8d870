// The dataset: frames in memory, clipped, with their pyramids, and their statistics. This file builds
// it from any source of frames and hands out planes; split.c divides the frames, statistics.c counts
// pixels, sampler.c cuts patches.
#include "data/dataset_impl.h"

#include <limits.h>
#include <math.h>

#include "image/view.h"

// ---- Reference counts and access ----------------------------------------------------------------

usplit_dataset *us_dataset_retain(usplit_dataset *dataset)
{
    atomic_fetch_add(&dataset->refs, 1);
    return dataset;
}

void us_dataset_release(usplit_dataset *dataset)
{
    if (!dataset || atomic_fetch_sub(&dataset->refs, 1) != 1) {
        return;
    }
    usplit_context *context = dataset->context;
    const us_allocator *a = &context->allocator;
    for (int64_t f = 0; dataset->frames && f < dataset->n_frames; f++) {
        us_free(a, dataset->frames[f].data);
    }
    us_free(a, dataset->frames);
    for (int s = 0; s < 4; s++) {
        us_free(a, dataset->set[s]);
    }
    us_free(a, dataset);
    us_context_release(context);
}

const us_statistics *us_dataset_statistics(const usplit_dataset *dataset)
{
    return &dataset->statistics;
}

// Level k of n pixels has n >> k: halved k times, rounded down each time.
us_plane us_dataset_plane(const usplit_dataset *dataset, int64_t frame, int64_t channel, int level)
{
    const us_frame *f = &dataset->frames[frame];
    int64_t offset = 0;
    for (int k = 0; k < level; k++) {
        offset += dataset->channels * (f->height >> k) * (f->width >> k);
    }
    us_plane plane = {NULL, f->height >> level, f->width >> level};
    plane.data = f->data + offset + channel * plane.height * plane.width;
    return plane;
}

// The same plane, to be written while the dataset is being made.
static float *plane_data(const usplit_dataset *d, int64_t frame, int64_t channel, int level)
{
    return d->frames[frame].data + (us_dataset_plane(d, frame, channel, level).data - d->frames[frame].data);
}

// ---- Building: sizes and pixels -----------------------------------------------------------------

static usplit_status check_options(const us_data_source *source, const usplit_dataset_options *o)
{
    US_CHECK_ARG(source->n_frames >= 1 && source->n_frames <= INT_MAX / USPLIT_MAX_CHANNELS,
                 "n_frames is %lld; accepted: 1 to %d", (long long)source->n_frames,
                 INT_MAX / USPLIT_MAX_CHANNELS);
    US_CHECK_ARG(source->n_channels >= 2 && source->n_channels <= USPLIT_MAX_CHANNELS,
                 "the data have %lld channels; accepted: 2 to %d", (long long)source->n_channels,
                 USPLIT_MAX_CHANNELS);
    US_CHECK_ARG(o->padding == USPLIT_PADDING_REFLECT || o->padding == USPLIT_PADDING_CONSTANT,
                 "padding is %d; accepted: USPLIT_PADDING_REFLECT (0), USPLIT_PADDING_CONSTANT (1)",
                 o->padding);
    US_CHECK_ARG(isfinite((float)o->padding_value), "padding_value is %g; accepted: a finite grey level",
                 o->padding_value);
    US_CHECK_ARG(o->clip_quantile > 0.0 && o->clip_quantile <= 1.0,
                 "clip_quantile is %g; accepted: over 0, up to 1", o->clip_quantile);
    US_CHECK_ARG(o->levels >= 1 && o->levels <= US_DATA_MAX_LEVELS, "levels is %d; accepted: 1 to %d",
                 o->levels, US_DATA_MAX_LEVELS);
    return USPLIT_OK;
}

// Asks for the size of every frame and makes room for it and its pyramid.
static usplit_status make_frames(usplit_dataset *d, const us_data_source *source)
{
    const us_allocator *a = &d->context->allocator;
    d->frames = us_calloc(a, (size_t)d->n_frames, sizeof *d->frames);
    if (!d->frames) {
        return USPLIT_ERR_MEMORY;
    }
    for (int32_t set = USPLIT_SET_TRAIN; set <= USPLIT_SET_TEST; set++) { // no frame is in two
        for (int64_t i = 0; i < d->set_count[set]; i++) {
            d->frames[d->set[set][i]].set = set;
        }
    }
    d->same_size = 1;
    int64_t smallest = (int64_t)1 << (d->levels - 1);
    for (int64_t f = 0; f < d->n_frames; f++) {
        us_frame *frame = &d->frames[f];
        US_TRY(source->size(source->user, f, &frame->height, &frame->width));
        int64_t h = frame->height, w = frame->width;
        if (h < 1 || w < 1 || h > US_DATA_MAX_SIDE || w > US_DATA_MAX_SIDE) {
            US_FAIL(USPLIT_ERR_SHAPE, "frame %lld is %lld x %lld; accepted: sides of 1 to %d", (long long)f,
                    (long long)h, (long long)w, US_DATA_MAX_SIDE);
        }
        if (h < smallest || w < smallest) {
            US_FAIL(
                USPLIT_ERR_SHAPE,
                "frame %lld is %lld x %lld, too small for %d pyramid levels; accepted: sides of %lld or more",
                (long long)f, (long long)h, (long long)w, d->levels, (long long)smallest);
        }
        d->same_size &= h == d->frames[0].height && w == d->frames[0].width;
        int64_t pixels = 0;
        for (int k = 0; k < d->levels; k++) {
            pixels += d->channels * (h >> k) * (w >> k);
        }
        frame->data = us_alloc(a, (size_t)pixels, sizeof *frame->data);
        if (!frame->data) {
            return USPLIT_ERR_MEMORY;
        }
        d->bytes += pixels * (int64_t)sizeof *frame->data;
    }
    return USPLIT_OK;
}

typedef struct build {
    usplit_dataset *dataset;
    const us_data_source *source;
} build;

static usplit_status read_frame(void *user, int task, int worker)
{
    (void)worker;
    const build *b = user;
    const us_frame *frame = &b->dataset->frames[task];
    US_TRY(b->source->read(b->source->user, task, frame->height, frame->width, frame->data));
    for (int64_t c = 0; c < b->dataset->channels; c++) {
        us_plane plane = us_dataset_plane(b->dataset, task, c, 0);
        int64_t bad = us_view_find_bad(plane.data, plane.height * plane.width);
        if (bad >= 0) {
            US_FAIL(
                USPLIT_ERR_NUMERIC,
                "frame %d, channel %lld: the pixel at row %lld, column %lld is %g; accepted: finite values",
                task, (long long)c, (long long)(bad / plane.width), (long long)(bad % plane.width),
                (double)plane.data[bad]);
        }
    }
    return USPLIT_OK;
}

static usplit_status read_frames(usplit_dataset *d, const us_data_source *source)
{
    build b = {d, source};
    if (source->parallel) {
        return us_pool_run(d->context->pool, (int)d->n_frames, read_frame, &b);
    }
    for (int64_t f = 0; f < d->n_frames; f++) {
        US_TRY(read_frame(&b, (int)f, 0));
    }
    return USPLIT_OK;
}

// ---- Building: clipping, pyramid, statistics ----------------------------------------------------

// One channel of one frame: cut off above the clip value, halve again and again (data sections 2.3, 3.1).
static usplit_status finish_plane(void *user, int task, int worker)
{
    (void)worker;
    const usplit_dataset *d = ((const build *)user)->dataset;
    int64_t f = task / d->channels, c = task % d->channels;
    us_plane plane = us_dataset_plane(d, f, c, 0);
    float *pixels = plane_data(d, f, c, 0);
    float clip = (float)d->statistics.clip_value;
    int64_t n = plane.height * plane.width;
    for (int64_t i = 0; i < n; i++) {
        pixels[i] = pixels[i] > clip ? clip : pixels[i];
    }
    for (int k = 1; k < d->levels; k++) {
        US_TRY(
            us_patch_halve(&d->context->allocator, us_dataset_plane(d, f, c, k - 1), plane_data(d, f, c, k)));
    }
    return USPLIT_OK;
}

static usplit_status finish_frames(usplit_dataset *d, double clip_quantile)
{
    const us_allocator *a = &d->context->allocator;
    us_pool *pool = d->context->pool;
    int64_t n_train = d->set_count[USPLIT_SET_TRAIN];
    int64_t n_planes = n_train * d->channels;
    us_plane *planes = us_alloc(a, (size_t)n_planes, sizeof *planes);
    if (!planes) {
        return USPLIT_ERR_MEMORY;
    }
    for (int64_t i = 0; i < n_planes; i++) {
        int64_t frame = d->set[USPLIT_SET_TRAIN][i / d->channels];
        planes[i] = us_dataset_plane(d, frame, i % d->channels, 0);
    }
    usplit_status status = USPLIT_OK;
    d->statistics.clip_value = INFINITY;
    if (clip_quantile < 1.0) {
        US_TRY_GOTO(us_data_quantile(a, pool, planes, n_planes, clip_quantile, &d->statistics.clip_value));
    }
    build b = {d, NULL};
    US_TRY_GOTO(us_pool_run(pool, (int)(d->n_frames * d->channels), finish_plane, &b));
    US_TRY_GOTO(us_data_moments(a, pool, planes, n_train, d->channels, &d->statistics));
done:
    us_free(a, planes);
    return status;
}

usplit_status us_data_build(usplit_dataset **out, usplit_context *context, const us_data_source *source,
                            const usplit_dataset_options *options)
{
    *out = NULL;
    US_TRY(check_options(source, options));
    usplit_dataset *d = us_calloc(&context->allocator, 1, sizeof *d);
    if (!d) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = USPLIT_OK;
    atomic_init(&d->refs, 1);
    d->context = us_context_retain(context);
    d->n_frames = source->n_frames;
    d->channels = (int32_t)source->n_channels;
    d->levels = options->levels;
    d->statistics.padding = options->padding;
    d->statistics.padding_value = options->padding_value;
    US_TRY_GOTO(us_data_split(&context->allocator, d->n_frames, options, d->set, d->set_count));
    US_TRY_GOTO(make_frames(d, source));
    US_TRY_GOTO(read_frames(d, source));
    US_TRY_GOTO(finish_frames(d, options->clip_quantile));
    *out = d;
    d = NULL;
done:
    us_dataset_release(d);
    return status;
}
