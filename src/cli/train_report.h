// The report of a training, model.html: curves, pictures, data, warnings, settings, in one file that is written anew
// after epochs and can be looked at at any time. Nothing that fails here stops a training.
#ifndef CLI_TRAIN_REPORT_H
#define CLI_TRAIN_REPORT_H

#include <usplit.h>

#include "cli/train_run.h"

typedef struct train_report train_report;

// Everything that is known before the first step. Warnings of the data go to stderr unless run->quiet. NULL: no report
// (files->report is NULL, or no memory).
train_report *train_report_open(usplit_context *context, const usplit_model *model, const usplit_dataset *dataset,
                                const usplit_trainer_options *options, const train_files *files,
                                const train_run_options *run, const usplit_trainer_facts *facts);
// After an epoch, with the rows of all; pages are written at most every few seconds.
void train_report_update(train_report *r, const usplit_trainer_epoch *rows, int64_t n);
// The last page. state: how it ended, for people; facts: NULL: not known, as the training failed.
void train_report_end(train_report *r, const usplit_trainer_epoch *rows, int64_t n, const char *state,
                      const usplit_trainer_facts *facts);
void train_report_free(train_report *r);

#endif
