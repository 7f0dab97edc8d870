// Device memory, streams, captured graphs: the few calls of the CUDA runtime that this folder needs, behind
// names of ours. device.cu is the real one, emulate.cpp the one for tests. Plain C, used by .c and .cu files.
// Every call returns 0 or a text that says what went wrong, the driver's own words included; the text lives
// until the thread's next failing call.
#ifndef US_CUDA_DEVICE_H
#define US_CUDA_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct us_stream us_stream;
typedef struct us_event us_event;
typedef struct us_recording us_recording;   // work captured once, replayed as one graph

typedef struct us_device_facts {
    int count, ordinal;                     // devices there are; this one
    char name[64];
    int major, minor;                       // compute capability
    int driver, runtime;                    // versions as CUDA numbers them, 12040 is 12.4
    int64_t total_bytes, free_bytes;
    int processors;                         // multiprocessors
    int64_t shared_bytes;                   // shared memory a block may ask for
} us_device_facts;

// Makes device `ordinal` this thread's; counts them when facts is asked for with ordinal -1.
const char *us_device_facts_get(int ordinal, us_device_facts *facts);
const char *us_device_use(int ordinal);

const char *us_device_alloc(void **out, int64_t bytes);
void us_device_free(void *block);
const char *us_pinned_alloc(void **out, int64_t bytes);     // host memory that copies do not wait for
void us_pinned_free(void *block);

const char *us_stream_create(us_stream **out);
void us_stream_free(us_stream *stream);
const char *us_stream_wait(us_stream *stream);              // host waits until all of it is done
void *us_stream_native(const us_stream *stream);            // cudaStream_t
const char *us_stream_after(us_stream *stream, us_event *event);    // later work waits for the event

const char *us_event_create(us_event **out);
void us_event_free(us_event *event);
const char *us_event_record(us_event *event, us_stream *stream);
const char *us_event_wait(us_event *event);                 // host waits; an event never recorded is done
const char *us_event_seconds(us_event *from, us_event *to, double *seconds);

const char *us_copy_up(us_stream *stream, void *device, const void *host, int64_t bytes);
const char *us_copy_down(us_stream *stream, void *host, const void *device, int64_t bytes);
const char *us_copy_across(us_stream *stream, void *to, const void *from, int64_t bytes);
const char *us_fill_zero(us_stream *stream, void *device, int64_t bytes);

// Everything put into the stream between begin and end is recorded, not run.
const char *us_record_begin(us_stream *stream);
const char *us_record_end(us_stream *stream, us_recording **out);
const char *us_record_run(us_recording *recording, us_stream *stream);
int us_record_nodes(const us_recording *recording);         // launches and copies in it
void us_record_free(us_recording *recording);

// Forgets an error that was met while something was tried: else a later launch would be blamed.
void us_device_forget(void);

// For US_LAUNCH (gpu.h).
void us_device_allow_shared(const void *kernel, int64_t bytes);
const char *us_device_launch_check(us_stream *stream, const char *kernel);

#ifdef __cplusplus
}
#endif
#endif
