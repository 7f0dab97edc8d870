// Is an image like those of the training? The record against its definition; kept in files, old ones without it,
// hostile ones; what the tiler says of images like the training's, and of the same with another type, scale or offset.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common/folder.h"
#include "common/must.h"
#include "kernels/philox.h"
#include "net/model.h"
#include "unit/ckpt_edit.h"

enum { FRAMES = 12, SIDE = 48, AREA = SIDE * SIDE };

// Shapes of brightness `gain` on a background of 100 grey levels; frame and channel move them.
static void draw(float *dst, int frame, int channel, double gain)
{
    for (int i = 0; i < AREA; i++) {
        us_u32x4 r = us_philox((uint64_t)frame, (uint32_t)i, (uint32_t)channel, 0, 0);
        double x = i % SIDE + 3 * frame, y = (double)(i / SIDE);
        double shape = channel == 0 ? sin(0.3 * x) * sin(0.2 * y) : cos(0.15 * (x + y));
        dst[i] = (float)(100 + gain * (shape > 0 ? shape * shape : 0) + 5 * us_uniform53(r.v[0], r.v[1]));
    }
}

typedef struct setup {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
} setup;

// spread: how much the brightness of frames differs.
static setup make(int threads, int frames, double spread)
{
    setup s = {0};
    usplit_context_options co;
    usplit_dataset_options ds;
    usplit_model_options mo;
    usplit_trainer_options to;
    usplit_trainer *t = NULL;
    usplit_image images[2];
    float *pixels = calloc((size_t)frames * 2 * AREA, sizeof *pixels);
    must(usplit_context_options_init(&co, sizeof co));
    co.threads = threads;
    co.device = "cpu";
    must(usplit_context_create(&s.context, &co));
    must(usplit_dataset_options_init(&ds, sizeof ds));
    ds.levels = 3;
    ds.validation_fraction = ds.test_fraction = frames > 1 ? 0.25 : 0;
    for (int c = 0; c < 2; c++) {
        float *of = pixels + c * frames * AREA;
        for (int f = 0; f < frames; f++) {
            draw(of + f * AREA, f, c, 400 * (1 + spread * (f % 4 - 1.5)));
        }
        must(usplit_image_init(&images[c], sizeof images[c], of, USPLIT_TYPE_F32, frames, SIDE, SIDE, 1));
    }
    must(usplit_dataset_create(&s.dataset, s.context, images, 2, &ds));
    free(pixels);
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.levels = 2;
    mo.filters = 4;
    mo.z_dims[0] = 4;
    mo.patch = 16;
    must(usplit_model_create(&s.model, s.context, &mo));
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 2;
    must(usplit_trainer_create(&t, s.model, s.dataset, &to));
    usplit_trainer_free(t);
    return s;
}

static void drop(setup *s)
{
    usplit_dataset_free(s->dataset);
    usplit_model_free(s->model);
    usplit_context_free(s->context);
}

// ---- The record -------------------------------------------------------------------------------------

static void mix_frame(const setup *s, int64_t frame, float *dst)
{
    static float a[AREA], b[AREA];
    must(usplit_dataset_get_frame(s->dataset, frame, 0, 0, a, NULL, NULL));
    must(usplit_dataset_get_frame(s->dataset, frame, 1, 0, b, NULL, NULL));
    for (int i = 0; i < AREA; i++) {
        dst[i] = (a[i] + b[i]) / 2;
    }
}

static void moments(const float *v, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < AREA; i++) {
        sum += (double)v[i] / AREA;
    }
    for (int i = 0; i < AREA; i++) {
        squares += ((double)v[i] - sum) * ((double)v[i] - sum) / AREA;
    }
    *mean = sum;
    *deviation = sqrt(squares);
}

static void as_defined(void **state)
{
    (void)state;
    setup one = make(1, FRAMES, 0.2), two = make(3, FRAMES, 0.2);
    usplit_model_facts f = {.struct_size = sizeof f}, g = f;
    must(usplit_model_info(one.model, &f));
    must(usplit_model_info(two.model, &g));
    assert_memory_equal(&f, &g, sizeof f);              // threads change no bit
    int64_t frames[FRAMES], n = FRAMES;
    must(usplit_dataset_get_set(one.dataset, USPLIT_SET_TRAIN, frames, &n));
    assert_true(n < FRAMES && f.input_frames == n);
    double m[FRAMES], d[FRAMES], am = 0, al = 0, sm = 0, sl = 0;
    double low[2] = {1e9, 1e9}, high[2] = {0, 0};
    static float x[AREA];
    for (int i = 0; i < n; i++) {
        mix_frame(&one, frames[i], x);
        moments(x, &m[i], &d[i]);
        am += m[i] / (double)n;
        al += log(d[i]) / (double)n;
        low[0] = fmin(low[0], m[i]);
        high[0] = fmax(high[0], m[i]);
        low[1] = fmin(low[1], d[i]);
        high[1] = fmax(high[1], d[i]);
    }
    for (int i = 0; i < n; i++) {
        sm += (m[i] - am) * (m[i] - am) / (double)n;
        sl += (log(d[i]) - al) * (log(d[i]) - al) / (double)n;
    }
    const double mean[4] = {am, sqrt(sm), low[0], high[0]}, deviation[4] = {exp(al), sqrt(sl), low[1], high[1]};
    for (int i = 0; i < 4; i++) {                       // the mean of two channels is a float here
        near(f.frame_mean[i], mean[i], 1e-5 * mean[0]);
        near(f.frame_deviation[i], deviation[i], 1e-5 * deviation[0]);
    }
    drop(&one);
    drop(&two);
}

// Three channels, as a dataset of another kind: what the record is then.
static usplit_model_facts record_of(int32_t input, int32_t unpaired, usplit_model **model)
{
    enum { SOME = 8 };
    static float pixels[3][SOME * AREA];
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_trainer *t = NULL;
    usplit_dataset_options ds;
    usplit_model_options mo;
    usplit_trainer_options to;
    usplit_image images[3];
    usplit_model_facts f = {.struct_size = sizeof f};
    must(usplit_context_create(&context, NULL));
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < SOME; i++) {
            draw(pixels[c] + i * AREA, i, c % 2, 300 + 50 * c);
        }
        must(usplit_image_init(&images[c], sizeof images[c], pixels[c], USPLIT_TYPE_F32, SOME, SIDE, SIDE, 1));
    }
    must(usplit_dataset_options_init(&ds, sizeof ds));
    ds.levels = 3;
    ds.validation_fraction = ds.test_fraction = 0;
    ds.input = input;
    ds.unpaired = unpaired;
    must(usplit_dataset_create(&dataset, context, images, 3, &ds));
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.levels = 2;
    mo.filters = 4;
    mo.z_dims[0] = 4;
    mo.patch = 16;
    mo.channels = input == USPLIT_INPUT_MEASURED ? 2 : 3;
    must(usplit_model_create(model, context, &mo));
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 2;
    must(usplit_trainer_create(&t, *model, dataset, &to));
    usplit_trainer_free(t);
    must(usplit_model_info(*model, &f));
    if (input == USPLIT_INPUT_MEASURED) {       // the record is of the recorded images
        double mean = 0, m, d;
        static float x[AREA];
        for (int i = 0; i < SOME; i++) {
            must(usplit_dataset_get_frame(dataset, i, 2, 0, x, NULL, NULL));
            moments(x, &m, &d);
            mean += m / SOME;
        }
        near(f.frame_mean[0], mean, 1e-6 * mean);
    }
    usplit_dataset_free(dataset);
    usplit_context_free(context);
    return f;
}

static usplit_tiler_result split(const usplit_model *m, float *pixels, int frames, int channels);

static void other_kinds_of_data(void **state)
{
    (void)state;
    usplit_model *m[4];
    usplit_model_facts mean = record_of(USPLIT_INPUT_MEAN, 0, &m[0]), sum = record_of(USPLIT_INPUT_SUM, 0, &m[1]);
    for (int i = 0; i < 4; i++) {               // of three channels
        near(sum.frame_mean[i], 3 * mean.frame_mean[i], 1e-9 * sum.frame_mean[0]);
        near(sum.frame_deviation[i], (i == 1 ? 1 : 3) * mean.frame_deviation[i], 1e-9 * sum.frame_deviation[0]);
    }
    assert_true(record_of(USPLIT_INPUT_MEASURED, 0, &m[2]).input_frames == 8);
    assert_true(record_of(USPLIT_INPUT_MEAN, 1, &m[3]).input_frames == 0);
    static float x[AREA];
    draw(x, 3, 0, 300);
    assert_true(isnan(split(m[3], x, 1, 3).input_distance));
    for (int i = 0; i < 4; i++) {
        usplit_model_free(m[i]);
    }
}

// ---- Files ------------------------------------------------------------------------------------------

static void kept_in_files(void **state)
{
    (void)state;
    setup s = make(1, FRAMES, 0.2);
    usplit_model *loaded = NULL;
    usplit_model_facts f = {.struct_size = sizeof f}, g = f;
    must(usplit_model_save(s.model, in_folder("good.h5")));
    must(usplit_model_load(&loaded, s.context, in_folder("good.h5")));
    must(usplit_model_info(s.model, &f));
    must(usplit_model_info(loaded, &g));
    assert_true(g.input_frames == f.input_frames && g.input_frames > 0);
    assert_memory_equal(f.frame_mean, g.frame_mean, sizeof f.frame_mean);
    assert_memory_equal(f.frame_deviation, g.frame_deviation, sizeof f.frame_deviation);
    usplit_model_free(loaded);
    const double wrong[] = {NAN, INFINITY, -1};
    for (int i = 0; i < 3; i++) {
        assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), "inputs/frame_mean", 1, &wrong[i]));
        assert_int_equal(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT);
        assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), "inputs/frame_deviation", 0, &wrong[i]));
        assert_int_equal(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT);
    }
    int64_t none = 0;
    assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), "inputs/frames", 0, &none));
    assert_int_equal(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT);
    drop(&s);
}

// ---- What the tiler says ----------------------------------------------------------------------------

static usplit_tiler_result split(const usplit_model *m, float *pixels, int frames, int channels)
{
    usplit_tiler_options o;
    usplit_tiler *t = NULL;
    usplit_tiler_result r = {.struct_size = sizeof r};
    usplit_image src, dst;
    float *out = calloc((size_t)(frames * channels) * AREA, sizeof *out);
    must(usplit_tiler_options_init(&o, sizeof o));
    must(usplit_tiler_create(&t, m, &o));
    must(usplit_image_init(&src, sizeof src, pixels, USPLIT_TYPE_F32, frames, SIDE, SIDE, 1));
    must(usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_F32, frames, SIDE, SIDE, channels));
    must(usplit_tiler_run(t, &src, &dst, &r, NULL, NULL));
    usplit_tiler_free(t);
    free(out);
    return r;
}

static usplit_tiler_result split_changed(const setup *s, double gain, double offset)
{
    static float x[AREA];
    mix_frame(s, 1, x);                                 // a frame that was not trained on
    for (int i = 0; i < AREA; i++) {
        x[i] = (float)(gain * (double)x[i] + offset);
    }
    return split(s->model, x, 1, 2);
}

static void like_the_training(void **state)
{
    (void)state;
    const double spread[] = {0, 0.3};
    for (int i = 0; i < 2; i++) {
        setup s = make(1, FRAMES, spread[i]);
        static float x[AREA];
        for (int64_t f = 0; f < FRAMES; f++) {          // trained on or not
            double mean, deviation;
            mix_frame(&s, f, x);
            moments(x, &mean, &deviation);
            usplit_tiler_result r = split(s.model, x, 1, 2);
            near(r.input_mean, mean, 1e-5 * mean);
            near(r.input_deviation, deviation, 1e-5 * mean);
            if (r.input_unusual || !(r.input_distance < 3)) {
                fail_msg("frame %d, spread %g: distance %g", (int)f, spread[i], r.input_distance);
            }
        }
        drop(&s);
    }
}

static void unlike_the_training(void **state)
{
    (void)state;
    const int frames[] = {FRAMES, 1};                   // also where a single frame was trained on
    for (int i = 0; i < 2; i++) {
        setup s = make(1, frames[i] == 1 ? 1 : FRAMES, 0.1);
        if (frames[i] > 1) {
            const double gain[] = {1.0 / 255, 257, 1, 1, 0.1, 0, -1}, offset[] = {0, 0, 400, -400, 0, 200, 700};
            assert_int_equal(split_changed(&s, 1, 0).input_unusual, 0);
            for (int k = 0; k < 7; k++) {
                usplit_tiler_result r = split_changed(&s, gain[k], offset[k]);
                if (!r.input_unusual || !isfinite(r.input_distance)) {
                    fail_msg("gain %g, offset %g: distance %g", gain[k], offset[k], r.input_distance);
                }
            }
        } else {
            static float x[AREA];
            mix_frame(&s, 0, x);
            assert_int_equal(split(s.model, x, 1, 2).input_unusual, 0);
            for (int k = 0; k < AREA; k++) {
                x[k] /= 255;
            }
            assert_int_equal(split(s.model, x, 1, 2).input_unusual, 1);
        }
        drop(&s);
    }
}

// Of several frames the result tells the one least like the training, wherever it stands.
static void the_worst_frame_counts(void **state)
{
    (void)state;
    setup s = make(2, FRAMES, 0.1);
    static float x[3 * AREA], alone[AREA];
    for (int at = 0; at < 3; at++) {
        for (int f = 0; f < 3; f++) {
            mix_frame(&s, f, x + f * AREA);
        }
        for (int i = 0; i < AREA; i++) {
            alone[i] = x[at * AREA + i] += 300;
        }
        usplit_tiler_result all = split(s.model, x, 3, 2), one = split(s.model, alone, 1, 2);
        assert_int_equal(all.input_unusual, 1);
        assert_true(all.input_distance == one.input_distance && all.input_mean == one.input_mean);
    }
    mix_frame(&s, 1, alone);
    alone[17] = 1e7f;                                   // a hot pixel is clipped: no warning
    assert_int_equal(split(s.model, alone, 1, 2).input_unusual, 0);
    drop(&s);
}

// Files of before say nothing, and neither does the tiler.
static void without_a_record(void **state)
{
    (void)state;
    setup s = make(1, FRAMES, 0.1);
    usplit_model *old = NULL;
    usplit_model_facts f = {.struct_size = sizeof f};
    static float x[AREA];
    must(usplit_model_save(s.model, in_folder("good.h5")));
    assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("old.h5"), "inputs/", 0, NULL));
    must(usplit_model_load(&old, s.context, in_folder("old.h5")));
    must(usplit_model_info(old, &f));
    assert_true(f.input_frames == 0);
    usplit_tiler_result r = split(old, x, 1, 2);
    assert_true(isnan(r.input_distance) && r.input_unusual == 0 && r.input_mean == 0);
    usplit_model_free(old);
    drop(&s);
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"good.h5", "bad.h5", "old.h5"};
    return remove_files(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_defined),
        cmocka_unit_test(other_kinds_of_data),
        cmocka_unit_test(kept_in_files),
        cmocka_unit_test(like_the_training),
        cmocka_unit_test(unlike_the_training),
        cmocka_unit_test(the_worst_frame_counts),
        cmocka_unit_test(without_a_record),
    };
    return cmocka_run_group_tests(tests, make_folder, tear_down);
}
