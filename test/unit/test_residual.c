// The residual and its score: against the definition on sorted pixels; what it must not depend on; that it rises with a
// third structure and tells it from noise; rows in any portions; memory; bad calls.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "common/must.h"
#include "image/sketch.h"
#include "kernels/philox.h"

enum { H = 120, W = 90, N = H * W };

static uint32_t seed, at;
static float input[N], planes[2 * N], rest[N];

static double uniform(void)
{
    us_u32x4 r = us_philox(seed, at++, 0, 0, 0);
    return us_uniform53(r.v[0], r.v[1]);
}

static double normal(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

// Two structures of about 100 grey levels, split perfectly; the input has noise, and a third structure of `third` grey
// levels: many round spots.
static void make_case(uint32_t number, double noise, double third)
{
    seed = number;
    at = 0;
    for (int i = 0; i < N; i++) {
        double x = i % W, y = (double)(i / W);
        double a = 100 + 60 * sin(0.11 * x + 0.07 * y) + 20 * sin(0.5 * x), b = 80 + 50 * cos(0.09 * x - 0.13 * y);
        double spot = sin(0.35 * x) * sin(0.35 * y);
        planes[i] = (float)a;
        planes[N + i] = (float)b;
        input[i] = (float)(0.5 * (a + b) + noise * normal() + third * (spot > 0 ? spot : 0));
    }
}

static usplit_image view(float *pixels, int64_t channels)
{
    usplit_image v;
    assert_int_equal(usplit_image_init(&v, sizeof v, pixels, USPLIT_TYPE_F32, 1, H, W, channels), USPLIT_OK);
    v.stride_column = 4;
    v.stride_row = 4 * W;
    v.stride_channel = 4 * N;
    return v;
}

static usplit_residual_facts measure(double clip)
{
    usplit_image x = view(input, 1), y = view(planes, 2), r = view(rest, 1);
    usplit_residual_facts f = {.struct_size = sizeof f};
    assert_int_equal(usplit_image_residual(&x, &y, NULL, clip, &r, &f), USPLIT_OK);
    return f;
}

// ---- The definition, on sorted numbers --------------------------------------------------------------

static int order(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof *v, order);
    double t = q * (n - 1);
    int i = (int)t < n - 1 ? (int)t : n - 2;
    return v[i] + (t - i) * (v[i + 1] - v[i]);
}

static usplit_residual_facts defined(double clip)
{
    static double x[N], r[N], far[N], step[N];
    usplit_residual_facts f = {0};
    int n = 0;
    for (int i = 0; i < N; i++) {
        x[i] = fmin((double)input[i], clip);
        r[i] = x[i] - 0.5 * ((double)planes[i] + (double)planes[N + i]);
        if (i % W > 0) {
            step[n++] = fabs(r[i] - r[i - 1]);
        }
    }
    f.range = quantile(x, N, 0.995) - quantile(x, N, 0.005);
    double centre = quantile(r, N, 0.5);
    for (int i = 0; i < N; i++) {
        far[i] = fabs(r[i] - centre);
    }
    f.score = 1.4826 * quantile(far, N, 0.5) / f.range;
    f.tail = quantile(far, N, 0.99) / f.range;
    f.offset = centre / f.range;
    f.noise = 1.4826 / sqrt(2) * quantile(step, n, 0.5) / f.range;
    return f;
}

// A bin is at most 1/128 of its value wide; range and distance each come from two edges.
static void as_defined(void **state)
{
    (void)state;
    const double noise[] = {5, 0.3, 20}, third[] = {0, 40, 10}, clip[] = {INFINITY, 120, 90};
    for (int i = 0; i < 3; i++) {
        make_case((uint32_t)i, noise[i], third[i]);
        usplit_residual_facts f = measure(clip[i]), d = defined(clip[i]);
        near(f.range, d.range, 0.016 * d.range);
        near(f.score, d.score, 0.04 * d.score);
        near(f.tail, d.tail, 0.04 * d.tail);
        near(f.noise, d.noise, 0.04 * d.noise);
        near(f.offset, d.offset, 0.02 * d.score + 0.02 * fabs(d.offset));
        assert_true(f.pixels == N);
        for (int k = 0; k < N; k += 97) {
            near((double)rest[k], fmin((double)input[k], clip[i]) - 0.5 * ((double)planes[k] + (double)planes[N + k]),
                 1e-5 * 200);
        }
    }
}

static void tells_noise_from_structure(void **state)
{
    (void)state;
    make_case(1, 5, 0);
    usplit_residual_facts noisy = measure(INFINITY);
    near(noisy.score * noisy.range, 5, 0.25);           // the noise itself: 5 grey levels
    assert_true(noisy.structure < 0.25);                // the estimates of score and noise differ by 3 % or less
    make_case(1, 5, 80);
    usplit_residual_facts third = measure(INFINITY);
    assert_true(third.score > 1.3 * noisy.score);       // half of the pixels have no spot, and the range has grown
    assert_true(third.tail > 2 * noisy.tail);
    assert_true(third.structure > 0.8 && third.structure <= 1);
    make_case(1, 0, 0);
    usplit_residual_facts perfect = measure(INFINITY);
    assert_true(perfect.score < 1e-6 && perfect.tail < 1e-6);
}

// Gain and offset of all images together: shares stay, grey levels follow the gain.
static void scale_does_not_matter(void **state)
{
    (void)state;
    const double gain[] = {1.0 / 255, 300, 1}, offset[] = {0, 0, 10000};
    for (int i = 0; i < 3; i++) {
        make_case(4, 5, 30);
        usplit_residual_facts one = measure(130);
        for (int k = 0; k < N; k++) {
            input[k] = (float)(gain[i] * (double)input[k] + offset[i]);
            planes[k] = (float)(gain[i] * (double)planes[k] + offset[i]);
            planes[N + k] = (float)(gain[i] * (double)planes[N + k] + offset[i]);
        }
        usplit_residual_facts two = measure(gain[i] * 130 + offset[i]);
        near(two.range, gain[i] * one.range, 0.02 * gain[i] * one.range);
        near(two.score, one.score, 0.03 * one.score);
        near(two.tail, one.tail, 0.03 * one.tail);
        near(two.structure, one.structure, 0.03);
    }
    make_case(4, 5, 0);                                 // hot pixels change nothing but themselves
    usplit_residual_facts before = measure(INFINITY);
    for (int k = 0; k < 20; k++) {
        input[37 + 431 * k] = 65535;
    }
    usplit_residual_facts after = measure(INFINITY);
    near(after.score, before.score, 0.03 * before.score);
    near(after.range, before.range, 0.05 * before.range);
}

static void rows_come_in_any_portions(void **state)
{
    (void)state;
    make_case(2, 3, 20);
    usplit_residual_facts whole = measure(140), parts = {.struct_size = sizeof parts};
    static float some[2 * N], again[N];
    usplit_residual *r = NULL;
    assert_int_equal(usplit_residual_create(&r, W, 2, NULL, 140), USPLIT_OK);
    assert_int_equal(usplit_residual_info(r, &parts), USPLIT_ERR_STATE);
    size_t live = us_alloc_live();
    for (int row = 0, n; row < H; row += n) {
        n = 1 + (row * 7) % 11;
        n = n < H - row ? n : H - row;
        for (int c = 0; c < 2; c++) {
            memcpy(some + c * n * W, planes + c * N + row * W, sizeof(float) * (size_t)(n * W));
        }
        assert_int_equal(usplit_residual_add(r, n, input + row * W, some, row % 2 ? again + row * W : NULL), USPLIT_OK);
        if (row % 2) {
            assert_memory_equal(again + row * W, rest + row * W, sizeof(float) * (size_t)(n * W));
        }
    }
    assert_int_equal(us_alloc_live(), live);            // nothing grows
    assert_int_equal(usplit_residual_info(r, &parts), USPLIT_OK);
    assert_memory_equal(&whole, &parts, sizeof whole);
    usplit_residual_free(r);
    usplit_residual_free(NULL);
}

// The sum of the channels is the mean of doubled ones.
static void weights_count(void **state)
{
    (void)state;
    make_case(5, 3, 20);
    usplit_residual_facts mean = measure(INFINITY), sum = {.struct_size = sizeof sum};
    static float kept[N];
    memcpy(kept, rest, sizeof kept);
    double weights[2] = {1, 0.25};
    for (int i = 0; i < N; i++) {                       // exact: powers of two
        planes[i] *= 0.5f;
        planes[N + i] *= 2;
    }
    usplit_image x = view(input, 1), y = view(planes, 2), r = view(rest, 1);
    assert_int_equal(usplit_image_residual(&x, &y, weights, INFINITY, &r, &sum), USPLIT_OK);
    assert_memory_equal(&mean, &sum, sizeof sum);
    assert_memory_equal(kept, rest, sizeof kept);
    weights[1] = NAN;
    assert_int_equal(usplit_image_residual(&x, &y, weights, INFINITY, &r, &sum), USPLIT_ERR_ARGUMENT);
    usplit_residual *s = NULL;
    assert_int_equal(usplit_residual_create(&s, W, 2, weights, INFINITY), USPLIT_ERR_ARGUMENT);
}

static void quantiles_of_odd_numbers(void **state)
{
    (void)state;
    us_sketch s;
    assert_int_equal(us_sketch_open(&s, NULL), USPLIT_OK);
    assert_true(isnan(us_sketch_quantile(&s, 0.5)) && isnan(us_sketch_distance(&s, 0, 0.5)));
    for (int i = 0; i < 100; i++) {
        us_sketch_add(&s, i < 50 ? -0.0f : 3.0e38f);
    }
    near(us_sketch_quantile(&s, 0.25), 0, 1e-30);
    near(us_sketch_quantile(&s, 0.75), 3.0e38, 3.0e36);
    near(us_sketch_distance(&s, 0, 1), 3.0e38, 6.0e36);
    us_sketch_close(&s, NULL);
    assert_int_equal(us_sketch_open(&s, NULL), USPLIT_OK);
    s.anchor = -1000;
    for (int i = 0; i < 1001; i++) {
        us_sketch_add(&s, (float)(-1000 + 0.01 * (i - 500)));
    }
    for (double q = 0.02; q < 1; q += 0.07) {           // -1005 to -995, evenly: within a bin, 1/128 of the distance
        near(us_sketch_quantile(&s, q), -1005 + 10 * q, 0.02 + 5.0 / 128);
    }
    near(us_sketch_distance(&s, -1000, 0.5), 2.5, 0.02 + 2.5 / 128);
    us_sketch_close(&s, NULL);
}

static void bad_calls(void **state)
{
    (void)state;
    make_case(3, 1, 0);
    usplit_image x = view(input, 1), y = view(planes, 2), r = view(rest, 1), wrong = view(planes, 2);
    usplit_residual_facts f = {.struct_size = sizeof f};
    wrong.height--;
    assert_int_equal(usplit_image_residual(NULL, &y, NULL, INFINITY, NULL, &f), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_residual(&x, NULL, NULL, INFINITY, NULL, &f), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_residual(&x, &y, NULL, INFINITY, NULL, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_residual(&x, &y, NULL, NAN, NULL, &f), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_residual(&y, &y, NULL, INFINITY, NULL, &f), USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_residual(&x, &wrong, NULL, INFINITY, NULL, &f), USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_residual(&x, &y, NULL, INFINITY, &y, &f), USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_residual(&x, &y, NULL, INFINITY, &r, &f), USPLIT_OK);
    input[5] = NAN;
    assert_int_equal(usplit_image_residual(&x, &y, NULL, INFINITY, &r, &f), USPLIT_ERR_NUMERIC);
    for (int i = 0; i < N; i++) {
        input[i] = 7;
    }
    assert_int_equal(usplit_image_residual(&x, &y, NULL, INFINITY, &r, &f), USPLIT_OK);
    assert_true(f.range == 0 && isnan(f.score) && isnan(f.tail));
    usplit_residual *s = NULL;
    assert_int_equal(usplit_residual_create(NULL, W, 2, NULL, 1), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_residual_create(&s, 0, 2, NULL, 1), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_residual_create(&s, W, 9, NULL, 1), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_residual_create(&s, W, 2, NULL, NAN), USPLIT_ERR_ARGUMENT);
    assert_null(s);
    assert_int_equal(usplit_residual_create(&s, W, 2, NULL, 1), USPLIT_OK);
    assert_int_equal(usplit_residual_add(s, 0, input, planes, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_residual_add(s, 1, NULL, planes, NULL), USPLIT_ERR_ARGUMENT);
    planes[W + 3] = INFINITY;
    assert_int_equal(usplit_residual_add(s, 1, input, planes, NULL), USPLIT_ERR_NUMERIC);
    usplit_residual_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_defined),
        cmocka_unit_test(tells_noise_from_structure),
        cmocka_unit_test(scale_does_not_matter),
        cmocka_unit_test(rows_come_in_any_portions),
        cmocka_unit_test(weights_count),
        cmocka_unit_test(quantiles_of_odd_numbers),
        cmocka_unit_test(bad_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
