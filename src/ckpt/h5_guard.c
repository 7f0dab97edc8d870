// The guard around HDF5 calls and the messages made from its error stack. Checks nothing about files.
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "ckpt/h5.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

usplit_status us_h5_enter(us_h5_guard *guard)
{
    unsigned major = 0, minor = 0, release = 0;
    pthread_mutex_lock(&lock);
    *guard = (us_h5_guard){.auto_is_v2 = 1};
    // The library itself tells its version without being initialised.
    if (H5get_libversion(&major, &minor, &release) < 0 || major != H5_VERS_MAJOR || minor != H5_VERS_MINOR) {
        pthread_mutex_unlock(&lock);
        US_FAIL(USPLIT_ERR_UNSUPPORTED,
                "HDF5 %u.%u.%u is loaded; accepted: %d.%d, which this library was built with", major, minor,
                release, H5_VERS_MAJOR, H5_VERS_MINOR);
    }
    if (H5Eauto_is_v2(H5E_DEFAULT, &guard->auto_is_v2) < 0) {
        pthread_mutex_unlock(&lock);
        US_FAIL(USPLIT_ERR_MEMORY, "HDF5 could not be initialised");
    }
#ifndef H5_NO_DEPRECATED_SYMBOLS
    if (!guard->auto_is_v2) {
        H5Eget_auto1(&guard->auto1, &guard->auto_data);
        H5Eset_auto1(NULL, NULL);
    }
#endif
    if (guard->auto_is_v2) {
        H5Eget_auto2(H5E_DEFAULT, &guard->auto2, &guard->auto_data);
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    }
    H5PLget_loading_state(&guard->plugins);
    H5PLset_loading_state(0);
    return USPLIT_OK;
}

void us_h5_leave(const us_h5_guard *guard)
{
    H5PLset_loading_state(guard->plugins);
    H5Eclear2(H5E_DEFAULT);
#ifndef H5_NO_DEPRECATED_SYMBOLS
    if (!guard->auto_is_v2) {
        H5Eset_auto1(guard->auto1, guard->auto_data);
    }
#endif
    if (guard->auto_is_v2) {
        H5Eset_auto2(H5E_DEFAULT, guard->auto2, guard->auto_data);
    }
    pthread_mutex_unlock(&lock);
}

// The innermost entry comes first: the cause, not the function that was called.
static herr_t take_first(unsigned n, const H5E_error2_t *entry, void *user)
{
    char *text = user;
    if (n == 0 && entry->desc) {
        snprintf(text, 160, "%s", entry->desc);
    }
    return 0;
}

usplit_status us_h5_fail(usplit_status code, const char *fmt, ...)
{
    char why[160] = "", text[384];
    va_list args;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, why);
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return us_fail(code, "%s (HDF5: %s)", text, why[0] ? why : "no reason given");
}

void us_h5_close(hid_t id)
{
    if (id >= 0) {
        H5Idec_ref(id);
    }
}
