// Writes the graph of an HVAE or HAE (networks 3 and 4): input branches, bottom-up pass with lateral
// context, top-down pass with stochastic blocks, likelihood head, losses.
#include "net/lvae.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/build.h"

// The builder carries its first failure, so that a description reads as one chain of calls.
typedef struct builder {
    us_graph *g;
    usplit_status status;
} builder;

static int put(builder *b, us_node node)
{
    int out = 0;
    if (b->status == USPLIT_OK) {
        b->status = us_graph_add(b->g, node, &out);
    }
    return out;
}

static int param(builder *b, const char *prefix, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    int p = us_graph_param(b->g, name);
    if (p < 0 && b->status == USPLIT_OK) {
        b->status = us_fail(USPLIT_ERR_INTERNAL, "internal: no parameter '%s'", name);
    }
    return p < 0 ? 0 : p;
}

static int conv(builder *b, int x, const char *prefix, int c, int k, int stride)
{
    return put(b, (us_node){.op = US_OP_CONV, .in = {x}, .c = c, .k = k, .stride = stride, .pad = k / 2,
                            .weight = param(b, prefix, ".weight"), .bias = param(b, prefix, ".bias")});
}

static int elu(builder *b, int x)
{
    return put(b, (us_node){.op = US_OP_ELU, .in = {x}});
}

static int batch_norm(builder *b, int x, const char *prefix)
{
    return put(b, (us_node){.op = US_OP_BNORM, .in = {x}, .weight = param(b, prefix, ".weight"),
                            .bias = param(b, prefix, ".bias"), .mean = param(b, prefix, ".running_mean"),
                            .var = param(b, prefix, ".running_var"),
                            .counter = param(b, prefix, ".num_batches_tracked")});
}

static int dropout(builder *b, int x)
{
    if (b->g->config.dropout <= 0) {
        return x;
    }
    return put(b, (us_node){.op = US_OP_DROPOUT, .in = {x}, .level = b->g->n_masks++});
}

// out(y, x) = in(y + dy, x + dx): dy > 0 crops, dy < 0 pads with zeros.
static int window(builder *b, int x, int h, int w, int dy, int dx)
{
    const us_node *n = &b->g->nodes[x];
    if (n->h == h && n->w == w) {
        return x;
    }
    return put(b, (us_node){.op = US_OP_WINDOW, .in = {x}, .h = h, .w = w, .dy = dy, .dx = dx});
}

// Rule F (networks 1.9): floor of half the difference on the top and left.
static int centre_f(builder *b, int x, int size)
{
    int from = b->g->nodes[x].h;
    int d = from > size ? (from - size) / 2 : -((size - from) / 2);
    return window(b, x, size, size, d, d);
}

// Rule R: half the difference rounded to even, crops only.
static int centre_r(builder *b, int x, int size)
{
    int d = (int)nearbyint((b->g->nodes[x].h - size) / 2.0);
    return window(b, x, size, size, d, d);
}

static int residual(builder *b, int x, const char *prefix, int gated)
{
    char name[128];
    int c = b->g->nodes[x].c, f = x;
    for (int half = 0; half < 2; half++) {
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half);
        f = elu(b, batch_norm(b, f, name));
        snprintf(name, sizeof name, "%s.%d", prefix, 4 * half + 2);
        f = dropout(b, conv(b, f, name, c, 3, 1));
    }
    if (gated) {
        snprintf(name, sizeof name, "%s.8.conv", prefix);
        f = put(b, (us_node){.op = US_OP_GATE, .in = {conv(b, f, name, 2 * c, 1, 1)}});
    }
    return put(b, (us_node){.op = US_OP_ADD, .in = {f, x}});
}

static int merge(builder *b, int first, int second, const char *prefix)
{
    char name[128];
    int cat = put(b, (us_node){.op = US_OP_CONCAT, .in = {first, second}});
    snprintf(name, sizeof name, "%s.layer.0", prefix);
    int x = conv(b, cat, name, b->g->config.filters, 1, 1);
    snprintf(name, sizeof name, "%s.layer.1.block", prefix);
    return residual(b, x, name, 1);
}

static int branch(builder *b, int level, const char *prefix, int size)
{
    char name[128];
    int x = put(b, (us_node){.op = US_OP_INPUT, .level = level, .c = 1, .h = b->g->size, .w = b->g->size});
    x = centre_f(b, x, size);
    snprintf(name, sizeof name, "%s.0", prefix);
    x = elu(b, conv(b, x, name, b->g->config.filters, level == 0 ? 3 : 5, 1));
    snprintf(name, sizeof name, "%s.2.res.block", prefix);
    return residual(b, x, name, 0);
}

static int resample(builder *b, int x, const char *prefix, int up)
{
    char name[128];
    int c = b->g->config.filters;
    snprintf(name, sizeof name, "%s.pre_conv", prefix);
    if (up) {
        x = put(b, (us_node){.op = US_OP_TCONV, .in = {x}, .c = c, .k = 3, .stride = 2, .pad = 1,
                             .weight = param(b, name, ".weight"), .bias = param(b, name, ".bias")});
    } else {
        x = conv(b, x, name, c, 3, 2);
    }
    snprintf(name, sizeof name, "%s.res.block", prefix);
    return residual(b, x, name, 1);
}

// Bottom-up pass (networks 3.3): bottom_up[i] is what level i hands to the top-down pass.
static void bottom_up_pass(builder *b, int size, int bottom_up[])
{
    const us_net_config *cfg = &b->g->config;
    char name[128];
    int x = branch(b, 0, "first_bottom_up", size);
    for (int i = 0; i < cfg->levels && b->status == USPLIT_OK; i++) {
        snprintf(name, sizeof name, "bottom_up_layers.%d.net_downsized.0", i);
        x = resample(b, x, name, 0);
        if (i < cfg->lc_count) {
            snprintf(name, sizeof name, "lowres_first_bottom_ups.%d", i);
            int context = branch(b, i + 1, name, size);
            snprintf(name, sizeof name, "bottom_up_layers.%d.lowres_merge", i);
            x = merge(b, centre_f(b, x, size), context, name);
        }
        bottom_up[i] = x;
        if (cfg->lc_count > 0 && cfg->variant == USPLIT_VARIANT_LEAN) {
            bottom_up[i] = centre_f(b, x, size >> (i + 1));
        }
    }
}

// Stochastic block (networks 3.6, 4): returns conv_out's output.
static int stochastic(builder *b, int q_features, int above, int level)
{
    us_graph *g = b->g;
    const us_net_config *cfg = &g->config;
    int z_dim = cfg->z_dims[level];
    char name[128];
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_q", level);
    int z;
    if (cfg->family == USPLIT_FAMILY_HAE) {     // the mean half alone
        z = conv(b, q_features, name, z_dim, 3, 1);
        g->q[level] = z;
    } else {
        int q = conv(b, q_features, name, 2 * z_dim, 3, 1);
        g->q[level] = q;
        int p = -1;
        if (above >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_in_p", level);
            p = conv(b, above, name, 2 * z_dim, 3, 1);
        }
        z = put(b, (us_node){.op = US_OP_LATENT, .in = {q}, .level = level, .value = cfg->var_clip_max});
        if (above < 0 && us_lvae_prior_size(cfg) == g->nodes[z].h) {
            snprintf(name, sizeof name, "top_down_layers.%d.top_prior_params", level);
            int t = g->nodes[z].h;
            p = put(b, (us_node){.op = US_OP_PRIOR, .c = 2 * z_dim, .h = t, .w = t, .weight = param(b, name, "")});
        }
        if (p >= 0 && g->size == cfg->patch) {  // no KL at other sizes (networks 3.8)
            g->kl[level] = put(b, (us_node){.op = US_OP_KL, .in = {q, z, p}, .level = level,
                                            .value = cfg->var_clip_max});
        }
    }
    g->latent[level] = z;
    snprintf(name, sizeof name, "top_down_layers.%d.stochastic.conv_out", level);
    return conv(b, z, name, cfg->filters, 3, 1);
}

// Top-down pass (networks 3.5).
static int top_down_pass(builder *b, int size, const int bottom_up[])
{
    const us_net_config *cfg = &b->g->config;
    char name[128];
    int t = -1;
    for (int i = cfg->levels - 1; i >= 0 && b->status == USPLIT_OK; i--) {
        int q = bottom_up[i];
        if (t >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.merge", i);
            q = merge(b, q, t, name);
        }
        if (cfg->levels > 4) {
            q = put(b, (us_node){.op = US_OP_SCALE, .in = {q}, .value = sqrt(2.0 * (i + 1))});
        }
        int s = stochastic(b, q, t, i);
        if (t >= 0) {
            snprintf(name, sizeof name, "top_down_layers.%d.skip_connection_merger", i);
            s = merge(b, s, t, name);
        }
        if (us_lvae_retains(cfg) && b->g->nodes[s].h > size / 2) {
            s = centre_r(b, s, size / 2);
        }
        snprintf(name, sizeof name, "top_down_layers.%d.deterministic_block.0", i);
        t = resample(b, s, name, 1);
    }
    return t;
}

usplit_status us_lvae_nodes(us_graph *g)
{
    const us_net_config *cfg = &g->config;
    builder b = {.g = g};
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
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        g->kl[i] = -1;
    }
    bottom_up_pass(&b, size, bottom_up);
    int t = top_down_pass(&b, size, bottom_up);
    t = residual(&b, t, "final_top_down.0.res.block", 1);
    g->features = centre_f(&b, t, g->size);     // before the head, whose zero padding then is the image's
    g->head = conv(&b, g->features, "likelihood.parameter_net", 2 * cfg->channels, 3, 1);
    int target = put(&b, (us_node){.op = US_OP_TARGET, .c = cfg->channels, .h = g->size, .w = g->size});
    g->nll = put(&b, (us_node){.op = US_OP_NLL, .in = {g->head, target}, .value = cfg->logvar_lower_bound});
    return b.status;
}
