// usplit import against damage: the small checkpoint of test/data cut off anywhere, with bytes changed anywhere, and
// with bytes of its pickle changed under a checksum that is made right again, so that the change arrives. Always done,
// or one line; never a crash, never a leak.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/import/checkpoint.h"
#include "cli/import/infer.h"
#include "common/folder.h"
#include "import/zip_maker.h"
#include "kernels/philox.h"

static const char tiny[] = "test/data/import_tiny.ckpt";
static const char *path, *model_path;
static unsigned char *whole;            // the checkpoint as it is
static size_t n_whole;
static size_t pickle_place, pickle_bytes, crc_place;    // of data.pkl, in the file
static int file = -1;                   // the copy that is damaged
static int64_t n_accepted, n_refused;

static void find_pickle(void)
{
    zip_file zip;
    uint64_t directory = 0;
    const zip_entry *data = NULL;
    assert_int_equal(zip_open(&zip, tiny), CLI_OK);
    for (size_t i = 0; i < zip.n; i++) {
        const zip_entry *e = &zip.entries[i];
        directory = e->end > directory ? e->end : directory;
        data = e->length > 8 && memcmp(e->name + e->length - 8, "data.pkl", 8) == 0 ? e : data;
    }
    assert_non_null(data);
    const unsigned char *own = whole + data->place;
    pickle_place = (size_t)(data->place + 30 + zip_number(own + 26, 2) + zip_number(own + 28, 2));
    pickle_bytes = (size_t)data->size;
    crc_place = (size_t)directory + (size_t)(data->name - (const char *)zip.directory) - 46 + 16;
    assert_int_equal(zip_number(whole + crc_place, 4), zip_maker_crc(whole + pickle_place, pickle_bytes));
    zip_close(&zip);
}

static int start(void **state)
{
    if (access(tiny, R_OK) != 0) {
        return 0;                       // the tests say so
    }
    if (make_folder(state) != 0) {
        return -1;
    }
    path = in_folder("a.ckpt");
    model_path = in_folder("a.h5");
    whole = zip_maker_read(tiny, &n_whole);
    if (whole == NULL || zip_maker_write(path, whole, n_whole) != 0) {
        return -1;
    }
    file = open(path, O_RDWR);
    find_pickle();
    return file < 0;
}

static int finish(void **state)
{
    close(file);
    free(whole);
    return folder[0] != '\0' ? remove_folder(state) : 0;
}

static int is_here(void)
{
    if (whole == NULL) {
        print_message("skip: %s is not here\n", tiny);
    }
    return whole != NULL;
}

static void put(size_t place, const void *bytes, size_t n)
{
    assert_int_equal(pwrite(file, bytes, n, (off_t)place), (ssize_t)n);
}

static void restore(size_t place, size_t n)
{
    put(place, whole + place, n);
}

// All that the command does before it makes a model; now and then the command.
static void run(int64_t number)
{
    static float values[1 << 16];
    checkpoint c;
    infer_network network;
    int rc;
    cli_error_clear();
    if (number % 101 == 0) {
        char words[8][96] = {"", "-o", "", "--overwrite", "-q", "--threads", "1"}, *arguments[7];
        snprintf(words[0], sizeof words[0], "%s", path);
        snprintf(words[2], sizeof words[2], "%s", model_path);
        for (int i = 0; i < 7; i++) {
            arguments[i] = words[i];
        }
        rc = cmd_import(7, arguments);
    } else {
        rc = checkpoint_open(&c, path);
        rc = rc != CLI_OK ? rc : infer_from(&network, &c, &network_args_none, -1);
        for (uint32_t i = 0; rc == CLI_OK && i < c.n_arrays; i++) {
            assert_true(c.arrays[i].count <= (int64_t)(sizeof values / sizeof values[0]));  // no storage is as large
            rc = checkpoint_read(&c, &c.arrays[i], values);
        }
        checkpoint_close(&c);
    }
    assert_true((rc == CLI_OK) == (cli_error_line()[0] == '\0'));
    assert_null(strchr(cli_error_line(), '\n'));
    *(rc == CLI_OK ? &n_accepted : &n_refused) += 1;
}

static uint32_t random_number(uint64_t purpose, int64_t number)
{
    return us_philox(purpose, (uint32_t)number, 0, 0, 0).v[0];
}

static void test_cut_off(void **state)
{
    (void)state;
    if (!is_here()) {
        skip();
    }
    for (size_t n = n_whole; n > 0; n -= n > n_whole - 300 || n < 200 ? 1 : n % 131 + 1) {
        assert_int_equal(ftruncate(file, (off_t)(n - 1)), 0);
        run(1);
    }
    assert_int_equal(n_accepted, 0);    // the directory is at the end
    put(0, whole, n_whole);
    run(0);
    run(1);
    assert_int_equal(n_accepted, 2);
}

static void test_bytes(void **state)
{
    (void)state;
    if (!is_here()) {
        skip();
    }
    for (size_t i = 0; i < n_whole; i += 1 + random_number(1, (int64_t)i) % 12) {
        unsigned char byte = (unsigned char)(whole[i] ^ (1 + random_number(2, (int64_t)i) % 255));
        put(i, &byte, 1);
        run((int64_t)i);
        restore(i, 1);
    }
}

// The pickle with `n` bytes changed from `at` on, under its right checksum.
static void run_pickle(size_t at, const unsigned char *bytes, size_t n, int64_t number)
{
    static unsigned char changed[1 << 16];
    unsigned char crc[4];
    assert_true(pickle_bytes <= sizeof changed && at + n <= pickle_bytes);
    memcpy(changed, whole + pickle_place, pickle_bytes);
    memcpy(changed + at, bytes, n);
    zip_maker_put(crc, zip_maker_crc(changed, pickle_bytes), 4);
    put(pickle_place + at, bytes, n);
    put(crc_place, crc, 4);
    run(number);
    restore(pickle_place + at, n);
    restore(crc_place, 4);
}

static void test_pickle_bytes(void **state)
{
    (void)state;
    if (!is_here()) {
        skip();
    }
    for (size_t i = 0; i < pickle_bytes; i += 1 + random_number(3, (int64_t)i) % 4) {
        unsigned char byte = (unsigned char)(whole[pickle_place + i] ^ (1 + random_number(4, (int64_t)i) % 255));
        run_pickle(i, &byte, 1, (int64_t)i);
    }
}

// Opcodes, and pieces of the pickle itself, where they do not belong.
static void test_pickle_pieces(void **state)
{
    (void)state;
    static const unsigned char opcodes[] = "(.01NJKMGXUTBCtl]}aesucRbQqrhj\x81\x85\x86\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f"
                                           "\x90\x91\x92\x93\x94\x95";
    if (!is_here()) {
        skip();
    }
    for (int64_t i = 0; i < 3000; i++) {
        unsigned char piece[64];
        size_t n = 1 + random_number(5, i) % (i % 2 ? 4 : sizeof piece), room = pickle_bytes - n;
        size_t from = random_number(6, i) % room;
        memcpy(piece, whole + pickle_place + from, n);
        for (size_t k = 0; i % 2 && k < n; k++) {
            piece[k] = opcodes[random_number(7 + k, i) % (sizeof opcodes - 1)];
        }
        run_pickle(random_number(20, i) % room, piece, n, i);
    }
    print_message("%lld read, %lld refused\n", (long long)n_accepted, (long long)n_refused);
    assert_true(n_refused > 1000);
    assert_true(n_accepted > 10);       // some changes hurt nothing: the values of settings, padding
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_off), cmocka_unit_test(test_bytes), cmocka_unit_test(test_pickle_bytes),
        cmocka_unit_test(test_pickle_pieces),
    };
    return cmocka_run_group_tests_name("import_fuzz", tests, start, finish);
}
