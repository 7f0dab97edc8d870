// Plots of figures 4 and 6 and of table 3, and the panels of images of figures 5 and 7, from the runs that are done.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/picture.h"
#include "cli/repro/repro.h"
#include "cli/image/images.h"

enum { MAX_LINES = 2 * REPRO_MAX_SERIES, MAX_POINTS = 8 };

// ---- Plots ------------------------------------------------------------------------------------------------------

typedef struct line_store {
    double x[MAX_POINTS], y[MAX_POINTS];
    char name[96];
} line_store;

typedef struct panel_store {
    chart_line lines[MAX_LINES];
    line_store values[MAX_LINES];
    int n;
} panel_store;

static void add_point(chart_line *line, line_store *values, double x, double y)
{
    if (line->n < MAX_POINTS) {
        values->x[line->n] = x;
        values->y[line->n++] = y;
    }
}

// The points of one series as ours, and as published; lines without any number are left out.
static void add_series(panel_store *p, const repro_run *runs, int n, int panel, int series, const char *name)
{
    for (int theirs = 0; theirs < 2 && p->n < MAX_LINES; theirs++) {
        chart_line *line = &p->lines[p->n];
        line_store *values = &p->values[p->n];
        *line = (chart_line){.x = values->x, .y = values->y, .colour = series, .dashed = theirs};
        int known = 0;
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < REPRO_MAX_POINTS; k++) {
                const repro_point *at = &runs[i].row->points[k];
                if (at->panel == panel && at->series == series) {
                    double ours = runs[i].done ? runs[i].result.quality[0].mean_ri_psnr : NAN;
                    double paper = repro_published(&runs[i]).psnr;
                    double y = theirs ? paper > 0 ? paper : NAN : ours;
                    known += isfinite(y);
                    add_point(line, values, at->x, y);
                }
            }
        }
        if (known > 0) {
            snprintf(values->name, sizeof values->name, "%s%s", name, theirs ? " (paper)" : "");
            line->name = values->name;
            p->n++;
        }
    }
}

// One run's quality by way of tiling, relative to that without padding, in per cent.
static void add_evaluations(panel_store *p, const repro_experiment *e, const repro_run *run, int panel, int colour)
{
    if (!run->done || p->n == MAX_LINES) {
        return;
    }
    chart_line *line = &p->lines[p->n];
    line_store *values = &p->values[p->n++];
    double base = run->result.quality[0].mean_ri_psnr;
    *line = (chart_line){.x = values->x, .y = values->y, .colour = colour};
    snprintf(values->name, sizeof values->name, "%s, %s", run->row->name, run->task->name);
    line->name = values->name;
    for (int k = 0; k < e->n_evals; k++) {
        if (k == 0 || e->evals[k].point.panel == panel) {
            add_point(line, values, e->evals[k].point.x, 100 * (run->result.quality[k].mean_ri_psnr / base - 1));
        }
    }
}

static int write_chart(const repro_request *request, const repro_run *runs, int n)
{
    int rc, by_evaluation = request->experiment->evals[0].point.panel > 0;
    const repro_experiment *e = request->experiment;
    chart_panel panels[REPRO_MAX_PANELS];
    char *path = cli_format("%s/%s.svg", request->out, request->base);
    char *title = cli_format("%s; scale %s", e->title, request->scale.name);
    panel_store *stores = cli_alloc(REPRO_MAX_PANELS, sizeof *stores);
    if (stores == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int k = 0; k < e->n_panels; k++) {
        for (int i = 0; by_evaluation && i < n; i++) {
            add_evaluations(&stores[k], e, &runs[i], k + 1, i);
        }
        for (int s = 0; !by_evaluation && s < REPRO_MAX_SERIES && e->series[s] != NULL; s++) {
            add_series(&stores[k], runs, n, k + 1, s, e->series[s]);
        }
        panels[k] = (chart_panel){.title = e->panels[k].title, .x_title = e->panels[k].x_title, .y_title = e->metric,
                                  .n_ticks = e->panels[k].n_ticks, .ticks = e->panels[k].ticks,
                                  .labels = e->panels[k].labels, .n_lines = stores[k].n, .lines = stores[k].lines};
    }
    rc = chart_write(path, title, panels, e->n_panels);
done:
    free(stores);
    free(path);
    free(title);
    return rc;
}

// ---- Panels of images -------------------------------------------------------------------------------------------

enum { MAX_SHOWN = 4, MAX_COLUMNS = 1 + USPLIT_MAX_CHANNELS * (1 + REPRO_MAX_PICTURED) };

// Channel `channel` (counted from 1) of a run's example; to free.
static int read_example(float **plane, int64_t *height, int64_t *width, const repro_run *run, int channel)
{
    int rc;
    image_file *file = NULL;
    char *name = cli_format("%s/example.tif@%d", run->folder, channel);
    *plane = NULL;
    CLI_TRY(image_open(&file, name));
    CLI_TRY(image_page_size(file, 0, height, width));
    *plane = cli_alloc((size_t)(*height * *width), sizeof **plane);
    if (*plane == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    CLI_TRY(image_read_rows(file, 0, 0, *height, *plane));
done:
    image_close(file);
    free(name);
    return rc;
}

static const repro_run *find_run(const repro_run *runs, int n, const repro_task *task, const char *row)
{
    for (int i = 0; i < n; i++) {
        if (runs[i].task == task && runs[i].done && strcmp(runs[i].row->key, row) == 0) {
            return &runs[i];
        }
    }
    return NULL;
}

typedef struct shown {          // one row of the panel: a task and the runs on it that are done
    const repro_run *runs[REPRO_MAX_PICTURED];
    const repro_run *any;
} shown;

// One range for the truth and all that is made of it, but for the outermost pixels.
static int set_histograms(picture_cell *truth, int n_systems, int64_t n)
{
    int rc;
    double low, high;
    CLI_TRY(picture_range(truth->pixels, n, 0.0005, 0.9995, &truth->from, &truth->to));
    for (int s = 1; s <= n_systems; s++) {
        if (truth[s].pixels != NULL) {
            CLI_TRY(picture_range(truth[s].pixels, n, 0.0005, 0.9995, &low, &high));
            truth->from = low < truth->from ? low : truth->from;
            truth->to = high > truth->to ? high : truth->to;
        }
    }
    for (int s = 1; s <= n_systems; s++) {
        truth[s].truth = truth->pixels;
        truth[s].from = truth->from;
        truth[s].to = truth->to;
    }
done:
    return rc;
}

// Columns: the input, then for every channel the truth and what each system makes of it.
static int fill_row(const shown *row, const repro_experiment *e, int n_systems, int channels, picture_cell *cells,
                    int64_t *height, int64_t *width)
{
    int rc, at = 1;
    float *plane;
    CLI_TRY(read_example(&plane, height, width, row->any, 1));
    cells[0].pixels = plane;
    snprintf(cells[0].caption, sizeof cells[0].caption, "%.47s", row->any->task->name);
    CLI_TRY(picture_range(plane, *height * *width, 0.005, 0.995, &cells[0].low, &cells[0].high));
    for (int c = 0; c < channels; c++) {
        picture_cell *truth = &cells[at++];
        CLI_TRY(read_example(&plane, height, width, row->any, 2 + c));
        truth->pixels = plane;
        truth->map = PICTURE_MAP_COLOUR + c;
        CLI_TRY(picture_range(plane, *height * *width, 0.005, 0.997, &truth->low, &truth->high));
        for (int s = 0; s < n_systems; s++) {
            picture_cell *split = &cells[at++];
            const repro_run *run = row->runs[s];
            if (run == NULL) {
                continue;
            }
            *split = *truth;
            split->pixels = NULL;
            CLI_TRY(read_example(&plane, height, width, run, 2 + channels + c));
            split->pixels = plane;
            snprintf(split->caption, sizeof split->caption, "%s [%s] dB",
                     text_decibel(run->result.example_ri_psnr[c]).text,
                     text_decibel(run->result.quality[0].ri_psnr[c]).text);
        }
        if (e->histograms) {
            CLI_TRY(set_histograms(truth, n_systems, *height * *width));
        }
    }
    rc = CLI_OK;
done:
    return rc;
}

static void free_cells(picture_cell *cells, int n)
{
    for (int i = 0; i < n; i++) {
        free((void *)(uintptr_t)cells[i].pixels);
    }
}

static void fill_headings(const repro_request *request, const repro_run *any, int n_systems, int channels,
                          char (*headings)[48])
{
    const repro_experiment *e = request->experiment;
    int at = 1;
    snprintf(headings[0], sizeof headings[0], "input");
    for (int c = 0; c < channels; c++) {
        snprintf(headings[at++], sizeof headings[0], "%.36s true", any->result.channel_names[c]);
        for (int s = 0; s < n_systems; s++) {
            const char *name = e->pictured[s];
            for (int r = 0; r < e->n_rows; r++) {
                name = strcmp(e->rows[r].key, e->pictured[s]) == 0 ? e->rows[r].name : name;
            }
            snprintf(headings[at++], sizeof headings[0], "%.46s", name);
        }
    }
}

// Which tasks and runs are shown; returns the number of rows.
static int choose(const repro_request *request, const repro_run *runs, int n, shown *rows, int *n_systems)
{
    const repro_experiment *e = request->experiment;
    int n_rows = 0;
    for (int i = 0; i < n && n_rows < MAX_SHOWN; i++) {
        const repro_task *task = runs[i].task;
        int wanted = task->source == REPRO_OWN || e->pictured_task == NULL || strcmp(e->pictured_task, task->key) == 0;
        if (!wanted || (i > 0 && runs[i - 1].task == task)) {
            continue;
        }
        shown row = {.any = NULL};
        for (*n_systems = 0; *n_systems < REPRO_MAX_PICTURED && e->pictured[*n_systems] != NULL; (*n_systems)++) {
            const repro_run *run = find_run(runs, n, task, e->pictured[*n_systems]);
            row.runs[*n_systems] = run;
            row.any = run != NULL ? run : row.any;
        }
        if (row.any != NULL) {
            rows[n_rows++] = row;
        }
    }
    return n_rows;
}

#define FOOTER "The first test frame, its central part. True and split share their contrast. RI-PSNR of the whole " \
               "frame, and in brackets of the test set."

static int write_picture(const repro_request *request, const repro_run *runs, int n)
{
    int rc, n_systems = 0;
    shown rows[MAX_SHOWN];
    int n_rows = choose(request, runs, n, rows, &n_systems);
    if (n_rows == 0) {
        return CLI_OK;
    }
    int channels = (int)rows[0].any->result.channels, columns = 1 + channels * (1 + n_systems);
    char headings[MAX_COLUMNS][48];
    int64_t heights[MAX_SHOWN], widths[MAX_SHOWN];
    char *path = cli_format("%s/%s-%s", request->out, request->base, request->experiment->picture);
    picture_cell *cells = cli_alloc((size_t)(n_rows * columns), sizeof *cells);
    if (cells == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    for (int r = 0; r < n_rows; r++) {
        CLI_TRY(fill_row(&rows[r], request->experiment, n_systems, channels, cells + r * columns, &heights[r],
                         &widths[r]));
    }
    fill_headings(request, rows[0].any, n_systems, channels, headings);
    picture_panel panel = {
        .n_rows = n_rows, .n_columns = columns, .headings = headings, .heights = heights, .widths = widths,
        .cells = cells, .title = request->experiment->picture_title,
        .footer = request->experiment->histograms ? FOOTER " Grey levels: true in grey, split in colour; logarithmic."
                                                  : FOOTER,
    };
    CLI_TRY(picture_write_panel(path, &panel));
done:
    if (cells != NULL) {
        free_cells(cells, n_rows * columns);
    }
    free(cells);
    free(path);
    return rc;
}

int repro_figures(const repro_request *request, const repro_run *runs, int n)
{
    int rc = CLI_OK, done = 0;
    for (int i = 0; i < n; i++) {
        done += runs[i].done;
    }
    if (done > 0 && request->experiment->n_panels > 0) {
        CLI_TRY(write_chart(request, runs, n));
    }
    if (done > 0 && request->experiment->picture != NULL) {
        CLI_TRY(write_picture(request, runs, n));
    }
done:
    return rc;
}
