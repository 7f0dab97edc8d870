// HDF5 and JSON access for the parity program; plain reading, files are trusted fixtures.
#include "parity/fixture.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fixture_open(fixture *f, const char *path)
{
    H5Eset_auto(H5E_DEFAULT, NULL, NULL);
    f->path = path;
    f->config = NULL;
    f->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (f->file < 0) {
        return 1;
    }
    f->config = fixture_text(f, "/", "config");
    if (!f->config) {
        f->config = calloc(1, 1);
    }
    return 0;
}

void fixture_close(fixture *f)
{
    H5Fclose(f->file);
    free(f->config);
}

int fixture_has(const fixture *f, const char *path)
{
    char part[256];
    for (size_t i = 1; i <= strlen(path); i++) {        // every group on the way
        if (path[i] == '/' || path[i] == 0) {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            if (H5Lexists(f->file, part, H5P_DEFAULT) <= 0) {
                return 0;
            }
        }
    }
    return 1;
}

float *fixture_read(const fixture *f, const char *path, int *n_dims, int64_t dims[8])
{
    if (!fixture_has(f, path)) {
        return NULL;
    }
    hid_t d = H5Dopen2(f->file, path, H5P_DEFAULT), s = d >= 0 ? H5Dget_space(d) : -1;
    float *data = NULL;
    if (s >= 0) {
        hsize_t h[8] = {0};
        int n = H5Sget_simple_extent_dims(s, h, NULL);
        hssize_t count = H5Sget_simple_extent_npoints(s);
        for (int i = 0; i < 8; i++) {
            dims[i] = i < n ? (int64_t)h[i] : 1;
        }
        *n_dims = n;
        data = malloc((size_t)(count > 0 ? count : 1) * sizeof *data);
        if (data && H5Dread(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
            free(data);
            data = NULL;
        }
        H5Sclose(s);
    }
    if (d >= 0) {
        H5Dclose(d);
    }
    return data;
}

char *fixture_text(const fixture *f, const char *object, const char *attribute)
{
    if (H5Aexists_by_name(f->file, object, attribute, H5P_DEFAULT) <= 0) {
        return NULL;
    }
    hid_t a = H5Aopen_by_name(f->file, object, attribute, H5P_DEFAULT, H5P_DEFAULT), t = H5Aget_type(a);
    char *text = NULL;
    if (H5Tis_variable_str(t) > 0) {
        char *raw = NULL;
        hid_t m = H5Tcopy(H5T_C_S1);
        H5Tset_size(m, H5T_VARIABLE);
        H5Tset_cset(m, H5Tget_cset(t));
        if (H5Aread(a, m, &raw) >= 0 && raw) {
            text = strdup(raw);
            H5free_memory(raw);
        }
        H5Tclose(m);
    } else {
        size_t n = H5Tget_size(t);
        text = calloc(n + 1, 1);
        if (text && H5Aread(a, t, text) < 0) {
            free(text);
            text = NULL;
        }
    }
    H5Tclose(t);
    H5Aclose(a);
    return text;
}

double fixture_number(const fixture *f, const char *object, const char *attribute, double otherwise)
{
    if (H5Aexists_by_name(f->file, object, attribute, H5P_DEFAULT) <= 0) {
        return otherwise;
    }
    double values[64] = {otherwise};
    hid_t a = H5Aopen_by_name(f->file, object, attribute, H5P_DEFAULT, H5P_DEFAULT);
    hid_t s = H5Aget_space(a);
    if (H5Sget_simple_extent_npoints(s) <= 64) {
        H5Aread(a, H5T_NATIVE_DOUBLE, values);
    }
    H5Sclose(s);
    H5Aclose(a);
    return values[0];
}

const char *json_at(const char *json, const char *section, const char *key)
{
    char quoted[128];
    if (section) {
        snprintf(quoted, sizeof quoted, "\"%s\"", section);
        json = strstr(json, quoted);
    }
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = json ? strstr(json, quoted) : NULL;
    if (!at) {
        return NULL;
    }
    at += strlen(quoted);
    while (*at == ' ' || *at == ':' || *at == '\n' || *at == '\t') {
        at++;
    }
    return at;
}

double json_number(const char *json, const char *section, const char *key, double otherwise)
{
    const char *at = json_at(json, section, key);
    if (!at) {
        return otherwise;
    }
    char *end;
    double v = strtod(at, &end);
    return end == at ? otherwise : v;
}

int json_true(const char *json, const char *section, const char *key)
{
    const char *at = json_at(json, section, key);
    return at && strncmp(at, "true", 4) == 0;
}

int json_is_null(const char *json, const char *section, const char *key)
{
    const char *at = json_at(json, section, key);
    return !at || strncmp(at, "null", 4) == 0;
}

int json_list(const char *json, const char *section, const char *key, double *out, int max)
{
    const char *at = json_at(json, section, key);
    int n = 0;
    if (!at || *at != '[') {
        return 0;
    }
    at++;
    while (n < max) {
        char *end;
        double v = strtod(at, &end);
        if (end == at) {
            break;
        }
        out[n++] = v;
        at = end + strspn(end, " ,\n\t");
    }
    return n;
}

int json_contains(const char *json, const char *name)
{
    char quoted[160];
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    return json && strstr(json, quoted) != NULL;
}
