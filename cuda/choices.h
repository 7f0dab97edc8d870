// Which way of which library a convolution is run: chosen once, shared by all executables of a context, and kept in
// a file where the caller names a folder. Plain C without CUDA, so that the tests have all of it.
//
// The file is text: a line that names the format, one with the machine (device, driver, libraries, their versions), a
// line per choice, and a last one with their number and a checksum. A file of another machine, a damaged or a foreign
// one is left alone until the next choice is written over it.
#ifndef US_CUDA_CHOICES_H
#define US_CUDA_CHOICES_H

#include "base/alloc.h"
#include "base/status.h"
#include "ways.h"

typedef struct us_cu_choice {
    us_cu_shape shape;
    us_conv_direction direction;
    int deterministic, search;      // how it was looked for
    us_cu_recipe recipe;
    int tried;                      // it has run in this process
} us_cu_choice;

typedef struct us_cu_choices us_cu_choices;

// folder: NULL: choices live as long as the object. machine: one line, the same wherever a choice holds. Reads the
// file where there is a good one. A folder that is not there is USPLIT_ERR_FILE.
usplit_status us_cu_choices_open(us_cu_choices **out, const us_allocator *a, const char *folder, const char *machine);
void us_cu_choices_free(us_cu_choices *choices);

// Between these two the choices are the thread's: nobody else looks for one, and no two are timed at once.
void us_cu_choices_lock(us_cu_choices *choices);
void us_cu_choices_unlock(us_cu_choices *choices);

// The choice for what `like` says but its recipe; NULL: none yet. Valid until the next put.
us_cu_choice *us_cu_choices_find(us_cu_choices *choices, const us_cu_choice *like);
// Adds it, or takes the place of the one there was.
usplit_status us_cu_choices_put(us_cu_choices *choices, const us_cu_choice *choice);
int us_cu_choices_count(const us_cu_choices *choices);

// Writes the file where a folder was named and something is new, together with what another process has added
// meanwhile: to a temporary name, renamed, so that a reader sees one whole file or another. Takes the lock.
usplit_status us_cu_choices_save(us_cu_choices *choices);
// The file's name; NULL without a folder.
const char *us_cu_choices_file(const us_cu_choices *choices);

#endif
