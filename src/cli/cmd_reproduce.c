// usplit reproduce: runs the setups of a table or figure of the paper, one by one, and sets the results beside the
// published numbers. What is finished is not run again; what was stopped goes on.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/repro/repro.h"
#include "cli/text.h"

static const arg_usage usage = {
    "reproduce", "table1|table2|table3|fig4|fig6 -o folder [options]",
    "Trains and measures the systems of a table or figure of the paper, and writes our numbers beside the\n"
    "published ones: CSV, Markdown, plots, pictures. Every run has a folder under FOLDER/runs; runs that are\n"
    "finished are not repeated, and after Ctrl-C the same command goes on. table2 makes its images; the others\n"
    "need --data or --channel (see --data-help). The small scale fits a laptop and says what it changes.",
    "usplit reproduce table2 --scale small -o paper",
};

typedef struct reproduce_args {
    repro_request request;
    const char *experiment, *scale, *only, *task;
    int list, data_help;
} reproduce_args;

static int parse(reproduce_args *a, int argc, char **argv)
{
    repro_request *r = &a->request;
    memset(a, 0, sizeof *a);
    r->family = -1;
    r->sources.val_fraction = NAN;
    a->scale = "small";
    const arg_spec specs[] = {
        {"What", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &r->out, 0, 0, "FOLDER", "where runs and results go"},
        {"--scale", NULL, ARG_TEXT, &a->scale, 0, 0, "full|small|tiny|F",
         "full: as published; F: filters, patches seen and frames times F (small)"},
        {"--list", NULL, ARG_FLAG, &a->list, 0, 0, NULL, "show the setups, run nothing"},
        {"--only", NULL, ARG_TEXT, &a->only, 0, 0, "NAME[,NAME...]", "these rows (names as in --list)"},
        {"--task", NULL, ARG_TEXT, &a->task, 0, 0, "NAME[,NAME...]", "these tasks (names as in --list)"},
        {"--family", NULL, ARG_CHOICE, &r->family, 0, 0, "hvae|hae",
         "instead of the published one, in the autoencoder rows"},
        {"--kinds", NULL, ARG_INT, &r->kinds, 1, 2, "N",
         "table2: kinds of curves in a channel (full and F: 2, as published; small and tiny: 1, easier)"},
        {"--steps", NULL, ARG_INT, &r->steps, 1, 1e12, "N", "per run; rows of larger patches get fewer of them"},
        {"--minutes", NULL, ARG_REAL, &r->minutes, 0.001, 1e6, "M", "of training per run, at most"},
        {"--seed", NULL, ARG_INT, &r->seed, 0, 9007199254740992.0, "N", "of everything random (0)"},
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--data-help", NULL, ARG_FLAG, &a->data_help, 0, 0, NULL, "where the images are published, and own ones"},
        {"--data", NULL, ARG_TEXT, &r->folder, 0, 0, "FOLDER", "published files, or own images"},
        {"--channel", NULL, ARG_LIST, &r->sources.channels, 0, 0, "PATH", "own images: one structure, as in train"},
        {"--val-channel", "--val", ARG_LIST, &r->sources.validation, 0, 0, "PATH", "validation images, per structure"},
        {"--test-channel", "--test", ARG_LIST, &r->sources.test, 0, 0, "PATH", "images to score, per structure"},
        {"--names", NULL, ARG_TEXT, &r->names, 0, 0, "A,B", "names of the structures"},
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(r->machine),
        {"--memory", NULL, ARG_BYTES, &r->memory, 0, 0, "SIZE", "limit of planned memory, like 4G"},
        {"--quiet", "-q", ARG_FLAG, &r->quiet, 0, 0, NULL, "no summaries, no progress"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0 || a->data_help) {
        return rc;
    }
    if (rest.n != 1) {
        return cli_error(CLI_USAGE, "which one? table1, table2, table3, fig4 or fig6");
    }
    r->experiment = repro_experiment_find(rest.items[0]);
    if (r->experiment == NULL) {
        return cli_error(CLI_USAGE, "'%s' is not one of table1, table2, table3, fig4, fig6", rest.items[0]);
    }
    if (r->out == NULL && !a->list) {
        return cli_error(CLI_USAGE, "where to? -o folder is missing");
    }
    if ((rc = repro_scale_find(&r->scale, a->scale)) != 0) {
        return rc;
    }
    snprintf(r->base, sizeof r->base, "%s%s%s-%s", r->experiment->key, r->family >= 0 ? "-" : "",
             r->family >= 0 ? names_word(&names_family, r->family) : "", r->scale.name);
    return CLI_OK;
}

// ---- The list of runs -------------------------------------------------------------------------------------------

static int named(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0')) {
            return 1;
        }
    }
    return list == NULL;
}

// Every name of the list is a row's, or a task's.
static int check_names(const char *option, const char *list, const repro_run *runs, int n, int of_tasks)
{
    arg_list parts;
    char *storage = NULL;
    if (list == NULL) {
        return CLI_OK;
    }
    int rc = args_split(list, ',', &parts, &storage);
    for (int k = 0; rc == CLI_OK && k < parts.n; k++) {
        int found = 0;
        for (int i = 0; i < n; i++) {
            found |= strcmp(parts.items[k], of_tasks ? runs[i].task->key : runs[i].row->key) == 0;
        }
        rc = found ? CLI_OK : cli_error(CLI_USAGE, "%s: nothing is called '%s'; --list shows the names", option,
                                        parts.items[k]);
    }
    free(storage);
    return rc;
}

static char *folder_of(const repro_request *request, const repro_run *run)
{
    const usplit_model_options *m = &run->settings.model;
    const char *out = request->out != NULL ? request->out : ".";
    if (run->row->kind == REPRO_DOUBLE_DIP) {
        return cli_format("%s/runs/%s-%s-%.8s", out, run->task->key, run->row->key, run->hash);
    }
    return cli_format("%s/runs/%s-%s-%s-%.8s", out, run->task->key, names_word(&names_family, m->family),
                      names_word(&names_variant, m->variant), run->hash);
}

static int make_run(repro_run *run, const repro_request *request, const char *identity)
{
    int rc;
    repro_pair pairs[REPRO_MAX_PAIRS];
    CLI_TRY(repro_settings_make(&run->settings, request, run->row, run->task));
    CLI_TRY(repro_settings_paper(&run->paper, request, run->row, run->task));
    int n = repro_settings_list(&run->settings, run->row, run->task, pairs);
    repro_settings_hash(run->hash, pairs, n, identity);
    run->folder = folder_of(request, run);
done:
    return rc;
}

// All rows on all tasks; those not asked for are there, too, so that the tables are whole.
static int make_runs(const reproduce_args *a, repro_run *runs, int *n)
{
    int rc = CLI_OK;
    const repro_experiment *e = a->request.experiment;
    int n_tasks = a->request.own_images ? 1 : e->n_tasks;
    for (int t = 0; t < n_tasks; t++) {
        const repro_task *task = a->request.own_images ? &repro_own_task : e->tasks[t];
        char missing[300] = "";
        char *identity = repro_data_identity(&a->request, task, missing, sizeof missing);
        if (identity == NULL && task->source == REPRO_OWN) {
            return CLI_FAILED;          // the line is recorded
        }
        for (int i = 0; i < e->n_rows && rc == CLI_OK; i++) {
            repro_run *run = &runs[(*n)++];
            *run = (repro_run){.row = &e->rows[i], .task = task, .task_index = t};
            rc = make_run(run, &a->request, identity != NULL ? identity : "");
            run->selected = named(a->only, run->row->key) && named(a->task, task->key) && identity != NULL;
            snprintf(run->reason, sizeof run->reason, "%s", identity == NULL ? missing :
                     run->selected ? "not started" : "not asked for");
        }
        free(identity);
    }
    if (rc == CLI_OK) {
        rc = check_names("--only", a->only, runs, *n, 0);
    }
    return rc == CLI_OK ? check_names("--task", a->task, runs, *n, 1) : rc;
}

// A run that has its result is done.
static int look(const repro_request *request, repro_run *run)
{
    char *path = cli_format("%s/result.json", run->folder);
    int rc = CLI_OK;
    if (files_exists(path)) {
        rc = repro_result_read(&run->result, request->experiment, path);
        run->done = rc == CLI_OK;
        if (rc == CLI_OK && strcmp(run->result.hash, run->hash) != 0) {
            rc = cli_error(CLI_FAILED, "%s: is of other settings; remove it to run the setup again", path);
        }
    }
    free(path);
    return rc;
}

// ---- --list -----------------------------------------------------------------------------------------------------

static void list_run(usplit_context *context, const repro_run *run)
{
    usplit_model *model = NULL;
    usplit_model_cost cost = {.struct_size = sizeof cost};
    usplit_model_facts facts = {.struct_size = sizeof facts};
    const usplit_trainer_options *t = &run->settings.trainer;
    printf("  %-20s %-34s", run->row->key, run->row->name);
    if (run->row->kind != REPRO_NETWORK) {
        printf(" no training\n");
        return;
    }
    if (usplit_model_create(&model, context, &run->settings.model) != USPLIT_OK ||
        usplit_model_info(model, &facts) != USPLIT_OK ||
        usplit_model_plan(model, USPLIT_MODE_TRAIN, t->batch, 0, &cost) != USPLIT_OK) {
        printf(" refused: %s\n", usplit_error_message());
    } else {
        printf(" patch %3d, batch %2d, ", facts.patch, t->batch);
        if (t->max_steps > 0) {
            printf("%7lld steps, ", (long long)t->max_steps);
        } else {
            printf("%4d epochs, ", t->max_epochs);
        }
        printf("%8s parameters, %8s planned%s%s\n", text_count((double)facts.n_parameters).text,
               text_bytes((double)(cost.arena_bytes + cost.parameter_bytes)).text, run->done ? "; done" : "",
               run->selected ? "" : "; left out");
    }
    usplit_model_free(model);
}

static int list_runs(const repro_request *request, const repro_run *runs, int n)
{
    int rc;
    usplit_context *context = NULL;
    CLI_TRY(setup_context(&context, &request->machine));
    printf("%s; scale %s\n", request->experiment->title, request->scale.name);
    for (int i = 0; i < n; i++) {
        if (i == 0 || runs[i].task != runs[i - 1].task) {
            printf("\n%s: %s\n", runs[i].task->key, runs[i].task->name);
        }
        list_run(context, &runs[i]);
    }
done:
    usplit_context_free(context);
    return rc;
}

// ---- Running ----------------------------------------------------------------------------------------------------

// One command at a time works in a folder; runs hold the lock, too. -1: somebody else does, or it cannot be made.
static int lock_folder(const char *folder)
{
    char *path = cli_format("%s/.lock", folder);
    int file = open(path, O_RDWR | O_CREAT, 0666), code = errno;
    if (file < 0) {
        cli_error(CLI_FAILED, "%s: %s", path, strerror(code));
    } else if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        cli_error(CLI_FAILED, "%s: another usplit reproduce works in this folder", folder);
        close(file);
        file = -1;
    }
    free(path);
    return file;
}

static int run_all(const repro_request *request, repro_run *runs, int n)
{
    int rc = CLI_OK, failed = 0, n_selected = 0, number = 0;
    for (int i = 0; i < n; i++) {
        n_selected += runs[i].selected;
    }
    for (int i = 0; i < n && rc != CLI_CANCELLED; i++) {
        repro_run *run = &runs[i];
        if (!run->selected) {
            continue;
        }
        number++;
        if (!run->done) {
            if (!request->quiet) {
                fprintf(stderr, "\n[%d/%d] %s on %s: %s\n", number, n_selected, run->row->name, run->task->name,
                        run->folder);
            }
            rc = repro_run_child(request, run);
            if (rc == CLI_CANCELLED) {
                snprintf(run->reason, sizeof run->reason, "stopped before its end");
            } else if (run->reason[0] != '\0') {
                fprintf(stderr, "usplit: warning: %s on %s: %s\n", run->row->name, run->task->name, run->reason);
            }
            int seen = look(request, run);
            failed += rc == CLI_FAILED || seen != CLI_OK;
        }
        int written = repro_figures(request, runs, n);
        written = written == CLI_OK ? repro_report(request, runs, n) : written;
        if (written != CLI_OK) {
            return written;
        }
    }
    if (rc == CLI_CANCELLED) {
        return rc;
    }
    return failed == 0 ? CLI_OK : cli_error(CLI_FAILED, "%d of %d runs failed; the table says why. The same command "
                                            "tries them again", failed, n_selected);
}

static int run_locked(const repro_request *request, repro_run *runs, int n)
{
    int rc = files_make_folder(request->out);
    int lock = rc == CLI_OK ? lock_folder(request->out) : -1;
    if (lock < 0) {
        return CLI_FAILED;
    }
    rc = files_remove_temporary(request->out);      // of a command that was killed
    if (rc == CLI_OK) {
        rc = repro_report(request, runs, n);
    }
    if (rc == CLI_OK) {
        rc = run_all(request, runs, n);
        repro_print(request, runs, n, stdout);
        if (!request->quiet) {
            fprintf(stderr, "\ntable     %s/%s.md, %s.csv\n", request->out, request->base, request->base);
            if (rc == CLI_CANCELLED) {
                fprintf(stderr, "stopped; to go on: the same command\n");
            }
        }
    }
    close(lock);
    return rc;
}

int cmd_reproduce(int argc, char **argv)
{
    reproduce_args a;
    repro_run *runs = NULL;
    int n = 0, rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    if (a.data_help) {
        repro_data_help(stdout);
        return CLI_OK;
    }
    CLI_TRY(repro_data_open(&a.request));
    int room = a.request.experiment->n_rows * a.request.experiment->n_tasks;
    if ((runs = cli_alloc((size_t)room, sizeof *runs)) == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    CLI_TRY(make_runs(&a, runs, &n));
    for (int i = 0; i < n; i++) {
        CLI_TRY(look(&a.request, &runs[i]));
    }
    CLI_TRY(a.list ? list_runs(&a.request, runs, n) : run_locked(&a.request, runs, n));
done:
    for (int i = 0; i < n; i++) {
        free(runs[i].folder);
    }
    free(runs);
    repro_data_close(&a.request);
    return rc;
}
