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

static void mix(double *sum, double value, double share, int first)
{
    *sum = (first ? 0 : *sum) + share * value;
}

// Losses of the parts so far.
static void mix_losses(us_losses *sum, const us_losses *part, double share, int first)
{
    mix(&sum->loss, part->loss, share, first);
    mix(&sum->reconstruction, part->reconstruction, share, first);
    mix(&sum->kl, part->kl, share, first);
    for (int i = 0; i < USPLIT_MAX_CHANNELS; i++) {
        mix(&sum->channel[i], part->channel[i], share, first);
    }
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        mix(&sum->level[i], part->level[i], share, first);
    }
}

// Forward and backward of the whole batch: losses into the tally, gradients into it->grads.
static usplit_status run_parts(us_iterate *it, const us_run *run, int parts)
{
    us_run some = *run;
    int n = run->samples;
    for (int i = 0; i < parts; i++, some.first += some.samples) {
        us_losses losses;
        some.samples = us_iterate_part(n, parts, i);
        US_TRY(it->backend->train(it->exec, &some, &losses, it->part));
        float share = (float)some.samples / (float)n;
        mix_losses(&it->tally.losses, &losses, (double)share, i == 0);
        if (!isfinite(losses.loss)) {
            return USPLIT_OK;
        }
        for (int64_t k = 0; k < it->n_floats; k++) {
            it->grads[k] = (i == 0 ? 0 : it->grads[k]) + share * it->part[k];
        }
    }
    return USPLIT_OK;
}

usplit_status us_iterate_step(us_iterate *it, const us_run *run, const us_update *update)
{
    const us_backend *b = it->backend;
    us_tally *t = &it->tally;
    if (b->step) {
        return b->step(it->exec, run, update);
    }
    int parts = (run->samples + it->batch - 1) / it->batch;
    US_TRY(b->prepare(it->exec, it->arrays.params));
    if (parts > 1) {
        US_TRY(run_parts(it, run, parts));
    } else {
        US_TRY(b->train(it->exec, run, &t->losses, it->grads));
    }
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
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        t->sum_level[i] += t->losses.level[i];
    }
    t->counted++;
    return USPLIT_OK;
}

usplit_status us_iterate_sync(us_iterate *it, int arrays)
{
    return it->backend->sync ? it->backend->sync(it->exec, &it->tally, arrays) : USPLIT_OK;
}
