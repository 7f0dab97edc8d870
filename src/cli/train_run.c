// The course of a training, seen from outside the library.
#include "cli/train_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/progress.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/train_report.h"

void train_files_name(train_files *files, const char *out, const char *history)
{
    files->best = cli_format("%s", out);
    files->last = files_with_ending(out, ".h5", ".last.h5");
    files->curves = files_with_ending(out, ".h5", ".svg");
    files->report = NULL;
    files->history = history;
}

void train_files_free(train_files *files)
{
    free(files->best);
    free(files->last);
    free(files->curves);
    free(files->report);
    memset(files, 0, sizeof *files);
}

// Gives the model the dataset's statistics together with names and pixel size, which a trainer leaves alone.
static int set_names(usplit_model *model, const usplit_dataset_facts *data, const train_run_options *run)
{
    int rc;
    usplit_model_facts now = {.struct_size = sizeof now};
    usplit_model_normalisation n;
    memset(&n, 0, sizeof n);
    n.struct_size = sizeof n;
    CLI_LIB(usplit_model_info(model, &now));
    n.clip_value = data->clip_value;
    n.input_mean = data->input_mean;
    n.input_deviation = data->input_deviation;
    memcpy(n.target_mean, data->target_mean, sizeof n.target_mean);
    memcpy(n.target_deviation, data->target_deviation, sizeof n.target_deviation);
    n.padding = data->padding;
    n.padding_value = data->padding_value;
    n.pixel_size = run->pixel_size > 0 ? run->pixel_size : now.pixel_size;
    memcpy(n.channel_names, now.channel_names, sizeof n.channel_names);
    for (int c = 0; c < now.channels; c++) {
        if (run->names[c] != NULL) {
            snprintf(n.channel_names[c], sizeof n.channel_names[c], "%s", run->names[c]);
        }
    }
    CLI_LIB(usplit_model_set_normalisation(model, &n));
done:
    return rc;
}

static void print_limits(const usplit_trainer_options *o, const usplit_trainer_facts *facts)
{
    fprintf(stderr, "training  batch %d, %lld steps per epoch; until %d epochs", o->batch,
            (long long)facts->steps_per_epoch, o->max_epochs);
    if (o->max_steps > 0) {
        fprintf(stderr, ", %lld steps", (long long)o->max_steps);
    }
    if (o->max_seconds > 0) {
        fprintf(stderr, ", %s", text_duration(o->max_seconds).text);
    }
    fprintf(stderr, " or %d epochs without gain; learning rate %g\n", o->early_stop_patience,
            o->learning_rate);
}

static void print_summary(usplit_context *context, const usplit_model *model,
                          const usplit_dataset_facts *data, const usplit_trainer_options *options,
                          const usplit_trainer_facts *facts, const train_files *files,
                          const train_run_options *run)
{
    usplit_model_facts m = {.struct_size = sizeof m};
    usplit_model_cost cost = {.struct_size = sizeof cost};
    setup_print_context(stderr, context);
    setup_print_dataset(stderr, data, run->clip_quantile);
    if (usplit_model_info(model, &m) == USPLIT_OK) {
        setup_print_model(stderr, &m);
    }
    print_limits(options, facts);
    if (usplit_model_plan(model, USPLIT_MODE_TRAIN, options->batch, 0, &cost) == USPLIT_OK) {
        fprintf(stderr,
                "memory    %s planned for a step (%s of it kept for the backward pass), %s parameters and "
                "optimiser\n",
                text_bytes((double)cost.arena_bytes).text, text_bytes((double)cost.kept_bytes).text,
                text_bytes((double)cost.parameter_bytes).text);
    }
    fprintf(stderr, "files     best %s, to go on %s, curves %s%s%s%s%s\n", files->best,
            run->no_last ? "(none)" : files->last, files->curves, files->report != NULL ? ", report " : "",
            files->report != NULL ? files->report : "", files->history != NULL ? ", history " : "",
            files->history != NULL ? files->history : "");
    if (facts->step > 0) {
        fprintf(stderr, "goes on after %lld steps, %d epochs; best so far %s dB\n", (long long)facts->step,
                facts->epoch, text_decibel(facts->best_val_psnr).text);
    }
}

// All finished epochs, in full.
static int read_epochs(const usplit_trainer *trainer, int32_t n, progress *p)
{
    int rc = CLI_OK;
    p->n_rows = 0;
    for (int32_t e = 0; e < n && rc == CLI_OK; e++) {
        usplit_trainer_epoch row = {.struct_size = sizeof row};
        CLI_LIB(usplit_trainer_get_epoch(trainer, e, &row));
        CLI_TRY(progress_add_row(p, &row));
    }
done:
    return rc;
}

static void report_epoch(const progress *p, void *report)
{
    train_report_update(report, p->rows, p->n_rows);
}

static void cancel(void *trainer)
{
    usplit_trainer_cancel(trainer);
}

static int open_trainer(usplit_trainer **trainer, usplit_model *model, usplit_dataset *dataset,
                        const usplit_trainer_options *options, const train_files *files, int resume,
                        usplit_trainer_facts *facts)
{
    int rc;
    CLI_LIB(usplit_trainer_create(trainer, model, dataset, options));
    if (resume) {
        CLI_LIB(usplit_trainer_resume(*trainer, files->last));
    }
    CLI_LIB(usplit_trainer_info(*trainer, facts));
done:
    return rc;
}

// The limit of this command, where there is one of all: the library counts from the start of a run. *done: there is
// nothing left.
static int limit_seconds(usplit_trainer **trainer, usplit_model *model, usplit_dataset *dataset,
                         usplit_trainer_options *options, const train_files *files, const train_run_options *run,
                         usplit_trainer_facts *facts, int *done)
{
    if (run->total_seconds <= 0 || facts->seconds <= 0) {
        return CLI_OK;
    }
    *done = facts->seconds >= run->total_seconds;
    if (*done) {
        return CLI_OK;
    }
    options->max_seconds = run->total_seconds - facts->seconds;
    usplit_trainer_free(*trainer);
    *trainer = NULL;
    return open_trainer(trainer, model, dataset, options, files, run->resume, facts);
}

int train_run(usplit_context *context, usplit_model *model, usplit_dataset *dataset,
              const usplit_trainer_options *options, const train_files *files, const train_run_options *run,
              usplit_trainer_facts *facts)
{
    int rc;
    int finished = 0;
    usplit_trainer *trainer = NULL;
    usplit_trainer_options all = *options;
    usplit_dataset_facts data = {.struct_size = sizeof data};
    train_report *report = NULL;
    progress p;
    progress_start(&p, run->quiet);
    memset(facts, 0, sizeof *facts);
    facts->struct_size = sizeof *facts;
    all.best_file = files->best;
    all.last_file = run->no_last ? NULL : files->last;
    p.curves = files->curves;
    p.history = files->history;
    p.max_epochs = all.max_epochs;
    CLI_LIB(usplit_dataset_info(dataset, &data));
    CLI_TRY(set_names(model, &data, run));
    all.max_seconds = run->total_seconds > 0 ? run->total_seconds : all.max_seconds;
    CLI_TRY(open_trainer(&trainer, model, dataset, &all, files, run->resume, facts));
    CLI_TRY(limit_seconds(&trainer, model, dataset, &all, files, run, facts, &finished));
    CLI_TRY(read_epochs(trainer, facts->epoch, &p));
    if (!run->quiet) {
        print_summary(context, model, &data, &all, facts, files, run);
    }
    report = train_report_open(context, model, dataset, &all, files, run, facts);
    p.trainer = trainer;
    p.epoch = report_epoch;
    p.epoch_user = report;
    cli_on_signal(cancel, trainer);
    usplit_status status = finished ? USPLIT_OK : usplit_trainer_run(trainer, progress_train, &p);
    cli_on_signal(NULL, NULL);
    progress_end(&p);
    if (status != USPLIT_OK && status != USPLIT_ERR_CANCELLED) {
        rc = cli_status(status);
        char *failed = cli_format("failed: %s", cli_error_line());
        train_report_end(report, p.rows, p.n_rows, failed, NULL);
        free(failed);
        goto done;
    }
    CLI_LIB(usplit_trainer_info(trainer, facts));
    CLI_TRY(read_epochs(trainer, facts->epoch, &p));
    train_report_end(report, p.rows, p.n_rows,
                     status != USPLIT_OK     ? "stopped; the same command with --resume goes on"
                     : facts->stopped_early ? "ended: no more gain"
                                            : "ended",
                     facts);
    CLI_TRY(progress_write_curves(&p));
    usplit_trainer_free(trainer);
    trainer = NULL;
    if (isnan(facts->best_val_psnr)) {      // no validation has chosen one
        CLI_LIB(usplit_model_save(model, files->best));
    }
    rc = status == USPLIT_OK ? CLI_OK : CLI_CANCELLED;
done:
    train_report_free(report);
    usplit_trainer_free(trainer);
    progress_free(&p);
    return rc;
}
