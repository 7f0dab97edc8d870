// Programs as kernels of their own, compiled on the machine they run on: text (source.h) -> compiler -> kernel. One
// object per context keeps what has been compiled, so that programs alike, of any plan, share a kernel. nvrtc.c is the
// one for a GPU; tests of the emulated device have one of their own.
#ifndef US_CUDA_KERNELS_H
#define US_CUDA_KERNELS_H

#include "base/alloc.h"
#include "base/pool.h"
#include "device.h"
#include "program.h"

typedef struct us_cu_kernels us_cu_kernels;
typedef struct us_cu_kernel us_cu_kernel;       // lives as long as the object it is of

typedef struct us_cu_kernel_table {
    // Fails where the compiler is not there or cannot make kernels for this device.
    const char *(*open)(us_cu_kernels **out, const us_allocator *a, const us_device_facts *facts, int half);
    void (*close)(us_cu_kernels *kernels);
    // The kernel of each of n texts; texts known already are not compiled again. Any thread; one compiles at a time, on
    // the pool's threads.
    const char *(*compile)(us_cu_kernels *kernels, us_pool *pool, int n, const char *const *texts, us_cu_kernel **out);
    // ops: the program's own. shared_bytes: us_cu_map_room (program.h).
    const char *(*launch)(const us_cu_kernel *kernel, us_stream *stream, int64_t blocks, int64_t shared_bytes,
                          const us_cu_program *program, const us_cu_env *env, const us_cu_op *ops);
    void (*describe)(const us_cu_kernels *kernels, char *text, size_t size);    // "NVRTC 13.0"
} us_cu_kernel_table;

extern const us_cu_kernel_table us_cu_kernels_nvrtc;

// "NVRTC 13.0", or that it is missing and why.
void us_cu_nvrtc_words(char *text, size_t size);
// Whether NVRTC makes kernels of the texts for that compute capability; needs no device.
const char *us_cu_nvrtc_try(int major, int minor, int half, int n, const char *const *texts);

#endif
