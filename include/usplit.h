/* usplit.h - libusplit, image splitting for fluorescence microscopy.
 *
 * A fluorescence image often shows two structures superimposed. libusplit learns from pairs of
 * channels to split such an image again, after the paper "uSplit: image decomposition for
 * fluorescence microscopy": hierarchical (variational) autoencoders whose patches see lateral
 * context (LC) - the same place at lower resolutions - so that a small patch knows its wider
 * surroundings without the memory that a large patch needs. Large images are predicted tile by
 * tile; the inner part of every tile is kept, which keeps seams low.
 *
 * A complete program that splits one image (error checks left out; see examples/c/split_one.c):
 *
 *     usplit_context *ctx; usplit_model *model; usplit_tiler *tiler;
 *     usplit_context_create(&ctx, NULL);
 *     usplit_model_load(&model, ctx, "model.h5");
 *     usplit_tiler_create(&tiler, model, NULL);
 *     usplit_image in, out;                               // views of the caller's pixels
 *     usplit_image_init(&in, sizeof in, pixels, USPLIT_TYPE_U16, 1, h, w, 1);
 *     usplit_image_init(&out, sizeof out, planes, USPLIT_TYPE_F32, 1, h, w, 2);   // H x W x 2
 *     if (usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL) != USPLIT_OK)
 *         puts(usplit_error_message());
 *     usplit_tiler_free(tiler); usplit_model_free(model); usplit_context_free(ctx);
 *
 * How to read it: status - context - devices - image - dataset - model - trainer - tiler - Double-DIP, then the
 * rules on memory and threads. Conventions that hold everywhere:
 *
 *   - Functions that can fail return usplit_status, 0 on success. Results go to out parameters; on
 *     failure *out is NULL and nothing needs cleaning. usplit_error_message() says what went wrong.
 *   - Handles are opaque. They keep what they were made from alive, so they may be freed in any
 *     order; every _free accepts NULL.
 *   - Structs begin with struct_size. Fill them with their _init function (pass sizeof), then change
 *     what you want. Unknown trailing bytes must be zero. NULL for an options pointer means defaults.
 *   - Intensities are in the units of the images handed over (grey levels); positions and sizes in
 *     pixels; time in seconds; memory in bytes; PSNR in dB.
 *   - The library never prints, exits or aborts, starts no thread at load time and keeps no state
 *     outside its handles (but for the thread's last message). Handles do not survive fork().
 */
#ifndef USPLIT_H
#define USPLIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ---------------------------------------------------------------------------------- */

#define USPLIT_VERSION_MAJOR 0
#define USPLIT_VERSION_MINOR 1
#define USPLIT_VERSION_PATCH 0
#define USPLIT_VERSION_NUMBER (USPLIT_VERSION_MAJOR * 10000 + USPLIT_VERSION_MINOR * 100 + USPLIT_VERSION_PATCH)

#if defined(__GNUC__)
#define USPLIT_API __attribute__((visibility("default")))
#else
#define USPLIT_API
#endif

/* Version of the library that is running (compare with USPLIT_VERSION_NUMBER, the header's). */
USPLIT_API int32_t usplit_version(void);

/* ---- Status ----------------------------------------------------------------------------------- */

typedef int32_t usplit_status;

enum {
    USPLIT_OK = 0,
    USPLIT_ERR_ARGUMENT = 10,    /* a value outside what is accepted, a NULL, an unknown constant */
    USPLIT_ERR_SHAPE = 11,       /* sizes that do not fit each other or the network */
    USPLIT_ERR_UNSUPPORTED = 12, /* a newer caller's field, an option this build does not have */
    USPLIT_ERR_MEMORY = 20,      /* an allocation was refused */
    USPLIT_ERR_BUDGET = 21,      /* the plan needs more than the memory budget */
    USPLIT_ERR_FILE = 30,        /* cannot open, read, write, sync or rename (disk full, rights) */
    USPLIT_ERR_FORMAT = 31,      /* a file that is truncated, altered, foreign or too new */
    USPLIT_ERR_CALLBACK = 32,    /* a caller's read or write callback returned non-zero */
    USPLIT_ERR_BACKEND = 40,     /* a compute library failed */
    USPLIT_ERR_DEVICE = 41,      /* the device asked for is not there */
    USPLIT_ERR_CANCELLED = 50,   /* stopped by a progress callback or a _cancel call */
    USPLIT_ERR_BUSY = 51,        /* the handle was called from its own callback */
    USPLIT_ERR_STATE = 52,       /* called at the wrong time (a model without normalisation, say) */
    USPLIT_ERR_NUMERIC = 60,     /* the loss or the pixels are not finite */
    USPLIT_ERR_INTERNAL = 90     /* a defect of this library: please report it */
};

/* Detail of the last failure on this thread: one line with the offending value and what is accepted.
 * Never NULL; valid until the next failing call on this thread. */
USPLIT_API const char *usplit_error_message(void);

/* A short English name of a status ("out of memory"). Never NULL. */
USPLIT_API const char *usplit_status_name(usplit_status status);

/* ---- Progress (training and tiling) ----------------------------------------------------------- */

enum {
    USPLIT_PHASE_TRAIN = 1,     /* done/total count training steps of this run */
    USPLIT_PHASE_VALIDATE = 2,  /* done/total count validation patches of this epoch */
    USPLIT_PHASE_EPOCH = 3,     /* an epoch ended: loss, val_psnr and lr are those of the epoch */
    USPLIT_PHASE_TILE = 4,      /* done/total count tiles (times samples) */
    USPLIT_PHASE_DIP = 5        /* done/total count iterations of usplit_dip_run; loss: of the last one, best_val_psnr:
                                   of the best reconstruction, patches_per_second: iterations */
};

typedef struct usplit_progress {
    size_t struct_size;
    int32_t phase;              /* USPLIT_PHASE_* */
    int32_t epoch;              /* 0-based; training only */
    int64_t done, total;        /* total 0: unknown */
    double seconds_elapsed;     /* since the call began */
    double seconds_left;        /* estimate; negative: unknown */
    double loss;                /* training: running mean of the epoch (NaN before the first) */
    double val_psnr;            /* training: last validation PSNR in dB (NaN before the first) */
    double best_val_psnr;       /* training: best so far (NaN before the first) */
    double learning_rate;       /* training */
    double patches_per_second;  /* patches trained, or tiles predicted, per second */
} usplit_progress;

/* Called on the thread that made the call. Return 0 to go on, anything else to stop: the call then
 * returns USPLIT_ERR_CANCELLED. Must not call back into the handle that is running. */
typedef int32_t (*usplit_progress_fn)(const usplit_progress *progress, void *user);

/* ---- Context: device, threads, allocator, log -------------------------------------------------- */

typedef struct usplit_context usplit_context;

enum { USPLIT_LOG_INFO = 1, USPLIT_LOG_WARNING = 2 };

enum {
    USPLIT_PRECISION_BEST = 0,      /* CPU: float32; CUDA: float16 */
    USPLIT_PRECISION_FLOAT32 = 1,
    USPLIT_PRECISION_FLOAT16 = 2    /* activations and weights half; sums, statistics, losses, optimiser float32 */
};

typedef void *(*usplit_alloc_fn)(size_t bytes, void *user);            /* NULL: refused */
typedef void (*usplit_release_fn)(void *block, void *user);
typedef void (*usplit_log_fn)(int32_t level, const char *line, void *user);

typedef struct usplit_context_options {
    size_t struct_size;
    const char *device;         /* "auto" (default), "cpu", "cuda", "cuda:0"; copied. "auto" takes
                                   the best device there is and says which (usplit_context_info);
                                   any other name fails when that device is not there */
    int32_t threads;            /* CPU threads, the caller's included; 0: one per available core.
                                   Results do not depend on it */
    int32_t precision;          /* USPLIT_PRECISION_*; on the CPU always float32: FLOAT16 is refused */
    usplit_alloc_fn alloc;      /* both or neither; called from worker threads too */
    usplit_release_fn release;
    void *alloc_user;
    usplit_log_fn log;          /* NULL: no log */
    void *log_user;
    int32_t deterministic;      /* CUDA: 1: only algorithms whose results repeat to the bit on one device. The CPU
                                   always repeats */
    int32_t tune;               /* CUDA: 1: while a network is made ready, ways to do its convolutions are timed and
                                   the fastest taken, so that it takes longer; 0: the libraries' own first choice.
                                   No effect with `deterministic` */
    const char *cache_folder;   /* CUDA: an existing folder, where the ways taken are kept in a small file for the
                                   next process; NULL (default): nowhere. Within a context they are always shared.
                                   Whoever may write there is trusted. Copied */
} usplit_context_options;

typedef struct usplit_context_facts {
    size_t struct_size;
    int32_t threads;
    int32_t reserved0;
    char device[64];            /* what runs: "cpu", "cuda:0" */
    char reason[192];           /* why: "asked for", "auto: no CUDA backend: <loader's words>" */
    char engine[128];           /* compute libraries and instruction set: "oneDNN 2.6.3, avx2" */
} usplit_context_facts;

/* Zeroes struct_size bytes and writes the defaults. */
USPLIT_API usplit_status usplit_context_options_init(usplit_context_options *options, size_t struct_size);
USPLIT_API usplit_status usplit_context_create(usplit_context **out, const usplit_context_options *options);
USPLIT_API void usplit_context_free(usplit_context *context);
/* facts->struct_size must be set. */
USPLIT_API usplit_status usplit_context_info(const usplit_context *context, usplit_context_facts *facts);

/* ---- Devices: what a context can be made on, asked before there is one ---------------------------- */

typedef struct usplit_device_facts {
    size_t struct_size;
    int32_t usable;             /* 1: a context can be made on it; 0: `reason` says why not */
    int32_t reserved0;
    int64_t total_bytes, free_bytes;    /* of its memory (CPU: of the machine); 0: not known */
    char name[64];              /* for usplit_context_options: "cpu", "cuda:0" */
    char text[192];             /* one line for people */
    char reason[512];           /* of a device that is not usable, in the loader's or driver's own words; else "" */
} usplit_device_facts;

/* Number 0 is the CPU, the CUDA devices follow. Where there is none, the CUDA backend or its driver is missing,
 * there is one entry "cuda" that is not usable. Asking for anything but number 0 loads the CUDA backend and wakes its
 * driver. */
USPLIT_API usplit_status usplit_device_count(int32_t *count);
/* facts->struct_size must be set. */
USPLIT_API usplit_status usplit_device_info(int32_t index, usplit_device_facts *facts);

/* ---- Image: a view of the caller's pixels -------------------------------------------------------
 * Never owned, never freed, not kept after the call. Any order of axes is told by the strides. */

enum { USPLIT_TYPE_U8 = 1, USPLIT_TYPE_U16 = 2, USPLIT_TYPE_F32 = 3 };

typedef struct usplit_image {
    size_t struct_size;
    void *data;                 /* first pixel of the first channel of the first frame */
    int32_t type;               /* USPLIT_TYPE_* */
    int32_t reserved0;
    int64_t frames, height, width, channels;                               /* all >= 1 */
    int64_t stride_frame, stride_row, stride_column, stride_channel;       /* bytes, may be negative */
} usplit_image;

/* Fills a view of densely packed pixels in the order frame, row, column, channel (THWC, channel
 * fastest). For planes (TCHW) change the strides afterwards. */
USPLIT_API usplit_status usplit_image_init(usplit_image *image, size_t struct_size, void *data, int32_t type,
                                           int64_t frames, int64_t height, int64_t width, int64_t channels);

/* Quality of a prediction against a target, one plane each (paper section 4; data section 6). */
typedef struct usplit_image_quality {
    size_t struct_size;
    double ri_psnr;             /* range-invariant PSNR in dB: after the best affine fit of the
                                   prediction; range = max - min of the target. NaN: constant prediction */
    double psnr;                /* dB, without the fit */
    double ssim;                /* 7 x 7 uniform window, K1 0.01, K2 0.03, sample covariance, range of
                                   the target, 3 border pixels left out. NaN below 7 x 7 */
    double rmse;                /* in the units given */
} usplit_image_quality;

/* Both images: 1 frame, 1 channel, same size, finite. quality->struct_size must be set. The paper's
 * tables compare in normalised units: (target - mean_c)/deviation_c, see usplit_model_facts. */
USPLIT_API usplit_status usplit_image_compare(const usplit_image *target, const usplit_image *prediction,
                                              usplit_image_quality *quality);

/* The same for two channels whose order is not known, as Double-DIP's: the assignment with the larger sum of range-
 * invariant PSNR counts, the exchanged one if both are equal or not defined. */
typedef struct usplit_image_pair_quality {
    size_t struct_size;
    int32_t swapped;            /* 1: the prediction's second channel belongs to the target's first */
    int32_t reserved0;
    double ri_psnr[2], psnr[2], ssim[2], rmse[2];   /* of the target's channels, as in usplit_image_quality */
} usplit_image_pair_quality;

/* Both images: 1 frame, 2 channels, same size, finite. quality->struct_size must be set. */
USPLIT_API usplit_status usplit_image_compare_pair(const usplit_image *target, const usplit_image *prediction,
                                                   usplit_image_pair_quality *quality);

/* Are the borders of tiles visible in a predicted plane? Measured without knowing the truth: the step from one pixel to
 * the next, less what the steps before and after it let expect, is on average as large across a border as inside the
 * tiles where there is no seam. Ratio: mean absolute step across borders over that inside the same tiles; 1: no seam
 * can be seen, 2: borders stand out twofold; 20 log10 makes dB of it. A ratio a few errors over 1 is a seam; below 1
 * the prediction is smoother at borders. It does not change with the plane's gain and offset. */
typedef struct usplit_image_seam_facts {
    size_t struct_size;
    double ratio;               /* all borders together. NaN: no border to measure; infinite: nothing but borders */
    double ratio_error;         /* its standard error, from the scatter between borders; NaN: fewer than 2 */
    double row_ratio, row_error;        /* borders between tiles one above the other only */
    double column_ratio, column_error;  /* borders between tiles side by side only */
    int64_t row_borders, column_borders;    /* sides of tiles that were measured */
} usplit_image_seam_facts;

/* plane: 1 frame, 1 channel, finite. tile: side of a tile, as in usplit_tiler_cost.inner, 4 to 2^24; row and column:
 * where some tile begins (0 and 0 in what a tiler wrote, but for crops). A border needs 4 rows or columns on both sides
 * of it to be measured; any size of plane is accepted. facts->struct_size must be set. */
USPLIT_API usplit_status usplit_image_seams(const usplit_image *plane, int64_t tile, int64_t row, int64_t column,
                                            usplit_image_seam_facts *facts);

/* The residual: what a prediction leaves of its input, min(input, clip_value) - the sum of weight x predicted plane. A
 * model is trained on means (or sums) of its channels, so those of its planes should give the input back; what they do
 * not give back is noise, or something that is neither channel. No truth is needed. All figures but `range` and
 * `structure` are shares of the input's range (0.01: one percent of it), so a change of gain or offset that input and
 * planes share changes nothing. Quantiles come from histograms, to about one percent of their value. */
typedef struct usplit_residual_facts {
    size_t struct_size;
    int64_t pixels;
    double range;               /* 99.5th - 0.5th percentile of the input, grey levels. 0: what follows is NaN */
    double score;               /* 1.4826 x median |residual - its median|: how much is left of a typical pixel */
    double tail;                /* 99th percentile of |residual - its median|: of the pixels explained worst */
    double offset;              /* median of the residual: a background that the planes lack (above 0) or add */
    double noise;               /* 1.4826 / sqrt(2) x median |step| of the residual between neighbours in a row */
    double structure;           /* sqrt(1 - (noise / score)^2): 0: the residual is noise, each pixel for itself;
                                   towards 1: it has shapes in it, which nobody called noise */
} usplit_residual_facts;

/* input: 1 frame, 1 channel; prediction: 1 frame of 1 to 8 channels, same size, without planes of deviations. weights:
 * one of each channel (usplit_model_facts.mixture_weight); NULL: one over their number each, their mean. clip_value:
 * what the tiler clipped the input at (usplit_tiler_result); infinity: nothing. residual: where the residual goes, 1
 * frame, 1 channel, same size; NULL: nowhere. facts->struct_size must be set. */
USPLIT_API usplit_status usplit_image_residual(const usplit_image *input, const usplit_image *prediction,
                                               const double *weights, double clip_value,
                                               const usplit_image *residual, usplit_residual_facts *facts);

/* The same for an image of any height, rows at a time and in order, as usplit_tiler_stream.write gets them: about
 * 1.5 MB whatever the image, and the same figures however many rows come together. One thread at a time. */
typedef struct usplit_residual usplit_residual;
USPLIT_API usplit_status usplit_residual_create(usplit_residual **out, int64_t width, int32_t channels,
                                                const double *weights, double clip_value);
/* input: n_rows x width; planes: `channels` planes of n_rows x width; dst: the residual of these rows, or NULL. */
USPLIT_API usplit_status usplit_residual_add(usplit_residual *residual, int64_t n_rows, const float *input,
                                             const float *planes, float *dst);
/* Of all rows so far. facts->struct_size must be set. */
USPLIT_API usplit_status usplit_residual_info(const usplit_residual *residual, usplit_residual_facts *facts);
USPLIT_API void usplit_residual_free(usplit_residual *residual);

/* ---- Dataset: registered channels to learn from ------------------------------------------------
 * Holds frames as float32, clipped, with their pyramid (lateral context), and the statistics of the
 * training frames. Read-only once made: share it between trainers and threads. */

typedef struct usplit_dataset usplit_dataset;

enum { USPLIT_PADDING_REFLECT = 0, USPLIT_PADDING_CONSTANT = 1 };

/* How frames are divided when no explicit lists are given (data section 2.2). */
enum {
    USPLIT_SPLIT_INTERLEAVED = 0, /* validation and test alternate in runs of 3 at the start */
    USPLIT_SPLIT_SEQUENTIAL = 1   /* test first, then validation, then training */
};

enum { USPLIT_SET_ALL = 0, USPLIT_SET_TRAIN = 1, USPLIT_SET_VALIDATION = 2, USPLIT_SET_TEST = 3 };

/* What the image to split is made of. Training makes it of the channels, by their mean (published) or their sum, or
 * takes a recorded one. */
enum { USPLIT_INPUT_MEAN = 0, USPLIT_INPUT_SUM = 1, USPLIT_INPUT_MEASURED = 2 };

/* Where lateral context is centred. FLOORED (published): on a whole pixel of each level, up to 2^k - 1 pixels above and
 * left of the patch's own centre at level k. EXACT: on that centre, by linear interpolation between the level's pixels.
 * A network is trained with one or the other, and its file says which. */
enum { USPLIT_CENTRING_FLOORED = 0, USPLIT_CENTRING_EXACT = 1 };

typedef struct usplit_dataset_options {
    size_t struct_size;
    int32_t split;              /* USPLIT_SPLIT_* */
    int32_t padding;            /* USPLIT_PADDING_*: what lies outside the image (reflect) */
    double padding_value;       /* for constant padding, in grey levels (0) */
    double validation_fraction; /* of the frames (0.1) */
    double test_fraction;       /* of the frames (0.1) */
    double clip_quantile;       /* pixels above this quantile of all training pixels are set to it
                                   (0.995); 1: no clipping */
    int32_t levels;             /* pyramid levels to keep, full resolution included (5); a model
                                   needs 1 + lc_count */
    int32_t reserved0;
    /* Explicit lists of 0-based frame numbers, copied; all three NULL: the rule above. A frame may be
       in one set only. The training set must not be empty. */
    const int64_t *train_frames, *validation_frames, *test_frames;
    int64_t n_train_frames, n_validation_frames, n_test_frames;
    int32_t input;              /* USPLIT_INPUT_* (MEAN). SUM: as MEAN, but the image is the channels' sum. MEASURED:
                                   the last channel is a recorded image of the others together; it has its own clip
                                   value, mean and deviation, and the others, two or more, are the structures */
    int32_t unpaired;           /* 1: the channels were not recorded together. Each has its own frames, of any number
                                   and size, divided into sets by itself, and is drawn by itself; frames are numbered
                                   through all channels, the first channel's first. Not with MEASURED (0) */
    int32_t centring;           /* USPLIT_CENTRING_* (FLOORED) */
    int32_t reserved1;
} usplit_dataset_options;

/* Frames by callback: for readers of any file format. Called on the calling thread only, during
 * creation only. Return 0 on success; any other value fails the call with USPLIT_ERR_CALLBACK. */
typedef struct usplit_dataset_reader {
    size_t struct_size;
    int64_t n_frames;           /* >= 1 */
    int64_t n_channels;         /* >= 2: the structures, in order */
    /* Sizes of one frame (all its channels). May differ between frames. */
    int32_t (*frame_size)(int64_t frame, int64_t *height, int64_t *width, void *user);
    /* Writes one channel of one frame, row-major height x width, into dst. */
    int32_t (*read)(int64_t frame, int64_t channel, float *dst, void *user);
    void *user;
    const int64_t *channel_frames;  /* with the option `unpaired`: frames of each channel, which add up to n_frames;
                                   `read` is asked for a frame in its own channel only. Otherwise NULL */
} usplit_dataset_reader;

enum { USPLIT_MAX_CHANNELS = 8, USPLIT_NAME_BYTES = 64 };

typedef struct usplit_dataset_facts {
    size_t struct_size;
    int64_t n_frames, n_train, n_validation, n_test;
    int64_t height, width;      /* of the largest frame */
    int64_t n_channels;         /* structures: without a measured image of them */
    int64_t bytes;              /* held by this dataset */
    double clip_value;          /* grey levels, of the structures */
    double input_mean, input_deviation;               /* pooled over channels, clipped training frames */
    double target_mean[USPLIT_MAX_CHANNELS];          /* per channel */
    double target_deviation[USPLIT_MAX_CHANNELS];
    int32_t padding;
    int32_t levels;
    double padding_value;
    int32_t input, unpaired, centring, reserved0;
    double input_clip_value;    /* grey levels: of a sum, or of measured images; else clip_value */
} usplit_dataset_facts;

/* Parameters of the paper's synthetic SinosoidalCritters (section 4; data section 1). */
typedef struct usplit_critter_options {
    size_t struct_size;
    int64_t n_frames;           /* 100 */
    int64_t size;               /* side of the square frame, pixels (128) */
    int32_t n_curves;           /* per channel and frame (5) */
    int32_t thickness;          /* odd (21) */
    int32_t joiner;             /* 0: two waves (N_join 0); 1: a slow third wave joins them (N_join 25) */
    int32_t kinds;              /* of critters in a channel. 0 or 2: as published, no single wave tells the
                                   channel. 1: one kind each, alike in the slow wave and told apart by the
                                   fast one; learnt in minutes instead of hours */
    double joiner_fraction;     /* length of the joiner as a fraction of the curve; 0: 25/size rounded
                                   as published (0.2 at 128, 0.1 at 256) */
    double amplitude;           /* pixels (8) */
    double max_vertical_shift;  /* fraction of the side (0.9) */
    double max_horizontal_shift;/* fraction of the side (0.3) */
    uint64_t seed;              /* 0 */
} usplit_critter_options;

USPLIT_API usplit_status usplit_dataset_options_init(usplit_dataset_options *options, size_t struct_size);
USPLIT_API usplit_status usplit_critter_options_init(usplit_critter_options *options, size_t struct_size);

/* From memory. images: either one view with 2 or more channels, or n_images views of one channel each,
 * all with the same frames and sizes (`unpaired`: any). Pixels must be finite. */
USPLIT_API usplit_status usplit_dataset_create(usplit_dataset **out, usplit_context *context,
                                               const usplit_image *images, size_t n_images,
                                               const usplit_dataset_options *options);
/* From callbacks. */
USPLIT_API usplit_status usplit_dataset_create_reader(usplit_dataset **out, usplit_context *context,
                                                      const usplit_dataset_reader *reader,
                                                      const usplit_dataset_options *options);
/* Synthetic critters: two channels, constant padding 0 whatever options say about padding; neither measured nor
 * unpaired. */
USPLIT_API usplit_status usplit_dataset_create_critters(usplit_dataset **out, usplit_context *context,
                                                        const usplit_critter_options *critters,
                                                        const usplit_dataset_options *options);
/* From an HDF5 file: dataset `path_in_file` (NULL: "/frames") of 8 or 16 bit unsigned or float32
 * pixels, shape (frames, channels, height, width). */
USPLIT_API usplit_status usplit_dataset_open(usplit_dataset **out, usplit_context *context, const char *file,
                                             const char *path_in_file, const usplit_dataset_options *options);
USPLIT_API void usplit_dataset_free(usplit_dataset *dataset);
/* facts->struct_size must be set. */
USPLIT_API usplit_status usplit_dataset_info(const usplit_dataset *dataset, usplit_dataset_facts *facts);
/* Frame numbers of a set, in order. frames may be NULL to ask for *n only; otherwise it has room for
 * *n on entry, and *n is the count on return. */
USPLIT_API usplit_status usplit_dataset_get_set(const usplit_dataset *dataset, int32_t set, int64_t *frames,
                                                int64_t *n);
/* One clipped channel of one frame at a pyramid level, row-major. Size of level k: each side halved k
 * times, rounded down. dst may be NULL to ask for the size only. Channel n_channels is the measured image, where
 * there is one; an unpaired frame has its own channel only. */
USPLIT_API usplit_status usplit_dataset_get_frame(const usplit_dataset *dataset, int64_t frame, int64_t channel,
                                                  int32_t level, float *dst, int64_t *height, int64_t *width);

/* ---- Model: a network with its parameters and normalisation -------------------------------------- */

typedef struct usplit_model usplit_model;

/* HVAE, HAE: hierarchical (variational) autoencoders (networks 3, 4). UNET: trained with the mean squared error
 * (networks 7). BRAVENET: two resolutions, two side outputs in training (networks 8). */
enum { USPLIT_FAMILY_HVAE = 0, USPLIT_FAMILY_HAE = 1, USPLIT_FAMILY_UNET = 2, USPLIT_FAMILY_BRAVENET = 3 };

/* Paper section 3: how lateral context enters. */
enum {
    USPLIT_VARIANT_VANILLA = 0, /* no lateral context; of a U-Net: the plain one */
    USPLIT_VARIANT_LEAN = 1,    /* HVAE, HAE: context in the bottom-up pass only */
    USPLIT_VARIANT_REGULAR = 2, /* context kept through the top-down pass; HVAE, HAE, U-Net; BraveNet's only one */
    USPLIT_VARIANT_DEEP = 3,    /* HVAE, HAE: Regular, with further levels below the context */
    USPLIT_VARIANT_CONTEXT_AWARE = 4 /* U-Net: four directional recurrences on every skip (networks 7.4); it
                                   takes its training size only */
};

/* Options of the published code that no published configuration uses, and of the paper where its text says
 * something else than its code. */
enum { USPLIT_ACTIVATION_ELU = 0, USPLIT_ACTIVATION_RELU = 1, USPLIT_ACTIVATION_LEAKY_RELU = 2 /* slope 0.01 */ };
enum {
    USPLIT_LOGVAR_PIXELWISE = 0,    /* a predicted log-variance per pixel and channel (published) */
    USPLIT_LOGVAR_NONE = 1,         /* none: loss (mean - target)^2 / 2; what the paper's HAE runs used */
    USPLIT_LOGVAR_CHANNELWISE = 2,  /* averaged over the patch */
    USPLIT_LOGVAR_GLOBAL = 3        /* averaged over the patch and the channels */
};
enum {
    USPLIT_MERGE_RESIDUAL = 0,          /* 1 x 1 convolution, gated residual block (published) */
    USPLIT_MERGE_RESIDUAL_UNGATED = 1,
    USPLIT_MERGE_LINEAR = 2             /* the 1 x 1 convolution alone, as the paper's text has it */
};
enum { USPLIT_KL_MONTE_CARLO = 0, USPLIT_KL_ANALYTICAL = 1 };
/* More than 4 levels: REFERENCE multiplies the posterior's features by sqrt(2 (i + 1)), PAPER divides what level i's
 * bottom-up block hands to the top-down pass by sqrt(2^i) (networks 12, row 1). */
enum { USPLIT_LATENT_SCALE_REFERENCE = 0, USPLIT_LATENT_SCALE_PAPER = 1, USPLIT_LATENT_SCALE_NONE = 2 };

enum { USPLIT_MAX_LEVELS = 12 };

/* Zero in a field after `variant` means "the published value for this variant", shown in brackets. */
typedef struct usplit_model_options {
    size_t struct_size;
    int32_t family;             /* USPLIT_FAMILY_* */
    int32_t variant;            /* USPLIT_VARIANT_* (default of _init: Lean) */
    int32_t levels;             /* n, hierarchy levels, 1..12 (4; Deep 8; U-Net 5, 1..8; BraveNet 4) */
    int32_t lc_count;           /* n_LC, lateral-context inputs, at most levels, of a U-Net levels - 1 (4;
                                   Vanilla and Context-Aware 0; BraveNet 1) */
    int32_t filters;            /* C, feature channels (64); of the first level in a U-Net or BraveNet (32) */
    int32_t patch;              /* side of a training patch, pixels (64) */
    int32_t channels;           /* K, structures to split into, 2..8 (2) */
    int32_t reserved0;
    int32_t z_dims[USPLIT_MAX_LEVELS]; /* latent channels per level, level 0 first (128 each; a lone
                                   z_dims[0] holds for all levels) */
    double dropout;             /* (0.1); negative: none */
    double logvar_lower_bound;  /* of the predicted log-variance (-5) */
    double var_clip_max;        /* upper clip of latent raw log-variances (20) */
    uint64_t seed;              /* of the initial parameters (0) */
    int32_t blocks;             /* HVAE, HAE: residual blocks per level (1) */
    int32_t activation;         /* HVAE, HAE: USPLIT_ACTIVATION_* */
    int32_t logvar;             /* HVAE, HAE: USPLIT_LOGVAR_* */
    int32_t merge;              /* HVAE, HAE: USPLIT_MERGE_*; merges with context are always RESIDUAL */
    int32_t kl;                 /* HVAE: USPLIT_KL_* */
    int32_t latent_scale;       /* HVAE, HAE with more than 4 levels: USPLIT_LATENT_SCALE_* */
    int32_t shared_branch;      /* U-Net Regular-LC, or blocks > 1 with context: 1: the context runs through the
                                   layers of the patch itself; 0: through its own copies (published) */
    int32_t ungated;            /* HVAE, HAE: 1: the residual blocks of the levels have no gates (published: they
                                   have) */
} usplit_model_options;

typedef struct usplit_model_facts {
    size_t struct_size;
    int32_t family, variant, levels, lc_count, filters, patch, channels;
    int32_t has_normalisation;  /* 0: fresh model that no trainer or setter has given statistics */
    int32_t z_dims[USPLIT_MAX_LEVELS];
    double dropout, logvar_lower_bound, var_clip_max;
    int64_t n_parameters;       /* trained or not, without running statistics */
    int64_t n_entries;          /* named arrays, running statistics included */
    int64_t macs;               /* multiply-adds of one forward pass of one patch in training shape */
    double clip_value, input_mean, input_deviation;   /* normalisation, grey levels */
    double target_mean[USPLIT_MAX_CHANNELS], target_deviation[USPLIT_MAX_CHANNELS];
    int32_t padding, reserved0;
    double padding_value;
    int64_t epochs_trained, steps_trained;
    double best_val_psnr;       /* dB; NaN: not trained */
    double pixel_size;          /* micrometres; 0: unknown */
    char channel_names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    int32_t blocks, activation, logvar, merge, kl, latent_scale, shared_branch, ungated;
    int32_t input, centring;    /* USPLIT_INPUT_*, USPLIT_CENTRING_*; of the training */
    double target_clip_value;   /* grey levels: of the structures in training; clip_value is the input's */
    double mixture_weight[USPLIT_MAX_CHANNELS]; /* the input is the sum of weight * structure: 1/K or 1; 0 where it was
                                   measured, as nothing is known of it */
    /* What training inputs looked like, frame by frame (as mixed without weights, clipped): against this the tiler
       holds an image. 0 frames: not recorded: a file of an older version, or unpaired channels. */
    int64_t input_frames;
    double frame_mean[4];       /* of the frames' means: average, deviation between frames, lowest, highest */
    double frame_deviation[4];  /* of the frames' pixel deviations: geometric mean, deviation of the logarithm between
                                   frames, lowest, highest */
    int32_t has_calibration;    /* 1: usplit_model_get_calibration has one */
    int32_t reserved1;
} usplit_model_facts;

typedef struct usplit_model_normalisation {
    size_t struct_size;
    double clip_value, input_mean, input_deviation;   /* deviations > 0 */
    double target_mean[USPLIT_MAX_CHANNELS], target_deviation[USPLIT_MAX_CHANNELS];
    int32_t padding, reserved0;
    double padding_value;
    double pixel_size;
    char channel_names[USPLIT_MAX_CHANNELS][USPLIT_NAME_BYTES];
    int32_t input, centring;    /* USPLIT_INPUT_*, USPLIT_CENTRING_* */
    double target_clip_value;   /* 0: the same as clip_value */
} usplit_model_normalisation;

/* What a pass over patches would need, from the plan, before anything is allocated. */
enum { USPLIT_MODE_TRAIN = 1, USPLIT_MODE_PREDICT = 2 };
typedef struct usplit_model_cost {
    size_t struct_size;
    int64_t macs;               /* multiply-adds per patch (training: forward only) */
    int64_t kept_bytes;         /* training: activations kept for the backward pass, whole batch */
    int64_t arena_bytes;        /* peak of planned working memory, parameters not included */
    int64_t parameter_bytes;    /* parameters, gradients, optimiser state, packed copies */
    int64_t n_steps;            /* steps of the plan */
} usplit_model_cost;

USPLIT_API usplit_status usplit_model_options_init(usplit_model_options *options, size_t struct_size);
/* A fresh model, initialised as published (networks 10.6) from options->seed. */
USPLIT_API usplit_status usplit_model_create(usplit_model **out, usplit_context *context,
                                             const usplit_model_options *options);
/* Reads a checkpoint. The file is not trusted: anything missing, altered or too new is
 * USPLIT_ERR_FORMAT with a line that names it. */
USPLIT_API usplit_status usplit_model_load(usplit_model **out, usplit_context *context, const char *file);
/* Writes a checkpoint whole: to a temporary name beside `file`, synced, renamed. */
USPLIT_API usplit_status usplit_model_save(const usplit_model *model, const char *file);
USPLIT_API void usplit_model_free(usplit_model *model);
USPLIT_API usplit_status usplit_model_info(const usplit_model *model, usplit_model_facts *facts);
USPLIT_API usplit_status usplit_model_set_normalisation(usplit_model *model,
                                                        const usplit_model_normalisation *normalisation);
/* Name (published PyTorch name, owned by the model) and shape of entry `index`. shape has room for 4. */
USPLIT_API usplit_status usplit_model_get_entry(const usplit_model *model, int64_t index, const char **name,
                                                int64_t *shape, int32_t *n_dims);
/* Values of a named entry, row-major in the published layout; count must match. */
USPLIT_API usplit_status usplit_model_get_parameter(const usplit_model *model, const char *name, float *dst,
                                                    int64_t count);
USPLIT_API usplit_status usplit_model_set_parameter(usplit_model *model, const char *name, const float *src,
                                                    int64_t count);
/* Cost of training (batch patches) or predicting (inner x inner central pixels wanted of each patch;
 * 0: the whole patch). */
USPLIT_API usplit_status usplit_model_plan(const usplit_model *model, int32_t mode, int32_t batch, int32_t inner,
                                           usplit_model_cost *cost);
/* Prints the plan as text, one step a line, through `line`. */
USPLIT_API usplit_status usplit_model_plan_text(const usplit_model *model, int32_t mode, int32_t batch,
                                                int32_t inner, void (*line)(const char *text, void *user),
                                                void *user);
/* Runs the self-test stored in the checkpoint: a small input against its expected output. *error is the
 * largest deviation relative to the output's maximum. USPLIT_ERR_STATE: the model carries none;
 * USPLIT_ERR_NUMERIC: the deviation is over 1e-3 (in float16 2e-2; the pair is made in float32 on the CPU). */
USPLIT_API usplit_status usplit_model_check(const usplit_model *model, double *error);

typedef struct usplit_model_check_facts {
    size_t struct_size;
    int64_t values;             /* output values compared, of one patch */
    double error;               /* largest deviation relative to the output's maximum; NaN: an output is not finite */
    double tolerance;           /* accepted */
    int32_t passed;             /* 1: the error is accepted */
    int32_t reserved0;
} usplit_model_check_facts;

/* The same self-test told in full. A model that fails it is no error here: see `passed`. facts->struct_size must be
 * set. */
USPLIT_API usplit_status usplit_model_check_report(const usplit_model *model, usplit_model_check_facts *facts);

/* ---- Trainer ----------------------------------------------------------------------------------- */

typedef struct usplit_trainer usplit_trainer;

typedef struct usplit_trainer_options {
    size_t struct_size;
    int32_t batch;              /* patches per step (32) */
    int32_t max_epochs;         /* (200) */
    int64_t max_steps;          /* stop after so many steps in all; 0: no limit */
    int64_t steps_per_epoch;    /* 0: as published, one visit per non-overlapping patch */
    double max_seconds;         /* stop at the end of the step that passes it; 0: no limit */
    double learning_rate;       /* Adamax (1e-3) */
    double clip_norm;           /* global gradient norm (0.5); 0: no clipping */
    double kl_weight;           /* HVAE (1) */
    double free_bits;           /* HVAE, per sample and level (0) */
    double lr_factor;           /* on plateau (0.5) */
    int32_t lr_patience;        /* epochs (15) */
    int32_t early_stop_patience;/* epochs (100) */
    uint64_t seed;              /* of order, positions, dropout and noise (0) */
    int64_t max_validation_patches; /* 0: all */
    int64_t memory_budget;      /* bytes of planned memory; 0: no limit. A batch that does not fit is run in equal
                                   parts, whose gradients are added up: the same step, but that batch normalisation
                                   sees a part at a time (facts.part_batch says how large) */
    const char *best_file;      /* checkpoint with the best val_psnr, NULL: none; copied */
    const char *last_file;      /* checkpoint after every epoch and at a stop, with what resuming
                                   needs, NULL: none; copied */
    int32_t augment;            /* 1: each training patch is mirrored or turned by quarters, one of the eight ways at
                                   random, all of its levels alike (0) */
    int32_t fixed_targets;      /* 1: targets keep their grey levels whatever weight their channel is mixed with; 0:
                                   they are multiplied by it, so that the input stays the targets' mean or sum */
    double uncorrelated;        /* probability that the channels of a training patch come from places of their own
                                   instead of one place (0); unpaired channels always do. Not with a measured input */
    double weight_low[USPLIT_MAX_CHANNELS], weight_high[USPLIT_MAX_CHANNELS];   /* of each training patch, channel c is
                                   multiplied by a number drawn between them before it is mixed (1, 1); validation
                                   takes the middle. 0 <= low <= high, high > 0. 1 with a measured input */
} usplit_trainer_options;

typedef struct usplit_trainer_facts {
    size_t struct_size;
    int64_t step;               /* steps done, all runs together */
    int64_t skipped_steps;      /* batches left out because the loss or a gradient was not finite */
    int32_t epoch;              /* epochs finished */
    int32_t stopped_early;      /* 1: the plateau rule ended the training */
    double loss;                /* of the last step */
    double reconstruction_loss, kl_loss;
    double gradient_norm;       /* of the last step, before clipping */
    double learning_rate;
    double val_psnr, best_val_psnr;  /* dB; NaN: none yet */
    int32_t best_epoch;
    int32_t part_batch;         /* patches run together: the batch, or a part of it under a memory budget */
    int64_t arena_bytes;        /* planned working memory */
    int64_t steps_per_epoch;
    double seconds;             /* spent training, all runs together */
} usplit_trainer_facts;

/* One row per finished epoch. */
typedef struct usplit_trainer_epoch {
    size_t struct_size;
    int64_t step;
    double loss, reconstruction_loss, kl_loss, val_psnr, val_loss, learning_rate, seconds;
    double kl_level[USPLIT_MAX_LEVELS]; /* mean KL per latent element of every level, level 0 first, after free bits;
                                   kl_loss is their mean. NaN: no such level, no KL there, or an epoch of a version
                                   that did not keep it */
} usplit_trainer_epoch;

USPLIT_API usplit_status usplit_trainer_options_init(usplit_trainer_options *options, size_t struct_size);
/* The trainer needs the model for itself until it is freed. The dataset's statistics and padding become
 * the model's; names and pixel size given to the model before stay. The dataset must have channels = K,
 * levels >= 1 + lc_count, frames of at least a patch. With an empty validation set there is no val_psnr, no
 * schedule and no early stop, and best_file holds the newest epoch. */
USPLIT_API usplit_status usplit_trainer_create(usplit_trainer **out, usplit_model *model, usplit_dataset *dataset,
                                               const usplit_trainer_options *options);
/* Takes up a training where `last_file` left it: parameters, optimiser state, schedule, position, history.
 * N + M steps give the same bits as N steps, save, resume, M steps. */
USPLIT_API usplit_status usplit_trainer_resume(usplit_trainer *trainer, const char *last_file);
/* Trains until max_epochs, max_steps, max_seconds or the early stop. progress may be NULL. When it returns
 * USPLIT_ERR_CANCELLED, last_file (if any) is written whole and the trainer can go on. */
USPLIT_API usplit_status usplit_trainer_run(usplit_trainer *trainer, usplit_progress_fn progress, void *user);
/* Exactly one optimiser step (validation and schedule at an epoch's end included). */
USPLIT_API usplit_status usplit_trainer_step(usplit_trainer *trainer);
/* Writes the resumable checkpoint now. */
USPLIT_API usplit_status usplit_trainer_save(usplit_trainer *trainer, const char *file);
USPLIT_API usplit_status usplit_trainer_info(const usplit_trainer *trainer, usplit_trainer_facts *facts);
/* Of a finished epoch, 0-based. This one may also be called from the progress callback of the trainer's own run. */
USPLIT_API usplit_status usplit_trainer_get_epoch(const usplit_trainer *trainer, int32_t epoch,
                                                  usplit_trainer_epoch *row);
/* From any thread, or a signal handler: the running call stops at the end of its step. */
USPLIT_API void usplit_trainer_cancel(usplit_trainer *trainer);
USPLIT_API void usplit_trainer_free(usplit_trainer *trainer);

/* ---- Tiler: prediction of images of any size ------------------------------------------------------ */

typedef struct usplit_tiler usplit_tiler;

enum {
    USPLIT_TILING_INNER = 0,    /* patch = training patch, its central part is kept (default) */
    USPLIT_TILING_OUTER = 1     /* patch = training patch + 2 pad, training patch kept (to reproduce the paper) */
};
enum {
    USPLIT_COVER_ALL = 0,       /* every pixel is predicted (ceil rule) */
    USPLIT_COVER_WHOLE_TILES = 1 /* the reference's floor rule: the remainder at bottom and right is 0 */
};
enum {
    USPLIT_LATENT_SAMPLE = 0,   /* draw from the posterior (published) */
    USPLIT_LATENT_MEAN = 1      /* posterior mean, one deterministic pass */
};

typedef struct usplit_tiler_options {
    size_t struct_size;
    int32_t tiling;             /* USPLIT_TILING_* */
    int32_t cover;              /* USPLIT_COVER_* */
    int32_t pad;                /* pixels discarded (inner) or added (outer) on each side; -1: a quarter of
                                   the patch for inner (16 of 64), 0 for outer */
    int32_t samples;            /* M, posterior samples averaged (1); ignored by HAE and LATENT_MEAN */
    int32_t latent;             /* USPLIT_LATENT_* */
    int32_t batch;              /* tiles a worker predicts together, at most; 0: chosen (CPU: always 1) */
    uint64_t seed;              /* of the latent noise (0); keyed by absolute position */
    int64_t memory_budget;      /* bytes; 0: no limit. The batch shrinks to fit, the patch never does */
    int32_t patch;              /* inner padding: side of what the network is shown; 0: the training patch. 8 to 4096,
                                   of which Lean takes multiples of 2^levels, Regular and Deep of 2^(levels - lc_count)
                                   and of 2, BraveNet of 8, the Context-Aware U-Net its training patch, others all. The
                                   side of the image, with pad 0, predicts it in one pass */
    int32_t shifts;             /* S, tile grids whose mean is taken, shifted against each other so that no line is a
                                   border in two of them: a seam is S times lower. 0 or 1: one grid; at most the
                                   tile's side. Every grid has its own noise: S samples of every pixel cost S passes
                                   of a tile, and the edges. Not with USPLIT_COVER_WHOLE_TILES */
    int32_t deviations;         /* 1: K planes of standard deviations follow the K planes of means, grey levels, of
                                   the samples x shifts values of a pixel about their mean (divided by n - 1): how
                                   sure the network is of it. Needs two values or more. 0: none */
    int32_t reserved0;
    int32_t calibrated;         /* 1: deviations are corrected by the model's calibration, which must be there
                                   (usplit_model_calibrate). 0: as they are */
    int32_t reserved1;
} usplit_tiler_options;

typedef struct usplit_tiler_cost {
    size_t struct_size;
    int64_t tiles;              /* of one frame, of all shifted grids together */
    int64_t passes;             /* tiles x samples */
    int64_t tile_rows, tile_columns;    /* of the first grid, which begins at the image's first pixel */
    int32_t patch, inner;       /* side of what the network sees and of what is kept */
    int32_t batch, workers;
    int64_t host_bytes;         /* peak of planned memory of a run on an image of this size */
    int64_t device_bytes;       /* 0 on the CPU */
    int64_t macs;               /* multiply-adds of a run */
    int64_t covered_height, covered_width;
    double seconds;             /* estimate from a timed pass; 0: not yet known */
} usplit_tiler_cost;

/* What a run did. */
typedef struct usplit_tiler_result {
    size_t struct_size;
    int64_t tiles, passes;
    int64_t peak_bytes;         /* of planned memory, kept to the plan's */
    double seconds;
    double gain[USPLIT_MAX_CHANNELS], offset[USPLIT_MAX_CHANNELS]; /* grey = gain * network + offset */
    double clip_value;          /* the input was clipped here */
    int64_t clipped_pixels;     /* how many were */
    int64_t saturated_pixels;   /* output values cut to an integer type's range */
    int32_t samples, latent;
    char device[64];
    /* Is the input like what the model was trained on? Of a run's frames, the one least like it. The distance is the
       larger of two: of the frame's mean from the training frames' means, in deviations between those, and of the
       logarithm of its deviation from theirs. Where training frames are alike, or few, a deviation counts as at least a
       fifth: of the training frames' pixel deviation for the mean, of 1 for the logarithm. */
    double input_mean, input_deviation; /* of that frame's pixels, clipped, grey levels */
    double input_distance;      /* NaN: the model does not say (usplit_model_facts.input_frames is 0) */
    int32_t input_unusual;      /* 1: the distance is over 4: another type, offset, exposure or kind of image */
    int32_t calibrated;         /* 1: the deviations were calibrated */
    /* Calibrated deviation = slope x deviation + offset; 1 and 0: not calibrated. */
    double deviation_slope[USPLIT_MAX_CHANNELS], deviation_offset[USPLIT_MAX_CHANNELS];
} usplit_tiler_result;

/* Streaming: rows [row, row + n_rows) of one image. Return 0; anything else fails the run with
 * USPLIT_ERR_CALLBACK. Called on the calling thread. A row may be read more than once, in any order;
 * output rows are written once, in order. */
typedef struct usplit_tiler_stream {
    size_t struct_size;
    int64_t height, width;
    int32_t (*read)(int64_t row, int64_t n_rows, float *dst, void *user);         /* n_rows x width */
    /* One band: K planes of n_rows x width, channel-major; 2K planes with options.deviations. */
    int32_t (*write)(int64_t row, int64_t n_rows, const float *src, void *user);
    void *user;
    /* A part of the image, so that several machines share one: rows of tiles, as many as usplit_tiler_cost.tile_rows
     * says there are, [first_tile_row, first_tile_row + n_tile_rows). n_tile_rows 0: all from the first one on.
     * Rows row * inner to (row + n) * inner - 1 of the image are written (the last row of tiles: up to the image's
     * end), with the values that a run of the whole image gives them, on the CPU to the bit; what lies around them is
     * read as far as their context reaches, and clipped_pixels counts what was read. With shifts, up to a row of tiles
     * of every grid is predicted by the parts on both sides of it. height and width are those of the whole image. */
    int64_t first_tile_row, n_tile_rows;
} usplit_tiler_stream;

USPLIT_API usplit_status usplit_tiler_options_init(usplit_tiler_options *options, size_t struct_size);
/* The model must have normalisation and must not change while tilers use it. Many tilers may share one
 * model, each on its own thread. */
USPLIT_API usplit_status usplit_tiler_create(usplit_tiler **out, const usplit_model *model,
                                             const usplit_tiler_options *options);
/* Tiles, passes and bytes of a run on a height x width image, before anything runs. */
USPLIT_API usplit_status usplit_tiler_plan(const usplit_tiler *tiler, int64_t height, int64_t width,
                                           usplit_tiler_cost *cost);
/* Splits every frame of src (1 channel) into dst (K channels, or 2K with options.deviations; same frames and
 * size). Integer outputs are rounded and saturated; use F32 to lose nothing. src holds averaged channels: halve a sum
 * of two first.
 * result (may be NULL) needs struct_size. */
USPLIT_API usplit_status usplit_tiler_run(usplit_tiler *tiler, const usplit_image *src, const usplit_image *dst,
                                          usplit_tiler_result *result, usplit_progress_fn progress, void *user);
/* The same through callbacks; memory grows with the width only, not with the height. */
USPLIT_API usplit_status usplit_tiler_run_stream(usplit_tiler *tiler, const usplit_tiler_stream *stream,
                                                 usplit_tiler_result *result, usplit_progress_fn progress,
                                                 void *user);
/* From any thread, or a signal handler. */
USPLIT_API void usplit_tiler_cancel(usplit_tiler *tiler);
USPLIT_API void usplit_tiler_free(usplit_tiler *tiler);

/* ---- Calibration: deviations that mean an error ------------------------------------------------------
 * The deviation over samples says where a network is less sure; it is mostly smaller than the error. On frames whose
 * channels are known, and that were not trained on, it can be held against the real error: pixels are sorted by
 * predicted deviation into 30 bins of equal width; in every bin the root mean squared error E and the root mean square
 * S of the deviations are taken; E = slope x S + offset is fitted by least squares, a bin counting as its pixels. Bins
 * at either end that hold less than 1e-5 of the pixels are left out. Slope and offset belong to a way of predicting:
 * other samples, shifts or latents give other deviations. */
typedef struct usplit_calibration {
    size_t struct_size;
    int32_t samples, shifts;    /* of the predictions it was made from */
    int64_t pixels;             /* of every channel */
    double slope[USPLIT_MAX_CHANNELS];  /* calibrated deviation = slope x deviation + offset, not below 0 */
    double offset[USPLIT_MAX_CHANNELS]; /* grey levels */
    double rmse[USPLIT_MAX_CHANNELS];   /* of all pixels, grey levels */
    double deviation[USPLIT_MAX_CHANNELS];  /* root mean square of the predicted deviations; with options->calibrated,
                                   of the corrected ones */
    double residual_score, residual_tail, residual_structure;   /* as in usplit_residual_facts, means over the frames:
                                   what is usual for this model, to hold those of an image against. NaN: not known */
} usplit_calibration;

/* Predicts the frames of a set (USPLIT_SET_*) from their channels, mixed as the model's input is, or from the measured
 * image, with options (deviations are set to 1; two samples or shifts at least), and fits (data 11.3). The truth is
 * clipped where the model clips. The model is not changed. With options->calibrated the deviations are those corrected
 * by the model's own calibration: a slope near 1 and an offset near 0 on other frames say that it holds.
 * USPLIT_ERR_NUMERIC: a channel's deviations do not differ, or its error does not grow with them, so that nothing can
 * be calibrated. out->struct_size must be set. */
USPLIT_API usplit_status usplit_model_calibrate(const usplit_model *model, const usplit_dataset *dataset, int32_t set,
                                                const usplit_tiler_options *options, usplit_calibration *out,
                                                usplit_progress_fn progress, void *user);
/* Kept in the model, and in its files from the next usplit_model_save on. NULL: removed. Training, or setting a
 * parameter, removes it, too. */
USPLIT_API usplit_status usplit_model_set_calibration(usplit_model *model, const usplit_calibration *calibration);
/* USPLIT_ERR_STATE: there is none. out->struct_size must be set. */
USPLIT_API usplit_status usplit_model_get_calibration(const usplit_model *model, usplit_calibration *out);

/* ---- Double-DIP: one image apart without training ----------------------------------------------------
 * The paper's unsupervised baseline (networks 9): two small networks with fixed noise as input are optimised until
 * what they put out mixes to the image. Nothing is learnt that would serve another image, and a run takes minutes to
 * hours. It works on the CPU; run several images side by side, each with a context of one thread, to use all cores. */

/* The value is the number of mixtures. */
enum {
    USPLIT_DIP_SINGLE = 1,      /* one mixture, the mean of the structures, as the paper states the task */
    USPLIT_DIP_TWO = 2          /* two mixtures of the same structures in different unknown proportions: easier; what
                                   the paper's numbers were most likely made with */
};

typedef struct usplit_dip_options {
    size_t struct_size;
    int32_t mode;               /* USPLIT_DIP_*; 0: by the number of mixtures */
    int32_t reserved0;
    int64_t iterations;         /* 0: 4000 with two mixtures, 8000 with one */
    double learning_rate;       /* of Adam; 0: 1e-3 with two mixtures, 5e-4 with one */
    double exclusion_weight;    /* of the loss of edges in common; 0: 0.1 with two mixtures, 0.01 with one;
                                   negative: none */
    double mix[2];              /* usplit_dip_mix: share of the first structure in each mixture (0.5, 0.3) */
    uint64_t seed;              /* of initial parameters and noise (0) */
    double max_seconds;         /* stop at the end of the iteration that passes it; 0: no limit */
} usplit_dip_options;

typedef struct usplit_dip_result {
    size_t struct_size;
    int32_t mode;               /* USPLIT_DIP_* */
    int32_t reserved0;
    int64_t iterations;         /* done */
    int64_t best_iteration;     /* 0-based: the one whose estimates were kept */
    double psnr;                /* dB: how well they mix to the first mixture, both within 0 and 1 */
    double loss, reconstruction_loss, exclusion_loss;   /* of the last iteration; exclusion before its weight */
    double share[2];            /* two mixtures: estimated share of the first estimate in each; one: 0.5, 0 */
    double low, high;           /* grey levels taken for 0 and 1: the extremes over the mixtures together */
    int64_t macs;               /* multiply-adds of the forward pass of one iteration */
    int64_t bytes;              /* memory held by the run */
    double seconds;
} usplit_dip_result;

USPLIT_API usplit_status usplit_dip_options_init(usplit_dip_options *options, size_t struct_size);
/* Mixtures of a pair of known structures: channel i of mixtures (1 or 2) becomes mix[i] * first + (1 - mix[i]) *
 * second, in grey levels. Both images: 1 frame, one size; pair has 2 channels. */
USPLIT_API usplit_status usplit_dip_mix(const usplit_image *pair, const usplit_image *mixtures,
                                        const usplit_dip_options *options);
/* Splits mixtures (1 frame; 1 or 2 channels; sides of 65 to 4096; finite; no channel constant) into dst (1 frame, 2
 * channels, same size). The mixtures are scaled to [0,1] together, by their common extremes. Estimates come in grey
 * levels: low + (high - low) * E, where E within 0 and 1 is a network's output; with one mixture, which is the mean of
 * both, 2 E stands in place of E. Which estimate is which structure is not determined, and neither are offset and
 * scale: compare with usplit_image_compare_pair. The context must be one of the CPU. result (may be NULL) needs
 * struct_size. USPLIT_ERR_CANCELLED: progress has stopped it; dst and result hold the best so far. */
USPLIT_API usplit_status usplit_dip_run(usplit_context *context, const usplit_image *mixtures, const usplit_image *dst,
                                        const usplit_dip_options *options, usplit_dip_result *result,
                                        usplit_progress_fn progress, void *user);

/* ---- Memory and threads ---------------------------------------------------------------------------
 *   - One handle, one thread at a time; the _cancel functions are the exception. A context may be used
 *     by any number of threads. A dataset is read-only. A model is read-only while tilers use it and
 *     belongs to its trainer while one exists.
 *   - A run works in memory planned beforehand: after the first pass it allocates nothing.
 *   - CPU results are the same to the bit for any thread count, tile order and batch of tiles.
 */

#ifdef __cplusplus
}
#endif

#endif
