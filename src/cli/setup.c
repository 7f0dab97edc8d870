// The machine, the network, and what is said about them before work begins.
#include "cli/setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/text.h"

const network_args network_args_none = {-1, -1, -1, -1, -1, -1, -1, NULL, NAN};

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

static int read_z(usplit_model_options *options, const char *text)
{
    arg_list parts;
    char *storage = NULL;
    int rc = args_split(text, ',', &parts, &storage);
    if (rc == CLI_OK && parts.n > USPLIT_MAX_LEVELS) {
        rc = cli_error(CLI_USAGE, "--z: %d numbers; at most %d", parts.n, USPLIT_MAX_LEVELS);
    }
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        char *end;
        long n = strtol(parts.items[i], &end, 10);
        if (*end != '\0' || n < 1 || n > 65536) {
            rc = cli_error(CLI_USAGE, "--z: '%s' is not a whole number of 1 or more", parts.items[i]);
        }
        options->z_dims[i] = (int32_t)n;
    }
    free(storage);
    return rc;
}

int setup_network(usplit_model_options *options, const network_args *args, int n_channels)
{
    int rc;
    CLI_LIB(usplit_model_options_init(options, sizeof *options));
    options->family = args->family >= 0 ? args->family : options->family;
    options->variant = args->variant >= 0 ? args->variant : options->variant;
    options->levels = args->levels >= 0 ? (int32_t)args->levels : options->levels;
    options->lc_count = args->lc >= 0 ? (int32_t)args->lc : options->lc_count;
    options->filters = args->filters >= 0 ? (int32_t)args->filters : options->filters;
    options->patch = args->patch >= 0 ? (int32_t)args->patch : options->patch;
    options->channels = n_channels;
    options->seed = args->seed >= 0 ? (uint64_t)args->seed : options->seed;
    if (args->lc == 0 && args->variant != USPLIT_VARIANT_VANILLA) {
        return cli_error(CLI_USAGE, "--lc 0 is --variant vanilla");
    }
    // Fewer levels than the published number of context inputs: as many inputs as levels.
    int32_t published = options->variant == USPLIT_VARIANT_VANILLA ? 0 : 4;
    if (args->lc < 0 && args->levels > 0 && args->levels < published) {
        options->lc_count = (int32_t)args->levels;
    }
    if (!isnan(args->dropout)) {
        options->dropout = args->dropout > 0 ? args->dropout : -1;
    }
    if (args->z != NULL) {
        CLI_TRY(read_z(options, args->z));
    }
    rc = CLI_OK;
done:
    return rc;
}

static int differs(const char *option, int64_t asked, int64_t is)
{
    if (asked >= 0 && asked != is) {
        return cli_error(CLI_USAGE, "%s %lld was asked for, but the file to go on from has %lld", option,
                         (long long)asked, (long long)is);
    }
    return CLI_OK;
}

int setup_check_network(const usplit_model_facts *facts, const network_args *args)
{
    int rc;
    if (args->family >= 0 && args->family != facts->family) {
        return cli_error(CLI_USAGE, "--family: the file to go on from is %s",
                         setup_family_name(facts->family));
    }
    if (args->variant >= 0 && args->variant != facts->variant) {
        return cli_error(CLI_USAGE, "--variant: the file to go on from is %s",
                         setup_variant_name(facts->variant));
    }
    CLI_TRY(differs("--levels", args->levels, facts->levels));
    CLI_TRY(differs("--lc", args->lc, facts->lc_count));
    CLI_TRY(differs("--filters", args->filters, facts->filters));
    CLI_TRY(differs("--patch", args->patch, facts->patch));
done:
    return rc;
}

const char *setup_family_name(int32_t family)
{
    return family == USPLIT_FAMILY_HVAE ? "HVAE" : family == USPLIT_FAMILY_HAE ? "HAE" : "unknown";
}

const char *setup_variant_name(int32_t variant)
{
    static const char *const names[] = {"Vanilla", "Lean-LC", "Regular-LC", "Deep-LC"};
    return variant >= 0 && variant < 4 ? names[variant] : "unknown";
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
}

void setup_print_model(FILE *file, const usplit_model_facts *facts)
{
    fprintf(file, "model     %s %s, %d levels, %d context inputs, %d filters, z %d, patch %d, %d channels\n",
            setup_family_name(facts->family), setup_variant_name(facts->variant), facts->levels,
            facts->lc_count, facts->filters, facts->z_dims[0], facts->patch, facts->channels);
    fprintf(file, "          %s parameters, %s multiply-adds per patch\n",
            text_count((double)facts->n_parameters).text, text_count((double)facts->macs).text);
}
