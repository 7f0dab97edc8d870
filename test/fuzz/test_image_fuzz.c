// Damaged image files: every file of a small corpus (our TIFFs, libtiff's, HDF5) with bytes changed at random and cut
// at random. Each is read or refused with one line; nothing crashes, hangs or takes memory without bound.
//
//     test_image_fuzz [ROUNDS]         damages of each file; 120 unless said otherwise
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>
#include <tiffio.h>

#include "cli/image/ome.h"
#include "common/folder.h"
#include "common/image_files.h"

static int rounds = 120;
static uint64_t seed = 1;

static uint32_t draw(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

static int set_up(void **state)
{
    TIFFSetWarningHandler(NULL);
    TIFFSetErrorHandler(NULL);
    return make_folder(state);
}

// ---- The corpus -------------------------------------------------------------------------------------

static void make_ours(const char *path)
{
    float rows[2 * 24 * 40];
    image_layout layout = {.height = 24, .width = 40, .channels = 2, .slices = 2, .frames = 2,
                           .type = USPLIT_TYPE_U16, .pixel_width = 0.2, .pixel_height = 0.2, .spacing = 0.5,
                           .interval = 1, .names = {"a", "b"}, .info = "i"};
    image_writer *w = NULL;
    for (int i = 0; i < 2 * 24 * 40; i++) {
        rows[i] = (float)(i % 1000);
    }
    assert_int_equal(image_create(&w, path, &layout), 0);
    for (int64_t place = 0; place < 4; place++) {
        assert_int_equal(image_write_rows(w, place, 0, 24, rows), 0);
    }
    assert_int_equal(image_commit(w, NULL), 0);
    image_writer_free(w);
}

static void make_foreign(const char *path, int compression, int tiled, int samples, const char *mode)
{
    TIFF *t = TIFFOpen(path, mode);
    unsigned char block[48 * 48 * 2 * 2];
    assert_non_null(t);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] = (unsigned char)(i * i >> 4);
    }
    for (int page = 0; page < 3; page++) {
        TIFFSetField(t, TIFFTAG_IMAGEWIDTH, 48);
        TIFFSetField(t, TIFFTAG_IMAGELENGTH, 48);
        TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, 16);
        TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, samples);
        TIFFSetField(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
        TIFFSetField(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
        TIFFSetField(t, TIFFTAG_COMPRESSION, compression);
        if (tiled) {
            TIFFSetField(t, TIFFTAG_TILEWIDTH, 16);
            TIFFSetField(t, TIFFTAG_TILELENGTH, 16);
            for (uint32_t i = 0; i < 9; i++) {
                TIFFWriteEncodedTile(t, i, block + 256 * i, (tmsize_t)(16 * 16 * 2 * samples));
            }
        } else {
            TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, 10);
            for (uint32_t y = 0; y < 48; y += 10) {
                TIFFWriteEncodedStrip(t, y / 10, block + 96 * y * (uint32_t)samples,
                                      (tmsize_t)(y < 40 ? 10 : 8) * 96 * samples);
            }
        }
        TIFFWriteDirectory(t);
    }
    TIFFClose(t);
}

static void make_hdf5(const char *path)
{
    uint16_t pixels[4 * 24 * 40];
    for (int i = 0; i < 4 * 24 * 40; i++) {
        pixels[i] = (uint16_t)i;
    }
    hsize_t dims[3] = {4, 24, 40}, chunk[3] = {1, 8, 16};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(3, dims, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 3, chunk);
    H5Pset_deflate(create, 4);
    hid_t set = H5Dcreate2(file, "raw", H5T_NATIVE_UINT16, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dwrite(set, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, pixels);
    H5Dclose(set);
    H5Pclose(create);
    H5Sclose(space);
    H5Fclose(file);
}

// ---- Damage -----------------------------------------------------------------------------------------

static void damage(const char *name, int channel, int n_rounds)
{
    size_t n;
    int refused = 0;
    char chosen[192];
    snprintf(chosen, sizeof chosen, channel > 0 ? "%s@%d" : "%s", name, channel);
    unsigned char *data = slurp(name, &n), *changed = malloc(n);
    assert_int_equal(try_all(chosen), 0);
    for (int k = 0; k < n_rounds; k++) {
        static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
        size_t length = k % 4 == 3 ? 1 + draw((uint32_t)n) : n;
        memcpy(changed, data, n);
        // Half of the changes go to the first kilobyte, where the lists of pages are.
        for (uint32_t c = k % 4 == 3 ? 0 : 1 + draw(8); c > 0; c--) {
            size_t at = draw(2) ? draw((uint32_t)n) : draw((uint32_t)(n < 1024 ? n : 1024));
            changed[at] = draw(2) ? values[draw(sizeof values)] : changed[at] ^ (unsigned char)(1u << draw(8));
        }
        spill(name, changed, length);
        refused += try_all_axes(chosen, k % 5 == 0 ? "TZYX" : k % 5 == 1 ? "CYX" : NULL) != 0;
    }
    assert_true(refused > 0);
    unlink(name);
    free(data);
    free(changed);
}

static void damaged_tiffs(void **state)
{
    (void)state;
    char name[128];
    static const char *const ours[] = {"ours.tif", "ours.ome.tif"};
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/%s", folder, ours[i]);
        make_ours(name);
        damage(name, 2, rounds);
    }
    static const int compressions[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE,
                                       COMPRESSION_PACKBITS};
    for (int c = 0; c < 4; c++) {
        for (int tiled = 0; tiled < 2; tiled++) {
            snprintf(name, sizeof name, "%s/foreign.tif", folder);
            make_foreign(name, compressions[c], tiled, 1 + tiled, c % 2 ? "wb8" : "wl");
            damage(name, tiled ? 1 : 0, rounds);
        }
    }
}

static void damaged_hdf5(void **state)
{
    (void)state;
    char name[128];
    snprintf(name, sizeof name, "%s/d.h5", folder);
    make_hdf5(name);
    damage(name, 0, 2 * rounds);
}

static void damaged_ome_text(void **state)
{
    (void)state;
    image_layout layout = {.height = 4, .width = 4, .channels = 2, .slices = 3, .frames = 2,
                           .type = USPLIT_TYPE_F32, .pixel_width = 1, .pixel_height = 1};
    const char *const names[] = {"A & B", "<&gt;\"'"};
    char *text = ome_write(&layout, names, "x", "y");
    assert_non_null(text);
    size_t n = strlen(text);
    char *changed = malloc(n + 1);
    for (int k = 0; k < 50 * rounds; k++) {
        static const char pieces[] = "<>\"'=&;#/!-? 9";
        ome_image o;
        int64_t first[3], size[3];
        memcpy(changed, text, n + 1);
        for (uint32_t c = 1 + draw(6); c > 0; c--) {
            changed[draw((uint32_t)n)] = draw(4) ? pieces[draw(sizeof pieces - 1)] : (char)draw(256);
        }
        if (ome_read(&o, changed, "f.tif")) {
            free(ome_pages(&o, 12, 1, first, size));
            ome_free(&o);
        }
    }
    free(changed);
    free(text);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        rounds = atoi(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_hdf5),
        cmocka_unit_test(damaged_tiffs),
        cmocka_unit_test(damaged_ome_text),
    };
    int rc = cmocka_run_group_tests(tests, set_up, remove_folder);
    // Address space of lying files is reserved, but not filled.
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    if (use.ru_maxrss > 1 << 20) {
        fprintf(stderr, "took %ld KB of memory\n", use.ru_maxrss);
        rc = 1;
    }
    return rc;
}
