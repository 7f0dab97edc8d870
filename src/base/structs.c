// Copies public structs in and out by the smaller of the two sizes, so that callers and library may differ
// in age.
#include "base/structs.h"

#include <string.h>

usplit_status us_struct_init(void *theirs, size_t their_size, const void *defaults, size_t our_size)
{
    US_CHECK_ARG(theirs != NULL, "the struct to initialise is NULL");
    US_CHECK_ARG(their_size >= sizeof(size_t), "struct_size is %zu; accepted: at least %zu", their_size,
                 sizeof(size_t));
    memset(theirs, 0, their_size);
    memcpy(theirs, defaults, their_size < our_size ? their_size : our_size);
    memcpy(theirs, &their_size, sizeof their_size);
    return USPLIT_OK;
}

usplit_status us_struct_read(void *ours, size_t our_size, const void *theirs, const char *name)
{
    if (!theirs) {
        return USPLIT_OK;
    }
    size_t size;
    memcpy(&size, theirs, sizeof size);
    US_CHECK_ARG(size >= sizeof(size_t) && size <= 65536,
                 "%s: struct_size is %zu; accepted: what the _init function wrote", name, size);
    const unsigned char *bytes = theirs;
    for (size_t i = our_size; i < size; i++) {
        if (bytes[i] != 0) {
            US_FAIL(USPLIT_ERR_UNSUPPORTED, "%s: byte %zu is set, but this library knows only %zu bytes of it",
                    name, i, our_size);
        }
    }
    memcpy(ours, theirs, size < our_size ? size : our_size);
    memcpy(ours, &our_size, sizeof our_size);
    return USPLIT_OK;
}

usplit_status us_struct_write(void *theirs, const void *ours, size_t our_size, const char *name)
{
    US_CHECK_ARG(theirs != NULL, "%s is NULL", name);
    size_t size;
    memcpy(&size, theirs, sizeof size);
    US_CHECK_ARG(size >= sizeof(size_t) && size <= 65536, "%s: struct_size is %zu; accepted: sizeof the struct",
                 name, size);
    memset((char *)theirs + sizeof size, 0, size - sizeof size);
    size_t n = size < our_size ? size : our_size;
    memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size, n - sizeof size);
    return USPLIT_OK;
}
