// Options of mixing -> options of dataset and trainer.
#include "cli/mixing_args.h"

#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

const mixing_args mixing_args_none = {.input = -1, .uncorrelated = NAN};

int mixing_is_measured(const mixing_args *m)
{
    return m->input == USPLIT_INPUT_MEASURED;
}

static int append(arg_list *list, const char *path, const char *option, const char *beside)
{
    if (path == NULL && list->n > 0) {
        return cli_error(CLI_USAGE, "%s is given, so %s is needed, too", beside, option);
    }
    if (path != NULL && list->n == 0) {
        return cli_error(CLI_USAGE, "%s goes with %s", option, beside);
    }
    if (path != NULL && list->n < (int)(sizeof list->items / sizeof *list->items)) {
        list->items[list->n++] = path;
    }
    return CLI_OK;
}

int mixing_check(mixing_args *m, image_sources *s, int data)
{
    int rc = CLI_OK;
    if (m->mixture != NULL && m->input >= 0 && !mixing_is_measured(m)) {
        return cli_error(CLI_USAGE, "--mixture is a measured input, but --input says %s",
                         names_word(&names_input, m->input));
    }
    m->input = m->mixture != NULL ? USPLIT_INPUT_MEASURED : m->input;
    if (mixing_is_measured(m) && !data && m->mixture == NULL) {
        return cli_error(CLI_USAGE, "--input measured needs the images: --mixture PATH");
    }
    if (data && (m->mixture != NULL || m->val_mixture != NULL || m->test_mixture != NULL)) {
        return cli_error(CLI_USAGE, "with --data the last channel of the file is the mixture (--input measured); leave "
                         "out --mixture");
    }
    if (mixing_is_measured(m) && (s->unpaired || m->weights != NULL || m->uncorrelated > 0)) {
        return cli_error(CLI_USAGE, "a measured input is not mixed: leave out %s",
                         s->unpaired ? "--unpaired" : m->weights != NULL ? "--weights" : "--uncorrelated");
    }
    if (s->unpaired && m->uncorrelated >= 0) {
        return cli_error(CLI_USAGE, "--uncorrelated takes channels apart that were recorded together; with --unpaired "
                         "they always are");
    }
    if (m->fixed_targets && m->weights == NULL) {
        return cli_error(CLI_USAGE, "--fixed-targets goes with --weights");
    }
    usplit_trainer_options probe;       // better to hear of a slip before images are read
    if (!data) {
        CLI_TRY(mixing_trainer(&probe, m, s->channels.n < USPLIT_MAX_CHANNELS ? s->channels.n : USPLIT_MAX_CHANNELS));
    }
    if (mixing_is_measured(m) && !data) {
        CLI_TRY(append(&s->channels, m->mixture, "--mixture", "--channel"));
        CLI_TRY(append(&s->validation, m->val_mixture, "--val-mixture", "--val-channel"));
        CLI_TRY(append(&s->test, m->test_mixture, "--test-mixture", "--test-channel"));
    } else if (m->val_mixture != NULL || m->test_mixture != NULL) {
        return cli_error(CLI_USAGE, "--val-mixture and --test-mixture go with --mixture");
    }
done:
    return rc;
}

void mixing_dataset(usplit_dataset_options *o, const mixing_args *m, const image_sources *s)
{
    o->input = m->input >= 0 ? m->input : o->input;
    o->centring = m->centring;
    o->unpaired = s->unpaired;
}

static int read_range(const char *text, double *low, double *high)
{
    char *end;
    *low = *high = strtod(text, &end);
    if (end != text && *end == ':') {
        const char *second = end + 1;
        *high = strtod(second, &end);
        end = end == second ? NULL : end;
    }
    if (end == NULL || end == text || *end != '\0' || !(*low >= 0) || !(*high >= *low) || !(*high > 0)) {
        return cli_error(CLI_USAGE, "--weights: '%s' is not a range like 0.5:1.5", text);
    }
    return CLI_OK;
}

int mixing_trainer(usplit_trainer_options *o, const mixing_args *m, int n_channels)
{
    arg_list parts = {.n = 0};
    char *storage = NULL;
    int rc = CLI_OK;
    o->augment = m->augment;
    o->fixed_targets = m->fixed_targets;
    o->uncorrelated = m->uncorrelated > 0 ? m->uncorrelated : 0;
    if (m->weights == NULL) {
        return CLI_OK;
    }
    CLI_TRY(args_split(m->weights, ',', &parts, &storage));
    if (parts.n != 1 && parts.n != n_channels) {
        rc = cli_error(CLI_USAGE, "--weights: %d ranges for %d channels; accepted: 1, or 1 for each", parts.n,
                       n_channels);
    }
    for (int c = 0; rc == CLI_OK && c < n_channels; c++) {
        rc = read_range(parts.items[parts.n == 1 ? 0 : c], &o->weight_low[c], &o->weight_high[c]);
    }
done:
    free(storage);
    return rc;
}
