// Structures that were not recorded together: as many frames of each as there are, of any size.
#ifndef CLI_UNPAIRED_H
#define CLI_UNPAIRED_H

#include "cli/sources.h"

// As sources_dataset. Without validation images every structure keeps a tenth of its frames, at least its last one, or
// the lower part of its only one. *pixel_size: of the first file that says.
int unpaired_dataset(usplit_dataset **out, usplit_context *context, const image_sources *s, int64_t patch,
                     usplit_dataset_options *options, double *pixel_size);

#endif
