/* SPDX-License-Identifier: PostgreSQL
 *
 * conf.c
 *	  librdkafka's configurations: ours, the user's properties, and what the invariants need.
 *
 * Runs in the sender, main thread; print_log in librdkafka's threads, too.
 */
#include "conf.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explain.h"
#include "notes.h"
#include "process.h"
#include "src/common/kafka_properties.h"
#include "src/common/kafka_property_text.h"

#define LOG_LEVEL_NOTICE   5 /* librdkafka's log_level, as of syslog */
#define SLOW_REQUEST_BYTES 262144

/*
 * Ours first, the user's after.  retry.backoff.ms: a small transaction with
 * offsets takes 104 ms with librdkafka's default of 100, 4 ms with 1.
 * message.max.bytes: an event of outbox.max_event_bytes (1,000,000) with its
 * envelope passes; Kafka's default for a batch of records is 1,048,588.
 * socket.connection.setup.timeout.ms: requests wait for a connection to a broker
 * that is cut off, and only its failure sends them elsewhere (default 30 s).
 */
static const struct
{
	const char *name;
	const char *value;
} producer_defaults[] = {
	{"client.id", "outbox-relay"},
	{"log_level", "4"},
	{"partitioner", "murmur2_random"},
	{"compression.codec", OUTBOX_DEFAULT_CODEC},
	{"linger.ms", "0.5"},
	{"socket.nagle.disable", "true"},
	{"retry.backoff.ms", "1"},
	{"max.in.flight.requests.per.connection", "5"},
	{"message.max.bytes", "1048576"},
	{"queue.buffering.max.messages", "1000000"},
	{"queue.buffering.max.kbytes", "1048576"},
	{"transaction.timeout.ms", "45000"},
	{"message.timeout.ms", "30000"},
	{"socket.timeout.ms", "10000"},
	{"socket.connection.setup.timeout.ms", "10000"},
	{"topic.metadata.refresh.fast.interval.ms", "10"},
	{"topic.metadata.propagation.max.ms", "5000"},
	{"reconnect.backoff.max.ms", "2000"},
	{"enable.random.seed", "true"},
};

static bool
set_property(rd_kafka_conf_t *conf, const char *name, const char *value, OutboxFailure *failure)
{
	char error[512];
	char reason[128];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) == RD_KAFKA_CONF_OK)
		return true;
	outbox_kafka_refusal(error, reason, sizeof(reason));
	outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR__INVALID_ARG,
					   "configuring Kafka", "Kafka property \"%s\" %s", name, reason);
	return false;
}

/* Written by the main thread, read by librdkafka's: notices are heard, not printed. */
static atomic_bool notices_unasked;

static void
print_log(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
	(void) client;
	if (strcmp(facility, "ADDPARTS") == 0)
		outbox_note_denied_topic(text);
	else if (strcmp(facility, "PARTCNT") == 0)
		outbox_note_shrunk_topic(text);
	if (level == LOG_LEVEL_NOTICE && notices_unasked)
		return;
	outbox_process_log("kafka: %s: %s%s", facility, text, level <= 2 ? " (critical)" : "");
}

static void
note_error(rd_kafka_t *client, int code, const char *text, void *opaque)
{
	(void) client;
	(void) opaque;
	outbox_note_client_error((rd_kafka_resp_err_t) code, text);
}

static const char *
find_value(const OutboxSettings *settings, const char *name)
{
	int i;

	for (i = settings->property_count - 1; i >= 0; i--)
		if (strcmp(settings->properties[i].name, name) == 0)
			return settings->properties[i].value;
	return NULL;
}

/*
 * Has the producer log notices, for it tells only there what becomes of its topics; they are
 * printed when the user's log level asks for them.
 */
void
outbox_conf_hear_notices(rd_kafka_t *producer, const OutboxSettings *settings)
{
	const char *level = find_value(settings, "log_level");
	const char *debug = find_value(settings, "debug");

	notices_unasked =
		(debug == NULL || debug[0] == '\0') && (level == NULL || atoi(level) < LOG_LEVEL_NOTICE);
	if (notices_unasked)
		rd_kafka_set_log_level(producer, LOG_LEVEL_NOTICE);
}

/* Those of every client. */
static void
set_callbacks(rd_kafka_conf_t *conf, const OutboxSettings *settings)
{
	const char *verify = find_value(settings, "enable.ssl.certificate.verification");

	rd_kafka_conf_set_log_cb(conf, print_log);
	rd_kafka_conf_set_error_cb(conf, note_error);
	if (verify == NULL || verify[0] == 't' || verify[0] == '1')
		rd_kafka_conf_set_ssl_cert_verify_cb(conf, outbox_certificate_verify);
}

/* A message must time out before its transaction does. */
static bool
set_message_timeout(rd_kafka_conf_t *conf, const OutboxSettings *settings, OutboxFailure *failure)
{
	const char *transaction_timeout = find_value(settings, "transaction.timeout.ms");
	char		value[32];

	if (transaction_timeout == NULL || find_value(settings, "message.timeout.ms") != NULL ||
		find_value(settings, "delivery.timeout.ms") != NULL)
		return true;
	snprintf(value, sizeof(value), "%ld", strtol(transaction_timeout, NULL, 10) / 3 * 2);
	return set_property(conf, "message.timeout.ms", value, failure);
}

static int64_t
get_batch_bytes(const rd_kafka_conf_t *conf)
{
	char   value[32];
	size_t size = sizeof(value);

	if (rd_kafka_conf_get(conf, "batch.size", value, &size) != RD_KAFKA_CONF_OK)
		return 0;
	return strtoll(value, NULL, 10);
}

/*
 * For a batch that took too long: more time, and requests that show how far it comes.  One at a
 * time, so that what shares their connection is not kept waiting until it times out, which would
 * cut the connection.
 */
static bool
set_grown(rd_kafka_conf_t *conf, const OutboxSettings *settings, const OutboxDeadlines *grown,
		  OutboxFailure *failure)
{
	char value[32];

	if (get_batch_bytes(conf) > SLOW_REQUEST_BYTES)
	{
		snprintf(value, sizeof(value), "%d", SLOW_REQUEST_BYTES);
		if (!set_property(conf, "batch.size", value, failure))
			return false;
	}
	if (!set_property(conf, "max.in.flight.requests.per.connection", "1", failure))
		return false;
	snprintf(value, sizeof(value), "%" PRId64, grown->message_ms);
	if (!set_property(conf, "message.timeout.ms", value, failure))
		return false;
	snprintf(value, sizeof(value), "%" PRId64, grown->socket_ms);
	if (!set_property(conf, "socket.timeout.ms", value, failure))
		return false;
	snprintf(value, sizeof(value), "%" PRId64, grown->transaction_ms);
	return !settings->exactly_once || set_property(conf, "transaction.timeout.ms", value, failure);
}

/* Properties without which the invariants would not hold, after the user's. */
static bool
set_fixed(rd_kafka_conf_t *conf, const OutboxSettings *settings, uint32_t per_request,
		  int64_t batch_bytes, bool spare, OutboxFailure *failure)
{
	char value[32];

	if (!set_property(conf, "enable.idempotence", "true", failure) ||
		!set_property(conf, "acks", "all", failure) ||
		!set_message_timeout(conf, settings, failure))
		return false;
	snprintf(value, sizeof(value), "%u", per_request);
	if (per_request > 0 && !set_property(conf, "batch.num.messages", value, failure))
		return false;
	snprintf(value, sizeof(value), "%" PRId64, batch_bytes);
	if (batch_bytes > 0 && batch_bytes < get_batch_bytes(conf) &&
		!set_property(conf, "batch.size", value, failure))
		return false;
	return !settings->exactly_once ||
		set_property(conf, "transactional.id",
					 spare ? settings->spare_id : settings->transactional_id, failure);
}

/*
 * A new configuration for the producer, whose requests bring at most per_request records and, if
 * there are several, at most batch_bytes; 0: as the settings say.  grown NULL: the settings'
 * deadlines.  spare: with the spare transactional id.
 */
rd_kafka_conf_t *
outbox_producer_conf(const OutboxSettings *settings, uint32_t per_request, int64_t batch_bytes,
					 const OutboxDeadlines *grown, bool spare, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	bool			 ok = true;
	int				 i;

	for (i = 0; ok && i < (int) (sizeof(producer_defaults) / sizeof(producer_defaults[0])); i++)
		ok = set_property(conf, producer_defaults[i].name, producer_defaults[i].value, failure);
	for (i = 0; ok && i < settings->property_count; i++)
		ok = set_property(conf, settings->properties[i].name, settings->properties[i].value,
						  failure);
	ok = ok && set_fixed(conf, settings, per_request, batch_bytes, spare, failure) &&
		(grown == NULL || set_grown(conf, settings, grown, failure));
	if (!ok)
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	set_callbacks(conf, settings);
	return conf;
}

/*
 * A consumer handle's: defaults, the user's properties and the group.  reconnect.backoff.max.ms:
 * the producer's, for librdkafka's 10 s would delay the recovery after each outage; and what the
 * user sets with it passes in both.
 */
static rd_kafka_conf_t *
make_consumer_conf(const OutboxSettings *settings, const char *client, const char *group,
				   OutboxFailure *failure)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	bool			 ok;
	int				 i;

	ok = set_property(conf, "client.id", client, failure) &&
		set_property(conf, "log_level", "4", failure) &&
		set_property(conf, "socket.nagle.disable", "true", failure) &&
		set_property(conf, "socket.timeout.ms", "10000", failure) &&
		set_property(conf, "socket.connection.setup.timeout.ms", "10000", failure) &&
		set_property(conf, "reconnect.backoff.max.ms", "2000", failure);
	for (i = 0; ok && i < settings->property_count; i++)
		if (outbox_kafka_property_allowed(settings->properties[i].name, OUTBOX_KAFKA_CURSOR))
			ok = set_property(conf, settings->properties[i].name, settings->properties[i].value,
							  failure);
	ok = ok && set_property(conf, "group.id", group, failure) &&
		set_property(conf, "enable.auto.commit", "false", failure) &&
		set_property(conf, "allow.auto.create.topics", "false", failure);
	if (ok)
		return conf;
	rd_kafka_conf_destroy(conf);
	return NULL;
}

/*
 * A new configuration for the consumer handle that reads (and in at_least_once
 * commits) the cursor; it never joins the group.
 */
rd_kafka_conf_t *
outbox_cursor_conf(const OutboxSettings *settings, bool stable, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf =
		make_consumer_conf(settings, "outbox-relay-cursor", settings->group, failure);

	if (conf == NULL)
		return NULL;
	if (!set_property(conf, "isolation.level", stable ? "read_committed" : "read_uncommitted",
					  failure))
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	set_callbacks(conf, settings);
	return conf;
}

static void
ignore_error(rd_kafka_t *client, int code, const char *text, void *opaque)
{
	(void) client;
	(void) code;
	(void) text;
	(void) opaque;
}

/* Nothing is told of its client's connections: another's tell the same. */
void
outbox_conf_hush(rd_kafka_conf_t *conf)
{
	(void) rd_kafka_conf_set(conf, "log_level", "2", NULL, 0);
	rd_kafka_conf_set_error_cb(conf, ignore_error);
}

/*
 * A new configuration for the member of the group of the living.  Its errors are those of every
 * other client once more: they are neither logged nor taken for an answer to what is asked of
 * Kafka.
 */
rd_kafka_conf_t *
outbox_alive_conf(const OutboxSettings *settings, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf =
		make_consumer_conf(settings, settings->alive_client, settings->alive_group, failure);

	if (conf == NULL)
		return NULL;
	if (!set_property(conf, "client.id", settings->alive_client, failure) ||
		!set_property(conf, "session.timeout.ms", "10000", failure) ||
		!set_property(conf, "heartbeat.interval.ms", "3000", failure) ||
		!set_property(conf, "max.poll.interval.ms", "86400000", failure))
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	set_callbacks(conf, settings);
	outbox_conf_hush(conf);
	return conf;
}

/*
 * librdkafka takes each of the properties, but not all together; it names some of them, the values
 * are ours.
 */
void
outbox_conf_refused(const OutboxSettings *settings, const char *error, OutboxFailure *failure)
{
	static const char *const timeouts[] = {"message.timeout.ms", "transaction.timeout.ms",
										   "socket.timeout.ms"};
	rd_kafka_conf_t			*conf = outbox_producer_conf(settings, 0, 0, NULL, false, failure);
	char					 shown[512];
	int						 i;

	if (conf == NULL)
		return;
	snprintf(shown, sizeof(shown), "%s", error);
	outbox_explain_without_values(settings, shown);
	outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR__INVALID_ARG,
					   "configuring Kafka", "%s", shown);
	for (i = 0; i < (int) (sizeof(timeouts) / sizeof(timeouts[0])); i++)
	{
		char   value[32];
		size_t size = sizeof(value);

		if (strstr(error, timeouts[i]) != NULL &&
			rd_kafka_conf_get(conf, timeouts[i], value, &size) == RD_KAFKA_CONF_OK)
			outbox_failure_precede(failure, "%s is %s", timeouts[i], value);
	}
	rd_kafka_conf_destroy(conf);
}

/* Appends "name=value; " of one property to text, unless it has several lines. */
static void
append_property(FILE *out, rd_kafka_conf_t *conf, const char *name)
{
	char   value[1024];
	size_t size = sizeof(value);

	if (outbox_kafka_property_public(name) &&
		rd_kafka_conf_get(conf, name, value, &size) == RD_KAFKA_CONF_OK &&
		strchr(value, '\n') == NULL)
		fprintf(out, "%s%s=%s", ftell(out) > 0 ? "; " : "", name, value);
}

/*
 * The properties a person may want to see, as they will be used.  Builds a
 * producer and drops it at once: some combinations are refused only then.
 * *text is the caller's to free.
 */
bool
outbox_effective_properties(const OutboxSettings *settings, char **text, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf = outbox_producer_conf(settings, 0, 0, NULL, false, failure);
	rd_kafka_t		*producer;
	size_t			 size;
	FILE			*out;
	char			 error[512];
	int				 i;

	if (conf == NULL)
		return false;
	out = open_memstream(text, &size);
	append_property(out, conf, "transactional.id");
	append_property(out, conf, "enable.idempotence");
	append_property(out, conf, "acks");
	for (i = 0; i < (int) (sizeof(producer_defaults) / sizeof(producer_defaults[0])); i++)
		append_property(out, conf, producer_defaults[i].name);
	for (i = 0; i < settings->property_count; i++)
	{
		size_t d;
		size_t defaults = sizeof(producer_defaults) / sizeof(producer_defaults[0]);

		for (d = 0; d < defaults; d++)
			if (strcmp(producer_defaults[d].name, settings->properties[i].name) == 0)
				break;
		if (d == defaults)
			append_property(out, conf, settings->properties[i].name);
	}
	fclose(out);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (producer != NULL)
	{
		rd_kafka_destroy(producer);
		return true;
	}
	rd_kafka_conf_destroy(conf);
	free(*text);
	*text = NULL;
	outbox_conf_refused(settings, error, failure);
	return false;
}
