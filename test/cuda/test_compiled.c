// Programs that are compiled at run time (source.h, compiled.h): random ones against the CPU and, under emulation, to
// the bit against the interpreter; a network that trains with them. Under emulation the host's compiler makes the
// kernels, on a GPU NVRTC.
#include "host_kernels.h"
#include "map_run.h"
#include "source.h"

enum { ROUNDS = 60, MOST_TEXT = 1 << 16 };

static const us_cu_kernel_table *table;
static us_cu_kernels *kernels;
static us_pool *pool;

// The program of a case as a kernel has it, with its text.
static us_cu_program chained(const map_case *m, us_cu_op ops[MOST_OPS], char **text)
{
    us_cu_program p = m->shape;
    memcpy(ops, m->ops, sizeof *ops * MOST_OPS);
    us_cu_map_chain(ops, p.n_ops);
    p.compiled = 1;
    number_rows(ops, &p, 0);
    *text = room(MOST_TEXT);
    assert_true(us_cu_source(*text, MOST_TEXT, &p, ops, m->half) < MOST_TEXT);
    return p;
}

static void choose(const map_case *m, us_cu_program *p)
{
    if (below(2)) {
        us_cu_map_shape(p, m->batch, 1 + below(8), 65536);
    } else {
        p->threads = 32 * (1 + below(3));
        p->blocks = 1 + below(12);
    }
}

static void check_case(const map_case *m, const us_cu_program *compiled, const us_cu_op *ops,
                       const us_cu_kernel *kernel)
{
    us_cu_program p = *compiled, interpreted = m->shape;
    const map_kernel k = {table, kernel};
    size_t arena = (size_t)(m->batch * m->sample_floats) * sizeof(float);
    float *want = room(arena);
    double *sums = room((size_t)(m->batch * m->n_sums) * sizeof *sums);
    map_run runs[2];
    choose(m, &p);
    interpreted.threads = p.threads, interpreted.blocks = p.blocks;
    memcpy(want, m->arena, arena);
    run_cpu(m, want, sums);
    for (int i = 0; i < 2; i++) {
        runs[i] = run_begin(m, 1, 1);
        runs[i].grads[0] = 0;
    }
    run_on(m, &p, ops, NULL, &k, &runs[0]);
    compare_arena(m, want, runs[0].arena);
    compare_sums(m, sums, runs[0].sums);
    if (SAME_BITS && us_cu_map_room(&interpreted) <= 65536) {
        run_device(m, &interpreted, m->ops, NULL, &runs[1]);
        same_bits(m, &runs[0], &runs[1]);
    }
    run_free(&runs[0]);
    run_free(&runs[1]);
    free(sums);
    free(want);
}

static void test_random_programs(void **state)
{
    static char *texts[ROUNDS];
    static us_cu_kernel *made[ROUNDS];
    us_cu_op ops[MOST_OPS];
    int compared = 0;
    (void)state;
    for (int half = 0; half < 2; half++) {          // a compiler is for one kind of tensor
        us_device_facts facts;
        ok(us_device_facts_get(0, &facts));
        ok(table->open(&kernels, NULL, &facts, half));
        for (int round = 0; round < ROUNDS; round++) {
            begin_round(round);
            map_case *m = random_case(round);
            chained(m, ops, &texts[round]);
            if (m->half != half || m->shape.n_ops > US_CU_MOST_COMPILED) {
                free(texts[round]);
                texts[round] = NULL;
            }
            case_free(m);
        }
        ok(table->compile(kernels, pool, ROUNDS, (const char *const *)texts, made));
        for (int round = 0; round < ROUNDS; round++) {
            begin_round(round);
            map_case *m = random_case(round);
            char *text;
            us_cu_program p = chained(m, ops, &text);
            if (texts[round]) {
                assert_non_null(made[round]);
                assert_string_equal(text, texts[round]);
                check_case(m, &p, ops, made[round]);
                compared++;
            }
            free(text);
            free(texts[round]);
            texts[round] = NULL;
            case_free(m);
        }
        table->close(kernels);
    }
    assert_true(compared > ROUNDS * 3 / 4);
}

// Places and sizes of tensors are no part of a text; what an op does is.
static void test_texts(void **state)
{
    us_cu_op a[3] = {{.code = US_U_LOAD, .dst = -1, .t_c = 8, .t_h = 4, .t_w = 5, .at = 640, .stride = 160},
                     {.code = US_U_ELU, .dst = -1, .in = {US_CU_LAST}},
                     {.code = US_U_STORE, .dst = -1, .in = {US_CU_LAST}, .t_c = 8, .t_h = 4, .t_w = 5}};
    us_cu_program p = {.h = 4, .w = 5, .c = 8, .lanes = 8, .n_ops = 3, .compiled = 1}, q = p;
    static char first[MOST_TEXT], second[MOST_TEXT];
    (void)state;
    size_t n = us_cu_source(first, sizeof first, &p, a, 1);
    assert_int_equal(n, strlen(first));
    a[0].at = 0, a[0].t_h = a[2].t_h = q.h = 9, a[0].t_c = 24, a[0].c0 = 16;
    us_cu_source(second, sizeof second, &q, a, 1);
    assert_string_equal(first, second);
    a[0].oy = 1;                                    // a window, which may lie outside
    us_cu_source(second, sizeof second, &q, a, 1);
    assert_string_not_equal(first, second);
    a[0].oy = 0, a[1].code = US_U_SIGMOID;
    us_cu_source(second, sizeof second, &q, a, 1);
    assert_string_not_equal(first, second);
    us_cu_source(second, sizeof second, &p, a, 0);
    assert_string_not_equal(first, second);
    assert_int_equal(us_cu_source(NULL, 0, &p, a, 1), us_cu_source(second, sizeof second, &p, a, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts),
                                       cmocka_unit_test_setup_teardown(test_random_programs, set_up, tear_down)};
#ifdef US_EMULATE
    table = &host_kernels;
#else
    table = &us_cu_kernels_nvrtc;
#endif
    if (us_pool_create(&pool, NULL, 2, NULL) != USPLIT_OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    us_pool_free(pool);
    return failed;
}
