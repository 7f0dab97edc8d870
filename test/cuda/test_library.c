// cuda/conv_library.c with two libraries made up here, whose ways are our plain kernels run once or several times over,
// on the emulated device: which way is taken, by its order or by its time; what is done where ways fail; that the
// results are those of the way taken; that engines, executables and tilers of a context share what was chosen, and
// processes do through a file.
#include "property/tiler_case.h"

#include <unistd.h>

#include "cuda/emulated.h"
#include "emulate.h"
#include "exec.h"
#include "ways.h"

// ---- The libraries ----------------------------------------------------------------------------------------

typedef struct offered {
    int cost;                   // how many times the kernel runs
    int fails_at;               // this run and those after it fail; 0: none
    int adds_bias;
    int64_t workspace;
} offered;

typedef struct made_up {
    offered ways[8];
    int n;                      // of them
    const char *error;          // of offer
    int offers, agains, opened; // calls so far; opened minus closed
    int forgets;                // again finds nothing
} made_up;

static made_up first, second;
static int live_ways;

typedef struct fake {
    us_cu_way way;
    us_cu_conv *conv;
    offered as;
    us_conv_direction direction;
    int runs;
} fake;

static void release_way(us_cu_way *way)
{
    fake *f = (fake *)way;
    us_cu_conv_plain.release(f->conv);
    free(f);
    live_ways--;
}

static us_cu_way *make_way(const us_cu_library *library, const made_up *from, const us_cu_shape *shape,
                           us_conv_direction direction, int number)
{
    fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->as = from->ways[number];
    f->direction = direction;
    assert_null(us_cu_conv_plain.compile(&f->conv, NULL, shape, direction));
    f->way.library = library;
    f->way.adds_bias = direction == US_CU_FORWARD && f->as.adds_bias;
    f->way.workspace = us_cu_conv_plain.workspace(f->conv) + f->as.workspace;
    f->way.recipe.n = 1;
    f->way.recipe.words[0] = number;
    snprintf(f->way.recipe.library, sizeof f->way.recipe.library, "%s", library->name);
    snprintf(f->way.note, sizeof f->way.note, "%s %d", library->name, number);
    live_ways++;
    return &f->way;
}

static const char *run_fake(us_cu_way *way, us_stream *queue, const us_cu_arguments *args)
{
    fake *f = (fake *)way;
    const char *text = NULL;
    if (f->as.fails_at && ++f->runs >= f->as.fails_at) {
        return "made up to fail";
    }
    for (int i = 0; i < f->as.cost && !text; i++) {
        text = us_cu_conv_plain.run(f->conv, queue, args->a, args->b, way->adds_bias ? args->bias : NULL, args->out,
                                    args->workspace);
    }
    return text;
}

static void close_fake(void *library)
{
    ((made_up *)library)->opened--;
}

static void describe_fake(char *text, size_t size)
{
    snprintf(text, size, "made up 1.0");
}

extern const us_cu_library fake_first, fake_second;

static const char *open_first(void **out, int deterministic)
{
    (void)deterministic;
    first.opened++;
    *out = &first;
    return NULL;
}

static const char *open_second(void **out, int deterministic)
{
    (void)deterministic;
    second.opened++;
    *out = &second;
    return NULL;
}

static const char *offer_fake(void *of, const us_cu_shape *shape, us_conv_direction direction, int most,
                              us_cu_taker *taker)
{
    made_up *m = of;
    int done = 0;
    m->offers++;
    for (int i = 0; i < m->n && i < most && !done; i++) {
        const us_cu_library *library = m == &first ? &fake_first : &fake_second;
        const char *text = taker->take(taker, make_way(library, m, shape, direction, i), &done);
        if (text) {
            return text;
        }
    }
    return m->error;
}

static const char *again_fake(void *of, const us_cu_shape *shape, us_conv_direction direction,
                              const us_cu_recipe *recipe, us_cu_way **out)
{
    made_up *m = of;
    m->agains++;
    *out = NULL;
    if (recipe->n == 1 && recipe->words[0] >= 0 && recipe->words[0] < m->n && !m->forgets) {
        *out = make_way(m == &first ? &fake_first : &fake_second, m, shape, direction, (int)recipe->words[0]);
    }
    return NULL;
}

const us_cu_library fake_first = {"first", open_first, close_fake, describe_fake, offer_fake, again_fake, run_fake,
                                  release_way};
const us_cu_library fake_second = {"second", open_second, close_fake, describe_fake, offer_fake, again_fake, run_fake,
                                   release_way};
const us_cu_library *const us_cu_libraries[] = {&fake_first, &fake_second, NULL};

// ---- Engines ----------------------------------------------------------------------------------------------

static const us_cu_shape shape = {.batch = 2, .ci = 8, .co = 16, .k = 3, .stride = 1, .in_h = 9, .in_w = 9,
                                  .out_h = 9, .out_w = 9, .top = 1, .left = 1};
static us_stream *queue;

static us_cu_engine *open_engine(int search, us_cu_choices *choices)
{
    us_cu_conv_options o = {.search = search, .choices = choices};
    us_cu_engine *e;
    assert_null(us_cu_conv_library.open(&e, queue, &o));
    return e;
}

// Which way a new engine takes for the shape.
static void expect(int search, us_cu_choices *choices, us_conv_direction direction, const char *note)
{
    us_cu_engine *e = open_engine(search, choices);
    us_cu_conv *conv;
    assert_null(us_cu_conv_library.compile(&conv, e, &shape, direction));
    assert_string_equal(us_cu_conv_library.note(conv), note);
    us_cu_conv_library.release(conv);
    us_cu_conv_library.close(e);
}

static int begin(void **state)
{
    (void)state;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    return us_stream_create(&queue) ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    us_stream_free(queue);
    us_emulate_memory((int64_t)16 << 30);
    return live_ways || first.opened || second.opened || us_emulate_leaks() ? -1 : 0;
}

static void takes_the_first_that_runs(void **state)
{
    (void)state;
    first = (made_up){.n = 3, .ways = {{.cost = 1, .fails_at = 1}, {.cost = 9}, {.cost = 1}}};
    second = (made_up){.n = 1, .ways = {{.cost = 1}}};
    for (int d = 0; d < 3; d++) {
        expect(0, NULL, (us_conv_direction)d, "first 1");
    }
    assert_int_equal(second.offers, 0);
    first.n = 1;
    expect(0, NULL, US_CU_BACK, "second 0");
    second.n = 0;
    expect(0, NULL, US_CU_BACK, "plain");
    expect(1, NULL, US_CU_BACK, "plain");
}

// Costs are far enough apart for a busy machine.
static void takes_the_fastest(void **state)
{
    (void)state;
    first = (made_up){.n = 3, .ways = {{.cost = 12}, {.cost = 1, .fails_at = 1}, {.cost = 6}}};
    second = (made_up){.n = 3, .ways = {{.cost = 12}, {.cost = 1}, {.cost = 1, .fails_at = 2}}};
    for (int d = 0; d < 3; d++) {
        expect(1, NULL, (us_conv_direction)d, "second 1");
    }
    second.n = 1;
    expect(1, NULL, US_CU_FORWARD, "first 2");
}

static void errors_are_told(void **state)
{
    us_cu_conv *conv;
    (void)state;
    first = (made_up){.n = 1, .ways = {{.cost = 1}}, .error = "the device fell over"};
    us_cu_engine *e = open_engine(1, NULL);
    const char *text = us_cu_conv_library.compile(&conv, e, &shape, US_CU_FORWARD);
    assert_string_equal(text, "the device fell over");
    assert_null(conv);
    us_cu_conv_library.close(e);
    char words[64];
    us_cu_conv_library.describe(words, sizeof words);
    assert_string_equal(words, "made up 1.0, made up 1.0");
}

// Both kinds of bias and a workspace, against the plain kernels.
static void results_are_the_way_s(void **state)
{
    enum { IN = 2 * 81 * 8, OUT = 2 * 81 * 16, WEIGHTS = 9 * 8 * 16 };
    (void)state;
    for (int adds = 0; adds < 2; adds++) {
        first = (made_up){.n = 1, .ways = {{.cost = 2, .adds_bias = adds, .workspace = 1000}}};
        us_cu_engine *e = open_engine(adds, NULL);
        for (int d = 0; d < 3; d++) {
            static float a[OUT], b[OUT], bias[16], got[OUT], want[OUT];
            void *p[4], *room;
            int64_t n = d == 0 ? OUT : d == 1 ? IN : WEIGHTS;
            us_cu_conv *conv, *plain;
            const float *up[4] = {a, b, bias, got};
            for (int i = 0; i < OUT; i++) {
                a[i] = (float)(i % 13) - 6, b[i] = (float)(i % 7) - 3, got[i] = NAN;
            }
            for (int i = 0; i < 16; i++) {
                bias[i] = (float)i / 4;
            }
            for (int i = 0; i < 4; i++) {
                int64_t bytes = i == 2 ? (int64_t)sizeof bias : (int64_t)sizeof a;
                assert_null(us_device_alloc(&p[i], bytes));
                assert_null(us_copy_up(queue, p[i], up[i], bytes));
            }
            assert_null(us_cu_conv_library.compile(&conv, e, &shape, (us_conv_direction)d));
            assert_null(us_cu_conv_plain.compile(&plain, NULL, &shape, (us_conv_direction)d));
            assert_int_equal(us_cu_conv_library.workspace(conv), us_cu_conv_plain.workspace(plain) + 1000);
            assert_null(us_device_alloc(&room, us_cu_conv_library.workspace(conv)));
            const void *add = d == 0 ? p[2] : NULL;
            assert_null(us_cu_conv_library.run(conv, queue, p[0], p[1], add, p[3], room));
            assert_null(us_copy_down(queue, got, p[3], n * 4));
            assert_null(us_cu_conv_plain.run(plain, queue, p[0], p[1], add, p[3], room));
            assert_null(us_copy_down(queue, want, p[3], n * 4));
            assert_null(us_stream_wait(queue));
            for (int64_t i = 0; i < n; i++) {       // small integers and quarters: exact in any order
                assert_true(got[i] == want[i]);
            }
            if (d == 0) {
                assert_non_null(us_cu_conv_library.run(conv, queue, p[0], p[1], NULL, p[3], room));
            }
            us_cu_conv_library.release(conv);
            us_cu_conv_plain.release(plain);
            us_device_free(room);
            for (int i = 0; i < 4; i++) {
                us_device_free(p[i]);
            }
        }
        us_cu_conv_library.close(e);
    }
}

// ---- Choices ----------------------------------------------------------------------------------------------

static us_cu_choices *open_choices(const char *folder)
{
    us_cu_choices *c;
    assert_int_equal(us_cu_choices_open(&c, NULL, folder, "made up device"), USPLIT_OK);
    return c;
}

static void engines_share(void **state)
{
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    first = (made_up){.n = 2, .ways = {{.cost = 9}, {.cost = 1}}};
    expect(1, c, US_CU_FORWARD, "first 1");
    assert_int_equal(first.offers, 1);
    expect(1, c, US_CU_FORWARD, "first 1");
    assert_int_equal(first.offers, 1);
    assert_int_equal(first.agains, 1);
    expect(0, c, US_CU_FORWARD, "first 0");         // what is timed is another choice than what is first
    expect(1, c, US_CU_BACK, "first 1");
    assert_int_equal(first.offers, 3);
    assert_int_equal(us_cu_choices_count(c), 3);
    us_cu_choices_free(c);
}

static void plain_is_a_choice(void **state)
{
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    expect(0, c, US_CU_WEIGHT, "plain");
    expect(0, c, US_CU_WEIGHT, "plain");
    assert_int_equal(first.offers, 1);
    us_cu_choices_free(c);
}

static void what_does_not_work_any_more_is_chosen_anew(void **state)
{
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    first = (made_up){.n = 2, .ways = {{.cost = 1}, {.cost = 1}}};
    expect(0, c, US_CU_FORWARD, "first 0");
    first.forgets = 1;
    first.ways[0].fails_at = 1;
    expect(0, c, US_CU_FORWARD, "first 1");
    first.forgets = 0;
    expect(0, c, US_CU_FORWARD, "first 1");         // the new one is what is kept
    assert_int_equal(first.offers, 2);
    us_cu_choices_free(c);
}

static void processes_share(void **state)
{
    char folder[] = "/tmp/usplit-library-XXXXXX", file[256];
    (void)state;
    assert_non_null(mkdtemp(folder));
    us_cu_choices *c = open_choices(folder);
    first = (made_up){.n = 3, .ways = {{.cost = 9}, {.cost = 1}, {.cost = 9}}};
    expect(1, c, US_CU_FORWARD, "first 1");
    assert_int_equal(us_cu_choices_save(c), USPLIT_OK);
    us_cu_choices_free(c);
    c = open_choices(folder);                       // the next process
    expect(1, c, US_CU_FORWARD, "first 1");
    assert_int_equal(first.offers, 1);
    us_cu_choices_free(c);
    c = open_choices(folder);
    first.ways[1].fails_at = 1;                     // a file that holds what does not run: found out at the first trial
    first.ways[2].cost = 1;
    expect(1, c, US_CU_FORWARD, "first 2");
    snprintf(file, sizeof file, "%s", us_cu_choices_file(c));
    us_cu_choices_free(c);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void without_memory_nothing_is_tried_or_kept(void **state)
{
    (void)state;
    us_cu_choices *c = open_choices(NULL);
    first = (made_up){.n = 2, .ways = {{.cost = 9}, {.cost = 1}}};
    us_emulate_memory(us_emulate_leaks() + 256);
    expect(1, c, US_CU_FORWARD, "first 0");
    assert_int_equal(us_cu_choices_count(c), 0);
    us_emulate_memory((int64_t)16 << 30);
    expect(1, c, US_CU_FORWARD, "first 1");
    first.ways[1].workspace = (int64_t)8 << 30;     // a workspace that is not to be had is a way that does not run
    us_emulate_memory((int64_t)1 << 30);
    expect(1, NULL, US_CU_FORWARD, "first 0");
    us_cu_choices_free(c);
}

// ---- Executables and tilers ---------------------------------------------------------------------------------

static int offers(void)
{
    return first.offers + second.offers;
}

// Two tilers and two trainings of one context, with two pipes each where there are two threads: what the second of
// each needs is all there.
static void executables_share(void **state)
{
    static us_cuda device;
    usplit_context *c = make_context(2);
    us_plan *plan;
    us_exec *exec;
    (void)state;
    emulated_take(c, 0);
    device = *(us_cuda *)c->device;
    device.convs = &us_cu_conv_library;
    device.choices = open_choices(NULL);
    c->device = &device;
    first = (made_up){.n = 1, .ways = {{.cost = 1}}};
    us_context_retain(c);
    usplit_model *m = make_model(c, USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
    usplit_tiler_options o = make_options(0, -1, USPLIT_COVER_ALL);
    usplit_tiler *a = make_tiler(m, &o);
    int after_one = offers(), kept = us_cu_choices_count(device.choices);
    assert_true(after_one > 0);
    assert_int_equal(after_one, kept);              // one offer per choice, though there are two pipes
    usplit_tiler *b = make_tiler(m, &o);
    assert_int_equal(offers(), after_one);
    us_plan_options po = {.mode = US_PLAN_TRAIN, .layout = US_LAYOUT_BATCH, .batch = 2, .kl_weight = 1};
    assert_ok(us_plan_build(&plan, NULL, m->graph, &po));
    for (int i = 0; i < 2; i++) {
        assert_ok(us_backend_cuda.compile(&exec, c, plan, 1));
        us_backend_cuda.release(exec);
        if (i == 0) {
            assert_true(offers() > after_one);
            after_one = offers();
        }
    }
    assert_int_equal(offers(), after_one);
    assert_int_equal(us_cu_choices_count(device.choices), after_one);
    float *pixels = random_pixels(32 * 32), *out;
    usplit_tiler_result r = {.struct_size = sizeof r};
    out = run_planes(b, pixels, 1, 32, 32, &r);
    assert_int_equal(offers(), after_one);
    free(out);
    free(pixels);
    us_plan_free(plan);
    usplit_tiler_free(a);
    usplit_tiler_free(b);
    us_model_release(m);
    us_context_release(c);
    us_cu_choices_free(device.choices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_the_first_that_runs, begin, end),
        cmocka_unit_test_setup_teardown(takes_the_fastest, begin, end),
        cmocka_unit_test_setup_teardown(errors_are_told, begin, end),
        cmocka_unit_test_setup_teardown(results_are_the_way_s, begin, end),
        cmocka_unit_test_setup_teardown(engines_share, begin, end),
        cmocka_unit_test_setup_teardown(plain_is_a_choice, begin, end),
        cmocka_unit_test_setup_teardown(what_does_not_work_any_more_is_chosen_anew, begin, end),
        cmocka_unit_test_setup_teardown(processes_share, begin, end),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_tried_or_kept, begin, end),
        cmocka_unit_test_setup_teardown(executables_share, begin, end),
    };
    return cmocka_run_group_tests_name("cuda_library", tests, NULL, NULL);
}
