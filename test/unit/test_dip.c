// Double-DIP (src/dip): sizes and counts of the networks, their gradients by the CPU backend against the reference and
// that against finite differences, the losses against plain formulas, whole runs through the public functions, and what
// those refuse.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "common/must.h"
#include "cpu/ref.h"
#include "dip/dip.h"
#include "kernels/philox.h"
#include "net/build.h"

static uint64_t drawn;

static double uniform(double low, double high)
{
    us_u32x4 r = us_philox(1, (uint32_t)drawn++, 0, 0, 97);
    return low + (high - low) * us_uniform53(r.v[0], r.v[1]);
}

static usplit_context *context_of(int threads)
{
    usplit_context_options o;
    usplit_context *context;
    must(usplit_context_options_init(&o, sizeof o));
    o.device = "cpu";
    o.threads = threads;
    must(usplit_context_create(&context, &o));
    return context;
}

// ---- Networks ---------------------------------------------------------------------------------------

static us_graph *nets(int h, int w, int in, int n)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    us_graph *g;
    must(us_skip_graph(&g, NULL, h, w, in, n, names));
    return g;
}

// The counts that networks 9.1 gives.
static void counts(void **state)
{
    (void)state;
    us_graph *two = nets(256, 256, 2, 1), *three = nets(256, 256, 3, 1), *all = nets(256, 256, 2, 4);
    assert_int_equal(us_graph_n_parameters(two), 1544769);
    assert_int_equal(us_graph_n_parameters(three), 1544969);
    assert_int_equal(us_graph_n_parameters(all), 4 * 1544769);
    assert_true(fabs((double)us_graph_macs(two) / 1e9 - 1.17) < 0.005);
    assert_true(fabs((double)us_graph_macs(three) / 1e9 - 1.17) < 0.005);
    assert_int_equal(all->n_losses, 4);
    us_graph_free(two);
    us_graph_free(three);
    us_graph_free(all);
}

// Even, odd and unequal sides; the output is as large as the input.
static void sizes(void **state)
{
    (void)state;
    static const int sides[][2] = {{65, 65}, {66, 131}, {96, 64 + 31}, {128, 65}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        us_graph *g = nets(sides[i][0], sides[i][1], 3, 2);
        for (int k = 0; k < 2; k++) {
            const us_node *out = &g->nodes[g->nodes[g->losses[k]].in[0]];
            assert_int_equal(out->op, US_OP_SIGMOID);
            assert_int_equal(out->h, sides[i][0]);
            assert_int_equal(out->w, sides[i][1]);
            assert_int_equal(out->c, 1);
        }
        us_graph_free(g);
    }
}

enum { NETS = 2, IN = 2 };

// Two networks, their inputs, and a target that both are to match: the loss is the sum of mean squared errors.
typedef struct trial {
    int h, w;
    int64_t n;
    us_graph *graph, *with_target;      // losses EXTERN; the same as MSE, for the reference
    float *params, *inputs, *target;
} trial;

// slope of all activations; with 1 nothing has a kink.
static void open_trial(trial *t, int h, int w, double slope)
{
    *t = (trial){.h = h, .w = w, .n = (int64_t)h * w};
    t->graph = nets(h, w, IN, NETS);
    t->with_target = nets(h, w, IN, NETS);
    us_builder b = {.g = t->with_target};
    int target = us_put(&b, (us_node){.op = US_OP_TARGET, .c = 1, .h = h, .w = w});
    must(b.status);
    for (int k = 0; k < NETS; k++) {
        us_node *loss = &t->with_target->nodes[t->with_target->losses[k]];
        loss->op = US_OP_MSE;
        loss->n_in = 2;
        loss->in[1] = target;
        loss->value = 1;
    }
    for (int i = 0; i < t->graph->n_nodes; i++) {
        if (t->graph->nodes[i].op == US_OP_LEAKY) {
            t->graph->nodes[i].value = t->with_target->nodes[i].value = slope;
        }
    }
    t->params = calloc((size_t)t->graph->n_floats, sizeof(float));
    t->inputs = calloc((size_t)(NETS * IN * t->n), sizeof(float));
    t->target = calloc((size_t)t->n, sizeof(float));
    us_graph_init_params(t->graph, 3, t->params);
    for (int64_t i = 0; i < NETS * IN * t->n; i++) {
        t->inputs[i] = (float)uniform(-0.5, 0.5);
    }
    for (int64_t i = 0; i < t->n; i++) {
        t->target[i] = (float)uniform(0, 1);
    }
}

static void close_trial(trial *t)
{
    us_graph_free(t->graph);
    us_graph_free(t->with_target);
    free(t->params);
    free(t->inputs);
    free(t->target);
}

static us_ref *reference(const trial *t)
{
    us_ref *ref;
    must(us_ref_create(&ref, NULL, t->with_target, 1, 1));
    for (int k = 0; k < NETS; k++) {
        for (int64_t i = 0; i < IN * t->n; i++) {
            us_ref_input(ref, k)[i] = (double)t->inputs[k * IN * t->n + i];
        }
    }
    for (int64_t i = 0; i < t->n; i++) {
        us_ref_target(ref)[i] = (double)t->target[i];
    }
    return ref;
}

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const trial *t = user;
    (void)sample;
    (void)target;
    for (int k = 0; k < NETS; k++) {
        memcpy(levels[k], t->inputs + k * IN * t->n, (size_t)(IN * t->n) * sizeof(float));
    }
    return USPLIT_OK;
}

static usplit_status squared(void *user, int sample, const float *const *outputs, float *const *gradients, double *loss)
{
    const trial *t = user;
    (void)sample;
    for (int k = 0; k < NETS; k++) {
        for (int64_t i = 0; i < t->n; i++) {
            double d = (double)outputs[k][i] - (double)t->target[i];
            *loss += d * d / (double)t->n;
            gradients[k][i] = (float)(2 * d / (double)t->n);
        }
    }
    return USPLIT_OK;
}

static double train(trial *t, float *grads)
{
    usplit_context *context = context_of(2);
    us_plan *plan;
    us_exec *exec;
    us_losses losses;
    us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = us_backend_cpu.layout, .batch = 1};
    us_run run = {.fill = fill, .loss = squared, .user = t};
    must(us_plan_build(&plan, NULL, t->graph, &o));
    must(us_backend_cpu.compile(&exec, context, plan, 2));
    for (int round = 0; round < 2; round++) {       // the second time in memory that was used
        must(us_backend_cpu.prepare(exec, t->params));
        must(us_backend_cpu.train(exec, &run, &losses, grads));
    }
    for (int p = 0; p < t->graph->n_params; p++) {
        assert_int_equal(plan->has_grad[p], us_param_trained(&t->graph->params[p]));
    }
    us_backend_cpu.release(exec);
    us_plan_free(plan);
    usplit_context_free(context);
    return losses.loss;
}

// A constant that is added before a batch normalisation changes nothing: the gradient of many a bias is 0, and what a
// float sum leaves of it is compared with the gradients of the weights beside it, sums of the same terms.
static void compare(const trial *t, const float *grads, const double *exact, double allowed)
{
    double most = 0, size = 0;
    for (int64_t i = 0; i < t->graph->n_floats; i++) {
        most = fmax(most, fabs(exact[i]));
    }
    for (int p = 0; p < t->graph->n_params; p++) {
        const us_param *a = &t->graph->params[p];
        double error = 0;
        if (a->kind == US_PARAM_WEIGHT || a->kind == US_PARAM_BN_WEIGHT) {
            size = 1e-3 * most;
        }
        for (int64_t i = a->offset; us_param_trained(a) && i < a->offset + a->count; i++) {
            error = fmax(error, fabs((double)grads[i] - exact[i]));
            size = fmax(size, fabs(exact[i]));
        }
        if (!(error <= allowed * size)) {
            fail_msg("%d x %d, %s: error %.3g of %.3g", t->h, t->w, a->name, error, size);
        }
    }
}

// Without kinks, float errors only: some 20 layers of sums over 25 taps of all channels and of normalisation, each a
// few 1e-7. With the proposed slope a value within rounding of 0 may fall on the other side, and then its whole
// gradient differs: one of a few thousand of a layer, whose gradients add up with changing signs.
static void gradients(void **state)
{
    (void)state;
    static const struct {
        int h, w;
        double slope, allowed;
    } cases[] = {{65, 65, 1, 1e-4}, {96, 66, 1, 1e-4}, {65, 97, 0.2, 0.05}, {96, 96, 0.2, 0.05}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trial t;
        us_ref_losses losses;
        open_trial(&t, cases[i].h, cases[i].w, cases[i].slope);
        float *grads = calloc((size_t)t.graph->n_floats, sizeof *grads);
        double *exact = calloc((size_t)t.graph->n_floats, sizeof *exact);
        unsigned char *has_grad = calloc((size_t)t.graph->n_params, 1);
        us_ref *ref = reference(&t);
        us_ref_run_forward(ref, t.params, 0, 0, &losses);
        us_ref_run_backward(ref, t.params, exact, has_grad);
        assert_true(fabs(train(&t, grads) - losses.loss) < 1e-5 * losses.loss);
        compare(&t, grads, exact, cases[i].allowed);
        us_ref_free(ref);
        free(grads);
        free(exact);
        free(has_grad);
        close_trial(&t);
    }
}

// The reference's gradient, along itself (and what rounding of the parameters adds), against the change of the loss:
// exact to the step's square without kinks, and to the few values that cross one with.
static void finite_differences(void **state)
{
    (void)state;
    static const struct {
        double slope, step, allowed;
    } cases[] = {{1, 1e-6, 1e-5}, {0.2, 1e-7, 2e-3}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        trial t;
        us_ref_losses up, down;
        open_trial(&t, 66, 65, cases[k].slope);
        int64_t n = t.graph->n_floats;
        float *there[2] = {calloc((size_t)n, sizeof(float)), calloc((size_t)n, sizeof(float))};
        double *exact = calloc((size_t)n, sizeof *exact), slope = 0;
        unsigned char *has_grad = calloc((size_t)t.graph->n_params, 1);
        us_ref *ref = reference(&t);
        us_ref_run_forward(ref, t.params, 0, 0, NULL);
        us_ref_run_backward(ref, t.params, exact, has_grad);
        for (int64_t i = 0; i < n; i++) {
            there[0][i] = (float)((double)t.params[i] + cases[k].step * exact[i]);
            there[1][i] = (float)((double)t.params[i] - cases[k].step * exact[i]);
            slope += exact[i] * ((double)there[0][i] - (double)there[1][i]);
        }
        us_ref_run_forward(ref, there[0], 0, 0, &up);
        us_ref_run_forward(ref, there[1], 0, 0, &down);
        if (!(slope > 0 && fabs(up.loss - down.loss - slope) < cases[k].allowed * slope)) {
            fail_msg("slope %g: difference %.9g, gradient %.9g", cases[k].slope, up.loss - down.loss, slope);
        }
        us_ref_free(ref);
        free(there[0]);
        free(there[1]);
        free(exact);
        free(has_grad);
        close_trial(&t);
    }
}

// ---- Losses -----------------------------------------------------------------------------------------

static double *random_plane(int64_t n)
{
    double *p = calloc((size_t)n, sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) {
        p[i] = uniform(0, 1);
    }
    return p;
}

// Networks 9.4 as it is written there.
static double plain_exclusion(const double *a, const double *b, int h, int w)
{
    double *x[2] = {calloc((size_t)h * (size_t)w, sizeof(double)), calloc((size_t)h * (size_t)w, sizeof(double))};
    double rows = 0, columns = 0;
    memcpy(x[0], a, (size_t)h * (size_t)w * sizeof *a);
    memcpy(x[1], b, (size_t)h * (size_t)w * sizeof *b);
    for (int scale = 0; scale < 3; scale++) {
        double sum[2] = {0, 0};
        for (int y = 0; y < h; y++) {
            for (int c = 0; c < w; c++) {
                double product[2] = {1, 1};
                for (int k = 0; k < 2; k++) {
                    double here = x[k][y * w + c];
                    double down = y + 1 < h ? x[k][(y + 1) * w + c] - here : 0;
                    double right = c + 1 < w ? x[k][y * w + c + 1] - here : 0;
                    product[0] *= 2 / (1 + exp(-down)) - 1;         // tanh(g / 2)
                    product[1] *= 2 / (1 + exp(-right)) - 1;
                }
                sum[0] += product[0] * product[0];
                sum[1] += product[1] * product[1];
            }
        }
        rows += pow(fmax(sum[0] / ((h - 1) * (double)w), 1e-12), 0.25) / 3;
        columns += pow(fmax(sum[1] / (h * (double)(w - 1)), 1e-12), 0.25) / 3;
        for (int k = 0; k < 2; k++) {
            for (int y = 0; y < h / 2; y++) {
                for (int c = 0; c < w / 2; c++) {
                    double four = 0;
                    for (int j = 0; j < 4; j++) {
                        four += x[k][(2 * y + j / 2) * w + 2 * c + j % 2];
                    }
                    x[k][y * (w / 2) + c] = four / 4;
                }
            }
        }
        h /= 2;
        w /= 2;
    }
    free(x[0]);
    free(x[1]);
    return 0.5 * (rows + columns);
}

static double exclusion_of(const double *a, const double *b, int h, int w, double weight, double *d_a, double *d_b)
{
    double *scratch = calloc((size_t)us_dip_exclusion_scratch(h, w), sizeof *scratch);
    double x = us_dip_exclusion(a, b, h, w, weight, d_a, d_b, scratch);
    free(scratch);
    return x;
}

static void exclusion(void **state)
{
    (void)state;
    static const int sides[][2] = {{16, 16}, {19, 26}, {9, 8}};
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
        int h = sides[s][0], w = sides[s][1], n = h * w;
        double *x[2] = {random_plane(n), random_plane(n)}, *d[2] = {random_plane(n), random_plane(n)};
        double *before[2] = {random_plane(n), random_plane(n)}, *unused[2] = {random_plane(n), random_plane(n)};
        memcpy(d[0], before[0], (size_t)n * sizeof(double));
        memcpy(d[1], before[1], (size_t)n * sizeof(double));
        double value = exclusion_of(x[0], x[1], h, w, 0.7, d[0], d[1]);
        assert_true(fabs(value - plain_exclusion(x[0], x[1], h, w)) < 1e-12);
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < n; i++) {
                double here = x[k][i], step = 1e-6;
                x[k][i] = here + step;
                double up = exclusion_of(x[0], x[1], h, w, 1, unused[0], unused[1]);
                x[k][i] = here - step;
                double down = exclusion_of(x[0], x[1], h, w, 1, unused[0], unused[1]);
                x[k][i] = here;
                // Rounding of values near 1 over 2e-6, and the third derivative times 1e-12.
                assert_true(fabs(d[k][i] - before[k][i] - 0.7 * (up - down) / (2 * step)) < 1e-8);
            }
        }
        for (int k = 0; k < 2; k++) {
            free(x[k]);
            free(d[k]);
            free(before[k]);
            free(unused[k]);
        }
    }
}

// Nothing in common: the floor of the root, (1e-12)^(1/4), and no gradient, not an infinite one.
static void exclusion_floor(void **state)
{
    (void)state;
    enum { SIDE = 12, N = SIDE * SIDE };
    double flat[N], other[N], d_flat[N] = {0}, d_other[N] = {0};
    for (int i = 0; i < N; i++) {
        flat[i] = 0.25;
        other[i] = uniform(0, 1);
    }
    assert_true(fabs(exclusion_of(flat, other, SIDE, SIDE, 1, d_flat, d_other) - 1e-3) < 1e-9);
    for (int i = 0; i < N; i++) {
        assert_true(d_flat[i] == 0 && d_other[i] == 0);
    }
}

static void mixing(void **state)
{
    (void)state;
    enum { N = 50 };
    const double step = 1e-6;
    double *x[2] = {random_plane(N), random_plane(N)}, *image = random_plane(N), a = 0.3, d_a, ignored;
    double d[2][N] = {{0}}, unused[2][N], expected = 0, absolute = 0, sum[2][N] = {{0}};
    for (int i = 0; i < N; i++) {
        expected += pow(0.3 * x[0][i] + 0.7 * x[1][i] - image[i], 2) / N;
        absolute += fabs(x[0][i] + x[1][i] - image[i]) / N;
    }
    assert_true(fabs(us_dip_blend_loss(x[0], x[1], a, image, N, d[0], d[1], &d_a) - expected) < 1e-14);
    assert_true(fabs(us_dip_sum_loss(x[0], x[1], image, N, sum[0], sum[1]) - absolute) < 1e-14);
    double up = us_dip_blend_loss(x[0], x[1], a + step, image, N, unused[0], unused[1], &ignored);
    double down = us_dip_blend_loss(x[0], x[1], a - step, image, N, unused[0], unused[1], &ignored);
    assert_true(fabs(d_a - (up - down) / (2 * step)) < 1e-8);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            double here = x[k][i], both[2][2];
            for (int side = 0; side < 2; side++) {
                x[k][i] = here + (side ? -step : step);
                both[0][side] = us_dip_blend_loss(x[0], x[1], a, image, N, unused[0], unused[1], &ignored);
                both[1][side] = us_dip_sum_loss(x[0], x[1], image, N, unused[0], unused[1]);
            }
            x[k][i] = here;
            assert_true(fabs(d[k][i] - (both[0][0] - both[0][1]) / (2 * step)) < 1e-8);
            assert_true(fabs(sum[k][i] - (both[1][0] - both[1][1]) / (2 * step)) < 1e-8);
        }
    }
    free(x[0]);
    free(x[1]);
    free(image);
}

// ---- The schedule of one mixture --------------------------------------------------------------------

static void turns(void **state)
{
    (void)state;
    enum { SIDE = 3, C = 2, N = SIDE * SIDE * C };
    float src[N], dst[8][N];
    for (int i = 0; i < N; i++) {
        src[i] = (float)i;
    }
    for (int e = 0; e < 8; e++) {
        us_dip_turn(e, SIDE, SIDE, C, src, dst[e]);
        for (int i = 0; i < N; i++) {           // every value once, channels together
            int found = 0;
            for (int j = 0; j < N; j++) {
                found += dst[e][j] == src[i];
            }
            assert_int_equal(found, 1);
            assert_true(i % C == 0 || dst[e][i] == dst[e][i - 1] + 1);
        }
        assert_true(dst[e][N / 2 - 1] == src[N / 2 - 1]);       // the middle stays, neighbours stay neighbours
        for (int other = 0; other < e; other++) {
            assert_true(memcmp(dst[e], dst[other], sizeof src) != 0);
        }
    }
    assert_memory_equal(dst[0], src, sizeof src);
    for (int64_t it = 0; it < 40; it++) {
        assert_int_equal(us_dip_element(80, 80, it), it % 2 ? 0 : it / 2 % 8);
        assert_true(us_dip_element(80, 81, it) < 4);            // a rectangle keeps its shape
    }
    float tall[2 * 3], turned[2 * 3];
    for (int i = 0; i < 6; i++) {
        tall[i] = (float)i;
    }
    us_dip_turn(3, 3, 2, 1, tall, turned);
    for (int i = 0; i < 6; i++) {
        assert_true(turned[i] == (float)(5 - i));
    }
}

static void noise(void **state)
{
    (void)state;
    static const struct {
        int64_t iteration;
        double deviation;
    } rows[] = {{0, 0}, {99, 0}, {100, 0.001}, {199, 0.001}, {550, 0.005}, {999, 0.009}, {1000, 0.001}, {7998, 0.001},
                {7999, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(fabs(us_dip_noise(rows[i].iteration, 8000) - rows[i].deviation) < 1e-15);
    }
}

// ---- Runs -------------------------------------------------------------------------------------------

enum { SIDE = 66, AREA = SIDE * SIDE };

typedef struct scene {
    float truth[2 * AREA], mixtures[2 * AREA], estimates[2 * AREA];     // interleaved
    usplit_image pair, mixed, dst;
    usplit_dip_options options;
    usplit_dip_result result;
} scene;

static void open_scene(scene *s, int n_mixtures, int64_t iterations)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < AREA; i++) {
        int y = i / SIDE, x = i % SIDE;
        s->truth[2 * i] = (float)(300 + 200 * sin(0.3 * x) * cos(0.2 * y));
        s->truth[2 * i + 1] = (x / 16 + y / 16) % 2 ? 900.0f : 100.0f;
    }
    must(usplit_image_init(&s->pair, sizeof s->pair, s->truth, USPLIT_TYPE_F32, 1, SIDE, SIDE, 2));
    must(usplit_image_init(&s->mixed, sizeof s->mixed, s->mixtures, USPLIT_TYPE_F32, 1, SIDE, SIDE, n_mixtures));
    must(usplit_image_init(&s->dst, sizeof s->dst, s->estimates, USPLIT_TYPE_F32, 1, SIDE, SIDE, 2));
    must(usplit_dip_options_init(&s->options, sizeof s->options));
    s->options.iterations = iterations;
    s->result.struct_size = sizeof s->result;
    must(usplit_dip_mix(&s->pair, &s->mixed, &s->options));
}

static usplit_status run(scene *s, int threads, usplit_progress_fn progress, void *user)
{
    usplit_context *context = context_of(threads);
    usplit_status status = usplit_dip_run(context, &s->mixed, &s->dst, &s->options, &s->result, progress, user);
    usplit_context_free(context);
    return status;
}

static void mixes(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    open_scene(s, 2, 1);
    for (int i = 0; i < AREA; i++) {
        double first = (double)s->truth[2 * i], second = (double)s->truth[2 * i + 1];
        assert_true(fabs((double)s->mixtures[2 * i] - 0.5 * (first + second)) < 1e-3);
        assert_true(fabs((double)s->mixtures[2 * i + 1] - (0.3 * first + 0.7 * second)) < 1e-3);
    }
    s->options.mix[0] = s->options.mix[1] = 0.4;
    refused(usplit_dip_mix(&s->pair, &s->mixed, &s->options), USPLIT_ERR_ARGUMENT, "mix is 0.4 for both");
    s->options.mix[1] = 1.5;
    refused(usplit_dip_mix(&s->pair, &s->mixed, &s->options), USPLIT_ERR_ARGUMENT, "mix[1] is 1.5");
    s->options.mix[1] = 0.5;
    s->pair.channels = 1;
    refused(usplit_dip_mix(&s->pair, &s->mixed, &s->options), USPLIT_ERR_SHAPE, "pair has 1 channels");
    free(s);
}

// The loss falls, and what is kept mixes to the image as well as the result says.
static void learns(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    for (int mixtures = 1; mixtures <= 2; mixtures++) {
        open_scene(s, mixtures, 1);
        must(run(s, 1, NULL, NULL));
        double before = s->result.loss;
        assert_int_equal(s->result.best_iteration, 0);
        s->options.iterations = 40;
        must(run(s, 1, NULL, NULL));
        const usplit_dip_result *r = &s->result;
        assert_true(r->loss < 0.9 * before);
        assert_int_equal(r->mode, mixtures);
        assert_int_equal(r->iterations, 40);
        double weight = mixtures == 2 ? 0.1 : 0.01;
        assert_true(fabs(r->loss - r->reconstruction_loss - weight * r->exclusion_loss) < 1e-12);
        double share = mixtures == 2 ? r->share[0] : 0.5, error = 0;
        for (int i = 0; i < AREA; i++) {
            double mixed = share * (double)s->estimates[2 * i] + (1 - share) * (double)s->estimates[2 * i + 1];
            mixed = fmin(fmax(mixed, r->low), r->high);
            error += pow((mixed - (double)s->mixtures[mixtures * i]) / (r->high - r->low), 2) / AREA;
        }
        // Estimates are floats of some hundred grey levels: 1e-5 of an error of 0.1 or more.
        assert_true(fabs(-10 * log10(error) - r->psnr) < 0.01);
        assert_true(r->macs > 0 && r->bytes > 0 && r->seconds > 0);
    }
    free(s);
}

// The best so far never gets worse, and is an iteration in which the image was not turned.
static void keeps_the_best(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    for (int mixtures = 1; mixtures <= 2; mixtures++) {
        double best = -HUGE_VAL;
        for (int64_t iterations = 1; iterations <= 9; iterations += 2) {
            open_scene(s, mixtures, iterations);
            must(run(s, 1, NULL, NULL));
            assert_true(s->result.psnr >= best);
            assert_in_range(s->result.best_iteration, 0, iterations - 1);
            assert_true(mixtures == 2 || s->result.best_iteration % 2 == 1 || s->result.best_iteration % 16 == 0);
            best = s->result.psnr;
        }
    }
    free(s);
}

static void same_for_any_threads(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s), *other = malloc(sizeof *other);
    static const int threads[] = {1, 2, 4};
    for (int mixtures = 1; mixtures <= 2; mixtures++) {
        for (int i = 0; i < 3; i++) {
            scene *now = i == 0 ? s : other;
            open_scene(now, mixtures, 5);
            must(run(now, threads[i], NULL, NULL));
            assert_memory_equal(now->estimates, s->estimates, sizeof s->estimates);
            assert_true(now->result.loss == s->result.loss);
        }
        open_scene(other, mixtures, 5);
        other->options.seed = 1;
        must(run(other, 1, NULL, NULL));
        assert_true(memcmp(other->estimates, s->estimates, sizeof s->estimates) != 0);
    }
    free(s);
    free(other);
}

typedef struct watch {
    int calls, stop_at;
    int64_t done;
    size_t allocations, later;
} watch;

static int32_t on_progress(const usplit_progress *p, void *user)
{
    watch *w = user;
    assert_int_equal(p->phase, USPLIT_PHASE_DIP);
    assert_true(p->done > w->done && p->done <= p->total);
    assert_true(isfinite(p->loss) && isfinite(p->best_val_psnr));
    w->done = p->done;
    w->later = us_alloc_count();
    w->allocations = w->calls++ == 0 ? w->later : w->allocations;
    return w->calls == w->stop_at;
}

static void stops(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    open_scene(s, 1, 100000);
    watch w = {.stop_at = 2};
    refused(run(s, 1, on_progress, &w), USPLIT_ERR_CANCELLED, "stopped by the progress callback after iteration");
    assert_int_equal(s->result.iterations, w.done);
    assert_true(w.done < 100000 && s->estimates[0] != 0);       // the best so far is there
    assert_int_equal(w.allocations, w.later);                   // and nothing was allocated on the way
    s->options.max_seconds = 1e-9;
    must(run(s, 1, NULL, NULL));
    assert_int_equal(s->result.iterations, 1);
    w = (watch){0};
    s->options.max_seconds = 0;
    s->options.iterations = 2;
    must(run(s, 1, on_progress, &w));
    assert_int_equal(w.done, 2);                                // the end is told
    free(s);
}

// 8-bit planes in and out, told by strides, give what float pixels give.
static void any_view(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    static uint8_t bytes[AREA], out[2 * AREA];
    open_scene(s, 1, 3);
    for (int i = 0; i < AREA; i++) {
        bytes[i] = (uint8_t)((int)s->mixtures[i] / 4);
        s->mixtures[i] = bytes[i];
    }
    must(run(s, 1, NULL, NULL));
    must(usplit_image_init(&s->mixed, sizeof s->mixed, bytes, USPLIT_TYPE_U8, 1, SIDE, SIDE, 1));
    must(usplit_image_init(&s->dst, sizeof s->dst, out, USPLIT_TYPE_U8, 1, SIDE, SIDE, 2));
    s->dst.stride_column = 1;
    s->dst.stride_row = SIDE;
    s->dst.stride_channel = AREA;
    must(run(s, 1, NULL, NULL));
    for (int i = 0; i < AREA; i++) {
        for (int c = 0; c < 2; c++) {
            float v = s->estimates[2 * i + c];
            assert_int_equal(out[c * AREA + i], v < 0 ? 0 : v > 255 ? 255 : lrintf(v));
        }
    }
    free(s);
}

static void refusals(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    open_scene(s, 2, 1);
    s->mixtures[2 * 100 + 1] = NAN;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_NUMERIC, "channel 1: the pixel at row 1, column 34 is nan");
    s->mixtures[2 * 100 + 1] = INFINITY;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_NUMERIC, "is inf");
    for (int i = 0; i < AREA; i++) {
        s->mixtures[2 * i + 1] = 7;
    }
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "mixture 2 is constant (every pixel is 7)");
    open_scene(s, 2, 1);
    s->mixed.height = s->dst.height = 64;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_SHAPE, "64 x 66 pixels; accepted: sides of 65 to 4096");
    s->dst.height = 66;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_SHAPE, "accepted: one size");
    s->mixed.height = s->dst.height = 66;
    s->dst.channels = 1;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_SHAPE, "dst has 1 channels; accepted: 2");
    s->dst.channels = 2;
    s->mixed.frames = 2;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_SHAPE, "mixtures has 2 frames");
    s->mixed.frames = 1;
    s->options.mode = USPLIT_DIP_SINGLE;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "mode 1 takes 1 mixtures; the image has 2");
    s->options.mode = 3;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "mode is 3");
    s->options.mode = 0;
    s->options.iterations = -1;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "iterations is -1");
    s->options.iterations = 1;
    s->options.learning_rate = NAN;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "learning_rate is nan");
    s->options.learning_rate = 0;
    s->options.exclusion_weight = INFINITY;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "exclusion_weight is inf");
    s->options.exclusion_weight = 0;
    s->options.max_seconds = -1;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "max_seconds is -1");
    s->options.max_seconds = 0;
    s->result.struct_size = 0;
    refused(run(s, 1, NULL, NULL), USPLIT_ERR_ARGUMENT, "struct_size");
    usplit_context *context = context_of(1);
    refused(usplit_dip_run(NULL, &s->mixed, &s->dst, NULL, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "context is NULL");
    refused(usplit_dip_run(context, NULL, &s->dst, NULL, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "mixtures is NULL");
    refused(usplit_dip_run(context, &s->mixed, NULL, NULL, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "dst is NULL");
    usplit_context_free(context);
    free(s);
}

// Every allocation of a run refused in turn, in steps: a status, a line, nothing left behind.
typedef struct limited {
    int calls, refuse;
} limited;

static void *limited_alloc(size_t bytes, void *user)
{
    limited *l = user;
    return l->calls++ == l->refuse ? NULL : malloc(bytes);
}

static void limited_release(void *block, void *user)
{
    (void)user;
    free(block);
}

static void out_of_memory(void **state)
{
    (void)state;
    scene *s = malloc(sizeof *s);
    limited l = {0, -1};
    usplit_context_options o;
    usplit_context *context;
    must(usplit_context_options_init(&o, sizeof o));
    o.device = "cpu";
    o.threads = 1;
    o.alloc = limited_alloc;
    o.release = limited_release;
    o.alloc_user = &l;
    must(usplit_context_create(&context, &o));
    open_scene(s, 1, 1);
    l.calls = 0;
    size_t live = us_alloc_live();
    must(usplit_dip_run(context, &s->mixed, &s->dst, &s->options, NULL, NULL, NULL));
    int all = l.calls;
    for (int i = 0; i < all; i += i < 12 || i > all - 20 ? 1 : all / 25) {
        l = (limited){0, i};
        refused(usplit_dip_run(context, &s->mixed, &s->dst, &s->options, NULL, NULL, NULL), USPLIT_ERR_MEMORY,
                "memory");
        assert_int_equal(us_alloc_live(), live);
    }
    usplit_context_free(context);
    free(s);
}

// ---- Scores of a pair -------------------------------------------------------------------------------

static void pairs(void **state)
{
    (void)state;
    enum { W = 12, N = W * W };
    float truth[2 * N], guess[2 * N];           // planes
    usplit_image t, g;
    usplit_image_pair_quality q = {.struct_size = sizeof q};
    must(usplit_image_init(&t, sizeof t, truth, USPLIT_TYPE_F32, 1, W, W, 2));
    must(usplit_image_init(&g, sizeof g, guess, USPLIT_TYPE_F32, 1, W, W, 2));
    t.stride_column = g.stride_column = sizeof(float);
    t.stride_row = g.stride_row = W * (int64_t)sizeof(float);
    t.stride_channel = g.stride_channel = N * (int64_t)sizeof(float);
    for (int i = 0; i < 2 * N; i++) {
        truth[i] = (float)uniform(0, 100);
    }
    for (int order = 0; order < 2; order++) {
        for (int i = 0; i < 2 * N; i++) {
            guess[i] = truth[order ? (i + N) % (2 * N) : i] + (float)uniform(-5, 5);
        }
        must(usplit_image_compare_pair(&t, &g, &q));
        assert_int_equal(q.swapped, order);
        for (int c = 0; c < 2; c++) {           // the numbers are those of the planes compared alone
            usplit_image_quality one = {.struct_size = sizeof one};
            usplit_image a = t, b = g;
            a.channels = b.channels = 1;
            a.data = truth + c * N;
            b.data = guess + (order ? 1 - c : c) * N;
            must(usplit_image_compare(&a, &b, &one));
            assert_true(one.ri_psnr == q.ri_psnr[c] && one.psnr == q.psnr[c] && one.ssim == q.ssim[c] &&
                        one.rmse == q.rmse[c]);
        }
    }
    memcpy(guess + N, guess, N * sizeof *guess);                // a tie
    must(usplit_image_compare_pair(&t, &g, &q));
    assert_int_equal(q.swapped, 1);
    t.channels = 1;
    refused(usplit_image_compare_pair(&t, &g, &q), USPLIT_ERR_SHAPE, "accepted: 1 frame of 2 channels");
    refused(usplit_image_compare_pair(&t, &g, NULL), USPLIT_ERR_ARGUMENT, "quality is NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(sizes),
        cmocka_unit_test(gradients),
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(exclusion),
        cmocka_unit_test(exclusion_floor),
        cmocka_unit_test(mixing),
        cmocka_unit_test(turns),
        cmocka_unit_test(noise),
        cmocka_unit_test(mixes),
        cmocka_unit_test(learns),
        cmocka_unit_test(keeps_the_best),
        cmocka_unit_test(same_for_any_threads),
        cmocka_unit_test(stops),
        cmocka_unit_test(any_view),
        cmocka_unit_test(refusals),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
