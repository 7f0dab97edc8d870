// usplit demo: the whole story in one command. Makes synthetic images, trains a small network while you
// watch, measures it on frames it has not seen, and leaves a picture, an ImageJ stack and the model.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/heldout.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/image/images.h"
#include "cli/train_run.h"

// What the demo trains; small enough for a few minutes on two cores. The published critters, two kinds per channel: no
// single wave tells the channel, a network has to relate both halves of a curve. Two curves per channel and frame, so
// that it has not to find them in a tangle of ten as well. Chosen by measurement: docs/results.md. So many steps, not so
// many minutes: the result is the same on every machine, and a slow one does not stop where nothing is to be seen yet.
static const struct {
    int64_t frames, size;               // synthetic frames: a tenth each for validation and test
    int32_t curves, joiner, family, variant, levels, lc_count, filters, patch;
    int32_t batch, epochs, lr_patience, patience;
    int64_t steps_per_epoch, val_patches, steps;
    double minutes, learning_rate;      // steps of the training, which no machine should need so many minutes for
    int32_t pad;                        // of the tiles
} demo = {
    .frames = 400, .size = 128,
    .curves = 2, .joiner = 0, .family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_REGULAR, .levels = 4, .lc_count = 1,
    .filters = 12, .patch = 96,
    .batch = 4, .epochs = 100, .lr_patience = 8, .patience = 100, .steps_per_epoch = 200, .val_patches = 40,
    .steps = 3000, .minutes = 30, .learning_rate = 1e-3, .pad = 16,
};

static const arg_usage usage = {
    "demo", "-o folder [options]",
    "Makes synthetic images of wavy curves (the paper's critters: no single wave tells the channel),\n"
    "trains a small U-Net with lateral context to tell them apart, and measures it on images it has not\n"
    "seen. For the first eight of fifteen epochs nothing seems to happen, then the curves come apart. Leaves\n"
    "demo.png, split.tif (opens in ImageJ), model.h5 and model.svg in the folder.",
    "usplit demo -o demo",
};

typedef struct demo_args {
    machine_args machine;
    const char *out;
    double minutes;
    int64_t steps, seed, frames;
    int overwrite, json, quiet;
} demo_args;

static int parse(demo_args *a, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->frames = demo.frames;
    const arg_spec specs[] = {
        {"Options", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FOLDER", "where the results go"},
        {"--minutes", NULL, ARG_REAL, &a->minutes, 0.001, 100000, "M", "of training, at most, instead of 3000 steps"},
        {"--steps", NULL, ARG_INT, &a->steps, 1, 1e9, "N", "of training, at most, instead of 3000"},
        {"--frames", NULL, ARG_INT, &a->frames, 10, 100000, "N", "synthetic frames (400)"},
        {"--seed", NULL, ARG_INT, &a->seed, 0, 9007199254740992.0, "N", "of everything random (0)"},
        MACHINE_SPECS(a->machine),
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "scores as JSON instead of the table"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no summary, no progress"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc;
    }
    if (a->minutes == 0 && a->steps == 0) {
        a->minutes = demo.minutes;
        a->steps = demo.steps;
    }
    return args_only_out(&rest, a->out);
}

static int make_dataset(usplit_dataset **out, usplit_context *context, const demo_args *a)
{
    int rc;
    usplit_critter_options critters;
    usplit_dataset_options options;
    CLI_LIB(usplit_critter_options_init(&critters, sizeof critters));
    CLI_LIB(usplit_dataset_options_init(&options, sizeof options));
    critters.n_frames = a->frames;
    critters.size = demo.size;
    critters.n_curves = demo.curves;
    critters.joiner = demo.joiner;
    critters.seed = (uint64_t)a->seed;
    options.levels = 1 + demo.lc_count;
    CLI_LIB(usplit_dataset_create_critters(out, context, &critters, &options));
done:
    return rc;
}

static int make_model(usplit_model **out, usplit_context *context, const demo_args *a)
{
    int rc;
    usplit_model_options options;
    CLI_LIB(usplit_model_options_init(&options, sizeof options));
    options.family = demo.family;
    options.variant = demo.variant;
    options.levels = demo.levels;
    options.lc_count = demo.lc_count;
    options.filters = demo.filters;
    options.patch = demo.patch;
    options.seed = (uint64_t)a->seed;
    CLI_LIB(usplit_model_create(out, context, &options));
done:
    return rc;
}

static int train(usplit_context *context, usplit_model *model, usplit_dataset *dataset, const demo_args *a,
                 const train_files *files)
{
    int rc;
    usplit_trainer_options options;
    usplit_trainer_facts facts;
    train_run_options run = {.quiet = a->quiet, .no_last = 1, .names = {"curves A", "curves B"},
                             .clip_quantile = 0.995};
    CLI_LIB(usplit_trainer_options_init(&options, sizeof options));
    options.batch = demo.batch;
    options.max_epochs = demo.epochs;
    options.max_steps = a->steps;
    options.steps_per_epoch = demo.steps_per_epoch;
    options.max_seconds = 60 * a->minutes;
    options.learning_rate = demo.learning_rate;
    options.lr_patience = demo.lr_patience;
    options.early_stop_patience = demo.patience;
    options.max_validation_patches = demo.val_patches;
    options.seed = (uint64_t)a->seed;
    rc = train_run(context, model, dataset, &options, files, &run, &facts);
    if ((rc == CLI_OK || rc == CLI_CANCELLED) && !a->quiet) {
        fprintf(stderr, "trained   %lld steps, %d epochs in %s; best validation PSNR %s dB%s\n",
                (long long)facts.step, facts.epoch, text_duration(facts.seconds).text,
                text_decibel(facts.best_val_psnr).text, rc == CLI_CANCELLED ? "; stopped" : "");
    }
done:
    return rc;
}

static int take_frame(int64_t frame, int64_t height, int64_t width, const float *planes, void *user)
{
    (void)width;
    return image_write_rows(user, frame, 0, height, planes);
}

static int evaluate(usplit_context *context, const usplit_dataset *dataset, const demo_args *a,
                    const train_files *files, const char *stack, const char *picture)
{
    int rc;
    usplit_model *model = NULL;
    usplit_model_facts facts;
    image_writer *writer = NULL;
    heldout test = {0};
    usplit_dataset_reader reader;
    score s = {0};
    score_options options = {.quiet = a->quiet, .take = take_frame};
    CLI_TRY(setup_load(&model, &facts, context, files->best));
    CLI_TRY(heldout_reader(&test, dataset, USPLIT_SET_TEST, &reader));
    CLI_LIB(usplit_tiler_options_init(&options.tiler, sizeof options.tiler));
    options.tiler.pad = demo.pad;
    image_layout layout = {.height = demo.size,
                          .width = demo.size,
                          .channels = 2,
                          .slices = 1,
                          .frames = test.n,
                          .type = USPLIT_TYPE_F32,
                          .names = {"curves A", "curves B"}};
    CLI_TRY(image_create(&writer, stack, &layout));
    options.user = writer;
    CLI_TRY(score_frames(&s, model, &reader, &options));
    CLI_TRY(image_commit(writer, NULL));
    options.take = NULL;
    CLI_TRY(score_picture(&s, model, &reader, &options, picture, NULL, NULL));
    if (a->json) {
        json j;
        json_start(&j, stdout);
        json_begin(&j, NULL, '{');
        score_json(&s, &j);
        json_end(&j, '}');
    } else {
        fprintf(stdout, "On %lld frames that were not trained on:\n\n", (long long)test.n);
        score_print(&s, stdout);
    }
    if (!a->quiet && s.mean_prediction[0].ri_psnr < s.mean_input[0].ri_psnr + 1) {
        fprintf(stderr, "\nThe curves have not come apart: the training was too short. Without --steps and --minutes, or "
                        "with more of them, they do.\n");
    }
done:
    score_free(&s);
    heldout_free(&test);
    image_writer_free(writer);
    usplit_model_free(model);
    return rc;
}

int cmd_demo(int argc, char **argv)
{
    demo_args a;
    train_files files = {0};
    char *outputs[4] = {NULL, NULL, NULL, NULL};
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_model *model = NULL;
    int rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    static const char *const names[4] = {"model.h5", "split.tif", "demo.png", "model.svg"};
    for (int i = 0; i < 4; i++) {
        outputs[i] = cli_format("%s/%s", a.out, names[i]);
        CLI_TRY(files_check_new(outputs[i], a.overwrite));
    }
    CLI_TRY(files_make_folder(a.out));
    train_files_name(&files, outputs[0], NULL);
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_TRY(make_dataset(&dataset, context, &a));
    CLI_TRY(make_model(&model, context, &a));
    rc = train(context, model, dataset, &a, &files);
    if (rc != CLI_OK && rc != CLI_CANCELLED) {
        goto done;
    }
    int stopped = rc;           // Ctrl-C ends the training, not the demo: what is there is shown
    usplit_model_free(model);
    model = NULL;
    CLI_TRY(evaluate(context, dataset, &a, &files, outputs[1], outputs[2]));
    if (!a.quiet) {
        fprintf(stderr, "\nLook at   %s\nImageJ    %s\nmodel     %s, curves %s\n", outputs[2], outputs[1],
                files.best, files.curves);
    }
    rc = stopped;
done:
    usplit_dataset_free(dataset);
    usplit_model_free(model);
    usplit_context_free(context);
    train_files_free(&files);
    for (int i = 0; i < 4; i++) {
        free(outputs[i]);
    }
    return rc;
}
