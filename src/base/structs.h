// The growth rules of public structs: every one begins with `size_t struct_size`.
#ifndef US_STRUCTS_H
#define US_STRUCTS_H

#include "base/status.h"

// _init functions: zeroes the caller's bytes, writes the defaults both sides know, records the size.
usplit_status us_struct_init(void *theirs, size_t their_size, const void *defaults, size_t our_size);

// Options coming in: copies min(theirs, ours) over `ours` (already holding defaults). Unknown trailing
// bytes must be zero. `theirs` NULL leaves the defaults.
usplit_status us_struct_read(void *ours, size_t our_size, const void *theirs, const char *name);

// Facts going out: writes at most the caller's struct_size bytes and keeps its struct_size.
usplit_status us_struct_write(void *theirs, const void *ours, size_t our_size, const char *name);

#endif
