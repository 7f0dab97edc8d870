// Plateau rule and early stop, as published: one is relative, the other absolute (data section 4.2).
#include "train/schedule.h"

#include <math.h>

void us_schedule_step(us_schedule *s, double metric, int maximise, double factor, int64_t patience)
{
    int first = isnan(s->best);
    int better = maximise ? metric > s->best * (1 + 1e-4) : metric < s->best * (1 - 1e-4);
    if (first || better) {
        s->best = metric;
        s->bad = 0;
    } else {
        s->bad++;
    }
    if (s->bad > patience) {
        double lower = s->learning_rate * factor;
        lower = lower < 1e-12 ? 1e-12 : lower;
        if (s->learning_rate - lower > 1e-8) {
            s->learning_rate = lower;
        }
        s->bad = 0;
    }
}

int us_early_stop(double *best, int64_t *bad, double metric, int64_t patience, int *improved)
{
    *improved = 0;
    if (!isfinite(metric)) {
        return 1;
    }
    if (isnan(*best) || metric - 1e-6 > *best) {
        *best = metric;
        *bad = 0;
        *improved = 1;
        return 0;
    }
    return ++*bad >= patience;
}
