// src/base: allocation, growth rules of public structs, the thread pool, messages; and the known answers
// of the random generator (Random123 1.14, tests/kat_vectors: philox4x32 10).
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "base/status.h"
#include "base/structs.h"
#include "kernels/philox.h"

// ---- Allocation --------------------------------------------------------------------------------------

typedef struct counting {
    int n_calls, n_live, fail_at; // fail_at counts from 1; 0: never
} counting;

static void *counting_alloc(size_t bytes, void *user)
{
    counting *c = user;
    c->n_calls++;
    if (c->n_calls == c->fail_at) {
        return NULL;
    }
    c->n_live++;
    return malloc(bytes);
}

static void counting_release(void *block, void *user)
{
    counting *c = user;
    c->n_live--;
    free(block);
}

static void alloc_aligns_and_counts(void **state)
{
    (void)state;
    size_t live = us_alloc_live(), count = us_alloc_count();
    for (size_t n = 0; n < 200; n += 7) {
        unsigned char *block = us_alloc(NULL, n, 1);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, 0xab, n);
        assert_int_equal(us_alloc_live(), live + n);
        us_free(NULL, block);
    }
    assert_int_equal(us_alloc_live(), live);
    assert_int_equal(us_alloc_count(), count + 29);
    us_free(NULL, NULL);
}

static void alloc_refuses_overflow(void **state)
{
    (void)state;
    assert_null(us_alloc(NULL, SIZE_MAX, 2));
    assert_non_null(strstr(usplit_error_message(), "overflow"));
    assert_null(us_alloc(NULL, SIZE_MAX / 2 + 1, 2));
    assert_null(us_alloc(NULL, SIZE_MAX - 8, 1));
    assert_null(us_calloc(NULL, SIZE_MAX / 4, 8));
}

static void alloc_uses_the_callers_functions(void **state)
{
    (void)state;
    counting c = {0, 0, 3};
    us_allocator a = {counting_alloc, counting_release, &c};
    int *zeros = us_calloc(&a, 10, sizeof *zeros);
    char *text = us_strdup(&a, "tile");
    assert_non_null(zeros);
    assert_string_equal(text, "tile");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(zeros[i], 0);
    }
    assert_null(us_alloc(&a, 1000, 1));
    assert_string_equal(usplit_error_message(), "out of memory: 1000 bytes were refused");
    us_free(&a, zeros);
    us_free(&a, text);
    assert_int_equal(c.n_live, 0);
    assert_int_equal(c.n_calls, 3);
}

// ---- Messages ----------------------------------------------------------------------------------------

static void message_is_one_line_and_bounded(void **state)
{
    (void)state;
    char longest[2000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(us_fail(USPLIT_ERR_FILE, "first\nsecond\r%s", longest), USPLIT_ERR_FILE);
    assert_null(strpbrk(usplit_error_message(), "\r\n"));
    assert_true(strlen(usplit_error_message()) < 1000);
    assert_string_equal(usplit_status_name(USPLIT_ERR_FORMAT), "bad file");
    assert_string_equal(usplit_status_name(12345), "unknown status");
}

// ---- Public structs ----------------------------------------------------------------------------------

typedef struct old_options {
    size_t struct_size;
    int32_t a, b;
} old_options;

typedef struct new_options {
    size_t struct_size;
    int32_t a, b;
    double c;
} new_options;

static void structs_init_writes_what_both_know(void **state)
{
    (void)state;
    old_options old = {0, -1, -1}, old_defaults = {0, 1, 2};
    new_options young = {0, -1, -1, -1.0}, young_defaults = {0, 1, 2, 3.0};
    assert_int_equal(us_struct_init(&old, sizeof old, &young_defaults, sizeof young_defaults), USPLIT_OK);
    assert_int_equal(old.struct_size, sizeof old);
    assert_int_equal(old.a, 1);
    assert_int_equal(old.b, 2);
    assert_int_equal(us_struct_init(&young, sizeof young, &old_defaults, sizeof old_defaults), USPLIT_OK);
    assert_int_equal(young.struct_size, sizeof young);
    assert_int_equal(young.b, 2);
    assert_true(young.c == 0.0);
    assert_int_equal(us_struct_init(NULL, sizeof young, &young_defaults, sizeof young), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_struct_init(&young, 4, &young_defaults, sizeof young), USPLIT_ERR_ARGUMENT);
}

static void structs_read_takes_old_and_new_callers(void **state)
{
    (void)state;
    old_options old = {sizeof old, 7, 8}, old_ours = {0, 1, 2};
    new_options ours = {0, 1, 2, 3.0}, young = {sizeof young, 7, 8, 0.0};
    assert_int_equal(us_struct_read(&ours, sizeof ours, &old, "options"), USPLIT_OK);
    assert_int_equal(ours.struct_size, sizeof ours);
    assert_int_equal(ours.a, 7);
    assert_true(ours.c == 3.0);
    assert_int_equal(us_struct_read(&old_ours, sizeof old_ours, &young, "options"), USPLIT_OK);
    assert_int_equal(old_ours.b, 8);
    young.c = 1.0;
    assert_int_equal(us_struct_read(&old_ours, sizeof old_ours, &young, "options"), USPLIT_ERR_UNSUPPORTED);
    assert_int_equal(us_struct_read(&ours, sizeof ours, NULL, "options"), USPLIT_OK);
    young.struct_size = 0;
    assert_int_equal(us_struct_read(&ours, sizeof ours, &young, "options"), USPLIT_ERR_ARGUMENT);
    young.struct_size = SIZE_MAX;
    assert_int_equal(us_struct_read(&ours, sizeof ours, &young, "options"), USPLIT_ERR_ARGUMENT);
}

static void structs_write_keeps_the_callers_size(void **state)
{
    (void)state;
    new_options ours = {999, 5, 6, 7.0};
    struct {
        old_options facts;
        uint64_t guard;
    } small = {{sizeof(old_options), 0, 0}, 0x1122334455667788u};
    assert_int_equal(us_struct_write(&small.facts, &ours, sizeof ours, "facts"), USPLIT_OK);
    assert_int_equal(small.facts.struct_size, sizeof(old_options));
    assert_int_equal(small.facts.a, 5);
    assert_true(small.guard == 0x1122334455667788u);
    assert_int_equal(us_struct_write(NULL, &ours, sizeof ours, "facts"), USPLIT_ERR_ARGUMENT);
    small.facts.struct_size = 1;
    assert_int_equal(us_struct_write(&small.facts, &ours, sizeof ours, "facts"), USPLIT_ERR_ARGUMENT);
}

// ---- Pool --------------------------------------------------------------------------------------------

enum { MAX_TASKS = 1000 };

typedef struct job {
    us_pool *pool;
    atomic_int done[MAX_TASKS];
    atomic_int n_bad;
    int fail_from; // tasks from here on fail; negative: none
} job;

static usplit_status count_task(void *user, int task, int worker)
{
    job *j = user;
    if (worker < 0 || worker >= us_pool_size(j->pool)) {
        atomic_fetch_add(&j->n_bad, 1);
    }
    atomic_fetch_add(&j->done[task], 1);
    if (j->fail_from >= 0 && task >= j->fail_from) {
        return us_fail(USPLIT_ERR_NUMERIC, "task %d", task);
    }
    return USPLIT_OK;
}

static void pool_runs_every_task_once(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
        us_pool *pool;
        assert_int_equal(us_pool_create(&pool, NULL, n_threads, NULL), USPLIT_OK);
        assert_int_equal(us_pool_size(pool), n_threads);
        for (int round = 0; round < 60; round++) {
            int n = round < 3 ? round : round * 16;
            static job j;
            memset(&j, 0, sizeof j);
            j.pool = pool;
            j.fail_from = -1;
            assert_int_equal(us_pool_run(pool, n, count_task, &j), USPLIT_OK);
            for (int i = 0; i < MAX_TASKS; i++) {
                assert_int_equal(j.done[i], i < n);
            }
            assert_int_equal(j.n_bad, 0);
        }
        us_pool_free(pool);
    }
}

static void pool_reports_a_failure_to_the_caller(void **state)
{
    (void)state;
    us_pool *pool;
    assert_int_equal(us_pool_create(&pool, NULL, 4, NULL), USPLIT_OK);
    for (int round = 0; round < 50; round++) {
        static job j;
        memset(&j, 0, sizeof j);
        j.pool = pool;
        j.fail_from = 37;
        us_message_set("");
        assert_int_equal(us_pool_run(pool, 500, count_task, &j), USPLIT_ERR_NUMERIC);
        int lowest = -1, n_failed = 0;
        for (int i = 499; i >= 0; i--) {
            assert_true(j.done[i] <= 1);
            if (i >= 37 && j.done[i]) {
                lowest = i;
                n_failed++;
            }
        }
        assert_true(n_failed >= 1 && n_failed <= 4); // one per thread, then no more are started
        char expected[32];
        snprintf(expected, sizeof expected, "task %d", lowest);
        assert_string_equal(usplit_error_message(), expected);
    }
    us_pool_free(pool);
}

typedef struct nested_job {
    us_pool *pool;
    atomic_int n_done;
} nested_job;

static usplit_status inner_task(void *user, int task, int worker)
{
    nested_job *j = user;
    (void)task, (void)worker;
    atomic_fetch_add(&j->n_done, 1);
    return USPLIT_OK;
}

static usplit_status outer_task(void *user, int task, int worker)
{
    nested_job *j = user;
    (void)task, (void)worker;
    return us_pool_run(j->pool, 10, inner_task, j);
}

static void pool_runs_nested_calls_inline(void **state)
{
    (void)state;
    nested_job j = {0};
    assert_int_equal(us_pool_create(&j.pool, NULL, 3, NULL), USPLIT_OK);
    assert_int_equal(us_pool_run(j.pool, 20, outer_task, &j), USPLIT_OK);
    assert_int_equal(j.n_done, 200);
    us_pool_free(j.pool);
}

static void pool_survives_refused_memory(void **state)
{
    (void)state;
    us_pool *pool = NULL;
    assert_int_equal(us_pool_create(&pool, NULL, 0, NULL), USPLIT_ERR_ARGUMENT);
    assert_int_equal(us_pool_create(&pool, NULL, 100000, NULL), USPLIT_ERR_ARGUMENT);
    for (int k = 1;; k++) {
        counting c = {0, 0, k};
        us_allocator a = {counting_alloc, counting_release, &c};
        usplit_status status = us_pool_create(&pool, &a, 2, NULL);
        if (status == USPLIT_OK) {
            assert_true(k > 1);
            us_pool_free(pool);
            assert_int_equal(c.n_live, 0);
            break;
        }
        assert_int_equal(status, USPLIT_ERR_MEMORY);
        assert_null(pool);
        assert_int_equal(c.n_live, 0);
    }
    us_pool_free(NULL);
}

// ---- Random numbers ----------------------------------------------------------------------------------

static void philox_gives_the_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t expected[4];
    } known[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         0xffffffffffffffffu,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822u,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const uint32_t *c = known[i].counter;
        us_u32x4 r = us_philox(known[i].key, c[0], c[1], c[2], c[3]);
        assert_memory_equal(r.v, known[i].expected, sizeof r.v);
    }
}

static void uniform_stays_below_one(void **state)
{
    (void)state;
    assert_true(us_uniform53(0, 0) == 0.0);
    assert_true(us_uniform53(UINT32_MAX, UINT32_MAX) < 1.0);
    assert_true(us_uniform24(0) == 0.0f);
    assert_true(us_uniform24(UINT32_MAX) < 1.0f);
    double sum = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        us_u32x4 r = us_philox(1, US_RNG_TILE, i, 0, 0);
        sum += us_uniform53(r.v[0], r.v[1]);
    }
    // The mean of 10000 uniform numbers has deviation 0.0029; the seed is fixed, five of them are allowed.
    assert_true(sum / 10000 > 0.485 && sum / 10000 < 0.515);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc_aligns_and_counts),
        cmocka_unit_test(alloc_refuses_overflow),
        cmocka_unit_test(alloc_uses_the_callers_functions),
        cmocka_unit_test(message_is_one_line_and_bounded),
        cmocka_unit_test(structs_init_writes_what_both_know),
        cmocka_unit_test(structs_read_takes_old_and_new_callers),
        cmocka_unit_test(structs_write_keeps_the_callers_size),
        cmocka_unit_test(pool_runs_every_task_once),
        cmocka_unit_test(pool_reports_a_failure_to_the_caller),
        cmocka_unit_test(pool_runs_nested_calls_inline),
        cmocka_unit_test(pool_survives_refused_memory),
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(uniform_stays_below_one),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
