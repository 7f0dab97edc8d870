// usplit split: pages of images in, one stack per file out. Rows stream from the input through the
// tiler into the output, so memory does not grow with the height of the image.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/images.h"
#include "cli/progress.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/shard.h"
#include "cli/split_preview.h"
#include "cli/text.h"
#include "cli/trust.h"

static const arg_usage usage = {
    "split", "model.h5 image.tif [...] -o out.tif|folder [options]",
    "Splits every page of the images into the model's channels. The images hold averaged channels, as\n"
    "in training; use --sum when they hold the sum. One image goes to one file, several to a folder as\n"
    "NAME_split.tif. The result opens in ImageJ as a composite hyperstack, with the input's pixel size.",
    "usplit split model.h5 mixed.tif -o split.tif --preview split.png",
};

typedef struct split_args {
    machine_args machine;
    tiler_args tiler;
    const char *out, *preview, *frames, *residual, *shard;
    int type, sum, deviations, calibrated, overwrite, json, quiet;
    int64_t first, end;         // frames to split
    const char *axes;
    int format;                 // of files in a folder
} split_args;

typedef struct split_job {      // one image on its way through
    image_file *src;
    image_facts facts;
    image_writer *writer;
    int64_t height, width, page, place;
    int n_channels, n_planes;   // of the model; written
    float scale;                // input is multiplied by it: 1, or 1/K for sums
    float *preview_input, *preview_output;      // of the first page, when a preview is wanted
    trust_residual *residual;   // NULL: not wanted
    int preview_planes;         // in preview_output: channels, and their deviations where there are
    shard *parts;               // where the output is only described, NULL: where it is written
    shard_writer *rows;         // where rows go instead, of a shard
} split_job;

typedef struct split_total {    // of all pages of all images
    int64_t frames, tiles, passes, peak, clipped, saturated, pixels;
    double seconds, clip_value;
    usplit_tiler_result last;
    usplit_tiler_cost cost;     // of the largest page
    usplit_residual_facts *residuals;   // of every page, where wanted
    usplit_tiler_result *results;       // of every page
} split_total;

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

static int32_t read_rows(int64_t row, int64_t n_rows, float *dst, void *user)
{
    split_job *job = user;
    int rc = image_read_rows(job->src, job->page, row, n_rows, dst);
    for (int64_t i = 0; rc == 0 && job->scale < 1 && i < n_rows * job->width; i++) {
        dst[i] *= job->scale;
    }
    if (rc == 0 && job->preview_input != NULL && job->place == 0) {
        memcpy(job->preview_input + row * job->width, dst, sizeof *dst * (size_t)(n_rows * job->width));
    }
    return rc;
}

static int32_t write_rows(int64_t row, int64_t n_rows, const float *src, void *user)
{
    split_job *job = user;
    if (job->preview_output != NULL && job->place == 0) {
        for (int c = 0; c < job->preview_planes; c++) {
            memcpy(job->preview_output + (c * job->height + row) * job->width, src + c * n_rows * job->width,
                   sizeof *src * (size_t)(n_rows * job->width));
        }
    }
    if (job->rows != NULL) {
        return shard_write_rows(job->rows, src, job->n_planes, n_rows, job->width);
    }
    int rc = image_write_rows(job->writer, job->place, row, n_rows, src);
    if (rc == 0 && job->residual != NULL) {
        rc = trust_add(job->residual, job->page, job->place, row, n_rows, src);
    }
    return rc;
}

static int add_result(split_total *total, const usplit_tiler_result *r, int64_t pixels)
{
    usplit_tiler_result *results = realloc(total->results, sizeof *results * (size_t)(total->frames + 1));
    if (results == NULL) {
        return cli_error(CLI_FAILED, "out of memory");
    }
    total->results = results;
    results[total->frames++] = *r;
    total->tiles += r->tiles;
    total->passes += r->passes;
    total->peak = r->peak_bytes > total->peak ? r->peak_bytes : total->peak;
    total->clipped += r->clipped_pixels;
    total->pixels += pixels;
    total->seconds += r->seconds;
    total->last = *r;
    return CLI_OK;
}

static int add_residual(split_total *total, trust_residual *residual)
{
    usplit_residual_facts *residuals =
        realloc(total->residuals, sizeof *residuals * (size_t)total->frames);
    if (residuals == NULL) {
        return cli_error(CLI_FAILED, "out of memory");
    }
    total->residuals = residuals;
    return trust_end_page(residual, &residuals[total->frames - 1]);
}

static int write_preview(const split_job *job, const usplit_model_facts *model, const char *path)
{
    double pixel_size = job->facts.pixel_width > 0 ? job->facts.pixel_width : model->pixel_size;
    int deviations = job->preview_planes > job->n_channels;
    return split_preview_write(path, model, job->height, job->width, job->preview_input, job->preview_output,
                               deviations, pixel_size);
}

// All pages of one output stack have one size.
static int check_pages(split_job *job, const char *name, int64_t first, int64_t end)
{
    int rc;
    CLI_TRY(image_page_size(job->src, first, &job->height, &job->width));
    for (int64_t page = first + 1; page < end; page++) {
        int64_t height, width;
        CLI_TRY(image_page_size(job->src, page, &height, &width));
        if (height != job->height || width != job->width) {
            return cli_error(CLI_FAILED,
                             "%s: page %lld is %lld x %lld, page %lld is %lld x %lld; use --frames to "
                             "split them apart",
                             name, (long long)first + 1, (long long)job->width, (long long)job->height,
                             (long long)page + 1, (long long)width, (long long)height);
        }
    }
done:
    return rc;
}

static int open_output(split_job *job, const split_args *a, const usplit_model_facts *model, const char *name,
                       const char *path, int64_t n_pages)
{
    static const int32_t types[] = {USPLIT_TYPE_F32, USPLIT_TYPE_U16, USPLIT_TYPE_U8};
    int whole = n_pages == job->facts.pages;
    image_layout layout = {
        .height = job->height, .width = job->width, .channels = model->channels, .type = types[a->type],
        .slices = whole ? job->facts.slices : 1, .frames = whole ? job->facts.frames : n_pages,
        .pixel_width = job->facts.pixel_width, .pixel_height = job->facts.pixel_height,
        .spacing = whole ? job->facts.spacing : 0, .interval = job->facts.interval,
    };
    char names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    char deviations[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES + sizeof " deviation"];
    for (int c = 0; c < model->channels; c++) {
        layout.names[c] = setup_channel_name(model, c, names[c], sizeof names[c]);
        snprintf(deviations[c], sizeof deviations[c], "%s deviation", names[c]);
        layout.names[model->channels + c] = deviations[c];
    }
    layout.channels = a->deviations ? 2 * model->channels : model->channels;
    int32_t v = usplit_version();
    char network[64];
    char *info = cli_format("Split by usplit %d.%d.%d (%s); grey levels of the training channels.\n", v / 10000,
                            v / 100 % 100, v % 100,
                            setup_network_name(model->family, model->variant, network, sizeof network));
    layout.info = info;
    job->n_planes = (int)layout.channels;
    shard_image *image = NULL;
    int rc = job->parts != NULL ? shard_add_image(job->parts, name, path, &layout, &image) :
             image_create(&job->writer, path, &layout);
    if (rc == 0 && job->residual != NULL) {
        rc = trust_open(job->residual, name, a->axes, a->residual, &layout, model, job->scale);
    }
    free(info);
    return rc;
}

static void cancel(void *tiler)
{
    usplit_tiler_cancel(tiler);
}

static int split_pages(split_job *job, usplit_tiler *tiler, int64_t first, int64_t end, progress *p,
                       split_total *total)
{
    int rc = CLI_OK;
    char what[64];
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    CLI_LIB(usplit_tiler_plan(tiler, job->height, job->width, &cost));
    if (cost.host_bytes > total->cost.host_bytes) {
        total->cost = cost;
    }
    for (job->page = first; job->page < end; job->page++) {
        usplit_tiler_stream stream = {.struct_size = sizeof stream,
                                      .height = job->height,
                                      .width = job->width,
                                      .read = read_rows,
                                      .write = write_rows,
                                      .user = job};
        usplit_tiler_result result = {.struct_size = sizeof result};
        job->place = job->page - first;
        snprintf(what, sizeof what, "page %lld/%lld", (long long)job->place + 1, (long long)(end - first));
        p->what = what;
        CLI_TRY(cli_stopped());
        if (job->residual != NULL) {
            CLI_TRY(trust_begin_page(job->residual));
        }
        CLI_LIB(usplit_tiler_run_stream(tiler, &stream, &result, progress_tiles, p));
        CLI_TRY(add_result(total, &result, job->height * job->width));
        if (job->residual != NULL) {
            CLI_TRY(add_residual(total, job->residual));
        }
    }
done:
    p->what = NULL;
    return rc;
}

static int split_image(const split_args *a, const usplit_model_facts *facts, usplit_tiler *tiler,
                       const char *name, const char *path, int preview, split_total *total)
{
    int rc;
    split_job job = {.n_channels = facts->channels, .scale = a->sum ? 1.0f / (float)facts->channels : 1.0f};
    int64_t saturated = 0, before = total->frames;
    trust_residual residual = {0};
    progress p;
    job.residual = a->residual != NULL ? &residual : NULL;
    progress_start(&p, a->quiet);
    CLI_TRY(image_open_axes(&job.src, name, a->axes));
    image_info(job.src, &job.facts);
    int64_t end = a->end < job.facts.pages ? a->end : job.facts.pages;
    if (a->first >= end) {
        rc = cli_error(CLI_FAILED, "%s: has %lld pages, none of them in --frames %s", name,
                       (long long)job.facts.pages, a->frames);
        goto done;
    }
    CLI_TRY(check_pages(&job, name, a->first, end));
    if (preview) {
        job.preview_input = cli_alloc((size_t)(job.height * job.width), sizeof(float));
        job.preview_planes = facts->channels * (a->deviations ? 2 : 1);
        job.preview_output =
            cli_alloc((size_t)(job.height * job.width), sizeof(float) * (size_t)job.preview_planes);
        if (job.preview_input == NULL || job.preview_output == NULL) {
            rc = CLI_FAILED;
            goto done;
        }
    }
    CLI_TRY(open_output(&job, a, facts, name, path, end - a->first));
    CLI_TRY(split_pages(&job, tiler, a->first, end, &p, total));
    CLI_TRY(image_commit(job.writer, &saturated));
    if (job.residual != NULL) {
        CLI_TRY(trust_commit(&residual));
    }
    progress_end(&p);
    trust_warn(name, a->first, total->results + before, total->frames - before, facts);
    total->saturated += saturated;
    if (preview) {
        CLI_TRY(write_preview(&job, facts, a->preview));
    }
done:
    progress_free(&p);
    trust_close(&residual);
    image_writer_free(job.writer);
    image_close(job.src);
    free(job.preview_input);
    free(job.preview_output);
    return rc;
}

// ---- A part of the work ------------------------------------------------------------------------------

// What decides the pixels, as text: the parts of one run must agree on it. Memory and batches decide nothing.
static char *options_text(const split_args *a, const usplit_tiler_options *options)
{
    usplit_tiler_options o;
    char hex[2 * sizeof o + 1];
    memcpy(&o, options, sizeof o);      // with what lies between the fields
    o.struct_size = 0;
    o.batch = 0;
    o.memory_budget = 0;
    const unsigned char *bytes = (const unsigned char *)&o;
    for (size_t i = 0; i < sizeof o; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    return cli_format("%s sum %d pages %lld:%lld axes %s", hex, a->sum, (long long)a->first, (long long)a->end,
                      a->axes != NULL ? a->axes : "as told");
}

// Which images there are, of which size, and what they look like: the first row and the last stand for the others.
static int describe_image(shard *parts, const split_args *a, const usplit_model_facts *facts, const usplit_tiler *tiler,
                          const char *name, const char *path)
{
    int rc;
    split_job job = {.n_channels = facts->channels, .parts = parts};
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    float *row = NULL;
    CLI_TRY(image_open_axes(&job.src, name, a->axes));
    image_info(job.src, &job.facts);
    int64_t end = a->end < job.facts.pages ? a->end : job.facts.pages;
    if (a->first >= end) {
        rc = cli_error(CLI_FAILED, "%s: has %lld pages, none of them in --frames %s", name, (long long)job.facts.pages,
                       a->frames);
        goto done;
    }
    CLI_TRY(check_pages(&job, name, a->first, end));
    CLI_TRY(open_output(&job, a, facts, name, path, end - a->first));
    CLI_LIB(usplit_tiler_plan(tiler, job.height, job.width, &cost));
    shard_image *image = &parts->images[parts->n_images - 1];
    image->tile_rows = cost.tile_rows;
    image->tile_columns = cost.tile_columns;
    image->inner = cost.inner;
    if ((row = cli_alloc((size_t)job.width, sizeof *row)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int i = 0; i < 2; i++) {
        CLI_TRY(image_read_rows(job.src, i == 0 ? a->first : end - 1, i == 0 ? 0 : job.height - 1, 1, row));
        image->pixels = shard_hash(image->pixels, row, (size_t)job.width * sizeof *row);
    }
done:
    image_close(job.src);
    free(row);
    return rc;
}

static int split_piece(split_job *job, const split_args *a, usplit_tiler *tiler, const shard_piece *piece, progress *p,
                       split_total *total)
{
    int rc;
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    usplit_tiler_result result = {.struct_size = sizeof result};
    CLI_LIB(usplit_tiler_plan(tiler, job->height, job->width, &cost));
    if (cost.host_bytes > total->cost.host_bytes) {
        total->cost = cost;
    }
    usplit_tiler_stream stream = {.struct_size = sizeof stream, .height = job->height, .width = job->width,
                                  .read = read_rows, .write = write_rows, .user = job,
                                  .first_tile_row = piece->tile_row, .n_tile_rows = piece->n_tile_rows};
    job->page = a->first + piece->page;
    job->place = piece->page;
    CLI_LIB(usplit_tiler_run_stream(tiler, &stream, &result, progress_tiles, p));
    CLI_TRY(add_result(total, &result, piece->n_rows * job->width));
done:
    return rc;
}

static int split_pieces(const shard *s, const split_args *a, const usplit_model_facts *facts, usplit_tiler *tiler,
                        const files_list *images, shard_writer *rows, split_total *total)
{
    int rc = CLI_OK;
    split_job job = {.n_channels = facts->channels, .scale = a->sum ? 1.0f / (float)facts->channels : 1.0f, .rows = rows};
    progress p;
    char what[64];
    progress_start(&p, a->quiet);
    for (int64_t i = 0; i < s->n_pieces; i++) {
        const shard_piece *piece = &s->pieces[i];
        const image_layout *layout = &s->images[piece->image].layout;
        if (i == 0 || piece->image != s->pieces[i - 1].image) {
            image_close(job.src);
            job.src = NULL;
            CLI_TRY(image_open_axes(&job.src, images->paths[piece->image], a->axes));
            job.height = layout->height;
            job.width = layout->width;
            job.n_planes = (int)layout->channels;
        }
        snprintf(what, sizeof what, "piece %lld/%lld", (long long)i + 1, (long long)s->n_pieces);
        p.what = what;
        CLI_TRY(cli_stopped());
        CLI_TRY(split_piece(&job, a, tiler, piece, &p, total));
    }
done:
    progress_free(&p);
    image_close(job.src);
    return rc;
}

static int split_shard(shard *s, const split_args *a, const usplit_model_facts *facts, const usplit_context *context,
                       usplit_tiler *tiler, const usplit_tiler_options *options, const char *model,
                       const files_list *images, const files_list *outputs, split_total *total)
{
    int rc;
    shard_writer rows = {0};
    char hash[SHARD_HASH_BYTES];
    usplit_context_facts machine = {.struct_size = sizeof machine};
    CLI_TRY(shard_hash_file(hash, model));
    CLI_LIB(usplit_context_info(context, &machine));
    s->model = cli_format("%s", hash);
    s->options = options_text(a, options);
    s->engine = cli_format("%s, precision %d", machine.engine, a->machine.precision);
    for (size_t i = 0; i < images->n; i++) {
        CLI_TRY(describe_image(s, a, facts, tiler, images->paths[i], outputs->paths[i]));
    }
    CLI_TRY(shard_divide(s));
    CLI_TRY(shard_create(&rows, s));
    CLI_TRY(split_pieces(s, a, facts, tiler, images, &rows, total));
    CLI_TRY(shard_commit(&rows));
done:
    shard_discard(&rows);
    return rc;
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
        return cli_error(CLI_USAGE, "%s: files of this kind are read, not written; .tif, .ome.tif and .ome.zarr are", a->out);
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
    free(total.residuals);
    free(total.results);
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    usplit_context_free(context);
    files_list_free(&images);
    files_list_free(&outputs);
    return rc;
}
