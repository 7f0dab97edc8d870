// From the archive to arrays: the outermost dictionary, its state_dict, and for each tensor in it the storage, offset,
// sizes and strides, held against the length of the member that has the numbers.
#include "cli/import/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files.h"

enum {
    MOST_PICKLE = 16 << 20,     // bytes; a checkpoint with an optimiser's state has less than 1 MB
    MOST_ARRAYS = 65536
};

typedef enum { NUMBER_FLOAT, NUMBER_SIGNED, NUMBER_UNSIGNED, NUMBER_BFLOAT } number_kind;

static const struct {
    const char *name;           // of the class in the module torch
    int bytes;
    number_kind kind;
} types[] = {
    {"FloatStorage", 4, NUMBER_FLOAT},   {"DoubleStorage", 8, NUMBER_FLOAT}, {"HalfStorage", 2, NUMBER_FLOAT},
    {"BFloat16Storage", 2, NUMBER_BFLOAT}, {"LongStorage", 8, NUMBER_SIGNED},  {"IntStorage", 4, NUMBER_SIGNED},
    {"ShortStorage", 2, NUMBER_SIGNED},  {"CharStorage", 1, NUMBER_SIGNED},  {"ByteStorage", 1, NUMBER_UNSIGNED},
    {"BoolStorage", 1, NUMBER_UNSIGNED},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

// ---- Arrays -----------------------------------------------------------------------------------------------------

static int array_bad(const checkpoint *c, const checkpoint_array *a, const char *why)
{
    return cli_error(CLI_FAILED, "%s: '%s' %s", c->path, zip_printable(a->name, a->length).text, why);
}

static int find_type(const checkpoint *c, const checkpoint_array *a, const pickle_value *name, int *type)
{
    const pickle *p = &c->pickle;
    for (int i = 0; name->kind == PICKLE_NAME && i < N_TYPES; i++) {
        if (pickle_is(pickle_item(p, name, 0), "torch") && pickle_is(pickle_item(p, name, 1), types[i].name)) {
            *type = i;
            return CLI_OK;
        }
    }
    return cli_error(CLI_FAILED, "%s: '%s' has numbers of the type %s; accepted: float, double, half, bfloat16, and "
                     "whole numbers", c->path, zip_printable(a->name, a->length).text, pickle_describe(p, name).text);
}

// The member with the storage's numbers: beside data.pkl, in the folder data.
static const zip_entry *find_storage(const checkpoint *c, const pickle_value *key)
{
    char *name = key->kind == PICKLE_TEXT && key->n < 64 ?
                 cli_format("%sdata/%.*s", c->folder, (int)key->n, key->text) : NULL;
    const zip_entry *e = name != NULL ? zip_find(&c->zip, name, strlen(name)) : NULL;
    free(name);
    return e;
}

static int read_whole(const pickle_value *v, int64_t *whole)
{
    *whole = v != NULL && v->kind == PICKLE_INT ? v->whole : -1;
    return *whole >= 0;
}

// Sizes and strides, and whether all elements lie within a storage of `room` elements.
static int read_shape(const checkpoint *c, checkpoint_array *a, const pickle_value *size, const pickle_value *stride,
                      int64_t room)
{
    int64_t last = a->offset;
    if (size == NULL || stride == NULL || size->kind != PICKLE_TUPLE || stride->kind != PICKLE_TUPLE ||
        size->n != stride->n || size->n > CHECKPOINT_DIMS) {
        return array_bad(c, a, "has a shape that cannot be read");
    }
    a->n_dims = (int)size->n;
    a->count = 1;
    for (int i = 0; i < a->n_dims; i++) {
        if (!read_whole(pickle_item(&c->pickle, size, (uint32_t)i), &a->dims[i]) ||
            !read_whole(pickle_item(&c->pickle, stride, (uint32_t)i), &a->strides[i]) ||
            (a->dims[i] > 0 && a->count > room / a->dims[i])) {
            return array_bad(c, a, "has a shape larger than its storage");
        }
        a->count *= a->dims[i];
    }
    for (int i = 0; i < a->n_dims; i++) {
        if (a->dims[i] <= 1 || a->count == 0) {
            a->strides[i] = 0;  // never taken, and whatever it says
        } else if (a->strides[i] > (room - 1) / (a->dims[i] - 1) ||
                   (last += a->strides[i] * (a->dims[i] - 1)) >= room) {
            return array_bad(c, a, "has elements outside its storage");
        }
    }
    return a->count == 0 || last < room ? CLI_OK : array_bad(c, a, "has elements outside its storage");
}

static int read_array(const checkpoint *c, checkpoint_array *a, const pickle_value *v)
{
    const pickle *p = &c->pickle;
    int rc;
    int64_t room;
    if (v->kind != PICKLE_TENSOR) {
        return cli_error(CLI_FAILED, "%s: '%s' is %s; accepted: tensors", c->path,
                         zip_printable(a->name, a->length).text, pickle_describe(p, v).text);
    }
    const pickle_value *storage = pickle_item(p, v, 0);
    if (storage == NULL || storage->kind != PICKLE_STORAGE || !read_whole(pickle_item(p, v, 1), &a->offset) ||
        !read_whole(pickle_item(p, storage, 4), &room)) {
        return array_bad(c, a, "is a tensor that cannot be read");
    }
    CLI_TRY(find_type(c, a, pickle_item(p, storage, 1), &a->type));
    a->storage = find_storage(c, pickle_item(p, storage, 2));
    if (a->storage == NULL) {
        return array_bad(c, a, "has its numbers in a storage that is missing");
    }
    uint64_t bytes = (uint64_t)types[a->type].bytes;
    if (a->storage->size / bytes != (uint64_t)room || a->storage->size % bytes != 0) {
        return array_bad(c, a, "has a storage of another length than it says");
    }
    if (a->offset > room) {
        return array_bad(c, a, "has elements outside its storage");
    }
    CLI_TRY(read_shape(c, a, pickle_item(p, v, 2), pickle_item(p, v, 3), room));
done:
    return rc;
}

static int by_name(const void *x, const void *y)
{
    const checkpoint_array *a = x, *b = y;
    int order = memcmp(a->name, b->name, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static int read_arrays(checkpoint *c, const pickle_value *dict)
{
    int rc = CLI_OK;
    if (dict->n / 2 > MOST_ARRAYS) {
        return cli_error(CLI_FAILED, "%s: state_dict has %u entries; accepted: up to %d", c->path, dict->n / 2,
                         MOST_ARRAYS);
    }
    c->arrays = cli_alloc(dict->n / 2, sizeof *c->arrays);
    if (c->arrays == NULL) {
        return CLI_FAILED;
    }
    for (; c->n_arrays < dict->n / 2; c->n_arrays++) {
        checkpoint_array *a = &c->arrays[c->n_arrays];
        const pickle_value *name = pickle_item(&c->pickle, dict, 2 * c->n_arrays);
        if (name->kind != PICKLE_TEXT) {
            return cli_error(CLI_FAILED, "%s: state_dict has a name that is not text", c->path);
        }
        a->name = name->text;
        a->length = name->n;
        CLI_TRY(read_array(c, a, pickle_item(&c->pickle, dict, 2 * c->n_arrays + 1)));
    }
    qsort(c->arrays, c->n_arrays, sizeof *c->arrays, by_name);
    for (uint32_t i = 1; i < c->n_arrays; i++) {
        if (by_name(&c->arrays[i - 1], &c->arrays[i]) == 0) {
            return array_bad(c, &c->arrays[i], "is there twice");
        }
    }
done:
    return rc;
}

checkpoint_array *checkpoint_find(checkpoint *c, const char *fmt, ...)
{
    char name[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    checkpoint_array key = {.name = name, .length = (uint32_t)n};
    if (n < 0 || (size_t)n >= sizeof name || c->n_arrays == 0) {
        return NULL;
    }
    return bsearch(&key, c->arrays, c->n_arrays, sizeof key, by_name);
}

int checkpoint_same(const checkpoint_array *a, const checkpoint_array *b)
{
    int same = a->storage == b->storage && a->offset == b->offset && a->type == b->type && a->n_dims == b->n_dims;
    for (int i = 0; same && i < a->n_dims; i++) {
        same = a->dims[i] == b->dims[i] && a->strides[i] == b->strides[i];
    }
    return same;
}

checkpoint_shape checkpoint_shape_words(const int64_t *dims, int n_dims)
{
    checkpoint_shape shape = {"a single number"};
    for (int i = 0, n = 0; i < n_dims && n < (int)sizeof shape.text - 24; i++) {
        n += snprintf(shape.text + n, sizeof shape.text - (size_t)n, "%s%lld", i > 0 ? " x " : "", (long long)dims[i]);
    }
    return shape;
}

// ---- Numbers ----------------------------------------------------------------------------------------------------

static float half_value(uint64_t bits)
{
    int exponent = (int)(bits >> 10 & 31);
    double fraction = (double)(bits & 1023) / 1024;
    double value = exponent == 31 ? (fraction > 0 ? NAN : INFINITY) :
                   exponent == 0 ? ldexp(fraction, -14) : ldexp(1 + fraction, exponent - 15);
    return (float)(bits >> 15 ? -value : value);
}

static float number_at(const unsigned char *at, int type, int big_endian)
{
    unsigned char turned[8];
    int n = types[type].bytes;
    float single;
    double real;
    for (int i = 0; i < n; i++) {
        turned[i] = at[big_endian ? n - 1 - i : i];
    }
    uint64_t bits = zip_number(turned, n);
    uint32_t low = (uint32_t)bits;
    switch (types[type].kind) {
    case NUMBER_UNSIGNED: return (float)bits;
    case NUMBER_SIGNED: {
        uint64_t sign = UINT64_C(1) << (8 * n - 1);
        return (bits & sign) != 0 ? -(float)((~bits + 1) & (sign | (sign - 1))) : (float)bits;
    }
    case NUMBER_BFLOAT:
        low <<= 16;
        memcpy(&single, &low, sizeof single);
        return single;
    default: break;
    }
    if (n == 2) {
        return half_value(bits);
    }
    if (n == 8) {
        memcpy(&real, &bits, sizeof real);
        return (float)real;
    }
    memcpy(&single, &low, sizeof single);
    return single;
}

static int hold_storage(checkpoint *c, const zip_entry *storage)
{
    if (c->held == storage) {
        return CLI_OK;
    }
    free(c->storage);
    c->held = NULL;
    c->storage = cli_alloc((size_t)storage->size, 1);
    int rc = c->storage != NULL ? zip_read(&c->zip, storage, c->storage) : CLI_FAILED;
    c->held = rc == CLI_OK ? storage : NULL;
    return rc;
}

int checkpoint_read(checkpoint *c, const checkpoint_array *a, float *dst)
{
    int64_t index[CHECKPOINT_DIMS] = {0}, place = a->offset;
    int rc = hold_storage(c, a->storage);
    for (int64_t i = 0; rc == CLI_OK && i < a->count; i++) {
        dst[i] = number_at(c->storage + place * types[a->type].bytes, a->type, c->big_endian);
        if (!isfinite(dst[i])) {
            return array_bad(c, a, "has a number that is not finite");
        }
        for (int d = a->n_dims - 1; d >= 0; d--) {      // on to the next element, the last axis fastest
            place += a->strides[d];
            if (++index[d] < a->dims[d]) {
                break;
            }
            place -= a->strides[d] * a->dims[d];
            index[d] = 0;
        }
    }
    return rc;
}

// ---- Settings ---------------------------------------------------------------------------------------------------

const pickle_value *checkpoint_top(const checkpoint *c, const char *key)
{
    return pickle_get(&c->pickle, pickle_at(&c->pickle, c->pickle.root), key);
}

// Of a dictionary, or of a configuration object that keeps its own in _fields.
static const pickle_value *field(const pickle *p, const pickle_value *v, const char *key)
{
    const pickle_value *found = pickle_get(p, v, key);
    return found != NULL ? found : pickle_get(p, pickle_get(p, v, "_fields"), key);
}

const pickle_value *checkpoint_setting(const checkpoint *c, const char *section, const char *key)
{
    const pickle *p = &c->pickle, *own = &c->config;
    const pickle_value *all = checkpoint_top(c, "hyper_parameters"), *config = field(p, all, "config");
    if (section == NULL) {
        return field(p, all, key);
    }
    const pickle_value *found = field(own, field(own, pickle_at(own, own->root), section), key);
    return found != NULL ? found : field(p, field(p, config != NULL ? config : all, section), key);
}

int checkpoint_numbers(checkpoint *c, const pickle_value *v, double *numbers, int most, int *n)
{
    *n = 0;
    if (v == NULL || pickle_number(v, &numbers[0])) {
        *n = v != NULL;
        return *n;
    }
    if (v->kind == PICKLE_TENSOR) {
        checkpoint_array a = {.name = "hyper_parameters", .length = 16};
        float values[16];
        if (read_array(c, &a, v) != CLI_OK || a.count > most || a.count > 16 ||
            checkpoint_read(c, &a, values) != CLI_OK) {
            cli_error_clear();
            return 0;
        }
        for (; *n < a.count; (*n)++) {
            numbers[*n] = values[*n];
        }
        return *n > 0;
    }
    for (; (v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE) && *n < (int)v->n && *n < most; (*n)++) {
        if (!pickle_number(pickle_item(&c->pickle, v, (uint32_t)*n), &numbers[*n])) {
            return 0;
        }
    }
    return *n > 0 && *n == (int)v->n;
}

// ---- Opening ----------------------------------------------------------------------------------------------------

static int ends_with(const zip_entry *e, const char *ending)
{
    size_t n = strlen(ending);
    return e->length >= n && memcmp(e->name + e->length - n, ending, n) == 0;
}

// FOLDER/data.pkl, whose folder is the archive's name, or a bare data.pkl.
static const zip_entry *find_pickle(const zip_file *zip)
{
    const zip_entry *found = NULL;
    for (size_t i = 0; i < zip->n; i++) {
        const zip_entry *e = &zip->entries[i];
        const char *slash = memchr(e->name, '/', e->length);
        int outermost = slash == NULL ? e->length == 8 : slash + 9 == e->name + e->length;
        if (outermost && ends_with(e, "data.pkl")) {
            found = found == NULL || e->length < found->length ? e : found;
        }
    }
    return found;
}

static int read_byte_order(checkpoint *c)
{
    char order[8] = "", *name = cli_format("%sbyteorder", c->folder);
    const zip_entry *e = zip_find(&c->zip, name, strlen(name));
    int rc = CLI_OK;
    free(name);
    if (e == NULL) {
        return CLI_OK;          // written before there was such a member: the low byte first
    }
    if (e->size >= sizeof order || (rc = zip_read(&c->zip, e, order)) != CLI_OK ||
        (strcmp(order, "little") != 0 && strcmp(order, "big") != 0)) {
        return cli_error(CLI_FAILED, "%s has an order of bytes that is neither little nor big", c->path);
    }
    c->big_endian = order[0] == 'b';
    return rc;
}

static int read_pickle(checkpoint *c)
{
    int rc;
    const zip_entry *data = find_pickle(&c->zip);
    if (data == NULL || data->length > 4096) {
        return cli_error(CLI_FAILED, "%s is not a PyTorch checkpoint: a ZIP archive without data.pkl", c->path);
    }
    if (data->size > MOST_PICKLE) {
        return cli_error(CLI_FAILED, "%s has a data.pkl of %llu bytes; accepted: up to %d", c->path,
                         (unsigned long long)data->size, MOST_PICKLE);
    }
    c->folder = cli_format("%.*s", (int)data->length - 8, data->name);
    c->pickled = cli_alloc((size_t)data->size, 1);
    if (c->pickled == NULL) {
        return CLI_FAILED;
    }
    CLI_TRY(zip_read(&c->zip, data, c->pickled));
    CLI_TRY(read_byte_order(c));
    CLI_TRY(pickle_load(&c->pickle, c->path, c->pickled, (size_t)data->size));
done:
    return rc;
}

int checkpoint_open(checkpoint *c, const char *path)
{
    int rc;
    *c = (checkpoint){.path = path};
    CLI_TRY(zip_open(&c->zip, path));
    CLI_TRY(read_pickle(c));
    const pickle_value *root = pickle_at(&c->pickle, c->pickle.root), *dict = checkpoint_top(c, "state_dict");
    dict = dict != NULL ? dict : root;      // torch.save(model.state_dict(), ...) writes nothing around it
    if (dict->kind != PICKLE_DICT || dict->n == 0) {
        return cli_error(CLI_FAILED, "%s: state_dict is missing; what is there is %s", c->path,
                         dict->kind == PICKLE_DICT ? "empty" : pickle_describe(&c->pickle, dict).text);
    }
    CLI_TRY(read_arrays(c, dict));
done:
    return rc;
}

int checkpoint_open_config(checkpoint *c, const char *path)
{
    int64_t size = 0;
    // A file that is not there is fopen's to report.
    int rc = files_exists(path) ? files_check_regular(path, &size) : CLI_OK;
    if (rc != CLI_OK) {
        return rc;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL || size > MOST_PICKLE) {
        rc = cli_error(CLI_FAILED, "cannot read %s: %s", path,
                       file == NULL ? strerror(errno) : "too large for a configuration");
    } else {
        c->config_bytes = cli_alloc((size_t)size, 1);
        rc = c->config_bytes == NULL ? CLI_FAILED :
             fread(c->config_bytes, 1, (size_t)size, file) != (size_t)size ?
             cli_error(CLI_FAILED, "cannot read %s", path) :
             pickle_load(&c->config, path, c->config_bytes, (size_t)size);
    }
    if (file != NULL) {
        fclose(file);
    }
    if (rc == CLI_OK && checkpoint_setting(c, "data", "image_size") == NULL) {
        rc = cli_error(CLI_FAILED, "%s is no configuration of the published code: data.image_size is missing", path);
    }
    return rc;
}

void checkpoint_close(checkpoint *c)
{
    zip_close(&c->zip);
    pickle_free(&c->pickle);
    pickle_free(&c->config);
    free(c->pickled);
    free(c->config_bytes);
    free(c->folder);
    free(c->arrays);
    free(c->storage);
    *c = (checkpoint){0};
}
