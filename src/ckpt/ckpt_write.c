// us_ckpt_write: the HDF5 image is built in memory (HDF5's core driver), then handed to the container.
// So HDF5 never writes to a disk: a full one is a plain write() that fails, not an HDF5 file that cannot
// be closed. Arrays are contiguous and not compressed: weights do not shrink, and reading them back is one
// copy. The same entries give the same bytes (no times are recorded).
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "ckpt/ckpt_scan.h"
#include "ckpt/container.h"
#include "ckpt/h5.h"
#include "ckpt/paths.h"

static usplit_status check_entry(const us_ckpt_entry *entry, const char *file, uint64_t *total)
{
    const char *shown = us_ckpt_shown(file);
    const char *why = entry->path ? us_ckpt_path_fault(entry->path) : "is NULL";
    US_CHECK_ARG(!why, "%s: the path '%s' %s", shown, entry->path ? entry->path : "", why);
    uint64_t bytes = us_ckpt_element_bytes(entry->type);
    US_CHECK_ARG(bytes > 0, "%s: '%s' has type %d; accepted: 1 to 4", shown, entry->path, (int)entry->type);
    US_CHECK_ARG(entry->n_dims >= 0 && entry->n_dims <= US_CKPT_MAX_DIMS,
                 "%s: '%s' has %d dimensions; accepted: 0 to %d", shown, entry->path, (int)entry->n_dims,
                 US_CKPT_MAX_DIMS);
    US_CHECK_ARG(entry->type != US_CKPT_TEXT || entry->n_dims == 1,
                 "%s: text '%s' has %d dimensions; accepted: 1", shown, entry->path, (int)entry->n_dims);
    for (int i = 0; i < entry->n_dims; i++) {
        uint64_t dim = (uint64_t)entry->dims[i];
        US_CHECK_ARG(entry->dims[i] >= 0 && (dim == 0 || bytes <= US_CKPT_MAX_BYTES / dim),
                     "%s: dimension %d of '%s' is %lld; accepted: 0 and up, 8 GiB in all", shown, i,
                     entry->path, (long long)entry->dims[i]);
        bytes *= dim;
    }
    US_CHECK_ARG(bytes == 0 || entry->data, "%s: '%s' has no data", shown, entry->path);
    US_CHECK_ARG(entry->type != US_CKPT_TEXT || bytes <= US_CKPT_MAX_TEXT,
                 "%s: text '%s' has %llu bytes; accepted: up to %d", shown, entry->path,
                 (unsigned long long)bytes, US_CKPT_MAX_TEXT);
    US_CHECK_ARG(entry->type != US_CKPT_TEXT || bytes == 0 || !memchr(entry->data, 0, (size_t)bytes),
                 "%s: text '%s' contains a zero byte", shown, entry->path);
    *total += bytes;
    US_CHECK_ARG(*total <= US_CKPT_MAX_BYTES, "%s: '%s' and what is before it have over 8 GiB", shown,
                 entry->path);
    return USPLIT_OK;
}

// Text is a scalar string of its own length; HDF5 has no empty ones, so empty text is an array of 0 bytes.
static int is_string(const us_ckpt_entry *entry)
{
    return entry->type == US_CKPT_TEXT && entry->dims[0] > 0;
}

static hid_t memory_type(int32_t type, int64_t text_bytes)
{
    switch (type) {
    case US_CKPT_F32:
        return H5Tcopy(H5T_NATIVE_FLOAT);
    case US_CKPT_F64:
        return H5Tcopy(H5T_NATIVE_DOUBLE);
    case US_CKPT_I64:
        return H5Tcopy(H5T_NATIVE_INT64);
    default:
        break;
    }
    if (text_bytes == 0) {
        return H5Tcopy(H5T_NATIVE_UINT8);
    }
    hid_t string = H5Tcopy(H5T_C_S1);
    if (string >= 0 &&
        (H5Tset_size(string, (size_t)text_bytes) < 0 || H5Tset_strpad(string, H5T_STR_NULLPAD) < 0 ||
         H5Tset_cset(string, H5T_CSET_UTF8) < 0)) {
        us_h5_close(string);
        return -1;
    }
    return string;
}

static hid_t file_type(const us_ckpt_entry *entry)
{
    switch (entry->type) {
    case US_CKPT_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case US_CKPT_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case US_CKPT_I64:
        return H5Tcopy(H5T_STD_I64LE);
    default:
        return memory_type(US_CKPT_TEXT, entry->dims[0]);
    }
}

static hid_t file_space(const us_ckpt_entry *entry)
{
    hsize_t dims[US_CKPT_MAX_DIMS] = {0};
    if (entry->n_dims == 0 || is_string(entry)) {
        return H5Screate(H5S_SCALAR);
    }
    for (int i = 0; i < entry->n_dims; i++) {
        dims[i] = (hsize_t)entry->dims[i];
    }
    return H5Screate_simple(entry->n_dims, dims, NULL);
}

static usplit_status store_entry(hid_t h5, hid_t link_plist, hid_t create_plist, const us_ckpt_entry *entry,
                                 const char *file)
{
    hid_t in_file = file_type(entry), space = file_space(entry);
    hid_t in_memory = memory_type(entry->type, entry->n_dims > 0 ? entry->dims[0] : 0);
    hid_t dataset = H5Dcreate2(h5, entry->path, in_file, space, link_plist, create_plist, H5P_DEFAULT);
    usplit_status status = USPLIT_OK;
    if (dataset < 0) {
        status = us_h5_fail(USPLIT_ERR_ARGUMENT, "%s: '%s' cannot be stored: listed twice, or also a group?",
                            us_ckpt_shown(file), entry->path);
    } else if (H5Sget_simple_extent_npoints(space) > 0 &&
               H5Dwrite(dataset, in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, entry->data) < 0) {
        status = us_h5_fail(USPLIT_ERR_MEMORY, "%s: '%s' cannot be stored", us_ckpt_shown(file), entry->path);
    }
    us_h5_close(dataset);
    us_h5_close(space);
    us_h5_close(in_memory);
    us_h5_close(in_file);
    return status;
}

// Everything HDF5 wrote, as one block.
static usplit_status take_image(unsigned char **image, size_t *n_image, const us_allocator *a, hid_t h5,
                                const char *file)
{
    ssize_t n = H5Fflush(h5, H5F_SCOPE_LOCAL) < 0 ? -1 : H5Fget_file_image(h5, NULL, 0);
    if (n <= 0) {
        return us_h5_fail(USPLIT_ERR_MEMORY, "%s: HDF5 cannot finish the file", us_ckpt_shown(file));
    }
    *image = us_alloc(a, (size_t)n, 1);
    if (!*image) {
        return USPLIT_ERR_MEMORY;
    }
    if (H5Fget_file_image(h5, *image, (size_t)n) != n) {
        return us_h5_fail(USPLIT_ERR_INTERNAL, "%s: HDF5 cannot finish the file", us_ckpt_shown(file));
    }
    *n_image = (size_t)n;
    return USPLIT_OK;
}

static usplit_status build_image(unsigned char **image, size_t *n_image, const us_allocator *a,
                                 const char *file, const us_ckpt_entry *entries, size_t n, uint64_t total)
{
    static atomic_uint counter;
    // One allocation: the data, and room for what HDF5 keeps about every entry.
    size_t room = (size_t)total + 1024 * n + 65536;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), link_plist = H5Pcreate(H5P_LINK_CREATE);
    hid_t create_plist = H5Pcreate(H5P_DATASET_CREATE), h5 = -1;
    usplit_status status = USPLIT_OK;
    if (access < 0 || link_plist < 0 || create_plist < 0 || H5Pset_fapl_core(access, room, 0) < 0 ||
        H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) < 0 ||
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_create_intermediate_group(link_plist, 1) < 0 || H5Pset_obj_track_times(create_plist, 0) < 0 ||
        H5Pset_fill_time(create_plist, H5D_FILL_TIME_NEVER) < 0) {
        status = us_h5_fail(USPLIT_ERR_MEMORY, "%s: HDF5 cannot be prepared", us_ckpt_shown(file));
        goto done;
    }
    // Never a file: with the core driver the name is a name only, but open ones must differ.
    char name[64];
    snprintf(name, sizeof name, "/dev/null/usplit-image-%u", atomic_fetch_add(&counter, 1));
    h5 = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (h5 < 0) {
        status = us_h5_fail(USPLIT_ERR_MEMORY, "%s: HDF5 cannot make a file in memory", us_ckpt_shown(file));
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        US_TRY_GOTO(store_entry(h5, link_plist, create_plist, &entries[i], file));
    }
    US_TRY_GOTO(take_image(image, n_image, a, h5, file));
done:
    if (h5 >= 0) {
        H5Fclose(h5);
    }
    us_h5_close(create_plist);
    us_h5_close(link_plist);
    us_h5_close(access);
    return status;
}

// What the reader does not find is not written over a good file.
static usplit_status count_one(void *user, const us_ckpt_found *found)
{
    (void)found;
    ++*(size_t *)user;
    return USPLIT_OK;
}

static usplit_status check_image(const unsigned char *image, size_t n_image, const char *file, size_t n)
{
    size_t n_found = 0;
    US_CHECK_ARG(n_image <= US_CKPT_MAX_BYTES, "%s: %zu bytes of HDF5; accepted: up to 8 GiB",
                 us_ckpt_shown(file), n_image);
    US_TRY(us_ckpt_scan(image, n_image, file, count_one, &n_found));
    US_ASSERT(n_found == n);
    return USPLIT_OK;
}

usplit_status us_ckpt_write(const us_allocator *a, const char *file, const us_ckpt_entry *entries, size_t n)
{
    US_CHECK_ARG(file && file[0], "the checkpoint's file name is %s", file ? "empty" : "NULL");
    US_CHECK_ARG(n <= US_CKPT_MAX_ENTRIES, "%s: %zu entries; accepted: up to %d", us_ckpt_shown(file), n,
                 US_CKPT_MAX_ENTRIES);
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        US_TRY(check_entry(&entries[i], file, &total));
    }
    unsigned char *image = NULL;
    size_t n_image = 0;
    us_h5_guard guard;
    US_TRY(us_h5_enter(&guard));
    usplit_status status = build_image(&image, &n_image, a, file, entries, n, total);
    us_h5_leave(&guard);
    if (status == USPLIT_OK) {
        status = check_image(image, n_image, file, n);
    }
    if (status == USPLIT_OK) {
        status = us_ckpt_container_write(a, file, image, n_image);
    }
    us_free(a, image);
    return status;
}
