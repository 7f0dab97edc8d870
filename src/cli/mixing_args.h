// Options of how training patches are made of images: what is mixed, with which weights, from where, turned or not.
#ifndef CLI_MIXING_ARGS_H
#define CLI_MIXING_ARGS_H

#include "cli/names.h"
#include "cli/sources.h"

typedef struct mixing_args {
    const char *mixture, *val_mixture, *test_mixture, *weights;
    int input;                  // -1: not said
    int centring, augment, fixed_targets;
    double uncorrelated;        // NAN: not said
} mixing_args;

#define MIXING_SPECS(m, s)                                                                                             \
    {"Mixing", NULL, 0, NULL, 0, 0, NULL, NULL},                                                                       \
    {"--input", NULL, ARG_CHOICE, &(m).input, 0, 0, names_input.choices,                                               \
     "what is split: of the channels, or images of its own, as --mixture or last in --data (mean)"},                               \
    {"--mixture", NULL, ARG_TEXT, &(m).mixture, 0, 0, "PATH",                                                          \
     "measured images that show all structures together; frames as in --channel"},                                     \
    {"--val-mixture", NULL, ARG_TEXT, &(m).val_mixture, 0, 0, "PATH", "beside --val-channel"},                         \
    {"--test-mixture", NULL, ARG_TEXT, &(m).test_mixture, 0, 0, "PATH", "beside --test-channel"},                      \
    {"--unpaired", NULL, ARG_FLAG, &(s).unpaired, 0, 0, NULL,                                                          \
     "structures recorded one by one: frames of any number and size, mixed at random"},                                \
    {"--uncorrelated", NULL, ARG_REAL, &(m).uncorrelated, 0, 1, "P",                                                   \
     "share of the patches whose channels come from different places (0)"},                                            \
    {"--weights", NULL, ARG_TEXT, &(m).weights, 0, 0, "A:B[,C:D]",                                                     \
     "each patch's channels times a number from A to B; one range or one per channel"},                                \
    {"--fixed-targets", NULL, ARG_FLAG, &(m).fixed_targets, 0, 0, NULL, "targets are not multiplied by the weights"},  \
    {"--augment", NULL, ARG_FLAG, &(m).augment, 0, 0, NULL, "patches are mirrored and turned by quarters at random"},  \
    {"--centring", NULL, ARG_CHOICE, &(m).centring, 0, 0, names_centring.choices,                                      \
     "of lateral context; floored is published, exact suits --augment"}

extern const mixing_args mixing_args_none;

// After parsing: checks, and measured images become the last channel of the sources. data: an HDF5 file is given.
int mixing_check(mixing_args *m, image_sources *s, int data);
// 1 where the last channel is a measured image.
int mixing_is_measured(const mixing_args *m);
void mixing_dataset(usplit_dataset_options *options, const mixing_args *m, const image_sources *s);
int mixing_trainer(usplit_trainer_options *options, const mixing_args *m, int n_channels);

#endif
