// SinosoidalCritters, the synthetic data of the paper's section 4 (data section 1): frames of two
// channels, full of curves whose pieces appear in both, so that only the way the pieces are joined tells
// the channels apart.
#ifndef US_CRITTERS_H
#define US_CRITTERS_H

#include "base/alloc.h"
#include "base/status.h"

enum { US_CRITTER_CHANNELS = 2, US_CRITTER_RANGES = 4 };

// The generator's settings, under the names of data section 1.2. Lengths in pixels, frequencies in radians
// per pixel.
typedef struct us_critter_setup {
    int64_t size;                       // S
    int32_t n_curves;                   // n_c
    int32_t thickness;                  // T, odd
    int32_t three_waves;                // a joiner between the two waves
    int32_t one_kind;                   // every curve of a channel takes the channel's first pair
    int32_t samples_per_pixel;          // 1 / granularity
    double amplitude;                   // A
    double max_vertical_shift;          // v_f
    double max_horizontal_shift;        // h_f
    double min_spacing;                 // m
    double joiner_fraction;             // f_J
    double joiner_frequency;            // w_J
    double initial_phase;               // phi_0
    double range[US_CRITTER_RANGES][2]; // R0..R3
} us_critter_setup;

// One curve, as drawn: frequencies in order (w1, w2 or w_a, w_J, w_b), row of its top, column shift.
typedef struct us_critter_curve {
    double w[3];
    double v, h;
    int flip;
} us_critter_curve;

// A uniform number in [0, 1).
typedef double (*us_uniform_fn)(void *user);

// The published settings.
void us_critters_default(us_critter_setup *setup);
// 0: the fraction published for N_join = 25 at this size (1.2).
double us_critters_joiner_fraction(int64_t size);
usplit_status us_critters_check(const us_critter_setup *setup);

// Points of the bare curve (before amplitude, flip and shifts): x and y have room for us_critters_samples
// values each.
int64_t us_critters_samples(const us_critter_setup *setup, const us_critter_curve *curve);
void us_critters_wave(const us_critter_setup *setup, const us_critter_curve *curve, double *x, double *y);

// Adds one curve to a size x size image.
usplit_status us_critters_add(const us_allocator *a, const us_critter_setup *setup,
                              const us_critter_curve *curve, double *image);

// Draws the n_curves curves of one channel (0 or 1), in the published order of draws (1.7).
void us_critters_draw(const us_critter_setup *setup, int channel, us_uniform_fn next, void *user,
                      us_critter_curve *curves);

// One frame: both channels, drawn one after the other; dst is two planes of size x size.
usplit_status us_critters_frame(const us_allocator *a, const us_critter_setup *setup, us_uniform_fn next,
                                void *user, float *dst);

// The uniform numbers of a frame in the library: a stream keyed by (seed, frame).
typedef struct us_critter_stream {
    uint64_t seed;
    int64_t frame;
    uint64_t drawn;
} us_critter_stream;
double us_critters_next(void *stream);

#endif
