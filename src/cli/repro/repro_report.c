// The results side by side with the published numbers: Markdown, and a short table for the terminal; the CSV file is
// repro_csv.c's. Rows that were not run are there too, and say why.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/repro/repro.h"

// ---- Numbers ----------------------------------------------------------------------------------------------------

repro_score repro_published(const repro_run *run)
{
    static const repro_score none;
    int same_family = run->settings.model.family == run->row->family || run->row->kind == REPRO_DOUBLE_DIP;
    return run->task->source == REPRO_OWN || !same_family ? none : run->row->paper[run->task_index];
}

double repro_or_nan(double value)
{
    return value > 0 ? value : NAN;
}

double repro_psnr(const repro_run *run, int k)
{
    return run->done ? run->result.quality[k].mean_ri_psnr : NAN;
}

double repro_ssim(const repro_run *run, int k)
{
    return run->done ? run->result.quality[k].mean_ssim : NAN;
}

double repro_seam(const repro_run *run, int k)
{
    return run->done ? run->result.quality[k].seam : NAN;
}

// A cell of a Markdown row; nothing for a number that is not there.
static void cell(FILE *file, const char *format, double value)
{
    fputs(" |", file);
    if (isfinite(value)) {
        fputc(' ', file);
        fprintf(file, format, value);
    }
}

const char *repro_reason(const repro_run *run)
{
    return run->reason[0] != '\0' ? run->reason : "not started";
}

// ---- What is not as published -----------------------------------------------------------------------------------

enum { MAX_VALUES = 6 };

typedef struct difference {
    char key[32];
    char values[MAX_VALUES][160];       // "16 (paper: 64)"
    int n, more;
} difference;

static void note(difference *all, int *n, const char *key, const char *ours, const char *theirs)
{
    char text[160];
    int k = 0, v = 0;
    snprintf(text, sizeof text, "%s (paper: %s)", ours, theirs);
    while (k < *n && strcmp(all[k].key, key) != 0) {
        k++;
    }
    if (k == *n) {
        if (*n == REPRO_MAX_PAIRS) {
            return;
        }
        all[(*n)++] = (difference){.n = 0};
        snprintf(all[k].key, sizeof all[k].key, "%s", key);
    }
    while (v < all[k].n && strcmp(all[k].values[v], text) != 0) {
        v++;
    }
    if (v == MAX_VALUES) {
        all[k].more = 1;
    } else if (v == all[k].n) {
        snprintf(all[k].values[all[k].n++], sizeof all[k].values[0], "%s", text);
    }
}

static void compare(difference *all, int *n, const repro_run *run)
{
    repro_pair ours[REPRO_MAX_PAIRS], paper[REPRO_MAX_PAIRS];
    int n_ours = repro_settings_list(&run->settings, run->row, run->task, ours);
    int n_paper = repro_settings_list(&run->paper, run->row, run->task, paper);
    for (int i = 0; i < n_ours; i++) {
        const char *theirs = "none";
        for (int k = 0; k < n_paper; k++) {
            theirs = strcmp(ours[i].key, paper[k].key) == 0 ? paper[k].value : theirs;
        }
        if (strcmp(ours[i].value, theirs) != 0) {
            note(all, n, ours[i].key, ours[i].value, theirs);
        }
    }
}

static int put_differences(FILE *file, const repro_run *runs, int n_runs)
{
    int n = 0;
    difference *all = cli_alloc(REPRO_MAX_PAIRS, sizeof *all);
    if (all == NULL) {
        return CLI_FAILED;
    }
    for (int i = 0; i < n_runs; i++) {
        compare(all, &n, &runs[i]);
    }
    fputs(n > 0 ? "Settings that are not the paper's:\n\n" : "All settings are those of the paper.\n", file);
    for (int k = 0; k < n; k++) {
        fprintf(file, "- %s: ", all[k].key);
        for (int v = 0; v < all[k].n; v++) {
            fprintf(file, "%s%s", v > 0 ? ", " : "", all[k].values[v]);
        }
        fputs(all[k].more ? ", ...\n" : "\n", file);
    }
    fputc('\n', file);
    free(all);
    return CLI_OK;
}

// How much every row is shown.
static void put_budget(FILE *file, const repro_request *request, const repro_run *runs, int n)
{
    double low = INFINITY, high = 0;
    int32_t side = 64 / (request->scale.shrink > 0 ? request->scale.shrink : 1);
    for (int i = 0; i < n; i++) {
        const usplit_trainer_options *t = &runs[i].settings.trainer;
        if (runs[i].row->kind == REPRO_NETWORK && t->max_steps > 0) {
            double seen = (double)t->max_steps * t->batch * runs[i].settings.area;
            low = fmin(low, seen);
            high = fmax(high, seen);
        }
    }
    if (high == 0 || (request->scale.patches == 0 && request->scale.share == 0)) {
        fputs("Every training has its published length, unless it stops gaining before; the patches it saw are in its "
              "row.\n\n", file);
        return;
    }
    fprintf(file, "Every row %s the same number of training pixels%s: %.0f", request->minutes > 0 ? "may see" : "sees",
            high - low > 0.5 ? ", but for whole steps" : "", low);
    if (high - low > 0.5) {
        fprintf(file, " to %.0f", high);
    }
    fprintf(file, " patches of %d x %d, larger patches counted by their area", side, side);
    if (request->minutes > 0) {
        fprintf(file, "; after %g minutes a training ends where it is", request->minutes);
    }
    fputs(".\n\n", file);
}

// ---- Markdown ---------------------------------------------------------------------------------------------------

static int has_gib(const repro_experiment *e)
{
    return e->rows[0].gib > 0 || e->rows[e->n_rows > 1 ? 1 : 0].gib > 0;
}

static void head_of_table(FILE *file, const repro_experiment *e)
{
    int columns = 12;
    fputs("| system | RI-PSNR paper | ours | diff. | SSIM paper | ours | diff. | by channel, dB / SSIM |", file);
    if (e->seams) {
        fprintf(file, " seam, %s |", e->evals[0].title);
        columns++;
    }
    for (int k = 1; k < e->n_evals; k++) {
        fprintf(file, " %s, dB / SSIM%s |", e->evals[k].title, e->seams ? " / seam" : "");
        columns++;
    }
    fputs(" patches seen | planned |", file);
    if (has_gib(e)) {
        fputs(" paper, GiB |", file);
        columns++;
    }
    fputs(" peak (images) | trained in |\n|", file);
    for (int i = 0; i < columns; i++) {
        fputs(" --- |", file);
    }
    fputc('\n', file);
}

static void pair_cell(FILE *file, double psnr, double ssim)
{
    fputs(" |", file);
    if (isfinite(psnr)) {
        fprintf(file, " %.2f / %.3f", psnr, ssim);
    }
}

static void channel_cell(FILE *file, const repro_result *r)
{
    fputs(" |", file);
    for (int64_t c = 0; c < r->channels; c++) {
        fprintf(file, "%s %s %s / %.3f", c > 0 ? "," : "", r->channel_names[c],
                text_decibel(r->quality[0].ri_psnr[c]).text, r->quality[0].ssim[c]);
    }
}

static void row_of_table(FILE *file, const repro_experiment *e, const repro_run *run)
{
    const repro_result *r = &run->result;
    repro_score paper = repro_published(run);
    fprintf(file, "| %s", run->row->name);
    cell(file, "%.1f", repro_or_nan(paper.psnr));
    cell(file, "%.2f", repro_psnr(run, 0));
    cell(file, "%+.2f", repro_psnr(run, 0) - repro_or_nan(paper.psnr));
    cell(file, "%.2f", repro_or_nan(paper.ssim));
    cell(file, "%.3f", repro_ssim(run, 0));
    cell(file, "%+.3f", repro_ssim(run, 0) - repro_or_nan(paper.ssim));
    if (!run->done) {
        fprintf(file, " | not run: %s", repro_reason(run));
        for (int k = 1; k < e->n_evals + 4 + has_gib(e) + e->seams; k++) {
            fputs(" |", file);
        }
        fputs(" |\n", file);
        return;
    }
    if (r->quality[0].error[0] != '\0') {
        fprintf(file, " | not evaluated: %s", r->quality[0].error);
    } else {
        channel_cell(file, r);
    }
    if (e->seams) {
        cell(file, "%.3f", repro_seam(run, 0));
    }
    for (int k = 1; k < e->n_evals; k++) {
        pair_cell(file, repro_psnr(run, k), repro_ssim(run, k));
        if (e->seams && isfinite(repro_seam(run, k))) {
            fprintf(file, " / %.3f", repro_seam(run, k));
        }
        if (r->quality[k].error[0] != '\0') {
            fprintf(file, " %s", r->quality[k].error);
        }
    }
    if (run->row->kind == REPRO_DOUBLE_DIP) {
        fprintf(file, " | none; %lld iterations a crop", (long long)r->steps);
    } else {
        fprintf(file, " | %lld", (long long)r->patches);
    }
    if (run->settings.area > 1) {
        fprintf(file, " of %d x %d", run->settings.model.patch, run->settings.model.patch);
    }
    fprintf(file, " | %s", text_bytes((double)r->planned_bytes).text);
    if (has_gib(e)) {
        cell(file, "%.1f", repro_or_nan(run->row->gib));
    }
    fprintf(file, " | %s (%s)", r->peak_bytes > 0 ? text_bytes((double)r->peak_bytes).text : "?",
            text_bytes((double)r->data_bytes).text);
    fprintf(file, " | %s |\n", text_duration(r->train_seconds).text);
}

// The yardstick: the mixed image taken as every channel.
static void input_row(FILE *file, const repro_experiment *e, const repro_run *runs, int n, const repro_task *task)
{
    for (int i = 0; i < n; i++) {
        if (runs[i].task == task && runs[i].done && runs[i].row->kind == REPRO_NETWORK) {
            fprintf(file, "| the input as it is | | %.2f | | | %.3f | |", runs[i].result.input_ri_psnr,
                    runs[i].result.input_ssim);
            for (int k = 0; k < e->n_evals + 4 + has_gib(e) + e->seams; k++) {
                fputs(" |", file);
            }
            fputc('\n', file);
            return;
        }
    }
}

static const repro_run *any_done(const repro_run *runs, int n)
{
    for (int i = 0; i < n; i++) {
        if (runs[i].done && runs[i].row->kind == REPRO_NETWORK) {
            return &runs[i];
        }
    }
    return NULL;
}

static void put_tables(FILE *file, const repro_experiment *e, const repro_run *runs, int n)
{
    for (int i = 0; i < n; i++) {
        if (i == 0 || runs[i].task != runs[i - 1].task) {
            const repro_task *task = runs[i].task;
            fprintf(file, "%s## %s\n\n", i > 0 ? "\n" : "", task->name);
            head_of_table(file, e);
            input_row(file, e, runs, n, task);
        }
        row_of_table(file, e, &runs[i]);
    }
}

static void put_link(FILE *file, const char *folder, const char *name, const char *what)
{
    char *path = cli_format("%s/%s", folder, name);
    if (files_exists(path)) {
        fprintf(file, "![%s](%s)\n\n", what, name);
    }
    free(path);
}

static void put_notes(FILE *file, const repro_request *request, const repro_run *runs, int n)
{
    const repro_experiment *e = request->experiment;
    const repro_run *done = any_done(runs, n);
    fprintf(file, "\n%s\n\n", e->note);
    fprintf(file, "RI-PSNR (after the best affine fit of the prediction) and SSIM in normalised units: means over test "
            "frames, then over channels; compared with the paper: %s. planned: working memory of a training step, "
            "parameters and optimiser. peak: of the whole training process, the images included.\n\n",
            e->evals[0].title);
    if (done != NULL) {
        fprintf(file, "%lld test frame%s; seed %lld, no run was repeated with another; %s; usplit %s, %s.\n\n",
                (long long)done->result.test_frames, done->result.test_frames == 1 ? "" : "s",
                (long long)request->seed, done->result.device, done->result.version, done->result.engine);
    }
    char *chart = cli_format("%s.svg", request->base);
    put_link(file, request->out, chart, e->title);
    free(chart);
    if (e->picture != NULL) {
        char *picture = cli_format("%s-%s", request->base, e->picture);
        put_link(file, request->out, picture, e->picture_title);
        free(picture);
    }
}

static int write_markdown(const char *path, const repro_request *request, const repro_run *runs, int n)
{
    files_output out;
    const repro_experiment *e = request->experiment;
    int rc = files_create(&out, path), full = strcmp(request->scale.name, "full") == 0;
    if (rc != 0) {
        return rc;
    }
    fprintf(out.file, "# %s; scale %s%s%s\n\n", e->title, request->scale.name,
            full ? "" : ", not the published settings", request->own_images ? ", own images" : "");
    rc = put_differences(out.file, runs, n);
    if (rc != 0) {
        files_discard(&out);
        return rc;
    }
    put_budget(out.file, request, runs, n);
    if (runs[0].task->source == REPRO_CRITTERS && runs[0].settings.critters.kinds == 1) {
        fputs("One kind of curve per channel is an easier task than the paper's two, and fewer curves cross less: rows "
              "compare with each other, not with the published numbers. The published kinds are --kinds 2.\n\n", out.file);
    }
    put_tables(out.file, e, runs, n);
    put_notes(out.file, request, runs, n);
    return files_commit(&out);
}

int repro_report(const repro_request *request, const repro_run *runs, int n)
{
    char *csv = cli_format("%s/%s.csv", request->out, request->base);
    char *markdown = cli_format("%s/%s.md", request->out, request->base);
    int rc = repro_csv(csv, request->experiment, runs, n);
    if (rc == CLI_OK) {
        rc = write_markdown(markdown, request, runs, n);
    }
    free(csv);
    free(markdown);
    return rc;
}

// ---- Terminal ---------------------------------------------------------------------------------------------------

static void print_number(FILE *file, const char *format, double value)
{
    if (isfinite(value)) {
        fprintf(file, format, value);
    } else {
        fprintf(file, " %7s", "-");
    }
}

void repro_print(const repro_request *request, const repro_run *runs, int n, FILE *file)
{
    int room = 10;
    for (int i = 0; i < n; i++) {
        room = (int)strlen(runs[i].row->name) > room ? (int)strlen(runs[i].row->name) : room;
    }
    fprintf(file, "%s; scale %s\n", request->experiment->title, request->scale.name);
    for (int i = 0; i < n; i++) {
        const repro_run *run = &runs[i];
        repro_score paper = repro_published(run);
        if (i == 0 || run->task != runs[i - 1].task) {
            fprintf(file, "\n%-*s %7s %7s %7s   %7s %7s %7s\n", room, run->task->name, "RI-PSNR", "paper", "diff.",
                    "SSIM", "paper", "diff.");
        }
        fprintf(file, "%-*s", room, run->row->name);
        print_number(file, " %7.2f", repro_psnr(run, 0));
        print_number(file, " %7.1f", repro_or_nan(paper.psnr));
        print_number(file, " %+7.2f", repro_psnr(run, 0) - repro_or_nan(paper.psnr));
        fputs("  ", file);
        print_number(file, " %7.3f", repro_ssim(run, 0));
        print_number(file, " %7.2f", repro_or_nan(paper.ssim));
        print_number(file, " %+7.3f", repro_ssim(run, 0) - repro_or_nan(paper.ssim));
        fprintf(file, "%s%s\n", run->done ? "" : "   not run: ", run->done ? "" : repro_reason(run));
    }
}
