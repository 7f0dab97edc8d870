// Which patches an epoch holds, and where each comes from (data sections 2.5, 2.6, 11.1); cut.c cuts them. Nothing is
// stored: the order of an epoch is a keyed permutation and a position is a draw keyed by (seed, epoch, item), so any
// item can be cut at any time, on any thread.
//
// Of unpaired channels the one with most patches leads: it is visited in the epoch's order, like the frames of paired
// ones. The others' patches, and paired channels taken apart, are drawn afresh for every item.
#include "data/dataset_impl.h"
#include "kernels/philox.h"

enum { ROUNDS = 8 };
enum { DRAW_PLACE = 0, DRAW_FRAME = 1, DRAW_ITEM = 2 };     // uses of US_RNG_MIX

const us_drawing us_drawing_published = {.low = {1, 1, 1, 1, 1, 1, 1, 1}, .high = {1, 1, 1, 1, 1, 1, 1, 1}};

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

// The frames of a set that hold a channel: all of them, but of unpaired channels.
typedef struct frame_list {
    const usplit_dataset *d;
    const int64_t *frames;
    int64_t n;
} frame_list;

static frame_list list_frames(const usplit_dataset *d, int32_t set, int channel)
{
    frame_list l = {d, d->set[set], d->set_count[set]};
    if (d->unpaired) {
        l.frames += d->first[set][channel];
        l.n = d->first[set][channel + 1] - d->first[set][channel];
    }
    return l;
}

static int64_t count_cells(const us_frame *frame, int64_t patch)
{
    return (frame->height / patch) * (frame->width / patch);
}

// Items in the first `rounds` rounds: every round takes one cell of every frame that still has one.
static int64_t count_rounds(const frame_list *l, int64_t patch, int64_t rounds)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < l->n; i++) {
        int64_t cells = count_cells(&l->d->frames[l->frames[i]], patch);
        sum += cells < rounds ? cells : rounds;
    }
    return sum;
}

static int64_t count_items(const frame_list *l, int64_t patch)
{
    return l->d->same_size ? l->n * count_cells(&l->d->frames[0], patch) : count_rounds(l, patch, INT64_MAX);
}

// The channel with most items, and their number; 0 where a channel has none.
static int find_lead(const usplit_dataset *d, int32_t set, int64_t patch, int64_t *n_items)
{
    int lead = 0;
    *n_items = 0;
    for (int c = 0; c < (d->unpaired ? d->channels : 1); c++) {
        frame_list l = list_frames(d, set, c);
        int64_t n = count_items(&l, patch);
        if (n == 0) {
            *n_items = 0;
            return 0;
        }
        lead = n > *n_items ? c : lead;
        *n_items = n > *n_items ? n : *n_items;
    }
    return lead;
}

int64_t us_dataset_n_items(const usplit_dataset *dataset, int32_t set, int64_t patch)
{
    int64_t n;
    if (set < USPLIT_SET_ALL || set > USPLIT_SET_TEST || patch < 1) {
        return 0;
    }
    find_lead(dataset, set, patch, &n);
    return n;
}

// Item i: frames in round-robin order, frame fastest. With frames of one size: frame i mod N, cell i / N.
static void find_item(const frame_list *l, int64_t patch, int64_t item, int64_t *frame, int64_t *cell)
{
    if (l->d->same_size) {
        *frame = l->frames[item % l->n];
        *cell = item / l->n;
        return;
    }
    int64_t low = 0, high = item + 1; // the round: largest r with count_rounds(r) <= item
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (count_rounds(l, patch, middle) <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *cell = low;
    int64_t left = item - count_rounds(l, patch, low);
    for (int64_t i = 0; i < l->n; i++) {
        *frame = l->frames[i];
        if (count_cells(&l->d->frames[*frame], patch) > low && left-- == 0) {
            return;
        }
    }
}

static usplit_status check_item(int64_t n, int64_t item, int64_t patch)
{
    US_CHECK_ARG(item >= 0 && item < n, "item is %lld; the set has %lld patches of %lld pixels a side",
                 (long long)item, (long long)n, (long long)patch);
    return USPLIT_OK;
}

// ---- Places -------------------------------------------------------------------------------------

// One place for all channels, mixed with weights 1, unturned.
static void place_all(const usplit_dataset *d, int64_t frame, int64_t y, int64_t x, us_place *place)
{
    *place = (us_place){.turn = 0};
    for (int c = 0; c < US_PLACE_CHANNELS; c++) {
        place->frame[c] = frame;
        place->y[c] = y;
        place->x[c] = x;
        place->gain[c] = 1;
    }
    if (d->statistics.input == USPLIT_INPUT_MEASURED) {
        place->weight[d->channels] = 1;
        return;
    }
    for (int c = 0; c < d->channels; c++) {
        place->weight[c] = d->statistics.input == USPLIT_INPUT_SUM ? 1.0f : 1.0f / (float)d->channels;
    }
}

static void weigh(const usplit_dataset *d, const us_drawing *w, int channel, double share, us_place *place)
{
    if (d->statistics.input != USPLIT_INPUT_MEASURED) {
        float alpha = (float)(w->low[channel] + share * (w->high[channel] - w->low[channel]));
        place->weight[channel] *= alpha;
        place->gain[channel] = w->fixed_targets ? 1 : alpha;
    }
}

// Uniform in [0, n - patch - 1], as published: the last start is never drawn; 0 when the patch fills the
// axis (data section 2.5, trap 7).
static int64_t draw_start(int64_t n, int64_t patch, uint32_t a, uint32_t b)
{
    return (int64_t)(us_uniform53(a, b) * (double)(n - patch));
}

static void draw_position(const us_frame *f, int64_t patch, us_u32x4 draw, int64_t *y, int64_t *x)
{
    *y = draw_start(f->height, patch, draw.v[0], draw.v[1]);
    *x = draw_start(f->width, patch, draw.v[2], draw.v[3]);
}

// The numbers of one use for one channel of an item.
typedef struct item_key {
    uint64_t seed;
    int64_t epoch, item;
} item_key;

static us_u32x4 draw_for(const item_key *k, int use, int channel)
{
    uint32_t what = US_RNG_MIX | (uint32_t)channel << 8 | (uint32_t)use << 16;
    return us_philox(k->seed, what, (uint32_t)k->epoch, (uint32_t)k->item, (uint32_t)((uint64_t)k->item >> 32));
}

// A place of its own: a frame with a chance in proportion to its patches, a position in it.
static void draw_apart(const usplit_dataset *d, const item_key *k, int channel, int64_t patch, us_place *place)
{
    frame_list l = list_frames(d, USPLIT_SET_TRAIN, channel);
    us_u32x4 draw = draw_for(k, DRAW_FRAME, channel);
    int64_t cell, item = (int64_t)(us_uniform53(draw.v[0], draw.v[1]) * (double)count_items(&l, patch));
    find_item(&l, patch, item, &place->frame[channel], &cell);
    draw_position(&d->frames[place->frame[channel]], patch, draw_for(k, DRAW_PLACE, channel), &place->y[channel],
                  &place->x[channel]);
}

usplit_status us_dataset_train_place(const usplit_dataset *dataset, const us_drawing *drawing, uint64_t seed,
                                     int64_t epoch, int64_t item, int64_t patch, us_place *place)
{
    const usplit_dataset *d = dataset;
    int64_t n, frame, cell, y, x;
    int lead = find_lead(d, USPLIT_SET_TRAIN, patch, &n);
    US_TRY(check_item(n, item, patch));
    frame_list l = list_frames(d, USPLIT_SET_TRAIN, lead);
    find_item(&l, patch, us_data_permute(n, seed, epoch, item), &frame, &cell);
    draw_position(&d->frames[frame], patch,
                  us_philox(seed, US_RNG_PATCH, (uint32_t)epoch, (uint32_t)item, (uint32_t)((uint64_t)item >> 32)),
                  &y, &x);
    place_all(d, frame, y, x, place);
    item_key k = {seed, epoch, item};
    us_u32x4 own = draw_for(&k, DRAW_ITEM, 0);
    int apart = d->unpaired || us_uniform53(own.v[0], own.v[1]) < drawing->uncorrelated;
    for (int c = 0; c < d->channels; c++) {
        us_u32x4 share = draw_for(&k, DRAW_FRAME, c);
        if (apart && c != lead) {
            draw_apart(d, &k, c, patch, place);
        }
        weigh(d, drawing, c, us_uniform53(share.v[2], share.v[3]), place);
    }
    place->turn = drawing->augment ? (int32_t)(own.v[2] & 7) : 0;
    return USPLIT_OK;
}

usplit_status us_dataset_grid_place(const usplit_dataset *dataset, const us_drawing *drawing, int32_t set,
                                    int64_t item, int64_t patch, us_place *place)
{
    const usplit_dataset *d = dataset;
    int64_t n = us_dataset_n_items(d, set, patch), frame = 0, cell = 0;
    US_TRY(check_item(n, item, patch));
    place_all(d, 0, 0, 0, place);
    for (int c = 0; c < us_dataset_held(d) || c < d->channels; c++) {
        frame_list l = list_frames(d, set, d->unpaired ? c : 0);
        find_item(&l, patch, item % count_items(&l, patch), &frame, &cell);
        int64_t columns = d->frames[frame].width / patch;
        place->frame[c] = frame;
        place->y[c] = cell / columns * patch;
        place->x[c] = cell % columns * patch;
    }
    for (int c = 0; c < d->channels; c++) {
        weigh(d, drawing, c, 0.5, place);
    }
    return USPLIT_OK;
}

int us_dataset_in_set(const usplit_dataset *dataset, int32_t set, int64_t frame)
{
    return set == USPLIT_SET_ALL || dataset->frames[frame].set == set;
}

// ---- Place and patch in one ---------------------------------------------------------------------

usplit_status us_dataset_patch(const usplit_dataset *dataset, int64_t frame, int64_t y0, int64_t x0,
                               int64_t patch, int n_levels, float *input, float *target)
{
    us_place place;
    US_CHECK_ARG(!dataset->unpaired, "the channels are unpaired: no frame has a patch of all");
    US_CHECK_ARG(frame >= 0 && frame < dataset->n_frames, "frame is %lld; accepted: 0 to %lld",
                 (long long)frame, (long long)dataset->n_frames - 1);
    place_all(dataset, frame, y0, x0, &place);
    return us_dataset_cut(dataset, &place, patch, n_levels, input, target);
}

usplit_status us_dataset_train_patch(const usplit_dataset *dataset, uint64_t seed, int64_t epoch,
                                     int64_t item, int64_t patch, int n_levels, float *input, float *target)
{
    us_place place;
    US_TRY(us_dataset_train_place(dataset, &us_drawing_published, seed, epoch, item, patch, &place));
    return us_dataset_cut(dataset, &place, patch, n_levels, input, target);
}

usplit_status us_dataset_grid_patch(const usplit_dataset *dataset, int32_t set, int64_t item, int64_t patch,
                                    int n_levels, float *input, float *target)
{
    us_place place;
    US_TRY(us_dataset_grid_place(dataset, &us_drawing_published, set, item, patch, &place));
    return us_dataset_cut(dataset, &place, patch, n_levels, input, target);
}
