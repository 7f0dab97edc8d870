// us_ckpt_open and reading: the file is not trusted. The container is verified first; then HDF5 opens the
// verified bytes in memory, so nothing on the disk can change between check and use. One walk over the
// groups indexes the arrays and refuses everything that is not a plain one; reads go by place.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "ckpt/container.h"
#include "ckpt/h5.h"
#include "ckpt/paths.h"

typedef struct item {
    us_ckpt_entry entry; // data is NULL
    char *path;          // owned; entry.path is the same
    us_h5_place place;
} item;

struct us_ckpt {
    us_allocator allocator;
    const us_allocator *a; // NULL or &allocator
    char *file;            // for messages
    us_h5_image image;
    hid_t h5;
    item *items; // sorted by path
    size_t n_items, room;
};

static const char *type_name(int32_t type)
{
    static const char *const names[] = {"?", "f32", "f64", "i64", "text"};
    return names[type >= 1 && type <= 4 ? type : 0];
}

// "f32 [3,4]"
static const char *show_shape(char text[128], int32_t type, int32_t n_dims, const int64_t *dims)
{
    int at = snprintf(text, 128, "%s [", type_name(type));
    for (int i = 0; i < n_dims && i < US_CKPT_MAX_DIMS && at < 128; i++) {
        at += snprintf(text + at, (size_t)(128 - at), "%s%lld", i > 0 ? "," : "", (long long)dims[i]);
    }
    if (at < 127) {
        memcpy(text + at, "]", 2);
    }
    return text;
}

// ---- The walk ----------------------------------------------------------------------------------------

typedef struct walk {
    us_ckpt *ckpt;
    char path[US_CKPT_MAX_PATH + 1]; // of the group being walked, with its '/'; empty: the root
    size_t n_path;
    size_t n_links; // seen so far, groups included: also what ends a cycle
    uint64_t bytes; // declared so far
    usplit_status status;
} walk;

static usplit_status add_item(us_ckpt *ckpt, const item *new_item, const char *path)
{
    if (ckpt->n_items == ckpt->room) {
        size_t room = ckpt->room > 0 ? 2 * ckpt->room : 64;
        item *items = us_alloc(ckpt->a, room, sizeof *items);
        if (!items) {
            return USPLIT_ERR_MEMORY;
        }
        if (ckpt->n_items > 0) {
            memcpy(items, ckpt->items, ckpt->n_items * sizeof *items);
        }
        us_free(ckpt->a, ckpt->items);
        ckpt->items = items;
        ckpt->room = room;
    }
    char *copy = us_strdup(ckpt->a, path);
    if (!copy) {
        return USPLIT_ERR_MEMORY;
    }
    ckpt->items[ckpt->n_items] = *new_item;
    ckpt->items[ckpt->n_items].path = copy;
    ckpt->items[ckpt->n_items].entry.path = copy;
    ckpt->n_items++;
    return USPLIT_OK;
}

// The array as a checkpoint entry, if it is one.
static usplit_status as_entry(us_ckpt_entry *entry, const us_h5_array *array, const us_ckpt *ckpt,
                              const char *path)
{
    static const int32_t types[] = {
        [US_H5_F32] = US_CKPT_F32,     [US_H5_F64] = US_CKPT_F64, [US_H5_I64] = US_CKPT_I64,
        [US_H5_STRING] = US_CKPT_TEXT, [US_H5_U8] = US_CKPT_TEXT, [US_H5_U16] = 0};
    *entry = (us_ckpt_entry){.type = types[array->kind], .n_dims = array->rank};
    for (int i = 0; i < array->rank; i++) {
        entry->dims[i] = (int64_t)array->dims[i];
    }
    int rank_fits = 1;
    if (array->kind == US_H5_STRING) {
        rank_fits = array->rank == 0;
        entry->n_dims = 1;
        entry->dims[0] = (int64_t)array->element_bytes;
    } else if (array->kind == US_H5_U8) {
        rank_fits = array->rank == 1;
    }
    if (entry->type == 0 || array->big_endian || !rank_fits ||
        (entry->type == US_CKPT_TEXT && array->bytes > US_CKPT_MAX_TEXT)) {
        US_FAIL(USPLIT_ERR_FORMAT,
                "%s: '%s' has %zu-byte elements, rank %d, %llu bytes in all; accepted: "
                "little-endian f32, f64, i64, or text up to %d bytes",
                us_ckpt_shown(ckpt->file), path, array->element_bytes, array->rank,
                (unsigned long long)array->bytes, US_CKPT_MAX_TEXT);
    }
    return USPLIT_OK;
}

static usplit_status index_dataset(walk *w, hid_t dataset, us_h5_place place)
{
    us_ckpt *ckpt = w->ckpt;
    us_h5_source source = {
        .file = ckpt->file, .path = w->path, .file_bytes = ckpt->image.n, .max_bytes = US_CKPT_MAX_BYTES};
    us_h5_array array;
    item new_item = {.place = place};
    US_TRY(us_h5_describe(&array, dataset, &source));
    US_TRY(as_entry(&new_item.entry, &array, ckpt, w->path));
    w->bytes += array.bytes;
    if (w->bytes > US_CKPT_MAX_BYTES) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: its arrays claim over 8 GiB", us_ckpt_shown(ckpt->file));
    }
    return add_item(ckpt, &new_item, w->path);
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *info, void *user);

static usplit_status walk_group(walk *w, hid_t group)
{
    hsize_t at = 0;
    herr_t result = H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &at, visit, w);
    if (w->status == USPLIT_OK && result < 0) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: group '%s' cannot be read", us_ckpt_shown(w->ckpt->file),
                          w->path);
    }
    return w->status;
}

// Puts the link's name behind the group's path and opens what it points to.
static usplit_status visit_link(walk *w, const char *name, const H5L_info_t *info)
{
    const char *shown = us_ckpt_shown(w->ckpt->file);
    if (++w->n_links > US_CKPT_MAX_ENTRIES) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: has over %d entries", shown, US_CKPT_MAX_ENTRIES);
    }
    size_t n = strlen(name);
    if (n > US_CKPT_MAX_PATH - w->n_path || strchr(name, '/')) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: a name in group '%s' is too long or has a '/'", shown, w->path);
    }
    memcpy(w->path + w->n_path, name, n + 1);
    const char *fault = us_ckpt_path_fault(w->path);
    if (fault) {
        w->path[w->n_path] = '\0';
        US_FAIL(USPLIT_ERR_FORMAT, "%s: a path in group '%s' %s", shown, w->path, fault);
    }
    if (info->type != H5L_TYPE_HARD) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is %s link; accepted: hard links", shown, w->path,
                info->type == H5L_TYPE_SOFT ? "a soft" : "an external or unknown");
    }
    hid_t object = US_H5_OPEN(w->ckpt->h5, US_H5_LINK_PLACE(info));
    if (object < 0) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s' cannot be opened", shown, w->path);
    }
    usplit_status status;
    H5I_type_t kind = H5Iget_type(object);
    if (kind == H5I_DATASET) {
        status = index_dataset(w, object, US_H5_LINK_PLACE(info));
    } else if (kind != H5I_GROUP) {
        status = us_fail(USPLIT_ERR_FORMAT, "%s: '%s' is neither a group nor an array", shown, w->path);
    } else if (w->n_path + n + 1 >= sizeof w->path) {
        status = us_fail(USPLIT_ERR_FORMAT, "%s: the path '%s' is too long for a group", shown, w->path);
    } else {
        size_t outer = w->n_path;
        w->n_path += n + 1;
        memcpy(w->path + w->n_path - 1, "/", 2);
        status = walk_group(w, object);
        w->n_path = outer;
    }
    us_h5_close(object);
    return status;
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    walk *w = user;
    (void)group;
    w->status = visit_link(w, name, info);
    w->path[w->n_path] = '\0';
    return w->status == USPLIT_OK ? 0 : -1;
}

static int by_path(const void *left, const void *right)
{
    return strcmp(((const item *)left)->entry.path, ((const item *)right)->entry.path);
}

static usplit_status index_all(us_ckpt *ckpt)
{
    walk w = {.ckpt = ckpt};
    US_TRY(walk_group(&w, ckpt->h5));
    if (ckpt->n_items > 0) {
        qsort(ckpt->items, ckpt->n_items, sizeof *ckpt->items, by_path);
    }
    for (size_t i = 1; i < ckpt->n_items; i++) {
        if (by_path(&ckpt->items[i - 1], &ckpt->items[i]) == 0) {
            US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is there twice", us_ckpt_shown(ckpt->file),
                    ckpt->items[i].entry.path);
        }
    }
    return USPLIT_OK;
}

usplit_status us_ckpt_open(us_ckpt **out, const us_allocator *a, const char *file)
{
    *out = NULL;
    US_CHECK_ARG(file && file[0], "the checkpoint's file name is %s", file ? "empty" : "NULL");
    us_ckpt *ckpt = us_calloc(a, 1, sizeof *ckpt);
    if (!ckpt) {
        return USPLIT_ERR_MEMORY;
    }
    if (a) {
        ckpt->allocator = *a;
        ckpt->a = &ckpt->allocator;
    }
    ckpt->h5 = -1;
    usplit_status status = USPLIT_ERR_MEMORY;
    us_h5_guard guard;
    unsigned char *bytes = NULL;
    ckpt->file = us_strdup(ckpt->a, file);
    if (!ckpt->file) {
        goto done;
    }
    US_TRY_GOTO(us_ckpt_container_read(&bytes, &ckpt->image.n, ckpt->a, file));
    ckpt->image.bytes = bytes;
    US_TRY_GOTO(us_h5_enter(&guard));
    status = us_h5_open_image(&ckpt->h5, &ckpt->image, file);
    if (status == USPLIT_OK) {
        status = index_all(ckpt);
    }
    us_h5_leave(&guard);
done:
    if (status != USPLIT_OK) {
        us_ckpt_close(ckpt);
        return status;
    }
    *out = ckpt;
    return USPLIT_OK;
}

void us_ckpt_close(us_ckpt *ckpt)
{
    if (!ckpt) {
        return;
    }
    us_h5_guard guard;
    if (ckpt->h5 >= 0 && us_h5_enter(&guard) == USPLIT_OK) {
        H5Fclose(ckpt->h5);
        us_h5_leave(&guard);
    }
    for (size_t i = 0; i < ckpt->n_items; i++) {
        us_free(ckpt->a, ckpt->items[i].path);
    }
    us_free(ckpt->a, ckpt->items);
    us_free(ckpt->a, ckpt->image.bytes);
    us_free(ckpt->a, ckpt->file);
    us_allocator copy = ckpt->allocator;
    us_free(ckpt->a ? &copy : NULL, ckpt);
}

// ---- Reading -----------------------------------------------------------------------------------------

static const item *find_item(const us_ckpt *ckpt, const char *path)
{
    size_t low = 0, high = ckpt->n_items;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(path, ckpt->items[middle].path);
        if (order == 0) {
            return &ckpt->items[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

usplit_status us_ckpt_find(const us_ckpt *ckpt, const char *path, us_ckpt_entry *entry)
{
    const item *found = find_item(ckpt, path);
    if (!found) {
        *entry = (us_ckpt_entry){0};
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is missing", us_ckpt_shown(ckpt->file), path);
    }
    *entry = found->entry;
    return USPLIT_OK;
}

int us_ckpt_has(const us_ckpt *ckpt, const char *path)
{
    return find_item(ckpt, path) != NULL;
}

size_t us_ckpt_count(const us_ckpt *ckpt)
{
    return ckpt->n_items;
}

const us_ckpt_entry *us_ckpt_at(const us_ckpt *ckpt, size_t index)
{
    return index < ckpt->n_items ? &ckpt->items[index].entry : NULL;
}

// The memory type and shape are what the caller asked for, never what the file says: HDF5 refuses a
// dataset with another number of elements instead of writing past dst.
static usplit_status read_item(us_ckpt *ckpt, const item *found, void *dst)
{
    const us_ckpt_entry *entry = &found->entry;
    hsize_t n_elements = 1;
    for (int i = 0; i < entry->n_dims; i++) {
        n_elements *= (hsize_t)entry->dims[i];
    }
    if (n_elements == 0) {
        return USPLIT_OK;
    }
    hid_t dataset = US_H5_OPEN(ckpt->h5, found->place), type = -1, space = -1;
    int is_string = 0;
    if (dataset >= 0 && entry->type == US_CKPT_TEXT) {
        hid_t stored = H5Dget_type(dataset);
        is_string = H5Tget_class(stored) == H5T_STRING;
        us_h5_close(stored);
    }
    type = us_ckpt_memory_type(entry->type, is_string ? entry->dims[0] : 0);
    n_elements = is_string ? 1 : n_elements;
    space = H5Screate_simple(1, &n_elements, NULL);
    usplit_status status = USPLIT_OK;
    if (dataset < 0 || type < 0 || space < 0 ||
        H5Dread(dataset, type, space, H5S_ALL, H5P_DEFAULT, dst) < 0) {
        status =
            us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s' cannot be read", us_ckpt_shown(ckpt->file), found->path);
    }
    us_h5_close(space);
    us_h5_close(type);
    us_h5_close(dataset);
    return status;
}

usplit_status us_ckpt_read(us_ckpt *ckpt, const char *path, int32_t type, int32_t n_dims, const int64_t *dims,
                           void *dst)
{
    const item *found = find_item(ckpt, path);
    if (!found) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is missing", us_ckpt_shown(ckpt->file), path);
    }
    const us_ckpt_entry *entry = &found->entry;
    int fits = entry->type == type && entry->n_dims == n_dims;
    for (int i = 0; fits && i < n_dims; i++) {
        fits = entry->dims[i] == dims[i];
    }
    if (!fits) {
        char is[128], wanted[128];
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is %s, expected %s", us_ckpt_shown(ckpt->file), path,
                show_shape(is, entry->type, entry->n_dims, entry->dims),
                show_shape(wanted, type, n_dims, dims));
    }
    us_h5_guard guard;
    US_TRY(us_h5_enter(&guard));
    usplit_status status = read_item(ckpt, found, dst);
    us_h5_leave(&guard);
    return status;
}
