// The dataset: acceptance values of data section 12.2, the order and places of patches, frames of different
// sizes, lifetimes, bad input, refused allocations.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "data/dataset_impl.h"

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

// ---- The frames of 12.2: [frame][channel][64][64] -----------------------------------------------

enum { S = 64, FRAMES = 2, P = 16, LEVELS = 4 };

static float pattern(int y, int x)
{
    return (float)((7 * y + 3 * x) % 23) + 0.5f * (float)((y * x) % 10);
}

static void make_pattern(float *pixels)
{
    for (int f = 0; f < FRAMES; f++) {
        for (int i = 0; i < S * S; i++) {
            float first = pattern(i / S, i % S), second = 0.5f * pattern(S - 1 - i / S, i % S) + 2.0f;
            pixels[(f * 2 + 0) * S * S + i] = (f ? 1.5f : 1.0f) * first;
            pixels[(f * 2 + 1) * S * S + i] = (f ? 1.5f : 1.0f) * second;
        }
    }
}

static usplit_dataset *make_dataset(usplit_context *context, int padding)
{
    static float pixels[FRAMES * 2 * S * S];
    make_pattern(pixels);
    usplit_image view;
    usplit_dataset_options o;
    usplit_dataset *d = NULL;
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, FRAMES, S, S, 2),
                     USPLIT_OK);
    view.stride_column = 4;
    view.stride_row = 4 * S;
    view.stride_channel = 4 * S * S;
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.validation_fraction = o.test_fraction = 0.0;
    o.levels = LEVELS;
    o.padding = padding;
    assert_int_equal(usplit_dataset_create(&d, context, &view, 1, &o), USPLIT_OK);
    memset(pixels, 0xFF, sizeof pixels); // the caller's pixels are not kept
    return d;
}

static void test_acceptance_statistics(void **state)
{
    usplit_dataset *d = make_dataset(*state, USPLIT_PADDING_REFLECT);
    usplit_dataset_facts f = {.struct_size = sizeof f};
    assert_int_equal(usplit_dataset_info(d, &f), USPLIT_OK);
    assert_near(f.clip_value, 37.5, 1e-12);
    assert_near(f.input_mean, 13.242401, 2e-6);
    assert_near(f.input_deviation, 7.8596406, 2e-6);
    assert_near(f.target_mean[0], 15.987518, 2e-6);
    assert_near(f.target_deviation[0], 9.232488, 2e-6);
    assert_near(f.target_mean[1], 10.497284, 2e-6);
    assert_near(f.target_deviation[1], 4.820554, 2e-6);
    assert_true(f.n_frames == 2 && f.n_train == 2 && f.n_validation == 0 && f.n_test == 0);
    assert_true(f.height == S && f.width == S && f.n_channels == 2 && f.levels == LEVELS);
    assert_true(f.bytes == 4 * 2 * 2 * (64 * 64 + 32 * 32 + 16 * 16 + 8 * 8));
    static const double pyramid[3][4] = {
        {6.254953, 11.891519, 8.821215, 20.080433},
        {11.113527, 13.597095, 8.647305, 17.945889},
        {12.668439, 12.839453, 8.493876, 19.268036},
    };
    for (int k = 1; k < LEVELS; k++) {
        float level[32 * 32];
        int64_t h, w;
        assert_int_equal(usplit_dataset_get_frame(d, 0, 0, k, level, &h, &w), USPLIT_OK);
        assert_true(h == S >> k && w == S >> k);
        assert_near(level[0], pyramid[k - 1][0], 2e-6);
        assert_near(level[1], pyramid[k - 1][1], 2e-6);
        assert_int_equal(usplit_dataset_get_frame(d, 0, 1, k, level, NULL, NULL), USPLIT_OK);
        assert_near(level[3 * w + 2], pyramid[k - 1][2], 2e-6);
        assert_int_equal(usplit_dataset_get_frame(d, 1, 0, k, level, NULL, NULL), USPLIT_OK);
        assert_near(level[h * w - 1], pyramid[k - 1][3], 2e-6);
    }
    usplit_dataset_free(d);
}

typedef struct patch_case {
    int centre; // grid of G = 8 around the cells; 0: top-left grid of G = 16
    int constant;
    int item;
    double input[3][LEVELS]; // at (0,0), (8,8), (15,15)
    double target[2];        // raw, at (8,8)
} patch_case;

#define OUT -1.684861
static const patch_case patch_cases[] = {
    {1,
     0,
     0,
     {{.160007, -.309690, -.371523, -.343526},
      {.160007, -.441553, -.332239, -.341357},
      {-.158074, -.336634, -.309718, -.331499}},
     {20, 9}},
    {1,
     0,
     1,
     {{1.082441, .377895, .284687, .325906},
      {1.082441, .180101, .344073, .330393},
      {.605320, .337480, .377853, .343100}},
     {30, 13.5}},
    {1,
     0,
     77,
     {{-.396634, .535304, .382825, .353313},
      {.319048, .272790, .316284, .337531},
      {1.416426, .432586, .340941, .333265}},
     {27, 4.5}},
    {1,
     0,
     127,
     {{.223623, .093968, .284687, .327195},
      {-.492058, .050157, .219240, .343100},
      {1.130153, .042455, .377853, .330393}},
     {3, 15.75}},
    {1,
     1,
     0,
     {{OUT, OUT, OUT, OUT},
      {.160007, -.441553, -.332239, -.341357},
      {-.158074, -.336634, -.309718, -.331499}},
     {20, 9}},
    {1,
     1,
     127,
     {{.223623, .093968, .284687, OUT}, {-.492058, .050157, .219240, .343100}, {OUT, OUT, OUT, OUT}},
     {3, 15.75}},
    {0,
     0,
     0,
     {{-1.430396, -.067554, -.347777, -.331499},
      {-.158074, -.067554, -.354138, -.343282},
      {-.221690, -.361006, -.289495, -.343526}},
     {13, 11}},
    {0,
     0,
     9,
     {{.748456, .741100, .379097, .332409},
      {.414472, .513419, .318438, .333265},
      {.366760, .598853, .396325, .337531}},
     {13.5, 19.5}},
    {0,
     0,
     31,
     {{1.511850, .264107, .320736, .327195},
      {.080487, .463754, .424198, .343100},
      {.032775, .767345, .408188, .330393}},
     {16.5, 11.25}},
};

static void test_acceptance_patches(void **state)
{
    usplit_dataset *d[2] = {make_dataset(*state, USPLIT_PADDING_REFLECT),
                            make_dataset(*state, USPLIT_PADDING_CONSTANT)};
    for (size_t i = 0; i < sizeof patch_cases / sizeof patch_cases[0]; i++) {
        const patch_case *c = &patch_cases[i];
        const usplit_dataset *set = d[c->constant];
        float input[LEVELS * P * P], target[P * P * 2];
        if (c->centre) {
            int cell = c->item / FRAMES;
            assert_int_equal(us_dataset_patch(set, c->item % FRAMES, cell / 8 * 8 - 4, cell % 8 * 8 - 4, P,
                                              LEVELS, input, target),
                             USPLIT_OK);
        } else {
            assert_int_equal(us_dataset_grid_patch(set, USPLIT_SET_TRAIN, c->item, P, LEVELS, input, target),
                             USPLIT_OK);
        }
        const int place[3] = {0, 8 * P + 8, 15 * P + 15};
        for (int k = 0; k < LEVELS; k++) {
            for (int p = 0; p < 3; p++) {
                assert_near(input[k * P * P + place[p]], c->input[p][k], 2e-6);
            }
        }
        const us_statistics *s = us_dataset_statistics(set);
        for (int ch = 0; ch < 2; ch++) {
            double raw = (double)target[place[1] * 2 + ch] * s->target_deviation[ch] + s->target_mean[ch];
            assert_near(raw, c->target[ch], 1e-5);
        }
    }
    usplit_dataset_free(d[0]);
    usplit_dataset_free(d[1]);
}

// ---- Quantile and moments -----------------------------------------------------------------------

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void test_quantile(void **state)
{
    usplit_context *context = *state;
    float v[3 * 50], sorted[3 * 50];
    us_plane planes[3];
    uint32_t seed = 1;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 150; i++) {
            seed = seed * 1664525u + 1013904223u;
            float u = (float)(seed >> 8) / 16777216.0f - 0.5f;
            v[i] = round % 4 == 0   ? floorf(u * 6.0f)
                   : round % 4 == 1 ? u * 1e-30f
                   : round % 4 == 2 ? u * 1e30f
                                    : u;
        }
        v[0] = -0.0f;
        memcpy(sorted, v, sizeof v);
        qsort(sorted, 150, sizeof sorted[0], compare_floats);
        for (int i = 0; i < 3; i++) {
            planes[i] = (us_plane){v + 50 * i, 5, 10};
        }
        const double q[7] = {0.0, 0.1, 0.37, 0.5, 0.99, 0.995, 1.0};
        for (int k = 0; k < 7; k++) {
            double got, t = q[k] * 149.0;
            int low = (int)floor(t), high = low < 149 ? low + 1 : low;
            double expected = sorted[low] + (t - low) * ((double)sorted[high] - (double)sorted[low]);
            assert_int_equal(us_data_quantile(&context->allocator, context->pool, planes, 3, q[k], &got),
                             USPLIT_OK);
            assert_true(got == expected);
        }
    }
}

// ---- Order and places of an epoch ---------------------------------------------------------------

static void test_permutation(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 400; n += n < 40 ? 1 : 37) {
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            char seen[400] = {0};
            for (int64_t i = 0; i < n; i++) {
                int64_t at = us_data_permute(n, 5, epoch, i);
                assert_true(at >= 0 && at < n);
                assert_int_equal(seen[at]++, 0);
            }
        }
    }
    // All 24 orders of 4 items about equally often: chi-square of 23 degrees of freedom under 60.
    int counts[256] = {0};
    const int epochs = 4800;
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        int code = 0;
        for (int64_t i = 0; i < 4; i++) {
            code = code * 4 + (int)us_data_permute(4, 99, epoch, i);
        }
        counts[code]++;
    }
    double chi = 0.0;
    int kinds = 0;
    for (int i = 0; i < 256; i++) {
        if (counts[i]) {
            kinds++;
            chi += (counts[i] - epochs / 24.0) * (counts[i] - epochs / 24.0) / (epochs / 24.0);
        }
    }
    assert_int_equal(kinds, 24);
    assert_true(chi < 60.0);
}

// Frames whose pixels say where they are: 1000 frame + row + column / 256 (+ 7 channel).
typedef struct sized {
    int64_t height[8], width[8];
    int fail_size, fail_read; // frame whose call fails, -1: none
    int constant;             // channel without spread, -1: none
    int bad;                  // frame with a NaN, -1: none
} sized;

static int32_t sized_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const sized *s = user;
    *height = s->height[frame];
    *width = s->width[frame];
    return frame == s->fail_size ? 3 : 0;
}

static int32_t sized_read(int64_t frame, int64_t channel, float *dst, void *user)
{
    const sized *s = user;
    for (int64_t i = 0; i < s->height[frame] * s->width[frame]; i++) {
        dst[i] = (float)(1000 * frame + i / s->width[frame]) + (float)(i % s->width[frame]) / 256.0f +
                 7.0f * (float)channel;
        dst[i] = channel == s->constant ? 2.5f : dst[i];
    }
    if (frame == s->bad && channel == 1) {
        dst[s->width[frame] + 3] = NAN;
    }
    return frame == s->fail_read ? -9 : 0;
}

static usplit_status make_sized(usplit_dataset **d, usplit_context *context, const sized *s, int64_t n_frames,
                                int64_t n_channels, const usplit_dataset_options *options)
{
    sized copy = *s;
    usplit_dataset_reader reader = {sizeof reader, n_frames, n_channels, sized_size, sized_read, &copy, NULL};
    return usplit_dataset_create_reader(d, context, &reader, options);
}

static usplit_dataset_options all_train(int levels)
{
    usplit_dataset_options o;
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.validation_fraction = o.test_fraction = 0.0;
    o.clip_quantile = 1.0;
    o.levels = levels;
    return o;
}

// Frame and position back from the value of a target pixel of channel 0.
static void locate(const usplit_dataset *d, float normalised, int64_t *frame, int64_t *y, int64_t *x)
{
    const us_statistics *s = us_dataset_statistics(d);
    double raw = (double)normalised * s->target_deviation[0] + s->target_mean[0];
    raw = round(raw * 256.0) / 256.0;
    *frame = (int64_t)floor(raw / 1000.0);
    *y = (int64_t)floor(raw - 1000.0 * (double)*frame);
    *x = (int64_t)round((raw - floor(raw)) * 256.0);
}

static const sized mixed = {{20, 9, 16, 41}, {33, 30, 24, 8}, -1, -1, -1, -1}; // patch 8: 8, 3, 6, 5 cells

static void test_items_of_frames_of_different_sizes(void **state)
{
    usplit_dataset *d;
    usplit_dataset_options o = all_train(2);
    assert_int_equal(make_sized(&d, *state, &mixed, 4, 3, &o), USPLIT_OK);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_TRAIN, 8), 8 + 3 + 6 + 5);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_VALIDATION, 8), 0);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_TRAIN, 40), 0);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_TRAIN, 0), 0);
    const int cells[4] = {8, 3, 6, 5};
    float target[64 * 3];
    int64_t item = 0, frame, y, x;
    for (int round = 0; round < 8; round++) { // round-robin as long as a frame has cells left
        for (int f = 0; f < 4; f++) {
            if (round < cells[f]) {
                assert_int_equal(us_dataset_grid_patch(d, USPLIT_SET_TRAIN, item++, 8, 1, NULL, target),
                                 USPLIT_OK);
                locate(d, target[0], &frame, &y, &x);
                int64_t columns = mixed.width[f] / 8;
                assert_true(frame == f && y == round / columns * 8 && x == round % columns * 8);
            }
        }
    }
    assert_int_equal(us_dataset_grid_patch(d, USPLIT_SET_TRAIN, item, 8, 1, NULL, target),
                     USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_dataset_grid_patch(d, USPLIT_SET_TRAIN, -1, 8, 1, NULL, target), USPLIT_ERR_ARGUMENT);
    // an epoch draws every frame as often as it has cells
    int drawn[4] = {0};
    for (int64_t i = 0; i < item; i++) {
        assert_int_equal(us_dataset_train_patch(d, 3, 7, i, 8, 1, NULL, target), USPLIT_OK);
        locate(d, target[0], &frame, &y, &x);
        drawn[frame]++;
    }
    assert_true(drawn[0] == 8 && drawn[1] == 3 && drawn[2] == 6 && drawn[3] == 5);
    usplit_dataset_free(d);
}

static void test_training_positions(void **state)
{
    const sized one = {{12, 12}, {8, 8}, -1, -1, -1, -1};
    usplit_dataset *d;
    usplit_dataset_options o = all_train(1);
    assert_int_equal(make_sized(&d, *state, &one, 2, 2, &o), USPLIT_OK);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_TRAIN, 8), 2);
    int rows[4] = {0}, first[2] = {0};
    float target[64 * 2], again[64 * 2], input[64];
    for (int64_t epoch = 0; epoch < 1000; epoch++) {
        int64_t sum = 0;
        for (int64_t item = 0; item < 2; item++) {
            int64_t frame, y, x;
            assert_int_equal(us_dataset_train_patch(d, 42, epoch, item, 8, 1, input, target), USPLIT_OK);
            locate(d, target[0], &frame, &y, &x);
            assert_true(y >= 0 && y < 4 && x == 0); // 12 - 8 - 1, and the patch fills the width
            rows[y]++;
            sum += frame;
            first[frame] += item == 0;
        }
        assert_int_equal(sum, 1);
    }
    for (int i = 0; i < 4; i++) {
        assert_true(abs(rows[i] - 500) < 100); // deviation 19
    }
    assert_true(abs(first[0] - 500) < 80); // deviation 16
    assert_int_equal(us_dataset_train_patch(d, 42, 3, 1, 8, 1, input, target), USPLIT_OK);
    assert_int_equal(us_dataset_train_patch(d, 42, 3, 1, 8, 1, NULL, again), USPLIT_OK);
    assert_memory_equal(target, again, sizeof target);
    // the input is the mean of the channels, normalised with the pooled statistics
    const us_statistics *s = us_dataset_statistics(d);
    for (int i = 0; i < 64; i++) {
        double a = (double)target[2 * i] * s->target_deviation[0] + s->target_mean[0];
        double b = (double)target[2 * i + 1] * s->target_deviation[1] + s->target_mean[1];
        assert_near(input[i], (0.5 * (a + b) - s->input_mean) / s->input_deviation, 1e-5);
    }
    assert_int_equal(us_dataset_train_patch(d, 0, 0, 2, 8, 1, input, target), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_dataset_train_patch(d, 0, 0, 0, 8, 2, input, target), USPLIT_ERR_SHAPE);
    assert_int_equal(us_dataset_patch(d, 2, 0, 0, 8, 1, input, target), USPLIT_ERR_ARGUMENT);
    usplit_dataset_free(d);
}

// Lists out of order, and a frame that no list has.
static void test_frames_know_their_set(void **state)
{
    usplit_dataset *d;
    usplit_dataset_options o = all_train(1);
    const int64_t train[2] = {3, 1}, test[1] = {0};
    const int32_t expected[4] = {USPLIT_SET_TEST, USPLIT_SET_TRAIN, USPLIT_SET_ALL, USPLIT_SET_TRAIN};
    o.train_frames = train;
    o.n_train_frames = 2;
    o.test_frames = test;
    o.n_test_frames = 1;
    assert_int_equal(make_sized(&d, *state, &mixed, 4, 3, &o), USPLIT_OK);
    for (int64_t f = 0; f < 4; f++) {
        assert_true(us_dataset_in_set(d, USPLIT_SET_ALL, f));
        for (int32_t set = USPLIT_SET_TRAIN; set <= USPLIT_SET_TEST; set++) {
            assert_int_equal(us_dataset_in_set(d, set, f), set == expected[f]);
        }
    }
    usplit_dataset_free(d);
}

static void test_pooled_statistics_of_three_channels(void **state)
{
    usplit_dataset *d;
    usplit_dataset_options o = all_train(1);
    const int64_t train[2] = {3, 1};
    o.train_frames = train;
    o.n_train_frames = 2;
    assert_int_equal(make_sized(&d, *state, &mixed, 4, 3, &o), USPLIT_OK);
    double mean = 0.0, square = 0.0, channel[3] = {0.0};
    int64_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int f = 1; f < 4; f += 2) {
            for (int c = 0; c < 3; c++) {
                us_plane p = us_dataset_plane(d, f, c, 0);
                for (int64_t i = 0; i < p.height * p.width; i++) {
                    n += pass == 0;
                    mean += pass == 0 ? (double)p.data[i] : 0.0;
                    channel[c] += pass == 0 ? (double)p.data[i] : 0.0;
                    square += pass == 1 ? pow((double)p.data[i] - mean, 2.0) : 0.0;
                }
            }
        }
        mean = pass == 0 ? mean / (double)n : mean;
    }
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    assert_int_equal(usplit_dataset_info(d, &facts), USPLIT_OK);
    assert_near(facts.input_mean, mean, 1e-9);
    assert_near(facts.input_deviation, sqrt(square / (double)n), 1e-9);
    for (int c = 0; c < 3; c++) {
        assert_near(facts.target_mean[c], channel[c] / ((double)n / 3.0), 1e-9);
    }
    assert_true(isinf(facts.clip_value));
    assert_true(facts.height == 20 && facts.width == 33 && facts.n_train == 2);
    int64_t frames[2], count = 0;
    assert_int_equal(usplit_dataset_get_set(d, USPLIT_SET_TRAIN, NULL, &count), USPLIT_OK);
    assert_int_equal(count, 2);
    assert_int_equal(usplit_dataset_get_set(d, USPLIT_SET_TRAIN, frames, &count), USPLIT_OK);
    assert_true(frames[0] == 3 && frames[1] == 1);
    count = 3;
    assert_int_equal(usplit_dataset_get_set(d, USPLIT_SET_ALL, frames, &count), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_dataset_get_set(d, 4, NULL, &count), USPLIT_ERR_ARGUMENT);
    usplit_dataset_free(d);
}

// ---- Bad input ----------------------------------------------------------------------------------

static void expect(usplit_status status, usplit_status expected, usplit_dataset *const *d, const char *words)
{
    if (status != expected || !strstr(usplit_error_message(), words)) {
        print_message("status %d, expected %d; message: %s\n", status, expected, usplit_error_message());
    }
    assert_int_equal(status, expected);
    assert_true(d == NULL || *d == NULL);
    assert_non_null(strstr(usplit_error_message(), words));
}

static void test_bad_readers(void **state)
{
    usplit_dataset *d = NULL;
    usplit_dataset_options o = all_train(2);
    sized s = mixed;
    s.fail_size = 2;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_CALLBACK, &d,
           "frame_size returned 3 for frame 2");
    s = mixed;
    s.fail_read = 1;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_CALLBACK, &d,
           "read returned -9 for frame 1, channel 0");
    s = mixed;
    s.bad = 3;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_NUMERIC, &d,
           "frame 3, channel 1: the pixel at row 1, column 3");
    s = mixed;
    s.constant = 1;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "channel 1 is constant (2.5)");
    s = mixed;
    s.height[1] = 0;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_SHAPE, &d, "frame 1 is 0 x 30");
    s.height[1] = INT64_MAX;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_SHAPE, &d, "frame 1");
    s = mixed;
    o.levels = 5;
    expect(make_sized(&d, *state, &s, 4, 2, &o), USPLIT_ERR_SHAPE, &d, "frame 1 is 9 x 30, too small for 5");
    o = all_train(2);
    expect(make_sized(&d, *state, &s, 0, 2, &o), USPLIT_ERR_ARGUMENT, &d, "n_frames is 0");
    expect(make_sized(&d, *state, &s, INT64_MAX, 2, &o), USPLIT_ERR_ARGUMENT, &d, "n_frames");
    expect(make_sized(&d, *state, &s, 4, 1, &o), USPLIT_ERR_ARGUMENT, &d, "1 channels; accepted: 2 to 8");
    expect(make_sized(&d, *state, &s, 4, 9, &o), USPLIT_ERR_ARGUMENT, &d, "9 channels");
    expect(usplit_dataset_create_reader(&d, *state, NULL, &o), USPLIT_ERR_ARGUMENT, &d, "reader is NULL");
    usplit_dataset_reader empty = {.struct_size = sizeof empty, .n_frames = 1, .n_channels = 2};
    expect(usplit_dataset_create_reader(&d, *state, &empty, &o), USPLIT_ERR_ARGUMENT, &d,
           "frame_size is NULL");
    expect(usplit_dataset_create_reader(NULL, *state, &empty, &o), USPLIT_ERR_ARGUMENT, NULL, "out is NULL");
    expect(usplit_dataset_create_reader(&d, NULL, &empty, &o), USPLIT_ERR_ARGUMENT, &d, "context is NULL");
}

static void test_bad_options(void **state)
{
    usplit_dataset *d = NULL;
    usplit_dataset_options o = all_train(2);
    o.levels = 0;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "levels is 0");
    o.levels = 14;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d,
           "levels is 14; accepted: 1 to 13");
    o = all_train(2);
    o.padding = 7;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "padding is 7");
    o = all_train(2);
    o.padding_value = 1e300;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "padding_value");
    o = all_train(2);
    o.clip_quantile = NAN;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "clip_quantile");
    o.clip_quantile = 0.0;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "clip_quantile is 0");
    o = all_train(2);
    o.validation_fraction = 0.5;
    o.test_fraction = 0.5;
    expect(make_sized(&d, *state, &mixed, 4, 2, &o), USPLIT_ERR_ARGUMENT, &d, "no training frames");
    struct {
        usplit_dataset_options known;
        int64_t more;
    } newer = {all_train(2), 1};
    newer.known.struct_size = sizeof newer;
    expect(make_sized(&d, *state, &mixed, 4, 2, &newer.known), USPLIT_ERR_UNSUPPORTED, &d, "options");
    newer.more = 0;
    assert_int_equal(make_sized(&d, *state, &mixed, 4, 2, &newer.known), USPLIT_OK);
    usplit_dataset_free(d);
}

static void test_bad_images(void **state)
{
    static float pixels[2 * S * S * 2];
    for (int i = 0; i < 2 * S * S * 2; i++) {
        pixels[i] = (float)(i % 97);
    }
    usplit_dataset *d = NULL;
    usplit_dataset_options o = all_train(2);
    usplit_image v[3];
    assert_int_equal(usplit_image_init(&v[0], sizeof v[0], pixels, USPLIT_TYPE_F32, 2, S, S, 1), USPLIT_OK);
    assert_int_equal(usplit_image_init(&v[1], sizeof v[1], pixels, USPLIT_TYPE_F32, 2, S, S / 2, 1),
                     USPLIT_OK);
    assert_int_equal(usplit_image_init(&v[2], sizeof v[2], pixels, USPLIT_TYPE_F32, 1, S, S, 2), USPLIT_OK);
    expect(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_ERR_SHAPE, &d,
           "images[1] has 2 frames of 64 x 32");
    expect(usplit_dataset_create(&d, *state, v, 1, &o), USPLIT_ERR_ARGUMENT, &d, "1 channels");
    expect(usplit_dataset_create(&d, *state, v, 0, &o), USPLIT_ERR_ARGUMENT, &d, "n_images is 0");
    expect(usplit_dataset_create(&d, *state, v, 9, &o), USPLIT_ERR_ARGUMENT, &d, "n_images is 9");
    expect(usplit_dataset_create(&d, *state, NULL, 2, &o), USPLIT_ERR_ARGUMENT, &d, "images is NULL");
    v[1] = v[0];
    v[1].channels = 2;
    v[1].stride_column *= 2;
    expect(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_ERR_SHAPE, &d, "images[1] has 2 channels");
    v[1] = v[0];
    v[1].data = NULL;
    expect(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_ERR_ARGUMENT, &d, "images[1]: data is NULL");
    v[1] = v[0];
    v[1].data = pixels + 2 * S * S;
    pixels[3 * S * S + 5 * S + 6] = INFINITY;
    expect(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_ERR_NUMERIC, &d,
           "images[1]: frame 1, channel 0: the pixel at row 5, column 6 is inf");
    pixels[3 * S * S + 5 * S + 6] = 0.0f;
    assert_int_equal(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_OK);
    float *plane = malloc(S * S * sizeof *plane);
    assert_int_equal(usplit_dataset_get_frame(d, 1, 1, 0, plane, NULL, NULL), USPLIT_OK);
    assert_memory_equal(plane, pixels + 3 * S * S, S * S * sizeof *plane);
    free(plane);
    assert_int_equal(usplit_dataset_get_frame(d, 2, 0, 0, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_dataset_get_frame(d, 0, 2, 0, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_dataset_get_frame(d, 0, 0, 2, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(usplit_dataset_get_frame(NULL, 0, 0, 0, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT);
    usplit_dataset_free(d);
    usplit_dataset_free(NULL);
    d = (usplit_dataset *)pixels;
    expect(usplit_dataset_open(&d, *state, NULL, NULL, &o), USPLIT_ERR_ARGUMENT, &d, "file is NULL");
    d = (usplit_dataset *)pixels;
    assert_int_equal(usplit_dataset_open(&d, *state, "/nonexistent/frames.h5", NULL, &o), USPLIT_ERR_FILE);
    assert_null(d);
}

// ---- Files and threads --------------------------------------------------------------------------

static void write_frames(const char *file, const uint16_t *pixels)
{
    const hsize_t dims[4] = {FRAMES, 2, S, S};
    hid_t f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(4, dims, NULL);
    hid_t set = H5Dcreate2(f, "frames", H5T_STD_U16LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, pixels) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(f);
}

static void assert_same_datasets(const usplit_dataset *a, const usplit_dataset *b)
{
    assert_memory_equal(&a->statistics, &b->statistics, sizeof a->statistics);
    for (int64_t f = 0; f < a->n_frames; f++) {
        for (int k = 0; k < a->levels; k++) {
            us_plane p = us_dataset_plane(a, f, 1, k), q = us_dataset_plane(b, f, 1, k);
            assert_memory_equal(p.data, q.data, (size_t)(p.height * p.width) * sizeof *p.data);
        }
    }
}

// The same pixels from a file, from a view, and with another number of threads.
static void test_file_and_threads(void **state)
{
    static uint16_t pixels[FRAMES * 2 * S * S];
    for (int i = 0; i < FRAMES * 2 * S * S; i++) {
        pixels[i] = (uint16_t)(i * 2654435761u >> 18);
    }
    const char *folder = getenv("TMPDIR");
    char file[512];
    snprintf(file, sizeof file, "%s/usplit_test_frames_XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    close(fd);
    write_frames(file, pixels);
    usplit_dataset_options o = all_train(4);
    o.clip_quantile = 0.9;
    usplit_image view;
    assert_int_equal(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_U16, FRAMES, S, S, 2),
                     USPLIT_OK);
    view.stride_column = 2;
    view.stride_row = 2 * S;
    view.stride_channel = 2 * S * S;
    usplit_dataset *a, *b, *c;
    assert_int_equal(usplit_dataset_create(&a, *state, &view, 1, &o), USPLIT_OK);
    assert_int_equal(usplit_dataset_open(&b, *state, file, NULL, &o), USPLIT_OK);
    assert_same_datasets(a, b);
    usplit_dataset_free(b);
    b = a;
    assert_int_not_equal(usplit_dataset_open(&b, *state, file, "/other", &o), USPLIT_OK);
    assert_null(b);
    unlink(file);
    usplit_context_options options;
    usplit_context *many;
    assert_int_equal(usplit_context_options_init(&options, sizeof options), USPLIT_OK);
    options.threads = 5;
    options.device = "cpu";
    assert_int_equal(usplit_context_create(&many, &options), USPLIT_OK);
    assert_int_equal(usplit_dataset_create(&c, many, &view, 1, &o), USPLIT_OK);
    usplit_context_free(many);
    assert_same_datasets(a, c);
    usplit_dataset_free(c);
    usplit_dataset_free(a);
}

// ---- Lifetime and refused allocations -----------------------------------------------------------

static void test_dataset_keeps_its_context(void **state)
{
    (void)state;
    usplit_context *context;
    size_t live = us_alloc_live();
    assert_int_equal(usplit_context_create(&context, NULL), USPLIT_OK);
    usplit_dataset *d = make_dataset(context, USPLIT_PADDING_REFLECT);
    usplit_context_free(context);
    us_dataset_retain(d);
    usplit_dataset_free(d);
    float input[P * P];
    assert_int_equal(us_dataset_patch(d, 0, 0, 0, P, 1, input, NULL), USPLIT_OK);
    usplit_dataset_free(d);
    assert_int_equal(us_alloc_live(), live);
}

typedef struct meter {
    long left; // allocations granted before one is refused; negative: all
} meter;

static void *metered_alloc(size_t bytes, void *user)
{
    meter *m = user;
    if (m->left == 0) {
        return NULL;
    }
    m->left--;
    return malloc(bytes);
}

static void metered_release(void *block, void *user)
{
    (void)user;
    free(block);
}

static usplit_status make_kind(usplit_dataset **d, usplit_context *context, int kind)
{
    usplit_dataset_options o = all_train(3);
    o.clip_quantile = 0.995;
    if (kind == 0) {
        const int64_t train[1] = {0};
        o.train_frames = train;
        o.n_train_frames = 1;
        return make_sized(d, context, &mixed, 4, 2, &o);
    }
    if (kind == 2) {                // unpaired
        static float pixels[2][20 * 30];
        usplit_image v[2];
        for (int i = 0; i < 20 * 30; i++) {
            pixels[0][i] = pixels[1][i] = (float)(i % 17);
        }
        assert_int_equal(usplit_image_init(&v[0], sizeof v[0], pixels[0], USPLIT_TYPE_F32, 1, 20, 30, 1), USPLIT_OK);
        assert_int_equal(usplit_image_init(&v[1], sizeof v[1], pixels[1], USPLIT_TYPE_F32, 2, 12, 25, 1), USPLIT_OK);
        o.unpaired = 1;
        return usplit_dataset_create(d, context, v, 2, &o);
    }
    if (kind == 3) {
        o.input = USPLIT_INPUT_MEASURED;
        return make_sized(d, context, &mixed, 4, 3, &o);
    }
    usplit_critter_options c;
    assert_int_equal(usplit_critter_options_init(&c, sizeof c), USPLIT_OK);
    c.n_frames = 2;
    c.size = 48;
    c.n_curves = 2;
    return usplit_dataset_create_critters(d, context, &c, &o);
}

static void test_refused_allocations(void **state)
{
    (void)state;
    meter m = {-1};
    usplit_context_options options;
    usplit_context *context;
    assert_int_equal(usplit_context_options_init(&options, sizeof options), USPLIT_OK);
    options.alloc = metered_alloc;
    options.release = metered_release;
    options.alloc_user = &m;
    options.threads = 1;
    options.device = "cpu";
    assert_int_equal(usplit_context_create(&context, &options), USPLIT_OK);
    for (int kind = 0; kind < 4; kind++) {
        size_t live = us_alloc_live();
        long k = 0;
        for (;; k++) {
            usplit_dataset *d = (usplit_dataset *)&m;
            m.left = k;
            usplit_status status = make_kind(&d, context, kind);
            m.left = -1;
            if (status == USPLIT_OK) {
                usplit_dataset_free(d);
                break;
            }
            assert_int_equal(status, USPLIT_ERR_MEMORY);
            assert_null(d);
            assert_int_equal(us_alloc_live(), live);
        }
        assert_true(k > 10);
        assert_int_equal(us_alloc_live(), live);
    }
    usplit_context_free(context);
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
        cmocka_unit_test(test_acceptance_statistics),
        cmocka_unit_test(test_acceptance_patches),
        cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_items_of_frames_of_different_sizes),
        cmocka_unit_test(test_training_positions),
        cmocka_unit_test(test_frames_know_their_set),
        cmocka_unit_test(test_pooled_statistics_of_three_channels),
        cmocka_unit_test(test_bad_readers),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_bad_images),
        cmocka_unit_test(test_file_and_threads),
        cmocka_unit_test(test_dataset_keeps_its_context),
        cmocka_unit_test(test_refused_allocations),
    };
    return cmocka_run_group_tests_name("dataset", tests, start, stop);
}
