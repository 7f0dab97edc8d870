// Status codes, the thread's error message and the four macros that every module uses.
//
// A function that can fail returns usplit_status. US_FAIL sets the message of this thread and
// returns; US_TRY passes a lower layer's status (and its message) on unchanged. Functions that own
// something jump to one label `done:` with US_TRY_GOTO.
#ifndef US_STATUS_H
#define US_STATUS_H

#include <usplit.h>

#if defined(__GNUC__)
#define US_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define US_PRINTF(a, b)
#endif

// Sets this thread's message (one line, cut at the buffer's end) and returns code.
usplit_status us_fail(usplit_status code, const char *fmt, ...) US_PRINTF(2, 3);

// The thread's message, for handing a worker's message to the calling thread.
const char *us_message_get(void);
void us_message_set(const char *text);

#define US_FAIL(code, ...) return us_fail((code), __VA_ARGS__)

#define US_TRY(call)                                                                              \
    do {                                                                                          \
        usplit_status us_try_status_ = (call);                                                    \
        if (us_try_status_ != USPLIT_OK) {                                                        \
            return us_try_status_;                                                                \
        }                                                                                         \
    } while (0)

// For functions with a local `usplit_status status` and a label `done:`.
#define US_TRY_GOTO(call)                                                                         \
    do {                                                                                          \
        status = (call);                                                                          \
        if (status != USPLIT_OK) {                                                                \
            goto done;                                                                            \
        }                                                                                         \
    } while (0)

#define US_CHECK_ARG(cond, ...)                                                                   \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            return us_fail(USPLIT_ERR_ARGUMENT, __VA_ARGS__);                                     \
        }                                                                                         \
    } while (0)

// An impossible state: stops a debug build, is USPLIT_ERR_INTERNAL in a release.
#ifdef US_DEBUG
#include <assert.h>
#define US_ASSERT(cond) assert(cond)
#else
#define US_ASSERT(cond)                                                                           \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            return us_fail(USPLIT_ERR_INTERNAL, "internal: %s is false (%s:%d)", #cond, __FILE__, \
                           __LINE__);                                                             \
        }                                                                                         \
    } while (0)
#endif

#endif
