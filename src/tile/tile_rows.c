// The image as a stream of rows, with its pyramid (data sections 3.1 to 3.4). Every level keeps a window of
// rows: those that the patches of the current band show, and, since a coarse row is made from finer ones,
// those that the coarser levels have made it read ahead.
//
//    level 0  |======crops======|----read ahead for level 1----|        window of rows, in native pixels:
//    level 1  |======crops================|--ahead--|                   crops of level k are 2^k P high
//    level 2  |======crops======================================|
//              ^ dropped once no patch and no coarser row needs it
//
// Windows are moved to the front of their buffers when rows are dropped, so each is one plane in memory.
// us_patch_cut mirrors at the borders of the plane it is given (3.3 mirrors the inside part of a crop); it
// is handed exactly the rows of the crop that are inside the image, so nothing of the window's other rows
// shows and the values are those of whole planes.
#include "tile/tile.h"

#include <string.h>

#include "image/view.h"

// Rows that halving reads beyond twice the last row it makes (patch/halve.c: blur radius 2 and a linear
// interpolation; levels so low that the radius is larger are held whole).
enum { HALVE_AHEAD = 3 };

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

// Rows of level k that the patch at row y shows: what is inside the image, and at least one. Returns the crop's first
// row, which may be outside. Centred between pixels, a crop shows one row more.
static int64_t crop_rows(const us_tile_rows *rows, int64_t y, int k, int64_t *low, int64_t *high)
{
    const us_tile_level *level = &rows->levels[k];
    double unused;
    int64_t start = rows->exact ? us_place_exact(y, rows->patch, rows->levels[0].height, level->height, &unused)
                                : us_place_context(y, rows->patch, k);
    *low = clamp(start, 0, level->height - 1);
    *high = clamp(start + rows->patch + rows->exact, *low + 1, level->height);
    return start;
}

// ---- Scratch of the halving: the same few blocks in every call, so a run asks for no memory ---------

static void *scratch_alloc(size_t bytes, void *user)
{
    us_tile_rows *rows = user;
    size_t size = (bytes + 63) / 64 * 64;
    if (size < bytes || size > rows->block_size - rows->block_used) {
        return us_alloc(rows->a, bytes, 1);
    }
    char *block = rows->block + rows->block_used;
    rows->block_used += size;
    rows->block_live++;
    return block;
}

static void scratch_release(void *block, void *user)
{
    us_tile_rows *rows = user;
    const char *at = block;
    if (at < rows->block || at >= rows->block + rows->block_size) {
        us_free(rows->a, block);
        return;
    }
    rows->block_live--;
    rows->block_used = rows->block_live ? rows->block_used : 0;
}

// Room for one row, and for the weights of every other column where the width is odd. Should that ever be
// too little, the allocator is asked.
static int64_t scratch_bytes(int64_t width)
{
    return 64 * width + 1024;
}

// ---- Sizes ------------------------------------------------------------------------------------------

// Fills height, width and capacity of every level; returns the bytes of all windows.
static int64_t plan_levels(us_tile_level *levels, const us_tile_grid *grid, int coarsest, int64_t band_rows)
{
    // Rows below a crop's centre. Between pixels one more, and where sides are odd up to one less (kernels/place.h).
    int64_t bytes = 0, more = grid->exact ? 2 : 0, ahead = grid->patch - grid->patch / 2 + more;
    int64_t span = (band_rows - 1) * grid->inner + grid->reach;     // from the first patch of a band to its last
    for (int k = coarsest; k >= 0; k--) {
        us_tile_level *level = &levels[k];
        int64_t band = (span >> k) + (span > 0);
        *level = (us_tile_level){.height = grid->height >> k, .width = grid->width >> k};
        level->capacity = clamp(grid->patch / 2 + band + ahead + more, 1, level->height);
        bytes += level->capacity * level->width * (int64_t)sizeof(float);
        ahead = 2 * ahead + HALVE_AHEAD;
    }
    return bytes;
}

int64_t us_tile_rows_bytes(const us_tile_grid *grid, int coarsest, int64_t band_rows)
{
    us_tile_level levels[US_MAX_LC];
    return plan_levels(levels, grid, coarsest, band_rows) + (coarsest ? scratch_bytes(grid->width) : 0);
}

usplit_status us_tile_rows_open(us_tile_rows *rows, const us_allocator *a, const us_tile_grid *grid,
                                int coarsest, int64_t band_rows, const usplit_model_normalisation *n)
{
    *rows = (us_tile_rows){.a = a, .coarsest = coarsest, .patch = grid->patch, .exact = grid->exact,
                           .padding = n->padding,
                           .padding_value = (float)n->padding_value, .clip_value = (float)n->clip_value,
                           .mean = (float)n->input_mean,
                           .inverse_deviation = (float)(1.0 / n->input_deviation)};
    rows->scratch = (us_allocator){.alloc = scratch_alloc, .release = scratch_release, .user = rows};
    plan_levels(rows->levels, grid, coarsest, band_rows);
    int ok = 1;
    for (int k = 0; k <= coarsest && ok; k++) {
        us_tile_level *level = &rows->levels[k];
        level->data = us_alloc(a, (size_t)level->capacity, (size_t)level->width * sizeof *level->data);
        ok = level->data != NULL;
    }
    if (ok && coarsest) {
        rows->block_size = (size_t)scratch_bytes(grid->width);
        rows->block = us_alloc(a, rows->block_size, 1);
        ok = rows->block != NULL;
    }
    if (!ok) {
        us_tile_rows_close(rows);
        return USPLIT_ERR_MEMORY;
    }
    return USPLIT_OK;
}

void us_tile_rows_close(us_tile_rows *rows)
{
    for (int k = 0; k <= rows->coarsest; k++) {
        us_free(rows->a, rows->levels[k].data);
        rows->levels[k].data = NULL;
    }
    us_free(rows->a, rows->block);
    rows->block = NULL;
}

void us_tile_rows_rewind(us_tile_rows *rows)
{
    rows->input = (us_tile_input){0};
    for (int k = 0; k <= rows->coarsest; k++) {
        rows->levels[k].first = rows->levels[k].end = 0;
    }
}

// ---- Moving on --------------------------------------------------------------------------------------

static void drop_rows(us_tile_level *level, int64_t first)
{
    first = clamp(first, level->first, level->end);
    memmove(level->data, level->data + (first - level->first) * level->width,
            (size_t)((level->end - first) * level->width) * sizeof *level->data);
    level->first = first;
}

static usplit_status read_rows(us_tile_rows *rows, int64_t end)
{
    us_tile_level *level = &rows->levels[0];
    int64_t n = (end - level->end) * level->width;
    float *dst = level->data + (level->end - level->first) * level->width;
    US_TRY(rows->read(rows->user, level->end, end - level->end, dst));
    int64_t bad = us_view_find_bad(dst, n);
    if (bad >= 0) {
        int64_t row = level->end + bad / level->width, column = bad % level->width;
        US_FAIL(USPLIT_ERR_NUMERIC, "the pixel at row %lld, column %lld is %g; accepted: finite values",
                (long long)row, (long long)column, (double)dst[bad]);
    }
    int64_t clipped = 0;
    for (int64_t i = 0; i < n; i++) {
        clipped += dst[i] > rows->clip_value;
        dst[i] = dst[i] > rows->clip_value ? rows->clip_value : dst[i];
    }
    rows->clipped += clipped;
    us_tile_input_add(&rows->input, dst, end - level->end, level->width, (double)rows->mean);
    level->end = end;
    return USPLIT_OK;
}

static usplit_status halve_rows(us_tile_rows *rows, int k, int64_t end)
{
    const us_tile_level *fine = &rows->levels[k - 1];
    us_tile_level *level = &rows->levels[k];
    US_TRY(us_patch_halve_rows(&rows->scratch, fine->data, fine->first, fine->end - fine->first, fine->height,
                               fine->width, level->end, end - level->end,
                               level->data + (level->end - level->first) * level->width));
    level->end = end;
    return USPLIT_OK;
}

usplit_status us_tile_rows_advance(us_tile_rows *rows, int64_t y_first, int64_t y_last)
{
    int64_t keep[US_MAX_LC], end[US_MAX_LC];
    for (int k = rows->coarsest; k >= 0; k--) {     // how far each level has to go
        const us_tile_level *level = &rows->levels[k], *coarse = level + 1;
        int64_t unused, start, n;
        crop_rows(rows, y_first, k, &keep[k], &unused);
        crop_rows(rows, y_last, k, &unused, &end[k]);
        if (k < rows->coarsest && coarse->end < coarse->height) {   // rows still to be made from this level
            int64_t todo = end[k + 1] - coarse->end;
            us_patch_halve_need(level->height, coarse->end, todo > 0 ? todo : 1, &start, &n);
            keep[k] = start < keep[k] ? start : keep[k];
            end[k] = todo > 0 && start + n > end[k] ? start + n : end[k];
        }
        end[k] = end[k] > level->end ? end[k] : level->end;
    }
    for (int k = 0; k <= rows->coarsest; k++) {
        us_tile_level *level = &rows->levels[k];
        drop_rows(level, keep[k]);
        US_ASSERT(end[k] - level->first <= level->capacity);
        if (end[k] > level->end) {
            US_TRY(k == 0 ? read_rows(rows, end[k]) : halve_rows(rows, k, end[k]));
        }
    }
    return USPLIT_OK;
}

// Every level begins at its first row that a patch from y_first on shows or that a coarser level is made of. Were all of
// them read at once, the finer ones would need more room than their windows have; so the place is approached from
// above, where no patch has anything to show yet, by steps that windows have room for.
usplit_status us_tile_rows_seek(us_tile_rows *rows, int64_t y_first)
{
    us_tile_rows_rewind(rows);
    for (int k = rows->coarsest; k >= 0; k--) {
        us_tile_level *level = &rows->levels[k], *coarse = level + 1;
        int64_t first, unused, start, n;
        crop_rows(rows, y_first, k, &first, &unused);
        if (k < rows->coarsest && coarse->first < coarse->height) {
            us_patch_halve_need(level->height, coarse->first, 1, &start, &n);
            first = start < first ? start : first;
        }
        level->first = level->end = first;
    }
    int64_t reach = (int64_t)rows->patch << rows->coarsest, step = rows->patch / 2;
    for (int64_t y = y_first - reach; y < y_first; y += step) {
        US_TRY(us_tile_rows_advance(rows, y, y));
    }
    return USPLIT_OK;
}

us_rows us_tile_rows_held(const us_tile_rows *rows, int k)
{
    const us_tile_level *l = &rows->levels[k];
    return (us_rows){l->data, 0, l->height, l->width, l->first, l->end - l->first};
}

void us_tile_rows_cut(const us_tile_rows *rows, int64_t y0, int64_t x0, int k, float *dst)
{
    const us_tile_level *level = &rows->levels[k];
    int64_t low, high, y = crop_rows(rows, y0, k, &low, &high);
    if (rows->exact) {
        int reflect = rows->padding == USPLIT_PADDING_REFLECT;
        us_patch_part part = {.data = level->data, .first = level->first, .width = level->width, .weight = 1};
        part.rows = us_place_edge(y0, rows->patch, k, rows->levels[0].height, level->height, reflect, 1);
        part.columns = us_place_edge(x0, rows->patch, k, rows->levels[0].width, level->width, reflect, 1);
        us_patch_mix(&part, 1, rows->patch, 0, rows->padding, rows->padding_value, rows->mean,
                     rows->inverse_deviation, dst, 1);
        return;
    }
    us_plane inside = {level->data + (low - level->first) * level->width, high - low, level->width};
    us_patch_cut(inside, y - low, us_place_context(x0, rows->patch, k), rows->patch, rows->padding,
                 rows->padding_value, rows->mean, rows->inverse_deviation, dst);
}
