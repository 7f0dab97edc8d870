// Words for numbers (sizes, times, counts) and a small JSON writer.
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdint.h>
#include <stdio.h>

typedef struct text_number {    // returned by value, so that several fit in one printf
    char text[32];
} text_number;

text_number text_bytes(double bytes);       // "1.2 GB" (powers of 1000)
text_number text_duration(double seconds);  // "42 s", "3 min 20 s", "2 h 05 min"; negative: "?"
text_number text_count(double n);           // "3.66 M"
text_number text_decibel(double value);     // "31.42", NaN: "-"

// JSON to a stream: json_begin("{"), json_text(...), ..., json_end("}"). key NULL inside an array.
typedef struct json {
    FILE *file;
    int depth;
    int first;                  // nothing written yet at this depth
} json;

void json_start(json *j, FILE *file);
void json_begin(json *j, const char *key, char bracket);    // '{' or '['
void json_end(json *j, char bracket);                       // '}' or ']'; the last one ends the line
void json_text(json *j, const char *key, const char *value);
void json_real(json *j, const char *key, double value);     // not finite: null
void json_int(json *j, const char *key, int64_t value);
void json_bool(json *j, const char *key, int value);

#endif
