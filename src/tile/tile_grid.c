// Where patches and tiles lie: inner and outer padding, the ceil rule and the reference's floor rule (data
// sections 5.1 to 5.3), shifted grids.
#include "tile/tile.h"

enum { MIN_PATCH = 8, MAX_PATCH = 4096 };       // pixels, as for training

static usplit_status choose_patch(int *patch, const usplit_tiler_options *options, int trained)
{
    *patch = options->patch ? options->patch : trained;
    US_CHECK_ARG(*patch >= MIN_PATCH && *patch <= MAX_PATCH,
                 "patch is %d; accepted: %d to %d, or 0 for the training's %d", *patch, MIN_PATCH, MAX_PATCH, trained);
    US_CHECK_ARG(options->tiling != USPLIT_TILING_OUTER || *patch == trained,
                 "patch is %d; accepted with outer padding: 0, as the patch is the training's %d plus the padding",
                 *patch, trained);
    return USPLIT_OK;
}

static usplit_status choose_shifts(us_tile_grid *grid, const usplit_tiler_options *options)
{
    grid->shifts = options->shifts ? options->shifts : 1;
    US_CHECK_ARG(grid->shifts >= 1 && grid->shifts <= grid->inner, "shifts is %d; accepted with tiles of %d: 0 to %d",
                 options->shifts, grid->inner, grid->inner);
    US_CHECK_ARG(grid->shifts == 1 || options->cover == USPLIT_COVER_ALL,
                 "shifts is %d; accepted with USPLIT_COVER_WHOLE_TILES: 0 or 1", options->shifts);
    grid->reach = us_tile_grid_shift(grid, grid->shifts - 1).y;
    return USPLIT_OK;
}

usplit_status us_tile_grid_shape(us_tile_grid *grid, const usplit_tiler_options *options, int trained)
{
    int patch, outer = options->tiling == USPLIT_TILING_OUTER;
    US_TRY(choose_patch(&patch, options, trained));
    int usual = outer ? 0 : patch / 4;
    int most = outer ? (MAX_PATCH - patch) / 2 : (patch - 1) / 2;
    int pad = options->pad == -1 ? usual : options->pad;
    US_CHECK_ARG(pad >= 0 && pad <= most,
                 "pad is %d; accepted with %s padding and patches of %d: 0 to %d, or -1 for %d", pad,
                 outer ? "outer" : "inner", patch, most, usual);
    *grid = (us_tile_grid){.pad = pad, .patch = outer ? patch + 2 * pad : patch,
                           .inner = outer ? patch : patch - 2 * pad};
    return choose_shifts(grid, options);
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

// Borders of S grids lie evenly along both axes. Which row goes with which column follows the golden ratio, so that
// the places that a pixel has in its tiles are spread over them, and not along a diagonal.
us_tile_shift us_tile_grid_shift(const us_tile_grid *grid, int number)
{
    int64_t n = grid->shifts, g = grid->inner, step = (618 * n + 500) / 1000;
    while (common_divisor(n, step) != 1) {      // else columns would be used twice
        step++;
    }
    us_tile_shift s = {.y = (int)(number * g / n), .x = (int)(number * step % n * g / n)};
    s.rows = number ? (grid->height + s.y + g - 1) / g : grid->rows;
    s.columns = number ? (grid->width + s.x + g - 1) / g : grid->columns;
    return s;
}

static usplit_status check_side(const char *name, int64_t side, int coarsest)
{
    US_CHECK_ARG(side >= 1 && side <= US_TILE_MAX_SIDE, "%s is %lld; accepted: 1 to %d", name,
                 (long long)side, US_TILE_MAX_SIDE);
    if (side >> coarsest < 1) {
        US_FAIL(USPLIT_ERR_SHAPE, "%s is %lld; accepted with %d levels of lateral context: %d or more", name,
                (long long)side, coarsest, 1 << coarsest);
    }
    return USPLIT_OK;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

usplit_status us_tile_grid_fit(us_tile_grid *grid, int32_t cover, int coarsest, int64_t height,
                               int64_t width)
{
    US_TRY(check_side("height", height, coarsest));
    US_TRY(check_side("width", width, coarsest));
    int64_t g = grid->inner, spare = cover == USPLIT_COVER_WHOLE_TILES ? 0 : g - 1;
    grid->height = height;
    grid->width = width;
    grid->rows = (height + spare) / g;
    grid->columns = (width + spare) / g;
    if (grid->rows == 0 || grid->columns == 0) {
        US_FAIL(USPLIT_ERR_SHAPE,
                "a %lld x %lld image holds no whole tile of %lld x %lld; accepted: larger images, or "
                "USPLIT_COVER_ALL",
                (long long)height, (long long)width, (long long)g, (long long)g);
    }
    grid->covered_height = smaller(grid->rows * g, height);
    grid->covered_width = smaller(grid->columns * g, width);
    grid->shifts = grid->shifts ? grid->shifts : 1;
    grid->all_rows = us_tile_grid_shift(grid, grid->shifts - 1).rows;
    grid->tiles = 0;
    for (int s = 0; s < grid->shifts; s++) {
        us_tile_shift shift = us_tile_grid_shift(grid, s);
        grid->tiles += shift.rows * shift.columns;
    }
    return USPLIT_OK;
}
