// Pictures for people: a canvas of RGB pixels with text, and the panel that shows frames side by side with
// the same contrast. Written as PNG.
#ifndef CLI_PICTURE_H
#define CLI_PICTURE_H

#include <stddef.h>
#include <stdint.h>

extern const unsigned char picture_font[95][7];

typedef struct picture {
    int64_t width, height;
    unsigned char *rgb;         // height x width x 3
} picture;

enum { PICTURE_MAP_GREY = 0, PICTURE_MAP_SIGNED, PICTURE_MAP_COLOUR };  // COLOUR + k: of channel k

// One image of a panel.
typedef struct picture_cell {
    const float *pixels;        // height x width; NULL: an empty cell
    int32_t map;                // PICTURE_MAP_*
    int32_t reserved0;
    double low, high;           // shown black and full; SIGNED: 0 lies in the middle
    char caption[48];           // under the image
    const float *truth;         // of the same size: a histogram of both under the caption; NULL: none
    double from, to;            // of the histogram; values outside are not counted
} picture_cell;

typedef struct picture_panel {
    int n_rows, n_columns;
    const char *title;          // NULL: none
    const char *footer;         // NULL: none
    char (*headings)[48];       // n_columns
    int64_t *heights, *widths;  // n_rows: size of the images in each row
    picture_cell *cells;        // n_rows x n_columns
    double pixel_size;          // micrometres; 0: no scale bar
} picture_panel;

int picture_write_panel(const char *path, const picture_panel *panel);
// One cell as a picture of its own, as large as fits in side x side; its pixels go to the caller, free(p->rgb).
int picture_make_cell(picture *p, const picture_cell *cell, int64_t height, int64_t width, int64_t side,
                      double pixel_size);

enum { PICTURE_BINS = 64 };

// Share of the pixels in each of PICTURE_BINS equal bins of [from, to].
void picture_histogram(const float *pixels, int64_t n, double from, double to, double share[PICTURE_BINS]);

// Grey levels that a share of the pixels lies under (0.005 and 0.995, say); a sample of them is looked at.
int picture_range(const float *pixels, int64_t n, double low_share, double high_share, double *low,
                  double *high);

int png_write(const char *path, const picture *p);
// The same file in memory, to free.
int png_encode(const picture *p, unsigned char **bytes, size_t *n);

#endif
