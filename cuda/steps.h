// The launches of a run that are neither convolutions nor elementwise programs (steps.cu). Plain C.
#ifndef US_STEPS_H
#define US_STEPS_H

#include "program.h"

#ifdef __cplusplus
extern "C" {
#endif

// One parameter array in device layout: offsets are multiples of 64 elements, weights of convolutions are
// [A][k][k][B] (conv.h), everything else as published.
typedef struct us_cu_param {
    int64_t at, count;
    int64_t host;               // offset in the model's flat array
    int32_t a, b, taps;         // weights: published (a, b, taps); b = taps = 1: layout is the same
    int32_t weight_gradient;    // 1: its gradient is in `weight_grads` (element type), 0: in `grads` (float)
    int32_t trained;            // takes part in the loss and is not a running statistic
    int32_t reserved;
} us_cu_param;

typedef struct us_cu_bn_running {   // running statistics of one batch normalisation
    int32_t later;              // a later one of the same statistics, which are moved in that order; 0: none
    int32_t shared;             // 1: an earlier one has moved them
    int64_t mean, var, counter, gamma, beta;    // offsets in params
    int64_t count;              // values per sample
    int32_t c, moments;         // offset of mean[c], var[c] in `moments`
    int32_t scale, shift;       // offsets in the vector store (prediction)
} us_cu_bn_running;

typedef struct us_cu_mask {
    int32_t c, stride;          // channels; floats per sample in the vector store
    int64_t at;                 // offset in the vector store
} us_cu_mask;

enum { US_CU_LOSSES = 4 };

typedef struct us_cu_loss_level {
    int32_t slot, c;            // sum slots of the KL per latent channel; slot -1: the level has none
    int64_t elements;           // z * h * w
} us_cu_loss_level;

typedef struct us_cu_loss_part {
    int32_t slot, channels;     // sum slots of a reconstruction loss, per channel
    int64_t pixels;             // of its output
    double weight;
} us_cu_loss_part;

typedef struct us_cu_loss {
    int32_t levels, n_kl, n_parts, reserved;
    us_cu_loss_part part[US_CU_LOSSES];         // the first is the prediction's own; at least one
    double kl_weight, free_bits;
    us_cu_loss_level level[US_CU_LEVELS];
} us_cu_loss;

// Everything the optimiser works on; device pointers, n_floats elements each in device layout.
typedef struct us_cu_optimiser {
    const us_cu_param *table;   // [n_params]
    int32_t n_params, half;
    int64_t n_floats;           // of the device layout
    float *params, *m, *u;
    float *grads;               // float
    void *weight_grads;         // element type
    float *total;               // gradients summed over the parts of a batch (us_cu_accumulate); NULL: one part
    void *weights;              // copy of params in the element type that convolutions read; NULL in float32
    double *partials;           // room for us_cu_norm_partials()
    unsigned *counter;          // zero between runs
    float dropout;
} us_cu_optimiser;

// env, loss and o are host structs, copied into the launch; masks, bn, o->table and everything else that a pointer
// leads to lie on the device. o->table is in the order of `at`; the arrays begin at multiples of 16 bytes.

// Dropout multipliers of all samples into the vector store (us_draw_mask, kernels/elem.h).
const char *us_cu_draw_masks(struct us_stream *s, const us_cu_env *env, const us_cu_mask *masks, int n_masks,
                             float p);
// sums -> losses into *state, KL weights times the loss scale (networks 5.2 to 5.4). One definition with
// us_exec_loss of src/cpu.
const char *us_cu_loss_run(struct us_stream *s, const us_cu_env *env, const us_cu_loss *loss, us_cu_state *state,
                           float *kl_weight);
// Gradient of the top prior: src [batch][h * w][c] of the element type, offset `at`, -> grads (c, y, x).
const char *us_cu_sum_prior(struct us_stream *s, const us_cu_env *env, int64_t at, int64_t stride, int c, int64_t hw,
                            int64_t grad);
// A batch in parts: adds this part's share of the gradients to o->total and of the losses to *state.
const char *us_cu_accumulate(struct us_stream *s, const us_cu_optimiser *o, const us_cu_run *run, us_cu_state *state);
// Norm of the trained gradients over the loss scale; decides whether the step counts; moves the loss scale
// (half only: doubled after 2000 good steps, halved after a bad one); counts into *state.
const char *us_cu_norm(struct us_stream *s, const us_cu_optimiser *o, const us_cu_run *run, us_cu_state *state);
int64_t us_cu_norm_partials(const us_cu_optimiser *o);      // doubles
// One Adamax step over all parameters (data 4.2) and the copy in the element type, where state->ok.
const char *us_cu_adamax(struct us_stream *s, const us_cu_optimiser *o, const us_cu_run *run,
                         const us_cu_state *state);
// Running statistics after a step that counted (networks 1.3).
const char *us_cu_running(struct us_stream *s, const us_cu_bn_running *bn, int n_bn, const us_cu_run *run,
                          const us_cu_state *state, const double *moments, float *params);
// Prediction: running statistics -> scale and shift.
const char *us_cu_running_coefficients(struct us_stream *s, const us_cu_bn_running *bn, int n_bn,
                                       const float *params, float *vec);
// The copy of the parameters in the element type.
const char *us_cu_copy_weights(struct us_stream *s, const us_cu_optimiser *o);
// dst += src, n elements of the element type; no sample active: nothing.
const char *us_cu_add(struct us_stream *s, const us_cu_env *env, const void *src, void *dst, int64_t n);
// Floats (inputs, targets) -> arena elements, and back.
const char *us_cu_to_elements(struct us_stream *s, const float *src, void *dst, int64_t n, int half);
const char *us_cu_to_floats(struct us_stream *s, const void *src, float *dst, int64_t n, int half);

#ifdef __cplusplus
}
#endif
#endif
