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

enum { SIDE = 64, CHANNELS = 2, HANDLES = 5 };

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
static jl_usplit_image view(void *data, int64_t channels, int64_t row, int64_t column, int64_t channel)
{
    jl_usplit_image v;
    memset(&v, 0xA5, sizeof v);
    CHECK(CALL(usplit_image_init)(&v, sizeof v, data, USPLIT_TYPE_F32, 1, SIDE, SIDE, channels) == 0);
    v.stride_row = row, v.stride_column = column, v.stride_channel = channel, v.stride_frame = 0;
    return v;
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
    printf("1..5\n");
    train_with_progress();
    split_images();
    files_and_facts();
    finalisers_in_any_order();
    finalisers_in_a_callback();
    return 0;
}
