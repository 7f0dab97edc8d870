// Rows of tiles predicted apart are those of the whole image, to the bit: every network that sees context, shifted
// grids, samples, deviations, both rules of cover, any number of workers; and a part reads no more than it needs.
#include "property/tiler_case.h"

static usplit_status run_part(usplit_tiler *t, stream *s, int64_t first, int64_t n, usplit_tiler_result *r)
{
    usplit_tiler_stream u = {.struct_size = sizeof u, .height = s->h, .width = s->w, .read = stream_read,
                             .write = stream_write, .user = s, .first_tile_row = first, .n_tile_rows = n};
    return usplit_tiler_run_stream(t, &u, r, NULL, NULL);
}

static void test_parts_equal_the_whole(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 24; seed++) {
        begin_case(seed);
        int levels = (int)draw(1, 3), lateral = seed % 4 != 0, least = lateral ? 1 << levels : 1;
        usplit_model *m = make_model(make_context((int)draw(1, 3)), USPLIT_FAMILY_HVAE,
                                     lateral ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA, levels, 16);
        usplit_tiler_options o = make_options(0, (int)draw(2, 5), seed % 5 == 0);
        o.seed = seed;
        o.samples = (int32_t)draw(1, 2);
        o.shifts = o.cover ? 1 : (int32_t)draw(1, 4);
        o.deviations = o.samples * o.shifts > 1 && draw(0, 1);
        usplit_tiler *t = make_tiler(m, &o);
        int64_t h = draw(16 + least, seed % 3 ? 60 : 260), w = draw(16 + least, 50);
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        assert_ok(usplit_tiler_plan(t, h, w, &cost));
        float *pixels = random_pixels(h * w);
        stream whole = make_stream(pixels, h, w, t->planes), parts = make_stream(pixels, h, w, t->planes);
        usplit_tiler_result all = {.struct_size = sizeof all}, one = all;
        assert_ok(run_stream(t, &whole, &all, NULL, NULL));
        int64_t tiles = 0;
        for (int64_t row = 0, n; row < cost.tile_rows; row += n) {
            n = draw(1, seed % 2 ? 2 : cost.tile_rows);
            n = n < cost.tile_rows - row ? n : cost.tile_rows - row;
            assert_ok(run_part(t, &parts, row, n, &one));
            assert_int_equal(parts.next_row, row + n < cost.tile_rows ? (row + n) * cost.inner : h);
            tiles += one.tiles;
        }
        assert_true(o.shifts > 1 ? tiles >= all.tiles : tiles == all.tiles);
        assert_memory_equal(whole.out, parts.out, (size_t)(t->planes * h * w) * sizeof(float));
        parts.next_row = 0;             // 0 rows: the rest
        assert_ok(run_part(t, &parts, 0, 0, NULL));
        assert_int_equal(parts.next_row, h);
        free(whole.out);
        free(parts.out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
}

// Of an image much higher than the context reaches, a part in its middle reads that reach only, and once: half of the
// coarsest patch on both sides, the rows that halving needs beyond it, and its own.
static void test_a_part_reads_little(void **state)
{
    (void)state;
    enum { LEVELS = 3, P = 16 };
    begin_case(1);
    usplit_model *m = make_model(make_context(1), USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, LEVELS, P);
    usplit_tiler *t = make_tiler(m, NULL);
    int64_t h = 3000, w = 24;
    float *pixels = random_pixels(h * w);
    stream s = make_stream(pixels, h, w, t->planes);
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    assert_ok(usplit_tiler_plan(t, h, w, &cost));
    s.next_row = 100 * cost.inner;
    assert_ok(run_part(t, &s, 100, 2, NULL));
    assert_int_equal(s.next_row, 102 * cost.inner);
    int64_t blur = 0;
    for (int k = 0; k < LEVELS; k++) {
        blur = 2 * blur + 4;            // radius 2, and a line between two rows
    }
    int64_t own = 2 * cost.inner, reach = (P << LEVELS) / 2;
    assert_true(s.rows_read <= own + 2 * (reach + blur));
    assert_true(s.rows_read >= own + 2 * (reach - (1 << LEVELS)) - cost.inner);
    assert_int_equal(run_part(t, &s, cost.tile_rows, 0, NULL), USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "first_tile_row is 375; accepted: 0 to 374"));
    assert_int_equal(run_part(t, &s, 370, 6, NULL), USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "n_tile_rows is 6; accepted from row 370 on: 0 (all) to 5"));
    assert_int_equal(run_part(t, &s, -1, 0, NULL), USPLIT_ERR_ARGUMENT);
    free(s.out);
    free(pixels);
    usplit_tiler_free(t);
    us_model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_equal_the_whole),
        cmocka_unit_test(test_a_part_reads_little),
    };
    return cmocka_run_group_tests_name("tiler, parts of an image", tests, NULL, NULL);
}
