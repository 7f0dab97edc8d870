// A device for machines without one: gpu.h includes this with -DUS_EMULATE. A launch runs at once, block after
// block; the threads of a block are fibres that change places at us_barrier() (emulate.cpp). What a device
// leaves to chance is made to show:
//   - fresh device memory and the shared memory of every block hold NaN bytes (0xff);
//   - us_emulate_shuffle() changes the order of blocks, and of threads between two barriers;
//   - uneven barriers, writes beyond the shared block or a device block, misaligned us_load8 and us_store8,
//     copies between wrong memories and what a recording may not hold are error texts.
// The upper half is plain C, for tests.
#ifndef US_EMULATE_H
#define US_EMULATE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

// Order of blocks and threads in later launches of this process; 0: ascending.
void us_emulate_shuffle(uint64_t seed);
// Device memory there is (a fresh process has 16 GiB); beyond it us_device_alloc fails.
void us_emulate_memory(int64_t bytes);
// Bytes of device memory not yet freed; streams, events, recordings and pinned blocks not yet freed.
int64_t us_emulate_leaks(void);
int us_emulate_handles(void);

// IEEE half precision. A NaN becomes 0x7fff, as on the device.
static inline float us_half_bits_value(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu, bits;
    float f;
    if (e == 0) {
        f = (float)m * (1.0f / 16777216.0f);            // a multiple of 2^-24
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    } else {
        bits = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | (m << 13);
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

// Round to nearest, ties to even.
static inline uint16_t us_half_bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = (bits >> 16) & 0x8000u, a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return 0x7fff;
    }
    if (a >= 0x477ff000u) {                             // 65520 and above: infinity
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a < 0x38800000u) {                              // below 2^-14: 0.5 has steps of 2^-24, so adding it rounds
        memcpy(&f, &a, sizeof f);
        f += 0.5f;
        memcpy(&a, &f, sizeof a);
        return (uint16_t)(sign | (a - 0x3f000000u));
    }
    a += 0xfffu + ((a >> 13) & 1u);
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

#ifdef __cplusplus
}

#include <math.h>

#include <functional>
#include <tuple>

typedef struct us_half {
    uint16_t bits;
} us_half;

// What the running fibre asks for.
typedef struct us_emulate_place {
    int block, blocks, thread, threads;
    char *shared;
} us_emulate_place;

extern __thread us_emulate_place us_emulate_here;

void us_emulate_barrier(void);
void us_emulate_misaligned(void);
const char *us_emulate_run(us_stream *stream, const char *name, int64_t blocks, int64_t threads,
                           int64_t shared_bytes, const std::function<void()> &thread);

// Arguments are copied now, converted to the kernel's types, as a launch does.
template <typename... P, typename... A>
static inline const char *us_emulate_launch(us_stream *stream, const char *name, int64_t blocks, int64_t threads,
                                            int64_t shared_bytes, void (*kernel)(P...), A &&...given)
{
    std::tuple<P...> args(given...);
    return us_emulate_run(stream, name, blocks, threads, shared_bytes, [=]() { std::apply(kernel, args); });
}

#define US_DEVICE static inline
#define US_OUTLINE __attribute__((unused)) static
#define US_METHOD inline
#define US_UNROLL
#define US_KERNEL(name) static void name
#define US_LAUNCH(name, blocks, threads, shared_bytes, stream, ...)                                                   \
    us_emulate_launch((stream), #name, (int64_t)(blocks), (int64_t)(threads), (int64_t)(shared_bytes), &name,         \
                      __VA_ARGS__)

static inline int us_block(void) { return us_emulate_here.block; }
static inline int us_blocks(void) { return us_emulate_here.blocks; }
static inline int us_thread(void) { return us_emulate_here.thread; }
static inline int us_threads(void) { return us_emulate_here.threads; }
static inline void us_barrier(void) { us_emulate_barrier(); }
static inline char *us_shared(void) { return us_emulate_here.shared; }
static inline void us_publish(void) {}
static inline unsigned us_arrive(unsigned *counter) { return (*counter)++; }

static inline float us_to_float(float x) { return x; }
static inline float us_to_float(us_half x) { return us_half_bits_value(x.bits); }
static inline void us_from_float(float x, float *y) { *y = x; }
static inline void us_from_float(float x, us_half *y) { y->bits = us_half_bits_of(x); }

// The device reads and writes 16 bytes at once: other addresses are faults there.
static inline void us_emulate_aligned(const void *p)
{
    if ((uintptr_t)p % 16 != 0) {
        us_emulate_misaligned();
    }
}

template <typename T> struct us_eight {
    T x[8];
};

template <typename T> static inline us_eight<T> us_fetch8(const T *p)
{
    us_eight<T> e;
    us_emulate_aligned(p);
    memcpy(e.x, p, sizeof e.x);
    return e;
}

template <typename T> static inline void us_open8(const us_eight<T> &e, float x[8])
{
    for (int i = 0; i < 8; i++) {
        x[i] = us_to_float(e.x[i]);
    }
}

template <typename T> static inline void us_load8(const T *p, float x[8])
{
    us_open8(us_fetch8(p), x);
}

static inline void us_store8(float *p, const float x[8])
{
    us_emulate_aligned(p);
    for (int i = 0; i < 8; i++) {
        p[i] = x[i];
    }
}

static inline void us_store8(us_half *p, const float x[8])
{
    us_emulate_aligned(p);
    for (int i = 0; i < 8; i++) {
        p[i].bits = us_half_bits_of(x[i]);
    }
}

#endif
#endif
