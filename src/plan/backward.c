// The backward rule of every op: the gradient of a node's output -> values and steps for those of its inputs and
// parameters.
#include "plan/lowering.h"

static usplit_status sum_of(us_lowering *l, int a, int b, int *out)
{
    const us_value x = l->values[a], y = l->values[b];
    if (x.kind == US_V_CONCAT && y.kind == US_V_CONCAT && l->values[x.in[0]].c == l->values[y.in[0]].c) {
        int first, second;      // part by part: an expression cannot read across the border of a concatenation
        US_TRY(sum_of(l, x.in[0], y.in[0], &first));
        US_TRY(sum_of(l, x.in[1], y.in[1], &second));
        return us_value_concat(l, first, second, out);
    }
    US_TRY(us_value_readable(l, a, 1));
    US_TRY(us_value_readable(l, b, 1));
    return us_value_op(l, US_U_ADD, &y, a, b, -1, US_NONE, out);
}

static usplit_status add_gradient(us_lowering *l, int node, int g)
{
    if (!l->grad_flows[node]) {
        return USPLIT_OK;
    }
    if (l->gradient[node] < 0) {
        l->gradient[node] = g;
        return USPLIT_OK;
    }
    return sum_of(l, l->gradient[node], g, &l->gradient[node]);
}

// Bias gradient: the sum of g, a gradient that has just been stored and was `made` so. Part by part of a concatenation,
// while the program that made the parts still has them.
static usplit_status sum_bias(us_lowering *l, int g, const us_value *made, int slot)
{
    if (made->kind != US_V_CONCAT) {
        return us_emit_sum(l, g, slot);
    }
    US_TRY(us_emit_sum(l, made->in[0], slot));
    return us_emit_sum(l, made->in[1], slot + l->values[made->in[0]].c);
}

static usplit_status backward_conv(us_lowering *l, int i, int g)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int conv = l->aux[2 * i], x = l->forward[n->in[0]], src, grad, partial, back;
    const us_conv c = p->convs[conv];
    const us_value made = l->values[g];
    US_ASSERT(c.in.h == c.in_h && c.in.w == c.in_w);    // rows that no output reads are cut off before (WINDOW)
    p->convs[conv].adds_up = p->has_grad[c.weight];
    p->has_grad[c.weight] = 1;
    US_TRY(us_emit_tensor(l, x, us_emit_full(l, x), &src));
    US_TRY(us_emit_tensor(l, g, us_emit_full(l, g), &grad));
    if (p->options.layout == US_LAYOUT_BATCH) {     // all samples at once: nothing partial to add up
        if (c.bias >= 0) {
            p->convs[conv].bias_sums = p->n_sums;
            p->n_sums += c.co;
            US_TRY(sum_bias(l, g, &made, p->convs[conv].bias_sums));
        }
        US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_CONV_WEIGHT, .index = conv, .src = src, .src2 = grad,
                                         .dst = -1}));
    } else {
        US_TRY(us_emit_new_tensor(l, 1, 1, 1, (us_rect){0, 0, 1, 1}, &partial));
        p->tensors[partial].floats = c.partial_floats * (1 + p->convs[conv].adds_up);  // twice: to unpack beside it
        US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_CONV_WEIGHT, .index = conv, .src = src, .src2 = grad,
                                         .dst = partial}));
        US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_SUM_WEIGHT, .index = conv, .src = partial, .src2 = -1,
                                         .dst = -1}));
    }
    if (c.bias >= 0) {
        p->has_grad[c.bias] = 1;
    }
    if (!c.input_grad) {
        return USPLIT_OK;
    }
    US_TRY(us_value_leaf(l, c.ci, c.in_h, c.in_w, (us_rect){0, 0, c.in_h, c.in_w}, &back));
    US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_CONV_BACK, .index = conv, .src = grad, .src2 = -1,
                                     .dst = l->values[back].tensor}));
    return add_gradient(l, n->in[0], back);
}

static usplit_status backward_bnorm(us_lowering *l, int i, int g)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int x = l->forward[n->in[0]], at = l->aux[2 * i], xh, dx;
    const us_bnorm b = p->bnorms[at];
    const us_value like = l->values[g];
    US_TRY(us_value_op(l, US_U_AFFINE, &like, x, -1, -1, (us_value){.vec = {b.inverse, b.centre}}, &xh));
    US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
    US_TRY(us_emit_sum2(l, g, xh, b.grad_sums));
    US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_BN_BACK, .index = at, .src = -1, .src2 = -1, .dst = -1}));
    p->bnorms[at].adds_up = p->has_grad[b.gamma];
    p->has_grad[b.gamma] = p->has_grad[b.beta] = 1;
    if (!l->grad_flows[n->in[0]]) {
        return USPLIT_OK;
    }
    US_TRY(us_value_op(l, US_U_AFFINE2, &like, g, xh, -1, (us_value){.vec = {b.ga, b.gb, b.gc}}, &dx));
    return add_gradient(l, n->in[0], dx);
}

static usplit_status backward_gate(us_lowering *l, int i, int g)
{
    int e = l->aux[2 * i], s = l->aux[2 * i + 1], gs, ge, da, dt, both;
    const us_value like = l->values[g];
    const us_node *n = &l->graph->nodes[i];
    US_TRY(us_value_op(l, US_U_MUL, &like, g, s, -1, US_NONE, &gs));
    US_TRY(us_value_op(l, n->leaky ? US_U_LEAKY_GRAD : US_U_ELU_GRAD, &like, gs, e, -1,
                       (us_value){.k = (float)n->value}, &da));
    US_TRY(us_value_op(l, US_U_MUL, &like, g, e, -1, US_NONE, &ge));
    US_TRY(us_value_op(l, US_U_SIGMOID_GRAD, &like, ge, s, -1, US_NONE, &dt));
    US_TRY(us_value_concat(l, da, dt, &both));
    return add_gradient(l, l->graph->nodes[i].in[0], both);
}

// g is the whole gradient on z; the KL's direct share of dsigma_q is added here (networks 3.6).
static usplit_status backward_latent(us_lowering *l, int i, int g)
{
    const us_node *n = &l->graph->nodes[i];
    int q = l->forward[n->in[0]], sigma = l->aux[2 * i], eps = l->aux[2 * i + 1], r, ds, dr, both;
    const us_value like = l->values[g];
    US_TRY(us_value_slice(l, q, n->c, n->c, &r));
    int kl = l->graph->kl[n->level];
    if (kl >= 0 && l->graph->nodes[kl].op == US_OP_KL) {
        US_TRY(us_value_op(l, US_U_KL_DSQ, &like, g, eps, sigma, (us_value){.ref = n->level}, &ds));
    } else {
        US_TRY(us_value_op(l, US_U_MUL, &like, g, eps, -1, US_NONE, &ds));
    }
    US_TRY(us_value_op(l, US_U_SIGMA_GRAD, &like, ds, r, sigma, (us_value){.k = (float)n->value}, &dr));
    US_TRY(us_value_concat(l, g, dr, &both));
    return add_gradient(l, n->in[0], both);
}

static usplit_status backward_kl(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int z = l->forward[n->in[1]], mu = l->aux[2 * i], sigma = l->aux[2 * i + 1], r, dz, dmu, ds, dr, both;
    const us_value like = l->values[mu];
    const us_value level = {.ref = n->level};
    US_TRY(us_value_slice(l, l->forward[n->in[2]], n->c, n->c, &r));
    US_TRY(us_value_op(l, US_U_KL_DZ, &like, z, mu, sigma, level, &dz));
    US_TRY(us_value_op(l, US_U_SCALE, &like, dz, -1, -1, (us_value){.k = -1}, &dmu));
    US_TRY(us_value_op(l, US_U_KL_DSP, &like, z, mu, sigma, level, &ds));
    US_TRY(us_value_op(l, US_U_SIGMA_GRAD, &like, ds, r, sigma, (us_value){.k = (float)n->value}, &dr));
    US_TRY(us_value_concat(l, dmu, dr, &both));
    US_TRY(add_gradient(l, n->in[1], dz));
    return add_gradient(l, n->in[2], both);
}

static usplit_status backward_kl_full(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    const us_value level = {.ref = n->level}, clip = {.k = (float)n->value};
    int mu[2], raw[2], sq = l->aux[2 * i], sp = l->aux[2 * i + 1], dmu[2], ds[2], dr[2], both;
    for (int j = 0; j < 2; j++) {
        US_TRY(us_value_slice(l, l->forward[n->in[j]], 0, n->c, &mu[j]));
        US_TRY(us_value_slice(l, l->forward[n->in[j]], n->c, n->c, &raw[j]));
    }
    const us_value like = l->values[mu[0]];
    US_TRY(us_value_op(l, US_U_KL_FULL_DMQ, &like, mu[0], mu[1], sp, level, &dmu[0]));
    US_TRY(us_value_op(l, US_U_SCALE, &like, dmu[0], -1, -1, (us_value){.k = -1}, &dmu[1]));
    US_TRY(us_value_op(l, US_U_KL_FULL_DSQ, &like, sq, sp, -1, level, &ds[0]));
    us_value v = {.kind = US_V_OP, .code = US_U_KL_FULL_DSP, .n_in = 4, .in = {mu[0], sq, mu[1], sp}, .c = like.c,
                  .h = like.h, .w = like.w, .ref = n->level};
    US_TRY(us_emit_value(l, v, &ds[1]));
    const int sigma[2] = {sq, sp};
    for (int j = 0; j < 2; j++) {
        US_TRY(us_value_op(l, US_U_SIGMA_GRAD, &like, ds[j], raw[j], sigma[j], clip, &dr[j]));
        US_TRY(us_value_concat(l, dmu[j], dr[j], &both));
        US_TRY(add_gradient(l, n->in[j], both));
    }
    return USPLIT_OK;
}

// Of one pixel's loss of one channel in the reconstruction loss (networks 5.2).
static double pixel_weight(const us_lowering *l, int i)
{
    const us_graph *g = l->graph;
    const us_node *n = &g->nodes[i], *head = &g->nodes[n->in[0]];
    return g->loss_weight[us_lower_loss_number(g, i)] / ((double)n->c * l->plan->options.batch * head->h * head->w);
}

static usplit_status backward_mse(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int output = l->forward[n->in[0]], target = l->forward[n->in[1]], d;
    const us_value like = l->values[output];
    US_TRY(us_value_op(l, US_U_MSE_D, &like, target, output, -1,
                       (us_value){.k = (float)(2 * n->value * pixel_weight(l, i))}, &d));
    return add_gradient(l, n->in[0], d);
}

static usplit_status backward_extern(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int g, number = us_lower_loss_number(l->graph, i);
    const us_value x = l->values[l->forward[n->in[0]]];
    US_TRY(us_value_leaf(l, x.c, x.h, x.w, us_emit_full(l, l->forward[n->in[0]]), &g));
    us_tensor *t = &p->tensors[l->values[g].tensor];
    t->first = p->first_backward - 1;           // filled at the loss
    p->extern_grad[number] = l->values[g].tensor;
    return add_gradient(l, n->in[0], g);
}

static usplit_status backward_nll(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int target = l->forward[n->in[1]], mean = l->aux[2 * i], lv = l->aux[2 * i + 1], raw, dm, dlv, both;
    const us_value like = l->values[mean];
    double weight = pixel_weight(l, i);
    US_TRY(us_value_slice(l, l->forward[n->in[0]], n->c, n->c, &raw));
    US_TRY(us_value_op(l, US_U_NLL_DM, &like, target, mean, lv, (us_value){.k = (float)weight}, &dm));
    us_value v = {.kind = US_V_OP, .code = US_U_NLL_DLV, .n_in = 4, .in = {target, mean, lv, raw},
                  .c = like.c, .h = like.h, .w = like.w, .k = (float)weight, .k2 = (float)n->value};
    US_TRY(us_emit_value(l, v, &dlv));
    US_TRY(us_value_concat(l, dm, dlv, &both));
    return add_gradient(l, n->in[0], both);
}

static usplit_status backward_window(us_lowering *l, int i, int g)
{
    const us_node *n = &l->graph->nodes[i], *in = &l->graph->nodes[n->in[0]];
    int pads = n->dy > 0 || n->dx > 0 || n->h - n->dy < in->h || n->w - n->dx < in->w, out;
    if (pads) {
        US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
    }
    US_TRY(us_value_window(l, g, &(us_value){.dy = -n->dy, .dx = -n->dx, .h = in->h, .w = in->w}, &out));
    return add_gradient(l, n->in[0], out);
}

// The adjoint of a spatial op. Pooling and recurrences look at their input again, recurrences at their output too.
static usplit_status backward_spatial(us_lowering *l, int i, int g)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int at = l->aux[2 * i], x = l->forward[n->in[0]], y = l->forward[i];
    int src, src2 = -1, scanned = -1, partial = -1, back;
    if (!l->grad_flows[n->in[0]] && n->op != US_OP_SCAN) {
        return USPLIT_OK;
    }
    if (n->op == US_OP_POOL || n->op == US_OP_SCAN) {
        US_TRY(us_emit_tensor(l, x, us_emit_full(l, x), &src2));
    }
    if (n->op == US_OP_SCAN) {
        US_TRY(us_emit_tensor(l, y, us_emit_full(l, y), &scanned));
        US_TRY(us_emit_new_tensor(l, 4, n->h, n->w, (us_rect){0, 0, n->h, n->w}, &partial));
    }
    US_TRY(us_emit_tensor(l, g, us_emit_full(l, g), &src));
    US_TRY(us_value_leaf(l, l->values[x].c, l->values[x].h, l->values[x].w, us_emit_full(l, x), &back));
    p->spatials[at].scanned = scanned;
    p->spatials[at].partial = partial;
    US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_SPATIAL_BACK, .index = at, .src = src, .src2 = src2,
                                     .dst = l->values[back].tensor}));
    if (n->op == US_OP_SCAN) {
        p->has_grad[n->weight] = 1;
        US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_SUM_PRIOR, .index = n->weight, .src = partial, .src2 = -1,
                                         .dst = -1}));
    }
    return add_gradient(l, n->in[0], back);
}

usplit_status us_lower_back(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    switch (n->op) {            // where gradients begin
    case US_OP_NLL: return backward_nll(l, i);
    case US_OP_MSE: return backward_mse(l, i);
    case US_OP_EXTERN: return backward_extern(l, i);
    case US_OP_KL: return backward_kl(l, i);
    case US_OP_KL_FULL: return backward_kl_full(l, i);
    default: break;
    }
    int g = l->gradient[i], out, tensor;
    if (g < 0) {
        return USPLIT_OK;
    }
    const us_value like = l->values[g];
    US_TRY(us_value_parts(n, 0) ? us_value_readable(l, g, 1) : USPLIT_OK);
    switch (n->op) {
    case US_OP_CONV:
    case US_OP_TCONV: return backward_conv(l, i, g);
    case US_OP_BNORM: return backward_bnorm(l, i, g);
    case US_OP_ELU:
        US_TRY(us_value_op(l, US_U_ELU_GRAD, &like, g, l->forward[i], -1, US_NONE, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_LEAKY:
        US_TRY(us_value_op(l, US_U_LEAKY_GRAD, &like, g, l->forward[i], -1, (us_value){.k = (float)n->value}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_SIGMOID:
        US_TRY(us_value_op(l, US_U_SIGMOID_GRAD, &like, g, l->forward[i], -1, US_NONE, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_DROPOUT:
        US_TRY(us_value_op(l, US_U_MASK, &like, g, -1, -1, (us_value){.ref = n->level}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_DROP:
        US_TRY(us_value_op(l, US_U_DROP, &like, g, -1, -1, us_lower_drop(n), &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_SCALE:
        US_TRY(us_value_op(l, US_U_SCALE, &like, g, -1, -1, (us_value){.k = (float)n->value}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_GATE: return backward_gate(l, i, g);
    case US_OP_ADD:
        US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
        US_TRY(add_gradient(l, n->in[0], g));
        return add_gradient(l, n->in[1], g);
    case US_OP_CONCAT: {
        int a = l->graph->nodes[n->in[0]].c, b = l->graph->nodes[n->in[1]].c;
        if (us_value_crosses(l, g, 0, a) || us_value_crosses(l, g, a, b)) {
            US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
        }
        US_TRY(us_value_slice(l, g, 0, a, &out));
        US_TRY(add_gradient(l, n->in[0], out));
        US_TRY(us_value_slice(l, g, a, b, &out));
        return add_gradient(l, n->in[1], out);
    }
    case US_OP_WINDOW: return backward_window(l, i, g);
    case US_OP_POOL:
    case US_OP_LINEAR:
    case US_OP_NEAREST:
    case US_OP_REFLECT:
    case US_OP_SCAN:
    case US_OP_LEVEL: return backward_spatial(l, i, g);
    case US_OP_LATENT: return backward_latent(l, i, g);
    case US_OP_PRIOR:
        US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
        tensor = l->values[g].tensor;
        l->plan->has_grad[n->weight] = 1;
        return us_emit_step(l, (us_step){.kind = US_STEP_SUM_PRIOR, .index = n->weight, .src = tensor, .src2 = -1,
                                         .dst = -1});
    default: US_FAIL(USPLIT_ERR_INTERNAL, "internal: op '%s' has no backward rule", us_op_name(n->op));
    }
}
