// One machine's part of a split: what all parts must agree on is described, and the rows of this one go through the
// tiler into a shard file (shard.h).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/split_run.h"

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
    int64_t end;
    CLI_TRY(split_open(&job, a, name, &end));
    CLI_TRY(split_open_output(&job, a, facts, name, path, end - a->first));
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

static int split_pieces(const shard *s, const split_args *a, const usplit_model_facts *facts, usplit_tiler *tiler,
                        const files_list *images, shard_writer *rows, split_total *total)
{
    int rc = CLI_OK;
    split_job job = {.n_channels = facts->channels,
                     .scale = a->sum ? 1.0f / (float)facts->channels : 1.0f,
                     .rows = rows};
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
            CLI_TRY(split_plan(&job, tiler, total));
        }
        snprintf(what, sizeof what, "piece %lld/%lld", (long long)i + 1, (long long)s->n_pieces);
        p.what = what;
        job.page = a->first + piece->page;
        job.place = piece->page;
        CLI_TRY(cli_stopped());
        CLI_TRY(split_page(&job, tiler, piece, &p, total));
    }
done:
    progress_free(&p);
    image_close(job.src);
    return rc;
}

int split_shard(shard *s, const split_args *a, const usplit_model_facts *facts, const usplit_context *context,
                usplit_tiler *tiler, const usplit_tiler_options *options, const char *model, const files_list *images,
                const files_list *outputs, split_total *total)
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
