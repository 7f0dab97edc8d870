// usplit merge: the shards of a split run put together. The images written are those of one run, byte for byte: the
// same rows go through the same writer, in the same order.
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/shard.h"
#include "cli/text.h"

static const arg_usage usage = {
    "merge", "-o out.tif|folder SHARD [...] [options]",
    "Puts together what usplit split --shard 1/N to N/N have written: the same images as from one run. All\n"
    "shards must be there, each once, of one run: same model, options and images. A folder stands for the\n"
    ".shard files in it.",
    "usplit merge -o split.tif split.tif.*of8.shard",
};

enum { CHUNK_BYTES = 4 << 20 };

typedef struct merge_args {
    const char *out;
    int overwrite, json, quiet;
} merge_args;

static int parse(merge_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    const arg_spec specs[] = {
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "PATH", "a .tif (ImageJ), .ome.tif or .ome.zarr file, or a folder"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "what was done as JSON on standard output"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no report"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0) {
        return rc;
    }
    if (rest->n == 0) {
        return cli_error(CLI_USAGE, "which shards? Name the files that usplit split --shard has written");
    }
    return a->out != NULL ? CLI_OK : cli_error(CLI_USAGE, "where to? -o out.tif or -o folder is missing");
}

static int list_shards(files_list *list, const char *folder)
{
    int rc = CLI_OK;
    size_t before = list->n;
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return cli_error(CLI_FAILED, "%s: %s", folder, strerror(errno));
    }
    for (struct dirent *e; rc == CLI_OK && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] != '.' && files_ends_with(e->d_name, ".shard")) {
            rc = files_list_add(list, cli_format("%s/%s", folder, e->d_name));
        }
    }
    closedir(dir);
    return rc == CLI_OK && list->n == before ? cli_error(CLI_FAILED, "%s: no .shard files in this folder", folder) : rc;
}

// ---- Do they belong together? -----------------------------------------------------------------------

static int by_part(const void *a, const void *b)
{
    int64_t x = ((const shard *)a)->part, y = ((const shard *)b)->part;
    return (x > y) - (x < y);
}

static int compare_jobs(const shard *a, const shard *b)
{
    const char *what = strcmp(a->model, b->model) != 0       ? "another model"
                       : strcmp(a->options, b->options) != 0 ? "other options"
                                                             : "other images";
    return strcmp(a->job, b->job) == 0 ? CLI_OK :
           cli_error(CLI_FAILED, "%s was made with %s than %s", b->path, what, a->path);
}

// Part numbers that are missing, as text: "3, 5 and 6", or "3, 5 and 40 more".
static int say_missing(const shard *shards, int64_t n, int64_t parts)
{
    char list[128] = "";
    int64_t missing = parts - n, said = 0;
    for (int64_t part = 1, i = 0; part <= parts && said < 8; part++) {
        if (i < n && shards[i].part == part) {
            i++;
            continue;
        }
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%" PRId64, said > 0 ? ", " : "", part);
        said++;
    }
    char more[48] = "";
    if (missing > said) {
        snprintf(more, sizeof more, " and %" PRId64 " more", missing - said);
    }
    return cli_error(CLI_FAILED, "missing: shard%s %s%s of %" PRId64, missing == 1 ? "" : "s", list, more, parts);
}

// Sorted by part. Every row of every page must come once, in order.
static int check_shards(shard *shards, int64_t n)
{
    int rc;
    for (int64_t i = 1; i < n; i++) {
        if (shards[i].parts != shards[0].parts) {
            return cli_error(CLI_FAILED, "%s is one of %" PRId64 " shards, %s one of %" PRId64, shards[i].path,
                             shards[i].parts, shards[0].path, shards[0].parts);
        }
        CLI_TRY(compare_jobs(&shards[0], &shards[i]));
    }
    qsort(shards, (size_t)n, sizeof *shards, by_part);
    for (int64_t i = 1; i < n; i++) {
        if (shards[i].part == shards[i - 1].part) {
            return cli_error(CLI_FAILED, "%s and %s are both shard %" PRId64 " of %" PRId64, shards[i - 1].path,
                             shards[i].path, shards[i].part, shards[i].parts);
        }
    }
    if (n < shards[0].parts) {
        return say_missing(shards, n, shards[0].parts);
    }
    int64_t image = 0, page = 0, row = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < shards[i].n_pieces; k++) {
            const shard_piece *p = &shards[i].pieces[k];
            if (p->image != image || p->page != page || p->row != row) {
                return cli_error(CLI_FAILED, "%s: has row %" PRId64 " of page %" PRId64 " of %s where row %" PRId64
                                 " of page %" PRId64 " of %s is due", shards[i].path, p->row, p->page + 1,
                                 shards[0].images[p->image].source, row, page + 1,
                                 image < shards[0].n_images ? shards[0].images[image].source : "nothing");
            }
            row += p->n_rows;
            if (row == shards[0].images[image].layout.height) {
                row = 0;
                page = page + 1 < shards[0].images[image].pages ? page + 1 : 0;
                image += page == 0;
            }
        }
    }
    rc = image == shards[0].n_images ? CLI_OK :
         cli_error(CLI_FAILED, "the shards end before row %" PRId64 " of page %" PRId64 " of %s", row, page + 1,
                   shards[0].images[image].source);
done:
    return rc;
}

// ---- Putting them together --------------------------------------------------------------------------

typedef struct merging {
    const shard *shards;
    files_list outputs;
    image_writer *writer;        // of the image that is being written
    int64_t n, saturated, rows;
} merging;

static int copy_piece(merging *m, FILE *file, const char *path, const shard_piece *p)
{
    int rc = CLI_OK;
    const image_layout *l = &m->shards[0].images[p->image].layout;
    int64_t line = l->channels * l->width * (int64_t)sizeof(float), most = CHUNK_BYTES / line;
    most = most < 1 ? 1 : most;
    float *rows = cli_alloc((size_t)most, (size_t)line), *row = cli_alloc(1, (size_t)line);
    if (rows == NULL || row == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int64_t y = 0, n; y < p->n_rows; y += n) {
        n = p->n_rows - y < most ? p->n_rows - y : most;
        CLI_TRY(cli_stopped());
        CLI_TRY(shard_read_rows(file, path, rows, row, l->channels, n, l->width));
        CLI_TRY(image_write_rows(m->writer, p->page, p->row + y, n, rows));
    }
    m->rows += p->n_rows;
done:
    free(rows);
    free(row);
    return rc;
}

static int copy_shard(merging *m, const shard *s)
{
    int rc = CLI_OK;
    FILE *file = fopen(s->path, "rb");
    if (file == NULL || fseeko(file, (off_t)s->rows_at, SEEK_SET) != 0) {
        rc = cli_error(CLI_FAILED, "%s: %s", s->path, strerror(errno));
        goto done;
    }
    for (int64_t i = 0; i < s->n_pieces; i++) {
        const shard_piece *p = &s->pieces[i];
        const shard_image *image = &m->shards[0].images[p->image];
        if (p->page == 0 && p->row == 0) {
            CLI_TRY(image_create(&m->writer, m->outputs.paths[p->image], &image->layout));
        }
        CLI_TRY(copy_piece(m, file, s->path, p));
        if (p->page + 1 == image->pages && p->row + p->n_rows == image->layout.height) {
            int64_t saturated = 0;
            CLI_TRY(image_commit(m->writer, &saturated));
            image_writer_free(m->writer);
            m->writer = NULL;
            m->saturated += saturated;
        }
    }
done:
    if (file != NULL) {
        fclose(file);
    }
    return rc;
}

static int name_outputs(merging *m, const merge_args *a)
{
    int rc = CLI_OK;
    int to_file = image_is_written(a->out);
    if (to_file && m->shards[0].n_images > 1) {
        return cli_error(CLI_USAGE, "%" PRId64 " images do not fit into one file; name a folder with -o",
                         m->shards[0].n_images);
    }
    for (int64_t i = 0; i < m->shards[0].n_images; i++) {
        char *path = to_file ? cli_format("%s", a->out) : cli_format("%s/%s", a->out, m->shards[0].images[i].output);
        CLI_TRY(files_list_add(&m->outputs, path));
        CLI_TRY(files_check_new(path, a->overwrite));
    }
    if (!to_file) {
        CLI_TRY(files_make_folder(a->out));
    }
done:
    return rc;
}

static void report(const merging *m, const merge_args *a)
{
    for (int64_t i = 1; i < m->n; i++) {
        if (strcmp(m->shards[i].engine, m->shards[0].engine) != 0) {
            fprintf(stderr, "usplit: warning: computed by different engines (%s; %s): not to the bit what one run gives\n",
                    m->shards[0].engine, m->shards[i].engine);
            break;
        }
    }
    if (!a->quiet) {
        if (m->saturated > 0) {
            fprintf(stderr, "saturated %" PRId64 " output pixels did not fit the type; f32 loses nothing\n", m->saturated);
        }
        fprintf(stderr, "merged    %" PRId64 " shard%s to %s\n", m->n, m->n == 1 ? "" : "s", a->out);
    }
    if (a->json) {
        json j;
        json_start(&j, stdout);
        json_begin(&j, NULL, '{');
        json_begin(&j, "files", '[');
        for (size_t i = 0; i < m->outputs.n; i++) {
            json_text(&j, NULL, m->outputs.paths[i]);
        }
        json_end(&j, ']');
        json_int(&j, "shards", m->n);
        json_int(&j, "rows", m->rows);
        json_int(&j, "saturated_pixels", m->saturated);
        json_end(&j, '}');
    }
}

static void nothing_to_cancel(void *handle)
{
    (void)handle;
}

int cmd_merge(int argc, char **argv)
{
    merge_args a;
    arg_list rest;
    files_list files = {0};
    merging m = {0};
    shard *shards = NULL;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    for (int i = 0; i < rest.n; i++) {
        CLI_TRY(files_is_folder(rest.items[i]) ? list_shards(&files, rest.items[i]) :
                files_list_add(&files, cli_format("%s", rest.items[i])));
    }
    if ((shards = cli_alloc(files.n, sizeof *shards)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (; m.n < (int64_t)files.n; m.n++) {
        rc = shard_read(&shards[m.n], files.paths[m.n]);
        if (rc != CLI_OK) {
            shard_free(&shards[m.n]);
            goto done;
        }
    }
    m.shards = shards;
    CLI_TRY(check_shards(shards, m.n));
    CLI_TRY(name_outputs(&m, &a));
    cli_on_signal(nothing_to_cancel, NULL);
    for (int64_t i = 0; i < m.n; i++) {
        CLI_TRY(copy_shard(&m, &shards[i]));
    }
    report(&m, &a);
done:
    cli_on_signal(NULL, NULL);
    image_writer_free(m.writer);
    for (int64_t i = 0; shards != NULL && i < m.n; i++) {
        shard_free(&shards[i]);
    }
    free(shards);
    files_list_free(&m.outputs);
    files_list_free(&files);
    return rc;
}
