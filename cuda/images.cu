// Patches out of device planes, tiles into device planes: one thread per pixel of a patch, and per pixel and
// channel of a tile.
#include "gpu.h"

#include "images.h"
#include "kernels/place.h"

enum { THREADS = 256 };

static int64_t blocks_of(int64_t n)
{
    return (n + THREADS - 1) / THREADS;
}

// ---- Cutting ----

// Where a pixel of a crop comes from: floats from the start of a channel, or -1: constant padding.
US_DEVICE int64_t find_pixel(const us_cu_plane *p, const us_cu_gather_plan *g, const us_cu_place *place, int level,
                             int i, int j)
{
    us_span rows = us_place_span(us_place_context(place->y, g->size, level), g->size, p->height, g->reflect);
    us_span columns = us_place_span(us_place_context(place->x, g->size, level), g->size, p->width, g->reflect);
    int64_t y = us_place_source(rows, i, g->reflect), x = us_place_source(columns, j, g->reflect);
    return y < 0 || x < 0 ? -1 : (y - p->first) * p->width + x;
}

// The mean of the channels.
US_DEVICE float mix(const us_cu_plane *p, int channels, int64_t at)
{
    const float share = 1.0f / (float)channels;
    float sum = share * p->data[at];
    for (int c = 1; c < channels; c++) {
        sum += share * p->data[c * p->stride + at];
    }
    return sum;
}

// Of a sample that is not active (program.h).
template <typename T> US_DEVICE void clear_pixel(T *base, int pixel, int channels)
{
    for (int c = 0; c < channels; c++) {
        us_from_float(0.0f, &base[(int64_t)pixel * channels + c]);
    }
}

// The pixel of a patch that a thread makes.
typedef struct us_cut {
    int sample, pixel;
    int level, target;          // target: 1: of all channels, at level 0
} us_cut;

// Block: sample, then part of the patch (level, or the target after the last level), then stretch of pixels. Where
// the sample's part begins; NULL: there is nothing to do, or it is done.
template <typename T>
US_DEVICE T *begin_cut(const us_cu_gather_plan *g, const us_cu_run *run, T *arena, int stretches, us_cut *cut)
{
    int parts = g->levels + 1, part = us_block() / stretches % parts;
    cut->sample = us_block() / stretches / parts;
    cut->pixel = us_block() % stretches * us_threads() + us_thread();
    cut->target = part == g->levels;
    cut->level = cut->target ? 0 : part;
    const us_cu_tensor to = cut->target ? g->target : g->input[part];
    if (to.at < 0 || cut->pixel >= g->size * g->size) {
        return NULL;
    }
    T *dst = arena + to.at + cut->sample * to.stride;
    if (cut->sample >= run->active) {
        clear_pixel(dst, cut->pixel, cut->target ? g->channels : 1);
        return NULL;
    }
    return dst;
}

template <typename T>
US_KERNEL(images_gather)(us_cu_gather_plan g, const us_cu_place *places, const us_cu_run *run, T *arena, int stretches)
{
    us_cut cut;
    T *dst = begin_cut(&g, run, arena, stretches, &cut);
    if (!dst) {
        return;
    }
    const us_cu_place place = places[cut.sample];
    const us_cu_plane plane = g.planes[(int64_t)place.frame * g.levels + cut.level];
    int64_t at = find_pixel(&plane, &g, &place, cut.level, cut.pixel / g.size, cut.pixel % g.size);
    if (!cut.target) {
        float grey = at < 0 ? g.padding_value : mix(&plane, g.channels, at);
        us_from_float(us_place_normal(grey, g.mean, g.inverse_deviation), &dst[cut.pixel]);
        return;
    }
    for (int c = 0; c < g.channels; c++) {
        float grey = at < 0 ? g.padding_value : plane.data[c * plane.stride + at];
        us_from_float(us_place_normal(grey, g.target_mean[c], g.target_inverse_deviation[c]),
                      &dst[(int64_t)cut.pixel * g.channels + c]);
    }
}

// A channel's grey level at pixel (i, j) of its crop.
US_DEVICE float find_grey(const us_cu_gather_plan *g, const us_place *place, int channel, int level, int64_t i, int64_t j)
{
    const us_cu_plane *native = &g->planes[place->frame[channel] * g->levels], *p = native + level;
    us_edge rows = us_place_edge(place->y[channel], g->size, level, native->height, p->height, g->reflect, g->exact);
    us_edge columns = us_place_edge(place->x[channel], g->size, level, native->width, p->width, g->reflect, g->exact);
    const float *data = p->data + (g->held > 1 ? channel : 0) * p->stride;     // an unpaired frame has one channel
    return us_place_pixel(data, p->first, p->width, &rows, &columns, i, j, g->reflect, g->padding_value);
}

// As images_gather, of any us_place.
template <typename T>
US_KERNEL(images_mix)(us_cu_gather_plan g, const us_place *places, const us_cu_run *run, T *arena, int stretches)
{
    us_cut cut;
    T *dst = begin_cut(&g, run, arena, stretches, &cut);
    if (!dst) {
        return;
    }
    const us_place *place = &places[cut.sample];
    int64_t i, j;
    us_place_turn(place->turn, g.size, cut.pixel / g.size, cut.pixel % g.size, &i, &j);
    if (!cut.target) {
        float grey = 0;
        for (int c = 0; c < US_PLACE_CHANNELS; c++) {
            grey += place->weight[c] == 0 ? 0.0f : place->weight[c] * find_grey(&g, place, c, cut.level, i, j);
        }
        us_from_float(us_place_normal(grey, g.mean, g.inverse_deviation), &dst[cut.pixel]);
        return;
    }
    for (int c = 0; c < g.channels; c++) {
        float grey = place->gain[c] * find_grey(&g, place, c, 0, i, j);
        us_from_float(us_place_normal(grey, g.target_mean[c], g.target_inverse_deviation[c]),
                      &dst[(int64_t)cut.pixel * g.channels + c]);
    }
}

const char *us_cu_gather(us_stream *s, const us_cu_env *env, const us_cu_gather_plan *plan, const us_cu_place *places,
                         const us_place *any)
{
    int64_t stretches = blocks_of((int64_t)plan->size * plan->size);
    int64_t blocks = env->batch * (plan->levels + 1) * stretches;
    if (plan->any && env->half) {
        return US_LAUNCH(images_mix<us_half>, blocks, THREADS, 0, s, *plan, any, env->run, (us_half *)env->arena,
                         (int)stretches);
    }
    if (plan->any) {
        return US_LAUNCH(images_mix<float>, blocks, THREADS, 0, s, *plan, any, env->run, (float *)env->arena,
                         (int)stretches);
    }
    if (env->half) {
        return US_LAUNCH(images_gather<us_half>, blocks, THREADS, 0, s, *plan, places, env->run,
                         (us_half *)env->arena, (int)stretches);
    }
    return US_LAUNCH(images_gather<float>, blocks, THREADS, 0, s, *plan, places, env->run, (float *)env->arena,
                     (int)stretches);
}

// ---- Stitching ----

// Block: tile, then stretch of [channel][row][column].
template <typename T>
US_KERNEL(images_stitch)(us_cu_stitch_plan p, const us_cu_place *places, const us_cu_run *run, const T *arena,
                         int stretches)
{
    int tile = us_block() / stretches, at = us_block() % stretches * us_threads() + us_thread();
    int j = at % p.inner, i = at / p.inner % p.inner, c = at / p.inner / p.inner;
    if (tile >= run->active || c >= p.channels) {
        return;
    }
    const us_cu_place place = places[tile];
    int64_t y = place.y + i, x = place.x + j;
    if (y < 0 || x < 0 || y >= p.rows || x >= p.width) {
        return;
    }
    const T *src = arena + p.head.at + tile * p.head.stride + (int64_t)(i * p.inner + j) * p.values + c;
    float *dst = p.band + (c * p.rows + y) * p.width + x;
    *dst = us_place_add(*dst, us_to_float(*src), place.sample == 0, place.sample == p.samples - 1,
                        1.0f / (float)p.samples, p.gain[c], p.offset[c]);
}

const char *us_cu_stitch(us_stream *s, const us_cu_env *env, const us_cu_stitch_plan *plan, const us_cu_place *places)
{
    int64_t stretches = blocks_of((int64_t)plan->inner * plan->inner * plan->channels);
    int64_t blocks = env->batch * stretches;
    if (env->half) {
        return US_LAUNCH(images_stitch<us_half>, blocks, THREADS, 0, s, *plan, places, env->run,
                         (const us_half *)env->arena, (int)stretches);
    }
    return US_LAUNCH(images_stitch<float>, blocks, THREADS, 0, s, *plan, places, env->run,
                     (const float *)env->arena, (int)stretches);
}
