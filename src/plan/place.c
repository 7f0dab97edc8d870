// Phases, lifetimes and places: every tensor gets a fixed offset, registers get slots.
#include <stdlib.h>
#include <string.h>

#include "plan/lowering.h"

static int64_t round16(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

// Registers are written once; a slot is free again after the last read.
static usplit_status assign_registers(us_plan *plan, us_program *p)
{
    int *last = us_calloc(plan->a, (size_t)p->n_regs + 1, sizeof *last);
    int *slot = us_calloc(plan->a, (size_t)p->n_regs + 1, sizeof *slot);
    unsigned char *taken = us_calloc(plan->a, (size_t)p->n_regs + 1, 1);
    usplit_status status = last && slot && taken ? USPLIT_OK : USPLIT_ERR_MEMORY;
    int n_slots = 0;
    for (int i = 0; i < p->n_ops; i++) {
        p->ops[i].into = -1;
    }
    for (int i = p->n_ops - 1; i > 0; i--) {    // registers are still numbered by their only writer
        const us_uop *op = &p->ops[i];
        if (op->code == US_U_STORE && plan->tensors[op->ref].c == p->c) {
            for (int j = 0; j < i; j++) {
                if (p->ops[j].dst == op->in[0]) {
                    p->ops[j].into = op->ref;
                }
            }
        }
    }
    static const int arity[] = {
#define X(name, n) n,
        US_UOPS(X)
#undef X
    };
    for (int i = 0; status == USPLIT_OK && i < p->n_ops; i++) {
        for (int j = 0; j < arity[p->ops[i].code]; j++) {
            last[p->ops[i].in[j]] = i;
        }
    }
    for (int i = 0; status == USPLIT_OK && i < p->n_ops; i++) {
        us_uop *op = &p->ops[i];
        int n = arity[op->code], dying[US_UOP_MAX_IN], n_dying = 0;
        for (int j = 0; j < n; j++) {
            int r = op->in[j];
            if (last[r] == i) {
                dying[n_dying++] = slot[r];
            }
            op->in[j] = slot[r];
        }
        if (op->dst >= 0) {     // not in place: a LOAD's slot may stand for the tensor's own memory
            int s = 0;
            while (taken[s]) {
                s++;
            }
            taken[s] = 1;
            slot[op->dst] = s;
            if (last[op->dst] == 0) {
                last[op->dst] = p->n_ops;   // read by nobody: never freed
            }
            op->dst = s;
            n_slots = s + 1 > n_slots ? s + 1 : n_slots;
        }
        for (int j = 0; j < n_dying; j++) {
            taken[dying[j]] = 0;
        }
    }
    p->n_regs = n_slots;
    plan->max_regs = n_slots > plan->max_regs ? n_slots : plan->max_regs;
    us_free(plan->a, last);
    us_free(plan->a, slot);
    us_free(plan->a, taken);
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
