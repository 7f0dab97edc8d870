// Small kernels that test_device.c launches through plain C (probe.cu).
#ifndef US_PROBE_H
#define US_PROBE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct us_stream;

// out[i] = the half next to in[i], as a float; n is a multiple of 8, eight at once.
const char *us_probe_half(struct us_stream *s, const float *in, void *half, float *out, int n);
// Sums n floats: per block in shared memory, then by the last block in the order of blocks. *counter is zero
// before and after. partials: [blocks].
const char *us_probe_sum(struct us_stream *s, const float *x, int n, int blocks, int threads, float *partials,
                         unsigned *counter, float *sum);
// The same as us_probe_sum, but adds to *sum as blocks come: what the tests must find wrong.
const char *us_probe_racing_sum(struct us_stream *s, const float *x, int n, int blocks, int threads, float *sum);
// A structure, a pointer and numbers of every width, as they arrive.
typedef struct us_probe_pack {
    char c;
    double d;
    int16_t s;
    int64_t l;
} us_probe_pack;
const char *us_probe_arguments(struct us_stream *s, us_probe_pack pack, double *out, float f, int64_t l);
// Threads meet steps + (thread < extra) barriers.
const char *us_probe_barriers(struct us_stream *s, int blocks, int threads, int steps, int extra, int *out);
// Writes to shared memory at index (of floats) when the block has `bytes`, and reads float `read` to out.
const char *us_probe_shared(struct us_stream *s, int bytes, int write, int read, float *out);
// x[at] = value, from one thread.
const char *us_probe_write(struct us_stream *s, float *x, int at, float value);
// us_store8 to x.
const char *us_probe_store8(struct us_stream *s, float *x);
// A launch of any size.
const char *us_probe_size(struct us_stream *s, int64_t blocks, int64_t threads, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
