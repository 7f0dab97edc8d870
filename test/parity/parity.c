// make parity: every fixture file of a folder, one line per file and group, then "N passed, M failed, K skipped".
//
//   parity [--device NAME] [--precision 16|32] FOLDER-OR-FILE
//
// On another device than the CPU the network files only; with other tolerances (net_case.c).
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parity/fixture.h"
#include "parity/net_case.h"
#include "parity/pieces.h"
#include "parity/pieces_more.h"

typedef struct tally {
    const char *file;
    us_net_device device;
    int passed, failed, skipped;
} tally;

static void report(const char *group, double worst, double tolerance, int ok, void *user)
{
    tally *t = user;
    printf("%-4s %-28s %-40s error %.2e  tolerance %.0e\n", ok ? "ok" : "FAIL", t->file, group, worst, tolerance);
    fflush(stdout);
    t->passed += ok;
    t->failed += !ok;
}

static int is_h5(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 3 && strcmp(entry->d_name + n - 3, ".h5") == 0;
}

// Pieces carry no network configuration of their own at the top.
static int is_pieces(const char *path)
{
    fixture f;
    if (fixture_open(&f, path)) {
        return 0;
    }
    int pieces = f.config[0] == 0 && (fixture_has(&f, "lc") || fixture_has(&f, "norm") || fixture_has(&f, "kl"));
    fixture_close(&f);
    return pieces;
}

static void run_file(const char *path, tally *t)
{
    const char *why = "";
    if (is_pieces(path)) {
        if (strcmp(t->device.name, "cpu") != 0) {
            printf("skip %-28s parts of the library that run on the CPU\n", t->file);
            t->skipped++;
            return;
        }
        int failed = us_parity_pieces_data(path, report, t) | us_parity_pieces_math(path, report, t) |
                     us_parity_pieces_tiled(path, report, t);
        if (failed) {
            printf("FAIL %-28s could not be read whole\n", t->file);
            t->failed++;
        }
        return;
    }
    int result = us_net_case(path, &t->device, report, t, &why);
    if (result == 1) {
        printf("FAIL %-28s %s\n", t->file, why);
        t->failed++;
    } else if (result == 2) {
        printf("skip %-28s %s\n", t->file, why);
        t->skipped++;
    }
}

// The folder or file; NULL: wrong usage.
static const char *parse(int argc, char **argv, us_net_device *device)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && !strcmp(argv[i], "--device")) {
            device->name = argv[++i];
        } else if (i + 1 < argc && !strcmp(argv[i], "--precision")) {
            device->half = !strcmp(argv[++i], "16");
        } else if (path || argv[i][0] == '-') {
            return NULL;
        } else {
            path = argv[i];
        }
    }
    return path;
}

int main(int argc, char **argv)
{
    tally t = {.device = {"cpu", 0}};
    const char *where = parse(argc, argv, &t.device);
    if (!where) {
        fprintf(stderr, "usage: parity [--device NAME] [--precision 16|32] FOLDER-OR-FILE\n");
        return 2;
    }
    struct dirent **list;
    int n = scandir(where, &list, is_h5, alphasort);
    if (n < 0) {
        const char *slash = strrchr(where, '/');
        t.file = slash ? slash + 1 : where;
        run_file(where, &t);
    }
    for (int i = 0; i < n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", where, list[i]->d_name);
        t.file = list[i]->d_name;
        run_file(path, &t);
        free(list[i]);
    }
    if (n >= 0) {
        free(list);
    }
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    return t.failed > 0 || t.passed + t.skipped == 0;
}
