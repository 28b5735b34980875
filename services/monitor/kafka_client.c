/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_client.c
 *	  The monitor's Kafka client: its configuration, its two handles, options of its requests.
 *
 * Runs in outbox-monitor, poller thread; log_client and outbox_kafka_client_cancel on any thread.
 */
#include "kafka_client.h"

#include <stdatomic.h>
#include <syslog.h>

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
outbox_kafka_client_check(const char *properties, char *error, size_t size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (fill_conf(conf, NULL, properties, "read_committed", error, size))
		return outbox_kafka_conf_try(conf, RD_KAFKA_CONSUMER, properties, OUTBOX_KAFKA_MONITOR,
									 error, size);
	rd_kafka_conf_destroy(conf);
	return false;
}

rd_kafka_conf_t *
outbox_kafka_client_conf(const char *bootstrap_servers, const char *properties,
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
	rd_kafka_conf_t *conf = outbox_kafka_client_conf(bootstrap_servers, properties, isolation);
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

bool
outbox_kafka_client_open(OutboxKafkaClient *client, const char *bootstrap_servers,
						 const char *properties, int timeout_ms)
{
	client->timeout_ms = timeout_ms;
	client->uncommitted = NULL;
	client->committed = open_handle(bootstrap_servers, properties, "read_committed");
	if (client->committed != NULL)
		client->uncommitted = open_handle(bootstrap_servers, properties, "read_uncommitted");
	if (client->uncommitted != NULL)
		return true;
	outbox_kafka_client_close(client);
	return false;
}

void
outbox_kafka_client_close(OutboxKafkaClient *client)
{
	if (client->committed != NULL)
		rd_kafka_destroy_flags(client->committed, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	if (client->uncommitted != NULL)
		rd_kafka_destroy_flags(client->uncommitted, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	client->committed = client->uncommitted = NULL;
}

rd_kafka_AdminOptions_t *
outbox_kafka_client_options(const OutboxKafkaClient *client, rd_kafka_admin_op_t operation,
							void *opaque, bool patient)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client->committed, operation);
	char					 reason[256];

	rd_kafka_AdminOptions_set_request_timeout(options, patient ? PATIENT_MS : client->timeout_ms,
											  reason, sizeof(reason));
	rd_kafka_AdminOptions_set_opaque(options, opaque);
	return options;
}

bool
outbox_kafka_client_worn(int64_t asked_at)
{
	return asked_at != 0 && asked_at < outbox_clock_ms() - PATIENT_MS / 2;
}

void
outbox_kafka_client_cancel(void)
{
	cancelled = true;
}

bool
outbox_kafka_client_cancelled(void)
{
	return cancelled;
}
