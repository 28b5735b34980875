/* SPDX-License-Identifier: PostgreSQL
 *
 * guc.h
 *	  Settings "outbox.*".  Declared as one table in guc.c, described for users
 *	  in docs/settings.md.
 */
#ifndef OUTBOX_GUC_H
#define OUTBOX_GUC_H

typedef enum OutboxDelivery
{
	OUTBOX_DELIVERY_EXACTLY_ONCE,
	OUTBOX_DELIVERY_AT_LEAST_ONCE,
} OutboxDelivery;

typedef enum OutboxEnvelope
{
	OUTBOX_ENVELOPE_CLOUDEVENTS,
	OUTBOX_ENVELOPE_NONE,
} OutboxEnvelope;

typedef enum OutboxDivergence
{
	OUTBOX_DIVERGENCE_HOLD,
	OUTBOX_DIVERGENCE_RESEND,
	OUTBOX_DIVERGENCE_SKIP,
} OutboxDivergence;

typedef enum OutboxBacklogAction
{
	OUTBOX_BACKLOG_ERROR,
	OUTBOX_BACKLOG_WARN,
} OutboxBacklogAction;

/* What becomes of a command that drops events that were not sent. */
typedef enum OutboxDropUnsent
{
	OUTBOX_DROP_WARN,
	OUTBOX_DROP_REFUSE,
} OutboxDropUnsent;

/* What the relay does with an event Kafka refuses. */
typedef enum OutboxDeadLetterPolicy
{
	OUTBOX_DEAD_LETTER_DEAD_LETTER,
	OUTBOX_DEAD_LETTER_HOLD_KEY,
	OUTBOX_DEAD_LETTER_STOP,
	OUTBOX_DEAD_LETTER_HOLD_TOPIC, /* of a whole topic; else as HOLD_KEY */
} OutboxDeadLetterPolicy;

/* Any session (USERSET): what emit() puts in the headers. "" = none. */
extern char *outbox_guc_correlation_id;
extern char *outbox_guc_traceparent;
extern char *outbox_guc_tracestate;

/* Any session (USERSET): a guard against mistakes, not against persons. */
extern int outbox_guc_drop_unsent; /* OutboxDropUnsent */

/*
 * Superuser (SUSET): refusals of emit(), a switch of persons, and the relay's switch of a database.
 */
extern bool outbox_guc_allow_dead_letter_edit;
extern bool outbox_guc_relay;
extern int	outbox_guc_max_event_bytes;	   /* bytes of key + payload + headers */
extern int	outbox_guc_max_backlog;		   /* kB not delivered, 0 = no limit */
extern int	outbox_guc_max_backlog_action; /* OutboxBacklogAction */
extern bool outbox_guc_require_declared_topics;

/* Server (SIGHUP): the relay; the memory of claims. */
extern int	 outbox_guc_dead_letter_policy;
extern int	 outbox_guc_delivery;
extern int	 outbox_guc_envelope;
extern int	 outbox_guc_on_divergence;
extern char *outbox_guc_kafka_properties;	   /* superuser only */
extern char *outbox_guc_kafka_properties_file; /* superuser only */
extern char *outbox_guc_source;				   /* ce_source; "" = /outbox/<database> */
extern int	 outbox_guc_batch_max_events;	   /* events of one Kafka transaction */
extern int	 outbox_guc_batch_max_bytes;	   /* kB of one Kafka transaction */
extern int	 outbox_guc_idempotency_retention; /* s a claim is remembered */
extern int	 outbox_guc_retention;			   /* s an event is kept after it was relayed */
extern int	 outbox_guc_sender_idle_timeout;   /* s until an idle sender goes, 0 = never */
extern int	 outbox_guc_segment_size;		   /* MB at which the ring moves on */
extern int	 outbox_guc_window_memory;		   /* kB for the order of a window */
extern int	 outbox_guc_batch_log_rows;		   /* after which the batch log changes leaf */

/* _PG_init: defines all of them and reserves the prefix. */
extern void outbox_guc_define(void);

/* outbox.dead_letter_policy: do later events wait behind a refused one of their key? */
extern bool outbox_guc_keys_wait(void);

/* Text for views: "exactly_once", ... */
extern const char *outbox_guc_delivery_name(int delivery);
extern const char *outbox_guc_envelope_name(int envelope);

#endif /* OUTBOX_GUC_H */
