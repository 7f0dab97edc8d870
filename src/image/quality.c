// Range-invariant PSNR, PSNR, SSIM and RMSE of one plane (data sections 6.2, 6.3), and val_psnr (4.3). All
// sums are double and taken about a pixel or a mean, so that large grey levels cost no digits.
#include "image/quality.h"

#include <math.h>
#include <string.h>

enum {
    WINDOW = 7, // side of the SSIM window, pixels
    N_SUMS = 5  // target, prediction, their squares, their product
};

// ---- PSNR and RMSE ------------------------------------------------------------------------------

typedef struct pair {
    const float *target, *prediction;
    int64_t height, width;
    double mean_t, mean_p; // of the plane
    double range;          // max - min of the target
} pair;

// About the first pixel: a constant plane gives exactly its value.
static double find_mean(const float *p, int64_t n)
{
    double sum = 0.0, first = (double)p[0];
    for (int64_t i = 0; i < n; i++) {
        sum += (double)p[i] - first;
    }
    return first + sum / (double)n;
}

static double to_decibel(double range, double mean_square)
{
    return 20.0 * log10(range / sqrt(mean_square));
}

static void measure_errors(const pair *p, usplit_image_quality *q)
{
    int64_t n = p->height * p->width;
    double tp = 0.0, pp = 0.0, plain = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double t = (double)p->target[i] - p->mean_t, v = (double)p->prediction[i] - p->mean_p;
        double d = (double)p->target[i] - (double)p->prediction[i];
        tp += t * v;
        pp += v * v;
        plain += d * d;
    }
    double slope = tp / pp; // a of 6.2; NaN for a constant prediction
    double fitted = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double t = (double)p->target[i] - p->mean_t, v = (double)p->prediction[i] - p->mean_p;
        double d = t - slope * v;
        fitted += d * d;
    }
    q->ri_psnr = to_decibel(p->range, fitted / (double)n);
    q->psnr = to_decibel(p->range, plain / (double)n);
    q->rmse = sqrt(plain / (double)n);
}

// ---- SSIM ---------------------------------------------------------------------------------------

// Sums over the 7 rows from `row` on, for every column: sums[k][x].
static void sum_rows(const pair *p, int64_t row, double *sums)
{
    int64_t w = p->width;
    memset(sums, 0, (size_t)(N_SUMS * w) * sizeof *sums);
    for (int64_t y = row; y < row + WINDOW; y++) {
        const float *target = p->target + y * w, *prediction = p->prediction + y * w;
        for (int64_t x = 0; x < w; x++) {
            double t = (double)target[x] - p->mean_t, v = (double)prediction[x] - p->mean_p;
            sums[x] += t;
            sums[w + x] += v;
            sums[2 * w + x] += t * t;
            sums[3 * w + x] += v * v;
            sums[4 * w + x] += t * v;
        }
    }
}

// The S of 6.3 for one window, from its sums about the planes' means.
static double window_similarity(const pair *p, const double sum[N_SUMS], double c1, double c2)
{
    const double n = WINDOW * WINDOW;
    double dt = sum[0] / n, dp = sum[1] / n;
    double mt = p->mean_t + dt, mp = p->mean_p + dp;
    double sample = n / (n - 1.0); // covariances are divided by n - 1
    double vt = sample * (sum[2] / n - dt * dt), vp = sample * (sum[3] / n - dp * dp);
    double cov = sample * (sum[4] / n - dt * dp);
    return ((2.0 * mt * mp + c1) * (2.0 * cov + c2)) / ((mt * mt + mp * mp + c1) * (vt + vp + c2));
}

static double row_similarity(const pair *p, const double *sums)
{
    double c1 = 0.01 * p->range * (0.01 * p->range), c2 = 0.03 * p->range * (0.03 * p->range);
    double total = 0.0;
    for (int64_t x = 0; x + WINDOW <= p->width; x++) {
        double sum[N_SUMS] = {0.0};
        for (int k = 0; k < N_SUMS; k++) {
            for (int i = 0; i < WINDOW; i++) {
                sum[k] += sums[k * p->width + x + i];
            }
        }
        total += window_similarity(p, sum, c1, c2);
    }
    return total;
}

static usplit_status measure_similarity(const us_allocator *a, const pair *p, double *ssim)
{
    *ssim = NAN;
    if (p->height < WINDOW || p->width < WINDOW) {
        return USPLIT_OK;
    }
    double *sums = us_alloc(a, (size_t)p->width, N_SUMS * sizeof *sums);
    if (!sums) {
        return USPLIT_ERR_MEMORY;
    }
    int64_t rows = p->height - WINDOW + 1, columns = p->width - WINDOW + 1;
    double total = 0.0;
    for (int64_t y = 0; y < rows; y++) {
        sum_rows(p, y, sums);
        total += row_similarity(p, sums);
    }
    *ssim = total / ((double)rows * (double)columns);
    us_free(a, sums);
    return USPLIT_OK;
}

usplit_status us_image_quality(const us_allocator *a, const float *target, const float *prediction,
                               int64_t height, int64_t width, usplit_image_quality *quality)
{
    int64_t n = height * width;
    pair p = {target, prediction, height, width, find_mean(target, n), find_mean(prediction, n), 0.0};
    float low = target[0], high = target[0];
    for (int64_t i = 0; i < n; i++) {
        low = target[i] < low ? target[i] : low;
        high = target[i] > high ? target[i] : high;
    }
    p.range = (double)high - (double)low;
    measure_errors(&p, quality);
    return measure_similarity(a, &p, &quality->ssim);
}

// ---- val_psnr -----------------------------------------------------------------------------------

void us_val_psnr_init(us_val_psnr *psnr, int32_t channels)
{
    *psnr = (us_val_psnr){.channels = channels};
    for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
        psnr->lowest[c] = INFINITY;
        psnr->highest[c] = -INFINITY;
    }
}

void us_val_psnr_add(us_val_psnr *psnr, int32_t channel, const float *target, int64_t target_step,
                     const float *prediction, int64_t prediction_step, int64_t n)
{
    double sum = 0.0, low = psnr->lowest[channel], high = psnr->highest[channel];
    for (int64_t i = 0; i < n; i++) {
        double t = (double)target[i * target_step];
        double d = t - (double)prediction[i * prediction_step];
        sum += d * d;
        low = t < low ? t : low;
        high = t > high ? t : high;
    }
    psnr->lowest[channel] = low;
    psnr->highest[channel] = high;
    if (n > 0 && !isnan(sum)) {
        psnr->error_sum[channel] += sum / (double)n;
        psnr->patches[channel]++;
    }
}

double us_val_psnr_result(const us_val_psnr *psnr)
{
    double sum = 0.0;
    for (int c = 0; c < psnr->channels; c++) {
        if (psnr->patches[c] == 0) {
            return NAN;
        }
        sum += to_decibel(psnr->highest[c] - psnr->lowest[c], psnr->error_sum[c] / (double)psnr->patches[c]);
    }
    return sum / psnr->channels;
}
