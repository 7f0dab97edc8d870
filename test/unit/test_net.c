// src/net: networks against the published counts, names and shapes (networks 10, 11), sizes of their tensors
// (networks 3, 7, 8), options and patch sizes that are refused, initial values (networks 10.6).
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

static us_net_config config_from(const usplit_model_options *options)
{
    usplit_model_options o = *options;
    us_net_config config;
    o.struct_size = sizeof o;
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

// The rows without a number in networks 11 are its formulas by hand.
static void counts_of_unets_and_bravenet_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        int family, variant, levels, filters, patch, entries, convolutions;
        int64_t parameters, macs, outputs;
    } rows[] = {
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 0, 0, 64, 134, 23, 17298594, 775290880, 966656},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 4, 64, 64, 110, 19, 17261890, 2494300160, 1875968},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 5, 64, 64, 134, 23, 69175618, 3098279936, 1925120},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 4, 32, 64, 110, 19, 4317858, 624295936, 942080},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 0, 0, 256, 134, 23, 17298594, 12404654080, 15466496},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 0, 0, 512, 134, 23, 17298594, 49618616320, 61865984},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR, 0, 0, 64, 318, 59, 31252834, 98975350784, 42868736},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE, 0, 0, 64, 149, 28, 18718146, 859176960, 1220608},
        {USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR, 0, 0, 64, 174, 27, 3513802, 998244352, 1499136},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        usplit_model_options o = {.family = rows[i].family, .variant = rows[i].variant, .levels = rows[i].levels,
                                  .filters = rows[i].filters, .patch = rows[i].patch};
        us_net_config config = config_from(&o);
        us_graph *g = build(&config, config.patch);
        int convolutions = 0;
        int64_t outputs = 0;
        for (int n = 0; n < g->n_nodes; n++) {
            const us_node *x = &g->nodes[n];
            convolutions += x->op == US_OP_CONV;
            outputs += x->op == US_OP_CONV ? (int64_t)x->c * x->h * x->w : 0;
        }
        assert_int_equal(us_graph_n_parameters(g), rows[i].parameters);
        assert_int_equal(us_graph_macs(g), rows[i].macs);
        assert_int_equal(g->n_params, rows[i].entries);
        assert_int_equal(convolutions, rows[i].convolutions);
        assert_int_equal(outputs, rows[i].outputs);
        assert_int_equal(g->n_latents, 0);
        us_graph_free(g);
    }
}

// ---- Names, order and shapes (networks 10.1 to 10.5) ------------------------------------------------

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

// A merge that takes the option; one with context is residual whatever it says (networks 2.4).
static void any_mrg(reader *r, const char *prefix, const char *suffix, int c, int merge)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s.layer.0", prefix, suffix);
    convolution(r, name, "", c, 2 * c, 1, c);
    snprintf(name, sizeof name, "%s%s.layer.1.block", prefix, suffix);
    if (merge == USPLIT_MERGE_RESIDUAL) {
        rbg(r, name, c);
    } else if (merge == USPLIT_MERGE_RESIDUAL_UNGATED) {
        rb(r, name, c);
    }
}

static void mrg(reader *r, const char *prefix, const char *suffix, int c)
{
    any_mrg(r, prefix, suffix, c, USPLIT_MERGE_RESIDUAL);
}

// A block of a level, gated unless the option says otherwise; PREFIX.first and what follows for blocks > 1.
static void block(reader *r, const char *prefix, int c)
{
    if (r->g->config.ungated) {
        rb(r, prefix, c);
    } else {
        rbg(r, prefix, c);
    }
}

static void more_blocks(reader *r, const char *prefix, int first, int c)
{
    char name[128];
    for (int j = 0; j < r->g->config.blocks - 1; j++) {
        snprintf(name, sizeof name, "%s.%d.res.block", prefix, first + j);
        block(r, name, c);
    }
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
    block(r, name, c);
    snprintf(name, sizeof name, "%s.deterministic_block", prefix);
    more_blocks(r, name, 1, c);
    if (!top) {
        convolution(r, prefix, ".stochastic.conv_in_p", 2 * z, c, 3, 2 * z);
    }
    convolution(r, prefix, ".stochastic.conv_in_q", 2 * z, c, 3, 2 * z);
    convolution(r, prefix, ".stochastic.conv_out", c, z, 3, c);
    if (!top) {
        any_mrg(r, prefix, ".merge", c, cfg->merge);
        any_mrg(r, prefix, ".skip_connection_merger", c, cfg->merge);
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
        block(&r, name, c);
        snprintf(name, sizeof name, "bottom_up_layers.%d.net", i);
        more_blocks(&r, name, 0, c);
        if (cfg->lc_count > 0 && !cfg->shared_branch) {
            snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_net", i);
            more_blocks(&r, name, 0, c);
        }
        if (cfg->lc_count > 0) {
            snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", i);
            mrg(&r, name, "", c);
        }
    }
    block(&r, "final_top_down.0.res.block", c);
    more_blocks(&r, "final_top_down", 1, c);
    int head = cfg->logvar == USPLIT_LOGVAR_NONE ? cfg->channels : 2 * cfg->channels;
    convolution(&r, "likelihood.parameter_net", "", head, c, 3, head);
    assert_int_equal(r.next, g->n_params);
}

static void dc(reader *r, const char *prefix, int a, int m, int b)
{
    entry(r, prefix, ".double_conv.0.weight", 4, (int[]){m, a, 3, 3});
    norm(r, prefix, ".double_conv.1", m);
    entry(r, prefix, ".double_conv.3.weight", 4, (int[]){b, m, 3, 3});
    norm(r, prefix, ".double_conv.4", b);
}

// networks 10.4, and 7.2 for other widths and depths.
static void check_unet_names(const us_graph *g)
{
    const us_net_config *cfg = &g->config;
    reader r = {g, 0};
    char name[96];
    int c[16], levels = cfg->levels;
    for (int j = 0; j <= levels; j++) {
        c[j] = j < levels ? cfg->filters << j : cfg->filters << (levels - 1);
    }
    for (int j = 0; j < levels && cfg->variant == USPLIT_VARIANT_CONTEXT_AWARE; j++) {
        snprintf(name, sizeof name, "ct_modules.%d", j);
        entry(&r, name, ".ct_weights", 3, (int[]){4, cfg->patch >> j, cfg->patch >> j});
        convolution(&r, name, ".final_layer.0", c[j], 4 * c[j], 1, c[j]);
    }
    dc(&r, "inc", 1, c[0], c[0]);
    for (int j = 1; j <= levels; j++) {
        snprintf(name, sizeof name, "down%d.maxpool_conv.1", j);
        dc(&r, name, c[j - 1], c[j], c[j]);
    }
    for (int j = 1; j <= levels; j++) {         // "in = 2 * skip channels, middle = in/2, out = in/4; last: c0, c0"
        int in = 2 * c[levels - j], last = j == levels;
        snprintf(name, sizeof name, "up%d.conv", j);
        dc(&r, name, in, last ? c[0] : in / 2, last ? c[0] : in / 4);
    }
    convolution(&r, "outc.conv", "", cfg->channels, c[0], 1, cfg->channels);
    for (int j = 0; j < cfg->lc_count && !cfg->shared_branch; j++) {
        snprintf(name, sizeof name, "lowres_net.%d", j);
        dc(&r, name, c[j], c[j + 1], c[j + 1]);
    }
    for (int j = 0; j < cfg->lc_count; j++) {
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", j);
        convolution(&r, name, ".0", c[j], 1, 5, c[j]);
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d.2.res.block", j);
        rb(&r, name, c[j]);
    }
    for (int j = 0; j < cfg->lc_count; j++) {
        snprintf(name, sizeof name, "lowres_merge.%d", j);
        mrg(&r, name, "", c[j + 1]);
    }
    assert_int_equal(r.next, g->n_params);
}

static void pair(reader *r, const char *prefix, int j, int a, int b)
{
    char name[96];
    for (int u = 0; u < 2; u++) {
        snprintf(name, sizeof name, "%s.%d.%d", prefix, j, u);
        convolution(r, name, ".0", b, u ? b : a, 3, b);
        norm(r, name, ".2", b);
    }
}

// networks 10.5, widths in units of the first level's.
static void check_bravenet_names(const us_graph *g)
{
    reader r = {g, 0};
    int w = g->config.filters, k = g->config.channels;
    norm(&r, "model.input_bn", "", 1);
    norm(&r, "model.lowres_input_bn", "", 1);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) {
            pair(&r, i ? "model.lowres_bottom_up_layers" : "model.bottom_up_layers", j, j ? w << (j - 1) : 1, w << j);
        }
    }
    convolution(&r, "model.merge_block.0.0", "", 8 * w, 16 * w, 1, 8 * w);
    convolution(&r, "model.merge_block.1.0", "", 8 * w, 8 * w, 1, 8 * w);
    convolution(&r, "model.lowres_output_branches.0.0", "", k, 4 * w, 1, k);
    convolution(&r, "model.lowres_output_branches.1.0", "", k, 2 * w, 1, k);
    convolution(&r, "model.output_branch.0", "", k, w, 1, k);
    for (int j = 0; j < 3; j++) {
        pair(&r, "model.top_down_layers", j, 16 * w >> j, 4 * w >> j);
    }
    assert_int_equal(r.next, g->n_params);
}

static void names_of_unets_and_bravenet_are_the_published_ones(void **state)
{
    (void)state;
    static const usplit_model_options rows[] = {
        {.family = USPLIT_FAMILY_UNET},
        {.family = USPLIT_FAMILY_UNET, .levels = 4, .filters = 64, .channels = 3},
        {.family = USPLIT_FAMILY_UNET, .levels = 1, .filters = 5, .patch = 10},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE, .levels = 3, .filters = 6, .patch = 90},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .shared_branch = 1},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 3, .lc_count = 1, .filters = 7,
         .channels = 4},
        {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR},
        {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .filters = 5, .channels = 3},
    };
    static const int entries[] = {134, 110, 38, 149, 95, 318, 270, 132, 174, 174};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        us_net_config config = config_from(&rows[i]);
        us_graph *g = build(&config, config.patch);
        if (config.family == USPLIT_FAMILY_UNET) {
            check_unet_names(g);
        } else {
            check_bravenet_names(g);
        }
        assert_int_equal(g->n_params, entries[i]);
        assert_int_equal(g->nodes[g->head].c, config.channels);
        assert_int_equal(g->nodes[g->head].h, config.patch);
        assert_int_equal(g->nodes[g->features].c, config.filters);
        us_graph_free(g);
    }
}

// Options of the published code: what they add to the table and what they leave out (networks 2.1, 2.4, 5.1, 10.2).
static void options_change_the_table_as_published(void **state)
{
    (void)state;
    static const usplit_model_options rows[] = {
        {.variant = USPLIT_VARIANT_LEAN, .blocks = 3},
        {.variant = USPLIT_VARIANT_VANILLA, .blocks = 2, .ungated = 1},
        {.variant = USPLIT_VARIANT_DEEP, .blocks = 2, .shared_branch = 1, .merge = USPLIT_MERGE_LINEAR},
        {.variant = USPLIT_VARIANT_REGULAR, .ungated = 1, .merge = USPLIT_MERGE_RESIDUAL_UNGATED},
        {.variant = USPLIT_VARIANT_REGULAR, .merge = USPLIT_MERGE_LINEAR, .logvar = USPLIT_LOGVAR_CHANNELWISE},
        {.family = USPLIT_FAMILY_HAE, .variant = USPLIT_VARIANT_REGULAR, .logvar = USPLIT_LOGVAR_NONE},
        {.family = USPLIT_FAMILY_HAE, .variant = USPLIT_VARIANT_LEAN, .logvar = USPLIT_LOGVAR_GLOBAL, .blocks = 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        us_net_config config = config_from(&rows[i]);
        us_graph *g = build(&config, config.patch);
        check_names(g);
        assert_int_equal(g->nodes[g->head].c, config.channels * (config.logvar == USPLIT_LOGVAR_NONE ? 1 : 2));
        us_graph_free(g);
    }
    // a merge is 22C^2 + 9C parameters, of which the gate is 2C^2 + 2C and the convolution 2C^2 + C (networks 10.1)
    usplit_model_options o = {.variant = USPLIT_VARIANT_LEAN};
    static const int64_t less[] = {0, 2 * 4096 + 2 * 64, 20 * 4096 + 8 * 64};
    for (o.merge = USPLIT_MERGE_RESIDUAL; o.merge <= USPLIT_MERGE_LINEAR; o.merge++) {
        us_net_config config = config_from(&o);
        us_graph *g = build(&config, 64);
        assert_int_equal(us_graph_n_parameters(g), 3657604 - 6 * less[o.merge]);    // two merges on three levels
        us_graph_free(g);
    }
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

static char *used_parameters(const us_graph *g)
{
    char *used = calloc((size_t)g->n_params, 1);
    for (int n = 0; n < g->n_nodes; n++) {
        const us_node *x = &g->nodes[n];
        int conv = x->op == US_OP_CONV || x->op == US_OP_TCONV;
        if (conv || x->op == US_OP_BNORM || x->op == US_OP_PRIOR || x->op == US_OP_SCAN) {
            used[x->weight]++;
        }
        if ((conv && x->bias >= 0) || x->op == US_OP_BNORM) {
            used[x->bias]++;
        }
    }
    return used;
}

// Parameters that no node uses: exactly those of networks 10.3 and 4.
static void the_never_trained_are_the_published_ones(void **state)
{
    (void)state;
    for (int family = USPLIT_FAMILY_HVAE; family <= USPLIT_FAMILY_HAE; family++) {
        us_net_config config = config_of(family, USPLIT_VARIANT_DEEP);
        us_graph *g = build(&config, 64);
        char *used = used_parameters(g);
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

// In a U-Net and in BraveNet all are used once; a shared branch uses the layers of the patch twice.
static void unets_and_bravenet_use_all_they_have(void **state)
{
    (void)state;
    static const usplit_model_options rows[] = {
        {.family = USPLIT_FAMILY_UNET},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .lc_count = 3},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .lc_count = 3, .shared_branch = 1},
        {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        us_net_config config = config_from(&rows[i]);
        us_graph *g = build(&config, 64);
        char *used = used_parameters(g);
        for (int p = 0; p < g->n_params; p++) {
            const char *name = g->params[p].name;
            int shared = config.shared_branch && strncmp(name, "down", 4) == 0 && name[4] <= '3';
            if (us_param_trained(&g->params[p])) {
                assert_int_equal(used[p], 1 + shared);
            }
        }
        free(used);
        us_graph_free(g);
    }
}

// ---- Sizes (networks 3.3, 3.4, 3.5, 3.8, 7.2, 7.3) --------------------------------------------------

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

static void accept_or_refuse(const usplit_model_options *o, int size, const char *accepted)
{
    us_net_config config = config_from(o);
    us_graph *g;
    usplit_status status = us_graph_build(&g, NULL, &config, size);
    if (!accepted) {
        assert_int_equal(status, USPLIT_OK);
        assert_int_equal(g->nodes[g->head].h, size);
        assert_int_equal(g->nodes[g->head].w, size);
        us_graph_free(g);
        return;
    }
    char value[32];
    snprintf(value, sizeof value, "patch size is %d;", size);
    assert_int_equal(status, USPLIT_ERR_ARGUMENT);
    assert_null(g);
    if (!strstr(usplit_error_message(), value) || !strstr(usplit_error_message(), accepted)) {
        fail_msg("'%s' does not say '%s' and '%s'", usplit_error_message(), value, accepted);
    }
}

static void sizes_of_unets_and_bravenet_follow_the_rules(void **state)
{
    (void)state;
    usplit_model_options o = {.family = USPLIT_FAMILY_UNET};
    static const int any[] = {32, 33, 63, 90, 127, 512};
    for (o.variant = USPLIT_VARIANT_VANILLA; o.variant <= USPLIT_VARIANT_REGULAR; o.variant += USPLIT_VARIANT_REGULAR) {
        for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
            accept_or_refuse(&o, any[i], NULL);
        }
        accept_or_refuse(&o, 31, "32 or more");
    }
    o.variant = USPLIT_VARIANT_CONTEXT_AWARE;
    o.patch = 90;
    accept_or_refuse(&o, 90, NULL);
    accept_or_refuse(&o, 64, "its training size, 90, only");
    accept_or_refuse(&o, 128, "its training size, 90, only");
    o = (usplit_model_options){.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR};
    accept_or_refuse(&o, 8, NULL);
    accept_or_refuse(&o, 72, NULL);
    accept_or_refuse(&o, 60, "multiples of 8");
    accept_or_refuse(&o, 4, "multiples of 8");
}

// Level by level at 64: networks 7.2, 7.3.
static void unets_have_the_published_sizes(void **state)
{
    (void)state;
    static const int plain[] = {64, 32, 16, 8, 4, 2, 4, 8, 16, 32, 64};
    static const int context[] = {64, 32, 32, 32, 32, 32, 64, 64, 64, 64, 64};
    for (int lc = 0; lc < 2; lc++) {
        us_net_config config = config_of(USPLIT_FAMILY_UNET, lc ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA);
        us_graph *g = build(&config, 64);
        for (int n = 0; n < g->n_nodes; n++) {
            const us_node *x = &g->nodes[n];
            const char *name = x->op == US_OP_CONV ? g->params[x->weight].name : "";
            int at = strncmp(name, "inc", 3) == 0 ? 0 : strncmp(name, "down", 4) == 0 ? name[4] - '0'
                     : strncmp(name, "up", 2) == 0 ? name[2] - '0' + 5 : -1;
            if (at >= 0) {
                assert_int_equal(x->h, (lc ? context : plain)[at]);
                assert_int_equal(x->w, x->h);
            }
            if (x->op == US_OP_LINEAR && lc) {          // up1 fills its skip; the others are cropped, 128 to 64
                int crop = g->nodes[x->in[0]].h == 64 ? 32 : 0;
                assert_true(x->h == 64 && x->dy == crop && x->dx == crop);
            }
        }
        assert_int_equal(windows_with(g, -16, 64), lc ? 4 : 0);     // a level's output, padded to the context's size
        us_graph_free(g);
    }
    // odd sizes: pooling leaves a rest, which is padded on the way up: 45 -> 22 -> 11 -> 5, 10 to 11, 22, 44 to 45
    usplit_model_options o = {.family = USPLIT_FAMILY_UNET, .levels = 3};
    us_net_config config = config_from(&o);
    us_graph *g = build(&config, 45);
    static const int wanted[] = {11, 22, 45};
    int at = 0;
    for (int n = 0; n < g->n_nodes; n++) {
        const us_node *x = &g->nodes[n];
        if (x->op == US_OP_LINEAR) {    // floor of half the difference at the top and left: none of 1
            assert_true(x->h == wanted[at] && x->w == wanted[at] && x->dy == 0 && x->dx == 0);
            at++;
        }
    }
    assert_int_equal(at, 3);
    us_graph_free(g);
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

static void refuse_in_a_unet(void)
{
    usplit_model_options o = {.family = USPLIT_FAMILY_UNET};
    static const struct {
        size_t field;
        int value;
        const char *what, *accepted;
    } rows[] = {
        {offsetof(usplit_model_options, levels), 9, "levels is 9", "U-Net accepts 1 to 8"},
        {offsetof(usplit_model_options, lc_count), 1, "lc_count is 1", "Vanilla accepts 0"},
        {offsetof(usplit_model_options, filters), 65, "filters is 65", "U-Net with 5 levels: 1 to 64"},
        {offsetof(usplit_model_options, patch), 30, "patch is 30", "accepted with 5 levels: 32 or more"},
        {offsetof(usplit_model_options, blocks), 2, "blocks is 2", "U-Net accepts 1"},
        {offsetof(usplit_model_options, activation), 1, "activation is 1", "U-Net accepts 0"},
        {offsetof(usplit_model_options, logvar), 1, "logvar is 1", "U-Net accepts 0"},
        {offsetof(usplit_model_options, merge), 2, "merge is 2", "U-Net accepts 0"},
        {offsetof(usplit_model_options, kl), 1, "kl is 1", "U-Net accepts 0"},
        {offsetof(usplit_model_options, latent_scale), 2, "latent_scale is 2", "U-Net accepts 0"},
        {offsetof(usplit_model_options, ungated), 1, "ungated is 1", "U-Net accepts 0"},
        {offsetof(usplit_model_options, shared_branch), 1, "shared_branch is 1", "accepts 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        usplit_model_options x = o;
        memcpy((char *)&x + rows[i].field, &(int32_t){rows[i].value}, sizeof(int32_t));
        refuse(x, rows[i].what, rows[i].accepted);
    }
    o.dropout = 0.1;
    refuse(o, "dropout is 0.1", "U-Net has none");
    o = (usplit_model_options){.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE, .lc_count = 1};
    refuse(o, "lc_count is 1", "Context-Aware accepts 0");
    o.variant = USPLIT_VARIANT_REGULAR;
    o.levels = o.lc_count = 3;      // K > L (networks 7.3)
    refuse(o, "lc_count is 3", "U-Net with 3 levels: 1 to 2");
    o.lc_count = 0, o.levels = 1;
    refuse(o, "levels is 1", "2 or more");
    o.levels = 0, o.variant = USPLIT_VARIANT_DEEP;
    refuse(o, "variant is Deep-LC", "U-Net accepts Vanilla, Regular-LC, Context-Aware");
}

static void refuse_in_a_bravenet(void)
{
    usplit_model_options o = {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR}, x;
    x = o, x.variant = USPLIT_VARIANT_VANILLA;
    refuse(x, "variant is Vanilla", "BraveNet accepts Regular-LC");
    x = o, x.levels = 5;
    refuse(x, "levels is 5", "BraveNet accepts 4 to 4");
    x = o, x.lc_count = 2;
    refuse(x, "lc_count is 2", "1 to 1");
    x = o, x.patch = 60;
    refuse(x, "patch is 60", "multiples of 8");
    x = o, x.dropout = 1.5;
    refuse(x, "dropout is 1.5", "below 1");
    x = o, x.shared_branch = 1;
    refuse(x, "shared_branch is 1", "accepts 0");
    x = o, x.logvar = 1;
    refuse(x, "logvar is 1", "BraveNet accepts 0");
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
    refuse_in_a_unet();
    refuse_in_a_bravenet();
    refuse((usplit_model_options){.blocks = 9}, "blocks is 9", "HVAE accepts 1 to 8");
    refuse((usplit_model_options){.blocks = -1}, "blocks is -1", "HVAE accepts 1 to 8");
    refuse((usplit_model_options){.activation = 3}, "activation is 3", "HVAE accepts 0 to 2");
    refuse((usplit_model_options){.logvar = 4}, "logvar is 4", "HVAE accepts 0 to 3");
    refuse((usplit_model_options){.merge = -1}, "merge is -1", "HVAE accepts 0 to 2");
    refuse((usplit_model_options){.kl = 2}, "kl is 2", "HVAE accepts 0 and 1");
    refuse((usplit_model_options){.family = USPLIT_FAMILY_HAE, .kl = 1}, "kl is 1", "HAE accepts 0");
    refuse((usplit_model_options){.latent_scale = 3}, "latent_scale is 3", "HVAE accepts 0 to 2");
    refuse((usplit_model_options){.ungated = 2}, "ungated is 2", "HVAE accepts 0 and 1");
    refuse((usplit_model_options){.shared_branch = 1, .blocks = 2}, "shared_branch is 1", "accepts 0");
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
    c = config_of(USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR);      // networks 7: L = 5, c0 = 32, K = 5, no dropout
    assert_true(c.levels == 5 && c.filters == 32 && c.lc_count == 4 && c.patch == 64 && c.dropout == 0);
    assert_int_equal(config_of(USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE).lc_count, 0);
    c = config_of(USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR);  // networks 8
    assert_true(c.levels == 4 && c.filters == 32 && c.lc_count == 1 && c.dropout == 0.1);
}

// Any option alone makes another architecture: files and trainers are compared by it.
static void every_option_counts_in_a_comparison(void **state)
{
    (void)state;
    const us_net_config c = config_of(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP);
    assert_true(us_net_config_equal(&c, &c));
    const size_t fields[] = {
        offsetof(us_net_config, family), offsetof(us_net_config, variant), offsetof(us_net_config, levels),
        offsetof(us_net_config, lc_count), offsetof(us_net_config, filters), offsetof(us_net_config, patch),
        offsetof(us_net_config, channels), offsetof(us_net_config, z_dims), offsetof(us_net_config, z_dims[7]),
        offsetof(us_net_config, blocks), offsetof(us_net_config, activation), offsetof(us_net_config, logvar),
        offsetof(us_net_config, merge), offsetof(us_net_config, kl), offsetof(us_net_config, latent_scale),
        offsetof(us_net_config, shared_branch), offsetof(us_net_config, ungated)};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        us_net_config d = c;
        int value;
        memcpy(&value, (char *)&d + fields[i], sizeof value);
        value++;
        memcpy((char *)&d + fields[i], &value, sizeof value);
        assert_false(us_net_config_equal(&c, &d));
    }
    const size_t reals[] = {offsetof(us_net_config, dropout), offsetof(us_net_config, logvar_lower_bound),
                            offsetof(us_net_config, var_clip_max)};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        us_net_config d = c;
        memcpy((char *)&d + reals[i], &(double){0.25}, sizeof(double));
        assert_false(us_net_config_equal(&c, &d));
    }
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

static void moments_are_those_of_the_bounds(const us_graph *g, const float *params)
{
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
    moments_are_those_of_the_bounds(g, params);
    free(params);
    free(other);
    us_graph_free(g);
}

// Bounds 1/sqrt(fan-in), with or without a bias. Gates of the context transfer start at
// sigmoid(0), the layers of a context branch with the values of the level's own (networks 10.6).
static void initial_values_of_unets_and_bravenet(void **state)
{
    (void)state;
    static const usplit_model_options rows[] = {
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_CONTEXT_AWARE, .levels = 4},
        {.family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 4, .filters = 16},
        {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR},
        {.variant = USPLIT_VARIANT_LEAN, .blocks = 3, .levels = 2, .filters = 16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        us_net_config config = config_from(&rows[i]);
        us_graph *g = build(&config, 64);
        float *params = calloc((size_t)g->n_floats, sizeof *params);
        us_graph_init_params(g, 11, params);
        moments_are_those_of_the_bounds(g, params);
        int copies = 0;
        for (int p = 0; p < g->n_params; p++) {
            const us_param *a = &g->params[p];
            const char *net = strstr(a->name, "lowres_net.");
            char twin[128];
            if (!net) {
                continue;
            }
            if (config.family == USPLIT_FAMILY_UNET) {          // lowres_net.j: down(j+1).maxpool_conv.1
                snprintf(twin, sizeof twin, "down%d.maxpool_conv.1%s", net[11] - '0' + 1, net + 12);
            } else {                                            // bottom_up_layers.i.lowres_net.j: .net.j
                snprintf(twin, sizeof twin, "%.*s%s", (int)(net - a->name), a->name, net + strlen("lowres_"));
            }
            const us_param *b = &g->params[us_graph_param(g, twin)];
            assert_int_equal(a->count, b->count);
            assert_memory_equal(params + a->offset, params + b->offset, (size_t)a->count * sizeof *params);
            copies++;
        }
        static const int expected[] = {0, 3 * 12, 0, 2 * 2 * 16};   // entries of a DC and of an RBG (networks 10)
        assert_int_equal(copies, expected[i]);
        if (i == 0) {
            assert_true(largest(g, params, "ct_modules.0.ct_weights") == 0);
            double most = largest(g, params, "ct_modules.2.final_layer.0.weight");      // 4 * 128 inputs
            assert_true(most <= 0.0441942 * 1.00001 && most > 0.9 * 0.0441942);
        }
        free(params);
        us_graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_the_published_ones),
        cmocka_unit_test(counts_of_unets_and_bravenet_are_the_published_ones),
        cmocka_unit_test(names_and_shapes_are_the_published_ones),
        cmocka_unit_test(names_of_unets_and_bravenet_are_the_published_ones),
        cmocka_unit_test(options_change_the_table_as_published),
        cmocka_unit_test(parameters_have_places_of_their_own),
        cmocka_unit_test(the_never_trained_are_the_published_ones),
        cmocka_unit_test(unets_and_bravenet_use_all_they_have),
        cmocka_unit_test(latents_have_the_published_sizes),
        cmocka_unit_test(crops_and_paddings_are_where_they_belong),
        cmocka_unit_test(other_sizes_follow_the_rules),
        cmocka_unit_test(sizes_of_unets_and_bravenet_follow_the_rules),
        cmocka_unit_test(unets_have_the_published_sizes),
        cmocka_unit_test(odd_options_are_refused_with_what_is_accepted),
        cmocka_unit_test(zeros_mean_the_published_values),
        cmocka_unit_test(every_option_counts_in_a_comparison),
        cmocka_unit_test(initial_values_have_the_published_bounds),
        cmocka_unit_test(initial_values_of_unets_and_bravenet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
