// cuDNN on a machine without a GPU: told the properties of one, it takes our graphs, proposes engines and finalises
// execution plans for them, as it would there. So everything of cuda/cudnn_graph.c and conv_cudnn.c but the running
// itself is tried, for three generations of GPUs, in both precisions:
//   - the shapes of test/cuda/conv_shapes.h: there are engines that keep our rules, each comes back from its recipe;
//   - every convolution of the published networks, in training and in tiled prediction: there is an engine.
// And NVRTC, which needs no GPU either, compiles every elementwise program of those networks, or
// some with a device named. Prints a line per case.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/conv_shapes.h"
#include "cudnn_graph.h"
#include "exec.h"
#include "source.h"
#include "ways.h"

// cuDNN's own form of a device's properties; what differs between devices is put in.
static const char form[] =
    "{\"deviceVer\": %d, \"driverVer\": 13000, \"deviceName\": \"%s\", \"cudaDeviceId\": 0,"
    " \"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], \"regsPerBlock\": 65536,"
    " \"multiProcessorCount\": %d, \"smClockRateKHz\": %d, \"memClockRateKHz\": %d, \"l2CacheSize\": %d,"
    " \"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": %d,"
    " \"reservedSharedMemoryPerBlock\": %d, \"maxRegistersPerSM\": 65536, \"pciDeviceId\": 0, \"maxCtasPerSM\": %d,"
    " \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": %d, \"isTccDriver\": 0, \"supportCoopLaunch\": 1,"
    " \"totalGlobalMem\": %lld}";

static const struct {
    const char *name;
    int version, processors, clock, memory_clock, l2, shared, reserved, blocks, threads;
    long long bytes;
} devices[] = {
    {"Tesla T4", 750, 40, 1590000, 5001000, 4 << 20, 65536, 0, 16, 1024, 15ll << 30},
    {"NVIDIA A100-SXM4-40GB", 800, 108, 1410000, 1215000, 40 << 20, 166912, 1024, 32, 2048, 40ll << 30},
    {"NVIDIA H100 80GB HBM3", 900, 132, 1980000, 2619000, 50 << 20, 232448, 1024, 32, 2048, 80ll << 30},
};

static int bad, cases;

// ---- Ways of one shape --------------------------------------------------------------------------------------

enum { MOST_WAYS = 64 };

typedef struct keeper {
    us_cu_taker taker;
    us_cu_way *ways[MOST_WAYS];
    int n, most;
} keeper;

static const char *keep(us_cu_taker *taker, us_cu_way *way, int *done)
{
    keeper *k = (keeper *)taker;
    k->ways[k->n++] = way;
    taker->taken++;
    *done = k->n == k->most;
    return NULL;
}

static void let_go(keeper *k)
{
    for (int i = 0; i < k->n; i++) {
        k->ways[i]->library->release(k->ways[i]);
    }
}

// The same way again, from what would be in a file.
static int comes_back(void *library, const us_cu_shape *s, us_conv_direction d, const us_cu_way *way)
{
    us_cu_way *other = NULL;
    const char *text = way->library->again(library, s, d, &way->recipe, &other);
    int same = !text && other && !strcmp(other->note, way->note) && other->workspace == way->workspace &&
               other->adds_bias == way->adds_bias && !memcmp(&other->recipe, &way->recipe, sizeof way->recipe);
    if (!same) {
        printf("    %s does not come back from its recipe: %s\n", way->note,
               text ? text : other ? "another one" : "refused");
    }
    if (other) {
        other->library->release(other);
    }
    return same;
}

static void print_case(const us_cu_shape *s, us_conv_direction d, const keeper *k, int good, const char *text)
{
    printf("%s %-5s %-7s n %d ci %d co %d k %d s %d%s %dx%d->%dx%d top %d left %d: %d ways", good ? "ok    " : "FAILED",
           s->half ? "half" : "float", conv_directions[d], s->batch, s->ci, s->co, s->k, s->stride,
           s->transposed ? "T" : "", s->in_h, s->in_w, s->out_h, s->out_w, s->top, s->left, k->n);
    for (int i = 0; i < k->n; i++) {
        printf("%s %s (%lld KiB)", i ? "," : ":", k->ways[i]->note, (long long)k->ways[i]->workspace / 1024);
    }
    printf("%s%s\n", text ? ", " : "", text ? text : "");
}

// most 1: is there an engine? Else all that are offered, and their recipes.
static void check(void *library, const us_cu_shape *s, us_conv_direction d, int most)
{
    keeper k = {.taker = {keep, 0}, .most = most};
    us_dnn_problem p;
    const char *text = us_cu_library_cudnn.offer(library, s, d, 8, &k.taker);
    int for_cudnn = us_dnn_make_problem(&p, s, d);      // else our own kernels do it (cudnn_graph.c says when)
    int good = !text && (k.n > 0) == for_cudnn;
    for (int i = 0; i < k.n && most > 1; i++) {
        good = comes_back(library, s, d, k.ways[i]) && good;
    }
    cases++;
    bad += !good;
    if (most > 1 || !good) {
        print_case(s, d, &k, good, text);
    }
    let_go(&k);
}

// ---- Shapes of the published networks -----------------------------------------------------------------------

typedef struct wanted {
    us_cu_shape shape;
    us_conv_direction direction;
} wanted;

static wanted list[4096];
static int n_list;

static void add(const us_cu_shape *s, us_conv_direction d)
{
    for (int i = 0; i < n_list; i++) {
        if (!memcmp(&list[i].shape, s, sizeof *s) && list[i].direction == d) {
            return;
        }
    }
    if (n_list < (int)(sizeof list / sizeof *list)) {
        list[n_list++] = (wanted){*s, d};
    }
}

// Texts of the programs, each once.
enum { MOST_TEXTS = 1024, MOST_TEXT = 1 << 15 };
static char *texts[2][MOST_TEXTS];
static int n_texts[2];

static int add_programs(const us_plan *plan, int half)
{
    static char text[MOST_TEXT];
    us_cu_tables t;
    if (us_cu_tables_make(&t, NULL, plan, 132, 232448, 1) != USPLIT_OK) {
        return 0;
    }
    int good = 1;
    for (int i = 0; i < plan->n_programs && good; i++) {
        const us_cu_program *p = &t.programs[i];
        int j = 0, *n = &n_texts[half];
        if (!p->compiled) {
            printf("FAILED a program of %d ops is too long to be compiled\n", p->n_ops);
            good = 0;
            continue;
        }
        size_t length = us_cu_source(text, sizeof text, p, &t.ops[p->first_op], half);
        while (j < *n && strcmp(texts[half][j], text) != 0) {
            j++;
        }
        if (j == *n && *n < MOST_TEXTS && length < sizeof text) {
            texts[half][(*n)++] = strdup(text);
        }
        good = j < MOST_TEXTS && length < sizeof text;
    }
    us_cu_tables_free(&t);
    return good;
}

static int add_plan(const us_graph *g, const us_plan_options *o, int half)
{
    us_plan *plan;
    if (us_plan_build(&plan, NULL, g, o) != USPLIT_OK) {
        return 0;
    }
    if (!add_programs(plan, half)) {
        us_plan_free(plan);
        return 0;
    }
    for (int i = 0; i < plan->n_convs; i++) {
        us_cu_shape s = us_pipe_shape(&plan->convs[i], o->batch, half);
        add(&s, US_CU_FORWARD);
        if (o->mode == US_PLAN_TRAIN) {
            add(&s, US_CU_WEIGHT);
        }
        if (o->mode == US_PLAN_TRAIN && plan->convs[i].input_grad) {
            add(&s, US_CU_BACK);
        }
    }
    us_plan_free(plan);
    return 1;
}

// Training in batches of 32, prediction of whole patches and of the inner 32 and 16 pixels.
static int list_networks(void)
{
    static const int pads[] = {0, 16, 24};
    static const struct {
        int family, variant;
    } networks[] = {
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA}, {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN},
        {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR}, {USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_VANILLA},  {USPLIT_FAMILY_HAE, USPLIT_VARIANT_LEAN},
        {USPLIT_FAMILY_HAE, USPLIT_VARIANT_REGULAR},  {USPLIT_FAMILY_HAE, USPLIT_VARIANT_DEEP},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA}, {USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR},
        {USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE}, {USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR},
    };
    for (size_t network = 0; network < sizeof networks / sizeof *networks; network++) {
        usplit_model_options mo;
        us_net_config config;
        us_graph *g;
        usplit_model_options_init(&mo, sizeof mo);
        mo.family = networks[network].family;
        mo.variant = networks[network].variant;
        if (us_net_config_from(&config, &mo) != USPLIT_OK || us_graph_build(&g, NULL, &config, 64) != USPLIT_OK) {
            return 0;
        }
        for (int half = 0; half < 2; half++) {
            us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = US_LAYOUT_BATCH, .batch = 32, .kl_weight = 1};
            int good = add_plan(g, &o, half);
            for (int i = 0; good && i < 3; i++) {
                us_plan_options p = {.mode = US_PLAN_PREDICT, .layout = US_LAYOUT_BATCH, .batch = 32,
                                     .want = {pads[i], pads[i], 64 - 2 * pads[i], 64 - 2 * pads[i]}};
                good = add_plan(g, &p, half);
            }
            if (!good) {
                return 0;
            }
        }
        us_graph_free(g);
    }
    return 1;
}

// ---- Devices ------------------------------------------------------------------------------------------------

static const char *open_device(void **library, int i)
{
    char json[2048];
    snprintf(json, sizeof json, form, devices[i].version, devices[i].name, devices[i].processors, devices[i].clock,
             devices[i].memory_clock, devices[i].l2, devices[i].shared, devices[i].reserved, devices[i].blocks,
             devices[i].threads, devices[i].bytes);
    return us_cu_cudnn_open_described(library, 1, json);
}

// Every `each`-th of them: one takes a quarter of a second.
static void check_programs(int i, int each)
{
    for (int half = 0; half < 2; half++) {
        const char *some[MOST_TEXTS];
        int n = 0;
        for (int j = 0; j < n_texts[half]; j += each) {
            some[n++] = texts[half][j];
        }
        const char *why = us_cu_nvrtc_try(devices[i].version / 100, devices[i].version % 100 / 10, half, n, some);
        printf("%s %-5s programs: %d of %d%s%s\n", why ? "FAILED" : "ok    ", half ? "half" : "float", n, n_texts[half],
               why ? ": " : "", why ? why : "");
        cases++;
        bad += why != NULL;
    }
}

static void check_device(void *library)
{
    for (int i = 0; i < N_CONV_SHAPES; i++) {
        for (int half = 0; half < 2; half++) {
            us_cu_shape s = conv_shapes[i];
            s.half = half;
            for (int d = 0; d < 3; d++) {
                check(library, &s, (us_conv_direction)d, MOST_WAYS);
            }
        }
    }
    for (int i = 0; i < n_list; i++) {
        check(library, &list[i].shape, list[i].direction, 1);
    }
}

int main(int argc, char **argv)
{
    char text[64];
    us_cu_library_cudnn.describe(text, sizeof text);
    if (!list_networks()) {
        printf("FAILED: %s\n", usplit_error_message());
        return 1;
    }
    printf("%s; %d convolutions and directions of the published networks\n", text, n_list);
    for (int i = 0; i < (int)(sizeof devices / sizeof *devices); i++) {
        void *library;
        if (argc > 1 && !strstr(devices[i].name, argv[1])) {
            continue;
        }
        const char *why = open_device(&library, i);
        if (why) {
            printf("skipped: %s cannot be told of a device (%s)\n", text, why);
            return 77;
        }
        printf("%s\n", devices[i].name);
        check_programs(i, argc > 1 ? 6 : 1);        // named: as a part of make check
        check_device(library);
        us_cu_library_cudnn.close(library);
    }
    printf("%s: %d of %d have no engine, or one that does not come back, or do not compile\n", text, bad, cases);
    return bad != 0;
}
