// Units by name.
#include "cli/image/units.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const char *name;
    double size;
} unit;

static double find(const unit *units, const char *name)
{
    for (; units->name != NULL; units++) {
        if (strcmp(name, units->name) == 0) {
            return units->size;
        }
    }
    return 0;
}

double units_length(const char *name)
{
    static const unit lengths[] = {
        {"micron", 1},       {"microns", 1},     {"um", 1},          {"\\u00B5m", 1},     {"\xc2\xb5m", 1},
        {"\xce\xbcm", 1},    {"\xb5m", 1},       {"micrometer", 1},  {"micrometre", 1},   {"nm", 1e-3},
        {"nanometer", 1e-3}, {"pm", 1e-6},       {"mm", 1e3},        {"millimeter", 1e3}, {"cm", 1e4},
        {"centimeter", 1e4}, {"m", 1e6},         {"meter", 1e6},     {"inch", 25400},     {"in", 25400},
        {"\xc3\x85", 1e-4},  {"angstrom", 1e-4}, {NULL, 0},
    };
    return find(lengths, name);
}

double units_time(const char *name)
{
    static const unit times[] = {{"s", 1},      {"sec", 1},    {"second", 1},  {"seconds", 1}, {"ms", 1e-3},
                                 {"msec", 1e-3}, {"millisecond", 1e-3},        {"us", 1e-6},   {"\xc2\xb5s", 1e-6},
                                 {"min", 60},   {"minute", 60}, {"h", 3600},   {"hour", 3600}, {"d", 86400},
                                 {NULL, 0}};
    return find(times, name);
}

double units_positive(const char *text)
{
    double x = strtod(text, NULL);
    return isfinite(x) && x > 0 && x < 1e12 ? x : 0;
}
