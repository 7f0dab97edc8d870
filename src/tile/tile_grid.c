// Where patches and tiles lie: inner and outer padding, the ceil rule and the reference's floor rule (data
// sections 5.1 to 5.3).
#include "tile/tile.h"

enum { MAX_PATCH = 4096 };      // pixels, as for training

usplit_status us_tile_grid_shape(us_tile_grid *grid, const usplit_tiler_options *options, int patch)
{
    int outer = options->tiling == USPLIT_TILING_OUTER;
    int usual = outer ? 0 : patch / 4;
    int most = outer ? (MAX_PATCH - patch) / 2 : patch / 2 - 1;
    int pad = options->pad == -1 ? usual : options->pad;
    US_CHECK_ARG(pad >= 0 && pad <= most,
                 "pad is %d; accepted with %s padding and patches of %d: 0 to %d, or -1 for %d", pad,
                 outer ? "outer" : "inner", patch, most, usual);
    *grid = (us_tile_grid){.pad = pad, .patch = outer ? patch + 2 * pad : patch,
                           .inner = outer ? patch : patch - 2 * pad};
    return USPLIT_OK;
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
    return USPLIT_OK;
}
