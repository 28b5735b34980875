/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.h
 *	  The settings every service has.
 */
#ifndef OUTBOX_SETTINGS_H
#define OUTBOX_SETTINGS_H

#include "services/lib/config.h"

#define OUTBOX_MEMBERS_MAX 64 /* threads */

/* dlt_order: what later records of a key with a failing or dead one do. */
enum
{
	OUTBOX_ORDER_HOLD, /* they wait */
	OUTBOX_ORDER_SKIP, /* they pass */
};

/* dlt_headers: of dead letters. */
enum
{
	OUTBOX_HEADERS_STANDARD,
	OUTBOX_HEADERS_SPRING, /* and Spring Kafka's besides */
};

/* Written by the main thread before the others start; read by any. */
typedef struct OutboxConsumerSettings
{
	const char *bootstrap_servers;
	const char *database;		   /* connection string */
	const char *group_id;		   /* consumer group, and the consumer's name in the database */
	const char *group_instance_id; /* "": dynamic members */
	const char *kafka_properties;
	const char *otlp_endpoint; /* "": not given */
	int			threads;
	int			batch_max;
	int			batch_wait_ms;
	int			calls_max;
	int			retry_max;
	int			retry_backoff_ms;
	double		retry_backoff_multiplier;
	int			retry_backoff_max_ms;
	int			crash_max;
	int			crash_after_seconds;
	int			dlt_breaker;
	int			dlt_breaker_pause_ms;
	int			dlt_order;
	int			dlt_headers;
	int			statement_timeout_ms;
	int			idle_seconds;
	int			log_level; /* OutboxLogLevel */
	int			otlp_queue_spans;
} OutboxConsumerSettings;

extern OutboxConsumerSettings outbox_settings;

/* For outbox_config_add; ended by a NULL name. */
extern const OutboxOption outbox_settings_options[];

#endif /* OUTBOX_SETTINGS_H */
