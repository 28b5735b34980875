/* SPDX-License-Identifier: PostgreSQL
 *
 * deadlines.c
 *	  How long the next try of a batch may take: longer after each that ran out of time.
 *
 * Runs in the sender, all of it in the main thread.  A stored batch cannot be cut (I2, I4), so a
 * slow link or a quota must be given more time.  The deadlines are those of the producer, and each
 * try has a new one (I6); after the commit the settings' count again.  What is known ends with the
 * process: growth then begins anew.
 */
#include "deadlines.h"

#include <inttypes.h>
#include <stdlib.h>

#include "failure.h"
#include "process.h"
#include "settings.h"

static OutboxDeadlines usual;	 /* the settings'; of the newest producer with them */
static OutboxDeadlines grown;	 /* of the next producer, if tries > 0 */
static int			   tries;	 /* failed ones of the batch, by time */
static int64_t		   limit_ms; /* the most that Kafka lets a transaction take; 0: not known */
static bool			   limit_asked;
static int64_t		   allowed_ms; /* the most it has let one take so far */
static int64_t		   refused_ms; /* the least it has not; 0: none, or the limit is known */
static OutboxProgress  progress;   /* of the batch under way, or that failed last */
static int64_t		   begun_us;

static int64_t
read_ms(rd_kafka_conf_t *conf, const char *name)
{
	char   value[32];
	size_t size = sizeof(value);

	return rd_kafka_conf_get(conf, name, value, &size) == RD_KAFKA_CONF_OK ?
		strtoll(value, NULL, 10) :
		0;
}

/* What the settings say, of a configuration made of them alone. */
void
outbox_deadlines_read(const OutboxSettings *settings, rd_kafka_conf_t *conf)
{
	usual.message_ms = read_ms(conf, "message.timeout.ms");
	usual.transaction_ms =
		settings->exactly_once ? read_ms(conf, "transaction.timeout.ms") : OUTBOX_RATE_MOST_MS;
	usual.socket_ms = read_ms(conf, "socket.timeout.ms");
	if (usual.message_ms <= 0) /* for ever: the transaction ends it */
		usual.message_ms = usual.transaction_ms;
	if (!settings->exactly_once)
		usual.transaction_ms = usual.message_ms;
}

/* NULL: the settings' are good enough. */
const OutboxDeadlines *
outbox_deadlines_grown(void)
{
	return tries > 0 ? &grown : NULL;
}

/* The settings' own. */
const OutboxDeadlines *
outbox_deadlines_usual(void)
{
	return &usual;
}

/* Is Kafka's limit of interest, and was it never asked for? */
bool
outbox_deadlines_want_limit(const OutboxSettings *settings)
{
	return tries > 0 && !limit_asked && settings->exactly_once;
}

/* What Kafka's limit is; 0: it does not say, and what is known of it stays. */
void
outbox_deadlines_set_limit(int64_t ms)
{
	limit_asked = true;
	if (ms <= 0)
		return;
	limit_ms = ms;
	refused_ms = 0;
	if (grown.transaction_ms > ms && ms >= usual.transaction_ms)
	{
		grown.message_ms -= grown.transaction_ms - ms;
		grown.transaction_ms = ms;
	}
}

/* A producer with these deadlines is ready. */
void
outbox_deadlines_allowed(void)
{
	int64_t ms = tries > 0 ? grown.transaction_ms : usual.transaction_ms;

	if (ms > allowed_ms)
		allowed_ms = ms;
	if (refused_ms > 0 && ms >= refused_ms)
		limit_ms = refused_ms = 0; /* it was raised */
}

/*
 * Between what Kafka has allowed and what it has refused; what it has allowed, when the two are
 * close.
 */
static int64_t
search_limit(void)
{
	int64_t floor_ms = allowed_ms > usual.transaction_ms && allowed_ms < refused_ms ?
		allowed_ms :
		usual.transaction_ms;
	int64_t middle_ms = floor_ms + (refused_ms - floor_ms) / 2;

	return middle_ms < floor_ms + floor_ms / 8 ? floor_ms : middle_ms;
}

/*
 * Kafka has refused the grown transaction.timeout.ms: less, for a producer made at once.
 * False: it was the settings' own.
 */
bool
outbox_deadlines_lower(void)
{
	int64_t rest = usual.transaction_ms - usual.message_ms;

	if (tries == 0 || grown.transaction_ms <= usual.transaction_ms)
		return false;
	refused_ms = grown.transaction_ms;
	if (allowed_ms >= refused_ms)
		allowed_ms = 0; /* it was lowered */
	limit_ms = search_limit();
	grown.transaction_ms = limit_ms;
	grown.message_ms = limit_ms - rest;
	return true;
}

/*
 * No try can be longer, as far as is known: the next producer asks Kafka for its limit anew, or
 * tries a longer one, for somebody may have raised it.
 */
static void
look_again(void)
{
	int64_t wanted_ms = refused_ms > 0 ? refused_ms : 2 * grown.transaction_ms;

	limit_asked = false;
	if (wanted_ms > OUTBOX_RATE_MOST_MS)
		return;
	grown.message_ms += wanted_ms - grown.transaction_ms;
	grown.transaction_ms = wanted_ms;
}

/* A try of a batch begins. */
void
outbox_deadlines_begun(void)
{
	progress = (OutboxProgress) {0};
	begun_us = outbox_clock_us();
}

/* A record of so many bytes is in Kafka. */
void
outbox_deadlines_acknowledged(size_t bytes)
{
	progress.done += (int64_t) bytes;
	progress.took_ms = (outbox_clock_us() - begun_us) / 1000;
}

/*
 * How far the batch that failed came; zeros where none has since this was asked, or not all of it
 * was read.
 */
void
outbox_deadlines_take_progress(OutboxProgress *taken)
{
	*taken = progress.bytes > 0 ? progress : (OutboxProgress) {0};
	progress = (OutboxProgress) {0};
}

/* Says what the try came to, and what the next one may take or what could help. */
static void
tell_progress(const OutboxSettings *settings, bool more, OutboxFailure *failure)
{
	int64_t need = outbox_rate_need_ms(&progress);
	int64_t rest = usual.transaction_ms - usual.message_ms;
	int64_t rate = outbox_rate_of(&progress);

	if (more)
		outbox_failure_precede(failure,
							   "%" PRId64 " of %" PRId64
							   " bytes of the batch were acknowledged (%" PRId64
							   " bytes a second), the next try may take %" PRId64 " s",
							   progress.done, progress.bytes, rate, grown.message_ms / 1000);
	else if (!settings->exactly_once)
		outbox_failure_precede(failure,
							   "%" PRId64 " of %" PRId64
							   " bytes of the batch were acknowledged (%" PRId64
							   " bytes a second), a day is not enough: raise the rate "
							   "(producer_byte_rate, the link)",
							   progress.done, progress.bytes, rate);
	else
		outbox_failure_precede(failure,
							   "the batch of %" PRId64 " bytes does not pass: %" PRId64
							   " were acknowledged (%" PRId64
							   " bytes a second) in a transaction as long as Kafka allows, %" PRId64
							   " ms. Raise the rate "
							   "(producer_byte_rate, the link), or transaction.max.timeout.ms of "
							   "the brokers to %" PRId64
							   " or more, or set outbox.delivery = at_least_once",
							   progress.bytes, progress.done, rate, grown.transaction_ms,
							   need > 0 ? need + rest : 2 * grown.transaction_ms);
}

/*
 * A try of a batch has failed: the next one gets more time if this one ran out of it, or stalled,
 * and may_pass with more.
 */
void
outbox_deadlines_failed(const OutboxSettings *settings, uint64_t bytes, bool stalled, bool may_pass,
						OutboxFailure *failure)
{
	OutboxDeadlines last = tries > 0 ? grown : usual;
	bool			more;

	progress.bytes = (int64_t) bytes;
	if (!may_pass ||
		(!stalled &&
		 (outbox_clock_us() - begun_us) / 1000 < last.message_ms - last.message_ms / 10))
		return;
	if (refused_ms > 0)
		limit_ms = search_limit();
	more =
		outbox_rate_grow(&usual, &last, &progress, settings->exactly_once ? limit_ms : 0, &grown);
	tries++;
	tell_progress(settings, more, failure);
	if (!more && settings->exactly_once)
		look_again();
}

/* The batch is committed.  True: the settings' deadlines count again, for a producer made anew. */
bool
outbox_deadlines_committed(void)
{
	bool were_grown = tries > 0;

	progress = (OutboxProgress) {0};
	tries = 0;
	return were_grown;
}

/* The settings may be others now, and Kafka as well. */
void
outbox_deadlines_forget(void)
{
	tries = 0;
	limit_ms = allowed_ms = refused_ms = 0;
	limit_asked = false;
}
