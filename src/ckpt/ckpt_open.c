// us_ckpt_open and reading: the file is not trusted. The container is verified first, then the scan indexes
// the arrays of the verified bytes in memory; reading is one copy. HDF5 has no part in it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "ckpt/ckpt_scan.h"
#include "ckpt/container.h"
#include "ckpt/paths.h"

typedef struct item {
    us_ckpt_entry entry; // data is NULL
    char *path;          // owned; entry.path is the same
    uint64_t at, bytes;  // in the image
} item;

struct us_ckpt {
    us_allocator allocator;
    const us_allocator *a; // NULL or &allocator
    char *file;            // for messages
    unsigned char *image;  // the HDF5 bytes
    size_t n_image;
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

// ---- The index ---------------------------------------------------------------------------------------

static usplit_status add_item(void *user, const us_ckpt_found *found)
{
    us_ckpt *ckpt = user;
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
    char *path = us_strdup(ckpt->a, found->path);
    if (!path) {
        return USPLIT_ERR_MEMORY;
    }
    item *added = &ckpt->items[ckpt->n_items++];
    *added = (item){.path = path, .at = found->at, .bytes = found->bytes};
    added->entry = (us_ckpt_entry){.path = path, .type = found->type, .n_dims = found->n_dims};
    memcpy(added->entry.dims, found->dims, sizeof found->dims);
    return USPLIT_OK;
}

static int by_path(const void *left, const void *right)
{
    return strcmp(((const item *)left)->path, ((const item *)right)->path);
}

static usplit_status index_all(us_ckpt *ckpt)
{
    US_TRY(us_ckpt_scan(ckpt->image, ckpt->n_image, ckpt->file, add_item, ckpt));
    if (ckpt->n_items > 0) {
        qsort(ckpt->items, ckpt->n_items, sizeof *ckpt->items, by_path);
    }
    for (size_t i = 1; i < ckpt->n_items; i++) {
        if (by_path(&ckpt->items[i - 1], &ckpt->items[i]) == 0) {
            US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is there twice", us_ckpt_shown(ckpt->file),
                    ckpt->items[i].path);
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
    usplit_status status = USPLIT_ERR_MEMORY;
    ckpt->file = us_strdup(ckpt->a, file);
    if (!ckpt->file) {
        goto done;
    }
    US_TRY_GOTO(us_ckpt_container_read(&ckpt->image, &ckpt->n_image, ckpt->a, file));
    US_TRY_GOTO(index_all(ckpt));
    *out = ckpt;
done:
    if (status != USPLIT_OK) {
        us_ckpt_close(ckpt);
    }
    return status;
}

void us_ckpt_close(us_ckpt *ckpt)
{
    if (!ckpt) {
        return;
    }
    for (size_t i = 0; i < ckpt->n_items; i++) {
        us_free(ckpt->a, ckpt->items[i].path);
    }
    us_free(ckpt->a, ckpt->items);
    us_free(ckpt->a, ckpt->image);
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
    if (found->bytes > 0) {
        memcpy(dst, ckpt->image + found->at, (size_t)found->bytes);
    }
    return USPLIT_OK;
}
