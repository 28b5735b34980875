/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.c
 *	  Dead letters of the relay: which events they leave out or hold, and their return.
 *
 * Runs in the relay.  I7: everything here is read from outbox.dead_letter.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "letters.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/clock.h"
#include "src/event_shape.h"
#include "src/fault.h"
#include "src/guc.h"
#include "src/leaf.h"
#include "src/shmem.h"

#define LOOK_MS		   1000
#define ERROR_MS	   2000 /* until letters are tried again after an error */
#define RELOAD_MS	   5000
#define RELOAD_SHARE   20	 /* a reload may take one part in so many of the time ... */
#define RELOAD_MOST_MS 60000 /* ... but what is due waits no longer than this for the next */
#define REISSUE_PIECE  10000 /* letters of one transaction, more only of one key */
#define CAREFUL_PIECE  1000	 /* the same, and keys that fail, after an error */
#define NOT_SENT	   "dead letters are not sent again: "

/* ------------------------------------------------------------- look-ups */

static int
compare_exclusions(const void *a, const void *b)
{
	const OutboxExclusion *left = a;
	const OutboxExclusion *right = b;

	if (left->txid != right->txid)
		return left->txid < right->txid ? -1 : 1;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

bool
outbox_letters_leave_out(const OutboxLetters *letters, uint64 txid, int64 seq)
{
	OutboxExclusion key = {.txid = txid, .seq = seq};

	return letters->nleft_out > 0 &&
		bsearch(&key, letters->left_out, letters->nleft_out, sizeof(key), compare_exclusions) !=
		NULL;
}

static bool
is_reissue(const OutboxLetters *letters, uint64 txid)
{
	return outbox_txid_is_in(txid, letters->reissued, letters->nreissued);
}

void
outbox_letters_identify(OutboxKeyId *id, const char *topic, size_t topic_len, const uint8 *key,
						size_t key_len)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, key, key_len) < 0 ||
		pg_cryptohash_final(hash, id->key, sizeof(id->key)) < 0)
		elog(ERROR, "could not compute the digest of a key");
	pg_cryptohash_free(hash);
	id->topic = hash_bytes_extended((const unsigned char *) topic, (int) topic_len, 0);
}

static bool
waits_as_a_whole(const OutboxLetters *letters, uint64 topic)
{
	for (int i = 0; i < letters->ntopics; i++)
	{
		if (letters->topics[i] == topic)
			return true;
	}
	return false;
}

/*
 * What was emitted again passes the letters that are older than it: it left them behind when it
 * was due.  Once one of its own transaction waits, the rest does too.
 */
const OutboxHeldKey *
outbox_letters_find_held(const OutboxLetters *letters, const OutboxKeyId *id, uint64 txid)
{
	static const OutboxHeldKey by_topic = {.blocked_by = 0};
	const OutboxHeldKey		  *found = hash_search(letters->held, id, HASH_FIND, NULL);

	if (found == NULL)
		return waits_as_a_whole(letters, id->topic) && !is_reissue(letters, txid) ? &by_topic :
																					NULL;
	if (is_reissue(letters, txid) && found->newest_txid != txid)
		return NULL;
	return found;
}

/* -------------------------------------------------------------- loading */

static void
load_left_out(OutboxLetters *letters, const OutboxSnapshot *lower)
{
	uint64 count = outbox_snapshot_select_beyond("SELECT txid, seq FROM outbox.dead_letter WHERE "
												 "origin = 'relay' AND "
												 "(txid >= $1 OR txid = ANY ($2))",
												 lower);

	letters->left_out =
		MemoryContextAllocHuge(letters->context, sizeof(OutboxExclusion) * (count + 1));
	letters->nleft_out = (int) count;
	for (uint64 i = 0; i < count; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool	  isnull;

		letters->left_out[i].txid = outbox_session_txid(tuple, desc, 1);
		letters->left_out[i].seq = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(letters->left_out, count, sizeof(OutboxExclusion), compare_exclusions);
}

static void
load_reissued(OutboxLetters *letters, const OutboxSnapshot *lower)
{
	uint64 count =
		outbox_snapshot_select_beyond("SELECT DISTINCT reissue_txid FROM outbox.dead_letter "
									  "WHERE reissue_txid >= $1 OR reissue_txid = ANY ($2)",
									  lower);

	letters->reissued = MemoryContextAllocHuge(letters->context, sizeof(uint64) * (count + 1));
	letters->nreissued = (int) count;
	for (uint64 i = 0; i < count; i++)
		letters->reissued[i] = outbox_session_txid(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	qsort(letters->reissued, count, sizeof(uint64), outbox_txid_compare);
}

static uint64
hash_topic(const text *topic)
{
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(topic), VARSIZE_ANY_EXHDR(topic),
							   0);
}

/* A key that waits. */
static void
add_held_key(OutboxLetters *letters, HeapTuple tuple, TupleDesc desc)
{
	OutboxKeyId	   id;
	OutboxHeldKey *key;
	bool		   isnull;
	Datum		   blocked_by;
	bytea		  *hash = DatumGetByteaPP(SPI_getbinval(tuple, desc, 2, &isnull));

	memcpy(id.key, VARDATA_ANY(hash), sizeof(id.key));
	id.topic = hash_topic(DatumGetTextPP(SPI_getbinval(tuple, desc, 1, &isnull)));
	key = hash_search(letters->held, &id, HASH_ENTER, NULL);
	blocked_by = SPI_getbinval(tuple, desc, 3, &isnull);
	key->blocked_by = isnull ? 0 : DatumGetInt64(blocked_by);
	key->newest_txid = outbox_session_txid(tuple, desc, 4);
}

/*
 * Of the topics that wait as a whole only the copies of letters pass; of those, keys of which one
 * was refused again.
 */
static void
load_reissued_keys(OutboxLetters *letters, Datum topics)
{
	Oid	   types[] = {TEXTARRAYOID, XID8ARRAYOID};
	Datum  values[2] = {topics};
	Datum *txids = palloc(sizeof(Datum) * (letters->nreissued + 1));

	for (int i = 0; i < letters->nreissued; i++)
		txids[i] = FullTransactionIdGetDatum(FullTransactionIdFromU64(letters->reissued[i]));
	values[1] = PointerGetDatum(construct_array(txids, letters->nreissued, XID8OID, 8,
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("SELECT * FROM outbox.dead_letter_reissued_keys($1, $2)", 2, types,
							  values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.dead_letter");
	for (uint64 i = 0; i < SPI_processed; i++)
		add_held_key(letters, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	SPI_freetuptable(SPI_tuptable);
}

/* Takes the rows of dead_letter_held_keys; an array of the topics that wait as a whole. */
static Datum
take_held_rows(OutboxLetters *letters, SPITupleTable *table, uint64 count)
{
	HASHCTL control = {.keysize = sizeof(OutboxKeyId),
					   .entrysize = sizeof(OutboxHeldKey),
					   .hcxt = letters->context};
	Datum  *topics = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * count);
	bool	isnull;

	letters->held = hash_create("outbox held keys", (long) count, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	letters->topics = MemoryContextAllocHuge(letters->context, sizeof(uint64) * count);
	for (uint64 i = 0; i < count; i++)
	{
		(void) SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull);
		if (!isnull)
		{
			add_held_key(letters, table->vals[i], table->tupdesc);
			continue;
		}
		topics[letters->ntopics] = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
		letters->topics[letters->ntopics] = hash_topic(DatumGetTextPP(topics[letters->ntopics]));
		letters->ntopics++;
	}
	return PointerGetDatum(construct_array(topics, letters->ntopics, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

static void
tell_topics(OutboxLetters *letters, const SPITupleTable *table, uint64 count)
{
	bool isnull;

	for (uint64 i = 0; i < count; i++)
	{
		char *text;

		(void) SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull);
		if (!isnull)
			continue;
		text = psprintf("more than %d keys are held by dead letters: all events of topic \"%s\" "
						"that have a key are held, too, until some are replayed or discarded",
						OUTBOX_LETTERS_MOST_KEYS, SPI_getvalue(table->vals[i], table->tupdesc, 1));
		outbox_shmem_report_error(outbox_shmem_slot(), OUTBOX_ERROR_OF_LETTERS, text);
		if (letters->told_topics < letters->ntopics)
			ereport(LOG, (errmsg("outbox relay: %s", text)));
	}
	letters->told_topics = letters->ntopics;
}

static void
load_held_keys(OutboxLetters *letters)
{
	Oid			   types[] = {BOOLOID, INT4OID};
	Datum		   values[2];
	SPITupleTable *table;

	values[0] = BoolGetDatum(outbox_guc_keys_wait());
	values[1] = Int32GetDatum(OUTBOX_LETTERS_MOST_KEYS);
	if (SPI_execute_with_args("SELECT * FROM outbox.dead_letter_held_keys($1, $2)", 2, types,
							  values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.dead_letter");
	table = SPI_tuptable;
	if (SPI_processed > 0)
	{
		uint64 count = SPI_processed;
		Datum  topics = take_held_rows(letters, table, count);

		tell_topics(letters, table, count);
		if (letters->ntopics > 0 && letters->nreissued > 0)
			load_reissued_keys(letters, topics);
	}
	else
		letters->told_topics = 0;
	SPI_freetuptable(table);
}

void
outbox_letters_load(OutboxLetters *letters, const OutboxSnapshot *lower, bool with_keys)
{
	MemoryContextReset(letters->context);
	letters->held = NULL;
	letters->topics = NULL;
	letters->ntopics = 0;
	load_left_out(letters, lower);
	load_reissued(letters, lower);
	if (with_keys)
		load_held_keys(letters);
	letters->loaded = with_keys;
}

/* A person may restore a letter or discard one at any time. */
void
outbox_letters_refresh(OutboxLetters *letters, const OutboxSnapshot *lower)
{
	TimestampTz start = outbox_clock_now();
	bool		may_change = letters->held != NULL || outbox_guc_keys_wait();

	if (letters->loaded && (!may_change || start < letters->next_reload))
		return;
	outbox_letters_load(letters, lower, true);
	letters->next_reload = outbox_clock_now();
	letters->next_reload +=
		Min(RELOAD_MOST_MS * INT64CONST(1000),
			Max(RELOAD_MS * INT64CONST(1000), (letters->next_reload - start) * RELOAD_SHARE));
}

/* --------------------------------------------------------------- return */

/* The letters wait while emit() could not write where they would go; inside a transaction. */
static bool
may_reissue(int leaf)
{
	char *obstacle = outbox_event_obstacle(leaf);

	if (obstacle == NULL)
		return true;
	if (SPI_execute("SELECT FROM outbox.dead_letter WHERE origin = 'relay' AND state = 'releasing'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.dead_letter");
	if (SPI_processed > 0)
		outbox_shmem_report_error(outbox_shmem_slot(), OUTBOX_ERROR_OF_LETTERS,
								  psprintf(NOT_SENT "%s", obstacle));
	return false;
}

/* Something keeps letters from being emitted; the first time it is in the log, too. */
static void
tell_problem(OutboxLetters *letters, const char *problem)
{
	char *text = psprintf(NOT_SENT "%s", problem);

	if (!letters->failing)
		ereport(LOG, (errmsg("outbox relay: %s", text)));
	letters->failing = true;
	outbox_shmem_report_error(outbox_shmem_slot(), OUTBOX_ERROR_OF_LETTERS, text);
}

/* Returns the number of copies and adds to *bytes theirs. */
static int
reissue_piece(OutboxLetters *letters, bool sweep, int64 *bytes)
{
	Oid	  types[] = {INT2OID, INT4OID, BOOLOID};
	Datum values[3];
	char *problem;
	bool  isnull;
	int64 copied;
	int	  count;
	int	  leaf;

	outbox_session_begin();
	leaf = outbox_leaf_current();
	if (!may_reissue(leaf))
	{
		outbox_session_end();
		return 0;
	}
	values[0] = Int16GetDatum(leaf);
	values[1] = Int32GetDatum(OUTBOX_LETTERS_MOST_KEYS);
	values[2] = BoolGetDatum(letters->failing);
	if (sweep &&
		SPI_execute_with_args("SELECT outbox.dead_letter_sweep($2)", 3, types, values, NULL, false,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for held dead letters that are due");
	values[1] = Int32GetDatum(letters->failing ? CAREFUL_PIECE : REISSUE_PIECE);
	if (SPI_execute_with_args("SELECT copies, bytes, problem FROM outbox.dead_letter_reissue($1, "
							  "$2, $3)",
							  3, types, values, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not emit dead letters again");
	count = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	copied = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	problem = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
	if (problem == NULL)
	{
		letters->failing = false;
		if (letters->told_topics == 0)
			outbox_shmem_recovered(outbox_shmem_slot(), OUTBOX_ERROR_OF_LETTERS);
	}
	else
		tell_problem(letters, problem);
	OUTBOX_FAULT_WHEN(count > 0, "reissue-uncommitted");
	outbox_session_end();
	*bytes += copied;
	OUTBOX_FAULT_WHEN(count > 0, "reissue-committed");
	return count;
}

/* After an error of reissue_piece(): the letters stay as they are, and the transaction is over. */
static void
put_off(OutboxLetters *letters, MemoryContext caller)
{
	ErrorData *error = outbox_session_recover(caller);

	tell_problem(letters, error->message);
}

/* The same; -1: it failed, and the rest of the relay goes on. */
static int
try_piece(OutboxLetters *letters, bool sweep, int64 *bytes)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile int  count = -1;

	PG_TRY();
	{
		count = reissue_piece(letters, sweep, bytes);
	}
	PG_CATCH();
	{
		put_off(letters, caller);
	}
	PG_END_TRY();
	return count;
}

int
outbox_letters_reissue(OutboxLetters *letters, int64 *bytes)
{
	TimestampTz now = outbox_clock_now();
	int			count;

	if (now < letters->next_look)
		return 0;
	count = try_piece(letters, letters->held != NULL && now >= letters->next_reload, bytes);
	if (count > 0)
	{
		letters->loaded = false;
		ereport(LOG, (errmsg("outbox relay: %d dead letters are sent again", count)));
	}
	if (letters->failing)
		letters->next_look = TimestampTzPlusMilliseconds(now, ERROR_MS);
	else if (count < REISSUE_PIECE)
		letters->next_look = TimestampTzPlusMilliseconds(now, LOOK_MS);
	return Max(count, 0);
}
