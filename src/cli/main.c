// The usplit program: finds the command, runs it, prints the one error line. Exit status: 0 done, 1 failed,
// 2 wrong usage, 130 stopped by Ctrl-C.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/image/pages.h"

static const command commands[] = {
    {"demo", "see it work: synthetic images, training, a picture of the result", cmd_demo},
    {"train", "learn to split from images of two or more channels", cmd_train},
    {"plan", "what a split or a training would need, before it is run", cmd_plan},
    {"split", "split images into their channels", cmd_split},
    {"merge", "put together what split --shard has written", cmd_merge},
    {"eval", "measure a model on images whose channels are known", cmd_eval},
    {"tiling-study", "measure what padding tiles does for a model", cmd_tiling},
    {"info", "what a model is, what it costs, and whether it works here", cmd_info},
    {"check", "whether a model computes here what it computed where it was written", cmd_check},
    {"calibrate", "make a model's deviations mean an error", cmd_calibrate},
    {"reproduce", "the paper's tables and figures, on the images you have", cmd_reproduce},
    {"completion", "what a shell needs to complete commands and options", cmd_completion},
    {"doctor", "what this machine offers, and whether it computes right", cmd_doctor},
    {"synth", "write synthetic images to try things on", cmd_synth},
    {"dip", "take one image apart without training (Double-DIP, a baseline)", cmd_dip},
    {"import", "a model file of a checkpoint of the published PyTorch code", cmd_import},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const command *find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static void print_help(FILE *file)
{
    fputs("usplit - splits fluorescence images into the structures superimposed in them\n\n", file);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(file, "  usplit %-13s %s\n", commands[i].name, commands[i].what);
    }
    fputs("\n  usplit help COMMAND   its options\n  usplit help --man     the manual page\n  usplit --version\n\n"
          "Start with:  usplit demo -o demo\n", file);
}

static int run(const command *c, int argc, char **argv)
{
    int rc = c->run(argc, argv);
    if (rc == CLI_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        rc = cli_error(CLI_FAILED, "cannot write to standard output");
    }
    if (rc != CLI_OK && cli_error_line()[0] != '\0') {
        fprintf(stderr, "usplit: %s: %s\n", c->name, cli_error_line());
    }
    return rc;
}

// A standard stream that was closed would give its number to the next file that is opened, and what is printed would end
// up in there. Opened so that writing fails, which is noticed.
static void hold_standard_streams(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO) {
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int printed(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("usplit: cannot write to standard output\n", stderr);
        return CLI_FAILED;
    }
    return CLI_OK;
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    signal(SIGPIPE, SIG_DFL);
    pages_commands(commands, N_COMMANDS);
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        int32_t v = usplit_version();
        printf("usplit %d.%d.%d\n", v / 10000, v / 100 % 100, v % 100);
        return printed();
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        if (argc > 2 && strcmp(argv[2], "--man") == 0) {
            int rc = pages_manual(stdout);
            return rc == CLI_OK ? printed() : rc;
        }
        const command *about = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && about == NULL) {
            fprintf(stderr, "usplit: no command '%s'; see usplit help\n", argv[2]);
            return CLI_USAGE;
        }
        if (about != NULL) {
            char help[] = "--help", *arguments[] = {help, NULL};
            return run(about, 1, arguments);
        }
        print_help(stdout);
        return printed();
    }
    const command *c = find(name);
    if (c == NULL) {
        fprintf(stderr, "usplit: no command '%s'; see usplit help\n", name);
        return CLI_USAGE;
    }
    return run(c, argc - 2, argv + 2);
}
