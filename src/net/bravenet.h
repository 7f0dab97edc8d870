// BraveNet, two resolutions and two side outputs (networks 8).
#ifndef US_BRAVENET_H
#define US_BRAVENET_H

#include "net/graph.h"

usplit_status us_bravenet_params(us_graph *graph);
usplit_status us_bravenet_nodes(us_graph *graph);

#endif
