// cuda/choices.c: what was chosen for a convolution comes back from memory and from its file; a file that is damaged,
// cut off, foreign, of another machine or version gives nothing and is written anew; two processes do not lose each
// other's choices; what fails leaves the choices usable and no file behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "choices.h"

static char folder[64];
static const char machine[] = "A device, sm_90, 132 multiprocessors, driver 13000, cuDNN 9.19.0";

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/usplit-choices-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

// Files in the folder, which are removed; their number.
static int empty_folder(void)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int n = 0;
    while (d && (e = readdir(d))) {
        char path[512];
        if (e->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (remove(path) == 0) {
            n++;
        }
    }
    if (d) {
        closedir(d);
    }
    return n;
}

static int drop_folder(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}

static us_cu_choices *open_choices(const us_allocator *a)
{
    us_cu_choices *c;
    assert_int_equal(us_cu_choices_open(&c, a, folder, machine), USPLIT_OK);
    return c;
}

// The i-th of many that all differ.
static us_cu_choice choice(int i)
{
    us_cu_choice c;
    memset(&c, 0, sizeof c);
    c.shape = (us_cu_shape){.batch = 32, .ci = 64 + i, .co = 128, .k = 3, .stride = 2, .transposed = i % 2, .in_h = 64,
                            .in_w = 61, .out_h = 32, .out_w = 31, .top = -2 - i, .left = 5, .half = 1};
    c.direction = (us_conv_direction)(i % 3);
    c.deterministic = i / 3 % 2;
    c.search = i / 6 % 2;
    snprintf(c.recipe.library, sizeof c.recipe.library, "%s", i % 5 == 4 ? "plain" : i % 2 ? "cudnn" : "cublaslt");
    c.recipe.n = i % 5 == 4 ? 0 : i % (US_CU_RECIPE_WORDS + 1);
    for (int w = 0; w < c.recipe.n; w++) {
        c.recipe.words[w] = w % 3 == 0 ? INT64_MIN + i : w % 3 == 1 ? INT64_MAX - w : i * w;
    }
    return c;
}

static void put(us_cu_choices *c, int i)
{
    us_cu_choice one = choice(i);
    assert_int_equal(us_cu_choices_put(c, &one), USPLIT_OK);
}

static int has(us_cu_choices *c, int i)
{
    us_cu_choice one = choice(i);
    const us_cu_choice *there = us_cu_choices_find(c, &one);
    return there && memcmp(&there->recipe, &one.recipe, sizeof one.recipe) == 0;
}

// A file with the first n choices, as text; the caller frees it.
static char *written(int n, size_t *size, char path[256])
{
    us_cu_choices *c = open_choices(NULL);
    assert_int_equal(us_cu_choices_count(c), 0);
    for (int i = 0; i < n; i++) {
        put(c, i);
    }
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);
    snprintf(path, 256, "%s", us_cu_choices_file(c));
    us_cu_choices_free(c);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = malloc(1 << 20);
    assert_non_null(text);
    *size = fread(text, 1, (1 << 20) - 1, file);
    text[*size] = '\0';
    fclose(file);
    return text;
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static int read_count(void)
{
    us_cu_choices *c = open_choices(NULL);
    int n = us_cu_choices_count(c);
    us_cu_choices_free(c);
    return n;
}

// ---- Tests ----------------------------------------------------------------------------------------------

enum { MANY = 150 };

static void comes_back(void **state)
{
    size_t size;
    char path[256];
    (void)state;
    free(written(MANY, &size, path));
    us_cu_choices *c = open_choices(NULL);
    assert_int_equal(us_cu_choices_count(c), MANY);
    for (int i = 0; i < MANY; i++) {
        us_cu_choice like = choice(i), other = like;
        assert_true(has(c, i));
        assert_int_equal(us_cu_choices_find(c, &like)->tried, 0);
        other.search = !other.search;       // looked for in another way: another choice
        assert_null(us_cu_choices_find(c, &other));
    }
    us_cu_choice changed = choice(7);
    changed.recipe = choice(9).recipe;
    assert_int_equal(us_cu_choices_put(c, &changed), USPLIT_OK);
    assert_int_equal(us_cu_choices_count(c), MANY);
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);
    us_cu_choices_free(c);
    c = open_choices(NULL);
    assert_false(has(c, 7));
    assert_memory_equal(&us_cu_choices_find(c, &changed)->recipe, &changed.recipe, sizeof changed.recipe);
    us_cu_choices_free(c);
    assert_int_equal(empty_folder(), 1);    // nothing else was left
}

static void without_a_folder(void **state)
{
    us_cu_choices *c;
    (void)state;
    assert_int_equal(us_cu_choices_open(&c, NULL, NULL, machine), USPLIT_OK);
    put(c, 1);
    assert_true(has(c, 1));
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);
    assert_null(us_cu_choices_file(c));
    us_cu_choices_free(c);
    assert_int_equal(us_cu_choices_open(&c, NULL, "/nowhere/at/all", machine), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "/nowhere/at/all"));
    assert_null(c);
    assert_int_equal(us_cu_choices_open(&c, NULL, "/dev/null", machine), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "not a folder"));
}

// Every length, and every byte changed in two ways: nothing is taken, nothing is an error.
static void damaged(void **state)
{
    size_t size;
    char path[256];
    (void)state;
    char *text = written(3, &size, path), *bad = malloc(size);
    assert_non_null(bad);
    assert_int_equal(read_count(), 3);
    for (size_t n = 0; n < size; n++) {
        write_file(path, text, n);
        assert_int_equal(read_count(), 0);
    }
    for (size_t i = 0; i < 2 * size; i++) {
        memcpy(bad, text, size);
        bad[i / 2] = (char)(bad[i / 2] ^ (i % 2 ? 1 : 0x80));
        write_file(path, bad, size);
        assert_int_equal(read_count(), 0);
    }
    us_cu_choices *c = open_choices(NULL);      // the last damaged one is written over
    put(c, 4);
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);
    us_cu_choices_free(c);
    assert_int_equal(read_count(), 1);
    free(text);
    free(bad);
    assert_int_equal(empty_folder(), 1);
}

// FNV-1a with the published constants, written here anew.
static uint64_t fnv(const char *text, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) {
        h ^= (uint8_t)text[i];
        h *= 1099511628211u;
    }
    return h;
}

// A file with a right last line whatever the lines before are.
static void write_lines(const char *path, const char *head, int n, const char *lines)
{
    char text[8192];
    int at = snprintf(text, sizeof text, "%s\n%s", head, lines);
    at += snprintf(text + at, sizeof text - (size_t)at, "end %d %016" PRIx64 "\n", n, fnv(text, (size_t)at));
    write_file(path, text, (size_t)at);
}

static void foreign(void **state)
{
    static const char format[] = "usplit convolutions 1\n"
                                 "A device, sm_90, 132 multiprocessors, driver 13000, cuDNN 9.19.0";
    static const char good[] = "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 3 1 41 -5\n";
    static const struct {
        const char *head, *lines;
        int n, taken;
    } cases[] = {
        {format, good, 1, 1},               // so that the others are refused for what they say
        {format, "", 0, 0},
        {"usplit convolutions 2\nA device, sm_90, 132 multiprocessors, driver 13000, cuDNN 9.19.0", good, 1, 0},
        {"usplit convolutions 1\nA device, sm_90, 132 multiprocessors, driver 13000, cuDNN 9.18.0", good, 1, 0},
        {"something else", good, 1, 0},
        {format, good, 2, 0},
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 3 1 41 -5\n\n", 1, 0},
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 3 0 0 cudnn 3 1 41 -5\n", 1, 0},         // direction
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 2 0 cudnn 3 1 41 -5\n", 1, 0},         // deterministic
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 4 1 41 -5\n", 1, 0},         // a word too few
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 2 1 41 -5\n", 1, 0},         // one too many
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 41 1\n", 1, 0},              // more than there is room for
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 1 99999999999999999999\n", 1, 0},
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 1 +5\n", 1, 0},
        {format, "99999999999 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 cudnn 0\n", 1, 0},
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0 averyverylongname 0\n", 1, 0},
        {format, "32 64 64 3 1 0 8 8 8 8 1 1 1 0 0 0  0\n", 1, 0},
        {format, "32 64 64\n", 1, 0},
    };
    size_t size;
    char path[256];
    (void)state;
    free(written(1, &size, path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_lines(path, cases[i].head, cases[i].n, cases[i].lines);
        if (read_count() != cases[i].taken) {
            fail_msg("case %zu: %d choices", i, read_count());
        }
    }
    write_file(path, "", 0);
    assert_int_equal(read_count(), 0);
    char *large = calloc(1, 5 << 20);
    assert_non_null(large);
    write_file(path, large, 5 << 20);
    assert_int_equal(read_count(), 0);
    free(large);
    us_cu_choices *other;               // another machine has a file of its own
    assert_int_equal(us_cu_choices_open(&other, NULL, folder, "Another device"), USPLIT_OK);
    assert_string_not_equal(us_cu_choices_file(other), path);
    us_cu_choices_free(other);
    empty_folder();
}

// Both began with the same file.
static void two_processes(void **state)
{
    (void)state;
    us_cu_choices *a = open_choices(NULL), *b = open_choices(NULL);
    put(a, 1);
    put(a, 2);
    put(b, 2);
    put(b, 3);
    assert_int_equal(us_cu_choices_save(a), USPLIT_OK);
    assert_int_equal(us_cu_choices_save(b), USPLIT_OK);
    us_cu_choices_free(a);
    us_cu_choices_free(b);
    a = open_choices(NULL);
    assert_int_equal(us_cu_choices_count(a), 3);
    assert_true(has(a, 1) && has(a, 2) && has(a, 3));
    us_cu_choices_free(a);
    assert_int_equal(empty_folder(), 1);
}

static void cannot_be_written(void **state)
{
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    put(c, 1);
    assert_int_equal(mkdir(us_cu_choices_file(c), 0777), 0);        // in its place
    assert_int_equal(us_cu_choices_save(c), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), us_cu_choices_file(c)));
    assert_int_equal(empty_folder(), 1);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(us_cu_choices_save(c), USPLIT_ERR_FILE);
    assert_true(has(c, 1));
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);             // what was not written is not forgotten
    us_cu_choices_free(c);
    assert_int_equal(read_count(), 1);
    assert_int_equal(empty_folder(), 1);
}

typedef struct meter {
    int left, live;
} meter;

static void *counted_alloc(size_t bytes, void *user)
{
    meter *m = user;
    if (m->left-- <= 0) {
        return NULL;
    }
    m->live++;
    return malloc(bytes);
}

static void counted_release(void *block, void *user)
{
    meter *m = user;
    m->live -= block != NULL;
    free(block);
}

// The n-th allocation fails, for every n.
static void memory_runs_out(void **state)
{
    size_t size;
    char path[256];
    (void)state;
    free(written(3, &size, path));
    for (int n = 0;; n++) {
        meter m = {.left = n};
        us_allocator a = {counted_alloc, counted_release, &m};
        us_cu_choices *c;
        us_cu_choice one = choice(20);
        usplit_status status = us_cu_choices_open(&c, &a, folder, machine);
        status = status == USPLIT_OK ? us_cu_choices_put(c, &one) : status;
        status = status == USPLIT_OK ? us_cu_choices_save(c) : status;
        us_cu_choices_free(c);
        assert_int_equal(m.live, 0);
        assert_true(status == USPLIT_OK || status == USPLIT_ERR_MEMORY);
        assert_true(read_count() >= 3);         // the file is whole whatever happened
        if (status == USPLIT_OK && m.left >= 0) {
            assert_true(n > 3);
            break;
        }
    }
    assert_int_equal(read_count(), 4);
    assert_int_equal(empty_folder(), 1);
}

typedef struct worker {
    pthread_t id;
    us_cu_choices *choices;
    int first, added;
} worker;

static void *add_some(void *user)
{
    worker *w = user;
    for (int k = 0; k < 200; k++) {
        us_cu_choice one = choice(w->first + k);
        us_cu_choices_lock(w->choices);
        if (!us_cu_choices_find(w->choices, &one)) {
            w->added += us_cu_choices_put(w->choices, &one) == USPLIT_OK;
        }
        us_cu_choices_unlock(w->choices);
    }
    return NULL;
}

static void threads_share(void **state)
{
    worker w[4];
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    for (int i = 0; i < 4; i++) {
        w[i] = (worker){.choices = c, .first = 100 * (i / 2)};
        assert_int_equal(pthread_create(&w[i].id, NULL, add_some, &w[i]), 0);
    }
    int added = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(w[i].id, NULL);
        added += w[i].added;
    }
    assert_int_equal(added, 300);
    assert_int_equal(us_cu_choices_count(c), 300);
    us_cu_choices_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),        cmocka_unit_test(without_a_folder),  cmocka_unit_test(damaged),
        cmocka_unit_test(foreign),           cmocka_unit_test(two_processes),     cmocka_unit_test(cannot_be_written),
        cmocka_unit_test(memory_runs_out),   cmocka_unit_test(threads_share),
    };
    return cmocka_run_group_tests_name("cuda_choices", tests, make_folder, drop_folder);
}
