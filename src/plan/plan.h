// A plan: the ordered steps of one training iteration or of one predicted patch, with every tensor at a
// fixed offset. Made from a graph without touching memory; run by a backend.
//
//   graph -> need.c   which window of every node the wanted pixels depend on (prediction)
//         -> lower.c, backward.c, value.c  rules of every op: convolutions, elementwise expressions, reductions
//         -> emit.c   programs: fusion and common subexpressions
//         -> place.c  phases, lifetimes, offsets
//
// Every sample is one task. Steps between two barriers (a phase) run sample by sample without waiting; a
// barrier step (batch statistics, loss, sums of gradients) sees all samples. A tensor that lives inside
// one phase lies in the worker's scratch, any other in the sample's part of the arena.
//
// That is the layout for a CPU. A device runs every step on the whole batch (US_LAYOUT_BATCH): a tensor is
// [batch][h][w][c] at `offset` times the batch, there is no worker scratch, the gradient of a weight is a
// sum over the batch at once, and that of a bias is a sum of the gradient's own program.
#ifndef US_PLAN_H
#define US_PLAN_H

#include "net/graph.h"
#include "plan/uops.h"

enum { US_PLAN_TRAIN = USPLIT_MODE_TRAIN, US_PLAN_PREDICT = USPLIT_MODE_PREDICT };
enum { US_LAYOUT_SAMPLES, US_LAYOUT_BATCH };

typedef struct us_rect {
    int y0, x0, h, w;
} us_rect;

typedef struct us_uop {
    us_uop_code code;
    int dst;                    // register written (-1: STORE, SUM, SUM2)
    int in[US_UOP_MAX_IN];
    int ref;                    // LOAD, STORE: tensor; NOISE: level; PARAM: parameter; MASK, DROP: layer;
                                // KL_*: level; SUM*: first sum slot
    int c0;                     // first channel in the tensor, vector, mask or noise
    int oy, ox;                 // place of the program's corner in the tensor / node
    int into;                   // -1, or the tensor that a following STORE writes the whole block to
    int vec[3];                 // AFFINE, AFFINE2: offsets in the vector store
    float k, k2;
} us_uop;

typedef struct us_program {
    int h, w, c;                // domain, per sample
    us_uop *ops;
    int n_ops, cap_ops;
    int n_regs;
} us_program;

typedef struct us_tensor {
    int c, h, w;                // extent held, channels last
    int y0, x0;                 // its corner in the node's coordinates
    int node_h, node_w;         // the node's full extent (outside: zero)
    int64_t floats;             // per sample
    int64_t offset;             // floats, in the sample's or the worker's arena
    int first, last;            // steps
    int per_worker;             // 1: lives inside one phase
    int external;               // 1: filled by the caller before the first step (inputs, target)
    int output;                 // 1: read by the caller after the last step
    int kept;                   // 1: lives across the end of the forward pass
} us_tensor;

typedef struct us_conv {
    int node;
    int transposed;
    int ci, co, k, stride, pad;
    int weight, bias;           // parameter numbers, bias -1: none; the first co output channels are used
    us_rect in, out;            // windows computed (in prediction), in node coordinates
    int in_h, in_w, out_h, out_w;    // full extents
    int input_grad;             // training: is the gradient of its input wanted
    int64_t partial_floats;     // room for one sample's weight and bias gradient
    int bias_sums;              // batch layout: sum slots of the bias gradient; -1: none
    int adds_up;                // 1: its weight gradient is added to that of an earlier step (shared parameters)
} us_conv;

// An op that moves values between pixels: POOL, LINEAR, NEAREST, REFLECT, SCAN, LEVEL (kernels/spatial.h).
typedef struct us_spatial {
    int node;
    us_op op;
    us_rect in, out;            // windows held (in prediction), in node coordinates
    int in_h, in_w, out_h, out_w;   // full extents
    int c;                      // channels of the input
    int k, dy, dx;              // as in us_node; REFLECT: k is the pad
    int weight;                 // SCAN: parameter number; -1
    int scanned, partial;       // SCAN, backward: tensors of the forward output (read) and of the planes' gradient
                                // [h][w][4] of one sample (written); -1
} us_spatial;

// Vector store: floats shared by all samples (batch-norm coefficients), then masks [mask][sample][c].
typedef struct us_bnorm {
    int node, c;
    int gamma, beta, mean, var, counter;    // parameters
    int64_t count;                          // H * W per sample
    int scale, shift;                       // y = scale * x + shift
    int inverse, centre;                    // xh = inverse * x + centre
    int ga, gb, gc;                         // dx = ga * g + gb * xh + gc
    int sums, grad_sums;                    // first of 2C sum slots each
    int adds_up;                            // 1: as in us_conv
} us_bnorm;

typedef struct us_mask {
    int c;
    int64_t offset;             // floats, in the vector store: [sample][c]
} us_mask;

typedef enum us_step_kind {
    US_STEP_MAP,                // per sample: program `index`
    US_STEP_CONV,               // per sample: convolution `index`, src -> dst
    US_STEP_CONV_BACK,          // per sample: gradient src of the output -> gradient dst of the input
    US_STEP_CONV_WEIGHT,        // per sample: input src, gradient src2 -> partial weight gradient dst; in the
                                // batch layout -> the weight gradient itself, dst -1
    US_STEP_SPATIAL,            // per sample: spatial op `index`, src -> dst
    US_STEP_SPATIAL_BACK,       // per sample: gradient src of the output, input src2 (-1: not needed) -> gradient dst
    US_STEP_BN,                 // barrier: batch statistics of bnorm `index` -> scale, shift
    US_STEP_BN_BACK,            // barrier: gradient sums -> dgamma, dbeta, coefficients
    US_STEP_LOSS,               // barrier: losses and KL weights; the forward pass ends here
    US_STEP_SUM_WEIGHT,         // barrier: partial gradients src of convolution `index` added over samples
    US_STEP_SUM_PRIOR           // barrier: gradient src [h][w][c] of parameter `index` (..., c, h, w) added over
                                // samples
} us_step_kind;

static inline int us_step_is_barrier(us_step_kind kind)
{
    return kind >= US_STEP_BN;
}

typedef struct us_step {
    us_step_kind kind;
    int index;
    int src, src2, dst;         // tensors, -1: none
    int phase;
} us_step;

typedef struct us_plan_options {
    int mode;
    int layout;                 // US_LAYOUT_*
    int batch;                  // samples (training, batch layout); else prediction runs one sample per worker
    us_rect want;               // prediction: window of the head wanted; h = 0: all
    double kl_weight, free_bits;
    const int *outputs;         // nodes whose full values the caller wants to read afterwards
    int n_outputs;
} us_plan_options;

typedef struct us_plan {
    const us_allocator *a;
    const us_graph *graph;
    us_plan_options options;
    us_step *steps;
    int n_steps, cap_steps;
    int n_phases;
    int first_backward;         // step after LOSS; n_steps in prediction
    us_program *programs;
    int n_programs, cap_programs;
    us_tensor *tensors;
    int n_tensors, cap_tensors;
    us_conv *convs;
    int n_convs, cap_convs;
    us_bnorm *bnorms;
    int n_bnorms, cap_bnorms;
    us_spatial *spatials;
    int n_spatials, cap_spatials;
    us_mask *masks;
    int n_masks;
    int *input;                 // tensor of each INPUT level, -1: not needed
    int target;                 // tensor, -1
    int *node_tensor;           // outputs: tensor of each node asked for, -1 otherwise
    int loss_sums[US_MAX_LOSSES];               // sum slots of graph->losses, per channel; -1: EXTERN
    int kl_sums[USPLIT_MAX_LEVELS];             // sum slots: KL per latent channel
    int extern_out[US_MAX_LOSSES], extern_grad[US_MAX_LOSSES];  // EXTERN: tensors that the caller reads and fills; -1
    int n_sums;                 // doubles per sample
    int64_t n_vec;              // floats of the vector store
    int64_t sample_floats;      // arena per sample
    int64_t worker_floats;      // scratch per worker
    int64_t kept_floats;        // per sample, at the end of the forward pass
    int64_t macs;               // per sample, forward
    int max_regs;
    unsigned char *has_grad;    // [n_params]: is it trained by this plan
} us_plan;

usplit_status us_plan_build(us_plan **out, const us_allocator *a, const us_graph *graph,
                            const us_plan_options *options);
void us_plan_free(us_plan *plan);

// Does the barrier step add to what an earlier one has written? Then it waits for that.
static inline int us_plan_adds_up(const us_plan *plan, const us_step *step)
{
    return (step->kind == US_STEP_SUM_WEIGHT && plan->convs[step->index].adds_up) ||
           (step->kind == US_STEP_BN_BACK && plan->bnorms[step->index].adds_up);
}

// Bytes of arena for `workers` threads. In the batch layout every worker of a prediction holds a batch.
int64_t us_plan_arena_bytes(const us_plan *plan, int workers);

// One line per step.
void us_plan_print(const us_plan *plan, void (*line)(const char *text, void *user), void *user);

enum { US_BLOCK = 1024 };       // floats of one program register

#endif
