// One training from a model and a dataset to files: summary, live progress, Ctrl-C, curves. Used by `usplit
// train` and `usplit demo`.
#ifndef CLI_TRAIN_RUN_H
#define CLI_TRAIN_RUN_H

#include <usplit.h>

typedef struct train_files {
    char *best, *last, *curves; // model.h5, model.last.h5, model.svg; owned
    const char *history;        // CSV or NULL
    char *report;               // model.html or NULL; owned, like the first three
} train_files;

void train_files_name(train_files *files, const char *out, const char *history);
void train_files_free(train_files *files);

typedef struct train_run_options {
    int resume, quiet, no_last;
    const char *names[USPLIT_MAX_CHANNELS];     // of the channels; NULL: keep
    double pixel_size;          // micrometres; 0: keep
    double clip_quantile;       // to be told
    const char *command;        // for the report; NULL: not told
    double total_seconds;       // of training, those of earlier sessions included; 0: no limit
} train_run_options;

// Trains `model` on `dataset`. Writes files->best (the model as it is when no validation chose one). Returns
// 0, CLI_CANCELLED after Ctrl-C, or CLI_FAILED; *facts is valid for the first two.
int train_run(usplit_context *context, usplit_model *model, usplit_dataset *dataset,
              const usplit_trainer_options *options, const train_files *files, const train_run_options *run,
              usplit_trainer_facts *facts);

#endif
