/* SPDX-License-Identifier: PostgreSQL
 *
 * producer.c
 *	  The life of the one producer handle: made and fenced, looked after while
 *	  idle, dropped after any failure (I6).
 *
 * Runs in the sender.
 */
#include "sender.h"

#define INIT_TIMEOUT_MS	30000

static rd_kafka_t *producer;

/* Fences every other producer of our transactional id (I4). */
static bool
fence_others(const OutboxSettings *settings, OutboxFailure *failure)
{
	rd_kafka_error_t *error;

	OUTBOX_FAULT("sender-before-fence");
	error = rd_kafka_init_transactions(producer, INIT_TIMEOUT_MS);
	OUTBOX_FAULT("sender-fenced");
	if (error == NULL)
		return true;
	rd_kafka_poll(producer, 0);
	outbox_failure_from_error(failure, error, "fencing");
	if (failure->class == OUTBOX_ERROR_AUTH)
		outbox_failure_append(failure, " (transactional.id \"%s\")", settings->transactional_id);
	return false;
}

/*
 * A new producer in place of the one there may be: declared topics and the
 * cursor topic exist, and in exactly_once all others are fenced.  On failure
 * there is no producer.
 */
bool
outbox_producer_open(const OutboxSettings *settings, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf;
	char		error[512];

	outbox_producer_drop();
	outbox_forget_client_error();
	conf = outbox_producer_conf(settings, outbox_halving_per_request(), outbox_topics_batch_bytes(), failure);
	if (conf == NULL)
		return false;
	outbox_watch_install(conf);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (producer == NULL)
	{
		/*
		 * conf is not destroyed: the client was a shallow copy of it, and the
		 * interceptors added to the copy have moved the lists conf points to.
		 */
		outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR__INVALID_ARG,
						   "configuring Kafka", "%s", error);
		return false;
	}
	outbox_settings_hear_notices(producer, settings);
	if (outbox_topics_ensure(producer, settings->cursor_topic, failure) &&
		(!settings->exactly_once || fence_others(settings, failure)))
		return true;
	outbox_producer_drop();
	return false;
}

/* The producer's handle, or NULL if there is none. */
rd_kafka_t *
outbox_producer_client(void)
{
	return producer;
}

/* Ends the producer; an open transaction is left to the next fence. */
void
outbox_producer_drop(void)
{
	outbox_topics_close();
	if (producer == NULL)
		return;
	outbox_batch_forget();
	rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
				   RD_KAFKA_PURGE_F_NON_BLOCKING);
	rd_kafka_destroy(producer);
	producer = NULL;
}

/* Serves callbacks; called about once a second while nothing else happens. */
void
outbox_producer_idle(void)
{
	if (producer != NULL)
		rd_kafka_poll(producer, 0);
}
