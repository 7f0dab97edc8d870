// Frames of a foreign HDF5 file: one dataset (frames, channels, height, width), read plane by plane as
// float32. The file stays where it is and is not checksummed. Whatever could reach outside it (external
// or soft links, virtual datasets, plug-in filters) is refused before anything is read.
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/ckpt.h"
#include "ckpt/container.h"
#include "ckpt/h5.h"

enum { MAX_DEPTH = 32, NAME_BYTES = 256, CACHE_SLOTS = 4099, CACHE_BYTES = 64 << 20 };
#define MAX_ARRAY_BYTES ((uint64_t)1 << 46)
#define MAX_PLANE_PIXELS ((uint64_t)1 << 31)

struct us_h5_frames {
    us_allocator allocator;
    const us_allocator *a; // NULL or &allocator
    char *file, *path;     // for messages
    hid_t h5, dataset;
    hsize_t dims[4];
};

static usplit_status open_file(us_h5_frames *f, uint64_t *file_bytes)
{
    int fd;
    US_TRY(us_ckpt_open_regular(&fd, file_bytes, f->file));
    close(fd);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    // Chunks often span many planes: one that does not fit in the cache is decompressed once per plane.
    H5Pset_cache(access, 0, CACHE_SLOTS, CACHE_BYTES, 0.75);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, 1, 1); // go on where the file system has no locks
#endif
    f->h5 = H5Fopen(f->file, H5F_ACC_RDONLY, access);
    usplit_status status = USPLIT_OK;
    if (f->h5 < 0) {
        status = us_h5_fail(USPLIT_ERR_FORMAT, "%s: cannot be opened as HDF5", us_ckpt_shown(f->file));
    }
    us_h5_close(access);
    return status;
}

// One step down: the object that a hard link of this group points to.
static usplit_status open_child(hid_t *child, const us_h5_frames *f, hid_t group, const char *name)
{
    H5L_info_t info;
    const char *shown = us_ckpt_shown(f->file);
    *child = -1;
    if (H5Iget_type(group) == H5I_DATASET || H5Lexists(group, name, H5P_DEFAULT) <= 0 ||
        H5Lget_info(group, name, &info, H5P_DEFAULT) < 0) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is missing (no '%s')", shown, f->path, name);
    }
    if (info.type != H5L_TYPE_HARD) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' of '%s' is %s link; accepted: hard links", shown, name, f->path,
                info.type == H5L_TYPE_SOFT ? "a soft" : "an external or unknown");
    }
    *child = US_H5_OPEN(f->h5, US_H5_LINK_PLACE(&info));
    if (*child < 0) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: '%s' of '%s' cannot be opened", shown, name, f->path);
    }
    return USPLIT_OK;
}

// Follows the path by hand: H5Dopen would also follow links into other files.
static usplit_status open_dataset(us_h5_frames *f)
{
    hid_t here = H5Gopen2(f->h5, "/", H5P_DEFAULT);
    int depth = 0;
    usplit_status status = USPLIT_OK;
    if (here < 0) {
        return us_h5_fail(USPLIT_ERR_FORMAT, "%s: has no root group", us_ckpt_shown(f->file));
    }
    for (const char *p = f->path + strspn(f->path, "/"); *p && status == USPLIT_OK; p += strspn(p, "/")) {
        char name[NAME_BYTES];
        size_t n = strcspn(p, "/");
        hid_t next = -1;
        if (n >= sizeof name || ++depth > MAX_DEPTH) {
            status = us_fail(USPLIT_ERR_FORMAT, "%s: the path '%.64s' is too long", us_ckpt_shown(f->file),
                             f->path);
            break;
        }
        memcpy(name, p, n);
        name[n] = '\0';
        status = open_child(&next, f, here, name);
        us_h5_close(here);
        here = next;
        p += n;
    }
    if (status == USPLIT_OK && H5Iget_type(here) != H5I_DATASET) {
        status = us_fail(USPLIT_ERR_FORMAT, "%s: '%s' is not a dataset", us_ckpt_shown(f->file), f->path);
    }
    if (status != USPLIT_OK) {
        us_h5_close(here);
        return status;
    }
    f->dataset = here;
    return USPLIT_OK;
}

static usplit_status check_frames(us_h5_frames *f, uint64_t file_bytes, int64_t dims[4])
{
    us_h5_source source = {f->file, f->path, file_bytes, MAX_ARRAY_BYTES};
    us_h5_array array;
    const char *shown = us_ckpt_shown(f->file);
    US_TRY(us_h5_describe(&array, f->dataset, &source));
    if (array.rank != 4) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has rank %d; accepted: 4 (frames, channels, height, width)",
                shown, f->path, array.rank);
    }
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"frames", "channels", "height", "width"};
        if (array.dims[i] < 1) {
            US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has 0 %s; accepted: 1 and up", shown, f->path, names[i]);
        }
        f->dims[i] = array.dims[i];
        dims[i] = (int64_t)array.dims[i];
    }
    if (array.dims[2] > MAX_PLANE_PIXELS / array.dims[3]) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has planes of %lld x %lld pixels; accepted: up to 2^31 pixels",
                shown, f->path, (long long)dims[2], (long long)dims[3]);
    }
    return USPLIT_OK;
}

usplit_status us_h5_frames_open(us_h5_frames **out, const us_allocator *a, const char *file, const char *path,
                                int64_t dims[4])
{
    *out = NULL;
    US_CHECK_ARG(file && file[0], "the file name is %s", file ? "empty" : "NULL");
    US_CHECK_ARG(path && path[0], "%s: the path of the dataset is %s", us_ckpt_shown(file),
                 path ? "empty" : "NULL");
    us_h5_frames *f = us_calloc(a, 1, sizeof *f);
    if (!f) {
        return USPLIT_ERR_MEMORY;
    }
    if (a) {
        f->allocator = *a;
        f->a = &f->allocator;
    }
    f->h5 = f->dataset = -1;
    uint64_t file_bytes = 0;
    usplit_status status = USPLIT_ERR_MEMORY;
    us_h5_guard guard;
    f->file = us_strdup(f->a, file);
    f->path = us_strdup(f->a, path);
    if (!f->file || !f->path) {
        goto done;
    }
    US_TRY_GOTO(us_h5_enter(&guard));
    status = open_file(f, &file_bytes);
    if (status == USPLIT_OK) {
        status = open_dataset(f);
    }
    if (status == USPLIT_OK) {
        status = check_frames(f, file_bytes, dims);
    }
    us_h5_leave(&guard);
done:
    if (status != USPLIT_OK) {
        us_h5_frames_close(f);
        return status;
    }
    *out = f;
    return USPLIT_OK;
}

static usplit_status read_plane(us_h5_frames *f, int64_t frame, int64_t channel, float *dst)
{
    hsize_t start[4] = {(hsize_t)frame, (hsize_t)channel, 0, 0}, count[4] = {1, 1, f->dims[2], f->dims[3]};
    hid_t in_file = H5Dget_space(f->dataset), in_memory = H5Screate_simple(2, f->dims + 2, NULL);
    usplit_status status = USPLIT_OK;
    if (in_file < 0 || in_memory < 0 ||
        H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(f->dataset, H5T_NATIVE_FLOAT, in_memory, in_file, H5P_DEFAULT, dst) < 0) {
        status = us_h5_fail(USPLIT_ERR_FORMAT, "%s: frame %lld, channel %lld of '%s' cannot be read",
                            us_ckpt_shown(f->file), (long long)frame, (long long)channel, f->path);
    }
    us_h5_close(in_memory);
    us_h5_close(in_file);
    return status;
}

usplit_status us_h5_frames_read(us_h5_frames *frames, int64_t frame, int64_t channel, float *dst)
{
    US_CHECK_ARG(frame >= 0 && (hsize_t)frame < frames->dims[0], "frame is %lld; accepted: 0 to %lld",
                 (long long)frame, (long long)frames->dims[0] - 1);
    US_CHECK_ARG(channel >= 0 && (hsize_t)channel < frames->dims[1], "channel is %lld; accepted: 0 to %lld",
                 (long long)channel, (long long)frames->dims[1] - 1);
    us_h5_guard guard;
    US_TRY(us_h5_enter(&guard));
    usplit_status status = read_plane(frames, frame, channel, dst);
    us_h5_leave(&guard);
    return status;
}

void us_h5_frames_close(us_h5_frames *frames)
{
    if (!frames) {
        return;
    }
    us_h5_guard guard;
    if ((frames->h5 >= 0 || frames->dataset >= 0) && us_h5_enter(&guard) == USPLIT_OK) {
        us_h5_close(frames->dataset);
        if (frames->h5 >= 0) {
            H5Fclose(frames->h5);
        }
        us_h5_leave(&guard);
    }
    us_free(frames->a, frames->path);
    us_free(frames->a, frames->file);
    us_allocator copy = frames->allocator;
    us_free(frames->a ? &copy : NULL, frames);
}
