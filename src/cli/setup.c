// The machine, the network, and what is said about them before work begins.
#include "cli/setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/text.h"

const network_args network_args_none = {
    .family = -1, .variant = -1, .levels = -1, .lc = -1, .filters = -1, .patch = -1, .seed = -1, .dropout = NAN,
    .blocks = -1, .activation = -1, .logvar = -1, .merge = -1, .kl = -1, .latent_scale = -1, .shared_branch = -1,
    .ungated = -1,
};

static void on_log(int32_t level, const char *line, void *user)
{
    (void)user;
    if (level == USPLIT_LOG_WARNING) {
        fprintf(stderr, "usplit: warning: %s\n", line);
    }
}

int setup_context(usplit_context **out, const machine_args *args)
{
    usplit_context_options options;
    int rc;
    CLI_LIB(usplit_context_options_init(&options, sizeof options));
    progress_set_interval(args->progress);
    if (args->device != NULL) {
        options.device = args->device;
    }
    options.threads = (int32_t)args->threads;
    options.precision = args->precision;
    options.deterministic = args->deterministic;
    options.tune = args->tune;
    options.cache_folder = args->cache;
    options.log = on_log;
    CLI_LIB(usplit_context_create(out, &options));
done:
    return rc;
}

void setup_print_context(FILE *file, const usplit_context *context)
{
    usplit_context_facts facts = {.struct_size = sizeof facts};
    if (usplit_context_info(context, &facts) == USPLIT_OK) {
        fprintf(file, "device    %s, %d thread%s (%s); %s\n", facts.device, facts.threads,
                facts.threads == 1 ? "" : "s", facts.reason, facts.engine);
    }
}

// One number for all levels, or one per level.
static int read_z(int32_t *z_dims, int *n, const char *text)
{
    arg_list parts;
    char *storage = NULL;
    int rc = args_split(text, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n > USPLIT_MAX_LEVELS) {
        rc = cli_error(CLI_USAGE, "--z: %d numbers; at most %d", parts.n, USPLIT_MAX_LEVELS);
    }
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        char *end;
        long value = strtol(parts.items[i], &end, 10);
        if (*end != '\0' || value < 1 || value > 65536) {
            rc = cli_error(CLI_USAGE, "--z: '%s' is not a whole number of 1 or more", parts.items[i]);
        }
        z_dims[i] = (int32_t)value;
    }
    *n = parts.n;
    free(storage);
    return rc;
}

// What a family is taken for when no variant is named: the header's default is none of a U-Net's.
static int32_t usual_variant(int32_t family, int32_t otherwise)
{
    return family == USPLIT_FAMILY_UNET ? USPLIT_VARIANT_VANILLA : family == USPLIT_FAMILY_BRAVENET ?
           USPLIT_VARIANT_REGULAR : otherwise;
}

int setup_network(usplit_model_options *options, const network_args *args, int n_channels)
{
    int rc, n_z;
    CLI_LIB(usplit_model_options_init(options, sizeof *options));
    options->family = args->family >= 0 ? args->family : options->family;
    options->variant = args->variant >= 0 ? args->variant : usual_variant(options->family, options->variant);
    options->levels = args->levels >= 0 ? (int32_t)args->levels : options->levels;
    options->lc_count = args->lc >= 0 ? (int32_t)args->lc : options->lc_count;
    options->filters = args->filters >= 0 ? (int32_t)args->filters : options->filters;
    options->patch = args->patch >= 0 ? (int32_t)args->patch : options->patch;
    options->channels = n_channels;
    options->seed = args->seed >= 0 ? (uint64_t)args->seed : options->seed;
    if (args->lc == 0 && options->variant != USPLIT_VARIANT_VANILLA &&
        options->variant != USPLIT_VARIANT_CONTEXT_AWARE) {
        return cli_error(CLI_USAGE, "--lc 0 is --variant vanilla");
    }
    if (!isnan(args->dropout)) {
        options->dropout = args->dropout > 0 ? args->dropout : -1;
    }
    if (args->z != NULL) {
        CLI_TRY(read_z(options->z_dims, &n_z, args->z));
    }
    options->blocks = args->blocks >= 0 ? (int32_t)args->blocks : options->blocks;
    options->activation = args->activation >= 0 ? args->activation : options->activation;
    options->logvar = args->logvar >= 0 ? args->logvar : options->logvar;
    options->merge = args->merge >= 0 ? args->merge : options->merge;
    options->kl = args->kl >= 0 ? args->kl : options->kl;
    options->latent_scale = args->latent_scale >= 0 ? args->latent_scale : options->latent_scale;
    options->shared_branch = args->shared_branch >= 0 ? args->shared_branch : options->shared_branch;
    options->ungated = args->ungated >= 0 ? args->ungated : options->ungated;
    rc = CLI_OK;
done:
    return rc;
}

static int number_differs(const char *option, double asked, double is)
{
    if (!isnan(asked) && asked >= 0 && asked != is) {
        return cli_error(CLI_USAGE, "%s %.10g was asked for, but the file to go on from has %.10g", option, asked, is);
    }
    return CLI_OK;
}

static int name_differs(const char *option, const name_table *names, int asked, int32_t is)
{
    if (asked >= 0 && asked != is) {
        return cli_error(CLI_USAGE, "%s %s was asked for, but the file to go on from has %s", option,
                         names_word(names, asked), names_word(names, is));
    }
    return CLI_OK;
}

static int z_differs(const usplit_model_facts *facts, const char *asked)
{
    int32_t z[USPLIT_MAX_LEVELS];
    int n, rc = read_z(z, &n, asked);
    if (rc == CLI_OK && n != 1 && n != facts->levels) {
        rc = cli_error(CLI_USAGE, "--z has %d numbers, but the file to go on from has %d levels", n, facts->levels);
    }
    for (int i = 0; rc == CLI_OK && i < facts->levels; i++) {
        rc = number_differs("--z", z[n == 1 ? 0 : i], facts->z_dims[i]);
    }
    return rc;
}

int setup_check_network(const usplit_model_facts *facts, const network_args *args)
{
    int rc;
    CLI_TRY(name_differs("--family", &names_family, args->family, facts->family));
    CLI_TRY(name_differs("--variant", &names_variant, args->variant, facts->variant));
    CLI_TRY(number_differs("--levels", (double)args->levels, facts->levels));
    CLI_TRY(number_differs("--lc", (double)args->lc, facts->lc_count));
    CLI_TRY(number_differs("--filters", (double)args->filters, facts->filters));
    CLI_TRY(number_differs("--patch", (double)args->patch, facts->patch));
    CLI_TRY(number_differs("--dropout", args->dropout, facts->dropout));
    CLI_TRY(args->z != NULL ? z_differs(facts, args->z) : CLI_OK);
    CLI_TRY(number_differs("--blocks", (double)args->blocks, facts->blocks));
    CLI_TRY(name_differs("--activation", &names_activation, args->activation, facts->activation));
    CLI_TRY(name_differs("--logvar", &names_logvar, args->logvar, facts->logvar));
    CLI_TRY(name_differs("--merge", &names_merge, args->merge, facts->merge));
    CLI_TRY(name_differs("--kl", &names_kl, args->kl, facts->kl));
    CLI_TRY(name_differs("--latent-scale", &names_latent_scale, args->latent_scale, facts->latent_scale));
    CLI_TRY(number_differs("--shared-branch", args->shared_branch, facts->shared_branch));
    CLI_TRY(number_differs("--ungated", args->ungated, facts->ungated));
done:
    return rc;
}

const char *setup_network_name(int32_t family, int32_t variant, char *text, size_t size)
{
    const char *f = names_title(&names_family, family), *v = names_title(&names_variant, variant);
    if (family == USPLIT_FAMILY_BRAVENET || (family == USPLIT_FAMILY_UNET && variant == USPLIT_VARIANT_VANILLA)) {
        snprintf(text, size, "%s", f);
    } else if (variant == USPLIT_VARIANT_CONTEXT_AWARE) {
        snprintf(text, size, "%s %s", v, f);
    } else {
        snprintf(text, size, "%s %s", f, v);
    }
    return text;
}

const char *setup_channel_name(const usplit_model_facts *facts, int channel, char *text, size_t size)
{
    if (facts->channel_names[channel][0] != '\0') {
        snprintf(text, size, "%s", facts->channel_names[channel]);
    } else {
        snprintf(text, size, "channel %d", channel + 1);
    }
    return text;
}

int setup_load(usplit_model **out, usplit_model_facts *facts, usplit_context *context, const char *file)
{
    int rc;
    memset(facts, 0, sizeof *facts);
    facts->struct_size = sizeof *facts;
    CLI_LIB(usplit_model_load(out, context, file));
    CLI_LIB(usplit_model_info(*out, facts));
done:
    return rc;
}

void setup_print_dataset(FILE *file, const usplit_dataset_facts *facts, double clip_quantile)
{
    fprintf(
        file,
        "data      %lld frame%s of up to %lld x %lld, %lld channels: %lld train, %lld validation, %lld test; "
        "%s held\n",
        (long long)facts->n_frames, facts->n_frames == 1 ? "" : "s", (long long)facts->width,
        (long long)facts->height, (long long)facts->n_channels, (long long)facts->n_train,
        (long long)facts->n_validation, (long long)facts->n_test, text_bytes((double)facts->bytes).text);
    if (clip_quantile < 1) {
        fprintf(file, "          clipped at %.5g grey levels (quantile %g)", facts->clip_value,
                clip_quantile);
    } else {
        fprintf(file, "          not clipped");
    }
    for (int64_t c = 0; c < facts->n_channels; c++) {
        fprintf(file, "%s %.4g +- %.4g", c == 0 ? "; channels" : ",", facts->target_mean[c],
                facts->target_deviation[c]);
    }
    fputc('\n', file);
    if (facts->input != USPLIT_INPUT_MEAN || facts->unpaired || facts->centring != USPLIT_CENTRING_FLOORED) {
        fprintf(file, "          input is %s%s; %s\n", names_title(&names_input, facts->input),
                facts->unpaired ? ", unpaired" : "", names_title(&names_centring, facts->centring));
    }
}

// The choices that are not the published ones.
static void print_choices(FILE *file, const usplit_model_facts *f)
{
    const struct {
        const char *what;
        const name_table *names;
        int32_t value;
    } choices[] = {
        {"activation", &names_activation, f->activation}, {"logvar", &names_logvar, f->logvar},
        {"merge", &names_merge, f->merge},                {"kl", &names_kl, f->kl},
        {"latent scale", &names_latent_scale, f->latent_scale},
    };
    const char *before = "options   ";
    if (f->blocks > 1) {
        fprintf(file, "%s%d blocks per level", before, f->blocks);
        before = ", ";
    }
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (choices[i].value != 0) {
            fprintf(file, "%s%s %s", before, choices[i].what, names_word(choices[i].names, choices[i].value));
            before = ", ";
        }
    }
    if (f->shared_branch) {
        fprintf(file, "%sshared branch", before);
        before = ", ";
    }
    if (f->ungated) {
        fprintf(file, "%sungated blocks", before);
        before = ", ";
    }
    if (before[0] == ',') {
        fputc('\n', file);
    }
}

void setup_print_model(FILE *file, const usplit_model_facts *facts)
{
    char name[64];
    fprintf(file, "model     %s, %d levels, %d context input%s, %d filters",
            setup_network_name(facts->family, facts->variant, name, sizeof name), facts->levels, facts->lc_count,
            facts->lc_count == 1 ? "" : "s", facts->filters);
    if (facts->z_dims[0] > 0) {
        fprintf(file, ", z %d", facts->z_dims[0]);
    }
    fprintf(file, ", patch %d, %d channels\n", facts->patch, facts->channels);
    print_choices(file, facts);
    fprintf(file, "          %s parameters, %s multiply-adds per patch\n",
            text_count((double)facts->n_parameters).text, text_count((double)facts->macs).text);
}
