/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_conf.c
 *	  The properties of a consumer: those the user may set, and the runtime's.
 *
 * Runs in the services: the check in the main thread at start, the rest on the member's thread and
 * that of log_check.c, log_client on any.  What the runtime relies on is set last; the list of
 * kafka_properties.c refuses it to the user.
 */
#define _GNU_SOURCE
#include "consumer_conf.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>

#include "consumer.h"
#include "services/kafka/kafka_conf.h"
#include "services/lib/log.h"

#define DESTROY_MAX_S 3

static void
log_client(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	OutboxLogLevel ours = OUTBOX_LOG_DEBUG;

	(void) rk;
	if (level <= LOG_ERR)
		ours = OUTBOX_LOG_WARNING;
	else if (level <= LOG_WARNING)
		ours = OUTBOX_LOG_INFO;
	outbox_log(ours, "kafka_client", "%s: %s", facility, text);
}

/* A list of ours, ended by a NULL name. */
static bool
set_all(rd_kafka_conf_t *conf, const char *const (*properties)[2], char *error, size_t size)
{
	bool good = true;

	for (; good && (*properties)[0] != NULL; properties++)
		good = outbox_kafka_conf_set(conf, (*properties)[0], (*properties)[1], error, size);
	return good;
}

static long
get_number(const rd_kafka_conf_t *conf, const char *name)
{
	char   value[32] = "";
	size_t size = sizeof(value);

	(void) rd_kafka_conf_get(conf, name, value, &size);
	return strtol(value, NULL, 10);
}

/*
 * Ours that the user may change, the user's, ours that nobody may.  bootstrap_servers, group,
 * client_id NULL: not set.
 */
static bool
fill_conf(rd_kafka_conf_t *conf, const OutboxConsumerConfig *config, char *error, size_t size)
{
	static const char *const defaults[][2] = {
		/* Topics may be made after the service started. */
		{"topic.metadata.refresh.interval.ms", "10000"},
		/*
		 * How soon a member hears that partitions are given out anew; the client looks each 0.5 s.
		 */
		{"heartbeat.interval.ms", "300"},
		{"queued.max.messages.kbytes", "16384"},
		{NULL, NULL},
	};
	static const char *const ours[][2] = {
		{"isolation.level", "read_committed"},
		{"auto.offset.reset", "error"}, /* position.c decides */
		{"partition.assignment.strategy", "cooperative-sticky"},
		{"enable.auto.commit", "true"},
		{"auto.commit.interval.ms", "1000"},
		{"enable.auto.offset.store", "false"},
		{"enable.partition.eof", "true"},
		{"check.crcs", "true"},
		{"statistics.interval.ms", "5000"},
		{NULL, NULL},
	};

	if (!set_all(conf, defaults, error, size) ||
		(config->client_id != NULL &&
		 !outbox_kafka_conf_set(conf, "client.id", config->client_id, error, size)) ||
		!outbox_kafka_conf_take(conf, config->properties, OUTBOX_KAFKA_CONSUMER, error, size) ||
		(config->bootstrap_servers != NULL &&
		 !outbox_kafka_conf_set(conf, "bootstrap.servers", config->bootstrap_servers, error,
								size)) ||
		(config->group != NULL &&
		 !outbox_kafka_conf_set(conf, "group.id", config->group, error, size)) ||
		(config->instance_id != NULL &&
		 !outbox_kafka_conf_set(conf, "group.instance.id", config->instance_id, error, size)) ||
		!set_all(conf, ours, error, size))
		return false;
	if (get_number(conf, "heartbeat.interval.ms") < get_number(conf, "session.timeout.ms"))
		return true;
	snprintf(error, size,
			 "Kafka property \"heartbeat.interval.ms\" is not below \"session.timeout.ms\"");
	return false;
}

bool
outbox_consumer_check_properties(const char *text, char *error, size_t size)
{
	const OutboxConsumerConfig config = {.properties = text, .group = "check"};
	rd_kafka_conf_t			  *conf = rd_kafka_conf_new();

	if (fill_conf(conf, &config, error, size))
		return outbox_kafka_conf_try(conf, RD_KAFKA_CONSUMER, text, OUTBOX_KAFKA_CONSUMER, error,
									 size);
	rd_kafka_conf_destroy(conf);
	return false;
}

rd_kafka_conf_t *
outbox_consumer_make_conf(const OutboxConsumerConfig *config)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 error[512];

	rd_kafka_conf_set_log_cb(conf, log_client);
	if (fill_conf(conf, config, error, sizeof(error)))
		return conf;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", "%s", error);
	rd_kafka_conf_destroy(conf);
	return NULL;
}

rd_kafka_conf_t *
outbox_consumer_make_reader_conf(const OutboxConsumerConfig *config)
{
	/* What an open transaction holds back is seen, too: nothing is waited for. */
	static const char *const ours[][2] = {
		{"isolation.level", "read_uncommitted"},
		{"client.rack", ""}, /* the leader alone has the whole log */
		{"enable.auto.commit", "false"},
		{"allow.auto.create.topics", "false"},
		/* then a broker that does not answer is not asked who leads */
		{"socket.timeout.ms", "10000"},
		{"statistics.interval.ms", "0"},
		{"queued.min.messages", "1"},
		{"queued.max.messages.kbytes", "1024"},
		{"fetch.message.max.bytes", "65536"},
		{"fetch.wait.max.ms", "100"},
		{"fetch.error.backoff.ms", "100"},
		{NULL, NULL},
	};
	rd_kafka_conf_t *conf = outbox_consumer_make_conf(config);
	char			 error[512];

	if (conf == NULL || set_all(conf, ours, error, sizeof(error)))
		return conf;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", "%s", error);
	rd_kafka_conf_destroy(conf);
	return NULL;
}

static void *
destroy(void *rk)
{
	rd_kafka_destroy(rk);
	return NULL;
}

void
outbox_client_destroy(rd_kafka_t *rk)
{
	struct timespec until;
	pthread_t		thread;

	if (pthread_create(&thread, NULL, destroy, rk) != 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DESTROY_MAX_S;
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		return;
	pthread_detach(thread);
	outbox_log(OUTBOX_LOG_INFO, "client_left",
			   "the Kafka client does not end: it was closed, and ends with the process");
}
