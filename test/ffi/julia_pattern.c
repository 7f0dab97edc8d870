// Makes the calls that bindings/julia makes, without Julia: the structs and functions are those of abi.jl, turned into
// C by julia_abi.py, and every function is looked up by name. What is particular to Julia is tried: structs that the
// caller zeroes or leaves to _init, objects behind `user` pointers, arrays with the row fastest, callbacks on the
// calling thread, and finalisers in any order, on any thread, and in the middle of a callback. Prints TAP.
//
//     julia_pattern LIBRARY FOLDER
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "julia_abi.h"

enum { SIDE = 64, CHANNELS = 2, HANDLES = 5, DIP_SIDE = 66 };

static void *library;
static char folder[512];

// symbol(:usplit_x) of USplit.jl
static void *symbol(const char *name)
{
    void *address = dlsym(library, name);
    if (!address) {
        printf("Bail out! %s\n", dlerror());
        exit(1);
    }
    return address;
}
#define CALL(name) (*(jl_##name##_fn)symbol(#name))

static int n_cases, bad;

#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            printf("# line %d: %s; %s\n", __LINE__, #what, CALL(usplit_error_message)()); \
            bad = 1;                                                                 \
        }                                                                            \
    } while (0)

static void report(const char *name)
{
    printf("%s %d - %s\n", bad ? "not ok" : "ok", ++n_cases, name);
    fflush(stdout);
    bad = 0;
}

// ---- Handles: their numbers are those of the finalisers below ---------------------------------------

typedef enum noun { CONTEXT, DATASET, MODEL, TRAINER, TILER } noun;

static void finalise(noun n, void *pointer)
{
    switch (n) {
    case CONTEXT: CALL(usplit_context_free)(pointer); break;
    case DATASET: CALL(usplit_dataset_free)(pointer); break;
    case MODEL: CALL(usplit_model_free)(pointer); break;
    case TRAINER: CALL(usplit_trainer_free)(pointer); break;
    case TILER: CALL(usplit_tiler_free)(pointer); break;
    }
}

// options(T, init): Ref{T}() is not zeroed; _init must write every byte.
#define OPTIONS(type, name)                                                 \
    jl_##type name;                                                         \
    memset(&name, 0xA5, sizeof name);                                       \
    CHECK(CALL(type##_init)(&name, sizeof name) == 0);                      \
    CHECK(name.struct_size == sizeof name)

static void *make_context(void)
{
    void *out = NULL;
    OPTIONS(usplit_context_options, o);
    o.device = (uint8_t[]){"cpu"};
    o.threads = 2;
    CHECK(CALL(usplit_context_create)(&out, &o) == 0);
    return out;
}

static void *make_dataset(void *context)
{
    void *out = NULL;
    OPTIONS(usplit_critter_options, c);
    OPTIONS(usplit_dataset_options, o);
    int64_t train[] = {0, 1, 2, 3}, validation[] = {4};
    c.n_frames = 6;
    c.size = SIDE;
    c.n_curves = 2;
    o.levels = 3;
    o.train_frames = train;
    o.n_train_frames = 4;
    o.validation_frames = validation;
    o.n_validation_frames = 1;
    CHECK(CALL(usplit_dataset_create_critters)(&out, context, &c, &o) == 0);
    return out;
}

static void *make_model(void *context)
{
    void *out = NULL;
    OPTIONS(usplit_model_options, o);
    o.family = USPLIT_FAMILY_HAE;
    o.levels = o.lc_count = 2;
    o.filters = o.z_dims[0] = 8;
    o.patch = 32;
    CHECK(CALL(usplit_model_create)(&out, context, &o) == 0);
    return out;
}

static void *make_trainer(void *model, void *dataset, int max_epochs)
{
    void *out = NULL;
    OPTIONS(usplit_trainer_options, o);
    o.batch = 2;
    o.steps_per_epoch = 2;
    o.max_epochs = max_epochs;
    CHECK(CALL(usplit_trainer_create)(&out, model, dataset, &o) == 0);
    return out;
}

static void *make_tiler(void *model)
{
    void *out = NULL;
    OPTIONS(usplit_tiler_options, o);
    CHECK(CALL(usplit_tiler_create)(&out, model, &o) == 0);
    return out;
}

static void make_all(void **h)
{
    h[CONTEXT] = make_context();
    h[DATASET] = make_dataset(h[CONTEXT]);
    h[MODEL] = make_model(h[CONTEXT]);
    h[TRAINER] = make_trainer(h[MODEL], h[DATASET], 1);     // gives the model its statistics
    h[TILER] = make_tiler(h[MODEL]);
}

// ---- Running: the object behind `user` --------------------------------------------------------------

typedef struct running {
    pthread_t thread;           // that made the call
    int calls, stop_at;         // stop_at 0: never
    int64_t newest;
    void **drop;                // handles to finalise at the first call, as a collector might
} running;

static int32_t on_progress(const usplit_progress *p, void *user)
{
    running *r = user;
    CHECK(pthread_equal(r->thread, pthread_self()));
    CHECK(p->struct_size == sizeof(jl_usplit_progress));
    r->newest = p->done;
    if (r->drop) {
        for (int i = 0; i < HANDLES; i++) {
            finalise((noun)i, r->drop[i]);
        }
        r->drop = NULL;
    }
    return ++r->calls == r->stop_at;
}

static void *callback(int32_t (*f)(const usplit_progress *, void *))
{
    void *pointer;              // Ptr{Cvoid}, as @cfunction gives it
    memcpy(&pointer, &f, sizeof pointer);
    return pointer;
}

static void train_with_progress(void)
{
    void *h[HANDLES];
    make_all(h);
    running r = {.thread = pthread_self()};
    CHECK(CALL(usplit_trainer_run)(h[TRAINER], callback(on_progress), &r) == 0);
    CHECK(r.calls >= 1 && r.newest > 0);
    jl_usplit_trainer_facts facts = {.struct_size = sizeof facts};
    CHECK(CALL(usplit_trainer_info)(h[TRAINER], &facts) == 0);
    CHECK(facts.step == 2 && facts.epoch == 1 && isfinite(facts.loss));
    void *longer;
    finalise(TRAINER, h[TRAINER]);
    longer = make_trainer(h[MODEL], h[DATASET], 1000000);
    running stopped = {.thread = pthread_self(), .stop_at = 2};
    CHECK(CALL(usplit_trainer_run)(longer, callback(on_progress), &stopped) == USPLIT_ERR_CANCELLED);
    CHECK(stopped.calls == 2);
    CHECK(strlen(CALL(usplit_error_message)()) > 0);
    CHECK(CALL(usplit_trainer_step)(longer) == 0);
    h[TRAINER] = longer;
    for (int i = 0; i < HANDLES; i++) {
        finalise((noun)i, h[i]);
    }
    report("training calls back on the calling thread, and stops when told to");
}

// ---- Images with the row fastest --------------------------------------------------------------------

static float pixels[SIDE][SIDE], turned[SIDE][SIDE];                    // [row][column]; [column][row]
static float planes[SIDE][SIDE][CHANNELS], julia[CHANNELS][SIDE][SIDE]; // row by row; as Array{Float32,3} lies

// image(a, ...) of USplit.jl
static jl_usplit_image view_of(void *data, int64_t side, int64_t channels, int64_t row, int64_t column,
                               int64_t channel)
{
    jl_usplit_image v;
    memset(&v, 0xA5, sizeof v);
    CHECK(CALL(usplit_image_init)(&v, sizeof v, data, USPLIT_TYPE_F32, 1, side, side, channels) == 0);
    v.stride_row = row, v.stride_column = column, v.stride_channel = channel, v.stride_frame = 0;
    return v;
}

static jl_usplit_image view(void *data, int64_t channels, int64_t row, int64_t column, int64_t channel)
{
    return view_of(data, SIDE, channels, row, column, channel);
}

typedef struct streaming {
    int64_t next;               // row that must be written next
    int reads, fail_at;
} streaming;

static int32_t on_read(int64_t row, int64_t n, float *dst, void *user)
{
    streaming *s = user;
    memcpy(dst, pixels[row], (size_t)n * sizeof pixels[0]);
    return ++s->reads == s->fail_at;
}

static float streamed[CHANNELS][SIDE][SIDE];

static int32_t on_write(int64_t row, int64_t n, const float *src, void *user)
{
    streaming *s = user;
    CHECK(row == s->next);
    s->next = row + n;
    for (int c = 0; c < CHANNELS; c++) {
        memcpy(streamed[c][row], src + c * n * SIDE, (size_t)n * sizeof pixels[0]);
    }
    return 0;
}

static jl_usplit_tiler_stream stream_of(streaming *s)
{
    jl_usplit_tiler_stream stream = {.struct_size = sizeof stream, .height = SIDE, .width = SIDE, .user = s};
    int32_t (*read)(int64_t, int64_t, float *, void *) = on_read;
    int32_t (*write)(int64_t, int64_t, const float *, void *) = on_write;
    memcpy(&stream.read, &read, sizeof stream.read);
    memcpy(&stream.write, &write, sizeof stream.write);
    return stream;
}

static void split_images(void)
{
    void *h[HANDLES];
    make_all(h);
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            pixels[i][j] = turned[j][i] = (float)((i * 7 + j * 3) % 40);
        }
    }
    running r = {.thread = pthread_self()};
    jl_usplit_tiler_result result = {.struct_size = sizeof result};
    jl_usplit_image src = view(pixels, 1, sizeof pixels[0], 4, 0);
    jl_usplit_image dst = view(planes, CHANNELS, sizeof planes[0], sizeof planes[0][0], 4);
    CHECK(CALL(usplit_tiler_run)(h[TILER], &src, &dst, &result, callback(on_progress), &r) == 0);
    CHECK(result.tiles > 0 && r.newest == result.tiles && strcmp((char *)result.device, "cpu") == 0);
    jl_usplit_image from = view(turned, 1, 4, sizeof turned[0], 0);
    jl_usplit_image to = view(julia, CHANNELS, 4, sizeof julia[0][0], sizeof julia[0]);
    CHECK(CALL(usplit_tiler_run)(h[TILER], &from, &to, NULL, NULL, NULL) == 0);
    streaming s = {.next = 0};
    jl_usplit_tiler_stream stream = stream_of(&s);
    CHECK(CALL(usplit_tiler_run_stream)(h[TILER], &stream, &result, callback(on_progress), &r) == 0);
    CHECK(s.next == SIDE);
    int differ = 0;
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            for (int c = 0; c < CHANNELS; c++) {
                differ += planes[i][j][c] != julia[c][j][i] || planes[i][j][c] != streamed[c][i][j];
            }
        }
    }
    CHECK(differ == 0);
    streaming lost = {.fail_at = 1};
    stream = stream_of(&lost);
    CHECK(CALL(usplit_tiler_run_stream)(h[TILER], &stream, &result, NULL, NULL) == USPLIT_ERR_CALLBACK);
    CHECK(strstr(CALL(usplit_error_message)(), "read returned 1") != NULL);
    for (int i = 0; i < HANDLES; i++) {
        finalise((noun)i, h[i]);
    }
    report("images with the row fastest, and streamed ones, give the same bits");
}

static void files_and_facts(void)
{
    void *h[HANDLES], *loaded = NULL;
    char file[600];
    make_all(h);
    snprintf(file, sizeof file, "%s/julia.h5", folder);
    CHECK(CALL(usplit_model_save)(h[MODEL], file) == 0);
    CHECK(CALL(usplit_model_load)(&loaded, h[CONTEXT], file) == 0);
    jl_usplit_model_facts a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    CHECK(CALL(usplit_model_info)(h[MODEL], &a) == 0);
    CHECK(CALL(usplit_model_info)(loaded, &b) == 0);
    CHECK(memcmp(a.target_mean, b.target_mean, sizeof a.target_mean) == 0 && b.channels == CHANNELS);
    const char *name = NULL;    // Ref{Cstring}
    int64_t shape[4];
    int32_t n_dims = 0;
    CHECK(CALL(usplit_model_get_entry)(loaded, 0, &name, shape, &n_dims) == 0);
    CHECK(name && strlen(name) > 0 && n_dims > 0);
    finalise(MODEL, loaded);
    // Cstring(C_NULL) for a path in the file, and for a file that is not there
    CHECK(CALL(usplit_dataset_open)(&loaded, h[CONTEXT], file, NULL, NULL) != 0 && loaded == NULL);
    snprintf(file, sizeof file, "%s/nothing.h5", folder);
    CHECK(CALL(usplit_model_load)(&loaded, h[CONTEXT], file) == USPLIT_ERR_FILE && loaded == NULL);
    CHECK(strstr(CALL(usplit_error_message)(), "nothing.h5") != NULL);
    CHECK(strcmp(CALL(usplit_status_name)(USPLIT_ERR_MEMORY), "out of memory") == 0);
    for (int i = 0; i < HANDLES; i++) {
        finalise((noun)i, h[i]);
    }
    report("files, facts, text and errors");
}

// ---- Figures, calibration, Double-DIP ---------------------------------------------------------------

// residual, seams and compare_pair of USplit.jl: arrays with the row fastest, and the same row by row.
static void figures(void)
{
    static float rest[SIDE][SIDE], rest_turned[SIDE][SIDE];
    double weights[CHANNELS] = {0.75, 0.25};
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            pixels[i][j] = turned[j][i] = (float)((i * 7 + j * 3) % 40);
            for (int c = 0; c < CHANNELS; c++) {
                planes[i][j][c] = julia[c][j][i] = (float)((i * 5 + j * (11 + c)) % 31);
            }
        }
    }
    jl_usplit_image x = view(pixels, 1, sizeof pixels[0], 4, 0), xt = view(turned, 1, 4, sizeof turned[0], 0);
    jl_usplit_image y = view(planes, CHANNELS, sizeof planes[0], sizeof planes[0][0], 4);
    jl_usplit_image yt = view(julia, CHANNELS, 4, sizeof julia[0][0], sizeof julia[0]);
    jl_usplit_image r = view(rest, 1, sizeof rest[0], 4, 0), rt = view(rest_turned, 1, 4, sizeof rest_turned[0], 0);
    jl_usplit_residual_facts f = {.struct_size = sizeof f}, ft = f;
    CHECK(CALL(usplit_image_residual)(&x, &y, weights, 30.0, &r, &f) == 0);
    CHECK(CALL(usplit_image_residual)(&xt, &yt, weights, 30.0, &rt, &ft) == 0);
    CHECK(f.pixels == SIDE * SIDE && f.score > 0 && memcmp(&f, &ft, sizeof f) == 0);
    int differ = 0;
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            float expected = fminf(pixels[i][j], 30) - 0.75f * planes[i][j][0] - 0.25f * planes[i][j][1];  // exact
            differ += rest[i][j] != expected || rest_turned[j][i] != expected;
        }
    }
    CHECK(differ == 0);
    CHECK(CALL(usplit_image_residual)(&x, &y, NULL, INFINITY, NULL, &f) == 0 && f.pixels == SIDE * SIDE);
    jl_usplit_image_seam_facts s = {.struct_size = sizeof s}, st = s;
    CHECK(CALL(usplit_image_seams)(&x, 16, 3, 5, &s) == 0 && CALL(usplit_image_seams)(&xt, 16, 3, 5, &st) == 0);
    CHECK(s.row_borders > 0 && s.ratio > 0 && memcmp(&s, &st, sizeof s) == 0);
    jl_usplit_image_pair_quality q = {.struct_size = sizeof q};
    CHECK(CALL(usplit_image_compare_pair)(&y, &yt, &q) == 0);
    CHECK(q.swapped == 0 && q.rmse[0] + q.rmse[1] <= 0 && isinf(q.psnr[1]));
    report("residual, seams and compare_pair, with the row fastest too");
}

// A small variational network, trained until its error grows with its deviations.
static void *make_learnt(void *context, void **dataset)
{
    void *model = NULL, *trainer = NULL;
    OPTIONS(usplit_critter_options, c);
    OPTIONS(usplit_dataset_options, d);
    OPTIONS(usplit_model_options, m);
    OPTIONS(usplit_trainer_options, t);
    c.n_frames = 24;
    c.size = SIDE;
    c.n_curves = 2;
    c.kinds = 1;
    c.seed = 1;
    d.levels = 3;
    CHECK(CALL(usplit_dataset_create_critters)(dataset, context, &c, &d) == 0);
    m.levels = m.lc_count = 2;
    m.filters = m.z_dims[0] = 8;
    m.patch = 32;
    CHECK(CALL(usplit_model_create)(&model, context, &m) == 0);
    t.batch = 8;
    t.learning_rate = 0.003;
    t.max_steps = 80;
    t.max_validation_patches = 1;
    CHECK(CALL(usplit_trainer_create)(&trainer, model, *dataset, &t) == 0);
    CHECK(CALL(usplit_trainer_run)(trainer, NULL, NULL) == 0);
    finalise(TRAINER, trainer);
    return model;
}

// calibrate, set_calibration!, calibration, and split_image with deviations = 1, calibrated = 1.
static void calibrated(void)
{
    static float deviating[2 * CHANNELS][SIDE][SIDE], plain[2 * CHANNELS][SIDE][SIDE];
    void *dataset = NULL, *tiler = NULL, *context = make_context(), *model = make_learnt(context, &dataset);
    OPTIONS(usplit_tiler_options, o);
    o.samples = 4;
    jl_usplit_calibration made = {.struct_size = sizeof made}, got = made;
    running r = {.thread = pthread_self()};
    CHECK(CALL(usplit_model_calibrate)(model, dataset, USPLIT_SET_VALIDATION, &o, &made, callback(on_progress), &r) ==
          0);
    CHECK(r.calls > 0 && made.samples == 4 && made.slope[0] > 0 && made.slope[1] > 0 && made.residual_score > 0);
    running stopped = {.thread = pthread_self(), .stop_at = 1};
    CHECK(CALL(usplit_model_calibrate)(model, dataset, USPLIT_SET_VALIDATION, &o, &got, callback(on_progress),
                                       &stopped) == USPLIT_ERR_CANCELLED);
    jl_usplit_model_facts facts = {.struct_size = sizeof facts};
    CHECK(CALL(usplit_model_info)(model, &facts) == 0 && facts.has_calibration == 0);
    CHECK(CALL(usplit_model_get_calibration)(model, &got) == USPLIT_ERR_STATE);
    CHECK(CALL(usplit_model_set_calibration)(model, &made) == 0);
    CHECK(CALL(usplit_model_get_calibration)(model, &got) == 0 && memcmp(&made, &got, sizeof made) == 0);
    jl_usplit_image src = view(turned, 1, 4, sizeof turned[0], 0);
    o.deviations = 1;
    for (int i = 0; i < 2; i++) {
        void *out = i == 0 ? (void *)plain : (void *)deviating;
        jl_usplit_image dst = view(out, 2 * CHANNELS, 4, sizeof plain[0][0], sizeof plain[0]);
        jl_usplit_tiler_result result = {.struct_size = sizeof result};
        o.calibrated = i;
        CHECK(CALL(usplit_tiler_create)(&tiler, model, &o) == 0);
        CHECK(CALL(usplit_tiler_run)(tiler, &src, &dst, &result, NULL, NULL) == 0);
        CHECK(result.calibrated == i && result.input_distance > 0);
        finalise(TILER, tiler);
    }
    int differ = 0;
    for (int c = 0; c < 2 * CHANNELS; c++) {
        for (int k = 0; k < SIDE * SIDE; k++) {
            double is = (double)deviating[c][k / SIDE][k % SIDE], was = (double)plain[c][k / SIDE][k % SIDE];
            double expected = c < CHANNELS ? was
                                           : fmax(made.slope[c - CHANNELS] * was + made.offset[c - CHANNELS], 0);
            differ += !(fabs(is - expected) <= 1e-6 * (1 + fabs(expected)));    // float, rounded once
        }
    }
    CHECK(differ == 0);
    CHECK(CALL(usplit_model_set_calibration)(model, NULL) == 0);
    CHECK(CALL(usplit_model_get_calibration)(model, &got) == USPLIT_ERR_STATE);
    finalise(CONTEXT, context);
    finalise(DATASET, dataset);
    finalise(MODEL, model);
    report("calibrated deviations");
}

// dip_mix and dip, with the row fastest.
static void double_dip(void)
{
    static float pair[2][DIP_SIDE][DIP_SIDE], mixed[2][DIP_SIDE][DIP_SIDE], estimates[2][DIP_SIDE][DIP_SIDE],
        again[2][DIP_SIDE][DIP_SIDE];
    const int64_t side = DIP_SIDE, row = 4, column = sizeof pair[0][0], channel = sizeof pair[0];
    void *context = make_context();
    for (int i = 0; i < DIP_SIDE; i++) {
        for (int j = 0; j < DIP_SIDE; j++) {
            pair[0][j][i] = (float)(i % 9 * 10);
            pair[1][j][i] = (float)(j % 13 * 7);
        }
    }
    OPTIONS(usplit_dip_options, o);
    o.mix[0] = 0.5;
    o.mix[1] = 0.25;
    o.iterations = 3;
    jl_usplit_image p = view_of(pair, side, 2, row, column, channel), m = view_of(mixed, side, 2, row, column, channel);
    jl_usplit_image e = view_of(estimates, side, 2, row, column, channel);
    CHECK(CALL(usplit_dip_mix)(&p, &m, &o) == 0);
    CHECK(fabs((double)mixed[1][3][5] - (0.25 * (double)pair[0][3][5] + 0.75 * (double)pair[1][3][5])) < 1e-5);
    jl_usplit_dip_result result = {.struct_size = sizeof result};
    running r = {.thread = pthread_self()};
    CHECK(CALL(usplit_dip_run)(context, &m, &e, &o, &result, callback(on_progress), &r) == 0);
    CHECK(r.newest == 3 && result.iterations == 3 && result.mode == USPLIT_DIP_TWO && result.psnr > 0);
    // Stopped: the array has the best so far.
    jl_usplit_image best = view_of(again, side, 2, row, column, channel);
    running stopped = {.thread = pthread_self(), .stop_at = 1};
    CHECK(CALL(usplit_dip_run)(context, &m, &best, &o, &result, callback(on_progress), &stopped) ==
          USPLIT_ERR_CANCELLED);
    CHECK(result.iterations == 1 && again[0][3][5] > 0);
    jl_usplit_image one = view_of(mixed, side, 1, row, column, 0);      // a matrix: one mixture
    CHECK(CALL(usplit_dip_run)(context, &one, &e, &o, NULL, NULL, NULL) == 0);
    finalise(CONTEXT, context);
    report("Double-DIP: mixed, run, stopped");
}

// ---- Finalisers -------------------------------------------------------------------------------------

typedef struct sweep {
    void *h[HANDLES];
    int order[HANDLES];
} sweep;

static void *collect(void *user)
{
    sweep *s = user;
    for (int i = 0; i < HANDLES; i++) {
        finalise((noun)s->order[i], s->h[s->order[i]]);
    }
    return NULL;
}

// The n-th of the 120 orders.
static void take_order(int n, int *order)
{
    int left[HANDLES] = {0, 1, 2, 3, 4}, many = 24;
    for (int i = 0; i < HANDLES; i++) {
        int at = n / many;
        n %= many;
        many = HANDLES - 1 - i > 0 ? many / (HANDLES - 1 - i) : 1;
        order[i] = left[at];
        memmove(left + at, left + at + 1, (size_t)(HANDLES - 1 - at) * sizeof *left);
    }
}

static void finalisers_in_any_order(void)
{
    int seen[HANDLES][HANDLES] = {{0}};
    for (int n = 0; n < 120; n++) {
        sweep s;
        pthread_t thread;
        make_all(s.h);
        take_order(n, s.order);
        for (int i = 0; i < HANDLES; i++) {
            seen[s.order[i]][i]++;
        }
        // On a thread that never used them, every other time.
        CHECK(n % 2 == 0 ? pthread_create(&thread, NULL, collect, &s) == 0 && pthread_join(thread, NULL) == 0
                         : (collect(&s), 1));
    }
    for (int i = 0; i < HANDLES * HANDLES; i++) {
        CHECK(seen[i / HANDLES][i % HANDLES] == 24);
    }
    report("finalisers in each of 120 orders, on this thread and another");
}

static void finalisers_in_a_callback(void)
{
    void *h[HANDLES], *other[HANDLES];
    make_all(h);
    make_all(other);
    // All others, while one runs; then what the running one was made from, and itself.
    running r = {.thread = pthread_self(), .drop = other};
    jl_usplit_image src = view(pixels, 1, sizeof pixels[0], 4, 0);
    jl_usplit_image dst = view(planes, CHANNELS, sizeof planes[0], sizeof planes[0][0], 4);
    CHECK(CALL(usplit_tiler_run)(h[TILER], &src, &dst, NULL, callback(on_progress), &r) == 0);
    CHECK(r.drop == NULL);
    r.drop = h;
    CHECK(CALL(usplit_tiler_run)(h[TILER], &src, &dst, NULL, callback(on_progress), &r) == 0);
    CHECK(r.drop == NULL);
    report("finalisers within a callback, of the running handle too");
}

int main(int argc, char **argv)
{
    if (argc != 3 || !(library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL))) {
        printf("use: julia_pattern LIBRARY FOLDER; %s\n", argc == 3 ? dlerror() : "");
        return 1;
    }
    snprintf(folder, sizeof folder, "%s", argv[2]);
    printf("1..8\n");
    train_with_progress();
    split_images();
    files_and_facts();
    figures();
    calibrated();
    double_dip();
    finalisers_in_any_order();
    finalisers_in_a_callback();
    return 0;
}
