// Parameters and graph of the U-Nets (networks 7, 10.4): plain, Regular-LC, Context-Aware. Level j of the down path
// has c_j = filters * 2^j channels; the deepest keeps those of the level above it.
#include "net/unet.h"

#include <stdio.h>

#include "net/build.h"

// Channels of the down path's output e_j.
static int channels_of(const us_net_config *cfg, int j)
{
    return cfg->filters << (j < cfg->levels ? j : cfg->levels - 1);
}

// Channels inside and after the up block that meets e_j (networks 7.2): a quarter of what it takes in comes out, but
// for the last.
static int up_middle(const us_net_config *cfg, int j)
{
    return channels_of(cfg, j);
}

static int up_channels(const us_net_config *cfg, int j)
{
    return j == 0 ? cfg->filters : channels_of(cfg, j) / 2;
}

// ---- Parameters ----

static usplit_status double_conv_params(us_graph *g, const char *prefix, int64_t in, int64_t middle, int64_t out)
{
    char name[128];
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.double_conv.%d", prefix, 3 * half);
        US_TRY(us_param_bare_conv(g, name, half ? out : middle, half ? middle : in, 3));
        snprintf(name, sizeof name, "%s.double_conv.%d", prefix, 3 * half + 1);
        US_TRY(us_param_norm(g, name, half ? out : middle));
    }
    return USPLIT_OK;
}

static usplit_status transfer_params(us_graph *g, int j)
{
    char name[128];
    int64_t c = channels_of(&g->config, j), s = g->config.patch >> j;
    us_param planes = {.kind = US_PARAM_SCAN, .n_dims = 3, .dims = {4, s, s}};
    snprintf(planes.name, sizeof planes.name, "ct_modules.%d.ct_weights", j);
    US_TRY(us_graph_add_param(g, &planes));
    snprintf(name, sizeof name, "ct_modules.%d.final_layer.0", j);
    return us_param_conv(g, name, c, 4 * c, 1);
}

static usplit_status context_params(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    char name[128], twin[128];
    for (int j = 0; j < cfg->lc_count && !cfg->shared_branch; j++) {
        int first = g->n_params, c = channels_of(cfg, j + 1);
        snprintf(name, sizeof name, "lowres_net.%d", j);
        US_TRY(double_conv_params(g, name, channels_of(cfg, j), c, c));
        snprintf(twin, sizeof twin, "down%d.maxpool_conv.1.double_conv.0.weight", j + 1);
        us_param_copy(g, first, us_graph_param(g, twin));
    }
    for (int j = 0; j < cfg->lc_count; j++) {
        snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", j);
        US_TRY(us_param_branch(g, name, channels_of(cfg, j), 5));
    }
    for (int j = 0; j < cfg->lc_count; j++) {
        snprintf(name, sizeof name, "lowres_merge.%d", j);
        US_TRY(us_param_merge(g, name, channels_of(cfg, j + 1), USPLIT_MERGE_RESIDUAL));
    }
    return USPLIT_OK;
}

usplit_status us_unet_params(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    char name[128];
    for (int j = 0; j < cfg->levels && cfg->variant == USPLIT_VARIANT_CONTEXT_AWARE; j++) {
        US_TRY(transfer_params(g, j));
    }
    US_TRY(double_conv_params(g, "inc", 1, cfg->filters, cfg->filters));
    for (int j = 1; j <= cfg->levels; j++) {
        snprintf(name, sizeof name, "down%d.maxpool_conv.1", j);
        US_TRY(double_conv_params(g, name, channels_of(cfg, j - 1), channels_of(cfg, j), channels_of(cfg, j)));
    }
    for (int j = cfg->levels - 1; j >= 0; j--) {
        snprintf(name, sizeof name, "up%d.conv", cfg->levels - j);
        US_TRY(double_conv_params(g, name, 2 * channels_of(cfg, j), up_middle(cfg, j), up_channels(cfg, j)));
    }
    US_TRY(us_param_conv(g, "outc.conv", cfg->channels, cfg->filters, 1));
    return context_params(g);
}

// ---- Nodes ----

// Convolution, batch norm, ReLU, twice (networks 7.1).
static int double_conv(us_builder *b, int x, const char *prefix, int middle, int out)
{
    char name[128];
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.double_conv.%d", prefix, 3 * half);
        x = us_put_bare_conv(b, x, name, half ? out : middle, 3);
        snprintf(name, sizeof name, "%s.double_conv.%d", prefix, 3 * half + 1);
        x = us_put_activation(b, us_put_norm(b, x, name), USPLIT_ACTIVATION_RELU);
    }
    return x;
}

// The level's output, padded to the patch, merged with the context input j (networks 7.3).
static int with_context(us_builder *b, int x, int j)
{
    const us_net_config *cfg = &b->g->config;
    char name[128];
    int c = channels_of(cfg, j);
    snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", j - 1);
    int context = us_put_branch(b, us_put_input(b, j, 1), name, channels_of(cfg, j - 1), 5);
    if (cfg->shared_branch) {
        snprintf(name, sizeof name, "down%d.maxpool_conv.1", j);
    } else {
        snprintf(name, sizeof name, "lowres_net.%d", j - 1);
    }
    context = double_conv(b, context, name, c, c);
    snprintf(name, sizeof name, "lowres_merge.%d", j - 1);
    return us_put_merge(b, us_put_centre(b, x, b->g->size), context, name, USPLIT_MERGE_RESIDUAL);
}

static int half_down(int n)     // floor of n / 2 for negative n too
{
    return n >= 0 ? n / 2 : -((1 - n) / 2);
}

// Up-sampled to twice its size, then cropped or padded to the skip's (networks 7.2).
static int up(us_builder *b, int x, int skip)
{
    const us_node *from = &b->g->nodes[x], *to = &b->g->nodes[skip];
    return us_put(b, (us_node){.op = US_OP_LINEAR, .in = {x}, .h = to->h, .w = to->w,
                               .dy = -half_down(to->h - 2 * from->h), .dx = -half_down(to->w - 2 * from->w)});
}

// Context transfer (networks 7.4): recurrences in four directions, a 1x1 convolution, ReLU.
static int transfer(us_builder *b, int x, int j)
{
    char name[128];
    snprintf(name, sizeof name, "ct_modules.%d.ct_weights", j);
    int c = b->g->nodes[x].c;
    int scanned = us_put(b, (us_node){.op = US_OP_SCAN, .in = {x}, .weight = us_put_param(b, name, "")});
    snprintf(name, sizeof name, "ct_modules.%d.final_layer.0", j);
    return us_put_activation(b, us_put_conv(b, scanned, name, c, 1, 1), USPLIT_ACTIVATION_RELU);
}

usplit_status us_unet_nodes(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    us_builder b = {.g = g, .activation = USPLIT_ACTIVATION_ELU};
    int skip[USPLIT_MAX_LEVELS + 1] = {0};
    char name[128];
    US_CHECK_ARG(g->size >> cfg->levels >= 1, "patch size is %d; a U-Net with %d levels accepts %d or more", g->size,
                 cfg->levels, 1 << cfg->levels);
    US_CHECK_ARG(cfg->variant != USPLIT_VARIANT_CONTEXT_AWARE || g->size == cfg->patch,
                 "patch size is %d; the Context-Aware U-Net accepts its training size, %d, only", g->size, cfg->patch);
    skip[0] = double_conv(&b, us_put_input(&b, 0, 1), "inc", cfg->filters, cfg->filters);
    for (int j = 1; j <= cfg->levels && b.status == USPLIT_OK; j++) {
        int x = us_put(&b, (us_node){.op = US_OP_POOL, .in = {skip[j - 1]}}), c = channels_of(cfg, j);
        snprintf(name, sizeof name, "down%d.maxpool_conv.1", j);
        skip[j] = double_conv(&b, x, name, c, c);
        if (j <= cfg->lc_count) {
            skip[j] = with_context(&b, skip[j], j);
        }
    }
    for (int j = 0; j < cfg->levels && cfg->variant == USPLIT_VARIANT_CONTEXT_AWARE; j++) {
        skip[j] = transfer(&b, skip[j], j);
    }
    int x = skip[cfg->levels];
    for (int j = cfg->levels - 1; j >= 0 && b.status == USPLIT_OK; j--) {
        snprintf(name, sizeof name, "up%d.conv", cfg->levels - j);
        x = double_conv(&b, us_put_concat(&b, skip[j], up(&b, x, skip[j])), name, up_middle(cfg, j),
                        up_channels(cfg, j));
    }
    g->features = x;
    g->head = us_put_conv(&b, x, "outc.conv", cfg->channels, 1, 1);
    us_put_loss(&b, US_OP_MSE, g->head, us_put_target(&b), us_net_mse_factor(cfg), 1);
    return b.status;
}
