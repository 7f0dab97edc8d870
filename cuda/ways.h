// What the libraries behind conv_library.c give it: ways to run one convolution, of which it takes the first that
// works, or the fastest. A library is a table of functions, so that the tests have libraries of their own.
//
//   cudnn_graph.c   a convolution as cuDNN is told it        conv_cudnn.c   its engines
//   conv_lt.c       matrix products of cuBLASLt, for 1x1     conv_thin.cu   a kernel of our own for one channel
//   choices.c       what was taken, kept
#ifndef US_CUDA_WAYS_H
#define US_CUDA_WAYS_H

#include "conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct us_cu_library us_cu_library;

enum { US_CU_RECIPE_WORDS = 40, US_CU_LIBRARY_NAME = 16 };

// What it takes to make a way again, in this process or another: the library's name and numbers of its own.
typedef struct us_cu_recipe {
    char library[US_CU_LIBRARY_NAME];   // "plain": none of the libraries; "": cannot be made again
    int n;
    int64_t words[US_CU_RECIPE_WORDS];
} us_cu_recipe;

// One shape and direction made ready by a library, which has it as the first field of a struct of its own. It is
// released before the library is closed.
typedef struct us_cu_way {
    const us_cu_library *library;
    int64_t workspace;          // bytes
    int adds_bias;              // FORWARD: else the caller adds it
    char note[32];              // which engine, one word or two
    us_cu_recipe recipe;
} us_cu_way;

// The arguments of us_cu_conv_table.run.
typedef struct us_cu_arguments {
    const void *a, *b, *bias;
    void *out, *workspace;
} us_cu_arguments;

// Takes ways as they are offered. take owns the way then; it sets *done when it wants no more.
typedef struct us_cu_taker {
    const char *(*take)(struct us_cu_taker *taker, us_cu_way *way, int *done);
    int taken;                  // those so far that ran, as take knows
} us_cu_taker;

enum { US_CU_MOST_WORKSPACE = 256 << 20 };      // of a way, bytes

// Functions that can fail return 0 or a text (device.h).
struct us_cu_library {
    const char *name;           // one word
    // deterministic: only ways whose result repeats to the bit.
    const char *(*open)(void **out, int deterministic);
    void (*close)(void *library);
    void (*describe)(char *text, size_t size);
    // Offers what it has for a shape, best first, of each kind that it knows at most `most`; nothing, and no error,
    // where it has nothing.
    const char *(*offer)(void *library, const us_cu_shape *shape, us_conv_direction direction, int most,
                         us_cu_taker *taker);
    // Makes the way of a recipe of its own; *out is NULL, which is no error, where it cannot any more.
    const char *(*again)(void *library, const us_cu_shape *shape, us_conv_direction direction,
                         const us_cu_recipe *recipe, us_cu_way **out);
    // Puts launches into the stream and nothing else: legal inside a recording, after a first run outside.
    const char *(*run)(us_cu_way *way, us_stream *stream, const us_cu_arguments *arguments);
    void (*release)(us_cu_way *way);
};

// Those there are, the one to ask first in front, NULL at the end. Tests define their own.
extern const us_cu_library *const us_cu_libraries[];

extern const us_cu_library us_cu_library_thin;
#ifndef US_EMULATE
extern const us_cu_library us_cu_library_cudnn, us_cu_library_lt;
// cuDNN as it would choose on a device described by cuDNN's own JSON, on a machine without one: ways can be offered
// and made again, not run. For tests.
const char *us_cu_cudnn_open_described(void **out, int deterministic, const char *json);
#endif

#ifdef __cplusplus
}
#endif
#endif
