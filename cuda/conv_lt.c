// cuBLASLt as a library of ways (ways.h): a 1x1 convolution that sees every pixel once is a product of matrices,
// channels last as they lie in memory. With P pixels, in the column-major words of cuBLAS:
//
//   FORWARD  out (co x P) = weights (ci x co) transposed * in (ci x P), bias added to every column
//   BACK     out (ci x P) = weights (ci x co) * a (co x P)
//   WEIGHT   out (ci x co) = a (ci x P) * b (co x P) transposed
//
// Sums in float32: no TF32 for float matrices, and a product split along its sum is put together in float32.
#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "ways.h"

enum { MOST_FOUND = 16, ALGO_WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(int64_t) };

typedef struct library {
    cublasLtHandle_t handle;
} library;

// What cuBLASLt is told of a product.
typedef struct product {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    int swapped;                // its a and b are ours the other way round
} product;

typedef struct matmul {
    us_cu_way way;
    library *library;
    product product;
    cublasLtMatmulAlgo_t algo;
} matmul;

static const char *fail(cublasStatus_t status, const char *what)
{
    static _Thread_local char text[256];
    snprintf(text, sizeof text, "cuBLASLt, %s: %s", what, cublasLtGetStatusString(status));
    return text;
}

// ---- Products --------------------------------------------------------------------------------------------

static int is_product(const us_cu_shape *s)
{
    return s->k == 1 && s->stride == 1 && !s->transposed && s->top == 0 && s->left == 0 && s->in_h == s->out_h &&
           s->in_w == s->out_w;
}

static void drop_product(product *p)
{
    cublasLtMatrixLayout_t layouts[3] = {p->a, p->b, p->c};
    if (p->operation) {
        cublasLtMatmulDescDestroy(p->operation);
    }
    for (int i = 0; i < 3; i++) {
        if (layouts[i]) {
            cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    *p = (product){.operation = NULL};
}

static cublasStatus_t set(product *p, cublasLtMatmulDescAttributes_t name, const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(p->operation, name, value, size);
}

// Rows and columns of the three matrices as they lie in memory, and how the first two are used.
typedef struct sizes {
    uint64_t a[2], b[2], c[2];
    cublasOperation_t use_a, use_b;
} sizes;

static sizes sizes_of(const us_cu_shape *s, us_conv_direction direction)
{
    uint64_t pixels = (uint64_t)s->batch * (uint64_t)s->in_h * (uint64_t)s->in_w;
    uint64_t ci = (uint64_t)s->ci, co = (uint64_t)s->co;
    switch (direction) {
    case US_CU_FORWARD: return (sizes){{ci, co}, {ci, pixels}, {co, pixels}, CUBLAS_OP_T, CUBLAS_OP_N};
    case US_CU_BACK: return (sizes){{ci, co}, {co, pixels}, {ci, pixels}, CUBLAS_OP_N, CUBLAS_OP_N};
    default: return (sizes){{ci, pixels}, {co, pixels}, {ci, co}, CUBLAS_OP_N, CUBLAS_OP_T};
    }
}

static cublasStatus_t make_layout(cublasLtMatrixLayout_t *out, const us_cu_shape *s, const uint64_t size[2])
{
    return cublasLtMatrixLayoutCreate(out, s->half ? CUDA_R_16F : CUDA_R_32F, size[0], size[1], (int64_t)size[0]);
}

static cublasStatus_t make_product(product *p, const us_cu_shape *s, us_conv_direction direction)
{
    const cublasLtEpilogue_t with_bias = CUBLASLT_EPILOGUE_BIAS;
    const void *somewhere = (const void *)(uintptr_t)16;    // no more aligned than what we promise
    sizes n = sizes_of(s, direction);
    *p = (product){.swapped = direction != US_CU_WEIGHT};
    cublasStatus_t status = cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    status = status ? status : set(p, CUBLASLT_MATMUL_DESC_TRANSA, &n.use_a, sizeof n.use_a);
    status = status ? status : set(p, CUBLASLT_MATMUL_DESC_TRANSB, &n.use_b, sizeof n.use_b);
    if (direction == US_CU_FORWARD) {
        status = status ? status : set(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &with_bias, sizeof with_bias);
        status = status ? status : set(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &somewhere, sizeof somewhere);
    }
    status = status ? status : make_layout(&p->a, s, n.a);
    status = status ? status : make_layout(&p->b, s, n.b);
    return status ? status : make_layout(&p->c, s, n.c);
}

// ---- Ways ------------------------------------------------------------------------------------------------

static void release(us_cu_way *way)
{
    matmul *m = (matmul *)way;
    drop_product(&m->product);
    us_free(NULL, m);
}

// *out stays NULL where the algorithm is not for this product.
static const char *make_way(us_cu_way **out, library *l, const us_cu_shape *s, us_conv_direction direction,
                            const cublasLtMatmulAlgo_t *algo)
{
    cublasLtMatmulHeuristicResult_t checked;
    *out = NULL;
    matmul *m = us_calloc(NULL, 1, sizeof *m);
    if (!m) {
        return "out of memory for a convolution";
    }
    m->library = l;
    m->algo = *algo;
    memset(&checked, 0, sizeof checked);
    cublasStatus_t status = make_product(&m->product, s, direction);
    if (status != CUBLAS_STATUS_SUCCESS) {
        release(&m->way);
        return fail(status, "a product");
    }
    status = cublasLtMatmulAlgoCheck(l->handle, m->product.operation, m->product.a, m->product.b, m->product.c,
                                     m->product.c, &m->algo, &checked);
    if (status != CUBLAS_STATUS_SUCCESS || checked.workspaceSize > US_CU_MOST_WORKSPACE) {
        release(&m->way);
        return NULL;
    }
    int32_t number = -1;
    size_t written;
    cublasLtMatmulAlgoConfigGetAttribute(&m->algo, CUBLASLT_ALGO_CONFIG_ID, &number, sizeof number, &written);
    m->way.library = &us_cu_library_lt;
    m->way.workspace = (int64_t)checked.workspaceSize;
    m->way.adds_bias = direction == US_CU_FORWARD;
    snprintf(m->way.note, sizeof m->way.note, "cublaslt %d", (int)number);
    us_cu_recipe *r = &m->way.recipe;
    snprintf(r->library, sizeof r->library, "%s", us_cu_library_lt.name);
    r->n = ALGO_WORDS;
    memcpy(r->words, &m->algo, sizeof m->algo);
    *out = &m->way;
    return NULL;
}

static cublasStatus_t prefer(cublasLtMatmulPreference_t preference)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t workspace = US_CU_MOST_WORKSPACE;
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, bytes = 16;
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                                 &workspace, sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
                                                      sizeof scheme);
    }
    for (int i = 0; i < 4 && status == CUBLAS_STATUS_SUCCESS; i++) {
        status = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &bytes, sizeof bytes);
    }
    return status;
}

// Algorithms that cuBLASLt proposes; none, and no error, where it has none.
static cublasStatus_t propose(library *l, const product *p, int most, cublasLtMatmulHeuristicResult_t *found, int *n)
{
    cublasLtMatmulPreference_t preference = NULL;
    *n = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    status = status ? status : prefer(preference);
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulAlgoGetHeuristic(l->handle, p->operation, p->a, p->b, p->c, p->c, preference, most,
                                                found, n);
    }
    if (preference) {
        cublasLtMatmulPreferenceDestroy(preference);
    }
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        *n = 0;
        return CUBLAS_STATUS_SUCCESS;
    }
    return status;
}

static const char *offer(void *of, const us_cu_shape *shape, us_conv_direction direction, int most, us_cu_taker *taker)
{
    cublasLtMatmulHeuristicResult_t found[MOST_FOUND];
    const char *text = NULL;
    product p;
    int n = 0, done = 0;
    if (!is_product(shape)) {
        return NULL;
    }
    cublasStatus_t status = make_product(&p, shape, direction);
    status = status ? status : propose(of, &p, most < MOST_FOUND ? most : MOST_FOUND, found, &n);
    drop_product(&p);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return fail(status, "heuristics");
    }
    for (int i = 0; i < n && !text && !done; i++) {
        us_cu_way *way = NULL;
        if (found[i].state == CUBLAS_STATUS_SUCCESS) {
            text = make_way(&way, of, shape, direction, &found[i].algo);
        }
        if (way) {
            text = taker->take(taker, way, &done);
        }
    }
    return text;
}

static const char *again(void *of, const us_cu_shape *shape, us_conv_direction direction, const us_cu_recipe *recipe,
                         us_cu_way **out)
{
    cublasLtMatmulAlgo_t algo;
    *out = NULL;
    if (!is_product(shape) || recipe->n != ALGO_WORDS) {
        return NULL;
    }
    memcpy(&algo, recipe->words, sizeof algo);
    return make_way(out, of, shape, direction, &algo);
}

static const char *run(us_cu_way *way, us_stream *stream, const us_cu_arguments *args)
{
    matmul *m = (matmul *)way;
    product *p = &m->product;
    const float one = 1, zero = 0;
    const void *a = p->swapped ? args->b : args->a, *b = p->swapped ? args->a : args->b;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (m->way.adds_bias) {
        status = set(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args->bias, sizeof args->bias);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmul(m->library->handle, p->operation, &one, a, p->a, b, p->b, &zero, args->out, p->c,
                                args->out, p->c, &m->algo, args->workspace, (size_t)m->way.workspace,
                                (cudaStream_t)us_stream_native(stream));
    }
    return status == CUBLAS_STATUS_SUCCESS ? NULL : fail(status, "to run a product");
}

// ---- The library -----------------------------------------------------------------------------------------

static void close_library(void *of)
{
    library *l = of;
    if (l->handle) {
        cublasLtDestroy(l->handle);
    }
    us_free(NULL, l);
}

// All of its products repeat to the bit on one stream with a workspace of the caller's, and sums are never added up
// in the output or by atomic operations (prefer).
static const char *open_library(void **out, int deterministic)
{
    (void)deterministic;
    *out = NULL;
    library *l = us_calloc(NULL, 1, sizeof *l);
    if (!l) {
        return "out of memory for cuBLASLt's handle";
    }
    cublasStatus_t status = cublasLtCreate(&l->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        const char *text = fail(status, "a handle");
        close_library(l);
        return text;
    }
    *out = l;
    return NULL;
}

static void describe(char *text, size_t size)
{
    int version = (int)cublasLtGetVersion();
    snprintf(text, size, "cuBLASLt %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

const us_cu_library us_cu_library_lt = {"cublaslt", open_library, close_library, describe, offer, again, run, release};
