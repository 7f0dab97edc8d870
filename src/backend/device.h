// Which backend answers to a device name. Opens the CUDA plug-in where one is asked for.
#ifndef US_BACKEND_DEVICE_H
#define US_BACKEND_DEVICE_H

#include "backend/plugin.h"

// options->device: "auto", "cpu", "cuda", "cuda:N". Sets the context's backend and device, and writes what runs,
// why and on which engine to its facts. "auto" always finds one and says what it could not have; any other name
// fails with USPLIT_ERR_DEVICE, and the loader's or driver's own words, when it is not there. The context's
// allocator must be set.
usplit_status us_device_choose(usplit_context *context, const usplit_context_options *options);

// The plug-in, opened at the first call and kept. NULL: the message says why.
const us_plugin *us_device_plugin(void);

#endif
