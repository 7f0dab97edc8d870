// Which patches an epoch holds and how one is cut (data sections 2.5, 2.6, 3.2). Nothing is stored: the
// order of an epoch is a keyed permutation and a position is a draw keyed by (seed, epoch, item), so any
// item can be cut at any time, on any thread.
#include "data/dataset_impl.h"
#include "kernels/philox.h"

enum { ROUNDS = 8 };

// ---- The order of an epoch ----------------------------------------------------------------------

// A Feistel network on 2 * half_bits bits, its round function drawn from Philox.
static uint64_t scramble(uint64_t x, int half_bits, uint64_t seed, int64_t epoch)
{
    uint32_t mask = (uint32_t)(((uint64_t)1 << half_bits) - 1);
    uint32_t left = (uint32_t)(x >> half_bits) & mask, right = (uint32_t)x & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        us_u32x4 draw = us_philox(seed, US_RNG_ORDER, (uint32_t)epoch, round, right);
        uint32_t next = left ^ (draw.v[0] & mask);
        left = right;
        right = next;
    }
    return ((uint64_t)left << half_bits) | right;
}

// The network permutes the next power of four; values of n or more are sent round again (cycle walking),
// at most 4 passes on average, which leaves a permutation of 0..n-1.
int64_t us_data_permute(int64_t n, uint64_t seed, int64_t epoch, int64_t place)
{
    int half_bits = 1;
    while (half_bits < 31 && ((int64_t)1 << (2 * half_bits)) < n) {
        half_bits++;
    }
    uint64_t x = (uint64_t)place;
    do {
        x = scramble(x, half_bits, seed, epoch);
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

// ---- Items of a set -----------------------------------------------------------------------------

static int64_t count_cells(const us_frame *frame, int64_t patch)
{
    return (frame->height / patch) * (frame->width / patch);
}

// Items in the first `rounds` rounds: every round takes one cell of every frame that still has one.
static int64_t count_rounds(const usplit_dataset *d, int32_t set, int64_t patch, int64_t rounds)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < d->set_count[set]; i++) {
        int64_t cells = count_cells(&d->frames[d->set[set][i]], patch);
        sum += cells < rounds ? cells : rounds;
    }
    return sum;
}

int64_t us_dataset_n_items(const usplit_dataset *dataset, int32_t set, int64_t patch)
{
    if (set < USPLIT_SET_ALL || set > USPLIT_SET_TEST || patch < 1) {
        return 0;
    }
    if (dataset->same_size) {
        return dataset->set_count[set] * count_cells(&dataset->frames[0], patch);
    }
    return count_rounds(dataset, set, patch, INT64_MAX);
}

// Item i: frames in round-robin order, frame fastest. With frames of one size: frame i mod N, cell i / N.
static void find_item(const usplit_dataset *d, int32_t set, int64_t patch, int64_t item, int64_t *frame,
                      int64_t *cell)
{
    int64_t n = d->set_count[set];
    if (d->same_size) {
        *frame = d->set[set][item % n];
        *cell = item / n;
        return;
    }
    int64_t low = 0, high = item + 1; // the round: largest r with count_rounds(r) <= item
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (count_rounds(d, set, patch, middle) <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *cell = low;
    int64_t left = item - count_rounds(d, set, patch, low);
    for (int64_t i = 0; i < n; i++) {
        *frame = d->set[set][i];
        if (count_cells(&d->frames[*frame], patch) > low && left-- == 0) {
            return;
        }
    }
}

static usplit_status check_item(const usplit_dataset *d, int32_t set, int64_t item, int64_t patch)
{
    int64_t n = us_dataset_n_items(d, set, patch);
    US_CHECK_ARG(item >= 0 && item < n, "item is %lld; the set has %lld patches of %lld pixels a side",
                 (long long)item, (long long)n, (long long)patch);
    return USPLIT_OK;
}

// ---- Patches ------------------------------------------------------------------------------------

usplit_status us_dataset_patch(const usplit_dataset *dataset, int64_t frame, int64_t y0, int64_t x0,
                               int64_t patch, int n_levels, float *input, float *target)
{
    if (patch < 1 || patch > US_DATA_MAX_SIDE || (n_levels > 1 && patch % 2 != 0)) {
        US_FAIL(USPLIT_ERR_SHAPE, "patch is %lld; accepted: 1 to %d, even with lateral context",
                (long long)patch, US_DATA_MAX_SIDE);
    }
    if (n_levels < 1 || n_levels > dataset->levels) {
        US_FAIL(USPLIT_ERR_SHAPE, "%d levels wanted, the dataset holds %d", n_levels, dataset->levels);
    }
    US_CHECK_ARG(frame >= 0 && frame < dataset->n_frames, "frame is %lld; accepted: 0 to %lld",
                 (long long)frame, (long long)dataset->n_frames - 1);
    const us_statistics *s = &dataset->statistics;
    us_plane planes[USPLIT_MAX_CHANNELS];
    for (int k = 0; k < n_levels && input; k++) {
        for (int c = 0; c < dataset->channels; c++) {
            planes[c] = us_dataset_plane(dataset, frame, c, k);
        }
        us_patch_cut_mean(planes, dataset->channels, us_patch_context_start(y0, patch, k),
                          us_patch_context_start(x0, patch, k), patch, s->padding, (float)s->padding_value,
                          (float)s->input_mean, (float)(1.0 / s->input_deviation), input + k * patch * patch,
                          1);
    }
    for (int c = 0; c < dataset->channels && target; c++) {
        planes[0] = us_dataset_plane(dataset, frame, c, 0);
        us_patch_cut_mean(planes, 1, y0, x0, patch, s->padding, (float)s->padding_value,
                          (float)s->target_mean[c], (float)(1.0 / s->target_deviation[c]), target + c,
                          dataset->channels);
    }
    return USPLIT_OK;
}

// Uniform in [0, n - patch - 1], as published: the last start is never drawn; 0 when the patch fills the
// axis (data section 2.5, trap 7).
static int64_t draw_start(int64_t n, int64_t patch, uint32_t a, uint32_t b)
{
    return (int64_t)(us_uniform53(a, b) * (double)(n - patch));
}

usplit_status us_dataset_train_place(const usplit_dataset *dataset, uint64_t seed, int64_t epoch, int64_t item,
                                     int64_t patch, int64_t *frame, int64_t *y, int64_t *x)
{
    US_TRY(check_item(dataset, USPLIT_SET_TRAIN, item, patch));
    int64_t n = us_dataset_n_items(dataset, USPLIT_SET_TRAIN, patch), cell = 0;
    find_item(dataset, USPLIT_SET_TRAIN, patch, us_data_permute(n, seed, epoch, item), frame, &cell);
    const us_frame *f = &dataset->frames[*frame];
    us_u32x4 draw =
        us_philox(seed, US_RNG_PATCH, (uint32_t)epoch, (uint32_t)item, (uint32_t)((uint64_t)item >> 32));
    *y = draw_start(f->height, patch, draw.v[0], draw.v[1]);
    *x = draw_start(f->width, patch, draw.v[2], draw.v[3]);
    return USPLIT_OK;
}

usplit_status us_dataset_train_patch(const usplit_dataset *dataset, uint64_t seed, int64_t epoch,
                                     int64_t item, int64_t patch, int n_levels, float *input, float *target)
{
    int64_t frame = 0, y = 0, x = 0;
    US_TRY(us_dataset_train_place(dataset, seed, epoch, item, patch, &frame, &y, &x));
    return us_dataset_patch(dataset, frame, y, x, patch, n_levels, input, target);
}

int us_dataset_in_set(const usplit_dataset *dataset, int32_t set, int64_t frame)
{
    return set == USPLIT_SET_ALL || dataset->frames[frame].set == set;
}

usplit_status us_dataset_grid_patch(const usplit_dataset *dataset, int32_t set, int64_t item, int64_t patch,
                                    int n_levels, float *input, float *target)
{
    US_TRY(check_item(dataset, set, item, patch));
    int64_t frame = 0, cell = 0;
    find_item(dataset, set, patch, item, &frame, &cell);
    int64_t columns = dataset->frames[frame].width / patch;
    return us_dataset_patch(dataset, frame, cell / columns * patch, cell % columns * patch, patch, n_levels,
                            input, target);
}
