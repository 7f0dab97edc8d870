// Puts the emulated device into a context that was made for the CPU; on a machine with a GPU (make check-gpu) the
// first one there.
#ifndef EMULATED_H
#define EMULATED_H

#include <stdio.h>
#include <stdlib.h>

#include "exec.h"

static inline void emulated_close(void *device, const us_allocator *a)
{
    (void)device;
    (void)a;
}

static inline void emulated_take(usplit_context *context, int half)
{
    static us_cuda devices[2];
    us_cuda *d = &devices[half];
    us_device_facts_get(0, &d->facts);
#ifdef US_EMULATE
    d->facts.processors = 2;    // few blocks: an emulated one costs more than its work
    d->convs = &us_cu_conv_plain;
#else
    d->convs = &us_cu_conv_library;
    d->deterministic = 1;       // the tests compare bits
    if (!d->kernels) {
        const char *text = us_cu_kernels_nvrtc.open(&d->kernels, NULL, &d->facts, half);
        if (text) {
            fprintf(stderr, "no compiler for programs: %s\n", text);
            exit(1);
        }
        d->kernel_table = &us_cu_kernels_nvrtc;
    }
#endif
    d->half = half;
    context->backend = &us_backend_cuda;
    context->device = d;
    context->close_device = emulated_close;
}

#endif
