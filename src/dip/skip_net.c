// The skip network D(in -> 1) of Double-DIP (networks 9.1): an hourglass of five scales. Each halves the size by a
// strided convolution, convolves, hands on to the next smaller scale, and joins what comes back up with a few channels
// of its own input. Parameters and nodes are made together, as no two sizes share a table here.
#include <stdio.h>

#include "dip/dip.h"
#include "net/build.h"

enum { SCALES = 5 };
static const int deep_channels[SCALES] = {8, 16, 32, 64, 128};
static const int skip_channels[SCALES] = {0, 0, 0, 4, 4};
static const double slope = 0.2;

typedef struct skip_net {
    us_builder *b;
    const char *name;
} skip_net;

static void name_of(const skip_net *s, int scale, const char *layer, char *name, size_t size)
{
    snprintf(name, size, "%s.%d.%s", s->name, scale, layer);
}

// The rows and columns that a strided convolution reads: of an even size it leaves out the last.
static int read_by(us_builder *b, int x, int k, int stride)
{
    int h = b->g->nodes[x].h, w = b->g->nodes[x].w;
    return us_put_window(b, x, (h - k) / stride * stride + k, (w - k) / stride * stride + k, 0, 0);
}

// With bias, on its input padded by reflection.
static int conv(const skip_net *s, int x, int scale, const char *layer, int c, int k, int stride)
{
    us_builder *b = s->b;
    char name[100];
    name_of(s, scale, layer, name, sizeof name);
    if (b->status == USPLIT_OK) {
        b->status = us_param_conv(b->g, name, c, b->g->nodes[x].c, k);
    }
    if (k > 1) {
        x = read_by(b, us_put(b, (us_node){.op = US_OP_REFLECT, .in = {x}, .pad = k / 2}), k, stride);
    }
    return us_put(b, (us_node){.op = US_OP_CONV, .in = {x}, .c = c, .k = k, .stride = stride,
                               .weight = us_put_param(b, name, ".weight"), .bias = us_put_param(b, name, ".bias")});
}

static int norm(const skip_net *s, int x, int scale, const char *layer)
{
    us_builder *b = s->b;
    char name[100];
    name_of(s, scale, layer, name, sizeof name);
    if (b->status == USPLIT_OK) {
        b->status = us_param_norm(b->g, name, b->g->nodes[x].c);
    }
    return us_put_norm(b, x, name);
}

// Convolution, batch normalisation, LeakyReLU.
static int unit(const skip_net *s, int x, int scale, const char *layer, int c, int k, int stride)
{
    char norm_layer[32];
    snprintf(norm_layer, sizeof norm_layer, "%s_norm", layer);
    x = norm(s, conv(s, x, scale, layer, c, k, stride), scale, norm_layer);
    return us_put(s->b, (us_node){.op = US_OP_LEAKY, .in = {x}, .value = slope});
}

static int scale_of(const skip_net *s, int x, int i)
{
    us_builder *b = s->b;
    int c = deep_channels[i], h = b->g->nodes[x].h, w = b->g->nodes[x].w;
    int deep = unit(s, x, i, "down", c, 5, 2);
    deep = unit(s, deep, i, "deep", c, 5, 1);
    if (i + 1 < SCALES && b->status == USPLIT_OK) {
        deep = scale_of(s, deep, i + 1);
    }
    // Of an odd size half is rounded up, so that twice as much is one row or column too many: cut off.
    deep = us_put(b, (us_node){.op = US_OP_LINEAR, .in = {deep}, .h = h, .w = w});
    if (skip_channels[i] > 0) {
        deep = us_put_concat(b, unit(s, x, i, "skip", skip_channels[i], 1, 1), deep);
    }
    x = unit(s, norm(s, deep, i, "join_norm"), i, "up", c, 5, 1);
    return unit(s, x, i, "out", c, 1, 1);
}

static usplit_status add_net(us_graph *g, const char *name, int level, int h, int w, int in)
{
    us_builder b = {.g = g};
    skip_net s = {&b, name};
    int x = us_put(&b, (us_node){.op = US_OP_INPUT, .level = level, .c = in, .h = h, .w = w});
    US_TRY(b.status);
    x = conv(&s, scale_of(&s, x, 0), SCALES, "head", 1, 1, 1);
    x = us_put(&b, (us_node){.op = US_OP_SIGMOID, .in = {x}});
    us_put_loss(&b, US_OP_EXTERN, x, 0, 0, 1);
    return b.status;
}

usplit_status us_skip_graph(us_graph **out, const us_allocator *a, int h, int w, int in, int n,
                            const char *const *names)
{
    *out = NULL;
    us_graph *g = us_calloc(a, 1, sizeof *g);
    if (!g) {
        return USPLIT_ERR_MEMORY;
    }
    g->a = a;
    g->size = h;
    usplit_status status = USPLIT_OK;
    for (int i = 0; i < n && status == USPLIT_OK; i++) {
        status = add_net(g, names[i], i, h, w, in);
    }
    if (status != USPLIT_OK) {
        us_graph_free(g);
        return status;
    }
    *out = g;
    return USPLIT_OK;
}
