// Weight gradient of stride-1 convolutions without oneDNN (weight_isa.c), and its packed layout:
// [co/16][ci/4][tap][4][16], rounded up with zeros, then co bias gradients.
#ifndef US_WEIGHT_H
#define US_WEIGHT_H

#include "plan/plan.h"

typedef struct us_weight_shape {
    int ci, co, k, h, w;
} us_weight_shape;

static inline int us_weight_fits(const us_conv *c)
{
    return !c->transposed && c->stride == 1 && (c->k == 1 || c->k == 3) && c->pad == c->k / 2 && c->ci >= 4 &&
           c->co >= 8;
}

static inline us_weight_shape us_weight_shape_of(const us_conv *c)
{
    us_weight_shape s = {c->ci, c->co, c->k, c->out_h, c->out_w};
    return s;
}

static inline int64_t us_weight_floats(const us_weight_shape *s)
{
    return (int64_t)((s->ci + 3) / 4) * ((s->co + 15) / 16) * s->k * s->k * 64;
}

// Rows of a block: about 256 pixels, so that a packed gradient stays in the first cache.
static inline int us_weight_rows(const us_weight_shape *s)
{
    int rows = 256 / s->w;
    return rows < 1 ? 1 : rows > s->h ? s->h : rows;
}

static inline int64_t us_weight_gradient_floats(const us_weight_shape *s)
{
    return (int64_t)us_weight_rows(s) * s->w * 16;
}

static inline int64_t us_weight_scratch_floats(const us_weight_shape *s)
{
    int pad = s->k / 2;
    return us_weight_gradient_floats(s) +
           (int64_t)((s->ci + 3) / 4) * (us_weight_rows(s) + 2 * pad) * (s->w + 2 * pad) * 4;
}

typedef void (*us_weight_fn)(const us_weight_shape *shape, const float *x, const float *g, float *partial,
                             float *scratch);
us_weight_fn us_weight_select(void);

// Packed -> published layout (out, in, k, k); adds: to what is there. bias NULL: none.
void us_weight_unpack(const us_weight_shape *shape, const float *partial, int adds, float *weights, float *bias);

#endif
