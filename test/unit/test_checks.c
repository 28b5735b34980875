/* SPDX-License-Identifier: PostgreSQL
 *
 * test_checks.c
 *	  What is fixed at start is checked at start: connection strings, Kafka properties of a
 *	  consumer, addresses; nothing of a value in a message.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "services/lib/arguments.h"
#include "services/lib/conninfo.h"
#include "services/runtime/consumer_conf.h"

typedef bool (*Check)(const char *value, char *error, size_t size);

typedef struct Refused
{
	const char *value;
	const char *reason;
} Refused;

static void
check_refused(Check check, const Refused *refused, size_t count)
{
	char error[512];

	for (size_t i = 0; i < count; i++)
	{
		error[0] = '\0';
		CHECK(!check(refused[i].value, error, sizeof(error)) &&
				  strstr(error, refused[i].reason) != NULL && strcasestr(error, "leaked") == NULL &&
				  strstr(error, "tail") == NULL,
			  refused[i].value);
		if (strstr(error, refused[i].reason) == NULL)
			printf("# %s\n", error);
	}
}

static void
test_conninfo(void)
{
	static const char *const taken[] = {
		"dbname=x",
		"host=a,b port=1,2 dbname=x user=y password='p; #=\\' w' sslmode=require",
		"postgresql://u:p%3B@h:5432/x",
		"dbname=x connect_timeout=2",
		"host=/tmp dbname='a b'",
		"port=, host=a,b",
		"postgresql:///x?host=@abstract&password=p@w",
		"postgresql://u:p%40%2Fw@a:1,b:2/x",
		"host=@abstract,b password='dbname=x dbname=y; z' dbname=a;b",
		"options='-c a.b=c;d=e' password=a\\ password=b;user=c user=u",
		"dbname = x user = y sslpassword = a;",
	};
	static const Refused refused[] = {
		{"dbname=x prot=5432", "is \"port\" meant?"},
		{"dbname=x password=front LEAKED=tail", "has an option that libpq does not know"},
		{"dbname=x password=front LEAKED", "a value with a blank stands between single quotes"},
		{"dbname=x # LEAKED", "a comment has a line of its own"},
		{"dbname=x password='LEAKED", "has a quote that is not closed"},
		{"\"dbname=LEAKED\"", "has quotes around it"},
		{"postgresql://u:LEAKED@[::1/x", "is no connection string that libpq takes"},
		{"postgresql://u:LEAKED%@h/x?prot=1", "is no connection string"},
		{"postgresql://u:LEAKED@h/x?sslmod=1", "is \"sslmode\" meant?"},
		{"dbname=x port=5432;password=LEAKED", "option port is no number from 1 to 65535"},
		{"port=70000", "option port is no number"},
		{"connect_timeout=LEAKED", "option connect_timeout is not a whole number"},
		{"sslmode=LEAKED", "option sslmode has a value that libpq does not take"},
		{"target_session_attrs=LEAKED", "option target_session_attrs has a value"},
		{"host=a,b port=1,2,3 password=LEAKED", "option port"},
		{"passfile=/LEAKED", "option passfile names a file that is not there"},
		{"sslrootcert=/LEAKED", "option sslrootcert names a file that is not there"},
		{"dbname=x\xC2\xA0user=LEAKED", "option dbname has an invisible character"},
		{"dbname=leaked; dbname=x", "option dbname is given twice: in a list each"},
		{"host = h password = my host=leaked", "option host is given twice"},
		{"dbname=leaked;dbname=x", "option dbname has \";\" behind it"},
		{"dbname=leaked;", "option dbname has \";\" behind it"},
		{"postgresql://u:p@h/leaked; postgresql://u:p@h/x", "has \"@\" where a URI takes none"},
		{"postgresql://h/leaked; postgresql://h/x", "option dbname has part of a URI in it"},
		{"postgresql://u:front@LEAKED@h/x",
		 "has \"@\" where a URI takes none: in a password write it as %40"},
		{"postgresql://u:1/LEAKED@h/x", "has \"@\" where a URI takes none"},
		{"host=u:LEAKED@h dbname=x", "option host has part of a URI in it"},
		{"dbname=postgresql://u:LEAKED@h/x", "option dbname has part of a URI in it"},
		{"service=LEAKED", "has a value that libpq does not take"},
	};
	char error[256];

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
	{
		error[0] = '\0';
		CHECK(outbox_conninfo_check(taken[i], error, sizeof(error)), taken[i]);
		if (error[0] != '\0')
			printf("# %s\n", error);
	}
	check_refused(outbox_conninfo_check, refused, sizeof(refused) / sizeof(refused[0]));
}

static void
test_consumer_properties(void)
{
	static const Refused refused[] = {
		{"client.id=a\nsession.timeout.ms=LEAKED",
		 "line 2: Kafka property \"session.timeout.ms\" has a value that librdkafka does not take"},
		{"session.timeout.ms=0", "has a value outside the allowed range 1..3600000"},
		{"security.protocol=LEAKED", "\"security.protocol\" has a value"},
		{"debug=all,LEAKED", "\"debug\" has a value"},
		{"ssl.ca.location=/LEAKED", "\"ssl.ca.location\" names a file that is not there"},
		{"ssl.key.location=-----BEGIN LEAKED",
		 "\"ssl.key.location\" names a file that is not there"},
		{"security.protocol=ssl\nssl.key.pem=-----BEGIN PRIVATE KEY-----\nLEAKED\n-----END PRIVATE "
		 "KEY-----",
		 "ssl.key.pem"},
		{"security.protocol=sasl_plaintext\nsasl.mechanisms=LEAKED", "SASL"},
		{"security.protocol=sasl_plaintext\nsasl.mechanisms=PLAIN\nsasl.username=LEAKED",
		 "sasl.password"},
		{"session.timeout.ms=400000", "max.poll.interval.ms"},
		{"session.timeout.ms=500\nheartbeat.interval.ms=500",
		 "\"heartbeat.interval.ms\" is not below"},
		{"sasl.kerberos.principal=LEAKED", "is unknown or not allowed"},
	};
	char error[512];

	CHECK(outbox_consumer_check_properties("", error, sizeof(error)), "no properties");
	CHECK(outbox_consumer_check_properties("security.protocol=sasl_plaintext\nsasl.mechanisms="
										   "PLAIN\nsasl.username=$ConnectionString\n"
										   "sasl.password=Endpoint=sb://x/"
										   ";SharedAccessKeyName=y;SharedAccessKey=z=",
										   error, sizeof(error)),
		  "Azure Event Hubs' connection string is a password");
	check_refused(outbox_consumer_check_properties, refused, sizeof(refused) / sizeof(refused[0]));
}

static void
test_addresses(void)
{
	static const Refused servers[] = {
		{"LEAKED;b:9092", "is not of the form host:port"},
		{"a:0", "port"},
		{"a:99999", "port"},
		{"a:LEAKED", "port"},
		{",", "names no host"},
		{":9092", "port"},
		{"a b:9092", ""},
	};
	static const Refused urls[] = {
		{"LEAKED", "begins neither"},
		{"http://", "no URL"},
		{"http://u:LEAKED@h:port/", "no URL"},
		{"ftp://LEAKED", "begins neither"},
	};
	char error[256];

	CHECK(outbox_check_servers("a:9092, b:9093,c,[::1]:9092,SASL_SSL://d:1", error, sizeof(error)),
		  "brokers");
	CHECK(outbox_check_url("http://h:80/x?token=y", error, sizeof(error)) &&
			  outbox_check_url("", error, sizeof(error)),
		  "URLs");
	check_refused(outbox_check_servers, servers, sizeof(servers) / sizeof(servers[0]) - 1);
	check_refused(outbox_check_url, urls, sizeof(urls) / sizeof(urls[0]));
}

int
main(void)
{
	test_conninfo();
	test_consumer_properties();
	test_addresses();
	return finish_tests();
}
