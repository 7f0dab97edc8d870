// Validation: one pass over the validation grid in evaluation mode, one posterior sample per patch.
#include <math.h>
#include <string.h>

#include "image/quality.h"
#include "kernels/elem.h"
#include "train/trainer.h"

typedef struct pass {
    usplit_trainer *t;
    int64_t first;          // item number of the group's first patch
    int n, share;           // patches of the group, and of a worker
    int64_t inputs, targets, heads;     // floats per patch
} pass;

typedef struct patch_input {
    const float *levels;    // [1 + lc_count][area]
    int64_t area;
} patch_input;

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const patch_input *in = user;
    (void)sample;
    (void)target;
    for (int k = 0; k < US_MAX_LC; k++) {
        if (levels[k]) {
            memcpy(levels[k], in->levels + k * in->area, (size_t)in->area * sizeof(float));
        }
    }
    return USPLIT_OK;
}

// A worker's patches: `share` of the group from task * share on, predicted a batch at a time.
static usplit_status some_patches(void *user, int task, int worker)
{
    pass *p = user;
    usplit_trainer *t = p->t;
    const us_net_config *c = &t->model->graph->config;
    int end = (task + 1) * p->share < p->n ? (task + 1) * p->share : p->n;
    patch_input in[US_VALIDATE_BATCH];
    us_run runs[US_VALIDATE_BATCH];
    const float *heads[US_VALIDATE_BATCH];
    (void)worker;
    for (int i = task * p->share; i < end; i += t->check_batch) {
        int n = end - i < t->check_batch ? end - i : t->check_batch;
        for (int j = 0; j < n; j++) {
            int64_t item = p->first + i + j;
            float *input = t->check_input + (i + j) * p->inputs, *target = t->check_target + (i + j) * p->targets;
            in[j] = (patch_input){input, (int64_t)c->patch * c->patch};
            us_place place;
            US_TRY(us_dataset_grid_place(t->dataset, &t->drawing, USPLIT_SET_VALIDATION, item, c->patch, &place));
            US_TRY(us_dataset_cut(t->dataset, &place, c->patch, 1 + c->lc_count, input, target));
            // a stream of its own for every patch, so that the batch never shows
            uint64_t seed = us_key((uint64_t)t->state.seed, US_RNG_VALIDATE, (uint64_t)t->state.epoch, (uint32_t)item);
            runs[j] = (us_run){.seed = seed, .fill = fill, .user = &in[j]};
        }
        US_TRY(t->context->backend->predict(t->check, task, n, runs, heads));
        for (int j = 0; j < n; j++) {
            memcpy(t->check_head + (i + j) * p->heads, heads[j], (size_t)p->heads * sizeof **heads);
        }
    }
    return USPLIT_OK;
}

// Mean over pixels and channels of the prediction's own loss (networks 5.1, 7.5).
static double patch_loss(const us_net_config *c, const float *target, const float *head)
{
    double sum = 0;
    int64_t pixels = (int64_t)c->patch * c->patch;
    int values = us_net_head_channels(c), has_logvar = us_net_has_logvar(c);
    float bound = (float)c->logvar_lower_bound, factor = (float)us_net_mse_factor(c);
    for (int64_t i = 0; i < pixels; i++) {
        for (int k = 0; k < c->channels; k++) {
            float mean = head[i * values + k], wanted = target[i * c->channels + k];
            float raw = has_logvar ? head[i * values + c->channels + k] : 0;
            sum += (double)(has_logvar ? us_nll(wanted, mean, raw < bound ? bound : raw) : us_mse(wanted, mean, factor));
        }
    }
    return sum / ((double)pixels * c->channels);
}

usplit_status us_trainer_validate(usplit_trainer *t)
{
    const us_net_config *c = &t->model->graph->config;
    int64_t area = (int64_t)c->patch * c->patch, n = us_dataset_n_items(t->dataset, USPLIT_SET_VALIDATION, c->patch);
    pass p = {.t = t, .inputs = area * (1 + c->lc_count), .targets = area * c->channels,
              .heads = area * us_net_head_channels(c)};
    us_val_psnr psnr;
    double loss = 0;
    if (t->options.max_validation_patches > 0 && t->options.max_validation_patches < n) {
        n = t->options.max_validation_patches;
    }
    if (n == 0) {
        t->val_psnr = t->val_loss = NAN;
        return USPLIT_OK;
    }
    us_val_psnr_init(&psnr, c->channels);
    US_TRY(t->context->backend->prepare(t->check, t->model->params));
    for (p.first = 0; p.first < n; p.first += t->group) {
        int m = (int)(n - p.first < t->group ? n - p.first : t->group);
        p.n = m;
        p.share = (m + t->check_workers - 1) / t->check_workers;
        US_TRY(us_pool_run(t->context->pool, (m + p.share - 1) / p.share, some_patches, &p));
        for (int i = 0; i < m; i++) {           // in order, so that sums do not depend on the threads
            const float *target = t->check_target + i * p.targets, *head = t->check_head + i * p.heads;
            for (int k = 0; k < c->channels; k++) {
                us_val_psnr_add(&psnr, k, target + k, c->channels, head + k, us_net_head_channels(c), area);
            }
            loss += patch_loss(c, target, head);
        }
        US_TRY(us_trainer_report(t, USPLIT_PHASE_VALIDATE, p.first + m, n, 0));
    }
    t->val_psnr = us_val_psnr_result(&psnr);
    t->val_loss = loss / (double)n;
    return USPLIT_OK;
}
