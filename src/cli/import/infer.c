// Names and shapes of the published code (networks 10.2, 10.4, 10.5) give levels, context inputs, filters, latents,
// blocks, gates and merges. What leaves no trace in them is the kind of activation and of log-variance, and whether a
// network draws latents at all. The last has one in their values: a training without latents never touches the top
// prior, which starts as zeros.
#include "cli/import/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int64_t dim(const checkpoint_array *a, int i)
{
    int64_t n = a != NULL && i < a->n_dims ? a->dims[i] : 0;
    return n < 65536 ? n : 65536;
}

static void assume(infer_network *out, const char *what, const char *value)
{
    size_t n = strlen(out->assumed);
    snprintf(out->assumed + n, sizeof out->assumed - n, "%s%s %s", n > 0 ? ", " : "", what, value);
}

// ---- The configuration, where there is one -------------------------------------------------------------------

static void take_number(double *value, const checkpoint *c, const char *section, const char *key)
{
    pickle_number(checkpoint_setting(c, section, key), value);
}

// The place of a text among words; -1: it is none of them, or missing.
static int word_of(const pickle_value *v, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (pickle_is(v, words[i])) {
            return i;
        }
    }
    return -1;
}

static void take_configuration(infer_network *out, const checkpoint *c)
{
    static const char *const activations[] = {"elu", "relu", "leakyrelu", NULL};
    static const char *const logvars[] = {"pixelwise", "none", "channelwise", "global", NULL};
    double patch = -1, stochastic = -1;
    network_args *a = &out->args;
    const pickle_value *logvar = checkpoint_setting(c, "model", "predict_logvar");
    take_number(&patch, c, "data", "image_size");
    take_number(&stochastic, c, "model", "non_stochastic_version");
    take_number(&out->logvar_lower_bound, c, "model", "logvar_lowerbound");
    take_number(&out->var_clip_max, c, "model", "var_clip_max");
    a->patch = a->patch < 0 && patch >= 1 && patch <= 65536 ? (int64_t)patch : a->patch;
    if (a->family < 0 && stochastic >= 0) {
        a->family = stochastic > 0 ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
    }
    if (a->activation < 0) {
        a->activation = word_of(checkpoint_setting(c, "model", "nonlin"), activations);
    }
    if (a->logvar < 0) {
        a->logvar = logvar != NULL && logvar->kind == PICKLE_NONE ? USPLIT_LOGVAR_NONE : word_of(logvar, logvars);
    }
}

// ---- HVAE and HAE -----------------------------------------------------------------------------------------------

static int all_zero(checkpoint *c, const checkpoint_array *a, int *zero)
{
    float *values = cli_alloc((size_t)a->count, sizeof *values);
    int rc = values != NULL ? checkpoint_read(c, a, values) : CLI_FAILED;
    *zero = rc == CLI_OK;
    for (int64_t i = 0; *zero && i < a->count; i++) {
        *zero = values[i] == 0;
    }
    free(values);
    return rc;
}

// The prior's side is the patch's, halved once per level; Regular and Deep-LC halve where there is no context only
// (networks 3.4). Either the variant or the patch must be known, or the patch be the published one, 64.
static int choose_patch(network_args *a, const checkpoint *c, int64_t side)
{
    int64_t halved = side << a->levels, kept = side << (a->levels > a->lc ? a->levels - a->lc : 0);
    int retains = a->levels > 4 ? USPLIT_VARIANT_DEEP : USPLIT_VARIANT_REGULAR;
    if (a->variant < 0) {
        int64_t patch = a->patch > 0 ? a->patch : 64;
        if (a->lc > 0 && a->patch < 0 && patch != halved && patch != kept) {
            return cli_error(CLI_USAGE, "%s: --patch is needed: its prior of %lld x %lld fits Lean-LC with patches of "
                             "%lld, and Regular or Deep-LC with patches of %lld", c->path, (long long)side,
                             (long long)side, (long long)halved, (long long)kept);
        }
        a->variant = a->lc == 0 ? USPLIT_VARIANT_VANILLA : patch == halved ? USPLIT_VARIANT_LEAN : retains;
    }
    if (a->patch < 0) {
        a->patch = a->variant == USPLIT_VARIANT_REGULAR || a->variant == USPLIT_VARIANT_DEEP ? kept : halved;
    }
    return CLI_OK;
}

static void choose_latents(infer_network *out, checkpoint *c)
{
    network_args *a = &out->args;
    for (int i = 0, n = 0; a->z == NULL && i < a->levels; i++) {
        int64_t rows = dim(checkpoint_find(c, "top_down_layers.%d.stochastic.conv_in_q.weight", i), 0);
        n += snprintf(out->z + n, sizeof out->z - (size_t)n, "%s%lld", i > 0 ? "," : "",
                      rows >= 2 ? (long long)rows / 2 : 1);
    }
    a->z = a->z != NULL ? a->z : out->z;
}

// And the kind of KL term, which an HAE has none of.
static int choose_family(infer_network *out, checkpoint *c, const checkpoint_array *prior)
{
    int zero = 0, rc = CLI_OK;
    double analytical = 0;
    if (out->args.family < 0) {
        rc = all_zero(c, prior, &zero);
        out->args.family = zero ? USPLIT_FAMILY_HAE : USPLIT_FAMILY_HVAE;
        assume(out, "--family", zero ? "hae (its top prior was never trained)" : "hvae (its top prior was trained)");
    }
    take_number(&analytical, c, "model", "analytical_kl");
    if (out->args.kl < 0 && analytical > 0 && out->args.family == USPLIT_FAMILY_HVAE) {
        out->args.kl = USPLIT_KL_ANALYTICAL;
    }
    return rc;
}

// Twice the channels, or none of the log-variances.
static void choose_head(infer_network *out, checkpoint *c)
{
    int64_t rows = dim(checkpoint_find(c, "likelihood.parameter_net.weight"), 0);
    if (out->channels > 0) {
        out->args.logvar = out->args.logvar < 0 && rows == out->channels ? USPLIT_LOGVAR_NONE : out->args.logvar;
        return;
    }
    if (out->args.logvar < 0 && (rows % 2 != 0 || rows < 4)) {
        out->args.logvar = USPLIT_LOGVAR_NONE;
    }
    out->channels = out->args.logvar == USPLIT_LOGVAR_NONE ? rows : rows / 2;
}

// 1: the context's own layers are not its own: there are none, or they are the patch's under a second name.
static int is_shared(checkpoint *c, const char *own, const char *patch)
{
    const checkpoint_array *a = checkpoint_find(c, "%s", own), *b = checkpoint_find(c, "%s", patch);
    return b != NULL && (a == NULL || checkpoint_same(a, b));
}

static void choose_blocks(network_args *a, checkpoint *c)
{
    const char *merge = "top_down_layers.0.merge.layer.";
    if (a->blocks < 0) {
        a->blocks = 1;
        while (a->blocks < 8 && checkpoint_find(c, "top_down_layers.0.deterministic_block.%d.res.block.2.weight",
                                                (int)a->blocks) != NULL) {
            a->blocks++;
        }
    }
    if (a->ungated < 0) {
        a->ungated = checkpoint_find(c, "bottom_up_layers.0.net_downsized.0.res.block.8.conv.weight") == NULL;
    }
    if (a->merge < 0 && checkpoint_find(c, "%s0.weight", merge) != NULL) {
        a->merge = checkpoint_find(c, "%s1.block.8.conv.weight", merge) != NULL ? USPLIT_MERGE_RESIDUAL :
                   checkpoint_find(c, "%s1.block.2.weight", merge) != NULL ? USPLIT_MERGE_RESIDUAL_UNGATED :
                   USPLIT_MERGE_LINEAR;
    }
    if (a->shared_branch < 0 && a->blocks > 1 && a->lc > 0) {
        a->shared_branch = is_shared(c, "bottom_up_layers.0.lowres_net.0.res.block.2.weight",
                                     "bottom_up_layers.0.net.0.res.block.2.weight");
    }
}

// How many arrays there are whose names differ by a number that counts from `first`.
static int64_t count(checkpoint *c, const char *before, int first, const char *after, int most)
{
    int n = 0;
    while (n < most && checkpoint_find(c, "%s%d%s", before, first + n, after) != NULL) {
        n++;
    }
    return n;
}

static int infer_lvae(infer_network *out, checkpoint *c)
{
    network_args *a = &out->args;
    int rc;
    if (a->levels < 0) {
        a->levels = count(c, "top_down_layers.", 0, ".stochastic.conv_in_q.weight", USPLIT_MAX_LEVELS);
    }
    if (a->levels == 0) {
        return cli_error(CLI_FAILED, "%s: parameter 'top_down_layers.0.stochastic.conv_in_q.weight' is missing; "
                         "expected in every HVAE and HAE", c->path);
    }
    const checkpoint_array *prior = checkpoint_find(c, "top_down_layers.%d.top_prior_params", (int)a->levels - 1);
    if (prior == NULL || prior->n_dims != 4) {
        return cli_error(CLI_FAILED, "%s: 'top_down_layers.%d.top_prior_params' is missing or has another number of "
                         "axes than 4, in a network of %d levels", c->path, (int)a->levels - 1, (int)a->levels);
    }
    if (a->lc < 0) {
        a->lc = count(c, "lowres_first_bottom_ups.", 0, ".0.weight", USPLIT_MAX_LEVELS);
    }
    if (a->filters < 0) {
        a->filters = dim(checkpoint_find(c, "first_bottom_up.0.weight"), 0);
    }
    CLI_TRY(choose_family(out, c, prior));
    CLI_TRY(choose_patch(a, c, dim(prior, 2)));
    choose_blocks(a, c);
    choose_latents(out, c);
    choose_head(out, c);
    if (a->activation < 0) {
        assume(out, "--activation", names_word(&names_activation, USPLIT_ACTIVATION_ELU));
    }
    if (a->logvar < 0) {
        assume(out, "--logvar", names_word(&names_logvar, USPLIT_LOGVAR_PIXELWISE));
    }
done:
    return rc;
}

// ---- U-Net, BraveNet --------------------------------------------------------------------------------------------

static int infer_unet(infer_network *out, checkpoint *c)
{
    network_args *a = &out->args;
    const checkpoint_array *planes = checkpoint_find(c, "ct_modules.0.ct_weights");
    if (a->levels < 0) {
        a->levels = count(c, "down", 1, ".maxpool_conv.1.double_conv.0.weight", USPLIT_MAX_LEVELS);
    }
    if (a->lc < 0) {
        a->lc = count(c, "lowres_first_bottom_ups.", 0, ".0.weight", USPLIT_MAX_LEVELS);
    }
    if (a->filters < 0) {
        a->filters = dim(checkpoint_find(c, "inc.double_conv.0.weight"), 0);
    }
    if (a->variant < 0) {
        a->variant = planes != NULL ? USPLIT_VARIANT_CONTEXT_AWARE :
                     a->lc > 0 ? USPLIT_VARIANT_REGULAR : USPLIT_VARIANT_VANILLA;
    }
    if (a->patch < 0 && planes != NULL) {
        a->patch = dim(planes, 1);
    }
    if (a->shared_branch < 0 && a->lc > 0) {
        a->shared_branch = is_shared(c, "lowres_net.0.double_conv.0.weight",
                                     "down1.maxpool_conv.1.double_conv.0.weight");
    }
    out->channels = out->channels > 0 ? out->channels : dim(checkpoint_find(c, "outc.conv.weight"), 0);
    return CLI_OK;
}

static int infer_bravenet(infer_network *out, checkpoint *c)
{
    network_args *a = &out->args;
    a->filters = a->filters < 0 ? dim(checkpoint_find(c, "model.bottom_up_layers.0.0.0.weight"), 0) : a->filters;
    out->channels = out->channels > 0 ? out->channels : dim(checkpoint_find(c, "model.output_branch.0.weight"), 0);
    return CLI_OK;
}

int infer_from(infer_network *out, checkpoint *c, const network_args *given, int64_t channels)
{
    static const struct {
        const char *name;       // every network of the kind has it
        int first, last;        // families; the first is meant where none is named
        int (*infer)(infer_network *out, checkpoint *c);
    } kinds[] = {
        {"first_bottom_up.0.weight", USPLIT_FAMILY_HVAE, USPLIT_FAMILY_HAE, infer_lvae},
        {"inc.double_conv.0.weight", USPLIT_FAMILY_UNET, USPLIT_FAMILY_UNET, infer_unet},
        {"model.input_bn.weight", USPLIT_FAMILY_BRAVENET, USPLIT_FAMILY_BRAVENET, infer_bravenet},
    };
    *out = (infer_network){.args = *given, .channels = channels};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (checkpoint_find(c, "%s", kinds[i].name) == NULL) {
            continue;
        }
        if (given->family >= 0 && (given->family < kinds[i].first || given->family > kinds[i].last)) {
            return cli_error(CLI_USAGE, "--family %s was asked for, but the names in %s are those of %s",
                             names_word(&names_family, given->family), c->path,
                             names_title(&names_family, kinds[i].first));
        }
        if (kinds[i].first == USPLIT_FAMILY_HVAE) {
            take_configuration(out, c);
        } else {
            double patch = -1;
            take_number(&patch, c, "data", "image_size");
            out->args.family = kinds[i].first;
            out->args.patch = given->patch < 0 && patch >= 1 && patch <= 65536 ? (int64_t)patch : given->patch;
        }
        int rc = kinds[i].infer(out, c);
        if (rc == CLI_OK && out->args.patch < 0) {
            assume(out, "--patch", "64");
        }
        return rc;
    }
    return cli_error(CLI_FAILED, "%s holds no network that is known: an HVAE or HAE has a '%s', a U-Net a '%s', a "
                     "BraveNet a '%s'; its first name is '%s'", c->path, kinds[0].name, kinds[1].name, kinds[2].name,
                     zip_printable(c->arrays[0].name, c->arrays[0].length).text);
}

// ---- The model --------------------------------------------------------------------------------------------------

static int same_shape(const checkpoint_array *a, const int64_t *dims, int n_dims)
{
    int same = a->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++) {
        same = a->dims[i] == dims[i];
    }
    return same;
}

// Finds the array of every entry of the model and marks it; *most: elements of the largest.
static int match(const usplit_model *model, checkpoint *c, int64_t n_entries, int64_t *most)
{
    int rc = CLI_OK;
    for (int64_t i = 0; i < n_entries; i++) {
        const char *name = "";
        int64_t dims[4] = {0};
        int32_t n_dims = 0;
        CLI_LIB(usplit_model_get_entry(model, i, &name, dims, &n_dims));
        checkpoint_array *a = checkpoint_find(c, "%s", name);
        if (a == NULL) {
            return cli_error(CLI_FAILED, "%s: parameter '%s' is missing; expected: %s", c->path, name,
                             checkpoint_shape_words(dims, n_dims).text);
        }
        if (!same_shape(a, dims, n_dims)) {
            return cli_error(CLI_FAILED, "%s: parameter '%s' is %s; expected: %s", c->path, name,
                             checkpoint_shape_words(a->dims, a->n_dims).text,
                             checkpoint_shape_words(dims, n_dims).text);
        }
        a->used = 1;
        *most = a->count > *most ? a->count : *most;
    }
done:
    return rc;
}

static int has_twin(const checkpoint *c, const checkpoint_array *a)
{
    for (uint32_t i = 0; i < c->n_arrays; i++) {
        if (c->arrays[i].used && checkpoint_same(a, &c->arrays[i])) {
            return 1;
        }
    }
    return 0;
}

// What belongs to no entry may only be a second name of what does, as layers that are shared have.
static int check_rest(const checkpoint *c, int64_t n_entries)
{
    int64_t n_rest = (int64_t)c->n_arrays - n_entries;
    for (uint32_t i = 0; i < c->n_arrays; i++) {
        const checkpoint_array *a = &c->arrays[i];
        if (!a->used && (n_rest > n_entries || !has_twin(c, a))) {
            return cli_error(CLI_FAILED, "%s: '%s' (%s) has no place in the network; if it is another one, say so with "
                             "--variant, --levels and the like", c->path, zip_printable(a->name, a->length).text,
                             checkpoint_shape_words(a->dims, a->n_dims).text);
        }
    }
    return CLI_OK;
}

int infer_fill(usplit_model *model, checkpoint *c, int64_t *n_values)
{
    usplit_model_facts facts = {.struct_size = sizeof facts};
    int64_t most = 1;
    float *values = NULL;
    int rc;
    *n_values = 0;
    CLI_LIB(usplit_model_info(model, &facts));
    CLI_TRY(match(model, c, facts.n_entries, &most));
    CLI_TRY(check_rest(c, facts.n_entries));
    values = cli_alloc((size_t)most, sizeof *values);
    if (values == NULL) {
        return CLI_FAILED;
    }
    for (int64_t i = 0; i < facts.n_entries; i++) {
        const char *name = "";
        int64_t dims[4];
        int32_t n_dims;
        CLI_LIB(usplit_model_get_entry(model, i, &name, dims, &n_dims));
        const checkpoint_array *a = checkpoint_find(c, "%s", name);
        CLI_TRY(checkpoint_read(c, a, values));
        CLI_LIB(usplit_model_set_parameter(model, name, values, a->count));
        *n_values += a->count;
    }
done:
    free(values);
    return rc;
}
