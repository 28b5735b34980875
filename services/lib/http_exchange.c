/* SPDX-License-Identifier: PostgreSQL
 *
 * http_exchange.c
 *	  Who holds a request, and who is first to answer it.
 *
 * Event threads, workers, the timer and who resumes.  The library's locks come after exchange_lock.
 */
#define _GNU_SOURCE
#include "http_exchange.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>

typedef enum ExchangeState
{
	EXCHANGE_COMING,	/* not whole */
	EXCHANGE_SUSPENDED, /* the connection waits */
	EXCHANGE_ANSWERED,	/* resumed, the answer not taken yet */
	EXCHANGE_DONE,		/* taken, or the connection has gone */
} ExchangeState;

struct OutboxHttpExchange
{
	struct MHD_Connection  *mhd;	/* valid until forget, which is not before ANSWERED */
	struct OutboxHttpParts *parts;	/* who has the request at the time */
	bool					parked; /* the worker */
	ExchangeState			state;	/* guarded by exchange_lock, as what follows */
	int						references;
	OutboxHttpAnswer		answer;
};

static pthread_mutex_t exchange_lock = PTHREAD_MUTEX_INITIALIZER;

OutboxHttpExchange *
outbox_http_exchange_new(void *mhd, const char *target)
{
	OutboxHttpExchange *exchange = calloc(1, sizeof(OutboxHttpExchange));

	if (exchange == NULL)
		return NULL;
	exchange->parts = outbox_http_request_new(target);
	if (exchange->parts == NULL)
	{
		free(exchange);
		return NULL;
	}
	outbox_http_request_of(exchange->parts)->exchange = exchange;
	exchange->mhd = mhd;
	exchange->references = 1;
	exchange->answer = outbox_http_answer_initial;
	return exchange;
}

struct OutboxHttpParts *
outbox_http_exchange_parts(const OutboxHttpExchange *exchange)
{
	return exchange->parts;
}

void
outbox_http_exchange_suspend(OutboxHttpExchange *exchange)
{
	pthread_mutex_lock(&exchange_lock);
	exchange->state = EXCHANGE_SUSPENDED;
	exchange->references++;
	MHD_suspend_connection(exchange->mhd);
	pthread_mutex_unlock(&exchange_lock);
}

void
outbox_http_exchange_finish(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer)
{
	pthread_mutex_lock(&exchange_lock);
	if (exchange->state == EXCHANGE_SUSPENDED)
	{
		exchange->state = EXCHANGE_ANSWERED;
		exchange->answer = *answer;
		*answer = outbox_http_answer_initial;
		MHD_resume_connection(exchange->mhd);
	}
	pthread_mutex_unlock(&exchange_lock);
	outbox_http_answer_free(answer);
}

bool
outbox_http_exchange_is_awaited(const OutboxHttpExchange *exchange)
{
	bool awaited;

	pthread_mutex_lock(&exchange_lock);
	awaited = exchange->state == EXCHANGE_SUSPENDED;
	pthread_mutex_unlock(&exchange_lock);
	return awaited;
}

bool
outbox_http_exchange_take(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer)
{
	bool there;

	pthread_mutex_lock(&exchange_lock);
	there = exchange->state == EXCHANGE_ANSWERED;
	if (there)
	{
		*answer = exchange->answer;
		exchange->answer = outbox_http_answer_initial;
		exchange->state = EXCHANGE_DONE;
	}
	pthread_mutex_unlock(&exchange_lock);
	return there;
}

void
outbox_http_exchange_release(OutboxHttpExchange *exchange)
{
	bool last;

	pthread_mutex_lock(&exchange_lock);
	last = --exchange->references == 0;
	pthread_mutex_unlock(&exchange_lock);
	if (!last)
		return;
	outbox_http_answer_free(&exchange->answer);
	outbox_http_request_free(exchange->parts);
	free(exchange);
}

void
outbox_http_exchange_forget(OutboxHttpExchange *exchange)
{
	pthread_mutex_lock(&exchange_lock);
	exchange->state = EXCHANGE_DONE;
	pthread_mutex_unlock(&exchange_lock);
	outbox_http_exchange_release(exchange);
}

OutboxHttpExchange *
outbox_http_park(const OutboxHttpRequest *request)
{
	OutboxHttpExchange *exchange = request->exchange;

	pthread_mutex_lock(&exchange_lock);
	exchange->references++;
	pthread_mutex_unlock(&exchange_lock);
	exchange->parked = true;
	return exchange;
}

bool
outbox_http_exchange_is_parked(const OutboxHttpExchange *exchange)
{
	return exchange->parked;
}

void
outbox_http_resume(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer)
{
	outbox_http_answer_match(answer, outbox_http_request_of(exchange->parts));
	outbox_http_exchange_finish(exchange, answer);
	outbox_http_exchange_release(exchange);
}
