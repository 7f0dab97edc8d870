// The self-tests of usplit doctor. They go through the same calls as a host's predictions: context, model, tiler.
#include "cli/trial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// float32: what the library accepts of stored self-tests. float16: every stored value and weight is rounded to 11
// bits, by up to 5e-4 of it; over n convolutions in a row that adds up like a random walk, 5e-4 * sqrt(2 n): 5e-3
// for the 49 of the small network, 9e-3 for the 171 of the published Deep-LC, and as much again for good measure.
static const double float32_tolerance = 1e-3, float16_tolerance = 2e-2;

enum { SIDE = 48, CHANNELS = 2, N_VALUES = SIDE * SIDE * CHANNELS, N_KNOWN = 8, KNOWN_STEP = 577 };

// Every KNOWN_STEP-th value of the small network's output, as the CPU backend gave it when its tests against the
// double-precision reference passed. Only a change of the initial parameters or of the network below changes them.
static const float known[N_KNOWN] = {
    0.2538812f, 0.1065907f, -0.03188953f, -0.05141916f, -0.06433196f, -0.1251872f, -0.05097289f, 0.04338033f,
};

const char *trial_precision(const trial *t)
{
    return t->precision == USPLIT_PRECISION_FLOAT16 ? "float16" : "float32";
}

static usplit_status open_context(usplit_context **context, trial *t, int64_t threads)
{
    usplit_context_options options;
    usplit_context_facts facts = {.struct_size = sizeof facts};
    usplit_status status = usplit_context_options_init(&options, sizeof options);
    if (status != USPLIT_OK) {
        return status;
    }
    options.device = t->device;
    options.precision = t->precision;
    options.threads = (int32_t)threads;
    if ((status = usplit_context_create(context, &options)) == USPLIT_OK &&
        (status = usplit_context_info(*context, &facts)) == USPLIT_OK) {
        snprintf(t->engine, sizeof t->engine, "%s", facts.engine);
    }
    return status;
}

// ---- The self-test stored in a file -------------------------------------------------------------------------

static usplit_status check_file(usplit_context *context, trial *t, const char *file)
{
    usplit_model *model = NULL;
    usplit_status status = usplit_model_load(&model, context, file);
    if (status == USPLIT_OK) {
        status = usplit_model_check(model, &t->difference);
    }
    usplit_model_free(model);
    // The library's limit is that of float32; ours is looked at by the caller.
    return status == USPLIT_ERR_NUMERIC && isfinite(t->difference) ? USPLIT_OK : status;
}

// ---- A small network made on the spot -----------------------------------------------------------------------

// With context in every level, latents, and enough channels for all kinds of convolutions.
static usplit_status make_model(usplit_model **model, usplit_context *context)
{
    usplit_model_options options;
    // Large inputs (pixels / deviation): to small ones an untrained network gives nearly the same output everywhere.
    usplit_model_normalisation normalisation = {.struct_size = sizeof normalisation, .clip_value = INFINITY,
                                                .input_deviation = 0.02, .target_deviation = {1, 1}};
    usplit_status status = usplit_model_options_init(&options, sizeof options);
    if (status != USPLIT_OK) {
        return status;
    }
    options.family = USPLIT_FAMILY_HVAE;
    options.variant = USPLIT_VARIANT_REGULAR;
    options.levels = options.lc_count = 2;
    options.filters = options.z_dims[0] = 16;
    options.patch = 32;
    options.seed = 1;
    status = usplit_model_create(model, context, &options);
    return status == USPLIT_OK ? usplit_model_set_normalisation(*model, &normalisation) : status;
}

static usplit_status run_tiler(usplit_tiler *tiler, float *values)
{
    float pixels[SIDE * SIDE];
    usplit_image in, out;
    usplit_status status;
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            pixels[y * SIDE + x] = (float)(sin(0.3 * x + 0.1 * y) + cos(0.05 * x * x - 0.4 * y));
        }
    }
    if ((status = usplit_image_init(&in, sizeof in, pixels, USPLIT_TYPE_F32, 1, SIDE, SIDE, 1)) != USPLIT_OK ||
        (status = usplit_image_init(&out, sizeof out, values, USPLIT_TYPE_F32, 1, SIDE, SIDE, CHANNELS)) != USPLIT_OK) {
        return status;
    }
    return usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL);
}

static usplit_status predict(usplit_context *context, float *values)
{
    usplit_model *model = NULL;
    usplit_tiler *tiler = NULL;
    usplit_tiler_options options;
    usplit_status status = usplit_tiler_options_init(&options, sizeof options);
    if (status == USPLIT_OK) {
        status = make_model(&model, context);
    }
    if (status == USPLIT_OK) {
        options.latent = USPLIT_LATENT_MEAN;    // noise would hide differences, and be rounded differently
        status = usplit_tiler_create(&tiler, model, &options);
    }
    if (status == USPLIT_OK) {
        status = run_tiler(tiler, values);
    }
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    return status;
}

static double largest_difference(const float *is, const float *expected, int n, int step)
{
    double worst = 0, top = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs((double)is[i * step] - (double)expected[i]), size = fabs((double)expected[i]);
        worst = d > worst || isnan(d) ? d : worst;
        top = size > top ? size : top;
        if (isnan(worst)) {
            break;
        }
    }
    return top > 0 ? worst / top : worst;
}

static usplit_status check_network(usplit_context *context, trial *t, int64_t threads)
{
    float values[N_VALUES], expected[N_VALUES];
    trial cpu = {.device = "cpu", .precision = USPLIT_PRECISION_FLOAT32};
    usplit_context *host = NULL;
    usplit_status status = predict(context, values);
    if (status != USPLIT_OK) {
        return status;
    }
    if (strcmp(t->device, "cpu") == 0) {
        t->difference = largest_difference(values, known, N_KNOWN, KNOWN_STEP);
        return USPLIT_OK;
    }
    if ((status = open_context(&host, &cpu, threads)) == USPLIT_OK &&
        (status = predict(host, expected)) == USPLIT_OK) {
        t->difference = largest_difference(values, expected, N_VALUES, 1);
    }
    usplit_context_free(host);
    return status;
}

// ---- One trial ----------------------------------------------------------------------------------------------

void trial_run(trial *t, const char *device, int32_t precision, int64_t threads, const char *model_file)
{
    usplit_context *context = NULL;
    memset(t, 0, sizeof *t);
    snprintf(t->device, sizeof t->device, "%s", device);
    t->precision = precision;
    t->difference = NAN;
    t->tolerance = precision == USPLIT_PRECISION_FLOAT16 ? float16_tolerance : float32_tolerance;
    usplit_status status = open_context(&context, t, threads);
    if (status == USPLIT_OK) {
        status = model_file != NULL ? check_file(context, t, model_file) : check_network(context, t, threads);
    }
    t->ok = status == USPLIT_OK && t->difference <= t->tolerance;
    if (status != USPLIT_OK) {
        snprintf(t->error, sizeof t->error, "%s", usplit_error_message());
    } else if (!isfinite(t->difference)) {
        snprintf(t->error, sizeof t->error, "the output is not finite");
    } else if (!t->ok) {
        snprintf(t->error, sizeof t->error, "the output deviates by %.2g of its maximum; accepted: %g", t->difference,
                 t->tolerance);
    }
    usplit_context_free(context);
}
