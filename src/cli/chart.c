// Described panels of a fixed size, for reports; the vertical axis is as long as the values need, the horizontal one as
// its ticks say. plot.c is for columns of numbers.
#include "cli/chart.h"

#include <math.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/plot.h"

enum { WIDTH = 480, HEIGHT = 300, LEFT = 62, RIGHT = 14, TOP = 34, BOTTOM = 56, LEGEND = 18, HEAD = 40 };

typedef struct frame {          // one panel being drawn
    FILE *file;
    const chart_panel *panel;
    double left, top;           // on the page
    double low, high, step;     // of the vertical axis
    double first, last;         // of the horizontal axis
} frame;

static void put_text(FILE *file, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        switch (*p) {
        case '&': fputs("&amp;", file); break;
        case '<': fputs("&lt;", file); break;
        case '>': fputs("&gt;", file); break;
        default: fputc(*p, file);
        }
    }
}

static void put_label(FILE *file, double x, double y, const char *style, const char *text)
{
    fprintf(file, "<text x='%.1f' y='%.1f' class='%s'>", x, y, style);
    put_text(file, text);
    fputs("</text>\n", file);
}

static const char *colour_of(int colour)
{
    static const char *const colours[] = {"#2060b0", "#e07010", "#208040", "#c03030", "#8040a0", "#806040",
                                          "#d060a0", "#606060", "#a09010", "#20a0b0"};
    return colours[colour % 10];
}

static void find_range(frame *f)
{
    double low = INFINITY, high = -INFINITY;
    for (int k = 0; k < f->panel->n_lines; k++) {
        const chart_line *l = &f->panel->lines[k];
        for (int i = 0; i < l->n; i++) {
            if (isfinite(l->y[i])) {
                low = fmin(low, l->y[i]);
                high = fmax(high, l->y[i]);
            }
        }
    }
    if (!(low <= high)) {
        low = 0;
        high = 1;
    }
    double pad = high > low ? 0.06 * (high - low) : high != 0 ? 0.1 * fabs(high) : 1;
    f->low = low - pad;
    f->high = high + pad;
    f->step = plot_step(f->high - f->low, 6);
    int n = f->panel->n_ticks;
    double span = n > 1 ? f->panel->ticks[n - 1] - f->panel->ticks[0] : 1;
    f->first = f->panel->ticks[0] - 0.06 * span;
    f->last = f->panel->ticks[n - 1] + 0.06 * span;
}

static double x_of(const frame *f, double x)
{
    return f->left + LEFT + (WIDTH - LEFT - RIGHT) * (x - f->first) / (f->last - f->first);
}

static double y_of(const frame *f, double y)
{
    return f->top + TOP + (HEIGHT - TOP - BOTTOM) * (f->high - y) / (f->high - f->low);
}

static void draw_axes(const frame *f)
{
    const chart_panel *p = f->panel;
    double left = f->left + LEFT, right = f->left + WIDTH - RIGHT, bottom = f->top + HEIGHT - BOTTOM;
    char text[32];
    put_label(f->file, left, f->top + TOP - 12, "title", p->title);
    for (double v = ceil(f->low / f->step) * f->step; v <= f->high; v += f->step) {
        fprintf(f->file, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' class='grid'/>", left, right, y_of(f, v),
                y_of(f, v));
        snprintf(text, sizeof text, "%.6g", fabs(v) < 1e-9 * f->step ? 0 : v);
        put_label(f->file, left - 6, y_of(f, v) + 4, "right", text);
    }
    for (int i = 0; i < p->n_ticks; i++) {
        double x = x_of(f, p->ticks[i]);
        fprintf(f->file, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' class='axis'/>", x, x, bottom, bottom + 4);
        put_label(f->file, x, bottom + 17, "middle", p->labels[i]);
    }
    put_label(f->file, right, bottom + 34, "right", p->x_title);
    put_label(f->file, right, f->top + TOP - 12, "right", p->y_title);
    fprintf(f->file, "<path d='M%.1f %.1fV%.1fH%.1f' class='axis'/>\n", left, f->top + TOP, bottom, right);
}

static void draw_line(const frame *f, const chart_line *l)
{
    int down = 0;
    const char *colour = colour_of(l->colour);
    fprintf(f->file, "<path fill='none' stroke-width='1.6' stroke='%s'%s d='", colour,
            l->dashed ? " stroke-dasharray='5 4'" : "");
    for (int i = 0; i < l->n; i++) {
        if (isfinite(l->y[i])) {
            fprintf(f->file, "%c%.1f %.1f", down ? 'L' : 'M', x_of(f, l->x[i]), y_of(f, l->y[i]));
            down = 1;
        }
    }
    fputs("'/>", f->file);
    for (int i = 0; i < l->n && !l->bare; i++) {
        if (isfinite(l->y[i])) {
            fprintf(f->file, "<circle cx='%.1f' cy='%.1f' r='3' stroke='%s' fill='%s'/>", x_of(f, l->x[i]),
                    y_of(f, l->y[i]), colour, l->dashed ? "#fff" : colour);
        }
    }
    fputc('\n', f->file);
}

static int n_named(const chart_panel *p)
{
    int n = 0;
    for (int k = 0; k < p->n_lines; k++) {
        n += p->lines[k].name != NULL;
    }
    return n;
}

static void draw_legend(const frame *f)
{
    double x = f->left + LEFT, y = f->top + HEIGHT;
    for (int k = 0; k < f->panel->n_lines; k++) {
        const chart_line *l = &f->panel->lines[k];
        if (l->name != NULL) {
            fprintf(f->file, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' stroke='%s' stroke-width='1.6'%s/>", x,
                    x + 24, y - 4, y - 4, colour_of(l->colour), l->dashed ? " stroke-dasharray='5 4'" : "");
            put_label(f->file, x + 30, y, "left", l->name);
            y += LEGEND;
        }
    }
}

static void draw_panel(frame *f)
{
    find_range(f);
    draw_axes(f);
    for (int k = 0; k < f->panel->n_lines; k++) {
        draw_line(f, &f->panel->lines[k]);
    }
    draw_legend(f);
}

void chart_put(FILE *file, const chart_panel *panel)
{
    frame f = {.file = file, .panel = panel};
    fprintf(file, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' role='img' aria-label='", WIDTH,
            HEIGHT + n_named(panel) * LEGEND);
    put_text(file, panel->title);
    fputs("'>\n", file);
    draw_panel(&f);
    fputs("</svg>\n", file);
}

int chart_write(const char *path, const char *title, const chart_panel *panels, int n)
{
    files_output out;
    int rc = files_create(&out, path), most = 0, columns = n > 1 ? 2 : 1;
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < n; i++) {
        most = n_named(&panels[i]) > most ? n_named(&panels[i]) : most;
    }
    int cell = HEIGHT + most * LEGEND + 10, width = columns * WIDTH;
    int height = HEAD + (n + columns - 1) / columns * cell;
    fprintf(out.file, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d'>\n", width,
            height, width, height);
    fputs("<style>text{font:12px sans-serif;fill:#333}.title,.head{font-size:14px;font-weight:bold}"
          ".head{font-size:16px}.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e4e4e4}"
          ".axis{stroke:#888;fill:none}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n", out.file);
    put_label(out.file, LEFT, 24, "head", title);
    for (int i = 0; i < n; i++) {
        frame f = {.file = out.file, .panel = &panels[i]};
        f.left = i % columns * WIDTH;
        f.top = HEAD + i / columns * cell;
        draw_panel(&f);
    }
    fputs("</svg>\n", out.file);
    return files_commit(&out);
}
