/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_conf.c
 *	  The properties of a consumer: those the user may set, and the runtime's.
 *
 * Runs in the services: the check in the main thread at start, the rest on the
 * member's thread, log_client on any.  What the runtime relies on is set last and cannot be changed.
 */
#include "consumer_conf.h"

#include <stdio.h>
#include <syslog.h>

#include "common/kafka_properties.h"
#include "log.h"

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
		{"auto.offset.reset", "earliest"},
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
		set_property(conf, "group.id", config->group) &&
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
