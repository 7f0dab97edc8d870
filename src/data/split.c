// Which frames train, validate and test (data section 2.2): the published rules for equal fractions, the
// same idea with exact counts for unequal ones, or lists given by the caller. Nothing here is random.
//
// Unequal fractions under the interleaved rule: the first M frames, M as published, are dealt in the same
// runs, each run to the set that is further from its share, until both have theirs. The published
// correction (a fixed shuffle that moves frames between the sets) is not reproduced.
#include <math.h>
#include <string.h>

#include "data/dataset_impl.h"

static void append(int64_t *set[4], int64_t count[4], int32_t to, int64_t frame)
{
    set[to][count[to]++] = frame;
}

// ---- The two rules ------------------------------------------------------------------------------

static void split_sequential(int64_t n, double validation, double test, int64_t *set[4], int64_t count[4])
{
    int64_t n_test = (int64_t)(test * (double)n);
    int64_t n_validation = (int64_t)(validation * (double)n);
    for (int64_t f = 0; f < n; f++) {
        int32_t to = f < n_test                  ? USPLIT_SET_TEST
                     : f < n_test + n_validation ? USPLIT_SET_VALIDATION
                                                 : USPLIT_SET_TRAIN;
        append(set, count, to, f);
    }
}

static int64_t run_length(int64_t m)
{
    return m / 2 > 3 ? 3 : m / 2 < 1 ? 1 : m / 2;
}

// Frames 0..m-1 in runs: validation, test, validation, ... What is left over after whole runs goes to the
// test set, or is shared when the last run went there.
static void deal_equal(int64_t m, int64_t *set[4], int64_t count[4])
{
    int64_t c = run_length(m);
    int64_t runs = m / c;
    for (int64_t f = 0; f < runs * c; f++) {
        append(set, count, f / c % 2 == 0 ? USPLIT_SET_VALIDATION : USPLIT_SET_TEST, f);
    }
    int64_t left = m - runs * c;
    int64_t to_test = runs % 2 == 1 ? left : left / 2;
    for (int64_t i = 0; i < left; i++) {
        append(set, count, i < to_test ? USPLIT_SET_TEST : USPLIT_SET_VALIDATION, runs * c + i);
    }
}

static void deal_shares(int64_t m, double validation, double test, int64_t *set[4], int64_t count[4])
{
    int64_t c = run_length(m);
    int64_t want_validation = (int64_t)floor((double)m * validation / (validation + test) + 0.5);
    int64_t want_test = m - want_validation;
    int64_t f = 0;
    while (f < m) {
        // filled/wanted compared without division; validation first when level
        int64_t v = count[USPLIT_SET_VALIDATION], t = count[USPLIT_SET_TEST];
        int to_validation = v < want_validation && (t >= want_test || v * want_test <= t * want_validation);
        int32_t to = to_validation ? USPLIT_SET_VALIDATION : USPLIT_SET_TEST;
        int64_t room = to_validation ? want_validation - v : want_test - t;
        for (int64_t i = 0; i < c && i < room; i++) {
            append(set, count, to, f++);
        }
    }
}

static void split_interleaved(int64_t n, double validation, double test, int64_t *set[4], int64_t count[4])
{
    int64_t m = (int64_t)((validation + test) * (double)n);
    if (validation == test) {
        if (m > 0) {
            deal_equal(m, set, count);
        }
    } else {
        deal_shares(m, validation, test, set, count);
    }
    for (int64_t f = m; f < n; f++) {
        append(set, count, USPLIT_SET_TRAIN, f);
    }
}

// ---- Lists --------------------------------------------------------------------------------------

static const char *const set_names[4] = {"all", "training", "validation", "test"};

// owner[f] is the set that has frame f so far, 0 for none.
static usplit_status take_list(int64_t n_frames, int32_t to, const int64_t *list, int64_t n, uint8_t *owner,
                               int64_t *set[4], int64_t count[4])
{
    US_CHECK_ARG(n >= 0 && n <= n_frames, "the %s set has %lld frames; accepted: 0 to %lld", set_names[to],
                 (long long)n, (long long)n_frames);
    US_CHECK_ARG(list || n == 0, "the %s list is NULL with a length of %lld", set_names[to], (long long)n);
    for (int64_t i = 0; i < n; i++) {
        int64_t f = list[i];
        US_CHECK_ARG(f >= 0 && f < n_frames, "frame %lld is in the %s set; accepted: 0 to %lld", (long long)f,
                     set_names[to], (long long)n_frames - 1);
        US_CHECK_ARG(owner[f] == 0, "frame %lld is in the %s set and again in the %s set", (long long)f,
                     set_names[owner[f]], set_names[to]);
        owner[f] = (uint8_t)to;
        append(set, count, to, f);
    }
    return USPLIT_OK;
}

static usplit_status split_lists(const us_allocator *a, int64_t n, const usplit_dataset_options *o,
                                 int64_t *set[4], int64_t count[4])
{
    uint8_t *owner = us_calloc(a, (size_t)n, sizeof *owner);
    if (!owner) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = USPLIT_OK;
    US_TRY_GOTO(take_list(n, USPLIT_SET_TRAIN, o->train_frames, o->n_train_frames, owner, set, count));
    US_TRY_GOTO(
        take_list(n, USPLIT_SET_VALIDATION, o->validation_frames, o->n_validation_frames, owner, set, count));
    US_TRY_GOTO(take_list(n, USPLIT_SET_TEST, o->test_frames, o->n_test_frames, owner, set, count));
done:
    us_free(a, owner);
    return status;
}

// ---- The door -----------------------------------------------------------------------------------

usplit_status us_data_split(const us_allocator *a, int64_t n_frames, const usplit_dataset_options *options,
                            int64_t *set[4], int64_t count[4])
{
    for (int s = 0; s < 4; s++) {
        count[s] = 0;
        set[s] = us_alloc(a, (size_t)n_frames, sizeof *set[s]);
        if (!set[s]) {
            return USPLIT_ERR_MEMORY;
        }
    }
    for (int64_t f = 0; f < n_frames; f++) {
        append(set, count, USPLIT_SET_ALL, f);
    }
    const usplit_dataset_options *o = options;
    double v = o->validation_fraction, t = o->test_fraction;
    int lists = o->train_frames || o->validation_frames || o->test_frames || o->n_train_frames ||
                o->n_validation_frames || o->n_test_frames;
    if (lists) {
        US_TRY(split_lists(a, n_frames, o, set, count));
    } else {
        US_CHECK_ARG(v >= 0.0 && v < 1.0, "validation_fraction is %g; accepted: 0 to under 1", v);
        US_CHECK_ARG(t >= 0.0 && t < 1.0, "test_fraction is %g; accepted: 0 to under 1", t);
        US_CHECK_ARG(v + t < 1.0, "validation_fraction %g and test_fraction %g leave no training frames", v,
                     t);
        switch (o->split) {
        case USPLIT_SPLIT_INTERLEAVED:
            split_interleaved(n_frames, v, t, set, count);
            break;
        case USPLIT_SPLIT_SEQUENTIAL:
            split_sequential(n_frames, v, t, set, count);
            break;
        default:
            US_FAIL(USPLIT_ERR_ARGUMENT,
                    "split is %d; accepted: USPLIT_SPLIT_INTERLEAVED (0), USPLIT_SPLIT_SEQUENTIAL (1)",
                    o->split);
        }
    }
    US_CHECK_ARG(count[USPLIT_SET_TRAIN] > 0,
                 "the training set is empty; accepted: at least 1 of the %lld frames", (long long)n_frames);
    return USPLIT_OK;
}
