// Two plots under each other: training loss (and validation loss where known), and validation PSNR with its
// best epoch marked.
#include "cli/curves.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/files.h"

enum { WIDTH = 760, HEIGHT = 240, LEFT = 64, RIGHT = 16, TOP = 34, BOTTOM = 34 };

typedef struct plot {
    FILE *file;
    const usplit_trainer_epoch *rows;
    int64_t n;
    double y_at;                // top of the plot on the page
    double low, high, step;     // of the vertical axis
} plot;

static double field(const usplit_trainer_epoch *row, size_t offset)
{
    return *(const double *)((const char *)row + offset);
}

// A round step that gives four to eight ticks.
static double tick_step(double span, int most)
{
    double step = pow(10, floor(log10(span / most)));
    while (span / step > most) {
        step *= span / (2 * step) <= most ? 2 : span / (5 * step) <= most ? 5 : 10;
    }
    return step;
}

static void find_range(plot *p, const size_t *offsets, int n_offsets)
{
    double low = INFINITY, high = -INFINITY;
    for (int k = 0; k < n_offsets; k++) {
        for (int64_t i = 0; i < p->n; i++) {
            double v = field(&p->rows[i], offsets[k]);
            if (isfinite(v)) {
                low = fmin(low, v);
                high = fmax(high, v);
            }
        }
    }
    if (!(low <= high)) {
        low = 0;
        high = 1;
    }
    double pad = high > low ? 0.05 * (high - low) : fabs(high) > 0 ? 0.05 * fabs(high) : 1;
    p->low = low - pad;
    p->high = high + pad;
    p->step = tick_step(p->high - p->low, 6);
}

static double x_of(const plot *p, double epoch)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (p->n > 1 ? (epoch - 1) / (double)(p->n - 1) : 0.5);
}

static double y_of(const plot *p, double value)
{
    return p->y_at + TOP + (HEIGHT - TOP - BOTTOM) * (p->high - value) / (p->high - p->low);
}

static void draw_axes(const plot *p, const char *title)
{
    double top = p->y_at + TOP, bottom = p->y_at + HEIGHT - BOTTOM;
    fprintf(p->file, "<text x='%d' y='%.0f' class='title'>%s</text>\n", LEFT, p->y_at + TOP - 12, title);
    for (double v = ceil(p->low / p->step) * p->step; v <= p->high; v += p->step) {
        double shown = fabs(v) < 1e-9 * p->step ? 0 : v;
        fprintf(p->file, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, WIDTH - RIGHT,
                y_of(p, v), y_of(p, v));
        fprintf(p->file, "<text x='%d' y='%.1f' class='right'>%.6g</text>\n", LEFT - 6, y_of(p, v) + 4,
                shown);
    }
    double step = p->n > 8 ? fmax(1, tick_step((double)p->n, 8)) : 1;
    for (double e = step; e <= (double)p->n; e += step) {
        fprintf(p->file, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' class='axis'/>", x_of(p, e),
                x_of(p, e), bottom, bottom + 4);
        fprintf(p->file, "<text x='%.1f' y='%.1f' class='middle'>%.0f</text>\n", x_of(p, e), bottom + 17, e);
    }
    fprintf(p->file, "<text x='%d' y='%.1f' class='right'>epoch</text>\n", WIDTH - RIGHT, bottom + 30);
    fprintf(p->file, "<path d='M%d %.1fV%.1fH%d' class='axis'/>\n", LEFT, top, bottom, WIDTH - RIGHT);
}

// One line; gaps where the value is not known.
static void draw_line(const plot *p, size_t offset, const char *colour)
{
    int pen_down = 0, points = 0;
    fprintf(p->file, "<path fill='none' stroke-width='1.6' stroke='%s' d='", colour);
    for (int64_t i = 0; i < p->n; i++) {
        double v = field(&p->rows[i], offset);
        if (isfinite(v)) {
            fprintf(p->file, "%c%.2f %.2f", pen_down ? 'L' : 'M', x_of(p, (double)(i + 1)), y_of(p, v));
            points++;
        }
        pen_down = isfinite(v);
    }
    fputs("'/>\n", p->file);
    for (int64_t i = 0; points <= 40 && i < p->n; i++) {
        double v = field(&p->rows[i], offset);
        if (isfinite(v)) {
            fprintf(p->file, "<circle cx='%.2f' cy='%.2f' r='2' fill='%s'/>", x_of(p, (double)(i + 1)),
                    y_of(p, v), colour);
        }
    }
}

static void draw_best(const plot *p)
{
    int64_t best = -1;
    for (int64_t i = 0; i < p->n; i++) {
        if (isfinite(p->rows[i].val_psnr) && (best < 0 || p->rows[i].val_psnr > p->rows[best].val_psnr)) {
            best = i;
        }
    }
    if (best >= 0) {
        fprintf(p->file,
                "<circle cx='%.2f' cy='%.2f' r='5' fill='none' stroke='#c03030' stroke-width='1.6'/>\n",
                x_of(p, (double)(best + 1)), y_of(p, p->rows[best].val_psnr));
        fprintf(p->file, "<text x='%d' y='%.1f' class='right'>best %.2f dB, epoch %" PRId64 "</text>\n",
                WIDTH - RIGHT, p->y_at + TOP - 12, p->rows[best].val_psnr, best + 1);
    }
}

int curves_write_svg(const char *path, const usplit_trainer_epoch *rows, int64_t n)
{
    static const size_t losses[] = {offsetof(usplit_trainer_epoch, loss),
                                    offsetof(usplit_trainer_epoch, val_loss)};
    static const size_t psnr[] = {offsetof(usplit_trainer_epoch, val_psnr)};
    files_output out;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    plot p = {.file = out.file, .rows = rows, .n = n};
    fprintf(out.file, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d'>\n",
            WIDTH, 2 * HEIGHT, WIDTH, 2 * HEIGHT);
    fputs("<style>text{font:12px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}"
          ".right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e4e4e4}"
          ".axis{stroke:#888;fill:none}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n", out.file);
    find_range(&p, losses, 2);
    draw_axes(&p, "loss (blue: training, orange: validation)");
    draw_line(&p, losses[0], "#2060b0");
    draw_line(&p, losses[1], "#e08020");
    p.y_at = HEIGHT;
    find_range(&p, psnr, 1);
    draw_axes(&p, "validation PSNR, dB");
    draw_line(&p, psnr[0], "#208040");
    draw_best(&p);
    fputs("</svg>\n", out.file);
    return files_commit(&out);
}

static void put_value(FILE *file, double value)
{
    if (isfinite(value)) {
        fprintf(file, ",%.9g", value);
    } else {
        fputc(',', file);
    }
}

int curves_write_csv(const char *path, const usplit_trainer_epoch *rows, int64_t n)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    fputs("epoch,step,loss,reconstruction_loss,kl_loss,val_psnr,val_loss,learning_rate,seconds\n", out.file);
    for (int64_t i = 0; i < n; i++) {
        fprintf(out.file, "%" PRId64 ",%" PRId64, i + 1, rows[i].step);
        put_value(out.file, rows[i].loss);
        put_value(out.file, rows[i].reconstruction_loss);
        put_value(out.file, rows[i].kl_loss);
        put_value(out.file, rows[i].val_psnr);
        put_value(out.file, rows[i].val_loss);
        put_value(out.file, rows[i].learning_rate);
        put_value(out.file, rows[i].seconds);
        fputc('\n', out.file);
    }
    return files_commit(&out);
}
