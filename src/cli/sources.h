// Images to learn from, as options name them: --channel for every structure, validation and test images beside them
// or taken from the same frames.
#ifndef CLI_SOURCES_H
#define CLI_SOURCES_H

#include <usplit.h>

#include "cli/args.h"
#include "cli/frames.h"

typedef struct image_sources {
    arg_list channels, validation, test;    // validation, test: none, or one per channel
    double val_fraction;        // NAN: the library's
    int unpaired;               // 1: channels with frames of their own (unpaired.c)
    const char *axes;           // of all of them; NULL: what each file says
} image_sources;

// 0, or CLI_USAGE where the lists do not fit each other.
int sources_check(const image_sources *s);
// Reads the images into a dataset, through `set`. Training frames come first, then validation, then test. With too
// few frames for the library's rule the last one validates, or the lower part of the only one.
int sources_dataset(usplit_dataset **out, usplit_context *context, const image_sources *s, frame_set *set,
                    int64_t patch, usplit_dataset_options *options);

#endif
