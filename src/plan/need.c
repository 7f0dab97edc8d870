// Windows of need: which part of every node the wanted output pixels depend on. In training everything is
// needed whole. In prediction the walk goes from the head back to the inputs: a convolution far from the
// border then runs unpadded on a smaller input, at the border its zero padding stays, so that the numbers
// are the same (networks 3.9 is one case of it).
#include "kernels/spatial.h"
#include "plan/lowering.h"

static us_rect whole(const us_node *n)
{
    return (us_rect){0, 0, n->h, n->w};
}

static us_rect clip(us_rect r, const us_node *n)
{
    int y1 = r.y0 + r.h, x1 = r.x0 + r.w;
    r.y0 = r.y0 < 0 ? 0 : r.y0;
    r.x0 = r.x0 < 0 ? 0 : r.x0;
    y1 = y1 > n->h ? n->h : y1;
    x1 = x1 > n->w ? n->w : x1;
    r.h = y1 > r.y0 ? y1 - r.y0 : 0;
    r.w = x1 > r.x0 ? x1 - r.x0 : 0;
    return r;
}

us_rect us_need_both(us_rect a, us_rect b)
{
    if (a.h == 0 || a.w == 0) {
        return b;
    }
    if (b.h == 0 || b.w == 0) {
        return a;
    }
    int y1 = a.y0 + a.h > b.y0 + b.h ? a.y0 + a.h : b.y0 + b.h;
    int x1 = a.x0 + a.w > b.x0 + b.w ? a.x0 + a.w : b.x0 + b.w;
    int y0 = a.y0 < b.y0 ? a.y0 : b.y0, x0 = a.x0 < b.x0 ? a.x0 : b.x0;
    return (us_rect){y0, x0, y1 - y0, x1 - x0};
}

// One axis of a transposed convolution: outputs [o0, o0 + n) come from inputs o0/2 .. (o0 + n)/2.
static void tconv_axis(int o0, int n, int *i0, int *m)
{
    *i0 = o0 / 2;
    *m = (o0 + n) / 2 - *i0 + 1;
    if ((o0 + n - 1) % 2 == 0) {
        *m = (o0 + n - 1) / 2 - *i0 + 1;
    }
}

us_rect us_need_conv_input(const us_node *c, const us_node *input, us_rect out)
{
    us_rect r;
    if (c->op == US_OP_TCONV) {
        tconv_axis(out.y0, out.h, &r.y0, &r.h);
        tconv_axis(out.x0, out.w, &r.x0, &r.w);
    } else {
        r.y0 = out.y0 * c->stride - c->pad;
        r.x0 = out.x0 * c->stride - c->pad;
        r.h = (out.h - 1) * c->stride + c->k;
        r.w = (out.w - 1) * c->stride + c->k;
    }
    return clip(r, input);
}

// One axis of a bilinear up-sampling: outputs [o0, o0 + m) of the window that begins at d.
static void linear_axis(int o0, int m, int d, int n, int *i0, int *count)
{
    int first = o0 + d < 0 ? 0 : o0 + d, last = o0 + d + m - 1 > 2 * n - 1 ? 2 * n - 1 : o0 + d + m - 1;
    if (last < first) {         // only padding is wanted
        *i0 = 0;
        *count = 1;
        return;
    }
    *i0 = us_linear_at(first, n).i0;
    *count = us_linear_at(last, n).i1 - *i0 + 1;
}

us_rect us_need_spatial_input(const us_node *n, const us_node *input, us_rect out)
{
    us_rect r = whole(input);
    if (n->op == US_OP_POOL) {
        r = (us_rect){2 * out.y0, 2 * out.x0, 2 * out.h, 2 * out.w};
    } else if (n->op == US_OP_NEAREST) {
        int y1 = (out.y0 + out.h - 1) / n->k, x1 = (out.x0 + out.w - 1) / n->k;
        r.y0 = out.y0 / n->k;
        r.x0 = out.x0 / n->k;
        r.h = y1 - r.y0 + 1;
        r.w = x1 - r.x0 + 1;
    } else if (n->op == US_OP_LINEAR) {
        linear_axis(out.y0, out.h, n->dy, input->h, &r.y0, &r.h);
        linear_axis(out.x0, out.w, n->dx, input->w, &r.x0, &r.w);
    }
    return r;
}

// Ops whose every output depends on every input are computed whole or not at all.
static int needs_whole(us_op op)
{
    return op == US_OP_SCAN || op == US_OP_LEVEL || op == US_OP_REFLECT;
}

static us_rect input_need(const us_graph *g, const us_node *n, us_rect need)
{
    const us_node *in = &g->nodes[n->in[0]];
    switch (n->op) {
    case US_OP_CONV:
    case US_OP_TCONV: return us_need_conv_input(n, in, need);
    case US_OP_WINDOW:
        need.y0 += n->dy;
        need.x0 += n->dx;
        need = clip(need, in);
        return need.h && need.w ? need : (us_rect){0, 0, 1, 1};     // only padding is wanted: a pixel that nobody reads
    case US_OP_POOL:
    case US_OP_LINEAR:
    case US_OP_NEAREST:
    case US_OP_REFLECT:
    case US_OP_SCAN:
    case US_OP_LEVEL: return us_need_spatial_input(n, in, need);
    case US_OP_KL:
    case US_OP_KL_FULL:
    case US_OP_NLL:
    case US_OP_MSE:
    case US_OP_EXTERN: return whole(in);
    default: return need;
    }
}

usplit_status us_need(us_lowering *l)
{
    const us_graph *g = l->graph;
    const us_plan_options *o = &l->plan->options;
    int train = o->mode == US_PLAN_TRAIN;
    if (train) {
        for (int i = 0; i < g->n_losses; i++) {
            l->used[g->losses[i]] = 1;
        }
        for (int i = 0; i < g->n_latents; i++) {
            if (g->kl[i] >= 0) {
                l->used[g->kl[i]] = 1;
            }
        }
    } else {
        us_rect want = o->want.h ? o->want : whole(&g->nodes[g->head]);
        US_CHECK_ARG(want.y0 >= 0 && want.x0 >= 0 && want.h > 0 && want.w > 0 &&
                         want.y0 + want.h <= g->nodes[g->head].h && want.x0 + want.w <= g->nodes[g->head].w,
                     "wanted window is %d x %d at (%d, %d); accepted: inside %d x %d", want.h, want.w, want.y0,
                     want.x0, g->nodes[g->head].h, g->nodes[g->head].w);
        l->used[g->head] = 1;
        l->need[g->head] = want;
    }
    for (int i = 0; i < o->n_outputs; i++) {
        l->used[o->outputs[i]] = 1;
        l->need[o->outputs[i]] = whole(&g->nodes[o->outputs[i]]);
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const us_node *n = &g->nodes[i];
        if (!l->used[i]) {
            continue;
        }
        if (train || needs_whole(n->op)) {
            l->need[i] = whole(n);
        }
        for (int j = 0; j < n->n_in; j++) {
            us_rect r = input_need(g, n, l->need[i]);
            l->used[n->in[j]] = 1;
            l->need[n->in[j]] = us_need_both(l->need[n->in[j]], r);
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        int own = n->op == US_OP_CONV || n->op == US_OP_TCONV || n->op == US_OP_BNORM || n->op == US_OP_PRIOR ||
                  n->op == US_OP_SCAN;
        l->grad_flows[i] = (unsigned char)own;
        for (int j = 0; j < n->n_in; j++) {
            l->grad_flows[i] |= l->grad_flows[n->in[j]];
        }
    }
    return USPLIT_OK;
}
