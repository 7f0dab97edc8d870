// The U-Nets of the paper (networks 7): plain, Regular-LC, Context-Aware.
#ifndef US_UNET_H
#define US_UNET_H

#include "net/graph.h"

usplit_status us_unet_params(us_graph *graph);
usplit_status us_unet_nodes(us_graph *graph);

#endif
