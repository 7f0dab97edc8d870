// One page of a TIFF: its type is accepted or refused in words, and its sizes and offsets are checked against
// the file before anything is decoded.
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/image/tiff_file.h"

// A compressed page may not claim more than this many times the bytes it is stored in (zstd: ~ 32 000).
static const int64_t max_expansion = (int64_t)1 << 16;

int tiff_bad_page(tiff_file *file, int64_t directory, const char *what)
{
    return cli_error(CLI_FAILED, "%s: page %lld: %s", file->path, (long long)directory + 1,
                     file->detail[0] != '\0' ? file->detail : what);
}

int64_t tiff_sample_bytes(const tiff_file *file, int64_t n)
{
    return file->bits % 8 == 0 ? n * (file->bits / 8) : n / 8 * file->bits + (n % 8 * file->bits + 7) / 8;
}

static int is_read(int bits, int format)
{
    if (format == SAMPLEFORMAT_IEEEFP) {
        return bits == 32 || bits == 64;
    }
    return (bits == 8 || bits == 16 || bits == 32 || (format == SAMPLEFORMAT_UINT && bits > 8 && bits < 16)) &&
           (format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_INT);
}

// Refuses what the pixels cannot be taken from as they are.
static int read_type(tiff_file *file, int64_t directory)
{
    uint16_t bits = 1, format = SAMPLEFORMAT_UINT, photometric = PHOTOMETRIC_MINISBLACK, samples = 1;
    uint16_t planar = PLANARCONFIG_CONTIG;
    char what[160] = "";
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_SAMPLEFORMAT, &format);
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetField(file->tiff, TIFFTAG_PHOTOMETRIC, &photometric);
    if (photometric == PHOTOMETRIC_PALETTE) {
        snprintf(what, sizeof what, "has palette colours, not intensities; convert it to 8 bit grey first");
    } else if (photometric == PHOTOMETRIC_MINISWHITE) {
        snprintf(what, sizeof what, "stores intensities inverted (min is white); invert it first");
    } else if (photometric != PHOTOMETRIC_MINISBLACK && photometric != PHOTOMETRIC_RGB) {
        snprintf(what, sizeof what, "has colour model %u; grey levels are needed", photometric);
    } else if (!is_read(bits, format)) {
        snprintf(what, sizeof what,
                 "has %u-bit %s pixels; integers of 8 to 16 and 32 bits and floats of 32 and 64 bits are read",
                 bits,
                 format == SAMPLEFORMAT_IEEEFP ? "float"
                 : format == SAMPLEFORMAT_INT  ? "signed"
                 : format == SAMPLEFORMAT_UINT ? "unsigned"
                                               : "other");
    }
    if (what[0] != '\0') {
        file->detail[0] = '\0';
        return tiff_bad_page(file, directory, what);
    }
    if (samples == 0) {
        return tiff_bad_page(file, directory, "has no samples");
    }
    file->bits = bits;
    file->format = format;
    file->samples = samples;
    file->is_planar = planar == PLANARCONFIG_SEPARATE && samples > 1;
    return CLI_OK;
}

// Every strip or tile must lie inside the file, and the page must not claim far more than is stored.
static int check_storage(tiff_file *file, int64_t directory)
{
    uint16_t compression = COMPRESSION_NONE;
    TIFFGetField(file->tiff, TIFFTAG_COMPRESSION, &compression);
    if (!TIFFIsCODECConfigured(compression)) {
        char what[80];
        snprintf(what, sizeof what, "is compressed with method %u, which this libtiff cannot read",
                 compression);
        return tiff_bad_page(file, directory, what);
    }
    uint32_t n = file->is_tiled ? TIFFNumberOfTiles(file->tiff) : TIFFNumberOfStrips(file->tiff);
    int64_t stored = 0;
    if (n == 0 || (int64_t)n > file->size) {
        return tiff_bad_page(file, directory, "has no pixels, or a table of pixel data larger than the file");
    }
    for (uint32_t i = 0; i < n; i++) {
        int error = 0;
        uint64_t at = TIFFGetStrileOffsetWithErr(file->tiff, i, &error);
        uint64_t bytes = error ? 0 : TIFFGetStrileByteCountWithErr(file->tiff, i, &error);
        if (error) {
            return tiff_bad_page(file, directory, "its table of pixel data cannot be read");
        }
        if (at > (uint64_t)file->size || bytes > (uint64_t)file->size - at) {
            file->detail[0] = '\0';
            return tiff_bad_page(file, directory, "the file is truncated: pixel data beyond its end");
        }
        stored += (int64_t)bytes;
    }
    double claimed = (double)file->height * (double)file->width * file->samples * (file->bits / 8.0);
    if (claimed > (double)stored * (double)(compression == COMPRESSION_NONE ? 1 : max_expansion)) {
        char what[120];
        snprintf(what, sizeof what, "claims %lld x %lld pixels but stores %lld bytes", (long long)file->width,
                 (long long)file->height, (long long)stored);
        file->detail[0] = '\0';
        return tiff_bad_page(file, directory, what);
    }
    return CLI_OK;
}

static int plan_bands(tiff_file *file, int64_t directory)
{
    uint32_t rows = 0, columns = 0;
    file->is_tiled = TIFFIsTiled(file->tiff);
    if (file->is_tiled) {
        TIFFGetField(file->tiff, TIFFTAG_TILELENGTH, &rows);
        TIFFGetField(file->tiff, TIFFTAG_TILEWIDTH, &columns);
    } else {
        TIFFGetFieldDefaulted(file->tiff, TIFFTAG_ROWSPERSTRIP, &rows);
        columns = (uint32_t)file->width;
    }
    if (rows == 0 || columns == 0) {
        return tiff_bad_page(file, directory, "has strips or tiles of no size");
    }
    file->band_rows = !file->is_tiled && (int64_t)rows > file->height ? file->height : (int64_t)rows;
    file->tile_width = columns;
    int64_t across = file->is_tiled ? (file->width + columns - 1) / columns * columns : file->width;
    int64_t step = file->is_planar ? 1 : file->samples, block = file->is_tiled ? columns : file->width;
    if (across > tiff_max_allocation / (8 * step) ||
        file->band_rows > tiff_max_allocation / (across / block * tiff_sample_bytes(file, block * step))) {
        return tiff_bad_page(file, directory, "a strip or row of tiles takes over 4 GB");
    }
    file->band_bytes = across / block * tiff_sample_bytes(file, block * step) * file->band_rows;
    return CLI_OK;
}

int tiff_open_directory(tiff_file *file, int64_t directory)
{
    uint32_t height = 0, width = 0;
    int rc;
    if (file->open_directory == directory) {
        return CLI_OK;
    }
    file->open_directory = -1;
    file->band_first = -1;
    file->detail[0] = '\0';
    if (!TIFFSetSubDirectory(file->tiff, file->directories[directory])) {
        return tiff_bad_page(file, directory, "cannot be read");
    }
    TIFFGetField(file->tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(file->tiff, TIFFTAG_IMAGELENGTH, &height);
    if (height == 0 || width == 0) {
        return tiff_bad_page(file, directory, "has no size");
    }
    file->height = height;
    file->width = width;
    if ((rc = read_type(file, directory)) != 0 || (rc = plan_bands(file, directory)) != 0 ||
        (rc = check_storage(file, directory)) != 0) {
        return rc;
    }
    free(file->band);
    file->band = NULL;
    file->open_directory = directory;
    return CLI_OK;
}

