// The definition of every op, and a runner over a whole graph, in plain double precision: simple loops that
// say what the fast backend must compute. Slow on purpose; for tests and for finding which step deviates.
// Values and gradients of a node are [N][h][w][c]; parameters keep their published layout and are float.
#ifndef US_REF_H
#define US_REF_H

#include "plan/plan.h"

// One op with all it works on. The forward fields stay as they were for the backward pass.
typedef struct us_ref_op {
    const us_graph *graph;
    const us_node *node;
    int batch, train;           // train: BNORM takes the statistics of the batch
    const float *params;        // flat, offsets in graph->params
    const double *in[3];
    const double *eps;          // LATENT, KL: standard normal numbers [N][h][w][z]; NULL: zero
    const double *mask;         // DROPOUT: multipliers [N][c], DROP: [N][h][w][c]; NULL: identity
    double *mean, *var;         // BNORM: statistics in use (biased variance), written by the forward pass
    double *out;                // not written for INPUT and TARGET
    const double *g;            // gradient of out
    double *g_in[3];            // added to; NULL: not wanted. TARGET never gets one
    double *grads;              // of the parameters, flat, added to
} us_ref_op;

void us_ref_forward(const us_ref_op *op);
void us_ref_backward(const us_ref_op *op);
void us_ref_spatial(const us_ref_op *op, int backward);     // ref_spatial.c: the ops of kernels/spatial.h

// Standard deviation of a latent from its raw log-variance, and its derivative (networks 1.10).
double us_ref_sigma(double r, double clip);
double us_ref_sigma_slope(double r, double clip);

typedef struct us_ref us_ref;

typedef struct us_ref_losses {
    double loss, reconstruction, kl;            // networks 5.2 to 5.4
    double channel[USPLIT_MAX_CHANNELS];        // mean NLL per target channel
    double level[USPLIT_MAX_LEVELS];            // mean KL per element and level, after free bits
} us_ref_losses;

// train: batch statistics, losses with KL. Inputs, target and noise are zero until filled.
usplit_status us_ref_create(us_ref **out, const us_allocator *a, const us_graph *graph, int batch, int train);
void us_ref_free(us_ref *ref);

// To be filled by the caller. NULL: the graph has no such level.
double *us_ref_input(us_ref *ref, int level);       // [N][size][size]
double *us_ref_target(us_ref *ref);                 // [N][size][size][K]
double *us_ref_noise(us_ref *ref, int level);       // [N][h][w][z]; zero: latents at their mean

// Dropout multipliers of a training step, as every backend draws them. Without this call: no dropout.
void us_ref_draw_masks(us_ref *ref, uint64_t seed, int64_t step);

// All nodes and the losses of networks 5.2 to 5.4; losses may be NULL when not training.
void us_ref_run_forward(us_ref *ref, const float *params, double kl_weight, double free_bits,
                        us_ref_losses *losses);

// After us_ref_run_forward in training. grads is flat like the parameters and written whole; has_grad
// [n_params] tells which parameters take part in the loss.
void us_ref_run_backward(us_ref *ref, const float *params, double *grads, unsigned char *has_grad);

const double *us_ref_value(const us_ref *ref, int node);
const double *us_ref_gradient(const us_ref *ref, int node);

// Entries of running statistics and counters as they are after this forward pass (networks 1.3); others are
// left alone. after is flat like the parameters.
void us_ref_statistics(const us_ref *ref, const float *params, double *after);

#endif
