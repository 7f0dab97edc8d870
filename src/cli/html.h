// Pages in HTML that need nothing but themselves: styles and pictures are inside, no script. They are well-formed
// XML too, so that any parser reads them.
#ifndef CLI_HTML_H
#define CLI_HTML_H

#include <stdio.h>

#include "cli/cli.h"
#include "cli/picture.h"

// Head, styles (light and dark) and heading; html_end closes what html_begin opened.
void html_begin(FILE *file, const char *title);
void html_end(FILE *file);

// Text with < > & and quotes escaped, and what no XML may hold replaced by '?'.
void html_text(FILE *file, const char *text);
void html_heading(FILE *file, const char *text);
void html_paragraph(FILE *file, const char *class, const char *fmt, ...) CLI_PRINTF(3, 4);

// A table of names and values: html_facts_begin(f); html_fact(f, "batch", "%d", 32); html_facts_end(f);
void html_facts_begin(FILE *file, const char *caption);
void html_fact(FILE *file, const char *name, const char *fmt, ...) CLI_PRINTF(3, 4);
void html_facts_end(FILE *file);

// A picture as base64 of a PNG; to free, NULL: failed.
char *html_encode(const picture *p);
// A cell of a panel, encoded likewise, in at most side x side pixels.
char *html_encode_cell(const picture_cell *cell, int64_t height, int64_t width, int64_t side, double pixel_size);
// An encoded picture with a caption below it. mark: "" or more attributes of the image.
void html_figure(FILE *file, const char *mark, const char *encoded, const char *name, const char *caption);

#endif
