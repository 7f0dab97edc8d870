// Rules that writer and reader of checkpoints share: names, types, limits.
#ifndef US_CKPT_PATHS_H
#define US_CKPT_PATHS_H

#include <stdint.h>

#include "ckpt/ckpt.h"

enum {
    US_CKPT_MAX_PATH = 255,      // bytes of a path
    US_CKPT_MAX_DEPTH = 8,       // components of a path
    US_CKPT_MAX_ENTRIES = 65536, // arrays and groups of a file
    US_CKPT_MAX_TEXT = 1 << 20   // bytes of one text
};

// What is wrong with a path ("has an empty component"), NULL: nothing.
const char *us_ckpt_path_fault(const char *path);

// Bytes of one element of US_CKPT_*; 0: no such type.
uint64_t us_ckpt_element_bytes(int32_t type);

#endif
