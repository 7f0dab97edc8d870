// usplit eval: how well a model splits images whose channels are known.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/image/images.h"

static const arg_usage usage = {
    "eval", "model.h5 --channel A --channel B [...] [options]",
    "Mixes the channels as the training did, splits the mixture and compares. Channels are clipped where\n"
    "training clipped them, and compared in normalised units per frame; the table shows means over\n"
    "frames. Give images that were not trained on. Channels are named as in usplit train.",
    "usplit eval model.h5 --channel test/nuclei --channel test/actin --picture eval.png",
};

typedef struct eval_args {
    machine_args machine;
    tiler_args tiler;
    arg_list channels;
    const char *names, *picture, *out, *report, *axes;
    int64_t drop_last;
    int overwrite, json, quiet;
    const char *mixture;
} eval_args;

static int parse(eval_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->tiler = tiler_args_none;
    const arg_spec specs[] = {
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->channels, 0, 0, "PATH", "one structure, in the model's order"},
        {"--mixture", NULL, ARG_TEXT, &a->mixture, 0, 0, "PATH", "measured images, for a model trained on such"},
        AXES_SPEC(a->axes),
        {"--names", NULL, ARG_TEXT, &a->names, 0, 0, "A,B", "names of the structures (the model's)"},
        {"--drop-last", NULL, ARG_INT, &a->drop_last, 0, 1 << 24, "N",
         "last rows and columns left out of the scores; PaviaATN: 32 (0)"},
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--picture", NULL, ARG_TEXT, &a->picture, 0, 0, "FILE.png", "best, median and worst frame"},
        {"--report", NULL, ARG_TEXT, &a->report, 0, 0, "FILE.html", "those frames and the scores of all, as a page"},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FOLDER", "split frames as TIFF files"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "scores as JSON instead of the table"},
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
    if (a->mixture != NULL) {
        a->channels.items[a->channels.n++] = a->mixture;
    }
    return CLI_OK;
}

typedef struct split_writer {   // writes every frame's prediction under a folder
    const frame_set *set;
    const usplit_model_facts *model;
    const char *folder;
    int overwrite;
} split_writer;

static char *frame_path(const split_writer *w, int64_t index)
{
    char *stem = files_stem(w->set->files[0].paths[w->set->frames[index].file]);
    char *path = cli_format("%s/%s_%04lld.tif", w->folder, stem, (long long)w->set->frames[index].page);
    free(stem);
    return path;
}

// Before any work is done.
static int check_folder(const split_writer *w)
{
    int rc = CLI_OK;
    for (int64_t i = 0; rc == CLI_OK && i < w->set->n_frames; i++) {
        char *path = frame_path(w, i);
        rc = files_check_new(path, w->overwrite);
        free(path);
    }
    return rc == CLI_OK ? files_make_folder(w->folder) : rc;
}

static int write_frame(int64_t index, int64_t height, int64_t width, const float *planes, void *user)
{
    int rc;
    const split_writer *w = user;
    char names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    image_writer *writer = NULL;
    char *path = frame_path(w, index);
    image_layout layout = {.height = height,
                          .width = width,
                          .channels = w->model->channels,
                          .slices = 1,
                          .frames = 1,
                          .type = USPLIT_TYPE_F32,
                          .pixel_width = w->set->pixel_size,
                          .pixel_height = w->set->pixel_size};
    for (int c = 0; c < w->model->channels; c++) {
        layout.names[c] = setup_channel_name(w->model, c, names[c], sizeof names[c]);
    }
    CLI_TRY(image_create(&writer, path, &layout));
    CLI_TRY(image_write_rows(writer, 0, 0, height, planes));
    CLI_TRY(image_commit(writer, NULL));
done:
    image_writer_free(writer);
    free(path);
    return rc;
}

static char *name_of(int64_t frame, void *user)
{
    return frames_name(user, frame);
}

int cmd_eval(int argc, char **argv)
{
    eval_args a;
    arg_list rest, parts = {.n = 0};
    score s = {0};
    score_options options = {0};
    frame_set set = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts;
    usplit_dataset_reader reader;
    int64_t n;
    char *names = NULL;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch, fewer --threads, or a larger --memory");
    CLI_TRY(files_check_new(a.picture, a.overwrite));
    CLI_TRY(files_check_new(a.report, a.overwrite));
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
    CLI_TRY(score_tiler_options(&options.tiler, &a.tiler));
    if (a.names != NULL) {
        CLI_TRY(args_split(a.names, ',', &parts, &names));
        if (parts.n != facts.channels) {
            rc = cli_error(CLI_USAGE, "--names: %d names for %d channels", parts.n, facts.channels);
            goto done;
        }
        memcpy(options.names, parts.items, sizeof *parts.items * (size_t)parts.n);
    }
    set.axes = a.axes;
    CLI_TRY(frames_add(&set, &a.channels, &n));
    frames_reader(&set, &reader);
    split_writer writer = {&set, &facts, a.out, a.overwrite};
    if (a.out != NULL) {
        CLI_TRY(check_folder(&writer));
        options.take = write_frame;
        options.user = &writer;
    }
    options.quiet = a.quiet;
    options.pixel_size = set.pixel_size;
    options.drop_last = a.drop_last;
    CLI_TRY(score_frames(&s, model, &reader, &options));
    if (a.json) {
        json j;
        json_start(&j, stdout);
        json_begin(&j, NULL, '{');
        json_text(&j, "model", rest.items[0]);
        score_json(&s, &j);
        json_end(&j, '}');
    } else {
        score_print(&s, stdout);
    }
    if (a.picture != NULL) {
        CLI_TRY(score_picture(&s, model, &reader, &options, a.picture, name_of, &set));
    }
    if (a.report != NULL) {
        CLI_TRY(score_report(&s, model, &reader, &options, a.report, rest.items[0], name_of, &set));
    }
done:
    score_free(&s);
    usplit_model_free(model);
    usplit_context_free(context);
    frames_free(&set);
    free(names);
    return rc;
}
