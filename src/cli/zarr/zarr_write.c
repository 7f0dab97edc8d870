// Writing OME-Zarr while rows come from top to bottom: each level of the pyramid fills one row of chunks per channel,
// which is encoded when it is full, and hands the mean of every 2 x 2 pixels down to the next level. So the pyramid
// needs no second pass, and memory is one row of chunks and less than as much again.
//
//     row -> level 0: chunks; two rows -> their mean -> level 1: chunks; two rows -> ...
//
// At an odd border the mean is that of the pixels there are. The means are taken before rounding.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/zarr/zarr_codec.h"
#include "cli/zarr/zarr_writer.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int plan_levels(zarr_writer *w)
{
    static const int64_t most_bytes = (int64_t)128 << 20, least_rows = 64;
    const image_layout *l = &w->layout;
    int64_t rows = ZARR_CHUNK_SIDE, height = l->height, width = l->width;
    // Lower chunks where a row of them would take too much memory.
    while (rows > least_rows && l->channels * rows * width * w->sample_bytes > most_bytes) {
        rows /= 2;
    }
    for (w->n_levels = 0; w->n_levels < ZARR_MAX_LEVELS;) {
        zarr_level *level = &w->levels[w->n_levels++];
        level->height = height;
        level->width = width;
        level->chunk_rows = least(rows, height);
        level->chunk_columns = least(ZARR_CHUNK_SIDE, width);
        level->pixels = cli_alloc((size_t)(l->channels * level->chunk_rows), (size_t)(width * w->sample_bytes));
        level->half = cli_alloc((size_t)(l->channels * width), sizeof *level->half);
        if (level->pixels == NULL || level->half == NULL) {
            return CLI_FAILED;
        }
        if (height <= ZARR_CHUNK_SIDE && width <= ZARR_CHUNK_SIDE) {
            break;
        }
        height = (height + 1) / 2;
        width = (width + 1) / 2;
    }
    int64_t chunk_bytes = w->levels[0].chunk_rows * w->levels[0].chunk_columns * w->sample_bytes;
    w->chunk = cli_alloc((size_t)chunk_bytes, 1);
    w->encoded = cli_alloc((size_t)zarr_encoded_room(chunk_bytes), 1);
    return w->chunk == NULL || w->encoded == NULL ? CLI_FAILED : CLI_OK;
}

int zarr_create(zarr_writer **out, const char *path, const image_layout *layout)
{
    int rc;
    *out = NULL;
    zarr_writer *w = cli_alloc(1, sizeof *w);
    if (w == NULL) {
        return CLI_FAILED;
    }
    w->layout = *layout;
    w->sample_bytes = layout->type == USPLIT_TYPE_U8 ? 1 : layout->type == USPLIT_TYPE_U16 ? 2 : 4;
    for (int64_t c = 0; c < layout->channels; c++) {
        const char *name = layout->names[c];
        w->names[c] = name != NULL && name[0] != '\0' ? cli_format("%s", name) : NULL;
        w->whole[c] = w->shown[c] = (zarr_range){INFINITY, -INFINITY};
    }
    w->info = layout->info != NULL ? cli_format("%s", layout->info) : NULL;
    CLI_TRY(plan_levels(w));
    CLI_TRY(zarr_folder_create(&w->folder, path));
    *out = w;
    return CLI_OK;
done:
    zarr_writer_free(w);
    return rc;
}

// Rounds and saturates to the top of an integer type; returns how many values were cut.
static int64_t to_integers(const float *src, int64_t n, double top, int sample_bytes, unsigned char *dst)
{
    int64_t cut = 0;
    for (int64_t i = 0; i < n; i++) {
        double value = rint((double)src[i]);
        if (!(value >= 0)) {
            value = 0;
            cut++;
        } else if (value > top) {
            value = top;
            cut++;
        }
        if (sample_bytes == 1) {
            dst[i] = (unsigned char)value;
        } else {
            uint16_t v = (uint16_t)value;
            memcpy(dst + 2 * i, &v, sizeof v);
        }
    }
    return cut;
}

static void extend_range(zarr_range *range, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double value = (double)src[i];
        if (isfinite(value)) {
            range->low = value < range->low ? value : range->low;
            range->high = value > range->high ? value : range->high;
        }
    }
}

// Encodes and writes the chunks that end at `row` (the last row filled) of a level.
static int write_chunks(const zarr_writer *w, int k, int64_t row)
{
    const zarr_level *level = &w->levels[k];
    int64_t y = row / level->chunk_rows, rows = row % level->chunk_rows + 1, unit = w->sample_bytes;
    int64_t chunk_bytes = level->chunk_rows * level->chunk_columns * unit;
    int64_t slice = w->place % w->layout.slices, frame = w->place / w->layout.slices;
    int rc = CLI_OK;
    for (int64_t c = 0; rc == CLI_OK && c < w->layout.channels; c++) {
        const unsigned char *plane = w->levels[k].pixels + c * level->chunk_rows * level->width * unit;
        char folder[160], name[200];
        snprintf(folder, sizeof folder, "%d/%lld/%lld/%lld/%lld", k, (long long)frame, (long long)c, (long long)slice,
                 (long long)y);
        char *path = cli_format("%s/%s", w->folder.temporary, folder);
        rc = files_make_folder(path);
        free(path);
        for (int64_t x = 0; rc == CLI_OK && x * level->chunk_columns < level->width; x++) {
            int64_t left = x * level->chunk_columns, columns = least(level->chunk_columns, level->width - left);
            memset(w->chunk, 0, (size_t)chunk_bytes);
            for (int64_t i = 0; i < rows; i++) {
                memcpy(w->chunk + i * level->chunk_columns * unit, plane + (i * level->width + left) * unit,
                       (size_t)(columns * unit));
            }
            int64_t n = zarr_encode(w->chunk, chunk_bytes, w->sample_bytes, w->encoded);
            snprintf(name, sizeof name, "%s/%lld", folder, (long long)x);
            rc = n > 0 ? zarr_folder_write(&w->folder, name, w->encoded, n)
                       : cli_error(CLI_FAILED, "%s: a chunk cannot be compressed", w->folder.path);
        }
    }
    return rc;
}

// The mean of each 2 x 2 pixels of two rows (or 2 x 1 of one, lower == NULL), to dst, which may be `upper`.
static void halve(const float *upper, const float *lower, int64_t width, float *dst)
{
    lower = lower != NULL ? lower : upper;
    for (int64_t x = 0; x < width; x += 2) {
        int64_t next = x + 1 < width ? x + 1 : x;
        dst[x / 2] = 0.25f * ((upper[x] + upper[next]) + (lower[x] + lower[next]));
    }
}

// One row of a channel arrives at level k.
static int take_row(zarr_writer *w, int k, int64_t channel, int64_t row, const float *src)
{
    zarr_level *level = &w->levels[k];
    int64_t width = level->width;
    int is_last = row + 1 == level->height, rc;
    unsigned char *to =
        level->pixels + (channel * level->chunk_rows + row % level->chunk_rows) * width * w->sample_bytes;
    if (w->layout.type == USPLIT_TYPE_F32) {
        memcpy(to, src, (size_t)width * sizeof *src);
    } else {
        int64_t cut = to_integers(src, width, w->layout.type == USPLIT_TYPE_U8 ? 255 : 65535, w->sample_bytes, to);
        w->saturated += k == 0 ? cut : 0;
    }
    if (k == 0) {
        extend_range(&w->whole[channel], src, width);
    }
    if (k + 1 == w->n_levels) {
        extend_range(&w->shown[channel], src, width);
    } else {
        float *half = level->half + channel * width;
        if (row % 2 == 0) {
            memcpy(half, src, (size_t)width * sizeof *src);
        }
        if (row % 2 == 1 || is_last) {
            halve(half, row % 2 == 1 ? src : NULL, width, half);
            CLI_TRY(take_row(w, k + 1, channel, row / 2, half));
        }
    }
    if (channel + 1 == w->layout.channels && (is_last || (row + 1) % level->chunk_rows == 0)) {
        CLI_TRY(write_chunks(w, k, row));
    }
    rc = CLI_OK;
done:
    return rc;
}

int zarr_write_rows(zarr_writer *w, int64_t place, int64_t row, int64_t n_rows, const float *src)
{
    const image_layout *l = &w->layout;
    if (place != w->place || row != w->row || n_rows < 0 || n_rows > l->height - row ||
        place >= l->slices * l->frames) {
        return cli_error(CLI_FAILED, "%s: rows %lld to %lld of page %lld come out of turn", w->folder.path,
                         (long long)row + 1, (long long)(row + n_rows), (long long)place + 1);
    }
    for (int64_t y = 0; y < n_rows; y++) {
        for (int64_t c = 0; c < l->channels; c++) {
            int rc = take_row(w, 0, c, row + y, src + (c * n_rows + y) * l->width);
            if (rc != CLI_OK) {
                return rc;
            }
        }
    }
    w->row += n_rows;
    if (w->row == l->height) {
        w->row = 0;
        w->place++;
    }
    return CLI_OK;
}

int zarr_commit(zarr_writer *w, int64_t *saturated)
{
    int rc;
    if (w->place != w->layout.slices * w->layout.frames) {
        return cli_error(CLI_FAILED, "%s: only %lld of %lld pages were written", w->folder.path, (long long)w->place,
                         (long long)(w->layout.slices * w->layout.frames));
    }
    CLI_TRY(zarr_write_metadata(w));
    CLI_TRY(zarr_folder_commit(&w->folder));
    if (saturated != NULL) {
        *saturated = w->saturated;
    }
done:
    return rc;
}

void zarr_writer_free(zarr_writer *w)
{
    if (w == NULL) {
        return;
    }
    for (int c = 0; c < IMAGE_MAX_CHANNELS; c++) {
        free(w->names[c]);
    }
    for (int k = 0; k < w->n_levels; k++) {
        free(w->levels[k].pixels);
        free(w->levels[k].half);
    }
    free(w->info);
    free(w->chunk);
    free(w->encoded);
    zarr_folder_discard(&w->folder);
    free(w);
}
