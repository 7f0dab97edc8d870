// Compiles a plan for a device, and the calls of the backend table that come back when the device is done.
#include "exec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/iterate.h"
#include "kernels/step.h"
#include "source.h"

usplit_status us_cuda_check(const char *text, const char *what)
{
    if (text && strstr(text, "out of memory")) {
        US_FAIL(USPLIT_ERR_MEMORY, "%s; a smaller batch, a memory budget, fewer filters or a smaller patch helps",
                text);
    }
    if (text) {
        US_FAIL(USPLIT_ERR_BACKEND, "%.*s: %s", (int)strcspn(what, "("), what, text);
    }
    return USPLIT_OK;
}

// ---- Compile ------------------------------------------------------------------------------------------

static void list_external(us_exec *e)
{
    const us_plan *p = e->plan;
    for (int i = 0; i <= US_MAX_LC; i++) {
        int tensor = i < US_MAX_LC ? p->input[i] : p->target;
        if (tensor >= 0) {
            e->external[e->n_external] = tensor;
            e->external_at[e->n_external++] = e->input_floats;
            e->input_floats += (p->tensors[tensor].floats * e->batch + 63) / 64 * 64;
        }
    }
}

us_cu_optimiser us_exec_optimiser(const us_exec *e)
{
    us_cu_optimiser o = {.table = e->d_params, .n_params = e->tables.n_params, .half = e->half,
                         .n_floats = e->tables.n_floats, .params = e->params, .m = e->m, .u = e->u,
                         .grads = e->grads, .weight_grads = e->weight_grads, .total = e->total,
                         .weights = e->half ? e->weights : NULL,
                         .partials = e->norm_partials, .counter = e->counter};
    return o;
}

typedef struct piece {
    void **at;
    int64_t bytes;
    const void *from;           // copied there once; NULL: zeroed
} piece;

// Output channels of the widest convolution without bias.
static int64_t biasless_channels(const us_plan *plan)
{
    int64_t most = 0;
    for (int i = 0; i < plan->n_convs; i++) {
        const us_conv *c = &plan->convs[i];
        most = c->bias < 0 && c->co > most ? c->co : most;
    }
    return most;
}

static usplit_status allocate(us_exec *e)
{
    const us_cu_tables *t = &e->tables;
    int64_t floats = t->n_floats * 4, train = e->train;
    us_cu_optimiser shape = {.n_params = t->n_params, .n_floats = t->n_floats, .half = e->half};
    piece parts[25 + USPLIT_MAX_LEVELS] = {
        {(void **)&e->params, floats, NULL},
        {(void **)&e->m, train * floats, NULL},
        {(void **)&e->u, train * floats, NULL},
        {(void **)&e->grads, train * floats, NULL},
        {&e->weight_grads, train * t->n_floats * e->element, NULL},
        {&e->weights, e->half ? t->n_floats * e->element : 0, NULL},
        {&e->zeros, biasless_channels(e->plan) * e->element, NULL},
        {(void **)&e->vec, (e->plan->n_vec + 16) * 4, NULL},
        {(void **)&e->moments, (t->n_moments + 1) * 8, NULL},
        {(void **)&e->norm_partials, train * us_cu_norm_partials(&shape) * 8, NULL},
        {(void **)&e->state, sizeof *e->state, NULL},
        {(void **)&e->counter, 256, NULL},
        {(void **)&e->ops, t->n_ops * (int64_t)sizeof *t->ops, t->ops},
        {(void **)&e->finishes, t->n_finishes * (int64_t)sizeof *t->finishes, t->finishes},
        {(void **)&e->d_params, t->n_params * (int64_t)sizeof *t->params, t->params},
        {(void **)&e->d_bns, e->plan->n_bnorms * (int64_t)sizeof *t->bns, t->bns},
        {(void **)&e->d_masks, e->plan->n_masks * (int64_t)sizeof *t->masks, t->masks}};
    int n = 17;
    const us_graph *g = e->plan->graph;
    for (int i = 0; !e->half && i < g->n_latents; i++) {    // noise from outside: for comparing, in float32 only
        const us_node *z = &g->nodes[g->latent[i]];
        parts[n++] = (piece){(void **)&e->given[i], (int64_t)z->c * z->h * z->w * e->batch * 4, NULL};
    }
    for (int i = 0; i < n; i++) {
        e->block_bytes += (parts[i].bytes + 255) / 256 * 256;
    }
    const char *text = us_device_alloc((void **)&e->block, e->block_bytes);
    if (text) {
        e->block = NULL;
        US_FAIL(USPLIT_ERR_MEMORY, "%.0f MiB on %s for parameters were refused (%s); fewer filters (now %d) helps",
                (double)e->block_bytes / 1048576, e->cuda->facts.name, text, g->config.filters);
    }
    us_stream *stream;
    US_CUDA_TRY(us_stream_create(&stream));
    const char *failed = us_fill_zero(stream, e->block, e->block_bytes);
    char *at = e->block;
    for (int i = 0; i < n; i++) {
        *parts[i].at = at;
        if (parts[i].from && parts[i].bytes && !failed) {
            failed = us_copy_up(stream, at, parts[i].from, parts[i].bytes);
        }
        at += (parts[i].bytes + 255) / 256 * 256;
    }
    failed = failed ? failed : us_stream_wait(stream);
    usplit_status status = us_cuda_check(failed, "filling device memory");
    us_stream_free(stream);
    e->weights = e->half ? e->weights : (void *)e->params;
    return status;
}

static usplit_status allocate_host(us_exec *e)
{
    const us_plan *p = e->plan;
    e->staging = us_alloc(e->a, (size_t)e->tables.n_floats, sizeof *e->staging);
    e->host_moments = us_calloc(e->a, (size_t)e->tables.n_moments + 1, sizeof *e->host_moments);
    e->host_sums = us_calloc(e->a, (size_t)e->batch * (size_t)p->n_sums + 1, sizeof *e->host_sums);
    e->values = us_calloc(e->a, (size_t)p->graph->n_nodes, sizeof *e->values);
    if (!e->staging || !e->host_moments || !e->host_sums || !e->values) {
        return USPLIT_ERR_MEMORY;
    }
    for (int i = 0; i < p->graph->n_nodes && p->options.n_outputs > 0; i++) {
        if (p->node_tensor[i] >= 0) {
            e->values[i] = us_alloc(e->a, (size_t)(p->tensors[p->node_tensor[i]].floats * e->batch), sizeof(float));
            if (!e->values[i]) {
                return USPLIT_ERR_MEMORY;
            }
        }
    }
    return USPLIT_OK;
}

static void release(us_exec *e)
{
    if (!e) {
        return;
    }
    us_device_use(e->cuda->facts.ordinal);
    for (int i = 0; e->pipes && i < e->n_pipes; i++) {
        us_pipe_free(&e->pipes[i]);
    }
    us_exec_drop_images(e);
    us_device_free(e->band_data);
    us_device_free(e->total);
    us_device_free(e->block);
    for (int i = 0; e->values && i < e->plan->graph->n_nodes; i++) {
        us_free(e->a, e->values[i]);
    }
    void *blocks[] = {e->pipes, e->staging, e->host_moments, e->host_sums, e->values, e->kernels};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(e->a, blocks[i]);
    }
    us_cu_tables_free(&e->tables);
    usplit_context *context = e->context;
    us_free(e->a, e);
    us_context_release(context);
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

// A file that cannot be written costs the next process some time, and is no reason to fail.
static void keep_choices(const us_exec *e)
{
    us_cu_choices *choices = e->cuda->choices;
    if (choices && us_cu_choices_save(choices) != USPLIT_OK) {
        us_context_log(e->context, USPLIT_LOG_WARNING, "convolutions chosen are not kept: %s", us_message_get());
        us_message_set("");
    }
}

// Texts of the programs that become kernels, one after the other in *block; the others are NULL.
static usplit_status write_sources(const us_exec *e, const char **texts, char **block)
{
    const us_cu_tables *t = &e->tables;
    size_t length = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (int i = 0; i < e->plan->n_programs; i++) {
            const us_cu_program *p = &t->programs[i];
            if (p->compiled) {
                char *to = pass ? *block + at : NULL;
                texts[i] = to;
                at += 1 + us_cu_source(to, pass ? length - at : 0, p, &t->ops[p->first_op], e->half);
            }
        }
        length = at;
        if (pass == 0 && !(*block = us_alloc(e->a, length + 1, 1))) {
            return USPLIT_ERR_MEMORY;
        }
    }
    return USPLIT_OK;
}

static usplit_status compile_programs(us_exec *e)
{
    size_t n = (size_t)e->plan->n_programs + 1;
    const us_cuda *cuda = e->cuda;
    char *block = NULL;
    int long_ones = 0;
    for (int i = 0; i < e->plan->n_programs; i++) {
        long_ones += !e->tables.programs[i].compiled;
    }
    if (long_ones > 0) {
        us_context_log(e->context, USPLIT_LOG_INFO, "%d of %d elementwise programs are interpreted: over %d operations",
                       long_ones, e->plan->n_programs, US_CU_MOST_COMPILED);
    }
    e->kernels = us_calloc(e->a, n, sizeof *e->kernels);
    const char **texts = us_calloc(e->a, n, sizeof *texts);
    usplit_status status = e->kernels && texts ? write_sources(e, texts, &block) : USPLIT_ERR_MEMORY;
    if (status == USPLIT_OK) {
        const char *text = cuda->kernel_table->compile(cuda->kernels, e->context->pool, e->plan->n_programs, texts,
                                                       e->kernels);
        status = us_cuda_check(text, "compiling elementwise programs");
    }
    us_free(e->a, block);
    us_free(e->a, texts);
    return status;
}

static usplit_status build(us_exec *e, int workers)
{
    const us_device_facts *f = &e->cuda->facts;
    US_CUDA_TRY(us_device_use(f->ordinal));
    US_TRY(us_cu_tables_make(&e->tables, e->a, e->plan, f->processors, f->shared_bytes, e->cuda->kernel_table != NULL));
    if (e->cuda->kernel_table) {
        US_TRY(compile_programs(e));
    }
    list_external(e);
    US_TRY(allocate(e));
    US_TRY(allocate_host(e));
    e->pipes = us_calloc(e->a, (size_t)workers, sizeof *e->pipes);
    if (!e->pipes) {
        return USPLIT_ERR_MEMORY;
    }
    for (int i = 0; i < workers; i++) {
        e->n_pipes = i + 1;
        US_TRY(us_pipe_make(&e->pipes[i], e));
    }
    keep_choices(e);
    if (e->n_plain > 0 && e->cuda->choices) {       // else it is a test's device, where all are
        us_context_log(e->context, USPLIT_LOG_INFO, "%d convolutions run on plain kernels: no library has an engine",
                       e->n_plain);
    }
    return USPLIT_OK;
}

// A loss that the caller computes is between two passes on the host; on a device both are one recording.
static usplit_status check_support(const us_plan *plan)
{
    const us_graph *g = plan->graph;
    for (int i = 0; i < g->n_losses && plan->options.mode == US_PLAN_TRAIN; i++) {
        if (g->nodes[g->losses[i]].op == US_OP_EXTERN) {
            US_FAIL(USPLIT_ERR_UNSUPPORTED, "a network whose loss the caller computes trains on the device \"cpu\" only");
        }
    }
    return USPLIT_OK;
}

static usplit_status compile(us_exec **out, usplit_context *context, const us_plan *plan, int workers)
{
    *out = NULL;
    US_ASSERT(plan->options.layout == US_LAYOUT_BATCH && context->device);
    US_TRY(check_support(plan));
    US_TRY(check_batch(plan, plan->options.batch));
    us_exec *e = us_calloc(&context->allocator, 1, sizeof *e);
    if (!e) {
        return USPLIT_ERR_MEMORY;
    }
    e->context = us_context_retain(context);
    e->a = &context->allocator;
    e->plan = plan;
    e->cuda = context->device;
    e->batch = plan->options.batch;
    e->train = plan->options.mode == US_PLAN_TRAIN;
    e->half = e->cuda->half;
    e->element = e->half ? 2 : 4;
    usplit_status status = build(e, e->train ? 1 : workers);
    if (status != USPLIT_OK) {
        release(e);
        return status;
    }
    *out = e;
    return USPLIT_OK;
}

static int element_bytes(const usplit_context *context)
{
    const us_cuda *cuda = context->device;
    return cuda->half ? 2 : 4;
}

// Activations, inputs and staging, heads, the gradient of a shared weight; what convolutions need besides is known when
// they are compiled.
static int64_t plan_bytes(const usplit_context *context, const us_plan *plan, int workers)
{
    int64_t element = element_bytes(context), batch = plan->options.batch, inputs = 0;
    for (int i = 0; i < plan->n_tensors; i++) {
        inputs += plan->tensors[i].external ? plan->tensors[i].floats * batch : 0;
    }
    int64_t pipes = plan->options.mode == US_PLAN_TRAIN ? 1 : workers;
    int64_t staging = inputs * 4 * (1 + US_CUDA_SLOTS), sums = 8 * batch * plan->n_sums;
    int64_t heads = us_pipe_head_floats(plan) * 4 * 2, shared = us_pipe_shared_weights(plan) * element;
    return pipes * (plan->sample_floats * batch * element + staging + sums + heads + shared);
}

static int64_t device_bytes(const us_exec *e)
{
    return e->block_bytes + e->n_pipes * e->pipe_bytes + 4 * (e->image_floats + e->band_floats) +
           e->n_planes * (int64_t)sizeof *e->planes;
}

static int64_t bytes(const us_exec *e)
{
    return device_bytes(e) + e->n_pipes * e->pinned_bytes + e->tables.n_floats * 4;
}

// ---- Parameters up and down ---------------------------------------------------------------------------

static usplit_status upload(us_exec *e, const float *published, float *device)
{
    us_stream *s = e->pipes[0].stream;
    us_cu_pack(&e->tables, published, e->staging);
    US_CUDA_TRY(us_copy_up(s, device, e->staging, e->tables.n_floats * 4));
    US_CUDA_TRY(us_stream_wait(s));
    return USPLIT_OK;
}

static usplit_status download(us_exec *e, const float *device, float *published)
{
    us_stream *s = e->pipes[0].stream;
    US_CUDA_TRY(us_copy_down(s, e->staging, device, e->tables.n_floats * 4));
    US_CUDA_TRY(us_stream_wait(s));
    us_cu_unpack(&e->tables, e->staging, published);
    return USPLIT_OK;
}

static usplit_status prepare(us_exec *e, const float *params)
{
    us_stream *s = e->pipes[0].stream;
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_TRY(upload(e, params, e->params));
    us_cu_optimiser o = us_exec_optimiser(e);
    if (e->half) {
        US_CUDA_TRY(us_cu_copy_weights(s, &o));
    }
    if (!e->train) {
        US_CUDA_TRY(us_cu_running_coefficients(s, e->d_bns, e->plan->n_bnorms, e->params, e->vec));
    }
    US_CUDA_TRY(us_stream_wait(s));
    return USPLIT_OK;
}

// ---- One run, waited for ------------------------------------------------------------------------------

static usplit_status fetch_values(us_exec *e, us_pipe *p)
{
    const us_plan *plan = e->plan;
    for (int i = 0; i < plan->graph->n_nodes; i++) {
        if (!e->values[i]) {
            continue;
        }
        int tensor = plan->node_tensor[i];
        int64_t n = plan->tensors[tensor].floats * e->batch;
        void *floats;
        US_CUDA_TRY(us_device_alloc(&floats, n * 4));
        const char *text = us_cu_to_floats(p->stream, us_exec_element(e, p, tensor), floats, n, e->half);
        text = text ? text : us_copy_down(p->stream, e->values[i], floats, n * 4);
        text = text ? text : us_stream_wait(p->stream);
        us_device_free(floats);
        US_CUDA_TRY(text);
    }
    return USPLIT_OK;
}

// Gradients of both kinds -> flat published floats, without the loss scale.
static usplit_status fetch_gradients(us_exec *e, us_pipe *p, float *grads)
{
    int64_t n = e->tables.n_floats;
    float *weight_grads = us_alloc(e->a, (size_t)n, sizeof *weight_grads);
    void *floats = NULL;
    if (!weight_grads) {
        return USPLIT_ERR_MEMORY;
    }
    const char *text = us_device_alloc(&floats, n * 4);
    text = text ? text : us_cu_to_floats(p->stream, e->weight_grads, floats, n, e->half);
    text = text ? text : us_copy_down(p->stream, weight_grads, floats, n * 4);
    text = text ? text : us_copy_down(p->stream, e->staging, e->grads, n * 4);
    text = text ? text : us_stream_wait(p->stream);
    us_device_free(floats);
    float unscale = 1 / e->host_state.loss_scale;
    for (int i = 0; !text && i < e->tables.n_params; i++) {
        const us_cu_param *q = &e->tables.params[i];
        const float *from = q->weight_gradient ? weight_grads : e->staging;
        for (int64_t j = 0; j < q->count; j++) {
            e->staging[q->at + j] = q->trained ? unscale * from[q->at + j] : 0;
        }
    }
    us_free(e->a, weight_grads);
    US_CUDA_TRY(text);
    us_cu_unpack(&e->tables, e->staging, grads);
    return USPLIT_OK;
}

static void losses_of(const us_exec *e, us_losses *losses)
{
    const us_cu_state *s = &e->host_state;
    *losses = (us_losses){.loss = s->loss, .reconstruction = s->reconstruction, .kl = s->kl};
    for (int i = 0; i < e->tables.loss.part[0].channels; i++) {
        losses->channel[i] = s->channel[i];
    }
    for (int i = 0; i < e->tables.loss.levels; i++) {
        losses->level[i] = s->level[i];
    }
}

static usplit_status train(us_exec *e, const us_run *run, us_losses *losses, float *grads)
{
    us_pipe *p = &e->pipes[0];
    US_ASSERT(e->train);
    e->active = run->samples > 0 && run->samples < e->batch ? run->samples : e->batch;
    US_TRY(check_batch(e->plan, e->active));
    e->host_state = (us_cu_state){.loss_scale = 1};
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_CUDA_TRY(us_copy_up(p->stream, e->state, &e->host_state, sizeof e->host_state));
    US_CUDA_TRY(us_stream_wait(p->stream));
    US_TRY(us_pipe_start(p, e->active, run, NULL, NULL));
    US_CUDA_TRY(us_copy_down(p->stream, &e->host_state, e->state, sizeof e->host_state));
    US_CUDA_TRY(us_copy_down(p->stream, e->host_moments, e->moments, e->tables.n_moments * 8));
    US_CUDA_TRY(us_copy_down(p->stream, e->host_sums, p->sums, (int64_t)e->batch * e->plan->n_sums * 8));
    US_TRY(us_pipe_wait(p));
    US_TRY(fetch_values(e, p));
    losses_of(e, losses);
    return isfinite(losses->loss) ? fetch_gradients(e, p, grads) : USPLIT_OK;
}

static usplit_status predict(us_exec *e, int worker, int n, const us_run *runs, const float **heads)
{
    US_ASSERT(!e->train && worker < e->n_pipes && n >= 1 && n <= e->batch);
    us_pipe *p = &e->pipes[worker];
    US_TRY(us_pipe_start(p, n, runs, NULL, NULL));
    US_TRY(us_pipe_wait(p));            // meanwhile the other pipe computes
    if (e->in_band) {
        return USPLIT_OK;
    }
    US_TRY(fetch_values(e, p));
    int64_t floats = e->plan->tensors[e->plan->node_tensor[e->plan->graph->head]].floats;
    for (int i = 0; i < n; i++) {
        heads[i] = p->head_host + i * floats;
    }
    return USPLIT_OK;
}

static const float *output(const us_exec *e, int sample, int node)
{
    int tensor = e->plan->node_tensor[node];
    return tensor >= 0 && e->values[node] ? e->values[node] + sample * e->plan->tensors[tensor].floats : NULL;
}

static const double *sums(const us_exec *e, int sample)
{
    return e->host_sums + (int64_t)sample * e->plan->n_sums;
}

// ---- Optimiser parts on host arrays, for comparing with other backends ---------------------------------

static void update_statistics(us_exec *e, float *params)
{
    const us_param *table = e->plan->graph->params;
    for (int i = 0; i < e->plan->n_bnorms; i++) {
        const us_bnorm *b = &e->plan->bnorms[i];
        const double *moments = e->host_moments + e->tables.bns[i].moments;
        double n = (double)e->active * (double)b->count;
        float *mean = params + table[b->mean].offset, *var = params + table[b->var].offset;
        for (int c = 0; c < b->c; c++) {
            mean[c] = us_bn_run_mean(mean[c], moments[c]);
            var[c] = us_bn_run_var(var[c], moments[b->c + c], n);
        }
        params[table[b->counter].offset] += 1;
    }
}

static usplit_status gradient_norm(us_exec *e, const float *grads, double *norm)
{
    double total = 0;
    for (int i = 0; i < e->tables.n_params; i++) {
        const us_cu_param *p = &e->tables.params[i];
        for (int64_t j = 0; p->trained && j < p->count; j++) {
            total += (double)grads[p->host + j] * (double)grads[p->host + j];
        }
    }
    *norm = sqrt(total);
    return USPLIT_OK;
}

static usplit_status adamax(us_exec *e, float *params, const float *grads, float *m, float *u, double lr, int64_t t,
                            double scale)
{
    us_pipe *p = &e->pipes[0];
    if (e->half) {
        US_FAIL(USPLIT_ERR_UNSUPPORTED, "an Adamax step on host arrays needs float32");
    }
    us_cu_run run = {.active = e->batch, .lr = (float)lr};
    us_cu_state state = {.loss_scale = 1, .updates = t, .ok = 1, .applied = (float)scale};
    us_cu_optimiser o = us_exec_optimiser(e);
    o.total = NULL;
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_TRY(upload(e, params, e->params));
    US_TRY(upload(e, m, e->m));
    US_TRY(upload(e, u, e->u));
    US_TRY(upload(e, grads, e->grads));
    US_TRY(upload(e, grads, e->weight_grads));
    US_CUDA_TRY(us_copy_up(p->stream, p->run, &run, sizeof run));
    US_CUDA_TRY(us_copy_up(p->stream, e->state, &state, sizeof state));
    US_CUDA_TRY(us_cu_adamax(p->stream, &o, p->run, e->state));
    US_CUDA_TRY(us_stream_wait(p->stream));
    US_TRY(download(e, e->params, params));
    US_TRY(download(e, e->m, m));
    return download(e, e->u, u);
}

// ---- The whole iteration on the device ----------------------------------------------------------------

static usplit_status begin(us_exec *e, const us_trained *arrays, const us_tally *tally)
{
    us_stream *s = e->pipes[0].stream;
    e->arrays = *arrays;
    US_TRY(prepare(e, arrays->params));
    US_TRY(upload(e, arrays->m, e->m));
    US_TRY(upload(e, arrays->u, e->u));
    us_cu_state *state = &e->host_state;
    *state = (us_cu_state){.loss_scale = e->half ? (float)tally->loss_scale : 1,
                           .good_steps = (int32_t)tally->good_steps, .updates = tally->updates,
                           .skipped = tally->skipped, .counted = tally->counted, .sum_loss = tally->sum_loss,
                           .sum_reconstruction = tally->sum_reconstruction, .sum_kl = tally->sum_kl,
                           .loss = tally->losses.loss, .norm = tally->gradient_norm};
    memcpy(state->sum_level, tally->sum_level, sizeof tally->sum_level);
    US_CUDA_TRY(us_copy_up(s, e->state, state, sizeof *state));
    US_CUDA_TRY(us_stream_wait(s));
    return USPLIT_OK;
}

// Room to add up a batch's parts. The optimiser's recording holds where its gradients lie: it is made anew.
static usplit_status need_total(us_exec *e)
{
    if (e->total) {
        return USPLIT_OK;
    }
    const char *text = us_device_alloc((void **)&e->total, e->tables.n_floats * 4);
    if (text) {
        e->total = NULL;
        US_FAIL(USPLIT_ERR_MEMORY, "%.0f MiB on %s to add up gradients were refused (%s)",
                (double)e->tables.n_floats * 4 / 1048576, e->cuda->facts.name, text);
    }
    return us_pipe_record_optimiser(&e->pipes[0]);
}

static usplit_status step(us_exec *e, const us_run *run, const us_update *update)
{
    int n = run->samples > 0 ? run->samples : e->batch, parts = (n + e->batch - 1) / e->batch;
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    if (parts > 1) {
        US_TRY(need_total(e));
    }
    for (int i = 0, first = 0; i < parts; i++) {
        us_run some = *run;
        us_part part = {.first = i == 0, .last = i == parts - 1};
        e->active = us_iterate_part(n, parts, i);
        some.first = first;
        part.share = (float)e->active / (float)n;
        US_TRY(check_batch(e->plan, e->active));
        US_TRY(us_pipe_start(&e->pipes[0], e->active, &some, update, &part));
        first += e->active;
    }
    return USPLIT_OK;
}

static usplit_status sync(us_exec *e, us_tally *tally, int arrays)
{
    us_stream *s = e->pipes[0].stream;
    const us_cu_state *state = &e->host_state;
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_CUDA_TRY(us_copy_down(s, &e->host_state, e->state, sizeof e->host_state));
    US_CUDA_TRY(us_stream_wait(s));
    *tally = (us_tally){.updates = state->updates, .skipped = state->skipped, .counted = state->counted,
                        .sum_loss = state->sum_loss, .sum_reconstruction = state->sum_reconstruction,
                        .sum_kl = state->sum_kl, .gradient_norm = state->norm,
                        .loss_scale = e->half ? state->loss_scale : tally->loss_scale,
                        .good_steps = e->half ? state->good_steps : tally->good_steps};
    memcpy(tally->sum_level, state->sum_level, sizeof tally->sum_level);
    losses_of(e, &tally->losses);
    if (arrays) {
        US_TRY(download(e, e->params, e->arrays.params));
        US_TRY(download(e, e->m, e->arrays.m));
        US_TRY(download(e, e->u, e->arrays.u));
    }
    return USPLIT_OK;
}

static void describe(char *text, size_t size)
{
    snprintf(text, size, "CUDA");   // the device and its libraries are described where it is chosen (plugin.c)
}

const us_backend us_backend_cuda = {
    .name = "cuda",
    .layout = US_LAYOUT_BATCH,
    .tile_batch = 128,
    .workers = 2,
    .describe = describe,
    .compile = compile,
    .element_bytes = element_bytes,
    .plan_bytes = plan_bytes,
    .release = release,
    .prepare = prepare,
    .train = train,
    .update_statistics = update_statistics,
    .predict = predict,
    .output = output,
    .sums = sums,
    .gradient_norm = gradient_norm,
    .adamax = adamax,
    .attach = us_exec_attach,
    .band_begin = us_exec_band_begin,
    .band_end = us_exec_band_end,
    .bytes = bytes,
    .device_bytes = device_bytes,
    .begin = begin,
    .step = step,
    .sync = sync,
};
