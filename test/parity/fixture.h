// Reading fixture files: HDF5 datasets as float arrays, values out of the JSON configuration.
#ifndef US_FIXTURE_H
#define US_FIXTURE_H

#include <stdint.h>

typedef struct fixture {
    int64_t file;           // an hid_t
    char *config;           // JSON text, "" when the file has none
    const char *path;
} fixture;

int fixture_open(fixture *f, const char *path);     // 0: opened
void fixture_close(fixture *f);

int fixture_has(const fixture *f, const char *path);
// A whole dataset as float (any number type), with its sizes; NULL when it is missing. Free with free().
float *fixture_read(const fixture *f, const char *path, int *n_dims, int64_t dims[8]);
// A text attribute of an object; NULL when missing.
char *fixture_text(const fixture *f, const char *object, const char *attribute);
double fixture_number(const fixture *f, const char *object, const char *attribute, double otherwise);

// The text after "key": in JSON, searched after the first occurrence of "section" (NULL: from the start).
const char *json_at(const char *json, const char *section, const char *key);
double json_number(const char *json, const char *section, const char *key, double otherwise);
int json_true(const char *json, const char *section, const char *key);
int json_is_null(const char *json, const char *section, const char *key);
int json_list(const char *json, const char *section, const char *key, double *out, int max);
// Is name a string of the JSON list?
int json_contains(const char *json, const char *name);

#endif
