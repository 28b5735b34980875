/* SPDX-License-Identifier: PostgreSQL */
/* inventory.sql: the inventory service's database.
 *
 * Run by a superuser in an empty database:  psql -d inventory -f inventory.sql
 * The functions are called by services/inventory; each does its business write
 * and emits its answer in the transaction of the batch.  They return the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'inventory_service') THEN
		CREATE ROLE inventory_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA shop;

CREATE TABLE shop.stock (
	sku text PRIMARY KEY,
	available integer NOT NULL CHECK (available >= 0),
	reserved integer NOT NULL DEFAULT 0 CHECK (reserved >= 0)
);

/*
 * One row an order, whatever number of events name it.
 *
 *	status	reserved | rejected; NULL: cancelled before any reservation
 *	detail	OK | OUT_OF_STOCK | UNKNOWN_SKU | ORDER_CANCELLED
 *	items	[{sku, quantity}], one an sku, by sku
 *	correlation_id	of the flow the row was written in
 */
CREATE TABLE shop.reservation (
	order_id text PRIMARY KEY,
	reservation_id uuid NOT NULL DEFAULT gen_random_uuid(),
	items jsonb,
	status text CHECK (status IN ('reserved', 'rejected')),
	detail text,
	reserved_at timestamptz,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	cancelled_at timestamptz,
	released_at timestamptz
);

CREATE FUNCTION shop.iso8601(at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

/* The answer to an order, from its row; the same row gives the same answer. */
CREATE FUNCTION shop.emit_inventory_reserved(answer shop.reservation) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM outbox.emit('inventory.reserved', answer.order_id, 'InventoryReserved',
		jsonb_build_object(
			'orderId', answer.order_id,
			'reservationId', answer.reservation_id,
			'status', answer.status,
			'reason', answer.detail,
			'items', answer.items,
			'reservedAt', shop.iso8601(answer.reserved_at)));
END $$;

/* Moves all items from available to reserved, or none; NULL: done, else why not. */
CREATE FUNCTION shop.take_stock(p_items jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_known bigint;
	v_enough bigint;
BEGIN
	/*
	 * In the order of sku, so two orders never wait for each other; batches of two members, each
	 * of many orders, still may: then one is repeated (40P01), which counts as no try.
	 */
	PERFORM FROM shop.stock s
	WHERE s.sku IN (SELECT i->>'sku' FROM jsonb_array_elements(p_items) i)
	ORDER BY s.sku FOR UPDATE;
	SELECT count(*), count(*) FILTER (WHERE s.available >= (i->>'quantity')::bigint)
	INTO v_known, v_enough
	FROM jsonb_array_elements(p_items) i JOIN shop.stock s ON s.sku = i->>'sku';
	IF v_known < jsonb_array_length(p_items) THEN
		RETURN 'UNKNOWN_SKU';
	ELSIF v_enough < v_known THEN
		RETURN 'OUT_OF_STOCK';
	END IF;
	UPDATE shop.stock s
	SET available = s.available - (i->>'quantity')::integer,
		reserved = s.reserved + (i->>'quantity')::integer
	FROM jsonb_array_elements(p_items) i WHERE s.sku = i->>'sku';
	RETURN NULL;
END $$;

/* orders.created */
CREATE FUNCTION shop.reserve(event jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_order text := event->>'orderId';
	v_items jsonb;
	v_detail text;
	answer shop.reservation;
BEGIN
	SELECT jsonb_agg(jsonb_build_object('sku', g.sku, 'quantity', g.quantity) ORDER BY g.sku)
	INTO v_items
	FROM (SELECT i->>'sku' AS sku, sum((i->>'quantity')::bigint) AS quantity
		FROM jsonb_array_elements(event->'items') i GROUP BY 1) g;
	SELECT * INTO answer FROM shop.reservation r WHERE r.order_id = v_order FOR UPDATE;
	IF FOUND AND answer.status IS NULL THEN
		UPDATE shop.reservation r SET status = 'rejected', detail = 'ORDER_CANCELLED',
			items = v_items, reserved_at = clock_timestamp()
		WHERE r.order_id = v_order RETURNING * INTO answer;
	ELSIF FOUND THEN
		PERFORM shop.emit_inventory_reserved(answer);
		RETURN 'repeated';
	ELSE
		v_detail := shop.take_stock(v_items);
		INSERT INTO shop.reservation (order_id, items, status, detail, reserved_at)
		VALUES (v_order, v_items, CASE WHEN v_detail IS NULL THEN 'reserved' ELSE 'rejected' END,
			coalesce(v_detail, 'OK'), clock_timestamp())
		ON CONFLICT DO NOTHING
		RETURNING * INTO answer;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
				MESSAGE = 'another transaction is reserving for this order';
		END IF;
	END IF;
	PERFORM shop.emit_inventory_reserved(answer);
	RETURN answer.status;
END $$;

/* orders.cancelled, perhaps before the order itself: a later reservation is rejected then. */
CREATE FUNCTION shop.release(event jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	answer shop.reservation;
BEGIN
	INSERT INTO shop.reservation (order_id, cancelled_at)
	VALUES (event->>'orderId', clock_timestamp())
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN 'cancelled_first';
	END IF;
	SELECT * INTO answer FROM shop.reservation r WHERE r.order_id = event->>'orderId' FOR UPDATE;
	IF answer.cancelled_at IS NOT NULL THEN
		RETURN 'repeated';
	END IF;
	UPDATE shop.reservation r SET cancelled_at = clock_timestamp(),
		released_at = CASE WHEN r.status = 'reserved' THEN clock_timestamp() END
	WHERE r.order_id = answer.order_id;
	IF answer.status <> 'reserved' THEN
		RETURN 'nothing_to_release';
	END IF;
	PERFORM FROM shop.stock s
	WHERE s.sku IN (SELECT i->>'sku' FROM jsonb_array_elements(answer.items) i)
	ORDER BY s.sku FOR UPDATE;
	UPDATE shop.stock s
	SET available = s.available + (i->>'quantity')::integer,
		reserved = s.reserved - (i->>'quantity')::integer
	FROM jsonb_array_elements(answer.items) i WHERE s.sku = i->>'sku';
	RETURN 'released';
END $$;

/* Topics it emits to and those it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('inventory.reserved', 6);
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('inventory_service');
SELECT outbox.grant_topic('inventory.reserved', 'inventory_service');
GRANT USAGE ON SCHEMA shop TO inventory_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA shop TO inventory_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA shop FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA shop TO inventory_service;

/* Seed: plenty of some, none of one. */
INSERT INTO shop.stock (sku, available)
VALUES ('book', 100000000), ('pen', 100000000), ('car', 1000), ('unicorn', 0);
