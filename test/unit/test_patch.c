// Patches: mirror map, halving filter, context starts, padding, stitching identity (data 3, 12.3, 12.6).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "patch/patch.h"

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static void test_mirror_map(void **state)
{
    (void)state;
    const int64_t expected[12] = {1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2}; // data section 12.6
    for (int i = -1; i <= 10; i++) {
        assert_int_equal(us_patch_mirror(i, 3), expected[i + 1]);
    }
    for (int i = -5; i <= 5; i++) {
        assert_int_equal(us_patch_mirror(i, 1), 0);
        assert_int_equal(us_patch_mirror(i, 2), i & 1);
    }
}

// Response to one bright pixel: the column of weights (data section 3.1).
static void test_halving_filter(void **state)
{
    (void)state;
    enum { N = 16 };
    const float inner[6] = {0.0001319325f, 0.0533573185f, 0.4465107489f,
                            0.4465107489f, 0.0533573185f, 0.0001319325f};
    const float edge[4] = {0.4465107489f, 0.4998680675f, 0.0534892511f, 0.0001319325f};
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < N; i++) {
            float src[N * N] = {0.0f}, dst[N / 2 * N / 2];
            for (int k = 0; k < N; k++) {
                src[axis ? k * N + i : i * N + k] = 1.0f;
            }
            us_plane plane = {src, N, N};
            assert_int_equal(us_patch_halve(NULL, plane, dst), USPLIT_OK);
            for (int j = 0; j < N / 2; j++) {
                int tap = i - (2 * j - 2);
                float expected = tap >= 0 && tap < 6 ? inner[tap] : 0.0f;
                if (j == 0) {
                    expected = i < 4 ? edge[i] : 0.0f;
                } else if (j == N / 2 - 1) {
                    expected = N - 1 - i < 4 ? edge[N - 1 - i] : 0.0f;
                }
                float got = axis ? dst[3 * N / 2 + j] : dst[j * N / 2 + 3];
                assert_near(got, expected, 2e-7f);
            }
        }
    }
}

static void test_halving_keeps_constants_and_range(void **state)
{
    (void)state;
    for (int64_t h = 2; h < 12; h++) {
        for (int64_t w = 2; w < 12; w++) {
            float src[144], dst[36];
            for (int i = 0; i < 144; i++) {
                src[i] = 1234.567f;
            }
            us_plane plane = {src, h, w};
            assert_int_equal(us_patch_halve(NULL, plane, dst), USPLIT_OK);
            for (int i = 0; i < (h / 2) * (w / 2); i++) {
                assert_true(dst[i] == 1234.567f);
            }
        }
    }
    float one[4] = {1.0f, 2.0f, 3.0f, 4.0f}, out[1];
    assert_int_equal(us_patch_halve(NULL, (us_plane){one, 1, 4}, out), USPLIT_ERR_SHAPE);
    assert_int_equal(us_patch_halve(NULL, (us_plane){one, 4, 1}, out), USPLIT_ERR_SHAPE);
}

static void test_streaming_checks_its_rows(void **state)
{
    (void)state;
    float src[8 * 8] = {0.0f}, dst[16];
    int64_t first, n;
    us_patch_halve_need(8, 1, 2, &first, &n);
    assert_int_equal(first, 0);
    assert_int_equal(n, 8);
    us_patch_halve_need(100, 10, 1, &first, &n);
    assert_int_equal(first, 18);
    assert_int_equal(n, 6);
    assert_int_equal(us_patch_halve_rows(NULL, src, 0, 7, 8, 8, 1, 2, dst), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_patch_halve_rows(NULL, src, 1, 7, 8, 8, 1, 2, dst), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_patch_halve_rows(NULL, src, 0, 8, 8, 8, 3, 2, dst), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_patch_halve_rows(NULL, src, 0, 8, 8, 8, 1, 2, dst), USPLIT_OK);
}

static void test_context_start(void **state)
{
    (void)state;
    assert_int_equal(us_patch_context_start(100, 64, 0), 100);
    assert_int_equal(us_patch_context_start(100, 64, 1), 66 - 32);
    assert_int_equal(us_patch_context_start(101, 64, 2), 33 - 32);
    assert_int_equal(us_patch_context_start(0, 64, 4), 2 - 32);
    assert_int_equal(us_patch_context_start(-24, 64, 4), 0 - 32);
    assert_int_equal(us_patch_context_start(-35, 64, 1), -2 - 32); // floor(-3/2)
    assert_int_equal(us_patch_context_start(-36, 64, 2), -1 - 32);
    assert_int_equal(us_patch_context_start(-37, 64, 2), -2 - 32);
}

static const float ramp[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static void test_padding(void **state)
{
    (void)state;
    us_plane plane = {ramp, 3, 3};
    float got[36];
    // rows and columns -1..4: the part inside is 0..2, mirrored with period 4
    us_patch_cut(plane, -1, -1, 6, USPLIT_PADDING_REFLECT, 0.0f, 0.0f, 1.0f, got);
    const int map[6] = {1, 0, 1, 2, 1, 0};
    for (int i = 0; i < 36; i++) {
        assert_true(got[i] == ramp[map[i / 6] * 3 + map[i % 6]]);
    }
    // the part inside, not the image, is mirrored: columns 2..4 hold 3 6 9 only
    us_patch_cut(plane, 0, 2, 3, USPLIT_PADDING_REFLECT, 0.0f, 0.0f, 1.0f, got);
    const float edge[9] = {3, 3, 3, 6, 6, 6, 9, 9, 9};
    assert_memory_equal(got, edge, sizeof edge);
    // constant, and the normalisation of both kinds of pixel
    us_patch_cut(plane, 1, -1, 3, USPLIT_PADDING_CONSTANT, 20.0f, 4.0f, 0.5f, got);
    const float constant[9] = {8, 0, 0.5f, 8, 1.5f, 2, 8, 8, 8};
    assert_memory_equal(got, constant, sizeof constant);
    // wholly outside
    us_patch_cut(plane, -7, 5, 3, USPLIT_PADDING_REFLECT, 0.0f, 0.0f, 1.0f, got);
    for (int i = 0; i < 9; i++) {
        assert_true(got[i] == 3.0f);
    }
    us_patch_cut(plane, 0, 3, 3, USPLIT_PADDING_REFLECT, 0.0f, 0.0f, 1.0f, got);
    assert_memory_equal(got, edge, sizeof edge);
    us_patch_cut(plane, 1, 40, 3, USPLIT_PADDING_CONSTANT, 2.0f, 0.0f, 1.0f, got);
    for (int i = 0; i < 9; i++) {
        assert_true(got[i] == 2.0f);
    }
}

static void test_means_and_steps(void **state)
{
    (void)state;
    float planes[4][9];
    us_plane p[4];
    for (int c = 0; c < 4; c++) {
        for (int i = 0; i < 9; i++) {
            planes[c][i] = (float)(c * c) + 10.0f * ramp[i];
        }
        p[c] = (us_plane){planes[c], 3, 3};
    }
    for (int n = 1; n <= 4; n++) {
        float got[16 * 3];
        for (int i = 0; i < 48; i++) {
            got[i] = -1.0f;
        }
        us_patch_cut_mean(p, n, -1, 1, 4, USPLIT_PADDING_REFLECT, 0.0f, 5.0f, 2.0f, got + 1, 3);
        for (int i = 0; i < 16; i++) {
            double mean = 0.0;
            for (int c = 0; c < n; c++) {
                mean += c * c / (double)n;
            }
            const int rows[4] = {1, 0, 1, 2}, columns[4] = {1, 2, 1, 2};
            double expected = (mean + 10.0 * (double)ramp[rows[i / 4] * 3 + columns[i % 4]] - 5.0) * 2.0;
            assert_near(got[3 * i + 1], expected, 2e-5);
            assert_true(got[3 * i] == -1.0f && got[3 * i + 2] == -1.0f);
        }
    }
}

// Tiles cut around the grid cells and laid side by side give the frame back (data section 12.3).
static void test_identity_stitching(void **state)
{
    (void)state;
    enum { H = 70, W = 45, FRAMES = 3, N = 5 };
    const int64_t patch[N] = {16, 16, 16, 24, 16}, grid[N] = {8, 16, 4, 16, 10};
    const int tiles[N] = {120, 24, 561, 24, 84};
    for (int k = 0; k < N; k++) {
        int count = 0;
        int64_t p = patch[k], g = grid[k], pad = (p - g) / 2;
        for (int f = 0; f < FRAMES; f++) {
            float frame[H * W], stitched[H * W] = {0.0f}, tile[24 * 24];
            for (int i = 0; i < H * W; i++) {
                frame[i] = (float)(i + 1) * 0.37f + (float)f;
            }
            us_plane plane = {frame, H, W};
            for (int64_t c = 0; c < (H / g) * (W / g); c++, count++) {
                int64_t y = c / (W / g) * g, x = c % (W / g) * g;
                us_patch_cut(plane, y - pad, x - pad, p, USPLIT_PADDING_REFLECT, 0.0f, 0.0f, 1.0f, tile);
                for (int64_t i = 0; i < g * g; i++) {
                    stitched[(y + i / g) * W + x + i % g] += tile[(pad + i / g) * p + pad + i % g];
                }
            }
            for (int i = 0; i < H * W; i++) {
                int covered = i / W < H / g * g && i % W < W / g * g;
                assert_true(stitched[i] == (covered ? frame[i] : 0.0f));
            }
        }
        assert_int_equal(count, tiles[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mirror_map),
        cmocka_unit_test(test_halving_filter),
        cmocka_unit_test(test_halving_keeps_constants_and_range),
        cmocka_unit_test(test_streaming_checks_its_rows),
        cmocka_unit_test(test_context_start),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_means_and_steps),
        cmocka_unit_test(test_identity_stitching),
    };
    return cmocka_run_group_tests_name("patch", tests, NULL, NULL);
}
