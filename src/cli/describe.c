// ImageDescription: ImageJ lines and OME-XML attributes.
#include "cli/describe.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Value of "key=" at the start of a line, copied into value; 0 when there is none.
static int line_value(const char *text, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    for (const char *p = text; p != NULL && *p != '\0';) {
        const char *end = strchr(p, '\n');
        if (strncmp(p, key, n) == 0 && p[n] == '=') {
            const char *from = p + n + 1;
            size_t length = end != NULL ? (size_t)(end - from) : strlen(from);
            snprintf(value, size, "%.*s", (int)(length < size ? length : size - 1), from);
            return 1;
        }
        p = end != NULL ? end + 1 : NULL;
    }
    return 0;
}

// Value of an XML attribute: key="value".
static int attribute(const char *text, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    for (const char *p = text; (p = strstr(p, key)) != NULL; p += n) {
        if (p > text && isspace((unsigned char)p[-1]) && p[n] == '=' &&
            (p[n + 1] == '"' || p[n + 1] == '\'')) {
            const char *from = p + n + 2, *end = strchr(from, p[n + 1]);
            if (end == NULL || (size_t)(end - from) >= size) {
                return 0;
            }
            snprintf(value, size, "%.*s", (int)(end - from), from);
            return 1;
        }
    }
    return 0;
}

static int64_t positive(const char *value)
{
    long long n = strtoll(value, NULL, 10);
    return n >= 1 && n <= 1000000000 ? n : 1;
}

static double real_or_0(const char *value)
{
    double x = strtod(value, NULL);
    return isfinite(x) && x > 0 && x < 1e12 ? x : 0;
}

// Micrometres in one of the unit; 0: unknown (pixels, say).
static double unit_size(const char *unit)
{
    static const struct {
        const char *name;
        double size;
    } units[] = {
        {"micron", 1},     {"microns", 1}, {"um", 1},   {"\\u00B5m", 1}, {"\xc2\xb5m", 1}, {"\xce\xbcm", 1},
        {"\xb5m", 1},      {"micrometer", 1}, {"nm", 1e-3}, {"mm", 1e3}, {"cm", 1e4},     {"m", 1e6},
        {"inch", 25400},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].name) == 0) {
            return units[i].size;
        }
    }
    return 0;
}

static void read_imagej(image_axes *axes, const char *text)
{
    char value[64];
    axes->is_imagej = 1;
    axes->images = line_value(text, "images", value, sizeof value) ? positive(value) : 1;
    axes->channels = line_value(text, "channels", value, sizeof value) ? positive(value) : 1;
    axes->slices = line_value(text, "slices", value, sizeof value) ? positive(value) : 1;
    axes->frames = line_value(text, "frames", value, sizeof value) ? positive(value) : 1;
    axes->unit = line_value(text, "unit", value, sizeof value) ? unit_size(value) : 0;
    axes->spacing = line_value(text, "spacing", value, sizeof value) ? axes->unit * real_or_0(value) : 0;
    axes->interval = line_value(text, "finterval", value, sizeof value) ? real_or_0(value) : 0;
}

static double ome_length(const char *text, const char *key, const char *unit_key)
{
    char value[64];
    double size = attribute(text, key, value, sizeof value) ? real_or_0(value) : 0;
    return attribute(text, unit_key, value, sizeof value) ? size * unit_size(value) : size;
}

static void read_ome(image_axes *axes, const char *text)
{
    char value[64], order[64];
    axes->channels = attribute(text, "SizeC", value, sizeof value) ? positive(value) : 1;
    axes->slices = attribute(text, "SizeZ", value, sizeof value) ? positive(value) : 1;
    axes->frames = attribute(text, "SizeT", value, sizeof value) ? positive(value) : 1;
    axes->images = axes->channels * axes->slices;
    axes->images = axes->images <= INT64_MAX / axes->frames ? axes->images * axes->frames : 0;
    if (attribute(text, "DimensionOrder", order, sizeof order)) {
        const char *c = strchr(order, 'C'), *z = strchr(order, 'Z'), *t = strchr(order, 'T');
        if (c != NULL && z != NULL && t != NULL) {
            axes->channel_stride = (z < c ? axes->slices : 1) * (t < c ? axes->frames : 1);
            axes->pages_in_order = z < t || axes->slices == 1 || axes->frames == 1;
        }
    }
    axes->pixel_width = ome_length(text, "PhysicalSizeX", "PhysicalSizeXUnit");
    axes->pixel_height = ome_length(text, "PhysicalSizeY", "PhysicalSizeYUnit");
    axes->spacing = ome_length(text, "PhysicalSizeZ", "PhysicalSizeZUnit");
}

void describe_read(image_axes *axes, const char *text)
{
    memset(axes, 0, sizeof *axes);
    axes->channels = axes->slices = axes->frames = axes->channel_stride = 1;
    axes->pages_in_order = 1;
    if (text == NULL) {
        return;
    }
    if (strncmp(text, "ImageJ=", 7) == 0) {
        read_imagej(axes, text);
    } else if (strstr(text, "<OME") != NULL && strstr(text, "<Pixels") != NULL) {
        read_ome(axes, strstr(text, "<Pixels"));
    }
}

int describe_write(char *text, size_t size, const image_labels *labels)
{
    int n = 0;
    size_t left = size;
#define PUT(...)                                                                            \
    do {                                                                                    \
        n += snprintf(left > 0 ? text + (size - left) : NULL, left, __VA_ARGS__);           \
        left = (size_t)n < size ? size - (size_t)n : 0;                                     \
    } while (0)
    int64_t images = labels->channels * labels->slices * labels->frames;
    PUT("ImageJ=1.53k\nimages=%" PRId64 "\n", images);
    if (labels->channels > 1) {
        PUT("channels=%" PRId64 "\n", labels->channels);
    }
    if (labels->slices > 1) {
        PUT("slices=%" PRId64 "\n", labels->slices);
    }
    if (labels->frames > 1) {
        PUT("frames=%" PRId64 "\n", labels->frames);
    }
    if (labels->channels > 1 || (labels->slices > 1 && labels->frames > 1)) {
        PUT("hyperstack=true\n");
    }
    if (labels->channels > 1) {
        PUT("mode=composite\n");
    }
    if (labels->has_pixel_size) {
        PUT("unit=micron\n");
    }
    if (labels->spacing > 0) {
        PUT("spacing=%.9g\n", labels->spacing);
    }
    if (labels->interval > 0) {
        PUT("finterval=%.9g\n", labels->interval);
    }
    PUT("loop=false\nmin=%.9g\nmax=%.9g\n", labels->low, labels->high);
#undef PUT
    return n;
}
