// Parameter table of the hierarchical (variational) autoencoders, in the published order (networks 10.2).
#include <stdio.h>
#include <string.h>

#include "net/build.h"
#include "net/lvae.h"

// pre_conv and gated residual block, up or down.
static usplit_status resample(us_graph *g, const char *prefix, int64_t c)
{
    char name[128];
    snprintf(name, sizeof name, "%s.pre_conv", prefix);
    US_TRY(us_param_conv(g, name, c, c, 3));
    snprintf(name, sizeof name, "%s.res.block", prefix);
    return us_param_residual(g, name, c, !g->config.ungated);
}

// The further blocks of a level, which do not resample: PREFIX.first, PREFIX.(first + 1), ...
static usplit_status more_blocks(us_graph *g, const char *prefix, int first)
{
    const us_net_config *cfg = &g->config;
    char name[128];
    for (int j = 0; j < cfg->blocks - 1; j++) {
        snprintf(name, sizeof name, "%s.%d.res.block", prefix, first + j);
        US_TRY(us_param_residual(g, name, cfg->filters, !cfg->ungated));
    }
    return USPLIT_OK;
}

static usplit_status top_prior(us_graph *g, int level)
{
    const us_net_config *cfg = &g->config;
    int64_t t = us_lvae_prior_size(cfg);
    us_param p = {.kind = US_PARAM_PRIOR, .n_dims = 4, .dims = {1, 2 * cfg->z_dims[level], t, t}};
    snprintf(p.name, sizeof p.name, "top_down_layers.%d.top_prior_params", level);
    return us_graph_add_param(g, &p);
}

static usplit_status top_down(us_graph *g, int level)
{
    const us_net_config *cfg = &g->config;
    char name[128];
    int64_t c = cfg->filters, z = cfg->z_dims[level];
    int top = level == cfg->levels - 1;
    if (top) {
        US_TRY(top_prior(g, level));
    }
    snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block.0", level);
    US_TRY(resample(g, name, c));
    snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block", level);
    US_TRY(more_blocks(g, name, 1));
    if (!top) {
        snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_p", level);
        US_TRY(us_param_conv(g, name, 2 * z, c, 3));
    }
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_q", level);
    US_TRY(us_param_conv(g, name, 2 * z, c, 3));
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_out", level);
    US_TRY(us_param_conv(g, name, c, z, 3));
    if (!top) {
        snprintf(name, sizeof name, "top_down_layers.%d.merge", level);
        US_TRY(us_param_merge(g, name, c, cfg->merge));
        snprintf(name, sizeof name, "top_down_layers.%d.skip_connection_merger", level);
        US_TRY(us_param_merge(g, name, c, cfg->merge));
    }
    return USPLIT_OK;
}

static usplit_status bottom_up(us_graph *g, int level)
{
    const us_net_config *cfg = &g->config;
    char name[128];
    snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0", level);
    US_TRY(resample(g, name, cfg->filters));
    int first = g->n_params;
    snprintf(name, sizeof name, "bottom_up_layers.%d.net", level);
    US_TRY(more_blocks(g, name, 0));
    if (cfg->lc_count == 0) {
        return USPLIT_OK;
    }
    if (!cfg->shared_branch) {
        int copy = g->n_params;
        snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_net", level);
        US_TRY(more_blocks(g, name, 0));
        us_param_copy(g, copy, first);
    }
    // levels without context own one too, never used (networks 10.3)
    snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", level);
    return us_param_merge(g, name, cfg->filters, USPLIT_MERGE_RESIDUAL);
}

usplit_status us_lvae_params(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    int64_t c = cfg->filters;
    char name[128];
    US_TRY(us_param_branch(g, "first_bottom_up", c, 3));
    for (int k = 0; k < cfg->lc_count; k++) {
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", k);
        US_TRY(us_param_branch(g, name, c, 5));
    }
    for (int i = 0; i < cfg->levels; i++) {
        US_TRY(top_down(g, i));
    }
    for (int i = 0; i < cfg->levels; i++) {
        US_TRY(bottom_up(g, i));
    }
    US_TRY(us_param_residual(g, "final_top_down.0.res.block", c, !cfg->ungated));
    US_TRY(more_blocks(g, "final_top_down", 1));
    return us_param_conv(g, "likelihood.parameter_net", us_net_head_channels(cfg), c, 3);
}
