// Convolutions and transposed convolutions through oneDNN, channels-last, one sample per call, one thread
// per call. oneDNN 2.x (operation descriptors) and 3.x (primitive descriptors made directly) differ in how
// descriptors are made; everything after that is common.
#include <dlfcn.h>
#include <dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "cpu/conv.h"

#if DNNL_VERSION_MAJOR >= 3
#define US_DNNL3 1
typedef dnnl_memory_desc_t md_t;            // a handle
typedef const_dnnl_memory_desc_t md_ref;
#define MD_REF(m) (m)
#else
#define US_DNNL3 0
typedef dnnl_memory_desc_t md_t;            // a struct
typedef const dnnl_memory_desc_t *md_ref;
#define MD_REF(m) (&(m))
#endif

struct us_conv_engine {
    const us_allocator *a;
    int workers;
    dnnl_engine_t engine;
    dnnl_stream_t *streams;                 // one per worker
};

enum { MAX_MEMORIES = 6 };

struct us_conv_op {
    us_conv_engine *engine;
    us_conv conv;
    int direction;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive, reorder;
    dnnl_memory_t *memories;                // [worker][MAX_MEMORIES]
    dnnl_memory_t packed, plain;            // of the reorder
    int64_t weight_floats, bias_floats, scratch_floats;
};

static usplit_status check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) {
        return USPLIT_OK;
    }
    if (status == dnnl_out_of_memory) {
        US_FAIL(USPLIT_ERR_MEMORY, "out of memory in oneDNN (%s)", what);
    }
    US_FAIL(USPLIT_ERR_BACKEND, "oneDNN refused %s (status %d)", what, (int)status);
}

void us_conv_describe(char *text, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

// OpenMP's functions, where oneDNN brought it into the process. Looked up once: every predicted tile enters.
static pthread_once_t omp_once = PTHREAD_ONCE_INIT;
static int (*omp_get)(void);
static void (*omp_set)(int);

static void find_omp(void)
{
    void *get = dlsym(RTLD_DEFAULT, "omp_get_max_threads"), *set = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (get && set) {
        memcpy(&omp_get, &get, sizeof omp_get);
        memcpy(&omp_set, &set, sizeof omp_set);
    }
}

// oneDNN's OpenMP team size is a property of the calling thread.
int us_conv_enter(void)
{
    pthread_once(&omp_once, find_omp);
    if (!omp_get) {
        return 0;
    }
    int saved = omp_get();
    omp_set(1);
    return saved;
}

void us_conv_leave(int saved)
{
    if (saved > 0) {    // what us_conv_enter returned: the functions are there
        omp_set(saved);
    }
}

usplit_status us_conv_engine_create(us_conv_engine **out, const us_allocator *a, int workers)
{
    *out = NULL;
    us_conv_engine *e = us_calloc(a, 1, sizeof *e);
    if (!e) {
        return USPLIT_ERR_MEMORY;
    }
    e->a = a;
    e->workers = workers;
    e->streams = us_calloc(a, (size_t)workers, sizeof *e->streams);
    usplit_status status = e->streams ? check(dnnl_engine_create(&e->engine, dnnl_cpu, 0), "an engine")
                                      : USPLIT_ERR_MEMORY;
    for (int i = 0; status == USPLIT_OK && i < workers; i++) {
        status = check(dnnl_stream_create(&e->streams[i], e->engine, dnnl_stream_default_flags), "a stream");
    }
    if (status != USPLIT_OK) {
        us_conv_engine_free(e);
        return status;
    }
    *out = e;
    return USPLIT_OK;
}

void us_conv_engine_free(us_conv_engine *e)
{
    if (!e) {
        return;
    }
    for (int i = 0; e->streams && i < e->workers; i++) {
        if (e->streams[i]) {
            dnnl_stream_destroy(e->streams[i]);
        }
    }
    if (e->engine) {
        dnnl_engine_destroy(e->engine);
    }
    us_free(e->a, e->streams);
    us_free(e->a, e);
}

// ---- Descriptors ----

static dnnl_status_t make_md(md_t *md, int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
#if US_DNNL3
    return dnnl_memory_desc_create_with_tag(md, n, dims, dnnl_f32, tag);
#else
    return dnnl_memory_desc_init_by_tag(md, n, dims, dnnl_f32, tag);
#endif
}

static void drop_md(md_t md)
{
#if US_DNNL3
    dnnl_memory_desc_destroy(md);
#else
    (void)md;
#endif
}

typedef struct shapes {
    md_t src, weights, bias, dst, plain;
    dnnl_dims_t strides, dilates, pad_l, pad_r;
    dnnl_primitive_attr_t attr;
} shapes;

// Zero padding that is left of the convolution's own inside a window (plan/need.c).
static void paddings(const us_conv *c, shapes *s)
{
    const int o0[2] = {c->out.y0, c->out.x0}, on[2] = {c->out.h, c->out.w};
    const int i0[2] = {c->in.y0, c->in.x0}, in[2] = {c->in.h, c->in.w};
    for (int d = 0; d < 2; d++) {
        s->strides[d] = c->stride;
        s->dilates[d] = 0;
        if (c->transposed) {
            s->pad_l[d] = 1 + o0[d] - 2 * i0[d];
            s->pad_r[d] = 2 * (in[d] - 1) + 3 - s->pad_l[d] - on[d];
        } else {
            s->pad_l[d] = i0[d] - (o0[d] * c->stride - c->pad);
            s->pad_r[d] = (o0[d] + on[d] - 1) * c->stride - c->pad + c->k - (i0[d] + in[d]);
        }
    }
}

static usplit_status make_shapes(const us_conv *c, shapes *s)
{
    const dnnl_dims_t src = {1, c->ci, c->in.h, c->in.w}, dst = {1, c->co, c->out.h, c->out.w};
    const dnnl_dims_t weights = {c->co, c->ci, c->k, c->k}, bias = {c->co};
    paddings(c, s);
    US_TRY(check(make_md(&s->src, 4, src, dnnl_nhwc), "a source"));
    US_TRY(check(make_md(&s->dst, 4, dst, dnnl_nhwc), "a destination"));
    US_TRY(check(make_md(&s->weights, 4, weights, dnnl_format_tag_any), "weights"));
    US_TRY(check(make_md(&s->plain, 4, weights, c->transposed ? dnnl_iohw : dnnl_oihw), "weights"));
    US_TRY(check(make_md(&s->bias, 1, bias, dnnl_x), "a bias"));
    US_TRY(check(dnnl_primitive_attr_create(&s->attr), "attributes"));
    return check(dnnl_primitive_attr_set_scratchpad_mode(s->attr, dnnl_scratchpad_mode_user), "scratchpad mode");
}

static void drop_shapes(shapes *s)
{
    drop_md(s->src);
    drop_md(s->dst);
    drop_md(s->weights);
    drop_md(s->plain);
    drop_md(s->bias);
    if (s->attr) {
        dnnl_primitive_attr_destroy(s->attr);
    }
}

#if US_DNNL3
static dnnl_status_t make_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, const us_conv *c, const shapes *s,
                             int direction, dnnl_primitive_desc_t hint)
{
    if (direction == US_CONV_FORWARD) {
        return (c->transposed ? dnnl_deconvolution_forward_primitive_desc_create
                              : dnnl_convolution_forward_primitive_desc_create)(
            pd, e, dnnl_forward_training,
            c->transposed ? dnnl_deconvolution_direct : dnnl_convolution_direct, s->src, s->weights, s->bias,
            s->dst, s->strides, s->dilates, s->pad_l, s->pad_r, s->attr);
    }
    if (direction == US_CONV_BACK) {
        return (c->transposed ? dnnl_deconvolution_backward_data_primitive_desc_create
                              : dnnl_convolution_backward_data_primitive_desc_create)(
            pd, e, c->transposed ? dnnl_deconvolution_direct : dnnl_convolution_direct, s->src, s->weights,
            s->dst, s->strides, s->dilates, s->pad_l, s->pad_r, hint, s->attr);
    }
    return (c->transposed ? dnnl_deconvolution_backward_weights_primitive_desc_create
                          : dnnl_convolution_backward_weights_primitive_desc_create)(
        pd, e, c->transposed ? dnnl_deconvolution_direct : dnnl_convolution_direct, s->src, s->weights, s->bias,
        s->dst, s->strides, s->dilates, s->pad_l, s->pad_r, hint, s->attr);
}
#else
static dnnl_status_t make_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, const us_conv *c, const shapes *s,
                             int direction, dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t cd;
    dnnl_deconvolution_desc_t dd;
    dnnl_status_t status;
    if (direction == US_CONV_FORWARD) {
        status = c->transposed
            ? dnnl_deconvolution_forward_desc_init(&dd, dnnl_forward_training, dnnl_deconvolution_direct, &s->src,
                                                   &s->weights, &s->bias, &s->dst, s->strides, s->pad_l, s->pad_r)
            : dnnl_convolution_forward_desc_init(&cd, dnnl_forward_training, dnnl_convolution_direct, &s->src,
                                                 &s->weights, &s->bias, &s->dst, s->strides, s->pad_l, s->pad_r);
    } else if (direction == US_CONV_BACK) {
        status = c->transposed
            ? dnnl_deconvolution_backward_data_desc_init(&dd, dnnl_deconvolution_direct, &s->src, &s->weights,
                                                         &s->dst, s->strides, s->pad_l, s->pad_r)
            : dnnl_convolution_backward_data_desc_init(&cd, dnnl_convolution_direct, &s->src, &s->weights,
                                                       &s->dst, s->strides, s->pad_l, s->pad_r);
    } else {
        status = c->transposed
            ? dnnl_deconvolution_backward_weights_desc_init(&dd, dnnl_deconvolution_direct, &s->src, &s->weights,
                                                            &s->bias, &s->dst, s->strides, s->pad_l, s->pad_r)
            : dnnl_convolution_backward_weights_desc_init(&cd, dnnl_convolution_direct, &s->src, &s->weights,
                                                          &s->bias, &s->dst, s->strides, s->pad_l, s->pad_r);
    }
    if (status != dnnl_success) {
        return status;
    }
    return dnnl_primitive_desc_create(pd, c->transposed ? (const_dnnl_op_desc_t)&dd : (const_dnnl_op_desc_t)&cd,
                                      s->attr, e, hint);
}
#endif

// ---- Creation ----

static usplit_status make_memories(us_conv_op *op, const dnnl_query_t *roles, int n)
{
    us_conv_engine *e = op->engine;
    op->memories = us_calloc(e->a, (size_t)e->workers * MAX_MEMORIES, sizeof *op->memories);
    if (!op->memories) {
        return USPLIT_ERR_MEMORY;
    }
    for (int w = 0; w < e->workers; w++) {
        for (int i = 0; i < n; i++) {
            US_TRY(check(dnnl_memory_create(&op->memories[w * MAX_MEMORIES + i],
                                            dnnl_primitive_desc_query_md(op->pd, roles[i], 0), e->engine,
                                            DNNL_MEMORY_NONE), "a memory object"));
        }
    }
    return USPLIT_OK;
}

static usplit_status make_reorder(us_conv_op *op, md_ref packed, md_ref plain)
{
    us_conv_engine *e = op->engine;
    dnnl_primitive_desc_t pd;
    int pack = op->direction != US_CONV_WEIGHT;
    US_TRY(check(dnnl_memory_create(&op->packed, packed, e->engine, DNNL_MEMORY_NONE), "a memory object"));
    US_TRY(check(dnnl_memory_create(&op->plain, plain, e->engine, DNNL_MEMORY_NONE), "a memory object"));
    US_TRY(check(dnnl_reorder_primitive_desc_create(&pd, pack ? plain : packed, e->engine, pack ? packed : plain,
                                                    e->engine, NULL), "a reorder"));
    dnnl_status_t status = dnnl_primitive_create(&op->reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    return check(status, "a reorder");
}

static usplit_status create(us_conv_op *op, shapes *s)
{
    static const dnnl_query_t forward[] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md,
                                           dnnl_query_scratchpad_md};
    static const dnnl_query_t back[] = {dnnl_query_diff_dst_md, dnnl_query_weights_md, dnnl_query_diff_src_md,
                                        dnnl_query_scratchpad_md};
    static const dnnl_query_t weight[] = {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md,
                                          dnnl_query_scratchpad_md};
    static const dnnl_query_t *const roles[] = {forward, back, weight};
    dnnl_primitive_desc_t hint = NULL;
    const us_conv *c = &op->conv;
    US_TRY(make_shapes(c, s));
    if (op->direction != US_CONV_FORWARD) {
        US_TRY(check(make_pd(&hint, op->engine->engine, c, s, US_CONV_FORWARD, NULL), "a convolution"));
    }
    dnnl_status_t made = make_pd(&op->pd, op->engine->engine, c, s, op->direction, hint);
    if (hint) {
        dnnl_primitive_desc_destroy(hint);
    }
    US_TRY(check(made, "a convolution"));
    US_TRY(check(dnnl_primitive_create(&op->primitive, op->pd), "a convolution"));
    US_TRY(make_memories(op, roles[op->direction], 4));
    md_ref packed = dnnl_primitive_desc_query_md(op->pd, roles[op->direction][1], 0);
    op->weight_floats = (int64_t)(dnnl_memory_desc_get_size(packed) + 3) / 4;
    op->bias_floats = c->co;
    op->scratch_floats =
        (int64_t)(dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(op->pd, dnnl_query_scratchpad_md, 0)) + 3) / 4;
    return make_reorder(op, packed, MD_REF(s->plain));
}

usplit_status us_conv_op_create(us_conv_op **out, us_conv_engine *engine, const us_conv *conv, int direction)
{
    *out = NULL;
    us_conv_op *op = us_calloc(engine->a, 1, sizeof *op);
    if (!op) {
        return USPLIT_ERR_MEMORY;
    }
    op->engine = engine;
    op->conv = *conv;
    op->direction = direction;
    shapes s;
    memset(&s, 0, sizeof s);
    usplit_status status = create(op, &s);
    drop_shapes(&s);
    if (status != USPLIT_OK) {
        us_conv_op_free(op);
        return status;
    }
    *out = op;
    return USPLIT_OK;
}

void us_conv_op_free(us_conv_op *op)
{
    if (!op) {
        return;
    }
    for (int i = 0; op->memories && i < op->engine->workers * MAX_MEMORIES; i++) {
        if (op->memories[i]) {
            dnnl_memory_destroy(op->memories[i]);
        }
    }
    dnnl_memory_t singles[] = {op->packed, op->plain};
    for (int i = 0; i < 2; i++) {
        if (singles[i]) {
            dnnl_memory_destroy(singles[i]);
        }
    }
    if (op->reorder) {
        dnnl_primitive_destroy(op->reorder);
    }
    if (op->primitive) {
        dnnl_primitive_destroy(op->primitive);
    }
    if (op->pd) {
        dnnl_primitive_desc_destroy(op->pd);
    }
    us_free(op->engine->a, op->memories);
    us_free(op->engine->a, op);
}

int64_t us_conv_op_weight_floats(const us_conv_op *op)
{
    return op->weight_floats;
}

int64_t us_conv_op_scratch_floats(const us_conv_op *op)
{
    return op->scratch_floats;
}

// ---- Running ----

// The data handle is not const in oneDNN's interface; sources are only read.
static void *writable(const void *p)
{
    void *q;
    memcpy(&q, &p, sizeof q);
    return q;
}

usplit_status us_conv_op_bind(us_conv_op *op, float *packed, float *bias)
{
    md_ref md;
    us_conv_engine *e = op->engine;
    US_TRY(check(dnnl_memory_set_data_handle(op->packed, packed), "weights"));
    md = dnnl_primitive_desc_query_md(op->pd, dnnl_query_weights_md, 1);
    for (int w = 0; w < e->workers; w++) {
        dnnl_memory_t *m = &op->memories[w * MAX_MEMORIES];
        US_TRY(check(dnnl_memory_set_data_handle(m[1], packed), "weights"));
        if (op->direction == US_CONV_FORWARD && !m[4]) {
            US_TRY(check(dnnl_memory_create(&m[4], md, e->engine, bias), "a bias"));
        }
    }
    return USPLIT_OK;
}

usplit_status us_conv_op_pack(us_conv_op *op, int worker, const float *weights)
{
    US_TRY(check(dnnl_memory_set_data_handle(op->plain, writable(weights)), "weights"));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, op->plain}, {DNNL_ARG_TO, op->packed}};
    return check(dnnl_primitive_execute(op->reorder, op->engine->streams[worker], 2, args), "a reorder");
}

usplit_status us_conv_op_run(us_conv_op *op, int worker, const float *src, float *dst, float *scratch)
{
    dnnl_memory_t *m = &op->memories[worker * MAX_MEMORIES];
    int forward = op->direction == US_CONV_FORWARD;
    const dnnl_exec_arg_t args[] = {
        {forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, m[0]}, {DNNL_ARG_WEIGHTS, m[1]},
        {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, m[2]}, {DNNL_ARG_SCRATCHPAD, m[3]}, {DNNL_ARG_BIAS, m[4]}};
    dnnl_memory_set_data_handle(m[0], writable(src));
    dnnl_memory_set_data_handle(m[2], dst);
    dnnl_memory_set_data_handle(m[3], scratch);
    return check(dnnl_primitive_execute(op->primitive, op->engine->streams[worker], forward ? 5 : 4, args),
                 "to run a convolution");
}

usplit_status us_conv_op_run_weight(us_conv_op *op, int worker, const float *src, const float *grad, float *partial,
                                    float *scratch)
{
    dnnl_memory_t *m = &op->memories[worker * MAX_MEMORIES];
    if (!m[4]) {
        md_ref md = dnnl_primitive_desc_query_md(op->pd, dnnl_query_diff_weights_md, 1);
        US_TRY(check(dnnl_memory_create(&m[4], md, op->engine->engine, DNNL_MEMORY_NONE), "a bias"));
    }
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, m[0]}, {DNNL_ARG_DIFF_WEIGHTS, m[1]}, {DNNL_ARG_DIFF_DST, m[2]},
                                    {DNNL_ARG_SCRATCHPAD, m[3]}, {DNNL_ARG_DIFF_BIAS, m[4]}};
    dnnl_memory_set_data_handle(m[0], writable(src));
    dnnl_memory_set_data_handle(m[1], partial);
    dnnl_memory_set_data_handle(m[2], writable(grad));
    dnnl_memory_set_data_handle(m[3], scratch);
    dnnl_memory_set_data_handle(m[4], partial + op->weight_floats);
    return check(dnnl_primitive_execute(op->primitive, op->engine->streams[worker], 5, args),
                 "to run a convolution's gradient");
}

usplit_status us_conv_op_unpack(us_conv_op *op, int worker, float *partial, float *weights, float *bias)
{
    dnnl_memory_set_data_handle(op->packed, partial);
    dnnl_memory_set_data_handle(op->plain, weights);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, op->packed}, {DNNL_ARG_TO, op->plain}};
    if (bias) {
        memcpy(bias, partial + op->weight_floats, (size_t)op->bias_floats * sizeof *bias);
    }
    return check(dnnl_primitive_execute(op->reorder, op->engine->streams[worker], 2, args), "a reorder");
}
