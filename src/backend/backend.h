// What a backend is: it compiles a plan once and runs it many times. The CPU one (src/cpu) is linked in, the
// CUDA one (cuda/) is opened when a context asks for it (device.c).
// Nothing outside src/backend, src/train, src/tile and src/api calls through the table.
#ifndef US_BACKEND_H
#define US_BACKEND_H

#include "base/context.h"
#include "kernels/place.h"
#include "plan/plan.h"

typedef struct us_exec us_exec;

// One pyramid level of a frame: all of its rows, or a window of them.
typedef struct us_rows {
    const float *data;          // [channels][rows][width], channels `stride` floats apart; NULL: not needed
    int64_t stride, height, width;      // height and width of the whole level
    int64_t first, rows;        // the rows that data holds
} us_rows;

// Images that a backend may take to its device, to cut patches there (data 3.1 to 3.4).
typedef struct us_images {
    int64_t frames;
    int levels, channels, size; // size: of a patch, pixels
    us_rows (*rows)(void *user, int64_t frame, int level);
    void *user;
    int reflect;                // 0: constant padding
    float padding_value, mean, inverse_deviation;
    const float *target_mean, *target_inverse_deviation;    // [channels]; NULL: no targets
    int held;                   // channels in the memory of a frame, where they are not `channels`; 0: they are
    int exact;                  // 1: context centred between pixels (kernels/place.h)
    int mixed;                  // training, 1: patches may be any us_place; 0: the mean of its first channel's place
} us_images;

// A band of tiles on the device: what predicted tiles are put together in (data 5.4, 5.5).
typedef struct us_band {
    int64_t y;                  // of the image, first row of the band
    int64_t rows, width;        // pixels
    int pad, samples;           // a tile begins `pad` pixels inside its patch
    float gain[USPLIT_MAX_CHANNELS], offset[USPLIT_MAX_CHANNELS];
} us_band;

// One training iteration, or one patch predicted by one worker.
typedef struct us_run {
    uint64_t seed;              // training: of dropout and noise (with step and sample); prediction: of noise
    int64_t step;               // training: step number. Prediction: number of the posterior sample
    int samples;                // training: how many of the plan's batch there are; 0: all
    int first;                  // training: number of the first one, which keys its draws and is given to fill
    int mean_latents;           // 1: every latent at its mean (no noise)
    int64_t tile_y, tile_x;     // prediction: absolute position of the patch corner, pixels: keys the noise
    const float *const *noise;  // NULL, or per level the noise to use, [sample][h][w][z]
    const us_place *places;     // training, after `attach`: [samples], instead of fill
    // Fills the inputs of one sample: levels[k] is [size][size] (NULL: not needed), target [size][size][K]
    // (NULL in prediction). Called from worker threads.
    usplit_status (*fill)(void *user, int sample, float *const *levels, float *target);
    // Losses of a graph whose losses are EXTERN: outputs[i] of one sample -> gradients[i] and the sample's loss. Called
    // on the calling thread.
    usplit_status (*loss)(void *user, int sample, const float *const *outputs, float *const *gradients, double *loss);
    void *user;
} us_run;

typedef struct us_losses {
    double loss, reconstruction, kl;            // networks 5.2 to 5.4
    double channel[USPLIT_MAX_CHANNELS];        // mean NLL per target channel
    double level[USPLIT_MAX_LEVELS];            // mean KL per element and level, after free bits
} us_losses;

// A training's arrays in host memory, flat like the parameters.
typedef struct us_trained {
    float *params, *m, *u;
} us_trained;

// What the steps of a training have added up to since us_iterate_begin (iterate.h).
typedef struct us_tally {
    int64_t updates, skipped, counted;          // optimiser steps ever; steps left out; steps in the sums
    double sum_loss, sum_reconstruction, sum_kl, sum_level[USPLIT_MAX_LEVELS];
    us_losses losses;                           // of the last step
    double gradient_norm;                       // of the last step; NaN where the loss was not finite
    double loss_scale;                          // fp16 training (data 4.4); 1: none
    int64_t good_steps;                         // since the loss scale changed
} us_tally;

typedef struct us_update {
    double lr, clip_norm;                       // clip_norm 0: no clipping
} us_update;

typedef struct us_backend {
    const char *name;
    int layout;                 // of the plans it takes, US_LAYOUT_*
    int tile_batch;             // patches of 64 x 64 it predicts at a time best, and at most: the batch of a
                                // prediction's plan
    int workers;                // that predict side by side best; 0: as many as the pool has threads
    // Words for usplit_context_facts.engine.
    void (*describe)(char *text, size_t size);
    // Run once on every thread of the context's pool; may be NULL.
    void (*thread_enter)(void);
    // plan stays the caller's and must outlive the executable. workers: that predict side by side.
    usplit_status (*compile)(us_exec **out, usplit_context *context, const us_plan *plan, int workers);
    // Bytes an executable of the plan will hold for its activations, before it is compiled; NULL:
    // us_plan_arena_bytes.
    int (*element_bytes)(const usplit_context *context);    // of an activation; NULL: 4
    int64_t (*plan_bytes)(const usplit_context *context, const us_plan *plan, int workers);
    void (*release)(us_exec *exec);
    // Takes over the parameters: packs weights, running statistics. Call when they have changed.
    usplit_status (*prepare)(us_exec *exec, const float *params);
    // Training: forward, losses, backward. Gradients go to grads (flat, like the parameters); a loss that is
    // not finite stops before the backward pass (*losses says so). Batch statistics stay inside until
    // update_statistics.
    usplit_status (*train)(us_exec *exec, const us_run *run, us_losses *losses, float *grads);
    // Running mean and variance of batch normalisation after a training run (networks 1.3).
    void (*update_statistics)(us_exec *exec, float *params);
    // Prediction of n patches (at most the plan's batch) by `worker`: heads[i] points at the wanted window
    // [h][w][2K] of runs[i], valid until the worker's next run. mean_latents and step are those of runs[0].
    usplit_status (*predict)(us_exec *exec, int worker, int n, const us_run *runs, const float **heads);
    // After a run: full values of a node asked for in the plan's outputs, [h][w][c] of one sample.
    const float *(*output)(const us_exec *exec, int sample, int node);
    // Sum slots of one sample after a run in training (plan.h: loss_sums, kl_sums).
    const double *(*sums)(const us_exec *exec, int sample);
    // Sum of squares of trained parameters' gradients, and one Adamax step over them (data 4.2):
    // g is first multiplied by `scale`.
    usplit_status (*gradient_norm)(us_exec *exec, const float *grads, double *norm);
    usplit_status (*adamax)(us_exec *exec, float *params, const float *grads, float *m, float *u, double lr,
                            int64_t t, double scale);
    // Training: takes the images to the device where they fit (*taken = 1); runs then name places. NULL: never.
    usplit_status (*attach)(us_exec *exec, const us_images *images, int *taken);
    // Prediction of a band on the device: between begin and end, predict cuts patches from the images of begin at
    // tile_y, tile_x (fill is not called, heads are not written) and adds the tiles up; end
    // fetches the grey levels [channels][rows][width]; NULL: nothing is fetched (after a failure). No band_begin:
    // tiles go through fill and heads.
    usplit_status (*band_begin)(us_exec *exec, const us_images *images, const us_band *band);
    usplit_status (*band_end)(us_exec *exec, float *band);
    int64_t (*bytes)(const us_exec *exec);      // memory it holds: arena, packed weights, scratch
    int64_t (*device_bytes)(const us_exec *exec);   // of it, on a device; NULL: none
    // Training with everything on a device; NULL: iterate.c makes a step of the functions above. begin takes the
    // arrays and the tally over; step may return before the step has run; sync waits, brings the tally up to date
    // and, with arrays != 0, the arrays of begin.
    usplit_status (*begin)(us_exec *exec, const us_trained *arrays, const us_tally *tally);
    usplit_status (*step)(us_exec *exec, const us_run *run, const us_update *update);
    usplit_status (*sync)(us_exec *exec, us_tally *tally, int arrays);
} us_backend;

extern const us_backend us_backend_cpu;

#endif
