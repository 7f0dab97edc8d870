// Progress on stderr: a line that rewrites itself on a terminal, else one line per epoch or interval. Keeps
// the rows of the finished epochs, from which the curves are drawn.
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdint.h>

#include <usplit.h>

typedef struct progress {
    int quiet, terminal;
    double last_shown, last_kept;   // seconds of the last line, and of the last that stays
    double last_curve;          // when the curves were written
    int line_open;              // a rewriting line is on the screen
    int32_t max_epochs;
    double val_psnr;            // last known; NaN: none
    usplit_trainer_epoch *rows; // of finished epochs; without a trainer, loss parts and val_loss are NaN
    int64_t n_rows;
    const char *curves;         // SVG rewritten after epochs; NULL: none
    const char *history;        // CSV likewise
    const usplit_trainer *trainer;      // asked for the whole row of an epoch; NULL: what the callback says
    void (*epoch)(const struct progress *p, void *user);    // after every epoch; NULL: nobody
    void *epoch_user;
    const char *what;           // tiles: "frame 2/10", Double-DIP: "crop 2/6"
} progress;

void progress_start(progress *p, int quiet);
// usplit_progress_fn for training, for tiles and for Double-DIP; user is the progress.
int32_t progress_train(const usplit_progress *now, void *user);
int32_t progress_tiles(const usplit_progress *now, void *user);
int32_t progress_dip(const usplit_progress *now, void *user);
// Appends a row (a resumed training's earlier epochs).
int progress_add_row(progress *p, const usplit_trainer_epoch *row);
// Writes curves and history.
int progress_write_curves(const progress *p);
// Ends the rewriting line and frees the rows.
void progress_end(progress *p);
void progress_free(progress *p);

#endif
