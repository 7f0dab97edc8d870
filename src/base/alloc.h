// All memory of the library comes through here: the caller's allocator, sizes checked for overflow.
#ifndef US_ALLOC_H
#define US_ALLOC_H

#include <stddef.h>

// alloc returns NULL when it has nothing; blocks are aligned to 64 bytes by us_alloc itself.
typedef struct us_allocator {
    void *(*alloc)(size_t bytes, void *user);
    void (*release)(void *block, void *user);
    void *user;
} us_allocator;

// NULL as allocator means malloc and free.

// count * size bytes, 64-byte aligned, contents undefined. NULL: out of memory or overflow (message
// set: return USPLIT_ERR_MEMORY). Zero bytes give a valid block.
void *us_alloc(const us_allocator *a, size_t count, size_t size);
void *us_calloc(const us_allocator *a, size_t count, size_t size);
char *us_strdup(const us_allocator *a, const char *text);
void us_free(const us_allocator *a, void *block);

// Live blocks and bytes of the process (for tests and for "allocates nothing" checks).
size_t us_alloc_count(void);    // allocations made so far
size_t us_alloc_live(void);     // bytes live now

#endif
