// Zarr's row in the table of image kinds: the functions of zarr.h.
#include <stddef.h>

#include "cli/zarr/zarr.h"

static const char *const endings[] = {".zarr", ".ome.zarr", NULL};

IMAGE_KIND(zarr, .endings = endings, .is_listed = 1, .has_inside = 1);
