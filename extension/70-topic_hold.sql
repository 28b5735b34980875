/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------ topics held apart
 *
 * A held topic's events are left out of the batches, and come back as copies in their order.  The
 * relay writes all three tables but for what topic_hold() and topic_release() ask for.
 */

/*
 * outbox.topic_hold: holds, the ended ones too.
 *
 *	cause		leader		a partition has no leader; ends by itself
 *				operator	topic_hold(); topic_release() ends it
 *				refused		Kafka takes nothing for the topic (dead_letter_policy hold_topic);
 *							topic_release() ends it
 *	partition	cause leader: the first without a leader
 *	state		held		its events are left out
 *				releasing	they come back as copies; new ones are left out still
 *				ended
 *	ended_txid	the transaction of the last copy; what commits behind it is sent as usual.  NULL
 *				after a restore, too
 *	copied		events that came back; NULL until it has ended
 */
CREATE TABLE outbox.topic_hold (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic text NOT NULL,
	cause text NOT NULL CHECK (cause IN ('leader', 'operator', 'refused')),
	partition integer,
	reason text NOT NULL,
	state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'releasing', 'ended')),
	held_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	held_by name NOT NULL DEFAULT session_user,
	released_at timestamptz,
	released_by name,
	ended_at timestamptz,
	ended_txid xid8,
	copied bigint
);
CREATE UNIQUE INDEX topic_hold_topic ON outbox.topic_hold (topic) WHERE state <> 'ended';

/*
 * outbox.topic_hold_batch: what a hold left out of a batch (I7), written with the batch's row or
 * before the batch is sent again.  A batch leaves out the events of the hold's topic exactly when
 * there is a row, but for the hold's own copies (outbox.topic_hold_copy).
 *
 *	lower ... upper_seq	the batch's range, as in outbox.batch, whose rows go earlier
 *	events, bytes		left out; bytes as src/backlog.h counts them
 *	oldest_at			when the oldest of them was emitted, or copied
 */
CREATE TABLE outbox.topic_hold_batch (
	hold bigint NOT NULL,
	batch_no bigint NOT NULL,
	lower pg_snapshot NOT NULL,
	upper pg_snapshot NOT NULL,
	lower_txid xid8,
	lower_seq bigint,
	upper_txid xid8,
	upper_seq bigint,
	events integer NOT NULL,
	bytes bigint NOT NULL,
	oldest_at timestamptz NOT NULL,
	PRIMARY KEY (hold, batch_no)
);
CREATE INDEX topic_hold_batch_no ON outbox.topic_hold_batch (batch_no);

/*
 * outbox.topic_hold_copy: transactions of a hold's copies.
 *
 *	txid			the transaction
 *	last_batch, last_txid, last_seq	the last event it copied, and of which batch
 *	refused_batch	the batch that its copies are left out of, as Kafka did not take them or an
 *					earlier copy: they are copied again; -1: they are in none yet; NULL: none
 */
CREATE TABLE outbox.topic_hold_copy (
	hold bigint NOT NULL,
	txid xid8 PRIMARY KEY,
	last_batch bigint NOT NULL,
	last_txid xid8 NOT NULL,
	last_seq bigint NOT NULL,
	copies integer NOT NULL,
	bytes bigint NOT NULL,
	refused_batch bigint
);
CREATE INDEX topic_hold_copy_hold ON outbox.topic_hold_copy (hold, txid);
