// Convolutions of the CPU backend: one object per convolution of a plan and direction, run by any worker
// on one sample. Implemented over oneDNN (2.6 and 3.x) in dnnl_conv.c, the only file that includes it.
#ifndef US_CONV_H
#define US_CONV_H

#include "base/alloc.h"
#include "base/status.h"
#include "plan/plan.h"

enum { US_CONV_FORWARD, US_CONV_BACK, US_CONV_WEIGHT };

typedef struct us_conv_engine us_conv_engine;   // one per executable
typedef struct us_conv_op us_conv_op;

usplit_status us_conv_engine_create(us_conv_engine **out, const us_allocator *a, int workers);
void us_conv_engine_free(us_conv_engine *engine);
void us_conv_describe(char *text, size_t size);

// The library below would start threads of its own: these make this thread run it alone, and undo it.
int us_conv_enter(void);
void us_conv_leave(int saved);

usplit_status us_conv_op_create(us_conv_op **out, us_conv_engine *engine, const us_conv *conv, int direction);
void us_conv_op_free(us_conv_op *op);
int64_t us_conv_op_weight_floats(const us_conv_op *op);     // of the packed weights or weight gradient
int64_t us_conv_op_scratch_floats(const us_conv_op *op);

// Packed weights live where the caller says, for good.
usplit_status us_conv_op_bind(us_conv_op *op, float *packed, float *bias);
usplit_status us_conv_op_pack(us_conv_op *op, int worker, const float *weights);

// FORWARD: src, dst. BACK: src is the gradient of the output, dst that of the input.
usplit_status us_conv_op_run(us_conv_op *op, int worker, const float *src, float *dst, float *scratch);
// WEIGHT: src and the gradient of the output -> partial (packed weight gradient, then bias gradient).
usplit_status us_conv_op_run_weight(us_conv_op *op, int worker, const float *src, const float *grad, float *partial,
                                    float *scratch);
// A packed weight gradient in the published layout.
usplit_status us_conv_op_unpack(us_conv_op *op, int worker, float *partial, float *weights, float *bias);

#endif
