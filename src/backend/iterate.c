// The iteration, made of a backend's parts where it has none of its own.
#include "backend/iterate.h"

#include <math.h>

#include "kernels/step.h"

usplit_status us_iterate_begin(us_iterate *it, const us_trained *arrays, const us_tally *tally)
{
    it->arrays = *arrays;
    it->tally = *tally;
    return it->backend->begin ? it->backend->begin(it->exec, arrays, tally) : USPLIT_OK;
}

usplit_status us_iterate_step(us_iterate *it, const us_run *run, const us_update *update)
{
    const us_backend *b = it->backend;
    us_tally *t = &it->tally;
    if (b->step) {
        return b->step(it->exec, run, update);
    }
    US_TRY(b->prepare(it->exec, it->arrays.params));
    US_TRY(b->train(it->exec, run, &t->losses, it->grads));
    t->gradient_norm = NAN;
    if (isfinite(t->losses.loss)) {
        US_TRY(b->gradient_norm(it->exec, it->grads, &t->gradient_norm));
    }
    if (!isfinite(t->gradient_norm)) {
        t->skipped++;
        return USPLIT_OK;
    }
    const us_trained *a = &it->arrays;
    double scale = us_clip_factor(t->gradient_norm, update->clip_norm);
    t->updates++;
    US_TRY(b->adamax(it->exec, a->params, it->grads, a->m, a->u, update->lr, t->updates, scale));
    b->update_statistics(it->exec, a->params);
    t->sum_loss += t->losses.loss;
    t->sum_reconstruction += t->losses.reconstruction;
    t->sum_kl += t->losses.kl;
    t->counted++;
    return USPLIT_OK;
}

usplit_status us_iterate_sync(us_iterate *it, int arrays)
{
    return it->backend->sync ? it->backend->sync(it->exec, &it->tally, arrays) : USPLIT_OK;
}
