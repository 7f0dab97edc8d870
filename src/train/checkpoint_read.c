// A checkpoint file -> a model, or an existing model and its training state. The file is not trusted: every
// entry is read with the type and shape the architecture demands.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "train/checkpoint.h"
#include "train/checkpoint_names.h"

static usplit_status read_i64(us_ckpt *c, const char *path, int64_t low, int64_t high, int64_t *out)
{
    US_TRY(us_ckpt_read(c, path, US_CKPT_I64, 0, NULL, out));
    if (*out < low || *out > high) {
        US_FAIL(USPLIT_ERR_FORMAT, "'%s' is %lld; accepted: %lld to %lld", path, (long long)*out, (long long)low,
                (long long)high);
    }
    return USPLIT_OK;
}

static usplit_status read_f64(us_ckpt *c, const char *path, double *out)
{
    return us_ckpt_read(c, path, US_CKPT_F64, 0, NULL, out);
}

// Goes through the public options, so that a file and a caller are checked by the same rules.
static usplit_status read_config(us_ckpt *c, us_net_config *config)
{
    int64_t v[US_CHECKPOINT_N_CONFIG], z[USPLIT_MAX_LEVELS], format;
    usplit_model_options o = {.struct_size = sizeof o};
    US_TRY(read_i64(c, "model/format", 1, INT32_MAX, &format));
    if (format > US_CHECKPOINT_FORMAT) {
        US_FAIL(USPLIT_ERR_FORMAT, "written by a newer version (model format %lld; this library reads up to %d)",
                (long long)format, US_CHECKPOINT_FORMAT);
    }
    for (int i = 0; i < US_CHECKPOINT_N_CONFIG; i++) {
        US_TRY(read_i64(c, us_checkpoint_config[i], i == 2 || i > 3 ? 1 : 0, 16384, &v[i]));
    }
    if (v[2] > USPLIT_MAX_LEVELS) {
        US_FAIL(USPLIT_ERR_FORMAT, "'model/levels' is %lld; accepted: 1 to %d", (long long)v[2], USPLIT_MAX_LEVELS);
    }
    US_TRY(us_ckpt_read(c, "model/z_dims", US_CKPT_I64, 1, &v[2], z));
    o.family = (int32_t)v[0];
    o.variant = (int32_t)v[1];
    o.levels = (int32_t)v[2];
    o.lc_count = (int32_t)v[3];
    o.filters = (int32_t)v[4];
    o.patch = (int32_t)v[5];
    o.channels = (int32_t)v[6];
    int32_t *choices[] = {&o.blocks, &o.activation, &o.logvar, &o.merge, &o.kl, &o.latent_scale, &o.shared_branch,
                          &o.ungated};
    for (int i = 0; i < US_CHECKPOINT_N_CHOICES; i++) {
        int64_t choice = 0;
        if (us_ckpt_has(c, us_checkpoint_choices[i])) {
            US_TRY(read_i64(c, us_checkpoint_choices[i], 0, 64, &choice));
        }
        *choices[i] = (int32_t)choice;
    }
    int latents = o.family <= USPLIT_FAMILY_HAE;
    for (int i = 0; i < o.levels; i++) {
        if (z[i] < latents || z[i] > 1024) {
            US_FAIL(USPLIT_ERR_FORMAT, "'model/z_dims' holds %lld; accepted: %d to 1024", (long long)z[i], latents);
        }
        o.z_dims[i] = (int32_t)z[i];
    }
    US_TRY(read_f64(c, "model/dropout", &o.dropout));
    US_TRY(read_f64(c, "model/logvar_lower_bound", &o.logvar_lower_bound));
    US_TRY(read_f64(c, "model/var_clip_max", &o.var_clip_max));
    double dropout = o.dropout, bound = o.logvar_lower_bound, clip = o.var_clip_max;
    o.dropout = dropout == 0 ? -1 : dropout;    // in the file 0 means 0
    usplit_status status = us_net_config_from(config, &o);
    config->logvar_lower_bound = bound;
    config->var_clip_max = clip;
    if (status != USPLIT_OK) {
        char text[400];
        snprintf(text, sizeof text, "%s", us_message_get());
        US_FAIL(USPLIT_ERR_FORMAT, "the file's architecture is impossible: %s", text);
    }
    return USPLIT_OK;
}

static usplit_status read_parameters(us_ckpt *c, const us_graph *g, const char *group, int trained_only, float *out)
{
    char path[256];
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        if (trained_only && !us_param_trained(p)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", group, p->name);
        if (p->kind == US_PARAM_COUNTER) {
            int64_t n;
            US_TRY(read_i64(c, path, 0, INT64_MAX, &n));
            out[p->offset] = (float)n;
            continue;
        }
        US_TRY(us_ckpt_read(c, path, US_CKPT_F32, p->n_dims, p->dims, out + p->offset));
        for (int64_t j = 0; j < p->count; j++) {
            if (!isfinite(out[p->offset + j])) {
                US_FAIL(USPLIT_ERR_FORMAT, "'%s' holds a value that is not finite at %lld", path, (long long)j);
            }
            if (p->kind == US_PARAM_RUNNING_VAR && out[p->offset + j] < 0) {
                US_FAIL(USPLIT_ERR_FORMAT, "'%s' holds a negative variance at %lld", path, (long long)j);
            }
        }
    }
    return USPLIT_OK;
}

static usplit_status read_text(us_ckpt *c, const char *path, char *out, size_t size)
{
    us_ckpt_entry e;
    out[0] = 0;
    if (!us_ckpt_has(c, path)) {
        return USPLIT_OK;
    }
    US_TRY(us_ckpt_find(c, path, &e));
    if (e.type != US_CKPT_TEXT || e.n_dims != 1 || e.dims[0] < 0 || (size_t)e.dims[0] >= size) {
        US_FAIL(USPLIT_ERR_FORMAT, "'%s' is not a text of fewer than %zu bytes", path, size);
    }
    US_TRY(us_ckpt_read(c, path, US_CKPT_TEXT, 1, e.dims, out));
    out[e.dims[0]] = 0;
    return USPLIT_OK;
}

static void unknown_levels(double *level)
{
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        level[i] = NAN;
    }
}

// KL per level of every epoch; files of earlier versions have none.
static usplit_status read_history_kl(us_ckpt *c, usplit_model *m)
{
    int64_t levels = m->graph->n_latents, n = m->n_history;
    if (!us_ckpt_has(c, "record/history_kl") || levels < 1 || n < 1) {
        return USPLIT_OK;
    }
    double *rows = us_alloc(&m->context->allocator, (size_t)(n * levels), sizeof *rows);
    if (!rows) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = us_ckpt_read(c, "record/history_kl", US_CKPT_F64, 2, (int64_t[]){n, levels}, rows);
    for (int64_t i = 0; i < n && status == USPLIT_OK; i++) {
        memcpy(m->history[i].level, rows + i * levels, (size_t)levels * sizeof *rows);
    }
    us_free(&m->context->allocator, rows);
    return status;
}

static usplit_status read_normalisation(us_ckpt *c, int channels, int *has, usplit_model_normalisation *n)
{
    char path[64];
    int64_t k = channels, padding;
    *has = us_ckpt_has(c, "normalisation/input_mean");
    memset(n, 0, sizeof *n);
    n->struct_size = sizeof *n;
    if (!*has) {
        return USPLIT_OK;
    }
    US_TRY(read_f64(c, "normalisation/clip_value", &n->clip_value));
    US_TRY(read_f64(c, "normalisation/input_mean", &n->input_mean));
    US_TRY(read_f64(c, "normalisation/input_deviation", &n->input_deviation));
    US_TRY(us_ckpt_read(c, "normalisation/target_mean", US_CKPT_F64, 1, &k, n->target_mean));
    US_TRY(us_ckpt_read(c, "normalisation/target_deviation", US_CKPT_F64, 1, &k, n->target_deviation));
    US_TRY(read_i64(c, "normalisation/padding", 0, 1, &padding));
    n->padding = (int32_t)padding;
    US_TRY(read_f64(c, "normalisation/padding_value", &n->padding_value));
    US_TRY(read_f64(c, "normalisation/pixel_size", &n->pixel_size));
    for (int i = 0; i < channels; i++) {
        if (!isfinite(n->target_mean[i]) || !isfinite(n->target_deviation[i]) || !(n->target_deviation[i] > 0)) {
            US_FAIL(USPLIT_ERR_FORMAT, "the normalisation of channel %d is not usable", i);
        }
        snprintf(path, sizeof path, "normalisation/channel_name_%d", i);
        US_TRY(read_text(c, path, n->channel_names[i], USPLIT_NAME_BYTES));
    }
    if (!isfinite(n->input_mean) || !isfinite(n->input_deviation) || !(n->input_deviation > 0) ||
        isnan(n->clip_value) || !isfinite(n->padding_value) || !isfinite(n->pixel_size) || n->pixel_size < 0) {
        US_FAIL(USPLIT_ERR_FORMAT, "the normalisation of the input is not usable");
    }
    return USPLIT_OK;
}

static usplit_status read_record(us_ckpt *c, usplit_model *m)
{
    US_TRY(read_i64(c, "record/epochs", 0, INT32_MAX, &m->epochs));
    US_TRY(read_i64(c, "record/steps", 0, INT64_MAX, &m->steps));
    US_TRY(read_f64(c, "record/best_val_psnr", &m->best_val_psnr));
    m->n_history = 0;
    if (!us_ckpt_has(c, "record/history")) {
        return USPLIT_OK;
    }
    us_ckpt_entry e;
    US_TRY(us_ckpt_find(c, "record/history", &e));
    int64_t n = e.n_dims == 2 ? e.dims[0] : 0;
    if (n < 1 || n > 1000000) {
        US_FAIL(USPLIT_ERR_FORMAT, "'record/history' has %lld rows; accepted: 1 to 1000000", (long long)n);
    }
    double *rows = us_alloc(&m->context->allocator, (size_t)n * US_CHECKPOINT_HISTORY_COLUMNS, sizeof *rows);
    if (!rows) {
        return USPLIT_ERR_MEMORY;
    }
    usplit_status status = us_ckpt_read(c, "record/history", US_CKPT_F64, 2,
                                        (int64_t[]){n, US_CHECKPOINT_HISTORY_COLUMNS}, rows);
    for (int64_t i = 0; i < n && status == USPLIT_OK; i++) {
        const double *r = rows + i * US_CHECKPOINT_HISTORY_COLUMNS;
        us_epoch epoch = {(int64_t)(r[0] >= 0 && r[0] < 9e15 ? r[0] : 0), r[1], r[2], r[3], r[4], r[5], r[6], r[7],
                          {0}};
        unknown_levels(epoch.level);
        status = us_model_add_epoch(m, &epoch);
    }
    us_free(&m->context->allocator, rows);
    return status == USPLIT_OK ? read_history_kl(c, m) : status;
}

static usplit_status read_selftest(us_ckpt *c, usplit_model *m)
{
    const us_net_config *g = &m->graph->config;
    const us_allocator *a = &m->context->allocator;
    if (!us_ckpt_has(c, "selftest/input")) {
        return USPLIT_OK;
    }
    size_t area = (size_t)g->patch * (size_t)g->patch;
    m->selftest_input = us_alloc(a, area * (size_t)(1 + g->lc_count), sizeof(float));
    m->selftest_output = us_alloc(a, area * (size_t)us_net_head_channels(g), sizeof(float));
    if (!m->selftest_input || !m->selftest_output) {
        return USPLIT_ERR_MEMORY;
    }
    US_TRY(us_ckpt_read(c, "selftest/input", US_CKPT_F32, 3, (int64_t[]){1 + g->lc_count, g->patch, g->patch},
                        m->selftest_input));
    return us_ckpt_read(c, "selftest/output", US_CKPT_F32, 3, (int64_t[]){g->patch, g->patch, us_net_head_channels(g)},
                        m->selftest_output);
}

static usplit_status read_model(us_ckpt *c, usplit_context *context, usplit_model **out)
{
    us_net_config config;
    US_TRY(read_config(c, &config));
    US_TRY(us_model_new(out, context, &config));
    usplit_model *m = *out;
    US_TRY(read_parameters(c, m->graph, "parameters", 0, m->params));
    US_TRY(read_normalisation(c, config.channels, &m->has_normalisation, &m->normalisation));
    US_TRY(read_record(c, m));
    return read_selftest(c, m);
}

usplit_status us_checkpoint_load(usplit_model **out, usplit_context *context, const char *file)
{
    us_ckpt *c;
    *out = NULL;
    US_TRY(us_ckpt_open(&c, &context->allocator, file));
    usplit_status status = read_model(c, context, out);
    us_ckpt_close(c);
    if (status != USPLIT_OK) {
        us_model_release(*out);
        *out = NULL;
    }
    return status;
}

// What a training can have come to, entry by entry.
static usplit_status check_state(const us_training_state *s)
{
    us_state_view v = us_checkpoint_state_view(s);
    for (int i = 0; i < US_CHECKPOINT_N_STATE_I64; i++) {
        int64_t low = v.i64[i] == &s->best_epoch ? -1 : v.i64[i] == &s->seed ? INT64_MIN : 0, high = INT64_MAX;
        if (v.i64[i] == &s->epoch || v.i64[i] == &s->best_epoch || v.i64[i] == &s->good_steps) {
            high = INT32_MAX;
        } else if (v.i64[i] == &s->stopped_early) {
            high = 1;
        } else if (v.i64[i] == &s->item) {      // an epoch ends before that: by its steps, or when all items were seen
            high = (s->steps_per_epoch > 0 ? s->steps_per_epoch * s->batch : s->n_items) - 1;
        }
        if (*v.i64[i] < low || *v.i64[i] > high) {
            US_FAIL(USPLIT_ERR_FORMAT, "'%s' is %lld; accepted: %lld to %lld", us_checkpoint_state_i64[i],
                    (long long)*v.i64[i], (long long)low, (long long)high);
        }
    }
    for (int i = 0; i < US_CHECKPOINT_N_STATE_F64; i++) {
        double x = *v.f64[i];
        int metric = v.f64[i] == &s->schedule_best || v.f64[i] == &s->early_best || v.f64[i] == &s->best_val_psnr;
        int size = v.f64[i] == &s->learning_rate || v.f64[i] == &s->loss_scale;
        if (!metric && (!isfinite(x) || (size && x <= 0))) {
            US_FAIL(USPLIT_ERR_FORMAT, "'%s' is %g; accepted: finite%s", us_checkpoint_state_f64[i], x,
                    size ? ", above 0" : "");
        }
    }
    return USPLIT_OK;
}

// Adamax divides by these: largest gradients, never negative.
static usplit_status check_largest(const us_graph *g, const float *u)
{
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        for (int64_t j = 0; us_param_trained(p) && j < p->count; j++) {
            if (u[p->offset + j] < 0) {
                US_FAIL(USPLIT_ERR_FORMAT, "'trainer/u/%s' holds a negative value at %lld", p->name, (long long)j);
            }
        }
    }
    return USPLIT_OK;
}

static usplit_status read_state(us_ckpt *c, const us_graph *g, us_training_state *s)
{
    us_state_view v = us_checkpoint_state_view(s);
    if (!us_ckpt_has(c, us_checkpoint_state_i64[0])) {
        US_FAIL(USPLIT_ERR_STATE, "the file holds a model but no training to take up (resume from the 'last' file)");
    }
    unknown_levels(s->epoch_level);
    if (us_ckpt_has(c, "trainer/epoch_levels")) {
        US_TRY(us_ckpt_read(c, "trainer/epoch_levels", US_CKPT_F64, 1, (int64_t[]){USPLIT_MAX_LEVELS}, s->epoch_level));
    }
    for (int i = 0; i < US_CHECKPOINT_N_STATE_I64; i++) {
        int64_t value;
        US_TRY(read_i64(c, us_checkpoint_state_i64[i], INT64_MIN, INT64_MAX, &value));
        memcpy((char *)s + ((const char *)v.i64[i] - (const char *)s), &value, sizeof value);
    }
    for (int i = 0; i < US_CHECKPOINT_N_STATE_F64; i++) {
        double value;
        US_TRY(read_f64(c, us_checkpoint_state_f64[i], &value));
        memcpy((char *)s + ((const char *)v.f64[i] - (const char *)s), &value, sizeof value);
    }
    US_TRY(read_parameters(c, g, "trainer/m", 1, s->m));
    US_TRY(read_parameters(c, g, "trainer/u", 1, s->u));
    return check_largest(g, s->u);
}

static usplit_status check_same_training(const us_training_state *file, const us_training_state *now)
{
    if (file->n_items != now->n_items || file->batch != now->batch || file->seed != now->seed ||
        file->steps_per_epoch != now->steps_per_epoch) {
        US_FAIL(USPLIT_ERR_STATE,
                "the training was made with %lld items, batch %lld, seed %lld, %lld steps per epoch; now %lld, %lld, "
                "%lld, %lld: resume with the same data and options",
                (long long)file->n_items, (long long)file->batch, (long long)file->seed,
                (long long)file->steps_per_epoch, (long long)now->n_items, (long long)now->batch,
                (long long)now->seed, (long long)now->steps_per_epoch);
    }
    return USPLIT_OK;
}

static usplit_status resume(us_ckpt *c, usplit_model *model, us_training_state *state)
{
    usplit_model *loaded = NULL;
    usplit_status status = read_model(c, model->context, &loaded);
    us_training_state s = *state;
    const us_allocator *a = &model->context->allocator;
    if (status == USPLIT_OK && !us_net_config_equal(&loaded->graph->config, &model->graph->config)) {
        status = us_fail(USPLIT_ERR_STATE, "the file's model has another architecture than the trainer's");
    }
    if (status == USPLIT_OK) {
        size_t n = (size_t)model->graph->n_floats;
        s.m = us_calloc(a, n, sizeof *s.m);
        s.u = us_calloc(a, n, sizeof *s.u);
        status = s.m && s.u ? read_state(c, model->graph, &s) : USPLIT_ERR_MEMORY;
        if (status == USPLIT_OK) {
            status = check_same_training(&s, state);
        }
        if (status == USPLIT_OK) {
            status = check_state(&s);
        }
        if (status == USPLIT_OK) {      // everything is read: take it over
            memcpy(model->params, loaded->params, n * sizeof(float));
            memcpy(state->m, s.m, n * sizeof(float));
            memcpy(state->u, s.u, n * sizeof(float));
            us_free(a, s.m);
            us_free(a, s.u);
            s.m = state->m;
            s.u = state->u;
            *state = s;
            us_epoch *history = model->history;
            int64_t cap = model->cap_history;
            model->history = loaded->history;
            model->n_history = loaded->n_history;
            model->cap_history = loaded->cap_history;
            loaded->history = history;
            loaded->cap_history = cap;
            model->epochs = loaded->epochs;
            model->steps = loaded->steps;
            model->best_val_psnr = loaded->best_val_psnr;
        } else {
            us_free(a, s.m);
            us_free(a, s.u);
        }
    }
    us_model_release(loaded);
    return status;
}

usplit_status us_checkpoint_resume(usplit_model *model, us_training_state *state, const char *file)
{
    us_ckpt *c;
    US_TRY(us_ckpt_open(&c, &model->context->allocator, file));
    usplit_status status = resume(c, model, state);
    us_ckpt_close(c);
    return status;
}
