/* SPDX-License-Identifier: PostgreSQL
 *
 * test_deadlines.c
 *	  How deadlines grow against a broker that limits them; the clock is the test's.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bgworker/sender/deadlines.h"
#include "bgworker/sender/process.h"

#include "unit.h"

#define MB INT64_C(1048576)

static int64_t		 now_ms = 1;
static int64_t		 broker_ms;	   /* transaction.max.timeout.ms */
static bool			 broker_tells; /* to DescribeConfigs */
static int			 fences;	   /* refused ones */
static OutboxFailure failure;

int64_t
outbox_clock_us(void)
{
	return now_ms * 1000;
}

void
outbox_failure_precede(OutboxFailure *told, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(told->text, sizeof(told->text), format, args);
	va_end(args);
}

/* The settings' deadlines, as OPEN and the first producer find them. */
static OutboxSettings
open_settings(bool exactly_once, const char *message_ms)
{
	OutboxSettings	 settings = {.exactly_once = exactly_once};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set(conf, "message.timeout.ms", message_ms, NULL, 0);
	rd_kafka_conf_set(conf, "transaction.timeout.ms", "45000", NULL, 0);
	rd_kafka_conf_set(conf, "socket.timeout.ms", "10000", NULL, 0);
	outbox_deadlines_forget();
	outbox_deadlines_read(&settings, conf);
	rd_kafka_conf_destroy(conf);
	return settings;
}

static const OutboxDeadlines *
deadlines(void)
{
	return outbox_deadlines_grown() != NULL ? outbox_deadlines_grown() : outbox_deadlines_usual();
}

/* As outbox_producer_open. */
static bool
make_producer(const OutboxSettings *settings)
{
	if (outbox_deadlines_want_limit(settings))
		outbox_deadlines_set_limit(broker_tells ? broker_ms : 0);
	while (settings->exactly_once && deadlines()->transaction_ms > broker_ms)
	{
		fences++;
		if (!outbox_deadlines_lower())
			return false;
	}
	outbox_deadlines_allowed();
	return true;
}

/*
 * Tries a batch that takes so long, so many times at most.  Returns how often it was tried; 0: it
 * did not pass.
 */
static int
deliver(const OutboxSettings *settings, int64_t takes_ms, int most)
{
	for (int tries = 1; tries <= most; tries++)
	{
		int64_t passes_ms;

		if (!make_producer(settings))
			return 0;
		outbox_deadlines_begun();
		passes_ms = takes_ms < deadlines()->message_ms ? takes_ms : deadlines()->message_ms;
		now_ms += passes_ms;
		outbox_deadlines_acknowledged((size_t) (32 * MB / takes_ms * passes_ms));
		if (passes_ms == takes_ms)
		{
			outbox_deadlines_committed();
			return tries;
		}
		outbox_deadlines_failed(settings, 32 * MB, false, true, &failure);
	}
	return 0;
}

static void
test_limit(void)
{
	OutboxSettings settings = open_settings(true, "30000");

	for (int tells = 0; tells <= 1; tells++)
	{
		broker_tells = tells;
		broker_ms = 900000;
		outbox_deadlines_forget();
		CHECK(deliver(&settings, 20000, 1) == 1, "a batch in time needs one try");
		CHECK(deliver(&settings, 500000, 3) > 1, "one that needs less than Kafka's limit passes");
		CHECK(outbox_deadlines_grown() == NULL, "after which the settings' deadlines count");
		CHECK(deliver(&settings, 770000, 6) > 1, "also one that needs nearly all of it");
		CHECK(deliver(&settings, 2000000, 6) == 0 && strstr(failure.text, "does not pass") != NULL,
			  "what needs more is named");
		fences = 0;
		CHECK(deliver(&settings, 2000000, 6) == 0 && fences <= 12,
			  "and is tried on, without asking too often");
	}
}

static void
test_remedy(void)
{
	OutboxSettings settings = open_settings(true, "30000");

	for (int tells = 0; tells <= 1; tells++)
	{
		broker_tells = tells;
		broker_ms = 100000;
		outbox_deadlines_forget();
		CHECK(deliver(&settings, 400000, 8) == 0 &&
				  strstr(failure.text, "transaction.max.timeout.ms") != NULL,
			  "a batch that no transaction is long enough for");
		broker_ms = 900000;
		CHECK(deliver(&settings, 400000, 4) > 0,
			  "passes once Kafka's limit is raised, without a new sender");
		broker_ms = 50000;
		CHECK(deliver(&settings, 400000, 6) == 0 && deliver(&settings, 20000, 1) == 1,
			  "a limit that was lowered is heeded as well");
	}
}

static void
test_edges(void)
{
	OutboxSettings settings = open_settings(true, "30000");
	OutboxProgress progress;

	make_producer(&settings);
	outbox_deadlines_begun();
	outbox_deadlines_acknowledged(1000);
	outbox_deadlines_take_progress(&progress);
	CHECK(progress.done == 0, "a batch that was not read to its end shows no rate");
	outbox_deadlines_begun();
	outbox_deadlines_acknowledged(1000);
	outbox_deadlines_failed(&settings, 2000, false, true, &failure);
	CHECK(outbox_deadlines_grown() == NULL, "one that failed early gets no more time");
	outbox_deadlines_take_progress(&progress);
	CHECK(progress.bytes == 2000 && progress.done == 1000, "but shows how far it came");
	now_ms += 30000;
	outbox_deadlines_failed(&settings, 2000, false, false, &failure);
	CHECK(outbox_deadlines_grown() == NULL, "neither does one that may not pass with more");
	settings = open_settings(false, "0");
	CHECK(deadlines()->message_ms == OUTBOX_RATE_MOST_MS &&
			  deadlines()->transaction_ms == OUTBOX_RATE_MOST_MS,
		  "without a transaction, and without a limit of its own, a batch may take a day");
	settings = open_settings(true, "0");
	CHECK(deadlines()->message_ms == 45000, "else as long as its transaction");
}

int
main(void)
{
	test_limit();
	test_remedy();
	test_edges();
	return finish_tests();
}
