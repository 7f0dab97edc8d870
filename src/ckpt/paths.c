// Names, types and limits of checkpoint entries. See docs/checkpoint-format.md.
#include "ckpt/paths.h"

#include <string.h>

const char *us_ckpt_path_fault(const char *path)
{
    if (strlen(path) > US_CKPT_MAX_PATH) {
        return "has over 255 bytes";
    }
    int depth = 0;
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (n == 0) {
            return "has an empty component";
        }
        if (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.'))) {
            return "has a component '.' or '..'";
        }
        for (size_t i = 0; i < n; i++) {
            if (p[i] <= 0x20 || p[i] >= 0x7f) {
                return "has a byte that is not printable ASCII";
            }
        }
        if (++depth > US_CKPT_MAX_DEPTH) {
            return "has over 8 components";
        }
        if (p[n] == '\0') {
            return NULL;
        }
        p += n + 1;
    }
}

uint64_t us_ckpt_element_bytes(int32_t type)
{
    switch (type) {
    case US_CKPT_F32:
        return 4;
    case US_CKPT_F64:
        return 8;
    case US_CKPT_I64:
        return 8;
    case US_CKPT_TEXT:
        return 1;
    default:
        return 0;
    }
}
