// OME-XML read and written. The scanner takes whatever it is given: what is no tag is passed over, what is cut off
// ends it.
#include "cli/image/ome.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/image/units.h"

enum { MAX_PLANES = 1000000, MAX_NAMES = 64 };

// ---- Tags and attributes ----------------------------------------------------------------------------

typedef struct tag {
    const char *name, *end;     // `end`: at the closing '>'
    size_t n;                   // letters of the name, without prefix
    int is_closing;             // </name>
} tag;

static int is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The next tag at or after *p, which is moved behind it; 0: there is none. Comments, declarations and CDATA are
// passed over.
static int next_tag(const char **p, tag *t)
{
    for (const char *at = strchr(*p, '<'); at != NULL; at = strchr(at, '<')) {
        const char *closing = NULL;
        if (strncmp(at, "<!--", 4) == 0) {
            closing = "-->";
        } else if (strncmp(at, "<![CDATA[", 9) == 0) {
            closing = "]]>";
        } else if (at[1] == '?' || at[1] == '!') {
            closing = ">";
        }
        if (closing != NULL) {
            if ((at = strstr(at, closing)) == NULL) {
                return 0;
            }
            continue;
        }
        t->is_closing = at[1] == '/';
        t->name = at + 1 + t->is_closing;
        t->n = strcspn(t->name, " \t\r\n/><");
        const char *colon = memchr(t->name, ':', t->n);
        if (colon != NULL) {
            t->n -= (size_t)(colon + 1 - t->name);
            t->name = colon + 1;
        }
        const char *end = t->name + t->n;
        while (*end != '\0' && *end != '>') {       // '>' may stand between quotes
            if (*end == '"' || *end == '\'') {
                end = strchr(end + 1, *end);
                if (end == NULL) {
                    return 0;
                }
            }
            end++;
        }
        if (*end == '\0') {
            return 0;
        }
        t->end = end;
        *p = end + 1;
        return 1;
    }
    return 0;
}

static int is_named(const tag *t, const char *name)
{
    return t->n == strlen(name) && memcmp(t->name, name, t->n) == 0;
}

static size_t put_utf8(char *dst, unsigned long c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xc0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xe0 | c >> 12);
        dst[1] = (char)(0x80 | (c >> 6 & 0x3f));
        dst[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    dst[0] = (char)(0xf0 | c >> 18);
    dst[1] = (char)(0x80 | (c >> 12 & 0x3f));
    dst[2] = (char)(0x80 | (c >> 6 & 0x3f));
    dst[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

// One character of a value, which may be written as an entity; one that is not known stays as it is written.
static size_t decode(const char **p, const char *end, char dst[4])
{
    static const struct {
        const char *text;
        char c;
    } known[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    const char *s = *p;
    for (size_t i = 0; s[0] == '&' && i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(s, known[i].text, strlen(known[i].text)) == 0) {
            *p += strlen(known[i].text);
            dst[0] = known[i].c;
            return 1;
        }
    }
    if (s[0] == '&' && s[1] == '#') {
        char *stop;
        int hex = s[2] == 'x';
        unsigned long c = strtoul(s + 2 + hex, &stop, hex ? 16 : 10);
        if (*stop == ';' && stop < end && c >= 32 && c < 0x110000 && (c < 0xd800 || c > 0xdfff)) {
            *p = stop + 1;
            return put_utf8(dst, c);
        }
    }
    *p += 1;
    dst[0] = (unsigned char)s[0] < 32 ? ' ' : s[0];
    return 1;
}

// Value of an attribute, cut to `size` bytes; 0: there is none.
static int attribute(const tag *t, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    const char *p = t->name + t->n;
    value[0] = '\0';
    while (p < t->end) {
        const char *name = p;
        while (p < t->end && !is_space(*p) && *p != '=' && *p != '"' && *p != '\'') {
            p++;
        }
        size_t length = (size_t)(p - name);
        while (p < t->end && is_space(*p)) {
            p++;
        }
        if (p < t->end && *p == '=') {
            p++;
            while (p < t->end && is_space(*p)) {
                p++;
            }
        } else if (p == name && p < t->end && *p != '"' && *p != '\'') {
            p++;
        }
        if (p >= t->end || (*p != '"' && *p != '\'')) {
            continue;
        }
        const char *from = p + 1, *end = memchr(from, *p, (size_t)(t->end - from));
        if (end == NULL) {
            return 0;
        }
        p = end + 1;
        if (length == n && memcmp(name, key, n) == 0) {
            size_t at = 0;
            char c[4];
            while (from < end) {
                size_t m = decode(&from, end, c);
                if (at + m >= size) {
                    break;
                }
                memcpy(value + at, c, m);
                at += m;
            }
            value[at] = '\0';
            return 1;
        }
    }
    return 0;
}

static int64_t number(const tag *t, const char *key, int64_t low, int64_t otherwise)
{
    char value[32];
    if (!attribute(t, key, value, sizeof value)) {
        return otherwise;
    }
    long long n = strtoll(value, NULL, 10);
    return n >= low && n <= 1000000000 ? n : otherwise;
}

static double measure(const tag *t, const char *key, double (*unit_of)(const char *))
{
    char value[64], unit_key[64];
    double size = attribute(t, key, value, sizeof value) ? units_positive(value) : 0;
    snprintf(unit_key, sizeof unit_key, "%sUnit", key);
    return attribute(t, unit_key, value, sizeof value) ? size * unit_of(value) : size;
}

// ---- Reading ----------------------------------------------------------------------------------------

static void read_pixels(ome_image *o, const tag *t)
{
    static const char axes[] = "CZT";
    char order[16];
    o->sizes[OME_C] = number(t, "SizeC", 1, 1);
    o->sizes[OME_Z] = number(t, "SizeZ", 1, 1);
    o->sizes[OME_T] = number(t, "SizeT", 1, 1);
    o->pixel_width = measure(t, "PhysicalSizeX", units_length);
    o->pixel_height = measure(t, "PhysicalSizeY", units_length);
    o->spacing = measure(t, "PhysicalSizeZ", units_length);
    o->interval = measure(t, "TimeIncrement", units_time);
    for (int i = 0; i < 3; i++) {
        o->order[i] = i;
    }
    if (attribute(t, "DimensionOrder", order, sizeof order) && strlen(order) == 5) {
        int found[3], n = 0;
        for (int i = 2; i < 5; i++) {
            const char *a = strchr(axes, order[i]);
            if (a != NULL && *a != '\0' && strchr(order + i + 1, order[i]) == NULL) {
                found[n++] = (int)(a - axes);
            }
        }
        if (n == 3) {
            memcpy(o->order, found, sizeof found);
        }
    }
}

static int add_block(ome_image *o, const tag *t)
{
    if (o->n_blocks == MAX_PLANES) {
        return 0;
    }
    if ((o->n_blocks & (o->n_blocks - 1)) == 0) {       // room doubles
        ome_block *more = realloc(o->blocks, (size_t)(o->n_blocks > 0 ? 2 * o->n_blocks : 1) * sizeof *more);
        if (more == NULL) {
            return 0;
        }
        o->blocks = more;
    }
    int64_t page = number(t, "IFD", 0, -1);
    o->blocks[o->n_blocks++] = (ome_block){
        .page = page < 0 ? 0 : page,
        .first = {number(t, "FirstC", 0, 0), number(t, "FirstZ", 0, 0), number(t, "FirstT", 0, 0)},
        .count = number(t, "PlaneCount", 0, page < 0 ? 0 : 1),
    };
    return 1;
}

static void add_name(ome_image *o, const tag *t)
{
    if (o->n_names == MAX_NAMES) {
        return;
    }
    if (o->names == NULL && (o->names = calloc(MAX_NAMES, sizeof *o->names)) == NULL) {
        return;
    }
    attribute(t, "Name", o->names[o->n_names], sizeof o->names[0]);
    o->n_names++;
}

int ome_read(ome_image *o, const char *text, const char *file_name)
{
    const char *p = text;
    tag t;
    char name[512], only[512] = "";
    int in_first = 0, ours = 0, files = 0, whole = 1;
    memset(o, 0, sizeof *o);
    if (text == NULL || strstr(text, "OME") == NULL) {
        return 0;
    }
    while (whole && next_tag(&p, &t)) {
        if (t.is_closing) {
            in_first = in_first && !is_named(&t, "Pixels");
        } else if (is_named(&t, "Pixels")) {
            in_first = ++o->n_images == 1 && t.end[-1] != '/';
            if (o->n_images == 1) {
                read_pixels(o, &t);
            }
        } else if (in_first && is_named(&t, "Channel")) {
            add_name(o, &t);
        } else if (in_first && is_named(&t, "TiffData")) {
            whole = add_block(o, &t);
        } else if (in_first && is_named(&t, "UUID") && o->n_blocks > 0 &&
                   attribute(&t, "FileName", name, sizeof name)) {
            o->blocks[o->n_blocks - 1].is_elsewhere = strcmp(name, file_name) != 0;
            ours += strcmp(name, file_name) == 0;
            if (strcmp(name, only) != 0) {
                files++;
                memcpy(only, name, sizeof only);
            }
        }
    }
    if (ours == 0 && files <= 1) {      // one file that has been renamed since
        for (int64_t i = 0; i < o->n_blocks; i++) {
            o->blocks[i].is_elsewhere = 0;
        }
    }
    if (o->n_images == 0 || !whole) {
        ome_free(o);
        return 0;
    }
    return 1;
}

void ome_free(ome_image *o)
{
    free(o->names);
    free(o->blocks);
    memset(o, 0, sizeof *o);
}

// ---- Pages ------------------------------------------------------------------------------------------

// Puts the pages of one block into the grid [T][Z][C]; 0: they are not there.
static int map_block(const ome_image *o, const ome_block *b, const int64_t size[3], int64_t samples,
                     int64_t n_pages, int64_t *grid)
{
    int64_t total = size[0] * size[1] * size[2], at = 0, stride = 1;
    for (int i = 0; i < 3; i++) {               // place of the first plane in file order
        int axis = o->order[i];
        int64_t first = axis == OME_C ? b->first[axis] / samples : b->first[axis];
        if (first >= size[axis]) {
            return 0;
        }
        at += first * stride;
        stride *= size[axis];
    }
    int64_t count = b->count > 0 ? b->count : total - at;
    if (count > total - at || b->page > n_pages - count) {
        return 0;
    }
    for (int64_t k = 0; k < count; k++) {
        int64_t index[3], left = at + k;
        for (int i = 0; i < 3; i++) {
            index[o->order[i]] = left % size[o->order[i]];
            left /= size[o->order[i]];
        }
        int64_t *place = &grid[(index[OME_T] * size[OME_Z] + index[OME_Z]) * size[OME_C] + index[OME_C]];
        if (*place >= 0) {                      // a plane has one page; so the work is bounded, too
            return 0;
        }
        *place = b->page + k;
    }
    return 1;
}

int64_t *ome_pages(const ome_image *o, int64_t n_pages, int64_t samples, int64_t first[3], int64_t size[3])
{
    int64_t whole[3] = {o->sizes[OME_C], o->sizes[OME_Z], o->sizes[OME_T]};
    whole[OME_C] = whole[OME_C] % samples == 0 ? whole[OME_C] / samples : whole[OME_C];
    if (whole[0] > MAX_PLANES || whole[1] > MAX_PLANES / whole[0] || whole[2] > MAX_PLANES / (whole[0] * whole[1])) {
        return NULL;
    }
    int64_t total = whole[0] * whole[1] * whole[2], last[3] = {-1, -1, -1}, n = 0;
    int64_t *grid = malloc((size_t)total * sizeof *grid);
    if (grid == NULL) {
        return NULL;
    }
    memset(grid, 0xff, (size_t)total * sizeof *grid);   // -1: not in this file
    ome_block all = {0};
    int ok = o->n_blocks > 0 || map_block(o, &all, whole, samples, n_pages, grid);
    for (int64_t i = 0; ok && i < o->n_blocks; i++) {
        ok = o->blocks[i].is_elsewhere || map_block(o, &o->blocks[i], whole, samples, n_pages, grid);
    }
    first[0] = first[1] = first[2] = INT64_MAX;
    for (int64_t i = 0; i < total; i++) {
        int64_t index[3] = {i % whole[0], i / whole[0] % whole[1], i / whole[0] / whole[1]};
        n += grid[i] >= 0;
        for (int a = 0; grid[i] >= 0 && a < 3; a++) {
            first[a] = index[a] < first[a] ? index[a] : first[a];
            last[a] = index[a] > last[a] ? index[a] : last[a];
        }
    }
    for (int a = 0; a < 3; a++) {
        size[a] = last[a] + 1 - first[a];
    }
    if (!ok || n == 0 || size[0] * size[1] * size[2] != n) {
        free(grid);
        return NULL;
    }
    int64_t at = 0;                     // the box moves to the front: every plane to an earlier place, or its own
    for (int64_t t = 0; t < size[OME_T]; t++) {
        for (int64_t z = 0; z < size[OME_Z]; z++) {
            for (int64_t c = 0; c < size[OME_C]; c++) {
                grid[at++] = grid[((first[OME_T] + t) * whole[OME_Z] + first[OME_Z] + z) * whole[OME_C] +
                                  first[OME_C] + c];
            }
        }
    }
    return grid;
}

// ---- Writing ----------------------------------------------------------------------------------------

// Text fit for XML: the special characters as entities, control characters as blanks.
static void put_escaped(FILE *f, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        const char *as = *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : *p == '&' ? "&amp;" : *p == '"' ? "&quot;" : NULL;
        if (as != NULL) {
            fputs(as, f);
        } else {
            fputc((unsigned char)*p < 32 ? ' ' : *p, f);
        }
    }
}

static void put_measure(FILE *f, const char *key, double value, const char *unit)
{
    if (value > 0) {
        fprintf(f, " %s=\"%.9g\" %sUnit=\"%s\"", key, value, key, unit);
    }
}

char *ome_write(const image_layout *l, const char *const *names, const char *info, const char *creator)
{
    static const uint32_t colours[] = {0x00ff00ff, 0xff00ffff, 0x00ffffff, 0xffff00ff,
                                       0xff0000ff, 0x0000ffff, 0xff8000ff, 0xffffffff};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL) {
        return NULL;
    }
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<OME xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\""
          " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\""
          "http://www.openmicroscopy.org/Schemas/OME/2016-06 http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd\""
          " Creator=\"", f);
    put_escaped(f, creator);
    fputs("\">\n<Image ID=\"Image:0\">\n", f);
    if (info != NULL && info[0] != '\0') {
        fputs("<Description>", f);
        put_escaped(f, info);
        fputs("</Description>\n", f);
    }
    fprintf(f,
            "<Pixels ID=\"Pixels:0\" DimensionOrder=\"XYCZT\" Type=\"%s\" BigEndian=\"false\" SizeX=\"%" PRId64
            "\" SizeY=\"%" PRId64 "\" SizeC=\"%" PRId64 "\" SizeZ=\"%" PRId64 "\" SizeT=\"%" PRId64 "\"",
            l->type == USPLIT_TYPE_U8 ? "uint8" : l->type == USPLIT_TYPE_U16 ? "uint16" : "float", l->width, l->height,
            l->channels, l->slices, l->frames);
    put_measure(f, "PhysicalSizeX", l->pixel_width, "\xc2\xb5m");
    put_measure(f, "PhysicalSizeY", l->pixel_height, "\xc2\xb5m");
    put_measure(f, "PhysicalSizeZ", l->spacing, "\xc2\xb5m");
    put_measure(f, "TimeIncrement", l->interval, "s");
    fputs(">\n", f);
    for (int64_t c = 0; c < l->channels; c++) {
        fprintf(f, "<Channel ID=\"Channel:0:%" PRId64 "\" SamplesPerPixel=\"1\"", c);
        if (names[c] != NULL) {
            fputs(" Name=\"", f);
            put_escaped(f, names[c]);
            fputs("\"", f);
        }
        if (l->channels > 1) {
            fprintf(f, " Color=\"%" PRId32 "\"", (int32_t)colours[c % 8]);
        }
        fputs("/>\n", f);
    }
    fprintf(f, "<TiffData IFD=\"0\" PlaneCount=\"%" PRId64 "\"/>\n</Pixels>\n</Image>\n</OME>\n",
            l->channels * l->slices * l->frames);
    int failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
