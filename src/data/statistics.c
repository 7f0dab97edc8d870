// Numbers of the training pixels: the clip value and the means and deviations (data sections 2.3, 2.4).
// Planes are shared among the pool's threads; what each plane or worker finds is added in a fixed order
// (or is an integer), so the thread count changes no bit.
#include <limits.h>
#include <math.h>
#include <string.h>

#include "data/dataset_impl.h"

enum {
    BINS = 1 << 16,
    LANES = 8 // independent sums, for a vector loop
};

// ---- Quantile: two counting passes over the halves of a sortable 32-bit key ----------------------

// Floats in the order of their values, as unsigned numbers; -0 counts as 0.
static inline uint32_t sort_key(float v)
{
    uint32_t bits;
    v += 0.0f;
    memcpy(&bits, &v, sizeof bits);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

static float key_value(uint32_t key)
{
    uint32_t bits = key ^ (key >> 31 ? 0x80000000u : 0xFFFFFFFFu);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

typedef struct counting {
    const us_plane *planes;
    int high;       // >= 0: count the low halves of the keys with this high half; -1: the high halves
    uint64_t *bins; // [worker][BINS]
} counting;

static usplit_status count_plane(void *user, int task, int worker)
{
    const counting *c = user;
    const us_plane *plane = &c->planes[task];
    uint64_t *bins = c->bins + (size_t)worker * BINS;
    int64_t n = plane->height * plane->width;
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = sort_key(plane->data[i]);
        if (c->high < 0) {
            bins[key >> 16]++;
        } else if ((int)(key >> 16) == c->high) {
            bins[key & 0xFFFFu]++;
        }
    }
    return USPLIT_OK;
}

// Counts and adds up the workers' bins in the first worker's.
static usplit_status count_planes(us_pool *pool, counting *c, int64_t n_planes)
{
    int workers = us_pool_size(pool);
    memset(c->bins, 0, (size_t)workers * BINS * sizeof *c->bins);
    US_TRY(us_pool_run(pool, (int)n_planes, count_plane, c));
    for (int w = 1; w < workers; w++) {
        for (int b = 0; b < BINS; b++) {
            c->bins[b] += c->bins[(size_t)w * BINS + (size_t)b];
        }
    }
    return USPLIT_OK;
}

// The bin that holds the element of this rank; *rank becomes its rank inside the bin.
static int find_bin(const uint64_t *bins, uint64_t *rank)
{
    int b = 0;
    while (b < BINS - 1 && *rank >= bins[b]) {
        *rank -= bins[b++];
    }
    return b;
}

// The values of the elements of two neighbouring ranks.
static usplit_status select_pair(us_pool *pool, counting *c, int64_t n_planes, uint64_t rank[2],
                                 float value[2])
{
    c->high = -1;
    US_TRY(count_planes(pool, c, n_planes));
    int high[2];
    for (int k = 0; k < 2; k++) {
        high[k] = find_bin(c->bins, &rank[k]);
    }
    for (int k = 0; k < 2; k++) {
        if (k == 0 || high[1] != high[0]) {
            c->high = high[k];
            US_TRY(count_planes(pool, c, n_planes));
        }
        uint32_t low = (uint32_t)find_bin(c->bins, &rank[k]);
        value[k] = key_value(((uint32_t)high[k] << 16) | low);
    }
    return USPLIT_OK;
}

// v_floor(t) + (t - floor(t)) (v_floor(t)+1 - v_floor(t)) at t = q (n - 1), data section 2.3.
usplit_status us_data_quantile(const us_allocator *a, us_pool *pool, const us_plane *planes, int64_t n_planes,
                               double q, double *value)
{
    US_ASSERT(n_planes >= 1 && n_planes <= INT_MAX && q >= 0.0 && q <= 1.0);
    int64_t n = 0;
    for (int64_t i = 0; i < n_planes; i++) {
        n += planes[i].height * planes[i].width;
    }
    counting c = {planes, -1, NULL};
    c.bins = us_alloc(a, (size_t)us_pool_size(pool) * BINS, sizeof *c.bins);
    if (!c.bins) {
        return USPLIT_ERR_MEMORY;
    }
    double t = q * (double)(n - 1);
    double whole = floor(t);
    uint64_t first = (uint64_t)whole;
    uint64_t rank[2] = {first, first + 1 < (uint64_t)n ? first + 1 : (uint64_t)n - 1};
    float v[2] = {0.0f, 0.0f};
    usplit_status status = select_pair(pool, &c, n_planes, rank, v);
    us_free(a, c.bins);
    *value = (double)v[0] + (t - whole) * ((double)v[1] - (double)v[0]);
    return status;
}

// ---- Means and deviations -----------------------------------------------------------------------

typedef struct moments {
    double n, mean, squares; // squares: sum of squared distances from the mean
    float lowest, highest;
} moments;

typedef struct measuring {
    const us_plane *planes;
    moments *results; // one per plane
} measuring;

static double sum_lanes(const double lane[LANES])
{
    double sum = 0.0;
    for (int l = 0; l < LANES; l++) {
        sum += lane[l];
    }
    return sum;
}

static usplit_status measure_plane(void *user, int task, int worker)
{
    (void)worker;
    const measuring *m = user;
    const float *p = m->planes[task].data;
    int64_t n = m->planes[task].height * m->planes[task].width;
    int64_t whole = n - n % LANES;
    double sum[LANES] = {0.0}, squares[LANES] = {0.0};
    float low = p[0], high = p[0];
    for (int64_t i = 0; i < whole; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            sum[l] += (double)p[i + l];
        }
    }
    for (int64_t i = whole; i < n; i++) {
        sum[i - whole] += (double)p[i];
    }
    double mean = sum_lanes(sum) / (double)n;
    for (int64_t i = 0; i < whole; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            double d = (double)p[i + l] - mean;
            squares[l] += d * d;
        }
    }
    for (int64_t i = whole; i < n; i++) {
        double d = (double)p[i] - mean;
        squares[i - whole] += d * d;
    }
    for (int64_t i = 0; i < n; i++) {
        low = p[i] < low ? p[i] : low;
        high = p[i] > high ? p[i] : high;
    }
    m->results[task] = (moments){(double)n, mean, sum_lanes(squares), low, high};
    return USPLIT_OK;
}

// Two groups as one (Chan, Golub and LeVeque, 1979).
static moments merge(moments a, moments b)
{
    if (a.n == 0.0) {
        return b;
    }
    double n = a.n + b.n, d = b.mean - a.mean;
    moments r = {n, a.mean + d * b.n / n, a.squares + b.squares + d * d * a.n * b.n / n, a.lowest, a.highest};
    r.lowest = b.lowest < a.lowest ? b.lowest : a.lowest;
    r.highest = b.highest > a.highest ? b.highest : a.highest;
    return r;
}

static usplit_status store_moments(const moments *per_channel, int channels, int even, us_statistics *s)
{
    moments pooled = {0.0, 0.0, 0.0, 0.0f, 0.0f};
    double sum = 0.0, variance = 0.0;
    int measured = s->input == USPLIT_INPUT_MEASURED;
    for (int c = 0; c < channels + measured; c++) {
        moments m = per_channel[c];
        double deviation = sqrt(m.squares / m.n);
        US_CHECK_ARG(m.lowest < m.highest && isfinite(1.0f / (float)deviation),
                     "channel %d is constant (%g) in the training frames; accepted: channels with a spread",
                     c, (double)m.lowest);
        if (c == channels) {
            s->input_mean = m.mean;
            s->input_deviation = deviation;
            return USPLIT_OK;
        }
        s->target_mean[c] = m.mean;
        s->target_deviation[c] = deviation;
        sum += m.mean;
        variance += deviation * deviation;
        if (even) {
            m.squares /= m.n;
            m.n = 1.0;
        }
        pooled = merge(pooled, m);
    }
    int is_sum = s->input == USPLIT_INPUT_SUM;
    s->input_mean = is_sum ? sum : pooled.mean;
    s->input_deviation = is_sum ? sqrt(variance) : sqrt(pooled.squares / pooled.n);
    return USPLIT_OK;
}

usplit_status us_data_moments(const us_allocator *a, us_pool *pool, const us_plane *planes, const int32_t *owner,
                              int64_t n_planes, int channels, int even, us_statistics *statistics)
{
    US_ASSERT(n_planes >= 1 && n_planes <= INT_MAX);
    moments *results = us_alloc(a, (size_t)n_planes, sizeof *results);
    if (!results) {
        return USPLIT_ERR_MEMORY;
    }
    measuring m = {planes, results};
    usplit_status status = USPLIT_OK;
    US_TRY_GOTO(us_pool_run(pool, (int)n_planes, measure_plane, &m));
    moments per_channel[USPLIT_MAX_CHANNELS + 1] = {{0.0, 0.0, 0.0, 0.0f, 0.0f}};
    for (int64_t i = 0; i < n_planes; i++) {
        per_channel[owner[i]] = merge(per_channel[owner[i]], results[i]);
    }
    US_TRY_GOTO(store_moments(per_channel, channels, even, statistics));
done:
    us_free(a, results);
    return status;
}
