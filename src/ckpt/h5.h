// What the files that call HDF5 share: the guard around every group of calls, messages with HDF5's own
// words, and the checks a foreign dataset must pass before a byte of it is read.
#ifndef US_CKPT_H5_H
#define US_CKPT_H5_H

#include <hdf5.h>

#include "base/status.h"

// HDF5's constants call H5check(), which aborts the program when header and library differ. The guard
// compares the versions itself and returns a status.
#undef H5CHECK
#define H5CHECK

// The serial HDF5 library has process-wide state. The guard holds the one lock of this library around it,
// turns HDF5's automatic printing and its plug-ins off, and restores the host's settings afterwards.
// Every HDF5 call lies between enter and leave. H5dont_atexit() is not called: the host may rely on HDF5
// flushing the host's own files at exit.
typedef struct us_h5_guard {
    unsigned auto_is_v2, plugins;
    H5E_auto2_t auto2;
#ifndef H5_NO_DEPRECATED_SYMBOLS
    H5E_auto1_t auto1;
#endif
    void *auto_data;
} us_h5_guard;

usplit_status us_h5_enter(us_h5_guard *guard);
void us_h5_leave(const us_h5_guard *guard);

// us_fail with HDF5's innermost description appended. Call it before any other HDF5 call.
usplit_status us_h5_fail(usplit_status code, const char *fmt, ...) US_PRINTF(2, 3);

// Closes an id of any kind but a file; negative ids are ignored.
void us_h5_close(hid_t id);

// Where an object lies in its file. Objects are opened by place, never again by name, so that what was
// checked is what is read.
#if H5_VERSION_GE(1, 12, 0)
typedef H5O_token_t us_h5_place;
#define US_H5_LINK_PLACE(info) ((info)->u.token)
#define US_H5_OPEN(file, place) H5Oopen_by_token((file), (place))
#else
typedef haddr_t us_h5_place;
#define US_H5_LINK_PLACE(info) ((info)->u.address)
#define US_H5_OPEN(file, place) H5Oopen_by_addr((file), (place))
#endif

enum { US_H5_MAX_RANK = 4 };

// Type and shape of a dataset that passed the checks.
typedef struct us_h5_array {
    int rank;
    hsize_t dims[US_H5_MAX_RANK];
    size_t element_bytes;
} us_h5_array;

// Which dataset it is, for the checks and their messages.
typedef struct us_h5_source {
    const char *file, *path;
    uint64_t file_bytes;
    uint64_t max_bytes; // largest array accepted
} us_h5_source;

// Fails with USPLIT_ERR_FORMAT on the first thing wrong: storage outside the file or virtual, another
// filter than HDF5's own deflate, shuffle and fletcher32, a type other than u8, u16 and f32 of any byte
// order, rank over 4, more bytes than max_bytes.
usplit_status us_h5_describe(us_h5_array *out, hid_t dataset, const us_h5_source *source);

#endif
