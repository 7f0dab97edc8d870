// Pixels of a TIFF page as float rows. One strip (or one row of tiles) is kept decoded, so rows may be asked
// for in any order.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/image/tiff_file.h"

// The file's page that holds page `page` of the channel chosen.
static int64_t directory_of(const tiff_file *file, int64_t page)
{
    return file->pages[page * file->page_channels + file->page_channel];
}

static int open_page(tiff_file *file, int64_t page)
{
    int rc;
    if (page < 0 || page >= file->facts.pages) {
        return cli_error(CLI_FAILED, "%s: no page %lld; it has %lld", file->path, (long long)page + 1,
                         (long long)file->facts.pages);
    }
    int64_t directory = file->raw_pages > 0 ? 0 : directory_of(file, page);
    if ((rc = tiff_open_directory(file, directory)) != 0) {
        return rc;
    }
    if (file->facts.channels != file->page_channels * file->samples) {
        return tiff_bad_page(file, directory, "has another number of samples a pixel than the first page");
    }
    return CLI_OK;
}

int tiff_page_size(tiff_file *file, int64_t page, int64_t *height, int64_t *width)
{
    int rc = open_page(file, page);
    *height = rc == 0 ? file->height : 0;
    *width = rc == 0 ? file->width : 0;
    return rc;
}

// Samples of 9 to 15 bits lie without gaps, the highest bit first.
static void unpack(const unsigned char *row, int bits, int64_t first, int64_t step, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t bit = (first + i * step) * bits;
        uint32_t value = 0;
        for (int left = bits; left > 0;) {
            int from = (int)(bit % 8), take = 8 - from < left ? 8 - from : left;
            value = value << take | ((uint32_t)row[bit / 8] >> (8 - from - take) & ((1u << take) - 1));
            bit += take;
            left -= take;
        }
        dst[i] = (float)value;
    }
}

#define CONVERT(type)                                                   \
    for (int64_t i = 0; i < n; i++) {                                   \
        type value;                                                     \
        memcpy(&value, row + (first + i * step) * (int64_t)sizeof value, sizeof value);  \
        dst[i] = (float)value;                                          \
    }

// Every step-th sample of a row from `first` on.
static void to_float(const tiff_file *file, const unsigned char *row, int64_t first, int64_t step, int64_t n,
                     float *dst)
{
    int is_signed = file->format == SAMPLEFORMAT_INT;
    if (file->bits == 8 && is_signed) {
        CONVERT(int8_t)
    } else if (file->bits == 8) {
        CONVERT(uint8_t)
    } else if (file->bits == 16 && is_signed) {
        CONVERT(int16_t)
    } else if (file->bits == 16) {
        CONVERT(uint16_t)
    } else if (file->bits < 16) {
        unpack(row, file->bits, first, step, n, dst);
    } else if (file->bits == 64) {
        CONVERT(double)
    } else if (file->format == SAMPLEFORMAT_IEEEFP) {
        CONVERT(float)
    } else if (is_signed) {
        CONVERT(int32_t)
    } else {
        CONVERT(uint32_t)
    }
}

// Decodes the strip or row of tiles that holds `row`. Tiles are laid side by side in the band, as the
// decoder gives them: tile t occupies band[t * tile bytes].
static int load_band(tiff_file *file, int64_t directory, int64_t row)
{
    int64_t first = row / file->band_rows * file->band_rows;
    uint16_t plane = (uint16_t)(file->is_planar ? file->sample : 0);
    if (file->band_first == first) {
        return CLI_OK;
    }
    if (file->band == NULL && (file->band = cli_alloc((size_t)file->band_bytes, 1)) == NULL) {
        return CLI_FAILED;
    }
    file->band_first = -1;
    file->detail[0] = '\0';
    if (!file->is_tiled) {
        uint32_t strip = TIFFComputeStrip(file->tiff, (uint32_t)first, plane);
        int64_t rows = file->height - first < file->band_rows ? file->height - first : file->band_rows;
        int64_t want = file->band_bytes / file->band_rows * rows;
        if (TIFFReadEncodedStrip(file->tiff, strip, file->band, (tmsize_t)want) != want) {
            return tiff_bad_page(file, directory, "pixels cannot be decoded");
        }
    } else {
        int64_t tiles = (file->width + file->tile_width - 1) / file->tile_width;
        int64_t bytes = file->band_bytes / tiles;
        for (int64_t t = 0; t < tiles; t++) {
            uint32_t tile =
                TIFFComputeTile(file->tiff, (uint32_t)(t * file->tile_width), (uint32_t)first, 0, plane);
            if (TIFFReadEncodedTile(file->tiff, tile, file->band + t * bytes, (tmsize_t)bytes) != bytes) {
                return tiff_bad_page(file, directory, "pixels cannot be decoded");
            }
        }
    }
    file->band_first = first;
    return CLI_OK;
}

static int read_raw_row(tiff_file *file, int64_t page, int64_t row, float *dst)
{
    int64_t bytes = tiff_sample_bytes(file, file->width);
    int64_t at = (int64_t)TIFFGetStrileOffset(file->tiff, 0) + (page * file->height + row) * bytes;
    if (file->band == NULL && (file->band = cli_alloc((size_t)file->band_bytes, 1)) == NULL) {
        return CLI_FAILED;
    }
    file->band_first = -1;
    if (pread(TIFFFileno(file->tiff), file->band, (size_t)bytes, (off_t)at) != (ssize_t)bytes) {
        return cli_error(CLI_FAILED, "%s: image %lld cannot be read", file->path, (long long)page + 1);
    }
    if (TIFFIsByteSwapped(file->tiff) && file->bits == 16) {
        TIFFSwabArrayOfShort((void *)file->band, (tmsize_t)file->width);
    } else if (TIFFIsByteSwapped(file->tiff) && file->bits == 32) {
        TIFFSwabArrayOfLong((void *)file->band, (tmsize_t)file->width);
    } else if (TIFFIsByteSwapped(file->tiff) && file->bits == 64) {
        TIFFSwabArrayOfLong8((void *)file->band, (tmsize_t)file->width);
    }
    to_float(file, file->band, 0, 1, file->width, dst);
    return CLI_OK;
}

int tiff_read_rows(tiff_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    int rc = open_page(file, page);
    if (rc != 0) {
        return rc;
    }
    if (row < 0 || n_rows < 0 || n_rows > file->height || row > file->height - n_rows) {
        return cli_error(CLI_FAILED, "%s: rows outside the page asked for", file->path);
    }
    int64_t step = file->is_planar ? 1 : file->samples;
    int64_t offset = file->is_planar ? 0 : file->sample;
    for (int64_t y = row; y < row + n_rows; y++, dst += file->width) {
        int64_t page_of_raw = file->raw_pages > 0 ? directory_of(file, page) : 0;
        if (page_of_raw > 0) {
            if ((rc = read_raw_row(file, page_of_raw, y, dst)) != 0) {
                return rc;
            }
            continue;
        }
        if ((rc = load_band(file, file->open_directory, y)) != 0) {
            return rc;
        }
        int64_t across = file->is_tiled ? file->tile_width : file->width;
        int64_t row_bytes = tiff_sample_bytes(file, across * step);
        for (int64_t x = 0; x < file->width; x += across) {
            int64_t n = file->width - x < across ? file->width - x : across;
            const unsigned char *src =
                file->band + (x / across * file->band_rows + y - file->band_first) * row_bytes;
            to_float(file, src, offset, step, n, dst + x);
        }
    }
    return CLI_OK;
}
