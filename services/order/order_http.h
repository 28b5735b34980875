/* SPDX-License-Identifier: PostgreSQL
 *
 * order_http.h
 *	  POST /orders and GET /orders/{id}.
 */
#ifndef OUTBOX_ORDER_HTTP_H
#define OUTBOX_ORDER_HTTP_H

#include "services/runtime/service.h"

/* Of OutboxService; ended by a NULL method. */
extern const OutboxRoute order_routes[];

#endif /* OUTBOX_ORDER_HTTP_H */
