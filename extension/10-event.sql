/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------------- event ring
 *
 * outbox.event: committed events, insert-only; a ring of eight leaves.  Space
 * comes back by emptying a whole leaf.  Only emit() writes here.
 *
 *	txid			top-level transaction (never the tuple's xmin)
 *	seq				order inside a transaction; not an identity (reissued after a failover)
 *	segment			leaf
 *	id				the event's identity: a UUID of version 7, or what the emitter gave to
 *					outbox.outgoing; not unique
 *	topic, key		Kafka topic and record key; key NULL allowed
 *	type			ce_type; like content_type in the database's encoding, the relay makes it UTF-8
 *	payload			record value, verbatim; NULL = tombstone; key, payload and headers are the
 *					record's bytes
 *	content_type	content-type header; NULL = none
 *	headers			the event's own headers in Kafka's encoding; NULL = none
 *	created_at		clock when emitted, ce_time
 *	copied_at		clock when the relay wrote this copy, for a replay or of a dead letter; NULL =
 *					an original
 */
CREATE SEQUENCE outbox.event_seq CACHE 1;

CREATE TABLE outbox.event (
	txid xid8 NOT NULL,
	seq bigint NOT NULL,
	segment smallint NOT NULL,
	id uuid NOT NULL,
	topic text NOT NULL,
	key bytea,
	type text NOT NULL,
	payload bytea,
	content_type text,
	headers bytea,
	created_at timestamptz NOT NULL,
	copied_at timestamptz
) PARTITION BY LIST (segment);

CREATE TABLE outbox.event_0 PARTITION OF outbox.event FOR VALUES IN (0);
CREATE TABLE outbox.event_1 PARTITION OF outbox.event FOR VALUES IN (1);
CREATE TABLE outbox.event_2 PARTITION OF outbox.event FOR VALUES IN (2);
CREATE TABLE outbox.event_3 PARTITION OF outbox.event FOR VALUES IN (3);
CREATE TABLE outbox.event_4 PARTITION OF outbox.event FOR VALUES IN (4);
CREATE TABLE outbox.event_5 PARTITION OF outbox.event FOR VALUES IN (5);
CREATE TABLE outbox.event_6 PARTITION OF outbox.event FOR VALUES IN (6);
CREATE TABLE outbox.event_7 PARTITION OF outbox.event FOR VALUES IN (7);

CREATE INDEX event_txid ON outbox.event (txid);
