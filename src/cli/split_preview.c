// One row of a panel: input, channels, and the input less the mean of the channels; deviations in a second row, each
// under its channel.
#include "cli/split_preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/picture.h"
#include "cli/setup.h"

enum { MAX_COLUMNS = 2 + USPLIT_MAX_CHANNELS };

static int fill_channels(picture_cell *cells, int n_channels, int64_t n, const float *input, const float *planes)
{
    int rc = CLI_OK;
    for (int k = 0; k <= n_channels; k++) {
        picture_cell *cell = &cells[k];
        cell->pixels = k == 0 ? input : planes + (k - 1) * n;
        cell->map = k == 0 ? PICTURE_MAP_GREY : PICTURE_MAP_COLOUR + k - 1;
        CLI_TRY(picture_range(cell->pixels, n, 0.005, 0.995, &cell->low, &cell->high));
        snprintf(cell->caption, sizeof cell->caption, "%.4g to %.4g", cell->low, cell->high);
    }
done:
    return rc;
}

static void fill_rest(picture_cell *cell, float *rest, int n_channels, int64_t n, const float *input,
                      const float *planes, double span)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int c = 0; c < n_channels; c++) {
            sum += (double)planes[c * n + i];
        }
        rest[i] = (float)((double)input[i] - sum / n_channels);
    }
    *cell = (picture_cell){.pixels = rest, .map = PICTURE_MAP_SIGNED, .low = -span / 2, .high = span / 2};
    snprintf(cell->caption, sizeof cell->caption, "+-%.3g", span / 2);
}

static int fill_deviations(picture_cell *cells, int n_channels, int64_t n, const float *planes)
{
    int rc = CLI_OK;
    for (int c = 0; c < n_channels; c++) {
        picture_cell *cell = &cells[1 + c];
        double low;
        cell->pixels = planes + (n_channels + c) * n;
        cell->map = PICTURE_MAP_GREY;
        CLI_TRY(picture_range(cell->pixels, n, 0.005, 0.995, &low, &cell->high));
        snprintf(cell->caption, sizeof cell->caption, "deviation, 0 to %.3g", cell->high);
    }
done:
    return rc;
}

int split_preview_write(const char *path, const usplit_model_facts *model, int64_t height, int64_t width,
                        const float *input, const float *planes, int deviations, double pixel_size)
{
    int rc, columns = 2 + model->channels;
    int64_t n = height * width, heights[2] = {height, height}, widths[2] = {width, width};
    picture_cell cells[2 * MAX_COLUMNS];
    char headings[MAX_COLUMNS][48], name[USPLIT_NAME_BYTES];
    float *rest = cli_alloc((size_t)n, sizeof *rest);
    memset(cells, 0, sizeof cells);
    if (rest == NULL) {
        return CLI_FAILED;
    }
    CLI_TRY(fill_channels(cells, model->channels, n, input, planes));
    fill_rest(&cells[columns - 1], rest, model->channels, n, input, planes, cells[0].high - cells[0].low);
    if (deviations) {
        CLI_TRY(fill_deviations(cells + columns, model->channels, n, planes));
    }
    for (int k = 0; k < columns; k++) {
        snprintf(headings[k], sizeof headings[k], "%.47s", k == 0 ? "input" : k == columns - 1 ? "left over" :
                 setup_channel_name(model, k - 1, name, sizeof name));
    }
    picture_panel panel = {.n_rows = deviations ? 2 : 1,
                           .n_columns = columns,
                           .headings = headings,
                           .heights = heights,
                           .widths = widths,
                           .cells = cells,
                           .pixel_size = pixel_size,
                           .footer = "contrast: 0.5 to 99.5 percent of the pixels of each image. left over: input - "
                                     "mean of channels (red +, blue -), over the input's contrast"};
    rc = picture_write_panel(path, &panel);
done:
    free(rest);
    return rc;
}
