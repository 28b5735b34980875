/* SPDX-License-Identifier: PostgreSQL
 *
 * refusal.c
 *	  Writes what a batch leaves out to outbox.dead_letter.
 *
 * Runs in the relay.  I7: a row is committed before the batch is sent again, or with the batch row.
 * The ids of a key's letters tell their order: rows are written in the order of the window, and the
 * sender tells the refusals of a key in its order (await_reports of sender/batch_end.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "refusal.h"
#include "sent_walk.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/measure.h"
#include "bgworker/session.h"
#include "src/guc.h"
#include "src/leaf.h"
#include "src/shown.h"
#include "src/topic.h"

#define SHOWN_KEY_BYTES 64
#define LETTER_COLUMNS	15
#define LETTERS_MOST	500			  /* rows of a statement */
#define LETTERS_BYTES	(1024 * 1024) /* and keys, payloads and headers of their events, about */

/* Rows that become one statement, by column. */
typedef struct LetterRows
{
	OutboxLeafReader reader;
	MemoryContext	 context; /* of the arrays; NULL: not made yet */
	ArrayBuildState *columns[LETTER_COLUMNS];
	int				 count;
	int64			 bytes; /* of their events */
} LetterRows;

static const Oid letter_types[LETTER_COLUMNS] = {TEXTOID,  BYTEAOID,	   BYTEAOID, TEXTOID,
												 BYTEAOID, TIMESTAMPTZOID, UUIDOID,	 TEXTOID,
												 XID8OID,  INT8OID,		   INT8OID,	 TEXTOID,
												 TEXTOID,  INT8OID,		   INT8OID};

/* A topic of which an event is refused; hash table key is its name. */
typedef struct RefusedTopic
{
	char					  name[OUTBOX_TOPIC_NAME_MAX + 1]; /* of a longer one the beginning */
	const OutboxRefusedEvent *whole;						   /* NULL: single events */
} RefusedTopic;

/* A refusal while its rows are written. */
typedef struct Refusal
{
	OutboxChunk		   *chunk;
	const OutboxWindow *window;
	LetterRows			rows;
	/* RefusedTopic; NULL: none is refused as a whole, and no key holds */
	HTAB			   *topics;
	/* OutboxHeldKey: keys with a row of this refusal; NULL: policy dead_letter */
	HTAB			   *opened;
	int					open;
	const char		   *text; /* of the last event, and what was made of it */
	int32				kafka_error;
	const char		   *message;
} Refusal;

/* The event that was sent as `index`. */
static void
find_sent(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index,
		  OutboxWireEvent *event)
{
	OutboxSentWalk walk = outbox_sent_walk_begin(chunk, window);
	OutboxEntry	   entry;

	while (outbox_sent_walk_next(&walk, &entry, event))
	{
		if (walk.index == index + 1)
			return;
	}
	elog(ERROR, "the sender refused an event that is not in batch " INT64_FORMAT,
		 chunk->row.batch_no);
}

/* Writes the rows that were added, in their order. */
static void
flush_letters(LetterRows *rows)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[LETTER_COLUMNS];
	Datum			  values[LETTER_COLUMNS];

	if (rows->count == 0)
		return;
	for (int i = 0; i < LETTER_COLUMNS; i++)
	{
		types[i] = get_array_type(letter_types[i]);
		values[i] = makeArrayResult(rows->columns[i], rows->context);
	}
	if (plan == NULL)
	{
		plan = SPI_prepare(
			"INSERT INTO outbox.dead_letter (id, origin, topic, key, value, content_type, headers, "
			"record_time, event_id, event_type, txid, seq, batch_no, state, error_class, "
			"error_message, attempts, blocked_by) OVERRIDING SYSTEM VALUE "
			"SELECT r.id, 'relay', r.topic, r.key, r.value, r.content_type, r.headers, "
			"r.record_time, "
			"r.event_id, r.event_type, r.txid, r.seq, r.batch_no, r.state, "
			"CASE r.state WHEN 'held' THEN 'held' ELSE 'refused' END, r.error_message, "
			"CASE r.state WHEN 'held' THEN 0 ELSE 1 END, r.blocked_by "
			"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), "
			"pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), "
			"pg_catalog.unnest($7), "
			"pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10), "
			"pg_catalog.unnest($11), "
			"pg_catalog.unnest($12), pg_catalog.unnest($13), pg_catalog.unnest($14), "
			"pg_catalog.unnest($15)) "
			"r (topic, key, value, content_type, headers, record_time, event_id, event_type, txid, "
			"seq, "
			"batch_no, state, error_message, blocked_by, id)",
			LETTER_COLUMNS, types);
		if (plan == NULL)
			elog(ERROR, "could not prepare the dead letters: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
	}
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_INSERT ||
		SPI_processed != (uint64) rows->count)
		elog(ERROR, "could not write dead letters");
	MemoryContextReset(rows->context);
	memset(rows->columns, 0, sizeof(rows->columns));
	rows->count = 0;
	rows->bytes = 0;
}

/*
 * Inside a transaction.  Adds one row from the event's own; returns its id.  Many rows are one
 * statement, for each statement reads the table's checks and expressions anew.
 */
static int64
add_letter(LetterRows *rows, const OutboxChunk *chunk, const OutboxWindow *window,
		   const OutboxEntry *entry, const char *state, const char *message, int64 blocked_by)
{
	static const int columns[] = {OUTBOX_EVENT_TOPIC,	OUTBOX_EVENT_KEY,
								  OUTBOX_EVENT_PAYLOAD, OUTBOX_EVENT_CONTENT_TYPE,
								  OUTBOX_EVENT_HEADERS, OUTBOX_EVENT_CREATED_AT,
								  OUTBOX_EVENT_ID,		OUTBOX_EVENT_TYPE,
								  OUTBOX_EVENT_TXID,	OUTBOX_EVENT_SEQ};
	TupleTableSlot	*slot = outbox_leaf_reader_fetch(&rows->reader, window->filenodes, entry);
	int64			 id = nextval_internal(outbox_leaf_named_relation("dead_letter_id_seq"), false);
	Datum			 values[LETTER_COLUMNS];
	bool			 nulls[LETTER_COLUMNS] = {false};
	MemoryContext	 caller;

	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("an event table was rewritten while dead letters of batch " INT64_FORMAT
						" were written",
						chunk->row.batch_no)));
	if (rows->context == NULL)
		rows->context =
			AllocSetContextCreate(CurrentMemoryContext, "outbox letters", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(rows->context);
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		values[i] = slot->tts_values[columns[i] - 1];
		nulls[i] = slot->tts_isnull[columns[i] - 1];
	}
	values[10] = Int64GetDatum(chunk->row.batch_no);
	values[11] = CStringGetTextDatum(state);
	values[12] = CStringGetTextDatum(message);
	values[13] = Int64GetDatum(blocked_by);
	nulls[13] = blocked_by == 0;
	values[14] = Int64GetDatum(id);
	for (int i = 0; i < LETTER_COLUMNS; i++)
		rows->columns[i] =
			accumArrayResult(rows->columns[i], values[i], nulls[i], letter_types[i], rows->context);
	MemoryContextSwitchTo(caller);
	rows->bytes += outbox_measure_event(slot);
	if (++rows->count >= LETTERS_MOST || rows->bytes >= LETTERS_BYTES)
		flush_letters(rows);
	return id;
}

/* The last rows are written. */
static void
finish_letters(LetterRows *rows)
{
	flush_letters(rows);
	outbox_leaf_reader_close(&rows->reader);
}

/* The message of the letter; one of many is made once. */
static const char *
describe_refusal(Refusal *refusal, const OutboxRefusedEvent *refused)
{
	if (refusal->text != refused->text || refusal->kafka_error != refused->kafka_error)
		refusal->message = psprintf("%s (Kafka error %d)", refused->text, refused->kafka_error);
	refusal->text = refused->text;
	refusal->kafka_error = refused->kafka_error;
	return refusal->message;
}

/*
 * One event that is refused, or that waits behind one (refused NULL): a row, unless it may be sent.
 */
static void
refuse_event(Refusal *refusal, const OutboxEntry *entry, const OutboxWireEvent *event,
			 const OutboxRefusedEvent *refused)
{
	OutboxHeldKey *key = NULL;
	OutboxKeyId	   id;
	bool		   found = false;
	const char	  *message = "an earlier event of its key was refused";
	int64		   letter;

	if (refusal->opened != NULL && event->key != NULL)
	{
		outbox_letters_identify(&id, event->topic, event->topic_len, event->key, event->key_len);
		key = hash_search(refusal->opened, &id, refused != NULL ? HASH_ENTER : HASH_FIND, &found);
	}
	if (refused == NULL && !found)
		return;
	if (!found)
		message = describe_refusal(refusal, refused);
	letter = add_letter(&refusal->rows, refusal->chunk, refusal->window, entry,
						found ? "held" : "open", message, found ? key->blocked_by : 0);
	refusal->open += !found;
	if (key != NULL && !found)
		key->blocked_by = letter;
}

static RefusedTopic *
find_refused_topic(const Refusal *refusal, const OutboxWireEvent *event, HASHACTION action)
{
	char		  name[OUTBOX_TOPIC_NAME_MAX + 1] = {0};
	bool		  found;
	RefusedTopic *topic;

	memcpy(name, event->topic, Min(event->topic_len, OUTBOX_TOPIC_NAME_MAX));
	topic = hash_search(refusal->topics, name, action, &found);
	if (action == HASH_ENTER && !found)
		topic->whole = NULL;
	return topic;
}

static HTAB *
make_table(const char *name, Size key, Size entry)
{
	HASHCTL control = {.keysize = key, .entrysize = entry, .hcxt = CurrentMemoryContext};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Which topics events are refused of; a walk of its own, for a key's events may come before the
 * refused one.
 */
static void
note_topics(Refusal *refusal, const OutboxRefusedEvent *refused, uint32 count)
{
	OutboxSentWalk	walk = outbox_sent_walk_begin(refusal->chunk, refusal->window);
	OutboxWireEvent event;
	OutboxEntry		entry;
	uint32			next = 0;

	refusal->topics =
		make_table("outbox refused topics", OUTBOX_TOPIC_NAME_MAX + 1, sizeof(RefusedTopic));
	while (next < count && outbox_sent_walk_next(&walk, &entry, &event))
	{
		if (walk.index != refused[next].index + 1)
			continue;
		if (refused[next].whole_topic)
			find_refused_topic(refusal, &event, HASH_ENTER)->whole = &refused[next];
		else
			(void) find_refused_topic(refusal, &event, HASH_ENTER);
		next++;
	}
	if (next < count)
		elog(ERROR, "the sender refused an event that is not in batch " INT64_FORMAT,
			 refusal->chunk->row.batch_no);
}

/* Is the event of a topic that waits as a whole (refused.c)? */
static bool
is_held(const RefusedTopic *topic, const OutboxWireEvent *event)
{
	return outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_TOPIC && topic->whole != NULL &&
		event->topic_len <= OUTBOX_TOPIC_NAME_MAX;
}

int
outbox_refusal_store(OutboxChunk *chunk, const OutboxWindow *window,
					 const OutboxRefusedEvent *refused, uint32 count)
{
	Refusal			refusal = {.chunk = chunk, .window = window};
	OutboxSentWalk	walk = outbox_sent_walk_begin(chunk, window);
	OutboxWireEvent event;
	OutboxEntry		entry;
	uint32			next = 0;

	outbox_session_begin();
	if (outbox_guc_keys_wait())
		refusal.opened =
			make_table("outbox refused keys", sizeof(OutboxKeyId), sizeof(OutboxHeldKey));
	note_topics(&refusal, refused, count);
	while (outbox_sent_walk_next(&walk, &entry, &event))
	{
		RefusedTopic			 *topic = find_refused_topic(&refusal, &event, HASH_FIND);
		const OutboxRefusedEvent *own = NULL;

		CHECK_FOR_INTERRUPTS();
		if (next < count && walk.index == refused[next].index + 1)
			own = &refused[next++];
		if (topic != NULL && !is_held(topic, &event))
			refuse_event(&refusal, &entry, &event, topic->whole != NULL ? topic->whole : own);
	}
	finish_letters(&refusal.rows);
	outbox_session_end();
	return refusal.open;
}

void
outbox_refusal_store_held(const OutboxChunk *chunk, const OutboxWindow *window)
{
	LetterRows rows = {0};

	for (int i = 0; i < chunk->nheld; i++)
	{
		OutboxEntry entry = outbox_entry_at(window->entries, chunk->held[i].entry);

		CHECK_FOR_INTERRUPTS();
		(void) add_letter(&rows, chunk, window, &entry, "held", "an earlier event of its key waits",
						  chunk->held[i].blocked_by);
	}
	finish_letters(&rows);
}

char *
outbox_refusal_topic(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index)
{
	OutboxWireEvent event;

	find_sent(chunk, window, index, &event);
	return pnstrdup(event.topic, event.topic_len);
}

char *
outbox_refusal_describe(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index)
{
	OutboxWireEvent event;
	StringInfoData	message;
	pg_uuid_t		id;

	find_sent(chunk, window, index, &event);
	memcpy(id.data, event.id, UUID_LEN);
	initStringInfo(&message);
	appendStringInfo(&message, "event %s (topic \"%.*s\", ",
					 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id))),
					 (int) event.topic_len, event.topic);
	if (event.key == NULL)
		appendStringInfoString(&message, "no key)");
	else
		appendStringInfo(&message, "key \"%s\")",
						 text_to_cstring(outbox_shown_bytes((const char *) event.key,
															Min(event.key_len, SHOWN_KEY_BYTES))));
	return message.data;
}
