// A PyTorch checkpoint as named arrays and settings: the ZIP archive, the pickle in it, and where each array's numbers
// lie. Everything that the file says about an array is checked when it is opened, before any is read.
#ifndef CLI_IMPORT_CHECKPOINT_H
#define CLI_IMPORT_CHECKPOINT_H

#include <stdint.h>

#include "cli/cli.h"
#include "cli/import/pickle.h"
#include "cli/import/zip.h"

enum { CHECKPOINT_DIMS = 8 };

typedef struct checkpoint_array {
    const char *name;           // of the state_dict, not terminated
    uint32_t length;            // of the name
    int type;                   // of its numbers: a place in a table of checkpoint.c
    int n_dims;
    int64_t dims[CHECKPOINT_DIMS], strides[CHECKPOINT_DIMS];    // in elements
    int64_t count, offset;      // elements; the first one's place in the storage
    const zip_entry *storage;
    int used;                   // the importer's own mark
} checkpoint_array;

typedef struct checkpoint {
    const char *path;
    zip_file zip;
    pickle pickle;
    unsigned char *pickled;     // data.pkl
    pickle config;              // of a file of its own, where one was given
    unsigned char *config_bytes;
    char *folder;               // of the archive, with its slash: "archive/"
    int big_endian;
    checkpoint_array *arrays;   // sorted by name
    uint32_t n_arrays;
    const zip_entry *held;      // the storage last read, as several arrays may be parts of one
    unsigned char *storage;
} checkpoint;

// 0 or an exit code, with the line recorded; checkpoint_close is due in both cases.
int checkpoint_open(checkpoint *c, const char *path);
void checkpoint_close(checkpoint *c);
// The configuration that the published code saves beside its checkpoints, config.pkl: a bare pickle.
int checkpoint_open_config(checkpoint *c, const char *path);

// The array named by a format; NULL: there is none.
checkpoint_array *checkpoint_find(checkpoint *c, const char *fmt, ...) CLI_PRINTF(2, 3);
// Its numbers as float32, row-major, `count` of them. Refuses what is not finite.
int checkpoint_read(checkpoint *c, const checkpoint_array *array, float *dst);
// 1: both are the same numbers of the same storage.
int checkpoint_same(const checkpoint_array *a, const checkpoint_array *b);

// SECTION.KEY of the configuration file, or hyper_parameters.config.SECTION.KEY, or hyper_parameters.SECTION.KEY; with
// section NULL hyper_parameters.KEY. NULL: there is none.
const pickle_value *checkpoint_setting(const checkpoint *c, const char *section, const char *key);
// An entry of the outermost dictionary, such as "epoch".
const pickle_value *checkpoint_top(const checkpoint *c, const char *key);
// A number, or a list, tuple or tensor of numbers; at most `most` of them, *n: how many. 0: they cannot be read so.
int checkpoint_numbers(checkpoint *c, const pickle_value *v, double *numbers, int most, int *n);

// "64 x 1 x 3 x 3", "a single number"
typedef struct checkpoint_shape {   // returned by value
    char text[128];
} checkpoint_shape;
checkpoint_shape checkpoint_shape_words(const int64_t *dims, int n_dims);

#endif
