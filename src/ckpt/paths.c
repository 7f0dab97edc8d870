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

hid_t us_ckpt_memory_type(int32_t type, int64_t text_bytes)
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
