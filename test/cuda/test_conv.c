// cuda/conv_plain.cu under emulation against the definition in double precision (src/cpu/ref.h): the three
// directions, both kinds, float and half, over random shapes; windows that hold a part of the image; the sums of
// rounding errors as bound. Also: results repeat to the bit whatever the order of blocks and threads.
// USPLIT_TEST_SEED=n makes another choice of shapes and values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "conv.h"
#include "cpu/ref.h"
#include "emulate.h"
#include "kernels/philox.h"
#include "net/build.h"
#include "ways.h"

enum { N_TRIALS = 150 };

static uint64_t seed, drawn;
static int one_channel;             // trials are for conv_thin.cu, whose way is run in place of the plain kernel

static double uniform(double low, double high)
{
    us_u32x4 r = us_philox(seed, (uint32_t)drawn++, 0, 0, 97);
    return low + (high - low) * us_uniform53(r.v[0], r.v[1]);
}

static int pick(int low, int high)
{
    return low + (int)uniform(0, high - low + 1);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("USPLIT_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

// ---- A trial: one op of the reference, and the windows of its input and output that the kernels see ----

typedef struct trial {
    us_graph graph;
    us_ref_op op;
    us_cu_shape shape;
    int in_y, in_x, out_y, out_x;       // corners of the windows in the full tensors
    int64_t n_in, n_out, n_weights, n_params;
    double *in, *out, *g, *g_in, *grads;
    float *params;                      // weights, then bias
} trial;

static void *room(int64_t n, size_t size)
{
    void *block = calloc((size_t)n + 1, size);
    assert_non_null(block);
    return block;
}

// A value that the element type holds exactly.
static double value(int half)
{
    float x = (float)uniform(-1, 1);
    return half ? us_half_bits_value(us_half_bits_of(x)) : x;
}

static void add_param(us_graph *g, us_param p)
{
    assert_int_equal(us_graph_add_param(g, &p), USPLIT_OK);
}

static void random_shape(trial *t, us_node *node, us_node *input)
{
    static const int widths[] = {1, 2, 3, 5, 8, 9, 16, 17, 24};
    us_cu_shape *s = &t->shape;
    *s = (us_cu_shape){.batch = pick(1, 3), .ci = widths[pick(0, 8)], .co = widths[pick(0, 8)],
                       .transposed = pick(0, 2) == 0, .half = pick(0, 1)};
    s->k = s->transposed ? 3 : 2 * pick(0, 2) + 1;
    s->stride = s->transposed ? 2 : pick(1, 2);
    if (one_channel) {
        s->ci = s->stride = 1, s->transposed = 0;
        s->k = 3 + 2 * pick(0, 1);
        s->co = 8 * pick(1, 10);
    }
    int more = one_channel ? 80 : 8;
    int pad = s->transposed ? 1 : pick(0, s->k / 2), low = s->k > 2 * pad ? s->k - 2 * pad : 1;
    *input = (us_node){.op = US_OP_INPUT, .c = s->ci, .h = pick(low, low + more), .w = pick(low, low + more)};
    *node = (us_node){.op = s->transposed ? US_OP_TCONV : US_OP_CONV, .n_in = 1, .c = s->co, .k = s->k,
                      .stride = s->stride, .pad = pad, .weight = 0, .bias = 1};
    node->h = s->transposed ? 2 * input->h : (input->h + 2 * pad - s->k) / s->stride + 1;
    node->w = s->transposed ? 2 * input->w : (input->w + 2 * pad - s->k) / s->stride + 1;
}

// Half of the trials see everything, the others any part of it: what is outside counts as zero.
static void random_windows(trial *t, const us_node *node, const us_node *input)
{
    us_cu_shape *s = &t->shape;
    s->in_h = input->h, s->in_w = input->w, s->out_h = node->h, s->out_w = node->w;
    t->in_y = t->in_x = t->out_y = t->out_x = 0;
    if (pick(0, 1)) {
        s->in_h = pick(1, input->h), s->in_w = pick(1, input->w);
        s->out_h = pick(1, node->h), s->out_w = pick(1, node->w);
        t->in_y = pick(0, input->h - s->in_h), t->in_x = pick(0, input->w - s->in_w);
        t->out_y = pick(0, node->h - s->out_h), t->out_x = pick(0, node->w - s->out_w);
    }
    s->top = s->transposed ? 1 + t->out_y - 2 * t->in_y : node->pad + t->in_y - s->stride * t->out_y;
    s->left = s->transposed ? 1 + t->out_x - 2 * t->in_x : node->pad + t->in_x - s->stride * t->out_x;
}

// Fills a window of a full tensor [N][h][w][c] with values; zero around it.
static void fill(double *full, int n, int h, int w, int c, const int window[4], int half)
{
    for (int64_t i = 0; i < (int64_t)n * h * w * c; i++) {
        int x = (int)(i / c % w) - window[1], y = (int)(i / c / w % h) - window[0];
        full[i] = y >= 0 && y < window[2] && x >= 0 && x < window[3] ? value(half) : 0;
    }
}

// The element of the full tensor that element i of the window is.
static int64_t full_of(int64_t i, int h, int w, int c, const int window[4])
{
    int64_t channel = i % c, x = i / c % window[3], y = i / c / window[3] % window[2];
    int64_t sample = i / c / window[3] / window[2];
    return ((sample * h + y + window[0]) * w + x + window[1]) * c + channel;
}

static void open_trial(trial *t)
{
    us_node node, input;
    int at;
    memset(t, 0, sizeof *t);
    random_shape(t, &node, &input);
    random_windows(t, &node, &input);
    const us_cu_shape *s = &t->shape;
    int64_t a = s->transposed ? s->ci : s->co, b = s->transposed ? s->co : s->ci;
    add_param(&t->graph, (us_param){.kind = US_PARAM_WEIGHT, .n_dims = 4, .dims = {a, b, s->k, s->k}});
    add_param(&t->graph, (us_param){.kind = US_PARAM_BIAS, .n_dims = 1, .dims = {s->co}});
    assert_int_equal(us_graph_add(&t->graph, input, &at), USPLIT_OK);
    assert_int_equal(us_graph_add(&t->graph, node, &at), USPLIT_OK);
    t->n_in = (int64_t)s->batch * input.h * input.w * s->ci;
    t->n_out = (int64_t)s->batch * node.h * node.w * s->co;
    t->n_weights = t->graph.params[0].count;
    t->n_params = t->graph.n_floats;
    t->in = room(t->n_in, sizeof *t->in), t->g_in = room(t->n_in, sizeof *t->g_in);
    t->out = room(t->n_out, sizeof *t->out), t->g = room(t->n_out, sizeof *t->g);
    t->params = room(t->n_params, sizeof *t->params), t->grads = room(t->n_params, sizeof *t->grads);
    fill(t->in, s->batch, input.h, input.w, s->ci, (int[]){t->in_y, t->in_x, s->in_h, s->in_w}, s->half);
    fill(t->g, s->batch, node.h, node.w, s->co, (int[]){t->out_y, t->out_x, s->out_h, s->out_w}, s->half);
    for (int64_t i = 0; i < t->n_params; i++) {
        t->params[i] = (float)value(s->half);
    }
    t->op = (us_ref_op){.graph = &t->graph, .node = &t->graph.nodes[1], .batch = s->batch, .train = 1,
                        .params = t->params, .in = {t->in}, .out = t->out, .g = t->g, .g_in = {t->g_in},
                        .grads = t->grads};
}

static void close_trial(trial *t)
{
    void *blocks[] = {t->in, t->g_in, t->out, t->g, t->params, t->grads};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    us_free(NULL, t->graph.nodes);
    us_free(NULL, t->graph.params);
}

// The three results, from the values or (for the bound) from their magnitudes. The caller frees them.
static void reference(const trial *t, int magnitudes, double *results[3])
{
    trial m = *t;
    double *in = room(t->n_in, sizeof *in), *g = room(t->n_out, sizeof *g);
    float *params = room(t->n_params, sizeof *params);
    for (int64_t i = 0; i < t->n_in; i++) {
        in[i] = magnitudes ? fabs(t->in[i]) : t->in[i];
    }
    for (int64_t i = 0; i < t->n_out; i++) {
        g[i] = magnitudes ? fabs(t->g[i]) : t->g[i];
    }
    for (int64_t i = 0; i < t->n_params; i++) {
        params[i] = magnitudes ? fabsf(t->params[i]) : t->params[i];
    }
    results[0] = room(t->n_out, sizeof **results);
    results[1] = room(t->n_in, sizeof **results);
    results[2] = room(t->n_params, sizeof **results);
    m.op.in[0] = in, m.op.g = g, m.op.params = params;
    m.op.out = results[0], m.op.g_in[0] = results[1], m.op.grads = results[2];
    us_ref_forward(&m.op);
    us_ref_backward(&m.op);
    free(in);
    free(g);
    free(params);
}

// ---- Device side ----

static void *upload(us_stream *stream, const double *x, int64_t n, int half)
{
    void *device;
    size_t size = half ? 2 : 4;
    char *host = room(n, size);
    for (int64_t i = 0; i < n; i++) {
        if (half) {
            ((uint16_t *)(void *)host)[i] = us_half_bits_of((float)x[i]);
        } else {
            ((float *)(void *)host)[i] = (float)x[i];
        }
    }
    assert_null(us_device_alloc(&device, n * (int64_t)size));
    assert_null(us_copy_up(stream, device, host, n * (int64_t)size));
    assert_null(us_stream_wait(stream));
    free(host);
    return device;
}

static void download(us_stream *stream, const void *device, double *x, int64_t n, int half)
{
    size_t size = half ? 2 : 4;
    char *host = room(n, size);
    assert_null(us_copy_down(stream, host, device, n * (int64_t)size));
    assert_null(us_stream_wait(stream));
    for (int64_t i = 0; i < n; i++) {
        x[i] = half ? us_half_bits_value(((uint16_t *)(void *)host)[i]) : ((float *)(void *)host)[i];
    }
    free(host);
}

// Window of a full tensor to the device.
static void *upload_window(us_stream *stream, const double *full, int n, int h, int w, int c, const int window[4],
                           int half)
{
    int64_t count = (int64_t)n * window[2] * window[3] * c;
    double *part = room(count, sizeof *part);
    for (int64_t i = 0; i < count; i++) {
        part[i] = full[full_of(i, h, w, c, window)];
    }
    void *device = upload(stream, part, count, half);
    free(part);
    return device;
}

// Weights as the device holds them: [A][k][k][B].
static int64_t published_of(const us_cu_shape *s, int64_t i)
{
    us_cu_sides d = us_cu_sides_of(s);
    int64_t taps = d.k * d.k, b = i % d.b, tap = i / d.b % taps, a = i / d.b / taps;
    return (a * d.b + b) * taps + tap;
}

static void *upload_weights(us_stream *stream, const trial *t)
{
    double *w = room(t->n_weights, sizeof *w);
    for (int64_t i = 0; i < t->n_weights; i++) {
        w[i] = t->params[published_of(&t->shape, i)];
    }
    void *device = upload(stream, w, t->n_weights, t->shape.half);
    free(w);
    return device;
}

static void *upload_bias(us_stream *stream, const trial *t)
{
    double *b = room(t->shape.co, sizeof *b);
    for (int i = 0; i < t->shape.co; i++) {
        b[i] = t->params[t->graph.params[1].offset + i];
    }
    void *device = upload(stream, b, t->shape.co, t->shape.half);
    free(b);
    return device;
}

typedef struct inputs {
    void *in, *g, *weights, *bias;      // device
} inputs;

static const char *take(us_cu_taker *taker, us_cu_way *way, int *done)
{
    *(us_cu_way **)(taker + 1) = way;
    taker->taken++;
    *done = 1;
    return NULL;
}

// By the way that conv_thin.cu offers.
static void run_thin(us_stream *stream, const trial *t, const inputs *d, int64_t n, double *out)
{
    const us_cu_library *library = &us_cu_library_thin;
    struct {
        us_cu_taker taker;
        us_cu_way *way;
    } taken = {{take, 0}, NULL};
    void *own, *result, *workspace;
    assert_null(library->open(&own, 1));
    assert_null(library->offer(own, &t->shape, US_CU_WEIGHT, 8, &taken.taker));
    assert_int_equal(taken.taker.taken, 1);
    assert_null(us_device_alloc(&result, n * (t->shape.half ? 2 : 4)));
    assert_null(us_device_alloc(&workspace, taken.way->workspace));
    us_cu_arguments args = {d->in, d->g, NULL, result, workspace};
    assert_null(library->run(taken.way, stream, &args));
    download(stream, result, out, n, t->shape.half);
    us_device_free(workspace);
    us_device_free(result);
    library->release(taken.way);
    library->close(own);
}

static void run(us_stream *stream, const trial *t, us_conv_direction direction, const inputs *d, int64_t n, double *out)
{
    if (one_channel) {
        run_thin(stream, t, d, n, out);
        return;
    }
    const us_cu_conv_table *table = &us_cu_conv_plain;
    us_cu_engine *engine;
    us_cu_conv *conv;
    void *result, *workspace;
    assert_null(table->open(&engine, stream, NULL));
    assert_null(table->compile(&conv, engine, &t->shape, direction));
    assert_string_equal(table->note(conv), "plain");
    assert_null(us_device_alloc(&result, n * (t->shape.half ? 2 : 4)));
    assert_null(us_device_alloc(&workspace, table->workspace(conv) + 1));
    const void *a = direction == US_CU_BACK ? d->g : d->in, *b = direction == US_CU_WEIGHT ? d->g : d->weights;
    assert_null(table->run(conv, stream, a, b, direction == US_CU_FORWARD ? d->bias : NULL, result, workspace));
    download(stream, result, out, n, t->shape.half);
    us_device_free(workspace);
    us_device_free(result);
    table->release(conv);
    table->close(engine);
}

// ---- Comparison ----

// A float sum of n terms and a bias is off by at most (n + 1) * 2^-24 * (1 + small) of the sum of magnitudes, in
// whatever order it is made; products add 1. Storing as half adds 2^-11 of the value, 2^-25 below the normal range.
static double bound(const us_cu_shape *s, int64_t terms, double wanted, double magnitude)
{
    double sum = ldexp((double)terms + 3, -24) * magnitude * 1.01;
    return s->half ? sum + ldexp(fabs(wanted) + sum, -11) + ldexp(1, -25) : sum;
}

static const char *const names[] = {"forward", "back", "weight"};

static void expect(const trial *t, us_conv_direction d, int64_t i, int64_t terms, double got, double wanted,
                   double magnitude)
{
    const us_cu_shape *s = &t->shape;
    double allowed = bound(s, terms, wanted, magnitude);
    if (!(fabs(got - wanted) <= allowed)) {
        fail_msg("%s, seed %llu: element %lld is %.9g, not %.9g, bound %.3g (batch %d ci %d co %d k %d stride %d "
                 "transposed %d in %d x %d out %d x %d top %d left %d half %d)", names[d], (unsigned long long)seed,
                 (long long)i, got, wanted, allowed, s->batch, s->ci, s->co, s->k, s->stride,
                 s->transposed, s->in_h, s->in_w, s->out_h, s->out_w, s->top, s->left, s->half);
    }
}

static void check_trial(us_stream *stream, const trial *t)
{
    const us_cu_shape *s = &t->shape;
    const us_node *in = &t->graph.nodes[0], *out = &t->graph.nodes[1];
    const int in_window[4] = {t->in_y, t->in_x, s->in_h, s->in_w};
    const int out_window[4] = {t->out_y, t->out_x, s->out_h, s->out_w};
    inputs d = {upload_window(stream, t->in, s->batch, in->h, in->w, s->ci, in_window, s->half),
                upload_window(stream, t->g, s->batch, out->h, out->w, s->co, out_window, s->half),
                upload_weights(stream, t), upload_bias(stream, t)};
    double *want[3], *most[3];
    reference(t, 0, want);
    reference(t, 1, most);
    int64_t n[3] = {(int64_t)s->batch * s->out_h * s->out_w * s->co, (int64_t)s->batch * s->in_h * s->in_w * s->ci,
                    t->n_weights};
    int64_t taps = s->k * s->k;
    int64_t terms[3] = {taps * s->ci, taps * s->co, (int64_t)s->batch * s->out_h * s->out_w + 128};
    for (int k = one_channel ? US_CU_WEIGHT : 0; k < 3; k++) {
        double *got = room(n[k], sizeof *got), *again = room(n[k], sizeof *again);
        run(stream, t, (us_conv_direction)k, &d, n[k], got);
        us_emulate_shuffle(seed + 1);
        run(stream, t, (us_conv_direction)k, &d, n[k], again);
        us_emulate_shuffle(0);
        assert_memory_equal(got, again, (size_t)n[k] * sizeof *got);
        for (int64_t i = 0; i < n[k]; i++) {
            int64_t at = k == 2 ? published_of(s, i)
                                : full_of(i, k ? in->h : out->h, k ? in->w : out->w, k ? s->ci : s->co,
                                          k ? in_window : out_window);
            expect(t, (us_conv_direction)k, i, terms[k], got[i], want[k][at], most[k][at]);
        }
        free(got);
        free(again);
    }
    void *blocks[] = {d.in, d.g, d.weights, d.bias};
    for (int i = 0; i < 4; i++) {
        us_device_free(blocks[i]);
    }
    for (int i = 0; i < 3; i++) {
        free(want[i]);
        free(most[i]);
    }
}

static void test_against_reference(void **state)
{
    us_stream *stream;
    (void)state;
    int64_t leaks = us_emulate_leaks();
    int handles = us_emulate_handles();
    assert_null(us_stream_create(&stream));
    for (uint64_t i = 0; i < (one_channel ? N_TRIALS / 5 : N_TRIALS); i++) {
        seed = first_seed() * 1000 + i, drawn = 0;
        trial t;
        open_trial(&t);
        check_trial(stream, &t);
        close_trial(&t);
    }
    us_stream_free(stream);
    assert_int_equal(us_emulate_leaks(), leaks);
    assert_int_equal(us_emulate_handles(), handles);
}

// The weight gradient of one input channel, by a kernel of its own. What it is not for it does not offer.
static void test_one_channel(void **state)
{
    us_cu_taker none = {take, 0};
    const us_cu_shape like = {.batch = 1, .ci = 1, .co = 16, .k = 3, .stride = 1, .in_h = 8, .in_w = 8, .out_h = 8,
                              .out_w = 8};
    us_cu_shape others[4] = {like, like, like, like};
    others[0].ci = 2, others[1].co = 12, others[2].stride = 2, others[3].k = 1;
    for (int i = 0; i < 4; i++) {
        assert_null(us_cu_library_thin.offer(NULL, &others[i], US_CU_WEIGHT, 8, &none));
    }
    assert_null(us_cu_library_thin.offer(NULL, &like, US_CU_FORWARD, 8, &none));
    assert_int_equal(none.taken, 0);
    one_channel = 1;
    test_against_reference(state);
    one_channel = 0;
}

// More rows than parts, and more weights than the partial sums may take at once.
static void test_parts(void **state)
{
    us_stream *stream;
    us_cu_engine *engine;
    us_cu_conv *conv;
    (void)state;
    us_cu_shape small = {.batch = 2, .ci = 2, .co = 3, .k = 3, .stride = 1, .in_h = 100, .in_w = 3, .out_h = 100,
                         .out_w = 3, .top = 1, .left = 1};
    us_cu_shape wide = {.batch = 32, .ci = 512, .co = 512, .k = 3, .stride = 1, .in_h = 8, .in_w = 8, .out_h = 8,
                        .out_w = 8, .top = 1, .left = 1};
    const us_cu_conv_table *table = &us_cu_conv_plain;
    assert_null(us_stream_create(&stream));
    assert_null(table->open(&engine, stream, NULL));
    assert_null(table->compile(&conv, engine, &small, US_CU_WEIGHT));
    assert_int_equal(table->workspace(conv), 128 * 2 * 3 * 9 * 4);
    table->release(conv);
    assert_null(table->compile(&conv, engine, &wide, US_CU_WEIGHT));
    assert_true(table->workspace(conv) <= 64 << 20);
    assert_true(table->workspace(conv) >= 32 << 20);
    table->release(conv);
    assert_null(table->compile(&conv, engine, &wide, US_CU_FORWARD));
    assert_int_equal(table->workspace(conv), 0);
    table->release(conv);
    table->close(engine);
    us_stream_free(stream);
}

// 200 rows in 128 parts: in(y) = 1, g(y) = 1, so every weight counts the places where its tap meets the image.
static void test_many_rows(void **state)
{
    us_stream *stream;
    (void)state;
    trial t = {.shape = {.batch = 2, .ci = 2, .co = 3, .k = 3, .stride = 1, .in_h = 100, .in_w = 3, .out_h = 100,
                         .out_w = 3, .top = 1, .left = 1}};
    double *ones = room(1800, sizeof *ones), got[54];
    for (int i = 0; i < 1800; i++) {
        ones[i] = 1;
    }
    assert_null(us_stream_create(&stream));
    inputs d = {.in = upload(stream, ones, 1200, 0), .g = upload(stream, ones, 1800, 0)};
    run(stream, &t, US_CU_WEIGHT, &d, 54, got);
    for (int i = 0; i < 54; i++) {
        int u = i / 2 / 3 % 3, v = i / 2 % 3;
        assert_true(got[i] == 2 * (u == 1 ? 100 : 99) * (v == 1 ? 3 : 2));
    }
    us_device_free(d.in);
    us_device_free(d.g);
    us_stream_free(stream);
    free(ones);
}

static void test_bias(void **state)
{
    us_stream *stream;
    (void)state;
    assert_null(us_stream_create(&stream));
    for (int half = 0; half < 2; half++) {
        for (int c = 1; c < 18; c++) {
            double x[17 * 5], b[17], got[17 * 5];
            for (int i = 0; i < 5 * c; i++) {
                x[i] = i % 7 - 3;
                b[i % c] = 0.5 * (i % c) - 2;
            }
            void *out = upload(stream, x, 5 * c, half), *bias = upload(stream, b, c, half);
            assert_null(us_cu_add_bias(stream, out, bias, 5, c, half));
            download(stream, out, got, 5 * c, half);
            for (int i = 0; i < 5 * c; i++) {
                assert_true(got[i] == x[i] + b[i % c]);
            }
            us_device_free(out);
            us_device_free(bias);
        }
    }
    us_stream_free(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_reference), cmocka_unit_test(test_one_channel),
                                       cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_many_rows), cmocka_unit_test(test_bias)};
    return cmocka_run_group_tests_name("cuda_conv", tests, NULL, NULL);
}
