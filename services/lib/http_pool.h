/* SPDX-License-Identifier: PostgreSQL
 *
 * http_pool.h
 *	  So many threads and so much room before them: a job is taken or refused, never waited with.
 */
#ifndef OUTBOX_HTTP_POOL_H
#define OUTBOX_HTTP_POOL_H

#include <stdbool.h>

typedef struct OutboxHttpPool OutboxHttpPool;

/* What is done with a job.  The last two run under the pool's lock, on the thread that pushes. */
typedef struct OutboxHttpJobs
{
	void (*run)(void *job);				/* on the pool's threads */
	bool (*is_wanted)(const void *job); /* of one that waits: is it to be run still? */
	void (*drop)(void *job);			/* instead of run */
} OutboxHttpJobs;

/* NULL: no memory, no thread. */
extern OutboxHttpPool *outbox_http_pool_start(int threads, int room, const OutboxHttpJobs *jobs);

/*
 * Never waits; any thread.  Where the room is full, jobs in it that are not wanted any more are
 * dropped.  false: every thread has a job and the room before them is full of wanted ones, or the
 * pool is stopped.
 */
extern bool outbox_http_pool_push(OutboxHttpPool *pool, void *job);

/* Refuses all from here on, and waits until what was taken is done. */
extern void outbox_http_pool_stop(OutboxHttpPool *pool);

/* After the stop, when nobody pushes any more. */
extern void outbox_http_pool_free(OutboxHttpPool *pool);

#endif /* OUTBOX_HTTP_POOL_H */
