// A run in a process of its own: its peak of memory is its own, and what ends it (a refusal, a full disk, the kernel
// short of memory) ends one row. Ctrl-C reaches both processes; the child stops its training and saves, the parent
// waits for it.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "cli/cli.h"
#include "cli/repro/repro.h"

static volatile sig_atomic_t stopped;
static volatile pid_t child_process;

// A terminal's Ctrl-C has reached the child already; a signal that some process sent to this one has not.
static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    stopped = 1;
    if (info->si_code <= 0 && child_process > 0) {
        kill(child_process, number);
    }
}

static void set_handler(int watch)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    if (watch) {
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO;
    } else {
        action.sa_handler = SIG_DFL;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void hold_signals(int hold)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static _Noreturn void be_child(const repro_request *request, const repro_run *run, int pipe_end, pid_t parent)
{
    set_handler(0);
    hold_signals(0);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);       // no run goes on when the command is gone
#endif
    if (getppid() != parent) {
        _exit(CLI_CANCELLED);
    }
    int rc = run->row->kind == REPRO_DOUBLE_DIP ? repro_dip_run(request, run) : repro_run_here(request, run);
    const char *line = cli_error_line();
    size_t n = strlen(line);
    if (rc != CLI_OK && write(pipe_end, line, n) != (ssize_t)n) {
        rc = CLI_FAILED;
    }
    fflush(stderr);
    _exit(rc == CLI_FAILED && cli_was_refused() ? REPRO_REFUSED : rc);
}

static void read_reason(int pipe_end, char *reason, size_t size)
{
    size_t n = 0;
    ssize_t got;
    char rest[64];
    while ((got = n + 1 < size ? read(pipe_end, reason + n, size - 1 - n) : read(pipe_end, rest, sizeof rest)) != 0) {
        if (got > 0 && n + 1 < size) {
            n += (size_t)got;
        } else if (got < 0 && errno != EINTR) {
            break;
        }
    }
    reason[n] = '\0';
}

// The child's exit status as ours, with the reason where it gave none.
static int judge(repro_run *run, int status)
{
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        if (stopped || number == SIGINT || number == SIGTERM) {
            return CLI_CANCELLED;
        }
        snprintf(run->reason, sizeof run->reason, "ended by signal %d%s", number,
                 number == SIGKILL ? " (the system may have been short of memory)" : "");
        return CLI_FAILED;
    }
    int code = WEXITSTATUS(status);
    if (code != CLI_OK && code != CLI_CANCELLED && run->reason[0] == '\0') {
        snprintf(run->reason, sizeof run->reason, "ended with status %d", code);
    }
    return code == REPRO_REFUSED ? CLI_OK : code == CLI_OK || code == CLI_CANCELLED ? code : CLI_FAILED;
}

int repro_run_child(const repro_request *request, repro_run *run)
{
    int ends[2], status = 0, rc;
    pid_t parent = getpid();
    run->reason[0] = '\0';
    if (pipe(ends) != 0) {
        return cli_error(CLI_FAILED, "cannot start a run: %s", strerror(errno));
    }
    fflush(stdout);
    fflush(stderr);
    hold_signals(1);
    set_handler(1);
    child_process = fork();
    if (child_process == 0) {
        close(ends[0]);
        be_child(request, run, ends[1], parent);
    }
    int code = errno;
    hold_signals(0);
    close(ends[1]);
    if (child_process < 0) {
        rc = cli_error(CLI_FAILED, "cannot start a run: %s", strerror(code));
    } else {
        read_reason(ends[0], run->reason, sizeof run->reason);
        while (waitpid(child_process, &status, 0) < 0 && errno == EINTR) {
        }
        rc = judge(run, status);
    }
    close(ends[0]);
    child_process = 0;
    set_handler(0);
    return stopped ? CLI_CANCELLED : rc;
}
