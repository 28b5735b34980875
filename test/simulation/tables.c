/* SPDX-License-Identifier: PostgreSQL
 *
 * tables.c
 *	  The simulated database: its state is the replay of its log.
 */
#include "simulation.h"

typedef enum RecordKind
{
	RECORD_EVENT,
	RECORD_END,
	RECORD_BATCH,
	RECORD_EXCLUSION,
	RECORD_EMPTY,
	RECORD_COPIES,
	RECORD_HOLD,
	RECORD_NOTHING
} RecordKind;

typedef struct Record
{
	RecordKind	 kind;
	uint64		 txid;	/* EVENT, END, BATCH, COPIES: of the transaction */
	TxState		 state; /* END */
	int64		 time;	/* END, BATCH, COPIES */
	SimEvent	 event;
	SimExclusion exclusion;
	int			 number; /* BATCH: of batch_pool; EMPTY: leaf; COPIES: hold that ends, -1 = none */
	union
	{
		SimCopy		  copy;	  /* COPIES; copies 0 = none */
		SimHoldChange change; /* HOLD */
	};
} Record;

Tables	 tables;
SimBatch batch_pool[MOST_BATCHES * 2];
int		 records;
int		 flushed;
int		 standby;
int64	 clock_now;
bool	 timed;

static Record log_records[MOST_RECORDS];
static int	  npool;
static int	  next_id;

void
copy_snapshot(OutboxSnapshot *to, uint64 *xip, const OutboxSnapshot *from)
{
	to->xmax = from->xmax;
	to->nxip = from->nxip;
	memmove(xip, from->xip, sizeof(uint64) * from->nxip);
	to->xip = xip;
}

static void
reset_state(void)
{
	int timeline = tables.timeline;

	memset(&tables, 0, offsetof(Tables, events));
	tables.next_txid = FIRST_TXID;
	tables.completed = FIRST_TXID - 1;
	tables.next_seq = 1;
	tables.timeline = timeline;
}

static void
end_transaction(uint64 txid, TxState state, int64 time, int place)
{
	SimTransaction *transaction = &tables.transactions[txid];

	transaction->state = state;
	transaction->commit_time = time;
	transaction->commit_record = place;
	if (state == TX_PREPARED)
		return;
	tables.completed = Max(tables.completed, txid);
	for (int key = 0; key < KEYS; key++)
	{
		if (tables.key_holder[key] == txid)
			tables.key_holder[key] = 0;
	}
}

static void
empty_leaf(int leaf)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		if (tables.events[i].leaf == leaf)
			tables.events[i].emptied = true;
	}
}

/* ------------------------------------------------------------- topic holds */

static void
add_share(const SimShare *share)
{
	for (int i = 0; i < tables.nshares; i++)
	{
		SimShare *old = &tables.shares[i];

		if (old->hold == share->hold && old->batch_no == share->batch_no)
		{
			old->events += share->events;
			return;
		}
	}
	if (tables.nshares == MOST_SHARES)
		oracle_fail("the schedule is too long for what holds leave out");
	else
		tables.shares[tables.nshares++] = *share;
}

static bool
is_among(uint64 txid, const uint64 *txids, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (txids[i] == txid)
			return true;
	}
	return false;
}

/*
 * The batches from `oldest` on come again.  Copies of a hold that has ended stay: it copies nothing
 * again.
 */
static void
forget_batches(int64 oldest)
{
	int kept = 0;

	for (int i = 0; i < tables.nshares; i++)
	{
		if (tables.shares[i].batch_no < oldest)
			tables.shares[kept++] = tables.shares[i];
	}
	tables.nshares = kept;
	for (int i = 0; i < tables.ncopies; i++)
	{
		SimCopy *copy = &tables.copies[i];

		if (copy->last_batch >= oldest && copy->refused_batch == 0 &&
			tables.holds[copy->hold].state < HOLD_ENDED)
			copy->refused_batch = -1;
	}
}

static void
store_batch_holds(const SimBatch *batch)
{
	if (batch->forgets_from > 0)
		forget_batches(batch->forgets_from);
	for (int i = 0; i < batch->nshares; i++)
		add_share(&batch->shares[i]);
	for (int i = 0; i < tables.ncopies && batch->nrefused > 0; i++)
	{
		if (is_among(tables.copies[i].txid, batch->refused, batch->nrefused))
			tables.copies[i].refused_batch = batch->row.batch_no;
	}
}

static void
store_copies(const Record *record)
{
	if (record->copy.copies > 0 && tables.ncopies == MOST_COPIES)
		oracle_fail("the schedule is too long for copies");
	else if (record->copy.copies > 0)
		tables.copies[tables.ncopies++] = record->copy;
	if (record->number < 0)
		return;
	tables.holds[record->number].state = HOLD_ENDED;
	tables.holds[record->number].ended_txid = record->txid;
}

static void
drop_rows(int hold)
{
	int kept = 0;

	for (int i = 0; i < tables.nshares; i++)
	{
		if (tables.shares[i].hold != hold)
			tables.shares[kept++] = tables.shares[i];
	}
	tables.nshares = kept;
	kept = 0;
	for (int i = 0; i < tables.ncopies; i++)
	{
		if (tables.copies[i].hold != hold)
			tables.copies[kept++] = tables.copies[i];
	}
	tables.ncopies = kept;
}

static void
change_hold(const SimHoldChange *change)
{
	tables.nholds = Max(tables.nholds, change->hold + 1);
	tables.holds[change->hold] = change->now;
	if (change->share.events > 0)
		add_share(&change->share);
	for (int i = 0; i < tables.ncopies && change->nrefused > 0; i++)
	{
		SimCopy *copy = &tables.copies[i];

		if (copy->hold == change->hold && copy->refused_batch == 0 &&
			copy->txid >= change->refused[0])
			copy->refused_batch = is_among(copy->txid, change->refused, change->nrefused) ?
				change->refused_batch :
				-1;
	}
	if (change->now.state == HOLD_GONE)
		drop_rows(change->hold);
}

static void
replay(const Record *record, int place)
{
	tables.next_txid = Max(tables.next_txid, record->txid + 1);
	switch (record->kind)
	{
		case RECORD_EVENT:
			tables.transactions[record->txid].state = TX_RUNNING;
			tables.events[tables.nevents++] = record->event;
			tables.next_seq = Max(tables.next_seq, record->event.seq + 1);
			if (!record->event.copy)
				tables.key_holder[record->event.key] = record->txid;
			break;
		case RECORD_END:
			end_transaction(record->txid, record->state, record->time, place);
			break;
		case RECORD_BATCH:
			tables.batches[tables.nbatches++] = record->number;
			store_batch_holds(&batch_pool[record->number]);
			end_transaction(record->txid, TX_COMMITTED, record->time, place);
			break;
		case RECORD_COPIES:
			store_copies(record);
			end_transaction(record->txid, TX_COMMITTED, record->time, place);
			break;
		case RECORD_HOLD:
			change_hold(&record->change);
			break;
		case RECORD_EXCLUSION:
			tables.exclusions[tables.nexclusions++] = record->exclusion;
			break;
		case RECORD_EMPTY:
			empty_leaf(record->number);
			break;
		case RECORD_NOTHING:
			break;
	}
}

static void
append(const Record *record)
{
	if (records == MOST_RECORDS)
		oracle_fail("the schedule is too long for the log");
	else
	{
		log_records[records] = *record;
		replay(record, records);
		records++;
	}
}

void
tables_reset(void)
{
	records = flushed = standby = npool = next_id = 0;
	clock_now = 1000;
	tables.timeline = 1;
	reset_state();
}

uint64
tables_begin(void)
{
	uint64 txid = tables.next_txid;

	if (txid >= MOST_TRANSACTIONS)
		return 0;
	tables.next_txid++;
	tables.transactions[txid].state = TX_RUNNING;
	return txid;
}

bool
tables_emit(uint64 txid, int key, bool poison)
{
	Record record = {.kind = RECORD_EVENT, .txid = txid};

	if (tables.nevents == MOST_EVENTS ||
		(tables.key_holder[key] != 0 && tables.key_holder[key] != txid))
		return false;
	record.event = (SimEvent) {.txid = txid,
							   .seq = tables.next_seq,
							   .id = next_id++,
							   .key = key,
							   .leaf = tables.leaf,
							   .created_at = clock_now,
							   .poison = poison};
	append(&record);
	return true;
}

void
tables_copy(uint64 txid, const SimEvent *original)
{
	Record record = {.kind = RECORD_EVENT, .txid = txid, .event = *original};

	if (tables.nevents == MOST_EVENTS)
	{
		oracle_fail("the schedule is too long for copies");
		return;
	}
	record.event.txid = txid;
	record.event.seq = tables.next_seq;
	record.event.leaf = tables.leaf;
	record.event.created_at = clock_now;
	record.event.copy = true;
	append(&record);
}

void
tables_end_copies(uint64 txid, const SimCopy *row, int ended_hold)
{
	Record record = {.kind = RECORD_COPIES,
					 .txid = txid,
					 .number = ended_hold,
					 .time = ++clock_now};

	if (row != NULL)
		record.copy = *row;
	append(&record);
}

void
tables_change_hold(const SimHoldChange *change)
{
	append(&(Record) {.kind = RECORD_HOLD, .change = *change});
}

void
tables_end(uint64 txid, TxState state)
{
	append(&(Record) {.kind = RECORD_END, .txid = txid, .state = state, .time = ++clock_now});
}

void
tables_store_batch(SimBatch *batch)
{
	uint64	  txid = tables_begin();
	SimBatch *stored = &batch_pool[npool];

	if (txid == 0 || npool == lengthof(batch_pool) || tables.nbatches == MOST_BATCHES)
	{
		oracle_fail("the schedule is too long for the batch log");
		return;
	}
	batch->row.txid = txid;
	*stored = *batch;
	copy_snapshot(&stored->row.range.lower, stored->lower, &batch->row.range.lower);
	copy_snapshot(&stored->row.range.upper, stored->upper, &batch->row.range.upper);
	append(&(Record) {.kind = RECORD_BATCH, .txid = txid, .number = npool++, .time = ++clock_now});
}

void
tables_exclude(const SimExclusion *exclusion)
{
	append(&(Record) {.kind = RECORD_EXCLUSION, .exclusion = *exclusion});
}

void
tables_fence(void)
{
	append(&(Record) {.kind = RECORD_NOTHING});
}

void
tables_empty_leaf(int leaf)
{
	append(&(Record) {.kind = RECORD_EMPTY, .number = leaf});
}

void
tables_cut(int kept, bool new_timeline)
{
	int64 newest = -1;

	records = kept;
	flushed = standby = kept;
	reset_state();
	for (int i = 0; i < records; i++)
		replay(&log_records[i], i);
	for (uint64 txid = FIRST_TXID; txid < tables.next_txid; txid++)
	{
		if (tables.transactions[txid].state == TX_RUNNING ||
			tables.transactions[txid].state == TX_NONE)
			end_transaction(txid, TX_ABORTED, 0, -1);
	}
	if (new_timeline)
		tables.timeline++;
	for (int i = 0; i < tables.nevents; i++)
	{
		if (!tables.events[i].emptied && tables.events[i].seq > newest)
		{
			newest = tables.events[i].seq;
			tables.leaf = tables.events[i].leaf;
		}
	}
}

void
tables_snapshot(SimSnapshot *snapshot)
{
	snapshot->snapshot.xmax = tables.completed + 1;
	snapshot->snapshot.xip = snapshot->xip;
	snapshot->snapshot.nxip = 0;
	for (uint64 txid = FIRST_TXID; txid <= tables.completed; txid++)
	{
		TxState state = tables.transactions[txid].state;

		if (state == TX_RUNNING || state == TX_PREPARED)
			snapshot->xip[snapshot->snapshot.nxip++] = txid;
	}
}

const SimBatch *
tables_batch(int64 batch_no)
{
	const SimBatch *found = NULL;

	for (int i = 0; i < tables.nbatches; i++)
	{
		const SimBatch *batch = &batch_pool[tables.batches[i]];

		if (batch_no < 0 ? found == NULL || batch->row.batch_no > found->row.batch_no :
						   batch->row.batch_no == batch_no)
			found = batch;
	}
	return found;
}

int
tables_left_out(int64 batch_no)
{
	int count = 0;

	for (int i = 0; i < tables.nexclusions; i++)
		count += tables.exclusions[i].batch_no == batch_no;
	for (int i = 0; i < tables.nshares; i++)
		count += tables.shares[i].batch_no == batch_no ? tables.shares[i].events : 0;
	for (int i = 0; i < tables.ncopies; i++)
		count += tables.copies[i].refused_batch == batch_no ? tables.copies[i].copies : 0;
	return count;
}

int
tables_hold_of(int topic)
{
	for (int i = 0; i < tables.nholds; i++)
	{
		if (tables.holds[i].topic == topic && tables.holds[i].state < HOLD_ENDED)
			return i;
	}
	return -1;
}

const SimCopy *
tables_copies_of(uint64 txid)
{
	for (int i = 0; i < tables.ncopies; i++)
	{
		if (tables.copies[i].txid == txid)
			return &tables.copies[i];
	}
	return NULL;
}

int
topic_of(int key)
{
	return key % TOPICS;
}

bool
tables_excluded(int64 batch_no, uint64 txid, int64 seq)
{
	for (int i = 0; i < tables.nexclusions; i++)
	{
		const SimExclusion *exclusion = &tables.exclusions[i];

		if (exclusion->batch_no == batch_no && exclusion->txid == txid && exclusion->seq == seq)
			return true;
	}
	return false;
}
