// What handles share: reference counting and the log hook of a context.
#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>

usplit_context *us_context_retain(usplit_context *context)
{
    atomic_fetch_add(&context->refs, 1);
    return context;
}

void us_context_release(usplit_context *context)
{
    if (!context || atomic_fetch_sub(&context->refs, 1) != 1) {
        return;
    }
    us_pool_free(context->pool);
    us_allocator a = context->allocator;
    if (context->device) {
        context->close_device(context->device, &a);
    }
    us_free(&a, context);
}

void us_context_log(const usplit_context *context, int32_t level, const char *fmt, ...)
{
    if (!context->log) {
        return;
    }
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    context->log(level, line, context->log_user);
}
