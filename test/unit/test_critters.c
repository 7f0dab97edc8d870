// SinosoidalCritters: the acceptance curves of data section 12.1, the statistics of 1.8, seeds, bad options.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "data/critters.h"
#include "data/dataset.h"

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

// One row of 12.1: S = 64, A = 8, T = 21.
typedef struct curve_case {
    us_critter_curve curve;
    double joiner_fraction; // 0: two waves
    int samples;
    double lowest, highest; // of the bare curve
    double sum, max;
    int max_row, max_column, non_zero;
    double at_20, at_32;
} curve_case;

static const curve_case cases[] = {
    {{{.06, .31, 0}, 10, 0, 0},
     0,
     639,
     -1.05619246,
     0.99999928,
     10054.779339,
     14.499287,
     19,
     47,
     1931,
     4.344605,
     2.567168},
    {{{.06, .31, 0}, 10, 0, 1},
     0,
     639,
     -1.05619246,
     0.99999928,
     9834.623263,
     14.499287,
     16,
     17,
     1909,
     8.633894,
     2.873652},
    {{{.13, .61, 0}, 12.5, 7.25, 0},
     0,
     699,
     -2.98394766,
     0.99999757,
     12683.268456,
     20.721338,
     20,
     50,
     2162,
     0,
     10.533097},
    {{{.06, .61, 0}, 20, -9.5, 1},
     0,
     719,
     -1.16355939,
     0.99999928,
     12746.207483,
     20.995663,
     26,
     9,
     1928,
     12.999489,
     6.761808},
    {{{.06, .01, .31}, 10, 0, 0},
     .1,
     637,
     -1.07060632,
     0.99999928,
     10140.008404,
     15.394793,
     19,
     50,
     1892,
     4.494257,
     3.328883},
    {{{.13, .01, .61}, 12.5, 7.25, 0},
     .1,
     707,
     -2.91309044,
     0.99999757,
     11711.199894,
     19.987578,
     20,
     53,
     2088,
     0,
     10.345146},
    {{{.06, .01, .61}, 20, -9.5, 1},
     .2,
     717,
     -1.15027382,
     0.99999928,
     10892.946120,
     20.304480,
     29,
     7,
     1821,
     4.583883,
     4.526262},
};

static void test_acceptance_curves(void **state)
{
    (void)state;
    enum { S = 64 };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const curve_case *c = &cases[k];
        us_critter_setup setup;
        us_critters_default(&setup);
        setup.size = S;
        setup.three_waves = c->joiner_fraction > 0.0;
        setup.joiner_fraction = c->joiner_fraction;
        assert_int_equal(us_critters_samples(&setup, &c->curve), c->samples);
        double x[1024], y[1024], low = INFINITY, high = -INFINITY;
        us_critters_wave(&setup, &c->curve, x, y);
        for (int i = 0; i < c->samples; i++) {
            assert_near(x[i], 0.1 * i, 1e-12);
            low = fmin(low, y[i]);
            high = fmax(high, y[i]);
        }
        assert_near(low, c->lowest, 1e-8);
        assert_near(high, c->highest, 1e-8);
        double *image = calloc(S * S, sizeof *image);
        assert_non_null(image);
        assert_int_equal(us_critters_add(NULL, &setup, &c->curve, image), USPLIT_OK);
        double sum = 0.0;
        int best = 0, non_zero = 0;
        for (int i = 0; i < S * S; i++) {
            sum += image[i];
            non_zero += image[i] != 0.0;
            best = image[i] > image[best] + 1e-9 ? i : best;
        }
        assert_near(sum, c->sum, 1e-6);
        assert_int_equal(non_zero, c->non_zero);
        assert_near(image[best], c->max, 1e-6);
        assert_int_equal(best / S, c->max_row);
        assert_int_equal(best % S, c->max_column);
        assert_near(image[20 * S + 20], c->at_20, 1e-6);
        assert_near(image[32 * S + 32], c->at_32, 1e-6);
        free(image);
    }
}

// Expected from 150 frames of the published generator (data section 1.8).
typedef struct statistics_case {
    int joiner, size, frames;
    double zero, mean, deviation, clip, clipped_mean, clipped_deviation;
} statistics_case;

static void check_statistics(usplit_context *context, const statistics_case *c)
{
    usplit_critter_options critters;
    usplit_dataset_options options;
    usplit_dataset *d;
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    assert_int_equal(usplit_critter_options_init(&critters, sizeof critters), USPLIT_OK);
    assert_int_equal(usplit_dataset_options_init(&options, sizeof options), USPLIT_OK);
    critters.n_frames = c->frames;
    critters.size = c->size;
    critters.joiner = c->joiner;
    critters.seed = 17;
    options.validation_fraction = options.test_fraction = 0.0;
    options.levels = 1;
    assert_int_equal(usplit_dataset_create_critters(&d, context, &critters, &options), USPLIT_OK);
    assert_int_equal(usplit_dataset_info(d, &facts), USPLIT_OK);
    int64_t zeroes = 0, n = 0;
    double worst_mean = 0.0;
    for (int64_t f = 0; f < facts.n_frames; f++) {
        for (int64_t ch = 0; ch < 2; ch++) {
            us_plane p = us_dataset_plane(d, f, ch, 0);
            for (int64_t i = 0; i < p.height * p.width; i++, n++) {
                zeroes += p.data[i] == 0.0f;
            }
            worst_mean = fmax(worst_mean, fabs(facts.target_mean[ch] - c->clipped_mean));
        }
    }
    // The published error of the mean (0.7 %) is for 150 frames; four of those for fewer frames.
    double error = 4.0 * 0.007 * sqrt(150.0 / c->frames);
    assert_near((double)zeroes / (double)n, c->zero, error);
    assert_near(facts.input_mean, c->clipped_mean, error * c->clipped_mean);
    assert_near(facts.input_deviation, c->clipped_deviation, error * c->clipped_deviation);
    assert_near(facts.clip_value, c->clip, 2.0 * error * c->clip);
    assert_true(worst_mean <= 1.5 * error * c->clipped_mean);
    assert_int_equal(facts.padding, USPLIT_PADDING_CONSTANT);
    usplit_dataset_free(d);
}

static void test_statistics(void **state)
{
    static const statistics_case expected[4] = {
        {0, 128, 60, 0.155, 7.47, 6.45, 26.0, 7.46, 6.41},
        {0, 256, 40, 0.424, 3.85, 5.19, 19.97, 3.85, 5.18},
        {1, 128, 60, 0.165, 6.43, 5.67, 22.9, 6.42, 5.63},
        {1, 256, 40, 0.445, 3.60, 5.00, 19.9, 3.60, 4.98},
    };
    for (int i = 0; i < 4; i++) {
        check_statistics(*state, &expected[i]);
    }
}

static void test_seeds(void **state)
{
    enum { FRAMES = 4, S = 64 };
    usplit_critter_options critters;
    usplit_dataset_options options;
    usplit_dataset *a, *b;
    float pixels_a[S * S], pixels_b[S * S];
    assert_int_equal(usplit_critter_options_init(&critters, sizeof critters), USPLIT_OK);
    assert_int_equal(usplit_dataset_options_init(&options, sizeof options), USPLIT_OK);
    critters.size = S;
    critters.n_frames = FRAMES;
    critters.n_curves = 3;
    options.clip_quantile = 1.0;
    options.padding = USPLIT_PADDING_REFLECT; // ignored
    assert_int_equal(usplit_dataset_create_critters(&a, *state, &critters, &options), USPLIT_OK);
    critters.n_frames = FRAMES - 1; // a frame does not depend on how many there are
    assert_int_equal(usplit_dataset_create_critters(&b, *state, &critters, &options), USPLIT_OK);
    for (int ch = 0; ch < 2; ch++) {
        assert_int_equal(usplit_dataset_get_frame(a, 2, ch, 0, pixels_a, NULL, NULL), USPLIT_OK);
        assert_int_equal(usplit_dataset_get_frame(b, 2, ch, 0, pixels_b, NULL, NULL), USPLIT_OK);
        assert_memory_equal(pixels_a, pixels_b, sizeof pixels_a);
    }
    usplit_dataset_free(b);
    critters.seed = 1;
    assert_int_equal(usplit_dataset_create_critters(&b, *state, &critters, &options), USPLIT_OK);
    assert_int_equal(usplit_dataset_get_frame(b, 2, 1, 0, pixels_b, NULL, NULL), USPLIT_OK);
    assert_memory_not_equal(pixels_a, pixels_b, sizeof pixels_a);
    usplit_dataset_free(b);
    usplit_dataset_free(a);
}

static void test_bad_options(void **state)
{
    usplit_critter_options good;
    assert_int_equal(usplit_critter_options_init(&good, sizeof good), USPLIT_OK);
    good.n_frames = 3;
    for (int i = 0; i < 15; i++) {
        usplit_critter_options c = good;
        usplit_dataset *d = (usplit_dataset *)&c;
        switch (i) {
        case 0:
            c.n_frames = 0;
            break;
        case 1:
            c.size = -1;
            break;
        case 2:
            c.size = INT64_MAX;
            break;
        case 3:
            c.n_curves = 0;
            break;
        case 4:
            c.n_curves = 8;
            break; // 16 rows each do not fit into 115
        case 5:
            c.thickness = 20;
            break;
        case 6:
            c.thickness = -3;
            break;
        case 7:
            c.joiner = 2;
            break;
        case 8:
            c.joiner_fraction = 0.1;
            break; // without a joiner
        case 9:
            c.joiner = 1;
            c.joiner_fraction = 1.5;
            break;
        case 10:
            c.amplitude = NAN;
            break;
        case 11:
            c.max_vertical_shift = 1.5;
            break;
        case 12:
            c.max_horizontal_shift = -0.1;
            break;
        case 13:
            c.struct_size = 0;
            break;
        default:
            c.joiner = 1;
            c.joiner_fraction = NAN;
            break;
        }
        assert_int_equal(usplit_dataset_create_critters(&d, *state, &c, NULL), USPLIT_ERR_ARGUMENT);
        assert_null(d);
    }
    assert_near(us_critters_joiner_fraction(128), 0.2, 0.0);
    assert_near(us_critters_joiner_fraction(256), 0.1, 0.0);
    for (int64_t size = 501; size < 3000; size++) {
        double pixels = floor(us_critters_joiner_fraction(size) * (double)size);
        assert_true(pixels == 25.0);
    }
}

static int start(void **state)
{
    usplit_context *context;
    *state = NULL;
    int failed = usplit_context_create(&context, NULL) != USPLIT_OK;
    *state = context;
    return failed;
}

static int stop(void **state)
{
    usplit_context_free(*state);
    return us_alloc_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acceptance_curves),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests_name("critters", tests, start, stop);
}
