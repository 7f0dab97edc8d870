// Spatial ops of a plan on the CPU: one sample, one thread. Tensors are channels-last and hold the windows of the op.
#ifndef US_CPU_SPATIAL_H
#define US_CPU_SPATIAL_H

#include "plan/plan.h"

// planes: parameter of a SCAN, (4, h, w); NULL otherwise.
void us_spatial_run(const us_spatial *s, const float *planes, const float *src, float *dst);

// Gradient g of the output -> gradient dst of the input. x: the input (POOL, SCAN); y: the output (SCAN); partial:
// gradient of the planes [h][w][4] (SCAN). Whole planes: training has no windows.
void us_spatial_run_back(const us_spatial *s, const float *planes, const float *g, const float *x, const float *y,
                         float *dst, float *partial);

#endif
