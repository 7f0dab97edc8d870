// Image files of all kinds against other programs' (test/files/peer.py, where Python has tifffile and h5py): what
// they write is read with equal pixels and axes, what we write they read. HDF5 also without them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/images.h"
#include "common/folder.h"
#include "common/image_files.h"

static const char peer[] = "test/files/peer.py";

// ---- The peer ---------------------------------------------------------------------------------------

// Runs peer.py; skips the test where it, Python or a package is missing.
static void run_peer(const char *verb)
{
    const char *python = getenv("PYTHON") != NULL ? getenv("PYTHON") : "python3";
    char command[512], line[512] = "";
    if (!files_exists(peer)) {
        print_message("skipped: %s is not here\n", peer);
        skip();
    }
    snprintf(command, sizeof command, "'%s' %s %s '%s' 2>&1", python, peer, verb, folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (char more[512]; fgets(more, sizeof more, f) != NULL;) {
        snprintf(line, sizeof line, "%s", more);        // the last one says why
    }
    int status = pclose(f);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 77 || code == 127) {
        print_message("skipped: %s has no tifffile\n", python);
        skip();
    }
    if (code != 0) {
        fail_msg("peer.py %s: %s", verb, line);
    }
}

static int near(double value, double expected)
{
    double difference = value - expected;
    return difference < 1e-5 * (expected + 1e-9) && difference > -1e-5 * (expected + 1e-9);
}

static void compare(const char *name, const char *axes, const image_facts *e, const char *raw)
{
    char path[512];
    image_file *file = NULL;
    image_facts f;
    int64_t n = e->width * e->height;
    float *expected = malloc(sizeof *expected * (size_t)n), *is = malloc(sizeof *is * (size_t)n);
    snprintf(path, sizeof path, "%s/%s", folder, raw);
    FILE *pixels = fopen(path, "rb");
    assert_non_null(pixels);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cli_error_clear();
    if (image_open_axes(&file, path, axes[0] != '\0' ? axes : NULL) != 0) {
        fail_msg("%s", cli_error_line());
    }
    image_info(file, &f);
    if (f.slices != e->slices || f.frames != e->frames || f.channels != e->channels || f.width != e->width ||
        f.height != e->height || f.pages != e->slices * e->frames) {
        fail_msg("%s: %lld channels, %lld slices, %lld frames of %lld x %lld", name, (long long)f.channels,
                 (long long)f.slices, (long long)f.frames, (long long)f.width, (long long)f.height);
    }
    if (!near(f.pixel_width, e->pixel_width) || !near(f.pixel_height, e->pixel_width) ||
        !near(f.spacing, e->spacing) || !near(f.interval, e->interval)) {
        fail_msg("%s: pixels of %g x %g, spacing %g, interval %g", name, f.pixel_width, f.pixel_height, f.spacing,
                 f.interval);
    }
    for (int64_t page = 0; page < f.pages; page++) {
        assert_int_equal(fread(expected, sizeof *expected, (size_t)n, pixels), n);
        for (int64_t row = 0; row < f.height; row += 10) {      // in bands, as the tiler asks
            int64_t rows = f.height - row < 10 ? f.height - row : 10;
            if (image_read_rows(file, page, row, rows, is + row * f.width) != 0) {
                fail_msg("%s", cli_error_line());
            }
        }
        if (memcmp(expected, is, sizeof *is * (size_t)n) != 0) {
            fail_msg("%s: page %lld has other pixels", name, (long long)page + 1);
        }
    }
    fclose(pixels);
    image_close(file);
    free(expected);
    free(is);
}

static void reads_what_others_write(void **state)
{
    (void)state;
    char path[128], line[512];
    int n = 0;
    run_peer("write");
    snprintf(path, sizeof path, "%s/list", folder);
    FILE *list = fopen(path, "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list) != NULL) {
        char *field[11] = {line};
        for (int i = 1; i < 11; i++) {
            field[i] = strchr(field[i - 1], '|');
            assert_non_null(field[i]);
            *field[i]++ = '\0';
        }
        field[10][strcspn(field[10], "\n")] = '\0';
        image_facts e = {.channels = atoi(field[2]), .slices = atoi(field[3]), .frames = atoi(field[4]),
                         .width = atoi(field[5]), .height = atoi(field[6]), .pixel_width = atof(field[7]),
                         .spacing = atof(field[8]), .interval = atof(field[9])};
        compare(field[0], field[1], &e, field[10]);
        n++;
    }
    fclose(list);
    assert_true(n > 60);
}

static void others_read_what_we_write(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t type;
        int big;
    } cases[] = {{"out.ome.tif", USPLIT_TYPE_F32, 0},     {"out_u16.ome.tif", USPLIT_TYPE_U16, 0},
                 {"out_big.ome.tif", USPLIT_TYPE_F32, 1}, {"out.tif", USPLIT_TYPE_F32, 0},
                 {"out_u16.tif", USPLIT_TYPE_U16, 0},     {"out_big.tif", USPLIT_TYPE_F32, 1}};
    enum { H = 75, W = 301, K = 2, BAND = 25 };
    float *band = malloc(sizeof *band * K * BAND * W);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128], again[132];
        image_layout layout = {.height = H, .width = W, .channels = K, .slices = 3, .frames = 2,
                               .type = cases[i].type, .pixel_width = 0.36, .pixel_height = 0.36, .spacing = 0.5,
                               .interval = 2, .names = {"lamin <B1> & \"co\"", "DNA \xc2\xb5"}, .info = "a & b\n",
                               .force_big = cases[i].big};
        image_writer *w = NULL;
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].name);
        assert_int_equal(image_create(&w, path, &layout), 0);
        for (int64_t place = 0; place < 6; place++) {
            for (int64_t row = 0; row < H; row += BAND) {
                for (int64_t k = 0; k < K * BAND * W; k++) {
                    band[k] = (float)(place * 31 + k / (BAND * W) * 100 + (row + k / W % BAND) * 2 + k % W % 7);
                }
                assert_int_equal(image_write_rows(w, place, row, BAND, band), 0);
            }
        }
        assert_int_equal(image_commit(w, NULL), 0);
        image_writer_free(w);
        // Our own reader finds everything again.
        image_file *file = NULL;
        image_facts f;
        snprintf(again, sizeof again, "%s@2", path);
        assert_int_equal(image_open(&file, again), 0);
        image_info(file, &f);
        assert_true(f.slices == 3 && f.frames == 2 && f.channels == 2 && near(f.pixel_width, 0.36) &&
                    near(f.spacing, 0.5) && near(f.interval, 2));
        if (strstr(cases[i].name, ".ome.") != NULL) {
            assert_string_equal(f.name, "DNA \xc2\xb5");
        }
        assert_int_equal(image_read_rows(file, 5, 74, 1, band), 0);
        assert_true(band[300] == (float)(5 * 31 + 100 + 74 * 2 + 300 % 7));
        image_close(file);
    }
    free(band);
    run_peer("check");
}

// Over 4 GB the file is a BigTIFF; most of it is never written, and takes no room.
static void large_files_are_big(void **state)
{
    (void)state;
    static const char *const names[] = {"large.tif", "large.ome.tif"};
    enum { H = 40000, W = 30000 };
    float *row = calloc(W, sizeof *row);
    for (int i = 0; i < 2; i++) {
        char path[128];
        unsigned char head[4];
        image_layout layout = {.height = H, .width = W, .channels = 1, .slices = 1, .frames = 1,
                               .type = USPLIT_TYPE_F32};
        image_writer *w = NULL;
        image_file *file = NULL;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(image_create(&w, path, &layout), 0);
        for (int x = 0; x < W; x++) {
            row[x] = (float)x;
        }
        assert_int_equal(image_write_rows(w, 0, H - 1, 1, row), 0);
        assert_int_equal(image_commit(w, NULL), 0);
        image_writer_free(w);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        assert_int_equal(fread(head, 1, 4, f), 4);
        fclose(f);
        assert_int_equal(head[2], 43);
        assert_int_equal(image_open(&file, path), 0);
        assert_int_equal(image_read_rows(file, 0, H - 1, 1, row), 0);
        for (int x = 0; x < W; x++) {
            assert_true(row[x] == (float)x);
        }
        image_close(file);
        remove(path);
    }
    free(row);
}

// ---- HDF5 without a peer ----------------------------------------------------------------------------

enum { H5_T = 3, H5_Y = 20, H5_X = 30 };

static void write_hdf5(const char *path, int n_datasets, int n_stored)
{
    static const char *const names[] = {"/first", "/second"};
    uint16_t pixels[H5_T * H5_Y * H5_X];
    for (int i = 0; i < H5_T * H5_Y * H5_X; i++) {
        pixels[i] = (uint16_t)(i * 7);
    }
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    for (int k = 0; k < n_datasets; k++) {
        hsize_t dims[3] = {n_stored ? H5_T : 1000000000, n_stored ? H5_Y : 1000000000, H5_X}, chunk[3] = {1, 8, 16};
        hid_t space = H5Screate_simple(3, dims, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(create, 3, chunk);
        hid_t set = H5Dcreate2(file, names[k], H5T_NATIVE_UINT16, space, H5P_DEFAULT, create, H5P_DEFAULT);
        assert_true(set >= 0);
        if (n_stored) {
            H5Dwrite(set, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, pixels);
        }
        H5Dclose(set);
        H5Pclose(create);
        H5Sclose(space);
    }
    H5Fclose(file);
}

static void hdf5_is_read_and_refused_in_words(void **state)
{
    (void)state;
    char path[128], name[160];
    snprintf(path, sizeof path, "%s/made.h5", folder);
    write_hdf5(path, 1, 1);
    image_file *file = NULL;
    image_facts f;
    float row[H5_X];
    assert_int_equal(image_open(&file, path), 0);
    image_info(file, &f);
    assert_true(f.pages == H5_T && f.frames == H5_T && f.height == H5_Y && f.width == H5_X && f.type == USPLIT_TYPE_U16);
    assert_int_equal(image_read_rows(file, 2, 13, 1, row), 0);
    for (int x = 0; x < H5_X; x++) {
        assert_true(row[x] == (float)((uint16_t)(((2 * H5_Y + 13) * H5_X + x) * 7)));
    }
    assert_int_not_equal(image_read_rows(file, 3, 0, 1, row), 0);
    assert_int_not_equal(image_read_rows(file, 0, H5_Y, 1, row), 0);
    image_close(file);
    refused_axes(path, "CYX", "3 channels; choose one");
    refused_axes(path, "TZYX", "has 3 axes");
    refused_axes(path, "T4YX", "T is 3");
    refused_axes(path, "XYT", "--axes XYT");
    snprintf(name, sizeof name, "%s:/third", path);
    refused(name, "no dataset /third");
    write_hdf5(path, 2, 1);
    refused(path, "2 datasets (/first, /second)");
    snprintf(name, sizeof name, "%s:second@2", path);
    assert_int_equal(image_open_axes(&file, name, "CYX"), 0);
    image_info(file, &f);
    assert_true(f.pages == 1 && f.channel == 1 && f.channels == 3);
    image_close(file);
    write_hdf5(path, 1, 0);
    refused(path, "claims 6e+19 bytes");
    snprintf(name, sizeof name, "%s/none.h5", folder);
    refused(name, "no such file");
    FILE *text = fopen(name, "w");
    fputs("no HDF5", text);
    fclose(text);
    refused(name, "not a readable HDF5");
}

static void axes_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"YX", "zyx", "TZCYX", "T10ZYX", "YXC", "C2T3ZYX", "tyxs"};
    static const char *const bad[] = {"", "XY", "Y", "TTYX", "YXT", "T0YX", "T9999999999999999999YX", "QYX", "YTX", "T-1YX",
                                      "TZCYXTZC", "3YX"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(image_check_axes(good[i]), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (image_check_axes(bad[i]) != CLI_USAGE) {
            fail_msg("--axes '%s' was taken", bad[i]);
        }
        cli_error_clear();
    }
}

// Twelve pages under the names that a user may give them.
static void pages_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *axes;
        int64_t channels, slices, frames;       // 0: refused
    } cases[] = {{"ZYX", 1, 12, 1}, {"TYX", 1, 1, 12}, {"CYX", 12, 1, 1},   {"T3ZYX", 1, 4, 3}, {"TZ3YX", 1, 3, 4},
                 {"C2T3ZYX", 2, 2, 3}, {"T3Z4YX", 1, 4, 3}, {"T5ZYX", 0, 0, 0}, {"TZ5YX", 0, 0, 0}, {"YX", 0, 0, 0},
                 {"T13YX", 0, 0, 0}, {"T3Z3YX", 0, 0, 0}, {"C5T5ZYX", 0, 0, 0}, {"C1000000000ZT1000000000YX", 0, 0, 0}};
    char path[128], name[160];
    float pixel;
    image_layout layout = {.height = 1, .width = 1, .channels = 1, .slices = 1, .frames = 12,
                           .type = USPLIT_TYPE_F32};
    image_writer *w = NULL;
    snprintf(path, sizeof path, "%s/twelve.tif", folder);
    assert_int_equal(image_create(&w, path, &layout), 0);
    for (int place = 0; place < 12; place++) {
        pixel = (float)place;
        assert_int_equal(image_write_rows(w, place, 0, 1, &pixel), 0);
    }
    assert_int_equal(image_commit(w, NULL), 0);
    image_writer_free(w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image_file *file = NULL;
        image_facts f;
        if (cases[i].channels == 0) {
            refused_axes(path, cases[i].axes, "--axes");
            continue;
        }
        cli_error_clear();
        snprintf(name, sizeof name, cases[i].channels > 1 ? "%s@2" : "%s", path);
        if (image_open_axes(&file, name, cases[i].axes) != 0) {
            fail_msg("%s", cli_error_line());
        }
        image_info(file, &f);
        assert_true(f.channels == cases[i].channels && f.slices == cases[i].slices && f.frames == cases[i].frames);
        if (strcmp(cases[i].axes, "C2T3ZYX") == 0) {
            assert_int_equal(image_read_rows(file, 1 + 2 * 2, 0, 1, &pixel), 0);    // z 1, t 2
            assert_true(pixel == (1 * 3 + 2) * 2 + 1);
        }
        image_close(file);
    }
}

// A pipe that nobody writes to would be waited for: the alarm ends a test that does.
static void pipes_and_devices_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"a.tif", "a.h5", "a", "a.ome.tif@2", "a.h5:/raw"};
    char made[128], name[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        snprintf(made, sizeof made, "%.*s", (int)strcspn(name, "@:"), name);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(k == 0 ? mkfifo(made, 0600) : symlink("/dev/zero", made), 0);
            alarm(20);
            refused(name, "is no file but a pipe, a socket or a device");
            alarm(0);
            assert_int_equal(unlink(made), 0);
        }
    }
    snprintf(name, sizeof name, "%s/a.zarr", folder);
    assert_int_equal(mkfifo(name, 0600), 0);
    alarm(20);
    refused(name, "a Zarr image is a folder");
    alarm(0);
    assert_int_equal(unlink(name), 0);
}

static void names_of_what_is_made(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a/x.ome.tif", "x"}, {"x.TIFF", "x"}, {"x.tif@2", "x_ch2"}, {"b/x", "x"},
                                           {"a/x.h5:/raw/a@3", "x_raw_a_ch3"}, {"x.h5", "x"}, {".tif", ".tif"},
                                           {"a:b/x.tif", "x"}, {"x.ome", "x.ome"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *stem = image_stem(cases[i][0]);
        assert_string_equal(stem, cases[i][1]);
        free(stem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes_are_checked),
        cmocka_unit_test(pages_are_named),
        cmocka_unit_test(names_of_what_is_made),
        cmocka_unit_test(pipes_and_devices_are_refused),
        cmocka_unit_test(hdf5_is_read_and_refused_in_words),
        cmocka_unit_test(large_files_are_big),
        cmocka_unit_test(reads_what_others_write),
        cmocka_unit_test(others_read_what_we_write),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
