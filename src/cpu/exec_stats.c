// The steps that see all samples: batch statistics, losses, sums of gradients; and the optimiser. Sums over
// samples are added in the order of the samples, so that the number of threads never changes a bit. What becomes
// of a sum is in kernels/step.h.
#include <math.h>
#include <string.h>

#include "cpu/exec.h"
#include "kernels/step.h"

static double *slot(const us_exec *e, int sample, int at)
{
    return e->sums + (ptrdiff_t)sample * e->plan->n_sums + at;
}

// Batch statistics -> scale and shift (networks 1.3).
void us_exec_bn(us_exec *e, const us_bnorm *b)
{
    double n = (double)e->active * (double)b->count;
    double *moments = e->moments + e->moments_at[b - e->plan->bnorms];
    const us_param *params = e->plan->graph->params;
    const float *gamma = e->params + params[b->gamma].offset, *beta = e->params + params[b->beta].offset;
    for (int c = 0; c < b->c; c++) {
        double sum = 0, square = 0;
        for (int s = 0; s < e->active; s++) {
            sum += slot(e, s, b->sums)[c];
            square += slot(e, s, b->sums)[b->c + c];
        }
        us_bn_forward bn = us_bn_of_sums(sum, square, n, gamma[c], beta[c]);
        moments[c] = bn.mean;
        moments[b->c + c] = bn.var;
        e->vec[b->scale + c] = bn.scale;
        e->vec[b->shift + c] = bn.shift;
        e->vec[b->inverse + c] = bn.inverse;
        e->vec[b->centre + c] = bn.centre;
    }
}

// Gradient sums -> dgamma, dbeta and dx = ga * g + gb * xh + gc (networks 1.3).
void us_exec_bn_back(us_exec *e, const us_bnorm *b)
{
    double n = (double)e->active * (double)b->count;
    const us_param *params = e->plan->graph->params;
    const float *gamma = e->params + params[b->gamma].offset;
    for (int c = 0; c < b->c; c++) {
        double dbeta = 0, dgamma = 0;
        for (int s = 0; s < e->active; s++) {
            dbeta += slot(e, s, b->grad_sums)[c];
            dgamma += slot(e, s, b->grad_sums)[b->c + c];
        }
        float *gg = &e->grads[params[b->gamma].offset + c], *gb = &e->grads[params[b->beta].offset + c];
        *gg = (float)dgamma + (b->adds_up ? *gg : 0);
        *gb = (float)dbeta + (b->adds_up ? *gb : 0);
        us_bn_back(dbeta, dgamma, n, gamma[c], e->vec[b->inverse + c], &e->vec[b->ga + c], &e->vec[b->gb + c],
                   &e->vec[b->gc + c]);
    }
}

// Losses and the weight of every sample's KL element (networks 5.2 to 5.4, free bits 5.3).
void us_exec_loss(us_exec *e, us_losses *losses)
{
    const us_plan *p = e->plan;
    const us_graph *g = p->graph;
    const double free_bits = p->options.free_bits, weight = p->options.kl_weight;
    memset(losses, 0, sizeof *losses);
    for (int i = 0; i < g->n_losses; i++) {
        const us_node *n = &g->nodes[g->losses[i]], *output = &g->nodes[n->in[0]];
        double per_channel = 1.0 / ((double)e->active * output->h * output->w);
        for (int c = 0; p->loss_sums[i] >= 0 && c < n->c; c++) {
            double sum = 0;
            for (int s = 0; s < e->active; s++) {
                sum += slot(e, s, p->loss_sums[i])[c];
            }
            if (i == 0) {
                losses->channel[c] = sum * per_channel;
            }
            losses->reconstruction += g->loss_weight[i] * sum * per_channel / n->c;
        }
    }
    int levels = g->n_latents, n_kl = 0;
    for (int i = 0; i < levels; i++) {
        if (g->kl[i] < 0) {
            continue;
        }
        const us_node *z = &g->nodes[g->latent[i]];
        double elements = (double)z->c * z->h * z->w;
        n_kl++;
        for (int s = 0; s < e->active; s++) {
            double kl = 0;
            for (int c = 0; c < z->c; c++) {
                kl += slot(e, s, p->kl_sums[i])[c];
            }
            kl /= elements;
            losses->level[i] += (us_kl_bound(kl, free_bits) ? free_bits : kl) / e->active;
            e->kl_weight[s * USPLIT_MAX_LEVELS + i] =
                us_kl_weight(kl, free_bits, weight, levels, e->active, elements);
        }
        losses->kl += losses->level[i];
    }
    losses->kl = us_kl_total(losses->kl, n_kl, levels);
    losses->loss = us_loss_total(losses->reconstruction, losses->kl, n_kl, weight);
}

usplit_status us_exec_sum_weight(us_exec *e, const us_step *step, int worker)
{
    const us_conv *c = &e->plan->convs[step->index];
    us_conv_op *op = e->convs[step->index].weight;
    const us_param *params = e->plan->graph->params;
    us_weight_shape shape = us_weight_shape_of(c);
    int own = e->convs[step->index].own_weight;
    int64_t n = (own ? us_weight_floats(&shape) : us_conv_op_weight_floats(op)) + c->co;
    float *total = us_exec_tensor(e, 0, 0, step->src);
    for (int s = 1; s < e->active; s++) {
        const float *part = us_exec_tensor(e, s, 0, step->src);
        for (int64_t i = 0; i < n; i++) {
            total[i] += part[i];
        }
    }
    float *weights = e->grads + params[c->weight].offset, *bias = c->bias >= 0 ? e->grads + params[c->bias].offset : NULL;
    if (own) {
        us_weight_unpack(&shape, total, c->adds_up, weights, bias);
        return USPLIT_OK;
    }
    if (!c->adds_up) {
        return us_conv_op_unpack(op, worker, total, weights, bias);
    }
    float *plain = total + c->partial_floats;       // room that backward.c has left
    US_TRY(us_conv_op_unpack(op, worker, total, plain, NULL));
    for (int64_t i = 0; i < (int64_t)c->co * c->ci * c->k * c->k; i++) {
        weights[i] += plain[i];
    }
    for (int o = 0; bias && o < c->co; o++) {
        bias[o] += total[n - c->co + o];
    }
    return USPLIT_OK;
}

// [y][x][channel] summed over samples -> (channel, y, x).
usplit_status us_exec_sum_prior(us_exec *e, const us_step *step)
{
    const us_param *param = &e->plan->graph->params[step->index];
    int64_t c = param->dims[param->n_dims - 3], hw = param->dims[param->n_dims - 2] * param->dims[param->n_dims - 1];
    float *total = us_exec_tensor(e, 0, 0, step->src);
    for (int s = 1; s < e->active; s++) {
        const float *part = us_exec_tensor(e, s, 0, step->src);
        for (int64_t i = 0; i < c * hw; i++) {
            total[i] += part[i];
        }
    }
    float *dst = e->grads + param->offset;
    for (int64_t p = 0; p < hw; p++) {
        for (int64_t j = 0; j < c; j++) {
            dst[j * hw + p] = total[p * c + j];
        }
    }
    return USPLIT_OK;
}

void us_exec_update_statistics(us_exec *e, float *params)
{
    const us_param *table = e->plan->graph->params;
    for (int i = 0; i < e->plan->n_bnorms; i++) {
        const us_bnorm *b = &e->plan->bnorms[i];
        const double *moments = e->moments + e->moments_at[i];
        double n = (double)e->active * (double)b->count;
        float *mean = params + table[b->mean].offset, *var = params + table[b->var].offset;
        for (int c = 0; c < b->c; c++) {
            mean[c] = us_bn_run_mean(mean[c], moments[c]);
            var[c] = us_bn_run_var(var[c], moments[b->c + c], n);
        }
        params[table[b->counter].offset] += 1;
    }
}

// Evaluation mode: running statistics -> scale and shift.
void us_exec_running_statistics(us_exec *e)
{
    const us_param *table = e->plan->graph->params;
    for (int i = 0; i < e->plan->n_bnorms; i++) {
        const us_bnorm *b = &e->plan->bnorms[i];
        const float *mean = e->params + table[b->mean].offset, *var = e->params + table[b->var].offset;
        const float *gamma = e->params + table[b->gamma].offset, *beta = e->params + table[b->beta].offset;
        for (int c = 0; c < b->c; c++) {
            us_bn_of_running(mean[c], var[c], gamma[c], beta[c], &e->vec[b->scale + c], &e->vec[b->shift + c]);
        }
    }
}

// ---- Optimiser: one task per parameter array ----

typedef struct optimise {
    us_exec *exec;
    const float *grads;
    float *params, *m, *u;
    float rate, scale;
    double *squares;            // [params] per parameter array
} optimise;

static usplit_status square_one(void *user, int task, int worker)
{
    optimise *o = user;
    const us_param *p = &o->exec->plan->graph->params[task];
    (void)worker;
    o->squares[task] = 0;
    if (!o->exec->plan->has_grad[task]) {
        return USPLIT_OK;
    }
    const float *g = o->grads + p->offset;
    double total = 0;
    for (int64_t i = 0; i < p->count; i += 16) {
        float part = 0;
        int64_t n = p->count - i < 16 ? p->count - i : 16;
        for (int64_t j = 0; j < n; j++) {
            part += g[i + j] * g[i + j];
        }
        total += (double)part;
    }
    o->squares[task] = total;
    return USPLIT_OK;
}

usplit_status us_exec_gradient_norm(us_exec *e, const float *grads, double *norm)
{
    int n = e->plan->graph->n_params;
    optimise o = {.exec = e, .grads = grads, .squares = e->squares};
    usplit_status status = us_pool_run(e->context->pool, n, square_one, &o);
    double total = 0;
    for (int i = 0; i < n; i++) {
        total += o.squares[i];
    }
    *norm = sqrt(total);
    return status;
}

static usplit_status adamax_one(void *user, int task, int worker)
{
    optimise *o = user;
    const us_param *p = &o->exec->plan->graph->params[task];
    (void)worker;
    if (!o->exec->plan->has_grad[task] || !us_param_trained(p)) {
        return USPLIT_OK;
    }
    const float *g = o->grads + p->offset;
    float *w = o->params + p->offset, *m = o->m + p->offset, *u = o->u + p->offset;
    const float scale = o->scale, rate = o->rate;
    for (int64_t i = 0; i < p->count; i++) {
        us_adamax(g[i] * scale, rate, &w[i], &m[i], &u[i]);
    }
    return USPLIT_OK;
}

usplit_status us_exec_adamax(us_exec *e, float *params, const float *grads, float *m, float *u, double lr,
                             int64_t t, double scale)
{
    optimise o = {.exec = e, .grads = grads, .params = params, .m = m, .u = u,
                  .rate = us_adamax_rate(lr, t), .scale = (float)scale};
    return us_pool_run(e->context->pool, e->plan->graph->n_params, adamax_one, &o);
}
