// A set of frames for every structure, and the dataset made of them all: frames are numbered through the structures, the
// first one's first.
#include "cli/unpaired.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

typedef struct structure {
    frame_set set;
    usplit_dataset_reader reader;
    int64_t n_train, n_val, n_test;     // its frames, in this order
    int cut;                            // 1: one frame more, the lower part of the only training frame: validation
} structure;

typedef struct unpaired {
    structure items[USPLIT_MAX_CHANNELS];
    int n;
} unpaired;

static structure *find(unpaired *u, int64_t *frame)
{
    structure *s = u->items;
    while (*frame >= s->set.n_frames) {
        *frame -= s->set.n_frames;
        s++;
    }
    return s;
}

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    structure *s = find(user, &frame);
    return s->reader.frame_size(frame, height, width, s->reader.user);
}

static int32_t read_frame(int64_t frame, int64_t channel, float *dst, void *user)
{
    structure *s = find(user, &frame);
    (void)channel;
    return s->reader.read(frame, 0, dst, s->reader.user);
}

static int add(structure *s, const arg_list *paths, int channel, int64_t *n)
{
    if (paths->n == 0) {
        return CLI_OK;
    }
    arg_list one = {.items = {paths->items[channel]}, .n = 1};
    return frames_add(&s->set, &one, n);
}

// Some training frames validate: the last ones, or the lower fifth of the only one.
static int keep_some(structure *s, int channel, int64_t patch)
{
    if (s->n_train > 1) {
        s->n_val = s->n_train >= 20 ? s->n_train / 10 : 1;
        s->n_train -= s->n_val;
        fprintf(stderr, "structure %d: the last %lld of its %lld frames validate%s\n", channel + 1, (long long)s->n_val,
                (long long)(s->n_train + s->n_val), s->n_val == 1 ? "s" : "");
        return CLI_OK;
    }
    int64_t height = s->set.frames[0].height / 5;
    if (height < patch || s->set.frames[0].height - height < patch) {
        return cli_error(CLI_USAGE, "structure %d has one frame, %lld rows high, too few to keep some for validation; "
                         "--val-channel, larger frames or --val-fraction 0 (no validation)", channel + 1,
                         (long long)s->set.frames[0].height);
    }
    fprintf(stderr, "structure %d: the lower fifth of its only frame validates\n", channel + 1);
    s->cut = 1;
    return frames_cut(&s->set, 0, height);
}

// Numbers of the frames of one set, for the library's lists.
static int64_t *list_set(const unpaired *u, int set, int64_t *n)
{
    int64_t total = 0, first = 0;
    *n = 0;
    for (int c = 0; c < u->n; c++) {
        total += u->items[c].set.n_frames;
    }
    int64_t *list = cli_alloc((size_t)total, sizeof *list);
    for (int c = 0; list != NULL && c < u->n; c++) {
        const structure *s = &u->items[c];
        for (int64_t i = 0; i < s->set.n_frames; i++) {
            int last = s->cut && i == s->set.n_frames - 1;
            int is = i < s->n_train ? USPLIT_SET_TRAIN : last || i < s->n_train + s->n_val ? USPLIT_SET_VALIDATION :
                     USPLIT_SET_TEST;
            if (is == set) {
                list[(*n)++] = first + i;
            }
        }
        first += s->set.n_frames;
    }
    return list;
}

static int read_structures(unpaired *u, const image_sources *s, int64_t patch, int *lists, double *pixel_size)
{
    int rc = CLI_OK, few = 0;
    for (; u->n < s->channels.n; u->n++) {
        structure *t = &u->items[u->n];
        t->set.axes = s->axes;
        CLI_TRY(add(t, &s->channels, u->n, &t->n_train));
        CLI_TRY(add(t, &s->validation, u->n, &t->n_val));
        CLI_TRY(add(t, &s->test, u->n, &t->n_test));
        few |= t->n_train < 10;
        *pixel_size = *pixel_size == 0 ? t->set.pixel_size : *pixel_size;
    }
    *lists = few || s->validation.n > 0 || s->test.n > 0;
    *lists = *lists && isnan(s->val_fraction);      // fractions are the library's to divide by
    for (int c = 0; c < u->n; c++) {
        if (*lists && s->validation.n == 0) {
            CLI_TRY(keep_some(&u->items[c], c, patch));
        }
        frames_reader(&u->items[c].set, &u->items[c].reader);
    }
done:
    return rc;
}

int unpaired_dataset(usplit_dataset **out, usplit_context *context, const image_sources *s, int64_t patch,
                     usplit_dataset_options *options, double *pixel_size)
{
    int rc, lists = 0;
    int64_t *train = NULL, *val = NULL, *test = NULL, frames[USPLIT_MAX_CHANNELS];
    unpaired *u = cli_alloc(1, sizeof *u);
    if (u == NULL) {
        return CLI_FAILED;
    }
    if (s->channels.n > USPLIT_MAX_CHANNELS) {
        rc = cli_error(CLI_USAGE, "%d channels given; at most %d", s->channels.n, USPLIT_MAX_CHANNELS);
        goto done;
    }
    if (!isnan(s->val_fraction) && (s->validation.n > 0 || s->test.n > 0)) {
        rc = cli_error(CLI_USAGE, "--val-fraction divides the --channel images; leave out --val-channel and "
                       "--test-channel");
        goto done;
    }
    CLI_TRY(read_structures(u, s, patch, &lists, pixel_size));
    if (lists) {
        train = list_set(u, USPLIT_SET_TRAIN, &options->n_train_frames);
        val = list_set(u, USPLIT_SET_VALIDATION, &options->n_validation_frames);
        test = list_set(u, USPLIT_SET_TEST, &options->n_test_frames);
        if (train == NULL || val == NULL || test == NULL) {
            rc = CLI_FAILED;
            goto done;
        }
        options->train_frames = train;
        options->validation_frames = options->n_validation_frames > 0 ? val : NULL;
        options->test_frames = options->n_test_frames > 0 ? test : NULL;
    }
    usplit_dataset_reader reader = {.struct_size = sizeof reader, .n_channels = u->n, .frame_size = frame_size,
                                    .read = read_frame, .user = u, .channel_frames = frames};
    for (int c = 0; c < u->n; c++) {
        frames[c] = u->items[c].set.n_frames;
        reader.n_frames += frames[c];
    }
    options->unpaired = 1;
    CLI_LIB(usplit_dataset_create_reader(out, context, &reader, options));
done:
    for (int c = 0; c < USPLIT_MAX_CHANNELS; c++) {
        frames_free(&u->items[c].set);
    }
    free(u);
    free(train);
    free(val);
    free(test);
    return rc;
}
