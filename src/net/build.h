// What a network description needs to write a graph: nodes and parameters, one after the other.
#ifndef US_BUILD_H
#define US_BUILD_H

#include "net/graph.h"

usplit_status us_graph_add(us_graph *graph, us_node node, int *out);
usplit_status us_graph_add_param(us_graph *graph, const us_param *param);

#endif
