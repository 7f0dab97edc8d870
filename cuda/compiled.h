// What the text of a program (source.h) is put on to become a kernel: the program's ops are C, its registers those of
// the compiler. The file is read by the compiler at run time, and by the host's in the tests.
//
// A body has
//   element, LANES, OPS, LOADS       type of the tensors, channels of a thread, sizes
//   ACCUMULATORS                     rows of the sums
//   AHEAD                            pixels whose loads are under way at once
//   fetch, compute                   the loads of a pixel; everything else
//   sums                             what a block does with the sums of its threads
#ifndef US_COMPILED_H
#define US_COMPILED_H

#include "walk.h"

#define US_BODY static US_METHOD

// Inputs of an op: values that the thread has.
template <int L> struct us_values {
    const float *x[US_CU_IN];

    US_METHOD void get(int n, float *to) const
    {
        US_UNROLL
        for (int i = 0; i < L; i++) {
            to[i] = x[n][i];
        }
    }
};

// One op. code and inputs are constants where it is written, so that only its own case is left.
template <typename T, int L>
US_DEVICE void us_value(int code, const us_cu_env *env, const us_cu_op *op, const us_walk *w, float *v,
                        const float *a = NULL, const float *b = NULL, const float *c = NULL, const float *d = NULL,
                        const float *e = NULL)
{
    us_values<L> in = {{a, b, c, d, e}};
    us_apply<T, L>(code, env, op, w, &in, v);
}

template <typename Body> struct us_compiled {
    const us_cu_program *p;
    const us_cu_env *env;
    const us_cu_op *ops;
    double *scratch;
    float *rows;                // of the block

    US_METHOD void walk(const us_share *s, us_walk *w)
    {
        enum { L = Body::LANES, LOADS = Body::LOADS ? Body::LOADS : 1, ROWS = Body::ACCUMULATORS };
        float sums[ROWS ? ROWS : 1][L];
        while (w->pixel < s->to) {
            us_walk at[Body::AHEAD];
            us_fetched<typename Body::element, L> x[Body::AHEAD][LOADS];
            US_UNROLL
            for (int i = 0; i < Body::AHEAD; i++) {
                at[i] = *w;
                if (w->pixel < s->to) {
                    Body::fetch(env, ops, &at[i], x[i]);
                }
                us_advance(p, s, w);
            }
            US_UNROLL
            for (int i = 0; i < Body::AHEAD; i++) {
                if (at[i].pixel < s->to) {
                    Body::compute(env, ops, &at[i], x[i], sums);
                }
            }
        }
        US_UNROLL
        for (int i = 0; i < ROWS; i++) {
            us_put_row<L>(us_own_rows<L>(rows), i, sums[i]);
        }
    }

    US_METHOD void sums(const us_share *s) { Body::sums(p, env, ops, s, rows, scratch); }
};

template <int N> struct us_op_table {
    us_cu_op op[N];
};

template <typename Body>
US_DEVICE void us_run_compiled(const us_cu_program *p, const us_cu_env *env, const us_op_table<Body::OPS> *table)
{
    double *scratch = (double *)us_shared();
    us_compiled<Body> work = {p, env, table->op, scratch, (float *)(scratch + us_threads())};
    us_run_block<typename Body::element, Body::LANES>(p, env, table->op, &work, scratch);
}

#ifdef US_EMULATE
#define US_COMPILED(name, body)                                                                                       \
    static void name##_kernel(const us_cu_program p, const us_cu_env env, const us_op_table<body::OPS> table)         \
    {                                                                                                                 \
        us_run_compiled<body>(&p, &env, &table);                                                                      \
    }                                                                                                                 \
    extern "C" const char *name(us_stream *stream, int64_t blocks, int64_t shared_bytes, const us_cu_program *p,      \
                                const us_cu_env *env, const us_cu_op *ops)                                            \
    {                                                                                                                 \
        us_op_table<body::OPS> table;                                                                                 \
        memcpy(&table, ops, sizeof table);                                                                            \
        return US_LAUNCH(name##_kernel, blocks, p->threads, shared_bytes, stream, *p, *env, table);                   \
    }
#else
// A block of a program with sums has up to 512 threads, any other up to 256 (map.cu).
#define US_COMPILED(name, body)                                                                                       \
    extern "C" __global__ void __launch_bounds__(body::ACCUMULATORS ? 512 : 256, body::ACCUMULATORS ? 1 : 3)          \
        name(const __grid_constant__ us_cu_program p, const __grid_constant__ us_cu_env env,                         \
             const __grid_constant__ us_op_table<body::OPS> table)                                                    \
    {                                                                                                                 \
        us_run_compiled<body>(&p, &env, &table);                                                                      \
    }
#endif

#endif
