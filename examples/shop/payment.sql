/* SPDX-License-Identifier: PostgreSQL */
/* payment.sql: the payment service's database.
 *
 * Run by a superuser in an empty database:  psql -d payment -f payment.sql
 * The functions are called by services/payment; each does its business write and
 * emits its answer in the transaction of the batch.  They return the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'payment_service') THEN
		CREATE ROLE payment_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA shop;

/*
 * Types rather than CHECK clauses: a clause is parsed again by every statement that writes the
 * table.
 */
CREATE DOMAIN shop.credit AS numeric(14,2) CHECK (VALUE >= 0);
CREATE TYPE shop.payment_outcome AS ENUM ('approved', 'declined');

/* A customer may spend the balance and, beyond it, the credit limit. */
CREATE TABLE shop.account (
	customer_id text PRIMARY KEY,
	balance numeric(14,2) NOT NULL,
	credit_limit shop.credit NOT NULL DEFAULT 0,
	CHECK (balance >= -credit_limit)
);

/*
 * One row an order, whatever number of events name it.
 *
 *	status		NULL: cancelled before any charge
 *	detail		OK | INSUFFICIENT_FUNDS | UNKNOWN_CUSTOMER | GATEWAY_DECLINED | ORDER_CANCELLED
 *	method		account | gateway: where the money came from; NULL: none was taken
 *	correlation_id	of the flow the row was written in
 */
CREATE TABLE shop.payment (
	order_id text PRIMARY KEY,
	payment_id uuid NOT NULL DEFAULT gen_random_uuid(),
	customer_id text,
	amount numeric(14,2),
	currency text,
	status shop.payment_outcome,
	detail text,
	method text,
	completed_at timestamptz,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	cancelled_at timestamptz,
	refunded_at timestamptz
);

/*
 * Orders that a gateway is asked to charge, and that have no row yet: written before it is asked,
 * so that a cancelled order is known to be charged perhaps.
 */
CREATE TABLE shop.charge_attempt (
	order_id text PRIMARY KEY,
	began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION shop.iso8601(at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

/*
 * The answer to an order, from its row; the same row gives the same answer.  Returns the event's
 * id.
 */
CREATE FUNCTION shop.emit_payment_completed(paid shop.payment) RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
	RETURN outbox.emit('payments.completed', paid.order_id, 'PaymentCompleted', jsonb_build_object(
		'orderId', paid.order_id,
		'paymentId', paid.payment_id,
		'status', paid.status,
		'reason', CASE paid.status WHEN 'approved' THEN 'OK' ELSE 'DECLINED' END,
		'detail', paid.detail,
		'amount', paid.amount,
		'currency', paid.currency,
		'completedAt', shop.iso8601(paid.completed_at)));
END $$;

/* Takes the money of an order; NULL detail: it is there and taken. */
CREATE FUNCTION shop.take_money(p_customer text, p_amount numeric) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE shop.account a SET balance = balance - p_amount
	WHERE a.customer_id = p_customer AND a.balance - p_amount >= -a.credit_limit;
	IF FOUND THEN
		RETURN NULL;
	END IF;
	PERFORM FROM shop.account a WHERE a.customer_id = p_customer;
	RETURN CASE WHEN FOUND THEN 'INSUFFICIENT_FUNDS' ELSE 'UNKNOWN_CUSTOMER' END;
END $$;

/*
 * Of an order that has a row already: it was cancelled first, or this is not the first event to
 * name it.
 */
CREATE FUNCTION shop.charge_again(event jsonb, gateway text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_event uuid;
	paid shop.payment;
BEGIN
	SELECT * INTO paid FROM shop.payment p WHERE p.order_id = event->>'orderId' FOR UPDATE;
	IF paid.status IS NULL AND (paid.order_id IS NULL OR gateway = 'approved'
		OR (gateway = 'not_asked' AND EXISTS (SELECT FROM shop.charge_attempt a
			WHERE a.order_id = paid.order_id)))
	THEN
		/* The next try finds the order cancelled, and refunds what was charged. */
		RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
			MESSAGE = 'order was cancelled while the gateway was charging it';
	ELSIF paid.status IS NOT NULL THEN
		v_event := shop.emit_payment_completed(paid);
		RETURN 'repeated';
	END IF;
	UPDATE shop.payment p SET status = 'declined', detail = 'ORDER_CANCELLED',
		customer_id = event->>'customerId', amount = (event->>'amount')::numeric,
		currency = event->>'currency', completed_at = clock_timestamp(),
		refunded_at = CASE WHEN gateway = 'undone' THEN clock_timestamp() END
	WHERE p.order_id = paid.order_id RETURNING * INTO paid;
	DELETE FROM shop.charge_attempt a WHERE a.order_id = paid.order_id;
	v_event := shop.emit_payment_completed(paid);
	RETURN paid.status;
END $$;

/*
 * orders.created.  gateway: NULL without a payment gateway, else what it said (approved, declined),
 * undone (it has charged an order that is cancelled, and refunded it) or not_asked.
 */
CREATE FUNCTION shop.charge(event jsonb, gateway text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_customer text := event->>'customerId';
	v_amount numeric := (event->>'amount')::numeric;
	v_detail text;
	v_event uuid;
	paid shop.payment;
BEGIN
	IF v_amount <> round(v_amount, 2) THEN
		RAISE EXCEPTION USING ERRCODE = 'OBX01',
			MESSAGE = 'field "amount" has more than two decimals';
	END IF;
	IF gateway IN ('undone', 'not_asked') THEN
		RETURN shop.charge_again(event, gateway);
	END IF;
	/*
	 * Most orders are new: the money is taken first, and given back when the order has a row
	 * already.
	 */
	v_detail := CASE gateway
		WHEN 'approved' THEN NULL
		WHEN 'declined' THEN 'GATEWAY_DECLINED'
		ELSE shop.take_money(v_customer, v_amount) END;
	INSERT INTO shop.payment (order_id, customer_id, amount, currency, status, detail, method,
		completed_at)
	VALUES (event->>'orderId', v_customer, v_amount, event->>'currency',
		CASE WHEN v_detail IS NULL THEN 'approved' ELSE 'declined' END::shop.payment_outcome,
		coalesce(v_detail, 'OK'),
		CASE WHEN v_detail IS NOT NULL THEN NULL
			WHEN gateway IS NULL THEN 'account' ELSE 'gateway' END,
		clock_timestamp())
	ON CONFLICT DO NOTHING
	RETURNING * INTO paid;
	IF NOT FOUND THEN
		IF v_detail IS NULL AND gateway IS NULL THEN
			UPDATE shop.account a SET balance = balance + v_amount WHERE a.customer_id = v_customer;
		END IF;
		RETURN shop.charge_again(event, gateway);
	END IF;
	IF gateway IS NOT NULL THEN
		DELETE FROM shop.charge_attempt a WHERE a.order_id = paid.order_id;
	END IF;
	v_event := shop.emit_payment_completed(paid);
	RETURN paid.status;
END $$;

/*
 * orders.cancelled, perhaps before the order itself: a later charge is declined then.  gateway:
 * NULL without a payment gateway, else refunded or not_asked.
 */
CREATE FUNCTION shop.refund(event jsonb, gateway text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	paid shop.payment;
BEGIN
	INSERT INTO shop.payment (order_id, cancelled_at) VALUES (event->>'orderId', clock_timestamp())
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN 'cancelled_first';
	END IF;
	SELECT * INTO paid FROM shop.payment p WHERE p.order_id = event->>'orderId' FOR UPDATE;
	IF paid.cancelled_at IS NOT NULL THEN
		RETURN 'repeated';
	ELSIF paid.status = 'approved' AND paid.method = 'gateway' AND gateway = 'not_asked' THEN
		/* The next try refunds. */
		RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
			MESSAGE = 'order was charged while it was being cancelled';
	END IF;
	UPDATE shop.payment p SET cancelled_at = clock_timestamp(),
		refunded_at = CASE WHEN p.status = 'approved' THEN clock_timestamp() END
	WHERE p.order_id = paid.order_id;
	IF paid.status <> 'approved' THEN
		RETURN 'nothing_to_refund';
	END IF;
	IF paid.method = 'account' THEN
		UPDATE shop.account a SET balance = balance + paid.amount
		WHERE a.customer_id = paid.customer_id;
	END IF;
	RETURN 'refunded';
END $$;

/*
 * Before a gateway is asked to charge, of each event: new; known, it was answered before;
 * cancelled, and not charged; undo, cancelled and perhaps charged by an earlier try.
 */
CREATE FUNCTION shop.begin_charges(events text[]) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop.charge_attempt (order_id)
	SELECT DISTINCT o.id
	FROM (SELECT e.event::jsonb->>'orderId' AS id FROM unnest(events) e (event)) o
	WHERE NOT EXISTS (SELECT FROM shop.payment p WHERE p.order_id = o.id)
	ORDER BY o.id
	ON CONFLICT DO NOTHING;
	RETURN QUERY SELECT CASE WHEN p.order_id IS NULL THEN 'new'
			WHEN p.status IS NOT NULL THEN 'known'
			WHEN a.order_id IS NULL THEN 'cancelled' ELSE 'undo' END
	FROM unnest(events) WITH ORDINALITY e (event, place)
		LEFT JOIN shop.payment p ON p.order_id = e.event::jsonb->>'orderId'
		LEFT JOIN shop.charge_attempt a ON a.order_id = e.event::jsonb->>'orderId'
	ORDER BY e.place;
END $$;

/* Before a gateway is asked to refund, of each event: charged, by the gateway, or none. */
CREATE FUNCTION shop.charged_by_gateway(events text[]) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN p.status = 'approved' AND p.method = 'gateway' AND p.cancelled_at IS NULL
		THEN 'charged' ELSE 'none' END
	FROM unnest(events) WITH ORDINALITY e (event, place)
		LEFT JOIN shop.payment p ON p.order_id = e.event::jsonb->>'orderId'
	ORDER BY e.place
$$;

/* Topics it emits to and those it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('payments.completed', 6);
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('payment_service');
SELECT outbox.grant_topic('payments.completed', 'payment_service');
GRANT USAGE ON SCHEMA shop TO payment_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA shop TO payment_service;
GRANT DELETE ON shop.charge_attempt TO payment_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA shop FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA shop TO payment_service;

/* Seed: ada can pay for everything, bob for little, carol on credit only. */
INSERT INTO shop.account (customer_id, balance, credit_limit)
VALUES ('ada', 100000000, 0), ('bob', 100, 50), ('carol', 0, 100);
