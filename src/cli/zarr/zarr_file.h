// Inside the Zarr reader: the open image and its decoded chunks, shared by zarr_open.c (axes, channel) and zarr_rows.c
// (pixels).
#ifndef CLI_ZARR_FILE_H
#define CLI_ZARR_FILE_H

#include "cli/zarr/zarr.h"
#include "cli/zarr/zarr_array.h"
#include "cli/zarr/zarr_ngff.h"

// Decoded chunks kept by an open image. One chunk more is held while it is decoded.
static const int64_t zarr_cache_bytes = (int64_t)128 << 20;

typedef struct zarr_slot {      // a decoded chunk, or the part of it that belongs to one page
    int64_t key;                // which one; -1: none
    unsigned char *data;        // NULL: not stored, all fill value
} zarr_slot;

struct zarr_file {
    char *path;
    zarr_image image;
    zarr_array array;
    image_facts facts;
    int t, c, z;                // dimensions of these axes; -1: none
    int64_t down, across;       // chunks of a page
    int64_t cache_bytes;        // what may be kept
    int64_t kept_bytes, slot_bytes;     // in slots; of a slot that is full
    int keeps_pages;            // slots hold one page's part of a chunk, as whole chunks would be too large
    zarr_slot *slots;           // chunk (y, x) of a page goes to slot (y * across + x) % n_slots
    int64_t n_slots, hand;      // hand: the slot that makes room next
    unsigned char *chunk;       // where one is decoded
    unsigned char *stored;      // and read before
    size_t stored_room;
};

// (Re)plans the slots for cache_bytes; drops what was kept.
int zarr_plan_cache(zarr_file *file, int64_t cache_bytes);

#endif
