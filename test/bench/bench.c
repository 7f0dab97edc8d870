// make bench: one measurement of the library, one line of JSON. Times a training step (forward, backward,
// Adamax) or predicted patches of a published-size network, through the same path the library uses.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "backend/backend.h"

typedef struct settings {
    usplit_model_options model;
    int train, inner, batch, threads, repeat;
} settings;

typedef struct measured {
    double seconds[64];
    int n;
    double macs;                // per patch
    long peak_kib;              // growth of the resident set over the time before the plan
    long long planned;
} measured;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const us_graph *g = user;
    int64_t n = (int64_t)g->size * g->size;
    unsigned state = (unsigned)sample * 7919u + 1u;
    for (int k = 0; k <= g->config.lc_count; k++) {
        for (int64_t i = 0; i < n && levels[k]; i++) {
            state = state * 1664525u + 1013904223u;
            levels[k][i] = (float)(state >> 8) / 8388608.0f - 1.0f;
        }
    }
    for (int64_t i = 0; target && i < n * g->config.channels; i++) {
        state = state * 1664525u + 1013904223u;
        target[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return USPLIT_OK;
}

typedef struct tile_job {
    us_exec *exec;
    us_graph *graph;
} tile_job;

static usplit_status one_tile(void *user, int task, int worker)
{
    tile_job *j = user;
    const float *head;
    us_run run = {.seed = 1, .step = task, .fill = fill, .user = j->graph};
    return us_backend_cpu.predict(j->exec, worker, 1, &run, &head);
}

static usplit_status measure(const settings *s, usplit_context *context, us_graph *g, measured *m)
{
    us_plan *plan = NULL;
    us_exec *exec = NULL;
    us_losses losses;
    usplit_status status;
    size_t floats = (size_t)g->n_floats;
    long before = peak_kib();
    float *params = calloc(floats, sizeof *params), *grads = NULL, *am = NULL, *au = NULL;
    us_graph_init_params(g, 1, params);
    int off = s->inner ? (g->size - s->inner) / 2 : 0, side = s->inner ? s->inner : g->size;
    us_plan_options o = {.mode = s->train ? US_PLAN_TRAIN : US_PLAN_PREDICT, .batch = s->batch, .kl_weight = 1,
                         .want = {off, off, side, side}};
    US_TRY_GOTO(us_plan_build(&plan, NULL, g, &o));
    US_TRY_GOTO(us_backend_cpu.compile(&exec, context, plan, s->threads));
    if (s->train) {
        grads = calloc(floats, sizeof *grads);
        am = calloc(floats, sizeof *am);
        au = calloc(floats, sizeof *au);
    }
    US_TRY_GOTO(us_backend_cpu.prepare(exec, params));
    tile_job job = {exec, g};
    for (int i = 0; i <= s->repeat; i++) {      // the first is a warm-up
        double t0 = now(), norm;
        if (s->train) {
            us_run run = {.seed = 1, .step = i, .fill = fill, .user = g};
            US_TRY_GOTO(us_backend_cpu.prepare(exec, params));
            US_TRY_GOTO(us_backend_cpu.train(exec, &run, &losses, grads));
            US_TRY_GOTO(us_backend_cpu.gradient_norm(exec, grads, &norm));
            us_backend_cpu.update_statistics(exec, params);
            double scale = norm > 0.5 ? 0.5 / (norm + 1e-6) : 1;
            US_TRY_GOTO(us_backend_cpu.adamax(exec, params, grads, am, au, 1e-3, i + 1, scale));
        } else {
            US_TRY_GOTO(us_pool_run(context->pool, s->batch, one_tile, &job));
        }
        if (i > 0) {
            m->seconds[m->n++] = (now() - t0) / s->batch;
        }
    }
    m->macs = (double)plan->macs * (s->train ? 3 : 1);
    m->planned = us_backend_cpu.bytes(exec) + (s->train ? 4 : 1) * (long long)floats * 4;
    m->peak_kib = peak_kib() - before;
done:
    us_backend_cpu.release(exec);
    us_plan_free(plan);
    free(params);
    free(grads);
    free(am);
    free(au);
    return status;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int parse(int argc, char **argv, settings *s)
{
    static const char *const variants[] = {"vanilla", "lean", "regular", "deep"};
    usplit_model_options_init(&s->model, sizeof s->model);
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *key = argv[i], *value = argv[i + 1];
        if (strcmp(key, "--variant") == 0) {
            s->model.variant = -1;
            for (int v = 0; v < 4; v++) {
                s->model.variant = strcmp(value, variants[v]) == 0 ? v : s->model.variant;
            }
        } else if (strcmp(key, "--family") == 0) {
            s->model.family = strcmp(value, "hae") == 0 ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
        } else if (strcmp(key, "--mode") == 0) {
            s->train = strcmp(value, "train") == 0;
        } else {
            int *targets[] = {&s->inner, &s->batch, &s->threads, &s->repeat, &s->model.filters, &s->model.levels,
                              &s->model.z_dims[0], &s->model.lc_count, &s->model.patch};
            static const char *const names[] = {"--inner", "--batch", "--threads", "--repeat", "--filters",
                                                "--levels", "--z", "--lc", "--patch"};
            size_t k = 0;
            while (k < 9 && strcmp(key, names[k])) {
                k++;
            }
            if (k == 9) {
                return 1;
            }
            *targets[k] = (int)strtol(value, NULL, 10);
        }
    }
    return s->repeat < 1 || s->repeat > 64 || s->batch < 1 || s->threads < 1;
}

int main(int argc, char **argv)
{
    settings s = {.batch = 8, .threads = 2, .repeat = 5};
    measured m = {.n = 0};
    usplit_context *context = NULL;
    us_graph *g = NULL;
    us_net_config config;
    usplit_context_options co;
    if (parse(argc, argv, &s)) {
        fprintf(stderr, "usage: bench --variant vanilla|lean|regular|deep --family hvae|hae --mode train|predict "
                        "[--inner N] --batch N --threads N --repeat N [--filters N --levels N --z N --lc N]\n");
        return 2;
    }
    usplit_context_options_init(&co, sizeof co);
    co.threads = s.threads;
    co.device = "cpu";
    if (usplit_context_create(&context, &co) || us_net_config_from(&config, &s.model) ||
        us_graph_build(&g, NULL, &config, config.patch) || measure(&s, context, g, &m)) {
        fprintf(stderr, "bench: %s\n", usplit_error_message());
        return 1;
    }
    qsort(m.seconds, (size_t)m.n, sizeof *m.seconds, by_value);
    usplit_context_facts facts = {.struct_size = sizeof facts};
    usplit_context_info(context, &facts);
    printf("{\"seconds_per_patch\": %.6f, \"min\": %.6f, \"max\": %.6f, \"peak_mib\": %.1f, \"planned_mib\": %.1f, "
           "\"macs\": %.0f, \"threads\": %d, \"engine\": \"%s\"}\n",
           m.seconds[m.n / 2], m.seconds[0], m.seconds[m.n - 1], (double)m.peak_kib / 1024,
           (double)m.planned / 1048576, m.macs, s.threads, facts.engine);
    us_graph_free(g);
    usplit_context_free(context);
    return 0;
}
