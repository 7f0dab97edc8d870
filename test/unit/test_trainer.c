// Training: exact resume, bits that do not depend on threads, steady state without allocation, skipped
// batches, limits, cancel, checkpoints, refusals. A tiny network on tiny synthetic frames.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "common/folder.h"
#include "common/must.h"
#include "train/schedule.h"
#include "train/trainer.h"

// test/cuda builds this file once more for the other backend.
#ifndef TEST_BACKEND
#define TEST_BACKEND us_backend_cpu
#define TEST_TAKE_DEVICE(context) ((void)(context))
#define TEST_FILTERS 6
#endif

typedef struct setup {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
    usplit_trainer *trainer;
} setup;

static void make_data(setup *s, int threads)
{
    usplit_context_options co;
    usplit_critter_options cr;
    usplit_dataset_options ds;
    must(usplit_context_options_init(&co, sizeof co));
    co.device = "cpu";          // a device comes in by TEST_TAKE_DEVICE
    co.threads = threads;
    must(usplit_context_create(&s->context, &co));
    TEST_TAKE_DEVICE(s->context);
    must(usplit_critter_options_init(&cr, sizeof cr));
    must(usplit_dataset_options_init(&ds, sizeof ds));
    cr.n_frames = 12;
    cr.size = 64;
    cr.n_curves = 2;
    ds.levels = 3;
    must(usplit_dataset_create_critters(&s->dataset, s->context, &cr, &ds));
}

static usplit_model_options small_model(int family)
{
    usplit_model_options mo;
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.family = family;
    mo.variant = USPLIT_VARIANT_REGULAR;
    mo.levels = 2;
    mo.filters = TEST_FILTERS;
    mo.z_dims[0] = TEST_FILTERS;
    mo.patch = 16;
    return mo;
}

static usplit_trainer_options small_training(void)
{
    usplit_trainer_options to;
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 5;               // does not divide the number of items: the last batch is short
    to.seed = 3;
    to.max_validation_patches = 4;
    to.max_epochs = 3;
    return to;
}

static setup make(int threads, int family, const usplit_trainer_options *to)
{
    setup s = {0};
    usplit_model_options mo = small_model(family);
    make_data(&s, threads);
    must(usplit_model_create(&s.model, s.context, &mo));
    must(usplit_trainer_create(&s.trainer, s.model, s.dataset, to));
    return s;
}

// In an order that no caller would choose: children keep their parents.
static void drop(setup *s)
{
    usplit_context_free(s->context);
    usplit_dataset_free(s->dataset);
    usplit_model_free(s->model);
    usplit_trainer_free(s->trainer);
}

static void same_bits(const usplit_model *a, const usplit_model *b)
{
    assert_memory_equal(a->params, b->params, (size_t)a->graph->n_floats * sizeof(float));
}

static void resume_is_exact(void **state)
{
    (void)state;
    for (int family = 0; family < 2; family++) {
        usplit_trainer_options to = small_training();
        setup whole = make(2, family, &to), half = make(2, family, &to), rest = make(1, family, &to);
        int64_t epoch = us_trainer_steps_per_epoch(whole.trainer), n = epoch / 2 + 1;
        int64_t m = epoch;          // over an epoch's end
        for (int64_t i = 0; i < n + m; i++) {
            must(usplit_trainer_step(whole.trainer));
        }
        for (int64_t i = 0; i < n; i++) {
            must(usplit_trainer_step(half.trainer));
        }
        must(usplit_trainer_save(half.trainer, in_folder("half.h5")));
        must(usplit_trainer_resume(rest.trainer, in_folder("half.h5")));
        for (int64_t i = 0; i < m; i++) {
            must(usplit_trainer_step(rest.trainer));
        }
        same_bits(whole.model, rest.model);
        usplit_trainer_facts a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        must(usplit_trainer_info(whole.trainer, &a));
        must(usplit_trainer_info(rest.trainer, &b));
        assert_true(a.step == n + m && b.step == a.step && a.epoch == 1 && b.epoch == 1);
        assert_memory_equal(&a.loss, &b.loss, sizeof a.loss);
        assert_memory_equal(&a.val_psnr, &b.val_psnr, sizeof a.val_psnr);
        assert_memory_equal(&a.learning_rate, &b.learning_rate, sizeof a.learning_rate);
        assert_true(isfinite(a.loss) && isfinite(a.val_psnr));
        drop(&whole);
        drop(&half);
        drop(&rest);
    }
}

static void threads_do_not_change_bits(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup one = make(1, USPLIT_FAMILY_HVAE, &to);
    for (int i = 0; i < 7; i++) {
        must(usplit_trainer_step(one.trainer));
    }
    for (int threads = 2; threads <= 4; threads += 2) {
        setup many = make(threads, USPLIT_FAMILY_HVAE, &to);
        for (int i = 0; i < 7; i++) {
            must(usplit_trainer_step(many.trainer));
        }
        same_bits(one.model, many.model);
        drop(&many);
    }
    drop(&one);
}

static void seeds_matter(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup a = make(1, USPLIT_FAMILY_HVAE, &to);
    to.seed = 4;
    setup b = make(1, USPLIT_FAMILY_HVAE, &to);
    must(usplit_trainer_step(a.trainer));
    must(usplit_trainer_step(b.trainer));
    assert_memory_not_equal(a.model->params, b.model->params, (size_t)a.model->graph->n_floats * sizeof(float));
    drop(&a);
    drop(&b);
}

static void steady_state_allocates_nothing(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup s = make(2, USPLIT_FAMILY_HVAE, &to);
    must(usplit_trainer_step(s.trainer));
    size_t live = us_alloc_live(), count = us_alloc_count();
    for (int i = 0; i < 3; i++) {
        must(usplit_trainer_step(s.trainer));
    }
    assert_true(us_alloc_live() == live);
    assert_int_equal(us_alloc_count() - count, 0);
    drop(&s);
}

static void training_learns(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    to.learning_rate = 3e-3;
    setup s = make(2, USPLIT_FAMILY_HAE, &to);
    must(usplit_trainer_run(s.trainer, NULL, NULL));
    usplit_trainer_facts f = {.struct_size = sizeof f};
    usplit_trainer_epoch first = {.struct_size = sizeof first}, last = {.struct_size = sizeof last};
    must(usplit_trainer_info(s.trainer, &f));
    assert_int_equal(f.epoch, 3);
    must(usplit_trainer_get_epoch(s.trainer, 0, &first));
    must(usplit_trainer_get_epoch(s.trainer, 2, &last));
    assert_true(last.loss < first.loss);
    assert_int_equal(usplit_trainer_get_epoch(s.trainer, 3, &last), USPLIT_ERR_ARGUMENT);
    drop(&s);
}

// A NaN weight makes the loss NaN: the batch is counted and changes nothing.
// The mean over levels is the KL loss; an interrupted epoch's sums and finished epochs survive in the file; networks
// without KL say so.
static void kl_is_known_per_level(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup whole = make(1, USPLIT_FAMILY_HVAE, &to), half = make(1, USPLIT_FAMILY_HVAE, &to),
          rest = make(1, USPLIT_FAMILY_HVAE, &to), plain = make(1, USPLIT_FAMILY_HAE, &to);
    int64_t epoch = us_trainer_steps_per_epoch(whole.trainer);
    for (int64_t i = 0; i < 2 * epoch; i++) {
        must(usplit_trainer_step(whole.trainer));
    }
    for (int64_t i = 0; i < epoch + 1; i++) {
        must(usplit_trainer_step(half.trainer));
    }
    must(usplit_trainer_save(half.trainer, in_folder("levels.h5")));
    must(usplit_trainer_resume(rest.trainer, in_folder("levels.h5")));
    for (int64_t i = 1; i < epoch; i++) {
        must(usplit_trainer_step(rest.trainer));
    }
    for (int e = 0; e < 2; e++) {
        usplit_trainer_epoch a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        must(usplit_trainer_get_epoch(whole.trainer, e, &a));
        must(usplit_trainer_get_epoch(rest.trainer, e, &b));
        assert_true(isfinite(a.kl_level[0]) && isfinite(a.kl_level[1]) && a.kl_level[0] != a.kl_level[1]);
        assert_true(isnan(a.kl_level[2]) && isnan(a.kl_level[USPLIT_MAX_LEVELS - 1]));
        // sums of a few doubles in another order
        assert_true(fabs((a.kl_level[0] + a.kl_level[1]) / 2 - a.kl_loss) <= 1e-12 * (1 + fabs(a.kl_loss)));
        assert_memory_equal(a.kl_level, b.kl_level, 2 * sizeof a.kl_level[0]);
    }
    must(usplit_trainer_step(plain.trainer));
    for (int64_t i = 1; i < epoch; i++) {
        must(usplit_trainer_step(plain.trainer));
    }
    usplit_trainer_epoch none = {.struct_size = sizeof none};
    must(usplit_trainer_get_epoch(plain.trainer, 0, &none));
    assert_true(isnan(none.kl_level[0]) && none.kl_loss == 0);
    drop(&whole);
    drop(&half);
    drop(&rest);
    drop(&plain);
}

static void bad_batches_are_skipped(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup s = make(1, USPLIT_FAMILY_HVAE, &to);
    int p = us_graph_param(s.model->graph, "likelihood.parameter_net.bias");
    float *bias = s.model->params + s.model->graph->params[p].offset, keep = *bias;
    size_t bytes = (size_t)s.model->graph->n_floats * sizeof(float);
    *bias = NAN;
    float *before = malloc(bytes);
    memcpy(before, s.model->params, bytes);
    must(usplit_trainer_step(s.trainer));
    usplit_trainer_facts f = {.struct_size = sizeof f};
    must(usplit_trainer_info(s.trainer, &f));
    assert_int_equal(f.skipped_steps, 1);
    assert_int_equal(f.step, 1);
    assert_memory_equal(before, s.model->params, bytes);
    *bias = keep;
    s.model->edits++;               // as usplit_model_set_parameter does
    must(usplit_trainer_step(s.trainer));
    must(usplit_trainer_info(s.trainer, &f));
    assert_int_equal(f.skipped_steps, 1);
    assert_true(isfinite(f.loss));
    free(before);
    drop(&s);
}

// A budget too small for the batch: it is run in parts, the largest that fit, and still learns.
static void budget_runs_batches_in_parts(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    usplit_trainer_facts f = {.struct_size = sizeof f};
    setup s = make(1, USPLIT_FAMILY_HAE, &to);
    must(usplit_trainer_info(s.trainer, &f));
    assert_int_equal(f.part_batch, 5);
    drop(&s);
    for (to.memory_budget = 1 << 14;; to.memory_budget += to.memory_budget / 20) {
        s = (setup){0};
        make_data(&s, 1);
        usplit_model_options mo = small_model(USPLIT_FAMILY_HAE);
        must(usplit_model_create(&s.model, s.context, &mo));
        usplit_status status = usplit_trainer_create(&s.trainer, s.model, s.dataset, &to);
        if (status == USPLIT_OK) {
            break;
        }
        assert_int_equal(status, USPLIT_ERR_BUDGET);
        drop(&s);
    }
    must(usplit_trainer_info(s.trainer, &f));
    assert_true(f.part_batch >= 1 && f.part_batch < 5);
    usplit_trainer_epoch first = {.struct_size = sizeof first}, last = first;
    must(usplit_trainer_run(s.trainer, NULL, NULL));
    must(usplit_trainer_get_epoch(s.trainer, 0, &first));
    must(usplit_trainer_get_epoch(s.trainer, 2, &last));
    assert_true(last.loss < first.loss);
    drop(&s);
}

static int32_t stop_at_three(const usplit_progress *p, void *user)
{
    (void)p;
    return ++*(int *)user >= 3;
}

static int32_t call_back(const usplit_progress *p, void *user)
{
    (void)p;
    assert_int_equal(usplit_trainer_step(user), USPLIT_ERR_BUSY);
    usplit_trainer_cancel(user);
    return 0;
}

static void cancel_leaves_a_whole_checkpoint(void **state)
{
    (void)state;
    int calls = 0;
    usplit_trainer_options to = small_training();
    to.last_file = in_folder("last.h5");
    to.max_epochs = 500;
    setup s = make(1, USPLIT_FAMILY_HVAE, &to), t = make(1, USPLIT_FAMILY_HVAE, &to);
    assert_int_equal(usplit_trainer_run(s.trainer, stop_at_three, &calls), USPLIT_ERR_CANCELLED);
    assert_true(strlen(usplit_error_message()) > 0);
    must(usplit_trainer_resume(t.trainer, in_folder("last.h5")));
    same_bits(s.model, t.model);
    assert_int_equal(usplit_trainer_run(t.trainer, call_back, t.trainer), USPLIT_ERR_CANCELLED);
    must(usplit_trainer_step(t.trainer));      // still usable
    drop(&s);
    drop(&t);
}

// A cancel stops the call that runs, not one that comes later: at an epoch's end, too.
static void late_cancel_stops_no_step(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    usplit_trainer_facts f = {.struct_size = sizeof f};
    setup s = make(1, USPLIT_FAMILY_HVAE, &to);
    do {
        usplit_trainer_cancel(s.trainer);
        must(usplit_trainer_step(s.trainer));
        must(usplit_trainer_info(s.trainer, &f));
    } while (f.epoch < 2);
    drop(&s);
}

static void checkpoint_tests_itself(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    to.best_file = in_folder("best.h5");
    to.max_epochs = 1;
    setup s = make(1, USPLIT_FAMILY_HVAE, &to);
    usplit_model *m;
    double error;
    assert_int_equal(usplit_model_check(s.model, &error), USPLIT_ERR_STATE);
    must(usplit_trainer_run(s.trainer, NULL, NULL));
    must(usplit_model_load(&m, s.context, in_folder("best.h5")));
    must(usplit_model_check(m, &error));
    assert_true(error <= 1e-6);
    usplit_model_facts a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    must(usplit_model_info(s.model, &a));
    must(usplit_model_info(m, &b));
    assert_memory_equal(&a.target_mean, &b.target_mean, sizeof a.target_mean);
    assert_true(a.clip_value == b.clip_value && a.epochs_trained == b.epochs_trained && b.epochs_trained == 1);
    float w = 3;        // a changed parameter is noticed
    must(usplit_model_get_parameter(m, "likelihood.parameter_net.bias", (float[4]){0}, 4));
    must(usplit_model_set_parameter(m, "likelihood.parameter_net.bias", (float[4]){w, w, w, w}, 4));
    assert_int_equal(usplit_model_check(m, &error), USPLIT_ERR_NUMERIC);
    usplit_model_free(m);
    drop(&s);
}

static void refusals(void **state)
{
    (void)state;
    setup s = {0};
    usplit_trainer_options to = small_training();
    usplit_model_options mo = small_model(0);
    make_data(&s, 1);
    mo.channels = 3;
    must(usplit_model_create(&s.model, s.context, &mo));
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_SHAPE);
    assert_non_null(strstr(usplit_error_message(), "3"));
    assert_null(s.trainer);
    usplit_model_free(s.model);
    mo.channels = 2;
    mo.levels = mo.lc_count = 4;        // the dataset keeps 3 resolution levels
    must(usplit_model_create(&s.model, s.context, &mo));
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_SHAPE);
    usplit_model_free(s.model);
    mo = small_model(0);
    must(usplit_model_create(&s.model, s.context, &mo));
    to.memory_budget = 1000;
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_BUDGET);
    to = small_training();
    to.batch = 0;
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_ARGUMENT);
    to = small_training();
    to.learning_rate = NAN;
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_ARGUMENT);
    to = small_training();
    to.max_seconds = NAN;
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "max_seconds nan"));
    to = small_training();
    must(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to));
    usplit_trainer *second;
    assert_int_equal(usplit_trainer_create(&second, s.model, s.dataset, &to), USPLIT_ERR_STATE);
    must(usplit_trainer_save(s.trainer, in_folder("other.h5")));
    drop(&s);
    to.batch = 6;
    s = make(1, 0, &to);
    assert_int_equal(usplit_trainer_resume(s.trainer, in_folder("other.h5")), USPLIT_ERR_STATE);
    assert_int_equal(usplit_trainer_resume(s.trainer, in_folder("missing.h5")), USPLIT_ERR_FILE);
    must(usplit_model_save(s.model, in_folder("model.h5")));
    assert_int_equal(usplit_trainer_resume(s.trainer, in_folder("model.h5")), USPLIT_ERR_STATE);
    must(usplit_trainer_step(s.trainer));
    drop(&s);
}

// One value per channel cannot be normalised: patch 8 halved three times, a batch of one.
static void one_value_per_channel(void **state)
{
    (void)state;
    setup s = {0};
    usplit_trainer_options to = small_training();
    usplit_model_options mo = small_model(0);
    make_data(&s, 1);
    mo.variant = USPLIT_VARIANT_VANILLA;
    mo.levels = 3;
    mo.patch = 8;
    to.batch = 1;
    must(usplit_model_create(&s.model, s.context, &mo));
    assert_int_equal(usplit_trainer_create(&s.trainer, s.model, s.dataset, &to), USPLIT_ERR_SHAPE);
    drop(&s);
}

// Every allocation of creating a trainer and doing a step refused once: a status, no leak.
typedef struct budget {
    long left;
} budget;

static void *limited(size_t bytes, void *user)
{
    budget *b = user;
    return b->left-- > 0 ? malloc(bytes) : NULL;
}

static void give(void *block, void *user)
{
    (void)user;
    free(block);
}

static usplit_status attempt(budget *b)
{
    setup s = {0};
    usplit_context_options co;
    usplit_critter_options cr;
    usplit_dataset_options ds;
    usplit_trainer_options to = small_training();
    usplit_model_options mo = small_model(0);
    usplit_status status = usplit_context_options_init(&co, sizeof co);
    co.device = "cpu";
    co.threads = 1;
    co.alloc = limited;
    co.release = give;
    co.alloc_user = b;
    mo.levels = 1;
    mo.filters = 4;
    usplit_critter_options_init(&cr, sizeof cr);
    usplit_dataset_options_init(&ds, sizeof ds);
    cr.n_frames = 4;
    cr.size = 32;
    cr.n_curves = 1;
    ds.levels = 2;
    ds.validation_fraction = ds.test_fraction = 0.25;
    to.last_file = in_folder("fault.h5");
    status = status ? status : usplit_context_create(&s.context, &co);
    status = status ? status : usplit_dataset_create_critters(&s.dataset, s.context, &cr, &ds);
    status = status ? status : usplit_model_create(&s.model, s.context, &mo);
    status = status ? status : usplit_trainer_create(&s.trainer, s.model, s.dataset, &to);
    status = status ? status : usplit_trainer_step(s.trainer);
    status = status ? status : usplit_trainer_save(s.trainer, in_folder("fault.h5"));
    drop(&s);
    return status;
}

static void failing_allocations(void **state)
{
    (void)state;
    size_t live = us_alloc_live();
    long k = 0;
    usplit_status status;
    do {
        budget b = {k};
        status = attempt(&b);
        assert_true(status == USPLIT_OK || status == USPLIT_ERR_MEMORY);
        assert_true(us_alloc_live() == live);
        k += k < 300 ? 1 : 37;      // the long tail (one block per entry of the file) is sampled
    } while (status != USPLIT_OK && k < 100000);
    assert_int_equal(status, USPLIT_OK);
}

// data section 12.5
static void optimiser_vectors(void **state)
{
    (void)state;
    us_schedule s = {1e-3, NAN, 0};
    const double metrics[] = {30, 30.001, 30.002, 30.0025, 30.0031, 30.5, 30.5, 30.5, 30.5};
    for (int i = 0; i < 9; i++) {
        us_schedule_step(&s, metrics[i], 1, 0.5, 2);
        double expected = i < 3 ? 1e-3 : i < 8 ? 5e-4 : 2.5e-4;
        assert_true(fabs(s.learning_rate - expected) < 1e-12);
    }
    double best = NAN;
    int64_t bad = 0;
    int improved;
    assert_int_equal(us_early_stop(&best, &bad, 20, 2, &improved), 0);
    assert_true(improved);
    assert_int_equal(us_early_stop(&best, &bad, 20.0000001, 2, &improved), 0);
    assert_false(improved);
    assert_int_equal(us_early_stop(&best, &bad, 19, 2, &improved), 1);
    assert_int_equal(us_early_stop(&best, &bad, NAN, 2, &improved), 1);
}

// data section 12.5: Adamax by hand on three weights of a real plan's array.
static void adamax_vectors(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    setup s = make(1, 0, &to);
    const us_graph *g = s.model->graph;
    size_t bytes = (size_t)g->n_floats * sizeof(float);
    float *p = calloc(1, bytes), *d = calloc(1, bytes), *m = calloc(1, bytes), *u = calloc(1, bytes);
    int64_t at = g->params[us_graph_param(g, "first_bottom_up.2.res.block.2.weight")].offset;
    const float start[3] = {1, -2, 0.5f};
    const float grads[4][3] = {{0.1f, -0.2f, 0}, {0.05f, 0.4f, 1e-9f}, {-0.3f, 0.1f, 0.2f}, {0, 0, 0}};
    const double after[3] = {0.998628382868, -1.999760016640, 0.499321183499};
    memcpy(p + at, start, sizeof start);
    for (int t = 0; t < 4; t++) {
        memcpy(d + at, grads[t], sizeof grads[t]);
        must(TEST_BACKEND.adamax(s.trainer->exec, p, d, m, u, 1e-3, t + 1, 1));
    }
    for (int i = 0; i < 3; i++) {       // four float32 steps around 1 and 2
        assert_true(fabs(p[at + i] - after[i]) < 5e-7);
    }
    free(p);
    free(d);
    free(m);
    free(u);
    drop(&s);
}

// By their norm over all parameters, not one by one (data section 9, row 15): the first moments, a tenth of the first
// gradients, are all smaller by min(1, limit / (norm + 1e-6)).
static void gradients_are_clipped_by_norm(void **state)
{
    (void)state;
    usplit_trainer_options to = small_training();
    usplit_trainer_facts f = {.struct_size = sizeof f};
    to.clip_norm = 0;
    setup free_one = make(1, 0, &to);
    must(usplit_trainer_step(free_one.trainer));
    must(us_trainer_refresh(free_one.trainer, 1));
    must(usplit_trainer_info(free_one.trainer, &f));
    const us_graph *g = free_one.model->graph;
    const double limits[2] = {f.gradient_norm / 4, f.gradient_norm * 4};
    double square = 0;
    for (int64_t i = 0; i < g->n_floats; i++) {
        square += 100 * (double)free_one.trainer->state.m[i] * free_one.trainer->state.m[i];
    }
    assert_true(fabs(sqrt(square) - f.gradient_norm) < 1e-4 * f.gradient_norm);
    for (int k = 0; k < 2; k++) {
        to.clip_norm = limits[k];
        setup s = make(1, 0, &to);
        must(usplit_trainer_step(s.trainer));
        must(us_trainer_refresh(s.trainer, 1));
        double scale = k == 0 ? limits[0] / (f.gradient_norm + 1e-6) : 1;
        for (int64_t i = 0; i < g->n_floats; i++) {
            double expected = scale * free_one.trainer->state.m[i];
            assert_true(fabs(s.trainer->state.m[i] - expected) <= 1e-5 * fabs(expected) + 1e-9);
        }
        drop(&s);
    }
    drop(&free_one);
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"half.h5", "levels.h5", "last.h5", "best.h5", "other.h5", "model.h5", "fault.h5"};
    return remove_files(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_is_exact),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(seeds_matter),
        cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(training_learns),
        cmocka_unit_test(kl_is_known_per_level),
        cmocka_unit_test(bad_batches_are_skipped),
        cmocka_unit_test(budget_runs_batches_in_parts),
        cmocka_unit_test(cancel_leaves_a_whole_checkpoint),
        cmocka_unit_test(late_cancel_stops_no_step),
        cmocka_unit_test(checkpoint_tests_itself),
        cmocka_unit_test(refusals),
        cmocka_unit_test(one_value_per_channel),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(optimiser_vectors),
        cmocka_unit_test(adamax_vectors),
        cmocka_unit_test(gradients_are_clipped_by_norm),
    };
    return cmocka_run_group_tests_name("trainer", tests, make_folder, tear_down);
}
