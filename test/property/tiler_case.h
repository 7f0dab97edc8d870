// For the tests of the tiler: random draws, small models, views, and a stream that checks the tiler's rules.
#ifndef US_TILER_CASE_H
#define US_TILER_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/philox.h"
#include "tile/tile.h"

#define assert_ok(call)                                                                           \
    do {                                                                                          \
        usplit_status status_ = (call);                                                           \
        if (status_ != USPLIT_OK) {                                                               \
            fail_msg("%s: %d, %s", #call, status_, usplit_error_message());                       \
        }                                                                                         \
    } while (0)

static uint32_t draw_seed, draw_at;

static inline int64_t draw(int64_t low, int64_t high)
{
    us_u32x4 r = us_philox(draw_seed, draw_at++, 0, 0, 0);
    return low + (int64_t)(r.v[0] % (uint64_t)(high - low + 1));
}

static inline void begin_case(uint32_t seed)
{
    draw_seed = seed;
    draw_at = 0;
    print_message("# seed %u\n", (unsigned)seed);
}

static inline float *random_pixels(int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) {
        p[i] = (float)draw(0, 4000) * 0.25f;
    }
    return p;
}

// ---- Models -----------------------------------------------------------------------------------------

static inline usplit_context *make_context(int threads)
{
    usplit_context *c = NULL;
    usplit_context_options o;
    assert_ok(usplit_context_options_init(&o, sizeof o));
    o.threads = threads;
    o.device = "cpu";
    assert_ok(usplit_context_create(&c, &o));
    return c;
}

// Releases the context: the model keeps it.
static inline usplit_model *make_model(usplit_context *c, int family, int variant, int levels, int patch)
{
    usplit_model_options o = {.struct_size = sizeof o, .family = family, .variant = variant, .levels = levels,
                              .filters = 4, .patch = patch, .z_dims = {4}};
    us_net_config config;
    usplit_model *m = NULL;
    assert_ok(us_net_config_from(&config, &o));
    assert_ok(us_model_new(&m, c, &config));
    us_graph_init_params(m->graph, 7, m->params);
    m->normalisation.clip_value = 900;
    m->normalisation.input_mean = 400;
    m->normalisation.input_deviation = 250;
    for (int k = 0; k < m->graph->config.channels; k++) {
        m->normalisation.target_mean[k] = 300 + 50 * k;
        m->normalisation.target_deviation[k] = 100 + 20 * k;
    }
    m->has_normalisation = 1;
    usplit_context_free(c);
    return m;
}

static inline usplit_tiler_options make_options(int tiling, int pad, int cover)
{
    usplit_tiler_options o;
    assert_ok(usplit_tiler_options_init(&o, sizeof o));
    o.tiling = tiling;
    o.pad = pad;
    o.cover = cover;
    return o;
}

static inline usplit_tiler *make_tiler(usplit_model *m, const usplit_tiler_options *o)
{
    usplit_tiler *t = NULL;
    assert_ok(usplit_tiler_create(&t, m, o));
    return t;
}

static inline usplit_image view(void *pixels, int64_t frames, int64_t h, int64_t w, int64_t channels)
{
    usplit_image v;
    assert_ok(usplit_image_init(&v, sizeof v, pixels, USPLIT_TYPE_F32, frames, h, w, channels));
    v.stride_column = 4;                // planes
    v.stride_row = 4 * w;
    v.stride_channel = 4 * w * h;
    return v;
}

// Runs in memory; the result's planes, to be freed.
static inline float *run_planes(usplit_tiler *t, float *pixels, int64_t frames, int64_t h, int64_t w,
                                usplit_tiler_result *result)
{
    float *out = malloc((size_t)(frames * t->planes * h * w) * sizeof *out);
    usplit_image src = view(pixels, frames, h, w, 1), dst = view(out, frames, h, w, t->planes);
    assert_ok(usplit_tiler_run(t, &src, &dst, result, NULL, NULL));
    return out;
}

// ---- Pyramid of whole planes ------------------------------------------------------------------------

static inline void make_pyramid(us_plane *levels, float **data, int coarsest, float *pixels, int64_t h,
                                int64_t w, float clip)
{
    data[0] = pixels;
    levels[0] = (us_plane){pixels, h, w};
    for (int64_t i = 0; i < h * w; i++) {
        pixels[i] = pixels[i] > clip ? clip : pixels[i];
    }
    for (int k = 1; k <= coarsest; k++) {
        data[k] = malloc((size_t)((h >> k) * (w >> k)) * sizeof(float));
        levels[k] = (us_plane){data[k], h >> k, w >> k};
        assert_ok(us_patch_halve(NULL, levels[k - 1], data[k]));
    }
}

// ---- A stream that checks the rules -----------------------------------------------------------------

typedef struct stream {
    const float *pixels;
    float *out;                         // planes
    int64_t h, w, channels, next_row;
    int64_t rows_read;
    int out_of_order, n_writes, n_reads;
    int fail_read, fail_write;          // number of the call that fails; 0: none
    usplit_tiler *tiler;                // called back into, when given
    usplit_status inner;
    size_t allocations;                 // at the second write
} stream;

static inline int32_t stream_read(int64_t row, int64_t n, float *dst, void *user)
{
    stream *s = user;
    s->n_reads++;
    s->rows_read += n;
    if (row < 0 || n < 1 || row + n > s->h || s->n_reads == s->fail_read) {
        return 5;
    }
    memcpy(dst, s->pixels + row * s->w, (size_t)(n * s->w) * sizeof *dst);
    if (s->tiler) {
        s->inner = usplit_tiler_run_stream(s->tiler, NULL, NULL, NULL, NULL);
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        if (usplit_tiler_plan(s->tiler, 64, 64, &cost) != USPLIT_ERR_BUSY) {
            s->inner = USPLIT_OK;
        }
    }
    return 0;
}

static inline int32_t stream_write(int64_t row, int64_t n, const float *src, void *user)
{
    stream *s = user;
    s->n_writes++;
    s->out_of_order |= row != s->next_row || n < 1 || row + n > s->h;
    if (s->out_of_order || s->n_writes == s->fail_write) {
        return 6;
    }
    for (int64_t c = 0; c < s->channels; c++) {
        memcpy(s->out + (c * s->h + row) * s->w, src + c * n * s->w, (size_t)(n * s->w) * sizeof *src);
    }
    s->next_row += n;
    return 0;
}

static inline stream make_stream(const float *pixels, int64_t h, int64_t w, int64_t channels)
{
    float *out = calloc((size_t)(channels * h * w), sizeof *out);
    return (stream){.pixels = pixels, .out = out, .h = h, .w = w, .channels = channels};
}

static inline usplit_status run_stream(usplit_tiler *t, stream *s, usplit_tiler_result *result,
                                       usplit_progress_fn progress, void *user)
{
    usplit_tiler_stream u = {.struct_size = sizeof u, .height = s->h, .width = s->w, .read = stream_read,
                             .write = stream_write, .user = s};
    s->next_row = 0;
    return usplit_tiler_run_stream(t, &u, result, progress, user);
}

// ---- What a run holds and reports -------------------------------------------------------------------

static inline int64_t plan_bytes(const usplit_tiler *t, int64_t h, int64_t w)
{
    usplit_tiler_cost c = {.struct_size = sizeof c};
    assert_ok(usplit_tiler_plan(t, h, w, &c));
    return c.host_bytes;
}

typedef struct live_range {
    size_t before, most;
    size_t count_first, count_last;     // allocations made, at the first and at the last report
    int reports;
    double seconds_left;
    int64_t last_done, total;
} live_range;

static inline int32_t watch_live(const usplit_progress *p, void *user)
{
    live_range *l = user;
    size_t live = us_alloc_live();
    l->most = live > l->most ? live : l->most;
    l->reports++;
    l->seconds_left = p->seconds_left;
    assert_true(p->phase == USPLIT_PHASE_TILE && p->done > l->last_done && p->done <= p->total);
    l->last_done = p->done;
    l->total = p->total;
    return 0;
}

#endif
