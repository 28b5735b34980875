/* SPDX-License-Identifier: PostgreSQL
 *
 * http_pool.h
 *	  So many threads and so much room before them: a job is taken or refused, never waited with.
 */
#ifndef OUTBOX_HTTP_POOL_H
#define OUTBOX_HTTP_POOL_H

#include <stdbool.h>

typedef struct OutboxHttpPool OutboxHttpPool;

/* Jobs are given to run, on the pool's threads.  NULL: no memory, no thread. */
extern OutboxHttpPool *outbox_http_pool_start(int threads, int room, void (*run)(void *job));

/*
 * Never waits; any thread.  false: every thread has a job and the room before them is full, or the
 * pool is stopped.
 */
extern bool outbox_http_pool_push(OutboxHttpPool *pool, void *job);

/* Refuses all from here on, and waits until what was taken is done. */
extern void outbox_http_pool_stop(OutboxHttpPool *pool);

/* After the stop, when nobody pushes any more. */
extern void outbox_http_pool_free(OutboxHttpPool *pool);

#endif /* OUTBOX_HTTP_POOL_H */
