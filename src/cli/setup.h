// Options that several commands share: the machine to run on, the axes of images and the network to build. Each comes
// with the rows of its option table.
#ifndef CLI_SETUP_H
#define CLI_SETUP_H

#include <stdint.h>
#include <stdio.h>

#include <usplit.h>

#include "cli/args.h"
#include "cli/names.h"

typedef struct machine_args {
    const char *device;         // NULL: auto
    int64_t threads;            // 0: all
    double progress;            // seconds between lines; 0: the usual
    int precision;              // USPLIT_PRECISION_*: the choices of --precision are in their order
    int deterministic, tune;
    const char *cache;          // folder; NULL: none
} machine_args;

#define THREADS_SPEC(m) {"--threads", NULL, ARG_INT, &(m).threads, 0, 1024, "N", "CPU threads; 0: one per core (0)"}
#define MACHINE_SPECS(m)                                                                               \
    {"--device", NULL, ARG_TEXT, &(m).device, 0, 0, "NAME", "auto, cpu, cuda or cuda:0 (auto)"},       \
    {"--precision", NULL, ARG_CHOICE, &(m).precision, 0, 0, "auto|32|16",                              \
     "bits of the numbers computed with: auto is 16 on CUDA, 32 on the CPU, which has no 16 (auto)"},  \
    {"--deterministic", NULL, ARG_FLAG, &(m).deterministic, 0, 0, NULL,                                \
     "CUDA: only algorithms whose results repeat to the bit; the CPU's always do"},                    \
    {"--tune", NULL, ARG_FLAG, &(m).tune, 0, 0, NULL,                                                  \
     "CUDA: time ways to do each convolution first and take the fastest; a longer start"},             \
    {"--cache", NULL, ARG_TEXT, &(m).cache, 0, 0, "FOLDER",                                            \
     "CUDA: an existing folder where the ways taken are kept for the next run (nowhere)"},             \
    {"--progress", NULL, ARG_REAL, &(m).progress, 0.1, 1e6, "SECONDS",                                 \
     "between lines of progress, where standard error is no terminal (10)"},                           \
    THREADS_SPEC(m)

// Creates the context; warnings of the library go to stderr.
int setup_context(usplit_context **out, const machine_args *args);
void setup_print_context(FILE *file, const usplit_context *context);

// What image_open_axes takes.
#define AXES_SPEC(axes)                                                                               \
    {"--axes", NULL, ARG_TEXT, &(axes), 0, 0, "ZYX|TZCYX|...", "axes of the images, where the files do not tell"}

typedef struct network_args {   // -1 or NAN: not given
    int family, variant;
    int64_t levels, lc, filters, patch, seed;
    const char *z;
    double dropout;
    int64_t blocks;
    int activation, logvar, merge, kl, latent_scale, shared_branch, ungated;
} network_args;

extern const network_args network_args_none;

#define NETWORK_SPECS(n)                                                                                  \
    {"--family", NULL, ARG_CHOICE, &(n).family, 0, 0, names_family.choices,                               \
     "variational or plain autoencoder, U-Net, BraveNet (hvae)"},                                         \
    {"--variant", NULL, ARG_CHOICE, &(n).variant, 0, 0, names_variant.choices,                            \
     "how lateral context enters (lean; unet vanilla, bravenet regular)"},                                \
    {"--levels", NULL, ARG_INT, &(n).levels, 1, USPLIT_MAX_LEVELS, "N",                                   \
     "levels of the hierarchy (4; deep 8; unet 5)"},                                                      \
    {"--lc", NULL, ARG_INT, &(n).lc, 0, USPLIT_MAX_LEVELS, "N",                                           \
     "lateral-context inputs (4, at most levels; unet levels - 1; bravenet 1)"},                          \
    {"--filters", NULL, ARG_INT, &(n).filters, 1, 4096, "N",                                              \
     "feature channels (64; unet and bravenet 32, of the first level)"},                                  \
    {"--z", NULL, ARG_TEXT, &(n).z, 0, 0, "N[,N...]",                                                     \
     "hvae, hae: latent channels, one for all or one per level (128)"},                                   \
    {"--patch", NULL, ARG_INT, &(n).patch, 1, 65536, "N", "side of a training patch, pixels (64)"},       \
    {"--dropout", NULL, ARG_REAL, &(n).dropout, 0, 0.99, "P",                                             \
     "dropout probability; 0: none (0.1; unet has none)"},                                                \
    {"--blocks", NULL, ARG_INT, &(n).blocks, 1, 8, "N", "hvae, hae: residual blocks per level (1)"},      \
    {"--activation", NULL, ARG_CHOICE, &(n).activation, 0, 0, names_activation.choices, "hvae, hae (elu)"}, \
    {"--logvar", NULL, ARG_CHOICE, &(n).logvar, 0, 0, names_logvar.choices,                               \
     "hvae, hae: log-variance predicted per pixel, not, or averaged (pixelwise)"},                        \
    {"--merge", NULL, ARG_CHOICE, &(n).merge, 0, 0, names_merge.choices,                                  \
     "hvae, hae: how two streams become one (residual)"},                                                 \
    {"--kl", NULL, ARG_CHOICE, &(n).kl, 0, 0, names_kl.choices, "hvae: KL term (monte-carlo)"},           \
    {"--latent-scale", NULL, ARG_CHOICE, &(n).latent_scale, 0, 0, names_latent_scale.choices,             \
     "hvae, hae of more than 4 levels: scale of their features (reference)"},                             \
    {"--shared-branch", NULL, ARG_FLAG, &(n).shared_branch, 0, 0, NULL,                                   \
     "unet regular, or --blocks 2 and more: context through the layers of the patch itself"},             \
    {"--ungated", NULL, ARG_FLAG, &(n).ungated, 0, 0, NULL, "hvae, hae: no gates in the levels' residual blocks"}

int setup_network(usplit_model_options *options, const network_args *args, int n_channels);
// A network taken from a file must be what the options ask for, where they ask.
int setup_check_network(const usplit_model_facts *facts, const network_args *args);

// "HVAE Lean-LC", "Context-Aware U-Net"; text is returned.
const char *setup_network_name(int32_t family, int32_t variant, char *text, size_t size);
// The channel's name, or "channel 2"; text is returned.
const char *setup_channel_name(const usplit_model_facts *facts, int channel, char *text, size_t size);
// Loads a model and its facts.
int setup_load(usplit_model **out, usplit_model_facts *facts, usplit_context *context, const char *file);

void setup_print_dataset(FILE *file, const usplit_dataset_facts *facts, double clip_quantile);
void setup_print_model(FILE *file, const usplit_model_facts *facts);

#endif
