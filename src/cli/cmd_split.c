// usplit split: pages of images in, one stack per file out. Here are the options, where everything goes, and the
// report; split_run.h has the work.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/split_run.h"
#include "cli/text.h"

static const arg_usage usage = {
    "split", "model.h5 image.tif [...] -o out.tif|folder [options]",
    "Splits every page of the images into the model's channels. The images hold averaged channels, as\n"
    "in training; use --sum when they hold the sum. One image goes to one file, several to a folder as\n"
    "NAME_split.tif. The result opens in ImageJ as a composite hyperstack, with the input's pixel size.",
    "usplit split model.h5 mixed.tif -o split.tif --preview split.png",
};

static int parse(split_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->tiler = tiler_args_none;
    a->end = INT64_MAX;
    const arg_spec specs[] = {
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "PATH", "a .tif (ImageJ), .ome.tif or .ome.zarr file, or a folder"},
        {"--type", NULL, ARG_CHOICE, &a->type, 0, 0, "f32|u16|u8", "of the pixels written (f32)"},
        {"--format", NULL, ARG_CHOICE, &a->format, 0, 0, "tif|ome.tif|ome.zarr",
         "of the files in a folder (tif, for ImageJ)"},
        {"--deviations", "--std", ARG_FLAG, &a->deviations, 0, 0, NULL,
         "also write the deviation of every pixel over samples and shifts"},
        {"--calibrated", NULL, ARG_FLAG, &a->calibrated, 0, 0, NULL,
         "the deviations corrected by the model's calibration (usplit calibrate)"},
        {"--residual", NULL, ARG_TEXT, &a->residual, 0, 0, "FILE.tif",
         "of one image: what the split leaves of it, and how much that is"},
        {"--preview", NULL, ARG_TEXT, &a->preview, 0, 0, "FILE.png",
         "picture of the first page: input, channels, what is left over, deviations"},
        {"--shard", NULL, ARG_TEXT, &a->shard, 0, 0, "I/N", "part I of N of the work, to PATH.IofN.shard, for usplit merge"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "what was done as JSON on standard output"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no progress, no report"},
        {"Input", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--sum", NULL, ARG_FLAG, &a->sum, 0, 0, NULL,
         "the input is the sum of the channels, not their mean"},
        AXES_SPEC(a->axes),
        {"--frames", NULL, ARG_TEXT, &a->frames, 0, 0, "A:B", "pages A to B - 1 only, counted from 0"},
        {"Prediction", NULL, 0, NULL, 0, 0, NULL, NULL},
        TILER_SPECS(a->tiler),
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0) {
        return rc;
    }
    if (rest->n < 2) {
        return cli_error(CLI_USAGE,
                         "a model and at least one image are needed: model.h5 image.tif -o out.tif");
    }
    if (a->out == NULL) {
        return cli_error(CLI_USAGE, "where to? -o out.tif or -o folder is missing");
    }
    if (a->calibrated && !a->deviations) {
        return cli_error(CLI_USAGE, "--calibrated is about --deviations, which is missing");
    }
    if (a->shard != NULL && (a->preview != NULL || a->residual != NULL)) {
        return cli_error(CLI_USAGE, "--preview and --residual need whole images, not a --shard");
    }
    return a->frames != NULL ? args_range("--frames", a->frames, &a->first, &a->end) : CLI_OK;
}

static void print_report(const split_total *t, const usplit_model *model, const usplit_model_facts *m,
                         const usplit_tiler_options *o, const char *out)
{
    char name[USPLIT_NAME_BYTES];
    const usplit_tiler_result *r = &t->last;
    fprintf(stderr, "split     %lld page%s in %s: %lld tiles, %lld passes on %s\n", (long long)t->frames,
            t->frames == 1 ? "" : "s", text_duration(t->seconds).text, (long long)t->tiles,
            (long long)t->passes, r->device);
    char grids[48] = "";
    if (o->shifts > 1) {
        snprintf(grids, sizeof grids, "; mean of %d shifted grids", o->shifts);
    }
    char *latents = m->family == USPLIT_FAMILY_HAE     ? cli_format("no sampling (HAE)")
                    : r->latent == USPLIT_LATENT_MEAN ? cli_format("mean of the latents")
                    : r->samples == 1                 ? cli_format("one posterior sample")
                                      : cli_format("mean of %d posterior samples", r->samples);
    fprintf(stderr, "tiles     %d pixels wide, the inner %d kept; batch %d, %d worker%s; %s%s\n", t->cost.patch,
            t->cost.inner, t->cost.batch, t->cost.workers, t->cost.workers == 1 ? "" : "s", latents, grids);
    free(latents);
    fprintf(stderr, "memory    %s planned, %s used\n", text_bytes((double)t->cost.host_bytes).text,
            text_bytes((double)t->peak).text);
    for (int c = 0; c < m->channels; c++) {
        fprintf(stderr, "%s%s = %.5g x output %+.5g", c == 0 ? "grey      " : "; ",
                setup_channel_name(m, c, name, sizeof name), r->gain[c], r->offset[c]);
    }
    fputc('\n', stderr);
    if (t->clipped > 0) {
        fprintf(stderr,
                "clipped   %lld input pixels (%.3g %%) were brighter than %.5g, the training's limit%s\n",
                (long long)t->clipped, 100 * (double)t->clipped / (double)t->pixels, r->clip_value,
                t->clipped > t->pixels / 20 ? ": are these images like the trained ones?" : "");
    }
    if (t->saturated > 0) {
        fprintf(stderr, "saturated %lld output pixels (%.3g %%) did not fit the type; f32 loses nothing\n",
                (long long)t->saturated,
                100 * (double)t->saturated / ((double)t->pixels * m->channels * (o->deviations ? 2 : 1)));
    }
    for (int64_t i = 0; t->residuals != NULL && i < t->frames; i++) {
        trust_print_residual(&t->residuals[i], model);
    }
    fprintf(stderr, "written   %s\n", out);
}

static void print_json(const split_total *t, const usplit_model_facts *m, const usplit_tiler_options *o,
                       char *const *paths, int n)
{
    const usplit_tiler_result *r = &t->last;
    char name[USPLIT_NAME_BYTES];
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_begin(&j, "files", '[');
    for (int i = 0; i < n; i++) {
        json_text(&j, NULL, paths[i]);
    }
    json_end(&j, ']');
    json_text(&j, "device", r->device);
    json_int(&j, "pages", t->frames);
    json_int(&j, "tiles", t->tiles);
    json_int(&j, "passes", t->passes);
    json_int(&j, "samples", r->samples);
    json_text(&j, "latent", r->latent == USPLIT_LATENT_MEAN ? "mean" : "sample");
    json_int(&j, "shifts", o->shifts > 1 ? o->shifts : 1);
    json_bool(&j, "deviations", o->deviations);
    json_bool(&j, "calibrated", o->calibrated);
    json_int(&j, "patch", t->cost.patch);
    json_int(&j, "inner", t->cost.inner);
    json_int(&j, "planned_bytes", t->cost.host_bytes);
    json_int(&j, "peak_bytes", t->peak);
    json_real(&j, "clip_value", r->clip_value);
    json_int(&j, "clipped_pixels", t->clipped);
    json_int(&j, "saturated_pixels", t->saturated);
    json_real(&j, "seconds", t->seconds);
    json_begin(&j, "channels", '[');
    for (int c = 0; c < m->channels; c++) {
        json_begin(&j, NULL, '{');
        json_text(&j, "name", setup_channel_name(m, c, name, sizeof name));
        json_real(&j, "gain", r->gain[c]);
        json_real(&j, "offset", r->offset[c]);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    if (t->residuals != NULL) {
        json_begin(&j, "residuals", '[');
        for (int64_t i = 0; i < t->frames; i++) {
            trust_json_residual(&j, &t->residuals[i]);
        }
        json_end(&j, ']');
    }
    json_begin(&j, "inputs", '[');
    for (int64_t i = 0; i < t->frames; i++) {
        json_begin(&j, NULL, '{');
        json_real(&j, "mean", t->results[i].input_mean);
        json_real(&j, "deviation", t->results[i].input_deviation);
        json_real(&j, "distance", t->results[i].input_distance);
        json_bool(&j, "unusual", t->results[i].input_unusual);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
}

// Images (folders opened) and where each goes; refuses what exists before any work is done.
static int plan_outputs(const split_args *a, const arg_list *rest, files_list *images, files_list *outputs)
{
    static const char *const formats[] = {"tif", "ome.tif", "ome.zarr"};
    int rc = CLI_OK;
    for (int i = 1; i < rest->n; i++) {
        const char *item = rest->items[i];
        CLI_TRY(files_is_folder(item) && !image_is_file(item) ? files_list_folder(images, item)
                                                              : files_list_add(images, cli_format("%s", item)));
    }
    int to_file = image_is_written(a->out);
    if (image_is_file(a->out) && !to_file) {
        return cli_error(CLI_USAGE, "%s: files of this kind are read, not written; .tif, .ome.tif and .ome.zarr are",
                         a->out);
    }
    if (to_file && images->n > 1) {
        return cli_error(CLI_USAGE, "%zu images do not fit into one file; name a folder with -o", images->n);
    }
    for (size_t i = 0; i < images->n; i++) {
        image_file *probe = NULL;       // better to fail now than after an hour
        CLI_TRY(image_open_axes(&probe, images->paths[i], a->axes));
        image_close(probe);
        char *stem = files_stem(images->paths[i]);
        char *path = to_file ? cli_format("%s", a->out)
                             : cli_format("%s/%s_split.%s", a->out, stem, formats[a->format]);
        free(stem);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(outputs->paths[k], path) == 0) {
                rc = cli_error(CLI_USAGE, "%s and %s would both become %s", images->paths[k],
                               images->paths[i], path);
                free(path);
                goto done;
            }
        }
        CLI_TRY(files_list_add(outputs, path));
        if (a->shard == NULL) {
            CLI_TRY(files_check_new(path, a->overwrite));
        }
    }
    CLI_TRY(files_check_new(a->preview, a->overwrite));
    if (a->residual != NULL && images->n > 1) {
        return cli_error(CLI_USAGE, "--residual is one file, of one image; %zu images are given", images->n);
    }
    if (a->residual != NULL && images->n == 1 && strcmp(a->residual, outputs->paths[0]) == 0) {
        return cli_error(CLI_USAGE, "--residual and -o are one file, %s", a->residual);
    }
    CLI_TRY(files_check_new(a->residual, a->overwrite));
    if (!to_file && a->shard == NULL) {
        CLI_TRY(files_make_folder(a->out));
    }
done:
    return rc;
}

static void cancel(void *tiler)
{
    usplit_tiler_cancel(tiler);
}

int cmd_split(int argc, char **argv)
{
    split_args a;
    arg_list rest;
    split_total total = {0};
    files_list images = {0}, outputs = {0};
    shard part = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_tiler *tiler = NULL;
    usplit_model_facts facts;
    usplit_tiler_options options;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch, fewer --threads, or a larger --memory");
    if (a.shard != NULL) {
        CLI_TRY(shard_parse(&part, a.shard));
        part.path = shard_path(a.out, part.part, part.parts);
        CLI_TRY(files_check_new(part.path, a.overwrite));
    }
    CLI_TRY(plan_outputs(&a, &rest, &images, &outputs));
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
    if (a.residual != NULL && facts.input == USPLIT_INPUT_MEASURED) {
        rc = cli_error(CLI_FAILED, "--residual: the model was trained on measured images, and nothing is known of how "
                       "their channels mix");
        goto done;
    }
    CLI_TRY(score_tiler_options(&options, &a.tiler));
    options.deviations = a.deviations;
    options.calibrated = a.calibrated;
    CLI_LIB(usplit_tiler_create(&tiler, model, &options));
    trust_warn_calibration(model, &options);
    if (!a.quiet) {
        setup_print_context(stderr, context);
        setup_print_model(stderr, &facts);
    }
    cli_on_signal(cancel, tiler);
    if (a.shard != NULL) {
        CLI_TRY(split_shard(&part, &a, &facts, context, tiler, &options, rest.items[0], &images, &outputs, &total));
    }
    for (size_t i = 0; i < images.n && a.shard == NULL; i++) {
        CLI_TRY(cli_stopped());
        int preview = i == 0 && a.preview != NULL;
        CLI_TRY(split_image(&a, &facts, tiler, images.paths[i], outputs.paths[i], preview, &total));
    }
    if (!a.quiet && total.frames > 0) {
        print_report(&total, model, &facts, &options,
                     part.path != NULL ? part.path : images.n == 1 ? outputs.paths[0] : a.out);
    }
    if (a.json) {
        print_json(&total, &facts, &options, part.path != NULL ? &part.path : outputs.paths,
                   part.path != NULL ? 1 : (int)outputs.n);
    }
done:
    shard_free(&part);
    cli_on_signal(NULL, NULL);
    split_total_free(&total);
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    usplit_context_free(context);
    files_list_free(&images);
    files_list_free(&outputs);
    return rc;
}
