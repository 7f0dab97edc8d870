// Thread pool: a generation counter announces a job, an atomic counter hands out its tasks.
// Workers spin briefly before they sleep, because the phases of a plan follow each other closely.
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { SPINS = 2000, MESSAGE_COPY = 512 };

struct us_pool {
    const us_allocator *a;
    us_allocator allocator;
    int n_threads;
    void (*enter)(void);
    pthread_t *threads;
    int n_started;
    struct worker_arg *args;

    pthread_mutex_t call_lock;   // one job at a time
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    atomic_uint generation;
    atomic_int stop;

    us_task_fn fn;
    void *user;
    int n_tasks;
    atomic_int next;
    atomic_int busy;             // workers that have not finished this generation
    atomic_int failed;
    int fail_task;
    usplit_status fail_status;
    char fail_message[MESSAGE_COPY];
};

typedef struct worker_arg {
    us_pool *pool;
    int index;
} worker_arg;

static _Thread_local int inside_pool;   // a task that calls us_pool_run runs its tasks inline

static void run_tasks(us_pool *pool, int worker)
{
    int outer = inside_pool;
    inside_pool = 1;
    for (;;) {
        int task = atomic_fetch_add(&pool->next, 1);
        if (task >= pool->n_tasks || atomic_load(&pool->failed)) {
            break;
        }
        usplit_status status = pool->fn(pool->user, task, worker);
        if (status != USPLIT_OK) {
            pthread_mutex_lock(&pool->lock);
            if (pool->fail_task < 0 || task < pool->fail_task) {
                pool->fail_task = task;
                pool->fail_status = status;
                snprintf(pool->fail_message, sizeof pool->fail_message, "%s", us_message_get());
            }
            atomic_store(&pool->failed, 1);
            pthread_mutex_unlock(&pool->lock);
        }
    }
    inside_pool = outer;
}

static void wait_for_job(us_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->generation) != seen || atomic_load(&pool->stop)) {
            return;
        }
        if (i % 64 == 63) {
            sched_yield();
        }
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->generation) == seen && !atomic_load(&pool->stop)) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg)
{
    worker_arg *me = arg;
    us_pool *pool = me->pool;
    unsigned seen = 0;
    if (pool->enter) {
        pool->enter();
    }
    for (;;) {
        wait_for_job(pool, seen);
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        seen = atomic_load(&pool->generation);
        run_tasks(pool, me->index);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->idle);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

usplit_status us_pool_create(us_pool **out, const us_allocator *a, int n_threads,
                             void (*enter)(void))
{
    *out = NULL;
    US_CHECK_ARG(n_threads >= 1 && n_threads <= 1024, "threads is %d; accepted: 1 to 1024",
                 n_threads);
    us_pool *pool = us_calloc(a, 1, sizeof *pool);
    if (!pool) {
        return USPLIT_ERR_MEMORY;
    }
    if (a) {
        pool->allocator = *a;
        pool->a = &pool->allocator;
    }
    pool->n_threads = n_threads;
    pool->enter = enter;
    pthread_mutex_init(&pool->call_lock, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = us_calloc(pool->a, (size_t)n_threads, sizeof *pool->threads);
    pool->args = us_calloc(pool->a, (size_t)n_threads, sizeof *pool->args);
    if (!pool->threads || !pool->args) {
        us_pool_free(pool);
        return USPLIT_ERR_MEMORY;
    }
    for (int i = 1; i < n_threads; i++) {
        pool->args[i].pool = pool;
        pool->args[i].index = i;
        int err = pthread_create(&pool->threads[i], NULL, worker_main, &pool->args[i]);
        if (err) {
            us_pool_free(pool);
            US_FAIL(USPLIT_ERR_MEMORY, "thread %d of %d could not be started (error %d)", i + 1,
                    n_threads, err);
        }
        pool->n_started = i;
    }
    *out = pool;
    return USPLIT_OK;
}

void us_pool_free(us_pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->n_started; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->call_lock);
    us_allocator copy = pool->allocator;
    const us_allocator *a = pool->a ? &copy : NULL;
    us_free(a, pool->args);
    us_free(a, pool->threads);
    us_free(a, pool);
}

int us_pool_size(const us_pool *pool)
{
    return pool->n_threads;
}

usplit_status us_pool_run(us_pool *pool, int n_tasks, us_task_fn fn, void *user)
{
    if (n_tasks <= 0) {
        return USPLIT_OK;
    }
    if (inside_pool) {
        for (int i = 0; i < n_tasks; i++) {
            US_TRY(fn(user, i, 0));
        }
        return USPLIT_OK;
    }
    pthread_mutex_lock(&pool->call_lock);
    pool->fn = fn;
    pool->user = user;
    pool->n_tasks = n_tasks;
    pool->fail_task = -1;
    pool->fail_status = USPLIT_OK;
    atomic_store(&pool->failed, 0);
    atomic_store(&pool->next, 0);
    int helpers = pool->n_threads - 1;
    if (helpers > 0 && n_tasks > 1) {
        atomic_store(&pool->busy, helpers);
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->generation, 1);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
    run_tasks(pool, 0);
    if (helpers > 0 && n_tasks > 1) {
        for (int i = 0; i < SPINS && atomic_load(&pool->busy) > 0; i++) {
            if (i % 64 == 63) {
                sched_yield();
            }
        }
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->busy) > 0) {
            pthread_cond_wait(&pool->idle, &pool->lock);
        }
        pthread_mutex_unlock(&pool->lock);
    }
    usplit_status status = pool->fail_status;
    if (status != USPLIT_OK) {
        us_message_set(pool->fail_message);
    }
    pthread_mutex_unlock(&pool->call_lock);
    return status;
}
