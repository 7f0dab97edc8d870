// Model and training state -> the list of entries that ckpt writes.
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "train/checkpoint.h"
#include "train/checkpoint_names.h"

typedef struct entry_list {
    const us_allocator *a;
    us_ckpt_entry *entries;
    size_t n, cap;
    usplit_status status;           // of the first failure: a list is built without looking back
} entry_list;

// Adds an entry that owns a copy of its path and, for `copied` bytes > 0, of its data.
static void add(entry_list *l, const char *path, int32_t type, int32_t n_dims, const int64_t *dims,
                const void *data, size_t copied)
{
    if (l->status != USPLIT_OK) {
        return;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        us_ckpt_entry *grown = us_alloc(l->a, cap, sizeof *grown);
        if (!grown) {
            l->status = USPLIT_ERR_MEMORY;
            return;
        }
        if (l->n) {
            memcpy(grown, l->entries, l->n * sizeof *grown);
        }
        us_free(l->a, l->entries);
        l->entries = grown;
        l->cap = cap;
    }
    // path and copied data lie in one block
    size_t length = (strlen(path) + 16) / 16 * 16;
    char *block = us_alloc(l->a, length + copied, 1);
    if (!block) {
        l->status = USPLIT_ERR_MEMORY;
        return;
    }
    memcpy(block, path, strlen(path) + 1);
    if (copied) {
        memcpy(block + length, data, copied);
        data = block + length;
    }
    us_ckpt_entry e = {.path = block, .type = type, .n_dims = n_dims, .data = data};
    for (int i = 0; i < n_dims; i++) {
        e.dims[i] = dims[i];
    }
    l->entries[l->n++] = e;
}

static void add_i64(entry_list *l, const char *path, int64_t value)
{
    add(l, path, US_CKPT_I64, 0, NULL, &value, sizeof value);
}

static void add_f64(entry_list *l, const char *path, double value)
{
    add(l, path, US_CKPT_F64, 0, NULL, &value, sizeof value);
}

static void add_f64s(entry_list *l, const char *path, const double *values, int64_t n)
{
    add(l, path, US_CKPT_F64, 1, &n, values, (size_t)n * sizeof *values);
}

static void add_text(entry_list *l, const char *path, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    add(l, path, US_CKPT_TEXT, 1, &n, text, (size_t)n);
}

static void add_config(entry_list *l, const us_net_config *c)
{
    int64_t z[USPLIT_MAX_LEVELS], levels = c->levels;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", USPLIT_VERSION_MAJOR, USPLIT_VERSION_MINOR,
             USPLIT_VERSION_PATCH);
    add_i64(l, "model/format", US_CHECKPOINT_FORMAT);
    add_text(l, "model/library_version", version);
    const int *fields[] = {&c->family, &c->variant, &c->levels, &c->lc_count, &c->filters, &c->patch, &c->channels};
    for (int i = 0; i < US_CHECKPOINT_N_CONFIG; i++) {
        add_i64(l, us_checkpoint_config[i], *fields[i]);
    }
    const int *choices[] = {&c->blocks, &c->activation, &c->logvar, &c->merge, &c->kl, &c->latent_scale,
                            &c->shared_branch, &c->ungated};
    for (int i = 0; i < US_CHECKPOINT_N_CHOICES; i++) {
        add_i64(l, us_checkpoint_choices[i], *choices[i]);
    }
    for (int i = 0; i < c->levels; i++) {
        z[i] = c->z_dims[i];
    }
    add(l, "model/z_dims", US_CKPT_I64, 1, &levels, z, (size_t)levels * sizeof *z);
    add_f64(l, "model/dropout", c->dropout);
    add_f64(l, "model/logvar_lower_bound", c->logvar_lower_bound);
    add_f64(l, "model/var_clip_max", c->var_clip_max);
}

static void add_parameters(entry_list *l, const us_graph *g, const char *group, const float *values, int trained_only)
{
    char path[256];
    for (int i = 0; i < g->n_params; i++) {
        const us_param *p = &g->params[i];
        if (trained_only && !us_param_trained(p)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", group, p->name);
        if (p->kind == US_PARAM_COUNTER) {
            add_i64(l, path, (int64_t)values[p->offset]);
        } else {
            add(l, path, US_CKPT_F32, p->n_dims, p->dims, values + p->offset, 0);
        }
    }
}

static void add_normalisation(entry_list *l, const usplit_model *m)
{
    char path[64];
    const usplit_model_normalisation *n = &m->normalisation;
    int64_t k = m->graph->config.channels;
    if (!m->has_normalisation) {
        return;
    }
    add_f64(l, "normalisation/clip_value", n->clip_value);
    add_f64(l, "normalisation/input_mean", n->input_mean);
    add_f64(l, "normalisation/input_deviation", n->input_deviation);
    add_f64s(l, "normalisation/target_mean", n->target_mean, k);
    add_f64s(l, "normalisation/target_deviation", n->target_deviation, k);
    add_i64(l, "normalisation/padding", n->padding);
    add_f64(l, "normalisation/padding_value", n->padding_value);
    add_f64(l, "normalisation/pixel_size", n->pixel_size);
    for (int i = 0; i < k; i++) {
        snprintf(path, sizeof path, "normalisation/channel_name_%d", i);
        if (n->channel_names[i][0]) {
            add_text(l, path, n->channel_names[i]);
        }
    }
}

static void add_record(entry_list *l, const usplit_model *m)
{
    int64_t n = m->n_history;
    add_i64(l, "record/epochs", m->epochs);
    add_i64(l, "record/steps", m->steps);
    add_f64(l, "record/best_val_psnr", m->best_val_psnr);
    if (n > 0) {    // one row per epoch: step, loss, reconstruction, kl, val_psnr, val_loss, learning rate, seconds
        int64_t dims[2] = {n, US_CHECKPOINT_HISTORY_COLUMNS};
        double *rows = us_alloc(l->a, (size_t)n * US_CHECKPOINT_HISTORY_COLUMNS, sizeof *rows);
        if (!rows) {
            l->status = USPLIT_ERR_MEMORY;
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            const us_epoch *e = &m->history[i];
            const double row[US_CHECKPOINT_HISTORY_COLUMNS] = {(double)e->step, e->loss, e->reconstruction, e->kl,
                                                               e->val_psnr, e->val_loss, e->learning_rate,
                                                               e->seconds};
            memcpy(rows + i * US_CHECKPOINT_HISTORY_COLUMNS, row, sizeof row);
        }
        add(l, "record/history", US_CKPT_F64, 2, dims, rows,
            (size_t)n * sizeof(double) * US_CHECKPOINT_HISTORY_COLUMNS);
        us_free(l->a, rows);
    }
}

// KL per level of every epoch, beside the history.
static void add_history_kl(entry_list *l, const usplit_model *m)
{
    int64_t n = m->n_history, levels = m->graph->n_latents;
    double *rows;
    if (n < 1 || levels < 1) {
        return;
    }
    rows = us_alloc(l->a, (size_t)(n * levels), sizeof *rows);
    if (!rows) {
        l->status = USPLIT_ERR_MEMORY;
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(rows + i * levels, m->history[i].level, (size_t)levels * sizeof *rows);
    }
    add(l, "record/history_kl", US_CKPT_F64, 2, (int64_t[]){n, levels}, rows, (size_t)(n * levels) * sizeof *rows);
    us_free(l->a, rows);
}

static void add_selftest(entry_list *l, const usplit_model *m)
{
    const us_net_config *c = &m->graph->config;
    if (!m->selftest_input) {
        return;
    }
    add(l, "selftest/input", US_CKPT_F32, 3, (int64_t[]){1 + c->lc_count, c->patch, c->patch}, m->selftest_input, 0);
    add(l, "selftest/output", US_CKPT_F32, 3, (int64_t[]){c->patch, c->patch, us_net_head_channels(c)}, m->selftest_output, 0);
}

static void add_state(entry_list *l, const usplit_model *m, const us_training_state *s)
{
    us_state_view v = us_checkpoint_state_view(s);
    for (int i = 0; i < US_CHECKPOINT_N_STATE_I64; i++) {
        add_i64(l, us_checkpoint_state_i64[i], *v.i64[i]);
    }
    for (int i = 0; i < US_CHECKPOINT_N_STATE_F64; i++) {
        add_f64(l, us_checkpoint_state_f64[i], *v.f64[i]);
    }
    add_f64s(l, "trainer/epoch_levels", s->epoch_level, USPLIT_MAX_LEVELS);
    add_parameters(l, m->graph, "trainer/m", s->m, 1);
    add_parameters(l, m->graph, "trainer/u", s->u, 1);
}

usplit_status us_checkpoint_write(const usplit_model *m, const us_training_state *state, const char *file)
{
    entry_list l = {.a = &m->context->allocator};
    add_config(&l, &m->graph->config);
    add_parameters(&l, m->graph, "parameters", m->params, 0);
    add_normalisation(&l, m);
    add_record(&l, m);
    add_history_kl(&l, m);
    add_selftest(&l, m);
    if (state) {
        add_state(&l, m, state);
    }
    if (l.status == USPLIT_OK) {
        l.status = us_ckpt_write(l.a, file, l.entries, l.n);
    }
    for (size_t i = 0; i < l.n; i++) {
        void *block;
        memcpy(&block, &l.entries[i].path, sizeof block);
        us_free(l.a, block);
    }
    us_free(l.a, l.entries);
    return l.status;
}
