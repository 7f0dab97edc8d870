// What the pages of a TIFF are: --axes, OME-XML, ImageJ's or tifffile's words, else one time point after the other.
// The result is a table: the file's page of every channel, slice and time point.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/tiff_file.h"

enum { AXIS_C, AXIS_Z, AXIS_T, N_AXES };

typedef struct grid {           // of pages
    int64_t size[N_AXES], stride[N_AXES];
} grid;

static int axis_of(char letter)
{
    return letter == 'C' ? AXIS_C : letter == 'Z' ? AXIS_Z : letter == 'T' ? AXIS_T : -1;
}

// Sizes and strides of the letters before Y; 0: they do not multiply to the number of pages.
static int lay_out(grid *g, const image_order *order, int64_t n_pages)
{
    int64_t stride = 1;
    *g = (grid){{1, 1, 1}, {0, 0, 0}};
    for (int i = (int)strcspn(order->letters, "Y") - 1; i >= 0; i--) {
        int axis = axis_of(order->letters[i]);
        if (order->sizes[i] < 1 || order->sizes[i] > n_pages / stride) {
            return 0;
        }
        g->size[axis] = order->sizes[i];
        g->stride[axis] = stride;
        stride *= order->sizes[i];
    }
    return stride == n_pages;
}

// Samples of a pixel are no axis of pages: the C that stands for them goes, if there is one.
static void drop_samples(image_order *order, int64_t samples, int64_t n_pages)
{
    grid g;
    const char *x = strchr(order->letters, 'X'), *c = strchr(order->letters, 'C');
    if (c == NULL || (c < x && (samples == 1 || lay_out(&g, order, n_pages)))) {
        return;
    }
    int at = (int)(c - order->letters);
    if (c < x && order->sizes[at] != 0 && order->sizes[at] != samples) {
        return;
    }
    for (int i = at; i + 1 < order->n; i++) {
        order->letters[i] = order->letters[i + 1];
        order->sizes[i] = order->sizes[i + 1];
    }
    order->letters[--order->n] = '\0';
}

// The user's words. Sizes that are not given come from the file's own, or are what is left.
static int from_option(grid *g, const tiff_file *file, const char *text, const grid *told, int64_t n_pages)
{
    image_order order;
    image_read_axes(&order, text);
    for (int i = 0; i < order.n && file->axes.n_shape == order.n; i++) {
        order.sizes[i] = order.sizes[i] > 0 ? order.sizes[i] : file->axes.shape[i];
    }
    drop_samples(&order, file->samples, n_pages);
    int n_pages_letters = (int)strcspn(order.letters, "Y"), open = -1, n_open = 0;
    int64_t known = 1;
    for (int i = 0; i < n_pages_letters; i++) {
        if (order.sizes[i] == 0) {
            open = i;
            n_open++;
        } else if (known <= n_pages) {
            known *= order.sizes[i];
        }
    }
    if (n_open == 1) {
        order.sizes[open] = n_pages % known == 0 ? n_pages / known : 0;
    } else if (n_open > 1) {
        for (int i = 0; i < n_pages_letters; i++) {
            int64_t size = told->size[axis_of(order.letters[i])];
            order.sizes[i] = order.sizes[i] > 0 ? order.sizes[i] : size;
        }
        if (!lay_out(g, &order, n_pages)) {
            return cli_error(CLI_USAGE, "%s: --axes %s: say how many of each its %lld pages are, like %c%lld%s",
                             file->path, text, (long long)n_pages, order.letters[0], (long long)n_pages,
                             order.letters + 1);
        }
    }
    return lay_out(g, &order, n_pages) ? CLI_OK
                                       : cli_error(CLI_USAGE, "%s: --axes %s does not fit its %lld page%s", file->path,
                                                   text, (long long)n_pages, n_pages == 1 ? "" : "s");
}

// What the file says, OME apart. Words that speak of other pages count for nothing: a plain stack.
static int from_text(grid *g, const tiff_file *file, int64_t n_pages)
{
    const image_axes *a = &file->axes;
    image_order order;
    *g = (grid){{1, 1, n_pages}, {0, 0, 1}};
    if (a->is_imagej && a->images == n_pages) {
        if (a->channels <= n_pages && a->slices <= n_pages / a->channels &&
            a->frames == n_pages / a->channels / a->slices && n_pages % (a->channels * a->slices) == 0) {
            *g = (grid){{a->channels, a->slices, a->frames}, {1, a->channels, a->channels * a->slices}};
        }
    } else if (a->is_imagej && a->channels > 1) {
        return cli_error(CLI_FAILED, "%s: ImageJ's text speaks of %lld images, the file holds %lld; name them with "
                         "--axes", file->path, (long long)a->images, (long long)n_pages);
    } else if (a->order[0] != '\0' && image_read_axes(&order, a->order) && order.n == a->n_shape) {
        grid noted;
        memcpy(order.sizes, a->shape, sizeof order.sizes);
        drop_samples(&order, file->samples, n_pages);
        if (lay_out(&noted, &order, n_pages)) {
            *g = noted;
        }
    }
    return CLI_OK;
}

static int fill(tiff_file *file, const grid *g)
{
    int64_t total = g->size[0] * g->size[1] * g->size[2], at = 0;
    if ((file->pages = cli_alloc((size_t)total, sizeof *file->pages)) == NULL) {
        return CLI_FAILED;
    }
    for (int64_t t = 0; t < g->size[AXIS_T]; t++) {
        for (int64_t z = 0; z < g->size[AXIS_Z]; z++) {
            for (int64_t c = 0; c < g->size[AXIS_C]; c++) {
                file->pages[at++] = c * g->stride[AXIS_C] + z * g->stride[AXIS_Z] + t * g->stride[AXIS_T];
            }
        }
    }
    return CLI_OK;
}

static int from_ome(tiff_file *file, grid *g, const ome_image *ome, int64_t n_pages, int64_t *first_channel)
{
    int64_t first[3], size[3];
    file->pages = ome_pages(ome, n_pages, file->samples, first, size);
    if (file->pages == NULL && ome->sizes[OME_C] > 1) {
        return cli_error(CLI_FAILED,
                         "%s: its OME-XML describes %lld channels, %lld slices and %lld time points, which its %lld "
                         "pages are not; name them with --axes",
                         file->path, (long long)ome->sizes[OME_C], (long long)ome->sizes[OME_Z],
                         (long long)ome->sizes[OME_T], (long long)n_pages);
    }
    if (file->pages == NULL) {
        *g = (grid){{1, 1, n_pages}, {0, 0, 1}};
        return fill(file, g);
    }
    if (ome->n_images > 1) {
        fprintf(stderr, "%s: holds %d images, the first is read\n", files_base(file->path), ome->n_images);
    }
    *first_channel = first[OME_C];
    for (int a = 0; a < N_AXES; a++) {
        g->size[a] = size[a];
    }
    return CLI_OK;
}

int tiff_map_pages(tiff_file *file, const image_choice *choice, const ome_image *ome)
{
    int rc;
    int64_t n_pages = file->raw_pages > 0 ? file->raw_pages : file->n_directories, first_channel = 0;
    grid g = {{1, 1, 1}, {0, 0, 0}};
    if (choice->axes != NULL) {
        grid told = {{1, 1, 1}, {0, 0, 0}};
        if (ome != NULL) {
            memcpy(told.size, ome->sizes, sizeof told.size);
        } else {
            memcpy(told.size, (int64_t[]){file->axes.channels, file->axes.slices, file->axes.frames},
                   sizeof told.size);
        }
        CLI_TRY(from_option(&g, file, choice->axes, &told, n_pages));
        CLI_TRY(fill(file, &g));
    } else if (ome != NULL) {
        CLI_TRY(from_ome(file, &g, ome, n_pages, &first_channel));
    } else {
        CLI_TRY(from_text(&g, file, n_pages));
        CLI_TRY(fill(file, &g));
    }
    image_facts *f = &file->facts;
    f->channels = g.size[AXIS_C] * file->samples;
    f->slices = g.size[AXIS_Z];
    f->frames = g.size[AXIS_T];
    f->pages = f->slices * f->frames;
    file->page_channels = g.size[AXIS_C];
    CLI_TRY(image_pick_channel(choice, f->channels, &f->channel));
    file->sample = (int)(f->channel % file->samples);
    file->page_channel = f->channel / file->samples;
    int64_t named = first_channel * file->samples + f->channel;
    if (ome != NULL && named < ome->n_names) {
        memcpy(f->name, ome->names[named], sizeof f->name);
    }
done:
    return rc;
}
