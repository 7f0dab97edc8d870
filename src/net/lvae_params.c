// Parameter table of the hierarchical (variational) autoencoders, in the published order (networks 10.2).
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/build.h"
#include "net/lvae.h"

static usplit_status add(us_graph *g, us_param_kind kind, int64_t fan_in, int n_dims, const int64_t *dims,
                         const char *fmt, ...) US_PRINTF(6, 7);

static usplit_status add(us_graph *g, us_param_kind kind, int64_t fan_in, int n_dims, const int64_t *dims,
                         const char *fmt, ...)
{
    us_param p = {.kind = kind, .n_dims = n_dims, .fan_in = fan_in};
    for (int i = 0; i < n_dims; i++) {
        p.dims[i] = dims[i];
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(p.name, sizeof p.name, fmt, args);
    va_end(args);
    return us_graph_add_param(g, &p);
}

// (out, in, k, k) and its bias; a transposed convolution passes its dims as (in, out, k, k). The fan-in is
// dims[1] * k * k in both cases, as PyTorch has it.
static usplit_status conv(us_graph *g, const char *prefix, int64_t d0, int64_t d1, int64_t k, int64_t n_bias)
{
    int64_t fan = d1 * k * k;
    US_TRY(add(g, US_PARAM_WEIGHT, fan, 4, (int64_t[]){d0, d1, k, k}, "%s.weight", prefix));
    return add(g, US_PARAM_BIAS, fan, 1, (int64_t[]){n_bias}, "%s.bias", prefix);
}

static usplit_status batch_norm(us_graph *g, const char *prefix, int64_t c)
{
    US_TRY(add(g, US_PARAM_BN_WEIGHT, 0, 1, &c, "%s.weight", prefix));
    US_TRY(add(g, US_PARAM_BN_BIAS, 0, 1, &c, "%s.bias", prefix));
    US_TRY(add(g, US_PARAM_RUNNING_MEAN, 0, 1, &c, "%s.running_mean", prefix));
    US_TRY(add(g, US_PARAM_RUNNING_VAR, 0, 1, &c, "%s.running_var", prefix));
    return add(g, US_PARAM_COUNTER, 0, 0, NULL, "%s.num_batches_tracked", prefix);
}

static usplit_status residual(us_graph *g, const char *prefix, int64_t c, int gated)
{
    char name[128];
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half);
        US_TRY(batch_norm(g, name, c));
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half + 2);
        US_TRY(conv(g, name, c, c, 3, c));
    }
    if (gated) {
        snprintf(name, sizeof name, "%s.8.conv", prefix);
        US_TRY(conv(g, name, 2 * c, c, 1, 2 * c));
    }
    return USPLIT_OK;
}

static usplit_status merge(us_graph *g, const char *prefix, int64_t c)
{
    char name[128];
    snprintf(name, sizeof name, "%s.layer.0", prefix);
    US_TRY(conv(g, name, c, 2 * c, 1, c));
    snprintf(name, sizeof name, "%s.layer.1.block", prefix);
    return residual(g, name, c, 1);
}

static usplit_status branch(us_graph *g, const char *prefix, int64_t c, int k)
{
    char name[128];
    snprintf(name, sizeof name, "%s.0", prefix);
    US_TRY(conv(g, name, c, 1, k, c));
    snprintf(name, sizeof name, "%s.2.res.block", prefix);
    return residual(g, name, c, 0);
}

// pre_conv and gated residual block, up or down.
static usplit_status resample(us_graph *g, const char *prefix, int64_t c)
{
    char name[128];
    snprintf(name, sizeof name, "%s.pre_conv", prefix);
    US_TRY(conv(g, name, c, c, 3, c));
    snprintf(name, sizeof name, "%s.res.block", prefix);
    return residual(g, name, c, 1);
}

static usplit_status top_down(us_graph *g, const us_net_config *cfg, int level)
{
    char name[128];
    int64_t c = cfg->filters, z = cfg->z_dims[level];
    int top = level == cfg->levels - 1;
    if (top) {
        int64_t t = us_lvae_prior_size(cfg);
        US_TRY(add(g, US_PARAM_PRIOR, 0, 4, (int64_t[]){1, 2 * z, t, t}, "top_down_layers.%d.top_prior_params",
                   level));
    }
    snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block.0", level);
    US_TRY(resample(g, name, c));
    if (!top) {
        snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_p", level);
        US_TRY(conv(g, name, 2 * z, c, 3, 2 * z));
    }
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_q", level);
    US_TRY(conv(g, name, 2 * z, c, 3, 2 * z));
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_out", level);
    US_TRY(conv(g, name, c, z, 3, c));
    if (!top) {
        snprintf(name, sizeof name, "top_down_layers.%d.merge", level);
        US_TRY(merge(g, name, c));
        snprintf(name, sizeof name, "top_down_layers.%d.skip_connection_merger", level);
        US_TRY(merge(g, name, c));
    }
    return USPLIT_OK;
}

usplit_status us_lvae_params(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    int64_t c = cfg->filters;
    char name[128];
    US_TRY(branch(g, "first_bottom_up", c, 3));
    for (int k = 0; k < cfg->lc_count; k++) {
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", k);
        US_TRY(branch(g, name, c, 5));
    }
    for (int i = 0; i < cfg->levels; i++) {
        US_TRY(top_down(g, cfg, i));
    }
    for (int i = 0; i < cfg->levels; i++) {
        snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0", i);
        US_TRY(resample(g, name, c));
        if (cfg->lc_count > 0) {    // levels without context own one too, never used (networks 10.3)
            snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", i);
            US_TRY(merge(g, name, c));
        }
    }
    US_TRY(residual(g, "final_top_down.0.res.block", c, 1));
    return conv(g, "likelihood.parameter_net", 2 * cfg->channels, c, 3, 2 * cfg->channels);
}
