// The context's thread pool: runs a function over task numbers 0..n-1. Which worker takes which
// task is free, so a task's result must depend on its number only, never on the worker.
#ifndef US_POOL_H
#define US_POOL_H

#include "base/alloc.h"
#include "base/status.h"

typedef struct us_pool us_pool;

// worker is 0..us_pool_size-1 (0 is the calling thread): an index into per-worker scratch.
typedef usplit_status (*us_task_fn)(void *user, int task, int worker);

// n_threads >= 1 counts the calling thread. `enter` (may be NULL) runs once on every worker thread.
usplit_status us_pool_create(us_pool **out, const us_allocator *a, int n_threads,
                             void (*enter)(void));
void us_pool_free(us_pool *pool);
int us_pool_size(const us_pool *pool);

// Runs all tasks and returns when they are done. The first failure (lowest task number among the
// failed) is returned with its message; tasks not yet started when one fails are skipped.
// Calls from several threads queue for the pool; a call from inside a task runs in that task.
usplit_status us_pool_run(us_pool *pool, int n_tasks, us_task_fn fn, void *user);

#endif
