// Tiled prediction of images of any size, band by band (data section 5).
//
//   tile_grid.c   where patches and tiles lie
//   tile_rows.c   the rows of the image and of its pyramid that one band needs, and cutting patches from them
//   tile_setup.c  the tiler: graph, plan and executable; workers and bytes
//   tile_run.c    a run: read rows, predict the tiles of a band on all workers, write the band
//   tile_input.c  whether the image is like those of the training
//   tile_view.c   the same between two images in memory
//
//      patch, side P, may hang over the image      bands of the image, `band_rows` tile rows each
//      +-------------------+                       +------+------+------+---
//      |  pad              |                       | tile | tile | tile |     band 0: written when
//      |   +-----------+   |                       +------+------+------+---  its tiles are done
//      |   |   tile,   |   |                       | tile | tile | tile |     band 1
//      |   |  side G   |   |                       +------+------+------+---
//      |   +-----------+   |
//      |                   |     G = P - 2 pad; tile (i, j) owns rows iG .. (i+1)G - 1 and its patch
//      +-------------------+     starts at row iG - pad; columns alike
//
// Shifted grids: grid s begins y_s rows above the image, y_0 = 0 < y_1 < ... < G, and a pixel is the mean of its tiles
// in all grids. Tile row i of every grid belongs to one band, so the last rows of a band, as many as the largest y_s
// (`reach`), still lack tiles; their sums are carried over to the next band:
//
//      rows of the image      0        G        2G       3G
//      grid 0                 |---0----|---1----|---2----|
//      grid 1              |---0----|---1----|---2----|
//      grid 2            |---0----|---1----|---2----|
//      band of tile rows 0, 1 |======written=====|carried|
//
// A pixel meets its grids in the order of their numbers, wherever bands end: the lower tiles are of later grids.
#ifndef US_TILE_H
#define US_TILE_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "net/model.h"
#include "patch/patch.h"

enum { US_TILE_MAX_SIDE = 1 << 24, US_TILE_MAX_SAMPLES = 1 << 16, US_TILE_MAX_BATCH = 256 };

// ---- Grid -------------------------------------------------------------------------------------------

typedef struct us_tile_grid {
    int patch, inner, pad;              // pixels; patch = inner + 2 pad
    int64_t height, width;              // of the image
    int64_t rows, columns;              // of tiles
    int64_t covered_height, covered_width;  // pixels that tiles predict; the rest is 0
    int shifts;                         // grids; rows and columns are those of the first
    int reach;                          // rows that the last one begins above the image
    int exact;                          // 1: context centred between pixels (kernels/place.h)
    int64_t all_rows;                   // of tiles, in the grid that has most
    int64_t tiles;                      // of all grids
} us_tile_grid;

// One of the shifted grids.
typedef struct us_tile_shift {
    int y, x;                           // pixels that its first tile begins above and left of the image
    int64_t rows, columns;              // of tiles
} us_tile_shift;

// patch, inner, pad, shifts and reach from the options, for a network trained on `patch` pixels.
usplit_status us_tile_grid_shape(us_tile_grid *grid, const usplit_tiler_options *options, int patch);
us_tile_shift us_tile_grid_shift(const us_tile_grid *grid, int number);
// The rest, for an image. coarsest: the last pyramid level that the network looks at.
usplit_status us_tile_grid_fit(us_tile_grid *grid, int32_t cover, int coarsest, int64_t height,
                               int64_t width);

// ---- Rows of the image and its pyramid --------------------------------------------------------------

// Reads rows [row, row + n) of the image, `width` floats each.
typedef usplit_status (*us_tile_read_fn)(void *user, int64_t row, int64_t n, float *dst);

// Sums over the pixels of a frame so far, about some grey level (tile_input.c).
typedef struct us_tile_input {
    int64_t n;
    double sum, squares;
} us_tile_input;

void us_tile_input_add(us_tile_input *input, const float *rows, int64_t n_rows, int64_t width, double about);
// How far the frame is from the training's; the result keeps the frame that is farthest. first: of the run.
void us_tile_input_judge(const us_tile_input *input, const usplit_model *model, double about, int first,
                         usplit_tiler_result *result);

// The rows [first, end) of one pyramid level that are in memory, one below the other in `data`.
typedef struct us_tile_level {
    int64_t height, width;              // of the whole level
    int64_t first, end, capacity;
    float *data;
} us_tile_level;

typedef struct us_tile_rows {
    const us_allocator *a;
    us_tile_level levels[US_MAX_LC];
    int coarsest;                       // last level
    int patch, exact;
    float clip_value;
    int64_t clipped;                    // pixels above it so far
    us_tile_input input;                // of the frame
    int32_t padding;
    float padding_value, mean, inverse_deviation;
    us_tile_read_fn read;
    void *user;
    us_allocator scratch;               // for the halving: a block that is handed out again and again
    char *block;
    size_t block_size, block_used;
    int block_live;
} us_tile_rows;

// Bytes that us_tile_rows_open takes. They do not depend on the height of images higher than a window.
int64_t us_tile_rows_bytes(const us_tile_grid *grid, int coarsest, int64_t band_rows);
// Nothing is read yet. On failure everything is released.
usplit_status us_tile_rows_open(us_tile_rows *rows, const us_allocator *a, const us_tile_grid *grid,
                                int coarsest, int64_t band_rows,
                                const usplit_model_normalisation *normalisation);
void us_tile_rows_close(us_tile_rows *rows);
// Back to the first row: of another image of the same size.
void us_tile_rows_rewind(us_tile_rows *rows);
// To the place where patches that start at row y_first can be cut, reading no more than these need, as if everything above
// had been read and dropped; us_tile_rows_advance goes on from there.
usplit_status us_tile_rows_seek(us_tile_rows *rows, int64_t y_first);
// Reads and halves what is missing, and drops what is not needed any more, so that patches that start at
// rows y_first to y_last can be cut. y_first never decreases; patches of successive calls overlap or adjoin.
usplit_status us_tile_rows_advance(us_tile_rows *rows, int64_t y_first, int64_t y_last);
// The rows of a level that are held now, one channel (backend.h).
us_rows us_tile_rows_held(const us_tile_rows *rows, int level);
// One level of the patch that starts at (y0, x0), normalised, into dst [patch][patch].
void us_tile_rows_cut(const us_tile_rows *rows, int64_t y0, int64_t x0, int level, float *dst);

// ---- Tiler ------------------------------------------------------------------------------------------

struct usplit_tiler {
    atomic_int refs;
    usplit_model *model;
    usplit_context *context;            // the model's
    const us_allocator *a;
    const us_backend *backend;
    usplit_tiler_options options;
    usplit_model_normalisation normalisation;
    usplit_calibration calibration;     // of deviations, where the options ask for it
    us_tile_grid shape;                 // without an image
    int channels;                       // K
    int planes;                         // that come out: K, or 2K with deviations
    int samples, mean_latents;          // in effect: 1 and 1 for networks and options without noise
    us_graph *own_graph;                // the network for a patch that is not the training's
    us_plan *plan;
    int coarsest;                       // last pyramid level that the plan reads
    us_exec *exec;
    int exec_workers;                   // it is compiled for; 0: none
    int max_workers;
    int batch;                          // tiles a worker predicts at a time
    int64_t own_bytes;                  // of the plan and the graph
    int64_t bytes_one, bytes_more;      // of an executable for one worker, and for every further one (known
                                        // when there is a budget)
    double seconds_per_pass;            // of one worker, measured by the last run; 0: none yet
    atomic_int cancelled, running;
};

usplit_status us_tiler_new(usplit_tiler **out, usplit_model *model, const usplit_tiler_options *options);
usplit_tiler *us_tiler_retain(usplit_tiler *tiler);
void us_tiler_release(usplit_tiler *tiler);

// How a run on one size of image works, and what it holds.
typedef struct us_tile_layout {
    us_tile_grid grid;
    int exec_workers;                   // the executable is compiled for
    int workers;                        // of them used
    int64_t band_rows;                  // tile rows per band
    int64_t fixed_bytes;                // executable, plan, graph
    int64_t rows_bytes, band_bytes;     // held during the run only; the band with its carried rows
    int64_t band_floats;                // of it, without them
} us_tile_layout;

usplit_status us_tiler_layout(const usplit_tiler *tiler, int64_t height, int64_t width,
                              us_tile_layout *layout);
// What its executable holds on a device, as it is compiled now.
int64_t us_tiler_device_bytes(const usplit_tiler *tiler);
// Makes the executable fit the layout.
usplit_status us_tiler_compile(usplit_tiler *tiler, int workers);

// ---- Run --------------------------------------------------------------------------------------------

// Where pixels come from and go to. All calls are made on the calling thread.
typedef struct us_tile_io {
    int64_t frames, height, width;
    usplit_status (*read)(void *user, int64_t frame, int64_t row, int64_t n, float *dst);
    // The tiler's planes of n x width, one after the other.
    usplit_status (*write)(void *user, int64_t frame, int64_t row, int64_t n, const float *src);
    void *user;
    int64_t first_tile_row, n_tile_rows;    // of the first grid, to be predicted; 0 rows: all from the first one on
} us_tile_io;

// result: filled in full size; saturated_pixels is the io's to count.
usplit_status us_tiler_run(usplit_tiler *tiler, const us_tile_io *io, usplit_tiler_result *result,
                           usplit_progress_fn progress, void *user);
usplit_status us_tiler_run_views(usplit_tiler *tiler, const usplit_image *src, const usplit_image *dst,
                                 usplit_tiler_result *result, usplit_progress_fn progress, void *user);

#endif
