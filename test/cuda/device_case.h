// What tests of the emulated device share: random numbers, copies to the device and back, comparisons, and the
// fixture, which finds what was not given back. They run on a real device too (make check-gpu), where
// test/gpu/stand_in.c stands for the emulation's own calls.
#ifndef US_DEVICE_CASE_H
#define US_DEVICE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "emulate.h"
#include "usplit.h"

static uint64_t random_state;
static us_stream *stream;

static inline uint32_t draw(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static inline int below(int n)
{
    return (int)(draw() % (uint32_t)n);
}

static inline float real(void)                  // in [-1, 1)
{
    return (float)draw() * (1.0f / 1073741824.0f) - 1.0f;
}

static inline void ok(const char *text)
{
    if (text) {
        fail_msg("%s", text);
    }
}

// Results of the same operations in the same order. Under emulation the kernels are compiled like the CPU's code,
// and bits are the same. nvcc fuses multiplications and additions, which saves roundings: there the results are
// within `error` (1 + |value|). -DUS_TEST_FUSED: the emulation too was compiled so.
#if defined US_EMULATE && !defined US_TEST_FUSED
enum { SAME_BITS = 1 };
#else
enum { SAME_BITS = 0 };
#endif

static inline void same_value(double got, double want, double error)
{
    int same = got == want || (isnan(got) && isnan(want));
    if (!same && (SAME_BITS || !(fabs(got - want) <= error * (1 + fabs(want))))) {
        fail_msg("%.9g, should be %.9g%s", got, want, SAME_BITS ? " to the bit" : "");
    }
}

static inline void same_floats(const float *got, const float *want, size_t n, double error)
{
    if (SAME_BITS || error <= 0) {
        assert_memory_equal(got, want, n * sizeof *got);
    }
    for (size_t i = 0; i < n && !SAME_BITS; i++) {
        same_value((double)got[i], (double)want[i], error);
    }
}

static inline void begin_round(int round)
{
    random_state = 77u + (uint64_t)round * 1001u;
    us_emulate_shuffle(round % 4 ? draw() + 1u : 0);
}

static inline void *room(size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    return p;
}

static inline void *up(const void *host, size_t bytes)
{
    void *p;
    ok(us_device_alloc(&p, bytes ? (int64_t)bytes : 1));
    ok(us_copy_up(stream, p, host, (int64_t)bytes));
    return p;
}

// Reads it back and gives it up.
static inline void down(void *host, void *device, size_t bytes)
{
    ok(us_copy_down(stream, host, device, (int64_t)bytes));
    ok(us_stream_wait(stream));
    us_device_free(device);
}

static inline void *elements_up(const float *x, size_t n, int half)
{
    uint16_t *bits = room(n * sizeof *bits);
    for (size_t i = 0; i < n; i++) {
        bits[i] = us_half_bits_of(x[i]);
    }
    void *p = half ? up(bits, n * sizeof *bits) : up(x, n * sizeof *x);
    free(bits);
    return p;
}

static inline void elements_down(float *x, void *device, size_t n, int half)
{
    uint16_t *bits = room(n * sizeof *bits);
    down(half ? (void *)bits : (void *)x, device, n * (half ? sizeof *bits : sizeof *x));
    for (size_t i = 0; i < n && half; i++) {
        x[i] = us_half_bits_value(bits[i]);
    }
    free(bits);
}

static inline float *random_floats(size_t n, float size)
{
    float *x = room(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = size * real();
    }
    return x;
}

static inline int set_up(void **state)
{
    usplit_context *context;
    usplit_context_options o;
    *state = NULL;
    if (usplit_context_options_init(&o, sizeof o) != USPLIT_OK) {
        return -1;
    }
    o.device = "cpu";
    if (usplit_context_create(&context, &o) != USPLIT_OK || us_stream_create(&stream)) {
        return -1;
    }
    *state = context;
    return 0;
}

static inline int tear_down(void **state)
{
    us_stream_free(stream);
    usplit_context_free(*state);
    return us_emulate_leaks() == 0 && us_emulate_handles() == 0 ? 0 : -1;
}

#endif
