// The seam score: against its definition written down pixel by pixel, its error against the scatter of many images,
// steps of known height, what it must not depend on, sizes, bad calls.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/must.h"
#include "image/seams.h"
#include "kernels/philox.h"

static uint32_t seed, at;

static double uniform(void)
{
    us_u32x4 r = us_philox(seed, at++, 0, 0, 0);
    return us_uniform53(r.v[0], r.v[1]);
}

static double normal(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static usplit_image_seam_facts measure(float *plane, int64_t h, int64_t w, int64_t tile, int64_t row, int64_t column)
{
    usplit_image view;
    usplit_image_seam_facts f = {.struct_size = sizeof f};
    assert_int_equal(usplit_image_init(&view, sizeof view, plane, USPLIT_TYPE_F32, 1, h, w, 1), USPLIT_OK);
    assert_int_equal(usplit_image_seams(&view, tile, row, column, &f), USPLIT_OK);
    return f;
}

// ---- The definition, pixel by pixel -----------------------------------------------------------------

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

typedef struct naive {
    double sum_b, sum_c, sum_square;
    int64_t n;
    double b[4096], c[4096];
} naive;

// Rows of the plane when down is 1, columns when it is 0.
static void naive_axis(naive *s, const float *plane, int64_t h, int64_t w, int down, int64_t tile, int64_t first,
                       int64_t across)
{
    int64_t n = down ? h : w, m = down ? w : h;
    for (int64_t line = 0; line < n; line++) {
        if ((line - first) % tile != 0) {
            continue;
        }
        double b = 0, c = 0, count = 0;
        for (int64_t j = 0; j < m; j++) {
            for (int64_t k = -(tile / 2); k <= tile / 2; k++) {
                int64_t p = line + k, mirror = line - k;
                if (k == 1 || k == -1 || p < 2 || p + 1 >= n || mirror < 2 || mirror + 1 >= n) {
                    continue;
                }
                double v[4];
                for (int i = 0; i < 4; i++) {
                    v[i] = plane[down ? (p - 2 + i) * w + j : j * w + p - 2 + i];
                }
                double e = fabs(v[2] - v[1] - (v[1] - v[0] + v[3] - v[2]) / 2);
                b += k == 0 ? e : 0;
                c += k == 0 ? 0 : e;
                count += k != 0 && j == 0;
            }
            if (j == m - 1 || floor_div(j + 1 - across, tile) != floor_div(j - across, tile)) {   // a side ends
                if (count > 0) {
                    s->b[s->n] = b;
                    s->c[s->n++] = c / count;
                }
                b = c = 0;
            }
        }
    }
}

static double naive_ratio(naive *s, double *error)
{
    double b = 0, c = 0, square = 0;
    for (int64_t i = 0; i < s->n; i++) {
        b += s->b[i];
        c += s->c[i];
    }
    for (int64_t i = 0; i < s->n; i++) {
        square += pow(s->b[i] - b / c * s->c[i], 2);
    }
    *error = s->n > 1 ? sqrt(square * (double)s->n / (double)(s->n - 1)) / c : NAN;
    return s->n > 0 ? b / c : NAN;
}

static int same(double a, double b)
{
    return (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-9 * (1 + fabs(b));
}

static void test_definition(void **state)
{
    (void)state;
    static naive rows, columns, all;
    for (seed = 1; seed <= 300; seed++) {
        at = 0;
        int64_t h = 1 + (int64_t)(40 * uniform()), w = 1 + (int64_t)(40 * uniform());
        int64_t tile = 4 + (int64_t)(9 * uniform());
        int64_t row = (int64_t)(60 * uniform()) - 30, column = (int64_t)(60 * uniform()) - 30;
        float *plane = malloc((size_t)(h * w) * sizeof *plane);
        for (int64_t i = 0; i < h * w; i++) {
            plane[i] = (float)(100 * uniform());
        }
        rows.n = columns.n = all.n = 0;
        naive_axis(&rows, plane, h, w, 1, tile, row, column);
        naive_axis(&columns, plane, h, w, 0, tile, column, row);
        naive_axis(&all, plane, h, w, 1, tile, row, column);
        naive_axis(&all, plane, h, w, 0, tile, column, row);
        usplit_image_seam_facts f = measure(plane, h, w, tile, row, column);
        double error;
        assert_true(f.row_borders == rows.n && f.column_borders == columns.n);
        assert_true(same(f.row_ratio, naive_ratio(&rows, &error)) && same(f.row_error, error));
        assert_true(same(f.column_ratio, naive_ratio(&columns, &error)) && same(f.column_error, error));
        assert_true(same(f.ratio, naive_ratio(&all, &error)) && same(f.ratio_error, error));
        free(plane);
    }
}

// ---- Images without seams ---------------------------------------------------------------------------

enum { SIDE = 160, TILE = 16 };
static float plane[SIDE * SIDE], other[SIDE * SIDE];

// Noise, blurred a little or more, brighter and rougher to one side.
static void make_smooth(int passes)
{
    for (int i = 0; i < SIDE * SIDE; i++) {
        plane[i] = (float)normal();
    }
    for (int p = 0; p < passes; p++) {
        for (int i = SIDE + 1; i < SIDE * SIDE; i++) {
            plane[i] = 0.4f * plane[i] + 0.3f * plane[i - 1] + 0.3f * plane[i - SIDE];
        }
    }
    for (int i = 0; i < SIDE * SIDE; i++) {
        plane[i] = 50 + 0.1f * (float)(i % SIDE) + plane[i] * (1 + 3 * (float)(i / SIDE) / SIDE);
    }
}

// 1 within its error: over many images (R - 1) / error has mean 0 and deviation 1, but for the scatter of 200 draws
// (0.07 of the mean, 0.05 of the deviation) and for neighbouring sides not being quite independent.
static void test_no_seam_is_one(void **state)
{
    (void)state;
    enum { IMAGES = 200 };
    for (int passes = 0; passes <= 2; passes++) {
        double sum = 0, square = 0, worst = 0;
        for (int i = 0; i < IMAGES; i++) {
            seed = (uint32_t)(1000 * passes + i);
            at = 0;
            make_smooth(passes);
            usplit_image_seam_facts f = measure(plane, SIDE, SIDE, TILE, 3, 5);
            assert_true(f.ratio_error > 0 && f.ratio_error < 0.05);
            double z = (f.ratio - 1) / f.ratio_error;
            sum += z;
            square += z * z;
            worst = fmax(worst, fabs(f.ratio - 1));
        }
        double mean = sum / IMAGES, deviation = sqrt(square / IMAGES - mean * mean);
        print_message("# blur %d: mean %+.3f, deviation %.3f, largest |R - 1| %.3f\n", passes, mean, deviation, worst);
        assert_true(fabs(mean) < 0.3 && deviation > 0.75 && deviation < 1.3);
    }
}

// ---- Images with seams ------------------------------------------------------------------------------

// Adds a step of the height to every border of the tiles that begin at (3, 5).
static void add_steps(float *dst, double height)
{
    for (int i = 0; i < SIDE * SIDE; i++) {
        int64_t tile = floor_div(i / SIDE - 3, TILE) + floor_div(i % SIDE - 5, TILE);
        dst[i] = plane[i] + (float)(tile % 2 == 0 ? 0 : height);
    }
}

// White noise of deviation 1: e has deviation sqrt 5, so with steps of h the ratio is that of the means of |N(h, 5)|
// and |N(0, 5)|.
static void test_known_height(void **state)
{
    (void)state;
    for (int i = 0; i < SIDE * SIDE; i++) {
        seed = 7, at = 3 * (uint32_t)i;
        plane[i] = (float)normal();
    }
    for (double h = 0; h <= 10; h += 2.5) {
        double m = h / sqrt(5), expected = exp(-m * m / 2) + m * sqrt(acos(-1) / 2) * erf(m / sqrt(2));
        add_steps(other, h);
        usplit_image_seam_facts f = measure(other, SIDE, SIDE, TILE, 3, 5);
        print_message("# step %g: %.3f +- %.3f, expected %.3f\n", h, f.ratio, f.ratio_error, expected);
        assert_true(fabs(f.ratio - expected) <= 4 * f.ratio_error);
        assert_true(h == 0 || (f.row_ratio - 1 > 4 * f.row_error && f.column_ratio - 1 > 4 * f.column_error));
        f = measure(other, SIDE, SIDE, TILE, 9, 12);        // not the grid of the steps: in the middle of its tiles
        assert_true(fabs(f.ratio - 1) <= 4 * f.ratio_error || f.ratio < 1);
    }
}

static void test_grows_with_the_step(void **state)
{
    (void)state;
    for (seed = 1; seed <= 10; seed++) {
        at = 0;
        make_smooth((int)seed % 3);
        double before = 0;
        for (double h = 0; h < 40; h = h * 2 + 0.25) {
            add_steps(other, h);
            double ratio = measure(other, SIDE, SIDE, TILE, 3, 5).ratio;
            assert_true(ratio > before);
            before = ratio;
        }
        assert_true(before > 3);
    }
}

// Steps on one axis only show on that axis; crops find their grid.
static void test_axes_and_crops(void **state)
{
    (void)state;
    seed = 3, at = 0;
    make_smooth(1);
    for (int i = 0; i < SIDE * SIDE; i++) {
        plane[i] += (i / SIDE - 3 + TILE) / TILE % 2 == 0 ? 0.0f : 20.0f;
    }
    usplit_image_seam_facts f = measure(plane, SIDE, SIDE, TILE, 3, 5);
    assert_true(f.row_ratio > 4 && fabs(f.column_ratio - 1) < 4 * f.column_error);
    assert_true(f.row_ratio > f.ratio && f.ratio > f.column_ratio);
    usplit_image crop;
    assert_int_equal(usplit_image_init(&crop, sizeof crop, plane + 7 * SIDE + 11, USPLIT_TYPE_F32, 1, SIDE - 7,
                                       SIDE - 11, 1), USPLIT_OK);
    crop.stride_row = SIDE * (int64_t)sizeof(float);
    usplit_image_seam_facts g = {.struct_size = sizeof g};
    assert_int_equal(usplit_image_seams(&crop, TILE, 3 - 7, 5 - 11, &g), USPLIT_OK);
    assert_true(g.row_ratio > 4 && fabs(g.column_ratio - 1) < 4 * g.column_error);
    assert_int_equal(usplit_image_seams(&crop, TILE, 3 - 7 + 5 * TILE, 5 - 11 - 9 * TILE, &f), USPLIT_OK);
    assert_memory_equal(&f, &g, sizeof f);
}

static void test_gain_and_offset(void **state)
{
    (void)state;
    seed = 5, at = 0;
    make_smooth(1);
    add_steps(other, 1.5);
    usplit_image_seam_facts f = measure(other, SIDE, SIDE, TILE, 3, 5);
    for (int i = 0; i < SIDE * SIDE; i++) {
        other[i] = -37.5f * other[i] + 1000;        // rounded to 2^-24 of up to 4000; steps are near 100
    }
    usplit_image_seam_facts g = measure(other, SIDE, SIDE, TILE, 3, 5);
    assert_true(fabs(f.ratio - g.ratio) < 1e-5 && fabs(f.ratio_error - g.ratio_error) < 1e-5);
}

// ---- Special planes and bad calls -------------------------------------------------------------------

static void test_special_planes(void **state)
{
    (void)state;
    for (int i = 0; i < SIDE * SIDE; i++) {
        plane[i] = (float)(i % SIDE + 2 * (i / SIDE));      // a slope has no seam, and no step left over
    }
    usplit_image_seam_facts f = measure(plane, SIDE, SIDE, TILE, 3, 5);
    assert_true(f.ratio == 1 && f.ratio_error == 0 && f.row_borders == 9 * 11 && f.column_borders == 10 * 11);
    add_steps(other, 1);
    f = measure(other, SIDE, SIDE, TILE, 3, 5);
    assert_true(isinf(f.ratio) && isnan(f.ratio_error));
    f = measure(plane, SIDE, SIDE, 2 * SIDE, 0, 0);         // one tile
    assert_true(isnan(f.ratio) && isnan(f.ratio_error) && f.row_borders == 0 && f.column_borders == 0);
    f = measure(plane, 7, SIDE, TILE, 4, 0);                // 3 rows below the border
    assert_int_equal(f.row_borders, 0);
    f = measure(plane, 8, SIDE, TILE, 4, 0);
    assert_int_equal(f.row_borders, SIDE / TILE);
}

static void test_bad_calls(void **state)
{
    (void)state;
    usplit_image view;
    usplit_image_seam_facts f = {.struct_size = sizeof f};
    assert_int_equal(usplit_image_init(&view, sizeof view, plane, USPLIT_TYPE_F32, 1, SIDE, SIDE, 1), USPLIT_OK);
    refused(usplit_image_seams(NULL, TILE, 0, 0, &f), USPLIT_ERR_ARGUMENT, "plane is NULL");
    refused(usplit_image_seams(&view, TILE, 0, 0, NULL), USPLIT_ERR_ARGUMENT, "facts is NULL");
    refused(usplit_image_seams(&view, 3, 0, 0, &f), USPLIT_ERR_ARGUMENT, "tile is 3; accepted: 4 to 16777216");
    refused(usplit_image_seams(&view, INT64_MAX, 0, 0, &f), USPLIT_ERR_ARGUMENT, "tile is");
    assert_int_equal(usplit_image_seams(&view, 1 << 24, INT64_MIN, INT64_MAX, &f), USPLIT_OK);
    f.struct_size = 0;
    refused(usplit_image_seams(&view, TILE, 0, 0, &f), USPLIT_ERR_ARGUMENT, "struct_size");
    f.struct_size = sizeof f;
    view.channels = 2;
    view.width = SIDE / 2;
    refused(usplit_image_seams(&view, TILE, 0, 0, &f), USPLIT_ERR_SHAPE, "plane has 1 frames of 2 channels");
    view.channels = 1;
    plane[17] = NAN;
    refused(usplit_image_seams(&view, TILE, 0, 0, &f), USPLIT_ERR_NUMERIC, "17");
    plane[17] = 0;
    assert_int_equal(us_alloc_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_no_seam_is_one),
        cmocka_unit_test(test_known_height),
        cmocka_unit_test(test_grows_with_the_step),
        cmocka_unit_test(test_axes_and_crops),
        cmocka_unit_test(test_gain_and_offset),
        cmocka_unit_test(test_special_planes),
        cmocka_unit_test(test_bad_calls),
    };
    return cmocka_run_group_tests_name("seams", tests, NULL, NULL);
}
