/* SPDX-License-Identifier: PostgreSQL
 *
 * breaker.h
 *	  Stops a consumer that makes dead letters only.
 *
 * Closed: dead letters in a row are counted.  So many of one fingerprint, of records that all
 * failed first after the last success, open it: no record is taken and none is retried.  After the
 * pause one record is tried; success closes it, a failure begins the next pause and makes no dead
 * letter.
 */
#ifndef OUTBOX_BREAKER_H
#define OUTBOX_BREAKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One for all members of the process. */
typedef struct OutboxBreaker
{
	pthread_mutex_t lock;	  /* of what follows, but for the settings */
	int				limit;	  /* setting; 0: never opens */
	int64_t			pause_ms; /* setting */
	char			fingerprint[64];
	int				count;		/* dead letters in a row with it */
	int64_t			success_at; /* of the last record that was done, outbox_clock_ms */
	bool			open;
	int64_t			try_at; /* open: when a record is tried, outbox_clock_ms */
} OutboxBreaker;

/* What a member may do now. */
typedef enum OutboxBreakerState
{
	OUTBOX_BREAKER_CLOSED,
	OUTBOX_BREAKER_PAUSED, /* nothing */
	OUTBOX_BREAKER_TRYING, /* one record at a time */
} OutboxBreakerState;

extern void outbox_breaker_init(OutboxBreaker *breaker, int limit, int64_t pause_ms);
extern OutboxBreakerState outbox_breaker_state(OutboxBreaker *breaker);

/* outbox_clock_ms of the next try while it is open. */
extern int64_t outbox_breaker_try_at(OutboxBreaker *breaker);

/*
 * How many more dead letters leave it closed, and the one that opens it; at least 1 while it is
 * closed.
 */
extern int outbox_breaker_room(OutboxBreaker *breaker);

/* outbox_clock_ms of the last record that was done; INT64_MIN: none. */
extern int64_t outbox_breaker_success_at(OutboxBreaker *breaker);

/* A record is done.  true: that has closed it. */
extern bool outbox_breaker_success(OutboxBreaker *breaker);

/*
 * A dead letter of that fingerprint has been written, of a record that failed first failing_ms
 * ago.  true: that has opened it.
 */
extern bool outbox_breaker_dead(OutboxBreaker *breaker, const char *fingerprint,
								int64_t failing_ms);

/* The record that was tried has failed. */
extern void outbox_breaker_again(OutboxBreaker *breaker);

#endif /* OUTBOX_BREAKER_H */
