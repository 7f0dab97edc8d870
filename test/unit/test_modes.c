// Training in every mode of data: each learns, resumes to the bit, says in its file what its input was, and refuses to
// be resumed as something else. A tiny network on squares of random brightness, large ones and single pixels.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/ckpt.h"
#include "common/folder.h"
#include "common/must.h"
#include "kernels/philox.h"
#include "train/trainer.h"

// test/cuda builds this file once more for the other backend.
#ifndef TEST_TAKE_DEVICE
#define TEST_TAKE_DEVICE(context) ((void)(context))
#endif

enum { TEST_FILTERS = 8, TEST_STEPS = 400 };
enum { FRAMES = 6, SIDE = 48 };

typedef struct mode {
    const char *name;
    int input, unpaired, centring, augment, fixed_targets;
    double uncorrelated, low, high;
} mode;

static const mode modes[] = {
    {"published", 0, 0, 0, 0, 0, 0, 1, 1},
    {"sum", USPLIT_INPUT_SUM, 0, 0, 0, 0, 0, 1, 1},
    {"measured", USPLIT_INPUT_MEASURED, 0, 0, 0, 0, 0, 1, 1},
    {"measured, turned", USPLIT_INPUT_MEASURED, 0, 1, 1, 0, 0, 1, 1},
    {"unpaired", 0, 1, 0, 0, 0, 0, 1, 1},
    {"unpaired sum, weights, turned", USPLIT_INPUT_SUM, 1, 1, 1, 0, 0, 0.5, 1},
    {"uncorrelated, weights, fixed targets", 0, 0, 0, 0, 1, 0.5, 0.5, 1.5},
    {"exact", 0, 0, 1, 0, 0, 0, 1, 1},
};
enum { N_MODES = sizeof modes / sizeof modes[0] };

// ---- Data -------------------------------------------------------------------------------------------

typedef struct source {
    const mode *m;
    int64_t own[2];
} source;

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const source *s = user;
    *height = SIDE;
    *width = s->m->unpaired ? SIDE + 4 * frame : SIDE;
    return 0;
}

// Squares of 8 pixels in channel 0, single ones in channel 1: alike however they are turned. A measured image is made of 0.7
// and 0.4 of them and an offset.
static float square(int64_t frame, int64_t channel, int64_t y, int64_t x)
{
    int64_t side = channel == 0 ? 8 : 1;
    us_u32x4 r = us_philox(77, (uint32_t)frame, (uint32_t)channel, (uint32_t)(y / side), (uint32_t)(x / side));
    return 100.0f + 200.0f * us_uniform24(r.v[0]);
}

static int32_t frame_read(int64_t frame, int64_t channel, float *dst, void *user)
{
    int64_t h, w;
    frame_size(frame, &h, &w, user);
    for (int64_t i = 0; i < h * w; i++) {
        dst[i] = channel < 2 ? square(frame, channel, i / w, i % w)
                 : 0.7f * square(frame, 0, i / w, i % w) + 0.4f * square(frame, 1, i / w, i % w) + 30.0f;
    }
    return 0;
}

typedef struct setup {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
    usplit_trainer *trainer;
} setup;

static usplit_trainer_options training(const mode *m)
{
    usplit_trainer_options to;
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 5;
    to.seed = 3;
    to.learning_rate = 3e-3;
    to.max_epochs = 1000;
    to.max_validation_patches = 4;
    to.augment = m->augment;
    to.fixed_targets = m->fixed_targets;
    to.uncorrelated = m->uncorrelated;
    for (int c = 0; c < 2; c++) {
        to.weight_low[c] = m->low;
        to.weight_high[c] = m->high;
    }
    return to;
}

static usplit_status try_make(setup *s, const mode *m, int threads, const usplit_trainer_options *to)
{
    usplit_context_options co;
    usplit_dataset_options o;
    usplit_model_options mo;
    source from = {m, {2, FRAMES - 2}};
    usplit_dataset_reader r = {.struct_size = sizeof r, .n_frames = FRAMES, .frame_size = frame_size, .read = frame_read,
                               .n_channels = m->input == USPLIT_INPUT_MEASURED ? 3 : 2, .user = &from,
                               .channel_frames = m->unpaired ? from.own : NULL};
    const int64_t train[] = {0, 3, 4, 5}, validation[] = {1, 2};
    *s = (setup){NULL};
    must(usplit_context_options_init(&co, sizeof co));
    co.device = "cpu";          // a device comes in by TEST_TAKE_DEVICE
    co.threads = threads;
    must(usplit_context_create(&s->context, &co));
    TEST_TAKE_DEVICE(s->context);
    must(usplit_dataset_options_init(&o, sizeof o));
    o.levels = 3;
    o.input = m->input;
    o.unpaired = m->unpaired;
    o.centring = m->centring;
    o.train_frames = train;
    o.n_train_frames = 4;
    o.validation_frames = validation;
    o.n_validation_frames = 2;
    must(usplit_dataset_create_reader(&s->dataset, s->context, &r, &o));
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.family = USPLIT_FAMILY_HAE;
    mo.variant = USPLIT_VARIANT_LEAN;
    mo.levels = mo.lc_count = 2;
    mo.filters = mo.z_dims[0] = TEST_FILTERS;
    mo.patch = 16;
    must(usplit_model_create(&s->model, s->context, &mo));
    return usplit_trainer_create(&s->trainer, s->model, s->dataset, to);
}

static setup make(const mode *m, int threads)
{
    setup s;
    usplit_trainer_options to = training(m);
    must(try_make(&s, m, threads, &to));
    return s;
}

static void drop(setup *s)
{
    usplit_trainer_free(s->trainer);
    usplit_model_free(s->model);
    usplit_dataset_free(s->dataset);
    usplit_context_free(s->context);
}

static double mean_loss(usplit_trainer *t, int steps)
{
    double sum = 0;
    for (int i = 0; i < steps; i++) {
        usplit_trainer_facts f = {.struct_size = sizeof f};
        must(usplit_trainer_step(t));
        must(usplit_trainer_info(t, &f));
        assert_true(isfinite(f.loss) && f.skipped_steps == 0);
        sum += f.loss / steps;
    }
    return sum;
}

// ---- Tests ------------------------------------------------------------------------------------------

#ifndef TEST_DEVICE
// Targets have mean 0 and variance 1: a network that knows nothing has a Gaussian loss of ln(2 pi) / 2 + 1/2 = 1.42; one
// that tells what two like channels have in common, half the variance, 1.42 - ln(2) / 2 = 1.07. Less than that is
// learnt from the shape of the structures. (Where weights from 0.5 to 1.5 hide in the input, of structures of 200 +- 58
// grey levels, what the input's brightness alone can tell is 1.28.)
static void every_mode_learns(void **state)
{
    (void)state;
    for (int i = 0; i < (int)N_MODES; i++) {
        setup s = make(&modes[i], 2);
        double first = mean_loss(s.trainer, 6);
        mean_loss(s.trainer, TEST_STEPS - 12);
        double last = mean_loss(s.trainer, 6);
        usplit_trainer_facts f = {.struct_size = sizeof f};
        must(usplit_trainer_info(s.trainer, &f));
        print_message("# %s: loss %.3f, then %.3f; validation %.2f dB\n", modes[i].name, first, last, f.val_psnr);
        assert_true(first > 1.3 && last < (modes[i].fixed_targets ? 1.25 : 1.0) && isfinite(f.val_psnr));
        drop(&s);
    }
}
#endif

#ifdef TEST_DEVICE
// The device cuts, mixes and turns its patches itself: its losses are the CPU's.
static void device_takes_the_steps_of_the_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < (int)N_MODES; i++) {
        double loss[2][4];
        for (int there = 0; there < 2; there++) {
            on_device = there;
            setup s = make(&modes[i], 1);
            assert_int_equal(s.trainer->on_device, there);
            for (int k = 0; k < 4; k++) {
                loss[there][k] = mean_loss(s.trainer, 1);
            }
            drop(&s);
        }
        for (int k = 0; k < 4; k++) {           // float32 both; steps carry roundings on
            assert_true(fabs(loss[0][k] - loss[1][k]) < 1e-4);
        }
    }
}
#endif

static void every_mode_resumes_exactly(void **state)
{
    (void)state;
    for (int i = 0; i < (int)N_MODES; i++) {
        setup whole = make(&modes[i], 2), half = make(&modes[i], 1), rest = make(&modes[i], 2);
        mean_loss(whole.trainer, 11);
        mean_loss(half.trainer, 5);
        must(usplit_trainer_save(half.trainer, in_folder("half.h5")));
        must(usplit_trainer_resume(rest.trainer, in_folder("half.h5")));
        mean_loss(rest.trainer, 6);
        must(us_trainer_refresh(whole.trainer, 1));
        must(us_trainer_refresh(rest.trainer, 1));
        assert_memory_equal(whole.model->params, rest.model->params,
                            (size_t)whole.model->graph->n_floats * sizeof(float));
        assert_memory_equal(whole.trainer->state.u, rest.trainer->state.u,
                            (size_t)whole.model->graph->n_floats * sizeof(float));
        drop(&whole);
        drop(&half);
        drop(&rest);
    }
}

// A training goes on as what it was.
static void another_mode_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < (int)N_MODES; i++) {
        setup s = make(&modes[i], 1);
        mean_loss(s.trainer, 1);
        must(usplit_trainer_save(s.trainer, in_folder("one.h5")));
        drop(&s);
        for (int k = 0; k < (int)N_MODES; k++) {
            s = make(&modes[k], 1);
            usplit_status status = usplit_trainer_resume(s.trainer, in_folder("one.h5"));
            assert_int_equal(status, k == i ? USPLIT_OK : USPLIT_ERR_STATE);
            drop(&s);
        }
    }
}

// What the file says of the input.
static void files_tell_the_input(void **state)
{
    (void)state;
    for (int i = 0; i < (int)N_MODES; i++) {
        const mode *m = &modes[i];
        setup s = make(m, 1);
        usplit_model *loaded;
        usplit_model_facts f = {.struct_size = sizeof f};
        usplit_dataset_facts d = {.struct_size = sizeof d};
        mean_loss(s.trainer, 1);
        must(usplit_dataset_info(s.dataset, &d));
        must(usplit_model_save(s.model, in_folder("model.h5")));
        must(usplit_model_load(&loaded, s.context, in_folder("model.h5")));
        must(usplit_model_info(loaded, &f));
        us_ckpt *c;
        int64_t format;
        must(us_ckpt_open(&c, &s.context->allocator, in_folder("model.h5")));
        must(us_ckpt_read(c, "model/format", US_CKPT_I64, 0, NULL, &format));
        us_ckpt_close(c);
        assert_int_equal(format, m->centring ? 2 : 1);     // older readers would centre context in their own way
        double weight = m->input == USPLIT_INPUT_MEAN ? 0.5 : m->input == USPLIT_INPUT_SUM ? 1 : 0;
        assert_true(f.input == m->input && f.centring == m->centring);
        assert_true(f.mixture_weight[0] == weight && f.mixture_weight[1] == weight && f.mixture_weight[2] == 0);
        assert_true(f.input_mean == d.input_mean && f.input_deviation == d.input_deviation);
        assert_true(f.target_clip_value == d.clip_value && f.clip_value == d.input_clip_value * m->high);
        assert_true(m->input != USPLIT_INPUT_MEASURED || fabs(f.input_mean - 0.7 * f.target_mean[0] -
                                                              0.4 * f.target_mean[1] - 30) < 2);    // but for clipping
        usplit_model_free(loaded);
        drop(&s);
    }
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        int mode;
        double low, high, uncorrelated;
        int augment, fixed;
        const char *words;
    } cases[] = {
        {0, -0.1, 1, 0, 0, 0, "weight_low[0] is -0.1"}, {0, 2, 1, 0, 0, 0, "weight_low[0] is 2"},
        {0, 0, 0, 0, 0, 0, "high over 0"},              {0, NAN, 1, 0, 0, 0, "weight_low[0] is nan"},
        {0, 1, INFINITY, 0, 0, 0, "weight_high inf"},   {0, 1, 1, 1.5, 0, 0, "uncorrelated is 1.5"},
        {0, 1, 1, NAN, 0, 0, "uncorrelated is nan"},    {0, 1, 1, 0, 2, 0, "augment is 2"},
        {0, 1, 1, 0, 0, -1, "fixed_targets -1"},        {2, 0.5, 1, 0, 0, 0, "input is measured"},
        {2, 1, 1, 0.5, 0, 0, "input is measured"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        usplit_trainer_options to = training(&modes[cases[i].mode]);
        setup s;
        to.weight_low[0] = cases[i].low;
        to.weight_high[0] = cases[i].high;
        to.uncorrelated = cases[i].uncorrelated;
        to.augment = cases[i].augment;
        to.fixed_targets = cases[i].fixed;
        assert_int_equal(try_make(&s, &modes[cases[i].mode], 1, &to), USPLIT_ERR_ARGUMENT);
        if (!strstr(usplit_error_message(), cases[i].words)) {
            fail_msg("'%s' is not in: %s", cases[i].words, usplit_error_message());
        }
        drop(&s);
    }
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"half.h5", "one.h5", "model.h5"};
    return remove_files(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef TEST_DEVICE
        cmocka_unit_test(device_takes_the_steps_of_the_cpu),
#else
        cmocka_unit_test(every_mode_learns),
#endif
        cmocka_unit_test(every_mode_resumes_exactly),
        cmocka_unit_test(another_mode_is_refused), cmocka_unit_test(files_tell_the_input),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, tear_down);
}
