/* SPDX-License-Identifier: PostgreSQL
 *
 * test_holds.c
 *	  Which events a topic hold leaves out of a batch.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "bgworker/relay/hold_rules.h"

static uint64_t copies_of_first[] = {20, 22};
static uint64_t copies_of_second[] = {21};

static OutboxHold
make_hold(int64_t id, const char *topic)
{
	return (OutboxHold) {.id = id,
						 .topic = topic,
						 .topic_hash = outbox_hold_topic_hash(topic, strlen(topic))};
}

/* The id of the hold that leaves an event out; 0: none. */
static int64_t
leaves_out(const OutboxHold *holds, size_t count, const char *topic, uint64_t txid)
{
	const OutboxHold *hold = outbox_hold_leaving_out(holds, count, topic, strlen(topic), txid);

	return hold == NULL ? 0 : hold->id;
}

static void
test_topics(void)
{
	OutboxHold holds[] = {make_hold(1, "orders"), make_hold(2, "orders.DLT")};

	CHECK(leaves_out(NULL, 0, "orders", 7) == 0, "no hold leaves nothing out");
	CHECK(leaves_out(holds, 2, "orders", 7) == 1, "a hold leaves its topic out");
	CHECK(leaves_out(holds, 2, "orders.DLT", 7) == 2, "a dead-letter topic has a hold of its own");
	CHECK(leaves_out(holds, 2, "order", 7) == 0 && leaves_out(holds, 2, "orders.D", 7) == 0,
		  "the beginning of a name is another topic");
	holds[1].topic_hash = holds[0].topic_hash;
	CHECK(leaves_out(holds + 1, 1, "orders", 7) == 0, "equal hashes do not make one topic of two");
}

static void
test_copies(void)
{
	OutboxHold holds[] = {make_hold(1, "orders"), make_hold(2, "orders")};

	holds[0].copies = copies_of_first;
	holds[0].ncopies = 2;
	CHECK(leaves_out(holds, 1, "orders", 20) == 0 && leaves_out(holds, 1, "orders", 22) == 0,
		  "a hold's own copies pass");
	CHECK(leaves_out(holds, 1, "orders", 21) == 1, "what lies between them does not");
	holds[1].copies = copies_of_second;
	holds[1].ncopies = 1;
	CHECK(leaves_out(holds, 2, "orders", 20) == 2, "one hold's copies are events of the next");
	CHECK(leaves_out(holds, 2, "orders", 19) == 1, "of two the first has the event");
}

static void
test_causes(void)
{
	OutboxHoldCause cause;

	for (int i = OUTBOX_HOLD_LEADER; i <= OUTBOX_HOLD_REFUSED; i++)
		CHECK(outbox_hold_cause_named(outbox_hold_cause_name(i), &cause) && (int) cause == i,
			  "a cause is known by its name");
	CHECK(!outbox_hold_cause_named("weather", &cause), "another is not");
}

int
main(void)
{
	test_topics();
	test_copies();
	test_causes();
	return finish_tests();
}
