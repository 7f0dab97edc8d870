// Weight gradient of stride-1 convolutions (1x1 and 3x3 with zero padding), one sample. Compiled once per
// instruction set like map_isa.c. Measured on AVX2, 64 channels, 3x3, channels last: about twice oneDNN's rate.
//
//   dW[tap][ci][co] = sum over pixels of x[pixel + tap][ci] * g[pixel][co]
//
// A block of rows is packed so that four input channels, and sixteen output channels, of neighbouring pixels lie
// side by side; a tile of 4 x 16 sums then stays in registers while the pixels of the block pass by.
#include <stddef.h>
#include <string.h>

#include "cpu/weight.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define RUN JOIN(us_weight_run_, US_ISA)

void RUN(const us_weight_shape *s, const float *x, const float *g, float *partial, float *scratch);

typedef float v8 __attribute__((vector_size(32), aligned(4)));

// Rows [y0 - pad, y0 + rows + pad) with a border of zeros, as [ci/4][row][column][4].
static void pack_input(const us_weight_shape *s, const float *x, int y0, int rows, float *restrict xp)
{
    int pad = s->k / 2, width = s->w + 2 * pad, height = rows + 2 * pad;
    int groups = (s->ci + 3) / 4;
    memset(xp, 0, (size_t)groups * (size_t)height * (size_t)width * 4 * sizeof *xp);
    for (int r = 0; r < height; r++) {
        int y = y0 + r - pad;
        if (y < 0 || y >= s->h) {
            continue;
        }
        const float *src = x + (ptrdiff_t)y * s->w * s->ci;
        for (int c = 0; c < s->ci; c++) {
            float *dst = xp + (((ptrdiff_t)(c / 4) * height + r) * width + pad) * 4 + c % 4;
            for (int i = 0; i < s->w; i++) {
                dst[4 * i] = src[(ptrdiff_t)i * s->ci + c];
            }
        }
    }
}

// Sixteen channels of the gradient, side by side, and their sums for the bias.
static void pack_gradient(const us_weight_shape *s, const float *g, int y0, int pixels, int c0, float *restrict gp,
                          float *restrict bias)
{
    int n = s->co - c0 < 16 ? s->co - c0 : 16;
    const float *src = g + (ptrdiff_t)y0 * s->w * s->co + c0;
    float sum[16] = {0};
    for (int i = 0; i < pixels; i++, src += s->co, gp += 16) {
        for (int j = 0; j < n; j++) {
            gp[j] = src[j];
            sum[j] += src[j];
        }
        for (int j = n; j < 16; j++) {
            gp[j] = 0;
        }
    }
    for (int j = 0; j < n; j++) {
        bias[c0 + j] += sum[j];
    }
}

#define GET(p) (*(const v8 *)(const void *)(p))
#define PUT(p, v) (*(v8 *)(void *)(p) = (v))

// One tile over a block: xp points at the tap's first pixel of the four channels.
static void tile(const float *restrict xp, int row_step, const float *restrict gp, int rows, int w, float *restrict dw)
{
    v8 a0 = GET(dw), a1 = GET(dw + 8), b0 = GET(dw + 16), b1 = GET(dw + 24);
    v8 c0 = GET(dw + 32), c1 = GET(dw + 40), d0 = GET(dw + 48), d1 = GET(dw + 56);
    for (int r = 0; r < rows; r++) {
        const float *restrict p = xp + (ptrdiff_t)r * row_step;
        for (int i = 0; i < w; i++, p += 4, gp += 16) {
            v8 g0 = GET(gp), g1 = GET(gp + 8);
            a0 += p[0] * g0;
            a1 += p[0] * g1;
            b0 += p[1] * g0;
            b1 += p[1] * g1;
            c0 += p[2] * g0;
            c1 += p[2] * g1;
            d0 += p[3] * g0;
            d1 += p[3] * g1;
        }
    }
    PUT(dw, a0);
    PUT(dw + 8, a1);
    PUT(dw + 16, b0);
    PUT(dw + 24, b1);
    PUT(dw + 32, c0);
    PUT(dw + 40, c1);
    PUT(dw + 48, d0);
    PUT(dw + 56, d1);
}

void RUN(const us_weight_shape *s, const float *x, const float *g, float *partial, float *scratch)
{
    int groups = (s->ci + 3) / 4, blocks = (s->co + 15) / 16, taps = s->k * s->k, pad = s->k / 2;
    int step = us_weight_rows(s), width = s->w + 2 * pad;
    float *xp = scratch + us_weight_gradient_floats(s), *bias = partial + us_weight_floats(s);
    memset(partial, 0, (size_t)(us_weight_floats(s) + s->co) * sizeof *partial);
    for (int y0 = 0; y0 < s->h; y0 += step) {
        int rows = s->h - y0 < step ? s->h - y0 : step, height = rows + 2 * pad;
        pack_input(s, x, y0, rows, xp);
        for (int b = 0; b < blocks; b++) {
            pack_gradient(s, g, y0, rows * s->w, 16 * b, scratch, bias);
            for (int c = 0; c < groups; c++) {
                for (int t = 0; t < taps; t++) {
                    const float *first = xp + (((ptrdiff_t)c * height + t / s->k) * width + t % s->k) * 4;
                    tile(first, 4 * width, scratch, rows, s->w,
                         partial + (((ptrdiff_t)b * groups + c) * taps + t) * 64);
                }
            }
        }
    }
}
