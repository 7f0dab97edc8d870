// One pipe: inputs into a slot, slot to the device, then the recorded run: elements from floats, dropout
// masks, the plan's steps in order; in prediction also the head back to the host.
#include "exec.h"

#include <string.h>

#include "kernels/elem.h"
#include "spatial.h"

// ---- Convolutions -------------------------------------------------------------------------------------

us_cu_shape us_pipe_shape(const us_conv *c, int batch, int half)
{
    us_cu_shape s = {.batch = batch, .ci = c->ci, .co = c->co, .k = c->k, .stride = c->transposed ? 2 : c->stride,
                     .transposed = c->transposed, .in_h = c->in.h, .in_w = c->in.w, .out_h = c->out.h,
                     .out_w = c->out.w, .half = half};
    if (c->transposed) {        // out(y) has in(i) where y = 2 i + t - pad, in node coordinates
        s.top = c->out.y0 + c->pad - 2 * c->in.y0;
        s.left = c->out.x0 + c->pad - 2 * c->in.x0;
    } else {
        s.top = c->in.y0 + c->pad - c->out.y0 * c->stride;
        s.left = c->in.x0 + c->pad - c->out.x0 * c->stride;
    }
    return s;
}

static usplit_status compile_one(us_pipe *p, us_cu_conv **out, const us_cu_shape *shape, us_conv_direction direction)
{
    us_exec *e = p->exec;
    const us_cu_conv_table *table = e->cuda->convs;
    US_CUDA_TRY(table->compile(out, p->engine, shape, direction));
    int64_t bytes = table->workspace(*out);
    p->workspace_bytes = bytes > p->workspace_bytes ? bytes : p->workspace_bytes;
    e->n_plain += strcmp(table->note(*out), "plain") == 0;
    return USPLIT_OK;
}

static usplit_status compile_convs(us_pipe *p)
{
    us_exec *e = p->exec;
    size_t n = (size_t)e->plan->n_convs + 1;
    us_cu_conv_options options = {e->cuda->deterministic, e->cuda->search, e->cuda->choices};
    US_CUDA_TRY(e->cuda->convs->open(&p->engine, p->stream, &options));
    p->forward = us_calloc(e->a, n, sizeof *p->forward);
    p->back = us_calloc(e->a, n, sizeof *p->back);
    p->weight = us_calloc(e->a, n, sizeof *p->weight);
    if (!p->forward || !p->back || !p->weight) {
        return USPLIT_ERR_MEMORY;
    }
    for (int i = 0; i < e->plan->n_convs; i++) {
        us_cu_shape shape = us_pipe_shape(&e->plan->convs[i], e->batch, e->half);
        US_TRY(compile_one(p, &p->forward[i], &shape, US_CU_FORWARD));
        if (e->train) {
            US_TRY(compile_one(p, &p->weight[i], &shape, US_CU_WEIGHT));
            if (e->plan->convs[i].input_grad) {
                US_TRY(compile_one(p, &p->back[i], &shape, US_CU_BACK));
            }
        }
    }
    return USPLIT_OK;
}

// ---- Memory -------------------------------------------------------------------------------------------

typedef struct piece {
    void **at;
    int64_t bytes;
} piece;

// Places the parts one after the other in one piece of memory, each on 256 bytes.
static int64_t lay(const piece *parts, int n, char *block)
{
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        if (block) {
            *parts[i].at = block + at;
        }
        at += (parts[i].bytes + 255) / 256 * 256;
    }
    return at;
}

static usplit_status out_of_memory(int64_t bytes, const us_exec *e, const char *text)
{
    US_FAIL(USPLIT_ERR_MEMORY,
            "%.0f MiB on %s for %s were refused (%s); a smaller batch (now %d), a memory budget, fewer filters "
            "(now %d) or a smaller patch (now %d) helps",
            (double)bytes / 1048576, e->cuda->facts.name, e->train ? "training" : "prediction", text, e->batch,
            e->plan->graph->config.filters, e->plan->graph->size);
}

int64_t us_pipe_shared_weights(const us_plan *plan)
{
    int64_t most = 0;
    for (int i = 0; i < plan->n_convs; i++) {
        const us_conv *c = &plan->convs[i];
        int64_t count = c->adds_up ? plan->graph->params[c->weight].count : 0;
        most = count > most ? count : most;
    }
    return most;
}

int64_t us_pipe_head_floats(const us_plan *plan)
{
    return plan->options.mode == US_PLAN_TRAIN
               ? 0 : plan->tensors[plan->node_tensor[plan->graph->head]].floats * plan->options.batch;
}

static usplit_status allocate_device(us_pipe *p)
{
    us_exec *e = p->exec;
    const us_plan *plan = e->plan;
    const piece parts[] = {
        {&p->arena, plan->sample_floats * e->batch * e->element},
        {&p->workspace, p->workspace_bytes},
        {&p->weight_part, us_pipe_shared_weights(plan) * e->element},
        {(void **)&p->inputs, e->input_floats * 4},
        {(void **)&p->head, us_pipe_head_floats(plan) * 4},
        {(void **)&p->kl_weight, (int64_t)e->batch * US_CU_LEVELS * 4},
        {(void **)&p->sums, ((int64_t)e->batch * plan->n_sums + 1) * 8},
        {(void **)&p->partials, (e->tables.n_partials + 1) * 8},
        {(void **)&p->counters, (plan->n_programs + 1) * 4},
        {(void **)&p->run, sizeof *p->run},
        {(void **)&p->samples, e->batch * (int64_t)sizeof *p->samples},
        {(void **)&p->places, 2 * e->batch * (int64_t)sizeof *p->places},
        {(void **)&p->any, e->batch * (int64_t)sizeof *p->any}};
    int n = (int)(sizeof parts / sizeof *parts);
    int64_t bytes = lay(parts, n, NULL);
    const char *text = us_device_alloc((void **)&p->block, bytes);
    if (text) {
        p->block = NULL;
        return out_of_memory(bytes, e, text);
    }
    lay(parts, n, p->block);
    e->pipe_bytes = bytes;
    US_CUDA_TRY(us_fill_zero(p->stream, p->block, bytes));
    return USPLIT_OK;
}

static usplit_status allocate_pinned(us_pipe *p)
{
    us_exec *e = p->exec;
    piece parts[5 * US_CUDA_SLOTS + 1];
    int n = 0;
    for (int i = 0; i < US_CUDA_SLOTS; i++) {
        us_slot *s = &p->slots[i];
        parts[n++] = (piece){(void **)&s->run, sizeof *s->run};
        parts[n++] = (piece){(void **)&s->samples, e->batch * (int64_t)sizeof *s->samples};
        parts[n++] = (piece){(void **)&s->places, 2 * e->batch * (int64_t)sizeof *s->places};
        parts[n++] = (piece){(void **)&s->any, e->batch * (int64_t)sizeof *s->any};
        parts[n++] = (piece){(void **)&s->inputs, e->input_floats * 4};
    }
    parts[n++] = (piece){(void **)&p->head_host, us_pipe_head_floats(e->plan) * 4};
    int64_t bytes = lay(parts, n, NULL);
    const char *text = us_pinned_alloc((void **)&p->pinned, bytes);
    if (text) {
        p->pinned = NULL;
        US_FAIL(USPLIT_ERR_MEMORY, "%.0f MiB of page-locked host memory were refused (%s); a smaller batch helps",
                (double)bytes / 1048576, text);
    }
    lay(parts, n, p->pinned);
    e->pinned_bytes = bytes;
    for (int i = 0; i < US_CUDA_SLOTS; i++) {
        US_CUDA_TRY(us_event_create(&p->slots[i].copied));
        memset(p->slots[i].inputs, 0, (size_t)e->input_floats * sizeof(float));
    }
    return USPLIT_OK;
}

static void make_env(us_pipe *p)
{
    us_exec *e = p->exec;
    const us_graph *g = e->plan->graph;
    p->env = (us_cu_env){.ops = e->ops, .finishes = e->finishes, .run = p->run, .state = e->state,
                         .samples = p->samples, .arena = p->arena, .params = e->params, .grads = e->grads,
                         .vec = e->vec, .sums = p->sums, .moments = e->moments, .partials = p->partials,
                         .counters = p->counters, .kl_weight = p->kl_weight, .batch = e->batch,
                         .n_sums = e->plan->n_sums, .half = e->half,
                         .dropout = (float)g->config.dropout};
    for (int i = 0; i < g->n_latents; i++) {
        const us_node *z = &g->nodes[g->latent[i]];
        p->env.noise[i] = e->given[i];
        p->env.noise_h[i] = z->h, p->env.noise_w[i] = z->w, p->env.noise_c[i] = z->c;
    }
}

void us_pipe_free(us_pipe *p)
{
    us_exec *e = p->exec;
    if (!e) {
        return;
    }
    if (p->stream) {
        us_stream_wait(p->stream);
    }
    us_record_free(p->recording);
    us_record_free(p->gathered);
    us_record_free(p->optimise);
    us_cu_conv **lists[] = {p->forward, p->back, p->weight};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; lists[i] && j < e->plan->n_convs; j++) {
            if (lists[i][j]) {
                e->cuda->convs->release(lists[i][j]);
            }
        }
        us_free(e->a, lists[i]);
    }
    if (p->engine) {
        e->cuda->convs->close(p->engine);
    }
    for (int i = 0; i < US_CUDA_SLOTS; i++) {
        us_event_free(p->slots[i].copied);
    }
    us_device_free(p->block);
    us_pinned_free(p->pinned);
    us_stream_free(p->stream);
    *p = (us_pipe){0};
}

// ---- Walking over the plan ----------------------------------------------------------------------------

// A shared weight's gradient is made beside the others and added.
static usplit_status run_weight(us_pipe *p, const us_step *s, const void *src)
{
    us_exec *e = p->exec;
    const us_conv *c = &e->plan->convs[s->index];
    const us_cu_param *w = &e->tables.params[c->weight];
    void *grad = (char *)e->weight_grads + w->at * e->element, *to = c->adds_up ? p->weight_part : grad;
    US_CUDA_TRY(e->cuda->convs->run(p->weight[s->index], p->stream, src, us_exec_element(e, p, s->src2), NULL, to,
                                    p->workspace));
    if (c->adds_up) {
        US_CUDA_TRY(us_cu_add(p->stream, &p->env, to, grad, w->count));
    }
    return USPLIT_OK;
}

static usplit_status run_conv(us_pipe *p, const us_step *s, const void *src, void *dst)
{
    us_exec *e = p->exec;
    const us_conv *c = &e->plan->convs[s->index];
    const us_cu_conv_table *table = e->cuda->convs;
    const char *weights = e->weights;
    const void *weight = weights + e->tables.params[c->weight].at * e->element;
    const void *bias = c->bias >= 0 ? weights + e->tables.params[c->bias].at * e->element : e->zeros;
    if (s->kind == US_STEP_CONV_WEIGHT) {
        return run_weight(p, s, src);
    }
    if (s->kind == US_STEP_CONV) {
        US_CUDA_TRY(table->run(p->forward[s->index], p->stream, src, weight, bias, dst, p->workspace));
    } else {
        US_CUDA_TRY(table->run(p->back[s->index], p->stream, src, weight, NULL, dst, p->workspace));
    }
    return USPLIT_OK;
}

static void *element_of(const us_pipe *p, int tensor)
{
    return tensor >= 0 ? us_exec_element(p->exec, p, tensor) : NULL;
}

static usplit_status run_spatial(us_pipe *p, const us_step *s, const void *src, void *dst)
{
    us_exec *e = p->exec;
    const us_spatial *op = &e->plan->spatials[s->index];
    const float *planes = op->weight >= 0 ? e->params + e->tables.params[op->weight].at : NULL;
    if (s->kind == US_STEP_SPATIAL) {
        US_CUDA_TRY(us_cu_spatial(p->stream, &p->env, op, planes, src, dst));
    } else {
        US_CUDA_TRY(us_cu_spatial_back(p->stream, &p->env, op, planes, src, element_of(p, s->src2),
                                       element_of(p, op->scanned), dst, element_of(p, op->partial)));
    }
    return USPLIT_OK;
}

static usplit_status run_map(us_pipe *p, int index)
{
    const us_exec *e = p->exec;
    const us_cu_program *program = &e->tables.programs[index];
    if (program->compiled) {
        US_CUDA_TRY(e->cuda->kernel_table->launch(e->kernels[index], p->stream, (int64_t)e->batch * program->blocks,
                                                  us_cu_map_room(program), program, &p->env,
                                                  &e->tables.ops[program->first_op]));
    } else {
        US_CUDA_TRY(us_cu_map(p->stream, program, &p->env));
    }
    return USPLIT_OK;
}

static usplit_status run_step(us_pipe *p, const us_step *s)
{
    us_exec *e = p->exec;
    const us_plan *plan = e->plan;
    const void *src = element_of(p, s->src);
    void *dst = element_of(p, s->dst);
    switch (s->kind) {
    case US_STEP_MAP: return run_map(p, s->index);
    case US_STEP_CONV:
    case US_STEP_CONV_BACK:
    case US_STEP_CONV_WEIGHT: return run_conv(p, s, src, dst);
    case US_STEP_SPATIAL:
    case US_STEP_SPATIAL_BACK: return run_spatial(p, s, src, dst);
    case US_STEP_BN:                // done by the program that made the sums (program.h)
    case US_STEP_BN_BACK: return USPLIT_OK;
    case US_STEP_LOSS:
        US_CUDA_TRY(us_cu_loss_run(p->stream, &p->env, &e->tables.loss, e->state, p->kl_weight));
        return USPLIT_OK;
    case US_STEP_SUM_PRIOR: {
        const us_tensor *t = &plan->tensors[s->src];
        US_CUDA_TRY(us_cu_sum_prior(p->stream, &p->env, t->offset * e->batch, t->floats, t->c, (int64_t)t->h * t->w,
                                    e->tables.params[s->index].at));
        return USPLIT_OK;
    }
    default: US_FAIL(USPLIT_ERR_INTERNAL, "internal: step kind %d in a device plan", (int)s->kind);
    }
}

static usplit_status walk_steps(us_pipe *p)
{
    us_exec *e = p->exec;
    const us_plan *plan = e->plan;
    if (e->train && plan->n_masks) {
        US_CUDA_TRY(us_cu_draw_masks(p->stream, &p->env, e->d_masks, plan->n_masks,
                                     (float)plan->graph->config.dropout));
    }
    for (int i = 0; i < plan->n_steps; i++) {
        US_TRY(run_step(p, &plan->steps[i]));
    }
    return USPLIT_OK;
}

static usplit_status walk(us_pipe *p)
{
    us_exec *e = p->exec;
    const us_plan *plan = e->plan;
    for (int i = 0; i < e->n_external; i++) {
        int64_t n = plan->tensors[e->external[i]].floats * e->batch;
        US_CUDA_TRY(us_cu_to_elements(p->stream, p->inputs + e->external_at[i], us_exec_element(e, p, e->external[i]),
                                      n, e->half));
    }
    US_TRY(walk_steps(p));
    if (!e->train) {
        int head = plan->node_tensor[plan->graph->head];
        int64_t floats = us_pipe_head_floats(plan);
        US_CUDA_TRY(us_cu_to_floats(p->stream, us_exec_element(e, p, head), p->head, floats, e->half));
        US_CUDA_TRY(us_copy_down(p->stream, p->head_host, p->head, floats * 4));
    }
    return USPLIT_OK;
}

// Tiles stay on the device: there is no head to fetch.
static usplit_status walk_gathered(us_pipe *p)
{
    US_CUDA_TRY(us_cu_gather(p->stream, &p->env, &p->exec->gather, p->places, p->any));
    return walk_steps(p);
}

static usplit_status walk_optimiser(us_pipe *p)
{
    us_exec *e = p->exec;
    us_cu_optimiser o = us_exec_optimiser(e);
    US_CUDA_TRY(us_cu_norm(p->stream, &o, p->run, e->state));
    US_CUDA_TRY(us_cu_adamax(p->stream, &o, p->run, e->state));
    US_CUDA_TRY(us_cu_running(p->stream, e->d_bns, e->plan->n_bnorms, p->run, e->state, e->moments, e->params));
    return USPLIT_OK;
}

// Runs it once with no active sample, which touches nothing that is used later: kernels are loaded at their first
// launch, and loading is not for a stream that records.
static usplit_status rehearse(us_pipe *p, usplit_status (*what)(us_pipe *))
{
    US_CUDA_TRY(us_fill_zero(p->stream, p->run, sizeof *p->run));
    US_TRY(what(p));
    return us_pipe_wait(p);
}

static usplit_status record(us_pipe *p, usplit_status (*what)(us_pipe *), us_recording **out)
{
    US_TRY(us_pipe_wait(p));            // the old one may be running
    us_record_free(*out);
    *out = NULL;
    US_CUDA_TRY(us_record_begin(p->stream));
    usplit_status status = what(p);
    const char *text = us_record_end(p->stream, out);   // ends the capture in any case
    US_TRY(status);
    US_CUDA_TRY(text);
    return USPLIT_OK;
}

usplit_status us_pipe_record_optimiser(us_pipe *p)
{
    return record(p, walk_optimiser, &p->optimise);
}

usplit_status us_pipe_record_gather(us_pipe *p)
{
    US_TRY(rehearse(p, walk_gathered));
    return record(p, walk_gathered, &p->gathered);
}

usplit_status us_pipe_make(us_pipe *p, us_exec *exec)
{
    p->exec = exec;
    US_CUDA_TRY(us_stream_create(&p->stream));
    US_TRY(compile_convs(p));
    US_TRY(allocate_device(p));
    US_TRY(allocate_pinned(p));
    make_env(p);
    US_TRY(rehearse(p, walk));
    US_TRY(record(p, walk, &p->recording));
    if (exec->train) {                  // parameters and state come later, with prepare and begin
        US_TRY(rehearse(p, walk_optimiser));
    }
    return exec->train ? record(p, walk_optimiser, &p->optimise) : USPLIT_OK;
}

// ---- A run --------------------------------------------------------------------------------------------

typedef struct filling {
    us_pipe *pipe;
    us_slot *slot;
    const us_run *runs;
} filling;

static usplit_status fill_one(void *user, int sample, int worker)
{
    filling *f = user;
    const us_exec *e = f->pipe->exec;
    float *levels[US_MAX_LC] = {0}, *target = NULL;
    (void)worker;
    for (int i = 0; i < e->n_external; i++) {
        int tensor = e->external[i];
        float *at = f->slot->inputs + e->external_at[i] + sample * e->plan->tensors[tensor].floats;
        for (int k = 0; k < US_MAX_LC; k++) {
            if (e->plan->input[k] == tensor) {
                levels[k] = at;
            }
        }
        target = tensor == e->plan->target ? at : target;
    }
    const us_run *run = e->train ? f->runs : &f->runs[sample];
    return run->fill(run->user, e->train ? run->first + sample : 0, levels, target);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

// Keys of the noise as src/cpu/exec.c has them: by step and sample in training, by absolute place in prediction.
static void fill_samples(const us_exec *e, us_slot *slot, int n, const us_run *runs)
{
    const us_graph *g = e->plan->graph;
    for (int s = 0; s < n; s++) {
        const us_run *run = e->train ? runs : &runs[s];
        us_cu_sample *d = &slot->samples[s];
        *d = (us_cu_sample){0};
        if (e->train) {
            d->stream = us_key(run->seed, US_RNG_LATENT, (uint64_t)run->step, (uint32_t)(run->first + s));
            d->drops = us_key(run->seed, US_RNG_DROPOUT, (uint64_t)run->step, (uint32_t)(run->first + s));
            continue;
        }
        d->stream = us_key(run->seed, US_RNG_TILE, (uint64_t)run->step, 0);
        for (int i = 0; i < g->n_latents; i++) {
            int64_t cell = (int64_t)2 << i;
            const us_node *z = &g->nodes[g->latent[i]];
            d->y[i] = (int32_t)(floor_div(run->tile_y + g->size / 2, cell) - z->h / 2);
            d->x[i] = (int32_t)(floor_div(run->tile_x + g->size / 2, cell) - z->w / 2);
        }
    }
}

static usplit_status give_noise(us_pipe *p, const us_run *run, us_slot *slot)
{
    us_exec *e = p->exec;
    const us_graph *g = e->plan->graph;
    for (int i = 0; run->noise && i < g->n_latents; i++) {
        const us_node *z = &g->nodes[g->latent[i]];
        int64_t bytes = (int64_t)z->c * z->h * z->w * slot->run->active * 4;
        if (!run->noise[i]) {
            continue;
        }
        US_CUDA_TRY(us_copy_up(p->stream, e->given[i], run->noise[i], bytes));
        US_CUDA_TRY(us_stream_wait(p->stream));     // the caller's memory is not page-locked and may go away
        slot->run->given |= 1 << i;
    }
    return USPLIT_OK;
}

// Where sample i is cut from and, in a band, where its tile goes: the second half of the places.
static void place_one(const us_exec *e, const us_run *runs, int i, us_slot *slot)
{
    us_cu_place *places = slot->places;
    if (e->train) {
        const us_place *q = runs->places + runs->first + i;
        places[i] = (us_cu_place){.frame = (int32_t)q->frame[0], .y = q->y[0], .x = q->x[0]};
        slot->any[i] = *q;
        return;
    }
    const us_run *run = &runs[i];
    places[i] = (us_cu_place){.y = run->tile_y, .x = run->tile_x};
    slot->any[i] = (us_place){.y = {run->tile_y}, .x = {run->tile_x}, .weight = {1}};
    places[e->batch + i] = (us_cu_place){.y = run->tile_y + e->band.pad - e->band.y, .x = run->tile_x + e->band.pad,
                                         .sample = (int32_t)run->step};
}

// Inputs of a run: patches from the caller's fill, or places on images that the device has.
static usplit_status write_inputs(us_pipe *p, us_slot *slot, int n, const us_run *runs, int gathered)
{
    us_exec *e = p->exec;
    filling f = {p, slot, runs};
    for (int i = 0; gathered && i < n; i++) {
        place_one(e, runs, i, slot);
    }
    if (gathered) {
        US_CUDA_TRY(us_copy_up(p->stream, p->places, slot->places, 2 * e->batch * (int64_t)sizeof *p->places));
        if (e->gather.any) {
            US_CUDA_TRY(us_copy_up(p->stream, p->any, slot->any, e->batch * (int64_t)sizeof *p->any));
        }
        return USPLIT_OK;
    }
    if (e->train) {
        US_TRY(us_pool_run(e->context->pool, n, fill_one, &f));
    }
    for (int i = 0; !e->train && i < n; i++) {
        US_TRY(fill_one(&f, i, 0));
    }
    US_CUDA_TRY(us_copy_up(p->stream, p->inputs, slot->inputs, e->input_floats * 4));
    return USPLIT_OK;
}

usplit_status us_pipe_start(us_pipe *p, int n, const us_run *runs, const us_update *update, const us_part *part)
{
    us_exec *e = p->exec;
    us_slot *slot = &p->slots[p->slot];
    int gathered = e->train ? runs->places != NULL : e->in_band;
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_CUDA_TRY(us_event_wait(slot->copied));
    US_TRY(write_inputs(p, slot, n, runs, gathered));
    *slot->run = (us_cu_run){.first = runs->first, .share = part ? part->share : 1,
                             .part_first = part ? part->first : 1, .part_last = part ? part->last : 1, .active = n,
                             .mean_latents = runs->mean_latents,
                             .batch_scale = (float)e->batch / (float)n, .seed = runs->seed, .step = runs->step,
                             .lr = update ? (float)update->lr : 0, .clip_norm = update ? (float)update->clip_norm : 0};
    fill_samples(e, slot, n, runs);
    US_TRY(give_noise(p, runs, slot));
    US_CUDA_TRY(us_copy_up(p->stream, p->run, slot->run, sizeof *p->run));
    US_CUDA_TRY(us_copy_up(p->stream, p->samples, slot->samples, n * (int64_t)sizeof *p->samples));
    US_CUDA_TRY(us_event_record(slot->copied, p->stream));
    p->slot = (p->slot + 1) % US_CUDA_SLOTS;
    US_CUDA_TRY(us_record_run(gathered ? p->gathered : p->recording, p->stream));
    if (gathered && !e->train) {        // not recorded: bands differ in height
        US_CUDA_TRY(us_cu_stitch(p->stream, &p->env, &e->stitch, p->places + e->batch));
    }
    if (part && e->total) {
        us_cu_optimiser o = us_exec_optimiser(e);
        US_CUDA_TRY(us_cu_accumulate(p->stream, &o, p->run, e->state));
    }
    if (part && part->last) {
        US_CUDA_TRY(us_record_run(p->optimise, p->stream));
    }
    return USPLIT_OK;
}

usplit_status us_pipe_wait(us_pipe *p)
{
    US_CUDA_TRY(us_stream_wait(p->stream));
    return USPLIT_OK;
}
