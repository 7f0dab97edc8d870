// usplit plan: what a split or a training would need, before it is run. Tiles, bytes and multiply-adds come from the
// library's plans and are exact; times are estimates from a few passes made here, on made-up pixels.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/image/images.h"

static const arg_usage usage = {
    "plan", "[model.h5 [image.tif ...]] [--size HxW] [options]",
    "Tells what splitting images would need: tiles, passes, memory, multiply-adds and, from a few passes\n"
    "made now, an estimate of the time. Images are named, or only their size. Without a model file, of a\n"
    "fresh network from the network options, and what a step of its training would need.",
    "usplit plan model.h5 --size 20000x30000 --samples 10",
};

typedef struct plan_args {
    machine_args machine;
    network_args network;       // with a model file: --patch is that of the tiles
    tiler_args tiler;
    const char *size, *axes;
    int64_t height, width, channels, batch, steps, memory;
    int train, no_time, json;
} plan_args;

typedef struct split_cost {     // of all images
    int64_t images, pages, tiles, passes, macs;
    double seconds;             // 0: not known
    usplit_tiler_cost largest;  // the page that needs most memory
    int64_t height, width;      // its size
} split_cost;

typedef struct train_cost {
    int32_t batch, part_batch;
    usplit_model_cost cost;
    int64_t arena_bytes;
    double seconds;             // of a step; 0: not known
} train_cost;

static int parse_size(plan_args *a)
{
    char *x, *end = NULL;
    a->height = strtoll(a->size, &x, 10);
    a->width = *x == 'x' ? strtoll(x + 1, &end, 10) : 0;
    return a->width >= 1 && a->height >= 1 && *end == '\0' ? CLI_OK :
           cli_error(CLI_USAGE, "--size: '%s' is not a size like 2048x2048, rows first", a->size);
}

static int parse(plan_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->network = network_args_none;
    a->tiler = tiler_args_none;
    a->channels = 2;
    a->batch = a->memory = -1;
    const arg_spec specs[] = {
        {"What to plan", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--size", NULL, ARG_TEXT, &a->size, 0, 0, "HxW", "of the image to split, rows first"},
        AXES_SPEC(a->axes),
        {"--train", NULL, ARG_FLAG, &a->train, 0, 0, NULL, "also a step of training (always without a model file)"},
        {"--steps", NULL, ARG_INT, &a->steps, 1, 1e12, "N", "of training, for the time they take together"},
        {"--batch", NULL, ARG_INT, &a->batch, 1, 65536, "N", "training: patches per step (32)"},
        {"--memory", NULL, ARG_BYTES, &a->memory, 0, 0, "SIZE", "limit of planned memory, like 4G"},
        {"--no-time", NULL, ARG_FLAG, &a->no_time, 0, 0, NULL, "no passes are made, no time is told"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "as JSON on standard output"},
        {"Splitting", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--samples", NULL, ARG_INT, &a->tiler.samples, 1, 1000000, "N", "HVAE: posterior samples to average (1)"},
        {"--latent", NULL, ARG_CHOICE, &a->tiler.latent, 0, 0, "sample|mean", "HVAE: as in usplit split"},
        {"--pad", NULL, ARG_INT, &a->tiler.pad, 0, 65536, "N",
         "pixels discarded around every tile (a quarter of the patch)"},
        {"--outer", NULL, ARG_FLAG, &a->tiler.outer, 0, 0, NULL, "pad tiles outside the patch"},
        {"--shifts", NULL, ARG_INT, &a->tiler.shifts, 1, 65536, "N", "shifted grids of tiles to average (1)"},
        {"Network (--patch with a model file: what it is shown at a time)", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channels", NULL, ARG_INT, &a->channels, 2, USPLIT_MAX_CHANNELS, "K", "structures to split into (2)"},
        NETWORK_SPECS(a->network),
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0) {
        return rc;
    }
    if (a->size != NULL && rest->n > 1) {
        return cli_error(CLI_USAGE, "--size or images, not both");
    }
    if (rest->n == 1 && a->size == NULL && !a->train) {
        return cli_error(CLI_USAGE, "splitting what? Name images, or --size HxW; or --train");
    }
    a->train = a->train || rest->n == 0;
    a->tiler.memory = a->memory;
    return a->size != NULL ? parse_size(a) : CLI_OK;
}

// ---- Splitting --------------------------------------------------------------------------------------

// A network that was never trained has no normalisation, which changes nothing of the work.
static int give_normalisation(usplit_model *model, const usplit_model_facts *facts)
{
    usplit_model_normalisation n = {.struct_size = sizeof n, .clip_value = 1, .input_deviation = 1};
    for (int c = 0; c < facts->channels; c++) {
        n.target_deviation[c] = 1;
    }
    return facts->has_normalisation ? CLI_OK : cli_status(usplit_model_set_normalisation(model, &n));
}

// Seconds of a pass, of all workers together: rows of tiles of an empty image for half a second, after one to warm up.
static int time_passes(double *seconds, const usplit_model *model, const usplit_model_facts *facts,
                       const usplit_tiler_options *options, const usplit_tiler_cost *like)
{
    int rc;
    usplit_tiler *tiler = NULL;
    usplit_tiler_options o = *options;
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    int64_t least = (int64_t)1 << facts->lc_count, side = like->inner > least ? like->inner : least;
    int64_t width = 4 * side * like->workers * like->batch;
    usplit_image in, out;
    float *pixels = cli_alloc((size_t)(side * width), sizeof *pixels * (size_t)(1 + facts->channels));
    if (pixels == NULL) {
        return CLI_FAILED;
    }
    o.samples = 1;
    o.shifts = 1;
    o.deviations = 0;
    CLI_LIB(usplit_tiler_create(&tiler, model, &o));
    CLI_LIB(usplit_image_init(&in, sizeof in, pixels, USPLIT_TYPE_F32, 1, side, width, 1));
    CLI_LIB(usplit_image_init(&out, sizeof out, pixels + side * width, USPLIT_TYPE_F32, 1, side, width, facts->channels));
    CLI_LIB(usplit_tiler_plan(tiler, side, width, &cost));
    CLI_LIB(usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL));
    double begin = cli_seconds(), spent;
    int64_t passes = 0;
    do {
        CLI_LIB(usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL));
        passes += cost.passes;
        spent = cli_seconds() - begin;
    } while (spent < 0.5);
    *seconds = spent / (double)passes;
done:
    usplit_tiler_free(tiler);
    free(pixels);
    return rc;
}

static int add_page(split_cost *t, const usplit_tiler *tiler, int64_t height, int64_t width)
{
    int rc;
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    CLI_LIB(usplit_tiler_plan(tiler, height, width, &cost));
    t->pages++;
    t->tiles += cost.tiles;
    t->passes = t->passes > INT64_MAX - cost.passes ? INT64_MAX : t->passes + cost.passes;
    t->macs = t->macs > INT64_MAX - cost.macs ? INT64_MAX : t->macs + cost.macs;
    if (cost.host_bytes + cost.device_bytes > t->largest.host_bytes + t->largest.device_bytes) {
        t->largest = cost;
        t->height = height;
        t->width = width;
    }
done:
    return rc;
}

static int add_image(split_cost *t, const usplit_tiler *tiler, const char *name, const char *axes)
{
    int rc;
    image_file *file = NULL;
    image_facts facts;
    CLI_TRY(image_open_axes(&file, name, axes));
    image_info(file, &facts);
    for (int64_t page = 0, height, width; page < facts.pages; page++) {
        CLI_TRY(image_page_size(file, page, &height, &width));
        CLI_TRY(add_page(t, tiler, height, width));
    }
    t->images++;
done:
    image_close(file);
    return rc;
}

static int plan_split(split_cost *t, usplit_model *model, const usplit_model_facts *facts, const plan_args *a,
                      const arg_list *rest)
{
    int rc;
    usplit_tiler *tiler = NULL;
    usplit_tiler_options options;
    tiler_args given = a->tiler;
    double seconds = 0;
    given.patch = rest->n > 0 ? a->network.patch : -1;
    CLI_TRY(score_tiler_options(&options, &given));
    CLI_TRY(give_normalisation(model, facts));
    CLI_LIB(usplit_tiler_create(&tiler, model, &options));
    if (a->size != NULL) {
        CLI_TRY(add_page(t, tiler, a->height, a->width));
        t->images = 1;
    }
    for (int i = 1; i < rest->n; i++) {
        files_list in = {0};
        rc = files_is_folder(rest->items[i]) && !image_is_file(rest->items[i]) ? files_list_folder(&in, rest->items[i]) :
             files_list_add(&in, cli_format("%s", rest->items[i]));
        for (size_t k = 0; rc == CLI_OK && k < in.n; k++) {
            rc = add_image(t, tiler, in.paths[k], a->axes);
        }
        files_list_free(&in);
        CLI_TRY(rc);
    }
    if (!a->no_time) {
        CLI_TRY(time_passes(&seconds, model, facts, &options, &t->largest));
        t->seconds = seconds * (double)t->passes;
    }
done:
    usplit_tiler_free(tiler);
    return rc;
}

// ---- Training ---------------------------------------------------------------------------------------

// Two frames of made-up pixels, large enough for a patch and its context.
static int make_frames(usplit_dataset **out, usplit_context *context, const usplit_model_facts *facts)
{
    int rc;
    static const int64_t train_frames[2] = {0, 1};
    usplit_dataset_options o;
    usplit_image view;
    int64_t least = (int64_t)1 << facts->lc_count, side = facts->patch > least ? facts->patch : least;
    size_t n = (size_t)(2 * side * side * facts->channels);
    float *pixels = cli_alloc(n, sizeof *pixels);
    if (pixels == NULL) {
        return CLI_FAILED;
    }
    for (size_t i = 0; i < n; i++) {
        pixels[i] = (float)(i * 7919 % 1009);
    }
    CLI_LIB(usplit_dataset_options_init(&o, sizeof o));
    o.levels = 1 + facts->lc_count;
    o.train_frames = train_frames;
    o.n_train_frames = 2;
    CLI_LIB(usplit_image_init(&view, sizeof view, pixels, USPLIT_TYPE_F32, 2, side, side, facts->channels));
    CLI_LIB(usplit_dataset_create(out, context, &view, 1, &o));
done:
    free(pixels);
    return rc;
}

// The second step of a trainer.
static int time_step(double *seconds, usplit_model *model, usplit_dataset *dataset, const usplit_trainer_options *o)
{
    int rc;
    usplit_trainer *trainer = NULL;
    CLI_LIB(usplit_trainer_create(&trainer, model, dataset, o));
    for (int i = 0; i < 2; i++) {
        double begin = cli_seconds();
        CLI_LIB(usplit_trainer_step(trainer));
        *seconds = cli_seconds() - begin;
    }
done:
    usplit_trainer_free(trainer);
    return rc;
}

static int plan_train(train_cost *t, usplit_context *context, usplit_model *model, const usplit_model_facts *facts,
                      const plan_args *a)
{
    int rc;
    usplit_dataset *dataset = NULL;
    usplit_trainer *trainer = NULL;
    usplit_trainer_options o;
    usplit_trainer_facts trainer_facts = {.struct_size = sizeof trainer_facts};
    usplit_context_facts machine = {.struct_size = sizeof machine};
    CLI_LIB(usplit_trainer_options_init(&o, sizeof o));
    CLI_LIB(usplit_context_info(context, &machine));
    o.batch = a->batch > 0 ? (int32_t)a->batch : o.batch;
    o.memory_budget = a->memory > 0 ? a->memory : 0;
    o.steps_per_epoch = 1000;
    CLI_TRY(make_frames(&dataset, context, facts));
    CLI_LIB(usplit_trainer_create(&trainer, model, dataset, &o));
    CLI_LIB(usplit_trainer_info(trainer, &trainer_facts));
    t->batch = o.batch;
    t->part_batch = trainer_facts.part_batch;
    t->arena_bytes = trainer_facts.arena_bytes;
    t->cost.struct_size = sizeof t->cost;
    usplit_trainer_free(trainer);
    trainer = NULL;
    CLI_LIB(usplit_model_plan(model, USPLIT_MODE_TRAIN, t->part_batch, 0, &t->cost));
    if (!a->no_time) {
        // On the CPU a patch is one worker's: as many as there are workers tell as much as a whole batch.
        int32_t some = strcmp(machine.device, "cpu") == 0 && machine.threads < t->part_batch ? machine.threads : t->part_batch;
        o.batch = some;
        CLI_TRY(time_step(&t->seconds, model, dataset, &o));
        t->seconds *= ceil((double)t->batch / (double)some);
    }
done:
    usplit_trainer_free(trainer);
    usplit_dataset_free(dataset);
    return rc;
}

// ---- Telling ----------------------------------------------------------------------------------------

static void print_split(const split_cost *t)
{
    const usplit_tiler_cost *c = &t->largest;
    if (t->pages == 1) {
        printf("splitting %" PRId64 " x %" PRId64 " pixels (rows, columns)\n", t->height, t->width);
    } else {
        printf("splitting %" PRId64 " page%s of %" PRId64 " image%s, up to %" PRId64 " x %" PRId64 "\n", t->pages,
               t->pages == 1 ? "" : "s", t->images, t->images == 1 ? "" : "s", t->height, t->width);
    }
    printf("tiles     %" PRId64 " of %d pixels, the inner %d kept; %" PRId64 " passes; batch %d, %d worker%s\n", t->tiles,
           c->patch, c->inner, t->passes, c->batch, c->workers, c->workers == 1 ? "" : "s");
    printf("memory    %s planned", text_bytes((double)c->host_bytes).text);
    if (c->device_bytes > 0) {
        printf(", and %s on the device", text_bytes((double)c->device_bytes).text);
    }
    printf("\nwork      %s multiply-adds\n", text_count((double)t->macs).text);
    if (t->seconds > 0) {
        printf("time      about %s (estimate, from a few passes made now)\n", text_duration(t->seconds).text);
    }
}

static void print_train(const train_cost *t, int64_t steps)
{
    printf("training  batch %d", t->batch);
    if (t->part_batch < t->batch) {
        printf(", in parts of %d to fit the memory", t->part_batch);
    }
    printf("\nmemory    %s working memory, %s parameters, gradients and optimiser; the images come on top\n",
           text_bytes((double)t->arena_bytes).text, text_bytes((double)t->cost.parameter_bytes).text);
    printf("work      %s multiply-adds per step (forward pass; the backward pass is about twice as much again)\n",
           text_count((double)t->cost.macs * t->batch).text);
    if (t->seconds > 0) {
        printf("time      about %s per step", text_duration(t->seconds).text);
        if (steps > 0) {
            printf(", %s for %" PRId64 " steps without validation", text_duration(t->seconds * (double)steps).text, steps);
        }
        printf(" (estimate, from a step made now)\n");
    }
}

static void json_seconds(json *j, const char *key, double seconds)
{
    json_real(j, key, seconds > 0 ? seconds : NAN);
}

static void print_json(const split_cost *s, const train_cost *t, const plan_args *a, const char *device, const char *file)
{
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_text(&j, "model", file != NULL ? file : "");
    json_text(&j, "device", device);
    if (s->pages > 0) {
        const usplit_tiler_cost *c = &s->largest;
        json_begin(&j, "split", '{');
        json_int(&j, "images", s->images);
        json_int(&j, "pages", s->pages);
        json_int(&j, "height", s->height);
        json_int(&j, "width", s->width);
        json_int(&j, "tiles", s->tiles);
        json_int(&j, "tile_rows", c->tile_rows);
        json_int(&j, "tile_columns", c->tile_columns);
        json_int(&j, "passes", s->passes);
        json_int(&j, "patch", c->patch);
        json_int(&j, "inner", c->inner);
        json_int(&j, "batch", c->batch);
        json_int(&j, "workers", c->workers);
        json_int(&j, "planned_bytes", c->host_bytes);
        json_int(&j, "device_bytes", c->device_bytes);
        json_int(&j, "macs", s->macs);
        json_seconds(&j, "estimated_seconds", s->seconds);
        json_end(&j, '}');
    }
    if (a->train) {
        json_begin(&j, "train", '{');
        json_int(&j, "batch", t->batch);
        json_int(&j, "part_batch", t->part_batch);
        json_int(&j, "arena_bytes", t->arena_bytes);
        json_int(&j, "parameter_bytes", t->cost.parameter_bytes);
        json_int(&j, "macs_per_step", t->cost.macs * t->batch);
        json_seconds(&j, "estimated_seconds_per_step", t->seconds);
        json_int(&j, "steps", a->steps);
        json_seconds(&j, "estimated_seconds", t->seconds * (double)a->steps);
        json_end(&j, '}');
    }
    json_end(&j, '}');
}

int cmd_plan(int argc, char **argv)
{
    plan_args a;
    arg_list rest;
    split_cost split = {0};
    train_cost train = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_context_facts machine = {.struct_size = sizeof machine};
    usplit_model_options options;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch or --patch, or a larger --memory");
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_LIB(usplit_context_info(context, &machine));
    if (rest.n > 0) {
        network_args but_patch = a.network;
        but_patch.patch = -1;
        CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
        CLI_TRY(setup_check_network(&facts, &but_patch));
    } else {
        CLI_TRY(setup_network(&options, &a.network, (int)a.channels));
        CLI_LIB(usplit_model_create(&model, context, &options));
        CLI_LIB(usplit_model_info(model, &facts));
    }
    if (a.size != NULL || rest.n > 1) {
        CLI_TRY(plan_split(&split, model, &facts, &a, &rest));
    }
    if (a.train) {
        CLI_TRY(plan_train(&train, context, model, &facts, &a));
    }
    if (a.json) {
        print_json(&split, &train, &a, machine.device, rest.n > 0 ? rest.items[0] : NULL);
        goto done;
    }
    setup_print_context(stdout, context);
    setup_print_model(stdout, &facts);
    if (split.pages > 0) {
        print_split(&split);
    }
    if (a.train) {
        print_train(&train, a.steps);
    }
done:
    usplit_model_free(model);
    usplit_context_free(context);
    return rc;
}
