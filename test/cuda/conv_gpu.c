// On a machine with a GPU: cuDNN (cuda/conv_cudnn.c) against the plain kernels (cuda/conv_plain.cu, which
// test_conv.c compares with the definition), every shape of the list, three directions, float and half. Also: the
// result repeats to the bit, and comes out of a recording as it does without one. Prints a line per case with the
// engine, the worst error as a part of what is allowed, and both times. Exits with 77 where there is no GPU.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv.h"
#include "emulate.h"            // conversions of half
#include "kernels/philox.h"

static const char *const names[] = {"forward", "back", "weight"};

// Training of the released networks, their heads and first layers, odd channels, and windows as tiles have them.
static const us_cu_shape shapes[] = {
    {.batch = 8, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 32, .in_w = 32, .out_h = 32, .out_w = 32, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 8, .in_w = 8, .out_h = 8, .out_w = 8, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 2, .in_w = 2, .out_h = 2, .out_w = 2, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 2, .in_h = 64, .in_w = 64, .out_h = 32, .out_w = 32, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 128, .co = 64, .k = 1, .stride = 1, .in_h = 32, .in_w = 32, .out_h = 32, .out_w = 32},
    {.batch = 32, .ci = 64, .co = 128, .k = 1, .stride = 1, .in_h = 16, .in_w = 16, .out_h = 16, .out_w = 16},
    {.batch = 32, .ci = 32, .co = 64, .k = 3, .stride = 1, .in_h = 16, .in_w = 16, .out_h = 16, .out_w = 16, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 1, .co = 64, .k = 5, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 2,
     .left = 2},
    {.batch = 32, .ci = 64, .co = 4, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 32,
     .out_w = 32, .top = 1, .left = 1},
    {.batch = 3, .ci = 5, .co = 3, .k = 3, .stride = 2, .in_h = 7, .in_w = 9, .out_h = 4, .out_w = 5, .top = 1,
     .left = 1},
    {.batch = 2, .ci = 17, .co = 9, .k = 3, .stride = 2, .transposed = 1, .in_h = 5, .in_w = 6, .out_h = 10,
     .out_w = 12, .top = 1, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 60, .in_w = 61, .out_h = 58, .out_w = 60, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 58, .out_w = 60, .top = -2,
     .left = -1},
    {.batch = 2, .ci = 3, .co = 5, .k = 3, .stride = 1, .in_h = 12, .in_w = 13, .out_h = 7, .out_w = 9, .top = -1,
     .left = -2},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .in_h = 41, .in_w = 40, .out_h = 20, .out_w = 20, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 29,
     .out_w = 31, .top = 2, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 21,
     .out_w = 31, .top = 5, .left = 1},
};

static int bad;

static int holds(const char *text, const char *what)
{
    if (text) {
        printf("FAILED, %s: %s\n", what, text);
        bad++;
    }
    return !text;
}

// ---- Values ----

typedef struct values {
    int64_t n;
    int half;
    void *host, *device, *magnitudes;   // magnitudes: on the device too
} values;

static int64_t bytes_of(const values *v)
{
    return v->n * (v->half ? 2 : 4);
}

static double get(const values *v, const void *host, int64_t i)
{
    return v->half ? us_half_bits_value(((const uint16_t *)host)[i]) : ((const float *)host)[i];
}

static void put(const values *v, int64_t i, double x)
{
    if (v->half) {
        ((uint16_t *)v->host)[i] = us_half_bits_of((float)x);
    } else {
        ((float *)v->host)[i] = (float)x;
    }
}

static int open_values(values *v, us_stream *stream, int64_t n, int half, uint32_t key)
{
    *v = (values){.n = n, .half = half, .host = malloc((size_t)(n * 4))};
    if (!v->host || !holds(us_device_alloc(&v->device, bytes_of(v)), "memory") ||
        !holds(us_device_alloc(&v->magnitudes, bytes_of(v)), "memory")) {
        return 0;
    }
    for (int64_t i = 0; i < n; i++) {
        us_u32x4 r = us_philox(1, (uint32_t)i, key, 0, 96);
        put(v, i, 2 * us_uniform53(r.v[0], r.v[1]) - 1);
    }
    const char *text = us_copy_up(stream, v->device, v->host, bytes_of(v));
    text = text ? text : us_stream_wait(stream);
    for (int64_t i = 0; i < n; i++) {
        put(v, i, fabs(get(v, v->host, i)));
    }
    text = text ? text : us_copy_up(stream, v->magnitudes, v->host, bytes_of(v));
    return holds(text ? text : us_stream_wait(stream), "a copy");
}

static void close_values(values *v)
{
    us_device_free(v->device);
    us_device_free(v->magnitudes);
    free(v->host);
}

// ---- One convolution by one table ----

typedef struct work {
    us_stream *stream;
    us_event *from, *to;
    us_cu_engine *cudnn, *plain;
    const us_cu_shape *shape;
    us_conv_direction direction;
    values a, b, bias;
    int64_t n_out;
} work;

enum { AS_IT_IS, RECORDED, MAGNITUDES };

static const char *run_once(const work *w, const us_cu_conv_table *table, us_cu_conv *conv, int how, void *out,
                            void *room)
{
    int m = how == MAGNITUDES;
    us_recording *recording = NULL;
    const char *text = how == RECORDED ? us_record_begin(w->stream) : NULL;
    text = text ? text : table->run(conv, w->stream, m ? w->a.magnitudes : w->a.device,
                                    m ? w->b.magnitudes : w->b.device,
                                    w->direction != US_CU_FORWARD ? NULL : m ? w->bias.magnitudes : w->bias.device,
                                    out, room);
    if (how == RECORDED) {
        const char *end = us_record_end(w->stream, &recording);
        text = text ? text : end;
        text = text ? text : us_record_run(recording, w->stream);
    }
    const char *waited = us_stream_wait(w->stream);
    us_record_free(recording);
    return text ? text : waited;
}

static const char *time_it(const work *w, const us_cu_conv_table *table, us_cu_conv *conv, void *out, void *room,
                           double *seconds)
{
    enum { RUNS = 10 };
    const char *text = us_event_record(w->from, w->stream);
    for (int i = 0; i < RUNS && !text; i++) {
        text = table->run(conv, w->stream, w->a.device, w->b.device,
                          w->direction == US_CU_FORWARD ? w->bias.device : NULL, out, room);
    }
    text = text ? text : us_event_record(w->to, w->stream);
    text = text ? text : us_stream_wait(w->stream);
    text = text ? text : us_event_seconds(w->from, w->to, seconds);
    *seconds /= RUNS;
    return text;
}

// Result into host memory; every element of the device's is NaN before. NULL seconds: not timed.
static int compute(const work *w, const us_cu_conv_table *table, us_cu_engine *engine, int how, void *host,
                   char note[48], double *seconds)
{
    us_cu_conv *conv = NULL;
    void *out = NULL, *room = NULL;
    int64_t bytes = w->n_out * (w->shape->half ? 2 : 4);
    memset(host, 0xff, (size_t)bytes);
    int ok = holds(table->compile(&conv, engine, w->shape, w->direction), "to compile") &&
             holds(us_device_alloc(&out, bytes), "memory") &&
             holds(us_device_alloc(&room, table->workspace(conv) + 256), "memory") &&
             holds(us_copy_up(w->stream, out, host, bytes), "a copy") &&
             holds(us_stream_wait(w->stream), "a copy") &&
             holds(run_once(w, table, conv, how, out, room), "to run") &&
             holds(us_copy_down(w->stream, host, out, bytes), "a copy") &&
             holds(us_stream_wait(w->stream), "a copy") &&
             (!seconds || holds(time_it(w, table, conv, out, room, seconds), "to time"));
    if (conv) {
        snprintf(note, 48, "%s", table->note(conv));
        table->release(conv);
    }
    us_device_free(out);
    us_device_free(room);
    return ok;
}

// ---- Comparison ----

// Sums of n products in two orders. Every step rounds by at most 2^-24 of a partial sum, which is at most the sum of
// magnitudes S; the errors are as good as random, so that 16 sqrt(n) steps of S are far outside of what rounding
// does, the additions of a small Winograd tile included, and far below a term lost or taken twice, S / n or so.
// Half: both results are rounded to 2^-11 of themselves, and cuDNN's once more before a bias (|bias| <= 1).
static double allowed(const work *w, double value, double magnitude)
{
    const us_cu_shape *s = w->shape;
    double n = w->direction == US_CU_WEIGHT ? (double)s->batch * s->out_h * s->out_w
                                            : (double)s->k * s->k * (w->direction == US_CU_FORWARD ? s->ci : s->co);
    double sum = ldexp(16 * sqrt(n) + 16, -24) * magnitude;
    return s->half ? sum + ldexp(3 * fabs(value) + 2, -11) : sum;
}

static void compare(const work *w, const us_cu_conv_table *cudnn)
{
    const us_cu_shape *s = w->shape;
    const values like = {.half = s->half};
    char note[48] = "", other[48];
    double worst = 0, fast = 0, slow = 0;
    void *block[5];
    for (int i = 0; i < 5; i++) {
        block[i] = calloc((size_t)w->n_out + 1, 4);
    }
    void *got = block[0], *again = block[1], *recorded = block[2], *plain = block[3], *sums = block[4];
    size_t bytes = (size_t)w->n_out * (s->half ? 2 : 4);
    int ok = got && again && recorded && plain && sums &&
             compute(w, cudnn, w->cudnn, AS_IT_IS, got, note, &fast) &&
             compute(w, cudnn, w->cudnn, AS_IT_IS, again, note, NULL) &&
             compute(w, cudnn, w->cudnn, RECORDED, recorded, note, NULL) &&
             compute(w, &us_cu_conv_plain, w->plain, AS_IT_IS, plain, other, &slow) &&
             compute(w, &us_cu_conv_plain, w->plain, MAGNITUDES, sums, other, NULL);
    for (int64_t i = 0; ok && i < w->n_out; i++) {
        double value = get(&like, plain, i), error = fabs(get(&like, got, i) - value);
        double part = error / (allowed(w, value, get(&like, sums, i)) + 1e-30);
        worst = part <= worst ? worst : part;           // NaN becomes the worst
    }
    int repeats = ok && !memcmp(got, again, bytes) && !memcmp(got, recorded, bytes);
    int good = ok && worst <= 1 && repeats;
    bad += !good;
    printf("%s %-5s %-7s n %d ci %d co %d k %d s %d%s %dx%d->%dx%d top %d left %d: %s, error %.3f, %.1f us, "
           "plain %.1f us%s\n",
           good ? "ok    " : "FAILED", s->half ? "half" : "float", names[w->direction], s->batch, s->ci, s->co, s->k,
           s->stride, s->transposed ? "T" : "", s->in_h, s->in_w, s->out_h, s->out_w, s->top, s->left, note, worst,
           fast * 1e6, slow * 1e6, ok && !repeats ? ", does not repeat" : "");
    for (int i = 0; i < 5; i++) {
        free(block[i]);
    }
}

static void check(work *w, const us_cu_shape *s, us_conv_direction direction, const us_cu_conv_table *cudnn)
{
    int64_t in = (int64_t)s->batch * s->in_h * s->in_w * s->ci, out = (int64_t)s->batch * s->out_h * s->out_w * s->co;
    int64_t weights = (int64_t)s->ci * s->co * s->k * s->k;
    w->shape = s;
    w->direction = direction;
    w->n_out = direction == US_CU_FORWARD ? out : direction == US_CU_BACK ? in : weights;
    w->a = w->b = w->bias = (values){.n = 0};
    if (open_values(&w->a, w->stream, direction == US_CU_BACK ? out : in, s->half, 1) &&
        open_values(&w->b, w->stream, direction == US_CU_WEIGHT ? out : weights, s->half, 2) &&
        open_values(&w->bias, w->stream, s->co, s->half, 3)) {
        compare(w, cudnn);
    } else {
        bad++;
    }
    close_values(&w->a);
    close_values(&w->b);
    close_values(&w->bias);
}

int main(int argc, char **argv)
{
    us_device_facts facts;
    work w = {.stream = NULL};
    char text[64];
    int search = argc > 1 && !strcmp(argv[1], "search");
    memset(&facts, 0, sizeof facts);
    const char *why = us_device_facts_get(-1, &facts);
    if (why || facts.count < 1) {
        printf("skipped: %s\n", why ? why : "no GPU");
        return 77;
    }
    const us_cu_conv_table *cudnn = &us_cu_conv_cudnn;
    if (!holds(us_device_use(0), "the device") || !holds(us_stream_create(&w.stream), "a stream") ||
        !holds(us_event_create(&w.from), "an event") || !holds(us_event_create(&w.to), "an event") ||
        !holds(cudnn->open(&w.cudnn, w.stream, 1, search), "cuDNN") ||
        !holds(us_cu_conv_plain.open(&w.plain, w.stream, 1, 0), "plain kernels")) {
        return 1;
    }
    cudnn->describe(text, sizeof text);
    printf("%s\n", text);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int half = 0; half < 2; half++) {
            us_cu_shape s = shapes[i];
            s.half = half;
            for (int d = 0; d < 3; d++) {
                check(&w, &s, (us_conv_direction)d, cudnn);
            }
        }
    }
    cudnn->close(w.cudnn);
    us_cu_conv_plain.close(w.plain);
    us_event_free(w.from);
    us_event_free(w.to);
    us_stream_free(w.stream);
    printf("%d failed\n", bad);
    return bad != 0;
}
