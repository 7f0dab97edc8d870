// Frames of a set through the dataset that holds them.
#include "cli/heldout.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const heldout *h = user;
    return cli_status(usplit_dataset_get_frame(h->dataset, h->frames[frame], 0, 0, NULL, height, width));
}

static int32_t read_frame(int64_t frame, int64_t channel, float *dst, void *user)
{
    const heldout *h = user;
    int64_t height, width;
    return cli_status(usplit_dataset_get_frame(h->dataset, h->frames[frame], channel, 0, dst, &height, &width));
}

int heldout_reader(heldout *h, const usplit_dataset *dataset, int32_t set, usplit_dataset_reader *reader)
{
    int rc;
    usplit_dataset_facts facts = {.struct_size = sizeof facts};
    memset(h, 0, sizeof *h);
    memset(reader, 0, sizeof *reader);
    h->dataset = dataset;
    CLI_LIB(usplit_dataset_info(dataset, &facts));
    CLI_LIB(usplit_dataset_get_set(dataset, set, NULL, &h->n));
    h->frames = cli_alloc((size_t)h->n, sizeof *h->frames);
    if (h->frames == NULL) {
        return CLI_FAILED;
    }
    CLI_LIB(usplit_dataset_get_set(dataset, set, h->frames, &h->n));
    *reader = (usplit_dataset_reader){.struct_size = sizeof *reader, .n_frames = h->n, .n_channels = facts.n_channels,
                                      .frame_size = frame_size, .read = read_frame, .user = h};
done:
    return rc;
}

void heldout_free(heldout *h)
{
    free(h->frames);
    memset(h, 0, sizeof *h);
}
