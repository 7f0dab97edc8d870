// The steps that move values between pixels (plan.h: us_spatial), for the whole batch at once. Plain C.
#ifndef US_CUDA_SPATIAL_H
#define US_CUDA_SPATIAL_H

#include "plan/plan.h"

#include "program.h"

#ifdef __cplusplus
extern "C" {
#endif

// Tensors are device pointers to sample 0, element type of env->half, [batch][h][w][c] without gaps: src has the
// window s->in, dst the window s->out. planes: of SCAN, float [4][h][w]. One definition with us_spatial_run of src/cpu.
const char *us_cu_spatial(struct us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                          const void *src, void *dst);

// The adjoint, on full planes: g, gradient of the output -> dst, gradient of the input. x: the input (POOL, SCAN);
// y: the output, partial: gradient of the planes [batch][h][w][4], which is written (SCAN).
const char *us_cu_spatial_back(struct us_stream *stream, const us_cu_env *env, const us_spatial *s,
                               const float *planes, const void *g, const void *x, const void *y, void *dst,
                               void *partial);

#ifdef __cplusplus
}
#endif
#endif
