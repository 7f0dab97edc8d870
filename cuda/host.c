// In the plug-in, the base functions of src/base are those of the library that opened it.
#include "host.h"

#include <stdarg.h>
#include <stdio.h>

static const us_plugin_host *host;

void us_host_set(const us_plugin_host *of)
{
    host = of;
}

usplit_status us_fail(usplit_status code, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *p = text; *p; p++) {
        *p = *p == '\n' ? ' ' : *p;
    }
    host->message_set(text);
    return code;
}

const char *us_message_get(void)
{
    return host->message_get();
}

void us_message_set(const char *text)
{
    host->message_set(text);
}

void us_context_log(const usplit_context *context, int32_t level, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    host->log(context, level, text);
}

void *us_alloc(const us_allocator *a, size_t count, size_t size)
{
    return host->alloc(a, count, size);
}

void *us_calloc(const us_allocator *a, size_t count, size_t size)
{
    return host->calloc(a, count, size);
}

void us_free(const us_allocator *a, void *block)
{
    host->free(a, block);
}

usplit_status us_pool_run(us_pool *pool, int n, us_task_fn fn, void *user)
{
    return host->pool_run(pool, n, fn, user);
}

int us_pool_size(const us_pool *pool)
{
    return host->pool_size(pool);
}

usplit_context *us_context_retain(usplit_context *context)
{
    return host->context_retain(context);
}

void us_context_release(usplit_context *context)
{
    host->context_release(context);
}
