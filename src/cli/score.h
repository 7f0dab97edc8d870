// How well a model splits frames whose channels are known: predicts them from their mean, compares as the
// paper does (normalised units, targets clipped like in training), prints the table and draws the picture.
// The input itself, taken as a prediction of every channel, is the yardstick. Frames are scored one by one (data 6):
// normalised units, each channel with its own mean and deviation, range of that frame's clipped target.
#ifndef CLI_SCORE_H
#define CLI_SCORE_H

#include <stdint.h>
#include <stdio.h>

#include <usplit.h>

#include "cli/text.h"

typedef struct score_values {   // dB, 1; NaN: not defined
    double ri_psnr, psnr, ssim;
    double seam, seam_error;    // steps across borders of tiles over those inside; NaN for inputs, or without borders
} score_values;

typedef struct score {
    usplit_model_facts model;
    int64_t n_frames;
    score_values *prediction, *input;               // n_frames x channels
    score_values mean_prediction[USPLIT_MAX_CHANNELS], mean_input[USPLIT_MAX_CHANNELS];   // over frames
    char names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    double seconds;             // spent predicting
    int64_t passes;             // of tiles
    int64_t drop_last;
} score;

typedef struct score_options {
    int quiet;
    usplit_tiler_options tiler;
    const char *names[USPLIT_MAX_CHANNELS];         // NULL: the model's
    double pixel_size;          // micrometres; 0: the model's
    int64_t drop_last;          // rows and columns at the end of every frame that are predicted, but not scored
    // Called with every frame's prediction (channel-major planes); NULL: nobody.
    int (*take)(int64_t frame, int64_t height, int64_t width, const float *planes, void *user);
    void *user;
} score_options;

int score_frames(score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                 const score_options *options);
// Means of n values, stride apart; those not finite are left out (score_print says how many).
void score_average(score_values *mean, const score_values *values, int64_t n, int64_t stride);
void score_print(const score *s, FILE *file);
void score_json(const score *s, json *j);
// Best, median and worst frame (fewer when there are fewer): input, truth, prediction, what is left over.
// name(frame) labels them; may be NULL.
int score_picture(const score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                  const score_options *options, const char *path, char *(*name)(int64_t frame, void *user),
                  void *user);
// The report, an HTML page: means, those frames, and every frame's scores. model_file: what it is called.
int score_report(const score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                 const score_options *options, const char *path, const char *model_file,
                 char *(*name)(int64_t frame, void *user), void *user);
void score_free(score *s);

// Tiler options from arguments; in setup order: defaults, then what was given.
typedef struct tiler_args {     // -1: not given
    int outer, latent;
    int64_t pad, samples, seed, batch, memory, patch, shifts;
} tiler_args;
extern const tiler_args tiler_args_none;
int score_tiler_options(usplit_tiler_options *options, const tiler_args *args);

#define TILER_SPECS(t)                                                                                 \
    {"--pad", NULL, ARG_INT, &(t).pad, 0, 65536, "N",                                                  \
     "pixels discarded around every tile (a quarter of the patch)"},                                   \
    {"--outer", NULL, ARG_FLAG, &(t).outer, 0, 0, NULL,                                                \
     "pad tiles outside the patch, as in the paper's comparison"},                                     \
    {"--patch", NULL, ARG_INT, &(t).patch, 1, 65536, "N",                                              \
     "side of what the network is shown at a time (the training's)"},                                  \
    {"--shifts", NULL, ARG_INT, &(t).shifts, 1, 65536, "N",                                            \
     "shifted grids of tiles to average: N times the work, seams N times lower (1)"},                  \
    PASS_SPECS(t)

// How a tile is predicted, whatever the tiling.
#define PASS_SPECS(t)                                                                                  \
    {"--samples", NULL, ARG_INT, &(t).samples, 1, 1000000, "N",                                        \
     "HVAE: posterior samples to average (1)"},                                                        \
    {"--latent", NULL, ARG_CHOICE, &(t).latent, 0, 0, "sample|mean",                                   \
     "HVAE: draw latents or take their mean (sample)"},                                                \
    {"--seed", NULL, ARG_INT, &(t).seed, 0, 9007199254740992.0, "N", "of the latent noise (0)"},       \
    {"--batch", NULL, ARG_INT, &(t).batch, 0, 65536, "N", "tiles per worker and pass; 0: chosen (0)"}, \
    {"--memory", NULL, ARG_BYTES, &(t).memory, 0, 0, "SIZE", "limit of planned memory, like 4G"}

#endif
