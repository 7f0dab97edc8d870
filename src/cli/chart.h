// Line charts with labelled ticks and a legend, several on a page, as SVG text.
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include <stdio.h>

typedef struct chart_line {
    const char *name;           // NULL: not in the legend
    int n;
    const double *x, *y;        // y not finite: left out, the line goes on
    int colour;                 // lines of one colour belong together
    int dashed;                 // with open marks: somebody else's numbers
    int bare;                   // no marks
} chart_line;

typedef struct chart_panel {
    const char *title, *x_title, *y_title;
    int n_ticks;
    const double *ticks;
    const char *const *labels;
    int n_lines;
    const chart_line *lines;
} chart_panel;

// One panel as an <svg> element without styles, for a page that has them (html.c).
void chart_put(FILE *file, const chart_panel *panel);
// Panels side by side, two to a row.
int chart_write(const char *path, const char *title, const chart_panel *panels, int n);

#endif
