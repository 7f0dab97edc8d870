// PNG files, or the same in memory, by libpng's simplified interface: 8-bit RGB.
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/picture.h"

static png_image start(const picture *p)
{
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)p->width;
    image.height = (png_uint_32)p->height;
    image.format = PNG_FORMAT_RGB;
    return image;
}

int png_encode(const picture *p, unsigned char **bytes, size_t *n)
{
    png_image image = start(p);
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    *bytes = cli_alloc(size, 1);
    if (*bytes == NULL) {
        return CLI_FAILED;
    }
    if (!png_image_write_to_memory(&image, *bytes, &size, 0, p->rgb, 0, NULL)) {
        int rc = cli_error(CLI_FAILED, "cannot make a PNG of %lld x %lld pixels: %s", (long long)p->width,
                           (long long)p->height, image.message);
        png_image_free(&image);
        free(*bytes);
        *bytes = NULL;
        return rc;
    }
    *n = size;
    return CLI_OK;
}

int png_write(const char *path, const picture *p)
{
    files_output out;
    png_image image = start(p);
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    if (!png_image_write_to_stdio(&image, out.file, 0, p->rgb, 0, NULL)) {
        rc = cli_error(CLI_FAILED, "%s: cannot write: %s", path, image.message);
        png_image_free(&image);
        files_discard(&out);
        return rc;
    }
    return files_commit(&out);
}
