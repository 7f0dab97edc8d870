// The spatial ops on the device: pooling, up-sampling, padding, recurrences, averages over the plane. Which pixel
// reads which, and with what weight, is in kernels/spatial.h; the CPU's way of the same is src/cpu/spatial.c.
//
// They go over the whole batch, like the convolutions (program.h).
//
// A thread owns up to eight neighbouring channels of a pixel, or of a line for the recurrences. Gradients are
// gathered: every element is written by one thread, which adds what reaches it in a fixed order.
#include "spatial.h"

#include "gpu.h"
#include "kernels/spatial.h"

enum { LANES = 8, THREADS = 256, MOST_THREADS = 1024, CHUNK = 32 };

// ---- Eight channels: one wide access where the channels are a multiple of eight, else one by one ----

template <class T> US_DEVICE void read8(const T *p, int n, int wide, float x[LANES])
{
    if (wide) {
        us_load8(p, x);
        return;
    }
    for (int l = 0; l < LANES; l++) {
        x[l] = l < n ? us_to_float(p[l]) : 0.0f;
    }
}

template <class T> US_DEVICE void write8(T *p, int n, int wide, const float x[LANES])
{
    if (wide) {
        us_store8(p, x);
        return;
    }
    for (int l = 0; l < LANES; l++) {
        if (l < n) {
            us_from_float(x[l], p + l);
        }
    }
}

US_DEVICE void clear8(float x[LANES])
{
    for (int l = 0; l < LANES; l++) {
        x[l] = 0.0f;
    }
}

US_DEVICE void add8(float sum[LANES], float weight, const float x[LANES])
{
    for (int l = 0; l < LANES; l++) {
        sum[l] += weight * x[l];
    }
}

// ---- A thread's pixel ----

typedef struct us_spot {
    int sample, y, x;           // in the plane that the launch goes over
    int c0, n, wide;            // its first channel; channels; are there eight at an address to read at once
    int works;                  // 0: nothing to do
} us_spot;

// Channel groups run fastest, then columns, rows, samples.
US_DEVICE us_spot spot_of(int batch, int h, int w, int c)
{
    int64_t at = (int64_t)us_block() * us_threads() + us_thread();
    int groups = (c + LANES - 1) / LANES;
    us_spot s;
    s.c0 = (int)(at % groups) * LANES;
    s.n = c - s.c0;
    s.wide = c % LANES == 0;
    at /= groups;
    s.x = (int)(at % w);
    s.y = (int)(at / w % h);
    s.sample = (int)(at / w / h);
    s.works = s.sample < batch;
    return s;
}

static int64_t spots(const us_cu_env *env, int h, int w, int c)
{
    int64_t n = (int64_t)env->batch * h * w * ((c + LANES - 1) / LANES);
    return (n + THREADS - 1) / THREADS;
}

// The thread's channels of pixel (y, x) of a plane h x w.
template <class T> US_DEVICE T *channels_at(T *base, const us_spot *p, int h, int w, int c, int y, int x)
{
    return base + (((int64_t)p->sample * h + y) * w + x) * c + p->c0;
}

// ---- Max pooling ----

template <class T> US_KERNEL(spatial_pool)(us_spatial s, int batch, const T *src, T *dst)
{
    us_spot p = spot_of(batch, s.out.h, s.out.w, s.c);
    float a[LANES], b[LANES], c[LANES], d[LANES];
    if (!p.works) {
        return;
    }
    int iy = 2 * (p.y + s.out.y0) - s.in.y0, ix = 2 * (p.x + s.out.x0) - s.in.x0;
    const T *from = channels_at(src, &p, s.in.h, s.in.w, s.c, iy, ix), *below = from + (int64_t)s.in.w * s.c;
    read8(from, p.n, p.wide, a);
    read8(from + s.c, p.n, p.wide, b);
    read8(below, p.n, p.wide, c);
    read8(below + s.c, p.n, p.wide, d);
    for (int l = 0; l < LANES; l++) {
        float top = b[l] > a[l] ? b[l] : a[l], bottom = d[l] > c[l] ? d[l] : c[l];
        a[l] = bottom > top ? bottom : top;
    }
    write8(channels_at(dst, &p, s.out.h, s.out.w, s.c, p.y, p.x), p.n, p.wide, a);
}

// A thread owns a window of four inputs; where the size is odd the last ones are incomplete, and read by nobody.
template <class T>
US_KERNEL(spatial_pool_back)(us_spatial s, int batch, const T *g, const T *x, T *dst)
{
    us_spot p = spot_of(batch, (s.in_h + 1) / 2, (s.in_w + 1) / 2, s.c);
    float v[4][LANES], from[LANES], to[LANES];
    if (!p.works) {
        return;
    }
    int whole = p.y < s.out_h && p.x < s.out_w;
    for (int k = 0; k < 4 && whole; k++) {
        read8(channels_at(x, &p, s.in_h, s.in_w, s.c, 2 * p.y + k / 2, 2 * p.x + k % 2), p.n, p.wide, v[k]);
    }
    if (whole) {
        read8(channels_at(g, &p, s.out_h, s.out_w, s.c, p.y, p.x), p.n, p.wide, from);
    }
    for (int k = 0; k < 4; k++) {
        int iy = 2 * p.y + k / 2, ix = 2 * p.x + k % 2;
        if (iy >= s.in_h || ix >= s.in_w) {
            continue;
        }
        for (int l = 0; l < LANES; l++) {
            to[l] = whole && us_pool_first(v[0][l], v[1][l], v[2][l], v[3][l]) == k ? from[l] : 0.0f;
        }
        write8(channels_at(dst, &p, s.in_h, s.in_w, s.c, iy, ix), p.n, p.wide, to);
    }
}

// ---- Bilinear up-sampling ----

template <class T> US_KERNEL(spatial_linear)(us_spatial s, int batch, const T *src, T *dst)
{
    us_spot p = spot_of(batch, s.out.h, s.out.w, s.c);
    float x[LANES], sum[LANES];
    if (!p.works) {
        return;
    }
    int oy = p.y + s.out.y0 + s.dy, ox = p.x + s.out.x0 + s.dx;
    clear8(sum);
    if (oy >= 0 && oy < 2 * s.in_h && ox >= 0 && ox < 2 * s.in_w) {
        us_linear v = us_linear_at(oy, s.in_h), u = us_linear_at(ox, s.in_w);
        for (int k = 0; k < 4; k++) {
            int iy = (k / 2 ? v.i1 : v.i0) - s.in.y0, ix = (k % 2 ? u.i1 : u.i0) - s.in.x0;
            read8(channels_at(src, &p, s.in.h, s.in.w, s.c, iy, ix), p.n, p.wide, x);
            add8(sum, (k / 2 ? v.f : 1 - v.f) * (k % 2 ? u.f : 1 - u.f), x);
        }
    }
    write8(channels_at(dst, &p, s.out.h, s.out.w, s.c, p.y, p.x), p.n, p.wide, sum);
}

template <class T> US_KERNEL(spatial_linear_back)(us_spatial s, int batch, const T *g, T *dst)
{
    us_spot p = spot_of(batch, s.in_h, s.in_w, s.c);
    float x[LANES], sum[LANES];
    int y0, y1, x0, x1;
    if (!p.works) {
        return;
    }
    us_linear_reach(p.y, s.in_h, &y0, &y1);
    us_linear_reach(p.x, s.in_w, &x0, &x1);
    clear8(sum);
    for (int oy = y0; oy <= y1; oy++) {
        int gy = oy - s.dy;
        float row = us_linear_weight(oy, p.y, s.in_h);
        for (int ox = x0; ox <= x1 && gy >= 0 && gy < s.out_h; ox++) {
            int gx = ox - s.dx;
            float weight = row * us_linear_weight(ox, p.x, s.in_w);
            if (weight != 0 && gx >= 0 && gx < s.out_w) {
                read8(channels_at(g, &p, s.out_h, s.out_w, s.c, gy, gx), p.n, p.wide, x);
                add8(sum, weight, x);
            }
        }
    }
    write8(channels_at(dst, &p, s.in_h, s.in_w, s.c, p.y, p.x), p.n, p.wide, sum);
}

// ---- Repetition and reflection ----

// Input that output o repeats, along an axis of n inputs.
US_DEVICE int copied_from(const us_spatial *s, int o, int n)
{
    return s->op == US_OP_REFLECT ? us_reflect_at(o, n, s->k) : o / s->k;
}

template <class T> US_KERNEL(spatial_copy)(us_spatial s, int batch, const T *src, T *dst)
{
    us_spot p = spot_of(batch, s.out.h, s.out.w, s.c);
    float x[LANES];
    if (!p.works) {
        return;
    }
    int iy = copied_from(&s, p.y + s.out.y0, s.in_h) - s.in.y0, ix = copied_from(&s, p.x + s.out.x0, s.in_w) - s.in.x0;
    read8(channels_at(src, &p, s.in.h, s.in.w, s.c, iy, ix), p.n, p.wide, x);
    write8(channels_at(dst, &p, s.out.h, s.out.w, s.c, p.y, p.x), p.n, p.wide, x);
}

// The j-th output in ascending order that repeats input i, of n_out outputs and n inputs; -1: there is no j-th, or it
// lies outside. j goes up to copies_of().
US_DEVICE int copy_number(const us_spatial *s, int i, int n, int n_out, int j)
{
    int o = s->k * i + j;
    if (s->op == US_OP_REFLECT) {
        o = us_reflect_copy(i, n, s->k, j);
    }
    return o < n_out ? o : -1;
}

US_DEVICE int copies_of(const us_spatial *s)
{
    return s->op == US_OP_REFLECT ? 3 : s->k;
}

template <class T> US_KERNEL(spatial_copy_back)(us_spatial s, int batch, const T *g, T *dst)
{
    us_spot p = spot_of(batch, s.in_h, s.in_w, s.c);
    float x[LANES], sum[LANES];
    if (!p.works) {
        return;
    }
    clear8(sum);
    for (int i = 0; i < copies_of(&s); i++) {
        int oy = copy_number(&s, p.y, s.in_h, s.out_h, i);
        for (int j = 0; j < copies_of(&s) && oy >= 0; j++) {
            int ox = copy_number(&s, p.x, s.in_w, s.out_w, j);
            if (ox >= 0) {
                read8(channels_at(g, &p, s.out_h, s.out_w, s.c, oy, ox), p.n, p.wide, x);
                add8(sum, 1.0f, x);
            }
        }
    }
    write8(channels_at(dst, &p, s.in_h, s.in_w, s.c, p.y, p.x), p.n, p.wide, sum);
}

// ---- Recurrences ----

// A line of pixels of one direction, and this thread's channels of it.
typedef struct us_line {
    int direction, length, line, w;
    us_spot spot;
} us_line;

US_DEVICE int lines_in(const us_spatial *s, int direction)
{
    return us_scan_along_rows(direction) ? s->in_w : s->in_h;
}

US_DEVICE us_line line_of(const us_spatial *s, int direction, int line, int sample, int group, int works)
{
    us_line l;
    l.direction = direction;
    l.length = us_scan_along_rows(direction) ? s->in_h : s->in_w;
    l.line = line;
    l.w = s->in_w;
    l.spot.sample = sample;
    l.spot.y = l.spot.x = 0;
    l.spot.c0 = group * LANES;
    l.spot.n = s->c - l.spot.c0;
    l.spot.wide = s->c % LANES == 0;
    l.spot.works = works;
    return l;
}

// Pixel number i of the line, row-major in its plane.
US_DEVICE int place_in(const us_line *l, int i)
{
    int at = us_scan_from_end(l->direction) ? l->length - 1 - i : i;
    return us_scan_along_rows(l->direction) ? at * l->w + l->line : l->line * l->w + at;
}

// Threads: samples x directions x lines x channel groups. The carry stays in the thread.
template <class T>
US_KERNEL(spatial_scan)(us_spatial s, int batch, const float *planes, const T *src, T *dst)
{
    int64_t at = (int64_t)us_block() * us_threads() + us_thread();
    int groups = (s.c + LANES - 1) / LANES, longest = s.in_h > s.in_w ? s.in_h : s.in_w;
    int group = (int)(at % groups), line = (int)(at / groups % longest), direction = (int)(at / groups / longest % 4);
    int sample = (int)(at / groups / longest / 4), pixels = s.in_h * s.in_w;
    if (sample >= batch || line >= lines_in(&s, direction)) {
        return;
    }
    us_line l = line_of(&s, direction, line, sample, group, 1);
    const float *plane = planes + (int64_t)direction * pixels;
    const T *from = src + (int64_t)sample * pixels * s.c + l.spot.c0;
    T *to = dst + (int64_t)sample * pixels * 4 * s.c + us_scan_slot(direction) * s.c + l.spot.c0;
    float y[LANES], x[LANES];
    int before = place_in(&l, 0);
    read8(from + (int64_t)before * s.c, l.spot.n, l.spot.wide, y);
    write8(to + (int64_t)before * 4 * s.c, l.spot.n, l.spot.wide, y);
    for (int i = 1; i < l.length; i++) {
        int here = place_in(&l, i);
        float gate = us_sigmoid(plane[before]);
        read8(from + (int64_t)here * s.c, l.spot.n, l.spot.wide, x);
        for (int k = 0; k < LANES; k++) {
            y[k] = us_scan_next(x[k], y[k], gate);
        }
        write8(to + (int64_t)here * 4 * s.c, l.spot.n, l.spot.wide, y);
        before = here;
    }
}

// The gradient's carry back along the line: in pixel number i, from pixel i + 1.
typedef struct us_scan_grad {
    float carry[LANES], share;  // share: of the plane's gradient at the pixel before, over the thread's channels
} us_scan_grad;

template <class T>
US_DEVICE void scan_step_back(const us_spatial *s, const us_line *l, int i, const float *plane, const T *g,
                              const T *x, const T *y, T *dst, us_scan_grad *grad)
{
    const us_spot *p = &l->spot;
    int here = place_in(l, i), slot = us_scan_slot(l->direction) * s->c, c = s->c;
    float total[LANES], value[LANES], last[LANES];
    read8(g + (int64_t)here * 4 * c + slot, p->n, p->wide, total);
    for (int k = 0; k < LANES; k++) {
        total[k] += grad->carry[k];
    }
    grad->share = 0;
    if (i > 0) {
        int before = place_in(l, i - 1);
        float gate = us_sigmoid(plane[before]);
        read8(x + (int64_t)here * c, p->n, p->wide, value);
        read8(y + (int64_t)before * 4 * c + slot, p->n, p->wide, last);
        for (int k = 0; k < LANES; k++) {       // channels that are not there have gradient 0
            total[k] = us_scan_passes(value[k], last[k], gate) ? total[k] : 0.0f;
            grad->share += us_sigmoid_grad(total[k] * last[k], gate);
            grad->carry[k] = gate * total[k];
        }
    }
    if (l->direction > 0) {
        read8(dst + (int64_t)here * c, p->n, p->wide, value);
        add8(total, 1.0f, value);
    }
    write8(dst + (int64_t)here * c, p->n, p->wide, total);
}

// One direction, the four of them one after the other: each adds to the gradient of the input. Blocks: samples x
// blocks of `together` lines, whose channel groups are threads beside each other; their shares of the plane's gradient
// meet in shared memory, two rows of it in turn, and are added in the order of the groups. The first pixel of a line
// in the direction's order is the last one's `before`: every plane's last pixel has no gradient.
template <class T>
US_KERNEL(spatial_scan_back)(us_spatial s, int batch, int direction, int together, const float *planes,
                             const T *g, const T *x, const T *y, T *dst, T *partial)
{
    int groups = (s.c + LANES - 1) / LANES, count = lines_in(&s, direction);
    int per_sample = (count + together - 1) / together, sample = us_block() / per_sample;
    int mine = us_thread() / groups, group = us_thread() % groups;
    int line = us_block() % per_sample * together + mine;
    int works = mine < together && line < count && sample < batch;
    us_line l = line_of(&s, direction, line, sample, group, works);
    int64_t pixels = (int64_t)s.in_h * s.in_w, first = sample * pixels;
    us_scan_grad grad;
    clear8(grad.carry);
    for (int i = l.length - 1; i >= 0; i--) {
        float *shares = (float *)us_shared() + i % 2 * us_threads();
        if (works) {
            scan_step_back(&s, &l, i, planes + direction * pixels, g + first * 4 * s.c + l.spot.c0,
                           x + first * s.c + l.spot.c0, y + first * 4 * s.c + l.spot.c0,
                           dst + first * s.c + l.spot.c0, &grad);
            shares[us_thread()] = grad.share;
        }
        us_barrier();
        if (works && group == 0) {
            float sum = 0;
            for (int k = 0; k < groups; k++) {
                sum += shares[us_thread() + k];
            }
            us_from_float(sum, partial + (first + place_in(&l, i > 0 ? i - 1 : l.length - 1)) * 4 + direction);
        }
    }
}

// ---- Averages over the plane ----

// Sum over the plane of channel `us_thread() % CHUNK` of a chunk, which begins at `from`; every thread gets its
// channel's. Shared: a double per thread.
template <class T> US_DEVICE double plane_sum(const T *from, int64_t pixels, int c, int n)
{
    double *row = (double *)us_shared();
    int channel = us_thread() % CHUNK, slots = us_threads() / CHUNK;
    double sum = 0;
    for (int64_t i = us_thread() / CHUNK; i < pixels && channel < n; i += slots) {
        sum += (double)us_to_float(from[i * c + channel]);
    }
    row[us_thread()] = sum;
    us_barrier();
    sum = 0;
    for (int i = 0; i < slots; i++) {
        sum += row[i * CHUNK + channel];
    }
    us_barrier();
    return sum;
}

// Writes `value` to the thread's channel of a chunk, or, where `src` is given, what src has.
template <class T> US_DEVICE void fill_plane(T *to, const T *src, float value, int64_t pixels, int c, int n)
{
    int channel = us_thread() % CHUNK;
    for (int64_t i = us_thread() / CHUNK; i < pixels && channel < n; i += us_threads() / CHUNK) {
        if (src) {
            to[i * c + channel] = src[i * c + channel];
        } else {
            us_from_float(value, &to[i * c + channel]);
        }
    }
}

// The first half of the channels passes, the second becomes its average, of each channel or (k 1) of all; the same
// both ways. A block per sample.
template <class T> US_KERNEL(spatial_level)(us_spatial s, int batch, const T *src, T *dst)
{
    int sample = us_block(), half = s.c / 2;
    int64_t pixels = (int64_t)s.in_h * s.in_w;
    const T *from = src + sample * pixels * s.c;
    T *to = dst + sample * pixels * s.c;
    double *row = (double *)us_shared(), all = 0;
    if (sample >= batch) {
        return;
    }
    for (int c = 0; c < half; c += CHUNK) {
        fill_plane<T>(to + c, from + c, 0, pixels, s.c, half - c);
    }
    for (int c = half; c < s.c; c += CHUNK) {
        double sum = plane_sum(from + c, pixels, s.c, s.c - c);
        if (!s.k) {
            fill_plane<T>(to + c, NULL, (float)(sum / (double)pixels), pixels, s.c, s.c - c);
            continue;
        }
        row[us_thread()] = sum;
        us_barrier();
        for (int i = 0; i < CHUNK && c + i < s.c; i++) {
            all += row[i];
        }
        us_barrier();
    }
    for (int c = half; c < s.c && s.k; c += CHUNK) {
        fill_plane<T>(to + c, NULL, (float)(all / ((double)pixels * half)), pixels, s.c, s.c - c);
    }
}

// ---- Launches ----

template <class T>
static const char *run_level(us_stream *stream, const us_cu_env *env, const us_spatial *s, const T *src, T *dst)
{
    return US_LAUNCH(spatial_level<T>, env->batch, THREADS, THREADS * (int)sizeof(double), stream, *s, env->batch, src,
                     dst);
}

template <class T>
static const char *run_forward(us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                               const T *src, T *dst)
{
    int64_t blocks = spots(env, s->out.h, s->out.w, s->c);
    int longest = s->in_h > s->in_w ? s->in_h : s->in_w;
    switch (s->op) {
    case US_OP_POOL: return US_LAUNCH(spatial_pool<T>, blocks, THREADS, 0, stream, *s, env->batch, src, dst);
    case US_OP_LINEAR: return US_LAUNCH(spatial_linear<T>, blocks, THREADS, 0, stream, *s, env->batch, src, dst);
    case US_OP_NEAREST:
    case US_OP_REFLECT: return US_LAUNCH(spatial_copy<T>, blocks, THREADS, 0, stream, *s, env->batch, src, dst);
    case US_OP_SCAN:
        return US_LAUNCH(spatial_scan<T>, spots(env, 4, longest, s->c), THREADS, 0, stream, *s, env->batch, planes, src,
                         dst);
    default: return run_level(stream, env, s, src, dst);
    }
}

template <class T>
static const char *run_scan_back(us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                                 const T *g, const T *x, const T *y, T *dst, T *partial)
{
    int groups = (s->c + LANES - 1) / LANES, together = groups < THREADS ? THREADS / groups : 1;
    int threads = (groups * together + 31) / 32 * 32;
    const char *text = NULL;
    if (threads > MOST_THREADS) {
        return "a recurrence over more than 8192 channels";
    }
    for (int d = 0; d < 4 && !text; d++) {
        int count = us_scan_along_rows(d) ? s->in_w : s->in_h;
        int64_t blocks = (int64_t)env->batch * ((count + together - 1) / together);
        text = US_LAUNCH(spatial_scan_back<T>, blocks, threads, 2 * threads * (int)sizeof(float), stream, *s, env->batch,
                         d, together, planes, g, x, y, dst, partial);
    }
    return text;
}

template <class T>
static const char *run_back(us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                            const T *g, const T *x, const T *y, T *dst, T *partial)
{
    int64_t blocks = spots(env, s->in_h, s->in_w, s->c);
    switch (s->op) {
    case US_OP_POOL:
        return US_LAUNCH(spatial_pool_back<T>, spots(env, (s->in_h + 1) / 2, (s->in_w + 1) / 2, s->c), THREADS, 0,
                         stream, *s, env->batch, g, x, dst);
    case US_OP_LINEAR: return US_LAUNCH(spatial_linear_back<T>, blocks, THREADS, 0, stream, *s, env->batch, g, dst);
    case US_OP_NEAREST:
    case US_OP_REFLECT: return US_LAUNCH(spatial_copy_back<T>, blocks, THREADS, 0, stream, *s, env->batch, g, dst);
    case US_OP_SCAN: return run_scan_back(stream, env, s, planes, g, x, y, dst, partial);
    default: return run_level(stream, env, s, g, dst);
    }
}

const char *us_cu_spatial(us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                          const void *src, void *dst)
{
    if (env->half) {
        return run_forward(stream, env, s, planes, (const us_half *)src, (us_half *)dst);
    }
    return run_forward(stream, env, s, planes, (const float *)src, (float *)dst);
}

const char *us_cu_spatial_back(us_stream *stream, const us_cu_env *env, const us_spatial *s, const float *planes,
                               const void *g, const void *x, const void *y, void *dst, void *partial)
{
    if (env->half) {
        return run_back(stream, env, s, planes, (const us_half *)g, (const us_half *)x, (const us_half *)y,
                        (us_half *)dst, (us_half *)partial);
    }
    return run_back(stream, env, s, planes, (const float *)g, (const float *)x, (const float *)y, (float *)dst,
                    (float *)partial);
}
