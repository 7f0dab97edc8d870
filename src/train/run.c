// The loop: steps until a limit, progress, cancel.
#include <math.h>
#include <stdio.h>

#include "train/trainer.h"

usplit_status us_trainer_report(usplit_trainer *t, int32_t phase, int64_t done, int64_t total, int always)
{
    double now = us_trainer_clock();
    if (atomic_load(&t->cancel)) {
        US_FAIL(USPLIT_ERR_CANCELLED, "training was cancelled at step %lld", (long long)t->state.step);
    }
    if (!t->progress || (!always && now - t->last_report < 0.1)) {
        return USPLIT_OK;
    }
    t->last_report = now;
    US_TRY(us_trainer_refresh(t, 0));
    double elapsed = now - t->started, rate = elapsed > 0 ? (double)t->run_steps / elapsed : 0;
    usplit_progress p = {.struct_size = sizeof p, .phase = phase, .epoch = (int32_t)t->state.epoch, .done = done,
                         .total = total, .seconds_elapsed = elapsed, .seconds_left = -1,
                         .loss = t->state.epoch_steps ? t->state.epoch_loss / (double)t->state.epoch_steps : NAN,
                         .val_psnr = t->val_psnr, .best_val_psnr = t->state.best_val_psnr,
                         .learning_rate = t->state.learning_rate,
                         .patches_per_second = rate * t->options.batch};
    if (phase == USPLIT_PHASE_EPOCH && t->model->n_history) {
        p.epoch--;
        p.loss = t->model->history[t->model->n_history - 1].loss;
    }
    if (rate > 0 && t->run_total > 0) {
        p.seconds_left = (double)(t->run_total - t->run_steps) / rate;
    }
    if (t->options.max_seconds > 0) {
        double left = t->options.max_seconds - elapsed;
        p.seconds_left = p.seconds_left < 0 || left < p.seconds_left ? (left > 0 ? left : 0) : p.seconds_left;
    }
    if (t->progress(&p, t->progress_user)) {
        US_FAIL(USPLIT_ERR_CANCELLED, "training was stopped by the progress callback at step %lld",
                (long long)t->state.step);
    }
    return USPLIT_OK;
}

static int64_t steps_to_do(const usplit_trainer *t)
{
    int64_t n = ((int64_t)t->options.max_epochs - t->state.epoch) * us_trainer_steps_per_epoch(t) -
                t->state.item / t->options.batch;
    if (t->options.max_steps > 0 && t->options.max_steps - t->state.step < n) {
        n = t->options.max_steps - t->state.step;
    }
    return n > 0 ? n : 0;
}

static usplit_status loop(usplit_trainer *t)
{
    while (!us_trainer_finished(t)) {
        int64_t epoch = t->state.epoch;
        US_TRY(us_trainer_step(t));
        t->run_steps++;
        if (t->state.epoch != epoch) {
            US_TRY(us_trainer_report(t, USPLIT_PHASE_EPOCH, t->run_steps, t->run_total, 1));
        }
        US_TRY(us_trainer_report(t, USPLIT_PHASE_TRAIN, t->run_steps, t->run_total, 0));
        if (t->options.max_seconds > 0 && us_trainer_clock() - t->started >= t->options.max_seconds) {
            break;
        }
    }
    return USPLIT_OK;
}

usplit_status us_trainer_run(usplit_trainer *t, usplit_progress_fn progress, void *user)
{
    t->progress = progress;
    t->progress_user = user;
    t->started = us_trainer_clock();
    t->last_report = 0;
    t->run_steps = 0;
    t->run_total = steps_to_do(t);
    atomic_store(&t->cancel, 0);
    usplit_status status = loop(t);
    t->progress = NULL;
    if (status != USPLIT_OK && status != USPLIT_ERR_CANCELLED) {
        return status;
    }
    char message[512];          // cancelled or not, what was learnt is kept, and the reason stays the message
    snprintf(message, sizeof message, "%s", us_message_get());
    US_TRY(us_trainer_refresh(t, 1));
    if (t->last_file && t->state.item > 0) {
        US_TRY(us_trainer_save(t, t->last_file));
    }
    us_message_set(message);
    return status;
}
