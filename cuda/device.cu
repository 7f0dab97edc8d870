// device.h over the CUDA runtime. A stream and an event of ours are the runtime's own handles under other
// names. Tests without a device have emulate.cpp in its place.
#include "device.h"

#include <cuda_runtime.h>
#include <pthread.h>
#include <stdio.h>

extern "C" {
#include "base/alloc.h"
}

// ---- Errors -------------------------------------------------------------------------------------------------

static thread_local char error_text[512];

static const char *error_of(cudaError_t status, const char *call)
{
    if (status == cudaSuccess) {
        return NULL;
    }
    cudaGetLastError();         // else a later launch would be blamed
    snprintf(error_text, sizeof error_text, "%s: %s (%s)", call, cudaGetErrorName(status), cudaGetErrorString(status));
    return error_text;
}

static const char *error_of_bytes(cudaError_t status, const char *call, int64_t bytes)
{
    char text[96];
    snprintf(text, sizeof text, "%s of %lld bytes", call, (long long)bytes);
    return error_of(status, text);
}

// For calls on the way out: the text of what went wrong before them stays.
static void quiet(cudaError_t status)
{
    if (status != cudaSuccess) {
        cudaGetLastError();
    }
}

// The first failing call ends a function.
#define TRY(call, name)                               \
    do {                                              \
        const char *try_error = error_of(call, name); \
        if (try_error) {                              \
            return try_error;                         \
        }                                             \
    } while (0)

static cudaStream_t native(us_stream *stream)
{
    return (cudaStream_t)us_stream_native(stream);
}

static cudaEvent_t native_event(us_event *event)
{
    return reinterpret_cast<cudaEvent_t>(event);
}

// ---- Devices ------------------------------------------------------------------------------------------------

const char *us_device_use(int ordinal)
{
    return error_of(cudaSetDevice(ordinal), "cudaSetDevice");
}

// A machine with a driver and no device has zero of them, which is no error.
static const char *count_devices(us_device_facts *facts)
{
    cudaDriverGetVersion(&facts->driver);
    cudaRuntimeGetVersion(&facts->runtime);
    cudaError_t status = cudaGetDeviceCount(&facts->count);
    if (status == cudaSuccess) {
        return NULL;
    }
    facts->count = 0;
    const char *error = error_of(status, "cudaGetDeviceCount");
    return status == cudaErrorNoDevice ? NULL : error;
}

const char *us_device_facts_get(int ordinal, us_device_facts *facts)
{
    *facts = us_device_facts();
    facts->ordinal = ordinal;
    const char *error = count_devices(facts);
    if (error || ordinal == -1) {
        return error;
    }
    cudaDeviceProp p;
    size_t free_bytes, total_bytes;
    TRY(cudaSetDevice(ordinal), "cudaSetDevice");
    TRY(cudaGetDeviceProperties(&p, ordinal), "cudaGetDeviceProperties");
    TRY(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    snprintf(facts->name, sizeof facts->name, "%.*s", (int)sizeof facts->name - 1, p.name);
    facts->major = p.major;
    facts->minor = p.minor;
    facts->total_bytes = (int64_t)total_bytes;
    facts->free_bytes = (int64_t)free_bytes;
    facts->processors = p.multiProcessorCount;
    facts->shared_bytes = (int64_t)p.sharedMemPerBlockOptin;
    return NULL;
}

// ---- Memory -------------------------------------------------------------------------------------------------

const char *us_device_alloc(void **out, int64_t bytes)
{
    *out = NULL;
    return error_of_bytes(bytes < 0 ? cudaErrorInvalidValue : cudaMalloc(out, (size_t)bytes), "cudaMalloc", bytes);
}

void us_device_free(void *block)
{
    quiet(cudaFree(block));
}

const char *us_pinned_alloc(void **out, int64_t bytes)
{
    *out = NULL;
    return error_of_bytes(bytes < 0 ? cudaErrorInvalidValue : cudaMallocHost(out, (size_t)bytes), "cudaMallocHost",
                          bytes);
}

void us_pinned_free(void *block)
{
    quiet(cudaFreeHost(block));
}

static const char *copy(us_stream *stream, void *to, const void *from, int64_t bytes, cudaMemcpyKind kind)
{
    return error_of_bytes(cudaMemcpyAsync(to, from, (size_t)bytes, kind, native(stream)), "cudaMemcpyAsync", bytes);
}

const char *us_copy_up(us_stream *stream, void *device, const void *host, int64_t bytes)
{
    return copy(stream, device, host, bytes, cudaMemcpyHostToDevice);
}

const char *us_copy_down(us_stream *stream, void *host, const void *device, int64_t bytes)
{
    return copy(stream, host, device, bytes, cudaMemcpyDeviceToHost);
}

const char *us_copy_across(us_stream *stream, void *to, const void *from, int64_t bytes)
{
    return copy(stream, to, from, bytes, cudaMemcpyDeviceToDevice);
}

const char *us_fill_zero(us_stream *stream, void *device, int64_t bytes)
{
    return error_of_bytes(cudaMemsetAsync(device, 0, (size_t)bytes, native(stream)), "cudaMemsetAsync", bytes);
}

// ---- Streams and events ---------------------------------------------------------------------------------------

const char *us_stream_create(us_stream **out)
{
    cudaStream_t made = NULL;
    const char *error = error_of(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    *out = reinterpret_cast<us_stream *>(made);
    return error;
}

void us_stream_free(us_stream *stream)
{
    if (stream) {
        quiet(cudaStreamDestroy(native(stream)));
    }
}

const char *us_stream_wait(us_stream *stream)
{
    return error_of(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

void *us_stream_native(const us_stream *stream)
{
    return const_cast<us_stream *>(stream);
}

const char *us_stream_after(us_stream *stream, us_event *event)
{
    return error_of(cudaStreamWaitEvent(native(stream), native_event(event), 0), "cudaStreamWaitEvent");
}

const char *us_event_create(us_event **out)
{
    cudaEvent_t made = NULL;
    const char *error = error_of(cudaEventCreate(&made), "cudaEventCreate");
    *out = reinterpret_cast<us_event *>(made);
    return error;
}

void us_event_free(us_event *event)
{
    if (event) {
        quiet(cudaEventDestroy(native_event(event)));
    }
}

const char *us_event_record(us_event *event, us_stream *stream)
{
    return error_of(cudaEventRecord(native_event(event), native(stream)), "cudaEventRecord");
}

const char *us_event_wait(us_event *event)
{
    return error_of(cudaEventSynchronize(native_event(event)), "cudaEventSynchronize");
}

const char *us_event_seconds(us_event *from, us_event *to, double *seconds)
{
    float ms = 0.0f;
    const char *error = error_of(cudaEventElapsedTime(&ms, native_event(from), native_event(to)),
                                 "cudaEventElapsedTime");
    *seconds = 1e-3 * (double)ms;
    return error;
}

// ---- Recordings -----------------------------------------------------------------------------------------------

struct us_recording {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    size_t nodes;
};

// Other threads may go on allocating; this one may not until the end.
const char *us_record_begin(us_stream *stream)
{
    return error_of(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal),
                    "cudaStreamBeginCapture");
}

static const char *instantiate(us_recording *r)
{
    TRY(cudaGraphGetNodes(r->graph, NULL, &r->nodes), "cudaGraphGetNodes");
    TRY(cudaGraphInstantiateWithFlags(&r->ready, r->graph, 0), "cudaGraphInstantiate");
    return NULL;
}

const char *us_record_end(us_stream *stream, us_recording **out)
{
    us_recording made = {};
    const char *error;
    *out = NULL;
    TRY(cudaStreamEndCapture(native(stream), &made.graph), "cudaStreamEndCapture");
    *out = (us_recording *)us_alloc(NULL, 1, sizeof made);
    if (!*out) {
        quiet(cudaGraphDestroy(made.graph));
        return error_of(cudaErrorMemoryAllocation, "us_record_end");
    }
    error = instantiate(&made);
    **out = made;
    if (error) {
        us_record_free(*out);
        *out = NULL;
    }
    return error;
}

const char *us_record_run(us_recording *recording, us_stream *stream)
{
    return error_of(cudaGraphLaunch(recording->ready, native(stream)), "cudaGraphLaunch");
}

int us_record_nodes(const us_recording *recording)
{
    return (int)recording->nodes;
}

void us_record_free(us_recording *recording)
{
    if (!recording) {
        return;
    }
    if (recording->ready) {
        quiet(cudaGraphExecDestroy(recording->ready));
    }
    quiet(cudaGraphDestroy(recording->graph));
    us_free(NULL, recording);
}

void us_device_forget(void)
{
    cudaGetLastError();
}

// ---- Launches -------------------------------------------------------------------------------------------------

// Up to this a block has without asking.
static const int64_t PLAIN_SHARED = 48 * 1024;

// What was granted, per kernel and device. When it is full, the driver is asked again at every launch.
enum { MAX_GRANTS = 256 };
static struct {
    const void *kernel;
    int device;
    int64_t bytes;
} grants[MAX_GRANTS];
static int n_grants;
static pthread_mutex_t grants_lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t *grant_of(const void *kernel, int device)
{
    for (int i = 0; i < n_grants; i++) {
        if (grants[i].kernel == kernel && grants[i].device == device) {
            return &grants[i].bytes;
        }
    }
    if (n_grants == MAX_GRANTS) {
        return NULL;
    }
    grants[n_grants].kernel = kernel;
    grants[n_grants].device = device;
    grants[n_grants].bytes = PLAIN_SHARED;
    return &grants[n_grants++].bytes;
}

// A refusal shows as the error of the launch that follows.
void us_device_allow_shared(const void *kernel, int64_t bytes)
{
    int device = 0;
    if (bytes <= PLAIN_SHARED || cudaGetDevice(&device) != cudaSuccess) {
        return;
    }
    pthread_mutex_lock(&grants_lock);
    int64_t *granted = grant_of(kernel, device);
    if ((!granted || *granted < bytes) &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) == cudaSuccess &&
        granted) {
        *granted = bytes;
    }
    pthread_mutex_unlock(&grants_lock);
}

const char *us_device_launch_check(us_stream *stream, const char *kernel)
{
    char text[160];
    cudaError_t status = cudaGetLastError();
    (void)stream;
    if (status == cudaSuccess) {
        return NULL;
    }
    snprintf(text, sizeof text, "launch of %s", kernel);
    return error_of(status, text);
}
