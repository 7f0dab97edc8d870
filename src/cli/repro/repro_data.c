// The images of an experiment: the published files, where a user has downloaded them, the user's own, or synthetic
// critters.
#include "cli/repro/repro.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"

// Published files (data 2.1).
static const char pavia_file[] = "OptiMEM100x014.tif";
static const char *const hagen_files[2] = {"actin-60x-noise2-highsnr.tif", "mito-60x-noise2-highsnr.tif"};

void repro_data_help(FILE *file)
{
    fprintf(file,
            "The images of the paper are published by others and not part of usplit. Download what you need\n"
            "into one folder, and name it with --data:\n"
            "\n"
            "  %s\n"
            "      PaviaATN, for Act vs Nuc, Tub vs Nuc and Act vs Tub: Zenodo record 8235843.\n"
            "      About 61 frames of 2720 x 2720 with 4 channels: nuclei, another stain, actin, tubulin.\n"
            "  %s\n"
            "  %s\n"
            "      Hagen et al., for Act vs Mit: GigaScience Database (GigaDB), data set 100888.\n"
            "      100 frames of 2048 x 2048 each.\n"
            "\n"
            "Tasks whose files are not there are left out, and the table says so. Test and validation frames\n"
            "are taken from the files by the published rules.\n"
            "\n"
            "Your own images, for table1, table3, fig4 and fig6:\n"
            "\n"
            "  --data FOLDER\n"
            "      with train, val and test in it, each with a folder or a .tif file per structure, named\n"
            "      alike; or with the structures themselves, of 10 frames or more, some of which are kept\n"
            "      for validation and test\n"
            "  --channel A --channel B [--val A --val B --test A --test B]\n"
            "      as in usplit train\n"
            "\n"
            "table2 makes its images itself.\n",
            pavia_file, hagen_files[0], hagen_files[1]);
}

static char *in_folder(const char *folder, const char *name)
{
    return cli_format("%s/%s", folder, name);
}

static int has_file(const char *folder, const char *name)
{
    char *path = in_folder(folder, name);
    int there = files_exists(path);
    free(path);
    return there;
}

// ---- What the options name --------------------------------------------------------------------------------------

static void keep(repro_request *request, arg_list *list, char *text)
{
    for (size_t i = 0; i < sizeof request->storage / sizeof request->storage[0]; i++) {
        if (request->storage[i] == NULL) {
            request->storage[i] = text;
            list->items[list->n++] = text;
            return;
        }
    }
    free(text);
}

// The structures in FOLDER/train, or in FOLDER itself; validation and test have the same names.
static int open_folder(repro_request *request)
{
    int rc;
    files_list entries = {0};
    char *train = in_folder(request->folder, "train");
    int divided = files_is_folder(train);
    CLI_TRY(files_list_entries(&entries, divided ? train : request->folder));
    if (entries.n < 2 || entries.n > USPLIT_MAX_CHANNELS) {
        rc = cli_error(CLI_USAGE, "%s: %zu structures (folders or .tif files); 2 to %d are accepted, see usplit "
                       "reproduce --data-help", divided ? train : request->folder, entries.n, USPLIT_MAX_CHANNELS);
        goto done;
    }
    for (size_t i = 0; i < entries.n; i++) {
        const char *name = files_base(entries.paths[i]);
        keep(request, &request->sources.channels, cli_format("%s", entries.paths[i]));
        if (divided) {
            keep(request, &request->sources.validation, cli_format("%s/val/%s", request->folder, name));
            keep(request, &request->sources.test, cli_format("%s/test/%s", request->folder, name));
        }
    }
done:
    files_list_free(&entries);
    free(train);
    return rc;
}

// Names of own structures: as asked for, else those of the folders or files.
static int name_channels(repro_request *request)
{
    arg_list parts;
    const arg_list *channels = &request->sources.channels;
    request->n_channels = channels->n;
    if (request->names == NULL) {
        for (int c = 0; c < channels->n; c++) {
            char *stem = files_stem(channels->items[c]);
            stem[strcspn(stem, ",")] = '\0';
            request->channel_names[c] = stem;
        }
        return CLI_OK;
    }
    char *storage;
    int rc = args_split(request->names, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n != channels->n) {
        rc = cli_error(CLI_USAGE, "--names: %d names for %d channels", parts.n, channels->n);
    }
    for (int c = 0; rc == CLI_OK && c < parts.n; c++) {
        request->channel_names[c] = cli_format("%s", parts.items[c]);
    }
    free(storage);
    return rc;
}

int repro_data_open(repro_request *request)
{
    int rc;
    int critters = request->experiment->tasks[0]->source == REPRO_CRITTERS;
    int given = request->folder != NULL || request->sources.channels.n > 0;
    if (critters) {
        return given ? cli_error(CLI_USAGE, "%s makes its own images; --data and --channel are not for it",
                                 request->experiment->key) : CLI_OK;
    }
    if (!given || (request->folder != NULL && request->sources.channels.n > 0)) {
        return cli_error(CLI_USAGE, "which images? Give --data FOLDER, or --channel A --channel B; see usplit "
                         "reproduce --data-help");
    }
    if (request->folder != NULL && (has_file(request->folder, pavia_file) ||
                                    has_file(request->folder, hagen_files[0]))) {
        return CLI_OK;
    }
    request->own_images = 1;
    if (request->folder != NULL) {
        CLI_TRY(open_folder(request));
    }
    if (request->sources.channels.n < 2 || request->sources.channels.n > USPLIT_MAX_CHANNELS) {
        return cli_error(CLI_USAGE, "%d channels given; 2 to %d are accepted", request->sources.channels.n,
                         USPLIT_MAX_CHANNELS);
    }
    CLI_TRY(sources_check(&request->sources));
    if (request->sources.validation.n > 0 && request->sources.test.n == 0) {
        return cli_error(CLI_USAGE, "--val without --test: which images are to be scored?");
    }
    CLI_TRY(name_channels(request));
done:
    return rc;
}

void repro_data_close(repro_request *request)
{
    for (size_t i = 0; i < sizeof request->storage / sizeof request->storage[0]; i++) {
        free(request->storage[i]);
    }
    for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
        free(request->channel_names[c]);
    }
}

// ---- What tells one set of images from another ------------------------------------------------------------------

static int64_t file_bytes(const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        return (int64_t)info.st_size;
    }
    const char *at = strrchr(path, '@');        // path@2
    char *file = cli_format("%.*s", at != NULL ? (int)(at - path) : 0, path);
    int64_t size = stat(file, &info) == 0 ? (int64_t)info.st_size : 0;
    free(file);
    return size;
}

static char *append(char *text, const char *more)
{
    char *longer = cli_format("%s%s", text, more);
    free(text);
    return longer;
}

// Names and sizes of the files of one list of channels.
static int describe(char **text, const arg_list *channels, int64_t *n_frames)
{
    int rc;
    frame_set set = {0};
    char line[512];
    CLI_TRY(frames_add(&set, channels, n_frames));
    for (int c = 0; c < set.n_channels; c++) {
        for (size_t i = 0; i < set.files[c].n; i++) {
            const char *path = set.files[c].paths[i];
            snprintf(line, sizeof line, "%s %lld\n", files_base(path), (long long)file_bytes(path));
            *text = append(*text, line);
        }
    }
    snprintf(line, sizeof line, "%lld frames\n", (long long)*n_frames);
    *text = append(*text, line);
done:
    frames_free(&set);
    return rc;
}

static char *describe_own(const repro_request *request)
{
    const image_sources *s = &request->sources;
    char *text = cli_format("%s", "");
    int64_t n_train = 0, n;
    int rc;
    CLI_TRY(describe(&text, &s->channels, &n_train));
    if (s->validation.n > 0) {
        CLI_TRY(describe(&text, &s->validation, &n));
    }
    if (s->test.n > 0) {
        CLI_TRY(describe(&text, &s->test, &n));
    } else if (n_train < 10) {
        rc = cli_error(CLI_USAGE, "%lld frames leave none to test on; give --val and --test images, or 10 frames and "
                       "more", (long long)n_train);
    }
done:
    if (rc != CLI_OK) {
        free(text);
        text = NULL;
    }
    return text;
}

char *repro_data_identity(const repro_request *request, const repro_task *task, char *reason, size_t size)
{
    char *text = NULL;
    if (task->source == REPRO_CRITTERS) {
        return cli_format("critters");
    }
    if (task->source == REPRO_OWN) {
        if ((text = describe_own(request)) == NULL) {
            snprintf(reason, size, "%s", cli_error_line());
        }
        return text;
    }
    for (int c = 0; c < 2; c++) {
        const char *name = task->source == REPRO_PAVIA ? pavia_file : hagen_files[c];
        char *path = in_folder(request->folder, name), line[128];
        int there = files_exists(path);
        snprintf(line, sizeof line, "%s %lld\n", name, (long long)file_bytes(path));
        free(path);
        if (!there) {
            snprintf(reason, size, "%s is not in %s", name, request->folder);
            free(text);
            return NULL;
        }
        text = text == NULL ? cli_format("%s", line) : append(text, line);
    }
    return text;
}

// ---- Datasets ---------------------------------------------------------------------------------------------------

typedef struct cropped {        // frames of which the central square is handed on
    usplit_dataset_reader whole;
    int64_t side;               // 0: all
    float *plane;
    int64_t room;               // floats in plane
} cropped;

static int64_t shorter(int64_t length, int64_t side)
{
    return side > 0 && side < length ? side : length;
}

static int32_t cropped_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const cropped *c = user;
    int32_t rc = c->whole.frame_size(frame, height, width, c->whole.user);
    *height = shorter(*height, c->side);
    *width = shorter(*width, c->side);
    return rc;
}

static int32_t cropped_read(int64_t frame, int64_t channel, float *dst, void *user)
{
    cropped *c = user;
    int64_t height, width;
    int32_t rc = c->whole.frame_size(frame, &height, &width, c->whole.user);
    if (rc != 0) {
        return rc;
    }
    if (height * width > c->room) {
        free(c->plane);
        c->room = height * width;
        c->plane = cli_alloc((size_t)c->room, sizeof *c->plane);
    }
    if (c->plane == NULL) {
        return CLI_FAILED;
    }
    if ((rc = c->whole.read(frame, channel, c->plane, c->whole.user)) != 0) {
        return rc;
    }
    int64_t h = shorter(height, c->side), w = shorter(width, c->side);
    const float *from = c->plane + (height - h) / 2 * width + (width - w) / 2;
    for (int64_t y = 0; y < h; y++) {
        memcpy(dst + y * w, from + y * width, (size_t)w * sizeof *dst);
    }
    return 0;
}

static int make_published(usplit_dataset **out, usplit_context *context, const repro_request *request,
                          const repro_task *task, const repro_settings *s, const usplit_dataset_options *options)
{
    int rc;
    frame_set set = {0};
    arg_list channels = {.n = 2};
    char *names[2];
    cropped c = {.side = s->crop};
    usplit_dataset_reader reader;
    int64_t n;
    for (int i = 0; i < 2; i++) {
        names[i] = task->source == REPRO_PAVIA
                       ? cli_format("%s/%s@%d", request->folder, pavia_file, task->channels[i])
                       : in_folder(request->folder, hagen_files[i]);
        channels.items[i] = names[i];
    }
    CLI_TRY(frames_add(&set, &channels, &n));
    if (s->frames > 0 && n > s->frames) {
        set.n_frames = s->frames;
    }
    frames_reader(&set, &c.whole);
    reader = c.whole;
    reader.frame_size = cropped_size;
    reader.read = cropped_read;
    reader.user = &c;
    CLI_LIB(usplit_dataset_create_reader(out, context, &reader, options));
done:
    free(c.plane);
    free(names[0]);
    free(names[1]);
    frames_free(&set);
    return rc;
}

int repro_data_make(usplit_dataset **out, usplit_context *context, const repro_request *request,
                    const repro_task *task, const repro_settings *s, int32_t levels)
{
    int rc;
    frame_set set = {0};
    usplit_dataset_options options;
    CLI_LIB(usplit_dataset_options_init(&options, sizeof options));
    options.levels = levels;
    options.split = task->source == REPRO_HAGEN ? USPLIT_SPLIT_SEQUENTIAL : USPLIT_SPLIT_INTERLEAVED;
    if (task->source == REPRO_CRITTERS) {
        CLI_LIB(usplit_dataset_create_critters(out, context, &s->critters, &options));
    } else if (task->source == REPRO_OWN) {
        CLI_TRY(sources_dataset(out, context, &request->sources, &set, s->model.patch, &options));
    } else {
        CLI_TRY(make_published(out, context, request, task, s, &options));
    }
done:
    frames_free(&set);
    return rc;
}
