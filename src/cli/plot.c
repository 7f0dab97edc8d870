// Panels, axes and lines of columns of numbers; chart.c is for reports. Numbers are rounded to a hundredth of a pixel.
#include "cli/plot.h"

#include <math.h>

enum { WIDTH = 760, HEIGHT = 240, LEFT = 64, RIGHT = 16, TOP = 34, BOTTOM = 34 };

double plot_value(plot_values values, int64_t i)
{
    return values.first == NULL ? (double)(i + 1)
                                : *(const double *)((const char *)values.first + (size_t)i * values.stride);
}

double plot_step(double span, int most)
{
    double step = pow(10, floor(log10(span / most)));
    while (span / step > most) {
        step *= span / (2 * step) <= most ? 2 : span / (5 * step) <= most ? 5 : 10;
    }
    return step;
}

void plot_begin(FILE *file, int n_panels)
{
    fprintf(file, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d'>\n", WIDTH,
            n_panels * HEIGHT, WIDTH, n_panels * HEIGHT);
    fputs("<style>text{font:12px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}"
          ".right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e4e4e4}"
          ".axis{stroke:#888;fill:none}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n", file);
}

void plot_end(FILE *file)
{
    fputs("</svg>\n", file);
}

plot plot_panel(FILE *file, int number, double x_low, double x_high, double x_step, const char *x_name)
{
    return (plot){.file = file, .top = number * HEIGHT, .x_low = x_low, .x_high = x_high, .x_step = x_step,
                  .low = INFINITY, .high = -INFINITY, .x_name = x_name};
}

void plot_hold(plot *p, plot_values values, plot_values errors, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v = plot_value(values, i), error = errors.stride > 0 ? plot_value(errors, i) : 0;
        if (isfinite(v)) {
            error = isfinite(error) ? error : 0;
            p->low = fmin(p->low, v - error);
            p->high = fmax(p->high, v + error);
        }
    }
}

static double x_of(const plot *p, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (p->x_high > p->x_low ? (x - p->x_low) / (p->x_high - p->x_low) : 0.5);
}

static double y_of(const plot *p, double y)
{
    return p->top + TOP + (HEIGHT - TOP - BOTTOM) * (p->high - y) / (p->high - p->low);
}

void plot_axes(plot *p, const char *title)
{
    double top = p->top + TOP, bottom = p->top + HEIGHT - BOTTOM;
    if (!(p->low <= p->high)) {
        p->low = 0;
        p->high = 1;
    }
    double pad = p->high > p->low ? 0.05 * (p->high - p->low) : fabs(p->high) > 0 ? 0.05 * fabs(p->high) : 1;
    p->low -= pad;
    p->high += pad;
    double step = plot_step(p->high - p->low, 6);
    fprintf(p->file, "<text x='%d' y='%.0f' class='title'>%s</text>\n", LEFT, top - 12, title);
    for (double v = ceil(p->low / step) * step; v <= p->high; v += step) {
        fprintf(p->file, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, WIDTH - RIGHT, y_of(p, v),
                y_of(p, v));
        fprintf(p->file, "<text x='%d' y='%.1f' class='right'>%.6g</text>\n", LEFT - 6, y_of(p, v) + 4,
                fabs(v) < 1e-9 * step ? 0 : v);
    }
    for (double x = ceil(p->x_low / p->x_step) * p->x_step; x <= p->x_high; x += p->x_step) {
        fprintf(p->file, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' class='axis'/>", x_of(p, x), x_of(p, x), bottom,
                bottom + 4);
        fprintf(p->file, "<text x='%.1f' y='%.1f' class='middle'>%.6g</text>\n", x_of(p, x), bottom + 17, x);
    }
    fprintf(p->file, "<text x='%d' y='%.1f' class='right'>%s</text>\n", WIDTH - RIGHT, bottom + 30, p->x_name);
    fprintf(p->file, "<path d='M%d %.1fV%.1fH%d' class='axis'/>\n", LEFT, top, bottom, WIDTH - RIGHT);
}

void plot_line(const plot *p, plot_values x, plot_values y, int64_t n, const char *colour)
{
    enum { MOST_POINTS = 40 };  // that are marked one by one
    int pen_down = 0, points = 0;
    fprintf(p->file, "<path fill='none' stroke-width='1.6' stroke='%s' d='", colour);
    for (int64_t i = 0; i < n; i++) {
        double v = plot_value(y, i);
        if (isfinite(v)) {
            fprintf(p->file, "%c%.2f %.2f", pen_down ? 'L' : 'M', x_of(p, plot_value(x, i)), y_of(p, v));
            points++;
        }
        pen_down = isfinite(v);
    }
    fputs("'/>\n", p->file);
    for (int64_t i = 0; points <= MOST_POINTS && i < n; i++) {
        double v = plot_value(y, i);
        if (isfinite(v)) {
            fprintf(p->file, "<circle cx='%.2f' cy='%.2f' r='2' fill='%s'/>", x_of(p, plot_value(x, i)), y_of(p, v),
                    colour);
        }
    }
}

void plot_errors(const plot *p, plot_values x, plot_values y, plot_values errors, int64_t n, const char *colour)
{
    for (int64_t i = 0; i < n; i++) {
        double v = plot_value(y, i), error = plot_value(errors, i), at = x_of(p, plot_value(x, i));
        if (isfinite(v) && isfinite(error)) {
            double high = y_of(p, v + error), low = y_of(p, v - error);
            fprintf(p->file, "<path fill='none' stroke='%s' d='M%.2f %.2fV%.2fM%.2f %.2fh6M%.2f %.2fh6'/>\n", colour,
                    at, high, low, at - 3, high, at - 3, low);
        }
    }
}

void plot_level(const plot *p, double value)
{
    fprintf(p->file, "<path class='axis' stroke-dasharray='4 4' d='M%d %.2fH%d'/>\n", LEFT, y_of(p, value),
            WIDTH - RIGHT);
}

void plot_mark(const plot *p, double x, double y)
{
    fprintf(p->file, "<circle cx='%.2f' cy='%.2f' r='5' fill='none' stroke='#c03030' stroke-width='1.6'/>\n",
            x_of(p, x), y_of(p, y));
}

void plot_note(const plot *p, const char *text)
{
    fprintf(p->file, "<text x='%d' y='%.1f' class='right'>%s</text>\n", WIDTH - RIGHT, p->top + TOP - 12, text);
}
