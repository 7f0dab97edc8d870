// The calibration of a model's deviations: frames of a dataset predicted one by one, their errors held against the
// deviations (image/calibrate.h); the result set in a model, and read back.
#include <math.h>
#include <string.h>

#include "base/structs.h"
#include "data/dataset.h"
#include "image/calibrate.h"
#include "image/residual.h"
#include "tile/tile.h"

typedef struct calibrating {
    const usplit_model *model;
    const usplit_dataset *dataset;
    const us_allocator *a;
    int channels;
    usplit_tiler *tiler;
    us_calibrate sums[USPLIT_MAX_CHANNELS];
    int64_t pixels, frames;     // so far; frames: with a range, so that there is a score
    double score, tail, structure;      // sums over them
    // progress over all frames
    usplit_progress_fn progress;
    void *user;
    int64_t done, total;        // passes of the frames before; of all
    double seconds;             // of the frames before
} calibrating;

static int32_t report(const usplit_progress *p, void *user)
{
    const calibrating *c = user;
    usplit_progress all = *p;
    all.done += c->done;
    all.total = c->total;
    all.seconds_elapsed += c->seconds;
    all.seconds_left = all.done > 0 ? all.seconds_elapsed / (double)all.done * (double)(all.total - all.done) : -1;
    all.patches_per_second = all.seconds_elapsed > 0 ? (double)all.done / all.seconds_elapsed : 0;
    return c->progress(&all, c->user);
}

static usplit_status view_of(usplit_image *view, float *planes, us_plane size, int64_t channels)
{
    US_TRY(usplit_image_init(view, sizeof *view, planes, USPLIT_TYPE_F32, 1, size.height, size.width, channels));
    view->stride_column = sizeof *planes;
    view->stride_row = size.width * view->stride_column;
    view->stride_channel = size.height * view->stride_row;
    return USPLIT_OK;
}

static float clipped(float v, float clip)
{
    return v > clip ? clip : v;
}

static float truth_clip(const calibrating *c)
{
    const usplit_model_normalisation *n = &c->model->normalisation;
    return (float)(n->target_clip_value != 0 ? n->target_clip_value : n->clip_value);
}

// The input from the frame's channels, as in training; or the measured one.
static void mix(const calibrating *c, int64_t frame, int64_t n, float *input)
{
    float clip = truth_clip(c);
    int32_t kind = c->model->normalisation.input;
    if (kind == USPLIT_INPUT_MEASURED) {
        memcpy(input, us_dataset_plane(c->dataset, frame, c->channels, 0).data, (size_t)n * sizeof *input);
        return;
    }
    double weight = kind == USPLIT_INPUT_SUM ? 1 : 1.0 / c->channels;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < c->channels; k++) {
            sum += (double)clipped(us_dataset_plane(c->dataset, frame, k, 0).data[i], clip);
        }
        input[i] = (float)(weight * sum);
    }
}

static usplit_status add_residual(calibrating *c, us_plane size, const float *input, const float *planes)
{
    us_residual r;
    usplit_residual_facts f;
    double weights[USPLIT_MAX_CHANNELS];
    int32_t kind = c->model->normalisation.input;
    if (kind == USPLIT_INPUT_MEASURED) {        // nothing is known of how it is mixed
        return USPLIT_OK;
    }
    for (int i = 0; i < c->channels; i++) {
        weights[i] = kind == USPLIT_INPUT_SUM ? 1 : 1.0 / c->channels;
    }
    US_TRY(us_residual_open(&r, c->a, size.width, c->channels, weights, c->model->normalisation.clip_value));
    us_residual_add(&r, size.height, input, planes, NULL);
    us_residual_get(&r, &f);
    us_residual_close(&r, c->a);
    if (f.range > 0) {
        c->frames++;
        c->score += f.score;
        c->tail += f.tail;
        c->structure += f.structure;
    }
    return USPLIT_OK;
}

static usplit_status add_frame(calibrating *c, int64_t frame)
{
    us_plane size = us_dataset_plane(c->dataset, frame, 0, 0);
    int64_t n = size.height * size.width, k = c->channels;
    float clip = truth_clip(c);
    usplit_tiler_result result = {.struct_size = sizeof result};
    usplit_image src, dst;
    usplit_status status;
    float *input = us_alloc(c->a, (size_t)n, (size_t)(1 + 2 * k) * sizeof *input);
    if (!input) {
        return USPLIT_ERR_MEMORY;
    }
    float *planes = input + n;
    mix(c, frame, n, input);
    US_TRY_GOTO(view_of(&src, input, size, 1));
    US_TRY_GOTO(view_of(&dst, planes, size, 2 * k));
    US_TRY_GOTO(usplit_tiler_run(c->tiler, &src, &dst, &result, c->progress ? report : NULL, c));
    US_TRY_GOTO(add_residual(c, size, input, planes));
    for (int i = 0; i < k; i++) {
        const float *truth = us_dataset_plane(c->dataset, frame, i, 0).data;
        for (int64_t j = 0; j < n; j++) {       // the input is not needed any more
            input[j] = clipped(truth[j], clip);
        }
        us_calibrate_add(&c->sums[i], planes + (k + i) * n, planes + i * n, input, n);
    }
    c->pixels += n;
    c->done += result.passes;
    c->seconds += result.seconds;
done:
    us_free(c->a, input);
    return status;
}

static usplit_status fit(const calibrating *c, usplit_calibration *out)
{
    for (int i = 0; i < c->channels; i++) {
        us_calibrate_line line;
        US_TRY(us_calibrate_fit(&c->sums[i], i, &line));
        out->slope[i] = line.slope;
        out->offset[i] = line.offset;
        out->rmse[i] = line.rmse;
        out->deviation[i] = line.deviation;
    }
    out->residual_score = c->frames > 0 ? c->score / (double)c->frames : NAN;
    out->residual_tail = c->frames > 0 ? c->tail / (double)c->frames : NAN;
    out->residual_structure = c->frames > 0 ? c->structure / (double)c->frames : NAN;
    out->pixels = c->pixels;
    out->samples = c->tiler->samples;
    out->shifts = c->tiler->shape.shifts;
    return USPLIT_OK;
}

static usplit_status check_data(const usplit_model *model, const usplit_dataset *dataset, int32_t set)
{
    usplit_dataset_facts f = {.struct_size = sizeof f};
    int64_t n = 0;
    US_TRY(usplit_dataset_info(dataset, &f));
    if (f.n_channels != model->graph->config.channels) {
        US_FAIL(USPLIT_ERR_SHAPE, "the dataset has %lld channels, the model %d", (long long)f.n_channels,
                model->graph->config.channels);
    }
    if (f.unpaired || (f.input == USPLIT_INPUT_MEASURED) != (model->normalisation.input == USPLIT_INPUT_MEASURED)) {
        US_FAIL(USPLIT_ERR_ARGUMENT, "the dataset %s; accepted: %s",
                f.unpaired ? "is unpaired" : "and the model's training do not both have a measured input",
                model->normalisation.input == USPLIT_INPUT_MEASURED ? "paired channels with their measured image"
                                                                     : "paired channels");
    }
    US_TRY(usplit_dataset_get_set(dataset, set, NULL, &n));
    if (n == 0) {
        US_FAIL(USPLIT_ERR_ARGUMENT, "set %d of the dataset has no frames", set);
    }
    return USPLIT_OK;
}

// Opens the sums, counts the passes to come, and goes through the set's frames.
static usplit_status run(calibrating *c, int32_t set, int64_t *frames, int64_t n)
{
    US_TRY(usplit_dataset_get_set(c->dataset, set, frames, &n));
    for (int i = 0; i < c->channels; i++) {
        US_TRY(us_calibrate_open(&c->sums[i], c->a));
    }
    for (int64_t i = 0; i < n; i++) {
        us_plane size = us_dataset_plane(c->dataset, frames[i], 0, 0);
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        US_TRY(usplit_tiler_plan(c->tiler, size.height, size.width, &cost));
        c->total += cost.passes;
    }
    for (int64_t i = 0; i < n; i++) {
        US_TRY(add_frame(c, frames[i]));
    }
    return USPLIT_OK;
}

usplit_status usplit_model_calibrate(const usplit_model *model, const usplit_dataset *dataset, int32_t set,
                                     const usplit_tiler_options *options, usplit_calibration *out,
                                     usplit_progress_fn progress, void *user)
{
    US_CHECK_ARG(model != NULL && dataset != NULL && out != NULL, "%s is NULL",
                 !model ? "model" : dataset ? "out" : "dataset");
    usplit_calibration result = {.struct_size = sizeof result};
    US_TRY(us_struct_write(out, &result, sizeof result, "out"));
    US_TRY(check_data(model, dataset, set));
    usplit_tiler_options o;
    US_TRY(usplit_tiler_options_init(&o, sizeof o));
    US_TRY(us_struct_read(&o, sizeof o, options, "options"));
    US_CHECK_ARG(o.cover == USPLIT_COVER_ALL, "cover is %d; accepted: USPLIT_COVER_ALL (0)", o.cover);
    o.deviations = 1;
    calibrating c = {.model = model, .dataset = dataset, .a = &model->context->allocator,
                     .channels = model->graph->config.channels, .progress = progress, .user = user};
    int64_t n = 0;
    int64_t *frames = NULL;
    usplit_status status;
    US_TRY_GOTO(usplit_tiler_create(&c.tiler, model, &o));
    US_TRY_GOTO(usplit_dataset_get_set(dataset, set, NULL, &n));
    frames = us_alloc(c.a, (size_t)n, sizeof *frames);
    if (!frames) {
        status = USPLIT_ERR_MEMORY;
        goto done;
    }
    US_TRY_GOTO(run(&c, set, frames, n));
    US_TRY_GOTO(fit(&c, &result));
    status = us_struct_write(out, &result, sizeof result, "out");
done:
    for (int i = 0; i < c.channels; i++) {
        us_calibrate_close(&c.sums[i], c.a);
    }
    us_free(c.a, frames);
    usplit_tiler_free(c.tiler);
    return status;
}

usplit_status usplit_model_set_calibration(usplit_model *model, const usplit_calibration *calibration)
{
    US_CHECK_ARG(model != NULL, "model is NULL");
    usplit_calibration c = {.struct_size = sizeof c};
    US_TRY(us_struct_read(&c, sizeof c, calibration, "calibration"));
    if (!calibration) {
        model->has_calibration = 0;
        return USPLIT_OK;
    }
    US_TRY(us_model_check_calibration(&c, model->graph->config.channels));
    model->calibration = c;
    model->has_calibration = 1;
    return USPLIT_OK;
}

usplit_status usplit_model_get_calibration(const usplit_model *model, usplit_calibration *out)
{
    US_CHECK_ARG(model != NULL, "model is NULL");
    if (!model->has_calibration) {
        US_FAIL(USPLIT_ERR_STATE, "the model has no calibration: usplit_model_calibrate makes one");
    }
    return us_struct_write(out, &model->calibration, sizeof model->calibration, "out");
}
