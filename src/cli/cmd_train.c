// usplit train: channels in TIFF files, or an HDF5 file, to a trained model.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/mixing_args.h"
#include "cli/setup.h"
#include "cli/sources.h"
#include "cli/text.h"
#include "cli/train_run.h"

static const arg_usage usage = {
    "train", "--channel A --channel B [...] -o model.h5 [options]",
    "Learns to split the mean of the channels into the channels; other inputs are under Mixing. Each\n"
    "--channel is a TIFF file (its pages are frames), a folder of TIFFs, or several with commas\n"
    "between; file.tif@2 is the second channel of a file with several. Folders are sorted and paired\n"
    "by name. Ctrl-C stops and keeps a file to go on from (--resume).",
    "usplit train --channel train/nuclei --channel train/actin --names nuclei,actin -o model.h5",
};

typedef struct train_args {
    machine_args machine;
    network_args network;
    image_sources sources;
    mixing_args mixing;
    const char *data, *out, *names, *history;
    int64_t batch, epochs, steps, steps_per_epoch, val_patches, patience, lr_patience, memory;
    double minutes, lr, kl_weight, free_bits, clip_norm, clip_quantile, test_fraction, padding_value;
    int padding, resume, overwrite, json, quiet, no_report;
} train_args;

static int parse(train_args *a, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->network = network_args_none;
    a->mixing = mixing_args_none;
    a->batch = a->epochs = a->steps = a->steps_per_epoch = a->val_patches = -1;
    a->patience = a->lr_patience = a->memory = -1;
    a->minutes = a->lr = a->kl_weight = a->free_bits = a->clip_norm = NAN;
    a->clip_quantile = a->sources.val_fraction = a->test_fraction = a->padding_value = NAN;
    const arg_spec specs[] = {
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->sources.channels, 0, 0, "PATH", "one structure; give it twice or more"},
        AXES_SPEC(a->sources.axes),
        {"--val-channel", "--val", ARG_LIST, &a->sources.validation, 0, 0, "PATH",
         "validation images, per structure (else a tenth of the frames)"},
        {"--test-channel", "--test", ARG_LIST, &a->sources.test, 0, 0, "PATH", "images to set aside, per structure"},
        {"--data", NULL, ARG_TEXT, &a->data, 0, 0, "FILE.h5",
         "dataset /frames (frame, channel, row, column) instead"},
        {"--val-fraction", NULL, ARG_REAL, &a->sources.val_fraction, 0, 0.9, "F",
         "of the frames, for validation (0.1)"},
        {"--test-fraction", NULL, ARG_REAL, &a->test_fraction, 0, 0.9, "F", "of the frames, set aside (0.1)"},
        {"--clip-quantile", NULL, ARG_REAL, &a->clip_quantile, 0.5, 1, "Q",
         "brighter pixels are clipped to this quantile; 1: none (0.995)"},
        {"--padding", NULL, ARG_CHOICE, &a->padding, 0, 0, "reflect|constant", "outside the image (reflect)"},
        {"--padding-value", NULL, ARG_REAL, &a->padding_value, -1e30, 1e30, "V",
         "grey level of constant padding (0)"},
        {"--names", NULL, ARG_TEXT, &a->names, 0, 0, "A,B", "names of the structures"},
        MIXING_SPECS(a->mixing, a->sources),
        {"Network", NULL, 0, NULL, 0, 0, NULL, NULL},
        NETWORK_SPECS(a->network),
        {"Training", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--batch", NULL, ARG_INT, &a->batch, 1, 65536, "N", "patches per step (32)"},
        {"--epochs", NULL, ARG_INT, &a->epochs, 1, 1000000, "N", "at most (200)"},
        {"--steps", NULL, ARG_INT, &a->steps, 1, 1e12, "N", "at most"},
        {"--minutes", NULL, ARG_REAL, &a->minutes, 0, 1e6, "M", "at most"},
        {"--steps-per-epoch", NULL, ARG_INT, &a->steps_per_epoch, 1, 1e9, "N",
         "else as published: every non-overlapping patch once"},
        {"--val-patches", NULL, ARG_INT, &a->val_patches, 1, 1e9, "N",
         "validation patches per epoch, at most (all)"},
        {"--lr", NULL, ARG_REAL, &a->lr, 1e-12, 10, "R", "learning rate (0.001)"},
        {"--lr-patience", NULL, ARG_INT, &a->lr_patience, 0, 1000000, "N",
         "epochs without gain until the rate is halved (15)"},
        {"--patience", NULL, ARG_INT, &a->patience, 1, 1000000, "N",
         "epochs without gain until the end (100)"},
        {"--kl-weight", NULL, ARG_REAL, &a->kl_weight, 0, 1e6, "W", "HVAE (1)"},
        {"--free-bits", NULL, ARG_REAL, &a->free_bits, 0, 1e6, "B", "HVAE (0)"},
        {"--clip-norm", NULL, ARG_REAL, &a->clip_norm, 0, 1e6, "N", "gradient norm; 0: no clipping (0.5)"},
        {"--seed", NULL, ARG_INT, &a->network.seed, 0, 9007199254740992.0, "N", "of everything random (0)"},
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {"--memory", NULL, ARG_BYTES, &a->memory, 0, 0, "SIZE", "limit of planned memory, like 4G"},
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FILE.h5",
         "best model; beside it FILE.last.h5 to go on from, FILE.svg with curves, FILE.html with a report"},
        {"--history", NULL, ARG_TEXT, &a->history, 0, 0, "FILE.csv", "one row per epoch"},
        {"--no-report", NULL, ARG_FLAG, &a->no_report, 0, 0, NULL, "no FILE.html"},
        {"--resume", NULL, ARG_FLAG, &a->resume, 0, 0, NULL, "go on from FILE.last.h5"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "result as JSON on standard output"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no summary, no progress"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc;
    }
    if (rest.n > 0) {
        return cli_error(CLI_USAGE, "'%s' belongs to no option; images are named with --channel",
                         rest.items[0]);
    }
    if (a->out == NULL) {
        return cli_error(CLI_USAGE, "where to? -o model.h5 is missing");
    }
    if (a->data == NULL ? a->sources.channels.n < 2 : a->sources.channels.n > 0) {
        return cli_error(CLI_USAGE, "give two or more --channel, or --data file.h5");
    }
    rc = mixing_check(&a->mixing, &a->sources, a->data != NULL);
    if (rc != CLI_OK) {
        return rc;
    }
    return sources_check(&a->sources);
}

static int trainer_options(usplit_trainer_options *o, const train_args *a)
{
    int rc;
    CLI_LIB(usplit_trainer_options_init(o, sizeof *o));
    o->batch = a->batch > 0 ? (int32_t)a->batch : o->batch;
    o->max_epochs = a->epochs > 0 ? (int32_t)a->epochs : o->max_epochs;
    o->max_steps = a->steps > 0 ? a->steps : o->max_steps;
    o->steps_per_epoch = a->steps_per_epoch > 0 ? a->steps_per_epoch : o->steps_per_epoch;
    o->max_seconds = !isnan(a->minutes) ? 60 * a->minutes : o->max_seconds;
    o->learning_rate = !isnan(a->lr) ? a->lr : o->learning_rate;
    o->clip_norm = !isnan(a->clip_norm) ? a->clip_norm : o->clip_norm;
    o->kl_weight = !isnan(a->kl_weight) ? a->kl_weight : o->kl_weight;
    o->free_bits = !isnan(a->free_bits) ? a->free_bits : o->free_bits;
    o->lr_patience = a->lr_patience >= 0 ? (int32_t)a->lr_patience : o->lr_patience;
    o->early_stop_patience = a->patience > 0 ? (int32_t)a->patience : o->early_stop_patience;
    o->max_validation_patches = a->val_patches > 0 ? a->val_patches : o->max_validation_patches;
    o->memory_budget = a->memory > 0 ? a->memory : o->memory_budget;
    o->seed = a->network.seed > 0 ? (uint64_t)a->network.seed : o->seed;
done:
    return rc;
}

static int make_dataset(usplit_dataset **out, usplit_context *context, const train_args *a, frame_set *set,
                        int64_t patch, int32_t levels, double *clip_quantile)
{
    int rc;
    usplit_dataset_options o;
    CLI_LIB(usplit_dataset_options_init(&o, sizeof o));
    o.padding = a->padding;
    o.padding_value = !isnan(a->padding_value) ? a->padding_value : o.padding_value;
    o.clip_quantile = !isnan(a->clip_quantile) ? a->clip_quantile : o.clip_quantile;
    o.validation_fraction = !isnan(a->sources.val_fraction) ? a->sources.val_fraction : o.validation_fraction;
    o.test_fraction = !isnan(a->test_fraction) ? a->test_fraction : o.test_fraction;
    o.levels = levels;
    mixing_dataset(&o, &a->mixing, &a->sources);
    *clip_quantile = o.clip_quantile;
    if (a->data != NULL) {
        CLI_LIB(usplit_dataset_open(out, context, a->data, NULL, &o));
    } else {
        CLI_TRY(sources_dataset(out, context, &a->sources, set, patch, &o));
    }
done:
    return rc;
}

static int set_names(train_run_options *run, const char *text, int n_channels, char **storage)
{
    arg_list parts;
    int rc = args_split(text, ',', &parts, storage);
    if (rc == CLI_OK && parts.n != n_channels) {
        rc = cli_error(CLI_USAGE, "--names: %d names for %d channels", parts.n, n_channels);
    }
    for (int c = 0; rc == CLI_OK && c < parts.n; c++) {
        run->names[c] = parts.items[c];
    }
    return rc;
}

static int check_files(const train_args *a, const train_files *files)
{
    if (a->resume) {
        return files_exists(files->last) ? CLI_OK :
               cli_error(CLI_FAILED, "nothing to go on from: %s does not exist", files->last);
    }
    const char *outputs[] = {files->best, files->last, files->curves, files->report, a->history};
    for (size_t i = 0; !a->overwrite && i < sizeof outputs / sizeof outputs[0]; i++) {
        if (outputs[i] != NULL && files_exists(outputs[i])) {
            return cli_error(CLI_FAILED, "%s exists; --overwrite replaces it%s", outputs[i],
                             i < 2 ? ", --resume goes on with it" : "");
        }
    }
    files_output probe;         // better to fail now than after the first epoch
    int rc = files_create(&probe, files->best);
    if (rc == CLI_OK) {
        files_discard(&probe);
    }
    return rc;
}

static void print_result(const train_args *a, const train_files *files, const usplit_trainer_facts *f,
                         int stopped)
{
    if (a->json) {
        json j;
        json_start(&j, stdout);
        json_begin(&j, NULL, '{');
        json_text(&j, "model", files->best);
        json_text(&j, "last", files->last);
        json_bool(&j, "stopped", stopped);
        json_bool(&j, "stopped_early", f->stopped_early);
        json_int(&j, "epochs", f->epoch);
        json_int(&j, "steps", f->step);
        json_int(&j, "skipped_steps", f->skipped_steps);
        json_int(&j, "best_epoch", f->best_epoch + 1);
        json_real(&j, "best_val_psnr", f->best_val_psnr);
        json_real(&j, "val_psnr", f->val_psnr);
        json_real(&j, "loss", f->loss);
        json_real(&j, "seconds", f->seconds);
        json_end(&j, '}');
    }
    if (a->quiet) {
        return;
    }
    fprintf(stderr, "%s after %lld steps, %d epochs, %s", stopped ? "stopped" : "done", (long long)f->step,
            f->epoch, text_duration(f->seconds).text);
    if (!isnan(f->best_val_psnr)) {
        fprintf(stderr, "; best %.2f dB in epoch %d: %s", f->best_val_psnr, f->best_epoch + 1, files->best);
    } else {
        fprintf(stderr, "; not validated yet, saved as it is: %s", files->best);
    }
    fprintf(stderr, "%s\n", f->stopped_early ? " (no more gain)" : "");
    if (f->skipped_steps > 0) {
        fprintf(stderr, "usplit: warning: %lld steps left out: loss or gradient was not finite\n",
                (long long)f->skipped_steps);
    }
    if (stopped) {
        fprintf(stderr, "to go on: the same command with --resume (from %s)\n", files->last);
    }
}

// As it could be typed again; to free.
static char *command_line(int argc, char **argv)
{
    char *text = cli_format("usplit train");
    for (int i = 0; i < argc; i++) {
        int plain = argv[i][0] != '\0' && argv[i][strcspn(argv[i], " \t\n\"'\\$`&|;<>()*?[]#~!{}")] == '\0';
        char *longer = cli_format(plain ? "%s %s" : "%s '%s'", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

int cmd_train(int argc, char **argv)
{
    train_args a;
    train_files files = {0};
    train_run_options run = {0};
    frame_set set = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_dataset *dataset = NULL;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_dataset_facts data = {.struct_size = sizeof data};
    usplit_model_options network;
    usplit_trainer_options options;
    usplit_trainer_facts result;
    char *names = NULL, *command = NULL;
    int rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch, --filters or --patch, or a larger --memory");
    train_files_name(&files, a.out, a.history);
    files.report = a.no_report ? NULL : files_with_ending(a.out, ".h5", ".html");
    CLI_TRY(check_files(&a, &files));
    CLI_TRY(setup_context(&context, &a.machine));
    if (a.resume) {
        CLI_TRY(setup_load(&model, &facts, context, files.last));
        CLI_TRY(setup_check_network(&facts, &a.network));
    } else if (a.data == NULL) {
        CLI_TRY(setup_network(&network, &a.network, a.sources.channels.n - mixing_is_measured(&a.mixing)));
        CLI_LIB(usplit_model_create(&model, context, &network));
        CLI_LIB(usplit_model_info(model, &facts));
    }
    // An HDF5 file tells its channels only once it is open; published models need no more than 5 levels.
    int32_t levels = model != NULL ? 1 + facts.lc_count : 1 + (a.network.lc > 4 ? (int32_t)a.network.lc : 4);
    CLI_TRY(make_dataset(&dataset, context, &a, &set, facts.patch, levels, &run.clip_quantile));
    CLI_LIB(usplit_dataset_info(dataset, &data));
    if (model == NULL) {
        CLI_TRY(setup_network(&network, &a.network, (int)data.n_channels));
        CLI_LIB(usplit_model_create(&model, context, &network));
    }
    if (a.names != NULL) {
        CLI_TRY(set_names(&run, a.names, (int)data.n_channels, &names));
    }
    run.pixel_size = set.pixel_size;
    run.resume = a.resume;
    run.command = command = command_line(argc, argv);
    run.quiet = a.quiet;
    frames_free(&set);
    CLI_TRY(trainer_options(&options, &a));
    CLI_TRY(mixing_trainer(&options, &a.mixing, (int)data.n_channels));
    rc = train_run(context, model, dataset, &options, &files, &run, &result);
    if (rc == CLI_OK || rc == CLI_CANCELLED) {
        print_result(&a, &files, &result, rc == CLI_CANCELLED);
    }
done:
    usplit_dataset_free(dataset);
    usplit_model_free(model);
    usplit_context_free(context);
    frames_free(&set);
    train_files_free(&files);
    free(names);
    free(command);
    return rc;
}
