// One run of Double-DIP: fixed noise in, Adam on all networks together, the iterate kept whose estimates mix to the
// first mixture best. Two mixtures (networks 9.2): R and T are shared, a network each tells how much of R is in a
// mixture. One mixture (networks 9.3): R + T is the image; image and inputs are turned together now and then, and the
// inputs get more and more noise.
//
// A plan of a batch of 1 on the CPU: its convolutions run on the calling thread, sums and the optimiser on the pool.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "dip/dip.h"
#include "kernels/elem.h"

enum { R, T, FIRST_SHARE };         // networks, in the order of the graph's losses
enum { MOST_MIXTURES = 2, SHARES_UNTIL = 1000, NOISE_UNTIL = 1000, NOISE_EVERY = 100 };

typedef struct dip {
    const us_allocator *a;
    usplit_context *context;
    usplit_dip_options o;
    int h, w, mixtures, nets, in;
    int64_t n;                      // pixels
    us_graph *graph;
    us_plan *plan;
    us_exec *exec;
    float *params, *grads, *m, *v;  // [graph->n_floats]
    float *noise, *noisy;           // [nets][n][in] fixed inputs; [n][in] one with this iteration's noise
    float *scaled;                  // [mixtures][n] within 0 and 1
    float *turned;                  // [n] as this iteration's networks see it
    float *best;                    // [2][n] estimates within 0 and 1
    double *planes;                 // [5][n]: R, T, their gradients, a mixture
    double *scratch;
    double low, range;              // grey = low + range * scaled
    int64_t iteration;
    int element;                    // of this iteration (us_dip_turn)
    double rate, root_scale;        // of this Adam step
    double shares[MOST_MIXTURES], last_report, started;
    usplit_dip_result result;
    usplit_progress_fn progress;
    void *user;
} dip;

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- Inputs ----

void us_dip_turn(int element, int h, int w, int channels, const float *src, float *dst)
{
    int exchange = element & 4;
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            int from_y = exchange ? x : y, from_x = exchange ? y : x;
            from_y = element & 1 ? h - 1 - from_y : from_y;
            from_x = element & 2 ? w - 1 - from_x : from_x;
            memcpy(dst + ((int64_t)y * w + x) * channels, src + ((int64_t)from_y * w + from_x) * channels,
                   (size_t)channels * sizeof *dst);
        }
    }
}

int us_dip_element(int h, int w, int64_t iteration)
{
    return iteration % 2 ? 0 : (int)(iteration / 2 % (h == w ? 8 : 4));
}

double us_dip_noise(int64_t iteration, int64_t iterations)
{
    if (iteration == iterations - 1) {
        return 0;
    }
    return iteration < NOISE_UNTIL ? (double)(iteration / NOISE_EVERY) / 1000 : 1.0 / 1000;
}

static void draw_inputs(dip *d)
{
    for (int net = 0; net < d->nets; net++) {
        for (int64_t i = 0; i < d->n; i++) {
            us_u32x4 r = us_philox(d->o.seed, (uint32_t)i, (uint32_t)net, 0, US_RNG_DIP);
            for (int c = 0; c < d->in; c++) {
                d->noise[(net * d->n + i) * d->in + c] = (us_uniform24(r.v[c]) - 0.5f) * 0.01f;
            }
        }
    }
}

static usplit_status fill(void *user, int sample, float *const *levels, float *target)
{
    dip *d = user;
    float s = d->mixtures > 1 ? 0 : (float)us_dip_noise(d->iteration, d->o.iterations);
    (void)sample;
    (void)target;
    for (int net = 0; net < d->nets; net++) {
        const float *fixed = d->noise + net * d->n * d->in;
        uint64_t stream = us_key(d->o.seed, US_RNG_DIP_NOISE, (uint64_t)d->iteration, (uint32_t)net);
        for (int64_t i = 0; i < d->n; i++) {
            float draws[4] = {0};
            if (s > 0) {
                us_draw_normal4(stream, (int32_t)(i / d->w), (int32_t)(i % d->w), 0, 0, draws);
            }
            for (int c = 0; c < d->in; c++) {
                d->noisy[i * d->in + c] = fixed[i * d->in + c] + s * draws[c];
            }
        }
        us_dip_turn(d->element, d->h, d->w, d->in, d->noisy, levels[net]);
    }
    return USPLIT_OK;
}

// ---- Losses ----

static void widen(const float *src, int64_t n, double *dst)
{
    for (int64_t i = 0; i < n; i++) {
        dst[i] = (double)src[i];
    }
}

static void narrow(const double *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        dst[i] = (float)src[i];
    }
}

// Of what the two estimates mix to, cut to 0..1, against the mixture; dB, peak 1.
static double reconstruction_psnr(const double *r, const double *t, double share_r, double share_t,
                                  const double *image, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double mixed = share_r * r[i] + share_t * t[i];
        mixed = (mixed < 0 ? 0 : mixed > 1 ? 1 : mixed) - image[i];
        sum += mixed * mixed;
    }
    return -10 * log10(sum / (double)n);
}

static void keep_if_best(dip *d, double psnr, const float *const *outputs)
{
    usplit_dip_result *result = &d->result;
    if (result->best_iteration >= 0 && !(psnr > result->psnr)) {
        return;
    }
    result->psnr = psnr;
    result->best_iteration = d->iteration;
    memcpy(result->share, d->shares, sizeof d->shares);
    memcpy(d->best, outputs[R], (size_t)d->n * sizeof *d->best);
    memcpy(d->best + d->n, outputs[T], (size_t)d->n * sizeof *d->best);
}

// Two mixtures: the share of R in each is the value of a network of its own at the middle of the image.
static double blend_losses(dip *d, double *r, double *t, double *d_r, double *d_t, double *image,
                           const float *const *outputs, float *const *gradients)
{
    double loss = 0;
    int64_t middle = (int64_t)(d->h / 2) * d->w + d->w / 2;
    for (int i = 0; i < d->mixtures; i++) {
        double a = 0.9 * (double)outputs[FIRST_SHARE + i][middle] + 0.05, d_a;
        widen(d->scaled + i * d->n, d->n, image);
        loss += us_dip_blend_loss(r, t, a, image, d->n, d_r, d_t, &d_a);
        if (d->iteration < SHARES_UNTIL) {
            loss += 0.5 * (a - 0.5) * (a - 0.5);
            d_a += a - 0.5;
        }
        memset(gradients[FIRST_SHARE + i], 0, (size_t)d->n * sizeof(float));
        gradients[FIRST_SHARE + i][middle] = (float)(0.9 * d_a);
        d->shares[i] = a;
    }
    widen(d->scaled, d->n, image);
    keep_if_best(d, reconstruction_psnr(r, t, d->shares[0], 1 - d->shares[0], image, d->n), outputs);
    return loss;
}

static double sum_losses(dip *d, double *r, double *t, double *d_r, double *d_t, double *image,
                         const float *const *outputs)
{
    us_dip_turn(d->element, d->h, d->w, 1, d->scaled, d->turned);
    widen(d->turned, d->n, image);
    if (d->element == 0) {
        keep_if_best(d, reconstruction_psnr(r, t, 1, 1, image, d->n), outputs);
    }
    return us_dip_sum_loss(r, t, image, d->n, d_r, d_t);
}

static usplit_status losses(void *user, int sample, const float *const *outputs, float *const *gradients, double *loss)
{
    dip *d = user;
    int64_t n = d->n;
    double *r = d->planes, *t = r + n, *d_r = t + n, *d_t = d_r + n, *image = d_t + n;
    usplit_dip_result *result = &d->result;
    (void)sample;
    widen(outputs[R], n, r);
    widen(outputs[T], n, t);
    memset(d_r, 0, 2 * (size_t)n * sizeof *d_r);
    result->reconstruction_loss = d->mixtures > 1 ? blend_losses(d, r, t, d_r, d_t, image, outputs, gradients)
                                                  : sum_losses(d, r, t, d_r, d_t, image, outputs);
    double weight = d->o.exclusion_weight;
    result->exclusion_loss = us_dip_exclusion(r, t, d->h, d->w, weight, d_r, d_t, d->scratch);
    result->loss = result->reconstruction_loss + weight * result->exclusion_loss;
    narrow(d_r, n, gradients[R]);
    narrow(d_t, n, gradients[T]);
    *loss = result->loss;
    return USPLIT_OK;
}

// ---- Optimiser: Adam with betas 0.9 and 0.999, one task per parameter array ----

static usplit_status adam_one(void *user, int task, int worker)
{
    dip *d = user;
    const us_param *p = &d->graph->params[task];
    (void)worker;
    if (!us_param_trained(p) || !d->plan->has_grad[task]) {
        return USPLIT_OK;
    }
    const float *g = d->grads + p->offset;
    float *w = d->params + p->offset, *m = d->m + p->offset, *v = d->v + p->offset;
    const float rate = (float)d->rate, scale = (float)d->root_scale;
    for (int64_t i = 0; i < p->count; i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        w[i] -= rate * m[i] / (scale * sqrtf(v[i]) + 1e-8f);
    }
    return USPLIT_OK;
}

static usplit_status iterate(dip *d)
{
    const us_backend *b = &us_backend_cpu;
    us_run run = {.seed = d->o.seed, .step = d->iteration, .fill = fill, .loss = losses, .user = d};
    us_losses sums;
    d->element = d->mixtures > 1 ? 0 : us_dip_element(d->h, d->w, d->iteration);
    US_TRY(b->prepare(d->exec, d->params));
    US_TRY(b->train(d->exec, &run, &sums, d->grads));
    if (!isfinite(sums.loss)) {
        US_FAIL(USPLIT_ERR_NUMERIC, "the loss is %g in iteration %lld; a learning_rate below %g helps", sums.loss,
                (long long)d->iteration, d->o.learning_rate);
    }
    double t = (double)(d->iteration + 1);
    d->rate = d->o.learning_rate / (1 - pow(0.9, t));
    d->root_scale = 1 / sqrt(1 - pow(0.999, t));
    return us_pool_run(d->context->pool, d->graph->n_params, adam_one, d);
}

// ---- The run ----

static usplit_status report(dip *d, int always)
{
    double now = clock_now();
    if (!d->progress || (!always && now - d->last_report < 0.1)) {
        return USPLIT_OK;
    }
    d->last_report = now;
    double elapsed = now - d->started, rate = (double)d->iteration / elapsed;
    double left = (double)(d->o.iterations - d->iteration) / rate, limit = d->o.max_seconds - elapsed;
    usplit_progress p = {.struct_size = sizeof p, .phase = USPLIT_PHASE_DIP, .done = d->iteration,
                         .total = d->o.iterations, .seconds_elapsed = elapsed, .seconds_left = left,
                         .loss = d->result.loss, .val_psnr = d->result.psnr, .best_val_psnr = d->result.psnr,
                         .learning_rate = d->o.learning_rate, .patches_per_second = rate};
    if (d->o.max_seconds > 0 && limit < left) {
        p.seconds_left = limit > 0 ? limit : 0;
    }
    if (d->progress(&p, d->user)) {
        US_FAIL(USPLIT_ERR_CANCELLED, "stopped by the progress callback after iteration %lld of %lld",
                (long long)d->iteration, (long long)d->o.iterations);
    }
    return USPLIT_OK;
}

static usplit_status loop(dip *d)
{
    while (d->iteration < d->o.iterations) {
        US_TRY(iterate(d));
        d->iteration++;
        US_TRY(report(d, d->iteration == d->o.iterations));
        if (d->o.max_seconds > 0 && clock_now() - d->started >= d->o.max_seconds) {
            break;
        }
    }
    return USPLIT_OK;
}

// One scale for both mixtures, so that what is a sum stays one.
static usplit_status scale(dip *d, const float *image)
{
    double low = DBL_MAX, high = -DBL_MAX;
    for (int i = 0; i < d->mixtures; i++) {
        const float *p = image + i * d->n;
        double first = (double)p[0];
        int varies = 0;
        for (int64_t j = 0; j < d->n; j++) {
            double x = (double)p[j];
            varies |= x < first || x > first;
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        US_CHECK_ARG(varies, "mixture %d is constant (every pixel is %g); accepted: an image with something in it",
                     i + 1, first);
    }
    d->low = low;
    d->range = high - low;
    for (int64_t j = 0; j < d->mixtures * d->n; j++) {
        d->scaled[j] = (float)(((double)image[j] - low) / d->range);
    }
    return USPLIT_OK;
}

static usplit_status floats(dip *d, float **out, int64_t n)
{
    *out = us_calloc(d->a, (size_t)n, sizeof **out);
    d->result.bytes += n * (int64_t)sizeof **out;
    return *out ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

static usplit_status doubles(dip *d, double **out, int64_t n)
{
    *out = us_calloc(d->a, (size_t)n, sizeof **out);
    d->result.bytes += n * (int64_t)sizeof **out;
    return *out ? USPLIT_OK : USPLIT_ERR_MEMORY;
}

static usplit_status open_run(dip *d)
{
    static const char *const names[] = {"first", "second", "share.0", "share.1"};
    us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = us_backend_cpu.layout, .batch = 1};
    US_TRY(us_skip_graph(&d->graph, d->a, d->h, d->w, d->in, d->nets, names));
    US_TRY(us_plan_build(&d->plan, d->a, d->graph, &o));
    US_TRY(us_backend_cpu.compile(&d->exec, d->context, d->plan, us_pool_size(d->context->pool)));
    int64_t n_floats = d->graph->n_floats, n = d->n;
    US_TRY(floats(d, &d->params, n_floats));
    US_TRY(floats(d, &d->grads, n_floats));
    US_TRY(floats(d, &d->m, n_floats));
    US_TRY(floats(d, &d->v, n_floats));
    US_TRY(floats(d, &d->noise, d->nets * n * d->in));
    US_TRY(floats(d, &d->noisy, n * d->in));
    US_TRY(floats(d, &d->scaled, d->mixtures * n));
    US_TRY(floats(d, &d->turned, n));
    US_TRY(floats(d, &d->best, 2 * n));
    US_TRY(doubles(d, &d->planes, 5 * n));
    US_TRY(doubles(d, &d->scratch, us_dip_exclusion_scratch(d->h, d->w)));
    us_graph_init_params(d->graph, d->o.seed, d->params);
    draw_inputs(d);
    d->result.macs = us_graph_macs(d->graph);
    d->result.bytes += us_backend_cpu.bytes(d->exec);
    return USPLIT_OK;
}

static void close_run(dip *d)
{
    us_backend_cpu.release(d->exec);
    us_plan_free(d->plan);
    us_graph_free(d->graph);
    void *blocks[] = {d->params, d->grads, d->m, d->v, d->noise, d->noisy, d->scaled, d->turned, d->best, d->planes,
                      d->scratch};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        us_free(d->a, blocks[i]);
    }
}

// Of one mixture, (d1 + d2) / 2 = R + T, so that twice each is an estimate.
static void write_estimates(const dip *d, float *estimates)
{
    double gain = d->range * (d->mixtures > 1 ? 1 : 2);
    for (int64_t i = 0; i < 2 * d->n; i++) {
        estimates[i] = (float)(d->low + gain * (double)d->best[i]);
    }
}

usplit_status us_dip_run(usplit_context *context, const float *image, int h, int w, const usplit_dip_options *options,
                         float *estimates, usplit_dip_result *result, usplit_progress_fn progress, void *user)
{
    dip d = {.a = &context->allocator, .context = context, .o = *options, .h = h, .w = w,
             .mixtures = options->mode, .n = (int64_t)h * w, .progress = progress, .user = user,
             .started = clock_now()};
    usplit_status status;
    d.nets = d.mixtures > 1 ? FIRST_SHARE + d.mixtures : FIRST_SHARE;
    d.in = d.mixtures > 1 ? 2 : 3;
    d.shares[0] = 0.5;
    d.result = (usplit_dip_result){.struct_size = sizeof d.result, .best_iteration = -1, .mode = options->mode};
    US_TRY_GOTO(open_run(&d));
    US_TRY_GOTO(scale(&d, image));
    status = loop(&d);
    if (status == USPLIT_OK || status == USPLIT_ERR_CANCELLED) {
        write_estimates(&d, estimates);
        d.result.iterations = d.iteration;
        d.result.low = d.low;
        d.result.high = d.low + d.range;
        d.result.seconds = clock_now() - d.started;
        *result = d.result;
    }
done:
    close_run(&d);
    return status;
}
