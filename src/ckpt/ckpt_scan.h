// Reads the HDF5 bytes of a checkpoint without HDF5: finds every array, or says what is not plain.
#ifndef US_CKPT_SCAN_H
#define US_CKPT_SCAN_H

#include <stdint.h>

#include "ckpt/ckpt.h"

// An array of the image: its elements are image[at .. at + bytes), little endian, row-major.
typedef struct us_ckpt_found {
    const char *path; // valid during the call
    int32_t type;     // US_CKPT_*
    int32_t n_dims;
    int64_t dims[US_CKPT_MAX_DIMS];
    uint64_t at, bytes;
} us_ckpt_found;

typedef usplit_status (*us_ckpt_found_fn)(void *user, const us_ckpt_found *found);

// Calls fn for every array. USPLIT_ERR_FORMAT names the first thing that is not as the library writes it;
// `file` is for messages.
usplit_status us_ckpt_scan(const unsigned char *image, uint64_t n_image, const char *file,
                           us_ckpt_found_fn fn, void *user);

#endif
