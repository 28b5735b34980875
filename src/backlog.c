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

static void
refuse_or_warn(int64 unsent, int64 bytes)
{
	bool refuse = outbox_guc_max_backlog_action == OUTBOX_BACKLOG_ERROR;

	if (!refuse && warned)
		return;
	warned = true;
	ereport(refuse ? ERROR : WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the backlog of outbox is too large"),
			 errdetail("%lld bytes are not delivered yet, this transaction brings %lld; "
					   "outbox.max_backlog is %d kB.",
					   (long long) unsent, (long long) (emitted + bytes), outbox_guc_max_backlog),
			 errhint("See outbox.relay_status: does the relay run, does Kafka answer?  Or raise "
					 "outbox.max_backlog.")));
}

void
outbox_backlog_admit(int64 bytes)
{
	if (outbox_guc_max_backlog > 0)
	{
		OutboxSlot *slot = outbox_shmem_slot();
		int64		unsent = slot == NULL ? 0 : outbox_backlog_bytes(slot);

		if (slot != NULL && unsent + emitted + bytes > (int64) outbox_guc_max_backlog * 1024)
			refuse_or_warn(unsent, bytes);
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
