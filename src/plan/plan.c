// us_plan_build: need -> lower (with emit) -> place. And the plan as text.
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

#include "plan/lowering.h"

void us_plan_free(us_plan *p)
{
    if (!p) {
        return;
    }
    for (int i = 0; i < p->n_programs; i++) {
        us_free(p->a, p->programs[i].ops);
    }
    void *blocks[] = {p->steps, p->programs, p->tensors, p->convs, p->bnorms, p->spatials, p->masks, p->input,
                      p->node_tensor, p->has_grad};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(p->a, blocks[i]);
    }
    us_free(p->a, p);
}

static usplit_status make_lowering(us_lowering *l)
{
    const us_allocator *a = l->plan->a;
    size_t n = (size_t)l->graph->n_nodes;
    l->forward = us_calloc(a, n, sizeof *l->forward);
    l->gradient = us_calloc(a, n, sizeof *l->gradient);
    l->aux = us_calloc(a, 2 * n, sizeof *l->aux);
    l->need = us_calloc(a, n, sizeof *l->need);
    l->used = us_calloc(a, n, 1);
    l->grad_flows = us_calloc(a, n, 1);
    if (!l->forward || !l->gradient || !l->aux || !l->need || !l->used || !l->grad_flows) {
        return USPLIT_ERR_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        l->forward[i] = l->gradient[i] = -1;
    }
    return USPLIT_OK;
}

static void free_lowering(us_lowering *l)
{
    void *blocks[] = {l->values, l->forward, l->gradient, l->aux, l->need, l->used, l->grad_flows, l->open,
                      l->pending_steps};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(l->plan->a, blocks[i]);
    }
}

static usplit_status make_plan(us_plan *p)
{
    const us_graph *g = p->graph;
    p->input = us_alloc(p->a, US_MAX_LC, sizeof *p->input);
    p->node_tensor = us_alloc(p->a, (size_t)g->n_nodes, sizeof *p->node_tensor);
    p->masks = us_calloc(p->a, (size_t)g->n_masks + 1, sizeof *p->masks);
    p->has_grad = us_calloc(p->a, (size_t)g->n_params, 1);
    if (!p->input || !p->node_tensor || !p->masks || !p->has_grad) {
        return USPLIT_ERR_MEMORY;
    }
    p->n_masks = g->n_masks;
    p->target = -1;
    for (int i = 0; i < US_MAX_LC; i++) {
        p->input[i] = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        p->node_tensor[i] = -1;
    }
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        p->kl_sums[i] = -1;
    }
    for (int i = 0; i < US_MAX_LOSSES; i++) {
        p->loss_sums[i] = p->extern_out[i] = p->extern_grad[i] = -1;
    }
    return USPLIT_OK;
}

usplit_status us_plan_build(us_plan **out, const us_allocator *a, const us_graph *graph,
                            const us_plan_options *options)
{
    *out = NULL;
    US_CHECK_ARG(options->mode == US_PLAN_TRAIN || options->mode == US_PLAN_PREDICT,
                 "mode is %d; accepted: 1 (train), 2 (predict)", options->mode);
    US_CHECK_ARG((options->mode == US_PLAN_PREDICT && options->layout == US_LAYOUT_SAMPLES) ||
                     (options->batch >= 1 && options->batch <= 4096),
                 "batch is %d; accepted: 1 to 4096", options->batch);
    us_plan *p = us_calloc(a, 1, sizeof *p);
    if (!p) {
        return USPLIT_ERR_MEMORY;
    }
    p->a = a;
    p->graph = graph;
    p->options = *options;
    us_lowering l = {.plan = p, .graph = graph};
    usplit_status status;
    US_TRY_GOTO(make_plan(p));
    US_TRY_GOTO(make_lowering(&l));
    US_TRY_GOTO(us_need(&l));
    US_TRY_GOTO(us_lower(&l));
    US_TRY_GOTO(us_place(p));
done:
    free_lowering(&l);
    p->options.outputs = NULL;      // the caller's list is not kept
    if (status != USPLIT_OK) {
        us_plan_free(p);
        return status;
    }
    *out = p;
    return USPLIT_OK;
}

int64_t us_plan_arena_bytes(const us_plan *p, int workers)
{
    int whole = p->options.layout == US_LAYOUT_BATCH;
    int64_t samples = p->options.mode == US_PLAN_TRAIN ? p->options.batch : whole ? workers * p->options.batch : 0;
    int64_t registers = whole ? 0 : (int64_t)p->max_regs * US_BLOCK;
    int64_t doubles = p->options.mode == US_PLAN_TRAIN ? 2 * (int64_t)p->n_sums * p->options.batch : 0;
    return 4 * (samples * p->sample_floats + workers * (p->worker_floats + registers) + p->n_vec + doubles);
}

static const char *const step_names[] = {"map", "conv", "conv-back", "conv-weight", "spatial", "spatial-back", "bn",
                                         "bn-back", "loss", "sum-weight", "sum-prior"};
static const char *const uop_names[] = {
#define X(name, arity) #name,
    US_UOPS(X)
#undef X
};

static void print_program(const us_program *p, char *text, size_t size)
{
    int n = snprintf(text, size, "%dx%dx%d:", p->h, p->w, p->c);
    for (int i = 0; i < p->n_ops && n > 0 && (size_t)n < size; i++) {
        const us_uop *op = &p->ops[i];
        if (op->code == US_U_LOAD || op->code == US_U_STORE) {
            n += snprintf(text + n, size - (size_t)n, " %s(t%d)", uop_names[op->code], op->ref);
        } else {
            n += snprintf(text + n, size - (size_t)n, " %s", uop_names[op->code]);
        }
    }
}

void us_plan_print(const us_plan *p, void (*line)(const char *text, void *user), void *user)
{
    char text[1024], detail[880];
    for (int i = 0; i < p->n_steps; i++) {
        const us_step *s = &p->steps[i];
        detail[0] = 0;
        if (s->kind == US_STEP_MAP) {
            print_program(&p->programs[s->index], detail, sizeof detail);
        } else if (s->kind == US_STEP_CONV || s->kind == US_STEP_CONV_BACK || s->kind == US_STEP_CONV_WEIGHT ||
                   s->kind == US_STEP_SUM_WEIGHT) {
            const us_conv *c = &p->convs[s->index];
            snprintf(detail, sizeof detail, "%s %d->%d k%d s%d in %dx%d out %dx%d t%d->t%d  %s",
                     c->transposed ? "transposed" : "", c->ci, c->co, c->k, c->stride, c->in.h, c->in.w, c->out.h,
                     c->out.w, s->src, s->dst, p->graph->params[c->weight].name);
        } else if (s->kind == US_STEP_SPATIAL || s->kind == US_STEP_SPATIAL_BACK) {
            const us_spatial *q = &p->spatials[s->index];
            snprintf(detail, sizeof detail, "%s %d in %dx%d out %dx%d t%d->t%d", us_op_name(q->op), q->c, q->in.h,
                     q->in.w, q->out.h, q->out.w, s->src, s->dst);
        } else if (s->kind == US_STEP_BN || s->kind == US_STEP_BN_BACK) {
            snprintf(detail, sizeof detail, "%s", p->graph->params[p->bnorms[s->index].gamma].name);
        }
        snprintf(text, sizeof text, "%4d phase %3d  %-11s %s", i, s->phase, step_names[s->kind], detail);
        line(text, user);
    }
}
