// Which frames of the images named train, validate and test, and the dataset made of them.
#include "cli/sources.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/unpaired.h"

int sources_check(const image_sources *s)
{
    if ((s->validation.n > 0 && s->validation.n != s->channels.n) ||
        (s->test.n > 0 && s->test.n != s->channels.n)) {
        return cli_error(CLI_USAGE,
                         "validation and test images need one argument for each of the %d channels",
                         s->channels.n);
    }
    return CLI_OK;
}

// Consecutive numbers from `first`, for the library's explicit lists.
static int64_t *numbers(int64_t first, int64_t n)
{
    int64_t *list = cli_alloc((size_t)n, sizeof *list);
    for (int64_t i = 0; list != NULL && i < n; i++) {
        list[i] = first + i;
    }
    return list;
}

// The library's rule sets aside tenths of the frames. With fewer than ten that leaves nothing to validate on:
// then the last frame validates, or the lower fifth of the only one. Beside explicit test images, too.
static int choose_validation(frame_set *set, const image_sources *s, int64_t patch, int64_t *n_train,
                             int64_t *n_val)
{
    if (!isnan(s->val_fraction) || (*n_train >= 10 && s->test.n == 0)) {
        return CLI_OK;
    }
    if (*n_train == 1) {
        int64_t height = set->frames[0].height / 5;
        if (s->test.n > 0 || height < patch || set->frames[0].height - height < patch) {
            fprintf(stderr, "usplit: warning: nothing to validate on, the last model is kept\n");
            return CLI_OK;
        }
        fprintf(stderr, "one frame: its lower fifth is kept for validation\n");
        *n_val = 1;
        return frames_cut(set, 0, height);
    }
    *n_val = *n_train >= 20 ? *n_train / 10 : 1;
    *n_train -= *n_val;
    fprintf(stderr, "the last frame%s kept for validation\n", *n_val == 1 ? " is" : "s are");
    return CLI_OK;
}

int sources_dataset(usplit_dataset **out, usplit_context *context, const image_sources *s, frame_set *set,
                    int64_t patch, usplit_dataset_options *options)
{
    int rc;
    int64_t n_train = 0, n_val = 0, n_test = 0, *train = NULL, *val = NULL, *test = NULL;
    usplit_dataset_reader reader;
    if (s->unpaired) {
        return unpaired_dataset(out, context, s, patch, options, &set->pixel_size);
    }
    set->axes = s->axes;
    CLI_TRY(frames_add(set, &s->channels, &n_train));
    if (s->validation.n > 0) {
        CLI_TRY(frames_add(set, &s->validation, &n_val));
    }
    if (s->test.n > 0) {
        CLI_TRY(frames_add(set, &s->test, &n_test));
    }
    if (n_val == 0) {
        CLI_TRY(choose_validation(set, s, patch, &n_train, &n_val));
    }
    if (n_val + n_test > 0) {
        train = numbers(0, n_train);
        val = numbers(n_train, n_val);
        test = numbers(n_train + n_val, n_test);
        if (train == NULL || val == NULL || test == NULL) {
            rc = CLI_FAILED;
            goto done;
        }
        options->train_frames = train;
        options->validation_frames = n_val > 0 ? val : NULL;
        options->test_frames = n_test > 0 ? test : NULL;
        options->n_train_frames = n_train;
        options->n_validation_frames = n_val;
        options->n_test_frames = n_test;
    }
    frames_reader(set, &reader);
    CLI_LIB(usplit_dataset_create_reader(out, context, &reader, options));
done:
    free(train);
    free(val);
    free(test);
    return rc;
}
