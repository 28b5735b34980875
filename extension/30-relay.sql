/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------------------------ relay
 *
 * The installation that a relay belongs to, how the relay is started and stopped, and what it tells
 * of itself.  start_relay() and stop_relay() turn the database setting outbox.relay, which the
 * launcher looks at when they commit (src/utility.c); the functions they call are in src/status.c.
 */

/*
 * The installation's name in Kafka: group outbox-relay.<id> and transactional.id.
 *
 *	marker			id of the data directory's marker (bgworker/launcher/marker.c) that this
 *					database belongs to; NULL = no relay has run in it
 *	marker_timeline	the server's timeline when that was so
 *	held			why the relay holds as a copy, until outbox.adopt(); NULL = it does not
 *	held_delivered	Kafka is known to have the last batch
 */
CREATE TABLE outbox.installation (
	id uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	marker uuid,
	marker_timeline integer,
	held text,
	held_delivered boolean NOT NULL DEFAULT false,
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO outbox.installation (id) VALUES (pg_catalog.gen_random_uuid());

/*
 * May start_relay() go on?  SQLSTATE 55000: not preloaded, no brokers, replica role; 25001: inside
 * a subtransaction; 53400: the server has too many databases; 25006: a standby, or read only.
 */
CREATE FUNCTION outbox.check_start() RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_check_start';

/* Where this database is, as the batch log notes it. */
CREATE FUNCTION outbox.server_identity(
		OUT timeline integer, OUT system_id bigint, OUT database oid)
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'outbox_server_identity';

/*
 * The relay's shared status; counters count since the server's start.  state: as in
 * bgworker/README.md, or not preloaded, standby (the relay runs on the primary), suspended: a
 * command keeps it away, which hold_reason names.  hold_reason also says when outbox.batch is empty
 * and start_relay() has to be called.  backlog_bytes: keys, payloads and headers of committed
 * events not delivered yet, what outbox.max_backlog limits; without a relay and without a limit,
 * those since the server's start; NULL when not preloaded and on a standby.  recovered_at: since
 * when what last_error tells of is over; NULL: it is not, or there is none.
 */
CREATE FUNCTION outbox.relay_slot(
		OUT state text, OUT hold_reason text, OUT pid integer, OUT sender_pid integer,
		OUT delivered_batch bigint, OUT events_sent bigint, OUT bytes_sent bigint,
		OUT batches_sent bigint, OUT events_refused bigint, OUT recoveries bigint,
		OUT suspect_transactions bigint, OUT possibly_doubled bigint, OUT refusal_rounds bigint,
		OUT rotations bigint, OUT rotations_refused bigint,
		OUT started_at timestamptz, OUT delivered_at timestamptz,
		OUT last_error text, OUT last_error_at timestamptz,
		OUT delivery text, OUT order_mode text, OUT kafka text, OUT switched_on boolean,
		OUT backlog_bytes bigint, OUT recovered_at timestamptz)
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_relay_slot';

/*
 * A row for each database of the server that emitted, relays or was found with events
 * waiting.  wanted: its switch is on and a relay can run.  waiting_since: time of the oldest
 * event known to wait without a relay; NULL = none, or a relay has delivered it.
 */
CREATE FUNCTION outbox.database_slots(
		OUT database oid, OUT wanted boolean, OUT state text, OUT hold_reason text,
		OUT pid integer, OUT sender_pid integer, OUT waiting_since timestamptz,
		OUT delivered_at timestamptz, OUT last_error text, OUT last_error_at timestamptz,
		OUT recovered_at timestamptz)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'outbox_database_slots';

/*
 * Events restored from a dump taken before the first start, with transaction ids that this server
 * has yet to give: no snapshot would see them until then.  They become this transaction's.
 */
CREATE FUNCTION outbox.restamp_restored() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM outbox.event e
			WHERE e.txid >= pg_snapshot_xmax(pg_current_snapshot())
				AND e.txid <> pg_current_xact_id()) THEN
		ALTER TABLE ONLY outbox.event DISABLE TRIGGER refuse_change;
		UPDATE outbox.event e SET txid = pg_current_xact_id()
			WHERE e.txid >= pg_snapshot_xmax(pg_current_snapshot())
				AND e.txid <> pg_current_xact_id();
		ALTER TABLE ONLY outbox.event ENABLE ALWAYS TRIGGER refuse_change;
	END IF;
END
$$;

/*
 * Begins the batch log if it is empty, and turns the relay on: it starts when this commits.
 * SQLSTATE as check_start(); 55000 also when a trigger keeps the log from being begun.
 */
CREATE FUNCTION outbox.start_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM outbox.check_start();
	IF NOT EXISTS (SELECT FROM outbox.batch) THEN
		LOCK TABLE outbox.batch IN SHARE ROW EXCLUSIVE MODE;
		PERFORM outbox.restamp_restored();
		INSERT INTO outbox.batch (batch_no, leaf, nonce, lower, upper, events, digest,
								  txid, timeline, system_id, database, prepared_at)
			SELECT 0, 0, gen_random_uuid(), '3:3:', '3:3:', 0, 0,
				   pg_current_xact_id(), i.timeline, i.system_id, i.database, clock_timestamp()
			FROM outbox.server_identity() i
			WHERE NOT EXISTS (SELECT FROM outbox.batch);
		IF NOT FOUND AND NOT EXISTS (SELECT FROM outbox.batch) THEN
			RAISE object_not_in_prerequisite_state USING
				MESSAGE = 'a trigger or rule of outbox.batch keeps its first row '
					'from being written',
				HINT = 'Drop it, then call outbox.start_relay() again.';
		END IF;
	ELSIF (SELECT pid IS NOT NULL FROM outbox.relay_slot()) AND
		EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
				WHERE d.datname = current_database() AND s.setrole = 0 AND
					'outbox.relay=on' = ANY (s.setconfig)) THEN
		RAISE NOTICE 'the relay of database "%" runs already', current_database();
		RETURN;
	END IF;
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = on', current_database());
END
$$;

/* Turns the relay off: it ends when this commits.  Events are stored all the same. */
CREATE FUNCTION outbox.stop_relay() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET outbox.relay = off', current_database());
END
$$;

/* Ends a hold.  'resend': what is not known to be delivered is sent; 'skip': it
 * is taken as delivered. */
CREATE FUNCTION outbox.adopt(decision text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_adopt';
