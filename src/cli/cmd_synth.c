// usplit synth: the paper's synthetic critters as two TIFF stacks, and their mixture, to try things on.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/setup.h"
#include "cli/image/images.h"

static const arg_usage usage = {
    "synth", "-o folder [options]",
    "Writes ch1.tif and ch2.tif, stacks of 32-bit frames with wavy curves: the paper's synthetic task,\n"
    "in which the channels can only be told apart by looking far along a curve.",
    "usplit synth -o critters --frames 100 --size 128",
};

typedef struct synth_args {
    const char *out;
    int64_t frames, size, curves, kinds, seed;
    int joiner, mixed, overwrite;
} synth_args;

static int parse(synth_args *a, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->frames = 100;
    a->size = 128;
    a->curves = 5;
    a->kinds = 2;
    const arg_spec specs[] = {
        {"Options", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FOLDER", "where ch1.tif and ch2.tif go"},
        {"--frames", NULL, ARG_INT, &a->frames, 1, 100000, "N", "how many (100)"},
        {"--size", NULL, ARG_INT, &a->size, 16, 16384, "N", "side of a frame, pixels (128)"},
        {"--curves", NULL, ARG_INT, &a->curves, 1, 1000, "N", "curves per channel and frame (5)"},
        {"--kinds", NULL, ARG_INT, &a->kinds, 1, 2, "N",
         "kinds of curves in a channel: 2 as published, 1 much easier to learn (2)"},
        {"--joiner", NULL, ARG_FLAG, &a->joiner, 0, 0, NULL,
         "join the two waves by a third: the harder task"},
        {"--mixed", NULL, ARG_FLAG, &a->mixed, 0, 0, NULL, "also mixed.tif, the mean of both: images to split"},
        {"--seed", NULL, ARG_INT, &a->seed, 0, 9007199254740992.0, "N", "other curves (0)"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc;
    }
    return args_only_out(&rest, a->out);
}

// Writes the mean of n_channels channels from `first` on: one channel, or the mixture of both.
static int write_mean(const usplit_dataset *dataset, int64_t first, int64_t n_channels, const char *path,
                      int64_t n_frames)
{
    int rc;
    int64_t height = 0, width = 0;
    float *mean = NULL, *plane = NULL;
    image_writer *writer = NULL;
    CLI_LIB(usplit_dataset_get_frame(dataset, 0, first, 0, NULL, &height, &width));
    image_layout layout = {.height = height, .width = width, .channels = 1, .slices = 1, .frames = n_frames,
                          .type = USPLIT_TYPE_F32};
    CLI_TRY(image_create(&writer, path, &layout));
    mean = cli_alloc((size_t)(height * width), sizeof *mean);
    plane = cli_alloc((size_t)(height * width), sizeof *plane);
    if (mean == NULL || plane == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int64_t frame = 0; frame < n_frames; frame++) {
        memset(mean, 0, (size_t)(height * width) * sizeof *mean);
        for (int64_t channel = first; channel < first + n_channels; channel++) {
            CLI_LIB(usplit_dataset_get_frame(dataset, frame, channel, 0, plane, &height, &width));
            for (int64_t i = 0; i < height * width; i++) {
                mean[i] += plane[i] / (float)n_channels;
            }
        }
        CLI_TRY(image_write_rows(writer, frame, 0, height, mean));
    }
    CLI_TRY(image_commit(writer, NULL));
done:
    free(mean);
    free(plane);
    image_writer_free(writer);
    return rc;
}

int cmd_synth(int argc, char **argv)
{
    synth_args a;
    char *paths[3] = {NULL, NULL, NULL};
    static const char *const names[] = {"ch1", "ch2", "mixed"};
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_critter_options critters;
    usplit_dataset_options options;
    machine_args machine = {.device = "cpu", .threads = 1};
    int rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    int n_files = a.mixed ? 3 : 2;
    for (int c = 0; c < n_files; c++) {
        paths[c] = cli_format("%s/%s.tif", a.out, names[c]);
        CLI_TRY(files_check_new(paths[c], a.overwrite));
    }
    CLI_TRY(files_make_folder(a.out));
    CLI_TRY(setup_context(&context, &machine));
    CLI_LIB(usplit_critter_options_init(&critters, sizeof critters));
    CLI_LIB(usplit_dataset_options_init(&options, sizeof options));
    critters.n_frames = a.frames;
    critters.size = a.size;
    critters.joiner = a.joiner;
    critters.kinds = (int32_t)a.kinds;
    critters.n_curves = (int32_t)a.curves;
    critters.seed = (uint64_t)a.seed;
    options.clip_quantile = 1;
    options.levels = 1;
    options.validation_fraction = options.test_fraction = 0;
    CLI_LIB(usplit_dataset_create_critters(&dataset, context, &critters, &options));
    for (int c = 0; c < n_files; c++) {
        CLI_TRY(write_mean(dataset, c < 2 ? c : 0, c < 2 ? 1 : 2, paths[c], a.frames));
    }
    fprintf(stderr, "written   %s and %s%s: %lld frames of %lld x %lld\n", paths[0], paths[1],
            a.mixed ? ", and their mean, mixed.tif" : "", (long long)a.frames, (long long)a.size, (long long)a.size);
done:
    usplit_dataset_free(dataset);
    usplit_context_free(context);
    free(paths[0]);
    free(paths[1]);
    free(paths[2]);
    return rc;
}
