/* SPDX-License-Identifier: PostgreSQL
 *
 * producer.c
 *	  The life of the one producer handle: made and fenced, looked after while
 *	  idle, dropped after any failure (I6).
 *
 * Runs in the sender: the main thread, and while a fence lasts one for the other transactional id.
 *
 * There are two ids, and a fence is one of both, so that a transaction that waits for a partition
 * without a leader does not stop the others: its id is passed over, and whether that may be the
 * relay decides (start_rules.c).
 */
#include "producer.h"

#include <pthread.h>
#include <stdio.h>

#include "batch.h"
#include "conf.h"
#include "deadlines.h"
#include "explain.h"
#include "failure.h"
#include "halving.h"
#include "leaders.h"
#include "notes.h"
#include "process.h"
#include "settings.h"
#include "topic_create.h"
#include "topic_open.h"
#include "topics.h"
#include "watch.h"

#define INIT_TIMEOUT_US	 30000000
#define INIT_SLICE_MS	 2500 /* of that: then a transaction that waits for a leader is seen */
#define INIT_AGAIN_MS	 300  /* the same where the last fence has seen one */
#define LEADERS_AFTER_US 1000000

/* One of the two ids while it is fenced. */
typedef struct Candidate
{
	rd_kafka_t		 *client;
	int				  slice_ms;
	rd_kafka_error_t *error; /* NULL: fenced */
} Candidate;

static rd_kafka_t *producer;
static bool		   is_spare; /* it has the spare id */
static bool first_waits;	 /* by the newest fence: a transaction of the first id, for a leader */
static char
	passed_over[OUTBOX_LEADERS_TEXT + 200]; /* why the other id is not fenced; empty: it is */

/*
 * Makes the handle alone, with the first id or the spare one; outbox_deadlines_grown says with
 * which deadlines.
 */
static bool
make_producer(const OutboxSettings *settings, bool spare, OutboxFailure *failure)
{
	const OutboxDeadlines *grown = outbox_deadlines_grown();
	rd_kafka_conf_t		  *conf =
		outbox_producer_conf(settings, outbox_halving_per_request(), outbox_topics_batch_bytes(),
							 grown, spare, failure);
	char error[512];

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

/* Does a transaction of the id wait for a leader? */
static bool
waits_for_leader(const rd_kafka_error_t *error)
{
	return error != NULL &&
		rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS &&
		outbox_leaders_any();
}

/* Fences every other producer of the client's id (I4).  A void pointer, for it is a thread's. */
static void *
fence_candidate(void *arg)
{
	Candidate *candidate = arg;
	int64_t	   deadline_us = outbox_clock_us() + INIT_TIMEOUT_US;

	for (;;)
	{
		rd_kafka_error_t *error =
			rd_kafka_init_transactions(candidate->client, candidate->slice_ms);

		candidate->error = error;
		if (error == NULL || !rd_kafka_error_is_retriable(error) || waits_for_leader(error) ||
			outbox_clock_us() >= deadline_us)
			return NULL;
		rd_kafka_error_destroy(error);
	}
}

/* Both at once, each in its time. */
static void
fence_candidates(Candidate *first, Candidate *spare)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fence_candidate, spare) == 0)
	{
		(void) fence_candidate(first);
		pthread_join(thread, NULL);
		return;
	}
	(void) fence_candidate(spare);
	(void) fence_candidate(first);
}

static void
drop_candidate(Candidate *candidate)
{
	if (candidate->error != NULL)
		rd_kafka_error_destroy(candidate->error);
	if (candidate->client != NULL)
		rd_kafka_destroy(candidate->client);
}

static void
pass_over(const char *id)
{
	char partition[OUTBOX_LEADERS_TEXT];

	outbox_leaders_name(partition, sizeof(partition));
	snprintf(passed_over, sizeof(passed_over),
			 "a transaction of id \"%.100s\" waits for a leader of %s", id, partition);
	outbox_process_log("%s: the other one is used", passed_over);
}

/* Takes over the error. */
static void
fail_fence(rd_kafka_t *client, rd_kafka_error_t *error, const char *id, OutboxFailure *failure)
{
	rd_kafka_poll(client, 0);
	outbox_failure_from_error(failure, error, "fencing");
	if (failure->kafka_error == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT &&
		outbox_deadlines_grown() == NULL)
		outbox_explain_transaction_timeout(client, outbox_deadlines_usual()->transaction_ms,
										   failure);
	if (failure->class == OUTBOX_ERROR_AUTH)
		outbox_failure_append(failure, " (transactional.id \"%s\")", id);
}

/*
 * Chooses among the two: the first id if it is fenced, the spare one while a transaction of the
 * first waits.  An id that may not be used nobody has to be shut out of.
 */
static bool
choose_candidate(const OutboxSettings *settings, Candidate *first, Candidate *spare,
				 OutboxFailure *failure)
{
	bool forbidden = spare->error != NULL &&
		rd_kafka_error_code(spare->error) ==
			RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
	Candidate *failed = NULL;

	if (first->error != NULL && (spare->error != NULL || !waits_for_leader(first->error)))
		failed = first;
	else if (spare->error != NULL && !forbidden && !waits_for_leader(spare->error))
		failed = spare;
	if (failed != NULL)
	{
		rd_kafka_error_t *error = failed->error;

		failed->error = NULL;
		fail_fence(failed->client, error,
				   failed == first ? settings->transactional_id : settings->spare_id, failure);
		if (forbidden && failed == first)
			outbox_failure_append(failure, " (transactional.id \"%s\" may not be used instead)",
								  settings->spare_id);
		return false;
	}
	if (first->error != NULL)
		pass_over(settings->transactional_id);
	else if (spare->error != NULL && !forbidden)
		pass_over(settings->spare_id);
	is_spare = first_waits = first->error != NULL;
	return true;
}

/* Fences every other producer of the installation; the producer may be another one then. */
static bool
fence_others(const OutboxSettings *settings, OutboxFailure *failure)
{
	Candidate first = {.client = producer, .slice_ms = first_waits ? INIT_AGAIN_MS : INIT_SLICE_MS};
	Candidate spare = {.slice_ms = INIT_SLICE_MS};
	bool	  ok = make_producer(settings, true, failure);

	spare.client = ok ? producer : NULL;
	producer = first.client;
	if (!ok)
		return false;
	OUTBOX_FAULT("sender-before-fence");
	outbox_leaders_worry(LEADERS_AFTER_US);
	fence_candidates(&first, &spare);
	OUTBOX_FAULT("sender-fenced");
	ok = choose_candidate(settings, &first, &spare, failure);
	if (ok && is_spare)
	{
		producer = spare.client;
		spare.client = NULL;
		drop_candidate(&first);
		outbox_conf_hear_notices(producer, settings);
	}
	else
		first.client = NULL;
	drop_candidate(&spare);
	return ok;
}

/* Asks how long a transaction may be, with a producer that fences nobody. */
static void
learn_limit(const OutboxSettings *settings)
{
	OutboxFailure ignored;

	if (!outbox_deadlines_want_limit(settings) || !make_producer(settings, false, &ignored))
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
		if (!make_producer(settings, false, failure))
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

/* Has it the spare transactional id? */
bool
outbox_producer_is_spare(void)
{
	return is_spare;
}

/* Why the newest fence did not shut out who has the other id; NULL: it did. */
const char *
outbox_producer_passed_over(void)
{
	return passed_over[0] == '\0' ? NULL : passed_over;
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
	is_spare = false;
	passed_over[0] = '\0';
}

/* Serves callbacks; called about once a second while nothing else happens. */
void
outbox_producer_idle(void)
{
	if (producer != NULL)
		rd_kafka_poll(producer, 0);
}
