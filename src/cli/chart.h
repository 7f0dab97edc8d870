// Line charts for readers of a report: named ticks, a legend, dashed lines for other people's numbers; on a page of
// their own, two to a row (usplit reproduce), or within an HTML page (the training's report). A panel is described
// whole, from arrays that the caller made. plot.h draws the columns of a table as they stand, over an axis of numbers.
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
