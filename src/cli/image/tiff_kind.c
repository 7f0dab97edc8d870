// TIFF's row in the table of image kinds: the functions of tiff.h.
#include <stddef.h>

#include "cli/image/tiff.h"

static const char *const endings[] = {".tif", ".tiff", ".ome.tif", ".ome.tiff", NULL};

IMAGE_KIND(tiff, .endings = endings, .is_listed = 1);
