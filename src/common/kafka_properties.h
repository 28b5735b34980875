/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_properties.h
 *	  librdkafka properties a user may set: the allow-list and the text format.
 *
 * Compiled into server, sender and services.  Text: "name=value" items
 * separated by newlines or semicolons; blanks around names and values and empty items are
 * ignored; a line that begins with # is a comment.  Not on the list, because
 * they load libraries, run commands, fetch URLs or belong to the relay:
 * plugin.library.paths, sasl.kerberos.*, ssl.engine.*, ssl.providers,
 * sasl.oauthbearer.*url*, transactional.id, enable.idempotence, acks, *_cb, opaque ...
 */
#ifndef OUTBOX_KAFKA_PROPERTIES_H
#define OUTBOX_KAFKA_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>

/* Who is asking: some properties make sense on one side only. */
typedef enum OutboxKafkaSide
{
	OUTBOX_KAFKA_PRODUCER = 1,
	OUTBOX_KAFKA_CONSUMER = 2,
} OutboxKafkaSide;

/* Called for each item; return false to stop. */
typedef bool (*OutboxKafkaPropertyFn) (const char *name, const char *value, void *arg);

extern bool outbox_kafka_property_allowed(const char *name, OutboxKafkaSide side);

/* May its value be shown in a view or log?  false for passwords and keys. */
extern bool outbox_kafka_property_public(const char *name);

/*
 * Splits text and checks each name against the allow-list.  On failure returns false with one
 * sentence in error (never a value in it).  fn may be NULL: check only.
 * Uses malloc for its scratch copy, no memory is kept.
 */
extern bool outbox_kafka_properties_parse(const char *text, OutboxKafkaSide side,
										  OutboxKafkaPropertyFn fn, void *arg,
										  char *error, size_t error_size);

#endif							/* OUTBOX_KAFKA_PROPERTIES_H */
