// Graph container: shape rules, counts, initial parameter values.
#include "net/graph.h"

#include <math.h>
#include <string.h>

#include "kernels/philox.h"
#include "net/build.h"

static const struct {
    const char *name;
    int arity;
} ops[] = {
#define US_OP(name, text, arity, what) {text, arity},
#include "net/op.def"
#undef US_OP
};

const char *us_op_name(us_op op)
{
    return ops[op].name;
}

int us_op_arity(us_op op)
{
    return ops[op].arity;
}

static usplit_status shape_of(const us_graph *g, us_node *n)
{
    const us_node *x = n->n_in > 0 ? &g->nodes[n->in[0]] : NULL;
    const us_node *y = n->n_in > 1 ? &g->nodes[n->in[1]] : NULL;
    switch (n->op) {
    case US_OP_INPUT:
    case US_OP_TARGET:
    case US_OP_PRIOR:
    case US_OP_COUNT: break;    // set by the builder
    case US_OP_CONV:
        n->h = (x->h + 2 * n->pad - n->k) / n->stride + 1;   // c is set by the builder
        n->w = (x->w + 2 * n->pad - n->k) / n->stride + 1;
        break;
    case US_OP_TCONV:
        n->h = 2 * x->h;
        n->w = 2 * x->w;
        break;
    case US_OP_BNORM:
    case US_OP_ELU:
    case US_OP_LEAKY:
    case US_OP_SIGMOID:
    case US_OP_DROPOUT:
    case US_OP_DROP:
    case US_OP_SCALE:
    case US_OP_LEVEL:
        n->c = x->c, n->h = x->h, n->w = x->w;
        break;
    case US_OP_GATE:
    case US_OP_LATENT:
        US_ASSERT(x->c % 2 == 0);
        n->c = x->c / 2, n->h = x->h, n->w = x->w;
        break;
    case US_OP_ADD:
        US_ASSERT(x->c == y->c && x->h == y->h && x->w == y->w);
        n->c = x->c, n->h = x->h, n->w = x->w;
        break;
    case US_OP_CONCAT:
        US_ASSERT(x->h == y->h && x->w == y->w);
        n->c = x->c + y->c, n->h = x->h, n->w = x->w;
        break;
    case US_OP_WINDOW:
    case US_OP_LINEAR: n->c = x->c; break;      // h, w set by the builder
    case US_OP_POOL: n->c = x->c, n->h = x->h / 2, n->w = x->w / 2; break;
    case US_OP_NEAREST: n->c = x->c, n->h = n->k * x->h, n->w = n->k * x->w; break;
    case US_OP_REFLECT:
        US_ASSERT(n->pad < x->h && n->pad < x->w);
        n->c = x->c, n->h = x->h + 2 * n->pad, n->w = x->w + 2 * n->pad;
        break;
    case US_OP_SCAN: n->c = 4 * x->c, n->h = x->h, n->w = x->w; break;
    case US_OP_KL:
        US_ASSERT(x->c == 2 * y->c && x->h == y->h && x->c == g->nodes[n->in[2]].c &&
                  x->h == g->nodes[n->in[2]].h);
        n->c = y->c, n->h = 1, n->w = 1;
        break;
    case US_OP_KL_FULL:
        US_ASSERT(x->c == y->c && x->c % 2 == 0 && x->h == y->h);
        n->c = x->c / 2, n->h = 1, n->w = 1;
        break;
    case US_OP_NLL:
        US_ASSERT(x->c == 2 * y->c && x->h == y->h && x->w == y->w);
        n->c = y->c, n->h = 1, n->w = 1;
        break;
    case US_OP_MSE:
        US_ASSERT(x->c == y->c && x->h == y->h && x->w == y->w);
        n->c = y->c, n->h = 1, n->w = 1;
        break;
    case US_OP_EXTERN: n->c = x->c, n->h = 1, n->w = 1; break;
    }
    US_ASSERT(n->c > 0 && n->h > 0 && n->w > 0);
    return USPLIT_OK;
}

usplit_status us_graph_add(us_graph *g, us_node node, int *out)
{
    if (g->n_nodes == g->cap_nodes) {
        int cap = g->cap_nodes ? 2 * g->cap_nodes : 256;
        us_node *grown = us_alloc(g->a, (size_t)cap, sizeof *grown);
        if (!grown) {
            return USPLIT_ERR_MEMORY;
        }
        if (g->n_nodes) {
            memcpy(grown, g->nodes, (size_t)g->n_nodes * sizeof *grown);
        }
        us_free(g->a, g->nodes);
        g->nodes = grown;
        g->cap_nodes = cap;
    }
    node.n_in = us_op_arity(node.op);
    US_TRY(shape_of(g, &node));
    g->nodes[g->n_nodes] = node;
    *out = g->n_nodes++;
    return USPLIT_OK;
}

usplit_status us_graph_add_param(us_graph *g, const us_param *param)
{
    if (g->n_params == g->cap_params) {
        int cap = g->cap_params ? 2 * g->cap_params : 256;
        us_param *grown = us_alloc(g->a, (size_t)cap, sizeof *grown);
        if (!grown) {
            return USPLIT_ERR_MEMORY;
        }
        if (g->n_params) {
            memcpy(grown, g->params, (size_t)g->n_params * sizeof *grown);
        }
        us_free(g->a, g->params);
        g->params = grown;
        g->cap_params = cap;
    }
    us_param *p = &g->params[g->n_params++];
    *p = *param;
    p->count = 1;
    for (int i = 0; i < p->n_dims; i++) {
        p->count *= p->dims[i];
    }
    p->offset = g->n_floats;
    g->n_floats += (p->count + 15) / 16 * 16;       // every array starts on 64 bytes
    return USPLIT_OK;
}

int us_graph_param(const us_graph *g, const char *name)
{
    for (int i = 0; i < g->n_params; i++) {
        if (strcmp(g->params[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

void us_graph_free(us_graph *g)
{
    if (g) {
        us_free(g->a, g->nodes);
        us_free(g->a, g->params);
        us_free(g->a, g);
    }
}

int64_t us_node_macs(const us_graph *g, const us_node *n)
{
    if (n->op == US_OP_CONV) {
        return (int64_t)n->c * g->nodes[n->in[0]].c * n->k * n->k * n->h * n->w;
    }
    if (n->op == US_OP_TCONV) {
        const us_node *x = &g->nodes[n->in[0]];
        return (int64_t)n->c * x->c * 9 * x->h * x->w;
    }
    return 0;
}

int64_t us_graph_macs(const us_graph *g)
{
    int64_t macs = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        macs += us_node_macs(g, &g->nodes[i]);
    }
    return macs;
}

int64_t us_graph_n_parameters(const us_graph *g)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_params; i++) {
        n += us_param_trained(&g->params[i]) ? g->params[i].count : 0;
    }
    return n;
}

void us_graph_init_params(const us_graph *g, uint64_t seed, float *params)
{
    memset(params, 0, (size_t)g->n_floats * sizeof *params);
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        float *dst = params + p->offset;
        if (p->copy_of > 0) {
            memcpy(dst, params + g->params[p->copy_of - 1].offset, (size_t)p->count * sizeof *dst);
            continue;
        }
        double bound = p->fan_in > 0 ? 1.0 / sqrt((double)p->fan_in) : 0;
        for (int64_t j = 0; j < p->count; j++) {
            switch (p->kind) {
            case US_PARAM_WEIGHT:
            case US_PARAM_BIAS: {
                us_u32x4 r = us_philox(seed, (uint32_t)j, (uint32_t)(j >> 32), (uint32_t)i, US_RNG_INIT);
                dst[j] = (float)(bound * (2.0 * us_uniform53(r.v[0], r.v[1]) - 1.0));
                break;
            }
            case US_PARAM_BN_WEIGHT:
            case US_PARAM_RUNNING_VAR: dst[j] = 1.0f; break;
            default: dst[j] = 0.0f; break;
            }
        }
    }
}
