/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_rules.c
 *	  When a topic is held for want of a leader, and when that hold ends.
 *
 * Pure.
 */
#include "leader_rules.h"

#include <string.h>

bool
outbox_leader_is_watched(const OutboxHold *hold)
{
	return hold->cause == OUTBOX_HOLD_LEADER && !hold->releasing && !hold->ended;
}

bool
outbox_leader_ends_hold(const OutboxHold *hold, const OutboxTopicLeaders *leaders, int64_t back_ms)
{
	return outbox_leader_is_watched(hold) && leaders->partition < 0 && leaders->for_ms >= back_ms &&
		strcmp(hold->topic, leaders->topic) == 0;
}
