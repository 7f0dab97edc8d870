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

#ifndef __CUDACC_RTC__          // what compiles at run time sees no host functions
#include "device.h"
#endif

#ifdef US_EMULATE
#include "emulate.h"
#else

#ifndef __CUDACC_RTC__
#include <cuda_runtime.h>
#endif

// Bits of an IEEE half; conversions are instructions, so that no header of CUDA's is needed where programs are
// compiled at run time.
typedef struct us_half {
    unsigned short bits;
} us_half;

#define US_DEVICE __device__ static __forceinline__
#define US_OUTLINE __device__ static __noinline__     // what is rare and long: one copy, called
#define US_METHOD __device__ __forceinline__
#define US_UNROLL _Pragma("unroll")
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

__device__ static inline float us_half_value(unsigned short bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
__device__ static inline unsigned short us_half_of(float x)
{
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
__device__ static inline unsigned us_half_pair(float low, float high)
{
#if __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    return us_half_of(low) | (unsigned)us_half_of(high) << 16;
#endif
}
__device__ static inline float us_to_float(float x) { return x; }
__device__ static inline float us_to_float(us_half x) { return us_half_value(x.bits); }
__device__ static inline void us_from_float(float x, float *y) { *y = x; }
__device__ static inline void us_from_float(float x, us_half *y) { y->bits = us_half_of(x); }

// Eight neighbours as they lie in memory, fetched at once and opened later; p is aligned to 8 elements.
template <typename T> struct us_eight;
template <> struct us_eight<float> {
    float4 a, b;
};
template <> struct us_eight<us_half> {
    uint4 bits;
};
__device__ static inline us_eight<float> us_fetch8(const float *p)
{
    us_eight<float> x = {reinterpret_cast<const float4 *>(p)[0], reinterpret_cast<const float4 *>(p)[1]};
    return x;
}
__device__ static inline us_eight<us_half> us_fetch8(const us_half *p)
{
    us_eight<us_half> x = {*reinterpret_cast<const uint4 *>(p)};
    return x;
}
__device__ static inline void us_open8(const us_eight<float> &e, float x[8])
{
    x[0] = e.a.x, x[1] = e.a.y, x[2] = e.a.z, x[3] = e.a.w, x[4] = e.b.x, x[5] = e.b.y, x[6] = e.b.z, x[7] = e.b.w;
}
__device__ static inline void us_open8(const us_eight<us_half> &e, float x[8])
{
    const unsigned pair[4] = {e.bits.x, e.bits.y, e.bits.z, e.bits.w};
    for (int i = 0; i < 4; i++) {
        x[2 * i] = us_half_value((unsigned short)(pair[i] & 0xffffu));
        x[2 * i + 1] = us_half_value((unsigned short)(pair[i] >> 16));
    }
}

template <typename T> __device__ static inline void us_load8(const T *p, float x[8])
{
    us_open8(us_fetch8(p), x);
}
__device__ static inline void us_store8(float *p, const float x[8])
{
    reinterpret_cast<float4 *>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ static inline void us_store8(us_half *p, const float x[8])
{
    *reinterpret_cast<uint4 *>(p) = make_uint4(us_half_pair(x[0], x[1]), us_half_pair(x[2], x[3]),
                                               us_half_pair(x[4], x[5]), us_half_pair(x[6], x[7]));
}

#endif
#endif
