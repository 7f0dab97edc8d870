// The option table's reader and its help text.
#include "cli/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int read_real(const char *text, double *value, const char **end)
{
    char *stop;
    errno = 0;
    *value = strtod(text, &stop);
    *end = stop;
    return stop != text && errno == 0 && isfinite(*value);
}

static int set_number(const arg_spec *spec, const char *text)
{
    double value;
    const char *end;
    int whole = spec->kind == ARG_INT;
    if (!read_real(text, &value, &end) || *end != '\0' || (whole && value != floor(value))) {
        return cli_error(CLI_USAGE, "%s: '%s' is not a %s", spec->name, text,
                         whole ? "whole number" : "number");
    }
    if (value < spec->low || value > spec->high) {
        return cli_error(CLI_USAGE, "%s: %s is outside %.10g to %.10g", spec->name, text, spec->low,
                         spec->high);
    }
    if (whole) {
        *(int64_t *)spec->target = (int64_t)value;
    } else {
        *(double *)spec->target = value;
    }
    return CLI_OK;
}

static int set_bytes(const arg_spec *spec, const char *text)
{
    double value;
    const char *end;
    static const char units[] = "KMGT";
    if (read_real(text, &value, &end) && value > 0) {
        const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
        if (unit != NULL) {
            value = ldexp(value, 10 * (int)(unit - units + 1));
            end++;
        }
        if ((*end == 'B' || *end == 'b') && end[1] == '\0') {
            end++;
        }
        if (*end == '\0' && value < 1e18) {
            *(int64_t *)spec->target = (int64_t)value;
            return CLI_OK;
        }
    }
    return cli_error(CLI_USAGE, "%s: '%s' is not a size like 800M or 4G", spec->name, text);
}

static int set_choice(const arg_spec *spec, const char *text)
{
    size_t length = strlen(text);
    int place = 0;
    for (const char *p = spec->value; p != NULL; place++) {
        const char *bar = strchr(p, '|');
        size_t n = bar != NULL ? (size_t)(bar - p) : strlen(p);
        if (n == length && memcmp(p, text, n) == 0) {
            *(int *)spec->target = place;
            return CLI_OK;
        }
        p = bar != NULL ? bar + 1 : NULL;
    }
    return cli_error(CLI_USAGE, "%s: '%s' is not one of %s", spec->name, text, spec->value);
}

static int add_to_list(arg_list *list, const char *text)
{
    if (list->n >= (int)(sizeof list->items / sizeof list->items[0])) {
        return cli_error(CLI_USAGE, "more than %d values; name a folder instead", list->n);
    }
    list->items[list->n++] = text;
    return CLI_OK;
}

static int set_value(const arg_spec *spec, const char *text)
{
    switch (spec->kind) {
    case ARG_TEXT:
        if (*text == '\0') {
            return cli_error(CLI_USAGE, "%s: the value is empty", spec->name);
        }
        *(const char **)spec->target = text;
        return CLI_OK;
    case ARG_LIST: return add_to_list(spec->target, text);
    case ARG_BYTES: return set_bytes(spec, text);
    case ARG_CHOICE: return set_choice(spec, text);
    default: return set_number(spec, text);
    }
}

static const arg_spec *find(const arg_spec *specs, const char *name, size_t length)
{
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if ((strlen(s->name) == length && memcmp(s->name, name, length) == 0) ||
            (s->alias != NULL && strlen(s->alias) == length && memcmp(s->alias, name, length) == 0)) {
            return s->kind != 0 ? s : NULL;
        }
    }
    return NULL;
}

static void print_help(const arg_usage *usage, const arg_spec *specs)
{
    printf("usplit %s %s\n\n%s\n\n", usage->command, usage->line, usage->what);
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if (s->kind == 0) {
            printf("%s%s:\n", s == specs ? "" : "\n", s->name);
            continue;
        }
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", s->alias != NULL ? s->alias : "",
                 s->alias != NULL ? ", " : "", s->name, s->value != NULL ? " " : "",
                 s->value != NULL ? s->value : "");
        if (strlen(left) <= 24) {
            printf("  %-24s %s\n", left, s->help);
        } else {
            printf("  %s\n  %-24s %s\n", left, "", s->help);
        }
    }
    printf("\nExample:\n  %s\n", usage->example);
}

static void (*observer)(const arg_usage *, const arg_spec *, void *);
static void *observer_user;

void args_observe(void (*see)(const arg_usage *usage, const arg_spec *specs, void *user), void *user)
{
    observer = see;
    observer_user = user;
}

int args_parse(const arg_usage *usage, const arg_spec *specs, int argc, char **argv, arg_list *rest)
{
    int options = 1;
    rest->n = 0;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i];
        int rc;
        if (!options || text[0] != '-' || text[1] == '\0') {
            if ((rc = add_to_list(rest, text)) != 0) {
                return rc;
            }
            continue;
        }
        if (strcmp(text, "--") == 0) {
            options = 0;
            continue;
        }
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
            if (observer != NULL) {
                observer(usage, specs, observer_user);
            } else {
                print_help(usage, specs);
            }
            return ARGS_HELP;
        }
        const char *equals = strncmp(text, "--", 2) == 0 ? strchr(text, '=') : NULL;
        size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
        const arg_spec *spec = find(specs, text, length);
        if (spec == NULL) {
            return cli_error(CLI_USAGE, "unknown option %.*s; see usplit %s --help", (int)length, text,
                             usage->command);
        }
        if (spec->kind == ARG_FLAG) {
            if (equals != NULL) {
                return cli_error(CLI_USAGE, "%s takes no value", spec->name);
            }
            *(int *)spec->target = 1;
            continue;
        }
        if (equals == NULL && i + 1 >= argc) {
            return cli_error(CLI_USAGE, "%s needs a value (%s)", spec->name, spec->value);
        }
        const char *value = equals != NULL ? equals + 1 : argv[++i];
        if ((rc = set_value(spec, value)) != 0) {
            return rc;
        }
    }
    return CLI_OK;
}

int args_only_out(const arg_list *rest, const char *out)
{
    if (rest->n > 0) {
        return cli_error(CLI_USAGE, "takes options only, not '%s'", rest->items[0]);
    }
    return out != NULL ? CLI_OK : cli_error(CLI_USAGE, "where to? -o folder is missing");
}

int args_one_model(const arg_list *rest, const arg_list *channels)
{
    if (rest->n != 1) {
        return cli_error(CLI_USAGE, "%s", rest->n == 0 ? "which model? model.h5 is missing" :
                         "one model at a time; images are named with --channel");
    }
    return channels->n >= 2 ? CLI_OK : cli_error(CLI_USAGE, "give every channel: --channel A --channel B");
}

int args_split(const char *text, char separator, arg_list *parts, char **storage)
{
    *storage = cli_format("%s", text);
    parts->n = 0;
    for (char *p = *storage; p != NULL;) {
        char *next = strchr(p, separator);
        if (next != NULL) {
            *next++ = '\0';
        }
        if (*p == '\0') {
            return cli_error(CLI_USAGE, "'%s' has an empty part", text);
        }
        int rc = add_to_list(parts, p);
        if (rc != 0) {
            return rc;
        }
        p = next;
    }
    return CLI_OK;
}

int args_range(const char *option, const char *text, int64_t *first, int64_t *end)
{
    const char *p = text;
    char *stop;
    *first = 0;
    *end = INT64_MAX;
    errno = 0;
    if (isdigit((unsigned char)*p)) {
        *first = strtoll(p, &stop, 10);
        p = stop;
    }
    if (*p == ':') {
        p++;
        if (isdigit((unsigned char)*p)) {
            *end = strtoll(p, &stop, 10);
            p = stop;
        }
    } else {
        *end = *first + 1;
    }
    if (*p != '\0' || p == text || errno != 0 || *first >= *end) {
        return cli_error(CLI_USAGE, "%s: '%s' is not a range like 3:8 (3 to 7, counted from 0)", option,
                         text);
    }
    return CLI_OK;
}
