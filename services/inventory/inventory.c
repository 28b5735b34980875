/* SPDX-License-Identifier: PostgreSQL
 *
 * inventory.c
 *	  outbox-inventory: reserves stock for orders, releases that of cancelled ones.
 *
 * The work is that of the functions in examples/shop/inventory.sql.
 */
#include "services/runtime/service.h"

static const char reserve_sql[] = "SELECT shop.reserve($1::jsonb)";
static const char release_sql[] = "SELECT shop.release($1::jsonb)";

/* Is every item {sku, quantity above 0}?  false with call->error set. */
static bool
check_items(const json_t *items, OutboxCall *call)
{
	size_t	index;
	json_t *item;

	if (json_array_size(items) == 0)
	{
		outbox_call_reject(call, "field \"items\" is empty");
		return false;
	}
	json_array_foreach(items, index, item)
	{
		if (!json_is_object(item))
		{
			outbox_call_reject(call, "items[%zu] is not an object", index);
			return false;
		}
		if (!outbox_decode_require(item, "sku", JSON_STRING, call) ||
			!outbox_decode_require(item, "quantity", JSON_INTEGER, call))
			return false;
		if (json_integer_value(json_object_get(item, "quantity")) <= 0)
		{
			outbox_call_reject(call, "items[%zu]: field \"quantity\" is not above 0", index);
			return false;
		}
	}
	return true;
}

static OutboxVerdict
decode_order_created(const OutboxRecord *record, OutboxCall *call)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;

	if (event == NULL)
		return verdict;
	if (outbox_decode_require(event, "orderId", JSON_STRING, call) &&
		outbox_decode_require(event, "items", JSON_ARRAY, call) &&
		check_items(json_object_get(event, "items"), call))
	{
		outbox_call_begin(call, reserve_sql);
		outbox_call_add(call, (const char *) record->value, record->value_len);
		verdict = OUTBOX_VERDICT_CALL;
	}
	json_decref(event);
	return verdict;
}

static OutboxVerdict
decode_order_cancelled(const OutboxRecord *record, OutboxCall *call)
{
	return outbox_decode_call(record, "orderId", release_sql, call);
}

static const OutboxHandler inventory_handlers[] = {
	{"orders.created", "OrderCreated", decode_order_created, NULL},
	{"orders.cancelled", "OrderCancelled", decode_order_cancelled, NULL},
	{NULL, NULL, NULL, NULL},
};

static const OutboxService inventory_service = {
	.name = "outbox-inventory",
	.summary = "reserves stock for orders, releases that of cancelled ones",
	.group = "inventory-service",
	.http_port = "8182",
	.handlers = inventory_handlers,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &inventory_service);
}
