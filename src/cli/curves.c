// Two plots under each other: training loss (and validation loss where known), and validation PSNR with its
// best epoch marked.
#include "cli/curves.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/plot.h"

static void draw_best(const plot *p, const usplit_trainer_epoch *rows, int64_t n)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(rows[i].val_psnr) && (best < 0 || rows[i].val_psnr > rows[best].val_psnr)) {
            best = i;
        }
    }
    if (best >= 0) {
        char text[64];
        snprintf(text, sizeof text, "best %.2f dB, epoch %" PRId64, rows[best].val_psnr, best + 1);
        plot_mark(p, (double)(best + 1), rows[best].val_psnr);
        plot_note(p, text);
    }
}

int curves_write_svg(const char *path, const usplit_trainer_epoch *rows, int64_t n)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    const size_t stride = sizeof *rows;
    const plot_values epoch = {NULL, 0}, none = {NULL, 0}, loss = {&rows->loss, stride},
                      val_loss = {&rows->val_loss, stride}, psnr = {&rows->val_psnr, stride};
    double step = n > 8 ? fmax(1, plot_step((double)n, 8)) : 1;
    plot_begin(out.file, 2);
    plot p = plot_panel(out.file, 0, 1, (double)n, step, "epoch");
    plot_hold(&p, loss, none, n);
    plot_hold(&p, val_loss, none, n);
    plot_axes(&p, "loss (blue: training, orange: validation)");
    plot_line(&p, epoch, loss, n, "#2060b0");
    plot_line(&p, epoch, val_loss, n, "#e08020");
    p = plot_panel(out.file, 1, 1, (double)n, step, "epoch");
    plot_hold(&p, psnr, none, n);
    plot_axes(&p, "validation PSNR, dB");
    plot_line(&p, epoch, psnr, n, "#208040");
    draw_best(&p, rows, n);
    plot_end(out.file);
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
