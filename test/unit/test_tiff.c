// TIFF in and out of the program: what it writes libtiff reads, what libtiff writes it reads, and what nobody
// should trust (lying sizes, cut files, loops, foreign types) ends in one line, never in a crash.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <tiffio.h>

#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/files.h"
#include "cli/image/images.h"
#include "cli/image/ome.h"
#include "common/folder.h"
#include "common/image_files.h"

static int set_up(void **state)
{
    TIFFSetWarningHandler(NULL);
    TIFFSetErrorHandler(NULL);
    return make_folder(state);
}

static float pixel(int64_t place, int64_t channel, int64_t y, int64_t x)
{
    return (float)(place * 31 + channel * 100 + y * 2 + x % 7);
}

// ---- Our writer, read by libtiff and by our reader --------------------------------------------------

static void write_stack(const char *name, int32_t type, int force_big)
{
    enum { H = 75, W = 301, K = 2, BAND = 25 };
    image_layout layout = {.height = H, .width = W, .channels = K, .slices = 3, .frames = 2, .type = type,
                          .pixel_width = 0.36, .pixel_height = 0.36, .spacing = 0.5, .interval = 2,
                          .names = {"lamin B1", "DNA \xc2\xb5"}, .info = "test", .force_big = force_big};
    image_writer *w = NULL;
    float *band = malloc(sizeof *band * K * BAND * W);
    assert_int_equal(image_create(&w, name, &layout), 0);
    for (int64_t place = 0; place < 6; place++) {
        for (int64_t row = 0; row < H; row += BAND) {
            for (int64_t i = 0; i < K * BAND * W; i++) {
                band[i] = pixel(place, i / (BAND * W), row + i / W % BAND, i % W);
            }
            assert_int_equal(image_write_rows(w, place, row, BAND, band), 0);
        }
    }
    assert_false(files_exists(name));               // it appears whole or not at all
    assert_int_equal(image_commit(w, NULL), 0);
    assert_true(files_exists(name));
    image_writer_free(w);
    free(band);
}

static void round_trip(void **state)
{
    (void)state;
    static const int32_t types[] = {USPLIT_TYPE_U16, USPLIT_TYPE_F32};
    for (int k = 0; k < 4; k++) {
        const char *name = in_folder("stack.tif");
        write_stack(name, types[k % 2], k / 2);
        for (int channel = 0; channel < 2; channel++) {
            char chosen[192];
            image_file *f = NULL;
            image_facts facts;
            snprintf(chosen, sizeof chosen, "%s@%d", name, channel + 1);
            assert_int_equal(image_open(&f, chosen), 0);
            image_info(f, &facts);
            assert_int_equal(facts.pages, 6);
            assert_int_equal(facts.slices, 3);
            assert_int_equal(facts.frames, 2);
            assert_int_equal(facts.type, types[k % 2]);
            assert_true(facts.pixel_width > 0.35999 && facts.pixel_width < 0.36001);
            assert_true(facts.spacing > 0.499 && facts.spacing < 0.501);
            float rows[3 * 301];
            for (int64_t page = 5; page >= 0; page--) {
                assert_int_equal(image_read_rows(f, page, 40, 3, rows), 0);
                for (int64_t i = 0; i < 3 * 301; i++) {
                    assert_true(rows[i] == pixel(page, channel, 40 + i / 301, i % 301));
                }
            }
            image_close(f);
        }
        TIFF *t = TIFFOpen(name, "r");
        char *text = NULL;
        assert_non_null(t);
        assert_int_equal(TIFFNumberOfDirectories(t), 12);
        assert_int_equal(TIFFIsBigTIFF(t), k / 2);
        assert_true(TIFFGetField(t, TIFFTAG_IMAGEDESCRIPTION, &text));
        assert_non_null(strstr(text,
                               "ImageJ=1.53k\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\n"
                               "mode=composite\nunit=micron\n"));
        TIFFClose(t);
        unlink(name);
    }
}

static void saturation_is_counted(void **state)
{
    (void)state;
    float values[6] = {-1, 0, 254.4f, 254.6f, 256, 70000}, back[6];
    image_layout layout = {.height = 1, .width = 6, .channels = 1, .slices = 1, .frames = 1,
                          .type = USPLIT_TYPE_U8};
    image_writer *w = NULL;
    image_file *f = NULL;
    int64_t saturated = 0;
    assert_int_equal(image_create(&w, in_folder("u8.tif"), &layout), 0);
    assert_int_equal(image_write_rows(w, 0, 0, 1, values), 0);
    assert_int_equal(image_commit(w, &saturated), 0);
    image_writer_free(w);
    assert_int_equal(saturated, 3);
    assert_int_equal(image_open(&f, in_folder("u8.tif")), 0);
    assert_int_equal(image_read_rows(f, 0, 0, 1, back), 0);
    image_close(f);
    static const float expected[6] = {0, 0, 254, 255, 255, 255};
    assert_memory_equal(back, expected, sizeof back);
}

static void abandoned_output_leaves_nothing(void **state)
{
    (void)state;
    float row[4] = {0};
    image_layout layout = {.height = 2, .width = 4, .channels = 1, .slices = 1, .frames = 1,
                          .type = USPLIT_TYPE_F32};
    image_writer *w = NULL;
    assert_int_equal(image_create(&w, in_folder("never.tif"), &layout), 0);
    assert_int_equal(image_write_rows(w, 0, 0, 1, row), 0);
    image_writer_free(w);
    assert_false(files_exists(in_folder("never.tif")));
    files_list list = {0};
    cli_error_clear();
    assert_int_not_equal(files_list_folder(&list, folder), 0);      // no .tif left, whole or partial
    files_list_free(&list);
    cli_error_clear();
    assert_int_not_equal(image_create(&w, in_folder("no/folder.tif"), &layout), 0);
    assert_null(w);
    cli_error_clear();
}

// ---- What others write ------------------------------------------------------------------------------

typedef struct kind {
    int bits, format, samples, planar, photometric, compression, tiled;
} kind;

static void write_foreign(const char *name, const kind *k, uint32_t height, uint32_t width, int pages,
                          const char *mode)
{
    TIFF *t = TIFFOpen(name, mode);
    assert_non_null(t);
    for (int page = 0; page < pages; page++) {
        TIFFSetField(t, TIFFTAG_IMAGEWIDTH, width);
        TIFFSetField(t, TIFFTAG_IMAGELENGTH, height);
        TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, k->bits);
        TIFFSetField(t, TIFFTAG_SAMPLEFORMAT, k->format);
        TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, k->samples);
        TIFFSetField(t, TIFFTAG_PLANARCONFIG, k->planar);
        TIFFSetField(t, TIFFTAG_PHOTOMETRIC, k->photometric);
        TIFFSetField(t, TIFFTAG_COMPRESSION, k->compression);
        if (k->photometric == PHOTOMETRIC_PALETTE) {
            static uint16_t map[256];
            TIFFSetField(t, TIFFTAG_COLORMAP, map, map, map);
        }
        if (k->samples == 2) {
            uint16_t extra[1] = {EXTRASAMPLE_UNSPECIFIED};
            TIFFSetField(t, TIFFTAG_EXTRASAMPLES, 1, extra);
        }
        if (k->tiled) {
            TIFFSetField(t, TIFFTAG_TILEWIDTH, 32);
            TIFFSetField(t, TIFFTAG_TILELENGTH, 16);
        } else {
            TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, 7);
        }
        int planes = k->planar == PLANARCONFIG_SEPARATE ? k->samples : 1;
        int step = k->samples / planes, bytes = (k->bits + 7) / 8;
        uint32_t across = k->tiled ? 32 : width, down = k->tiled ? 16 : 7;
        unsigned char *block = calloc((size_t)across * down, (size_t)(step * bytes));
        for (int plane = 0; plane < planes; plane++) {
            for (uint32_t y0 = 0; y0 < height; y0 += down) {
                for (uint32_t x0 = 0; x0 < width; x0 += across) {
                    for (uint32_t i = 0; i < across * down * (uint32_t)step; i++) {
                        uint32_t y = y0 + i / (uint32_t)step / across, x = x0 + i / (uint32_t)step % across;
                        float value = pixel(page, plane + (int)(i % (uint32_t)step), y, x);
                        uint16_t wide = (uint16_t)value;
                        unsigned char narrow = (unsigned char)wide;
                        const void *src = bytes == 1   ? (void *)&narrow
                                          : bytes == 2 ? (void *)&wide
                                                       : (void *)&value;
                        memcpy(block + i * (uint32_t)bytes, src, (size_t)(bytes > 4 ? 4 : bytes));
                    }
                    if (k->tiled) {
                        TIFFWriteTile(t, block, x0, y0, 0, (uint16_t)plane);
                    } else {
                        uint32_t rows = height - y0 < down ? height - y0 : down;
                        TIFFWriteEncodedStrip(t, TIFFComputeStrip(t, y0, (uint16_t)plane), block,
                                              (tmsize_t)(rows * across * (uint32_t)(step * bytes)));
                    }
                }
            }
        }
        free(block);
        assert_true(TIFFWriteDirectory(t));
    }
    TIFFClose(t);
}

static void check_foreign(const kind *k, const char *mode)
{
    enum { H = 50, W = 45 };
    char chosen[192];
    const char *name = in_folder("foreign.tif");
    write_foreign(name, k, H, W, 3, mode);
    for (int channel = 0; channel < k->samples; channel++) {
        image_file *f = NULL;
        float rows[H * W];
        snprintf(chosen, sizeof chosen, k->samples > 1 ? "%s@%d" : "%s", name, channel + 1);
        if (image_open(&f, chosen) != 0) {
            fail_msg("%s", cli_error_line());
        }
        for (int page = 2; page >= 0; page--) {
            assert_int_equal(image_read_rows(f, page, 0, H, rows), 0);
            for (int i = 0; i < H * W; i++) {
                float expected = pixel(page, channel, i / W, i % W);
                assert_true(rows[i] == (k->bits == 8 ? (float)((int)expected & 255) : expected));
            }
            assert_int_equal(image_read_rows(f, page, H - 1, 1, rows), 0);
            assert_int_equal(image_read_rows(f, page, 3, 1, rows), 0);
            assert_true(rows[0] == (float)((int)pixel(page, channel, 3, 0) & (k->bits == 8 ? 255 : 65535)));
        }
        image_close(f);
    }
    unlink(name);
}

static void reads_what_libtiff_writes(void **state)
{
    (void)state;
    static const int compressions[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE,
                                       COMPRESSION_PACKBITS};
    for (int c = 0; c < 4; c++) {
        for (int tiled = 0; tiled < 2; tiled++) {
            for (int planar = PLANARCONFIG_CONTIG; planar <= PLANARCONFIG_SEPARATE; planar++) {
                for (int samples = 1; samples <= 3; samples++) {
                    int photometric = samples == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
                    kind k = {16, SAMPLEFORMAT_UINT, samples, planar, photometric, compressions[c], tiled};
                    check_foreign(&k, "w");
                    k.bits = 8;
                    check_foreign(&k, "wb8");       // BigTIFF, big-endian
                    k.bits = 32;
                    k.format = SAMPLEFORMAT_IEEEFP;
                    check_foreign(&k, "wb");
                }
            }
        }
    }
}

// Samples of 9 to 15 bits lie without gaps; every row begins with a new byte.
static void reads_packed_samples(void **state)
{
    (void)state;
    enum { H = 11, W = 13 };
    for (int bits = 9; bits < 16; bits++) {
        for (int samples = 1; samples <= 2; samples++) {
            char chosen[192];
            unsigned char row[(W * 2 * 15 + 7) / 8];
            size_t row_bytes = (size_t)(W * samples * bits + 7) / 8;
            const char *name = in_folder("packed.tif");
            TIFF *t = TIFFOpen(name, "w");
            TIFFSetField(t, TIFFTAG_IMAGEWIDTH, W);
            TIFFSetField(t, TIFFTAG_IMAGELENGTH, H);
            TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, bits);
            TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, samples);
            TIFFSetField(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
            TIFFSetField(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
            TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, 4);
            for (uint32_t y = 0; y < H; y++) {
                memset(row, 0, sizeof row);
                for (int i = 0; i < W * samples; i++) {
                    int value = ((int)y * 977 + i * 331) & ((1 << bits) - 1);
                    for (int b = 0; b < bits; b++) {
                        int at = i * bits + b;
                        row[at / 8] |= (unsigned char)((value >> (bits - 1 - b) & 1) << (7 - at % 8));
                    }
                }
                assert_int_equal(TIFFScanlineSize(t), row_bytes);
                assert_int_equal(TIFFWriteScanline(t, row, y, 0), 1);
            }
            TIFFClose(t);
            for (int s = 0; s < samples; s++) {
                image_file *f = NULL;
                image_facts facts;
                float rows[H * W];
                snprintf(chosen, sizeof chosen, samples > 1 ? "%s@%d" : "%s", name, s + 1);
                assert_int_equal(image_open(&f, chosen), 0);
                image_info(f, &facts);
                assert_int_equal(facts.type, USPLIT_TYPE_U16);
                assert_int_equal(image_read_rows(f, 0, 0, H, rows), 0);
                for (int i = 0; i < H * W; i++) {
                    int expected = (i / W * 977 + (i % W * samples + s) * 331) & ((1 << bits) - 1);
                    assert_true(rows[i] == (float)expected);
                }
                image_close(f);
            }
        }
    }
}

static void refuses_in_words(void **state)
{
    (void)state;
    static const struct {
        kind k;
        const char *word;
    } cases[] = {
        {{8, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_PALETTE, COMPRESSION_NONE, 0}, "palette"},
        {{8, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISWHITE, COMPRESSION_NONE, 0}, "inverted"},
        {{64, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_NONE, 0}, "64-bit unsigned"},
        {{16, SAMPLEFORMAT_IEEEFP, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_NONE, 0}, "16-bit float"},
        {{8, SAMPLEFORMAT_UINT, 3, 1, PHOTOMETRIC_RGB, COMPRESSION_NONE, 0}, "3 channels; choose one"},
    };
    char chosen[192];
    const char *name = in_folder("odd.tif");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_foreign(name, &cases[i].k, 20, 20, 1, "w");
        refused(name, cases[i].word);
    }
    snprintf(chosen, sizeof chosen, "%s@4", name);
    refused(chosen, "channel 4");
    refused(in_folder("nothing.tif"), "no such file");
    refused(folder, "is a folder");
    spill(in_folder("text.tif"), "this is no image", 16);
    refused(in_folder("text.tif"), "not a readable TIFF");
}

// ---- Damage -----------------------------------------------------------------------------------------

static void cut_files_fail(void **state)
{
    (void)state;
    static const kind kinds[] = {
        {16, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_NONE, 0},
        {8, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_ADOBE_DEFLATE, 1},
    };
    for (int k = 0; k < 2; k++) {
        size_t n;
        const char *name = in_folder("whole.tif"), *cut = in_folder("cut.tif");
        write_foreign(name, &kinds[k], 40, 33, 2, "w");
        unsigned char *data = slurp(name, &n);
        assert_int_equal(try_all(name), 0);
        for (size_t length = 0; length < n; length += length < 64 || n - length < 400 ? 1 : 37) {
            spill(cut, data, length);
            if (try_all(cut) == 0) {
                fail_msg("kind %d cut to %zu of %zu bytes was read", k, length, n);
            }
        }
        free(data);
    }
}

// Every byte of the header and directories changed in three ways: read or refused, but never worse.
static void altered_files_never_crash(void **state)
{
    (void)state;
    kind k = {16, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_LZW, 0};
    size_t n;
    const char *name = in_folder("altered.tif");
    write_foreign(name, &k, 20, 20, 2, "w");
    unsigned char *data = slurp(name, &n);
    for (size_t at = 0; at < n; at++) {
        static const unsigned char changes[] = {0x01, 0x80, 0xff};
        for (int c = 0; c < 3; c++) {
            unsigned char before = data[at];
            data[at] ^= changes[c];
            spill(name, data, n);
            try_all(name);
            data[at] = before;
        }
    }
    free(data);
}

// Changes the value of a tag of the first directory (classic, little-endian, one long or short).
static void set_tag(unsigned char *data, int tag, uint32_t value)
{
    uint32_t at =
        (uint32_t)data[4] | (uint32_t)data[5] << 8 | (uint32_t)data[6] << 16 | (uint32_t)data[7] << 24;
    int n = data[at] | data[at + 1] << 8;
    for (int i = 0; i < n; i++) {
        unsigned char *entry = data + at + 2 + 12 * i;
        if ((entry[0] | entry[1] << 8) == tag) {
            entry[2] = 4;
            for (int b = 0; b < 4; b++) {
                entry[8 + b] = (unsigned char)(value >> 8 * b);
            }
            return;
        }
    }
    fail_msg("no tag %d", tag);
}

static void lying_sizes_are_refused(void **state)
{
    (void)state;
    static const int compressions[] = {COMPRESSION_NONE, COMPRESSION_ADOBE_DEFLATE};
    static const uint32_t sizes[] = {100000, 1u << 24, 0x7fffffff, 0xffffffff};
    for (int c = 0; c < 2; c++) {
        for (int s = 0; s < 4; s++) {
            for (int both = 0; both < 3; both++) {
                kind k = {16, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, compressions[c], 0};
                size_t n;
                const char *name = in_folder("lies.tif");
                write_foreign(name, &k, 20, 20, 1, "wl");
                unsigned char *data = slurp(name, &n);
                if (both != 1) {
                    set_tag(data, TIFFTAG_IMAGEWIDTH, sizes[s]);
                }
                if (both != 0) {
                    set_tag(data, TIFFTAG_IMAGELENGTH, sizes[s]);
                }
                spill(name, data, n);
                assert_int_not_equal(try_all(name), 0);
                free(data);
            }
        }
    }
}

static void loops_end(void **state)
{
    (void)state;
    kind k = {8, SAMPLEFORMAT_UINT, 1, 1, PHOTOMETRIC_MINISBLACK, COMPRESSION_NONE, 0};
    size_t n;
    const char *name = in_folder("loop.tif");
    write_foreign(name, &k, 8, 8, 1, "wl");
    unsigned char *data = slurp(name, &n);
    uint32_t at = (uint32_t)data[4] | (uint32_t)data[5] << 8;
    int entries = data[at] | data[at + 1] << 8;
    memcpy(data + at + 2 + 12 * entries, data + 4, 4);      // the next directory is this one
    spill(name, data, n);
    assert_int_not_equal(try_all(name), 0);
    free(data);
}

// ---- Descriptions -----------------------------------------------------------------------------------

static void reads_descriptions(void **state)
{
    (void)state;
    image_axes a;
    describe_read(&a,
                  "ImageJ=1.53t\nimages=24\nchannels=2\nslices=3\nframes=4\nunit=\\u00B5m\nspacing=0.5\n");
    assert_int_equal(a.images, 24);
    assert_int_equal(a.channels, 2);
    assert_int_equal(a.slices, 3);
    assert_int_equal(a.frames, 4);
    assert_true(a.unit == 1 && a.spacing == 0.5);
    describe_read(&a, "{\"shape\": [3, 4, 64, 65], \"axes\": \"TCYX\"}");
    assert_int_equal(a.n_shape, 4);
    assert_int_equal(a.shape[3], 65);
    assert_string_equal(a.order, "TCYX");
    static const char *const odd[] = {NULL,
                                      "",
                                      "ImageJ=",
                                      "ImageJ=\nimages=-3\nchannels=99999999999999999999\n",
                                      "{\"shape\": [",
                                      "{\"shape\": [1,2,3,4,5,6,7,8,9,10], \"axes\": \"",
                                      "{\"shape\": [-1e9], \"axes\": \"ABCDEFGHIJKLMNOP\"}",
                                      "unit=micron"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        describe_read(&a, odd[i]);
        assert_true(a.channels >= 1 && a.slices >= 1 && a.frames >= 1);
    }
}

static void reads_ome(void **state)
{
    (void)state;
    ome_image o;
    assert_true(ome_read(&o,
                         "<?xml version='1.0'?><!-- <Pixels SizeC='9'> --><ome:OME><ome:Image Name='a>b'><ome:Pixels "
                         "DimensionOrder=\"XYTCZ\" SizeC = '2' SizeZ=\"5\" SizeT=\"3\" PhysicalSizeX=\"360\" "
                         "PhysicalSizeXUnit=\"nm\" TimeIncrement='1.5' TimeIncrementUnit='ms'>"
                         "<ome:Channel Name='A &amp; &#x3b2;&evil;'/></ome:Pixels></ome:Image></ome:OME>",
                         "x.tif"));
    assert_int_equal(o.sizes[OME_C], 2);
    assert_int_equal(o.sizes[OME_Z], 5);
    assert_int_equal(o.sizes[OME_T], 3);
    assert_true(o.pixel_width > 0.3599 && o.pixel_width < 0.3601);
    assert_true(o.interval > 0.00149 && o.interval < 0.00151);
    assert_string_equal(o.names[0], "A & \xce\xb2&evil;");
    int64_t first[3], size[3];
    int64_t *pages = ome_pages(&o, 30, 1, first, size);
    assert_non_null(pages);
    assert_int_equal(pages[(2 * 5 + 4) * 2 + 1], 2 + 3 * (1 + 2 * 4));     // t 2, z 4, c 1 in XYTCZ
    free(pages);
    assert_null(ome_pages(&o, 29, 1, first, size));
    ome_free(&o);
    // One channel of two in this file, its slices backwards; the rest in another file.
    assert_true(ome_read(&o,
                         "<OME><Image><Pixels DimensionOrder='XYZCT' SizeC='2' SizeZ='2' SizeT='1'>"
                         "<TiffData FirstC='0' IFD='0' PlaneCount='2'><UUID FileName='b.tif'/></TiffData>"
                         "<TiffData FirstC='1' FirstZ='1' IFD='0'><UUID FileName='a.tif'/></TiffData>"
                         "<TiffData FirstC='1' FirstZ='0' IFD='1'><UUID FileName='a.tif'/></TiffData>"
                         "</Pixels></Image></OME>",
                         "a.tif"));
    pages = ome_pages(&o, 2, 1, first, size);
    assert_non_null(pages);
    assert_true(first[OME_C] == 1 && size[OME_C] == 1 && size[OME_Z] == 2 && pages[0] == 1 && pages[1] == 0);
    free(pages);
    ome_free(&o);
    assert_true(ome_read(&o,
                         "<OME><Pixels SizeC='2'><TiffData IFD='0' PlaneCount='2'/><TiffData IFD='0'/></Pixels></OME>",
                         "a.tif"));
    assert_null(ome_pages(&o, 2, 1, first, size));      // a plane told twice
    ome_free(&o);
    static const char *const odd[] = {"<OME<Pixels SizeC=\"", "<OME><Pixels", "<OME><Pixels SizeC='2' SizeZ='&#99",
                                      "<OME><!--", "<OME><![CDATA[", "<OME><Pixels ' \">", "<OME></></Pixels>"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        if (ome_read(&o, odd[i], "x")) {
            fail_msg("%s was read", odd[i]);
        }
    }
    assert_true(ome_read(&o, "<OME><Pixels SizeC='1000000000' SizeZ='1000000000' SizeT='1000000000' =x= a b=c/>", "x"));
    assert_null(ome_pages(&o, 100, 1, first, size));
    ome_free(&o);
}

// ImageJ's stacks over 4 GB: one directory, the other images follow as bare pixels.
static void reads_bare_stacks(void **state)
{
    (void)state;
    enum { H = 9, W = 11, N = 6 };
    char chosen[192];
    const char *name = in_folder("bare.tif");
    TIFF *t = TIFFOpen(name, "wb");                 // big-endian, as ImageJ writes
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, W);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, H);
    TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, 16);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, H);
    TIFFSetField(t, TIFFTAG_IMAGEDESCRIPTION,
                 "ImageJ=1.53k\nimages=6\nchannels=2\nframes=3\nhyperstack=true\n");
    uint16_t plane[H * W];
    for (int i = 0; i < H * W; i++) {
        plane[i] = (uint16_t)pixel(0, 0, i / W, i % W);
    }
    TIFFWriteEncodedStrip(t, 0, plane, sizeof plane);
    TIFFClose(t);
    // libtiff puts the directory after the pixels: move the pixels behind it, then add the other images.
    size_t n;
    unsigned char *data = slurp(name, &n);
    uint32_t at = (uint32_t)data[6] << 8 | data[7];
    int entries = data[at] << 8 | data[at + 1];
    for (int i = 0; i < entries; i++) {
        unsigned char *e = data + at + 2 + 12 * i;
        if ((e[0] << 8 | e[1]) == TIFFTAG_STRIPOFFSETS) {
            uint32_t offset = (uint32_t)n;
            unsigned char *value = e + 8;
            value[0] = (unsigned char)(offset >> 24);
            value[1] = (unsigned char)(offset >> 16);
            value[2] = (unsigned char)(offset >> 8);
            value[3] = (unsigned char)offset;
            if ((e[2] << 8 | e[3]) == 3) {
                value[0] = (unsigned char)(offset >> 8);
                value[1] = (unsigned char)offset;
            }
        }
    }
    FILE *f = fopen(name, "wb");
    fwrite(data, 1, n, f);
    for (int p = 0; p < N; p++) {
        for (int i = 0; i < H * W; i++) {
            int value = (int)pixel(p / 2, p % 2, i / W, i % W);
            fputc(value >> 8, f);
            fputc(value & 255, f);
        }
    }
    fclose(f);
    free(data);
    for (int channel = 0; channel < 2; channel++) {
        image_file *src = NULL;
        image_facts facts;
        float rows[H * W];
        snprintf(chosen, sizeof chosen, "%s@%d", name, channel + 1);
        cli_error_clear();
        if (image_open(&src, chosen) != 0) {
            fail_msg("%s", cli_error_line());
        }
        image_info(src, &facts);
        assert_int_equal(facts.pages, 3);
        for (int page = 0; page < 3; page++) {
            assert_int_equal(image_read_rows(src, page, 0, H, rows), 0);
            for (int i = 0; i < H * W; i++) {
                assert_true(rows[i] == pixel(page, channel, i / W, i % W));
            }
        }
        image_close(src);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abandoned_output_leaves_nothing),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(saturation_is_counted),
        cmocka_unit_test(reads_what_libtiff_writes),
        cmocka_unit_test(reads_packed_samples),
        cmocka_unit_test(refuses_in_words),
        cmocka_unit_test(cut_files_fail),
        cmocka_unit_test(altered_files_never_crash),
        cmocka_unit_test(lying_sizes_are_refused),
        cmocka_unit_test(loops_end),
        cmocka_unit_test(reads_descriptions),
        cmocka_unit_test(reads_ome),
        cmocka_unit_test(reads_bare_stacks),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
