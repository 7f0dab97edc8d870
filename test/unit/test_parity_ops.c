// The CPU backend against the reference (src/cpu/ref.h) on random networks: families, variants, options, sizes,
// widths, batches, threads, clips, free bits and dropout drawn from a seed. Training: losses, every gradient, running
// statistics. Prediction: full windows against the reference, inner windows against the full ones.
#include "unit/trial.h"

// ThreadSanitizer is some twenty times slower, and only the threads are its business.
#ifdef __SANITIZE_THREAD__
enum { N_TRAININGS = 12, N_PREDICTIONS = 8 };
#else
enum { N_TRAININGS = 80 / TEST_FEWER, N_PREDICTIONS = 60 / TEST_FEWER };
#endif

// ---- A random case ----------------------------------------------------------------------------------

static const int widths[] = {1, 2, 3, 5, 8, 9, 16, 17};

static void random_lvae(usplit_model_options *o)
{
    o->variant = pick(0, 3);
    o->levels = o->variant == USPLIT_VARIANT_DEEP ? pick(2, 5) : pick(1, 3);
    o->lc_count = o->variant == USPLIT_VARIANT_VANILLA ? 0 : pick(1, o->levels);
    o->filters = widths[pick(0, 7)];
    for (int i = 0; i < o->levels; i++) {
        o->z_dims[i] = pick(1, 9);
    }
    o->patch = o->levels > 3 ? 32 : 8 * pick(1, 3);
    if (o->variant == USPLIT_VARIANT_VANILLA && pick(0, 1)) {
        o->patch += 2;          // padded to a multiple of 2^n
    }
    o->dropout = pick(0, 1) ? uniform(0.05, 0.5) : -1;
    o->var_clip_max = pick(0, 1) ? uniform(-0.5, 1) : 0;
    o->logvar_lower_bound = pick(0, 1) ? uniform(-1, 0.2) : 0;
    o->blocks = o->levels > 3 ? 0 : rarely(2, 4);
    o->shared_branch = o->blocks > 1 && o->lc_count > 0 ? pick(0, 1) : 0;
    o->activation = rarely(USPLIT_ACTIVATION_RELU, USPLIT_ACTIVATION_LEAKY_RELU);
    o->logvar = rarely(USPLIT_LOGVAR_NONE, USPLIT_LOGVAR_GLOBAL);
    o->merge = rarely(USPLIT_MERGE_RESIDUAL_UNGATED, USPLIT_MERGE_LINEAR);
    o->latent_scale = pick(0, 2);
    o->ungated = rarely(1, 1);
    o->kl = o->family == USPLIT_FAMILY_HVAE ? rarely(1, 1) : 0;
}

static void random_unet(usplit_model_options *o)
{
    static const int variants[] = {USPLIT_VARIANT_VANILLA, USPLIT_VARIANT_REGULAR, USPLIT_VARIANT_CONTEXT_AWARE};
    o->variant = variants[pick(0, 2)];
    o->levels = o->variant == USPLIT_VARIANT_REGULAR ? pick(2, 3) : pick(1, 3);
    o->lc_count = o->variant == USPLIT_VARIANT_REGULAR ? pick(1, o->levels - 1) : 0;
    o->shared_branch = o->lc_count > 0 && pick(0, 1);
    o->filters = widths[pick(0, 5)];
    o->patch = 2 * pick(4, 16);
}

static void random_bravenet(usplit_model_options *o)
{
    o->variant = USPLIT_VARIANT_REGULAR;
    o->filters = pick(1, 8);
    o->patch = 8 * pick(2, 4);
    o->dropout = pick(0, 2) ? uniform(0.05, 0.5) : -1;
}

enum { ANY, HVAE };

static void random_config(trial *t, int what)
{
    static const int families[] = {USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HAE,
                                   USPLIT_FAMILY_UNET, USPLIT_FAMILY_UNET, USPLIT_FAMILY_UNET, USPLIT_FAMILY_BRAVENET};
    int enough = 0;
    while (!enough) {
        usplit_model_options o = {.struct_size = sizeof o, .family = families[what == HVAE ? 0 : pick(0, 7)]};
        us_graph *g;
        if (o.family <= USPLIT_FAMILY_HAE) {
            random_lvae(&o);
        } else if (o.family == USPLIT_FAMILY_UNET) {
            random_unet(&o);
        } else {
            random_bravenet(&o);
        }
        o.channels = pick(2, 4);
        assert_int_equal(us_net_config_from(&t->config, &o), USPLIT_OK);
        assert_int_equal(us_graph_build(&g, NULL, &t->config, t->config.patch), USPLIT_OK);
        enough = fewest_values(g, t->batch) >= 8;
        us_graph_free(g);
    }
}

// ---- Tests ------------------------------------------------------------------------------------------

static void begin(trial *t, int number, int what)
{
    seed = first_seed() * 10000 + (uint64_t)number;
    drawn = 0;
    *t = (trial){.batch = pick(1, 3), .threads = pick(1, 3), .kl_weight = uniform(0.1, 2),
                 .free_bits = pick(0, 2) == 0 ? uniform(0.2, 2) : 0, .run_seed = 77 + seed,
                 .step = pick(0, 9)};
    random_config(t, what);
}

static void training_agrees_with_the_reference(void **state)
{
    (void)state;
    int compared = 0;
    refused = 0;
    for (int number = 0; number < N_TRAININGS; number++) {
        trial t;
        begin(&t, number, ANY);
        open_data(&t, t.config.patch);
        compared += compare_one_training(&t);
        close_data(&t);
    }
    print_message("%d networks trained: %d compared, %d left out for a value near a kink, %d refused\n", N_TRAININGS,
                  compared, N_TRAININGS - compared - refused, refused);
    assert_true(compared + refused >= N_TRAININGS * 97 / 100);
    report("losses", worst_loss);
    report("head", worst_head);
    report("gradients", worst_gradient);
    report("statistics", worst_statistics);
}

// Levels of one to four blocks, in every variant: the further a value lies back, the likelier it is done again.
static void levels_of_several_blocks(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * 4 * 4; i += TEST_FEWER) {
        trial t = {.batch = 2, .threads = 2, .kl_weight = 1, .run_seed = 5};
        usplit_model_options o = {.struct_size = sizeof o, .family = i % 2, .variant = i / 2 % 4, .blocks = 1 + i / 8,
                                  .levels = 2, .filters = 6, .patch = 16, .z_dims = {3}};
        o.lc_count = o.variant == USPLIT_VARIANT_DEEP;
        o.shared_branch = o.blocks % 2 == 0 && o.variant != USPLIT_VARIANT_VANILLA;
        o.activation = o.blocks == 3 ? USPLIT_ACTIVATION_RELU : USPLIT_ACTIVATION_ELU;
        seed = first_seed() * 10000 + 800 + (uint64_t)i;
        drawn = 0;
        assert_int_equal(us_net_config_from(&t.config, &o), USPLIT_OK);
        open_data(&t, o.patch);
        assert_int_equal(compare_one_training(&t), 1);
        us_run run = run_of(&t);
        t.batch = 1;
        compare_prediction(&t, &run);
        close_data(&t);
    }
}

// Noise as documented: Box-Muller on Philox words keyed by seed, step, sample, level and place.
static void training_draws_the_documented_noise(void **state)
{
    (void)state;
    int compared = 0;
    refused = 0;
    for (int number = 100; number < 106; number++) {
        trial t;
        begin(&t, number, HVAE);
        open_data(&t, t.config.patch);
        for (int l = 0; l < t.graph->n_latents; l++) {
            const us_node *z = &t.graph->nodes[t.graph->latent[l]];
            for (int64_t i = 0; i < (int64_t)t.batch * z->h * z->w * z->c; i++) {
                int64_t pixel = i / z->c, c = i % z->c, place = pixel % (z->h * z->w);
                uint64_t stream = us_key(t.run_seed, US_RNG_LATENT, (uint64_t)t.step,
                                            (uint32_t)(pixel / (z->h * z->w)));
                float four[4];
                us_draw_normal4(stream, (int32_t)(place / z->w), (int32_t)(place % z->w), (uint32_t)(c / 4),
                                (uint32_t)l, four);
                t.noise[l][i] = four[c % 4];
            }
        }
        us_ref_losses losses;
        us_ref *ref = open_away_from_kinks(&t, &losses);
        us_run run = run_of(&t);
        run.noise = NULL;
        outcome o = ref ? train(&t, t.threads, &run) : (outcome){.grads = NULL};
        if (o.grads) {
            compare_training(&t, ref, &losses, &o);
            free_outcome(&o);
            compared++;
        }
        us_ref_free(ref);
        close_data(&t);
    }
    assert_true(compared + refused == 6);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    for (int number = 200; number < 216 / TEST_FEWER; number++) {
        trial t;
        begin(&t, number, ANY);
        t.batch = 5;
        open_data(&t, t.config.patch);
        us_run run = run_of(&t);
        run.noise = NULL;
        outcome one = train(&t, 1, &run);
        size_t n = (size_t)t.graph->n_floats * sizeof(float);
        for (int threads = 2; one.grads && threads <= 4; threads++) {
            outcome many = train(&t, threads, &run);
            assert_memory_equal(&one.losses, &many.losses, sizeof one.losses);
            assert_memory_equal(one.grads, many.grads, n);
            assert_memory_equal(one.after, many.after, n);
            free_outcome(&many);
        }
        free_outcome(&one);
        close_data(&t);
    }
}

// Features far from zero: mean^2 is 10^4 times the variance. Float features near 30 are off by 1e-6, a
// hundred thousandth of their deviation; statistics that lose no more are within 1e-4 of the variance.
static void statistics_survive_a_large_mean(void **state)
{
    (void)state;
    trial t;
    begin(&t, 500, ANY);
    usplit_model_options o = {.struct_size = sizeof o, .levels = 2, .filters = 8, .patch = 32, .z_dims = {4}};
    assert_int_equal(us_net_config_from(&t.config, &o), USPLIT_OK);
    t.batch = 2;
    open_data(&t, 32);
    const us_param *bias = &t.graph->params[us_graph_param(t.graph, "first_bottom_up.0.bias")];
    for (int c = 0; c < 8; c++) {
        t.params[bias->offset + c] = 30;
    }
    for (int64_t i = 0; i < (int64_t)2 * 32 * 32; i++) {
        t.levels[0][i] *= 0.3f;
    }
    us_ref *ref = open_reference(&t, 1);
    us_ref_run_forward(ref, t.params, t.kl_weight, t.free_bits, NULL);
    double *after = calloc((size_t)t.graph->n_floats, sizeof *after);
    us_ref_statistics(ref, t.params, after);
    us_run run = run_of(&t);
    outcome x = train(&t, 1, &run);
    int entry = us_graph_param(t.graph, "first_bottom_up.2.res.block.0.running_var");
    const us_param *v = &t.graph->params[entry];
    for (int64_t i = v->offset; i < v->offset + v->count; i++) {
        double before = 0.9 * t.params[i];
        double variance = (after[i] - before) * 10, got = (x.after[i] - before) * 10;
        assert_true(variance < 900 * 1e-3);
        within(&t, "variance beside a large mean", fabs(got - variance), 1e-4 * variance + 1e-6,
               &worst_statistics);
    }
    free(after);
    free_outcome(&x);
    us_ref_free(ref);
    close_data(&t);
}

// A size the network can take beside the one it was trained for (networks 3.8, 7).
static int other_size(const us_net_config *c)
{
    if (c->family == USPLIT_FAMILY_UNET) {
        return c->variant == USPLIT_VARIANT_CONTEXT_AWARE ? c->patch : pick(1 << c->levels, 37);
    }
    if (c->family == USPLIT_FAMILY_BRAVENET) {
        return 8 * pick(1, 5);
    }
    int m = c->variant == USPLIT_VARIANT_VANILLA ? 1 : 1 << c->levels;
    return (pick(9, 36) + m - 1) / m * m;
}

static void predictions_agree_with_the_reference_and_their_windows(void **state)
{
    (void)state;
    for (int number = 300; number < 300 + N_PREDICTIONS; number++) {
        trial t;
        begin(&t, number, ANY);
        t.batch = 1;
        open_data(&t, number % 3 ? t.config.patch : other_size(&t.config));
        us_run run = run_of(&t);
        run.mean_latents = number % 5 == 0;
        for (int l = 0; run.mean_latents && l < t.graph->n_latents; l++) {
            const us_node *z = &t.graph->nodes[t.graph->latent[l]];
            memset(t.noise[l], 0, (size_t)(z->h * z->w * z->c) * sizeof(float));
        }
        compare_prediction(&t, &run);
        close_data(&t);
    }
    report("predictions", worst_prediction);
    report("windows", worst_window);
}

// Drawn noise belongs to a place, not to a window or a worker.
static void windows_draw_the_noise_of_the_whole(void **state)
{
    (void)state;
    static const us_rect all = {0, 0, 0, 0};
    for (int number = 400; number < 410; number++) {
        trial t;
        begin(&t, number, HVAE);
        t.batch = 1;
        open_data(&t, t.config.patch);
        us_run run = run_of(&t);
        run.noise = NULL;
        run.tile_y = 64 * pick(-2, 5);
        run.tile_x = 64 * pick(-2, 5);
        float *full = predict(&t, all, &run);
        if (!full) {
            close_data(&t);
            continue;
        }
        us_rect want = random_window(t.graph->size);
        float *part = predict(&t, want, &run);
        double most = 0;
        for (int64_t i = 0; i < (int64_t)t.graph->size * t.graph->size * head_channels(&t); i++) {
            most = fmax(most, fabs((double)full[i]));
        }
        compare_window(&t, full, part, want, most);
        run.seed++;
        float *other = predict(&t, want, &run);
        size_t n = (size_t)(want.h * want.w * head_channels(&t));
        assert_true(memcmp(other, part, n * sizeof(float)) != 0);
        free(full);
        free(part);
        free(other);
        close_data(&t);
    }
}

// The caller learns of it from the losses and skips the step: no gradient is written.
static void a_loss_that_is_not_finite_stops_the_step(void **state)
{
    (void)state;
    trial t;
    begin(&t, 600, HVAE);
    open_data(&t, t.config.patch);
    t.target[5] = NAN;
    us_run run = run_of(&t);
    outcome o = train(&t, t.threads, &run);
    assert_false(isfinite(o.losses.loss));
    for (int64_t i = 0; i < t.graph->n_floats; i++) {
        assert_true(o.grads[i] == 0);
    }
    free_outcome(&o);
    close_data(&t);
}

// A step over more samples than the plan's batch: losses and gradients of its parts, by their shares.
static void parts_of_a_batch_add_up(void **state)
{
    (void)state;
    trial t;
    for (int number = 700; begin(&t, number, HVAE), t.batch < 3; number++) {
    }
    open_data(&t, t.config.patch);
    open_context(&t, 2);
    const us_graph *g = t.graph;
    size_t n = (size_t)g->n_floats, bytes = n * sizeof(float);
    us_plan *plan;
    us_iterate it = {.backend = &TEST_BACKEND, .batch = 2, .n_floats = g->n_floats, .grads = calloc(n, 4),
                     .part = calloc(n, 4)};
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = 2,
                               .kl_weight = t.kl_weight, .free_bits = t.free_bits};
    assert_int_equal(us_plan_build(&plan, NULL, g, &options), USPLIT_OK);
    assert_int_equal(TEST_BACKEND.compile(&it.exec, t.context, plan, 2), USPLIT_OK);
    float *grads[2] = {calloc(n, 4), calloc(n, 4)}, *m = calloc(n, 4), *u = calloc(n, 4), *after = calloc(n, 4);
    float *m2 = calloc(n, 4), *u2 = calloc(n, 4), *before = calloc(n, 4);
    us_losses losses[2];
    us_run run = run_of(&t);
    run.noise = NULL;
    memcpy(after, t.params, bytes);
    memcpy(before, t.params, bytes);
    assert_int_equal(TEST_BACKEND.prepare(it.exec, t.params), USPLIT_OK);
    for (int i = 0; i < 2; i++) {
        run.first = 2 * i;
        run.samples = 2 - i;
        assert_int_equal(TEST_BACKEND.train(it.exec, &run, &losses[i], grads[i]), USPLIT_OK);
    }
    double norm = 0;
    for (size_t i = 0; i < n; i++) {
        grads[0][i] = (float)(2 / 3.0) * grads[0][i] + (float)(1 / 3.0) * grads[1][i];
    }
    assert_int_equal(TEST_BACKEND.gradient_norm(it.exec, grads[0], &norm), USPLIT_OK);
    us_update update = {.lr = 1e-3, .clip_norm = norm / 2};
    assert_int_equal(TEST_BACKEND.adamax(it.exec, after, grads[0], m, u, update.lr, 1, 0.5), USPLIT_OK);
    run.first = 0;
    run.samples = 3;
    us_trained arrays = {t.params, m2, u2};
    us_tally tally = {.loss_scale = 1};
    assert_int_equal(us_iterate_begin(&it, &arrays, &tally), USPLIT_OK);
    assert_int_equal(us_iterate_step(&it, &run, &update), USPLIT_OK);
    assert_int_equal(us_iterate_sync(&it, 1), USPLIT_OK);
    assert_true(fabs(it.tally.losses.loss - (2 * losses[0].loss + losses[1].loss) / 3) < 1e-6 * fabs(losses[0].loss));
    assert_true(fabs(it.tally.gradient_norm - norm) <= 1e-5 * norm);
    assert_int_equal(it.tally.updates, 1);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        for (int64_t i = a->offset; us_param_trained(a) && i < a->offset + a->count; i++) {
            // the first Adamax step is lr in the direction of the gradient: a gradient near 0 has either sign
            float move = after[i] - before[i];
            assert_true(fabsf(t.params[i] - after[i]) < 1e-6f || fabsf(move) < 9e-4f || fabsf(grads[0][i]) < 1e-6f);
        }
    }
    float *all[] = {it.grads, it.part, grads[0], grads[1], m, u, m2, u2, after, before};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]);
    }
    TEST_BACKEND.release(it.exec);
    us_plan_free(plan);
    usplit_context_free(t.context);
    close_data(&t);
}

static void one_value_per_channel_is_refused(void **state)
{
    (void)state;
    trial t = {.batch = 1};
    usplit_model_options o = {.struct_size = sizeof o, .levels = 3, .filters = 2, .patch = 8, .z_dims = {2}};
    us_plan *plan;
    us_exec *exec;
    assert_int_equal(us_net_config_from(&t.config, &o), USPLIT_OK);
    open_data(&t, 8);
    open_context(&t, 1);
    us_plan_options options = {.mode = US_PLAN_TRAIN, .layout = TEST_BACKEND.layout, .batch = 1, .kl_weight = 1};
    assert_int_equal(us_plan_build(&plan, NULL, t.graph, &options), USPLIT_OK);
    assert_int_not_equal(TEST_BACKEND.compile(&exec, t.context, plan, 1), USPLIT_OK);
    assert_null(exec);
    us_plan_free(plan);
    usplit_context_free(t.context);
    close_data(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_agrees_with_the_reference),
        cmocka_unit_test(levels_of_several_blocks),
        cmocka_unit_test(training_draws_the_documented_noise),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(statistics_survive_a_large_mean),
        cmocka_unit_test(predictions_agree_with_the_reference_and_their_windows),
        cmocka_unit_test(windows_draw_the_noise_of_the_whole),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_the_step),
        cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(one_value_per_channel_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
