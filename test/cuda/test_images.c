// Patches cut and tiles stitched by the emulated device against the CPU: the dataset's patches, the tiler's
// windows of rows, and add_sample of tile_run.c as a plain loop. Equal to the bit in float, and rounded once in
// half; on a real device but for roundings that it saves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "data/dataset.h"
#include "device_case.h"
#include "images.h"
#include "kernels/place.h"
#include "tile/tile.h"

enum { ROUNDS = 30, MAX_FRAMES = 4, MAX_LEVELS = 5, BATCH = 5 };

static float as_element(float x, int half)
{
    return half ? us_half_bits_value(us_half_bits_of(x)) : x;
}

// ---- Index rules ------------------------------------------------------------------------------------

// A walk along the axis that turns round at its ends, i steps from place 0; to the left it is the same.
static int64_t bounce(int64_t i, int64_t n)
{
    int64_t at = 0, step = 1;
    for (i = i < 0 ? -i : i; i > 0 && n > 1; i--) {
        step = at + step < 0 || at + step >= n ? -step : step;
        at += step;
    }
    return at;
}

// The patch's centre in the image halved `level` times, rounded down, less half a patch.
static int64_t context_start(int64_t start, int64_t patch, int level)
{
    return (int64_t)floor(ldexp((double)(start + patch / 2), -level)) - patch / 2;
}

static void test_rules(void **state)
{
    (void)state;
    for (int64_t i = -40; i < 40; i++) {
        for (int64_t n = 1; n < 12; n++) {
            assert_int_equal(us_place_mirror(i, n), bounce(i, n));
        }
        for (int level = 0; level < 5; level++) {
            assert_int_equal(us_place_context(i, 8, level), context_start(i, 8, level));
            assert_int_equal(us_place_context(7 * i, 64, level), context_start(7 * i, 64, level));
        }
    }
}

// ---- Patches of a dataset ---------------------------------------------------------------------------

typedef struct frames_case {
    int64_t height[MAX_FRAMES], width[MAX_FRAMES];
    usplit_dataset *dataset;
    int frames, levels, channels;
    int64_t channel_frames[MAX_FRAMES];         // unpaired
    int unpaired, measured;
    us_cu_plane planes[MAX_FRAMES * MAX_LEVELS];
    us_cu_gather_plan plan;
} frames_case;

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const frames_case *t = user;
    *height = t->height[frame];
    *width = t->width[frame];
    return 0;
}

static int32_t read_frame(int64_t frame, int64_t channel, float *dst, void *user)
{
    const frames_case *t = user;
    for (int64_t i = 0; i < t->height[frame] * t->width[frame]; i++) {
        dst[i] = 1000.0f * (float)(channel + 1) + 500.0f * real();
    }
    return 0;
}

// any: what a channel and the input are, and how context is centred, at random.
static void make_frames(frames_case *t, usplit_context *context, int padding, int any)
{
    usplit_dataset_options o;
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    *t = (frames_case){.frames = 1 + below(MAX_FRAMES), .levels = 1 + below(MAX_LEVELS), .channels = 2 + below(3)};
    if (any) {
        o.input = below(3);
        o.centring = below(2);
        o.unpaired = t->unpaired = o.input != USPLIT_INPUT_MEASURED && below(2);
        t->measured = o.input == USPLIT_INPUT_MEASURED;
    }
    if (t->unpaired) {                          // every channel a frame, the first one what is left
        t->channels = 2 + below(MAX_FRAMES - 1);
        t->frames = MAX_FRAMES;
        for (int c = 1; c < t->channels; c++) {
            t->channel_frames[c] = 1;
        }
        t->channel_frames[0] = MAX_FRAMES + 1 - t->channels;
    }
    for (int f = 0; f < t->frames; f++) {
        t->height[f] = 17 + below(50);
        t->width[f] = 17 + below(50);
    }
    usplit_dataset_reader reader = {sizeof reader, t->frames, t->channels + t->measured, frame_size, read_frame, t,
                                    t->unpaired ? t->channel_frames : NULL};
    o.validation_fraction = o.test_fraction = 0.0;
    o.levels = t->levels;
    o.padding = padding;
    o.padding_value = 100.25;
    assert_int_equal(usplit_dataset_create_reader(&t->dataset, context, &reader, &o), USPLIT_OK);
}

static void planes_up(frames_case *t)
{
    for (int f = 0; f < t->frames; f++) {
        for (int k = 0; k < t->levels; k++) {       // channels of a level lie one after the other
            us_plane p = us_dataset_plane(t->dataset, f, 0, k);
            us_plane next = us_dataset_plane(t->dataset, f, 1, k);
            t->planes[f * t->levels + k] =
                (us_cu_plane){up(p.data, (size_t)(p.height * p.width * us_dataset_held(t->dataset)) * 4), p.height,
                              p.width, 0, next.data - p.data};
        }
    }
}

// Tensors of random sizes one after the other; returns the elements of all. Level `without` is not wanted.
static size_t make_plan(frames_case *t, int size, int without)
{
    const us_statistics *s = us_dataset_statistics(t->dataset);
    us_cu_gather_plan *g = &t->plan;
    *g = (us_cu_gather_plan){.planes = up(t->planes, sizeof t->planes), .levels = t->levels, .channels = t->channels,
                             .size = size, .reflect = s->padding == USPLIT_PADDING_REFLECT,
                             .padding_value = (float)s->padding_value, .mean = (float)s->input_mean,
                             .inverse_deviation = (float)(1.0 / s->input_deviation),
                             .held = us_dataset_held(t->dataset), .exact = s->centring == USPLIT_CENTRING_EXACT};
    int64_t at = 1 + below(9), area = (int64_t)size * size;
    for (int k = 0; k < t->levels; k++) {
        g->input[k] = (us_cu_tensor){k == without ? -1 : at, area + below(9)};
        at += BATCH * g->input[k].stride;
    }
    for (int c = 0; c < t->channels; c++) {
        g->target_mean[c] = (float)s->target_mean[c];
        g->target_inverse_deviation[c] = (float)(1.0 / s->target_deviation[c]);
    }
    g->target = (us_cu_tensor){without == -2 ? -1 : at, area * t->channels + below(9)};
    return (size_t)(at + BATCH * g->target.stride);
}

// What the CPU puts into the arena.
static void cut_on_cpu(const frames_case *t, const us_cu_place *places, const us_place *any, int active, float *arena,
                       int half)
{
    const us_cu_gather_plan *g = &t->plan;
    size_t area = (size_t)(g->size * g->size);
    float *input = room(area * 4 * MAX_LEVELS), *target = room(area * 4 * US_CU_CHANNELS);
    for (int s = active; s < BATCH; s++) {          // zeros where no sample is
        for (int k = 0; k < t->levels; k++) {
            if (g->input[k].at < 0) {
                continue;
            }
            memset(arena + g->input[k].at + s * g->input[k].stride, 0, area * sizeof *arena);
        }
        if (g->target.at >= 0) {
            memset(arena + g->target.at + s * g->target.stride, 0, area * (size_t)t->channels * sizeof *arena);
        }
    }
    for (int s = 0; s < active; s++) {
        assert_int_equal(any ? us_dataset_cut(t->dataset, &any[s], g->size, t->levels, input, target)
                             : us_dataset_patch(t->dataset, places[s].frame, places[s].y, places[s].x, g->size,
                                                t->levels, input, target), USPLIT_OK);
        for (int k = 0; k < t->levels; k++) {
            float *dst = arena + g->input[k].at + s * g->input[k].stride;
            for (size_t i = 0; i < area && g->input[k].at >= 0; i++) {
                dst[i] = as_element(input[(size_t)k * area + i], half);
            }
        }
        float *dst = arena + g->target.at + s * g->target.stride;
        for (size_t i = 0; i < area * (size_t)t->channels && g->target.at >= 0; i++) {
            dst[i] = as_element(target[i], half);
        }
    }
    free(input);
    free(target);
}

// Mostly near the frame, sometimes far outside.
static int64_t start_near(int64_t n, int size)
{
    return below(6) ? below((int)n + size) - size / 2 - 3 : below(400) - 200;
}

// Every channel somewhere else, with any weight, turned in any way.
static us_place place_anywhere(const frames_case *t, int size)
{
    us_place p = {.turn = below(8)};
    for (int c = 0; c < t->channels + t->measured; c++) {
        int f = below(t->frames);
        if (t->unpaired) {
            f = c ? (int)t->channel_frames[0] + c - 1 : below((int)t->channel_frames[0]);
        }
        p.frame[c] = f;
        p.y[c] = start_near(t->height[f], size);
        p.x[c] = start_near(t->width[f], size);
        p.weight[c] = below(4) ? real() : 0;
        p.gain[c] = real();
    }
    return p;
}

static void gather_rounds(usplit_context *context, int any)
{
    for (int round = 0; round < (any ? 2 : 1) * ROUNDS; round++) {
        static frames_case t;
        begin_round(round + 1000 * any);
        int half = round % 2, size = 2 * (1 + below(16)), active = 1 + below(BATCH);
        make_frames(&t, context, round % 3 ? USPLIT_PADDING_REFLECT : USPLIT_PADDING_CONSTANT, any);
        planes_up(&t);
        size_t n = make_plan(&t, size, round % 5 ? below(MAX_LEVELS + 2) - 2 : -1);
        us_cu_place places[BATCH];
        us_place mixed[BATCH];
        for (int s = 0; s < BATCH; s++) {
            int f = below(t.frames);
            places[s] = (us_cu_place){start_near(t.height[f], size), start_near(t.width[f], size), f, 0};
            mixed[s] = place_anywhere(&t, size);
        }
        t.plan.any = any;
        float *want = random_floats(n, 1), *got = room(n * 4);
        for (size_t i = 0; i < n; i++) {
            want[i] = as_element(want[i], half);
        }
        us_cu_run run = {.active = active}, *there = up(&run, sizeof run);
        us_cu_place *where = up(places, sizeof places);
        us_place *anywhere = up(mixed, sizeof mixed);
        us_cu_env env = {.run = there, .batch = BATCH, .half = half, .arena = elements_up(want, n, half)};
        ok(us_cu_gather(stream, &env, &t.plan, where, anywhere));
        elements_down(got, env.arena, n, half);
        cut_on_cpu(&t, places, any ? mixed : NULL, active, want, half);
        // And nothing else was written. Grey levels below 4500, or 5 times it where channels are added up, with
        // deviations over 100 may be a few roundings off; of half, the next one.
        same_floats(got, want, n, half ? ldexp(1, -10) : ldexp(256, -24));
        for (int i = 0; i < t.frames * t.levels; i++) {
            union { const float *c; void *v; } data = {t.planes[i].data};
            us_device_free(data.v);
        }
        union { const us_cu_plane *c; void *v; } planes = {t.plan.planes};
        us_device_free(planes.v);
        us_device_free(where);
        us_device_free(anywhere);
        us_device_free(there);
        usplit_dataset_free(t.dataset);
        free(want);
        free(got);
    }
}

static void test_gather(void **state)
{
    gather_rounds(*state, 0);
}

static void test_gather_any(void **state)
{
    gather_rounds(*state, 1);
}

// ---- Patches of tiles: windows of rows --------------------------------------------------------------

typedef struct rows_case {
    us_tile_grid grid;
    us_tile_rows rows;
    float *image;
} rows_case;

static usplit_status read_rows(void *user, int64_t row, int64_t n, float *dst)
{
    const rows_case *t = user;
    memcpy(dst, t->image + row * t->grid.width, (size_t)(n * t->grid.width) * 4);
    return USPLIT_OK;
}

// One row of tiles: every patch cut on both.
static void check_row(const rows_case *t, int64_t y, int half)
{
    const us_tile_rows *r = &t->rows;
    int size = t->grid.patch, levels = r->coarsest + 1, area = size * size;
    us_cu_plane planes[MAX_LEVELS];
    us_cu_gather_plan g = {.levels = levels, .channels = 1, .size = size, .padding_value = r->padding_value,
                           .reflect = r->padding == USPLIT_PADDING_REFLECT, .mean = r->mean,
                           .inverse_deviation = r->inverse_deviation, .target = {.at = -1}, .any = r->exact,
                           .held = 1, .exact = r->exact};
    for (int k = 0; k < levels; k++) {
        const us_tile_level *l = &r->levels[k];
        planes[k] = (us_cu_plane){up(l->data, (size_t)((l->end - l->first) * l->width) * 4), l->height, l->width,
                                  l->first, 0};
        g.input[k] = (us_cu_tensor){(int64_t)k * BATCH * area, area};
    }
    size_t n = (size_t)(levels * BATCH * area);
    us_cu_plane *d_planes = up(planes, sizeof planes);
    g.planes = d_planes;
    float *got = room(n * 4), *want = room((size_t)area * 4);
    for (int64_t first = 0; first < t->grid.columns; first += BATCH) {
        int active = t->grid.columns - first < BATCH ? (int)(t->grid.columns - first) : BATCH;
        us_cu_place places[BATCH] = {{0}};
        us_place any[BATCH];
        for (int s = 0; s < active; s++) {
            places[s] = (us_cu_place){y, (first + s) * t->grid.inner - t->grid.pad, 0, 0};
            any[s] = (us_place){.y = {y}, .x = {places[s].x}, .weight = {1}};
        }
        us_cu_run run = {.active = active}, *there = up(&run, sizeof run);
        us_cu_place *where = up(places, sizeof places);
        us_place *anywhere = up(any, sizeof any);
        us_cu_env env = {.run = there, .batch = BATCH, .half = half};
        ok(us_device_alloc(&env.arena, (int64_t)n * (half ? 2 : 4)));
        ok(us_cu_gather(stream, &env, &g, where, anywhere));
        elements_down(got, env.arena, n, half);
        for (int i = 0; i < active * levels; i++) {
            int s = i / levels, k = i % levels;
            us_tile_rows_cut(r, y, places[s].x, k, want);
            for (int j = 0; j < area; j++) {        // as in gather_rounds
                same_value(got[(k * BATCH + s) * area + j], as_element(want[j], half),
                           half ? ldexp(1, -10) : ldexp(256, -24));
            }
        }
        us_device_free(where);
        us_device_free(anywhere);
        us_device_free(there);
    }
    for (int k = 0; k < levels; k++) {
        union { const float *c; void *v; } data = {planes[k].data};
        us_device_free(data.v);
    }
    us_device_free(d_planes);
    free(got);
    free(want);
}

static void test_gather_tiles(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        static rows_case t;
        begin_round(round);
        int coarsest = below(MAX_LEVELS), pad = below(8), inner = 2 * (1 + below(8));
        t = (rows_case){.grid = {.patch = inner + 2 * pad, .inner = inner, .pad = pad, .exact = round % 4 / 2}};
        assert_int_equal(us_tile_grid_fit(&t.grid, USPLIT_COVER_ALL, coarsest, 16 + below(60), 16 + below(60)),
                         USPLIT_OK);
        usplit_model_normalisation norm = {.clip_value = 900, .input_mean = 300, .input_deviation = 70,
                                           .padding = round % 3 ? USPLIT_PADDING_REFLECT : USPLIT_PADDING_CONSTANT,
                                           .padding_value = 12};
        t.image = random_floats((size_t)(t.grid.height * t.grid.width), 1000);
        us_allocator heap = {.alloc = NULL};
        assert_int_equal(us_tile_rows_open(&t.rows, &heap, &t.grid, coarsest, 1, &norm), USPLIT_OK);
        t.rows.read = read_rows;
        t.rows.user = &t;
        for (int64_t i = 0; i < t.grid.rows; i++) {
            int64_t y = i * inner - pad;
            assert_int_equal(us_tile_rows_advance(&t.rows, y, y), USPLIT_OK);
            check_row(&t, y, round % 2);
        }
        us_tile_rows_close(&t.rows);
        free(t.image);
    }
}

// ---- Stitching --------------------------------------------------------------------------------------

// One posterior sample of one tile, as in tile_run.c.
static void add_tile(const us_cu_stitch_plan *p, const us_cu_place *place, const float *head, float *band)
{
    int g = p->inner, k = p->channels, last = place->sample == p->samples - 1;
    const float share = 1.0f / (float)p->samples;
    for (int c = 0; c < k; c++) {
        for (int64_t i = 0; i < g && place->y + i < p->rows; i++) {
            for (int64_t j = 0; j < g && place->x + j < p->width; j++) {
                float *dst = band + ((int64_t)c * p->rows + place->y + i) * p->width + place->x + j;
                float mean = head[(i * g + j) * p->values + c], sum = place->sample ? *dst + mean : mean;
                *dst = last ? p->gain[c] * (share * sum) + p->offset[c] : sum;
            }
        }
    }
}

// Different tiles of the band, in random order.
static void pick_tiles(const us_cu_stitch_plan *p, us_cu_place *places)
{
    int64_t columns = (p->width + p->inner - 1) / p->inner, rows = (p->rows + p->inner - 1) / p->inner;
    int64_t first = below((int)(rows * columns)), step = below(2) ? 1 : rows * columns - 1;
    for (int s = 0; s < BATCH; s++) {
        int64_t tile = (first + s * step) % (rows * columns);
        places[s] = (us_cu_place){tile / columns * p->inner, tile % columns * p->inner, 0, 0};
    }
}

static void test_stitch(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(round);
        int half = round % 2, active = 1 + below(BATCH);
        us_cu_stitch_plan p = {.inner = 1 + below(20), .channels = 1 + below(4), .samples = 1 + below(4)};
        p.rows = 1 + 2 * p.inner + below(30);       // more than BATCH tiles
        p.width = 1 + 2 * p.inner + below(30);
        p.values = p.channels * (1 + below(2));     // with log-variances or without
        size_t area = (size_t)(p.inner * p.inner * p.values), n = (size_t)(p.rows * p.width * p.channels);
        p.head = (us_cu_tensor){below(9), (int64_t)area + below(9)};
        for (int c = 0; c < p.channels; c++) {
            p.gain[c] = 50 + 10 * real();
            p.offset[c] = 300 * real();
        }
        us_cu_place places[BATCH];
        pick_tiles(&p, places);
        float *want = random_floats(n, 1), *got = room(n * 4);
        us_cu_run run = {.active = active}, *there = up(&run, sizeof run);
        p.band = up(want, n * 4);
        for (int sample = 0; sample < p.samples; sample++) {
            size_t n_head = (size_t)(p.head.at + BATCH * p.head.stride);
            float *head = random_floats(n_head, 3);
            for (int s = 0; s < BATCH; s++) {
                places[s].sample = sample;
            }
            us_cu_place *where = up(places, sizeof places);
            us_cu_env env = {.run = there, .batch = BATCH, .half = half, .arena = elements_up(head, n_head, half)};
            ok(us_cu_stitch(stream, &env, &p, where));
            elements_down(head, env.arena, n_head, half);
            for (int s = 0; s < active; s++) {
                add_tile(&p, &places[s], head + p.head.at + s * p.head.stride, want);
            }
            us_device_free(where);
            free(head);
        }
        down(got, p.band, n * 4);
        same_floats(got, want, n, ldexp(1024, -24));    // gain (60) times a sum of 4 means (12), two roundings saved
        us_device_free(there);
        free(want);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_gather_any),   cmocka_unit_test(test_gather_tiles),
        cmocka_unit_test(test_stitch),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
