// NGFF metadata of versions 0.1 to 0.4: multiscales (axes, datasets, scales) and omero (channel names). The first image
// of a folder is taken, and of its pyramid the first level.
#include "cli/zarr/zarr_ngff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/units.h"
#include "cli/zarr/zarr.h"
#include "cli/zarr/zarr_store.h"

static int has(const char *folder, const char *name)
{
    char *path = cli_format("%s/%s", folder, name);
    int is_there = files_exists(path);
    free(path);
    return is_there;
}

int zarr_is_store(const char *path)
{
    return has(path, ".zarray") || has(path, ".zgroup") || has(path, ".zattrs") || has(path, "zarr.json");
}

// Micrometres or seconds to a unit; 0 when it is none that we know.
static double unit_of(const char *name)
{
    double length = name != NULL ? units_length(name) : 0;
    return name == NULL || length > 0 ? length : units_time(name);
}

static int read_axes(zarr_image *image, const char *folder, const json_t *multiscale, double *units)
{
    const json_t *axes = json_object_get(multiscale, "axes");
    size_t n = json_array_size(axes);
    if (axes == NULL) {         // versions 0.1 and 0.2
        memcpy(image->axes, "tczyx", sizeof "tczyx");
        return CLI_OK;
    }
    if (n < 2 || n > ZARR_MAX_DIMS) {
        return cli_error(CLI_FAILED, "%s: has axes %s; a list of 2 to %d is read", folder, zarr_quote_json(axes).text,
                         ZARR_MAX_DIMS);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *axis = json_array_get(axes, i);
        const char *name = json_string_value(json_is_string(axis) ? axis : json_object_get(axis, "name"));
        int is_known = name != NULL && strlen(name) == 1 && strchr("tczyxTCZYX", name[0]) != NULL;
        image->axes[i] = (char)(is_known ? name[0] | 0x20 : '?');
        units[i] = unit_of(json_string_value(json_object_get(axis, "unit")));
    }
    image->axes[n] = '\0';
    return CLI_OK;
}

// Multiplies `scale` by those in a list of transformations; a list of another form says nothing.
static void apply_scales(const json_t *transformations, size_t n, double *scale)
{
    for (size_t k = 0; k < json_array_size(transformations); k++) {
        const json_t *values = json_object_get(json_array_get(transformations, k), "scale");
        for (size_t i = 0; i < n && json_array_size(values) == n; i++) {
            scale[i] *= json_number_value(json_array_get(values, i));
        }
    }
}

static int read_multiscale(zarr_image *image, const char *folder, const json_t *multiscale)
{
    double units[ZARR_MAX_DIMS] = {0};
    const json_t *dataset = json_array_get(json_object_get(multiscale, "datasets"), 0);
    const json_t *path = json_object_get(dataset, "path");
    int rc = read_axes(image, folder, multiscale, units);
    if (rc != CLI_OK) {
        return rc;
    }
    if (!json_is_string(path) || !zarr_is_inside(json_string_value(path))) {
        return cli_error(CLI_FAILED, "%s: has its first level at path %s; a path below this folder is read", folder,
                         zarr_quote_json(path).text);
    }
    size_t n = strlen(image->axes);
    double scale[ZARR_MAX_DIMS] = {1, 1, 1, 1, 1, 1, 1, 1};
    apply_scales(json_object_get(dataset, "coordinateTransformations"), n, scale);
    apply_scales(json_object_get(multiscale, "coordinateTransformations"), n, scale);
    for (size_t i = 0; i < n; i++) {
        double value = scale[i] * units[i];
        image->scale[i] = isfinite(value) && value > 0 ? value : 0;
    }
    image->path = cli_format("%s/%s", folder, json_string_value(path));
    return CLI_OK;
}

// Says which of the things that are no image this is.
static int refuse(const char *folder, const json_t *attributes)
{
    if (json_object_get(attributes, "plate") != NULL || json_object_get(attributes, "well") != NULL) {
        return cli_error(CLI_FAILED, "%s: is a plate or well; name one of its images, as PLATE.zarr:/A/1/0", folder);
    }
    if (json_object_get(attributes, "bioformats2raw.layout") != NULL) {
        return cli_error(CLI_FAILED, "%s: is a collection of images; name one of them, as NAME.zarr:/0", folder);
    }
    if (has(folder, "zarr.json")) {
        return cli_error(CLI_FAILED, "%s: is Zarr of version 3 (zarr.json); version 2 is read (OME-Zarr up to 0.4)",
                         folder);
    }
    if (!has(folder, ".zgroup") && attributes == NULL) {
        return cli_error(CLI_FAILED, "%s: is no Zarr image: it has neither .zarray nor .zgroup", folder);
    }
    return cli_error(CLI_FAILED,
                     "%s: is no OME-Zarr image: its .zattrs name no multiscales; name an array in it, as NAME.zarr:/0",
                     folder);
}

int zarr_image_read(zarr_image *image, const char *folder)
{
    int rc;
    json_t *attributes = NULL;
    memset(image, 0, sizeof *image);
    if (has(folder, ".zarray")) {
        image->path = cli_format("%s", folder);
        return CLI_OK;
    }
    CLI_TRY(zarr_read_json(&attributes, folder, ".zattrs"));
    const json_t *multiscales = json_object_get(attributes, "multiscales");
    if (json_array_size(multiscales) == 0) {
        rc = refuse(folder, attributes);
        goto done;
    }
    CLI_TRY(read_multiscale(image, folder, json_array_get(multiscales, 0)));
    image->channels = json_incref(json_object_get(json_object_get(attributes, "omero"), "channels"));
done:
    json_decref(attributes);
    return rc;
}

void zarr_image_free(zarr_image *image)
{
    json_decref(image->channels);
    free(image->path);
    memset(image, 0, sizeof *image);
}

const char *zarr_image_channel_name(const zarr_image *image, int64_t channel)
{
    const json_t *item = channel < 0 ? NULL : json_array_get(image->channels, (size_t)channel);
    const char *name = json_string_value(json_object_get(item, "label"));
    return name != NULL ? name : "";
}
