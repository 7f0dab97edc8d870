// Device names -> backends. The CPU backend is linked in; the CUDA one lies in a shared object beside this
// library or where the system's loader looks, and is opened when first asked for.
#include "backend/device.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static void log_line(const usplit_context *context, int32_t level, const char *line)
{
    us_context_log(context, level, "%s", line);
}

static const us_plugin_host host = {
    .message_set = us_message_set,
    .message_get = us_message_get,
    .alloc = us_alloc,
    .calloc = us_calloc,
    .free = us_free,
    .pool_run = us_pool_run,
    .pool_size = us_pool_size,
    .context_retain = us_context_retain,
    .context_release = us_context_release,
    .log = log_line,
};

// ---- Opening the plug-in ------------------------------------------------------------------------------

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const us_plugin *opened;

// Beside this library first: a bundle is used as it was shipped.
static void *open_beside(void)
{
    Dl_info info;
    char path[4096];
    if (!dladdr((void *)(uintptr_t)&usplit_version, &info) || !info.dli_fname) {
        return NULL;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    int n = slash ? (int)(slash - info.dli_fname) + 1 : 0;
    if (n == 0 || snprintf(path, sizeof path, "%.*s%s", n, info.dli_fname, US_PLUGIN_FILE) >= (int)sizeof path) {
        return NULL;
    }
    FILE *there = fopen(path, "rb");
    if (!there) {
        return NULL;                    // the loader's words should be about the place where it may be
    }
    fclose(there);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static const us_plugin *open_plugin(void)
{
    dlerror();                          // what the host's own calls may have left
    void *object = open_beside();
    if (!object) {
        const char *words = dlerror();
        char kept[400];
        snprintf(kept, sizeof kept, "%s", words ? words : "");
        object = dlopen(US_PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);
        words = object ? NULL : dlerror();
        if (!object) {
            us_fail(USPLIT_ERR_DEVICE, "no CUDA backend: %s", kept[0] ? kept : words ? words : US_PLUGIN_FILE);
            return NULL;
        }
    }
    void *symbol = dlsym(object, US_PLUGIN_SYMBOL);
    us_plugin_open_fn open;
    memcpy(&open, &symbol, sizeof open);
    const us_plugin *plugin = open ? open(&host) : NULL;
    if (!plugin || plugin->version != USPLIT_VERSION_NUMBER || plugin->shape != US_PLUGIN_SHAPE) {
        us_message_set("no CUDA backend: " US_PLUGIN_FILE " is of another version of this library");
        dlclose(object);
        return NULL;
    }
    return plugin;                      // kept open until the process ends
}

const us_plugin *us_device_plugin(void)
{
    pthread_mutex_lock(&lock);
    if (!opened) {
        opened = open_plugin();
    }
    const us_plugin *plugin = opened;
    pthread_mutex_unlock(&lock);
    return plugin;
}

// ---- Choosing -----------------------------------------------------------------------------------------

static void take_cpu(usplit_context *c)
{
    c->backend = &us_backend_cpu;
    snprintf(c->facts.device, sizeof c->facts.device, "cpu");
    c->backend->describe(c->facts.engine, sizeof c->facts.engine);
}

static usplit_status take_cuda(usplit_context *c, int ordinal, const usplit_context_options *options)
{
    us_device_options o = {.ordinal = ordinal, .half = options->precision != USPLIT_PRECISION_FLOAT32,
                           .deterministic = options->deterministic, .search = options->tune,
                           .folder = options->cache_folder};
    const us_plugin *plugin = us_device_plugin();
    if (!plugin) {
        return USPLIT_ERR_DEVICE;
    }
    if (plugin->count() < 0) {
        return USPLIT_ERR_DEVICE;
    }
    US_TRY(plugin->open(&c->device, &c->allocator, &o, c->facts.engine, sizeof c->facts.engine));
    c->close_device = plugin->close;
    c->backend = plugin->backend;
    snprintf(c->facts.device, sizeof c->facts.device, "cuda:%d", ordinal);
    return USPLIT_OK;
}

// "cuda" is the first one; -1: not such a name.
static int ordinal_of(const char *name)
{
    if (strcmp(name, "cuda") == 0) {
        return 0;
    }
    if (strncmp(name, "cuda:", 5) != 0 || strlen(name) > 8 || strlen(name) < 6 ||
        strspn(name + 5, "0123456789") != strlen(name + 5)) {
        return -1;
    }
    return (int)strtol(name + 5, NULL, 10);
}

usplit_status us_device_choose(usplit_context *c, const usplit_context_options *options)
{
    const char *name = options->device ? options->device : "auto";
    int ordinal = ordinal_of(name);
    int half = options->precision == USPLIT_PRECISION_FLOAT16;
    if (strcmp(name, "cpu") == 0) {
        if (half) {
            US_FAIL(USPLIT_ERR_UNSUPPORTED, "precision is 2 (float16) on the CPU; accepted there: 0, 1 (float32)");
        }
        take_cpu(c);
    } else if (strcmp(name, "auto") == 0) {
        usplit_status status = take_cuda(c, 0, options);
        if (status == USPLIT_OK) {
            snprintf(c->facts.reason, sizeof c->facts.reason, "auto: the first CUDA device");
        }
        if (status != USPLIT_ERR_DEVICE) {      // it is there, but something else that was asked for is wrong
            return status;
        }
        snprintf(c->facts.reason, sizeof c->facts.reason, "auto: %s", us_message_get());
        if (half) {
            US_FAIL(USPLIT_ERR_UNSUPPORTED, "precision is 2 (float16) and there is no CUDA device (%s)",
                    c->facts.reason);
        }
        us_message_set("");
        take_cpu(c);
        return USPLIT_OK;
    } else if (ordinal >= 0) {
        usplit_status status = take_cuda(c, ordinal, options);
        if (status != USPLIT_OK && status != USPLIT_ERR_DEVICE) {
            return status;
        }
        if (status != USPLIT_OK) {
            char words[300];
            snprintf(words, sizeof words, "%s", us_message_get());
            US_FAIL(USPLIT_ERR_DEVICE, "device '%s' is not there: %s", name, words);
        }
    } else {
        US_FAIL(USPLIT_ERR_ARGUMENT, "device is '%s'; accepted: auto, cpu, cuda, cuda:N", name);
    }
    snprintf(c->facts.reason, sizeof c->facts.reason, "asked for");
    return USPLIT_OK;
}
