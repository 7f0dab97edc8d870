// Crops for Double-DIP: cut at random places, mixed where the structures are known, run side by side, scored.
#ifndef CLI_CROPS_H
#define CLI_CROPS_H

#include <stdint.h>

#include <usplit.h>

#include "cli/frames.h"
#include "cli/setup.h"

enum { CROP_WAITS, CROP_DONE, CROP_STOPPED };

typedef struct crop {
    int64_t frame, row, column;     // its corner
    float *pixels;                  // [2 truth][2 mixtures][2 estimates] planes, as far as there are
    float *truth, *mixtures, *estimates;    // into pixels; truth NULL: not known
    int state;                      // CROP_*: stopped ones hold the best so far
    usplit_dip_result result;
    usplit_image_pair_quality quality, input;   // of the estimates; of the first mixture taken for both; with truth
} crop;

typedef struct crop_list {
    crop *items;
    int n, n_mixtures, known;       // known: the frames' channels are the structures, not mixtures
    int64_t height, width;
} crop_list;

typedef struct crops_options {
    usplit_dip_options dip;         // crop i runs with seed + i
    int64_t size, per_frame;        // size 0: whole frames
    int64_t threads;                // 0: one per core
    int quiet;
} crops_options;

// Cuts the crops out of every frame of the set, and mixes them where its channels are the structures.
int crops_cut(crop_list *list, frame_set *set, const crops_options *options);
int crops_cut_frames(crop_list *list, const usplit_dataset_reader *frames, const crops_options *options);
// Runs and scores them, as many side by side as there are threads; results do not depend on it. CLI_CANCELLED: stopped
// by a signal; crops that had begun hold their best so far.
int crops_run(crop_list *list, const crops_options *options);
void crops_free(crop_list *list);

#endif
