/* SPDX-License-Identifier: PostgreSQL
 *
 * relay.c
 *	  The relay's loop around its pure parts: which snapshot, which batch, which
 *	  cursor, which state.  The parts themselves are those of bgworker/.
 *
 * The order of steps is that of steps.c, connect.c and deliver.c of bgworker/relay; the
 * invariants I1 to I4, I6 and I7 are what the oracle sees when they break.
 */
#include "relay.h"

Mutant		  mutant;
bool		  replicated_mode;
bool		  healing;
int			  holds;
MemoryContext CurrentMemoryContext;

SimRelay relay;

/* What start_rules.c reads from outbox.batch. */
bool
outbox_batch_log_load(int64 batch_no, MemoryContext context, OutboxBatchRow *row)
{
	const SimBatch *found = tables_batch(batch_no);

	if (found != NULL)
	{
		*row = found->row;
		row->left_out = tables_left_out(batch_no);
	}
	return found != NULL;
}

static void
enter(OutboxRelayState state)
{
	if (!outbox_relay_state_follows(relay.state, state))
		oracle_fail("the relay cannot go from state %d to %d", relay.state, state);
	relay.state = state;
}

static void
copy_batch(SimBatch *to, const SimBatch *from)
{
	*to = *from;
	copy_snapshot(&to->row.range.lower, to->lower, &from->row.range.lower);
	copy_snapshot(&to->row.range.upper, to->upper, &from->row.range.upper);
}

static void
begin_anew(void)
{
	relay.peer = OUTBOX_PEER_OPENED;
	relay.count = relay.next = 0;
	enter(OUTBOX_RELAY_BACKOFF);
}

void
relay_reset(void)
{
	memset(&relay, 0, offsetof(SimRelay, waypoints));
	relay.state = OUTBOX_RELAY_STOPPED;
	relay.delivered = -1;
	holds = 0;
}

/* The offset as the sender commits it with a batch. */
static void
write_cursor(OutboxKafkaCursor *cursor, const OutboxBatchRow *row)
{
	memset(cursor, 0, sizeof(*cursor));
	cursor->present = cursor->readable = true;
	cursor->batch_no = row->batch_no;
	cursor->nonce = row->nonce;
	cursor->left_out =
		row->events - relay.nids - (mutant == MUTANT_LEFT_OUT_BLIND ? relay.held : 0);
	cursor->system_id = relay.identity.system_id;
	cursor->database = relay.identity.database;
	cursor->timeline = relay.identity.timeline;
	strlcpy(cursor->host, relay.identity.host, sizeof(cursor->host));
	strlcpy(cursor->data_directory, relay.identity.data_directory, sizeof(cursor->data_directory));
}

void
relay_die(void)
{
	OutboxKafkaCursor cursor;
	int				  holds_before = holds;

	if (relay.state == OUTBOX_RELAY_SENDING && relay.poison < 0)
	{
		write_cursor(&cursor, &relay.batch.row);
		broker_leave(relay.epoch, relay.ids, relay.nids, &cursor);
	}
	relay_reset();
	holds = holds_before;
}

/* ---------------------------------------------------------------- windows */

/* Are they the last copies of a hold, which come first? */
static bool
is_end_of_hold(uint64 txid)
{
	for (int i = 0; i < tables.nholds && mutant != MUTANT_END_UNRANKED; i++)
	{
		if (tables.holds[i].ended_txid == txid)
			return true;
	}
	return false;
}

static void
add_entry(const SimEvent *event, const OutboxRange *range, OutboxEntry *entry)
{
	const SimTransaction *transaction = &tables.transactions[event->txid];

	memset(entry, 0, sizeof(*entry));
	entry->txid = event->txid;
	entry->seq = event->seq;
	entry->block = (uint32) (event - tables.events);
	if (event->txid == range->lower_at.txid)
		entry->rank = OUTBOX_RANK_BEGUN;
	else if (is_end_of_hold(event->txid))
		entry->rank = OUTBOX_RANK_REISSUED;
	else
		entry->rank = timed ? OUTBOX_RANK_TIMED : OUTBOX_RANK_UNTIMED;
	entry->order = entry->rank == OUTBOX_RANK_TIMED ? transaction->commit_time : 0;
}

size_t
range_entries(const OutboxRange *range, OutboxEntry *entries)
{
	size_t count = 0;

	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];

		if (!event->emptied && tables.transactions[event->txid].state == TX_COMMITTED &&
			outbox_range_holds(range, event->txid, event->seq))
			add_entry(event, range, &entries[count++]);
	}
	outbox_entries_sort(entries, count);
	return count;
}

/* The window's range is set. */
static void
fill_window(void)
{
	relay.next = 0;
	relay.count = range_entries(&relay.range, relay.entries);
	for (size_t i = 0; i < relay.count; i++)
		outbox_lowest_note(relay.lowest, i, relay.entries[i].txid);
}

static bool
open_window(const OutboxSnapshot *upper)
{
	copy_snapshot(&relay.range.lower, relay.lower, &relay.last.row.range.upper);
	copy_snapshot(&relay.range.upper, relay.upper, upper);
	relay.range.lower_at = relay.last.row.range.upper_at;
	memset(&relay.range.upper_at, 0, sizeof(OutboxPosition));
	holds_load(0);
	fill_window();
	return relay.count > 0;
}

static bool
find_work(void)
{
	SimSnapshot now;
	bool		found = false;

	for (int i = 0; i < relay.nwaypoints && !found; i++)
	{
		found = open_window(&relay.waypoints[i].snapshot);
		if (found)
		{
			for (int j = i + 1; j < relay.nwaypoints; j++)
			{
				SimSnapshot *to = &relay.waypoints[j - i - 1];

				copy_snapshot(&to->snapshot, to->xip, &relay.waypoints[j].snapshot);
			}
			relay.nwaypoints -= i + 1;
		}
	}
	if (!found)
	{
		relay.nwaypoints = 0;
		holds_tend();
		tables_snapshot(&now);
		found = open_window(&now.snapshot);
	}
	return found;
}

static void
note_waypoint(void)
{
	SimSnapshot *waypoint = &relay.waypoints[relay.nwaypoints];

	if (relay.nwaypoints == MOST_WAYPOINTS)
		return;
	tables_snapshot(waypoint);
	relay.nwaypoints++;
}

/* ---------------------------------------------------------------- batches */

/* Ids of the entries [first, end), without exclusions, and the row's sums. */
static void
read_entries(size_t first, size_t end, int64 batch_no)
{
	OutboxBatchRow *row = &relay.batch.row;

	relay.nids = relay.held = 0;
	relay.poison = -1;
	row->events = 0;
	row->digest = 0;
	for (size_t i = first; i < end; i++)
	{
		const OutboxEntry *entry = &relay.entries[i];
		const SimEvent	  *event = &tables.events[entry->block];

		row->events++;
		row->digest += event->id * INT64CONST(7919) + 13;
		if (tables_excluded(batch_no, entry->txid, entry->seq) || !holds_pass(event))
			continue;
		relay.sent[relay.nids] = entry->block;
		relay.ids[relay.nids++] = event->id;
		if (event->poison && relay.poison < 0)
			relay.poison = (int) entry->block;
	}
}

/*
 * Where the chunk ends: between transactions, unless one is larger than a batch; never inside a
 * hold's copies.
 */
static size_t
choose_end(size_t most)
{
	size_t end = Min(relay.next + most, relay.count);
	size_t boundary = end;

	while (boundary < relay.count && boundary > relay.next &&
		   relay.entries[boundary].txid == relay.entries[boundary - 1].txid)
		boundary--;
	if (boundary > relay.next)
		return boundary;
	while (end < relay.count && relay.entries[end].txid == relay.entries[end - 1].txid &&
		   holds_keep_whole(relay.entries[end].txid))
		end++;
	return end;
}

static void
cut_chunk(size_t end)
{
	OutboxRange		  *range = &relay.batch.row.range;
	const OutboxEntry *entries = relay.entries;
	OutboxEntryList	   list = {.entries = relay.entries,
							   .loaded = relay.count,
							   .lowest = relay.lowest};

	copy_snapshot(&range->lower, relay.batch.lower, &relay.range.lower);
	range->lower_at = relay.range.lower_at;
	range->upper_at = relay.range.upper_at;
	range->upper.xip = relay.batch.upper;
	if (end == relay.count)
		copy_snapshot(&range->upper, relay.batch.upper, &relay.range.upper);
	else
	{
		if (!outbox_cut(&relay.range.lower, &relay.range.upper, &list, relay.count, relay.next, end,
						&range->upper.xmax, relay.batch.upper, MOST_RUNNING, &range->upper.nxip))
			oracle_fail("a cut has too many transactions in progress");
		if (entries[end].txid == entries[end - 1].txid)
			range->upper_at = (OutboxPosition) {entries[end - 1].txid, entries[end - 1].seq};
	}
	copy_snapshot(&relay.range.lower, relay.lower, &range->upper);
	relay.range.lower_at = range->upper_at;
}

/* The number stands for a nonce: no two histories share one. */
static void
make_nonce(pg_uuid_t *nonce)
{
	for (int i = 0; i < UUID_LEN; i++)
		nonce->data[i] = (unsigned char) pick(256);
}

static void
store_row(SimBatch *batch)
{
	OutboxBatchRow *row = &batch->row;

	make_nonce(&row->nonce);
	row->timeline = relay.identity.timeline;
	row->system_id = relay.identity.system_id;
	row->database = relay.identity.database;
	tables_store_batch(batch);
	if (mutant != MUTANT_NO_FENCE)
		flushed = records;
	relay.row_end = records;
	copy_batch(&relay.last, batch);
}

/* The next row, of what the window has. */
static void
prepare_next(void)
{
	size_t end = choose_end(1 + pick(6));

	memset(&relay.batch, 0, sizeof(relay.batch));
	relay.batch.row.batch_no = relay.last.row.batch_no + 1;
	read_entries(relay.next, end, relay.batch.row.batch_no);
	cut_chunk(end);
	relay.next = end;
	store_row(&relay.batch);
	enter(OUTBOX_RELAY_REPLICATING);
}

/* The oldest row that is not known delivered. */
static void
prepare_again(void)
{
	const SimBatch *stored = tables_batch(relay.delivered + 1);

	if (stored == NULL)
	{
		oracle_held("a batch to be sent again is not there");
		enter(OUTBOX_RELAY_HOLD);
		return;
	}
	copy_batch(&relay.batch, stored);
	copy_snapshot(&relay.range.lower, relay.lower, &stored->row.range.lower);
	copy_snapshot(&relay.range.upper, relay.upper, &stored->row.range.upper);
	relay.range.lower_at = stored->row.range.lower_at;
	relay.range.upper_at = stored->row.range.upper_at;
	holds_load(stored->row.batch_no);
	fill_window();
	relay.batch.nshares = relay.batch.nrefused = 0;
	read_entries(0, relay.count, stored->row.batch_no);
	holds_store_old();
	if (relay.batch.row.events != stored->row.events ||
		relay.batch.row.digest != stored->row.digest)
	{
		oracle_fail("batch %d reads differently", (int) stored->row.batch_no);
		return;
	}
	relay.count = relay.next = 0;
	relay.row_end = Max(relay.row_end, relay.start_fence);
	enter(OUTBOX_RELAY_REPLICATING);
}

/* A cursor without events tells a server that was superseded who has taken over. */
static void
prepare_cursor(void)
{
	copy_batch(&relay.batch, tables_batch(relay.delivered));
	relay.batch.row.events = tables_left_out(relay.delivered);
	relay.count = relay.next = 0;
	relay.nids = relay.held = 0;
	relay.poison = -1;
	enter(OUTBOX_RELAY_REPLICATING);
}

static void
step_preparing(void)
{
	switch (relay.errand)
	{
		case OUTBOX_ERRAND_NEXT:
			prepare_next();
			break;
		case OUTBOX_ERRAND_AGAIN:
			prepare_again();
			break;
		case OUTBOX_ERRAND_REFRESH:
			prepare_cursor();
			break;
	}
}

static void
step_replicating(void)
{
	if (!replicated_mode || standby >= relay.row_end || mutant == MUTANT_NO_STANDBY_WAIT ||
		relay.errand == OUTBOX_ERRAND_REFRESH)
		enter(OUTBOX_RELAY_SENDING);
}

/* ---------------------------------------------------------------- cursor */

static void
adopt(bool resend)
{
	SimBatch		   base;
	SimSnapshot		   now;
	const SimBatch	  *oldest = &relay.last;
	const OutboxRange *range = &relay.last.row.range;
	int64			   kafka_batch = relay.comparison.kafka_batch;

	memset(&base, 0, sizeof(base));
	if (kafka_batch >= 0 && kafka_batch + 1 < relay.last.row.batch_no &&
		tables_batch(kafka_batch + 1) != NULL)
		oldest = tables_batch(kafka_batch + 1);
	tables_snapshot(&now);
	if (!resend)
		copy_snapshot(&base.row.range.upper, base.upper, &now.snapshot);
	else if (relay.comparison.last_delivered)
	{
		copy_snapshot(&base.row.range.upper, base.upper, &range->upper);
		base.row.range.upper_at = range->upper_at;
		oracle_rows_lost(range);
	}
	else
	{
		copy_snapshot(&base.row.range.upper, base.upper, &oldest->row.range.lower);
		base.row.range.upper_at = oldest->row.range.lower_at;
		base.forgets_from = mutant == MUTANT_ADOPT_KEEPS ? 0 : oldest->row.batch_no;
	}
	copy_snapshot(&base.row.range.lower, base.lower, &base.row.range.upper);
	base.row.range.lower_at = base.row.range.upper_at;
	base.row.batch_no = Max(relay.last.row.batch_no, kafka_batch) + 1;
	oracle_adopted(resend, &base.row.range.upper, &base.row.range.upper_at);
	store_row(&base);
	relay.overruled = true;
	begin_anew();
}

static void
diverge(void)
{
	holds++;
	oracle_held(relay.comparison.reason);
	enter(OUTBOX_RELAY_HOLD);
}

static void
take_cursor(bool may_lag)
{
	OutboxKafkaCursor cursor = broker_cursor;

	if (relay.overruled)
	{
		memset(&relay.comparison, 0, sizeof(relay.comparison));
		relay.comparison.delivered = relay.last.row.batch_no - 1;
		relay.comparison.verdict = OUTBOX_START_SEND_AGAIN;
	}
	else if (mutant == MUTANT_NO_COMPARISON && cursor.present)
	{
		memset(&relay.comparison, 0, sizeof(relay.comparison));
		relay.comparison.delivered = Min(cursor.batch_no, relay.last.row.batch_no);
	}
	else
		outbox_start_compare(&cursor, &relay.last.row, &relay.identity, may_lag, &relay.comparison);
	if (relay.comparison.verdict == OUTBOX_START_DIVERGED)
		diverge();
	else
		relay.delivered = relay.comparison.delivered;
}

/* What Kafka has is known, or there is work. */
static void
go_on(bool refresh)
{
	OutboxStanding standing = {
		.peer = relay.peer,
		.delivered = relay.delivered,
		.last = relay.last.row.batch_no,
		.unsent = relay.next < relay.count,
		.refresh = refresh,
	};
	OutboxNext next = outbox_relay_next(&standing);

	relay.errand = next.errand;
	enter(next.state);
}

static void
step_fencing(void)
{
	relay.epoch = broker_fence();
	take_cursor(false);
	if (relay.state == OUTBOX_RELAY_HOLD)
		return;
	relay.peer = OUTBOX_PEER_FENCED;
	go_on(relay.comparison.takes_over && relay.delivered >= 0);
}

/* ---------------------------------------------------------------- sending */

static void
refuse_event(void)
{
	const SimEvent *event = &tables.events[relay.poison];
	SimExclusion	exclusion = {relay.batch.row.batch_no, event->txid, event->seq};

	tables_exclude(&exclusion);
	if (mutant != MUTANT_LATE_EXCLUSION)
	{
		flushed = records;
		relay.row_end = Max(relay.row_end, records);
	}
	relay.peer = OUTBOX_PEER_OPENED;
	relay.count = relay.next = 0;
	go_on(false);
}

/* The first topic of the batch that Kafka cannot take; -1: it takes all. */
static int
find_barred(void)
{
	for (int i = 0; i < relay.nids && !healing; i++)
	{
		int topic = topic_of(tables.events[relay.sent[i]].key);

		if (broker_unled[topic] || broker_closed[topic])
			return topic;
	}
	return -1;
}

/* It stands so for a while, then the batch goes without the topic. */
static void
leave_topic(int topic)
{
	if (!broker_closed[topic] && happens(40))
	{
		begin_anew();
		return;
	}
	holds_take_topic(topic, broker_closed[topic] ? OUTBOX_HOLD_REFUSED : OUTBOX_HOLD_LEADER);
	relay.peer = OUTBOX_PEER_OPENED;
	relay.count = relay.next = 0;
	go_on(false);
}

static void
take_committed(bool torn)
{
	relay.delivered = relay.batch.row.batch_no;
	relay.overruled = false;
	if (torn && mutant != MUTANT_NO_WATCH)
		relay.peer = OUTBOX_PEER_OPENED;
	go_on(false);
}

static void
step_sending(void)
{
	OutboxKafkaCursor cursor;
	int				  barred = find_barred();

	if (barred >= 0)
	{
		leave_topic(barred);
		return;
	}
	if (relay.poison >= 0)
	{
		refuse_event();
		return;
	}
	if (happens(30))
		holds_tend();
	write_cursor(&cursor, &relay.batch.row);
	switch (broker_send(relay.epoch, relay.ids, relay.nids, &cursor))
	{
		case SEND_COMMITTED:
			take_committed(false);
			break;
		case SEND_TORN:
			take_committed(true);
			break;
		case SEND_FAILED:
		case SEND_FENCED:
			begin_anew();
			break;
	}
}

/* ------------------------------------------------------------------- loop */

static void
step_idle(void)
{
	bool work = relay.delivered < relay.last.row.batch_no;

	if (!work && happens(30))
		holds_tend();
	if (!work)
	{
		ring_tend(&relay.last.row.range.lower); /* the last batch stays */
		work = find_work();
	}
	if (work)
		go_on(false);
}

static void
step_starting(void)
{
	copy_batch(&relay.last, tables_batch(-1));
	relay.identity.system_id = 77;
	relay.identity.database = 5;
	relay.identity.timeline = tables.timeline;
	strlcpy(relay.identity.host, "host", sizeof(relay.identity.host));
	strlcpy(relay.identity.data_directory, tables.timeline % 2 ? "/a" : "/b",
			sizeof(relay.identity.data_directory));
	tables_fence();
	flushed = records;
	relay.start_fence = records;
	outbox_start_check_lineage(&relay.last.row, &relay.identity, &relay.comparison);
	enter(OUTBOX_RELAY_CONNECTING);
}

void
relay_turn(void)
{
	if (relay.state != OUTBOX_RELAY_IDLE && relay.state != OUTBOX_RELAY_HOLD &&
		relay.state != OUTBOX_RELAY_STOPPED && relay.delivered >= 0 && happens(20))
		note_waypoint();
	switch (relay.state)
	{
		case OUTBOX_RELAY_STOPPED:
			enter(OUTBOX_RELAY_STARTING);
			break;
		case OUTBOX_RELAY_STARTING:
			step_starting();
			break;
		case OUTBOX_RELAY_CONNECTING:
			take_cursor(true);
			if (relay.state != OUTBOX_RELAY_HOLD)
				enter(OUTBOX_RELAY_IDLE);
			break;
		case OUTBOX_RELAY_FENCING:
			step_fencing();
			break;
		case OUTBOX_RELAY_IDLE:
			step_idle();
			break;
		case OUTBOX_RELAY_PREPARING:
			step_preparing();
			break;
		case OUTBOX_RELAY_REPLICATING:
			step_replicating();
			break;
		case OUTBOX_RELAY_SENDING:
			step_sending();
			break;
		case OUTBOX_RELAY_BACKOFF:
			enter(OUTBOX_RELAY_CONNECTING);
			break;
		case OUTBOX_RELAY_HOLD:
			if (healing || happens(30))
				adopt(happens(60));
			break;
	}
}

bool
relay_is_done(void)
{
	SimSnapshot now;

	if (relay.state != OUTBOX_RELAY_IDLE || relay.delivered < relay.last.row.batch_no ||
		relay.next < relay.count || relay.nwaypoints > 0)
		return false;
	for (int i = 0; i < tables.nholds; i++)
	{
		if (tables.holds[i].state < HOLD_ENDED)
			return false;
	}
	tables_snapshot(&now);
	return !open_window(&now.snapshot);
}
