// usplit split at work: pages of images in, one stack per file out (split_run.c), or rows of them into a shard
// (split_shard.c). cmd_split.c has the options, the names of files and the report.
#ifndef CLI_SPLIT_RUN_H
#define CLI_SPLIT_RUN_H

#include <stdint.h>

#include <usplit.h>

#include "cli/files.h"
#include "cli/image/images.h"
#include "cli/progress.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/shard.h"
#include "cli/trust.h"

typedef struct split_args {
    machine_args machine;
    tiler_args tiler;
    const char *out, *preview, *frames, *residual, *shard;
    int type, sum, deviations, calibrated, overwrite, json, quiet;
    int64_t first, end;         // frames to split
    const char *axes;
    int format;                 // of files in a folder
} split_args;

typedef struct split_total {    // of all pages of all images
    int64_t frames, tiles, passes, peak, clipped, saturated, pixels;
    double seconds, clip_value;
    usplit_tiler_result last;
    usplit_tiler_cost cost;     // of the largest page
    usplit_residual_facts *residuals;   // of every page, where wanted
    usplit_tiler_result *results;       // of every page
} split_total;

void split_total_free(split_total *total);

// One image to one file; `preview`: with the picture of its first page.
int split_image(const split_args *a, const usplit_model_facts *facts, usplit_tiler *tiler, const char *name,
                const char *path, int preview, split_total *total);
// This machine's part of all images, to the file s->path. `model` is the model's file.
int split_shard(shard *s, const split_args *a, const usplit_model_facts *facts, const usplit_context *context,
                usplit_tiler *tiler, const usplit_tiler_options *options, const char *model, const files_list *images,
                const files_list *outputs, split_total *total);

// ---- For both ---------------------------------------------------------------------------------------

typedef struct split_job {      // one image on its way through
    image_file *src;
    image_facts facts;
    image_writer *writer;
    int64_t height, width, page, place;
    int n_channels, n_planes;   // of the model; written
    float scale;                // input is multiplied by it: 1, or 1/K for sums
    float *preview_input, *preview_output;      // of the first page, when a preview is wanted
    trust_residual *residual;   // NULL: not wanted
    int preview_planes;         // in preview_output: channels, and their deviations where there are
    shard *parts;               // where the output is only described, NULL: where it is written
    shard_writer *rows;         // where rows go instead, of a shard
} split_job;

// Opens the image and checks its pages: [a->first, *end) are to be split, and all have one size.
int split_open(split_job *job, const split_args *a, const char *name, int64_t *end);
// Where n_pages of them go: a file, or a description of it where job->parts is set.
int split_open_output(split_job *job, const split_args *a, const usplit_model_facts *model, const char *name,
                      const char *path, int64_t n_pages);
// What pages of the job's size cost; the largest counts.
int split_plan(const split_job *job, const usplit_tiler *tiler, split_total *total);
// Predicts job->page, or the rows of it that are the piece (NULL: all of it).
int split_page(split_job *job, usplit_tiler *tiler, const shard_piece *piece, progress *p, split_total *total);

#endif
