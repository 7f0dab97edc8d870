// The base functions (status, memory, pool) of the library that opened the plug-in.
#ifndef US_CUDA_HOST_H
#define US_CUDA_HOST_H

#include "backend/plugin.h"

void us_host_set(const us_plugin_host *of);

#endif
