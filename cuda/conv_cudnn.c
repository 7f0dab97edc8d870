// Convolutions by cuDNN 9's backend interface, behind the table of conv.h.
//
//   shape -> problem     the two sides X and Y of conv.h, with paddings and windows cuDNN can take
//         -> graph       descriptors: convolution, for FORWARD followed by the addition of the bias
//         -> candidates  configurations that cuDNN's heuristics propose, best first
//         -> plan        the first that passes our filter and runs, or the fastest of the first eight
//
// Where cuDNN has nothing for convolution and bias in one, the bias is added by a kernel of conv_plain.cu; where it
// has nothing at all, conv_plain.cu does the work: note() tells. Products for k = 1 need no path of their own: there
// cuDNN's convolution is a matrix product. One engine belongs to one thread at a time.
//
// True float32: cuDNN offers tensor cores for float tensors only by rounding the inputs to TF32 or less. Engines that
// do so carry the notes TENSOR_CORE or DOWN_CONVERT_INPUTS; in float mode both are refused, so nothing depends on a
// math mode or on NVIDIA_TF32_OVERRIDE. Sums narrower than float and transforms that lose digits are refused in both
// modes (refused_notes).
#include "conv.h"

#include <cudnn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

typedef cudnnBackendDescriptor_t desc;

enum { MOST_OBJECTS = 16, MOST_PROPOSED = 32, MOST_TIMED = 8, TIMED_RUNS = 3 };

static const int64_t MOST_WORKSPACE = (int64_t)256 << 20;

// ---- Errors ----

static const char *fail(cudnnStatus_t status, const char *what)
{
    static _Thread_local char text[512];
    char last[320] = "";
    cudnnGetLastErrorString(last, sizeof last);
    snprintf(text, sizeof text, "cuDNN, %s: %s%s%s", what, cudnnGetErrorString(status), last[0] ? ": " : "", last);
    return text;
}

// "Not supported" and "bad parameter" are about this shape: there are other ways. The rest is about the machine.
static int is_refusal(cudnnStatus_t status)
{
    int category = CUDNN_STATUS_CATEGORY((int)status);
    return category == 2000 || category == 3000;
}

// ---- Descriptors: a list that is destroyed as one, and the first error met while filling it ----

typedef struct objects {
    desc made[MOST_OBJECTS];
    int n;
    cudnnStatus_t status;
    const char *what;
} objects;

static void note_error(objects *o, cudnnStatus_t status, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS && status != CUDNN_STATUS_SUCCESS) {
        o->status = status;
        o->what = what;
    }
}

static desc make(objects *o, cudnnBackendDescriptorType_t type, const char *what)
{
    desc d = NULL;
    if (o->status != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    if (o->n == MOST_OBJECTS) {
        note_error(o, CUDNN_STATUS_INTERNAL_ERROR, what);
        return NULL;
    }
    note_error(o, cudnnBackendCreateDescriptor(type, &d), what);
    if (o->status == CUDNN_STATUS_SUCCESS) {
        o->made[o->n++] = d;
    }
    return d;
}

static void set(objects *o, desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                const void *values, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS) {
        note_error(o, cudnnBackendSetAttribute(d, name, type, n, values), what);
    }
}

static void set_desc(objects *o, desc d, cudnnBackendAttributeName_t name, desc value, const char *what)
{
    set(o, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value, what);
}

static void finish(objects *o, desc d, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS) {
        note_error(o, cudnnBackendFinalize(d), what);
    }
}

static void drop(objects *o)
{
    while (o->n > 0) {
        cudnnBackendDestroyDescriptor(o->made[--o->n]);
    }
    o->status = CUDNN_STATUS_SUCCESS;
}

// ---- A problem: what cuDNN is told about a shape ----

// One side. Its tensor has the strides of what lies in memory and the extent of what the convolution uses.
typedef struct side {
    int64_t c, h, w;            // extent used
    int64_t full_h, full_w;     // in memory
    int64_t offset;             // bytes from the tensor's first element to the first used
} side;

typedef struct problem {
    us_cu_shape shape;
    us_conv_direction direction;
    side x, y;
    int64_t pre[2], post[2], stride[2];
} problem;

// cuDNN knows no negative paddings, and its Y must have exactly floor((x + pre + post - k) / stride) + 1 rows. Our
// windows may hold rows that no tap reaches, on either side. Along one axis, Y's row p reads X's rows
// p * stride - pre to p * stride - pre + k - 1; so
//   - a side that is read loses the rows at its ends that no tap reaches: they take no part in any sum, and the
//     smaller tensor is the same memory with the same strides;
//   - a side that is written keeps all of its rows, since they want a value (zero, or the bias). Where that would
//     need a negative padding the shape is not for cuDNN (returns 0). The plans of networks have no such shapes.
// post: any of `least` to least + stride - 1 gives this number of rows; the same as pre where possible, which more
// engines take.
static int fit_axis(int64_t *x, int64_t *x_first, int64_t *y, int64_t *y_first, int64_t *pre, int64_t *post, int64_t k,
                    int64_t stride, int x_written, int y_written)
{
    *x_first = *y_first = 0;
    if (!y_written) {
        if (*pre >= k) {                                    // first rows of Y lie above all of X
            *y_first = (*pre - k) / stride + 1;
            *y -= *y_first;
            *pre -= *y_first * stride;
        }
        int64_t reach = *x + *pre;                          // rows p with p * stride >= reach lie below all of X
        if (reach <= 0) {
            return 0;
        }
        *y = *y < (reach - 1) / stride + 1 ? *y : (reach - 1) / stride + 1;
    }
    if (*pre < 0 && !x_written) {
        *x_first = -*pre;
        *x += *pre;
        *pre = 0;
    }
    int64_t least = (*y - 1) * stride + k - *pre - *x;
    if (least + stride - 1 < 0 && !x_written) {
        *x += least;
        least = 0;
    }
    *post = *pre >= least && *pre < least + stride ? *pre : least > 0 ? least : 0;
    return *x > 0 && *y > 0 && *pre >= 0 && *post < least + stride;
}

static int make_problem(problem *p, const us_cu_shape *shape, us_conv_direction direction)
{
    us_cu_sides d = us_cu_sides_of(shape);
    int writes_x = direction != US_CU_WEIGHT && us_cu_writes_x(shape, direction);
    int writes_y = direction != US_CU_WEIGHT && !writes_x;
    int64_t x_y, x_x, y_y, y_x, element = shape->half ? 2 : 4;
    *p = (problem){.shape = *shape, .direction = direction, .stride = {d.stride, d.stride}, .pre = {d.top, d.left},
                   .x = {.c = d.b, .h = d.x_h, .w = d.x_w, .full_h = d.x_h, .full_w = d.x_w},
                   .y = {.c = d.a, .h = d.y_h, .w = d.y_w, .full_h = d.y_h, .full_w = d.y_w}};
    if (!fit_axis(&p->x.h, &x_y, &p->y.h, &y_y, &p->pre[0], &p->post[0], d.k, d.stride, writes_x, writes_y) ||
        !fit_axis(&p->x.w, &x_x, &p->y.w, &y_x, &p->pre[1], &p->post[1], d.k, d.stride, writes_x, writes_y)) {
        return 0;
    }
    p->x.offset = (x_y * p->x.full_w + x_x) * p->x.c * element;
    p->y.offset = (y_y * p->y.full_w + y_x) * p->y.c * element;
    return 1;
}

// ---- The graph of a problem ----

enum { UID_X = 1, UID_Y, UID_W, UID_BIAS, UID_SUM };        // UID_SUM: the convolution before the bias

static cudnnDataType_t type_of(const problem *p)
{
    return p->shape.half ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

static desc make_tensor(objects *o, int64_t uid, cudnnDataType_t type, const int64_t dims[4], const int64_t strides[4],
                        int64_t offset)
{
    const char *what = "a tensor";
    bool is_virtual = uid == UID_SUM;
    int64_t align = 16;
    while (offset % align != 0) {
        align /= 2;
    }
    desc d = make(o, CUDNN_BACKEND_TENSOR_DESCRIPTOR, what);
    set(o, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid, what);
    set(o, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, what);
    set(o, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims, what);
    set(o, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides, what);
    set(o, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align, what);
    set(o, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual, what);
    finish(o, d, what);
    return d;
}

// Dimensions are named N, C, H, W whatever lies where; the strides say channels last.
static desc make_side(objects *o, const problem *p, const side *s, int64_t uid, cudnnDataType_t type)
{
    const int64_t dims[4] = {p->shape.batch, s->c, s->h, s->w};
    const int64_t strides[4] = {s->full_h * s->full_w * s->c, 1, s->full_w * s->c, s->c};
    return make_tensor(o, uid, type, dims, strides, uid == UID_SUM ? 0 : s->offset);
}

static desc make_weights(objects *o, const problem *p)
{
    int64_t k = p->shape.k, a = p->y.c, b = p->x.c;
    const int64_t dims[4] = {a, b, k, k}, strides[4] = {k * k * b, 1, k * b, b};
    return make_tensor(o, UID_W, type_of(p), dims, strides, 0);
}

static desc make_convolution(objects *o, const problem *p)
{
    const char *what = "a convolution";
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, ones[2] = {1, 1};
    desc d = make(o, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, p->stride, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, p->pre, what);
    set(o, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, p->post, what);
    finish(o, d, what);
    return d;
}

// The three operations differ in the names of their attributes only.
typedef struct operation_names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t alpha, beta, convolution, x, y, w;
} operation_names;

static const operation_names writes_y = {
    CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W};
static const operation_names writes_x = {
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W};
static const operation_names writes_w = {
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW};

static desc make_operation(objects *o, const operation_names *names, desc convolution, desc x, desc y, desc w)
{
    const char *what = "an operation";
    const float one = 1, zero = 0;
    desc d = make(o, names->type, what);
    set_desc(o, d, names->convolution, convolution, what);
    set_desc(o, d, names->x, x, what);
    set_desc(o, d, names->y, y, what);
    set_desc(o, d, names->w, w, what);
    set(o, d, names->alpha, CUDNN_TYPE_FLOAT, 1, &one, what);
    set(o, d, names->beta, CUDNN_TYPE_FLOAT, 1, &zero, what);
    finish(o, d, what);
    return d;
}

static desc make_addition(objects *o, const problem *p, desc sum, desc out)
{
    const char *what = "a bias";
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    const int64_t co = p->shape.co, dims[4] = {1, co, 1, 1}, strides[4] = {co, 1, co, co};
    desc bias = make_tensor(o, UID_BIAS, type_of(p), dims, strides, 0);
    desc add = make(o, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, what);
    set(o, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, what);
    set(o, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision, what);
    finish(o, add, what);
    desc d = make(o, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, what);
    set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add, what);
    set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, sum, what);
    set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, bias, what);
    set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out, what);
    finish(o, d, what);
    return d;
}

// with_bias: the convolution's result is a virtual float tensor, which only the addition sees.
static desc make_graph(objects *o, const problem *p, cudnnHandle_t handle, int with_bias)
{
    const char *what = "a graph";
    int into_x = p->direction != US_CU_WEIGHT && us_cu_writes_x(&p->shape, p->direction);
    const side *out_side = into_x ? &p->x : &p->y;
    desc x = make_side(o, p, &p->x, UID_X, type_of(p)), y = make_side(o, p, &p->y, UID_Y, type_of(p));
    desc w = make_weights(o, p), convolution = make_convolution(o, p), out = into_x ? x : y, operations[2];
    desc sum = with_bias ? make_side(o, p, out_side, UID_SUM, CUDNN_DATA_FLOAT) : out;
    if (p->direction == US_CU_WEIGHT) {
        operations[0] = make_operation(o, &writes_w, convolution, x, y, w);
    } else if (into_x) {
        operations[0] = make_operation(o, &writes_x, convolution, sum, y, w);
    } else {
        operations[0] = make_operation(o, &writes_y, convolution, x, sum, w);
    }
    operations[1] = with_bias ? make_addition(o, p, sum, out) : NULL;
    desc d = make(o, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, what);
    set(o, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, with_bias ? 2 : 1, operations, what);
    set(o, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, what);
    finish(o, d, what);
    return d;
}

// ---- Plans ----

// A shape and direction made ready. Descriptors stay as long as the plan, whatever cuDNN copies of them.
typedef struct plan {
    problem problem;
    objects graph, chosen;      // chosen: configuration and execution plan
    desc execution;             // NULL: `plain` does it
    int with_bias;              // FORWARD: the graph adds the bias
    int64_t workspace;
    us_cu_conv *plain;
    char note[32];
    struct plan *next;
} plan;

struct us_cu_engine {
    cudnnHandle_t handle;
    us_stream *stream;          // that the handle works on now
    int deterministic, search;
    plan *plans;                // all made so far
};

struct us_cu_conv {
    us_cu_engine *engine;
    plan *plan;
};

// Pointers by side: which of a, b and out are X, Y and W.
typedef struct arguments {
    const char *x, *y, *w;
    const void *bias;
    void *workspace;
} arguments;

static cudnnStatus_t execute(cudnnHandle_t handle, const plan *p, desc execution, const arguments *args)
{
    static const int64_t uids[4] = {UID_X, UID_Y, UID_W, UID_BIAS};
    const void *pointers[4] = {args->x + p->problem.x.offset, args->y + p->problem.y.offset, args->w, args->bias};
    const char *what = "arguments";
    objects o = {.n = 0};
    int64_t n = p->with_bias ? 4 : 3;
    desc d = make(&o, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, what);
    set(&o, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids, what);
    set(&o, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers, what);
    set(&o, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &args->workspace, what);
    finish(&o, d, what);
    if (o.status == CUDNN_STATUS_SUCCESS) {
        note_error(&o, cudnnBackendExecute(handle, execution, d), what);
    }
    cudnnStatus_t status = o.status;
    drop(&o);
    return status;
}

// ---- Candidates ----

// float: tensor cores would mean TF32 (see above). Both: sums in half; FFT and the large Winograd tiles, whose
// transforms cost two and more digits. The small tile (4x4 for a 3 x 3 kernel) only adds and halves.
static int is_refused_note(const us_cu_engine *e, const problem *p, cudnnBackendNumericalNote_t note)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: return !p->shape.half;
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_FFT:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return 1;
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return e->deterministic;
    default: return 0;
    }
}

// Does the engine of a configuration keep our rules? Its number in cuDNN's list: *index.
static int is_acceptable(const us_cu_engine *e, const problem *p, desc configuration, int64_t *index)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    objects o = {.n = 0};
    int64_t n = 0, got = 0;
    desc engine = make(&o, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
    int ok = engine &&
             cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &got, &engine) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &got, index) ==
                 CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; ok && i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        ok = !is_refused_note(e, p, notes[i]);
    }
    drop(&o);
    return ok;
}

// Asks one kind of heuristics. The configurations are the caller's to destroy; none where cuDNN has no answer.
static void propose(objects *o, desc graph, cudnnBackendHeurMode_t mode, desc *configurations, int64_t *n)
{
    const char *what = "heuristics";
    objects mine = {.n = 0};
    int made = 0;
    *n = 0;
    desc d = make(&mine, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, what);
    set_desc(&mine, d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph, what);
    set(&mine, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, what);
    finish(&mine, d, what);
    while (mine.status == CUDNN_STATUS_SUCCESS && made < MOST_PROPOSED) {
        note_error(&mine, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, configurations + made),
                   what);
        made += mine.status == CUDNN_STATUS_SUCCESS;
    }
    if (mine.status == CUDNN_STATUS_SUCCESS) {
        note_error(&mine, cudnnBackendGetAttribute(d, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                   MOST_PROPOSED, n, configurations), what);
    }
    if (mine.status != CUDNN_STATUS_SUCCESS) {
        *n = 0;
        if (!is_refusal(mine.status)) {
            note_error(o, mine.status, what);
        }
    }
    *n = *n < made ? *n : made;
    while (made > *n) {
        cudnnBackendDestroyDescriptor(configurations[--made]);
    }
    drop(&mine);
}

// Configuration -> execution plan in `o`, which owns both then. NULL: cuDNN refuses it or it wants too much.
static desc make_execution(objects *o, const us_cu_engine *e, desc configuration, int64_t *workspace)
{
    const char *what = "an execution plan";
    int64_t n = 0;
    o->made[o->n++] = configuration;
    desc d = make(o, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, what);
    set(o, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &e->handle, what);
    set_desc(o, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration, what);
    finish(o, d, what);
    if (o->status == CUDNN_STATUS_SUCCESS) {
        note_error(o, cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                               workspace), what);
    }
    return o->status == CUDNN_STATUS_SUCCESS && *workspace <= MOST_WORKSPACE ? d : NULL;
}

// ---- Trials ----

// Memory for trying plans of one problem: X, Y, W, the bias and the largest workspace there may be.
typedef struct bench {
    void *block;
    us_event *from, *to;
    arguments args;
} bench;

static int64_t align(int64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static void close_bench(bench *b)
{
    us_event_free(b->from);
    us_event_free(b->to);
    us_device_free(b->block);
}

static const char *open_bench(bench *b, const us_cu_engine *e, const problem *p)
{
    int64_t element = p->shape.half ? 2 : 4, n = p->shape.batch;
    int64_t x = align(n * p->x.full_h * p->x.full_w * p->x.c * element);
    int64_t y = align(n * p->y.full_h * p->y.full_w * p->y.c * element);
    int64_t w = align(p->x.c * p->y.c * p->shape.k * p->shape.k * element), bias = align(p->shape.co * element);
    const char *text;
    *b = (bench){.block = NULL};
    if ((text = us_device_alloc(&b->block, x + y + w + bias + MOST_WORKSPACE)) != NULL ||
        (text = us_event_create(&b->from)) != NULL || (text = us_event_create(&b->to)) != NULL ||
        (text = us_fill_zero(e->stream, b->block, x + y + w + bias)) != NULL) {
        return text;
    }
    char *at = b->block;
    b->args = (arguments){.x = at, .y = at + x, .w = at + x + y, .bias = at + x + y + w,
                          .workspace = at + x + y + w + bias};
    return NULL;
}

// Seconds of `runs` runs after a first one, which loads the kernel. *good: it ran. Texts are of the device alone.
static const char *time_plan(const us_cu_engine *e, const plan *p, desc execution, bench *b, int runs, int *good,
                             double *seconds)
{
    const char *text;
    *good = execute(e->handle, p, execution, &b->args) == CUDNN_STATUS_SUCCESS;
    if ((text = us_event_record(b->from, e->stream)) != NULL) {
        return text;
    }
    for (int i = 0; i < runs && *good; i++) {
        *good = execute(e->handle, p, execution, &b->args) == CUDNN_STATUS_SUCCESS;
    }
    if ((text = us_event_record(b->to, e->stream)) != NULL || (text = us_stream_wait(e->stream)) != NULL) {
        return text;
    }
    return us_event_seconds(b->from, b->to, seconds);
}

// ---- Choosing ----

typedef struct choice {
    int taken;                  // candidates that ran so far
    double seconds;             // of the one chosen
} choice;

// One configuration, which becomes ours. Done when the caller has what it wants: returns 1 in *done.
static const char *consider(us_cu_engine *e, plan *p, desc configuration, bench *b, choice *c, int *done)
{
    int good = 1;
    int64_t index = 0, workspace = 0;
    double seconds = 0;
    objects o = {.n = 0};
    const char *text = NULL;
    if (!is_acceptable(e, &p->problem, configuration, &index)) {
        cudnnBackendDestroyDescriptor(configuration);
        return NULL;
    }
    desc execution = make_execution(&o, e, configuration, &workspace);
    if (execution && b) {
        text = time_plan(e, p, execution, b, e->search ? TIMED_RUNS : 0, &good, &seconds);
    }
    if (!execution || text || !good || (c->taken > 0 && seconds >= c->seconds)) {
        c->taken += execution && good;
        drop(&o);
    } else {
        drop(&p->chosen);
        p->chosen = o;
        p->execution = execution;
        p->workspace = workspace;
        c->seconds = seconds;
        c->taken++;
        snprintf(p->note, sizeof p->note, "cudnn %d%s", (int)index,
                 p->problem.direction == US_CU_FORWARD && !p->with_bias ? ", bias" : "");
    }
    *done = c->taken >= (e->search && b ? MOST_TIMED : 1);
    return text;
}

// Best first: heuristics A, its quick table, then what always exists. p->execution stays NULL where nothing is left.
static const char *choose(us_cu_engine *e, plan *p, desc graph, bench *b)
{
    static const cudnnBackendHeurMode_t modes[3] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_INSTANT,
                                                    CUDNN_HEUR_MODE_FALLBACK};
    choice c = {.taken = 0};
    const char *text = NULL;
    int done = 0;
    for (int m = 0; m < 3 && !done && !text; m++) {
        desc configurations[MOST_PROPOSED];
        objects o = {.n = 0};
        int64_t n;
        propose(&o, graph, modes[m], configurations, &n);
        text = o.status == CUDNN_STATUS_SUCCESS ? NULL : fail(o.status, o.what);
        for (int64_t i = 0; i < n; i++) {
            if (done || text) {
                cudnnBackendDestroyDescriptor(configurations[i]);
            } else {
                text = consider(e, p, configurations[i], b, &c, &done);
            }
        }
        done = done || c.taken > 0;
    }
    return text;
}

static const char *build_with(us_cu_engine *e, plan *p, bench *b, int with_bias)
{
    p->with_bias = with_bias;
    desc graph = make_graph(&p->graph, &p->problem, e->handle, with_bias);
    const char *text = NULL;
    if (p->graph.status == CUDNN_STATUS_SUCCESS) {
        text = choose(e, p, graph, b);
    } else if (!is_refusal(p->graph.status)) {
        text = fail(p->graph.status, p->graph.what);
    }
    if (text || !p->execution) {
        drop(&p->chosen);
        drop(&p->graph);
    }
    return text;
}

// Convolution and bias in one, else the convolution alone, else (no execution) our own kernels. A candidate is run
// once before it is taken: kernels are loaded then, not inside a capture, and what cannot run is found out here.
// Without the memory for that the first that finalises is taken.
static const char *build(us_cu_engine *e, plan *p)
{
    bench b;
    const char *text = open_bench(&b, e, &p->problem);
    bench *usable = text ? NULL : &b;
    text = NULL;
    for (int with_bias = p->problem.direction == US_CU_FORWARD; with_bias >= 0 && !text && !p->execution; with_bias--) {
        text = build_with(e, p, usable, with_bias);
    }
    close_bench(&b);
    return text;
}

static void drop_plan(plan *p)
{
    if (p->plain) {
        us_cu_conv_plain.release(p->plain);
    }
    drop(&p->chosen);
    drop(&p->graph);
    us_free(NULL, p);
}

static const char *make_plan(plan **out, us_cu_engine *e, const us_cu_shape *shape, us_conv_direction direction)
{
    plan *p = us_calloc(NULL, 1, sizeof *p);
    const char *text = p ? NULL : "out of memory for a convolution";
    if (p && make_problem(&p->problem, shape, direction)) {
        text = build(e, p);
    } else if (p) {
        p->problem.shape = *shape;
        p->problem.direction = direction;
    }
    if (p && !text && !p->execution) {
        text = us_cu_conv_plain.compile(&p->plain, NULL, shape, direction);
        snprintf(p->note, sizeof p->note, "%s", p->plain ? us_cu_conv_plain.note(p->plain) : "");
    }
    if (p && text) {
        drop_plan(p);
        p = NULL;
    }
    *out = p;
    return text;
}

// ---- The table ----

static const char *use_stream(us_cu_engine *e, us_stream *stream)
{
    if (e->stream == stream) {
        return NULL;
    }
    cudnnStatus_t status = cudnnSetStream(e->handle, us_stream_native(stream));
    if (status != CUDNN_STATUS_SUCCESS) {
        return fail(status, "the stream");
    }
    e->stream = stream;
    return NULL;
}

static void close_engine(us_cu_engine *e)
{
    if (!e) {
        return;
    }
    while (e->plans) {
        plan *next = e->plans->next;
        drop_plan(e->plans);
        e->plans = next;
    }
    if (e->handle) {
        cudnnDestroy(e->handle);
    }
    us_free(NULL, e);
}

static const char *open_engine(us_cu_engine **out, us_stream *stream, int deterministic, int search)
{
    *out = NULL;
    us_cu_engine *e = us_calloc(NULL, 1, sizeof *e);
    if (!e) {
        return "out of memory for cuDNN's handle";
    }
    e->deterministic = deterministic;
    e->search = search;
    cudnnStatus_t status = cudnnCreate(&e->handle);
    const char *text = status == CUDNN_STATUS_SUCCESS ? use_stream(e, stream) : fail(status, "a handle");
    if (text) {
        close_engine(e);
        return text;
    }
    *out = e;
    return NULL;
}

static void describe(char *text, size_t size)
{
    int version = (int)cudnnGetVersion();
    snprintf(text, size, "cuDNN %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

static const char *compile(us_cu_conv **out, us_cu_engine *e, const us_cu_shape *shape, us_conv_direction direction)
{
    const char *text;
    *out = NULL;
    plan *p = e->plans;
    while (p && (memcmp(&p->problem.shape, shape, sizeof *shape) != 0 || p->problem.direction != direction)) {
        p = p->next;
    }
    if (!p) {
        if ((text = make_plan(&p, e, shape, direction)) != NULL) {
            return text;
        }
        p->next = e->plans;
        e->plans = p;
    }
    us_cu_conv *conv = us_calloc(NULL, 1, sizeof *conv);
    if (!conv) {
        return "out of memory for a convolution";
    }
    conv->engine = e;
    conv->plan = p;
    *out = conv;
    return NULL;
}

static void release(us_cu_conv *conv)
{
    us_free(NULL, conv);        // the plan is the engine's
}

static int64_t workspace(const us_cu_conv *conv)
{
    return conv->plan->plain ? us_cu_conv_plain.workspace(conv->plan->plain) : conv->plan->workspace;
}

static const char *note(const us_cu_conv *conv)
{
    return conv->plan->note;
}

static arguments arguments_of(const plan *p, const void *a, const void *b, const void *out)
{
    int transposed = p->problem.shape.transposed;
    switch (p->problem.direction) {
    case US_CU_FORWARD:
        return transposed ? (arguments){.y = a, .w = b, .x = out} : (arguments){.x = a, .w = b, .y = out};
    case US_CU_BACK:
        return transposed ? (arguments){.x = a, .w = b, .y = out} : (arguments){.y = a, .w = b, .x = out};
    default:
        return transposed ? (arguments){.y = a, .x = b, .w = out} : (arguments){.x = a, .y = b, .w = out};
    }
}

// Puts launches into the stream and nothing else: legal inside a capture.
static const char *run(us_cu_conv *conv, us_stream *stream, const void *a, const void *b, const void *bias, void *out,
                       void *room)
{
    const plan *p = conv->plan;
    const us_cu_shape *s = &p->problem.shape;
    int forward = p->problem.direction == US_CU_FORWARD;
    const char *text;
    if (p->plain) {
        return us_cu_conv_plain.run(p->plain, stream, a, b, bias, out, room);
    }
    if (forward && !bias) {
        return "internal: a forward convolution without its bias";
    }
    if ((text = use_stream(conv->engine, stream)) != NULL) {
        return text;
    }
    arguments args = arguments_of(p, a, b, out);
    args.bias = bias;
    args.workspace = room;
    cudnnStatus_t status = execute(conv->engine->handle, p, p->execution, &args);
    if (status != CUDNN_STATUS_SUCCESS) {
        return fail(status, "to run a convolution");
    }
    return forward && !p->with_bias
               ? us_cu_add_bias(stream, out, bias, (int64_t)s->batch * s->out_h * s->out_w, s->co, s->half)
               : NULL;
}

const us_cu_conv_table us_cu_conv_cudnn = {open_engine, close_engine, describe, compile, release, workspace, note, run};
