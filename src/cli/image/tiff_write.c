// Writing TIFF: all directories first, at places known beforehand, then the pixels of page after page. The
// header is written last, when the display ranges are known, so an unfinished file is no TIFF.
//
//     | header, directories, ImageJ metadata (room for) | page 0 | page 1 | ...      page = (place, channel)
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/image/tiff_writer.h"

enum { STRIP_BYTES = 1 << 18 };

static int write_at(tiff_writer *w, const void *src, int64_t n, int64_t at)
{
    const unsigned char *p = src;
    while (n > 0) {
        ssize_t done = pwrite(fileno(w->output.file), p, (size_t)n, (off_t)at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return cli_error(CLI_FAILED, "%s: cannot write: %s", w->output.path,
                             strerror(done < 0 ? errno : EIO));
        }
        p += done;
        at += done;
        n -= done;
    }
    return CLI_OK;
}

static int describe_ome(tiff_writer *w)
{
    int32_t v = usplit_version();
    char creator[64];
    snprintf(creator, sizeof creator, "usplit %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    w->ome = ome_write(&w->layout, (const char *const *)w->names, w->info, creator);
    return w->ome != NULL ? CLI_OK : cli_error(CLI_FAILED, "out of memory for the OME-XML");
}

static int plan(tiff_writer *w)
{
    const image_layout *l = &w->layout;
    w->sample_bytes = l->type == USPLIT_TYPE_U8 ? 1 : l->type == USPLIT_TYPE_U16 ? 2 : 4;
    w->page_bytes = l->height * l->width * w->sample_bytes;
    w->pages = l->channels * l->slices * l->frames;
    w->rows_per_strip = STRIP_BYTES / (l->width * w->sample_bytes);
    w->rows_per_strip = w->rows_per_strip < 1           ? 1
                        : w->rows_per_strip > l->height ? l->height
                                                        : w->rows_per_strip;
    w->strips = (l->height + w->rows_per_strip - 1) / w->rows_per_strip;
    w->step = 1 + l->height * l->width * l->slices * l->frames / TIFF_RANGE_SAMPLES;
    for (int big = l->force_big ? 1 : 0;; big++) {
        int64_t n = 0;
        w->is_big = big;
        unsigned char *header = tiff_build_header(w, &n);
        w->data_at = (n + 4 * TIFF_DESCRIPTION_ROOM) / 16 * 16;     // ImageJ's words may grow
        free(header);
        if (header == NULL) {
            return cli_error(CLI_FAILED, "out of memory for the list of %lld pages", (long long)w->pages);
        }
        if (big || (double)w->data_at + (double)w->page_bytes * (double)w->pages < 4294967295.0) {
            return CLI_OK;
        }
    }
}

int tiff_create(tiff_writer **out, const char *path, const image_layout *layout)
{
    int rc;
    *out = NULL;
    tiff_writer *w = cli_alloc(1, sizeof *w);
    if (w == NULL) {
        return CLI_FAILED;
    }
    w->layout = *layout;
    for (int64_t c = 0; c < layout->channels; c++) {
        const char *name = layout->names[c];
        w->names[c] = name != NULL && name[0] != '\0' ? cli_format("%s", name) : NULL;
        if ((w->kept[c] = cli_alloc(TIFF_RANGE_SAMPLES + 1, sizeof(float))) == NULL) {
            rc = CLI_FAILED;
            goto done;
        }
    }
    w->info = layout->info != NULL ? cli_format("%s", layout->info) : NULL;
    if (files_ends_with(path, ".ome.tif") || files_ends_with(path, ".ome.tiff")) {
        CLI_TRY(describe_ome(w));
    }
    CLI_TRY(plan(w));
    if ((w->converted = cli_alloc((size_t)layout->width, 4)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    CLI_TRY(files_create(&w->output, path));
    *out = w;
    return CLI_OK;
done:
    tiff_writer_free(w);
    return rc;
}

static void convert(tiff_writer *w, const float *src)
{
    double top = w->layout.type == USPLIT_TYPE_U8 ? 255 : 65535;
    for (int64_t x = 0; x < w->layout.width; x++) {
        double value = rint((double)src[x]);
        if (!(value >= 0)) {
            value = 0;
            w->saturated++;
        } else if (value > top) {
            value = top;
            w->saturated++;
        }
        if (w->layout.type == USPLIT_TYPE_U8) {
            w->converted[x] = (unsigned char)value;
        } else {
            uint16_t v = (uint16_t)value;
            memcpy(w->converted + 2 * x, &v, sizeof v);
        }
    }
}

// Keeps every step-th value of a channel's row; `at` counts the channel's values before it.
static void keep_some(tiff_writer *w, int64_t channel, const float *src, int64_t at)
{
    for (int64_t x = -at % w->step + (at % w->step != 0 ? w->step : 0); x < w->layout.width; x += w->step) {
        if (w->n_kept[channel] <= TIFF_RANGE_SAMPLES && isfinite(src[x])) {
            w->kept[channel][w->n_kept[channel]++] = src[x];
        }
    }
}

int tiff_write_rows(tiff_writer *w, int64_t place, int64_t row, int64_t n_rows, const float *src)
{
    const image_layout *l = &w->layout;
    int64_t row_bytes = l->width * w->sample_bytes;
    for (int64_t c = 0; c < l->channels; c++) {
        int64_t at = w->data_at + (place * l->channels + c) * w->page_bytes + row * row_bytes;
        for (int64_t y = 0; y < n_rows; y++, src += l->width) {
            int rc;
            keep_some(w, c, src, w->seen + y * l->width);
            const void *pixels = src;
            if (l->type != USPLIT_TYPE_F32) {
                convert(w, src);
                pixels = w->converted;
            }
            if ((rc = write_at(w, pixels, row_bytes, at + y * row_bytes)) != 0) {
                return rc;
            }
        }
    }
    w->seen += n_rows * l->width;
    return CLI_OK;
}

int tiff_commit(tiff_writer *w, int64_t *saturated)
{
    int64_t n = 0;
    unsigned char *header = tiff_build_header(w, &n);
    int rc = CLI_OK;
    if (header == NULL || n > w->data_at) {
        rc = cli_error(CLI_FAILED, "%s: out of memory for the header", w->output.path);
    } else {
        rc = write_at(w, header, n, 0);
    }
    free(header);
    if (rc == CLI_OK) {
        rc = files_commit(&w->output);
    }
    if (saturated != NULL) {
        *saturated = w->saturated;
    }
    return rc;
}

void tiff_writer_free(tiff_writer *w)
{
    if (w == NULL) {
        return;
    }
    for (int c = 0; c < IMAGE_MAX_CHANNELS; c++) {
        free(w->names[c]);
        free(w->kept[c]);
    }
    free(w->info);
    free(w->ome);
    free(w->converted);
    files_discard(&w->output);
    free(w);
}
