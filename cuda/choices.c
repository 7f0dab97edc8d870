// The choices of choices.h: a list in memory, and its file.
#include "choices.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 4 << 20, MOST_LINE = 1280, SHAPE_NUMBERS = 13 };

static const char FORMAT[] = "usplit convolutions 1";

struct us_cu_choices {
    const us_allocator *a;
    pthread_mutex_t lock;
    us_cu_choice *list;
    int n, capacity;
    int changed;                // since the file was read or written
    char *machine, *file;       // file: NULL without a folder
};

// ---- The list -----------------------------------------------------------------------------------------

static int is_like(const us_cu_choice *c, const us_cu_choice *like)
{
    return memcmp(&c->shape, &like->shape, sizeof c->shape) == 0 && c->direction == like->direction &&
           c->deterministic == like->deterministic && c->search == like->search;
}

us_cu_choice *us_cu_choices_find(us_cu_choices *choices, const us_cu_choice *like)
{
    for (int i = 0; i < choices->n; i++) {
        if (is_like(&choices->list[i], like)) {
            return &choices->list[i];
        }
    }
    return NULL;
}

static usplit_status add(us_cu_choices *choices, const us_cu_choice *choice)
{
    if (choices->n == choices->capacity) {
        int capacity = choices->capacity ? 2 * choices->capacity : 64;
        us_cu_choice *list = us_alloc(choices->a, (size_t)capacity, sizeof *list);
        if (!list) {
            return USPLIT_ERR_MEMORY;
        }
        if (choices->n > 0) {
            memcpy(list, choices->list, (size_t)choices->n * sizeof *list);
        }
        us_free(choices->a, choices->list);
        choices->list = list;
        choices->capacity = capacity;
    }
    choices->list[choices->n++] = *choice;
    return USPLIT_OK;
}

usplit_status us_cu_choices_put(us_cu_choices *choices, const us_cu_choice *choice)
{
    us_cu_choice *there = us_cu_choices_find(choices, choice);
    choices->changed = 1;
    if (there) {
        *there = *choice;
        return USPLIT_OK;
    }
    return add(choices, choice);
}

int us_cu_choices_count(const us_cu_choices *choices)
{
    return choices->n;
}

void us_cu_choices_lock(us_cu_choices *choices)
{
    pthread_mutex_lock(&choices->lock);
}

void us_cu_choices_unlock(us_cu_choices *choices)
{
    pthread_mutex_unlock(&choices->lock);
}

const char *us_cu_choices_file(const us_cu_choices *choices)
{
    return choices->file;
}

// ---- Text of a choice ---------------------------------------------------------------------------------

// FNV-1a, 64 bits: against accidents, not against intent.
static uint64_t checksum(const char *text, size_t n)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        sum = (sum ^ (unsigned char)text[i]) * 0x100000001b3u;
    }
    return sum;
}

static void shape_numbers(const us_cu_shape *s, int numbers[SHAPE_NUMBERS])
{
    const int all[SHAPE_NUMBERS] = {s->batch, s->ci, s->co, s->k, s->stride, s->transposed, s->in_h,
                                    s->in_w, s->out_h, s->out_w, s->top, s->left, s->half};
    memcpy(numbers, all, sizeof all);
}

// "12 34 ... plain 2 5 6\n": the shape, direction, deterministic, search, the recipe.
static size_t write_choice(const us_cu_choice *c, char *text, size_t size)
{
    int numbers[SHAPE_NUMBERS];
    size_t n = 0;
    shape_numbers(&c->shape, numbers);
    for (int i = 0; i < SHAPE_NUMBERS; i++) {
        n += (size_t)snprintf(text + n, size - n, "%d ", numbers[i]);
    }
    n += (size_t)snprintf(text + n, size - n, "%d %d %d %s %d", (int)c->direction, c->deterministic, c->search,
                          c->recipe.library, c->recipe.n);
    for (int i = 0; i < c->recipe.n; i++) {
        n += (size_t)snprintf(text + n, size - n, " %" PRId64, c->recipe.words[i]);
    }
    return n + (size_t)snprintf(text + n, size - n, "\n");
}

// The next number of *at, which is followed by a blank or the line's end; *ok becomes 0 where there is none.
static int64_t read_number(const char **at, int64_t low, int64_t high, int *ok)
{
    char *end = NULL;
    const char *text = *at;
    *ok = *ok && (*text == '-' || (*text >= '0' && *text <= '9'));
    if (!*ok) {
        return 0;
    }
    errno = 0;
    long long value = strtoll(text, &end, 10);
    *ok = errno == 0 && value >= low && value <= high && (*end == ' ' || *end == '\0');
    *at = *end == ' ' ? end + 1 : end;
    return *ok ? (int64_t)value : 0;
}

static int read_choice(const char *text, us_cu_choice *c)
{
    us_cu_shape *s = &c->shape;
    int *const numbers[SHAPE_NUMBERS] = {&s->batch, &s->ci, &s->co, &s->k, &s->stride, &s->transposed, &s->in_h,
                                         &s->in_w, &s->out_h, &s->out_w, &s->top, &s->left, &s->half};
    int ok = 1;
    memset(c, 0, sizeof *c);
    for (int i = 0; i < SHAPE_NUMBERS; i++) {
        *numbers[i] = (int)read_number(&text, INT_MIN, INT_MAX, &ok);
    }
    c->direction = (us_conv_direction)read_number(&text, US_CU_FORWARD, US_CU_WEIGHT, &ok);
    c->deterministic = (int)read_number(&text, 0, 1, &ok);
    c->search = (int)read_number(&text, 0, 1, &ok);
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz");
    if (!ok || n == 0 || n >= US_CU_LIBRARY_NAME || text[n] != ' ') {
        return 0;
    }
    memcpy(c->recipe.library, text, n);
    text += n + 1;
    c->recipe.n = (int)read_number(&text, 0, US_CU_RECIPE_WORDS, &ok);
    for (int i = 0; i < c->recipe.n; i++) {
        c->recipe.words[i] = read_number(&text, INT64_MIN, INT64_MAX, &ok);
    }
    return ok && *text == '\0';
}

// ---- Reading ------------------------------------------------------------------------------------------

// The whole file with a 0 behind it; NULL: not there, not readable, too large.
static char *read_text(us_cu_choices *choices, size_t *size)
{
    FILE *file = fopen(choices->file, "rbe");
    struct stat info;
    if (!file) {
        return NULL;
    }
    char *text = NULL;
    if (fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 && info.st_size <= MOST_BYTES) {
        text = us_alloc(choices->a, (size_t)info.st_size + 1, 1);
    }
    if (text) {
        *size = fread(text, 1, (size_t)info.st_size, file);
        text[*size] = '\0';
    }
    fclose(file);
    return text;
}

// Cuts the next line off: its end becomes 0. NULL: no whole line is left.
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (!end) {
        return NULL;
    }
    *end = '\0';
    *at = end + 1;
    return line;
}

// Is the text whole? Its last line says how many choices there are and the checksum of all before it.
static int is_whole(const char *text, size_t size, int64_t *n)
{
    if (size < 2 || text[size - 1] != '\n' || memchr(text, '\0', size)) {
        return 0;
    }
    const char *last = text + size - 1;
    while (last > text && last[-1] != '\n') {
        last--;
    }
    char expected[64];
    const char *digits = last + 4;
    int ok = strncmp(last, "end ", 4) == 0;
    *n = ok ? read_number(&digits, 0, MOST_BYTES, &ok) : 0;
    snprintf(expected, sizeof expected, "end %" PRId64 " %016" PRIx64 "\n", *n,
             checksum(text, (size_t)(last - text)));
    return ok && strcmp(last, expected) == 0;
}

// Adds what the file has and the list has not. Anything that is not right: nothing is taken.
static usplit_status take_file(us_cu_choices *choices)
{
    size_t size = 0;
    char *text = choices->file ? read_text(choices, &size) : NULL, *at = text, *line;
    int64_t n = 0;
    int before = choices->n, ok = text && is_whole(text, size, &n);
    usplit_status status = USPLIT_OK;
    ok = ok && (line = next_line(&at)) && strcmp(line, FORMAT) == 0;
    ok = ok && (line = next_line(&at)) && strcmp(line, choices->machine) == 0;
    for (int64_t i = 0; ok && status == USPLIT_OK && i < n; i++) {
        us_cu_choice choice;
        ok = (line = next_line(&at)) && read_choice(line, &choice);
        if (ok && !us_cu_choices_find(choices, &choice)) {
            status = add(choices, &choice);
        }
    }
    ok = ok && (line = next_line(&at)) && strncmp(line, "end ", 4) == 0;
    choices->n = ok ? choices->n : before;
    us_free(choices->a, text);
    return status;
}

// ---- Writing ------------------------------------------------------------------------------------------

static char *make_text(const us_cu_choices *choices, size_t *size)
{
    size_t most = sizeof FORMAT + strlen(choices->machine) + 64 + (size_t)choices->n * MOST_LINE, n;
    char *text = us_alloc(choices->a, most, 1);
    if (!text) {
        return NULL;
    }
    n = (size_t)snprintf(text, most, "%s\n%s\n", FORMAT, choices->machine);
    for (int i = 0; i < choices->n; i++) {
        n += write_choice(&choices->list[i], text + n, most - n);
    }
    uint64_t sum = checksum(text, n);
    *size = n + (size_t)snprintf(text + n, most - n, "end %d %016" PRIx64 "\n", choices->n, sum);
    return text;
}

static usplit_status fail_file(const char *file, int error)
{
    char text[128];
    US_FAIL(USPLIT_ERR_FILE, "%s: %s", file, strerror_r(error, text, sizeof text));     // the GNU one
}

static usplit_status write_whole(int out, const char *text, size_t size, const char *file)
{
    while (size > 0) {
        ssize_t n = write(out, text, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return fail_file(file, n < 0 ? errno : EIO);
        }
        text += n;
        size -= (size_t)n;
    }
    if (fsync(out) != 0) {
        return fail_file(file, errno);
    }
    return USPLIT_OK;
}

static usplit_status write_file(us_cu_choices *choices, const char *text, size_t size)
{
    size_t n = strlen(choices->file) + 16;
    char *name = us_alloc(choices->a, n, 1);
    if (!name) {
        return USPLIT_ERR_MEMORY;
    }
    snprintf(name, n, "%s.XXXXXX", choices->file);
    int out = mkostemp(name, O_CLOEXEC);
    usplit_status status = USPLIT_OK;
    if (out < 0) {
        status = fail_file(choices->file, errno);
    } else {
        status = write_whole(out, text, size, choices->file);
        fchmod(out, 0644);              // others may use what one has found out
        if (close(out) != 0 && status == USPLIT_OK) {
            status = fail_file(choices->file, errno);
        }
        if (status == USPLIT_OK && rename(name, choices->file) != 0) {
            status = fail_file(choices->file, errno);
        }
        if (status != USPLIT_OK) {
            unlink(name);
        }
    }
    us_free(choices->a, name);
    return status;
}

static usplit_status save(us_cu_choices *choices)
{
    size_t size = 0;
    US_TRY(take_file(choices));
    char *text = make_text(choices, &size);
    if (!text) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = write_file(choices, text, size);
    us_free(choices->a, text);
    choices->changed = status != USPLIT_OK;
    return status;
}

usplit_status us_cu_choices_save(us_cu_choices *choices)
{
    us_cu_choices_lock(choices);
    usplit_status status = choices->file && choices->changed ? save(choices) : USPLIT_OK;
    us_cu_choices_unlock(choices);
    return status;
}

// ---- Opening ------------------------------------------------------------------------------------------

static char *copy_line(const us_allocator *a, const char *text)
{
    size_t n = strlen(text);
    char *copy = us_alloc(a, n + 1, 1);
    for (size_t i = 0; copy && i <= n; i++) {
        copy[i] = text[i] == '\n' ? ' ' : text[i];
    }
    return copy;
}

// The file is named after its machine, so that machines can share a folder.
static usplit_status name_file(us_cu_choices *choices, const char *folder)
{
    struct stat info;
    if (stat(folder, &info) != 0) {
        char text[128];
        US_FAIL(USPLIT_ERR_FILE, "cache_folder '%s': %s", folder, strerror_r(errno, text, sizeof text));
    }
    if (!S_ISDIR(info.st_mode)) {
        US_FAIL(USPLIT_ERR_FILE, "cache_folder '%s' is not a folder", folder);
    }
    size_t n = strlen(folder) + 64;
    choices->file = us_alloc(choices->a, n, 1);
    if (!choices->file) {
        return USPLIT_ERR_MEMORY;
    }
    snprintf(choices->file, n, "%s/usplit-convolutions-%016" PRIx64 ".txt", folder,
             checksum(choices->machine, strlen(choices->machine)));
    return USPLIT_OK;
}

usplit_status us_cu_choices_open(us_cu_choices **out, const us_allocator *a, const char *folder, const char *machine)
{
    *out = NULL;
    us_cu_choices *c = us_calloc(a, 1, sizeof *c);
    if (!c) {
        return USPLIT_ERR_MEMORY;
    }
    c->a = a;
    pthread_mutex_init(&c->lock, NULL);
    c->machine = copy_line(a, machine);
    usplit_status status = c->machine ? USPLIT_OK : USPLIT_ERR_MEMORY;
    if (status == USPLIT_OK && folder) {
        status = name_file(c, folder);
    }
    if (status == USPLIT_OK) {
        status = take_file(c);
    }
    if (status != USPLIT_OK) {
        us_cu_choices_free(c);
        return status;
    }
    *out = c;
    return USPLIT_OK;
}

void us_cu_choices_free(us_cu_choices *choices)
{
    if (!choices) {
        return;
    }
    const us_allocator *a = choices->a;
    pthread_mutex_destroy(&choices->lock);
    us_free(a, choices->list);
    us_free(a, choices->machine);
    us_free(a, choices->file);
    us_free(a, choices);
}
