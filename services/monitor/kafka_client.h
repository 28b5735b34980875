/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_client.h
 *	  The monitor's two handles of librdkafka, and its admin requests.
 *
 * Poller thread, but for outbox_kafka_client_cancel.
 *
 * Requests to coordinators never time out here, the poll merely stops waiting: librdkafka (2.0.2;
 * its issue 4605, open) aborts the process when a coordinator turns up for a request that has timed
 * out.  What is still under way is not asked for again.
 */
#ifndef OUTBOX_KAFKA_CLIENT_H
#define OUTBOX_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Written by open and close alone.  Neither handle joins a group nor commits. */
typedef struct OutboxKafkaClient
{
	/* read_committed: a log's end is its last stable offset; reads first pending records */
	rd_kafka_t *committed;
	rd_kafka_t *uncommitted; /* read_uncommitted: a log's end is its high watermark */
	int			timeout_ms;	 /* longest wait for one answer */
} OutboxKafkaClient;

/* Option check of kafka_properties. */
extern bool outbox_kafka_client_check(const char *properties, char *error, size_t size);

/*
 * The configuration of one of its handles, the caller's; isolation as in isolation.level.  NULL: a
 * property is refused, logged.
 */
extern rd_kafka_conf_t *outbox_kafka_client_conf(const char *bootstrap_servers,
												 const char *properties, const char *isolation);

/* false on failure, logged: nothing is open. */
extern bool outbox_kafka_client_open(OutboxKafkaClient *client, const char *bootstrap_servers,
									 const char *properties, int timeout_ms);

/* Its queues are destroyed before.  May hang when a coordinator was never found. */
extern void outbox_kafka_client_close(OutboxKafkaClient *client);

/*
 * Options of an admin request, the caller's; opaque comes back with the answer.  patient: no
 * time-out but the longest there is, an hour.
 */
extern rd_kafka_AdminOptions_t *outbox_kafka_client_options(const OutboxKafkaClient *client,
															rd_kafka_admin_op_t		 operation,
															void *opaque, bool patient);

/*
 * Has a patient request of that time (outbox_clock_ms; 0: none is under way) used up so much of its
 * hour that a new client should take over?
 */
extern bool outbox_kafka_client_worn(int64_t asked_at);

/* Any thread: from here on, and for good, no answer is waited for but the one under way. */
extern void outbox_kafka_client_cancel(void);
extern bool outbox_kafka_client_cancelled(void);

#endif /* OUTBOX_KAFKA_CLIENT_H */
