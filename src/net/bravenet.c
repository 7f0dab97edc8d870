// Parameters and graph of BraveNet (networks 8, 10.5): the patch and the context input go down side by side, are
// merged at the bottom, and come up together; two coarser levels of the way up predict too, for the loss alone.
#include "net/bravenet.h"

#include <stdio.h>

#include "net/build.h"

enum { LEVELS = 4 };

static const char *const branches[2] = {"model.bottom_up_layers", "model.lowres_bottom_up_layers"};

static int width(const us_net_config *cfg, int j)
{
    return cfg->filters << j;
}

// ---- Parameters ----

// Two units of convolution, ReLU, batch norm: PREFIX.0, PREFIX.1.
static usplit_status pair_params(us_graph *g, const char *prefix, int64_t in, int64_t out)
{
    char name[128];
    for (int u = 0; u < 2; u++) {
        snprintf(name, sizeof name, "%s.%d.0", prefix, u);
        US_TRY(us_param_conv(g, name, out, u ? out : in, 3));
        snprintf(name, sizeof name, "%s.%d.2", prefix, u);
        US_TRY(us_param_norm(g, name, out));
    }
    return USPLIT_OK;
}

usplit_status us_bravenet_params(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    char name[128];
    int top = width(cfg, LEVELS - 1);
    US_TRY(us_param_norm(g, "model.input_bn", 1));
    US_TRY(us_param_norm(g, "model.lowres_input_bn", 1));
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < LEVELS; j++) {
            snprintf(name, sizeof name, "%s.%d", branches[i], j);
            US_TRY(pair_params(g, name, j ? width(cfg, j - 1) : 1, width(cfg, j)));
        }
    }
    US_TRY(us_param_conv(g, "model.merge_block.0.0", top, 2 * top, 1));
    US_TRY(us_param_conv(g, "model.merge_block.1.0", top, top, 1));
    US_TRY(us_param_conv(g, "model.lowres_output_branches.0.0", cfg->channels, width(cfg, 2), 1));
    US_TRY(us_param_conv(g, "model.lowres_output_branches.1.0", cfg->channels, width(cfg, 1), 1));
    US_TRY(us_param_conv(g, "model.output_branch.0", cfg->channels, cfg->filters, 1));
    for (int j = 0; j < LEVELS - 1; j++) {
        int out = width(cfg, 2 - j);
        snprintf(name, sizeof name, "model.top_down_layers.%d", j);
        US_TRY(pair_params(g, name, 4 * (int64_t)out, out));
    }
    return USPLIT_OK;
}

// ---- Nodes ----

static int drop(us_builder *b, int x)
{
    if (b->g->config.dropout <= 0) {
        return x;
    }
    return us_put(b, (us_node){.op = US_OP_DROP, .in = {x}, .level = b->g->n_drops++});
}

static int pair(us_builder *b, int x, const char *prefix, int c)
{
    char name[128];
    for (int u = 0; u < 2; u++) {
        snprintf(name, sizeof name, "%s.%d.0", prefix, u);
        x = us_put_activation(b, us_put_conv(b, x, name, c, 3, 1), USPLIT_ACTIVATION_RELU);
        snprintf(name, sizeof name, "%s.%d.2", prefix, u);
        x = us_put_norm(b, x, name);
        x = u == 0 ? drop(b, x) : x;
    }
    return x;
}

static void bottom_up(us_builder *b, int input, int level[LEVELS])
{
    char name[128];
    int x = us_put_norm(b, us_put_input(b, input, 1), input ? "model.lowres_input_bn" : "model.input_bn");
    for (int j = 0; j < LEVELS; j++) {
        x = j ? us_put(b, (us_node){.op = US_OP_POOL, .in = {x}}) : x;
        snprintf(name, sizeof name, "%s.%d", branches[input], j);
        x = level[j] = pair(b, x, name, width(&b->g->config, j));
    }
}

static int relu_conv(us_builder *b, int x, const char *prefix, int c)
{
    return us_put_activation(b, us_put_conv(b, x, prefix, c, 1, 1), USPLIT_ACTIVATION_RELU);
}

static int enlarged(us_builder *b, int x, int factor)
{
    return us_put(b, (us_node){.op = US_OP_NEAREST, .in = {x}, .k = factor});
}

static int output(us_builder *b, int x, const char *prefix)
{
    return drop(b, us_put_conv(b, x, prefix, b->g->config.channels, 1, 1));
}

usplit_status us_bravenet_nodes(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    us_builder b = {.g = g};
    int patch[LEVELS] = {0}, context[LEVELS] = {0}, side[2] = {0}, top = width(cfg, LEVELS - 1);
    char name[128];
    US_CHECK_ARG(g->size % 8 == 0, "patch size is %d; BraveNet accepts multiples of 8", g->size);
    bottom_up(&b, 0, patch);
    bottom_up(&b, 1, context);
    int x = relu_conv(&b, us_put_concat(&b, patch[3], context[3]), "model.merge_block.0.0", top);
    x = relu_conv(&b, x, "model.merge_block.1.0", top);
    for (int j = 0; j < LEVELS - 1; j++) {
        int skip = us_put_concat(&b, patch[2 - j], context[2 - j]);
        snprintf(name, sizeof name, "model.top_down_layers.%d", j);
        x = pair(&b, us_put_concat(&b, enlarged(&b, x, 2), skip), name, width(cfg, 2 - j));
        if (j < 2) {
            snprintf(name, sizeof name, "model.lowres_output_branches.%d.0", j);
            side[j] = output(&b, enlarged(&b, x, 4 >> j), name);
        }
    }
    g->features = x;
    g->head = output(&b, x, "model.output_branch.0");
    int target = us_put_target(&b);
    us_put_loss(&b, US_OP_MSE, g->head, target, us_net_mse_factor(cfg), 0.5);
    us_put_loss(&b, US_OP_MSE, side[1], target, us_net_mse_factor(cfg), 0.25);
    us_put_loss(&b, US_OP_MSE, side[0], target, us_net_mse_factor(cfg), 0.25);
    return b.status;
}
