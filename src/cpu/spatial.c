// The spatial ops on the CPU: loops over pixels with the channels innermost. Which pixel reads which, and with what
// weight, is in kernels/spatial.h.
#include "cpu/spatial.h"

#include <string.h>

#include "kernels/spatial.h"

static const float *pixel(const float *base, int w, int c, int y, int x)
{
    return base + ((ptrdiff_t)y * w + x) * c;
}

static float *pixel_at(float *base, int w, int c, int y, int x)
{
    return base + ((ptrdiff_t)y * w + x) * c;
}

// ---- Max pooling ----

static void pool(const us_spatial *s, const float *src, float *dst)
{
    for (int y = 0; y < s->out.h; y++) {
        for (int x = 0; x < s->out.w; x++) {
            int iy = 2 * (y + s->out.y0) - s->in.y0, ix = 2 * (x + s->out.x0) - s->in.x0;
            const float *a = pixel(src, s->in.w, s->c, iy, ix), *b = a + s->c;
            const float *c = pixel(src, s->in.w, s->c, iy + 1, ix), *d = c + s->c;
            float *out = pixel_at(dst, s->out.w, s->c, y, x);
            for (int i = 0; i < s->c; i++) {
                float top = b[i] > a[i] ? b[i] : a[i], bottom = d[i] > c[i] ? d[i] : c[i];
                out[i] = bottom > top ? bottom : top;
            }
        }
    }
}

static void pool_back(const us_spatial *s, const float *g, const float *x, float *dst)
{
    memset(dst, 0, (size_t)s->in_h * (size_t)s->in_w * (size_t)s->c * sizeof *dst);     // odd sizes leave a rest
    for (int y = 0; y < s->out_h; y++) {
        for (int q = 0; q < s->out_w; q++) {
            const float *v[4], *from = pixel(g, s->out_w, s->c, y, q);
            float *to[4];
            for (int k = 0; k < 4; k++) {
                v[k] = pixel(x, s->in_w, s->c, 2 * y + k / 2, 2 * q + k % 2);
                to[k] = pixel_at(dst, s->in_w, s->c, 2 * y + k / 2, 2 * q + k % 2);
            }
            for (int i = 0; i < s->c; i++) {
                to[us_pool_first(v[0][i], v[1][i], v[2][i], v[3][i])][i] = from[i];
            }
        }
    }
}

// ---- Bilinear up-sampling ----

static int inside(int o, int n)
{
    return o >= 0 && o < 2 * n;
}

static void linear(const us_spatial *s, const float *src, float *dst)
{
    for (int y = 0; y < s->out.h; y++) {
        int oy = y + s->out.y0 + s->dy;
        us_linear v = us_linear_at(inside(oy, s->in_h) ? oy : 0, s->in_h);
        for (int x = 0; x < s->out.w; x++) {
            int ox = x + s->out.x0 + s->dx;
            float *out = pixel_at(dst, s->out.w, s->c, y, x);
            if (!inside(oy, s->in_h) || !inside(ox, s->in_w)) {
                memset(out, 0, (size_t)s->c * sizeof *out);
                continue;
            }
            us_linear u = us_linear_at(ox, s->in_w);
            const float *a = pixel(src, s->in.w, s->c, v.i0 - s->in.y0, u.i0 - s->in.x0);
            const float *b = pixel(src, s->in.w, s->c, v.i0 - s->in.y0, u.i1 - s->in.x0);
            const float *c = pixel(src, s->in.w, s->c, v.i1 - s->in.y0, u.i0 - s->in.x0);
            const float *d = pixel(src, s->in.w, s->c, v.i1 - s->in.y0, u.i1 - s->in.x0);
            float wa = (1 - v.f) * (1 - u.f), wb = (1 - v.f) * u.f, wc = v.f * (1 - u.f), wd = v.f * u.f;
            for (int i = 0; i < s->c; i++) {
                out[i] = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
            }
        }
    }
}

static void linear_back(const us_spatial *s, const float *g, float *dst)
{
    for (int y = 0; y < s->in_h; y++) {
        int y0, y1;
        us_linear_reach(y, s->in_h, &y0, &y1);
        for (int x = 0; x < s->in_w; x++) {
            int x0, x1;
            float *to = pixel_at(dst, s->in_w, s->c, y, x);
            us_linear_reach(x, s->in_w, &x0, &x1);
            memset(to, 0, (size_t)s->c * sizeof *to);
            for (int oy = y0; oy <= y1; oy++) {
                for (int ox = x0; ox <= x1; ox++) {
                    int gy = oy - s->dy, gx = ox - s->dx;
                    float w = us_linear_weight(oy, y, s->in_h) * us_linear_weight(ox, x, s->in_w);
                    if (w == 0 || gy < 0 || gy >= s->out_h || gx < 0 || gx >= s->out_w) {
                        continue;
                    }
                    const float *from = pixel(g, s->out_w, s->c, gy, gx);
                    for (int i = 0; i < s->c; i++) {
                        to[i] += w * from[i];
                    }
                }
            }
        }
    }
}

// ---- Repetition and reflection ----

static void nearest(const us_spatial *s, const float *src, float *dst)
{
    for (int y = 0; y < s->out.h; y++) {
        for (int x = 0; x < s->out.w; x++) {
            int iy = (y + s->out.y0) / s->k - s->in.y0, ix = (x + s->out.x0) / s->k - s->in.x0;
            memcpy(pixel_at(dst, s->out.w, s->c, y, x), pixel(src, s->in.w, s->c, iy, ix),
                   (size_t)s->c * sizeof *dst);
        }
    }
}

static void reflect(const us_spatial *s, const float *src, float *dst)
{
    for (int y = 0; y < s->out_h; y++) {
        for (int x = 0; x < s->out_w; x++) {
            int iy = us_reflect_at(y, s->in_h, s->k), ix = us_reflect_at(x, s->in_w, s->k);
            memcpy(pixel_at(dst, s->out_w, s->c, y, x), pixel(src, s->in_w, s->c, iy, ix),
                   (size_t)s->c * sizeof *dst);
        }
    }
}

// Both: every output pixel adds to the one input pixel that it repeats.
static void copies_back(const us_spatial *s, const float *g, float *dst)
{
    memset(dst, 0, (size_t)s->in_h * (size_t)s->in_w * (size_t)s->c * sizeof *dst);
    for (int y = 0; y < s->out_h; y++) {
        for (int x = 0; x < s->out_w; x++) {
            int mirror = s->op == US_OP_REFLECT;
            int iy = mirror ? us_reflect_at(y, s->in_h, s->k) : y / s->k;
            int ix = mirror ? us_reflect_at(x, s->in_w, s->k) : x / s->k;
            const float *from = pixel(g, s->out_w, s->c, y, x);
            float *to = pixel_at(dst, s->in_w, s->c, iy, ix);
            for (int i = 0; i < s->c; i++) {
                to[i] += from[i];
            }
        }
    }
}

// ---- Recurrences ----

// A line of pixels of one direction: pixel number i of `line`.
typedef struct lines {
    int along_rows, from_end, length, count;
    int h, w;
} lines;

static lines lines_of(const us_spatial *s, int direction)
{
    int rows = us_scan_along_rows(direction);
    return (lines){rows, us_scan_from_end(direction), rows ? s->in_h : s->in_w, rows ? s->in_w : s->in_h, s->in_h,
                   s->in_w};
}

static int place_in(const lines *l, int line, int i)        // row-major pixel
{
    int at = l->from_end ? l->length - 1 - i : i;
    return l->along_rows ? at * l->w + line : line * l->w + at;
}

static void scan(const us_spatial *s, const float *planes, const float *src, float *dst)
{
    int c = s->c;
    for (int d = 0; d < 4; d++) {
        const float *plane = planes + (ptrdiff_t)d * s->in_h * s->in_w;
        lines l = lines_of(s, d);
        int slot = us_scan_slot(d) * c;
        for (int line = 0; line < l.count; line++) {
            int at = place_in(&l, line, 0);
            memcpy(dst + (ptrdiff_t)at * 4 * c + slot, src + (ptrdiff_t)at * c, (size_t)c * sizeof *dst);
            for (int i = 1; i < l.length; i++) {
                int before = at;
                at = place_in(&l, line, i);
                float gate = us_sigmoid(plane[before]);
                const float *x = src + (ptrdiff_t)at * c, *last = dst + (ptrdiff_t)before * 4 * c + slot;
                float *out = dst + (ptrdiff_t)at * 4 * c + slot;
                for (int j = 0; j < c; j++) {
                    out[j] = us_scan_next(x[j], last[j], gate);
                }
            }
        }
    }
}

// G runs backwards along a line in `carry`: carry[j] = gradient of y at the pixel in hand.
static void scan_line_back(const us_spatial *s, const lines *l, int line, int d, const float *plane, const float *g,
                           const float *x, const float *y, float *dst, float *partial)
{
    int c = s->c, slot = us_scan_slot(d) * c;
    for (int j = 0; j < c; j++) {       // channel by channel: no memory for the carry, lines are short
        float carry = 0;
        for (int i = l->length - 1; i >= 0; i--) {
            int at = place_in(l, line, i), before = i > 0 ? place_in(l, line, i - 1) : -1;
            float total = g[(ptrdiff_t)at * 4 * c + slot + j] + carry;
            if (before < 0) {
                dst[(ptrdiff_t)at * c + j] += total;
                continue;
            }
            float gate = us_sigmoid(plane[before]), last = y[(ptrdiff_t)before * 4 * c + slot + j];
            total = us_scan_passes(x[(ptrdiff_t)at * c + j], last, gate) ? total : 0;
            dst[(ptrdiff_t)at * c + j] += total;
            partial[4 * before + d] += us_sigmoid_grad(total * last, gate);
            carry = gate * total;
        }
    }
}

static void scan_back(const us_spatial *s, const float *planes, const float *g, const float *x, const float *y,
                      float *dst, float *partial)
{
    size_t pixels = (size_t)s->in_h * (size_t)s->in_w;
    memset(dst, 0, pixels * (size_t)s->c * sizeof *dst);
    memset(partial, 0, pixels * 4 * sizeof *partial);
    for (int d = 0; d < 4; d++) {
        lines l = lines_of(s, d);
        for (int line = 0; line < l.count; line++) {
            scan_line_back(s, &l, line, d, planes + (ptrdiff_t)d * (ptrdiff_t)pixels, g, x, y, dst, partial);
        }
    }
}

// ---- Averages over the plane ----

// The first half of the channels passes, the second becomes its average; the same both ways.
static void level(const us_spatial *s, const float *src, float *dst)
{
    int half = s->c / 2;
    ptrdiff_t pixels = (ptrdiff_t)s->in_h * s->in_w;
    memcpy(dst, src, (size_t)pixels * (size_t)s->c * sizeof *dst);
    double all = 0;
    for (int c = half; c < s->c; c++) {
        double sum = 0;
        for (ptrdiff_t i = 0; i < pixels; i++) {
            sum += (double)src[i * s->c + c];
        }
        all += sum;
        for (ptrdiff_t i = 0; i < pixels && !s->k; i++) {
            dst[i * s->c + c] = (float)(sum / (double)pixels);
        }
    }
    for (ptrdiff_t i = 0; i < pixels && s->k; i++) {
        for (int c = half; c < s->c; c++) {
            dst[i * s->c + c] = (float)(all / ((double)pixels * half));
        }
    }
}

void us_spatial_run(const us_spatial *s, const float *planes, const float *src, float *dst)
{
    switch (s->op) {
    case US_OP_POOL: pool(s, src, dst); break;
    case US_OP_LINEAR: linear(s, src, dst); break;
    case US_OP_NEAREST: nearest(s, src, dst); break;
    case US_OP_REFLECT: reflect(s, src, dst); break;
    case US_OP_SCAN: scan(s, planes, src, dst); break;
    default: level(s, src, dst); break;
    }
}

void us_spatial_run_back(const us_spatial *s, const float *planes, const float *g, const float *x, const float *y,
                         float *dst, float *partial)
{
    switch (s->op) {
    case US_OP_POOL: pool_back(s, g, x, dst); break;
    case US_OP_LINEAR: linear_back(s, g, dst); break;
    case US_OP_NEAREST:
    case US_OP_REFLECT: copies_back(s, g, dst); break;
    case US_OP_SCAN: scan_back(s, planes, g, x, y, dst, partial); break;
    default: level(s, g, dst); break;
    }
}
