// The row of Double-DIP: random crops of the test frames, two mixtures of each, networks fitted to every crop anew
// (data 8). Crops are done in groups, as many as there are threads; crops.csv keeps those that are done, so that a run
// that was stopped goes on with the next group.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/cli.h"
#include "cli/crops.h"
#include "cli/files.h"
#include "cli/heldout.h"
#include "cli/repro/repro.h"

enum { RI_PSNR_1, RI_PSNR_2, SSIM_1, SSIM_2, INPUT_1, INPUT_2, INPUT_SSIM_1, INPUT_SSIM_2, MIXTURE, BYTES, SECONDS,
       N_COLUMNS };

static const char head[] = "ri_psnr_1,ri_psnr_2,ssim_1,ssim_2,input_ri_psnr_1,input_ri_psnr_2,input_ssim_1,"
                           "input_ssim_2,mixture_psnr,bytes,seconds";

typedef struct crop_row {
    double values[N_COLUMNS];
} crop_row;

// ---- The file of crops that are done ------------------------------------------------------------------------------

static int write_rows(const char *path, const crop_row *rows, int n)
{
    files_output out;
    int rc = files_create(&out, path);
    if (rc != CLI_OK) {
        return rc;
    }
    fprintf(out.file, "%s\n", head);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < N_COLUMNS; k++) {
            fprintf(out.file, "%.9g%c", rows[i].values[k], k + 1 < N_COLUMNS ? ',' : '\n');
        }
    }
    return files_commit(&out);
}

// At most `room`; a line that is not whole ends it.
static int read_rows(const char *path, crop_row *rows, int room)
{
    char line[1024];
    int n = 0, whole = 1;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    whole = fgets(line, sizeof line, file) != NULL && strncmp(line, head, strlen(head)) == 0;
    while (whole && n < room && fgets(line, sizeof line, file) != NULL) {
        char *p = line, *end;
        for (int k = 0; k < N_COLUMNS && whole; k++) {
            rows[n].values[k] = strtod(p, &end);
            whole = end != p && *end == (k + 1 < N_COLUMNS ? ',' : '\n');
            p = end + 1;
        }
        n += whole;
    }
    fclose(file);
    return n;
}

// ---- Crops --------------------------------------------------------------------------------------------------------

static void take_crop(crop_row *row, const crop *c)
{
    for (int k = 0; k < 2; k++) {
        row->values[RI_PSNR_1 + k] = c->quality.ri_psnr[k];
        row->values[SSIM_1 + k] = c->quality.ssim[k];
        row->values[INPUT_1 + k] = c->input.ri_psnr[k];
        row->values[INPUT_SSIM_1 + k] = c->input.ssim[k];
    }
    row->values[MIXTURE] = c->result.psnr;
    row->values[BYTES] = (double)c->result.bytes;
    row->values[SECONDS] = c->result.seconds;
}

static int run_crops(crop_list *all, crop_row *rows, const crops_options *options, int group, const char *path)
{
    int rc = CLI_OK;
    int done = read_rows(path, rows, all->n);
    while (done < all->n) {
        crop_list part = *all;
        crops_options of_part = *options;
        part.items = all->items + done;
        part.n = all->n - done < group ? all->n - done : group;
        of_part.dip.seed += (uint64_t)done;
        if (!options->quiet) {
            fprintf(stderr, "crops %d to %d of %d\n", done + 1, done + part.n, all->n);
        }
        CLI_TRY(crops_run(&part, &of_part));
        for (int i = 0; i < part.n; i++) {
            take_crop(&rows[done + i], &part.items[i]);
        }
        done += part.n;
        CLI_TRY(write_rows(path, rows, done));
    }
done:
    return rc;
}

static void take_means(repro_result *r, const crop_row *rows, int n)
{
    double mean[N_COLUMNS] = {0};
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < N_COLUMNS; k++) {
            mean[k] += rows[i].values[k] / n;
        }
    }
    repro_quality *q = &r->quality[0];
    q->seam = NAN;              // crops are not made of tiles
    for (int c = 0; c < 2; c++) {
        q->ri_psnr[c] = mean[RI_PSNR_1 + c];
        q->ssim[c] = mean[SSIM_1 + c];
        q->psnr[c] = NAN;
        r->example_ri_psnr[c] = rows[0].values[RI_PSNR_1 + c];
    }
    q->mean_ri_psnr = (q->ri_psnr[0] + q->ri_psnr[1]) / 2;
    q->mean_ssim = (q->ssim[0] + q->ssim[1]) / 2;
    r->input_ri_psnr = (mean[INPUT_1] + mean[INPUT_2]) / 2;
    r->input_ssim = (mean[INPUT_SSIM_1] + mean[INPUT_SSIM_2]) / 2;
    r->best_val_psnr = NAN;
    r->planned_bytes = (int64_t)mean[BYTES];
    r->train_seconds = mean[SECONDS] * n;
}

// ---- The run --------------------------------------------------------------------------------------------------------

static void describe(repro_result *r, const repro_request *request, const repro_run *run,
                     const usplit_context_facts *facts)
{
    struct rusage usage;
    int32_t v = usplit_version();
    r->channels = 2;
    r->steps = run->settings.dip_iterations;
    r->peak_bytes = getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
    memcpy(r->hash, run->hash, sizeof r->hash);
    snprintf(r->network, sizeof r->network, "Double-DIP");
    snprintf(r->stopped, sizeof r->stopped, "steps");
    snprintf(r->version, sizeof r->version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    snprintf(r->device, sizeof r->device, "%s, %d thread%s", facts->device, facts->threads,
             facts->threads == 1 ? "" : "s");
    snprintf(r->engine, sizeof r->engine, "%s", facts->engine);
    for (int c = 0; c < 2; c++) {
        snprintf(r->channel_names[c], sizeof r->channel_names[c], "%s", run->task->source == REPRO_OWN ?
                 request->channel_names[c] : run->task->channel_names[c]);
    }
}

// The test frames, with their channels clipped as in training.
static int cut_crops(crop_list *list, usplit_dataset *dataset, const repro_settings *s, const crops_options *options,
                     int64_t *n_frames)
{
    int rc;
    heldout test = {0};
    usplit_dataset_reader frames;
    CLI_TRY(heldout_reader(&test, dataset, USPLIT_SET_TEST, &frames));
    if (s->test_frames > 0 && frames.n_frames > s->test_frames) {
        frames.n_frames = s->test_frames;
    }
    *n_frames = frames.n_frames;
    for (int64_t f = 0; f < frames.n_frames; f++) {
        int64_t height, width;
        CLI_TRY(frames.frame_size(f, &height, &width, frames.user));
        if (height < options->size || width < options->size) {
            rc = cli_error(REPRO_REFUSED, "a test frame is %lld x %lld, smaller than a crop of %lld x %lld",
                           (long long)width, (long long)height, (long long)options->size, (long long)options->size);
            goto done;
        }
    }
    list->known = 1;
    list->n_mixtures = 2;
    CLI_TRY(crops_cut_frames(list, &frames, options));
done:
    heldout_free(&test);
    return rc;
}

static int make_options(crops_options *o, const repro_request *request, const repro_settings *s)
{
    int rc;
    memset(o, 0, sizeof *o);
    CLI_LIB(usplit_dip_options_init(&o->dip, sizeof o->dip));
    o->dip.mode = USPLIT_DIP_TWO;
    o->dip.iterations = s->dip_iterations;
    o->dip.seed = (uint64_t)request->seed;
    o->dip.max_seconds = 60 * s->minutes;
    o->size = s->dip_side;
    o->per_frame = s->dip_crops;
    o->threads = request->machine.threads;
    o->quiet = request->quiet;
done:
    return rc;
}

int repro_dip_run(const repro_request *request, const repro_run *run)
{
    int rc;
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_context_facts facts = {.struct_size = sizeof facts};
    usplit_dataset_facts data = {.struct_size = sizeof data};
    crop_list list = {0};
    crop_row *rows = NULL;
    crops_options options;
    repro_result r = {.channels = 2};
    machine_args machine = {.device = "cpu", .threads = request->machine.threads};
    char *path = cli_format("%s/result.json", run->folder), *csv = cli_format("%s/crops.csv", run->folder);
    if (run->task->source == REPRO_OWN && request->n_channels != 2) {
        rc = cli_error(REPRO_REFUSED, "Double-DIP splits into 2 structures, not %d", request->n_channels);
        goto done;
    }
    CLI_TRY(make_options(&options, request, &run->settings));
    CLI_TRY(setup_context(&context, &machine));
    CLI_LIB(usplit_context_info(context, &facts));
    CLI_TRY(repro_data_make(&dataset, context, request, run->task, &run->settings, 1));
    CLI_LIB(usplit_dataset_info(dataset, &data));
    r.data_bytes = data.bytes;
    CLI_TRY(cut_crops(&list, dataset, &run->settings, &options, &r.test_frames));
    if (list.n == 0 || (rows = cli_alloc((size_t)list.n, sizeof *rows)) == NULL) {
        rc = cli_error(CLI_FAILED, "there are no test frames");
        goto done;
    }
    CLI_TRY(files_make_folder(run->folder));
    CLI_TRY(files_remove_temporary(run->folder));
    CLI_TRY(run_crops(&list, rows, &options, facts.threads, csv));
    take_means(&r, rows, list.n);
    describe(&r, request, run, &facts);
    CLI_TRY(repro_result_write(&r, request->experiment, path));
done:
    crops_free(&list);
    free(rows);
    usplit_dataset_free(dataset);
    usplit_context_free(context);
    free(csv);
    free(path);
    return rc;
}
