// us_alloc: one header in front of every block remembers the raw pointer and the size.
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

enum { ALIGN = 64 };

typedef struct block_header {
    void *raw;
    size_t bytes;
} block_header;

static atomic_size_t alloc_count;
static atomic_size_t alloc_live;

void *us_alloc(const us_allocator *a, size_t count, size_t size)
{
    size_t extra = ALIGN + sizeof(block_header);
    if (size != 0 && count > (SIZE_MAX - extra) / size) {
        us_fail(USPLIT_ERR_MEMORY, "out of memory: %zu x %zu bytes overflow", count, size);
        return NULL;
    }
    size_t bytes = count * size;
    char *raw = a && a->alloc ? a->alloc(bytes + extra, a->user) : malloc(bytes + extra);
    if (!raw) {
        us_fail(USPLIT_ERR_MEMORY, "out of memory: %zu bytes were refused", bytes);
        return NULL;
    }
    uintptr_t at = ((uintptr_t)raw + extra) & ~(uintptr_t)(ALIGN - 1);
    block_header *header = (block_header *)at - 1;
    header->raw = raw;
    header->bytes = bytes;
    atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&alloc_live, bytes, memory_order_relaxed);
    return (void *)at;
}

void *us_calloc(const us_allocator *a, size_t count, size_t size)
{
    void *block = us_alloc(a, count, size);
    if (block) {
        memset(block, 0, count * size);
    }
    return block;
}

char *us_strdup(const us_allocator *a, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = us_alloc(a, n, 1);
    if (copy) {
        memcpy(copy, text, n);
    }
    return copy;
}

void us_free(const us_allocator *a, void *block)
{
    if (!block) {
        return;
    }
    block_header *header = (block_header *)block - 1;
    atomic_fetch_sub_explicit(&alloc_live, header->bytes, memory_order_relaxed);
    if (a && a->release) {
        a->release(header->raw, a->user);
    } else {
        free(header->raw);
    }
}

size_t us_alloc_count(void)
{
    return atomic_load_explicit(&alloc_count, memory_order_relaxed);
}

size_t us_alloc_live(void)
{
    return atomic_load_explicit(&alloc_live, memory_order_relaxed);
}
