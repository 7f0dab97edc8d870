// Line plots of measurements as a file of SVG: the columns of a table, by address and distance, over an axis of
// numbers, with error bars, gaps, levels and marks; wide panels below each other, drawn call by call (curves.c,
// cmd_tiling.c). chart.h draws described panels with named ticks and a legend, for reports.
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// Values by address and distance, so that a column of any table can be drawn; those not finite are gaps.
typedef struct plot_values {
    const double *first;        // NULL: 1, 2, 3, ...
    size_t stride;              // bytes to the next
} plot_values;
double plot_value(plot_values values, int64_t i);

typedef struct plot {           // one panel
    FILE *file;
    double top;                 // on the page
    double x_low, x_high, x_step;   // of the horizontal axis; a tick at every multiple of the step
    double low, high;           // of the vertical axis
    const char *x_name;
} plot;

void plot_begin(FILE *file, int n_panels);
void plot_end(FILE *file);

// Panel `number` of the page, with an empty vertical axis.
plot plot_panel(FILE *file, int number, double x_low, double x_high, double x_step, const char *x_name);
// Makes the vertical axis hold the values plus and minus their errors (errors.stride 0: none).
void plot_hold(plot *p, plot_values values, plot_values errors, int64_t n);
// After all plot_hold: some room around the values, ticks, names.
void plot_axes(plot *p, const char *title);
void plot_line(const plot *p, plot_values x, plot_values y, int64_t n, const char *colour);
void plot_errors(const plot *p, plot_values x, plot_values y, plot_values errors, int64_t n, const char *colour);
void plot_level(const plot *p, double value);               // a dashed line across
void plot_mark(const plot *p, double x, double y);          // a ring
void plot_note(const plot *p, const char *text);            // above the panel, on the right
// A round step that gives at most so many ticks, and half as many or more.
double plot_step(double span, int most);

#endif
