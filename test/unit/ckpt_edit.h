// For tests of files that say something wrong, under a valid digest: a checkpoint written anew with one entry changed,
// or left out.
#ifndef US_CKPT_EDIT_H
#define US_CKPT_EDIT_H

#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"

// value NULL: the entry is left out; else it replaces the entry's number `at`, in the entry's own type. 0: no entry of
// that name. Entries whose path begins with `path` count where it ends in '/'.
static inline int edit_checkpoint(const char *from, const char *to, const char *path, size_t at, const void *value)
{
    us_ckpt *c = NULL;
    if (us_ckpt_open(&c, NULL, from) != USPLIT_OK) {
        return 0;
    }
    size_t n = us_ckpt_count(c), kept = 0, length = strlen(path);
    us_ckpt_entry *entries = calloc(n, sizeof *entries);
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        us_ckpt_entry e = *us_ckpt_at(c, i);
        size_t size = e.type == US_CKPT_F32 ? 4 : e.type == US_CKPT_TEXT ? 1 : 8, count = 1;
        for (int k = 0; k < e.n_dims; k++) {
            count *= (size_t)e.dims[k];
        }
        char *data = calloc(count + 1, size);
        int here = path[length - 1] == '/' ? strncmp(e.path, path, length) == 0 : strcmp(e.path, path) == 0;
        found |= here;
        if (us_ckpt_read(c, e.path, e.type, e.n_dims, e.dims, data) != USPLIT_OK || (here && value == NULL)) {
            free(data);
            continue;
        }
        if (here && value != NULL) {
            memcpy(data + at * size, value, size);
        }
        e.data = data;
        entries[kept++] = e;
    }
    int written = us_ckpt_write(NULL, to, entries, kept) == USPLIT_OK;
    for (size_t i = 0; i < kept; i++) {
        void *data;
        memcpy(&data, &entries[i].data, sizeof data);
        free(data);
    }
    free(entries);
    us_ckpt_close(c);
    return found && written;
}

#endif
