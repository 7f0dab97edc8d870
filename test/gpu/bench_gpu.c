// make bench-gpu, our side: one measurement through the public header on any device, one line of JSON. Training: the
// seconds of a step, from the times at which the trainer reports; the device has finished the steps it reports.
// Prediction: one frame, tile by tile. Device memory is what became less free on the device meanwhile.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <usplit.h>

enum { MOST = 512 };

typedef struct settings {
    const char *device;
    usplit_model_options model;
    int train, batch, steps, threads, frame, pad, half, tune, tiles;
} settings;

typedef struct clock_marks {
    double time[MOST];
    int64_t done[MOST];
    int n;
    int64_t warm, enough;       // steps before the first mark, and in all
} clock_marks;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A mark per report; stops the training after enough steps.
static int32_t mark(const usplit_progress *p, void *user)
{
    clock_marks *m = user;
    if (p->phase != USPLIT_PHASE_TRAIN) {
        return 0;
    }
    if (p->done >= m->warm && m->n < MOST) {
        m->time[m->n] = now();
        m->done[m->n++] = p->done;
    }
    return p->done >= m->enough || m->n == MOST;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int64_t free_bytes(const char *device)
{
    int32_t n = 0;
    usplit_device_facts f = {.struct_size = sizeof f};
    usplit_device_count(&n);
    for (int32_t i = 0; i < n; i++) {
        if (usplit_device_info(i, &f) == USPLIT_OK && !strcmp(f.name, device)) {
            return f.free_bytes;
        }
    }
    return 0;
}

static usplit_status train(const settings *s, usplit_context *context, usplit_model *model, int64_t before)
{
    usplit_dataset *data = NULL;
    usplit_trainer *trainer = NULL;
    usplit_critter_options critters;
    usplit_dataset_options options;
    usplit_trainer_options o;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    clock_marks m = {.warm = s->steps / 5, .enough = s->steps};
    usplit_status status = usplit_model_info(model, &facts);
    usplit_critter_options_init(&critters, sizeof critters);
    usplit_dataset_options_init(&options, sizeof options);
    usplit_trainer_options_init(&o, sizeof o);
    critters.n_frames = 64;
    critters.n_curves = 1;
    critters.size = 2 * facts.patch;
    options.levels = 1 + facts.lc_count;
    options.validation_fraction = options.test_fraction = 0;
    o.batch = s->batch;
    o.steps_per_epoch = 4 * (int64_t)s->steps;
    if (status != USPLIT_OK || (status = usplit_dataset_create_critters(&data, context, &critters, &options)) ||
        (status = usplit_trainer_create(&trainer, model, data, &o))) {
        goto done;
    }
    status = usplit_trainer_run(trainer, mark, &m);
    if (status != USPLIT_OK && status != USPLIT_ERR_CANCELLED) {
        goto done;
    }
    double steps[MOST];
    int n = 0;
    for (int i = 1; i < m.n; i++) {
        if (m.done[i] > m.done[i - 1]) {
            steps[n++] = (m.time[i] - m.time[i - 1]) / (double)(m.done[i] - m.done[i - 1]);
        }
    }
    if (n == 0) {
        fprintf(stderr, "bench_gpu: fewer than two reports within %d steps; say more --steps\n", s->steps);
        status = USPLIT_ERR_ARGUMENT;
        goto done;
    }
    qsort(steps, (size_t)n, sizeof *steps, by_value);
    usplit_model_cost cost = {.struct_size = sizeof cost};
    usplit_trainer_facts t = {.struct_size = sizeof t};
    usplit_model_plan(model, USPLIT_MODE_TRAIN, s->batch, 0, &cost);
    usplit_trainer_info(trainer, &t);
    printf("{\"work\": \"train\", \"seconds\": %.7f, \"min\": %.7f, \"max\": %.7f, \"samples\": %d, \"device_mib\": %.1f, "
           "\"planned_mib\": %.1f, \"macs\": %.0f, \"kept_mib\": %.1f, \"batch\": %d, ",
           steps[n / 2], steps[0], steps[n - 1], n, (double)(before - free_bytes(s->device)) / 1048576,
           (double)t.arena_bytes / 1048576, 3.0 * (double)cost.macs * s->batch, (double)cost.kept_bytes / 1048576, s->batch);
    status = USPLIT_OK;
done:
    usplit_trainer_free(trainer);
    usplit_dataset_free(data);
    return status;
}

static usplit_status predict(const settings *s, usplit_model *model, int64_t before)
{
    usplit_tiler *tiler = NULL;
    usplit_tiler_options o;
    usplit_model_normalisation norm = {.struct_size = sizeof norm, .clip_value = 4, .input_deviation = 1};
    usplit_tiler_result result = {.struct_size = sizeof result};
    usplit_tiler_cost cost = {.struct_size = sizeof cost};
    usplit_image in, out;
    size_t pixels = (size_t)s->frame * (size_t)s->frame;
    float *src = malloc(pixels * sizeof *src), *dst = malloc(2 * pixels * sizeof *dst);
    if (!src || !dst) {
        free(src);
        free(dst);
        fprintf(stderr, "bench_gpu: no memory for a frame of %d x %d\n", s->frame, s->frame);
        return USPLIT_ERR_MEMORY;
    }
    unsigned state = 1;
    for (size_t i = 0; i < pixels; i++) {
        state = state * 1664525u + 1013904223u;
        src[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    norm.target_deviation[0] = norm.target_deviation[1] = 1;
    usplit_tiler_options_init(&o, sizeof o);
    o.pad = s->pad;
    o.batch = s->tiles;
    usplit_image_init(&in, sizeof in, src, USPLIT_TYPE_F32, 1, s->frame, s->frame, 1);
    usplit_image_init(&out, sizeof out, dst, USPLIT_TYPE_F32, 1, s->frame, s->frame, 2);
    usplit_status status = usplit_model_set_normalisation(model, &norm);
    if (status == USPLIT_OK) {
        status = usplit_tiler_create(&tiler, model, &o);
    }
    double seconds = 0;
    for (int i = 0; status == USPLIT_OK && i < 2; i++) {    // the first is a warm-up
        double start = now();
        status = usplit_tiler_run(tiler, &in, &out, &result, NULL, NULL);
        seconds = now() - start;
    }
    if (status == USPLIT_OK && (status = usplit_tiler_plan(tiler, s->frame, s->frame, &cost)) == USPLIT_OK) {
        printf("{\"work\": \"split\", \"seconds\": %.7f, \"tiles\": %lld, \"tile_batch\": %d, \"device_mib\": %.1f, "
               "\"macs\": %.0f, ", seconds, (long long)result.tiles, cost.batch,
               (double)(before - free_bytes(s->device)) / 1048576, (double)cost.macs);
    }
    usplit_tiler_free(tiler);
    free(src);
    free(dst);
    return status;
}

static int choice(const char *value, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        if (!strcmp(value, names[i])) {
            return i;
        }
    }
    return -1;
}

static int parse(int argc, char **argv, settings *s)
{
    static const char *const variants[] = {"vanilla", "lean", "regular", "deep", NULL}, *const families[] = {"hvae", "hae", NULL};
    static const char *const modes[] = {"split", "train", NULL}, *const names[] = {"--batch", "--steps", "--threads", "--frame",
        "--pad", "--half", "--tune", "--tiles", "--filters", "--levels", "--lc", "--z", "--patch", NULL};
    int *const numbers[] = {&s->batch, &s->steps, &s->threads, &s->frame, &s->pad, &s->half, &s->tune, &s->tiles,
                            &s->model.filters, &s->model.levels, &s->model.lc_count, &s->model.z_dims[0],
                            &s->model.patch};
    for (int i = 1; i + 1 < argc; i += 2) {
        int number = choice(argv[i], names);
        if (number >= 0) {
            *numbers[number] = (int)strtol(argv[i + 1], NULL, 10);
        } else if (!strcmp(argv[i], "--device")) {
            s->device = argv[i + 1];
        } else if (!strcmp(argv[i], "--variant")) {
            s->model.variant = choice(argv[i + 1], variants);
        } else if (!strcmp(argv[i], "--family")) {
            s->model.family = choice(argv[i + 1], families);
        } else if (!strcmp(argv[i], "--mode")) {
            s->train = choice(argv[i + 1], modes);
        } else {
            return 1;
        }
    }
    return argc % 2 == 0 || s->model.variant < 0 || s->model.family < 0 || s->train < 0 || s->batch < 1 || s->steps < 2;
}

int main(int argc, char **argv)
{
    settings s = {.device = "cuda:0", .train = 1, .batch = 32, .steps = 400, .frame = 2720, .pad = 24, .half = 1};
    usplit_context_options o;
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_model_options_init(&s.model, sizeof s.model);
    if (parse(argc, argv, &s)) {
        fprintf(stderr, "usage: bench_gpu [--device NAME] --variant vanilla|lean|regular|deep --family hvae|hae --mode train|split "
                        "[--batch N] [--steps N] [--frame N] [--pad N] [--half 0|1] [--tune 0|1] [--tiles N] [--threads N] [--filters N] [--levels N] "
                        "[--lc N] [--z N] [--patch N]\n");
        return 2;
    }
    usplit_context_options_init(&o, sizeof o);
    o.device = s.device;
    o.threads = s.threads;
    o.tune = s.tune;
    o.precision = s.half && strcmp(s.device, "cpu") ? USPLIT_PRECISION_FLOAT16 : USPLIT_PRECISION_FLOAT32;
    usplit_context_facts facts = {.struct_size = sizeof facts};
    int64_t before = free_bytes(s.device);
    usplit_status status = usplit_context_create(&context, &o);
    if (status == USPLIT_OK) {
        usplit_context_info(context, &facts);
        status = usplit_model_create(&model, context, &s.model);
    }
    if (status == USPLIT_OK) {
        status = s.train ? train(&s, context, model, before) : predict(&s, model, before);
    }
    if (status != USPLIT_OK) {
        fprintf(stderr, "bench_gpu: %s\n", usplit_error_message());
    } else {
        printf("\"tune\": %d, \"device\": \"%s\", \"engine\": \"%s\"}\n", s.tune, facts.device, facts.engine);
    }
    usplit_model_free(model);
    usplit_context_free(context);
    return status == USPLIT_OK ? 0 : 1;
}
