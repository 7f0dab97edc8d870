// usplit_model: creation, files, parameters by name, facts and costs.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/structs.h"
#include "net/model.h"
#include "plan/plan.h"
#include "train/checkpoint.h"
#include "train/selftest.h"

static const usplit_model_options defaults = {.struct_size = sizeof(usplit_model_options),
                                              .variant = USPLIT_VARIANT_LEAN};

usplit_status usplit_model_options_init(usplit_model_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &defaults, sizeof defaults);
}

usplit_status usplit_model_create(usplit_model **out, usplit_context *context, const usplit_model_options *options)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(context != NULL, "context is NULL");
    usplit_model_options o = defaults;
    us_net_config config;
    US_TRY(us_struct_read(&o, sizeof o, options, "model options"));
    US_TRY(us_net_config_from(&config, &o));
    US_TRY(us_model_new(out, context, &config));
    us_graph_init_params((*out)->graph, o.seed, (*out)->params);
    return USPLIT_OK;
}

usplit_status usplit_model_load(usplit_model **out, usplit_context *context, const char *file)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(context != NULL, "context is NULL");
    US_CHECK_ARG(file != NULL, "file is NULL");
    return us_checkpoint_load(out, context, file);
}

usplit_status usplit_model_save(const usplit_model *model, const char *file)
{
    US_CHECK_ARG(model != NULL, "model is NULL");
    US_CHECK_ARG(file != NULL, "file is NULL");
    usplit_model copy = *model;     // the self-test pair is made for the file, the model stays as it is
    copy.selftest_input = copy.selftest_output = NULL;
    usplit_status status = us_selftest_make(&copy, NULL);
    if (status == USPLIT_OK) {
        status = us_checkpoint_write(&copy, NULL, file);
    }
    us_free(&model->context->allocator, copy.selftest_input);
    us_free(&model->context->allocator, copy.selftest_output);
    return status;
}

void usplit_model_free(usplit_model *model)
{
    us_model_release(model);
}

usplit_status usplit_model_info(const usplit_model *model, usplit_model_facts *facts)
{
    US_CHECK_ARG(model != NULL, "model is NULL");
    const us_net_config *c = &model->graph->config;
    const usplit_model_normalisation *n = &model->normalisation;
    usplit_model_facts f = {.struct_size = sizeof f, .family = c->family, .variant = c->variant, .levels = c->levels,
                            .lc_count = c->lc_count, .filters = c->filters, .patch = c->patch,
                            .channels = c->channels, .has_normalisation = model->has_normalisation,
                            .dropout = c->dropout, .logvar_lower_bound = c->logvar_lower_bound,
                            .var_clip_max = c->var_clip_max, .n_parameters = us_graph_n_parameters(model->graph),
                            .n_entries = model->graph->n_params, .macs = us_graph_macs(model->graph),
                            .clip_value = n->clip_value, .input_mean = n->input_mean,
                            .input_deviation = n->input_deviation, .padding = n->padding,
                            .padding_value = n->padding_value, .epochs_trained = model->epochs,
                            .steps_trained = model->steps, .best_val_psnr = model->best_val_psnr,
                            .pixel_size = n->pixel_size, .blocks = c->blocks, .activation = c->activation,
                            .logvar = c->logvar, .merge = c->merge, .kl = c->kl, .latent_scale = c->latent_scale,
                            .shared_branch = c->shared_branch, .ungated = c->ungated, .input = n->input,
                            .centring = n->centring, .target_clip_value = n->target_clip_value,
                            .input_frames = model->input_frames, .has_calibration = model->has_calibration};
    for (int i = 0; i < c->channels && n->input != USPLIT_INPUT_MEASURED; i++) {
        f.mixture_weight[i] = n->input == USPLIT_INPUT_SUM ? 1 : 1.0 / c->channels;
    }
    for (int i = 0; i < c->levels; i++) {
        f.z_dims[i] = c->z_dims[i];
    }
    memcpy(f.target_mean, n->target_mean, sizeof f.target_mean);
    memcpy(f.target_deviation, n->target_deviation, sizeof f.target_deviation);
    memcpy(f.channel_names, n->channel_names, sizeof f.channel_names);
    memcpy(f.frame_mean, model->frame_mean, sizeof f.frame_mean);
    memcpy(f.frame_deviation, model->frame_deviation, sizeof f.frame_deviation);
    return us_struct_write(facts, &f, sizeof f, "facts");
}

usplit_status usplit_model_set_normalisation(usplit_model *model, const usplit_model_normalisation *normalisation)
{
    US_CHECK_ARG(model != NULL && normalisation != NULL, "%s is NULL", model ? "normalisation" : "model");
    usplit_model_normalisation n = {.struct_size = sizeof n};
    US_TRY(us_struct_read(&n, sizeof n, normalisation, "normalisation"));
    US_CHECK_ARG(!isnan(n.clip_value), "clip_value is NaN; accepted: a grey level, or infinity for no clipping");
    US_CHECK_ARG(isfinite(n.input_mean) && isfinite(n.input_deviation) && n.input_deviation > 0,
                 "input_mean is %g, input_deviation %g; accepted: finite, deviation above 0", n.input_mean,
                 n.input_deviation);
    for (int i = 0; i < model->graph->config.channels; i++) {
        US_CHECK_ARG(isfinite(n.target_mean[i]) && isfinite(n.target_deviation[i]) && n.target_deviation[i] > 0,
                     "target_mean[%d] is %g, target_deviation %g; accepted: finite, deviation above 0", i,
                     n.target_mean[i], n.target_deviation[i]);
    }
    US_CHECK_ARG(n.padding == USPLIT_PADDING_REFLECT || n.padding == USPLIT_PADDING_CONSTANT,
                 "padding is %d; accepted: 0 (reflect), 1 (constant)", n.padding);
    US_CHECK_ARG(isfinite(n.padding_value), "padding_value is %g; accepted: finite", n.padding_value);
    US_CHECK_ARG(isfinite(n.pixel_size) && n.pixel_size >= 0, "pixel_size is %g; accepted: 0 (unknown) or more",
                 n.pixel_size);
    US_CHECK_ARG(n.input >= USPLIT_INPUT_MEAN && n.input <= USPLIT_INPUT_MEASURED,
                 "input is %d; accepted: USPLIT_INPUT_MEAN (0), _SUM (1), _MEASURED (2)", n.input);
    US_CHECK_ARG(n.centring == USPLIT_CENTRING_FLOORED || n.centring == USPLIT_CENTRING_EXACT,
                 "centring is %d; accepted: USPLIT_CENTRING_FLOORED (0), _EXACT (1)", n.centring);
    US_CHECK_ARG(!isnan(n.target_clip_value), "target_clip_value is NaN; accepted: a grey level, infinity for no "
                 "clipping, 0 for that of the input");
    n.target_clip_value = n.target_clip_value == 0 ? n.clip_value : n.target_clip_value;
    for (int i = 0; i < USPLIT_MAX_CHANNELS; i++) {
        US_CHECK_ARG(memchr(n.channel_names[i], 0, USPLIT_NAME_BYTES) != NULL,
                     "channel_names[%d] has no end; accepted: up to %d bytes", i, USPLIT_NAME_BYTES - 1);
    }
    model->normalisation = n;
    model->has_normalisation = 1;
    return USPLIT_OK;
}

usplit_status usplit_model_get_entry(const usplit_model *model, int64_t index, const char **name, int64_t *shape,
                                     int32_t *n_dims)
{
    US_CHECK_ARG(model != NULL && name != NULL && shape != NULL && n_dims != NULL, "an argument is NULL");
    US_CHECK_ARG(index >= 0 && index < model->graph->n_params, "index is %lld; accepted: 0 to %d",
                 (long long)index, model->graph->n_params - 1);
    const us_param *p = &model->graph->params[index];
    *name = p->name;
    *n_dims = p->n_dims;
    for (int i = 0; i < p->n_dims; i++) {
        shape[i] = p->dims[i];
    }
    return USPLIT_OK;
}

static usplit_status find(const usplit_model *model, const char *name, int64_t count, const us_param **out)
{
    US_CHECK_ARG(model != NULL && name != NULL, "%s is NULL", model ? "name" : "model");
    int i = us_graph_param(model->graph, name);
    US_CHECK_ARG(i >= 0, "the model has no entry '%.120s'", name);
    *out = &model->graph->params[i];
    US_CHECK_ARG(count == (*out)->count, "count is %lld; '%s' has %lld values", (long long)count, name,
                 (long long)(*out)->count);
    return USPLIT_OK;
}

usplit_status usplit_model_get_parameter(const usplit_model *model, const char *name, float *dst, int64_t count)
{
    const us_param *p = NULL;
    US_TRY(find(model, name, count, &p));
    US_CHECK_ARG(dst != NULL, "dst is NULL");
    memcpy(dst, model->params + p->offset, (size_t)count * sizeof *dst);
    return USPLIT_OK;
}

usplit_status usplit_model_set_parameter(usplit_model *model, const char *name, const float *src, int64_t count)
{
    const us_param *p = NULL;
    US_TRY(find(model, name, count, &p));
    US_CHECK_ARG(src != NULL, "src is NULL");
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(src[i])) {
            US_FAIL(USPLIT_ERR_NUMERIC, "value %lld for '%s' is not finite", (long long)i, name);
        }
        if (p->kind == US_PARAM_RUNNING_VAR) {
            US_CHECK_ARG(src[i] >= 0, "value %lld for '%s' is %g; a variance is 0 or more", (long long)i, name,
                         (double)src[i]);
        }
    }
    memcpy(model->params + p->offset, src, (size_t)count * sizeof *src);
    model->edits++;
    model->has_calibration = 0;     // it was that of other parameters
    return USPLIT_OK;
}

static usplit_status build(const usplit_model *model, int32_t mode, int32_t batch, int32_t inner, us_plan **plan)
{
    US_CHECK_ARG(model != NULL, "model is NULL");
    US_CHECK_ARG(mode == USPLIT_MODE_TRAIN || mode == USPLIT_MODE_PREDICT,
                 "mode is %d; accepted: 1 (train), 2 (predict)", mode);
    US_CHECK_ARG(batch >= 1 && batch <= 4096, "batch is %d; accepted: 1 to 4096", batch);
    int patch = model->graph->config.patch;
    US_CHECK_ARG(inner >= 0 && inner <= patch && (patch - inner) % 2 == 0,
                 "inner is %d; accepted: 0 (whole), or up to %d and as even or odd as it", inner, patch);
    int side = inner ? inner : patch, off = (patch - side) / 2;
    us_plan_options o = {.mode = mode, .layout = model->context->backend->layout, .batch = batch, .kl_weight = 1,
                         .want = {off, off, side, side}};
    return us_plan_build(plan, &model->context->allocator, model->graph, &o);
}

static int element_bytes(const usplit_model *model)
{
    const us_backend *b = model->context->backend;
    return b->element_bytes ? b->element_bytes(model->context) : 4;
}

usplit_status usplit_model_plan(const usplit_model *model, int32_t mode, int32_t batch, int32_t inner,
                                usplit_model_cost *cost)
{
    us_plan *plan;
    US_TRY(build(model, mode, batch, inner, &plan));
    int train = mode == USPLIT_MODE_TRAIN, workers = us_pool_size(model->context->pool);
    if (!train && batch < workers) {
        workers = batch;
    }
    const us_backend *b = model->context->backend;
    int64_t arena = b->plan_bytes ? b->plan_bytes(model->context, plan, 1) : us_plan_arena_bytes(plan, workers);
    // training: parameters, gradients, two moments and two packed copies; prediction: parameters, one copy
    usplit_model_cost c = {.struct_size = sizeof c, .macs = plan->macs, .n_steps = plan->n_steps,
                           .kept_bytes = element_bytes(model) * plan->kept_floats * (train ? batch : 0),
                           .arena_bytes = arena,
                           .parameter_bytes = (train ? 6 : 2) * 4 * model->graph->n_floats};
    us_plan_free(plan);
    return us_struct_write(cost, &c, sizeof c, "cost");
}

usplit_status usplit_model_plan_text(const usplit_model *model, int32_t mode, int32_t batch, int32_t inner,
                                     void (*line)(const char *text, void *user), void *user)
{
    us_plan *plan;
    US_CHECK_ARG(line != NULL, "line is NULL");
    US_TRY(build(model, mode, batch, inner, &plan));
    us_plan_print(plan, line, user);
    us_plan_free(plan);
    return USPLIT_OK;
}

static usplit_status self_test(const usplit_model *model, usplit_model_check_facts *f)
{
    const us_net_config *c = &model->graph->config;
    if (!model->selftest_input) {
        US_FAIL(USPLIT_ERR_STATE, "the model carries no self-test; models loaded from a checkpoint do");
    }
    *f = (usplit_model_check_facts){.struct_size = sizeof *f,
                                    .values = (int64_t)c->patch * c->patch * us_net_head_channels(c),
                                    .tolerance = element_bytes(model) == 2 ? 2e-2 : 1e-3};  // pairs are float32
    US_TRY(us_selftest_check(model, &f->error));
    f->passed = f->error <= f->tolerance;
    return USPLIT_OK;
}

usplit_status usplit_model_check(const usplit_model *model, double *error)
{
    US_CHECK_ARG(model != NULL && error != NULL, "%s is NULL", model ? "error" : "model");
    usplit_model_check_facts f;
    US_TRY(self_test(model, &f));
    *error = f.error;
    if (!f.passed) {
        US_FAIL(USPLIT_ERR_NUMERIC, "the self-test's output deviates by %.2g of its maximum; accepted: %g", f.error,
                f.tolerance);
    }
    return USPLIT_OK;
}

usplit_status usplit_model_check_report(const usplit_model *model, usplit_model_check_facts *facts)
{
    US_CHECK_ARG(model != NULL && facts != NULL, "%s is NULL", model ? "facts" : "model");
    usplit_model_check_facts f;
    US_TRY(self_test(model, &f));
    return us_struct_write(facts, &f, sizeof f, "facts");
}
