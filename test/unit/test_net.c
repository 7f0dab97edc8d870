// src/net: networks against the published counts, names and shapes (networks 10, 11), sizes of their tensors
// (networks 3), options and patch sizes that are refused, initial values (networks 10.6).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "net/graph.h"

static us_net_config config_of(int family, int variant)
{
    usplit_model_options o = {.struct_size = sizeof o, .family = family, .variant = variant};
    us_net_config config;
    assert_int_equal(us_net_config_from(&config, &o), USPLIT_OK);
    return config;
}

static us_graph *build(const us_net_config *config, int size)
{
    us_graph *g;
    assert_int_equal(us_graph_build(&g, NULL, config, size), USPLIT_OK);
    return g;
}

// ---- Counts (networks 11, 10.2) ---------------------------------------------------------------------

static void counts_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        int family, variant, patch, entries, convolutions;
        int64_t parameters, macs, latents;
    } rows[] = {
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA, 64, 309, 74, 2991748, 2047868928, 174080},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 64, 445, 102, 3657604, 5083430912, 174080},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 64, 445, 102, 4702084, 12990021632, 2097152},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP, 64, 829, 178, 7177604, 15730737152, 2271232},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA, 512, 309, 74, 3249796, 131063611392, 64 * 174080},
        // HAE: what is needed, without conv_in_p and the second half of conv_in_q
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_VANILLA, 64, 309, 71, 2991748, 1749417984, 174080},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_LEAN, 64, 445, 99, 3657604, 4784979968, 174080},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_REGULAR, 64, 445, 99, 4702084, 9970122752, 2097152},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_DEEP, 64, 829, 171, 7177604, 11808407552, 2271232},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        us_net_config config = config_of(rows[i].family, rows[i].variant);
        config.patch = rows[i].patch;
        us_graph *g = build(&config, config.patch);
        int convolutions = 0;
        int64_t latents = 0;
        for (int n = 0; n < g->n_nodes; n++) {
            convolutions += g->nodes[n].op == US_OP_CONV || g->nodes[n].op == US_OP_TCONV;
        }
        for (int l = 0; l < config.levels; l++) {
            const us_node *z = &g->nodes[g->latent[l]];
            latents += (int64_t)z->c * z->h * z->w;
        }
        assert_int_equal(us_graph_n_parameters(g), rows[i].parameters);
        assert_int_equal(us_graph_macs(g), rows[i].macs);
        assert_int_equal(g->n_params, rows[i].entries);
        assert_int_equal(convolutions, rows[i].convolutions);
        assert_int_equal(latents, rows[i].latents);
        us_graph_free(g);
    }
}

// ---- Names, order and shapes (networks 10.1, 10.2) --------------------------------------------------

typedef struct reader {         // goes through the table in the order of the document
    const us_graph *g;
    int next;
} reader;

static void entry(reader *r, const char *prefix, const char *suffix, int n_dims, const int *dims)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    assert_true(r->next < r->g->n_params);
    const us_param *p = &r->g->params[r->next++];
    assert_string_equal(p->name, name);
    assert_int_equal(p->n_dims, n_dims);
    int64_t count = 1;
    for (int i = 0; i < n_dims; i++) {
        assert_int_equal(p->dims[i], dims[i]);
        count *= dims[i];
    }
    assert_int_equal(p->count, count);
    assert_int_equal(us_graph_param(r->g, name), r->next - 1);
}

static void convolution(reader *r, const char *prefix, const char *suffix, int d0, int d1, int k, int bias)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    entry(r, name, ".weight", 4, (int[]){d0, d1, k, k});
    entry(r, name, ".bias", 1, &bias);
}

static void norm(reader *r, const char *prefix, const char *suffix, int c)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    entry(r, name, ".weight", 1, &c);
    entry(r, name, ".bias", 1, &c);
    entry(r, name, ".running_mean", 1, &c);
    entry(r, name, ".running_var", 1, &c);
    entry(r, name, ".num_batches_tracked", 0, NULL);
}

static void rb(reader *r, const char *prefix, int c)
{
    norm(r, prefix, ".0", c);
    convolution(r, prefix, ".2", c, c, 3, c);
    norm(r, prefix, ".4", c);
    convolution(r, prefix, ".6", c, c, 3, c);
}

static void rbg(reader *r, const char *prefix, int c)
{
    rb(r, prefix, c);
    convolution(r, prefix, ".8.conv", 2 * c, c, 1, 2 * c);
}

static void mrg(reader *r, const char *prefix, const char *suffix, int c)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s.layer.0", prefix, suffix);
    convolution(r, name, "", c, 2 * c, 1, c);
    snprintf(name, sizeof name, "%s%s.layer.1.block", prefix, suffix);
    rbg(r, name, c);
}

static void top_down_layer(reader *r, int i)
{
    const us_net_config *cfg = &r->g->config;
    char prefix[64], name[96];
    int c = cfg->filters, z = cfg->z_dims[i], top = i == cfg->levels - 1;
    snprintf(prefix, sizeof prefix, "top_down_layers.%d", i);
    if (top) {
        const us_node *latent = &r->g->nodes[r->g->latent[i]];
        entry(r, prefix, ".top_prior_params", 4, (int[]){1, 2 * z, latent->h, latent->w});
    }
    convolution(r, prefix, ".deterministic_block.0.pre_conv", c, c, 3, c);
    snprintf(name, sizeof name, "%s.deterministic_block.0.res.block", prefix);
    rbg(r, name, c);
    if (!top) {
        convolution(r, prefix, ".stochastic.conv_in_p", 2 * z, c, 3, 2 * z);
    }
    convolution(r, prefix, ".stochastic.conv_in_q", 2 * z, c, 3, 2 * z);
    convolution(r, prefix, ".stochastic.conv_out", c, z, 3, c);
    if (!top) {
        mrg(r, prefix, ".merge", c);
        mrg(r, prefix, ".skip_connection_merger", c);
    }
}

static void check_names(const us_graph *g)
{
    const us_net_config *cfg = &g->config;
    reader r = {g, 0};
    char name[96];
    int c = cfg->filters;
    convolution(&r, "first_bottom_up.0", "", c, 1, 3, c);
    rb(&r, "first_bottom_up.2.res.block", c);
    for (int k = 0; k < cfg->lc_count; k++) {
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d.0", k);
        convolution(&r, name, "", c, 1, 5, c);
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d.2.res.block", k);
        rb(&r, name, c);
    }
    for (int i = 0; i < cfg->levels; i++) {
        top_down_layer(&r, i);
    }
    for (int i = 0; i < cfg->levels; i++) {
        snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0.pre_conv", i);
        convolution(&r, name, "", c, c, 3, c);
        snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0.res.block", i);
        rbg(&r, name, c);
        if (cfg->lc_count > 0) {
            snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", i);
            mrg(&r, name, "", c);
        }
    }
    rbg(&r, "final_top_down.0.res.block", c);
    convolution(&r, "likelihood.parameter_net", "", 2 * cfg->channels, c, 3, 2 * cfg->channels);
    assert_int_equal(r.next, g->n_params);
}

static void names_and_shapes_are_the_published_ones(void **state)
{
    (void)state;
    for (int variant = USPLIT_VARIANT_VANILLA; variant <= USPLIT_VARIANT_DEEP; variant++) {
        for (int channels = 2; channels <= USPLIT_MAX_CHANNELS; channels++) {
            us_net_config config = config_of(channels % 2, variant);
            config.channels = channels;
            config.filters = 64 - channels;
            config.z_dims[1] = 100 + channels;
            us_graph *g = build(&config, config.patch);
            check_names(g);
            const us_node *head = &g->nodes[g->head], *nll = &g->nodes[g->losses[0]];
            assert_int_equal(head->c, 2 * channels);
            assert_int_equal(head->h, 64);
            assert_int_equal(nll->c, channels);
            us_graph_free(g);
        }
    }
}

// The arrays do not overlap, begin on 64 bytes and fill n_floats.
static void parameters_have_places_of_their_own(void **state)
{
    (void)state;
    us_net_config config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP);
    us_graph *g = build(&config, 64);
    int64_t end = 0;
    for (int p = 0; p < g->n_params; p++) {
        assert_true(g->params[p].offset >= end && g->params[p].offset % 16 == 0);
        end = g->params[p].offset + g->params[p].count;
    }
    assert_true(end <= g->n_floats);
    assert_int_equal(us_graph_param(g, "no.such.name"), -1);
    us_graph_free(g);
}

// Parameters that no node uses: exactly those of networks 10.3 and 4.
static void the_never_trained_are_the_published_ones(void **state)
{
    (void)state;
    for (int family = USPLIT_FAMILY_HVAE; family <= USPLIT_FAMILY_HAE; family++) {
        us_net_config config = config_of(family, USPLIT_VARIANT_DEEP);
        us_graph *g = build(&config, 64);
        char *used = calloc((size_t)g->n_params, 1);
        for (int n = 0; n < g->n_nodes; n++) {
            const us_node *x = &g->nodes[n];
            int conv = x->op == US_OP_CONV || x->op == US_OP_TCONV;
            if (conv || x->op == US_OP_BNORM || x->op == US_OP_PRIOR) {
                used[x->weight] = 1;
            }
            if (conv || x->op == US_OP_BNORM) {
                used[x->bias] = 1;
            }
        }
        for (int p = 0; p < g->n_params; p++) {
            const char *name = g->params[p].name;
            int spare = strstr(name, "lowres_merge") && name[strlen("bottom_up_layers.")] >= '4';
            spare |= family == USPLIT_FAMILY_HAE && (strstr(name, "conv_in_p") || strstr(name, "top_prior"));
            if (us_param_trained(&g->params[p])) {
                assert_int_equal(used[p], !spare);
            }
        }
        free(used);
        us_graph_free(g);
    }
}

// ---- Sizes (networks 3.3, 3.4, 3.5, 3.8) ------------------------------------------------------------

static void latents_have_the_published_sizes(void **state)
{
    (void)state;
    static const int sizes[4][8] = {
        {32, 16, 8, 4}, {32, 16, 8, 4}, {64, 64, 64, 64}, {64, 64, 64, 64, 32, 16, 8, 4}};
    for (int variant = 0; variant < 4; variant++) {
        us_net_config config = config_of(USPLIT_FAMILY_HVAE, variant);
        us_graph *g = build(&config, 64);
        for (int l = 0; l < config.levels; l++) {
            assert_int_equal(g->nodes[g->latent[l]].h, sizes[variant][l]);
            assert_int_equal(g->nodes[g->q[l]].c, 256);
            assert_true(g->kl[l] >= 0);
        }
        us_graph_free(g);
    }
    for (int lc = 1; lc <= 4; lc++) {       // Regular with fewer inputs: T = 64 / 2^(4 - lc)
        us_net_config config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR);
        config.lc_count = lc;
        us_graph *g = build(&config, 64);
        assert_int_equal(g->nodes[g->latent[3]].h, 64 >> (4 - lc));
        us_graph_free(g);
    }
}

static int windows_with(const us_graph *g, int offset, int size)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *x = &g->nodes[i];
        n += x->op == US_OP_WINDOW && x->dy == offset && x->dx == offset && x->h == size;
    }
    return n;
}

static void crops_and_paddings_are_where_they_belong(void **state)
{
    (void)state;
    us_net_config config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN);
    us_graph *g = build(&config, 64);
    assert_int_equal(windows_with(g, -16, 64), 4);      // context merges pad 32 to 64
    assert_int_equal(windows_with(g, 16, 32), 1);       // bottom-up values: networks 3.3
    assert_int_equal(windows_with(g, 24, 16), 1);
    assert_int_equal(windows_with(g, 28, 8), 1);
    assert_int_equal(windows_with(g, 30, 4), 1);
    us_graph_free(g);
    config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP);
    g = build(&config, 64);
    assert_int_equal(windows_with(g, -16, 64), 4);
    assert_int_equal(windows_with(g, 16, 32), 4);       // top-down, context levels only
    int scales = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *x = &g->nodes[i];
        if (x->op == US_OP_SCALE) {                     // level 7 comes first: 4, level 0 last: sqrt 2
            assert_true(fabs(x->value - sqrt(2.0 * (8 - scales))) < 1e-12);
            scales++;
        }
    }
    assert_int_equal(scales, 8);
    us_graph_free(g);
    config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR);
    g = build(&config, 90);                             // odd halves: rules F and R
    assert_int_equal(windows_with(g, -22, 90), 4);
    assert_int_equal(windows_with(g, 22, 45), 4);
    us_graph_free(g);
}

static void refuse_size(int variant, int size, const char *accepted)
{
    us_net_config config = config_of(USPLIT_FAMILY_HVAE, variant);
    us_graph *g;
    assert_int_not_equal(us_graph_build(&g, NULL, &config, size), USPLIT_OK);
    assert_null(g);
    char value[16];
    snprintf(value, sizeof value, "%d", size);
    assert_non_null(strstr(usplit_error_message(), value));
    assert_non_null(strstr(usplit_error_message(), accepted));
}

static void accept_size(int variant, int size)
{
    us_net_config config = config_of(USPLIT_FAMILY_HVAE, variant);
    us_graph *g = build(&config, size);
    const us_node *head = &g->nodes[g->head];
    assert_int_equal(head->h, size);
    assert_int_equal(head->w, size);
    static const int entries[] = {309, 445, 445, 829};
    assert_int_equal(g->n_params, entries[variant]);
    for (int l = 0; l < config.levels; l++) {
        assert_int_equal(g->kl[l] >= 0, size == 64);
    }
    us_graph_free(g);
}

static void other_sizes_follow_the_rules(void **state)
{
    (void)state;
    static const int vanilla[] = {2, 40, 63, 64, 65, 100, 512}, lean[] = {16, 48, 64, 80, 512};
    static const int regular[] = {2, 34, 90, 100, 512}, deep[] = {16, 48, 64, 80, 112, 512};
    for (size_t i = 0; i < sizeof vanilla / sizeof *vanilla; i++) {
        accept_size(USPLIT_VARIANT_VANILLA, vanilla[i]);
    }
    for (size_t i = 0; i < sizeof lean / sizeof *lean; i++) {
        accept_size(USPLIT_VARIANT_LEAN, lean[i]);
    }
    for (size_t i = 0; i < sizeof regular / sizeof *regular; i++) {
        accept_size(USPLIT_VARIANT_REGULAR, regular[i]);
    }
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        accept_size(USPLIT_VARIANT_DEEP, deep[i]);
    }
    refuse_size(USPLIT_VARIANT_LEAN, 72, "multiples of 16");
    refuse_size(USPLIT_VARIANT_LEAN, 8, "multiples of 16");
    refuse_size(USPLIT_VARIANT_REGULAR, 91, "multiples of 2");
    refuse_size(USPLIT_VARIANT_DEEP, 72, "multiples of 16");
    refuse_size(USPLIT_VARIANT_VANILLA, 0, "2 to 16384");
    refuse_size(USPLIT_VARIANT_VANILLA, -64, "2 to 16384");
    refuse_size(USPLIT_VARIANT_VANILLA, 20000, "2 to 16384");
}

// ---- Options ----------------------------------------------------------------------------------------

static void refuse(usplit_model_options o, const char *value, const char *accepted)
{
    us_net_config config;
    o.struct_size = sizeof o;
    assert_int_equal(us_net_config_from(&config, &o), USPLIT_ERR_ARGUMENT);
    if (!strstr(usplit_error_message(), value) || !strstr(usplit_error_message(), accepted)) {
        fail_msg("'%s' does not say '%s' and '%s'", usplit_error_message(), value, accepted);
    }
}

static void odd_options_are_refused_with_what_is_accepted(void **state)
{
    (void)state;
    refuse((usplit_model_options){.family = 4}, "family is 4", "0 (HVAE), 1 (HAE), 2 (U-Net), 3 (BraveNet)");
    refuse((usplit_model_options){.family = -1}, "family is -1", "0 (HVAE), 1 (HAE)");
    refuse((usplit_model_options){.variant = 5}, "variant is 5", "0 (Vanilla) to 4 (Context-Aware)");
    refuse((usplit_model_options){.variant = USPLIT_VARIANT_CONTEXT_AWARE}, "variant is Context-Aware", "HVAE accepts");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_LEAN}, "variant is Lean-LC",
           "U-Net accepts Vanilla, Regular-LC, Context-Aware");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .lc_count = 5},
           "lc_count is 5", "1 to 4");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_UNET, .patch = 16}, "patch is 16", "32 or more");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_UNET, .merge = 1}, "merge is 1", "U-Net accepts 0");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3},
           "levels is 3", "BraveNet accepts 4 to 4");
    refuse((usplit_model_options){.shared_branch = 1, .variant = USPLIT_VARIANT_REGULAR}, "shared_branch is 1",
           "accepts 0");
    refuse((usplit_model_options){.levels = 13}, "levels is 13", "1 to 12");
    refuse((usplit_model_options){.levels = -1}, "levels is -1", "1 to 12");
    refuse((usplit_model_options){.variant = 1, .lc_count = 5}, "lc_count is 5", "1 to 4");
    refuse((usplit_model_options){.variant = 2, .lc_count = -1}, "lc_count is -1", "1 to 4");
    refuse((usplit_model_options){.variant = 3, .lc_count = 9}, "lc_count is 9", "1 to 8");
    refuse((usplit_model_options){.variant = 0, .lc_count = 2}, "lc_count is 2", "Vanilla accepts 0");
    refuse((usplit_model_options){.filters = -3}, "filters is -3", "1 to 1024");
    refuse((usplit_model_options){.filters = 1025}, "filters is 1025", "1 to 1024");
    refuse((usplit_model_options){.patch = 63}, "patch is 63", "even, 8 to 4096");
    refuse((usplit_model_options){.patch = 4}, "patch is 4", "even, 8 to 4096");
    refuse((usplit_model_options){.patch = 8192}, "patch is 8192", "even, 8 to 4096");
    refuse((usplit_model_options){.variant = 1, .patch = 72}, "patch is 72", "multiples of 16");
    refuse((usplit_model_options){.variant = 3, .patch = 72}, "patch is 72", "multiples of 16");
    refuse((usplit_model_options){.variant = 2, .lc_count = 1, .patch = 12}, "patch is 12", "multiples of 8");
    refuse((usplit_model_options){.channels = 1}, "channels is 1", "2 to 8");
    refuse((usplit_model_options){.channels = 9}, "channels is 9", "2 to 8");
    refuse((usplit_model_options){.z_dims = {-1}}, "z_dims[0] is -1", "1 to 1024");
    refuse((usplit_model_options){.z_dims = {8, 8, 2000, 8}}, "z_dims[2] is 2000", "1 to 1024");
    refuse((usplit_model_options){.dropout = 1}, "dropout is 1", "below 1");
    refuse((usplit_model_options){.dropout = NAN}, "dropout is", "below 1");
    refuse((usplit_model_options){.logvar_lower_bound = HUGE_VAL}, "logvar_lower_bound is inf", "finite");
    refuse((usplit_model_options){.var_clip_max = NAN}, "var_clip_max", "finite");
}

static void zeros_mean_the_published_values(void **state)
{
    (void)state;
    us_net_config c = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN);
    assert_int_equal(c.levels, 4);
    assert_int_equal(c.lc_count, 4);
    assert_int_equal(c.filters, 64);
    assert_int_equal(c.patch, 64);
    assert_int_equal(c.channels, 2);
    assert_int_equal(c.z_dims[3], 128);
    assert_true(c.dropout == 0.1 && c.logvar_lower_bound == -5 && c.var_clip_max == 20);
    assert_int_equal(config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP).levels, 8);
    assert_int_equal(config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA).lc_count, 0);
    usplit_model_options o = {.struct_size = sizeof o, .variant = USPLIT_VARIANT_REGULAR, .z_dims = {7},
                              .dropout = -1};
    assert_int_equal(us_net_config_from(&c, &o), USPLIT_OK);
    assert_true(c.z_dims[0] == 7 && c.z_dims[3] == 7 && c.dropout == 0);    // a lone one holds for all
    us_graph *g = build(&c, 64);
    assert_int_equal(g->n_masks, 0);
    us_graph_free(g);
}

// ---- Initial values (networks 10.6) -----------------------------------------------------------------

static double largest(const us_graph *g, const float *params, const char *name)
{
    const us_param *p = &g->params[us_graph_param(g, name)];
    double most = 0;
    for (int64_t i = 0; i < p->count; i++) {
        most = fmax(most, fabs(params[p->offset + i]));
    }
    return most;
}

static void initial_values_have_the_published_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double bound;
    } rows[] = {
        {"first_bottom_up.0.weight", 0.33333333}, {"first_bottom_up.0.bias", 0.33333333},
        {"lowres_first_bottom_ups.1.0.weight", 0.2}, {"first_bottom_up.2.res.block.2.weight", 0.0416667},
        {"top_down_layers.1.stochastic.conv_out.weight", 0.0294628},
        {"top_down_layers.1.merge.layer.0.weight", 0.0883883},
        {"top_down_layers.1.merge.layer.1.block.8.conv.weight", 0.125},
        {"top_down_layers.1.deterministic_block.0.pre_conv.weight", 0.0416667},
    };
    us_net_config config = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN);
    us_graph *g = build(&config, 64);
    float *params = calloc((size_t)g->n_floats, sizeof *params);
    float *other = calloc((size_t)g->n_floats, sizeof *other);
    us_graph_init_params(g, 7, params);
    us_graph_init_params(g, 7, other);
    assert_memory_equal(params, other, (size_t)g->n_floats * sizeof *params);
    us_graph_init_params(g, 8, other);
    assert_true(memcmp(params, other, (size_t)g->n_floats * sizeof *params) != 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double most = largest(g, params, rows[i].name);
        assert_true(most <= rows[i].bound * 1.00001 && most > 0.9 * rows[i].bound);
    }
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        double sum = 0, square = 0;
        for (int64_t j = 0; j < p->count; j++) {
            double x = params[p->offset + j];
            int one = p->kind == US_PARAM_BN_WEIGHT || p->kind == US_PARAM_RUNNING_VAR;
            assert_true(p->kind == US_PARAM_WEIGHT || p->kind == US_PARAM_BIAS || x == one);
            sum += x;
            square += x * x;
        }
        if (p->kind == US_PARAM_WEIGHT) {       // uniform: mean 0, variance bound^2 / 3 = 1 / (3 fan-in)
            double n = (double)p->count, variance = 1 / (3.0 * (double)p->fan_in);
            assert_true(fabs(sum / n) < 5 * sqrt(variance / n));
            assert_true(fabs(square / n - variance) < 5 * variance * sqrt(0.8 / n));
        }
    }
    free(params);
    free(other);
    us_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_the_published_ones),
        cmocka_unit_test(names_and_shapes_are_the_published_ones),
        cmocka_unit_test(parameters_have_places_of_their_own),
        cmocka_unit_test(the_never_trained_are_the_published_ones),
        cmocka_unit_test(latents_have_the_published_sizes),
        cmocka_unit_test(crops_and_paddings_are_where_they_belong),
        cmocka_unit_test(other_sizes_follow_the_rules),
        cmocka_unit_test(odd_options_are_refused_with_what_is_accepted),
        cmocka_unit_test(zeros_mean_the_published_values),
        cmocka_unit_test(initial_values_have_the_published_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
