/* SPDX-License-Identifier: PostgreSQL
 *
 * test_release.c
 *	  What a release does next, and how a release comes to its end.
 */
#include "unit.h"
#include "bgworker/replay/release_plan.h"

static const OutboxReleaseLimits limits = {
	.step_events = 1000,
	.step_bytes = 1000000,
	.unsent_events = 5000,
	.last_events = 4000,
	.last_bytes = 4000000,
};

/* A hold of which much is left, all copies delivered, while a batch is sent. */
static const OutboxReleaseFacts much = {
	.delivered = true,
	.left_events = 100000,
	.left_bytes = 10000000,
};

static OutboxReleaseStep
choose(OutboxReleaseFacts facts)
{
	return outbox_release_choose(&facts, &limits);
}

static void
test_steps(void)
{
	OutboxReleaseFacts facts = much;

	CHECK(choose(facts) == OUTBOX_RELEASE_COPIES, "much is left: a step is copied");
	facts.between = true;
	CHECK(choose(facts) == OUTBOX_RELEASE_COPIES, "between two windows, too");
	facts.unsent = 4000;
	CHECK(choose(facts) == OUTBOX_RELEASE_COPIES, "up to so many copies may be in no batch");
	facts.unsent = 4001;
	CHECK(choose(facts) == OUTBOX_RELEASE_WAITS, "no more: others would wait for them");
}

static void
test_end(void)
{
	OutboxReleaseFacts facts = much;

	facts.left_events = 4000;
	facts.left_bytes = 4000000;
	CHECK(choose(facts) == OUTBOX_RELEASE_WAITS, "the rest waits for the end of the window");
	facts.between = true;
	CHECK(choose(facts) == OUTBOX_RELEASE_ENDS, "and goes with the end of the hold");
	facts.unsent = 1;
	CHECK(choose(facts) == OUTBOX_RELEASE_WAITS, "not before all copies are in a batch");
	facts.unsent = 0;
	facts.left_bytes = 4000001;
	CHECK(choose(facts) == OUTBOX_RELEASE_COPIES, "few but large ones are a step");
	facts.left_events = facts.left_bytes = 0;
	CHECK(choose(facts) == OUTBOX_RELEASE_ENDS, "a hold that left out nothing ends");
}

static void
test_probe(void)
{
	OutboxReleaseFacts facts = much;

	facts.refused = true;
	CHECK(choose(facts) == OUTBOX_RELEASE_PROBES, "what was refused is probed");
	facts.unsent = 10;
	CHECK(choose(facts) == OUTBOX_RELEASE_WAITS, "after all copies of before are in a batch");
	facts.unsent = 0;
	facts.left_events = facts.left_bytes = 10;
	facts.between = true;
	CHECK(choose(facts) == OUTBOX_RELEASE_PROBES,
		  "also when little is left: the hold does not end with it");
	facts.steps = 1;
	facts.delivered = false;
	CHECK(choose(facts) == OUTBOX_RELEASE_WAITS, "the probe is waited for");
	facts.delivered = true;
	CHECK(choose(facts) == OUTBOX_RELEASE_ENDS, "once it is delivered the rest comes");
	facts.steps = 0;
	facts.left_events = facts.left_bytes = 0;
	CHECK(choose(facts) == OUTBOX_RELEASE_ENDS, "without an event there is nothing to probe");
}

static void
test_joins(void)
{
	CHECK(outbox_release_joins(0, 0, 50000, 90000000, &limits), "the first range may be large");
	CHECK(outbox_release_joins(500, 1000, 500, 999000, &limits), "a further one that fits");
	CHECK(!outbox_release_joins(500, 1000, 501, 1000, &limits), "not one with too many events");
	CHECK(!outbox_release_joins(500, 1000, 1, 999001, &limits), "nor with too many bytes");
}

/* Batches that take begin_us, and each_us an event. */
static OutboxReleasePace
pace_of(int64_t begin_us, int64_t each_us)
{
	OutboxReleasePace pace = {0};

	for (int64_t events = 0; events < 40000; events += 1000)
		outbox_release_pace_note(&pace, events % 7000, begin_us + each_us * (events % 7000));
	return pace;
}

static void
test_pace(void)
{
	OutboxReleasePace pace = {0};
	int64_t			  events;

	CHECK(outbox_release_pace_events(&pace, 1000, 5000) == 5000, "nothing is known: the usual");
	for (int i = 0; i < 100; i++)
		outbox_release_pace_note(&pace, 10, 20000);
	CHECK(outbox_release_pace_events(&pace, 1000, 5000) == 5000, "nor by batches of one size");
	pace = pace_of(20000, 5);
	events = outbox_release_pace_events(&pace, 1000, 5000);
	CHECK(events >= 4990 && events <= 5010,
		  "as many as take five quarters of a batch without them");
	pace = pace_of(100, 5);
	CHECK(outbox_release_pace_events(&pace, 1000, 5000) == 2000, "two steps at least");
	pace = pace_of(500000, 5);
	CHECK(outbox_release_pace_events(&pace, 1000, 5000) == 20000, "twenty at most");
	for (int i = 0; i < 200; i++)
		outbox_release_pace_note(&pace, i % 7 * 1000, 20000 + i % 7 * 5000);
	events = outbox_release_pace_events(&pace, 1000, 5000);
	CHECK(events >= 4900 && events <= 5100, "it follows the newest batches");
}

int
main(void)
{
	test_steps();
	test_end();
	test_probe();
	test_joins();
	test_pace();
	return finish_tests();
}
