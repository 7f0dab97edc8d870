// usplit import: a checkpoint of the published PyTorch code to a model file. The file is read, never executed; what it
// does not say (networks 10.7) comes from options, or from the images that it was trained on.
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/import/checkpoint.h"
#include "cli/import/infer.h"
#include "cli/setup.h"
#include "cli/sources.h"
#include "cli/text.h"

static const arg_usage usage = {
    "import", "checkpoint.ckpt -o model.h5 [options]",
    "Makes a model file of a checkpoint of the published PyTorch code. Nothing in the checkpoint is\n"
    "executed. The network is told by names and shapes in it; network options help where they do not.\n"
    "It does not hold the normalisation: give the constants, or the images it was trained on.",
    "usplit import BaselineVAECL_best.ckpt --channel train/nuclei --channel train/actin -o model.h5",
};

typedef struct import_args {
    const char *file, *config, *out, *names, *data, *target_mean, *target_std;
    network_args network;
    image_sources sources;
    int64_t channels, threads;
    double mean, std, clip, clip_quantile, test_fraction, padding_value, pixel_size;
    int padding, overwrite, quiet;
} import_args;

static int check(const import_args *a)
{
    int images = a->sources.channels.n > 0 || a->data != NULL;
    int constants = !isnan(a->mean) || !isnan(a->std) || a->target_mean != NULL || a->target_std != NULL;
    if (a->out == NULL) {
        return cli_error(CLI_USAGE, "where to? -o model.h5 is missing");
    }
    if (images && (constants || !isnan(a->clip))) {
        return cli_error(CLI_USAGE, "constants and images: the normalisation comes from one or the other");
    }
    if (constants && (a->target_mean == NULL || a->target_std == NULL || isnan(a->mean) != isnan(a->std))) {
        return cli_error(CLI_USAGE, "constants come as --target-mean and --target-std, and, where they do not follow "
                         "from these, as --mean and --std too");
    }
    if (images && (a->data == NULL ? a->sources.channels.n < 2 : a->sources.channels.n > 0)) {
        return cli_error(CLI_USAGE, "give two or more --channel, or --data file.h5");
    }
    return sources_check(&a->sources);
}

static int parse(import_args *a, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->network = network_args_none;
    a->channels = -1;
    a->mean = a->std = a->clip = a->clip_quantile = a->test_fraction = a->padding_value = a->pixel_size = NAN;
    a->sources.val_fraction = NAN;
    const arg_spec specs[] = {
        {"Normalisation by constants, in grey levels", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--target-mean", NULL, ARG_TEXT, &a->target_mean, 0, 0, "A,B", "mean of each structure's training images"},
        {"--target-std", NULL, ARG_TEXT, &a->target_std, 0, 0, "A,B", "their standard deviations"},
        {"--mean", NULL, ARG_REAL, &a->mean, -1e30, 1e30, "M", "of the input (of all structures' pixels together)"},
        {"--std", NULL, ARG_REAL, &a->std, 0, 1e30, "S", "of the input (of all structures' pixels together)"},
        {"--clip", NULL, ARG_REAL, &a->clip, -1e30, 1e30, "V", "brighter pixels are set to it (none)"},
        {"Normalisation from the images it was trained on", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->sources.channels, 0, 0, "PATH", "one structure; give it twice or more"},
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
        {"Both", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--padding", NULL, ARG_CHOICE, &a->padding, 0, 0, "reflect|constant", "outside the image (reflect)"},
        {"--padding-value", NULL, ARG_REAL, &a->padding_value, -1e30, 1e30, "V",
         "grey level of constant padding (0)"},
        {"--names", NULL, ARG_TEXT, &a->names, 0, 0, "A,B", "names of the structures"},
        {"--pixel-size", NULL, ARG_REAL, &a->pixel_size, 0, 1e6, "UM", "micrometres (what the images say)"},
        {"Network, where the file does not tell it", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--config", NULL, ARG_TEXT, &a->config, 0, 0, "FILE.pkl",
         "configuration that the published code saved beside the checkpoint; read, not executed"},
        {"--channels", NULL, ARG_INT, &a->channels, 2, USPLIT_MAX_CHANNELS, "K", "structures it splits into"},
        NETWORK_SPECS(a->network),
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FILE.h5", "the model"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace a file that exists"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no summary"},
        THREADS_SPEC(*a),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc;
    }
    if (rest.n != 1) {
        return cli_error(CLI_USAGE, rest.n == 0 ? "which checkpoint?" : "one checkpoint at a time");
    }
    a->file = rest.items[0];
    return check(a);
}

// ---- Memory -----------------------------------------------------------------------------------------------------
// Names and shapes are the file's word: while the network that they speak of is made, no more memory is given than a
// file of this length can fill.

typedef struct memory_limit {
    _Atomic int64_t left;       // bytes; negative once it was too much
    _Atomic int on;
} memory_limit;

static void *limited_alloc(size_t bytes, void *user)
{
    memory_limit *limit = user;
    int64_t n = bytes < INT64_MAX / 2 ? (int64_t)bytes : INT64_MAX / 2;
    if (atomic_load(&limit->on) && atomic_fetch_sub(&limit->left, n) < n) {
        return NULL;
    }
    return malloc(bytes);
}

static void limited_release(void *block, void *user)
{
    (void)user;
    free(block);
}

static int make_context(usplit_context **out, const import_args *a, memory_limit *limit)
{
    int rc;
    usplit_context_options options;
    CLI_LIB(usplit_context_options_init(&options, sizeof options));
    options.device = "cpu";
    options.threads = (int32_t)a->threads;
    options.alloc = limited_alloc;
    options.release = limited_release;
    options.alloc_user = limit;
    CLI_LIB(usplit_context_create(out, &options));
done:
    return rc;
}

static int make_model(usplit_model **out, usplit_context *context, memory_limit *limit, const infer_network *network,
                      const checkpoint *c)
{
    int rc;
    usplit_model_options options;
    CLI_TRY(setup_network(&options, &network->args, (int)network->channels));
    options.logvar_lower_bound = network->logvar_lower_bound;
    options.var_clip_max = network->var_clip_max;
    uint64_t most = c->zip.size < INT64_MAX / 8 ? c->zip.size : INT64_MAX / 8;
    atomic_store(&limit->left, (int64_t)(4 * most) + (64 << 20));
    atomic_store(&limit->on, 1);
    usplit_status status = usplit_model_create(out, context, &options);
    atomic_store(&limit->on, 0);
    if (status == USPLIT_ERR_MEMORY && atomic_load(&limit->left) < 0) {
        return cli_error(CLI_FAILED, "%s: names and shapes are those of a network larger than the file", c->path);
    }
    CLI_LIB(status);
done:
    return rc;
}

// ---- Normalisation ----------------------------------------------------------------------------------------------

// The input's, as published: over the pixels of all structures together, of which each has equally many (data 2.4).
static void pool(usplit_model_normalisation *n, int channels)
{
    double mean = 0, square = 0;
    for (int c = 0; c < channels; c++) {
        mean += n->target_mean[c] / channels;
        square += (n->target_deviation[c] * n->target_deviation[c] + n->target_mean[c] * n->target_mean[c]) / channels;
    }
    n->input_mean = mean;
    n->input_deviation = sqrt(square - mean * mean);
}

static int read_list(double *numbers, int channels, const char *option, const char *text)
{
    arg_list parts;
    char *storage = NULL;
    int rc = args_split(text, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n != channels) {
        rc = cli_error(CLI_USAGE, "%s: %d numbers for %d channels", option, parts.n, channels);
    }
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        char *end;
        numbers[i] = strtod(parts.items[i], &end);
        if (*end != '\0' || !isfinite(numbers[i])) {
            rc = cli_error(CLI_USAGE, "%s: '%s' is not a number", option, parts.items[i]);
        }
    }
    free(storage);
    return rc;
}

static int from_constants(usplit_model_normalisation *n, const import_args *a, int channels)
{
    int rc;
    CLI_TRY(read_list(n->target_mean, channels, "--target-mean", a->target_mean));
    CLI_TRY(read_list(n->target_deviation, channels, "--target-std", a->target_std));
    if (isnan(a->mean)) {
        pool(n, channels);
    } else {
        n->input_mean = a->mean;
        n->input_deviation = a->std;
    }
done:
    return rc;
}

static int from_images(usplit_model_normalisation *n, usplit_context *context, const import_args *a, int64_t patch,
                       int channels)
{
    int rc;
    usplit_dataset *dataset = NULL;
    usplit_dataset_options o;
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    frame_set set = {0};
    CLI_LIB(usplit_dataset_options_init(&o, sizeof o));
    o.levels = 1;
    o.clip_quantile = !isnan(a->clip_quantile) ? a->clip_quantile : o.clip_quantile;
    o.validation_fraction = !isnan(a->sources.val_fraction) ? a->sources.val_fraction : o.validation_fraction;
    o.test_fraction = !isnan(a->test_fraction) ? a->test_fraction : o.test_fraction;
    if (a->data != NULL) {
        CLI_LIB(usplit_dataset_open(&dataset, context, a->data, NULL, &o));
    } else {
        CLI_TRY(sources_dataset(&dataset, context, &a->sources, &set, patch, &o));
    }
    CLI_LIB(usplit_dataset_info(dataset, &facts));
    if (facts.n_channels != channels) {
        rc = cli_error(CLI_FAILED, "images of %d structures for a network that splits into %d", (int)facts.n_channels,
                       channels);
        goto done;
    }
    n->clip_value = facts.clip_value;
    n->input_mean = facts.input_mean;
    n->input_deviation = facts.input_deviation;
    n->pixel_size = set.pixel_size > 0 ? set.pixel_size : 0;
    memcpy(n->target_mean, facts.target_mean, sizeof n->target_mean);
    memcpy(n->target_deviation, facts.target_deviation, sizeof n->target_deviation);
    if (!a->quiet) {
        setup_print_dataset(stderr, &facts, o.clip_quantile);
    }
done:
    usplit_dataset_free(dataset);
    frames_free(&set);
    return rc;
}

// hyper_parameters.data_mean and data_std, where a training kept them: a number per structure, or one for all; or both
// as a dictionary of "input" and "target".
static int read_constants(double *input, double *target, checkpoint *c, const char *key, int channels)
{
    double numbers[16];
    int n = 0;
    const pickle_value *all = checkpoint_setting(c, NULL, key);
    const pickle_value *own = pickle_get(&c->pickle, all, "target"), *of_input = pickle_get(&c->pickle, all, "input");
    if (!checkpoint_numbers(c, own != NULL ? own : all, numbers, 16, &n) || (n != 1 && n != channels)) {
        return 0;
    }
    for (int i = 0; i < channels; i++) {
        target[i] = numbers[n == 1 ? 0 : i];
    }
    *input = NAN;
    if (own != NULL && checkpoint_numbers(c, of_input, numbers, 16, &n)) {
        *input = numbers[0];
        for (int i = 1; i < n; i++) {
            *input = numbers[i] == numbers[0] ? *input : NAN;   // one for all, as published, or none
        }
    }
    return 1;
}

static int from_checkpoint(usplit_model_normalisation *n, checkpoint *c, int channels)
{
    double mean, deviation;
    if (!read_constants(&mean, n->target_mean, c, "data_mean", channels) ||
        !read_constants(&deviation, n->target_deviation, c, "data_std", channels)) {
        return cli_error(CLI_FAILED, "%s does not hold the normalisation: give --target-mean and --target-std, or the "
                         "images it was trained on with --channel", c->path);
    }
    if (isnan(mean) || isnan(deviation)) {
        pool(n, channels);
    } else {
        n->input_mean = mean;
        n->input_deviation = deviation;
    }
    return CLI_OK;
}

static int set_names(usplit_model_normalisation *n, const char *text, int channels)
{
    arg_list parts;
    char *storage = NULL;
    int rc = args_split(text, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n != channels) {
        rc = cli_error(CLI_USAGE, "--names: %d names for %d channels", parts.n, channels);
    }
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        snprintf(n->channel_names[i], sizeof n->channel_names[i], "%s", parts.items[i]);
    }
    free(storage);
    return rc;
}

static int normalise(usplit_model *model, usplit_context *context, const import_args *a, checkpoint *c)
{
    int rc;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_model_normalisation n;
    memset(&n, 0, sizeof n);
    n.struct_size = sizeof n;
    CLI_LIB(usplit_model_info(model, &facts));
    n.clip_value = isnan(a->clip) ? INFINITY : a->clip;
    if (a->target_mean != NULL) {
        CLI_TRY(from_constants(&n, a, facts.channels));
    } else if (a->data != NULL || a->sources.channels.n > 0) {
        CLI_TRY(from_images(&n, context, a, facts.patch, facts.channels));
    } else {
        CLI_TRY(from_checkpoint(&n, c, facts.channels));
    }
    n.padding = a->padding;
    n.padding_value = !isnan(a->padding_value) ? a->padding_value : 0;
    n.pixel_size = !isnan(a->pixel_size) ? a->pixel_size : n.pixel_size;
    if (a->names != NULL) {
        CLI_TRY(set_names(&n, a->names, facts.channels));
    }
    CLI_LIB(usplit_model_set_normalisation(model, &n));
done:
    return rc;
}

// ---- What was done ----------------------------------------------------------------------------------------------

static void print_summary(const usplit_model_facts *f, const infer_network *network, const checkpoint *c,
                          int64_t n_values)
{
    double epoch;
    setup_print_model(stderr, f);
    fprintf(stderr, "imported  %lld arrays, %s numbers", (long long)f->n_entries, text_count((double)n_values).text);
    if (pickle_number(checkpoint_top(c, "epoch"), &epoch) && epoch >= 0 && epoch < 1e9) {
        fprintf(stderr, "; saved after %.0f epochs", epoch + 1);
    }
    fputc('\n', stderr);
    if (network->assumed[0] != '\0') {
        fprintf(stderr, "assumed   %s\n", network->assumed);
    }
    fprintf(stderr, "input     mean %.6g, deviation %.6g grey levels; ", f->input_mean, f->input_deviation);
    if (isfinite(f->clip_value)) {
        fprintf(stderr, "clipped at %.6g\n", f->clip_value);
    } else {
        fprintf(stderr, "not clipped\n");
    }
}

int cmd_import(int argc, char **argv)
{
    import_args a;
    checkpoint c = {0};
    infer_network network;
    memory_limit limit = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    int64_t n_values;
    int rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    if ((rc = files_check_new(a.out, a.overwrite)) != 0) {
        return rc;
    }
    CLI_TRY(checkpoint_open(&c, a.file));
    if (a.config != NULL) {
        CLI_TRY(checkpoint_open_config(&c, a.config));
    }
    CLI_TRY(infer_from(&network, &c, &a.network, a.channels));
    CLI_TRY(make_context(&context, &a, &limit));
    CLI_TRY(make_model(&model, context, &limit, &network, &c));
    CLI_TRY(infer_fill(model, &c, &n_values));
    CLI_TRY(normalise(model, context, &a, &c));
    CLI_LIB(usplit_model_save(model, a.out));
    CLI_LIB(usplit_model_info(model, &facts));
    if (!a.quiet) {
        print_summary(&facts, &network, &c, n_values);
    }
done:
    usplit_model_free(model);
    usplit_context_free(context);
    checkpoint_close(&c);
    return rc;
}
