// What is made from the tables of all commands at once: the manual page and the completion of shells. Every command is
// asked for its table by --help, so that there is one definition of an option.
#ifndef CLI_PAGES_H
#define CLI_PAGES_H

#include <stdio.h>

#include "cli/args.h"

typedef struct command {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} command;

// The commands there are; kept, not copied.
void pages_commands(const command *commands, int n);
int pages_n_commands(void);
const command *pages_command(int i);
// Gives the command's table to `see`.
int pages_ask(const command *c, void (*see)(const arg_usage *usage, const arg_spec *specs, void *user), void *user);

// usplit.1, for man.
int pages_manual(FILE *file);

#endif
