// A dataset of an HDF5 file as an image: which one, what its axes are, rows of a page as floats. The program's only
// file that knows HDF5.
#include "cli/image/hdf5_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hdf5.h>

#include "cli/cli.h"

enum { MAX_RANK = 5, MIN_RANK = 2 };
// As with TIFF: not more values claimed than this many times what is stored. A chunk is decoded whole.
static const double max_expansion = 65536;
static const hsize_t max_chunk_bytes = (hsize_t)1 << 30, max_cache_bytes = (hsize_t)1 << 28;

struct hdf5_reader {
    hid_t dataset, space;
    char *inside, *name;        // the dataset's; with the file's, for messages
    int rank;
    int axis_of[128];           // of a letter; -1: none
    image_facts facts;
};

// ---- Which dataset ----------------------------------------------------------------------------------

typedef struct candidates {
    hid_t file;
    int n;
    char names[3][128];
} candidates;

static int is_image(hid_t dataset)
{
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    H5T_class_t class = H5Tget_class(type);
    H5Tclose(type);
    H5Sclose(space);
    return rank >= MIN_RANK && rank <= MAX_RANK && (class == H5T_INTEGER || class == H5T_FLOAT);
}

static void consider(candidates *c, const char *name)
{
    hid_t dataset = H5Dopen2(c->file, name, H5P_DEFAULT);
    if (dataset < 0) {
        return;
    }
    if (is_image(dataset)) {
        if (c->n < 3) {
            snprintf(c->names[c->n], sizeof c->names[0], "/%.126s", name);
        }
        c->n++;
    }
    H5Dclose(dataset);
}

#if H5_VERSION_GE(1, 12, 0)
static herr_t visit(hid_t group, const char *name, const H5O_info2_t *info, void *user)
#else
static herr_t visit(hid_t group, const char *name, const H5O_info_t *info, void *user)
#endif
{
    (void)group;
    if (info->type == H5O_TYPE_DATASET) {
        consider(user, name);
    }
    return 0;
}

static int find_dataset(hdf5_reader *r, hid_t file, const image_choice *choice)
{
    candidates c = {.file = file};
    if (choice->inside != NULL) {
        r->inside = cli_format("%s", choice->inside);
        r->name = cli_format("%s:%s", choice->path, choice->inside);
        r->dataset = H5Dopen2(file, choice->inside, H5P_DEFAULT);
        return r->dataset >= 0 ? CLI_OK
                               : cli_error(CLI_FAILED, "%s: no dataset %s", choice->path, choice->inside);
    }
#if H5_VERSION_GE(1, 12, 0)
    H5Ovisit3(file, H5_INDEX_NAME, H5_ITER_INC, visit, &c, H5O_INFO_BASIC);
#else
    H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, visit, &c, H5O_INFO_BASIC);
#endif
    if (c.n == 0) {
        return cli_error(CLI_FAILED, "%s: holds no dataset of numbers with %d to %d axes", choice->path, MIN_RANK,
                         MAX_RANK);
    }
    if (c.n > 1) {
        return cli_error(CLI_FAILED, "%s: holds %d datasets (%s, %s%s); name one: FILE:%s", choice->path, c.n,
                         c.names[0], c.names[1], c.n > 2 ? ", ..." : "", c.names[0]);
    }
    r->inside = cli_format("%s", c.names[0]);
    r->name = cli_format("%s:%s", choice->path, c.names[0]);
    r->dataset = H5Dopen2(file, c.names[0], H5P_DEFAULT);
    return r->dataset >= 0 ? CLI_OK : cli_error(CLI_FAILED, "%s: cannot be opened", r->name);
}

// ---- Its axes ---------------------------------------------------------------------------------------

// The attribute "axistags" of ilastik: "key": "t" of every axis, in order.
static void read_tags(const hdf5_reader *r, char *letters, int room)
{
    char *text = NULL;
    letters[0] = '\0';
    if (H5Aexists(r->dataset, "axistags") <= 0) {
        return;
    }
    hid_t attribute = H5Aopen(r->dataset, "axistags", H5P_DEFAULT), type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    if (H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1) {
        if (H5Tis_variable_str(type) > 0) {
            hid_t memory = H5Tcopy(type);
            char *held = NULL;
            if (H5Aread(attribute, memory, &held) >= 0 && held != NULL) {
                text = cli_format("%s", held);
            }
        } else if (H5Tget_size(type) < 65536) {
            text = calloc(1, H5Tget_size(type) + 1);
            if (text != NULL && H5Aread(attribute, type, text) < 0) {
                text[0] = '\0';
            }
        }
    }
    int n = 0;
    for (const char *p = text; p != NULL && (p = strstr(p, "\"key\": \"")) != NULL && n + 1 < room;) {
        p += strlen("\"key\": \"");
        letters[n++] = *p;
        letters[n] = '\0';
    }
    free(text);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
}

// "element_size_um": z, y, x.
static void read_element_size(hdf5_reader *r)
{
    double size[3];
    if (H5Aexists(r->dataset, "element_size_um") <= 0) {
        return;
    }
    hid_t attribute = H5Aopen(r->dataset, "element_size_um", H5P_DEFAULT), space = H5Aget_space(attribute);
    if (H5Sget_simple_extent_npoints(space) == 3 && H5Aread(attribute, H5T_NATIVE_DOUBLE, size) >= 0 &&
        size[1] > 0 && size[2] > 0 && size[1] < 1e12 && size[2] < 1e12) {
        r->facts.spacing = size[0] > 0 && size[0] < 1e12 ? size[0] : 0;
        r->facts.pixel_height = size[1];
        r->facts.pixel_width = size[2];
    }
    H5Sclose(space);
    H5Aclose(attribute);
}

static int find_axes(hdf5_reader *r, const image_choice *choice, const hsize_t *dims)
{
    static const char *const by_rank[] = {"", "", "YX", "TYX", "", ""};
    image_order order;
    char tags[8];
    read_tags(r, tags, sizeof tags);
    const char *axes = choice->axes;
    if (axes == NULL) {
        axes = image_read_axes(&order, tags) && order.n == r->rank ? tags : by_rank[r->rank];
    }
    if (axes[0] == '\0') {
        return cli_error(CLI_FAILED, "%s: has %d axes; name them with --axes, slowest first: %s, say", r->name,
                         r->rank, r->rank == 4 ? "TZYX" : "TZCYX");
    }
    image_read_axes(&order, axes);
    if (order.n != r->rank) {
        return cli_error(CLI_USAGE, "%s: has %d axes, --axes %s names %d", r->name, r->rank, axes, order.n);
    }
    memset(r->axis_of, 0xff, sizeof r->axis_of);
    for (int i = 0; i < r->rank; i++) {
        if (order.sizes[i] != 0 && (hsize_t)order.sizes[i] != dims[i]) {
            return cli_error(CLI_USAGE, "%s: --axes %s: %c is %llu", r->name, axes, order.letters[i],
                             (unsigned long long)dims[i]);
        }
        if (dims[i] == 0 || dims[i] > INT32_MAX) {
            return cli_error(CLI_FAILED, "%s: axis %c has %llu entries; accepted 1 to %d", r->name, order.letters[i],
                             (unsigned long long)dims[i], INT32_MAX);
        }
        r->axis_of[(int)order.letters[i]] = i;
    }
    return CLI_OK;
}

// ---- What it stores ---------------------------------------------------------------------------------

static int find_type(hdf5_reader *r)
{
    hid_t type = H5Dget_type(r->dataset);
    size_t bytes = H5Tget_size(type);
    H5T_class_t class = H5Tget_class(type);
    int is_unsigned = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;
    H5Tclose(type);
    r->facts.type = is_unsigned && bytes == 1   ? USPLIT_TYPE_U8
                    : is_unsigned && bytes == 2 ? USPLIT_TYPE_U16
                                                : USPLIT_TYPE_F32;
    return is_image(r->dataset) && bytes <= 8
               ? CLI_OK
               : cli_error(CLI_FAILED, "%s: is no image: 2 to 5 axes of integers or floats are read", r->name);
}

// Opens the dataset again with room for one row of chunks, so that a chunk is decoded once.
static int check_storage(hdf5_reader *r, hid_t file, const hsize_t *dims)
{
    hid_t type = H5Dget_type(r->dataset), create = H5Dget_create_plist(r->dataset);
    hsize_t chunk[MAX_RANK], bytes = H5Tget_size(type);
    double claimed = (double)bytes;
    H5D_layout_t layout = H5Pget_layout(create);
    int rc = CLI_OK;
    for (int i = 0; i < r->rank; i++) {
        claimed *= (double)dims[i];
    }
    if (layout != H5D_VIRTUAL && claimed > (double)H5Dget_storage_size(r->dataset) * max_expansion) {
        rc = cli_error(CLI_FAILED, "%s: claims %.3g bytes of pixels but stores %llu", r->name, claimed,
                       (unsigned long long)H5Dget_storage_size(r->dataset));
    } else if (layout == H5D_CHUNKED && H5Pget_chunk(create, MAX_RANK, chunk) == r->rank) {
        for (int i = 0; i < r->rank && bytes <= max_chunk_bytes; i++) {
            bytes = chunk[i] > max_chunk_bytes ? max_chunk_bytes + 1 : bytes * chunk[i];
        }
        if (bytes > max_chunk_bytes) {
            rc = cli_error(CLI_FAILED, "%s: has chunks of over 1 GB", r->name);
        } else {
            int x = r->axis_of['X'];
            hsize_t cache = bytes * ((dims[x] + chunk[x] - 1) / chunk[x]);
            hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
            H5Pset_chunk_cache(access, 12289, cache < max_cache_bytes ? cache : max_cache_bytes, 1);
            H5Dclose(r->dataset);
            r->dataset = H5Dopen2(file, r->inside, access);
            rc = r->dataset >= 0 ? CLI_OK : cli_error(CLI_FAILED, "%s: cannot be opened", r->name);
        }
    }
    H5Pclose(create);
    H5Tclose(type);
    return rc;
}

int hdf5_reader_open(hdf5_reader **out, const image_choice *choice, image_facts *facts)
{
    int rc;
    hsize_t dims[MAX_RANK];
    *out = NULL;
    hdf5_reader *r = cli_alloc(1, sizeof *r);
    if (r == NULL) {
        return CLI_FAILED;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t file = H5Fopen(choice->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
        return cli_error(CLI_FAILED, "%s: not a readable HDF5 file", choice->path);
    }
    CLI_TRY(find_dataset(r, file, choice));
    CLI_TRY(find_type(r));
    r->space = H5Dget_space(r->dataset);
    r->rank = H5Sget_simple_extent_dims(r->space, dims, NULL);
    CLI_TRY(find_axes(r, choice, dims));
    CLI_TRY(check_storage(r, file, dims));
    image_facts *f = &r->facts;
    f->height = (int64_t)dims[r->axis_of['Y']];
    f->width = (int64_t)dims[r->axis_of['X']];
    f->slices = r->axis_of['Z'] >= 0 ? (int64_t)dims[r->axis_of['Z']] : 1;
    f->frames = r->axis_of['T'] >= 0 ? (int64_t)dims[r->axis_of['T']] : 1;
    f->channels = r->axis_of['C'] >= 0 ? (int64_t)dims[r->axis_of['C']] : 1;
    f->pages = f->slices * f->frames;
    read_element_size(r);
    CLI_TRY(image_pick_channel(choice, f->channels, &f->channel));
    *facts = *f;
    *out = r;
done:
    return rc;
}

int hdf5_reader_rows(hdf5_reader *r, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    hsize_t start[MAX_RANK] = {0}, count[MAX_RANK] = {1, 1, 1, 1, 1};
    const struct {
        char letter;
        int64_t start, count;
    } axes[] = {{'T', page / r->facts.slices, 1}, {'Z', page % r->facts.slices, 1}, {'C', r->facts.channel, 1},
                {'Y', row, n_rows}, {'X', 0, r->facts.width}};
    for (size_t i = 0; i < sizeof axes / sizeof axes[0]; i++) {
        int axis = r->axis_of[(int)axes[i].letter];
        if (axis >= 0) {
            start[axis] = (hsize_t)axes[i].start;
            count[axis] = (hsize_t)axes[i].count;
        }
    }
    hsize_t n = (hsize_t)(n_rows * r->facts.width);
    hid_t memory = H5Screate_simple(1, &n, NULL);
    int ok = H5Sselect_hyperslab(r->space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
             H5Dread(r->dataset, H5T_NATIVE_FLOAT, memory, r->space, H5P_DEFAULT, dst) >= 0;
    H5Sclose(memory);
    return ok ? CLI_OK
              : cli_error(CLI_FAILED, "%s: pixels cannot be read: damaged, or packed by a filter that this HDF5 "
                          "library does not have", r->name);
}
