// The picture of an evaluation: best, median and worst frame, so that nobody has to trust a choice.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/picture.h"
#include "cli/score_frame.h"
#include "cli/setup.h"

typedef struct ranked {
    int64_t frame;
    double value;
} ranked;

static int best_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->value != y->value ? (x->value < y->value) - (x->value > y->value) : (x->frame > y->frame) -
           (x->frame < y->frame);
}

// Best, median and worst by mean RI-PSNR; *n of them.
static int choose_frames(const score *s, int64_t *frames, const char **titles, int *n)
{
    ranked *order = cli_alloc((size_t)s->n_frames, sizeof *order);
    if (order == NULL) {
        return CLI_FAILED;
    }
    for (int64_t i = 0; i < s->n_frames; i++) {
        double v = score_mean(s->prediction + i * s->model.channels, s->model.channels, 1,
                              offsetof(score_values, ri_psnr));
        order[i].frame = i;
        order[i].value = isnan(v) ? -INFINITY : v;
    }
    qsort(order, (size_t)s->n_frames, sizeof *order, best_first);
    static const char *const names[] = {"best", "median", "worst"};
    int64_t places[3] = {0, s->n_frames / 2, s->n_frames - 1};
    *n = 0;
    for (int k = 0; k < 3; k++) {
        if (k > 0 && (places[k] == places[k - 1] || (k == 1 && s->n_frames == 2))) {
            continue;
        }
        frames[*n] = order[places[k]].frame;
        titles[(*n)++] = s->n_frames == 1 ? "frame" : names[k];
    }
    free(order);
    return CLI_OK;
}

static int fill_row(const score *s, const score_frame *f, int64_t index, picture_cell *cells,
                    const char *title)
{
    int rc, channels = f->channels;
    double span;
    cells[0].pixels = f->input;
    snprintf(cells[0].caption, sizeof cells[0].caption, "%s", title);
    CLI_TRY(picture_range(f->input, f->n, 0.005, 0.995, &cells[0].low, &cells[0].high));
    span = cells[0].high - cells[0].low;
    for (int c = 0; c < channels; c++) {
        picture_cell *truth = &cells[1 + 2 * c], *split = truth + 1;
        const score_values *v = &s->prediction[index * channels + c], *in = &s->input[index * channels + c];
        truth->pixels = f->targets + c * f->n;
        truth->map = PICTURE_MAP_COLOUR + c;
        CLI_TRY(picture_range(truth->pixels, f->n, 0.005, 0.997, &truth->low, &truth->high));
        *split = *truth;
        split->pixels = f->predictions + c * f->n;
        snprintf(truth->caption, sizeof truth->caption, "input %s dB", text_decibel(in->ri_psnr).text);
        snprintf(split->caption, sizeof split->caption, "%s dB  %.3f", text_decibel(v->ri_psnr).text,
                 v->ssim);
    }
    picture_cell *rest = &cells[1 + 2 * channels];
    rest->pixels = f->rest;
    rest->map = PICTURE_MAP_SIGNED;
    rest->low = -span / 2;
    rest->high = span / 2;
    snprintf(rest->caption, sizeof rest->caption, "+-%.3g", span / 2);
done:
    return rc;
}

static void fill_headings(const score *s, char (*headings)[48])
{
    snprintf(headings[0], sizeof headings[0], "input");
    for (int c = 0; c < s->model.channels; c++) {
        snprintf(headings[1 + 2 * c], sizeof headings[0], "%.36s true", s->names[c]);
        snprintf(headings[2 + 2 * c], sizeof headings[0], "%.36s split", s->names[c]);
    }
    snprintf(headings[1 + 2 * s->model.channels], sizeof headings[0], "left over");
}

// What the picture says at a glance; to free.
static char *make_title(const score *s)
{
    int channels = s->model.channels;
    double split = score_mean(s->mean_prediction, channels, 1, offsetof(score_values, ri_psnr));
    double input = score_mean(s->mean_input, channels, 1, offsetof(score_values, ri_psnr));
    char network[64];
    return cli_format("%s on %lld frame%s: RI-PSNR %s dB; the input as it is: %s dB",
                      setup_network_name(s->model.family, s->model.variant, network, sizeof network),
                      (long long)s->n_frames, s->n_frames == 1 ? "" : "s", text_decibel(split).text,
                      text_decibel(input).text);
}

int score_panel_make(score_panel *all, const score *s, const usplit_model *model,
                     const usplit_dataset_reader *reader, const score_options *options,
                     char *(*name)(int64_t frame, void *user), void *user)
{
    int rc, n_rows = 0, columns = 2 + 2 * s->model.channels;
    int64_t chosen[SCORE_ROWS];
    const char *titles[SCORE_ROWS];
    usplit_tiler *tiler = NULL;
    progress p;
    usplit_tiler_result result;
    memset(all, 0, sizeof *all);
    progress_start(&p, options->quiet);
    p.what = "picture";
    CLI_TRY(choose_frames(s, chosen, titles, &n_rows));
    CLI_LIB(usplit_tiler_create(&tiler, model, &options->tiler));
    for (int r = 0; r < n_rows; r++) {
        CLI_TRY(score_frame_read(&all->frames[r], &s->model, reader, chosen[r]));
        CLI_TRY(score_frame_predict(&all->frames[r], tiler, &p, &result));
        char *label = name != NULL ? name(chosen[r], user) : cli_format("frame %lld", (long long)chosen[r]);
        all->labels[r] = cli_format("%s: %s", titles[r], label);
        free(label);
        CLI_TRY(fill_row(s, &all->frames[r], chosen[r], all->cells + r * columns, all->labels[r]));
        all->heights[r] = all->frames[r].height;
        all->widths[r] = all->frames[r].width;
    }
    fill_headings(s, all->headings);
    all->title = make_title(s);
    all->panel = (picture_panel){
        .n_rows = n_rows,
        .n_columns = columns,
        .headings = all->headings,
        .heights = all->heights,
        .widths = all->widths,
        .cells = all->cells,
        .pixel_size = options->pixel_size > 0 ? options->pixel_size : s->model.pixel_size,
        .title = all->title,
        .footer =
            "true and split share their contrast. Under split: RI-PSNR and SSIM; under true: RI-PSNR of the "
            "input taken as this channel. left over: input - mean of splits (red +, blue -).",
    };
done:
    progress_free(&p);
    usplit_tiler_free(tiler);
    return rc;
}

void score_panel_free(score_panel *s)
{
    for (int r = 0; r < SCORE_ROWS; r++) {
        score_frame_free(&s->frames[r]);
        free(s->labels[r]);
    }
    free(s->title);
}

int score_picture(const score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                  const score_options *options, const char *path, char *(*name)(int64_t frame, void *user),
                  void *user)
{
    score_panel *all = cli_alloc(1, sizeof *all);
    if (all == NULL) {
        return CLI_FAILED;
    }
    int rc = score_panel_make(all, s, model, reader, options, name, user);
    if (rc == CLI_OK) {
        rc = picture_write_panel(path, &all->panel);
    }
    score_panel_free(all);
    free(all);
    return rc;
}
