// Files of a store, read whole and with suspicion: regular files only, up to a given size, inside the store's folder.
#ifndef CLI_ZARR_STORE_H
#define CLI_ZARR_STORE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

// Text of a store as it may be printed in the error line: cut short, control characters replaced.
typedef struct zarr_quoted {
    char text[64];
} zarr_quoted;
zarr_quoted zarr_quote(const char *text);
zarr_quoted zarr_quote_json(const json_t *value);   // as JSON

// *data grows to what is needed (*room bytes) and is the caller's to free. *n is -1 when there is no such file. More
// than `most` bytes are refused.
int zarr_read_file(const char *path, unsigned char **data, size_t *room, int64_t *n, int64_t most);

// A JSON object; *out is NULL when there is no such file. json_decref frees it.
int zarr_read_json(json_t **out, const char *folder, const char *name);

// 1 when `path`, as metadata name it, leads to a place below its folder: relative, without ".", ".." and control
// characters.
int zarr_is_inside(const char *path);

#endif
