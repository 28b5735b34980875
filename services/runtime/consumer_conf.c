/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_conf.c
 *	  The properties of a consumer: those the user may set, and the runtime's.
 *
 * Runs in the services: the check in the main thread at start, the rest on the
 * member's thread and that of log_check.c, log_client on any.  What the runtime relies on is set last and cannot be changed.
 */
#define _GNU_SOURCE
#include "consumer_conf.h"

#include <pthread.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "common/kafka_properties.h"
#include "log.h"

#define DESTROY_MAX_S	3

static void
log_client(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	OutboxLogLevel ours = OUTBOX_LOG_DEBUG;

	(void) rk;
	if (level <= LOG_ERR)
		ours = OUTBOX_LOG_WARNING;
	else if (level <= LOG_WARNING)
		ours = OUTBOX_LOG_INFO;
	outbox_log(ours, "kafka_client", NULL, "%s: %s", facility, text);
}

static bool
set_property(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		reason[512];

	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK)
		return true;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", NULL, "%s", reason);
	return false;
}

static bool
set_user_property(const char *name, const char *value, void *arg)
{
	return set_property(arg, name, value);
}

static bool
try_property(const char *name, const char *value, void *arg)
{
	rd_kafka_conf_t *conf = arg;
	char		reason[512];

	return rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK;
}

bool
outbox_consumer_check_properties(const char *text, char *error, size_t size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	bool		good;

	error[0] = '\0';
	good = outbox_kafka_properties_parse(text, OUTBOX_KAFKA_CONSUMER, try_property, conf, error, size);
	if (!good && error[0] == '\0')
		snprintf(error, size, "the Kafka client refuses a value");
	rd_kafka_conf_destroy(conf);
	return good;
}

rd_kafka_conf_t *
outbox_consumer_make_conf(const OutboxConsumerConfig *config)
{
	static const char *const ours[][2] = {
		{"isolation.level", "read_committed"},
		{"auto.offset.reset", "error"},	/* position.c decides */
		{"partition.assignment.strategy", "cooperative-sticky"},
		{"enable.auto.commit", "true"},
		{"auto.commit.interval.ms", "1000"},
		{"enable.auto.offset.store", "false"},
		{"enable.partition.eof", "true"},
		{"check.crcs", "true"},
		{"statistics.interval.ms", "5000"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		reason[512] = "";
	bool		good;

	/* Topics may be made after the service started. */
	good = set_property(conf, "topic.metadata.refresh.interval.ms", "10000") &&
		/* How soon a member hears that partitions are given out anew; the client looks each 0.5 s. */
		set_property(conf, "heartbeat.interval.ms", "300") &&
		set_property(conf, "queued.max.messages.kbytes", "16384");
	if (good && !outbox_kafka_properties_parse(config->properties, OUTBOX_KAFKA_CONSUMER,
											   set_user_property, conf, reason, sizeof(reason)))
	{
		outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", NULL, "%s", reason);
		good = false;
	}
	good = good && set_property(conf, "bootstrap.servers", config->bootstrap_servers) &&
		(config->group == NULL || set_property(conf, "group.id", config->group)) &&
		set_property(conf, "client.id", config->client_id) &&
		(config->instance_id == NULL || set_property(conf, "group.instance.id", config->instance_id));
	for (size_t i = 0; good && i < sizeof(ours) / sizeof(ours[0]); i++)
		good = set_property(conf, ours[i][0], ours[i][1]);
	rd_kafka_conf_set_log_cb(conf, log_client);
	if (good)
		return conf;
	rd_kafka_conf_destroy(conf);
	return NULL;
}

rd_kafka_conf_t *
outbox_consumer_make_reader_conf(const OutboxConsumerConfig *config)
{
	/* What an open transaction holds back is seen, too: nothing is waited for. */
	static const char *const ours[][2] = {
		{"isolation.level", "read_uncommitted"},
		{"client.rack", ""},	/* the leader alone has the whole log */
		{"enable.auto.commit", "false"},
		{"allow.auto.create.topics", "false"},
		{"socket.timeout.ms", "10000"},	/* then a broker that does not answer is not asked who leads */
		{"statistics.interval.ms", "0"},
		{"queued.min.messages", "1"},
		{"queued.max.messages.kbytes", "1024"},
		{"fetch.message.max.bytes", "65536"},
		{"fetch.wait.max.ms", "100"},
		{"fetch.error.backoff.ms", "100"},
	};
	rd_kafka_conf_t *conf = outbox_consumer_make_conf(config);
	bool		good = conf != NULL;

	for (size_t i = 0; good && i < sizeof(ours) / sizeof(ours[0]); i++)
		good = set_property(conf, ours[i][0], ours[i][1]);
	if (good || conf == NULL)
		return conf;
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
	pthread_t	thread;

	if (pthread_create(&thread, NULL, destroy, rk) != 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DESTROY_MAX_S;
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		return;
	pthread_detach(thread);
	outbox_log(OUTBOX_LOG_INFO, "client_left", NULL, "the Kafka client does not end: it was closed, and ends with the process");
}
