// src/cpu/ref_*.c, the definition in double precision: gradients against finite differences, op by op and
// for whole small networks; the scalar vectors of networks 14.2, by the reference and by the float functions
// of src/kernels/elem.h; accuracy of those functions and moments of the random draws.
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

#include "cpu/ref.h"
#include "kernels/elem.h"
#include "net/build.h"

static uint64_t seed, drawn;

static double uniform(double low, double high)
{
    us_u32x4 r = us_philox(seed, (uint32_t)drawn++, 0, 0, 99);
    return low + (high - low) * us_uniform53(r.v[0], r.v[1]);
}

static int pick(int low, int high)
{
    return low + (int)uniform(0, high - low + 1);
}

// A value in [-2, 2] that keeps 0.05 away from the kinks at 0 and at the clips used here, 1 and -1, and is a
// multiple of 2^-12, so that a float parameter plus a step of 2^-8 is exact.
static double smooth_value(void)
{
    for (;;) {
        double x = floor(uniform(-2, 2) * 4096) / 4096;
        if (fabs(x) > 0.05 && fabs(fabs(x) - 1) > 0.05) {
            return x;
        }
    }
}

static uint64_t first_seed(void)
{
    const char *text = getenv("USPLIT_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

// ---- One op against finite differences --------------------------------------------------------------

enum { MOST = 4096 };           // values of a tensor here

typedef struct bench {
    us_graph graph;
    us_ref_op op;
    float params[MOST];
    double in[3][MOST], g_in[3][MOST], out[MOST], g[MOST], eps[MOST], grads[MOST];
    double mask[MOST], mean[64], var[64];
} bench;

static bench b;

static void close_bench(void)
{
    us_free(NULL, b.graph.nodes);
    us_free(NULL, b.graph.params);
}

static int add_input(int c, int h, int w)
{
    int out;
    us_node n = {.op = US_OP_INPUT, .c = c, .h = h, .w = w};
    assert_int_equal(us_graph_add(&b.graph, n, &out), USPLIT_OK);
    return out;
}

static int add_param(us_param_kind kind, int n_dims, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    us_param p = {.kind = kind, .n_dims = n_dims, .dims = {d0, d1, d2, d3}};
    assert_int_equal(us_graph_add_param(&b.graph, &p), USPLIT_OK);
    return b.graph.n_params - 1;
}

static int64_t count_of(int node)
{
    const us_node *n = &b.graph.nodes[node];
    int64_t count = (int64_t)b.op.batch * n->h * n->w * n->c;
    assert_true(count <= MOST);
    return count;
}

// The function whose gradient is taken: outputs weighted by g.
static double objective(void)
{
    us_ref_forward(&b.op);
    double sum = 0;
    for (int64_t i = 0; i < count_of(b.graph.n_nodes - 1); i++) {
        sum += b.g[i] * b.out[i];
    }
    return sum;
}

// Five points: error h^4 / 30 times the fifth derivative, 1e-11 of it, and rounding 1e-14 of the sum.
static const double step = 1.0 / 256;

static double slope_in(double *x)
{
    double at = *x, f[4];
    for (int i = 0; i < 4; i++) {
        *x = at + step * (i < 2 ? i - 2 : i - 1);
        f[i] = objective();
    }
    *x = at;
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step);
}

static double slope_param(float *x)
{
    float at = *x;
    double f[4];
    for (int i = 0; i < 4; i++) {
        *x = at + (float)(step * (i < 2 ? i - 2 : i - 1));
        f[i] = objective();
    }
    *x = at;
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step);
}

static void expect_slope(const char *what, int64_t i, double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-8 * (1 + fabs(expected)))) {
        const us_node *n = b.op.node;
        fail_msg("%s, seed %llu: gradient of %s %lld is %.12g, differences say %.12g (%d x %d x %d x %d)",
                 us_op_name(n->op), (unsigned long long)seed, what, (long long)i, got, expected, b.op.batch,
                 n->h, n->w, n->c);
    }
}

// Adds the node under test behind its inputs and checks every gradient. wants: bit k, input k has one.
static void check_op(us_node node, int batch, int train, unsigned wants)
{
    int at;
    assert_int_equal(us_graph_add(&b.graph, node, &at), USPLIT_OK);
    const us_node *n = &b.graph.nodes[at];
    b.op = (us_ref_op){.graph = &b.graph, .node = n, .batch = batch, .train = train, .params = b.params,
                       .eps = b.eps, .mask = b.mask, .mean = b.mean, .var = b.var, .out = b.out, .g = b.g,
                       .grads = b.grads};
    for (int i = 0; i < MOST; i++) {
        b.params[i] = (float)smooth_value();
        b.g[i] = uniform(-1, 1);
        b.eps[i] = uniform(-2, 2);
        b.grads[i] = 0;
        b.mask[i] = pick(0, 1) * 1.25;
        for (int k = 0; k < n->n_in; k++) {
            b.in[k][i] = smooth_value();
            b.g_in[k][i] = 0;
        }
    }
    for (int i = 0; node.op == US_OP_POOL && i < MOST; i++) {      // no two values of a window near each other
        b.in[0][i] = i * 37 % 127 / 8.0;
    }
    for (int i = 0; node.op == US_OP_SCAN && i < MOST; i++) {      // clearly rectified, or clearly not
        b.in[0][i] = pick(0, 2) ? uniform(0.5, 2) : -20;
    }
    if (node.op == US_OP_BNORM) {       // a running variance is not negative
        for (int c = 0; c < n->c; c++) {
            float *var = b.params + b.graph.params[n->var].offset + c;
            *var = fabsf(*var);
        }
    }
    for (int k = 0; k < n->n_in; k++) {
        b.op.in[k] = b.in[k];
        b.op.g_in[k] = wants >> k & 1 ? b.g_in[k] : NULL;
    }
    us_ref_forward(&b.op);
    us_ref_backward(&b.op);
    for (int k = 0; k < n->n_in; k++) {
        for (int64_t i = 0; (wants >> k & 1) && i < count_of(n->in[k]); i++) {
            expect_slope("input", i, b.g_in[k][i], slope_in(&b.in[k][i]));
        }
    }
    for (int p = 0; p < b.graph.n_params; p++) {
        const us_param *a = &b.graph.params[p];
        for (int64_t i = 0; us_param_trained(a) && i < a->count; i++) {
            expect_slope("parameter", i, b.grads[a->offset + i], slope_param(b.params + a->offset + i));
        }
    }
}

static void check_any(us_op op)
{
    b = (bench){.graph = {.a = NULL}};
    int n = pick(1, 3), c = pick(1, 4), h = pick(2, 6), w = pick(2, 6), train = pick(0, 1);
    us_node node = {.op = op, .in = {0, 1, 2}};
    unsigned wants = 7;
    switch (op) {
    case US_OP_CONV: {
        static const int shapes[][3] = {{1, 1, 0}, {3, 1, 1}, {3, 2, 1}, {5, 1, 2}};
        const int *s = shapes[pick(0, 3)];
        node.c = pick(1, 4), node.k = s[0], node.stride = s[1], node.pad = s[2];
        int spare = pick(0, 2);         // rows of the weight that this network does not use
        node.weight = add_param(US_PARAM_WEIGHT, 4, node.c + spare, c, s[0], s[0]);
        node.bias = pick(0, 1) ? add_param(US_PARAM_BIAS, 1, node.c + spare, 0, 0, 0) : -1;
        add_input(c, h, w);
        break;
    }
    case US_OP_TCONV:
        node.c = pick(1, 4), node.k = 3, node.stride = 2, node.pad = 1;
        node.weight = add_param(US_PARAM_WEIGHT, 4, c, node.c, 3, 3);
        node.bias = add_param(US_PARAM_BIAS, 1, node.c, 0, 0, 0);
        add_input(c, h, w);
        break;
    case US_OP_BNORM:
        node.weight = add_param(US_PARAM_BN_WEIGHT, 1, c, 0, 0, 0);
        node.bias = add_param(US_PARAM_BN_BIAS, 1, c, 0, 0, 0);
        node.mean = add_param(US_PARAM_RUNNING_MEAN, 1, c, 0, 0, 0);
        node.var = add_param(US_PARAM_RUNNING_VAR, 1, c, 0, 0, 0);
        add_input(c, h, w);
        break;
    case US_OP_PRIOR:
        node.c = 2 * c, node.h = h, node.w = h;
        node.weight = add_param(US_PARAM_PRIOR, 4, 1, node.c, h, h);
        break;
    case US_OP_SCALE: node.value = uniform(-3, 3); add_input(c, h, w); break;
    case US_OP_GATE: node.leaky = pick(0, 1), node.value = 0.2; add_input(2 * c, h, w); break;
    case US_OP_LEAKY: node.value = pick(0, 1) * 0.2; add_input(c, h, w); break;
    case US_OP_LINEAR:
        node.h = pick(1, 2 * h + 3), node.w = pick(1, 2 * w + 3), node.dy = pick(-2, 2), node.dx = pick(-2, 2);
        add_input(c, h, w);
        break;
    case US_OP_NEAREST: node.k = pick(1, 3); add_input(c, h, w); break;
    case US_OP_REFLECT: node.pad = pick(0, (h < w ? h : w) - 1); add_input(c, h, w); break;
    case US_OP_SCAN:
        node.weight = add_param(US_PARAM_SCAN, 3, 4, h, w, 0);
        add_input(c, h, w);
        break;
    case US_OP_LEVEL: node.k = pick(0, 1); add_input(2 * c, h, w); break;
    case US_OP_KL_FULL: node.value = 1; add_input(2 * c, h, w); add_input(2 * c, h, w); break;
    case US_OP_MSE: node.value = 0.5, wants = 1; add_input(c, h, w); add_input(c, h, w); break;
    case US_OP_ADD: add_input(c, h, w); add_input(c, h, w); break;
    case US_OP_CONCAT: add_input(c, h, w); add_input(pick(1, 4), h, w); break;
    case US_OP_WINDOW:
        node.h = pick(1, 8), node.w = pick(1, 8), node.dy = pick(-3, 3), node.dx = pick(-3, 3);
        add_input(c, h, w);
        break;
    case US_OP_LATENT: node.value = 1; add_input(2 * c, h, w); break;
    case US_OP_KL: node.value = 1; add_input(2 * c, h, w); add_input(c, h, w); add_input(2 * c, h, w); break;
    case US_OP_NLL: node.value = -1, wants = 1; add_input(2 * c, h, w); add_input(c, h, w); break;
    default: add_input(c, h, w); break;
    }
    check_op(node, n, train, wants);
    close_bench();
}

static void ops_have_the_gradients_of_differences(void **state)
{
    (void)state;
    for (int round = 0; round < 12; round++) {
        for (int op = US_OP_PRIOR; op < US_OP_COUNT; op++) {
            seed = first_seed() * 1000 + (uint64_t)(round * US_OP_COUNT + op);
            drawn = 0;
            check_any((us_op)op);
        }
    }
}

// ---- Whole networks against finite differences ------------------------------------------------------

typedef struct network {
    us_graph *graph;
    us_ref *ref;
    float *params;
    double *grads;
    unsigned char *has_grad;
    double kl_weight, free_bits;
} network;

static double loss_of(network *n)
{
    us_ref_losses losses;
    us_ref_run_forward(n->ref, n->params, n->kl_weight, n->free_bits, &losses);
    return losses.loss;
}

// Moves all values of a parameter by +h and -h along random signs. Values are multiples of 2^-18 and below
// 16, so the sums are exact. The kinks of the second derivative (ELU at 0) and the third derivative leave an
// error of the order (h |d|)^2, 1e-9 times what may be a hundred; rounding leaves 1e-10.
static void check_parameter(network *n, int p, const char *what)
{
    const us_param *a = &n->graph->params[p];
    const float h = 1.0f / 262144;
    float *x = n->params + a->offset;
    double expected = 0, norm = 0, at[2];
    signed char sign[2048];
    assert_true(a->count <= 2048);
    for (int64_t i = 0; i < a->count; i++) {
        sign[i] = (signed char)(2 * pick(0, 1) - 1);
        expected += sign[i] * n->grads[a->offset + i];
        norm += n->grads[a->offset + i] * n->grads[a->offset + i];
    }
    for (int side = 0; side < 2; side++) {
        float move = side ? 2 * h : -h;         // the second from where the first left it
        for (int64_t i = 0; i < a->count; i++) {
            x[i] += move * sign[i];
        }
        at[side] = loss_of(n);
    }
    for (int64_t i = 0; i < a->count; i++) {
        x[i] -= h * sign[i];
    }
    double slope = (at[1] - at[0]) / (2 * h), allowed = 1e-7 * (1 + sqrt(norm * (double)a->count));
    if (!(fabs(slope - expected) <= allowed)) {
        fail_msg("%s, seed %llu: %s has slope %.12g, differences say %.12g (allowed %.2g)", what,
                 (unsigned long long)seed, a->name, expected, slope, allowed);
    }
    if (!n->has_grad[p]) {
        assert_true(slope == 0);
    }
}

static void check_input(network *n, int level, const char *what)
{
    double *x = us_ref_input(n->ref, level), h = 1.0 / 65536, at[2];
    int node = 0;
    while (us_ref_value(n->ref, node) != x) {
        node++;
    }
    int64_t i = pick(0, n->graph->size * n->graph->size * 2 - 1);
    double expected = us_ref_gradient(n->ref, node)[i], keep = x[i];
    x[i] = keep - h;
    at[0] = loss_of(n);
    x[i] = keep + h;
    at[1] = loss_of(n);
    x[i] = keep;
    if (!(fabs((at[1] - at[0]) / (2 * h) - expected) <= 1e-7)) {
        fail_msg("%s, seed %llu: input %d has slope %.12g, differences say %.12g", what,
                 (unsigned long long)seed, level, expected, (at[1] - at[0]) / (2 * h));
    }
}

static void check_network(const char *what, usplit_model_options options, double kl_weight, double free_bits)
{
    us_net_config config;
    network n = {.kl_weight = kl_weight, .free_bits = free_bits};
    assert_int_equal(us_net_config_from(&config, &options), USPLIT_OK);
    assert_int_equal(us_graph_build(&n.graph, NULL, &config, config.patch), USPLIT_OK);
    assert_int_equal(us_ref_create(&n.ref, NULL, n.graph, 2, 1), USPLIT_OK);
    n.params = calloc((size_t)n.graph->n_floats, sizeof *n.params);
    n.grads = calloc((size_t)n.graph->n_floats, sizeof *n.grads);
    n.has_grad = calloc((size_t)n.graph->n_params, 1);
    us_graph_init_params(n.graph, seed, n.params);
    for (int64_t i = 0; i < n.graph->n_floats; i++) {
        n.params[i] = floorf((n.params[i] + (float)uniform(-0.2, 0.2)) * 262144) / 262144;
    }
    int64_t pixels = 2 * (int64_t)config.patch * config.patch;
    for (int l = 0; l <= config.lc_count; l++) {
        for (int64_t i = 0; i < pixels; i++) {
            us_ref_input(n.ref, l)[i] = uniform(-2, 2);
        }
    }
    for (int64_t i = 0; i < pixels * config.channels; i++) {
        us_ref_target(n.ref)[i] = uniform(-2, 2);
    }
    for (int l = 0; l < config.levels; l++) {
        const us_node *z = &n.graph->nodes[n.graph->latent[l]];
        for (int64_t i = 0; us_ref_noise(n.ref, l) && i < (int64_t)2 * z->h * z->w * z->c; i++) {
            us_ref_noise(n.ref, l)[i] = uniform(-2, 2);
        }
    }
    us_ref_draw_masks(n.ref, seed, 3);
    loss_of(&n);
    us_ref_run_backward(n.ref, n.params, n.grads, n.has_grad);
    for (int l = 0; l <= config.lc_count; l++) {
        check_input(&n, l, what);
    }
    for (int p = 0; p < n.graph->n_params; p++) {
        if (us_param_trained(&n.graph->params[p])) {
            check_parameter(&n, p, what);
        }
    }
    us_ref_free(n.ref);
    us_graph_free(n.graph);
    free(n.params);
    free(n.grads);
    free(n.has_grad);
}

static void networks_have_the_gradients_of_differences(void **state)
{
    (void)state;
    seed = first_seed();
    drawn = 0;
    usplit_model_options o = {.struct_size = sizeof o, .filters = 3, .patch = 8, .dropout = 0.2, .levels = 2,
                              .z_dims = {2, 3}, .channels = 2};
    check_network("HVAE vanilla", o, 1, 0);
    o.variant = USPLIT_VARIANT_LEAN;
    check_network("HVAE lean", o, 0.7, 0);
    o.variant = USPLIT_VARIANT_REGULAR, o.lc_count = 1, o.channels = 3;
    check_network("HVAE regular", o, 1, 0.5);
    o.family = USPLIT_FAMILY_HAE;
    check_network("HAE regular", o, 1, 0);
    o.family = USPLIT_FAMILY_HVAE, o.variant = USPLIT_VARIANT_DEEP;
    o.levels = 5, o.lc_count = 3, o.filters = 2;
    memcpy(o.z_dims, (int[5]){2, 1, 3, 1, 2}, 5 * sizeof(int));
    check_network("HVAE deep", o, 1, 0);
}

// ---- Scalars of networks 14.2 -----------------------------------------------------------------------

static void expect(double got, double expected, double relative, double absolute, const char *what)
{
    if (!(fabs(got - expected) <= relative * fabs(expected) + absolute)) {
        fail_msg("%s is %.12g, expected %.12g", what, got, expected);
    }
}

// Ten digits are printed; float functions: exp 1 unit in the last place, then 3 roundings, 5e-7 in all.
static void sigma_follows_the_table(void **state)
{
    (void)state;
    static const double rows[][4] = {
        {-30, 1.000000094e-06, 0.001000000047, 4.678811266e-11},
        {-5, 0.006738946999, 0.08209108964, 0.04103945403},
        {-1, 0.3678804412, 0.6065314841, 0.3032649177}, {-0.001, 0.9990014998, 0.9995006252, 0.4997498124},
        {0, 1.000001, 1.0000005, 0.49999975}, {0.001, 1.001001, 1.000500375, 0.4997499377},
        {1, 2.000001, 1.414213916, 0.3535533022}, {5, 6.000001, 2.449489947, 0.2041241282},
        {20, 21.000001, 4.582575804, 0.1091089425}, {25, 21.000001, 4.582575804, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double *r = rows[i];
        double sigma = us_ref_sigma(r[0], 20);
        expect(sigma * sigma, r[1], 6e-10, 0, "variance");
        expect(sigma, r[2], 6e-10, 0, "sigma");
        expect(us_ref_sigma_slope(r[0], 20), r[3], 6e-10, 0, "slope of sigma");
        float f = us_sigma((float)r[0], 20);
        expect(f, us_ref_sigma((float)r[0], 20), 5e-7, 0, "float sigma");
        expect(us_sigma_grad(1, (float)r[0], f, 20), us_ref_sigma_slope((float)r[0], 20), 5e-7, 0,
               "float slope of sigma");
    }
}

// One op of one pixel: inputs and their gradients by the reference.
static double one_pixel(us_op op, double value, int c_in0, int c_in1, const double *in0, const double *in1,
                        const double *in2, double eps, double *d0, double *d1, double *d2)
{
    b = (bench){.graph = {.a = NULL}};
    add_input(c_in0, 1, 1);
    add_input(c_in1, 1, 1);
    add_input(c_in0, 1, 1);
    int at;
    us_node node = {.op = op, .in = {0, 1, 2}, .value = value};
    assert_int_equal(us_graph_add(&b.graph, node, &at), USPLIT_OK);
    double out, g = 1;
    us_ref_op call = {.graph = &b.graph, .node = &b.graph.nodes[at], .batch = 1, .in = {in0, in1, in2},
                      .eps = &eps, .out = &out, .g = &g, .g_in = {d0, d1, d2}};
    us_ref_forward(&call);
    us_ref_backward(&call);
    close_bench();
    return out;
}

static void nll_follows_the_table(void **state)
{
    (void)state;
    static const double rows[][6] = {
        {0, 0, 0, 0.918938518, 0, 0.5}, {1, 0.5, -1, 0.758723746, -1.35914091, 0.160214771},
        {0.3, -0.7, 2, 1.98660616, -0.135335283, 0.432332358}, {0, 0.2, -7, 1.3872017, 29.6826318, 0},
    };
    for (int i = 0; i < 4; i++) {
        const double *r = rows[i];
        double d[2] = {0, 0}, head[2] = {r[1], r[2]};
        double nll = one_pixel(US_OP_NLL, -5, 2, 1, head, &r[0], NULL, 0, d, NULL, NULL);
        expect(nll, r[3], 6e-9, 3.2e-8, "NLL");       // the table has a rounded log(2 pi) (networks 5.1)
        expect(d[0], r[4], 6e-9, 0, "dNLL/dmean");
        expect(d[1], r[5], 6e-9, 0, "dNLL/dlv");
        // Float: sums of terms below 3 with a unit in the last place each; 148 = exp(5) scales dmean.
        float t = (float)r[0], m = (float)r[1], raw = (float)r[2], lv = raw > -5 ? raw : -5;
        expect(us_nll(t, m, lv), r[3], 0, 1e-6, "float NLL");
        expect(us_nll_dm(t, m, lv, 1), r[4], 5e-7, 0, "float dNLL/dmean");
        expect(us_nll_dlv(t, m, lv, raw, 1, -5), r[5], 0, 1e-6, "float dNLL/dlv");
    }
}

static void kl_follows_the_table(void **state)
{
    (void)state;
    static const double rows[][11] = {
        {0, 0, 0, 0, 0, 0, 0, 0, -0.4999995, 0, 0.4999995},
        {0.5, -1, -0.2, 0.7, 1.3, 1.28849093,
         0.571961279, 0.875582385, -0.154805195, -0.875582385, -0.089204782},
        {1, 3, 0, -2, -0.4, 0.1999999,
         -1.62536373, 1.47779956, -0.272779906, -1.47779956, 0.352217515},
        {2, 22, 1, 1, 0.8, 5.66606064,
         3.94734036, 2.33302916, 0, -2.33302916, -2.47151264},
    };
    for (int i = 0; i < 4; i++) {
        const double *r = rows[i];
        double q[2] = {r[0], r[1]}, p[2] = {r[2], r[3]}, eps = r[4];
        double z = q[0] + us_ref_sigma(q[1], 20) * eps, dq[2] = {0, 0}, dz = 0, dp[2] = {0, 0};
        double kl = one_pixel(US_OP_KL, 20, 2, 1, q, &z, p, eps, dq, &dz, dp);
        expect(z, r[5], 6e-9, 1e-9, "z");
        expect(kl, r[6], 6e-9, 1e-9, "KL");
        expect(dq[0] + dz, r[7], 6e-9, 0, "dKL/dmu_q");
        expect(dq[1] + dz * eps * us_ref_sigma_slope(q[1], 20), r[8], 6e-9, 0, "dKL/dr_q");
        expect(dp[0], r[9], 6e-9, 0, "dKL/dmu_p");
        expect(dp[1], r[10], 6e-9, 0, "dKL/dr_p");
        // Float: differences of terms below 8, a few units in the last place (4.8e-7) of them.
        float e = (float)eps, sq = us_sigma((float)q[1], 20), sp = us_sigma((float)p[1], 20);
        float zf = (float)q[0] + sq * e, mp = (float)p[0], g = us_kl_dz(zf, mp, sp, 1);
        expect(us_kl(zf, mp, sp, sq, e), r[6], 0, 2e-6, "float KL");
        expect(g, r[7], 0, 2e-6, "float dKL/dmu_q");
        expect(us_sigma_grad(us_kl_dsq(g, e, sq, 1), (float)q[1], sq, 20), r[8], 0, 2e-6, "float dKL/dr_q");
        float dsp = us_kl_dsp(zf, mp, sp, 1);
        expect(us_sigma_grad(dsp, (float)p[1], sp, 20), r[10], 0, 2e-6, "float dKL/dr_p");
    }
}

// The example of networks 1.2: x = (1, 2) gives (w1, w2 + 2 w0, 2 w1, 2 w2) along an axis.
static void transposed_convolution_follows_the_example(void **state)
{
    (void)state;
    b = (bench){.graph = {.a = NULL}};
    us_node n = {.op = US_OP_TCONV, .c = 1, .weight = add_param(US_PARAM_WEIGHT, 4, 1, 1, 3, 3)};
    n.bias = add_param(US_PARAM_BIAS, 1, 1, 0, 0, 0);
    add_input(1, 1, 2);
    int at;
    assert_int_equal(us_graph_add(&b.graph, n, &at), USPLIT_OK);
    const double w[3] = {3, 5, 7}, x[2] = {1, 2}, line[4] = {5, 7 + 2 * 3, 2 * 5, 2 * 7};
    for (int u = 0; u < 3; u++) {
        for (int v = 0; v < 3; v++) {
            b.params[3 * u + v] = (float)((u + 1) * w[v]);
        }
    }
    b.params[b.graph.params[n.bias].offset] = 100;
    us_ref_op op = {.graph = &b.graph, .node = &b.graph.nodes[at], .batch = 1, .params = b.params, .in = {x},
                    .out = b.out};
    us_ref_forward(&op);
    for (int v = 0; v < 4; v++) {       // row 0 takes kernel row 1, row 1 kernel row 2
        assert_true(b.out[v] == 100 + 2 * line[v]);
        assert_true(b.out[4 + v] == 100 + 3 * line[v]);
    }
    close_bench();
}

// ---- Float functions and draws ----------------------------------------------------------------------

// Units in the last place of a float near `expected`.
static double units(double got, double expected)
{
    return fabs(got - expected) / ldexp(1, ilogb(expected) - 23);
}

static void exp_and_log_are_accurate(void **state)
{
    (void)state;
    double worst_exp = 0, worst_log = 0, worst_elu = 0;
    for (int i = 0; i < 400000; i++) {
        float x = -87 + 175 * (float)i / 400000;
        worst_exp = fmax(worst_exp, units(us_exp(x), exp(x)));
        worst_elu = fmax(worst_elu, fabs(us_elu(-fabsf(x) / 10) - expm1(-fabsf(x) / 10)));
        float y = us_float_of(0x00800000 + (int32_t)(i * (0x7f000000LL / 400000)));
        worst_log = fmax(worst_log, fabs(us_log(y) - log(y)) / fmax(fabs(log(y)), 0.25));
    }
    assert_true(worst_exp < 2);                 // units in the last place
    assert_true(worst_log < 2.4e-7);            // relative, near 1 against 0.25: two roundings
    assert_true(worst_elu < 1.8e-7);            // exp(x) - 1 below 1: a unit of exp and a rounding
    assert_true(us_exp(0) == 1 && us_log(1) == 0);
    assert_true(us_exp(1000) > 1e38f && us_exp(-1000) < 1e-37f && us_exp(-1000) >= 0);
    assert_true(isnan(us_exp(NAN)));
    assert_true(isnan(us_elu(NAN)) && isnan(us_sigmoid(NAN)));
}

static void activations_agree_with_their_definitions(void **state)
{
    (void)state;
    for (float x = -12; x < 12; x += 0.01f) {
        double s = 1 / (1 + exp(-x)), e = x > 0 ? x : expm1(x);
        expect(us_sigmoid(x), s, 3e-7, 0, "sigmoid");
        expect(us_sigmoid_grad(2, us_sigmoid(x)), 2 * s * (1 - s), 0, 3e-7, "slope of sigmoid");
        expect(us_elu(x), e, 0, 2e-7, "ELU");
        expect(us_elu_grad(2, us_elu(x)), x > 0 ? 2 : 2 * exp(x), 0, 5e-7, "slope of ELU");
    }
    assert_true(us_elu(0) == 0 && us_elu_grad(1, 0) == 1);
}

static void sine_and_cosine_are_accurate(void **state)
{
    (void)state;
    for (int i = 0; i < 1 << 24; i += 37) {
        float u = (float)i / 16777216, s, c;
        us_sincos_turn(u, &s, &c);
        double turn = 2 * acos(-1.0) * u;       // the argument's rounding moves a value by 4.7e-8 at most
        if (!(fabs(s - sin(turn)) < 1.8e-7 && fabs(c - cos(turn)) < 1.8e-7)) {
            fail_msg("at turn %.9g: %.9g %.9g", u, s, c);
        }
    }
}

// Fixed keys: a bound of 5 deviations of the statistic is no flaky test, only a bad generator misses it.
static void normal_draws_have_the_moments_of_a_normal(void **state)
{
    (void)state;
    enum { N = 100000 };
    double sum[4] = {0}, square[4] = {0}, fourth[4] = {0}, cross = 0;
    for (int i = 0; i < N; i++) {
        float x[4], again[4];
        us_draw_normal4(us_key(5, US_RNG_TILE, 2, 1), i % 317 - 100, -i / 317, 3, 2, x);
        us_draw_normal4(us_key(5, US_RNG_TILE, 2, 1), i % 317 - 100, -i / 317, 3, 2, again);
        assert_memory_equal(x, again, sizeof x);
        for (int k = 0; k < 4; k++) {
            assert_true(fabsf(x[k]) < 5.8f);    // sqrt(2 log 2^24)
            sum[k] += x[k];
            square[k] += x[k] * x[k];
            fourth[k] += pow(x[k], 4);
        }
        cross += x[0] * x[1] + x[1] * x[2] + x[2] * x[3];
    }
    for (int k = 0; k < 4; k++) {
        assert_true(fabs(sum[k] / N) < 5 * sqrt(1.0 / N));
        assert_true(fabs(square[k] / N - 1) < 5 * sqrt(2.0 / N));
        assert_true(fabs(fourth[k] / N - 3) < 5 * sqrt(96.0 / N));
    }
    assert_true(fabs(cross / N) < 5 * sqrt(3.0 / N));
}

// The draws are those of the Box-Muller formula on the same words.
static void normal_draws_follow_box_and_muller(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t key = us_key(9, US_RNG_LATENT, (uint64_t)i, 7);
        float x[4];
        us_draw_normal4(key, i, 2 * i, 5, 3, x);
        us_u32x4 r = us_philox(key, (uint32_t)i, (uint32_t)(2 * i), 5 | 3u << 16, US_RNG_LATENT);
        for (int k = 0; k < 4; k += 2) {
            double m = sqrt(-2 * log(((r.v[k] >> 8) + 1) / 16777216.0));
            double turn = 2 * acos(-1.0) * (r.v[k + 1] >> 8) / 16777216.0;
            // Near u = 1 the logarithm is small: its absolute error counts, under a root.
            double allowed = 4e-7 * m + (m < 0.01 ? 1e-3 : 1e-6);
            expect(x[k], m * cos(turn), 0, allowed, "cosine draw");
            expect(x[k + 1], m * sin(turn), 0, allowed, "sine draw");
        }
    }
}

static void masks_keep_the_mean(void **state)
{
    (void)state;
    enum { N = 40000 };
    int zeros = 0;
    for (int i = 0; i < N; i++) {
        float m = us_draw_mask(us_key(3, US_RNG_DROPOUT, (uint64_t)(i / 640), (uint32_t)(i / 64 % 10)), 4,
                               (uint32_t)(i % 64), 0.1f);
        assert_true(m == 0 || m == 1.0f / 0.9f);
        zeros += m == 0;
    }
    assert_true(fabs(zeros - 0.1 * N) < 5 * sqrt(0.09 * N));
    assert_true(us_draw_mask(1, 2, 3, 0) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_have_the_gradients_of_differences),
        cmocka_unit_test(networks_have_the_gradients_of_differences),
        cmocka_unit_test(sigma_follows_the_table),
        cmocka_unit_test(nll_follows_the_table),
        cmocka_unit_test(kl_follows_the_table),
        cmocka_unit_test(transposed_convolution_follows_the_example),
        cmocka_unit_test(exp_and_log_are_accurate),
        cmocka_unit_test(activations_agree_with_their_definitions),
        cmocka_unit_test(sine_and_cosine_are_accurate),
        cmocka_unit_test(normal_draws_have_the_moments_of_a_normal),
        cmocka_unit_test(normal_draws_follow_box_and_muller),
        cmocka_unit_test(masks_keep_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
