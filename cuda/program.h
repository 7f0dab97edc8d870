// A plan's elementwise programs as the device reads them, and what a run gives them. Made by tables.c from
// plan.h, interpreted by map.cu. Plain C.
//
// One launch runs one program on all samples. A block of threads works on one sample: a thread owns a group
// of `lanes` neighbouring channels and walks over pixels; its registers are `rows` of shared memory. Sums
// (US_U_SUM, US_U_SUM2) are kept per thread, then per block, written as partials
// [slot of the program][sample][block of the sample]; the last block to finish adds them up in a fixed order, sample by
// sample into `sums`, or over all samples for what waits for them: batch statistics (networks 1.3) and bias gradients,
// which it finishes. So a sum never depends on which block came first.
//
// A run may have fewer active samples than the batch. Convolutions go over all of them, and a weight's gradient is a
// sum over all: so programs store zeros for the others, and what is made of zeros stays finite, and zero in the
// backward pass.
#ifndef US_PROGRAM_H
#define US_PROGRAM_H

#include <stdint.h>

#include "kernels/philox.h"     // US_HD
#include "plan/uops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { US_CU_LEVELS = 16, US_CU_IN = 5, US_CU_LAST = -1 };

typedef struct us_cu_op {
    int16_t code;               // us_uop_code
    int16_t dst, in[US_CU_IN];  // registers; in: US_CU_LAST, the value made last; dst: -1, kept in no register
    int16_t level;              // NOISE, KL_*; DROP: the layer
    int32_t c0, oy, ox;         // first channel; place of the program's corner in the tensor
    int32_t t_c, t_h, t_w;      // LOAD, STORE: the tensor; PARAM: t_w values in a row
    int32_t vec[3];             // AFFINE, AFFINE2: offsets in the vector store; MASK: offset of mask and its stride
                                // per sample in vec[0], vec[1]. AFFINE's include c0, MASK's does not
    int32_t slot;               // SUM, SUM2: first slot in `sums`; acc: first accumulator row
    int32_t acc, part;          // part: first slot among the program's own (partials)
    int32_t square;             // SUM2: both inputs are one register
    int32_t finish;             // SUM, SUM2: number of what waits for them, of the program's; -1: nothing
    int64_t at;                 // LOAD, STORE: elements from the arena's start to sample 0; PARAM: offset in params
    int64_t stride;             // LOAD, STORE: elements per sample; PARAM: values per channel (h * w)
    float k, k2;
} us_cu_op;

// Sums that an op makes of every channel; 0: it is no sum. And the rows of their accumulators, as walk.h adds to them.
US_HD int us_cu_sum_kinds(const us_cu_op *op)
{
    return op->code == US_U_SUM2 ? 2 : op->code == US_U_SUM ? 1 : 0;
}

US_HD int us_cu_sum_rows(const us_cu_op *op)
{
    return op->square ? 3 : us_cu_sum_kinds(op);
}

typedef enum us_cu_finish_kind { US_CU_FINISH_BN, US_CU_FINISH_BN_BACK, US_CU_FINISH_BIAS } us_cu_finish_kind;

// What the last block does with total sums (over the active samples).
typedef struct us_cu_finish {
    int32_t kind, c;
    int32_t slot;               // first slot: BN: sum x, then sum x^2; BN_BACK: sum g (dbeta), then sum g * xh
                                // (dgamma); BIAS: sum g
    int32_t moments;            // BN: offset of mean[c], var[c] in `moments`
    int32_t scale, shift, inverse, centre, ga, gb, gc;      // offsets in the vector store
    int32_t adds_up;            // BN_BACK, BIAS: 1: parameters shared with an earlier finish, whose gradients it adds to
    int64_t gamma, beta;        // offsets in params; of their gradients in grads. BIAS: gamma is the bias
    int64_t count;              // values per sample
} us_cu_finish;

typedef struct us_cu_program {
    int32_t h, w, c;
    int32_t lanes;              // channels a thread works on at once: 8, or 1 where something is not divisible
                                // by 8: c, c0, t_c, at, stride of an op, vec[] of AFFINE and of MASK, channels of DROP
    int32_t first_op, n_ops;    // in the table of ops
    int32_t first_finish, n_finish;
    int32_t rows;               // rows of shared memory: registers, then accumulators; compiled: accumulators. A row
                                // is `lanes` floats for every thread of the block
    int32_t parts;              // slots of the program; 0: no sums
    int32_t threads;            // of a block
    int32_t blocks;             // of one sample
    int32_t counter;            // its arrival counter
    int32_t compiled;           // 1: it is a kernel of its own (kernels.h); 0: interpreted
} us_cu_program;

// What differs from sample to sample: keys of the noise.
typedef struct us_cu_sample {
    uint64_t stream;            // of the latent noise
    uint64_t drops;             // of the dropout of single elements
    int32_t y[US_CU_LEVELS], x[US_CU_LEVELS];   // absolute cell of (0, 0) per level
} us_cu_sample;

// What differs from run to run; written by the host before every run, lies in device memory.
typedef struct us_cu_run {
    int32_t active;             // samples of this run
    int32_t mean_latents;
    float batch_scale;          // planned over active samples
    float lr, clip_norm;        // optimiser; clip_norm 0: no clipping
    int32_t given;              // bit per level: its noise is given
    uint64_t seed;              // of dropout masks
    int64_t step;
    int32_t first;              // number of the first sample in its batch: a batch may be run in parts
    float share;                // of the batch that this part is
    int32_t part_first, part_last;
} us_cu_run;

// What the device keeps from step to step.
typedef struct us_cu_state {
    float loss_scale;           // gradients are multiples of it; 1 in float32 (data 4.4)
    int32_t good_steps;         // since the scale last changed
    int64_t updates, skipped, counted;      // counted: steps in the sums below
    double sum_loss, sum_reconstruction, sum_kl, sum_level[US_CU_LEVELS];
    // of the last step
    double loss, reconstruction, kl, channel[US_CU_LEVELS], level[US_CU_LEVELS];
    double norm;                // of the gradient, unscaled; NaN where the loss was not finite
    double mixed[3 + 2 * US_CU_LEVELS];         // losses of the parts so far, in the order above
    int32_t ok;                 // the optimiser changed the parameters
    float applied;              // what it multiplies raw gradients with: clipping over the scale they have
} us_cu_state;

// Everything a program sees. Pointers are to device memory.
typedef struct us_cu_env {
    const us_cu_op *ops;
    const us_cu_finish *finishes;
    const us_cu_run *run;
    const us_cu_state *state;
    const us_cu_sample *samples;            // [batch]
    void *arena;                            // float or half elements
    const float *params;                    // device layout (params.h)
    float *grads;                           // the same layout
    float *vec;
    double *sums;                           // [batch][n_sums]
    double *moments;
    double *partials;
    unsigned *counters;                     // one per program, zero between runs
    const float *kl_weight;                 // [batch][US_CU_LEVELS], times the loss scale
    const float *noise[US_CU_LEVELS];       // given noise [batch][h][w][z]
    int32_t noise_w[US_CU_LEVELS], noise_h[US_CU_LEVELS], noise_c[US_CU_LEVELS];
    int32_t batch, n_sums, half;
    float dropout;                          // probability, of DROP
} us_cu_env;

#ifndef __CUDACC_RTC__

struct us_stream;

// map.cu. Puts the program into the stream. The gradients' constants k of NLL_DM and NLL_DLV are multiplied by
// batch_scale and the loss scale. Returns 0 or a text (device.h).
const char *us_cu_map(struct us_stream *stream, const us_cu_program *program, const us_cu_env *env);

// Before the accumulators are numbered (from the registers on, or from 0 in a program to be compiled): an op that reads
// what the op before it made reads it as US_CU_LAST, a value that nobody reads later is kept nowhere, and the other
// registers are numbered anew. Returns how many there are. Programs run without it too, slower. Registers may be written
// more than once.
int us_cu_map_chain(us_cu_op *ops, int n_ops);

// Threads and blocks of a program for a device whose blocks may have shared_bytes of shared memory; fills threads
// and blocks. Doubles of partials it needs: parts * batch * blocks.
void us_cu_map_shape(us_cu_program *program, int batch, int processors, int64_t shared_bytes);

// Shared memory of a block, laid out as the program says.
int64_t us_cu_map_room(const us_cu_program *program);

#endif

#ifdef __cplusplus
}
#endif
#endif
