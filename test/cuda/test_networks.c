// Whole networks of every family and option on the emulated device against the CPU, both with their own draws:
// losses, gradients, running statistics and outputs of a training iteration, predictions and their windows; in half
// the outputs. test_network.c holds the published HVAE and HAE to the reference.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "backend/backend.h"
#include "kernels/elem.h"

#include "cuda/emulated.h"
#include "emulate.h"

static const usplit_model_options networks[] = {
    {.family = USPLIT_FAMILY_UNET, .levels = 2, .filters = 4, .patch = 16},
    {.family = USPLIT_FAMILY_UNET, .levels = 3, .filters = 8, .patch = 22, .channels = 3},
    {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3, .filters = 4, .patch = 16},
    {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3, .filters = 8, .patch = 16,
     .shared_branch = 1},
    {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE, .levels = 3, .filters = 4, .patch = 16},
    {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE, .levels = 2, .filters = 8, .patch = 16},
    {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .levels = 4, .filters = 4, .patch = 16,
     .dropout = 0.3},
    {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .levels = 4, .filters = 3, .patch = 16,
     .dropout = -1},
    {.variant = USPLIT_VARIANT_REGULAR, .levels = 2, .filters = 8, .patch = 16, .blocks = 2, .shared_branch = 1,
     .kl = USPLIT_KL_ANALYTICAL, .z_dims = {8}},
    {.variant = USPLIT_VARIANT_LEAN, .levels = 2, .filters = 5, .patch = 16, .blocks = 2, .shared_branch = 1,
     .kl = USPLIT_KL_ANALYTICAL, .z_dims = {3}, .dropout = 0.2},
    {.family = USPLIT_FAMILY_HAE, .variant = USPLIT_VARIANT_REGULAR, .levels = 2, .filters = 8, .patch = 16,
     .logvar = USPLIT_LOGVAR_NONE, .merge = 1, .z_dims = {8}},
    {.variant = USPLIT_VARIANT_DEEP, .levels = 3, .filters = 4, .patch = 16, .logvar = USPLIT_LOGVAR_GLOBAL,
     .activation = USPLIT_ACTIVATION_LEAKY_RELU, .merge = USPLIT_MERGE_LINEAR, .z_dims = {4}},
    {.levels = 2, .filters = 8, .patch = 16, .logvar = USPLIT_LOGVAR_CHANNELWISE, .ungated = 1,
     .latent_scale = USPLIT_LATENT_SCALE_NONE, .activation = 1, .z_dims = {4}}};

enum { BATCH = 3, N_NETWORKS = sizeof networks / sizeof *networks };

static uint64_t drawn;

static double uniform(double low, double high)
{
    us_u32x4 r = us_philox(5, (uint32_t)drawn++, 0, 0, 97);
    return low + (high - low) * us_uniform53(r.v[0], r.v[1]);
}

// ---- A network and its data -------------------------------------------------------------------------------

typedef struct network {
    us_graph *graph;
    float *params;
    uint32_t data;              // which inputs and targets it sees
    char name[160];
} network;

static void open_network(network *t, const usplit_model_options *options)
{
    t->data = 0;
    us_net_config config;
    usplit_model_options o = *options;
    o.struct_size = sizeof o;
    snprintf(t->name, sizeof t->name, "family %d variant %d levels %d filters %d patch %d logvar %d merge %d blocks %d",
             o.family, o.variant, o.levels, o.filters, o.patch, o.logvar, o.merge, o.blocks);
    if (us_net_config_from(&config, &o) || us_graph_build(&t->graph, NULL, &config, config.patch)) {
        fail_msg("%s: %s", t->name, usplit_error_message());
    }
    const us_graph *g = t->graph;
    t->params = calloc((size_t)g->n_floats, sizeof *t->params);
    us_graph_init_params(g, 3, t->params);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        double spread = a->kind == US_PARAM_WEIGHT ? 0.5 / sqrt((double)a->fan_in) : a->kind == US_PARAM_SCAN ? 1 : 0.2;
        for (int64_t i = 0; i < a->count && a->kind != US_PARAM_COUNTER; i++) {
            t->params[a->offset + i] += (float)(spread * uniform(-1, 1));
        }
    }
}

static void close_network(network *t)
{
    us_graph_free(t->graph);
    free(t->params);
}

// Values by place: the same for every backend and order of the samples.
static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const network *t = user;
    int64_t pixels = (int64_t)t->graph->size * t->graph->size;
    for (int l = 0; l < US_MAX_LC; l++) {
        for (int64_t i = 0; levels[l] && i < pixels; i++) {
            us_u32x4 r = us_philox(11 + t->data, (uint32_t)i, (uint32_t)sample, (uint32_t)l, 1);
            levels[l][i] = us_half_bits_value(us_half_bits_of(4 * us_uniform24(r.v[0]) - 2));
        }
    }
    for (int64_t i = 0; target && i < pixels * t->graph->config.channels; i++) {
        us_u32x4 r = us_philox(12, (uint32_t)i, (uint32_t)sample, 0, 1);
        target[i] = us_half_bits_value(us_half_bits_of(4 * us_uniform24(r.v[0]) - 2));
    }
    return USPLIT_OK;
}

// ---- Running it -------------------------------------------------------------------------------------------

enum { ON_CPU = -1, ON_DEVICE, ON_DEVICE_HALF };

static usplit_context *context_of(int where)
{
    usplit_context *c;
    usplit_context_options o;
    assert_int_equal(usplit_context_options_init(&o, sizeof o), USPLIT_OK);
    o.device = "cpu";
    o.threads = 2;
    assert_int_equal(usplit_context_create(&c, &o), USPLIT_OK);
    if (where != ON_CPU) {
        emulated_take(c, where == ON_DEVICE_HALF);
    }
    return c;
}

static us_exec *compile(usplit_context *c, const network *t, const us_plan *plan)
{
    us_exec *exec;
    if (c->backend->compile(&exec, c, plan, 2)) {
        fail_msg("%s: %s", t->name, usplit_error_message());
    }
    assert_int_equal(c->backend->prepare(exec, t->params), USPLIT_OK);
    return exec;
}

typedef struct outcome {
    us_losses losses;
    float *grads, *after, *head;
    int64_t n_head;
} outcome;

// `active` of BATCH samples; a second time in memory that was used.
static outcome train(network *t, int where, int active)
{
    const us_graph *g = t->graph;
    usplit_context *c = context_of(where);
    size_t bytes = (size_t)g->n_floats * sizeof(float);
    us_plan *plan;
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = c->backend->layout, .batch = BATCH, .kl_weight = 0.7,
                               .outputs = &g->head, .n_outputs = 1};
    us_run run = {.seed = 21, .step = 4, .samples = active, .fill = fill, .user = t};
    outcome o = {.grads = calloc(1, bytes), .after = calloc(1, bytes),
                 .n_head = (int64_t)g->size * g->size * us_net_head_channels(&g->config)};
    o.head = calloc((size_t)(active * o.n_head), sizeof(float));
    assert_int_equal(us_plan_build(&plan, NULL, g, &options), USPLIT_OK);
    us_exec *exec = compile(c, t, plan);
    memcpy(o.after, t->params, bytes);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(c->backend->train(exec, &run, &o.losses, o.grads), USPLIT_OK);
    }
    c->backend->update_statistics(exec, o.after);
    for (int s = 0; s < active; s++) {
        memcpy(o.head + s * o.n_head, c->backend->output(exec, s, g->head), (size_t)o.n_head * sizeof(float));
    }
    o.n_head *= active;
    c->backend->release(exec);
    us_plan_free(plan);
    usplit_context_free(c);
    return o;
}

static void free_outcome(outcome *o)
{
    free(o->grads);
    free(o->after);
    free(o->head);
}

// A window of the prediction, [h][w][head channels]; the caller frees it.
static float *predict(network *t, int where, us_rect want, int64_t *n)
{
    const float *head;
    usplit_context *c = context_of(where);
    us_plan *plan;
    us_plan_options options = {.mode = US_PLAN_PREDICT, .layout = c->backend->layout, .batch = 1, .want = want};
    us_run run = {.seed = 5, .tile_y = 40, .tile_x = -24, .fill = fill, .user = t};
    assert_int_equal(us_plan_build(&plan, NULL, t->graph, &options), USPLIT_OK);
    us_exec *exec = compile(c, t, plan);
    assert_int_equal(c->backend->predict(exec, 0, 1, &run, &head), USPLIT_OK);
    *n = (int64_t)want.h * want.w * us_net_head_channels(&t->graph->config);
    float *copy = calloc((size_t)*n, sizeof *copy);
    memcpy(copy, head, (size_t)*n * sizeof *copy);
    c->backend->release(exec);
    us_plan_free(plan);
    usplit_context_free(c);
    return copy;
}

// ---- Comparing --------------------------------------------------------------------------------------------

static void within(const network *t, const char *what, double error, double allowed)
{
    if (!(error <= allowed)) {
        fail_msg("%s, %s: error %.3g, allowed %.3g", t->name, what, error, allowed);
    }
}

static double largest(const float *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)x[i]));
    }
    return most;
}

static double difference(const float *a, const float *b, int64_t n)
{
    double error = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        error = d > error || isnan(d) ? d : error;
    }
    return error;
}

// Each side may be off by what a float32 pass is held to against the published networks (test/parity/net_case.c): 1e-5
// of an output's largest value, 5e-5 of a gradient's. What cancels, biases in front of batch normalisation above all,
// whose gradient is 0 but for rounding, has the error of its terms: of some thousand, each at most as large as the
// network's largest gradient, 2e-6 of that.
static void compare_training(const network *t, const outcome *a, const outcome *b)
{
    const us_graph *g = t->graph;
    within(t, "loss", fabs(a->losses.loss - b->losses.loss), 2e-5 * (1 + fabs(a->losses.loss)));
    within(t, "reconstruction", fabs(a->losses.reconstruction - b->losses.reconstruction),
           2e-5 * (1 + fabs(a->losses.reconstruction)));
    within(t, "KL", fabs(a->losses.kl - b->losses.kl), 2e-5 * (1 + fabs(a->losses.kl)));
    within(t, "head", difference(a->head, b->head, a->n_head), 2e-5 * largest(a->head, a->n_head));
    for (int p = 0; p < g->n_params; p++) {
        const us_param *q = &g->params[p];
        const float *x = a->after + q->offset, *y = b->after + q->offset;
        within(t, q->name, difference(x, y, q->count), 2e-5 * (1 + largest(x, q->count)));
    }
}

// The first parameter whose gradients differ, NULL: they agree.
static const char *different_gradient(const us_graph *g, const outcome *a, const outcome *b)
{
    double most = largest(a->grads, g->n_floats);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *q = &g->params[p];
        const float *x = a->grads + q->offset, *y = b->grads + q->offset;
        if (!(difference(x, y, q->count) <= 1e-4 * largest(x, q->count) + 2e-6 * most)) {
            return q->name;
        }
    }
    return NULL;
}

// A rectifier or a pool whose inputs are as near to each other as their roundings sends a gradient either way. That is
// one case in some hundred of these: of three draws of data one may be such.
static void check_training(network *t, int active)
{
    const char *name = NULL;
    int different = 0;
    for (t->data = 0; t->data < 3; t->data++) {
        outcome cpu = train(t, ON_CPU, active), device = train(t, ON_DEVICE, active);
        assert_true(largest(cpu.grads, t->graph->n_floats) > 0);
        compare_training(t, &cpu, &device);
        const char *first = different_gradient(t->graph, &cpu, &device);
        different += first != NULL;
        name = first ? first : name;
        free_outcome(&cpu);
        free_outcome(&device);
    }
    if (different > 1) {
        fail_msg("%s, %d of %d samples: the gradient of %s differs", t->name, active, BATCH, name);
    }
}

static void test_training(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        network t;
        open_network(&t, &networks[i]);
        check_training(&t, BATCH);
        check_training(&t, BATCH - 1);
        close_network(&t);
    }
    assert_int_equal(us_emulate_leaks(), 0);
}

static void test_prediction(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        network t;
        open_network(&t, &networks[i]);
        int size = t.graph->size;
        const us_rect windows[3] = {{.h = size, .w = size}, {3, 5, size - 6, size - 8}, {size / 2, 2, 3, 4}};
        for (int j = 0; j < 3; j++) {
            int64_t n;
            float *cpu = predict(&t, ON_CPU, windows[j], &n), *device = predict(&t, ON_DEVICE, windows[j], &n);
            within(&t, "prediction", difference(cpu, device, n), 2e-5 * largest(cpu, n));
            free(cpu);
            free(device);
        }
        close_network(&t);
    }
}

// As far apart as test_half.c derives; losses are means of squares of the outputs.
static void test_half(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        network t;
        int64_t n;
        open_network(&t, &networks[i]);
        us_rect window = {2, 4, t.graph->size - 5, t.graph->size - 6};
        float *cpu = predict(&t, ON_CPU, window, &n), *device = predict(&t, ON_DEVICE_HALF, window, &n);
        within(&t, "prediction in half", difference(cpu, device, n), 2e-2 * largest(cpu, n));
        outcome a = train(&t, ON_CPU, BATCH), b = train(&t, ON_DEVICE_HALF, BATCH);
        within(&t, "head in half", difference(a.head, b.head, a.n_head), 2e-2 * largest(a.head, a.n_head));
        within(&t, "loss in half", fabs(a.losses.loss - b.losses.loss), 2e-2 * (1 + fabs(a.losses.loss)));
        free_outcome(&a);
        free_outcome(&b);
        free(cpu);
        free(device);
        close_network(&t);
    }
}

// A loss that the caller computes is not for a device: refused in a plain line, not computed wrong.
static void test_caller_loss(void **state)
{
    (void)state;
    network t;
    us_plan *plan;
    us_exec *exec;
    open_network(&t, &networks[0]);
    t.graph->nodes[t.graph->losses[0]].op = US_OP_EXTERN;
    usplit_context *c = context_of(ON_DEVICE);
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = c->backend->layout, .batch = BATCH, .kl_weight = 1};
    assert_int_equal(us_plan_build(&plan, NULL, t.graph, &options), USPLIT_OK);
    assert_int_equal(c->backend->compile(&exec, c, plan, 1), USPLIT_ERR_UNSUPPORTED);
    assert_null(exec);
    assert_non_null(strstr(usplit_error_message(), "\"cpu\""));
    us_plan_free(plan);
    usplit_context_free(c);
    close_network(&t);
}

// What a plan says before anything is made, but for what the convolutions need, is what a pipe then holds. Parts begin
// on 256 bytes, so that each may be so much larger.
static void test_planned_bytes(void **state)
{
    (void)state;
    int64_t largest_shared = 0;
    for (int i = 0; i < N_NETWORKS; i++) {
        for (int half = 0; half < 2; half++) {
            for (int mode = US_PLAN_TRAIN; mode <= US_PLAN_PREDICT; mode++) {
                network t;
                us_plan *plan;
                open_network(&t, &networks[i]);
                usplit_context *c = context_of(half ? ON_DEVICE_HALF : ON_DEVICE);
                us_plan_options options = {.mode = mode, .layout = c->backend->layout, .batch = BATCH, .kl_weight = 1};
                assert_int_equal(us_plan_build(&plan, NULL, t.graph, &options), USPLIT_OK);
                int64_t planned = c->backend->plan_bytes(c, plan, 2);
                us_exec *e = compile(c, &t, plan);
                const us_pipe *p = &e->pipes[0];
                int64_t inputs = (const char *)p->head - (const char *)p->inputs;
                int64_t shared = (const char *)p->inputs - (const char *)p->weight_part;
                int64_t heads = (const char *)p->kl_weight - (const char *)p->head;
                int64_t held = (const char *)p->workspace - (const char *)p->arena + shared + 2 * heads +
                               (1 + US_CUDA_SLOTS) * inputs + ((const char *)p->partials - (const char *)p->sums);
                int64_t parts = 4 + (2 + US_CUDA_SLOTS) * (e->n_external + 1);
                if (planned > e->n_pipes * held || planned < e->n_pipes * (held - 256 * parts)) {
                    fail_msg("%s, mode %d, half %d: %lld bytes planned, %d x %lld held", t.name, mode, half,
                             (long long)planned, e->n_pipes, (long long)held);
                }
                assert_true(shared == 0 || (mode == US_PLAN_TRAIN && networks[i].shared_branch));
                largest_shared = shared > largest_shared ? shared : largest_shared;
                c->backend->release(e);
                us_plan_free(plan);
                usplit_context_free(c);
                close_network(&t);
            }
        }
    }
    assert_true(largest_shared > 256 * 32);     // more than rounding could hide
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_caller_loss),
        cmocka_unit_test(test_planned_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
