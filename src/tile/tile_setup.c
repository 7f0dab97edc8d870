// The tiler: graph (a new one for patches of another size than the training's), plan of one patch, executable with the
// model's parameters; and what a run on a given size of image will hold. Workers are as many as the backend asks for,
// at most the pool's threads; a memory budget takes some away, never pixels from the patch.
#include "tile/tile.h"

#include <stdio.h>

static void drop_exec(usplit_tiler *t)
{
    if (t->exec) {
        t->backend->release(t->exec);
    }
    t->exec = NULL;
    t->exec_workers = 0;
}

usplit_status us_tiler_compile(usplit_tiler *t, int workers)
{
    if (t->exec_workers == workers) {
        return USPLIT_OK;
    }
    drop_exec(t);
    US_TRY(t->backend->compile(&t->exec, t->context, t->plan, workers));
    usplit_status status = t->backend->prepare(t->exec, t->model->params);
    if (status != USPLIT_OK) {
        drop_exec(t);
        return status;
    }
    t->exec_workers = workers;
    return USPLIT_OK;
}

int64_t us_tiler_device_bytes(const usplit_tiler *t)
{
    return t->exec && t->backend->device_bytes ? t->backend->device_bytes(t->exec) : 0;
}

// Everything but the buffers of a run.
static int64_t fixed_bytes(const usplit_tiler *t, int workers)
{
    if (t->options.memory_budget == 0) {
        return t->own_bytes + t->backend->bytes(t->exec);
    }
    return t->own_bytes + t->bytes_one + (workers - 1) * t->bytes_more;
}

// What an executable holds is a sum of what it needs once and of equal shares of its workers, so two of them
// tell the bytes of all.
static usplit_status measure_exec(usplit_tiler *t)
{
    us_exec *exec;
    int64_t bytes[2] = {0};
    for (int i = 0; i < 2 && i < t->max_workers; i++) {
        US_TRY(t->backend->compile(&exec, t->context, t->plan, i + 1));
        bytes[i] = t->backend->bytes(exec);
        t->backend->release(exec);
    }
    t->bytes_one = bytes[0];
    t->bytes_more = t->max_workers > 1 ? bytes[1] - bytes[0] : 0;
    return USPLIT_OK;
}

static usplit_status fail_budget(const usplit_tiler *t, int64_t width, int64_t needed)
{
    char image[64] = "";
    if (width > 0) {
        snprintf(image, sizeof image, " on an image %lld pixels wide", (long long)width);
    }
    US_FAIL(USPLIT_ERR_BUDGET,
            "one worker with patches of %d%s needs %lld bytes, memory_budget is %lld; "
            "a larger budget%s%s helps",
            t->shape.patch, image, (long long)needed, (long long)t->options.memory_budget,
            !t->own_graph                              ? ""
            : t->options.tiling == USPLIT_TILING_OUTER ? ", a smaller outer pad"
                                                       : ", a smaller patch",
            width > 0 ? " or a narrower image" : "");
}

static usplit_status build_plan(usplit_tiler *t)
{
    const us_graph *graph = t->model->graph;
    if (t->shape.patch != graph->size) {
        US_TRY(us_graph_build(&t->own_graph, t->a, &graph->config, t->shape.patch));
        graph = t->own_graph;
    }
    us_plan_options options = {.mode = US_PLAN_PREDICT, .layout = t->backend->layout, .batch = t->batch,
                               .want = {t->shape.pad, t->shape.pad, t->shape.inner, t->shape.inner}};
    US_TRY(us_plan_build(&t->plan, t->a, graph, &options));
    for (int k = 0; k < US_MAX_LC; k++) {
        t->coarsest = t->plan->input[k] >= 0 ? k : t->coarsest;
    }
    return USPLIT_OK;
}

// What the tiler itself holds beside its executable: the plan, and the graph of a patch of another size.
static int64_t count_bytes(const usplit_tiler *t)
{
    const us_plan *p = t->plan;
    size_t bytes = sizeof *t + sizeof *p;
    bytes += (size_t)p->cap_steps * sizeof *p->steps + (size_t)p->cap_programs * sizeof *p->programs;
    bytes += (size_t)p->cap_tensors * sizeof *p->tensors + (size_t)p->cap_convs * sizeof *p->convs;
    bytes += (size_t)p->cap_bnorms * sizeof *p->bnorms + (size_t)(p->n_masks + 1) * sizeof *p->masks;
    bytes += (size_t)p->graph->n_nodes * sizeof *p->node_tensor + (size_t)p->graph->n_params;
    bytes += US_MAX_LC * sizeof *p->input;
    for (int i = 0; i < p->n_programs; i++) {
        bytes += (size_t)p->programs[i].cap_ops * sizeof *p->programs[i].ops;
    }
    const us_graph *g = t->own_graph;
    if (g) {
        bytes += sizeof *g + (size_t)g->cap_nodes * sizeof *g->nodes;
        bytes += (size_t)g->cap_params * sizeof *g->params;
    }
    return (int64_t)bytes;
}

// best: of the backend, for patches of up to 64 pixels; larger ones are fewer at a time, with as many pixels.
static int choose_batch(int best, int asked, int patch)
{
    best = best < US_TILE_MAX_BATCH ? best : US_TILE_MAX_BATCH;
    if (asked > 0) {
        return asked < best ? asked : best;
    }
    int64_t fit = (int64_t)best * 64 * 64 / ((int64_t)patch * patch);
    return fit < 1 ? 1 : fit < best ? (int)fit : best;
}

static usplit_status set_up(usplit_tiler *t)
{
    const us_net_config *config = &t->model->graph->config;
    const usplit_tiler_options *o = &t->options;
    US_TRY(us_tile_grid_shape(&t->shape, o, config->patch));
    t->shape.exact = t->normalisation.centring == USPLIT_CENTRING_EXACT;
    t->channels = config->channels;
    t->mean_latents = o->latent == USPLIT_LATENT_MEAN || config->family != USPLIT_FAMILY_HVAE;
    t->samples = t->mean_latents ? 1 : o->samples;
    t->planes = o->deviations ? 2 * t->channels : t->channels;
    US_CHECK_ARG(!o->deviations || t->samples * t->shape.shifts >= 2,
                 "deviations is 1 with one value per pixel; accepted with %s of 2 or more",
                 t->mean_latents ? "shifts" : "samples or shifts");
    t->max_workers = us_pool_size(t->context->pool);
    if (t->backend->workers > 0 && t->backend->workers < t->max_workers) {
        t->max_workers = t->backend->workers;
    }
    t->batch = choose_batch(t->backend->tile_batch, o->batch, t->shape.patch);
    US_TRY(build_plan(t));
    t->own_bytes = count_bytes(t);
    int workers = t->max_workers;
    if (o->memory_budget > 0) {
        US_TRY(measure_exec(t));
        while (t->batch > 1 && fixed_bytes(t, workers) > o->memory_budget) {    // smaller batches, then fewer workers
            us_plan_free(t->plan);
            t->plan = NULL;
            us_graph_free(t->own_graph);
            t->own_graph = NULL;
            t->batch /= 2;
            US_TRY(build_plan(t));
            US_TRY(measure_exec(t));
        }
        while (workers > 1 && fixed_bytes(t, workers) > o->memory_budget) {
            workers--;
        }
        if (fixed_bytes(t, workers) > o->memory_budget) {
            return fail_budget(t, 0, fixed_bytes(t, workers));
        }
    }
    return us_tiler_compile(t, workers);
}

usplit_status us_tiler_new(usplit_tiler **out, usplit_model *model, const usplit_tiler_options *options)
{
    *out = NULL;
    const us_allocator *a = &model->context->allocator;
    usplit_tiler *t = us_calloc(a, 1, sizeof *t);
    if (!t) {
        return USPLIT_ERR_MEMORY;
    }
    atomic_init(&t->refs, 1);
    atomic_init(&t->cancelled, 0);
    atomic_init(&t->running, 0);
    t->model = us_model_retain(model);
    t->context = us_context_retain(model->context);
    t->a = &t->context->allocator;
    t->backend = t->context->backend;
    t->options = *options;
    t->normalisation = model->normalisation;
    t->calibration = model->calibration;
    usplit_status status = set_up(t);
    if (status != USPLIT_OK) {
        us_tiler_release(t);
        return status;
    }
    *out = t;
    return USPLIT_OK;
}

usplit_tiler *us_tiler_retain(usplit_tiler *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void us_tiler_release(usplit_tiler *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1) {
        return;
    }
    drop_exec(t);
    us_plan_free(t->plan);
    us_graph_free(t->own_graph);
    us_model_release(t->model);
    usplit_context *context = t->context;
    us_free(t->a, t);
    us_context_release(context);
}

// ---- Layout of a run --------------------------------------------------------------------------------

// Workers and rows of tiles for an executable of `workers`: at least two batches of tiles per worker in a band,
// where the image has as many, so that narrow images keep all workers busy.
static void lay_out(const usplit_tiler *t, int workers, us_tile_layout *l)
{
    int64_t tiles = l->grid.rows * l->grid.columns;     // of one grid: grids are worked off one after the other
    l->exec_workers = workers;
    l->workers = tiles < workers ? (int)tiles : workers;
    l->band_rows = (2 * l->workers * t->batch + l->grid.columns - 1) / l->grid.columns;
    l->band_rows = l->band_rows < l->grid.all_rows ? l->band_rows : l->grid.all_rows;
    l->fixed_bytes = fixed_bytes(t, workers);
    l->rows_bytes = us_tile_rows_bytes(&l->grid, t->coarsest, l->band_rows);
    int64_t rows = l->band_rows * l->grid.inner + l->grid.reach;
    rows = rows < l->grid.height ? rows : l->grid.height;
    l->band_floats = t->planes * rows * l->grid.width;
    l->band_bytes = (l->band_floats + t->planes * l->grid.reach * l->grid.width) * (int64_t)sizeof(float);
}

usplit_status us_tiler_layout(const usplit_tiler *t, int64_t height, int64_t width, us_tile_layout *l)
{
    l->grid = t->shape;
    US_TRY(us_tile_grid_fit(&l->grid, t->options.cover, t->coarsest, height, width));
    int64_t budget = t->options.memory_budget;
    int64_t bytes = 0;
    for (int workers = t->max_workers; workers >= 1; workers--) {
        lay_out(t, workers, l);
        bytes = l->fixed_bytes + l->rows_bytes + l->band_bytes;
        if (budget == 0 || bytes <= budget) {
            return USPLIT_OK;
        }
    }
    return fail_budget(t, width, bytes);
}
