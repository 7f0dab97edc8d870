// What tests of image files ask of the program's reader: images that are refused in words, and ones that may be anything.
#ifndef TEST_IMAGE_FILES_H
#define TEST_IMAGE_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/image/images.h"

// Is not opened, and one line that holds `word` says why.
static inline void refused_axes(const char *name, const char *axes, const char *word)
{
    image_file *file = NULL;
    cli_error_clear();
    if (image_open_axes(&file, name, axes) == 0) {
        fail_msg("%s was opened; expected a line with '%s'", name, word);
    }
    assert_null(file);
    if (strstr(cli_error_line(), word) == NULL || strchr(cli_error_line(), '\n') != NULL) {
        fail_msg("'%s' does not say '%s'", cli_error_line(), word);
    }
    cli_error_clear();
}

static inline void refused(const char *name, const char *word)
{
    refused_axes(name, NULL, word);
}

// Opens what may be damaged, and reads some rows of some pages, one by one; the reader's status. Whatever happens, it
// ends; what is read makes sense, and a failure has its line.
static inline int try_all_axes(const char *name, const char *axes)
{
    enum { PAGES = 8, ROWS = 4096, WIDTH = 1 << 24 };
    image_file *file = NULL;
    image_facts facts;
    cli_error_clear();
    int rc = image_open_axes(&file, name, axes);
    if (rc == 0) {
        image_info(file, &facts);
        assert_true(facts.pages >= 1 && facts.pages == facts.slices * facts.frames && facts.height >= 1 &&
                    facts.width >= 1 && facts.channel < facts.channels);
        for (int64_t page = 0; rc == 0 && page < facts.pages && page < PAGES; page++) {
            int64_t h, w;
            rc = image_page_size(file, page, &h, &w);
            float *row = rc == 0 && w < WIDTH ? malloc(sizeof *row * (size_t)w) : NULL;
            for (int64_t y = 0; row != NULL && rc == 0 && y < h && y < ROWS; y++) {
                rc = image_read_rows(file, page, y, 1, row);
            }
            free(row);
        }
        image_close(file);
    } else {
        assert_null(file);
    }
    if (rc != 0) {
        assert_true(cli_error_line()[0] != '\0');
        assert_null(strchr(cli_error_line(), '\n'));
    }
    cli_error_clear();
    return rc;
}

static inline int try_all(const char *name)
{
    return try_all_axes(name, NULL);
}

#endif
