// Runs the groups of a network fixture: eval, eval_alt, eval_noise, train outputs, losses, KL, gradients,
// batch-norm statistics, optimiser step. Error = max|a - b| / max|b| over one tensor (the fixtures' README,
// which also gives the tolerances on the CPU).
#include "parity/net_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "kernels/elem.h"
#include "parity/fixture.h"
#ifdef US_EMULATE
#include "cuda/emulated.h"
#endif

enum { MAX_OUTPUTS = 4 * USPLIT_MAX_LEVELS + 4 };

typedef struct net_case {
    fixture f;
    us_net_config config;
    us_graph *graph;
    float *params, *grads;
    usplit_context *context;
    const us_backend *backend;
    int half;               // the backend computes in fp16
    int batch;
    double kl_weight, free_bits, lr;
    float *noise_file[USPLIT_MAX_LEVELS], *noise[USPLIT_MAX_LEVELS];   // NCHW, NHWC
    us_net_report report;
    void *user;
    double worst;           // of the group at hand
    int compared;           // tensors compared in it: a group of none fails
    char worst_name[160];
} net_case;

static void compare(net_case *c, const char *name, const float *ours, const float *theirs, int64_t n)
{
    double worst = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - theirs[i]), m = fabs((double)theirs[i]);
        worst = d > worst || d != d ? d : worst;
        top = m > top ? m : top;
    }
    double e = top > 0 ? worst / top : worst;
    c->compared++;
    if (e > c->worst || e != e || c->worst_name[0] == 0) {
        c->worst = e;
        snprintf(c->worst_name, sizeof c->worst_name, "%s", name);
    }
}

// The fixtures' tolerances are for float32 on a CPU. A device adds up in another order, in trees and fused, and its
// convolutions may be small Winograd tiles: outputs and what follows from them to 1e-4 of the largest value, gradients
// to 1e-3. Half: values rounded to 2^-11 in some twenty layers: 2e-2.
static double tolerance_of(const net_case *c, const char *group, double tolerance)
{
    if (c->backend == &us_backend_cpu || !strcmp(group, "step") || !strcmp(group, "Adamax")) {
        return tolerance;       // "step" is a share of weights, Adamax a handful of operations
    }
    return c->half ? 2e-2 : !strcmp(group, "gradients") ? 1e-3 : 1e-4;
}

static void finish(net_case *c, const char *group, double tolerance)
{
    char line[256];
    tolerance = tolerance_of(c, group, tolerance);
    snprintf(line, sizeof line, "%-12s (worst %s)", group, c->worst_name);
    c->report(line, c->worst, tolerance, c->compared > 0 && c->worst <= tolerance, c->user);
    c->worst = 0;
    c->compared = 0;
    c->worst_name[0] = 0;
}

// [n][c][h][w] -> [n][h][w][c], and channels [c0, c0 + m) back.
static float *to_nhwc(const float *src, int64_t n, int64_t ch, int64_t hw)
{
    float *dst = malloc((size_t)(n * ch * hw) * sizeof *dst);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t p = 0; p < hw; p++) {
            for (int64_t j = 0; j < ch; j++) {
                dst[(i * hw + p) * ch + j] = src[(i * ch + j) * hw + p];
            }
        }
    }
    return dst;
}

static void to_nchw(const float *src, int64_t hw, int64_t stride, int64_t c0, int64_t m, float *dst)
{
    for (int64_t j = 0; j < m; j++) {
        for (int64_t p = 0; p < hw; p++) {
            dst[j * hw + p] = src[p * stride + c0 + j];
        }
    }
}

// ---- Reading the case ----

// Number of the quoted word at `at` in a list that ends with NULL; 0 where there is none (null, absent); -1: unknown.
static int word_of(const char *at, const char *const *words)
{
    if (!at || *at != '"') {
        return 0;
    }
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(words[i]);
        if (!strncmp(at + 1, words[i], n) && at[1 + n] == '"') {
            return i;
        }
    }
    return -1;
}

// Options of the published code that no published configuration uses.
static int read_choices(net_case *c, const char **why)
{
    static const char *const activations[] = {"elu", "relu", "leakyrelu", NULL};
    static const char *const logvars[] = {"pixelwise", "none", "channelwise", "global", NULL};
    static const char *const merges[] = {"residual", "residual_ungated", "linear", NULL};
    const char *j = c->f.config;
    us_net_config *o = &c->config;
    const char *logvar = json_at(j, "model", "predict_logvar");
    o->blocks = (int)json_number(j, "model", "blocks_per_layer", 1);
    o->activation = word_of(json_at(j, "model", "nonlin"), activations);
    o->logvar = logvar && !strncmp(logvar, "null", 4) ? USPLIT_LOGVAR_NONE : word_of(logvar, logvars);
    o->merge = word_of(json_at(j, "model", "merge_type"), merges);
    o->kl = json_true(j, "model", "analytical_kl") ? USPLIT_KL_ANALYTICAL : USPLIT_KL_MONTE_CARLO;
    o->ungated = json_at(j, "model", "gated") && !json_true(j, "model", "gated");
    o->shared_branch = o->blocks > 1 && o->lc_count > 0 && !json_true(j, "model", "multiscale_lowres_separate_branch");
    *why = "an activation, log-variance or merge of another name";
    return o->activation < 0 || o->logvar < 0 || o->merge < 0 ? 1 : 0;
}

static void read_training(net_case *c)
{
    const char *j = c->f.config;
    c->config.patch = (int)json_number(j, "data", "image_size", 64);
    c->config.channels = (int)json_number(j, NULL, "target_channels", 2);
    c->batch = (int)json_number(j, NULL, "batch", 2);
    c->kl_weight = json_number(j, "loss", "kl_weight", 1);
    c->free_bits = json_number(j, "loss", "free_bits", 0);
    c->lr = json_number(j, "training", "lr", 1e-3);
}

static int read_unet(net_case *c)
{
    const char *j = c->f.config;
    us_net_config *o = &c->config;
    int lc = (int)json_number(j, "data", "multiscale_lowres_count", 1) - 1;
    o->family = USPLIT_FAMILY_UNET;
    o->lc_count = lc < 0 ? 0 : lc;
    o->variant = json_true(j, "model", "enable_context_transfer") ? USPLIT_VARIANT_CONTEXT_AWARE
                 : o->lc_count > 0                                ? USPLIT_VARIANT_REGULAR
                                                                  : USPLIT_VARIANT_VANILLA;
    o->levels = (int)json_number(j, "model", "n_levels", 4);
    o->filters = (int)json_number(j, "model", "init_channel_count", 64);
    o->blocks = 1;
    o->shared_branch = o->lc_count > 0 && !json_true(j, "model", "multiscale_lowres_separate_branch");
    return 0;
}

static int read_bravenet(net_case *c)
{
    double kernels[4] = {32};
    us_net_config *o = &c->config;
    json_list(c->f.config, "model", "num_kernels", kernels, 4);
    *o = (us_net_config){.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .levels = 4, .lc_count = 1,
                         .filters = (int)kernels[0], .patch = o->patch, .channels = o->channels, .blocks = 1};
    return 0;
}

static int read_config(net_case *c, const char **why)
{
    static const char *const kinds[] = {"hvae", "hae", "unet", "bravenet", NULL};
    const char *j = c->f.config, *name = json_at(j, NULL, "kind");
    us_net_config *o = &c->config;
    int kind = name ? word_of(name, kinds) : -1;
    read_training(c);
    if (kind < 0) {
        *why = "this network family is not known";
        return 2;
    }
    if (kind >= USPLIT_FAMILY_UNET) {
        return kind == USPLIT_FAMILY_UNET ? read_unet(c) : read_bravenet(c);
    }
    double z[USPLIT_MAX_LEVELS];
    int lc = (int)json_number(j, "data", "multiscale_lowres_count", 1) - 1;
    o->levels = json_list(j, "model", "z_dims", z, USPLIT_MAX_LEVELS);
    for (int i = 0; i < o->levels; i++) {
        o->z_dims[i] = (int)z[i];
    }
    o->family = json_true(j, "model", "non_stochastic_version") ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
    o->lc_count = lc < 0 ? 0 : lc;
    int retain = json_true(j, "decoder", "multiscale_retain_spatial_dims");
    o->variant = o->lc_count == 0 ? USPLIT_VARIANT_VANILLA : !retain ? USPLIT_VARIANT_LEAN
                 : o->levels > 4 ? USPLIT_VARIANT_DEEP : USPLIT_VARIANT_REGULAR;
    o->filters = (int)json_number(j, "model", "n_filters", 64);
    o->logvar_lower_bound = json_number(j, "model", "logvar_lowerbound", -5);
    o->var_clip_max = json_number(j, "model", "var_clip_max", 20);
    return read_choices(c, why);
}

static int read_weights(net_case *c, const char **why)
{
    static char missing[300];
    char path[200];
    c->params = calloc((size_t)c->graph->n_floats, sizeof(float));
    c->grads = calloc((size_t)c->graph->n_floats, sizeof(float));
    for (int i = 0; i < c->graph->n_params; i++) {
        const us_param *p = &c->graph->params[i];
        int n;
        int64_t d[8], count = 1;
        snprintf(path, sizeof path, "weights/%s", p->name);
        float *values = fixture_read(&c->f, path, &n, d);
        for (int k = 0; values && k < n; k++) {
            count *= d[k];
        }
        if (!values || count != p->count) {
            snprintf(missing, sizeof missing, "no entry '%s' of %lld values", path, (long long)p->count);
            *why = missing;
            free(values);
            return 1;
        }
        memcpy(c->params + p->offset, values, (size_t)count * sizeof *values);
        free(values);
    }
    for (int l = 0; l < c->graph->n_latents; l++) {
        int n;
        int64_t d[8];
        snprintf(path, sizeof path, "noise/%d", l);
        c->noise_file[l] = fixture_read(&c->f, path, &n, d);
        c->noise[l] = c->noise_file[l] ? to_nhwc(c->noise_file[l], d[0], d[1], d[2] * d[3]) : NULL;
    }
    return 0;
}

// ---- Running ----

typedef struct feed {
    const float *input, *target;    // [n][levels][s][s], [n][s][s][k]
    int levels, size, channels, first;
} feed;

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const feed *f = user;
    int64_t hw = (int64_t)f->size * f->size, n = sample + f->first;
    for (int k = 0; k < f->levels; k++) {
        if (levels[k]) {
            memcpy(levels[k], f->input + (n * f->levels + k) * hw, (size_t)hw * sizeof(float));
        }
    }
    if (target) {
        memcpy(target, f->target + n * hw * f->channels, (size_t)(hw * f->channels) * sizeof(float));
    }
    return USPLIT_OK;
}

static void compare_map(net_case *c, const us_exec *e, int sample, int node, int c0, int m,
                        const char *path, int at)
{
    int n;
    int64_t d[8];
    float *theirs = fixture_read(&c->f, path, &n, d);
    const us_node *x = &c->graph->nodes[node];
    if (!theirs) {
        return;
    }
    int64_t hw = (int64_t)x->h * x->w;
    float *ours = malloc((size_t)(m * hw) * sizeof *ours);
    to_nchw(c->backend->output(e, sample, node), hw, x->c, c0, m, ours);
    compare(c, path, ours, theirs + (int64_t)at * m * hw, m * hw);
    free(ours);
    free(theirs);
}

// What BraveNet predicts on its coarser levels.
static void compare_side_outputs(net_case *c, const us_exec *e, int sample, const char *group, int at)
{
    char path[64];
    for (int i = 1; i < c->graph->n_losses; i++) {
        snprintf(path, sizeof path, "%s/output_lowres/%d", group, i - 1);
        compare_map(c, e, sample, c->graph->nodes[c->graph->losses[i]].in[0], 0, c->config.channels, path, at);
    }
}

static void compare_logvar(net_case *c, const us_exec *e, int sample, const char *path, int at, int head)
{
    int n, k = c->config.channels;
    int64_t d[8];
    float *theirs = fixture_read(&c->f, path, &n, d);
    if (!theirs) {
        return;
    }
    int64_t hw = d[2] * d[3];
    float *ours = malloc((size_t)(k * hw) * sizeof *ours);
    to_nchw(c->backend->output(e, sample, head), hw, 2 * k, k, k, ours);
    for (int64_t i = 0; i < k * hw; i++) {
        ours[i] = ours[i] < (float)c->config.logvar_lower_bound ? (float)c->config.logvar_lower_bound : ours[i];
    }
    compare(c, path, ours, theirs + (int64_t)at * k * hw, k * hw);
    free(ours);
    free(theirs);
}

// Node of the prior's parameters.
static int prior_of(const us_graph *g, int level)
{
    const us_node *kl = &g->nodes[g->kl[level]];
    return kl->in[kl->op == US_OP_KL ? 2 : 1];
}

static int list_outputs(const us_graph *g, int *out)
{
    int n = 0;
    out[n++] = g->head;
    out[n++] = g->features;
    for (int i = 1; i < g->n_losses; i++) {
        out[n++] = g->nodes[g->losses[i]].in[0];
    }
    for (int l = 0; l < g->n_latents; l++) {
        out[n++] = g->latent[l];
        if (g->q[l] != g->latent[l]) {
            out[n++] = g->q[l];
        }
        if (g->kl[l] >= 0 && g->nodes[prior_of(g, l)].op != US_OP_PRIOR) {
            out[n++] = prior_of(g, l);
        }
    }
    return n;
}

// KL of a sample from the posterior, the prior and z that prediction gave (networks 3.6 step 5).
static double kl_from_outputs(net_case *c, const us_exec *e, int sample, int at, int level)
{
    const us_graph *g = c->graph;
    const us_node *z = &g->nodes[g->latent[level]], *kl = &g->nodes[g->kl[level]];
    const us_node *prior = &g->nodes[prior_of(g, level)];
    const float *q = c->backend->output(e, sample, g->q[level]);
    const float *zs = c->backend->output(e, sample, g->latent[level]);
    const float *p = prior->op == US_OP_PRIOR ? NULL : c->backend->output(e, sample, prior_of(g, level));
    const float *table = c->params + g->params[prior->weight].offset;
    int64_t hw = (int64_t)z->h * z->w;
    float clip = (float)c->config.var_clip_max;
    double total = 0;
    for (int64_t i = 0; i < hw; i++) {
        for (int j = 0; j < z->c; j++) {
            float mu = p ? p[i * 2 * z->c + j] : table[j * hw + i];
            float r = p ? p[i * 2 * z->c + z->c + j] : table[(z->c + j) * hw + i];
            float eps = c->noise[level][((int64_t)at * hw + i) * z->c + j];
            float sigma_p = us_sigma(r, clip), sigma_q = us_sigma(q[i * 2 * z->c + z->c + j], clip);
            total += (double)(kl->op == US_OP_KL ? us_kl(zs[i * z->c + j], mu, sigma_p, sigma_q, eps)
                                                 : us_kl_full(q[i * 2 * z->c + j], sigma_q, mu, sigma_p));
        }
    }
    return total;
}

static void compare_eval_noise(net_case *c, const us_exec *e, int sample)
{
    char path[64];
    const us_graph *g = c->graph;
    int n;
    int64_t d[8];
    float *kl = fixture_read(&c->f, "eval_noise/kl_samplewise", &n, d);
    for (int l = 0; l < g->n_latents; l++) {
        int z = g->nodes[g->latent[l]].c;
        if (g->q[l] == g->latent[l]) {
            continue;
        }
        snprintf(path, sizeof path, "eval_noise/q_mu/%d", l);
        compare_map(c, e, 0, g->q[l], 0, z, path, sample);
        snprintf(path, sizeof path, "eval_noise/q_lv/%d", l);
        float *theirs = fixture_read(&c->f, path, &n, d);
        if (theirs) {       // log of the variance in use
            int64_t hw = d[2] * d[3];
            float *ours = malloc((size_t)(z * hw) * sizeof *ours);
            to_nchw(c->backend->output(e, 0, g->q[l]), hw, 2 * z, z, z, ours);
            for (int64_t i = 0; i < z * hw; i++) {
                double s = us_sigma(ours[i], (float)c->config.var_clip_max);
                ours[i] = (float)log(s * s);
            }
            compare(c, path, ours, theirs + (int64_t)sample * z * hw, z * hw);
            free(ours);
            free(theirs);
        }
        if (kl) {
            float ours = (float)kl_from_outputs(c, e, 0, sample, l), one = kl[sample * c->config.levels + l];
            compare(c, "eval_noise/kl_samplewise", &ours, &one, 1);
        }
    }
    free(kl);
}

static int predict_group(net_case *c, const char *group, int noisy)
{
    char path[64];
    int outputs[MAX_OUTPUTS], n_out = list_outputs(c->graph, outputs), n;
    int64_t d[8];
    us_plan *plan = NULL;
    us_exec *e = NULL;
    us_plan_options o = {.mode = US_PLAN_PREDICT, .layout = c->backend->layout, .batch = 1, .outputs = outputs,
                         .n_outputs = n_out};
    float *input = fixture_read(&c->f, "input", &n, d);
    int failed = !input || us_plan_build(&plan, NULL, c->graph, &o) ||
                 c->backend->compile(&e, c->context, plan, 1) || c->backend->prepare(e, c->params);
    for (int s = 0; !failed && s < c->batch; s++) {
        const float *noise[USPLIT_MAX_LEVELS], *head;
        for (int l = 0; l < c->graph->n_latents; l++) {
            const us_node *z = &c->graph->nodes[c->graph->latent[l]];
            noise[l] = c->noise[l] ? c->noise[l] + (int64_t)s * z->c * z->h * z->w : NULL;
        }
        feed f = {.input = input, .levels = (int)d[1], .size = (int)d[2], .first = s};
        us_run run = {.mean_latents = !noisy, .noise = noisy ? noise : NULL, .fill = fill, .user = &f};
        failed = c->backend->predict(e, 0, 1, &run, &head) != USPLIT_OK;
        if (failed) {
            break;
        }
        int k = c->config.channels;
        snprintf(path, sizeof path, "%s/output", group);
        compare_map(c, e, 0, c->graph->head, 0, k, path, s);
        compare_side_outputs(c, e, 0, group, s);
        snprintf(path, sizeof path, "%s/logvar", group);
        compare_logvar(c, e, 0, path, s, c->graph->head);
        snprintf(path, sizeof path, "%s/features", group);
        compare_map(c, e, 0, c->graph->features, 0, c->config.filters, path, s);
        for (int l = 0; l < c->graph->n_latents; l++) {
            snprintf(path, sizeof path, "%s/z/%d", group, l);
            compare_map(c, e, 0, c->graph->latent[l], 0, c->graph->nodes[c->graph->latent[l]].c, path, s);
        }
        if (noisy) {
            compare_eval_noise(c, e, s);
        }
    }
    c->backend->release(e);
    us_plan_free(plan);
    free(input);
    return failed;
}

// The same weights on a patch of another size.
static int alt_group(net_case *c)
{
    int n;
    int64_t d[8];
    float *input = fixture_read(&c->f, "eval_alt/input", &n, d);
    us_graph *g = NULL, *own = c->graph;
    us_plan *plan = NULL;
    us_exec *e = NULL;
    int failed = us_graph_build(&g, NULL, &c->config, (int)d[2]) != USPLIT_OK;
    if (!failed) {
        int outputs[1] = {g->head};
        us_plan_options o = {.mode = US_PLAN_PREDICT, .layout = c->backend->layout, .batch = 1, .outputs = outputs,
                             .n_outputs = 1};
        feed f = {.input = input, .levels = (int)d[1], .size = (int)d[2]};
        us_run run = {.mean_latents = 1, .fill = fill, .user = &f};
        const float *head;
        failed = us_plan_build(&plan, NULL, g, &o) || c->backend->compile(&e, c->context, plan, 1) ||
                 c->backend->prepare(e, c->params) || c->backend->predict(e, 0, 1, &run, &head);
        c->graph = g;
        if (!failed) {
            compare_map(c, e, 0, g->head, 0, c->config.channels, "eval_alt/output", 0);
            compare_logvar(c, e, 0, "eval_alt/logvar", 0, g->head);
        }
        c->graph = own;
    }
    c->backend->release(e);
    us_plan_free(plan);
    us_graph_free(g);
    free(input);
    return failed;
}

static void compare_scalar(net_case *c, const char *path, double ours)
{
    int n;
    int64_t d[8];
    float *theirs = fixture_read(&c->f, path, &n, d), value = (float)ours;
    if (theirs) {
        compare(c, path, &value, theirs, 1);
        free(theirs);
    }
}

static void losses_groups(net_case *c, const us_plan *plan, const us_exec *e, const us_losses *l)
{
    char path[64];
    int n;
    int64_t d[8];
    compare_scalar(c, "train/loss", l->loss);
    compare_scalar(c, "train/rec_loss", l->reconstruction);
    double primary = 0;
    for (int k = 0; k < c->config.channels; k++) {
        primary += l->channel[k] / c->config.channels;
    }
    compare_scalar(c, "train/loss_primary", primary);
    for (int k = 0; k < c->config.channels; k++) {
        snprintf(path, sizeof path, "train/ch%d_loss", k + 1);
        compare_scalar(c, path, l->channel[k]);
    }
    finish(c, "losses", 5e-6);
    if (!fixture_has(&c->f, "train/kl_samplewise")) {
        return;
    }
    compare_scalar(c, "train/kl_loss", l->kl);
    float *levels = fixture_read(&c->f, "train/kl_per_level", &n, d);
    float *samples = fixture_read(&c->f, "train/kl_samplewise", &n, d);
    for (int i = 0; i < c->config.levels && levels && samples; i++) {
        float value = (float)l->level[i];
        compare(c, "train/kl_per_level", &value, &levels[i], 1);
        for (int s = 0; s < c->batch; s++) {
            double total = 0;
            for (int j = 0; j < c->config.z_dims[i]; j++) {
                total += c->backend->sums(e, s)[plan->kl_sums[i] + j];
            }
            value = (float)total;
            compare(c, "train/kl_samplewise", &value, &samples[s * c->config.levels + i], 1);
        }
    }
    free(levels);
    free(samples);
    finish(c, "KL", 5e-6);
}

static void gradients_group(net_case *c, const us_plan *plan)
{
    char path[200];
    char *zero = fixture_text(&c->f, "/", "params_zero_grad"), *none = fixture_text(&c->f, "/", "params_without_grad");
    for (int i = 0; i < c->graph->n_params; i++) {
        const us_param *p = &c->graph->params[i];
        int n;
        int64_t d[8];
        snprintf(path, sizeof path, "grads/%s", p->name);
        if (json_contains(none, p->name) == plan->has_grad[i] && us_param_trained(p)) {
            c->worst = INFINITY;    // we train what they do not, or the other way round
            snprintf(c->worst_name, sizeof c->worst_name, "%s: gradient %s", p->name,
                     plan->has_grad[i] ? "should be absent" : "is missing");
        }
        float *theirs = json_contains(zero, p->name) ? NULL : fixture_read(&c->f, path, &n, d);
        if (theirs) {
            compare(c, path, c->grads + p->offset, theirs, p->count);
        }
        free(theirs);
    }
    free(zero);
    free(none);
    finish(c, "gradients", c->config.family == USPLIT_FAMILY_BRAVENET ? 3e-4
                           : c->config.family == USPLIT_FAMILY_UNET   ? 1e-4
                                                                       : 5e-5);
}

static void statistics_group(net_case *c, const float *after)
{
    char path[200];
    for (int i = 0; i < c->graph->n_params; i++) {
        const us_param *p = &c->graph->params[i];
        int n;
        int64_t d[8];
        if (p->kind != US_PARAM_RUNNING_MEAN && p->kind != US_PARAM_RUNNING_VAR) {
            continue;
        }
        snprintf(path, sizeof path, "after_step/%s", p->name);
        float *theirs = fixture_read(&c->f, path, &n, d);
        if (theirs) {
            compare(c, path, after + p->offset, theirs, p->count);
        }
        free(theirs);
    }
    finish(c, "statistics", 5e-6);
}

// 1: our Adamax on the file's own gradients; 2: end to end, the share of weights off by more than 1e-5.
static void step_groups(net_case *c, const us_exec *e)
{
    char path[200];
    size_t bytes = (size_t)c->graph->n_floats * sizeof(float);
    char *zero = fixture_text(&c->f, "/", "params_zero_grad");
    float *theirs = calloc(1, bytes), *w = malloc(bytes), *m = calloc(1, bytes), *u = calloc(1, bytes);
    float *w2 = malloc(bytes);
    int64_t off = 0, total = 0;
    double worst = 0;
    memcpy(w, c->params, bytes);
    memcpy(w2, c->params, bytes);
    for (int i = 0; i < c->graph->n_params; i++) {
        const us_param *p = &c->graph->params[i];
        int n;
        int64_t d[8];
        snprintf(path, sizeof path, "grads/%s", p->name);
        float *g = fixture_read(&c->f, path, &n, d);
        if (g) {
            memcpy(theirs + p->offset, g, (size_t)p->count * sizeof *g);
        }
        free(g);
    }
    c->backend->adamax(e == NULL ? NULL : (us_exec *)(uintptr_t)e, w, theirs, m, u, c->lr, 1, 1.0);
    memset(m, 0, bytes);
    memset(u, 0, bytes);
    c->backend->adamax((us_exec *)(uintptr_t)e, w2, c->grads, m, u, c->lr, 1, 1.0);
    for (int i = 0; i < c->graph->n_params; i++) {
        const us_param *p = &c->graph->params[i];
        int n;
        int64_t d[8];
        snprintf(path, sizeof path, "after_step/%s", p->name);
        float *after = us_param_trained(p) ? fixture_read(&c->f, path, &n, d) : NULL;
        for (int64_t k = 0; after && k < p->count; k++) {
            double gap = fabs((double)w[p->offset + k] - after[k]);
            if (gap > worst || gap != gap) {
                worst = gap;
                snprintf(c->worst_name, sizeof c->worst_name, "%s", p->name);
            }
            if (!json_contains(zero, p->name)) {
                off += fabs((double)w2[p->offset + k] - after[k]) > 1e-5;
                total++;
            }
        }
        free(after);
    }
    c->worst = worst;
    c->compared = (int)total;
    finish(c, "Adamax", 3e-7);
    c->compared = (int)total;
    c->worst = total ? (double)off / (double)total : 1;
    // where float32 and float64 of the published network itself differ in more weights, the file says in how many
    double coin = 1.5 * fixture_number(&c->f, "/", "after_step_irreproducible_fraction", 0);
    double allowed = coin > 1e-3 ? coin : 1e-3;
    snprintf(c->worst_name, sizeof c->worst_name, "share of %lld weights off by over 1e-5", (long long)total);
    finish(c, "step", allowed);
    free(theirs);
    free(w);
    free(w2);
    free(m);
    free(u);
    free(zero);
}

static int train_groups(net_case *c)
{
    int outputs[MAX_OUTPUTS], n_out = list_outputs(c->graph, outputs), n, k = c->config.channels;
    int64_t d[8], dt[8];
    us_plan *plan = NULL;
    us_exec *e = NULL;
    us_losses losses = {0};
    us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = c->backend->layout, .batch = c->batch,
                         .kl_weight = c->kl_weight, .free_bits = c->free_bits, .outputs = outputs, .n_outputs = n_out};
    float *input = fixture_read(&c->f, "input", &n, d), *raw = fixture_read(&c->f, "target", &n, dt);
    double mean[8], dev[8];
    json_list(c->f.config, NULL, "data_mean", mean, 8);
    json_list(c->f.config, NULL, "data_std", dev, 8);
    float *target = raw ? to_nhwc(raw, dt[0], dt[1], dt[2] * dt[3]) : NULL;
    for (int64_t i = 0; raw && i < dt[0] * dt[1] * dt[2] * dt[3]; i++) {
        target[i] = (float)((target[i] - mean[i % k]) / dev[i % k]);
    }
    feed f = {.input = input, .target = target, .levels = (int)d[1], .size = (int)d[2], .channels = k};
    us_run run = {.noise = (const float *const *)c->noise, .fill = fill, .user = &f};
    size_t bytes = (size_t)c->graph->n_floats * sizeof(float);
    float *after = malloc(bytes);
    memcpy(after, c->params, bytes);
    int failed = !input || !raw || us_plan_build(&plan, NULL, c->graph, &o) ||
                 c->backend->compile(&e, c->context, plan, us_pool_size(c->context->pool)) ||
                 c->backend->prepare(e, c->params) || c->backend->train(e, &run, &losses, c->grads);
    if (!failed) {
        c->backend->update_statistics(e, after);
        for (int s = 0; s < c->batch; s++) {
            compare_map(c, e, s, c->graph->head, 0, k, "train/output", s);
            compare_side_outputs(c, e, s, "train", s);
            compare_logvar(c, e, s, "train/logvar", s, c->graph->head);
            compare_map(c, e, s, c->graph->features, 0, c->config.filters, "train/features", s);
        }
        finish(c, "train", 2e-5);
        losses_groups(c, plan, e, &losses);
        if (!c->half) {         // below 2^-14 a half has few digits: gradients need the trainer's loss scale
            gradients_group(c, plan);
        }
        statistics_group(c, after);
        if (!c->half) {
            step_groups(c, e);
        }
    }
    c->backend->release(e);
    us_plan_free(plan);
    free(after);
    free(input);
    free(raw);
    free(target);
    return failed;
}

static usplit_status open_context(net_case *c, const us_net_device *device)
{
    usplit_context_options options;
    usplit_context_options_init(&options, sizeof options);
    options.device = device->name;
    options.precision = device->half ? USPLIT_PRECISION_FLOAT16 : USPLIT_PRECISION_FLOAT32;
    options.deterministic = 1;
#ifdef US_EMULATE
    int emulated = strcmp(device->name, "cpu") != 0;
    options.device = "cpu";
    options.precision = USPLIT_PRECISION_FLOAT32;
#endif
    US_TRY(usplit_context_create(&c->context, &options));
#ifdef US_EMULATE
    if (emulated) {
        emulated_take(c->context, device->half);
    }
#endif
    c->backend = c->context->backend;
    c->half = device->half;
    return USPLIT_OK;
}

// Noise is handed over in float32 only: in half what needs none, means of the latents and networks without latents.
static int noise_can_be_given(const net_case *c)
{
    return !c->half || c->config.family != USPLIT_FAMILY_HVAE;
}

int us_net_case(const char *path, const us_net_device *device, us_net_report report, void *user, const char **why)
{
    net_case c = {.report = report, .user = user};
    if (fixture_open(&c.f, path)) {
        *why = "not an HDF5 file";
        return 1;
    }
    int result = read_config(&c, why);
    if (result == 0) {
        *why = usplit_error_message();
        result = open_context(&c, device) ||
                 us_graph_build(&c.graph, NULL, &c.config, c.config.patch);
    }
    if (result == 0) {
        result = read_weights(&c, why);
    }
    if (result == 0) {
        *why = usplit_error_message();
        result = predict_group(&c, "eval", 0);
        finish(&c, "eval", 1e-5);
        if (result == 0 && fixture_has(&c.f, "eval_alt/input")) {
            result = alt_group(&c);
            finish(&c, "eval_alt", 1e-5);
        }
        if (result == 0 && fixture_has(&c.f, "eval_noise/output") && noise_can_be_given(&c)) {
            result = predict_group(&c, "eval_noise", 1);
            finish(&c, "eval_noise", 1e-5);
        }
        if (result == 0 && noise_can_be_given(&c)) {
            result = train_groups(&c);
        }
    }
    for (int l = 0; l < USPLIT_MAX_LEVELS; l++) {
        free(c.noise[l]);
        free(c.noise_file[l]);
    }
    free(c.params);
    free(c.grads);
    us_graph_free(c.graph);
    usplit_context_free(c.context);
    fixture_close(&c.f);
    return result;
}
