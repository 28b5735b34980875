// SPDX-License-Identifier: PostgreSQL
//
// typeorm_emit.mjs
//	  Emits through outbox.outgoing with TypeORM.
//
// Run by test/e2e/test_orms.py: node typeorm_emit.mjs CONNECTION TOPIC; CONNECTION is a JSON object of host, port, database and
// username.  Keys begin with "n-"; prints a JSON object of the rest of the key and the id that the entity has.
import "reflect-metadata";
import { randomUUID } from "node:crypto";
import { DataSource, EntitySchema } from "typeorm";

const [connection, topic] = [JSON.parse(process.argv[2]), process.argv[3]];

const Order = new EntitySchema({
	name: "Order",
	tableName: "orders",
	columns: { id: { type: "bigint", primary: true, generated: "identity" }, note: { type: "text" } },
});
const Outgoing = new EntitySchema({
	name: "Outgoing",
	schema: "outbox",
	tableName: "outgoing",
	columns: {
		id: { type: "uuid", primary: true, generated: "uuid" },
		topic: { type: "text" },
		key: { type: "text", nullable: true },
		type: { type: "text" },
		payload: { type: "jsonb", nullable: true },
		headers: { type: "jsonb", nullable: true },
	},
});

const make = (key, more = {}) => ({ topic, key: `n-${key}`, type: "T", payload: { n: 1 }, ...more });
const source = new DataSource({ type: "postgres", ...connection, entities: [Order, Outgoing], installExtensions: false });
await source.initialize();
const events = [make("saved"), make("given", { id: randomUUID() }), make("tombstone", { payload: null }),
	make("null", { payload: () => "'null'::jsonb" })];
const many = Array.from({ length: 100 }, (_, n) => make(`many-${n}`));

await source.transaction(async (manager) => {
	await manager.save(Order, { note: "first" });
	await manager.save(Outgoing, events[0]);
	for (const event of events.slice(1))
		await manager.insert(Outgoing, event);
	await manager.insert(Outgoing, many);
});
await source.transaction(async (manager) => {
	await manager.insert(Outgoing, make("undone"));
	throw new Error("undone");
}).catch((error) => {
	if (error.message !== "undone")
		throw error;
});
const found = await source.getRepository(Outgoing).count();
await source.destroy();
console.log(JSON.stringify({ found, ids: Object.fromEntries([...events, ...many].map((event) => [event.key.slice(2), event.id])) }));
