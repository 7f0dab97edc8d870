// From channel arguments to frames: expand, pair, check, read.
#include "cli/frames.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

// "folder@2" means channel 2 of every file in it.
static int add_part(files_list *list, const char *part)
{
    const char *at = strrchr(part, '@');
    if (files_is_folder(part) || at == NULL || at == part || files_exists(part)) {
        return files_is_folder(part) && !image_is_file(part) ? files_list_folder(list, part)
                                                             : files_list_add(list, cli_format("%s", part));
    }
    char *folder = cli_format("%.*s", (int)(at - part), part);
    int rc;
    if (!files_is_folder(folder) || image_is_file(folder)) {
        rc = files_list_add(list, cli_format("%s", part));
    } else {
        size_t first = list->n;
        rc = files_list_folder(list, folder);
        for (size_t i = first; rc == CLI_OK && i < list->n; i++) {
            char *name = cli_format("%s%s", list->paths[i], at);
            free(list->paths[i]);
            list->paths[i] = name;
        }
    }
    free(folder);
    return rc;
}

static int expand(files_list *list, const char *text)
{
    arg_list parts;
    char *storage = NULL;
    if (files_exists(text)) {           // a comma in its name, perhaps
        return add_part(list, text);
    }
    int rc = args_split(text, ',', &parts, &storage);
    for (int i = 0; rc == CLI_OK && i < parts.n; i++) {
        rc = add_part(list, parts.items[i]);
    }
    free(storage);
    return rc;
}

static int has_name(const files_list *list, size_t first, const char *name)
{
    for (size_t i = first; i < list->n; i++) {
        if (strcmp(files_base(list->paths[i]), name) == 0) {
            return 1;
        }
    }
    return 0;
}

// Files are paired in order. That is only right when the names agree or have nothing in common: when some
// agree and others do not, a file is missing somewhere.
static int check_pairs(const frame_set *set, size_t first, int c)
{
    const files_list *a = &set->files[0], *b = &set->files[c];
    if (a->n != b->n) {
        return cli_error(CLI_FAILED, "channel 1 has %zu files (%s ...) and channel %d has %zu (%s ...)",
                         a->n - first, a->paths[first], c + 1, b->n - first, b->paths[first]);
    }
    size_t same = 0, missing = first;
    for (size_t i = first; i < a->n; i++) {
        if (strcmp(files_base(a->paths[i]), files_base(b->paths[i])) == 0) {
            same++;
        } else {
            missing = i;
        }
    }
    if (same == a->n - first) {
        return CLI_OK;
    }
    for (size_t i = first; i < a->n; i++) {
        if (has_name(b, first, files_base(a->paths[i]))) {
            return cli_error(CLI_FAILED, "files do not pair by name: %s goes with %s", a->paths[missing],
                             b->paths[missing]);
        }
    }
    if (a->n - first > 1) {
        fprintf(stderr, "names differ between channels, paired in order: %s with %s, ...\n",
                files_base(a->paths[first]), files_base(b->paths[first]));
    }
    return CLI_OK;
}

static int open_file(frame_set *set, int channel, size_t index)
{
    if (set->open[channel] != NULL && set->open_index[channel] == index) {
        return CLI_OK;
    }
    image_close(set->open[channel]);
    set->open[channel] = NULL;
    set->open_index[channel] = index;
    return image_open_axes(&set->open[channel], set->files[channel].paths[index], set->axes);
}

static int append(frame_set *set, frame_place place)
{
    if (set->n_frames % 256 == 0) {
        frame_place *more = realloc(set->frames, (size_t)(set->n_frames + 256) * sizeof *more);
        if (more == NULL) {
            return cli_error(CLI_FAILED, "out of memory for the list of %lld frames",
                             (long long)set->n_frames);
        }
        set->frames = more;
    }
    set->frames[set->n_frames++] = place;
    return CLI_OK;
}

// The pages of one file, the same number and sizes in every channel.
static int add_file(frame_set *set, size_t index)
{
    image_facts first = {0}, other;
    int rc;
    for (int c = 0; c < set->n_channels; c++) {
        CLI_TRY(open_file(set, c, index));
        image_info(set->open[c], &other);
        first = c == 0 ? other : first;
        if (other.pages != first.pages) {
            return cli_error(CLI_FAILED, "%s has %lld pages, %s has %lld", set->files[0].paths[index],
                             (long long)first.pages, set->files[c].paths[index], (long long)other.pages);
        }
    }
    if (set->pixel_size == 0) {
        set->pixel_size = first.pixel_width;
    }
    for (int64_t page = 0; page < first.pages; page++) {
        frame_place place = {index, page, 0, 0, 0};
        for (int c = 0; c < set->n_channels; c++) {
            int64_t height, width;
            CLI_TRY(image_page_size(set->open[c], page, &height, &width));
            if (c > 0 && (height != place.height || width != place.width)) {
                return cli_error(CLI_FAILED, "sizes differ: %s is %lld x %lld, %s is %lld x %lld (page %lld)",
                                 set->files[0].paths[index], (long long)place.width, (long long)place.height,
                                 set->files[c].paths[index], (long long)width, (long long)height,
                                 (long long)page + 1);
            }
            place.height = height;
            place.width = width;
        }
        CLI_TRY(append(set, place));
    }
    rc = CLI_OK;
done:
    return rc;
}

int frames_add(frame_set *set, const arg_list *channels, int64_t *n_added)
{
    int rc;
    size_t first = set->files[0].n;
    int64_t before = set->n_frames;
    if (channels->n > FRAMES_MAX_CHANNELS) {
        return cli_error(CLI_USAGE, "%d channels given; at most %d", channels->n, FRAMES_MAX_CHANNELS);
    }
    set->n_channels = channels->n;
    for (int c = 0; c < channels->n; c++) {
        CLI_TRY(expand(&set->files[c], channels->items[c]));
        CLI_TRY(check_pairs(set, first, c));
    }
    for (size_t i = first; i < set->files[0].n; i++) {
        CLI_TRY(add_file(set, i));
    }
    *n_added = set->n_frames - before;
    rc = CLI_OK;
done:
    return rc;
}

int frames_cut(frame_set *set, int64_t index, int64_t height)
{
    frame_place *frame = &set->frames[index];
    frame_place lower = *frame;
    lower.row += frame->height - height;
    lower.height = height;
    frame->height -= height;
    return append(set, lower);
}

static int32_t frame_size(int64_t frame, int64_t *height, int64_t *width, void *user)
{
    const frame_set *set = user;
    *height = set->frames[frame].height;
    *width = set->frames[frame].width;
    return 0;
}

static int32_t read_frame(int64_t frame, int64_t channel, float *dst, void *user)
{
    frame_set *set = user;
    const frame_place *p = &set->frames[frame];
    int rc = open_file(set, (int)channel, p->file);
    return rc != 0 ? rc : image_read_rows(set->open[channel], p->page, p->row, p->height, dst);
}

void frames_reader(frame_set *set, usplit_dataset_reader *reader)
{
    memset(reader, 0, sizeof *reader);
    reader->struct_size = sizeof *reader;
    reader->n_frames = set->n_frames;
    reader->n_channels = set->n_channels;
    reader->frame_size = frame_size;
    reader->read = read_frame;
    reader->user = set;
}

char *frames_name(const frame_set *set, int64_t frame)
{
    const frame_place *p = &set->frames[frame];
    char *stem = files_stem(set->files[0].paths[p->file]);
    int alone = (frame == 0 || set->frames[frame - 1].file != p->file) &&
                (frame + 1 == set->n_frames || set->frames[frame + 1].file != p->file);
    if (alone) {
        return stem;
    }
    char *name = cli_format("%s p%lld", stem, (long long)p->page + 1);
    free(stem);
    return name;
}

void frames_free(frame_set *set)
{
    for (int c = 0; c < FRAMES_MAX_CHANNELS; c++) {
        image_close(set->open[c]);
        files_list_free(&set->files[c]);
    }
    free(set->frames);
    memset(set, 0, sizeof *set);
}
