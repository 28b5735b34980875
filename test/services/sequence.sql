/* SPDX-License-Identifier: PostgreSQL */
/* sequence.sql: the database of test/services/sequence.c.
 *
 * The checker's load gives every committed event of a key the next rank, so a
 * consumer must see 1, 2, 3, ... of each key.
 */
CREATE SCHEMA sequence;

/* The rank taken last of each key. */
CREATE TABLE sequence.latest (key text PRIMARY KEY, rank bigint NOT NULL) WITH (fillfactor = 50);

/* Every effect, in the order it was made; nothing here refuses a second one of an event. */
CREATE TABLE sequence.taken (
	place bigint GENERATED ALWAYS AS IDENTITY,
	instance text NOT NULL,
	key text NOT NULL,
	rank bigint NOT NULL,
	event_id uuid NOT NULL
);

CREATE FUNCTION sequence.take(p_instance text, p_key text, p_event jsonb, p_event_id uuid)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_rank bigint := p_event->>'keySeq';
	v_latest bigint;
BEGIN
	SELECT l.rank INTO v_latest FROM sequence.latest l WHERE l.key = p_key FOR UPDATE;
	IF v_rank <> coalesce(v_latest, 0) + 1 THEN
		RAISE EXCEPTION 'key % has rank % after %', p_key, v_rank, coalesce(v_latest, 0);
	END IF;
	INSERT INTO sequence.latest AS l VALUES (p_key, v_rank)
	ON CONFLICT (key) DO UPDATE SET rank = excluded.rank;
	INSERT INTO sequence.taken (instance, key, rank, event_id)
	VALUES (p_instance, p_key, v_rank, p_event_id);
	RETURN 'taken';
END $$;
