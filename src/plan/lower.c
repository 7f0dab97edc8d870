// The forward and the backward rule of every op: graph nodes -> values and steps. Elementwise ops become
// expressions (emit.c fuses them); convolutions, batch statistics and losses become steps.
#include "plan/lowering.h"

static usplit_status op(us_lowering *l, us_uop_code code, const us_value *like, int a, int b, int c, us_value with,
                        int *out)
{
    us_value v = with;
    v.kind = US_V_OP;
    v.code = code;
    v.c = like->c, v.h = like->h, v.w = like->w;
    const int in[3] = {a, b, c};
    for (v.n_in = 0; v.n_in < 3 && in[v.n_in] >= 0; v.n_in++) {
        v.in[v.n_in] = in[v.n_in];
    }
    return us_emit_value(l, v, out);
}

#define NONE ((us_value){0})

static usplit_status slice(us_lowering *l, int x, int c0, int c, int *out)
{
    const us_value like = l->values[x];
    return us_emit_value(l, (us_value){.kind = US_V_SLICE, .n_in = 1, .in = {x}, .c0 = c0, .c = c, .h = like.h,
                                       .w = like.w}, out);
}

static usplit_status concat(us_lowering *l, int a, int b, int *out)
{
    const us_value x = l->values[a];
    return us_emit_value(l, (us_value){.kind = US_V_CONCAT, .n_in = 2, .in = {a, b}, .c = x.c + l->values[b].c,
                                       .h = x.h, .w = x.w}, out);
}

// Does an expression that reads channels [c0, c0 + c) of the value read across the border of a concatenation, or a part
// of the noise, which is drawn for all channels at once?
static int crosses(const us_lowering *l, int v, int c0, int c)
{
    const us_value *x = &l->values[v];
    if (x->kind == US_V_LEAF || x->keep) {
        return 0;
    }
    if (x->kind == US_V_CONCAT) {
        int first = l->values[x->in[0]].c, second = c0 >= first;
        return second ? crosses(l, x->in[1], c0 - first, c) : c0 + c > first || crosses(l, x->in[0], c0, c);
    }
    if (x->kind == US_V_SLICE) {
        return crosses(l, x->in[0], c0 + x->c0, c);
    }
    int hidden = x->kind == US_V_OP && x->code == US_U_NOISE && (c0 > 0 || c < x->c);
    for (int i = 0; i < x->n_in && !hidden; i++) {
        hidden = crosses(l, x->in[i], c0, c);
    }
    return hidden;
}

// A window of a concatenation is one of its parts.
static usplit_status window(us_lowering *l, int x, const us_value *at, int *out)
{
    const us_value in = l->values[x];
    us_value v = *at;
    v.kind = US_V_WINDOW;
    v.n_in = 1;
    v.in[0] = x;
    v.c = in.c;
    if (in.kind == US_V_CONCAT && !in.keep) {
        int first, second;
        US_TRY(window(l, in.in[0], at, &first));
        US_TRY(window(l, in.in[1], at, &second));
        return concat(l, first, second, out);
    }
    return us_emit_value(l, v, out);
}

static usplit_status leaf(us_lowering *l, int c, int h, int w, us_rect rect, int *out)
{
    int tensor;
    US_TRY(us_emit_new_tensor(l, c, h, w, rect, &tensor));
    return us_emit_value(l, (us_value){.kind = US_V_LEAF, .c = c, .h = h, .w = w, .tensor = tensor}, out);
}

static usplit_status external(us_lowering *l, const us_node *n, int *tensor, int *out)
{
    US_TRY(leaf(l, n->c, n->h, n->w, (us_rect){0, 0, n->h, n->w}, out));
    *tensor = l->values[*out].tensor;
    l->plan->tensors[*tensor].external = 1;
    return USPLIT_OK;
}

static int round_up(int n, int m)
{
    return (n + m - 1) / m * m;
}

// ---- Forward ----

// What is wanted of the value by any node: those that do nothing in prediction hand on their input's.
static us_rect wanted(const us_lowering *l, int value)
{
    us_rect all = {0, 0, 0, 0};
    for (int i = 0; i < l->graph->n_nodes; i++) {
        if (l->used[i] && l->forward[i] == value) {
            all = us_need_both(all, l->need[i]);
        }
    }
    return all;
}

// The value gets a tensor where the operation could not read it (`parts`: that many equal parts of its channels).
static usplit_status readable(us_lowering *l, int x, int parts)
{
    int c = l->values[x].c / parts, hidden = 0;
    for (int i = 0; i < parts; i++) {
        hidden |= crosses(l, x, i * c, c);
    }
    if (!hidden) {
        return USPLIT_OK;
    }
    l->values[x].keep = 1;
    return us_emit_keep(l, x, l->in_backward ? us_emit_full(l, x) : wanted(l, x));
}

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
    US_TRY(leaf(l, n->c, n->h, n->w, c.out, out));
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
    US_TRY(leaf(l, n->c, n->h, n->w, s.out, out));
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
    return op(l, US_U_AFFINE, &l->values[x], x, -1, -1, (us_value){.vec = {b.scale, b.shift}}, out);
}

static usplit_status forward_gate(us_lowering *l, int i, int *out)
{
    int x = l->forward[l->graph->nodes[i].in[0]], c = l->values[x].c / 2, a, t, e, s;
    US_TRY(slice(l, x, 0, c, &a));
    US_TRY(slice(l, x, c, c, &t));
    const us_value like = l->values[a];
    const us_node *n = &l->graph->nodes[i];
    US_TRY(op(l, n->leaky ? US_U_LEAKY : US_U_ELU, &like, a, -1, -1, (us_value){.k = (float)n->value}, &e));
    US_TRY(op(l, US_U_SIGMOID, &like, t, -1, -1, NONE, &s));
    l->aux[2 * i] = e;
    l->aux[2 * i + 1] = s;
    return op(l, US_U_MUL, &like, e, s, -1, NONE, out);
}

// z = mu + sigma * eps (networks 3.6).
static usplit_status forward_latent(us_lowering *l, int i, int *out)
{
    const us_node *n = &l->graph->nodes[i];
    int q = l->forward[n->in[0]], c = n->c, mu, r, sigma, eps;
    US_TRY(slice(l, q, 0, c, &mu));
    US_TRY(slice(l, q, c, c, &r));
    const us_value like = l->values[mu];
    US_TRY(op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &sigma));
    US_TRY(op(l, US_U_NOISE, &like, -1, -1, -1, (us_value){.ref = n->level}, &eps));
    l->aux[2 * i] = sigma;
    l->aux[2 * i + 1] = eps;
    return op(l, US_U_MADD, &like, mu, sigma, eps, NONE, out);
}

static usplit_status forward_kl(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int latent = n->in[1], prior = l->forward[n->in[2]], c = n->c, mu, r, sigma, kl;
    US_TRY(slice(l, prior, 0, c, &mu));
    US_TRY(slice(l, prior, c, c, &r));
    const us_value like = l->values[mu];
    US_TRY(op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &sigma));
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
        US_TRY(slice(l, x, 0, n->c, &part[2 * j]));
        US_TRY(slice(l, x, n->c, n->c, &r));
        const us_value like = l->values[r];
        US_TRY(op(l, US_U_SIGMA, &like, r, -1, -1, (us_value){.k = (float)n->value}, &part[2 * j + 1]));
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
static int loss_number(const us_graph *g, int i)
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
    p->loss_sums[loss_number(l->graph, i)] = p->n_sums;
    US_TRY(us_emit_sum(l, value, p->n_sums));
    p->n_sums += l->graph->nodes[i].c;
    return USPLIT_OK;
}

static usplit_status forward_nll(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int head = l->forward[n->in[0]], target = l->forward[n->in[1]], mean, raw, lv, nll;
    US_TRY(slice(l, head, 0, n->c, &mean));
    US_TRY(slice(l, head, n->c, n->c, &raw));
    const us_value like = l->values[mean];
    US_TRY(op(l, US_U_MAX, &like, raw, -1, -1, (us_value){.k = (float)n->value}, &lv));
    US_TRY(op(l, US_U_NLL, &like, target, mean, lv, NONE, &nll));
    l->aux[2 * i] = mean;
    l->aux[2 * i + 1] = lv;
    return sum_loss(l, i, nll);
}

static usplit_status forward_mse(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int output = l->forward[n->in[0]], target = l->forward[n->in[1]], mse;
    const us_value like = l->values[output];
    US_TRY(op(l, US_U_MSE, &like, target, output, -1, (us_value){.k = (float)n->value}, &mse));
    return sum_loss(l, i, mse);
}

// The caller reads the output and fills the gradient when the forward pass has ended.
static usplit_status forward_extern(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    int x = l->forward[l->graph->nodes[i].in[0]], number = loss_number(l->graph, i);
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
        US_TRY(us_emit_keep(l, x, wanted(l, x)));
    }
    return window(l, x, &(us_value){.dy = n->dy, .dx = n->dx, .h = n->h, .w = n->w}, out);
}

static us_value drop_of(const us_node *n)
{
    return (us_value){.ref = n->level, .k = (float)n->w, .k2 = (float)n->c};
}

// Into how many parts does an operation split its input's channels? 0: it reads no single values of it.
static int parts_of(const us_node *n, int input)
{
    switch (n->op) {
    case US_OP_GATE:
    case US_OP_LATENT:
    case US_OP_KL_FULL: return 2;
    case US_OP_KL: return input == 1 ? 1 : 2;
    case US_OP_NLL: return input == 0 ? 2 : 1;
    case US_OP_BNORM:
    case US_OP_ELU:
    case US_OP_LEAKY:
    case US_OP_SIGMOID:
    case US_OP_DROPOUT:
    case US_OP_DROP:
    case US_OP_ADD:
    case US_OP_SCALE:
    case US_OP_MSE: return 1;
    default: return 0;
    }
}

static usplit_status forward(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    for (int j = 0; j < n->n_in; j++) {
        int parts = parts_of(n, j);
        US_TRY(parts ? readable(l, l->forward[n->in[j]], parts) : USPLIT_OK);
    }
    int a = n->n_in > 0 ? l->forward[n->in[0]] : -1, b = n->n_in > 1 ? l->forward[n->in[1]] : -1;
    int *out = &l->forward[i];
    const us_value like = {.c = n->c, .h = n->h, .w = n->w};
    switch (n->op) {
    case US_OP_INPUT: return external(l, n, &p->input[n->level], out);
    case US_OP_TARGET: return external(l, n, &p->target, out);
    case US_OP_PRIOR: return op(l, US_U_PARAM, &like, -1, -1, -1, (us_value){.ref = n->weight}, out);
    case US_OP_CONV:
    case US_OP_TCONV: return forward_conv(l, i, out);
    case US_OP_BNORM: return forward_bnorm(l, i, out);
    case US_OP_ELU: return op(l, US_U_ELU, &like, a, -1, -1, NONE, out);
    case US_OP_LEAKY: return op(l, US_U_LEAKY, &like, a, -1, -1, (us_value){.k = (float)n->value}, out);
    case US_OP_SIGMOID: return op(l, US_U_SIGMOID, &like, a, -1, -1, NONE, out);
    case US_OP_DROP:
        if (p->options.mode != US_PLAN_TRAIN) {
            *out = a;
            return USPLIT_OK;
        }
        return op(l, US_U_DROP, &like, a, -1, -1, drop_of(n), out);
    case US_OP_DROPOUT:
        if (p->options.mode != US_PLAN_TRAIN) {
            *out = a;
            return USPLIT_OK;
        }
        p->masks[n->level] = (us_mask){.c = n->c, .offset = p->n_vec};
        p->n_vec += (int64_t)round_up(n->c, 16) * p->options.batch;
        return op(l, US_U_MASK, &like, a, -1, -1, (us_value){.ref = n->level}, out);
    case US_OP_GATE: return forward_gate(l, i, out);
    case US_OP_ADD: return op(l, US_U_ADD, &like, a, b, -1, NONE, out);
    case US_OP_SCALE: return op(l, US_U_SCALE, &like, a, -1, -1, (us_value){.k = (float)n->value}, out);
    case US_OP_CONCAT: return concat(l, a, b, out);
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

// ---- Backward ----

static usplit_status sum_of(us_lowering *l, int a, int b, int *out)
{
    const us_value x = l->values[a], y = l->values[b];
    if (x.kind == US_V_CONCAT && y.kind == US_V_CONCAT && l->values[x.in[0]].c == l->values[y.in[0]].c) {
        int first, second;      // part by part: an expression cannot read across the border of a concatenation
        US_TRY(sum_of(l, x.in[0], y.in[0], &first));
        US_TRY(sum_of(l, x.in[1], y.in[1], &second));
        return concat(l, first, second, out);
    }
    US_TRY(readable(l, a, 1));
    US_TRY(readable(l, b, 1));
    return op(l, US_U_ADD, &y, a, b, -1, NONE, out);
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

static usplit_status backward_conv(us_lowering *l, int i, int g)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int conv = l->aux[2 * i], x = l->forward[n->in[0]], src, grad, partial, back;
    const us_conv c = p->convs[conv];
    US_ASSERT(c.in.h == c.in_h && c.in.w == c.in_w);    // rows that no output reads are cut off before (WINDOW)
    p->convs[conv].adds_up = p->has_grad[c.weight];
    p->has_grad[c.weight] = 1;
    US_TRY(us_emit_tensor(l, x, us_emit_full(l, x), &src));
    US_TRY(us_emit_tensor(l, g, us_emit_full(l, g), &grad));
    if (p->options.layout == US_LAYOUT_BATCH) {     // all samples at once: nothing partial to add up
        if (c.bias >= 0) {
            p->convs[conv].bias_sums = p->n_sums;
            p->n_sums += c.co;
            US_TRY(us_emit_sum(l, g, p->convs[conv].bias_sums));
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
    US_TRY(leaf(l, c.ci, c.in_h, c.in_w, (us_rect){0, 0, c.in_h, c.in_w}, &back));
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
    US_TRY(op(l, US_U_AFFINE, &like, x, -1, -1, (us_value){.vec = {b.inverse, b.centre}}, &xh));
    US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
    US_TRY(us_emit_sum2(l, g, xh, b.grad_sums));
    US_TRY(us_emit_step(l, (us_step){.kind = US_STEP_BN_BACK, .index = at, .src = -1, .src2 = -1, .dst = -1}));
    p->bnorms[at].adds_up = p->has_grad[b.gamma];
    p->has_grad[b.gamma] = p->has_grad[b.beta] = 1;
    if (!l->grad_flows[n->in[0]]) {
        return USPLIT_OK;
    }
    US_TRY(op(l, US_U_AFFINE2, &like, g, xh, -1, (us_value){.vec = {b.ga, b.gb, b.gc}}, &dx));
    return add_gradient(l, n->in[0], dx);
}

static usplit_status backward_gate(us_lowering *l, int i, int g)
{
    int e = l->aux[2 * i], s = l->aux[2 * i + 1], gs, ge, da, dt, both;
    const us_value like = l->values[g];
    const us_node *n = &l->graph->nodes[i];
    US_TRY(op(l, US_U_MUL, &like, g, s, -1, NONE, &gs));
    US_TRY(op(l, n->leaky ? US_U_LEAKY_GRAD : US_U_ELU_GRAD, &like, gs, e, -1, (us_value){.k = (float)n->value}, &da));
    US_TRY(op(l, US_U_MUL, &like, g, e, -1, NONE, &ge));
    US_TRY(op(l, US_U_SIGMOID_GRAD, &like, ge, s, -1, NONE, &dt));
    US_TRY(concat(l, da, dt, &both));
    return add_gradient(l, l->graph->nodes[i].in[0], both);
}

// g is the whole gradient on z; the KL's direct share of dsigma_q is added here (networks 3.6).
static usplit_status backward_latent(us_lowering *l, int i, int g)
{
    const us_node *n = &l->graph->nodes[i];
    int q = l->forward[n->in[0]], sigma = l->aux[2 * i], eps = l->aux[2 * i + 1], r, ds, dr, both;
    const us_value like = l->values[g];
    US_TRY(slice(l, q, n->c, n->c, &r));
    int kl = l->graph->kl[n->level];
    if (kl >= 0 && l->graph->nodes[kl].op == US_OP_KL) {
        US_TRY(op(l, US_U_KL_DSQ, &like, g, eps, sigma, (us_value){.ref = n->level}, &ds));
    } else {
        US_TRY(op(l, US_U_MUL, &like, g, eps, -1, NONE, &ds));
    }
    US_TRY(op(l, US_U_SIGMA_GRAD, &like, ds, r, sigma, (us_value){.k = (float)n->value}, &dr));
    US_TRY(concat(l, g, dr, &both));
    return add_gradient(l, n->in[0], both);
}

static usplit_status backward_kl(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int z = l->forward[n->in[1]], mu = l->aux[2 * i], sigma = l->aux[2 * i + 1], r, dz, dmu, ds, dr, both;
    const us_value like = l->values[mu];
    const us_value level = {.ref = n->level};
    US_TRY(slice(l, l->forward[n->in[2]], n->c, n->c, &r));
    US_TRY(op(l, US_U_KL_DZ, &like, z, mu, sigma, level, &dz));
    US_TRY(op(l, US_U_SCALE, &like, dz, -1, -1, (us_value){.k = -1}, &dmu));
    US_TRY(op(l, US_U_KL_DSP, &like, z, mu, sigma, level, &ds));
    US_TRY(op(l, US_U_SIGMA_GRAD, &like, ds, r, sigma, (us_value){.k = (float)n->value}, &dr));
    US_TRY(concat(l, dmu, dr, &both));
    US_TRY(add_gradient(l, n->in[1], dz));
    return add_gradient(l, n->in[2], both);
}

static usplit_status backward_kl_full(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    const us_value level = {.ref = n->level}, clip = {.k = (float)n->value};
    int mu[2], raw[2], sq = l->aux[2 * i], sp = l->aux[2 * i + 1], dmu[2], ds[2], dr[2], both;
    for (int j = 0; j < 2; j++) {
        US_TRY(slice(l, l->forward[n->in[j]], 0, n->c, &mu[j]));
        US_TRY(slice(l, l->forward[n->in[j]], n->c, n->c, &raw[j]));
    }
    const us_value like = l->values[mu[0]];
    US_TRY(op(l, US_U_KL_FULL_DMQ, &like, mu[0], mu[1], sp, level, &dmu[0]));
    US_TRY(op(l, US_U_SCALE, &like, dmu[0], -1, -1, (us_value){.k = -1}, &dmu[1]));
    US_TRY(op(l, US_U_KL_FULL_DSQ, &like, sq, sp, -1, level, &ds[0]));
    us_value v = {.kind = US_V_OP, .code = US_U_KL_FULL_DSP, .n_in = 4, .in = {mu[0], sq, mu[1], sp}, .c = like.c,
                  .h = like.h, .w = like.w, .ref = n->level};
    US_TRY(us_emit_value(l, v, &ds[1]));
    const int sigma[2] = {sq, sp};
    for (int j = 0; j < 2; j++) {
        US_TRY(op(l, US_U_SIGMA_GRAD, &like, ds[j], raw[j], sigma[j], clip, &dr[j]));
        US_TRY(concat(l, dmu[j], dr[j], &both));
        US_TRY(add_gradient(l, n->in[j], both));
    }
    return USPLIT_OK;
}

// Of one pixel's loss of one channel in the reconstruction loss (networks 5.2).
static double pixel_weight(const us_lowering *l, int i)
{
    const us_graph *g = l->graph;
    const us_node *n = &g->nodes[i], *head = &g->nodes[n->in[0]];
    return g->loss_weight[loss_number(g, i)] / ((double)n->c * l->plan->options.batch * head->h * head->w);
}

static usplit_status backward_mse(us_lowering *l, int i)
{
    const us_node *n = &l->graph->nodes[i];
    int output = l->forward[n->in[0]], target = l->forward[n->in[1]], d;
    const us_value like = l->values[output];
    US_TRY(op(l, US_U_MSE_D, &like, target, output, -1,
              (us_value){.k = (float)(2 * n->value * pixel_weight(l, i))}, &d));
    return add_gradient(l, n->in[0], d);
}

static usplit_status backward_extern(us_lowering *l, int i)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int g, number = loss_number(l->graph, i);
    const us_value x = l->values[l->forward[n->in[0]]];
    US_TRY(leaf(l, x.c, x.h, x.w, us_emit_full(l, l->forward[n->in[0]]), &g));
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
    US_TRY(slice(l, l->forward[n->in[0]], n->c, n->c, &raw));
    US_TRY(op(l, US_U_NLL_DM, &like, target, mean, lv, (us_value){.k = (float)weight}, &dm));
    us_value v = {.kind = US_V_OP, .code = US_U_NLL_DLV, .n_in = 4, .in = {target, mean, lv, raw},
                  .c = like.c, .h = like.h, .w = like.w, .k = (float)weight, .k2 = (float)n->value};
    US_TRY(us_emit_value(l, v, &dlv));
    US_TRY(concat(l, dm, dlv, &both));
    return add_gradient(l, n->in[0], both);
}

static usplit_status backward_window(us_lowering *l, int i, int g)
{
    const us_node *n = &l->graph->nodes[i], *in = &l->graph->nodes[n->in[0]];
    int pads = n->dy > 0 || n->dx > 0 || n->h - n->dy < in->h || n->w - n->dx < in->w, out;
    if (pads) {
        US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
    }
    US_TRY(window(l, g, &(us_value){.dy = -n->dy, .dx = -n->dx, .h = in->h, .w = in->w}, &out));
    return add_gradient(l, n->in[0], out);
}

// The adjoint of a spatial op. Pooling and recurrences look at their input again, recurrences at their output too.
static usplit_status backward_spatial(us_lowering *l, int i, int g)
{
    us_plan *p = l->plan;
    const us_node *n = &l->graph->nodes[i];
    int at = l->aux[2 * i], x = l->forward[n->in[0]], y = l->forward[i], src, src2 = -1, scanned = -1, partial = -1, back;
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
    US_TRY(leaf(l, l->values[x].c, l->values[x].h, l->values[x].w, us_emit_full(l, x), &back));
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

static usplit_status backward(us_lowering *l, int i)
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
    US_TRY(parts_of(n, 0) ? readable(l, g, 1) : USPLIT_OK);
    switch (n->op) {
    case US_OP_CONV:
    case US_OP_TCONV: return backward_conv(l, i, g);
    case US_OP_BNORM: return backward_bnorm(l, i, g);
    case US_OP_ELU:
        US_TRY(op(l, US_U_ELU_GRAD, &like, g, l->forward[i], -1, NONE, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_LEAKY:
        US_TRY(op(l, US_U_LEAKY_GRAD, &like, g, l->forward[i], -1, (us_value){.k = (float)n->value}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_SIGMOID:
        US_TRY(op(l, US_U_SIGMOID_GRAD, &like, g, l->forward[i], -1, NONE, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_DROPOUT:
        US_TRY(op(l, US_U_MASK, &like, g, -1, -1, (us_value){.ref = n->level}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_DROP:
        US_TRY(op(l, US_U_DROP, &like, g, -1, -1, drop_of(n), &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_SCALE:
        US_TRY(op(l, US_U_SCALE, &like, g, -1, -1, (us_value){.k = (float)n->value}, &out));
        return add_gradient(l, n->in[0], out);
    case US_OP_GATE: return backward_gate(l, i, g);
    case US_OP_ADD:
        US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
        US_TRY(add_gradient(l, n->in[0], g));
        return add_gradient(l, n->in[1], g);
    case US_OP_CONCAT: {
        int a = l->graph->nodes[n->in[0]].c, b = l->graph->nodes[n->in[1]].c;
        if (crosses(l, g, 0, a) || crosses(l, g, a, b)) {
            US_TRY(us_emit_keep(l, g, us_emit_full(l, g)));
        }
        US_TRY(slice(l, g, 0, a, &out));
        US_TRY(add_gradient(l, n->in[0], out));
        US_TRY(slice(l, g, a, b, &out));
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
            US_TRY(backward(l, i));
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
