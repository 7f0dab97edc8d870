// Values made of values: the expressions, windows and concatenations that the rules of lower.c and backward.c are
// written with, and when a value needs memory because an expression could not read it.
#include "plan/lowering.h"

usplit_status us_value_op(us_lowering *l, us_uop_code code, const us_value *like, int a, int b, int c, us_value with,
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

usplit_status us_value_slice(us_lowering *l, int x, int c0, int c, int *out)
{
    const us_value like = l->values[x];
    return us_emit_value(l, (us_value){.kind = US_V_SLICE, .n_in = 1, .in = {x}, .c0 = c0, .c = c, .h = like.h,
                                       .w = like.w}, out);
}

usplit_status us_value_concat(us_lowering *l, int a, int b, int *out)
{
    const us_value x = l->values[a];
    return us_emit_value(l, (us_value){.kind = US_V_CONCAT, .n_in = 2, .in = {a, b}, .c = x.c + l->values[b].c,
                                       .h = x.h, .w = x.w}, out);
}

// Does an expression that reads channels [c0, c0 + c) of the value read across the border of a concatenation, or a part
// of the noise, which is drawn for all channels at once?
int us_value_crosses(const us_lowering *l, int v, int c0, int c)
{
    const us_value *x = &l->values[v];
    if (x->kind == US_V_LEAF || x->keep) {
        return 0;
    }
    if (x->kind == US_V_CONCAT) {
        int first = l->values[x->in[0]].c, second = c0 >= first;
        if (second) {
            return us_value_crosses(l, x->in[1], c0 - first, c);
        }
        return c0 + c > first || us_value_crosses(l, x->in[0], c0, c);
    }
    if (x->kind == US_V_SLICE) {
        return us_value_crosses(l, x->in[0], c0 + x->c0, c);
    }
    int hidden = x->kind == US_V_OP && x->code == US_U_NOISE && (c0 > 0 || c < x->c);
    for (int i = 0; i < x->n_in && !hidden; i++) {
        hidden = us_value_crosses(l, x->in[i], c0, c);
    }
    return hidden;
}

// A window of a concatenation is one of its parts.
usplit_status us_value_window(us_lowering *l, int x, const us_value *at, int *out)
{
    const us_value in = l->values[x];
    us_value v = *at;
    v.kind = US_V_WINDOW;
    v.n_in = 1;
    v.in[0] = x;
    v.c = in.c;
    if (in.kind == US_V_CONCAT && !in.keep) {
        int first, second;
        US_TRY(us_value_window(l, in.in[0], at, &first));
        US_TRY(us_value_window(l, in.in[1], at, &second));
        return us_value_concat(l, first, second, out);
    }
    return us_emit_value(l, v, out);
}

usplit_status us_value_leaf(us_lowering *l, int c, int h, int w, us_rect rect, int *out)
{
    int tensor;
    US_TRY(us_emit_new_tensor(l, c, h, w, rect, &tensor));
    return us_emit_value(l, (us_value){.kind = US_V_LEAF, .c = c, .h = h, .w = w, .tensor = tensor}, out);
}

// What is wanted of the value by any node: those that do nothing in prediction hand on their input's.
us_rect us_value_wanted(const us_lowering *l, int value)
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
usplit_status us_value_readable(us_lowering *l, int x, int parts)
{
    int c = l->values[x].c / parts, hidden = 0;
    for (int i = 0; i < parts; i++) {
        hidden |= us_value_crosses(l, x, i * c, c);
    }
    if (!hidden) {
        return USPLIT_OK;
    }
    l->values[x].keep = 1;
    return us_emit_keep(l, x, l->in_backward ? us_emit_full(l, x) : us_value_wanted(l, x));
}

// Into how many parts does an operation split its input's channels? 0: it reads no single values of it.
int us_value_parts(const us_node *n, int input)
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
