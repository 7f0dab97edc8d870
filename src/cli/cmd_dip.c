// usplit dip: Double-DIP, the paper's baseline that is not trained, on mixtures or on pairs whose mixtures it makes.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/crops.h"
#include "cli/files.h"
#include "cli/frames.h"
#include "cli/setup.h"
#include "cli/text.h"
#include "cli/image/images.h"

static const arg_usage usage = {
    "dip", "mixture.tif [mixture2.tif] [-o out.tif] | --channel A --channel B [options]",
    "Takes images apart without training, as a baseline: two small networks are optimised until what\n"
    "they put out mixes to the image, which takes minutes to hours for each. One mixture is the mean of\n"
    "two structures; two mixtures hold them in different proportions. With --channel, as in usplit\n"
    "train, the mixtures are made from known structures at random crops, and the result is scored.\n"
    "Which result is which structure is not determined; scores keep the better assignment.",
    "usplit dip --channel test/nuclei --channel test/actin --crops 6 --crop 256",
};

typedef struct dip_args {
    arg_list channels;
    const char *out, *mix, *axes;
    int64_t crop, crops, iterations, seed, threads;
    double minutes, lr, exclusion;
    int mode, overwrite, json, quiet;
} dip_args;

static int check(const dip_args *a, const arg_list *rest)
{
    if (a->channels.n > 0 && rest->n > 0) {
        return cli_error(CLI_USAGE, "'%s' beside --channel: give mixtures, or the structures they are made of",
                         rest->items[0]);
    }
    if (a->channels.n > 0 ? a->channels.n != 2 : rest->n < 1 || rest->n > 2) {
        return cli_error(CLI_USAGE, "give one or two mixtures, or two --channel; %d given",
                         a->channels.n > 0 ? a->channels.n : rest->n);
    }
    if (rest->n > 0 && a->mode >= 0 && a->mode + 1 != rest->n) {
        return cli_error(CLI_USAGE, "--mode %s takes %d mixture%s, %d given", a->mode ? "two" : "single", a->mode + 1,
                         a->mode ? "s" : "", rest->n);
    }
    if (rest->n > 0 && a->mix != NULL) {
        return cli_error(CLI_USAGE, "--mix goes with --channel: these images are mixed already");
    }
    if (a->crops > 0 && a->crop == 0 && rest->n > 0) {
        return cli_error(CLI_USAGE, "--crops needs --crop, the side of a crop");
    }
    return CLI_OK;
}

static int parse(dip_args *a, arg_list *rest, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->mode = -1;
    a->minutes = a->lr = a->exclusion = NAN;
    const arg_spec specs[] = {
        {"Data", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--channel", NULL, ARG_LIST, &a->channels, 0, 0, "PATH", "one structure; give it twice"},
        AXES_SPEC(a->axes),
        {"--mode", NULL, ARG_CHOICE, &a->mode, 0, 0, "single|two", "mixtures (as many as given; with --channel two)"},
        {"--mix", NULL, ARG_TEXT, &a->mix, 0, 0, "A,B", "share of the first structure in each (0.5,0.3)"},
        {"--crop", NULL, ARG_INT, &a->crop, 65, 4096, "N",
         "side of random crops (with --channel 256, else the whole image)"},
        {"--crops", NULL, ARG_INT, &a->crops, 1, 100000, "N", "crops of every frame (with --channel 6, else 1)"},
        {"Optimisation", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--iterations", NULL, ARG_INT, &a->iterations, 1, 1e9, "N", "of each (two mixtures 4000, one 8000)"},
        {"--minutes", NULL, ARG_REAL, &a->minutes, 0, 1e6, "M", "for each, at most"},
        {"--lr", NULL, ARG_REAL, &a->lr, 1e-12, 0.999, "R", "learning rate (two mixtures 0.001, one 0.0005)"},
        {"--exclusion", NULL, ARG_REAL, &a->exclusion, 0, 1e6, "W",
         "weight of edges in common (two mixtures 0.1, one 0.01)"},
        {"--seed", NULL, ARG_INT, &a->seed, 0, 9007199254740992.0, "N", "of crops, networks and noise (0)"},
        {"--threads", NULL, ARG_INT, &a->threads, 0, 1024, "N", "crops side by side; 0: one per core (0)"},
        {"Output", NULL, 0, NULL, 0, 0, NULL, NULL},
        {"--out", "-o", ARG_TEXT, &a->out, 0, 0, "FILE.tif",
         "both results, 32 bit (mixtures: NAME_dip.tif; with --channel none)"},
        {"--overwrite", NULL, ARG_FLAG, &a->overwrite, 0, 0, NULL, "replace a file that exists"},
        {"--json", NULL, ARG_FLAG, &a->json, 0, 0, NULL, "results as JSON instead of the table"},
        {"--quiet", "-q", ARG_FLAG, &a->quiet, 0, 0, NULL, "no progress"},
        {NULL, NULL, 0, NULL, 0, 0, NULL, NULL},
    };
    int rc = args_parse(&usage, specs, argc, argv, rest);
    return rc != 0 ? rc : check(a, rest);
}

static int read_mix(double mix[2], const char *text)
{
    char *end = NULL;
    errno = 0;
    mix[0] = strtod(text, &end);
    if (end != text && *end == ',') {
        const char *second = end + 1;
        mix[1] = strtod(second, &end);
        if (end != second && *end == '\0' && errno == 0) {
            return CLI_OK;
        }
    }
    return cli_error(CLI_USAGE, "--mix: '%s' is not two numbers like 0.5,0.3", text);
}

static int make_options(crops_options *o, const dip_args *a, int n_mixtures)
{
    int rc;
    int known = a->channels.n > 0;
    memset(o, 0, sizeof *o);
    CLI_LIB(usplit_dip_options_init(&o->dip, sizeof o->dip));
    o->dip.mode = n_mixtures;
    o->dip.iterations = a->iterations;
    o->dip.learning_rate = isnan(a->lr) ? 0 : a->lr;
    o->dip.exclusion_weight = isnan(a->exclusion) ? 0 : a->exclusion > 0 ? a->exclusion : -1;
    o->dip.seed = (uint64_t)a->seed;
    o->dip.max_seconds = isnan(a->minutes) ? 0 : 60 * a->minutes;
    o->size = a->crop > 0 ? a->crop : known ? 256 : 0;
    o->per_frame = a->crops > 0 ? a->crops : known ? 6 : 1;
    o->threads = a->threads;
    o->quiet = a->quiet;
    if (a->mix != NULL) {
        CLI_TRY(read_mix(o->dip.mix, a->mix));
    }
done:
    return rc;
}

// All crops that were begun, as frames of one stack.
static int write_results(const crop_list *list, const char *path, double pixel_size)
{
    int rc = CLI_OK;
    image_writer *writer = NULL;
    int64_t n = 0;
    for (int i = 0; i < list->n; i++) {
        n += list->items[i].state != CROP_WAITS;
    }
    if (n == 0) {
        return CLI_OK;
    }
    image_layout layout = {.height = list->height, .width = list->width, .channels = 2, .slices = 1, .frames = n,
                          .type = USPLIT_TYPE_F32, .pixel_width = pixel_size, .pixel_height = pixel_size,
                          .info = "Double-DIP estimates; their order, offset and scale are not determined.\n"};
    CLI_TRY(image_create(&writer, path, &layout));
    n = 0;
    for (int i = 0; i < list->n; i++) {
        if (list->items[i].state != CROP_WAITS) {
            CLI_TRY(image_write_rows(writer, n++, 0, list->height, list->items[i].estimates));
        }
    }
    CLI_TRY(image_commit(writer, NULL));
done:
    image_writer_free(writer);
    return rc;
}

// ---- What is said ----

typedef struct means {
    int n;
    double ri_psnr[2], ssim[2], input[2];
} means;

static means mean_of(const crop_list *list)
{
    means m = {0};
    for (int i = 0; i < list->n; i++) {
        const crop *c = &list->items[i];
        m.n += c->state != CROP_WAITS;
        for (int k = 0; k < 2 && c->state != CROP_WAITS; k++) {
            m.ri_psnr[k] += c->quality.ri_psnr[k];
            m.ssim[k] += c->quality.ssim[k];
            m.input[k] += c->input.ri_psnr[k];
        }
    }
    for (int k = 0; k < 2 && m.n > 0; k++) {
        m.ri_psnr[k] /= m.n;
        m.ssim[k] /= m.n;
        m.input[k] /= m.n;
    }
    return m;
}

static void print_table(const crop_list *list, const frame_set *set)
{
    printf("%-20s %6s %6s  %10s %6s %8s", "frame", "row", "column", "iterations", "best", "mixture");
    printf("%s\n", list->known ? "   RI-PSNR 1      2  SSIM 1      2  order" : "");
    for (int i = 0; i < list->n; i++) {
        const crop *c = &list->items[i];
        const usplit_image_pair_quality *q = &c->quality;
        if (c->state == CROP_WAITS) {
            continue;
        }
        char *name = frames_name(set, c->frame);
        printf("%-20.20s %6lld %6lld  %10lld %6lld %8.2f", name, (long long)c->row, (long long)c->column,
               (long long)c->result.iterations, (long long)c->result.best_iteration, c->result.psnr);
        free(name);
        if (list->known) {
            printf("  %10s %6s  %6.3f %6.3f  %s", text_decibel(q->ri_psnr[0]).text, text_decibel(q->ri_psnr[1]).text,
                   q->ssim[0], q->ssim[1], q->swapped ? "2 1" : "1 2");
        }
        printf("\n");
    }
    means m = mean_of(list);
    if (list->known && m.n > 0) {
        printf("mean of %d crop%s: RI-PSNR %s and %s dB, together %s; SSIM %.3f and %.3f\n", m.n, m.n == 1 ? "" : "s",
               text_decibel(m.ri_psnr[0]).text, text_decibel(m.ri_psnr[1]).text,
               text_decibel((m.ri_psnr[0] + m.ri_psnr[1]) / 2).text, m.ssim[0], m.ssim[1]);
        printf("the first mixture itself, taken for both: %s and %s dB\n", text_decibel(m.input[0]).text,
               text_decibel(m.input[1]).text);
    }
}

static void json_pair(json *j, const char *key, const double values[2])
{
    json_begin(j, key, '[');
    json_real(j, NULL, values[0]);
    json_real(j, NULL, values[1]);
    json_end(j, ']');
}

static void print_json(const crop_list *list, const frame_set *set, const char *out)
{
    json j;
    json_start(&j, stdout);
    json_begin(&j, NULL, '{');
    json_int(&j, "mixtures", list->n_mixtures);
    if (out != NULL) {
        json_text(&j, "file", out);
    }
    json_begin(&j, "crops", '[');
    for (int i = 0; i < list->n; i++) {
        const crop *c = &list->items[i];
        if (c->state == CROP_WAITS) {
            continue;
        }
        char *name = frames_name(set, c->frame);
        json_begin(&j, NULL, '{');
        json_text(&j, "frame", name);
        json_int(&j, "row", c->row);
        json_int(&j, "column", c->column);
        json_int(&j, "height", list->height);
        json_int(&j, "width", list->width);
        json_bool(&j, "stopped", c->state == CROP_STOPPED);
        json_int(&j, "iterations", c->result.iterations);
        json_int(&j, "best_iteration", c->result.best_iteration);
        json_real(&j, "mixture_psnr", c->result.psnr);
        json_real(&j, "loss", c->result.loss);
        json_real(&j, "seconds", c->result.seconds);
        if (list->known) {
            json_bool(&j, "swapped", c->quality.swapped);
            json_pair(&j, "ri_psnr", c->quality.ri_psnr);
            json_pair(&j, "ssim", c->quality.ssim);
            json_pair(&j, "input_ri_psnr", c->input.ri_psnr);
        }
        json_end(&j, '}');
        free(name);
    }
    json_end(&j, ']');
    if (list->known) {
        means m = mean_of(list);
        json_pair(&j, "mean_ri_psnr", m.ri_psnr);
        json_pair(&j, "mean_ssim", m.ssim);
    }
    json_end(&j, '}');
}

static int name_output(char **out, const dip_args *a, const frame_set *set)
{
    *out = NULL;
    if (a->out != NULL) {
        *out = cli_format("%s", a->out);
    } else if (a->channels.n == 0) {
        char *stem = files_stem(set->files[0].paths[0]);
        *out = cli_format("%s_dip.tif", stem);
        free(stem);
    }
    return files_check_new(*out, a->overwrite);
}

int cmd_dip(int argc, char **argv)
{
    dip_args a;
    arg_list rest;
    frame_set set = {0};
    crop_list list = {0};
    crops_options options;
    char *out = NULL;
    int64_t n;
    int rc = parse(&a, &rest, argc, argv);
    if (rc != 0) {
        return rc == ARGS_HELP ? CLI_OK : rc;
    }
    cli_advise_memory("a smaller --crop, fewer --threads");
    list.known = a.channels.n > 0;
    list.n_mixtures = !list.known ? rest.n : a.mode == 0 ? 1 : 2;
    CLI_TRY(make_options(&options, &a, list.n_mixtures));
    set.axes = a.axes;
    CLI_TRY(frames_add(&set, list.known ? &a.channels : &rest, &n));
    CLI_TRY(name_output(&out, &a, &set));
    CLI_TRY(crops_cut(&list, &set, &options));
    rc = crops_run(&list, &options);
    if (rc != CLI_OK && rc != CLI_CANCELLED) {
        goto done;
    }
    int stopped = rc;
    if (out != NULL) {
        CLI_TRY(write_results(&list, out, set.pixel_size));
    }
    if (a.json) {
        print_json(&list, &set, out);
    } else {
        print_table(&list, &set);
    }
    if (out != NULL && !a.quiet) {
        fprintf(stderr, "written   %s\n", out);
    }
    if (stopped && !a.quiet) {
        fprintf(stderr, "stopped; crops that had begun are as good as they got\n");
    }
    rc = stopped;
done:
    crops_free(&list);
    frames_free(&set);
    free(out);
    return rc;
}
