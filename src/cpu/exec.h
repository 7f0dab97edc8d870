// The CPU executable: a plan with its memory, convolutions and packed weights.
#ifndef US_EXEC_H
#define US_EXEC_H

#include "backend/backend.h"
#include "cpu/conv.h"
#include "cpu/map.h"
#include "cpu/weight.h"

typedef struct us_exec_conv {
    us_conv_op *forward, *back;
    us_conv_op *weight;             // NULL: our own kernel, cpu/weight.h
    int own_weight;
    float *packed_forward, *packed_back, *bias;
} us_exec_conv;

struct us_exec {
    usplit_context *context;
    const us_allocator *a;
    const us_plan *plan;
    int workers, samples;           // samples: batch in training, 0 in prediction
    int active;                     // samples of this run, at most `samples`: an epoch's last batch may be short
    us_map_fn map;
    us_weight_fn weight;
    us_conv_engine *engine;
    us_exec_conv *convs;
    float *sample_arena;            // [samples][plan->sample_floats]
    float *worker_arena;            // [workers][plan->worker_floats]
    float *scratch;                 // [workers][scratch_floats], for the convolutions
    float *registers;               // [workers][max_regs][block]
    float *vec;                     // vector store
    double *sums;                   // [samples][n_sums]
    double *moments;                // per bnorm: mean[c], variance[c] of the last training run
    int64_t *moments_at;            // [n_bnorms] offset into moments
    float *kl_weight;               // [samples][USPLIT_MAX_LEVELS]
    double *squares;                // [n_params], of the gradient norm
    const float *params;
    float *grads;
    int64_t scratch_floats;
    int block;
    int64_t bytes;
};

// exec_stats.c: the barrier steps.
void us_exec_bn(us_exec *exec, const us_bnorm *b);
void us_exec_bn_back(us_exec *exec, const us_bnorm *b);
void us_exec_loss(us_exec *exec, us_losses *losses);
usplit_status us_exec_sum_weight(us_exec *exec, const us_step *step, int worker);
usplit_status us_exec_sum_prior(us_exec *exec, const us_step *step);
void us_exec_update_statistics(us_exec *exec, float *params);
void us_exec_running_statistics(us_exec *exec);
usplit_status us_exec_gradient_norm(us_exec *exec, const float *grads, double *norm);
usplit_status us_exec_adamax(us_exec *exec, float *params, const float *grads, float *m, float *u, double lr,
                             int64_t t, double scale);

static inline float *us_exec_tensor(const us_exec *e, int sample, int worker, int tensor)
{
    const us_tensor *t = &e->plan->tensors[tensor];
    return (t->per_worker ? e->worker_arena + worker * e->plan->worker_floats
                          : e->sample_arena + sample * e->plan->sample_floats) + t->offset;
}

#endif
