// The CUDA executable: a plan with its tables and memory on a device, its convolutions, and one pipe per
// worker: a stream with its own activations, staging memory and recorded graph.
//
//   exec.c    compile: memory, convolutions; the calls of the backend table
//   place.c   images on the device: frames of a training, bands of a tiled prediction
//   pipe.c    one pipe: filling the inputs, walking over the plan's steps, running the recording
#ifndef US_CUDA_EXEC_H
#define US_CUDA_EXEC_H

#include "backend/backend.h"
#include "choices.h"
#include "images.h"
#include "kernels.h"
#include "tables.h"

// What a context knows of its device; made by plugin.c, in tests by the test.
typedef struct us_cuda {
    us_device_facts facts;
    const us_cu_conv_table *convs;
    int half;                   // element type: 1 half, 0 float
    int deterministic, search;  // of the convolutions
    us_cu_choices *choices;     // of them, shared by the context's executables; NULL: each chooses for itself
    const us_cu_kernel_table *kernel_table;     // NULL: programs are interpreted
    us_cu_kernels *kernels;
} us_cuda;

enum { US_CUDA_SLOTS = 2, US_CUDA_INPUTS = US_MAX_LC + 1 };

// Host memory that one run is written to while the one before still runs.
typedef struct us_slot {
    us_cu_run *run;
    us_cu_sample *samples;
    us_cu_place *places;        // [2][batch]: where patches are cut, and where tiles go
    us_place *any;              // [batch]: instead of the first half, where the gather plan says so
    float *inputs;              // every external tensor [batch][floats], one after the other
    us_event *copied;           // the device has its copy
} us_slot;

typedef struct us_pipe {
    us_exec *exec;
    us_stream *stream;
    us_cu_engine *engine;
    us_cu_conv **forward, **back, **weight;     // [n_convs]
    int64_t workspace_bytes;
    char *block;                // its device memory, in one piece; the pointers below lie in it
    void *arena, *workspace;
    void *weight_part;          // gradient of a shared weight, before it is added
    float *inputs, *head, *kl_weight;
    double *sums, *partials;
    unsigned *counters;
    us_cu_run *run;
    us_cu_sample *samples;
    us_cu_place *places;
    us_place *any;
    us_cu_env env;
    us_slot slots[US_CUDA_SLOTS];
    int slot;                   // the next one
    char *pinned;               // host memory behind the slots and head_host
    float *head_host;           // prediction: [batch][floats of the head]
    us_recording *recording;    // of a run: everything after the copies
    us_recording *gathered;     // the same with inputs cut from images on the device
    us_recording *optimise;     // training: norm, Adamax, running statistics
} us_pipe;

// A batch that does not fit the memory is run in parts.
typedef struct us_part {
    float share;
    int first, last;
} us_part;

struct us_exec {
    usplit_context *context;
    const us_allocator *a;
    const us_plan *plan;
    const us_cuda *cuda;
    int batch, train, half, n_pipes;
    int64_t element;            // bytes
    us_cu_tables tables;
    us_cu_kernel **kernels;     // of each program; NULL: interpreted
    int external[US_CUDA_INPUTS], n_external;   // tensors filled by the caller
    int64_t external_at[US_CUDA_INPUTS];        // floats, in a slot's inputs
    int64_t input_floats;       // of all of them, whole batch
    // device memory shared by the pipes
    char *block;
    int64_t block_bytes, pipe_bytes, pinned_bytes;
    float *params, *m, *u, *grads, *vec;
    void *weights, *weight_grads;
    void *zeros;                // bias of the convolutions that have none
    float *total;               // gradients of a batch run in parts, made when the first such batch comes
    double *moments, *norm_partials;
    us_cu_op *ops;
    us_cu_finish *finishes;
    us_cu_param *d_params;
    us_cu_bn_running *d_bns;
    us_cu_mask *d_masks;
    us_cu_state *state;
    unsigned *counter;
    float *given[USPLIT_MAX_LEVELS];            // noise handed over by the caller; tests only
    us_pipe *pipes;
    // images on the device (place.c)
    float *images, *band_data;
    us_cu_plane *planes, *host_planes;          // [frames][levels]
    int64_t image_floats, n_planes, band_floats;
    us_cu_gather_plan gather;
    us_cu_stitch_plan stitch;
    us_band band;
    int in_band;
    // host
    float *staging;             // device layout, one array
    us_cu_state host_state;
    double *host_moments, *host_sums;
    float **values;             // [n_nodes] of outputs asked for: [batch][floats]
    us_trained arrays;
    int active;
    int n_plain;                // convolutions that run on plain kernels for want of an engine
};

// A text of device.h, conv.h or steps.h as this library's status; what: "training", ...
usplit_status us_cuda_check(const char *text, const char *what);
#define US_CUDA_TRY(call) US_TRY(us_cuda_check((call), #call))

static inline char *us_exec_element(const us_exec *e, const us_pipe *p, int tensor)
{
    return (char *)p->arena + e->plan->tensors[tensor].offset * e->batch * e->element;
}

us_cu_optimiser us_exec_optimiser(const us_exec *e);

// pipe.c
us_cu_shape us_pipe_shape(const us_conv *conv, int batch, int half);    // of a plan's convolution
int64_t us_pipe_shared_weights(const us_plan *plan);    // elements of the largest weight whose gradient is added to
int64_t us_pipe_head_floats(const us_plan *plan);       // of a batch; 0 in training
usplit_status us_pipe_make(us_pipe *pipe, us_exec *exec);
void us_pipe_free(us_pipe *pipe);
// Starts a run of n samples (training: runs[0] stands for all): fills the inputs, copies, launches. part: of a
// training step, which ends with the optimiser after the last part; NULL: forward and backward only.
usplit_status us_pipe_start(us_pipe *pipe, int n, const us_run *runs, const us_update *update, const us_part *part);
usplit_status us_pipe_wait(us_pipe *pipe);
// Records the optimiser anew: gradients of parts or of whole batches.
usplit_status us_pipe_record_optimiser(us_pipe *pipe);
// Records the run anew with inputs from exec->gather.
usplit_status us_pipe_record_gather(us_pipe *pipe);

// place.c
usplit_status us_exec_attach(us_exec *exec, const us_images *images, int *taken);
usplit_status us_exec_band_begin(us_exec *exec, const us_images *images, const us_band *band);
usplit_status us_exec_band_end(us_exec *exec, float *band);
void us_exec_drop_images(us_exec *exec);

extern const us_backend us_backend_cuda;

#endif
