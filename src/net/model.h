// The model behind usplit_model: configuration, parameters, normalisation, training record. Made by
// src/api/api_model.c, read by tilers, changed by a trainer.
#ifndef US_MODEL_H
#define US_MODEL_H

#include "base/context.h"
#include "net/graph.h"

// One finished epoch of training.
typedef struct us_epoch {
    int64_t step;
    double loss, reconstruction, kl, val_psnr, val_loss, learning_rate, seconds;
    double level[USPLIT_MAX_LEVELS];    // KL per element; NaN: not known, or no KL there
} us_epoch;

struct usplit_model {
    atomic_int refs;
    usplit_context *context;
    us_graph *graph;                // for the training size
    float *params;                  // flat, graph->n_floats
    int has_normalisation;
    usplit_model_normalisation normalisation;
    int64_t epochs, steps;          // trained
    double best_val_psnr;           // NaN: not trained
    us_epoch *history;              // [epochs]
    int64_t n_history, cap_history;
    float *selftest_input;          // [1 + lc_count][patch][patch], NULL: none
    float *selftest_output;         // [patch][patch][2K]
    int64_t edits;                  // changes of params by hand: a trainer's backend may hold copies
    int trainers;                   // alive: 0 or 1
};

usplit_model *us_model_retain(usplit_model *model);
void us_model_release(usplit_model *model);
usplit_status us_model_new(usplit_model **out, usplit_context *context, const us_net_config *config);
usplit_status us_model_add_epoch(usplit_model *model, const us_epoch *epoch);

#endif
