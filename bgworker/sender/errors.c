/* SPDX-License-Identifier: PostgreSQL
 *
 * errors.c
 *	  Kafka's errors as the project's error classes, the log line, and what
 *	  librdkafka's threads told us last.
 *
 * Runs in the sender.  The "last client error" is written by the main thread (error callback); the
 * "denied topic", the topics that lost partitions and the certificate that was not accepted by any
 * librdkafka thread (log and verify callbacks) under noted_lock.
 */
#include "sender.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include "src/common/text.h"

#define FIRST_VERSION_WITH_SCRAM_FOR_KAFKA_4 0x02060100
#define SHRUNK_TOPICS_MAX					 16
#define LONG_TEXT_SIZE						 4096 /* before it is cut to what it must fit into */

static rd_kafka_resp_err_t last_client_error;
static bool				   all_brokers_down; /* main thread, like last_client_error */
static char				   last_client_text[512];

static pthread_mutex_t noted_lock = PTHREAD_MUTEX_INITIALIZER;
static char			   denied_topic[OUTBOX_TOPIC_NAME_SIZE]; /* under noted_lock */
static char			   certificate_text[256];				 /* under noted_lock */

/* Topics that lost partitions, since they were taken last; under noted_lock. */
static char shrunk_topics[SHRUNK_TOPICS_MAX][OUTBOX_TOPIC_NAME_SIZE];
static int	shrunk_count; /* may exceed SHRUNK_TOPICS_MAX */

/* One line on stderr, which the relay's server log receives. */
void
outbox_log(const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	char	line[1024];
	va_list args;
	char   *at;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	outbox_text_fit(line, sizeof(line), text);
	for (at = line; *at != '\0'; at++)
		if (*at == '\n' || *at == '\r')
			*at = ' ';
	fprintf(stderr, "outbox-sender: %s\n", line);
}

/* Monotonic microseconds. */
int64_t
outbox_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The class of an error that says nothing else about itself. */
OutboxErrorClass
outbox_error_classify(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return OUTBOX_ERROR_AUTH;
		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
			return OUTBOX_ERROR_FENCED;
		case RD_KAFKA_RESP_ERR__INVALID_ARG:
		case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
		case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
		case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
		case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
		case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
		case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE:
			return OUTBOX_ERROR_CONFIG;
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
		case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
		case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
		case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
		case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP: /* of clocks, not of the record */
			return OUTBOX_ERROR_RETRIABLE;
		default:
			return OUTBOX_ERROR_FATAL;
	}
}

/* Errors that are the fault of a record or its topic, not of Kafka's state. */
bool
outbox_error_is_refusal(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
			return true;
		default:
			return outbox_error_is_whole_topic(code);
	}
}

/* Refusals of a record that hit every record of the topic alike. */
bool
outbox_error_is_whole_topic(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return true;
		default:
			return false;
	}
}

void
outbox_failure_set(OutboxFailure *failure, OutboxErrorClass class, int kafka_error,
				   const char *tried, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	va_list args;

	failure->class = class;
	failure->kafka_error = kafka_error;
	snprintf(failure->tried, sizeof(failure->tried), "%s", tried);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/* Puts it before the text, with a colon between: the cause comes last. */
void
outbox_failure_precede(OutboxFailure *failure, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	va_list args;
	size_t	len;

	va_start(args, format);
	vsnprintf(text, sizeof(text) - sizeof(failure->text) - 2, format, args);
	va_end(args);
	len = strlen(text);
	snprintf(text + len, sizeof(text) - len, ": %s", failure->text);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/* Adds to the text. */
void
outbox_failure_append(OutboxFailure *failure, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	size_t	len = strlen(failure->text);
	va_list args;

	memcpy(text, failure->text, len);
	va_start(args, format);
	vsnprintf(text + len, sizeof(text) - len, format, args);
	va_end(args);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/*
 * The class of what connections fail with, RETRIABLE when it may pass by itself.
 * TLS that does not come about is a matter of certificates or settings.
 */
OutboxErrorClass
outbox_client_error_class(void)
{
	if (last_client_error == RD_KAFKA_RESP_ERR__SSL)
		return OUTBOX_ERROR_CONFIG;
	if (outbox_error_classify(last_client_error) == OUTBOX_ERROR_AUTH)
		return OUTBOX_ERROR_AUTH;
	return OUTBOX_ERROR_RETRIABLE;
}

/*
 * When Kafka is away the call only says "timed out"; why the connections fail
 * was told to the error callback.
 */
static void
add_client_error(OutboxFailure *failure)
{
	if (failure->class != OUTBOX_ERROR_RETRIABLE || last_client_error == 0)
		return;
	failure->class = outbox_client_error_class();
	outbox_failure_append(failure, " (%s)", last_client_text);
}

/* text NULL: librdkafka's own text of the code. */
void
outbox_failure_from_code(OutboxFailure *failure, rd_kafka_resp_err_t code, const char *tried,
						 const char *text)
{
	outbox_failure_set(failure, outbox_error_classify(code), code, tried, "%s",
					   text != NULL ? text : rd_kafka_err2str(code));
	add_client_error(failure);
}

/* Takes over the error object. */
void
outbox_failure_from_error(OutboxFailure *failure, rd_kafka_error_t *error, const char *tried)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	OutboxErrorClass class = outbox_error_classify(code);

	if (class == OUTBOX_ERROR_FATAL && rd_kafka_error_txn_requires_abort(error))
		class = OUTBOX_ERROR_ABORTABLE;
	else if (class == OUTBOX_ERROR_FATAL && rd_kafka_error_is_retriable(error))
		class = OUTBOX_ERROR_RETRIABLE;
	outbox_failure_set(failure, class, code, tried, "%s", rd_kafka_error_string(error));
	add_client_error(failure);
	rd_kafka_error_destroy(error);
}

/* Says what librdkafka does not: it gives one text for all certificates. */
static bool
explain_certificate(rd_kafka_resp_err_t code)
{
	if (code != RD_KAFKA_RESP_ERR__SSL)
		return false;
	pthread_mutex_lock(&noted_lock);
	snprintf(last_client_text, sizeof(last_client_text), "%s", certificate_text);
	pthread_mutex_unlock(&noted_lock);
	return last_client_text[0] != '\0';
}

void
outbox_note_client_error(rd_kafka_resp_err_t code, const char *text)
{
	bool old_scram = code == RD_KAFKA_RESP_ERR__AUTHENTICATION && strstr(text, "SCRAM") != NULL &&
		rd_kafka_version() < FIRST_VERSION_WITH_SCRAM_FOR_KAFKA_4;
	char fitting[351];

	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		all_brokers_down = true;
	/* "all brokers down" follows the error that says why */
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && last_client_error != 0)
		return;
	last_client_error = code;
	if (explain_certificate(code))
		return;
	outbox_text_fit(fitting, sizeof(fitting), text);
	snprintf(last_client_text, sizeof(last_client_text), "%s%s%s", fitting,
			 old_scram ? "; Kafka 4 takes SCRAM from librdkafka 2.6.1 on, this is " : "",
			 old_scram ? rd_kafka_version_str() : "");
}

void
outbox_forget_client_error(void)
{
	last_client_error = RD_KAFKA_RESP_ERR_NO_ERROR;
	all_brokers_down = false;
	pthread_mutex_lock(&noted_lock);
	certificate_text[0] = '\0';
	pthread_mutex_unlock(&noted_lock);
}

/* Has no broker been in reach at some time since outbox_forget_client_error? */
bool
outbox_is_unreachable(void)
{
	return all_brokers_down;
}

/*
 * Verify callback of librdkafka, in one of its threads, for each certificate of the
 * broker's chain: true if OpenSSL accepts it, else why not is noted.
 */
int
outbox_certificate_verify(rd_kafka_t *client, const char *broker, int32_t broker_id,
						  int *x509_error, int depth, const char *certificate, size_t size,
						  char *error, size_t error_size, void *opaque)
{
	const char *why = X509_verify_cert_error_string(*x509_error);

	(void) client;
	(void) broker_id;
	(void) certificate;
	(void) size;
	(void) opaque;
	if (*x509_error == X509_V_OK)
		return 1;
	snprintf(error, error_size, "%s", why);
	pthread_mutex_lock(&noted_lock);
	snprintf(certificate_text, sizeof(certificate_text),
			 "the certificate of %.100s is not accepted: %s (depth %d of its chain)", broker, why,
			 depth);
	pthread_mutex_unlock(&noted_lock);
	return 0;
}

/*
 * A topic we may not write to fails the whole transaction, and librdkafka
 * names it in its log only: Failed to add partition "NAME" [N] to transaction.
 */
void
outbox_note_denied_topic(const char *log_text)
{
	const char *name = strstr(log_text, "Failed to add partition \"");
	const char *end;

	if (name == NULL || strstr(log_text, "authorization") == NULL)
		return;
	name = strchr(name, '"') + 1;
	end = strchr(name, '"');
	if (end == NULL || end - name >= (int) sizeof(denied_topic))
		return;
	pthread_mutex_lock(&noted_lock);
	if (denied_topic[0] == '\0')
	{
		memcpy(denied_topic, name, (size_t) (end - name));
		denied_topic[end - name] = '\0';
	}
	pthread_mutex_unlock(&noted_lock);
}

/* True with the name of the topic noted since the last call. */
bool
outbox_take_denied_topic(char *name, size_t size)
{
	pthread_mutex_lock(&noted_lock);
	snprintf(name, size, "%s", denied_topic);
	denied_topic[0] = '\0';
	pthread_mutex_unlock(&noted_lock);
	return name[0] != '\0';
}

/*
 * That a topic lost partitions, all when it was deleted, librdkafka tells in its log only:
 * Topic NAME partition count changed from N to M, later versions: Topic NAME (id ID) ...
 */
void
outbox_note_shrunk_topic(const char *log_text)
{
	char		name[OUTBOX_TOPIC_NAME_SIZE];
	const char *topic = strstr(log_text, "Topic ");
	const char *counts = strstr(log_text, " partition count changed from ");
	int			before;
	int			after;

	if (topic == NULL || counts == NULL || sscanf(topic, "Topic %255s ", name) != 1 ||
		sscanf(counts, " partition count changed from %d to %d", &before, &after) != 2 ||
		after >= before)
		return;
	pthread_mutex_lock(&noted_lock);
	if (shrunk_count < SHRUNK_TOPICS_MAX)
		memcpy(shrunk_topics[shrunk_count], name, sizeof(name));
	shrunk_count++;
	pthread_mutex_unlock(&noted_lock);
}

/*
 * A topic for which wanted is true, of those that lost partitions since the last call; NULL if
 * there is none.  Of too many at once the first stands for those whose names are not kept.
 */
const OutboxTopic *
outbox_take_shrunk_topic(bool (*wanted)(const OutboxTopic *topic))
{
	const OutboxTopic *found = NULL;
	int				   kept;
	int				   i;

	pthread_mutex_lock(&noted_lock);
	kept = shrunk_count < SHRUNK_TOPICS_MAX ? shrunk_count : SHRUNK_TOPICS_MAX;
	for (i = 0; i < kept; i++)
	{
		const OutboxTopic *topic = outbox_topic_find(shrunk_topics[i], strlen(shrunk_topics[i]));

		if (wanted(topic) || (found == NULL && shrunk_count > SHRUNK_TOPICS_MAX))
			found = topic;
	}
	shrunk_count = 0;
	pthread_mutex_unlock(&noted_lock);
	return found;
}
