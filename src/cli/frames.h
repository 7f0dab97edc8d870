// Frames of several channels from TIFF files: what "--channel A --channel B" names becomes a list of frames
// (file and page, the same in every channel) that a dataset or an evaluation reads through callbacks.
#ifndef CLI_FRAMES_H
#define CLI_FRAMES_H

#include <stdint.h>

#include "cli/args.h"
#include "cli/files.h"
#include "cli/image/images.h"

typedef struct frame_place {
    size_t file;                // in every channel's list
    int64_t page, row, height, width;   // rows [row, row + height) of the page
} frame_place;

enum { FRAMES_MAX_CHANNELS = USPLIT_MAX_CHANNELS + 1 };     // structures, and a measured image of them

typedef struct frame_set {
    int n_channels;
    files_list files[FRAMES_MAX_CHANNELS];      // paired: the same number in each
    frame_place *frames;
    int64_t n_frames;
    double pixel_size;          // micrometres, of the first file that says; 0: none does
    image_file *open[FRAMES_MAX_CHANNELS];       // the file last read of each channel
    size_t open_index[FRAMES_MAX_CHANNELS];
    const char *axes;           // of all files (--axes); NULL: what each says
} frame_set;

// Adds the frames of one list per channel. Each item is a file, a folder or several with commas between;
// folders are sorted and paired by name. Sizes must agree between channels. *n_added: how many frames.
int frames_add(frame_set *set, const arg_list *channels, int64_t *n_added);
// Splits frame `index` in two along the rows; the second part, `height` rows, becomes the last frame.
int frames_cut(frame_set *set, int64_t index, int64_t height);
// What the library calls to read them.
void frames_reader(frame_set *set, usplit_dataset_reader *reader);
// "A04" or "stack p3"; to free.
char *frames_name(const frame_set *set, int64_t frame);
void frames_free(frame_set *set);

#endif
