# SPDX-License-Identifier: PostgreSQL
"""Private PostgreSQL, Kafka and services for tests, the demo, `make up` and the benchmarks."""

from .database import Database
from .environment import Environment
from .faults import FaultPoints
from .kafka import KafkaBroker
from .kafka_cluster import KafkaCluster
from .postgres import PostgresCluster
from .service import Service
from .session import Session, exit_on_sigterm
from .wait import WaitTimeout, wait_until

__all__ = [
    "Database",
    "Environment",
    "FaultPoints",
    "KafkaBroker",
    "KafkaCluster",
    "PostgresCluster",
    "Service",
    "Session",
    "WaitTimeout",
    "exit_on_sigterm",
    "wait_until",
]
