/* SPDX-License-Identifier: PostgreSQL
 *
 * http_listen.c
 *	  Addresses as settings have them, and sockets on them.
 *
 * Runs on the main thread.
 */
#define _GNU_SOURCE
#include "http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define ADDRESS_MAX sizeof(((struct sockaddr_un *) NULL)->sun_path)
#define BACKLOG		511

typedef struct Place
{
	union
	{
		struct sockaddr		any;
		struct sockaddr_in	v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un	local;
	} address;
	socklen_t len;
} Place;

static bool
find_place(const char *address, int port, Place *place)
{
	memset(place, 0, sizeof(*place));
	if (address[0] == '/' && strlen(address) < ADDRESS_MAX)
	{
		place->address.local.sun_family = AF_UNIX;
		strcpy(place->address.local.sun_path, address);
		place->len = sizeof(struct sockaddr_un);
	}
	else if (inet_pton(AF_INET, address, &place->address.v4.sin_addr) == 1)
	{
		place->address.v4.sin_family = AF_INET;
		place->address.v4.sin_port = htons((uint16_t) port);
		place->len = sizeof(struct sockaddr_in);
	}
	else if (inet_pton(AF_INET6, address, &place->address.v6.sin6_addr) == 1)
	{
		place->address.v6.sin6_family = AF_INET6;
		place->address.v6.sin6_port = htons((uint16_t) port);
		place->len = sizeof(struct sockaddr_in6);
	}
	return place->len != 0;
}

bool
outbox_http_check_address(const char *value, char *error, size_t size)
{
	Place place;

	if (find_place(value, 1, &place))
		return true;
	snprintf(error, size,
			 "no IPv4 address, as 127.0.0.1 or 0.0.0.0, no IPv6 address, as ::1, and no path of a "
			 "socket, as /run/x (at most %zu bytes): a name is not looked up",
			 ADDRESS_MAX - 1);
	return false;
}

/* address:port, [address]:port or a path. */
static bool
split_place(const char *value, char *address, int *port)
{
	const char *colon = strrchr(value, ':');
	size_t		len;
	char	   *end;
	long		number;

	*port = 0;
	if (strlen(value) >= ADDRESS_MAX)
		return false;
	strcpy(address, value);
	if (value[0] == '/')
		return true;
	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return false;
	number = strtol(colon + 1, &end, 10);
	if (*end != '\0' || number < 1 || number > 65535)
		return false;
	*port = (int) number;
	len = (size_t) (colon - value);
	address[len] = '\0';
	if (address[0] != '[')
		return strchr(address, ':') == NULL;
	if (address[len - 1] != ']')
		return false;
	address[len - 1] = '\0';
	memmove(address, address + 1, len - 1);
	return strchr(address, ':') != NULL;
}

static bool
find_health_place(const char *value, Place *place)
{
	char address[ADDRESS_MAX];
	int	 port;

	return split_place(value, address, &port) && find_place(address, port, place);
}

bool
outbox_http_check_health_address(const char *value, char *error, size_t size)
{
	Place place;

	if (value[0] == '\0' || find_health_place(value, &place))
		return true;
	snprintf(error, size,
			 "neither an address with a port, as 127.0.0.1:8281 or [::1]:8281, nor the path of a "
			 "socket");
	return false;
}

bool
outbox_http_check_places(const char *address, int port, const char *health_address, char *error,
						 size_t size)
{
	Place one;
	Place two;

	if (health_address[0] == '\0' || !find_place(address, port, &one) ||
		!find_health_place(health_address, &two) || one.len != two.len ||
		memcmp(&one.address, &two.address, one.len) != 0)
		return true;
	snprintf(error, size, "http_address and http_port are the same place");
	return false;
}

bool
outbox_http_is_local(const char *address)
{
	Place place;

	if (!find_place(address, 1, &place))
		return false;
	if (place.address.any.sa_family == AF_INET)
		return ntohl(place.address.v4.sin_addr.s_addr) >> 24 == 127;
	return place.address.any.sa_family == AF_UNIX ||
		IN6_IS_ADDR_LOOPBACK(&place.address.v6.sin6_addr) ||
		(IN6_IS_ADDR_V4MAPPED(&place.address.v6.sin6_addr) &&
		 place.address.v6.sin6_addr.s6_addr[12] == 127);
}

/* A socket's file that nobody listens on is what a killed program has left. */
static void
remove_left(const Place *place)
{
	struct stat found;
	int			fd;

	if (lstat(place->address.local.sun_path, &found) != 0 || !S_ISSOCK(found.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, &place->address.any, place->len) != 0 && errno == ECONNREFUSED)
		unlink(place->address.local.sun_path);
	if (fd >= 0)
		close(fd);
}

/* -1: errno tells. */
static int
listen_at(const Place *place)
{
	const int yes = 1;
	const int no = 0;
	int		  family = place->address.any.sa_family;
	int		  fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int		  failed;

	if (fd < 0)
		return -1;
	if (family == AF_UNIX)
		remove_left(place);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (family == AF_INET6) /* ::, where IPv4 comes as well */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (bind(fd, &place->address.any, place->len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	failed = errno;
	close(fd);
	errno = failed;
	return -1;
}

int
outbox_http_listen(const char *address, int port)
{
	Place place;
	int	  fd = -1;

	errno = EINVAL;
	if (find_place(address, port, &place))
		fd = listen_at(&place);
	if (fd < 0)
		outbox_log(OUTBOX_LOG_ERROR, "http_failed", "cannot listen on %s:%d: %s", address, port,
				   strerror(errno));
	return fd;
}

int
outbox_http_listen_health(const char *health_address)
{
	char address[ADDRESS_MAX];
	int	 port;

	return split_place(health_address, address, &port) ? outbox_http_listen(address, port) : -1;
}

void
outbox_http_unlisten(const char *address)
{
	if (address[0] == '/')
		unlink(address);
}
