-- Databases of other encodings: Kafka gets UTF-8, people see what they wrote.
\getenv sources PG_ABS_SRCDIR
\set script :sources '/sql/encodings.psql'
CREATE DATABASE outbox_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE outbox_win1252 TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE outbox_eucjp TEMPLATE template0 ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE outbox_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE outbox_latin1 SET outbox.allow_dead_letter_edit = on;
ALTER DATABASE outbox_win1252 SET outbox.allow_dead_letter_edit = on;
ALTER DATABASE outbox_eucjp SET outbox.allow_dead_letter_edit = on;
ALTER DATABASE outbox_ascii SET outbox.allow_dead_letter_edit = on;

-- of Latin-1 every byte has its place in UTF-8
\c outbox_latin1
SET client_encoding = 'UTF8';
\set word 'größe'
\set one 'ö'
\set word_bytes '''\\x6772c3b6c39f65'''
\set lacked '''\\x61e282acf09f9880'''
\set lacked_name '''\\xe2\\x82\\xac'''
\set broken 'chr(133)'
\i :script

\c outbox_win1252
SET client_encoding = 'UTF8';
\set word '5 €'
\set one '€'
\set word_bytes '''\\x3520e282ac'''
\set lacked '''\\x61d18ff09f9880'''
\set lacked_name '''\\xd1\\x8f'''
\set broken 'chr(129)'
\i :script

\c outbox_eucjp
SET client_encoding = 'UTF8';
\set word '注文'
\set one '注'
\set word_bytes '''\\xe6b3a8e69687'''
\set lacked '''\\x61c3bff09f9880'''
\set lacked_name '''\\xf0\\x9f\\x98\\x80'''
\set broken 'convert_from(''\\xa9a1'', ''EUC_JP'')'
\i :script
-- a letter of JIS X 0212 is longer here than in UTF-8: no correlation id is too long for its setting
SELECT octet_length('à') AS bytes, m, octet_length(v) AS taken, outbox.set_context(v, NULL, NULL) AS set
FROM unnest(ARRAY[85, 86, 128]) m, outbox.wire_text(convert_to(repeat('à', m), 'UTF8'), 256) v;

\c outbox_ascii
SET client_encoding = 'UTF8';
\set word 'größe'
\set one 'ö'
\set word_bytes '''\\x6772c3b6c39f65'''
\set lacked '''\\x61e282acf09f9880'''
\set lacked_name '''€'''
\set broken 'convert_from(''\\x61e4'', ''SQL_ASCII'')'
\i :script

-- a setting that was given in another encoding costs no event of a database in UTF-8, either
\c outbox_latin1
SET client_encoding = 'UTF8';
ALTER DATABASE outbox_regress SET outbox.correlation_id = 'größe';
\c outbox_regress
BEGIN;
SELECT outbox.declare_topic('encodings.setting');
SELECT outbox.emit('encodings.setting', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT encode(headers, 'escape') AS headers FROM outbox.event WHERE topic = 'encodings.setting';
ROLLBACK;
ALTER DATABASE outbox_regress RESET outbox.correlation_id;

-- What the relay of one database says is read in all: here the name of an object that is not the extension owner's.
\c outbox_latin1
SET client_encoding = 'UTF8';
CREATE ROLE encodings_stranger;
CREATE FUNCTION outbox."prüfe_größe"() RETURNS void LANGUAGE sql AS '';
ALTER EXTENSION outbox ADD FUNCTION outbox."prüfe_größe"();
ALTER FUNCTION outbox."prüfe_größe"() OWNER TO encodings_stranger;
SELECT outbox.start_relay();
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		EXIT WHEN EXISTS (SELECT FROM outbox.relay_status WHERE hold_reason IS NOT NULL);
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT state, hold_reason ~ 'prüfe_größe' AS named, last_error ~ 'prüfe_größe' AS in_error FROM outbox.relay_status;
\set told 'SELECT database, state, substring(hold_reason FROM \'pr[^(]*\') AS named, substring(last_error FROM \'pr[^(]*\') AS in_error FROM outbox.databases WHERE database = \'outbox_latin1\''
\c outbox_ascii
:told;
\c outbox_eucjp
SET client_encoding = 'UTF8';
:told;
-- and so is a name of a database that is no text here
\c outbox_latin1
SET client_encoding = 'UTF8';
ALTER DATABASE outbox_win1252 RENAME TO "outbox_größe";
\c outbox_regress
:told;
SELECT database FROM outbox.databases WHERE database LIKE 'outbox_gr%';

\c outbox_latin1
SET client_encoding = 'UTF8';
SELECT outbox.stop_relay();
ALTER DATABASE "outbox_größe" RENAME TO outbox_win1252;
\c outbox_regress
SET client_min_messages = error;
DROP DATABASE outbox_latin1 WITH (FORCE);
DROP DATABASE outbox_win1252;
DROP DATABASE outbox_eucjp;
DROP DATABASE outbox_ascii;
DROP ROLE encodings_stranger;
