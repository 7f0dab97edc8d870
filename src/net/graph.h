// A network as data: nodes (op, inputs, attributes, output shape) and the table of its parameters under
// the published names. Knows nothing of batches, memory, threads or devices.
#ifndef US_GRAPH_H
#define US_GRAPH_H

#include "base/alloc.h"
#include "base/status.h"

typedef enum us_op {
#define US_OP(name, text, arity, what) US_OP_##name,
#include "net/op.def"
#undef US_OP
    US_OP_COUNT
} us_op;

const char *us_op_name(us_op op);
int us_op_arity(us_op op);

#define US_SIGMA_FLOOR 1e-6                     // added to the variance (networks 1.10)

typedef enum us_param_kind {
    US_PARAM_WEIGHT,        // convolution (out, in, k, k), transposed convolution (in, out, k, k)
    US_PARAM_BIAS,
    US_PARAM_BN_WEIGHT,
    US_PARAM_BN_BIAS,
    US_PARAM_PRIOR,         // (1, 2Z, T, T)
    US_PARAM_SCAN,          // (4, H, W): planes up, down, left, right, before the sigmoid
    US_PARAM_RUNNING_MEAN,  // from here on: not trained
    US_PARAM_RUNNING_VAR,
    US_PARAM_COUNTER        // num_batches_tracked, a scalar
} us_param_kind;

typedef struct us_param {
    char name[120];
    us_param_kind kind;
    int n_dims;
    int64_t dims[4];
    int64_t count;          // elements
    int64_t offset;         // floats, in the model's flat parameter array
    int64_t fan_in;         // of the convolution it belongs to (initialisation, networks 10.6)
    int copy_of;            // 1 + number of the earlier parameter whose initial values it takes (networks 7.3); 0: none
} us_param;

static inline int us_param_trained(const us_param *p)
{
    return p->kind < US_PARAM_RUNNING_MEAN;
}

// Everything about an architecture; filled by us_net_config from the public options.
typedef struct us_net_config {
    int family, variant;
    int levels, lc_count, filters, patch, channels;
    int z_dims[USPLIT_MAX_LEVELS];
    double dropout, logvar_lower_bound, var_clip_max;
    int blocks, activation, logvar, merge, kl, latent_scale, shared_branch, ungated;
} us_net_config;

// Does the head predict a log-variance for every mean?
static inline int us_net_has_logvar(const us_net_config *config)
{
    return config->family <= USPLIT_FAMILY_HAE && config->logvar != USPLIT_LOGVAR_NONE;
}

static inline int us_net_head_channels(const us_net_config *config)
{
    return config->channels * (1 + us_net_has_logvar(config));
}

// Factor of the squared error where there is no log-variance (networks 5.1, 7.5).
static inline double us_net_mse_factor(const us_net_config *config)
{
    return config->family <= USPLIT_FAMILY_HAE ? 0.5 : 1;
}

int us_net_config_equal(const us_net_config *a, const us_net_config *b);

typedef struct us_node {
    us_op op;
    int n_in, in[3];
    int c, h, w;                // output shape per sample; losses and KL: c sums, h = w = 1
    int level;                  // INPUT, LATENT, KL: resolution or hierarchy level; DROPOUT, DROP: number of the layer
    int k, stride, pad;         // CONV; NEAREST: factor k; REFLECT: pad; LEVEL: k 1 averages over the channels too
    int weight, bias;           // parameter numbers: CONV (bias -1: none), TCONV, BNORM (gamma, beta), PRIOR, SCAN
    int mean, var, counter;     // BNORM
    int dy, dx;                 // WINDOW: out(y, x) = in(y + dy, x + dx); LINEAR: the same of the up-sampled plane
    int leaky;                  // GATE: 1: LEAKY with slope `value`, 0: ELU
    double value;               // SCALE: factor; LATENT, KL: var_clip_max; NLL: lower bound of logvar; LEAKY, GATE:
                                // slope; MSE: factor
} us_node;

enum { US_MAX_LC = USPLIT_MAX_LEVELS + 1, US_MAX_LOSSES = 4 };

typedef struct us_graph {
    const us_allocator *a;
    us_net_config config;
    int size;                   // side of the input
    us_node *nodes;
    int n_nodes, cap_nodes;
    us_param *params;
    int n_params, cap_params;
    int64_t n_floats;           // length of the flat parameter array
    int n_masks;                // dropout layers
    int n_drops;                // of single elements
    int head;                   // node of the prediction: K means, then, where there are, K log-variances before the clamp
    int features;               // decoder output before the head
    int n_losses;               // nodes NLL, MSE or EXTERN whose weighted sum is the reconstruction loss; 0: none
    int losses[US_MAX_LOSSES];  // the first is the prediction's own
    double loss_weight[US_MAX_LOSSES];
    int n_latents;              // levels with a latent; 0: none
    int latent[USPLIT_MAX_LEVELS];   // z of each level
    int q[USPLIT_MAX_LEVELS];        // (mu, raw logvar), HAE: mu only
    int kl[USPLIT_MAX_LEVELS];       // -1: none
} us_graph;

// 1: the level has a KL term.
static inline int us_graph_has_kl(const us_graph *graph, int level)
{
    return level < graph->n_latents && graph->kl[level] >= 0;
}

// Checks options, fills in the published defaults (networks 3.1).
usplit_status us_net_config_from(us_net_config *config, const usplit_model_options *options);

// The network for an input of size x size (networks 3, 4); size = config->patch for training. The
// parameter table is the same for every size. Refuses sizes the network cannot take (networks 3.8).
usplit_status us_graph_build(us_graph **out, const us_allocator *a, const us_net_config *config, int size);
void us_graph_free(us_graph *graph);

int us_graph_param(const us_graph *graph, const char *name);     // -1: no such name

// Multiply-adds of one sample, the whole graph with its losses: what training's forward pass does.
int64_t us_node_macs(const us_graph *graph, const us_node *node);
int64_t us_graph_macs(const us_graph *graph);
// Parameters trained or not, without running statistics (networks 11).
int64_t us_graph_n_parameters(const us_graph *graph);

// Writes initial values as published (networks 10.6): a function of the seed and the parameter's number.
void us_graph_init_params(const us_graph *graph, uint64_t seed, float *params);

#endif
