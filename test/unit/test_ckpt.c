// src/ckpt in good order: SHA-256 vectors, round trips, what open and read refuse by name, the container's
// bytes, HDF5's settings left as the host had them, foreign frames. Damage is in test/fuzz, failing disks
// and memory in test/fault.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <hdf5.h>

#include "ckpt/ckpt.h"
#include "ckpt/container.h"
#include "ckpt/sha256.h"
#include "common/folder.h"
#include "common/must.h"
#include "kernels/philox.h"

static const char *file;

static int set_up(void **state)
{
    int failed = make_folder(state);
    file = in_folder("model.h5");
    return failed;
}

// ---- SHA-256 -----------------------------------------------------------------------------------------

static void check_digest(const void *bytes, size_t n, const char *expected)
{
    unsigned char digest[US_SHA256_BYTES];
    char text[2 * US_SHA256_BYTES + 1];
    us_sha256_of(bytes, n, digest);
    for (int i = 0; i < US_SHA256_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(text, expected);
}

// FIPS 180-4 examples of the NIST (one block, two blocks, a million 'a') and the empty message.
static void sha256_gives_the_standard_digests(void **state)
{
    (void)state;
    check_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    check_digest(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void sha256_in_pieces_equals_the_whole(void **state)
{
    (void)state;
    unsigned char bytes[300], whole[US_SHA256_BYTES], pieces[US_SHA256_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    for (size_t n = 0; n <= sizeof bytes; n++) {
        us_sha256 sha;
        us_sha256_of(bytes, n, whole);
        us_sha256_init(&sha);
        us_sha256_update(&sha, bytes, n / 3);
        us_sha256_update(&sha, bytes + n / 3, 0);
        us_sha256_update(&sha, bytes + n / 3, n - n / 3);
        us_sha256_final(&sha, pieces);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
}

// ---- Round trips -------------------------------------------------------------------------------------

enum { MAX_RANDOM = 24, MAX_ELEMENTS = 700 };

typedef struct random_entries {
    us_ckpt_entry entries[MAX_RANDOM];
    char paths[MAX_RANDOM][80];
    double data[MAX_RANDOM][MAX_ELEMENTS]; // room for any type
    size_t bytes[MAX_RANDOM];
    int n;
} random_entries;

static uint32_t draw(uint32_t seed, uint32_t *at, uint32_t below)
{
    us_u32x4 r = us_philox(seed, 0, (*at)++, 0, 0);
    return r.v[0] % below;
}

static void make_entries(random_entries *r, uint32_t seed)
{
    static const size_t element_bytes[] = {0, 4, 8, 8, 1};
    static const char *const groups[] = {"", "model/", "parameters/first_bottom_up.0/", "a/b/c/d/e/f/g/"};
    uint32_t at = 0;
    r->n = (int)draw(seed, &at, MAX_RANDOM + 1);
    for (int i = 0; i < r->n; i++) {
        us_ckpt_entry *e = &r->entries[i];
        int64_t n = 1;
        *e = (us_ckpt_entry){.path = r->paths[i], .data = r->data[i]};
        // Listed in no order: the reader sorts.
        snprintf(r->paths[i], sizeof r->paths[i], "%sentry.%u-%d", groups[draw(seed, &at, 4)],
                 (unsigned)draw(seed, &at, 100), i);
        e->type = 1 + (int32_t)draw(seed, &at, 4);
        e->n_dims = e->type == US_CKPT_TEXT ? 1 : (int32_t)draw(seed, &at, 5);
        for (int d = 0; d < e->n_dims; d++) {
            e->dims[d] = draw(seed, &at, e->type == US_CKPT_TEXT ? MAX_ELEMENTS : 6);
            n *= e->dims[d];
        }
        r->bytes[i] = (size_t)n * element_bytes[e->type];
        for (size_t b = 0; b < r->bytes[i]; b++) {
            ((unsigned char *)r->data[i])[b] =
                (unsigned char)(1 + draw(seed, &at, 255)); // NaNs too; no zeros
        }
    }
}

static void check_same(us_ckpt *ckpt, const random_entries *r)
{
    static double found[MAX_ELEMENTS + 1];
    assert_int_equal(us_ckpt_count(ckpt), r->n);
    for (int i = 0; i < r->n; i++) {
        const us_ckpt_entry *e = &r->entries[i];
        us_ckpt_entry here;
        memset(found, 0, sizeof found);
        assert_int_equal(us_ckpt_find(ckpt, e->path, &here), USPLIT_OK);
        assert_string_equal(here.path, e->path);
        assert_int_equal(here.type, e->type);
        assert_int_equal(here.n_dims, e->n_dims);
        assert_memory_equal(here.dims, e->dims, (size_t)e->n_dims * sizeof e->dims[0]);
        assert_null(here.data);
        assert_true(us_ckpt_has(ckpt, e->path));
        assert_int_equal(us_ckpt_read(ckpt, e->path, e->type, e->n_dims, e->dims, found), USPLIT_OK);
        if (r->bytes[i] > 0) {
            assert_memory_equal(found, e->data, r->bytes[i]);
        }
        assert_int_equal(((unsigned char *)found)[r->bytes[i]], 0); // not a byte too many
    }
    for (int i = 1; i < r->n; i++) {
        assert_true(strcmp(us_ckpt_at(ckpt, (size_t)i - 1)->path, us_ckpt_at(ckpt, (size_t)i)->path) < 0);
    }
    assert_null(us_ckpt_at(ckpt, (size_t)r->n));
}

static void random_entries_come_back_equal(void **state)
{
    (void)state;
    static random_entries r;
    size_t live = us_alloc_live();
    for (uint32_t seed = 1; seed <= 60; seed++) {
        us_ckpt *ckpt;
        print_message("# seed %u\n", (unsigned)seed);
        make_entries(&r, seed);
        assert_int_equal(us_ckpt_write(NULL, file, r.entries, (size_t)r.n), USPLIT_OK);
        assert_int_equal(us_ckpt_open(&ckpt, NULL, file), USPLIT_OK);
        assert_int_equal(unlink(file), 0); // not needed once open
        check_same(ckpt, &r);
        us_ckpt_close(ckpt);
        assert_int_equal(us_alloc_live(), live);
    }
}

static void same_entries_give_same_bytes(void **state)
{
    (void)state;
    static random_entries r;
    size_t n_first, n_second;
    make_entries(&r, 7);
    assert_int_equal(us_ckpt_write(NULL, file, r.entries, (size_t)r.n), USPLIT_OK);
    unsigned char *first = slurp(file, &n_first);
    sleep(1); // a recorded time would differ
    assert_int_equal(us_ckpt_write(NULL, file, r.entries, (size_t)r.n), USPLIT_OK);
    unsigned char *second = slurp(file, &n_second);
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, n_first);
    free(first);
    free(second);
}

// Enough links for B-trees of two levels, and names enough for a heap of several pieces.
static void thousands_of_entries_come_back(void **state)
{
    (void)state;
    enum { N = 5000 };
    static us_ckpt_entry entries[N];
    static char paths[N][32];
    static int64_t values[N];
    us_ckpt *ckpt;
    for (int i = 0; i < N; i++) {
        values[i] = i * 7;
        snprintf(paths[i], sizeof paths[i], "%sn%d", i % 5 == 0 ? "a/b/" : "", i);
        entries[i] = (us_ckpt_entry){.path = paths[i], .type = US_CKPT_I64, .data = &values[i]};
    }
    assert_int_equal(us_ckpt_write(NULL, file, entries, N), USPLIT_OK);
    assert_int_equal(us_ckpt_open(&ckpt, NULL, file), USPLIT_OK);
    assert_int_equal(us_ckpt_count(ckpt), N);
    for (int i = 0; i < N; i++) {
        int64_t value = -1;
        assert_int_equal(us_ckpt_read(ckpt, paths[i], US_CKPT_I64, 0, NULL, &value), USPLIT_OK);
        assert_int_equal(value, values[i]);
    }
    us_ckpt_close(ckpt);
}

static void several_files_stay_open_together(void **state)
{
    (void)state;
    us_ckpt *open[4];
    const char *path = in_folder("many.h5");
    for (int64_t i = 0; i < 4; i++) {
        us_ckpt_entry e = {.path = "number", .type = US_CKPT_I64, .data = &i};
        assert_int_equal(us_ckpt_write(NULL, path, &e, 1), USPLIT_OK);
        assert_int_equal(us_ckpt_open(&open[i], NULL, path), USPLIT_OK);
    }
    for (int64_t i = 3; i >= 0; i--) {
        int64_t number = -1;
        assert_int_equal(us_ckpt_read(open[i], "number", US_CKPT_I64, 0, NULL, &number), USPLIT_OK);
        assert_int_equal(number, i);
        us_ckpt_close(open[i]);
    }
    us_ckpt_close(NULL);
}

// ---- What is refused, and in which words -------------------------------------------------------------

static void write_refuses_bad_entries(void **state)
{
    (void)state;
    float data[4] = {0};
    us_ckpt_entry good = {.path = "a", .type = US_CKPT_F32, .n_dims = 1, .dims = {4}, .data = data}, e;
    static const char *const bad_paths[] = {
        "", "/", "/a", "a/", "a//b", ".", "a/.", "..", "a/../b", "a\nb", "caf\xc3\xa9", "1/2/3/4/5/6/7/8/9"};
    for (size_t i = 0; i < sizeof bad_paths / sizeof bad_paths[0]; i++) {
        e = good;
        e.path = bad_paths[i];
        refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "path");
    }
    char longest[300];
    memset(longest, 'x', sizeof longest);
    longest[256] = '\0';
    e = good;
    e.path = longest;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "has over 255 bytes");
    longest[255] = '\0';
    assert_int_equal(us_ckpt_write(NULL, file, &e, 1), USPLIT_OK);
    e = good, e.type = 5;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "type 5; accepted: 1 to 4");
    e = good, e.n_dims = 5;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "5 dimensions; accepted: 0 to 4");
    e = good, e.dims[0] = -1;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "is -1");
    e = good, e.dims[0] = INT64_MAX;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "dimension 0 of 'a'");
    e = good, e.data = NULL;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "has no data");
    e = good, e.type = US_CKPT_TEXT;
    refused(us_ckpt_write(NULL, file, &e, 1), USPLIT_ERR_ARGUMENT, "zero byte");
    us_ckpt_entry twice[2] = {good, good}, both[2] = {good, good};
    refused(us_ckpt_write(NULL, file, twice, 2), USPLIT_ERR_ARGUMENT,
            "'a' cannot be stored: listed twice");
    both[1].path = "a/b";
    refused(us_ckpt_write(NULL, file, both, 2), USPLIT_ERR_ARGUMENT, "'a/b' cannot be stored");
    refused(us_ckpt_write(NULL, NULL, &good, 1), USPLIT_ERR_ARGUMENT, "NULL");
    refused(us_ckpt_write(NULL, "", &good, 1), USPLIT_ERR_ARGUMENT, "empty");
    refused(us_ckpt_write(NULL, file, &good, 100000), USPLIT_ERR_ARGUMENT, "100000 entries");
}

static void read_demands_type_and_shape(void **state)
{
    (void)state;
    float data[12] = {0}, dst[12];
    us_ckpt *ckpt;
    us_ckpt_entry e = {
        .path = "parameters/w", .type = US_CKPT_F32, .n_dims = 2, .dims = {3, 4}, .data = data};
    const int64_t right[2] = {3, 4}, wrong[2] = {4, 3}, flat[1] = {12};
    assert_int_equal(us_ckpt_write(NULL, file, &e, 1), USPLIT_OK);
    assert_int_equal(us_ckpt_open(&ckpt, NULL, file), USPLIT_OK);
    assert_int_equal(us_ckpt_read(ckpt, "parameters/w", US_CKPT_F32, 2, right, dst), USPLIT_OK);
    refused(us_ckpt_read(ckpt, "parameters/w", US_CKPT_F32, 2, wrong, dst), USPLIT_ERR_FORMAT,
            "'parameters/w' is f32 [3,4], expected f32 [4,3]");
    refused(us_ckpt_read(ckpt, "parameters/w", US_CKPT_F32, 1, flat, dst), USPLIT_ERR_FORMAT,
            "expected f32 [12]");
    refused(us_ckpt_read(ckpt, "parameters/w", US_CKPT_I64, 2, right, dst), USPLIT_ERR_FORMAT,
            "expected i64 [3,4]");
    refused(us_ckpt_read(ckpt, "parameters/w", US_CKPT_F32, 0, NULL, dst), USPLIT_ERR_FORMAT,
            "expected f32 []");
    refused(us_ckpt_read(ckpt, "parameters/v", US_CKPT_F32, 2, right, dst), USPLIT_ERR_FORMAT,
            "model.h5: 'parameters/v' is missing");
    refused(us_ckpt_find(ckpt, "parameters", &e), USPLIT_ERR_FORMAT, "'parameters' is missing");
    assert_false(us_ckpt_has(ckpt, "parameters"));
    us_ckpt_close(ckpt);
}

static void open_names_what_is_wrong(void **state)
{
    (void)state;
    us_ckpt *ckpt;
    const char *path = in_folder("bad.h5");
    int64_t number = 1;
    us_ckpt_entry e = {.path = "n", .type = US_CKPT_I64, .data = &number};
    refused(us_ckpt_open(&ckpt, NULL, in_folder("none.h5")), USPLIT_ERR_FILE,
            "none.h5: cannot open: No such file");
    refused(us_ckpt_open(&ckpt, NULL, folder), USPLIT_ERR_FILE, "is a folder, not a file");
    refused(us_ckpt_open(&ckpt, NULL, "/dev/null"), USPLIT_ERR_FILE, "is not a regular file");
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    refused(us_ckpt_open(&ckpt, NULL, in_folder("pipe")), USPLIT_ERR_FILE,
            "is not a regular file"); // and does not wait
    spill(path, "", 0);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT, "has 0 bytes");

    size_t n;
    assert_int_equal(us_ckpt_write(NULL, file, &e, 1), USPLIT_OK);
    unsigned char *bytes = slurp(file, &n);
    spill(path, bytes + 512, n - 512);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT, "not a libusplit checkpoint");
    bytes[8] = 7;
    bytes[12] = 99; // whatever a newer format changed
    spill(path, bytes, n);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT,
            "bad.h5: written by a newer version (format 7; this library reads up to 1)");
    bytes[8] = 1;
    spill(path, bytes, n);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT,
            "user block has 611 bytes; accepted: 512");
    bytes[12] = 0;
    spill(path, bytes, n - 1);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT, "truncated: ");
    bytes[n] = 0;
    spill(path, bytes, n + 1);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT, "bytes were appended");
    bytes[n - 1] ^= 1;
    spill(path, bytes, n);
    refused(us_ckpt_open(&ckpt, NULL, path), USPLIT_ERR_FORMAT, "altered or damaged");
    free(bytes);
}

// ---- A guest in the host's process -------------------------------------------------------------------

static herr_t host_print(hid_t stack, void *user)
{
    (void)stack;
    ++*(int *)user;
    return 0;
}

// The file is plain HDF5 behind a user block for everyone else; HDF5's settings stay the host's.
static void hdf5_of_the_host_is_left_alone(void **state)
{
    (void)state;
    int n_printed = 0;
    unsigned plugins_before = 0, plugins_after = 1;
    H5E_auto2_t old, now;
    void *old_user, *now_user;
    us_ckpt *ckpt;
    double values[3] = {1, 2, 3}, found[3] = {0};
    us_ckpt_entry e[2] = {{.path = "g/v", .type = US_CKPT_F64, .n_dims = 1, .dims = {3}, .data = values},
                          {.path = "t", .type = US_CKPT_TEXT, .n_dims = 1, .dims = {6}, .data = "uSplit"}};
    H5Eget_auto2(H5E_DEFAULT, &old, &old_user);
    H5Eset_auto2(H5E_DEFAULT, host_print, &n_printed);
    H5PLget_loading_state(&plugins_before);
    assert_int_equal(us_ckpt_write(NULL, file, e, 2), USPLIT_OK);
    assert_int_equal(us_ckpt_open(&ckpt, NULL, file), USPLIT_OK);
    us_ckpt_close(ckpt);
    assert_int_not_equal(us_ckpt_open(&ckpt, NULL, "/dev/null"), USPLIT_OK);
    e[1].path = "g";
    assert_int_equal(us_ckpt_write(NULL, "/tmp/never", e, 2), USPLIT_ERR_ARGUMENT);
    H5PLget_loading_state(&plugins_after);
    H5Eget_auto2(H5E_DEFAULT, &now, &now_user);
    assert_int_equal(n_printed, 0);
    assert_int_equal(plugins_before, plugins_after);
    assert_true(now == host_print && now_user == &n_printed);
    H5Eset_auto2(H5E_DEFAULT, old, old_user);

    hid_t h5 = H5Fopen(file, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(h5 >= 0);
    hid_t dataset = H5Dopen2(h5, "g/v", H5P_DEFAULT);
    assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, found) >= 0);
    assert_memory_equal(values, found, sizeof found);
    H5Dclose(dataset);
    H5Fclose(h5);
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0); // no id was left open
}

#ifndef H5_NO_DEPRECATED_SYMBOLS
static herr_t host_print_old(void *user)
{
    ++*(int *)user;
    return 0;
}

static void hdf5_old_style_printing_is_left_alone(void **state)
{
    (void)state;
    int n_printed = 0;
    H5E_auto2_t old;
    H5E_auto1_t now = NULL;
    void *old_user, *now_user = NULL;
    us_ckpt_entry e = {.path = "a/b", .type = US_CKPT_F64, .data = &(double){1}}, both[2] = {e, e};
    H5Eget_auto2(H5E_DEFAULT, &old, &old_user);
    H5Eset_auto1(host_print_old, &n_printed);
    assert_int_equal(us_ckpt_write(NULL, file, both, 2), USPLIT_ERR_ARGUMENT);
    H5Eget_auto1(&now, &now_user);
    assert_int_equal(n_printed, 0);
    assert_true(now == host_print_old && now_user == &n_printed);
    H5Eset_auto2(H5E_DEFAULT, old, old_user);
}
#endif

// ---- Frames of foreign files -------------------------------------------------------------------------

enum { N_FRAMES = 3, N_CHANNELS = 2, HEIGHT = 5, WIDTH = 7 };

typedef struct frames_kind {
    hid_t in_file;
    int chunked; // 1: chunks over planes, shuffle, deflate, fletcher32
    const char *path;
} frames_kind;

static float pixel(int f, int c, int y, int x)
{
    return (float)((f * 31 + c * 17 + y * 5 + x) % 250);
}

static void make_frames(const char *name, const frames_kind *kind)
{
    static float data[N_FRAMES][N_CHANNELS][HEIGHT][WIDTH];
    hsize_t dims[4] = {N_FRAMES, N_CHANNELS, HEIGHT, WIDTH}, chunk[4] = {2, 1, 3, 7};
    for (int i = 0; i < N_FRAMES * N_CHANNELS * HEIGHT * WIDTH; i++) {
        int x = i % WIDTH, y = i / WIDTH % HEIGHT, c = i / (WIDTH * HEIGHT) % N_CHANNELS;
        int f = i / (WIDTH * HEIGHT * N_CHANNELS);
        data[f][c][y][x] = pixel(f, c, y, x);
    }
    hid_t h5 = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t links = H5Pcreate(H5P_LINK_CREATE), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    if (kind->chunked) {
        H5Pset_chunk(create, 4, chunk);
        H5Pset_shuffle(create);
        H5Pset_deflate(create, 4);
        H5Pset_fletcher32(create);
    }
    hid_t space = H5Screate_simple(4, dims, NULL);
    hid_t dataset = H5Dcreate2(h5, kind->path, kind->in_file, space, links, create, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(create);
    H5Pclose(links);
    H5Fclose(h5);
}

static void frames_of_every_type_are_read(void **state)
{
    (void)state;
    const char *path = in_folder("frames.h5");
    const frames_kind kinds[] = {
        {H5T_STD_U8LE, 0, "/frames"},   {H5T_STD_U16LE, 0, "/frames"}, {H5T_STD_U16BE, 1, "/a/b/raw"},
        {H5T_IEEE_F32LE, 1, "/frames"}, {H5T_IEEE_F32BE, 0, "x"},      {H5T_STD_U8LE, 1, "//a//frames"},
    };
    size_t live = us_alloc_live();
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        us_h5_frames *frames;
        int64_t dims[4];
        float plane[HEIGHT][WIDTH];
        make_frames(path, &kinds[k]);
        assert_int_equal(us_h5_frames_open(&frames, NULL, path, kinds[k].path, dims), USPLIT_OK);
        assert_true(dims[0] == N_FRAMES && dims[1] == N_CHANNELS && dims[2] == HEIGHT && dims[3] == WIDTH);
        for (int i = N_FRAMES * N_CHANNELS - 1; i >= 0; i--) {
            int f = i / N_CHANNELS, c = i % N_CHANNELS;
            assert_int_equal(us_h5_frames_read(frames, f, c, plane[0]), USPLIT_OK);
            for (int y = 0; y < HEIGHT; y++) {
                for (int x = 0; x < WIDTH; x++) {
                    assert_true(plane[y][x] == pixel(f, c, y, x));
                }
            }
        }
        refused(us_h5_frames_read(frames, 3, 0, plane[0]), USPLIT_ERR_ARGUMENT,
                "frame is 3; accepted: 0 to 2");
        refused(us_h5_frames_read(frames, 0, -1, plane[0]), USPLIT_ERR_ARGUMENT, "channel is -1");
        us_h5_frames_close(frames);
        assert_int_equal(us_alloc_live(), live);
    }
    us_h5_frames_close(NULL);
}

static void check_frames_refused(const char *name, const char *path, const char *words)
{
    us_h5_frames *frames;
    int64_t dims[4];
    refused(us_h5_frames_open(&frames, NULL, name, path, dims), USPLIT_ERR_FORMAT, words);
    assert_null(frames);
}

// One file with everything that frames may not be.
static void frames_of_other_shapes_are_refused(void **state)
{
    (void)state;
    const char *path = in_folder("odd.h5");
    hsize_t cube[3] = {2, 3, 4}, four[4] = {2, 2, 3, 3}, none[4] = {0, 2, 3, 3},
            huge[4] = {1, 1, 1 << 17, 1 << 17};
    hsize_t chunk[4] = {1, 1, 3, 3}, big[4] = {1, 1, 1024, 1024};
    make_frames(path, &(frames_kind){H5T_STD_U8LE, 0, "/good/frames"});
    hid_t h5 = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t s3 = H5Screate_simple(3, cube, NULL), s4 = H5Screate_simple(4, four, NULL);
    hid_t s0 = H5Screate_simple(4, none, NULL), sh = H5Screate_simple(4, huge, NULL);
    H5Pset_chunk(create, 4, chunk);
    H5Dclose(H5Dcreate2(h5, "cube", H5T_STD_U8LE, s3, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(h5, "signed", H5T_STD_I16LE, s4, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(h5, "double", H5T_IEEE_F64LE, s4, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(h5, "unwritten", H5T_STD_U8LE, s4, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(h5, "none", H5T_STD_U8LE, s0, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Pset_chunk(create, 4, big);
    H5Dclose(H5Dcreate2(h5, "huge", H5T_STD_U8LE, sh, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Pset_chunk(create, 4, chunk);
    H5Pset_filter(create, H5Z_FILTER_NBIT, H5Z_FLAG_OPTIONAL, 0, NULL);
    H5Dclose(H5Dcreate2(h5, "nbit", H5T_STD_U8LE, s4, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Lcreate_soft("/good/frames", h5, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/frames", h5, "external", H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(s0), H5Sclose(s3), H5Sclose(s4), H5Sclose(sh);
    H5Pclose(create);
    H5Fclose(h5);

    check_frames_refused(path, "/cube", "'/cube'");
    check_frames_refused(path, "signed",
                         "'signed' has 2-byte elements of class integer; accepted: u8, u16, f32");
    check_frames_refused(path, "double", "8-byte elements of class float; accepted: u8, u16, f32");
    check_frames_refused(path, "unwritten", "'unwritten' should have 36 bytes but has 0");
    check_frames_refused(path, "none", "has 0 frames");
    check_frames_refused(path, "huge", "planes of 131072 x 131072 pixels");
    check_frames_refused(path, "nbit", "has filter 5; accepted: deflate, shuffle, fletcher32");
    check_frames_refused(path, "soft", "is a soft link");
    check_frames_refused(path, "/external", "is an external or unknown link");
    check_frames_refused(path, "/good", "is not a dataset");
    check_frames_refused(path, "/", "is not a dataset");
    check_frames_refused(path, "/good/none", "(no 'none')");
    check_frames_refused(path, "/good/frames/deeper", "(no 'deeper')");
    spill(path, "not HDF5 at all", 15);
    check_frames_refused(path, "/frames", "cannot be opened as HDF5");
    us_h5_frames *frames;
    int64_t dims[4];
    refused(us_h5_frames_open(&frames, NULL, folder, "x", dims), USPLIT_ERR_FILE, "is a folder");
    refused(us_h5_frames_open(&frames, NULL, path, "", dims), USPLIT_ERR_ARGUMENT, "empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_standard_digests),
        cmocka_unit_test(sha256_in_pieces_equals_the_whole),
        cmocka_unit_test(random_entries_come_back_equal),
        cmocka_unit_test(same_entries_give_same_bytes),
        cmocka_unit_test(thousands_of_entries_come_back),
        cmocka_unit_test(several_files_stay_open_together),
        cmocka_unit_test(write_refuses_bad_entries),
        cmocka_unit_test(read_demands_type_and_shape),
        cmocka_unit_test(open_names_what_is_wrong),
        cmocka_unit_test(hdf5_of_the_host_is_left_alone),
#ifndef H5_NO_DEPRECATED_SYMBOLS
        cmocka_unit_test(hdf5_old_style_printing_is_left_alone),
#endif
        cmocka_unit_test(frames_of_every_type_are_read),
        cmocka_unit_test(frames_of_other_shapes_are_refused),
    };
    return cmocka_run_group_tests_name("ckpt", tests, set_up, remove_folder);
}
