// usplit check: does a model compute on this machine what it computed where it was written?
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/setup.h"
#include "cli/text.h"

static const arg_usage usage = {
    "check", "model.h5 [options]",
    "Runs the self-test stored in the file: a small input through the network, against the output that\n"
    "was stored with it. Exit status 1 when they differ by more than rounding can explain.",
    "usplit check model.h5 --device cuda",
};

typedef struct check_args {
    machine_args machine;
    int json;
} check_args;

static int parse(check_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    const arg_spec specs[] = {
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "as JSON"},
        {"Machine", NULL, 0, NULL, 0, 0, NULL, NULL},
        MACHINE_SPECS(a->machine),
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    if (rc == 0 && rest->n != 1) {
        rc = cli_error(CLI_USAGE, "%s", rest->n == 0 ? "which model? model.h5 is missing" : "one model at a time");
    }
    return rc;
}

static void print_json(const char *file, const usplit_context_facts *where, const usplit_model_check_facts *f)
{
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_text(&j, "file", file);
    json_text(&j, "device", where->device);
    json_text(&j, "engine", where->engine);
    json_int(&j, "values", f->values);
    json_real(&j, "error", f->error);
    json_real(&j, "tolerance", f->tolerance);
    json_bool(&j, "ok", f->passed);
    json_end(&j, '}');
}

int cmd_check(int argc, char **argv)
{
    check_args a;
    arg_list rest;
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_facts facts;
    usplit_context_facts where = {.struct_size = sizeof where};
    usplit_model_check_facts f = {.struct_size = sizeof f};
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    CLI_TRY(setup_context(&context, &a.machine));
    CLI_LIB(usplit_context_info(context, &where));
    CLI_TRY(setup_load(&model, &facts, context, rest.items[0]));
    CLI_LIB(usplit_model_check_report(model, &f));
    if (a.json) {
        print_json(rest.items[0], &where, &f);
    } else {
        setup_print_model(stdout, &facts);
        printf("device    %s: %s\n", where.device, where.engine);
        printf("compared  %lld output values of one %d x %d patch with those stored in the file\n",
               (long long)f.values, facts.patch, facts.patch);
        printf("largest   difference %.2g of the output's maximum; accepted: %g\n", f.error, f.tolerance);
        printf("verdict   %s\n", f.passed ? "ok: this machine computes what the file expects"
                                          : "FAILED: do not trust this model on this machine");
    }
    if (!f.passed) {
        rc = cli_error(CLI_FAILED, "%s: the self-test's output differs by %.2g of its maximum; accepted: %g",
                       rest.items[0], f.error, f.tolerance);
    }
done:
    usplit_model_free(model);
    usplit_context_free(context);
    return rc;
}
