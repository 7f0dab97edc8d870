// Members of a ZIP archive whose members are stored, not compressed, as torch.save writes them; ZIP64 included. The
// file is not trusted: every size and place is held against the file's length, members that overlap are refused, and
// the CRC of what is read is checked.
//
// Own code rather than a library: nothing is compressed, so what is left of the format is its directory, and a general
// reader would accept much that must then be refused again.
#ifndef CLI_IMPORT_ZIP_H
#define CLI_IMPORT_ZIP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct zip_entry {
    const char *name;           // not terminated
    size_t length;              // of the name
    uint64_t place, size;       // of the member's own header; of its data
    uint64_t end;               // where the next member, or the directory, begins
    uint32_t crc;
} zip_entry;

typedef struct zip_file {
    FILE *file;
    const char *path;
    uint64_t size;
    unsigned char *directory;   // the names lie in it
    zip_entry *entries;         // sorted by name
    size_t n;
} zip_file;

// 0 or an exit code, with the line recorded; zip_close is due in both cases.
int zip_open(zip_file *zip, const char *path);
void zip_close(zip_file *zip);

// NULL: there is none.
const zip_entry *zip_find(const zip_file *zip, const char *name, size_t length);
// The whole member, entry->size bytes.
int zip_read(const zip_file *zip, const zip_entry *entry, void *dst);

// Bytes of a foreign file for a message: what cannot be printed becomes '?', and the rest is cut off.
typedef struct zip_words {      // returned by value, so that several fit in one message
    char text[128];
} zip_words;
zip_words zip_printable(const char *bytes, size_t length);

// Numbers in the byte order of ZIP files, and of the files in them.
uint64_t zip_number(const unsigned char *bytes, int n_bytes);

#endif
