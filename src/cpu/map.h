// Runs elementwise programs (plan.h) on one sample: blocks of pixels x channels that stay in the first
// cache, one vectorised loop per operation. Compiled once per instruction set (map_isa.c), chosen here.
#ifndef US_MAP_H
#define US_MAP_H

#include "plan/plan.h"

typedef struct us_map_env {
    const us_plan *plan;
    float *sample_base, *worker_base;   // arenas of this sample and this worker
    const float *params;
    const float *vec;                   // vector store
    int sample;
    double *sums;                       // [plan->n_sums] of this sample
    const float *kl_weight;             // [level] of this sample
    float batch_scale;                  // planned over actual samples: corrects the 1/batch in the loss gradient
    uint64_t stream;                    // of the latent noise
    uint64_t drops;                     // of the dropout of single elements
    int mean_latents;
    int64_t noise_y[USPLIT_MAX_LEVELS], noise_x[USPLIT_MAX_LEVELS];  // absolute cell of (0, 0)
    const float *noise[USPLIT_MAX_LEVELS];  // given noise of this sample [h][w][z], or NULL
    float *registers;                   // plan->max_regs blocks
    int block;                          // us_map_block(plan)
} us_map_env;

typedef void (*us_map_fn)(const us_program *program, us_map_env *env);

// The best of this machine's instruction sets that this build has, and its name.
us_map_fn us_map_select(const char **name);

// Floats of one register.
int us_map_block(const us_plan *plan);

static inline float *us_map_tensor(const us_map_env *env, const us_tensor *t)
{
    return (t->per_worker ? env->worker_base : env->sample_base) + t->offset;
}

#endif
