/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------------------ views
 *
 * What people and programs look at: relay, batches, backlog, dead letters, flows, events, replays.
 */

/* Batches, the retained ones; columns as of outbox.batch. */
CREATE VIEW outbox.batches AS
	SELECT b.batch_no, b.events, b.lower, b.upper, b.lower_txid, b.lower_seq,
		b.upper_txid, b.upper_seq, b.txid, b.timeline, b.prepared_at
	FROM outbox.batch b;

/*
 * The last batch known delivered: the one before the last while it is not known.  It and
 * reached_batch are found once in a query, whatever else the plan repeats for each event (for which
 * it needs no more than stale statistics).
 */
CREATE VIEW outbox.delivered_batch AS
	WITH found AS MATERIALIZED (
		SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
		FROM outbox.relay_slot() s,
			LATERAL (SELECT max(batch_no) AS batch_no FROM outbox.batch) l,
			LATERAL (SELECT * FROM outbox.batch
					WHERE batch_no <= coalesce(s.delivered_batch, greatest(l.batch_no - 1, 0))
					ORDER BY batch_no DESC LIMIT 1) b
		UNION ALL
		SELECT -1, '3:3:', NULL, NULL
		WHERE NOT EXISTS (SELECT FROM outbox.batch))
	SELECT f.batch_no, f.upper, f.upper_txid, f.upper_seq FROM found f;

/*
 * The last batch that may be delivered: the newest while it is not known, as when no relay has run
 * since the server's start.  No row on a standby, which knows nothing of it.
 */
CREATE VIEW outbox.reached_batch AS
	WITH found AS MATERIALIZED (
		SELECT b.batch_no, b.upper, b.upper_txid, b.upper_seq
		FROM outbox.relay_slot() s,
			LATERAL (SELECT * FROM outbox.batch
					WHERE batch_no <= coalesce(s.delivered_batch, 9223372036854775807)
					ORDER BY batch_no DESC LIMIT 1) b
		WHERE s.state <> 'standby'
		UNION ALL
		SELECT -1, '3:3:', NULL, NULL
		WHERE NOT EXISTS (SELECT FROM outbox.batch) AND NOT pg_catalog.pg_is_in_recovery())
	SELECT f.batch_no, f.upper, f.upper_txid, f.upper_seq FROM found f;

/*
 * Events known to wait (I1: two index scans); none on a standby.  OFFSET 0: the events are looked
 * up by the batch and its list, never the list for each event.  What a topic hold has left out is
 * not among them, its copies are: see outbox.topic_holds.
 */
CREATE VIEW outbox.unsent AS
	SELECT w.*
	FROM outbox.reached_batch d
		CROSS JOIN LATERAL (SELECT * FROM outbox.event e
				WHERE e.txid >= pg_catalog.pg_snapshot_xmax(d.upper)
					AND (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
				OFFSET 0) w
	UNION ALL
	SELECT w.*
	FROM outbox.reached_batch d
		CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
		CROSS JOIN LATERAL (SELECT * FROM outbox.event e
				WHERE e.txid = x.txid
					AND (e.txid = d.upper_txid AND e.seq <= d.upper_seq) IS NOT TRUE
				OFFSET 0) w;

/* Events of outbox.unsent, by topic; bytes: of keys and payloads. */
CREATE VIEW outbox.backlog AS
	SELECT u.topic, pg_catalog.count(*) AS events,
		pg_catalog.sum(coalesce(pg_catalog.length(u.key), 0)
			+ coalesce(pg_catalog.length(u.payload), 0))::bigint AS bytes,
		pg_catalog.min(coalesce(u.copied_at, u.created_at)) AS oldest_created_at,
		pg_catalog.clock_timestamp() - pg_catalog.min(coalesce(u.copied_at, u.created_at))
			AS oldest_age
	FROM outbox.unsent u
	GROUP BY u.topic;

/* Dead letters without what the records hold.  blocked_by, reissue_txid: see outbox.dead_letter. */
CREATE VIEW outbox.dead_letters AS
	SELECT d.id, d.origin, d.consumer, d.state, d.topic, outbox.bytes_text(d.key) AS key,
		d.event_id, d.event_type, d.error_class, d.sqlstate, d.error_message, d.attempts,
		d.blocked_by, d.first_failed_at, d.last_failed_at, d.next_attempt_at, d.batch_no,
		d.reissue_txid, d.resolved_at, outbox.name_text(d.resolved_by) AS resolved_by, d.reason,
		d.note, d.fingerprint, d.version, d.replay_of
	FROM outbox.dead_letter d;

/* Dead letters not done with, by kind; error_message: that of the newest. */
CREATE VIEW outbox.dead_letter_groups AS
	SELECT g.fingerprint, g.origin, g.consumer, g.topic, g.error_class, g.sqlstate,
		(SELECT d.error_message FROM outbox.dead_letter d WHERE d.id = g.newest) AS error_message,
		g.open, g.retrying, g.held, g.releasing, g.first_failed_at, g.last_failed_at,
		pg_catalog.clock_timestamp() - g.first_failed_at AS oldest_age
	FROM (SELECT d.fingerprint, d.origin, d.consumer, d.topic, d.error_class, d.sqlstate,
				pg_catalog.max(d.id) AS newest,
				pg_catalog.count(*) FILTER (WHERE d.state = 'open') AS open,
				pg_catalog.count(*) FILTER (WHERE d.state = 'retrying') AS retrying,
				pg_catalog.count(*) FILTER (WHERE d.state = 'held') AS held,
				pg_catalog.count(*) FILTER (WHERE d.state = 'releasing') AS releasing,
				pg_catalog.min(d.first_failed_at) AS first_failed_at,
				pg_catalog.max(d.last_failed_at) AS last_failed_at
		FROM outbox.dead_letter d
		WHERE d.state IN ('retrying', 'held', 'open', 'releasing')
		GROUP BY d.fingerprint, d.origin, d.consumer, d.topic, d.error_class, d.sqlstate) g;

/* Their number, and the seconds since the oldest one failed first; no row: none. */
CREATE VIEW outbox.dead_letter_depth AS
	SELECT d.origin, d.consumer, d.topic, d.state, pg_catalog.count(*) AS number,
		greatest(0, extract(epoch FROM pg_catalog.clock_timestamp()
			- pg_catalog.min(d.first_failed_at)))::double precision AS oldest_seconds
	FROM outbox.dead_letter d
	WHERE d.state IN ('retrying', 'held', 'open', 'releasing')
	GROUP BY d.origin, d.consumer, d.topic, d.state;

/*
 * batch_no: the last one.  oldest_unsent_age: of the oldest transaction's first event of
 * outbox.unsent; NULL = none, or, on a standby, not known.  dead_letters_open: the relay's own that
 * a person must decide; keys_held: keys of which events wait behind one.  topics_held: topics held
 * apart; events_held: what was left out for it and not copied yet.
 */
CREATE VIEW outbox.relay_status AS
	SELECT outbox.name_text(pg_catalog.current_database()) AS database, s.state, s.hold_reason,
		s.pid, s.sender_pid, (SELECT pg_catalog.max(batch_no) FROM outbox.batch) AS batch_no,
		s.delivered_batch, s.events_sent, s.bytes_sent, s.batches_sent, s.events_refused,
		s.recoveries, s.suspect_transactions, s.possibly_doubled, s.refusal_rounds, s.rotations,
		s.rotations_refused,
		pg_catalog.clock_timestamp() - least(
			(SELECT e.waits_since
			FROM outbox.reached_batch d
				CROSS JOIN LATERAL (SELECT coalesce(copied_at, created_at) AS waits_since
					FROM outbox.event
					WHERE txid >= pg_catalog.pg_snapshot_xmax(d.upper)
						AND (txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
					ORDER BY txid LIMIT 1) e),
			(SELECT pg_catalog.min(e.waits_since)
			FROM outbox.reached_batch d
				CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip(d.upper) x(txid)
				CROSS JOIN LATERAL (SELECT coalesce(copied_at, created_at) AS waits_since
					FROM outbox.event
					WHERE txid = x.txid
						AND (txid = d.upper_txid AND seq <= d.upper_seq) IS NOT TRUE
					LIMIT 1) e)) AS oldest_unsent_age,
		s.backlog_bytes, s.started_at, s.delivered_at, s.last_error, s.last_error_at,
		s.recovered_at, s.delivery, s.order_mode, s.kafka,
		(SELECT pg_catalog.count(*) FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.state = 'open') AS dead_letters_open,
		(SELECT pg_catalog.count(*) FROM outbox.dead_letter_keys(false, 1000000)) AS keys_held,
		d.topics_held, d.events_held
	FROM outbox.relay_slot() s
		CROSS JOIN (SELECT pg_catalog.count(*) AS topics_held,
				coalesce(pg_catalog.sum(events), 0)::bigint AS events_held
			FROM outbox.topic_holds WHERE state <> 'ended') d;

/*
 * The databases of the server, whichever one asks: a row with waiting_since and no pid has events
 * that nobody relays.
 */
CREATE VIEW outbox.databases AS
	SELECT outbox.name_text(d.datname) AS database, s.wanted, s.state, s.hold_reason, s.pid,
		s.sender_pid, s.waiting_since,
		pg_catalog.clock_timestamp() - s.waiting_since AS waiting_age, s.delivered_at,
		s.last_error, s.last_error_at, s.recovered_at
	FROM outbox.database_slots() s
		JOIN pg_catalog.pg_database d ON d.oid = s.database;

/*
 * What became of a flow in this database, without what the records hold: WHERE correlation_id = ...
 * reads the ring and the dead letters once, no index serves it.
 *
 *	source	event			emitted here; state waiting, sent, dead_letter: refused or held, see the
 *							letter, or held: its topic is, and no copy of it sent yet (a copy has a
 *							row of its own); NULL: not known here, as on a standby
 *			dead_letter		origin relay or, with its consumer, origin consumer; state as there
 *	at		when emitted, or last failed
 *
 * Without rows of holds, which is the rule, no event is asked of them.
 */
CREATE VIEW outbox.flow AS
	SELECT outbox.header_value(e.headers, 'correlationid') AS correlation_id,
		coalesce(e.copied_at, e.created_at) AS at, 'event' AS source,
		CASE WHEN EXISTS (SELECT FROM outbox.dead_letter d
				WHERE d.origin = 'relay' AND d.txid = e.txid AND d.seq = e.seq) THEN 'dead_letter'
			WHEN (pg_catalog.pg_visible_in_snapshot(e.txid, b.upper)
				OR (e.txid = b.upper_txid AND e.seq <= b.upper_seq)) THEN
				coalesce((SELECT CASE
						WHEN EXISTS (SELECT FROM outbox.dead_letter d WHERE d.origin = 'relay'
							AND d.txid = h.copy_txid AND d.seq = h.copy_seq) THEN 'dead_letter'
						WHEN (pg_catalog.pg_visible_in_snapshot(h.copy_txid, b.upper)
							OR (h.copy_txid = b.upper_txid AND h.copy_seq <= b.upper_seq))
							THEN 'sent'
						ELSE 'held' END
					FROM outbox.topic_hold_event(e.topic, e.id, e.txid, e.seq) h
					WHERE (SELECT EXISTS (SELECT FROM outbox.topic_hold_batch)
						OR EXISTS (SELECT FROM outbox.topic_hold_copy))), 'sent')
			WHEN NOT (pg_catalog.pg_visible_in_snapshot(e.txid, r.upper)
				OR (e.txid = r.upper_txid AND e.seq <= r.upper_seq) IS TRUE) THEN 'waiting'
		END AS state,
		e.topic, outbox.bytes_text(e.key) AS key, e.type, e.id AS event_id, NULL::text AS consumer
	FROM outbox.event e CROSS JOIN outbox.delivered_batch b LEFT JOIN outbox.reached_batch r ON true
	UNION ALL
	SELECT coalesce(d.correlation_id, outbox.header_value(d.headers, 'correlationid')),
		d.last_failed_at, 'dead_letter', d.state, d.topic, outbox.bytes_text(d.key),
		d.event_type, d.event_id, d.consumer
	FROM outbox.dead_letter d;

/* headers: an array in their order; of bytes that are none a string. */
CREATE VIEW outbox.events AS
	SELECT e.txid, e.seq, e.segment, e.id, e.topic, outbox.bytes_text(e.key) AS key, e.type,
		outbox.bytes_text(e.payload) AS payload, e.content_type,
		CASE WHEN outbox.headers_readable(e.headers) IS NOT FALSE THEN
			(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
				'name', h.name, 'value', outbox.bytes_text(h.value)) ORDER BY h.place)
			FROM outbox.headers_decode(e.headers) WITH ORDINALITY h(name, value, place))
			ELSE pg_catalog.to_jsonb(outbox.bytes_text(e.headers)) END AS headers,
		e.created_at, e.copied_at
	FROM outbox.event e;

/* eta: what is left, at the rate; NULL unless running. */
CREATE VIEW outbox.replays AS
	SELECT j.id AS replay_id, j.state, j.replayed, j.total,
		round(100.0 * j.replayed / nullif(j.total, 0), 1) AS percent, j.rate,
		CASE WHEN j.state = 'running' THEN
			pg_catalog.make_interval(secs => (j.total - j.replayed)::double precision / j.rate)
		END AS eta,
		j.created_from, j.created_to, j.topic, j.type, outbox.bytes_text(j.key) AS key,
		j.target_topic, j.consumer, j.reprocess, outbox.name_text(j.created_by) AS created_by,
		j.reason, j.created_at, j.started_at, j.finished_at, j.last_error
	FROM (SELECT r.id,
			CASE WHEN r.installation = i.id OR r.state NOT IN ('running', 'paused') THEN r.state
				ELSE 'failed' END AS state,
			CASE WHEN r.installation = i.id OR r.state NOT IN ('running', 'paused')
				THEN r.last_error
				ELSE 'restored or copied from another database: call outbox.replay() again'
			END AS last_error,
			r.replayed, r.total, r.rate, r.created_from, r.created_to, r.topic, r.type, r.key,
			r.target_topic, r.consumer, r.reprocess, r.created_by, r.reason, r.created_at,
			r.started_at, r.finished_at
		FROM outbox.replay_job r CROSS JOIN outbox.installation i) j;
