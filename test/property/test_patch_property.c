// Patches on random sizes: the fast code against the definitions written out pixel by pixel in double, the
// streamed halving against the whole one, stitching. A failure prints the seed; run with it as argument.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "kernels/philox.h"
#include "patch/patch.h"

static uint64_t seed = 20240611;

typedef struct dice {
    uint32_t stream, drawn;
} dice;

static int64_t roll(dice *d, int64_t low, int64_t high)
{
    us_u32x4 r = us_philox(seed, 1000, d->stream, d->drawn++, 0);
    return low + (int64_t)(us_uniform53(r.v[0], r.v[1]) * (double)(high - low + 1));
}

static float *random_plane(dice *d, int64_t h, int64_t w)
{
    float *p = malloc((size_t)(h * w) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < h * w; i++) {
        p[i] = (float)roll(d, -2000, 65535) / 7.0f;
    }
    return p;
}

#define check(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            print_message("seed %llu: ", (unsigned long long)seed);                                          \
            print_message(__VA_ARGS__);                                                                      \
            fail();                                                                                          \
        }                                                                                                    \
    } while (0)

// ---- Halving ------------------------------------------------------------------------------------

// Data section 3.1 in the order of its text: blur one axis, then interpolate it. line has n values, step
// apart.
static void halve_line(const double *line, int64_t n, int64_t step, double *dst, int64_t dst_step)
{
    int64_t m = n / 2;
    double r = (double)n / (double)m, sigma = (r - 1.0) / 2.0;
    int64_t radius = (int64_t)(4.0 * sigma + 0.5);
    double *blurred = malloc((size_t)n * sizeof *blurred);
    assert_non_null(blurred);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0, weights = 0.0;
        for (int64_t t = -radius; t <= radius; t++) {
            double w = exp(-(double)(t * t) / (2.0 * sigma * sigma));
            int64_t at = llabs(i + t) % (2 * (n - 1));
            sum += w * line[(at < n ? at : 2 * (n - 1) - at) * step];
            weights += w;
        }
        blurred[i] = sum / weights;
    }
    for (int64_t j = 0; j < m; j++) {
        double s = ((double)j + 0.5) * r - 0.5;
        int64_t i = (int64_t)floor(s);
        int64_t next = i + 1 < n ? i + 1 : n - 2;
        dst[j * dst_step] = (1.0 - (s - (double)i)) * blurred[i] + (s - (double)i) * blurred[next];
    }
    free(blurred);
}

static void test_halving(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 120; k++) {
        dice d = {k, 0};
        int64_t h = roll(&d, 2, k < 60 ? 12 : 90), w = roll(&d, 2, k < 60 ? 12 : 90);
        int64_t h2 = h / 2, w2 = w / 2;
        float *src = random_plane(&d, h, w), *dst = malloc((size_t)(h2 * w2) * sizeof *dst);
        double *wide = malloc((size_t)(h * w) * sizeof *wide),
               *rows = malloc((size_t)(h2 * w) * sizeof *rows);
        double *expected = malloc((size_t)(h2 * w2) * sizeof *expected);
        assert_true(dst && wide && rows && expected);
        for (int64_t i = 0; i < h * w; i++) {
            wide[i] = (double)src[i];
        }
        for (int64_t x = 0; x < w; x++) {
            halve_line(wide + x, h, w, rows + x, w);
        }
        for (int64_t y = 0; y < h2; y++) {
            halve_line(rows + y * w, w, 1, expected + y * w2, 1);
        }
        assert_int_equal(us_patch_halve(NULL, (us_plane){src, h, w}, dst), USPLIT_OK);
        for (int64_t i = 0; i < h2 * w2; i++) {
            // 12 products and sums in float32 on values up to 9362
            check(fabs((double)dst[i] - expected[i]) < 9362.0 * 1e-6,
                  "case %u, %lld x %lld, pixel %lld: %.9g, not %.9g\n", k, (long long)h, (long long)w,
                  (long long)i, (double)dst[i], expected[i]);
        }
        free(expected);
        free(rows);
        free(wide);
        free(dst);
        free(src);
    }
}

static void test_streamed_halving(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 120; k++) {
        dice d = {500 + k, 0};
        int64_t h = roll(&d, 2, k < 60 ? 14 : 100), w = roll(&d, 2, 60);
        int64_t h2 = h / 2, w2 = w / 2;
        float *src = random_plane(&d, h, w), *whole = malloc((size_t)(h2 * w2) * sizeof *whole);
        float *band = malloc((size_t)(h2 * w2) * sizeof *band);
        assert_true(whole && band);
        assert_int_equal(us_patch_halve(NULL, (us_plane){src, h, w}, whole), USPLIT_OK);
        for (int64_t row = 0; row < h2;) {
            int64_t n = roll(&d, 1, h2 - row), first, rows;
            us_patch_halve_need(h, row, n, &first, &rows);
            check(first >= 0 && rows >= 1 && first + rows <= h, "case %u: rows %lld + %lld of %lld\n", k,
                  (long long)first, (long long)rows, (long long)h);
            // only the needed rows exist
            float *part = malloc((size_t)(rows * w) * sizeof *part);
            assert_non_null(part);
            memcpy(part, src + first * w, (size_t)(rows * w) * sizeof *part);
            assert_int_equal(us_patch_halve_rows(NULL, part, first, rows, h, w, row, n, band + row * w2),
                             USPLIT_OK);
            free(part);
            row += n;
        }
        check(memcmp(whole, band, (size_t)(h2 * w2) * sizeof *band) == 0, "case %u: %lld x %lld differs\n", k,
              (long long)h, (long long)w);
        free(band);
        free(whole);
        free(src);
    }
}

// ---- Cutting ------------------------------------------------------------------------------------

// Data section 3.3 for one axis: the place in the image of position i of a crop, -1: outside and constant.
static int64_t find_place(int64_t start, int64_t size, int64_t n, int64_t i, int reflect)
{
    int64_t first = start < 0 ? 0 : start, end = start + size < n ? start + size : n;
    if (first >= end) {
        return !reflect ? -1 : start < 0 ? 0 : n - 1;
    }
    int64_t at = start + i;
    if (!reflect) {
        return at >= first && at < end ? at : -1;
    }
    while (end - first > 1 && (at < first || at >= end)) {
        at = at < first ? 2 * first - at : 2 * (end - 1) - at;
    }
    return end - first == 1 ? first : at;
}

static void test_cutting(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 400; k++) {
        dice d = {1000 + k, 0};
        int64_t h = roll(&d, 1, 40), w = roll(&d, 1, 40), size = roll(&d, 1, 48), step = roll(&d, 1, 3);
        int64_t y0 = roll(&d, -size - 4, h + 4), x0 = roll(&d, -size - 4, w + 4);
        int n = (int)roll(&d, 1, 4), reflect = (int)roll(&d, 0, 1);
        us_plane planes[4];
        float *pixels[4];
        for (int c = 0; c < n; c++) {
            pixels[c] = random_plane(&d, h, w);
            planes[c] = (us_plane){pixels[c], h, w};
        }
        float *dst = malloc((size_t)(size * size * step) * sizeof *dst);
        assert_non_null(dst);
        us_patch_cut_mean(planes, n, y0, x0, size, reflect ? USPLIT_PADDING_REFLECT : USPLIT_PADDING_CONSTANT,
                          17.0f, 100.0f, 0.01f, dst, step);
        for (int64_t i = 0; i < size * size; i++) {
            int64_t y = find_place(y0, size, h, i / size, reflect),
                    x = find_place(x0, size, w, i % size, reflect);
            double v = y < 0 || x < 0 ? 17.0 : 0.0;
            for (int c = 0; c < n && y >= 0 && x >= 0; c++) {
                v += (double)pixels[c][y * w + x] / n;
            }
            double expected = (v - 100.0) * 0.01;
            check(fabs((double)dst[i * step] - expected) < 1e-4,
                  "case %u: %lld x %lld, crop of %lld at %lld, %lld: pixel %lld is %g, not %g\n", k,
                  (long long)h, (long long)w, (long long)size, (long long)y0, (long long)x0, (long long)i,
                  (double)dst[i * step], expected);
        }
        free(dst);
        for (int c = 0; c < n; c++) {
            free(pixels[c]);
        }
    }
}

// The context crop is around the same place: its centre is the native centre, halved and rounded down.
static void test_context_is_centred(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 2000; k++) {
        dice d = {2000 + k, 0};
        int64_t patch = 2 * roll(&d, 1, 128), start = roll(&d, -patch, 5000);
        int64_t centre = start + patch / 2;
        for (int level = 0; level < 8; level++) {
            int64_t at = us_patch_context_start(start, patch, level) + patch / 2;
            check(at == centre, "start %lld, patch %lld, level %d: centre %lld, not %lld\n", (long long)start,
                  (long long)patch, level, (long long)at, (long long)centre);
            centre = centre >= 0 ? centre / 2 : -((1 - centre) / 2);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        seed = strtoull(argv[1], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halving),
        cmocka_unit_test(test_streamed_halving),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_context_is_centred),
    };
    return cmocka_run_group_tests_name("patch_property", tests, NULL, NULL);
}
