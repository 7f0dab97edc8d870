// The error line, memory, clock and signals of the usplit program.
#include "cli/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char error_line[1024];
static const char *memory_advice = "";
static usplit_status last_status;

int cli_error(int code, const char *fmt, ...)
{
    if (error_line[0] == '\0') {
        va_list args;
        va_start(args, fmt);
        vsnprintf(error_line, sizeof error_line, fmt, args);
        va_end(args);
        for (char *p = error_line; *p != '\0'; p++) {
            if (*p == '\n' || *p == '\r') {
                *p = ' ';
            }
        }
    }
    return code;
}

const char *cli_error_line(void)
{
    return error_line;
}

void cli_error_clear(void)
{
    error_line[0] = '\0';
    last_status = USPLIT_OK;
}

int cli_was_refused(void)
{
    return last_status == USPLIT_ERR_ARGUMENT || last_status == USPLIT_ERR_SHAPE ||
           last_status == USPLIT_ERR_UNSUPPORTED || last_status == USPLIT_ERR_MEMORY ||
           last_status == USPLIT_ERR_BUDGET;
}

void cli_advise_memory(const char *advice)
{
    memory_advice = advice;
}

int cli_status(usplit_status status)
{
    if (status == USPLIT_OK) {
        return CLI_OK;
    }
    last_status = error_line[0] == '\0' ? status : last_status;
    if (status == USPLIT_ERR_CANCELLED) {
        return cli_error(CLI_CANCELLED, "stopped");
    }
    const char *message = usplit_error_message();
    if (message[0] == '\0') {
        message = usplit_status_name(status);
    }
    int short_of_memory = status == USPLIT_ERR_MEMORY || status == USPLIT_ERR_BUDGET;
    if (short_of_memory && memory_advice[0] != '\0' && strstr(message, "helps") == NULL) {
        return cli_error(CLI_FAILED, "%s (what helps: %s)", message, memory_advice);
    }
    return cli_error(CLI_FAILED, "%s", message);
}

void *cli_alloc(size_t count, size_t size)
{
    void *block = NULL;
    if (size == 0 || count <= (size_t)PTRDIFF_MAX / size) {
        block = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    }
    if (block == NULL) {
        cli_error(CLI_FAILED, "out of memory: %.1f MB asked for", (double)count * (double)size / 1e6);
    }
    return block;
}

char *cli_format(const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    char *text = length >= 0 ? malloc((size_t)length + 1) : NULL;
    if (text == NULL) {
        fputs("usplit: out of memory\n", stderr);
        exit(CLI_FAILED);
    }
    vsnprintf(text, (size_t)length + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Written before the handlers are set and read by them: one at a time.
static void (*volatile signal_cancel)(void *);
static void *volatile signal_handle;
static volatile sig_atomic_t signal_came;

static void on_signal(int number)
{
    (void)number;
    signal_came = 1;
    if (signal_cancel != NULL) {
        signal_cancel(signal_handle);
    }
}

void cli_on_signal(void (*cancel)(void *), void *handle)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_DFL;
    if (cancel == NULL) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        signal_cancel = NULL;
        return;
    }
    signal_cancel = NULL;
    signal_came = 0;
    signal_handle = handle;
    signal_cancel = cancel;
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESETHAND | SA_RESTART;    // the second signal finds the default action
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int cli_stopped(void)
{
    return signal_came ? cli_error(CLI_CANCELLED, "stopped") : CLI_OK;
}
