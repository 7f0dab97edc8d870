// Views of the caller's pixels: types, strides, rounding, and what bad views get.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "image/view.h"

enum { T = 2, H = 3, W = 4, C = 2 };

static float value(int t, int y, int x, int c)
{
    return (float)(100 * t + 20 * y + 4 * x + c);
}

static void test_reads_every_type_and_order(void **state)
{
    (void)state;
    uint8_t u8[T * H * W * C];
    uint16_t planes[T * C * H * W];
    float flipped[T * H * W * C];
    for (int t = 0; t < T; t++) {
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                for (int c = 0; c < C; c++) {
                    float v = value(t, y, x, c);
                    u8[((t * H + y) * W + x) * C + c] = (uint8_t)v;
                    planes[((t * C + c) * H + y) * W + x] = (uint16_t)(v * 100.0f);
                    flipped[((t * H + H - 1 - y) * W + W - 1 - x) * C + c] = v / 8.0f;
                }
            }
        }
    }
    usplit_image a, b, f;
    assert_int_equal(usplit_image_init(&a, sizeof a, u8, USPLIT_TYPE_U8, T, H, W, C), USPLIT_OK);
    assert_int_equal(usplit_image_init(&b, sizeof b, planes, USPLIT_TYPE_U16, T, H, W, C), USPLIT_OK);
    b.stride_column = 2;
    b.stride_row = 2 * W;
    b.stride_channel = 2 * W * H;
    assert_int_equal(usplit_image_init(&f, sizeof f, flipped, USPLIT_TYPE_F32, T, H, W, C), USPLIT_OK);
    f.data = flipped + ((H - 1) * W + W - 1) * C; // both axes backwards
    f.stride_column = -f.stride_column;
    f.stride_row = -f.stride_row;
    assert_int_equal(us_view_check(&f, "f"), USPLIT_OK);
    float got[H * W];
    for (int t = 0; t < T; t++) {
        for (int c = 0; c < C; c++) {
            const usplit_image *views[3] = {&a, &b, &f};
            const float scale[3] = {1.0f, 100.0f, 0.125f};
            for (int k = 0; k < 3; k++) {
                assert_int_equal(us_view_read(views[k], "view", t, c, 1, H - 1, got), USPLIT_OK);
                for (int i = 0; i < (H - 1) * W; i++) {
                    assert_true(got[i] == value(t, 1 + i / W, i % W, c) * scale[k]);
                }
            }
        }
    }
}

static void test_unaligned_pixels(void **state)
{
    (void)state;
    unsigned char bytes[1 + 4 * sizeof(float)];
    const float values[4] = {1.5f, -2.0f, 3.25f, 1e-20f};
    memcpy(bytes + 1, values, sizeof values);
    usplit_image view;
    assert_int_equal(usplit_image_init(&view, sizeof view, bytes + 1, USPLIT_TYPE_F32, 1, 2, 2, 1),
                     USPLIT_OK);
    float got[4];
    assert_int_equal(us_view_read(&view, "view", 0, 0, 0, 2, got), USPLIT_OK);
    assert_memory_equal(got, values, sizeof values);
}

static void test_writing_rounds_and_saturates(void **state)
{
    (void)state;
    const float src[8] = {-3.0f, -0.25f, 0.49f, 0.51f, 254.6f, 255.4f, 255.6f, NAN};
    const uint8_t expected[8] = {0, 0, 0, 1, 255, 255, 255, 0};
    uint8_t u8[8];
    uint16_t u16[8];
    float f32[16] = {0.0f};
    int64_t cut = 5;
    usplit_image view;
    assert_int_equal(usplit_image_init(&view, sizeof view, u8, USPLIT_TYPE_U8, 1, 2, 4, 1), USPLIT_OK);
    assert_int_equal(us_view_write(&view, 0, 0, 0, 2, src, &cut), USPLIT_OK);
    assert_memory_equal(u8, expected, sizeof expected);
    assert_int_equal(cut, 5 + 3); // -3, 255.6, NaN
    const float high[8] = {65534.6f, 70000.0f, INFINITY, -INFINITY, 0.0f, 1.0f, 2.0f, 3.0f};
    const uint16_t expected16[8] = {65535, 65535, 65535, 0, 0, 1, 2, 3};
    assert_int_equal(usplit_image_init(&view, sizeof view, u16, USPLIT_TYPE_U16, 1, 2, 4, 1), USPLIT_OK);
    assert_int_equal(us_view_write(&view, 0, 0, 0, 2, high, NULL), USPLIT_OK);
    assert_memory_equal(u16, expected16, sizeof expected16);
    assert_int_equal(usplit_image_init(&view, sizeof view, f32, USPLIT_TYPE_F32, 1, 2, 4, 2), USPLIT_OK);
    assert_int_equal(us_view_write(&view, 0, 1, 1, 1, src, &cut), USPLIT_OK);
    for (int i = 0; i < 4; i++) {
        assert_true(f32[8 + 2 * i] == 0.0f && f32[9 + 2 * i] == src[i]);
    }
    assert_int_equal(cut, 8);
}

static void test_bad_views(void **state)
{
    (void)state;
    float pixels[16] = {0.0f};
    usplit_image view;
    assert_int_equal(usplit_image_init(NULL, sizeof view, pixels, USPLIT_TYPE_F32, 1, 4, 4, 1),
                     USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_init(&view, 4, pixels, USPLIT_TYPE_F32, 1, 4, 4, 1), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_init(&view, sizeof view, NULL, USPLIT_TYPE_F32, 1, 4, 4, 1),
                     USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, 9, 1, 4, 4, 1), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, 1, 4, -3, 1),
                     USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "width is -3"));
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, 0, 4, 4, 1),
                     USPLIT_ERR_ARGUMENT);
    assert_int_equal(
        usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, INT64_MAX, INT64_MAX, 4, 1),
        USPLIT_ERR_SHAPE);
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, 1, 4, 4, 1), USPLIT_OK);
    view.stride_row = INT64_MIN;
    assert_int_equal(us_view_check(&view, "src"), USPLIT_ERR_SHAPE);
    view.stride_row = INT64_MAX / 3;
    view.stride_column = INT64_MAX / 3;
    assert_int_equal(us_view_check(&view, "src"), USPLIT_ERR_SHAPE);
    view.stride_row = -(INT64_MAX / 8);
    view.stride_column = 4;
    assert_int_equal(us_view_check(&view, "src"), USPLIT_ERR_SHAPE);
    view.struct_size = 0;
    assert_int_equal(us_view_check(&view, "src"), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_view_check(NULL, "src"), USPLIT_ERR_ARGUMENT);
}

static void test_bad_reads(void **state)
{
    (void)state;
    float pixels[2 * 3 * 4 * 2] = {0.0f}, got[12];
    usplit_image view;
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, 2, 3, 4, 2), USPLIT_OK);
    assert_int_equal(us_view_read(&view, "view", 2, 0, 0, 1, got), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_view_read(&view, "view", 0, -1, 0, 1, got), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_view_read(&view, "view", 0, 0, 1, 3, got), USPLIT_ERR_ARGUMENT);
    pixels[((1 * 3 + 2) * 4 + 3) * 2 + 1] = NAN;
    assert_int_equal(us_view_read(&view, "view", 1, 0, 0, 3, got), USPLIT_OK);
    assert_int_equal(us_view_read(&view, "view", 1, 1, 0, 3, got), USPLIT_ERR_NUMERIC);
    assert_non_null(strstr(usplit_error_message(), "view: frame 1, channel 1: "));
    assert_non_null(strstr(usplit_error_message(), "row 2, column 3"));
    pixels[((1 * 3 + 2) * 4 + 3) * 2 + 1] = -INFINITY;
    assert_int_equal(us_view_read(&view, "view", 1, 1, 2, 1, got), USPLIT_ERR_NUMERIC);
}

static void test_finds_the_first_bad_value(void **state)
{
    (void)state;
    enum { N = 3000 };
    float *v = calloc(N, sizeof *v);
    assert_non_null(v);
    v[7] = 3.4e38f;
    v[8] = 1e-44f;
    assert_int_equal(us_view_find_bad(v, N), -1);
    v[2999] = NAN;
    assert_int_equal(us_view_find_bad(v, N), 2999);
    v[1024] = INFINITY;
    assert_int_equal(us_view_find_bad(v, N), 1024);
    assert_int_equal(us_view_find_bad(v, 0), -1);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_type_and_order),
        cmocka_unit_test(test_unaligned_pixels),
        cmocka_unit_test(test_writing_rounds_and_saturates),
        cmocka_unit_test(test_bad_views),
        cmocka_unit_test(test_bad_reads),
        cmocka_unit_test(test_finds_the_first_bad_value),
    };
    return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
