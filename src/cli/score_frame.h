// Inside the scoring: one frame with its true channels, the input made of them and the prediction.
#ifndef CLI_SCORE_FRAME_H
#define CLI_SCORE_FRAME_H

#include <stdint.h>

#include "cli/picture.h"
#include "cli/progress.h"
#include "cli/score.h"

// Planes of height x width, channel-major, grey levels.
typedef struct score_frame {
    int64_t height, width, n;   // n: pixels of a plane
    int channels;
    const usplit_model_facts *model;
    float *targets, *predictions, *input, *rest;    // rest: input - mixed predictions
} score_frame;

// Reads the channels, clips them where the model's training did, and mixes the input as it did; a measured input is the
// channel after them.
int score_frame_read(score_frame *f, const usplit_model_facts *model, const usplit_dataset_reader *reader,
                     int64_t index);
// Splits the input. *result says what it took.
int score_frame_predict(score_frame *f, usplit_tiler *tiler, progress *p, usplit_tiler_result *result);
void score_frame_free(score_frame *f);

// Mean over n values, stride apart, of the double at `offset`; those not finite are left out; NaN: none.
double score_mean(const score_values *values, int64_t n, int64_t stride, size_t offset);

// Best, median and worst frame, split once more, with everything that a panel of them shows.
enum { SCORE_ROWS = 3, SCORE_COLUMNS = 2 + 2 * USPLIT_MAX_CHANNELS };
typedef struct score_panel {
    picture_panel panel;        // points into the rest
    int64_t heights[SCORE_ROWS], widths[SCORE_ROWS];
    char headings[SCORE_COLUMNS][48];
    char *title, *labels[SCORE_ROWS];   // labels: "best: A04"
    score_frame frames[SCORE_ROWS];
    picture_cell cells[SCORE_ROWS * SCORE_COLUMNS];
} score_panel;

int score_panel_make(score_panel *all, const score *s, const usplit_model *model,
                     const usplit_dataset_reader *reader, const score_options *options,
                     char *(*name)(int64_t frame, void *user), void *user);
void score_panel_free(score_panel *s);

#endif
