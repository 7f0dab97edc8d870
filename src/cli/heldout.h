// The frames of one of a dataset's sets, read back as an evaluation reads frames.
#ifndef CLI_HELDOUT_H
#define CLI_HELDOUT_H

#include <stdint.h>

#include <usplit.h>

typedef struct heldout {
    const usplit_dataset *dataset;
    int64_t *frames, n;
} heldout;

// Fills *reader, which uses *h as long as it lives. set: USPLIT_SET_TEST, say.
int heldout_reader(heldout *h, const usplit_dataset *dataset, int32_t set, usplit_dataset_reader *reader);
void heldout_free(heldout *h);

#endif
