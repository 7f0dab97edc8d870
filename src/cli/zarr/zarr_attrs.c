// The metadata of an OME-Zarr image: .zgroup, .zattrs (NGFF 0.4: multiscales and omero) and a .zarray for each level.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/zarr/zarr_writer.h"

enum { AXES = 5 };

// Takes over `object`.
static int write_json(const zarr_writer *w, const char *name, json_t *object)
{
    // In ASCII: zarr-python up to 2.13 reads nothing else.
    const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(15) | JSON_ENSURE_ASCII;
    char *text = object != NULL ? json_dumps(object, flags) : NULL;
    json_decref(object);
    if (text == NULL) {
        return cli_error(CLI_FAILED, "%s: out of memory for the metadata", w->folder.path);
    }
    int rc = zarr_folder_write(&w->folder, name, text, (int64_t)strlen(text));
    free(text);
    return rc;
}

static json_t *integers(const int64_t *values)
{
    json_t *list = json_array();
    for (int i = 0; i < AXES; i++) {
        json_array_append_new(list, json_integer(values[i]));
    }
    return list;
}

static int write_array(const zarr_writer *w, int k)
{
    const image_layout *l = &w->layout;
    const zarr_level *level = &w->levels[k];
    const int64_t shape[AXES] = {l->frames, l->channels, l->slices, level->height, level->width};
    const int64_t chunks[AXES] = {1, 1, 1, level->chunk_rows, level->chunk_columns};
    const uint16_t one = 1;
    int is_little = *(const unsigned char *)&one == 1;
    const char *type = l->type == USPLIT_TYPE_U8    ? "|u1"
                       : l->type == USPLIT_TYPE_U16 ? (is_little ? "<u2" : ">u2")
                                                    : (is_little ? "<f4" : ">f4");
    char *name = cli_format("%d/.zarray", k);
    int rc = write_json(w, name,
                        json_pack("{s:i, s:o, s:o, s:s, s:{s:s, s:s, s:i, s:i, s:i}, s:i, s:n, s:s, s:s}",
                                  "zarr_format", 2, "shape", integers(shape), "chunks", integers(chunks), "dtype", type,
                                  "compressor", "id", "blosc", "cname", "lz4", "clevel", 5, "shuffle", 1,
                                  "blocksize", 0, "fill_value", 0, "filters", "order", "C",
                                  "dimension_separator", "/"));
    free(name);
    return rc;
}

static json_t *axis(const char *name, const char *type, const char *unit, double size)
{
    return size > 0 ? json_pack("{s:s, s:s, s:s}", "name", name, "type", type, "unit", unit)
                    : json_pack("{s:s, s:s}", "name", name, "type", type);
}

static json_t *axes(const image_layout *l)
{
    return json_pack("[o, o, o, o, o]", axis("t", "time", "second", l->interval), axis("c", "channel", "", 0),
                     axis("z", "space", "micrometer", l->spacing), axis("y", "space", "micrometer", l->pixel_height),
                     axis("x", "space", "micrometer", l->pixel_width));
}

// A level's scale, and where its first pixel's centre lies: between those of the pixels that it is the mean of.
static json_t *dataset(const image_layout *l, int k)
{
    double factor = ldexp(1, k), shift = 0.5 * (factor - 1);
    double x = l->pixel_width > 0 ? l->pixel_width : 1, y = l->pixel_height > 0 ? l->pixel_height : 1;
    char path[16];
    snprintf(path, sizeof path, "%d", k);
    json_t *list = json_pack("[{s:s, s:[f, f, f, f, f]}]", "type", "scale", "scale",
                             l->interval > 0 ? l->interval : 1.0, 1.0, l->spacing > 0 ? l->spacing : 1.0, y * factor,
                             x * factor);
    if (k > 0) {
        json_array_append_new(list, json_pack("{s:s, s:[f, f, f, f, f]}", "type", "translation", "translation", 0.0,
                                              0.0, 0.0, y * shift, x * shift));
    }
    return json_pack("{s:s, s:o}", "path", path, "coordinateTransformations", list);
}

static json_t *channel(const zarr_writer *w, int64_t c)
{
    static const char *const colours[] = {"00FF00", "FF00FF", "00FFFF", "FFFF00",
                                          "FF0000", "0000FF", "FF8000", "FFFFFF"};
    zarr_range whole = w->whole[c], shown = w->shown[c];
    if (!(shown.low <= shown.high)) {
        shown = (zarr_range){0, 0};
    }
    if (!(whole.low <= whole.high)) {
        whole = shown;
    }
    shown.high = shown.high > shown.low ? shown.high : shown.low + 1;
    whole.high = whole.high > whole.low ? whole.high : whole.low + 1;
    json_t *label = w->names[c] != NULL ? json_string(w->names[c]) : NULL;
    if (label == NULL) {        // none, or no UTF-8
        char *name = cli_format("channel %lld", (long long)c + 1);
        label = json_string(name);
        free(name);
    }
    return json_pack("{s:o, s:s, s:b, s:f, s:s, s:b, s:{s:f, s:f, s:f, s:f}}", "label", label, "color",
                     w->layout.channels == 1 ? "FFFFFF" : colours[c % 8], "active", 1, "coefficient", 1.0, "family",
                     "linear", "inverted", 0, "window", "min", whole.low, "max", whole.high, "start", shown.low, "end",
                     shown.high);
}

static json_t *attributes(const zarr_writer *w)
{
    json_t *datasets = json_array(), *channels = json_array();
    for (int k = 0; k < w->n_levels; k++) {
        json_array_append_new(datasets, dataset(&w->layout, k));
    }
    for (int64_t c = 0; c < w->layout.channels; c++) {
        json_array_append_new(channels, channel(w, c));
    }
    json_t *how = json_pack("{s:s}", "method", "mean of 2 x 2 pixels");
    json_t *info = w->info != NULL ? json_string(w->info) : NULL;
    if (info != NULL) {
        json_object_set_new(how, "description", info);
    }
    json_t *multiscale = json_pack("{s:s, s:o, s:o, s:s, s:o}", "version", "0.4", "axes", axes(&w->layout), "datasets",
                                   datasets, "type", "mean", "metadata", how);
    return json_pack("{s:[o], s:{s:s, s:o, s:{s:s}}}", "multiscales", multiscale, "omero", "version", "0.4", "channels",
                     channels, "rdefs", "model", w->layout.channels == 1 ? "greyscale" : "color");
}

int zarr_write_metadata(const zarr_writer *w)
{
    int rc;
    for (int k = 0; k < w->n_levels; k++) {
        CLI_TRY(write_array(w, k));
    }
    CLI_TRY(write_json(w, ".zgroup", json_pack("{s:i}", "zarr_format", 2)));
    CLI_TRY(write_json(w, ".zattrs", attributes(w)));
done:
    return rc;
}
