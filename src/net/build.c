// The blocks that the networks share: as nodes, and as entries of the parameter table.
#include "net/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// ---- Nodes ----

int us_put(us_builder *b, us_node node)
{
    int out = 0;
    if (b->status == USPLIT_OK) {
        b->status = us_graph_add(b->g, node, &out);
    }
    return out;
}

int us_put_param(us_builder *b, const char *prefix, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    int p = us_graph_param(b->g, name);
    if (p < 0 && b->status == USPLIT_OK) {
        b->status = us_fail(USPLIT_ERR_INTERNAL, "internal: no parameter '%s'", name);
    }
    return p < 0 ? 0 : p;
}

int us_put_input(us_builder *b, int level, int channels)
{
    return us_put(b, (us_node){.op = US_OP_INPUT, .level = level, .c = channels, .h = b->g->size, .w = b->g->size});
}

int us_put_target(us_builder *b)
{
    return us_put(b, (us_node){.op = US_OP_TARGET, .c = b->g->config.channels, .h = b->g->size, .w = b->g->size});
}

int us_put_conv(us_builder *b, int x, const char *prefix, int c, int k, int stride)
{
    return us_put(b, (us_node){.op = US_OP_CONV, .in = {x}, .c = c, .k = k, .stride = stride, .pad = k / 2,
                               .weight = us_put_param(b, prefix, ".weight"), .bias = us_put_param(b, prefix, ".bias")});
}

int us_put_bare_conv(us_builder *b, int x, const char *prefix, int c, int k)
{
    return us_put(b, (us_node){.op = US_OP_CONV, .in = {x}, .c = c, .k = k, .stride = 1, .pad = k / 2,
                               .weight = us_put_param(b, prefix, ".weight"), .bias = -1});
}

int us_put_norm(us_builder *b, int x, const char *prefix)
{
    return us_put(b, (us_node){.op = US_OP_BNORM, .in = {x}, .weight = us_put_param(b, prefix, ".weight"),
                               .bias = us_put_param(b, prefix, ".bias"), .mean = us_put_param(b, prefix, ".running_mean"),
                               .var = us_put_param(b, prefix, ".running_var"),
                               .counter = us_put_param(b, prefix, ".num_batches_tracked")});
}

static double slope_of(int activation)
{
    return activation == USPLIT_ACTIVATION_LEAKY_RELU ? 0.01 : 0;
}

int us_put_activation(us_builder *b, int x, int activation)
{
    if (activation == USPLIT_ACTIVATION_ELU) {
        return us_put(b, (us_node){.op = US_OP_ELU, .in = {x}});
    }
    return us_put(b, (us_node){.op = US_OP_LEAKY, .in = {x}, .value = slope_of(activation)});
}

int us_put_concat(us_builder *b, int x, int y)
{
    return us_put(b, (us_node){.op = US_OP_CONCAT, .in = {x, y}});
}

int us_put_dropout(us_builder *b, int x)
{
    if (b->dropout <= 0) {
        return x;
    }
    return us_put(b, (us_node){.op = US_OP_DROPOUT, .in = {x}, .level = b->g->n_masks++});
}

int us_put_window(us_builder *b, int x, int h, int w, int dy, int dx)
{
    const us_node *n = &b->g->nodes[x];
    if (n->h == h && n->w == w) {
        return x;
    }
    return us_put(b, (us_node){.op = US_OP_WINDOW, .in = {x}, .h = h, .w = w, .dy = dy, .dx = dx});
}

int us_put_centre(us_builder *b, int x, int size)
{
    int from = b->g->nodes[x].h;
    int d = from > size ? (from - size) / 2 : -((size - from) / 2);
    return us_put_window(b, x, size, size, d, d);
}

int us_put_crop(us_builder *b, int x, int size)
{
    int d = (int)nearbyint((b->g->nodes[x].h - size) / 2.0);
    return us_put_window(b, x, size, size, d, d);
}

int us_put_residual(us_builder *b, int x, const char *prefix, int gated)
{
    char name[128];
    int c = b->g->nodes[x].c, f = x;
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half);
        f = us_put_activation(b, us_put_norm(b, f, name), b->activation);
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half + 2);
        f = us_put_dropout(b, us_put_conv(b, f, name, c, 3, 1));
    }
    if (gated) {
        snprintf(name, sizeof name, "%s.8.conv", prefix);
        f = us_put(b, (us_node){.op = US_OP_GATE, .in = {us_put_conv(b, f, name, 2 * c, 1, 1)},
                                .leaky = b->activation != USPLIT_ACTIVATION_ELU, .value = slope_of(b->activation)});
    }
    return us_put(b, (us_node){.op = US_OP_ADD, .in = {f, x}});
}

int us_put_merge(us_builder *b, int x, int y, const char *prefix, int merge)
{
    char name[128];
    int c = b->g->nodes[x].c, cat = us_put_concat(b, x, y);
    snprintf(name, sizeof name, "%s.layer.0", prefix);
    int merged = us_put_conv(b, cat, name, c, 1, 1);
    if (merge == USPLIT_MERGE_LINEAR) {
        return merged;
    }
    snprintf(name, sizeof name, "%s.layer.1.block", prefix);
    return us_put_residual(b, merged, name, merge == USPLIT_MERGE_RESIDUAL);
}

int us_put_branch(us_builder *b, int x, const char *prefix, int c, int k)
{
    char name[128];
    snprintf(name, sizeof name, "%s.0", prefix);
    x = us_put_activation(b, us_put_conv(b, x, name, c, k, 1), b->activation);
    snprintf(name, sizeof name, "%s.2.res.block", prefix);
    return us_put_residual(b, x, name, 0);
}

void us_put_loss(us_builder *b, us_op op, int x, int target, double value, double weight)
{
    us_graph *g = b->g;
    int node = us_put(b, (us_node){.op = op, .in = {x, target}, .value = value});
    if (b->status == USPLIT_OK && g->n_losses == US_MAX_LOSSES) {
        b->status = us_fail(USPLIT_ERR_INTERNAL, "internal: more than %d losses", US_MAX_LOSSES);
    }
    if (b->status == USPLIT_OK) {
        g->losses[g->n_losses] = node;
        g->loss_weight[g->n_losses++] = weight;
    }
}

// ---- Parameters ----

static usplit_status add(us_graph *g, us_param_kind kind, int64_t fan_in, int n_dims, const int64_t *dims,
                         const char *prefix, const char *suffix)
{
    us_param p = {.kind = kind, .n_dims = n_dims, .fan_in = fan_in};
    for (int i = 0; i < n_dims; i++) {
        p.dims[i] = dims[i];
    }
    snprintf(p.name, sizeof p.name, "%s%s", prefix, suffix);
    return us_graph_add_param(g, &p);
}

usplit_status us_param_bare_conv(us_graph *g, const char *prefix, int64_t out, int64_t in, int64_t k)
{
    return add(g, US_PARAM_WEIGHT, in * k * k, 4, (int64_t[]){out, in, k, k}, prefix, ".weight");
}

// The fan-in is dims[1] * k * k for transposed convolutions too, whose dims are (in, out, k, k), as PyTorch has it.
usplit_status us_param_conv(us_graph *g, const char *prefix, int64_t out, int64_t in, int64_t k)
{
    US_TRY(us_param_bare_conv(g, prefix, out, in, k));
    return add(g, US_PARAM_BIAS, in * k * k, 1, &out, prefix, ".bias");
}

usplit_status us_param_norm(us_graph *g, const char *prefix, int64_t c)
{
    US_TRY(add(g, US_PARAM_BN_WEIGHT, 0, 1, &c, prefix, ".weight"));
    US_TRY(add(g, US_PARAM_BN_BIAS, 0, 1, &c, prefix, ".bias"));
    US_TRY(add(g, US_PARAM_RUNNING_MEAN, 0, 1, &c, prefix, ".running_mean"));
    US_TRY(add(g, US_PARAM_RUNNING_VAR, 0, 1, &c, prefix, ".running_var"));
    return add(g, US_PARAM_COUNTER, 0, 0, NULL, prefix, ".num_batches_tracked");
}

usplit_status us_param_residual(us_graph *g, const char *prefix, int64_t c, int gated)
{
    char name[128];
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half);
        US_TRY(us_param_norm(g, name, c));
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half + 2);
        US_TRY(us_param_conv(g, name, c, c, 3));
    }
    if (gated) {
        snprintf(name, sizeof name, "%s.8.conv", prefix);
        US_TRY(us_param_conv(g, name, 2 * c, c, 1));
    }
    return USPLIT_OK;
}

usplit_status us_param_merge(us_graph *g, const char *prefix, int64_t c, int merge)
{
    char name[128];
    snprintf(name, sizeof name, "%s.layer.0", prefix);
    US_TRY(us_param_conv(g, name, c, 2 * c, 1));
    if (merge == USPLIT_MERGE_LINEAR) {
        return USPLIT_OK;
    }
    snprintf(name, sizeof name, "%s.layer.1.block", prefix);
    return us_param_residual(g, name, c, merge == USPLIT_MERGE_RESIDUAL);
}

usplit_status us_param_branch(us_graph *g, const char *prefix, int64_t c, int64_t k)
{
    char name[128];
    snprintf(name, sizeof name, "%s.0", prefix);
    US_TRY(us_param_conv(g, name, c, 1, k));
    snprintf(name, sizeof name, "%s.2.res.block", prefix);
    return us_param_residual(g, name, c, 0);
}

void us_param_copy(us_graph *g, int first, int twin)
{
    for (int i = first; i < g->n_params; i++) {
        g->params[i].copy_of = 1 + twin + i - first;
    }
}
