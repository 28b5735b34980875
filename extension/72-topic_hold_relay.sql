/* SPDX-License-Identifier: PostgreSQL */
/* ---------------------------------------------- topics held: the relay
 *
 * What the relay does with holds that is more than a statement.
 */

/*
 * After a restore from a dump, whose transaction ids are another server's: of topics that are held
 * the events that wait get txid 5 and come again; copies that must not come, for they are refused
 * or their events come again, get 4.  delivered: transactions that Kafka has; NULL: all.  No hold
 * has left out anything afterwards, nor ended with a transaction of this server.
 */
CREATE FUNCTION outbox.topic_hold_restamp(delivered pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE outbox.event e SET txid = '4'
	FROM outbox.topic_hold_copy c JOIN outbox.topic_hold h ON h.id = c.hold
	WHERE e.txid = c.txid AND e.topic = h.topic AND (c.refused_batch IS NOT NULL
		OR (h.state <> 'ended' AND NOT pg_visible_in_snapshot(c.txid, delivered)));
	UPDATE outbox.event e SET txid = '5'
	FROM outbox.topic_hold_batch b JOIN outbox.topic_hold h ON h.id = b.hold
	WHERE h.state <> 'ended' AND e.topic = h.topic
		AND e.txid >= pg_snapshot_xmin(b.lower)
		AND e.txid <= greatest(pg_snapshot_xmax(b.upper), b.upper_txid)
		AND (pg_visible_in_snapshot(e.txid, b.upper)
			OR coalesce(e.txid = b.upper_txid AND e.seq <= b.upper_seq, false))
		AND NOT pg_visible_in_snapshot(e.txid, b.lower)
		AND NOT coalesce(e.txid = b.lower_txid AND e.seq <= b.lower_seq, false)
		AND NOT EXISTS (SELECT FROM outbox.dead_letter d
			WHERE d.origin = 'relay' AND d.txid = e.txid AND d.seq = e.seq)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
			WHERE c.hold = h.id AND c.txid = e.txid)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
				JOIN outbox.event x ON x.txid = c.txid AND x.id = e.id
			WHERE c.hold = h.id)
		AND NOT EXISTS (SELECT FROM outbox.topic_hold_copy c
				JOIN outbox.dead_letter d ON d.txid = c.txid AND d.event_id = e.id
					AND d.origin = 'relay'
			WHERE c.hold = h.id);
	UPDATE outbox.topic_hold SET ended_txid = NULL WHERE ended_txid IS NOT NULL;
	DELETE FROM outbox.topic_hold_copy;
	DELETE FROM outbox.topic_hold_batch;
END
$$;
