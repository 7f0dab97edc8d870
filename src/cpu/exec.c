// The CPU backend: memory of a plan, packed weights, and the walk over its steps. Work is split over
// samples; every convolution runs on one thread.
#include "cpu/exec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu/spatial.h"
#include "kernels/elem.h"

#if defined(__SSE__)
#include <xmmintrin.h>
// Denormals are flushed while our steps run; the host's mode comes back afterwards.
static unsigned flush_denormals(void)
{
    unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u);
    return saved;
}
static void restore_denormals(unsigned saved)
{
    _mm_setcsr(saved);
}
#else
static unsigned flush_denormals(void)
{
    return 0;
}
static void restore_denormals(unsigned saved)
{
    (void)saved;
}
#endif

static void describe(char *text, size_t size)
{
    const char *isa;
    char conv[64];
    us_map_select(&isa);
    us_conv_describe(conv, sizeof conv);
    snprintf(text, size, "%s, %s", conv, isa);
}

// The pool's threads run the convolution library alone, for good.
static void thread_enter(void)
{
    us_conv_enter();
}

static void release(us_exec *e)
{
    if (!e) {
        return;
    }
    for (int i = 0; e->convs && i < e->plan->n_convs; i++) {
        us_exec_conv *c = &e->convs[i];
        us_conv_op_free(c->forward);
        us_conv_op_free(c->back);
        us_conv_op_free(c->weight);
        us_free(e->a, c->packed_forward);
        us_free(e->a, c->packed_back);
        us_free(e->a, c->bias);
    }
    us_conv_engine_free(e->engine);
    void *blocks[] = {e->convs, e->sample_arena, e->worker_arena, e->scratch, e->registers, e->vec, e->sums,
                      e->moments, e->moments_at, e->kl_weight, e->squares};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(e->a, blocks[i]);
    }
    usplit_context *context = e->context;
    us_free(e->a, e);
    us_context_release(context);
}

static usplit_status floats(us_exec *e, float **out, int64_t n, const char *what)
{
    *out = us_alloc(e->a, (size_t)n, sizeof **out);
    if (!*out) {
        US_FAIL(USPLIT_ERR_MEMORY,
                "out of memory: %.1f MiB for %s were refused; a smaller batch, fewer threads or a smaller model helps",
                (double)n * 4 / 1048576, what);
    }
    e->bytes += n * 4;
    return USPLIT_OK;
}

static usplit_status compile_conv(us_exec *e, int i)
{
    const us_conv *conv = &e->plan->convs[i];
    us_exec_conv *c = &e->convs[i];
    int train = e->samples > 0;
    US_TRY(us_conv_op_create(&c->forward, e->engine, conv, US_CONV_FORWARD));
    US_TRY(floats(e, &c->packed_forward, us_conv_op_weight_floats(c->forward), "packed weights"));
    US_TRY(floats(e, &c->bias, conv->co, "a bias"));
    US_TRY(us_conv_op_bind(c->forward, c->packed_forward, c->bias));
    us_conv_op *ops[3] = {c->forward, NULL, NULL};
    if (train) {
        c->own_weight = us_weight_fits(conv);
        if (c->own_weight) {
            us_weight_shape shape = us_weight_shape_of(conv);
            int64_t n = us_weight_scratch_floats(&shape);
            US_ASSERT(us_weight_floats(&shape) + conv->co <= conv->partial_floats);
            e->scratch_floats = n > e->scratch_floats ? (n + 15) / 16 * 16 : e->scratch_floats;
        } else {
            US_TRY(us_conv_op_create(&c->weight, e->engine, conv, US_CONV_WEIGHT));
            US_ASSERT(us_conv_op_weight_floats(c->weight) + conv->co <= conv->partial_floats);
            ops[1] = c->weight;
        }
        if (conv->input_grad) {
            US_TRY(us_conv_op_create(&c->back, e->engine, conv, US_CONV_BACK));
            US_TRY(floats(e, &c->packed_back, us_conv_op_weight_floats(c->back), "packed weights"));
            US_TRY(us_conv_op_bind(c->back, c->packed_back, NULL));
            ops[2] = c->back;
        }
    }
    for (int j = 0; j < 3; j++) {
        if (ops[j]) {
            int64_t n = (us_conv_op_scratch_floats(ops[j]) + 15) / 16 * 16;
            e->scratch_floats = n > e->scratch_floats ? n : e->scratch_floats;
        }
    }
    return USPLIT_OK;
}

static usplit_status allocate(us_exec *e)
{
    const us_plan *p = e->plan;
    int64_t moments = 0;
    US_TRY(floats(e, &e->sample_arena, e->samples * p->sample_floats + 16, "activations"));
    US_TRY(floats(e, &e->worker_arena, e->workers * p->worker_floats + 16, "scratch"));
    US_TRY(floats(e, &e->scratch, e->workers * e->scratch_floats + 16, "convolution scratch"));
    US_TRY(floats(e, &e->registers, (int64_t)e->workers * p->max_regs * e->block, "registers"));
    US_TRY(floats(e, &e->vec, p->n_vec + 16, "coefficients"));
    memset(e->vec, 0, (size_t)(p->n_vec + 16) * sizeof *e->vec);
    e->moments_at = us_calloc(e->a, (size_t)p->n_bnorms + 1, sizeof *e->moments_at);
    e->sums = us_calloc(e->a, (size_t)e->samples * (size_t)p->n_sums + 1, sizeof *e->sums);
    e->squares = us_calloc(e->a, (size_t)p->graph->n_params + 1, sizeof *e->squares);
    e->kl_weight = us_calloc(e->a, (size_t)e->samples * USPLIT_MAX_LEVELS + 1, sizeof *e->kl_weight);
    for (int i = 0; e->moments_at && i < p->n_bnorms; i++) {
        e->moments_at[i] = moments;
        moments += 2 * p->bnorms[i].c;
    }
    e->moments = us_calloc(e->a, (size_t)moments + 1, sizeof *e->moments);
    if (!e->moments_at || !e->sums || !e->kl_weight || !e->moments || !e->squares) {
        return USPLIT_ERR_MEMORY;
    }
    e->bytes += (int64_t)e->samples * p->n_sums * 8;
    return USPLIT_OK;
}

static usplit_status check_batch(const us_plan *p, int samples)
{
    for (int i = 0; i < p->n_bnorms && p->options.mode == US_PLAN_TRAIN; i++) {
        if (p->bnorms[i].count * samples < 2) {
            US_FAIL(USPLIT_ERR_SHAPE,
                    "batch normalisation of '%s' sees one value per channel; a larger batch or patch is needed",
                    p->graph->params[p->bnorms[i].gamma].name);
        }
    }
    return USPLIT_OK;
}

static usplit_status compile(us_exec **out, usplit_context *context, const us_plan *plan, int workers)
{
    *out = NULL;
    US_TRY(check_batch(plan, plan->options.batch));
    us_exec *e = us_calloc(&context->allocator, 1, sizeof *e);
    if (!e) {
        return USPLIT_ERR_MEMORY;
    }
    const char *isa;
    e->context = us_context_retain(context);
    e->a = &context->allocator;
    e->plan = plan;
    e->workers = workers;
    e->samples = plan->options.mode == US_PLAN_TRAIN ? plan->options.batch : 0;
    e->map = us_map_select(&isa);
    e->weight = us_weight_select();
    e->block = us_map_block(plan);
    int saved = us_conv_enter();
    usplit_status status;
    e->convs = us_calloc(e->a, (size_t)plan->n_convs + 1, sizeof *e->convs);
    if (!e->convs) {
        status = USPLIT_ERR_MEMORY;
        goto done;
    }
    US_TRY_GOTO(us_conv_engine_create(&e->engine, e->a, workers));
    for (int i = 0; i < plan->n_convs; i++) {
        US_TRY_GOTO(compile_conv(e, i));
    }
    US_TRY_GOTO(allocate(e));
done:
    us_conv_leave(saved);
    if (status != USPLIT_OK) {
        release(e);
        return status;
    }
    *out = e;
    return USPLIT_OK;
}

static usplit_status pack_one(void *user, int task, int worker)
{
    us_exec *e = user;
    const us_conv *conv = &e->plan->convs[task];
    us_exec_conv *c = &e->convs[task];
    const us_param *params = e->plan->graph->params;
    const float *weights = e->params + params[conv->weight].offset;
    if (conv->bias >= 0) {
        memcpy(c->bias, e->params + params[conv->bias].offset, (size_t)conv->co * sizeof *c->bias);
    } else {
        memset(c->bias, 0, (size_t)conv->co * sizeof *c->bias);
    }
    US_TRY(us_conv_op_pack(c->forward, worker, weights));
    return c->back ? us_conv_op_pack(c->back, worker, weights) : USPLIT_OK;
}

static usplit_status prepare(us_exec *e, const float *params)
{
    e->params = params;
    int saved = us_conv_enter();
    usplit_status status = USPLIT_OK;
    if (e->samples == 0) {      // by one thread: the tiler's workers may be fewer than the pool's
        us_exec_running_statistics(e);
        for (int i = 0; i < e->plan->n_convs && status == USPLIT_OK; i++) {
            status = pack_one(e, i, 0);
        }
    } else {
        status = us_pool_run(e->context->pool, e->plan->n_convs, pack_one, e);
    }
    us_conv_leave(saved);
    return status;
}

// ---- Walking over the steps ----

typedef struct walk {
    us_exec *exec;
    const us_run *run;
    int first, end;         // steps
    int fill;               // 1: the phase that begins with the inputs
} walk;

static void run_spatial(us_exec *e, const us_step *s, int sample, int worker, const float *src, float *dst)
{
    const us_spatial *op = &e->plan->spatials[s->index];
    const float *planes = op->weight >= 0 ? e->params + e->plan->graph->params[op->weight].offset : NULL;
    if (s->kind == US_STEP_SPATIAL) {
        us_spatial_run(op, planes, src, dst);
        return;
    }
    us_spatial_run_back(op, planes, src, s->src2 >= 0 ? us_exec_tensor(e, sample, worker, s->src2) : NULL,
                        op->scanned >= 0 ? us_exec_tensor(e, sample, worker, op->scanned) : NULL, dst,
                        op->partial >= 0 ? us_exec_tensor(e, sample, worker, op->partial) : NULL);
}

static usplit_status run_step(us_exec *e, const us_step *s, us_map_env *env, int worker)
{
    float *scratch = e->scratch + worker * e->scratch_floats;
    const float *src = s->src >= 0 ? us_exec_tensor(e, env->sample, worker, s->src) : NULL;
    float *dst = s->dst >= 0 ? us_exec_tensor(e, env->sample, worker, s->dst) : NULL;
    switch (s->kind) {
    case US_STEP_MAP: e->map(&e->plan->programs[s->index], env); return USPLIT_OK;
    case US_STEP_CONV: return us_conv_op_run(e->convs[s->index].forward, worker, src, dst, scratch);
    case US_STEP_CONV_BACK: return us_conv_op_run(e->convs[s->index].back, worker, src, dst, scratch);
    case US_STEP_CONV_WEIGHT:
        if (e->convs[s->index].own_weight) {
            us_weight_shape shape = us_weight_shape_of(&e->plan->convs[s->index]);
            e->weight(&shape, src, us_exec_tensor(e, env->sample, worker, s->src2), dst, scratch);
            return USPLIT_OK;
        }
        return us_conv_op_run_weight(e->convs[s->index].weight, worker, src,
                                     us_exec_tensor(e, env->sample, worker, s->src2), dst, scratch);
    case US_STEP_SPATIAL:
    case US_STEP_SPATIAL_BACK: run_spatial(e, s, env->sample, worker, src, dst); return USPLIT_OK;
    default: US_FAIL(USPLIT_ERR_INTERNAL, "internal: step kind %d inside a phase", (int)s->kind);
    }
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

// Absolute place of a latent's first cell: cells are 2^(level+1) pixels, centred on the patch (design 4).
static void noise_place(const us_graph *g, const us_run *run, us_map_env *env)
{
    for (int i = 0; i < g->n_latents; i++) {
        int64_t cell = (int64_t)2 << i;
        const us_node *z = &g->nodes[g->latent[i]];
        env->noise_y[i] = floor_div(run->tile_y + g->size / 2, cell) - z->h / 2;
        env->noise_x[i] = floor_div(run->tile_x + g->size / 2, cell) - z->w / 2;
    }
}

static void make_env(us_exec *e, const us_run *run, int sample, int worker, us_map_env *env)
{
    const us_plan *p = e->plan;
    const us_graph *g = p->graph;
    *env = (us_map_env){.plan = p, .params = e->params, .vec = e->vec, .sample = sample,
                        .mean_latents = run->mean_latents, .block = e->block,
                        .batch_scale = e->samples ? (float)e->samples / (float)e->active : 1,
                        .sample_base = e->sample_arena + sample * p->sample_floats,
                        .worker_base = e->worker_arena + worker * p->worker_floats,
                        .registers = e->registers + (int64_t)worker * p->max_regs * e->block,
                        .sums = e->sums + (e->samples ? (int64_t)sample * p->n_sums : 0),
                        .kl_weight = e->kl_weight + (e->samples ? sample * USPLIT_MAX_LEVELS : 0)};
    if (e->samples) {
        env->stream = us_key(run->seed, US_RNG_LATENT, (uint64_t)run->step, (uint32_t)(run->first + sample));
        env->drops = us_key(run->seed, US_RNG_DROPOUT, (uint64_t)run->step, (uint32_t)(run->first + sample));
    } else {
        env->stream = us_key(run->seed, US_RNG_TILE, (uint64_t)run->step, 0);
        noise_place(g, run, env);
    }
    for (int i = 0; run->noise && i < g->n_latents; i++) {
        const us_node *z = &g->nodes[g->latent[i]];
        env->noise[i] = run->noise[i] ? run->noise[i] + (int64_t)sample * z->c * z->h * z->w : NULL;
    }
}

static usplit_status fill_inputs(us_exec *e, const us_run *run, int sample, int worker)
{
    float *levels[US_MAX_LC];
    const us_plan *p = e->plan;
    for (int i = 0; i < US_MAX_LC; i++) {
        levels[i] = p->input[i] >= 0 ? us_exec_tensor(e, sample, worker, p->input[i]) : NULL;
    }
    return run->fill(run->user, run->first + sample, levels,
                     p->target >= 0 ? us_exec_tensor(e, sample, worker, p->target) : NULL);
}

static usplit_status run_sample(void *user, int sample, int worker)
{
    walk *w = user;
    us_map_env env;
    unsigned saved = flush_denormals();
    usplit_status status = w->fill ? fill_inputs(w->exec, w->run, sample, worker) : USPLIT_OK;
    make_env(w->exec, w->run, sample, worker, &env);
    for (int i = w->first; i < w->end && status == USPLIT_OK; i++) {
        status = run_step(w->exec, &w->exec->plan->steps[i], &env, worker);
    }
    restore_denormals(saved);
    return status;
}

static usplit_status run_barrier(void *user, int task, int worker)
{
    walk *w = user;
    us_exec *e = w->exec;
    const us_step *s = &e->plan->steps[w->first + task];
    switch (s->kind) {
    case US_STEP_BN: us_exec_bn(e, &e->plan->bnorms[s->index]); return USPLIT_OK;
    case US_STEP_BN_BACK: us_exec_bn_back(e, &e->plan->bnorms[s->index]); return USPLIT_OK;
    case US_STEP_SUM_WEIGHT: return us_exec_sum_weight(e, s, worker);
    case US_STEP_SUM_PRIOR: return us_exec_sum_prior(e, s);
    default: US_FAIL(USPLIT_ERR_INTERNAL, "internal: step kind %d at a barrier", (int)s->kind);
    }
}

static usplit_status draw_masks(void *user, int sample, int worker)
{
    walk *w = user;
    us_exec *e = w->exec;
    const us_plan *p = e->plan;
    (void)worker;
    uint64_t stream = us_key(w->run->seed, US_RNG_DROPOUT, (uint64_t)w->run->step,
                               (uint32_t)(w->run->first + sample));
    for (int i = 0; i < p->n_masks; i++) {
        const us_mask *m = &p->masks[i];
        float *dst = e->vec + m->offset + (int64_t)sample * ((m->c + 15) / 16 * 16);
        for (int c = 0; c < m->c; c++) {
            dst[c] = us_draw_mask(stream, (uint32_t)i, (uint32_t)c, (float)p->graph->config.dropout);
        }
    }
    return USPLIT_OK;
}

// Losses that the caller computes: one call per sample, in order.
static usplit_status run_extern(us_exec *e, const us_run *run, us_losses *losses)
{
    const us_plan *p = e->plan;
    float *outputs[US_MAX_LOSSES], *gradients[US_MAX_LOSSES];
    int n = p->graph->n_losses;
    if (p->extern_grad[0] < 0) {
        return USPLIT_OK;
    }
    US_ASSERT(run->loss);
    for (int sample = 0; sample < e->active; sample++) {
        double loss = 0;
        for (int i = 0; i < n; i++) {
            outputs[i] = us_exec_tensor(e, sample, 0, p->extern_out[i]);
            gradients[i] = us_exec_tensor(e, sample, 0, p->extern_grad[i]);
        }
        US_TRY(run->loss(run->user, run->first + sample, (const float *const *)outputs, gradients, &loss));
        losses->loss += loss / e->active;
    }
    losses->reconstruction = losses->loss;
    return USPLIT_OK;
}

static usplit_status train_steps(us_exec *e, const us_run *run, us_losses *losses)
{
    const us_plan *p = e->plan;
    us_pool *pool = e->context->pool;
    walk w = {.exec = e, .run = run, .fill = 1};
    memset(e->sums, 0, (size_t)e->samples * (size_t)p->n_sums * sizeof *e->sums);
    US_TRY(us_pool_run(pool, e->active, draw_masks, &w));
    for (int i = 0; i < p->n_steps; i = w.end) {
        int barrier = us_step_is_barrier(p->steps[i].kind);
        w.first = i;
        w.end = i + 1;
        if (p->steps[i].kind == US_STEP_LOSS) {
            us_exec_loss(e, losses);
            US_TRY(run_extern(e, run, losses));
            if (!isfinite(losses->loss)) {
                return USPLIT_OK;
            }
            continue;
        }
        while (w.end < p->n_steps && us_step_is_barrier(p->steps[w.end].kind) == barrier &&
               p->steps[w.end].kind != US_STEP_LOSS && !us_plan_adds_up(p, &p->steps[w.end])) {
            w.end++;
        }
        US_TRY(us_pool_run(pool, barrier ? w.end - w.first : e->active, barrier ? run_barrier : run_sample, &w));
        w.fill = 0;
    }
    return USPLIT_OK;
}

static usplit_status train(us_exec *e, const us_run *run, us_losses *losses, float *grads)
{
    US_ASSERT(e->samples > 0 && e->params && us_pool_size(e->context->pool) <= e->workers);
    e->active = run->samples > 0 && run->samples < e->samples ? run->samples : e->samples;
    US_TRY(check_batch(e->plan, e->active));
    e->grads = grads;
    int saved = us_conv_enter();
    usplit_status status = train_steps(e, run, losses);
    us_conv_leave(saved);
    return status;
}

static usplit_status predict(us_exec *e, int worker, int n, const us_run *runs, const float **heads)
{
    US_ASSERT(e->samples == 0 && e->params && worker < e->workers && n == 1);
    int saved = us_conv_enter();
    walk w = {.exec = e, .run = runs, .first = 0, .end = e->plan->n_steps, .fill = 1};
    usplit_status status = run_sample(&w, 0, worker);
    us_conv_leave(saved);
    heads[0] = us_exec_tensor(e, 0, worker, e->plan->node_tensor[e->plan->graph->head]);
    return status;
}

static const float *output(const us_exec *e, int sample, int node)
{
    int tensor = e->plan->node_tensor[node];
    if (tensor < 0) {
        return NULL;
    }
    return us_exec_tensor(e, e->samples ? sample : 0, e->samples ? 0 : sample, tensor);
}

static const double *sums(const us_exec *e, int sample)
{
    return e->sums + (int64_t)sample * e->plan->n_sums;
}

static int64_t bytes(const us_exec *e)
{
    return e->bytes;
}

const us_backend us_backend_cpu = {
    .name = "cpu",
    .layout = US_LAYOUT_SAMPLES,
    .tile_batch = 1,
    .describe = describe,
    .thread_enter = thread_enter,
    .compile = compile,
    .release = release,
    .prepare = prepare,
    .train = train,
    .update_statistics = us_exec_update_statistics,
    .predict = predict,
    .output = output,
    .sums = sums,
    .gradient_norm = us_exec_gradient_norm,
    .adamax = us_exec_adamax,
    .bytes = bytes,
};
