// SPDX-License-Identifier: PostgreSQL
import kafkajs from "kafkajs";
import pg from "pg";

const [bootstrap, group, topic, dsn] = process.argv.slice(2);
const kafka = new kafkajs.Kafka({ brokers: bootstrap.split(",") });
const consumer = kafka.consumer({ groupId: group, readUncommitted: false }); // false is the default
const database = new pg.Client(dsn);

consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || process.exit(1));
await database.connect();
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({
	partitionsConsumedConcurrently: 1, // one connection, one transaction at a time
	eachMessage: async ({ message }) => {
		await database.query("BEGIN");
		try {
			const claim = "SELECT outbox.claim($1, $2) AS first";
			const { rows } = await database.query(claim, [group, message.headers.ce_id.toString()]);
			if (rows[0].first)
				await database.query("INSERT INTO sale (order_id, document) VALUES ($1, $2)",
					[message.key.toString(), message.value?.toString()]); // no value: a tombstone
			await database.query("COMMIT");
		} catch (error) {
			await database.query("ROLLBACK");
			throw error; // kafkajs tries again from this record on
		}
	},
});
