// plan.h -> program.h and steps.h: every offset that a device needs, worked out once on the host.
#include "tables.h"

#include "source.h"

#include <string.h>

enum { ALIGN = 64 };                // elements: parameters in device layout

_Static_assert((int)US_CU_LEVELS >= (int)USPLIT_MAX_LEVELS && (int)US_CU_LEVELS >= (int)USPLIT_MAX_CHANNELS,
               "device tables hold all levels and channels");
_Static_assert((int)US_CU_LOSSES >= (int)US_MAX_LOSSES, "and all losses");

static int64_t round_up(int64_t n, int64_t m)
{
    return (n + m - 1) / m * m;
}

// ---- Parameters ---------------------------------------------------------------------------------------

static int is_weight(const us_param *p)
{
    return p->kind == US_PARAM_WEIGHT;
}

static void make_params(us_cu_tables *t, const us_plan *plan)
{
    const us_graph *g = plan->graph;
    t->n_params = g->n_params;
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        us_cu_param *d = &t->params[i];
        *d = (us_cu_param){.at = t->n_floats, .count = p->count, .host = p->offset, .a = (int32_t)p->count, .b = 1,
                           .taps = 1, .trained = plan->has_grad[i] && us_param_trained(p)};
        if (is_weight(p)) {
            d->a = (int32_t)p->dims[0];
            d->b = (int32_t)p->dims[1];
            d->taps = (int32_t)(p->dims[2] * p->dims[3]);
            d->weight_gradient = 1;
        }
        t->n_floats = round_up(t->n_floats + p->count, ALIGN);
    }
}

void us_cu_pack(const us_cu_tables *t, const float *published, float *device)
{
    memset(device, 0, (size_t)t->n_floats * sizeof *device);
    for (int i = 0; i < t->n_params; i++) {
        const us_cu_param *p = &t->params[i];
        const float *src = published + p->host;
        float *dst = device + p->at;
        for (int64_t a = 0; a < p->a; a++) {
            for (int64_t b = 0; b < p->b; b++) {
                for (int64_t k = 0; k < p->taps; k++) {
                    dst[(a * p->taps + k) * p->b + b] = src[(a * p->b + b) * p->taps + k];
                }
            }
        }
    }
}

void us_cu_unpack(const us_cu_tables *t, const float *device, float *published)
{
    for (int i = 0; i < t->n_params; i++) {
        const us_cu_param *p = &t->params[i];
        const float *src = device + p->at;
        float *dst = published + p->host;
        for (int64_t a = 0; a < p->a; a++) {
            for (int64_t b = 0; b < p->b; b++) {
                for (int64_t k = 0; k < p->taps; k++) {
                    dst[(a * p->b + b) * p->taps + k] = src[(a * p->taps + k) * p->b + b];
                }
            }
        }
    }
}

// ---- Statistics, masks, losses ------------------------------------------------------------------------

static void make_bns(us_cu_tables *t, const us_plan *plan)
{
    for (int i = 0; i < plan->n_bnorms; i++) {
        const us_bnorm *b = &plan->bnorms[i];
        t->bns[i] = (us_cu_bn_running){.mean = t->params[b->mean].at, .var = t->params[b->var].at,
                                       .counter = t->params[b->counter].at, .gamma = t->params[b->gamma].at,
                                       .beta = t->params[b->beta].at, .count = b->count, .c = b->c,
                                       .moments = (int32_t)t->n_moments, .scale = b->scale, .shift = b->shift};
        t->n_moments += 2 * b->c;
        for (int j = i - 1; j >= 0 && !t->bns[i].shared; j--) {
            if (plan->bnorms[j].mean == b->mean) {
                t->bns[j].later = i;
                t->bns[i].shared = 1;
            }
        }
    }
    for (int i = 0; i < plan->n_masks; i++) {
        const us_mask *m = &plan->masks[i];
        t->masks[i] = (us_cu_mask){.c = m->c, .stride = (int32_t)round_up(m->c, 16), .at = m->offset};
    }
}

static void make_loss(us_cu_tables *t, const us_plan *plan)
{
    const us_graph *g = plan->graph;
    t->loss = (us_cu_loss){.levels = g->n_latents, .n_parts = g->n_losses, .kl_weight = plan->options.kl_weight,
                           .free_bits = plan->options.free_bits};
    for (int i = 0; i < g->n_losses; i++) {
        const us_node *n = &g->nodes[g->losses[i]], *output = &g->nodes[n->in[0]];
        t->loss.part[i] = (us_cu_loss_part){.slot = plan->loss_sums[i], .channels = n->c, .weight = g->loss_weight[i],
                                            .pixels = (int64_t)output->h * output->w};
    }
    for (int i = 0; i < g->n_latents; i++) {
        const us_node *z = &g->nodes[g->latent[i]];
        int has = g->kl[i] >= 0;
        t->loss.level[i] = (us_cu_loss_level){.slot = has ? plan->kl_sums[i] : -1, .c = z->c,
                                              .elements = (int64_t)z->c * z->h * z->w};
        t->loss.n_kl += has;
    }
}

// ---- Programs -----------------------------------------------------------------------------------------

// Eight channels at a time need everything in multiples of eight.
static int lanes_of(const us_plan *plan, const us_program *p)
{
    int ok = p->c % 8 == 0;
    for (int i = 0; i < p->n_ops && ok; i++) {
        const us_uop *op = &p->ops[i];
        ok = op->c0 % 8 == 0;
        if (op->code == US_U_LOAD || op->code == US_U_STORE) {
            ok = ok && plan->tensors[op->ref].c % 8 == 0;
        }
        ok = ok && (op->code != US_U_DROP || (int)op->k2 % 8 == 0);
    }
    return ok ? 8 : 1;
}

// What waits for the sums of n channels that begin at `slot`, if anything does. Those of a bias may come in parts.
static int find_finish(const us_cu_tables *t, const us_plan *plan, int slot, int n, us_cu_finish *f)
{
    for (int i = 0; i < plan->n_bnorms; i++) {
        const us_bnorm *b = &plan->bnorms[i];
        if (b->sums != slot && b->grad_sums != slot) {
            continue;
        }
        *f = (us_cu_finish){.kind = b->sums == slot ? US_CU_FINISH_BN : US_CU_FINISH_BN_BACK, .c = b->c, .slot = slot,
                            .moments = t->bns[i].moments, .scale = b->scale, .shift = b->shift,
                            .inverse = b->inverse, .centre = b->centre, .ga = b->ga, .gb = b->gb, .gc = b->gc,
                            .adds_up = b->adds_up, .gamma = t->params[b->gamma].at, .beta = t->params[b->beta].at, .count = b->count};
        return 1;
    }
    for (int i = 0; i < plan->n_convs; i++) {
        const us_conv *c = &plan->convs[i];
        if (c->bias_sums >= 0 && slot >= c->bias_sums && slot < c->bias_sums + c->co) {
            *f = (us_cu_finish){.kind = US_CU_FINISH_BIAS, .c = n, .slot = slot, .adds_up = c->adds_up,
                                .gamma = t->params[c->bias].at + slot - c->bias_sums};
            return 1;
        }
    }
    return 0;
}

static us_cu_op make_op(const us_cu_tables *t, const us_plan *plan, const us_uop *op)
{
    us_cu_op d = {.code = (int16_t)op->code, .dst = (int16_t)op->dst, .c0 = op->c0, .oy = op->oy, .ox = op->ox,
                  .vec = {op->vec[0], op->vec[1], op->vec[2]}, .k = op->k, .k2 = op->k2};
    for (int i = 0; i < us_uop_arity(op->code); i++) {
        d.in[i] = (int16_t)op->in[i];
    }
    switch (op->code) {
    case US_U_LOAD:
    case US_U_STORE: {
        const us_tensor *x = &plan->tensors[op->ref];
        d.t_c = x->c, d.t_h = x->h, d.t_w = x->w;
        d.at = x->offset * plan->options.batch;
        d.stride = x->floats;
        break;
    }
    case US_U_PARAM: {
        const us_param *p = &plan->graph->params[op->ref];
        d.at = t->params[op->ref].at;
        d.stride = p->dims[2] * p->dims[3];
        d.t_h = (int32_t)p->dims[2], d.t_w = (int32_t)p->dims[3];
        break;
    }
    case US_U_MASK:
        d.vec[0] = (int32_t)t->masks[op->ref].at;
        d.vec[1] = t->masks[op->ref].stride;
        break;
    case US_U_NOISE:
    case US_U_KL_DZ:
    case US_U_KL_DSQ:
    case US_U_KL_DSP:
    case US_U_KL_FULL_DMQ:
    case US_U_KL_FULL_DSQ:
    case US_U_KL_FULL_DSP:
    case US_U_DROP: d.level = (int16_t)op->ref; break;
    case US_U_SUM:
    case US_U_SUM2:
        d.slot = op->ref;
        d.square = op->code == US_U_SUM2 && op->in[0] == op->in[1];
        break;
    default: break;
    }
    return d;
}

static void make_program(us_cu_tables *t, const us_plan *plan, int index, int compiled)
{
    const us_program *p = &plan->programs[index];
    us_cu_program *d = &t->programs[index];
    *d = (us_cu_program){.h = p->h, .w = p->w, .c = p->c, .lanes = lanes_of(plan, p), .first_op = t->n_ops,
                         .n_ops = p->n_ops, .first_finish = t->n_finishes, .counter = index,
                         .compiled = compiled && p->n_ops <= US_CU_MOST_COMPILED};
    for (int i = 0; i < p->n_ops; i++) {
        t->ops[t->n_ops++] = make_op(t, plan, &p->ops[i]);
    }
    int registers = us_cu_map_chain(&t->ops[d->first_op], d->n_ops);
    d->rows = d->compiled ? 0 : registers;
    for (int i = 0; i < p->n_ops; i++) {
        us_cu_op *op = &t->ops[d->first_op + i];
        if (us_cu_sum_kinds(op) == 0) {
            continue;
        }
        op->acc = d->rows;
        op->part = d->parts;
        d->rows += us_cu_sum_rows(op);
        d->parts += p->c * us_cu_sum_kinds(op);
        op->finish = -1;
        if (plan->options.mode == US_PLAN_TRAIN && find_finish(t, plan, op->slot, p->c, &t->finishes[t->n_finishes])) {
            t->n_finishes++;
            op->finish = d->n_finish++;
        }
    }
}

static void make_programs(us_cu_tables *t, const us_plan *plan, int processors, int64_t shared_bytes, int compiled)
{
    for (int i = 0; i < plan->n_programs; i++) {
        us_cu_program *d = &t->programs[i];
        make_program(t, plan, i, compiled);
        us_cu_map_shape(d, plan->options.batch, processors, shared_bytes);
        int64_t partials = (int64_t)d->parts * plan->options.batch * d->blocks;
        t->n_partials = partials > t->n_partials ? partials : t->n_partials;
    }
}

usplit_status us_cu_tables_make(us_cu_tables *t, const us_allocator *a, const us_plan *plan, int processors,
                                int64_t shared_bytes, int compiled)
{
    size_t ops = 1;
    for (int i = 0; i < plan->n_programs; i++) {
        ops += (size_t)plan->programs[i].n_ops;
    }
    *t = (us_cu_tables){.a = a};
    t->ops = us_calloc(a, ops, sizeof *t->ops);
    t->finishes = us_calloc(a, ops, sizeof *t->finishes);
    t->programs = us_calloc(a, (size_t)plan->n_programs + 1, sizeof *t->programs);
    t->params = us_calloc(a, (size_t)plan->graph->n_params + 1, sizeof *t->params);
    t->bns = us_calloc(a, (size_t)plan->n_bnorms + 1, sizeof *t->bns);
    t->masks = us_calloc(a, (size_t)plan->n_masks + 1, sizeof *t->masks);
    if (!t->ops || !t->finishes || !t->programs || !t->params || !t->bns || !t->masks) {
        us_cu_tables_free(t);
        return USPLIT_ERR_MEMORY;
    }
    make_params(t, plan);
    make_bns(t, plan);
    if (plan->options.mode == US_PLAN_TRAIN) {
        make_loss(t, plan);
    }
    make_programs(t, plan, processors, shared_bytes, compiled);
    return USPLIT_OK;
}

void us_cu_tables_free(us_cu_tables *t)
{
    void *blocks[] = {t->ops, t->finishes, t->programs, t->params, t->bns, t->masks};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(t->a, blocks[i]);
    }
    *t = (us_cu_tables){.a = t->a};
}
