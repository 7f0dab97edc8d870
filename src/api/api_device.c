// usplit_device: what a context can be made on, asked before there is one. Number 0 is the CPU, the CUDA devices
// follow in the driver's order. Where there is none, one entry "cuda" says why, in the loader's or driver's words.
#include <stdio.h>
#include <string.h>

#include "api/machine.h"
#include "backend/device.h"
#include "base/structs.h"

#if defined(__clang__)
#define COMPILER __VERSION__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "an unknown compiler"
#endif

// The plug-in when it has devices, and how many; NULL: the thread's message says why not.
static const us_plugin *cuda(int *count)
{
    const us_plugin *plugin = us_device_plugin();
    *count = plugin ? plugin->count() : 0;
    return *count > 0 ? plugin : NULL;
}

static int count_all(void)
{
    int n;
    return cuda(&n) ? 1 + n : 2;
}

static void describe_cpu(usplit_device_facts *f)
{
    char engine[128];
    int cores = us_api_cores();
    us_backend_cpu.describe(engine, sizeof engine);
    us_api_memory(&f->total_bytes, &f->free_bytes);
    f->usable = 1;
    snprintf(f->name, sizeof f->name, "cpu");
    snprintf(f->text, sizeof f->text, "%s, %d core%s, compiled by %s", engine, cores, cores == 1 ? "" : "s", COMPILER);
}

static void describe_cuda(int ordinal, usplit_device_facts *f)
{
    int n;
    us_device_words words = {.text = ""};
    const us_plugin *plugin = cuda(&n);
    f->usable = plugin && plugin->tell(ordinal, &words) == USPLIT_OK;
    if (plugin) {
        snprintf(f->name, sizeof f->name, "cuda:%d", ordinal);
    } else {
        snprintf(f->name, sizeof f->name, "cuda");
    }
    if (f->usable) {
        snprintf(f->text, sizeof f->text, "%s", words.text);
        f->total_bytes = words.total_bytes;
        f->free_bytes = words.free_bytes;
    } else {
        snprintf(f->text, sizeof f->text, "NVIDIA GPU");
        snprintf(f->reason, sizeof f->reason, "%s", us_message_get());
    }
}

// A device that is not there is an answer, not a failure: the thread's message stays what it was.
typedef struct kept_message {
    char text[512];
} kept_message;

static kept_message keep_message(void)
{
    kept_message kept;
    snprintf(kept.text, sizeof kept.text, "%s", us_message_get());
    return kept;
}

usplit_status usplit_device_count(int32_t *count)
{
    US_CHECK_ARG(count != NULL, "count is NULL");
    kept_message kept = keep_message();
    *count = count_all();
    us_message_set(kept.text);
    return USPLIT_OK;
}

usplit_status usplit_device_info(int32_t index, usplit_device_facts *facts)
{
    usplit_device_facts f = {.struct_size = sizeof f};
    kept_message kept = keep_message();
    if (index == 0) {
        describe_cpu(&f);       // without waking a driver
    } else {
        int n = count_all();
        US_CHECK_ARG(index > 0 && index < n, "index is %d; accepted: 0 to %d", index, n - 1);
        describe_cuda(index - 1, &f);
    }
    us_message_set(kept.text);
    return us_struct_write(facts, &f, sizeof f, "facts");
}
