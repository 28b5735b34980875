/* SPDX-License-Identifier: PostgreSQL
 *
 * call_pool.c
 *	  Threads that calls to other systems run on.
 *
 * Runs in the services, on its own threads; the lock is never held over a job.  The threads end
 * with the process, for a call cannot be taken back.
 */
#define _GNU_SOURCE
#include "call_pool.h"

#include <stdlib.h>

#include "services/lib/clock.h"

#define STACK_BYTES (512 * 1024)

struct OutboxCallPool
{
	int				threads_max; /* written before the first push */
	OutboxCallQueue jobs;		 /* its lock guards what follows, too */
	pthread_cond_t	wake;		 /* a job came */
	int				threads;
	int				idle;
	int				waiting; /* jobs in the queue */
	int				under_way;
};

void
outbox_call_queue_init(OutboxCallQueue *queue)
{
	pthread_mutex_init(&queue->lock, NULL);
	queue->first = queue->last = NULL;
}

/* The caller has the lock. */
static void
append(OutboxCallQueue *queue, OutboxCallJob *job)
{
	job->next = NULL;
	if (queue->last != NULL)
		queue->last->next = job;
	else
		queue->first = job;
	queue->last = job;
}

/* The caller has the lock. */
static OutboxCallJob *
take_first(OutboxCallQueue *queue)
{
	OutboxCallJob *job = queue->first;

	if (job != NULL)
		queue->first = job->next;
	if (queue->first == NULL)
		queue->last = NULL;
	return job;
}

OutboxCallJob *
outbox_call_queue_take(OutboxCallQueue *queue)
{
	OutboxCallJob *job;

	pthread_mutex_lock(&queue->lock);
	job = take_first(queue);
	pthread_mutex_unlock(&queue->lock);
	return job;
}

static void
run_job(OutboxCallJob *job)
{
	int64_t started = outbox_clock_ms();

	job->run(job);
	job->took_ms = outbox_clock_ms() - started;
	pthread_mutex_lock(&job->answers->lock);
	append(job->answers, job);
	pthread_mutex_unlock(&job->answers->lock);
}

static void *
work(void *arg)
{
	OutboxCallPool *pool = arg;
	OutboxCallJob  *job;

	pthread_mutex_lock(&pool->jobs.lock);
	for (;;)
	{
		pool->idle++;
		while ((job = take_first(&pool->jobs)) == NULL)
			pthread_cond_wait(&pool->wake, &pool->jobs.lock);
		pool->idle--;
		pool->waiting--;
		pthread_mutex_unlock(&pool->jobs.lock);
		run_job(job);
		pthread_mutex_lock(&pool->jobs.lock);
		pool->under_way--;
	}
	return NULL;
}

OutboxCallPool *
outbox_call_pool_make(int threads_max)
{
	OutboxCallPool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		abort(); /* no memory for a hundred bytes */
	pool->threads_max = threads_max;
	outbox_call_queue_init(&pool->jobs);
	pthread_cond_init(&pool->wake, NULL);
	return pool;
}

/* The caller has the lock. */
static void
add_thread(OutboxCallPool *pool)
{
	pthread_attr_t attributes;
	pthread_t	   thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pool->threads += pthread_create(&thread, &attributes, work, pool) == 0;
	pthread_attr_destroy(&attributes);
}

bool
outbox_call_pool_push(OutboxCallPool *pool, OutboxCallJob *job)
{
	bool taken;

	pthread_mutex_lock(&pool->jobs.lock);
	if (pool->waiting >= pool->idle && pool->threads < pool->threads_max)
		add_thread(pool);
	taken = pool->threads > 0;
	if (taken)
	{
		append(&pool->jobs, job);
		pool->waiting++;
		pool->under_way++;
		pthread_cond_signal(&pool->wake);
	}
	pthread_mutex_unlock(&pool->jobs.lock);
	return taken;
}

int
outbox_call_pool_under_way(OutboxCallPool *pool)
{
	int under_way;

	pthread_mutex_lock(&pool->jobs.lock);
	under_way = pool->under_way;
	pthread_mutex_unlock(&pool->jobs.lock);
	return under_way;
}
