// The panel: rows of frames, columns of input, truth and prediction. Every image is shown through a central
// window, resampled by area, so that a pixel on screen is the mean of the pixels it covers.
#include "cli/picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PANEL_WIDTH = 1600, MARGIN = 16, GAP = 6, MAX_CELL = 384, MIN_CELL = 96, GLYPH = 6, LINE = 9, SHADES = 250 };

static const unsigned char ink[3] = {235, 235, 235}, faint[3] = {160, 160, 160}, paper[3] = {18, 18, 20};

typedef struct window {         // what is shown of an image, and how large
    int64_t top, left, height, width;   // source pixels
    int64_t shown_height, shown_width;  // picture pixels
} window;

static void put_pixel(picture *p, int64_t x, int64_t y, const unsigned char *rgb)
{
    if (x >= 0 && y >= 0 && x < p->width && y < p->height) {
        memcpy(p->rgb + 3 * (y * p->width + x), rgb, 3);
    }
}

static void fill(picture *p, int64_t x, int64_t y, int64_t w, int64_t h, const unsigned char *rgb)
{
    for (int64_t j = y; j < y + h; j++) {
        for (int64_t i = x; i < x + w; i++) {
            put_pixel(p, i, j, rgb);
        }
    }
}

// Cuts text that does not fit in `room` pixels; letters outside ASCII show as '?', once each.
static void put_text(picture *p, int64_t x, int64_t y, int64_t room, int scale, const unsigned char *rgb,
                     const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0' && room >= 5 * scale; c++) {
        if ((*c & 0xc0) == 0x80) {
            continue;
        }
        const unsigned char *glyph = picture_font[*c >= 32 && *c < 127 ? *c - 32 : '?' - 32];
        int64_t drop = strchr("gpqy", *c) != NULL ? 2 * scale : 0;
        for (int row = 0; row < 7; row++) {
            for (int column = 0; column < 5; column++) {
                if (glyph[row] >> (4 - column) & 1) {
                    fill(p, x + column * scale, y + drop + row * scale, scale, scale, rgb);
                }
            }
        }
        x += GLYPH * scale;
        room -= GLYPH * scale;
    }
}

static int64_t text_width(const char *text, int scale)
{
    int64_t n = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        n += (*c & 0xc0) != 0x80;
    }
    return n * GLYPH * scale;
}

// Twice as large when it fits, else small.
static void put_fitting(picture *p, int64_t x, int64_t y, int64_t room, const unsigned char *rgb,
                        const char *text)
{
    int scale = text_width(text, 2) <= room + 2 ? 2 : 1;
    put_text(p, x, y + (scale == 1 ? 4 : 0), room, scale, rgb, text);
}

static unsigned char level(double v)
{
    return (unsigned char)lrint(255 * (v < 0 ? 0 : v > 1 ? 1 : v));
}

// Channel colours brighten evenly: black, colour, then towards white.
static void colour_of(int32_t map, double v, unsigned char *rgb)
{
    static const double tints[][3] = {{0.15, 1, 0.3},  {1, 0.25, 0.9}, {0.2, 0.85, 1}, {1, 0.85, 0.15},
                                      {1, 0.3, 0.25}, {0.45, 0.5, 1}, {1, 0.55, 0.1}, {0.9, 0.9, 0.9}};
    // so few that an image and its scale bar have a palette (png.c)
    v = isfinite(v) ? floor((v < 0 ? 0 : v > 1 ? 1 : v) * SHADES + 0.5) / SHADES : 0;
    if (map == PICTURE_MAP_SIGNED) {        // blue below, red above, dark at zero
        double d = 2 * v - 1;
        rgb[0] = level(0.08 + (d > 0 ? 1.2 * d : 0) + (fabs(d) > 0.7 ? fabs(d) - 0.7 : 0));
        rgb[1] = level(0.08 + 0.55 * fabs(d));
        rgb[2] = level(0.09 + (d < 0 ? -1.2 * d : 0) + (fabs(d) > 0.7 ? fabs(d) - 0.7 : 0));
        return;
    }
    for (int k = 0; k < 3; k++) {
        double tint = map >= PICTURE_MAP_COLOUR ? tints[(map - PICTURE_MAP_COLOUR) % 8][k] : 1;
        rgb[k] = level(v * (tint + (1 - tint) * v * v));
    }
}

// Mean of the source pixels under one picture pixel, those at its edge by their share.
static double area_mean(const float *pixels, int64_t stride, const window *w, int64_t x, int64_t y)
{
    double sy = (double)w->height / (double)w->shown_height, sx = (double)w->width / (double)w->shown_width;
    double y0 = (double)y * sy, y1 = y0 + sy, x0 = (double)x * sx, x1 = x0 + sx, sum = 0, weight = 0;
    for (int64_t j = (int64_t)y0; j < w->height && (double)j < y1 - 1e-9; j++) {
        double wy = fmin((double)(j + 1), y1) - fmax((double)j, y0);
        for (int64_t i = (int64_t)x0; i < w->width && (double)i < x1 - 1e-9; i++) {
            double wx = fmin((double)(i + 1), x1) - fmax((double)i, x0);
            sum += wy * wx * (double)pixels[(w->top + j) * stride + w->left + i];
            weight += wy * wx;
        }
    }
    return weight > 0 ? sum / weight : 0;
}

static void put_image(picture *p, int64_t x, int64_t y, const picture_cell *cell, int64_t stride,
                      const window *w)
{
    double span = cell->high > cell->low ? cell->high - cell->low : 1;
    for (int64_t j = 0; j < w->shown_height; j++) {
        for (int64_t i = 0; i < w->shown_width; i++) {
            unsigned char rgb[3];
            colour_of(cell->map, (area_mean(cell->pixels, stride, w, i, j) - cell->low) / span, rgb);
            put_pixel(p, x + i, y + j, rgb);
        }
    }
}

// Whole multiples when enlarging; at most 2 source pixels per picture pixel, else the centre is shown.
static window choose_window(int64_t height, int64_t width, int64_t cell)
{
    window w = {0, 0, height, width, 0, 0};
    if (w.width > 2 * cell) {
        w.width = 2 * cell;
        w.left = (width - w.width) / 2;
    }
    if (w.height > 2 * cell) {
        w.height = 2 * cell;
        w.top = (height - w.height) / 2;
    }
    int64_t longest = w.height > w.width ? w.height : w.width;
    double scale = (double)cell / (double)longest;
    if (scale >= 2) {
        scale = floor(scale);
    }
    w.shown_width = (int64_t)lrint((double)w.width * scale);
    w.shown_height = (int64_t)lrint((double)w.height * scale);
    w.shown_width = w.shown_width < 1 ? 1 : w.shown_width;
    w.shown_height = w.shown_height < 1 ? 1 : w.shown_height;
    return w;
}

// A bar of a round length, about a quarter of the image, with its length above.
static void put_scale_bar(picture *p, int64_t x, int64_t y, const window *w, double pixel_size)
{
    double micrometres = (double)w->width * pixel_size / 4, step = pow(10, floor(log10(micrometres)));
    double length = micrometres >= 5 * step ? 5 * step : micrometres >= 2 * step ? 2 * step : step;
    int64_t bar = (int64_t)lrint(length / pixel_size * (double)w->shown_width / (double)w->width);
    char *text = cli_format("%g um", length);
    int64_t left = x + 8, bottom = y + w->shown_height - 8, wide = text_width(text, 2);
    fill(p, left - 4, bottom - 26, (bar > wide ? bar : wide) + 6, 30, paper);
    fill(p, left, bottom - 4, bar, 4, ink);
    put_text(p, left, bottom - 22, w->shown_width, 2, ink, text);
    free(text);
}

// ---- Histograms -------------------------------------------------------------------------------------------------

enum { HISTOGRAM = 84 };        // height, with the numbers under it

void picture_histogram(const float *pixels, int64_t n, double from, double to, double share[PICTURE_BINS])
{
    double width = (to - from) / PICTURE_BINS;
    memset(share, 0, PICTURE_BINS * sizeof *share);
    for (int64_t i = 0; i < n; i++) {
        double v = pixels[i];
        if (v >= from && v <= to && width > 0) {
            int bin = (int)((v - from) / width);
            share[bin < PICTURE_BINS ? bin : PICTURE_BINS - 1] += 1.0 / (double)n;
        }
    }
}

// Shares down to one pixel in ten thousand, the largest as high as there is room.
static int64_t bar_height(double share, double most, int64_t room)
{
    const double least = 1e-4;
    return share <= least || most <= least ? 0 : lrint((double)room * log(share / least) / log(most / least));
}

// The truth as an area, what the cell shows as a line in its colour.
static void put_histogram(picture *p, int64_t x, int64_t y, int64_t width, int64_t n, const picture_cell *cell)
{
    static const unsigned char floor_of[3] = {34, 34, 38}, area[3] = {112, 112, 118};
    double truth[PICTURE_BINS], split[PICTURE_BINS], most = 0;
    unsigned char colour[3];
    char text[32];
    int64_t room = HISTOGRAM - LINE - 9, before = 0;
    picture_histogram(cell->truth, n, cell->from, cell->to, truth);
    picture_histogram(cell->pixels, n, cell->from, cell->to, split);
    for (int k = 0; k < PICTURE_BINS; k++) {
        most = fmax(most, fmax(truth[k], split[k]));
    }
    colour_of(cell->map, 0.65, colour);
    fill(p, x, y, width, room + 1, floor_of);
    for (int k = 0; k < PICTURE_BINS; k++) {
        int64_t left = x + k * width / PICTURE_BINS, right = x + (k + 1) * width / PICTURE_BINS;
        int64_t back = bar_height(truth[k], most, room), front = bar_height(split[k], most, room);
        int64_t low = front < before ? front : before, high = front > before ? front : before;
        fill(p, left, y + room - back + 1, right - left, back, area);
        fill(p, left, y + room - front, right - left, 2, colour);
        fill(p, left, y + room - high, 2, high - low + 2, colour);      // up or down to this bin
        before = front;
    }
    snprintf(text, sizeof text, "%.4g", cell->from);
    put_text(p, x, y + room + 5, width / 2, 1, faint, text);
    snprintf(text, sizeof text, "%.4g", cell->to);
    put_text(p, x + width - text_width(text, 1), y + room + 5, width / 2, 1, faint, text);
}

// Room under a row of the panel for its histograms.
static int64_t histogram_room(const picture_panel *panel, int row)
{
    for (int c = 0; c < panel->n_columns; c++) {
        if (panel->cells[row * panel->n_columns + c].truth != NULL) {
            return HISTOGRAM;
        }
    }
    return 0;
}

// A caption may run on under the cells to its right that have none.
static int64_t caption_room(const picture_panel *panel, int cell, int64_t shown)
{
    int64_t room = shown;
    for (int next = cell + 1; next % panel->n_columns != 0 && panel->cells[next].caption[0] == '\0'; next++) {
        room += GAP + shown;
    }
    return room;
}

// One size for all captions: large when all fit so.
static int caption_scale(const picture_panel *panel, int64_t shown)
{
    for (int i = 0; i < panel->n_rows * panel->n_columns; i++) {
        if (text_width(panel->cells[i].caption, 2) > caption_room(panel, i, shown) + 2) {
            return 1;
        }
    }
    return 2;
}

// ---- The panel --------------------------------------------------------------------------------------------------

static int64_t cell_side(const picture_panel *panel)
{
    int64_t side = (PANEL_WIDTH - 2 * MARGIN - (panel->n_columns - 1) * GAP) / panel->n_columns;
    return side < MIN_CELL ? MIN_CELL : side > MAX_CELL ? MAX_CELL : side;
}

int picture_write_panel(const char *path, const picture_panel *panel)
{
    enum { HEAD = 2 * LINE + 4, CAPTION = 2 * LINE + 4 };
    picture p = {0};
    int64_t cell = cell_side(panel), shown = 1, y = MARGIN;
    p.height = 2 * MARGIN + HEAD + (panel->title != NULL ? 2 * LINE + 8 : 0) +
               (panel->footer != NULL ? 2 * LINE : 0);
    for (int r = 0; r < panel->n_rows; r++) {
        window w = choose_window(panel->heights[r], panel->widths[r], cell);
        shown = w.shown_width > shown ? w.shown_width : shown;
        p.height += w.shown_height + CAPTION + GAP + histogram_room(panel, r);
    }
    p.width = 2 * MARGIN + panel->n_columns * (shown + GAP) - GAP;
    p.rgb = cli_alloc((size_t)p.height, 3 * (size_t)p.width);
    if (p.rgb == NULL) {
        return CLI_FAILED;
    }
    int captions = caption_scale(panel, shown);
    fill(&p, 0, 0, p.width, p.height, paper);
    if (panel->title != NULL) {
        put_fitting(&p, MARGIN, y, p.width - 2 * MARGIN, ink, panel->title);
        y += 2 * LINE + 8;
    }
    for (int c = 0; c < panel->n_columns; c++) {
        put_fitting(&p, MARGIN + c * (shown + GAP), y, shown, ink, panel->headings[c]);
    }
    y += HEAD;
    for (int r = 0; r < panel->n_rows; r++) {
        window w = choose_window(panel->heights[r], panel->widths[r], cell);
        for (int c = 0; c < panel->n_columns; c++) {
            const picture_cell *now = &panel->cells[r * panel->n_columns + c];
            int64_t x = MARGIN + c * (shown + GAP);
            if (now->pixels != NULL) {
                put_image(&p, x, y, now, panel->widths[r], &w);
                put_text(&p, x, y + w.shown_height + 4, caption_room(panel, r * panel->n_columns + c, shown), captions,
                         faint, now->caption);
            }
            if (now->pixels != NULL && now->truth != NULL) {
                put_histogram(&p, x, y + w.shown_height + CAPTION, w.shown_width, panel->heights[r] * panel->widths[r],
                              now);
            }
        }
        if (panel->pixel_size > 0 && panel->cells[r * panel->n_columns].pixels != NULL) {
            put_scale_bar(&p, MARGIN, y, &w, panel->pixel_size);
        }
        y += w.shown_height + CAPTION + GAP + histogram_room(panel, r);
    }
    if (panel->footer != NULL) {
        put_text(&p, MARGIN, y, p.width - 2 * MARGIN, 1, faint, panel->footer);
    }
    int rc = png_write(path, &p);
    free(p.rgb);
    return rc;
}

int picture_make_cell(picture *p, const picture_cell *cell, int64_t height, int64_t width, int64_t side,
                      double pixel_size)
{
    window w = choose_window(height, width, side);
    p->height = w.shown_height;
    p->width = w.shown_width;
    p->rgb = cli_alloc((size_t)p->height, 3 * (size_t)p->width);
    if (p->rgb == NULL) {
        return CLI_FAILED;
    }
    put_image(p, 0, 0, cell, width, &w);
    if (pixel_size > 0) {
        put_scale_bar(p, 0, 0, &w, pixel_size);
    }
    return CLI_OK;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int picture_range(const float *pixels, int64_t n, double low_share, double high_share, double *low,
                  double *high)
{
    enum { KEPT = 1 << 16 };
    int64_t step = 1 + n / KEPT, kept = 0;
    float *sorted = cli_alloc((size_t)(n / step + 1), sizeof *sorted);
    *low = 0;
    *high = 1;
    if (sorted == NULL) {
        return CLI_FAILED;
    }
    for (int64_t i = 0; i < n; i += step) {
        if (isfinite(pixels[i])) {
            sorted[kept++] = pixels[i];
        }
    }
    if (kept > 0) {
        qsort(sorted, (size_t)kept, sizeof *sorted, by_value);
        *low = (double)sorted[(int64_t)(low_share * (double)(kept - 1))];
        *high = (double)sorted[(int64_t)(high_share * (double)(kept - 1))];
    }
    free(sorted);
    return CLI_OK;
}
