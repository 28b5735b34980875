/* SPDX-License-Identifier: PostgreSQL
 *
 * error_class.h
 *	  What a failure asks of the one who sees it.
 *
 * Compiled into server, sender and services.
 */
#ifndef OUTBOX_ERROR_CLASS_H
#define OUTBOX_ERROR_CLASS_H

typedef enum OutboxErrorClass
{
	OUTBOX_ERROR_RETRIABLE = 0, /* Kafka is away or busy: wait and try again */
	OUTBOX_ERROR_ABORTABLE = 1, /* this transaction failed, the next may do */
	OUTBOX_ERROR_FATAL = 2,		/* the producer is of no more use: a new one */
	OUTBOX_ERROR_FENCED = 3,	/* another producer holds the transactional id */
	OUTBOX_ERROR_CONFIG = 4,	/* settings are wrong: a person must act */
	OUTBOX_ERROR_AUTH = 5,		/* Kafka refuses us: a person must act */
} OutboxErrorClass;

/* Name for views and logs: "retriable", "abortable", ... */
extern const char *outbox_error_class_name(OutboxErrorClass class);

#endif /* OUTBOX_ERROR_CLASS_H */
