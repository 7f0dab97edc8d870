// Phases, lifetimes and places: every tensor gets a fixed offset, registers get slots.
#include <stdlib.h>
#include <string.h>

#include "plan/lowering.h"

static int64_t round16(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

// Where a STORE takes a whole register to a whole tensor, the register's only writer writes there. Registers still
// have one writer each.
static void write_in_place(const us_plan *plan, us_program *p)
{
    for (int i = 0; i < p->n_ops; i++) {
        p->ops[i].into = -1;
    }
    for (int i = p->n_ops - 1; i > 0; i--) {
        const us_uop *op = &p->ops[i];
        int whole = op->code == US_U_STORE && plan->tensors[op->ref].c == p->c;
        for (int j = 0; whole && j < i; j++) {
            if (p->ops[j].dst == op->in[0]) {
                p->ops[j].into = op->ref;
            }
        }
    }
}

static void find_last_reads(const us_program *p, int *last)
{
    for (int r = 0; r < p->n_regs; r++) {
        last[r] = p->n_ops;
    }
    for (int i = 0; i < p->n_ops; i++) {
        for (int j = 0; j < us_uop_arity(p->ops[i].code); j++) {
            last[p->ops[i].in[j]] = i;
        }
    }
}

typedef struct slots {
    int *last;                  // [register] the op that reads it last; n_ops: read by nobody, its slot stays taken
    int *slot;                  // [register]
    unsigned char *taken;       // [slot]
    int n;                      // slots used so far
} slots;

// The lowest slot that is free.
static int take_slot(slots *s)
{
    int at = 0;
    while (s->taken[at]) {
        at++;
    }
    s->taken[at] = 1;
    s->n = at + 1 > s->n ? at + 1 : s->n;
    return at;
}

// Numbers of registers become numbers of slots. A result never takes the slot of an operand: a LOAD's slot may stand
// for the tensor's own memory.
static void assign_op(us_uop *op, int number, slots *s)
{
    int dying[US_UOP_MAX_IN], n_dying = 0;
    for (int j = 0; j < us_uop_arity(op->code); j++) {
        int r = op->in[j];
        op->in[j] = s->slot[r];
        if (s->last[r] == number) {
            dying[n_dying++] = op->in[j];
        }
    }
    if (op->dst >= 0) {
        s->slot[op->dst] = take_slot(s);
        op->dst = s->slot[op->dst];
    }
    for (int j = 0; j < n_dying; j++) {
        s->taken[dying[j]] = 0;
    }
}

// Registers are written once; a slot is free again after the last read.
static usplit_status assign_registers(us_plan *plan, us_program *p)
{
    size_t n = (size_t)p->n_regs + 1;
    slots s = {.last = us_calloc(plan->a, n, sizeof *s.last), .slot = us_calloc(plan->a, n, sizeof *s.slot),
               .taken = us_calloc(plan->a, n, 1)};
    usplit_status status = s.last && s.slot && s.taken ? USPLIT_OK : USPLIT_ERR_MEMORY;
    write_in_place(plan, p);
    if (status == USPLIT_OK) {
        find_last_reads(p, s.last);
    }
    for (int i = 0; status == USPLIT_OK && i < p->n_ops; i++) {
        assign_op(&p->ops[i], i, &s);
    }
    p->n_regs = s.n;
    plan->max_regs = s.n > plan->max_regs ? s.n : plan->max_regs;
    us_free(plan->a, s.last);
    us_free(plan->a, s.slot);
    us_free(plan->a, s.taken);
    return status;
}

typedef struct placed {
    int64_t offset, floats;
    int first, last;
} placed;

typedef struct by_size {
    int64_t floats;
    int tensor;
} by_size;

static int larger_first(const void *a, const void *b)
{
    const by_size *x = a, *y = b;
    if (x->floats != y->floats) {
        return x->floats < y->floats ? 1 : -1;
    }
    return x->tensor < y->tensor ? -1 : 1;
}

// Largest first, each at the lowest offset that is free during its lifetime. `done` is sorted by offset.
static int64_t place_one(placed *done, int *n_done, us_tensor *t, int64_t floats)
{
    int64_t at = 0;
    for (int i = 0; i < *n_done; i++) {
        const placed *d = &done[i];
        if (d->last < t->first || d->first > t->last) {
            continue;
        }
        if (d->offset >= at + floats) {
            break;
        }
        if (d->offset + d->floats > at) {
            at = d->offset + d->floats;
        }
    }
    int i = *n_done;
    while (i > 0 && done[i - 1].offset > at) {
        done[i] = done[i - 1];
        i--;
    }
    done[i] = (placed){at, floats, t->first, t->last};
    ++*n_done;
    t->offset = at;
    return at + floats;
}

static usplit_status place_tensors(us_plan *p, int per_worker, int64_t *total)
{
    by_size *order = us_alloc(p->a, (size_t)p->n_tensors + 1, sizeof *order);
    placed *done = us_alloc(p->a, (size_t)p->n_tensors + 1, sizeof *done);
    usplit_status status = order && done ? USPLIT_OK : USPLIT_ERR_MEMORY;
    int n = 0, n_done = 0;
    *total = 0;
    for (int i = 0; status == USPLIT_OK && i < p->n_tensors; i++) {
        if (p->tensors[i].per_worker == per_worker) {
            order[n++] = (by_size){round16(p->tensors[i].floats), i};
        }
    }
    if (status == USPLIT_OK) {
        qsort(order, (size_t)n, sizeof *order, larger_first);
    }
    for (int i = 0; i < n; i++) {
        int64_t end = place_one(done, &n_done, &p->tensors[order[i].tensor], order[i].floats);
        *total = end > *total ? end : *total;
    }
    us_free(p->a, order);
    us_free(p->a, done);
    return status;
}

usplit_status us_place(us_plan *p)
{
    int phase = 0;
    for (int i = 0; i < p->n_steps; i++) {
        int barrier = us_step_is_barrier(p->steps[i].kind);
        if (barrier && i > 0) {
            phase++;
        }
        p->steps[i].phase = phase;
        if (barrier && i + 1 < p->n_steps && !us_step_is_barrier(p->steps[i + 1].kind)) {
            phase++;
        }
    }
    p->n_phases = p->n_steps ? p->steps[p->n_steps - 1].phase + 1 : 0;
    for (int i = 0; i < p->n_programs; i++) {
        US_TRY(assign_registers(p, &p->programs[i]));
    }
    int predict = p->options.mode == US_PLAN_PREDICT;
    for (int i = 0; i < p->n_tensors; i++) {
        us_tensor *t = &p->tensors[i];
        if (t->external) {
            t->first = 0;
        }
        if (t->output) {
            t->last = p->n_steps - 1;
        }
        if (t->last >= p->n_steps) {
            t->last = p->n_steps - 1;
        }
        t->kept = !predict && t->first < p->first_backward && t->last >= p->first_backward;
        t->per_worker = p->options.layout == US_LAYOUT_SAMPLES &&
                        (predict || (!t->external && !t->output &&
                                     p->steps[t->first].phase == p->steps[t->last].phase));
        p->kept_floats += t->kept ? t->floats : 0;
    }
    US_TRY(place_tensors(p, 0, &p->sample_floats));
    return place_tensors(p, 1, &p->worker_floats);
}
