// Which network a checkpoint's arrays belong to: told by their names and shapes, by the configuration where the file
// carries one, and by what the caller says, which goes before both.
#ifndef CLI_IMPORT_INFER_H
#define CLI_IMPORT_INFER_H

#include <usplit.h>

#include "cli/import/checkpoint.h"
#include "cli/setup.h"

typedef struct infer_network {
    network_args args;          // the caller's, with the gaps filled
    int64_t channels;
    char z[16 * USPLIT_MAX_LEVELS];     // args.z, where the file tells it
    double logvar_lower_bound, var_clip_max;    // 0: as published
    char assumed[256];          // what neither the file nor the caller tells, in words; "" where nothing
} infer_network;

// channels: -1 where the caller does not say.
int infer_from(infer_network *out, checkpoint *c, const network_args *given, int64_t channels);
// Copies the arrays into a model: every entry must be there, with its shape, and nothing may be left over but second
// names of the same numbers. *n_values: how many numbers.
int infer_fill(usplit_model *model, checkpoint *c, int64_t *n_values);

#endif
