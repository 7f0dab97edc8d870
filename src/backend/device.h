// Which backend answers to a device name.
#ifndef US_DEVICE_H
#define US_DEVICE_H

#include "backend/backend.h"

// name: "auto", "cpu", "cuda", "cuda:N". Writes what runs and why. "auto" always finds one and says what it
// could not have; any other name fails with USPLIT_ERR_DEVICE when it is not there.
usplit_status us_device_choose(const char *name, const us_backend **out, char *device, size_t device_size,
                               char *reason, size_t reason_size);

#endif
