// us_cu_program -> C++ text.
#include "source.h"

#include <stdarg.h>
#include <stdio.h>

#include "plan/uops.h"

typedef struct text {
    char *to;
    size_t size, length;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->length < t->size ? t->to + t->length : NULL, t->length < t->size ? t->size - t->length : 0,
                      format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

// Loads of several pixels are under way at once, as many as registers allow.
static int ahead(int loads, int half)
{
    int most = half ? 4 : 2;
    return loads == 0 ? 1 : loads >= most ? 1 : most / loads;
}

static void put_sizes(text *t, const us_cu_program *p, const us_cu_op *ops, int half)
{
    int loads = 0, rows = 0;
    for (int i = 0; i < p->n_ops; i++) {
        loads += ops[i].code == US_U_LOAD;
        rows += us_cu_sum_rows(&ops[i]);
    }
    put(t, "typedef %s element;\n", half ? "us_half" : "float");
    put(t, "enum { LANES = %d, OPS = %d, LOADS = %d, ACCUMULATORS = %d, AHEAD = %d };\n", p->lanes, p->n_ops, loads,
        rows, ahead(loads, half));
}

static void put_fetch(text *t, const us_cu_program *p, const us_cu_op *ops)
{
    int loads = 0;
    put(t, "US_BODY void fetch(const us_cu_env *env, const us_cu_op *ops, const us_walk *w, "
           "us_fetched<element, LANES> *x)\n{\n");
    for (int i = 0; i < p->n_ops; i++) {
        const us_cu_op *op = &ops[i];
        if (op->code == US_U_LOAD) {
            int whole = op->oy == 0 && op->ox == 0 && op->t_h == p->h && op->t_w == p->w;
            put(t, "x[%d] = us_load<element, LANES>(env, &ops[%d], w, %d);\n", loads++, i, whole);
        }
    }
    put(t, "}\n");
}

// The op whose value input n of op i is.
static int source_of(const us_cu_op *ops, int i, int n)
{
    int reg = ops[i].in[n], j = i - 1;
    for (; j >= 0; j--) {
        int makes = ops[j].code != US_U_STORE && us_cu_sum_kinds(&ops[j]) == 0;
        if (makes && (reg == US_CU_LAST || ops[j].dst == reg)) {
            break;
        }
    }
    return j;
}

static void put_sum(text *t, const us_cu_op *ops, int i)
{
    const us_cu_op *op = &ops[i];
    int a = source_of(ops, i, 0), row = op->acc;
    if (op->code == US_U_SUM) {
        put(t, "us_add<LANES>(sums[%d], v%d, first);\n", row, a);
    } else if (op->square) {
        put(t, "us_add_square<LANES>(sums[%d], sums[%d], sums[%d], v%d, first);\n", row, row + 1, row + 2, a);
    } else {
        put(t, "us_add_two<LANES>(sums[%d], sums[%d], v%d, v%d, first);\n", row, row + 1, a, source_of(ops, i, 1));
    }
}

static void put_compute(text *t, const us_cu_program *p, const us_cu_op *ops)
{
    int loads = 0;
    put(t, "US_BODY void compute(const us_cu_env *env, const us_cu_op *ops, const us_walk *w, "
           "const us_fetched<element, LANES> *x, float (*sums)[LANES])\n{\n"
           "const int first = w->pixel == w->first;\nfloat none[LANES];\n"
           "(void)first, (void)none, (void)sums, (void)x;\n");
    for (int i = 0; i < p->n_ops; i++) {
        const us_cu_op *op = &ops[i];
        if (us_cu_sum_kinds(op)) {
            put_sum(t, ops, i);
            continue;
        }
        if (op->code != US_U_STORE) {
            put(t, "float v%d[LANES];\n", i);
        }
        if (op->code == US_U_LOAD) {
            put(t, "us_open(&x[%d], v%d);\n", loads++, i);
            continue;
        }
        put(t, "us_value<element, LANES>(%d, env, &ops[%d], w, ", op->code, i);
        put(t, op->code == US_U_STORE ? "none" : "v%d", i);
        for (int n = 0; n < us_uop_arity(op->code); n++) {
            put(t, ", v%d", source_of(ops, i, n));
        }
        put(t, ");\n");
    }
    put(t, "}\n");
}

static void put_sums(text *t, const us_cu_program *p, const us_cu_op *ops)
{
    put(t, "US_BODY void sums(const us_cu_program *p, const us_cu_env *env, const us_cu_op *ops, const us_share *s, "
           "float *rows, double *scratch)\n{\n(void)p, (void)env, (void)ops, (void)s, (void)rows, (void)scratch;\n");
    for (int i = 0; i < p->n_ops; i++) {
        if (us_cu_sum_kinds(&ops[i])) {
            put(t, "block_sums<LANES>(p, env, s, &ops[%d], rows, scratch);\n", i);
        }
    }
    put(t, "}\n");
}

size_t us_cu_source(char *to, size_t size, const us_cu_program *p, const us_cu_op *ops, int half)
{
    text t = {to, size, 0};
    put_sizes(&t, p, ops, half);
    put_fetch(&t, p, ops);
    put_compute(&t, p, ops);
    put_sums(&t, p, ops);
    return t.length;
}
