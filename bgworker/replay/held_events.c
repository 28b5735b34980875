/* SPDX-License-Identifier: PostgreSQL
 *
 * held_events.c
 *	  What a topic hold left out of the batches and has not copied yet, in order.
 *
 * Runs in the relay.  What was copied of a range is told by the ids of the copies, not by a place
 * in its order: the order is another one when commit times are no longer kept, or the clock was set
 * back.  The copies are retained as long as the range is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "held_events.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/event_scan.h"
#include "bgworker/events/reissues.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/guc.h"

/* Ranges that are counted to know how many events are left; with more it is many. */
#define MOST_COUNTED	200
#define LEAST_COUNTED	16
#define COUNTED_ENTRIES 200000 /* that they have, of all topics, with full batches */

/* An id, and how many events with it are to be passed over. */
typedef struct PassedId
{
	pg_uuid_t id; /* hash table key */
	int		  events;
} PassedId;

static int64
get_int64(uint64 row, int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static uint64
get_txid(uint64 row, int column)
{
	return outbox_session_txid(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static Datum
txid_datum(uint64 txid)
{
	return FullTransactionIdGetDatum(FullTransactionIdFromU64(txid));
}

/* Runs a query whose plan is kept. */
static void
ask(SPIPlanPtr *plan, const char *query, int count, Oid *types, Datum *values)
{
	if (*plan == NULL)
	{
		*plan = SPI_prepare(query, count, types);
		if (*plan == NULL)
			elog(ERROR, "could not prepare \"%s\"", query);
		SPI_keepplan(*plan);
	}
	if (SPI_execute_plan(*plan, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", query);
}

/* One of two arguments, the first the hold. */
static void
ask_of_hold(SPIPlanPtr *plan, const char *query, Oid type, int64 hold, Datum second)
{
	Oid	  types[] = {INT8OID, type};
	Datum values[] = {Int64GetDatum(hold), second};

	ask(plan, query, 2, types, values);
}

/* -------------------------------------------------------------- position */

static void
pass_id(OutboxHeldEvents *held, HTAB **ids, const pg_uuid_t *id)
{
	HASHCTL	  control = {.keysize = sizeof(pg_uuid_t),
						 .entrysize = sizeof(PassedId),
						 .hcxt = held->context};
	PassedId *passed;
	bool	  found;

	if (*ids == NULL)
		*ids = hash_create("outbox passed events", 1024, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	passed = hash_search(*ids, id, HASH_ENTER, &found);
	passed->events = found ? passed->events + 1 : 1;
}

/* Is one event with this id to be passed over?  It no longer is. */
static bool
takes_id(HTAB *ids, const pg_uuid_t *id)
{
	PassedId *passed = ids == NULL ? NULL : hash_search(ids, id, HASH_FIND, NULL);

	if (passed == NULL || passed->events == 0)
		return false;
	passed->events--;
	return true;
}

/* An OutboxEventVisitor. */
static void
note_copied(void *arg, int leaf, uint64 txid, int64 seq, TupleTableSlot *slot)
{
	OutboxHeldEvents *held = arg;

	slot_getallattrs(slot);
	pass_id(held, &held->copied, DatumGetUUIDP(slot->tts_values[OUTBOX_EVENT_ID - 1]));
	held->ncopied++;
}

/* The copies of the transactions that SPI has returned. */
static void
load_copied(OutboxHeldEvents *held)
{
	uint64	count = SPI_processed;
	uint64 *txids = palloc(sizeof(uint64) * (count + 1));

	for (uint64 i = 0; i < count; i++)
		txids[i] = get_txid(i, 1);
	for (uint64 i = 0; i < count; i++)
	{
		OutboxRange range = {.lower = {.xmax = txids[i]}, .upper = {.xmax = txids[i] + 1}};

		outbox_event_scan(&range, NULL, note_copied, held);
	}
}

/*
 * Of the copies that Kafka refused with the whole topic some had become dead letters before: those
 * are not copied again, the letter is the event now.
 */
static void
load_letters_of_copies(OutboxHeldEvents *held)
{
	static SPIPlanPtr plan = NULL;
	bool			  isnull;

	ask_of_hold(&plan,
				"SELECT d.event_id FROM outbox.topic_hold_copy c JOIN outbox.dead_letter d "
				"ON d.txid = c.txid WHERE d.origin = 'relay' AND c.hold = $1 "
				"AND c.refused_batch IS NOT NULL AND c.txid > $2",
				XID8OID, held->hold, txid_datum(0));
	for (uint64 i = 0; i < SPI_processed; i++)
		pass_id(held, &held->letters_of_copies,
				DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
											&isnull)));
}

void
outbox_held_events_make(OutboxHeldEvents *held)
{
	held->context = AllocSetContextCreate(TopMemoryContext, "outbox release", ALLOCSET_SMALL_SIZES);
	held->scratch =
		AllocSetContextCreate(TopMemoryContext, "outbox held range", ALLOCSET_SMALL_SIZES);
	held->window.context =
		AllocSetContextCreate(TopMemoryContext, "outbox held window", ALLOCSET_DEFAULT_SIZES);
}

void
outbox_held_events_stop(OutboxHeldEvents *held)
{
	outbox_window_close(&held->window);
	MemoryContextReset(held->scratch);
	MemoryContextReset(held->context);
	held->hold = held->batch_no = held->events = held->bytes = held->found = held->ncopied = 0;
	held->topic = NULL;
	held->copied = held->letters_of_copies = NULL;
	held->letters = NULL;
	held->nletters = 0;
	held->own_txid = 0;
	held->open = false;
}

void
outbox_held_events_start(OutboxHeldEvents *held, int64 hold, const char *topic)
{
	static SPIPlanPtr newest = NULL;
	static SPIPlanPtr transactions = NULL;

	topic = pstrdup(topic); /* it may be the hold's own */
	outbox_held_events_stop(held);
	held->hold = hold;
	held->topic = MemoryContextStrdup(held->context, topic);
	load_letters_of_copies(held);
	ask_of_hold(&newest,
				"SELECT last_batch FROM outbox.topic_hold_copy WHERE hold = $1 AND refused_batch "
				"IS NULL "
				"AND txid > $2 ORDER BY txid DESC LIMIT 1",
				XID8OID, hold, txid_datum(0));
	if (SPI_processed == 0)
		return;
	held->batch_no = get_int64(0, 1) - 1;
	ask_of_hold(&transactions,
				"SELECT txid FROM outbox.topic_hold_copy WHERE hold = $1 AND refused_batch IS NULL "
				"AND last_batch = $2",
				INT8OID, hold, Int64GetDatum(held->batch_no + 1));
	load_copied(held);
}

/* All of these are looked at in one transaction when the hold ends. */
static int32
most_counted(void)
{
	return Max(LEAST_COUNTED, Min(MOST_COUNTED, COUNTED_ENTRIES / outbox_guc_batch_max_events));
}

void
outbox_held_events_left(const OutboxHeldEvents *held, int64 *events, int64 *bytes)
{
	static SPIPlanPtr plan = NULL;
	int32			  most = most_counted();
	Oid				  types[] = {INT8OID, INT8OID, INT4OID};
	Datum			  values[] = {Int64GetDatum(held->hold), Int64GetDatum(held->batch_no),
								  Int32GetDatum(most)};

	ask(&plan,
		"SELECT coalesce(sum(b.events), 0)::bigint, coalesce(sum(b.bytes), 0)::bigint, "
		"count(*) FROM "
		"(SELECT c.events, c.bytes FROM outbox.topic_hold_batch c WHERE c.hold = $1 "
		"AND c.batch_no > $2 ORDER BY c.batch_no LIMIT $3) b",
		3, types, values);
	*events = get_int64(0, 1);
	*bytes = get_int64(0, 2);
	if (get_int64(0, 3) >= most)
		*events = PG_INT64_MAX;
	else if (held->open)
	{
		*events += Max(held->events - held->found, 0);
		*bytes += held->bytes;
	}
	else
		*events = Max(*events - held->ncopied, 0);
}

/* --------------------------------------------------------------- a range */

bool
outbox_held_events_peek(OutboxHeldEvents *held, int64 *events, int64 *bytes)
{
	static SPIPlanPtr plan = NULL;

	Assert(!held->open);
	ask_of_hold(
		&plan,
		"SELECT batch_no, events::bigint, bytes, lower::text, upper::text, lower_txid, lower_seq, "
		"upper_txid, upper_seq FROM outbox.topic_hold_batch WHERE hold = $1 AND batch_no > $2 "
		"ORDER BY batch_no LIMIT 1",
		INT8OID, held->hold, Int64GetDatum(held->batch_no));
	if (SPI_processed == 0)
		return false;
	*events = get_int64(0, 2);
	*bytes = get_int64(0, 3);
	return true;
}

/* Of the row that peek has left. */
static void
read_range(OutboxRange *range)
{
	HeapTuple tuple = SPI_tuptable->vals[0];
	TupleDesc desc = SPI_tuptable->tupdesc;

	outbox_snapshot_parse(SPI_getvalue(tuple, desc, 4), CurrentMemoryContext, &range->lower);
	outbox_snapshot_parse(SPI_getvalue(tuple, desc, 5), CurrentMemoryContext, &range->upper);
	range->lower_at = (OutboxPosition) {get_txid(0, 6), get_int64(0, 7)};
	range->upper_at = (OutboxPosition) {get_txid(0, 8), get_int64(0, 9)};
}

static int
compare_letters(const void *a, const void *b)
{
	const OutboxHeldLetter *left = a;
	const OutboxHeldLetter *right = b;

	if (left->txid != right->txid)
		return left->txid < right->txid ? -1 : 1;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

/* Events of the topic that are left out as dead letters are not the hold's. */
static void
load_letters(OutboxHeldEvents *held, const OutboxRange *range)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {XID8OID, XID8OID, TEXTOID};
	Datum			  values[] = {txid_datum(outbox_snapshot_xmin(&range->lower)),
								  txid_datum(Max(range->upper.xmax, range->upper_at.txid)),
								  CStringGetTextDatum(held->topic)};

	ask(&plan,
		"SELECT txid, seq FROM outbox.dead_letter WHERE origin = 'relay' "
		"AND txid BETWEEN $1 AND $2 AND topic = $3",
		3, types, values);
	held->nletters = (int) SPI_processed;
	held->letters =
		MemoryContextAlloc(held->window.context, sizeof(OutboxHeldLetter) * (held->nletters + 1));
	for (int i = 0; i < held->nletters; i++)
		held->letters[i] = (OutboxHeldLetter) {get_txid(i, 1), get_int64(i, 2)};
	qsort(held->letters, held->nletters, sizeof(OutboxHeldLetter), compare_letters);
}

void
outbox_held_events_open(OutboxHeldEvents *held)
{
	MemoryContext outside = MemoryContextSwitchTo(held->scratch);
	OutboxRange	  range;

	held->batch_no = get_int64(0, 1);
	held->events = get_int64(0, 2);
	held->bytes = get_int64(0, 3);
	held->found = 0;
	held->own_txid = 0;
	held->open = true;
	read_range(&range);
	SPI_freetuptable(SPI_tuptable);
	outbox_window_reopen(&held->window, &range,
						 outbox_reissues_load(CurrentMemoryContext, &range.lower, &range.upper,
											  range.upper_at.txid));
	load_letters(held, &range);
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(outside);
	MemoryContextReset(held->scratch);
}

/* ---------------------------------------------------------------- events */

/* The hold's own copies went with the batch, and refused ones are of no hold. */
static bool
is_own_copy(OutboxHeldEvents *held, TupleTableSlot *slot, uint64 txid)
{
	static SPIPlanPtr plan = NULL;

	if (slot->tts_isnull[OUTBOX_EVENT_COPIED_AT - 1])
		return false;
	if (txid != held->own_txid)
	{
		ask_of_hold(&plan,
					"SELECT FROM outbox.topic_hold_copy WHERE (hold = $1 OR refused_batch IS NOT "
					"NULL) "
					"AND txid = $2",
					XID8OID, held->hold, txid_datum(txid));
		held->own_txid = txid;
		held->own = SPI_processed > 0;
		SPI_freetuptable(SPI_tuptable);
	}
	return held->own;
}

static bool
is_of_topic(const OutboxHeldEvents *held, TupleTableSlot *slot)
{
	const text *topic = DatumGetTextPP(slot->tts_values[OUTBOX_EVENT_TOPIC - 1]);
	size_t		len = strlen(held->topic);

	return VARSIZE_ANY_EXHDR(topic) == len && memcmp(VARDATA_ANY(topic), held->topic, len) == 0;
}

static bool
is_letter(const OutboxHeldEvents *held, uint64 txid, int64 seq)
{
	OutboxHeldLetter key = {txid, seq};

	return held->nletters > 0 &&
		bsearch(&key, held->letters, held->nletters, sizeof(key), compare_letters) != NULL;
}

/* Is it copied, or a dead letter since it was? */
static bool
is_passed(OutboxHeldEvents *held, TupleTableSlot *slot)
{
	const pg_uuid_t *id = DatumGetUUIDP(slot->tts_values[OUTBOX_EVENT_ID - 1]);

	if (takes_id(held->copied, id))
	{
		held->ncopied--;
		return true;
	}
	return takes_id(held->letters_of_copies, id);
}

/* The range is read; its row says how many events there should have been. */
static void
end_range(OutboxHeldEvents *held)
{
	if (held->found != held->events)
		ereport(LOG,
				(errmsg("outbox relay: of batch " INT64_FORMAT ", " INT64_FORMAT
						" events of topic \"%s\" were held, " INT64_FORMAT " are there",
						held->batch_no, held->events, held->topic, held->found)));
	held->open = false;
	if (held->copied != NULL)
		hash_destroy(held->copied);
	held->copied = NULL;
	held->ncopied = 0;
	outbox_window_close(&held->window);
}

TupleTableSlot *
outbox_held_events_next(OutboxHeldEvents *held, OutboxLeafReader *reader, OutboxPosition *at,
						int *most, bool *stale)
{
	OutboxWindow *window = &held->window;

	*stale = false;
	for (; window->next < window->count && *most > 0; --*most)
	{
		OutboxEntry		entry = outbox_entry_at(window->entries, window->next);
		TupleTableSlot *slot = outbox_leaf_reader_fetch(reader, window->filenodes, &entry);

		if (slot == NULL)
		{
			*stale = true;
			return NULL;
		}
		window->next++;
		if (!is_of_topic(held, slot) || is_letter(held, entry.txid, entry.seq) ||
			is_own_copy(held, slot, entry.txid))
			continue;
		held->found++;
		if (is_passed(held, slot))
			continue;
		*at = (OutboxPosition) {entry.txid, entry.seq};
		return slot;
	}
	if (window->next >= window->count)
		end_range(held);
	return NULL;
}
