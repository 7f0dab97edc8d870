// usplit completion: what bash, zsh and fish need to complete commands, options and their choices, from the commands'
// own tables.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/image/pages.h"

static const arg_usage usage = {
    "completion", "bash|zsh|fish",
    "Prints a script for the shell. `make install` puts the one for bash in its place; else load it from\n"
    "the shell's start-up file: source <(usplit completion bash), or usplit completion fish | source.",
    "usplit completion bash > ~/.local/share/bash-completion/completions/usplit",
};

static int is_path(const arg_spec *s)
{
    return (s->kind == ARG_TEXT || s->kind == ARG_LIST) && s->value != NULL &&
           (strstr(s->value, "PATH") != NULL || strstr(s->value, "FILE") != NULL || strstr(s->value, "FOLDER") != NULL);
}

// The choices with blanks between.
static void put_choices(FILE *file, const char *choices)
{
    for (const char *p = choices; *p != '\0'; p++) {
        fputc(*p == '|' ? ' ' : *p, file);
    }
}

static void put_names(FILE *file)
{
    for (int i = 0; i < pages_n_commands(); i++) {
        fprintf(file, "%s ", pages_command(i)->name);
    }
    fputs("help", file);
}

// ---- bash, and zsh by its emulation --------------------------------------------------------------------

// "'train --batch' | 'train -b'", the word that is being completed comes after it
static void put_case(FILE *file, const char *name, const arg_spec *s)
{
    fprintf(file, "    '%s %s'", name, s->name);
    if (s->alias != NULL) {
        fprintf(file, " | '%s %s'", name, s->alias);
    }
    fputc(')', file);
}

static void bash_values(const arg_usage *u, const arg_spec *specs, void *user)
{
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if (s->kind == 0 || s->kind == ARG_FLAG) {
            continue;
        }
        put_case(user, u->command, s);
        if (s->kind == ARG_CHOICE) {
            fputs(" words='", user);
            put_choices(user, s->value);
            fputs("' ;;\n", user);
        } else {
            fputs(is_path(s) ? " return ;;\n" : " compopt +o default 2> /dev/null; return ;;\n", user);
        }
    }
}

static void bash_options(const arg_usage *u, const arg_spec *specs, void *user)
{
    fprintf(user, "    %s) words='--help", u->command);
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if (s->kind != 0) {
            fprintf(user, " %s", s->name);
        }
    }
    fputs("' ;;\n", user);
}

static int print_bash(FILE *file)
{
    int rc = CLI_OK;
    fputs("# Completion of the usplit program for bash; made by: usplit completion bash\n"
          "_usplit()\n{\n"
          "    local now=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} words=''\n"
          "    COMPREPLY=()\n"
          "    if [ \"$now\" = '=' ]; then     # --option=, split by bash at the equals sign\n"
          "        now=''\n"
          "    elif [ \"$option\" = '=' ]; then\n"
          "        option=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '", file);
    put_names(file);
    fputs(" --version --help' -- \"$now\"))\n        return\n    fi\n"
          "    case \"${COMP_WORDS[1]} $option\" in\n    'help help') words='", file);
    put_names(file);
    fputs(" --man' ;;\n    'completion completion') words='bash zsh fish' ;;\n", file);
    for (int i = 0; rc == CLI_OK && i < pages_n_commands(); i++) {
        rc = pages_ask(pages_command(i), bash_values, file);
    }
    fputs("    *)\n        [ \"${now#-}\" != \"$now\" ] || return     # files\n        case \"${COMP_WORDS[1]}\" in\n", file);
    for (int i = 0; rc == CLI_OK && i < pages_n_commands(); i++) {
        rc = pages_ask(pages_command(i), bash_options, file);
    }
    fputs("        esac ;;\n    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$now\"))\n}\n"
          "complete -o default -F _usplit usplit\n", file);
    return rc;
}

static int print_zsh(FILE *file)
{
    fputs("#compdef usplit\nautoload -U +X bashcompinit && bashcompinit\n", file);
    return print_bash(file);
}

// ---- fish ---------------------------------------------------------------------------------------------

// In single quotes.
static void fish_text(FILE *file, const char *text)
{
    fputc('\'', file);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\'' || *p == '\\') {
            fputc('\\', file);
        }
        fputc(*p, file);
    }
    fputc('\'', file);
}

static void fish_options(const arg_usage *u, const arg_spec *specs, void *user)
{
    FILE *file = user;
    for (const arg_spec *s = specs; s->name != NULL; s++) {
        if (s->kind == 0) {
            continue;
        }
        const char *names[] = {s->name, s->alias};
        fprintf(file, "complete -c usplit -n '__fish_seen_subcommand_from %s'", u->command);
        for (int i = 0; i < 2 && names[i] != NULL; i++) {
            int is_long = strncmp(names[i], "--", 2) == 0;
            fprintf(file, " -%c %s", is_long ? 'l' : 's', names[i] + (is_long ? 2 : 1));
        }
        if (s->kind == ARG_CHOICE) {
            fputs(" -x -a '", file);
            put_choices(file, s->value);
            fputc('\'', file);
        } else if (s->kind != ARG_FLAG) {
            fputs(is_path(s) ? " -r -F" : " -x", file);
        }
        fputs(" -d ", file);
        fish_text(file, s->help);
        fputc('\n', file);
    }
}

static int print_fish(FILE *file)
{
    int rc = CLI_OK;
    fputs("# Completion of the usplit program for fish; made by: usplit completion fish\n", file);
    for (int i = 0; i < pages_n_commands(); i++) {
        fprintf(file, "complete -c usplit -n __fish_use_subcommand -f -a %s -d ", pages_command(i)->name);
        fish_text(file, pages_command(i)->what);
        fputc('\n', file);
    }
    for (int i = 0; rc == CLI_OK && i < pages_n_commands(); i++) {
        rc = pages_ask(pages_command(i), fish_options, file);
    }
    return rc;
}

int cmd_completion(int argc, char **argv)
{
    static const arg_spec specs[] = {{NULL, NULL, 0, NULL, 0, 0, NULL, NULL}};
    arg_list rest;
    int rc = args_parse(&usage, specs, argc, argv, &rest);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    const char *shell = rest.n == 1 ? rest.items[0] : "";
    return strcmp(shell, "bash") == 0 ? print_bash(stdout) :
           strcmp(shell, "zsh") == 0  ? print_zsh(stdout) :
           strcmp(shell, "fish") == 0 ? print_fish(stdout) :
           cli_error(CLI_USAGE, "for which shell? bash, zsh and fish are known, not '%s'", shell);
}
