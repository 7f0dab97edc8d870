// A convolution of ours as cuDNN is told it: for conv_cudnn.c, which asks for engines and runs them.
#ifndef US_CUDNN_GRAPH_H
#define US_CUDNN_GRAPH_H

#include <cudnn.h>

#include "conv.h"

typedef cudnnBackendDescriptor_t us_dnn_desc;

// A text that says what went wrong, cuDNN's own words included.
const char *us_dnn_fail(cudnnStatus_t status, const char *what);
// "Not supported" and "bad parameter" are about this shape: there are other ways. The rest is about the machine.
int us_dnn_is_refusal(cudnnStatus_t status);

// ---- Descriptors: a list that is destroyed as one, and the first error met while filling it

enum { US_DNN_MOST_OBJECTS = 64 };

typedef struct us_dnn_objects {
    us_dnn_desc made[US_DNN_MOST_OBJECTS];
    int n;
    cudnnStatus_t status;
    const char *what;
} us_dnn_objects;

// After an error these do nothing.
us_dnn_desc us_dnn_make(us_dnn_objects *o, cudnnBackendDescriptorType_t type, const char *what);
void us_dnn_set(us_dnn_objects *o, us_dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t n, const void *values, const char *what);
void us_dnn_set_desc(us_dnn_objects *o, us_dnn_desc d, cudnnBackendAttributeName_t name, us_dnn_desc value,
                     const char *what);
void us_dnn_finish(us_dnn_objects *o, us_dnn_desc d, const char *what);
void us_dnn_note_error(us_dnn_objects *o, cudnnStatus_t status, const char *what);
void us_dnn_drop(us_dnn_objects *o);

// ---- Problem and graph

// One side. Its tensor has the strides of what lies in memory and the extent of what the convolution uses.
typedef struct us_dnn_side {
    int64_t c, h, w;            // extent used
    int64_t full_h, full_w;     // in memory
    int64_t offset;             // bytes from the tensor's first element to the first used
} us_dnn_side;

typedef struct us_dnn_problem {
    us_cu_shape shape;
    us_conv_direction direction;
    us_dnn_side x, y;
    int64_t pre[2], post[2], stride[2];
} us_dnn_problem;

enum { US_DNN_X = 1, US_DNN_Y, US_DNN_W, US_DNN_BIAS, US_DNN_SUM };     // _SUM: the convolution before the bias

// 0: not for cuDNN.
int us_dnn_make_problem(us_dnn_problem *p, const us_cu_shape *shape, us_conv_direction direction);
// with_bias: the convolution's result is a virtual float tensor, which only the addition of the bias sees. handle
// NULL: on a described device.
us_dnn_desc us_dnn_make_graph(us_dnn_objects *o, const us_dnn_problem *p, cudnnHandle_t handle, int with_bias);

#endif
