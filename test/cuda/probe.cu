// The kernels of test_device.c: what the contract of gpu.h promises, and what it forbids.
#include "gpu.h"
#include "probe.h"

US_KERNEL(halves)(const float *in, us_half *half, float *out, int n)
{
    int i = 8 * (us_block() * us_threads() + us_thread());
    float x[8];
    if (i < n) {
        us_load8(in + i, x);
        us_store8(half + i, x);
        us_load8(half + i, x);
        us_store8(out + i, x);
    }
}

extern "C" const char *us_probe_half(us_stream *s, const float *in, void *half, float *out, int n)
{
    return US_LAUNCH(halves, (n / 8 + 63) / 64, 64, 0, s, in, (us_half *)half, out, n);
}

US_DEVICE float block_total(float mine)
{
    float *rows = (float *)us_shared();
    rows[us_thread()] = mine;
    us_barrier();
    for (int half = us_threads() / 2; half > 0; half /= 2) {
        if (us_thread() < half) {
            rows[us_thread()] += rows[us_thread() + half];
        }
        us_barrier();
    }
    return rows[0];
}

US_DEVICE float share_of(const float *x, int n)
{
    float sum = 0.0f;
    for (int i = us_block() * us_threads() + us_thread(); i < n; i += us_blocks() * us_threads()) {
        sum += x[i];
    }
    return sum;
}

US_KERNEL(ordered_sum)(const float *x, int n, float *partials, unsigned *counter, float *sum)
{
    unsigned *before = (unsigned *)us_shared() + us_threads();
    float total = block_total(share_of(x, n));
    if (us_thread() == 0) {
        partials[us_block()] = total;
        us_publish();
        *before = us_arrive(counter);
    }
    us_barrier();
    if (*before == (unsigned)us_blocks() - 1 && us_thread() == 0) {
        us_publish();
        float all = 0.0f;
        for (int i = 0; i < us_blocks(); i++) {
            all += partials[i];
        }
        *sum = all;
        *counter = 0;
    }
}

extern "C" const char *us_probe_sum(us_stream *s, const float *x, int n, int blocks, int threads, float *partials,
                                    unsigned *counter, float *sum)
{
    return US_LAUNCH(ordered_sum, blocks, threads, 4 * ((size_t)threads + 1), s, x, n, partials, counter, sum);
}

US_KERNEL(racing_sum)(const float *x, int n, float *sum)
{
    float total = block_total(share_of(x, n));
    if (us_thread() == 0) {
        *sum += total;
    }
}

extern "C" const char *us_probe_racing_sum(us_stream *s, const float *x, int n, int blocks, int threads, float *sum)
{
    return US_LAUNCH(racing_sum, blocks, threads, 4 * (size_t)threads, s, x, n, sum);
}

template <int N> US_KERNEL(arguments)(us_probe_pack pack, double *out, float f, int64_t l)
{
    double values[] = {(double)pack.c, pack.d, (double)pack.s, (double)pack.l, (double)f, (double)l};
    for (int i = 0; i < N; i++) {
        out[i] = values[i];
    }
}

extern "C" const char *us_probe_arguments(us_stream *s, us_probe_pack pack, double *out, float f, int64_t l)
{
    return US_LAUNCH(arguments<6>, 1, 1, 0, s, pack, out, f, l);
}

US_KERNEL(barriers)(int steps, int extra, int *out)
{
    int *step = (int *)us_shared();
    for (int i = 0; i < steps; i++) {
        step[us_thread()] = i;
        us_barrier();
        if (step[(us_thread() + 1) % us_threads()] != i) {
            *out = 1;
        }
        us_barrier();
    }
    if (us_thread() < extra) {
        us_barrier();
    }
}

extern "C" const char *us_probe_barriers(us_stream *s, int blocks, int threads, int steps, int extra, int *out)
{
    return US_LAUNCH(barriers, blocks, threads, 4 * threads, s, steps, extra, out);
}

US_KERNEL(shared)(int write, int read, float *out)
{
    float *room = (float *)us_shared();
    room[write] = 1.0f;
    *out = room[read];
}

extern "C" const char *us_probe_shared(us_stream *s, int bytes, int write, int read, float *out)
{
    return US_LAUNCH(shared, 1, 1, bytes, s, write, read, out);
}

US_KERNEL(write_one)(float *x, int at, float value)
{
    x[at] = value;
}

extern "C" const char *us_probe_write(us_stream *s, float *x, int at, float value)
{
    return US_LAUNCH(write_one, 1, 1, 0, s, x, at, value);
}

US_KERNEL(store_eight)(float *x)
{
    const float values[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    us_store8(x, values);
}

extern "C" const char *us_probe_store8(us_stream *s, float *x)
{
    return US_LAUNCH(store_eight, 1, 1, 0, s, x);
}

US_KERNEL(nothing)(int n)
{
    (void)n;
}

extern "C" const char *us_probe_size(us_stream *s, int64_t blocks, int64_t threads, int64_t bytes)
{
    return US_LAUNCH(nothing, blocks, threads, bytes, s, 0);
}
