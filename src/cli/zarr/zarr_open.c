// Opening a Zarr image: its metadata, the meaning of its dimensions, the channel chosen, the pixel size.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/zarr/zarr_file.h"
#include "cli/zarr/zarr_store.h"

enum { MAX_PAGES = 1000000 };
static const int64_t max_pixels = (int64_t)1 << 40;     // of a page

// "folder.zarr/@2" -> "folder.zarr" and 2; a folder of that very name comes first.
static char *split_name(const char *name, int64_t *channel)
{
    const char *at = strrchr(name, '@');
    size_t n = strlen(name);
    *channel = 0;
    if (at != NULL && at > name && at[1] >= '1' && at[1] <= '9' &&
        strspn(at + 1, "0123456789") == strlen(at + 1) && strlen(at) < 8 && !files_exists(name)) {
        *channel = strtoll(at + 1, NULL, 10);
        n = (size_t)(at - name);
    }
    while (n > 1 && name[n - 1] == '/') {
        n--;
    }
    return cli_format("%.*s", (int)n, name);
}

// Chunks that are missing hold the fill value, but an array without any is a copy that lacks its pixels.
static int check_chunks(const zarr_file *file)
{
    int is_there = 0;
    DIR *dir = opendir(file->array.path);
    for (struct dirent *e; !is_there && dir != NULL && (e = readdir(dir)) != NULL;) {
        is_there = e->d_name[0] >= '0' && e->d_name[0] <= '9';
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return is_there ? CLI_OK : cli_error(CLI_FAILED, "%s: stores no pixels: no chunk lies beside its .zarray",
                                         file->array.path);
}

// The letters of the axes, given or usual, in image.axes.
static int name_axes(zarr_file *file, const char *axes)
{
    static const char *const usual[] = {[2] = "yx", [3] = "tyx", [5] = "tczyx"};
    const zarr_array *a = &file->array;
    if (axes == NULL && file->image.axes[0] == '\0') {
        axes = (size_t)a->n_dims < sizeof usual / sizeof usual[0] ? usual[a->n_dims] : NULL;
        if (axes == NULL) {
            return cli_error(CLI_FAILED, "%s: is an array of %d dimensions without axes; say which they are, as tcyx",
                             file->path, a->n_dims);
        }
    }
    if (axes != NULL) {
        if (strlen(axes) > ZARR_MAX_DIMS || strspn(axes, "tczyx") != strlen(axes)) {
            return cli_error(CLI_USAGE, "axes '%s': letters of tczyx are accepted, slowest first", axes);
        }
        if (strcmp(file->image.axes, axes) != 0) {      // scales belong to the metadata's axes
            memset(file->image.scale, 0, sizeof file->image.scale);
        }
        snprintf(file->image.axes, sizeof file->image.axes, "%s", axes);
    }
    int n = (int)strlen(file->image.axes);
    if (n != a->n_dims) {
        return cli_error(CLI_FAILED, "%s: has axes %s but %d dimensions", file->path, file->image.axes, a->n_dims);
    }
    if (file->image.axes[n - 2] != 'y' || file->image.axes[n - 1] != 'x') {
        return cli_error(CLI_FAILED, "%s: has axes %s; y and x must come last", file->path, file->image.axes);
    }
    return CLI_OK;
}

static int find_axes(zarr_file *file)
{
    const char *axes = file->image.axes;
    const zarr_array *a = &file->array;
    int *const known[] = {&file->t, &file->c, &file->z};
    int n = a->n_dims;
    for (int i = 0; i < n; i++) {
        if (axes[i] == '?' && a->shape[i] > 1) {
            return cli_error(CLI_FAILED, "%s: dimension %d of size %lld has a name of its own; t, c, z, y and x are read",
                             file->path, i + 1, (long long)a->shape[i]);
        }
        if (axes[i] != '?' && strrchr(axes, axes[i]) != axes + i) {
            return cli_error(CLI_FAILED, "%s: has axes %s, one of them twice", file->path, axes);
        }
    }
    for (int k = 0; k < 3; k++) {
        const char *at = strchr(axes, "tcz"[k]);
        *known[k] = at != NULL ? (int)(at - axes) : -1;
    }
    zarr_facts *f = &file->facts;
    f->height = a->shape[n - 2];
    f->width = a->shape[n - 1];
    if (f->height > max_pixels / f->width) {
        return cli_error(CLI_FAILED, "%s: is %lld x %lld; at most %lld million pixels are read", file->path,
                         (long long)f->width, (long long)f->height, (long long)(max_pixels / 1000000));
    }
    f->frames = file->t >= 0 ? a->shape[file->t] : 1;
    f->slices = file->z >= 0 ? a->shape[file->z] : 1;
    f->channels = file->c >= 0 ? a->shape[file->c] : 1;
    if (f->frames > MAX_PAGES / f->slices || f->channels > MAX_PAGES / (f->slices * f->frames)) {
        return cli_error(CLI_FAILED, "%s: has more than %d pages", file->path, MAX_PAGES);
    }
    f->pages = f->slices * f->frames;
    f->type = a->kind != 'u' || a->item_bytes > 2 ? USPLIT_TYPE_F32
              : a->item_bytes == 1                ? USPLIT_TYPE_U8
                                                  : USPLIT_TYPE_U16;
    f->pixel_height = file->image.scale[n - 2];
    f->pixel_width = file->image.scale[n - 1];
    f->spacing = file->z >= 0 ? file->image.scale[file->z] : 0;
    f->interval = file->t >= 0 ? file->image.scale[file->t] : 0;
    return CLI_OK;
}

// " (DAPI, actin)" of the first channels.
static void list_names(const zarr_file *file, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (int64_t c = 0; c < file->facts.channels && at + sizeof(zarr_quoted) + 8 < size; c++) {
        const char *name = zarr_image_channel_name(&file->image, c);
        if (name[0] == '\0') {
            break;
        }
        at += (size_t)snprintf(text + at, size - at, "%s%s", c == 0 ? " (" : ", ", zarr_quote(name).text);
    }
    if (at > 0) {
        snprintf(text + at, size - at, ")");
    }
}

static int choose_channel(zarr_file *file, int64_t chosen)
{
    int64_t n = file->facts.channels;
    char names[256];
    if ((chosen == 0 && n > 1) || chosen > n) {
        list_names(file, names, sizeof names);
        return chosen == 0 ? cli_error(CLI_FAILED, "%s: has %lld channels%s; choose one: %s@1 to %s@%lld", file->path,
                                       (long long)n, names, file->path, file->path, (long long)n)
                           : cli_error(CLI_FAILED, "%s: channel %lld asked for, has %lld%s", file->path,
                                       (long long)chosen, (long long)n, names);
    }
    file->channel = chosen > 0 ? chosen - 1 : 0;
    file->facts.channel_name = zarr_image_channel_name(&file->image, file->channel);
    return CLI_OK;
}

int zarr_open(zarr_file **out, const char *name, const char *axes)
{
    int rc;
    int64_t chosen;
    *out = NULL;
    zarr_file *file = cli_alloc(1, sizeof *file);
    if (file == NULL) {
        return CLI_FAILED;
    }
    file->path = split_name(name, &chosen);
    if (!files_is_folder(file->path)) {
        rc = cli_error(CLI_FAILED, "%s: %s", file->path,
                       files_exists(file->path) ? "is a file; a Zarr image is a folder" : "no such folder");
        goto done;
    }
    CLI_TRY(zarr_image_read(&file->image, file->path));
    CLI_TRY(zarr_array_read(&file->array, file->image.path));
    CLI_TRY(name_axes(file, axes));
    CLI_TRY(find_axes(file));
    CLI_TRY(choose_channel(file, chosen));
    CLI_TRY(check_chunks(file));
    CLI_TRY(zarr_plan_cache(file, zarr_cache_bytes));
    *out = file;
    return CLI_OK;
done:
    zarr_close(file);
    return rc;
}

void zarr_close(zarr_file *file)
{
    if (file == NULL) {
        return;
    }
    for (int64_t i = 0; i < file->n_slots; i++) {
        free(file->slots[i].data);
    }
    free(file->slots);
    free(file->chunk);
    free(file->stored);
    zarr_array_free(&file->array);
    zarr_image_free(&file->image);
    free(file->path);
    free(file);
}

void zarr_info(const zarr_file *file, zarr_facts *facts)
{
    *facts = file->facts;
}

int zarr_page_size(zarr_file *file, int64_t page, int64_t *height, int64_t *width)
{
    *height = *width = 0;
    if (page < 0 || page >= file->facts.pages) {
        return cli_error(CLI_FAILED, "%s: no page %lld; it has %lld", file->path, (long long)page + 1,
                         (long long)file->facts.pages);
    }
    *height = file->facts.height;
    *width = file->facts.width;
    return CLI_OK;
}
