// Ways to draw and mix training patches: places, weights, turns, sums, measured inputs, unpaired channels, exact
// centres; against plain loops in double precision over the frames that were handed over.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/must.h"
#include "data/dataset_impl.h"
#include "kernels/philox.h"

enum { P = 8, LEVELS = 3, MAX_FRAMES = 12 };

// ---- Frames -----------------------------------------------------------------------------------------

// Frames of any number and size; a channel's pixels are told by frame and channel.
typedef struct frames {
    int64_t n, channels;
    int64_t height[MAX_FRAMES], width[MAX_FRAMES];
    int64_t own[USPLIT_MAX_CHANNELS];           // unpaired: of each channel
} frames;

static float grey(int64_t frame, int64_t channel, int64_t y, int64_t x)
{
    us_u32x4 r = us_philox(5, (uint32_t)frame, (uint32_t)channel, (uint32_t)y, (uint32_t)x);
    return 100.0f * (float)(channel + 1) + 50.0f * us_uniform24(r.v[0]) + 5.0f * (float)sin(0.3 * (double)(x + 2 * y));
}

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const frames *f = user;
    *height = f->height[frame];
    *width = f->width[frame];
    return 0;
}

static int32_t frame_read(int64_t frame, int64_t channel, float *dst, void *user)
{
    const frames *f = user;
    int64_t first = 0;
    for (int64_t c = 0; f->own[0] && c < channel; c++) {
        first += f->own[c];
    }
    if (f->own[0] && (frame < first || frame >= first + f->own[channel])) {
        return 1;                               // a frame asked for in a channel that it has not
    }
    for (int64_t i = 0; i < f->height[frame] * f->width[frame]; i++) {
        dst[i] = grey(frame, channel, i / f->width[frame], i % f->width[frame]);
    }
    return 0;
}

static usplit_dataset_options plain_options(void)
{
    usplit_dataset_options o;
    must(usplit_dataset_options_init(&o, sizeof o));
    o.validation_fraction = o.test_fraction = 0;
    o.clip_quantile = 1;
    o.levels = LEVELS;
    return o;
}

static usplit_status try_make(usplit_dataset **d, usplit_context *context, frames *f, const usplit_dataset_options *o)
{
    usplit_dataset_reader r = {.struct_size = sizeof r, .n_frames = f->n, .n_channels = f->channels,
                               .frame_size = frame_size, .read = frame_read, .user = f,
                               .channel_frames = f->own[0] ? f->own : NULL};
    return usplit_dataset_create_reader(d, context, &r, o);
}

static usplit_dataset *make(usplit_context *context, frames *f, const usplit_dataset_options *o)
{
    usplit_dataset *d = NULL;
    must(try_make(&d, context, f, o));
    return d;
}

// Three channels with 1, 4 and 2 frames of many sizes.
static frames unpaired_frames(void)
{
    return (frames){7, 3, {40, 16, 23, 9, 64, 31, 17}, {33, 50, 8, 12, 24, 31, 40}, {1, 4, 2}};
}

static frames paired_frames(int64_t channels)
{
    return (frames){3, channels, {40, 16, 24}, {33, 50, 19}, {0}};
}

// ---- A patch in plain double precision --------------------------------------------------------------

// A walk that turns round at the ends of an axis.
static int64_t bounce(int64_t i, int64_t n)
{
    int64_t at = 0, step = 1;
    for (i = i < 0 ? -i : i; i > 0 && n > 1; i--) {
        step = at + step < 0 || at + step >= n ? -step : step;
        at += step;
    }
    return at;
}

// The patch as rows turned a quarter at a time and mirrored, without an index formula.
static void turn_back(int turn, double *patch)
{
    double copy[P][P], (*p)[P] = (double(*)[P])patch;
    for (int q = 0; q < (turn & 3); q++) {      // the first row becomes the first column, read upwards
        memcpy(copy, p, sizeof copy);
        for (int i = 0; i < P; i++) {
            for (int j = 0; j < P; j++) {
                p[P - 1 - j][i] = copy[i][j];
            }
        }
    }
    if (turn & 4) {
        for (int i = 0; i < P; i++) {
            for (int j = 0; j < P / 2; j++) {
                double v = p[i][j];
                p[i][j] = p[i][P - 1 - j];
                p[i][P - 1 - j] = v;
            }
        }
    }
}

// Grey levels of one channel's crop at a level: linear between the four pixels around where a place lies, the level
// continued as data 3.3 has it.
static void crop(const usplit_dataset *d, const us_place *p, int c, int level, int exact, double *dst)
{
    int64_t h, w, rows, columns;
    static float pixels[64 * 64];
    must(usplit_dataset_get_frame(d, p->frame[c], c, 0, NULL, &h, &w));
    must(usplit_dataset_get_frame(d, p->frame[c], c, level, pixels, &rows, &columns));
    double centre[2] = {(double)(p->y[c] + P / 2), (double)(p->x[c] + P / 2)};
    double start[2] = {floor(ldexp(centre[0], -level)), floor(ldexp(centre[1], -level))};
    if (exact) {
        start[0] = centre[0] * (double)rows / (double)h;
        start[1] = centre[1] * (double)columns / (double)w;
    }
    int64_t at[2], inside[2], size[2] = {rows, columns};
    double part[2];
    for (int a = 0; a < 2; a++) {               // inside: first and number of pixels that the crop has of the level
        double whole = floor(start[a] + 1e-9);
        part[a] = start[a] - whole < 1e-9 ? 0 : start[a] - whole;
        at[a] = (int64_t)whole - P / 2;
    }
    for (int i = 0; i < P; i++) {
        for (int j = 0; j < P; j++) {
            double sum = 0;
            for (int corner = 0; corner < 4; corner++) {
                int64_t where[2] = {at[0] + i + corner / 2, at[1] + j + corner % 2};
                double share = (corner / 2 ? part[0] : 1 - part[0]) * (corner % 2 ? part[1] : 1 - part[1]);
                for (int a = 0; a < 2 && share > 0; a++) {
                    int64_t first = at[a] > 0 ? at[a] : 0, end = at[a] + P + (part[a] > 0);
                    end = end < size[a] ? end : size[a];
                    inside[a] = end - first;
                    assert_true(inside[a] > 0); // training places are inside
                    where[a] = first + bounce(where[a] - first, inside[a]);
                }
                sum += share > 0 ? share * (double)pixels[where[0] * columns + where[1]] : 0;
            }
            dst[i * P + j] = sum;
        }
    }
    turn_back(p->turn, dst);
}

// Input and targets are the weighted crops, normalised: pixels up to 900 with deviations over 10, in float32.
static void check_patch(const usplit_dataset *d, const us_place *p)
{
    usplit_dataset_facts f = {.struct_size = sizeof f};
    float input[LEVELS * P * P], target[P * P * USPLIT_MAX_CHANNELS];
    double one[P * P], sum[P * P];
    must(usplit_dataset_info(d, &f));
    must(us_dataset_cut(d, p, P, LEVELS, input, target));
    int n = (int)f.n_channels, held = n + (f.input == USPLIT_INPUT_MEASURED);
    for (int k = 0; k < LEVELS; k++) {
        memset(sum, 0, sizeof sum);
        for (int c = 0; c < held; c++) {
            if (p->weight[c] == 0) {
                continue;
            }
            crop(d, p, c, k, f.centring == USPLIT_CENTRING_EXACT, one);
            for (int i = 0; i < P * P; i++) {
                sum[i] += (double)p->weight[c] * one[i];
            }
        }
        for (int i = 0; i < P * P; i++) {
            double want = (sum[i] - f.input_mean) / f.input_deviation;
            assert_true(fabs((double)input[k * P * P + i] - want) < 1e-4);
        }
    }
    for (int c = 0; c < n; c++) {
        crop(d, p, c, 0, 0, one);
        for (int i = 0; i < P * P; i++) {
            double want = ((double)p->gain[c] * one[i] - f.target_mean[c]) / f.target_deviation[c];
            assert_true(fabs((double)target[i * n + c] - want) < 1e-4);
        }
    }
}

// ---- Turns ------------------------------------------------------------------------------------------

// Turn number t as a permutation of the pixels of a square.
static void permutation(int turn, int size, int *to)
{
    for (int i = 0; i < size * size; i++) {
        int64_t y, x;
        us_place_turn(turn, size, i / size, i % size, &y, &x);
        to[i] = (int)(y * size + x);
    }
}

static void turns_are_the_symmetries_of_a_square(void **state)
{
    (void)state;
    for (int size = 3; size <= 4; size++) {
        int t[8][16], n = size * size, both[16];
        for (int a = 0; a < 8; a++) {
            permutation(a, size, t[a]);
            assert_true(a != 0 || t[a][size] == size);          // 0 leaves all in place
            for (int i = 0; i < n; i++) {                       // distances stay: neighbours remain neighbours
                for (int j = 0; j < n; j++) {
                    int dy = i / size - j / size, dx = i % size - j % size;
                    int ty = t[a][i] / size - t[a][j] / size, tx = t[a][i] % size - t[a][j] % size;
                    assert_int_equal(dy * dy + dx * dx, ty * ty + tx * tx);
                }
            }
            for (int b = 0; b < a; b++) {
                assert_memory_not_equal(t[a], t[b], (size_t)n * sizeof(int));
            }
        }
        for (int a = 0; a < 8; a++) {           // one after the other is again one of them
            for (int b = 0; b < 8; b++) {
                int found = 0;
                for (int i = 0; i < n; i++) {
                    both[i] = t[a][t[b][i]];
                }
                for (int c = 0; c < 8; c++) {
                    found += memcmp(both, t[c], (size_t)n * sizeof(int)) == 0;
                }
                assert_int_equal(found, 1);
            }
        }
    }
}

// ---- Patches ----------------------------------------------------------------------------------------

static us_drawing any_drawing(int channels)
{
    us_drawing w = us_drawing_published;
    for (int c = 0; c < channels; c++) {
        w.low[c] = 0.25 * c;
        w.high[c] = 1.0 + 0.5 * c;
    }
    w.augment = 1;
    return w;
}

static void check_items(const usplit_dataset *d, const us_drawing *w, int n)
{
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        for (int64_t item = 0; item < n; item++) {
            us_place p, again;
            must(us_dataset_train_place(d, w, 42, epoch, item, P, &p));
            must(us_dataset_train_place(d, w, 42, epoch, item, P, &again));
            assert_memory_equal(&p, &again, sizeof p);
            check_patch(d, &p);
        }
    }
}

static void patches_are_weighted_sums(void **state)
{
    for (int kind = 0; kind < 12; kind++) {
        usplit_dataset_options o = plain_options();
        int input = kind % 3, unpaired = input != USPLIT_INPUT_MEASURED && kind / 3 % 2;
        frames f = unpaired ? unpaired_frames() : paired_frames(3);
        o.input = input;
        o.unpaired = unpaired;
        o.centring = kind / 6;
        usplit_dataset *d = make(*state, &f, &o);
        us_drawing w = input == USPLIT_INPUT_MEASURED ? us_drawing_published : any_drawing(3);
        w.augment = kind % 2;
        w.fixed_targets = kind % 4 == 3;
        w.uncorrelated = unpaired || input == USPLIT_INPUT_MEASURED ? 0 : 0.5;
        check_items(d, &w, 20);
        usplit_dataset_free(d);
    }
}

// With the published drawing nothing has changed: one place, weights 1/K, no turn.
static void published_places_stay(void **state)
{
    frames f = paired_frames(2);
    usplit_dataset_options o = plain_options();
    usplit_dataset *d = make(*state, &f, &o);
    assert_true(us_dataset_is_plain(d, &us_drawing_published));
    for (int64_t item = 0; item < 30; item++) {
        us_place p;
        must(us_dataset_train_place(d, &us_drawing_published, 1, 0, item, P, &p));
        assert_true(p.frame[0] == p.frame[1] && p.y[0] == p.y[1] && p.x[0] == p.x[1] && p.turn == 0);
        assert_true(p.weight[0] == 0.5f && p.weight[1] == 0.5f && p.weight[2] == 0 && p.gain[0] == 1);
        check_patch(d, &p);
    }
    usplit_dataset_free(d);
}

// ---- Draws ------------------------------------------------------------------------------------------

enum { DRAWS = 6000 };

// n cells of equal chance: chi-squared has mean n - 1 and variance 2(n - 1); six deviations.
static void even(const int *count, int n, int total)
{
    double chi = 0, want = (double)total / n;
    for (int i = 0; i < n; i++) {
        chi += ((double)count[i] - want) * ((double)count[i] - want) / want;
    }
    assert_true(fabs(chi - (n - 1)) < 6 * sqrt(2.0 * (n - 1)));
}

static void draws_are_even_and_independent(void **state)
{
    frames f = {5, 2, {24, 24, 24, 24, 24}, {24, 24, 24, 24, 24}, {1, 4}};
    usplit_dataset_options o = plain_options();
    o.unpaired = 1;
    usplit_dataset *d = make(*state, &f, &o);
    us_drawing w = us_drawing_published;
    w.augment = 1;
    w.low[0] = 0.5;
    w.low[1] = 0.0;
    int64_t n = us_dataset_n_items(d, USPLIT_SET_TRAIN, P);
    assert_int_equal(n, 4 * 9);                 // of the channel with most
    static int frame[4], y[16], x[16], places[16], turn[8], both[16], alpha[2][10];
    for (int i = 0; i < DRAWS; i++) {
        us_place p;
        must(us_dataset_train_place(d, &w, 7, i / n, i % n, P, &p));
        assert_true(p.frame[0] == 0 && p.frame[1] >= 1 && p.frame[1] <= 4);
        assert_true(p.weight[0] == 0.5f * p.gain[0] && p.weight[1] == 0.5f * p.gain[1]);
        assert_true(p.gain[0] >= 0.5f && p.gain[0] <= 1 && p.gain[1] >= 0 && p.gain[1] <= 1);
        frame[p.frame[1] - 1]++;
        y[p.y[0]]++;
        x[p.x[1]]++;
        places[p.y[0] / 4 * 4 + p.y[1] / 4]++;  // starts 0 to 15
        turn[p.turn]++;
        both[(p.gain[0] > 0.75f) * 8 + (p.gain[1] > 0.5f) * 4 + p.turn / 4 * 2 + (p.y[0] > 7)]++;
        alpha[0][(int)fminf(9, (p.gain[0] - 0.5f) * 20)]++;
        alpha[1][(int)fminf(9, p.gain[1] * 10)]++;
    }
    even(frame, 4, DRAWS);
    even(y, 16, DRAWS);
    even(x, 16, DRAWS);
    even(places, 16, DRAWS);
    even(turn, 8, DRAWS);
    even(both, 16, DRAWS);
    even(alpha[0], 10, DRAWS);
    even(alpha[1], 10, DRAWS);
    usplit_dataset_free(d);
}

// The lead channel's frames are visited equally often; another seed, epoch or item gives other places.
static void lead_visits_every_frame(void **state)
{
    frames f = {5, 2, {24, 24, 24, 24, 24}, {24, 24, 24, 24, 24}, {1, 4}};
    usplit_dataset_options o = plain_options();
    o.unpaired = 1;
    usplit_dataset *d = make(*state, &f, &o);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int count[5] = {0};
        for (int64_t item = 0; item < 36; item++) {
            us_place p;
            must(us_dataset_train_place(d, &us_drawing_published, 7, epoch, item, P, &p));
            count[p.frame[1]]++;
        }
        assert_true(count[1] == 9 && count[2] == 9 && count[3] == 9 && count[4] == 9);
    }
    usplit_dataset_free(d);
}

static void uncorrelated_takes_apart_as_often_as_asked(void **state)
{
    frames f = {2, 2, {64, 64}, {64, 64}, {0}};
    usplit_dataset_options o = plain_options();
    usplit_dataset *d = make(*state, &f, &o);
    us_drawing w = us_drawing_published;
    w.uncorrelated = 0.3;
    int apart = 0, n = 128;
    for (int i = 0; i < DRAWS; i++) {
        us_place p, plain;
        must(us_dataset_train_place(d, &w, 7, i / n, i % n, P, &p));
        must(us_dataset_train_place(d, &us_drawing_published, 7, i / n, i % n, P, &plain));
        assert_true(p.frame[0] == plain.frame[0] && p.y[0] == plain.y[0] && p.x[0] == plain.x[0]);
        apart += p.frame[0] != p.frame[1] || p.y[0] != p.y[1] || p.x[0] != p.x[1];
    }
    // binomial; one place in 2 x 56 x 56 is the same by chance
    assert_true(fabs(apart - 0.3 * DRAWS) < 5 * sqrt(0.3 * 0.7 * DRAWS));
    usplit_dataset_free(d);
}

// ---- Statistics -------------------------------------------------------------------------------------

static void moments_of(frames *f, int64_t channel, int64_t first, int64_t n, double clip, double *mean, double *deviation)
{
    double sum = 0, squares = 0, count = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = first; k < first + n; k++) {
            for (int64_t i = 0; i < f->height[k] * f->width[k]; i++) {
                double v = (double)grey(k, channel, i / f->width[k], i % f->width[k]);
                v = v > clip ? clip : v;
                sum += pass ? 0 : v;
                count += pass ? 0 : 1;
                squares += pass ? (v - *mean) * (v - *mean) : 0;
            }
        }
        *mean = sum / count;
    }
    *deviation = sqrt(squares / count);
}

#define near(a, b) assert_true(fabs((a) - (b)) <= 1e-9 * fabs(b))

static void statistics_follow_the_input(void **state)
{
    for (int input = 0; input < 3; input++) {
        frames f = paired_frames(3);
        usplit_dataset_options o = plain_options();
        usplit_dataset_facts facts = {.struct_size = sizeof facts};
        o.input = input;
        usplit_dataset *d = make(*state, &f, &o);
        must(usplit_dataset_info(d, &facts));
        double mean[3], deviation[3], sum = 0, variance = 0, spread = 0;
        int k = 3 - (input == USPLIT_INPUT_MEASURED);
        assert_int_equal(facts.n_channels, k);
        for (int c = 0; c < 3; c++) {
            moments_of(&f, c, 0, 3, INFINITY, &mean[c], &deviation[c]);
            if (c < k) {
                near(facts.target_mean[c], mean[c]);
                near(facts.target_deviation[c], deviation[c]);
                sum += mean[c];
                variance += deviation[c] * deviation[c];
            }
        }
        for (int c = 0; c < k; c++) {
            spread += (mean[c] - sum / k) * (mean[c] - sum / k);
        }
        near(facts.input_mean, input == 0 ? sum / k : input == 1 ? sum : mean[2]);
        near(facts.input_deviation, input == 0 ? sqrt((variance + spread) / k) : input == 1 ? sqrt(variance) :
             deviation[2]);
        usplit_dataset_free(d);
    }
}

// Channels count alike, however many pixels they have.
static void unpaired_statistics_weigh_channels_alike(void **state)
{
    frames f = unpaired_frames();
    usplit_dataset_options o = plain_options();
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    o.unpaired = 1;
    usplit_dataset *d = make(*state, &f, &o);
    must(usplit_dataset_info(d, &facts));
    double mean[3], deviation[3], sum = 0, second = 0;
    int64_t first = 0;
    for (int c = 0; c < 3; c++) {
        moments_of(&f, c, first, f.own[c], INFINITY, &mean[c], &deviation[c]);
        near(facts.target_mean[c], mean[c]);
        near(facts.target_deviation[c], deviation[c]);
        sum += mean[c] / 3;
        second += (deviation[c] * deviation[c] + mean[c] * mean[c]) / 3;
        first += f.own[c];
    }
    near(facts.input_mean, sum);
    assert_true(fabs(facts.input_deviation - sqrt(second - sum * sum)) < 1e-6);
    assert_true(facts.unpaired == 1 && facts.n_frames == 7 && facts.n_train == 7);
    usplit_dataset_free(d);
}

// The structures have one clip value, a sum as many times it, a measured image its own.
static void clip_values(void **state)
{
    for (int input = 0; input < 3; input++) {
        frames f = paired_frames(3);
        usplit_dataset_options o = plain_options();
        usplit_dataset_facts facts = {.struct_size = sizeof facts};
        static float pixels[64 * 64];
        o.input = input;
        o.clip_quantile = 0.9;
        usplit_dataset *d = make(*state, &f, &o);
        must(usplit_dataset_info(d, &facts));
        if (input == USPLIT_INPUT_MEASURED) {
            must(usplit_dataset_get_frame(d, 0, 2, 0, pixels, NULL, NULL));
            assert_true(facts.input_clip_value > 290 && facts.input_clip_value < 360);      // of channel 3: 295 to 355
            for (int64_t i = 0; i < f.height[0] * f.width[0]; i++) {
                assert_true((double)pixels[i] <= facts.input_clip_value + 1e-4);
            }
            assert_true(facts.clip_value < 260);
        } else {
            near(facts.input_clip_value, (input == USPLIT_INPUT_SUM ? 3 : 1) * facts.clip_value);
        }
        usplit_dataset_free(d);
    }
}

// ---- Sets of unpaired channels ----------------------------------------------------------------------

static void each_channel_is_divided(void **state)
{
    frames f = {12, 2, {0}, {0}, {2, 10}};
    usplit_dataset_options o = plain_options();
    int64_t set[MAX_FRAMES], n = MAX_FRAMES;
    for (int i = 0; i < 12; i++) {
        f.height[i] = 16 + i;
        f.width[i] = 24;
    }
    o.unpaired = 1;
    o.validation_fraction = o.test_fraction = 0.1;      // of ten frames one each, of two none
    usplit_dataset *d = make(*state, &f, &o);
    must(usplit_dataset_get_set(d, USPLIT_SET_TRAIN, set, &n));
    assert_true(n == 10 && set[0] == 0 && set[1] == 1 && set[2] == 4 && set[9] == 11);
    n = MAX_FRAMES;
    must(usplit_dataset_get_set(d, USPLIT_SET_VALIDATION, set, &n));
    assert_true(n == 1 && set[0] == 2);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_VALIDATION, P), 0);       // a channel has none
    usplit_dataset_free(d);
    const int64_t train[] = {5, 1, 3}, validation[] = {2, 0, 7};
    o.train_frames = train;
    o.validation_frames = validation;
    o.n_train_frames = o.n_validation_frames = 3;
    d = make(*state, &f, &o);
    assert_int_equal(us_dataset_n_items(d, USPLIT_SET_TRAIN, P), (16 + 3) / P * 3 + (16 + 5) / P * 3);
    us_place p;
    for (int64_t item = 0; item < us_dataset_n_items(d, USPLIT_SET_VALIDATION, P); item++) {
        must(us_dataset_grid_place(d, &us_drawing_published, USPLIT_SET_VALIDATION, item, P, &p));
        assert_true(p.frame[0] == 0 && (p.frame[1] == 2 || p.frame[1] == 7));
        assert_true(p.y[0] % P == 0 && p.y[1] % P == 0 && p.x[1] % P == 0);
        check_patch(d, &p);
    }
    for (int64_t item = 0; item < 12; item++) {
        must(us_dataset_train_place(d, &us_drawing_published, 1, 0, item, P, &p));
        assert_true(p.frame[0] == 1 && (p.frame[1] == 3 || p.frame[1] == 5));
    }
    usplit_dataset_free(d);
}

// The same frames as views: their own numbers and sizes.
static void views_of_any_size(void **state)
{
    static uint8_t a[3][20][30], b[16][8];
    usplit_image v[2];
    usplit_dataset *d;
    usplit_dataset_options o = plain_options();
    float plane[20 * 30];
    int64_t h, w;
    for (size_t i = 0; i < sizeof a; i++) {
        ((uint8_t *)a)[i] = (uint8_t)(i % 251);
    }
    for (size_t i = 0; i < sizeof b; i++) {
        ((uint8_t *)b)[i] = (uint8_t)(i % 13);
    }
    must(usplit_image_init(&v[0], sizeof v[0], a, USPLIT_TYPE_U8, 3, 20, 30, 1));
    must(usplit_image_init(&v[1], sizeof v[1], b, USPLIT_TYPE_U8, 1, 16, 8, 1));
    refused(usplit_dataset_create(&d, *state, v, 2, &o), USPLIT_ERR_SHAPE, "one size");
    o.unpaired = 1;
    must(usplit_dataset_create(&d, *state, v, 2, &o));
    must(usplit_dataset_get_frame(d, 2, 0, 0, plane, &h, &w));
    assert_true(h == 20 && w == 30 && plane[31] == (float)a[2][1][1]);
    must(usplit_dataset_get_frame(d, 3, 1, 0, plane, &h, &w));
    assert_true(h == 16 && w == 8 && plane[9] == (float)b[1][1]);
    refused(usplit_dataset_get_frame(d, 3, 0, 0, plane, &h, &w), USPLIT_ERR_ARGUMENT, "channel is 0");
    usplit_dataset_free(d);
}

// ---- Exact centres ----------------------------------------------------------------------------------

// A Gaussian blob on the middle of a patch: its centre of mass is the middle of the patch at every level, wherever the
// patch lies. With floored centres it is up to 2^k - 1 pixels away. Sides are even at every level, odd, or mixed.
static void centre_of_mass_is_the_centre(void **state)
{
    enum { SIZE = 32, TOP = 4 };
    static const int64_t sides[] = {256, 255, 243};
    static float pixels[2][256][256];
    double far = 0;
    for (int s = 0; s < 3; s++) {
        for (int64_t shift = 0; shift < 16; shift += 5) {
            int64_t n = sides[s], y0 = 112 + shift, x0 = 121 - shift;
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    double dy = i + 0.5 - (double)(y0 + SIZE / 2), dx = j + 0.5 - (double)(x0 + SIZE / 2);
                    pixels[0][i][j] = pixels[1][i][j] = (float)(1000 * exp(-(dy * dy + dx * dx) / (2 * 14 * 14)));
                }
            }
            usplit_image v;
            must(usplit_image_init(&v, sizeof v, pixels, USPLIT_TYPE_F32, 1, n, n, 2));
            v.stride_row = 4 * 256;
            v.stride_column = 4;
            v.stride_channel = sizeof pixels[0];
            for (int exact = 0; exact < 2; exact++) {
                usplit_dataset_options o = plain_options();
                usplit_dataset *d;
                usplit_dataset_facts f = {.struct_size = sizeof f};
                static float input[(TOP + 1) * SIZE * SIZE];
                o.levels = TOP + 1;
                o.centring = exact;
                o.padding = USPLIT_PADDING_CONSTANT;
                must(usplit_dataset_create(&d, *state, &v, 1, &o));
                must(usplit_dataset_info(d, &f));
                must(us_dataset_patch(d, 0, y0, x0, SIZE, TOP + 1, input, NULL));
                for (int k = 2; k <= TOP; k++) {        // the blob lies within the crop
                    double mass = 0, y = 0, x = 0;
                    for (int i = 0; i < SIZE * SIZE; i++) {
                        double g = (double)input[k * SIZE * SIZE + i] * f.input_deviation + f.input_mean;
                        mass += g;
                        y += g * (i / SIZE + 0.5);
                        x += g * (i % SIZE + 0.5);
                    }
                    double off = hypot(y / mass - SIZE / 2, x / mass - SIZE / 2) * ldexp(1, k);
                    far = !exact && off > far ? off : far;
                    // In native pixels: sampling a blob of 14/2^k pixels, and its tails. Halving odd sides
                    // interpolates by another amount at every pixel: a hundredth of the level's pixels.
                    assert_true(!exact || off < (n == 256 ? 1e-4 : ldexp(0.015, k)));
                }
                usplit_dataset_free(d);
            }
        }
    }
    assert_true(far > 10);
}

// ---- Refusals ---------------------------------------------------------------------------------------

static void hostile_values(void **state)
{
    usplit_dataset *d;
    frames f = paired_frames(2), u = unpaired_frames();
    usplit_dataset_options o = plain_options();
    o.input = 3;
    refused(try_make(&d, *state, &f, &o), USPLIT_ERR_ARGUMENT, "input is 3");
    o.input = USPLIT_INPUT_MEASURED;
    refused(try_make(&d, *state, &f, &o), USPLIT_ERR_ARGUMENT, "2 channels");
    o = plain_options();
    o.centring = -1;
    refused(try_make(&d, *state, &f, &o), USPLIT_ERR_ARGUMENT, "centring is -1");
    o = plain_options();
    o.unpaired = 7;
    refused(try_make(&d, *state, &f, &o), USPLIT_ERR_ARGUMENT, "unpaired is 7");
    o.unpaired = 1;
    refused(try_make(&d, *state, &f, &o), USPLIT_ERR_ARGUMENT, "channel_frames is NULL");
    o.unpaired = 0;
    refused(try_make(&d, *state, &u, &o), USPLIT_ERR_ARGUMENT, "without the option unpaired");
    o.unpaired = 1;
    o.input = USPLIT_INPUT_MEASURED;
    refused(try_make(&d, *state, &u, &o), USPLIT_ERR_ARGUMENT, "measured");
    o.input = 0;
    u.own[1] = 5;
    refused(try_make(&d, *state, &u, &o), USPLIT_ERR_ARGUMENT, "8 frames together, n_frames is 7");
    u.own[1] = -3;
    refused(try_make(&d, *state, &u, &o), USPLIT_ERR_ARGUMENT, "channel 1 has -3 frames");
    u = unpaired_frames();
    const int64_t train[] = {0, 1};
    o.train_frames = train;
    o.n_train_frames = 2;
    refused(try_make(&d, *state, &u, &o), USPLIT_ERR_ARGUMENT, "channel 2 has no training frame");
    static float pixel[64];
    usplit_image v[2];
    o = plain_options();
    o.unpaired = 1;
    for (int i = 0; i < 2; i++) {           // the same pixels as frames without end
        must(usplit_image_init(&v[i], sizeof v[i], pixel, USPLIT_TYPE_F32, 1, 8, 8, 1));
        v[i].frames = INT64_MAX / 2 + 1;
        v[i].stride_frame = 0;
    }
    assert_true(usplit_dataset_create(&d, *state, v, 2, &o) != USPLIT_OK && !d);
    usplit_critter_options c;
    must(usplit_critter_options_init(&c, sizeof c));
    o = plain_options();
    o.unpaired = 1;
    refused(usplit_dataset_create_critters(&d, *state, &c, &o), USPLIT_ERR_ARGUMENT, "uncorrelated");
    assert_null(d);
}

static int set_up(void **state)
{
    usplit_context *context;
    must(usplit_context_create(&context, NULL));
    *state = context;
    return 0;
}

static int tear_down(void **state)
{
    usplit_context_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_the_symmetries_of_a_square),
        cmocka_unit_test(patches_are_weighted_sums),
        cmocka_unit_test(published_places_stay),
        cmocka_unit_test(draws_are_even_and_independent),
        cmocka_unit_test(lead_visits_every_frame),
        cmocka_unit_test(uncorrelated_takes_apart_as_often_as_asked),
        cmocka_unit_test(statistics_follow_the_input),
        cmocka_unit_test(unpaired_statistics_weigh_channels_alike),
        cmocka_unit_test(clip_values),
        cmocka_unit_test(each_channel_is_divided),
        cmocka_unit_test(views_of_any_size),
        cmocka_unit_test(centre_of_mass_is_the_centre),
        cmocka_unit_test(hostile_values),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
