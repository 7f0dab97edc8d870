// Tiled prediction on the emulated device against the CPU: bands cut, predicted and put together there give the
// CPU's grey levels, for images of any size, several samples, both tilings, any number of threads; shifted grids and
// deviations, whose tiles are put together on the host, too. Rows of tiles predicted apart there are those of the whole.
#include "property/tiler_case.h"

#include "cuda/emulated.h"

#include "emulate.h"

static void test_equals_the_cpu(void **state)
{
    (void)state;
    const struct {
        int family, variant, outer, cover, samples, threads;
        int64_t h, w;
        int patch, shifts, deviations, exact;
    } cases[] = {
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 1, 2, 45, 38, 0, 0, 0, 1},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 1, USPLIT_COVER_ALL, 1, 1, 33, 29, 0, 2, 1, 1},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 1, 2, 45, 38, 0, 0, 0, 0},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 3, 3, 30, 61, 0, 0, 0, 0},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_LEAN, 0, USPLIT_COVER_ALL, 1, 1, 97, 16, 0, 0, 0, 0},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_VANILLA, 0, USPLIT_COVER_WHOLE_TILES, 1, 2, 50, 43, 0, 0, 0, 0},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 1, USPLIT_COVER_ALL, 2, 2, 40, 33, 0, 0, 0, 0},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 1, 2, 50, 33, 24, 1, 0, 0},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 2, 2, 45, 38, 0, 3, 0, 0},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 0, USPLIT_COVER_ALL, 1, 3, 37, 29, 20, 2, 1, 0},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 1, 2, 41, 35, 0, 0, 0, 0},        // heads of means alone
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE, 0, USPLIT_COVER_ALL, 1, 2, 30, 37, 0, 0, 0, 0},
        {USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR, 0, USPLIT_COVER_ALL, 1, 2, 33, 30, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_case((uint32_t)i + 1);
        float *pixels = random_pixels(2 * cases[i].h * cases[i].w), *out[2];
        for (int there = 0; there < 2; there++) {
            usplit_context *c = make_context(cases[i].threads);
            if (there) {
                emulated_take(c, 0);
            }
            usplit_model *m = make_model(c, cases[i].family, cases[i].variant,
                                         cases[i].family == USPLIT_FAMILY_BRAVENET ? 4 : 2, 16);
            m->normalisation.centring = cases[i].exact;
            usplit_tiler_options o = make_options(cases[i].outer, -1, cases[i].cover);
            usplit_tiler_result r;
            o.samples = cases[i].samples;
            o.patch = cases[i].patch;
            o.shifts = cases[i].shifts;
            o.deviations = cases[i].deviations;
            o.seed = 9;
            usplit_tiler *t = make_tiler(m, &o);
            r = (usplit_tiler_result){.struct_size = sizeof r};
            out[there] = run_planes(t, pixels, 2, cases[i].h, cases[i].w, &r);
            usplit_tiler_free(t);
            us_model_release(m);
        }
        float most = 0;
        int64_t n = (cases[i].deviations ? 8 : 4) * cases[i].h * cases[i].w;    // two frames, two channels
        for (int64_t k = 0; k < n; k++) {
            most = fmaxf(most, fabsf(out[0][k]));
        }
        for (int64_t k = 0; k < n; k++) {   // float32 both
            assert_true(fabsf(out[0][k] - out[1][k]) <= 2e-5f * most);
        }
        free(out[0]);
        free(out[1]);
        free(pixels);
    }
    assert_int_equal(us_emulate_leaks(), 0);
}

static void test_parts(void **state)
{
    (void)state;
    for (int shifts = 1; shifts <= 2; shifts++) {
        begin_case((uint32_t)shifts);
        int64_t h = 75, w = 38;
        float *pixels = random_pixels(h * w);
        usplit_context *c = make_context(2);
        emulated_take(c, 0);
        usplit_model *m = make_model(c, USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 2, 16);
        usplit_tiler_options o = make_options(0, -1, USPLIT_COVER_ALL);
        o.samples = 2;
        o.shifts = shifts;
        o.seed = 9;
        usplit_tiler *t = make_tiler(m, &o);
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        assert_ok(usplit_tiler_plan(t, h, w, &cost));
        stream whole = make_stream(pixels, h, w, t->planes), parts = make_stream(pixels, h, w, t->planes);
        assert_ok(run_stream(t, &whole, NULL, NULL, NULL));
        for (int64_t row = 0, n; row < cost.tile_rows; row += n) {
            n = draw(1, 4);
            n = n < cost.tile_rows - row ? n : cost.tile_rows - row;
            usplit_tiler_stream u = {.struct_size = sizeof u, .height = h, .width = w, .read = stream_read,
                                     .write = stream_write, .user = &parts, .first_tile_row = row, .n_tile_rows = n};
            assert_ok(usplit_tiler_run_stream(t, &u, NULL, NULL, NULL));
        }
        assert_int_equal(parts.next_row, h);
        assert_memory_equal(whole.out, parts.out, (size_t)(t->planes * h * w) * sizeof(float));
        free(whole.out);
        free(parts.out);
        free(pixels);
        usplit_tiler_free(t);
        us_model_release(m);
    }
    assert_int_equal(us_emulate_leaks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_cpu),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
