// usplit tiling-study: how padding tiles, and shifting them, changes quality and seams (the paper's figure 4). Every
// setting is an evaluation of its own (score.c); the table, its CSV file and the plot are written anew after each.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/plot.h"
#include "cli/score.h"
#include "cli/setup.h"
#include "cli/text.h"

static const arg_usage usage = {
    "tiling-study", "model.h5 --channel A --channel B [...] -o folder [options]",
    "Evaluates the model, as usplit eval does, with tiles padded inside and outside by several amounts: how\n"
    "RI-PSNR changes against tiles without padding, and whether borders of tiles can be seen. Writes\n"
    "tiling.csv, tiling.md and tiling.svg. A setting that the network or the memory does not allow is left out.",
    "usplit tiling-study model.h5 --channel test/nuclei --channel test/actin --drop-last 32 -o study",
};

enum { MAX_PADS = 16, MAX_SETTINGS = 3 * MAX_PADS + 1 };
enum { INNER, SHIFTED, OUTER, N_SERIES };

typedef struct study_args {
    machine_args machine;
    tiler_args tiler;           // seeds, samples, memory
    arg_list channels;
    const char *inner, *outer, *out, *axes;
    int64_t shifts, drop_last;
    int overwrite, quiet;
} study_args;

typedef struct setting {
    int series;
    int32_t pad, patch, tile;   // pixels
    int done;
    char left_out[256];         // why; "": it is not
    double seconds, passes;     // of all frames
    score_values channels[USPLIT_MAX_CHANNELS], mean;
    // of the mean over channels, for the plot
    double at;                  // the pad
    double change, change_error;        // of RI-PSNR, percent of that without padding; the error is over frames
} setting;

typedef struct study {
    setting settings[MAX_SETTINGS];     // the first is the one without padding
    int n;
    int n_channels;
    int64_t n_frames, shifts;
    char names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    double *plain;              // mean RI-PSNR of every frame without padding
    char *title;
} study;

static int parse(study_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->tiler = tiler_args_none;
    a->inner = "0,16,24,28";
    a->outer = "16,32,48,64";
    const arg_spec specs[] = {
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->channels, 0, 0, "PATH", "one structure, in the model's order"},
        AXES_SPEC(a->axes),
        {"--drop-last", NULL, ARG_INT, &a->drop_last, 0, 1 << 24, "N",
         "last rows and columns left out of the scores; PaviaATN: 32 (0)"},
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FOLDER", "where the results go"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace files that exist"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no progress"},
        {"Settings", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--inner", NULL, ARG_TEXT, &a->inner, 0, 0, "N[,N...]", "inner pads, pixels (0,16,24,28)"},
        {"--outer", NULL, ARG_TEXT, &a->outer, 0, 0, "N[,N...]", "outer pads, pixels (16,32,48,64)"},
        {"--shifts", NULL, ARG_INT, &a->shifts, 2, 4096, "N",
         "also every inner pad with N shifted grids of tiles"},
        {"Prediction", NULL, 0, NULL, 0, 0, NULL, NULL},
        PASS_SPECS(a->tiler),
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc != 0 || (rc = args_one_model(rest, &a->channels)) != 0) {
        return rc;
    }
    return a->out != NULL ? CLI_OK : cli_error(CLI_USAGE, "where to? -o folder is missing");
}

// ---- Settings ---------------------------------------------------------------------------------------

static int read_pads(const char *option, const char *text, int64_t *pads, int *n)
{
    arg_list parts = {.n = 0};
    char *storage = NULL;
    int rc = args_split(text, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n > MAX_PADS) {
        rc = cli_error(CLI_USAGE, "%s: %d pads; at most %d", option, parts.n, MAX_PADS);
    }
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        char *end;
        pads[i] = strtoll(parts.items[i], &end, 10);
        if (*end != '\0' || pads[i] < 0 || pads[i] > 4096) {
            rc = cli_error(CLI_USAGE, "%s: '%s' is no pad; accepted: 0 to 4096 pixels", option, parts.items[i]);
        }
    }
    *n = parts.n;
    free(storage);
    return rc;
}

static void add_setting(study *s, int series, int64_t pad)
{
    s->settings[s->n++] = (setting){.series = series, .pad = (int32_t)pad, .at = (double)pad, .change = NAN,
                                    .change_error = NAN, .mean = {NAN, NAN, NAN, NAN, NAN}};
}

static int add_settings(study *s, const study_args *a)
{
    int64_t pads[MAX_PADS];
    int n, rc;
    CLI_TRY(read_pads("--inner", a->inner, pads, &n));
    add_setting(s, INNER, 0);
    for (int i = 0; i < n; i++) {
        if (pads[i] > 0) {
            add_setting(s, INNER, pads[i]);
        }
    }
    for (int i = 0; i < n && a->shifts > 1; i++) {
        add_setting(s, SHIFTED, pads[i]);
    }
    CLI_TRY(read_pads("--outer", a->outer, pads, &n));
    for (int i = 0; i < n; i++) {
        if (pads[i] > 0) {
            add_setting(s, OUTER, pads[i]);
        }
    }
done:
    return rc;
}

// Whether it can be done at all: a pad or patch that the network does not take, or the memory, leaves it out.
static int try_setting(setting *t, const usplit_model *model, const usplit_tiler_options *options,
                       const usplit_dataset_reader *reader)
{
    int rc;
    int64_t height, width;
    usplit_tiler *tiler = NULL;
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    CLI_TRY(reader->frame_size(0, &height, &width, reader->user));
    usplit_status status = usplit_tiler_create(&tiler, model, options);
    if (status == USPLIT_OK) {
        status = usplit_tiler_plan(tiler, height, width, &cost);
    }
    if (status == USPLIT_ERR_ARGUMENT || status == USPLIT_ERR_SHAPE || status == USPLIT_ERR_BUDGET ||
        status == USPLIT_ERR_MEMORY) {
        snprintf(t->left_out, sizeof t->left_out, "%s", usplit_error_message());
    } else {
        CLI_LIB(status);
    }
    t->patch = cost.patch;
    t->tile = cost.inner;
done:
    usplit_tiler_free(tiler);
    return rc;
}

// ---- One setting ------------------------------------------------------------------------------------

static double frame_mean(const score *s, int64_t frame)
{
    score_values mean;
    score_average(&mean, s->prediction + frame * s->model.channels, s->model.channels, 1);
    return mean.ri_psnr;
}

// The change of the mean over frames, and the standard error of the frames' own changes.
static void compare(study *s, setting *t, const score *sc)
{
    const setting *plain = &s->settings[0];
    double sum = 0, square = 0, n = 0;
    t->change = 100 * (t->mean.ri_psnr / plain->mean.ri_psnr - 1);
    for (int64_t i = 0; i < sc->n_frames; i++) {
        double change = 100 * (frame_mean(sc, i) / s->plain[i] - 1);
        if (isfinite(change)) {
            sum += change;
            square += change * change;
            n++;
        }
    }
    t->change_error = n > 1 && t != plain ? sqrt(fmax(square - sum * sum / n, 0) / (n - 1) / n) : NAN;
}

static int run_setting(study *s, setting *t, const usplit_model *model, const usplit_dataset_reader *reader,
                       const score_options *options)
{
    int rc;
    score sc = {0};
    CLI_TRY(score_frames(&sc, model, reader, options));
    if (t == &s->settings[0]) {
        s->n_channels = sc.model.channels;
        s->n_frames = sc.n_frames;
        memcpy(s->names, sc.names, sizeof s->names);
        s->plain = cli_alloc((size_t)sc.n_frames, sizeof *s->plain);
        if (s->plain == NULL) {
            rc = CLI_FAILED;
            goto done;
        }
        for (int64_t i = 0; i < sc.n_frames; i++) {
            s->plain[i] = frame_mean(&sc, i);
        }
    }
    memcpy(t->channels, sc.mean_prediction, sizeof t->channels);
    score_average(&t->mean, t->channels, s->n_channels, 1);
    t->seconds = sc.seconds;
    t->passes = (double)sc.passes;
    t->done = 1;
    compare(s, t, &sc);
done:
    score_free(&sc);
    return rc;
}

// ---- Results ----------------------------------------------------------------------------------------

static const char *const series_names[N_SERIES] = {"inner", "inner, shifted", "outer"};

static void put_number(FILE *file, double value, const char *format)
{
    if (isfinite(value)) {
        fprintf(file, format, value);
    }
}

static int write_csv(const study *s, const char *path)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    FILE *f = out.file;
    fputs("padding,shifts,pad,patch,tile,ri_psnr,psnr,ssim,change_percent,change_error,seam,seam_error,passes,seconds",
          f);
    for (int c = 0; c < s->n_channels; c++) {
        fprintf(f, ",ri_psnr_%d,ssim_%d,seam_%d", c + 1, c + 1, c + 1);
    }
    fputs(",left_out\n", f);
    for (int i = 0; i < s->n; i++) {
        const setting *t = &s->settings[i];
        if (!t->done && t->left_out[0] == '\0') {
            continue;
        }
        fprintf(f, "%s,%lld,%d,%d,%d", t->series == OUTER ? "outer" : "inner",
                t->series == SHIFTED ? (long long)s->shifts : 1, t->pad, t->patch, t->tile);
        const double values[] = {t->mean.ri_psnr, t->mean.psnr, t->mean.ssim, t->change, t->change_error, t->mean.seam,
                                 t->mean.seam_error, t->done ? t->passes : NAN, t->done ? t->seconds : NAN};
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            fputc(',', f);
            put_number(f, values[k], "%.9g");
        }
        for (int c = 0; c < s->n_channels; c++) {
            const double own[] = {t->channels[c].ri_psnr, t->channels[c].ssim, t->channels[c].seam};
            for (int k = 0; k < 3; k++) {
                fputc(',', f);
                put_number(f, t->done ? own[k] : NAN, "%.9g");
            }
        }
        fprintf(f, ",\"%s\"\n", t->left_out);
    }
    return files_commit(&out);
}

static void print_table(const study *s, FILE *f)
{
    fprintf(f, "%s\n\n| padding | pad | patch | tile |", s->title);
    for (int c = 0; c < s->n_channels; c++) {
        fprintf(f, " %s, dB |", s->names[c]);
    }
    fputs(" mean, dB | change, % | SSIM | seam | passes | seconds |\n| --- | --- | --- | --- |", f);
    for (int c = 0; c < s->n_channels + 6; c++) {
        fputs(" --- |", f);
    }
    fputc('\n', f);
    for (int i = 0; i < s->n; i++) {
        const setting *t = &s->settings[i];
        if (!t->done) {
            continue;
        }
        fprintf(f, "| %s | %d | %d | %d |", series_names[t->series], t->pad, t->patch, t->tile);
        for (int c = 0; c < s->n_channels; c++) {
            fprintf(f, " %s |", text_decibel(t->channels[c].ri_psnr).text);
        }
        fprintf(f, " %s | %+.2f", text_decibel(t->mean.ri_psnr).text, t->change);
        put_number(f, t->change_error, " +- %.2f");
        fprintf(f, " | %.3f | ", t->mean.ssim);
        put_number(f, t->mean.seam, "%.3f");
        put_number(f, t->mean.seam_error, " +- %.3f");
        fprintf(f, " | %.0f | %.1f |\n", t->passes, t->seconds);
    }
    fprintf(f,
            "\nRI-PSNR and SSIM: means over %lld frame%s. change: of the mean RI-PSNR against inner padding 0, with\n"
            "the standard error over frames. seam: steps across borders of tiles over steps inside; 1: none.\n",
            (long long)s->n_frames, s->n_frames == 1 ? "" : "s");
    for (int i = 0; i < s->n; i++) {
        const setting *t = &s->settings[i];
        if (t->left_out[0] != '\0') {
            fprintf(f, "Left out: %s, pad %d: %s.\n", series_names[t->series], t->pad, t->left_out);
        }
    }
}

static int write_table(const study *s, const char *path)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    print_table(s, out.file);
    return files_commit(&out);
}

static int by_pad(const void *a, const void *b)
{
    const setting *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

// The settings of a series that are done, by pad. Outer padding starts where inner does, without any.
static int take_series(const study *s, int series, setting *dst)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        const setting *t = &s->settings[i];
        if (t->done && (t->series == series || (i == 0 && series == OUTER))) {
            dst[n++] = *t;
        }
    }
    qsort(dst, (size_t)n, sizeof *dst, by_pad);
    return n;
}

static int write_plot(const study *s, const char *path)
{
    static const char *const colours[N_SERIES] = {"#2060b0", "#208040", "#e08020"};
    static setting series[N_SERIES][MAX_SETTINGS];
    int n[N_SERIES], rc;
    double most = 16;
    files_output out;
    if ((rc = files_create(&out, path)) != 0) {
        return rc;
    }
    for (int k = 0; k < N_SERIES; k++) {
        n[k] = take_series(s, k, series[k]);
        most = n[k] > 0 ? fmax(most, series[k][n[k] - 1].at) : most;
    }
    plot_begin(out.file, 2);
    for (int panel = 0; panel < 2; panel++) {
        char title[128];
        plot p = plot_panel(out.file, panel, 0, most, most <= 128 ? 8 : plot_step(most, 16), "padding, pixels");
        snprintf(title, sizeof title, "%s (blue: inner, %sorange: outer)",
                 panel == 0 ? "RI-PSNR, change in %" : "seams; 1: none",
                 s->shifts > 1 ? "green: inner and shifted, " : "");
        for (int pass = 0; pass < 2; pass++) {  // the range first
            for (int k = 0; k < N_SERIES; k++) {
                const setting *t = series[k];
                const plot_values x = {&t->at, sizeof *t},
                                  y = {panel == 0 ? &t->change : &t->mean.seam, sizeof *t},
                                  e = {panel == 0 ? &t->change_error : &t->mean.seam_error, sizeof *t};
                if (pass == 0) {
                    plot_hold(&p, y, e, n[k]);
                } else {
                    plot_errors(&p, x, y, e, n[k], colours[k]);
                    plot_line(&p, x, y, n[k], colours[k]);
                }
            }
            if (pass == 0) {
                const double level = panel == 0 ? 0 : 1;
                plot_hold(&p, (plot_values){&level, 0}, (plot_values){NULL, 0}, 1);
                plot_axes(&p, title);
                plot_level(&p, level);
            }
        }
    }
    plot_end(out.file);
    return files_commit(&out);
}

// ---- The command ------------------------------------------------------------------------------------

static int run_study(study *s, const study_args *a, const usplit_model *model, const usplit_dataset_reader *reader,
                     char *const *paths)
{
    int rc = CLI_OK;
    for (int i = 0; i < s->n; i++) {
        setting *t = &s->settings[i];
        score_options options = {.quiet = a->quiet, .drop_last = a->drop_last};
        CLI_TRY(score_tiler_options(&options.tiler, &a->tiler));
        options.tiler.tiling = t->series == OUTER ? USPLIT_TILING_OUTER : USPLIT_TILING_INNER;
        options.tiler.pad = t->pad;
        options.tiler.shifts = t->series == SHIFTED ? (int32_t)a->shifts : 1;
        if (!a->quiet) {
            fprintf(stderr, "%d/%d  %s, pad %d\n", i + 1, s->n, series_names[t->series], t->pad);
        }
        CLI_TRY(try_setting(t, model, &options.tiler, reader));
        if (t->left_out[0] == '\0') {
            CLI_TRY(run_setting(s, t, model, reader, &options));
        } else if (i == 0) {
            return cli_error(CLI_FAILED, "without padding: %s", t->left_out);
        }
        CLI_TRY(write_csv(s, paths[0]));
        CLI_TRY(write_table(s, paths[1]));
        CLI_TRY(write_plot(s, paths[2]));
    }
done:
    return rc;
}

int cmd_tiling(int argc, char **argv)
{
    static const char *const endings[3] = {"csv", "md", "svg"};
    static study s;
    study_args a;
    arg_list rest;
    frame_set set = {0};
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts;
    usplit_dataset_reader reader;
    char *paths[3] = {NULL, NULL, NULL};
    char network[64];
    int64_t n;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --batch, fewer --threads, or a larger --memory");
    CLI_TRY(add_settings(&s, &a));
    for (int i = 0; i < 3; i++) {
        paths[i] = cli_format("%s/tiling.%s", a.out, endings[i]);
        CLI_TRY(files_check_new(paths[i], a.overwrite));
    }
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
    set.axes = a.axes;
    CLI_TRY(frames_add(&set, &a.channels, &n));
    frames_reader(&set, &reader);
    CLI_TRY(files_make_folder(a.out));
    s.shifts = a.shifts;
    s.title = cli_format("Tiling of %s, trained on patches of %d",
                         setup_network_name(facts.family, facts.variant, network, sizeof network), facts.patch);
    CLI_TRY(run_study(&s, &a, model, &reader, paths));
    print_table(&s, stdout);
    if (!a.quiet) {
        fprintf(stderr, "written   %s, %s, %s\n", paths[0], paths[1], paths[2]);
    }
done:
    free(s.plain);
    free(s.title);
    usplit_model_free(model);
    usplit_context_free(context);
    frames_free(&set);
    for (int i = 0; i < 3; i++) {
        free(paths[i]);
    }
    return rc;
}
