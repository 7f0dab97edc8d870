// Names of files and folders, and files that appear whole: written under a temporary name beside the
// wanted one, synced, renamed.
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int files_exists(const char *path);
int files_is_folder(const char *path);
// For a file to be written: 0 where there is none of that name, or it may be replaced, or path is NULL.
int files_check_new(const char *path, int overwrite);
// For a file to be read: 0 and its size in bytes (NULL: not wanted). A folder is refused, and what may never begin or
// never end: a pipe, a socket, a device.
int files_check_regular(const char *path, int64_t *size);
int files_ends_with(const char *path, const char *ending);      // letters of either case
const char *files_base(const char *path);                       // after the last slash
char *files_stem(const char *path);                             // base without an image's ending; to free
char *files_with_ending(const char *path, const char *old_ending, const char *new_ending);  // to free

// Creates the folder and those above it; one that exists is fine.
int files_make_folder(const char *path);

// Full paths of the images in a folder, sorted by name; none at all is an error.
typedef struct files_list {
    char **paths;
    size_t n;
} files_list;
int files_list_add(files_list *list, char *path);               // takes over path
int files_list_folder(files_list *list, const char *folder);
int files_list_entries(files_list *list, const char *folder);   // the folders in it, too
void files_list_free(files_list *list);

// A file being written. files_commit closes, syncs and renames; files_discard closes and removes.
typedef struct files_output {
    FILE *file;
    char *path, *temporary;
} files_output;
int files_create(files_output *out, const char *path);
int files_commit(files_output *out);
void files_discard(files_output *out);
// Removes what a killed program, or library, left behind in a folder that nobody else works in.
int files_remove_temporary(const char *folder);

#endif
