// Image files by name: which kind reads or writes one, the "@channel" and ":dataset" behind a path, and the text of
// --axes. A new kind is one row of `kinds`.
#include "cli/image/images.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/image_kind.h"

static const image_kind *const kinds[] = {
    &tiff_kind,
    &hdf5_kind,
    &zarr_kind,
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

struct image_file {
    const image_kind *kind;
    void *handle;
};

struct image_writer {
    const image_kind *kind;
    void *handle;
};

// ---- Names ------------------------------------------------------------------------------------------

// The kind whose ending the path has, a slash behind it or not; the longest ending wins.
static const image_kind *kind_of(const char *path, int64_t *length)
{
    const image_kind *found = NULL;
    size_t n = strlen(path), best = 0;
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    char *trimmed = cli_format("%.*s", (int)n, path);
    for (int k = 0; k < N_KINDS; k++) {
        for (const char *const *e = kinds[k]->endings; *e != NULL; e++) {
            size_t m = strlen(*e);
            if (m > best && m < n && files_ends_with(trimmed, *e)) {
                best = m;
                found = kinds[k];
            }
        }
    }
    free(trimmed);
    if (length != NULL) {
        *length = (int64_t)best;
    }
    return found;
}

int image_is_file(const char *path)
{
    return kind_of(path, NULL) != NULL;
}

int image_is_listed(const char *path)
{
    const image_kind *kind = kind_of(path, NULL);
    return kind != NULL && kind->is_listed;
}

int image_is_written(const char *path)
{
    const image_kind *kind = kind_of(path, NULL);
    return kind != NULL && kind->create != NULL;
}

// "path@2" -> path and 2; a file of that very name comes first.
static char *split_channel(const char *name, int64_t *channel)
{
    const char *at = strrchr(name, '@');
    *channel = 0;
    if (at != NULL && at > name && at[1] >= '1' && at[1] <= '9' &&
        strspn(at + 1, "0123456789") == strlen(at + 1) && strlen(at) < 8 && !files_exists(name)) {
        *channel = strtoll(at + 1, NULL, 10);
        return cli_format("%.*s", (int)(at - name), name);
    }
    return cli_format("%s", name);
}

// "file.h5:/raw": cuts `path` at the colon and returns what is behind it; NULL: there is none.
static char *split_inside(char *path)
{
    for (char *colon = strchr(path, ':'); colon != NULL && !files_exists(path); colon = strchr(colon + 1, ':')) {
        *colon = '\0';
        const image_kind *kind = kind_of(path, NULL);
        if (kind != NULL && kind->has_inside && colon[1] != '\0') {
            return colon + 1;
        }
        *colon = ':';
    }
    return NULL;
}

char *image_stem(const char *name)
{
    int64_t channel, ending;
    char suffix[32] = "";
    char *path = split_channel(name, &channel), *inside = split_inside(path);
    kind_of(path, &ending);
    const char *base = files_base(path);
    if (channel > 0) {
        snprintf(suffix, sizeof suffix, "_ch%lld", (long long)channel);
    }
    while (inside != NULL && *inside == '/') {
        inside++;
    }
    for (char *p = inside; p != NULL && (p = strchr(p, '/')) != NULL;) {
        *p = '_';
    }
    char *stem = cli_format("%.*s%s%s%s", (int)(strlen(base) - (size_t)ending), base, inside != NULL ? "_" : "",
                            inside != NULL ? inside : "", suffix);
    free(path);
    return stem;
}

// ---- Axes -------------------------------------------------------------------------------------------

int image_read_axes(image_order *order, const char *axes)
{
    memset(order, 0, sizeof *order);
    const char *p = axes;
    int seen_x = 0, seen_y = 0, ok = 1;
    while (ok && *p != '\0' && order->n < 6) {
        char letter = (char)toupper((unsigned char)*p++);
        letter = letter == 'S' ? 'C' : letter;
        ok = strchr("TZCYX", letter) != NULL && strchr(order->letters, letter) == NULL;
        long long size = 0;
        if (isdigit((unsigned char)*p)) {
            char *end;
            size = strtoll(p, &end, 10);
            p = end;
            ok = ok && size >= 1 && size <= 1000000000;
        }
        seen_y += letter == 'Y';
        seen_x += letter == 'X';
        ok = ok && (letter != 'X' || seen_y);       // rows before columns
        order->letters[order->n] = letter;
        order->sizes[order->n++] = size;
    }
    // Behind X only the samples of a pixel may follow.
    const char *x = strchr(order->letters, 'X'), *y = strchr(order->letters, 'Y');
    ok = ok && *p == '\0' && seen_x && seen_y && x == y + 1 &&
         (x[1] == '\0' || (x[1] == 'C' && x[2] == '\0'));
    return ok;
}

int image_check_axes(const char *axes)
{
    image_order order;
    if (axes == NULL || image_read_axes(&order, axes)) {
        return CLI_OK;
    }
    return cli_error(CLI_USAGE,
                     "--axes %.40s: accepted are letters of T, Z and C, then YX, slowest first, each once and with a "
                     "size if wanted: TZCYX, ZYX, T10ZYX, YXC",
                     axes);
}

int image_pick_channel(const image_choice *choice, int64_t n, int64_t *channel)
{
    const char *inside = choice->inside != NULL ? choice->inside : "";
    const char *colon = choice->inside != NULL ? ":" : "";
    if (choice->channel == 0 && n > 1) {
        return cli_error(CLI_FAILED, "%s%s%s: has %lld channels; choose one: %s%s%s@1 to @%lld", choice->path, colon,
                         inside, (long long)n, files_base(choice->path), colon, inside, (long long)n);
    }
    if (choice->channel > n) {
        return cli_error(CLI_FAILED, "%s%s%s: channel %lld asked for, has %lld", choice->path, colon, inside,
                         (long long)choice->channel, (long long)n);
    }
    *channel = choice->channel > 0 ? choice->channel - 1 : 0;
    return CLI_OK;
}

// ---- Reading ----------------------------------------------------------------------------------------

int image_open_axes(image_file **out, const char *name, const char *axes)
{
    int rc;
    image_choice choice = {.axes = axes};
    *out = NULL;
    image_file *file = NULL;
    char *path = split_channel(name, &choice.channel);
    choice.inside = split_inside(path);
    choice.path = path;
    CLI_TRY(image_check_axes(axes));
    if ((file = cli_alloc(1, sizeof *file)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    // A file without an ending that is known may still be a TIFF.
    file->kind = kind_of(path, NULL);
    file->kind = file->kind != NULL ? file->kind : &tiff_kind;
    CLI_TRY(file->kind->open(&file->handle, &choice));
    *out = file;
    file = NULL;
done:
    free(file);
    free(path);
    return rc;
}

int image_open(image_file **out, const char *name)
{
    return image_open_axes(out, name, NULL);
}

void image_close(image_file *file)
{
    if (file != NULL) {
        file->kind->close(file->handle);
        free(file);
    }
}

void image_info(const image_file *file, image_facts *facts)
{
    file->kind->info(file->handle, facts);
}

int image_page_size(image_file *file, int64_t page, int64_t *height, int64_t *width)
{
    return file->kind->page_size(file->handle, page, height, width);
}

int image_read_rows(image_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    return file->kind->read_rows(file->handle, page, row, n_rows, dst);
}

// ---- Writing ----------------------------------------------------------------------------------------

int image_create(image_writer **out, const char *path, const image_layout *layout)
{
    *out = NULL;
    const image_kind *kind = kind_of(path, NULL);
    if (kind != NULL && kind->create == NULL) {
        return cli_error(CLI_USAGE, "%s: files of this kind are read, not written; .tif, .ome.tif and .ome.zarr are",
                         path);
    }
    image_writer *writer = cli_alloc(1, sizeof *writer);
    if (writer == NULL) {
        return CLI_FAILED;
    }
    writer->kind = kind != NULL ? kind : &tiff_kind;
    int rc = writer->kind->create(&writer->handle, path, layout);
    if (rc != 0) {
        free(writer);
        return rc;
    }
    *out = writer;
    return CLI_OK;
}

int image_write_rows(image_writer *writer, int64_t place, int64_t row, int64_t n_rows, const float *src)
{
    return writer->kind->write_rows(writer->handle, place, row, n_rows, src);
}

int image_commit(image_writer *writer, int64_t *saturated)
{
    return writer->kind->commit(writer->handle, saturated);
}

void image_writer_free(image_writer *writer)
{
    if (writer != NULL) {
        writer->kind->writer_free(writer->handle);
        free(writer);
    }
}
