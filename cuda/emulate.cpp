// The emulated device (emulate.h): launches as fibres, memory over the C library, recordings as lists of what
// to do. Only for tests; never part of a library that is installed.
#undef _FORTIFY_SOURCE      // its longjmp refuses to change stacks
#include "emulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#if defined(__has_feature)      // clang's way to say it
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#elif __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace {

enum { CANARY = 256, CANARY_BYTE = 0xa5, NAN_BYTE = 0xff, MAX_THREADS = 1024, STACK = 256 * 1024 };

const int64_t SHARED_BYTES = 65536;     // what the smallest of the supported devices has

typedef std::function<const char *()> work;

struct block_info {
    int64_t bytes;
    bool pinned;
};

// ---- Errors -----------------------------------------------------------------------------------------------------

__thread char error_text[512];

__attribute__((format(printf, 1, 2))) const char *fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    return error_text;
}

// ---- Fibres -----------------------------------------------------------------------------------------------------
//
// A fibre takes threads of the block that have not begun and runs them to their end. Only at a barrier it is
// left: its thread queues up, and another fibre begins the next thread or goes on with the first of the queue.
// So a kernel without barriers runs on one fibre that never switches, and every thread reaches barrier n before
// any passes it. Fibres are made with ucontext once per host thread and then change by _setjmp and _longjmp,
// which call nothing in the kernel of the operating system.

struct fibre {
    jmp_buf jump;
    ucontext_t first;               // where it begins
    bool begun;
    void *stack;                    // STACK bytes above a page that may not be touched; NULL: the caller's
    int thread, barriers;           // of the thread it runs
#if defined(__SANITIZE_ADDRESS__)
    void *fake;
    const void *bottom;
    size_t size;
#elif defined(__SANITIZE_THREAD__)
    void *sanitizer;
#endif
};

struct crew {                       // of one host thread
    fibre caller = {};
    fibre *now = nullptr;
    std::vector<std::unique_ptr<fibre>> all;
    std::vector<fibre *> idle;
    fibre *queue[MAX_THREADS];      // a ring: at a barrier, in the order of arrival
    unsigned first = 0, waiting = 0;
    const std::function<void()> *body = nullptr;
    std::vector<int> order;         // of the threads
    size_t next = 0;                // the next to begin
    int fewest = 0, most = 0;       // barriers met by a thread
    const char *fault = nullptr;    // what else went wrong
    ~crew();
};

thread_local crew own_crew;
__thread crew *mine;                // own_crew, without asking whether it has been made

void enter(fibre *to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&mine->now->fake, to->bottom, to->size);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    mine->now = to;
    if (to->begun) {
        _longjmp(to->jump, 1);
    }
    to->begun = true;
    setcontext(&to->first);
}

void arrived(void)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t size;
    fibre *from_caller = &mine->caller;
    __sanitizer_finish_switch_fiber(mine->now->fake, &bottom, &size);
    if (!from_caller->bottom) {     // the first switch ever came from there
        from_caller->bottom = bottom;
        from_caller->size = size;
    }
#endif
}

void switch_to(fibre *to)
{
    if (to == mine->now) {
        return;
    }
    if (_setjmp(mine->now->jump) == 0) {
        enter(to);
    }
    arrived();
}

void run_threads(fibre *me)
{
    crew *c = mine;
    while (c->next < c->order.size()) {
        me->thread = us_emulate_here.thread = c->order[c->next++];
        me->barriers = 0;
        (*c->body)();
        c->fewest = std::min(c->fewest, me->barriers);
        c->most = std::max(c->most, me->barriers);
    }
}

void join_queue(fibre *f)
{
    crew *c = mine;
    c->queue[(c->first + c->waiting++) % MAX_THREADS] = f;
}

fibre *front_of_queue(void)
{
    crew *c = mine;
    fibre *f = c->queue[c->first++ % MAX_THREADS];
    c->waiting--;
    us_emulate_here.thread = f->thread;
    return f;
}

void fibre_life(void)
{
    arrived();
    for (;;) {
        fibre *me = mine->now;
        run_threads(me);
        mine->idle.push_back(me);
        switch_to(mine->waiting ? front_of_queue() : &mine->caller);
    }
}

fibre *new_fibre(void)
{
    const size_t page = 4096;
    std::unique_ptr<fibre> f(new fibre());
    char *at = (char *)mmap(nullptr, STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == (char *)MAP_FAILED) {
        throw std::bad_alloc();
    }
    mprotect(at, page, PROT_NONE);
    f->stack = at;
    getcontext(&f->first);
    f->first.uc_stack.ss_sp = at + page;
    f->first.uc_stack.ss_size = STACK;
    f->first.uc_link = nullptr;
    makecontext(&f->first, fibre_life, 0);
#if defined(__SANITIZE_ADDRESS__)
    f->bottom = at + page;
    f->size = STACK;
#elif defined(__SANITIZE_THREAD__)
    f->sanitizer = __tsan_create_fiber(0);
#endif
    mine->all.push_back(std::move(f));
    return mine->all.back().get();
}

fibre *idle_fibre(void)
{
    if (mine->idle.empty()) {
        return new_fibre();
    }
    fibre *f = mine->idle.back();
    mine->idle.pop_back();
    return f;
}

crew::~crew()
{
    for (auto &f : all) {
#if defined(__SANITIZE_THREAD__)
        __tsan_destroy_fiber(f->sanitizer);
#endif
        munmap(f->stack, STACK + 4096);
    }
}

void run_block(const std::function<void()> *body)
{
    crew *c = mine;
    c->body = body;
    c->next = 0;
    c->fewest = INT32_MAX;
    c->most = 0;
    c->caller.begun = true;
    c->now = &c->caller;
#if defined(__SANITIZE_THREAD__)
    c->caller.sanitizer = __tsan_get_current_fiber();
#endif
    switch_to(idle_fibre());
}

// ---- Memory -----------------------------------------------------------------------------------------------------

struct machine {
    std::recursive_mutex lock;
    std::map<char *, block_info> blocks;
    int64_t limit = (int64_t)16 << 30, live = 0;
    int handles = 0;
    std::atomic<uint64_t> seed{0};
};

machine &all(void)
{
    static machine m;
    return m;
}

typedef std::lock_guard<std::recursive_mutex> hold;

// The block that holds all of it, NULL: none does.
const block_info *block_of(const void *p, int64_t bytes)
{
    const char *at = (const char *)p;
    auto &blocks = all().blocks;
    auto it = blocks.upper_bound(const_cast<char *>(at));
    if (it == blocks.begin()) {
        return nullptr;
    }
    --it;
    return at + bytes <= it->first + it->second.bytes ? &it->second : nullptr;
}

bool canary_whole(const char *at)
{
    return std::all_of(at, at + CANARY, [](char c) { return (unsigned char)c == CANARY_BYTE; });
}

const char *check_blocks(const char *name)
{
    hold h(all().lock);
    for (auto &b : all().blocks) {
        if (!canary_whole(b.first - CANARY) || !canary_whole(b.first + b.second.bytes)) {
            const char *side = canary_whole(b.first - CANARY) ? "after" : "before";
            memset(b.first - CANARY, CANARY_BYTE, CANARY);          // said once
            memset(b.first + b.second.bytes, CANARY_BYTE, CANARY);
            return fail("%s: wrote %s a device block of %lld bytes", name, side, (long long)b.second.bytes);
        }
    }
    return nullptr;
}

void *block_new(int64_t bytes, bool pinned)
{
    size_t room = (size_t)((bytes + 255) / 256 * 256) + 2 * CANARY;
    char *raw = (char *)aligned_alloc(256, room);
    if (!raw) {
        return nullptr;
    }
    memset(raw, CANARY_BYTE, room);
    memset(raw + CANARY, NAN_BYTE, (size_t)bytes);
    all().blocks[raw + CANARY] = {bytes, pinned};
    return raw + CANARY;
}

void block_end(void *block)
{
    all().blocks.erase((char *)block);
    free((char *)block - CANARY);
}

// ---- Launches ---------------------------------------------------------------------------------------------------

uint64_t mix(uint64_t x)            // splitmix64
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

std::vector<int> order_of(int n, uint64_t seed)
{
    std::vector<int> order((size_t)n);
    std::iota(order.begin(), order.end(), 0);
    for (int i = n - 1; i > 0 && seed != 0; i--) {
        seed = mix(seed);
        std::swap(order[(size_t)i], order[(size_t)(seed % (uint64_t)(i + 1))]);
    }
    return order;
}

struct launch {
    const char *name;
    int blocks, threads;
    int64_t shared_bytes;
    std::function<void()> body;
};

const char *check_block(const launch &l, const char *shared)
{
    if (mine->fault) {
        return fail("%s: block %d: %s", l.name, us_emulate_here.block, mine->fault);
    }
    if (mine->fewest != mine->most) {
        return fail("%s: block %d: one thread met %d barriers, another %d", l.name, us_emulate_here.block,
                    mine->fewest, mine->most);
    }
    if (!canary_whole(shared - CANARY) || !canary_whole(shared + l.shared_bytes)) {
        return fail("%s: block %d: wrote outside its %lld bytes of shared memory", l.name, us_emulate_here.block,
                    (long long)l.shared_bytes);
    }
    return nullptr;
}

const char *run_launch(const launch &l)
{
    if (us_emulate_here.shared) {
        return fail("%s: launched from a kernel", l.name);
    }
    std::unique_ptr<char, void (*)(void *)> room(
        (char *)aligned_alloc(256, (size_t)((l.shared_bytes + 255) / 256 * 256 + 2 * CANARY)), free);
    if (!room) {
        return fail("%s: out of memory", l.name);
    }
    char *shared = room.get() + CANARY;
    const char *error = nullptr;
    const uint64_t seed = all().seed;
    mine = &own_crew;
    mine->order = order_of(l.threads, seed);
    mine->fault = nullptr;
    memset(shared - CANARY, CANARY_BYTE, CANARY);
    memset(shared + l.shared_bytes, CANARY_BYTE, CANARY);
    for (int block : order_of(l.blocks, seed)) {
        memset(shared, NAN_BYTE, (size_t)l.shared_bytes);
        us_emulate_here = {block, l.blocks, 0, l.threads, shared};
        run_block(&l.body);
        if ((error = check_block(l, shared)) != nullptr) {
            break;
        }
    }
    us_emulate_here = {};
    return error ? error : check_blocks(l.name);
}

}   // namespace

struct us_recording {
    std::vector<work> list;
};

struct us_stream {
    us_recording *recording;
};

struct us_event {
    bool recorded;
    double seconds;
};

namespace {

__thread int recordings_open;           // of this thread, as the device's thread-local mode counts them
__thread const char *recording_fault;   // of a call that cannot say so itself

const char *put(us_stream *stream, const work &w)
{
    if (stream->recording) {
        stream->recording->list.push_back(w);
        return nullptr;
    }
    return w();
}

const char *not_recording(const char *call)
{
    return recordings_open ? fail("%s: not while a stream is recording", call) : nullptr;
}

const char *whole_device(const char *call, const void *p, int64_t bytes)
{
    hold h(all().lock);
    const block_info *b = block_of(p, bytes);
    return bytes == 0 || (b && !b->pinned) ? nullptr : fail("%s: %lld bytes at %p are not in a device block", call,
                                            (long long)bytes, p);
}

const char *whole_host(const char *call, const us_stream *stream, const void *p, int64_t bytes)
{
    hold h(all().lock);
    const block_info *b = block_of(p, bytes);
    if (b && !b->pinned) {
        return fail("%s: %p is device memory", call, p);
    }
    return stream->recording && !b ? fail("%s: a recording copies only pinned host memory", call) : nullptr;
}

const char *move(us_stream *stream, void *to, const void *from, int64_t bytes)
{
    return put(stream, [=]() -> const char * {
        memmove(to, from, (size_t)bytes);
        return nullptr;
    });
}

void count_handle(int change)
{
    hold h(all().lock);
    all().handles += change;
}

double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

}   // namespace

__thread us_emulate_place us_emulate_here;

void us_emulate_barrier(void)
{
    crew *c = mine;
    c->now->barriers++;
    join_queue(c->now);
    switch_to(c->next < c->order.size() ? idle_fibre() : front_of_queue());
}

void us_emulate_misaligned(void)
{
    mine->fault = "8 elements loaded or stored at an address that is no multiple of 16";
}

const char *us_emulate_run(us_stream *stream, const char *name, int64_t blocks, int64_t threads,
                           int64_t shared_bytes, const std::function<void()> &thread)
{
    if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > MAX_THREADS) {
        return fail("%s: invalid launch of %lld blocks of %lld threads", name, (long long)blocks, (long long)threads);
    }
    if (shared_bytes < 0 || shared_bytes > SHARED_BYTES) {
        return fail("%s: %lld bytes of shared memory asked for, a block has %lld", name, (long long)shared_bytes,
                    (long long)SHARED_BYTES);
    }
    launch l = {name, (int)blocks, (int)threads, shared_bytes, thread};
    return put(stream, [l]() { return run_launch(l); });
}

void us_emulate_shuffle(uint64_t seed)
{
    all().seed = seed;
}

void us_emulate_memory(int64_t bytes)
{
    all().limit = bytes;
}

int64_t us_emulate_leaks(void)
{
    hold h(all().lock);
    return all().live;
}

int us_emulate_handles(void)
{
    hold h(all().lock);
    return all().handles;
}

// ---- device.h ---------------------------------------------------------------------------------------------------

const char *us_device_facts_get(int ordinal, us_device_facts *facts)
{
    hold h(all().lock);
    *facts = {};
    facts->count = 1;
    facts->ordinal = ordinal;
    facts->driver = facts->runtime = 13000;
    if (ordinal == -1) {
        return nullptr;
    }
    snprintf(facts->name, sizeof facts->name, "emulated device");
    facts->major = 7;
    facts->minor = 5;
    facts->total_bytes = all().limit;
    facts->free_bytes = std::max<int64_t>(0, all().limit - all().live);
    facts->processors = 4;
    facts->shared_bytes = SHARED_BYTES;
    return us_device_use(ordinal);
}

void us_device_forget(void)
{
}

const char *us_device_use(int ordinal)
{
    return ordinal == 0 ? nullptr : fail("us_device_use: no device %d", ordinal);
}

const char *us_device_alloc(void **out, int64_t bytes)
{
    hold h(all().lock);
    *out = nullptr;
    if (recordings_open) {
        return not_recording("us_device_alloc");
    }
    if (bytes < 0 || bytes > all().limit - all().live || (bytes > 0 && (*out = block_new(bytes, false)) == nullptr)) {
        return fail("us_device_alloc of %lld bytes: out of memory", (long long)bytes);
    }
    all().live += bytes;
    return nullptr;
}

void us_device_free(void *block)
{
    hold h(all().lock);
    const block_info *b = block ? block_of(block, 0) : nullptr;
    if (recordings_open) {
        recording_fault = "us_device_free while a stream is recording";
    }
    if (b) {
        all().live -= b->bytes;
        block_end(block);
    }
}

const char *us_pinned_alloc(void **out, int64_t bytes)
{
    hold h(all().lock);
    *out = nullptr;
    if (recordings_open) {
        return not_recording("us_pinned_alloc");
    }
    if (bytes < 0 || (bytes > 0 && (*out = block_new(bytes, true)) == nullptr)) {
        return fail("us_pinned_alloc of %lld bytes: out of memory", (long long)bytes);
    }
    all().handles += *out != nullptr;
    return nullptr;
}

void us_pinned_free(void *block)
{
    hold h(all().lock);
    if (recordings_open) {
        recording_fault = "us_pinned_free while a stream is recording";
    }
    if (block) {
        all().handles--;
        block_end(block);
    }
}

const char *us_stream_create(us_stream **out)
{
    *out = new us_stream{};
    count_handle(1);
    return nullptr;
}

void us_stream_free(us_stream *stream)
{
    if (stream) {
        recordings_open -= stream->recording != nullptr;
        delete stream->recording;
        delete stream;
        count_handle(-1);
    }
}

const char *us_stream_wait(us_stream *stream)
{
    (void)stream;
    return not_recording("us_stream_wait");
}

void *us_stream_native(const us_stream *stream)
{
    (void)stream;
    return nullptr;
}

const char *us_stream_after(us_stream *stream, us_event *event)
{
    (void)event;
    return stream->recording ? not_recording("us_stream_after") : nullptr;
}

const char *us_event_create(us_event **out)
{
    *out = new us_event{};
    count_handle(1);
    return nullptr;
}

void us_event_free(us_event *event)
{
    if (event) {
        delete event;
        count_handle(-1);
    }
}

const char *us_event_record(us_event *event, us_stream *stream)
{
    if (stream->recording) {
        return not_recording("us_event_record");
    }
    event->recorded = true;
    event->seconds = now_seconds();
    return nullptr;
}

const char *us_event_wait(us_event *event)
{
    (void)event;
    return not_recording("us_event_wait");
}

const char *us_event_seconds(us_event *from, us_event *to, double *seconds)
{
    *seconds = to->seconds - from->seconds;
    return from->recorded && to->recorded ? nullptr : fail("us_event_seconds: an event was never recorded");
}

const char *us_copy_up(us_stream *stream, void *device, const void *host, int64_t bytes)
{
    const char *error = whole_device("us_copy_up", device, bytes);
    error = error ? error : whole_host("us_copy_up", stream, host, bytes);
    return error ? error : move(stream, device, host, bytes);
}

const char *us_copy_down(us_stream *stream, void *host, const void *device, int64_t bytes)
{
    const char *error = whole_device("us_copy_down", device, bytes);
    error = error ? error : whole_host("us_copy_down", stream, host, bytes);
    return error ? error : move(stream, host, device, bytes);
}

const char *us_copy_across(us_stream *stream, void *to, const void *from, int64_t bytes)
{
    const char *error = whole_device("us_copy_across", to, bytes);
    error = error ? error : whole_device("us_copy_across", from, bytes);
    return error ? error : move(stream, to, from, bytes);
}

const char *us_fill_zero(us_stream *stream, void *device, int64_t bytes)
{
    const char *error = whole_device("us_fill_zero", device, bytes);
    return error ? error : put(stream, [=]() -> const char * {
        memset(device, 0, (size_t)bytes);
        return nullptr;
    });
}

const char *us_record_begin(us_stream *stream)
{
    if (stream->recording) {
        return fail("us_record_begin: the stream is recording");
    }
    stream->recording = new us_recording{};
    recording_fault = nullptr;
    recordings_open++;
    return nullptr;
}

const char *us_record_end(us_stream *stream, us_recording **out)
{
    *out = stream->recording;
    if (!*out) {
        return fail("us_record_end: the stream is not recording");
    }
    stream->recording = nullptr;
    recordings_open--;
    if (recording_fault) {
        delete *out;
        *out = nullptr;
        return fail("us_record_end: %s", recording_fault);
    }
    count_handle(1);
    return nullptr;
}

const char *us_record_run(us_recording *recording, us_stream *stream)
{
    if (stream->recording) {
        return not_recording("us_record_run");
    }
    for (auto &w : recording->list) {
        const char *error = w();
        if (error) {
            return error;
        }
    }
    return nullptr;
}

int us_record_nodes(const us_recording *recording)
{
    return (int)recording->list.size();
}

void us_record_free(us_recording *recording)
{
    if (recording) {
        delete recording;
        count_handle(-1);
    }
}

void us_device_allow_shared(const void *kernel, int64_t bytes)
{
    (void)kernel, (void)bytes;
}

const char *us_device_launch_check(us_stream *stream, const char *kernel)
{
    (void)stream, (void)kernel;
    return nullptr;
}
