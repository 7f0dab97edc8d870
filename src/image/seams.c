// The seam score: steps across the borders of tiles against steps inside the tiles.
//
// Between pixels p and q = its neighbour lies a step q - p. Of a smooth image it is about the mean of the steps before
// and after it, so what is left,
//
//     e = (q - p) - ((p - o) + (r - q)) / 2,         pixels o p | q r along the axis,
//
// is small, and a seam between p and q adds all of its height to it. The unit of the statistics is one side of a
// tile: b is the mean |e| on the border, c the mean |e| on the lines of the two tiles that lie 2, 3, ..., tile / 2
// pixels from it, on both sides alike, so that content that changes along the axis changes both alike. (A line 1 pixel
// away has the seam in its own e, with half its height.) The ratio of sums R = sum b / sum c has the standard error
//
//     sqrt( n / (n - 1) * sum (b - R c)^2 ) / sum c
//
// of n independent sides: those of one axis share no line, but for the one in the middle of a tile. b and c are
// weighted with the length of the side, as the last tile of a row may be cut.
#include "image/seams.h"

#include <math.h>

// Sums over sides; b and c as above, times the length.
typedef struct sums {
    double b, c, bb, bc, cc;
    int64_t n;
} sums;

// One axis: steps go along it, `step` floats apart; lines run across it.
typedef struct axis {
    const float *plane;
    int64_t n, step;            // pixels along the axis
    int64_t n_across, step_across;
} axis;

// Sum of |e| between pixels at - 1 and at, over the side [from, to).
static double sum_line(const axis *a, int64_t at, int64_t from, int64_t to)
{
    double sum = 0;
    const float *q = a->plane + at * a->step;
    for (int64_t i = from; i < to; i++) {
        const float *x = q + i * a->step_across;
        double o = (double)x[-2 * a->step], p = (double)x[-a->step], r = (double)x[a->step];
        sum += fabs(1.5 * ((double)*x - p) - 0.5 * (r - o));
    }
    return sum;
}

static void add_side(const axis *a, int64_t at, int64_t from, int64_t to, int64_t tile, sums *s)
{
    double inside = 0;
    int64_t lines = 0;
    for (int64_t k = 2; k <= tile / 2 && at - k >= 2 && at + k + 1 < a->n; k++, lines += 2) {
        inside += sum_line(a, at - k, from, to) + sum_line(a, at + k, from, to);
    }
    if (lines == 0) {
        return;
    }
    double b = sum_line(a, at, from, to), c = inside / (double)lines;
    s->b += b;
    s->c += c;
    s->bb += b * b;
    s->bc += b * c;
    s->cc += c * c;
    s->n++;
}

// first: some line at which tiles begin, across the axis and along it.
static sums add_axis(const axis *a, int64_t tile, int64_t first, int64_t first_across)
{
    sums s = {0};
    int64_t start = first % tile, across = first_across % tile;
    start += start < 0 ? tile : 0;
    across -= across > 0 ? tile : 0;
    for (int64_t at = start; at < a->n; at += tile) {
        for (int64_t from = across; from < a->n_across; from += tile) {
            int64_t to = from + tile < a->n_across ? from + tile : a->n_across;
            if (to > 0) {
                add_side(a, at, from > 0 ? from : 0, to, tile, &s);
            }
        }
    }
    return s;
}

static void divide(const sums *s, double *ratio, double *error)
{
    *ratio = s->n == 0 ? NAN : s->c > 0 ? s->b / s->c : s->b > 0 ? INFINITY : 1;
    double square = s->bb - 2 * *ratio * s->bc + *ratio * *ratio * s->cc, n = (double)s->n;
    *error = s->n < 2 || !isfinite(*ratio) ? NAN : s->c > 0 ? sqrt(fmax(square, 0) * n / (n - 1)) / s->c : 0;
}

void us_image_seams(const float *plane, int64_t height, int64_t width, int64_t tile, int64_t row, int64_t column,
                    usplit_image_seam_facts *facts)
{
    axis down = {plane, height, width, width, 1}, right = {plane, width, 1, height, width};
    sums r = add_axis(&down, tile, row, column), c = add_axis(&right, tile, column, row);
    sums all = {r.b + c.b, r.c + c.c, r.bb + c.bb, r.bc + c.bc, r.cc + c.cc, r.n + c.n};
    divide(&r, &facts->row_ratio, &facts->row_error);
    divide(&c, &facts->column_ratio, &facts->column_error);
    divide(&all, &facts->ratio, &facts->ratio_error);
    facts->row_borders = r.n;
    facts->column_borders = c.n;
}
