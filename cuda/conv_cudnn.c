// cuDNN 9 as a library of ways (ways.h), by its backend interface.
//
//   shape -> problem, graph    cudnn_graph.c; for FORWARD with the addition of the bias, then without
//         -> configurations    engines that cuDNN's heuristics propose, best first, and that keep our rules
//         -> execution plan    what is offered
//   recipe -> the same engine with the same knobs
//
// True float32: cuDNN offers tensor cores for float tensors only by rounding the inputs to TF32 or less. Engines that
// do so carry the notes TENSOR_CORE or DOWN_CONVERT_INPUTS; in float mode both are refused, so nothing depends on a
// math mode or on NVIDIA_TF32_OVERRIDE. Sums narrower than float and transforms that lose digits are refused in both
// modes (is_refused_note).
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cudnn_graph.h"
#include "ways.h"

#if CUDNN_VERSION < 90800       // numbers that its header does not have yet, for described devices
#define CUDNN_ATTR_ENGINEHEUR_DEVICEPROP ((cudnnBackendAttributeName_t)204)
#define CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP ((cudnnBackendAttributeName_t)407)
#define CUDNN_ATTR_ENGINE_DEVICEPROP ((cudnnBackendAttributeName_t)1307)
#define CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION ((cudnnBackendAttributeName_t)2702)
#define CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR ((cudnnBackendDescriptorType_t)38)
#endif

enum { MOST_PROPOSED = 32 };

typedef struct library {
    cudnnHandle_t handle;           // NULL: on a described device
    us_dnn_objects description;     // of the device, where it is described
    us_dnn_desc device;
    us_stream *stream;              // that the handle works on now
    int deterministic;
} library;

// Descriptors stay as long as a way of theirs, whatever cuDNN copies of them.
typedef struct graph {
    us_dnn_problem problem;
    us_dnn_objects objects;
    us_dnn_desc d;
    int with_bias, users;
} graph;

typedef struct engine {
    us_cu_way way;
    library *library;
    graph *graph;
    us_dnn_objects objects;         // configuration and execution plan
    us_dnn_desc execution;
} engine;

// ---- Graphs -------------------------------------------------------------------------------------------

static void leave_graph(graph *g)
{
    if (g && --g->users == 0) {
        us_dnn_drop(&g->objects);
        us_free(NULL, g);
    }
}

// *out stays NULL where cuDNN has no such graph.
static const char *make_graph(graph **out, library *l, const us_dnn_problem *p, int with_bias)
{
    *out = NULL;
    graph *g = us_calloc(NULL, 1, sizeof *g);
    if (!g) {
        return "out of memory for a convolution";
    }
    g->users = 1;
    g->with_bias = with_bias;
    g->problem = *p;
    g->d = us_dnn_make_graph(&g->objects, p, l->handle, with_bias);
    cudnnStatus_t status = g->objects.status;
    if (status != CUDNN_STATUS_SUCCESS) {
        const char *text = us_dnn_is_refusal(status) ? NULL : us_dnn_fail(status, g->objects.what);
        leave_graph(g);
        return text;
    }
    *out = g;
    return NULL;
}

// ---- Which engines we take -------------------------------------------------------------------------------

// float: tensor cores would mean TF32 (see above). Both: sums in half; FFT and the large Winograd tiles, whose
// transforms cost two and more digits. The small tile (4x4 for a 3 x 3 kernel) only adds and halves.
static int is_refused_note(const library *l, const us_dnn_problem *p, cudnnBackendNumericalNote_t note)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: return !p->shape.half;
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_FFT:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return 1;
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return l->deterministic;
    default: return 0;
    }
}

// cuDNN 9.19's engine 1 gives wrong weight gradients of float tensors where the paddings of two sides differ (seen on
// an H100 by test/cuda/conv_gpu.c; halves and equal paddings are right).
static int is_wrong(const us_dnn_problem *p, int64_t index)
{
    int uneven = p->pre[0] != p->post[0] || p->pre[1] != p->post[1];
    return index == 1 && p->direction == US_CU_WEIGHT && !p->shape.half && uneven;
}

// Does the engine of a configuration keep our rules? Its number in cuDNN's list: *index.
static int is_acceptable(const library *l, const us_dnn_problem *p, us_dnn_desc configuration, int64_t *index)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    us_dnn_objects o = {.n = 0};
    int64_t n = 0, got = 0;
    us_dnn_desc d = us_dnn_make(&o, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
    int ok = d &&
             cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &got, &d) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(d, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &got, index) ==
                 CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; ok && i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        ok = !is_refused_note(l, p, notes[i]);
    }
    us_dnn_drop(&o);
    return ok && !is_wrong(p, *index);
}

// ---- Recipes: graph, engine, and its knobs as pairs ----------------------------------------------------------

// The recipe stays without a library where there are more knobs than it has room for.
static void write_recipe(us_cu_recipe *r, const graph *g, us_dnn_desc configuration, int64_t index)
{
    us_dnn_objects o = {.n = 0};
    us_dnn_desc knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t n = 0, got = 0;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++) {
        knobs[i] = us_dnn_make(&o, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, "a knob");
    }
    int ok = o.status == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                      CUDNN_KNOB_TYPE_COUNTS, &n, knobs) == CUDNN_STATUS_SUCCESS &&
             n <= CUDNN_KNOB_TYPE_COUNTS && 2 + 2 * n <= US_CU_RECIPE_WORDS;
    *r = (us_cu_recipe){.n = 2, .words = {g->with_bias, index}};
    for (int64_t i = 0; ok && i < n; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t value = 0;
        ok = cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &got,
                                      &type) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &got,
                                      &value) == CUDNN_STATUS_SUCCESS;
        r->words[r->n++] = type;
        r->words[r->n++] = value;
    }
    if (ok) {
        snprintf(r->library, sizeof r->library, "%s", us_cu_library_cudnn.name);
    }
    us_dnn_drop(&o);
}

// The configuration of a recipe, in `o`; errors there.
static us_dnn_desc read_recipe(us_dnn_objects *o, const library *l, const graph *g, const us_cu_recipe *r)
{
    const char *what = "an engine chosen before";
    us_dnn_desc knobs[US_CU_RECIPE_WORDS / 2];
    int64_t n = 0;
    for (int i = 2; i + 1 < r->n; i += 2) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)r->words[i];
        knobs[n] = us_dnn_make(o, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, what);
        us_dnn_set(o, knobs[n], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type, what);
        us_dnn_set(o, knobs[n], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &r->words[i + 1], what);
        us_dnn_finish(o, knobs[n++], what);
    }
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_ENGINE_DESCRIPTOR, what);
    us_dnn_set_desc(o, d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->d, what);
    us_dnn_set(o, d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &r->words[1], what);
    if (l->device) {
        us_dnn_set_desc(o, d, CUDNN_ATTR_ENGINE_DEVICEPROP, l->device, what);
    }
    us_dnn_finish(o, d, what);
    us_dnn_desc configuration = us_dnn_make(o, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, what);
    us_dnn_set_desc(o, configuration, CUDNN_ATTR_ENGINECFG_ENGINE, d, what);
    if (n > 0) {
        us_dnn_set(o, configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, knobs, what);
    }
    us_dnn_finish(o, configuration, what);
    return configuration;
}

// ---- Ways ------------------------------------------------------------------------------------------------

static void release(us_cu_way *way)
{
    engine *e = (engine *)way;
    us_dnn_drop(&e->objects);
    leave_graph(e->graph);
    us_free(NULL, e);
}

// Configuration, which lies in `o`, -> way. It owns what is in `o`, and *out is NULL where cuDNN refuses it or it
// wants too much.
static const char *make_way(us_cu_way **out, library *l, graph *g, us_dnn_objects *o, us_dnn_desc configuration,
                            int64_t index)
{
    const char *what = "an execution plan";
    int64_t n = 0;
    *out = NULL;
    engine *e = us_calloc(NULL, 1, sizeof *e);
    if (!e) {
        us_dnn_drop(o);
        return "out of memory for a convolution";
    }
    e->library = l;
    e->graph = g;
    g->users++;
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, what);
    if (l->device) {
        us_dnn_set_desc(o, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, l->device, what);
    } else {
        us_dnn_set(o, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle, what);
    }
    us_dnn_set_desc(o, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration, what);
    us_dnn_finish(o, d, what);
    if (o->status == CUDNN_STATUS_SUCCESS) {
        us_dnn_note_error(o, cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                                      &n, &e->way.workspace), what);
    }
    int good = o->status == CUDNN_STATUS_SUCCESS && e->way.workspace <= US_CU_MOST_WORKSPACE;
    e->objects = *o;
    e->execution = d;
    if (!good) {
        release(&e->way);
        return NULL;
    }
    e->way.library = &us_cu_library_cudnn;
    e->way.adds_bias = g->with_bias;
    snprintf(e->way.note, sizeof e->way.note, "cudnn %d%s", (int)index,
             g->problem.direction == US_CU_FORWARD && !g->with_bias ? ", bias" : "");
    write_recipe(&e->way.recipe, g, configuration, index);
    *out = &e->way;
    return NULL;
}

// Asks one kind of heuristics. The configurations are the caller's to destroy; none where cuDNN has no answer.
static const char *propose(const library *l, const graph *g, cudnnBackendHeurMode_t mode, us_dnn_desc *found,
                           int64_t *n)
{
    const char *what = "heuristics";
    us_dnn_objects o = {.n = 0};
    int made = 0;
    *n = 0;
    us_dnn_desc d = us_dnn_make(&o, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, what);
    us_dnn_set_desc(&o, d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->d, what);
    us_dnn_set(&o, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, what);
    if (l->device) {
        us_dnn_set_desc(&o, d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, l->device, what);
    }
    us_dnn_finish(&o, d, what);
    while (o.status == CUDNN_STATUS_SUCCESS && made < MOST_PROPOSED) {
        us_dnn_note_error(&o, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, found + made), what);
        made += o.status == CUDNN_STATUS_SUCCESS;
    }
    if (o.status == CUDNN_STATUS_SUCCESS) {
        us_dnn_note_error(&o, cudnnBackendGetAttribute(d, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                       MOST_PROPOSED, n, found), what);
    }
    const char *text = NULL;
    if (o.status != CUDNN_STATUS_SUCCESS) {
        *n = 0;
        text = us_dnn_is_refusal(o.status) ? NULL : us_dnn_fail(o.status, what);
    }
    *n = *n < made ? *n : made;
    while (made > *n) {
        cudnnBackendDestroyDescriptor(found[--made]);
    }
    us_dnn_drop(&o);
    return text;
}

// One configuration, which becomes ours.
static const char *offer_one(library *l, graph *g, us_dnn_desc configuration, us_cu_taker *taker, int *offered,
                             int *done)
{
    us_dnn_objects o = {.made = {configuration}, .n = 1};
    us_cu_way *way = NULL;
    int64_t index = 0;
    if (!is_acceptable(l, &g->problem, configuration, &index)) {
        us_dnn_drop(&o);
        return NULL;
    }
    const char *text = make_way(&way, l, g, &o, configuration, index);
    if (text || !way) {
        return text;
    }
    ++*offered;
    return taker->take(taker, way, done);
}

// Best first: heuristics A; where nothing of it runs its quick table, then what always exists.
static const char *offer_graph(library *l, graph *g, int most, us_cu_taker *taker, int *done)
{
    static const cudnnBackendHeurMode_t modes[3] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_INSTANT,
                                                    CUDNN_HEUR_MODE_FALLBACK};
    int offered = 0, before = taker->taken;
    const char *text = NULL;
    for (int m = 0; m < 3 && !*done && !text && taker->taken == before; m++) {
        us_dnn_desc found[MOST_PROPOSED];
        int64_t n;
        text = propose(l, g, modes[m], found, &n);
        for (int64_t i = 0; i < n; i++) {
            if (*done || text || offered >= most) {
                cudnnBackendDestroyDescriptor(found[i]);
            } else {
                text = offer_one(l, g, found[i], taker, &offered, done);
            }
        }
    }
    return text;
}

static const char *offer(void *of, const us_cu_shape *shape, us_conv_direction direction, int most, us_cu_taker *taker)
{
    library *l = of;
    us_dnn_problem p;
    const char *text = NULL;
    int done = 0;
    if (!us_dnn_make_problem(&p, shape, direction)) {
        return NULL;
    }
    for (int with_bias = direction == US_CU_FORWARD; with_bias >= 0 && !done && !text; with_bias--) {
        graph *g;
        text = make_graph(&g, l, &p, with_bias);
        if (g) {
            text = offer_graph(l, g, most, taker, &done);
        }
        leave_graph(g);
    }
    return text;
}

static const char *again(void *of, const us_cu_shape *shape, us_conv_direction direction, const us_cu_recipe *recipe,
                         us_cu_way **out)
{
    library *l = of;
    us_dnn_problem p;
    us_dnn_objects o = {.n = 0};
    graph *g;
    int64_t index = 0;
    int bias = recipe->n >= 2 && recipe->words[0] != 0;
    *out = NULL;
    if (recipe->n < 2 || (bias && direction != US_CU_FORWARD) || !us_dnn_make_problem(&p, shape, direction)) {
        return NULL;
    }
    const char *text = make_graph(&g, l, &p, bias);
    if (text || !g) {
        return text;
    }
    us_dnn_desc configuration = read_recipe(&o, l, g, recipe);
    if (o.status == CUDNN_STATUS_SUCCESS && is_acceptable(l, &p, configuration, &index)) {
        text = make_way(out, l, g, &o, configuration, index);
    } else {
        text = o.status == CUDNN_STATUS_SUCCESS || us_dnn_is_refusal(o.status) ? NULL : us_dnn_fail(o.status, o.what);
        us_dnn_drop(&o);
    }
    leave_graph(g);
    return text;
}

// ---- Running ---------------------------------------------------------------------------------------------

// X, Y and W in a, b and out.
static void order(const us_dnn_problem *p, const us_cu_arguments *args, const void *xyw[3])
{
    int transposed = p->shape.transposed;
    const void *x = args->a, *y = p->direction == US_CU_WEIGHT ? args->b : args->out;
    if (p->direction == US_CU_BACK) {
        x = args->out, y = args->a;
    }
    xyw[0] = transposed ? y : x;
    xyw[1] = transposed ? x : y;
    xyw[2] = p->direction == US_CU_WEIGHT ? args->out : args->b;
}

static const char *run(us_cu_way *way, us_stream *stream, const us_cu_arguments *args)
{
    static const int64_t uids[4] = {US_DNN_X, US_DNN_Y, US_DNN_W, US_DNN_BIAS};
    engine *e = (engine *)way;
    library *l = e->library;
    const us_dnn_problem *p = &e->graph->problem;
    const char *what = "to run a convolution";
    const void *xyw[3], *pointers[4];
    us_dnn_objects o = {.n = 0};
    if (l->stream != stream) {
        us_dnn_note_error(&o, cudnnSetStream(l->handle, us_stream_native(stream)), "the stream");
        l->stream = o.status == CUDNN_STATUS_SUCCESS ? stream : NULL;
    }
    order(p, args, xyw);
    pointers[0] = (const char *)xyw[0] + p->x.offset;
    pointers[1] = (const char *)xyw[1] + p->y.offset;
    pointers[2] = xyw[2];
    pointers[3] = args->bias;
    us_dnn_desc d = us_dnn_make(&o, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, what);
    int64_t n = e->graph->with_bias ? 4 : 3;
    us_dnn_set(&o, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids, what);
    us_dnn_set(&o, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers, what);
    us_dnn_set(&o, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &args->workspace, what);
    us_dnn_finish(&o, d, what);
    if (o.status == CUDNN_STATUS_SUCCESS) {
        us_dnn_note_error(&o, cudnnBackendExecute(l->handle, e->execution, d), what);
    }
    const char *text = o.status == CUDNN_STATUS_SUCCESS ? NULL : us_dnn_fail(o.status, o.what);
    us_dnn_drop(&o);
    return text;
}

// ---- The library -----------------------------------------------------------------------------------------

static void close_library(void *of)
{
    library *l = of;
    us_dnn_drop(&l->description);
    if (l->handle) {
        cudnnDestroy(l->handle);
    }
    us_free(NULL, l);
}

static const char *open_library(void **out, int deterministic)
{
    *out = NULL;
    library *l = us_calloc(NULL, 1, sizeof *l);
    if (!l) {
        return "out of memory for cuDNN's handle";
    }
    l->deterministic = deterministic;
    cudnnStatus_t status = cudnnCreate(&l->handle);
    if (status != CUDNN_STATUS_SUCCESS) {
        const char *text = us_dnn_fail(status, "a handle");
        close_library(l);
        return text;
    }
    *out = l;
    return NULL;
}

const char *us_cu_cudnn_open_described(void **out, int deterministic, const char *json)
{
    const char *what = "a described device", *text = NULL;
    *out = NULL;
    library *l = us_calloc(NULL, 1, sizeof *l);
    if (!l) {
        return "out of memory for cuDNN";
    }
    l->deterministic = deterministic;
    us_dnn_objects *o = &l->description;
    l->device = us_dnn_make(o, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, what);
    us_dnn_set(o, l->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json,
               what);
    us_dnn_finish(o, l->device, what);
    if (o->status != CUDNN_STATUS_SUCCESS) {
        text = us_dnn_fail(o->status, what);
        close_library(l);
        return text;
    }
    *out = l;
    return NULL;
}

static void describe(char *text, size_t size)
{
    int version = (int)cudnnGetVersion();
    snprintf(text, size, "cuDNN %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

const us_cu_library us_cu_library_cudnn = {"cudnn", open_library, close_library, describe, offer, again, run, release};

const us_cu_library *const us_cu_libraries[] = {&us_cu_library_thin, &us_cu_library_cudnn, &us_cu_library_lt, NULL};
