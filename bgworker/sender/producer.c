/* SPDX-License-Identifier: PostgreSQL
 *
 * producer.c
 *	  The life of the one producer handle: made and fenced, looked after while
 *	  idle, dropped after any failure (I6).
 *
 * Runs in the sender.
 */
#include "producer.h"

#include "batch.h"
#include "conf.h"
#include "deadlines.h"
#include "explain.h"
#include "failure.h"
#include "halving.h"
#include "notes.h"
#include "process.h"
#include "settings.h"
#include "topic_create.h"
#include "topic_open.h"
#include "topics.h"
#include "watch.h"

#define INIT_TIMEOUT_MS 30000

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
	if (failure->kafka_error == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT &&
		outbox_deadlines_grown() == NULL)
		outbox_explain_transaction_timeout(producer, outbox_deadlines_usual()->transaction_ms,
										   failure);
	if (failure->class == OUTBOX_ERROR_AUTH)
		outbox_failure_append(failure, " (transactional.id \"%s\")", settings->transactional_id);
	return false;
}

/* Makes the handle alone; outbox_deadlines_grown says with which deadlines. */
static bool
make_producer(const OutboxSettings *settings, OutboxFailure *failure)
{
	const OutboxDeadlines *grown = outbox_deadlines_grown();
	rd_kafka_conf_t		  *conf = outbox_producer_conf(settings, outbox_halving_per_request(),
													   outbox_topics_batch_bytes(), grown, failure);
	char				   error[512];

	if (conf == NULL)
		return false;
	if (grown == NULL)
		outbox_deadlines_read(settings, conf);
	rd_kafka_conf_set_dr_msg_cb(conf, outbox_batch_delivered);
	outbox_watch_install(conf);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (producer != NULL)
	{
		outbox_conf_hear_notices(producer, settings);
		return true;
	}

	/*
	 * conf is not destroyed: the client was a shallow copy of it, and the
	 * interceptors added to the copy have moved the lists conf points to.
	 */
	outbox_conf_refused(settings, error, failure);
	return false;
}

/* Asks how long a transaction may be, with a producer that fences nobody. */
static void
learn_limit(const OutboxSettings *settings)
{
	OutboxFailure ignored;

	if (!outbox_deadlines_want_limit(settings) || !make_producer(settings, &ignored))
		return;
	outbox_deadlines_set_limit(outbox_explain_transaction_limit(producer));
	outbox_producer_drop();
}

/*
 * A new producer in place of the one there may be: declared topics and the
 * cursor topic exist, and in exactly_once all others are fenced.  On failure
 * there is no producer.
 */
bool
outbox_producer_open(const OutboxSettings *settings, OutboxFailure *failure)
{
	bool lower;

	outbox_producer_drop();
	outbox_forget_client_error();
	learn_limit(settings);
	do
	{
		if (!make_producer(settings, failure))
			return false;
		if (outbox_topics_ensure(producer, settings->cursor_topic, failure) &&
			(!settings->exactly_once || fence_others(settings, failure)))
		{
			outbox_deadlines_allowed();
			return true;
		}
		lower = failure->kafka_error == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT &&
			outbox_deadlines_lower();
		outbox_producer_drop();
	} while (lower);
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
	rd_kafka_purge(producer,
				   RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
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
