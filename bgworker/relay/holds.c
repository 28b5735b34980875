/* SPDX-License-Identifier: PostgreSQL
 *
 * holds.c
 *	  What the relay knows of topics held apart.
 *
 * Runs in the relay.  I7: everything here is read from the tables.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "holds.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/clock.h"

#define LOOK_MS 1000

#define HOLD_COLUMNS \
	"h.id, h.topic, h.cause, coalesce(h.partition, -1), h.state = 'releasing', h.state = 'ended'"

/* ------------------------------------------------------------- look-ups */

const OutboxHold *
outbox_holds_find(const OutboxHolds *holds, const char *topic, size_t len)
{
	uint64 hash = outbox_hold_topic_hash(topic, len);

	for (int i = 0; i < holds->count; i++)
	{
		if (!holds->holds[i].ended && outbox_hold_is_of(&holds->holds[i], hash, topic, len))
			return &holds->holds[i];
	}
	return NULL;
}

bool
outbox_holds_refused(const OutboxHolds *holds, uint64 txid)
{
	return holds->nrefused > 0 && outbox_txid_is_in(txid, holds->refused, holds->nrefused);
}

/* -------------------------------------------------------------- loading */

static void
empty(OutboxHolds *holds)
{
	MemoryContextReset(holds->context);
	holds->holds = NULL;
	holds->count = 0;
	holds->refused = NULL;
	holds->nrefused = 0;
}

static void
read_hold(OutboxHolds *holds, HeapTuple tuple, TupleDesc desc, OutboxHold *hold)
{
	bool isnull;

	memset(hold, 0, sizeof(*hold));
	hold->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	hold->topic = MemoryContextStrdup(holds->context, SPI_getvalue(tuple, desc, 2));
	hold->topic_hash = outbox_hold_topic_hash(hold->topic, strlen(hold->topic));
	if (!outbox_hold_cause_named(SPI_getvalue(tuple, desc, 3), &hold->cause))
		elog(ERROR, "hold of unknown cause \"%s\"", SPI_getvalue(tuple, desc, 3));
	hold->partition = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
	hold->releasing = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
	hold->ended = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
	hold->noted = DatumGetBool(SPI_getbinval(tuple, desc, 7, &isnull));
	hold->reason = MemoryContextStrdup(holds->context, SPI_getvalue(tuple, desc, 8));
}

/* The rows of HOLD_COLUMNS and noted that SPI has returned. */
static void
take_holds(OutboxHolds *holds)
{
	holds->count = (int) SPI_processed;
	holds->holds = MemoryContextAlloc(holds->context, sizeof(OutboxHold) * (holds->count + 1));
	for (int i = 0; i < holds->count; i++)
		read_hold(holds, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &holds->holds[i]);
	SPI_freetuptable(SPI_tuptable);
}

static OutboxHold *
hold_of_id(OutboxHolds *holds, int64 id)
{
	for (int i = 0; i < holds->count; i++)
	{
		if (holds->holds[i].id == id)
			return &holds->holds[i];
	}
	return NULL;
}

/*
 * A row of outbox.topic_hold_copy; rows come by hold and txid.  Copies of a hold that is not among
 * these are ordinary events, unless they are refused.
 */
static void
take_copy(OutboxHolds *holds, HeapTuple tuple, TupleDesc desc, uint64 most)
{
	bool		isnull;
	uint64		txid = outbox_session_txid(tuple, desc, 2);
	OutboxHold *hold = hold_of_id(holds, DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)));

	if (DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull)))
	{
		holds->refused[holds->nrefused++] = txid;
		return;
	}
	if (hold == NULL)
		return;
	if (hold->copies == NULL)
		hold->copies = MemoryContextAllocHuge(holds->context, sizeof(uint64) * most);
	hold->copies[hold->ncopies++] = txid;
}

/* The copies that events beyond lower may be. */
static void
load_copies(OutboxHolds *holds, const OutboxSnapshot *lower)
{
	uint64 count =
		outbox_snapshot_select_beyond("SELECT hold, txid, refused_batch IS NOT NULL FROM "
									  "outbox.topic_hold_copy "
									  "WHERE txid >= $1 OR txid = ANY ($2) ORDER BY hold, txid",
									  lower);

	holds->refused = MemoryContextAllocHuge(holds->context, sizeof(uint64) * (count + 1));
	for (uint64 i = 0; i < count; i++)
		take_copy(holds, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, count);
	SPI_freetuptable(SPI_tuptable);
	qsort(holds->refused, holds->nrefused, sizeof(uint64), outbox_txid_compare);
}

static bool
look_is_due(const OutboxHolds *holds, OutboxSlot *slot)
{
	return holds->seen != pg_atomic_read_u32(&slot->replays) ||
		outbox_clock_now() >= holds->next_look;
}

/* Before the tables are read: what is asked meanwhile is seen with the next look. */
static void
note_look(OutboxHolds *holds, OutboxSlot *slot)
{
	holds->seen = pg_atomic_read_u32(&slot->replays);
	holds->next_look = TimestampTzPlusMilliseconds(outbox_clock_now(), LOOK_MS);
}

/* last_error names the newest hold as long as there is one. */
static void
tell_holds(OutboxHolds *holds, OutboxSlot *slot)
{
	char			 *text = "";
	const OutboxHold *newest;

	if (holds->count > 0)
	{
		newest = &holds->holds[holds->count - 1];
		text = psprintf("topic \"%s\" is held%s: %s", newest->topic,
						newest->releasing ? " until what it has left out is sent" : "",
						newest->reason);
		if (newest->partition >= 0)
			text = psprintf("%s (partition %d)", text, newest->partition);
		if (holds->count > 1)
			text = psprintf("%s; %d topics are held", text, holds->count);
	}
	if (holds->count == 0)
		outbox_shmem_recovered(slot, OUTBOX_ERROR_OF_HOLDS);
	else if (strncmp(text, holds->told, sizeof(holds->told) - 1) != 0)
		outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_HOLDS, text);
	strlcpy(holds->told, text, sizeof(holds->told));
}

void
outbox_holds_refresh(OutboxHolds *holds, OutboxSlot *slot, const OutboxSnapshot *lower)
{
	if (holds->loaded && !look_is_due(holds, slot))
		return;
	note_look(holds, slot);
	empty(holds);
	/* by a snapshot of its own: the transaction's may be older than the look that was noted */
	if (SPI_execute("SELECT " HOLD_COLUMNS ", false, h.reason FROM outbox.topic_hold h "
					"WHERE h.state <> 'ended' ORDER BY h.id",
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic_hold");
	take_holds(holds);
	load_copies(holds, lower);
	tell_holds(holds, slot);
	holds->loaded = true;
}

void
outbox_holds_load_batch(OutboxHolds *holds, int64 batch_no, const OutboxSnapshot *lower)
{
	Oid	  types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(batch_no)};

	holds->loaded = false;
	empty(holds);
	if (SPI_execute_with_args("SELECT " HOLD_COLUMNS ", n.noted, h.reason FROM outbox.topic_hold h "
							  "CROSS JOIN LATERAL (SELECT EXISTS (SELECT "
							  "FROM outbox.topic_hold_batch b "
							  "WHERE b.hold = h.id AND b.batch_no = $1) AS noted) n "
							  "WHERE n.noted OR (h.state <> 'ended' AND EXISTS (SELECT "
							  "FROM outbox.topic_hold_batch b "
							  "WHERE b.hold = h.id AND b.batch_no < $1)) "
							  "ORDER BY n.noted DESC, h.id",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic_hold");
	take_holds(holds);
	load_copies(holds, lower);
}

/* A hold that is not ended, as the tables have it; true: it is not known. */
static bool
heed_hold(OutboxHolds *holds, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	OutboxHold *hold = hold_of_id(holds, DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)));

	if (hold != NULL)
		hold->releasing = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
	else
		holds->loaded = false;
	return hold == NULL;
}

bool
outbox_holds_outdated(OutboxHolds *holds, OutboxSlot *slot)
{
	bool found = false;

	if (!look_is_due(holds, slot))
		return false;
	note_look(holds, slot);
	outbox_session_begin();
	if (SPI_execute("SELECT h.id, h.state = 'releasing' FROM outbox.topic_hold h "
					"WHERE h.state <> 'ended'",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic_hold");
	for (uint64 i = 0; i < SPI_processed; i++)
		found |= heed_hold(holds, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	outbox_session_end();
	return found;
}
