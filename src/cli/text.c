// Words for numbers, and JSON.
#include "cli/text.h"

#include <inttypes.h>
#include <math.h>

static text_number scaled(double value, double step, const char *const *units, int n_units)
{
    text_number t;
    int k = 0;
    while (k + 1 < n_units && fabs(value) >= 0.9995 * step) {
        value /= step;
        k++;
    }
    int decimals = k == 0 ? 0 : fabs(value) < 10 ? 2 : fabs(value) < 100 ? 1 : 0;
    snprintf(t.text, sizeof t.text, "%.*f%s", decimals, value, units[k]);
    return t;
}

text_number text_bytes(double bytes)
{
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB"};
    return scaled(bytes, 1000, units, 5);
}

text_number text_count(double n)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    return scaled(n, 1000, units, 5);
}

text_number text_duration(double seconds)
{
    text_number t;
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(t.text, sizeof t.text, "?");
    } else if (seconds < 9.95) {
        snprintf(t.text, sizeof t.text, "%.1f s", seconds);
    } else if (seconds < 99.5) {
        snprintf(t.text, sizeof t.text, "%.0f s", seconds);
    } else {
        int64_t s = (int64_t)(seconds + 0.5);
        if (s < 3600) {
            snprintf(t.text, sizeof t.text, "%" PRId64 " min %02d s", s / 60, (int)(s % 60));
        } else {
            snprintf(t.text, sizeof t.text, "%" PRId64 " h %02d min", s / 3600, (int)(s % 3600 / 60));
        }
    }
    return t;
}

text_number text_decibel(double value)
{
    text_number t;
    if (isnan(value)) {
        snprintf(t.text, sizeof t.text, "-");
    } else {
        snprintf(t.text, sizeof t.text, "%.2f", value);
    }
    return t;
}

// Bytes of the UTF-8 sequence at p; 0: it is none. (Too long forms and surrogates are let through, as JSON readers do.)
static int sequence(const unsigned char *p)
{
    int n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

// A file name may be any bytes; JSON may not.
static void put_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        int n = sequence(p);
        if (n != 1) {
            fprintf(file, "%.*s", n > 0 ? n : 3, n > 0 ? (const char *)p : "\xef\xbf\xbd");
            p += n > 0 ? n - 1 : 0;
            continue;
        }
        if (*p == '"' || *p == '\\') {
            fprintf(file, "\\%c", *p);
        } else if (*p < 0x20) {
            fprintf(file, "\\u%04x", *p);
        } else {
            fputc(*p, file);
        }
    }
    fputc('"', file);
}

static void lead_in(json *j, const char *key)
{
    if (!j->first) {
        fputc(',', j->file);
    }
    if (j->depth > 0) {
        fprintf(j->file, "\n%*s", 2 * j->depth, "");
    }
    j->first = 0;
    if (key != NULL) {
        put_string(j->file, key);
        fputs(": ", j->file);
    }
}

void json_start(json *j, FILE *file)
{
    j->file = file;
    j->depth = 0;
    j->first = 1;
}

void json_begin(json *j, const char *key, char bracket)
{
    lead_in(j, key);
    fputc(bracket, j->file);
    j->depth++;
    j->first = 1;
}

void json_end(json *j, char bracket)
{
    j->depth--;
    if (!j->first) {
        fprintf(j->file, "\n%*s", 2 * j->depth, "");
    }
    fputc(bracket, j->file);
    j->first = 0;
    if (j->depth == 0) {
        fputc('\n', j->file);
    }
}

void json_text(json *j, const char *key, const char *value)
{
    lead_in(j, key);
    put_string(j->file, value);
}

void json_real(json *j, const char *key, double value)
{
    lead_in(j, key);
    if (isfinite(value)) {
        fprintf(j->file, "%.9g", value);
    } else {
        fputs("null", j->file);
    }
}

void json_int(json *j, const char *key, int64_t value)
{
    lead_in(j, key);
    fprintf(j->file, "%" PRId64, value);
}

void json_bool(json *j, const char *key, int value)
{
    lead_in(j, key);
    fputs(value ? "true" : "false", j->file);
}
