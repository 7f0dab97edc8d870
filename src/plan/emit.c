// Turns values into steps: fuses elementwise expressions into programs, shares common subexpressions,
// decides when a value gets memory. Consecutive programs over the same domain become one.
#include <string.h>

#include "plan/lowering.h"

usplit_status us_plan_grow(const us_allocator *a, void *array, int n, int *cap, size_t size)
{
    if (n < *cap) {
        return USPLIT_OK;
    }
    int grown_cap = *cap ? 2 * *cap : 64;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = us_alloc(a, (size_t)grown_cap, size);
    if (!grown) {
        return USPLIT_ERR_MEMORY;
    }
    if (n) {
        memcpy(grown, old, (size_t)n * size);
    }
    us_free(a, old);
    memcpy(array, &grown, sizeof grown);
    *cap = grown_cap;
    return USPLIT_OK;
}

usplit_status us_emit_value(us_lowering *l, us_value value, int *out)
{
    US_TRY(us_plan_grow(l->plan->a, &l->values, l->n_values, &l->cap_values, sizeof *l->values));
    if (value.kind != US_V_LEAF) {
        value.tensor = -1;
    }
    *out = l->n_values;
    l->values[l->n_values++] = value;
    return USPLIT_OK;
}

us_rect us_emit_full(const us_lowering *l, int value)
{
    return (us_rect){0, 0, l->values[value].h, l->values[value].w};
}

static void forget_temporaries(us_lowering *l)
{
    for (int i = 0; i < l->n_values; i++) {
        if (l->values[i].temporary) {
            l->values[i].temporary = 0;
            l->values[i].tensor = -1;
        }
    }
}

void us_emit_forget(us_lowering *l)
{
    for (int i = 0; i < l->n_values; i++) {
        if (l->values[i].kind != US_V_LEAF || l->values[i].redo) {
            l->values[i].tensor = -1;
            l->values[i].temporary = 0;
        }
    }
    l->n_open = 0;
}

static usplit_status push_step(us_lowering *l, us_step step)
{
    us_plan *p = l->plan;
    US_TRY(us_plan_grow(p->a, &p->steps, p->n_steps, &p->cap_steps, sizeof *p->steps));
    int at = p->n_steps;
    const int reads[2] = {step.src, step.src2};
    for (int i = 0; i < 2; i++) {
        if (reads[i] >= 0) {
            p->tensors[reads[i]].last = at;
        }
    }
    if (step.dst >= 0) {
        p->tensors[step.dst].first = at;
        p->tensors[step.dst].last = at;
    }
    if (step.kind == US_STEP_SPATIAL_BACK && p->spatials[step.index].scanned >= 0) {
        p->tensors[p->spatials[step.index].scanned].last = at;
        p->tensors[p->spatials[step.index].partial].first = at;
        p->tensors[p->spatials[step.index].partial].last = at;
    }
    p->steps[p->n_steps++] = step;
    l->n_open = 0;
    return USPLIT_OK;
}

// A barrier is also the moment to add up what waits; temporaries do not outlive it.
usplit_status us_emit_step(us_lowering *l, us_step step)
{
    if (step.kind == US_STEP_SUM_WEIGHT || step.kind == US_STEP_SUM_PRIOR) {
        US_TRY(us_plan_grow(l->plan->a, &l->pending_steps, l->n_pending, &l->cap_pending, sizeof step));
        l->pending_steps[l->n_pending++] = step;
        return USPLIT_OK;
    }
    US_TRY(push_step(l, step));
    if (us_step_is_barrier(step.kind)) {
        for (int i = 0; i < l->n_pending; i++) {
            US_TRY(push_step(l, l->pending_steps[i]));
        }
        l->n_pending = 0;
        forget_temporaries(l);
    }
    return USPLIT_OK;
}

usplit_status us_emit_new_tensor(us_lowering *l, int c, int h, int w, us_rect rect, int *out)
{
    us_plan *p = l->plan;
    US_TRY(us_plan_grow(p->a, &p->tensors, p->n_tensors, &p->cap_tensors, sizeof *p->tensors));
    p->tensors[p->n_tensors] = (us_tensor){.c = c, .h = rect.h, .w = rect.w, .y0 = rect.y0, .x0 = rect.x0,
                                           .node_h = h, .node_w = w, .floats = (int64_t)c * rect.h * rect.w,
                                           .first = p->n_steps, .last = p->n_steps};
    *out = p->n_tensors++;
    return USPLIT_OK;
}

static int has_tensor(const us_lowering *l, int v)
{
    const us_value *x = &l->values[v];
    if (x->tensor < 0) {
        return 0;
    }
    int always = (x->kind == US_V_LEAF && !x->redo) || !l->in_backward || (!x->keep && !x->redo) || x->keep > 1;
    return always || l->now - x->made <= US_RECOMPUTE_REACH;
}

// ---- Evaluating an expression into registers of the open program ----

static us_program *open_program(us_lowering *l)
{
    return &l->plan->programs[l->plan->n_programs - 1];
}

static us_open_entry *find_open(us_lowering *l, int v, int oy, int ox, int c0)
{
    for (int i = 0; i < l->n_open; i++) {
        us_open_entry *e = &l->open[i];
        if (e->value == v && e->oy == oy && e->ox == ox && e->c0 == c0) {
            return e;
        }
    }
    return NULL;
}

static usplit_status push_op(us_lowering *l, us_uop op, int *reg)
{
    us_program *p = open_program(l);
    US_TRY(us_plan_grow(l->plan->a, &p->ops, p->n_ops, &p->cap_ops, sizeof *p->ops));
    op.dst = reg ? p->n_regs++ : -1;
    if (reg) {
        *reg = op.dst;
    }
    if (op.code == US_U_LOAD) {
        l->plan->tensors[op.ref].last = l->plan->n_steps - 1;
    }
    p->ops[p->n_ops++] = op;
    return USPLIT_OK;
}

// (oy, ox): where the program's corner lies in the coordinates of value v; c0: first channel wanted.
static usplit_status eval(us_lowering *l, int v, int oy, int ox, int c0, int *reg)
{
    us_open_entry *known = find_open(l, v, oy, ox, c0);
    if (known) {
        *reg = known->reg;
        return USPLIT_OK;
    }
    const us_value x = l->values[v];
    if (has_tensor(l, v)) {
        const us_tensor *t = &l->plan->tensors[x.tensor];
        US_TRY(push_op(l, (us_uop){.code = US_U_LOAD, .ref = x.tensor, .c0 = c0, .oy = oy - t->y0,
                                   .ox = ox - t->x0}, reg));
    } else if (x.kind == US_V_WINDOW) {
        US_TRY(eval(l, x.in[0], oy + x.dy, ox + x.dx, c0, reg));
    } else if (x.kind == US_V_SLICE) {
        US_TRY(eval(l, x.in[0], oy, ox, c0 + x.c0, reg));
    } else if (x.kind == US_V_CONCAT) {
        int first = l->values[x.in[0]].c, second = c0 >= first;
        US_ASSERT(second || c0 + open_program(l)->c <= first);
        US_TRY(eval(l, x.in[second], oy, ox, c0 - second * first, reg));
    } else {
        US_ASSERT(x.kind == US_V_OP);
        us_uop op = {.code = x.code, .ref = x.ref, .c0 = c0, .oy = oy, .ox = ox, .k = x.k, .k2 = x.k2};
        for (int i = 0; i < x.n_in; i++) {
            US_TRY(eval(l, x.in[i], oy, ox, c0, &op.in[i]));
        }
        for (int i = 0; i < 3; i++) {
            op.vec[i] = x.vec[i] + c0;
        }
        US_TRY(push_op(l, op, reg));
    }
    US_TRY(us_plan_grow(l->plan->a, &l->open, l->n_open, &l->cap_open, sizeof *l->open));
    l->open[l->n_open++] = (us_open_entry){v, oy, ox, c0, *reg};
    return USPLIT_OK;
}

// Would evaluating v read a tensor that the open program itself writes?
static int reads_open_store(us_lowering *l, int v, int oy, int ox, int c0)
{
    if (find_open(l, v, oy, ox, c0)) {
        return 0;
    }
    const us_value *x = &l->values[v];
    if (has_tensor(l, v)) {
        const us_program *p = open_program(l);
        for (int i = 0; i < p->n_ops; i++) {
            if (p->ops[i].code == US_U_STORE && p->ops[i].ref == x->tensor) {
                return 1;
            }
        }
        return 0;
    }
    if (x->kind == US_V_WINDOW) {
        return reads_open_store(l, x->in[0], oy + x->dy, ox + x->dx, c0);
    }
    if (x->kind == US_V_SLICE) {
        return reads_open_store(l, x->in[0], oy, ox, c0 + x->c0);
    }
    if (x->kind == US_V_CONCAT) {
        int first = l->values[x->in[0]].c, second = c0 >= first;
        return reads_open_store(l, x->in[second], oy, ox, c0 - second * first);
    }
    for (int i = 0; i < x->n_in; i++) {
        if (reads_open_store(l, x->in[i], oy, ox, c0)) {
            return 1;
        }
    }
    return 0;
}

// Opens a program over h x w x c for values a and b (-1: none) with the corner at (oy, ox), or goes on
// with the last one.
static usplit_status begin(us_lowering *l, int h, int w, int c, int a, int b, int oy, int ox, int c0)
{
    us_plan *p = l->plan;
    const us_step *last = p->n_steps ? &p->steps[p->n_steps - 1] : NULL;
    if (last && last->kind == US_STEP_MAP && last->index == p->n_programs - 1) {
        const us_program *open = open_program(l);
        if (open->h == h && open->w == w && open->c == c && open->n_ops < 64 &&
            !reads_open_store(l, a, oy, ox, c0) && (b < 0 || !reads_open_store(l, b, oy, ox, c0))) {
            return USPLIT_OK;
        }
    }
    US_TRY(us_plan_grow(p->a, &p->programs, p->n_programs, &p->cap_programs, sizeof *p->programs));
    p->programs[p->n_programs] = (us_program){.h = h, .w = w, .c = c};
    p->n_programs++;
    return push_step(l, (us_step){.kind = US_STEP_MAP, .index = p->n_programs - 1, .src = -1, .src2 = -1,
                                  .dst = -1});
}

static usplit_status redo_step(us_lowering *l, int v)
{
    const us_value x = l->values[v];
    int src, dst;
    us_rect from = x.redo_kind == US_STEP_SPATIAL ? l->plan->spatials[x.redo - 1].in : us_emit_full(l, x.in[0]);
    US_TRY(us_emit_tensor(l, x.in[0], from, &src));
    US_TRY(us_emit_new_tensor(l, x.c, x.h, x.w, us_emit_full(l, v), &dst));
    US_TRY(us_emit_step(l, (us_step){.kind = x.redo_kind, .index = x.redo - 1, .src = src, .src2 = -1, .dst = dst}));
    l->values[v].tensor = dst;
    l->values[v].made = l->plan->n_steps;
    return USPLIT_OK;
}

// Recomputes what the expression needs and has lost (backward pass), outermost needs last.
static usplit_status ensure(us_lowering *l, int v)
{
    const us_value x = l->values[v];
    if (has_tensor(l, v)) {
        return USPLIT_OK;
    }
    if (x.redo) {
        return redo_step(l, v);
    }
    for (int i = 0; i < x.n_in; i++) {
        US_TRY(ensure(l, x.in[i]));
    }
    if (x.keep && l->in_backward && x.kind != US_V_LEAF) {
        int tensor;
        l->values[v].keep = 0;          // evaluate it, do not look for it
        l->values[v].tensor = -1;
        usplit_status status = us_emit_tensor(l, v, us_emit_full(l, v), &tensor);
        l->values[v].keep = x.keep;
        l->values[v].temporary = 0;
        return status;
    }
    return USPLIT_OK;
}

// Stores value v, channels [c0, c0 + c) of it at channel `at` of the tensor.
static usplit_status store(us_lowering *l, int v, int tensor, us_rect rect, int c, int at)
{
    int reg;
    US_TRY(begin(l, rect.h, rect.w, c, v, -1, rect.y0, rect.x0, 0));
    US_TRY(eval(l, v, rect.y0, rect.x0, 0, &reg));
    int here = l->plan->n_steps - 1;
    us_tensor *t = &l->plan->tensors[tensor];
    if (t->first > here) {
        t->first = here;
    }
    t->last = here;
    return push_op(l, (us_uop){.code = US_U_STORE, .in = {reg}, .ref = tensor, .c0 = at}, NULL);
}

static usplit_status store_parts(us_lowering *l, int v, int tensor, us_rect rect, int at)
{
    const us_value x = l->values[v];
    if (!has_tensor(l, v) && x.kind == US_V_CONCAT) {
        US_TRY(store_parts(l, x.in[0], tensor, rect, at));
        return store_parts(l, x.in[1], tensor, rect, at + l->values[x.in[0]].c);
    }
    if (!has_tensor(l, v) && x.kind == US_V_WINDOW && l->values[x.in[0]].kind == US_V_CONCAT &&
        !has_tensor(l, x.in[0])) {
        US_FAIL(USPLIT_ERR_INTERNAL, "internal: a window of a concatenation needs a tensor of its own");
    }
    return store(l, v, tensor, rect, x.c, at);
}

static int covers(const us_tensor *t, us_rect r)
{
    return t->y0 == r.y0 && t->x0 == r.x0 && t->h == r.h && t->w == r.w;
}

usplit_status us_emit_tensor(us_lowering *l, int value, us_rect rect, int *tensor)
{
    US_TRY(ensure(l, value));
    us_value *x = &l->values[value];
    if (has_tensor(l, value) && covers(&l->plan->tensors[x->tensor], rect)) {
        *tensor = x->tensor;
        return USPLIT_OK;
    }
    US_TRY(us_emit_new_tensor(l, x->c, x->h, x->w, rect, tensor));
    US_TRY(store_parts(l, value, *tensor, rect, 0));
    x = &l->values[value];
    if (rect.h == x->h && rect.w == x->w && x->kind != US_V_LEAF) {   // whole: others may read it too
        x->tensor = *tensor;
        x->made = l->plan->n_steps;
        x->temporary = 1;
    }
    return USPLIT_OK;
}

usplit_status us_emit_keep(us_lowering *l, int value, us_rect rect)
{
    int tensor;
    us_value *x = &l->values[value];
    if (x->kind == US_V_LEAF) {
        return USPLIT_OK;
    }
    US_TRY(us_emit_tensor(l, value, rect, &tensor));
    x = &l->values[value];
    x->tensor = tensor;
    x->made = l->plan->n_steps;
    x->temporary = 0;
    if (l->in_backward) {
        x->keep = 2;                    // a gradient: never recomputed
    }
    return USPLIT_OK;
}

usplit_status us_emit_sum(us_lowering *l, int value, int slot)
{
    int reg;
    const us_value x = l->values[value];
    US_TRY(ensure(l, value));
    US_TRY(begin(l, x.h, x.w, x.c, value, -1, 0, 0, 0));
    US_TRY(eval(l, value, 0, 0, 0, &reg));
    return push_op(l, (us_uop){.code = US_U_SUM, .in = {reg}, .ref = slot}, NULL);
}

usplit_status us_emit_sum2(us_lowering *l, int a, int b, int slot)
{
    int ra, rb;
    const us_value x = l->values[a];
    US_TRY(ensure(l, a));
    US_TRY(ensure(l, b));
    US_TRY(begin(l, x.h, x.w, x.c, a, b, 0, 0, 0));
    US_TRY(eval(l, a, 0, 0, 0, &ra));
    US_TRY(eval(l, b, 0, 0, 0, &rb));
    return push_op(l, (us_uop){.code = US_U_SUM2, .in = {ra, rb}, .ref = slot}, NULL);
}
