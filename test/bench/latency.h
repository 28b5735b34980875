/* SPDX-License-Identifier: PostgreSQL
 *
 * latency.h
 *	  What latency.c and the ways its events take to Kafka share.
 */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#include "bench.h"

#define LATENCY_THREADS 4	/* that make events, each its share of the rate */
#define LATENCY_PAYLOAD 300 /* bytes */

/* One run; counts and times are indexed by the event's number. */
typedef struct LatencyRun
{
	const char		*topic;
	int64_t			 total;		  /* events */
	int64_t			 interval_ns; /* between two events */
	int64_t			 start_ns;	  /* when event 0 is due */
	_Atomic int64_t *sent_ns;	  /* writer: the thread that made the event */
	int64_t			*received_ns; /* writer: the consumer's thread; 0 = not yet */
} LatencyRun;

/* A way to Kafka.  open and close are called by the main thread. */
typedef struct LatencyWay
{
	const char *name;
	/* argv[first...]: what the way needs, see latency.c */
	void (*open)(LatencyRun *run, int argc, char **argv, int first);
	/* by thread number `thread`; sets sent_ns[number] */
	void (*send)(LatencyRun *run, int thread, int64_t number, const char *key, const char *payload);
	void (*close)(void);
} LatencyWay;

extern const LatencyWay latency_outbox;
extern const LatencyWay latency_produce;
extern const LatencyWay latency_transaction;

#endif /* LATENCY_H */
