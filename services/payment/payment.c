/* SPDX-License-Identifier: PostgreSQL
 *
 * payment.c
 *	  outbox-payment: charges orders, refunds cancelled ones.
 *
 * The work is that of the functions in examples/shop/payment.sql.  With
 * gateway_url set, an order the database does not know yet is charged at an HTTP
 * gateway first, and a cancelled one is refunded there (gateway.c).
 */
#include <stdio.h>
#include <string.h>

#include "gateway.h"
#include "services/runtime/service.h"

#define GATEWAY_VALUE 1 /* of the charge's values; NULL: no gateway was asked */

static const char charge_sql[] = "SELECT shop.charge($1::jsonb, $2)";
static const char refund_sql[] = "SELECT shop.refund($1::jsonb)";
static const char status_sql[] = "SELECT shop.payment_status($1)";

static OutboxVerdict
decode_order_created(const OutboxRecord *record, OutboxCall *call)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;

	if (event == NULL)
		return verdict;
	if (outbox_decode_require(event, "orderId", JSON_STRING, call) &&
		outbox_decode_require(event, "customerId", JSON_STRING, call) &&
		outbox_decode_require(event, "amount", JSON_REAL, call) &&
		outbox_decode_require(event, "currency", JSON_STRING, call))
	{
		if (json_number_value(json_object_get(event, "amount")) <= 0)
			verdict = outbox_call_reject(call, "field \"amount\" is not above 0");
		else
		{
			outbox_call_begin(call, charge_sql);
			outbox_call_add(call, (const char *) record->value, record->value_len);
			outbox_call_add_text(call, NULL); /* GATEWAY_VALUE */
			verdict = OUTBOX_VERDICT_CALL;
		}
	}
	json_decref(event);
	return verdict;
}

static OutboxVerdict
decode_order_cancelled(const OutboxRecord *record, OutboxCall *call)
{
	return outbox_decode_call(record, "orderId", refund_sql, call);
}

/* What the database knows of the order: new, cancelled, known; false: it failed. */
static bool
read_status(OutboxDb *db, const char *payload, char *status, size_t size)
{
	PGresult *result = outbox_db_query(db, status_sql, 1, &payload);

	if (result == NULL)
		return false;
	snprintf(status, size, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	return true;
}

/* A failed look-up is told by the transaction itself, which will fail the same way. */
static OutboxVerdict
prepare_charge(OutboxDb *db, const OutboxRecord *record, OutboxCall *call)
{
	char		  status[16];
	GatewayAnswer answer = GATEWAY_APPROVED;
	OutboxVerdict verdict;

	if (!gateway_enabled())
		return OUTBOX_VERDICT_CALL;
	if (!read_status(db, call->values[0], status, sizeof(status)))
		return db->error.failure == OUTBOX_FAILURE_INFRASTRUCTURE ?
			outbox_call_wait(call, "%s", db->error.message) :
			OUTBOX_VERDICT_CALL;
	if (strcmp(status, "known") == 0)
		return OUTBOX_VERDICT_CALL;
	/* Cancelled, perhaps while an earlier try was charging: undo that. */
	if (strcmp(status, "cancelled") == 0)
		return gateway_refund(record, call->values[0], call);
	verdict = gateway_charge(record, call->values[0], call, &answer);
	if (verdict == OUTBOX_VERDICT_CALL)
		outbox_call_set_text(call, GATEWAY_VALUE,
							 answer == GATEWAY_APPROVED ? "approved" : "declined");
	return verdict;
}

static OutboxVerdict
prepare_refund(OutboxDb *db, const OutboxRecord *record, OutboxCall *call)
{
	(void) db;
	return gateway_enabled() ? gateway_refund(record, call->values[0], call) : OUTBOX_VERDICT_CALL;
}

static const OutboxHandler payment_handlers[] = {
	{"orders.created", "OrderCreated", decode_order_created, prepare_charge},
	{"orders.cancelled", "OrderCancelled", decode_order_cancelled, prepare_refund},
	{NULL, NULL, NULL, NULL},
};

static const OutboxService payment_service = {
	.name = "outbox-payment",
	.summary = "charges orders, refunds cancelled ones",
	.group = "payment-service",
	.http_port = "8181",
	.handlers = payment_handlers,
	.options = gateway_options,
	.start = gateway_start,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &payment_service);
}
