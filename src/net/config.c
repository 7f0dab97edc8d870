// Options to configuration: published defaults filled in, everything checked once (networks 3.1, 7, 8). Then the
// description of the family writes the graph.
#include "net/graph.h"

#include <math.h>

#include "net/bravenet.h"
#include "net/lvae.h"
#include "net/unet.h"

static const char *const family_names[] = {"HVAE", "HAE", "U-Net", "BraveNet"};
static const char *const variant_names[] = {"Vanilla", "Lean-LC", "Regular-LC", "Deep-LC", "Context-Aware"};

static usplit_status choose_variant(us_net_config *cfg, const usplit_model_options *o)
{
    static const unsigned accepted[] = {0x0f, 0x0f, 0x15, 0x04};    // by family: a bit per variant
    US_CHECK_ARG(o->family >= USPLIT_FAMILY_HVAE && o->family <= USPLIT_FAMILY_BRAVENET,
                 "family is %d; accepted: 0 (HVAE), 1 (HAE), 2 (U-Net), 3 (BraveNet)", o->family);
    US_CHECK_ARG(o->variant >= USPLIT_VARIANT_VANILLA && o->variant <= USPLIT_VARIANT_CONTEXT_AWARE,
                 "variant is %d; accepted: 0 (Vanilla) to 4 (Context-Aware)", o->variant);
    US_CHECK_ARG(accepted[o->family] >> o->variant & 1, "variant is %s; %s accepts %s", variant_names[o->variant],
                 family_names[o->family],
                 o->family <= USPLIT_FAMILY_HAE    ? "Vanilla, Lean-LC, Regular-LC, Deep-LC"
                 : o->family == USPLIT_FAMILY_UNET ? "Vanilla, Regular-LC, Context-Aware"
                                                   : "Regular-LC");
    cfg->family = o->family;
    cfg->variant = o->variant;
    return USPLIT_OK;
}

static usplit_status choose_levels(us_net_config *cfg, const usplit_model_options *o)
{
    const char *name = family_names[cfg->family];
    int unet = cfg->family == USPLIT_FAMILY_UNET, bravenet = cfg->family == USPLIT_FAMILY_BRAVENET;
    int usual = unet ? 5 : cfg->variant == USPLIT_VARIANT_DEEP ? 8 : 4;
    int least = bravenet ? 4 : 1, most = unet ? 8 : bravenet ? 4 : USPLIT_MAX_LEVELS;
    cfg->levels = o->levels ? o->levels : usual;
    US_CHECK_ARG(cfg->levels >= least && cfg->levels <= most, "levels is %d; %s accepts %d to %d", cfg->levels, name,
                 least, most);
    if (cfg->variant == USPLIT_VARIANT_VANILLA || cfg->variant == USPLIT_VARIANT_CONTEXT_AWARE) {
        US_CHECK_ARG(o->lc_count == 0, "lc_count is %d; %s accepts 0", o->lc_count, variant_names[cfg->variant]);
        return USPLIT_OK;
    }
    // the deepest level of a U-Net has no context: half the channels its merge would expect (networks 7.3)
    int limit = bravenet ? 1 : unet ? cfg->levels - 1 : cfg->levels;
    US_CHECK_ARG(limit >= 1, "levels is %d; a U-Net with context accepts 2 or more", cfg->levels);
    cfg->lc_count = o->lc_count ? o->lc_count : limit < 4 ? limit : 4;
    US_CHECK_ARG(cfg->lc_count >= 1 && cfg->lc_count <= limit,
                 "lc_count is %d; accepted by %s with %d levels: 1 to %d", cfg->lc_count, name, cfg->levels, limit);
    return USPLIT_OK;
}

static usplit_status choose_patch(us_net_config *cfg, const usplit_model_options *o)
{
    cfg->patch = o->patch ? o->patch : 64;
    US_CHECK_ARG(cfg->patch >= 8 && cfg->patch <= 4096 && cfg->patch % 2 == 0,
                 "patch is %d; accepted: even, 8 to 4096", cfg->patch);
    if (cfg->family == USPLIT_FAMILY_UNET) {
        US_CHECK_ARG(cfg->patch >> cfg->levels >= 1, "patch is %d; accepted with %d levels: %d or more", cfg->patch,
                     cfg->levels, 1 << cfg->levels);
        return USPLIT_OK;
    }
    int halvings = cfg->family == USPLIT_FAMILY_BRAVENET ? 3
                   : cfg->lc_count == 0                  ? 1
                   : us_lvae_retains(cfg)                ? cfg->levels - cfg->lc_count
                                                         : cfg->levels;
    int multiple = 1 << (halvings < 1 ? 1 : halvings);
    US_CHECK_ARG(cfg->patch % multiple == 0,
                 "patch is %d; accepted with %d levels and %d context inputs: multiples of %d", cfg->patch,
                 cfg->levels, cfg->lc_count, multiple);
    return USPLIT_OK;
}

static usplit_status choose_latents(us_net_config *cfg, const usplit_model_options *o)
{
    if (cfg->family > USPLIT_FAMILY_HAE) {
        return USPLIT_OK;
    }
    for (int i = 0; i < cfg->levels; i++) {
        int lone = cfg->levels > 1 && o->z_dims[1] == 0;
        int z = i == 0 || !lone ? o->z_dims[i] : o->z_dims[0];
        cfg->z_dims[i] = z ? z : 128;
        US_CHECK_ARG(cfg->z_dims[i] >= 1 && cfg->z_dims[i] <= 1024, "z_dims[%d] is %d; accepted: 1 to 1024", i,
                     cfg->z_dims[i]);
    }
    return USPLIT_OK;
}

// A choice that a family does not have must be left at its published value.
static usplit_status choose(int *field, const char *name, int value, int most, int has_it, const char *family)
{
    US_CHECK_ARG(value >= 0 && value <= (has_it ? most : 0), "%s is %d; %s accepts 0%s", name, value, family,
                 has_it ? most == 1 ? " and 1" : most == 2 ? " to 2" : " to 3" : "");
    *field = value;
    return USPLIT_OK;
}

static usplit_status choose_options(us_net_config *cfg, const usplit_model_options *o)
{
    const char *name = family_names[cfg->family];
    int lvae = cfg->family <= USPLIT_FAMILY_HAE, hvae = cfg->family == USPLIT_FAMILY_HVAE;
    cfg->blocks = o->blocks ? o->blocks : 1;
    US_CHECK_ARG(cfg->blocks >= 1 && cfg->blocks <= (lvae ? 8 : 1), "blocks is %d; %s accepts 1%s", cfg->blocks, name,
                 lvae ? " to 8" : "");
    US_TRY(choose(&cfg->activation, "activation", o->activation, USPLIT_ACTIVATION_LEAKY_RELU, lvae, name));
    US_TRY(choose(&cfg->logvar, "logvar", o->logvar, USPLIT_LOGVAR_GLOBAL, lvae, name));
    US_TRY(choose(&cfg->merge, "merge", o->merge, USPLIT_MERGE_LINEAR, lvae, name));
    US_TRY(choose(&cfg->kl, "kl", o->kl, USPLIT_KL_ANALYTICAL, hvae, name));
    US_TRY(choose(&cfg->latent_scale, "latent_scale", o->latent_scale, USPLIT_LATENT_SCALE_NONE, lvae, name));
    US_TRY(choose(&cfg->ungated, "ungated", o->ungated, 1, lvae, name));
    int branches = cfg->lc_count > 0 && (cfg->family == USPLIT_FAMILY_UNET || (lvae && cfg->blocks > 1));
    return choose(&cfg->shared_branch, "shared_branch", o->shared_branch, 1, branches,
                  branches ? name : "a network whose context has no layers of its own");
}

usplit_status us_net_config_from(us_net_config *cfg, const usplit_model_options *o)
{
    *cfg = (us_net_config){0};
    US_TRY(choose_variant(cfg, o));
    US_TRY(choose_levels(cfg, o));
    cfg->filters = o->filters ? o->filters : cfg->family <= USPLIT_FAMILY_HAE ? 64 : 32;
    int most = cfg->family <= USPLIT_FAMILY_HAE ? 1024 : 2048 >> cfg->levels;
    US_CHECK_ARG(cfg->filters >= 1 && cfg->filters <= most, "filters is %d; accepted by %s with %d levels: 1 to %d",
                 cfg->filters, family_names[cfg->family], cfg->levels, most);
    US_TRY(choose_patch(cfg, o));
    cfg->channels = o->channels ? o->channels : 2;
    US_CHECK_ARG(cfg->channels >= 2 && cfg->channels <= USPLIT_MAX_CHANNELS, "channels is %d; accepted: 2 to %d",
                 cfg->channels, USPLIT_MAX_CHANNELS);
    US_TRY(choose_latents(cfg, o));
    if (cfg->family == USPLIT_FAMILY_UNET) {
        US_CHECK_ARG(o->dropout <= 0, "dropout is %g; a U-Net has none: 0 or less", o->dropout);
    } else {
        cfg->dropout = o->dropout == 0 ? 0.1 : o->dropout < 0 ? 0 : o->dropout;
    }
    US_CHECK_ARG(cfg->dropout < 1, "dropout is %g; accepted: below 1 (negative: none)", o->dropout);
    cfg->logvar_lower_bound = o->logvar_lower_bound == 0 ? -5 : o->logvar_lower_bound;
    cfg->var_clip_max = o->var_clip_max == 0 ? 20 : o->var_clip_max;
    US_CHECK_ARG(isfinite(cfg->logvar_lower_bound) && isfinite(cfg->var_clip_max),
                 "logvar_lower_bound is %g, var_clip_max %g; accepted: finite", cfg->logvar_lower_bound,
                 cfg->var_clip_max);
    return choose_options(cfg, o);
}

int us_net_config_equal(const us_net_config *a, const us_net_config *b)
{
    int same = a->family == b->family && a->variant == b->variant && a->levels == b->levels &&
               a->lc_count == b->lc_count && a->filters == b->filters && a->patch == b->patch &&
               a->channels == b->channels && a->dropout == b->dropout &&
               a->logvar_lower_bound == b->logvar_lower_bound && a->var_clip_max == b->var_clip_max &&
               a->blocks == b->blocks && a->activation == b->activation && a->logvar == b->logvar &&
               a->merge == b->merge && a->kl == b->kl && a->latent_scale == b->latent_scale &&
               a->shared_branch == b->shared_branch && a->ungated == b->ungated;
    for (int i = 0; i < a->levels && same; i++) {
        same = a->z_dims[i] == b->z_dims[i];
    }
    return same;
}

static usplit_status describe(us_graph *g)
{
    switch (g->config.family) {
    case USPLIT_FAMILY_UNET:
        US_TRY(us_unet_params(g));
        return us_unet_nodes(g);
    case USPLIT_FAMILY_BRAVENET:
        US_TRY(us_bravenet_params(g));
        return us_bravenet_nodes(g);
    default:
        US_TRY(us_lvae_params(g));
        return us_lvae_nodes(g);
    }
}

usplit_status us_graph_build(us_graph **out, const us_allocator *a, const us_net_config *config, int size)
{
    *out = NULL;
    US_CHECK_ARG(size >= 2 && size <= 16384, "patch size is %d; accepted: 2 to 16384", size);
    us_graph *g = us_calloc(a, 1, sizeof *g);
    if (!g) {
        return USPLIT_ERR_MEMORY;
    }
    g->a = a;
    g->config = *config;
    g->size = size;
    for (int i = 0; i < USPLIT_MAX_LEVELS; i++) {
        g->latent[i] = g->q[i] = g->kl[i] = -1;
    }
    g->cap_nodes = 256;     // so that a description may look at node 0 even after a failure
    g->nodes = us_calloc(a, (size_t)g->cap_nodes, sizeof *g->nodes);
    usplit_status status = g->nodes ? describe(g) : USPLIT_ERR_MEMORY;
    if (status != USPLIT_OK) {
        us_graph_free(g);
        return status;
    }
    *out = g;
    return USPLIT_OK;
}
