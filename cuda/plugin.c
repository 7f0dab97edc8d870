// The one exported symbol: hands over the backend and the choice of a device.
#include <stdio.h>

#include "exec.h"
#include "host.h"

#pragma GCC visibility push(default)
const us_plugin *us_cuda_open(const us_plugin_host *of);
#pragma GCC visibility pop

static int count(void)
{
    us_device_facts facts;
    const char *text = us_device_facts_get(-1, &facts);
    if (text || facts.count < 1) {
        us_message_set(text ? text : "no CUDA device");
        return -1;
    }
    return facts.count;
}

static usplit_status look(int ordinal, us_device_facts *facts)
{
    int n = count();
    if (n < 0) {
        return USPLIT_ERR_DEVICE;       // the message is the driver's
    }
    if (ordinal >= n) {
        US_FAIL(USPLIT_ERR_DEVICE, "device cuda:%d is not there; there %s %d, numbered from 0", ordinal,
                n == 1 ? "is" : "are", n);
    }
    const char *text = us_device_facts_get(ordinal, facts);
    if (text) {
        US_FAIL(USPLIT_ERR_DEVICE, "device cuda:%d cannot be used: %s", ordinal, text);
    }
    return USPLIT_OK;
}

// What a choice depends on: the device, and every version that has a say in what is fast or there at all.
static usplit_status open_choices(us_cuda *c, const us_allocator *a, const char *folder, const char *convs)
{
    char machine[256];
    const us_device_facts *f = &c->facts;
    snprintf(machine, sizeof machine, "%s, sm_%d%d, %d multiprocessors, driver %d, runtime %d, %s, libusplit %d",
             f->name, f->major, f->minor, f->processors, f->driver, f->runtime, convs, USPLIT_VERSION_NUMBER);
    return us_cu_choices_open(&c->choices, a, folder, machine);
}

// Without a compiler programs are interpreted, slower; what it is, or why there is none, is told.
static void open_compiler(us_cuda *c, const us_allocator *a, char *told, size_t size)
{
    const us_cu_kernel_table *table = &us_cu_kernels_nvrtc;
    const char *text = table->open(&c->kernels, a, &c->facts, c->half);
    if (text) {
        snprintf(told, size, "programs interpreted (%s)", text);
        return;
    }
    c->kernel_table = table;
    table->describe(c->kernels, told, size);
}

static usplit_status open_device(void **device, const us_allocator *a, const us_device_options *options, char *engine,
                                 size_t engine_size)
{
    char convs[64], programs[128];
    *device = NULL;
    us_cuda *c = us_calloc(a, 1, sizeof *c);
    if (!c) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = look(options->ordinal, &c->facts);
    if (status != USPLIT_OK) {
        us_free(a, c);
        return status;
    }
    c->convs = &us_cu_conv_library;
    c->half = options->half;
    c->deterministic = options->deterministic;
    c->search = options->search && !options->deterministic;     // the fastest may be another one next time
    c->convs->describe(convs, sizeof convs);
    status = open_choices(c, a, options->folder, convs);
    if (status != USPLIT_OK) {
        us_free(a, c);
        return status;
    }
    open_compiler(c, a, programs, sizeof programs);
    snprintf(engine, engine_size, "%s, sm_%d%d, CUDA %d.%d, %s, %s, %s", c->facts.name, c->facts.major, c->facts.minor,
             c->facts.runtime / 1000, c->facts.runtime % 1000 / 10, convs, c->half ? "fp16" : "float32", programs);
    *device = c;
    return USPLIT_OK;
}

static void close_device(void *device, const us_allocator *a)
{
    us_cuda *c = device;
    if (c->kernels) {
        c->kernel_table->close(c->kernels);
    }
    us_cu_choices_free(c->choices);
    us_free(a, c);
}

static usplit_status tell(int ordinal, us_device_words *words)
{
    us_device_facts f;
    char convs[64], programs[160];
    US_TRY(look(ordinal, &f));
    us_cu_conv_library.describe(convs, sizeof convs);
    us_cu_nvrtc_words(programs, sizeof programs);
    snprintf(words->text, sizeof words->text,
             "%s, compute capability %d.%d, %d multiprocessors, driver for CUDA %d.%d, CUDA %d.%d, %s, %s", f.name,
             f.major, f.minor, f.processors, f.driver / 1000, f.driver % 1000 / 10, f.runtime / 1000,
             f.runtime % 1000 / 10, convs, programs);
    words->total_bytes = f.total_bytes;
    words->free_bytes = f.free_bytes;
    return USPLIT_OK;
}

const us_plugin *us_cuda_open(const us_plugin_host *of)
{
    static const us_plugin plugin = {.version = USPLIT_VERSION_NUMBER, .shape = US_PLUGIN_SHAPE,
                                     .backend = &us_backend_cuda, .count = count,
                                     .open = open_device, .close = close_device, .tell = tell};
    us_host_set(of);
    return &plugin;
}
