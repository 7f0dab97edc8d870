// Dividing a run into shards, and the text in front of a shard file's rows.
#include "cli/shard.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"

enum { MAX_PARTS = 100000 };

int shard_parse(shard *s, const char *text)
{
    char *slash, *end;
    int64_t part = strtoll(text, &slash, 10), parts = *slash == '/' ? strtoll(slash + 1, &end, 10) : 0;
    if (parts < 1 || *end != '\0' || part < 1 || part > parts || parts > MAX_PARTS) {
        return cli_error(CLI_USAGE, "--shard: '%s' is not a part like 1/8 (1/8 to 8/8; at most %d)", text, MAX_PARTS);
    }
    s->part = part;
    s->parts = parts;
    return CLI_OK;
}

char *shard_path(const char *out, int64_t part, int64_t parts)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') {
        n--;
    }
    return cli_format("%.*s.%" PRId64 "of%" PRId64 ".shard", (int)n, out, part, parts);
}

int shard_add_image(shard *s, const char *source, const char *output, const image_layout *layout, shard_image **added)
{
    shard_image *more = realloc(s->images, (size_t)(s->n_images + 1) * sizeof *more);
    if (more == NULL) {
        return cli_error(CLI_FAILED, "out of memory for %" PRId64 " images", s->n_images);
    }
    s->images = more;
    shard_image *image = &s->images[s->n_images++];
    *image = (shard_image){.source = cli_format("%s", files_base(source)), .output = cli_format("%s", files_base(output)),
                           .info = cli_format("%s", layout->info != NULL ? layout->info : ""), .layout = *layout,
                           .pages = layout->slices * layout->frames};
    image->layout.info = image->info;
    for (int64_t c = 0; c < layout->channels; c++) {
        image->names[c] = cli_format("%s", layout->names[c] != NULL ? layout->names[c] : "");
        image->layout.names[c] = image->names[c];
    }
    *added = image;
    return CLI_OK;
}

// Tile row number u of all of them belongs to the part in whose share of the tiles it begins.
int shard_divide(shard *s)
{
    int64_t tiles = 0, pages = 0, at = 0;
    for (int64_t i = 0; i < s->n_images; i++) {
        tiles += s->images[i].pages * s->images[i].tile_rows * s->images[i].tile_columns;
        pages += s->images[i].pages;
    }
    if ((s->pieces = cli_alloc((size_t)pages, sizeof *s->pieces)) == NULL) {
        return CLI_FAILED;
    }
    if (tiles > INT64_MAX / MAX_PARTS) {
        return cli_error(CLI_FAILED, "%" PRId64 " tiles are too many to divide", tiles);
    }
    for (int64_t i = 0; i < s->n_images; i++) {
        const shard_image *image = &s->images[i];
        for (int64_t page = 0; page < image->pages; page++) {
            shard_piece piece = {.image = i, .page = page};
            for (int64_t row = 0; row < image->tile_rows; row++, at += image->tile_columns) {
                if (at * s->parts / tiles == s->part - 1) {
                    piece.tile_row = piece.n_tile_rows > 0 ? piece.tile_row : row;
                    piece.n_tile_rows++;
                }
            }
            if (piece.n_tile_rows > 0) {
                int64_t end = piece.tile_row + piece.n_tile_rows;
                piece.row = piece.tile_row * image->inner;
                piece.n_rows = (end < image->tile_rows ? end * image->inner : image->layout.height) - piece.row;
                s->pieces[s->n_pieces++] = piece;
            }
        }
    }
    return CLI_OK;
}

void shard_free(shard *s)
{
    for (int64_t i = 0; i < s->n_images; i++) {
        shard_image *image = &s->images[i];
        free(image->source);
        free(image->output);
        free(image->info);
        for (int c = 0; c < IMAGE_MAX_CHANNELS; c++) {
            free(image->names[c]);
        }
    }
    free(s->images);
    free(s->pieces);
    free(s->path);
    free(s->engine);
    free(s->model);
    free(s->options);
    free(s->job);
    memset(s, 0, sizeof *s);
}

uint64_t shard_hash(uint64_t before, const void *bytes, size_t n)
{
    uint64_t hash = before != 0 ? before : UINT64_C(14695981039346656037);
    for (const unsigned char *p = bytes, *end = p + n; p < end; p++) {
        hash = (hash ^ *p) * UINT64_C(1099511628211);
    }
    return hash;
}

int shard_hash_file(char text[SHARD_HASH_BYTES], const char *path)
{
    char block[16384];
    uint64_t hash = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return cli_error(CLI_FAILED, "%s: %s", path, strerror(errno));
    }
    for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;) {
        hash = shard_hash(hash, block, n);
    }
    int failed = ferror(file);
    fclose(file);
    snprintf(text, SHARD_HASH_BYTES, "%016" PRIx64, hash);
    return failed ? cli_error(CLI_FAILED, "%s: cannot be read", path) : CLI_OK;
}

// ---- Writing ----------------------------------------------------------------------------------------

// A line of any text: line breaks, and the percent sign, as %XX.
static void put_text(FILE *file, const char *key, const char *text)
{
    fprintf(file, "%s ", key);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        fprintf(file, *p < 0x20 || *p == '%' ? "%%%02x" : "%c", *p);
    }
    fputc('\n', file);
}

static void put_job(FILE *file, const shard *s)
{
    put_text(file, "model", s->model);
    put_text(file, "options", s->options);
    fprintf(file, "images %" PRId64 "\n", s->n_images);
    for (int64_t i = 0; i < s->n_images; i++) {
        const shard_image *image = &s->images[i];
        const image_layout *l = &image->layout;
        fprintf(file, "image %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d %d %.17g %.17g %.17g %.17g %016"
                PRIx64 "\n", l->height, l->width, l->channels, l->slices, l->frames, l->type, l->force_big,
                l->pixel_width, l->pixel_height, l->spacing, l->interval, image->pixels);
        put_text(file, "source", image->source);
        put_text(file, "output", image->output);
        put_text(file, "info", image->info);
        for (int64_t c = 0; c < l->channels; c++) {
            put_text(file, "name", image->names[c]);
        }
    }
}

static void put_header(FILE *file, const shard *s)
{
    fprintf(file, "part %" PRId64 " %" PRId64 "\n", s->part, s->parts);
    put_text(file, "engine", s->engine);
    put_job(file, s);
    fprintf(file, "pieces %" PRId64 "\n", s->n_pieces);
    for (int64_t i = 0; i < s->n_pieces; i++) {
        const shard_piece *p = &s->pieces[i];
        fprintf(file, "piece %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", p->image, p->page, p->row, p->n_rows);
    }
}

static int put(shard_writer *w, const void *bytes, size_t n)
{
    w->sum = shard_hash(w->sum, bytes, n);
    return fwrite(bytes, 1, n, w->output.file) == n ? CLI_OK :
           cli_error(CLI_FAILED, "%s: cannot write: %s", w->output.path, strerror(errno));
}

int shard_create(shard_writer *w, shard *s)
{
    int rc;
    char *text = NULL, *first = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&text, &n);
    memset(w, 0, sizeof *w);
    if (memory == NULL) {
        return cli_error(CLI_FAILED, "out of memory for %" PRId64 " pieces", s->n_pieces);
    }
    put_header(memory, s);
    if (fclose(memory) != 0) {
        rc = cli_error(CLI_FAILED, "out of memory for %" PRId64 " pieces", s->n_pieces);
        goto done;
    }
    first = cli_format("usplit-shard 1 %010zu\n", n);
    CLI_TRY(files_create(&w->output, s->path));
    CLI_TRY(put(w, first, strlen(first)));
    CLI_TRY(put(w, text, n));
done:
    free(first);
    free(text);
    return rc;
}

int shard_write_rows(shard_writer *w, const float *src, int64_t planes, int64_t n_rows, int64_t width)
{
    int rc = CLI_OK;
    for (int64_t y = 0; rc == CLI_OK && y < n_rows; y++) {
        for (int64_t c = 0; rc == CLI_OK && c < planes; c++) {
            rc = put(w, src + (c * n_rows + y) * width, (size_t)width * sizeof *src);
        }
    }
    return rc;
}

int shard_commit(shard_writer *w)
{
    uint64_t sum = w->sum;
    int rc = put(w, &sum, sizeof sum);
    return rc == CLI_OK ? files_commit(&w->output) : rc;
}

void shard_discard(shard_writer *w)
{
    files_discard(&w->output);
}

// ---- Reading: nothing in the file is trusted ----------------------------------------------------------

typedef struct reader {
    const char *path;
    char *at;                   // the next line; lines are cut apart as they are read
} reader;

static int bad(const reader *r, const char *what)
{
    return cli_error(CLI_FAILED, "%s: not a whole shard of usplit split (%s)", r->path, what);
}

// n numbers after *at, which is moved on: 1 if they are there.
static int numbers(const char **at, int64_t *dst, int n)
{
    for (int i = 0; i < n; i++) {
        char *end;
        errno = 0;
        dst[i] = strtoll(*at, &end, 10);
        if (end == *at || errno != 0) {
            return 0;
        }
        *at = end;
    }
    return 1;
}

static int reals(const char **at, double *dst, int n)
{
    for (int i = 0; i < n; i++) {
        char *end;
        dst[i] = strtod(*at, &end);
        if (end == *at || !isfinite(dst[i])) {
            return 0;
        }
        *at = end;
    }
    return 1;
}

// The rest of the next line, which must begin with the key; NULL: it does not.
static char *take_line(reader *r, const char *key)
{
    size_t n = strlen(key);
    char *line = r->at, *end = strchr(line, '\n');
    if (end == NULL || strncmp(line, key, n) != 0 || line[n] != ' ') {
        return NULL;
    }
    *end = '\0';
    r->at = end + 1;
    return line + n + 1;
}

static int take_text(reader *r, const char *key, char **text)
{
    const char *line = take_line(r, key);
    if (line == NULL) {
        return bad(r, key);
    }
    char *to = *text = cli_format("%s", line);
    for (const char *from = line; *from != '\0'; from++) {
        if (*from == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
            char code[3] = {from[1], from[2], '\0'};
            *to++ = (char)strtol(code, NULL, 16);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return CLI_OK;
}

static int take_count(reader *r, const char *key, int64_t most, int64_t *n)
{
    const char *line = take_line(r, key);
    return line != NULL && numbers(&line, n, 1) && *n >= 0 && *n <= most ? CLI_OK : bad(r, key);
}

static int layout_is_sound(const image_layout *l)
{
    const int64_t side = 1 << 24;
    return l->height >= 1 && l->height <= side && l->width >= 1 && l->width <= side && l->channels >= 1 &&
           l->channels <= IMAGE_MAX_CHANNELS && l->slices >= 1 && l->slices <= side && l->frames >= 1 &&
           l->frames <= side && l->type >= USPLIT_TYPE_U8 && l->type <= USPLIT_TYPE_F32;
}

static int take_image(reader *r, shard_image *image)
{
    int rc;
    image_layout *l = &image->layout;
    const char *line = take_line(r, "image");
    int64_t n[7];
    double x[4];
    if (line == NULL || !numbers(&line, n, 7) || !reals(&line, x, 4)) {
        return bad(r, "image");
    }
    *l = (image_layout){.height = n[0], .width = n[1], .channels = n[2], .slices = n[3], .frames = n[4],
                       .type = (int32_t)n[5], .force_big = (int)n[6], .pixel_width = x[0], .pixel_height = x[1],
                       .spacing = x[2], .interval = x[3]};
    image->pixels = strtoull(line, NULL, 16);
    if (!layout_is_sound(l)) {
        return bad(r, "image");
    }
    image->pages = l->slices * l->frames;
    CLI_TRY(take_text(r, "source", &image->source));
    CLI_TRY(take_text(r, "output", &image->output));
    CLI_TRY(take_text(r, "info", &image->info));
    l->info = image->info;
    for (int64_t c = 0; c < l->channels; c++) {
        CLI_TRY(take_text(r, "name", &image->names[c]));
        l->names[c] = image->names[c];
    }
    if (strchr(image->output, '/') != NULL || image->output[0] == '\0' || image->output[0] == '.') {
        return bad(r, "output");
    }
done:
    return rc;
}

static int take_piece(reader *r, const shard *s, shard_piece *p, double *floats)
{
    const char *line = take_line(r, "piece");
    int64_t n[4];
    if (line == NULL || !numbers(&line, n, 4) || n[0] < 0 || n[0] >= s->n_images || n[1] < 0 ||
        n[1] >= s->images[n[0]].pages) {
        return bad(r, "piece");
    }
    *p = (shard_piece){.image = n[0], .page = n[1], .row = n[2], .n_rows = n[3]};
    const image_layout *l = &s->images[p->image].layout;
    if (p->row < 0 || p->n_rows < 1 || p->row >= l->height || p->n_rows > l->height - p->row) {
        return bad(r, "piece");
    }
    *floats += (double)(p->n_rows * l->width * l->channels);
    return CLI_OK;
}

static int take_header(reader *r, shard *s, double *floats)
{
    int rc;
    const char *line = take_line(r, "part");
    int64_t n[2];
    if (line == NULL || !numbers(&line, n, 2) || n[0] < 1 || n[0] > n[1] || n[1] > MAX_PARTS) {
        return bad(r, "part");
    }
    s->part = n[0];
    s->parts = n[1];
    CLI_TRY(take_text(r, "engine", &s->engine));
    const char *job = r->at, *pieces = strstr(job, "\npieces ");
    s->job = pieces != NULL ? cli_format("%.*s", (int)(pieces - job), job) : NULL;
    CLI_TRY(take_text(r, "model", &s->model));
    CLI_TRY(take_text(r, "options", &s->options));
    CLI_TRY(take_count(r, "images", 1 << 24, &s->n_images));
    int64_t n_images = s->n_images;
    s->n_images = 0;
    if ((s->images = cli_alloc((size_t)n_images, sizeof *s->images)) == NULL) {
        return CLI_FAILED;
    }
    while (s->n_images < n_images) {
        CLI_TRY(take_image(r, &s->images[s->n_images++]));
    }
    CLI_TRY(take_count(r, "pieces", 1 << 24, &s->n_pieces));
    if ((s->pieces = cli_alloc((size_t)s->n_pieces, sizeof *s->pieces)) == NULL) {
        return CLI_FAILED;
    }
    for (int64_t i = 0; i < s->n_pieces; i++) {
        CLI_TRY(take_piece(r, s, &s->pieces[i], floats));
    }
done:
    return rc;
}

// Everything before the last 8 bytes against these.
static int check_sum(FILE *file, const reader *r, int64_t size)
{
    char block[16384];
    uint64_t sum = 0, stored;
    rewind(file);
    for (int64_t left = size - (int64_t)sizeof stored, n; left > 0; left -= n) {
        n = left < (int64_t)sizeof block ? left : (int64_t)sizeof block;
        if (fread(block, 1, (size_t)n, file) != (size_t)n) {
            return bad(r, "it cannot be read");
        }
        sum = shard_hash(sum, block, (size_t)n);
    }
    return fread(&stored, sizeof stored, 1, file) == 1 && stored == sum ? CLI_OK : bad(r, "its checksum is wrong");
}

int shard_read(shard *s, const char *path)
{
    int rc = CLI_OK;
    reader r = {.path = path};
    static const char magic[] = "usplit-shard 1 ";
    int64_t length = 0;
    char first[32] = "", *text = NULL;
    double floats = 0;
    memset(s, 0, sizeof *s);
    s->path = cli_format("%s", path);
    int64_t size;
    if ((rc = files_check_regular(path, &size)) != CLI_OK) {
        return rc;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return cli_error(CLI_FAILED, "%s: %s", path, strerror(errno));
    }
    const char *number = first + strlen(magic);
    if (fgets(first, sizeof first, file) == NULL || strncmp(first, magic, strlen(magic)) != 0 ||
        !numbers(&number, &length, 1) || length < 1 || length > size) {
        rc = bad(&r, "its first line");
        goto done;
    }
    s->rows_at = (int64_t)ftello(file) + length;
    if ((text = cli_alloc((size_t)length + 1, 1)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    r.at = text;
    if (fread(text, 1, (size_t)length, file) != (size_t)length) {
        rc = bad(&r, "its length");
        goto done;
    }
    CLI_TRY(take_header(&r, s, &floats));
    if ((double)(size - s->rows_at) != floats * sizeof(float) + sizeof(uint64_t)) {
        rc = bad(&r, "its length");
        goto done;
    }
    rc = check_sum(file, &r, size);
done:
    free(text);
    fclose(file);
    return rc;
}

int shard_read_rows(FILE *file, const char *path, float *dst, float *row, int64_t planes, int64_t n_rows, int64_t width)
{
    size_t n = (size_t)(planes * width);
    for (int64_t y = 0; y < n_rows; y++) {
        if (fread(row, sizeof *row, n, file) != n) {
            return cli_error(CLI_FAILED, "%s: cannot be read", path);
        }
        for (int64_t c = 0; c < planes; c++) {
            memcpy(dst + (c * n_rows + y) * width, row + c * width, (size_t)width * sizeof *row);
        }
    }
    return CLI_OK;
}
