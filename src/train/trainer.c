// Creation, one step, and what happens at the end of an epoch.
#include "train/trainer.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "train/schedule.h"
#include "train/selftest.h"

#define FIRST_LOSS_SCALE 65536.0        // of fp16 training (data 4.4)

double us_trainer_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void us_trainer_free(usplit_trainer *t)
{
    if (!t) {
        return;
    }
    const us_backend *b = t->context->backend;
    b->release(t->exec);
    b->release(t->check);
    us_plan_free(t->plan);
    us_plan_free(t->check_plan);
    void *blocks[] = {t->iterate.grads, t->iterate.part, t->places, t->staging, t->check_input,
                      t->check_target, t->check_head,
                      t->state.m, t->state.u, t->best_file, t->last_file};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(t->a, blocks[i]);
    }
    if (t->model) {
        t->model->trainers = 0;
    }
    us_model_release(t->model);
    us_dataset_release(t->dataset);
    usplit_context *context = t->context;
    us_free(t->a, t);
    us_context_release(context);
}

static usplit_status check_fit(const usplit_model *model, const usplit_dataset *dataset)
{
    const us_net_config *c = &model->graph->config;
    usplit_dataset_facts f = {.struct_size = sizeof f};
    US_TRY(usplit_dataset_info(dataset, &f));
    if (f.n_channels != c->channels) {
        US_FAIL(USPLIT_ERR_SHAPE, "the dataset has %lld channels, the model splits into %d", (long long)f.n_channels,
                c->channels);
    }
    if (f.levels < 1 + c->lc_count) {
        US_FAIL(USPLIT_ERR_SHAPE, "the dataset keeps %d resolution levels, the model needs %d (dataset option levels)",
                f.levels, 1 + c->lc_count);
    }
    if (us_dataset_n_items(dataset, USPLIT_SET_TRAIN, c->patch) < 1) {
        US_FAIL(USPLIT_ERR_SHAPE, "no training frame is as large as a patch, %d x %d", c->patch, c->patch);
    }
    return USPLIT_OK;
}

// The dataset's statistics become the model's; names and pixel size stay.
static void take_statistics(usplit_model *model, const us_statistics *s)
{
    usplit_model_normalisation *n = &model->normalisation;
    n->struct_size = sizeof *n;
    n->clip_value = s->clip_value;
    n->input_mean = s->input_mean;
    n->input_deviation = s->input_deviation;
    memcpy(n->target_mean, s->target_mean, sizeof n->target_mean);
    memcpy(n->target_deviation, s->target_deviation, sizeof n->target_deviation);
    n->padding = s->padding;
    n->padding_value = s->padding_value;
    model->has_normalisation = 1;
}

// Only the training frames: validation cuts its patches here.
static us_rows rows_of(void *user, int64_t frame, int level)
{
    const usplit_dataset *d = user;
    us_plane plane = us_dataset_plane(d, frame, 0, level);
    us_rows r = {plane.data, plane.height * plane.width, plane.height, plane.width, 0, plane.height};
    if (!us_dataset_in_set(d, USPLIT_SET_TRAIN, frame)) {
        r.data = NULL;
    }
    return r;
}

// Where the backend has a device with room, the training frames go there once.
static usplit_status attach(usplit_trainer *t)
{
    const us_backend *b = t->context->backend;
    const us_statistics *s = us_dataset_statistics(t->dataset);
    const us_net_config *c = &t->model->graph->config;
    float mean[USPLIT_MAX_CHANNELS], inverse[USPLIT_MAX_CHANNELS];
    usplit_dataset_facts f = {.struct_size = sizeof f};
    US_TRY(usplit_dataset_info(t->dataset, &f));
    if (!b->attach) {
        return USPLIT_OK;
    }
    for (int i = 0; i < c->channels; i++) {
        mean[i] = (float)s->target_mean[i];
        inverse[i] = (float)(1.0 / s->target_deviation[i]);
    }
    us_images images = {.frames = f.n_frames, .levels = 1 + c->lc_count, .channels = c->channels, .size = c->patch,
                        .rows = rows_of, .user = t->dataset, .reflect = s->padding == USPLIT_PADDING_REFLECT,
                        .padding_value = (float)s->padding_value, .mean = (float)s->input_mean,
                        .inverse_deviation = (float)(1.0 / s->input_deviation), .target_mean = mean,
                        .target_inverse_deviation = inverse};
    t->places = us_alloc(t->a, (size_t)t->options.batch, sizeof *t->places);
    if (!t->places) {
        return USPLIT_ERR_MEMORY;
    }
    US_TRY(b->attach(t->exec, &images, &t->on_device));
    us_context_log(t->context, USPLIT_LOG_INFO, "training frames %s",
                   t->on_device ? "are on the device" : "stay in host memory: the device has no room for them");
    return USPLIT_OK;
}

static int64_t plan_bytes(const usplit_trainer *t, const us_plan *plan, int workers)
{
    const us_backend *b = t->context->backend;
    return b->plan_bytes ? b->plan_bytes(t->context, plan, workers) : us_plan_arena_bytes(plan, workers);
}

static int64_t bytes_needed(const usplit_trainer *t)
{
    int workers = us_pool_size(t->context->pool), parts = t->plan->options.batch < t->options.batch;
    return plan_bytes(t, t->plan, workers) + plan_bytes(t, t->check_plan, t->check_workers) +
           (6 + parts) * 4 * t->model->graph->n_floats;
}

// The training plan of the largest batch that the budget allows: the whole one, or an equal part of it.
static usplit_status fit_plan(usplit_trainer *t)
{
    us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = t->context->backend->layout, .batch = t->options.batch,
                         .kl_weight = t->options.kl_weight, .free_bits = t->options.free_bits};
    int64_t budget = t->options.memory_budget, need = 0;
    for (int parts = 1; parts <= t->options.batch; parts++) {
        int batch = (t->options.batch + parts - 1) / parts;
        if (parts > 1 && batch == o.batch) {
            continue;
        }
        o.batch = batch;
        us_plan_free(t->plan);
        t->plan = NULL;
        US_TRY(us_plan_build(&t->plan, t->a, t->model->graph, &o));
        need = bytes_needed(t);
        if (budget == 0 || need <= budget) {
            return USPLIT_OK;
        }
    }
    US_FAIL(USPLIT_ERR_BUDGET,
            "training needs %.0f MiB even one patch at a time, the budget is %.0f MiB; a larger budget, fewer filters "
            "(now %d) or a smaller patch (now %d) helps",
            (double)need / 1048576, (double)budget / 1048576, t->model->graph->config.filters,
            t->model->graph->config.patch);
}

static usplit_status make_plans(usplit_trainer *t)
{
    const us_backend *b = t->context->backend;
    us_plan_options v = {.mode = US_PLAN_PREDICT, .layout = b->layout, .batch = t->check_batch};
    US_TRY(us_plan_build(&t->check_plan, t->a, t->model->graph, &v));
    US_TRY(fit_plan(t));
    t->iterate.batch = t->plan->options.batch;
    t->iterate.n_floats = t->model->graph->n_floats;
    if (t->iterate.grads && t->iterate.batch < t->options.batch) {
        t->iterate.part = us_calloc(t->a, (size_t)t->iterate.n_floats, sizeof *t->iterate.part);
        if (!t->iterate.part) {
            return USPLIT_ERR_MEMORY;
        }
    }
    US_TRY(b->compile(&t->exec, t->context, t->plan, us_pool_size(t->context->pool)));
    t->iterate.exec = t->exec;
    US_TRY(b->compile(&t->check, t->context, t->check_plan, t->check_workers));
    return attach(t);
}

static usplit_status make_memory(usplit_trainer *t)
{
    const us_net_config *c = &t->model->graph->config;
    size_t n = (size_t)t->model->graph->n_floats, area = (size_t)c->patch * (size_t)c->patch;
    size_t inputs = area * (size_t)(1 + c->lc_count);
    int workers = us_pool_size(t->context->pool), best = t->context->backend->workers;
    t->check_workers = best > 0 && best < workers ? best : workers;
    t->check_batch = t->context->backend->tile_batch;
    t->check_batch = t->check_batch < US_VALIDATE_BATCH ? t->check_batch : US_VALIDATE_BATCH;
    t->group = 4 * t->check_workers * t->check_batch;
    t->iterate.backend = t->context->backend;
    if (!t->iterate.backend->step) {
        t->iterate.grads = us_calloc(t->a, n, sizeof *t->iterate.grads);
        if (!t->iterate.grads) {
            return USPLIT_ERR_MEMORY;
        }
    }
    t->state.m = us_calloc(t->a, n, sizeof *t->state.m);
    t->state.u = us_calloc(t->a, n, sizeof *t->state.u);
    t->staging = us_alloc(t->a, inputs * (size_t)t->options.batch, sizeof *t->staging);
    t->check_input = us_alloc(t->a, inputs * (size_t)t->group, sizeof(float));
    t->check_target = us_alloc(t->a, area * (size_t)c->channels * (size_t)t->group, sizeof(float));
    t->check_head = us_alloc(t->a, area * (size_t)us_net_head_channels(c) * (size_t)t->group, sizeof(float));
    return t->state.m && t->state.u && t->staging && t->check_input && t->check_target && t->check_head
               ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

usplit_status us_trainer_create(usplit_trainer **out, usplit_model *model, usplit_dataset *dataset,
                                const usplit_trainer_options *options)
{
    *out = NULL;
    US_TRY(check_fit(model, dataset));
    if (model->trainers) {
        US_FAIL(USPLIT_ERR_STATE, "the model already has a trainer; free it first");
    }
    const us_allocator *a = &model->context->allocator;
    usplit_trainer *t = us_calloc(a, 1, sizeof *t);
    if (!t) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status;
    t->a = a;
    t->context = us_context_retain(model->context);
    t->options = *options;
    t->options.best_file = t->options.last_file = NULL;
    t->dataset = us_dataset_retain(dataset);
    t->state = (us_training_state){.learning_rate = options->learning_rate, .schedule_best = NAN, .early_best = NAN,
                                   .best_val_psnr = NAN, .best_epoch = -1, .batch = options->batch,
                                   .seed = (int64_t)options->seed, .steps_per_epoch = options->steps_per_epoch};
    t->val_psnr = t->val_loss = t->gradient_norm = NAN;
    t->losses.loss = NAN;
    t->state.loss_scale = FIRST_LOSS_SCALE;
    us_model_retain(model);
    t->model = model;
    t->state.n_items = us_dataset_n_items(dataset, USPLIT_SET_TRAIN, model->graph->config.patch);
    if (options->best_file) {
        t->best_file = us_strdup(a, options->best_file);
    }
    if (options->last_file) {
        t->last_file = us_strdup(a, options->last_file);
    }
    status = (options->best_file && !t->best_file) || (options->last_file && !t->last_file) ? USPLIT_ERR_MEMORY
                                                                                           : make_memory(t);
    if (status == USPLIT_OK) {
        status = make_plans(t);
    }
    if (status != USPLIT_OK) {
        us_trainer_free(t);
        return status;
    }
    take_statistics(model, us_dataset_statistics(dataset));
    model->trainers = 1;
    *out = t;
    return USPLIT_OK;
}

usplit_status us_trainer_resume(usplit_trainer *t, const char *file)
{
    US_TRY(us_trainer_refresh(t, 1));
    us_training_state s = t->state;
    us_statistics now = *us_dataset_statistics(t->dataset);
    US_TRY(us_checkpoint_resume(t->model, &s, file));
    t->state = s;
    t->begun = 0;
    take_statistics(t->model, &now);
    t->val_psnr = t->model->n_history ? t->model->history[t->model->n_history - 1].val_psnr : NAN;
    return USPLIT_OK;
}

int64_t us_trainer_steps_per_epoch(const usplit_trainer *t)
{
    return t->options.steps_per_epoch > 0 ? t->options.steps_per_epoch
                                          : (t->state.n_items + t->options.batch - 1) / t->options.batch;
}

int us_trainer_finished(const usplit_trainer *t)
{
    return t->state.stopped_early || t->state.epoch >= t->options.max_epochs ||
           (t->options.max_steps > 0 && t->state.step >= t->options.max_steps);
}

// ---- One step ----

// Place of a sample in the endless row of items: with a fixed number of steps per epoch, passes over the
// data and epochs need not end together.
static void item_of(const usplit_trainer *t, int sample, int64_t *pass, int64_t *item)
{
    int64_t at = t->state.item + sample;
    *pass = t->state.epoch;
    *item = at;
    if (t->options.steps_per_epoch > 0) {
        at += t->state.epoch * t->options.steps_per_epoch * t->options.batch;
        *pass = at / t->state.n_items;
        *item = at % t->state.n_items;
    }
}

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    usplit_trainer *t = user;
    const us_net_config *c = &t->model->graph->config;
    int64_t pass, item, area = (int64_t)c->patch * c->patch;
    float *input = t->staging + sample * area * (1 + c->lc_count);
    item_of(t, sample, &pass, &item);
    US_TRY(us_dataset_train_patch(t->dataset, (uint64_t)t->state.seed, pass, item, c->patch, 1 + c->lc_count, input,
                                  target));
    for (int k = 0; k <= c->lc_count; k++) {
        if (levels[k]) {
            memcpy(levels[k], input + k * area, (size_t)area * sizeof *input);
        }
    }
    return USPLIT_OK;
}

static int batch_now(const usplit_trainer *t)
{
    int64_t left = t->state.n_items - t->state.item;
    return t->options.steps_per_epoch > 0 || left > t->options.batch ? t->options.batch : (int)left;
}

// Hands the arrays to the backend where they are not there yet, and takes one step.
static usplit_status optimise(usplit_trainer *t, int samples)
{
    us_training_state *s = &t->state;
    if (!t->begun || t->edits != t->model->edits) {
        us_trained arrays = {t->model->params, s->m, s->u};
        us_tally tally = {.updates = s->updates, .skipped = s->skipped, .counted = s->epoch_steps,
                          .sum_loss = s->epoch_loss, .sum_reconstruction = s->epoch_reconstruction,
                          .sum_kl = s->epoch_kl, .losses = t->losses, .gradient_norm = t->gradient_norm,
                          .loss_scale = s->loss_scale, .good_steps = s->good_steps};
        memcpy(tally.sum_level, s->epoch_level, sizeof tally.sum_level);
        US_TRY(us_iterate_begin(&t->iterate, &arrays, &tally));
        t->begun = 1;
        t->edits = t->model->edits;
    }
    us_run run = {.seed = (uint64_t)s->seed, .step = s->step, .samples = samples, .fill = fill, .user = t};
    for (int i = 0; t->on_device && i < samples; i++) {
        int64_t pass, item;
        item_of(t, i, &pass, &item);
        us_place *place = &t->places[i];
        US_TRY(us_dataset_train_place(t->dataset, (uint64_t)s->seed, pass, item, t->model->graph->config.patch,
                                      &place->frame, &place->y, &place->x));
        run.places = t->places;
    }
    us_update update = {.lr = s->learning_rate, .clip_norm = t->options.clip_norm};
    US_TRY(us_iterate_step(&t->iterate, &run, &update));
    s->step++;
    t->stale = 1;
    return USPLIT_OK;
}

usplit_status us_trainer_refresh(usplit_trainer *t, int arrays)
{
    us_training_state *s = &t->state;
    if (!t->begun || !(t->stale || (arrays && t->stale_arrays))) {
        return USPLIT_OK;
    }
    US_TRY(us_iterate_sync(&t->iterate, arrays));
    const us_tally *tally = &t->iterate.tally;
    t->stale_arrays = !arrays;
    t->stale = 0;
    t->model->steps += tally->counted - s->epoch_steps;
    s->updates = tally->updates;
    s->skipped = tally->skipped;
    s->epoch_steps = tally->counted;
    s->epoch_loss = tally->sum_loss;
    s->epoch_reconstruction = tally->sum_reconstruction;
    s->epoch_kl = tally->sum_kl;
    memcpy(s->epoch_level, tally->sum_level, sizeof s->epoch_level);
    s->loss_scale = tally->loss_scale;
    s->good_steps = tally->good_steps;
    t->losses = tally->losses;
    t->gradient_norm = tally->gradient_norm;
    return USPLIT_OK;
}

static usplit_status end_epoch(usplit_trainer *t, double began)
{
    us_training_state *s = &t->state;
    int improved = 0;
    US_TRY(us_trainer_refresh(t, 1));
    double n = s->epoch_steps > 0 ? (double)s->epoch_steps : NAN;
    usplit_status stop = us_trainer_validate(t);
    if (stop != USPLIT_OK && stop != USPLIT_ERR_CANCELLED) {
        return stop;
    }
    if (stop == USPLIT_ERR_CANCELLED) {     // an epoch is whole or it has not ended: validate without asking
        usplit_progress_fn progress = t->progress;
        t->progress = NULL;
        int cancelled = atomic_exchange(&t->cancel, 0);
        usplit_status again = us_trainer_validate(t);
        t->progress = progress;
        atomic_store(&t->cancel, cancelled);
        US_TRY(again);
    }
    us_schedule schedule = {s->learning_rate, s->schedule_best, s->schedule_bad};
    us_epoch row = {s->step, s->epoch_loss / n, s->epoch_reconstruction / n, s->epoch_kl / n, t->val_psnr,
                    t->val_loss, s->learning_rate, s->seconds + us_trainer_clock() - began, {0}};
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        row.level[i] = us_graph_has_kl(t->model->graph, i) ? s->epoch_level[i] / n : NAN;
    }
    int patch = t->model->graph->config.patch;
    if (isnan(t->val_psnr) && us_dataset_n_items(t->dataset, USPLIT_SET_VALIDATION, patch) == 0) {
        improved = 1;                       // nothing to validate on: the newest counts as the best
    } else {
        us_schedule_step(&schedule, t->val_psnr, 1, t->options.lr_factor, t->options.lr_patience);
        s->stopped_early = us_early_stop(&s->early_best, &s->early_bad, t->val_psnr, t->options.early_stop_patience,
                                         &improved);
    }
    s->learning_rate = schedule.learning_rate;
    s->schedule_best = schedule.best;
    s->schedule_bad = schedule.bad;
    US_TRY(us_model_add_epoch(t->model, &row));
    if (improved) {
        s->best_val_psnr = t->val_psnr;
        s->best_epoch = s->epoch;
        t->model->best_val_psnr = t->val_psnr;
    }
    s->epoch++;
    t->model->epochs = s->epoch;
    s->item = 0;
    s->epoch_loss = s->epoch_reconstruction = s->epoch_kl = 0;
    memset(s->epoch_level, 0, sizeof s->epoch_level);
    s->epoch_steps = 0;
    t->begun = 0;                           // the sums begin anew
    int best = improved && t->best_file;
    if (best || t->last_file) {             // both files hold the same self-test
        US_TRY(us_selftest_make(t->model, t->check));
    }
    if (best) {
        US_TRY(us_checkpoint_write(t->model, NULL, t->best_file));
    }
    if (t->last_file) {
        US_TRY(us_checkpoint_write(t->model, &t->state, t->last_file));
    }
    return stop;
}

usplit_status us_trainer_step(usplit_trainer *t)
{
    double began = us_trainer_clock();
    int samples = batch_now(t);
    US_TRY(optimise(t, samples));
    t->state.item += samples;
    int64_t steps = us_trainer_steps_per_epoch(t), done = t->state.item / t->options.batch;
    int ends = t->options.steps_per_epoch > 0 ? done >= steps : t->state.item >= t->state.n_items;
    usplit_status status = ends ? end_epoch(t, began) : USPLIT_OK;
    t->state.seconds += us_trainer_clock() - began;
    return status;
}

usplit_status us_trainer_save(usplit_trainer *t, const char *file)
{
    US_TRY(us_trainer_refresh(t, 1));
    US_TRY(us_selftest_make(t->model, t->check));
    return us_checkpoint_write(t->model, &t->state, file);
}
