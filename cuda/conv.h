// Convolutions of the CUDA backend behind a table: the libraries (conv_library.c: cuDNN, and cuBLASLt where a
// convolution is a matrix product), or plain kernels of our own (conv_plain.cu) for the tests without a GPU and for
// shapes that the libraries have nothing for. All samples of the batch at once, channels last, element type float or
// half, sums in float32.
//
// Weights are [A][k][k][B] where the published layout is (A, B, k, k): A = co, B = ci for a convolution,
// A = ci, B = co for a transposed one. All pointers are aligned to 16 bytes.
#ifndef US_CUDA_CONV_H
#define US_CUDA_CONV_H

#include <stddef.h>
#include <stdint.h>

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum us_conv_direction {
    US_CU_FORWARD,      // a: input, b: weights, bias -> out: output
    US_CU_BACK,         // a: gradient of the output, b: weights -> out: gradient of the input
    US_CU_WEIGHT        // a: input, b: gradient of the output -> out: gradient of the weights
} us_conv_direction;

// Tensors hold windows: in_h x in_w and out_h x out_w are what lies in memory.
//   convolution: out(y) = bias + sum over t of w(t) * in(y * stride + t - top), in = 0 outside its rows
//   transposed:  out(y) = bias + sum over i, t with i * stride + t - top == y of w(t) * in(i)
// and the same for columns with left.
typedef struct us_cu_shape {
    int batch, ci, co, k, stride, transposed;
    int in_h, in_w, out_h, out_w;
    int top, left;
    int half;           // 1: tensors, weights, bias and weight gradient are half; 0: float
} us_cu_shape;

// Both kinds seen as one convolution from X to Y: y(p)[a] = sum over t, b of w(t)[a][b] * x(p * stride + t - top)[b].
// X is the input of a convolution and the output of a transposed one.
typedef struct us_cu_sides {
    int batch, a, b, k, stride, top, left;
    int x_h, x_w, y_h, y_w;
} us_cu_sides;

static inline us_cu_sides us_cu_sides_of(const us_cu_shape *s)
{
    us_cu_sides d = {s->batch, s->co, s->ci, s->k, s->stride, s->top, s->left, s->in_h, s->in_w, s->out_h, s->out_w};
    if (s->transposed) {
        d.a = s->ci, d.b = s->co;
        d.x_h = s->out_h, d.x_w = s->out_w, d.y_h = s->in_h, d.y_w = s->in_w;
    }
    return d;
}

// Does FORWARD or BACK of this shape write X?
static inline int us_cu_writes_x(const us_cu_shape *s, us_conv_direction direction)
{
    return (direction == US_CU_BACK) != (s->transposed != 0);
}

typedef struct us_cu_engine us_cu_engine;   // handles and caches, one per executable
typedef struct us_cu_conv us_cu_conv;       // one shape and direction, ready to run

typedef struct us_cu_conv_options {
    int deterministic;          // only algorithms whose result repeats to the bit
    int search;                 // time the candidates instead of taking the first; in the next process the fastest may
                                // be another one
    struct us_cu_choices *choices;      // shared by engines (choices.h); NULL: none. Outlives the engine
} us_cu_conv_options;

// All functions that can fail return 0 or a text (device.h).
typedef struct us_cu_conv_table {
    const char *(*open)(us_cu_engine **out, us_stream *stream, const us_cu_conv_options *options);
    void (*close)(us_cu_engine *engine);
    void (*describe)(char *text, size_t size);
    // Not inside a recording: a candidate is run once before it is taken. release before close.
    const char *(*compile)(us_cu_conv **out, us_cu_engine *engine, const us_cu_shape *shape,
                           us_conv_direction direction);
    void (*release)(us_cu_conv *conv);
    int64_t (*workspace)(const us_cu_conv *conv);           // bytes, aligned to 256 by the caller
    const char *(*note)(const us_cu_conv *conv);            // which engine runs it, one word or two
    // bias: [co] of the element type, NULL in the other directions than FORWARD.
    const char *(*run)(us_cu_conv *conv, us_stream *stream, const void *a, const void *b, const void *bias,
                       void *out, void *workspace);
} us_cu_conv_table;

// out[pixel][c] += bias[c], in the element type.
const char *us_cu_add_bias(us_stream *stream, void *out, const void *bias, int64_t pixels, int c, int half);

extern const us_cu_conv_table us_cu_conv_plain;
extern const us_cu_conv_table us_cu_conv_library;

#ifdef __cplusplus
}
#endif
#endif
