/* SPDX-License-Identifier: PostgreSQL
 *
 * test_session.c
 *	  What a server says to a new connection, and what becomes of it: a server
 *	  of a few lines refuses each, or is a standby.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"
#include "services/lib/db_session.h"
#include "services/lib/objects.h"

typedef struct Refusal
{
	const char	   *sqlstate;
	const char	   *message;
	OutboxDbFailure failure;
} Refusal;

/* The tries of one outbox_db_connect: the second one asks for the code. */
#define TRIES 2

static const Refusal refusals[] = {
	{"28P01", "password authentication failed for user \"u\"", OUTBOX_FAILURE_DEPLOY},
	{"28000", "no pg_hba.conf entry for host", OUTBOX_FAILURE_DEPLOY},
	{"3D000", "database \"d\" does not exist", OUTBOX_FAILURE_DEPLOY},
	{"42501", "permission denied for database \"d\"", OUTBOX_FAILURE_DEPLOY},
	{"08P01", "no such database: d", OUTBOX_FAILURE_DEPLOY},
	{"08P01", "query_wait_timeout", OUTBOX_FAILURE_INFRASTRUCTURE},
	{"53300", "sorry, too many clients already", OUTBOX_FAILURE_INFRASTRUCTURE},
	{"53300", "too many connections for role \"u\"", OUTBOX_FAILURE_INFRASTRUCTURE},
	{"55000", "database \"d\" is not currently accepting connections",
	 OUTBOX_FAILURE_INFRASTRUCTURE},
	{"57P03", "the database system is starting up", OUTBOX_FAILURE_INFRASTRUCTURE},
	{"57P01", "terminating connection due to administrator command", OUTBOX_FAILURE_INFRASTRUCTURE},
};

static int listener;

static bool
read_all(int file, void *buffer, size_t len)
{
	return recv(file, buffer, len, MSG_WAITALL) == (ssize_t) len;
}

/* A message of the protocol: its length, which counts itself, and the rest. */
static bool
read_message(int file)
{
	char	 message[1000];
	uint32_t len;

	return read_all(file, &len, sizeof(len)) && ntohl(len) <= sizeof(message) &&
		read_all(file, message, ntohl(len) - sizeof(len));
}

static void
send_message(int file, char type, const void *text, size_t size)
{
	char	 message[1000] = {type};
	uint32_t len = htonl((uint32_t) (size + sizeof(len)));

	memcpy(message + 1, &len, sizeof(len));
	memcpy(message + 1 + sizeof(len), text, size);
	if (send(file, message, 1 + sizeof(len) + size, MSG_NOSIGNAL) < 0)
		abort();
}

static void
refuse(int file, const Refusal *refusal)
{
	char text[900];

	if (read_message(file))
		send_message(file, 'E', text,
					 (size_t) snprintf(text, sizeof(text), "SFATAL%cVFATAL%cC%s%cM%s%c", 0, 0,
									   refusal->sqlstate, 0, refusal->message, 0) +
						 1);
}

static void *
serve(void *arg)
{
	for (int i = 0; i < TRIES; i++)
	{
		int file = accept(listener, NULL, NULL);

		refuse(file, arg);
		close(file);
	}
	return NULL;
}

/*
 * A session of a standby: says so at its start and when it is asked.  Counts the questions in *arg.
 */
static void *
serve_standby(void *arg)
{
	static const char version[] = "server_version\00015.0";
	static const char writes[] = "default_transaction_read_only\0off";
	static const char standby[] = "in_hot_standby\0on";
	static const char column[] = "\0\1c\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0";
	static const char row[] = "\0\1\0\0\0\2on";
	char			  type;

	for (int i = 0; i < TRIES; i++)
	{
		int file = accept(listener, NULL, NULL);

		if (!read_message(file))
			abort();
		send_message(file, 'R', "\0\0\0", 4);
		send_message(file, 'S', version, sizeof(version));
		send_message(file, 'S', writes, sizeof(writes));
		send_message(file, 'S', standby, sizeof(standby));
		send_message(file, 'Z', "I", 1);
		while (read_all(file, &type, 1) && read_message(file) && type == 'Q')
		{
			++*(int *) arg;
			send_message(file, 'T', column, sizeof(column));
			send_message(file, 'D', row, sizeof(row) - 1);
			send_message(file, 'C', "SELECT 1", sizeof("SELECT 1"));
			send_message(file, 'Z', "I", 1);
		}
		close(file);
	}
	return NULL;
}

static void
test_standby(const char *conninfo)
{
	OutboxDb  db;
	pthread_t server;
	int		  questions = 0;

	if (!outbox_db_open(&db, conninfo, 0) ||
		pthread_create(&server, NULL, serve_standby, &questions) != 0)
		abort();
	CHECK(!outbox_db_connect(&db) && db.conn == NULL, "a standby is no place to work");
	pthread_join(server, NULL);
	CHECK(questions == 1, "it was asked itself, once");
	CHECK(db.error.failure == OUTBOX_FAILURE_INFRASTRUCTURE &&
			  strstr(db.error.message, "read-only") != NULL,
		  "that is waited for");
	outbox_db_close(&db);
}

/*
 * The user has said that a standby will do: it is taken as it is; that it answers no more is an
 * outage.
 */
static void
test_own_attributes(const char *server_conninfo)
{
	OutboxDb  db;
	pthread_t server;
	char	  conninfo[300];
	int		  questions = 0;

	snprintf(conninfo, sizeof(conninfo), "%s target_session_attrs=any", server_conninfo);
	if (!outbox_db_open(&db, conninfo, 0) ||
		pthread_create(&server, NULL, serve_standby, &questions) != 0)
		abort();
	for (int i = 0; i < TRIES; i++)
		CHECK(!outbox_db_connect(&db) && db.error.failure == OUTBOX_FAILURE_INFRASTRUCTURE &&
				  strstr(db.error.message, "read-only") == NULL,
			  "target_session_attrs of the user's own: no host is refused");
	pthread_join(server, NULL);
	CHECK(questions == 0, "nor asked");
	outbox_db_close(&db);
}

static void
test_refusal(const Refusal *refusal, const char *conninfo)
{
	OutboxDb  db;
	pthread_t server;
	bool	  connected;

	if (!outbox_db_open(&db, conninfo, 0) ||
		pthread_create(&server, NULL, serve, (void *) refusal) != 0)
		abort();
	connected = outbox_db_connect(&db);
	pthread_join(server, NULL);
	CHECK(!connected && db.error.failure == refusal->failure &&
			  strstr(db.error.message, refusal->message) != NULL,
		  refusal->message);
	CHECK(db.conn == NULL &&
			  strcmp(db.error.sqlstate,
					 refusal->failure == OUTBOX_FAILURE_DEPLOY ? refusal->sqlstate :
																 OUTBOX_DB_LOST) == 0,
		  refusal->sqlstate);
	outbox_db_close(&db);
}

static void
test_objects(void)
{
	char reason[512] = "";

	CHECK(outbox_objects_serve("1.2", "1.2", reason, sizeof(reason)), "objects of that version");
	CHECK(outbox_objects_serve("1.10", "1.2", reason, sizeof(reason)), "and of a later minor one");
	CHECK(outbox_objects_serve("1.2dev", "1.2", reason, sizeof(reason)), "whatever follows");
	CHECK(!outbox_objects_serve("1.1", "1.2", reason, sizeof(reason)) &&
			  strstr(reason, "are of version 1.1, and this program needs 1.2") != NULL,
		  "older ones do not serve, and the reason says what is needed");
	CHECK(!outbox_objects_serve("2.2", "1.2", reason, sizeof(reason)) &&
			  !outbox_objects_serve("next", "1.2", reason, sizeof(reason)),
		  "nor do those of another major version");
}

int
main(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t		   len = sizeof(address);
	char			   conninfo[200];

	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *) &address, len) != 0 || listen(listener, TRIES) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) != 0)
		abort();
	snprintf(conninfo, sizeof(conninfo),
			 "host=127.0.0.1 port=%d user=u dbname=d password=p sslmode=disable gssencmode=disable",
			 ntohs(address.sin_port));
	test_objects();
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		test_refusal(&refusals[i], conninfo);
	test_standby(conninfo);
	test_own_attributes(conninfo);
	return finish_tests();
}
