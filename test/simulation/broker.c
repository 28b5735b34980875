/* SPDX-License-Identifier: PostgreSQL
 *
 * broker.c
 *	  The simulated broker: a log, one group offset, and a transaction coordinator whose
 *	  answers get lost, come late or are repeated (KAFKA-17754).
 */
#include "simulation.h"

/* A transaction nobody waits for any more. */
typedef struct Orphan
{
	bool			  active;
	int				  epoch;
	int				  count;
	int				  ids[MOST_EVENTS];
	OutboxKafkaCursor cursor;
} Orphan;

OutboxKafkaCursor broker_cursor;
int				  logged[MOST_LOGGED];
int				  nlogged;
int				  broker_epoch;
bool			  broker_unled[TOPICS];
bool			  broker_closed[TOPICS];

static Orphan orphan;
static int	  late_epoch; /* of a second EndTxn(commit) on its way, 0 = none */

void
broker_reset(void)
{
	memset(&broker_cursor, 0, sizeof(broker_cursor));
	memset(&orphan, 0, sizeof(orphan));
	memset(broker_unled, 0, sizeof(broker_unled));
	memset(broker_closed, 0, sizeof(broker_closed));
	nlogged = late_epoch = 0;
	broker_epoch = 1;
}

static void
publish(const int *ids, int count)
{
	if (nlogged + count > MOST_LOGGED)
	{
		oracle_fail("the schedule is too long for the broker");
		return;
	}
	memcpy(&logged[nlogged], ids, sizeof(int) * count);
	nlogged += count;
}

int
broker_fence(void)
{
	orphan.active = false;
	late_epoch = 0;
	return ++broker_epoch;
}

SendOutcome
broker_send(int epoch, const int *ids, int count, const OutboxKafkaCursor *cursor)
{
	bool commits = healing || happens(80);
	bool cursor_first = mutant == MUTANT_CURSOR_FIRST;

	if (epoch != broker_epoch)
		return SEND_FENCED;
	if (cursor_first)
		broker_cursor = *cursor;
	if (!commits)
	{
		/* the late commit of the transaction before acts on a part of this one */
		if (late_epoch == epoch && count > 0)
			publish(ids, 1 + (int) pick(count));
		late_epoch = 0;
		return SEND_FAILED;
	}
	publish(ids, count);
	broker_cursor = *cursor;
	if (healing || happens(80))
		return SEND_COMMITTED;
	if (happens(50))
		return SEND_FAILED;
	late_epoch = epoch;
	return SEND_TORN;
}

void
broker_leave(int epoch, const int *ids, int count, const OutboxKafkaCursor *cursor)
{
	if (epoch != broker_epoch)
		return;
	orphan.active = true;
	orphan.epoch = epoch;
	orphan.count = count;
	memcpy(orphan.ids, ids, sizeof(int) * count);
	orphan.cursor = *cursor;
	if (mutant == MUTANT_CURSOR_FIRST)
		broker_cursor = *cursor;
}

bool
broker_may_have(int id)
{
	for (int i = 0; i < nlogged; i++)
	{
		if (logged[i] == id)
			return true;
	}
	for (int i = 0; orphan.active && i < orphan.count; i++)
	{
		if (orphan.ids[i] == id)
			return true;
	}
	return false;
}

void
broker_tick(void)
{
	if (!orphan.active || !happens(20))
		return;
	orphan.active = false;
	if (happens(50))
	{
		publish(orphan.ids, orphan.count);
		broker_cursor = orphan.cursor;
	}
}

void
broker_forget_cursor(void)
{
	broker_cursor.present = false;
}
