/* SPDX-License-Identifier: PostgreSQL
 *
 * notes.c
 *	  What librdkafka's threads told last: errors of connections, topics denied or shrunk.
 *
 * Runs in the sender.  The "last client error" is written by the main thread (error callback); the
 * "denied topic", the topics that lost partitions and the certificate that was not accepted by any
 * librdkafka thread (log and verify callbacks) under noted_lock.
 */
#include "notes.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/x509.h>

#include "errors.h"
#include "src/common/text.h"
#include "src/common/topic_names.h"

#define FIRST_VERSION_WITH_SCRAM_FOR_KAFKA_4 0x02060100
#define SHRUNK_TOPICS_MAX					 16

static rd_kafka_resp_err_t last_client_error;
static bool				   all_brokers_down; /* main thread, like last_client_error */
static char				   last_client_text[512];

static pthread_mutex_t noted_lock = PTHREAD_MUTEX_INITIALIZER;
static char			   denied_topic[OUTBOX_TOPIC_NAME_SIZE]; /* under noted_lock */
static char			   certificate_text[256];				 /* under noted_lock */

/* Topics that lost partitions, since they were taken last; under noted_lock. */
static char shrunk_topics[SHRUNK_TOPICS_MAX][OUTBOX_TOPIC_NAME_SIZE];
static int	shrunk_count; /* may exceed SHRUNK_TOPICS_MAX */

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

/* What the last connection failed with, for people; NULL: none has. */
const char *
outbox_client_error_text(void)
{
	return last_client_error == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL : last_client_text;
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

/* An error of a client as a whole, with librdkafka's text: what it failed with last. */
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

/* Before Kafka is asked anew: what the last try failed with says nothing any more. */
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
 * True with the name of a topic for which wanted is true, of those that lost partitions since the
 * last call.  Of too many at once the first stands for those whose names are not kept.
 */
bool
outbox_take_shrunk_topic(bool (*wanted)(const char *name), char *name, size_t size)
{
	int found = -1;
	int kept;

	pthread_mutex_lock(&noted_lock);
	kept = shrunk_count < SHRUNK_TOPICS_MAX ? shrunk_count : SHRUNK_TOPICS_MAX;
	for (int i = 0; i < kept; i++)
		if (wanted(shrunk_topics[i]) || (found < 0 && shrunk_count > SHRUNK_TOPICS_MAX))
			found = i;
	if (found >= 0)
		snprintf(name, size, "%s", shrunk_topics[found]);
	shrunk_count = 0;
	pthread_mutex_unlock(&noted_lock);
	return found >= 0;
}
