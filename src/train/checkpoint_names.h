// Names of checkpoint entries that writing and reading share, so that they cannot drift apart.
#ifndef US_CHECKPOINT_NAMES_H
#define US_CHECKPOINT_NAMES_H

#include "train/checkpoint.h"

enum {
    US_CHECKPOINT_N_CONFIG = 7,
    US_CHECKPOINT_N_CHOICES = 8,
    US_CHECKPOINT_N_STATE_I64 = 16,     // the last one came later: a file without it has 0
    US_CHECKPOINT_N_STATE_F64 = 9,
    US_CHECKPOINT_HISTORY_COLUMNS = 8
};

// In the order of us_net_config.
static const char *const us_checkpoint_config[US_CHECKPOINT_N_CONFIG] = {
    "model/family", "model/variant", "model/levels", "model/lc_count", "model/filters", "model/patch",
    "model/channels"};

// Choices that came later than the format: a file without one has the published value, 0 (blocks: 1).
static const char *const us_checkpoint_choices[US_CHECKPOINT_N_CHOICES] = {
    "model/blocks", "model/activation", "model/logvar", "model/merge", "model/kl", "model/latent_scale",
    "model/shared_branch", "model/ungated"};

// What the input is made of, and how its context is centred; later than the format, too. 0: as published.
enum { US_CHECKPOINT_N_INPUT = 2 };
static const char *const us_checkpoint_input[US_CHECKPOINT_N_INPUT] = {"normalisation/input", "normalisation/centring"};

static const char *const us_checkpoint_state_i64[US_CHECKPOINT_N_STATE_I64] = {
    "trainer/step", "trainer/updates", "trainer/skipped", "trainer/epoch", "trainer/item", "trainer/schedule_bad",
    "trainer/early_bad", "trainer/best_epoch", "trainer/stopped_early", "trainer/epoch_steps", "trainer/seed",
    "trainer/batch", "trainer/n_items", "trainer/steps_per_epoch", "trainer/good_steps", "trainer/drawing"};

static const char *const us_checkpoint_state_f64[US_CHECKPOINT_N_STATE_F64] = {
    "trainer/learning_rate", "trainer/schedule_best", "trainer/early_best", "trainer/best_val_psnr",
    "trainer/epoch_loss", "trainer/epoch_reconstruction", "trainer/epoch_kl", "trainer/seconds",
    "trainer/loss_scale"};

// The fields behind those names, in the same order.
typedef struct us_state_view {
    const int64_t *i64[US_CHECKPOINT_N_STATE_I64];
    const double *f64[US_CHECKPOINT_N_STATE_F64];
} us_state_view;

static inline us_state_view us_checkpoint_state_view(const us_training_state *s)
{
    us_state_view v = {
        {&s->step, &s->updates, &s->skipped, &s->epoch, &s->item, &s->schedule_bad, &s->early_bad, &s->best_epoch,
         &s->stopped_early, &s->epoch_steps, &s->seed, &s->batch, &s->n_items, &s->steps_per_epoch,
         &s->good_steps, &s->drawing},
        {&s->learning_rate, &s->schedule_best, &s->early_best, &s->best_val_psnr, &s->epoch_loss,
         &s->epoch_reconstruction, &s->epoch_kl, &s->seconds, &s->loss_scale}};
    return v;
}

#endif
