// Files of a Zarr store. Whoever made the store may have put anything in their place: folders, pipes, devices,
// links in a circle, gigabytes of metadata.
#include "cli/zarr/zarr_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { MAX_METADATA_BYTES = 4 << 20 };

zarr_quoted zarr_quote(const char *text)
{
    zarr_quoted q;
    size_t n = strlen(text), room = sizeof q.text - 4;
    snprintf(q.text, sizeof q.text, "%.*s%s", (int)room, text, n > room ? "..." : "");
    for (char *p = q.text; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~') {
            *p = '?';
        }
    }
    return q;
}

zarr_quoted zarr_quote_json(const json_t *value)
{
    char text[128];
    size_t n = value == NULL ? 0 : json_dumpb(value, text, sizeof text - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    text[n < sizeof text ? n : sizeof text - 1] = '\0';
    if (n == 0) {
        snprintf(text, sizeof text, "nothing");
    }
    return zarr_quote(text);
}

int zarr_is_inside(const char *path)
{
    if (path[0] == '\0' || strlen(path) > 255) {
        return 0;
    }
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        for (size_t i = 0; i < n; i++) {
            if ((unsigned char)p[i] < ' ') {
                return 0;
            }
        }
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            return 0;
        }
        if (p[n] == '\0') {
            return 1;
        }
        p += n + 1;
    }
}

static int read_all(int fd, const char *path, unsigned char *data, int64_t n)
{
    for (int64_t done = 0; done < n;) {
        ssize_t got = read(fd, data + done, (size_t)(n - done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return cli_error(CLI_FAILED, "%s: cannot be read: %s", path,
                             got < 0 ? strerror(errno) : "it became shorter");
        }
        done += got;
    }
    return CLI_OK;
}

int zarr_read_file(const char *path, unsigned char **data, size_t *room, int64_t *n, int64_t most)
{
    struct stat info;
    int rc = CLI_OK;
    *n = -1;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);     // a pipe must not hold us up
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return CLI_OK;
        }
        return cli_error(CLI_FAILED, "%s: cannot be read: %s", path, strerror(errno));
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        rc = cli_error(CLI_FAILED, "%s: is not a regular file", path);
    } else if ((int64_t)info.st_size > most) {
        rc = cli_error(CLI_FAILED, "%s: has %lld bytes; at most %lld are accepted here", path,
                       (long long)info.st_size, (long long)most);
    } else if ((size_t)info.st_size + 1 > *room) {
        free(*data);
        *room = 0;
        if ((*data = cli_alloc((size_t)info.st_size + 1, 1)) == NULL) {
            rc = CLI_FAILED;
        } else {
            *room = (size_t)info.st_size + 1;
        }
    }
    if (rc == CLI_OK && (rc = read_all(fd, path, *data, (int64_t)info.st_size)) == CLI_OK) {
        *n = (int64_t)info.st_size;
    }
    close(fd);
    return rc;
}

int zarr_read_json(json_t **out, const char *folder, const char *name)
{
    unsigned char *data = NULL;
    size_t room = 0;
    int64_t n;
    json_error_t why;
    char *path = cli_format("%s/%s", folder, name);
    int rc = zarr_read_file(path, &data, &room, &n, MAX_METADATA_BYTES);
    *out = NULL;
    if (rc == CLI_OK && n >= 0) {
        *out = json_loadb((const char *)data, (size_t)n, 0, &why);
        if (*out == NULL) {
            rc = cli_error(CLI_FAILED, "%s: is not JSON: line %d: %s", path, why.line, zarr_quote(why.text).text);
        } else if (!json_is_object(*out)) {
            rc = cli_error(CLI_FAILED, "%s: is %s; a JSON object is needed", path, zarr_quote_json(*out).text);
            json_decref(*out);
            *out = NULL;
        }
    }
    free(data);
    free(path);
    return rc;
}
