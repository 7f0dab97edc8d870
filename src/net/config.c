// Options to configuration: published defaults filled in, everything checked once (networks 3.1).
#include "net/graph.h"

#include <math.h>

#include "net/lvae.h"

usplit_status us_net_config_from(us_net_config *cfg, const usplit_model_options *o)
{
    *cfg = (us_net_config){0};
    US_CHECK_ARG(o->family == USPLIT_FAMILY_HVAE || o->family == USPLIT_FAMILY_HAE,
                 "family is %d; accepted: 0 (HVAE), 1 (HAE)", o->family);
    US_CHECK_ARG(o->variant >= USPLIT_VARIANT_VANILLA && o->variant <= USPLIT_VARIANT_DEEP,
                 "variant is %d; accepted: 0 (Vanilla) to 3 (Deep)", o->variant);
    cfg->family = o->family;
    cfg->variant = o->variant;
    int deep = o->variant == USPLIT_VARIANT_DEEP;
    cfg->levels = o->levels ? o->levels : deep ? 8 : 4;
    US_CHECK_ARG(cfg->levels >= 1 && cfg->levels <= USPLIT_MAX_LEVELS, "levels is %d; accepted: 1 to %d",
                 cfg->levels, USPLIT_MAX_LEVELS);
    if (o->variant == USPLIT_VARIANT_VANILLA) {
        US_CHECK_ARG(o->lc_count == 0, "lc_count is %d; Vanilla accepts 0", o->lc_count);
    } else {
        cfg->lc_count = o->lc_count ? o->lc_count : cfg->levels < 4 ? cfg->levels : 4;
        US_CHECK_ARG(cfg->lc_count >= 1 && cfg->lc_count <= cfg->levels,
                     "lc_count is %d; accepted: 1 to levels, which is %d", cfg->lc_count, cfg->levels);
    }
    cfg->filters = o->filters ? o->filters : 64;
    US_CHECK_ARG(cfg->filters >= 1 && cfg->filters <= 1024, "filters is %d; accepted: 1 to 1024", cfg->filters);
    cfg->patch = o->patch ? o->patch : 64;
    US_CHECK_ARG(cfg->patch >= 8 && cfg->patch <= 4096 && cfg->patch % 2 == 0,
                 "patch is %d; accepted: even, 8 to 4096", cfg->patch);
    int halvings = cfg->lc_count == 0 ? 1 : us_lvae_retains(cfg) ? cfg->levels - cfg->lc_count : cfg->levels;
    US_CHECK_ARG(cfg->patch % (1 << (halvings < 1 ? 1 : halvings)) == 0,
                 "patch is %d; accepted with %d levels and %d context inputs: multiples of %d", cfg->patch,
                 cfg->levels, cfg->lc_count, 1 << (halvings < 1 ? 1 : halvings));
    cfg->channels = o->channels ? o->channels : 2;
    US_CHECK_ARG(cfg->channels >= 2 && cfg->channels <= USPLIT_MAX_CHANNELS, "channels is %d; accepted: 2 to %d",
                 cfg->channels, USPLIT_MAX_CHANNELS);
    for (int i = 0; i < cfg->levels; i++) {
        int lone = cfg->levels > 1 && o->z_dims[1] == 0;
        int z = i == 0 || !lone ? o->z_dims[i] : o->z_dims[0];
        cfg->z_dims[i] = z ? z : 128;
        US_CHECK_ARG(cfg->z_dims[i] >= 1 && cfg->z_dims[i] <= 1024, "z_dims[%d] is %d; accepted: 1 to 1024", i,
                     cfg->z_dims[i]);
    }
    cfg->dropout = o->dropout == 0 ? 0.1 : o->dropout < 0 ? 0 : o->dropout;
    US_CHECK_ARG(cfg->dropout < 1, "dropout is %g; accepted: below 1 (negative: none)", o->dropout);
    cfg->logvar_lower_bound = o->logvar_lower_bound == 0 ? -5 : o->logvar_lower_bound;
    cfg->var_clip_max = o->var_clip_max == 0 ? 20 : o->var_clip_max;
    US_CHECK_ARG(isfinite(cfg->logvar_lower_bound) && isfinite(cfg->var_clip_max),
                 "logvar_lower_bound is %g, var_clip_max %g; accepted: finite", cfg->logvar_lower_bound,
                 cfg->var_clip_max);
    return USPLIT_OK;
}

int us_net_config_equal(const us_net_config *a, const us_net_config *b)
{
    int same = a->family == b->family && a->variant == b->variant && a->levels == b->levels &&
               a->lc_count == b->lc_count && a->filters == b->filters && a->patch == b->patch &&
               a->channels == b->channels && a->dropout == b->dropout &&
               a->logvar_lower_bound == b->logvar_lower_bound && a->var_clip_max == b->var_clip_max;
    for (int i = 0; i < a->levels && same; i++) {
        same = a->z_dims[i] == b->z_dims[i];
    }
    return same;
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
    g->cap_nodes = 256;     // so that a description may look at node 0 even after a failure
    g->nodes = us_calloc(a, (size_t)g->cap_nodes, sizeof *g->nodes);
    usplit_status status = g->nodes ? us_lvae_params(g) : USPLIT_ERR_MEMORY;
    if (status == USPLIT_OK) {
        status = us_lvae_nodes(g);
    }
    if (status != USPLIT_OK) {
        us_graph_free(g);
        return status;
    }
    *out = g;
    return USPLIT_OK;
}
