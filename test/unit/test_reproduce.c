// The paper's tables as data: that they say what the paper says of itself, that every setup is one the library knows,
// that scales keep their promise of equal budgets; and results that come back from their files as they went.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/picture.h"
#include "cli/repro/repro.h"
#include "net/graph.h"

static char path[64];

static int make_file(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/usplit_reproduce_XXXXXX");
    int file = mkstemp(path);
    return file < 0 || close(file) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static const repro_row *row_of(const repro_experiment *e, const char *key)
{
    for (int i = 0; i < e->n_rows; i++) {
        if (strcmp(e->rows[i].key, key) == 0) {
            return &e->rows[i];
        }
    }
    fail_msg("no row %s", key);
    return NULL;
}

// ---- Names ------------------------------------------------------------------------------------------------------

static void names_match_their_choices(void **state)
{
    (void)state;
    const name_table *tables[] = {&names_family, &names_variant, &names_activation, &names_logvar, &names_merge,
                                  &names_kl, &names_latent_scale};
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        const char *p = tables[t]->choices;
        for (int i = 0; i < tables[t]->n; i++) {
            size_t n = strlen(tables[t]->words[i]);
            assert_memory_equal(p, tables[t]->words[i], n);
            assert_int_equal(p[n], i + 1 < tables[t]->n ? '|' : '\0');
            p += n + 1;
        }
        assert_string_equal(names_word(tables[t], tables[t]->n), "unknown");
        assert_string_equal(names_title(tables[t], -1), "unknown");
    }
    assert_string_equal(names_word(&names_variant, USPLIT_VARIANT_CONTEXT_AWARE), "context-aware");
    assert_string_equal(names_word(&names_family, USPLIT_FAMILY_BRAVENET), "bravenet");
    assert_string_equal(names_word(&names_merge, USPLIT_MERGE_LINEAR), "linear");
    assert_string_equal(names_word(&names_latent_scale, USPLIT_LATENT_SCALE_PAPER), "paper");
}

// ---- What the paper says of its own tables ------------------------------------------------------------------------

static double mean_difference(const repro_row *a, const repro_row *b, int n)
{
    double sum = 0;
    for (int t = 0; t < n; t++) {
        sum += a->paper[t].psnr - b->paper[t].psnr;
    }
    return sum / n;
}

static double best(const repro_experiment *e, const char *const *keys, int n, int task)
{
    double most = 0;
    for (int k = 0; k < n; k++) {
        most = fmax(most, row_of(e, keys[k])->paper[task].psnr);
    }
    return most;
}

static void table1_has_the_published_averages(void **state)
{
    (void)state;
    static const char *const hvae[] = {"hvae-lean", "hvae-regular", "hvae-deep"};
    static const char *const hae[] = {"hae-lean", "hae-regular", "hae-deep"};
    const repro_experiment *e = repro_experiment_find("table1");
    double sum = 0;
    for (int t = 0; t < 4; t++) {
        sum += best(e, hvae, 3, t) - best(e, hae, 3, t);
    }
    assert_true(fabs(sum / 4 - 0.5) < 0.05);
    assert_true(fabs(mean_difference(row_of(e, "hvae-deep"), row_of(e, "hvae-lean"), 4) - 0.8) < 0.05);
    assert_true(fabs(mean_difference(row_of(e, "hae-deep"), row_of(e, "hae-lean"), 4) - 0.1) < 0.05);
    assert_int_equal(e->n_rows, 16);
    for (int i = 0; i < e->n_rows; i++) {       // every system, on every task
        for (int t = 0; t < 4; t++) {
            assert_true(e->rows[i].paper[t].psnr > 20 && e->rows[i].paper[t].psnr < 35);
            assert_true(e->rows[i].paper[t].ssim > 0.19 && e->rows[i].paper[t].ssim < 0.96);
        }
    }
}

static void table2_has_the_published_gain(void **state)
{
    (void)state;
    static const char *const lc[] = {"lean", "regular"};
    const repro_experiment *e = repro_experiment_find("table2");
    double sum = 0;
    for (int t = 0; t < 4; t++) {
        sum += best(e, lc, 2, t) - row_of(e, "vanilla")->paper[t].psnr;
    }
    assert_true(fabs(sum / 4 - 17.65) < 0.05);  // "18 dB on average"
}

// ---- Setups -----------------------------------------------------------------------------------------------------

typedef void (*each_fn)(const repro_request *request, const repro_row *row, const repro_task *task,
                        const repro_settings *settings);

static void for_each(const char *scale, int64_t steps, each_fn look)
{
    const repro_experiment *e;
    for (int i = 0; (e = repro_experiment_at(i)) != NULL; i++) {
        repro_request request = {.experiment = e, .family = -1, .steps = steps};
        assert_int_equal(repro_scale_find(&request.scale, scale), 0);
        for (int r = 0; r < e->n_rows; r++) {
            for (int t = 0; t < e->n_tasks; t++) {
                repro_settings s;
                assert_int_equal(repro_settings_make(&s, &request, &e->rows[r], e->tasks[t]), 0);
                look(&request, &e->rows[r], e->tasks[t], &s);
            }
        }
    }
}

static void is_accepted(const repro_request *request, const repro_row *row, const repro_task *task,
                        const repro_settings *s)
{
    us_net_config config;
    (void)request;
    (void)task;
    if (row->kind != REPRO_NETWORK) {
        return;
    }
    if (us_net_config_from(&config, &s->model) != USPLIT_OK) {
        fail_msg("%s: %s", row->key, usplit_error_message());
    }
    for (int k = 0; k < s->n_evals; k++) {      // something is left of the patch
        int inner = s->evals[k].tiling == REPRO_INNER;
        assert_true(!inner || (s->pads[k] >= 0 && 2 * s->pads[k] < s->model.patch));
    }
}

static void every_setup_is_known(void **state)
{
    (void)state;
    for_each("full", 0, is_accepted);
    for_each("small", 0, is_accepted);
    for_each("tiny", 0, is_accepted);
    for_each("0.3", 0, is_accepted);
}

static double expected_patches;

// Not less than promised, and less than a step more.
static void sees_its_share(const repro_request *request, const repro_row *row, const repro_task *task,
                           const repro_settings *s)
{
    const usplit_trainer_options *t = &s->trainer;
    double of_step = t->batch * s->area, seen = (double)t->max_steps * of_step;
    double promised = expected_patches > 0 ? expected_patches : request->scale.share * task->patches;
    if (row->kind == REPRO_NETWORK) {
        assert_true(seen >= promised * (1 - 1e-12) && seen < promised * (1 + 1e-12) + of_step);
        assert_true((int64_t)t->max_epochs * t->steps_per_epoch >= t->max_steps);
        assert_int_equal(t->early_stop_patience, t->max_epochs);
    }
}

static void budgets_are_equal(void **state)
{
    (void)state;
    expected_patches = 6000;
    for_each("small", 0, sees_its_share);
    expected_patches = 500 * 4;
    for_each("small", 500, sees_its_share);
    expected_patches = 0;
    for_each("0.01", 0, sees_its_share);
}

// A few of the published trainings, from the text rather than the table.
static void full_scale_is_as_published(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("table1");
    repro_request request = {.experiment = e, .family = -1};
    repro_settings s, paper;
    assert_int_equal(repro_scale_find(&request.scale, "full"), 0);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "hvae-deep"), e->tasks[0]), 0);
    assert_true(s.model.levels == 8 && s.model.lc_count == 4 && s.model.filters == 64 && s.model.z_dims[0] == 128);
    assert_true(s.trainer.batch == 32 && s.trainer.max_epochs == 200 && s.trainer.lr_patience == 15);
    assert_true(s.trainer.early_stop_patience == 100 && s.trainer.max_steps == 0 && s.trainer.learning_rate == 1e-3);
    assert_true(s.frames == 0 && s.crop == 0 && s.drop_last == 32);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "hvae-xl"), e->tasks[0]), 0);
    assert_true(s.model.patch == 512 && s.trainer.batch == 8 && s.trainer.max_epochs == 400 && s.pads[0] == 192);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "hae-lean"), e->tasks[3]), 0);
    assert_true(s.model.logvar == USPLIT_LOGVAR_NONE && s.pads[0] == 24 && s.drop_last == 0);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "unet-256"), e->tasks[0]), 0);
    assert_true(s.trainer.max_epochs == 800 && s.trainer.lr_patience == 60 && s.model.filters == 64);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "unet-256"), e->tasks[3]), 0);
    assert_true(s.trainer.max_epochs == 400 && s.model.levels == 5 && s.model.lc_count == 0);
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "double-dip"), e->tasks[0]), 0);
    assert_true(s.dip_iterations == 4000 && s.dip_crops == 6 && s.dip_side == 256 && s.test_frames == 0);
    request.experiment = e = repro_experiment_find("table2");
    assert_int_equal(repro_settings_make(&s, &request, row_of(e, "lean"), e->tasks[3]), 0);
    assert_true(s.critters.size == 256 && s.critters.joiner == 1 && s.critters.joiner_fraction == 0.1);
    assert_true(s.critters.n_frames == 1000 && s.critters.kinds == 2 && s.critters.n_curves == 5);
    assert_true(s.trainer.max_epochs == 2400 && s.trainer.lr_patience == 90 && s.trainer.early_stop_patience == 300);
    assert_int_equal(repro_settings_paper(&paper, &request, row_of(e, "lean"), e->tasks[3]), 0);
    assert_memory_equal(&paper, &s, sizeof s);
}

static void scales_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "0", "-1", "1.5", "nan", "smaller", "0.5x", "inf"};
    repro_scale scale;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(repro_scale_find(&scale, bad[i]), CLI_USAGE);
        cli_error_clear();
    }
    assert_int_equal(repro_scale_find(&scale, "0.25"), 0);
    assert_true(scale.width == 0.25 && scale.share == 0.25);
}

static void keys_are_unique_and_points_ascend(void **state)
{
    (void)state;
    const repro_experiment *e;
    for (int i = 0; (e = repro_experiment_at(i)) != NULL; i++) {
        double last[REPRO_MAX_PANELS + 1][REPRO_MAX_SERIES];
        for (int k = 0; k < (REPRO_MAX_PANELS + 1) * REPRO_MAX_SERIES; k++) {
            last[k / REPRO_MAX_SERIES][k % REPRO_MAX_SERIES] = -INFINITY;
        }
        for (int r = 0; r < e->n_rows; r++) {
            for (int o = 0; o < r; o++) {
                assert_string_not_equal(e->rows[r].key, e->rows[o].key);
            }
            for (int k = 0; k < REPRO_MAX_POINTS && e->rows[r].points[k].panel > 0; k++) {
                const repro_point *p = &e->rows[r].points[k];
                const repro_panel *panel = &e->panels[p->panel - 1];
                assert_true(p->panel <= e->n_panels && p->series < REPRO_MAX_SERIES && e->series[p->series] != NULL);
                assert_true(p->x >= panel->ticks[0] && p->x <= panel->ticks[panel->n_ticks - 1]);
                assert_true(p->x > last[p->panel][p->series]);
                last[p->panel][p->series] = p->x;
            }
        }
        for (int k = 0; k < REPRO_MAX_PICTURED && e->pictured[k] != NULL; k++) {
            row_of(e, e->pictured[k]);
        }
    }
}

// Any setting, and the images, are part of the hash.
static void hash_sees_everything(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("table2");
    repro_request request = {.experiment = e, .family = -1};
    repro_settings s;
    repro_pair pairs[REPRO_MAX_PAIRS];
    char first[17], other[17];
    assert_int_equal(repro_scale_find(&request.scale, "small"), 0);
    assert_int_equal(repro_settings_make(&s, &request, &e->rows[0], e->tasks[0]), 0);
    int n = repro_settings_list(&s, &e->rows[0], e->tasks[0], pairs);
    assert_in_range(n, 20, REPRO_MAX_PAIRS - 1);
    repro_settings_hash(first, pairs, n, "images");
    for (int i = 0; i < n; i++) {
        char letter = pairs[i].value[0];
        pairs[i].value[0] = letter == '#' ? '!' : '#';
        repro_settings_hash(other, pairs, n, "images");
        assert_string_not_equal(first, other);
        pairs[i].value[0] = letter;
    }
    repro_settings_hash(other, pairs, n, "other images");
    assert_string_not_equal(first, other);
    repro_settings_hash(other, pairs, n, "images");
    assert_string_equal(first, other);
    assert_int_equal(strlen(first), 16);
}

// ---- Results ----------------------------------------------------------------------------------------------------

static void fill(repro_result *r)
{
    memset(r, 0, sizeof *r);
    snprintf(r->hash, sizeof r->hash, "0123456789abcdef");
    snprintf(r->engine, sizeof r->engine, "a \"quoted\" back\\slash");
    snprintf(r->channel_names[0], sizeof r->channel_names[0], "lamin B1, \xc2\xb5");
    snprintf(r->channel_names[1], sizeof r->channel_names[1], "channels");
    snprintf(r->quality[1].error, sizeof r->quality[1].error, "refused");
    r->channels = 2;
    r->steps = INT64_C(9007199254740993);
    r->planned_bytes = INT64_C(123456789012);
    r->train_seconds = 0.125;
    r->best_val_psnr = NAN;
    for (int c = 0; c < 2; c++) {
        r->quality[0].ri_psnr[c] = 30.5 + c;
        r->quality[0].ssim[c] = -0.25 * c;
        r->quality[1].ri_psnr[c] = NAN;
    }
    r->quality[0].mean_ri_psnr = 31;
    r->quality[0].seam = 1.125;
    r->quality[1].seam = NAN;
}

static void result_round_trip(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("table2");
    repro_result r, back;
    fill(&r);
    assert_int_equal(repro_result_write(&r, e, path), 0);
    assert_int_equal(repro_result_read(&back, e, path), 0);
    assert_string_equal(back.hash, r.hash);
    assert_string_equal(back.engine, r.engine);
    assert_string_equal(back.channel_names[0], r.channel_names[0]);
    assert_string_equal(back.quality[1].error, "refused");
    assert_true(back.steps == r.steps && back.planned_bytes == r.planned_bytes && back.train_seconds == 0.125);
    assert_true(isnan(back.best_val_psnr) && isnan(back.quality[1].ri_psnr[1]));
    assert_true(back.quality[0].ri_psnr[1] == 31.5 && back.quality[0].ssim[1] == -0.25);
    assert_true(back.quality[0].mean_ri_psnr == 31);
    assert_true(back.quality[0].seam == 1.125 && isnan(back.quality[1].seam));
}

static size_t read_text(char *text, size_t size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(text, 1, size - 1, file);
    fclose(file);
    text[n] = '\0';
    return n;
}

// A result from before seams were measured is still one.
static void older_results_have_no_seam(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("table2");
    repro_result r, back;
    char text[8192];
    fill(&r);
    assert_int_equal(repro_result_write(&r, e, path), 0);
    read_text(text, sizeof text);
    FILE *file = fopen(path, "wb");
    int left_out = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strstr(line, "_seam\"") == NULL) {
            fprintf(file, "%s\n", line);
        } else {
            left_out++;
        }
    }
    fclose(file);
    assert_int_equal(left_out, e->n_evals);
    assert_int_equal(repro_result_read(&back, e, path), 0);
    assert_true(isnan(back.quality[0].seam) && back.quality[0].ri_psnr[1] == 31.5);
}

// ---- Tables -----------------------------------------------------------------------------------------------------

// The text of column `name` in the second line of a CSV table without commas in its cells.
static void cell_of(const char *text, const char *name, char *cell, size_t size)
{
    const char *head = text, *row = strchr(text, '\n') + 1;
    while (strncmp(head, name, strlen(name)) != 0 || head[strlen(name)] != ',') {
        head = strchr(head, ',');
        row = strchr(row, ',');
        assert_true(head != NULL && row != NULL);
        head++;
        row++;
    }
    snprintf(cell, size, "%.*s", (int)strcspn(row, ",\n"), row);
}

static void tables_have_the_seams(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("fig4");
    repro_run run = {.row = row_of(e, "hvae-vanilla"), .task = e->tasks[0], .done = 1, .folder = path};
    char text[8192], cell[32];
    run.result.channels = 2;
    for (int k = 0; k < e->n_evals; k++) {
        run.result.quality[k].seam = 1 + k / 8.0;
    }
    assert_true(e->seams);
    assert_int_equal(repro_csv(path, e, &run, 1), 0);
    read_text(text, sizeof text);
    cell_of(text, "inner0_seam", cell, sizeof cell);
    assert_string_equal(cell, "1");
    cell_of(text, "outer64_seam", cell, sizeof cell);
    assert_string_equal(cell, "1.875");
}

// ---- Pictures ---------------------------------------------------------------------------------------------------

static void histograms_count_every_pixel_in_range(void **state)
{
    (void)state;
    const float pixels[8] = {0, 0.99f, 1, 63.5f, 64, -1, 65, NAN};
    double share[PICTURE_BINS], sum = 0;
    picture_histogram(pixels, 8, 0, 64, share);
    for (int k = 0; k < PICTURE_BINS; k++) {
        sum += share[k];
    }
    assert_true(share[0] == 2 / 8.0 && share[1] == 1 / 8.0 && share[63] == 2 / 8.0 && fabs(sum - 5 / 8.0) < 1e-12);
    picture_histogram(pixels, 8, 3, 3, share);          // a constant image has none
    assert_true(share[0] == 0 && share[63] == 0);
}

// Height of a panel of one image, from the head of its PNG.
static int panel_height(const float *truth)
{
    static const float plane[64 * 64];
    picture_cell cell = {.pixels = plane, .high = 1, .truth = truth, .to = 1};
    char headings[1][48] = {"a"};
    int64_t side = 64;
    picture_panel panel = {.n_rows = 1, .n_columns = 1, .headings = headings, .heights = &side, .widths = &side,
                           .cells = &cell};
    char bytes[64];
    assert_int_equal(picture_write_panel(path, &panel), 0);
    assert_true(read_text(bytes, sizeof bytes) > 24);
    return (unsigned char)bytes[22] * 256 + (unsigned char)bytes[23];
}

static void histograms_have_room_of_their_own(void **state)
{
    (void)state;
    static const float truth[64 * 64];
    int without = panel_height(NULL), with = panel_height(truth);
    assert_true(without > 64 && with >= without + 64);
}

// A file cut anywhere is refused with a line, and never read past its end.
static void cut_results_are_refused(void **state)
{
    (void)state;
    const repro_experiment *e = repro_experiment_find("table2");
    repro_result r, back;
    char text[8192];
    fill(&r);
    assert_int_equal(repro_result_write(&r, e, path), 0);
    FILE *file = fopen(path, "rb");
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_in_range(n, 500, sizeof text - 1);
    for (size_t keep = 0; keep + 3 < n; keep += 7) {    // the last bytes are "\n}\n"
        file = fopen(path, "wb");
        fwrite(text, 1, keep, file);
        fclose(file);
        assert_int_equal(repro_result_read(&back, e, path), CLI_FAILED);
        assert_non_null(strstr(cli_error_line(), path));
        cli_error_clear();
    }
}

// ---- Charts -----------------------------------------------------------------------------------------------------

static void charts_leave_out_what_is_not_known(void **state)
{
    (void)state;
    static const double x[] = {1, 2, 3}, y[] = {30, NAN, 31}, none[] = {NAN, NAN, NAN};
    static const char *const labels[] = {"1", "2", "3"};
    chart_line lines[] = {{.name = "a < b & c", .n = 3, .x = x, .y = y}, {.name = "none", .n = 3, .x = x, .y = none}};
    chart_panel panel = {.title = "t", .x_title = "x", .y_title = "y", .n_ticks = 3, .ticks = x, .labels = labels,
                         .n_lines = 2, .lines = lines};
    char text[8192] = "";
    assert_int_equal(chart_write(path, "title", &panel, 1), 0);
    FILE *file = fopen(path, "rb");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_null(strstr(text, "nan"));
    assert_non_null(strstr(text, "a &lt; b &amp; c"));
    assert_non_null(strstr(text, "</svg>"));
    int circles = 0;
    for (const char *p = text; (p = strstr(p, "<circle")) != NULL; p++) {
        circles++;
    }
    assert_int_equal(circles, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_match_their_choices),
        cmocka_unit_test(table1_has_the_published_averages),
        cmocka_unit_test(table2_has_the_published_gain),
        cmocka_unit_test(every_setup_is_known),
        cmocka_unit_test(budgets_are_equal),
        cmocka_unit_test(full_scale_is_as_published),
        cmocka_unit_test(scales_are_checked),
        cmocka_unit_test(keys_are_unique_and_points_ascend),
        cmocka_unit_test(hash_sees_everything),
        cmocka_unit_test_setup_teardown(result_round_trip, make_file, remove_file),
        cmocka_unit_test_setup_teardown(older_results_have_no_seam, make_file, remove_file),
        cmocka_unit_test_setup_teardown(tables_have_the_seams, make_file, remove_file),
        cmocka_unit_test(histograms_count_every_pixel_in_range),
        cmocka_unit_test_setup_teardown(histograms_have_room_of_their_own, make_file, remove_file),
        cmocka_unit_test_setup_teardown(cut_results_are_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(charts_leave_out_what_is_not_known, make_file, remove_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
