// On a machine with a GPU: the libraries (cuda/conv_cudnn.c, conv_lt.c) against the plain kernels (cuda/conv_plain.cu,
// which test_conv.c compares with the definition), every shape of conv_shapes.h, three directions, float and half.
// What conv_library.c takes, and every single way that a library offers, for any of them may be taken one day. Also:
// results repeat to the bit, and come out of a recording as they do without one. Prints a line per case with the
// engine, the worst error as a part of what is allowed, and both times. Exits with 77 where there is no GPU.
//   conv_gpu [search]: whether conv_library.c times the ways; then the line of the fastest says what it takes
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/conv_shapes.h"
#include "emulate.h"            // conversions of half
#include "kernels/philox.h"
#include "ways.h"

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

// ---- One convolution: by a table, or by a way of a library ----

typedef struct work {
    us_stream *stream;
    us_event *from, *to;
    us_cu_engine *libraries, *plain;
    void *library[8];           // as in us_cu_libraries
    us_cu_shape shape;
    us_conv_direction direction;
    values a, b, bias;
    int64_t n_out;
    void *expected, *sums, *got, *again, *recorded;     // host, [n_out]
} work;

typedef struct runner {
    const us_cu_conv_table *table;
    us_cu_conv *conv;
    us_cu_way *way;             // where there is no table
} runner;

enum { AS_IT_IS, RECORDED, MAGNITUDES };

static int64_t room_of(const runner *r)
{
    return r->table ? r->table->workspace(r->conv) : r->way->workspace;
}

static const char *note_of(const runner *r)
{
    return r->table ? r->table->note(r->conv) : r->way->note;
}

static const char *launch(const work *w, const runner *r, int magnitudes, void *out, void *room)
{
    const us_cu_shape *s = &w->shape;
    const void *bias = magnitudes ? w->bias.magnitudes : w->bias.device;
    us_cu_arguments args = {magnitudes ? w->a.magnitudes : w->a.device, magnitudes ? w->b.magnitudes : w->b.device,
                            w->direction == US_CU_FORWARD ? bias : NULL, out, room};
    if (r->table) {
        return r->table->run(r->conv, w->stream, args.a, args.b, args.bias, out, room);
    }
    const char *text = r->way->library->run(r->way, w->stream, &args);
    if (text || w->direction != US_CU_FORWARD || r->way->adds_bias) {
        return text;
    }
    return us_cu_add_bias(w->stream, out, bias, (int64_t)s->batch * s->out_h * s->out_w, s->co, s->half);
}

static const char *run_once(const work *w, const runner *r, int how, void *out, void *room)
{
    us_recording *recording = NULL;
    const char *text = how == RECORDED ? us_record_begin(w->stream) : NULL;
    text = text ? text : launch(w, r, how == MAGNITUDES, out, room);
    if (how == RECORDED) {
        const char *end = us_record_end(w->stream, &recording);
        text = text ? text : end;
        text = text ? text : us_record_run(recording, w->stream);
    }
    const char *waited = us_stream_wait(w->stream);
    us_record_free(recording);
    return text ? text : waited;
}

// In a recording, as networks are run.
static const char *time_it(const work *w, const runner *r, void *out, void *room, double *seconds)
{
    enum { RUNS = 10 };
    us_recording *recording = NULL;
    const char *text = us_record_begin(w->stream);
    for (int i = 0; i < RUNS && !text; i++) {
        text = launch(w, r, 0, out, room);
    }
    const char *end = us_record_end(w->stream, &recording);
    text = text ? text : end;
    text = text ? text : us_record_run(recording, w->stream);
    text = text ? text : us_event_record(w->from, w->stream);
    text = text ? text : us_record_run(recording, w->stream);
    text = text ? text : us_event_record(w->to, w->stream);
    text = text ? text : us_stream_wait(w->stream);
    text = text ? text : us_event_seconds(w->from, w->to, seconds);
    us_record_free(recording);
    *seconds /= RUNS;
    return text;
}

// Result into host memory; every element of the device's is NaN before. NULL seconds: not timed.
static int compute(const work *w, const runner *r, int how, void *host, double *seconds)
{
    void *out = NULL, *room = NULL;
    int64_t bytes = w->n_out * (w->shape.half ? 2 : 4);
    memset(host, 0xff, (size_t)bytes);
    int ok = holds(us_device_alloc(&out, bytes), "memory") &&
             holds(us_device_alloc(&room, room_of(r) + 256), "memory") &&
             holds(us_copy_up(w->stream, out, host, bytes), "a copy") && holds(us_stream_wait(w->stream), "a copy") &&
             holds(run_once(w, r, how, out, room), "to run") &&
             holds(us_copy_down(w->stream, host, out, bytes), "a copy") &&
             holds(us_stream_wait(w->stream), "a copy") &&
             (!seconds || holds(time_it(w, r, out, room, seconds), "to time"));
    us_device_free(out);
    us_device_free(room);
    return ok;
}

// ---- Comparison ----

// Sums of n products in two orders. Every step rounds by at most 2^-24 of a partial sum, which is at most the sum of
// magnitudes S; the errors are as good as random, so that 16 sqrt(n) steps of S are far outside of what rounding
// does, the additions of a small Winograd tile included, and far below a term lost or taken twice, S / n or so.
// Half: both results are rounded to 2^-11 of themselves, and the libraries' once more before a bias (|bias| <= 1).
static double allowed(const work *w, double value, double magnitude)
{
    const us_cu_shape *s = &w->shape;
    double n = w->direction == US_CU_WEIGHT ? (double)s->batch * s->out_h * s->out_w
                                            : (double)s->k * s->k * (w->direction == US_CU_FORWARD ? s->ci : s->co);
    double sum = ldexp(16 * sqrt(n) + 16, -24) * magnitude;
    return s->half ? sum + ldexp(3 * fabs(value) + 2, -11) : sum;
}

static void compare(const work *w, const runner *r, const char *kind, double slow)
{
    const us_cu_shape *s = &w->shape;
    const values like = {.half = s->half};
    double worst = 0, fast = 0;
    size_t bytes = (size_t)w->n_out * (s->half ? 2 : 4);
    int ok = compute(w, r, AS_IT_IS, w->got, &fast) && compute(w, r, AS_IT_IS, w->again, NULL) &&
             compute(w, r, RECORDED, w->recorded, NULL);
    for (int64_t i = 0; ok && i < w->n_out; i++) {
        double value = get(&like, w->expected, i), error = fabs(get(&like, w->got, i) - value);
        double part = error / (allowed(w, value, get(&like, w->sums, i)) + 1e-30);
        worst = part <= worst ? worst : part;           // NaN becomes the worst
    }
    int repeats = ok && !memcmp(w->got, w->again, bytes) && !memcmp(w->got, w->recorded, bytes);
    int good = ok && worst <= 1 && repeats;
    bad += !good;
    printf("%s %-5s %-7s n %d ci %d co %d k %d s %d%s %dx%d->%dx%d top %d left %d: %s %s, error %.3f, %.1f us, "
           "plain %.1f us%s\n",
           good ? "ok    " : "FAILED", s->half ? "half" : "float", conv_directions[w->direction], s->batch, s->ci,
           s->co, s->k, s->stride, s->transposed ? "T" : "", s->in_h, s->in_w, s->out_h, s->out_w, s->top, s->left,
           kind, note_of(r), worst, fast * 1e6, slow * 1e6, ok && !repeats ? ", does not repeat" : "");
}

typedef struct each {
    us_cu_taker taker;
    const work *work;
    double slow;
} each;

// A library may offer what turns out not to run, which is passed over when one is taken.
static int runs(const work *w, const runner *r)
{
    void *out = NULL, *room = NULL;
    const char *text = us_device_alloc(&out, w->n_out * (w->shape.half ? 2 : 4));
    text = text ? text : us_device_alloc(&room, room_of(r) + 256);
    text = text ? text : run_once(w, r, AS_IT_IS, out, room);
    us_device_free(out);
    us_device_free(room);
    if (text) {
        printf("passed over: %s does not run: %s\n", note_of(r), text);
        us_device_forget();
    }
    return !text;
}

static const char *compare_way(us_cu_taker *taker, us_cu_way *way, int *done)
{
    each *e = (each *)taker;
    runner r = {.way = way};
    (void)done;
    if (runs(e->work, &r)) {
        taker->taken++;
        compare(e->work, &r, "offered", e->slow);
    }
    way->library->release(way);
    return NULL;
}

static void compare_all(const work *w)
{
    enum { MOST = 8 };
    runner r = {.table = &us_cu_conv_plain};
    double slow = 0;
    if (!holds(r.table->compile(&r.conv, w->plain, &w->shape, w->direction), "to compile plain kernels")) {
        return;
    }
    int ok = compute(w, &r, AS_IT_IS, w->expected, &slow) && compute(w, &r, MAGNITUDES, w->sums, NULL);
    r.table->release(r.conv);
    if (!ok) {
        return;
    }
    r = (runner){.table = &us_cu_conv_library};
    if (holds(r.table->compile(&r.conv, w->libraries, &w->shape, w->direction), "to compile")) {
        compare(w, &r, "taken", slow);
        r.table->release(r.conv);
    }
    for (int i = 0; us_cu_libraries[i]; i++) {
        each e = {.taker = {compare_way, 0}, .work = w, .slow = slow};
        holds(us_cu_libraries[i]->offer(w->library[i], &w->shape, w->direction, MOST, &e.taker), "to offer");
    }
}

static void check(work *w, const us_cu_shape *s, us_conv_direction direction)
{
    int64_t in = (int64_t)s->batch * s->in_h * s->in_w * s->ci, out = (int64_t)s->batch * s->out_h * s->out_w * s->co;
    int64_t weights = (int64_t)s->ci * s->co * s->k * s->k;
    void **hosts[] = {&w->expected, &w->sums, &w->got, &w->again, &w->recorded};
    int ok = 1;
    w->shape = *s;
    w->direction = direction;
    w->n_out = direction == US_CU_FORWARD ? out : direction == US_CU_BACK ? in : weights;
    w->a = w->b = w->bias = (values){.n = 0};
    for (int i = 0; i < 5; i++) {
        *hosts[i] = calloc((size_t)w->n_out + 1, 4);
        ok = ok && *hosts[i];
    }
    if (ok && open_values(&w->a, w->stream, direction == US_CU_BACK ? out : in, s->half, 1) &&
        open_values(&w->b, w->stream, direction == US_CU_WEIGHT ? out : weights, s->half, 2) &&
        open_values(&w->bias, w->stream, s->co, s->half, 3)) {
        compare_all(w);
    } else {
        bad++;
    }
    close_values(&w->a);
    close_values(&w->b);
    close_values(&w->bias);
    for (int i = 0; i < 5; i++) {
        free(*hosts[i]);
    }
}

static int open_all(work *w, int search)
{
    us_cu_conv_options o = {.deterministic = 1, .search = search};
    int ok = holds(us_device_use(0), "the device") && holds(us_stream_create(&w->stream), "a stream") &&
             holds(us_event_create(&w->from), "an event") && holds(us_event_create(&w->to), "an event") &&
             holds(us_cu_conv_library.open(&w->libraries, w->stream, &o), "the libraries") &&
             holds(us_cu_conv_plain.open(&w->plain, w->stream, &o), "plain kernels");
    for (int i = 0; ok && us_cu_libraries[i]; i++) {
        ok = holds(us_cu_libraries[i]->open(&w->library[i], 1), us_cu_libraries[i]->name);
    }
    return ok;
}

int main(int argc, char **argv)
{
    us_device_facts facts;
    work w = {.stream = NULL};
    char text[64];
    memset(&facts, 0, sizeof facts);
    const char *why = us_device_facts_get(-1, &facts);
    if (why || facts.count < 1) {
        printf("skipped: %s\n", why ? why : "no GPU");
        return 77;
    }
    if (!open_all(&w, argc > 1 && !strcmp(argv[1], "search"))) {
        return 1;
    }
    us_cu_conv_library.describe(text, sizeof text);
    printf("%s\n", text);
    for (int i = 0; i < N_CONV_SHAPES; i++) {
        for (int half = 0; half < 2; half++) {
            us_cu_shape s = conv_shapes[i];
            s.half = half;
            for (int d = 0; d < 3; d++) {
                check(&w, &s, (us_conv_direction)d);
            }
        }
    }
    us_cu_conv_library.close(w.libraries);
    us_cu_conv_plain.close(w.plain);
    for (int i = 0; us_cu_libraries[i]; i++) {
        us_cu_libraries[i]->close(w.library[i]);
    }
    us_event_free(w.from);
    us_event_free(w.to);
    us_stream_free(w.stream);
    printf("%d failed\n", bad);
    return bad != 0;
}
