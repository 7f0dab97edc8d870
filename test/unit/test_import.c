// usplit import without PyTorch: a small checkpoint that PyTorch wrote, whose numbers follow a rule, comes back bit by
// bit; and archives, pickles and tensors made by hand that lie. Each lie ends in one line that says which.
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

static const char tiny[] = "test/data/import_tiny.ckpt";
static const char *path, *model_path;
static zip_maker maker;

static int set_up(void **state)
{
    int failed = make_folder(state);
    path = in_folder("a.ckpt");
    model_path = in_folder("a.h5");
    return failed;
}

// ---- The small checkpoint (test/import/make_tiny.py) ------------------------------------------------------------

static float expected(const char *name, int64_t i)
{
    int64_t s = 0;
    for (const char *p = name; *p != '\0'; p++) {
        s += (unsigned char)*p;
    }
    if (strstr(name, "num_batches_tracked") != NULL) {
        return (float)s;
    }
    return (float)((31 * s + 7 * i) % 97 + (strstr(name, "running_var") != NULL ? 1 : -48)) / 64;
}

static int import(int n, const char *const *options)
{
    char *arguments[16], storage[16][96];
    for (int i = 0; i < n; i++) {
        snprintf(storage[i], sizeof storage[i], "%s", options[i]);
        arguments[i] = storage[i];
    }
    cli_error_clear();
    return cmd_import(n, arguments);
}

static void check_tiny(const usplit_model *model, const usplit_model_facts *f)
{
    float values[256];
    for (int64_t e = 0; e < f->n_entries; e++) {
        const char *name;
        int64_t dims[4], count = 1;
        int32_t n_dims;
        assert_int_equal(usplit_model_get_entry(model, e, &name, dims, &n_dims), USPLIT_OK);
        for (int i = 0; i < n_dims; i++) {
            count *= dims[i];
        }
        assert_true(count <= 256);
        assert_int_equal(usplit_model_get_parameter(model, name, values, count), USPLIT_OK);
        for (int64_t i = 0; i < count; i++) {
            float value = expected(name, i);
            if (memcmp(&values[i], &value, sizeof value) != 0) {
                fail_msg("%s[%lld] is %g, expected %g", name, (long long)i, values[i], value);
            }
        }
    }
}

static void test_tiny(void **state)
{
    (void)state;
    if (access(tiny, R_OK) != 0) {          // outside the tree, in a bundle
        print_message("skip: %s is not here\n", tiny);
        skip();
    }
    usplit_context_options options;
    usplit_context *context;
    usplit_model *model;
    usplit_model_facts f = {.struct_size = sizeof f};
    assert_int_equal(import(6, (const char *[]){tiny, "-o", model_path, "-q", "--threads", "1"}), CLI_OK);
    assert_int_equal(usplit_context_options_init(&options, sizeof options), USPLIT_OK);
    options.threads = 1;
    options.device = "cpu";
    assert_int_equal(usplit_context_create(&context, &options), USPLIT_OK);
    assert_int_equal(usplit_model_load(&model, context, model_path), USPLIT_OK);
    assert_int_equal(usplit_model_info(model, &f), USPLIT_OK);
    assert_int_equal(f.family, USPLIT_FAMILY_HVAE);
    assert_int_equal(f.variant, USPLIT_VARIANT_LEAN);
    assert_true(f.levels == 1 && f.lc_count == 1 && f.filters == 2 && f.z_dims[0] == 2 && f.patch == 16);
    assert_int_equal(f.activation, USPLIT_ACTIVATION_RELU);
    assert_int_equal(f.n_entries, 109);
    assert_true(f.input_mean == 15 && f.input_deviation == 6.5);
    assert_true(f.target_mean[0] == 10 && f.target_mean[1] == 20);
    assert_true(f.target_deviation[0] == 3 && f.target_deviation[1] == 4);
    check_tiny(model, &f);
    usplit_model_free(model);
    usplit_context_free(context);
    // the model is there now
    assert_int_equal(import(4, (const char *[]){tiny, "-o", model_path, "-q"}), CLI_FAILED);
    assert_non_null(strstr(cli_error_line(), "exists; --overwrite replaces it"));
}

// ---- Archives ---------------------------------------------------------------------------------------------------

// {'a': 1} is a dictionary without a state_dict whose 'a' is no tensor: what an archive that is right ends in.
static const unsigned char plain[] = {0x80, 2, '}', 'X', 1, 0, 0, 0, 'a', 'K', 1, 's', '.'};
static const char arrived[] = "'a' is a number; accepted: tensors";

static void refused(const unsigned char *bytes, size_t n, const char *words)
{
    checkpoint c;
    assert_int_equal(zip_maker_write(path, bytes, n), 0);
    cli_error_clear();
    int rc = checkpoint_open(&c, path);
    checkpoint_close(&c);
    if (rc != CLI_FAILED || strstr(cli_error_line(), words) == NULL) {
        fail_msg("status %d, '%s'; expected '%s'", rc, cli_error_line(), words);
    }
}

// Two members, of which the second's row is returned; *end: the record at the end.
static unsigned char *two_members(unsigned char **end, int zip64)
{
    maker.n = maker.n_directory = maker.n_members = 0;
    zip_maker_add(&maker, "x/data.pkl", plain, sizeof plain);
    size_t row = zip_maker_add(&maker, "x/other", "1234", 4), directory = maker.n;
    *end = maker.file + zip_maker_finish(&maker, zip64);
    return maker.file + directory + row;
}

static void test_archives(void **state)
{
    (void)state;
    unsigned char *end, *row;
    for (int zip64 = 0; zip64 < 2; zip64++) {
        two_members(&end, zip64);
        refused(maker.file, maker.n, arrived);
    }
    static const struct {
        int at, bytes;
        uint64_t value;
        const char *words;
    } rows[] = {
        {0, 4, 1, "fewer entries than it says"},
        {8, 2, 1, "compressed or encrypted"},
        {10, 2, 8, "compressed or encrypted"},
        {20, 4, 5, "compressed or encrypted"},
        {24, 4, 5, "compressed or encrypted"},
        {28, 2, 60000, "longer than the directory"},
        {32, 2, 1, "longer than the directory"},
        {42, 4, 0, "overlaps what follows it"},
        {42, 4, 1 << 30, "does not fit before the directory"},
        {42, 4, UINT32_MAX, "does not fit before the directory"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        row = two_members(&end, 0);
        zip_maker_put(row + rows[i].at, rows[i].value, rows[i].bytes);
        refused(maker.file, maker.n, rows[i].words);
    }
    row = two_members(&end, 0);             // a size that would wrap around
    zip_maker_put(row + 20, UINT32_MAX, 4);
    zip_maker_put(row + 24, UINT32_MAX, 4);
    refused(maker.file, maker.n, "does not fit before the directory");
    static const struct {
        int at, bytes;
        uint64_t value;
        const char *words;
    } ends[] = {
        {4, 2, 1, "one part of an archive in several"},
        {10, 2, 3, "larger than its place"},
        {10, 2, 1, "more entries than it says"},
        {12, 4, 1 << 20, "larger than its place"},
        {16, 4, 1 << 20, "larger than its place"},
        {20, 2, 7, "the directory of the ZIP archive is missing"},
        {-8, 8, 1, "the ZIP64 record is not one"},      // of the locator before the end: 4 bytes of place, of disks
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        two_members(&end, ends[i].at < 0);
        if (ends[i].at < 0) {
            zip_maker_put(end - 12, 0, 8);
        } else {
            zip_maker_put(end + ends[i].at, ends[i].value, ends[i].bytes);
        }
        refused(maker.file, maker.n, ends[i].words);
    }
    two_members(&end, 1);
    zip_maker_put(end - 12, UINT64_MAX - 8, 8);
    refused(maker.file, maker.n, "lies where it cannot be");
    two_members(&end, 1);
    zip_maker_put(end - 76 + 40, UINT64_MAX, 8);
    refused(maker.file, maker.n, "larger than its place");
    two_members(&end, 0);                   // the member's own header, and what it holds
    maker.file[26]++;
    refused(maker.file, maker.n, "does not fit the directory");
    two_members(&end, 0);
    maker.file[30 + 10]++;
    refused(maker.file, maker.n, "the checksum of 'x/data.pkl' is wrong");
    maker.n = maker.n_directory = maker.n_members = 0;
    zip_maker_add(&maker, "x/data.pkl", plain, sizeof plain);
    zip_maker_add(&maker, "x/data.pkl", plain, sizeof plain);
    zip_maker_finish(&maker, 0);
    refused(maker.file, maker.n, "'x/data.pkl' twice");
}

// Numbers beyond 32 bits stand in a field of their own; one that is too short for them is a lie.
static void test_wide_numbers(void **state)
{
    (void)state;
    static const struct {
        int bytes;
        const char *words;
    } fields[] = {{24, arrived}, {23, "a ZIP64 field is too short"}, {0, "a ZIP64 field is too short"}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        maker.n = maker.n_directory = maker.n_members = 0;
        zip_maker_add(&maker, "x/other", "1234", 4);
        size_t row = zip_maker_add(&maker, "x/data.pkl", plain, sizeof plain);
        zip_maker_widen(&maker, row, fields[i].bytes);
        zip_maker_finish(&maker, 1);
        refused(maker.file, maker.n, fields[i].words);
    }
}

// ---- Pickles ----------------------------------------------------------------------------------------------------

static int load(pickle *p, const void *bytes, size_t n)
{
    cli_error_clear();
    return pickle_load(p, "x", bytes, n);
}

#define BYTES(text) text, sizeof text - 1

static void test_pickles_that_lie(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } lies[] = {
        {BYTES(""), "ends in the middle"},
        {BYTES("N"), "ends in the middle"},
        {BYTES("."), "a value is missing"},
        {BYTES("0."), "a value is missing"},
        {BYTES("K"), "ends in the middle"},
        {BYTES("J\1\2\3"), "ends in the middle"},
        {BYTES("X\377\377\377\377a."), "ends in the middle"},
        {BYTES("\x8d\0\0\0\0\0\0\0\x80" "a."), "ends in the middle"},
        {BYTES("\x8b\377\377\377\377."), "a negative length"},
        {BYTES("\x8b\377\377\377\177."), "ends in the middle"},
        {BYTES("t."), "a mark is missing"},
        {BYTES("((N."), "a mark is left over"},
        {BYTES("(N0."), "a mark is left over"},
        {BYTES("N(\x85."), "a value is missing"},       // a tuple may not reach below the mark
        {BYTES("]Ka"), "ends in the middle"},
        {BYTES("K\1Na."), "items for what is no list"},
        {BYTES("}Na."), "items for what is no list"},
        {BYTES("]NNs."), "keys for what is no dictionary"},
        {BYTES("}(Nu."), "a key without a value"},
        {BYTES("(Nd."), "a key without a value"},
        {BYTES("h\0."), "a memo entry that was never written"},
        {BYTES("Nq\7h\4."), "a memo number larger than the pickle"},
        {BYTES("Nq\2h\1."), "a memo entry that was never written"},
        {BYTES("Nr\377\377\377\377."), "a memo number larger than the pickle"},
        {BYTES("q\0."), "a value is missing"},
        {BYTES("\x80\x09N."), "protocol is newer than 5"},
        {BYTES("cos\nsystem"), "a name does not end"},
        {BYTES("NN\x93."), "a name that is not text"},
        {BYTES("NQ."), "something other than a storage"},
        {BYTES("(X\1\0\0\0aNNNNtQ."), "something other than a storage"},
        {BYTES("I1\n."), "opcode 0x49"},                // whatever Python's text protocol has
        {BYTES("(ios\nsystem\n."), "opcode 0x69"},
        {BYTES("Pid\n."), "opcode 0x50"},
        {BYTES("N2."), "opcode 0x32"},                  // DUP: no writer uses it
        {BYTES("\x82\1."), "opcode 0x82"},              // names by number, from a registry
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        pickle p;
        int rc = load(&p, lies[i].bytes, lies[i].n);
        pickle_free(&p);
        if (rc != CLI_FAILED || strstr(cli_error_line(), lies[i].words) == NULL) {
            fail_msg("lie %zu: status %d, '%s'; expected '%s'", i, rc, cli_error_line(), lies[i].words);
        }
    }
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        double number;
    } numbers[] = {
        {BYTES("\x80\2K\377."), 255},
        {BYTES("M\1\2."), 513},
        {BYTES("J\376\377\377\377."), -2},
        {BYTES("J\0\0\0\x80."), -2147483648.0},
        {BYTES("\x8a\0."), 0},
        {BYTES("\x8a\1\377."), -1},
        {BYTES("\x8a\3\0\0\1."), 65536},
        {BYTES("\x8a\x08\0\0\0\0\0\0\0\x80."), -9223372036854775808.0},
        {BYTES("\x8b\2\0\0\0\0\1."), 256},
        {BYTES("G?\370\0\0\0\0\0\0."), 1.5},
        {BYTES("\x88."), 1},
        {BYTES("(K\1K\2K\3t0(0K\7."), 7},               // POP takes a mark, too
        {BYTES("\x80\4\x95\3\0\0\0\0\0\0\0K\1\x94" "0h\0."), 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        pickle p;
        double number = 0;
        assert_int_equal(load(&p, numbers[i].bytes, numbers[i].n), CLI_OK);
        if (!pickle_number(pickle_at(&p, p.root), &number) || number != numbers[i].number) {
            fail_msg("number %zu is %g, expected %g", i, number, numbers[i].number);
        }
        pickle_free(&p);
    }
    pickle p;       // {'a': 1, 'b': (2, 'x'), 'a': 3}: the last one counts
    assert_int_equal(load(&p, BYTES("}(X\1\0\0\0aK\1\x8c\1bK\2U\1x\x86X\1\0\0\0aK\3u.")), CLI_OK);
    const pickle_value *root = pickle_at(&p, p.root);
    double number;
    assert_true(pickle_number(pickle_get(&p, root, "a"), &number) && number == 3);
    assert_true(pickle_is(pickle_item(&p, pickle_get(&p, root, "b"), 1), "x"));
    assert_null(pickle_item(&p, pickle_get(&p, root, "b"), 2));
    assert_null(pickle_get(&p, root, "c"));
    pickle_free(&p);
    // a foreign object with fields, and one that is called: neither means anything, both can be looked at
    assert_int_equal(load(&p, BYTES("cos\nsystem\n(X\1\0\0\0xtRX\1\0\0\0kK\5s.")), CLI_OK);
    root = pickle_at(&p, p.root);
    assert_int_equal(root->kind, PICKLE_OPAQUE);
    assert_string_equal(pickle_describe(&p, root).text, "os.system");
    assert_true(pickle_number(pickle_get(&p, root, "k"), &number) && number == 5);
    pickle_free(&p);
    assert_int_equal(load(&p, BYTES("cm\nC\n)\x81}X\1\0\0\0kK\6sb.")), CLI_OK);
    assert_true(pickle_number(pickle_get(&p, pickle_at(&p, p.root), "k"), &number) && number == 6);
    pickle_free(&p);
}

// Depth, cycles and doubling cost what their bytes cost.
static void test_bombs(void **state)
{
    (void)state;
    enum { DEEP = 1000000 };
    pickle p;
    char *bytes = malloc(2 * DEEP + 1);
    assert_non_null(bytes);
    memset(bytes, ']', DEEP);
    memset(bytes + DEEP, 'a', DEEP - 1);
    bytes[2 * DEEP - 1] = '.';
    assert_int_equal(load(&p, bytes, 2 * DEEP), CLI_OK);
    assert_int_equal(p.n_values, DEEP);
    pickle_free(&p);
    memset(bytes, '(', DEEP);
    bytes[DEEP] = '.';
    assert_int_equal(load(&p, bytes, DEEP + 1), CLI_FAILED);
    pickle_free(&p);
    size_t n = 0;                                       // 2^200 elements, were they copied
    bytes[n++] = ')';
    for (int i = 0; i < 200; i++) {
        memcpy(bytes + n, "q\0h\0\x86", 5);
        n += 5;
    }
    bytes[n++] = '.';
    assert_int_equal(load(&p, bytes, n), CLI_OK);
    assert_int_equal(p.n_values, 201);
    pickle_free(&p);
    assert_int_equal(load(&p, BYTES("]q\0h\0a.")), CLI_OK);   // a list that holds itself
    pickle_free(&p);
    free(bytes);
}

// ---- Tensors ----------------------------------------------------------------------------------------------------

typedef struct writer {
    unsigned char bytes[4096];
    size_t n;
} writer;

static void put(writer *w, const void *bytes, size_t n)
{
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_whole(writer *w, int64_t value)
{
    put(w, "\x8a\x08", 2);
    zip_maker_put(w->bytes + w->n, (uint64_t)value, 8);
    w->n += 8;
}

static void put_tuple(writer *w, int n, const int64_t *values)
{
    put(w, "(", 1);
    for (int i = 0; i < n; i++) {
        put_whole(w, values[i]);
    }
    put(w, "t", 1);
}

typedef struct tensor {
    const char *type, *key;
    int64_t elements, offset;
    int n;
    int64_t size[10], stride[10];
} tensor;

// An archive with a state_dict of the one tensor 'w' over a storage of 24 bytes: the floats 0 to 5.
static void make_tensor(const tensor *t)
{
    static writer w;
    float storage[6] = {0, 1, 2, 3, 4, 5};
    w.n = 0;
    put(&w, BYTES("\x80\2}X\12\0\0\0state_dict}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage"));
    put(&w, "c", 1);
    put(&w, t->type, strlen(t->type));
    put(&w, "\nX\1\0\0\0", 6);
    put(&w, t->key, 1);
    put(&w, BYTES("X\3\0\0\0cpu"));
    put_whole(&w, t->elements);
    put(&w, "tQ", 2);
    put_whole(&w, t->offset);
    put_tuple(&w, t->n, t->size);
    put_tuple(&w, t->n, t->stride);
    put(&w, BYTES("\x89" "ccollections\nOrderedDict\n)RtRss."));
    maker.n = maker.n_directory = maker.n_members = 0;
    zip_maker_add(&maker, "archive/data.pkl", w.bytes, w.n);
    zip_maker_add(&maker, "archive/data/0", storage, sizeof storage);
    zip_maker_finish(&maker, 1);
}

static void test_tensors(void **state)
{
    (void)state;
    static const char f[] = "torch\nFloatStorage";
    static const struct {
        tensor t;
        const char *words;
    } lies[] = {
        {{f, "1", 6, 0, 1, {6}, {1}}, "in a storage that is missing"},
        {{f, "0", 7, 0, 1, {6}, {1}}, "a storage of another length than it says"},
        {{f, "0", -1, 0, 1, {6}, {1}}, "a tensor that cannot be read"},
        {{"torch\nLongStorage", "0", 6, 0, 1, {6}, {1}}, "a storage of another length"},
        {{"torch\nComplexFloatStorage", "0", 3, 0, 1, {3}, {1}}, "torch.ComplexFloatStorage; accepted"},
        {{"os\nFloatStorage", "0", 6, 0, 1, {6}, {1}}, "os.FloatStorage; accepted"},
        {{f, "0", 6, 1, 1, {6}, {1}}, "elements outside its storage"},
        {{f, "0", 6, 6, 0, {0}, {0}}, "elements outside its storage"},
        {{f, "0", 6, 7, 1, {0}, {1}}, "elements outside its storage"},
        {{f, "0", 6, -1, 1, {6}, {1}}, "a tensor that cannot be read"},
        {{f, "0", 6, 0, 1, {7}, {1}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 1, {7}, {0}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 1, {2}, {6}}, "elements outside its storage"},
        {{f, "0", 6, 0, 1, {2}, {INT64_MAX}}, "elements outside its storage"},
        {{f, "0", 6, 0, 2, {2, 2}, {3, 3}}, "elements outside its storage"},
        {{f, "0", 6, 0, 2, {3, 3}, {1, 1}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 2, {INT64_MAX, 3}, {1, 1}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 2, {INT64_C(1) << 32, INT64_C(1) << 32}, {0, 0}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 1, {-6}, {1}}, "a shape larger than its storage"},
        {{f, "0", 6, 5, 1, {6}, {-1}}, "a shape larger than its storage"},
        {{f, "0", 6, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 6}, {1, 1, 1, 1, 1, 1, 1, 1, 1}}, "a shape that cannot be read"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        make_tensor(&lies[i].t);
        refused(maker.file, maker.n, lies[i].words);
    }
    // turned, apart, from the middle; an axis of one may say what it likes
    static const struct {
        tensor t;
        float values[6];
        int64_t count;
    } right[] = {
        {{f, "0", 6, 0, 2, {2, 3}, {3, 1}}, {0, 1, 2, 3, 4, 5}, 6},
        {{f, "0", 6, 0, 2, {3, 2}, {1, 3}}, {0, 3, 1, 4, 2, 5}, 6},
        {{f, "0", 6, 1, 1, {3}, {2}}, {1, 3, 5}, 3},
        {{f, "0", 6, 5, 0, {0}, {0}}, {5}, 1},
        {{f, "0", 6, 6, 2, {3, 0}, {1, 1}}, {0}, 0},
        {{f, "0", 6, 2, 3, {1, 2, 1}, {INT64_MAX, 2, INT64_MAX}}, {2, 4}, 2},
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        checkpoint c;
        float values[6] = {0};
        make_tensor(&right[i].t);
        assert_int_equal(zip_maker_write(path, maker.file, maker.n), 0);
        cli_error_clear();
        if (checkpoint_open(&c, path) != CLI_OK) {
            fail_msg("tensor %zu: %s", i, cli_error_line());
        }
        const checkpoint_array *a = checkpoint_find(&c, "%s", "w");
        assert_non_null(a);
        assert_int_equal(a->count, right[i].count);
        assert_int_equal(checkpoint_read(&c, a, values), CLI_OK);
        assert_memory_equal(values, right[i].values, sizeof values);
        checkpoint_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny), cmocka_unit_test(test_archives), cmocka_unit_test(test_wide_numbers),
        cmocka_unit_test(test_pickles_that_lie), cmocka_unit_test(test_values), cmocka_unit_test(test_bombs), cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests_name("import", tests, set_up, remove_folder);
}
