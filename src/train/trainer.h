// The training loop behind usplit_trainer: dataset -> patches -> plan -> losses -> optimiser -> checkpoint.
#ifndef US_TRAINER_H
#define US_TRAINER_H

#include "backend/iterate.h"
#include "data/dataset.h"
#include "net/model.h"
#include "train/checkpoint.h"

struct usplit_trainer {
    usplit_context *context;
    const us_allocator *a;
    usplit_model *model;
    usplit_dataset *dataset;
    usplit_trainer_options options;
    char *best_file, *last_file;
    us_plan *plan, *check_plan;         // training; prediction, for validation and the self-test
    us_exec *exec, *check;
    us_iterate iterate;
    int on_device;                      // 1: the frames are there too, patches are cut there
    us_place *places;                   // [batch] of a step
    us_drawing drawing;
    int begun;                          // 1: the backend has the arrays
    int64_t edits;                      // of the model's parameters that it knows of
    int stale, stale_arrays;            // 1: losses and counts, or the arrays, are behind what the backend did
    float *staging;                     // [batch][inputs]: patches on their way into the plan
    float *check_input, *check_target, *check_head;     // [validation group][...]
    int group;                          // validation patches at a time
    int check_batch, check_workers;     // of them together in a plan; workers of its executable
    us_training_state state;
    us_losses losses;                   // of the last step
    double gradient_norm, val_psnr, val_loss;
    atomic_int cancel;
    int busy;
    // of the running call
    usplit_progress_fn progress;
    void *progress_user;
    double started, last_report;
    int64_t run_steps, run_total;       // steps done and to do (0: unknown)
};

usplit_status us_trainer_create(usplit_trainer **out, usplit_model *model, usplit_dataset *dataset,
                                const usplit_trainer_options *options);
void us_trainer_free(usplit_trainer *trainer);
usplit_status us_trainer_resume(usplit_trainer *trainer, const char *file);
// One optimiser step, with validation and schedule when it ends an epoch.
usplit_status us_trainer_step(usplit_trainer *trainer);
// Losses, counts and, with arrays != 0, parameters and optimiser state as the steps so far left them.
usplit_status us_trainer_refresh(usplit_trainer *trainer, int arrays);
usplit_status us_trainer_run(usplit_trainer *trainer, usplit_progress_fn progress, void *user);
usplit_status us_trainer_save(usplit_trainer *trainer, const char *file);
int64_t us_trainer_steps_per_epoch(const usplit_trainer *trainer);
int us_trainer_finished(const usplit_trainer *trainer);

// validate.c: val_psnr and validation loss over the validation patches (data section 4.3).
usplit_status us_trainer_validate(usplit_trainer *trainer);

enum { US_VALIDATE_BATCH = 8 };          // patches predicted together, at most: they need memory beside the training

double us_trainer_clock(void);
// Tells the caller, at most ten times a second unless `always`; USPLIT_ERR_CANCELLED when it wants to stop.
usplit_status us_trainer_report(usplit_trainer *trainer, int32_t phase, int64_t done, int64_t total, int always);

#endif
