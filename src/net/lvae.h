// The hierarchical (variational) autoencoders of the paper, section 3: options, parameters, graph.
#ifndef US_LVAE_H
#define US_LVAE_H

#include "net/graph.h"

// Does the top-down pass keep the full size (networks 3.1, decoder retain)?
static inline int us_lvae_retains(const us_net_config *cfg)
{
    return cfg->lc_count > 0 && cfg->variant != USPLIT_VARIANT_LEAN && cfg->variant != USPLIT_VARIANT_VANILLA;
}

// Side of the top prior (networks 3.4).
static inline int us_lvae_prior_size(const us_net_config *cfg)
{
    if (us_lvae_retains(cfg)) {
        return cfg->patch >> (cfg->levels - cfg->lc_count);
    }
    int m = 1 << cfg->levels;
    return (cfg->patch + m - 1) / m;
}

usplit_status us_lvae_params(us_graph *graph);
usplit_status us_lvae_nodes(us_graph *graph);

#endif
