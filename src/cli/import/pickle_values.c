// Looking at what a pickle held, once it is read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/import/pickle.h"
#include "cli/import/zip.h"

static int has_items(const pickle_value *v)
{
    return v->kind >= PICKLE_TUPLE;
}

const pickle_value *pickle_at(const pickle *p, uint32_t number)
{
    return number < p->n_values ? &p->values[number] : NULL;
}

const pickle_value *pickle_item(const pickle *p, const pickle_value *v, uint32_t i)
{
    return v != NULL && has_items(v) && i < v->n ? &p->values[v->items[i]] : NULL;
}

const pickle_value *pickle_get(const pickle *p, const pickle_value *v, const char *key)
{
    const pickle_value *found = NULL;
    if (v != NULL && v->kind == PICKLE_OPAQUE && v->n % 2 != 0) {
        v = pickle_item(p, v, 0);       // it was given its state whole
    }
    if (v == NULL || (v->kind != PICKLE_DICT && v->kind != PICKLE_OPAQUE)) {
        return NULL;
    }
    for (uint32_t i = 0; i + 1 < v->n; i += 2) {
        if (pickle_is(&p->values[v->items[i]], key)) {
            found = &p->values[v->items[i + 1]];
        }
    }
    return found;
}

int pickle_is(const pickle_value *v, const char *text)
{
    return v != NULL && v->kind == PICKLE_TEXT && v->n == strlen(text) && memcmp(v->text, text, v->n) == 0;
}

int pickle_number(const pickle_value *v, double *number)
{
    if (v == NULL || (v->kind != PICKLE_INT && v->kind != PICKLE_BOOL && v->kind != PICKLE_REAL)) {
        return 0;
    }
    *number = v->kind == PICKLE_REAL ? v->real : (double)v->whole;
    return 1;
}

pickle_words pickle_describe(const pickle *p, const pickle_value *v)
{
    static const char *const kinds[] = {"None", "a truth value", "a number", "a number", "text", "a tuple", "a list",
                                        "a dictionary", "a name", "a storage", "a tensor", "an object"};
    pickle_words words;
    const pickle_value *name = v->kind == PICKLE_OPAQUE ? pickle_at(p, v->class_name) : v;
    if (name != NULL && name->kind == PICKLE_NAME) {
        const pickle_value *module = &p->values[name->items[0]], *own = &p->values[name->items[1]];
        snprintf(words.text, sizeof words.text, "%.60s.%.60s", zip_printable(module->text, module->n).text,
                 zip_printable(own->text, own->n).text);
    } else {
        snprintf(words.text, sizeof words.text, "%s", kinds[v->kind]);
    }
    return words;
}

void pickle_free(pickle *p)
{
    for (uint32_t i = 0; i < p->n_values; i++) {
        if (has_items(&p->values[i])) {
            free(p->values[i].items);
        }
    }
    free(p->values);
    free(p->stack);
    free(p->marks);
    free(p->memo);
    *p = (pickle){0};
}
