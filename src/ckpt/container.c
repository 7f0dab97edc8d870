// Reading and writing the container: POSIX file calls only. A reader sees the old file or the new one,
// whole, at any moment of a write, also after a crash or a power cut, because the new bytes get their
// name only after they are on the disk.
#include "ckpt/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/sha256.h"

// User block, little endian. Byte 0x89 and the line ends tell a file mangled by a text-mode copy.
enum { AT_MAGIC = 0, AT_FORMAT = 8, AT_BLOCK = 12, AT_LENGTH = 16, AT_DIGEST = 24, AT_RESERVED = 56 };
enum { MAGIC_BYTES = 8, TEMP_TRIES = 100, TEMP_NAME_BYTES = 64 };
static const unsigned char magic[MAGIC_BYTES] = {0x89, 'U', 'S', 'P', 'L', '\r', '\n', 0x1a};

const char *us_ckpt_shown(const char *file)
{
    enum { LONGEST = 160 };
    size_t n = strlen(file);
    return n > LONGEST ? file + n - LONGEST : file;
}

const char *us_ckpt_strerror(int error, char buffer[128])
{
    return strerror_r(error, buffer, 128); // the GNU one: may return its own constant text
}

static void put_le(unsigned char *dst, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        dst[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint64_t get_le(const unsigned char *src, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) {
        value |= (uint64_t)src[i] << (8 * i);
    }
    return value;
}

void us_ckpt_block_fill(unsigned char block[US_CKPT_BLOCK_BYTES], const void *body, size_t n_body)
{
    memset(block, 0, US_CKPT_BLOCK_BYTES);
    memcpy(block + AT_MAGIC, magic, MAGIC_BYTES);
    put_le(block + AT_FORMAT, US_CKPT_FORMAT, 4);
    put_le(block + AT_BLOCK, US_CKPT_BLOCK_BYTES, 4);
    put_le(block + AT_LENGTH, n_body, 8);
    us_sha256_of(body, n_body, block + AT_DIGEST);
}

// ---- Writing ---------------------------------------------------------------------------------------

// One replacement under way. The temporary name does not contain the real one: a name that is as long
// as the file system allows still has a temporary one.
typedef struct replacement {
    const char *file;
    char *folder;     // "." when the name has none
    const char *name; // the last component of file
    int folder_fd;
    int fd;
    char temp[TEMP_NAME_BYTES]; // in the folder; empty: none there
} replacement;

static usplit_status file_error(const char *file, const char *step, int error)
{
    char text[128];
    return us_fail(USPLIT_ERR_FILE, "%s: %s: %s", us_ckpt_shown(file), step, us_ckpt_strerror(error, text));
}

static usplit_status split_name(replacement *r, const us_allocator *a)
{
    const char *slash = strrchr(r->file, '/');
    r->name = slash ? slash + 1 : r->file;
    if (r->name[0] == '\0') {
        US_FAIL(USPLIT_ERR_FILE, "%s: the file name ends in '/'", us_ckpt_shown(r->file));
    }
    r->folder = us_strdup(a, slash ? r->file : ".");
    if (!r->folder) {
        return USPLIT_ERR_MEMORY;
    }
    if (slash) {
        size_t n = (size_t)(slash - r->file);
        r->folder[n > 0 ? n : 1] = '\0';
    }
    return USPLIT_OK;
}

static usplit_status open_temp(replacement *r)
{
    static atomic_uint counter;
    r->folder_fd = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->folder_fd < 0) {
        return file_error(r->file, "cannot open the folder", errno);
    }
    struct stat old;
    if (fstatat(r->folder_fd, r->name, &old, 0) == 0 && S_ISDIR(old.st_mode)) {
        return file_error(r->file, "cannot be replaced", EISDIR);
    }
    for (int i = 0; i < TEMP_TRIES; i++) {
        snprintf(r->temp, sizeof r->temp, ".usplit-%ld-%u.tmp", (long)getpid(),
                 atomic_fetch_add(&counter, 1));
        r->fd = openat(r->folder_fd, r->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (r->fd >= 0) {
            return USPLIT_OK;
        }
        int error = errno;
        r->temp[0] = '\0';
        if (error != EEXIST) {
            return file_error(r->file, "cannot create a temporary file beside it", error);
        }
    }
    return file_error(r->file, "cannot create a temporary file beside it", EEXIST);
}

static usplit_status write_all(replacement *r, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(r->fd, p, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return file_error(r->file, "writing", done < 0 ? errno : EIO);
        }
        p += done;
        n -= (size_t)done;
    }
    return USPLIT_OK;
}

static usplit_status sync_and_close(replacement *r)
{
    int result;
    do {
        result = fsync(r->fd);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return file_error(r->file, "syncing to disk", errno);
    }
    int fd = r->fd;
    r->fd = -1;
    if (close(fd) != 0 && errno != EINTR) {
        return file_error(r->file, "closing", errno); // network file systems report a full disk here
    }
    return USPLIT_OK;
}

static usplit_status put_in_place(replacement *r)
{
    if (renameat(r->folder_fd, r->temp, r->folder_fd, r->name) != 0) {
        return file_error(r->file, "renaming the temporary file", errno);
    }
    r->temp[0] = '\0';
    // Some file systems cannot sync a folder and say EINVAL: nothing better can be done there.
    if (fsync(r->folder_fd) != 0 && errno != EINVAL && errno != EINTR) {
        return file_error(r->file, "the new file is in place, but syncing its folder failed", errno);
    }
    return USPLIT_OK;
}

usplit_status us_ckpt_container_write(const us_allocator *a, const char *file, const void *body,
                                      size_t n_body)
{
    unsigned char block[US_CKPT_BLOCK_BYTES];
    replacement r = {.file = file, .folder_fd = -1, .fd = -1};
    usplit_status status;
    US_TRY_GOTO(split_name(&r, a));
    US_TRY_GOTO(open_temp(&r));
    us_ckpt_block_fill(block, body, n_body);
    US_TRY_GOTO(write_all(&r, block, sizeof block));
    US_TRY_GOTO(write_all(&r, body, n_body));
    US_TRY_GOTO(sync_and_close(&r));
    US_TRY_GOTO(put_in_place(&r));
done:
    if (r.fd >= 0) {
        close(r.fd);
    }
    if (r.temp[0] != '\0') {
        unlinkat(r.folder_fd, r.temp, 0);
    }
    if (r.folder_fd >= 0) {
        close(r.folder_fd);
    }
    us_free(a, r.folder);
    return status;
}

// ---- Reading ---------------------------------------------------------------------------------------

usplit_status us_ckpt_open_regular(int *fd, uint64_t *size, const char *file)
{
    *fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) {
        return file_error(file, "cannot open", errno);
    }
    struct stat info;
    const char *why = NULL;
    if (fstat(*fd, &info) != 0) {
        why = "its size cannot be told";
    } else if (S_ISDIR(info.st_mode)) {
        why = "is a folder, not a file";
    } else if (!S_ISREG(info.st_mode)) {
        why = "is not a regular file";
    }
    if (why) {
        close(*fd);
        *fd = -1;
        US_FAIL(USPLIT_ERR_FILE, "%s: %s", us_ckpt_shown(file), why);
    }
    *size = (uint64_t)info.st_size;
    return USPLIT_OK;
}

static usplit_status read_all(int fd, const char *file, void *dst, size_t n)
{
    char *p = dst;
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return file_error(file, "reading", errno);
        }
        if (got == 0) {
            US_FAIL(USPLIT_ERR_FILE, "%s: became shorter while it was read", us_ckpt_shown(file));
        }
        p += got;
        n -= (size_t)got;
    }
    return USPLIT_OK;
}

// The order matters: a newer format may have changed everything after the version.
static usplit_status check_block(const unsigned char *block, uint64_t size, const char *file)
{
    const char *shown = us_ckpt_shown(file);
    if (memcmp(block + AT_MAGIC, magic, MAGIC_BYTES) != 0) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: not a libusplit checkpoint (its first 8 bytes are others)", shown);
    }
    unsigned format = (unsigned)get_le(block + AT_FORMAT, 4);
    if (format > US_CKPT_FORMAT) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: written by a newer version (format %u; this library reads up to %d)",
                shown, format, US_CKPT_FORMAT);
    }
    if (format < 1) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: format is %u; accepted: 1 to %d", shown, format, US_CKPT_FORMAT);
    }
    unsigned n_block = (unsigned)get_le(block + AT_BLOCK, 4);
    if (n_block != US_CKPT_BLOCK_BYTES) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: the user block has %u bytes; accepted: %d", shown, n_block,
                US_CKPT_BLOCK_BYTES);
    }
    for (int i = AT_RESERVED; i < US_CKPT_BLOCK_BYTES; i++) {
        if (block[i] != 0) {
            US_FAIL(USPLIT_ERR_FORMAT, "%s: reserved byte %d is %d; accepted: 0", shown, i, block[i]);
        }
    }
    unsigned long long length = get_le(block + AT_LENGTH, 8), found = size - US_CKPT_BLOCK_BYTES;
    if (length != found) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: %s: %llu bytes of HDF5 where the header says %llu", shown,
                found < length ? "truncated" : "bytes were appended", found, length);
    }
    return USPLIT_OK;
}

usplit_status us_ckpt_container_read(unsigned char **body, size_t *n_body, const us_allocator *a,
                                     const char *file)
{
    unsigned char block[US_CKPT_BLOCK_BYTES], digest[US_SHA256_BYTES];
    unsigned char *bytes = NULL;
    uint64_t size;
    int fd;
    *body = NULL;
    US_TRY(us_ckpt_open_regular(&fd, &size, file));
    usplit_status status;
    if (size < US_CKPT_BLOCK_BYTES || size - US_CKPT_BLOCK_BYTES > US_CKPT_MAX_BYTES) {
        status = us_fail(USPLIT_ERR_FORMAT, "%s: has %llu bytes; accepted: %d to %llu", us_ckpt_shown(file),
                         (unsigned long long)size, US_CKPT_BLOCK_BYTES,
                         (unsigned long long)US_CKPT_MAX_BYTES + US_CKPT_BLOCK_BYTES);
        goto done;
    }
    US_TRY_GOTO(read_all(fd, file, block, sizeof block));
    US_TRY_GOTO(check_block(block, size, file));
    *n_body = (size_t)(size - US_CKPT_BLOCK_BYTES);
    bytes = us_alloc(a, *n_body, 1);
    if (!bytes) {
        status = USPLIT_ERR_MEMORY;
        goto done;
    }
    US_TRY_GOTO(read_all(fd, file, bytes, *n_body));
    us_sha256_of(bytes, *n_body, digest);
    if (memcmp(digest, block + AT_DIGEST, sizeof digest) != 0) {
        status =
            us_fail(USPLIT_ERR_FORMAT, "%s: altered or damaged (its SHA-256 is not the one in its header)",
                    us_ckpt_shown(file));
        goto done;
    }
    *body = bytes;
    bytes = NULL;
done:
    close(fd);
    us_free(a, bytes);
    return status;
}
