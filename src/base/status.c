// The thread-local error message: a fixed buffer, so that reporting a failure cannot fail.
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 512 };

static _Thread_local char message[MESSAGE_BYTES];

usplit_status us_fail(usplit_status code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    for (char *p = message; *p; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
    }
    return code;
}

const char *us_message_get(void)
{
    return message;
}

void us_message_set(const char *text)
{
    snprintf(message, sizeof message, "%s", text);
}

const char *usplit_error_message(void)
{
    return message;
}

const char *usplit_status_name(usplit_status status)
{
    switch (status) {
    case USPLIT_OK: return "ok";
    case USPLIT_ERR_ARGUMENT: return "bad argument";
    case USPLIT_ERR_SHAPE: return "bad shape";
    case USPLIT_ERR_UNSUPPORTED: return "unsupported";
    case USPLIT_ERR_MEMORY: return "out of memory";
    case USPLIT_ERR_BUDGET: return "over the memory budget";
    case USPLIT_ERR_FILE: return "file error";
    case USPLIT_ERR_FORMAT: return "bad file";
    case USPLIT_ERR_CALLBACK: return "callback failed";
    case USPLIT_ERR_BACKEND: return "backend error";
    case USPLIT_ERR_DEVICE: return "no such device";
    case USPLIT_ERR_CANCELLED: return "cancelled";
    case USPLIT_ERR_BUSY: return "busy";
    case USPLIT_ERR_STATE: return "wrong state";
    case USPLIT_ERR_NUMERIC: return "not finite";
    case USPLIT_ERR_INTERNAL: return "internal error";
    default: return "unknown status";
    }
}

int32_t usplit_version(void)
{
    return USPLIT_VERSION_NUMBER;
}
