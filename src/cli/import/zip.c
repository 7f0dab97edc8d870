// The directory is found from the file's end, read whole, and sorted by name. A member's own header is read when the
// member is: it only says how long it is itself.
#include "cli/import/zip.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"

enum {
    END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20, CENTRAL_BYTES = 46, LOCAL_BYTES = 30,
    END_SIGN = 0x06054b50, END64_SIGN = 0x06064b50, LOCATOR_SIGN = 0x07064b50, CENTRAL_SIGN = 0x02014b50,
    LOCAL_SIGN = 0x04034b50,
    MOST_COMMENT = 65535,
    MOST_DIRECTORY = 16 << 20   // bytes; a checkpoint's is some 100 per array
};

uint64_t zip_number(const unsigned char *bytes, int n_bytes)
{
    uint64_t value = 0;
    for (int i = n_bytes - 1; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

zip_words zip_printable(const char *bytes, size_t length)
{
    zip_words words;
    size_t n = length < sizeof words.text - 1 ? length : sizeof words.text - 1;
    for (size_t i = 0; i < n; i++) {
        words.text[i] = bytes[i] >= ' ' && bytes[i] < 127 ? bytes[i] : '?';
    }
    words.text[n] = '\0';
    return words;
}

static int damaged(const zip_file *zip, const char *what)
{
    return cli_error(CLI_FAILED, "%s is damaged or cut off: %s", zip->path, what);
}

// Bytes [place, place + n) of the file.
static int read_at(const zip_file *zip, uint64_t place, void *dst, uint64_t n)
{
    if (place > zip->size || n > zip->size - place) {
        return damaged(zip, "a part lies beyond its end");
    }
    if (fseeko(zip->file, (off_t)place, SEEK_SET) != 0 || fread(dst, 1, (size_t)n, zip->file) != n) {
        return cli_error(CLI_FAILED, "cannot read %s", zip->path);
    }
    return CLI_OK;
}

// ---- The directory ----------------------------------------------------------------------------------------------

typedef struct directory {
    uint64_t place, size, n;
    uint64_t end;               // where the records after it begin
} directory;

static int find_end(const zip_file *zip, directory *d, unsigned char end[END_BYTES])
{
    uint64_t n = zip->size < END_BYTES + MOST_COMMENT ? zip->size : END_BYTES + MOST_COMMENT;
    unsigned char *tail = cli_alloc((size_t)n, 1);
    int rc = tail == NULL ? CLI_FAILED : read_at(zip, zip->size - n, tail, n);
    int found = 0;
    for (uint64_t i = n >= END_BYTES ? n - END_BYTES + 1 : 0; rc == CLI_OK && !found && i-- > 0;) {
        found = zip_number(tail + i, 4) == END_SIGN && i + END_BYTES + zip_number(tail + i + 20, 2) == n;
        if (found) {
            memcpy(end, tail + i, END_BYTES);
            d->end = zip->size - n + i;
        }
    }
    free(tail);
    return rc != CLI_OK ? rc : found ? CLI_OK : damaged(zip, "the directory of the ZIP archive is missing");
}

// The record of ZIP64, where there is one: the numbers of the usual one may be too small for their fields then.
static int read_end64(const zip_file *zip, directory *d)
{
    unsigned char locator[LOCATOR_BYTES], end[END64_BYTES];
    int rc;
    if (d->end < LOCATOR_BYTES) {
        return CLI_OK;
    }
    CLI_TRY(read_at(zip, d->end - LOCATOR_BYTES, locator, LOCATOR_BYTES));
    if (zip_number(locator, 4) != LOCATOR_SIGN) {
        return CLI_OK;
    }
    uint64_t place = zip_number(locator + 8, 8), limit = d->end - LOCATOR_BYTES;
    if (place > limit || limit - place < END64_BYTES) {
        return damaged(zip, "the ZIP64 record lies where it cannot be");
    }
    CLI_TRY(read_at(zip, place, end, END64_BYTES));
    if (zip_number(end, 4) != END64_SIGN || zip_number(end + 16, 8) != 0) {
        return damaged(zip, "the ZIP64 record is not one");
    }
    *d = (directory){.n = zip_number(end + 32, 8), .size = zip_number(end + 40, 8),
                     .place = zip_number(end + 48, 8), .end = place};
done:
    return rc;
}

static int find_directory(const zip_file *zip, directory *d)
{
    unsigned char end[END_BYTES];
    int rc;
    CLI_TRY(find_end(zip, d, end));
    if (zip_number(end + 4, 4) != 0) {
        return cli_error(CLI_FAILED, "%s is one part of an archive in several", zip->path);
    }
    d->n = zip_number(end + 10, 2);
    d->size = zip_number(end + 12, 4);
    d->place = zip_number(end + 16, 4);
    CLI_TRY(read_end64(zip, d));
    if (d->place > d->end || d->size > d->end - d->place || d->n > d->size / CENTRAL_BYTES) {
        return damaged(zip, "the directory of the ZIP archive is larger than its place");
    }
    if (d->size > MOST_DIRECTORY) {
        return cli_error(CLI_FAILED, "%s has a directory of %llu bytes; accepted: up to %d", zip->path,
                         (unsigned long long)d->size, MOST_DIRECTORY);
    }
done:
    return rc;
}

// Sizes and places that do not fit into 32 bits are in a field of their own, in this order, if all ones stand there.
static int read_zip64_field(const unsigned char *extra, uint64_t n, uint64_t *numbers[3])
{
    for (uint64_t i = 0; i + 4 <= n;) {
        uint64_t length = zip_number(extra + i + 2, 2), at = i + 4;
        if (length > n - at) {
            return 0;
        }
        for (int k = 0; k < 3 && zip_number(extra + i, 2) == 1; k++) {
            if (*numbers[k] == UINT32_MAX) {
                if (i + 4 + length - at < 8) {
                    return 0;
                }
                *numbers[k] = zip_number(extra + at, 8);
                at += 8;
            }
        }
        i += 4 + length;
    }
    return 1;
}

// One row of the directory; *used: its bytes.
static int read_entry(const zip_file *zip, const directory *d, const unsigned char *row, uint64_t left, zip_entry *e,
                      uint64_t *used)
{
    if (left < CENTRAL_BYTES || zip_number(row, 4) != CENTRAL_SIGN) {
        return damaged(zip, "its directory has fewer entries than it says");
    }
    uint64_t name = zip_number(row + 28, 2), extra = zip_number(row + 30, 2), comment = zip_number(row + 32, 2);
    *used = CENTRAL_BYTES + name + extra + comment;
    if (*used > left) {
        return damaged(zip, "an entry of its directory is longer than the directory");
    }
    uint64_t packed = zip_number(row + 20, 4);
    e->size = zip_number(row + 24, 4);
    e->place = zip_number(row + 42, 4);
    e->crc = (uint32_t)zip_number(row + 16, 4);
    e->name = (const char *)row + CENTRAL_BYTES;
    e->length = (size_t)name;
    if (!read_zip64_field(row + CENTRAL_BYTES + name, extra, (uint64_t *[3]){&e->size, &packed, &e->place})) {
        return damaged(zip, "a ZIP64 field is too short");
    }
    zip_words words = zip_printable(e->name, e->length);
    if ((zip_number(row + 8, 2) & 1) != 0 || zip_number(row + 10, 2) != 0 || packed != e->size) {
        return cli_error(CLI_FAILED, "%s: '%s' is compressed or encrypted; accepted: stored as it is, as torch.save "
                         "does", zip->path, words.text);
    }
    if (e->place > d->place || d->place - e->place < LOCAL_BYTES + name ||
        e->size > d->place - e->place - LOCAL_BYTES - name) {
        return cli_error(CLI_FAILED, "%s is damaged or cut off: '%s' does not fit before the directory", zip->path,
                         words.text);
    }
    return CLI_OK;
}

static int by_name(const void *a, const void *b)
{
    const zip_entry *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->name, y->name, n);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

static int by_place(const void *a, const void *b)
{
    const zip_entry *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

// Each member must end before the next begins: its own header here without the part that only it tells.
static int check_places(zip_file *zip, uint64_t end)
{
    qsort(zip->entries, zip->n, sizeof *zip->entries, by_place);
    for (size_t i = 0; i < zip->n; i++) {
        zip_entry *e = &zip->entries[i];
        e->end = i + 1 < zip->n ? zip->entries[i + 1].place : end;
        if (e->end - e->place < LOCAL_BYTES + e->length + e->size) {
            return cli_error(CLI_FAILED, "%s is damaged: '%s' overlaps what follows it", zip->path,
                             zip_printable(e->name, e->length).text);
        }
    }
    qsort(zip->entries, zip->n, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->n; i++) {
        if (by_name(&zip->entries[i - 1], &zip->entries[i]) == 0) {
            return cli_error(CLI_FAILED, "%s has '%s' twice", zip->path,
                             zip_printable(zip->entries[i].name, zip->entries[i].length).text);
        }
    }
    return CLI_OK;
}

static int read_directory(zip_file *zip)
{
    int rc;
    directory d = {0};
    uint64_t at = 0, used = 0;
    CLI_TRY(find_directory(zip, &d));
    zip->directory = cli_alloc((size_t)d.size, 1);
    zip->entries = cli_alloc((size_t)d.n, sizeof *zip->entries);
    if (zip->directory == NULL || zip->entries == NULL) {
        return CLI_FAILED;
    }
    CLI_TRY(read_at(zip, d.place, zip->directory, d.size));
    for (; zip->n < d.n; zip->n++, at += used) {
        CLI_TRY(read_entry(zip, &d, zip->directory + at, d.size - at, &zip->entries[zip->n], &used));
    }
    if (at != d.size) {
        return damaged(zip, "its directory has more entries than it says");
    }
    CLI_TRY(check_places(zip, d.place));
done:
    return rc;
}

// ---- Files and members ------------------------------------------------------------------------------------------

// What else the file may be, from its first bytes.
static int check_kind(const zip_file *zip)
{
    unsigned char start[4] = {0};
    int rc = read_at(zip, 0, start, zip->size < sizeof start ? zip->size : sizeof start);
    if (rc != CLI_OK || zip_number(start, 4) == LOCAL_SIGN) {
        return rc;
    }
    if (start[0] == 0x80 && start[1] >= 2 && start[1] <= 5) {
        return cli_error(CLI_FAILED, "%s is in the format of PyTorch before 1.6; if you trust the file, convert it: "
                         "python3 -c \"import torch; torch.save(torch.load('%s', map_location='cpu', "
                         "weights_only=False), 'new.ckpt')\"", zip->path, zip->path);
    }
    return cli_error(CLI_FAILED, "%s is not a PyTorch checkpoint: not a ZIP archive", zip->path);
}

int zip_open(zip_file *zip, const char *path)
{
    int rc;
    int64_t size = 0;
    *zip = (zip_file){.path = path};
    // A file that is not there is fopen's to report.
    CLI_TRY(files_exists(path) ? files_check_regular(path, &size) : CLI_OK);
    if ((zip->file = fopen(path, "rb")) == NULL) {
        return cli_error(CLI_FAILED, "cannot open %s", path);
    }
    zip->size = (uint64_t)size;
    CLI_TRY(check_kind(zip));
    CLI_TRY(read_directory(zip));
done:
    return rc;
}

void zip_close(zip_file *zip)
{
    if (zip->file != NULL) {
        fclose(zip->file);
    }
    free(zip->directory);
    free(zip->entries);
    *zip = (zip_file){0};
}

const zip_entry *zip_find(const zip_file *zip, const char *name, size_t length)
{
    zip_entry key = {.name = name, .length = length};
    return zip->n > 0 ? bsearch(&key, zip->entries, zip->n, sizeof key, by_name) : NULL;
}

static uint32_t crc32_of(const unsigned char *bytes, uint64_t n)
{
    uint32_t table[256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) {
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    }
    return ~crc;
}

int zip_read(const zip_file *zip, const zip_entry *e, void *dst)
{
    int rc;
    unsigned char header[LOCAL_BYTES];
    zip_words words = zip_printable(e->name, e->length);
    CLI_TRY(read_at(zip, e->place, header, LOCAL_BYTES));
    uint64_t own = LOCAL_BYTES + zip_number(header + 26, 2) + zip_number(header + 28, 2);
    if (zip_number(header, 4) != LOCAL_SIGN || zip_number(header + 26, 2) != e->length ||
        zip_number(header + 8, 2) != 0 || own > e->end - e->place || e->size > e->end - e->place - own) {
        return cli_error(CLI_FAILED, "%s is damaged: the header of '%s' does not fit the directory", zip->path,
                         words.text);
    }
    CLI_TRY(read_at(zip, e->place + own, dst, e->size));
    if (crc32_of(dst, e->size) != e->crc) {
        return cli_error(CLI_FAILED, "%s is damaged: the checksum of '%s' is wrong", zip->path, words.text);
    }
done:
    return rc;
}
