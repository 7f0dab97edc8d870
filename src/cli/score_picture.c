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

int score_picture(const score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                  const score_options *options, const char *path, char *(*name)(int64_t frame, void *user),
                  void *user)
{
    enum { MAX_ROWS = 3, MAX_COLUMNS = 2 + 2 * USPLIT_MAX_CHANNELS };
    int rc, n_rows = 0, columns = 2 + 2 * s->model.channels;
    int64_t chosen[MAX_ROWS], heights[MAX_ROWS], widths[MAX_ROWS];
    const char *titles[MAX_ROWS];
    char headings[MAX_COLUMNS][48];
    char *title = NULL;
    score_frame frames[MAX_ROWS];
    picture_cell cells[MAX_ROWS * MAX_COLUMNS];
    usplit_tiler *tiler = NULL;
    progress p;
    usplit_tiler_result result;
    memset(frames, 0, sizeof frames);
    memset(cells, 0, sizeof cells);
    progress_start(&p, options->quiet);
    p.what = "picture";
    CLI_TRY(choose_frames(s, chosen, titles, &n_rows));
    CLI_LIB(usplit_tiler_create(&tiler, model, &options->tiler));
    for (int r = 0; r < n_rows; r++) {
        CLI_TRY(score_frame_read(&frames[r], &s->model, reader, chosen[r]));
        CLI_TRY(score_frame_predict(&frames[r], tiler, &p, &result));
        char *label = name != NULL ? name(chosen[r], user) : cli_format("frame %lld", (long long)chosen[r]);
        char *caption = cli_format("%s: %s", titles[r], label);
        rc = fill_row(s, &frames[r], chosen[r], cells + r * columns, caption);
        free(label);
        free(caption);
        CLI_TRY(rc);
        heights[r] = frames[r].height;
        widths[r] = frames[r].width;
    }
    fill_headings(s, headings);
    title = make_title(s);
    picture_panel panel = {
        .n_rows = n_rows,
        .n_columns = columns,
        .headings = headings,
        .heights = heights,
        .widths = widths,
        .cells = cells,
        .pixel_size = options->pixel_size > 0 ? options->pixel_size : s->model.pixel_size,
        .title = title,
        .footer =
            "true and split share their contrast. Under split: RI-PSNR and SSIM; under true: RI-PSNR of the "
            "input taken as this channel. left over: input - mean of splits (red +, blue -).",
    };
    CLI_TRY(picture_write_panel(path, &panel));
done:
    for (int r = 0; r < MAX_ROWS; r++) {
        score_frame_free(&frames[r]);
    }
    free(title);
    progress_free(&p);
    usplit_tiler_free(tiler);
    return rc;
}
