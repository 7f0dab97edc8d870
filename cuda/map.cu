// The interpreter of elementwise programs (program.h, walk.h), for programs that no compiler has made a kernel of.
//
// The decision what an op is falls once per L values and is the same for the whole block. The value made last stays
// in the thread (US_CU_LAST), so a chain of ops touches no memory; other registers are rows of shared memory, which
// lies as
//
//   ops of the program | a double per thread | rows [row][piece of 4 floats][thread]
//
// so that threads next to each other read pieces of 16 bytes next to each other: no bank conflicts.
#include "walk.h"

#include <limits.h>

// 512 threads are what a block of a program with sums may have, and two such blocks fit a multiprocessor: that
// leaves 64 registers for a thread.
enum { MOST_THREADS = 256, MOST_THREADS_SUMS = 512, LEAST_THREADS = 64, WARP = 32 };

#ifdef US_EMULATE
#define BOUNDS
#else
#define BOUNDS __launch_bounds__(MOST_THREADS_SUMS, 2)
#endif

// ---- The interpreter ----

// Inputs of an op: registers, or the value made last.
template <int L> struct registers {
    const float *rows, *last;
    const us_cu_op *op;

    US_METHOD void get(int n, float *x) const
    {
        if (op->in[n] != US_CU_LAST) {
            us_get_row<L>(rows, op->in[n], x);
            return;
        }
        for (int i = 0; i < L; i++) {
            x[i] = last[i];
        }
    }
};

template <typename T, int L> struct interpreter {
    const us_cu_program *p;
    const us_cu_env *env;
    const us_cu_op *ops;
    double *scratch;
    float *rows, *own;          // of the block; this thread's piece of row 0

    US_METHOD void add(const us_cu_op *op, const registers<L> *in, int first)
    {
        float a[L], b[L], sum[3][L];
        int n = us_cu_sum_rows(op);
        for (int i = 0; i < n && !first; i++) {
            us_get_row<L>(own, op->acc + i, sum[i]);
        }
        in->get(0, a);
        if (n == 1) {
            us_add<L>(sum[0], a, first);
        } else if (n == 2) {
            in->get(1, b);
            us_add_two<L>(sum[0], sum[1], a, b, first);
        } else {
            us_add_square<L>(sum[0], sum[1], sum[2], a, first);
        }
        for (int i = 0; i < n; i++) {
            us_put_row<L>(own, op->acc + i, sum[i]);
        }
    }

    // v: the value made last, before and after.
    US_METHOD void run_op(const us_cu_op *op, const us_walk *w, float *v)
    {
        registers<L> in = {own, v, op};
        if (us_cu_sum_kinds(op)) {
            add(op, &in, w->pixel == w->first);
        } else if (op->code == US_U_LOAD) {
            us_fetched<T, L> f = us_load<T, L>(env, op, w, 0);
            us_open(&f, v);
        } else {
            us_apply<T, L>(op->code, env, op, w, &in, v);
        }
        if (op->dst >= 0) {
            us_put_row<L>(own, op->dst, v);
        }
    }

    US_METHOD void walk(const us_share *s, us_walk *w)
    {
        for (; w->pixel < s->to; us_advance(p, s, w)) {
            float v[L] = {0};
            for (int i = 0; i < p->n_ops; i++) {
                run_op(&ops[i], w, v);
            }
        }
    }

    US_METHOD void sums(const us_share *s)
    {
        for (int i = 0; i < p->n_ops; i++) {
            if (us_cu_sum_kinds(&ops[i])) {
                block_sums<L>(p, env, s, &ops[i], rows, scratch);
            }
        }
    }
};

US_DEVICE void copy_ops(const us_cu_program *p, const us_cu_env *env, us_cu_op *to)
{
    const uint32_t *from = (const uint32_t *)(env->ops + p->first_op);
    for (int i = us_thread(); i < p->n_ops * (int)(sizeof *to / sizeof *from); i += us_threads()) {
        ((uint32_t *)to)[i] = from[i];
    }
}

template <typename T, int L> US_KERNEL(BOUNDS us_map_kernel)(const us_cu_program p, const us_cu_env env)
{
    us_cu_op *ops = (us_cu_op *)us_shared();
    double *scratch = (double *)(ops + p.n_ops);
    float *rows = (float *)(scratch + us_threads());
    copy_ops(&p, &env, ops);
    us_barrier();
    interpreter<T, L> work = {&p, &env, ops, scratch, rows, us_own_rows<L>(rows)};
    us_run_block<T, L>(&p, &env, ops, &work, scratch);
}

// A compiled program has its ops and registers elsewhere, and without sums no need for any.
static int64_t shared_bytes_of(const us_cu_program *p, int threads)
{
    int64_t ops = p->compiled ? 0 : p->n_ops * (int64_t)sizeof(us_cu_op);
    int64_t rows = (int64_t)sizeof(double) + (int64_t)p->rows * p->lanes * (int64_t)sizeof(float);
    return ops + (p->compiled && !p->parts ? 0 : threads * rows);
}

extern "C" int64_t us_cu_map_room(const us_cu_program *p)
{
    return shared_bytes_of(p, p->threads);
}

extern "C" const char *us_cu_map(us_stream *stream, const us_cu_program *p, const us_cu_env *env)
{
    int64_t blocks = (int64_t)env->batch * p->blocks, bytes = us_cu_map_room(p);
    if (env->half) {
        return p->lanes == 8
                   ? US_LAUNCH((us_map_kernel<us_half, 8>), blocks, p->threads, bytes, stream, *p, *env)
                   : US_LAUNCH((us_map_kernel<us_half, 1>), blocks, p->threads, bytes, stream, *p, *env);
    }
    return p->lanes == 8 ? US_LAUNCH((us_map_kernel<float, 8>), blocks, p->threads, bytes, stream, *p, *env)
                         : US_LAUNCH((us_map_kernel<float, 1>), blocks, p->threads, bytes, stream, *p, *env);
}

// ---- Registers ----

static int reads(const us_cu_op *op, int reg)
{
    for (int j = 0; j < us_uop_arity(op->code); j++) {
        if (op->in[j] == reg) {
            return 1;
        }
    }
    return 0;
}

// The last op that reads what op i wrote, -1: none.
static int last_reader(const us_cu_op *ops, int n_ops, int i)
{
    int last = -1;
    for (int j = i + 1; j < n_ops; j++) {
        last = reads(&ops[j], ops[i].dst) ? j : last;
        if (ops[j].dst == ops[i].dst) {
            break;
        }
    }
    return last;
}

// Reads of op i's value until another value is made become US_CU_LAST.
static void read_as_last(us_cu_op *ops, int n_ops, int i)
{
    for (int j = i + 1; j < n_ops; j++) {
        for (int k = 0; k < us_uop_arity(ops[j].code); k++) {
            ops[j].in[k] = ops[j].in[k] == ops[i].dst ? (int16_t)US_CU_LAST : ops[j].in[k];
        }
        if (ops[j].dst >= 0) {
            return;
        }
    }
}

// The first name from base on whose latest value nobody reads after op i.
static int free_name(const us_cu_op *ops, int n_ops, int i, int base)
{
    for (int name = base;; name++) {
        int j = i - 1;
        while (j >= 0 && ops[j].dst != name) {
            j--;
        }
        if (j < 0 || last_reader(ops, n_ops, j) <= i) {
            return name;
        }
    }
}

static void rename_value(us_cu_op *ops, int n_ops, int i, int name)
{
    int last = last_reader(ops, n_ops, i);
    for (int j = i + 1; j <= last; j++) {
        for (int k = 0; k < us_uop_arity(ops[j].code); k++) {
            ops[j].in[k] = ops[j].in[k] == ops[i].dst ? (int16_t)name : ops[j].in[k];
        }
    }
    ops[i].dst = (int16_t)name;
}

// New names are given above the old ones, so that the two never meet, and brought down at the end.
extern "C" int us_cu_map_chain(us_cu_op *ops, int n_ops)
{
    int base = 0, n = 0;
    for (int i = 0; i < n_ops; i++) {
        base = ops[i].dst >= base ? ops[i].dst + 1 : base;
        if (ops[i].dst >= 0) {
            read_as_last(ops, n_ops, i);
        }
    }
    for (int i = 0; i < n_ops; i++) {
        if (ops[i].dst >= 0 && last_reader(ops, n_ops, i) < 0) {
            ops[i].dst = -1;
        } else if (ops[i].dst >= 0) {
            rename_value(ops, n_ops, i, free_name(ops, n_ops, i, base));
        }
    }
    for (int i = 0; i < n_ops; i++) {
        for (int k = 0; k < us_uop_arity(ops[i].code); k++) {
            ops[i].in[k] = (int16_t)(ops[i].in[k] >= base ? ops[i].in[k] - base : ops[i].in[k]);
        }
        if (ops[i].dst >= 0) {
            ops[i].dst = (int16_t)(ops[i].dst - base);
            n = ops[i].dst >= n ? ops[i].dst + 1 : n;
        }
    }
    return n;
}

// ---- Shape ----

// Part of a block's threads that work, in thousandths.
static int used_threads(int groups, int threads)
{
    if (groups <= threads) {
        return 1000 * (threads / groups * groups) / threads;
    }
    int passes = (groups + threads - 1) / threads;
    return (int)(1000 * (int64_t)groups / ((int64_t)passes * threads));
}

// Two blocks and what the device takes for each fit a multiprocessor; where not, one small block.
static int most_threads(const us_cu_program *p, int64_t shared_bytes)
{
    enum { RESERVED = 1024 };
    int threads = p->parts ? MOST_THREADS_SUMS : MOST_THREADS;
    while (threads > LEAST_THREADS && 2 * (shared_bytes_of(p, threads) + RESERVED) > shared_bytes) {
        threads -= WARP;
    }
    while (threads > WARP && shared_bytes_of(p, threads) > shared_bytes) {
        threads -= WARP;
    }
    return threads;
}

// A number that channel groups divide well, the largest of equals; small where there is little to do, so that every
// multiprocessor gets a block.
static int threads_for(const us_cu_program *p, int batch, int processors, int64_t shared_bytes)
{
    int groups = p->c / p->lanes, most = most_threads(p, shared_bytes);
    int least = most < LEAST_THREADS ? most : LEAST_THREADS;
    int64_t share = (int64_t)batch * p->h * p->w * groups / processors / WARP * WARP;
    most = share < least ? least : share < most ? (int)share : most;
    int best = most;
    for (int threads = most - WARP; threads >= most / 2 && threads >= least; threads -= WARP) {
        best = used_threads(groups, threads) > used_threads(groups, best) ? threads : best;
    }
    return best;
}

// Blocks at work on the device at a time. A program without sums gets four rounds of them, so that the last ones do
// not work alone for long; a compiled one a single round, whose threads have several pixels' loads under way. One with
// sums gets large blocks and a single round of one per multiprocessor: its last block reads a double per sum, sample
// and block, alone. With 128 sums and 132 blocks that is 135 kB, two or three microseconds; more blocks would cost more
// there than a fuller device gains.
static int64_t blocks_wanted(const us_cu_program *p, int processors, int64_t shared_bytes)
{
    enum { COMPILED_RESIDENT = 3 };     // what its registers allow (compiled.h)
    int64_t bytes = shared_bytes_of(p, p->threads), room = bytes > 0 ? shared_bytes / bytes : INT_MAX;
    int64_t most = (p->parts ? MOST_THREADS_SUMS : 1024) / p->threads;
    int64_t resident = room < most ? room : most;
    if (p->compiled && !p->parts) {
        return processors * (int64_t)COMPILED_RESIDENT * MOST_THREADS / p->threads;
    }
    return processors * (resident < 1 ? 1 : resident) * (p->parts ? 1 : 4);
}

extern "C" void us_cu_map_shape(us_cu_program *p, int batch, int processors, int64_t shared_bytes)
{
    int groups = p->c / p->lanes;
    p->threads = threads_for(p, batch, processors, shared_bytes);
    int at_once = groups < p->threads ? p->threads / groups : 1;
    int64_t rounds = ((int64_t)p->h * p->w + at_once - 1) / at_once;
    int64_t wanted = blocks_wanted(p, processors, shared_bytes);
    // A single round: none waits for a second one.
    int64_t blocks = p->parts || p->compiled ? wanted / batch : (wanted + batch - 1) / batch;
    blocks = blocks < 1 ? 1 : blocks;
    int64_t each = blocks < rounds ? (rounds + blocks - 1) / blocks : 1;
    p->blocks = (int)((rounds + each - 1) / each);
}
