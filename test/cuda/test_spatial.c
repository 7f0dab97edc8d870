// The spatial ops on the device (spatial.cu) against the CPU's (src/cpu/spatial.c): every op, both directions, float
// and half, random sizes, channels, batches and windows, blocks and threads in random order.
//
// In float both sides do the same operations in the same order, but for averages, whose sums in double differ in
// order. A half that is written is rounded: 2^-11 of its value, 2^-25 where it is subnormal.
#include "cpu/spatial.h"
#include "device_case.h"
#include "plan/lowering.h"
#include "spatial.h"

enum { ROUNDS = 240 };

static const double UNIT = 1.0 / 16777216, HALF_UNIT = 1.0 / 2048, HALF_LEAST = 1.0 / 33554432;

typedef struct spatial_case {
    us_spatial s;
    int batch, half;
    size_t in, out;             // elements of a sample's windows
    float *planes;
} spatial_case;

static us_rect window_in(int h, int w)
{
    us_rect r = {.h = 1 + below(h), .w = 1 + below(w)};
    r.y0 = below(h - r.h + 1);
    r.x0 = below(w - r.w + 1);
    return r;
}

// The op's node on an input of random size, all of its output or (windows) a part of it.
static spatial_case make_case(us_op op, int half, int windows)
{
    spatial_case t = {.batch = 1 + below(3), .half = half};
    us_node in = {.c = below(2) ? 8 * (1 + below(5)) : 1 + below(19), .h = 1 + below(20), .w = 1 + below(20)};
    us_node n = {.op = op, .k = 1, .c = in.c, .h = in.h, .w = in.w};
    if (op == US_OP_POOL) {
        in.h++, in.w++;
        n.h = in.h / 2, n.w = in.w / 2;
    } else if (op == US_OP_LINEAR) {        // a crop of the up-sampled plane, or one with a border of zeros
        n.dy = below(5) - 2, n.dx = below(5) - 2;
        n.h = 2 * in.h - n.dy - below(2), n.w = 2 * in.w - n.dx - below(2);
        n.h = n.h < 1 ? 1 : n.h, n.w = n.w < 1 ? 1 : n.w;
    } else if (op == US_OP_NEAREST) {
        n.k = 1 + below(4);
        n.h = n.k * in.h, n.w = n.k * in.w;
    } else if (op == US_OP_REFLECT) {
        n.pad = below(in.h < in.w ? in.h : in.w);
        n.h = in.h + 2 * n.pad, n.w = in.w + 2 * n.pad;
    } else if (op == US_OP_SCAN) {
        n.c = 4 * in.c;
    } else {
        in.c = n.c = 2 * in.c;
        n.k = below(2);
    }
    int local = op == US_OP_POOL || op == US_OP_LINEAR || op == US_OP_NEAREST;
    us_rect out = {.h = n.h, .w = n.w};
    out = windows && local ? window_in(n.h, n.w) : out;
    t.s = (us_spatial){.op = op, .in = us_need_spatial_input(&n, &in, out), .out = out, .in_h = in.h, .in_w = in.w,
                       .out_h = n.h, .out_w = n.w, .c = in.c, .k = op == US_OP_REFLECT ? n.pad : n.k, .dy = n.dy,
                       .dx = n.dx, .weight = -1, .scanned = -1, .partial = -1};
    t.in = (size_t)(t.s.in.h * t.s.in.w * in.c);
    t.out = (size_t)(out.h * out.w * n.c);
    t.planes = random_floats((size_t)(4 * in.h * in.w), 2);
    return t;
}

static float *random_elements(size_t n, int half)
{
    float *x = random_floats(n, 1);
    for (size_t i = 0; i < n; i++) {
        x[i] = half ? us_half_bits_value(us_half_bits_of(x[i])) : x[i];
    }
    return x;
}

// slack: what is allowed besides the rounding of one half. A device that fuses saves roundings: of up to 16 products of
// values below 1 and as many sums.
static void compare(const spatial_case *t, const char *what, const float *got, const float *want, size_t n,
                    const float *slack)
{
    for (size_t i = 0; i < n; i++) {
        double more = slack ? (double)slack[i] : SAME_BITS ? 0 : 64 * UNIT, a = (double)want[i], b = (double)got[i];
        if (!t->half && !slack) {
            same_value(b, a, 256 * UNIT);
            continue;
        }
        double allowed = more + (t->half ? HALF_UNIT * (fabs(a) + more) + HALF_LEAST : 0);
        if (!(fabs(a - b) <= allowed)) {
            fail_msg("%s %s, element %d: %.9g, should be %.9g within %.3g", us_op_name(t->s.op), what, (int)i, b, a,
                     allowed);
        }
    }
}

typedef struct device_run {
    us_cu_env env;
    float *planes;
} device_run;

static device_run begin_run(const spatial_case *t)
{
    device_run d = {.env = {.batch = t->batch, .half = t->half}};
    d.planes = up(t->planes, (size_t)(4 * t->s.in_h * t->s.in_w) * sizeof(float));
    return d;
}

static void end_run(device_run *d)
{
    us_device_free(d->planes);
}

// Averages are made in double: in another order the next float at most.
static float *level_slack(const float *want, size_t n)
{
    float *slack = room(n * sizeof *slack);
    for (size_t i = 0; i < n; i++) {
        slack[i] = (float)(2 * UNIT * fabs((double)want[i]));
    }
    return slack;
}

static void check_forward(us_op op, int half)
{
    spatial_case t = make_case(op, half, below(2));
    size_t in = t.in * (size_t)t.batch, out = t.out * (size_t)t.batch;
    float *x = random_elements(in, half), *want = random_elements(out, half), *got = room(out * sizeof *got);
    device_run d = begin_run(&t);
    void *src = elements_up(x, in, half), *dst = elements_up(want, out, half);
    ok(us_cu_spatial(stream, &d.env, &t.s, d.planes, src, dst));
    elements_down(got, dst, out, half);
    for (int s = 0; s < t.batch; s++) {
        us_spatial_run(&t.s, t.planes, x + (size_t)s * t.in, want + (size_t)s * t.out);
    }
    float *slack = op == US_OP_LEVEL ? level_slack(want, out) : NULL;
    compare(&t, "forward", got, want, out, slack);
    us_device_free(src);
    end_run(&d);
    free(slack);
    free(x);
    free(want);
    free(got);
    free(t.planes);
}

static void run_back(const spatial_case *t, const float *g, const float *x, const float *y, float *dst, float *partial)
{
    size_t pixels = (size_t)(t->s.in_h * t->s.in_w);
    for (int s = 0; s < t->batch; s++) {
        us_spatial_run_back(&t->s, t->planes, g + (size_t)s * t->out, x + (size_t)s * t->in, y + (size_t)s * t->out,
                            dst + (size_t)s * t->in, partial + (size_t)s * pixels * 4);
    }
}

// A recurrence's gradient of the input is written four times, each a rounding of the sum so far: at most the sum
// for |g|, as which gradients pass does not depend on g. The planes' is a sum over channels, in another order: each
// term is at most a quarter of a gradient, which is at most 1 + gate + gate^2 ... < 9 for planes within 2, times y.
static void scan_slack(const spatial_case *t, const float *g, const float *x, const float *y, float *dst,
                       float *partial)
{
    size_t in = t->in * (size_t)t->batch, out = t->out * (size_t)t->batch, n = in / (size_t)t->s.c * 4;
    float *magnitude = room(out * sizeof *magnitude), most = 0;
    for (size_t i = 0; i < out; i++) {
        magnitude[i] = fabsf(g[i]);
        most = fmaxf(most, fabsf(y[i]));
    }
    memset(dst, 0, in * sizeof *dst);
    memset(partial, 0, n * sizeof *partial);
    run_back(t, magnitude, x, y, dst, partial);
    for (size_t i = 0; i < in; i++) {
        dst[i] = (float)((t->half ? 4 * HALF_UNIT : SAME_BITS ? 0 : 256 * UNIT) * (double)dst[i] +
                         (t->half ? 4 * HALF_LEAST : 0));
    }
    for (size_t i = 0; i < n; i++) {
        partial[i] = (float)((t->s.c + 8) * UNIT * t->s.c * 9 / 4) * most;
    }
    free(magnitude);
}

static void check_back(us_op op, int half)
{
    spatial_case t = make_case(op, half, 0);
    us_rect whole_in = {.h = t.s.in_h, .w = t.s.in_w};
    t.s.in = op == US_OP_LINEAR ? t.s.in : whole_in;        // its forward pass may read a window in training too
    t.in = (size_t)(t.s.in_h * t.s.in_w * t.s.c);
    size_t in = t.in * (size_t)t.batch, out = t.out * (size_t)t.batch, n = in / (size_t)t.s.c * 4;
    float *x = random_elements(in, half), *g = random_elements(out, half), *y = random_elements(out, half);
    float *want = random_elements(in, half), *got = room(in * sizeof *got);
    float *want_planes = random_elements(n, half), *got_planes = room(n * sizeof *got_planes);
    float *slack = room(in * sizeof *slack), *slack_planes = room(n * sizeof *slack_planes);
    if (op == US_OP_POOL && below(2)) {                     // equal values: the first gets the gradient
        for (size_t i = 0; i < in; i++) {
            x[i] = (float)below(3);
        }
    }
    for (int s = 0; s < t.batch && op == US_OP_SCAN; s++) {
        us_spatial_run(&t.s, t.planes, x + (size_t)s * t.in, y + (size_t)s * t.out);
    }
    for (size_t i = 0; i < out && half; i++) {
        y[i] = us_half_bits_value(us_half_bits_of(y[i]));
    }
    device_run d = begin_run(&t);
    void *dx = elements_up(x, in, half), *dy = elements_up(y, out, half), *dg = elements_up(g, out, half);
    void *dst = elements_up(want, in, half), *partial = elements_up(want_planes, n, half);
    ok(us_cu_spatial_back(stream, &d.env, &t.s, d.planes, dg, dx, dy, dst, partial));
    elements_down(got, dst, in, half);
    elements_down(got_planes, partial, n, half);
    if (op == US_OP_SCAN) {
        scan_slack(&t, g, x, y, slack, slack_planes);
    }
    run_back(&t, g, x, y, want, want_planes);
    float *level = op == US_OP_LEVEL ? level_slack(want, in) : NULL;
    compare(&t, "backward", got, want, in, op == US_OP_SCAN ? slack : level);
    compare(&t, "gradient of the planes", got_planes, want_planes, n, op == US_OP_SCAN ? slack_planes : NULL);
    us_device_free(dx);
    us_device_free(dy);
    us_device_free(dg);
    end_run(&d);
    float *all[] = {x, g, y, want, got, want_planes, got_planes, slack, slack_planes, level, t.planes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]);
    }
}

static const us_op ops[] = {US_OP_POOL, US_OP_LINEAR, US_OP_NEAREST, US_OP_REFLECT, US_OP_SCAN, US_OP_LEVEL};
enum { N_OPS = sizeof ops / sizeof *ops };

static void test_forward(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        check_forward(ops[round % N_OPS], round / N_OPS % 2);
    }
}

static void test_backward(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        check_back(ops[round % N_OPS], round / N_OPS % 2);
    }
}

// Blocks and threads in another order: the same bits, also where sums meet in shared memory.
static void test_order(void **state)
{
    (void)state;
    for (int round = 0; round < 12; round++) {
        float *first = NULL;
        for (int order = 0; order < 3; order++) {
            begin_round(round);
            spatial_case t = make_case(US_OP_SCAN, round % 2, 0);
            size_t in = t.in * (size_t)t.batch, out = t.out * (size_t)t.batch, n = in / (size_t)t.s.c * 4;
            float *x = random_elements(in, t.half), *g = random_elements(out, t.half), *got = room(n * sizeof *got);
            memset(got, 0, n * sizeof *got);
            device_run d = begin_run(&t);
            void *dx = elements_up(x, in, t.half), *dg = elements_up(g, out, t.half), *dst = elements_up(x, in, t.half);
            void *dy = elements_up(g, out, t.half), *partial = elements_up(got, n, t.half);
            us_emulate_shuffle((uint64_t)(order * (round + 1)));
            ok(us_cu_spatial_back(stream, &d.env, &t.s, d.planes, dg, dx, dy, dst, partial));
            elements_down(got, partial, n, t.half);
            if (first) {
                assert_memory_equal(first, got, n * sizeof *got);
            }
            void *there[] = {dx, dg, dst, dy};
            for (int i = 0; i < 4; i++) {
                us_device_free(there[i]);
            }
            end_run(&d);
            free(order ? got : NULL);
            first = order ? first : got;
            free(x);
            free(g);
            free(t.planes);
        }
        free(first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forward, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_backward, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
