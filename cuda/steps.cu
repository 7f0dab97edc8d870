// The launches of a run that are neither convolutions nor elementwise programs: masks, losses, the gradient
// of the prior, optimiser, running statistics, conversions. Arithmetic is that of kernels/step.h and elem.h.
//
// The optimiser sees the parameters as groups of 8 neighbours in device layout; a group belongs to one
// parameter (offsets are multiples of 64) and finds it by binary search. Sums are made per thread, per block
// and over blocks, each in a fixed order.
#include "gpu.h"

#include <math.h>

#include "kernels/elem.h"
#include "kernels/step.h"
#include "steps.h"

enum { THREADS = 256, GROUP = 8, MOST_BLOCKS = 1024, FEW_THREADS = 64 };

// Blocks for n elements, THREADS * GROUP at a time; loops in the kernels take the rest.
static int blocks_for(int64_t n)
{
    int64_t blocks = (n + THREADS * GROUP - 1) / (THREADS * GROUP);
    blocks = blocks < 1 ? 1 : blocks;
    return blocks < MOST_BLOCKS ? (int)blocks : MOST_BLOCKS;
}

// First element of this thread's first group, and the distance to its next one.
US_DEVICE int64_t first_group(void)
{
    return ((int64_t)us_block() * us_threads() + us_thread()) * GROUP;
}

US_DEVICE int64_t group_stride(void)
{
    return (int64_t)us_blocks() * us_threads() * GROUP;
}

template <typename T> US_DEVICE void load_group(const T *p, int n, float x[GROUP])
{
    if (n == GROUP) {
        us_load8(p, x);
        return;
    }
    for (int i = 0; i < GROUP; i++) {
        x[i] = i < n ? us_to_float(p[i]) : 0.0f;
    }
}

template <typename T> US_DEVICE void store_group(T *p, int n, const float x[GROUP])
{
    if (n == GROUP) {
        us_store8(p, x);
        return;
    }
    for (int i = 0; i < n; i++) {
        us_from_float(x[i], &p[i]);
    }
}

// ---- Dropout masks ----

// One block per sample and mask.
US_KERNEL(steps_masks)(us_cu_env env, const us_cu_mask *masks, int n_masks, float p)
{
    int sample = us_block() / n_masks, layer = us_block() % n_masks;
    if (sample >= env.run->active) {
        return;
    }
    const us_cu_mask mask = masks[layer];
    uint64_t key = us_key(env.run->seed, US_RNG_DROPOUT, (uint64_t)env.run->step,
                          (uint32_t)(env.run->first + sample));
    float *dst = env.vec + mask.at + (int64_t)sample * mask.stride;
    for (int c = us_thread(); c < mask.c; c += us_threads()) {
        dst[c] = us_draw_mask(key, (uint32_t)layer, (uint32_t)c, p);
    }
}

const char *us_cu_draw_masks(us_stream *s, const us_cu_env *env, const us_cu_mask *masks, int n_masks, float p)
{
    if (n_masks == 0) {
        return NULL;
    }
    return US_LAUNCH(steps_masks, env->batch * n_masks, FEW_THREADS, 0, s, *env, masks, n_masks, p);
}

// ---- Losses ----

US_DEVICE double level_kl(const us_cu_env *env, const us_cu_loss_level *level, int sample)
{
    const double *sums = env->sums + (int64_t)sample * env->n_sums + level->slot;
    double kl = 0;
    for (int c = 0; c < level->c; c++) {
        kl += sums[c];
    }
    return kl / (double)level->elements;
}

// The KL of every level. A round takes as many samples as the block has threads for: a thread finds the KL and
// the weight of one sample and level, then one thread per level adds them in the order of the samples.
US_DEVICE void add_levels(const us_cu_env *env, const us_cu_loss *loss, us_cu_state *state, float *kl_weight,
                          double *share)
{
    int active = env->run->active, samples = us_threads() / loss->levels;
    int level = us_thread() % loss->levels, sample = us_thread() / loss->levels;
    const us_cu_loss_level l = loss->level[level];
    double total = 0;
    for (int first = 0; first < active; first += samples) {
        int s = first + sample;
        if (l.slot >= 0 && sample < samples && s < active) {
            double kl = level_kl(env, &l, s);
            float weight = us_kl_weight(kl, loss->free_bits, loss->kl_weight, loss->levels, active,
                                        (double)l.elements);
            kl_weight[(int64_t)s * US_CU_LEVELS + level] = weight * state->loss_scale;
            share[us_thread()] = (us_kl_bound(kl, loss->free_bits) ? loss->free_bits : kl) / active;
        }
        us_barrier();
        for (int i = 0; i < samples && first + i < active && sample == 0 && l.slot >= 0; i++) {
            total += share[i * loss->levels + level];
        }
        us_barrier();
    }
    if (sample == 0) {
        state->level[level] = total;
    }
}

// Sums of every reconstruction loss and channel over the samples: sum[part][US_CU_LEVELS] in shared memory.
US_DEVICE void sum_parts(const us_cu_env *env, const us_cu_loss *loss, double *sum)
{
    for (int task = us_thread(); task < loss->n_parts * US_CU_LEVELS; task += us_threads()) {
        int channel = task % US_CU_LEVELS;
        const us_cu_loss_part *part = &loss->part[task / US_CU_LEVELS];
        sum[task] = 0;
        for (int s = 0; s < env->run->active && channel < part->channels; s++) {
            sum[task] += env->sums[(int64_t)s * env->n_sums + part->slot + channel];
        }
    }
}

// Their weighted sum; the first one's channels go into the state. One thread.
US_DEVICE double add_parts(const us_cu_env *env, const us_cu_loss *loss, us_cu_state *state, const double *sum)
{
    double reconstruction = 0;
    for (int i = 0; i < loss->n_parts; i++) {
        const us_cu_loss_part *part = &loss->part[i];
        double per_channel = 1.0 / ((double)env->run->active * (double)part->pixels);
        for (int c = 0; c < part->channels; c++) {
            double of_channel = sum[i * US_CU_LEVELS + c];
            if (i == 0) {
                state->channel[c] = of_channel * per_channel;
            }
            reconstruction += part->weight * of_channel * per_channel / part->channels;
        }
    }
    return reconstruction;
}

// One block.
US_KERNEL(steps_loss)(us_cu_env env, us_cu_loss loss, us_cu_state *state, float *kl_weight)
{
    if (loss.levels > 0) {
        add_levels(&env, &loss, state, kl_weight, (double *)us_shared());
    }
    sum_parts(&env, &loss, (double *)us_shared());
    us_barrier();
    if (us_thread() != 0) {
        return;
    }
    double reconstruction = add_parts(&env, &loss, state, (const double *)us_shared()), kl = 0;
    for (int i = 0; i < loss.levels; i++) {
        kl += state->level[i];
    }
    state->reconstruction = reconstruction;
    state->kl = us_kl_total(kl, loss.n_kl, loss.levels);
    state->loss = us_loss_total(reconstruction, state->kl, loss.n_kl, loss.kl_weight);
}

const char *us_cu_loss_run(us_stream *s, const us_cu_env *env, const us_cu_loss *loss, us_cu_state *state,
                           float *kl_weight)
{
    return US_LAUNCH(steps_loss, 1, THREADS, THREADS * (int)sizeof(double), s, *env, *loss, state, kl_weight);
}

// ---- Gradient of the top prior ----

template <typename T>
US_KERNEL(steps_prior)(const T *src, int64_t stride, const us_cu_run *run, int c, int64_t hw, float *dst)
{
    int64_t i = (int64_t)us_block() * us_threads() + us_thread();
    if (i >= c * hw) {
        return;
    }
    float total = 0;
    for (int s = 0; s < run->active; s++) {
        total += us_to_float(src[s * stride + i]);
    }
    dst[i % c * hw + i / c] = total;            // [y][x][channel] -> (channel, y, x)
}

const char *us_cu_sum_prior(us_stream *s, const us_cu_env *env, int64_t at, int64_t stride, int c, int64_t hw,
                            int64_t grad)
{
    int64_t blocks = (c * hw + THREADS - 1) / THREADS;
    float *dst = env->grads + grad;
    if (env->half) {
        return US_LAUNCH(steps_prior<us_half>, blocks, THREADS, 0, s, (const us_half *)env->arena + at, stride,
                         env->run, c, hw, dst);
    }
    return US_LAUNCH(steps_prior<float>, blocks, THREADS, 0, s, (const float *)env->arena + at, stride, env->run, c,
                     hw, dst);
}

// ---- Optimiser ----

// The trained parameter that element `at` belongs to, and how many elements of the group from there on are its
// own; NULL: padding, or not trained. The table is in the order of the offsets.
US_DEVICE const us_cu_param *find_group(const us_cu_optimiser *o, int64_t at, int *n)
{
    int low = 0, high = o->n_params;            // table[low].at <= at < table[high].at
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (o->table[middle].at <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const us_cu_param *p = &o->table[low];
    int64_t left = p->at + p->count - at;
    *n = left < GROUP ? (int)left : GROUP;
    return p->trained && p->at <= at && left > 0 ? p : NULL;
}

template <typename T>
US_DEVICE void load_gradient(const us_cu_optimiser *o, const us_cu_param *p, int64_t at, int n, float g[GROUP])
{
    if (o->total) {
        load_group(o->total + at, n, g);
    } else if (p->weight_gradient) {
        load_group((const T *)o->weight_grads + at, n, g);
    } else {
        load_group(o->grads + at, n, g);
    }
}

// One loss of the whole batch out of its parts'.
US_DEVICE void mix(us_cu_state *s, const us_cu_run *run, int i, double *value)
{
    s->mixed[i] = (run->part_first ? 0 : s->mixed[i]) + run->share * *value;
    *value = run->part_last ? s->mixed[i] : *value;
}

template <typename T> US_KERNEL(steps_accumulate)(us_cu_optimiser o, const us_cu_run *run, us_cu_state *state)
{
    us_cu_optimiser parts = o;
    parts.total = NULL;
    for (int64_t at = first_group(); at < o.n_floats; at += group_stride()) {
        int n;
        float g[GROUP], total[GROUP];
        const us_cu_param *p = find_group(&o, at, &n);
        if (!p) {
            continue;
        }
        load_gradient<T>(&parts, p, at, n, g);
        load_group(o.total + at, n, total);
        for (int i = 0; i < n; i++) {
            total[i] = (run->part_first ? 0 : total[i]) + run->share * g[i];
        }
        store_group(o.total + at, n, total);
    }
    if (us_block() == 0 && us_thread() == 0) {
        mix(state, run, 0, &state->loss);
        mix(state, run, 1, &state->reconstruction);
        mix(state, run, 2, &state->kl);
        for (int i = 0; i < US_CU_LEVELS; i++) {
            mix(state, run, 3 + i, &state->channel[i]);
            mix(state, run, 3 + US_CU_LEVELS + i, &state->level[i]);
        }
    }
}

const char *us_cu_accumulate(us_stream *s, const us_cu_optimiser *o, const us_cu_run *run, us_cu_state *state)
{
    int blocks = blocks_for(o->n_floats);
    if (o->half) {
        return US_LAUNCH(steps_accumulate<us_half>, blocks, THREADS, 0, s, *o, run, state);
    }
    return US_LAUNCH(steps_accumulate<float>, blocks, THREADS, 0, s, *o, run, state);
}

// Sum over the block's threads, the same tree every time; all threads get it. Shared: a double per thread.
US_DEVICE double block_sum(double x)
{
    double *row = (double *)us_shared();
    int t = us_thread();
    row[t] = x;
    us_barrier();
    for (int n = us_threads() / 2; n > 0; n /= 2) {
        if (t < n) {
            row[t] += row[t + n];
        }
        us_barrier();
    }
    double total = row[0];
    us_barrier();
    return total;
}

// 1 in every thread of the block that comes last. Shared: an int.
US_DEVICE int last_block(unsigned *counter)
{
    int *last = (int *)us_shared();
    us_publish();
    us_barrier();
    if (us_thread() == 0) {
        *last = us_arrive(counter) == (unsigned)us_blocks() - 1;
        us_publish();
    }
    us_barrier();
    int answer = *last;
    us_barrier();
    return answer;
}

// total: of the squares of all gradients as they are.
US_DEVICE void decide(us_cu_state *s, const us_cu_run *run, double total, int half)
{
    s->norm = isfinite(s->loss) ? sqrt(total) / s->loss_scale : NAN;
    s->ok = isfinite(s->norm) ? 1 : 0;
    s->applied = 0;
    if (s->ok) {
        s->applied = (float)(us_clip_factor(s->norm, run->clip_norm) / s->loss_scale);
        s->updates++;
        s->counted++;
        s->sum_loss += s->loss;
        s->sum_reconstruction += s->reconstruction;
        s->sum_kl += s->kl;
        for (int i = 0; i < US_CU_LEVELS; i++) {
            s->sum_level[i] += s->level[i];
        }
    } else {
        s->skipped++;
    }
    if (half) {
        s->loss_scale = us_loss_scale_next(s->loss_scale, s->ok, &s->good_steps);
    }
}

template <typename T> US_KERNEL(steps_norm)(us_cu_optimiser o, const us_cu_run *run, us_cu_state *state)
{
    double mine = 0;
    for (int64_t at = first_group(); at < o.n_floats; at += group_stride()) {
        int n;
        float g[GROUP], part = 0;
        const us_cu_param *p = find_group(&o, at, &n);
        if (!p) {
            continue;
        }
        load_gradient<T>(&o, p, at, n, g);
        for (int i = 0; i < GROUP; i++) {
            part += g[i] * g[i];
        }
        mine += (double)part;
    }
    double sum = block_sum(mine);
    if (us_thread() == 0) {
        o.partials[us_block()] = sum;
    }
    if (!last_block(o.counter)) {
        return;
    }
    mine = 0;
    for (int i = us_thread(); i < us_blocks(); i += us_threads()) {
        mine += o.partials[i];
    }
    sum = block_sum(mine);
    if (us_thread() == 0) {
        *o.counter = 0;
        decide(state, run, sum, o.half);
    }
}

int64_t us_cu_norm_partials(const us_cu_optimiser *o)
{
    return blocks_for(o->n_floats);
}

const char *us_cu_norm(us_stream *s, const us_cu_optimiser *o, const us_cu_run *run, us_cu_state *state)
{
    int blocks = blocks_for(o->n_floats), shared = THREADS * (int)sizeof(double);
    if (o->half) {
        return US_LAUNCH(steps_norm<us_half>, blocks, THREADS, shared, s, *o, run, state);
    }
    return US_LAUNCH(steps_norm<float>, blocks, THREADS, shared, s, *o, run, state);
}

template <typename T> US_DEVICE void adamax_group(const us_cu_optimiser *o, int64_t at, float factor, float rate)
{
    int n;
    float g[GROUP], w[GROUP], m[GROUP], u[GROUP];
    const us_cu_param *p = find_group(o, at, &n);
    if (!p) {
        return;
    }
    load_gradient<T>(o, p, at, n, g);
    load_group(o->params + at, n, w);
    load_group(o->m + at, n, m);
    load_group(o->u + at, n, u);
    for (int i = 0; i < GROUP; i++) {
        us_adamax(g[i] * factor, rate, &w[i], &m[i], &u[i]);
    }
    store_group(o->params + at, n, w);
    store_group(o->m + at, n, m);
    store_group(o->u + at, n, u);
    if (o->weights) {
        store_group((T *)o->weights + at, n, w);
    }
}

template <typename T> US_KERNEL(steps_adamax)(us_cu_optimiser o, const us_cu_run *run, const us_cu_state *state)
{
    float *rate = (float *)us_shared();
    if (!state->ok) {
        return;
    }
    if (us_thread() == 0) {
        *rate = us_adamax_rate((double)run->lr, state->updates);
    }
    us_barrier();
    for (int64_t at = first_group(); at < o.n_floats; at += group_stride()) {
        adamax_group<T>(&o, at, state->applied, *rate);
    }
}

const char *us_cu_adamax(us_stream *s, const us_cu_optimiser *o, const us_cu_run *run, const us_cu_state *state)
{
    int blocks = blocks_for(o->n_floats), shared = (int)sizeof(float);
    if (o->half) {
        return US_LAUNCH(steps_adamax<us_half>, blocks, THREADS, shared, s, *o, run, state);
    }
    return US_LAUNCH(steps_adamax<float>, blocks, THREADS, shared, s, *o, run, state);
}

// ---- Running statistics: one block per batch normalisation, which moves those of later ones that share them ----

US_KERNEL(steps_running)(const us_cu_bn_running *bn, const us_cu_run *run, const us_cu_state *state,
                         const double *moments, float *params)
{
    us_cu_bn_running b = bn[us_block()];
    if (!state->ok || b.shared) {
        return;
    }
    for (int more = 1; more; more = b.later, b = bn[b.later]) {
        double n = (double)run->active * (double)b.count;
        const double *mean = moments + b.moments, *var = mean + b.c;
        for (int c = us_thread(); c < b.c; c += us_threads()) {
            params[b.mean + c] = us_bn_run_mean(params[b.mean + c], mean[c]);
            params[b.var + c] = us_bn_run_var(params[b.var + c], var[c], n);
        }
        if (us_thread() == 0) {
            params[b.counter] += 1;
        }
    }
}

const char *us_cu_running(us_stream *s, const us_cu_bn_running *bn, int n_bn, const us_cu_run *run,
                          const us_cu_state *state, const double *moments, float *params)
{
    if (n_bn == 0) {
        return NULL;
    }
    return US_LAUNCH(steps_running, n_bn, FEW_THREADS, 0, s, bn, run, state, moments, params);
}

US_KERNEL(steps_coefficients)(const us_cu_bn_running *bn, const float *params, float *vec)
{
    const us_cu_bn_running b = bn[us_block()];
    for (int c = us_thread(); c < b.c; c += us_threads()) {
        us_bn_of_running(params[b.mean + c], params[b.var + c], params[b.gamma + c], params[b.beta + c],
                         &vec[b.scale + c], &vec[b.shift + c]);
    }
}

const char *us_cu_running_coefficients(us_stream *s, const us_cu_bn_running *bn, int n_bn, const float *params,
                                       float *vec)
{
    if (n_bn == 0) {
        return NULL;
    }
    return US_LAUNCH(steps_coefficients, n_bn, FEW_THREADS, 0, s, bn, params, vec);
}

// ---- Sums and conversions ----

template <typename T> US_KERNEL(steps_add)(const us_cu_run *run, const T *src, T *dst, int64_t n)
{
    for (int64_t at = first_group(); at < n && run->active; at += group_stride()) {
        int count = n - at < GROUP ? (int)(n - at) : GROUP;
        float x[GROUP], sum[GROUP];
        load_group(src + at, count, x);
        load_group(dst + at, count, sum);
        for (int i = 0; i < GROUP; i++) {
            sum[i] += x[i];
        }
        store_group(dst + at, count, sum);
    }
}

const char *us_cu_add(us_stream *s, const us_cu_env *env, const void *src, void *dst, int64_t n)
{
    if (env->half) {
        return US_LAUNCH(steps_add<us_half>, blocks_for(n), THREADS, 0, s, env->run, (const us_half *)src,
                         (us_half *)dst, n);
    }
    return US_LAUNCH(steps_add<float>, blocks_for(n), THREADS, 0, s, env->run, (const float *)src, (float *)dst, n);
}

US_KERNEL(steps_to_half)(const float *src, us_half *dst, int64_t n)
{
    for (int64_t i = (int64_t)us_block() * us_threads() + us_thread(); i < n; i += us_blocks() * us_threads()) {
        us_from_float(src[i], &dst[i]);
    }
}

US_KERNEL(steps_to_float)(const us_half *src, float *dst, int64_t n)
{
    for (int64_t i = (int64_t)us_block() * us_threads() + us_thread(); i < n; i += us_blocks() * us_threads()) {
        dst[i] = us_to_float(src[i]);
    }
}

const char *us_cu_to_elements(us_stream *s, const float *src, void *dst, int64_t n, int half)
{
    if (n == 0) {
        return NULL;
    }
    if (!half) {
        return us_copy_across(s, dst, src, n * (int64_t)sizeof(float));
    }
    return US_LAUNCH(steps_to_half, blocks_for(n), THREADS, 0, s, src, (us_half *)dst, n);
}

const char *us_cu_to_floats(us_stream *s, const void *src, float *dst, int64_t n, int half)
{
    if (n == 0) {
        return NULL;
    }
    if (!half) {
        return us_copy_across(s, dst, src, n * (int64_t)sizeof(float));
    }
    return US_LAUNCH(steps_to_float, blocks_for(n), THREADS, 0, s, (const us_half *)src, dst, n);
}

const char *us_cu_copy_weights(us_stream *s, const us_cu_optimiser *o)
{
    return o->weights ? us_cu_to_elements(s, o->params, o->weights, o->n_floats, o->half) : NULL;
}
