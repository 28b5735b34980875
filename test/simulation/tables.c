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
	RECORD_NOTHING
} RecordKind;

typedef struct Record
{
	RecordKind	 kind;
	uint64		 txid;	/* EVENT, END, BATCH: of the transaction */
	TxState		 state; /* END */
	int64		 time;	/* END */
	SimEvent	 event;
	SimExclusion exclusion;
	int			 number; /* BATCH: of batch_pool; EMPTY: leaf */
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

	memset(&tables, 0, sizeof(tables));
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
			tables.key_holder[record->event.key] = record->txid;
			break;
		case RECORD_END:
			end_transaction(record->txid, record->state, record->time, place);
			break;
		case RECORD_BATCH:
			tables.batches[tables.nbatches++] = record->number;
			end_transaction(record->txid, TX_COMMITTED, record->time, place);
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
	return count;
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
