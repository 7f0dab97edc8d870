// The live line and the rows behind the curves.
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/curves.h"
#include "cli/text.h"

// Seconds between rewritten lines, lines of a log within an epoch, lines that stay, and drawn curves.
static const double live_interval = 0.2, log_interval = 30, keep_interval = 60, curve_interval = 2;
// Without a terminal every epoch has its line, unless they come faster than this.
static const double epoch_interval = 5;

void progress_start(progress *p, int quiet)
{
    const char *term = getenv("TERM");
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->val_psnr = NAN;
    p->terminal = isatty(STDERR_FILENO) && !(term != NULL && strcmp(term, "dumb") == 0);
    p->last_shown = p->terminal ? 0 : cli_seconds();
}

// keep: the line stays on the screen.
static void show(progress *p, const char *line, int keep)
{
    if (p->quiet) {
        return;
    }
    if (p->terminal) {
        fprintf(stderr, "\r%s\033[K%s", line, keep ? "\n" : "");
        p->line_open = !keep;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
    p->last_shown = cli_seconds();
}

static void train_line(const progress *p, const usplit_progress *now, char *line, size_t size)
{
    char steps[64] = "", epochs[32] = "";
    if (now->phase == USPLIT_PHASE_VALIDATE) {
        snprintf(steps, sizeof steps, "  validating");
    } else if (now->phase == USPLIT_PHASE_TRAIN && now->total > 0) {
        snprintf(steps, sizeof steps, "  step %lld/%lld", (long long)now->done, (long long)now->total);
    } else if (now->phase == USPLIT_PHASE_TRAIN) {
        snprintf(steps, sizeof steps, "  step %lld", (long long)now->done);
    }
    if (p->max_epochs > 0) {
        snprintf(epochs, sizeof epochs, "/%d", p->max_epochs);
    }
    snprintf(line, size, "epoch %d%s%s  loss %.4f  val %s dB  best %s dB  %.4g patches/s  left %s",
             now->epoch + 1, epochs, steps, now->loss, text_decibel(p->val_psnr).text,
             text_decibel(now->best_val_psnr).text, now->patches_per_second,
             text_duration(now->seconds_left).text);
}

static void end_of_epoch(progress *p, const usplit_progress *now)
{
    usplit_trainer_epoch row;
    memset(&row, 0, sizeof row);
    row.struct_size = sizeof row;
    row.step = 0;
    row.loss = now->loss;
    row.reconstruction_loss = row.kl_loss = row.val_loss = NAN;
    row.val_psnr = now->val_psnr;
    row.learning_rate = now->learning_rate;
    row.seconds = NAN;
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        row.kl_level[i] = NAN;
    }
    if (p->trainer != NULL && usplit_trainer_get_epoch(p->trainer, now->epoch, &row) != USPLIT_OK) {
        row.struct_size = sizeof row;       // what the callback says is enough
    }
    if (progress_add_row(p, &row) != 0) {
        cli_error_clear();      // the curves are no reason to stop
    }
}

int32_t progress_train(const usplit_progress *now, void *user)
{
    progress *p = user;
    char line[200];
    double time = cli_seconds();
    int ended = now->phase == USPLIT_PHASE_EPOCH;
    p->val_psnr = isnan(now->val_psnr) ? p->val_psnr : now->val_psnr;
    if (ended) {
        end_of_epoch(p, now);
    }
    double wait = p->terminal ? live_interval : log_interval;
    int keep =
        ended && (p->last_kept == 0 || time - p->last_kept >= (p->terminal ? keep_interval : epoch_interval));
    if (keep || time - p->last_shown >= wait) {
        train_line(p, now, line, sizeof line);
        show(p, line, keep);
    }
    if (keep) {
        p->last_kept = time;
    }
    if (ended && time - p->last_curve >= curve_interval) {
        p->last_curve = time;
        if (progress_write_curves(p) != 0) {
            cli_error_clear();  // tried again at the end, where it counts
        }
    }
    if (ended && p->epoch != NULL) {
        p->epoch(p, p->epoch_user);
    }
    return 0;
}

int32_t progress_tiles(const usplit_progress *now, void *user)
{
    progress *p = user;
    double wait = p->terminal ? live_interval : log_interval;
    if (cli_seconds() - p->last_shown >= wait) {
        char line[200];
        snprintf(line, sizeof line, "%s  tile %lld/%lld  %.4g tiles/s  left %s",
                 p->what != NULL ? p->what : "", (long long)now->done, (long long)now->total,
                 now->patches_per_second, text_duration(now->seconds_left).text);
        show(p, line, 0);
    }
    return 0;
}

int32_t progress_dip(const usplit_progress *now, void *user)
{
    progress *p = user;
    if (cli_seconds() - p->last_shown >= (p->terminal ? live_interval : log_interval)) {
        char line[200];
        snprintf(line, sizeof line, "%s  iteration %lld/%lld  loss %.5f  mixture %s dB  %.3g iterations/s  left %s",
                 p->what != NULL ? p->what : "", (long long)now->done, (long long)now->total, now->loss,
                 text_decibel(now->best_val_psnr).text, now->patches_per_second,
                 text_duration(now->seconds_left).text);
        show(p, line, 0);
    }
    return 0;
}

int progress_add_row(progress *p, const usplit_trainer_epoch *row)
{
    if (p->n_rows % 64 == 0) {
        usplit_trainer_epoch *more = realloc(p->rows, (size_t)(p->n_rows + 64) * sizeof *more);
        if (more == NULL) {
            return cli_error(CLI_FAILED, "out of memory for %lld epochs", (long long)p->n_rows);
        }
        p->rows = more;
    }
    p->rows[p->n_rows++] = *row;
    return CLI_OK;
}

int progress_write_curves(const progress *p)
{
    int rc = CLI_OK;
    if (p->n_rows > 0 && p->curves != NULL) {
        rc = curves_write_svg(p->curves, p->rows, p->n_rows);
    }
    if (rc == CLI_OK && p->history != NULL) {
        rc = curves_write_csv(p->history, p->rows, p->n_rows);
    }
    return rc;
}

void progress_end(progress *p)
{
    if (p->line_open) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        p->line_open = 0;
    }
}

void progress_free(progress *p)
{
    progress_end(p);
    free(p->rows);
    p->rows = NULL;
    p->n_rows = 0;
}
