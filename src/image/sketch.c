// A value less the anchor, taken as a 32-bit float whose bits are put in the order of the values: the upper half of
// them is the bin (sign, exponent, 7 bits of mantissa). Within a bin values count as evenly spread.
#include "image/sketch.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { HALVINGS = 48 };         // of the interval that holds a distance

static uint32_t bin_of(float v)
{
    uint32_t bits;
    v = v > FLT_MAX ? FLT_MAX : v < -FLT_MAX ? -FLT_MAX : v + 0.0f;     // -0 counts as 0
    memcpy(&bits, &v, sizeof bits);
    return (bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u)) >> 16;
}

// Where bin b begins: its values lie in [edge(b), edge(b + 1)).
static double edge(const us_sketch *s, uint32_t b)
{
    uint32_t key = b << 16, bits = key ^ (key >> 31 ? 0x80000000u : 0xFFFFFFFFu);
    float v;
    if (b >= US_SKETCH_BINS) {
        return FLT_MAX;
    }
    memcpy(&v, &bits, sizeof v);
    return (isfinite(v) ? (double)v : v > 0 ? FLT_MAX : -FLT_MAX) + (double)s->anchor;
}

usplit_status us_sketch_open(us_sketch *s, const us_allocator *a)
{
    *s = (us_sketch){0};
    s->bins = us_calloc(a, US_SKETCH_BINS, sizeof *s->bins);
    return s->bins ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

void us_sketch_close(us_sketch *s, const us_allocator *a)
{
    us_free(a, s->bins);
    s->bins = NULL;
}

void us_sketch_add(us_sketch *s, float value)
{
    s->bins[bin_of(value - s->anchor)]++;
    s->n++;
}

double us_sketch_quantile(const us_sketch *s, double q)
{
    double rank = q * (double)s->n, before = 0;
    uint32_t last = 0;
    if (s->n == 0) {
        return NAN;
    }
    for (uint32_t b = 0; b < US_SKETCH_BINS; b++) {
        double count = (double)s->bins[b];
        if (count > 0 && before + count >= rank) {
            double share = rank > before ? (rank - before) / count : 0;
            return edge(s, b) + share * (edge(s, b + 1) - edge(s, b));
        }
        last = count > 0 ? b : last;
        before += count;
    }
    return edge(s, last + 1);
}

// How many values lie below v.
static double count_below(const us_sketch *s, double v)
{
    double sum = 0;
    uint32_t b = 0;
    double distance = v - (double)s->anchor;
    uint32_t end = bin_of((float)(distance > FLT_MAX ? FLT_MAX : distance < -FLT_MAX ? -FLT_MAX : distance));
    for (; b < end; b++) {
        sum += (double)s->bins[b];
    }
    double low = edge(s, end), high = edge(s, end + 1);
    double share = high > low ? (v - low) / (high - low) : 0;
    return sum + (double)s->bins[end] * (share < 0 ? 0 : share > 1 ? 1 : share);
}

double us_sketch_distance(const us_sketch *s, double centre, double q)
{
    double wanted = q * (double)s->n;
    if (s->n == 0) {
        return NAN;
    }
    double low = 0, high = fmax(fabs(us_sketch_quantile(s, 0) - centre), fabs(us_sketch_quantile(s, 1) - centre));
    for (int i = 0; i < HALVINGS; i++) {
        double middle = 0.5 * (low + high);
        if (count_below(s, centre + middle) - count_below(s, centre - middle) < wanted) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}
