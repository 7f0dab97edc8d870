// HDF5's row in the table of image kinds. A file is read by a process of its own, which answers over a socket: a
// damaged file that crashes, hangs or bloats the HDF5 library ends that process, and here becomes a line. No other
// thread uses HDF5 while images are opened, so the forked process finds the library's lock free.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/image/hdf5_reader.h"

enum { PIECE_BYTES = 16 << 20, REQUEST_SECONDS = 300 };
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)    // sanitizers reserve far more
// Memory the reading process may take beyond what it starts with: one chunk decoded, and the caches.
static const int64_t max_memory = (int64_t)4 << 30;
#endif

typedef struct request {        // rows of a page
    int64_t page, row, n_rows;
} request;

typedef struct answer {         // rows follow where rc is 0
    int rc;
    char line[512];
} answer;

typedef struct hdf5_file {
    pid_t process;
    int socket;
    char *path;
    image_facts facts;
} hdf5_file;

static int send_all(int socket, const void *src, size_t n)
{
    const char *p = src;
    while (n > 0) {
        ssize_t done = send(socket, p, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return 0;
        }
        p += done;
        n -= (size_t)done;
    }
    return 1;
}

static int receive_all(int socket, void *dst, size_t n)
{
    char *p = dst;
    while (n > 0) {
        ssize_t done = recv(socket, p, n, 0);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return 0;
        }
        p += done;
        n -= (size_t)done;
    }
    return 1;
}

// ---- The reading process ----------------------------------------------------------------------------

static void limit_process(void)
{
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDERR_FILENO);      // what a library prints as it dies
    }
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    static const int deaths[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
        signal(deaths[i], SIG_DFL);     // not the handlers of the program it comes from
    }
    signal(SIGINT, SIG_IGN);            // it ends when the program closes the socket
    signal(SIGTERM, SIG_IGN);
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%lld", &pages) == 1) {
            rlim_t most = (rlim_t)(pages * sysconf(_SC_PAGESIZE) + max_memory);
            struct rlimit memory = {most, most};
            setrlimit(RLIMIT_AS, &memory);
        }
        fclose(f);
    }
#endif
}

// The kernel ends the process when one piece of work takes too much processor time.
static void begin_work(void)
{
    struct itimerval timer = {.it_value = {.tv_sec = REQUEST_SECONDS}};
    setitimer(ITIMER_PROF, &timer, NULL);
}

static int reply(int socket, int rc)
{
    answer a = {.rc = rc};
    snprintf(a.line, sizeof a.line, "%.500s", rc != 0 ? cli_error_line() : "");
    cli_error_clear();
    return send_all(socket, &a, sizeof a);
}

static void serve(int socket, const image_choice *choice)
{
    hdf5_reader *reader = NULL;
    image_facts facts = {0};
    request q;
    limit_process();
    cli_error_clear();
    begin_work();
    int rc = hdf5_reader_open(&reader, choice, &facts);
    if (!reply(socket, rc) || rc != 0 || !send_all(socket, &facts, sizeof facts)) {
        return;
    }
    while (receive_all(socket, &q, sizeof q)) {
        begin_work();
        size_t n = (size_t)(q.n_rows * facts.width);
        float *rows = cli_alloc(n, sizeof *rows);
        rc = rows != NULL ? hdf5_reader_rows(reader, q.page, q.row, q.n_rows, rows) : CLI_FAILED;
        if (!reply(socket, rc) || (rc == 0 && !send_all(socket, rows, n * sizeof *rows))) {
            return;
        }
        free(rows);
    }
}

// ---- This side --------------------------------------------------------------------------------------

static void close_file(void *user)
{
    hdf5_file *file = user;
    if (file == NULL) {
        return;
    }
    if (file->socket >= 0) {
        close(file->socket);
    }
    if (file->process > 0) {
        kill(file->process, SIGKILL);
        while (waitpid(file->process, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    free(file->path);
    free(file);
}

static int take_answer(hdf5_file *file)
{
    answer a;
    if (!receive_all(file->socket, &a, sizeof a)) {
        return cli_error(CLI_FAILED, "%s: damaged: the HDF5 library failed on it", file->path);
    }
    a.line[sizeof a.line - 1] = '\0';
    return a.rc == 0 ? CLI_OK : cli_error(a.rc, "%s", a.line);
}

static int open_file(void **out, const image_choice *choice)
{
    int rc, ends[2] = {-1, -1};
    *out = NULL;
    hdf5_file *file = cli_alloc(1, sizeof *file);
    if (file == NULL) {
        return CLI_FAILED;
    }
    file->socket = -1;
    file->path = cli_format("%s", choice->path);
    CLI_TRY(files_check_regular(file->path, NULL));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        rc = cli_error(CLI_FAILED, "%s: cannot be opened: %s", file->path, strerror(errno));
        goto done;
    }
    file->socket = ends[0];
    file->process = fork();
    if (file->process == 0) {
        close(ends[0]);
        serve(ends[1], choice);
        _exit(0);
    }
    close(ends[1]);
    if (file->process < 0) {
        rc = cli_error(CLI_FAILED, "%s: no process to read it: %s", file->path, strerror(errno));
        goto done;
    }
    CLI_TRY(take_answer(file));
    if (!receive_all(file->socket, &file->facts, sizeof file->facts)) {
        rc = cli_error(CLI_FAILED, "%s: damaged: the HDF5 library failed on it", file->path);
        goto done;
    }
    *out = file;
    file = NULL;
done:
    close_file(file);
    return rc;
}

static void info(const void *user, image_facts *facts)
{
    *facts = ((const hdf5_file *)user)->facts;
}

static int page_size(void *user, int64_t page, int64_t *height, int64_t *width)
{
    const hdf5_file *file = user;
    *height = file->facts.height;
    *width = file->facts.width;
    return page >= 0 && page < file->facts.pages
               ? CLI_OK
               : cli_error(CLI_FAILED, "%s: no page %lld; it has %lld", file->path, (long long)page + 1,
                           (long long)file->facts.pages);
}

static int read_rows(void *user, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    hdf5_file *file = user;
    int64_t height, width, row_bytes = 4 * file->facts.width;
    int64_t most = row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 1;
    int rc;
    CLI_TRY(page_size(file, page, &height, &width));
    if (row < 0 || n_rows < 0 || n_rows > height || row > height - n_rows) {
        return cli_error(CLI_FAILED, "%s: rows outside the page asked for", file->path);
    }
    while (n_rows > 0) {
        request q = {page, row, n_rows < most ? n_rows : most};
        send_all(file->socket, &q, sizeof q);
        CLI_TRY(take_answer(file));
        if (!receive_all(file->socket, dst, (size_t)(q.n_rows * row_bytes))) {
            return cli_error(CLI_FAILED, "%s: damaged: the HDF5 library failed on it", file->path);
        }
        row += q.n_rows;
        n_rows -= q.n_rows;
        dst += q.n_rows * width;
    }
done:
    return rc;
}

static const char *const endings[] = {".h5", ".hdf5", NULL};

const image_kind hdf5_kind = {
    .endings = endings,
    .has_inside = 1,
    .open = open_file,
    .close = close_file,
    .info = info,
    .page_size = page_size,
    .read_rows = read_rows,
};
