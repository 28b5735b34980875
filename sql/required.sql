-- outbox.required: a field of a JSON object, or the error that makes a record a dead letter at once.
SELECT outbox.required('{"a": "x"}', 'a') AS text, outbox.required('{"a": 1.50}', 'a') AS number,
	outbox.required('{"a": false}', 'a') AS boolean, outbox.required('{"a": [1, null]}', 'a') AS list;
\set VERBOSITY sqlstate
SELECT outbox.required('{"b": 1}', 'a');
SELECT outbox.required('{"a": null}', 'a');
SELECT outbox.required('{"a": ""}', 'a');
SELECT outbox.required('[]', 'a');
SELECT outbox.required(NULL, 'a');
SELECT outbox.required('{"a": 1}', NULL);
\set VERBOSITY terse
SELECT outbox.required('{}', 'a');
