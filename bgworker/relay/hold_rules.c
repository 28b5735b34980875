/* SPDX-License-Identifier: PostgreSQL
 *
 * hold_rules.c
 *	  Which events a topic hold leaves out of a batch.
 *
 * Runs in the relay and in test programs.
 */
#include "hold_rules.h"

#include <string.h>

#include "bgworker/events/snapshot.h"
#include "src/common/hash.h"

static const char *const causes[] = {
	[OUTBOX_HOLD_LEADER] = "leader",
	[OUTBOX_HOLD_OPERATOR] = "operator",
	[OUTBOX_HOLD_REFUSED] = "refused",
};

#define CAUSES ((int) (sizeof(causes) / sizeof(causes[0])))

const char *
outbox_hold_cause_name(OutboxHoldCause cause)
{
	return causes[cause];
}

bool
outbox_hold_cause_named(const char *name, OutboxHoldCause *cause)
{
	for (int i = 0; i < CAUSES; i++)
	{
		if (strcmp(causes[i], name) != 0)
			continue;
		*cause = (OutboxHoldCause) i;
		return true;
	}
	return false;
}

uint64_t
outbox_hold_topic_hash(const char *topic, size_t len)
{
	return outbox_hash_bytes(topic, len);
}

bool
outbox_hold_is_of(const OutboxHold *hold, uint64_t hash, const char *topic, size_t len)
{
	return hold->topic_hash == hash && strlen(hold->topic) == len &&
		memcmp(hold->topic, topic, len) == 0;
}

bool
outbox_hold_owns(const OutboxHold *hold, uint64_t txid)
{
	return outbox_txid_is_in(txid, hold->copies, hold->ncopies);
}

const OutboxHold *
outbox_hold_leaving_out(const OutboxHold *holds, size_t count, const char *topic, size_t len,
						uint64_t txid)
{
	uint64_t hash = count == 0 ? 0 : outbox_hold_topic_hash(topic, len);

	for (size_t i = 0; i < count; i++)
	{
		if (outbox_hold_is_of(&holds[i], hash, topic, len) && !outbox_hold_owns(&holds[i], txid))
			return &holds[i];
	}
	return NULL;
}
