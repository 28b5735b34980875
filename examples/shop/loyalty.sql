/* SPDX-License-Identifier: PostgreSQL */
/* loyalty.sql: points for what customers order.
 *
 * Run by a superuser in an empty database:  psql -d loyalty -f loyalty.sql
 * outbox-consume with loyalty.conf calls loyalty.on_event, which returns the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'loyalty_service') THEN
		CREATE ROLE loyalty_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA loyalty;

/*
 * Orders of a customer come from all partitions: batches of two members may wait for each other
 * here, then one is repeated (40P01), which counts as no try.
 */
CREATE TABLE loyalty.account (
	customer_id text PRIMARY KEY,
	points bigint NOT NULL CHECK (points >= 0)
);

/*
 * One row an order, whatever number of events name it.
 *
 *	points		what the order earned, a point for each whole unit of its amount; NULL: cancelled
 *				before it was seen, and earns nothing
 *	returned_at	cancelled, the points are taken back
 */
CREATE TABLE loyalty.booking (
	order_id text PRIMARY KEY,
	customer_id text NOT NULL,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	points bigint,
	earned_at timestamptz,
	returned_at timestamptz
);

/* orders.created */
CREATE FUNCTION loyalty.earn(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	booked loyalty.booking;
BEGIN
	INSERT INTO loyalty.booking (order_id, customer_id, points, earned_at)
	VALUES (outbox.required(event.value, 'orderId'), outbox.required(event.value, 'customerId'),
		floor(outbox.required(event.value, 'amount')::numeric), clock_timestamp())
	ON CONFLICT DO NOTHING RETURNING * INTO booked;
	IF NOT FOUND THEN
		RETURN 'repeated';
	END IF;
	INSERT INTO loyalty.account AS a (customer_id, points)
	VALUES (booked.customer_id, booked.points)
	ON CONFLICT (customer_id) DO UPDATE SET points = a.points + excluded.points;
	RETURN 'earned';
END $$;

/* orders.cancelled, perhaps before the order itself */
CREATE FUNCTION loyalty.give_back(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_order text := outbox.required(event.value, 'orderId');
	booked loyalty.booking;
BEGIN
	INSERT INTO loyalty.booking (order_id, customer_id, returned_at)
	VALUES (v_order, outbox.required(event.value, 'customerId'), clock_timestamp())
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN 'cancelled_first';
	END IF;
	UPDATE loyalty.booking b SET returned_at = clock_timestamp()
	WHERE b.order_id = v_order AND b.returned_at IS NULL RETURNING * INTO booked;
	IF NOT FOUND THEN
		RETURN 'repeated';
	END IF;
	UPDATE loyalty.account a SET points = a.points - booked.points
	WHERE a.customer_id = booked.customer_id;
	RETURN 'returned';
END $$;

CREATE FUNCTION loyalty.on_event(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE event.topic WHEN 'orders.cancelled' THEN loyalty.give_back(event)
		ELSE loyalty.earn(event) END;
END $$;

/* Topics it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('loyalty_service');
GRANT USAGE ON SCHEMA loyalty TO loyalty_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA loyalty TO loyalty_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA loyalty FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA loyalty TO loyalty_service;
