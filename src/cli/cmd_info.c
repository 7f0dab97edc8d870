// usplit info: what a model is and what it costs; of a file, or of a fresh network from its options.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/setup.h"
#include "cli/text.h"

static const arg_usage usage = {
    "info", "[model.h5] [options]",
    "Tells what a model is, what it was trained on and what a pass needs. Without a file: of a fresh\n"
    "network, from the network options, so that sizes can be compared before anything is trained.",
    "usplit info --family hae --variant regular --plan train --batch 16",
};

typedef struct info_args {
    machine_args machine;
    network_args network;
    int64_t channels, batch, inner;
    int plan, check, json;      // plan: -1, or the choice
} info_args;

static int parse(info_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->network = network_args_none;
    a->plan = -1;
    a->channels = 2;
    a->batch = -1;
    const arg_spec specs[] = {
        {"What to tell", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--plan", NULL, ARG_CHOICE, &a->plan, 0, 0, "train|predict", "list the steps of a pass"},
        {"--batch", NULL, ARG_INT, &a->batch, 1, 65536, "N", "patches per pass (train 32, predict 1)"},
        {"--inner", NULL, ARG_INT, &a->inner, 0, 65536, "N",
         "predict: central pixels wanted; 0: all (half the patch)"},
        {"--check", NULL, ARG_FLAG, &a->check, 0, 0, NULL,
         "run the self-test stored in the file; in 32 bits unless --precision 16 is given"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "as JSON"},
        {"Fresh network", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channels", NULL, ARG_INT, &a->channels, 2, USPLIT_MAX_CHANNELS, "K",
         "structures to split into (2)"},
        NETWORK_SPECS(a->network),
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    a->inner = -1;
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0) {
        return rc;
    }
    if (rest->n > 1) {
        return cli_error(CLI_USAGE, "one model at a time");
    }
    if (a->check && rest->n == 0) {
        return cli_error(CLI_USAGE, "--check needs a model file");
    }
    if (a->check && a->machine.precision == USPLIT_PRECISION_BEST) {
        a->machine.precision = USPLIT_PRECISION_FLOAT32;    // 16 bits may exceed the test's 1e-3 by themselves
    }
    return CLI_OK;
}

static void print_training(const usplit_model_facts *f)
{
    char name[USPLIT_NAME_BYTES];
    if (f->epochs_trained > 0 || f->steps_trained > 0) {
        printf("trained   %lld epochs, %lld steps; best validation PSNR %s dB\n",
               (long long)f->epochs_trained, (long long)f->steps_trained,
               text_decibel(f->best_val_psnr).text);
    } else {
        printf("trained   not yet\n");
    }
    if (!f->has_normalisation) {
        return;
    }
    printf("input     mean %.5g, deviation %.5g grey levels; clipped at %.5g; %s outside\n", f->input_mean,
           f->input_deviation, f->clip_value,
           f->padding == USPLIT_PADDING_REFLECT ? "reflected" : "constant");
    if (f->input != USPLIT_INPUT_MEAN || f->centring != USPLIT_CENTRING_FLOORED) {
        printf("          of %s; %s; structures clipped at %.5g\n", names_title(&names_input, f->input),
               names_title(&names_centring, f->centring), f->target_clip_value);
    }
    for (int c = 0; c < f->channels; c++) {
        printf("%s%s: mean %.5g, deviation %.5g\n", c == 0 ? "channels  " : "          ",
               setup_channel_name(f, c, name, sizeof name), f->target_mean[c], f->target_deviation[c]);
    }
    if (f->input_frames > 0) {
        printf("frames    %lld trained on: mean %.5g to %.5g, deviation %.5g to %.5g\n", (long long)f->input_frames,
               f->frame_mean[2], f->frame_mean[3], f->frame_deviation[2], f->frame_deviation[3]);
    }
    if (f->pixel_size > 0) {
        printf("pixels    %.4g micrometres\n", f->pixel_size);
    }
}

// How predicted deviations become errors, where the model says.
static void tell_calibration(const usplit_model *model, const usplit_model_facts *f, json *j)
{
    char name[USPLIT_NAME_BYTES];
    usplit_calibration c = {.struct_size = sizeof c};
    if (!f->has_calibration || usplit_model_get_calibration(model, &c) != USPLIT_OK) {
        return;
    }
    if (j != NULL) {
        json_begin(j, "calibration", '{');
        json_int(j, "samples", c.samples);
        json_int(j, "shifts", c.shifts);
        json_int(j, "pixels", c.pixels);
        json_begin(j, "channels", '[');
    } else {
        printf("deviation calibrated with %d sample%s, %d shift%s:", c.samples, c.samples == 1 ? "" : "s", c.shifts,
               c.shifts == 1 ? "" : "s");
    }
    for (int k = 0; k < f->channels; k++) {
        setup_channel_name(f, k, name, sizeof name);
        if (j == NULL) {
            printf("%s %s %.4g x %+.4g", k > 0 ? ";" : "", name, c.slope[k], c.offset[k]);
            continue;
        }
        json_begin(j, NULL, '{');
        json_text(j, "name", name);
        json_real(j, "slope", c.slope[k]);
        json_real(j, "offset", c.offset[k]);
        json_end(j, '}');
    }
    if (j != NULL) {
        json_end(j, ']');
        json_end(j, '}');
    } else {
        putchar('\n');
    }
}

static void json_cost(json *j, const char *key, const usplit_model_cost *cost, int64_t batch, int64_t inner)
{
    json_begin(j, key, '{');
    json_int(j, "batch", batch);
    if (inner >= 0) {
        json_int(j, "inner", inner);
    }
    json_int(j, "macs", cost->macs);
    json_int(j, "kept_bytes", cost->kept_bytes);
    json_int(j, "arena_bytes", cost->arena_bytes);
    json_int(j, "parameter_bytes", cost->parameter_bytes);
    json_int(j, "steps", cost->n_steps);
    json_end(j, '}');
}

static void json_model(json *j, const usplit_model_facts *f)
{
    json_text(j, "family", names_title(&names_family, f->family));
    json_text(j, "variant", names_title(&names_variant, f->variant));
    json_int(j, "levels", f->levels);
    json_int(j, "lc_count", f->lc_count);
    json_int(j, "filters", f->filters);
    json_int(j, "patch", f->patch);
    json_begin(j, "z_dims", '[');
    for (int i = 0; i < f->levels; i++) {
        json_int(j, NULL, f->z_dims[i]);
    }
    json_end(j, ']');
    json_real(j, "dropout", f->dropout);
    json_int(j, "blocks", f->blocks);
    json_text(j, "activation", names_word(&names_activation, f->activation));
    json_text(j, "logvar", names_word(&names_logvar, f->logvar));
    json_text(j, "merge", names_word(&names_merge, f->merge));
    json_text(j, "kl", names_word(&names_kl, f->kl));
    json_text(j, "latent_scale", names_word(&names_latent_scale, f->latent_scale));
    json_bool(j, "shared_branch", f->shared_branch);
    json_bool(j, "ungated", f->ungated);
    json_int(j, "parameters", f->n_parameters);
    json_int(j, "macs_per_patch", f->macs);
    json_int(j, "epochs_trained", f->epochs_trained);
    json_int(j, "steps_trained", f->steps_trained);
    json_real(j, "best_val_psnr", f->best_val_psnr);
    json_bool(j, "has_normalisation", f->has_normalisation);
    if (!f->has_normalisation) {
        return;
    }
    json_text(j, "input", names_word(&names_input, f->input));
    json_text(j, "centring", names_word(&names_centring, f->centring));
    json_real(j, "clip_value", f->clip_value);
    json_real(j, "target_clip_value", f->target_clip_value);
    json_real(j, "input_mean", f->input_mean);
    json_real(j, "input_deviation", f->input_deviation);
    json_real(j, "pixel_size", f->pixel_size);
    json_int(j, "input_frames", f->input_frames);
    for (int list = 0; list < 2 && f->input_frames > 0; list++) {
        json_begin(j, list == 0 ? "frame_mean" : "frame_deviation", '[');
        for (int i = 0; i < 4; i++) {
            json_real(j, NULL, list == 0 ? f->frame_mean[i] : f->frame_deviation[i]);
        }
        json_end(j, ']');
    }
    json_begin(j, "channels", '[');
    for (int c = 0; c < f->channels; c++) {
        char name[USPLIT_NAME_BYTES];
        json_begin(j, NULL, '{');
        json_text(j, "name", setup_channel_name(f, c, name, sizeof name));
        json_real(j, "weight", f->mixture_weight[c]);
        json_real(j, "mean", f->target_mean[c]);
        json_real(j, "deviation", f->target_deviation[c]);
        json_end(j, '}');
    }
    json_end(j, ']');
}

static void print_cost(const char *what, const usplit_model_cost *cost, int64_t batch)
{
    printf("%-9s batch %lld: %s multiply-adds per patch, %s working memory", what, (long long)batch,
           text_count((double)cost->macs).text, text_bytes((double)cost->arena_bytes).text);
    if (cost->kept_bytes > 0) {
        printf(" (%s kept for the backward pass)", text_bytes((double)cost->kept_bytes).text);
    }
    printf(", %s parameters, %lld steps\n", text_bytes((double)cost->parameter_bytes).text,
           (long long)cost->n_steps);
}

static void print_line(const char *text, void *user)
{
    fprintf(user, "%s\n", text);
}

// The checkpoint's stored input through the network, against its stored output.
static int run_check(const usplit_model *model, const info_args *a, json *j)
{
    double error = NAN;
    usplit_status status = usplit_model_check(model, &error);
    int ok = status == USPLIT_OK;
    if (a->json) {
        json_begin(j, "check", '{');
        json_bool(j, "ok", ok);
        json_real(j, "error", error);
        json_end(j, '}');
    } else if (ok) {
        printf("check     ok: the stored test input gives the stored output (largest deviation %.2g)\n",
               error);
    }
    return cli_status(status);
}

static int tell(const usplit_model *model, const usplit_model_facts *facts, const info_args *a,
                const char *file)
{
    int rc = CLI_OK, failed_check = CLI_OK;
    json j;
    usplit_model_cost train = {.struct_size = sizeof train}, predict = {.struct_size = sizeof predict};
    int32_t train_batch = a->batch > 0 ? (int32_t)a->batch : 32,
            predict_batch = a->batch > 0 ? (int32_t)a->batch : 1;
    int32_t inner = a->inner >= 0 ? (int32_t)a->inner : facts->patch / 2;
    CLI_LIB(usplit_model_plan(model, USPLIT_MODE_TRAIN, train_batch, 0, &train));
    CLI_LIB(usplit_model_plan(model, USPLIT_MODE_PREDICT, predict_batch, inner, &predict));
    json_start(&j, stdout);
    if (a->json) {
        json_begin(&j, NULL, '{');
        json_text(&j, "file", file != NULL ? file : "");
        json_model(&j, facts);
        tell_calibration(model, facts, &j);
        json_cost(&j, "train", &train, train_batch, -1);
        json_cost(&j, "predict", &predict, predict_batch, inner);
    } else {
        setup_print_model(stdout, facts);
        if (file != NULL) {
            print_training(facts);
            tell_calibration(model, facts, NULL);
        }
        print_cost("training", &train, train_batch);
        print_cost("splitting", &predict, predict_batch);
    }
    if (a->check) {
        failed_check = run_check(model, a, &j);
    }
    if (a->json) {
        json_end(&j, '}');
    }
    if (a->plan >= 0 && !a->json) {
        int32_t mode = a->plan == 0 ? USPLIT_MODE_TRAIN : USPLIT_MODE_PREDICT;
        CLI_LIB(usplit_model_plan_text(model, mode, a->plan == 0 ? train_batch : predict_batch,
                                       a->plan == 0 ? 0 : inner, print_line, stdout));
    }
    rc = failed_check;
done:
    return rc;
}

int cmd_info(int argc, char **argv)
{
    info_args a;
    arg_list rest;
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_model_options options;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    CLI_TRY(setup_context(&context, &a.machine));
    if (rest.n == 1) {
        CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
        CLI_TRY(setup_check_network(&facts, &a.network));
    } else {
        CLI_TRY(setup_network(&options, &a.network, (int)a.channels));
        CLI_LIB(usplit_model_create(&model, context, &options));
        CLI_LIB(usplit_model_info(model, &facts));
    }
    CLI_TRY(tell(model, &facts, &a, rest.n == 1 ? rest.items[0] : NULL));
done:
    usplit_model_free(model);
    usplit_context_free(context);
    return rc;
}
