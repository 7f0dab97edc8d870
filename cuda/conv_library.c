// Convolutions by CUDA's libraries, behind the table of conv.h. What a library can do for a shape it offers as ways
// (ways.h); here one of them is taken:
//
//   shape -> choice?     made before in this context, or read from its file (choices.h): made again, tried, used
//         -> first       the first way offered that runs
//         -> or fastest  with `search`: all of them are timed, those of every library
//         -> plain       where nothing is offered, kernels of our own (conv_plain.cu); note() tells
//
// A way is run before it is taken: kernels are loaded then, not inside a recording, and what cannot run is found out.
// Where there is no memory for that, the first that is offered is taken and not kept. An engine belongs to one thread
// at a time, choices to all engines of a context.
#include <stdio.h>
#include <string.h>

#include "choices.h"

enum { MOST_LIBRARIES = 4, MOST_OFFERED = 64, MOST_TIMED = 8, TIMED_RUNS = 10, TIMED_ROUNDS = 3 };

// One shape and direction ready to run: by a way, or by plain kernels.
typedef struct plan {
    us_cu_shape shape;
    us_conv_direction direction;
    us_cu_way *way;
    us_cu_conv *plain;
    struct plan *next;
} plan;

struct us_cu_engine {
    void *libraries[MOST_LIBRARIES];    // as in us_cu_libraries
    us_stream *stream;                  // for trials
    us_cu_conv_options options;
    plan *plans;                        // all made so far
};

struct us_cu_conv {
    const plan *plan;
};

static void drop_way(us_cu_way *way)
{
    if (way) {
        way->library->release(way);
    }
}

static const char *run_way(us_cu_way *way, const us_cu_shape *s, us_conv_direction direction, us_stream *stream,
                           const us_cu_arguments *args)
{
    const char *text = way->library->run(way, stream, args);
    if (text || direction != US_CU_FORWARD || way->adds_bias) {
        return text;
    }
    return us_cu_add_bias(stream, args->out, args->bias, (int64_t)s->batch * s->out_h * s->out_w, s->co, s->half);
}

// ---- Trials -------------------------------------------------------------------------------------------

// Memory for trying the ways of one plan. Its tensors are zero.
typedef struct bench {
    void *block, *room;
    int64_t room_bytes;         // of the workspace
    us_event *from, *to;
    us_cu_arguments args;
} bench;

static int64_t align(int64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static void close_bench(bench *b)
{
    us_event_free(b->from);
    us_event_free(b->to);
    us_device_free(b->block);
    us_device_free(b->room);
}

static const char *open_bench(bench *b, const us_cu_engine *e, const plan *p)
{
    const us_cu_shape *s = &p->shape;
    int64_t element = s->half ? 2 : 4, n = s->batch;
    int64_t in = align(n * s->in_h * s->in_w * s->ci * element), out = align(n * s->out_h * s->out_w * s->co * element);
    int64_t weights = align((int64_t)s->ci * s->co * s->k * s->k * element), bias = align(s->co * element);
    const char *text;
    *b = (bench){.block = NULL};
    if ((text = us_device_alloc(&b->block, in + out + weights + bias)) != NULL) {
        b->block = NULL;
        return text;
    }
    if ((text = us_event_create(&b->from)) != NULL || (text = us_event_create(&b->to)) != NULL ||
        (text = us_fill_zero(e->stream, b->block, in + out + weights + bias)) != NULL) {
        return text;
    }
    char *at = b->block, *x = at, *y = at + in, *w = y + out;
    b->args.bias = w + weights;
    b->args.a = p->direction == US_CU_BACK ? y : x;
    b->args.b = p->direction == US_CU_WEIGHT ? y : w;
    b->args.out = p->direction == US_CU_FORWARD ? y : p->direction == US_CU_BACK ? x : w;
    return NULL;
}

// Room for a way's workspace; 0: there is none.
static int make_room(bench *b, int64_t bytes)
{
    if (bytes <= b->room_bytes) {
        return 1;
    }
    us_device_free(b->room);
    b->room = NULL;
    b->room_bytes = 0;
    if (us_device_alloc(&b->room, bytes) != NULL) {
        b->room = NULL;
        return 0;
    }
    b->room_bytes = bytes;
    return 1;
}

// Time of a recording's run, the shortest of some.
static const char *time_recording(const us_cu_engine *e, const bench *b, us_recording *recording, double *seconds)
{
    const char *text = us_record_run(recording, e->stream);     // loads it
    *seconds = 1e30;
    for (int i = 0; i < TIMED_ROUNDS && !text; i++) {
        double once = 0;
        text = us_event_record(b->from, e->stream);
        text = text ? text : us_record_run(recording, e->stream);
        text = text ? text : us_event_record(b->to, e->stream);
        text = text ? text : us_stream_wait(e->stream);
        text = text ? text : us_event_seconds(b->from, b->to, &once);
        *seconds = once < *seconds ? once : *seconds;
    }
    return text;
}

// Runs a way once, and with `seconds` in a recording too, as networks are run: launches cost the host more time than
// small convolutions cost the device. *good: it can be run. A text: the device failed, whatever the way.
static const char *try_once_or_often(const us_cu_engine *e, const plan *p, us_cu_way *way, bench *b, int *good,
                                     double *seconds)
{
    us_recording *recording = NULL;
    *good = make_room(b, way->workspace);
    b->args.workspace = b->room;
    if (!*good) {
        return NULL;
    }
    *good = run_way(way, &p->shape, p->direction, e->stream, &b->args) == NULL;
    const char *text = us_stream_wait(e->stream);
    if (text || !*good || !seconds) {
        return text;
    }
    if ((text = us_record_begin(e->stream)) != NULL) {
        return text;
    }
    for (int i = 0; i < TIMED_RUNS && *good; i++) {
        *good = run_way(way, &p->shape, p->direction, e->stream, &b->args) == NULL;
    }
    if (us_record_end(e->stream, &recording) != NULL) {
        recording = NULL;
        *good = 0;
    }
    text = *good ? time_recording(e, b, recording, seconds) : NULL;
    us_record_free(recording);
    return text;
}

// The same, and what a way that cannot be run left behind is forgotten.
static const char *try_way(const us_cu_engine *e, const plan *p, us_cu_way *way, bench *b, int *good, double *seconds)
{
    const char *text = try_once_or_often(e, p, way, b, good, seconds);
    if (!text && !*good) {
        us_device_forget();
    }
    return text;
}

// ---- Choosing -----------------------------------------------------------------------------------------

typedef struct picker {
    us_cu_taker taker;
    const us_cu_engine *engine;
    const plan *plan;
    bench *bench;               // NULL: no memory to try them
    int search;
    us_cu_way *best;
    double seconds;
} picker;

static const char *pick(us_cu_taker *taker, us_cu_way *way, int *done)
{
    picker *k = (picker *)taker;
    int good = 1;
    double seconds = 0;
    const char *text = NULL;
    if (k->bench) {
        text = try_way(k->engine, k->plan, way, k->bench, &good, k->search ? &seconds : NULL);
    }
    if (text || !good || (k->best && seconds >= k->seconds)) {
        drop_way(way);
    } else {
        drop_way(k->best);
        k->best = way;
        k->seconds = seconds;
    }
    taker->taken += !text && good;
    *done = text || (k->best && !k->search);
    return text;
}

// p->way stays NULL where no library has anything. *tried: what it became has run.
static const char *choose(us_cu_engine *e, plan *p, int *tried)
{
    bench b;
    const char *text = open_bench(&b, e, p);
    picker k = {.taker = {pick, 0}, .engine = e, .plan = p, .bench = text ? NULL : &b};
    k.search = e->options.search && k.bench;
    *tried = k.bench != NULL;
    text = NULL;
    for (int i = 0; us_cu_libraries[i] && !text && (k.search || !k.best); i++) {
        text = us_cu_libraries[i]->offer(e->libraries[i], &p->shape, p->direction,
                                         k.search ? MOST_TIMED : MOST_OFFERED, &k.taker);
    }
    close_bench(&b);
    if (text) {
        drop_way(k.best);
        return text;
    }
    p->way = k.best;
    return NULL;
}

static const char *take_plain(plan *p)
{
    return us_cu_conv_plain.compile(&p->plain, NULL, &p->shape, p->direction);
}

// The plan of an earlier choice. Neither way nor plain kernels afterwards: it cannot be made or run any more.
static const char *repeat(us_cu_engine *e, plan *p, us_cu_choice *choice)
{
    const char *text = NULL;
    bench b;
    int good = 1;
    if (strcmp(choice->recipe.library, "plain") == 0) {
        return take_plain(p);
    }
    for (int i = 0; us_cu_libraries[i] && !p->way && !text; i++) {
        if (strcmp(us_cu_libraries[i]->name, choice->recipe.library) == 0) {
            text = us_cu_libraries[i]->again(e->libraries[i], &p->shape, p->direction, &choice->recipe, &p->way);
        }
    }
    if (text || !p->way || choice->tried) {
        return text;
    }
    if (open_bench(&b, e, p) == NULL) {
        text = try_way(e, p, p->way, &b, &good, NULL);
        choice->tried = good;
    }
    close_bench(&b);
    if (text || !good) {
        drop_way(p->way);
        p->way = NULL;
    }
    return text;
}

static const char *keep(us_cu_engine *e, const plan *p, us_cu_choice *choice)
{
    choice->tried = 1;
    choice->recipe = (us_cu_recipe){.library = "plain"};
    if (p->way) {
        choice->recipe = p->way->recipe;
    }
    if (!choice->recipe.library[0]) {
        return NULL;
    }
    return us_cu_choices_put(e->options.choices, choice) == USPLIT_OK ? NULL : "out of memory for a convolution";
}

static const char *build(us_cu_engine *e, plan *p)
{
    us_cu_choices *choices = e->options.choices;
    us_cu_choice like = {.shape = p->shape, .direction = p->direction, .deterministic = e->options.deterministic,
                         .search = e->options.search};
    us_cu_choice *there = choices ? us_cu_choices_find(choices, &like) : NULL;
    int tried = 0;
    const char *text = there ? repeat(e, p, there) : NULL;
    if (text || p->way || p->plain) {
        return text;
    }
    text = choose(e, p, &tried);
    if (!text && !p->way) {
        text = take_plain(p);
    }
    return !text && tried && choices ? keep(e, p, &like) : text;
}

static void drop_plan(plan *p)
{
    drop_way(p->way);
    if (p->plain) {
        us_cu_conv_plain.release(p->plain);
    }
    us_free(NULL, p);
}

static const char *make_plan(plan **out, us_cu_engine *e, const us_cu_shape *shape, us_conv_direction direction)
{
    *out = NULL;
    plan *p = us_calloc(NULL, 1, sizeof *p);
    if (!p) {
        return "out of memory for a convolution";
    }
    p->shape = *shape;
    p->direction = direction;
    if (e->options.choices) {
        us_cu_choices_lock(e->options.choices);
    }
    const char *text = build(e, p);
    if (e->options.choices) {
        us_cu_choices_unlock(e->options.choices);
    }
    if (text) {
        drop_plan(p);
        return text;
    }
    *out = p;
    return NULL;
}

// ---- The table ----------------------------------------------------------------------------------------

static void close_engine(us_cu_engine *e)
{
    if (!e) {
        return;
    }
    while (e->plans) {
        plan *next = e->plans->next;
        drop_plan(e->plans);
        e->plans = next;
    }
    for (int i = 0; us_cu_libraries[i]; i++) {
        if (e->libraries[i]) {
            us_cu_libraries[i]->close(e->libraries[i]);
        }
    }
    us_free(NULL, e);
}

static const char *open_engine(us_cu_engine **out, us_stream *stream, const us_cu_conv_options *options)
{
    const char *text = NULL;
    *out = NULL;
    us_cu_engine *e = us_calloc(NULL, 1, sizeof *e);
    if (!e) {
        return "out of memory for the convolutions";
    }
    e->stream = stream;
    e->options = *options;
    for (int i = 0; us_cu_libraries[i] && i < MOST_LIBRARIES && !text; i++) {
        text = us_cu_libraries[i]->open(&e->libraries[i], options->deterministic);
    }
    if (text) {
        close_engine(e);
        return text;
    }
    *out = e;
    return NULL;
}

static void describe(char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; us_cu_libraries[i] && n + 3 < size; i++) {
        char one[64];
        us_cu_libraries[i]->describe(one, sizeof one);
        n += (size_t)snprintf(text + n, size - n, "%s%s", n && one[0] ? ", " : "", one);
    }
}

static const char *compile(us_cu_conv **out, us_cu_engine *e, const us_cu_shape *shape, us_conv_direction direction)
{
    const char *text;
    *out = NULL;
    plan *p = e->plans;
    while (p && (memcmp(&p->shape, shape, sizeof *shape) != 0 || p->direction != direction)) {
        p = p->next;
    }
    if (!p) {
        if ((text = make_plan(&p, e, shape, direction)) != NULL) {
            return text;
        }
        p->next = e->plans;
        e->plans = p;
    }
    us_cu_conv *conv = us_calloc(NULL, 1, sizeof *conv);
    if (!conv) {
        return "out of memory for a convolution";
    }
    conv->plan = p;
    *out = conv;
    return NULL;
}

static void release(us_cu_conv *conv)
{
    us_free(NULL, conv);        // the plan is the engine's
}

static int64_t workspace(const us_cu_conv *conv)
{
    return conv->plan->plain ? us_cu_conv_plain.workspace(conv->plan->plain) : conv->plan->way->workspace;
}

static const char *note(const us_cu_conv *conv)
{
    return conv->plan->plain ? us_cu_conv_plain.note(conv->plan->plain) : conv->plan->way->note;
}

static const char *run(us_cu_conv *conv, us_stream *stream, const void *a, const void *b, const void *bias, void *out,
                       void *room)
{
    const plan *p = conv->plan;
    us_cu_arguments args = {a, b, bias, out, room};
    if (p->plain) {
        return us_cu_conv_plain.run(p->plain, stream, a, b, bias, out, room);
    }
    if (p->direction == US_CU_FORWARD && !bias) {
        return "internal: a forward convolution without its bias";
    }
    return run_way(p->way, &p->shape, p->direction, stream, &args);
}

const us_cu_conv_table us_cu_conv_library = {open_engine, close_engine, describe, compile, release, workspace, note,
                                             run};
