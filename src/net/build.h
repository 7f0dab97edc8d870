// What a network's description is written with: nodes and parameters one after the other, and the blocks that the
// networks share (networks 2, 10.1). The builder carries its first failure, so that a description reads as one
// chain of calls; after a failure it goes on with node 0.
#ifndef US_BUILD_H
#define US_BUILD_H

#include "net/graph.h"

usplit_status us_graph_add(us_graph *graph, us_node node, int *out);
usplit_status us_graph_add_param(us_graph *graph, const us_param *param);

// ---- Nodes ----

typedef struct us_builder {
    us_graph *g;
    usplit_status status;
    double dropout;             // of residual blocks
    int activation;             // USPLIT_ACTIVATION_*, of residual blocks and gates
} us_builder;

int us_put(us_builder *b, us_node node);
int us_put_param(us_builder *b, const char *prefix, const char *suffix);   // number of a parameter by its name
int us_put_input(us_builder *b, int level, int channels);
int us_put_target(us_builder *b);
int us_put_conv(us_builder *b, int x, const char *prefix, int c, int k, int stride);   // with bias, "same" padding
int us_put_bare_conv(us_builder *b, int x, const char *prefix, int c, int k);          // without
int us_put_norm(us_builder *b, int x, const char *prefix);
int us_put_activation(us_builder *b, int x, int activation);
int us_put_concat(us_builder *b, int x, int y);
int us_put_dropout(us_builder *b, int x);
// out(y, x) = in(y + dy, x + dx): dy > 0 crops, dy < 0 pads with zeros.
int us_put_window(us_builder *b, int x, int h, int w, int dy, int dx);
int us_put_centre(us_builder *b, int x, int size);     // rule F (networks 1.9): floor of half the difference
int us_put_crop(us_builder *b, int x, int size);       // rule R: rounded to even, crops only
int us_put_residual(us_builder *b, int x, const char *prefix, int gated);              // RB, RBG (networks 2.1)
int us_put_merge(us_builder *b, int x, int y, const char *prefix, int merge);          // USPLIT_MERGE_* (networks 2.4)
// First convolution of an input plane, activation, ungated residual block (networks 3.2).
int us_put_branch(us_builder *b, int x, const char *prefix, int c, int k);
void us_put_loss(us_builder *b, us_op op, int x, int target, double value, double weight);

// ---- Parameters ----

usplit_status us_param_conv(us_graph *g, const char *prefix, int64_t out, int64_t in, int64_t k);      // with bias
usplit_status us_param_bare_conv(us_graph *g, const char *prefix, int64_t out, int64_t in, int64_t k);
usplit_status us_param_norm(us_graph *g, const char *prefix, int64_t c);
usplit_status us_param_residual(us_graph *g, const char *prefix, int64_t c, int gated);
usplit_status us_param_merge(us_graph *g, const char *prefix, int64_t c, int merge);
usplit_status us_param_branch(us_graph *g, const char *prefix, int64_t c, int64_t k);
// The parameters that were added since `first` start with the values of those from `twin` on.
void us_param_copy(us_graph *g, int first, int twin);

#endif
