// Folders written whole. Only two kinds of folders are ever removed: the temporary one, and the Zarr folder that a
// commit replaces. Links are removed, never followed.
#include "cli/zarr/zarr_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/zarr/zarr.h"

static void remove_tree(const char *path)
{
    char *root = cli_format("%s", path);
    char *const roots[] = {root, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *e; tree != NULL && (e = fts_read(tree)) != NULL;) {
        if (e->fts_info != FTS_D) {     // folders are met again, empty by then
            remove(e->fts_accpath);
        }
    }
    if (tree != NULL) {
        fts_close(tree);
    }
    free(root);
}

static int is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static int check_place(const char *path)
{
    if (is_there(path) && !(files_is_folder(path) && zarr_is_store(path))) {
        return cli_error(CLI_FAILED, "%s: is there and is no Zarr folder; only a Zarr folder is replaced", path);
    }
    return CLI_OK;
}

// A name beside `path`, hidden, of this process.
static char *beside(const char *path, const char *what)
{
    const char *base = files_base(path);
    return cli_format("%.*s.%s.%ld.%s", (int)(base - path), path, base, (long)getpid(), what);
}

int zarr_folder_create(zarr_folder *folder, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    folder->path = cli_format("%.*s", (int)n, path);
    int rc = check_place(folder->path);
    char *temporary = beside(folder->path, "tmp");
    if (rc == CLI_OK) {
        remove_tree(temporary);     // of a killed process with our number
        if (mkdir(temporary, 0777) != 0) {
            rc = cli_error(CLI_FAILED, "%s: cannot write here: %s", path, strerror(errno));
        }
    }
    if (rc == CLI_OK) {
        folder->temporary = temporary;
    } else {
        free(temporary);
    }
    return rc;
}

int zarr_folder_write(const zarr_folder *folder, const char *name, const void *data, int64_t n)
{
    char *path = cli_format("%s/%s", folder->temporary, name);
    FILE *file = fopen(path, "wb");
    int failed = file == NULL || fwrite(data, 1, (size_t)n, file) != (size_t)n;
    int code = errno;
    if (file != NULL && fclose(file) != 0 && !failed) {
        failed = 1;
        code = errno;
    }
    free(path);
    return failed ? cli_error(CLI_FAILED, "%s: cannot write: %s", folder->path, strerror(code)) : CLI_OK;
}

// One call for all of a store's files: syncing thousands of them one by one takes minutes.
static int sync_all(const zarr_folder *folder)
{
    int fd = open(folder->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || syncfs(fd) != 0;
    int code = errno;
    if (fd >= 0) {
        close(fd);
    }
    return failed ? cli_error(CLI_FAILED, "%s: cannot write: %s", folder->path, strerror(code)) : CLI_OK;
}

int zarr_folder_commit(zarr_folder *folder)
{
    char *old = beside(folder->path, "old.tmp");
    int rc;
    CLI_TRY(sync_all(folder));
    CLI_TRY(check_place(folder->path));     // it may have changed since
    remove_tree(old);
    int had_one = is_there(folder->path);
    if (had_one && rename(folder->path, old) != 0) {
        rc = cli_error(CLI_FAILED, "%s: cannot be replaced: %s", folder->path, strerror(errno));
        goto done;
    }
    if (rename(folder->temporary, folder->path) != 0) {
        rc = cli_error(CLI_FAILED, "%s: cannot write: %s", folder->path, strerror(errno));
        if (had_one && rename(old, folder->path) != 0) {
            fprintf(stderr, "usplit: warning: what was in %s is now in %s\n", folder->path, old);
        }
        goto done;
    }
    free(folder->temporary);
    folder->temporary = NULL;
    if (had_one) {
        remove_tree(old);
    }
done:
    free(old);
    return rc;
}

void zarr_folder_discard(zarr_folder *folder)
{
    if (folder->temporary != NULL) {
        remove_tree(folder->temporary);
    }
    free(folder->temporary);
    free(folder->path);
    memset(folder, 0, sizeof *folder);
}
