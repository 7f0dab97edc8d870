// The forward rule of every op, and the lowering of a whole graph: nodes -> values and steps. Elementwise ops become
// expressions (value.c, fused by emit.c); convolutions, batch statistics and losses become steps. The backward rules
// are in backward.c.
#include "plan/lowering.h"

static usplit_status external(us_lowering *l, const us_node *n, int *tensor, int *out)
{
    US_TRY(us_value_leaf(l, n->c, n->h, n->w, (us_rect){0, 0, n->h, n->w}, out));
    *tensor = l->values[*out].tensor;
    l->plan->tensors[*tensor].external = 1;
    return USPLIT_OK;
}

static int round_up(int n, int m)
{
    return (n + m - 1) / m * m;
}

// ---- Forward ----

// Is the node the caller's input, perhaps cropped, padded or normalised?
static int is_input(const us_graph *g, int node)
{
    while (g->nodes[node].op == US_OP_WINDOW || g->nodes[node].op == US_OP_BNORM) {
        node = g->nodes[node].in[0];
    }
    return g->nodes[node].op == US_OP_INPUT;
}

// A convolution that is cheaper to do again in the backward pass than to keep (networks 11): of the input's one
// channel, or 1x1 where it makes two channels of one (before a gate) or one of two (a merge). A value of it takes at
// most a quarter of the multiply-adds of a 3x3 convolution's.
static int is_cheap(const us_graph *g, int node)
{
    const us_node *n = &g->nodes[node];
    int gate = node + 1 < g->n_nodes && g->nodes[node + 1].op == US_OP_GATE && g->nodes[node + 1].in[0] == node;
    return is_input(g, n->in[0]) || (n->k == 1 && (gate || g->nodes[n->in[0]].op == US_OP_CONCAT));
}

static usplit_status forward_conv(us_lowering *l, int i, int *out)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i], *in = &l->graph->nodes[n->in[0]];
    us_conv c = {.node = i, .transposed = n->op == US_OP_TCONV, .ci = in->c, .co = n->c, .k = n->k,
                 .stride = n->stride, .pad = n->pad, .weight = n->weight, .bias = n->bias, .out = l->need[i],
                 .in_h = in->h, .in_w = in->w, .out_h = n->h, .out_w = n->w,
                 .input_grad = l->grad_flows[n->in[0]], .bias_sums = -1};
    c.in = us_need_conv_input(n, in, c.out);
    c.partial_floats = (int64_t)round_up(c.ci, 16) * round_up(c.co, 16) * c.k * c.k + round_up(c.co, 16);
    int src;
    US_TRY(us_emit_tensor(l, l->forward[n->in[0]], c.in, &src));
    US_TRY(us_value_leaf(l, n->c, n->h, n->w, c.out, out));
    US_TRY(us_plan_grow(p->a, &p->convs, p->n_convs, &p->cap_convs, sizeof *p->convs));
    p->convs[p->n_convs++] = c;
    l->aux[2 * i] = p->n_convs - 1;
    if (is_cheap(l->graph, i)) {
        l->values[*out].redo = p->n_convs;
        l->values[*out].redo_kind = US_STEP_CONV;
        l->values[*out].in[0] = l->forward[n->in[0]];
    }
    p->macs += c.transposed ? (int64_t)c.co * c.ci * c.k * c.k * c.in.h * c.in.w
                            : (int64_t)c.co * c.ci * c.k * c.k * c.out.h * c.out.w;
    return us_emit_step(l, (us_step){.kind = US_STEP_CONV, .index = p->n_convs - 1, .src = src, .src2 = -1,
                                     .dst = l->values[*out].tensor});
}

// Pooling, up-sampling, padding, recurrences: a step of its own, done again in the backward pass rather than kept.
static usplit_status forward_spatial(us_lowering *l, int i, int *out)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i], *in = &l->graph->nodes[n->in[0]];
    us_spatial s = {.node = i, .op = n->op, .out = l->need[i], .in_h = in->h, .in_w = in->w, .out_h = n->h,
                    .out_w = n->w, .c = in->c, .k = n->op == US_OP_REFLECT ? n->pad : n->k, .dy = n->dy, .dx = n->dx,
                    .weight = n->op == US_OP_SCAN ? n->weight : -1, .scanned = -1, .partial = -1};
    s.in = us_need_spatial_input(n, in, s.out);
    int src;
    US_TRY(us_emit_tensor(l, l->forward[n->in[0]], s.in, &src));
    US_TRY(us_value_leaf(l, n->c, n->h, n->w, s.out, out));
    US_TRY(us_plan_grow(p->a, &p->spatials, p->n_spatials, &p->cap_spatials, sizeof *p->spatials));
    p->spatials[p->n_spatials++] = s;
    l->aux[2 * i] = p->n_spatials - 1;
    l->values[*out].redo = p->n_spatials;
    l->values[*out].redo_kind = US_STEP_SPATIAL;
    l->values[*out].in[0] = l->forward[n->in[0]];
    return us_emit_step(l, (us_step){.kind = US_STEP_SPATIAL, .index = p->n_spatials - 1, .src = src, .src2 = -1,
                                     .dst = l->values[*out].tensor});
}

static usplit_status forward_bnorm(us_lowering *l, int i, int *out)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int x = l->forward[n->in[0]], train = p->options.mode == US_PLAN_TRAIN;
    us_bnorm b = {.node = i, .c = n->c, .gamma = n->weight, .beta = n->bias, .mean = n->mean, .var = n->var,
                  .counter = n->counter, .count = (int64_t)n->h * n->w};
    int *vectors[] = {&b.scale, &b.shift, &b.inverse, &b.centre, &b.ga, &b.gb, &b.gc};
    for (int j = 0; j < (train ? 7 : 2); j++) {
        *vectors[j] = (int)p->n_vec;
        p->n_vec += round_up(n->c, 16);
    }
    US_TRY(us_plan_grow(p->a, &p->bnorms, p->n_bnorms, &p->cap_bnorms, sizeof *p->bnorms));
    l->aux[2 * i] = p->n_bnorms;
    if (train) {
        b.sums = p->n_sums;
        b.grad_sums = p->n_sums + 2 * n->c;
        p->n_sums += 4 * n->c;
        US_TRY(us_emit_sum2(l, x, x, b.sums));
    }
    p->bnorms[p->n_bnorms++] = b;
    if (train) {
        US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_BN, .index = p->n_bnorms - 1, .src = -1, .src2 = -1,
                                         .dst = -1}));
    }
    return us_value_op(l, US_U_AFFINE, &l->values[x], x, -1, -1, (us_value){.vec = {b.scale, b.shift}}, out);
}

static usplit_status forward_gate(us_lowering *l, int i, int *out)
{
    int x = l->forward[l->graph->nodes[i].in[0]], c = l->values[x].c / 2, a, t, e, s;
    US_TRY(us_value_slice(l, x, 0, c, &a));
    US_TRY(us_value_slice(l, x, c, c, &t));
    const us_value like = l->values[a];
    const us_node *n = &l->graph->nodes[i];
    US_TRY(us_value_op(l, n->leaky ? US_U_LEAKY : US_U_ELU, &like, a, -1, -1, (us_value){.k = (float)n->value}, &e));
    US_TRY(us_value_op(l, US_U_SIGMOID, &like, t, -1, -1, US_NONE, &s));
    l->aux[2 * i] = e;
    l->aux[2 * i + 1] = s;
    return us_value_op(l, US_U_MUL, &like, e, s, -1, US_NONE, out);
}

// z = mu + sigma * eps (networks 3.6).
static usplit_status forward_latent(us_lowering *l, int i, int *out)
{
    const us_node *n = &l->graph->nodes[i];
    int q = l->forward[n->in[0]], c = n->c, mu, r, sigma, eps;
    US_TRY(us_value_slice(l, q, 0, c, &mu));
    US_TRY(us_value_slice(l, q, c, c, &r));
    const us_value like = l->values[mu];
    US_TRY(us_value_op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &sigma));
    US_TRY(us_value_op(l, US_U_NOISE, &like, -1, -1, -1, (us_value){.ref = n->level}, &eps));
    l->aux[2 * i] = sigma;
    l->aux[2 * i + 1] = eps;
    return us_value_op(l, US_U_MADD, &like, mu, sigma, eps, US_NONE, out);
}

static usplit_status forward_kl(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int latent = n->in[1], prior = l->forward[n->in[2]], c = n->c, mu, r, sigma, kl;
    US_TRY(us_value_slice(l, prior, 0, c, &mu));
    US_TRY(us_value_slice(l, prior, c, c, &r));
    const us_value like = l->values[mu];
    US_TRY(us_value_op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &sigma));
    l->aux[2 * i] = mu;
    l->aux[2 * i + 1] = sigma;
    us_value v = {.kind = US_V_OP, .code = US_U_KL, .n_in = 5, .c = c, .h = like.h, .w = like.w,
                  .in = {l->forward[latent], mu, sigma, l->aux[2 * latent], l->aux[2 * latent + 1]}};
    US_TRY(us_emit_value(l, v, &kl));
    p->kl_sums[n->level] = p->n_sums;
    US_TRY(us_emit_sum(l, kl, p->n_sums));
    p->n_sums += c;
    return USPLIT_OK;
}

// Both distributions' sigmas are evaluated again here; equal expressions share a register (emit.c).
static usplit_status forward_kl_full(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int part[4], kl;            // mu_q, sigma_q, mu_p, sigma_p
    for (int j = 0; j < 2; j++) {
        int x = l->forward[n->in[j]], r;
        US_TRY(us_value_slice(l, x, 0, n->c, &part[2 * j]));
        US_TRY(us_value_slice(l, x, n->c, n->c, &r));
        const us_value like = l->values[r];
        US_TRY(us_value_op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &part[2 * j + 1]));
        l->aux[2 * i + j] = part[2 * j + 1];
    }
    const us_value like = l->values[part[0]];
    us_value v = {.kind = US_V_OP, .code = US_U_KL_FULL, .n_in = 4, .c = n->c, .h = like.h, .w = like.w,
                  .in = {part[0], part[1], part[2], part[3]}};
    US_TRY(us_emit_value(l, v, &kl));
    p->kl_sums[n->level] = p->n_sums;
    US_TRY(us_emit_sum(l, kl, p->n_sums));
    p->n_sums += n->c;
    return USPLIT_OK;
}

// Which of the graph's losses node i is.
int us_lower_loss_number(const us_graph *g, int i)
{
    int number = 0;
    while (number < g->n_losses - 1 && g->losses[number] != i) {
        number++;
    }
    return number;
}

static usplit_status sum_loss(us_lowering *l, int i, int value)
{
    us_plan *p = l->plan;
    p->loss_sums[us_lower_loss_number(l->graph, i)] = p->n_sums;
    US_TRY(us_emit_sum(l, value, p->n_sums));
    p->n_sums += l->graph->nodes[i].c;
    return USPLIT_OK;
}

static usplit_status forward_nll(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int head = l->forward[n->in[0]], target = l->forward[n->in[1]], mean, raw, lv, nll;
    US_TRY(us_value_slice(l, head, 0, n->c, &mean));
    US_TRY(us_value_slice(l, head, n->c, n->c, &raw));
    const us_value like = l->values[mean];
    US_TRY(us_value_op(l, US_U_MAX, &like, raw, -1, -1, (us_value){.k = (float)n->value}, &lv));
    US_TRY(us_value_op(l, US_U_NLL, &like, target, mean, lv, US_NONE, &nll));
    l->aux[2 * i] = mean;
    l->aux[2 * i + 1] = lv;
    return sum_loss(l, i, nll);
}

static usplit_status forward_mse(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int output = l->forward[n->in[0]], target = l->forward[n->in[1]], mse;
    const us_value like = l->values[output];
    US_TRY(us_value_op(l, US_U_MSE, &like, target, output, -1, (us_value){.k = (float)n->value}, &mse));
    return sum_loss(l, i, mse);
}

// The caller reads the output and fills the gradient when the forward pass has ended.
static usplit_status forward_extern(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    int x = l->forward[l->graph->nodes[i].in[0]], number = us_lower_loss_number(l->graph, i);
    US_TRY(us_emit_tensor(l, x, us_emit_full(l, x), &p->extern_out[number]));
    p->tensors[p->extern_out[number]].output = 1;
    return USPLIT_OK;
}

static usplit_status forward_window(us_lowering *l, int i, int *out)
{
    const us_node *n = &l->graph->nodes[i], *in = &l->graph->nodes[n->in[0]];
    int x = l->forward[n->in[0]];
    int pads = n->dy < 0 || n->dx < 0 || n->dy + n->h > in->h || n->dx + n->w > in->w;
    if (pads) {     // zeros are read outside a tensor, not outside an expression
        l->values[x].keep = 1;
        US_TRY(us_emit_keep(l, x, us_value_wanted(l, x)));
    }
    return us_value_window(l, x, &(us_value){.dy = n->dy, .dx = n->dx, .h = n->h, .w = n->w}, out);
}

us_value us_lower_drop(const us_node *n)
{
    return (us_value){.ref = n->level, .k = (float)n->w, .k2 = (float)n->c};
}

static usplit_status forward(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    for (int j = 0; j < n->n_in; j++) {
        int parts = us_value_parts(n, j);
        US_TRY(parts ? us_value_readable(l, l->forward[n->in[j]], parts) : USPLIT_OK);
    }
    int a = n->n_in > 0 ? l->forward[n->in[0]] : -1, b = n->n_in > 1 ? l->forward[n->in[1]] : -1;
    int *out = &l->forward[i];
    const us_value like = {.c = n->c, .h = n->h, .w = n->w};
    switch (n->op) {
    case US_OP_INPUT: return external(l, n, &p->input[n->level], out);
    case US_OP_TARGET: return external(l, n, &p->target, out);
    case US_OP_PRIOR: return us_value_op(l, US_U_PARAM, &like, -1, -1, -1, (us_value){.ref = n->weight}, out);
    case US_OP_CONV:
    case US_OP_TCONV: return forward_conv(l, i, out);
    case US_OP_BNORM: return forward_bnorm(l, i, out);
    case US_OP_ELU: return us_value_op(l, US_U_ELU, &like, a, -1, -1, US_NONE, out);
    case US_OP_LEAKY: return us_value_op(l, US_U_LEAKY, &like, a, -1, -1, (us_value){.k = (float)n->value}, out);
    case US_OP_SIGMOID: return us_value_op(l, US_U_SIGMOID, &like, a, -1, -1, US_NONE, out);
    case US_OP_DROP:
        if (p->options.mode != US_PLAN_TRAIN) {
            *out = a;
            return USPLIT_OK;
        }
        return us_value_op(l, US_U_DROP, &like, a, -1, -1, us_lower_drop(n), out);
    case US_OP_DROPOUT:
        if (p->options.mode != US_PLAN_TRAIN) {
            *out = a;
            return USPLIT_OK;
        }
        p->masks[n->level] = (us_mask){.c = n->c, .offset = p->n_vec};
        p->n_vec += (int64_t)round_up(n->c, 16) * p->options.batch;
        return us_value_op(l, US_U_MASK, &like, a, -1, -1, (us_value){.ref = n->level}, out);
    case US_OP_GATE: return forward_gate(l, i, out);
    case US_OP_ADD: return us_value_op(l, US_U_ADD, &like, a, b, -1, US_NONE, out);
    case US_OP_SCALE: return us_value_op(l, US_U_SCALE, &like, a, -1, -1, (us_value){.k = (float)n->value}, out);
    case US_OP_CONCAT: return us_value_concat(l, a, b, out);
    case US_OP_WINDOW: return forward_window(l, i, out);
    case US_OP_LATENT: return forward_latent(l, i, out);
    case US_OP_POOL:
    case US_OP_LINEAR:
    case US_OP_NEAREST:
    case US_OP_REFLECT:
    case US_OP_SCAN:
    case US_OP_LEVEL: return forward_spatial(l, i, out);
    case US_OP_KL: return forward_kl(l, i);
    case US_OP_KL_FULL: return forward_kl_full(l, i);
    case US_OP_NLL: return forward_nll(l, i);
    case US_OP_MSE: return forward_mse(l, i);
    case US_OP_EXTERN: return forward_extern(l, i);
    case US_OP_COUNT: break;
    }
    US_FAIL(USPLIT_ERR_INTERNAL, "internal: op %d has no forward rule", (int)n->op);
}

// ---- The whole ----

// Values read more than once get memory; the cheap ones (affine, mask, scale, layout) are redone instead.
static int deserves_memory(const us_lowering *l, int node)
{
    const us_graph *g = l->graph;
    us_op kind = g->nodes[node].op;
    if (kind != US_OP_ELU && kind != US_OP_LEAKY && kind != US_OP_SIGMOID && kind != US_OP_GATE && kind != US_OP_ADD &&
        kind != US_OP_LATENT) {
        return 0;
    }
    int uses = 0;
    for (int i = node + 1; i < g->n_nodes; i++) {
        for (int j = 0; l->used[i] && j < g->nodes[i].n_in; j++) {
            int statistics = g->nodes[i].op == US_OP_BNORM && l->plan->options.mode == US_PLAN_TRAIN;
            uses += (g->nodes[i].in[j] == node) * (1 + statistics);
        }
    }
    return uses > 1;
}

// The head of a prediction is handed over as the wanted window, even where it had to be computed whole.
static usplit_status lower_outputs(us_lowering *l, int node)
{
    us_plan *p = l->plan;
    us_rect rect = l->need[node];
    int read = p->options.mode == US_PLAN_PREDICT && node == l->graph->head;
    if (read && p->options.want.h) {
        rect = p->options.want;
    }
    for (int i = 0; i < p->options.n_outputs; i++) {
        if (p->options.outputs[i] == node) {
            rect = l->need[node];
            read = 1;
        }
    }
    if (!read) {
        return USPLIT_OK;
    }
    int tensor;
    US_TRY(us_emit_tensor(l, l->forward[node], rect, &tensor));
    p->tensors[tensor].output = 1;
    p->node_tensor[node] = tensor;
    return USPLIT_OK;
}

usplit_status us_lower(us_lowering *l)
{
    us_plan *p = l->plan;
    const us_graph *g = l->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!l->used[i]) {
            continue;
        }
        US_TRY(forward(l, i));
        if (deserves_memory(l, i)) {
            l->values[l->forward[i]].keep = 1;
            US_TRY(us_emit_keep(l, l->forward[i], l->need[i]));
        }
        US_TRY(lower_outputs(l, i));
    }
    p->first_backward = p->n_steps;
    if (p->options.mode != US_PLAN_TRAIN) {
        return USPLIT_OK;
    }
    US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_LOSS, .src = -1, .src2 = -1, .dst = -1}));
    p->first_backward = p->n_steps;
    us_emit_forget(l);
    l->in_backward = 1;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        if (l->used[i]) {
            l->now = p->n_steps;
            US_TRY(us_lower_back(l, i));
        }
    }
    for (int i = 0; i < l->n_pending; i++) {        // what no later barrier took along
        us_step s = l->pending_steps[i];
        US_TRY(us_plan_grow(p->a, &p->steps, p->n_steps, &p->cap_steps, sizeof *p->steps));
        p->tensors[s.src].last = p->n_steps;
        p->steps[p->n_steps++] = s;
    }
    return USPLIT_OK;
}
