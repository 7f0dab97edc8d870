// A folder of a test program's own, made before its tests and removed after them, and the bytes of files.
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

// For cmocka_run_group_tests, as it stands or called by what else is to be set up.
static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/usplit-%.40s-XXXXXX", program_invocation_short_name);
    return mkdtemp(folder) == NULL;
}

// With all that is in it.
static inline int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

// With these files, where they are there, and no others: fails where something else was left behind.
static inline int remove_files(const char *const *names, size_t n)
{
    char path[300];
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

// A path in the folder; the same name gives the same memory, for 63 names.
static inline const char *in_folder(const char *name)
{
    static char paths[64][300];
    char path[300];
    int i = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    while (i < 63 && paths[i][0] != '\0' && strcmp(paths[i], path) != 0) {
        i++;
    }
    memcpy(paths[i], path, sizeof path);
    return paths[i];
}

// A whole file, which is not empty, and a zero behind it; to free.
static inline unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    assert_true(*n > 0);
    rewind(f);
    unsigned char *data = calloc(*n + 1, 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *n, f), *n);
    fclose(f);
    return data;
}

static inline void spill(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL) {
        fail_msg("%s: %s", path, strerror(errno));
    }
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

#endif
