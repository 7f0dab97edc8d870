// What every option of an architecture does (networks 12), against expectations that do not come from the reference
// engine: the formula, or another network with other weights that must compute the same.
#include "unit/trial.h"

// ---- Running a network with some of its values looked at ----------------------------------------------------------

static void open_network(trial *t, const usplit_model_options *options, uint64_t number)
{
    usplit_model_options o = *options;
    o.struct_size = sizeof o;
    seed = 50000 + number;
    drawn = 0;
    *t = (trial){.batch = 2, .threads = 2, .kl_weight = 0.7, .run_seed = 9, .step = 3};
    must(t, us_net_config_from(&t->config, &o));
    open_data(t, t->config.patch);
}

// Parameters of the same name and shape take the other's values; inputs, targets and noise are the other's.
static void take_data(trial *t, const trial *from)
{
    int64_t pixels = (int64_t)t->batch * t->graph->size * t->graph->size;
    for (int p = 0; p < t->graph->n_params; p++) {
        const us_param *a = &t->graph->params[p];
        int q = us_graph_param(from->graph, a->name);
        if (q >= 0 && from->graph->params[q].count == a->count) {
            memcpy(t->params + a->offset, from->params + from->graph->params[q].offset,
                   (size_t)a->count * sizeof(float));
        }
    }
    for (int l = 0; l <= t->config.lc_count; l++) {
        memcpy(t->levels[l], from->levels[l], (size_t)pixels * sizeof(float));
    }
    memcpy(t->target, from->target, (size_t)(pixels * t->config.channels) * sizeof(float));
    for (int l = 0; l < t->graph->n_latents && t->graph->n_latents == from->graph->n_latents; l++) {
        const us_node *z = &t->graph->nodes[t->graph->latent[l]];
        memcpy(t->noise[l], from->noise[l], (size_t)((int64_t)t->batch * z->h * z->w * z->c) * sizeof(float));
    }
}

static float *param(const trial *t, const char *name, const us_param **p)
{
    int i = us_graph_param(t->graph, name);
    if (i < 0) {
        fail_msg("no parameter '%s'", name);
    }
    const us_param *a = &t->graph->params[i];
    if (p) {
        *p = a;
    }
    return t->params + a->offset;
}

enum { MAX_SEEN = 4 };

typedef struct view {
    us_losses losses;
    float *grads, *after;
    float *values[MAX_SEEN];    // of the nodes asked for: [batch][h][w][c]
    int64_t count[MAX_SEEN];
} view;

static view look(trial *t, const int *nodes, int n)
{
    const us_graph *g = t->graph;
    us_plan *plan;
    us_exec *exec;
    size_t floats = (size_t)g->n_floats;
    view v = {.grads = calloc(floats, sizeof(float)), .after = calloc(floats, sizeof(float))};
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = t->batch,
                               .kl_weight = t->kl_weight, .free_bits = t->free_bits, .outputs = nodes, .n_outputs = n};
    us_run run = run_of(t);
    open_context(t, t->threads);
    must(t, us_plan_build(&plan, NULL, g, &options));
    must(t, TEST_BACKEND.compile(&exec, t->context, plan, t->threads));
    must(t, TEST_BACKEND.prepare(exec, t->params));
    must(t, TEST_BACKEND.train(exec, &run, &v.losses, v.grads));
    memcpy(v.after, t->params, floats * sizeof(float));
    TEST_BACKEND.update_statistics(exec, v.after);
    for (int i = 0; i < n; i++) {
        const us_node *node = &g->nodes[nodes[i]];
        int64_t one = (int64_t)node->h * node->w * node->c;
        v.count[i] = one * t->batch;
        v.values[i] = calloc((size_t)v.count[i], sizeof(float));
        for (int s = 0; s < t->batch; s++) {
            memcpy(v.values[i] + s * one, TEST_BACKEND.output(exec, s, nodes[i]), (size_t)one * sizeof(float));
        }
    }
    TEST_BACKEND.release(exec);
    us_plan_free(plan);
    usplit_context_free(t->context);
    return v;
}

static void drop_view(view *v)
{
    free(v->grads);
    free(v->after);
    for (int i = 0; i < MAX_SEEN; i++) {
        free(v->values[i]);
    }
}

static void close_to(const char *what, double got, double expected, double allowed)
{
    if (!(fabs(got - expected) <= allowed)) {
        fail_msg("%s: %.9g, expected %.9g within %.2g", what, got, expected, allowed);
    }
}

// Two networks that must predict the same. Different weights take other roundings: 1e-5 of the largest value.
static void predict_the_same(trial *a, trial *b)
{
    static const us_rect all = {0, 0, 0, 0};
    us_run run_a = run_of(a), run_b = run_of(b);
    float *x = predict(a, all, &run_a), *y = predict(b, all, &run_b);
    int64_t n = (int64_t)a->graph->size * a->graph->size * head_channels(a);
    double most = 0, spread = 0;
    assert_int_equal(head_channels(a), head_channels(b));
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)y[i]));
        spread = fmax(spread, fabs((double)y[i] - y[0]));
    }
    for (int64_t i = 0; i < n; i++) {
        close_to("prediction", x[i], y[i], 1e-5 * most);
    }
    assert_true(spread > 0.01 * most);
    free(x);
    free(y);
}

static void predict_differently(trial *a, trial *b)
{
    static const us_rect all = {0, 0, 0, 0};
    us_run run_a = run_of(a), run_b = run_of(b);
    float *x = predict(a, all, &run_a), *y = predict(b, all, &run_b);
    double most = 0, apart = 0;
    for (int64_t i = 0; i < (int64_t)a->graph->size * a->graph->size * head_channels(a); i++) {
        most = fmax(most, fabs((double)y[i]));
        apart = fmax(apart, fabs((double)x[i] - y[i]));
    }
    assert_true(apart > 1e-3 * most);
    free(x);
    free(y);
}

#define SMALL .levels = 2, .filters = 4, .patch = 16, .z_dims = {3}
#define DEEP .variant = USPLIT_VARIANT_DEEP, .levels = 5, .lc_count = 2, .filters = 4, .patch = 32, .z_dims = {3}

// ---- Scale of the latents (networks 12, row 1) ------------------------------------------------------------------

// Columns [c0, c1) of a weight's input channels times a factor.
static void scale_inputs(trial *t, const char *name, int64_t c0, int64_t c1, double factor)
{
    const us_param *p;
    float *w = param(t, name, &p);
    for (int64_t i = 0; i < p->count; i++) {
        int64_t c = i / (p->dims[2] * p->dims[3]) % p->dims[1];
        w[i] = c >= c0 && c < c1 ? (float)(factor * w[i]) : w[i];
    }
}

// A factor in front of a convolution is one on its weights: sqrt(2 (i + 1)) in front of every conv_in_q.
static void reference_scale_multiplies_what_conv_in_q_reads(void **state)
{
    (void)state;
    const usplit_model_options scaled = {DEEP}, plain = {DEEP, .latent_scale = USPLIT_LATENT_SCALE_NONE};
    trial a, b;
    char name[100];
    open_network(&a, &scaled, 1);
    open_network(&b, &plain, 1);
    take_data(&b, &a);
    predict_differently(&a, &b);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_q.weight", i);
        scale_inputs(&b, name, 0, 4, sqrt(2.0 * (i + 1)));
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// Of the merge [bottom-up, top-down] the paper divides the first half by sqrt(2^i), at the top conv_in_q's input.
static void paper_scale_divides_what_the_bottom_up_pass_hands_over(void **state)
{
    (void)state;
    const usplit_model_options scaled = {DEEP, .latent_scale = USPLIT_LATENT_SCALE_PAPER};
    const usplit_model_options plain = {DEEP, .latent_scale = USPLIT_LATENT_SCALE_NONE};
    trial a, b;
    char name[100];
    open_network(&a, &scaled, 2);
    open_network(&b, &plain, 2);
    take_data(&b, &a);
    predict_differently(&a, &b);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "top_down_layers.%d.merge.layer.0.weight", i);
        scale_inputs(&b, name, 0, 4, 1 / sqrt(pow(2, i)));
    }
    scale_inputs(&b, "top_down_layers.4.stochastic.conv_in_q.weight", 0, 4, 1 / sqrt(pow(2, 4)));
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// Up to four levels there is none (row 22).
static void small_networks_have_no_scale(void **state)
{
    (void)state;
    const usplit_model_options four = {.levels = 4, .filters = 4, .patch = 32, .z_dims = {3}}, five = {DEEP};
    trial a, b;
    int scales[2] = {0, 0};
    open_network(&a, &four, 3);
    open_network(&b, &five, 3);
    for (int i = 0; i < a.graph->n_nodes; i++) {
        scales[0] += a.graph->nodes[i].op == US_OP_SCALE;
    }
    for (int i = 0; i < b.graph->n_nodes; i++) {
        scales[1] += b.graph->nodes[i].op == US_OP_SCALE;
    }
    assert_true(scales[0] == 0 && scales[1] == 5);
    close_data(&a);
    close_data(&b);
}

// ---- Merges and gates (rows 7, 9) -------------------------------------------------------------------------------

static void fill_param(trial *t, const char *prefix, const char *suffix, double value)
{
    const us_param *p;
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    float *x = param(t, name, &p);
    for (int64_t i = 0; i < p->count; i++) {
        x[i] = (float)value;
    }
}

// Every residual block of a merge in the top-down pass, by its prefix.
static const char *const merges[2] = {"top_down_layers.0.merge.layer.1.block",
                                      "top_down_layers.0.skip_connection_merger.layer.1.block"};

// A gate whose first half is 0 closes the block: what is left of the merge is its 1x1 convolution.
static void linear_merge_is_a_residual_one_without_its_block(void **state)
{
    (void)state;
    const usplit_model_options linear = {SMALL, .merge = USPLIT_MERGE_LINEAR}, residual = {SMALL};
    trial a, b;
    open_network(&b, &residual, 4);
    open_network(&a, &linear, 4);
    take_data(&a, &b);
    predict_differently(&a, &b);
    for (int i = 0; i < 2; i++) {
        fill_param(&b, merges[i], ".8.conv.weight", 0);
        fill_param(&b, merges[i], ".8.conv.bias", 0);
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// A block whose last convolution gives the positive constant 0.5, and a gate that passes it: a(x) = x, sigmoid(40) = 1.
static void open_gate(trial *t, const char *prefix)
{
    const us_param *p;
    char name[128];
    fill_param(t, prefix, ".6.weight", 0);
    fill_param(t, prefix, ".6.bias", 0.5);
    snprintf(name, sizeof name, "%s.8.conv.weight", prefix);
    if (us_graph_param(t->graph, name) < 0) {
        return;
    }
    float *w = param(t, name, &p);
    for (int64_t i = 0; i < p->count; i++) {
        w[i] = i / p->dims[1] == i % p->dims[1];        // the identity, for the first half of the channels
    }
    snprintf(name, sizeof name, "%s.8.conv.bias", prefix);
    float *bias = param(t, name, &p);
    for (int64_t i = 0; i < p->count; i++) {
        bias[i] = i < p->count / 2 ? 0 : 40;
    }
}

static void ungated_merge_is_one_whose_gate_stands_open(void **state)
{
    (void)state;
    const usplit_model_options ungated = {SMALL, .merge = USPLIT_MERGE_RESIDUAL_UNGATED}, gated = {SMALL};
    trial a, b;
    open_network(&b, &gated, 5);
    open_network(&a, &ungated, 5);
    take_data(&a, &b);
    predict_differently(&a, &b);
    for (int i = 0; i < 2; i++) {
        open_gate(&a, merges[i]);
        open_gate(&b, merges[i]);
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

static void ungated_levels_are_ones_whose_gates_stand_open(void **state)
{
    (void)state;
    static const char *const blocks[] = {
        "bottom_up_layers.0.net_downsized.0.res.block", "bottom_up_layers.1.net_downsized.0.res.block",
        "top_down_layers.0.deterministic_block.0.res.block", "top_down_layers.1.deterministic_block.0.res.block",
        "final_top_down.0.res.block"};
    const usplit_model_options ungated = {SMALL, .ungated = 1}, gated = {SMALL};
    trial a, b;
    open_network(&b, &gated, 6);
    open_network(&a, &ungated, 6);
    take_data(&a, &b);
    predict_differently(&a, &b);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        open_gate(&a, blocks[i]);
        open_gate(&b, blocks[i]);
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// A further block of a level that adds nothing is none.
static void further_blocks_that_add_nothing_are_none(void **state)
{
    (void)state;
    const usplit_model_options one = {SMALL, .variant = USPLIT_VARIANT_REGULAR};
    const usplit_model_options three = {SMALL, .variant = USPLIT_VARIANT_REGULAR, .blocks = 3};
    static const char *const groups[] = {"bottom_up_layers.0.net", "bottom_up_layers.1.net",
                                         "bottom_up_layers.0.lowres_net", "bottom_up_layers.1.lowres_net",
                                         "top_down_layers.0.deterministic_block",
                                         "top_down_layers.1.deterministic_block", "final_top_down"};
    trial a, b;
    char prefix[100];
    open_network(&a, &three, 7);
    open_network(&b, &one, 7);
    take_data(&b, &a);
    predict_differently(&a, &b);
    for (int i = 0; i < 7; i++) {
        for (int j = 0; j < 2; j++) {       // in the top-down pass number 0 resamples
            snprintf(prefix, sizeof prefix, "%s.%d.res.block", groups[i], j + (i > 3));
            fill_param(&a, prefix, ".8.conv.weight", 0);
            fill_param(&a, prefix, ".8.conv.bias", 0);
        }
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// ---- HAE (rows 5, 21) -------------------------------------------------------------------------------------------

// The HAE takes the means where the HVAE draws: with no noise they are one.
static void hae_is_an_hvae_without_noise(void **state)
{
    (void)state;
    const usplit_model_options hvae = {SMALL, .variant = USPLIT_VARIANT_LEAN};
    const usplit_model_options hae = {SMALL, .variant = USPLIT_VARIANT_LEAN, .family = USPLIT_FAMILY_HAE};
    trial a, b;
    open_network(&a, &hvae, 8);
    open_network(&b, &hae, 8);
    take_data(&b, &a);
    assert_int_equal(a.graph->n_floats, b.graph->n_floats);
    predict_differently(&a, &b);
    for (int l = 0; l < 2; l++) {
        const us_node *z = &a.graph->nodes[a.graph->latent[l]];
        memset(a.noise[l], 0, (size_t)((int64_t)a.batch * z->h * z->w * z->c) * sizeof(float));
    }
    predict_the_same(&a, &b);
    close_data(&a);
    close_data(&b);
}

// ---- Likelihood (rows 2, 6) and log-variance --------------------------------------------------------------------

// The mean loss of channel c from the head, by the formula of networks 5.1.
static double loss_of_channel(const trial *t, const float *head, int c)
{
    int k = t->config.channels, heads = head_channels(t);
    int64_t pixels = (int64_t)t->batch * t->graph->size * t->graph->size;
    double sum = 0, log_two_pi = log(2 * 3.14159265358979323846);
    for (int64_t i = 0; i < pixels; i++) {
        double d = (double)t->target[i * k + c] - head[i * heads + c];
        if (heads == k) {
            sum += 0.5 * d * d;
            continue;
        }
        double lv = head[i * heads + k + c];
        lv = lv < t->config.logvar_lower_bound ? t->config.logvar_lower_bound : lv;
        sum += 0.5 * (d * d * exp(-lv) + lv + log_two_pi);
    }
    return sum / (double)pixels;
}

static int64_t below_bound(const trial *t, const float *head)
{
    int k = t->config.channels;
    int64_t n = 0;
    for (int64_t i = 0; i < (int64_t)t->batch * t->graph->size * t->graph->size; i++) {
        for (int c = 0; c < k; c++) {
            n += head[i * 2 * k + k + c] < t->config.logvar_lower_bound;
        }
    }
    return n;
}

// Sums of float32 losses: 1e-5.
static void losses_follow_the_formula(void **state)
{
    (void)state;
    static const usplit_model_options networks[] = {
        {SMALL}, {SMALL, .logvar_lower_bound = -10}, {SMALL, .logvar_lower_bound = 0.3}, {SMALL, .channels = 3},
        {SMALL, .logvar = USPLIT_LOGVAR_NONE}, {SMALL, .family = USPLIT_FAMILY_HAE, .logvar = USPLIT_LOGVAR_NONE},
        {SMALL, .logvar = USPLIT_LOGVAR_CHANNELWISE},
        {SMALL, .logvar = USPLIT_LOGVAR_GLOBAL, .logvar_lower_bound = -10}};
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        trial t;
        open_network(&t, &networks[i], 9);
        if (us_net_has_logvar(&t.config)) {     // some below -5, all above -10
            const us_param *p;
            float *bias = param(&t, "likelihood.parameter_net.bias", &p);
            for (int64_t c = p->count / 2; c < p->count; c++) {
                bias[c] -= t.config.logvar_lower_bound > 0 ? 0 : 5;
            }
        }
        view v = look(&t, &t.graph->head, 1);
        double mean = 0;
        for (int c = 0; c < t.config.channels; c++) {
            double expected = loss_of_channel(&t, v.values[0], c);
            close_to("loss of a channel", v.losses.channel[c], expected, 1e-5 * fabs(expected));
            mean += expected / t.config.channels;
        }
        close_to("reconstruction", v.losses.reconstruction, mean, 1e-5 * fabs(mean));
        double kl = t.config.family == USPLIT_FAMILY_HAE ? 0 : 0.7 * v.losses.kl;
        close_to("loss", v.losses.loss, mean + kl, 1e-5 * fabs(mean + kl));
        if (networks[i].logvar == USPLIT_LOGVAR_PIXELWISE) {
            int64_t below = below_bound(&t, v.values[0]), all = v.count[0] / 2;
            assert_true(networks[i].logvar_lower_bound == -10 ? below == 0 : below > 0 && below < all);
        }
        drop_view(&v);
        close_data(&t);
    }
}

// Averages over the plane, or over planes and channels, of what the convolution before gives.
static void log_variances_are_averaged(void **state)
{
    (void)state;
    for (int logvar = USPLIT_LOGVAR_CHANNELWISE; logvar <= USPLIT_LOGVAR_GLOBAL; logvar++) {
        usplit_model_options o = {SMALL, .logvar = logvar};
        trial t;
        open_network(&t, &o, 10);
        int nodes[2] = {t.graph->head, t.graph->nodes[t.graph->head].in[0]}, k = 2, area = 16 * 16;
        view v = look(&t, nodes, 2);
        for (int s = 0; s < t.batch; s++) {
            double mean[2] = {0, 0};
            for (int i = 0; i < area * k; i++) {
                mean[i % k] += v.values[1][(s * area + i / k) * 2 * k + k + i % k] / (double)area;
            }
            double both = (mean[0] + mean[1]) / 2;
            for (int i = 0; i < area * k; i++) {
                int64_t at = (int64_t)(s * area + i / k) * 2 * k + i % k;
                assert_true(v.values[0][at] == v.values[1][at]);       // means pass
                close_to("log-variance", v.values[0][at + k],
                         logvar == USPLIT_LOGVAR_GLOBAL ? both : mean[i % k], 1e-5);
            }
        }
        drop_view(&v);
        close_data(&t);
    }
}

// ---- Latents (rows 3, 4) and the KL (rows 6, 9, 16) -------------------------------------------------------------

static double sigma_of(double r, double clip)
{
    double l = r < clip ? r : clip;
    return sqrt((l > 0 ? 1 + l : exp(l)) + 1e-6);
}

static void latents_are_clipped_and_drawn_as_written(void **state)
{
    (void)state;
    static const double clips[] = {0, 0.25, -0.5};      // 0: the published 20
    for (int i = 0; i < 3; i++) {
        usplit_model_options o = {SMALL, .var_clip_max = clips[i]};
        trial t;
        open_network(&t, &o, 11);
        int nodes[2] = {t.graph->q[0], t.graph->latent[0]}, z = 3;
        view v = look(&t, nodes, 2);
        double clip = clips[i] == 0 ? 20 : clips[i];
        int64_t clipped = 0, pixels = v.count[1] / z;
        for (int64_t p = 0; p < pixels; p++) {
            for (int c = 0; c < z; c++) {
                double mu = v.values[0][p * 2 * z + c], r = v.values[0][p * 2 * z + z + c];
                double expected = mu + sigma_of(r, clip) * t.noise[0][p * z + c];
                close_to("z", v.values[1][p * z + c], expected, 2e-6 * (1 + fabs(expected)));
                clipped += r > clip;
            }
        }
        assert_true(i == 0 ? clipped == 0 : clipped > 0 && clipped < pixels * z);
        drop_view(&v);
        close_data(&t);
    }
}

// Of one level: mean over the latent of the one-sample or of the closed form (networks 3.6, 5.3).
static double kl_of(const trial *t, const view *v, int64_t pixels, int z)
{
    double sum = 0, clip = t->config.var_clip_max;
    for (int64_t i = 0; i < pixels * z; i++) {
        int64_t at = i / z * 2 * z + i % z;
        double mq = v->values[0][at], sq = sigma_of(v->values[0][at + z], clip);
        double mp = v->values[1][at], sp = sigma_of(v->values[1][at + z], clip), x = v->values[2][i];
        if (t->config.kl == USPLIT_KL_ANALYTICAL) {
            sum += log(sp / sq) + (sq * sq + (mq - mp) * (mq - mp)) / (2 * sp * sp) - 0.5;
        } else {
            double u = (x - mq) / sq, w = (x - mp) / sp;
            sum += log(sp) - log(sq) + (w * w - u * u) / 2;
        }
    }
    return sum / (double)(pixels * z);
}

static void kl_follows_the_formula(void **state)
{
    (void)state;
    double kl[2];
    for (int form = USPLIT_KL_MONTE_CARLO; form <= USPLIT_KL_ANALYTICAL; form++) {
        usplit_model_options o = {SMALL, .kl = form};
        trial t;
        open_network(&t, &o, 12);
        const us_graph *g = t.graph;
        const us_node *node = &g->nodes[g->kl[0]];
        int nodes[3] = {g->q[0], node->in[node->n_in - 1], g->latent[0]};
        view v = look(&t, nodes, 3);
        kl[form] = kl_of(&t, &v, v.count[2] / 3, 3);
        close_to("KL of level 0", v.losses.level[0], kl[form], 2e-5 * (1 + fabs(kl[form])));
        close_to("KL", v.losses.kl, (v.losses.level[0] + v.losses.level[1]) / 2, 1e-9);
        drop_view(&v);
        close_data(&t);
    }
    assert_true(fabs(kl[0] - kl[1]) > 1e-3);    // a sample is not the mean
}

// Free bits above every KL: the loss counts them, the gradient is that of the reconstruction alone.
static void free_bits_switch_the_kl_off(void **state)
{
    (void)state;
    const usplit_model_options o = {SMALL};
    trial t;
    open_network(&t, &o, 13);
    t.free_bits = 1000;
    view bound = look(&t, &t.graph->head, 1);
    t.free_bits = 0;
    t.kl_weight = 0;
    view without = look(&t, &t.graph->head, 1);
    close_to("KL", bound.losses.kl, 1000, 1e-9);
    close_to("loss", bound.losses.loss, without.losses.reconstruction + 0.7 * 1000, 1e-6);
    assert_memory_equal(bound.grads, without.grads, (size_t)t.graph->n_floats * sizeof(float));
    drop_view(&bound);
    drop_view(&without);
    close_data(&t);
}

// ---- Activations ------------------------------------------------------------------------------------------------

static void activations_are_the_named_ones(void **state)
{
    (void)state;
    for (int activation = USPLIT_ACTIVATION_ELU; activation <= USPLIT_ACTIVATION_LEAKY_RELU; activation++) {
        usplit_model_options o = {SMALL, .activation = activation};
        trial t;
        open_network(&t, &o, 14);
        int at = 0;
        while (t.graph->nodes[at].op != US_OP_ELU && t.graph->nodes[at].op != US_OP_LEAKY) {
            at++;
        }
        int nodes[2] = {t.graph->nodes[at].in[0], at};
        view v = look(&t, nodes, 2);
        int64_t negative = 0;
        for (int64_t i = 0; i < v.count[0]; i++) {
            double x = v.values[0][i], below[3] = {exp(x) - 1, 0, 0.01 * x};
            close_to("activation", v.values[1][i], x > 0 ? x : below[activation], 2e-6 * (1 + fabs(x)));
            negative += x < 0;
        }
        assert_true(negative > v.count[0] / 10);
        drop_view(&v);
        close_data(&t);
    }
}

// ---- Shared branches (networks 1.3, 7.3) ------------------------------------------------------------------------

// The name of the copy that a separate branch has of a shared layer; "" for layers that have none.
static void copy_of(const char *name, char *copy, size_t size)
{
    int level, used = 0;
    copy[0] = 0;
    if (sscanf(name, "down%d.maxpool_conv.1.%n", &level, &used) == 1 && used > 0) {
        snprintf(copy, size, "lowres_net.%d.%s", level - 1, name + used);
    } else if (sscanf(name, "bottom_up_layers.%d.net.%n", &level, &used) == 1 && used > 0) {
        snprintf(copy, size, "bottom_up_layers.%d.lowres_net.%s", level, name + used);
    }
}

// One module called twice and two modules of the same weights called once: the same losses, the sum of the copies'
// gradients, and running statistics that saw first the one's batch and then the other's. Returns how many were shared.
static int compare_shared(trial *shared, trial *apart)
{
    const us_graph *g = shared->graph, *h = apart->graph;
    int n = 0;
    char name[128];
    take_data(apart, shared);
    for (int p = 0; p < g->n_params; p++) {
        copy_of(g->params[p].name, name, sizeof name);
        int q = us_graph_param(h, name);
        if (q >= 0) {
            memcpy(apart->params + h->params[q].offset, shared->params + g->params[p].offset,
                   (size_t)g->params[p].count * sizeof(float));
        }
    }
    view a = look(shared, &g->head, 1), b = look(apart, &h->head, 1);
    close_to("loss", a.losses.loss, b.losses.loss, 1e-6 * fabs(b.losses.loss));
    for (int p = 0; p < g->n_params; p++) {
        const us_param *x = &g->params[p], *y = &h->params[us_graph_param(h, x->name)];
        copy_of(x->name, name, sizeof name);
        int q = us_graph_param(h, name);
        const us_param *copy = q >= 0 ? &h->params[q] : NULL;
        double most = 0;
        n += copy != NULL;
        for (int64_t i = 0; i < x->count; i++) {
            most = fmax(most, fabs((double)b.grads[y->offset + i]));
            most = copy ? fmax(most, fabs((double)b.grads[copy->offset + i])) : most;
        }
        for (int64_t i = 0; i < x->count; i++) {
            double g1 = b.grads[y->offset + i], g2 = copy ? b.grads[copy->offset + i] : 0;
            double before = shared->params[x->offset + i], s1 = b.after[y->offset + i];
            double s2 = copy ? b.after[copy->offset + i] : 0, expected = s1;
            if (copy && (x->kind == US_PARAM_RUNNING_MEAN || x->kind == US_PARAM_RUNNING_VAR)) {
                expected = 0.9 * s1 + (s2 - 0.9 * before);
            } else if (copy && x->kind == US_PARAM_COUNTER) {
                expected = before + 2;
            }
            close_to(x->name, a.grads[x->offset + i], g1 + g2, 2e-5 * most + 1e-7);
            close_to(x->name, a.after[x->offset + i], expected, 2e-6 * (1 + fabs(expected)));
        }
    }
    drop_view(&a);
    drop_view(&b);
    return n;
}

static void shared_layers_get_what_their_copies_would(void **state)
{
    (void)state;
    static const usplit_model_options networks[] = {
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3, .filters = 4, .patch = 16},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3, .filters = 16, .patch = 16},
        {SMALL, .variant = USPLIT_VARIANT_LEAN, .blocks = 2},
        {SMALL, .variant = USPLIT_VARIANT_REGULAR, .blocks = 3, .family = USPLIT_FAMILY_HAE}};
    static const int shared_arrays[] = {2 * 12, 2 * 12, 2 * 16, 2 * 2 * 16};    // levels, blocks, arrays of each
    for (int i = 0; i < 4; i++) {
        usplit_model_options o = networks[i];
        trial shared, apart;
        open_network(&apart, &o, 15);
        o.shared_branch = 1;
        open_network(&shared, &o, 15);
        assert_int_equal(compare_shared(&shared, &apart), shared_arrays[i]);
        close_data(&shared);
        close_data(&apart);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_scale_multiplies_what_conv_in_q_reads),
        cmocka_unit_test(paper_scale_divides_what_the_bottom_up_pass_hands_over),
        cmocka_unit_test(small_networks_have_no_scale),
        cmocka_unit_test(linear_merge_is_a_residual_one_without_its_block),
        cmocka_unit_test(ungated_merge_is_one_whose_gate_stands_open),
        cmocka_unit_test(ungated_levels_are_ones_whose_gates_stand_open),
        cmocka_unit_test(further_blocks_that_add_nothing_are_none),
        cmocka_unit_test(hae_is_an_hvae_without_noise),
        cmocka_unit_test(losses_follow_the_formula),
        cmocka_unit_test(log_variances_are_averaged),
        cmocka_unit_test(latents_are_clipped_and_drawn_as_written),
        cmocka_unit_test(kl_follows_the_formula),
        cmocka_unit_test(free_bits_switch_the_kl_off),
        cmocka_unit_test(activations_are_the_named_ones),
        cmocka_unit_test(shared_layers_get_what_their_copies_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
