// One image through the tiler: rows stream from the input into the output, so memory does not grow with the height of
// the image.
#include "cli/split_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/split_preview.h"

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

int split_open(split_job *job, const split_args *a, const char *name, int64_t *end)
{
    int rc;
    CLI_TRY(image_open_axes(&job->src, name, a->axes));
    image_info(job->src, &job->facts);
    *end = a->end < job->facts.pages ? a->end : job->facts.pages;
    if (a->first >= *end) {
        return cli_error(CLI_FAILED, "%s: has %lld pages, none of them in --frames %s", name,
                         (long long)job->facts.pages, a->frames);
    }
    CLI_TRY(check_pages(job, name, a->first, *end));
done:
    return rc;
}

int split_open_output(split_job *job, const split_args *a, const usplit_model_facts *model, const char *name,
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

int split_plan(const split_job *job, const usplit_tiler *tiler, split_total *total)
{
    int rc;
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    CLI_LIB(usplit_tiler_plan(tiler, job->height, job->width, &cost));
    if (cost.host_bytes > total->cost.host_bytes) {
        total->cost = cost;
    }
done:
    return rc;
}

int split_page(split_job *job, usplit_tiler *tiler, const shard_piece *piece, progress *p, split_total *total)
{
    int rc;
    usplit_tiler_stream stream = {.struct_size = sizeof stream, .height = job->height, .width = job->width,
                                  .read = read_rows, .write = write_rows, .user = job};
    usplit_tiler_result result = {.struct_size = sizeof result};
    if (piece != NULL) {
        stream.first_tile_row = piece->tile_row;
        stream.n_tile_rows = piece->n_tile_rows;
    }
    CLI_LIB(usplit_tiler_run_stream(tiler, &stream, &result, progress_tiles, p));
    CLI_TRY(add_result(total, &result, (piece != NULL ? piece->n_rows : job->height) * job->width));
done:
    return rc;
}

static int split_pages(split_job *job, usplit_tiler *tiler, int64_t first, int64_t end, progress *p,
                       split_total *total)
{
    int rc;
    char what[64];
    CLI_TRY(split_plan(job, tiler, total));
    for (job->page = first; job->page < end; job->page++) {
        job->place = job->page - first;
        snprintf(what, sizeof what, "page %lld/%lld", (long long)job->place + 1, (long long)(end - first));
        p->what = what;
        CLI_TRY(cli_stopped());
        if (job->residual != NULL) {
            CLI_TRY(trust_begin_page(job->residual));
        }
        CLI_TRY(split_page(job, tiler, NULL, p, total));
        if (job->residual != NULL) {
            CLI_TRY(add_residual(total, job->residual));
        }
    }
done:
    p->what = NULL;
    return rc;
}

int split_image(const split_args *a, const usplit_model_facts *facts, usplit_tiler *tiler, const char *name,
                const char *path, int preview, split_total *total)
{
    int rc;
    split_job job = {.n_channels = facts->channels, .scale = a->sum ? 1.0f / (float)facts->channels : 1.0f};
    int64_t end, saturated = 0, before = total->frames;
    trust_residual residual = {0};
    progress p;
    job.residual = a->residual != NULL ? &residual : NULL;
    progress_start(&p, a->quiet);
    CLI_TRY(split_open(&job, a, name, &end));
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
    CLI_TRY(split_open_output(&job, a, facts, name, path, end - a->first));
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

void split_total_free(split_total *total)
{
    free(total->residuals);
    free(total->results);
    *total = (split_total){0};
}
