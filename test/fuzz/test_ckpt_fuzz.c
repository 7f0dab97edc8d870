// src/ckpt against files that are damaged (truncated, flipped bytes: the container refuses them before
// a structure is read) and against files made with intent: a right SHA-256 over HDF5 with links, virtual and
// external data, wrong types, absurd sizes, cycles, changed structures. Always a status and a line, never a
// crash or a leak.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <hdf5.h>

#include "ckpt/ckpt.h"
#include "ckpt/container.h"
#include "common/folder.h"
#include "kernels/philox.h"

static const char *file, *other;

static int set_up(void **state)
{
    int failed = make_folder(state);
    file = in_folder("hostile.h5");
    other = in_folder("other.h5");
    return failed;
}

static void check_open_refused(const char *words)
{
    size_t live = us_alloc_live();
    ssize_t n_ids = H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL);
    us_ckpt *ckpt;
    us_message_set("");
    usplit_status status = us_ckpt_open(&ckpt, NULL, file);
    if (status != USPLIT_ERR_FORMAT || !strstr(usplit_error_message(), words)) {
        print_error("status %d, '%s', expected '%s'\n", (int)status, usplit_error_message(), words);
    }
    assert_int_equal(status, USPLIT_ERR_FORMAT);
    assert_non_null(strstr(usplit_error_message(), words));
    assert_null(ckpt);
    assert_int_equal(us_alloc_live(), live);
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), n_ids);
}

// ---- Damage ------------------------------------------------------------------------------------------

static unsigned char *good_checkpoint(size_t *n, int64_t planes)
{
    static float weights[6000];
    int64_t step = 77;
    for (int i = 0; i < 6000; i++) {
        weights[i] = (float)i * 0.25f;
    }
    const us_ckpt_entry entries[] = {
        {.path = "parameters/a.weight",
         .type = US_CKPT_F32,
         .n_dims = 4,
         .dims = {20, 10, 3, planes},
         .data = weights},
        {.path = "parameters/a.bias", .type = US_CKPT_F32, .n_dims = 1, .dims = {20}, .data = weights},
        {.path = "trainer/step", .type = US_CKPT_I64, .data = &step},
        {.path = "model/library_version", .type = US_CKPT_TEXT, .n_dims = 1, .dims = {5}, .data = "0.1.0"},
    };
    assert_int_equal(us_ckpt_write(NULL, file, entries, 4), USPLIT_OK);
    return slurp(file, n);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    size_t n;
    unsigned char *bytes = good_checkpoint(&n, 10);
    for (size_t i = 0; i < 200; i++) {
        size_t keep = i < 60 ? i * 10 : n - 1 - (i - 60) * (n / 150); // the header densely, then the rest
        spill(file, bytes, keep);
        check_open_refused("hostile.h5: ");
    }
    free(bytes);
}

static void every_flipped_byte_is_refused(void **state)
{
    (void)state;
    size_t n;
    unsigned char *bytes = good_checkpoint(&n, 10);
    const uint32_t seed = 11;
    for (uint32_t i = 0; i < 400; i++) {
        us_u32x4 r = us_philox(seed, i, 0, 0, 0);
        size_t at = i < 200 ? r.v[0] % US_CKPT_BLOCK_BYTES : r.v[0] % n;
        unsigned char old = bytes[at];
        bytes[at] ^= (unsigned char)(1 + r.v[1] % 255);
        spill(file, bytes, n);
        check_open_refused("hostile.h5: ");
        bytes[at] = old;
    }
    spill(file, bytes, n);
    us_ckpt *ckpt;
    assert_int_equal(us_ckpt_open(&ckpt, NULL, file), USPLIT_OK);
    us_ckpt_close(ckpt);
    free(bytes);
}

static void noise_is_refused(void **state)
{
    (void)state;
    unsigned char noise[2048], body[1024];
    for (uint32_t i = 0; i < 100; i++) {
        for (uint32_t b = 0; b < sizeof noise; b++) {
            noise[b] = (unsigned char)us_philox(12, i, b, 0, 0).v[0];
        }
        spill(file, noise, us_philox(13, i, 0, 0, 0).v[0] % sizeof noise);
        check_open_refused("hostile.h5: ");
        memcpy(body, noise, sizeof body); // noise with a right header gets as far as HDF5
        us_ckpt_block_fill(noise, body, sizeof body);
        memcpy(noise + US_CKPT_BLOCK_BYTES, body, sizeof body);
        spill(file, noise, US_CKPT_BLOCK_BYTES + sizeof body);
        check_open_refused("not an HDF5 file behind its header");
    }
}

// ---- Intent ------------------------------------------------------------------------------------------

static hid_t begin(void)
{
    hid_t h5 = H5Fcreate(other, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(h5 >= 0);
    return h5;
}

// Puts the right header before the HDF5 bytes.
static void wrap(const void *body, size_t n)
{
    assert_int_equal(us_ckpt_container_write(NULL, file, body, n), USPLIT_OK);
}

static void end(hid_t h5)
{
    size_t n;
    assert_true(H5Fclose(h5) >= 0);
    unsigned char *bytes = slurp(other, &n);
    wrap(bytes, n);
    free(bytes);
}

static hid_t add(hid_t h5, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    hid_t space = rank > 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5Dcreate2(h5, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Sclose(space);
    return dataset;
}

static void add_written(hid_t h5, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    static double zeros[4096];
    hid_t dataset = add(h5, name, type, rank, dims, plist);
    assert_true(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(dataset);
}

static void links_are_refused(void **state)
{
    (void)state;
    hid_t h5 = begin();
    H5Lcreate_external("/etc/passwd", "/x", h5, "out", H5P_DEFAULT, H5P_DEFAULT);
    end(h5);
    check_open_refused("'/' is a group of the newer kind (with ordered or external links)");
    h5 = begin();
    H5Gclose(H5Gcreate2(h5, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_soft("/nowhere", h5, "g/soft", H5P_DEFAULT, H5P_DEFAULT);
    end(h5);
    check_open_refused("'g/soft' is a soft link");
    h5 = begin();
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tcommit2(h5, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
    end(h5);
    check_open_refused("'type' is neither a group nor an array");
}

static void cycles_and_depth_end(void **state)
{
    (void)state;
    hid_t h5 = begin();
    H5Gclose(H5Gcreate2(h5, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (int i = 0; i < 40; i++) { // 40 ways round a cycle: 40^8 paths
        char name[32];
        snprintf(name, sizeof name, "g/again%d", i);
        H5Lcreate_hard(h5, "g", h5, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    end(h5);
    check_open_refused("has over 8 components");
    h5 = begin();
    char path[64] = "";
    for (int i = 0; i < 9; i++) {
        strcat(path, "/d");
        H5Gclose(H5Gcreate2(h5, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    end(h5);
    check_open_refused("a path in group 'd/d/d/d/d/d/d/d' has over 8 components");
    h5 = begin();
    H5Gclose(H5Gcreate2(h5, "bell\a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    end(h5);
    check_open_refused("not printable ASCII");
    h5 = begin();
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[299] = '\0';
    H5Gclose(H5Gcreate2(h5, longest, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    end(h5);
    check_open_refused("too long");
}

static void too_many_entries_are_refused(void **state)
{
    (void)state;
    hid_t h5 = begin(); // 300 links to one array in a group that has 300 names
    H5Gclose(H5Gcreate2(h5, "one", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    add_written(h5, "one/x", H5T_IEEE_F32LE, 0, NULL, H5P_DEFAULT);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "one/link%d", i);
        H5Lcreate_hard(h5, "one/x", h5, name, H5P_DEFAULT, H5P_DEFAULT);
        snprintf(name, sizeof name, "again%d", i);
        H5Lcreate_hard(h5, "one", h5, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    end(h5);
    check_open_refused("has over 65536 entries");
}

static void foreign_types_are_refused(void **state)
{
    (void)state;
    hsize_t two[1] = {2}, flat[5] = {1, 1, 1, 1, 2}, square[2] = {2, 2};
    hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1), pair = H5Tcreate(H5T_COMPOUND, 8);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_size(fixed, 4);
    H5Tinsert(pair, "a", 0, H5T_IEEE_F32LE);
    H5Tinsert(pair, "b", 4, H5T_IEEE_F32LE);
    const struct {
        hid_t type;
        int rank;
        const hsize_t *dims;
        const char *words;
    } cases[] = {
        {H5T_IEEE_F32BE, 1, two, "accepted: little-endian"},
        {H5T_IEEE_F64BE, 1, two, "8-byte elements of class float"},
        {H5T_STD_I64BE, 0, NULL, "class integer; accepted: little-endian f32, f64, i64, fixed-length text"},
        {H5T_STD_I32LE, 1, two, "4-byte elements of class integer"},
        {H5T_STD_U64LE, 1, two, "8-byte elements of class integer"},
        {H5T_STD_U16LE, 1, two, "2-byte elements"},
        {H5T_STD_U8LE, 2, square, "is text of rank 2; accepted: one dimension of bytes"},
        {H5T_STD_REF_OBJ, 1, two, "class reference"},
        {variable, 1, two, "class variable-length"},
        {fixed, 1, two, "is text of rank 1; accepted: one string"},
        {pair, 1, two, "class compound"},
        {H5T_IEEE_F32LE, 5, flat, "has rank 5; accepted: 0 to 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hid_t h5 = begin();
        add_written(h5, "fine", H5T_IEEE_F64LE, 1, two, H5P_DEFAULT);
        add_written(h5, "odd", cases[i].type, cases[i].rank, cases[i].dims, H5P_DEFAULT);
        end(h5);
        check_open_refused("'odd' ");
        check_open_refused(cases[i].words);
    }
    hid_t h5 = begin(), space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(h5, "null", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    end(h5);
    check_open_refused("'null' has no shape");
    H5Sclose(space), H5Tclose(pair), H5Tclose(fixed), H5Tclose(variable);
}

static void foreign_storage_is_refused(void **state)
{
    (void)state;
    hsize_t n[1] = {64}, huge[4] = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
    hsize_t chunk4[4] = {16, 16, 16, 16}, chunk1[1] = {64};
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, n, NULL), h5 = begin();
    H5Pset_external(plist, "/etc/passwd", 0, 256);
    H5Dclose(add(h5, "x", H5T_IEEE_F32LE, 1, n, plist));
    end(h5);
    check_open_refused("'x' lies in an external file");
    H5Pclose(plist);

    plist = H5Pcreate(H5P_DATASET_CREATE), h5 = begin();
    H5Pset_virtual(plist, space, "/tmp/other.h5", "/y", space);
    H5Dclose(add(h5, "x", H5T_IEEE_F32LE, 1, n, plist));
    end(h5);
    check_open_refused("'x' has virtual storage (version 4)");
    H5Pclose(plist);

    plist = H5Pcreate(H5P_DATASET_CREATE), h5 = begin();
    H5Pset_layout(plist, H5D_COMPACT);
    add_written(h5, "x", H5T_IEEE_F32LE, 1, n, plist);
    end(h5);
    check_open_refused("'x' has compact storage");
    H5Pclose(plist);

    h5 = begin(); // never written: reading would give fill values
    H5Dclose(add(h5, "x", H5T_IEEE_F32LE, 1, n, H5P_DEFAULT));
    end(h5);
    check_open_refused("'x' was never written");

    plist = H5Pcreate(H5P_DATASET_CREATE), h5 = begin();
    H5Pset_chunk(plist, 1, chunk1);
    H5Pset_fletcher32(plist);
    add_written(h5, "x", H5T_IEEE_F32LE, 1, n, plist);
    end(h5);
    check_open_refused("'x' has filters; accepted: uncompressed data");
    H5Pclose(plist);

    plist = H5Pcreate(H5P_DATASET_CREATE), h5 = begin();
    H5Pset_chunk(plist, 4, chunk4);
    H5Dclose(add(h5, "x", H5T_IEEE_F32LE, 4, huge, plist));
    end(h5);
    check_open_refused("'x' has more than 8589934592 bytes (dimension 1 is 1048576)");
    H5Pset_chunk(plist, 1, chunk1);
    h5 = begin();
    H5Dclose(add(h5, "x", H5T_IEEE_F64LE, 1, n, plist));
    end(h5);
    check_open_refused("'x' has chunked storage (version 3); accepted: contiguous");
    H5Pclose(plist);
    H5Sclose(space);
}

// ---- HDF5 structures changed byte by byte, with the right SHA-256 ------------------------------------

static size_t find_bytes(const unsigned char *bytes, size_t n, const char *mark, size_t from)
{
    for (size_t i = from; i + 4 <= n; i++) {
        if (memcmp(bytes + i, mark, 4) == 0) {
            return i;
        }
    }
    return n;
}

// HDF5 itself follows such a tree until its stack is gone.
static void trees_that_contain_themselves_are_refused(void **state)
{
    (void)state;
    size_t n;
    int n_trees = 0;
    unsigned char *bytes = good_checkpoint(&n, 10), *body = bytes + US_CKPT_BLOCK_BYTES;
    n -= US_CKPT_BLOCK_BYTES;
    for (size_t at = find_bytes(body, n, "TREE", 0); at < n; at = find_bytes(body, n, "TREE", at + 4)) {
        unsigned char old[40];
        memcpy(old, body + at, sizeof old);
        body[at + 5] = 1; // its children are trees
        for (int i = 0; i < 8; i++) {
            body[at + 32 + (size_t)i] = (unsigned char)((uint64_t)at >> (8 * i)); // the first is itself
        }
        wrap(body, n);
        check_open_refused("has a tree that is broken or too large");
        memcpy(body + at, old, sizeof old);
        n_trees++;
    }
    assert_true(n_trees >= 4); // the root and three groups
    free(bytes);
}

// Whatever is accepted can be read: addresses and sizes are inside the file.
static void changed_structures_are_read_or_refused(void **state)
{
    (void)state;
    static unsigned char dst[1 << 16];
    static const unsigned char special[] = {0, 1, 2, 3, 0x10, 0x11, 0x7f, 0x80, 0xff};
    size_t n, live = us_alloc_live();
    int n_accepted = 0, n_refused = 0;
    unsigned char *bytes = good_checkpoint(&n, 0), *body = bytes + US_CKPT_BLOCK_BYTES, *changed = malloc(n);
    n -= US_CKPT_BLOCK_BYTES;
    for (uint32_t i = 0; i < 1200; i++) {
        us_u32x4 r = us_philox(14, i, 0, 0, 0);
        memcpy(changed, body, n);
        for (uint32_t k = 0; k < 1 + i % 3; k++) {
            // Half of them in bytes that say something: a zero is mostly room that nobody reads.
            us_u32x4 c = us_philox(15, i, k, 0, 0);
            size_t at = c.v[0] % n;
            while (r.v[0] % 2 && at + 1 < n && body[at] == 0) {
                at++;
            }
            changed[at] = c.v[1] % 2 ? special[c.v[2] % sizeof special] : (unsigned char)c.v[3];
        }
        us_ckpt *ckpt;
        us_ckpt_block_fill(bytes, changed, n);
        FILE *f = fopen(file, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, US_CKPT_BLOCK_BYTES, f), US_CKPT_BLOCK_BYTES);
        assert_int_equal(fwrite(changed, 1, n, f), n);
        fclose(f);
        usplit_status status = us_ckpt_open(&ckpt, NULL, file);
        if (status == USPLIT_OK) {
            n_accepted++;
            for (size_t e = 0; e < us_ckpt_count(ckpt); e++) {
                const us_ckpt_entry *entry = us_ckpt_at(ckpt, e);
                int64_t size = entry->type == US_CKPT_TEXT ? 1 : entry->type == US_CKPT_F32 ? 4 : 8;
                for (int d = 0; d < entry->n_dims; d++) {
                    size *= entry->dims[d];
                }
                assert_true(size >= 0 && (size_t)size <= n);
                assert_int_equal(
                    us_ckpt_read(ckpt, entry->path, entry->type, entry->n_dims, entry->dims, dst), USPLIT_OK);
            }
            us_ckpt_close(ckpt);
        } else {
            n_refused++;
            assert_int_equal(status, USPLIT_ERR_FORMAT);
            assert_non_null(strstr(usplit_error_message(), "hostile.h5: "));
        }
        assert_int_equal(us_alloc_live(), live);
    }
    print_message("# seed 14: %d accepted, %d refused\n", n_accepted, n_refused);
    assert_true(n_accepted > 100 && n_refused > 100);
    free(changed);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_byte_is_refused),
        cmocka_unit_test(noise_is_refused),
        cmocka_unit_test(links_are_refused),
        cmocka_unit_test(cycles_and_depth_end),
        cmocka_unit_test(too_many_entries_are_refused),
        cmocka_unit_test(foreign_types_are_refused),
        cmocka_unit_test(foreign_storage_is_refused),
        cmocka_unit_test(trees_that_contain_themselves_are_refused),
        cmocka_unit_test(changed_structures_are_read_or_refused),
    };
    return cmocka_run_group_tests_name("ckpt_fuzz", tests, set_up, remove_folder);
}
