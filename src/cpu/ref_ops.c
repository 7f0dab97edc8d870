// Every op of op.def, forward and backward, as sections 1, 2, 3.6 and 5.1 of the specification of the
// published networks write them ("networks x.y"). One loop per index of the formula, nothing shared.
#include "cpu/ref.h"

#include <math.h>

#include "kernels/step.h"

// Extents of an op: its output is n x h x w x c, its first input n x ih x iw x ic.
typedef struct extent {
    int n, h, w, c, ih, iw, ic;
} extent;

static extent extent_of(const us_ref_op *op)
{
    const us_node *n = op->node;
    extent e = {.n = op->batch, .h = n->h, .w = n->w, .c = n->c};
    if (n->n_in > 0) {
        const us_node *x = &op->graph->nodes[n->in[0]];
        e.ih = x->h, e.iw = x->w, e.ic = x->c;
    }
    return e;
}

static size_t at(int b, int y, int x, int c, int h, int w, int channels)
{
    return (((size_t)b * (size_t)h + (size_t)y) * (size_t)w + (size_t)x) * (size_t)channels + (size_t)c;
}

static size_t out_at(const extent *e, int b, int y, int x, int c)
{
    return at(b, y, x, c, e->h, e->w, e->c);
}

static size_t in_at(const extent *e, int b, int y, int x, int c)
{
    return at(b, y, x, c, e->ih, e->iw, e->ic);
}

static int64_t pixels(const extent *e)      // of the output, all samples
{
    return (int64_t)e->n * e->h * e->w;
}

static const float *param(const us_ref_op *op, int p)
{
    return op->params + op->graph->params[p].offset;
}

static double *param_grad(const us_ref_op *op, int p)
{
    return op->grads + op->graph->params[p].offset;
}

// ---- Convolutions -----------------------------------------------------------------------------------

// A convolution's loops meet tap (u, v) between output pixel `out` and input pixel `in` (offsets of channel
// 0). Weights are (out, in, k, k), of which the first c outputs may be used, transposed: (in, out, 3, 3).
static void conv_tap(const us_ref_op *op, const extent *e, size_t out, size_t in, int u, int v, int backward)
{
    const us_node *n = op->node;
    int k = n->op == US_OP_TCONV ? 3 : n->k, transposed = n->op == US_OP_TCONV;
    int step_o = transposed ? k * k : e->ic * k * k;
    int step_c = transposed ? e->c * k * k : k * k;
    const float *w = param(op, n->weight) + u * k + v;
    const double *x = op->in[0] + in;
    if (!backward) {
        double *y = op->out + out;
        for (int o = 0; o < e->c; o++) {
            for (int c = 0; c < e->ic; c++) {
                y[o] += x[c] * w[o * step_o + c * step_c];
            }
        }
        return;
    }
    const double *g = op->g + out;
    double *dw = param_grad(op, n->weight) + u * k + v;
    double *dx = op->g_in[0] ? op->g_in[0] + in : NULL;
    for (int o = 0; o < e->c; o++) {
        for (int c = 0; c < e->ic; c++) {
            dw[o * step_o + c * step_c] += g[o] * x[c];
            if (dx) {
                dx[c] += g[o] * w[o * step_o + c * step_c];
            }
        }
    }
}

// networks 1.1: output (p, q) takes input (s p - P + u, s q - P + v).
// networks 1.2: input (p, q) goes to output (2 p - 1 + u, 2 q - 1 + v).
static void conv_taps(const us_ref_op *op, int backward)
{
    const us_node *n = op->node;
    const extent e = extent_of(op);
    int transposed = n->op == US_OP_TCONV;
    int k = transposed ? 3 : n->k, stride = transposed ? 2 : n->stride, pad = transposed ? 1 : n->pad;
    int rows = transposed ? e.ih : e.h, columns = transposed ? e.iw : e.w;
    int bottom = transposed ? e.h : e.ih, right = transposed ? e.w : e.iw;
    for (int b = 0; b < e.n; b++) {
        for (int p = 0; p < rows; p++) {
            for (int q = 0; q < columns; q++) {
                for (int u = 0; u < k; u++) {
                    for (int v = 0; v < k; v++) {
                        int y = stride * p - pad + u, x = stride * q - pad + v;
                        if (y < 0 || y >= bottom || x < 0 || x >= right) {
                            continue;
                        }
                        if (transposed) {
                            conv_tap(op, &e, out_at(&e, b, y, x, 0), in_at(&e, b, p, q, 0), u, v, backward);
                        } else {
                            conv_tap(op, &e, out_at(&e, b, p, q, 0), in_at(&e, b, y, x, 0), u, v, backward);
                        }
                    }
                }
            }
        }
    }
}

static void conv_forward(const us_ref_op *op)
{
    const extent e = extent_of(op);
    const float *bias = op->node->bias >= 0 ? param(op, op->node->bias) : NULL;
    for (int64_t i = 0; i < pixels(&e); i++) {
        for (int o = 0; o < e.c; o++) {
            op->out[i * e.c + o] = bias ? bias[o] : 0;
        }
    }
    conv_taps(op, 0);
}

static void conv_backward(const us_ref_op *op)
{
    const extent e = extent_of(op);
    double *dbias = op->node->bias >= 0 ? param_grad(op, op->node->bias) : NULL;
    for (int64_t i = 0; dbias && i < pixels(&e); i++) {
        for (int o = 0; o < e.c; o++) {
            dbias[o] += op->g[i * e.c + o];
        }
    }
    conv_taps(op, 1);
}

// ---- Batch normalisation (networks 1.3) -------------------------------------------------------------

static void bnorm_statistics(const us_ref_op *op, const extent *e)
{
    int64_t n = pixels(e);
    for (int c = 0; c < e->c; c++) {
        if (!op->train) {
            op->mean[c] = param(op, op->node->mean)[c];
            op->var[c] = param(op, op->node->var)[c];
            continue;
        }
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) {
            mean += op->in[0][i * e->c + c];
        }
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) {
            double d = op->in[0][i * e->c + c] - mean;
            var += d * d;
        }
        op->mean[c] = mean;
        op->var[c] = var / (double)n;
    }
}

static void bnorm_forward(const us_ref_op *op)
{
    const extent e = extent_of(op);
    const float *gamma = param(op, op->node->weight), *beta = param(op, op->node->bias);
    bnorm_statistics(op, &e);
    for (int64_t i = 0; i < pixels(&e); i++) {
        for (int c = 0; c < e.c; c++) {
            double x = op->in[0][i * e.c + c];
            op->out[i * e.c + c] = gamma[c] * (x - op->mean[c]) / sqrt(op->var[c] + US_BN_EPS) + beta[c];
        }
    }
}

// dbeta = sum g; dgamma = sum g xh; dx = gamma / s (g - dbeta / N - xh dgamma / N); evaluation: gamma / s g.
static void bnorm_backward(const us_ref_op *op)
{
    const extent e = extent_of(op);
    const float *gamma = param(op, op->node->weight);
    double n = (double)pixels(&e);
    for (int c = 0; c < e.c; c++) {
        double s = sqrt(op->var[c] + US_BN_EPS), dgamma = 0, dbeta = 0;
        for (int64_t i = 0; i < pixels(&e); i++) {
            double g = op->g[i * e.c + c], xh = (op->in[0][i * e.c + c] - op->mean[c]) / s;
            dbeta += g;
            dgamma += g * xh;
        }
        param_grad(op, op->node->weight)[c] += dgamma;
        param_grad(op, op->node->bias)[c] += dbeta;
        for (int64_t i = 0; op->g_in[0] && i < pixels(&e); i++) {
            double g = op->g[i * e.c + c], xh = (op->in[0][i * e.c + c] - op->mean[c]) / s;
            op->g_in[0][i * e.c + c] += gamma[c] / s * (op->train ? g - dbeta / n - xh * dgamma / n : g);
        }
    }
}

// ---- Elementwise (networks 1.4, 1.5, 2.2, 3.5) ------------------------------------------------------

static double elu(double x)
{
    return x > 0 ? x : exp(x) - 1;
}

static double elu_slope(double x)
{
    return x > 0 ? 1 : exp(x);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double leaky(double x, double slope)
{
    return x > 0 ? x : slope * x;
}

static double leaky_slope(double x, double slope)
{
    return x > 0 ? 1 : slope;
}

// ELU, LEAKY, SIGMOID, DROPOUT, DROP, SCALE: one input of the same shape; i: pixel of all samples. The output, or what
// the gradient is multiplied by.
static double unary(const us_ref_op *op, double x, int64_t i, int b, int c, int slope)
{
    switch (op->node->op) {
    case US_OP_ELU: return slope ? elu_slope(x) : elu(x);
    case US_OP_LEAKY: return slope ? leaky_slope(x, op->node->value) : leaky(x, op->node->value);
    case US_OP_SIGMOID: return slope ? sigmoid(x) * (1 - sigmoid(x)) : sigmoid(x);
    case US_OP_SCALE: return slope ? op->node->value : op->node->value * x;
    default: {  // DROPOUT: a multiplier per channel of a sample; DROP: per element
        int64_t at = op->node->op == US_OP_DROP ? i * op->node->c + c : (int64_t)b * op->node->c + c;
        double m = op->mask ? op->mask[at] : 1;
        return slope ? m : m * x;
    }
    }
}

static void unary_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    for (int64_t i = 0; i < pixels(&e); i++) {
        int b = (int)(i / ((int64_t)e.h * e.w));
        for (int c = 0; c < e.c; c++) {
            double x = op->in[0][i * e.c + c];
            if (!backward) {
                op->out[i * e.c + c] = unary(op, x, i, b, c, 0);
            } else if (op->g_in[0]) {
                op->g_in[0][i * e.c + c] += op->g[i * e.c + c] * unary(op, x, i, b, c, 1);
            }
        }
    }
}

static void gate_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    double slope = op->node->value;
    for (int64_t i = 0; i < pixels(&e); i++) {
        for (int c = 0; c < e.c; c++) {
            double a = op->in[0][i * e.ic + c], t = op->in[0][i * e.ic + e.c + c], s = sigmoid(t);
            double act = op->node->leaky ? leaky(a, slope) : elu(a);
            if (!backward) {
                op->out[i * e.c + c] = act * s;
            } else if (op->g_in[0]) {
                double g = op->g[i * e.c + c];
                op->g_in[0][i * e.ic + c] += g * s * (op->node->leaky ? leaky_slope(a, slope) : elu_slope(a));
                op->g_in[0][i * e.ic + e.c + c] += g * act * s * (1 - s);
            }
        }
    }
}

static void add_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    for (int64_t i = 0; i < pixels(&e) * e.c; i++) {
        if (!backward) {
            op->out[i] = op->in[0][i] + op->in[1][i];
            continue;
        }
        for (int k = 0; k < 2; k++) {
            if (op->g_in[k]) {
                op->g_in[k][i] += op->g[i];
            }
        }
    }
}

// ---- Layout (networks 1.8, 1.9, 3.4) ----------------------------------------------------------------

static void concat_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    for (int64_t i = 0; i < pixels(&e); i++) {
        for (int c = 0; c < e.c; c++) {
            int k = c < e.ic ? 0 : 1, width = k == 0 ? e.ic : e.c - e.ic;
            int64_t from = i * width + (k == 0 ? c : c - e.ic);
            if (!backward) {
                op->out[i * e.c + c] = op->in[k][from];
            } else if (op->g_in[k]) {
                op->g_in[k][from] += op->g[i * e.c + c];
            }
        }
    }
}

static void window_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    for (int b = 0; b < e.n; b++) {
        for (int y = 0; y < e.h; y++) {
            for (int x = 0; x < e.w; x++) {
                int iy = y + op->node->dy, ix = x + op->node->dx;
                int inside = iy >= 0 && iy < e.ih && ix >= 0 && ix < e.iw;
                for (int c = 0; c < e.c; c++) {
                    if (!backward) {
                        op->out[out_at(&e, b, y, x, c)] = inside ? op->in[0][in_at(&e, b, iy, ix, c)] : 0;
                    } else if (inside && op->g_in[0]) {
                        op->g_in[0][in_at(&e, b, iy, ix, c)] += op->g[out_at(&e, b, y, x, c)];
                    }
                }
            }
        }
    }
}

// The parameter is (1, 2Z, T, T), the same for every sample; its gradient is summed over them.
static void prior_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    for (int b = 0; b < e.n; b++) {
        for (int y = 0; y < e.h; y++) {
            for (int x = 0; x < e.w; x++) {
                for (int c = 0; c < e.c; c++) {
                    size_t i = out_at(&e, b, y, x, c);
                    size_t p = ((size_t)c * (size_t)e.h + (size_t)y) * (size_t)e.w + (size_t)x;
                    if (!backward) {
                        op->out[i] = param(op, op->node->weight)[p];
                    } else {
                        param_grad(op, op->node->weight)[p] += op->g[i];
                    }
                }
            }
        }
    }
}

// ---- Stochastic block and likelihood (networks 1.10, 3.6, 5.1) --------------------------------------

double us_ref_sigma(double r, double clip)
{
    double l = r > clip ? clip : r;
    return sqrt((l <= 0 ? exp(l) : 1 + l) + US_SIGMA_FLOOR);
}

double us_ref_sigma_slope(double r, double clip)
{
    return r > clip ? 0 : (r <= 0 ? exp(r) : 1) / (2 * us_ref_sigma(r, clip));
}

// z = mu + sigma eps; dmu = g, dsigma = eps g.
static void latent_pass(const us_ref_op *op, int backward)
{
    const extent e = extent_of(op);
    double clip = op->node->value;
    for (int64_t i = 0; i < pixels(&e); i++) {
        for (int c = 0; c < e.c; c++) {
            double mu = op->in[0][i * e.ic + c], r = op->in[0][i * e.ic + e.c + c];
            double eps = op->eps ? op->eps[i * e.c + c] : 0;
            if (!backward) {
                op->out[i * e.c + c] = mu + us_ref_sigma(r, clip) * eps;
            } else if (op->g_in[0]) {
                double g = op->g[i * e.c + c];
                op->g_in[0][i * e.ic + c] += g;
                op->g_in[0][i * e.ic + e.c + c] += eps * g * us_ref_sigma_slope(r, clip);
            }
        }
    }
}

// k = log sigma_p - log sigma_q + (z - mu_p)^2 / (2 sigma_p^2) - eps^2 / 2, summed over a sample's pixels.
// eps is a constant here and z an input of its own, so q gets a gradient through sigma_q only.
static void kl_pass(const us_ref_op *op, int backward)
{
    const us_node *zn = &op->graph->nodes[op->node->in[1]];
    int z_dim = zn->c;
    int64_t per_sample = (int64_t)zn->h * zn->w;
    double clip = op->node->value;
    for (int64_t i = 0; !backward && i < (int64_t)op->batch * z_dim; i++) {
        op->out[i] = 0;
    }
    for (int64_t i = 0; i < op->batch * per_sample; i++) {
        for (int c = 0; c < z_dim; c++) {
            double rq = op->in[0][i * 2 * z_dim + z_dim + c], z = op->in[1][i * z_dim + c];
            double mp = op->in[2][i * 2 * z_dim + c], rp = op->in[2][i * 2 * z_dim + z_dim + c];
            double eps = op->eps ? op->eps[i * z_dim + c] : 0;
            double sq = us_ref_sigma(rq, clip), sp = us_ref_sigma(rp, clip), u = (z - mp) / sp;
            int64_t sum = i / per_sample * z_dim + c;
            if (!backward) {
                op->out[sum] += log(sp) - log(sq) + u * u / 2 - eps * eps / 2;
                continue;
            }
            double w = op->g[sum];
            if (op->g_in[0]) {
                op->g_in[0][i * 2 * z_dim + z_dim + c] += -w / sq * us_ref_sigma_slope(rq, clip);
            }
            if (op->g_in[1]) {
                op->g_in[1][i * z_dim + c] += w * u / sp;
            }
            if (op->g_in[2]) {
                op->g_in[2][i * 2 * z_dim + c] += -w * u / sp;
                op->g_in[2][i * 2 * z_dim + z_dim + c] += w * (1 - u * u) / sp * us_ref_sigma_slope(rp, clip);
            }
        }
    }
}

// log(sp / sq) + (sq^2 + (mq - mp)^2) / (2 sp^2) - 1/2, summed over a sample's pixels.
static void kl_full_pass(const us_ref_op *op, int backward)
{
    const us_node *q = &op->graph->nodes[op->node->in[0]];
    int z_dim = op->node->c;
    double clip = op->node->value;
    int64_t per_sample = (int64_t)q->h * q->w;
    for (int64_t i = 0; !backward && i < (int64_t)op->batch * z_dim; i++) {
        op->out[i] = 0;
    }
    for (int64_t i = 0; i < op->batch * per_sample; i++) {
        for (int c = 0; c < z_dim; c++) {
            double mq = op->in[0][i * 2 * z_dim + c], rq = op->in[0][i * 2 * z_dim + z_dim + c];
            double mp = op->in[1][i * 2 * z_dim + c], rp = op->in[1][i * 2 * z_dim + z_dim + c];
            double sq = us_ref_sigma(rq, clip), sp = us_ref_sigma(rp, clip), d = mq - mp;
            int64_t sum = i / per_sample * z_dim + c;
            if (!backward) {
                op->out[sum] += log(sp / sq) + (sq * sq + d * d) / (2 * sp * sp) - 0.5;
                continue;
            }
            double w = op->g[sum];
            if (op->g_in[0]) {
                op->g_in[0][i * 2 * z_dim + c] += w * d / (sp * sp);
                op->g_in[0][i * 2 * z_dim + z_dim + c] +=
                    w * (sq / (sp * sp) - 1 / sq) * us_ref_sigma_slope(rq, clip);
            }
            if (op->g_in[1]) {
                op->g_in[1][i * 2 * z_dim + c] += -w * d / (sp * sp);
                op->g_in[1][i * 2 * z_dim + z_dim + c] +=
                    w * (1 / sp - (sq * sq + d * d) / (sp * sp * sp)) * us_ref_sigma_slope(rp, clip);
            }
        }
    }
}

// factor (output - target)^2, summed over a sample's pixels.
static void mse_pass(const us_ref_op *op, int backward)
{
    const us_node *target = &op->graph->nodes[op->node->in[1]];
    int k = target->c;
    int64_t per_sample = (int64_t)target->h * target->w;
    for (int64_t i = 0; !backward && i < (int64_t)op->batch * k; i++) {
        op->out[i] = 0;
    }
    for (int64_t i = 0; i < op->batch * per_sample * k; i++) {
        double d = op->in[0][i] - op->in[1][i];
        int64_t sum = i / k / per_sample * k + i % k;
        if (!backward) {
            op->out[sum] += op->node->value * d * d;
        } else if (op->g_in[0]) {
            op->g_in[0][i] += op->g[sum] * 2 * op->node->value * d;
        }
    }
}

// Here the loss is the sum of the output: a caller's loss of which only the first order is known.
static void extern_pass(const us_ref_op *op, int backward)
{
    const us_node *x = &op->graph->nodes[op->node->in[0]];
    int64_t per_sample = (int64_t)x->h * x->w;
    for (int64_t i = 0; !backward && i < (int64_t)op->batch * x->c; i++) {
        op->out[i] = 0;
    }
    for (int64_t i = 0; i < op->batch * per_sample * x->c; i++) {
        int64_t sum = i / x->c / per_sample * x->c + i % x->c;
        if (!backward) {
            op->out[sum] += op->in[0][i];
        } else if (op->g_in[0]) {
            op->g_in[0][i] += op->g[sum];
        }
    }
}

// 0.5 ((t - m)^2 exp(-lv) + lv + log 2 pi), lv = max(raw, bound), summed over a sample's pixels.
static void nll_pass(const us_ref_op *op, int backward)
{
    const us_node *target = &op->graph->nodes[op->node->in[1]];
    int k = target->c;
    int64_t per_sample = (int64_t)target->h * target->w;
    for (int64_t i = 0; !backward && i < (int64_t)op->batch * k; i++) {
        op->out[i] = 0;
    }
    for (int64_t i = 0; i < op->batch * per_sample; i++) {
        for (int c = 0; c < k; c++) {
            double m = op->in[0][i * 2 * k + c], raw = op->in[0][i * 2 * k + k + c];
            double lv = raw < op->node->value ? op->node->value : raw;
            double d = op->in[1][i * k + c] - m;
            int64_t sum = i / per_sample * k + c;
            if (!backward) {
                op->out[sum] += 0.5 * (d * d * exp(-lv) + lv + log(2 * acos(-1.0)));
            } else if (op->g_in[0]) {
                op->g_in[0][i * 2 * k + c] += op->g[sum] * -d * exp(-lv);
                op->g_in[0][i * 2 * k + k + c] +=
                    raw < op->node->value ? 0 : op->g[sum] * 0.5 * (1 - d * d * exp(-lv));
            }
        }
    }
}

// ---- One op -----------------------------------------------------------------------------------------

static void pass(const us_ref_op *op, int backward)
{
    switch (op->node->op) {
    case US_OP_INPUT:
    case US_OP_TARGET:
    case US_OP_COUNT: break;
    case US_OP_PRIOR: prior_pass(op, backward); break;
    case US_OP_CONV:
    case US_OP_TCONV: backward ? conv_backward(op) : conv_forward(op); break;
    case US_OP_BNORM: backward ? bnorm_backward(op) : bnorm_forward(op); break;
    case US_OP_ELU:
    case US_OP_LEAKY:
    case US_OP_SIGMOID:
    case US_OP_DROPOUT:
    case US_OP_DROP:
    case US_OP_SCALE: unary_pass(op, backward); break;
    case US_OP_GATE: gate_pass(op, backward); break;
    case US_OP_ADD: add_pass(op, backward); break;
    case US_OP_CONCAT: concat_pass(op, backward); break;
    case US_OP_WINDOW: window_pass(op, backward); break;
    case US_OP_LATENT: latent_pass(op, backward); break;
    case US_OP_KL: kl_pass(op, backward); break;
    case US_OP_KL_FULL: kl_full_pass(op, backward); break;
    case US_OP_NLL: nll_pass(op, backward); break;
    case US_OP_MSE: mse_pass(op, backward); break;
    case US_OP_EXTERN: extern_pass(op, backward); break;
    default: us_ref_spatial(op, backward); break;
    }
}

void us_ref_forward(const us_ref_op *op)
{
    pass(op, 0);
}

void us_ref_backward(const us_ref_op *op)
{
    pass(op, 1);
}
