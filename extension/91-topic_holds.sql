/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------ what topic holds hold
 *
 * How much each leaves out, and whether an event is.
 */

/*
 * Topics held apart, the ended holds too; both lists of a hold are read once, those of an ended one
 * not at all.
 *
 *	events, bytes	left out and not copied yet
 *	oldest_at		of the oldest of them, or of one of its batch; NULL: none
 *	copied			events that came back
 */
CREATE VIEW outbox.topic_holds AS
	SELECT h.topic, h.cause, h.partition, h.reason, h.state, h.held_at,
		outbox.name_text(h.held_by) AS held_by, coalesce(l.events, 0) - c.copies AS events,
		coalesce(l.bytes, 0) - c.bytes AS bytes,
		CASE WHEN l.events_copied > c.copies THEN least(l.oldest_copied, l.oldest_left)
			ELSE l.oldest_left END AS oldest_at,
		coalesce(h.copied, c.copies) AS copied, h.released_at,
		outbox.name_text(h.released_by) AS released_by, h.ended_at
	FROM outbox.topic_hold h
		CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.sum(copies), 0)::bigint AS copies,
				coalesce(pg_catalog.sum(bytes), 0)::bigint AS bytes,
				coalesce(pg_catalog.max(last_batch), -1) AS last_batch
			FROM outbox.topic_hold_copy
			WHERE h.state <> 'ended' AND hold = h.id AND refused_batch IS NULL) c
		CROSS JOIN LATERAL (SELECT pg_catalog.sum(events)::bigint AS events,
				pg_catalog.sum(bytes)::bigint AS bytes,
				pg_catalog.sum(events) FILTER (WHERE batch_no <= c.last_batch) AS events_copied,
				pg_catalog.min(oldest_at) FILTER (WHERE batch_no = c.last_batch) AS oldest_copied,
				pg_catalog.min(oldest_at) FILTER (WHERE batch_no > c.last_batch) AS oldest_left
			FROM outbox.topic_hold_batch
			WHERE h.state <> 'ended' AND hold = h.id) l;

/*
 * Has a topic hold left the event out?  No row: no.  The copy of it that is not refused; NULL: none
 * yet.  Rows of a hold go when all it copied is delivered: no row then either, its events are sent.
 */
CREATE FUNCTION outbox.topic_hold_event(topic text, id uuid, txid xid8, seq bigint)
RETURNS TABLE (copy_txid xid8, copy_seq bigint)
LANGUAGE plpgsql STRICT STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	held record;
BEGIN
	SELECT c.hold, c.refused_batch INTO held FROM outbox.topic_hold_copy c
	WHERE c.txid = topic_hold_event.txid;
	IF held.refused_batch IS NOT NULL THEN
		RETURN QUERY SELECT NULL::xid8, NULL::bigint;
		RETURN;
	END IF;
	-- the first batch that reaches the event has it, or one before the hold had
	SELECT h.id AS hold, l.batch_no INTO held
	FROM outbox.topic_hold h
		CROSS JOIN LATERAL (SELECT b.* FROM outbox.topic_hold_batch b
			WHERE b.hold = h.id AND (pg_visible_in_snapshot(topic_hold_event.txid, b.upper)
				OR (topic_hold_event.txid = b.upper_txid AND topic_hold_event.seq <= b.upper_seq))
			ORDER BY b.batch_no LIMIT 1) l
	WHERE h.topic = topic_hold_event.topic AND h.id IS DISTINCT FROM held.hold
		AND (pg_visible_in_snapshot(topic_hold_event.txid, l.lower)
			OR (topic_hold_event.txid = l.lower_txid
				AND topic_hold_event.seq <= l.lower_seq)) IS NOT TRUE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT c.txid, c.seq
	FROM (SELECT 1) one
		LEFT JOIN LATERAL (SELECT e.txid, e.seq
			FROM (SELECT t.txid, t.last_batch,
						lag(t.last_batch, 1, -1::bigint) OVER (ORDER BY t.txid) AS first_batch
					FROM outbox.topic_hold_copy t
					WHERE t.hold = held.hold AND t.refused_batch IS NULL) t
				CROSS JOIN LATERAL (SELECT e.txid, e.seq, e.id FROM outbox.event e
					WHERE e.txid = t.txid OFFSET 0) e
			WHERE held.batch_no BETWEEN t.first_batch AND t.last_batch
				AND e.id = topic_hold_event.id
			LIMIT 1) c ON true;
END $$;
