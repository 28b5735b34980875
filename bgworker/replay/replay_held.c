/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_held.c
 *	  Events that a replay leaves out: their topic is held apart, and they were not sent.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"

#include "replay_held.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"

/* The oldest batch whose events are not all copied; of the one that was copied last, all wait. */
#define HOLDS_QUERY \
	"SELECT h.topic, b.lower::text, b.lower_txid, b.lower_seq FROM outbox.topic_hold h " \
	"LEFT JOIN LATERAL (SELECT * FROM outbox.topic_hold_batch n WHERE n.hold = h.id " \
	"AND n.batch_no >= coalesce((SELECT c.last_batch FROM outbox.topic_hold_copy c " \
	"WHERE c.hold = h.id AND c.refused_batch IS NULL ORDER BY c.txid DESC LIMIT 1), 0) " \
	"ORDER BY n.batch_no LIMIT 1) b ON true WHERE h.state <> 'ended'"

static void
read_held(OutboxReplayHeld *held, HeapTuple tuple, TupleDesc desc, const OutboxRange *last)
{
	char *sent = SPI_getvalue(tuple, desc, 2);
	bool  isnull;
	Datum seq;

	held->topic = DatumGetTextPP(SPI_getbinval(tuple, desc, 1, &isnull));
	if (sent == NULL)
	{
		held->sent = last->upper;
		held->sent_at = last->upper_at;
		return;
	}
	outbox_snapshot_parse(sent, CurrentMemoryContext, &held->sent);
	held->sent_at.txid = outbox_session_txid(tuple, desc, 3);
	seq = SPI_getbinval(tuple, desc, 4, &isnull);
	held->sent_at.seq = isnull ? 0 : DatumGetInt64(seq);
}

void
outbox_replay_holds_load(OutboxReplayHolds *holds, const OutboxRange *last)
{
	if (SPI_execute(HOLDS_QUERY, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic_hold");
	holds->count = (int) SPI_processed;
	holds->topics = palloc(sizeof(OutboxReplayHeld) * (holds->count + 1));
	for (int i = 0; i < holds->count; i++)
		read_held(&holds->topics[i], SPI_tuptable->vals[i], SPI_tuptable->tupdesc, last);
}

static bool
is_sent(const OutboxReplayHeld *held, uint64 txid, int64 seq)
{
	return outbox_snapshot_sees(&held->sent, txid) ||
		(txid == held->sent_at.txid && seq <= held->sent_at.seq);
}

text *
outbox_replay_holds_find(const OutboxReplayHolds *holds, TupleTableSlot *slot, uint64 txid,
						 int64 seq)
{
	const text *topic = DatumGetTextPP(slot->tts_values[OUTBOX_EVENT_TOPIC - 1]);
	size_t		len = VARSIZE_ANY_EXHDR(topic);

	for (int i = 0; i < holds->count; i++)
	{
		const OutboxReplayHeld *held = &holds->topics[i];

		if (VARSIZE_ANY_EXHDR(held->topic) == len &&
			memcmp(VARDATA_ANY(held->topic), VARDATA_ANY(topic), len) == 0)
			return is_sent(held, txid, seq) ? NULL : held->topic;
	}
	return NULL;
}
