// Direct convolutions behind the table of conv.h: any shape, any direction, float sums, results that repeat to
// the bit. They are what the tests without a GPU run and what conv_library.c falls back on; no tensor cores.
//
// Forward and backward are two loops over the taps. In terms of the two sides X and Y of conv.h:
//   down: writes Y, reads X at p * stride + t - top      (convolution; gradient of a transposed one's input)
//   up:   writes X, reads Y where p * stride + t - top == i    (transposed; gradient of a convolution's input)
// A thread owns one pixel and eight channels. Threads beside each other own pixels beside each other, so that
// all of a warp read the same weights at once.
#include "conv.h"
#include "gpu.h"

extern "C" {
#include "base/alloc.h"
}

enum { LANES = 8, THREADS = 128, MOST_PARTS = 128 };

static const int64_t MOST_PARTIAL_BYTES = (int64_t)64 << 20;

// ---- Eight channels: one wide access where the channels are a multiple of eight, else one by one ----

template <class T> US_DEVICE void read8(const T *p, int n, int wide, float x[LANES])
{
    if (wide) {
        us_load8(p, x);
        return;
    }
    for (int l = 0; l < LANES; l++) {
        x[l] = l < n ? us_to_float(p[l]) : 0.0f;
    }
}

template <class T> US_DEVICE void write8(T *p, int n, int wide, const float x[LANES])
{
    if (wide) {
        us_store8(p, x);
        return;
    }
    for (int l = 0; l < LANES; l++) {
        if (l < n) {
            us_from_float(x[l], p + l);
        }
    }
}

US_DEVICE int64_t us_global_thread(void)
{
    return (int64_t)us_block() * us_threads() + us_thread();
}

// ---- Forward and backward ----

// acc[j] += sum over all b of x[b] * w[j][b]; rows of w are `step` apart, n of them count.
template <class T>
US_DEVICE void dot_rows(float acc[LANES], const T *x, const T *w, int64_t step, int n, int b)
{
    int wide = b % LANES == 0;
    for (int b0 = 0; b0 < b; b0 += LANES) {
        float xs[LANES], ws[LANES];
        read8(x + b0, b - b0, wide, xs);
        for (int j = 0; j < LANES; j++) {
            if (j < n) {
                read8(w + j * step + b0, b - b0, wide, ws);
                for (int l = 0; l < LANES; l++) {
                    acc[j] += xs[l] * ws[l];
                }
            }
        }
    }
}

// acc[j] += sum over all a of y[a] * w[a][j]; rows of w are `step` apart, n columns count.
template <class T>
US_DEVICE void add_rows(float acc[LANES], const T *y, const T *w, int64_t step, int n, int wide_w, int a)
{
    int wide_y = a % LANES == 0;
    for (int a0 = 0; a0 < a; a0 += LANES) {
        float ys[LANES], ws[LANES];
        read8(y + a0, a - a0, wide_y, ys);
        for (int l = 0; l < LANES; l++) {
            if (a0 + l < a) {
                read8(w + (a0 + l) * step, n, wide_w, ws);
                for (int j = 0; j < LANES; j++) {
                    acc[j] += ys[l] * ws[j];
                }
            }
        }
    }
}

template <class T> US_KERNEL(us_conv_down)(us_cu_sides s, const T *x, const T *w, const T *bias, T *y)
{
    int64_t pixels = (int64_t)s.batch * s.y_h * s.y_w, at = us_global_thread();
    int64_t pixel = at % pixels;
    int a0 = (int)(at / pixels) * LANES, n = s.a - a0, wide = s.a % LANES == 0;
    if (n <= 0) {
        return;
    }
    int q = (int)(pixel % s.y_w), p = (int)(pixel / s.y_w % s.y_h), sample = (int)(pixel / s.y_w / s.y_h);
    int64_t row = (int64_t)s.k * s.k * s.b;
    float acc[LANES] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (bias) {
        read8(bias + a0, n, wide, acc);
    }
    for (int u = 0; u < s.k; u++) {
        int i = p * s.stride + u - s.top;
        for (int v = 0; v < s.k && i >= 0 && i < s.x_h; v++) {
            int j = q * s.stride + v - s.left;
            if (j >= 0 && j < s.x_w) {
                const T *from = x + (((int64_t)sample * s.x_h + i) * s.x_w + j) * s.b;
                dot_rows(acc, from, w + a0 * row + (u * s.k + v) * s.b, row, n, s.b);
            }
        }
    }
    write8(y + pixel * s.a + a0, n, wide, acc);
}

template <class T> US_KERNEL(us_conv_up)(us_cu_sides s, const T *y, const T *w, const T *bias, T *x)
{
    int64_t pixels = (int64_t)s.batch * s.x_h * s.x_w, at = us_global_thread();
    int64_t pixel = at % pixels;
    int b0 = (int)(at / pixels) * LANES, n = s.b - b0, wide = s.b % LANES == 0;
    if (n <= 0) {
        return;
    }
    int j = (int)(pixel % s.x_w), i = (int)(pixel / s.x_w % s.x_h), sample = (int)(pixel / s.x_w / s.x_h);
    int64_t row = (int64_t)s.k * s.k * s.b;
    float acc[LANES] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (bias) {
        read8(bias + b0, n, wide, acc);
    }
    for (int u = 0; u < s.k; u++) {
        int above = i + s.top - u, p = above / s.stride;
        for (int v = 0; v < s.k && above >= 0 && above % s.stride == 0 && p < s.y_h; v++) {
            int beside = j + s.left - v, q = beside / s.stride;
            if (beside >= 0 && beside % s.stride == 0 && q < s.y_w) {
                const T *from = y + (((int64_t)sample * s.y_h + p) * s.y_w + q) * s.a;
                add_rows(acc, from, w + (u * s.k + v) * s.b + b0, row, n, wide, s.a);
            }
        }
    }
    write8(x + pixel * s.b + b0, n, wide, acc);
}

// ---- Gradient of the weights ----

// A thread owns eight by eight weights of one tap and one part of all rows of Y, and adds them up in order; the
// parts are added in order by the second kernel. How many parts there are depends on the shape alone.
static int parts_of(const us_cu_sides *s)
{
    int64_t rows = (int64_t)s->batch * s->y_h, bytes = (int64_t)s->a * s->b * s->k * s->k * (int64_t)sizeof(float);
    int64_t parts = rows < MOST_PARTS ? rows : (int64_t)MOST_PARTS;
    while (parts > 1 && parts * bytes > MOST_PARTIAL_BYTES) {
        parts /= 2;
    }
    return (int)parts;
}

// acc += outer product of Y and X over one row of Y and the row of X under tap column v.
template <class T>
US_DEVICE void outer_row(float acc[LANES][LANES], const us_cu_sides *s, const T *y, const T *x, int v, int n_a, int n_b)
{
    int wide_a = s->a % LANES == 0, wide_b = s->b % LANES == 0;
    for (int q = 0; q < s->y_w; q++) {
        int j = q * s->stride + v - s->left;
        if (j < 0 || j >= s->x_w) {
            continue;
        }
        float ys[LANES], xs[LANES];
        read8(y + (int64_t)q * s->a, n_a, wide_a, ys);
        read8(x + (int64_t)j * s->b, n_b, wide_b, xs);
        for (int l = 0; l < LANES; l++) {
            for (int m = 0; m < LANES; m++) {
                acc[l][m] += ys[l] * xs[m];
            }
        }
    }
}

template <class T>
US_KERNEL(us_conv_weight)(us_cu_sides s, int parts, const T *x, const T *y, float *partials)
{
    int groups_a = (s.a + LANES - 1) / LANES, groups_b = (s.b + LANES - 1) / LANES, taps = s.k * s.k;
    int64_t at = us_global_thread();
    int b0 = (int)(at % groups_b) * LANES, a0 = (int)(at / groups_b % groups_a) * LANES;
    int tap = (int)(at / groups_b / groups_a % taps), part = (int)(at / groups_b / groups_a / taps);
    if (part >= parts) {
        return;
    }
    int64_t rows = (int64_t)s.batch * s.y_h;
    float acc[LANES][LANES];
    for (int l = 0; l < LANES; l++) {
        for (int m = 0; m < LANES; m++) {
            acc[l][m] = 0;
        }
    }
    for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; r++) {
        int i = (int)(r % s.y_h) * s.stride + tap / s.k - s.top;
        if (i >= 0 && i < s.x_h) {
            outer_row(acc, &s, y + r * s.y_w * s.a + a0, x + (r / s.y_h * s.x_h + i) * s.x_w * s.b + b0, tap % s.k,
                      s.a - a0, s.b - b0);
        }
    }
    float *to = partials + (int64_t)part * s.a * taps * s.b;
    for (int l = 0; l < LANES; l++) {
        if (a0 + l < s.a) {
            write8(to + ((int64_t)(a0 + l) * taps + tap) * s.b + b0, s.b - b0, s.b % LANES == 0, acc[l]);
        }
    }
}

template <class T> US_KERNEL(us_conv_sum)(int64_t n, int parts, const float *partials, T *out)
{
    int64_t at = us_global_thread();
    if (at < n) {
        float sum = 0;
        for (int part = 0; part < parts; part++) {
            sum += partials[part * n + at];
        }
        us_from_float(sum, out + at);
    }
}

// ---- Bias ----

template <class T> US_KERNEL(us_bias_add)(T *out, const T *bias, int64_t pixels, int c)
{
    int groups = (c + LANES - 1) / LANES, wide = c % LANES == 0;
    int64_t at = us_global_thread(), pixel = at / groups;
    int c0 = (int)(at % groups) * LANES;
    if (pixel < pixels) {
        float x[LANES], add[LANES];
        read8(out + pixel * c + c0, c - c0, wide, x);
        read8(bias + c0, c - c0, wide, add);
        for (int l = 0; l < LANES; l++) {
            x[l] += add[l];
        }
        write8(out + pixel * c + c0, c - c0, wide, x);
    }
}

static int64_t blocks_of(int64_t threads)
{
    return (threads + THREADS - 1) / THREADS;
}

static int64_t groups_of(int channels)
{
    return (channels + LANES - 1) / LANES;
}

template <class T> static const char *add_bias(us_stream *stream, T *out, const T *bias, int64_t pixels, int c)
{
    return US_LAUNCH(us_bias_add<T>, blocks_of(pixels * groups_of(c)), THREADS, 0, stream, out, bias, pixels, c);
}

const char *us_cu_add_bias(us_stream *stream, void *out, const void *bias, int64_t pixels, int c, int half)
{
    return half ? add_bias(stream, (us_half *)out, (const us_half *)bias, pixels, c)
                : add_bias(stream, (float *)out, (const float *)bias, pixels, c);
}

// ---- The table ----

struct us_cu_engine {
    int unused;                             // there is nothing to keep
};

struct us_cu_conv {
    us_cu_shape shape;
    us_conv_direction direction;
    int parts;
};

static us_cu_engine the_engine;

static const char *open_engine(us_cu_engine **out, us_stream *stream, const us_cu_conv_options *options)
{
    (void)stream, (void)options;
    *out = &the_engine;
    return 0;
}

static void close_engine(us_cu_engine *engine)
{
    (void)engine;
}

static void describe(char *text, size_t size)
{
    static const char name[] = "plain kernels";
    for (size_t i = 0; i < size; i++) {
        text[i] = i + 1 < size && i + 1 < sizeof name ? name[i] : '\0';
    }
}

static const char *compile(us_cu_conv **out, us_cu_engine *engine, const us_cu_shape *shape,
                           us_conv_direction direction)
{
    (void)engine;
    *out = (us_cu_conv *)us_calloc(NULL, 1, sizeof **out);
    if (!*out) {
        return "out of memory for a convolution";
    }
    us_cu_sides s = us_cu_sides_of(shape);
    (*out)->shape = *shape;
    (*out)->direction = direction;
    (*out)->parts = direction == US_CU_WEIGHT ? parts_of(&s) : 0;
    return 0;
}

static void release(us_cu_conv *conv)
{
    us_free(NULL, conv);
}

static int64_t weights_of(const us_cu_sides *s)
{
    return (int64_t)s->a * s->k * s->k * s->b;
}

static int64_t workspace(const us_cu_conv *conv)
{
    us_cu_sides s = us_cu_sides_of(&conv->shape);
    return conv->parts * weights_of(&s) * (int64_t)sizeof(float);
}

static const char *note(const us_cu_conv *conv)
{
    (void)conv;
    return "plain";
}

template <class T>
static const char *run_weight(const us_cu_conv *conv, us_stream *stream, const T *in, const T *grad, T *out,
                              float *partials)
{
    us_cu_sides s = us_cu_sides_of(&conv->shape);
    const T *x = conv->shape.transposed ? grad : in, *y = conv->shape.transposed ? in : grad;
    int64_t threads = groups_of(s.a) * groups_of(s.b) * s.k * s.k * conv->parts, n = weights_of(&s);
    const char *text = US_LAUNCH(us_conv_weight<T>, blocks_of(threads), THREADS, 0, stream, s, conv->parts, x, y,
                                 partials);
    return text ? text : US_LAUNCH(us_conv_sum<T>, blocks_of(n), THREADS, 0, stream, n, conv->parts, partials, out);
}

template <class T>
static const char *run_as(const us_cu_conv *conv, us_stream *stream, const T *a, const T *b, const T *bias, T *out,
                          float *partials)
{
    us_cu_sides s = us_cu_sides_of(&conv->shape);
    if (conv->direction == US_CU_WEIGHT) {
        return run_weight(conv, stream, a, b, out, partials);
    }
    if (us_cu_writes_x(&conv->shape, conv->direction)) {
        int64_t threads = (int64_t)s.batch * s.x_h * s.x_w * groups_of(s.b);
        return US_LAUNCH(us_conv_up<T>, blocks_of(threads), THREADS, 0, stream, s, a, b, bias, out);
    }
    int64_t threads = (int64_t)s.batch * s.y_h * s.y_w * groups_of(s.a);
    return US_LAUNCH(us_conv_down<T>, blocks_of(threads), THREADS, 0, stream, s, a, b, bias, out);
}

static const char *run(us_cu_conv *conv, us_stream *stream, const void *a, const void *b, const void *bias, void *out,
                       void *room)
{
    const void *add = conv->direction == US_CU_FORWARD ? bias : NULL;
    if (conv->shape.half) {
        return run_as(conv, stream, (const us_half *)a, (const us_half *)b, (const us_half *)add, (us_half *)out,
                      (float *)room);
    }
    return run_as(conv, stream, (const float *)a, (const float *)b, (const float *)add, (float *)out,
                  (float *)room);
}

extern "C" const us_cu_conv_table us_cu_conv_plain = {open_engine, close_engine, describe, compile, release,
                                                      workspace,   note,         run};
