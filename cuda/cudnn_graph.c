// A convolution of ours as cuDNN 9's backend interface is told it: the two sides X and Y of conv.h, with paddings and
// windows that cuDNN can take, as a graph of one operation, or two with the addition of the bias.
#include "cudnn_graph.h"

#include <stdbool.h>
#include <stdio.h>

// ---- Errors ----

const char *us_dnn_fail(cudnnStatus_t status, const char *what)
{
    static _Thread_local char text[512];
    char last[320] = "";
    cudnnGetLastErrorString(last, sizeof last);
    snprintf(text, sizeof text, "cuDNN, %s: %s%s%s", what, cudnnGetErrorString(status), last[0] ? ": " : "", last);
    return text;
}

// "Not supported" and "bad parameter" are about this shape: there are other ways. The rest is about the machine.
int us_dnn_is_refusal(cudnnStatus_t status)
{
    int category = CUDNN_STATUS_CATEGORY((int)status);
    return category == 2000 || category == 3000;
}

// ---- Descriptors: a list that is destroyed as one, and the first error met while filling it ----

void us_dnn_note_error(us_dnn_objects *o, cudnnStatus_t status, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS && status != CUDNN_STATUS_SUCCESS) {
        o->status = status;
        o->what = what;
    }
}

us_dnn_desc us_dnn_make(us_dnn_objects *o, cudnnBackendDescriptorType_t type, const char *what)
{
    us_dnn_desc d = NULL;
    if (o->status != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    if (o->n == US_DNN_MOST_OBJECTS) {
        us_dnn_note_error(o, CUDNN_STATUS_INTERNAL_ERROR, what);
        return NULL;
    }
    us_dnn_note_error(o, cudnnBackendCreateDescriptor(type, &d), what);
    if (o->status == CUDNN_STATUS_SUCCESS) {
        o->made[o->n++] = d;
    }
    return d;
}

void us_dnn_set(us_dnn_objects *o, us_dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t n, const void *values, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS) {
        us_dnn_note_error(o, cudnnBackendSetAttribute(d, name, type, n, values), what);
    }
}

void us_dnn_set_desc(us_dnn_objects *o, us_dnn_desc d, cudnnBackendAttributeName_t name, us_dnn_desc value,
                     const char *what)
{
    us_dnn_set(o, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value, what);
}

void us_dnn_finish(us_dnn_objects *o, us_dnn_desc d, const char *what)
{
    if (o->status == CUDNN_STATUS_SUCCESS) {
        us_dnn_note_error(o, cudnnBackendFinalize(d), what);
    }
}

void us_dnn_drop(us_dnn_objects *o)
{
    while (o->n > 0) {
        cudnnBackendDestroyDescriptor(o->made[--o->n]);
    }
    o->status = CUDNN_STATUS_SUCCESS;
}

// ---- A problem: what cuDNN is told about a shape ----

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

int us_dnn_make_problem(us_dnn_problem *p, const us_cu_shape *shape, us_conv_direction direction)
{
    us_cu_sides d = us_cu_sides_of(shape);
    int writes_x = direction != US_CU_WEIGHT && us_cu_writes_x(shape, direction);
    int writes_y = direction != US_CU_WEIGHT && !writes_x;
    int64_t x_y, x_x, y_y, y_x, element = shape->half ? 2 : 4;
    *p = (us_dnn_problem){.shape = *shape, .direction = direction, .stride = {d.stride, d.stride},
                          .pre = {d.top, d.left},
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

static cudnnDataType_t type_of(const us_dnn_problem *p)
{
    return p->shape.half ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

static us_dnn_desc make_tensor(us_dnn_objects *o, int64_t uid, cudnnDataType_t type, const int64_t dims[4],
                               const int64_t strides[4], int64_t offset)
{
    const char *what = "a tensor";
    bool is_virtual = uid == US_DNN_SUM;
    int64_t align = 16;
    while (offset % align != 0) {
        align /= 2;
    }
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_TENSOR_DESCRIPTOR, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align, what);
    us_dnn_set(o, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual, what);
    us_dnn_finish(o, d, what);
    return d;
}

// Dimensions are named N, C, H, W whatever lies where; the strides say channels last.
static us_dnn_desc make_side(us_dnn_objects *o, const us_dnn_problem *p, const us_dnn_side *s, int64_t uid,
                             cudnnDataType_t type)
{
    const int64_t dims[4] = {p->shape.batch, s->c, s->h, s->w};
    const int64_t strides[4] = {s->full_h * s->full_w * s->c, 1, s->full_w * s->c, s->c};
    return make_tensor(o, uid, type, dims, strides, uid == US_DNN_SUM ? 0 : s->offset);
}

static us_dnn_desc make_weights(us_dnn_objects *o, const us_dnn_problem *p)
{
    int64_t k = p->shape.k, a = p->y.c, b = p->x.c;
    const int64_t dims[4] = {a, b, k, k}, strides[4] = {k * k * b, 1, k * b, b};
    return make_tensor(o, US_DNN_W, type_of(p), dims, strides, 0);
}

static us_dnn_desc make_convolution(us_dnn_objects *o, const us_dnn_problem *p)
{
    const char *what = "a convolution";
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, ones[2] = {1, 1};
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, p->stride, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, p->pre, what);
    us_dnn_set(o, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, p->post, what);
    us_dnn_finish(o, d, what);
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

static us_dnn_desc make_operation(us_dnn_objects *o, const operation_names *names, us_dnn_desc convolution,
                                  us_dnn_desc x, us_dnn_desc y, us_dnn_desc w)
{
    const char *what = "an operation";
    const float one = 1, zero = 0;
    us_dnn_desc d = us_dnn_make(o, names->type, what);
    us_dnn_set_desc(o, d, names->convolution, convolution, what);
    us_dnn_set_desc(o, d, names->x, x, what);
    us_dnn_set_desc(o, d, names->y, y, what);
    us_dnn_set_desc(o, d, names->w, w, what);
    us_dnn_set(o, d, names->alpha, CUDNN_TYPE_FLOAT, 1, &one, what);
    us_dnn_set(o, d, names->beta, CUDNN_TYPE_FLOAT, 1, &zero, what);
    us_dnn_finish(o, d, what);
    return d;
}

static us_dnn_desc make_addition(us_dnn_objects *o, const us_dnn_problem *p, us_dnn_desc sum, us_dnn_desc out)
{
    const char *what = "a bias";
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    const int64_t co = p->shape.co, dims[4] = {1, co, 1, 1}, strides[4] = {co, 1, co, co};
    us_dnn_desc bias = make_tensor(o, US_DNN_BIAS, type_of(p), dims, strides, 0);
    us_dnn_desc add = us_dnn_make(o, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, what);
    us_dnn_set(o, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, what);
    us_dnn_set(o, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision, what);
    us_dnn_finish(o, add, what);
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, what);
    us_dnn_set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add, what);
    us_dnn_set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, sum, what);
    us_dnn_set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, bias, what);
    us_dnn_set_desc(o, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out, what);
    us_dnn_finish(o, d, what);
    return d;
}

us_dnn_desc us_dnn_make_graph(us_dnn_objects *o, const us_dnn_problem *p, cudnnHandle_t handle, int with_bias)
{
    const char *what = "a graph";
    int into_x = p->direction != US_CU_WEIGHT && us_cu_writes_x(&p->shape, p->direction);
    const us_dnn_side *out_side = into_x ? &p->x : &p->y;
    us_dnn_desc x = make_side(o, p, &p->x, US_DNN_X, type_of(p)), y = make_side(o, p, &p->y, US_DNN_Y, type_of(p));
    us_dnn_desc w = make_weights(o, p), convolution = make_convolution(o, p), out = into_x ? x : y, operations[2];
    us_dnn_desc sum = with_bias ? make_side(o, p, out_side, US_DNN_SUM, CUDNN_DATA_FLOAT) : out;
    if (p->direction == US_CU_WEIGHT) {
        operations[0] = make_operation(o, &writes_w, convolution, x, y, w);
    } else if (into_x) {
        operations[0] = make_operation(o, &writes_x, convolution, sum, y, w);
    } else {
        operations[0] = make_operation(o, &writes_y, convolution, x, sum, w);
    }
    operations[1] = with_bias ? make_addition(o, p, sum, out) : NULL;
    us_dnn_desc d = us_dnn_make(o, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, what);
    us_dnn_set(o, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, with_bias ? 2 : 1, operations, what);
    if (handle) {
        us_dnn_set(o, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, what);
    }
    us_dnn_finish(o, d, what);
    return d;
}
