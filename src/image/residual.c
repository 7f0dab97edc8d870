// The residual and its score. All figures are quantiles from sketches, so one pass is enough and memory does not grow.
//
//   range      99.5th - 0.5th percentile of the input
//   score      1.4826 x median |r - median r| / range: a standard deviation, were the residual Gaussian
//   noise      1.4826 x median |step| / sqrt(2) / range: the same from steps between neighbours, which contain what
//              differs from pixel to pixel, but little of what is smooth over a few pixels
//   structure  sqrt(1 - (noise / score)^2): 0 for white noise, towards 1 for a residual with shapes in it
#include "image/residual.h"

#include <math.h>
#include <string.h>

static const double LOW = 0.005, HIGH = 0.995, TAIL = 0.99;
static const double GAUSSIAN = 1.482602218505602;       // standard deviation over median absolute deviation

usplit_status us_residual_open(us_residual *r, const us_allocator *a, int64_t width, int channels,
                               const double *weights, double clip_value)
{
    *r = (us_residual){.width = width, .channels = channels, .clip_value = (float)clip_value};
    for (int c = 0; c < channels; c++) {
        r->weights[c] = weights ? weights[c] : 1.0 / channels;
    }
    usplit_status status;
    US_TRY_GOTO(us_sketch_open(&r->input, a));
    US_TRY_GOTO(us_sketch_open(&r->rest, a));
    US_TRY_GOTO(us_sketch_open(&r->step, a));
    r->line = us_alloc(a, (size_t)width, sizeof *r->line);
    status = r->line ? USPLIT_OK : USPLIT_ERR_MEMORY;
done:
    if (status != USPLIT_OK) {
        us_residual_close(r, a);
    }
    return status;
}

void us_residual_close(us_residual *r, const us_allocator *a)
{
    us_sketch_close(&r->input, a);
    us_sketch_close(&r->rest, a);
    us_sketch_close(&r->step, a);
    us_free(a, r->line);
    r->line = NULL;
}

static float clipped(const us_residual *r, float x)
{
    return x > r->clip_value ? r->clip_value : x;
}

// One row of the residual into r->line.
static void subtract(us_residual *r, const float *x, const float *planes, int64_t plane)
{
    for (int64_t j = 0; j < r->width; j++) {
        double sum = 0;
        for (int c = 0; c < r->channels; c++) {
            sum += r->weights[c] * (double)planes[c * plane + j];
        }
        r->line[j] = (float)((double)clipped(r, x[j]) - sum);
    }
}

// Something near the middle of a row: the median of up to MOST pixels of it.
static float middle(const float *row, int64_t n)
{
    enum { MOST = 63 };
    float sorted[MOST] = {0};
    int m = n < MOST ? (int)n : MOST;
    for (int i = 0; i < m; i++) {
        float v = row[i * n / m];
        int k = i;
        for (; k > 0 && sorted[k - 1] > v; k--) {
            sorted[k] = sorted[k - 1];
        }
        sorted[k] = v;
    }
    return sorted[m / 2];
}

void us_residual_add(us_residual *r, int64_t n_rows, const float *input, const float *planes, float *dst)
{
    for (int64_t i = 0; i < n_rows; i++, r->rows++) {
        const float *x = input + i * r->width;
        subtract(r, x, planes + i * r->width, n_rows * r->width);
        if (r->rows == 0) {     // always the image's first row, however rows come
            r->input.anchor = clipped(r, middle(x, r->width));
            r->rest.anchor = middle(r->line, r->width);
        }
        for (int64_t j = 0; j < r->width; j++) {
            us_sketch_add(&r->input, clipped(r, x[j]));
            us_sketch_add(&r->rest, r->line[j]);
            if (j > 0) {
                us_sketch_add(&r->step, fabsf(r->line[j] - r->line[j - 1]));
            }
        }
        if (dst) {
            memcpy(dst + i * r->width, r->line, (size_t)r->width * sizeof *dst);
        }
    }
}

void us_residual_get(const us_residual *r, usplit_residual_facts *f)
{
    double range = us_sketch_quantile(&r->input, HIGH) - us_sketch_quantile(&r->input, LOW);
    double centre = us_sketch_quantile(&r->rest, 0.5);
    double typical = GAUSSIAN * us_sketch_distance(&r->rest, centre, 0.5);
    double noise = GAUSSIAN / sqrt(2) * us_sketch_quantile(&r->step, 0.5);
    double share = typical > 0 ? noise / typical : 1;
    double scale = range > 0 ? 1 / range : NAN;     // a constant image has no scale
    f->pixels = r->rows * r->width;
    f->range = range;
    f->score = typical * scale;
    f->tail = us_sketch_distance(&r->rest, centre, TAIL) * scale;
    f->offset = centre * scale;
    f->noise = noise * scale;
    f->structure = share < 1 ? sqrt(1 - share * share) : share >= 1 ? 0 : NAN;
}
