// A folder that appears whole or not at all: written beside its place, then renamed.
#ifndef CLI_ZARR_FOLDER_H
#define CLI_ZARR_FOLDER_H

#include <stdint.h>

typedef struct zarr_folder {
    char *path, *temporary;     // temporary: where to write; NULL: none
} zarr_folder;

// Refuses a path where something lies that is no Zarr folder.
int zarr_folder_create(zarr_folder *folder, const char *path);
// A file of n bytes; its own folder is there.
int zarr_folder_write(const zarr_folder *folder, const char *name, const void *data, int64_t n);
// Syncs and renames; a Zarr folder that is in the place goes.
int zarr_folder_commit(zarr_folder *folder);
// Removes what was not committed, and frees.
void zarr_folder_discard(zarr_folder *folder);

#endif
