// Copies a model into one with a larger patch. Only the learned prior of the topmost latents has the size of the
// patch; prediction does not use it.
#include "cli/repro_whole.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int frame_side(const usplit_dataset_reader *frames, int64_t *side)
{
    for (int64_t i = 0; i < frames->n_frames; i++) {
        int64_t height, width;
        int rc = frames->frame_size(i, &height, &width, frames->user);
        if (rc != 0) {
            return rc;
        }
        *side = i == 0 ? height : *side;
        if (height != width || height != *side) {
            return cli_error(CLI_FAILED, "frames are not squares of one size");
        }
    }
    return CLI_OK;
}

static int create(usplit_model **out, usplit_context *context, const usplit_model_facts *f, int64_t side)
{
    int rc;
    usplit_model_options o;
    CLI_LIB(usplit_model_options_init(&o, sizeof o));
    o.family = f->family;
    o.variant = f->variant;
    o.levels = f->levels;
    o.lc_count = f->lc_count;
    o.filters = f->filters;
    o.patch = (int32_t)side;
    o.channels = f->channels;
    memcpy(o.z_dims, f->z_dims, sizeof o.z_dims);
    o.dropout = f->dropout > 0 ? f->dropout : -1;
    o.logvar_lower_bound = f->logvar_lower_bound;
    o.var_clip_max = f->var_clip_max;
    o.blocks = f->blocks;
    o.activation = f->activation;
    o.logvar = f->logvar;
    o.merge = f->merge;
    o.kl = f->kl;
    o.latent_scale = f->latent_scale;
    o.shared_branch = f->shared_branch;
    CLI_LIB(usplit_model_create(out, context, &o));
done:
    return rc;
}

static int copy_entries(usplit_model *to, const usplit_model *from, int64_t n)
{
    int rc = CLI_OK;
    float *values = NULL;
    for (int64_t i = 0; i < n; i++) {
        const char *name;
        int64_t shape[4], count = 1;
        int32_t n_dims;
        CLI_LIB(usplit_model_get_entry(from, i, &name, shape, &n_dims));
        if (strstr(name, "top_prior_params") != NULL) {
            continue;
        }
        for (int32_t d = 0; d < n_dims; d++) {
            count *= shape[d];
        }
        free(values);
        if ((values = cli_alloc((size_t)count, sizeof *values)) == NULL) {
            return CLI_FAILED;
        }
        CLI_LIB(usplit_model_get_parameter(from, name, values, count));
        CLI_LIB(usplit_model_set_parameter(to, name, values, count));
    }
done:
    free(values);
    return rc;
}

static int copy_normalisation(usplit_model *to, const usplit_model_facts *f)
{
    int rc;
    usplit_model_normalisation n = {.struct_size = sizeof n, .clip_value = f->clip_value, .input_mean = f->input_mean,
                                    .input_deviation = f->input_deviation, .padding = f->padding,
                                    .padding_value = f->padding_value, .pixel_size = f->pixel_size};
    memcpy(n.target_mean, f->target_mean, sizeof n.target_mean);
    memcpy(n.target_deviation, f->target_deviation, sizeof n.target_deviation);
    memcpy(n.channel_names, f->channel_names, sizeof n.channel_names);
    CLI_LIB(usplit_model_set_normalisation(to, &n));
done:
    return rc;
}

int repro_whole_model(usplit_model **out, usplit_context *context, const usplit_model *model,
                      const usplit_dataset_reader *frames)
{
    int rc;
    int64_t side = 0;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    CLI_LIB(usplit_model_info(model, &facts));
    CLI_TRY(frame_side(frames, &side));
    CLI_TRY(create(out, context, &facts, side));
    CLI_TRY(copy_entries(*out, model, facts.n_entries));
    CLI_TRY(copy_normalisation(*out, &facts));
done:
    return rc;
}
