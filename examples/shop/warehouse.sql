/* SPDX-License-Identifier: PostgreSQL */
/* warehouse.sql: what is to be picked from the shelves.
 *
 * Run by a superuser in an empty database:  psql -d warehouse -f warehouse.sql
 * outbox-consume with warehouse.conf calls warehouse.on_event, which returns the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'warehouse_service') THEN
		CREATE ROLE warehouse_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA warehouse;

/*
 * One row an order, whatever number of events name it.
 *
 *	status		open | withdrawn; withdrawn without items: cancelled before it was reserved
 */
CREATE TABLE warehouse.pick_list (
	order_id text PRIMARY KEY,
	reservation_id uuid,
	status text NOT NULL CHECK (status IN ('open', 'withdrawn')),
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	opened_at timestamptz,
	withdrawn_at timestamptz
);
CREATE TABLE warehouse.pick_item (
	order_id text NOT NULL REFERENCES warehouse.pick_list,
	sku text NOT NULL,
	quantity integer NOT NULL CHECK (quantity > 0),
	PRIMARY KEY (order_id, sku)
);

/* What pickers work from: one walk along the shelves. */
CREATE VIEW warehouse.to_pick AS
	SELECT i.sku, sum(i.quantity) AS quantity, count(*) AS orders, min(l.opened_at) AS oldest
	FROM warehouse.pick_list l JOIN warehouse.pick_item i USING (order_id)
	WHERE l.status = 'open'
	GROUP BY i.sku;

/* inventory.reserved; an order whose stock was rejected has nothing to pick. */
CREATE FUNCTION warehouse.open_list(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_order text := outbox.required(event.value, 'orderId');
BEGIN
	IF outbox.required(event.value, 'status') <> 'reserved' THEN
		RETURN 'nothing_to_pick';
	END IF;
	INSERT INTO warehouse.pick_list (order_id, reservation_id, status, opened_at)
	VALUES (v_order, (event.value->>'reservationId')::uuid, 'open', clock_timestamp())
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN 'repeated';
	END IF;
	INSERT INTO warehouse.pick_item (order_id, sku, quantity)
	SELECT v_order, i->>'sku', sum((i->>'quantity')::integer)
	FROM jsonb_array_elements(event.value->'items') i GROUP BY i->>'sku';
	RETURN 'opened';
END $$;

/* orders.cancelled, perhaps before the reservation: a later one is not picked then. */
CREATE FUNCTION warehouse.withdraw_list(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO warehouse.pick_list AS l (order_id, status, withdrawn_at)
	VALUES (outbox.required(event.value, 'orderId'), 'withdrawn', clock_timestamp())
	ON CONFLICT (order_id) DO UPDATE SET status = 'withdrawn', withdrawn_at = clock_timestamp()
	WHERE l.status = 'open';
	RETURN CASE WHEN FOUND THEN 'withdrawn' ELSE 'repeated' END;
END $$;

CREATE FUNCTION warehouse.on_event(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE event.topic WHEN 'orders.cancelled' THEN warehouse.withdraw_list(event)
		ELSE warehouse.open_list(event) END;
END $$;

/* Topics it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('inventory.reserved', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('warehouse_service');
GRANT USAGE ON SCHEMA warehouse TO warehouse_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA warehouse TO warehouse_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA warehouse FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA warehouse TO warehouse_service;
