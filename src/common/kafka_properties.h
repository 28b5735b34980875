/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_properties.h
 *	  librdkafka properties a user may set: the allow-list.
 *
 * Compiled into server, sender and services.
 *
 * Not on the list, because they load libraries, run commands or fetch URLs: plugin.library.paths,
 * sasl.kerberos.*, ssl.engine.*, ssl.providers, sasl.oauthbearer.*url*, *_cb, opaque ...
 */
#ifndef OUTBOX_KAFKA_PROPERTIES_H
#define OUTBOX_KAFKA_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>

/* Who is asking: a property is taken only where it has an effect. */
typedef enum OutboxKafkaSide
{
	OUTBOX_KAFKA_PRODUCER = 1, /* the relay */
	OUTBOX_KAFKA_CURSOR = 2,   /* the relay's consumer handles, of what the producer may have */
	OUTBOX_KAFKA_CONSUMER = 4,
	OUTBOX_KAFKA_MONITOR = 8,
	OUTBOX_KAFKA_ADMIN = 16, /* outbox-topics */
} OutboxKafkaSide;

extern bool outbox_kafka_property_allowed(const char *name, OutboxKafkaSide side);

/* Is it allowed to anybody, or set by outbox itself? */
extern bool outbox_kafka_property_known(const char *name);

/* Of properties with several names (linger.ms, queue.buffering.max.ms) the same for all of them. */
extern const char *outbox_kafka_property_first_name(const char *name);

/* Why a property that is not allowed is not: a text to follow its name. */
extern void outbox_kafka_property_refuse(const char *name, OutboxKafkaSide side, char *error,
										 size_t size);

/* May its value be shown in a view or log?  false for passwords and keys. */
extern bool outbox_kafka_property_public(const char *name);

#endif /* OUTBOX_KAFKA_PROPERTIES_H */
