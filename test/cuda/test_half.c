// Half precision on the emulated device: fp16 activations and weights, float32 sums, losses and optimiser, a loss
// scale that moves. Against float32 on the same device, with the same draws.
//
// How far apart: a half has 11 bits, one rounding is 2^-11 = 4.9e-4 of a value, and a value passes some twenty
// roundings (weights, activations, each convolution's output) before the head; they add up like a random walk, and
// normalisation divides by standard deviations below 1: 2e-2 of the largest value is allowed.
#include "property/tiler_case.h"

#include "cuda/emulated.h"

#include "data/dataset.h"
#include "emulate.h"
#include "host_kernels.h"
#include "train/trainer.h"

typedef struct outcome {
    usplit_trainer_epoch epoch[2];
    float *params;
    int64_t n, skipped;
    double loss_scale;
} outcome;

#ifdef US_EMULATE
static int compiled;            // programs become kernels
#endif

static usplit_context *context_there(int half)
{
    usplit_context *c = make_context(2);
    emulated_take(c, half);
#ifdef US_EMULATE
    us_cuda *device = c->device;
    device->kernel_table = compiled ? &host_kernels : NULL;
    if (compiled && !device->kernels) {
        assert_null(host_kernels.open(&device->kernels, NULL, &device->facts, half));
    }
#endif
    return c;
}

typedef struct network {
    int family, variant, levels, patch;
} network;

static outcome train(int half, network net, double first_scale)
{
    usplit_context *c = context_there(half);
    usplit_dataset *dataset;
    usplit_model *model;
    usplit_trainer *trainer;
    usplit_critter_options cr;
    usplit_dataset_options ds;
    usplit_model_options mo;
    usplit_trainer_options to;
    outcome o = {0};
    assert_ok(usplit_critter_options_init(&cr, sizeof cr));
    assert_ok(usplit_dataset_options_init(&ds, sizeof ds));
    assert_ok(usplit_model_options_init(&mo, sizeof mo));
    assert_ok(usplit_trainer_options_init(&to, sizeof to));
    cr.n_frames = 12;
    cr.size = 64;
    cr.n_curves = 2;
    ds.levels = 3;
    mo.family = net.family;
    mo.variant = net.variant;
    mo.levels = net.levels;
    mo.filters = 8;
    mo.z_dims[0] = 8;
    mo.patch = net.patch;
    to.batch = 5;
    to.seed = 3;
    to.max_epochs = 2;
    to.max_validation_patches = 4;
    assert_ok(usplit_dataset_create_critters(&dataset, c, &cr, &ds));
    assert_ok(usplit_model_create(&model, c, &mo));
    assert_ok(usplit_trainer_create(&trainer, model, dataset, &to));
    trainer->state.loss_scale = first_scale;
    assert_ok(usplit_trainer_run(trainer, NULL, NULL));
    for (int i = 0; i < 2; i++) {
        o.epoch[i].struct_size = sizeof o.epoch[i];
        assert_ok(usplit_trainer_get_epoch(trainer, i, &o.epoch[i]));
    }
    o.n = model->graph->n_floats;
    o.params = malloc((size_t)o.n * sizeof *o.params);
    memcpy(o.params, model->params, (size_t)o.n * sizeof *o.params);
    o.skipped = trainer->state.skipped;
    o.loss_scale = trainer->state.loss_scale;
    usplit_trainer_free(trainer);
    usplit_model_free(model);
    usplit_dataset_free(dataset);
    usplit_context_free(c);
    return o;
}

// The loss of a first epoch, as a part of it. In float32, weights that begin moved at random by up to one part in 2^11,
// the rounding of a half, end up within 6.3e-5 (HAE), 4.7e-5 (HVAE), 1.5e-3 (U-Net) and 5.1e-3 (BraveNet) of it, three
// trials each; a half rounds at every step.
static void test_training_follows_float32(void **state)
{
    (void)state;
    static const double allowed[] = {2e-3, 2e-3, 1e-2, 1e-2};
    const network nets[] = {{USPLIT_FAMILY_HAE, USPLIT_VARIANT_REGULAR, 2, 16},
                            {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16},
                            {USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE, 2, 16},
                            {USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR, 4, 16}};
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        outcome a = train(0, nets[i], 1), b = train(1, nets[i], 1024);
        assert_true(a.epoch[1].loss < a.epoch[0].loss);
        assert_true(b.skipped == 0);
        if (!(fabs(a.epoch[0].loss - b.epoch[0].loss) <= allowed[i] * fabs(a.epoch[0].loss))) {
            fail_msg("network %d: loss %.6f in half, %.6f in float32", (int)i, b.epoch[0].loss, a.epoch[0].loss);
        }
        // later Adamax, which divides by the largest gradient so far, has amplified the roundings: it learns as much
        double gain = a.epoch[0].loss - a.epoch[1].loss;
        assert_true(b.epoch[0].loss - b.epoch[1].loss >= 0.8 * gain);
        assert_true(memcmp(a.params, b.params, (size_t)a.n * sizeof *a.params) != 0);
        free(a.params);
        free(b.params);
    }
}

#ifdef US_EMULATE
// With programs as kernels, on blocks of another size: sums are put together in another order, which is all.
static void test_training_with_compiled_programs(void **state)
{
    (void)state;
    const network net = {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16};
    outcome a = train(1, net, 1024);
    compiled = 1;
    outcome b = train(1, net, 1024);
    compiled = 0;
    assert_true(b.skipped == 0 && b.epoch[1].loss < b.epoch[0].loss);
    for (int i = 0; i < 2; i++) {
        if (!(fabs(a.epoch[i].loss - b.epoch[i].loss) <= 2e-3 * fabs(a.epoch[i].loss))) {
            fail_msg("epoch %d: loss %.8f, interpreted %.8f", i, b.epoch[i].loss, a.epoch[i].loss);
        }
    }
    assert_true(memcmp(a.params, b.params, (size_t)a.n * sizeof *a.params) != 0);       // it was something else
    free(a.params);
    free(b.params);
}
#endif

// A scale that makes gradients overflow is halved until they do not; those steps change nothing and are counted.
static void test_overflow_halves_the_scale(void **state)
{
    (void)state;
    outcome o = train(1, (network){USPLIT_FAMILY_HAE, USPLIT_VARIANT_REGULAR, 2, 16}, 1073741824.0);
    assert_true(o.skipped > 0);
    assert_true(o.loss_scale == 1073741824.0 / (double)((int64_t)1 << o.skipped));
    for (int64_t i = 0; i < o.n; i++) {
        assert_true(isfinite(o.params[i]));
    }
    free(o.params);
}

static void test_prediction_follows_float32(void **state)
{
    (void)state;
    begin_case(4);
    enum { H = 37, W = 50 };
    float *pixels = random_pixels(H * W), *out[2];
    for (int half = 0; half < 2; half++) {
        usplit_model *m = make_model(context_there(half), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP, 2, 16);
        usplit_tiler *t = make_tiler(m, NULL);
        usplit_tiler_result r = {.struct_size = sizeof r};
        out[half] = run_planes(t, pixels, 1, H, W, &r);
        usplit_tiler_free(t);
        us_model_release(m);
    }
    float most = 0, error = 0;
    for (int64_t i = 0; i < 2 * H * W; i++) {       // without the means that every grey level is offset by
        most = fmaxf(most, fabsf(out[0][i] - (i < H * W ? 300 : 350)));
        error = fmaxf(error, fabsf(out[0][i] - out[1][i]));
    }
    assert_true(error > 0 && error <= 2e-2f * most);
    free(out[0]);
    free(out[1]);
    free(pixels);
    assert_int_equal(us_emulate_leaks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_follows_float32),
#ifdef US_EMULATE
        cmocka_unit_test(test_training_with_compiled_programs),
#endif
        cmocka_unit_test(test_overflow_halves_the_scale),
        cmocka_unit_test(test_prediction_follows_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
