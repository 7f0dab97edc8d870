// The losses of Double-DIP with their gradients, in double precision over planes. Pure functions.
#include <math.h>
#include <string.h>

#include "dip/dip.h"

double us_dip_blend_loss(const double *r, const double *t, double a, const double *image, int64_t n, double *d_r,
                         double *d_t, double *d_a)
{
    double loss = 0, slope = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = a * r[i] + (1 - a) * t[i] - image[i], g = 2 * d / (double)n;
        loss += d * d;
        slope += g * (r[i] - t[i]);
        d_r[i] += a * g;
        d_t[i] += (1 - a) * g;
    }
    *d_a = slope;
    return loss / (double)n;
}

double us_dip_sum_loss(const double *r, const double *t, const double *image, int64_t n, double *d_r, double *d_t)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = r[i] + t[i] - image[i], g = (double)((d > 0) - (d < 0)) / (double)n;
        loss += fabs(d);
        d_r[i] += g;
        d_t[i] += g;
    }
    return loss / (double)n;
}

// ---- Exclusion (networks 9.4) ----

enum { SCALES = 3 };
static const double root_floor = 1e-12;     // the fourth root has an infinite slope at 0

// One of the two images at one scale.
typedef struct plane {
    const double *x;
    double *d;                  // gradient
    double *s;                  // [h * w] squashed differences
} plane;

// tanh(g / 2) of the differences between pixels `step` apart.
static void squash(const plane *p, int w, int rows, int columns, int step)
{
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < columns; x++) {
            int64_t i = (int64_t)y * columns + x, at = (int64_t)y * w + x;
            p->s[i] = tanh(0.5 * (p->x[at + step] - p->x[at]));
        }
    }
}

// Slopes of the pixels from that of the sum of (s other)^2.
static void squash_back(const plane *p, const double *other, int w, int rows, int columns, int step, double slope)
{
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < columns; x++) {
            int64_t i = (int64_t)y * columns + x, at = (int64_t)y * w + x;
            double g = slope * 2 * p->s[i] * other[i] * other[i] * 0.5 * (1 - p->s[i] * p->s[i]);
            p->d[at + step] += g;
            p->d[at] -= g;
        }
    }
}

// (mean(sA^2 sB^2))^(1/4) of the differences downwards or to the right.
static double direction(const plane p[2], int h, int w, int down, double weight)
{
    int rows = h - down, columns = w - !down, step = down ? w : 1;
    int64_t n = (int64_t)rows * columns;
    double m = 0;
    for (int k = 0; k < 2; k++) {
        squash(&p[k], w, rows, columns, step);
    }
    for (int64_t i = 0; i < n; i++) {
        double product = p[0].s[i] * p[1].s[i];
        m += product * product;
    }
    m /= (double)n;
    double root = sqrt(sqrt(m > root_floor ? m : root_floor));
    if (m > root_floor) {
        double slope = weight * root / (4 * m) / (double)n;
        squash_back(&p[0], p[1].s, w, rows, columns, step, slope);
        squash_back(&p[1], p[0].s, w, rows, columns, step, slope);
    }
    return root;
}

// Means of 2 x 2; an odd last row or column is left out.
static void halve(const double *x, int h, int w, double *out)
{
    for (int y = 0; y < h / 2; y++) {
        for (int c = 0; c < w / 2; c++) {
            const double *p = x + (int64_t)2 * y * w + 2 * c;
            out[(int64_t)y * (w / 2) + c] = 0.25 * (p[0] + p[1] + p[w] + p[w + 1]);
        }
    }
}

static void halve_back(const double *d_out, int h, int w, double *d)
{
    for (int y = 0; y < h / 2; y++) {
        for (int c = 0; c < w / 2; c++) {
            double *p = d + (int64_t)2 * y * w + 2 * c, g = 0.25 * d_out[(int64_t)y * (w / 2) + c];
            p[0] += g;
            p[1] += g;
            p[w] += g;
            p[w + 1] += g;
        }
    }
}

int64_t us_dip_exclusion_scratch(int h, int w)
{
    int64_t n = 2 * (int64_t)h * w;             // squashed differences
    for (int i = 1; i < SCALES; i++) {
        n += 4 * (int64_t)(h >> i) * (w >> i);  // values and gradients
    }
    return n;
}

double us_dip_exclusion(const double *r, const double *t, int h, int w, double weight, double *d_r, double *d_t,
                        double *scratch)
{
    plane p[SCALES][2] = {{{r, d_r, scratch}, {t, d_t, scratch + (int64_t)h * w}}};
    double *next = scratch + 2 * (int64_t)h * w, x = 0;
    const double share = 0.5 / SCALES;          // the mean over scales, half the sum of the directions
    for (int i = 0; i < SCALES; i++) {
        int64_t n = (int64_t)(h >> i) * (w >> i);
        for (int k = 0; i > 0 && k < 2; k++) {
            halve(p[i - 1][k].x, h >> (i - 1), w >> (i - 1), next);
            memset(next + n, 0, (size_t)n * sizeof *next);
            p[i][k] = (plane){next, next + n, p[0][k].s};
            next += 2 * n;
        }
        x += share * direction(p[i], h >> i, w >> i, 1, weight * share);
        x += share * direction(p[i], h >> i, w >> i, 0, weight * share);
    }
    for (int i = SCALES - 1; i > 0; i--) {
        for (int k = 0; k < 2; k++) {
            halve_back(p[i][k].d, h >> (i - 1), w >> (i - 1), p[i - 1][k].d);
        }
    }
    return x;
}
