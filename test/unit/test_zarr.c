// OME-Zarr in and out of the program: what it writes it reads, and so does what the test writes by itself in other
// types, codecs and chunks; and what nobody should trust (cut and altered chunks, lying headers, sizes, paths and
// links) ends in one line. With arguments the program is a tool for test/check/zarr.sh instead:
//     test_zarr read NAME      pages as native float32 on standard output, the facts on standard error
//     test_zarr write PATH u8|u16|f32 HEIGHT WIDTH CHANNELS SLICES FRAMES
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blosc.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/images.h"
#include "cli/zarr/zarr.h"
#include "cli/zarr/zarr_file.h"
#include "cli/zarr/zarr_store.h"
#include "common/folder.h"
#include "common/image_files.h"

static void run(const char *format, const char *path)
{
    char command[400];
    snprintf(command, sizeof command, format, path);
    assert_int_equal(system(command), 0);
}

static float pixel(int64_t place, int64_t channel, int64_t y, int64_t x)
{
    return (float)((place * 31 + channel * 100 + y * 3 + x % 101) % 251);
}

static image_file *opened(const char *name)
{
    image_file *file = NULL;
    cli_error_clear();
    if (image_open(&file, name) != 0) {
        fail_msg("%s", cli_error_line());
    }
    return file;
}

// ---- Our writer --------------------------------------------------------------------------------------

static int write_image(const char *path, const image_layout *layout, int64_t band_rows, int is_committed)
{
    image_writer *w = NULL;
    int64_t h = layout->height, width = layout->width, saturated = -1;
    float *band = malloc(sizeof *band * (size_t)(layout->channels * band_rows * width));
    int rc = image_create(&w, path, layout);
    for (int64_t place = 0; rc == 0 && place < layout->slices * layout->frames; place++) {
        for (int64_t row = 0; rc == 0 && row < h; row += band_rows) {
            int64_t n = h - row < band_rows ? h - row : band_rows;
            for (int64_t i = 0; i < layout->channels * n * width; i++) {
                band[i] = pixel(place, i / (n * width), row + i / width % n, i % width);
            }
            rc = image_write_rows(w, place, row, n, band);
        }
    }
    if (rc == 0 && is_committed) {
        rc = image_commit(w, &saturated);
        assert_true(rc != 0 || saturated == 0);
    }
    image_writer_free(w);
    free(band);
    return rc;
}

static image_layout layout_of(int64_t height, int64_t width, int64_t channels, int64_t slices, int64_t frames,
                              int32_t type)
{
    return (image_layout){.height = height, .width = width, .channels = channels, .slices = slices, .frames = frames,
                          .type = type, .pixel_width = 0.36, .pixel_height = 0.35, .spacing = 0.5, .interval = 2,
                          .names = {"lamin B1", "DNA \xc2\xb5"}, .info = "test"};
}

static void round_trip(void **state)
{
    (void)state;
    static const int32_t types[] = {USPLIT_TYPE_U8, USPLIT_TYPE_U16, USPLIT_TYPE_F32};
    static const int64_t sizes[][2] = {{75, 301}, {1030, 530}, {1, 1}};
    for (int k = 0; k < 5; k++) {
        int64_t h = sizes[k > 2 ? k - 2 : 0][0], w = sizes[k > 2 ? k - 2 : 0][1];
        image_layout layout = layout_of(h, w, 2, 3, 2, types[k % 3]);
        const char *path = in_folder("stack.ome.zarr");
        assert_int_equal(write_image(path, &layout, 25, 1), 0);
        float *rows = malloc(sizeof *rows * (size_t)(h * w));
        for (int channel = 0; channel < 2; channel++) {
            char name[320];
            image_facts facts;
            snprintf(name, sizeof name, "%s@%d", path, channel + 1);
            image_file *f = opened(name);
            image_info(f, &facts);
            assert_int_equal(facts.pages, 6);
            assert_int_equal(facts.slices, 3);
            assert_int_equal(facts.frames, 2);
            assert_int_equal(facts.channels, 2);
            assert_int_equal(facts.type, types[k % 3]);
            assert_true(facts.pixel_width == 0.36 && facts.pixel_height == 0.35);
            assert_true(facts.spacing == 0.5 && facts.interval == 2);
            assert_string_equal(facts.name, layout.names[channel]);
            for (int64_t page = 5; page >= 0; page--) {
                int64_t first = h / 3, n = h - first;
                assert_int_equal(image_read_rows(f, page, first, n, rows), 0);
                for (int64_t i = 0; i < n * w; i++) {
                    if (rows[i] != pixel(page, channel, first + i / w, i % w)) {
                        fail_msg("case %d, page %d, pixel %d", k, (int)page, (int)i);
                    }
                }
            }
            image_close(f);
        }
        free(rows);
        refused(path, "2 channels; choose one");
        run("rm -r '%s'", path);
    }
}

// Level k against the mean over 2^k x 2^k pixels of the whole image, computed at once. Means of means are exact here:
// small integers times powers of two.
static void levels_are_means(void **state)
{
    (void)state;
    enum { H = 2052, W = 1028 };        // multiples of 4, so that blocks are whole on levels 1 and 2
    image_layout layout = layout_of(H, W, 1, 1, 1, USPLIT_TYPE_F32);
    const char *path = in_folder("levels.zarr");
    assert_int_equal(write_image(path, &layout, 100, 1), 0);
    float *rows = malloc(sizeof *rows * H * W);
    for (int64_t k = 0; k < 4; k++) {
        char name[320];
        int64_t h, w, n = (int64_t)1 << k;
        snprintf(name, sizeof name, "%s:/%d", path, (int)k);
        if (k == 3) {                   // odd borders: 257 x 129 from 513 x 257, at most 512
            image_file *f = opened(name);
            assert_int_equal(image_page_size(f, 0, &h, &w), 0);
            assert_int_equal(h, 257);
            assert_int_equal(w, 129);
            assert_int_equal(image_read_rows(f, 0, 256, 1, rows), 0);
            double corner = 0;
            for (int64_t i = 0; i < 16; i++) {      // the last row and column of level 2 are their own means
                corner += (double)pixel(0, 0, 2048 + i / 4, 1024 + i % 4) / 16;
            }
            assert_true((double)rows[128] == corner);
            image_close(f);
            continue;
        }
        image_file *f = opened(name);
        assert_int_equal(image_page_size(f, 0, &h, &w), 0);
        assert_int_equal(h, H >> k);
        assert_int_equal(w, W >> k);
        assert_int_equal(image_read_rows(f, 0, 0, h, rows), 0);
        for (int64_t i = 0; i < h * w; i += 7) {
            double sum = 0;
            for (int64_t j = 0; j < n * n; j++) {
                sum += (double)pixel(0, 0, i / w * n + j / n, i % w * n + j % n);
            }
            assert_true((double)rows[i] == sum / (double)(n * n));
        }
        image_close(f);
    }
    free(rows);
    refused(in_folder("levels.zarr:/4"), "no such folder");
}

static void saturation_is_counted(void **state)
{
    (void)state;
    static const float values[6] = {-1, 0, 254.4f, 254.6f, 256, NAN}, expected[6] = {0, 0, 254, 255, 255, 0};
    float back[6];
    int64_t saturated = 0;
    image_layout layout = layout_of(1, 6, 1, 1, 1, USPLIT_TYPE_U8);
    image_writer *w = NULL;
    assert_int_equal(image_create(&w, in_folder("u8.zarr"), &layout), 0);
    assert_int_equal(image_write_rows(w, 0, 0, 1, values), 0);
    assert_int_equal(image_commit(w, &saturated), 0);
    image_writer_free(w);
    assert_int_equal(saturated, 3);
    image_file *f = opened(in_folder("u8.zarr"));
    assert_int_equal(image_read_rows(f, 0, 0, 1, back), 0);
    image_close(f);
    assert_memory_equal(back, expected, sizeof back);
}

static void only_whole_images_appear(void **state)
{
    (void)state;
    image_layout layout = layout_of(20, 30, 1, 1, 1, USPLIT_TYPE_F32);
    image_writer *w = NULL;
    float row[30] = {0};
    run("mkdir '%s'", in_folder("quiet"));
    const char *path = in_folder("quiet/a.zarr");
    assert_int_equal(write_image(path, &layout, 7, 0), 0);
    run("test -z \"$(ls -A '%s')\"", in_folder("quiet"));
    cli_error_clear();
    assert_int_equal(image_create(&w, path, &layout), 0);
    assert_int_equal(image_write_rows(w, 0, 0, 1, row), 0);
    assert_int_not_equal(image_write_rows(w, 0, 0, 1, row), 0);
    assert_non_null(strstr(cli_error_line(), "out of turn"));
    cli_error_clear();
    assert_int_not_equal(image_commit(w, NULL), 0);         // rows are missing
    image_writer_free(w);
    run("test -z \"$(ls -A '%s')\"", in_folder("quiet"));
    cli_error_clear();
    assert_int_not_equal(image_create(&w, in_folder("no/where.zarr"), &layout), 0);
    assert_non_null(strstr(cli_error_line(), "cannot write here"));
    cli_error_clear();
}

// A Zarr folder is replaced, nothing else is.
static void only_zarr_is_replaced(void **state)
{
    (void)state;
    image_layout layout = layout_of(20, 30, 1, 1, 1, USPLIT_TYPE_U8);
    const char *path = in_folder("again.zarr");
    assert_int_equal(write_image(path, &layout, 7, 1), 0);
    layout.height = 10;
    run("touch '%s/theirs'", path);
    assert_int_equal(write_image(path, &layout, 7, 1), 0);
    image_file *f = opened(path);
    int64_t h, w;
    assert_int_equal(image_page_size(f, 0, &h, &w), 0);
    assert_int_equal(h, 10);
    image_close(f);
    assert_false(files_exists(in_folder("again.zarr/theirs")));
    run("test $(ls -A '%s' | grep -c again) = 1", folder);
    run("mkdir '%s'", in_folder("photos.zarr"));
    run("touch '%s'", in_folder("photos.zarr/one.jpg"));
    assert_int_not_equal(write_image(in_folder("photos.zarr"), &layout, 7, 1), 0);
    assert_non_null(strstr(cli_error_line(), "no Zarr folder"));
    assert_true(files_exists(in_folder("photos.zarr/one.jpg")));
    cli_error_clear();
    run("touch '%s'", in_folder("file.zarr"));
    assert_int_not_equal(write_image(in_folder("file.zarr/"), &layout, 7, 1), 0);
    cli_error_clear();
    // A link to a store: what it leads to is not touched.
    run("mkdir '%s'", in_folder("links"));
    assert_int_equal(symlink(path, in_folder("links/to.zarr")), 0);
    assert_int_equal(write_image(in_folder("links/to.zarr"), &layout, 7, 1), 0);
    assert_true(files_exists(in_folder("again.zarr/.zattrs")));
}

// ---- What others write ---------------------------------------------------------------------------------

typedef struct store {
    const char *dtype, *codec, *separator, *fill;       // codec: null, zlib, gzip, zstd or a compressor of Blosc
    int n;
    int64_t shape[5], chunk[5];
} store;

static void spill_text(const char *path, const char *text)
{
    spill(path, text, strlen(text));
}

static int is_little(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1;
}

static void put(const char *dtype, double value, unsigned char *dst)
{
    int n = dtype[2] - '0';
    uint64_t bits = dtype[1] == 'u' ? (uint64_t)value : (uint64_t)(int64_t)value;
    if (dtype[1] == 'f' && n == 8) {
        memcpy(&bits, &value, 8);
    } else if (dtype[1] == 'f') {
        float narrow = (float)value;
        uint32_t half;
        memcpy(&half, &narrow, 4);
        bits = half;
    }
    for (int i = 0; i < n; i++) {
        dst[dtype[0] == '>' ? n - 1 - i : i] = (unsigned char)(bits >> 8 * i);
    }
}

// Signed types get negative values.
static double value_at(const store *s, const int64_t *at)
{
    int64_t sum = 0;
    for (int i = 0; i < s->n; i++) {
        sum = sum * 7 + at[i];
    }
    return (double)(sum % 127) - (s->dtype[1] == 'u' ? 0 : 60);
}

static size_t encode(const char *codec, const unsigned char *src, size_t n, int unit, unsigned char *dst, size_t room)
{
    if (strcmp(codec, "null") == 0) {
        memcpy(dst, src, n);
        return n;
    }
    if (strcmp(codec, "zstd") == 0) {
        return ZSTD_compress(dst, room, src, n, 3);
    }
    if (strcmp(codec, "zlib") == 0 || strcmp(codec, "gzip") == 0) {
        z_stream z;
        memset(&z, 0, sizeof z);
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, codec[0] == 'g' ? 31 : 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
        unsigned char *copy = malloc(n);
        memcpy(copy, src, n);
        z.next_in = copy;
        z.avail_in = (uInt)n;
        z.next_out = dst;
        z.avail_out = (uInt)room;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        n = z.total_out;
        deflateEnd(&z);
        free(copy);
        return n;
    }
    int done = blosc_compress_ctx(5, BLOSC_BITSHUFFLE, (size_t)unit, n, src, dst, room, codec, 0, 1);
    assert_true(done > 0);
    return (size_t)done;
}

static void write_zarray(const char *path, const store *s)
{
    char text[1000], shape[100] = "", chunk[100] = "", codec[100];
    for (int i = 0; i < s->n; i++) {
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? "," : "", (long long)s->shape[i]);
        snprintf(chunk + strlen(chunk), sizeof chunk - strlen(chunk), "%s%lld", i ? "," : "", (long long)s->chunk[i]);
    }
    if (strcmp(s->codec, "null") == 0) {
        snprintf(codec, sizeof codec, "null");
    } else if (strlen(s->codec) == 4) {       // zlib, gzip, zstd
        snprintf(codec, sizeof codec, "{\"id\":\"%s\",\"level\":1}", s->codec);
    } else {
        snprintf(codec, sizeof codec, "{\"id\":\"blosc\",\"cname\":\"%s\",\"clevel\":5}", s->codec);
    }
    snprintf(text, sizeof text,
             "{\"zarr_format\":2,\"shape\":[%s],\"chunks\":[%s],\"dtype\":\"%s\",\"compressor\":%s,\"fill_value\":%s,"
             "\"filters\":null,\"order\":\"C\"%s%s%s}",
             shape, chunk, s->dtype, codec, s->fill, s->separator ? ",\"dimension_separator\":\"" : "",
             s->separator ? s->separator : "", s->separator ? "\"" : "");
    run("mkdir -p '%s'", path);
    char name[400];
    snprintf(name, sizeof name, "%s/.zarray", path);
    spill_text(name, text);
}

// Chunk number `index` of the store, edges padded with 99.
static void write_chunk(const char *path, const store *s, int64_t index)
{
    int64_t number[5], n = 1, unit = s->dtype[2] - '0';
    for (int i = s->n - 1; i >= 0; i--) {
        int64_t chunks = (s->shape[i] + s->chunk[i] - 1) / s->chunk[i];
        number[i] = index % chunks;
        index /= chunks;
        n *= s->chunk[i];
    }
    size_t room = (size_t)(n * unit * 2 + 1000);
    unsigned char *data = malloc(room), *coded = malloc(room);
    for (int64_t k = 0; k < n; k++) {
        int64_t at[5], rest = k;
        int inside = 1;
        for (int i = s->n - 1; i >= 0; i--) {
            at[i] = number[i] * s->chunk[i] + rest % s->chunk[i];
            rest /= s->chunk[i];
            inside = inside && at[i] < s->shape[i];
        }
        put(s->dtype, inside ? value_at(s, at) : 99, data + k * unit);
    }
    char name[500], parent[500];
    int length = snprintf(name, sizeof name, "%s/", path);
    for (int i = 0; i < s->n; i++) {
        length += snprintf(name + length, sizeof name - (size_t)length, "%s%lld",
                           i == 0 ? "" : s->separator != NULL ? s->separator : ".", (long long)number[i]);
    }
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(name, '/') - name), name);
    assert_int_equal(files_make_folder(parent), 0);
    spill(name, coded, encode(s->codec, data, (size_t)(n * unit), (int)unit, coded, room));
    free(data);
    free(coded);
}

static void write_store(const char *path, const store *s)
{
    int64_t chunks = 1;
    write_zarray(path, s);
    for (int i = 0; i < s->n; i++) {
        chunks *= (s->shape[i] + s->chunk[i] - 1) / s->chunk[i];
    }
    for (int64_t k = 0; k < chunks; k++) {
        write_chunk(path, s, k);
    }
}

// Every page of a 5-dimensional store's channel, in odd bands.
static void check_store(image_file *f, const store *s, int64_t channel)
{
    image_facts facts;
    image_info(f, &facts);
    int64_t h = facts.height, w = facts.width;
    float *rows = malloc(sizeof *rows * (size_t)(h * w));
    assert_int_equal(facts.pages, s->shape[0] * s->shape[2]);
    assert_int_equal(h, s->shape[3]);
    assert_int_equal(w, s->shape[4]);
    for (int64_t page = 0; page < facts.pages; page++) {
        for (int64_t first = 0; first < h; first += 9) {
            int64_t n = h - first < 9 ? h - first : 9;
            if (image_read_rows(f, page, first, n, rows) != 0) {
                fail_msg("%s", cli_error_line());
            }
            for (int64_t i = 0; i < n * w; i++) {
                int64_t at[5] = {page / s->shape[2], channel, page % s->shape[2], first + i / w, i % w};
                assert_true((double)rows[i] == value_at(s, at));
            }
        }
    }
    free(rows);
}

static void reads_all_types_codecs_and_chunks(void **state)
{
    (void)state;
    static const char *const types[] = {"|u1", "<u2", ">u2", "<u4", ">u4", "|i1", "<i2", ">i2",
                                        "<i4", ">i4", "<f4", ">f4", "<f8", ">f8"};
    static const char *const codecs[] = {"null", "zlib", "gzip", "zstd", "blosclz", "lz4", "lz4hc"};
    static const int64_t chunks[][5] = {{1, 1, 1, 7, 10}, {2, 2, 3, 40, 50}, {1, 2, 2, 13, 33}, {3, 1, 3, 1, 64}};
    static const char *const separators[] = {NULL, ".", "/"};
    for (int k = 0; k < 14 * 7; k++) {
        store s = {types[k % 14], codecs[k / 14], separators[k % 3], "0", 5, {2, 2, 3, 17, 33}, {0}};
        memcpy(s.chunk, chunks[k % 4], sizeof s.chunk);
        const char *path = in_folder("foreign.zarr");
        write_store(path, &s);
        for (int c = 0; c < 2; c++) {
            char name[320];
            image_facts facts;
            snprintf(name, sizeof name, "%s@%d", path, c + 1);
            image_file *f = opened(name);
            image_info(f, &facts);
            assert_int_equal(facts.type, strcmp(s.dtype, "|u1") == 0           ? USPLIT_TYPE_U8
                                         : strcmp(s.dtype + 1, "u2") == 0      ? USPLIT_TYPE_U16
                                                                               : USPLIT_TYPE_F32);
            check_store(f, &s, c);
            image_close(f);
        }
        run("rm -r '%s'", path);
    }
    assert_true(is_little() || types[1][0] == '<');     // both byte orders are in the list on any machine
}

// The cache holds less than a row of chunks, a row of parts of chunks, or nearly everything: the same pixels, and
// never more bytes than it may (or one chunk).
static void cache_is_bounded(void **state)
{
    (void)state;
    static const int64_t budgets[] = {1, 500, 2000, 9000, 40000, 1 << 20};
    static const int64_t chunks[][5] = {{1, 1, 1, 7, 10}, {2, 2, 3, 8, 9}};
    for (int k = 0; k < 12; k++) {
        store s = {"<u2", "lz4", "/", "0", 5, {2, 2, 3, 29, 65}, {0}};
        memcpy(s.chunk, chunks[k / 6], sizeof s.chunk);
        const char *path = in_folder("cache.zarr");
        write_store(path, &s);
        zarr_file *f = NULL;
        image_choice choice = {.path = path, .channel = 2};
        assert_int_equal(zarr_open(&f, &choice), 0);
        assert_int_equal(zarr_plan_cache(f, budgets[k % 6]), 0);
        float rows[65 * 2];
        for (int64_t turn = 0; turn < 2 * 6 * 28; turn++) {
            int64_t page = turn * 5 % 6, row = turn / 3 % 28;
            assert_int_equal(zarr_read_rows(f, page, row, 2, rows), 0);
            for (int64_t i = 0; i < 65 * 2; i++) {
                int64_t at[5] = {page / 3, 1, page % 3, row + i / 65, i % 65};
                assert_true((double)rows[i] == value_at(&s, at));
            }
            int64_t most = budgets[k % 6] > f->slot_bytes ? budgets[k % 6] : f->slot_bytes, kept = 0;
            for (int64_t i = 0; i < f->n_slots; i++) {
                kept += f->slots[i].data != NULL ? f->slot_bytes : 0;
            }
            assert_int_equal(kept, f->kept_bytes);
            assert_true(kept <= most);
        }
        zarr_close(f);
        run("rm -r '%s'", path);
    }
}

static void missing_chunks_hold_the_fill_value(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        float value;
    } fills[] = {{"7", 7}, {"null", 0}, {"\"NaN\"", NAN}, {"\"-Infinity\"", -INFINITY}, {"2.5", 2.5f}};
    for (int k = 0; k < 5; k++) {
        store s = {"<f4", "zstd", ".", fills[k].text, 2, {20, 30}, {10, 10}};
        float rows[20 * 30];
        const char *path = in_folder("holes.zarr");
        write_zarray(path, &s);
        refused(path, "stores no pixels");
        write_chunk(path, &s, 4);
        image_file *f = opened(path);
        assert_int_equal(image_read_rows(f, 0, 0, 20, rows), 0);
        for (int64_t i = 0; i < 600; i++) {
            int64_t at[2] = {i / 30, i % 30};
            int is_stored = i >= 300 && i % 30 >= 10 && i % 30 < 20;
            float expected = is_stored ? (float)value_at(&s, at) : fills[k].value;
            assert_true(rows[i] == expected || (isnan(rows[i]) && isnan(expected)));
        }
        image_close(f);
        run("rm -r '%s'", path);
    }
}

// ---- Metadata ------------------------------------------------------------------------------------------

#define MULTISCALES(axes, path, transformations)                                                              \
    "{\"multiscales\":[{\"version\":\"0.4\"," axes "\"datasets\":[{\"path\":" path                              \
    ",\"coordinateTransformations\":" transformations "}]}],"                                                  \
    "\"omero\":{\"channels\":[{\"label\":\"DAPI\\n\"},{\"label\":\"actin\"}]}}"
#define AXIS(name, unit) "{\"name\":\"" name "\",\"unit\":\"" unit "\"}"
#define AXES(list) "\"axes\":[" list "],"

// An image with these attributes, whose array "0" has the last `n` of t, c, z, y, x.
static const char *image_with(const char *attributes, int n)
{
    store s = {"<u2", "null", ".", "0", n, {0}, {0}};
    static const int64_t shape[5] = {2, 2, 3, 6, 7};
    memcpy(s.shape, shape + 5 - n, sizeof shape[0] * (size_t)n);
    memcpy(s.chunk, s.shape, sizeof s.shape);
    run("rm -rf '%s'", in_folder("image.zarr"));
    write_store(in_folder("image.zarr/0"), &s);
    spill_text(in_folder("image.zarr/.zgroup"), "{\"zarr_format\":2}");
    spill_text(in_folder("image.zarr/.zattrs"), attributes);
    return in_folder("image.zarr");
}

static void reads_metadata(void **state)
{
    (void)state;
    image_facts facts;
    char name[320];
    const char *path = image_with(
        MULTISCALES(AXES(AXIS("t", "millisecond") "," AXIS("c", "") "," AXIS("z", "nanometer") ","
                         AXIS("y", "micrometer") "," AXIS("x", "nanometer")),
                    "\"0\"", "[{\"type\":\"scale\",\"scale\":[500,1,300,0.25,125]}]"), 5);
    snprintf(name, sizeof name, "%s/@2", path);
    image_file *f = opened(name);
    image_info(f, &facts);
    assert_true(facts.interval == 0.5 && facts.pixel_height == 0.25 && facts.pixel_width == 0.125);
    assert_true(fabs(facts.spacing - 0.3) < 1e-12);
    assert_string_equal(facts.name, "actin");
    image_close(f);
    snprintf(name, sizeof name, "%s@1", path);
    f = opened(name);
    image_info(f, &facts);
    assert_string_equal(facts.name, "DAPI ");           // no line breaks
    image_close(f);
    // Version 0.3: axes are plain names; a size without a unit is not known.
    f = opened(image_with(
        MULTISCALES(AXES("\"z\",\"y\",\"x\""), "\"0\"", "[{\"type\":\"scale\",\"scale\":[1,2,3]}]"), 3));
    image_info(f, &facts);
    assert_int_equal(facts.slices, 3);
    assert_int_equal(facts.frames, 1);
    assert_true(facts.pixel_width == 0 && facts.spacing == 0);
    image_close(f);
    // Version 0.1: no axes, always five.
    snprintf(name, sizeof name, "%s@1", image_with(MULTISCALES("", "\"0\"", "[]"), 5));
    f = opened(name);
    image_info(f, &facts);
    assert_int_equal(facts.pages, 6);
    image_close(f);
    // A bare array: its dimensions as usual, or as the caller says.
    f = opened(in_folder("image.zarr:/0@2"));
    image_info(f, &facts);
    assert_int_equal(facts.slices, 3);
    image_close(f);
    image_with("{}", 3);
    f = opened(in_folder("image.zarr:/0"));
    image_info(f, &facts);
    assert_int_equal(facts.frames, 3);
    image_close(f);
    assert_int_equal(image_open_axes(&f, in_folder("image.zarr:/0"), "ZYX"), 0);
    image_info(f, &facts);
    assert_int_equal(facts.slices, 3);
    image_close(f);
    refused_axes(in_folder("image.zarr:/0"), "CYX", "3 channels; choose one");
    refused_axes(in_folder("image.zarr:/0"), "YX", "has axes yx but 3 dimensions");
    refused_axes(in_folder("image.zarr:/0"), "T4YX", "size 3, not 4");
    refused_axes(in_folder("image.zarr:/0"), "YXC", "must come last");
    image_with("{}", 4);
    refused(in_folder("image.zarr:/0"), "4 dimensions that have no names");
}

static void refuses_attributes_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *attributes, *word;
    } cases[] = {
        {"", "is not JSON"},
        {"{\"multiscales\":", "is not JSON"},
        {"[1]", "a JSON object is needed"},
        {"{}", "name no multiscales"},
        {"{\"multiscales\":{}}", "name no multiscales"},
        {"{\"multiscales\":[3]}", "path nothing"},
        {"{\"plate\":{}}", "plate or well"},
        {"{\"bioformats2raw.layout\":3}", "collection of images"},
        {MULTISCALES("", "\"../0\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"/etc\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"0/../../x\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\".\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"0//0\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "5", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"\\u001b[31m\"", "[]"), "a path below this folder"},
        {MULTISCALES("", "\"elsewhere\"", "[]"), "no such array"},
        {MULTISCALES(AXES("\"y\",\"x\""), "\"0\"", "[]"), "axes yx but 5"},
        {MULTISCALES(AXES("\"t\",\"c\",\"z\",\"x\",\"y\""), "\"0\"", "[]"), "must come last"},
        {MULTISCALES(AXES("\"t\",\"c\",\"phase\",\"y\",\"x\""), "\"0\"", "[]"), "name of its own"},
        {MULTISCALES(AXES("\"t\",\"c\",\"t\",\"y\",\"x\""), "\"0\"", "[]"), "twice"},
        {MULTISCALES("\"axes\":7,", "\"0\"", "[]"), "has axes 7"},
        {MULTISCALES(AXES(""), "\"0\"", "[]"), "has axes []"},
        {MULTISCALES("", "\"0\"", "[]"), "has 2 channels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(image_with(cases[i].attributes, 5), cases[i].word);
    }
    spill_text(in_folder("image.zarr/zarr.json"), "{\"zarr_format\":3}");
    spill_text(in_folder("image.zarr/.zattrs"), "{}");
    refused(in_folder("image.zarr"), "Zarr of version 3");
    unlink(in_folder("image.zarr/.zgroup"));
    unlink(in_folder("image.zarr/.zattrs"));
    refused(in_folder("image.zarr"), "Zarr of version 3");
    unlink(in_folder("image.zarr/zarr.json"));
    refused(in_folder("image.zarr"), "neither .zarray nor .zgroup");
    refused(in_folder("image.zarr:/.."), "must lie inside");
    refused(in_folder("nothing.zarr"), "no such folder");
    spill_text(in_folder("plain.zarr"), "text");
    refused(in_folder("plain.zarr"), "is a file");
    // JSON nested a million deep, and 5 MB of it.
    size_t n = 5 << 20;
    char *deep = malloc(n + 1);
    memset(deep, '[', n);
    deep[n] = '\0';
    run("mkdir '%s'", in_folder("deep.zarr"));
    spill(in_folder("deep.zarr/.zattrs"), deep, n);
    refused(in_folder("deep.zarr"), "at most 4194304 are accepted");
    spill(in_folder("deep.zarr/.zattrs"), deep, 1000000);
    refused(in_folder("deep.zarr"), "is not JSON");
    free(deep);
}

// .zarray with `from` replaced by `to`.
static const char *altered_array(const char *from, const char *to)
{
    store s = {"<u2", "lz4", ".", "0", 2, {20, 30}, {10, 10}};
    const char *path = in_folder("array.zarr"), *file = in_folder("array.zarr/.zarray");
    char text[2000] = "", changed[2000];
    write_store(path, &s);
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    spill_text(file, changed);
    return path;
}

static void refuses_arrays_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {"\"zarr_format\":2", "\"zarr_format\":3", "has zarr_format 3; 2 is read"},
        {"\"zarr_format\":2", "\"zarr\":2", "has zarr_format nothing"},
        {"\"C\"", "\"F\"", "has order \"F\""},
        {"<u2", "<u8", "dtype \"<u8\""},
        {"<u2", "<f2", "dtype \"<f2\""},
        {"<u2", "<c8", "dtype \"<c8\""},
        {"<u2", "|u2", "dtype \"|u2\""},
        {"<u2", "<u\\u001b[31m", "dtype \"<u\\u001B[31m\""},
        {"\"<u2\"", "[[\"a\",\"<u2\"]]", "dtype [["},
        {"\"id\":\"blosc\"", "\"id\":\"lzma\"", "blosc, zlib, gzip, zstd and null are read"},
        {"{\"id\":\"blosc\"", "{\"x\":\"blosc\"", "has compressor {"},
        {"\"filters\":null", "\"filters\":[{\"id\":\"delta\"}]", "arrays without filters"},
        {"\"fill_value\":0", "\"fill_value\":\"AAA=\"", "a number or null"},
        {"\"dimension_separator\":\".\"", "\"dimension_separator\":\"..\"", "dimension_separator \"..\""},
        {"\"shape\":[20,30]", "\"shape\":[20]", "has shape [20]; 2 to 8 sizes"},
        {"\"shape\":[20,30]", "\"shape\":[0,30]", "has shape [0,30]"},
        {"\"shape\":[20,30]", "\"shape\":[-20,30]", "sizes from 1 to 16777216"},
        {"\"shape\":[20,30]", "\"shape\":[20.5,30]", "sizes from 1 to 16777216"},
        {"\"shape\":[20,30]", "\"shape\":[20,30000000]", "sizes from 1 to 16777216"},
        {"\"shape\":[20,30]", "\"shape\":[99999999999999999999999,30]", "is not JSON"},
        {"\"shape\":[20,30]", "\"shape\":[16777216,16777216]", "at most 1099511 million pixels"},
        {"\"shape\":[20,30]", "\"shape\":[1,20,30]", "3 sizes in shape and 2 in chunks"},
        {"\"shape\":[20,30]", "\"shape\":[1,1,1,1,1,1,1,1,1]", "2 to 8 sizes"},
        {"\"chunks\":[10,10]", "\"chunks\":[0,10]", "has chunks [0,10]"},
        {"\"chunks\":[10,10]", "\"chunks\":[100000,100000]", "chunks of at most 1024 MB"},
        {"\"chunks\":[10,10]", "\"chunks\":true", "has chunks true"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(altered_array(cases[i].from, cases[i].to), cases[i].word);
    }
    store s = {"|u1", "null", ".", "0", 3, {2000000, 2, 2}, {1, 2, 2}};
    write_zarray(in_folder("many.zarr"), &s);
    refused(in_folder("many.zarr"), "more than 1000000 pages");
}

// ---- Damage --------------------------------------------------------------------------------------------

static void cut_chunks_fail(void **state)
{
    (void)state;
    static const char *const codecs[] = {"null", "zlib", "gzip", "zstd", "blosclz", "lz4"};
    for (int k = 0; k < 6; k++) {
        store s = {"<u2", codecs[k], ".", "0", 2, {20, 30}, {20, 30}};
        const char *path = in_folder("cut.zarr");
        write_store(path, &s);
        assert_int_equal(try_all(path), 0);
        size_t n;
        unsigned char *data = slurp(in_folder("cut.zarr/0.0"), &n);
        for (size_t length = 0; length < n; length += length < 40 || n - length < 40 ? 1 : 7) {
            spill(in_folder("cut.zarr/0.0"), data, length);
            if (try_all(path) == 0) {
                fail_msg("%s cut to %zu of %zu bytes was read", codecs[k], length, n);
            }
        }
        // More than there should be: for zlib and Blosc it may lie behind the end.
        unsigned char *longer = calloc(n + 7, 1);
        memcpy(longer, data, n);
        spill(in_folder("cut.zarr/0.0"), longer, n + 7);
        int rc = try_all(path);
        assert_true(rc != 0 || k == 1 || k == 2);
        free(longer);
        free(data);
        // A chunk of another size, whole.
        store other = {"<u2", codecs[k], ".", "0", 2, {20, 30}, {20, 31}};
        write_chunk(path, &other, 0);
        assert_int_not_equal(try_all(path), 0);
    }
}

// Every byte of the metadata and of a chunk changed in three ways: read or refused, but never worse.
static void altered_stores_never_crash(void **state)
{
    (void)state;
    static const char *const codecs[] = {"blosclz", "lz4", "zstd", "zlib"};
    static const char *const files[] = {".zattrs", "0/.zarray", "0/0.0.0"};
    for (int k = 0; k < 4; k++) {
        store s = {"<u2", codecs[k], ".", "0", 3, {1, 20, 16}, {1, 20, 16}};
        run("mkdir -p '%s'", in_folder("altered.zarr"));
        spill_text(in_folder("altered.zarr/.zattrs"),
                   MULTISCALES(AXES("\"z\",\"y\"," AXIS("x", "nm")), "\"0\"",
                               "[{\"type\":\"scale\",\"scale\":[1,2,3]}]"));
        write_store(in_folder("altered.zarr/0"), &s);
        for (int i = k == 0 ? 0 : 2; i < 3; i++) {
            char file[400];
            size_t n;
            snprintf(file, sizeof file, "%s/%s", in_folder("altered.zarr"), files[i]);
            unsigned char *data = slurp(file, &n);
            for (size_t at = 0; at < n; at++) {
                static const unsigned char changes[] = {0x01, 0x80, 0xff};
                for (int c = 0; c < 3; c++) {
                    data[at] ^= changes[c];
                    spill(file, data, n);
                    try_all(in_folder("altered.zarr"));
                    data[at] ^= changes[c];
                }
            }
            spill(file, data, n);
            free(data);
            assert_int_equal(try_all(in_folder("altered.zarr")), 0);
        }
    }
}

// Blosc's header: version, codec version, flags, typesize, then decoded, block and encoded bytes (4 each).
static void lying_headers_are_refused(void **state)
{
    (void)state;
    static const uint32_t values[] = {0, 1, 15, 16, 1199, 1201, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff};
    store s = {"<u2", "lz4", ".", "0", 2, {20, 30}, {20, 30}};
    const char *path = in_folder("lies.zarr"), *chunk = in_folder("lies.zarr/0.0");
    write_store(path, &s);
    size_t n;
    unsigned char *data = slurp(chunk, &n);
    for (int field = 4; field < 16; field += 4) {
        unsigned char before[4];
        memcpy(before, data + field, 4);
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            for (int b = 0; b < 4; b++) {
                data[field + b] = (unsigned char)(values[v] >> 8 * b);
            }
            spill(chunk, data, n);
            if (try_all(path) == 0) {
                fail_msg("field at %d set to %u was read", field, values[v]);
            }
        }
        memcpy(data + field, before, 4);
    }
    free(data);
    // A chunk file far longer than a chunk can be is not even read.
    spill(chunk, "", 0);
    assert_int_equal(truncate(chunk, (off_t)1 << 40), 0);
    assert_int_not_equal(try_all(path), 0);
}

static void loops_and_pipes_end(void **state)
{
    (void)state;
    store s = {"|u1", "null", "/", "0", 2, {4, 4}, {4, 4}};
    const char *path = in_folder("odd.zarr");
    run("mkdir '%s'", path);
    assert_int_equal(symlink(".zarray", in_folder("odd.zarr/.zarray")), 0);
    refused(path, "neither .zarray nor .zgroup");
    unlink(in_folder("odd.zarr/.zarray"));
    write_store(path, &s);
    assert_int_equal(try_all(path), 0);
    static const char *const commands[] = {"rm '%s'; mkfifo '%s'", "rm '%s'; ln -s 0 '%s'", "rm '%s'; mkdir '%s'",
                                           "rm -r '%s'; ln -s /dev/zero '%s'"};
    for (int k = 0; k < 4; k++) {
        char command[800];
        const char *chunk = in_folder("odd.zarr/0/0");
        snprintf(command, sizeof command, commands[k], chunk, chunk);
        assert_int_equal(system(command), 0);
        assert_int_not_equal(try_all(path), 0);
    }
    assert_int_equal(mkfifo(in_folder("odd.zarr/pipe"), 0600), 0);
    unlink(in_folder("odd.zarr/.zarray"));
    assert_int_equal(rename(in_folder("odd.zarr/pipe"), in_folder("odd.zarr/.zarray")), 0);
    refused(path, "is not a regular file");
}

// ---- A tool for test/check/zarr.sh -----------------------------------------------------------------------

static int read_tool(const char *name)
{
    image_file *f = NULL;
    image_facts facts;
    int rc = image_open(&f, name);
    if (rc == 0) {
        image_info(f, &facts);
        fprintf(stderr, "%lld %lld %lld %lld %d %.9g %.9g %.9g %.9g %s\n", (long long)facts.slices,
                (long long)facts.frames, (long long)facts.height, (long long)facts.width, (int)facts.type,
                facts.pixel_height, facts.pixel_width, facts.spacing, facts.interval, facts.name);
        float *row = malloc(sizeof *row * (size_t)facts.width);
        for (int64_t i = 0; rc == 0 && i < facts.pages * facts.height; i++) {
            rc = image_read_rows(f, i / facts.height, i % facts.height, 1, row);
            fwrite(row, sizeof *row, rc == 0 ? (size_t)facts.width : 0, stdout);
        }
        free(row);
        image_close(f);
    }
    if (rc != 0) {
        fprintf(stderr, "%s\n", cli_error_line());
    }
    return rc;
}

static int tool(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "read") == 0) {
        return read_tool(argv[2]);
    }
    if (argc == 9 && strcmp(argv[1], "write") == 0) {
        int64_t n[5];
        for (int i = 0; i < 5; i++) {
            n[i] = strtoll(argv[4 + i], NULL, 10);
        }
        image_layout layout = layout_of(n[0], n[1], n[2], n[3], n[4],
                                        strcmp(argv[3], "u8") == 0    ? USPLIT_TYPE_U8
                                        : strcmp(argv[3], "u16") == 0 ? USPLIT_TYPE_U16
                                                                      : USPLIT_TYPE_F32);
        return write_image(argv[2], &layout, 37, 1);
    }
    return 2;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        return tool(argc, argv);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(levels_are_means),
        cmocka_unit_test(saturation_is_counted),
        cmocka_unit_test(only_whole_images_appear),
        cmocka_unit_test(only_zarr_is_replaced),
        cmocka_unit_test(reads_all_types_codecs_and_chunks),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(missing_chunks_hold_the_fill_value),
        cmocka_unit_test(reads_metadata),
        cmocka_unit_test(refuses_attributes_in_words),
        cmocka_unit_test(refuses_arrays_in_words),
        cmocka_unit_test(cut_chunks_fail),
        cmocka_unit_test(altered_stores_never_crash),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(loops_and_pipes_end),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
