// The directories of a TIFF that we write, as bytes: little-endian, classic or BigTIFF, and on the first page
// OME-XML, or ImageJ's description and metadata (channel names, display ranges, colours).
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/describe.h"
#include "cli/image/tiff_writer.h"

typedef struct bytes {          // grows; `failed` sticks
    unsigned char *data;
    size_t n, room;
    int failed;
} bytes;

// ---- A buffer of little-endian values ---------------------------------------------------------------

static void put_bytes(bytes *b, const void *src, size_t n)
{
    if (b->n + n > b->room) {
        size_t room = 2 * (b->n + n) + 256;
        unsigned char *more = realloc(b->data, room);
        if (more == NULL) {
            b->failed = 1;
            return;
        }
        b->data = more;
        b->room = room;
    }
    if (n > 0) {
        memcpy(b->data + b->n, src, n);
    }
    b->n += n;
}

static void put_value(bytes *b, uint64_t value, int size)
{
    unsigned char le[8];
    for (int i = 0; i < size; i++) {
        le[i] = (unsigned char)(value >> 8 * i);
    }
    put_bytes(b, le, (size_t)size);
}

static void put_real(bytes *b, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_value(b, bits, 8);
}

// ---- Directories ------------------------------------------------------------------------------------

enum { TAG_BYTE = 1, TAG_ASCII = 2, TAG_SHORT = 3, TAG_LONG = 4, TAG_RATIONAL = 5, TAG_LONG8 = 16 };

typedef struct directory {
    int is_big;
    uint64_t extra_at;          // file offset of `extra`
    bytes entries, extra;
    int n;
} directory;

static int type_bytes(int type)
{
    return type == TAG_SHORT ? 2 : type == TAG_LONG ? 4 : type == TAG_RATIONAL || type == TAG_LONG8 ? 8 : 1;
}

// One entry; src holds count values, little-endian already.
static void put_entry(directory *d, int tag, int type, uint64_t count, const bytes *src)
{
    int room = d->is_big ? 8 : 4;
    put_value(&d->entries, (uint64_t)tag, 2);
    put_value(&d->entries, (uint64_t)type, 2);
    put_value(&d->entries, count, room);
    if (count * (uint64_t)type_bytes(type) <= (uint64_t)room) {
        put_bytes(&d->entries, src->data, src->n);
        put_value(&d->entries, 0, room - (int)src->n);
    } else {
        put_value(&d->entries, d->extra_at + d->extra.n, room);
        put_bytes(&d->extra, src->data, src->n);
        put_value(&d->extra, 0, (int)(-src->n & 7));
    }
    d->n++;
}

static void put_number(directory *d, int tag, int type, uint64_t value)
{
    bytes b = {0};
    put_value(&b, value, type_bytes(type));
    put_entry(d, tag, type, 1, &b);
    d->entries.failed |= b.failed;
    free(b.data);
}

static void put_text(directory *d, int tag, const char *text)
{
    bytes b = {0};
    put_bytes(&b, text, strlen(text) + 1);
    put_entry(d, tag, TAG_ASCII, b.n, &b);
    d->entries.failed |= b.failed;
    free(b.data);
}

// Pixels per micrometre (ImageJ), or per centimetre (OME), as a fraction.
static void put_resolution(directory *d, const tiff_writer *w, int tag, double micrometres)
{
    double per = micrometres > 0 ? (w->ome != NULL ? 1e4 : 1) / micrometres : 1;
    per = per < 4e9 ? per : 4e9;
    uint64_t below = 1;
    while (below < 100000000 && per * (double)below * 10 < 4e9) {
        below *= 10;
    }
    bytes b = {0};
    put_value(&b, (uint64_t)llround(per * (double)below), 4);
    put_value(&b, below, 4);
    put_entry(d, tag, TAG_RATIONAL, 1, &b);
    d->entries.failed |= b.failed;
    free(b.data);
}

static void put_strips(directory *d, const tiff_writer *w, int tag, int64_t page)
{
    bytes b = {0};
    int type = w->is_big ? TAG_LONG8 : TAG_LONG;
    int64_t row_bytes = w->layout.width * w->sample_bytes;
    for (int64_t s = 0; s < w->strips; s++) {
        int64_t row = s * w->rows_per_strip;
        int64_t rows =
            w->layout.height - row < w->rows_per_strip ? w->layout.height - row : w->rows_per_strip;
        int64_t at = w->data_at + page * w->page_bytes + row * row_bytes;
        put_value(&b, (uint64_t)(tag == 273 ? at : rows * row_bytes), type_bytes(type));
    }
    put_entry(d, tag, type, (uint64_t)w->strips, &b);
    d->entries.failed |= b.failed;
    free(b.data);
}

// UTF-8 to UTF-16; what is not UTF-8 becomes '?'.
static void put_utf16(bytes *b, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0';) {
        uint32_t c = *p++;
        int more = c >= 0xf0 && c < 0xf8 ? 3 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xc0 && c < 0xe0 ? 1 : 0;
        if (c >= 0x80 && more == 0) {
            c = '?';
        }
        c = more > 0 ? c & (0x3fu >> more) : c;
        for (; more > 0 && (*p & 0xc0) == 0x80; more--) {
            c = c << 6 | (*p++ & 0x3f);
        }
        if (more > 0 || c > 0x10ffff) {
            c = '?';
        }
        if (c >= 0x10000) {
            put_value(b, 0xd800 + ((c - 0x10000) >> 10), 2);
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        put_value(b, c, 2);
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Display range of a channel: 0.35 % of the values kept lie outside on either side, as ImageJ's Auto has it.
static void display_range(const tiff_writer *w, int64_t channel, double *low, double *high)
{
    int64_t n = w->n_kept[channel];
    *low = 0;
    *high = 255;
    if (n > 0) {
        float *sorted = w->kept[channel];
        qsort(sorted, (size_t)n, sizeof *sorted, by_value);
        *low = (double)sorted[(int64_t)(0.0035 * (double)(n - 1))];
        *high = (double)sorted[(int64_t)(0.9965 * (double)(n - 1))];
    }
    if (!(*high > *low)) {
        *high = *low + 1;
    }
}

// Tags 50838 and 50839: info, slice labels (channel names), display ranges and colours, in ImageJ's order.
static void put_imagej(directory *d, const tiff_writer *w)
{
    static const int colours[][3] = {{0, 255, 0}, {255, 0, 255}, {0, 255, 255}, {255, 255, 0},
                                     {255, 0, 0}, {0, 0, 255},   {255, 128, 0}, {255, 255, 255}};
    bytes counts = {0}, body = {0}, head = {0}, scratch = {0};
    int64_t n = w->layout.channels;
    int named = w->names[0] != NULL;
    put_value(&head, 0x494a494a, 4);                    // "IJIJ"
    if (w->info != NULL) {
        put_utf16(&scratch, w->info);
        put_value(&head, 0x696e666f, 4);                // "info"
        put_value(&head, 1, 4);
    }
    if (named) {
        put_value(&head, 0x6c61626c, 4);                // "labl"
        put_value(&head, (uint64_t)w->pages, 4);
    }
    put_value(&head, 0x72616e67, 4);                    // "rang"
    put_value(&head, 1, 4);
    put_value(&head, 0x6c757473, 4);                    // "luts"
    put_value(&head, (uint64_t)n, 4);
    put_value(&counts, head.n, 4);
    if (w->info != NULL) {
        put_value(&counts, scratch.n, 4);
        put_bytes(&body, scratch.data, scratch.n);
    }
    for (int64_t page = 0; named && page < w->pages; page++) {
        size_t before = body.n;
        put_utf16(&body, w->names[page % n] != NULL ? w->names[page % n] : "");
        put_value(&counts, body.n - before, 4);
    }
    put_value(&counts, (uint64_t)(16 * n), 4);
    for (int64_t c = 0; c < n; c++) {
        double low, high;
        display_range(w, c, &low, &high);
        put_real(&body, low);
        put_real(&body, high);
    }
    for (int64_t c = 0; c < n; c++) {
        put_value(&counts, 768, 4);
        for (int k = 0; k < 768; k++) {
            int full = n == 1 ? 255 : colours[c % 8][k / 256];
            put_value(&body, (uint64_t)(k % 256 * full / 255), 1);
        }
    }
    put_bytes(&head, body.data, body.n);
    put_entry(d, 50838, TAG_LONG, counts.n / 4, &counts);
    put_entry(d, 50839, TAG_BYTE, head.n, &head);
    d->entries.failed |= counts.failed | body.failed | head.failed | scratch.failed;
    free(counts.data);
    free(body.data);
    free(head.data);
    free(scratch.data);
}

static void put_description(directory *d, const tiff_writer *w)
{
    if (w->ome != NULL) {
        put_text(d, 270, w->ome);
        return;
    }
    char text[TIFF_DESCRIPTION_ROOM];
    const image_layout *l = &w->layout;
    image_labels labels = {l->channels, l->slices,   l->frames, l->pixel_width > 0,
                           l->spacing,  l->interval, 0,         0};
    display_range(w, 0, &labels.low, &labels.high);
    describe_write(text, sizeof text, &labels);
    put_text(d, 270, text);
}

// Appends the directory of one page at b->n.
static void put_directory(bytes *b, const tiff_writer *w, int64_t page)
{
    directory d = {.is_big = w->is_big};
    int n = 14 + (page > 0 ? 0 : w->ome != NULL ? 1 : 3);
    size_t length = w->is_big ? 8 + 20 * (size_t)n + 8 : 2 + 12 * (size_t)n + 4;
    length += -length & 7;
    d.extra_at = b->n + length;
    put_number(&d, 254, TAG_LONG, 0);
    put_number(&d, 256, TAG_LONG, (uint64_t)w->layout.width);
    put_number(&d, 257, TAG_LONG, (uint64_t)w->layout.height);
    put_number(&d, 258, TAG_SHORT, (uint64_t)(8 * w->sample_bytes));
    put_number(&d, 259, TAG_SHORT, 1);                  // not compressed
    put_number(&d, 262, TAG_SHORT, 1);                  // min is black
    if (page == 0) {
        put_description(&d, w);
    }
    put_strips(&d, w, 273, page);
    put_number(&d, 277, TAG_SHORT, 1);
    put_number(&d, 278, TAG_LONG, (uint64_t)w->rows_per_strip);
    put_strips(&d, w, 279, page);
    put_resolution(&d, w, 282, w->layout.pixel_width);
    put_resolution(&d, w, 283, w->layout.pixel_height);
    put_number(&d, 296, TAG_SHORT, w->ome != NULL && w->layout.pixel_width > 0 ? 3 : 1);   // ImageJ: see text
    put_number(&d, 339, TAG_SHORT, w->layout.type == USPLIT_TYPE_F32 ? 3 : 1);
    if (page == 0 && w->ome == NULL) {
        put_imagej(&d, w);
    }
    uint64_t next = page + 1 < w->pages ? d.extra_at + d.extra.n : 0;
    size_t start = b->n;
    put_value(b, (uint64_t)d.n, w->is_big ? 8 : 2);
    put_bytes(b, d.entries.data, d.entries.n);
    put_value(b, next, w->is_big ? 8 : 4);
    while (b->n < start + length && !b->failed) {
        put_value(b, 0, 1);
    }
    put_bytes(b, d.extra.data, d.extra.n);
    b->failed |= d.entries.failed | d.extra.failed | (d.n != n);
    free(d.entries.data);
    free(d.extra.data);
}

unsigned char *tiff_build_header(const tiff_writer *w, int64_t *n)
{
    bytes header = {0}, *b = &header;
    put_bytes(b, "II", 2);
    put_value(b, w->is_big ? 43 : 42, 2);
    if (w->is_big) {
        put_value(b, 8, 2);
        put_value(b, 0, 2);
    }
    put_value(b, w->is_big ? 16 : 8, w->is_big ? 8 : 4);
    for (int64_t page = 0; page < w->pages && !b->failed; page++) {
        put_directory(b, w, page);
    }
    if (b->failed) {
        free(b->data);
        return NULL;
    }
    *n = (int64_t)b->n;
    return b->data;
}
