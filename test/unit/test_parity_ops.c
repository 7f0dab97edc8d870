// The CPU backend against the reference (src/cpu/ref.h) on random networks: families, variants, options, sizes,
// widths, batches, threads, clips, free bits and dropout drawn from a seed, and chains of single ops that no network
// has. Training: losses, every gradient, running statistics. Prediction: full windows against the reference, inner
// windows against the full ones.
// USPLIT_TEST_SEED=n draws other networks, USPLIT_TEST_VERBOSE=1 tells the worst errors.
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

// test/cuda builds this file once more for the other backend.
#ifndef TEST_BACKEND
#define TEST_BACKEND us_backend_cpu
#define TEST_TAKE_DEVICE(context) ((void)(context))
#define TEST_FEWER 1
#define TEST_REFUSES 0          // 1: the backend may say of a network that it does not know it (yet)
#endif
#ifndef TEST_REFUSES
#define TEST_REFUSES 1
#endif

// ThreadSanitizer is some twenty times slower, and only the threads are its business.
#ifdef __SANITIZE_THREAD__
enum { N_TRAININGS = 12, N_PREDICTIONS = 8, N_CHAINS = 8 };
#else
enum { N_TRAININGS = 80 / TEST_FEWER, N_PREDICTIONS = 60 / TEST_FEWER, N_CHAINS = 60 / TEST_FEWER };
#endif

static uint64_t seed, drawn;

static double uniform(double low, double high)
{
    us_u32x4 r = us_philox(seed, (uint32_t)drawn++, 0, 0, 98);
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

// ---- A random case ----------------------------------------------------------------------------------

typedef struct trial {
    us_net_config config;
    us_graph *graph;
    int batch, threads;
    double kl_weight, free_bits;
    uint64_t run_seed;
    int64_t step;
    float *params;
    float *levels[US_MAX_LC], *target;          // [N][size][size], [N][size][size][K]
    float *noise[USPLIT_MAX_LEVELS];            // [N][h][w][z]
    usplit_context *context;
} trial;

static float *random_floats(int64_t n, double low, double high)
{
    float *x = calloc((size_t)n + 1, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)uniform(low, high);
    }
    return x;
}

static const int widths[] = {1, 2, 3, 5, 8, 9, 16, 17};

static int rarely(int low, int high)        // 0 three times out of four
{
    return pick(0, 3) ? 0 : pick(low, high);
}

static void random_lvae(usplit_model_options *o)
{
    o->variant = pick(0, 3);
    o->levels = o->variant == USPLIT_VARIANT_DEEP ? pick(2, 5) : pick(1, 3);
    o->lc_count = o->variant == USPLIT_VARIANT_VANILLA ? 0 : pick(1, o->levels);
    o->filters = widths[pick(0, 7)];
    for (int i = 0; i < o->levels; i++) {
        o->z_dims[i] = pick(1, 9);
    }
    o->patch = o->levels > 3 ? 32 : 8 * pick(1, 3);
    if (o->variant == USPLIT_VARIANT_VANILLA && pick(0, 1)) {
        o->patch += 2;          // padded to a multiple of 2^n
    }
    o->dropout = pick(0, 1) ? uniform(0.05, 0.5) : -1;
    o->var_clip_max = pick(0, 1) ? uniform(-0.5, 1) : 0;
    o->logvar_lower_bound = pick(0, 1) ? uniform(-1, 0.2) : 0;
    o->blocks = o->levels > 3 ? 0 : rarely(2, 3);
    o->shared_branch = o->blocks > 1 && o->lc_count > 0 ? pick(0, 1) : 0;
    o->activation = rarely(USPLIT_ACTIVATION_RELU, USPLIT_ACTIVATION_LEAKY_RELU);
    o->logvar = rarely(USPLIT_LOGVAR_NONE, USPLIT_LOGVAR_GLOBAL);
    o->merge = rarely(USPLIT_MERGE_RESIDUAL_UNGATED, USPLIT_MERGE_LINEAR);
    o->latent_scale = pick(0, 2);
    o->ungated = rarely(1, 1);
    o->kl = o->family == USPLIT_FAMILY_HVAE ? rarely(1, 1) : 0;
    if (o->activation) {        // millions of rectifiers have one near 0
        o->filters = o->filters > 5 ? 5 : o->filters;
    }
}

static void random_unet(usplit_model_options *o)
{
    static const int variants[] = {USPLIT_VARIANT_VANILLA, USPLIT_VARIANT_REGULAR, USPLIT_VARIANT_CONTEXT_AWARE};
    o->variant = variants[pick(0, 2)];
    o->levels = o->variant == USPLIT_VARIANT_REGULAR ? pick(2, 3) : pick(1, 3);
    o->lc_count = o->variant == USPLIT_VARIANT_REGULAR ? pick(1, o->levels - 1) : 0;
    o->shared_branch = o->lc_count > 0 && pick(0, 1);
    o->filters = widths[pick(0, 4)];
    o->patch = 2 * pick(4, 12);
}

static void random_bravenet(usplit_model_options *o)
{
    o->variant = USPLIT_VARIANT_REGULAR;
    o->filters = pick(1, 5);
    o->patch = 8 * pick(2, 4);
    o->dropout = pick(0, 2) ? uniform(0.05, 0.5) : -1;
}

// Batch statistics of few values amplify rounding without end.
static int fewest_values(const us_graph *g, int batch)
{
    int fewest = 1 << 30;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        int values = batch * n->h * n->w;
        fewest = n->op == US_OP_BNORM && values < fewest ? values : fewest;
    }
    return fewest;
}

enum { ANY, HVAE };

static void random_config(trial *t, int what)
{
    static const int families[] = {USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HAE,
                                   USPLIT_FAMILY_UNET, USPLIT_FAMILY_UNET, USPLIT_FAMILY_UNET, USPLIT_FAMILY_BRAVENET};
    int enough = 0;
    while (!enough) {
        usplit_model_options o = {.struct_size = sizeof o, .family = families[what == HVAE ? 0 : pick(0, 7)]};
        us_graph *g;
        if (o.family <= USPLIT_FAMILY_HAE) {
            random_lvae(&o);
        } else if (o.family == USPLIT_FAMILY_UNET) {
            random_unet(&o);
        } else {
            random_bravenet(&o);
        }
        o.channels = pick(2, 4);
        assert_int_equal(us_net_config_from(&t->config, &o), USPLIT_OK);
        assert_int_equal(us_graph_build(&g, NULL, &t->config, t->config.patch), USPLIT_OK);
        enough = fewest_values(g, t->batch) >= 8;
        us_graph_free(g);
    }
}

static void fill_data(trial *t)
{
    const us_graph *g = t->graph;
    int size = g->size;
    t->params = calloc((size_t)g->n_floats, sizeof *t->params);
    us_graph_init_params(g, seed, t->params);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        for (int64_t i = 0; i < a->count && a->kind != US_PARAM_COUNTER; i++) {
            double spread = a->kind == US_PARAM_WEIGHT ? 0.7 / sqrt((double)a->fan_in) : 0.2;
            t->params[a->offset + i] += (float)(spread * uniform(-1, 1));
        }
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

static void open_data(trial *t, int size)
{
    assert_int_equal(us_graph_build(&t->graph, NULL, &t->config, size), USPLIT_OK);
    fill_data(t);
}

static void empty_data(trial *t)
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

static void close_data(trial *t)
{
    empty_data(t);
    us_graph_free(t->graph);
}

static void open_context(trial *t, int threads)
{
    usplit_context_options o;
    assert_int_equal(usplit_context_options_init(&o, sizeof o), USPLIT_OK);
    o.device = "cpu";
    o.threads = threads;
    assert_int_equal(usplit_context_create(&t->context, &o), USPLIT_OK);
    TEST_TAKE_DEVICE(t->context);
}

static void describe(const trial *t, char *text, size_t size)
{
    const us_net_config *c = &t->config;
    snprintf(text, size,
             "seed %llu: family %d variant %d levels %d context %d filters %d patch %d size %d channels %d "
             "z0 %d dropout %.3g clip %.3g bound %.3g batch %d threads %d kl %.3g free bits %.3g; blocks %d activation %d "
             "logvar %d merge %d kl %d scale %d shared %d ungated %d",
             (unsigned long long)seed, c->family, c->variant, c->levels, c->lc_count, c->filters, c->patch,
             t->graph->size, c->channels, c->z_dims[0], c->dropout, c->var_clip_max, c->logvar_lower_bound,
             t->batch, t->threads, t->kl_weight, t->free_bits, c->blocks, c->activation, c->logvar, c->merge, c->kl,
             c->latent_scale, c->shared_branch, c->ungated);
}

// ---- Reference --------------------------------------------------------------------------------------

static us_ref *open_reference(const trial *t, int train)
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
static double margin_of(const us_ref *ref, const us_graph *g, int node, int batch, int c0, int c1, double clip)
{
    const us_node *n = &g->nodes[node];
    double margin = HUGE_VAL;
    for (int64_t i = 0; i < (int64_t)batch * n->h * n->w; i++) {
        for (int c = c0; c < c1; c++) {
            margin = fmin(margin, fabs(us_ref_value(ref, node)[i * n->c + c] - clip));
        }
    }
    return margin;
}

static double largest_of(const us_ref *ref, const us_graph *g, int node, int batch)
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
static double pool_margin(const us_ref *ref, const us_graph *g, const us_node *n, int batch)
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
static double scan_margin(const trial *t, const us_ref *ref, const us_node *n, int node)
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
// through, say: normalisation divides the rounding error by it.
static int amplifies(const trial *t, const us_ref *ref, const us_node *n)
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
        if (deviation < most / 50) {
            return 1;
        }
    }
    return 0;
}

// A constant plane, all rectified, is not amplified: its values are exact.
static int is_near_a_kink(const trial *t, const us_ref *ref)
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
            return 1;
        }
    }
    return 0;
}

// New data until no value lies near a kink; the reference has then run forward. NULL: none was found.
static us_ref *open_away_from_kinks(trial *t, us_ref_losses *losses)
{
    for (int tries = 0; tries < 30; tries++) {
        us_ref *ref = open_reference(t, 1);
        us_ref_run_forward(ref, t->params, t->kl_weight, t->free_bits, losses);
        if (!is_near_a_kink(t, ref)) {
            return ref;
        }
        us_ref_free(ref);
        empty_data(t);
        fill_data(t);
    }
    return NULL;
}

// ---- CPU backend ------------------------------------------------------------------------------------

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
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

static us_run run_of(trial *t)
{
    return (us_run){.seed = t->run_seed, .step = t->step, .noise = (const float *const *)t->noise,
                    .fill = fill, .user = t};
}

static void free_outcome(outcome *o)
{
    free(o->grads);
    free(o->after);
    free(o->head);
    free(o->has_grad);
}

static int head_channels(const trial *t)
{
    return t->graph->nodes[t->graph->head].c;
}

static void must(const trial *t, usplit_status status)
{
    if (status != USPLIT_OK) {
        char text[640];
        describe(t, text, sizeof text);
        fail_msg("status %d: %s\n    %s", status, usplit_error_message(), text);
    }
}

static int refused;

// A backend that says so may refuse a network.
static int compiles(trial *t, us_exec **exec, const us_plan *plan, int workers)
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
static outcome train(trial *t, int threads, const us_run *run)
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
static float *predict(trial *t, us_rect want, const us_run *run)
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

static void within(const trial *t, const char *what, double error, double allowed, double *worst)
{
    *worst = fmax(*worst, error / allowed);
    if (!(error <= allowed)) {
        char text[640];
        describe(t, text, sizeof text);
        fail_msg("%s: error %.3g, allowed %.3g\n    %s", what, error, allowed, text);
    }
}

// Largest difference, and the largest value.
static double difference(const float *a, const double *b, int64_t n, double *most)
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

static double root_mean_square(const trial *t, const us_ref *ref, int node)
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
static double gate_cancellation(const trial *t, const us_ref *ref, const us_node *n, int node)
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
static void compare_gradients(const trial *t, const us_ref *ref, const double *grads, const outcome *o)
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

static void compare_statistics(const trial *t, const us_ref *ref, const outcome *o)
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

static void compare_training(const trial *t, us_ref *ref, const us_ref_losses *x, const outcome *o)
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

// ---- Tests ------------------------------------------------------------------------------------------

static void report(const char *what, double worst)
{
    if (getenv("USPLIT_TEST_VERBOSE")) {
        print_message("%s: worst error %.2g of what is allowed\n", what, worst);
    }
}

static void begin(trial *t, int number, int what)
{
    seed = first_seed() * 10000 + (uint64_t)number;
    drawn = 0;
    *t = (trial){.batch = pick(1, 3), .threads = pick(1, 3), .kl_weight = uniform(0.1, 2),
                 .free_bits = pick(0, 2) == 0 ? uniform(0.2, 2) : 0, .run_seed = 77 + seed,
                 .step = pick(0, 9)};
    random_config(t, what);
}

// 1: compared, 0: always near a kink, or refused.
static int compare_one_training(trial *t)
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

static void training_agrees_with_the_reference(void **state)
{
    (void)state;
    int compared = 0;
    refused = 0;
    for (int number = 0; number < N_TRAININGS; number++) {
        trial t;
        begin(&t, number, ANY);
        open_data(&t, t.config.patch);
        compared += compare_one_training(&t);
        close_data(&t);
    }
    // of the larger networks of rectifiers, one in five draws, some value always lies near its kink
    assert_true(compared + refused >= N_TRAININGS * 3 / 4);
    report("losses", worst_loss);
    report("head", worst_head);
    report("gradients", worst_gradient);
    report("statistics", worst_statistics);
}

// Noise as documented: Box-Muller on Philox words keyed by seed, step, sample, level and place.
static void training_draws_the_documented_noise(void **state)
{
    (void)state;
    int compared = 0;
    refused = 0;
    for (int number = 100; number < 106; number++) {
        trial t;
        begin(&t, number, HVAE);
        open_data(&t, t.config.patch);
        for (int l = 0; l < t.graph->n_latents; l++) {
            const us_node *z = &t.graph->nodes[t.graph->latent[l]];
            for (int64_t i = 0; i < (int64_t)t.batch * z->h * z->w * z->c; i++) {
                int64_t pixel = i / z->c, c = i % z->c, place = pixel % (z->h * z->w);
                uint64_t stream = us_key(t.run_seed, US_RNG_LATENT, (uint64_t)t.step,
                                            (uint32_t)(pixel / (z->h * z->w)));
                float four[4];
                us_draw_normal4(stream, (int32_t)(place / z->w), (int32_t)(place % z->w), (uint32_t)(c / 4),
                                (uint32_t)l, four);
                t.noise[l][i] = four[c % 4];
            }
        }
        us_ref *ref = open_reference(&t, 1);
        us_ref_losses losses;
        us_ref_run_forward(ref, t.params, t.kl_weight, t.free_bits, &losses);
        us_run run = run_of(&t);
        run.noise = NULL;
        outcome o = is_near_a_kink(&t, ref) ? (outcome){.grads = NULL} : train(&t, t.threads, &run);
        if (o.grads) {
            compare_training(&t, ref, &losses, &o);
            free_outcome(&o);
            compared++;
        }
        us_ref_free(ref);
        close_data(&t);
    }
    assert_true(compared + refused >= 3);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    for (int number = 200; number < 216 / TEST_FEWER; number++) {
        trial t;
        begin(&t, number, ANY);
        t.batch = 5;
        open_data(&t, t.config.patch);
        us_run run = run_of(&t);
        run.noise = NULL;
        outcome one = train(&t, 1, &run);
        size_t n = (size_t)t.graph->n_floats * sizeof(float);
        for (int threads = 2; one.grads && threads <= 4; threads++) {
            outcome many = train(&t, threads, &run);
            assert_memory_equal(&one.losses, &many.losses, sizeof one.losses);
            assert_memory_equal(one.grads, many.grads, n);
            assert_memory_equal(one.after, many.after, n);
            free_outcome(&many);
        }
        free_outcome(&one);
        close_data(&t);
    }
}

// Features far from zero: mean^2 is 10^4 times the variance. Float features near 30 are off by 1e-6, a
// hundred thousandth of their deviation; statistics that lose no more are within 1e-4 of the variance.
static void statistics_survive_a_large_mean(void **state)
{
    (void)state;
    trial t;
    begin(&t, 500, ANY);
    usplit_model_options o = {.struct_size = sizeof o, .levels = 2, .filters = 8, .patch = 32, .z_dims = {4}};
    assert_int_equal(us_net_config_from(&t.config, &o), USPLIT_OK);
    t.batch = 2;
    open_data(&t, 32);
    const us_param *bias = &t.graph->params[us_graph_param(t.graph, "first_bottom_up.0.bias")];
    for (int c = 0; c < 8; c++) {
        t.params[bias->offset + c] = 30;
    }
    for (int64_t i = 0; i < (int64_t)2 * 32 * 32; i++) {
        t.levels[0][i] *= 0.3f;
    }
    us_ref *ref = open_reference(&t, 1);
    us_ref_run_forward(ref, t.params, t.kl_weight, t.free_bits, NULL);
    double *after = calloc((size_t)t.graph->n_floats, sizeof *after);
    us_ref_statistics(ref, t.params, after);
    us_run run = run_of(&t);
    outcome x = train(&t, 1, &run);
    int entry = us_graph_param(t.graph, "first_bottom_up.2.res.block.0.running_var");
    const us_param *v = &t.graph->params[entry];
    for (int64_t i = v->offset; i < v->offset + v->count; i++) {
        double before = 0.9 * t.params[i];
        double variance = (after[i] - before) * 10, got = (x.after[i] - before) * 10;
        assert_true(variance < 900 * 1e-3);
        within(&t, "variance beside a large mean", fabs(got - variance), 1e-4 * variance + 1e-6,
               &worst_statistics);
    }
    free(after);
    free_outcome(&x);
    us_ref_free(ref);
    close_data(&t);
}

static us_rect random_window(int size)
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
static void compare_window(const trial *t, const float *full, const float *part, us_rect want, double most)
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

// A size the network can take beside the one it was trained for (networks 3.8, 7).
static int other_size(const us_net_config *c)
{
    if (c->family == USPLIT_FAMILY_UNET) {
        return c->variant == USPLIT_VARIANT_CONTEXT_AWARE ? c->patch : pick(1 << c->levels, 37);
    }
    if (c->family == USPLIT_FAMILY_BRAVENET) {
        return 8 * pick(1, 5);
    }
    int m = c->variant == USPLIT_VARIANT_VANILLA ? 1 : 1 << c->levels;
    return (pick(9, 36) + m - 1) / m * m;
}

static void compare_prediction(trial *t, const us_run *run)
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

static void predictions_agree_with_the_reference_and_their_windows(void **state)
{
    (void)state;
    for (int number = 300; number < 300 + N_PREDICTIONS; number++) {
        trial t;
        begin(&t, number, ANY);
        t.batch = 1;
        open_data(&t, number % 3 ? t.config.patch : other_size(&t.config));
        us_run run = run_of(&t);
        run.mean_latents = number % 5 == 0;
        for (int l = 0; run.mean_latents && l < t.graph->n_latents; l++) {
            const us_node *z = &t.graph->nodes[t.graph->latent[l]];
            memset(t.noise[l], 0, (size_t)(z->h * z->w * z->c) * sizeof(float));
        }
        compare_prediction(&t, &run);
        close_data(&t);
    }
    report("predictions", worst_prediction);
    report("windows", worst_window);
}

// Drawn noise belongs to a place, not to a window or a worker.
static void windows_draw_the_noise_of_the_whole(void **state)
{
    (void)state;
    static const us_rect all = {0, 0, 0, 0};
    for (int number = 400; number < 410; number++) {
        trial t;
        begin(&t, number, HVAE);
        t.batch = 1;
        open_data(&t, t.config.patch);
        us_run run = run_of(&t);
        run.noise = NULL;
        run.tile_y = 64 * pick(-2, 5);
        run.tile_x = 64 * pick(-2, 5);
        float *full = predict(&t, all, &run);
        if (!full) {
            close_data(&t);
            continue;
        }
        us_rect want = random_window(t.graph->size);
        float *part = predict(&t, want, &run);
        double most = 0;
        for (int64_t i = 0; i < (int64_t)t.graph->size * t.graph->size * head_channels(&t); i++) {
            most = fmax(most, fabs((double)full[i]));
        }
        compare_window(&t, full, part, want, most);
        run.seed++;
        float *other = predict(&t, want, &run);
        size_t n = (size_t)(want.h * want.w * head_channels(&t));
        assert_true(memcmp(other, part, n * sizeof(float)) != 0);
        free(full);
        free(part);
        free(other);
        close_data(&t);
    }
}

// The caller learns of it from the losses and skips the step: no gradient is written.
static void a_loss_that_is_not_finite_stops_the_step(void **state)
{
    (void)state;
    trial t;
    begin(&t, 600, HVAE);
    open_data(&t, t.config.patch);
    t.target[5] = NAN;
    us_run run = run_of(&t);
    outcome o = train(&t, t.threads, &run);
    assert_false(isfinite(o.losses.loss));
    for (int64_t i = 0; i < t.graph->n_floats; i++) {
        assert_true(o.grads[i] == 0);
    }
    free_outcome(&o);
    close_data(&t);
}

// A step over more samples than the plan's batch: losses and gradients of its parts, by their shares.
static void parts_of_a_batch_add_up(void **state)
{
    (void)state;
    trial t;
    for (int number = 700; begin(&t, number, HVAE), t.batch < 3; number++) {
    }
    open_data(&t, t.config.patch);
    open_context(&t, 2);
    const us_graph *g = t.graph;
    size_t n = (size_t)g->n_floats, bytes = n * sizeof(float);
    us_plan *plan;
    us_iterate it = {.backend = &TEST_BACKEND, .batch = 2, .n_floats = g->n_floats, .grads = calloc(n, 4),
                     .part = calloc(n, 4)};
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = 2,
                               .kl_weight = t.kl_weight, .free_bits = t.free_bits};
    assert_int_equal(us_plan_build(&plan, NULL, g, &options), USPLIT_OK);
    assert_int_equal(TEST_BACKEND.compile(&it.exec, t.context, plan, 2), USPLIT_OK);
    float *grads[2] = {calloc(n, 4), calloc(n, 4)}, *m = calloc(n, 4), *u = calloc(n, 4), *after = calloc(n, 4);
    float *m2 = calloc(n, 4), *u2 = calloc(n, 4), *before = calloc(n, 4);
    us_losses losses[2];
    us_run run = run_of(&t);
    run.noise = NULL;
    memcpy(after, t.params, bytes);
    memcpy(before, t.params, bytes);
    assert_int_equal(TEST_BACKEND.prepare(it.exec, t.params), USPLIT_OK);
    for (int i = 0; i < 2; i++) {
        run.first = 2 * i;
        run.samples = 2 - i;
        assert_int_equal(TEST_BACKEND.train(it.exec, &run, &losses[i], grads[i]), USPLIT_OK);
    }
    double norm = 0;
    for (size_t i = 0; i < n; i++) {
        grads[0][i] = (float)(2 / 3.0) * grads[0][i] + (float)(1 / 3.0) * grads[1][i];
    }
    assert_int_equal(TEST_BACKEND.gradient_norm(it.exec, grads[0], &norm), USPLIT_OK);
    us_update update = {.lr = 1e-3, .clip_norm = norm / 2};
    assert_int_equal(TEST_BACKEND.adamax(it.exec, after, grads[0], m, u, update.lr, 1, 0.5), USPLIT_OK);
    run.first = 0;
    run.samples = 3;
    us_trained arrays = {t.params, m2, u2};
    us_tally tally = {.loss_scale = 1};
    assert_int_equal(us_iterate_begin(&it, &arrays, &tally), USPLIT_OK);
    assert_int_equal(us_iterate_step(&it, &run, &update), USPLIT_OK);
    assert_int_equal(us_iterate_sync(&it, 1), USPLIT_OK);
    assert_true(fabs(it.tally.losses.loss - (2 * losses[0].loss + losses[1].loss) / 3) < 1e-6 * fabs(losses[0].loss));
    assert_true(fabs(it.tally.gradient_norm - norm) <= 1e-5 * norm);
    assert_int_equal(it.tally.updates, 1);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        for (int64_t i = a->offset; us_param_trained(a) && i < a->offset + a->count; i++) {
            // the first Adamax step is lr in the direction of the gradient: a gradient near 0 has either sign
            float move = after[i] - before[i];
            assert_true(fabsf(t.params[i] - after[i]) < 1e-6f || fabsf(move) < 9e-4f || fabsf(grads[0][i]) < 1e-6f);
        }
    }
    float *all[] = {it.grads, it.part, grads[0], grads[1], m, u, m2, u2, after, before};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]);
    }
    TEST_BACKEND.release(it.exec);
    us_plan_free(plan);
    usplit_context_free(t.context);
    close_data(&t);
}

static void one_value_per_channel_is_refused(void **state)
{
    (void)state;
    trial t = {.batch = 1};
    usplit_model_options o = {.struct_size = sizeof o, .levels = 3, .filters = 2, .patch = 8, .z_dims = {2}};
    us_plan *plan;
    us_exec *exec;
    assert_int_equal(us_net_config_from(&t.config, &o), USPLIT_OK);
    open_data(&t, 8);
    open_context(&t, 1);
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = 1, .kl_weight = 1};
    assert_int_equal(us_plan_build(&plan, NULL, t.graph, &options), USPLIT_OK);
    assert_int_not_equal(TEST_BACKEND.compile(&exec, t.context, plan, 1), USPLIT_OK);
    assert_null(exec);
    us_plan_free(plan);
    usplit_context_free(t.context);
    close_data(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_agrees_with_the_reference),
        cmocka_unit_test(training_draws_the_documented_noise),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(statistics_survive_a_large_mean),
        cmocka_unit_test(predictions_agree_with_the_reference_and_their_windows),
        cmocka_unit_test(windows_draw_the_noise_of_the_whole),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_the_step),
        cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(one_value_per_channel_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
