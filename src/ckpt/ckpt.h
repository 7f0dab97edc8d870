// Checkpoint files: named arrays in HDF5 behind a header with magic, length and SHA-256
// (docs/checkpoint-format.md). Knows nothing of networks. The only folder that includes hdf5.h.
#ifndef US_CKPT_H
#define US_CKPT_H

#include "base/alloc.h"
#include "base/status.h"

enum { US_CKPT_F32 = 1, US_CKPT_F64 = 2, US_CKPT_I64 = 3, US_CKPT_TEXT = 4 };
enum { US_CKPT_MAX_DIMS = 4 };

// One array. TEXT: dims[0] bytes of UTF-8, no terminator. n_dims 0: a scalar.
typedef struct us_ckpt_entry {
    const char *path;        // "parameters/first_bottom_up.0.weight"; '/' separates groups
    int32_t type;
    int32_t n_dims;
    int64_t dims[US_CKPT_MAX_DIMS];
    const void *data;
} us_ckpt_entry;

// Writes all entries to a temporary file in the same folder, syncs, renames over `file`, syncs the folder.
// A failure up to the rename leaves the old file untouched and no temporary file behind; only when the last
// step, syncing the folder, fails, the new file is in place already (the message says so).
// Paths: up to 8 components of printable ASCII, 255 bytes; text: up to 1 MiB, no zero byte; 8 GiB in all.
usplit_status us_ckpt_write(const us_allocator *a, const char *file, const us_ckpt_entry *entries, size_t n);

typedef struct us_ckpt us_ckpt;

// Verifies header, length and SHA-256, then indexes the entries with a strict reader of its own (HDF5 is not
// called): only contiguous datasets of the four types, hard links only, within the file.
// Holds the file's bytes in memory until closed; the file itself is not needed any more.
usplit_status us_ckpt_open(us_ckpt **out, const us_allocator *a, const char *file);
void us_ckpt_close(us_ckpt *ckpt);

// Type and shape of a path; USPLIT_ERR_FORMAT names the path when it is missing.
usplit_status us_ckpt_find(const us_ckpt *ckpt, const char *path, us_ckpt_entry *entry);
int us_ckpt_has(const us_ckpt *ckpt, const char *path);
size_t us_ckpt_count(const us_ckpt *ckpt);
const us_ckpt_entry *us_ckpt_at(const us_ckpt *ckpt, size_t index);   // sorted by path; data is NULL

// Reads one array whose type and shape must be exactly these; the message names path, found, expected.
usplit_status us_ckpt_read(us_ckpt *ckpt, const char *path, int32_t type, int32_t n_dims, const int64_t *dims,
                           void *dst);

// Frames of a foreign HDF5 file (usplit_dataset_open): shape (frames, channels, height, width), u8, u16 or
// f32. Not checksummed; types, sizes and filters are checked before anything is read.
typedef struct us_h5_frames us_h5_frames;
usplit_status us_h5_frames_open(us_h5_frames **out, const us_allocator *a, const char *file, const char *path,
                                int64_t dims[4]);
usplit_status us_h5_frames_read(us_h5_frames *frames, int64_t frame, int64_t channel, float *dst);
void us_h5_frames_close(us_h5_frames *frames);

#endif
