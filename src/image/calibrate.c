// The calibration of deviations (data 11.3). Published: 30 bins of equal width between the lowest and the highest
// deviation, ends of less than 1e-5 of the pixels dropped, a line through the bins' root mean squares. Two things are
// done otherwise. A bin weighs as many as its pixels, so that the few pixels of the highest deviations do not turn the
// line. And pixels are first counted in fine bins that need no range beforehand; these are then put into the 30, whole,
// the highest deviation into the last bin.
#include "image/calibrate.h"

#include <math.h>
#include <string.h>

enum { FINE = 1 << 16 };
static const double REST = 1e-5;

usplit_status us_calibrate_open(us_calibrate *c, const us_allocator *a)
{
    *c = (us_calibrate){0};
    c->fine = us_calloc(a, FINE, sizeof *c->fine);
    return c->fine ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

void us_calibrate_close(us_calibrate *c, const us_allocator *a)
{
    us_free(a, c->fine);
    c->fine = NULL;
}

static void add_to(us_calibrate_bin *bin, const us_calibrate_bin *more)
{
    bin->n += more->n;
    bin->squares += more->squares;
    bin->errors += more->errors;
}

void us_calibrate_add(us_calibrate *c, const float *deviations, const float *predictions, const float *truth,
                      int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double d = (double)deviations[i], e = (double)predictions[i] - (double)truth[i];
        us_calibrate_bin one = {1, d * d, e * e};
        float key = deviations[i] > 0 ? deviations[i] : 0;
        uint32_t bits;
        memcpy(&bits, &key, sizeof bits);
        add_to(&c->fine[bits >> 15], &one);
        add_to(&c->all, &one);
    }
}

static double root(double sum, int64_t n)
{
    return sqrt(sum / (double)n);
}

// Fills the bins of equal width; 0: all deviations are the same.
static int gather(const us_calibrate *c, us_calibrate_bin bins[US_CALIBRATE_BINS])
{
    int first = 0, last = FINE - 1;
    while (first < FINE - 1 && c->fine[first].n == 0) {
        first++;
    }
    while (last > 0 && c->fine[last].n == 0) {
        last--;
    }
    if (first >= last) {
        return 0;
    }
    double low = root(c->fine[first].squares, c->fine[first].n), high = root(c->fine[last].squares, c->fine[last].n);
    memset(bins, 0, US_CALIBRATE_BINS * sizeof *bins);
    for (int i = first; i <= last; i++) {
        if (c->fine[i].n > 0) {
            double at = (root(c->fine[i].squares, c->fine[i].n) - low) / (high - low) * US_CALIBRATE_BINS;
            int b = at < US_CALIBRATE_BINS ? (int)at : US_CALIBRATE_BINS - 1;
            add_to(&bins[b], &c->fine[i]);
        }
    }
    return 1;
}

// Bins [*first, *end): without ends that together hold less than a share of the pixels.
static void cut_ends(const us_calibrate_bin *bins, double n, int *first, int *end)
{
    int64_t sum = 0;
    for (*first = 0; *first < US_CALIBRATE_BINS; (*first)++) {
        sum += bins[*first].n;
        if ((double)sum >= REST * n) {
            break;
        }
    }
    sum = 0;
    for (*end = US_CALIBRATE_BINS; *end > 0; (*end)--) {
        sum += bins[*end - 1].n;
        if ((double)sum >= REST * n) {
            break;
        }
    }
}

usplit_status us_calibrate_fit(const us_calibrate *c, int channel, us_calibrate_line *line)
{
    us_calibrate_bin bins[US_CALIBRATE_BINS];
    int first, end;
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    if (c->all.n == 0 || !gather(c, bins)) {
        US_FAIL(USPLIT_ERR_NUMERIC, "channel %d: all predicted deviations are the same; nothing can be fitted", channel);
    }
    cut_ends(bins, (double)c->all.n, &first, &end);
    for (int i = first; i < end; i++) {
        if (bins[i].n > 0) {
            double w = (double)bins[i].n, x = root(bins[i].squares, bins[i].n), y = root(bins[i].errors, bins[i].n);
            n += w;
            sx += w * x;
            sy += w * y;
        }
    }
    double mx = sx / n, my = sy / n;
    for (int i = first; i < end; i++) {
        if (bins[i].n > 0) {
            double w = (double)bins[i].n, x = root(bins[i].squares, bins[i].n), y = root(bins[i].errors, bins[i].n);
            sxx += w * (x - mx) * (x - mx);
            sxy += w * (x - mx) * (y - my);
        }
    }
    double slope = sxx > 0 ? sxy / sxx : 0;
    if (!(slope > 0) || !isfinite(slope)) {
        US_FAIL(USPLIT_ERR_NUMERIC, "channel %d: the error does not grow with the predicted deviation (slope %.3g); "
                "nothing can be calibrated", channel, slope);
    }
    *line = (us_calibrate_line){slope, my - slope * mx, root(c->all.errors, c->all.n), root(c->all.squares, c->all.n)};
    return USPLIT_OK;
}
