// Paths, folder listings and files written whole.
#include "cli/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/image/images.h"

int files_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

int files_check_new(const char *path, int overwrite)
{
    return path == NULL || overwrite || !files_exists(path)
               ? CLI_OK
               : cli_error(CLI_FAILED, "%s exists; --overwrite replaces it", path);
}

int files_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int files_check_regular(const char *path, int64_t *size)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return cli_error(CLI_FAILED, "%s: no such file", path);
    }
    if (S_ISDIR(info.st_mode)) {
        return cli_error(CLI_FAILED, "%s: is a folder", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return cli_error(CLI_FAILED, "%s: is no file but a pipe, a socket or a device", path);
    }
    if (size != NULL) {
        *size = (int64_t)info.st_size;
    }
    return CLI_OK;
}

int files_ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcasecmp(path + n - m, ending) == 0;
}

const char *files_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

char *files_stem(const char *path)
{
    return image_stem(path);
}

char *files_with_ending(const char *path, const char *old_ending, const char *new_ending)
{
    size_t keep = strlen(path);
    if (files_ends_with(path, old_ending)) {
        keep -= strlen(old_ending);
    }
    return cli_format("%.*s%s", (int)keep, path, new_ending);
}

int files_make_folder(const char *path)
{
    char *part = cli_format("%s", path);
    int rc = CLI_OK;
    for (char *p = part + 1; rc == CLI_OK; p++) {
        if (*p == '/' || *p == '\0') {
            char end = *p;
            *p = '\0';
            if (mkdir(part, 0777) != 0 && !files_is_folder(part)) {
                rc = cli_error(CLI_FAILED, "%s: cannot make the folder: %s", part, strerror(errno));
            }
            *p = end;
            if (end == '\0') {
                break;
            }
        }
    }
    free(part);
    return rc;
}

// "image.zarr/" and "image.zarr" are one name, and so are "image.zarr/@2" and "image.zarr@2".
static void trim_slashes(char *path)
{
    char *at = strrchr(path, '@'), *end = path + strlen(path);
    if (at != NULL && at[1] != '\0' && at[1 + strspn(at + 1, "0123456789")] == '\0' && !files_exists(path)) {
        end = at;
    }
    char *to = end;
    while (to > path + 1 && to[-1] == '/') {
        to--;
    }
    memmove(to, end, strlen(end) + 1);
}

int files_list_add(files_list *list, char *path)
{
    trim_slashes(path);
    if (list->n % 64 == 0) {
        char **more = realloc(list->paths, (list->n + 64) * sizeof *more);
        if (more == NULL) {
            free(path);
            return cli_error(CLI_FAILED, "out of memory for a list of %zu files", list->n);
        }
        list->paths = more;
    }
    list->paths[list->n++] = path;
    return CLI_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Images, and with `folders` what may hold some.
static int list(files_list *list, const char *folder, int folders)
{
    int rc = CLI_OK;
    size_t first = list->n, length = strlen(folder);
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return cli_error(CLI_FAILED, "%s: %s", folder, strerror(errno));
    }
    for (struct dirent *e; rc == CLI_OK && (e = readdir(dir)) != NULL;) {
        const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
        char *path = cli_format("%s%s%s", folder, slash, e->d_name);
        if (e->d_name[0] != '.' && (image_is_listed(e->d_name) || (folders && files_is_folder(path)))) {
            rc = files_list_add(list, path);
        } else {
            free(path);
        }
    }
    closedir(dir);
    if (rc == CLI_OK && list->n == first) {
        rc = cli_error(CLI_FAILED, "%s: no .tif files%s in this folder", folder, folders ? " or folders" : "");
    }
    if (list->n > first) {
        qsort(list->paths + first, list->n - first, sizeof *list->paths, by_name);
    }
    return rc;
}

int files_list_folder(files_list *files, const char *folder)
{
    return list(files, folder, 0);
}

int files_list_entries(files_list *files, const char *folder)
{
    return list(files, folder, 1);
}

int files_remove_temporary(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return cli_error(CLI_FAILED, "%s: %s", folder, strerror(errno));
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.' && files_ends_with(e->d_name, ".tmp")) {
            unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    closedir(dir);
    return CLI_OK;
}

void files_list_free(files_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->paths[i]);
    }
    free(list->paths);
    memset(list, 0, sizeof *list);
}

int files_create(files_output *out, const char *path)
{
    memset(out, 0, sizeof *out);
    if (files_is_folder(path)) {
        return cli_error(CLI_FAILED, "%s: is a folder", path);
    }
    const char *base = files_base(path);
    out->path = cli_format("%s", path);
    out->temporary = cli_format("%.*s.%s.%ld.tmp", (int)(base - path), path, base, (long)getpid());
    out->file = fopen(out->temporary, "wb");
    if (out->file == NULL) {
        int rc = cli_error(CLI_FAILED, "%s: cannot write here: %s", path, strerror(errno));
        free(out->temporary);
        out->temporary = NULL;
        files_discard(out);
        return rc;
    }
    return CLI_OK;
}

int files_commit(files_output *out)
{
    int rc = CLI_OK;
    int failed = fflush(out->file) != 0 || ferror(out->file) || fsync(fileno(out->file)) != 0;
    int code = errno;
    if (fclose(out->file) != 0 && !failed) {
        failed = 1;
        code = errno;
    }
    out->file = NULL;
    if (!failed && rename(out->temporary, out->path) != 0) {
        failed = 1;
        code = errno;
    }
    if (failed) {
        rc = cli_error(CLI_FAILED, "%s: cannot write: %s", out->path, strerror(code));
    } else {
        free(out->temporary);
        out->temporary = NULL;
    }
    files_discard(out);
    return rc;
}

void files_discard(files_output *out)
{
    if (out->file != NULL) {
        fclose(out->file);
    }
    if (out->temporary != NULL) {
        unlink(out->temporary);
    }
    free(out->temporary);
    free(out->path);
    memset(out, 0, sizeof *out);
}
