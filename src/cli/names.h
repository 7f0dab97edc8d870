// The names of the library's choices, one list per enum: by them options are read and facts are shown.
#ifndef CLI_NAMES_H
#define CLI_NAMES_H

#include <stdint.h>

typedef struct name_table {
    int n;
    const char *const *words;   // of the command line, by value: "lean"
    const char *const *titles;  // for people, by value: "Lean-LC"
    const char *choices;        // all words: "vanilla|lean|..."
} name_table;

extern const name_table names_family, names_variant, names_activation, names_logvar, names_merge, names_kl,
    names_latent_scale, names_input, names_centring;

// "unknown" for a value that has no name.
const char *names_word(const name_table *table, int32_t value);
const char *names_title(const name_table *table, int32_t value);

#endif
