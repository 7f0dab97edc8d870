// The list of commands, and the manual page made from their tables.
#include "cli/image/pages.h"

#include <string.h>

#include <usplit.h>

#include "cli/cli.h"

static const command *all;
static int n_all;

void pages_commands(const command *commands, int n)
{
    all = commands;
    n_all = n;
}

int pages_n_commands(void)
{
    return n_all;
}

const command *pages_command(int i)
{
    return &all[i];
}

int pages_ask(const command *c, void (*see)(const arg_usage *usage, const arg_spec *specs, void *user), void *user)
{
    char help[] = "--help", *arguments[] = {help, NULL};
    args_observe(see, user);
    int rc = c->run(1, arguments);
    args_observe(NULL, NULL);
    return rc;
}

// ---- The manual page, as troff with the macros of man(7) --------------------------------------------

// Text as it is to be read: nothing in it is a request or an escape.
static void put(FILE *file, const char *text)
{
    int begins = 1;             // a line
    for (const char *p = text; *p != '\0'; p++) {
        if (begins && (*p == '.' || *p == '\'')) {
            fputs("\\&", file);
        }
        begins = *p == '\n';
        switch (*p) {
        case '-': fputs("\\-", file); break;
        case '\\': fputs("\\e", file); break;
        default: fputc(*p, file);
        }
    }
}

static void put_option(FILE *file, const arg_spec *s)
{
    fputs(".TP\n", file);
    if (s->alias != NULL) {
        fputs("\\fB", file);
        put(file, s->alias);
        fputs("\\fR, ", file);
    }
    fputs("\\fB", file);
    put(file, s->name);
    fputs("\\fR", file);
    if (s->value != NULL) {
        fputs(" \\fI", file);
        put(file, s->value);
        fputs("\\fR", file);
    }
    fputc('\n', file);
    put(file, s->help);
    fputc('\n', file);
}

static void put_command(const arg_usage *usage, const arg_spec *specs, void *user)
{
    FILE *file = user;
    fprintf(file, ".SS usplit %s\n", usage->command);
    fputs("\\fBusplit ", file);
    put(file, usage->command);
    fputs("\\fR ", file);
    put(file, usage->line);
    fputs("\n.PP\n", file);
    put(file, usage->what);
    fputc('\n', file);
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if (s->kind == 0) {
            fputs(".PP\n", file);
            put(file, s->name);
            fputs(":\n", file);
        } else {
            put_option(file, s);
        }
    }
    fputs(".PP\nExample:\n.PP\n.nf\n.RS\n", file);
    put(file, usage->example);
    fputs("\n.RE\n.fi\n", file);
}

int pages_manual(FILE *file)
{
    int32_t v = usplit_version();
    fprintf(file, ".TH USPLIT 1 \"\" \"usplit %d.%d.%d\" \"User Commands\"\n", v / 10000, v / 100 % 100, v % 100);
    fputs(".SH NAME\nusplit \\- splits fluorescence images into the structures superimposed in them\n"
          ".SH SYNOPSIS\n\\fBusplit\\fR \\fICOMMAND\\fR [\\fIoptions\\fR]\n.br\n"
          "\\fBusplit help\\fR \\fICOMMAND\\fR\n.br\n\\fBusplit \\-\\-version\\fR\n"
          ".SH DESCRIPTION\nLearns from images of single structures to split images that show them superimposed.\n"
          "Results go to files and, where a command says so, to standard output;\n"
          "everything else goes to standard error. Files that exist are kept unless\n"
          "\\fB\\-\\-overwrite\\fR is given. An option's value may also follow an equals sign\n"
          "(\\fB\\-\\-batch=8\\fR), and \\fB\\-\\-\\fR ends the options.\n.PP\nThe commands:\n", file);
    for (int i = 0; i < n_all; i++) {
        fputs(".TP\n\\fB", file);
        put(file, all[i].name);
        fputs("\\fR\n", file);
        put(file, all[i].what);
        fputc('\n', file);
    }
    fputs(".SH COMMANDS\n", file);
    int rc = CLI_OK;
    for (int i = 0; rc == CLI_OK && i < n_all; i++) {
        rc = pages_ask(&all[i], put_command, file);
    }
    fputs(".SH EXIT STATUS\n.TP\n0\nDone.\n.TP\n1\nFailed: one line on standard error says what and why.\n"
          ".TP\n2\nWrong usage.\n.TP\n130\nStopped by an interrupt (Ctrl\\-C) or SIGTERM; what was said to be kept is there.\n"
          ".SH ENVIRONMENT\n.TP\nTERM\nWith \\fBdumb\\fR, progress is printed as lines, as where standard error is no\n"
          "terminal.\n", file);
    return rc;
}
