// What every handle keeps alive: allocator, thread pool, log hook. Made by src/api/api_context.c.
#ifndef US_CONTEXT_H
#define US_CONTEXT_H

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "base/status.h"

struct usplit_context {
    atomic_int refs;
    us_allocator allocator;
    us_pool *pool;
    usplit_log_fn log;
    void *log_user;
    usplit_context_facts facts;
    const struct us_backend *backend;
    void *device;                       // the backend's; NULL: none
    void (*close_device)(void *device, const us_allocator *a);
};

// Handles made from a context hold a reference. us_context_release(NULL) does nothing.
usplit_context *us_context_retain(usplit_context *context);
void us_context_release(usplit_context *context);

// One line to the caller's log, on the calling thread only.
void us_context_log(const usplit_context *context, int32_t level, const char *fmt, ...) US_PRINTF(3, 4);

#endif
