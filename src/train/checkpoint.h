// A model, and what a training needs to go on, as entries of a checkpoint file (docs/checkpoint-format.md).
#ifndef US_CHECKPOINT_H
#define US_CHECKPOINT_H

#include "net/model.h"

enum { US_CHECKPOINT_FORMAT = 1 };

// Everything of a trainer that is not in the model. m and u: flat, like the parameters.
typedef struct us_training_state {
    float *m, *u;
    int64_t step, updates, skipped, epoch, item;    // item: patches of the epoch already drawn
    int64_t schedule_bad, early_bad, best_epoch, stopped_early;
    double learning_rate, schedule_best, early_best, best_val_psnr;
    double epoch_loss, epoch_reconstruction, epoch_kl;  // sums over the epoch's steps so far
    double epoch_level[USPLIT_MAX_LEVELS];              // likewise, KL per level
    int64_t epoch_steps;
    double loss_scale;                                  // fp16 training (data 4.4)
    int64_t good_steps;                                 // since it changed
    double seconds;
    // What the training was made with: resuming with other values is refused.
    int64_t seed, batch, n_items, steps_per_epoch;
} us_training_state;

// state NULL: the model alone.
usplit_status us_checkpoint_write(const usplit_model *model, const us_training_state *state, const char *file);

// A new model from a file.
usplit_status us_checkpoint_load(usplit_model **out, usplit_context *context, const char *file);

// Parameters, record and training state into an existing model of the same architecture; m and u of the
// state must have room, and seed, batch, n_items and steps_per_epoch must be those of the file. Nothing is
// changed unless everything could be read.
usplit_status us_checkpoint_resume(usplit_model *model, us_training_state *state, const char *file);

#endif
