# SPDX-License-Identifier: PostgreSQL
"""Private PostgreSQL, Kafka and services for tests, the demo, `make up` and the benchmarks."""

from .clock import ShiftedClock
from .database import Database
from .environment import Environment
from .faults import FaultPoints
from .kafka import KafkaBroker
from .kafka_cluster import KafkaCluster
from .oversized import OVERSIZED, limit_records
from .postgres import PostgresCluster
from .quota import set_producer_quota
from .service import Service
from .session import Session, exit_on_sigterm
from .topics import run_topics
from .wait import WaitTimeout, WritersFailed, wait_until

__all__ = [
    "Database",
    "Environment",
    "FaultPoints",
    "KafkaBroker",
    "KafkaCluster",
    "OVERSIZED",
    "PostgresCluster",
    "Service",
    "Session",
    "ShiftedClock",
    "WaitTimeout",
    "WritersFailed",
    "exit_on_sigterm",
    "limit_records",
    "run_topics",
    "set_producer_quota",
    "wait_until",
]
