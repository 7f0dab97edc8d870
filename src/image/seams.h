// Whether the borders of tiles can be seen in a predicted plane.
#ifndef US_SEAMS_H
#define US_SEAMS_H

#include "base/alloc.h"
#include "base/status.h"

// plane: row-major height x width, finite. Tiles of side `tile` (4 or more) begin at rows row + i * tile and columns
// column + j * tile.
void us_image_seams(const float *plane, int64_t height, int64_t width, int64_t tile, int64_t row, int64_t column,
                    usplit_image_seam_facts *facts);

#endif
