// usplit_context: the device is chosen here, once, and what was chosen is a fact that can be read back.
#include "base/context.h"

#include "api/machine.h"
#include "backend/device.h"
#include "base/structs.h"

static const usplit_context_options defaults = {.struct_size = sizeof(usplit_context_options)};

usplit_status usplit_context_options_init(usplit_context_options *options, size_t struct_size)
{
    return us_struct_init(options, struct_size, &defaults, sizeof defaults);
}

usplit_status usplit_context_create(usplit_context **out, const usplit_context_options *options)
{
    US_CHECK_ARG(out != NULL, "out is NULL");
    *out = NULL;
    usplit_context_options o = defaults;
    US_TRY(us_struct_read(&o, sizeof o, options, "context options"));
    US_CHECK_ARG(o.threads >= 0 && o.threads <= 1024, "threads is %d; accepted: 0 (all cores) to 1024", o.threads);
    US_CHECK_ARG(o.precision >= USPLIT_PRECISION_BEST && o.precision <= USPLIT_PRECISION_FLOAT16,
                 "precision is %d; accepted: 0 (best of the device), 1 (float32), 2 (float16)", o.precision);
    US_CHECK_ARG(o.tune == 0 || o.tune == 1, "tune is %d; accepted: 0, 1", o.tune);
    US_CHECK_ARG((o.alloc == NULL) == (o.release == NULL), "alloc and release go together; one of them is NULL");
    us_allocator a = {.alloc = o.alloc, .release = o.release, .user = o.alloc_user};
    usplit_context *c = us_calloc(&a, 1, sizeof *c);
    if (!c) {
        return USPLIT_ERR_MEMORY;
    }
    atomic_store(&c->refs, 1);
    c->allocator = a;
    c->log = o.log;
    c->log_user = o.log_user;
    usplit_context_facts *f = &c->facts;
    f->struct_size = sizeof *f;
    f->threads = o.threads ? o.threads : us_api_cores();
    usplit_status status = us_device_choose(c, &o);
    if (status == USPLIT_OK) {
        status = us_pool_create(&c->pool, &c->allocator, f->threads, c->backend->thread_enter);
    }
    if (status != USPLIT_OK) {
        us_context_release(c);
        return status;
    }
    us_context_log(c, USPLIT_LOG_INFO, "device %s (%s), %d threads, %s", f->device, f->reason, f->threads,
                   f->engine);
    *out = c;
    return USPLIT_OK;
}

void usplit_context_free(usplit_context *context)
{
    us_context_release(context);
}

usplit_status usplit_context_info(const usplit_context *context, usplit_context_facts *facts)
{
    US_CHECK_ARG(context != NULL, "context is NULL");
    return us_struct_write(facts, &context->facts, sizeof context->facts, "facts");
}
