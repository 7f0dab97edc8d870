// usplit eval's scores against the published evaluation written down again (data 6.1 to 6.3): targets clipped where
// training clipped them, normalised per channel, the last rows and columns left out, range of each frame's target, per
// frame and channel, then averaged.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/score.h"
#include "kernels/philox.h"

enum { FRAMES = 3, CHANNELS = 2, MOST = 60 * 60, DROP = 5 };
static const int64_t heights[FRAMES] = {48, 40, 33}, widths[FRAMES] = {37, 60, 48};
static const double clip_value = 700, means[CHANNELS] = {250, 310}, deviations[CHANNELS] = {90, 140};

// Grey levels, some above the clip value.
static float pixel(int64_t frame, int64_t channel, int64_t i)
{
    us_u32x4 r = us_philox((uint64_t)(10 * frame + channel), (uint32_t)i, 0, 0, 0);
    double x = (double)(i % widths[frame]), y = (double)i / (double)widths[frame];
    return (float)(300 + 200 * sin(0.2 * x + (double)channel) * cos(0.15 * y) + 250 * us_uniform53(r.v[0], r.v[1]));
}

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    (void)user;
    *height = heights[frame];
    *width = widths[frame];
    return 0;
}

static int32_t read_frame(int64_t frame, int64_t channel, float *dst, void *user)
{
    (void)user;
    for (int64_t i = 0; i < heights[frame] * widths[frame]; i++) {
        dst[i] = pixel(frame, channel, i);
    }
    return 0;
}

static const usplit_dataset_reader reader = {sizeof reader, FRAMES, CHANNELS, frame_size, read_frame, NULL, NULL};

static float predicted[FRAMES][CHANNELS * MOST];

static int take(int64_t frame, int64_t height, int64_t width, const float *planes, void *user)
{
    (void)user;
    assert_true(height == heights[frame] && width == widths[frame]);
    memcpy(predicted[frame], planes, (size_t)(CHANNELS * height * width) * sizeof *planes);
    return 0;
}

static usplit_model *make_model(void)
{
    usplit_context *context = NULL;
    usplit_context_options c = {.struct_size = sizeof c, .device = "cpu", .threads = 2};
    usplit_model *model = NULL;
    usplit_model_options o;
    usplit_model_normalisation n = {.struct_size = sizeof n, .clip_value = clip_value, .input_mean = 290,
                                    .input_deviation = 100};
    memcpy(n.target_mean, means, sizeof means);
    memcpy(n.target_deviation, deviations, sizeof deviations);
    assert_int_equal(usplit_context_create(&context, &c), USPLIT_OK);
    assert_int_equal(usplit_model_options_init(&o, sizeof o), USPLIT_OK);
    o.variant = USPLIT_VARIANT_LEAN;
    o.levels = o.lc_count = 2;
    o.filters = o.z_dims[0] = 4;
    o.patch = 16;
    assert_int_equal(usplit_model_create(&model, context, &o), USPLIT_OK);
    assert_int_equal(usplit_model_set_normalisation(model, &n), USPLIT_OK);
    usplit_context_free(context);
    return model;
}

// ---- The evaluation again ---------------------------------------------------------------------------

typedef struct image {
    int64_t h, w;
    double target[MOST], prediction[MOST];      // normalised, cropped
} image;

static void make_image(image *m, int64_t frame, int c, const float *prediction, int drop)
{
    m->h = heights[frame] - drop;
    m->w = widths[frame] - drop;
    for (int64_t y = 0; y < m->h; y++) {
        for (int64_t x = 0; x < m->w; x++) {
            int64_t i = y * widths[frame] + x;
            m->target[y * m->w + x] = (fmin(pixel(frame, c, i), clip_value) - means[c]) / deviations[c];
            m->prediction[y * m->w + x] = ((double)prediction[i] - means[c]) / deviations[c];
        }
    }
}

static double mean_of(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * (b ? b[i] : 1) / (double)n;
    }
    return sum;
}

static double range_of(const image *m)
{
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < m->h * m->w; i++) {
        low = fmin(low, m->target[i]);
        high = fmax(high, m->target[i]);
    }
    return high - low;
}

// The closed form with Pearson's correlation.
static double ri_psnr(const image *m)
{
    int64_t n = m->h * m->w;
    double g = mean_of(m->target, NULL, n), p = mean_of(m->prediction, NULL, n);
    double gg = mean_of(m->target, m->target, n) - g * g, pp = mean_of(m->prediction, m->prediction, n) - p * p;
    double gp = mean_of(m->target, m->prediction, n) - g * p;
    return 20 * log10(range_of(m)) - 10 * log10(gg * (1 - gp * gp / (gg * pp)));
}

static double psnr(const image *m)
{
    double square = 0;
    for (int64_t i = 0; i < m->h * m->w; i++) {
        square += pow(m->target[i] - m->prediction[i], 2) / (double)(m->h * m->w);
    }
    return 10 * log10(range_of(m) * range_of(m) / square);
}

static double ssim(const image *m)
{
    double sum = 0, c1 = pow(0.01 * range_of(m), 2), c2 = pow(0.03 * range_of(m), 2);
    for (int64_t y = 3; y < m->h - 3; y++) {
        for (int64_t x = 3; x < m->w - 3; x++) {
            double g[49], p[49];
            for (int k = 0; k < 49; k++) {
                int64_t i = (y + k / 7 - 3) * m->w + x + k % 7 - 3;
                g[k] = m->target[i];
                p[k] = m->prediction[i];
            }
            double mg = mean_of(g, NULL, 49), mp = mean_of(p, NULL, 49), f = 49.0 / 48;
            double vg = f * (mean_of(g, g, 49) - mg * mg), vp = f * (mean_of(p, p, 49) - mp * mp);
            double v = f * (mean_of(g, p, 49) - mg * mp);
            sum += (2 * mg * mp + c1) * (2 * v + c2) / ((mg * mg + mp * mp + c1) * (vg + vp + c2));
        }
    }
    return sum / (double)((m->h - 6) * (m->w - 6));
}

static void same(double is, double expected)
{
    if (!(fabs(is - expected) <= 1e-4)) {       // planes are float: 6e-8 of 4 deviations, against errors near 1
        fail_msg("%.9g, expected %.9g", is, expected);
    }
}

static void check_evaluation(int drop)
{
    static image m;
    static float mixed[MOST];
    usplit_model *model = make_model();
    score s;
    score_options o = {.quiet = 1, .take = take, .drop_last = drop};
    assert_int_equal(usplit_tiler_options_init(&o.tiler, sizeof o.tiler), USPLIT_OK);
    assert_int_equal(score_frames(&s, model, &reader, &o), CLI_OK);
    for (int c = 0; c < CHANNELS; c++) {
        double sums[4] = {0};
        for (int64_t f = 0; f < FRAMES; f++) {
            const score_values *v = &s.prediction[f * CHANNELS + c], *in = &s.input[f * CHANNELS + c];
            int64_t n = heights[f] * widths[f];
            make_image(&m, f, c, predicted[f] + c * n, drop);
            same(v->ri_psnr, ri_psnr(&m));
            same(v->psnr, psnr(&m));
            same(v->ssim, ssim(&m));
            sums[0] += ri_psnr(&m) / FRAMES;
            sums[1] += psnr(&m) / FRAMES;
            sums[2] += ssim(&m) / FRAMES;
            usplit_image view;
            usplit_image_seam_facts seams = {.struct_size = sizeof seams};
            assert_int_equal(usplit_image_init(&view, sizeof view, predicted[f] + c * n, USPLIT_TYPE_F32, 1,
                                               heights[f] - drop, widths[f] - drop, 1), USPLIT_OK);
            view.stride_row = widths[f] * 4;
            assert_int_equal(usplit_image_seams(&view, 8, 0, 0, &seams), USPLIT_OK);    // pad 4 of 16: tiles of 8
            same(v->seam, seams.ratio);
            same(v->seam_error, seams.ratio_error);
            sums[3] += seams.ratio / FRAMES;
            for (int64_t i = 0; i < n; i++) {   // the mean of the clipped channels, as the network is given it
                mixed[i] = (float)((fmin(pixel(f, 0, i), clip_value) + fmin(pixel(f, 1, i), clip_value)) / 2);
            }
            make_image(&m, f, c, mixed, drop);
            same(in->ri_psnr, ri_psnr(&m));
            same(in->ssim, ssim(&m));
            assert_true(isnan(in->seam));
        }
        same(s.mean_prediction[c].ri_psnr, sums[0]);
        same(s.mean_prediction[c].psnr, sums[1]);
        same(s.mean_prediction[c].ssim, sums[2]);
        same(s.mean_prediction[c].seam, sums[3]);
    }
    score_free(&s);
    usplit_model_free(model);
}

static void test_evaluation(void **state)
{
    (void)state;
    check_evaluation(0);
    check_evaluation(DROP);
}

static void test_nothing_left(void **state)
{
    (void)state;
    usplit_model *model = make_model();
    score s;
    score_options o = {.quiet = 1, .drop_last = 33};
    assert_int_equal(usplit_tiler_options_init(&o.tiler, sizeof o.tiler), USPLIT_OK);
    assert_int_equal(score_frames(&s, model, &reader, &o), CLI_USAGE);
    assert_non_null(strstr(cli_error_line(), "--drop-last 33 leaves nothing of frame 3, which is 48 x 33"));
    cli_error_clear();
    score_free(&s);
    usplit_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests_name("scores", tests, NULL, NULL);
}
