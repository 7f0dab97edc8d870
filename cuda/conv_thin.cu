// The weight gradient of a convolution of one input channel, the first layers of every network: cuDNN's kernels for it
// are made for many channels, and its first choice took 270 us where this takes 39 (H100, 32 x 64 x 64, 5 x 5). A
// library of its own for conv_library.c.
//
//   w[c][dy][dx] = sum over samples, y, x of in(y + dy - top, x + dx - left) * grad(y, x)[c]
//
// A thread owns 8 channels and walks along a piece of one row, with the K inputs it needs in registers; a block has
// pieces of one sample and one dy. Sums are float per thread, per block and over blocks, each in a fixed order.
#include <stdio.h>
#include <string.h>

#include "gpu.h"

extern "C" {
#include "base/alloc.h"
#include "ways.h"
}

enum { THREADS = 256, LANES = 8, PIECE = 32, AHEAD = 4, SPLITS = 8 };

template <typename T> US_DEVICE float input_at(const T *row, int x, int width)
{
    return x >= 0 && x < width ? us_to_float(row[x]) : 0.0f;
}

// sums[K][LANES] over pixels from .. to of output row y, of which `row` is the input's row y + dy - top.
template <typename T, int K>
US_DEVICE void walk_piece(const us_cu_shape *s, const T *row, const T *grad, int from, int to, float sums[][LANES])
{
    float x[K];
    US_UNROLL
    for (int t = 0; t + 1 < K; t++) {
        x[t + 1] = input_at(row, from + t - s->left, s->in_w);
    }
    for (int at = from; at < to; at += AHEAD) {
        us_eight<T> g[AHEAD];
        US_UNROLL
        for (int i = 0; i < AHEAD; i++) {
            g[i] = at + i < to ? us_fetch8(grad + (int64_t)(at + i) * s->co) : us_eight<T>();
        }
        US_UNROLL
        for (int i = 0; i < AHEAD; i++) {
            float v[LANES];
            us_open8(g[i], v);
            US_UNROLL
            for (int t = 0; t + 1 < K; t++) {
                x[t] = x[t + 1];
            }
            x[K - 1] = input_at(row, at + i + K - 1 - s->left, s->in_w);
            US_UNROLL
            for (int t = 0; t < K; t++) {
                US_UNROLL
                for (int l = 0; l < LANES; l++) {
                    sums[t][l] += x[t] * v[l];
                }
            }
        }
    }
}

// Grid: samples x parts x dy. partials: [sample][part][dy][dx][c].
template <typename T, int K>
US_KERNEL(thin_weight)(us_cu_shape s, int parts, const T *in, const T *grad, float *partials)
{
    const int groups = s.co / LANES, slots = us_threads() / groups, group = us_thread() % groups;
    const int dy = us_block() % K, part = us_block() / K % parts, sample = us_block() / K / parts;
    const int slot = us_thread() / groups, pieces = (s.out_w + PIECE - 1) / PIECE, unit = part * slots + slot;
    const int y = unit / pieces, from = unit % pieces * PIECE, in_y = y + dy - s.top;
    float *shared = (float *)us_shared(), sums[K][LANES] = {{0}};
    if (slot < slots && y < s.out_h && in_y >= 0 && in_y < s.in_h) {
        const T *row = in + ((int64_t)sample * s.in_h + in_y) * s.in_w;
        const T *to = grad + ((int64_t)sample * s.out_h + y) * s.out_w * s.co + group * LANES;
        walk_piece<T, K>(&s, row, to, from, from + PIECE < s.out_w ? from + PIECE : s.out_w, sums);
    }
    for (int t = 0; t < K && slot < slots; t++) {
        us_store8(shared + (slot * K + t) * s.co + group * LANES, sums[t]);
    }
    us_barrier();
    for (int i = us_thread(); i < K * s.co; i += us_threads()) {
        float sum = 0;
        for (int j = 0; j < slots; j++) {
            sum += shared[j * K * s.co + i];
        }
        partials[(int64_t)us_block() * K * s.co + i] = sum;
    }
}

// n partials of every weight; a block has THREADS / SPLITS weights. out: [c][dy][dx].
template <typename T> US_KERNEL(thin_sum)(int k, int co, int n, const float *partials, T *out)
{
    const int each = us_threads() / SPLITS, split = us_thread() / each, weights = k * k * co;
    const int at = us_block() * each + us_thread() % each;
    float *shared = (float *)us_shared(), sum = 0;
    for (int i = split; i < n && at < weights; i += SPLITS) {
        sum += partials[(int64_t)i * weights + at];
    }
    shared[us_thread()] = sum;
    us_barrier();
    if (split == 0 && at < weights) {
        for (int i = 1; i < SPLITS; i++) {
            sum += shared[us_thread() + i * each];
        }
        us_from_float(sum, &out[at % co * k * k + at / co]);
    }
}

// ---- The library ----

typedef struct thin {
    us_cu_way way;
    us_cu_shape shape;
    int parts;
} thin;

static int fits(const us_cu_shape *s, us_conv_direction direction)
{
    return direction == US_CU_WEIGHT && s->ci == 1 && !s->transposed && s->stride == 1 && (s->k == 3 || s->k == 5) &&
           s->co % LANES == 0 && s->co / LANES <= THREADS;
}

template <typename T, int K> static const char *run_as(const thin *w, us_stream *stream, const us_cu_arguments *args)
{
    const us_cu_shape *s = &w->shape;
    int slots = THREADS / (s->co / LANES), n = s->batch * w->parts, each = THREADS / SPLITS, weights = K * K * s->co;
    const int of_slots = slots * K * s->co * (int)sizeof(float), of_threads = THREADS * (int)sizeof(float);
    const char *text = US_LAUNCH((thin_weight<T, K>), n * K, THREADS, of_slots, stream, *s, w->parts, (const T *)args->a,
                                 (const T *)args->b, (float *)args->workspace);
    return text ? text : US_LAUNCH(thin_sum<T>, (weights + each - 1) / each, THREADS, of_threads, stream, K, s->co, n,
                                   (const float *)args->workspace, (T *)args->out);
}

static const char *run(us_cu_way *way, us_stream *stream, const us_cu_arguments *args)
{
    const thin *w = (const thin *)way;
    if (w->shape.half) {
        return w->shape.k == 3 ? run_as<us_half, 3>(w, stream, args) : run_as<us_half, 5>(w, stream, args);
    }
    return w->shape.k == 3 ? run_as<float, 3>(w, stream, args) : run_as<float, 5>(w, stream, args);
}

static void release(us_cu_way *way)
{
    us_free(NULL, way);
}

static const char *again(void *library, const us_cu_shape *shape, us_conv_direction direction,
                         const us_cu_recipe *recipe, us_cu_way **out)
{
    (void)library, (void)recipe;
    *out = NULL;
    if (!fits(shape, direction)) {
        return NULL;
    }
    thin *w = (thin *)us_calloc(NULL, 1, sizeof *w);
    if (!w) {
        return "out of memory for a convolution";
    }
    int slots = THREADS / (shape->co / LANES), units = shape->out_h * ((shape->out_w + PIECE - 1) / PIECE);
    w->shape = *shape;
    w->parts = (units + slots - 1) / slots;
    w->way.library = &us_cu_library_thin;
    w->way.workspace = (int64_t)shape->batch * w->parts * shape->k * shape->k * shape->co * (int64_t)sizeof(float);
    snprintf(w->way.note, sizeof w->way.note, "own, one channel");
    snprintf(w->way.recipe.library, sizeof w->way.recipe.library, "%s", us_cu_library_thin.name);
    *out = &w->way;
    return NULL;
}

static const char *offer(void *library, const us_cu_shape *shape, us_conv_direction direction, int most,
                         us_cu_taker *taker)
{
    us_cu_way *way;
    int done = 0;
    (void)most;
    const char *text = again(library, shape, direction, NULL, &way);
    return text || !way ? text : taker->take(taker, way, &done);
}

static const char *open_library(void **out, int deterministic)
{
    static int nothing;
    (void)deterministic;
    *out = &nothing;
    return NULL;
}

static void close_library(void *library)
{
    (void)library;
}

// No version of its own.
static void describe(char *text, size_t size)
{
    snprintf(text, size, "%s", "");
}

extern "C" const us_cu_library us_cu_library_thin = {"own", open_library, close_library, describe,
                                                     offer, again,        run,           release};
