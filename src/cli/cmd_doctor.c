// usplit doctor: what this machine offers, what was really loaded, and whether every device computes right. Works
// everything out first, then prints it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/loaded.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/trial.h"

static const arg_usage usage = {
    "doctor", "[model.h5] [options]",
    "Lists the devices and the libraries that are loaded, and tests every device that can be used: with\n"
    "the self-test stored in the model file, or with a small network made on the spot. Exit status 0: all\n"
    "of them compute right.",
    "usplit doctor model.h5",
};

typedef struct doctor_args {
    machine_args machine;       // threads only
    const char *file;           // NULL: none
    int json;
} doctor_args;

typedef struct findings {
    usplit_context_facts context;       // of the CPU
    usplit_device_facts *devices;
    int32_t n_devices;
    trial *trials;              // of the usable devices, up to two each
    int n_trials;
    files_list libraries;
} findings;

static int parse(doctor_args *a, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->machine.device = "cpu";
    const arg_spec specs[] = {
        {"Options", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "as JSON"},
        THREADS_SPEC(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc;
    }
    if (rest.n > 1) {
        return cli_error(CLI_USAGE, "one model at a time");
    }
    a->file = rest.n == 1 ? rest.items[0] : NULL;
    return CLI_OK;
}

// ---- Finding out ----------------------------------------------------------------------------------------------

// A model file that cannot be read is no device's fault: it ends the command.
static int look_at_host(findings *f, const doctor_args *a)
{
    int rc;
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts;
    f->context.struct_size = sizeof f->context;
    CLI_TRY(setup_context(&context, &a->machine));
    CLI_LIB(usplit_context_info(context, &f->context));
    if (a->file != NULL) {
        CLI_TRY(setup_load(&model, &facts, context, a->file));
    }
done:
    usplit_model_free(model);
    usplit_context_free(context);
    return rc;
}

static int look_at_devices(findings *f)
{
    int rc;
    CLI_LIB(usplit_device_count(&f->n_devices));
    f->devices = cli_alloc((size_t)f->n_devices, sizeof *f->devices);
    f->trials = cli_alloc(2 * (size_t)f->n_devices, sizeof *f->trials);
    if (f->devices == NULL || f->trials == NULL) {
        return CLI_FAILED;
    }
    for (int32_t i = 0; i < f->n_devices; i++) {
        f->devices[i].struct_size = sizeof f->devices[i];
        CLI_LIB(usplit_device_info(i, &f->devices[i]));
    }
done:
    return rc;
}

static void test_devices(findings *f, const doctor_args *a)
{
    for (int32_t i = 0; i < f->n_devices; i++) {
        const usplit_device_facts *d = &f->devices[i];
        if (!d->usable) {
            continue;
        }
        trial_run(&f->trials[f->n_trials++], d->name, USPLIT_PRECISION_FLOAT32, a->machine.threads, a->file);
        if (i > 0) {
            trial_run(&f->trials[f->n_trials++], d->name, USPLIT_PRECISION_FLOAT16, a->machine.threads, a->file);
        }
    }
}

// ---- Telling --------------------------------------------------------------------------------------------------

static text_number version(int32_t number)
{
    text_number t;
    snprintf(t.text, sizeof t.text, "%d.%d.%d", number / 10000, number / 100 % 100, number % 100);
    return t;
}

static void print_device(const usplit_device_facts *d)
{
    if (!d->usable) {
        printf("%s, not usable: %s\n", d->name, d->reason);
        return;
    }
    printf("%s, %s", d->name, d->text);
    if (d->total_bytes > 0) {
        printf(", %s of %s free", text_bytes((double)d->free_bytes).text, text_bytes((double)d->total_bytes).text);
    }
    printf("\n");
}

static void print_trial(const trial *t)
{
    printf("%s %s, ", t->device, trial_precision(t));
    if (t->ok) {
        printf("ok: largest relative difference %.2g, accepted %g\n", t->difference, t->tolerance);
    } else {
        printf("FAILED: %s\n", t->error);
    }
}

static void print_findings(const findings *f, const doctor_args *a)
{
    printf("library   %s\n", version(usplit_version()).text);
    printf("program   %s\n", version(USPLIT_VERSION_NUMBER).text);
    printf("threads   %d\n", f->context.threads);
    for (int32_t i = 0; i < f->n_devices; i++) {
        printf("%s", i == 0 ? "devices   " : "          ");
        print_device(&f->devices[i]);
    }
    for (size_t i = 0; i < f->libraries.n; i++) {
        printf("%s%s\n", i == 0 ? "loaded    " : "          ", f->libraries.paths[i]);
    }
    printf("tested    %s\n", a->file != NULL ? a->file : "a small network made on the spot");
    for (int i = 0; i < f->n_trials; i++) {
        printf("          ");
        print_trial(&f->trials[i]);
    }
}

static void json_devices(json *j, const findings *f)
{
    json_begin(j, "devices", '[');
    for (int32_t i = 0; i < f->n_devices; i++) {
        const usplit_device_facts *d = &f->devices[i];
        json_begin(j, NULL, '{');
        json_text(j, "name", d->name);
        json_bool(j, "usable", d->usable);
        json_text(j, "text", d->text);
        json_text(j, "reason", d->reason);
        json_int(j, "total_bytes", d->total_bytes);
        json_int(j, "free_bytes", d->free_bytes);
        json_end(j, '}');
    }
    json_end(j, ']');
}

static void json_trials(json *j, const findings *f)
{
    json_begin(j, "tests", '[');
    for (int i = 0; i < f->n_trials; i++) {
        const trial *t = &f->trials[i];
        json_begin(j, NULL, '{');
        json_text(j, "device", t->device);
        json_text(j, "precision", trial_precision(t));
        json_text(j, "engine", t->engine);
        json_bool(j, "ok", t->ok);
        json_real(j, "difference", t->difference);
        json_real(j, "tolerance", t->tolerance);
        json_text(j, "error", t->error);
        json_end(j, '}');
    }
    json_end(j, ']');
}

static void json_findings(const findings *f, const doctor_args *a)
{
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_text(&j, "library", version(usplit_version()).text);
    json_text(&j, "program", version(USPLIT_VERSION_NUMBER).text);
    json_int(&j, "threads", f->context.threads);
    json_devices(&j, f);
    json_begin(&j, "loaded", '[');
    for (size_t i = 0; i < f->libraries.n; i++) {
        json_text(&j, NULL, f->libraries.paths[i]);
    }
    json_end(&j, ']');
    json_text(&j, "file", a->file != NULL ? a->file : "");
    json_trials(&j, f);
    json_end(&j, '}');
}

int cmd_doctor(int argc, char **argv)
{
    doctor_args a;
    findings f = {0};
    int rc = parse(&a, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    CLI_TRY(look_at_host(&f, &a));
    CLI_TRY(look_at_devices(&f));
    test_devices(&f, &a);
    CLI_TRY(loaded_list(&f.libraries));     // last: some are loaded when they are first needed
    if (a.json) {
        json_findings(&f, &a);
    } else {
        print_findings(&f, &a);
    }
    for (int i = 0; i < f.n_trials; i++) {
        if (!f.trials[i].ok) {
            rc = cli_error(CLI_FAILED, "%s %s: %s", f.trials[i].device, trial_precision(&f.trials[i]),
                           f.trials[i].error);
        }
    }
done:
    files_list_free(&f.libraries);
    free(f.devices);
    free(f.trials);
    return rc;
}
