/* SPDX-License-Identifier: PostgreSQL
 *
 * order_http.h
 *	  POST /orders and GET /orders/{id}.
 */
#ifndef OUTBOX_ORDER_HTTP_H
#define OUTBOX_ORDER_HTTP_H

#include "services/runtime/service.h"

extern const OutboxRoute order_routes[];

/* Once, before HTTP is served. */
extern bool order_http_start(const OutboxConfig *config);

#endif /* OUTBOX_ORDER_HTTP_H */
