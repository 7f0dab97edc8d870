// What every command of the usplit program shares: exit codes, the one error line, small helpers. The
// program uses <usplit.h> only, like any host would.
//
// Functions that can fail return 0 or an exit code, and record one line that main() prints. CLI_TRY and
// CLI_LIB jump to the label `done` with the code in `rc`.
#ifndef CLI_H
#define CLI_H

#include <stddef.h>
#include <stdint.h>

#include <usplit.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CANCELLED = 130 };

#define CLI_TRY(call)           \
    do {                        \
        if ((rc = (call)) != 0) { \
            goto done;          \
        }                       \
    } while (0)
#define CLI_LIB(call) CLI_TRY(cli_status(call))

#if defined(__GNUC__)
#define CLI_PRINTF(format_at, values_at) __attribute__((format(printf, format_at, values_at)))
#else
#define CLI_PRINTF(format_at, values_at)
#endif

// Records the line to print and returns `code`. The first line recorded is kept.
int cli_error(int code, const char *fmt, ...) CLI_PRINTF(2, 3);
// The line recorded, "" when none; cli_error_clear forgets it.
const char *cli_error_line(void);
void cli_error_clear(void);

// Turns a library status into an exit code and its message into the error line. A callback of ours that
// failed has recorded its own line already, which is kept.
int cli_status(usplit_status status);
// 1 when the last failure recorded was the library's word that what was asked for cannot be: a setup that it does not
// accept, or no memory for it.
int cli_was_refused(void);
// What to advise when memory is short ("a smaller --batch"); set by the command that runs.
void cli_advise_memory(const char *advice);

// Zeroed memory for count x size bytes; NULL, with the line recorded, when refused.
void *cli_alloc(size_t count, size_t size);
// A fresh string; never NULL: a program that cannot hold a file name ends here.
char *cli_format(const char *fmt, ...) CLI_PRINTF(1, 2);

// Seconds of a clock that only goes forward.
double cli_seconds(void);

// SIGINT and SIGTERM call `cancel(handle)` once; the same signal again ends the program. NULL: as before.
void cli_on_signal(void (*cancel)(void *handle), void *handle);

// The commands; argv[0] is the first argument after the command's name.
int cmd_train(int argc, char **argv);
int cmd_split(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tiling(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_reproduce(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_dip(int argc, char **argv);
int cmd_import(int argc, char **argv);

#endif
