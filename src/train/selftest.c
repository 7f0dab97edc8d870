// Self-test pair: made when a checkpoint is written, checked when somebody asks.
#include "train/selftest.h"

#include <math.h>
#include <string.h>

#include "kernels/elem.h"

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    const usplit_model *m = user;
    int64_t area = (int64_t)m->graph->size * m->graph->size;
    (void)sample;
    (void)target;
    for (int k = 0; k <= m->graph->config.lc_count; k++) {
        if (levels[k]) {
            memcpy(levels[k], m->selftest_input + k * area, (size_t)area * sizeof(float));
        }
    }
    return USPLIT_OK;
}

static usplit_status run_with(const usplit_model *m, const us_backend *b, us_exec *exec, const float **head)
{
    usplit_model *user;
    memcpy(&user, &m, sizeof user);     // read only, through an interface without const
    us_run run = {.mean_latents = 1, .fill = fill, .user = user};
    US_TRY(b->prepare(exec, m->params));
    return b->predict(exec, 0, 1, &run, head);
}

typedef usplit_status (*use_fn)(const float *head, int64_t n, void *user);

// exec: NULL, or one of b for the model's whole patch.
static usplit_status run(const usplit_model *m, const us_backend *b, us_exec *exec, use_fn use, void *user)
{
    const us_net_config *c = &m->graph->config;
    us_plan_options o = {.mode = US_PLAN_PREDICT, .layout = b->layout, .batch = 1};
    us_plan *plan = NULL;
    us_exec *own = NULL;
    const float *head;
    usplit_status status = USPLIT_OK;
    if (!exec) {
        US_TRY_GOTO(us_plan_build(&plan, &m->context->allocator, m->graph, &o));
        US_TRY_GOTO(b->compile(&own, m->context, plan, 1));
    }
    US_TRY_GOTO(run_with(m, b, exec ? exec : own, &head));
    status = use(head, (int64_t)c->patch * c->patch * us_net_head_channels(c), user);
done:
    b->release(own);
    us_plan_free(plan);
    return status;
}

static usplit_status keep(const float *head, int64_t n, void *user)
{
    memcpy(user, head, (size_t)n * sizeof *head);
    return USPLIT_OK;
}

usplit_status us_selftest_make(usplit_model *m, us_exec *exec)
{
    const us_net_config *c = &m->graph->config;
    const us_allocator *a = &m->context->allocator;
    size_t area = (size_t)c->patch * (size_t)c->patch, inputs = area * (size_t)(1 + c->lc_count);
    if (!m->selftest_input) {
        float *input = us_alloc(a, inputs, sizeof *input);
        float *output = us_alloc(a, area * (size_t)us_net_head_channels(c), sizeof *output);
        if (!input || !output) {
            us_free(a, input);
            us_free(a, output);
            return USPLIT_ERR_MEMORY;
        }
        for (size_t i = 0; i < inputs; i++) {
            us_u32x4 r = us_philox(1, (uint32_t)i, 0, 0, US_RNG_INIT);
            input[i] = 3.0f * us_uniform24(r.v[0]) - 1.5f;
        }
        m->selftest_input = input;
        m->selftest_output = output;
    }
    // always by the CPU, in float32: a pair made in half could not be held to much
    return run(m, &us_backend_cpu, m->context->backend == &us_backend_cpu ? exec : NULL, keep, m->selftest_output);
}

typedef struct comparison {
    const float *expected;
    double error;
} comparison;

static usplit_status compare(const float *head, int64_t n, void *user)
{
    comparison *c = user;
    double worst = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)head[i] - (double)c->expected[i]), m = fabs((double)c->expected[i]);
        worst = d > worst || d != d ? d : worst;
        top = m > top ? m : top;
    }
    c->error = top > 0 ? worst / top : worst;
    return USPLIT_OK;
}

usplit_status us_selftest_check(const usplit_model *m, double *error)
{
    comparison c = {.expected = m->selftest_output};
    US_TRY(run(m, m->context->backend, NULL, compare, &c));
    *error = c.error;
    return USPLIT_OK;
}
