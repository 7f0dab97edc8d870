// The tiler's arguments: what is refused, with which status and words; defaults; lifetimes of handles.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <string.h>

#include "common/must.h"
#include "net/model.h"

enum { P = 16, H = 30, W = 40 };

static usplit_model *make_model(int levels, int lateral)
{
    usplit_context *c = NULL;
    usplit_model *m = NULL;
    usplit_context_options co = {.struct_size = sizeof co, .device = "cpu", .threads = 2};
    usplit_model_options o = {.struct_size = sizeof o, .levels = levels, .filters = 4, .patch = P,
                              .z_dims = {4},
                              .variant = lateral ? USPLIT_VARIANT_LEAN : USPLIT_VARIANT_VANILLA};
    us_net_config config;
    assert_int_equal(usplit_context_create(&c, &co), USPLIT_OK);
    assert_int_equal(us_net_config_from(&config, &o), USPLIT_OK);
    assert_int_equal(us_model_new(&m, c, &config), USPLIT_OK);
    us_graph_init_params(m->graph, 1, m->params);
    m->normalisation.clip_value = 100;
    m->normalisation.input_deviation = 10;
    m->normalisation.target_deviation[0] = m->normalisation.target_deviation[1] = 10;
    m->has_normalisation = 1;
    usplit_context_free(c);
    return m;
}

static void test_defaults(void **state)
{
    (void)state;
    usplit_tiler_options o;
    memset(&o, 0xFF, sizeof o);
    assert_int_equal(usplit_tiler_options_init(&o, sizeof o), USPLIT_OK);
    assert_true(o.struct_size == sizeof o && o.tiling == USPLIT_TILING_INNER && o.cover == USPLIT_COVER_ALL);
    assert_true(o.pad == -1 && o.samples == 1 && o.latent == USPLIT_LATENT_SAMPLE && o.batch == 0);
    assert_true(o.seed == 0 && o.memory_budget == 0 && o.patch == 0 && o.shifts == 0 && o.deviations == 0);
    refused(usplit_tiler_options_init(NULL, sizeof o), USPLIT_ERR_ARGUMENT, "NULL");
    refused(usplit_tiler_options_init(&o, 2), USPLIT_ERR_ARGUMENT, "struct_size");
}

static void test_create(void **state)
{
    (void)state;
    usplit_model *m = make_model(2, 1);
    usplit_tiler *t = (usplit_tiler *)m;
    usplit_tiler_options good;
    usplit_tiler_options_init(&good, sizeof good);
    refused(usplit_tiler_create(NULL, m, NULL), USPLIT_ERR_ARGUMENT, "out is NULL");
    refused(usplit_tiler_create(&t, NULL, NULL), USPLIT_ERR_ARGUMENT, "model is NULL");
    assert_null(t);

    const struct {
        size_t field;
        int32_t value;
        const char *words;
    } bad[] = {
        {offsetof(usplit_tiler_options, tiling), 2, "tiling is 2"},
        {offsetof(usplit_tiler_options, tiling), -1, "tiling is -1"},
        {offsetof(usplit_tiler_options, cover), 7, "cover is 7"},
        {offsetof(usplit_tiler_options, latent), 2, "latent is 2"},
        {offsetof(usplit_tiler_options, samples), 0, "samples is 0; accepted: 1 to 65536"},
        {offsetof(usplit_tiler_options, samples), 65537, "samples is 65537"},
        {offsetof(usplit_tiler_options, batch), -1, "batch is -1"},
        {offsetof(usplit_tiler_options, pad), -2, "pad is -2"},
        {offsetof(usplit_tiler_options, pad), 8,
         "pad is 8; accepted with inner padding and patches of 16: 0 to 7"},
        {offsetof(usplit_tiler_options, patch), -16, "patch is -16; accepted: 8 to 4096, or 0 for the training's 16"},
        {offsetof(usplit_tiler_options, patch), 4, "patch is 4"},
        {offsetof(usplit_tiler_options, patch), 4097, "patch is 4097"},
        {offsetof(usplit_tiler_options, patch), 18, "18; this network accepts multiples of 4"},
        {offsetof(usplit_tiler_options, shifts), -1, "shifts is -1; accepted with tiles of 8: 0 to 8"},
        {offsetof(usplit_tiler_options, shifts), 9, "shifts is 9; accepted with tiles of 8: 0 to 8"},
        {offsetof(usplit_tiler_options, deviations), 2, "deviations is 2"},
        {offsetof(usplit_tiler_options, deviations), 1, "deviations is 1 with one value per pixel"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        usplit_tiler_options o = good;
        memcpy((char *)&o + bad[i].field, &bad[i].value, sizeof bad[i].value);
        refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, bad[i].words);
        assert_null(t);
    }
    usplit_tiler_options o = good;
    o.memory_budget = -5;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "memory_budget is -5");
    o = good;
    o.struct_size = 3;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "struct_size");
    o = good;
    o.tiling = USPLIT_TILING_OUTER;
    o.pad = 3;                              // 22: not a multiple of 4
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "22");
    o.pad = 4;
    o.patch = 32;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "patch is 32; accepted with outer padding: 0");
    o.patch = 0;
    o.pad = 1 << 20;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "outer padding");
    o = good;
    o.cover = USPLIT_COVER_WHOLE_TILES;
    o.shifts = 2;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "shifts is 2; accepted with USPLIT_COVER_WHOLE_TILES");
    o = good;
    o.samples = 9;
    o.latent = USPLIT_LATENT_MEAN;              // so one value after all
    o.deviations = 1;
    refused(usplit_tiler_create(&t, m, &o), USPLIT_ERR_ARGUMENT, "deviations is 1 with one value per pixel");
    struct {
        usplit_tiler_options o;
        int64_t more;
    } newer = {good, 1};
    newer.o.struct_size = sizeof newer;
    refused(usplit_tiler_create(&t, m, &newer.o), USPLIT_ERR_UNSUPPORTED, "tiler options");
    m->has_normalisation = 0;
    refused(usplit_tiler_create(&t, m, NULL), USPLIT_ERR_STATE, "normalisation");
    assert_null(t);
    us_model_release(m);
    assert_int_equal(us_alloc_live(), 0);
}

static void test_plan(void **state)
{
    (void)state;
    usplit_model *m = make_model(2, 1);
    usplit_tiler *t = NULL;
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_int_equal(usplit_tiler_create(&t, m, NULL), USPLIT_OK);
    refused(usplit_tiler_plan(NULL, H, W, &c), USPLIT_ERR_ARGUMENT, "tiler is NULL");
    refused(usplit_tiler_plan(t, H, W, NULL), USPLIT_ERR_ARGUMENT, "cost is NULL");
    refused(usplit_tiler_plan(t, 0, W, &c), USPLIT_ERR_ARGUMENT, "height is 0");
    refused(usplit_tiler_plan(t, H, -4, &c), USPLIT_ERR_ARGUMENT, "width is -4");
    refused(usplit_tiler_plan(t, H, (int64_t)1 << 60, &c), USPLIT_ERR_ARGUMENT, "width is");
    refused(usplit_tiler_plan(t, 3, W, &c), USPLIT_ERR_SHAPE, "height is 3; accepted with 2 levels of");
    assert_int_equal(usplit_tiler_plan(t, 4, 4, &c), USPLIT_OK);
    c.struct_size = 0;
    refused(usplit_tiler_plan(t, H, W, &c), USPLIT_ERR_ARGUMENT, "struct_size");
    usplit_tiler_free(t);

    usplit_tiler_options o;
    usplit_tiler_options_init(&o, sizeof o);
    o.cover = USPLIT_COVER_WHOLE_TILES;
    o.batch = 64;
    o.samples = 3;
    assert_int_equal(usplit_tiler_create(&t, m, &o), USPLIT_OK);
    c.struct_size = sizeof c;
    assert_int_equal(usplit_tiler_plan(t, H, W, &c), USPLIT_OK);
    assert_true(c.tile_rows == 3 && c.tile_columns == 5 && c.tiles == 15 && c.passes == 45 && c.inner == 8);
    assert_true(c.covered_height == 24 && c.covered_width == 40 && c.batch == 1 && c.workers == 2);
    refused(usplit_tiler_plan(t, 7, W, &c), USPLIT_ERR_SHAPE, "no whole tile of 8 x 8");
    usplit_tiler_free(t);
    us_model_release(m);
}

static int32_t no_rows(int64_t row, int64_t n, float *dst, void *user)
{
    (void)row;
    (void)n;
    (void)dst;
    (void)user;
    return 1;
}

static int32_t no_output(int64_t row, int64_t n, const float *src, void *user)
{
    (void)row;
    (void)n;
    (void)src;
    (void)user;
    return 1;
}

static void test_run(void **state)
{
    (void)state;
    static float in[2 * H * W], out[2 * 3 * H * W];
    usplit_model *m = make_model(2, 1);
    usplit_tiler *t = NULL;
    usplit_image src, dst, bad;
    usplit_tiler_result r = {.struct_size = sizeof r};
    assert_int_equal(usplit_tiler_create(&t, m, NULL), USPLIT_OK);
    usplit_image_init(&src, sizeof src, in, USPLIT_TYPE_F32, 1, H, W, 1);
    usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_F32, 1, H, W, 2);
    refused(usplit_tiler_run(NULL, &src, &dst, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "tiler is NULL");
    refused(usplit_tiler_run(t, NULL, &dst, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "src is NULL");
    refused(usplit_tiler_run(t, &src, NULL, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "dst is NULL");
    bad = src;
    bad.type = 9;
    refused(usplit_tiler_run(t, &bad, &dst, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "type is 9");
    bad = src;
    bad.struct_size = 1;
    refused(usplit_tiler_run(t, &bad, &dst, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "src: struct_size");
    bad = src;
    bad.channels = 2;
    bad.width = W / 2;
    refused(usplit_tiler_run(t, &bad, &dst, &r, NULL, NULL), USPLIT_ERR_SHAPE, "src has 2 channels");
    bad = dst;
    bad.channels = 3;
    refused(usplit_tiler_run(t, &src, &bad, &r, NULL, NULL), USPLIT_ERR_SHAPE, "dst has 3 channels");
    bad = dst;
    bad.height = H - 1;
    refused(usplit_tiler_run(t, &src, &bad, &r, NULL, NULL), USPLIT_ERR_SHAPE, "29 x 40");
    bad = dst;
    bad.frames = 2;
    refused(usplit_tiler_run(t, &src, &bad, &r, NULL, NULL), USPLIT_ERR_SHAPE, "2 frames");
    bad = src;
    bad.height = 2;
    usplit_image flat = dst;
    flat.height = 2;
    refused(usplit_tiler_run(t, &bad, &flat, &r, NULL, NULL), USPLIT_ERR_SHAPE, "height is 2");
    r.struct_size = 0;
    refused(usplit_tiler_run(t, &src, &dst, &r, NULL, NULL), USPLIT_ERR_ARGUMENT, "result: struct_size");
    r.struct_size = sizeof r;
    assert_int_equal(usplit_tiler_run(t, &src, &dst, &r, NULL, NULL), USPLIT_OK);
    assert_true(r.tiles == 20 && r.passes == 20 && strcmp(r.device, "cpu") == 0 && r.seconds > 0);
    usplit_tiler *deviating = NULL;
    usplit_tiler_options o;
    usplit_tiler_options_init(&o, sizeof o);
    o.samples = 2;
    o.deviations = 1;
    assert_int_equal(usplit_tiler_create(&deviating, m, &o), USPLIT_OK);
    refused(usplit_tiler_run(deviating, &src, &dst, &r, NULL, NULL), USPLIT_ERR_SHAPE, "2, twice for the deviations");
    usplit_tiler_free(deviating);
    // a caller of an older library: fewer fields
    memset(&r, 0xFF, sizeof r);
    r.struct_size = offsetof(usplit_tiler_result, seconds);
    assert_int_equal(usplit_tiler_run(t, &src, &dst, &r, NULL, NULL), USPLIT_OK);
    assert_true(r.tiles == 20 && r.seconds != r.seconds);
    assert_int_equal(usplit_tiler_run(t, &src, &dst, NULL, NULL, NULL), USPLIT_OK);
    usplit_tiler_free(t);
    us_model_release(m);
}

static void test_stream(void **state)
{
    (void)state;
    usplit_model *m = make_model(1, 0);
    usplit_tiler *t = NULL;
    assert_int_equal(usplit_tiler_create(&t, m, NULL), USPLIT_OK);
    const usplit_tiler_stream good = {.struct_size = sizeof good, .height = H, .width = W, .read = no_rows,
                                      .write = no_output};
    usplit_tiler_stream s = good;
    refused(usplit_tiler_run_stream(NULL, &s, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "tiler is NULL");
    refused(usplit_tiler_run_stream(t, NULL, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "stream is NULL");
    s.read = NULL;
    refused(usplit_tiler_run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "read is NULL");
    s = good;
    s.write = NULL;
    refused(usplit_tiler_run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "write is NULL");
    s = good;
    s.height = 0;
    refused(usplit_tiler_run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "height is 0");
    s = good;
    s.struct_size = 1;
    refused(usplit_tiler_run_stream(t, &s, NULL, NULL, NULL), USPLIT_ERR_ARGUMENT, "stream: struct_size");
    refused(usplit_tiler_run_stream(t, &good, NULL, NULL, NULL), USPLIT_ERR_CALLBACK, "read returned 1");
    usplit_tiler_free(t);
    us_model_release(m);
}

// Handles in any order: the tiler keeps the model and the context.
static void test_lifetimes(void **state)
{
    (void)state;
    static float in[H * W], out[2 * H * W];
    usplit_model *m = make_model(1, 0);
    usplit_tiler *t = NULL, *other = NULL;
    usplit_image src, dst;
    assert_int_equal(usplit_tiler_create(&t, m, NULL), USPLIT_OK);
    assert_int_equal(usplit_tiler_create(&other, m, NULL), USPLIT_OK);
    us_model_release(m);
    usplit_tiler_free(other);
    usplit_image_init(&src, sizeof src, in, USPLIT_TYPE_F32, 1, H, W, 1);
    usplit_image_init(&dst, sizeof dst, out, USPLIT_TYPE_F32, 1, H, W, 2);
    assert_int_equal(usplit_tiler_run(t, &src, &dst, NULL, NULL, NULL), USPLIT_OK);
    usplit_tiler_free(t);
    usplit_tiler_free(NULL);
    usplit_tiler_cancel(NULL);
    assert_int_equal(us_alloc_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_lifetimes),
    };
    return cmocka_run_group_tests_name("tiler arguments", tests, NULL, NULL);
}
