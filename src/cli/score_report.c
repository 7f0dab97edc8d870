// The page of an evaluation: means over frames, best, median and worst frame, and the scores of every frame.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/html.h"
#include "cli/score_frame.h"
#include "cli/setup.h"

enum { SIDE = 320, ROWS = 5000 };   // of a picture, pixels; frames in the table, at most

static void put_value(FILE *file, double value, int decimals)
{
    if (isfinite(value)) {
        fprintf(file, "<td>%.*f</td>", decimals, value);
    } else {
        fputs("<td>-</td>", file);
    }
}

// Split, input and seam of one channel.
static void put_scores(FILE *file, const score_values *split, const score_values *input)
{
    put_value(file, split->ri_psnr, 2);
    put_value(file, input->ri_psnr, 2);
    put_value(file, split->psnr, 2);
    put_value(file, input->psnr, 2);
    put_value(file, split->ssim, 3);
    put_value(file, input->ssim, 3);
    put_value(file, split->seam, 3);
    put_value(file, split->seam_error, 3);
}

static void put_head(FILE *file, const char *first, const char *second)
{
    static const char *const names[] = {"RI-PSNR", "of the input", "PSNR", "of the input", "SSIM", "of the input",
                                        "seam", "+-"};
    fprintf(file, "<div class='wide'><table class='numbers'><thead><tr><th class='name'>%s</th>", first);
    if (second != NULL) {
        fprintf(file, "<th class='name'>%s</th>", second);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fprintf(file, "<th>%s</th>", names[i]);
    }
    fputs("</tr></thead><tbody>\n", file);
}

static void put_name(FILE *file, const char *name)
{
    fputs("<td class='name'>", file);
    html_text(file, name);
    fputs("</td>", file);
}

static void put_means(FILE *file, const score *s)
{
    score_values split, input;
    put_head(file, "channel", NULL);
    for (int c = 0; c < s->model.channels; c++) {
        fputs("<tr>", file);
        put_name(file, s->names[c]);
        put_scores(file, &s->mean_prediction[c], &s->mean_input[c]);
        fputs("</tr>\n", file);
    }
    score_average(&split, s->mean_prediction, s->model.channels, 1);
    score_average(&input, s->mean_input, s->model.channels, 1);
    fputs("<tr>", file);
    put_name(file, "mean");
    put_scores(file, &split, &input);
    fputs("</tr></tbody></table></div>\n", file);
    html_paragraph(file, "faint",
                   "dB but for SSIM and seam; normalised units, channels clipped where training clipped them. Of the "
                   "input: the mixed image itself taken as the channel. RI-PSNR: after the best affine fit. Seam: "
                   "steps across borders of tiles over steps inside them, 1 where no seam can be seen, with its "
                   "standard error.");
    if (s->drop_last > 0) {
        html_paragraph(file, "faint", "The last %lld rows and columns are not in the scores.", (long long)s->drop_last);
    }
}

static int put_pictures(FILE *file, const score_panel *all)
{
    const picture_panel *panel = &all->panel;
    for (int r = 0; r < panel->n_rows; r++) {
        html_paragraph(file, "frame", "%s", all->labels[r]);
        fprintf(file, "<div class='pictures' style='--n:%d'>\n", panel->n_columns);
        for (int c = 0; c < panel->n_columns; c++) {
            const picture_cell *cell = &panel->cells[r * panel->n_columns + c];
            char range[48];
            char *encoded = html_encode_cell(cell, panel->heights[r], panel->widths[r], SIDE,
                                             c == 0 ? panel->pixel_size : 0);
            if (encoded == NULL) {
                return CLI_FAILED;
            }
            snprintf(range, sizeof range, "%.4g to %.4g", cell->low, cell->high);
            html_figure(file, "", encoded, panel->headings[c], c == 0 ? range : cell->caption);
            free(encoded);
        }
        fputs("</div>\n", file);
    }
    html_paragraph(file, "faint", "Contrast: 0.5 to 99.5 percent of the input's pixels, 0.5 to 99.7 of a channel's. %s",
                   panel->footer);
    return CLI_OK;
}

static void put_frames(FILE *file, const score *s, char *(*name)(int64_t frame, void *user), void *user)
{
    int channels = s->model.channels;
    html_heading(file, "Every frame");
    put_head(file, "frame", "channel");
    for (int64_t i = 0; i < s->n_frames && i < ROWS; i++) {
        char *label = name != NULL ? name(i, user) : cli_format("frame %lld", (long long)i);
        for (int c = 0; c < channels; c++) {
            fputs("<tr>", file);
            put_name(file, label);
            put_name(file, s->names[c]);
            put_scores(file, &s->prediction[i * channels + c], &s->input[i * channels + c]);
            fputs("</tr>\n", file);
        }
        free(label);
    }
    fputs("</tbody></table></div>\n", file);
    if (s->n_frames > ROWS) {
        html_paragraph(file, "faint", "The first %d of %lld frames; --json tells all.", (int)ROWS,
                       (long long)s->n_frames);
    }
}

static int write_page(const score *s, const score_panel *all, const char *path, const char *model_file,
                      char *(*name)(int64_t frame, void *user), void *user)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != CLI_OK) {
        return rc;
    }
    char *title = cli_format("%s, evaluated", files_base(model_file));
    html_begin(out.file, title);
    free(title);
    html_paragraph(out.file, "title", "%s", all->title);
    html_paragraph(out.file, "faint", "%lld passes of tiles in %s.", (long long)s->passes,
                   text_duration(s->seconds).text);
    put_means(out.file, s);
    html_heading(out.file, "Best, median, worst");
    rc = put_pictures(out.file, all);
    if (rc != CLI_OK) {
        files_discard(&out);
        return rc;
    }
    put_frames(out.file, s, name, user);
    html_end(out.file);
    return files_commit(&out);
}

int score_report(const score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                 const score_options *options, const char *path, const char *model_file,
                 char *(*name)(int64_t frame, void *user), void *user)
{
    score_panel *all = cli_alloc(1, sizeof *all);
    if (all == NULL) {
        return CLI_FAILED;
    }
    int rc = score_panel_make(all, s, model, reader, options, name, user);
    if (rc == CLI_OK) {
        rc = write_page(s, all, path, model_file, name, user);
    }
    score_panel_free(all);
    free(all);
    return rc;
}
