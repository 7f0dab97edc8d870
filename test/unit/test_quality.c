// Metrics: the acceptance values of data section 12.4, special cases, and bad calls of usplit_image_compare.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "image/quality.h"

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 16 };

static void make_pair(float target[N * N], float prediction[N * N])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            target[i * N + j] = (float)((3 * i + 5 * j) % 17);
            prediction[i * N + j] = (float)((3 * i + 5 * j + (i * j) % 3) % 17);
        }
    }
}

static void test_row_vectors(void **state)
{
    (void)state;
    usplit_image_quality q;
    const float t1[3] = {10, 11, 12}, p1[3] = {15, 10, 13}, t2[3] = {100, 120, 140}, p2[3] = {10, 13, 14};
    assert_int_equal(us_image_quality(NULL, t1, p1, 1, 3, &q), USPLIT_OK);
    assert_near(q.psnr, -3.521825, 1e-6);
    assert_near(q.ri_psnr, 8.527849, 1e-6);
    assert_near(q.rmse, 3.0, 1e-12);
    assert_true(isnan(q.ssim)); // smaller than the window
    assert_int_equal(us_image_quality(NULL, t2, p2, 1, 3, &q), USPLIT_OK);
    assert_near(q.psnr, -8.680686, 1e-6);
    assert_near(q.ri_psnr, 18.920946, 1e-6);
}

static void test_image_pair(void **state)
{
    (void)state;
    float target[N * N], prediction[N * N];
    make_pair(target, prediction);
    usplit_image t, p;
    usplit_image_quality q = {.struct_size = sizeof q};
    assert_int_equal(usplit_image_init(&t, sizeof t, target, USPLIT_TYPE_F32, 1, N, N, 1), USPLIT_OK);
    assert_int_equal(usplit_image_init(&p, sizeof p, prediction, USPLIT_TYPE_F32, 1, N, N, 1), USPLIT_OK);
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_OK);
    assert_near(q.ri_psnr, 15.319945, 1e-6);
    assert_near(q.psnr, 14.901440, 1e-6);
    assert_near(q.ssim, 0.8130160055, 1e-9);
    // normalised by the target's mean and deviation: only the SSIM changes
    double mean = 0.0, square = 0.0;
    for (int i = 0; i < N * N; i++) {
        mean += (double)target[i] / (N * N);
    }
    for (int i = 0; i < N * N; i++) {
        square += pow((double)target[i] - mean, 2.0) / (N * N);
    }
    for (int i = 0; i < N * N; i++) {
        target[i] = (float)(((double)target[i] - mean) / sqrt(square));
        prediction[i] = (float)(((double)prediction[i] - mean) / sqrt(square));
    }
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_OK);
    assert_near(q.ri_psnr, 15.319945, 1e-5);
    assert_near(q.psnr, 14.901440, 1e-5);
    assert_near(q.ssim, 0.4037324587, 1e-6);
}

static void test_val_psnr(void **state)
{
    (void)state;
    float target[N * N], prediction[N * N], half[N * N], pairs[2][N * N][2];
    make_pair(target, prediction);
    for (int i = 0; i < N * N; i++) {
        half[i] = 0.5f * target[i];
    }
    us_val_psnr psnr;
    us_val_psnr_init(&psnr, 1);
    assert_true(isnan(us_val_psnr_result(&psnr)));
    us_val_psnr_add(&psnr, 0, target, 1, prediction, 1, N * N);
    us_val_psnr_add(&psnr, 0, half, 1, target, 1, N * N);
    assert_near(us_val_psnr_result(&psnr), 12.281942, 1e-6);
    // two channels, channels last; a patch whose error is NaN is left out
    for (int i = 0; i < N * N; i++) {
        pairs[0][i][0] = pairs[0][i][1] = target[i];
        pairs[1][i][0] = pairs[1][i][1] = prediction[i];
    }
    us_val_psnr_init(&psnr, 2);
    for (int c = 0; c < 2; c++) {
        us_val_psnr_add(&psnr, c, &pairs[0][0][c], 2, &pairs[1][0][c], 2, N * N);
    }
    double both = us_val_psnr_result(&psnr);
    assert_near(both, 14.901440, 1e-6);
    pairs[1][9][1] = NAN;
    us_val_psnr_add(&psnr, 1, &pairs[0][0][1], 2, &pairs[1][0][1], 2, N * N);
    assert_true(us_val_psnr_result(&psnr) == both);
}

static void test_special_planes(void **state)
{
    (void)state;
    float target[N * N], prediction[N * N], constant[N * N];
    make_pair(target, prediction);
    for (int i = 0; i < N * N; i++) {
        constant[i] = 0.1f;
    }
    usplit_image_quality q;
    assert_int_equal(us_image_quality(NULL, target, constant, N, N, &q), USPLIT_OK);
    assert_true(isnan(q.ri_psnr) && isfinite(q.psnr) && isfinite(q.ssim));
    assert_int_equal(us_image_quality(NULL, target, target, N, N, &q), USPLIT_OK);
    assert_true(isinf(q.psnr) && q.psnr > 0.0 && q.rmse == 0.0);
    assert_near(q.ssim, 1.0, 1e-12);
    for (int i = 0; i < N * N; i++) { // an affine copy far from zero: nothing is lost to cancellation
        prediction[i] = 1048576.0f + 8.0f * target[i];
    }
    assert_int_equal(us_image_quality(NULL, target, prediction, N, N, &q), USPLIT_OK);
    assert_true(q.ri_psnr > 200.0);
    assert_int_equal(us_image_quality(NULL, constant, target, N, N, &q), USPLIT_OK); // no crash
}

static void test_bad_comparisons(void **state)
{
    (void)state;
    float a[N * N], b[N * N];
    make_pair(a, b);
    usplit_image t, p;
    usplit_image_quality q = {.struct_size = sizeof q};
    assert_int_equal(usplit_image_init(&t, sizeof t, a, USPLIT_TYPE_F32, 1, N, N, 1), USPLIT_OK);
    assert_int_equal(usplit_image_init(&p, sizeof p, b, USPLIT_TYPE_F32, 1, N, N / 2, 2), USPLIT_OK);
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_init(&p, sizeof p, b, USPLIT_TYPE_F32, 1, N, N / 2, 1), USPLIT_OK);
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_init(&p, sizeof p, b, USPLIT_TYPE_F32, 1, N, N, 1), USPLIT_OK);
    assert_int_equal(usplit_image_compare(NULL, &p, &q), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_compare(&t, NULL, &q), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_compare(&t, &p, NULL), USPLIT_ERR_ARGUMENT);
    q.struct_size = 0;
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_ERR_ARGUMENT);
    q.struct_size = sizeof q;
    b[3 * N + 2] = NAN;
    size_t live = us_alloc_live();
    assert_int_equal(usplit_image_compare(&t, &p, &q), USPLIT_ERR_NUMERIC);
    assert_non_null(strstr(usplit_error_message(), "prediction: frame 0, channel 0: the pixel at row 3, column 2"));
    assert_int_equal(usplit_image_compare(&p, &t, &q), USPLIT_ERR_NUMERIC);
    assert_non_null(strstr(usplit_error_message(), "target: "));
    assert_int_equal(us_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_vectors),     cmocka_unit_test(test_image_pair),
        cmocka_unit_test(test_val_psnr),        cmocka_unit_test(test_special_planes),
        cmocka_unit_test(test_bad_comparisons),
    };
    return cmocka_run_group_tests_name("quality", tests, NULL, NULL);
}
