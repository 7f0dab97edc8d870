// The generators of data section 1: curves of two sine waves, matched in slope where they meet, or of three
// with a slow one in between; stamped with a brush into images. All randomness comes from the caller.
#include "data/critters.h"

#include <math.h>
#include <string.h>

#include "kernels/philox.h"

void us_critters_default(us_critter_setup *setup)
{
    *setup = (us_critter_setup){
        .size = 128,
        .n_curves = 5,
        .thickness = 21,
        .three_waves = 0,
        .samples_per_pixel = 10,
        .amplitude = 8.0,
        .max_vertical_shift = 0.9,
        .max_horizontal_shift = 0.3,
        .min_spacing = 16.0,
        .joiner_fraction = 0.2,
        .joiner_frequency = 0.01,
        .initial_phase = 0.0,
        .range = {{0.05, 0.07}, {0.12, 0.14}, {0.30, 0.32}, {0.60, 0.62}},
    };
}

// 25 pixels as a fraction with one digit, as published for 128 and 256; of larger frames, which that would
// round to nothing, the exact fraction (half a pixel more, so that rounding down gives 25).
double us_critters_joiner_fraction(int64_t size)
{
    double rounded = round(250.0 / (double)size) / 10.0;
    return rounded > 0.0 ? rounded : 25.5 / (double)size;
}

usplit_status us_critters_check(const us_critter_setup *s)
{
    US_CHECK_ARG(s->size >= 4 && s->size <= 1 << 16, "size is %lld; accepted: 4 to %d", (long long)s->size,
                 1 << 16);
    US_CHECK_ARG(s->n_curves >= 1 && s->n_curves <= 4096, "n_curves is %d; accepted: 1 to 4096", s->n_curves);
    US_CHECK_ARG(s->thickness >= 1 && s->thickness < 1024 && s->thickness % 2 == 1,
                 "thickness is %d; accepted: odd numbers from 1 to 1023", s->thickness);
    US_CHECK_ARG(s->samples_per_pixel >= 1 && s->samples_per_pixel <= 1000,
                 "samples_per_pixel is %d; accepted: 1 to 1000", s->samples_per_pixel);
    US_CHECK_ARG(s->amplitude > 0.0 && s->amplitude <= 1e6, "amplitude is %g; accepted: over 0, up to 1e6",
                 s->amplitude);
    US_CHECK_ARG(s->max_vertical_shift > 0.0 && s->max_vertical_shift <= 1.0,
                 "max_vertical_shift is %g; accepted: over 0, up to 1", s->max_vertical_shift);
    US_CHECK_ARG(s->max_horizontal_shift >= 0.0 && s->max_horizontal_shift <= 1.0,
                 "max_horizontal_shift is %g; accepted: 0 to 1", s->max_horizontal_shift);
    US_CHECK_ARG(!s->three_waves || (s->joiner_fraction > 0.0 && s->joiner_fraction < 1.0),
                 "joiner_fraction is %g; accepted: over 0, under 1", s->joiner_fraction);
    US_CHECK_ARG(!s->three_waves || s->joiner_fraction * (double)s->size >= 1.0,
                 "joiner_fraction is %g; accepted at size %lld: at least %g, one pixel", s->joiner_fraction,
                 (long long)s->size, 1.0 / (double)s->size);
    double room = (double)s->size * s->max_vertical_shift / s->n_curves;
    US_CHECK_ARG(s->min_spacing < room,
                 "%d curves, twice the amplitude (%g rows) apart, do not fit; accepted: under %g rows",
                 s->n_curves, s->min_spacing, room);
    return USPLIT_OK;
}

// ---- The curve (1.4) ----------------------------------------------------------------------------

// Pixels of each piece: two halves, or end, joiner, end.
static void find_pieces(const us_critter_setup *s, const us_critter_curve *c, int64_t length[3])
{
    if (!s->three_waves) {
        int64_t p = s->size + (int64_t)floor(fabs(c->h));
        length[0] = length[1] = p / 2;
        length[2] = 0;
        return;
    }
    double p = (double)s->size + fabs(c->h);
    length[1] = (int64_t)floor(s->joiner_fraction * p);
    length[0] = length[2] = (int64_t)floor((p - (double)length[1]) / 2.0);
}

int64_t us_critters_samples(const us_critter_setup *setup, const us_critter_curve *curve)
{
    int64_t length[3];
    find_pieces(setup, curve, length);
    int64_t n = 0;
    for (int k = 0; k < 3; k++) {
        n += length[k] * setup->samples_per_pixel - (length[k] > 0);
    }
    return setup->three_waves ? n : n + 1; // the second half keeps its last sample
}

static void make_two_waves(const us_critter_setup *s, const us_critter_curve *c, int64_t pixels, double *x,
                           double *y)
{
    int64_t n = pixels * s->samples_per_pixel;
    double step = 1.0 / s->samples_per_pixel;
    double w1 = c->w[0], w2 = c->w[1];
    double q = (double)(n - 1) * step;
    double theta = acos(w1 * cos(w1 * q) / w2); // slopes agree at q
    // As published: a range from q whose step is the difference of its first two values. With a shift of
    // whole pixels or none, the last bit of x decides which column a sample falls into.
    double right_step = (q + step) - q;
    for (int64_t i = 0; i < n - 1; i++) {
        x[i] = (double)i * step;
        y[i] = sin(w1 * x[i]);
    }
    for (int64_t j = 0; j < n; j++) {
        x[n - 1 + j] = q + (double)j * right_step;
        y[n - 1 + j] = sin(theta + w2 * ((double)j * step)) - sin(theta) + sin(w1 * q);
    }
}

static void make_three_waves(const us_critter_setup *s, const us_critter_curve *c, const int64_t length[3],
                             double *x, double *y)
{
    double step = 1.0 / s->samples_per_pixel;
    double phase = s->initial_phase;
    double offset = 0.0;
    int64_t count = 0;
    for (int k = 0; k < 3; k++) {
        double w = c->w[k];
        int64_t n = length[k] * s->samples_per_pixel;
        double start = phase / w;
        for (int64_t i = 0; i < n - 1; i++) {
            x[count] = (double)count * step;
            y[count++] = sin(w * (start + (double)i * step)) + offset;
        }
        double last = start + (double)(n - 1) * step;
        double value = sin(w * last) + offset;
        if (k < 2) { // where the next piece begins
            double slope = w * cos(w * last) / c->w[k + 1];
            phase = acos(slope < -1.0 ? -1.0 : slope > 1.0 ? 1.0 : slope);
            offset = value - sin(c->w[k + 1] * (phase / c->w[k + 1]));
        }
    }
}

void us_critters_wave(const us_critter_setup *setup, const us_critter_curve *curve, double *x, double *y)
{
    int64_t length[3];
    find_pieces(setup, curve, length);
    if (setup->three_waves) {
        make_three_waves(setup, curve, length, x, y);
    } else {
        make_two_waves(setup, curve, length[0], x, y);
    }
}

// ---- From curve to pixels (1.5) -----------------------------------------------------------------

typedef struct pixel {
    int32_t y, x;
} pixel;

// Steps 1 to 7: the distinct pixels the curve runs through. `seen` is size x size zeroes, and is again
// afterwards. Returns how many.
static int64_t trace_curve(const us_critter_setup *s, const us_critter_curve *c, const double *x, double *y,
                           int64_t n, uint8_t *seen, pixel *pixels)
{
    double lowest = INFINITY;
    for (int64_t k = 0; k < n; k++) {
        y[k] *= s->amplitude;
        lowest = y[k] < lowest ? y[k] : lowest;
    }
    int64_t count = 0;
    for (int64_t k = 0; k < n; k++) {
        double column = (c->flip ? x[n - 1] - x[k] : x[k]) + c->h;
        double row = y[k] - lowest + c->v;
        if (!(column > -1.0 && column < (double)s->size && row > -1.0 && row < (double)s->size)) {
            continue;
        }
        pixel p = {(int32_t)row, (int32_t)column}; // truncated: (-1, 0) is column 0
        if (!seen[p.y * s->size + p.x]) {
            seen[p.y * s->size + p.x] = 1;
            pixels[count++] = p;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        seen[pixels[i].y * s->size + pixels[i].x] = 0;
    }
    return count;
}

// Steps 8 and 9: 1 on the pixel itself, sqrt(2) / distance at the offsets -r..r-1 of both axes; rows and
// columns 0 get no brush.
static void stamp_pixels(const us_critter_setup *s, const pixel *pixels, int64_t count, const double *brush,
                         double *image)
{
    int64_t r = (s->thickness - 1) / 2;
    for (int64_t i = 0; i < count; i++) {
        int64_t y = pixels[i].y, x = pixels[i].x;
        int64_t a_end = y + r < s->size ? r : s->size - y, b_end = x + r < s->size ? r : s->size - x;
        image[y * s->size + x] += 1.0;
        for (int64_t a = y - r > 0 ? -r : 1 - y; a < a_end; a++) {
            const double *weight = brush + (a + r) * 2 * r + r;
            double *row = image + (y + a) * s->size + x;
            for (int64_t b = x - r > 0 ? -r : 1 - x; b < b_end; b++) {
                row[b] += weight[b];
            }
        }
    }
}

static void make_brush(int64_t r, double *brush)
{
    for (int64_t a = -r; a < r; a++) {
        for (int64_t b = -r; b < r; b++) {
            brush[(a + r) * 2 * r + b + r] =
                a == 0 && b == 0 ? 0.0 : sqrt(2.0) / sqrt((double)(a * a + b * b));
        }
    }
}

usplit_status us_critters_add(const us_allocator *a, const us_critter_setup *setup,
                              const us_critter_curve *curve, double *image)
{
    int64_t n = us_critters_samples(setup, curve);
    int64_t r = (setup->thickness - 1) / 2;
    size_t area = (size_t)setup->size * (size_t)setup->size;
    usplit_status status = USPLIT_ERR_MEMORY;
    double *x = us_alloc(a, (size_t)n, sizeof *x);
    double *y = x ? us_alloc(a, (size_t)n, sizeof *y) : NULL;
    uint8_t *seen = y ? us_calloc(a, area, sizeof *seen) : NULL;
    pixel *pixels = seen ? us_alloc(a, (size_t)n, sizeof *pixels) : NULL;
    double *brush = pixels ? us_alloc(a, (size_t)(4 * r * r), sizeof *brush) : NULL;
    if (brush) {
        us_critters_wave(setup, curve, x, y);
        make_brush(r, brush);
        int64_t count = trace_curve(setup, curve, x, y, n, seen, pixels);
        stamp_pixels(setup, pixels, count, brush, image);
        status = USPLIT_OK;
    }
    us_free(a, brush);
    us_free(a, pixels);
    us_free(a, seen);
    us_free(a, y);
    us_free(a, x);
    return status;
}

// ---- Drawing a frame (1.3, 1.6, 1.7) ------------------------------------------------------------

// Which two ranges a curve of channel 0 or 1 takes, by the first draw: (over 0.5, otherwise).
static const int pairs[US_CRITTER_CHANNELS][2][2] = {{{0, 2}, {1, 3}}, {{0, 3}, {1, 2}}};

static double draw_between(const double range[2], us_uniform_fn next, void *user)
{
    return range[0] + next(user) * (range[1] - range[0]);
}

// Rotations are drawn although every configuration has them at 0, to keep the published order.
static void skip_rotations(int32_t n, us_uniform_fn next, void *user)
{
    for (int32_t k = 0; k < n; k++) {
        (void)next(user);
    }
}

void us_critters_draw(const us_critter_setup *setup, int channel, us_uniform_fn next, void *user,
                      us_critter_curve *curves)
{
    const us_critter_setup *s = setup;
    int32_t n = s->n_curves;
    for (int32_t k = 0; k < n; k++) {
        int second = next(user) <= 0.5 && !s->one_kind;
        const int *pair = pairs[channel][second];
        double low = draw_between(s->range[pair[0]], next, user);
        double high = draw_between(s->range[pair[1]], next, user);
        curves[k] = (us_critter_curve){{low, high, 0.0}, 0.0, 0.0, 0};
        if (s->three_waves) {
            curves[k].w[1] = s->joiner_frequency;
            curves[k].w[2] = high;
        }
    }
    if (channel == 0) {
        skip_rotations(n, next, user);
    }
    double m = (double)s->size * s->max_vertical_shift;
    double spacing = s->min_spacing / m;
    double bucket = 1.0 / n;
    for (int32_t k = 0; k < n; k++) {
        curves[k].v = m * (next(user) * (bucket - spacing) + k * bucket + spacing / 2.0);
    }
    for (int32_t k = 0; k < n; k++) {
        curves[k].h = next(user) * (double)s->size * s->max_horizontal_shift;
    }
    for (int32_t k = 0; k < n; k++) {
        curves[k].h = next(user) > 0.5 ? -curves[k].h : curves[k].h;
    }
    if (channel == 1) {
        skip_rotations(n, next, user);
    }
    for (int32_t k = 0; k < n; k++) {
        curves[k].flip = next(user) > 0.5;
    }
}

usplit_status us_critters_frame(const us_allocator *a, const us_critter_setup *setup, us_uniform_fn next,
                                void *user, float *dst)
{
    size_t area = (size_t)setup->size * (size_t)setup->size;
    usplit_status status = USPLIT_OK;
    double *image = us_alloc(a, area, sizeof *image);
    us_critter_curve *curves = image ? us_alloc(a, (size_t)setup->n_curves, sizeof *curves) : NULL;
    if (!curves) {
        status = USPLIT_ERR_MEMORY;
        goto done;
    }
    for (int channel = 0; channel < US_CRITTER_CHANNELS; channel++) {
        memset(image, 0, area * sizeof *image);
        us_critters_draw(setup, channel, next, user, curves);
        for (int32_t k = 0; k < setup->n_curves; k++) {
            US_TRY_GOTO(us_critters_add(a, setup, &curves[k], image));
        }
        for (size_t i = 0; i < area; i++) {
            dst[(size_t)channel * area + i] = (float)image[i];
        }
    }
done:
    us_free(a, curves);
    us_free(a, image);
    return status;
}

double us_critters_next(void *stream)
{
    us_critter_stream *s = stream;
    uint64_t block = s->drawn / 2;
    us_u32x4 r = us_philox(s->seed, US_RNG_CRITTERS, (uint32_t)s->frame, (uint32_t)((uint64_t)s->frame >> 32),
                           (uint32_t)block);
    int second = (int)(s->drawn % 2) * 2;
    s->drawn++;
    return us_uniform53(r.v[second], r.v[second + 1]);
}
