/* SPDX-License-Identifier: PostgreSQL
 *
 * backlog.c
 *	  Bytes of committed events that are not delivered yet, and outbox.max_backlog.
 *
 * Runs in application backends; the relay calls what is marked so.  A transaction's
 * bytes are kept by savepoint, so that one rolled back does not count.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "backlog.h"
#include "guc.h"

#define FIRST_LEVELS 8

/* Emitted at a nesting level of the current transaction; ascending levels. */
typedef struct LevelBytes
{
	int	  level;
	int64 bytes;
} LevelBytes;

static LevelBytes *levels = NULL; /* TopMemoryContext */
static int		   levels_room = 0;
static int		   levels_used = 0;
static int64	   emitted = 0;	   /* sum of levels */
static bool		   warned = false; /* in this transaction */

/* A savepoint's bytes become its parent's, or are forgotten. */
static void
end_savepoint(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	LevelBytes *top;

	if (levels_used == 0 || levels[levels_used - 1].level < level)
		return;
	top = &levels[levels_used - 1];
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		emitted -= top->bytes;
		levels_used--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		top->level = level - 1;
		if (levels_used > 1 && top[-1].level == top->level)
		{
			top[-1].bytes += top->bytes;
			levels_used--;
		}
	}
}

static void
count_bytes(int64 bytes)
{
	int level = GetCurrentTransactionNestLevel();

	if (levels_used == 0 || levels[levels_used - 1].level < level)
	{
		if (levels == NULL)
		{
			levels = MemoryContextAlloc(TopMemoryContext, FIRST_LEVELS * sizeof(LevelBytes));
			levels_room = FIRST_LEVELS;
			RegisterSubXactCallback(end_savepoint, NULL);
		}
		else if (levels_used == levels_room)
		{
			levels = repalloc(levels, 2 * levels_room * sizeof(LevelBytes));
			levels_room *= 2;
		}
		levels[levels_used].level = level;
		levels[levels_used++].bytes = 0;
	}
	levels[levels_used - 1].bytes += bytes;
	emitted += bytes;
}

/* What is to be raised; 0: nothing, this transaction has been warned. */
static int
choose_level(void)
{
	bool told = warned;

	warned = true;
	if (outbox_guc_max_backlog_action == OUTBOX_BACKLOG_ERROR)
		return ERROR;
	return told ? 0 : WARNING;
}

static void
refuse_or_warn(int64 unsent, int64 bytes)
{
	int level = choose_level();

	if (level == 0)
		return;
	ereport(level,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the backlog of outbox is too large"),
			 errdetail("%lld bytes are not delivered yet, this transaction brings %lld; "
					   "outbox.max_backlog is %d kB.",
					   (long long) unsent, (long long) (emitted + bytes), outbox_guc_max_backlog),
			 errhint("See outbox.relay_status: does the relay run, does Kafka answer?  Or raise "
					 "outbox.max_backlog.")));
}

static void
refuse_held_or_warn(const text *topic, int64 held, int64 bytes)
{
	int level = choose_level();

	if (level == 0)
		return;
	ereport(level,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the backlog of topic \"%s\", which is held, is too large",
					text_to_cstring(topic)),
			 errdetail("%lld bytes of it are held, this transaction brings %lld; "
					   "outbox.max_backlog is %d kB.",
					   (long long) held, (long long) (emitted + bytes), outbox_guc_max_backlog),
			 errhint("outbox.topic_holds says why it is held.  Mend that, or call "
					 "outbox.topic_release() when it is mended; or raise outbox.max_backlog.")));
}

void
outbox_backlog_admit(const text *topic, int64 bytes)
{
	OutboxSlot *slot = outbox_guc_max_backlog > 0 ? outbox_shmem_slot() : NULL;

	if (slot != NULL)
	{
		int64 most = (int64) outbox_guc_max_backlog * 1024;
		int64 unsent = outbox_backlog_bytes(slot);
		int64 held = outbox_backlog_held(slot, VARDATA_ANY(topic), VARSIZE_ANY_EXHDR(topic));

		if (unsent + emitted + bytes > most)
			refuse_or_warn(unsent, bytes);
		else if (held > 0 && held + emitted + bytes > most)
			refuse_held_or_warn(topic, held, bytes);
	}
	count_bytes(bytes);
}

void
outbox_backlog_end(OutboxSlot *slot, bool committed)
{
	if (committed && slot != NULL)
		pg_atomic_fetch_add_u64(&slot->backlog, emitted);
	emitted = 0;
	levels_used = 0;
	warned = false;
}

void
outbox_backlog_take(OutboxSlot *slot, int64 bytes)
{
	pg_atomic_fetch_sub_u64(&slot->backlog, bytes);
}

int64
outbox_backlog_bytes(OutboxSlot *slot)
{
	int64 bytes = (int64) pg_atomic_read_u64(&slot->backlog);

	return Max(bytes, 0);
}

/* ----------------------------------------------------------- held topics */

static uint64
hash_topic(const char *topic, size_t len)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) topic, (int) len, 0);

	return hash == 0 ? 1 : hash;
}

/* The topic's entry, or a free one where it would be; NULL: there is neither. */
static OutboxHeldTopic *
find_entry(OutboxSlot *slot, uint64 hash)
{
	for (uint64 i = 0; i < OUTBOX_HELD_TOPICS; i++)
	{
		OutboxHeldTopic *entry = &slot->held[(hash + i) % OUTBOX_HELD_TOPICS];
		uint64			 topic = pg_atomic_read_u64(&entry->topic);

		if (topic == hash || topic == 0)
			return entry;
	}
	return NULL;
}

void
outbox_backlog_hold(OutboxSlot *slot, const char *topic, size_t len, int64 bytes)
{
	uint64			 hash = hash_topic(topic, len);
	OutboxHeldTopic *entry = find_entry(slot, hash);

	if (entry == NULL)
	{
		pg_atomic_fetch_add_u64(&slot->held_others, bytes);
		return;
	}
	if (pg_atomic_read_u64(&entry->topic) == 0)
	{
		pg_atomic_write_u64(&entry->topic, hash);
		pg_atomic_fetch_add_u32(&slot->held_topics, 1);
	}
	pg_atomic_fetch_add_u64(&entry->bytes, bytes);
}

/* Entries stay until none has bytes: a reader may be on its way past them. */
void
outbox_backlog_unhold(OutboxSlot *slot, const char *topic, size_t len)
{
	OutboxHeldTopic *entry = find_entry(slot, hash_topic(topic, len));

	if (entry != NULL)
		pg_atomic_write_u64(&entry->bytes, 0);
	if (pg_atomic_read_u64(&slot->held_others) != 0)
		return;
	for (int i = 0; i < OUTBOX_HELD_TOPICS; i++)
	{
		if (pg_atomic_read_u64(&slot->held[i].bytes) != 0)
			return;
	}
	outbox_backlog_unhold_all(slot);
}

void
outbox_backlog_unhold_all(OutboxSlot *slot)
{
	pg_atomic_write_u32(&slot->held_topics, 0);
	pg_atomic_write_u64(&slot->held_others, 0);
	for (int i = 0; i < OUTBOX_HELD_TOPICS; i++)
	{
		pg_atomic_write_u64(&slot->held[i].topic, 0);
		pg_atomic_write_u64(&slot->held[i].bytes, 0);
	}
}

int64
outbox_backlog_held(OutboxSlot *slot, const char *topic, size_t len)
{
	OutboxHeldTopic *entry;
	int64			 bytes;

	if (pg_atomic_read_u32(&slot->held_topics) == 0)
		return 0;
	entry = find_entry(slot, hash_topic(topic, len));
	bytes = (int64) pg_atomic_read_u64(entry != NULL ? &entry->bytes : &slot->held_others);
	return Max(bytes, 0);
}

int64
outbox_backlog_held_bytes(OutboxSlot *slot)
{
	int64 bytes = (int64) pg_atomic_read_u64(&slot->held_others);

	for (int i = 0; i < OUTBOX_HELD_TOPICS; i++)
		bytes += (int64) pg_atomic_read_u64(&slot->held[i].bytes);
	return Max(bytes, 0);
}
