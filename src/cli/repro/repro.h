// usplit reproduce: the paper's tables and figures as data, and what becomes of them.
//
// An experiment is rows (systems) x tasks (pairs of structures), evaluated in one or several ways. Each row on each
// task is a run: settings at the scale asked for, a folder named after a hash of them, and a result. Runs are done one
// after the other, each in a process of its own; the report is made of the results that are there.
#ifndef CLI_REPRO_H
#define CLI_REPRO_H

#include <stdint.h>
#include <stdio.h>

#include <usplit.h>

#include "cli/score.h"
#include "cli/setup.h"
#include "cli/sources.h"

enum { REPRO_MAX_TASKS = 4, REPRO_MAX_EVALS = 8, REPRO_MAX_POINTS = 4, REPRO_MAX_PANELS = 4, REPRO_MAX_SERIES = 12,
       REPRO_MAX_PAIRS = 40, REPRO_MAX_PICTURED = 4 };

// ---- What the paper did (repro_setups.c) ----------------------------------------------------------------------

typedef enum { REPRO_PAVIA = 1, REPRO_HAGEN, REPRO_CRITTERS, REPRO_OWN } repro_source;
typedef enum { REPRO_NETWORK = 0, REPRO_DOUBLE_DIP } repro_kind;
typedef enum { REPRO_INNER = 0, REPRO_OUTER, REPRO_WHOLE } repro_tiling;

typedef struct repro_recipe {
    int32_t batch, lr_patience, epochs, patience;   // epochs 0: none given
} repro_recipe;

typedef struct repro_task {
    const char *key, *name;     // "act-tub", "Act vs Tub"
    repro_source source;
    int channels[2];            // of the published file, counted from 1
    const char *channel_names[2];
    int64_t frames;             // published
    int64_t side;               // critters: of a frame, pixels
    int32_t joiner;             // critters
    double joiner_fraction;
    repro_recipe recipe;        // instead of the row's
    int64_t drop_last;          // pixels at bottom and right that the paper did not score
    double patches;             // 64 x 64 patches seen by a published training of the usual length
} repro_task;

typedef struct repro_score {
    double psnr, ssim;          // dB, 1; 0: not published
} repro_score;

typedef struct repro_point {    // a row's place in the experiment's plot
    int panel, series;          // panel counted from 1; 0: none
    double x;
} repro_point;

typedef struct repro_row {
    const char *key, *name;
    repro_kind kind;
    int32_t family, variant;
    int32_t levels, lc, filters, patch, logvar;     // 0: published for the family and variant
    int32_t pad;                // of inner tiles, pixels
    repro_recipe recipe, hagen; // hagen: where it differs there
    double gib;                 // training memory as published; 0: not
    repro_score paper[REPRO_MAX_TASKS];             // in the order of the experiment's tasks
    repro_point points[REPRO_MAX_POINTS];
} repro_row;

typedef struct repro_eval {
    const char *key, *title;
    repro_tiling tiling;
    int32_t pad;                // of patch 64, pixels; -1: the row's
    repro_point point;          // of every row, its series beside others; x in pixels
} repro_eval;

typedef struct repro_panel {
    const char *title, *x_title;
    int n_ticks;
    double ticks[8];
    const char *labels[8];
} repro_panel;

typedef struct repro_experiment {
    const char *key, *title;
    int n_tasks, n_rows, n_evals;       // the first evaluation is the one to compare with the paper
    const repro_task *tasks[REPRO_MAX_TASKS];
    const repro_row *rows;
    repro_eval evals[REPRO_MAX_EVALS];
    const char *metric;         // y axis of the plot
    int n_panels;
    repro_panel panels[REPRO_MAX_PANELS];
    const char *series[REPRO_MAX_SERIES];
    const char *picture, *picture_title;            // panel of images: file name; NULL: none
    const char *pictured[REPRO_MAX_PICTURED];       // keys of its rows
    const char *pictured_task;                      // key; NULL: all
    int histograms;             // 1: of what each system makes of a channel, against the truth, in the picture too
    int seams;                  // 1: the table says how much borders of tiles stand out
    const char *note;           // printed under the table
} repro_experiment;

const repro_experiment *repro_experiment_find(const char *key);
const repro_experiment *repro_experiment_at(int index);     // NULL past the last
extern const repro_task repro_own_task;

// ---- What is asked for ----------------------------------------------------------------------------------------

// Fields of 0 leave the published value.
typedef struct repro_scale {
    char name[32];
    double width;               // factor of filters and latents
    double share;               // of the published training patches and frames, instead of the next three
    double patches;             // 64 x 64 training patches (or the same area) of every run
    int64_t critter_frames, image_frames;
    int64_t crop;               // central square of the published images, pixels
    int32_t batch, epochs, lr_patience;
    int64_t val_patches, test_frames;       // at most
    int64_t dip_iterations, dip_crops;      // of a crop; of a frame
    double learning_rate;
    int32_t no_dropout, kinds, curves;      // curves: of critters, per channel; 64 pixels have no room for five
    int32_t shrink;             // patches, pads and critter frames are so many times smaller
} repro_scale;

// "full", "small", "tiny" or a factor in (0, 1]; CLI_USAGE else.
int repro_scale_find(repro_scale *scale, const char *text);

typedef struct repro_request {
    const repro_experiment *experiment;
    repro_scale scale;
    machine_args machine;
    int family;                 // -1: the row's
    int64_t kinds, steps, memory, seed;     // 0: none given
    double minutes;
    const char *out, *names;
    char base[64];              // of the names of tables and plots: "table2-small"
    int own_images, quiet;
    const char *folder;         // --data
    image_sources sources;      // own images
    char *storage[3 * USPLIT_MAX_CHANNELS];         // of names in sources
    char *channel_names[USPLIT_MAX_CHANNELS];       // of own images
    int n_channels;
} repro_request;

// ---- Settings of one run (repro_settings.c) ---------------------------------------------------------------------

typedef struct repro_settings {
    usplit_model_options model;
    usplit_trainer_options trainer;
    usplit_critter_options critters;
    int64_t frames, crop, drop_last;        // of published images: the first frames, central square; 0: all
    int64_t test_frames;                    // at most; 0: all
    int64_t dip_iterations, dip_crops, dip_side;    // Double-DIP: of a crop, crops of a frame, side of a crop
    int32_t pads[REPRO_MAX_EVALS];
    const repro_eval *evals;                // the experiment's
    int32_t n_evals;
    double minutes;
    double area;                // of a patch, in patches of 64 x 64
} repro_settings;

typedef struct repro_pair {
    char key[32], value[64];
} repro_pair;

int repro_settings_make(repro_settings *s, const repro_request *request, const repro_row *row,
                        const repro_task *task);
// The same run as published.
int repro_settings_paper(repro_settings *s, const repro_request *request, const repro_row *row,
                         const repro_task *task);
// Everything that decides a result, as words; returns how many pairs.
int repro_settings_list(const repro_settings *s, const repro_row *row, const repro_task *task,
                        repro_pair pairs[REPRO_MAX_PAIRS]);
// 16 hexadecimal digits of the list and of `data`, the identity of the images.
void repro_settings_hash(char hash[17], const repro_pair *pairs, int n, const char *data);

// ---- Results (repro_result.c) -------------------------------------------------------------------------------------

typedef struct repro_quality {
    double ri_psnr[USPLIT_MAX_CHANNELS], psnr[USPLIT_MAX_CHANNELS], ssim[USPLIT_MAX_CHANNELS];
    double mean_ri_psnr, mean_ssim;
    double seam;                // steps across borders of tiles over those inside, mean over channels; NaN: not known
    char error[200];            // why there are none; else ""
} repro_quality;

typedef struct repro_result {
    char hash[17], device[96], engine[128], version[32], network[64], stopped[64];
    int64_t channels, steps, epochs, best_epoch, skipped_steps, patches, test_frames, parameters;
    int64_t planned_bytes;      // working memory of a step, parameters and optimiser
    int64_t peak_bytes;         // of the training process, images included; 0: not known
    int64_t data_bytes;         // of the images held
    double area_patches;        // patches seen, in patches of 64 x 64
    double train_seconds, eval_seconds, best_val_psnr;
    double input_ri_psnr, input_ssim;       // of the input taken as every channel
    char channel_names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    repro_quality quality[REPRO_MAX_EVALS];
    double example_ri_psnr[USPLIT_MAX_CHANNELS];    // of the frame in example.tif
} repro_result;

int repro_result_write(const repro_result *r, const repro_experiment *e, const char *path);
// CLI_FAILED with the line recorded when the file is not one of ours.
int repro_result_read(repro_result *r, const repro_experiment *e, const char *path);

// ---- Runs -----------------------------------------------------------------------------------------------------------

typedef struct repro_run {
    const repro_row *row;
    const repro_task *task;
    int task_index;
    repro_settings settings, paper;
    char hash[17];
    char *folder;
    int selected, done;         // done: result is valid
    repro_result result;
    char reason[300];           // why it is not done
} repro_run;

// Images (repro_data.c). Finds what --data and --channel name.
int repro_data_open(repro_request *request);
void repro_data_close(repro_request *request);
// Words that change when the images do, to free; NULL with a reason when the images are not there.
char *repro_data_identity(const repro_request *request, const repro_task *task, char *reason, size_t size);
int repro_data_make(usplit_dataset **out, usplit_context *context, const repro_request *request,
                    const repro_task *task, const repro_settings *s, int32_t levels);
void repro_data_help(FILE *file);

enum { REPRO_REFUSED = 3 };     // what a run returns, beside CLI_*: the setup cannot be run, and why is recorded

// Trains (or goes on), evaluates, writes the result; in the process that calls (repro_train.c).
int repro_run_here(const repro_request *request, const repro_run *run);
// The same in a child process, whose result file says that it is done; else run->reason says why not. Returns 0,
// CLI_CANCELLED, or CLI_FAILED when the reason is not that the library refused the setup (repro_child.c).
int repro_run_child(const repro_request *request, repro_run *run);
// The same for Double-DIP, which has no training set and no model (repro_dip.c).
int repro_dip_run(const repro_request *request, const repro_run *run);

// The table as CSV and Markdown, plots and pictures, into request->out (repro_report.c, repro_figures.c).
int repro_report(const repro_request *request, const repro_run *runs, int n);
int repro_csv(const char *path, const repro_experiment *e, const repro_run *runs, int n);       // repro_csv.c
// The published numbers that a run compares with; zeros where there are none.
repro_score repro_published(const repro_run *run);
double repro_or_nan(double published);              // NaN for 0
double repro_psnr(const repro_run *run, int k);     // of evaluation k, mean over channels; NaN: not done
double repro_ssim(const repro_run *run, int k);
double repro_seam(const repro_run *run, int k);
const char *repro_reason(const repro_run *run);     // why it is not done
int repro_figures(const repro_request *request, const repro_run *runs, int n);
// A short table for the terminal.
void repro_print(const repro_request *request, const repro_run *runs, int n, FILE *file);

#endif
