// Command-line options from a table: each row names an option, where its value goes and its help line.
// Both "--batch 8" and "--batch=8" are read; "--" ends the options; "--help" prints the table.
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stddef.h>
#include <stdint.h>

typedef struct arg_list {       // pointers into argv
    const char *items[256];
    int n;
} arg_list;

typedef enum {
    ARG_FLAG = 1,               // int *: set to 1
    ARG_TEXT,                   // const char **
    ARG_LIST,                   // arg_list *: may be given several times
    ARG_INT,                    // int64_t *, within low..high
    ARG_REAL,                   // double *, within low..high
    ARG_BYTES,                  // int64_t *: "512M", "4G", "1.5G"
    ARG_CHOICE                  // int *: place in `value`, "hvae|hae"
} arg_kind;

typedef struct arg_spec {
    const char *name;           // "--batch"; NULL ends the table; a name without dash is a heading
    const char *alias;          // "-o" or NULL
    arg_kind kind;
    void *target;
    double low, high;
    const char *value;          // what the help calls it, or the choices
    const char *help;
} arg_spec;

typedef struct arg_usage {
    const char *command;        // "train"
    const char *line;           // "--channel A --channel B -o model.h5 [options]"
    const char *what;           // one or two sentences
    const char *example;
} arg_usage;

enum { ARGS_HELP = -1 };        // help was printed: the command is done

// Instead of printing help, --help then gives the table to `see`; NULL: prints it again. For what is made from all
// tables (pages.h).
void args_observe(void (*see)(const arg_usage *usage, const arg_spec *specs, void *user), void *user);

// Reads the options; whatever is not one goes to rest. Returns 0, ARGS_HELP or an exit code.
int args_parse(const arg_usage *usage, const arg_spec *specs, int argc, char **argv, arg_list *rest);

// For commands that take options only, and need -o: 0 or CLI_USAGE.
int args_only_out(const arg_list *rest, const char *out);

// For commands that hold one model against known channels: 0, or CLI_USAGE where one of both is missing.
int args_one_model(const arg_list *rest, const arg_list *channels);

// "a,b,c" into parts; *storage holds them and is the caller's to free.
int args_split(const char *text, char separator, arg_list *parts, char **storage);

// "3:8" into first and end; either may be left out (0, INT64_MAX).
int args_range(const char *option, const char *text, int64_t *first, int64_t *end);

#endif
