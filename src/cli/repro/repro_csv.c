// The table of an experiment for programs: a row per run, every number that its result has.
#include <math.h>

#include "cli/files.h"
#include "cli/repro/repro.h"

static void csv_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"') {
            fputc('"', file);
        }
        fputc(*p, file);
    }
    fputs("\",", file);
}

static void csv_real(FILE *file, double value)
{
    if (isfinite(value)) {
        fprintf(file, "%.7g", value);
    }
    fputc(',', file);
}

static void csv_whole(FILE *file, int64_t value, int known)
{
    if (known) {
        fprintf(file, "%lld", (long long)value);
    }
    fputc(',', file);
}

static void csv_head(FILE *file, const repro_experiment *e, int channels)
{
    fputs("task,row,system,state,paper_ri_psnr,ri_psnr,ri_psnr_difference,paper_ssim,ssim,ssim_difference,", file);
    for (int k = 0; k < e->n_evals; k++) {
        for (int c = 1; c <= channels; c++) {
            fprintf(file, "%s_ri_psnr_%d,%s_psnr_%d,%s_ssim_%d,", e->evals[k].key, c, e->evals[k].key, c,
                    e->evals[k].key, c);
        }
        fprintf(file, "%s_ri_psnr,%s_ssim,%s_seam,", e->evals[k].key, e->evals[k].key, e->evals[k].key);
    }
    fputs("input_ri_psnr,input_ssim,patch,filters,batch,steps,epochs,patches,patches_of_64,parameters,planned_bytes,"
          "peak_bytes,data_bytes,paper_gib,train_seconds,eval_seconds,best_val_psnr,test_frames,device,folder\n", file);
}

static void csv_row(FILE *file, const repro_experiment *e, const repro_run *run, int channels)
{
    const repro_result *r = &run->result;
    repro_score paper = repro_published(run);
    int done = run->done;
    csv_text(file, run->task->name);
    csv_text(file, run->row->key);
    csv_text(file, run->row->name);
    csv_text(file, done ? "done" : repro_reason(run));
    csv_real(file, repro_or_nan(paper.psnr));
    csv_real(file, repro_psnr(run, 0));
    csv_real(file, repro_psnr(run, 0) - repro_or_nan(paper.psnr));
    csv_real(file, repro_or_nan(paper.ssim));
    csv_real(file, repro_ssim(run, 0));
    csv_real(file, repro_ssim(run, 0) - repro_or_nan(paper.ssim));
    for (int k = 0; k < e->n_evals; k++) {
        for (int c = 0; c < channels; c++) {
            int known = done && c < r->channels;
            csv_real(file, known ? r->quality[k].ri_psnr[c] : NAN);
            csv_real(file, known ? r->quality[k].psnr[c] : NAN);
            csv_real(file, known ? r->quality[k].ssim[c] : NAN);
        }
        csv_real(file, repro_psnr(run, k));
        csv_real(file, repro_ssim(run, k));
        csv_real(file, repro_seam(run, k));
    }
    csv_real(file, done ? r->input_ri_psnr : NAN);
    csv_real(file, done ? r->input_ssim : NAN);
    int network = run->row->kind == REPRO_NETWORK;
    csv_whole(file, run->settings.model.patch, network);
    csv_whole(file, run->settings.model.filters, network);
    csv_whole(file, run->settings.trainer.batch, network);
    csv_whole(file, r->steps, done);
    csv_whole(file, r->epochs, done);
    csv_whole(file, r->patches, done);
    csv_real(file, done ? r->area_patches : NAN);
    csv_whole(file, r->parameters, done);
    csv_whole(file, r->planned_bytes, done);
    csv_whole(file, r->peak_bytes, done && r->peak_bytes > 0);
    csv_whole(file, r->data_bytes, done);
    csv_real(file, repro_or_nan(run->row->gib));
    csv_real(file, done ? r->train_seconds : NAN);
    csv_real(file, done ? r->eval_seconds : NAN);
    csv_real(file, done ? r->best_val_psnr : NAN);
    csv_whole(file, r->test_frames, done);
    csv_text(file, done ? r->device : "");
    fprintf(file, "\"%s\"\n", files_base(run->folder));
}

static int most_channels(const repro_run *runs, int n)
{
    int most = 2;
    for (int i = 0; i < n; i++) {
        most = runs[i].done && runs[i].result.channels > most ? (int)runs[i].result.channels : most;
    }
    return most;
}

int repro_csv(const char *path, const repro_experiment *e, const repro_run *runs, int n)
{
    files_output out;
    int rc = files_create(&out, path), channels = most_channels(runs, n);
    if (rc != 0) {
        return rc;
    }
    csv_head(out.file, e, channels);
    for (int i = 0; i < n; i++) {
        csv_row(out.file, e, &runs[i], channels);
    }
    return files_commit(&out);
}
