/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_properties.c
 *	  The allow-list of librdkafka properties and the parser of their text.
 *
 * Compiled into server, sender and services.  The list is what librdkafka 2.0.2
 * knows, less what loads libraries, runs commands, fetches URLs, or belongs to
 * the relay or the consumer runtime.  No sasl.kerberos property is on it: keytab
 * and principal become part of a command line that librdkafka gives to a shell.
 */
#include "kafka_properties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCER	OUTBOX_KAFKA_PRODUCER
#define CONSUMER	OUTBOX_KAFKA_CONSUMER
#define BOTH		(OUTBOX_KAFKA_PRODUCER | OUTBOX_KAFKA_CONSUMER)

typedef struct AllowedProperty
{
	const char *name;
	int			sides;			/* OutboxKafkaSide bits */
	bool		secret;			/* value never shown */
} AllowedProperty;

/* sorted by name: searched with bsearch */
static const AllowedProperty allowed_properties[] = {
	{"allow.auto.create.topics", BOTH, false},
	{"api.version.request.timeout.ms", BOTH, false},
	{"auto.commit.interval.ms", CONSUMER, false},
	{"auto.offset.reset", CONSUMER, false},
	{"batch.num.messages", PRODUCER, false},
	{"batch.size", PRODUCER, false},
	{"bootstrap.servers", BOTH, false},
	{"broker.address.family", BOTH, false},
	{"broker.address.ttl", BOTH, false},
	{"check.crcs", CONSUMER, false},
	{"client.id", BOTH, false},
	{"client.rack", BOTH, false},
	{"compression.codec", PRODUCER, false},
	{"compression.level", PRODUCER, false},
	{"compression.type", PRODUCER, false},
	{"connections.max.idle.ms", BOTH, false},
	{"coordinator.query.interval.ms", CONSUMER, false},
	{"debug", BOTH, false},
	{"delivery.timeout.ms", PRODUCER, false},
	{"enable.ssl.certificate.verification", BOTH, false},
	{"fetch.error.backoff.ms", CONSUMER, false},
	{"fetch.max.bytes", CONSUMER, false},
	{"fetch.message.max.bytes", CONSUMER, false},
	{"fetch.min.bytes", CONSUMER, false},
	{"fetch.wait.max.ms", CONSUMER, false},
	{"heartbeat.interval.ms", CONSUMER, false},
	{"linger.ms", PRODUCER, false},
	{"log.connection.close", BOTH, false},
	{"log_level", BOTH, false},
	{"max.in.flight", PRODUCER, false},
	{"max.in.flight.requests.per.connection", PRODUCER, false},
	{"max.partition.fetch.bytes", CONSUMER, false},
	{"max.poll.interval.ms", CONSUMER, false},
	{"message.copy.max.bytes", PRODUCER, false},
	{"message.max.bytes", BOTH, false},
	{"message.send.max.retries", PRODUCER, false},
	{"message.timeout.ms", PRODUCER, false},
	{"metadata.broker.list", BOTH, false},
	{"metadata.max.age.ms", BOTH, false},
	{"partitioner", PRODUCER, false},
	{"queue.buffering.backpressure.threshold", PRODUCER, false},
	{"queue.buffering.max.kbytes", PRODUCER, false},
	{"queue.buffering.max.messages", PRODUCER, false},
	{"queue.buffering.max.ms", PRODUCER, false},
	{"queued.max.messages.kbytes", CONSUMER, false},
	{"queued.min.messages", CONSUMER, false},
	{"receive.message.max.bytes", BOTH, false},
	{"reconnect.backoff.max.ms", BOTH, false},
	{"reconnect.backoff.ms", BOTH, false},
	{"request.timeout.ms", PRODUCER, false},
	{"retries", PRODUCER, false},
	{"retry.backoff.ms", PRODUCER, false},
	{"sasl.mechanism", BOTH, false},
	{"sasl.mechanisms", BOTH, false},
	{"sasl.password", BOTH, true},
	{"sasl.username", BOTH, false},
	{"security.protocol", BOTH, false},
	{"session.timeout.ms", CONSUMER, false},
	{"socket.connection.setup.timeout.ms", BOTH, false},
	{"socket.keepalive.enable", BOTH, false},
	{"socket.max.fails", BOTH, false},
	{"socket.nagle.disable", BOTH, false},
	{"socket.receive.buffer.bytes", BOTH, false},
	{"socket.send.buffer.bytes", BOTH, false},
	{"socket.timeout.ms", BOTH, false},
	{"ssl.ca.location", BOTH, false},
	{"ssl.ca.pem", BOTH, false},
	{"ssl.certificate.location", BOTH, false},
	{"ssl.certificate.pem", BOTH, false},
	{"ssl.cipher.suites", BOTH, false},
	{"ssl.crl.location", BOTH, false},
	{"ssl.curves.list", BOTH, false},
	{"ssl.endpoint.identification.algorithm", BOTH, false},
	{"ssl.key.location", BOTH, false},
	{"ssl.key.password", BOTH, true},
	{"ssl.key.pem", BOTH, true},
	{"ssl.keystore.location", BOTH, false},
	{"ssl.keystore.password", BOTH, true},
	{"ssl.sigalgs.list", BOTH, false},
	{"sticky.partitioning.linger.ms", PRODUCER, false},
	{"topic.metadata.propagation.max.ms", BOTH, false},
	{"topic.metadata.refresh.fast.interval.ms", BOTH, false},
	{"topic.metadata.refresh.interval.ms", BOTH, false},
	{"topic.metadata.refresh.sparse", BOTH, false},
	{"transaction.timeout.ms", PRODUCER, false},
};

static int
compare_names(const void *name, const void *property)
{
	return strcmp(name, ((const AllowedProperty *) property)->name);
}

static const AllowedProperty *
find_property(const char *name)
{
	return bsearch(name, allowed_properties,
				   sizeof(allowed_properties) / sizeof(allowed_properties[0]),
				   sizeof(allowed_properties[0]), compare_names);
}

bool
outbox_kafka_property_allowed(const char *name, OutboxKafkaSide side)
{
	const AllowedProperty *property = find_property(name);

	return property != NULL && (property->sides & (int) side) != 0;
}

/*
 * Names that are not on the list are set by the relay itself; they are shown
 * unless they look like a secret.
 */
bool
outbox_kafka_property_public(const char *name)
{
	const AllowedProperty *property = find_property(name);

	if (property != NULL)
		return !property->secret;
	return strstr(name, "password") == NULL && strstr(name, "secret") == NULL &&
		strstr(name, "key") == NULL && strstr(name, "token") == NULL;
}

static char *
trim_blanks(char *text)
{
	char	   *end;

	while (*text == ' ' || *text == '\t' || *text == '\r')
		text++;
	end = text + strlen(text);
	while (end > text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	*end = '\0';
	return text;
}

/* One item; false stops the parse, with a sentence unless fn stopped it. */
static bool
parse_item(char *item, OutboxKafkaSide side, OutboxKafkaPropertyFn fn, void *arg,
		   char *error, size_t error_size)
{
	char	   *equals;
	char	   *name;

	item = trim_blanks(item);
	if (*item == '\0')
		return true;
	equals = strchr(item, '=');
	if (equals == NULL)
	{
		snprintf(error, error_size, "a Kafka property has no \"=\" after its name");
		return false;
	}
	*equals = '\0';
	name = trim_blanks(item);
	if (!outbox_kafka_property_allowed(name, side))
	{
		snprintf(error, error_size, "Kafka property \"%.100s\" is %s", name,
				 find_property(name) != NULL ? "of no use on this side" :
				 "unknown or not allowed");
		return false;
	}
	if (fn != NULL && !fn(name, trim_blanks(equals + 1), arg))
	{
		snprintf(error, error_size, "Kafka property \"%.100s\" was not accepted", name);
		return false;
	}
	return true;
}

/* The items of one line, which is modified. */
static bool
parse_line(char *line, OutboxKafkaSide side, OutboxKafkaPropertyFn fn, void *arg,
		   char *error, size_t error_size)
{
	char	   *item = trim_blanks(line);

	if (*item == '#')
		return true;
	while (item != NULL)
	{
		char	   *semicolon = strchr(item, ';');

		if (semicolon != NULL)
			*semicolon++ = '\0';
		if (!parse_item(item, side, fn, arg, error, error_size))
			return false;
		item = semicolon;
	}
	return true;
}

bool
outbox_kafka_properties_parse(const char *text, OutboxKafkaSide side,
							  OutboxKafkaPropertyFn fn, void *arg,
							  char *error, size_t error_size)
{
	char	   *copy = strdup(text);
	char	   *line = copy;
	bool		ok = true;

	if (copy == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return false;
	}
	while (ok && line != NULL)
	{
		char	   *newline = strchr(line, '\n');

		if (newline != NULL)
			*newline++ = '\0';
		ok = parse_line(line, side, fn, arg, error, error_size);
		line = newline;
	}
	free(copy);
	return ok;
}
