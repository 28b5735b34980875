// SPDX-License-Identifier: PostgreSQL
package main

import (
	"context"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

func apply(tx pgx.Tx, group string, record *kgo.Record) error {
	var first bool
	ctx, id := context.Background(), header(record, "ce_id")
	err := tx.QueryRow(ctx, "SELECT outbox.claim($1, $2)", group, id).Scan(&first)
	if err == nil && first {
		_, err = tx.Exec(ctx, "INSERT INTO sale (order_id, document) VALUES ($1, $2)",
			string(record.Key), record.Value) // nil: a tombstone
	}
	return err
}

func main() {
	ctx, group := context.Background(), os.Args[2]
	database, err := pgx.Connect(ctx, os.Args[4])
	check(err)
	consumer, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Args[1], ",")...),
		kgo.ConsumerGroup(group), kgo.InstanceID(group+"-1"), kgo.ConsumeTopics(os.Args[3]),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // the default reads uncommitted
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	check(err)
	for {
		fetches := consumer.PollFetches(ctx)
		check(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			check(pgx.BeginFunc(ctx, database, func(tx pgx.Tx) error {
				return apply(tx, group, record)
			}))
		})
		check(consumer.CommitUncommittedOffsets(ctx))
	}
}
