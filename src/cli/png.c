// PNG files by libpng's simplified interface: 8-bit RGB.
#include <string.h>

#include <png.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/picture.h"

int png_write(const char *path, const picture *p)
{
    files_output out;
    png_image image;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)p->width;
    image.height = (png_uint_32)p->height;
    image.format = PNG_FORMAT_RGB;
    if (!png_image_write_to_stdio(&image, out.file, 0, p->rgb, 0, NULL)) {
        rc = cli_error(CLI_FAILED, "%s: cannot write: %s", path, image.message);
        png_image_free(&image);
        files_discard(&out);
        return rc;
    }
    return files_commit(&out);
}
