// What a network makes of a few validation frames while it is trained: pictures in the training's report. Bounded in
// number, bytes and time.
#ifndef CLI_PREVIEW_H
#define CLI_PREVIEW_H

#include <stdio.h>

#include <usplit.h>

typedef struct preview preview;

// Takes the frames from the dataset: two, or one where there are many channels. names: of the channels.
// memory_budget: of splitting them, bytes; 0: no limit.
int preview_open(preview **out, usplit_context *context, const usplit_dataset *dataset,
                 char (*names)[USPLIT_NAME_BYTES], double pixel_size, int64_t memory_budget);
// Takes over the pictures of epochs 1 to n_epochs in a page written earlier; none where there are none.
void preview_read(preview *p, const char *page, int64_t n_epochs);
// 1: time for pictures. They may take a twentieth of the time, and `wanted` asks for them whatever they take.
int preview_is_due(const preview *p, int64_t epoch, int wanted);
// Splits the frames with a model file, as it is after `epoch` (1 is the first).
int preview_add(preview *p, const char *model_file, int64_t epoch);
// The part of the page.
void preview_put(const preview *p, FILE *file);
void preview_free(preview *p);

#endif
