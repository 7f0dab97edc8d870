// Escaping, tables, pictures as data URIs, and the styles of every page.
#include "cli/html.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// Colours of charts are lightened on dark pages: they are attributes, which styles override. Nothing here may hold
// < or &.
static const char styles[] =
    ":root{color-scheme:light dark;--ink:#222;--faint:#666;--paper:#fff;--line:#ddd;--warn:#fff3d6;--edge:#e0a000}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#ddd;--faint:#999;--paper:#16181c;--line:#3a3d44;--warn:#3a3016;"
    "--edge:#c08a10}\n"
    "svg [stroke='#2060b0']{stroke:#6aa5f0}svg [fill='#2060b0']{fill:#6aa5f0}svg [stroke='#208040']{stroke:#58c080}"
    "svg [fill='#208040']{fill:#58c080}svg [stroke='#c03030']{stroke:#f07070}svg [fill='#c03030']{fill:#f07070}"
    "svg [stroke='#8040a0']{stroke:#c08ae0}svg [fill='#8040a0']{fill:#c08ae0}svg [stroke='#806040']{stroke:#c0a080}"
    "svg [fill='#806040']{fill:#c0a080}svg [stroke='#606060']{stroke:#a0a0a0}svg [fill='#606060']{fill:#a0a0a0}}\n"
    "body{font:15px/1.45 sans-serif;color:var(--ink);background:var(--paper);max-width:72em;margin:0 auto;"
    "padding:1em}\n"
    "h1{font-size:1.5em;overflow-wrap:anywhere}h2{font-size:1.15em;margin:2em 0 .6em}p{margin:.5em 0}\n"
    ".faint{color:var(--faint)}.warning{background:var(--warn);border-left:.3em solid var(--edge);padding:.4em .8em}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;margin:.5em 0}caption{text-align:left;font-weight:bold}\n"
    "th,td{text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0;border-bottom:1px solid var(--line)}"
    "td{overflow-wrap:anywhere}th{font-weight:normal;color:var(--faint)}\n"
    "table.numbers td,table.numbers th{text-align:right;white-space:nowrap}"
    "table.numbers .name{text-align:left;white-space:normal;min-width:7em}\n"
    ".columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24em),1fr));gap:1em 2em}\n"
    ".pictures{display:grid;gap:.5em;margin:.5em 0;grid-template-columns:repeat(var(--n),minmax(5em,16em));"
    "overflow-x:auto}\n"
    "figure{margin:0}figcaption{font-size:.85em;color:var(--faint);overflow-wrap:anywhere}\n"
    "img{display:block;width:100%;image-rendering:pixelated;background:#121214}\n"
    "svg{display:block;width:100%;height:auto}svg text{font:12px sans-serif;fill:var(--ink)}\n"
    "svg .title{font-size:14px;font-weight:bold}svg .right{text-anchor:end}svg .middle{text-anchor:middle}\n"
    "svg .grid{stroke:var(--line)}svg .axis{stroke:var(--faint);fill:none}code{overflow-wrap:anywhere}\n";

void html_text(FILE *file, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        switch (*p) {
        case '&': fputs("&amp;", file); break;
        case '<': fputs("&lt;", file); break;
        case '>': fputs("&gt;", file); break;
        case '"': fputs("&quot;", file); break;
        case '\'': fputs("&#39;", file); break;
        default: {
            // UTF-8 as it is, where it is whole: file names may be anything
            int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 :
                       *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
            int whole = more >= 0 && (*p >= 32 || *p == '\n' || *p == '\t');
            for (int i = 1; whole && i <= more; i++) {
                whole = (p[i] & 0xc0) == 0x80;
            }
            // too long, surrogates, beyond Unicode, and two code points that are none
            if (whole && more >= 2) {
                whole = !((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) || (*p == 0xf0 && p[1] < 0x90) ||
                          (*p == 0xf4 && p[1] >= 0x90) || (*p == 0xef && p[1] == 0xbf && p[2] >= 0xbe));
            }
            if (!whole) {
                fputc('?', file);
                break;
            }
            fwrite(p, 1, (size_t)more + 1, file);
            p += more;
        }
        }
    }
}

void html_begin(FILE *file, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'/>\n"
          "<meta name='viewport' content='width=device-width, initial-scale=1'/>\n<title>", file);
    html_text(file, title);
    fprintf(file, "</title>\n<style>%s</style></head>\n<body>\n<h1>", styles);
    html_text(file, title);
    fputs("</h1>\n", file);
}

void html_end(FILE *file)
{
    fputs("</body></html>\n", file);
}

void html_heading(FILE *file, const char *text)
{
    fputs("<h2>", file);
    html_text(file, text);
    fputs("</h2>\n", file);
}

static void put_formatted(FILE *file, const char *fmt, va_list args)
{
    char text[4096];
    vsnprintf(text, sizeof text, fmt, args);
    html_text(file, text);
}

void html_paragraph(FILE *file, const char *class, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(file, "<p class='%s'>", class);
    put_formatted(file, fmt, args);
    fputs("</p>\n", file);
    va_end(args);
}

void html_facts_begin(FILE *file, const char *caption)
{
    fputs("<table><caption>", file);
    html_text(file, caption);
    fputs("</caption><tbody>\n", file);
}

void html_fact(FILE *file, const char *name, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("<tr><th>", file);
    html_text(file, name);
    fputs("</th><td>", file);
    put_formatted(file, fmt, args);
    fputs("</td></tr>\n", file);
    va_end(args);
}

void html_facts_end(FILE *file)
{
    fputs("</tbody></table>\n", file);
}

enum { SMALL = 96 };            // pixels: no room for a scale bar

static char *base64(const unsigned char *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = cli_alloc((n + 2) / 3 * 4 + 1, 1), *to = text;
    for (size_t i = 0; text != NULL && i < n; i += 3) {
        unsigned b = (unsigned)bytes[i] << 16 | (i + 1 < n ? (unsigned)bytes[i + 1] << 8 : 0) |
                     (i + 2 < n ? bytes[i + 2] : 0U);
        *to++ = digits[b >> 18];
        *to++ = digits[b >> 12 & 63];
        *to++ = i + 1 < n ? digits[b >> 6 & 63] : '=';
        *to++ = i + 2 < n ? digits[b & 63] : '=';
    }
    return text;
}

char *html_encode(const picture *p)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    char *text = png_encode(p, &bytes, &n) == CLI_OK ? base64(bytes, n) : NULL;
    free(bytes);
    return text;
}

char *html_encode_cell(const picture_cell *cell, int64_t height, int64_t width, int64_t side, double pixel_size)
{
    picture p = {0};
    int64_t longest = height > width ? height : width;
    side = side < longest ? side : longest;     // the page enlarges it, at no cost in bytes
    pixel_size = side < SMALL ? 0 : pixel_size;
    char *text = picture_make_cell(&p, cell, height, width, side, pixel_size) == CLI_OK ? html_encode(&p) : NULL;
    free(p.rgb);
    return text;
}

void html_figure(FILE *file, const char *mark, const char *encoded, const char *name, const char *caption)
{
    // an image begins a line, and its data end it: so a page can be read again (preview.c)
    fputs("<figure>\n", file);
    if (encoded != NULL) {
        fprintf(file, "<img %salt='", mark);
        html_text(file, name);
        fprintf(file, "' src='data:image/png;base64,%s'/>\n", encoded);
    }
    fputs("<figcaption>", file);
    html_text(file, name);
    if (caption[0] != '\0') {
        fputs("<br/>", file);
        html_text(file, caption);
    }
    fputs("</figcaption></figure>\n", file);
}
