// Calibration: the fit on made errors of known size and on its published definition; kept in files, removed by training,
// refused where hostile; applied by the tiler; and, on a small trained network, deviations that mean the error on frames
// that the fit has not seen.
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

#include "base/alloc.h"
#include "common/folder.h"
#include "common/must.h"
#include "image/calibrate.h"
#include "kernels/philox.h"
#include "net/model.h"
#include "unit/ckpt_edit.h"

// ---- The fit ----------------------------------------------------------------------------------------

enum { N = 200000 };
static float deviation[N], prediction[N], truth[N];
static uint32_t seed, at;

static double uniform(void)
{
    us_u32x4 r = us_philox(seed, at++, 0, 0, 0);
    return us_uniform53(r.v[0], r.v[1]);
}

// Deviations between 0.5 and 4 of some scale, rarely much more; errors Gaussian with deviation slope x d + offset.
static void make_errors(double scale, double slope, double offset)
{
    seed = 7;
    at = 0;
    for (int i = 0; i < N; i++) {
        double d = scale * (0.5 + 3.5 * uniform() * uniform());
        if (i % 40000 == 0) {
            d = 10 * scale;                             // 1 in 40000: one of the ends
        }
        double normal = sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
        deviation[i] = (float)d;
        truth[i] = (float)(1000 * scale * uniform());
        prediction[i] = truth[i] + (float)(normal * (slope * d + offset * scale));
    }
}

static us_calibrate_line fit(int n)
{
    us_calibrate c;
    us_calibrate_line line;
    must(us_calibrate_open(&c, NULL));
    for (int i = 0; i < n; i += 999) {                  // portions
        us_calibrate_add(&c, deviation + i, prediction + i, truth + i, n - i < 999 ? n - i : 999);
    }
    must(us_calibrate_fit(&c, 0, &line));
    us_calibrate_close(&c, NULL);
    return line;
}

// A bin's RMSE of m pixels has the relative error 1/sqrt(2m); with all pixels within a factor of 8 of each other in
// deviation, slope and offset follow to about 1 %.
static void recovers_the_line(void **state)
{
    (void)state;
    const double scale[] = {1, 50, 1e-3}, slope[] = {1, 2.5, 0.4}, offset[] = {0, 0.7, 1.5};
    for (int i = 0; i < 3; i++) {
        make_errors(scale[i], slope[i], offset[i]);
        us_calibrate_line line = fit(N);
        near(line.slope, slope[i], 0.02 * (slope[i] + offset[i]));
        near(line.offset, offset[i] * scale[i], 0.03 * (slope[i] + offset[i]) * scale[i]);
        double e = 0, d = 0;
        for (int k = 0; k < N; k++) {
            double x = (double)prediction[k] - (double)truth[k];
            e += x * x;
            d += (double)deviation[k] * (double)deviation[k];
        }
        near(line.rmse, sqrt(e / N), 1e-9 * line.rmse);
        near(line.deviation, sqrt(d / N), 1e-9 * line.deviation);
    }
}

// Two values of deviation: the line goes through both, the highest is in a bin, and nothing is cut.
static void two_points_make_a_line(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        deviation[i] = i % 2 ? 3 : 1;
        truth[i] = 0;
        prediction[i] = (float)((i % 4 < 2 ? 1 : -1) * (i % 2 ? 8 : 2));
    }
    us_calibrate_line line = fit(1000);
    near(line.slope, 3, 1e-9);
    near(line.offset, -1, 1e-9);
}

static void nothing_to_fit(void **state)
{
    (void)state;
    us_calibrate c;
    us_calibrate_line line;
    must(us_calibrate_open(&c, NULL));
    refused(us_calibrate_fit(&c, 1, &line), USPLIT_ERR_NUMERIC, "channel 1");
    for (int i = 0; i < 100; i++) {
        deviation[i] = 2;
        prediction[i] = (float)i;
        truth[i] = 0;
    }
    us_calibrate_add(&c, deviation, prediction, truth, 100);
    refused(us_calibrate_fit(&c, 0, &line), USPLIT_ERR_NUMERIC, "the same");
    for (int i = 0; i < 100; i++) {
        deviation[i] = (float)(100 - i);                // the surer, the more wrong
    }
    us_calibrate_add(&c, deviation, prediction, truth, 100);
    refused(us_calibrate_fit(&c, 0, &line), USPLIT_ERR_NUMERIC, "does not grow");
    us_calibrate_close(&c, NULL);
}

// ---- Models and files -------------------------------------------------------------------------------

typedef struct setup {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
} setup;

// Memory that is refused from the n-th request on; 0: never.
static int refuse_at, requests;

static void *give(size_t bytes, void *user)
{
    (void)user;
    requests++;
    return refuse_at > 0 && requests >= refuse_at ? NULL : malloc(bytes);
}

static void take_back(void *block, void *user)
{
    (void)user;
    free(block);
}

static setup make(void)
{
    setup s = {0};
    usplit_context_options co;
    usplit_critter_options cr;
    usplit_dataset_options ds;
    usplit_model_options mo;
    must(usplit_context_options_init(&co, sizeof co));
    co.threads = 1;
    co.device = "cpu";
    co.alloc = give;
    co.release = take_back;
    must(usplit_context_create(&s.context, &co));
    must(usplit_critter_options_init(&cr, sizeof cr));
    must(usplit_dataset_options_init(&ds, sizeof ds));
    cr.n_frames = 64;
    cr.size = 64;
    cr.n_curves = 3;
    cr.kinds = 1;
    ds.levels = 3;
    ds.validation_fraction = ds.test_fraction = 0.25;
    must(usplit_dataset_create_critters(&s.dataset, s.context, &cr, &ds));
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.levels = 2;
    mo.filters = 8;
    mo.z_dims[0] = 8;
    mo.patch = 32;
    must(usplit_model_create(&s.model, s.context, &mo));
    return s;
}

static void drop(setup *s)
{
    usplit_dataset_free(s->dataset);
    usplit_model_free(s->model);
    usplit_context_free(s->context);
}

static void train(setup *s, int64_t steps)
{
    usplit_trainer_options to;
    usplit_trainer *t = NULL;
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 4;
    to.max_steps = steps;
    to.learning_rate = 3e-3;
    to.max_validation_patches = 2;
    must(usplit_trainer_create(&t, s->model, s->dataset, &to));
    must(usplit_trainer_run(t, NULL, NULL));
    usplit_trainer_free(t);
}

static usplit_calibration some_calibration(void)
{
    return (usplit_calibration){.struct_size = sizeof(usplit_calibration), .samples = 5, .shifts = 1, .pixels = 1000,
                                .slope = {2, 1.5}, .offset = {0.25, -3}, .rmse = {9, 8}, .deviation = {4, 5},
                                .residual_score = 0.02, .residual_tail = 0.1, .residual_structure = 0.5};
}

static void kept_in_files(void **state)
{
    (void)state;
    setup s = make();
    train(&s, 1);
    usplit_calibration c = some_calibration(), got = {.struct_size = sizeof got};
    usplit_model_facts f = {.struct_size = sizeof f};
    usplit_model *loaded = NULL;
    refused(usplit_model_get_calibration(s.model, &got), USPLIT_ERR_STATE, "no calibration");
    must(usplit_model_save(s.model, in_folder("plain.h5")));
    must(usplit_model_set_calibration(s.model, &c));
    must(usplit_model_info(s.model, &f));
    assert_int_equal(f.has_calibration, 1);
    must(usplit_model_save(s.model, in_folder("calibrated.h5")));
    must(usplit_model_load(&loaded, s.context, in_folder("calibrated.h5")));
    must(usplit_model_get_calibration(loaded, &got));
    assert_memory_equal(&got, &c, sizeof c);
    usplit_model_free(loaded);
    must(usplit_model_load(&loaded, s.context, in_folder("plain.h5")));
    must(usplit_model_info(loaded, &f));
    assert_int_equal(f.has_calibration, 0);
    usplit_model_free(loaded);

    // what a parameter or a training changes is another network
    const char *name;
    int64_t shape[4], count = 1;
    int32_t n_dims;
    must(usplit_model_get_entry(s.model, 0, &name, shape, &n_dims));
    for (int i = 0; i < n_dims; i++) {
        count *= shape[i];
    }
    float *values = calloc((size_t)count, sizeof *values);
    must(usplit_model_get_parameter(s.model, name, values, count));
    must(usplit_model_set_parameter(s.model, name, values, count));
    free(values);
    refused(usplit_model_get_calibration(s.model, &got), USPLIT_ERR_STATE, "no calibration");
    must(usplit_model_set_calibration(s.model, &c));
    train(&s, 1);
    refused(usplit_model_get_calibration(s.model, &got), USPLIT_ERR_STATE, "no calibration");
    must(usplit_model_set_calibration(s.model, &c));
    must(usplit_model_set_calibration(s.model, NULL));
    refused(usplit_model_get_calibration(s.model, &got), USPLIT_ERR_STATE, "no calibration");
    drop(&s);
}

static void hostile_values(void **state)
{
    (void)state;
    setup s = make();
    train(&s, 1);
    usplit_calibration c = some_calibration();
    must(usplit_model_set_calibration(s.model, &c));
    must(usplit_model_save(s.model, in_folder("good.h5")));
    const double wrong[] = {NAN, INFINITY, -1};
    const char *paths[] = {"calibration/slope", "calibration/rmse", "calibration/deviation"};
    usplit_model *loaded = NULL;
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 3; i++) {
            assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), paths[p], 1, &wrong[i]));
            refused(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT, "calibration");
            assert_null(loaded);
        }
    }
    assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), "calibration/offset", 0, &wrong[0]));
    refused(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT, "calibration");
    const double over = 1.5;
    assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), "calibration/residual_structure", 0, &over));
    refused(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT, "calibration");
    int64_t none = 0;
    const char *counts[] = {"calibration/samples", "calibration/shifts", "calibration/pixels"};
    for (int i = 0; i < 3; i++) {
        assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), counts[i], 0, &none));
        refused(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT, counts[i]);
        assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("bad.h5"), counts[i], 0, NULL));
        refused(usplit_model_load(&loaded, s.context, in_folder("bad.h5")), USPLIT_ERR_FORMAT, counts[i]);
    }
    assert_true(edit_checkpoint(in_folder("good.h5"), in_folder("old.h5"), "calibration/", 0, NULL));
    must(usplit_model_load(&loaded, s.context, in_folder("old.h5")));    // as files were before
    assert_int_equal(loaded->has_calibration, 0);
    usplit_model_free(loaded);

    c.slope[1] = NAN;
    refused(usplit_model_set_calibration(s.model, &c), USPLIT_ERR_ARGUMENT, "slope[1]");
    c = some_calibration();
    c.samples = 0;
    refused(usplit_model_set_calibration(s.model, &c), USPLIT_ERR_ARGUMENT, "samples 0");
    refused(usplit_model_set_calibration(NULL, &c), USPLIT_ERR_ARGUMENT, "NULL");
    drop(&s);
}

// ---- Applied ----------------------------------------------------------------------------------------

enum { SIDE = 50 };

static float *split(const usplit_model *m, const usplit_tiler_options *o, usplit_tiler_result *result)
{
    static float pixels[SIDE * SIDE];
    float *out = calloc(4 * SIDE * SIDE, sizeof *out);
    usplit_image src, dst;
    usplit_tiler *t = NULL;
    for (int i = 0; i < SIDE * SIDE; i++) {
        pixels[i] = (float)(8 + 7 * sin(0.3 * (i % SIDE)) * cos(0.2 * (double)i / SIDE));
    }
    must(usplit_image_init(&src, sizeof src, pixels, USPLIT_TYPE_F32, 1, SIDE, SIDE, 1));
    must(usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_F32, 1, SIDE, SIDE, 4));
    must(usplit_tiler_create(&t, m, o));
    must(usplit_tiler_run(t, &src, &dst, result, NULL, NULL));
    usplit_tiler_free(t);
    return out;
}

static void applied_by_the_tiler(void **state)
{
    (void)state;
    setup s = make();
    train(&s, 1);
    usplit_calibration c = some_calibration();
    usplit_tiler_options o;
    usplit_tiler *t = NULL;
    usplit_tiler_result plain = {.struct_size = sizeof plain}, corrected = plain;
    must(usplit_tiler_options_init(&o, sizeof o));
    o.samples = 3;
    o.calibrated = 1;
    refused(usplit_tiler_create(&t, s.model, &o), USPLIT_ERR_ARGUMENT, "calibrated is 1");
    o.deviations = 1;
    refused(usplit_tiler_create(&t, s.model, &o), USPLIT_ERR_STATE, "no calibration");
    must(usplit_model_set_calibration(s.model, &c));
    o.calibrated = 2;
    refused(usplit_tiler_create(&t, s.model, &o), USPLIT_ERR_ARGUMENT, "calibrated is 2");
    o.calibrated = 0;
    float *a = split(s.model, &o, &plain);
    o.calibrated = 1;
    float *b = split(s.model, &o, &corrected);
    int cut = 0, kept = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        assert_memory_equal(a + 4 * i, b + 4 * i, 2 * sizeof *a);       // the means
        for (int k = 0; k < 2; k++) {
            float expected = (float)c.slope[k] * a[4 * i + 2 + k] + (float)c.offset[k];
            cut += expected < 0;
            kept += expected > 0;
            assert_true(a[4 * i + 2 + k] > 0 && b[4 * i + 2 + k] == (expected > 0 ? expected : 0));
        }
    }
    assert_true(cut > 0 && kept > 0);                                   // an offset below 0 cuts, at 0
    assert_true(plain.calibrated == 0 && plain.deviation_slope[1] == 1 && plain.deviation_offset[1] == 0);
    assert_true(corrected.calibrated == 1 && corrected.deviation_slope[1] == 1.5 && corrected.deviation_offset[1] == -3);
    free(a);
    free(b);
    drop(&s);
}

typedef struct seen {
    int64_t done, total;
    int calls, stop_at;
} seen;

static int32_t watch(const usplit_progress *p, void *user)
{
    seen *s = user;
    assert_true(p->done > s->done && p->done <= p->total && (s->total == 0 || s->total == p->total));
    s->done = p->done;
    s->total = p->total;
    return ++s->calls == s->stop_at;
}

// A test frame as it is has the residual that is usual for the model; with fine stripes in it, which neither channel
// has, more and with more structure.
static void third_structure(const setup *s, const usplit_calibration *usual)
{
    enum { SIZE = 64, AREA = SIZE * SIZE };
    static float a[AREA], b[AREA], x[AREA], out[2 * AREA];
    usplit_residual_facts f[2];
    usplit_tiler_options o;
    usplit_tiler *t = NULL;
    usplit_image src, dst;
    int64_t frames[64], n = 64;
    must(usplit_dataset_get_set(s->dataset, USPLIT_SET_TEST, frames, &n));
    must(usplit_dataset_get_frame(s->dataset, frames[0], 0, 0, a, NULL, NULL));
    must(usplit_dataset_get_frame(s->dataset, frames[0], 1, 0, b, NULL, NULL));
    must(usplit_tiler_options_init(&o, sizeof o));
    o.samples = 8;
    must(usplit_tiler_create(&t, s->model, &o));
    must(usplit_image_init(&src, sizeof src, x, USPLIT_TYPE_F32, 1, SIZE, SIZE, 1));
    must(usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_F32, 1, SIZE, SIZE, 2));
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < AREA; i++) {
            x[i] = (a[i] + b[i]) / 2 + (k == 1 && i / 3 % 2 ? 5.0f : 0);
        }
        f[k] = (usplit_residual_facts){.struct_size = sizeof f[k]};
        must(usplit_tiler_run(t, &src, &dst, NULL, NULL, NULL));
        must(usplit_image_residual(&src, &dst, NULL, INFINITY, NULL, &f[k]));
        print_message("# residual %.3g, tail %.3g, structure %.3g; usual %.3g, %.3g, %.3g\n", f[k].score, f[k].tail,
                      f[k].structure, usual->residual_score, usual->residual_tail, usual->residual_structure);
    }
    usplit_tiler_free(t);
    assert_true(f[0].score < 1.5 * usual->residual_score && f[1].score > 1.5 * f[0].score);
    assert_true(f[1].tail > f[0].tail);
}

// Fitted on the validation frames, the deviations of the test frames mean their error.
static void means_the_error_elsewhere(void **state)
{
    (void)state;
    setup s = make();
    train(&s, 1000);
    usplit_tiler_options o;
    usplit_calibration fitted = {.struct_size = sizeof fitted}, raw = fitted, corrected = fitted;
    seen progress = {0};
    must(usplit_tiler_options_init(&o, sizeof o));
    refused(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_VALIDATION, &o, &fitted, NULL, NULL),
            USPLIT_ERR_ARGUMENT, "samples");
    o.samples = 8;
    must(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_VALIDATION, &o, &fitted, watch, &progress));
    assert_true(progress.done == progress.total && progress.calls > 1);
    assert_true(fitted.samples == 8 && fitted.shifts == 1 && fitted.pixels == 16 * 64 * 64);
    must(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_TEST, &o, &raw, NULL, NULL));
    must(usplit_model_set_calibration(s.model, &fitted));
    o.calibrated = 1;
    must(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_TEST, &o, &corrected, NULL, NULL));
    for (int k = 0; k < 2; k++) {
        print_message("# channel %d: fitted %.3g x %+.3g; test frames: %.3g x %+.3g before, %.3g x %+.3g after; rmse "
                      "%.3g, deviation %.3g before, %.3g after\n", k, fitted.slope[k], fitted.offset[k], raw.slope[k],
                      raw.offset[k], corrected.slope[k], corrected.offset[k], raw.rmse[k], raw.deviation[k],
                      corrected.deviation[k]);
        near(corrected.rmse[k], raw.rmse[k], 0);        // the means are the same
        assert_true(fabs(corrected.slope[k] - 1) < fabs(raw.slope[k] - 1));
        assert_true(fabs(log(corrected.deviation[k] / corrected.rmse[k])) <
                    0.5 * fabs(log(raw.deviation[k] / raw.rmse[k])));
    }
    third_structure(&s, &fitted);
    progress = (seen){.stop_at = 2};
    size_t live = us_alloc_live();
    assert_int_equal(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_ALL, &o, &raw, watch, &progress),
                     USPLIT_ERR_CANCELLED);
    assert_int_equal(us_alloc_live(), live);
    o.cover = USPLIT_COVER_WHOLE_TILES;
    refused(usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_ALL, &o, &raw, NULL, NULL), USPLIT_ERR_ARGUMENT,
            "cover");
    refused(usplit_model_calibrate(s.model, s.dataset, 9, NULL, &raw, NULL, NULL), USPLIT_ERR_ARGUMENT, "set is 9");
    refused(usplit_model_calibrate(s.model, NULL, 0, NULL, &raw, NULL, NULL), USPLIT_ERR_ARGUMENT, "NULL");
    drop(&s);
}

// Wherever memory runs out: said so, nothing kept, the model as it was.
static void memory_runs_out(void **state)
{
    (void)state;
    setup s = make();
    train(&s, 1);
    usplit_tiler_options o;
    usplit_calibration out = {.struct_size = sizeof out};
    usplit_status status = USPLIT_ERR_MEMORY;
    must(usplit_tiler_options_init(&o, sizeof o));
    o.samples = 2;
    int failures = 0;
    size_t live = us_alloc_live();
    for (int n = 1; status == USPLIT_ERR_MEMORY; n++) {
        requests = 0;
        refuse_at = n;
        status = usplit_model_calibrate(s.model, s.dataset, USPLIT_SET_TEST, &o, &out, NULL, NULL);
        refuse_at = 0;
        failures += status == USPLIT_ERR_MEMORY;
        assert_int_equal(us_alloc_live(), live);
        n += n > 40 ? n / 4 : 0;                        // later ones are the frames', alike
    }
    assert_true(status == USPLIT_OK || status == USPLIT_ERR_NUMERIC);   // an untrained network may say nothing
    assert_true(failures > 20 && s.model->has_calibration == 0);
    drop(&s);
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"plain.h5", "calibrated.h5", "good.h5", "bad.h5", "old.h5"};
    return remove_files(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recovers_the_line),
        cmocka_unit_test(two_points_make_a_line),
        cmocka_unit_test(nothing_to_fit),
        cmocka_unit_test(kept_in_files),
        cmocka_unit_test(hostile_values),
        cmocka_unit_test(applied_by_the_tiler),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(means_the_error_elsewhere),
    };
    return cmocka_run_group_tests(tests, make_folder, tear_down);
}
