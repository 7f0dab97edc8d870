// Scores of a model on frames with known channels, and the table of them.
#include "cli/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/score_frame.h"
#include "cli/setup.h"

const tiler_args tiler_args_none = {0, -1, -1, -1, -1, -1, -1, -1, -1};

int score_tiler_options(usplit_tiler_options *options, const tiler_args *args)
{
    int rc;
    CLI_LIB(usplit_tiler_options_init(options, sizeof *options));
    options->tiling = args->outer ? USPLIT_TILING_OUTER : USPLIT_TILING_INNER;
    options->pad = args->pad >= 0 ? (int32_t)args->pad : options->pad;
    options->samples = args->samples >= 0 ? (int32_t)args->samples : options->samples;
    options->latent = args->latent >= 0 ? args->latent : options->latent;
    options->batch = args->batch >= 0 ? (int32_t)args->batch : options->batch;
    options->seed = args->seed >= 0 ? (uint64_t)args->seed : options->seed;
    options->patch = args->patch >= 0 ? (int32_t)args->patch : options->patch;
    options->shifts = args->shifts >= 0 ? (int32_t)args->shifts : options->shifts;
    options->memory_budget = args->memory >= 0 ? args->memory : options->memory_budget;
done:
    return rc;
}

// What is compared of a frame: its first rows and columns, in normalised units.
typedef struct score_part {
    const score_frame *f;
    int64_t height, width;
    float *target, *prediction;
} score_part;

static void normalise(const score_part *part, const float *plane, double mean, double deviation, float *dst)
{
    for (int64_t y = 0; y < part->height; y++) {
        for (int64_t x = 0; x < part->width; x++) {
            dst[y * part->width + x] = (float)(((double)plane[y * part->f->width + x] - mean) / deviation);
        }
    }
}

// Scaling both leaves RI-PSNR, PSNR and seams as they are; SSIM needs it. tile: side of a tile; 0: not made of tiles.
static int compare(const score_part *part, const float *target, const float *prediction, double mean, double deviation,
                   int64_t tile, score_values *values)
{
    int rc;
    usplit_image a, b;
    usplit_image_quality q = {.struct_size = sizeof q};
    usplit_image_seam_facts seams = {.struct_size = sizeof seams, .ratio = NAN, .ratio_error = NAN};
    int64_t h = part->height, w = part->width;
    normalise(part, target, mean, deviation, part->target);
    normalise(part, prediction, mean, deviation, part->prediction);
    CLI_LIB(usplit_image_init(&a, sizeof a, part->target, USPLIT_TYPE_F32, 1, h, w, 1));
    CLI_LIB(usplit_image_init(&b, sizeof b, part->prediction, USPLIT_TYPE_F32, 1, h, w, 1));
    CLI_LIB(usplit_image_compare(&a, &b, &q));
    if (tile >= 4) {            // smaller ones have no inside to compare borders with
        CLI_LIB(usplit_image_seams(&b, tile, 0, 0, &seams));
    }
    *values = (score_values){q.ri_psnr, q.psnr, q.ssim, seams.ratio, seams.ratio_error};
done:
    return rc;
}

static int score_one(score *s, const score_frame *f, int64_t index, int64_t tile)
{
    int rc = CLI_OK;
    score_part part = {f, f->height - s->drop_last, f->width - s->drop_last, NULL, NULL};
    if (part.height < 1 || part.width < 1) {
        return cli_error(CLI_USAGE, "--drop-last %lld leaves nothing of frame %lld, which is %lld x %lld",
                         (long long)s->drop_last, (long long)index + 1, (long long)f->width, (long long)f->height);
    }
    part.target = cli_alloc((size_t)f->n, 2 * sizeof(float));
    if (part.target == NULL) {
        return CLI_FAILED;
    }
    part.prediction = part.target + f->n;
    for (int c = 0; c < f->channels; c++) {
        const float *target = f->targets + c * f->n;
        double mean = s->model.target_mean[c], deviation = s->model.target_deviation[c];
        int64_t place = index * f->channels + c;
        CLI_TRY(compare(&part, target, f->predictions + c * f->n, mean, deviation, tile, &s->prediction[place]));
        CLI_TRY(compare(&part, target, f->input, mean, deviation, 0, &s->input[place]));
    }
done:
    free(part.target);
    return rc;
}

double score_mean(const score_values *values, int64_t n, int64_t stride, size_t offset)
{
    double sum = 0;
    int64_t known = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = *(const double *)((const char *)&values[i * stride] + offset);
        if (isfinite(v)) {
            sum += v;
            known++;
        }
    }
    return known > 0 ? sum / (double)known : NAN;
}

void score_average(score_values *mean, const score_values *values, int64_t n, int64_t stride)
{
    mean->ri_psnr = score_mean(values, n, stride, offsetof(score_values, ri_psnr));
    mean->psnr = score_mean(values, n, stride, offsetof(score_values, psnr));
    mean->ssim = score_mean(values, n, stride, offsetof(score_values, ssim));
    mean->seam = score_mean(values, n, stride, offsetof(score_values, seam));
    double square = 0, known = 0;
    for (int64_t i = 0; i < n; i++) {
        double error = values[i * stride].seam_error;
        square += isfinite(error) ? error * error : 0;
        known += isfinite(error);
    }
    mean->seam_error = known > 0 ? sqrt(square) / known : NAN;
}

static void cancel(void *tiler)
{
    usplit_tiler_cancel(tiler);
}

int score_frames(score *s, const usplit_model *model, const usplit_dataset_reader *reader,
                 const score_options *options)
{
    int rc;
    usplit_tiler *tiler = NULL;
    score_frame f = {0};
    progress p;
    char what[64];
    progress_start(&p, options->quiet);
    p.what = what;
    memset(s, 0, sizeof *s);
    s->model.struct_size = sizeof s->model;
    CLI_LIB(usplit_model_info(model, &s->model));
    int measured = s->model.input == USPLIT_INPUT_MEASURED;
    if (reader->n_channels != s->model.channels + measured) {
        return cli_error(CLI_USAGE, "%lld channels given, the model splits %s into %d%s",
                         (long long)reader->n_channels, names_title(&names_input, s->model.input), s->model.channels,
                         measured ? " (--mixture names them)" : "");
    }
    s->n_frames = reader->n_frames;
    s->drop_last = options->drop_last;
    s->prediction = cli_alloc((size_t)(s->n_frames * s->model.channels), sizeof *s->prediction);
    s->input = cli_alloc((size_t)(s->n_frames * s->model.channels), sizeof *s->input);
    if (s->prediction == NULL || s->input == NULL) {
        return CLI_FAILED;
    }
    CLI_LIB(usplit_tiler_create(&tiler, model, &options->tiler));
    cli_on_signal(cancel, tiler);
    for (int64_t i = 0; i < s->n_frames; i++) {
        snprintf(what, sizeof what, "frame %lld/%lld", (long long)i + 1, (long long)s->n_frames);
        CLI_TRY(cli_stopped());
        CLI_TRY(score_frame_read(&f, &s->model, reader, i));
        usplit_tiler_cost cost = {.struct_size = sizeof cost};
        usplit_tiler_result result;
        CLI_LIB(usplit_tiler_plan(tiler, f.height, f.width, &cost));
        CLI_TRY(score_frame_predict(&f, tiler, &p, &result));
        s->seconds += result.seconds;
        s->passes += result.passes;
        CLI_TRY(score_one(s, &f, i, cost.inner));
        if (options->take != NULL) {
            CLI_TRY(options->take(i, f.height, f.width, f.predictions, options->user));
        }
        score_frame_free(&f);
    }
    for (int c = 0; c < s->model.channels; c++) {
        score_average(&s->mean_prediction[c], s->prediction + c, s->n_frames, s->model.channels);
        score_average(&s->mean_input[c], s->input + c, s->n_frames, s->model.channels);
        setup_channel_name(&s->model, c, s->names[c], sizeof s->names[c]);
        if (options->names[c] != NULL) {
            snprintf(s->names[c], sizeof s->names[c], "%s", options->names[c]);
        }
    }
done:
    cli_on_signal(NULL, NULL);
    progress_free(&p);
    score_frame_free(&f);
    usplit_tiler_free(tiler);
    return rc;
}

// ---- The table --------------------------------------------------------------------------------------

static void print_cells(FILE *file, double prediction, double input, int decimals)
{
    double pair[3] = {prediction, input, prediction - input};
    for (int k = 0; k < 3; k++) {
        if (isnan(pair[k])) {
            fprintf(file, " %7s", "-");
        } else {
            fprintf(file, k == 2 ? " %+7.*f" : " %7.*f", decimals, pair[k]);
        }
    }
}

static void print_row(FILE *file, int room, const char *name, const score_values *p, const score_values *i)
{
    fprintf(file, "%-*s", room, name);
    print_cells(file, p->ri_psnr, i->ri_psnr, 2);
    fputs("  ", file);
    print_cells(file, p->psnr, i->psnr, 2);
    fputs("  ", file);
    print_cells(file, p->ssim, i->ssim, 3);
    if (isnan(p->seam)) {
        fputs("   -\n", file);
    } else if (isnan(p->seam_error)) {
        fprintf(file, "   %.3f\n", p->seam);
    } else {
        fprintf(file, "   %.3f +- %.3f\n", p->seam, p->seam_error);
    }
}

// Planes whose RI-PSNR is no number.
static int64_t count_unscored(const score *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_frames * s->model.channels; i++) {
        n += !isfinite(s->prediction[i].ri_psnr);
    }
    return n;
}

void score_print(const score *s, FILE *file)
{
    int room = 10, channels = s->model.channels;
    score_values p, i;
    for (int c = 0; c < channels; c++) {
        room = (int)strlen(s->names[c]) > room ? (int)strlen(s->names[c]) : room;
    }
    fprintf(file, "%-*s%-26s%-26s%-26s%s\n", room, "", "    RI-PSNR, dB", "    PSNR, dB", "    SSIM", " seam");
    fprintf(file, "%-*s", room, "");
    for (int k = 0; k < 3; k++) {
        fprintf(file, "%s %7s %7s %7s", k > 0 ? "  " : "", "split", "input", "gain");
    }
    fputc('\n', file);
    for (int c = 0; c < channels; c++) {
        print_row(file, room, s->names[c], &s->mean_prediction[c], &s->mean_input[c]);
    }
    score_average(&p, s->mean_prediction, channels, 1);
    score_average(&i, s->mean_input, channels, 1);
    print_row(file, room, "mean", &p, &i);
    fprintf(file,
            "%lld frame%s. \"input\": the mixed image itself taken as the channel. RI-PSNR: after the best "
            "affine fit.\nseam: steps across borders of tiles over steps inside them; 1: no seam to be seen.\n",
            (long long)s->n_frames, s->n_frames == 1 ? "" : "s");
    if (s->drop_last > 0) {
        fprintf(file, "The last %lld rows and columns are not in the scores.\n", (long long)s->drop_last);
    }
    int64_t unscored = count_unscored(s);
    if (unscored > 0) {
        fprintf(file,
                "%lld of %lld planes have no RI-PSNR (a constant split or target) and are left out of its mean.\n",
                (long long)unscored, (long long)(s->n_frames * channels));
    }
}

static void json_values(json *j, const char *key, const score_values *v)
{
    json_begin(j, key, '{');
    json_real(j, "ri_psnr", v->ri_psnr);
    json_real(j, "psnr", v->psnr);
    json_real(j, "ssim", v->ssim);
    json_real(j, "seam", v->seam);
    json_real(j, "seam_error", v->seam_error);
    json_end(j, '}');
}

void score_json(const score *s, json *j)
{
    json_int(j, "frames", s->n_frames);
    json_real(j, "seconds", s->seconds);
    json_int(j, "passes", s->passes);
    json_int(j, "drop_last", s->drop_last);
    json_begin(j, "channels", '[');
    for (int c = 0; c < s->model.channels; c++) {
        json_begin(j, NULL, '{');
        json_text(j, "name", s->names[c]);
        json_values(j, "split", &s->mean_prediction[c]);
        json_values(j, "input", &s->mean_input[c]);
        json_begin(j, "frames", '[');
        for (int64_t i = 0; i < s->n_frames; i++) {
            json_values(j, NULL, &s->prediction[i * s->model.channels + c]);
        }
        json_end(j, ']');
        json_end(j, '}');
    }
    json_end(j, ']');
}

void score_free(score *s)
{
    free(s->prediction);
    free(s->input);
    s->prediction = s->input = NULL;
}
