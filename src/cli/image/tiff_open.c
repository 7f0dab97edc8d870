// Opening a TIFF: libtiff with our limits and message handlers, the list of pages, the pixel size.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/tiff_file.h"

enum { MAX_PAGES = 1000000 };

static int on_message(TIFF *tiff, void *user, const char *module, const char *fmt, va_list args)
{
    tiff_file *file = user;
    (void)tiff;
    (void)module;
    if (file->detail[0] == '\0') {
        vsnprintf(file->detail, sizeof file->detail, fmt, args);
    }
    return 1;
}

static int ignore_message(TIFF *tiff, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tiff;
    (void)user;
    (void)module;
    (void)fmt;
    (void)args;
    return 1;
}

static int list_directories(tiff_file *file)
{
    int64_t room = 0;
    do {
        uint32_t kind = 0;
        TIFFGetFieldDefaulted(file->tiff, TIFFTAG_SUBFILETYPE, &kind);
        file->detail[0] = '\0';
        if (kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) {
            continue;           // thumbnails and masks are not data
        }
        if (file->n_directories == MAX_PAGES) {
            return cli_error(CLI_FAILED, "%s: has more than %d pages", file->path, MAX_PAGES);
        }
        if (file->n_directories == room) {
            room += 1024;
            uint64_t *more = realloc(file->directories, (size_t)room * sizeof *more);
            if (more == NULL) {
                return cli_error(CLI_FAILED, "%s: out of memory for the list of pages", file->path);
            }
            file->directories = more;
        }
        file->directories[file->n_directories++] = TIFFCurrentDirOffset(file->tiff);
    } while (TIFFReadDirectory(file->tiff));
    if (!TIFFLastDirectory(file->tiff) || file->detail[0] != '\0') {
        return tiff_bad_page(file, file->n_directories, "the list of pages is cut off");
    }
    if (file->n_directories == 0) {
        return cli_error(CLI_FAILED, "%s: has no full-size page", file->path);
    }
    return CLI_OK;
}

// Pages that the text speaks of: ImageJ's count, or tifffile's array over one page; 0: it does not.
static int64_t pages_claimed(const tiff_file *file)
{
    if (file->axes.is_imagej) {
        return file->axes.images;
    }
    int64_t page = file->height * file->width * file->samples, all = file->axes.n_shape > 0;
    for (int i = 0; i < file->axes.n_shape; i++) {
        all = all <= INT64_MAX / file->axes.shape[i] ? all * file->axes.shape[i] : 0;
    }
    return all % page == 0 ? all / page : 0;
}

// Stacks over 4 GB are one directory, with the other pages following as bare pixels: ImageJ's way, and tifffile's
// when it is told to truncate.
static int find_raw_pages(tiff_file *file)
{
    int64_t images = pages_claimed(file);
    uint16_t compression = COMPRESSION_NONE;
    TIFFGetField(file->tiff, TIFFTAG_COMPRESSION, &compression);
    if (file->n_directories != 1 || images <= 1) {
        return CLI_OK;
    }
    int64_t page_bytes = file->height * tiff_sample_bytes(file, file->width);
    int64_t first = (int64_t)TIFFGetStrileOffset(file->tiff, 0);
    if (file->samples > 1 || file->bits % 8 != 0 || file->is_tiled || compression != COMPRESSION_NONE ||
        images > MAX_PAGES || (file->size - first) / page_bytes < images) {
        return file->axes.is_imagej ? cli_error(CLI_FAILED, "%s: says it has %lld images but holds one", file->path,
                                                (long long)images)
                                    : CLI_OK;       // a note that outlived a change of the file
    }
    file->raw_pages = images;
    return CLI_OK;
}

static double print_resolution(uint16_t unit)
{
    return unit == RESUNIT_CENTIMETER ? 1e4 : unit == RESUNIT_INCH ? 25400 : 0;
}

static void find_pixel_size(tiff_file *file, const ome_image *ome)
{
    float x = 0, y = 0;
    uint16_t unit = RESUNIT_INCH;
    double width = ome != NULL ? ome->pixel_width : 0, height = ome != NULL ? ome->pixel_height : 0;
    TIFFGetField(file->tiff, TIFFTAG_XRESOLUTION, &x);
    TIFFGetField(file->tiff, TIFFTAG_YRESOLUTION, &y);
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_RESOLUTIONUNIT, &unit);
    if (width == 0 && x > 0 && y > 0) {
        double micrometres = file->axes.unit > 0 ? file->axes.unit : print_resolution(unit);
        width = micrometres / (double)x;
        height = micrometres / (double)y;
        // Over 25 micrometres without a microscope's unit it is a printer's resolution (72 dpi, say).
        if (file->axes.unit == 0 && width > 25) {
            width = height = 0;
        }
    }
    file->facts.pixel_width = width > 0 && isfinite(width) ? width : 0;
    file->facts.pixel_height = height > 0 && isfinite(height) ? height : file->facts.pixel_width;
    file->facts.spacing = ome != NULL ? ome->spacing : file->axes.spacing;
    file->facts.interval = ome != NULL ? ome->interval : file->axes.interval;
}

static int open_path(tiff_file *file)
{
    int rc = files_check_regular(file->path, &file->size);
    if (rc != 0) {
        return rc;
    }
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL) {
        return cli_error(CLI_FAILED, "%s: out of memory", file->path);
    }
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)tiff_max_allocation);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_message, file);
    TIFFOpenOptionsSetWarningHandlerExtR(options, ignore_message, file);
    file->tiff = TIFFOpenExt(file->path, "rm", options);
    TIFFOpenOptionsFree(options);
    if (file->tiff == NULL) {
        return cli_error(CLI_FAILED, "%s: not a readable TIFF: %s", file->path,
                         file->detail[0] != '\0' ? file->detail : "no reason given");
    }
    return CLI_OK;
}

int tiff_open(tiff_file **out, const image_choice *choice)
{
    int rc;
    const char *text = NULL;
    ome_image ome = {0};
    int has_ome = 0;
    *out = NULL;
    tiff_file *file = cli_alloc(1, sizeof *file);
    if (file == NULL) {
        return CLI_FAILED;
    }
    file->open_directory = -1;
    file->path = cli_format("%s", choice->path);
    CLI_TRY(open_path(file));
    CLI_TRY(list_directories(file));
    CLI_TRY(tiff_open_directory(file, 0));
    if (!TIFFGetField(file->tiff, TIFFTAG_IMAGEDESCRIPTION, &text)) {
        text = NULL;
    }
    describe_read(&file->axes, text);
    has_ome = ome_read(&ome, text, files_base(file->path));
    CLI_TRY(find_raw_pages(file));
    CLI_TRY(tiff_map_pages(file, choice, has_ome ? &ome : NULL));
    find_pixel_size(file, has_ome ? &ome : NULL);
    file->facts.height = file->height;
    file->facts.width = file->width;
    file->facts.type = file->format == SAMPLEFORMAT_UINT && file->bits == 8    ? USPLIT_TYPE_U8
                       : file->format == SAMPLEFORMAT_UINT && file->bits <= 16 ? USPLIT_TYPE_U16
                                                                               : USPLIT_TYPE_F32;
    *out = file;
    file = NULL;
done:
    ome_free(&ome);
    tiff_close(file);
    return rc;
}

void tiff_close(tiff_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->tiff != NULL) {
        TIFFClose(file->tiff);
    }
    free(file->directories);
    free(file->pages);
    free(file->band);
    free(file->path);
    free(file);
}

void tiff_info(const tiff_file *file, image_facts *facts)
{
    *facts = file->facts;
}

