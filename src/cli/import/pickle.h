// Reads what torch.save pickles without executing it. A pickle is a program for a small stack machine that can call
// any function of Python; here the machine knows the opcodes that build data and four names. Whatever else is named
// becomes an opaque value: kept with its name and what was put into it, called never.
//
// Values refer to each other by number. They may form cycles, and nothing here walks them, so depth costs nothing.
// Memory is at most some 100 bytes per byte of the pickle, whose size the caller limits.
#ifndef CLI_IMPORT_PICKLE_H
#define CLI_IMPORT_PICKLE_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    PICKLE_NONE,
    PICKLE_BOOL,                // whole
    PICKLE_INT,                 // whole
    PICKLE_REAL,                // real
    PICKLE_TEXT,                // text, n bytes, not terminated; bytes objects too
    PICKLE_TUPLE,               // items
    PICKLE_LIST,                // items
    PICKLE_DICT,                // items: key, value, key, value
    PICKLE_NAME,                // items: module and name, both text
    PICKLE_STORAGE,             // items: "storage", type (a name), key, location, elements
    PICKLE_TENSOR,              // items: storage, offset, size, stride, ...
    PICKLE_OPAQUE               // items: as PICKLE_DICT, where it was filled like one; class_name
} pickle_kind;

typedef struct pickle_value {
    uint8_t kind;
    uint8_t known;              // of a name: which of those the machine knows, or 0
    uint32_t n, room;           // items or bytes; items there is room for
    uint32_t class_name;        // of an opaque value: the name it was made from
    union {
        int64_t whole;
        double real;
        const char *text;       // in the pickle
        uint32_t *items;        // numbers of values
    };
} pickle_value;

typedef struct pickle {
    const char *what;           // the file, for messages
    const unsigned char *bytes; // the caller's, as long as values are used
    size_t n_bytes, at;
    pickle_value *values;
    uint32_t n_values, room_values;
    uint32_t *stack, *marks, *memo;     // values; heights of the stack; values, UINT32_MAX where there is none
    uint32_t n_stack, room_stack, n_marks, room_marks, n_memo, room_memo;
    uint32_t root;
} pickle;

// 0 or an exit code, with the line recorded; pickle_free is due in both cases.
int pickle_load(pickle *p, const char *what, const unsigned char *bytes, size_t n_bytes);
void pickle_free(pickle *p);

const pickle_value *pickle_at(const pickle *p, uint32_t number);
// Item `i` of a value that has that many, else NULL.
const pickle_value *pickle_item(const pickle *p, const pickle_value *v, uint32_t i);
// The value under a key of a dictionary, or of an opaque value filled like one; NULL: none, or v is NULL.
const pickle_value *pickle_get(const pickle *p, const pickle_value *v, const char *key);
int pickle_is(const pickle_value *v, const char *text);
// A number or a truth value.
int pickle_number(const pickle_value *v, double *number);

// "torch.FloatStorage" of a name, or of what an opaque value was made from; else the kind, "a number".
typedef struct pickle_words {   // returned by value
    char text[128];
} pickle_words;
pickle_words pickle_describe(const pickle *p, const pickle_value *v);

#endif
