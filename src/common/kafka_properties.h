/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_properties.h
 *	  librdkafka properties a user may set: the allow-list and the text format.
 *
 * Compiled into server, sender and services.  Text: one "name=value" a line, in UTF-8, with or
 * without a byte order mark; blanks around names and values and empty lines are ignored; a line
 * that begins with # is a comment.  Everything behind the first = is the value, whatever it holds.
 * A value of a .pem property goes on until its line -----END, and \n in it is a line's end.
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

/*
 * Called for each property; false stops, with the reason (empty: "was not accepted") to follow
 * the property's name, without any of the value.
 */
typedef bool (*OutboxKafkaPropertyFn)(const char *name, const char *value, void *arg, char *reason,
									  size_t reason_size);

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

/*
 * Reads text and checks each name against the allow-list.  On failure returns false with one
 * sentence in error, "line 3: ..." (never any of a value in it).  fn may be NULL: check only.
 * Uses malloc for its scratch copy, which is zeroed; no memory is kept.
 */
extern bool outbox_kafka_properties_parse(const char *text, OutboxKafkaSide side,
										  OutboxKafkaPropertyFn fn, void *arg, char *error,
										  size_t error_size);

/*
 * Turns each \n (two characters) of the setting outbox.kafka_properties into a line's end, in
 * place: ALTER SYSTEM takes no other one.
 */
extern void outbox_kafka_properties_unescape(char *text);

/* What is wrong with a list host:port,host:port, to follow its name; NULL: nothing. */
extern const char *outbox_kafka_servers_flaw(const char *servers);

/*
 * librdkafka's refusal of a value as a text to follow the property's name: what it allows, but
 * nothing of the value.
 */
extern void outbox_kafka_refusal(const char *librdkafka, char *reason, size_t size);

/* Puts "..." where the value, if it is no number, stands in text. */
extern void outbox_kafka_hide_value(char *text, const char *value);

#endif /* OUTBOX_KAFKA_PROPERTIES_H */
