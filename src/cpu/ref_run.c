// Runs a whole graph op by op in double precision (ref_ops.c): forward, losses (networks 5.2 to 5.4),
// backward. Keeps every value and every gradient, so that a test can ask where two engines part.
#include "cpu/ref.h"

#include <math.h>
#include <string.h>

#include "kernels/elem.h"
#include "kernels/spatial.h"
#include "kernels/step.h"

// A node's memory. Those of INPUT and TARGET are filled by the caller.
typedef struct place {
    int64_t count;              // doubles, all samples
    double *value, *gradient;
    double *mean, *var;         // BNORM
    double *mask;               // DROPOUT: [N][c], DROP: [N][h][w][c]
    int reached;                // the gradient of the loss arrives here
} place;

struct us_ref {
    const us_allocator *a;
    const us_graph *graph;
    int batch, train, masks_drawn;
    place *places;
    double *noise[USPLIT_MAX_LEVELS];
    double *memory;
    double kl_weight, free_bits;
};

static double *take(double **next, int64_t count)
{
    double *p = *next;
    *next += count;
    return p;
}

// Hands out memory from `next`, or, from NULL, only counts: returns the doubles needed.
static int64_t lay_out(us_ref *r, double *memory)
{
    const us_graph *g = r->graph;
    double *next = memory;
    int64_t total = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        place *p = &r->places[i];
        p->count = (int64_t)r->batch * n->h * n->w * n->c;
        int64_t mask = n->op == US_OP_DROPOUT ? (int64_t)r->batch * n->c : n->op == US_OP_DROP ? p->count : 0;
        int64_t stats = n->op == US_OP_BNORM ? n->c : 0;
        int64_t noise = n->op == US_OP_LATENT ? p->count : 0;
        total += 2 * p->count + mask + 2 * stats + noise;
        if (memory) {
            p->value = take(&next, p->count);
            p->gradient = take(&next, p->count);
            p->mask = take(&next, mask);
            p->mean = take(&next, stats);
            p->var = take(&next, stats);
            if (noise) {
                r->noise[n->level] = take(&next, noise);
            }
        }
    }
    return total;
}

usplit_status us_ref_create(us_ref **out, const us_allocator *a, const us_graph *graph, int batch, int train)
{
    *out = NULL;
    US_CHECK_ARG(batch >= 1, "batch is %d; accepted: 1 or more", batch);
    for (int i = 0; i < graph->n_nodes; i++) {
        const us_node *n = &graph->nodes[i];
        US_CHECK_ARG(!train || n->op != US_OP_BNORM || (int64_t)batch * n->h * n->w > 1,
                     "batch statistics of one value: batch %d at %d x %d", batch, n->h, n->w);
    }
    us_ref *r = us_calloc(a, 1, sizeof *r);
    if (!r) {
        return USPLIT_ERR_MEMORY;
    }
    *r = (us_ref){.a = a, .graph = graph, .batch = batch, .train = train};
    r->places = us_calloc(a, (size_t)graph->n_nodes, sizeof *r->places);
    if (r->places) {
        r->memory = us_calloc(a, (size_t)lay_out(r, NULL), sizeof *r->memory);
    }
    if (!r->memory) {
        us_ref_free(r);
        return USPLIT_ERR_MEMORY;
    }
    lay_out(r, r->memory);
    *out = r;
    return USPLIT_OK;
}

void us_ref_free(us_ref *r)
{
    if (r) {
        us_free(r->a, r->memory);
        us_free(r->a, r->places);
        us_free(r->a, r);
    }
}

double *us_ref_input(us_ref *r, int level)
{
    for (int i = 0; i < r->graph->n_nodes; i++) {
        const us_node *n = &r->graph->nodes[i];
        if (n->op == US_OP_INPUT && n->level == level) {
            return r->places[i].value;
        }
    }
    return NULL;
}

double *us_ref_target(us_ref *r)
{
    for (int i = 0; i < r->graph->n_nodes; i++) {
        if (r->graph->nodes[i].op == US_OP_TARGET) {
            return r->places[i].value;
        }
    }
    return NULL;
}

double *us_ref_noise(us_ref *r, int level)
{
    return level >= 0 && level < USPLIT_MAX_LEVELS ? r->noise[level] : NULL;
}

void us_ref_draw_masks(us_ref *r, uint64_t seed, int64_t step)
{
    r->masks_drawn = r->train && r->graph->config.dropout > 0;
    for (int i = 0; r->masks_drawn && i < r->graph->n_nodes; i++) {
        const us_node *n = &r->graph->nodes[i];
        for (int b = 0; n->op == US_OP_DROPOUT && b < r->batch; b++) {
            uint64_t stream = us_key(seed, US_RNG_DROPOUT, (uint64_t)step, (uint32_t)b);
            for (int c = 0; c < n->c; c++) {
                r->places[i].mask[b * n->c + c] =
                    us_draw_mask(stream, (uint32_t)n->level, (uint32_t)c, (float)r->graph->config.dropout);
            }
        }
        int64_t elements = (int64_t)n->h * n->w * n->c;
        for (int64_t j = 0; n->op == US_OP_DROP && j < r->batch * elements; j++) {
            float draws[4];
            uint64_t stream = us_key(seed, US_RNG_DROPOUT, (uint64_t)step, (uint32_t)(j / elements));
            us_draw_drop4(stream, (uint32_t)n->level, (uint32_t)(j % elements / 4), (float)r->graph->config.dropout, draws);
            r->places[i].mask[j] = (double)draws[j % elements % 4];
        }
    }
}

static us_ref_op op_of(const us_ref *r, int node, const float *params)
{
    const us_node *n = &r->graph->nodes[node];
    const place *p = &r->places[node];
    us_ref_op op = {.graph = r->graph, .node = n, .batch = r->batch, .train = r->train, .params = params,
                    .mask = r->masks_drawn ? p->mask : NULL, .mean = p->mean, .var = p->var, .out = p->value,
                    .g = p->gradient};
    if (n->op == US_OP_LATENT || n->op == US_OP_KL) {
        op.eps = r->noise[n->level];
    }
    for (int i = 0; i < n->n_in; i++) {
        op.in[i] = r->places[n->in[i]].value;
        op.g_in[i] = r->places[n->in[i]].gradient;
    }
    return op;
}

// ---- Losses -----------------------------------------------------------------------------------------

// KLn of a sample: the sum over the level's latent divided by its size (networks 5.3).
static double kl_per_element(const us_ref *r, int node, int sample)
{
    const us_node *n = &r->graph->nodes[node], *z = &r->graph->nodes[r->graph->latent[n->level]];
    double sum = 0;
    for (int c = 0; c < n->c; c++) {
        sum += r->places[node].value[sample * n->c + c];
    }
    return sum / ((double)z->c * z->h * z->w);
}

static int kl_is_clamped(const us_ref *r, double kl)
{
    return r->free_bits >= 1e-6 && kl < r->free_bits;
}

static void losses_of(const us_ref *r, us_ref_losses *losses)
{
    const us_graph *g = r->graph;
    *losses = (us_ref_losses){0};
    int levels = 0;
    for (int l = 0; l < g->n_latents; l++) {
        for (int b = 0; g->kl[l] >= 0 && b < r->batch; b++) {
            double kl = kl_per_element(r, g->kl[l], b);
            losses->level[l] += (kl_is_clamped(r, kl) ? r->free_bits : kl) / r->batch;
        }
        losses->kl += losses->level[l];
        levels += g->kl[l] >= 0;
    }
    losses->kl /= levels > 0 ? levels : 1;
    for (int i = 0; i < g->n_losses; i++) {
        const us_node *n = &g->nodes[g->losses[i]], *output = &g->nodes[n->in[0]];
        for (int c = 0; c < n->c; c++) {
            double mean = 0;
            for (int b = 0; b < r->batch; b++) {
                mean += r->places[g->losses[i]].value[b * n->c + c] / ((double)r->batch * output->h * output->w);
            }
            losses->channel[c] = i == 0 ? mean : losses->channel[c];
            losses->reconstruction += g->loss_weight[i] * mean / n->c;
        }
    }
    losses->loss = losses->reconstruction + (levels > 0 ? r->kl_weight * losses->kl : 0);
}

// Gradients of the loss at the sums it is made of: w of networks 5.3, 1 / (K B H W) of 5.2.
static void start_gradients(us_ref *r)
{
    const us_graph *g = r->graph;
    int levels = 0;
    for (int l = 0; l < g->n_latents; l++) {
        levels += g->kl[l] >= 0;
    }
    for (int l = 0; l < g->n_latents; l++) {
        if (g->kl[l] < 0) {
            continue;
        }
        const us_node *n = &g->nodes[g->kl[l]], *z = &g->nodes[g->latent[l]];
        double w = r->kl_weight / ((double)levels * r->batch * z->c * z->h * z->w);
        r->places[g->kl[l]].reached = 1;
        for (int b = 0; b < r->batch; b++) {
            for (int c = 0; c < n->c; c++) {
                r->places[g->kl[l]].gradient[b * n->c + c] =
                    kl_is_clamped(r, kl_per_element(r, g->kl[l], b)) ? 0 : w;
            }
        }
    }
    for (int i = 0; i < g->n_losses; i++) {
        const us_node *n = &g->nodes[g->losses[i]], *output = &g->nodes[n->in[0]];
        r->places[g->losses[i]].reached = 1;
        for (int j = 0; j < r->batch * n->c; j++) {
            r->places[g->losses[i]].gradient[j] = g->loss_weight[i] / ((double)n->c * r->batch * output->h * output->w);
        }
    }
}

// ---- Runs -------------------------------------------------------------------------------------------

void us_ref_run_forward(us_ref *r, const float *params, double kl_weight, double free_bits,
                        us_ref_losses *losses)
{
    r->kl_weight = kl_weight;
    r->free_bits = free_bits;
    for (int i = 0; i < r->graph->n_nodes; i++) {
        us_ref_op op = op_of(r, i, params);
        us_ref_forward(&op);
    }
    if (losses) {
        losses_of(r, losses);
    }
}

static void mark_param(unsigned char *has_grad, const us_node *n)
{
    int conv = n->op == US_OP_CONV || n->op == US_OP_TCONV || n->op == US_OP_BNORM;
    if (conv || n->op == US_OP_PRIOR || n->op == US_OP_SCAN) {
        has_grad[n->weight] = 1;
    }
    if (conv && n->bias >= 0) {
        has_grad[n->bias] = 1;
    }
}

void us_ref_run_backward(us_ref *r, const float *params, double *grads, unsigned char *has_grad)
{
    const us_graph *g = r->graph;
    memset(grads, 0, (size_t)g->n_floats * sizeof *grads);
    memset(has_grad, 0, (size_t)g->n_params);
    for (int i = 0; i < g->n_nodes; i++) {
        r->places[i].reached = 0;
        memset(r->places[i].gradient, 0, (size_t)r->places[i].count * sizeof(double));
    }
    start_gradients(r);
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const us_node *n = &g->nodes[i];
        if (!r->places[i].reached) {
            continue;
        }
        us_ref_op op = op_of(r, i, params);
        op.grads = grads;
        us_ref_backward(&op);
        mark_param(has_grad, n);
        for (int k = 0; k < n->n_in; k++) {
            r->places[n->in[k]].reached = 1;
        }
    }
}

const double *us_ref_value(const us_ref *r, int node)
{
    return r->places[node].value;
}

const double *us_ref_gradient(const us_ref *r, int node)
{
    return r->places[node].gradient;
}

// A module that is used twice is updated twice, in the order of its calls (networks 1.3).
void us_ref_statistics(const us_ref *r, const float *params, double *after)
{
    const us_graph *g = r->graph;
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        for (int64_t j = p->offset; !us_param_trained(p) && j < p->offset + p->count; j++) {
            after[j] = params[j];
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const us_node *n = &g->nodes[i];
        if (n->op != US_OP_BNORM) {
            continue;
        }
        double *mean = after + g->params[n->mean].offset, *var = after + g->params[n->var].offset;
        double count = (double)r->batch * n->h * n->w;
        for (int c = 0; c < n->c; c++) {
            mean[c] = (1 - US_BN_MOMENTUM) * mean[c] + US_BN_MOMENTUM * r->places[i].mean[c];
            var[c] = (1 - US_BN_MOMENTUM) * var[c] + US_BN_MOMENTUM * r->places[i].var[c] * count / (count - 1);
        }
        after[g->params[n->counter].offset] += 1;
    }
}
