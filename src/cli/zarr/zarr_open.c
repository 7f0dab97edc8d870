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

// The letters of the axes, chosen or usual, in image.axes.
static int name_axes(zarr_file *file, const char *chosen)
{
    static const char *const usual[] = {[2] = "yx", [3] = "tyx", [5] = "tczyx"};
    const zarr_array *a = &file->array;
    char *axes = file->image.axes;
    image_order order;
    if (chosen != NULL) {
        if (!image_read_axes(&order, chosen)) {
            return image_check_axes(chosen);
        }
        char letters[ZARR_MAX_DIMS + 1] = "";
        for (int i = 0; i < order.n; i++) {
            letters[i] = (char)(order.letters[i] | 0x20);
            if (i < a->n_dims && order.sizes[i] > 0 && order.sizes[i] != a->shape[i]) {
                return cli_error(CLI_FAILED, "%s: axis %c has size %lld, not %lld", file->path, order.letters[i],
                                 (long long)a->shape[i], (long long)order.sizes[i]);
            }
        }
        if (strcmp(axes, letters) != 0) {       // scales belong to the metadata's axes
            memset(file->image.scale, 0, sizeof file->image.scale);
        }
        memcpy(axes, letters, sizeof letters);
    } else if (axes[0] == '\0') {
        const char *text = (size_t)a->n_dims < sizeof usual / sizeof usual[0] ? usual[a->n_dims] : NULL;
        if (text == NULL) {
            return cli_error(CLI_FAILED, "%s: is an array of %d dimensions that have no names; --axes names them",
                             file->path, a->n_dims);
        }
        memcpy(axes, text, strlen(text) + 1);
    }
    int n = (int)strlen(axes);
    if (n != a->n_dims) {
        return cli_error(CLI_FAILED, "%s: has axes %s but %d dimensions", file->path, axes, a->n_dims);
    }
    if (axes[n - 2] != 'y' || axes[n - 1] != 'x') {
        return cli_error(CLI_FAILED, "%s: has axes %s; y and x must come last", file->path, axes);
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
            return cli_error(CLI_FAILED, "%s: axis %d of size %lld has a name of its own; t, c, z, y and x are read",
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
    image_facts *f = &file->facts;
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

// The folder of the image: the path, and what lies `inside` it.
static int find_folder(zarr_file *file, const image_choice *choice)
{
    size_t n = strlen(choice->path);
    const char *inside = choice->inside != NULL ? choice->inside : "";
    inside += strspn(inside, "/");
    while (n > 1 && choice->path[n - 1] == '/') {
        n--;
    }
    file->path = cli_format("%.*s%s%s", (int)n, choice->path, inside[0] != '\0' ? "/" : "", inside);
    if (inside[0] != '\0' && !zarr_is_inside(inside)) {
        return cli_error(CLI_USAGE, "%s:%s: the folder behind the colon must lie inside, as :/A/1/0", choice->path,
                         choice->inside);
    }
    if (!files_is_folder(file->path)) {
        return cli_error(CLI_FAILED, "%s: %s", file->path,
                         files_exists(file->path) ? "is a file; a Zarr image is a folder" : "no such folder");
    }
    return CLI_OK;
}

static int choose_channel(zarr_file *file, const image_choice *choice)
{
    image_facts *f = &file->facts;
    int rc = image_pick_channel(choice, f->channels, &f->channel);
    if (rc == CLI_OK) {
        snprintf(f->name, sizeof f->name, "%s", zarr_image_channel_name(&file->image, f->channel));
        for (char *p = f->name; *p != '\0'; p++) {
            *p = (unsigned char)*p < ' ' ? ' ' : *p;
        }
    }
    return rc;
}

int zarr_open(zarr_file **out, const image_choice *choice)
{
    int rc;
    *out = NULL;
    zarr_file *file = cli_alloc(1, sizeof *file);
    if (file == NULL) {
        return CLI_FAILED;
    }
    CLI_TRY(find_folder(file, choice));
    CLI_TRY(zarr_image_read(&file->image, file->path));
    CLI_TRY(zarr_array_read(&file->array, file->image.path));
    CLI_TRY(name_axes(file, choice->axes));
    CLI_TRY(find_axes(file));
    CLI_TRY(choose_channel(file, choice));
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

void zarr_info(const zarr_file *file, image_facts *facts)
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
