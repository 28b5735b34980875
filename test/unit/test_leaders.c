/* SPDX-License-Identifier: PostgreSQL
 *
 * test_leaders.c
 *	  The sender's table of topics without a leader, and what the relay makes of it.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "bgworker/relay/leader_rules.h"
#include "bgworker/sender/leader_table.h"

#define SECOND INT64_C(1000000)

static bool
has(OutboxLeaderTable *table, const char *topic, int64_t now, int32_t partition, int64_t since)
{
	const OutboxLeaderless *row = outbox_leader_table_find(table, topic, now);

	return row != NULL && row->partition == partition && row->since_us == since;
}

static void
test_since(void)
{
	OutboxLeaderTable table = {0};

	CHECK(outbox_leader_table_find(&table, "a", 0) == NULL, "nothing is known at first");
	outbox_leader_table_note(&table, "a", 3, 10 * SECOND);
	outbox_leader_table_note(&table, "a", 2, 12 * SECOND);
	CHECK(has(&table, "a", 13 * SECOND, 2, 10 * SECOND),
		  "since the first look, and the partition of the last");
	CHECK(outbox_leader_table_find(&table, "b", 13 * SECOND) == NULL, "others have theirs");
	CHECK(outbox_leader_table_find(&table, "a", 12 * SECOND + OUTBOX_LEADERS_GAP_US + 1) == NULL,
		  "what was seen long ago says nothing");
	outbox_leader_table_note(&table, "a", 1, 13 * SECOND + OUTBOX_LEADERS_GAP_US);
	CHECK(has(&table, "a", 24 * SECOND, 1, 23 * SECOND), "and after a gap it counts anew");
	outbox_leader_table_free(&table);
}

static void
test_looks(void)
{
	OutboxLeaderTable table = {0};
	char			  name[16];
	bool			  all = true;

	for (int look = 1; look <= 2; look++)
	{
		for (int i = 0; i < 100; i++)
		{
			snprintf(name, sizeof(name), "t%d", i);
			if (look == 1 || i % 2 == 0)
				outbox_leader_table_note(&table, name, i, look * SECOND);
		}
		outbox_leader_table_keep_seen(&table, look * SECOND);
	}
	for (int i = 0; i < 100; i++)
	{
		snprintf(name, sizeof(name), "t%d", i);
		all &= has(&table, name, 3 * SECOND, i, SECOND) == (i % 2 == 0);
	}
	CHECK(all && table.count == 50, "a look ends what it has not seen, and the rest goes on");
	outbox_leader_table_forget(&table, "t0");
	CHECK(outbox_leader_table_find(&table, "t0", 3 * SECOND) == NULL && table.count == 49 &&
			  has(&table, "t98", 3 * SECOND, 98, SECOND),
		  "one is forgotten alone");
	outbox_leader_table_note(&table, "t1", 0, 4 * SECOND);
	outbox_leader_table_keep_seen(&table, 3 * SECOND);
	CHECK(has(&table, "t1", 4 * SECOND, 0, 4 * SECOND),
		  "what was noted after a look began is not ended by it");
	outbox_leader_table_free(&table);
}

static void
test_name(void)
{
	OutboxLeaderTable table = {0};
	char			  name[OUTBOX_TOPIC_NAME_SIZE + 1];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(!outbox_leader_table_note(&table, name, 0, SECOND) && table.count == 0,
		  "a name that is too long is none");
	outbox_leader_table_free(&table);
}

/* Which hold ends, and when. */
static void
test_end(void)
{
	OutboxHold		   hold = {.topic = "a", .cause = OUTBOX_HOLD_LEADER};
	OutboxTopicLeaders leaders = {.topic = "a", .partition = -1, .for_ms = OUTBOX_LEADERS_BACK_MS};

	CHECK(outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS),
		  "all partitions have had leaders for long enough");
	leaders.for_ms--;
	CHECK(!outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS), "not before");
	leaders = (OutboxTopicLeaders) {.topic = "a", .partition = 2, .for_ms = 3600000};
	CHECK(!outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS),
		  "not with a partition that has none");
	leaders.partition = -1;
	hold.topic = "b";
	CHECK(!outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS), "not another topic's");
	hold.topic = "a";
	hold.cause = OUTBOX_HOLD_OPERATOR;
	CHECK(!outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS) &&
			  !outbox_leader_is_watched(&hold),
		  "not one that a person has made his own");
	hold.cause = OUTBOX_HOLD_LEADER;
	hold.releasing = true;
	CHECK(!outbox_leader_ends_hold(&hold, &leaders, OUTBOX_LEADERS_BACK_MS) &&
			  !outbox_leader_is_watched(&hold),
		  "nor one that is on its way");
}

int
main(void)
{
	test_since();
	test_looks();
	test_name();
	test_end();
	return finish_tests();
}
