// The noun dataset: options, the four ways to make one, and what it tells. Argument checks here; the work is
// in src/data.
#include <stdio.h>
#include <string.h>

#include "base/structs.h"
#include "ckpt/ckpt.h"
#include "data/critters.h"
#include "data/dataset_impl.h"
#include "image/view.h"

static const usplit_dataset_options default_options = {
    .struct_size = sizeof(usplit_dataset_options),
    .split = USPLIT_SPLIT_INTERLEAVED,
    .padding = USPLIT_PADDING_REFLECT,
    .validation_fraction = 0.1,
    .test_fraction = 0.1,
    .clip_quantile = 0.995,
    .levels = 5,
};

static const usplit_critter_options default_critters = {
    .struct_size = sizeof(usplit_critter_options),
    .n_frames = 100,
    .size = 128,
    .n_curves = 5,
    .thickness = 21,
    .amplitude = 8.0,
    .max_vertical_shift = 0.9,
    .max_horizontal_shift = 0.3,
};

usplit_status usplit_dataset_options_init(usplit_dataset_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &default_options, sizeof default_options);
}

usplit_status usplit_critter_options_init(usplit_critter_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &default_critters, sizeof default_critters);
}

// What all the ways begin with: out and context there, options complete.
static usplit_status begin(usplit_dataset **out, const usplit_context *context,
                           const usplit_dataset_options *theirs, usplit_dataset_options *options)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(context != NULL, "context is NULL");
    *options = default_options;
    return us_struct_read(options, sizeof *options, theirs, "options");
}

// ---- From memory --------------------------------------------------------------------------------

typedef struct view_source {
    usplit_image view[US_PLACE_CHANNELS]; // one of many channels, or one per channel
    int64_t n_channels;
    int one_view, unpaired;
    int64_t channel_frames[US_PLACE_CHANNELS];
} view_source;

static usplit_status view_size(void *user, int64_t frame, int64_t *height, int64_t *width)
{
    const view_source *s = user;
    int c = s->unpaired ? us_data_channel(s->channel_frames, frame, &frame) : 0;
    const usplit_image *view = &s->view[s->one_view ? 0 : c];
    *height = view->height;
    *width = view->width;
    return USPLIT_OK;
}

static usplit_status view_read(void *user, int64_t frame, int64_t height, int64_t width, float *dst)
{
    const view_source *s = user;
    int only = s->unpaired ? us_data_channel(s->channel_frames, frame, &frame) : -1;
    for (int64_t c = 0; c < s->n_channels; c++) {
        if (only >= 0 && c != only) {
            continue;
        }
        const usplit_image *view = &s->view[s->one_view ? 0 : c];
        char name[32];
        snprintf(name, sizeof name, "images[%lld]", s->one_view ? 0ll : (long long)c);
        US_TRY(us_view_read(view, name, frame, s->one_view ? c : 0, 0, height,
                            dst + (only < 0 ? c : 0) * height * width));
    }
    return USPLIT_OK;
}

static usplit_status read_views(view_source *s, const usplit_image *images, size_t n_images, int most)
{
    US_CHECK_ARG(images != NULL, "images is NULL");
    US_CHECK_ARG(n_images >= 1 && n_images <= (size_t)most, "n_images is %zu; accepted: 1 to %d", n_images, most);
    for (size_t i = 0; i < n_images; i++) {
        // the caller's array has the caller's element size
        const void *theirs = (const char *)images + i * images->struct_size;
        char name[32] = "images[0]";
        name[7] = (char)('0' + i);
        s->view[i] = (usplit_image){.struct_size = sizeof s->view[i]};
        US_TRY(us_struct_read(&s->view[i], sizeof s->view[i], theirs, name));
        US_TRY(us_view_check(&s->view[i], name));
        const usplit_image *v = &s->view[i], *first = &s->view[0];
        if (!s->unpaired && (v->frames != first->frames || v->height != first->height || v->width != first->width)) {
            US_FAIL(USPLIT_ERR_SHAPE,
                    "%s has %lld frames of %lld x %lld, images[0] %lld of %lld x %lld; accepted: one size",
                    name, (long long)v->frames, (long long)v->height, (long long)v->width,
                    (long long)first->frames, (long long)first->height, (long long)first->width);
        }
        if (n_images > 1 && v->channels != 1) {
            US_FAIL(USPLIT_ERR_SHAPE, "%s has %lld channels; accepted: 1 each when there are several images",
                    name, (long long)v->channels);
        }
    }
    s->one_view = n_images == 1;
    s->n_channels = s->one_view ? s->view[0].channels : (int64_t)n_images;
    for (int64_t c = 0; c < s->n_channels && c < US_PLACE_CHANNELS; c++) {
        s->channel_frames[c] = s->view[s->one_view ? 0 : c].frames;
    }
    return USPLIT_OK;
}

// A sum, or INT64_MAX, which is too many frames.
static int64_t add_frames(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

usplit_status usplit_dataset_create(usplit_dataset **out, usplit_context *context, const usplit_image *images,
                                    size_t n_images, const usplit_dataset_options *options)
{
    usplit_dataset_options o;
    US_TRY(begin(out, context, options, &o));
    view_source views = {.unpaired = o.unpaired == 1};
    US_TRY(read_views(&views, images, n_images, USPLIT_MAX_CHANNELS + (o.input == USPLIT_INPUT_MEASURED)));
    us_data_source source = {views.view[0].frames, views.n_channels, 0, view_size, view_read, &views,
                             views.channel_frames};
    for (int64_t c = 1; views.unpaired && c < views.n_channels && c < US_PLACE_CHANNELS; c++) {
        source.n_frames = add_frames(source.n_frames, views.channel_frames[c]);
    }
    return us_data_build(out, context, &source, &o);
}

// ---- From callbacks -----------------------------------------------------------------------------

static usplit_status reader_size(void *user, int64_t frame, int64_t *height, int64_t *width)
{
    const usplit_dataset_reader *r = user;
    int32_t code = r->frame_size(frame, height, width, r->user);
    if (code != 0) {
        US_FAIL(USPLIT_ERR_CALLBACK, "frame_size returned %d for frame %lld", code, (long long)frame);
    }
    return USPLIT_OK;
}

static usplit_status reader_read(void *user, int64_t frame, int64_t height, int64_t width, float *dst)
{
    const usplit_dataset_reader *r = user;
    int64_t number;
    int only = r->channel_frames ? us_data_channel(r->channel_frames, frame, &number) : -1;
    for (int64_t c = only < 0 ? 0 : only; c < (only < 0 ? r->n_channels : only + 1); c++) {
        int32_t code = r->read(frame, c, dst + (only < 0 ? c : 0) * height * width, r->user);
        if (code != 0) {
            US_FAIL(USPLIT_ERR_CALLBACK, "read returned %d for frame %lld, channel %lld", code,
                    (long long)frame, (long long)c);
        }
    }
    return USPLIT_OK;
}

usplit_status usplit_dataset_create_reader(usplit_dataset **out, usplit_context *context,
                                           const usplit_dataset_reader *reader,
                                           const usplit_dataset_options *options)
{
    usplit_dataset_options o;
    US_TRY(begin(out, context, options, &o));
    usplit_dataset_reader r = {.struct_size = sizeof r};
    US_CHECK_ARG(reader != NULL, "reader is NULL");
    US_TRY(us_struct_read(&r, sizeof r, reader, "reader"));
    US_CHECK_ARG(r.frame_size != NULL, "reader: frame_size is NULL");
    US_CHECK_ARG(r.read != NULL, "reader: read is NULL");
    US_CHECK_ARG(o.unpaired == 1 || r.channel_frames == NULL,
                 "reader: channel_frames is set without the option unpaired; accepted: NULL");
    US_CHECK_ARG(o.unpaired != 1 || r.channel_frames != NULL,
                 "reader: channel_frames is NULL; accepted with the option unpaired: the frames of each channel");
    us_data_source source = {r.n_frames, r.n_channels, 0, reader_size, reader_read, &r, r.channel_frames};
    return us_data_build(out, context, &source, &o);
}

// ---- Critters -----------------------------------------------------------------------------------

typedef struct critter_source {
    us_critter_setup setup;
    const us_allocator *allocator;
    uint64_t seed;
} critter_source;

static usplit_status critter_size(void *user, int64_t frame, int64_t *height, int64_t *width)
{
    (void)frame;
    *height = *width = ((const critter_source *)user)->setup.size;
    return USPLIT_OK;
}

static usplit_status critter_read(void *user, int64_t frame, int64_t height, int64_t width, float *dst)
{
    (void)height;
    (void)width;
    const critter_source *s = user;
    us_critter_stream stream = {s->seed, frame, 0};
    return us_critters_frame(s->allocator, &s->setup, us_critters_next, &stream, dst);
}

usplit_status usplit_dataset_create_critters(usplit_dataset **out, usplit_context *context,
                                             const usplit_critter_options *critters,
                                             const usplit_dataset_options *options)
{
    usplit_dataset_options o;
    US_TRY(begin(out, context, options, &o));
    usplit_critter_options c = default_critters;
    US_TRY(us_struct_read(&c, sizeof c, critters, "critters"));
    US_CHECK_ARG(c.joiner == 0 || c.joiner == 1, "joiner is %d; accepted: 0, 1", c.joiner);
    US_CHECK_ARG(c.kinds >= 0 && c.kinds <= 2, "kinds is %d; accepted: 0 (as published), 1, 2", c.kinds);
    US_CHECK_ARG(c.joiner_fraction == 0.0 || c.joiner == 1,
                 "joiner_fraction is %g without a joiner; accepted: 0", c.joiner_fraction);
    critter_source s = {.allocator = &context->allocator, .seed = c.seed};
    us_critters_default(&s.setup);
    s.setup.size = c.size;
    s.setup.n_curves = c.n_curves;
    s.setup.thickness = c.thickness;
    s.setup.three_waves = c.joiner;
    s.setup.one_kind = c.kinds == 1;
    s.setup.joiner_fraction =
        c.joiner_fraction != 0.0 ? c.joiner_fraction : us_critters_joiner_fraction(c.size);
    s.setup.amplitude = c.amplitude;
    s.setup.min_spacing = 2.0 * c.amplitude;
    s.setup.max_vertical_shift = c.max_vertical_shift;
    s.setup.max_horizontal_shift = c.max_horizontal_shift;
    US_TRY(us_critters_check(&s.setup));
    o.padding = USPLIT_PADDING_CONSTANT;
    o.padding_value = 0.0;
    us_data_source source = {c.n_frames, US_CRITTER_CHANNELS, 1, critter_size, critter_read, &s, NULL};
    return us_data_build(out, context, &source, &o);
}

// ---- From HDF5 ----------------------------------------------------------------------------------

typedef struct file_source {
    us_h5_frames *frames;
    int64_t dims[4]; // frames, channels, height, width
    int unpaired;
    int64_t channel_frames[US_PLACE_CHANNELS];
} file_source;

static usplit_status file_size(void *user, int64_t frame, int64_t *height, int64_t *width)
{
    (void)frame;
    const file_source *s = user;
    *height = s->dims[2];
    *width = s->dims[3];
    return USPLIT_OK;
}

static usplit_status file_read(void *user, int64_t frame, int64_t height, int64_t width, float *dst)
{
    const file_source *s = user;
    if (s->unpaired) {
        int64_t number, channel = us_data_channel(s->channel_frames, frame, &number);
        return us_h5_frames_read(s->frames, number, channel, dst);
    }
    for (int64_t c = 0; c < s->dims[1]; c++) {
        US_TRY(us_h5_frames_read(s->frames, frame, c, dst + c * height * width));
    }
    return USPLIT_OK;
}

usplit_status usplit_dataset_open(usplit_dataset **out, usplit_context *context, const char *file,
                                  const char *path_in_file, const usplit_dataset_options *options)
{
    usplit_dataset_options o;
    US_TRY(begin(out, context, options, &o));
    US_CHECK_ARG(file != NULL, "file is NULL");
    file_source s = {.unpaired = o.unpaired == 1};
    const char *path = path_in_file ? path_in_file : "/frames";
    US_TRY(us_h5_frames_open(&s.frames, &context->allocator, file, path, s.dims));
    us_data_source source = {s.dims[0], s.dims[1], 0, file_size, file_read, &s, s.channel_frames};
    for (int64_t c = 0; c < s.dims[1] && c < US_PLACE_CHANNELS; c++) {
        s.channel_frames[c] = s.dims[0];
        source.n_frames = s.unpaired && c > 0 ? add_frames(source.n_frames, s.dims[0]) : source.n_frames;
    }
    usplit_status status = us_data_build(out, context, &source, &o);
    us_h5_frames_close(s.frames);
    return status;
}

// ---- What it tells ------------------------------------------------------------------------------

void usplit_dataset_free(usplit_dataset *dataset)
{
    us_dataset_release(dataset);
}

usplit_status usplit_dataset_info(const usplit_dataset *dataset, usplit_dataset_facts *facts)
{
    US_CHECK_ARG(dataset != NULL, "dataset is NULL");
    const us_statistics *s = &dataset->statistics;
    usplit_dataset_facts f = {
        .struct_size = sizeof f,
        .n_frames = dataset->n_frames,
        .n_train = dataset->set_count[USPLIT_SET_TRAIN],
        .n_validation = dataset->set_count[USPLIT_SET_VALIDATION],
        .n_test = dataset->set_count[USPLIT_SET_TEST],
        .n_channels = dataset->channels,
        .bytes = dataset->bytes,
        .clip_value = s->clip_value,
        .input_mean = s->input_mean,
        .input_deviation = s->input_deviation,
        .padding = s->padding,
        .levels = dataset->levels,
        .padding_value = s->padding_value,
        .input = s->input,
        .unpaired = dataset->unpaired,
        .centring = s->centring,
        .input_clip_value = s->input_clip_value,
    };
    for (int64_t i = 0; i < dataset->n_frames; i++) {
        const us_frame *frame = &dataset->frames[i];
        if (frame->height * frame->width > f.height * f.width) {
            f.height = frame->height;
            f.width = frame->width;
        }
    }
    for (int c = 0; c < dataset->channels; c++) {
        f.target_mean[c] = s->target_mean[c];
        f.target_deviation[c] = s->target_deviation[c];
    }
    return us_struct_write(facts, &f, sizeof f, "facts");
}

usplit_status usplit_dataset_get_set(const usplit_dataset *dataset, int32_t set, int64_t *frames, int64_t *n)
{
    US_CHECK_ARG(dataset != NULL, "dataset is NULL");
    US_CHECK_ARG(n != NULL, "n is NULL");
    US_CHECK_ARG(set >= USPLIT_SET_ALL && set <= USPLIT_SET_TEST,
                 "set is %d; accepted: USPLIT_SET_ALL (0), _TRAIN (1), _VALIDATION (2), _TEST (3)", set);
    int64_t room = *n;
    *n = dataset->set_count[set];
    if (!frames) {
        return USPLIT_OK;
    }
    US_CHECK_ARG(room >= *n, "there is room for %lld frame numbers; the set has %lld", (long long)room,
                 (long long)*n);
    memcpy(frames, dataset->set[set], (size_t)*n * sizeof *frames);
    return USPLIT_OK;
}

usplit_status usplit_dataset_get_frame(const usplit_dataset *dataset, int64_t frame, int64_t channel,
                                       int32_t level, float *dst, int64_t *height, int64_t *width)
{
    US_CHECK_ARG(dataset != NULL, "dataset is NULL");
    US_CHECK_ARG(frame >= 0 && frame < dataset->n_frames, "frame is %lld; accepted: 0 to %lld",
                 (long long)frame, (long long)dataset->n_frames - 1);
    int own = dataset->frames[frame].channel, last = us_dataset_held(dataset) - 1;
    US_CHECK_ARG(!dataset->unpaired || channel == own, "channel is %lld; accepted for frame %lld: %d",
                 (long long)channel, (long long)frame, own);
    US_CHECK_ARG(dataset->unpaired || (channel >= 0 && channel <= last), "channel is %lld; accepted: 0 to %d",
                 (long long)channel, last);
    US_CHECK_ARG(level >= 0 && level < dataset->levels, "level is %d; accepted: 0 to %d", level,
                 dataset->levels - 1);
    us_plane plane = us_dataset_plane(dataset, frame, channel, level);
    if (height) {
        *height = plane.height;
    }
    if (width) {
        *width = plane.width;
    }
    if (dst) {
        memcpy(dst, plane.data, (size_t)(plane.height * plane.width) * sizeof *dst);
    }
    return USPLIT_OK;
}
