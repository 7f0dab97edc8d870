// The result of one run as a small flat JSON file. One table of fields serves writing and reading; the file exists
// only whole, and its existence says that the run is finished.
#include "cli/repro/repro.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/text.h"

typedef enum { TEXT, WHOLE, REAL } field_kind;

typedef struct field {
    char key[64];
    field_kind kind;
    size_t offset, size;        // size: of a text
    int optional;               // 1: a REAL that older files do not have; NaN then
} field;

#define AT(kind, member) {#member, kind, offsetof(repro_result, member), sizeof((repro_result *)NULL)->member, 0}

static const field plain[] = {
    AT(TEXT, hash),           AT(TEXT, network),        AT(TEXT, version),       AT(TEXT, device),
    AT(TEXT, engine),         AT(TEXT, stopped),        AT(WHOLE, channels),     AT(WHOLE, steps),
    AT(WHOLE, epochs),        AT(WHOLE, best_epoch),    AT(WHOLE, skipped_steps), AT(WHOLE, patches),
    AT(REAL, area_patches),   AT(WHOLE, test_frames),   AT(WHOLE, parameters),   AT(WHOLE, planned_bytes),
    AT(WHOLE, peak_bytes),    AT(WHOLE, data_bytes),    AT(REAL, train_seconds), AT(REAL, eval_seconds),
    AT(REAL, best_val_psnr),  AT(REAL, input_ri_psnr),  AT(REAL, input_ssim),
};
enum { N_PLAIN = sizeof plain / sizeof plain[0], MAX_FIELDS = N_PLAIN + 2 * USPLIT_MAX_CHANNELS +
       REPRO_MAX_EVALS * (4 + 3 * USPLIT_MAX_CHANNELS) };

static void add(field *fields, int *n, field_kind kind, size_t offset, size_t size, const char *key)
{
    fields[*n] = (field){.kind = kind, .offset = offset, .size = size};
    snprintf(fields[(*n)++].key, sizeof fields->key, "%s", key);
}

// All fields of a result of so many channels.
static int list_fields(field *fields, const repro_experiment *e, int64_t channels)
{
    char key[64];
    int n = N_PLAIN;
    memcpy(fields, plain, sizeof plain);
    for (int64_t c = 0; c < channels; c++) {
        size_t i = (size_t)c;
        snprintf(key, sizeof key, "channel_%d", (int)c + 1);
        add(fields, &n, TEXT, offsetof(repro_result, channel_names) + i * USPLIT_NAME_BYTES, USPLIT_NAME_BYTES, key);
        snprintf(key, sizeof key, "example_ri_psnr_%d", (int)c + 1);
        add(fields, &n, REAL, offsetof(repro_result, example_ri_psnr) + i * sizeof(double), 0, key);
    }
    for (int k = 0; k < e->n_evals; k++) {
        size_t at = offsetof(repro_result, quality) + (size_t)k * sizeof(repro_quality);
        const struct {
            const char *name;
            size_t offset;
        } each[] = {{"ri_psnr", offsetof(repro_quality, ri_psnr)}, {"psnr", offsetof(repro_quality, psnr)},
                    {"ssim", offsetof(repro_quality, ssim)}};
        snprintf(key, sizeof key, "%s_error", e->evals[k].key);
        add(fields, &n, TEXT, at + offsetof(repro_quality, error), sizeof((repro_quality *)NULL)->error, key);
        snprintf(key, sizeof key, "%s_mean_ri_psnr", e->evals[k].key);
        add(fields, &n, REAL, at + offsetof(repro_quality, mean_ri_psnr), 0, key);
        snprintf(key, sizeof key, "%s_mean_ssim", e->evals[k].key);
        add(fields, &n, REAL, at + offsetof(repro_quality, mean_ssim), 0, key);
        snprintf(key, sizeof key, "%s_seam", e->evals[k].key);
        add(fields, &n, REAL, at + offsetof(repro_quality, seam), 0, key);
        fields[n - 1].optional = 1;
        for (int64_t c = 0; c < channels; c++) {
            for (int m = 0; m < 3; m++) {
                snprintf(key, sizeof key, "%s_%s_%d", e->evals[k].key, each[m].name, (int)c + 1);
                add(fields, &n, REAL, at + each[m].offset + (size_t)c * sizeof(double), 0, key);
            }
        }
    }
    return n;
}

int repro_result_write(const repro_result *r, const repro_experiment *e, const char *path)
{
    field fields[MAX_FIELDS];
    files_output out;
    json j;
    int n = list_fields(fields, e, r->channels);
    int rc = files_create(&out, path);
    if (rc != 0) {
        return rc;
    }
    json_start(&j, out.file);
    json_begin(&j, NULL, '{');
    for (int i = 0; i < n; i++) {
        const char *at = (const char *)r + fields[i].offset;
        if (fields[i].kind == TEXT) {
            json_text(&j, fields[i].key, at);
        } else if (fields[i].kind == WHOLE) {
            json_int(&j, fields[i].key, *(const int64_t *)at);
        } else {
            json_real(&j, fields[i].key, *(const double *)at);
        }
    }
    json_end(&j, '}');
    return files_commit(&out);
}

// ---- Reading ----------------------------------------------------------------------------------------------------

// What follows `"key": ` at the start of a line; NULL when the key is not there.
static const char *value_of(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; (p = strchr(p, '\n')) != NULL;) {
        p += 1 + strspn(p + 1, " ");
        if (p[0] == '"' && strncmp(p + 1, key, n) == 0 && strncmp(p + 1 + n, "\": ", 3) == 0) {
            return p + n + 4;
        }
    }
    return NULL;
}

static int take_text(char *dst, size_t size, const char *p)
{
    size_t n = 0;
    if (*p++ != '"') {
        return 0;
    }
    for (; *p != '"'; p++) {
        char letter = *p;
        if (letter == '\0') {
            return 0;
        }
        if (letter == '\\') {
            letter = *++p;
            if (letter == 'u') {        // a control character: four digits
                if (strspn(p + 1, "0123456789abcdef") < 4) {
                    return 0;
                }
                letter = ' ';
                p += 4;
            } else if (letter != '"' && letter != '\\') {
                return 0;
            }
        }
        if (n + 1 < size) {
            dst[n++] = letter;
        }
    }
    dst[n] = '\0';
    return 1;
}

static int take(const field *f, void *result, const char *p)
{
    char *at = (char *)result + f->offset, *end;
    if (f->kind == TEXT) {
        return take_text(at, f->size, p);
    }
    if (f->kind == REAL && strncmp(p, "null", 4) == 0) {
        *(double *)at = NAN;
        return 1;
    }
    if (f->kind == WHOLE) {
        *(int64_t *)at = strtoll(p, &end, 10);
    } else {
        *(double *)at = strtod(p, &end);
    }
    return end != p && (*end == ',' || *end == '\n');
}

static char *read_file(const char *path)
{
    enum { MOST = 1 << 20 };
    FILE *file = fopen(path, "rb");
    char *text = file != NULL ? calloc(1, MOST + 1) : NULL;
    if (text != NULL && (fread(text, 1, MOST, file) == 0 || ferror(file))) {
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

int repro_result_read(repro_result *r, const repro_experiment *e, const char *path)
{
    field fields[MAX_FIELDS];
    char *text = read_file(path);
    memset(r, 0, sizeof *r);
    const char *channels = text != NULL ? value_of(text, "channels") : NULL;
    int64_t n_channels = channels != NULL ? strtoll(channels, NULL, 10) : 0;
    if (n_channels < 2 || n_channels > USPLIT_MAX_CHANNELS) {
        free(text);
        return cli_error(CLI_FAILED, "%s: is no result of this program; remove it to run the setup again", path);
    }
    int n = list_fields(fields, e, n_channels);
    for (int i = 0; i < n; i++) {
        const char *p = value_of(text, fields[i].key);
        p = p == NULL && fields[i].optional ? "null" : p;
        if (p == NULL || !take(&fields[i], r, p)) {
            free(text);
            return cli_error(CLI_FAILED, "%s: '%s' is missing or no value; remove the file to run the setup again",
                             path, fields[i].key);
        }
    }
    free(text);
    return CLI_OK;
}
