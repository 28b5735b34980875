/* SPDX-License-Identifier: PostgreSQL
 *
 * http_pool.c
 *	  A ring of jobs and the threads that empty it.
 *
 * Runs on its own threads; the lock is never held over a job.
 */
#define _GNU_SOURCE
#include "http_pool.h"

#include <pthread.h>
#include <stdlib.h>

struct OutboxHttpPool
{
	OutboxHttpJobs	kind; /* this and the sizes: written before the threads start */
	int				threads;
	int				most;  /* jobs at once, under way or waiting; also slots of the ring */
	pthread_mutex_t lock;  /* guards what follows */
	pthread_cond_t	wake;  /* a job came, or the end */
	int				first; /* slot of the job that waits longest */
	int				waiting;
	int				under_way;
	bool			stopping;
	pthread_t	   *ids; /* who starts and stops */
	void		   *jobs[];
};

static void *
work(void *arg)
{
	OutboxHttpPool *pool = arg;
	void		   *job;

	pthread_mutex_lock(&pool->lock);
	for (;;)
	{
		while (pool->waiting == 0 && !pool->stopping)
			pthread_cond_wait(&pool->wake, &pool->lock);
		if (pool->waiting == 0)
			break;
		job = pool->jobs[pool->first];
		pool->first = (pool->first + 1) % pool->most;
		pool->waiting--;
		pool->under_way++;
		pthread_mutex_unlock(&pool->lock);
		pool->kind.run(job);
		pthread_mutex_lock(&pool->lock);
		pool->under_way--;
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

OutboxHttpPool *
outbox_http_pool_start(int threads, int room, const OutboxHttpJobs *jobs)
{
	int				most = threads + room;
	OutboxHttpPool *pool = calloc(1, sizeof(OutboxHttpPool) + (size_t) most * sizeof(void *));

	if (pool == NULL)
		return NULL;
	pool->kind = *jobs;
	pool->most = most;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pool->ids = calloc((size_t) threads, sizeof(pthread_t));
	while (pool->ids != NULL && pool->threads < threads &&
		   pthread_create(&pool->ids[pool->threads], NULL, work, pool) == 0)
		pool->threads++;
	if (pool->threads == threads)
		return pool;
	outbox_http_pool_stop(pool);
	outbox_http_pool_free(pool);
	return NULL;
}

/* Under the lock: waiting jobs that nobody wants any more leave, the others keep their order. */
static void
drop_unwanted(OutboxHttpPool *pool)
{
	int kept = 0;

	for (int i = 0; i < pool->waiting; i++)
	{
		void *job = pool->jobs[(pool->first + i) % pool->most];

		if (pool->kind.is_wanted(job))
			pool->jobs[(pool->first + kept++) % pool->most] = job;
		else
			pool->kind.drop(job);
	}
	pool->waiting = kept;
}

bool
outbox_http_pool_push(OutboxHttpPool *pool, void *job)
{
	bool taken;

	pthread_mutex_lock(&pool->lock);
	if (pool->waiting + pool->under_way >= pool->most)
		drop_unwanted(pool);
	taken = !pool->stopping && pool->waiting + pool->under_way < pool->most;
	if (taken)
	{
		pool->jobs[(pool->first + pool->waiting) % pool->most] = job;
		pool->waiting++;
		pthread_cond_signal(&pool->wake);
	}
	pthread_mutex_unlock(&pool->lock);
	return taken;
}

void
outbox_http_pool_stop(OutboxHttpPool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (int i = 0; i < pool->threads; i++)
		pthread_join(pool->ids[i], NULL);
}

void
outbox_http_pool_free(OutboxHttpPool *pool)
{
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool->ids);
	free(pool);
}
