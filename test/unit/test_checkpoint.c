// Checkpoints of every family and option: what is saved, loaded and trained on equals what was never interrupted, to
// the bit; files without the entries that are optional; files with values that no library of ours writes, each refused
// with one line.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "ckpt/ckpt.h"
#include "common/folder.h"
#include "common/must.h"
#include "train/trainer.h"

static usplit_context *context;
static usplit_dataset *dataset;

static int open_data(void **state)
{
    usplit_context_options co;
    usplit_critter_options cr;
    usplit_dataset_options ds;
    if (make_folder(state) != 0) {
        return 1;
    }
    must(usplit_context_options_init(&co, sizeof co));
    co.threads = 2;
    must(usplit_context_create(&context, &co));
    must(usplit_critter_options_init(&cr, sizeof cr));
    must(usplit_dataset_options_init(&ds, sizeof ds));
    cr.n_frames = 10;
    cr.size = 64;
    cr.n_curves = 2;
    ds.levels = 4;
    must(usplit_dataset_create_critters(&dataset, context, &cr, &ds));
    return 0;
}

static int close_data(void **state)
{
    (void)state;
    static const char *const names[] = {"half.h5", "again.h5", "edited.h5"};
    usplit_dataset_free(dataset);
    usplit_context_free(context);
    return remove_files(names, sizeof names / sizeof names[0]);
}

// ---- Every network ----------------------------------------------------------------------------------------------

#define LVAE .levels = 2, .filters = 4, .patch = 16, .z_dims = {3, 5}
#define U_NET .family = USPLIT_FAMILY_UNET, .levels = 3, .filters = 4, .patch = 16

static const usplit_model_options networks[] = {
    {U_NET},
    {U_NET, .variant = USPLIT_VARIANT_REGULAR},
    {U_NET, .variant = USPLIT_VARIANT_REGULAR, .shared_branch = 1, .lc_count = 1},
    {U_NET, .variant = USPLIT_VARIANT_CONTEXT_AWARE},
    {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .filters = 2, .patch = 16},
    {.family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR, .filters = 3, .patch = 16, .dropout = -1},
    {LVAE},
    {LVAE, .variant = USPLIT_VARIANT_LEAN},
    {LVAE, .variant = USPLIT_VARIANT_REGULAR},
    {.variant = USPLIT_VARIANT_DEEP, .levels = 5, .lc_count = 2, .filters = 3, .patch = 32, .z_dims = {2}},
    {.variant = USPLIT_VARIANT_DEEP, .levels = 5, .lc_count = 2, .filters = 3, .patch = 32, .z_dims = {2},
     .latent_scale = USPLIT_LATENT_SCALE_PAPER},
    {.variant = USPLIT_VARIANT_DEEP, .levels = 5, .lc_count = 2, .filters = 3, .patch = 32, .z_dims = {2},
     .latent_scale = USPLIT_LATENT_SCALE_NONE},
    {LVAE, .family = USPLIT_FAMILY_HAE},
    {LVAE, .family = USPLIT_FAMILY_HAE, .variant = USPLIT_VARIANT_REGULAR, .logvar = USPLIT_LOGVAR_NONE},
    {LVAE, .variant = USPLIT_VARIANT_LEAN, .blocks = 2},
    {LVAE, .variant = USPLIT_VARIANT_REGULAR, .blocks = 3, .shared_branch = 1},
    {LVAE, .activation = USPLIT_ACTIVATION_RELU},
    {LVAE, .activation = USPLIT_ACTIVATION_LEAKY_RELU, .dropout = 0.4},
    {LVAE, .logvar = USPLIT_LOGVAR_CHANNELWISE, .logvar_lower_bound = -10},
    {LVAE, .logvar = USPLIT_LOGVAR_GLOBAL, .var_clip_max = 0.5},
    {LVAE, .merge = USPLIT_MERGE_RESIDUAL_UNGATED, .ungated = 1},
    {LVAE, .merge = USPLIT_MERGE_LINEAR, .kl = USPLIT_KL_ANALYTICAL},
};
enum { N_NETWORKS = sizeof networks / sizeof *networks };

typedef struct session {
    usplit_model *model;
    usplit_trainer *trainer;
} session;

static session start(const usplit_model_options *network)
{
    session s;
    usplit_model_options mo = *network;
    usplit_trainer_options to;
    mo.struct_size = sizeof mo;
    must(usplit_trainer_options_init(&to, sizeof to));
    to.batch = 3;
    to.seed = 3;
    to.steps_per_epoch = 3;
    to.max_validation_patches = 2;
    to.learning_rate = 3e-3;
    must(usplit_model_create(&s.model, context, &mo));
    must(usplit_trainer_create(&s.trainer, s.model, dataset, &to));
    return s;
}

static void stop(session *s)
{
    usplit_trainer_free(s->trainer);
    usplit_model_free(s->model);
}

static void steps(session *s, int n)
{
    for (int i = 0; i < n; i++) {
        must(usplit_trainer_step(s->trainer));
    }
}

enum { SIDE = 40 };

static void predict(const usplit_model *model, float *planes)
{
    static float pixels[SIDE * SIDE];
    usplit_tiler_options to;
    usplit_tiler *tiler;
    usplit_image in, out;
    for (int i = 0; i < SIDE * SIDE; i++) {
        pixels[i] = (float)((i * 37 + i / SIDE * 11) % 23);
    }
    must(usplit_tiler_options_init(&to, sizeof to));
    to.seed = 5;
    must(usplit_tiler_create(&tiler, model, &to));
    must(usplit_image_init(&in, sizeof in, pixels, USPLIT_TYPE_F32, 1, SIDE, SIDE, 1));
    must(usplit_image_init(&out, sizeof out, planes, USPLIT_TYPE_F32, 1, SIDE, SIDE, 2));
    must(usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL));
    usplit_tiler_free(tiler);
}

static void same_model(const usplit_model *a, const usplit_model *b)
{
    static float planes[2][SIDE * SIDE * 2];
    assert_true(us_net_config_equal(&a->graph->config, &b->graph->config));
    assert_memory_equal(a->params, b->params, (size_t)a->graph->n_floats * sizeof(float));
    predict(a, planes[0]);
    predict(b, planes[1]);
    assert_memory_equal(planes[0], planes[1], sizeof planes[0]);
    double most = 0;
    for (int i = 0; i < SIDE * SIDE * 2; i++) {
        assert_true(isfinite(planes[0][i]));
        most = fmax(most, fabs((double)planes[0][i] - planes[0][0]));
    }
    assert_true(most > 0);
}

static size_t read_all(const char *name, unsigned char **bytes)
{
    FILE *f = fopen(in_folder(name), "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    *bytes = malloc(n);
    assert_int_equal(fread(*bytes, 1, n, f), n);
    fclose(f);
    return n;
}

static void same_files(const char *a, const char *b)
{
    unsigned char *x, *y;
    size_t n = read_all(a, &x);
    assert_int_equal(read_all(b, &y), n);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

// Two steps, a file, and over the end of an epoch: as if there had been no file.
static void every_network_goes_on_as_if_never_stopped(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        session whole = start(&networks[i]), half = start(&networks[i]), rest = start(&networks[i]);
        usplit_model *loaded;
        size_t floats = (size_t)whole.model->graph->n_floats;
        steps(&whole, 5);
        steps(&half, 2);
        must(usplit_trainer_save(half.trainer, in_folder("half.h5")));
        must(usplit_model_load(&loaded, context, in_folder("half.h5")));
        same_model(half.model, loaded);
        double error;
        must(usplit_model_check(loaded, &error));
        assert_true(error <= 1e-6);
        must(usplit_model_save(half.model, in_folder("edited.h5")));
        must(usplit_model_save(loaded, in_folder("again.h5")));
        same_files("edited.h5", "again.h5");
        usplit_model_free(loaded);
        must(usplit_trainer_resume(rest.trainer, in_folder("half.h5")));
        steps(&rest, 3);
        same_model(whole.model, rest.model);
        assert_memory_equal(whole.trainer->state.m, rest.trainer->state.m, floats * sizeof(float));
        assert_memory_equal(whole.trainer->state.u, rest.trainer->state.u, floats * sizeof(float));
        usplit_trainer_facts a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        must(usplit_trainer_info(whole.trainer, &a));
        must(usplit_trainer_info(rest.trainer, &b));
        assert_true(a.step == 5 && b.step == 5 && a.epoch == 1 && b.epoch == 1 && a.skipped_steps == 0);
        assert_true(isfinite(a.loss) && a.loss == b.loss && a.val_psnr == b.val_psnr);
        stop(&whole);
        stop(&half);
        stop(&rest);
    }
}

// ---- Files that are edited --------------------------------------------------------------------------------------

typedef struct entries {
    us_ckpt_entry *list;
    size_t n;
} entries;

static size_t bytes_of(const us_ckpt_entry *e)
{
    size_t n = e->type == US_CKPT_TEXT ? 1 : e->type == US_CKPT_F32 ? 4 : 8;
    for (int i = 0; i < e->n_dims; i++) {
        n *= (size_t)e->dims[i];
    }
    return n;
}

static entries read_entries(const char *name)
{
    us_ckpt *c;
    must(us_ckpt_open(&c, NULL, in_folder(name)));
    entries all = {.n = us_ckpt_count(c)};
    all.list = calloc(all.n, sizeof *all.list);
    for (size_t i = 0; i < all.n; i++) {
        us_ckpt_entry e = *us_ckpt_at(c, i);
        void *data = calloc(1, bytes_of(&e) + 1);
        must(us_ckpt_read(c, e.path, e.type, e.n_dims, e.dims, data));
        e.path = strdup(e.path);
        e.data = data;
        all.list[i] = e;
    }
    us_ckpt_close(c);
    return all;
}

static void free_entries(entries *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free((void *)(uintptr_t)all->list[i].path);
        free((void *)(uintptr_t)all->list[i].data);
    }
    free(all->list);
}

static us_ckpt_entry *entry(entries *all, const char *path)
{
    for (size_t i = 0; i < all->n; i++) {
        if (strcmp(all->list[i].path, path) == 0) {
            return &all->list[i];
        }
    }
    fail_msg("no entry '%s'", path);
    return NULL;
}

// Without the entry `path` or, where it ends in '/', the group; returns how many entries went.
static int leave_out(entries *all, const char *path)
{
    size_t kept = 0, n = strlen(path);
    int gone = 0, group = path[n - 1] == '/';
    for (size_t i = 0; i < all->n; i++) {
        if (strncmp(all->list[i].path, path, n) == 0 && (group || all->list[i].path[n] == 0)) {
            free((void *)(uintptr_t)all->list[i].path);
            free((void *)(uintptr_t)all->list[i].data);
            gone++;
        } else {
            all->list[kept++] = all->list[i];
        }
    }
    all->n = kept;
    return gone;
}

static void write_entries(const entries *all)
{
    must(us_ckpt_write(NULL, in_folder("edited.h5"), all->list, all->n));
}

static void make_file(const usplit_model_options *network)
{
    session s = start(network);
    steps(&s, 4);
    must(usplit_trainer_save(s.trainer, in_folder("half.h5")));
    stop(&s);
}

static usplit_model *load_without(const char *path)
{
    usplit_model *m;
    entries all = read_entries("half.h5");
    assert_true(leave_out(&all, path) > 0);
    write_entries(&all);
    free_entries(&all);
    must(usplit_model_load(&m, context, in_folder("edited.h5")));
    return m;
}

static void optional_entries_have_defaults(void **state)
{
    (void)state;
    static const char *const choices[] = {"model/blocks", "model/activation", "model/logvar", "model/merge", "model/kl",
                                          "model/latent_scale", "model/shared_branch", "model/ungated"};
    usplit_model *whole, *m;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    double error;
    make_file(&networks[8]);
    must(usplit_model_load(&whole, context, in_folder("half.h5")));
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {     // the published value
        m = load_without(choices[i]);
        same_model(whole, m);
        usplit_model_free(m);
    }
    m = load_without("record/history");
    assert_int_equal(m->n_history, 0);
    same_model(whole, m);
    usplit_model_free(m);
    m = load_without("selftest/");
    assert_int_equal(usplit_model_check(m, &error), USPLIT_ERR_STATE);
    same_model(whole, m);
    usplit_model_free(m);
    m = load_without("model/library_version");
    same_model(whole, m);
    usplit_model_free(m);
    m = load_without("normalisation/");
    must(usplit_model_info(m, &facts));
    assert_int_equal(facts.has_normalisation, 0);
    usplit_model_free(m);
    usplit_model_normalisation named = whole->normalisation;    // names are optional one by one
    snprintf(named.channel_names[0], USPLIT_NAME_BYTES, "actin");
    snprintf(named.channel_names[1], USPLIT_NAME_BYTES, "tubulin");
    must(usplit_model_set_normalisation(whole, &named));
    must(usplit_model_save(whole, in_folder("half.h5")));
    m = load_without("normalisation/channel_name_0");
    must(usplit_model_info(m, &facts));
    assert_string_equal(facts.channel_names[0], "");
    assert_string_equal(facts.channel_names[1], "tubulin");
    usplit_model_free(m);
    make_file(&networks[8]);
    m = load_without("trainer/");       // a model, but no training
    same_model(whole, m);
    usplit_model_free(m);
    usplit_model_free(whole);
    session s = start(&networks[8]);
    assert_int_equal(usplit_trainer_resume(s.trainer, in_folder("edited.h5")), USPLIT_ERR_STATE);
    stop(&s);
}

// ---- Hostile values ---------------------------------------------------------------------------------------------

typedef struct hostile {
    const char *path;
    double value;               // written as the entry's type; of an array: at its second place
    const char *words;          // in the message
} hostile;

static const hostile in_the_model[] = {
    {"model/format", 1000, "newer version"}, {"model/format", -1, "model/format"},
    {"model/family", 4, "family"}, {"model/family", -1, "model/family"}, {"model/variant", 9, "variant"},
    {"model/levels", 0, "model/levels"}, {"model/levels", 1e9, "model/levels"}, {"model/levels", 3, "model/z_dims"},
    {"model/lc_count", 3, "lc_count"}, {"model/lc_count", -2, "model/lc_count"}, {"model/filters", 0, "model/filters"},
    {"model/filters", 4000, "filters"}, {"model/filters", 5, "expected"}, {"model/patch", 1e6, "model/patch"},
    {"model/patch", 17, "patch"}, {"model/channels", 1, "channels"}, {"model/channels", 100, "channels"},
    {"model/channels", 3, "expected"}, {"model/z_dims", 0, "model/z_dims"}, {"model/z_dims", 1e15, "model/z_dims"},
    {"model/dropout", NAN, "dropout"}, {"model/dropout", 1, "dropout"}, {"model/logvar_lower_bound", NAN, "bound"},
    {"model/logvar_lower_bound", INFINITY, "bound"}, {"model/var_clip_max", NAN, "var_clip_max"},
    {"model/blocks", 9, "blocks"}, {"model/blocks", -1, "model/blocks"}, {"model/activation", 3, "activation"},
    {"model/logvar", 4, "logvar"}, {"model/merge", 3, "merge"}, {"model/kl", 2, "kl"},
    {"model/latent_scale", 3, "latent_scale"}, {"model/shared_branch", 1, "shared_branch"},
    {"model/ungated", 2, "ungated"}, {"model/ungated", 1e12, "model/ungated"},
    {"normalisation/clip_value", NAN, "normalisation"}, {"normalisation/input_mean", INFINITY, "normalisation"},
    {"normalisation/input_deviation", 0, "normalisation"}, {"normalisation/input_deviation", INFINITY, "normalisation"},
    {"normalisation/target_mean", NAN, "normalisation"}, {"normalisation/target_deviation", -1, "normalisation"},
    {"normalisation/target_deviation", INFINITY, "normalisation"}, {"normalisation/padding", 2, "padding"},
    {"normalisation/padding_value", NAN, "normalisation"}, {"normalisation/pixel_size", -1, "normalisation"},
    {"normalisation/pixel_size", NAN, "normalisation"},
    {"record/epochs", -1, "record/epochs"}, {"record/steps", -1, "record/steps"},
    {"parameters/first_bottom_up.0.bias", NAN, "not finite"},
    {"parameters/first_bottom_up.2.res.block.0.running_var", -1, "variance"},
    {"parameters/first_bottom_up.2.res.block.0.num_batches_tracked", -1, "num_batches_tracked"},
};

static const hostile in_the_training[] = {
    {"trainer/step", -1, "trainer/step"}, {"trainer/updates", -1, "trainer/updates"},
    {"trainer/skipped", -5, "trainer/skipped"}, {"trainer/epoch", -1, "trainer/epoch"},
    {"trainer/epoch", 1e15, "trainer/epoch"}, {"trainer/item", -1, "trainer/item"},
    {"trainer/item", 10, "trainer/item"}, {"trainer/item", 1e17, "trainer/item"},
    {"trainer/schedule_bad", -1, "trainer/schedule_bad"}, {"trainer/early_bad", -1, "trainer/early_bad"},
    {"trainer/best_epoch", -2, "trainer/best_epoch"}, {"trainer/stopped_early", 2, "trainer/stopped_early"},
    {"trainer/epoch_steps", -1, "trainer/epoch_steps"}, {"trainer/good_steps", -1, "trainer/good_steps"},
    {"trainer/good_steps", 1e12, "trainer/good_steps"}, {"trainer/learning_rate", NAN, "trainer/learning_rate"},
    {"trainer/learning_rate", -1, "trainer/learning_rate"}, {"trainer/epoch_loss", INFINITY, "trainer/epoch_loss"},
    {"trainer/seconds", NAN, "trainer/seconds"}, {"trainer/loss_scale", 0, "trainer/loss_scale"},
    {"trainer/loss_scale", INFINITY, "trainer/loss_scale"},
    {"trainer/m/first_bottom_up.0.bias", NAN, "not finite"}, {"trainer/u/first_bottom_up.0.bias", -1, "trainer/u"},
};

static void edit(const hostile *h)
{
    entries all = read_entries("half.h5");
    us_ckpt_entry *e = entry(&all, h->path);
    char *data = (char *)(uintptr_t)e->data;
    size_t at = e->n_dims > 0 && e->dims[0] > 1;
    int64_t whole = (int64_t)(isfinite(h->value) ? h->value : 0);
    float single = (float)h->value;
    if (e->type == US_CKPT_I64) {
        memcpy(data + 8 * at, &whole, 8);
    } else if (e->type == US_CKPT_F64) {
        memcpy(data + 8 * at, &h->value, 8);
    } else {
        memcpy(data + 4 * at, &single, 4);
    }
    write_entries(&all);
    free_entries(&all);
}

static void refused_entry(const hostile *h, usplit_status status)
{
    const char *message = usplit_error_message();
    if (status != USPLIT_ERR_FORMAT) {
        fail_msg("%s = %g: status %d, expected %d (%s)", h->path, h->value, status, USPLIT_ERR_FORMAT, message);
    }
    if (strstr(message, h->words) == NULL || strchr(message, '\n') != NULL) {
        fail_msg("%s = %g: \"%s\" should be one line with '%s'", h->path, h->value, message, h->words);
    }
}

static void hostile_values_are_refused(void **state)
{
    (void)state;
    make_file(&networks[8]);
    size_t live = us_alloc_live();
    for (size_t i = 0; i < sizeof in_the_model / sizeof *in_the_model; i++) {
        usplit_model *m;
        edit(&in_the_model[i]);
        usplit_status status = usplit_model_load(&m, context, in_folder("edited.h5"));
        refused_entry(&in_the_model[i], status);
        assert_null(m);
        assert_true(us_alloc_live() == live);
    }
}

// And the trainer that was asked goes on as before.
static void hostile_trainings_are_refused(void **state)
{
    (void)state;
    make_file(&networks[8]);
    session s = start(&networks[8]), untouched = start(&networks[8]);
    steps(&s, 1);
    size_t live = us_alloc_live();
    for (size_t i = 0; i < sizeof in_the_training / sizeof *in_the_training; i++) {
        edit(&in_the_training[i]);
        refused_entry(&in_the_training[i], usplit_trainer_resume(s.trainer, in_folder("edited.h5")));
        assert_true(us_alloc_live() == live);
    }
    steps(&s, 3);
    steps(&untouched, 4);
    same_model(s.model, untouched.model);
    stop(&s);
    stop(&untouched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_goes_on_as_if_never_stopped),
        cmocka_unit_test(optional_entries_have_defaults),
        cmocka_unit_test(hostile_values_are_refused),
        cmocka_unit_test(hostile_trainings_are_refused),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, open_data, close_data);
}
