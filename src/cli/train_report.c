// The page, from top to bottom: state, warnings, curves, pictures, data, network and machine, settings.
#include "cli/train_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/datacheck.h"
#include "cli/files.h"
#include "cli/html.h"
#include "cli/names.h"
#include "cli/plot.h"
#include "cli/preview.h"
#include "cli/setup.h"
#include "cli/text.h"

static const double page_interval = 2;  // seconds between pages
enum { POINTS = 1000, MARKED = 40, LINES = USPLIT_MAX_LEVELS };

struct train_report {
    const char *path, *best_file, *model_file, *command;    // model_file: as it is after the last epoch
    int said;                   // one line on stderr is enough
    usplit_model_facts model;
    usplit_context_facts context;
    usplit_dataset_facts dataset;
    usplit_model_cost cost;
    usplit_trainer_options options;
    usplit_trainer_facts facts; // at the start of this run
    double clip_quantile, last_page;
    char names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    datacheck data;
    int data_known;
    preview *preview;           // NULL: could not be made
};

// Says the error line once, and forgets it.
static void say_once(train_report *r, const char *what)
{
    if (!r->said) {
        // a line of progress may stand there
        fprintf(stderr, "%swarning   %s: %s; training goes on\n", isatty(STDERR_FILENO) ? "\n" : "", what,
                cli_error_line());
        r->said = 1;
    }
    cli_error_clear();
}

train_report *train_report_open(usplit_context *context, const usplit_model *model, const usplit_dataset *dataset,
                                const usplit_trainer_options *options, const train_files *files,
                                const train_run_options *run, const usplit_trainer_facts *facts)
{
    int rc;
    train_report *r = files->report != NULL ? cli_alloc(1, sizeof *r) : NULL;
    if (r == NULL) {
        return NULL;
    }
    r->path = files->report;
    r->best_file = files->best;
    r->model_file = run->no_last ? files->best : files->last;
    r->command = run->command;
    r->options = *options;
    r->facts = *facts;
    r->clip_quantile = run->clip_quantile;
    r->model.struct_size = sizeof r->model;
    r->context.struct_size = sizeof r->context;
    r->dataset.struct_size = sizeof r->dataset;
    r->cost.struct_size = sizeof r->cost;
    CLI_LIB(usplit_model_info(model, &r->model));
    CLI_LIB(usplit_context_info(context, &r->context));
    CLI_LIB(usplit_dataset_info(dataset, &r->dataset));
    CLI_LIB(usplit_model_plan(model, USPLIT_MODE_TRAIN, facts->part_batch, 0, &r->cost));
    for (int c = 0; c < r->model.channels; c++) {
        setup_channel_name(&r->model, c, r->names[c], sizeof r->names[c]);
    }
    if (r->dataset.unpaired) {
        goto done;                  // what follows compares the channels of a frame
    }
    CLI_TRY(datacheck_run(&r->data, dataset, &r->model, r->names, run->clip_quantile));
    r->data_known = 1;
    for (int i = 0; i < r->data.n_warnings && !run->quiet; i++) {
        fprintf(stderr, "warning   %s\n", r->data.warnings[i]);
    }
    CLI_TRY(preview_open(&r->preview, context, dataset, r->names, r->model.pixel_size,
                         options->memory_budget));
    if (run->resume) {
        preview_read(r->preview, r->path, facts->epoch);
    }
done:
    if (rc != CLI_OK) {
        say_once(r, "the report is not complete");
    }
    return r;
}

void train_report_free(train_report *r)
{
    if (r != NULL) {
        preview_free(r->preview);
        free(r);
    }
}

// ---- Curves ---------------------------------------------------------------------------------------------

typedef struct curves {         // at most POINTS epochs, columns of one table
    int n;
    double x[POINTS], y[LINES][POINTS];
    double ticks[16];
    char labels[16][24];
    const char *label[16];
    int n_ticks;
    int64_t n_epochs;
    const usplit_trainer_epoch *rows;
} curves;

static void set_ticks(curves *k)
{
    double n = (double)k->n_epochs, step = n > 8 ? fmax(1, plot_step(n, 8)) : 1;
    k->n_ticks = 0;
    for (double at = step == 1 ? 1 : 0; at <= n && k->n_ticks < 15; at += step) {
        k->ticks[k->n_ticks++] = at;
    }
    if (k->n_ticks > 0 && n - k->ticks[k->n_ticks - 1] > 0.5 * step) {
        k->ticks[k->n_ticks++] = n;
    }
    for (int i = 0; i < k->n_ticks; i++) {
        snprintf(k->labels[i], sizeof k->labels[i], "%.10g", k->ticks[i]);
        k->label[i] = k->labels[i];
    }
}

static void put_chart(FILE *file, const curves *k, const char *title, const char *unit, const char *const *names,
                      int n_lines)
{
    chart_line lines[LINES];
    int used = 0;
    for (int i = 0; i < n_lines; i++) {
        int known = 0;
        for (int e = 0; e < k->n; e++) {
            known += isfinite(k->y[i][e]) != 0;
        }
        if (known > 0) {
            lines[used++] = (chart_line){.name = names[i], .n = k->n, .x = k->x, .y = k->y[i], .colour = i,
                                         .bare = k->n > MARKED};
        }
    }
    if (used == 0) {
        return;
    }
    if (used == 1 && n_lines == 1) {
        lines[0].name = NULL;
    }
    chart_panel panel = {.title = title, .x_title = "epoch", .y_title = unit, .n_ticks = k->n_ticks, .ticks = k->ticks,
                         .labels = k->label, .n_lines = used, .lines = lines};
    chart_put(file, &panel);
}

static void put_curves(const train_report *r, FILE *file, const usplit_trainer_epoch *rows, int64_t n)
{
    static const char *const losses[] = {"training", "validation", "training, reconstruction"};
    static const char *const one[] = {""};
    curves *k = n > 0 ? cli_alloc(1, sizeof *k) : NULL;
    char names[LINES][16];
    const char *levels[LINES];
    html_heading(file, "Curves");
    if (k == NULL) {
        html_paragraph(file, "faint", "No epoch has ended yet.");
        return;
    }
    k->n = n < POINTS ? (int)n : POINTS;
    k->n_epochs = n;
    set_ticks(k);
    fputs("<div class='columns'>\n", file);
    for (int pass = 0; pass < 4; pass++) {
        for (int i = 0; i < k->n; i++) {
            int64_t e = k->n > 1 ? i * (n - 1) / (k->n - 1) : 0;        // the first and the last are among them
            const usplit_trainer_epoch *row = &rows[e];
            k->x[i] = (double)(e + 1);
            k->y[0][i] = pass == 0 ? row->loss : pass == 1 ? row->val_psnr : row->learning_rate;
            k->y[1][i] = row->val_loss;
            k->y[2][i] = row->kl_loss != 0 ? row->reconstruction_loss : NAN;
            for (int l = 0; pass == 2 && l < LINES; l++) {
                k->y[l][i] = row->kl_level[l];
            }
        }
        for (int l = 0; l < LINES; l++) {
            snprintf(names[l], sizeof names[l], "level %d", l);
            levels[l] = names[l];
        }
        switch (pass) {
        case 0: put_chart(file, k, "Loss", "", losses, 3); break;
        case 1: put_chart(file, k, "Validation PSNR", "dB", one, 1); break;
        case 2: put_chart(file, k, "KL per latent element", "nats", levels, r->model.levels); break;
        default: put_chart(file, k, "Learning rate", "", one, 1);
        }
    }
    fputs("</div>\n", file);
    free(k);
}

// ---- Tables ---------------------------------------------------------------------------------------------

static void put_number(FILE *file, const char *fmt, double value)
{
    char text[64];
    snprintf(text, sizeof text, fmt, value);
    fputs("<td>", file);
    html_text(file, isfinite(value) ? text : "-");
    fputs("</td>", file);
}

static void put_state(const train_report *r, FILE *file, const usplit_trainer_epoch *rows, int64_t n,
                      const char *state, const usplit_trainer_facts *facts)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(rows[i].val_psnr) && (best < 0 || rows[i].val_psnr > rows[best].val_psnr)) {
            best = i;
        }
    }
    html_facts_begin(file, "");
    html_fact(file, "state", "%s", state);
    html_fact(file, "epochs", "%lld of at most %d", (long long)n, r->options.max_epochs);
    if (n > 0) {
        const usplit_trainer_epoch *last = &rows[n - 1];
        html_fact(file, "steps", "%lld", (long long)(facts != NULL ? facts->step : last->step));
        double seconds = facts != NULL ? facts->seconds : last->seconds;
        if (isfinite(seconds)) {
            html_fact(file, "time", "%s", text_duration(seconds).text);
        }
        if (isfinite(last->loss)) {
            html_fact(file, "loss", "%.6g", last->loss);
        } else {
            html_fact(file, "loss", "not finite");
        }
        if (isfinite(last->val_psnr)) {
            html_fact(file, "validation PSNR", "%.2f dB", last->val_psnr);
        }
    }
    if (best >= 0) {
        html_fact(file, "best", "%.2f dB, epoch %lld", rows[best].val_psnr, (long long)best + 1);
    }
    if (facts != NULL && facts->skipped_steps > 0) {
        html_fact(file, "left out", "%lld steps whose loss or gradient was not finite",
                  (long long)facts->skipped_steps);
    }
    html_facts_end(file);
}

static void put_channels(const train_report *r, FILE *file)
{
    static const char *const heads[] = {"channel", "mean", "deviation", "0.5 %", "99.5 %", "at the brightest value, %",
                                        "length of structures", "constant frames"};
    const datacheck *d = &r->data;
    fputs("<div class='wide'><table class='numbers'><thead><tr>", file);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        fprintf(file, "<th%s>%s</th>", i == 0 ? " class='name'" : "", heads[i]);
    }
    for (int c = 1; c < d->n_channels; c++) {
        fputs("<th>correlation with ", file);
        html_text(file, d->channels[c - 1].name);
        fputs("</th>", file);
    }
    fputs("</tr></thead><tbody>\n", file);
    for (int c = 0; c < d->n_channels; c++) {
        const datacheck_channel *h = &d->channels[c];
        fputs("<tr><td class='name'>", file);
        html_text(file, h->name);
        fputs("</td>", file);
        put_number(file, "%.5g", h->mean);
        put_number(file, "%.5g", h->deviation);
        put_number(file, "%.5g", h->low);
        put_number(file, "%.5g", h->high);
        put_number(file, "%.3g", 100 * h->at_top);
        put_number(file, "%.0f", h->length);
        put_number(file, "%.0f", (double)h->constant);
        for (int b = 0; b + 1 < d->n_channels; b++) {
            put_number(file, "%.2f", b < c ? d->correlation[b][c] : NAN);
        }
        fputs("</tr>\n", file);
    }
    fputs("</tbody></table></div>\n", file);
    html_paragraph(file, "faint",
                   "Grey levels, after clipping, of %lld of %lld training frames; mean and deviation of all. Length: "
                   "half of the bright pixels (over mean + 1 deviation) belong to structures at least so many pixels "
                   "long. The network sees %lld pixels to a side. Correlation: within frames, at half resolution, "
                   "their mean.",
                   (long long)d->looked_at, (long long)d->frames, (long long)d->field);
}

static void put_data(const train_report *r, FILE *file)
{
    const usplit_dataset_facts *f = &r->dataset;
    html_heading(file, "Data");
    html_facts_begin(file, "");
    html_fact(file, "frames", "%lld of up to %lld x %lld pixels: %lld train, %lld validation, %lld test",
              (long long)f->n_frames, (long long)f->width, (long long)f->height, (long long)f->n_train,
              (long long)f->n_validation, (long long)f->n_test);
    if (r->data_known) {
        html_fact(file, "patches", "%lld without overlap", (long long)r->data.patches);
    }
    if (r->clip_quantile < 1) {
        html_fact(file, "clipped", "at %.6g, quantile %g", f->clip_value, r->clip_quantile);
    } else {
        html_fact(file, "clipped", "no");
    }
    if (f->padding == USPLIT_PADDING_CONSTANT) {
        html_fact(file, "outside the frames", "%g", f->padding_value);
    } else {
        html_fact(file, "outside the frames", "reflected");
    }
    html_fact(file, "held in memory", "%s", text_bytes((double)f->bytes).text);
    if (r->model.pixel_size > 0) {
        html_fact(file, "pixel size", "%.6g micrometres", r->model.pixel_size);
    }
    html_facts_end(file);
    if (r->data_known) {
        put_channels(r, file);
    }
}

static void put_network(const train_report *r, FILE *file)
{
    const usplit_model_facts *m = &r->model;
    char name[64], z[16 * USPLIT_MAX_LEVELS] = "";
    html_facts_begin(file, "Network");
    html_fact(file, "kind", "%s", setup_network_name(m->family, m->variant, name, sizeof name));
    html_fact(file, "levels", "%d", m->levels);
    html_fact(file, "lateral context", "%d", m->lc_count);
    html_fact(file, "filters", "%d", m->filters);
    html_fact(file, "patch", "%d x %d pixels", m->patch, m->patch);
    if (m->family <= USPLIT_FAMILY_HAE) {
        for (int i = 0, at = 0; i < m->levels && at < (int)sizeof z - 16; i++) {
            at += snprintf(z + at, sizeof z - (size_t)at, "%s%d", i > 0 ? ", " : "", m->z_dims[i]);
        }
        html_fact(file, "latent channels", "%s", z);
        html_fact(file, "blocks per level", "%d%s", m->blocks, m->ungated ? ", ungated" : "");
        html_fact(file, "activation", "%s", names_word(&names_activation, m->activation));
        html_fact(file, "log-variance", "%s, at least %g", names_word(&names_logvar, m->logvar), m->logvar_lower_bound);
        html_fact(file, "merge", "%s", names_word(&names_merge, m->merge));
        html_fact(file, "KL", "%s", m->family == USPLIT_FAMILY_HVAE ? names_word(&names_kl, m->kl) : "none");
        html_fact(file, "latent scale", "%s", names_word(&names_latent_scale, m->latent_scale));
    }
    html_fact(file, "dropout", "%g", m->dropout);
    html_fact(file, "parameters", "%s", text_count((double)m->n_parameters).text);
    html_fact(file, "multiply-adds", "%s per patch, forward", text_count((double)m->macs).text);
    html_facts_end(file);
}

static void put_machine(const train_report *r, FILE *file)
{
    int32_t v = usplit_version();
    html_facts_begin(file, "Machine");
    html_fact(file, "device", "%s (%s)", r->context.device, r->context.reason);
    html_fact(file, "engine", "%s", r->context.engine);
    html_fact(file, "threads", "%d", r->context.threads);
    html_fact(file, "usplit", "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    html_fact(file, "planned memory", "%s for a step, %s of it kept for the backward pass",
              text_bytes((double)r->cost.arena_bytes).text, text_bytes((double)r->cost.kept_bytes).text);
    html_fact(file, "parameters, optimiser", "%s", text_bytes((double)r->cost.parameter_bytes).text);
    html_facts_end(file);
}

static void put_settings(const train_report *r, FILE *file)
{
    const usplit_trainer_options *o = &r->options;
    html_facts_begin(file, "Settings");
    html_fact(file, "batch", "%d", o->batch);
    if (r->facts.part_batch < o->batch) {
        html_fact(file, "run in parts of", "%d", r->facts.part_batch);
    }
    html_fact(file, "steps per epoch", "%lld", (long long)r->facts.steps_per_epoch);
    html_fact(file, "epochs, at most", "%d", o->max_epochs);
    if (o->max_steps > 0) {
        html_fact(file, "steps, at most", "%lld", (long long)o->max_steps);
    }
    if (o->max_seconds > 0) {
        html_fact(file, "time, at most", "%s", text_duration(o->max_seconds).text);
    }
    html_fact(file, "learning rate", "%g", o->learning_rate);
    html_fact(file, "times without gain", "%g after %d epochs", o->lr_factor, o->lr_patience);
    html_fact(file, "ends without gain", "after %d epochs", o->early_stop_patience);
    if (o->clip_norm > 0) {
        html_fact(file, "gradient norm, at most", "%g", o->clip_norm);
    } else {
        html_fact(file, "gradient norm", "not clipped");
    }
    if (r->model.family == USPLIT_FAMILY_HVAE) {
        html_fact(file, "KL weight", "%g", o->kl_weight);
        html_fact(file, "free bits", "%g", o->free_bits);
    }
    if (o->max_validation_patches > 0) {
        html_fact(file, "validation patches, at most", "%lld", (long long)o->max_validation_patches);
    }
    if (o->memory_budget > 0) {
        html_fact(file, "memory, at most", "%s", text_bytes((double)o->memory_budget).text);
    }
    html_fact(file, "seed", "%llu", (unsigned long long)o->seed);
    html_facts_end(file);
}

// ---- The page -------------------------------------------------------------------------------------------

static int write_page(const train_report *r, const usplit_trainer_epoch *rows, int64_t n, const char *state,
                      const usplit_trainer_facts *facts)
{
    files_output out;
    char network[64];
    int rc = files_create(&out, r->path);
    if (rc != CLI_OK) {
        return rc;
    }
    FILE *file = out.file;
    char *title = cli_format("%s: %s", files_base(r->best_file),
                             setup_network_name(r->model.family, r->model.variant, network, sizeof network));
    html_begin(file, title);
    free(title);
    put_state(r, file, rows, n, state, facts);
    for (int i = 0; i < r->data.n_warnings; i++) {
        html_paragraph(file, "warning", "%s", r->data.warnings[i]);
    }
    put_curves(r, file, rows, n);
    if (r->preview != NULL) {
        preview_put(r->preview, file);
    }
    put_data(r, file);
    html_heading(file, "Network, machine, settings");
    fputs("<div class='columns'><div>\n", file);
    put_network(r, file);
    fputs("</div><div>\n", file);
    put_machine(r, file);
    put_settings(r, file);
    fputs("</div></div>\n", file);
    if (r->command != NULL) {
        fputs("<p class='faint'>Command: <code>", file);
        html_text(file, r->command);
        fputs("</code></p>\n", file);
    }
    html_end(file);
    return files_commit(&out);
}

static void add_pictures(train_report *r, int64_t n, int wanted)
{
    if (r->preview != NULL && n > 0 && preview_is_due(r->preview, n, wanted) &&
        preview_add(r->preview, r->model_file, n) != CLI_OK) {
        say_once(r, "no pictures of this epoch");
    }
}

void train_report_update(train_report *r, const usplit_trainer_epoch *rows, int64_t n)
{
    if (r == NULL || (r->last_page > 0 && cli_seconds() - r->last_page < page_interval)) {
        return;
    }
    add_pictures(r, n, 0);
    if (write_page(r, rows, n, "running; load this page again to see more", NULL) != CLI_OK) {
        say_once(r, "no report");
    }
    r->last_page = cli_seconds();
}

void train_report_end(train_report *r, const usplit_trainer_epoch *rows, int64_t n, const char *state,
                      const usplit_trainer_facts *facts)
{
    if (r == NULL) {
        return;
    }
    if (facts == NULL) {        // its own error line is the one that counts
        write_page(r, rows, n, state, NULL);
        return;
    }
    // where it was stopped within an epoch, the model is no longer what the last row is of
    if (n > 0 && facts->step == rows[n - 1].step) {
        add_pictures(r, n, 1);
    }
    if (write_page(r, rows, n, state, facts) != CLI_OK) {
        say_once(r, "no report");
    }
}
