// Cutting one patch out of a plane: which pixels it holds, what lies outside the image, normalisation.
// Runs for every patch of every training step and every tile, so whole rows are copied with plain loops
// that vectorise, and only the pixels outside the image cost an index computation. Halving the planes
// is in halve.c.
#include "patch/patch.h"

#include <string.h>

// The arithmetic of one cut: dst = (mean of the planes - mean) * scale, dst pixels `step` apart.
typedef struct cut {
    const us_plane *planes;
    int n_planes;
    float mean, scale;
    float outside; // normalised value of constant padding
    int reflect;
    int64_t size, step;
} cut;

// n pixels of row y, columns from x on. Called with constant step 1 for the contiguous case, so that the
// compiler makes a vector loop of it.
static inline void read_pixels(const cut *c, int64_t y, int64_t x, int64_t n, float *restrict dst,
                               int64_t step)
{
    const float mean = c->mean, scale = c->scale;
    const float *restrict p = c->planes[0].data + y * c->planes[0].width + x;
    if (c->n_planes == 1) {
        for (int64_t i = 0; i < n; i++) {
            dst[i * step] = us_place_normal(p[i], mean, scale);
        }
    } else if (c->n_planes == 2) {
        const float *restrict q = c->planes[1].data + y * c->planes[1].width + x;
        for (int64_t i = 0; i < n; i++) {
            dst[i * step] = us_place_normal(0.5f * p[i] + 0.5f * q[i], mean, scale);
        }
    } else {
        const float share = 1.0f / (float)c->n_planes;
        for (int64_t i = 0; i < n; i++) {
            dst[i * step] = share * p[i];
        }
        for (int k = 1; k < c->n_planes; k++) {
            const float *restrict q = c->planes[k].data + y * c->planes[k].width + x;
            for (int64_t i = 0; i < n; i++) {
                dst[i * step] += share * q[i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            dst[i * step] = us_place_normal(dst[i * step], mean, scale);
        }
    }
}

// The pixels of a row of the crop before and after its inside part: mirrored from that part, which is
// already in dst, or constant.
static void pad_row(const cut *c, us_span columns, float *dst)
{
    int64_t step = c->step;
    int64_t end = columns.dst0 + columns.n;
    for (int64_t i = 0; i < c->size; i++) {
        if (i == columns.dst0) {
            i = end; // skip the inside part
            if (i >= c->size) {
                break;
            }
        }
        if (c->reflect) {
            dst[i * step] = dst[(columns.dst0 + us_place_mirror(i - columns.dst0, columns.n)) * step];
        } else {
            dst[i * step] = c->outside;
        }
    }
}

static void fill_row(const cut *c, float *dst)
{
    for (int64_t i = 0; i < c->size; i++) {
        dst[i * c->step] = c->outside;
    }
}

static void copy_row(const cut *c, const float *src, float *dst)
{
    if (c->step == 1) {
        memcpy(dst, src, (size_t)c->size * sizeof *dst);
        return;
    }
    for (int64_t i = 0; i < c->size; i++) {
        dst[i * c->step] = src[i * c->step];
    }
}

void us_patch_cut_mean(const us_plane *planes, int n_planes, int64_t y0, int64_t x0, int64_t size,
                       int32_t padding, float value, float mean, float inverse_deviation, float *dst,
                       int64_t step)
{
    cut c = {planes,
             n_planes,
             mean,
             inverse_deviation,
             us_place_normal(value, mean, inverse_deviation),
             padding == USPLIT_PADDING_REFLECT,
             size,
             step};
    us_span rows = us_place_span(y0, size, planes[0].height, c.reflect);
    us_span columns = us_place_span(x0, size, planes[0].width, c.reflect);
    if (columns.n == 0) {
        rows.n = 0; // constant padding, nothing inside
    }
    for (int64_t i = 0; i < rows.n; i++) {
        float *row = dst + (rows.dst0 + i) * size * step;
        float *inside = row + columns.dst0 * step;
        if (step == 1) {
            read_pixels(&c, rows.src0 + i, columns.src0, columns.n, inside, 1);
        } else {
            read_pixels(&c, rows.src0 + i, columns.src0, columns.n, inside, step);
        }
        if (columns.n < size) {
            pad_row(&c, columns, row);
        }
    }
    for (int64_t i = 0; i < size && rows.n < size; i++) {
        float *row = dst + i * size * step;
        if (i >= rows.dst0 && i < rows.dst0 + rows.n) {
            continue;
        }
        if (c.reflect) {
            int64_t from = rows.dst0 + us_place_mirror(i - rows.dst0, rows.n);
            copy_row(&c, dst + from * size * step, row);
        } else {
            fill_row(&c, row);
        }
    }
}

void us_patch_cut(us_plane plane, int64_t y0, int64_t x0, int64_t size, int32_t padding, float value,
                  float mean, float inverse_deviation, float *dst)
{
    us_patch_cut_mean(&plane, 1, y0, x0, size, padding, value, mean, inverse_deviation, dst, 1);
}

void us_patch_mix(const us_patch_part *parts, int n_parts, int64_t size, int turn, int32_t padding, float value,
                  float mean, float inverse_deviation, float *dst, int64_t step)
{
    int reflect = padding == USPLIT_PADDING_REFLECT;
    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < size; j++) {
            float sum = 0;
            int64_t y, x;
            us_place_turn(turn, size, i, j, &y, &x);
            for (int p = 0; p < n_parts; p++) {
                const us_patch_part *part = &parts[p];
                sum += part->weight * us_place_pixel(part->data, part->first, part->width, &part->rows,
                                                     &part->columns, y, x, reflect, value);
            }
            dst[(i * size + j) * step] = us_place_normal(sum, mean, inverse_deviation);
        }
    }
}
