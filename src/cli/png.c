// PNG files, or the same in memory, by libpng's simplified interface: 8-bit RGB, in memory with a palette where there
// are few colours, which is a third of the bytes at most.
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/picture.h"

enum { COLOURS = 256 };

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

// The colours of a picture, and each pixel's number among them. 0: more than COLOURS. Pixels often have the colour of
// the one before; else all are compared, which pictures of this size allow.
static int find_palette(const picture *p, unsigned char *palette, unsigned char *indices)
{
    int n = 0, last = 0;
    for (int64_t i = 0; i < p->width * p->height; i++) {
        const unsigned char *rgb = p->rgb + 3 * i;
        if (last >= n || memcmp(palette + 3 * last, rgb, 3) != 0) {
            for (last = 0; last < n && memcmp(palette + 3 * last, rgb, 3) != 0; last++) {
            }
        }
        if (last == n) {
            if (n == COLOURS) {
                return 0;
            }
            memcpy(palette + 3 * n++, rgb, 3);
        }
        indices[i] = (unsigned char)last;
    }
    return n;
}

int png_encode(const picture *p, unsigned char **bytes, size_t *n)
{
    png_image image = start(p);
    unsigned char palette[3 * COLOURS], *indices = cli_alloc((size_t)p->width, (size_t)p->height);
    int rc = CLI_FAILED, colours = indices != NULL ? find_palette(p, palette, indices) : 0;
    if (colours > 0) {
        image.format = PNG_FORMAT_RGB_COLORMAP;
        image.colormap_entries = (png_uint_32)colours;
    }
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    *bytes = indices != NULL ? cli_alloc(size, 1) : NULL;
    if (*bytes == NULL) {
        free(indices);
        return rc;
    }
    rc = CLI_OK;
    if (!png_image_write_to_memory(&image, *bytes, &size, 0, colours > 0 ? indices : p->rgb, 0, palette)) {
        rc = cli_error(CLI_FAILED, "cannot make a PNG of %lld x %lld pixels: %s", (long long)p->width,
                           (long long)p->height, image.message);
        png_image_free(&image);
        free(*bytes);
        *bytes = NULL;
    }
    free(indices);
    *n = size;
    return rc;
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
