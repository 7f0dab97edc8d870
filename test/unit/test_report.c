// Reports: pages are well-formed whatever they hold, say the numbers of the training, stay small, survive --resume, and
// their failure stops nothing; data that is bad in one way has that warning, good data has none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <png.h>

#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/datacheck.h"
#include "cli/files.h"
#include "cli/heldout.h"
#include "cli/html.h"
#include "cli/score.h"
#include "cli/split_preview.h"
#include "cli/train_report.h"
#include "cli/train_run.h"
#include "common/folder.h"
#include "kernels/philox.h"

static const char odd_name[] = "a<b> & \"c\" 'd'";

static char *path_of(const char *name)
{
    return cli_format("%s/%s", folder, name);
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("%s: cannot read", path);
        return NULL;
    }
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    rewind(file);
    char *text = cli_alloc((size_t)n + 1, 1);
    assert_true(fread(text, 1, (size_t)n, file) == (size_t)n);
    fclose(file);
    return text;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += strlen(word)) {
        n++;
    }
    return n;
}

static void has(const char *text, const char *word)
{
    if (strstr(text, word) == NULL) {
        fail_msg("'%s' is missing", word);
    }
}

static void has_not(const char *text, const char *word)
{
    const char *p = strstr(text, word);
    if (p != NULL) {
        fail_msg("'%s' is there: %.80s", word, p);
    }
}

// ---- XML, as far as pages use it: tags that nest, quoted attributes, known entities ---------------------------

static const char *check_entity(const char *p)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(p, known[i], strlen(known[i])) == 0) {
            return p + strlen(known[i]);
        }
    }
    fail_msg("a bare &: %.40s", p);
    return p;
}

static const char *check_text(const char *p, char end)
{
    while (*p != '\0' && *p != end) {
        if (*p == '<' || (unsigned char)*p < 9) {
            fail_msg("not text: %.40s", p);
        }
        p = *p == '&' ? check_entity(p) : p + 1;
    }
    return p;
}

// After the name of a start tag. *closed: it ended in "/>".
static const char *check_attributes(const char *p, int *closed)
{
    for (;;) {
        p += strspn(p, " \n");
        *closed = *p == '/';
        if (*p == '>' || (*p == '/' && p[1] == '>')) {
            return p + 1 + *closed;
        }
        size_t name = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
        if (name == 0 || p[name] != '=' || (p[name + 1] != '\'' && p[name + 1] != '"')) {
            fail_msg("not an attribute: %.40s", p);
        }
        p = check_text(p + name + 2, p[name + 1]) + 1;
    }
}

static void check_page(const char *page)
{
    enum { DEPTH = 64 };
    char open[DEPTH][16];
    int depth = 0;
    static const char start[] = "<!DOCTYPE html>\n";
    assert_memory_equal(page, start, sizeof start - 1);
    for (const char *p = page + sizeof start - 1; *p != '\0';) {
        if (*p != '<') {
            p = check_text(p, '<');
            continue;
        }
        int ends = p[1] == '/', closed = 0;
        const char *name = p + 1 + ends;
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
        assert_true(n > 0 && n < sizeof open[0]);
        p = name + n;
        if (ends) {
            depth--;
            if (depth < 0 || strlen(open[depth]) != n || memcmp(open[depth], name, n) != 0 || *p != '>') {
                fail_msg("</%.*s> closes <%s>", (int)n, name, depth < 0 ? "" : open[depth]);
            }
            p++;
            continue;
        }
        p = check_attributes(p, &closed);
        if (!closed) {
            assert_true(depth < DEPTH);
            snprintf(open[depth++], sizeof open[0], "%.*s", (int)n, name);
        }
    }
    assert_int_equal(depth, 0);
}

// ---- Text ---------------------------------------------------------------------------------------------------

static void text_is_escaped(void **state)
{
    (void)state;
    char *path = path_of("text.html");
    FILE *file = fopen(path, "wb");
    html_begin(file, odd_name);
    html_paragraph(file, "p", "%s", "\x01 \xff \xc3\xa9 \xe6\x97\xa5 \xed\xa0\x80 \xc0\xaf \xe6\x97");
    html_end(file);
    fclose(file);
    char *page = read_all(path);
    check_page(page);
    has(page, "<h1>a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;</h1>");
    // one for each byte that is no UTF-8
    has(page, "<p class='p'>? ? \xc3\xa9 \xe6\x97\xa5 ??" "? ?" "? ?" "?" "</p>");
    free(page);
    unlink(path);
    free(path);
}

static void pictures_are_whole(void **state)
{
    (void)state;
    float pixels[6] = {0, 1, 2, 3, 4, 5};
    picture_cell cell = {.pixels = pixels, .map = PICTURE_MAP_GREY, .low = 0, .high = 5};
    char *text = html_encode_cell(&cell, 2, 3, 100, 0);     // not enlarged
    assert_non_null(text);
    // eight bytes of signature, length and name of the header, then 3 and 2 as big-endian words
    assert_memory_equal(text, "iVBORw0KGgoAAAANSUhEUgAAAAMAAAAC", 32);
    assert_int_equal(strlen(text) % 4, 0);
    free(text);
}

// Few colours get a palette, more do not; either way every pixel comes back.
static void encoded_pixels_come_back(void **state)
{
    (void)state;
    enum { W = 31, H = 23 };
    unsigned char rgb[3 * W * H], back[3 * W * H], *bytes;
    size_t sizes[2];
    for (int many = 0; many < 2; many++) {
        picture p = {.width = W, .height = H, .rgb = rgb};
        for (int i = 0; i < 3 * W * H; i++) {   // 256 colours, or another one for every pixel
            int pixel = many ? i / 3 : i / 3 % 256;
            rgb[i] = (unsigned char)(i % 3 == 0 ? pixel : i % 3 == 1 ? pixel / 256 : 255 - pixel);
        }
        assert_int_equal(png_encode(&p, &bytes, &sizes[many]), 0);
        png_image image;
        memset(&image, 0, sizeof image);
        image.version = PNG_IMAGE_VERSION;
        assert_true(png_image_begin_read_from_memory(&image, bytes, sizes[many]));
        assert_true(image.width == W && image.height == H);
        assert_int_equal((image.format & PNG_FORMAT_FLAG_COLORMAP) != 0, !many);
        image.format = PNG_FORMAT_RGB;
        assert_true(png_image_finish_read(&image, NULL, back, 0, NULL));
        assert_memory_equal(back, rgb, sizeof rgb);
        free(bytes);
    }
}

// Red, green, blue at the middle of a part of a picture file, and the file's height.
static int64_t look(const char *path, int64_t x, int64_t y, unsigned char *rgb)
{
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    assert_true(png_image_begin_read_from_file(&image, path));
    image.format = PNG_FORMAT_RGB;
    unsigned char *pixels = cli_alloc(PNG_IMAGE_SIZE(image), 1);
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    assert_true(x < (int64_t)image.width && y < (int64_t)image.height);
    memcpy(rgb, pixels + 3 * (y * (int64_t)image.width + x), 3);
    free(pixels);
    return (int64_t)image.height;
}

// The last column of the picture of a split: dark where the channels' mean is the input, red where the input is
// brighter, blue where it is darker. Deviations are a second row.
static void preview_shows_what_is_left_over(void **state)
{
    (void)state;
    enum { S = 64, N = S * S, SHOWN = 6 * S, LEFT = 16 + 3 * (SHOWN + 6), TOP = 38 };
    static float input[N], planes[4 * N];
    usplit_model_facts model = {.channels = 2, .mixture_weight = {0.5, 0.5}};
    unsigned char rgb[3];
    char *path = path_of("preview.png");
    for (int i = 0; i < N; i++) {
        planes[i] = (float)(i % 50);
        planes[N + i] = (float)(i % 70);
        planes[2 * N + i] = planes[3 * N + i] = 1 + (float)(i % 3);
        float more = i / S < S / 3 ? 0 : i % S < S / 2 ? 20 : -20;  // third above: nothing
        input[i] = (planes[i] + planes[N + i]) / 2 + more;
    }
    assert_int_equal(split_preview_write(path, &model, S, S, input, planes, 0, 0), 0);
    int64_t height = look(path, LEFT + SHOWN / 2, TOP + SHOWN / 6, rgb);
    assert_true(rgb[0] < 40 && rgb[1] < 40 && rgb[2] < 40);
    look(path, LEFT + SHOWN / 4, TOP + 2 * SHOWN / 3, rgb);
    assert_true(rgb[0] > 100 && rgb[0] > 2 * rgb[2]);
    look(path, LEFT + 3 * SHOWN / 4, TOP + 2 * SHOWN / 3, rgb);
    assert_true(rgb[2] > 100 && rgb[2] > 2 * rgb[0]);
    assert_int_equal(split_preview_write(path, &model, S, S, input, planes, 1, 0), 0);
    assert_true(look(path, 0, 0, rgb) >= height + SHOWN);
    unlink(path);
    free(path);
}

// ---- Data ---------------------------------------------------------------------------------------------------

enum { SIDE = 96, PATCH = 16, DISCS = 12 };

typedef struct made {           // frames as they come, and what is wrong with them
    int64_t n_frames;
    int alike, saturated, constant, stripes;
} made;

static double uniform(int64_t frame, int64_t channel, uint32_t i)
{
    us_u32x4 r = us_philox((uint64_t)(2 * frame + channel), i, 0, 0, 0);
    return us_uniform53(r.v[0], r.v[1]);
}

static int32_t made_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    (void)frame;
    (void)user;
    *height = *width = SIDE;
    return 0;
}

// Discs of 3 pixels' radius and of different brightness on a noisy ground.
static int32_t made_read(int64_t frame, int64_t channel, float *dst, void *user)
{
    const made *m = user;
    int64_t of = m->alike ? 0 : channel;
    for (int64_t i = 0; i < SIDE * SIDE; i++) {
        double y = (double)(i / SIDE), x = (double)(i % SIDE), v = 100 + 5 * uniform(frame, channel, (uint32_t)i);
        for (uint32_t k = 0; k < DISCS; k++) {
            double dy = y - SIDE * uniform(frame, of, 1000000 + 2 * k),
                   dx = x - SIDE * uniform(frame, of, 1000001 + 2 * k);
            double r2 = dy * dy + dx * dx;
            v += r2 < 9 ? (60 + 5 * k) * (1 - r2 / 18) : 0;
        }
        v += m->stripes && (i % SIDE) % 24 < 3 ? 150 : 0;
        v = m->saturated && v > 120 ? 120 : v;
        dst[i] = m->constant && frame < 2 && channel == 1 ? 100 : (float)v;
    }
    return 0;
}

static void check_data(datacheck *d, const made *m, int lc_count, double clip_quantile)
{
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_dataset_options o;
    usplit_context_options c = {.struct_size = sizeof c, .device = "cpu", .threads = 1};
    made copy = *m;
    usplit_dataset_reader reader = {.struct_size = sizeof reader, .n_frames = m->n_frames, .n_channels = 2, .frame_size = made_size,
                                     .read = made_read, .user = &copy};
    usplit_model_facts model = {.patch = PATCH, .lc_count = lc_count, .channels = 2};
    char names[2][USPLIT_NAME_BYTES] = {"dots", "spots"};
    assert_int_equal(usplit_context_create(&context, &c), USPLIT_OK);
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.split = USPLIT_SPLIT_SEQUENTIAL;
    o.clip_quantile = clip_quantile;
    o.test_fraction = 0;
    o.levels = 3;
    assert_int_equal(usplit_dataset_create_reader(&dataset, context, &reader, &o), USPLIT_OK);
    assert_int_equal(datacheck_run(d, dataset, &model, names, clip_quantile), 0);
    usplit_dataset_free(dataset);
    usplit_context_free(context);
}

// The only warnings are those with `word`, and there are n.
static void only(const datacheck *d, const char *word, int n)
{
    assert_int_equal(d->n_warnings, n);
    for (int i = 0; i < n; i++) {
        has(d->warnings[i], word);
    }
}

static void data_is_judged(void **state)
{
    (void)state;
    datacheck d;
    for (int clip = 0; clip < 2; clip++) {
        double q = clip ? 0.995 : 1;
        check_data(&d, &(made){.n_frames = 12}, 2, q);
        only(&d, "", 0);
        // mean + 1 deviation lies between ground and discs, which are 5 pixels wide there and come in level 1 pixels
        assert_true(d.channels[0].length >= 4 && d.channels[0].length <= 14);
        assert_true(fabs(d.correlation[0][1]) < 0.2);
        assert_true(d.channels[0].low > 99 && d.channels[0].low < 102 && d.channels[0].high > 120);
        check_data(&d, &(made){.n_frames = 12, .alike = 1}, 2, q);
        only(&d, "are alike", 1);
        has(d.warnings[0], "dots and spots");
        assert_true(d.correlation[0][1] > 0.9 && d.correlation[0][1] == d.correlation[1][0]);
        check_data(&d, &(made){.n_frames = 12, .saturated = 1}, 2, q);
        assert_true(d.n_warnings >= 1);
        for (int i = 0; i < d.n_warnings; i++) {
            has(d.warnings[i], "saturated");
        }
    }
    check_data(&d, &(made){.n_frames = 12, .constant = 1}, 2, 1);
    assert_int_equal(d.channels[0].constant, 0);
    // frames 0 and 1 are validation and training, or both training, as the library divides them
    assert_true(d.channels[1].constant >= 1 && d.channels[1].constant <= 2);
    only(&d, "one value only", 1);
    has(d.warnings[0], "spots");
    check_data(&d, &(made){.n_frames = 12, .stripes = 1}, 0, 1);
    assert_true(d.channels[0].length == SIDE && d.field == PATCH);
    int n_long = 0;
    for (int i = 0; i < d.n_warnings; i++) {
        n_long += strstr(d.warnings[i], "structures 96 pixels long or longer; the network sees 16") != NULL;
    }
    assert_int_equal(n_long, 2);
    check_data(&d, &(made){.n_frames = 2}, 2, 1);
    assert_true(d.n_warnings >= 2);
    has(d.warnings[0], "training frame");
    has(d.warnings[1], "patches");
}

// ---- A training -----------------------------------------------------------------------------------------------

typedef struct setup {
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
    usplit_trainer_options options;
    train_files files;
    train_run_options run;
    usplit_trainer_facts facts;
} setup;

static setup make(const char *out, int epochs)
{
    setup s = {0};
    usplit_context_options c = {.struct_size = sizeof c, .device = "cpu", .threads = 1};
    usplit_critter_options critters;
    usplit_dataset_options d;
    usplit_model_options m;
    assert_int_equal(usplit_context_create(&s.context, &c), USPLIT_OK);
    assert_int_equal(usplit_critter_options_init(&critters, sizeof critters), USPLIT_OK);
    critters.n_frames = 12;
    critters.size = 64;
    critters.n_curves = 2;
    assert_int_equal(usplit_dataset_options_init(&d, sizeof d), USPLIT_OK);
    d.levels = 3;
    assert_int_equal(usplit_dataset_create_critters(&s.dataset, s.context, &critters, &d), USPLIT_OK);
    assert_int_equal(usplit_model_options_init(&m, sizeof m), USPLIT_OK);
    m.levels = m.lc_count = 2;
    m.filters = m.z_dims[0] = 4;
    m.patch = 16;
    assert_int_equal(usplit_model_create(&s.model, s.context, &m), USPLIT_OK);
    assert_int_equal(usplit_trainer_options_init(&s.options, sizeof s.options), USPLIT_OK);
    s.options.batch = 4;
    s.options.steps_per_epoch = 3;
    s.options.max_epochs = epochs;
    s.options.max_validation_patches = 4;
    char *path = path_of(out);
    train_files_name(&s.files, path, NULL);
    s.files.report = files_with_ending(path, ".h5", ".html");
    free(path);
    s.run = (train_run_options){.quiet = 1, .names = {odd_name, "b"}, .pixel_size = 0.1, .clip_quantile = 0.995,
                                .command = "usplit train 'a b'"};
    return s;
}

static void drop(setup *s)
{
    usplit_dataset_free(s->dataset);
    usplit_model_free(s->model);
    usplit_context_free(s->context);
    unlink(s->files.best);
    unlink(s->files.last);
    unlink(s->files.curves);
    unlink(s->files.report);
    if (s->files.history != NULL) {
        unlink(s->files.history);
    }
    train_files_free(&s->files);
}

static int train(setup *s)
{
    return train_run(s->context, s->model, s->dataset, &s->options, &s->files, &s->run, &s->facts);
}

static double column(const char *row, int number)
{
    for (int i = 0; i < number; i++) {
        row = strchr(row, ',') + 1;
    }
    return strtod(row, NULL);
}

static void report_says_what_happened(void **state)
{
    (void)state;
    setup s = make("odd <&> name.h5", 3);
    char *history = path_of("history.csv"), text[64];
    s.files.history = history;
    assert_int_equal(train(&s), 0);
    char *page = read_all(s.files.report), *csv = read_all(history);
    check_page(page);
    has(page, "odd &lt;&amp;&gt; name.h5: HVAE Lean-LC</h1>");
    has(page, "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;, true");
    has(page, "usplit train &#39;a b&#39;");
    has(page, "<th>state</th><td>ended</td>");
    has(page, "<th>epochs</th><td>3 of at most 3</td>");
    has(page, "<th>steps</th><td>9</td>");
    has(page, "<th>batch</th><td>4</td>");
    has(page, "<th>device</th><td>cpu (asked for)</td>");
    has(page, "level 1</text>");
    has_not(page, "level 2</text>");
    // the numbers are those of the history
    const char *rows[3], *row = csv;
    double best = -INFINITY;
    for (int e = 0; e < 3; e++) {
        row = strchr(row, '\n') + 1;
        rows[e] = row;
        best = fmax(best, column(row, 5));
    }
    snprintf(text, sizeof text, "<th>loss</th><td>%.6g</td>", column(rows[2], 2));
    has(page, text);
    snprintf(text, sizeof text, "<th>validation PSNR</th><td>%.2f dB</td>", column(rows[2], 5));
    has(page, text);
    snprintf(text, sizeof text, "<th>best</th><td>%.2f dB, epoch", best);
    has(page, text);
    // pictures of the first and the last epoch: what is left over and two channels
    assert_int_equal(count(page, "data-preview='1 0 "), 3);
    assert_int_equal(count(page, "data-preview='3 0 "), 3);
    assert_true(strlen(page) < 1000000);
    free(page);
    free(csv);
    s.files.history = NULL;
    unlink(history);
    free(history);
    drop(&s);
}

static void resume_keeps_history_and_pictures(void **state)
{
    (void)state;
    setup s = make("resumed.h5", 2);
    assert_int_equal(train(&s), 0);
    char *before = read_all(s.files.report);
    usplit_model_free(s.model);
    assert_int_equal(usplit_model_load(&s.model, s.context, s.files.last), USPLIT_OK);
    s.run.resume = 1;
    s.options.max_epochs = 4;
    assert_int_equal(train(&s), 0);
    char *page = read_all(s.files.report);
    check_page(page);
    has(page, "<th>epochs</th><td>4 of at most 4</td>");
    assert_int_equal(count(page, "data-preview='4 0 "), 3);
    // the picture of epoch 1 is the same to the byte
    const char *a = strstr(before, "<img data-preview='1 0 1'"), *b = strstr(page, "<img data-preview='1 0 1'");
    assert_true(a != NULL && b != NULL);
    size_t n = strcspn(a, "\n");
    assert_true(n > 200 && n == strcspn(b, "\n"));
    assert_memory_equal(a, b, n);
    free(before);
    free(page);
    drop(&s);
}

// Text on stderr while f runs.
static char *stderr_of(int (*f)(setup *s), setup *s, int *rc)
{
    char *path = path_of("stderr.txt");
    FILE *file = fopen(path, "wb");
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    *rc = f(s);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    fclose(file);
    char *text = read_all(path);
    unlink(path);
    free(path);
    return text;
}

static void failure_stops_nothing(void **state)
{
    (void)state;
    int rc;
    setup s = make("kept.h5", 3);
    char *nowhere = path_of("no-such-folder/x.html"), *report = s.files.report;
    s.files.report = nowhere;
    char *text = stderr_of(train, &s, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(s.facts.epoch, 3);
    assert_int_equal(count(text, "no-such-folder"), 1);     // said once
    has(text, "training goes on");
    assert_true(files_exists(s.files.best) && files_exists(s.files.last));
    assert_string_equal(cli_error_line(), "");
    free(text);
    s.files.report = report;
    free(nowhere);
    drop(&s);
}

static void many_odd_epochs_fit(void **state)
{
    (void)state;
    enum { N = 20000 };
    setup s = make("many.h5", N);
    usplit_trainer_epoch *rows = cli_alloc(N, sizeof *rows);
    usplit_trainer_facts facts = {.struct_size = sizeof facts, .part_batch = 4};
    usplit_model_normalisation normalisation = {.struct_size = sizeof normalisation, .clip_value = 20,
                                                .input_deviation = 5, .target_deviation = {5, 5}};
    assert_int_equal(usplit_model_set_normalisation(s.model, &normalisation), USPLIT_OK);
    assert_int_equal(usplit_model_save(s.model, s.files.last), USPLIT_OK);
    for (int i = 0; i < N; i++) {
        double bad = i % 3 == 0 ? NAN : i % 7 == 0 ? INFINITY : 1.0 / (i + 1);
        rows[i] = (usplit_trainer_epoch){.struct_size = sizeof rows[i], .step = i, .loss = bad, .val_loss = bad,
                                         .val_psnr = -bad, .kl_loss = 1, .reconstruction_loss = NAN,
                                         .learning_rate = 0, .seconds = NAN};
        for (int l = 0; l < USPLIT_MAX_LEVELS; l++) {
            rows[i].kl_level[l] = l == 0 ? bad : NAN;
        }
    }
    for (int n = 0; n <= N; n = n == 0 ? 1 : n * 20000) {
        train_report *r = train_report_open(s.context, s.model, s.dataset, &s.options, &s.files, &s.run, &facts);
        assert_non_null(r);
        train_report_update(r, rows, n);
        train_report_free(r);
        char *page = read_all(s.files.report);
        check_page(page);
        has_not(page, "nan");
        has_not(page, ">inf");
        has_not(page, "'inf");
        has_not(page, " inf");
        assert_true(strlen(page) < 1000000);
        free(page);
    }
    cli_error_clear();
    free(rows);
    drop(&s);
}

// ---- An evaluation ----------------------------------------------------------------------------------------------

static char *odd_frame(int64_t frame, void *user)
{
    (void)user;
    return cli_format("<%d>", (int)frame);
}

static void evaluation_names_every_frame(void **state)
{
    (void)state;
    setup s = make("scored.h5", 1);
    heldout frames;
    usplit_dataset_reader reader;
    score scores = {0};
    score_options o = {.quiet = 1};
    char text[64];
    assert_int_equal(train(&s), 0);
    assert_int_equal(heldout_reader(&frames, s.dataset, USPLIT_SET_TRAIN, &reader), 0);
    assert_true(reader.n_frames >= 4);
    assert_int_equal(score_tiler_options(&o.tiler, &tiler_args_none), 0);
    assert_int_equal(score_frames(&scores, s.model, &reader, &o), 0);
    assert_int_equal(score_report(&scores, s.model, &reader, &o, s.files.report, "m&m.h5", odd_frame, NULL), 0);
    char *page = read_all(s.files.report);
    check_page(page);
    has(page, "m&amp;m.h5, evaluated");
    for (int f = 0; f < (int)reader.n_frames; f++) {
        snprintf(text, sizeof text, "<td class='name'>&lt;%d&gt;</td>", f);
        assert_int_equal(count(page, text), 2);
        for (int c = 0; c < 2; c++) {
            const score_values *v = &scores.prediction[2 * f + c];
            snprintf(text, sizeof text, "<td>%.2f</td><td>%.2f</td><td>%.2f</td>", v->ri_psnr,
                     scores.input[2 * f + c].ri_psnr, v->psnr);
            has(page, text);
            snprintf(text, sizeof text, "<td>%.3f</td><td>%.3f</td></tr>", v->seam, v->seam_error);
            has(page, text);
        }
    }
    assert_int_equal(count(page, "<img "), 3 * 6);      // best, median, worst: input, two pairs, what is left over
    has(page, "best: &lt;");
    has(page, "worst: &lt;");
    free(page);
    score_free(&scores);
    heldout_free(&frames);
    drop(&s);
}

static int drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);       // fails where a test left something behind, a temporary file say
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(pictures_are_whole),
        cmocka_unit_test(encoded_pixels_come_back),
        cmocka_unit_test(preview_shows_what_is_left_over),
        cmocka_unit_test(data_is_judged),
        cmocka_unit_test(report_says_what_happened),
        cmocka_unit_test(resume_keeps_history_and_pictures),
        cmocka_unit_test(failure_stops_nothing),
        cmocka_unit_test(many_odd_epochs_fit),
        cmocka_unit_test(evaluation_names_every_frame),
    };
    return cmocka_run_group_tests_name("report", tests, make_folder, drop_folder);
}
