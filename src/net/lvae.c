// Writes the graph of an HVAE or HAE (networks 3 and 4): input branches, bottom-up pass with lateral
// context, top-down pass with stochastic blocks, likelihood head, losses.
#include "net/lvae.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/build.h"

static int resample(us_builder *b, int x, const char *prefix, int up)
{
    char name[128];
    int c = b->g->config.filters;
    snprintf(name, sizeof name, "%s.pre_conv", prefix);
    if (up) {
        x = us_put(b, (us_node){.op = US_OP_TCONV, .in = {x}, .c = c, .k = 3, .stride = 2, .pad = 1,
                                .weight = us_put_param(b, name, ".weight"), .bias = us_put_param(b, name, ".bias")});
    } else {
        x = us_put_conv(b, x, name, c, 3, 2);
    }
    snprintf(name, sizeof name, "%s.res.block", prefix);
    return us_put_residual(b, x, name, !b->g->config.ungated);
}

// The further blocks of a level, which do not resample: PREFIX.first, PREFIX.(first + 1), ...
static int more_blocks(us_builder *b, int x, const char *prefix, int first)
{
    char name[128];
    for (int j = 0; j < b->g->config.blocks - 1; j++) {
        snprintf(name, sizeof name, "%s.%d.res.block", prefix, first + j);
        x = us_put_residual(b, x, name, !b->g->config.ungated);
    }
    return x;
}

static int branch(us_builder *b, int level, const char *prefix, int size)
{
    int x = us_put_centre(b, us_put_input(b, level, 1), size);
    return us_put_branch(b, x, prefix, b->g->config.filters, level == 0 ? 3 : 5);
}

// Level i with its context: the context runs through the level's further blocks, or its copies of them.
static int with_context(us_builder *b, int x, int i, int size)
{
    char name[128];
    snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", i);
    int context = branch(b, i + 1, name, size);
    snprintf(name, sizeof name, "bottom_up_layers.%d.%s", i, b->g->config.shared_branch ? "net" : "lowres_net");
    context = more_blocks(b, context, name, 0);
    snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", i);
    return us_put_merge(b, us_put_centre(b, x, size), context, name, USPLIT_MERGE_RESIDUAL);
}

// Bottom-up pass (networks 3.3): bottom_up[i] is what level i hands to the top-down pass.
static void bottom_up_pass(us_builder *b, int size, int bottom_up[])
{
    const us_net_config *cfg = &b->g->config;
    char name[128];
    int x = branch(b, 0, "first_bottom_up", size);
    for (int i = 0; i < cfg->levels && b->status == USPLIT_OK; i++) {
        snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0", i);
        x = resample(b, x, name, 0);
        snprintf(name, sizeof name, "bottom_up_layers.%d.net", i);
        x = more_blocks(b, x, name, 0);
        if (i < cfg->lc_count) {
            x = with_context(b, x, i, size);
        }
        bottom_up[i] = x;
        if (cfg->lc_count > 0 && cfg->variant == USPLIT_VARIANT_LEAN) {
            bottom_up[i] = us_put_centre(b, x, size >> (i + 1));
        }
        if (cfg->levels > 4 && cfg->latent_scale == USPLIT_LATENT_SCALE_PAPER) {
            bottom_up[i] = us_put(b, (us_node){.op = US_OP_SCALE, .in = {bottom_up[i]}, .value = pow(2, -i / 2.0)});
        }
    }
}

// The KL of a level with its prior, where the level has one; p: the prior's parameters, -1: none.
static void divergence(us_builder *b, int q, int z, int p, int level)
{
    us_graph *g = b->g;
    const us_net_config *cfg = &g->config;
    if (p < 0 || g->size != cfg->patch) {       // no KL at other sizes (networks 3.8)
        return;
    }
    us_node n = {.op = US_OP_KL, .in = {q, z, p}, .level = level, .value = cfg->var_clip_max};
    if (cfg->kl == USPLIT_KL_ANALYTICAL) {
        n = (us_node){.op = US_OP_KL_FULL, .in = {q, p}, .level = level, .value = cfg->var_clip_max};
    }
    g->kl[level] = us_put(b, n);
}

// Stochastic block (networks 3.6, 4): returns conv_out's output.
static int stochastic(us_builder *b, int q_features, int above, int level)
{
    us_graph *g = b->g;
    const us_net_config *cfg = &g->config;
    int z_dim = cfg->z_dims[level];
    char name[128];
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_q", level);
    int z;
    if (cfg->family == USPLIT_FAMILY_HAE) {     // the mean half alone
        z = us_put_conv(b, q_features, name, z_dim, 3, 1);
        g->q[level] = z;
    } else {
        int q = us_put_conv(b, q_features, name, 2 * z_dim, 3, 1);
        g->q[level] = q;
        int p = -1;
        if (above >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_p", level);
            p = us_put_conv(b, above, name, 2 * z_dim, 3, 1);
        }
        z = us_put(b, (us_node){.op = US_OP_LATENT, .in = {q}, .level = level, .value = cfg->var_clip_max});
        if (above < 0 && us_lvae_prior_size(cfg) == g->nodes[z].h) {
            snprintf(name, sizeof name, "top_down_layers.%d.top_prior_params", level);
            int t = g->nodes[z].h;
            p = us_put(b, (us_node){.op = US_OP_PRIOR, .c = 2 * z_dim, .h = t, .w = t,
                                    .weight = us_put_param(b, name, "")});
        }
        divergence(b, q, z, p, level);
    }
    g->latent[level] = z;
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_out", level);
    return us_put_conv(b, z, name, cfg->filters, 3, 1);
}

// Top-down pass (networks 3.5).
static int top_down_pass(us_builder *b, int size, const int bottom_up[])
{
    const us_net_config *cfg = &b->g->config;
    char name[128];
    int t = -1;
    for (int i = cfg->levels - 1; i >= 0 && b->status == USPLIT_OK; i--) {
        int q = bottom_up[i];
        if (t >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.merge", i);
            q = us_put_merge(b, q, t, name, cfg->merge);
        }
        if (cfg->levels > 4 && cfg->latent_scale == USPLIT_LATENT_SCALE_REFERENCE) {
            q = us_put(b, (us_node){.op = US_OP_SCALE, .in = {q}, .value = sqrt(2.0 * (i + 1))});
        }
        int s = stochastic(b, q, t, i);
        if (t >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.skip_connection_merger", i);
            s = us_put_merge(b, s, t, name, cfg->merge);
        }
        if (us_lvae_retains(cfg) && b->g->nodes[s].h > size / 2) {
            s = us_put_crop(b, s, size / 2);
        }
        snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block.0", i);
        t = resample(b, s, name, 1);
        snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block", i);
        t = more_blocks(b, t, name, 1);
    }
    return t;
}

// The head's means and, where there are, log-variances, and their loss (networks 5.1).
static void head(us_builder *b)
{
    us_graph *g = b->g;
    const us_net_config *cfg = &g->config;
    g->head = us_put_conv(b, g->features, "likelihood.parameter_net", us_net_head_channels(cfg), 3, 1);
    if (cfg->logvar == USPLIT_LOGVAR_CHANNELWISE || cfg->logvar == USPLIT_LOGVAR_GLOBAL) {
        g->head = us_put(b, (us_node){.op = US_OP_LEVEL, .in = {g->head}, .k = cfg->logvar == USPLIT_LOGVAR_GLOBAL});
    }
    int target = us_put_target(b);
    if (us_net_has_logvar(cfg)) {
        us_put_loss(b, US_OP_NLL, g->head, target, cfg->logvar_lower_bound, 1);
    } else {
        us_put_loss(b, US_OP_MSE, g->head, target, us_net_mse_factor(cfg), 1);
    }
}

usplit_status us_lvae_nodes(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    us_builder b = {.g = g, .dropout = cfg->dropout, .activation = cfg->activation};
    int size = g->size, m = 1 << cfg->levels;
    if (cfg->lc_count == 0) {
        size = (size + m - 1) / m * m;
    } else if (us_lvae_retains(cfg)) {
        // a context level halves and doubles again; the levels below the context halve on
        m = cfg->levels == cfg->lc_count ? 2 : 1 << (cfg->levels - cfg->lc_count);
        US_CHECK_ARG(size % m == 0, "patch size is %d; this network accepts multiples of %d", size, m);
    } else {
        US_CHECK_ARG(size % m == 0, "patch size is %d; this network accepts multiples of %d", size, m);
    }
    int bottom_up[USPLIT_MAX_LEVELS] = {0};
    g->n_latents = cfg->levels;
    bottom_up_pass(&b, size, bottom_up);
    int t = top_down_pass(&b, size, bottom_up);
    t = us_put_residual(&b, t, "final_top_down.0.res.block", !cfg->ungated);
    t = more_blocks(&b, t, "final_top_down", 1);
    g->features = us_put_centre(&b, t, g->size);     // before the head, whose zero padding then is the image's
    head(&b);
    return b.status;
}
