// A random network or chain of ops with its data, run by the reference (src/cpu/ref.h) and by a backend, and what is
// compared. Shared by the tests that draw such cases; test/cuda builds them once more for the other backend.
// USPLIT_TEST_SEED=n draws other cases, USPLIT_TEST_VERBOSE=1 tells the worst errors.
#ifndef TRIAL_H
#define TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "backend/iterate.h"
#include "cpu/ref.h"
#include "kernels/elem.h"
#include "net/build.h"

#ifndef TEST_BACKEND
#define TEST_BACKEND us_backend_cpu
#define TEST_TAKE_DEVICE(context) ((void)(context))
#define TEST_FEWER 1
#define TEST_REFUSES 0          // 1: the backend may say of a network that it does not know it (yet)
#endif
#ifndef TEST_REFUSES
#define TEST_REFUSES 1
#endif

static uint64_t seed, drawn;

static inline double uniform(double low, double high)
{
    us_u32x4 r = us_philox(seed, (uint32_t)drawn++, 0, 0, 98);
    return low + (high - low) * us_uniform53(r.v[0], r.v[1]);
}

static inline int pick(int low, int high)
{
    return low + (int)uniform(0, high - low + 1);
}

static inline uint64_t first_seed(void)
{
    const char *text = getenv("USPLIT_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

typedef struct trial {
    us_net_config config;
    us_graph *graph;
    int ops;                    // 1: a graph of single ops, of which config says only the inputs and the target
    int batch, threads;
    double kl_weight, free_bits;
    uint64_t run_seed;
    int64_t step;
    float *params;
    float *levels[US_MAX_LC], *target;          // [N][size][size], [N][size][size][K]
    float *noise[USPLIT_MAX_LEVELS];            // [N][h][w][z]
    usplit_context *context;
} trial;

static inline float *random_floats(int64_t n, double low, double high)
{
    float *x = calloc((size_t)n + 1, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)uniform(low, high);
    }
    return x;
}

static inline int rarely(int low, int high)        // 0 three times out of four
{
    return pick(0, 3) ? 0 : pick(low, high);
}

// Batch statistics of few values amplify rounding without end.
static inline int fewest_values(const us_graph *g, int batch)
{
    int fewest = 1 << 30;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        int values = batch * n->h * n->w;
        fewest = n->op == US_OP_BNORM && values < fewest ? values : fewest;
    }
    return fewest;
}

static inline void draw_param(trial *t, int number)
{
    const us_param *p = &t->graph->params[number];
    double bound = p->fan_in > 0 ? 1 / sqrt((double)p->fan_in) : 0;
    double spread = p->kind == US_PARAM_WEIGHT ? 0.7 * bound : 0.2;
    double middle = p->kind == US_PARAM_BN_WEIGHT || p->kind == US_PARAM_RUNNING_VAR;
    for (int64_t i = 0; i < p->count; i++) {
        t->params[p->offset + i] =
            p->kind == US_PARAM_COUNTER ? 0 : (float)(middle + bound * uniform(-1, 1) + spread * uniform(-1, 1));
    }
}

static inline void fill_data(trial *t)
{
    const us_graph *g = t->graph;
    int size = g->size;
    t->params = calloc((size_t)g->n_floats, sizeof *t->params);
    for (int p = 0; p < g->n_params; p++) {
        draw_param(t, p);
    }
    int64_t pixels = (int64_t)t->batch * size * size;
    for (int l = 0; l <= t->config.lc_count; l++) {
        t->levels[l] = random_floats(pixels, -2, 2);
    }
    t->target = random_floats(pixels * t->config.channels, -2, 2);
    for (int l = 0; l < g->n_latents; l++) {
        const us_node *z = &g->nodes[g->latent[l]];
        t->noise[l] = random_floats((int64_t)t->batch * z->h * z->w * z->c, -2, 2);
    }
}

static inline void open_data(trial *t, int size)
{
    assert_int_equal(us_graph_build(&t->graph, NULL, &t->config, size), USPLIT_OK);
    fill_data(t);
}

static inline void empty_data(trial *t)
{
    for (int l = 0; l < US_MAX_LC; l++) {
        free(t->levels[l]);
        t->levels[l] = NULL;
    }
    for (int l = 0; l < USPLIT_MAX_LEVELS; l++) {
        free(t->noise[l]);
        t->noise[l] = NULL;
    }
    free(t->target);
    free(t->params);
}

static inline void close_data(trial *t)
{
    empty_data(t);
    us_graph_free(t->graph);
}

static inline void open_context(trial *t, int threads)
{
    usplit_context_options o;
    assert_int_equal(usplit_context_options_init(&o, sizeof o), USPLIT_OK);
    o.device = "cpu";
    o.threads = threads;
    assert_int_equal(usplit_context_create(&t->context, &o), USPLIT_OK);
    TEST_TAKE_DEVICE(t->context);
}

static inline void describe_ops(const trial *t, char *text, size_t size)
{
    const us_graph *g = t->graph;
    size_t at = (size_t)snprintf(text, size, "seed %llu, batch %d, threads %d, size %d:", (unsigned long long)seed,
                                 t->batch, t->threads, g->size);
    for (int i = 0; i < g->n_nodes && at < size; i++) {
        const us_node *n = &g->nodes[i];
        at += (size_t)snprintf(text + at, size - at, " %d=%s", i, us_op_name(n->op));
        for (int j = 0; j < n->n_in && at < size; j++) {
            at += (size_t)snprintf(text + at, size - at, "%c%d", j ? ',' : '(', n->in[j]);
        }
        if (at < size) {
            at += (size_t)snprintf(text + at, size - at, "%s:%dx%dx%d", n->n_in ? ")" : "", n->c, n->h, n->w);
        }
    }
}

static inline void describe(const trial *t, char *text, size_t size)
{
    const us_net_config *c = &t->config;
    if (t->ops) {
        describe_ops(t, text, size);
        return;
    }
    snprintf(text, size,
             "seed %llu: family %d variant %d levels %d context %d filters %d patch %d size %d channels %d "
             "z0 %d dropout %.3g clip %.3g bound %.3g batch %d threads %d kl %.3g free bits %.3g; blocks %d "
             "activation %d logvar %d merge %d kl %d scale %d shared %d ungated %d",
             (unsigned long long)seed, c->family, c->variant, c->levels, c->lc_count, c->filters, c->patch,
             t->graph->size, c->channels, c->z_dims[0], c->dropout, c->var_clip_max, c->logvar_lower_bound,
             t->batch, t->threads, t->kl_weight, t->free_bits, c->blocks, c->activation, c->logvar, c->merge, c->kl,
             c->latent_scale, c->shared_branch, c->ungated);
}

// ---- Reference --------------------------------------------------------------------------------------

static inline us_ref *open_reference(const trial *t, int train)
{
    const us_graph *g = t->graph;
    us_ref *ref;
    assert_int_equal(us_ref_create(&ref, NULL, g, t->batch, train), USPLIT_OK);
    int64_t pixels = (int64_t)t->batch * g->size * g->size;
    for (int l = 0; l <= t->config.lc_count; l++) {
        for (int64_t i = 0; i < pixels; i++) {
            us_ref_input(ref, l)[i] = t->levels[l][i];
        }
    }
    for (int64_t i = 0; i < pixels * t->config.channels; i++) {
        us_ref_target(ref)[i] = t->target[i];
    }
    for (int l = 0; l < g->n_latents; l++) {
        const us_node *z = &g->nodes[g->latent[l]];
        for (int64_t i = 0; us_ref_noise(ref, l) && i < (int64_t)t->batch * z->h * z->w * z->c; i++) {
            us_ref_noise(ref, l)[i] = t->noise[l][i];
        }
    }
    if (train) {
        us_ref_draw_masks(ref, t->run_seed, t->step);
    }
    return ref;
}

// ---- Kinks: where a rounding error switches a gradient off or on ------------------------------------

// Float32 is off by less than 1.2e-6 of a tensor's largest value in these networks ("head" below): values count as
// near from 4e-6 of it on, and from 1e-5 on, whatever the size, of a clip.
static const double near_share = 4e-6, near_clip = 1e-5;

// Distance of channels [c0, c1) of a node from a clip.
static inline double margin_of(const us_ref *ref, const us_graph *g, int node, int batch, int c0, int c1, double clip)
{
    const us_node *n = &g->nodes[node];
    double margin = HUGE_VAL;
    for (int64_t i = 0; i < (int64_t)batch * n->h * n->w; i++) {
        for (int c = c0; c < c1; c++) {
            double x = us_ref_value(ref, node)[i * n->c + c];
            margin = x == 0 && clip == 0 ? margin : fmin(margin, fabs(x - clip));
        }
    }
    return margin;
}

static inline double largest_of(const us_ref *ref, const us_graph *g, int node, int batch)
{
    const us_node *n = &g->nodes[node];
    double most = 0;
    for (int64_t i = 0; i < (int64_t)batch * n->h * n->w * n->c; i++) {
        most = fmax(most, fabs(us_ref_value(ref, node)[i]));
    }
    return most;
}

// Pooling: by how much the largest of four is larger than the next that is not equal to it. Equal ones are equal in
// float32 too: they are rectified, or come from such.
static inline double pool_margin(const us_ref *ref, const us_graph *g, const us_node *n, int batch)
{
    const us_node *in = &g->nodes[n->in[0]];
    const double *x = us_ref_value(ref, n->in[0]);
    double margin = HUGE_VAL;
    for (int64_t i = 0; i < (int64_t)batch * n->h * n->w * n->c; i++) {
        int64_t pixel = i / n->c, b = pixel / (n->h * n->w), y = pixel / n->w % n->h, q = pixel % n->w;
        double four[4], most = -HUGE_VAL;
        for (int k = 0; k < 4; k++) {
            four[k] = x[((b * in->h + 2 * y + k / 2) * in->w + 2 * q + k % 2) * in->c + i % n->c];
            most = fmax(most, four[k]);
        }
        for (int k = 0; k < 4; k++) {
            margin = four[k] < most ? fmin(margin, most - four[k]) : margin;
        }
    }
    return margin;
}

// The recurrences' rectifiers, once along each direction: gate times what came before, plus x.
static inline double scan_margin(const trial *t, const us_ref *ref, const us_node *n, int node)
{
    const us_node *in = &t->graph->nodes[n->in[0]];
    const double *x = us_ref_value(ref, n->in[0]), *out = us_ref_value(ref, node);
    const float *w = t->params + t->graph->params[n->weight].offset;
    static const int slot[4] = {2, 3, 0, 1}, dy[4] = {-1, 1, 0, 0}, dx[4] = {0, 0, -1, 1};     // up, down, left, right
    double margin = HUGE_VAL;
    for (int64_t i = 0; i < (int64_t)t->batch * in->h * in->w; i++) {
        for (int d = 0; d < 4; d++) {
            int y = (int)(i / in->w % in->h), q = (int)(i % in->w);
            if (y + dy[d] < 0 || y + dy[d] >= in->h || q + dx[d] < 0 || q + dx[d] >= in->w) {
                continue;
            }
            int64_t before = i + dy[d] * in->w + dx[d];
            double gate = 1 / (1 + exp(-(double)w[(d * in->h + y + dy[d]) * in->w + q + dx[d]]));
            for (int c = 0; c < in->c; c++) {
                double last = out[before * n->c + slot[d] * in->c + c], pre = gate * last + x[i * in->c + c];
                // exactly 0 on rectified inputs: there it passes, in float32 too
                margin = pre == 0 ? margin : fmin(margin, fabs(pre));
            }
        }
    }
    return margin;
}

// A channel with a deviation far below the tensor's largest value, behind a rectifier that lets next to nothing
// through, say: normalisation divides the rounding error by it. Not so where all values are 0, masked or rectified:
// these are exact, and no gradient passes them.
static inline int amplifies(const trial *t, const us_ref *ref, const us_node *n)
{
    const double *x = us_ref_value(ref, n->in[0]);
    int64_t pixels = (int64_t)t->batch * n->h * n->w;
    double most = largest_of(ref, t->graph, n->in[0], t->batch);
    for (int c = 0; c < n->c; c++) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < pixels; i++) {
            sum += x[i * n->c + c];
            square += x[i * n->c + c] * x[i * n->c + c];
        }
        double mean = sum / (double)pixels, deviation = sqrt(square / (double)pixels - mean * mean + 1e-5);
        if (square > 0 && deviation < most / 50) {
            return 1;
        }
    }
    return 0;
}

// The first node whose inputs lie so near a kink that float32 may be on its other side; -1: none. Exact zeros of a
// rectifier's input are masked or padded: they are exact in float32 too.
static inline int node_near_a_kink(const trial *t, const us_ref *ref)
{
    const us_graph *g = t->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        int x = n->n_in ? n->in[0] : 0, c = g->nodes[x].c, near = 0, b = t->batch;
        double near_zero = near_share * (n->n_in ? largest_of(ref, g, x, b) : 0);
        switch (n->op) {
        case US_OP_NLL:
        case US_OP_LATENT: near = margin_of(ref, g, x, b, c / 2, c, n->value) <= near_clip; break;
        case US_OP_KL:
        case US_OP_KL_FULL: {
            int p = n->in[n->n_in - 1];
            near = margin_of(ref, g, p, b, c / 2, c, n->value) <= near_clip;
            break;
        }
        case US_OP_BNORM: near = amplifies(t, ref, n); break;
        case US_OP_LEAKY: near = margin_of(ref, g, x, b, 0, c, 0) <= near_zero; break;
        case US_OP_GATE: near = n->leaky && margin_of(ref, g, x, b, 0, c / 2, 0) <= near_zero; break;
        case US_OP_POOL: near = pool_margin(ref, g, n, b) <= near_zero; break;
        case US_OP_SCAN: near = scan_margin(t, ref, n, i) <= near_zero; break;
        default: break;
        }
        if (near) {
            return i;
        }
    }
    return -1;
}

// Other weights for the layer that made the node's inputs, or other pixels where there is none. Layers before it stay
// as they are.
static inline void move_away(trial *t, us_ref *ref, int node)
{
    const us_graph *g = t->graph;
    const us_node *n = &g->nodes[node];
    if (n->op == US_OP_SCAN && pick(0, 1)) {
        draw_param(t, n->weight);
        return;
    }
    n = &g->nodes[n->in[n->op == US_OP_KL || n->op == US_OP_KL_FULL ? n->n_in - 1 : 0]];
    while (n->op != US_OP_CONV && n->op != US_OP_TCONV && n->op != US_OP_PRIOR && n->op != US_OP_INPUT) {
        n = &g->nodes[n->in[pick(0, n->n_in - 1)]];
    }
    if (n->op != US_OP_INPUT) {
        draw_param(t, n->weight);
        return;
    }
    for (int64_t i = 0; i < (int64_t)t->batch * g->size * g->size; i++) {
        t->levels[n->level][i] = (float)uniform(-2, 2);
        us_ref_input(ref, n->level)[i] = t->levels[n->level][i];
    }
}

// The reference, run forward. A large network has always some value near a kink, a layer of it seldom: layer after
// layer is drawn again until none has. NULL: none was found.
static inline us_ref *open_away_from_kinks(trial *t, us_ref_losses *losses)
{
    us_ref *ref = open_reference(t, 1);
    for (int tries = 0; tries < 120; tries++) {
        us_ref_run_forward(ref, t->params, t->kl_weight, t->free_bits, losses);
        int node = node_near_a_kink(t, ref);
        if (node < 0) {
            return ref;
        }
        move_away(t, ref, node);
    }
    us_ref_free(ref);
    return NULL;
}

// ---- CPU backend ------------------------------------------------------------------------------------

static inline usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const trial *t = user;
    int64_t pixels = (int64_t)t->graph->size * t->graph->size;
    for (int l = 0; l <= t->config.lc_count; l++) {
        if (levels[l]) {
            memcpy(levels[l], t->levels[l] + sample * pixels, (size_t)pixels * sizeof(float));
        }
    }
    if (target) {
        int64_t n = pixels * t->config.channels;
        memcpy(target, t->target + sample * n, (size_t)n * sizeof(float));
    }
    return USPLIT_OK;
}

typedef struct outcome {
    us_losses losses;
    float *grads, *after, *head;
    unsigned char *has_grad;
} outcome;

static inline us_run run_of(trial *t)
{
    return (us_run){.seed = t->run_seed, .step = t->step, .noise = (const float *const *)t->noise,
                    .fill = fill, .user = t};
}

static inline void free_outcome(outcome *o)
{
    free(o->grads);
    free(o->after);
    free(o->head);
    free(o->has_grad);
}

static inline int head_channels(const trial *t)
{
    return t->graph->nodes[t->graph->head].c;
}

static inline void must(const trial *t, usplit_status status)
{
    if (status != USPLIT_OK) {
        char text[2400];
        describe(t, text, sizeof text);
        fail_msg("status %d: %s\n    %s", status, usplit_error_message(), text);
    }
}

static int refused;

// A backend that says so may refuse a network.
static inline int compiles(trial *t, us_exec **exec, const us_plan *plan, int workers)
{
    usplit_status status = TEST_BACKEND.compile(exec, t->context, plan, workers);
    if (TEST_REFUSES && status == USPLIT_ERR_UNSUPPORTED) {
        refused++;
        return 0;
    }
    must(t, status);
    return 1;
}

// Without grads: refused.
static inline outcome train(trial *t, int threads, const us_run *run)
{
    const us_graph *g = t->graph;
    size_t n = (size_t)g->n_floats;
    int64_t head = (int64_t)g->size * g->size * head_channels(t);
    outcome o = {.grads = calloc(n, sizeof(float)), .after = calloc(n, sizeof(float)),
                 .head = calloc((size_t)(t->batch * head), sizeof(float)),
                 .has_grad = calloc((size_t)g->n_params, 1)};
    us_plan *plan;
    us_exec *exec;
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = t->batch,
                               .kl_weight = t->kl_weight,
                               .free_bits = t->free_bits, .outputs = &g->head, .n_outputs = 1};
    open_context(t, threads);
    must(t, us_plan_build(&plan, NULL, g, &options));
    if (!compiles(t, &exec, plan, threads)) {
        us_plan_free(plan);
        usplit_context_free(t->context);
        free_outcome(&o);
        return (outcome){.grads = NULL};
    }
    memcpy(o.after, t->params, n * sizeof(float));
    for (int round = 0; round < 2; round++) {       // the second time in memory that was used
        assert_int_equal(TEST_BACKEND.prepare(exec, t->params), USPLIT_OK);
        assert_int_equal(TEST_BACKEND.train(exec, run, &o.losses, o.grads), USPLIT_OK);
    }
    TEST_BACKEND.update_statistics(exec, o.after);
    for (int s = 0; s < t->batch; s++) {
        memcpy(o.head + s * head, TEST_BACKEND.output(exec, s, g->head), (size_t)head * sizeof(float));
    }
    memcpy(o.has_grad, plan->has_grad, (size_t)g->n_params);
    TEST_BACKEND.release(exec);
    us_plan_free(plan);
    usplit_context_free(t->context);
    return o;
}

// Predicts a window of sample 0; the caller frees the result, [h][w][head]. NULL: refused.
static inline float *predict(trial *t, us_rect want, const us_run *run)
{
    us_plan *plan;
    us_exec *exec;
    const float *head;
    us_plan_options options = {.mode = US_PLAN_PREDICT, .layout = TEST_BACKEND.layout, .batch = 1, .want = want};
    open_context(t, 1);
    must(t, us_plan_build(&plan, NULL, t->graph, &options));
    if (!compiles(t, &exec, plan, 2)) {
        us_plan_free(plan);
        usplit_context_free(t->context);
        return NULL;
    }
    assert_int_equal(TEST_BACKEND.prepare(exec, t->params), USPLIT_OK);
    assert_int_equal(TEST_BACKEND.predict(exec, 0, 1, run, &head), USPLIT_OK);
    assert_int_equal(TEST_BACKEND.predict(exec, 1, 1, run, &head), USPLIT_OK);
    int side = t->graph->size;
    int64_t n = (int64_t)(want.h ? want.h : side) * (want.h ? want.w : side) * head_channels(t);
    float *copy = calloc((size_t)n, sizeof *copy);
    memcpy(copy, head, (size_t)n * sizeof *copy);
    TEST_BACKEND.release(exec);
    us_plan_free(plan);
    usplit_context_free(t->context);
    return copy;
}

// ---- Comparison -------------------------------------------------------------------------------------

static double worst_loss, worst_head, worst_gradient, worst_statistics, worst_prediction, worst_window;

static inline void within(const trial *t, const char *what, double error, double allowed, double *worst)
{
    *worst = fmax(*worst, error / allowed);
    if (!(error <= allowed)) {
        char text[2400];
        describe(t, text, sizeof text);
        fail_msg("%s: error %.3g, allowed %.3g\n    %s", what, error, allowed, text);
    }
}

// Largest difference, and the largest value.
static inline double difference(const float *a, const double *b, int64_t n, double *most)
{
    double error = 0;
    *most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        error = d > error || isnan(d) ? d : error;
        *most = fmax(*most, fabs(b[i]));
    }
    return error;
}

static inline double root_mean_square(const trial *t, const us_ref *ref, int node)
{
    const us_node *n = &t->graph->nodes[node];
    int64_t count = (int64_t)t->batch * n->h * n->w * n->c;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += us_ref_value(ref, node)[i] * us_ref_value(ref, node)[i];
    }
    return sqrt(sum / (double)count);
}

// Sum over samples and channels of |g y|, at most, of one pixel's gate in one direction.
static inline double gate_cancellation(const trial *t, const us_ref *ref, const us_node *n, int node)
{
    const double *g = us_ref_gradient(ref, node), *y = us_ref_value(ref, node);
    int64_t pixels = (int64_t)n->h * n->w;
    int c = n->c / 4;
    double most = 0;
    for (int64_t p = 0; p < pixels; p++) {
        for (int d = 0; d < 4; d++) {
            double sum = 0;
            for (int64_t i = 0; i < (int64_t)t->batch * c; i++) {
                int64_t at = (i / c * pixels + p) * n->c + d * c + i % c;
                sum += fabs(g[at] * y[at]);
            }
            most = fmax(most, sum);
        }
    }
    return most;
}

// What a float32 backward pass can be held to. A unit of rounding is 6e-8. The published implementation in
// float32 is within 8.5e-6 of double precision on these networks, relative to the tensor's largest gradient
// (fixtures of the published networks); random clips and tiny batch statistics cost some more: 5e-5. Terms
// of a sum may cancel, exactly so for a bias in front of batch normalisation: 2e-6, the error of a term, of
// the sum of their magnitudes, |g| for a bias, |g| times the input's root mean square for a weight. Backward
// through batch normalisation subtracts most of what comes in when channels are few: half a unit of rounding
// of the network's largest gradient. The recurrences' gates and the top prior get sums over samples, the gates
// over channels too. What several nodes share, they add to.
static inline void compare_gradients(const trial *t, const us_ref *ref, const double *grads, const outcome *o)
{
    const us_graph *g = t->graph;
    double *cancel = calloc((size_t)g->n_params, sizeof *cancel);
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        if (n->op == US_OP_SCAN) {
            cancel[n->weight] += gate_cancellation(t, ref, n, i);
        }
        if (n->op != US_OP_CONV && n->op != US_OP_TCONV && n->op != US_OP_BNORM) {
            continue;
        }
        double input = n->op == US_OP_BNORM ? 1 : root_mean_square(t, ref, n->in[0]), most_sum = 0;
        for (int c = 0; c < n->c; c++) {
            double sum = 0;
            for (int64_t p = 0; p < (int64_t)t->batch * n->h * n->w; p++) {
                sum += fabs(us_ref_gradient(ref, i)[p * n->c + c]);
            }
            most_sum = fmax(most_sum, sum);
        }
        cancel[n->weight] += most_sum * input;
        if (n->bias >= 0) {
            cancel[n->bias] += most_sum;
        }
    }
    double largest, most;
    difference(o->grads, grads, g->n_floats, &largest);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        double error = difference(o->grads + a->offset, grads + a->offset, a->count, &most);
        within(t, a->name, error, 5e-5 * most + 2e-6 * cancel[p] + 3e-8 * largest, &worst_gradient);
    }
    free(cancel);
}

static inline void compare_statistics(const trial *t, const us_ref *ref, const outcome *o)
{
    const us_graph *g = t->graph;
    double *after = calloc((size_t)g->n_floats, sizeof *after), most;
    for (int64_t i = 0; i < g->n_floats; i++) {
        after[i] = t->params[i];
    }
    us_ref_statistics(ref, t->params, after);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        double error = difference(o->after + a->offset, after + a->offset, a->count, &most);
        within(t, a->name, error, 5e-6 * most + 5e-7, &worst_statistics);
        if (a->kind == US_PARAM_COUNTER) {
            assert_true(error == 0);
        }
    }
    free(after);
}

static inline void compare_training(const trial *t, us_ref *ref, const us_ref_losses *x, const outcome *o)
{
    const us_graph *g = t->graph;
    const us_losses *y = &o->losses;
    double *grads = calloc((size_t)g->n_floats, sizeof *grads), most;
    unsigned char *has_grad = calloc((size_t)g->n_params, 1);
    us_ref_run_backward(ref, t->params, grads, has_grad);
    int64_t values = (int64_t)t->batch * g->size * g->size * head_channels(t);
    double error = difference(o->head, us_ref_value(ref, g->head), values, &most);
    within(t, "head", error, 2e-5 * most, &worst_head);
    within(t, "loss", fabs(y->loss - x->loss), 2e-5 * fabs(x->loss) + 1e-6, &worst_loss);
    within(t, "reconstruction", fabs(y->reconstruction - x->reconstruction),
           2e-5 * fabs(x->reconstruction) + 1e-6, &worst_loss);
    within(t, "KL", fabs(y->kl - x->kl), 2e-5 * fabs(x->kl) + 1e-6, &worst_loss);
    for (int c = 0; c < t->config.channels; c++) {
        within(t, "loss of a channel", fabs(y->channel[c] - x->channel[c]), 2e-5 * fabs(x->channel[c]) + 1e-6,
               &worst_loss);
    }
    for (int l = 0; l < g->n_latents; l++) {
        within(t, "KL of a level", fabs(y->level[l] - x->level[l]), 2e-5 * fabs(x->level[l]) + 1e-6,
               &worst_loss);
    }
    assert_memory_equal(has_grad, o->has_grad, (size_t)g->n_params);
    compare_gradients(t, ref, grads, o);
    compare_statistics(t, ref, o);
    free(grads);
    free(has_grad);
}

static inline void report(const char *what, double worst)
{
    if (getenv("USPLIT_TEST_VERBOSE")) {
        print_message("%s: worst error %.2g of what is allowed\n", what, worst);
    }
}

// 1: compared, 0: always near a kink, or refused.
static inline int compare_one_training(trial *t)
{
    us_ref_losses losses;
    us_ref *ref = open_away_from_kinks(t, &losses);
    if (!ref) {
        return 0;
    }
    us_run run = run_of(t);
    outcome o = train(t, t->threads, &run);
    int done = o.grads != NULL;
    if (done) {
        compare_training(t, ref, &losses, &o);
        free_outcome(&o);
    }
    us_ref_free(ref);
    return done;
}

static inline us_rect random_window(int size)
{
    us_rect want;
    want.h = pick(1, size);
    want.w = pick(1, size);
    want.y0 = pick(0, size - want.h);
    want.x0 = pick(0, size - want.w);
    return want;
}

// An inner window may take other blocks of a convolution: sums in another order, as far apart as two float32
// algorithms are (1.3e-6 of the maximum for the published networks): 1e-5, like the reference.
static inline void compare_window(const trial *t, const float *full, const float *part, us_rect want, double most)
{
    int channels = head_channels(t), size = t->graph->size;
    double error = 0;
    for (int y = 0; y < want.h; y++) {
        for (int i = 0; i < want.w * channels; i++) {
            float a = part[(int64_t)y * want.w * channels + i];
            float b = full[((int64_t)(y + want.y0) * size + want.x0) * channels + i];
            error = fmax(error, isnan(a) ? HUGE_VAL : fabs((double)a - b));
        }
    }
    within(t, "window", error, 1e-5 * most, &worst_window);
}

static inline void compare_prediction(trial *t, const us_run *run)
{
    static const us_rect all = {0, 0, 0, 0};
    us_ref *ref = open_reference(t, 0);
    us_ref_run_forward(ref, t->params, 1, 0, NULL);
    float *full = predict(t, all, run);
    int64_t values = (int64_t)t->graph->size * t->graph->size * head_channels(t);
    if (full) {
        double most, error = difference(full, us_ref_value(ref, t->graph->head), values, &most);
        within(t, "prediction", error, 1e-5 * most, &worst_prediction);
        for (int i = 0; i < 3; i++) {
            us_rect want = random_window(t->graph->size);
            float *part = predict(t, want, run);
            compare_window(t, full, part, want, most);
            free(part);
        }
    }
    us_ref_free(ref);
    free(full);
}

#endif
