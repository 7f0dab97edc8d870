// The library on a device as its callers see it, next to the CPU: loss curves, repeatability, resuming, models that
// change devices, memory that runs out. On a machine with a GPU through the public header and the plug-in (make
// check-gpu); under emulation smaller, with the emulated device put into the context.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/folder.h"
#include "common/must.h"
#include "usplit.h"

#ifdef US_EMULATE
#include "cuda/emulated.h"
#include "emulate.h"
enum { STEPS = 4, EPOCH_STEPS = 2, REPEATED = 3, FILTERS = 8, LEVELS = 2, PATCH = 16, BATCH = 3 };
enum { BIG_FILTERS = FILTERS, BIG_PATCH = 32, BIG_SIDE = 64, BIG_BATCH = 400 };
#else
enum { STEPS = 200, EPOCH_STEPS = 20, REPEATED = 50, FILTERS = 16, LEVELS = 3, PATCH = 32, BATCH = 8 };
enum { BIG_FILTERS = 128, BIG_PATCH = 256, BIG_SIDE = 256, BIG_BATCH = 4096 };     // terabytes
#endif

enum { EPOCHS = STEPS / EPOCH_STEPS, SIDE = 64, FRAMES = 12 };

// ---- A training -----------------------------------------------------------------------------------------

typedef enum where { CPU, FLOATS, HALVES } where;

static const char *const names[] = {"cpu", "cuda:0 in float32", "cuda:0 in fp16"};

static usplit_context *open_context(where w)
{
    usplit_context *c;
    usplit_context_options o;
    must(usplit_context_options_init(&o, sizeof o));
    o.device = "cpu";
#ifndef US_EMULATE
    o.device = w == CPU ? "cpu" : "cuda:0";
    o.precision = w == HALVES ? USPLIT_PRECISION_FLOAT16 : USPLIT_PRECISION_FLOAT32;
    o.deterministic = 1;
#endif
    must(usplit_context_create(&c, &o));
#ifdef US_EMULATE
    if (w != CPU) {
        emulated_take(c, w == HALVES);
    }
#endif
    return c;
}

typedef struct work {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
    usplit_trainer *trainer;
} work;

static usplit_trainer_options training(int64_t steps)
{
    usplit_trainer_options o;
    must(usplit_trainer_options_init(&o, sizeof o));
    o.batch = BATCH;
    o.seed = 3;
    o.max_steps = steps;
    o.steps_per_epoch = EPOCH_STEPS;
    o.max_validation_patches = 4;
    return o;
}

// Dataset and model; big: those of which no device holds a batch.
static void open_work(work *x, usplit_context *context, int family, int big)
{
    usplit_critter_options cr;
    usplit_dataset_options ds;
    usplit_model_options mo;
    must(usplit_critter_options_init(&cr, sizeof cr));
    must(usplit_dataset_options_init(&ds, sizeof ds));
    must(usplit_model_options_init(&mo, sizeof mo));
    cr.n_frames = FRAMES;
    cr.size = big ? BIG_SIDE : SIDE;
    cr.n_curves = 2;
    ds.levels = LEVELS + 1;
    mo.family = family;
    mo.variant = USPLIT_VARIANT_REGULAR;
    mo.levels = LEVELS;
    mo.filters = big ? BIG_FILTERS : FILTERS;
    mo.z_dims[0] = FILTERS;
    mo.patch = big ? BIG_PATCH : PATCH;
    x->context = context;
    x->trainer = NULL;
    must(usplit_dataset_create_critters(&x->dataset, context, &cr, &ds));
    must(usplit_model_create(&x->model, context, &mo));
}

static work begin(where w, int family, const usplit_trainer_options *to)
{
    work x;
    open_work(&x, open_context(w), family, 0);
    must(usplit_trainer_create(&x.trainer, x.model, x.dataset, to));
    return x;
}

static void end(work *x)
{
    usplit_trainer_free(x->trainer);
    usplit_model_free(x->model);
    usplit_dataset_free(x->dataset);
    usplit_context_free(x->context);
    *x = (work){NULL, NULL, NULL, NULL};
}

static work trained(where w, int family, int64_t steps)
{
    usplit_trainer_options to = training(steps);
    work x = begin(w, family, &to);
    must(usplit_trainer_run(x.trainer, NULL, NULL));
    return x;
}

static double epoch_loss(const work *x, int epoch)
{
    usplit_trainer_epoch row = {.struct_size = sizeof row};
    must(usplit_trainer_get_epoch(x->trainer, epoch, &row));
    return row.loss;
}

// Every parameter and running statistic, bit for bit.
static void same_models(const usplit_model *a, const usplit_model *b)
{
    usplit_model_facts facts = {.struct_size = sizeof facts};
    must(usplit_model_info(a, &facts));
    assert_true(facts.n_entries > 0);
    for (int64_t i = 0; i < facts.n_entries; i++) {
        const char *name;
        int64_t shape[4], count = 1;
        int32_t dims;
        must(usplit_model_get_entry(a, i, &name, shape, &dims));
        for (int k = 0; k < dims; k++) {
            count *= shape[k];
        }
        float *x = calloc((size_t)count, sizeof *x), *y = calloc((size_t)count, sizeof *y);
        must(usplit_model_get_parameter(a, name, x, count));
        must(usplit_model_get_parameter(b, name, y, count));
        if (memcmp(x, y, (size_t)count * sizeof *x) != 0) {
            fail_msg("'%s' differs", name);
        }
        free(x);
        free(y);
    }
}

// ---- Tests ----------------------------------------------------------------------------------------------

// Mean losses of the epochs, both families, as parts of the first one. The same seed draws the same patches, masks
// and noise everywhere, so only roundings differ. Measured on the CPU in the larger of these trainings: from weights
// moved at random by up to one part in 2^20, some roundings of float32, the curve is within 6.1e-6; from weights moved
// by one part in 2^11, the rounding of a half, within 5.7e-4. A device rounds otherwise at every one of 200 steps, not
// at the first alone, which adds up like a random walk: sqrt(200) = 14 times as much, rounded up.
static const double CURVE_FLOATS = 1e-4, CURVE_HALVES = 1e-2;

static void loss_curves_agree(void **state)
{
    (void)state;
    for (int family = 0; family < 2; family++) {
        work cpu = trained(CPU, family, STEPS);
        double first = fabs(epoch_loss(&cpu, 0));
        for (where w = FLOATS; w <= HALVES; w++) {
            work x = trained(w, family, STEPS);
            double allowed = w == FLOATS ? CURVE_FLOATS : CURVE_HALVES;
            for (int i = 0; i < EPOCHS; i++) {
                double want = epoch_loss(&cpu, i), got = epoch_loss(&x, i);
                if (!(fabs(got - want) <= allowed * first)) {
                    fail_msg("family %d, %s, epoch %d: loss %.6f, on the CPU %.6f", family, names[w], i, got, want);
                }
            }
            usplit_trainer_facts facts = {.struct_size = sizeof facts};
            must(usplit_trainer_info(x.trainer, &facts));
            assert_int_equal(facts.step, STEPS);
            // A loss scale that makes the first gradients too large for a half is halved, each time for a skipped step.
            assert_in_range(facts.skipped_steps, 0, w == FLOATS ? 0 : 6);
            end(&x);
        }
        if (STEPS >= 100) {     // so that curves are compared that go somewhere
            assert_true(epoch_loss(&cpu, EPOCHS - 1) < 0.9 * epoch_loss(&cpu, 0));
        }
        end(&cpu);
    }
}

static void trainings_repeat(void **state)
{
    (void)state;
    for (where w = FLOATS; w <= HALVES; w++) {
        work a = trained(w, USPLIT_FAMILY_HVAE, REPEATED), b = trained(w, USPLIT_FAMILY_HVAE, REPEATED);
        same_models(a.model, b.model);
        end(&a);
        end(&b);
    }
}

// The second half in a new process's place: another context, model and trainer.
static void resume_is_exact(void **state)
{
    (void)state;
    for (where w = FLOATS; w <= HALVES; w++) {
        usplit_trainer_options to = training(REPEATED);
        work whole = trained(w, USPLIT_FAMILY_HVAE, REPEATED), half = trained(w, USPLIT_FAMILY_HVAE, REPEATED / 2 + 1);
        must(usplit_trainer_save(half.trainer, in_folder("half.h5")));
        end(&half);
        work rest = begin(w, USPLIT_FAMILY_HVAE, &to);
        must(usplit_trainer_resume(rest.trainer, in_folder("half.h5")));
        must(usplit_trainer_run(rest.trainer, NULL, NULL));
        same_models(whole.model, rest.model);
        end(&whole);
        end(&rest);
    }
}

// A frame split by the model in `file`, in units of the targets' deviation.
static float *split(where w, const char *path, const float *pixels)
{
    usplit_context *context = open_context(w);
    usplit_model *model;
    usplit_tiler *tiler;
    usplit_image src, dst;
    usplit_tiler_result r = {.struct_size = sizeof r};
    float *planes = calloc(2 * SIDE * SIDE, sizeof *planes);
    union { const float *c; void *v; } data = {pixels};
    must(usplit_model_load(&model, context, path));
    must(usplit_tiler_create(&tiler, model, NULL));
    must(usplit_image_init(&src, sizeof src, data.v, USPLIT_TYPE_F32, 1, SIDE, SIDE, 1));
    must(usplit_image_init(&dst, sizeof dst, planes, USPLIT_TYPE_F32, 1, SIDE, SIDE, 2));
    must(usplit_tiler_run(tiler, &src, &dst, &r, NULL, NULL));
    for (int i = 0; i < 2 * SIDE * SIDE; i++) {
        planes[i] = (float)(((double)planes[i] - r.offset[i % 2]) / r.gain[i % 2]);
    }
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    usplit_context_free(context);
    return planes;
}

// Trained here, used there, drawn latents included. Float32 sums of some thousand terms in another order: 1e-4 of the
// largest value. Half: 2^-11 in every one of some twenty layers: 2e-2.
static void models_change_devices(void **state)
{
    static float pixels[SIDE * SIDE];
    (void)state;
    for (int i = 0; i < SIDE * SIDE; i++) {
        pixels[i] = (float)(20 + 20 * sin(0.3 * (i % SIDE)) * cos(0.2 * (i / SIDE)));
    }
    for (where from = CPU; from <= HALVES; from++) {
        work x = trained(from, USPLIT_FAMILY_HVAE, REPEATED);
        must(usplit_model_save(x.model, in_folder("model.h5")));
        end(&x);
        float *want = split(CPU, in_folder("model.h5"), pixels);
        double most = 0;
        for (int i = 0; i < 2 * SIDE * SIDE; i++) {
            most = fmax(most, fabs((double)want[i]));
        }
        for (where to = FLOATS; to <= HALVES; to++) {
            float *got = split(to, in_folder("model.h5"), pixels);
            for (int i = 0; i < 2 * SIDE * SIDE; i++) {
                if (!(fabs((double)got[i] - (double)want[i]) <= (to == FLOATS ? 1e-4 : 2e-2) * most)) {
                    fail_msg("trained on %s, used on %s: value %d is %g, on the CPU %g (largest %g)", names[from],
                             names[to], i, (double)got[i], (double)want[i], most);
                }
            }
            free(got);
        }
        free(want);
    }
}

// Far more than a device has: an error that names what can be made smaller, and a context that goes on.
static void memory_runs_out(void **state)
{
    (void)state;
#ifdef US_EMULATE
    us_emulate_memory(32 << 20);
#endif
    usplit_context *context = open_context(FLOATS);
    usplit_trainer_options to = training(3), big = to;
    work x;
    big.batch = BIG_BATCH;
    open_work(&x, context, USPLIT_FAMILY_HVAE, 1);
    usplit_status status = usplit_trainer_create(&x.trainer, x.model, x.dataset, &big);
    status = status == USPLIT_OK ? usplit_trainer_step(x.trainer) : status;
    const char *text = usplit_error_message();
    if (status != USPLIT_ERR_MEMORY || !strstr(text, "batch") || !strstr(text, "filters") || !strstr(text, "patch") ||
        !strstr(text, "memory budget")) {
        fail_msg("not an error of memory that says what helps: status %d, %s", status, text);
    }
    x.context = NULL;           // stays
    end(&x);
    open_work(&x, context, USPLIT_FAMILY_HVAE, 0);
    must(usplit_trainer_create(&x.trainer, x.model, x.dataset, &to));
    must(usplit_trainer_run(x.trainer, NULL, NULL));
    end(&x);
#ifdef US_EMULATE
    us_emulate_memory((int64_t)16 << 30);
#endif
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const files[] = {"half.h5", "model.h5"};
    return remove_files(files, sizeof files / sizeof files[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_curves_agree),     cmocka_unit_test(trainings_repeat),
        cmocka_unit_test(resume_is_exact),       cmocka_unit_test(models_change_devices),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests_name("on_device", tests, make_folder, tear_down);
}
