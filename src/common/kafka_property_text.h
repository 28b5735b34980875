/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_property_text.h
 *	  The text in which librdkafka properties are given, one a line.
 *
 * Compiled into server, sender and services.  Text: one "name=value" a line, in UTF-8, with or
 * without a byte order mark; blanks around names and values and empty lines are ignored; a line
 * that begins with # is a comment.  Everything behind the first = is the value, whatever it holds.
 * A value of a .pem property goes on until its line -----END, and \n in it is a line's end.
 */
#ifndef OUTBOX_KAFKA_PROPERTY_TEXT_H
#define OUTBOX_KAFKA_PROPERTY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "kafka_properties.h"

/*
 * Called for each property; false stops, with the reason (empty: "was not accepted") to follow
 * the property's name, without any of the value.
 */
typedef bool (*OutboxKafkaPropertyFn)(const char *name, const char *value, void *arg, char *reason,
									  size_t reason_size);

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

#endif /* OUTBOX_KAFKA_PROPERTY_TEXT_H */
