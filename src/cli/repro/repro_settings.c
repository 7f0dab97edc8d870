// From a row of a table to the options of one run: the published values, then what the scale and the command line
// change. Below full scale every row of an experiment sees the same number of training pixels.
#include "cli/repro/repro.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

// ---- Scales -----------------------------------------------------------------------------------------------------

static const repro_scale scales[] = {
    {.name = "full"},
    {.name = "small", .width = 0.25, .patches = 6000, .critter_frames = 200, .image_frames = 20, .crop = 1024,
     .batch = 4, .epochs = 20, .lr_patience = 3, .val_patches = 100, .test_frames = 10, .dip_iterations = 400,
     .dip_crops = 1, .learning_rate = 2e-3, .no_dropout = 1, .kinds = 1, .curves = 2, .shrink = 1},
    {.name = "tiny", .width = 0.0625, .patches = 12, .critter_frames = 10, .image_frames = 10, .crop = 256, .batch = 2,
     .epochs = 2, .lr_patience = 3, .val_patches = 2, .test_frames = 1, .dip_iterations = 3, .dip_crops = 1,
     .learning_rate = 3e-3, .no_dropout = 1, .kinds = 1, .curves = 2,
     .shrink = 2},
};

int repro_scale_find(repro_scale *scale, const char *text)
{
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        if (strcmp(text, scales[i].name) == 0) {
            *scale = scales[i];
            return CLI_OK;
        }
    }
    char *end;
    double factor = strtod(text, &end);
    if (*end != '\0' || end == text || !(factor > 0 && factor <= 1)) {
        return cli_error(CLI_USAGE, "--scale: '%s' is not full, small, tiny or a factor above 0, up to 1", text);
    }
    *scale = (repro_scale){.width = factor, .share = factor};
    snprintf(scale->name, sizeof scale->name, "%.6g", factor);
    return CLI_OK;
}

// ---- The network ------------------------------------------------------------------------------------------------

static int is_lvae(int32_t family)
{
    return family == USPLIT_FAMILY_HVAE || family == USPLIT_FAMILY_HAE;
}

static int32_t scaled(int32_t published, double width)
{
    int32_t n = width > 0 ? (int32_t)lrint(published * width) : published;
    return n < 4 && published >= 4 ? 4 : n;
}

// The published defaults are written out, so that they can be scaled and told.
static int make_network(usplit_model_options *o, const repro_request *request, const repro_row *row)
{
    int rc;
    const repro_scale *scale = &request->scale;
    int family_asked = is_lvae(row->family) && request->family >= 0;
    CLI_LIB(usplit_model_options_init(o, sizeof *o));
    o->family = family_asked ? request->family : row->family;
    o->logvar = !family_asked ? row->logvar :
                o->family == USPLIT_FAMILY_HAE ? USPLIT_LOGVAR_NONE : USPLIT_LOGVAR_PIXELWISE;
    o->variant = row->variant;
    o->levels = row->levels > 0 ? row->levels : row->family == USPLIT_FAMILY_UNET ? 5 :
                row->variant == USPLIT_VARIANT_DEEP ? 8 : 4;
    if (row->variant != USPLIT_VARIANT_VANILLA && row->variant != USPLIT_VARIANT_CONTEXT_AWARE) {
        o->lc_count = row->lc > 0 ? row->lc : row->family == USPLIT_FAMILY_BRAVENET ? 1 : 4;
    }
    o->filters = scaled(row->filters > 0 ? row->filters : is_lvae(row->family) ? 64 : 32, scale->width);
    o->z_dims[0] = is_lvae(row->family) ? scaled(128, scale->width) : 0;
    o->patch = (row->patch > 0 ? row->patch : 64) / (scale->shrink > 0 ? scale->shrink : 1);
    o->dropout = row->family == USPLIT_FAMILY_UNET || scale->no_dropout ? -1 : 0.1;
    o->seed = (uint64_t)request->seed;
done:
    return rc;
}

// ---- The training -----------------------------------------------------------------------------------------------

// So many pixels for every row, whatever its patch and batch: steps follow, and epochs are parts of them.
static void limit_training(usplit_trainer_options *o, const repro_scale *scale, double patches, double area)
{
    double rows = patches / area;
    if (scale->batch > 0) {
        o->batch = (int32_t)fmax(1, lrint(scale->batch / area));
    }
    int64_t steps = (int64_t)ceil(rows / o->batch), epochs = scale->epochs > 0 ? scale->epochs : o->max_epochs;
    steps = steps < 1 ? 1 : steps;
    o->max_steps = steps;
    o->steps_per_epoch = (steps + epochs - 1) / epochs;
    o->max_epochs = (int32_t)((steps + o->steps_per_epoch - 1) / o->steps_per_epoch);
    o->early_stop_patience = o->max_epochs;
    o->lr_patience = scale->lr_patience > 0 ? scale->lr_patience : o->lr_patience;
}

static int make_training(repro_settings *s, const repro_request *request, const repro_row *row,
                         const repro_task *task)
{
    int rc;
    const repro_scale *scale = &request->scale;
    const repro_recipe *recipe = task->recipe.epochs > 0 ? &task->recipe :
                                 task->source == REPRO_HAGEN && row->hagen.epochs > 0 ? &row->hagen : &row->recipe;
    usplit_trainer_options *o = &s->trainer;
    CLI_LIB(usplit_trainer_options_init(o, sizeof *o));
    o->batch = recipe->batch > 0 ? recipe->batch : o->batch;
    o->lr_patience = recipe->epochs > 0 ? recipe->lr_patience : o->lr_patience;
    o->max_epochs = recipe->epochs > 0 ? recipe->epochs : o->max_epochs;
    o->early_stop_patience = recipe->epochs > 0 ? recipe->patience : o->early_stop_patience;
    int reduced = scale->patches > 0 || scale->share > 0;
    double patches = scale->share > 0 ? scale->share * task->patches : scale->patches;
    if (request->steps > 0) {
        patches = (double)request->steps * (scale->batch > 0 ? scale->batch : 32);
    }
    if (reduced) {
        limit_training(o, scale, patches, s->area);
    } else if (request->steps > 0) {
        o->max_steps = request->steps;
    }
    if (scale->val_patches > 0) {
        o->max_validation_patches = (int64_t)fmax(2, (double)scale->val_patches / s->area);
    }
    o->learning_rate = scale->learning_rate > 0 ? scale->learning_rate : o->learning_rate;
    o->memory_budget = request->memory;
    o->seed = (uint64_t)request->seed;
    s->minutes = request->minutes;
done:
    return rc;
}

// Six crops of 256 x 256 of every frame, 4000 iterations each (data 8, networks 9.2).
static void make_dip(repro_settings *s, const repro_scale *scale)
{
    s->dip_iterations = scale->share > 0 ? (int64_t)ceil(4000 * scale->share) :
                        scale->dip_iterations > 0 ? scale->dip_iterations : 4000;
    s->dip_crops = scale->dip_crops > 0 ? scale->dip_crops : 6;
    s->dip_side = 256 / (scale->shrink > 0 ? scale->shrink : 1);
}

// ---- Data and evaluation ----------------------------------------------------------------------------------------

static int64_t part_of(int64_t published, int64_t reduced, double share)
{
    int64_t n = share > 0 ? (int64_t)lrint(share * (double)published) : reduced > 0 ? reduced : published;
    return n < 10 ? 10 : n > published ? published : n;
}

static int make_data(repro_settings *s, const repro_request *request, const repro_task *task)
{
    int rc = CLI_OK, shrink = request->scale.shrink > 0 ? request->scale.shrink : 1;
    const repro_scale *scale = &request->scale;
    usplit_critter_options *c = &s->critters;
    if (task->source == REPRO_CRITTERS) {
        CLI_LIB(usplit_critter_options_init(c, sizeof *c));
        c->n_frames = part_of(task->frames, scale->critter_frames, scale->share);
        c->size = task->side / shrink;
        c->n_curves = scale->curves > 0 ? scale->curves : c->n_curves;
        c->joiner = task->joiner;
        c->joiner_fraction = task->joiner_fraction;
        c->kinds = request->kinds > 0 ? (int32_t)request->kinds : scale->kinds > 0 ? scale->kinds : 2;
        c->seed = (uint64_t)request->seed;
    } else if (task->source != REPRO_OWN) {
        int reduced = scale->share > 0 || scale->image_frames > 0;
        s->frames = reduced ? part_of(task->frames, scale->image_frames, scale->share) : 0;
        s->crop = scale->crop;
        s->drop_last = scale->crop > 0 ? 0 : task->drop_last;
    }
done:
    return rc;
}

int repro_settings_make(repro_settings *s, const repro_request *request, const repro_row *row,
                        const repro_task *task)
{
    int rc, shrink = request->scale.shrink > 0 ? request->scale.shrink : 1;
    double side = (row->patch > 0 ? row->patch : 64) / 64.0;
    memset(s, 0, sizeof *s);
    s->area = side * side;
    CLI_TRY(make_network(&s->model, request, row));
    CLI_TRY(make_training(s, request, row, task));
    CLI_TRY(make_data(s, request, task));
    make_dip(s, &request->scale);
    s->evals = request->experiment->evals;
    s->test_frames = request->scale.test_frames;
    s->n_evals = request->experiment->n_evals;
    for (int i = 0; i < s->n_evals; i++) {
        int32_t pad = request->experiment->evals[i].pad;
        s->pads[i] = (pad >= 0 ? pad : row->pad) / shrink;
    }
done:
    return rc;
}

int repro_settings_paper(repro_settings *s, const repro_request *request, const repro_row *row,
                         const repro_task *task)
{
    repro_request published = *request;
    published.scale = scales[0];
    published.family = -1;
    published.kinds = published.steps = published.memory = 0;
    published.minutes = 0;
    return repro_settings_make(s, &published, row, task);
}

// ---- Told in words ----------------------------------------------------------------------------------------------

typedef struct pair_list {
    repro_pair *pairs;
    int n;
} pair_list;

static void put_text(pair_list *list, const char *key, const char *value)
{
    if (list->n < REPRO_MAX_PAIRS) {
        repro_pair *p = &list->pairs[list->n++];
        snprintf(p->key, sizeof p->key, "%s", key);
        snprintf(p->value, sizeof p->value, "%s", value);
    }
}

// A negative number is shown as `otherwise`.
static void put_number(pair_list *list, const char *key, double value, const char *otherwise)
{
    char text[32];
    snprintf(text, sizeof text, "%.10g", value);
    put_text(list, key, value < 0 ? otherwise : text);
}

// A limit: 0 is shown as `otherwise`.
static void put_limit(pair_list *list, const char *key, double value, const char *otherwise)
{
    put_number(list, key, value > 0 ? value : -1, otherwise);
}

static void list_network(pair_list *list, const usplit_model_options *m)
{
    put_text(list, "family", names_title(&names_family, m->family));
    put_text(list, "variant", names_title(&names_variant, m->variant));
    put_number(list, "levels", m->levels, "");
    put_number(list, "context inputs", m->lc_count, "");
    put_number(list, "filters", m->filters, "");
    if (is_lvae(m->family)) {
        put_number(list, "latent channels", m->z_dims[0], "");
        put_text(list, "log-variance", names_word(&names_logvar, m->logvar));
    }
    put_number(list, "patch", m->patch, "");
    put_number(list, "dropout", m->dropout, "none");
    put_number(list, "seed", (double)m->seed, "");
}

static void list_training(pair_list *list, const repro_settings *s)
{
    const usplit_trainer_options *t = &s->trainer;
    put_number(list, "batch", t->batch, "");
    put_limit(list, "steps", (double)t->max_steps, "no limit");
    put_number(list, "epochs", t->max_epochs, "");
    put_limit(list, "steps per epoch", (double)t->steps_per_epoch, "every patch once");
    put_number(list, "learning rate", t->learning_rate, "");
    put_number(list, "epochs until the rate is halved", t->lr_patience, "");
    put_number(list, "epochs until the end", t->early_stop_patience, "");
    put_limit(list, "validation patches", (double)t->max_validation_patches, "all");
    if (s->minutes > 0) {
        put_number(list, "minutes", s->minutes, "");
    }
    if (t->memory_budget > 0) {
        put_number(list, "memory budget", (double)t->memory_budget, "");
    }
}

int repro_settings_list(const repro_settings *s, const repro_row *row, const repro_task *task,
                        repro_pair pairs[REPRO_MAX_PAIRS])
{
    pair_list list = {pairs, 0};
    const usplit_critter_options *c = &s->critters;
    put_text(&list, "task", task->key);
    if (row->kind == REPRO_NETWORK) {
        list_network(&list, &s->model);
        list_training(&list, s);
    } else {
        put_number(&list, "iterations", (double)s->dip_iterations, "");
        put_number(&list, "crops of a frame", (double)s->dip_crops, "");
        put_number(&list, "side of a crop", (double)s->dip_side, "");
        put_number(&list, "seed", (double)s->model.seed, "");
        put_limit(&list, "minutes", s->minutes, "no limit");
    }
    if (task->source == REPRO_CRITTERS) {
        put_number(&list, "frames", (double)c->n_frames, "");
        put_number(&list, "frame side", (double)c->size, "");
        put_number(&list, "curves per channel", c->n_curves, "");
        put_number(&list, "kinds of curves per channel", c->kinds, "");
        put_number(&list, "joiner, part of the curve", c->joiner ? c->joiner_fraction : 0, "");
    } else if (task->source != REPRO_OWN) {
        put_limit(&list, "frames", (double)s->frames, "all");
        put_limit(&list, "central square of frames", (double)s->crop, "whole frames");
        put_number(&list, "last rows, columns not scored", (double)s->drop_last, "");
    }
    put_limit(&list, "test frames", (double)s->test_frames, "all");
    for (int i = 0; i < s->n_evals && row->kind == REPRO_NETWORK; i++) {
        char key[32];
        snprintf(key, sizeof key, "pad, %s", s->evals[i].title);
        put_number(&list, key, s->pads[i], "");
    }
    return list.n;
}

// FNV-1a, 64 bits.
static uint64_t mix(uint64_t hash, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        hash = (hash ^ *p) * 1099511628211u;
    }
    return (hash ^ '\n') * 1099511628211u;
}

void repro_settings_hash(char hash[17], const repro_pair *pairs, int n, const char *data)
{
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < n; i++) {
        h = mix(mix(h, pairs[i].key), pairs[i].value);
    }
    snprintf(hash, 17, "%016llx", (unsigned long long)mix(h, data));
}
