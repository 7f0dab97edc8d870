// src/ckpt when the world fails: every file call once, a disk that fills up, interrupted and short writes,
// no rights, a killed process, every allocation once. After each: the right status, a message that names
// the file and the step, the old file whole, no temporary file, no open descriptor, no memory held.
//
// The file calls are made to fail by defining them here: the program's own functions come before libc's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <hdf5.h>

#include "ckpt/ckpt.h"
#include "common/folder.h"

// ---- File calls that can fail ------------------------------------------------------------------------

static struct {
    int armed;
    int n_calls, fail_at, error; // the fail_at-th call (from 1) fails with error; 0: none
    long room;                   // bytes left on the disk; negative: no limit
    int short_writes;            // every write takes few bytes, every other one is interrupted
    int n_writes;
} disk = {.room = -1};

static int fails_now(void)
{
    if (disk.armed && ++disk.n_calls == disk.fail_at) {
        errno = disk.error;
        return 1;
    }
    return 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return fails_now() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder_fd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return fails_now() ? -1 : (int)syscall(SYS_openat, folder_fd, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (fails_now()) {
        return -1;
    }
    if (disk.armed && disk.short_writes) {
        if (++disk.n_writes % 2 == 0) {
            errno = EINTR;
            return -1;
        }
        n = n > 777 ? 777 : n;
    }
    if (disk.armed && disk.room >= 0) {
        if (disk.room == 0 && n > 0) {
            errno = ENOSPC;
            return -1;
        }
        n = n > (size_t)disk.room ? (size_t)disk.room : n;
        disk.room -= (long)n;
    }
    return (ssize_t)syscall(SYS_write, fd, bytes, n);
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return fails_now() ? -1 : (ssize_t)syscall(SYS_read, fd, bytes, n);
}

int fsync(int fd)
{
    return fails_now() ? -1 : (int)syscall(SYS_fsync, fd);
}

// As on Linux: the descriptor is gone even when close reports an error.
int close(int fd)
{
    int fail = fails_now(), error = errno;
    int result = (int)syscall(SYS_close, fd);
    if (fail) {
        errno = error;
        return -1;
    }
    return result;
}

int renameat(int old_fd, const char *old_path, int new_fd, const char *new_path)
{
    return fails_now() ? -1 : (int)syscall(SYS_renameat2, old_fd, old_path, new_fd, new_path, 0);
}

static void disarm(void)
{
    memset(&disk, 0, sizeof disk);
    disk.room = -1;
}

// ---- Helpers -----------------------------------------------------------------------------------------

static const char *file;

static int set_up(void **state)
{
    int failed = make_folder(state);
    file = in_folder("model.h5");
    return failed;
}

static int tear_down(void **state)
{
    disarm();
    return remove_folder(state);
}

static int count_names(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n - 2; // . and ..
}

enum { N_VALUES = 5000 };

// The checkpoint of generation g: all values are g, so a mixture of two would show.
static usplit_status write_generation(const us_allocator *a, const char *path, int64_t g)
{
    static double values[N_VALUES];
    for (int i = 0; i < N_VALUES; i++) {
        values[i] = (double)g;
    }
    const us_ckpt_entry entries[] = {
        {.path = "trainer/step", .type = US_CKPT_I64, .data = &g},
        {.path = "parameters/w", .type = US_CKPT_F64, .n_dims = 2, .dims = {50, 100}, .data = values},
        {.path = "model/note", .type = US_CKPT_TEXT, .n_dims = 1, .dims = {4}, .data = "note"},
    };
    return us_ckpt_write(a, path, entries, 3);
}

static usplit_status read_generation(int64_t *g, const us_allocator *a, const char *path)
{
    static double values[N_VALUES];
    const int64_t dims[2] = {50, 100};
    us_ckpt *ckpt;
    *g = -1;
    US_TRY(us_ckpt_open(&ckpt, a, path));
    usplit_status status = us_ckpt_read(ckpt, "trainer/step", US_CKPT_I64, 0, NULL, g);
    if (status == USPLIT_OK) {
        status = us_ckpt_read(ckpt, "parameters/w", US_CKPT_F64, 2, dims, values);
    }
    us_ckpt_close(ckpt);
    for (int i = 0; status == USPLIT_OK && i < N_VALUES; i++) {
        assert_true(values[i] == (double)*g);
    }
    return status;
}

static void check_generation(int64_t expected)
{
    int64_t g;
    assert_int_equal(read_generation(&g, NULL, file), USPLIT_OK);
    assert_int_equal(g, expected);
    assert_int_equal(count_names(folder), 1);
}

// ---- Failing file calls ------------------------------------------------------------------------------

static void every_file_call_of_a_write_fails_once(void **state)
{
    (void)state;
    size_t live = us_alloc_live();
    int n_fds = count_names("/proc/self/fd"), k, n_failed = 0;
    int64_t on_disk = 1;
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    for (k = 1;; k++) {
        disk.armed = 1, disk.fail_at = k, disk.error = EIO;
        usplit_status status = write_generation(NULL, file, k + 1);
        int reached = disk.n_calls >= k;
        disarm();
        int in_place = strstr(usplit_error_message(), "in place") != NULL;
        if (status == USPLIT_OK || in_place) {
            on_disk = k + 1;
        }
        if (status != USPLIT_OK) {
            n_failed++;
            assert_int_equal(status, USPLIT_ERR_FILE);
            assert_non_null(strstr(usplit_error_message(), "model.h5: "));
            assert_non_null(strstr(usplit_error_message(), "Input/output error"));
        }
        check_generation(on_disk);
        assert_int_equal(us_alloc_live(), live);
        assert_int_equal(count_names("/proc/self/fd"), n_fds);
        us_fail(USPLIT_OK, "-");
        if (!reached) {
            break;
        }
    }
    assert_int_equal(n_failed, 8); // folder, file, two writes, fsync, close, rename, fsync of the folder
}

static void every_file_call_of_an_open_fails_once(void **state)
{
    (void)state;
    size_t live = us_alloc_live();
    int n_fds = count_names("/proc/self/fd"), n_failed = 0;
    int64_t g;
    assert_int_equal(write_generation(NULL, file, 5), USPLIT_OK);
    for (int k = 1;; k++) {
        disk.armed = 1, disk.fail_at = k, disk.error = EIO;
        usplit_status status = read_generation(&g, NULL, file);
        int reached = disk.n_calls >= k;
        disarm();
        if (status != USPLIT_OK) {
            n_failed++;
            assert_int_equal(status, USPLIT_ERR_FILE);
            assert_non_null(strstr(usplit_error_message(), "Input/output error"));
        }
        assert_int_equal(us_alloc_live(), live);
        assert_int_equal(count_names("/proc/self/fd"), n_fds);
        if (!reached) {
            break;
        }
    }
    assert_int_equal(n_failed, 3); // open, two reads
    check_generation(5);
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    struct stat info;
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    assert_int_equal(stat(file, &info), 0);
    for (long room = 0; room < info.st_size; room += info.st_size / 37 + 1) {
        disk.armed = 1, disk.room = room;
        usplit_status status = write_generation(NULL, file, 2);
        disarm();
        assert_int_equal(status, USPLIT_ERR_FILE);
        assert_non_null(strstr(usplit_error_message(), "model.h5: writing: No space left on device"));
        check_generation(1);
    }
    disk.armed = 1, disk.room = info.st_size;
    assert_int_equal(write_generation(NULL, file, 2), USPLIT_OK);
    disarm();
    check_generation(2);
}

static void short_and_interrupted_writes_go_on(void **state)
{
    (void)state;
    disk.armed = 1, disk.short_writes = 1;
    assert_int_equal(write_generation(NULL, file, 3), USPLIT_OK);
    assert_true(disk.n_writes > 50);
    disarm();
    check_generation(3);
}

static void a_size_limit_keeps_the_old_file(void **state)
{
    (void)state;
    struct rlimit old, small;
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 10000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    usplit_status status = write_generation(NULL, file, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "writing: File too large"));
    check_generation(1);
}

static void places_that_cannot_be_written_are_named(void **state)
{
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/none/model.h5", folder);
    assert_int_equal(write_generation(NULL, path, 1), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "none/model.h5: cannot open the folder: No such file"));
    snprintf(path, sizeof path, "%s/", folder);
    assert_int_equal(write_generation(NULL, path, 1), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "ends in '/'"));
    assert_int_equal(write_generation(NULL, folder, 1), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "cannot be replaced: Is a directory"));
    snprintf(path, sizeof path, "%s/%0300d", folder, 1);
    assert_int_equal(write_generation(NULL, path, 1), USPLIT_ERR_FILE);
    assert_non_null(strstr(usplit_error_message(), "File name too long"));
    snprintf(path, sizeof path, "%s/%0250d", folder,
             1); // as long as a name may be: the temporary one fits too
    assert_int_equal(write_generation(NULL, path, 1), USPLIT_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(count_names(folder), 1);
}

// In a child that is not the administrator, who may write everywhere.
static void no_rights_is_a_status(void **state)
{
    (void)state;
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    assert_int_equal(chmod(folder, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534) != 0) {
            _exit(2);
        }
        usplit_status status = write_generation(NULL, file, 2);
        _exit(status == USPLIT_ERR_FILE && strstr(usplit_error_message(), "Permission denied") ? 0 : 1);
    }
    int ended = -1;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_true(WIFEXITED(ended));
    if (WEXITSTATUS(ended) == 2) {
        print_message("skipped: cannot become another user\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(ended), 0);
    check_generation(1);
}

// ---- A killed process --------------------------------------------------------------------------------

static void sleep_us(long microseconds)
{
    struct timespec t = {0, microseconds * 1000};
    nanosleep(&t, NULL);
}

static void a_killed_writer_leaves_a_whole_file(void **state)
{
    (void)state;
    int64_t first, last = 0;
    struct timespec begin, now;
    int n_kills = 0, window = 8000; // microseconds; widened while no child gets as far as one write
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    srand(20240607);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        assert_int_equal(read_generation(&first, NULL, file), USPLIT_OK);
        assert_true(first >= last);
        pid_t child = fork();
        if (child == 0) {
            for (int64_t g = first + 1;; g++) {
                if (write_generation(NULL, file, g) != USPLIT_OK) {
                    _exit(1);
                }
            }
        }
        sleep_us(rand() % window);
        kill(child, SIGKILL);
        int ended;
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended)); // no write had failed
        assert_int_equal(read_generation(&last, NULL, file), USPLIT_OK);
        assert_true(last >= first);
        window += last == first && window < 300000 ? window / 8 : 0;
        n_kills++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < 2);
    print_message("# %d kills, %lld generations\n", n_kills, (long long)last);
    assert_true(n_kills > 3 && last > 1);
    // What a kill may leave is a temporary file; the next writer is not disturbed by it.
    char command[300];
    snprintf(command, sizeof command, "rm -f '%s'/.usplit-*.tmp", folder);
    assert_int_equal(system(command), 0);
    check_generation(last);
}

// ---- Refused memory ----------------------------------------------------------------------------------

typedef struct refusing {
    int n_calls, fail_at, n_live;
} refusing;

static void *refusing_alloc(size_t bytes, void *user)
{
    refusing *r = user;
    if (++r->n_calls == r->fail_at) {
        return NULL;
    }
    r->n_live++;
    return malloc(bytes);
}

static void refusing_release(void *block, void *user)
{
    refusing *r = user;
    r->n_live--;
    free(block);
}

static usplit_status open_frames(const us_allocator *a)
{
    us_h5_frames *frames;
    int64_t dims[4];
    char path[256];
    snprintf(path, sizeof path, "%s/frames.h5", folder);
    US_TRY(us_h5_frames_open(&frames, a, path, "/frames", dims));
    us_h5_frames_close(frames);
    return USPLIT_OK;
}

static void make_frames(void)
{
    char path[256];
    hsize_t dims[4] = {1, 2, 3, 4};
    unsigned char pixels[24] = {0};
    snprintf(path, sizeof path, "%s/frames.h5", folder);
    hid_t h5 = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(4, dims, NULL);
    hid_t dataset = H5Dcreate2(h5, "frames", H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_UCHAR, H5S_ALL, H5S_ALL, H5P_DEFAULT, pixels) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Fclose(h5);
}

static void every_allocation_is_refused_once(void **state)
{
    (void)state;
    size_t live = us_alloc_live();
    make_frames();
    assert_int_equal(write_generation(NULL, file, 1), USPLIT_OK);
    for (int what = 0; what < 3; what++) {
        for (int k = 1;; k++) {
            refusing r = {0, k, 0};
            us_allocator a = {refusing_alloc, refusing_release, &r};
            int64_t g;
            usplit_status status = what == 0   ? write_generation(&a, file, 1)
                                   : what == 1 ? read_generation(&g, &a, file)
                                               : open_frames(&a);
            assert_int_equal(r.n_live, 0);
            assert_int_equal(us_alloc_live(), live);
            if (status == USPLIT_OK) {
                assert_int_equal(r.n_calls, k - 1);
                assert_true(k > 2);
                break;
            }
            assert_int_equal(status, USPLIT_ERR_MEMORY);
            assert_non_null(strstr(usplit_error_message(), "out of memory"));
        }
    }
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_call_of_a_write_fails_once),
        cmocka_unit_test(every_file_call_of_an_open_fails_once),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
        cmocka_unit_test(short_and_interrupted_writes_go_on),
        cmocka_unit_test(a_size_limit_keeps_the_old_file),
        cmocka_unit_test(places_that_cannot_be_written_are_named),
        cmocka_unit_test(no_rights_is_a_status),
        cmocka_unit_test(a_killed_writer_leaves_a_whole_file),
        cmocka_unit_test(every_allocation_is_refused_once),
    };
    return cmocka_run_group_tests_name("ckpt_fault", tests, set_up, tear_down);
}
