// ImageDescription: ImageJ lines and the shape of an array.
#include "cli/describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image/units.h"

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

static int64_t positive(const char *value)
{
    long long n = strtoll(value, NULL, 10);
    return n >= 1 && n <= 1000000000 ? n : 1;
}

static void read_imagej(image_axes *axes, const char *text)
{
    char value[64];
    axes->is_imagej = 1;
    axes->images = line_value(text, "images", value, sizeof value) ? positive(value) : 1;
    axes->channels = line_value(text, "channels", value, sizeof value) ? positive(value) : 1;
    axes->slices = line_value(text, "slices", value, sizeof value) ? positive(value) : 1;
    axes->frames = line_value(text, "frames", value, sizeof value) ? positive(value) : 1;
    axes->unit = line_value(text, "unit", value, sizeof value) ? units_length(value) : 0;
    axes->spacing = line_value(text, "spacing", value, sizeof value) ? axes->unit * units_positive(value) : 0;
    axes->interval = line_value(text, "finterval", value, sizeof value) ? units_positive(value) : 0;
}

// {"shape": [3, 64, 64], "axes": "ZYX"}
static void read_shape(image_axes *axes, const char *text)
{
    const char *shape = strstr(text, "\"shape\": ["), *order = strstr(text, "\"axes\": \"");
    if (shape == NULL) {
        return;
    }
    for (const char *p = strchr(shape, '['); (*p == '[' || *p == ',') && axes->n_shape < 8;) {
        char *end;
        axes->shape[axes->n_shape++] = positive(p + 1);
        strtoll(p + 1, &end, 10);
        p = end;
    }
    if (order != NULL) {
        order += strlen("\"axes\": \"");
        size_t n = strcspn(order, "\"");
        snprintf(axes->order, sizeof axes->order, "%.*s", (int)(n < 9 ? n : 0), order);
    }
}

void describe_read(image_axes *axes, const char *text)
{
    memset(axes, 0, sizeof *axes);
    axes->channels = axes->slices = axes->frames = 1;
    if (text == NULL) {
        return;
    }
    if (strncmp(text, "ImageJ=", 7) == 0) {
        read_imagej(axes, text);
    } else if (text[0] == '{') {
        read_shape(axes, text);
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
