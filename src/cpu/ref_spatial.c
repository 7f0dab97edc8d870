// The spatial ops in double precision, forward and backward, as the specification of the published networks writes
// them: scatter loops over outputs, nothing shared with kernels/spatial.h.
#include <math.h>

#include "cpu/ref.h"

typedef struct planes {
    int n, h, w, c;             // output
    int ih, iw, ic;             // input
} planes;

static planes planes_of(const us_ref_op *op)
{
    const us_node *n = op->node, *x = &op->graph->nodes[n->in[0]];
    return (planes){op->batch, n->h, n->w, n->c, x->h, x->w, x->c};
}

static size_t in_at(const planes *p, int b, int y, int x, int c)
{
    return (((size_t)b * (size_t)p->ih + (size_t)y) * (size_t)p->iw + (size_t)x) * (size_t)p->ic + (size_t)c;
}

static size_t out_at(const planes *p, int b, int y, int x, int c)
{
    return (((size_t)b * (size_t)p->h + (size_t)y) * (size_t)p->w + (size_t)x) * (size_t)p->c + (size_t)c;
}

// Output element `out` reads input element `in` with this weight.
static void link_up(const us_ref_op *op, size_t out, size_t in, double weight, int backward)
{
    if (!backward) {
        op->out[out] += weight * op->in[0][in];
    } else if (op->g_in[0]) {
        op->g_in[0][in] += weight * op->g[out];
    }
}

// networks 1.6: strictly greater while scanning.
static void pool_pixel(const us_ref_op *op, const planes *p, int b, int y, int x, int c, int backward)
{
    size_t best = in_at(p, b, 2 * y, 2 * x, c);
    for (int k = 1; k < 4; k++) {
        size_t at = in_at(p, b, 2 * y + k / 2, 2 * x + k % 2, c);
        best = op->in[0][at] > op->in[0][best] ? at : best;
    }
    link_up(op, out_at(p, b, y, x, c), best, 1, backward);
}

// networks 1.7: o (S_in - 1) / (S_out - 1), then the window of 7.2.
static void linear_pixel(const us_ref_op *op, const planes *p, int b, int y, int x, int c, int backward)
{
    int oy = y + op->node->dy, ox = x + op->node->dx;
    if (oy < 0 || oy >= 2 * p->ih || ox < 0 || ox >= 2 * p->iw) {
        return;
    }
    double sy = oy * (p->ih - 1.0) / (2 * p->ih - 1.0), sx = ox * (p->iw - 1.0) / (2 * p->iw - 1.0);
    int y0 = (int)floor(sy + 1e-9), x0 = (int)floor(sx + 1e-9);
    int y1 = y0 + 1 < p->ih ? y0 + 1 : p->ih - 1, x1 = x0 + 1 < p->iw ? x0 + 1 : p->iw - 1;
    double fy = sy - y0, fx = sx - x0;
    size_t out = out_at(p, b, y, x, c);
    link_up(op, out, in_at(p, b, y0, x0, c), (1 - fy) * (1 - fx), backward);
    link_up(op, out, in_at(p, b, y0, x1, c), (1 - fy) * fx, backward);
    link_up(op, out, in_at(p, b, y1, x0, c), fy * (1 - fx), backward);
    link_up(op, out, in_at(p, b, y1, x1, c), fy * fx, backward);
}

static void nearest_pixel(const us_ref_op *op, const planes *p, int b, int y, int x, int c, int backward)
{
    int iy = (int)((int64_t)y * p->ih / p->h), ix = (int)((int64_t)x * p->iw / p->w);
    link_up(op, out_at(p, b, y, x, c), in_at(p, b, iy, ix, c), 1, backward);
}

static int mirrored(int i, int n)
{
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

static void reflect_pixel(const us_ref_op *op, const planes *p, int b, int y, int x, int c, int backward)
{
    int iy = mirrored(y - op->node->pad, p->ih), ix = mirrored(x - op->node->pad, p->iw);
    link_up(op, out_at(p, b, y, x, c), in_at(p, b, iy, ix, c), 1, backward);
}

// networks 5.1: channelwise or global log-variance. The first half of the channels passes.
static void level_pixel(const us_ref_op *op, const planes *p, int b, int y, int x, int c, int backward)
{
    int half = p->c / 2, pixels = p->h * p->w;
    size_t out = out_at(p, b, y, x, c);
    if (c < half) {
        link_up(op, out, out, 1, backward);
        return;
    }
    for (int k = op->node->k ? half : c; k < (op->node->k ? p->c : c + 1); k++) {
        double weight = 1.0 / ((double)pixels * (op->node->k ? half : 1));
        for (int i = 0; i < pixels; i++) {
            link_up(op, out, in_at(p, b, i / p->w, i % p->w, k), weight, backward);
        }
    }
}

// ---- Context transfer (networks 7.4) ----

static double gate_of(const us_ref_op *op, const planes *p, int d, int y, int x)
{
    const float *w = op->params + op->graph->params[op->node->weight].offset;
    return 1 / (1 + exp(-(double)w[((size_t)d * (size_t)p->ih + (size_t)y) * (size_t)p->iw + (size_t)x]));
}

// Pixel number i of line `line` in direction d: up, down, left, right.
static void pixel_of(const planes *p, int d, int line, int i, int *y, int *x)
{
    *y = d == 0 ? i : d == 1 ? p->ih - 1 - i : line;
    *x = d == 2 ? i : d == 3 ? p->iw - 1 - i : line;
}

static void scan_line(const us_ref_op *op, const planes *p, int b, int c, int d, int line, int backward)
{
    static const int order[4] = {2, 3, 0, 1};       // left, right, up, down in the output
    int length = d < 2 ? p->ih : p->iw, out_c = order[d] * p->ic + c, y, x, y1, x1;
    if (!backward) {
        pixel_of(p, d, line, 0, &y, &x);
        op->out[out_at(p, b, y, x, out_c)] = op->in[0][in_at(p, b, y, x, c)];
        for (int i = 1; i < length; i++) {
            pixel_of(p, d, line, i - 1, &y1, &x1);
            pixel_of(p, d, line, i, &y, &x);
            double pre = gate_of(op, p, d, y1, x1) * op->out[out_at(p, b, y1, x1, out_c)] +
                         op->in[0][in_at(p, b, y, x, c)];
            op->out[out_at(p, b, y, x, out_c)] = pre < 0 ? 0 : pre;
        }
        return;
    }
    double *dw = op->grads + op->graph->params[op->node->weight].offset, carry = 0;
    for (int i = length - 1; i >= 0; i--) {
        pixel_of(p, d, line, i, &y, &x);
        double total = op->g[out_at(p, b, y, x, out_c)] + carry;
        if (i > 0) {
            pixel_of(p, d, line, i - 1, &y1, &x1);
            double gate = gate_of(op, p, d, y1, x1), last = op->out[out_at(p, b, y1, x1, out_c)];
            total = gate * last + op->in[0][in_at(p, b, y, x, c)] < 0 ? 0 : total;
            dw[((size_t)d * (size_t)p->ih + (size_t)y1) * (size_t)p->iw + (size_t)x1] +=
                total * last * gate * (1 - gate);
            carry = gate * total;
        }
        if (op->g_in[0]) {
            op->g_in[0][in_at(p, b, y, x, c)] += total;
        }
    }
}

static void scan_pass(const us_ref_op *op, const planes *p, int backward)
{
    for (int b = 0; b < p->n; b++) {
        for (int d = 0; d < 4; d++) {
            for (int line = 0; line < (d < 2 ? p->iw : p->ih); line++) {
                for (int c = 0; c < p->ic; c++) {
                    scan_line(op, p, b, c, d, line, backward);
                }
            }
        }
    }
}

void us_ref_spatial(const us_ref_op *op, int backward)
{
    static void (*const rules[US_OP_COUNT])(const us_ref_op *, const planes *, int, int, int, int, int) = {
        [US_OP_POOL] = pool_pixel, [US_OP_LINEAR] = linear_pixel, [US_OP_NEAREST] = nearest_pixel,
        [US_OP_REFLECT] = reflect_pixel, [US_OP_LEVEL] = level_pixel};
    const planes p = planes_of(op);
    if (op->node->op == US_OP_SCAN) {
        scan_pass(op, &p, backward);
        return;
    }
    for (int64_t i = 0; !backward && i < (int64_t)p.n * p.h * p.w * p.c; i++) {
        op->out[i] = 0;
    }
    for (int b = 0; b < p.n; b++) {
        for (int y = 0; y < p.h; y++) {
            for (int x = 0; x < p.w; x++) {
                for (int c = 0; c < p.c; c++) {
                    rules[op->node->op](op, &p, b, y, x, c, backward);
                }
            }
        }
    }
}
