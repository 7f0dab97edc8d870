// kernels.h for the emulated device: texts compiled by the host's C++ compiler into a shared library, which is loaded.
#ifndef HOST_KERNELS_H
#define HOST_KERNELS_H

#include "kernels.h"

extern const us_cu_kernel_table host_kernels;

#endif
