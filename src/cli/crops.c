// Cutting, mixing, running and scoring. A run hardly gains from more threads, so every worker takes a crop of its own,
// in a context of one thread. Workers say what failed through their job; only the main thread records the error line.
#include "cli/crops.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

// ---- Cutting ----

// A random number for (seed, frame, crop, axis): splitmix64.
static uint64_t draw(uint64_t seed, int64_t frame, int64_t number, int axis)
{
    uint64_t z = seed;
    const uint64_t words[] = {(uint64_t)frame, (uint64_t)number, (uint64_t)axis};
    for (int i = 0; i < 3; i++) {
        z += words[i] + 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
    }
    return z;
}

static void view_of(usplit_image *view, float *planes, const crop_list *list, int channels)
{
    usplit_image_init(view, sizeof *view, planes, USPLIT_TYPE_F32, 1, list->height, list->width, channels);
    view->stride_column = sizeof *planes;
    view->stride_row = view->stride_column * list->width;
    view->stride_channel = view->stride_row * list->height;
}

static int cut(crop *c, const crop_list *list, int64_t width, float *const *planes, int n_channels)
{
    int64_t n = list->height * list->width;
    c->pixels = cli_alloc((size_t)(6 * n), sizeof *c->pixels);
    if (c->pixels == NULL) {
        return CLI_FAILED;
    }
    c->truth = list->known ? c->pixels : NULL;
    c->mixtures = c->pixels + 2 * n;
    c->estimates = c->pixels + 4 * n;
    float *to = list->known ? c->truth : c->mixtures;
    for (int k = 0; k < n_channels; k++) {
        for (int64_t y = 0; y < list->height; y++) {
            memcpy(to + k * n + y * list->width, planes[k] + (c->row + y) * width + c->column,
                   (size_t)list->width * sizeof *to);
        }
    }
    return CLI_OK;
}

static int cut_frame(crop_list *list, const usplit_dataset_reader *frames, int64_t frame, const crops_options *o)
{
    int rc, n_channels = (int)frames->n_channels;
    int64_t height, width;
    float *planes[USPLIT_MAX_CHANNELS] = {NULL};
    CLI_TRY(frames->frame_size(frame, &height, &width, frames->user));
    if (height < list->height || width < list->width) {
        return cli_error(CLI_FAILED, "frame %lld is %lld x %lld, smaller than a crop of %lld x %lld",
                         (long long)frame + 1, (long long)width, (long long)height, (long long)list->width,
                         (long long)list->height);
    }
    for (int k = 0; k < n_channels; k++) {
        planes[k] = cli_alloc((size_t)(height * width), sizeof *planes[k]);
        if (planes[k] == NULL || frames->read(frame, k, planes[k], frames->user) != 0) {
            rc = CLI_FAILED;
            goto done;
        }
    }
    for (int64_t i = 0; i < o->per_frame; i++) {
        crop *c = &list->items[list->n];
        c->frame = frame;
        c->row = (int64_t)(draw(o->dip.seed, frame, i, 0) % (uint64_t)(height - list->height + 1));
        c->column = (int64_t)(draw(o->dip.seed, frame, i, 1) % (uint64_t)(width - list->width + 1));
        CLI_TRY(cut(c, list, width, planes, n_channels));
        list->n++;
        if (list->known) {
            usplit_image pair, mixtures;
            view_of(&pair, c->truth, list, 2);
            view_of(&mixtures, c->mixtures, list, list->n_mixtures);
            CLI_LIB(usplit_dip_mix(&pair, &mixtures, &o->dip));
        }
    }
done:
    for (int k = 0; k < n_channels; k++) {
        free(planes[k]);
    }
    return rc;
}

int crops_cut_frames(crop_list *list, const usplit_dataset_reader *frames, const crops_options *o)
{
    int rc = CLI_OK;
    int64_t height, width;
    list->height = list->width = o->size;
    for (int64_t f = 0; f < frames->n_frames && o->size == 0; f++) {
        CLI_TRY(frames->frame_size(f, &height, &width, frames->user));
        if (f == 0) {
            list->height = height;
            list->width = width;
        } else if (height != list->height || width != list->width) {
            return cli_error(CLI_FAILED, "frame %lld has another size than the first; --crop N takes crops of one size",
                             (long long)f + 1);
        }
    }
    list->items = cli_alloc((size_t)(frames->n_frames * o->per_frame), sizeof *list->items);
    if (list->items == NULL) {
        return CLI_FAILED;
    }
    for (int64_t f = 0; f < frames->n_frames; f++) {
        CLI_TRY(cut_frame(list, frames, f, o));
    }
done:
    return rc;
}

int crops_cut(crop_list *list, frame_set *set, const crops_options *o)
{
    usplit_dataset_reader reader;
    frames_reader(set, &reader);
    return crops_cut_frames(list, &reader, o);
}

void crops_free(crop_list *list)
{
    for (int i = 0; i < list->n; i++) {
        free(list->items[i].pixels);
    }
    free(list->items);
    memset(list, 0, sizeof *list);
}

// ---- Running ----

typedef struct job {
    crop_list *list;
    const crops_options *options;
    int workers;
    int32_t threads;                // of a worker's context
    pthread_mutex_t lock;           // of what follows
    progress shown;
    int next;                       // crop to begin
    int64_t *done, total;           // iterations of each crop so far; of all
    double began;
    usplit_status status;           // of the first that failed
    char message[512];
} job;

static volatile sig_atomic_t stopping;

static void stop(void *handle)
{
    (void)handle;
    stopping = 1;
}

typedef struct crop_of {
    job *job;
    int number;
} crop_of;

// With the time that is left for all crops.
static int32_t on_progress(const usplit_progress *now, void *user)
{
    crop_of *c = user;
    job *j = c->job;
    char what[48];
    usplit_progress all = *now;
    int64_t done = 0;
    pthread_mutex_lock(&j->lock);
    j->done[c->number] = now->done;
    for (int i = 0; i < j->list->n; i++) {
        done += j->done[i];
    }
    double elapsed = cli_seconds() - j->began;
    all.seconds_left = done > 0 ? elapsed * (double)(now->total * j->list->n - done) / (double)done : -1;
    all.patches_per_second = elapsed > 0 ? (double)done / elapsed : 0;
    snprintf(what, sizeof what, "crop %d/%d", c->number + 1, j->list->n);
    j->shown.what = what;
    progress_dip(&all, &j->shown);
    j->shown.what = NULL;
    int failed = j->status != USPLIT_OK;
    pthread_mutex_unlock(&j->lock);
    return stopping || failed;
}

static usplit_status run_crop(job *j, usplit_context *context, int number)
{
    crop *c = &j->list->items[number];
    const crop_list *list = j->list;
    usplit_dip_options o = j->options->dip;
    usplit_image mixtures, estimates, truth;
    crop_of user = {j, number};
    o.seed += (uint64_t)number;
    c->result.struct_size = sizeof c->result;
    c->quality.struct_size = c->input.struct_size = sizeof c->quality;
    view_of(&mixtures, c->mixtures, list, list->n_mixtures);
    view_of(&estimates, c->estimates, list, 2);
    usplit_status status = usplit_dip_run(context, &mixtures, &estimates, &o, &c->result, on_progress, &user);
    if (status != USPLIT_OK && status != USPLIT_ERR_CANCELLED) {
        return status;
    }
    c->state = status == USPLIT_OK ? CROP_DONE : CROP_STOPPED;
    if (list->known) {
        view_of(&truth, c->truth, list, 2);
        usplit_status scored = usplit_image_compare_pair(&truth, &estimates, &c->quality);
        mixtures.channels = 2;
        mixtures.stride_channel = 0;            // the first mixture, twice
        scored = scored == USPLIT_OK ? usplit_image_compare_pair(&truth, &mixtures, &c->input) : scored;
        status = scored == USPLIT_OK ? status : scored;
    }
    return status;
}

static void *work(void *user)
{
    job *j = user;
    usplit_context *context = NULL;
    usplit_context_options o;
    usplit_status status = usplit_context_options_init(&o, sizeof o);
    o.device = "cpu";
    o.threads = j->threads;
    status = status == USPLIT_OK ? usplit_context_create(&context, &o) : status;
    for (;;) {
        pthread_mutex_lock(&j->lock);
        if (status != USPLIT_OK && status != USPLIT_ERR_CANCELLED && j->status == USPLIT_OK) {
            j->status = status;
            snprintf(j->message, sizeof j->message, "%s", usplit_error_message());
        }
        int number = j->status == USPLIT_OK && !stopping ? j->next++ : j->list->n;
        pthread_mutex_unlock(&j->lock);
        if (number >= j->list->n) {
            break;
        }
        status = run_crop(j, context, number);
    }
    usplit_context_free(context);
    return NULL;
}

// The main thread is one of the workers; where no more can be started, those there are do the work.
static void run_workers(job *j)
{
    pthread_t threads[64];
    int n = 0;
    while (n + 1 < j->workers && n < 64 && pthread_create(&threads[n], NULL, work, j) == 0) {
        n++;
    }
    work(j);
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
}

static int count_threads(const crops_options *o, int32_t *threads)
{
    int rc;
    usplit_context *context = NULL;
    usplit_context_facts facts = {.struct_size = sizeof facts};
    machine_args machine = {.device = "cpu", .threads = o->threads};
    CLI_TRY(setup_context(&context, &machine));
    CLI_LIB(usplit_context_info(context, &facts));
    if (!o->quiet) {
        setup_print_context(stderr, context);
    }
    *threads = facts.threads;
done:
    usplit_context_free(context);
    return rc;
}

int crops_run(crop_list *list, const crops_options *o)
{
    int rc;
    job j = {.list = list, .options = o};
    int32_t threads = 1;
    progress_start(&j.shown, o->quiet);
    CLI_TRY(count_threads(o, &threads));
    j.workers = threads < list->n ? threads : list->n;
    j.threads = threads / j.workers;
    j.began = cli_seconds();
    j.done = cli_alloc((size_t)list->n, sizeof *j.done);
    if (j.done == NULL) {
        rc = CLI_FAILED;
        goto done;
    }
    pthread_mutex_init(&j.lock, NULL);
    stopping = 0;
    cli_on_signal(stop, NULL);
    run_workers(&j);
    cli_on_signal(NULL, NULL);
    pthread_mutex_destroy(&j.lock);
    if (j.status != USPLIT_OK) {
        rc = cli_error(CLI_FAILED, "%s", j.message);
    } else if (stopping) {
        rc = CLI_CANCELLED;
    }
done:
    progress_free(&j.shown);
    free(j.done);
    return rc;
}
