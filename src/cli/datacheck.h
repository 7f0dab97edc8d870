// A look at the frames that a network is to learn from: numbers per channel, and warnings of what most often makes a
// training fail or its scores mislead.
#ifndef CLI_DATACHECK_H
#define CLI_DATACHECK_H

#include <usplit.h>

enum { DATACHECK_WARNINGS = 32 };

typedef struct datacheck_channel {
    char name[USPLIT_NAME_BYTES];
    double mean, deviation;     // of the training frames, clipped
    double low, high;           // grey levels that 0.5 and 99.5 percent of the pixels lie under
    double at_top;              // share of pixels at the brightest value, the clip value where they reach it
    double length;              // pixels: half of the bright pixels belong to structures at least so long. NaN: none
    int64_t constant;           // frames with one value only
} datacheck_channel;

typedef struct datacheck {
    int n_channels;
    datacheck_channel channels[USPLIT_MAX_CHANNELS];
    // Within frames, at half resolution, their mean; NaN: not defined.
    double correlation[USPLIT_MAX_CHANNELS][USPLIT_MAX_CHANNELS];
    int64_t frames, looked_at;  // training frames; how many of them the numbers are from
    int64_t patches;            // that fit in the training frames without overlap
    int64_t field;              // pixels: side of what the network sees, lateral context included
    int n_warnings;
    char warnings[DATACHECK_WARNINGS][256];
} datacheck;

// names: of the channels. clip_quantile: what the dataset was clipped at.
int datacheck_run(datacheck *d, const usplit_dataset *dataset, const usplit_model_facts *model,
                  char (*names)[USPLIT_NAME_BYTES], double clip_quantile);

#endif
