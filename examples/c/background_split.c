/* Splits on a thread of its own, as software with windows must: the main thread stays free, shows how far it is and may
 * stop it. Rows come from a callback (here made up; elsewhere a disk or a camera) and go to one, so the image never lies
 * in memory whole. The result is a file of bare floats, channel after channel.
 *   cc -pthread background_split.c $(pkg-config --cflags --libs usplit) -o background_split
 * Run: background_split SCRATCH/pair.h5 SCRATCH/planes.raw
 * Run: background_split SCRATCH/pair.h5 SCRATCH/stopped.raw stop
 * Fails: background_split SCRATCH/nothing.h5 SCRATCH/planes.raw */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <usplit.h>

enum { HEIGHT = 600, WIDTH = 500, BUDGET = 256 << 20 };

typedef struct job {
    usplit_tiler *tiler;
    FILE *file;
    int64_t channels;
    pthread_mutex_t lock;       /* of what follows: both threads use it */
    double percent, seconds_left;   /* negative: not known yet */
    int stop, ended;
    usplit_status status;
    char message[512];
    usplit_tiler_result result;
} job;

/* ---- On the worker thread ---- */

static int32_t read_rows(int64_t row, int64_t n_rows, float *dst, void *user)
{
    (void)user;
    for (int64_t r = row; r < row + n_rows; r++) {
        for (int64_t c = 0; c < WIDTH; c++) {
            *dst++ = (float)((r / 9 + c / 7) % 5 * 150 + (r + 2 * c) % 24);
        }
    }
    return 0;                   /* anything else ends the run with USPLIT_ERR_CALLBACK */
}

static int32_t write_rows(int64_t row, int64_t n_rows, const float *src, void *user)
{
    job *j = user;
    size_t n = (size_t)n_rows * WIDTH;
    for (int64_t k = 0; k < j->channels; k++) {
        long at = (long)((k * HEIGHT + row) * WIDTH * (int64_t)sizeof(float));
        if (fseek(j->file, at, SEEK_SET) || fwrite(src + (size_t)k * n, sizeof *src, n, j->file) != n) {
            return 1;
        }
    }
    return 0;
}

static int32_t on_progress(const usplit_progress *p, void *user)
{
    job *j = user;
    pthread_mutex_lock(&j->lock);
    j->percent = 100.0 * (double)p->done / (double)p->total;
    j->seconds_left = p->seconds_left;
    int32_t stop = j->stop;     /* not 0: the run ends with USPLIT_ERR_CANCELLED */
    pthread_mutex_unlock(&j->lock);
    return stop;
}

static void *work(void *user)
{
    job *j = user;
    usplit_tiler_stream stream = {.struct_size = sizeof stream};
    usplit_tiler_result result = {.struct_size = sizeof result};
    stream.height = HEIGHT;
    stream.width = WIDTH;
    stream.read = read_rows;
    stream.write = write_rows;
    stream.user = j;
    usplit_status status = usplit_tiler_run_stream(j->tiler, &stream, &result, on_progress, j);
    pthread_mutex_lock(&j->lock);
    j->status = status;         /* the message belongs to this thread: copied while we are on it */
    snprintf(j->message, sizeof j->message, "%s", status ? usplit_error_message() : "");
    j->result = result;
    j->ended = 1;
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- On the main thread ---- */

/* The button Cancel. A flag of ours, since usplit_tiler_cancel is forgotten by a run that begins after it. */
static void press_cancel(job *j)
{
    pthread_mutex_lock(&j->lock);
    j->stop = 1;
    pthread_mutex_unlock(&j->lock);
}

/* Here the program's windows would be redrawn. */
static void wait_for(job *j)
{
    const struct timespec tick = {0, 20 * 1000 * 1000};
    double shown = -1;
    for (int ended = 0; !ended;) {
        nanosleep(&tick, NULL);
        pthread_mutex_lock(&j->lock);
        ended = j->ended;
        double percent = j->percent, left = j->seconds_left;
        pthread_mutex_unlock(&j->lock);
        if (percent >= shown + 20) {
            shown = percent;
            printf("%.0f %%, %.1f s left\n", percent, left);
        }
    }
}

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "background_split: %s: %s\n", what, usplit_error_message());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_context_options machine;
    usplit_tiler_options options;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    double error;
    pthread_t thread;
    job j;
    memset(&j, 0, sizeof j);
    int stop = argc == 4 && strcmp(argv[3], "stop") == 0;
    if (argc != 3 && !stop) {
        fprintf(stderr, "use: background_split model.h5 planes.raw [stop]\n");
        return 2;
    }

    usplit_context_options_init(&machine, sizeof machine);
    machine.threads = 2;        /* the worker and one more; the window keeps the rest */
    need(usplit_context_create(&context, &machine) == USPLIT_OK, "context");
    need(usplit_model_load(&model, context, argv[1]) == USPLIT_OK, "model");
    need(usplit_model_info(model, &facts) == USPLIT_OK, "model");
    need(usplit_model_check(model, &error) == USPLIT_OK, "self-test");
    usplit_tiler_options_init(&options, sizeof options);
    options.memory_budget = BUDGET;
    need(usplit_tiler_create(&j.tiler, model, &options) == USPLIT_OK, "tiler");
    need(usplit_tiler_plan(j.tiler, HEIGHT, WIDTH, &cost) == USPLIT_OK, "plan");
    printf("%d tiles, %.1f MB\n", (int)cost.tiles, (double)cost.host_bytes / 1e6);

    j.channels = facts.channels;
    j.file = fopen(argv[2], "wb");
    need(j.file != NULL && pthread_mutex_init(&j.lock, NULL) == 0, argv[2]);
    if (stop) {
        press_cancel(&j);
    }
    need(pthread_create(&thread, NULL, work, &j) == 0, "thread");
    wait_for(&j);
    pthread_join(thread, NULL);         /* only now may the handles be freed */
    int written = fclose(j.file) == 0;

    int failed = 0;
    if (j.status == USPLIT_ERR_CANCELLED) {
        printf("stopped\n");
        remove(argv[2]);
        failed = !stop;
    } else if (j.status != USPLIT_OK || !written) {
        fprintf(stderr, "background_split: %s: %s\n", usplit_status_name(j.status), j.message);
        failed = 1;
    } else {
        printf("%d passes in %.2f s on %s%s\n", (int)j.result.passes, j.result.seconds, j.result.device,
               j.result.input_unusual ? "; the image is not like the training images" : "");
        failed = stop;                  /* it should have been stopped */
    }
    pthread_mutex_destroy(&j.lock);
    usplit_tiler_free(j.tiler);
    usplit_model_free(model);
    usplit_context_free(context);
    return failed;
}
