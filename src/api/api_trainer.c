// usplit_trainer: argument checks and facts; the loop is in src/train.
#include <math.h>
#include <string.h>

#include "base/structs.h"
#include "train/trainer.h"

static const usplit_trainer_options defaults = {
    .struct_size = sizeof(usplit_trainer_options), .batch = 32, .max_epochs = 200, .learning_rate = 1e-3,
    .clip_norm = 0.5, .kl_weight = 1, .lr_factor = 0.5, .lr_patience = 15, .early_stop_patience = 100,
    .weight_low = {1, 1, 1, 1, 1, 1, 1, 1}, .weight_high = {1, 1, 1, 1, 1, 1, 1, 1}};

usplit_status usplit_trainer_options_init(usplit_trainer_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static usplit_status check_options(const usplit_trainer_options *o)
{
    US_CHECK_ARG(o->batch >= 1 && o->batch <= 4096, "batch is %d; accepted: 1 to 4096", o->batch);
    US_CHECK_ARG(o->max_epochs >= 1, "max_epochs is %d; accepted: 1 or more", o->max_epochs);
    US_CHECK_ARG(o->max_steps >= 0 && o->steps_per_epoch >= 0 && o->max_validation_patches >= 0 &&
                     o->memory_budget >= 0 && o->max_seconds >= 0,
                 "a limit is negative or NaN (max_steps %lld, steps_per_epoch %lld, max_validation_patches %lld, "
                 "memory_budget %lld, max_seconds %g); accepted: 0 (none) or more",
                 (long long)o->max_steps, (long long)o->steps_per_epoch, (long long)o->max_validation_patches,
                 (long long)o->memory_budget, o->max_seconds);
    US_CHECK_ARG(o->learning_rate > 0 && o->learning_rate < 1, "learning_rate is %g; accepted: above 0, below 1",
                 o->learning_rate);
    US_CHECK_ARG(o->clip_norm >= 0 && isfinite(o->clip_norm), "clip_norm is %g; accepted: 0 (none) or more",
                 o->clip_norm);
    US_CHECK_ARG(o->kl_weight >= 0 && isfinite(o->kl_weight) && o->free_bits >= 0 && isfinite(o->free_bits),
                 "kl_weight is %g, free_bits %g; accepted: 0 or more", o->kl_weight, o->free_bits);
    US_CHECK_ARG(o->lr_factor > 0 && o->lr_factor <= 1, "lr_factor is %g; accepted: above 0, up to 1", o->lr_factor);
    US_CHECK_ARG(o->lr_patience >= 0 && o->early_stop_patience >= 1,
                 "lr_patience is %d, early_stop_patience %d; accepted: 0 or more, 1 or more", o->lr_patience,
                 o->early_stop_patience);
    US_CHECK_ARG((o->augment == 0 || o->augment == 1) && (o->fixed_targets == 0 || o->fixed_targets == 1),
                 "augment is %d, fixed_targets %d; accepted: 0, 1", o->augment, o->fixed_targets);
    US_CHECK_ARG(o->uncorrelated >= 0 && o->uncorrelated <= 1, "uncorrelated is %g; accepted: 0 to 1",
                 o->uncorrelated);
    return USPLIT_OK;
}

usplit_status usplit_trainer_create(usplit_trainer **out, usplit_model *model, usplit_dataset *dataset,
                                    const usplit_trainer_options *options)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    US_CHECK_ARG(model != NULL && dataset != NULL, "%s is NULL", model ? "dataset" : "model");
    usplit_trainer_options o = defaults;
    US_TRY(us_struct_read(&o, sizeof o, options, "trainer options"));
    US_TRY(check_options(&o));
    return us_trainer_create(out, model, dataset, &o);
}

static usplit_status enter(usplit_trainer *t)
{
    US_CHECK_ARG(t != NULL, "trainer is NULL");
    if (t->busy) {
        US_FAIL(USPLIT_ERR_BUSY, "the trainer was called from its own callback");
    }
    t->busy = 1;
    return USPLIT_OK;
}

usplit_status usplit_trainer_resume(usplit_trainer *trainer, const char *last_file)
{
    US_CHECK_ARG(last_file != NULL, "last_file is NULL");
    US_TRY(enter(trainer));
    usplit_status status = us_trainer_resume(trainer, last_file);
    trainer->busy = 0;
    return status;
}

usplit_status usplit_trainer_run(usplit_trainer *trainer, usplit_progress_fn progress, void *user)
{
    US_TRY(enter(trainer));
    usplit_status status = us_trainer_run(trainer, progress, user);
    trainer->busy = 0;
    return status;
}

usplit_status usplit_trainer_step(usplit_trainer *trainer)
{
    US_TRY(enter(trainer));
    atomic_store(&trainer->cancel, 0);      // as in a run: one that came before has nothing to stop
    usplit_status status = us_trainer_step(trainer);
    if (status == USPLIT_OK) {
        status = us_trainer_refresh(trainer, 1);
    }
    trainer->busy = 0;
    return status;
}

usplit_status usplit_trainer_save(usplit_trainer *trainer, const char *file)
{
    US_CHECK_ARG(file != NULL, "file is NULL");
    US_TRY(enter(trainer));
    usplit_status status = us_trainer_save(trainer, file);
    trainer->busy = 0;
    return status;
}

usplit_status usplit_trainer_info(const usplit_trainer *trainer, usplit_trainer_facts *facts)
{
    US_CHECK_ARG(trainer != NULL, "trainer is NULL");
    const us_training_state *s = &trainer->state;
    usplit_trainer_facts f = {
        .struct_size = sizeof f, .step = s->step, .skipped_steps = s->skipped, .epoch = (int32_t)s->epoch,
        .stopped_early = (int32_t)s->stopped_early, .loss = trainer->losses.loss,
        .reconstruction_loss = trainer->losses.reconstruction, .kl_loss = trainer->losses.kl,
        .gradient_norm = trainer->gradient_norm, .learning_rate = s->learning_rate, .val_psnr = trainer->val_psnr,
        .best_val_psnr = s->best_val_psnr, .best_epoch = (int32_t)s->best_epoch,
        .arena_bytes = trainer->context->backend->bytes(trainer->exec) +
                       trainer->context->backend->bytes(trainer->check),
        .part_batch = trainer->plan->options.batch,
        .steps_per_epoch = us_trainer_steps_per_epoch(trainer), .seconds = s->seconds};
    return us_struct_write(facts, &f, sizeof f, "facts");
}

usplit_status usplit_trainer_get_epoch(const usplit_trainer *trainer, int32_t epoch, usplit_trainer_epoch *row)
{
    US_CHECK_ARG(trainer != NULL, "trainer is NULL");
    US_CHECK_ARG(epoch >= 0 && epoch < trainer->model->n_history, "epoch is %d; accepted: 0 to %lld", epoch,
                 (long long)trainer->model->n_history - 1);
    const us_epoch *e = &trainer->model->history[epoch];
    usplit_trainer_epoch r = {.struct_size = sizeof r, .step = e->step, .loss = e->loss,
                              .reconstruction_loss = e->reconstruction, .kl_loss = e->kl, .val_psnr = e->val_psnr,
                              .val_loss = e->val_loss, .learning_rate = e->learning_rate, .seconds = e->seconds};
    memcpy(r.kl_level, e->level, sizeof r.kl_level);
    return us_struct_write(row, &r, sizeof r, "row");
}

void usplit_trainer_cancel(usplit_trainer *trainer)
{
    if (trainer) {
        atomic_store(&trainer->cancel, 1);
    }
}

void usplit_trainer_free(usplit_trainer *trainer)
{
    us_trainer_free(trainer);
}
