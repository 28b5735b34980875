/* SPDX-License-Identifier: PostgreSQL
 *
 * call_pool.h
 *	  Threads that calls to other systems run on, and the queues their answers come back by.
 *
 * One pool for the process.  A thread is made when a job finds none idle, up to the pool's size;
 * more jobs wait.  A job belongs to the pool from the push until it is in the queue of who gave it.
 */
#ifndef OUTBOX_CALL_POOL_H
#define OUTBOX_CALL_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct OutboxCallQueue;

typedef struct OutboxCallJob
{
	void (*run)(struct OutboxCallJob *job); /* on a thread of the pool */
	struct OutboxCallQueue *answers;		/* where it comes back */
	int64_t					took_ms;		/* the pool's thread writes */
	struct OutboxCallJob   *next;			/* the queue's it is in */
} OutboxCallJob;

/* Jobs in the order they came; all fields under the lock. */
typedef struct OutboxCallQueue
{
	pthread_mutex_t lock;
	OutboxCallJob  *first; /* NULL: empty */
	OutboxCallJob  *last;
} OutboxCallQueue;

typedef struct OutboxCallPool OutboxCallPool;

extern void outbox_call_queue_init(OutboxCallQueue *queue);

/* The job that came first, or NULL; any thread. */
extern OutboxCallJob *outbox_call_queue_take(OutboxCallQueue *queue);

/* A pool of at most so many threads; lives as long as the process. */
extern OutboxCallPool *outbox_call_pool_make(int threads_max);

/* Never waits; any thread.  false: there is no thread and none can be made. */
extern bool outbox_call_pool_push(OutboxCallPool *pool, OutboxCallJob *job);

/* Jobs given and not back. */
extern int outbox_call_pool_under_way(OutboxCallPool *pool);

#endif /* OUTBOX_CALL_POOL_H */
