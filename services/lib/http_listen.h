/* SPDX-License-Identifier: PostgreSQL
 *
 * http_listen.h
 *	  Where HTTP listens: an IPv4 or IPv6 address with a port, or the path of a Unix socket.
 */
#ifndef OUTBOX_HTTP_LISTEN_H
#define OUTBOX_HTTP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

/* Option checks of http_address and of health_address (address:port, [address]:port or a path). */
extern bool outbox_http_check_address(const char *value, char *error, size_t size);
extern bool outbox_http_check_health_address(const char *value, char *error, size_t size);

/* Is health_address another place than address and port? */
extern bool outbox_http_check_places(const char *address, int port, const char *health_address,
									 char *error, size_t size);

/* Does nobody from another machine come there: a loopback address or a Unix socket? */
extern bool outbox_http_is_local(const char *address);

/* A listening socket; -1: logged as http_failed. */
extern int outbox_http_listen(const char *address, int port);
extern int outbox_http_listen_health(const char *health_address);

/* Takes away the file of a Unix socket; anything else: nothing. */
extern void outbox_http_unlisten(const char *address);

#endif /* OUTBOX_HTTP_LISTEN_H */
