// What a kernel file (.cu) is written against, so that the same source is compiled by nvcc for a GPU and by
// the host compiler, with -DUS_EMULATE, for the tests of machines without one (emulate.h).
//
//   US_KERNEL(name)(int n, float *x) { int i = us_block() * us_threads() + us_thread(); ... }
//   US_LAUNCH(name, blocks, threads, shared_bytes, stream, n, x);
//
// Rules that keep both builds the same: no warp intrinsics, no textures, no static shared memory; shared
// memory is the one dynamic block of us_shared(); us_barrier() is reached by every thread of the block or by
// none; the only atomic is us_arrive().
#ifndef US_GPU_H
#define US_GPU_H

#include <stddef.h>
#include <stdint.h>

#include "device.h"

#ifdef US_EMULATE
#include "emulate.h"
#else

#include <cuda_fp16.h>
#include <cuda_runtime.h>

typedef __half us_half;

#define US_DEVICE __device__ static inline
#define US_KERNEL(name) __global__ void name
#define US_LAUNCH(name, blocks, threads, shared_bytes, stream, ...)                                                   \
    us_device_launch_check((stream), (us_device_allow_shared((const void *)name, (shared_bytes)),                     \
                                      name<<<(unsigned)(blocks), (unsigned)(threads), (shared_bytes),                 \
                                             (cudaStream_t)us_stream_native(stream)>>>(__VA_ARGS__), #name))

__device__ static inline int us_block(void) { return (int)blockIdx.x; }
__device__ static inline int us_blocks(void) { return (int)gridDim.x; }
__device__ static inline int us_thread(void) { return (int)threadIdx.x; }
__device__ static inline int us_threads(void) { return (int)blockDim.x; }
__device__ static inline void us_barrier(void) { __syncthreads(); }
__device__ static inline char *us_shared(void)
{
    extern __shared__ __align__(16) char us_shared_block[];
    return us_shared_block;
}
// Makes this thread's writes visible to the whole device; call before us_arrive's barrier.
__device__ static inline void us_publish(void) { __threadfence(); }
// Counts this block; called by one thread of it. Returns how many had arrived before.
__device__ static inline unsigned us_arrive(unsigned *counter) { return atomicAdd(counter, 1u); }

__device__ static inline float us_to_float(float x) { return x; }
__device__ static inline float us_to_float(us_half x) { return __half2float(x); }
__device__ static inline void us_from_float(float x, float *y) { *y = x; }
__device__ static inline void us_from_float(float x, us_half *y) { *y = __float2half_rn(x); }

// Eight neighbours at once; p is aligned to 8 elements.
__device__ static inline void us_load8(const float *p, float x[8])
{
    float4 a = reinterpret_cast<const float4 *>(p)[0], b = reinterpret_cast<const float4 *>(p)[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
__device__ static inline void us_store8(float *p, const float x[8])
{
    reinterpret_cast<float4 *>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ static inline void us_load8(const us_half *p, float x[8])
{
    uint4 raw = *reinterpret_cast<const uint4 *>(p);
    const __half2 *h = reinterpret_cast<const __half2 *>(&raw);
    for (int i = 0; i < 4; i++) {
        float2 f = __half22float2(h[i]);
        x[2 * i] = f.x, x[2 * i + 1] = f.y;
    }
}
__device__ static inline void us_store8(us_half *p, const float x[8])
{
    uint4 raw;
    __half2 *h = reinterpret_cast<__half2 *>(&raw);
    for (int i = 0; i < 4; i++) {
        h[i] = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
    }
    *reinterpret_cast<uint4 *>(p) = raw;
}

#endif
#endif
