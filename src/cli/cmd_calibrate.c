// usplit calibrate: the deviations of a model held against its errors on images whose channels are known.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/progress.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/text.h"

enum { SAMPLES = 10 };          // where neither samples nor shifts are asked for

static const arg_usage usage = {
    "calibrate", "model.h5 --channel A --channel B [...] --overwrite|-o new.h5 [options]",
    "Splits the mixed channels, compares the predicted deviations with the real errors, and stores\n"
    "in the model how one becomes the other. Give images that were not trained on, and the prediction\n"
    "options that you will split with. Channels are named as in usplit train. With --test nothing is\n"
    "stored: the model's own calibration is measured on these images.",
    "usplit calibrate model.h5 --channel val/nuclei --channel val/actin --samples 20 --overwrite",
};

typedef struct calibrate_args {
    machine_args machine;
    tiler_args tiler;
    arg_list channels;
    const char *out, *mixture, *axes;
    int overwrite, test, json, quiet;
} calibrate_args;

typedef struct watch {          // of a run: its line, and whether Ctrl-C came
    progress line;
    volatile sig_atomic_t stop;
} watch;

static int parse(calibrate_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->tiler = tiler_args_none;
    const arg_spec specs[] = {
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->channels, 0, 0, "PATH", "one structure, in the model's order"},
        {"--mixture", NULL, ARG_TEXT, &a->mixture, 0, 0, "PATH", "measured images, for a model trained on such"},
        AXES_SPEC(a->axes),
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FILE.h5", "where the calibrated model goes"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL,
         "replace the file of -o, or without -o the model itself"},
        {"--test", NULL, ARG_FLAG, &a->test, 0, 0, NULL, "measure the model's calibration; write nothing"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "as JSON on standard output"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no progress"},
        {"Prediction", NULL, 0, NULL, 0, 0, NULL, NULL},
        TILER_SPECS(a->tiler),
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0 || (rc = args_one_model(rest, &a->channels)) != 0) {
        return rc;
    }
    if (a->test && a->out != NULL) {
        return cli_error(CLI_USAGE, "--test writes nothing; leave -o out");
    }
    if (!a->test && a->out == NULL && !a->overwrite) {
        return cli_error(CLI_USAGE, "where to? -o new.h5, or --overwrite for the model itself");
    }
    if ((rc = files_check_new(a->out, a->overwrite)) != 0) {
        return rc;
    }
    if (a->mixture != NULL) {
        a->channels.items[a->channels.n++] = a->mixture;
    }
    return CLI_OK;
}

static void stop(void *user)
{
    ((watch *)user)->stop = 1;
}

static int32_t follow(const usplit_progress *now, void *user)
{
    watch *w = user;
    int32_t answer = progress_tiles(now, &w->line);
    return w->stop ? 1 : answer;
}

// All frames in one set: none of them is trained on here.
static int open_frames(usplit_dataset **out, usplit_context *context, frame_set *set, const arg_list *channels,
                       int32_t input)
{
    usplit_dataset_reader reader;
    usplit_dataset_options o;
    int64_t n, *frames = NULL;
    int rc;
    CLI_TRY(frames_add(set, channels, &n));
    frames_reader(set, &reader);
    CLI_LIB(usplit_dataset_options_init(&o, sizeof o));
    frames = cli_alloc((size_t)n, sizeof *frames);
    if (frames == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        frames[i] = i;
    }
    o.train_frames = frames;    // the one set that must not be empty
    o.n_train_frames = n;
    o.clip_quantile = 1;        // the model's clip value counts
    o.levels = 1;
    o.input = input;
    CLI_LIB(usplit_dataset_create_reader(out, context, &reader, &o));
done:
    free(frames);
    return rc;
}

static void print_table(const usplit_calibration *c, const usplit_model_facts *m, int test)
{
    char name[USPLIT_NAME_BYTES];
    printf("%lld pixels a channel, %d sample%s, %d shift%s; grey levels\n", (long long)c->pixels, c->samples,
           c->samples == 1 ? "" : "s", c->shifts, c->shifts == 1 ? "" : "s");
    printf("%-20s %10s %10s   %s\n", "channel", "error", "deviation",
           test ? "error by calibrated deviation (good: slope 1, offset 0)" : "calibrated deviation");
    for (int k = 0; k < m->channels; k++) {
        printf("%-20.20s %10.4g %10.4g   %.4g x deviation %+.4g\n", setup_channel_name(m, k, name, sizeof name),
               c->rmse[k], c->deviation[k], c->slope[k], c->offset[k]);
    }
    if (isnan(c->residual_score)) {
        return;
    }
    printf("residual             %.2g %% of an image's range, worst hundredth of the pixels %.2g %%, structure %.2f\n",
           100 * c->residual_score, 100 * c->residual_tail, c->residual_structure);
}

static void print_json(const usplit_calibration *c, const usplit_model_facts *m, int test, const char *written)
{
    char name[USPLIT_NAME_BYTES];
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_bool(&j, "test", test);
    if (written != NULL) {
        json_text(&j, "file", written);
    }
    json_int(&j, "samples", c->samples);
    json_int(&j, "shifts", c->shifts);
    json_int(&j, "pixels", c->pixels);
    json_begin(&j, "channels", '[');
    for (int k = 0; k < m->channels; k++) {
        json_begin(&j, NULL, '{');
        json_text(&j, "name", setup_channel_name(m, k, name, sizeof name));
        json_real(&j, "rmse", c->rmse[k]);
        json_real(&j, "deviation", c->deviation[k]);
        json_real(&j, "slope", c->slope[k]);
        json_real(&j, "offset", c->offset[k]);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_begin(&j, "residual", '{');
    json_real(&j, "score", c->residual_score);
    json_real(&j, "tail", c->residual_tail);
    json_real(&j, "structure", c->residual_structure);
    json_end(&j, '}');
    json_end(&j, '}');
}

int cmd_calibrate(int argc, char **argv)
{
    calibrate_args a;
    arg_list rest;
    frame_set set = {0};
    watch w = {.stop = 0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_dataset *dataset = NULL;
    usplit_model_facts facts;
    usplit_tiler_options options;
    usplit_calibration c = {.struct_size = sizeof c};
    const char *written;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch, fewer --threads, or a larger --memory");
    progress_start(&w.line, a.quiet);
    if (a.tiler.samples < 0 && a.tiler.shifts < 0) {
        a.tiler.samples = SAMPLES;
    }
    written = a.test ? NULL : a.out != NULL ? a.out : rest.items[0];
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
    CLI_TRY(score_tiler_options(&options, &a.tiler));
    options.deviations = 1;
    options.calibrated = a.test;
    set.axes = a.axes;
    CLI_TRY(open_frames(&dataset, context, &set, &a.channels,
                        a.mixture != NULL ? USPLIT_INPUT_MEASURED : USPLIT_INPUT_MEAN));
    cli_on_signal(stop, &w);
    CLI_LIB(usplit_model_calibrate(model, dataset, USPLIT_SET_ALL, &options, &c, follow, &w));
    progress_end(&w.line);
    if (!a.test) {
        CLI_LIB(usplit_model_set_calibration(model, &c));
        CLI_LIB(usplit_model_save(model, written));
    }
    if (a.json) {
        print_json(&c, &facts, a.test, written);
    } else {
        print_table(&c, &facts, a.test);
    }
    if (written != NULL && !a.quiet) {
        fprintf(stderr, "written   %s\n", written);
    }
done:
    cli_on_signal(NULL, NULL);
    progress_free(&w.line);
    usplit_dataset_free(dataset);
    usplit_model_free(model);
    usplit_context_free(context);
    frames_free(&set);
    return rc;
}
