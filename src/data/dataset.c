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

int us_dataset_held(const usplit_dataset *dataset)
{
    return dataset->unpaired ? 1 : dataset->channels + (dataset->statistics.input == USPLIT_INPUT_MEASURED);
}

int us_data_channel(const int64_t *channel_frames, int64_t frame, int64_t *number)
{
    int c = 0;
    while (frame >= channel_frames[c]) {
        frame -= channel_frames[c++];
    }
    *number = frame;
    return c;
}

// Level k of n pixels has n >> k: halved k times, rounded down each time.
us_plane us_dataset_plane(const usplit_dataset *dataset, int64_t frame, int64_t channel, int level)
{
    const us_frame *f = &dataset->frames[frame];
    int64_t offset = 0;
    channel = dataset->unpaired ? 0 : channel;
    for (int k = 0; k < level; k++) {
        offset += us_dataset_held(dataset) * (f->height >> k) * (f->width >> k);
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
    US_CHECK_ARG(source->n_frames >= 1 && source->n_frames <= INT_MAX / US_PLACE_CHANNELS,
                 "n_frames is %lld; accepted: 1 to %d", (long long)source->n_frames,
                 INT_MAX / US_PLACE_CHANNELS);
    int measured = o->input == USPLIT_INPUT_MEASURED;
    US_CHECK_ARG(o->input >= USPLIT_INPUT_MEAN && o->input <= USPLIT_INPUT_MEASURED,
                 "input is %d; accepted: USPLIT_INPUT_MEAN (0), USPLIT_INPUT_SUM (1), USPLIT_INPUT_MEASURED (2)",
                 o->input);
    US_CHECK_ARG(source->n_channels >= 2 + measured && source->n_channels <= USPLIT_MAX_CHANNELS + measured,
                 "the data have %lld channels; accepted: 2 to %d%s", (long long)source->n_channels,
                 USPLIT_MAX_CHANNELS, measured ? ", and the measured image after them" : "");
    US_CHECK_ARG(o->centring == USPLIT_CENTRING_FLOORED || o->centring == USPLIT_CENTRING_EXACT,
                 "centring is %d; accepted: USPLIT_CENTRING_FLOORED (0), USPLIT_CENTRING_EXACT (1)", o->centring);
    US_CHECK_ARG(o->unpaired == 0 || o->unpaired == 1, "unpaired is %d; accepted: 0, 1", o->unpaired);
    US_CHECK_ARG(!o->unpaired || !measured, "a measured image goes with the channels it shows; accepted: unpaired 0");
    US_CHECK_ARG(!o->unpaired || source->channel_frames,
                 "these data come frame by frame with all channels; accepted: unpaired 0 (the trainer option "
                 "uncorrelated takes their channels apart)");
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
        int64_t number;
        frame->channel = d->unpaired ? us_data_channel(source->channel_frames, f, &number) : 0;
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
            pixels += us_dataset_held(d) * (h >> k) * (w >> k);
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
    for (int64_t c = 0; c < us_dataset_held(b->dataset); c++) {
        us_plane plane = us_dataset_plane(b->dataset, task, c, 0);
        int64_t bad = us_view_find_bad(plane.data, plane.height * plane.width);
        if (bad >= 0) {
            US_FAIL(
                USPLIT_ERR_NUMERIC,
                "frame %d, channel %lld: the pixel at row %lld, column %lld is %g; accepted: finite values",
                task, (long long)(c + frame->channel), (long long)(bad / plane.width), (long long)(bad % plane.width),
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
    int64_t f = task / us_dataset_held(d), c = task % us_dataset_held(d);
    us_plane plane = us_dataset_plane(d, f, c, 0);
    float *pixels = plane_data(d, f, c, 0);
    float clip = (float)(c < d->channels ? d->statistics.clip_value : d->statistics.input_clip_value);
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

// All planes of the training frames, those of structures first, and their channels.
static void list_planes(const usplit_dataset *d, us_plane *planes, int32_t *owner)
{
    int64_t n_train = d->set_count[USPLIT_SET_TRAIN], n = 0;
    int held = us_dataset_held(d), structures = held < d->channels ? held : d->channels;
    for (int64_t i = 0; i < n_train; i++) {
        int64_t frame = d->set[USPLIT_SET_TRAIN][i];
        for (int c = 0; c < structures; c++) {
            planes[n] = us_dataset_plane(d, frame, c, 0);
            owner[n++] = d->unpaired ? d->frames[frame].channel : c;
        }
    }
    for (int64_t i = 0; i < n_train && held > structures; i++) {
        planes[n] = us_dataset_plane(d, d->set[USPLIT_SET_TRAIN][i], structures, 0);
        owner[n++] = structures;
    }
}

// The structures have one clip value together, a measured image one of its own. What is mixed of clipped structures
// reaches the structures' or, of a sum, as many times it.
static usplit_status find_clip_values(usplit_dataset *d, const us_plane *planes, double quantile)
{
    const us_allocator *a = &d->context->allocator;
    us_statistics *s = &d->statistics;
    int64_t n_train = d->set_count[USPLIT_SET_TRAIN], n = d->unpaired ? n_train : n_train * d->channels;
    s->clip_value = s->input_clip_value = INFINITY;
    if (quantile == 1.0) {
        return USPLIT_OK;
    }
    US_TRY(us_data_quantile(a, d->context->pool, planes, n, quantile, &s->clip_value));
    s->input_clip_value = s->input == USPLIT_INPUT_SUM ? d->channels * s->clip_value : s->clip_value;
    if (s->input == USPLIT_INPUT_MEASURED) {
        US_TRY(us_data_quantile(a, d->context->pool, planes + n, n_train, quantile, &s->input_clip_value));
    }
    return USPLIT_OK;
}

static usplit_status finish_frames(usplit_dataset *d, double clip_quantile)
{
    const us_allocator *a = &d->context->allocator;
    int64_t n_planes = d->set_count[USPLIT_SET_TRAIN] * us_dataset_held(d);
    us_plane *planes = us_alloc(a, (size_t)n_planes, sizeof *planes);
    int32_t *owner = us_alloc(a, (size_t)n_planes, sizeof *owner);
    usplit_status status = planes && owner ? USPLIT_OK : USPLIT_ERR_MEMORY;
    build b = {d, NULL};
    US_TRY_GOTO(status);
    list_planes(d, planes, owner);
    US_TRY_GOTO(find_clip_values(d, planes, clip_quantile));
    US_TRY_GOTO(us_pool_run(d->context->pool, (int)(d->n_frames * us_dataset_held(d)), finish_plane, &b));
    US_TRY_GOTO(us_data_moments(a, d->context->pool, planes, owner, n_planes, d->channels, d->unpaired,
                                &d->statistics));
done:
    us_free(a, planes);
    us_free(a, owner);
    return status;
}

// ---- Building: the sets of unpaired channels ----------------------------------------------------

// Gives every frame its channel, and divides each channel's frames by the rule, or sorts the caller's lists by channel.
static usplit_status split_unpaired(usplit_dataset *d, const us_data_source *source,
                                    const usplit_dataset_options *options)
{
    const us_allocator *a = &d->context->allocator;
    usplit_status status = USPLIT_OK;
    int64_t *set[4] = {NULL}, count[4], first = 0, number;
    int lists = options->train_frames || options->validation_frames || options->test_frames;
    if (lists) {
        US_TRY_GOTO(us_data_split(a, d->n_frames, options, set, count));
    }
    for (int s = 0; s < 4; s++) {
        d->set[s] = us_alloc(a, (size_t)d->n_frames, sizeof *d->set[s]);
        if (!d->set[s]) {
            status = USPLIT_ERR_MEMORY;
            goto done;
        }
    }
    for (int c = 0; c < d->channels; c++) {
        int64_t n = source->channel_frames[c];
        if (!lists) {
            for (int s = 0; s < 4; s++) {
                us_free(a, set[s]);
                set[s] = NULL;
            }
            US_TRY_GOTO(us_data_split(a, n, options, set, count));
        }
        for (int s = 0; s < 4; s++) {
            d->first[s][c] = d->set_count[s];
            for (int64_t i = 0; i < count[s]; i++) {
                int64_t frame = lists ? set[s][i] : first + set[s][i];
                if (us_data_channel(source->channel_frames, frame, &number) == c) {
                    d->set[s][d->set_count[s]++] = frame;
                }
            }
            d->first[s][c + 1] = d->set_count[s];
        }
        if (d->first[USPLIT_SET_TRAIN][c + 1] == d->first[USPLIT_SET_TRAIN][c]) {
            status = us_fail(USPLIT_ERR_ARGUMENT, "channel %d has no training frame; accepted: at least 1 of its %lld",
                             c, (long long)n);
            goto done;
        }
        first += n;
    }
done:
    for (int s = 0; s < 4; s++) {
        us_free(a, set[s]);
    }
    return status;
}

static usplit_status split_frames(usplit_dataset *d, const us_data_source *source,
                                  const usplit_dataset_options *options)
{
    int64_t sum = 0;
    if (!d->unpaired) {
        return us_data_split(&d->context->allocator, d->n_frames, options, d->set, d->set_count);
    }
    for (int c = 0; c < d->channels; c++) {
        int64_t n = source->channel_frames[c];
        US_CHECK_ARG(n >= 1 && n <= d->n_frames, "channel %d has %lld frames; accepted: 1 to %lld", c, (long long)n,
                     (long long)d->n_frames);
        sum += n;
    }
    US_CHECK_ARG(sum == d->n_frames, "the channels have %lld frames together, n_frames is %lld", (long long)sum,
                 (long long)d->n_frames);
    return split_unpaired(d, source, options);
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
    d->channels = (int32_t)source->n_channels - (options->input == USPLIT_INPUT_MEASURED);
    d->unpaired = options->unpaired;
    d->statistics.input = options->input;
    d->statistics.centring = options->centring;
    d->levels = options->levels;
    d->statistics.padding = options->padding;
    d->statistics.padding_value = options->padding_value;
    US_TRY_GOTO(split_frames(d, source, options));
    US_TRY_GOTO(make_frames(d, source));
    US_TRY_GOTO(read_frames(d, source));
    US_TRY_GOTO(finish_frames(d, options->clip_quantile));
    *out = d;
    d = NULL;
done:
    us_dataset_release(d);
    return status;
}
