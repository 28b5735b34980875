/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_lag.c
 *	  The monitor's Kafka client: its handles, and one measuring from end to end.
 *
 * Runs in outbox-monitor, poller thread; log_client and
 * outbox_kafka_lag_cancel on any thread.
 *
 * Two handles: a read_committed one, to which Kafka tells the last stable offset
 * as the end of a log and which reads the first record that is pending, and a
 * read_uncommitted one for the high watermark.  Neither joins a group nor commits.
 */
#define _GNU_SOURCE
#include "kafka_lag.h"

#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "kafka_client.h"
#include "services/kafka/kafka_conf.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"

#define PATIENT_MS 3600000 /* the longest time-out of an admin request */

static atomic_bool cancelled; /* never taken back */

static void
log_client(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	(void) rk;
	outbox_log(level <= LOG_ERR ? OUTBOX_LOG_INFO : OUTBOX_LOG_DEBUG, "kafka_client", "%s: %s",
			   facility, text);
}

/* Fills a configuration; bootstrap_servers NULL: none, for a check. */
static bool
fill_conf(rd_kafka_conf_t *conf, const char *bootstrap_servers, const char *properties,
		  const char *isolation, char *error, size_t size)
{
	const char *const ours[][2] = {
		{"group.id", "outbox-monitor"}, /* assign wants one; it is never joined */
		{"isolation.level", isolation},			{"auto.offset.reset", "earliest"},
		{"enable.auto.commit", "false"},		{"enable.auto.offset.store", "false"},
		{"enable.partition.eof", "true"},		{"queued.min.messages", "1"},
		{"queued.max.messages.kbytes", "1024"}, {"fetch.message.max.bytes", "65536"},
		{"fetch.wait.max.ms", "100"},			{"allow.auto.create.topics", "false"},
	};
	bool good;

	good = outbox_kafka_conf_set(conf, "client.id", "outbox-monitor", error, size) &&
		outbox_kafka_conf_set(conf, "reconnect.backoff.max.ms", "2000", error, size) &&
		outbox_kafka_conf_take(conf, properties, OUTBOX_KAFKA_MONITOR, error, size) &&
		(bootstrap_servers == NULL ||
		 outbox_kafka_conf_set(conf, "bootstrap.servers", bootstrap_servers, error, size));
	for (size_t i = 0; good && i < sizeof(ours) / sizeof(ours[0]); i++)
		good = outbox_kafka_conf_set(conf, ours[i][0], ours[i][1], error, size);
	return good;
}

bool
outbox_kafka_lag_check_properties(const char *properties, char *error, size_t size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (fill_conf(conf, NULL, properties, "read_committed", error, size))
		return outbox_kafka_conf_try(conf, RD_KAFKA_CONSUMER, properties, OUTBOX_KAFKA_MONITOR,
									 error, size);
	rd_kafka_conf_destroy(conf);
	return false;
}

rd_kafka_conf_t *
outbox_kafka_lag_make_conf(const char *bootstrap_servers, const char *properties,
						   const char *isolation)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 error[512];

	if (fill_conf(conf, bootstrap_servers, properties, isolation, error, sizeof(error)))
		return conf;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", "%s", error);
	rd_kafka_conf_destroy(conf);
	return NULL;
}

static rd_kafka_t *
open_handle(const char *bootstrap_servers, const char *properties, const char *isolation)
{
	rd_kafka_conf_t *conf = outbox_kafka_lag_make_conf(bootstrap_servers, properties, isolation);
	rd_kafka_t		*rk;
	char			 reason[512];
	char			 error[512];

	if (conf == NULL)
		return NULL;
	rd_kafka_conf_set_log_cb(conf, log_client);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (rk != NULL)
	{
		rd_kafka_poll_set_consumer(rk);
		return rk;
	}
	outbox_kafka_conf_hide(reason, properties, OUTBOX_KAFKA_MONITOR, error, sizeof(error));
	outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", "%s", error);
	rd_kafka_conf_destroy(conf);
	return NULL;
}

OutboxKafkaLag *
outbox_kafka_lag_open(const char *bootstrap_servers, const char *properties, int timeout_ms)
{
	OutboxKafkaLag *kafka = calloc(1, sizeof(*kafka));

	if (kafka == NULL)
		return NULL;
	kafka->timeout_ms = timeout_ms;
	kafka->committed = open_handle(bootstrap_servers, properties, "read_committed");
	if (kafka->committed != NULL)
		kafka->uncommitted = open_handle(bootstrap_servers, properties, "read_uncommitted");
	if (kafka->uncommitted == NULL)
	{
		outbox_kafka_lag_close(kafka);
		return NULL;
	}
	kafka->descriptions = rd_kafka_queue_new(kafka->committed);
	kafka->offsets = rd_kafka_queue_new(kafka->committed);
	return kafka;
}

rd_kafka_AdminOptions_t *
outbox_kafka_options(OutboxKafkaLag *kafka, rd_kafka_admin_op_t operation, void *opaque,
					 bool patient)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->committed, operation);
	char					 reason[256];

	rd_kafka_AdminOptions_set_request_timeout(options, patient ? PATIENT_MS : kafka->timeout_ms,
											  reason, sizeof(reason));
	rd_kafka_AdminOptions_set_opaque(options, opaque);
	return options;
}

bool
outbox_kafka_lag_idle(const OutboxKafkaLag *kafka)
{
	return kafka->asked == NULL && kafka->describing_since == 0;
}

bool
outbox_kafka_lag_worn(const OutboxKafkaLag *kafka)
{
	int64_t oldest = outbox_kafka_offsets_oldest(kafka);
	int64_t limit = outbox_clock_ms() - PATIENT_MS / 2;

	return (oldest != 0 && oldest < limit) ||
		(kafka->describing_since != 0 && kafka->describing_since < limit);
}

void
outbox_kafka_lag_close(OutboxKafkaLag *kafka)
{
	if (kafka->descriptions != NULL)
		rd_kafka_queue_destroy(kafka->descriptions);
	if (kafka->offsets != NULL)
		rd_kafka_queue_destroy(kafka->offsets);
	if (kafka->committed != NULL)
		rd_kafka_destroy_flags(kafka->committed, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	if (kafka->uncommitted != NULL)
		rd_kafka_destroy_flags(kafka->uncommitted, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	free(kafka);
}

void
outbox_kafka_lag_cancel(void)
{
	cancelled = true;
}

bool
outbox_kafka_lag_cancelled(void)
{
	return cancelled;
}

bool
outbox_kafka_lag_measure(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
						 OutboxLagSnapshot *before, bool (*wanted)(const char *group), char *error,
						 size_t error_size)
{
	snapshot->measured_ms = outbox_wall_ms();
	if (!outbox_kafka_groups_read(kafka, snapshot, before, wanted, error, error_size))
		return false;
	outbox_snapshot_carry(snapshot, before);
	if (snapshot->group_count > 0 && !outbox_kafka_ends_read(kafka, snapshot, error, error_size))
		return false;
	outbox_snapshot_prune(snapshot);
	outbox_kafka_ages_read(kafka, snapshot);
	return !cancelled;
}
