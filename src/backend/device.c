// Device names. The CPU backend is linked in; a CUDA backend is not part of this build.
#include "backend/device.h"

#include <stdio.h>
#include <string.h>

static const char no_cuda[] = "this build has no CUDA backend";

usplit_status us_device_choose(const char *name, const us_backend **out, char *device, size_t device_size,
                               char *reason, size_t reason_size)
{
    if (strcmp(name, "cpu") == 0) {
        snprintf(reason, reason_size, "asked for");
    } else if (strcmp(name, "auto") == 0) {
        snprintf(reason, reason_size, "auto: %s", no_cuda);
    } else if (strncmp(name, "cuda", 4) == 0 && (name[4] == 0 || name[4] == ':')) {
        US_FAIL(USPLIT_ERR_DEVICE, "device '%s' is not there: %s", name, no_cuda);
    } else {
        US_FAIL(USPLIT_ERR_ARGUMENT, "device is '%s'; accepted: auto, cpu, cuda, cuda:N", name);
    }
    snprintf(device, device_size, "cpu");
    *out = &us_backend_cpu;
    return USPLIT_OK;
}
