/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_properties.c
 *	  The allow-list of librdkafka properties.
 *
 * Compiled into server, sender and services.  The list is what librdkafka 2.0.2
 * knows, less what loads libraries, runs commands, fetches URLs, or is set by
 * the relay or the consumer runtime.  No sasl.kerberos property is on it: keytab
 * and principal become part of a command line that librdkafka gives to a shell.
 */
#include "kafka_properties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCER OUTBOX_KAFKA_PRODUCER
#define CONSUMER OUTBOX_KAFKA_CONSUMER
#define RELAY	 (OUTBOX_KAFKA_PRODUCER | OUTBOX_KAFKA_CURSOR)
#define READERS	 (OUTBOX_KAFKA_CURSOR | OUTBOX_KAFKA_CONSUMER | OUTBOX_KAFKA_MONITOR)
#define LOGGED	 (RELAY | READERS)
#define CLIENTS	 (LOGGED | OUTBOX_KAFKA_ADMIN)

typedef struct AllowedProperty
{
	const char *name;
	int			sides;		/* OutboxKafkaSide bits: where it has an effect */
	bool		secret;		/* value never shown */
	const char *other_name; /* the property's first name; NULL: this is it */
} AllowedProperty;

/* sorted by name: searched with bsearch */
static const AllowedProperty allowed_properties[] = {
	{"allow.auto.create.topics", PRODUCER | CONSUMER, false, NULL},
	{"api.version.request.timeout.ms", CLIENTS, false, NULL},
	{"batch.num.messages", PRODUCER, false, NULL},
	{"batch.size", PRODUCER, false, NULL},
	{"bootstrap.servers", RELAY, false, NULL},
	{"broker.address.family", CLIENTS, false, NULL},
	{"broker.address.ttl", CLIENTS, false, NULL},
	{"client.id", CLIENTS, false, NULL},
	{"client.rack", READERS, false, NULL},
	{"compression.codec", PRODUCER, false, NULL},
	{"compression.level", PRODUCER, false, NULL},
	{"compression.type", PRODUCER, false, "compression.codec"},
	{"connections.max.idle.ms", CLIENTS, false, NULL},
	{"coordinator.query.interval.ms", READERS, false, NULL},
	{"debug", LOGGED, false, NULL},
	{"delivery.timeout.ms", PRODUCER, false, "message.timeout.ms"},
	{"enable.ssl.certificate.verification", CLIENTS, false, NULL},
	{"fetch.error.backoff.ms", READERS, false, NULL},
	{"fetch.max.bytes", READERS, false, NULL},
	{"fetch.message.max.bytes", CONSUMER, false, NULL},
	{"fetch.min.bytes", READERS, false, NULL},
	{"fetch.wait.max.ms", CONSUMER, false, NULL},
	{"heartbeat.interval.ms", CONSUMER, false, NULL},
	{"linger.ms", PRODUCER, false, NULL},
	{"log.connection.close", LOGGED, false, NULL},
	{"log_level", LOGGED, false, NULL},
	{"max.in.flight", PRODUCER, false, "max.in.flight.requests.per.connection"},
	{"max.in.flight.requests.per.connection", PRODUCER, false, NULL},
	{"max.partition.fetch.bytes", CONSUMER, false, "fetch.message.max.bytes"},
	{"max.poll.interval.ms", CONSUMER, false, NULL},
	{"message.copy.max.bytes", PRODUCER, false, NULL},
	{"message.max.bytes", PRODUCER | READERS, false, NULL},
	{"message.send.max.retries", PRODUCER, false, NULL},
	{"message.timeout.ms", PRODUCER, false, NULL},
	{"metadata.broker.list", RELAY, false, "bootstrap.servers"},
	{"metadata.max.age.ms", CLIENTS, false, NULL},
	{"partitioner", PRODUCER, false, NULL},
	{"queue.buffering.backpressure.threshold", PRODUCER, false, NULL},
	{"queue.buffering.max.kbytes", PRODUCER, false, NULL},
	{"queue.buffering.max.messages", PRODUCER, false, NULL},
	{"queue.buffering.max.ms", PRODUCER, false, "linger.ms"},
	{"queued.max.messages.kbytes", CONSUMER, false, NULL},
	{"queued.min.messages", CONSUMER, false, NULL},
	{"receive.message.max.bytes", CLIENTS, false, NULL},
	{"reconnect.backoff.max.ms", CLIENTS, false, NULL},
	{"reconnect.backoff.ms", CLIENTS, false, NULL},
	{"request.timeout.ms", PRODUCER, false, NULL},
	{"retries", PRODUCER, false, "message.send.max.retries"},
	{"retry.backoff.ms", PRODUCER, false, NULL},
	{"sasl.mechanism", CLIENTS, false, "sasl.mechanisms"},
	{"sasl.mechanisms", CLIENTS, false, NULL},
	{"sasl.password", CLIENTS, true, NULL},
	{"sasl.username", CLIENTS, false, NULL},
	{"security.protocol", CLIENTS, false, NULL},
	{"session.timeout.ms", CONSUMER, false, NULL},
	{"socket.connection.setup.timeout.ms", CLIENTS, false, NULL},
	{"socket.keepalive.enable", CLIENTS, false, NULL},
	{"socket.max.fails", CLIENTS, false, NULL},
	{"socket.nagle.disable", CLIENTS, false, NULL},
	{"socket.receive.buffer.bytes", CLIENTS, false, NULL},
	{"socket.send.buffer.bytes", CLIENTS, false, NULL},
	{"socket.timeout.ms", CLIENTS, false, NULL},
	{"ssl.ca.location", CLIENTS, false, NULL},
	{"ssl.ca.pem", CLIENTS, false, NULL},
	{"ssl.certificate.location", CLIENTS, false, NULL},
	{"ssl.certificate.pem", CLIENTS, false, NULL},
	{"ssl.cipher.suites", CLIENTS, false, NULL},
	{"ssl.crl.location", CLIENTS, false, NULL},
	{"ssl.curves.list", CLIENTS, false, NULL},
	{"ssl.endpoint.identification.algorithm", CLIENTS, false, NULL},
	{"ssl.key.location", CLIENTS, false, NULL},
	{"ssl.key.password", CLIENTS, true, NULL},
	{"ssl.key.pem", CLIENTS, true, NULL},
	{"ssl.keystore.location", CLIENTS, false, NULL},
	{"ssl.keystore.password", CLIENTS, true, NULL},
	{"ssl.sigalgs.list", CLIENTS, false, NULL},
	{"sticky.partitioning.linger.ms", PRODUCER, false, NULL},
	{"topic.metadata.propagation.max.ms", CLIENTS, false, NULL},
	{"topic.metadata.refresh.fast.interval.ms", CLIENTS, false, NULL},
	{"topic.metadata.refresh.interval.ms", CLIENTS, false, NULL},
	{"topic.metadata.refresh.sparse", CLIENTS, false, NULL},
	{"transaction.timeout.ms", PRODUCER, false, NULL},
};

/* What outbox sets itself, and the setting with which a user chooses it; NULL: nobody does. */
static const struct
{
	const char *name;
	const char *service_setting;
	const char *tool_setting;
} own_properties[] = {
	{"acks", NULL, NULL},
	{"auto.commit.enable", NULL, NULL},
	{"auto.commit.interval.ms", NULL, NULL},
	{"auto.offset.reset", NULL, NULL},
	{"bootstrap.servers", "bootstrap_servers", "--bootstrap-servers"},
	{"check.crcs", NULL, NULL},
	{"delivery.report.only.error", NULL, NULL},
	{"enable.auto.commit", NULL, NULL},
	{"enable.auto.offset.store", NULL, NULL},
	{"enable.gapless.guarantee", NULL, NULL},
	{"enable.idempotence", NULL, NULL},
	{"enable.partition.eof", NULL, NULL},
	{"enable.random.seed", NULL, NULL},
	{"fetch.message.max.bytes", NULL, NULL},
	{"fetch.wait.max.ms", NULL, NULL},
	{"group.id", "group_id", NULL},
	{"group.instance.id", "group_instance_id", NULL},
	{"isolation.level", NULL, NULL},
	{"max.partition.fetch.bytes", NULL, NULL},
	{"metadata.broker.list", "bootstrap_servers", "--bootstrap-servers"},
	{"partition.assignment.strategy", NULL, NULL},
	{"queued.max.messages.kbytes", NULL, NULL},
	{"queued.min.messages", NULL, NULL},
	{"request.required.acks", NULL, NULL},
	{"statistics.interval.ms", NULL, NULL},
	{"transactional.id", NULL, NULL},
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

bool
outbox_kafka_property_known(const char *name)
{
	bool known = find_property(name) != NULL;

	for (size_t i = 0; i < sizeof(own_properties) / sizeof(own_properties[0]) && !known; i++)
		known = strcmp(own_properties[i].name, name) == 0;
	return known;
}

const char *
outbox_kafka_property_first_name(const char *name)
{
	const AllowedProperty *property = find_property(name);

	return property != NULL && property->other_name != NULL ? property->other_name : name;
}

/* Why the property, which is not allowed, is not; behind its name. */
void
outbox_kafka_property_refuse(const char *name, OutboxKafkaSide side, char *error, size_t size)
{
	const AllowedProperty *property = find_property(name);

	for (size_t i = 0; i < sizeof(own_properties) / sizeof(own_properties[0]); i++)
	{
		const char *setting = NULL;

		if (strcmp(own_properties[i].name, name) != 0 ||
			(property != NULL && side != OUTBOX_KAFKA_MONITOR &&
			 own_properties[i].tool_setting == NULL))
			continue;
		if (side == OUTBOX_KAFKA_CONSUMER ||
			(side == OUTBOX_KAFKA_MONITOR && own_properties[i].tool_setting != NULL))
			setting = own_properties[i].service_setting;
		else if (side == OUTBOX_KAFKA_ADMIN)
			setting = own_properties[i].tool_setting;
		snprintf(error, size, "is set by outbox itself%s%s",
				 setting != NULL ? ": use the setting " : "", setting != NULL ? setting : "");
		return;
	}
	snprintf(error, size, "%s",
			 property != NULL ? "is of no use on this side" : "is unknown or not allowed");
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
