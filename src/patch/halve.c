// The pyramid of data section 3.1: a plane halved by a Gaussian blur and a linear interpolation, both
// linear, so together one short row of weights per output pixel and axis (6 of them for even sizes).
// Rows are combined first, into one scratch row, then that row's columns, in double: a level is rounded
// once. Whole planes and streams of rows share the code and give the same numbers.
#include "patch/patch.h"

#include <math.h>

enum {
    MAX_RADIUS = 4, // r = n/m is at most 3 (n = 3), so sigma at most 1
    MAX_TAPS = 2 * MAX_RADIUS + 2,
    LANES = 8 // independent minima and maxima, for a vector loop
};

// One axis: n pixels become m.
typedef struct axis {
    int64_t n, m;
    int radius;
    double gauss[2 * MAX_RADIUS + 1];
} axis;

// Weights of input pixels [start, start + count) for one output pixel.
typedef struct taps {
    int64_t start;
    int count;
    double weight[MAX_TAPS];
} taps;

// Everything needed to make one row of the halved plane.
typedef struct halver {
    axis rows, columns;
    taps *column_taps; // one per output column for odd widths, else NULL
    double *scratch;   // one row of the full width
} halver;

static void axis_init(axis *ax, int64_t n)
{
    ax->n = n;
    ax->m = n / 2;
    double sigma = ((double)n / (double)ax->m - 1.0) / 2.0;
    ax->radius = (int)(4.0 * sigma + 0.5);
    double sum = 0.0;
    for (int t = -ax->radius; t <= ax->radius; t++) {
        ax->gauss[t + ax->radius] = exp(-(double)(t * t) / (2.0 * sigma * sigma));
        sum += ax->gauss[t + ax->radius];
    }
    for (int t = 0; t <= 2 * ax->radius; t++) {
        ax->gauss[t] /= sum;
    }
}

// Blur and interpolation in one: the weight of position p is (1 - f) g(p - i) + f g(p - i - 1), where the
// sample s = i + f. Positions outside are mirrored and fall on pixels of the same short stretch.
static taps find_taps(const axis *ax, int64_t j)
{
    double ratio = (double)ax->n / (double)ax->m;
    double s = ((double)j + 0.5) * ratio - 0.5;
    double whole = floor(s);
    double f = s - whole;
    int64_t i = (int64_t)whole;
    int64_t first = ax->n, last = 0;
    int n_positions = 2 * ax->radius + 2;
    int64_t mirrored[MAX_TAPS];
    for (int t = 0; t < n_positions; t++) {
        mirrored[t] = us_place_mirror(i - ax->radius + t, ax->n);
        first = mirrored[t] < first ? mirrored[t] : first;
        last = mirrored[t] > last ? mirrored[t] : last;
    }
    taps result = {first, (int)(last - first + 1), {0.0}};
    for (int t = 0; t < n_positions; t++) {
        double left = t <= 2 * ax->radius ? ax->gauss[t] : 0.0;
        double right = t >= 1 ? ax->gauss[t - 1] : 0.0;
        result.weight[mirrored[t] - first] += (1.0 - f) * left + f * right;
    }
    return result;
}

static float apply_taps(const taps *tp, const double *row)
{
    double sum = 0.0;
    for (int t = 0; t < tp->count; t++) {
        sum += tp->weight[t] * row[tp->start + t];
    }
    return (float)sum;
}

// rows holds the taps' rows one below the other.
static void combine_rows(const taps *tp, const float *restrict rows, int64_t w, double *restrict dst)
{
    const double *weight = tp->weight;
    if (tp->count == 6) { // all rows but the first and last ones
        const float *restrict r0 = rows, *restrict r1 = rows + w, *restrict r2 = rows + 2 * w;
        const float *restrict r3 = rows + 3 * w, *restrict r4 = rows + 4 * w, *restrict r5 = rows + 5 * w;
        const double w0 = weight[0], w1 = weight[1], w2 = weight[2];
        const double w3 = weight[3], w4 = weight[4], w5 = weight[5];
        for (int64_t x = 0; x < w; x++) {
            dst[x] = w0 * (double)r0[x] + w1 * (double)r1[x] + w2 * (double)r2[x] + w3 * (double)r3[x] +
                     w4 * (double)r4[x] + w5 * (double)r5[x];
        }
        return;
    }
    for (int64_t x = 0; x < w; x++) {
        dst[x] = weight[0] * (double)rows[x];
    }
    for (int t = 1; t < tp->count; t++) {
        for (int64_t x = 0; x < w; x++) {
            dst[x] += weight[t] * (double)rows[t * w + x];
        }
    }
}

static void combine_columns(const halver *hv, const double *restrict row, float *restrict dst)
{
    const axis *ax = &hv->columns;
    if (hv->column_taps) {
        for (int64_t j = 0; j < ax->m; j++) {
            dst[j] = apply_taps(&hv->column_taps[j], row);
        }
        return;
    }
    taps first = find_taps(ax, 0), last = find_taps(ax, ax->m - 1);
    dst[0] = apply_taps(&first, row);
    dst[ax->m - 1] = apply_taps(&last, row);
    if (ax->m < 3) {
        return;
    }
    taps inner = find_taps(ax, 1); // even width: the same for every inner pixel
    const double w0 = inner.weight[0], w1 = inner.weight[1], w2 = inner.weight[2];
    const double w3 = inner.weight[3], w4 = inner.weight[4], w5 = inner.weight[5];
    for (int64_t j = 1; j < ax->m - 1; j++) {
        const double *p = row + 2 * j - 2;
        dst[j] = (float)(w0 * p[0] + w1 * p[1] + w2 * p[2] + w3 * p[3] + w4 * p[4] + w5 * p[5]);
    }
}

static void halver_free(halver *hv, const us_allocator *a)
{
    us_free(a, hv->column_taps);
    us_free(a, hv->scratch);
}

static usplit_status halver_init(halver *hv, const us_allocator *a, int64_t h, int64_t w)
{
    *hv = (halver){.column_taps = NULL};
    if (h < 2 || w < 2) {
        US_FAIL(USPLIT_ERR_SHAPE, "a %lld x %lld plane cannot be halved; accepted: 2 x 2 or larger",
                (long long)h, (long long)w);
    }
    axis_init(&hv->rows, h);
    axis_init(&hv->columns, w);
    hv->scratch = us_alloc(a, (size_t)w, sizeof *hv->scratch);
    if (!hv->scratch) {
        return USPLIT_ERR_MEMORY;
    }
    if (w % 2 == 0) {
        return USPLIT_OK;
    }
    hv->column_taps = us_alloc(a, (size_t)hv->columns.m, sizeof *hv->column_taps);
    if (!hv->column_taps) {
        halver_free(hv, a);
        return USPLIT_ERR_MEMORY;
    }
    for (int64_t j = 0; j < hv->columns.m; j++) {
        hv->column_taps[j] = find_taps(&hv->columns, j);
    }
    return USPLIT_OK;
}

// Rows [row0, row0 + n); src begins with row src_row0 of the full plane.
static void halve_rows(const halver *hv, const float *src, int64_t src_row0, int64_t row0, int64_t n,
                       float *dst)
{
    for (int64_t j = 0; j < n; j++) {
        taps tp = find_taps(&hv->rows, row0 + j);
        combine_rows(&tp, src + (tp.start - src_row0) * hv->columns.n, hv->columns.n, hv->scratch);
        combine_columns(hv, hv->scratch, dst + j * hv->columns.m);
    }
}

static void find_range(us_plane plane, float *lowest, float *highest)
{
    float low[LANES], high[LANES];
    int64_t n = plane.height * plane.width;
    for (int l = 0; l < LANES; l++) {
        low[l] = high[l] = plane.data[0];
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float v = plane.data[i + l];
            low[l] = v < low[l] ? v : low[l];
            high[l] = v > high[l] ? v : high[l];
        }
    }
    for (; i < n; i++) {
        low[0] = plane.data[i] < low[0] ? plane.data[i] : low[0];
        high[0] = plane.data[i] > high[0] ? plane.data[i] : high[0];
    }
    *lowest = low[0];
    *highest = high[0];
    for (int l = 1; l < LANES; l++) {
        *lowest = low[l] < *lowest ? low[l] : *lowest;
        *highest = high[l] > *highest ? high[l] : *highest;
    }
}

usplit_status us_patch_halve(const us_allocator *a, us_plane src, float *dst)
{
    halver hv;
    US_TRY(halver_init(&hv, a, src.height, src.width));
    halve_rows(&hv, src.data, 0, 0, hv.rows.m, dst);
    float low, high;
    find_range(src, &low, &high);
    int64_t n = hv.rows.m * hv.columns.m;
    for (int64_t i = 0; i < n; i++) {
        float v = dst[i];
        v = v < low ? low : v;
        dst[i] = v > high ? high : v;
    }
    halver_free(&hv, a);
    return USPLIT_OK;
}

void us_patch_halve_need(int64_t h, int64_t row0, int64_t n, int64_t *src_row0, int64_t *src_rows)
{
    axis rows;
    axis_init(&rows, h);
    int64_t first = h, end = 0;
    for (int64_t j = row0; j < row0 + n; j++) {
        taps tp = find_taps(&rows, j);
        first = tp.start < first ? tp.start : first;
        end = tp.start + tp.count > end ? tp.start + tp.count : end;
    }
    *src_row0 = n > 0 ? first : 0;
    *src_rows = n > 0 ? end - first : 0;
}

usplit_status us_patch_halve_rows(const us_allocator *a, const float *src, int64_t src_row0, int64_t src_rows,
                                  int64_t h, int64_t w, int64_t row0, int64_t n, float *dst)
{
    halver hv;
    US_TRY(halver_init(&hv, a, h, w));
    usplit_status status = USPLIT_OK;
    int64_t need0 = 0, need_rows = 0;
    if (row0 < 0 || n < 0 || row0 + n > hv.rows.m) {
        status = us_fail(USPLIT_ERR_ARGUMENT, "rows %lld to %lld are not in a halved plane of %lld rows",
                         (long long)row0, (long long)(row0 + n - 1), (long long)hv.rows.m);
        goto done;
    }
    us_patch_halve_need(h, row0, n, &need0, &need_rows);
    if (need_rows > 0 && (need0 < src_row0 || need0 + need_rows > src_row0 + src_rows)) {
        status = us_fail(USPLIT_ERR_ARGUMENT, "halving needs rows %lld to %lld, given are %lld to %lld",
                         (long long)need0, (long long)(need0 + need_rows - 1), (long long)src_row0,
                         (long long)(src_row0 + src_rows - 1));
        goto done;
    }
    halve_rows(&hv, src, src_row0, row0, n, dst);
done:
    halver_free(&hv, a);
    return status;
}
