// The model's life: made with fresh parameters, shared by reference count.
#include "net/model.h"

#include <math.h>
#include <string.h>

usplit_status us_model_new(usplit_model **out, usplit_context *context, const us_net_config *config)
{
    *out = NULL;
    const us_allocator *a = &context->allocator;
    usplit_model *m = us_calloc(a, 1, sizeof *m);
    if (!m) {
        return USPLIT_ERR_MEMORY;
    }
    atomic_store(&m->refs, 1);
    m->context = us_context_retain(context);
    m->best_val_psnr = NAN;
    m->normalisation.struct_size = sizeof m->normalisation;
    usplit_status status = us_graph_build(&m->graph, a, config, config->patch);
    if (status == USPLIT_OK) {
        m->params = us_calloc(a, (size_t)m->graph->n_floats, sizeof *m->params);
        status = m->params ? USPLIT_OK : USPLIT_ERR_MEMORY;
    }
    if (status != USPLIT_OK) {
        us_model_release(m);
        return status;
    }
    *out = m;
    return USPLIT_OK;
}

usplit_model *us_model_retain(usplit_model *model)
{
    atomic_fetch_add(&model->refs, 1);
    return model;
}

void us_model_release(usplit_model *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1) {
        return;
    }
    const us_allocator *a = &m->context->allocator;
    us_free(a, m->params);
    us_free(a, m->history);
    us_free(a, m->selftest_input);
    us_free(a, m->selftest_output);
    us_graph_free(m->graph);
    usplit_context *context = m->context;
    us_free(a, m);
    us_context_release(context);
}

usplit_status us_model_add_epoch(usplit_model *m, const us_epoch *epoch)
{
    if (m->n_history == m->cap_history) {
        int64_t cap = m->cap_history ? 2 * m->cap_history : 64;
        us_epoch *grown = us_alloc(&m->context->allocator, (size_t)cap, sizeof *grown);
        if (!grown) {
            return USPLIT_ERR_MEMORY;
        }
        if (m->n_history) {
            memcpy(grown, m->history, (size_t)m->n_history * sizeof *grown);
        }
        us_free(&m->context->allocator, m->history);
        m->history = grown;
        m->cap_history = cap;
    }
    m->history[m->n_history++] = *epoch;
    return USPLIT_OK;
}

usplit_status us_model_check_calibration(const usplit_calibration *c, int channels)
{
    US_CHECK_ARG(c->samples >= 1 && c->shifts >= 1 && c->pixels >= 1,
                 "calibration: samples %d, shifts %d, pixels %lld; accepted: 1 or more", c->samples, c->shifts,
                 (long long)c->pixels);
    US_CHECK_ARG(!(c->residual_score < 0) && !(c->residual_tail < 0) && !(c->residual_structure < 0) &&
                     !(c->residual_structure > 1),
                 "calibration: residual_score %g, residual_tail %g, residual_structure %g; accepted: 0 or more, structure "
                 "up to 1, or NaN", c->residual_score, c->residual_tail, c->residual_structure);
    for (int i = 0; i < channels; i++) {
        US_CHECK_ARG(isfinite(c->slope[i]) && c->slope[i] >= 0 && isfinite(c->offset[i]),
                     "calibration: slope[%d] is %g, offset %g; accepted: finite, slope 0 or more", i, c->slope[i],
                     c->offset[i]);
        US_CHECK_ARG(isfinite(c->rmse[i]) && c->rmse[i] >= 0 && isfinite(c->deviation[i]) && c->deviation[i] >= 0,
                     "calibration: rmse[%d] is %g, deviation %g; accepted: finite, 0 or more", i, c->rmse[i],
                     c->deviation[i]);
    }
    return USPLIT_OK;
}
