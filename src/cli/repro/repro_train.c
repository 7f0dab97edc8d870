// One run, in the process that calls: data, training (or what is left of it), evaluation, result. Everything lies in
// the run's folder: settings.txt, model.h5 and what beside it a training writes, history.csv, example.tif, and
// result.json, written last.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "cli/heldout.h"
#include "cli/repro/repro.h"
#include "cli/image/images.h"
#include "cli/train_run.h"

typedef struct work {           // what a run holds
    const repro_request *request;
    const repro_run *run;
    usplit_context *context;
    usplit_dataset *dataset;
    usplit_model *model;
    train_files files;
    char *history;
    repro_result result;
} work;

// ---- Training ---------------------------------------------------------------------------------------------------

static int write_settings(const work *w)
{
    repro_pair pairs[REPRO_MAX_PAIRS];
    files_output out;
    char *path = cli_format("%s/settings.txt", w->run->folder);
    int n = repro_settings_list(&w->run->settings, w->run->row, w->run->task, pairs);
    int rc = files_create(&out, path);
    free(path);
    if (rc != CLI_OK) {
        return rc;
    }
    for (int i = 0; i < n; i++) {
        fprintf(out.file, "%s: %s\n", pairs[i].key, pairs[i].value);
    }
    return files_commit(&out);
}

// The setup's own model, or the one that an earlier session left.
static int open_model(work *w, int *resume)
{
    int rc;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_model_options options = w->run->settings.model;
    options.channels = w->run->task->source == REPRO_OWN ? w->request->n_channels : 2;
    *resume = files_exists(w->files.last);
    if (*resume) {
        CLI_TRY(setup_load(&w->model, &facts, w->context, w->files.last));
    } else {
        CLI_LIB(usplit_model_create(&w->model, w->context, &options));
        CLI_LIB(usplit_model_info(w->model, &facts));
    }
    w->result.parameters = facts.n_parameters;
    w->result.channels = facts.channels;
    w->result.steps = facts.steps_trained;
    setup_network_name(facts.family, facts.variant, w->result.network, sizeof w->result.network);
    rc = CLI_OK;
done:
    return rc;
}

static int64_t peak_of_process(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

static void take_training(work *w, const usplit_trainer_facts *f, int64_t steps_before)
{
    repro_result *r = &w->result;
    const repro_settings *s = &w->run->settings;
    const usplit_trainer_options *t = &s->trainer;
    r->steps = f->step;
    r->epochs = f->epoch;
    r->best_epoch = f->best_epoch + 1;
    r->skipped_steps = f->skipped_steps;
    r->best_val_psnr = f->best_val_psnr;
    r->train_seconds = f->seconds;
    r->patches = f->step * t->batch;
    r->area_patches = (double)r->patches * s->area;
    r->peak_bytes = f->step > steps_before ? peak_of_process() : 0;
    const char *why = f->stopped_early ? "no more gain" :
                      t->max_steps > 0 && f->step >= t->max_steps ? "steps" :
                      f->epoch >= t->max_epochs ? "epochs" : "minutes";
    snprintf(r->stopped, sizeof r->stopped, "%s", why);
}

static int plan(work *w, int32_t batch)
{
    int rc;
    usplit_model_cost cost = {.struct_size = sizeof cost};
    CLI_LIB(usplit_model_plan(w->model, USPLIT_MODE_TRAIN, batch, 0, &cost));
    w->result.planned_bytes = cost.arena_bytes + cost.parameter_bytes;
done:
    return rc;
}

static int train(work *w)
{
    int rc, resume;
    usplit_trainer_facts facts = {.struct_size = sizeof facts};
    usplit_dataset_facts data = {.struct_size = sizeof data};
    const repro_settings *s = &w->run->settings;
    const repro_task *task = w->run->task;
    train_run_options run = {.quiet = w->request->quiet, .clip_quantile = 0.995, .total_seconds = 60 * s->minutes};
    for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
        run.names[c] = task->source == REPRO_OWN ? w->request->channel_names[c] : c < 2 ? task->channel_names[c] : NULL;
    }
    CLI_TRY(open_model(w, &resume));
    int64_t steps_before = w->result.steps;
    CLI_TRY(repro_data_make(&w->dataset, w->context, w->request, task, s, 1 + s->model.lc_count));
    CLI_LIB(usplit_dataset_info(w->dataset, &data));
    w->result.data_bytes = data.bytes;
    run.resume = resume;
    CLI_TRY(train_run(w->context, w->model, w->dataset, &s->trainer, &w->files, &run, &facts));
    take_training(w, &facts, steps_before);
    CLI_TRY(plan(w, facts.part_batch));
done:
    return rc;
}

// ---- Evaluation -------------------------------------------------------------------------------------------------

typedef struct example {        // the first test frame, kept for pictures
    const usplit_model_facts *model;
    const usplit_dataset_reader *reader;
    const char *path;
} example;

// The central part, up to 512 x 512: input, true channels, split channels.
static int write_example(const example *x, int64_t height, int64_t width, const float *planes)
{
    enum { SIDE = 512, MOST = 1 + 2 * USPLIT_MAX_CHANNELS };
    int rc, k = x->model->channels;
    int64_t h = height < SIDE ? height : SIDE, w = width < SIDE ? width : SIDE;
    int64_t from = (height - h) / 2 * width + (width - w) / 2;
    char names[MOST][USPLIT_NAME_BYTES + 8];
    image_writer *writer = NULL;
    image_layout layout = {.height = h, .width = w, .channels = 1 + 2 * k, .slices = 1, .frames = 1,
                          .type = USPLIT_TYPE_F32};
    float *all = cli_alloc((size_t)(h * w), sizeof *all * (size_t)layout.channels);
    float *truth = cli_alloc((size_t)(height * width), sizeof *truth);
    rc = all == NULL || truth == NULL ? CLI_FAILED : CLI_OK;
    snprintf(names[0], sizeof names[0], "input");
    for (int c = 0; rc == CLI_OK && c < k; c++) {
        CLI_TRY(x->reader->read(0, c, truth, x->reader->user));
        for (int64_t y = 0; y < h; y++) {
            for (int64_t i = 0; i < w; i++) {
                float value = truth[from + y * width + i];
                all[y * w + i] += value / (float)k;
                all[(1 + c) * h * w + y * w + i] = value;
                all[(1 + k + c) * h * w + y * w + i] = planes[c * height * width + from + y * width + i];
            }
        }
        snprintf(names[1 + c], sizeof names[0], "%s true", x->model->channel_names[c]);
        snprintf(names[1 + k + c], sizeof names[0], "%s split", x->model->channel_names[c]);
    }
    CLI_TRY(rc);
    for (int c = 0; c < 1 + 2 * k; c++) {
        layout.names[c] = names[c];
    }
    CLI_TRY(image_create(&writer, x->path, &layout));
    CLI_TRY(image_write_rows(writer, 0, 0, h, all));
    CLI_TRY(image_commit(writer, NULL));
done:
    image_writer_free(writer);
    free(all);
    free(truth);
    return rc;
}

static int take_frame(int64_t frame, int64_t height, int64_t width, const float *planes, void *user)
{
    return frame == 0 ? write_example(user, height, width, planes) : CLI_OK;
}

static double mean_of(const double *values, int64_t n)
{
    double sum = 0;
    for (int64_t c = 0; c < n; c++) {
        sum += values[c];
    }
    return sum / (double)n;
}

static void take_scores(repro_result *r, const score *s, int k)
{
    repro_quality *q = &r->quality[k];
    for (int c = 0; c < s->model.channels; c++) {
        q->ri_psnr[c] = s->mean_prediction[c].ri_psnr;
        q->psnr[c] = s->mean_prediction[c].psnr;
        q->ssim[c] = s->mean_prediction[c].ssim;
        if (k == 0) {
            r->example_ri_psnr[c] = s->prediction[c].ri_psnr;
            snprintf(r->channel_names[c], sizeof r->channel_names[c], "%s", s->names[c]);
        }
    }
    q->mean_ri_psnr = mean_of(q->ri_psnr, s->model.channels);
    q->mean_ssim = mean_of(q->ssim, s->model.channels);
    score_values mean;
    score_average(&mean, s->mean_prediction, s->model.channels, 1);
    q->seam = mean.seam;
    double input_psnr[USPLIT_MAX_CHANNELS], input_ssim[USPLIT_MAX_CHANNELS];
    for (int c = 0; c < s->model.channels; c++) {
        input_psnr[c] = s->mean_input[c].ri_psnr;
        input_ssim[c] = s->mean_input[c].ssim;
    }
    r->input_ri_psnr = mean_of(input_psnr, s->model.channels);
    r->input_ssim = mean_of(input_ssim, s->model.channels);
    r->eval_seconds += s->seconds;
}

// The patch that shows the network a whole frame at once.
static int whole_frames(int32_t *patch, const usplit_dataset_reader *reader)
{
    int64_t side = 0;
    for (int64_t i = 0; i < reader->n_frames; i++) {
        int64_t height, width;
        int rc = reader->frame_size(i, &height, &width, reader->user);
        if (rc != CLI_OK) {
            return rc;
        }
        side = height > side ? height : side;
        side = width > side ? width : side;
    }
    *patch = (int32_t)side;
    return CLI_OK;
}

// One way of tiling. One that the library refuses leaves its reason instead of numbers.
static int evaluate_once(work *w, const usplit_dataset_reader *reader, int k)
{
    int rc;
    const repro_settings *s = &w->run->settings;
    const repro_eval *e = &s->evals[k];
    repro_quality *q = &w->result.quality[k];
    usplit_model_facts facts = {.struct_size = sizeof facts};
    score values = {0};
    score_options options = {.quiet = w->request->quiet, .drop_last = s->drop_last};
    char *path = cli_format("%s/example.tif", w->run->folder);
    CLI_LIB(usplit_model_info(w->model, &facts));
    example x = {&facts, reader, path};
    CLI_LIB(usplit_tiler_options_init(&options.tiler, sizeof options.tiler));
    options.tiler.tiling = e->tiling == REPRO_OUTER ? USPLIT_TILING_OUTER : USPLIT_TILING_INNER;
    options.tiler.pad = s->pads[k];
    options.tiler.seed = (uint64_t)w->request->seed;
    options.tiler.memory_budget = w->request->memory;
    if (k == 0) {
        options.take = take_frame;
        options.user = &x;
    }
    if (e->tiling == REPRO_WHOLE) {
        CLI_TRY(whole_frames(&options.tiler.patch, reader));
    }
    CLI_TRY(score_frames(&values, w->model, reader, &options));
    take_scores(&w->result, &values, k);
done:
    score_free(&values);
    free(path);
    if (rc == CLI_FAILED && cli_was_refused()) {
        snprintf(q->error, sizeof q->error, "%s", cli_error_line());
        for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
            q->ri_psnr[c] = q->psnr[c] = q->ssim[c] = NAN;
        }
        q->mean_ri_psnr = q->mean_ssim = q->seam = NAN;
        cli_error_clear();
        rc = CLI_OK;
    }
    return rc;
}

static int evaluate(work *w)
{
    int rc;
    heldout test = {0};
    usplit_dataset_reader reader;
    usplit_model_facts facts;
    usplit_model_free(w->model);
    w->model = NULL;
    CLI_TRY(setup_load(&w->model, &facts, w->context, w->files.best));
    CLI_TRY(heldout_reader(&test, w->dataset, USPLIT_SET_TEST, &reader));
    if (test.n == 0) {
        rc = cli_error(CLI_FAILED, "there are no test frames");
        goto done;
    }
    if (w->run->settings.test_frames > 0 && reader.n_frames > w->run->settings.test_frames) {
        reader.n_frames = w->run->settings.test_frames;
    }
    w->result.test_frames = reader.n_frames;
    for (int k = 0; k < w->run->settings.n_evals; k++) {
        CLI_TRY(evaluate_once(w, &reader, k));
    }
done:
    heldout_free(&test);
    return rc;
}

// ---- The run ----------------------------------------------------------------------------------------------------

static void take_machine(work *w)
{
    usplit_context_facts facts = {.struct_size = sizeof facts};
    int32_t v = usplit_version();
    snprintf(w->result.version, sizeof w->result.version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    if (usplit_context_info(w->context, &facts) == USPLIT_OK) {
        snprintf(w->result.device, sizeof w->result.device, "%s, %d thread%s", facts.device, facts.threads,
                 facts.threads == 1 ? "" : "s");
        snprintf(w->result.engine, sizeof w->result.engine, "%s", facts.engine);
    }
}

static int open_folder(work *w)
{
    int rc;
    char *model = cli_format("%s/model.h5", w->run->folder);
    w->history = cli_format("%s/history.csv", w->run->folder);
    train_files_name(&w->files, model, w->history);
    free(model);
    CLI_TRY(files_make_folder(w->run->folder));
    CLI_TRY(files_remove_temporary(w->run->folder));
    CLI_TRY(write_settings(w));
done:
    return rc;
}

int repro_run_here(const repro_request *request, const repro_run *run)
{
    int rc;
    work w = {.request = request, .run = run};
    char *path = cli_format("%s/result.json", run->folder);
    cli_advise_memory("a smaller --scale, or --memory");
    memcpy(w.result.hash, run->hash, sizeof w.result.hash);
    CLI_TRY(setup_context(&w.context, &request->machine));
    take_machine(&w);
    CLI_TRY(open_folder(&w));
    CLI_TRY(train(&w));
    CLI_TRY(evaluate(&w));
    CLI_TRY(repro_result_write(&w.result, request->experiment, path));
done:
    usplit_dataset_free(w.dataset);
    usplit_model_free(w.model);
    usplit_context_free(w.context);
    train_files_free(&w.files);
    free(w.history);
    free(path);
    return rc;
}
