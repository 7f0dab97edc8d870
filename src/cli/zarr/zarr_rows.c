// Pixels of a Zarr page as float rows. Decoded chunks are kept, so that the next rows and the next pages of the same
// chunks cost nothing, up to a number of bytes: an image may be larger than memory. Where not even one row of whole
// chunks fits (chunks that are many slices deep), only the part of each chunk that belongs to the page is kept; where
// that does not fit either, chunks are decoded again.
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/zarr/zarr_file.h"

int zarr_plan_cache(zarr_file *file, int64_t cache_bytes)
{
    enum { MOST_SLOTS = 1 << 20 };
    const zarr_array *a = &file->array;
    int n = a->n_dims;
    for (int64_t i = 0; i < file->n_slots; i++) {
        free(file->slots[i].data);
    }
    free(file->slots);
    file->slots = NULL;
    file->n_slots = file->kept_bytes = file->hand = 0;
    file->down = (a->shape[n - 2] + a->chunk[n - 2] - 1) / a->chunk[n - 2];
    file->across = (a->shape[n - 1] + a->chunk[n - 1] - 1) / a->chunk[n - 1];
    file->cache_bytes = cache_bytes;
    file->keeps_pages = a->chunk_bytes > cache_bytes / file->across;
    file->slot_bytes = file->keeps_pages ? a->chunk[n - 2] * a->chunk[n - 1] * a->item_bytes : a->chunk_bytes;
    int64_t most = cache_bytes / file->slot_bytes + 1, chunks = file->down * file->across;
    file->n_slots = chunks < most ? chunks : most;
    file->n_slots = file->n_slots < MOST_SLOTS ? file->n_slots : MOST_SLOTS;
    if ((file->slots = cli_alloc((size_t)file->n_slots, sizeof *file->slots)) == NULL) {
        file->n_slots = 0;
        return CLI_FAILED;
    }
    for (int64_t i = 0; i < file->n_slots; i++) {
        file->slots[i].key = -1;
    }
    return CLI_OK;
}

static void empty_slot(zarr_file *file, zarr_slot *slot)
{
    if (slot->data != NULL) {
        file->kept_bytes -= file->slot_bytes;
    }
    free(slot->data);
    slot->data = NULL;
    slot->key = -1;
}

// Memory for a slot; the oldest ones make room.
static unsigned char *slot_memory(zarr_file *file)
{
    for (int64_t i = 0; i < file->n_slots && file->kept_bytes > file->cache_bytes - file->slot_bytes; i++) {
        empty_slot(file, &file->slots[file->hand]);
        file->hand = (file->hand + 1) % file->n_slots;
    }
    return cli_alloc((size_t)file->slot_bytes, 1);
}

// A page's place in the array: the index of its chunk, and its offset (in values) within the chunk.
static void find_page(const zarr_file *file, int64_t page, int64_t *index, int64_t *offset)
{
    const zarr_array *a = &file->array;
    int64_t at[ZARR_MAX_DIMS] = {0};
    if (file->t >= 0) {
        at[file->t] = page / file->facts.slices;
    }
    if (file->z >= 0) {
        at[file->z] = page % file->facts.slices;
    }
    if (file->c >= 0) {
        at[file->c] = file->facts.channel;
    }
    *offset = 0;
    for (int i = 0; i < a->n_dims; i++) {
        index[i] = at[i] / a->chunk[i];
        *offset = *offset * a->chunk[i] + at[i] % a->chunk[i];
    }
}

// The page's part of chunk (y, x): decoded pixels, chunk rows x chunk columns; *data is NULL where none are stored.
static int load(zarr_file *file, int64_t page, int64_t y, int64_t x, const unsigned char **data)
{
    const zarr_array *a = &file->array;
    int64_t index[ZARR_MAX_DIMS], offset, key = 0;
    int n = a->n_dims, rc, is_there;
    find_page(file, page, index, &offset);
    index[n - 2] = y;
    index[n - 1] = x;
    for (int i = 0; i < n; i++) {
        key = key * ((a->shape[i] + a->chunk[i] - 1) / a->chunk[i]) + index[i];
    }
    key = file->keeps_pages ? page * file->down * file->across + y * file->across + x : key;
    zarr_slot *slot = &file->slots[(y * file->across + x) % file->n_slots];
    int64_t start = offset * a->item_bytes;
    if (slot->key != key) {
        empty_slot(file, slot);
        if (file->chunk == NULL && (file->chunk = cli_alloc((size_t)a->chunk_bytes, 1)) == NULL) {
            return CLI_FAILED;
        }
        rc = zarr_array_chunk(a, index, file->chunk, &is_there, &file->stored, &file->stored_room);
        if (rc != CLI_OK) {
            return rc;
        }
        if (is_there) {
            if ((slot->data = slot_memory(file)) == NULL) {
                return CLI_FAILED;
            }
            memcpy(slot->data, file->chunk + (file->keeps_pages ? start : 0), (size_t)file->slot_bytes);
            file->kept_bytes += file->slot_bytes;
        }
        slot->key = key;
    }
    *data = slot->data == NULL ? NULL : slot->data + (file->keeps_pages ? 0 : start);
    return CLI_OK;
}

int zarr_read_rows(zarr_file *file, int64_t page, int64_t row, int64_t n_rows, float *dst)
{
    const zarr_array *a = &file->array;
    int64_t height, width, rows = a->chunk[a->n_dims - 2], columns = a->chunk[a->n_dims - 1];
    int rc = zarr_page_size(file, page, &height, &width);
    if (rc != CLI_OK) {
        return rc;
    }
    if (row < 0 || n_rows < 0 || n_rows > height || row > height - n_rows) {
        return cli_error(CLI_FAILED, "%s: rows outside the page asked for", file->path);
    }
    for (int64_t first = row; first < row + n_rows;) {
        int64_t y = first / rows, end = (y + 1) * rows < row + n_rows ? (y + 1) * rows : row + n_rows;
        for (int64_t x = 0; x < file->across; x++) {
            const unsigned char *data;
            int64_t left = x * columns, n = width - left < columns ? width - left : columns;
            if ((rc = load(file, page, y, x, &data)) != CLI_OK) {
                return rc;
            }
            for (int64_t i = first; i < end; i++) {
                float *to = dst + (i - row) * width + left;
                if (data != NULL) {
                    zarr_array_to_float(a, data + (i - y * rows) * columns * a->item_bytes, n, to);
                } else {
                    for (int64_t k = 0; k < n; k++) {
                        to[k] = a->fill;
                    }
                }
            }
        }
        first = end;
    }
    return CLI_OK;
}
