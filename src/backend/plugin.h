// Between libusplit and a backend in a shared object of its own (libusplit_cuda.so), which is opened on demand
// and exports one symbol. Both come from one build: `version` is compared, nothing else is promised.
#ifndef US_PLUGIN_H
#define US_PLUGIN_H

#include "backend/backend.h"

#define US_PLUGIN_SYMBOL "us_cuda_open"
#define US_PLUGIN_FILE "libusplit_cuda.so"

// What the plug-in takes from the library that opens it: one message, one allocator, one pool.
typedef struct us_plugin_host {
    void (*message_set)(const char *text);
    const char *(*message_get)(void);
    void *(*alloc)(const us_allocator *a, size_t count, size_t size);
    void *(*calloc)(const us_allocator *a, size_t count, size_t size);
    void (*free)(const us_allocator *a, void *block);
    usplit_status (*pool_run)(us_pool *pool, int n, us_task_fn fn, void *user);
    int (*pool_size)(const us_pool *pool);
    usplit_context *(*context_retain)(usplit_context *context);
    void (*context_release)(usplit_context *context);
    void (*log)(const usplit_context *context, int32_t level, const char *line);
} us_plugin_host;

typedef struct us_device_options {
    int ordinal;                // which device
    int half;                   // 1: fp16 with float32 sums, 0: float32
    int deterministic;          // only algorithms that repeat to the bit
    int search;                 // time convolutions and take the fastest
    const char *folder;         // where what was chosen is kept; NULL: nowhere
} us_device_options;

typedef struct us_device_words {
    char text[192];             // one line for people
    int64_t total_bytes, free_bytes;        // of its memory
} us_device_words;

typedef struct us_plugin {
    int32_t version;            // USPLIT_VERSION_NUMBER
    int32_t shape;              // US_PLUGIN_SHAPE: two builds of one version while it is being worked on
    const us_backend *backend;
    // How many devices there are; negative: none can be used and the message says why.
    int (*count)(void);
    // Takes a device for a context. engine: words for usplit_context_facts.engine. USPLIT_ERR_DEVICE with the
    // driver's own words where it cannot be used.
    usplit_status (*open)(void **device, const us_allocator *a, const us_device_options *options, char *engine,
                          size_t engine_size);
    void (*close)(void *device, const us_allocator *a);
    // Fails like open, with the same words, where the device cannot be used.
    usplit_status (*tell)(int ordinal, us_device_words *words);
} us_plugin;

#define US_PLUGIN_SHAPE                                                                                                \
    ((int32_t)(sizeof(us_backend) + 1000 * sizeof(us_run) + 100000 * sizeof(us_plugin) + 7 * sizeof(us_plan) +         \
               sizeof(us_images) + 11 * sizeof(us_place) + sizeof(us_tally) + sizeof(us_plugin_host) + sizeof(us_device_options)))

typedef const us_plugin *(*us_plugin_open_fn)(const us_plugin_host *host);

#endif
