-- Settings: defaults, limits, and what is refused.
SELECT name, boot_val, unit, context, min_val, max_val, enumvals
	FROM pg_settings WHERE name LIKE 'outbox.%' ORDER BY name COLLATE "C";

-- a wrong value is refused with the reason
SET outbox.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SET outbox.traceparent = 'cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more';
SET outbox.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more';
SET outbox.traceparent = '00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01';
SET outbox.traceparent = 'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SET outbox.traceparent = '';
SET outbox.correlation_id = E'two\nlines';
\set VERBOSITY sqlstate
SET outbox.max_event_bytes = 0;
\set VERBOSITY default
SET outbox.relay = 'perhaps';
SET outbox.no_such_setting = 1;
ALTER SYSTEM SET outbox.batch_max_events = 0;
ALTER SYSTEM SET outbox.delivery = 'twice';
ALTER SYSTEM SET outbox.kafka_properties = 'plugin.library.paths=/tmp/x.so';
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=localhost\ntransactional.id=mine';
ALTER SYSTEM SET outbox.kafka_properties = 'sasl.kerberos.principal=$(id)';
ALTER SYSTEM SET outbox.kafka_properties = 'ssl.engine.location=/tmp/x.so';
ALTER SYSTEM SET outbox.kafka_properties = 'ssl.providers=x';
ALTER SYSTEM SET outbox.kafka_properties = 'https.ca.location=/etc/shadow';
ALTER SYSTEM SET outbox.kafka_properties = 'sasl.oauthbearer.token.endpoint.url=http://169.254.169.254/';
-- no secret in a setting: the server logs settings that change
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=localhost\nsasl.password=never-shown;LEAKED=tail';
ALTER SYSTEM SET outbox.kafka_properties = 'ssl.key.password=never-shown';
ALTER SYSTEM SET outbox.kafka_properties = E'bootstrap.servers=localhost\nnever-shown';
-- one property a line, and none that would have no effect
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=localhost\nsasl.username=never\nshown';
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=localhost; linger.ms=5';
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=localhost\nacks=1';
ALTER SYSTEM SET outbox.kafka_properties = 'enable.idempotence=false';
ALTER SYSTEM SET outbox.kafka_properties = 'auto.offset.reset=latest';
ALTER SYSTEM SET outbox.kafka_properties = 'client.rack=a';
ALTER SYSTEM SET outbox.kafka_properties = 'linger.ms=5\nqueue.buffering.max.ms=5';
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers: never-shown';
ALTER SYSTEM SET outbox.kafka_properties = 'client.id="never-shown"';
ALTER SYSTEM SET outbox.kafka_properties = 'bootstrap.servers=a:9092, b:9092\n# a comment\nlinger.ms = 5\nssl.ca.pem=-----BEGIN CERTIFICATE-----\nMIIB==\n-----END CERTIFICATE-----';
ALTER SYSTEM RESET outbox.kafka_properties;
ALTER SYSTEM SET outbox.kafka_properties_file = 'secrets';

-- ce_source is a URI reference
ALTER SYSTEM SET outbox.source = 'my shop';
ALTER SYSTEM SET outbox.source = '/outbox/größe';
ALTER SYSTEM SET outbox.source = E'/outbox/\tshop';
ALTER SYSTEM SET outbox.source = 'urn:shop:%2';

-- server settings are not for sessions
SET outbox.delivery = 'at_least_once';
SET outbox.kafka_properties = 'bootstrap.servers=localhost';

-- an ordinary role reads no Kafka property, and sets only what emit() puts in headers
CREATE ROLE outbox_settings_user;
SET ROLE outbox_settings_user;
\set VERBOSITY sqlstate
SHOW outbox.kafka_properties;
SHOW outbox.kafka_properties_file;
\set VERBOSITY default
SELECT count(*) FROM pg_settings WHERE name LIKE 'outbox.kafka%';
SET outbox.correlation_id = 'c-1';
SHOW outbox.correlation_id;
SET outbox.relay = on;
SET outbox.max_event_bytes = 2000000;
SET outbox.require_declared_topics = off;
RESET ROLE;
DROP ROLE outbox_settings_user;
