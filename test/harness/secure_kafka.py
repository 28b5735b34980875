# SPDX-License-Identifier: PostgreSQL
"""A broker with TLS, SASL and access control, and the certificates for it."""

import datetime
import ipaddress

from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType,
    ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .environment import free_port
from .kafka import KafkaBroker

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority of one test: certificate is its own, as PEM text."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self.name, self.key, -DAY, DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).sign(self.key, hashes.SHA256())
        self.certificate = certificate.public_bytes(PEM).decode()

    def _builder(self, subject, key, begins, ends):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + begins).not_valid_after(now + ends)
        )

    def issue(self, host, expired=False):
        """Key and certificate for a host name or address, as one PEM text."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        begins, ends = (-2 * DAY, -DAY) if expired else (-DAY, DAY)
        certificate = self._builder(subject, key, begins, ends).add_extension(
            x509.SubjectAlternativeName([name]), critical=False
        ).sign(self.key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return private.decode() + certificate.public_bytes(PEM).decode()


class SecureBroker(KafkaBroker):
    """A broker with a listener for each case; who is not on the access list may do nothing.

    bootstrap        plaintext; who comes this way may do all (the tests)
    addresses        {"TLS": host:port, ...}: TLS and SASL have a good certificate, EXPIRED
                     and ELSEWHERE (made for another host) offer SASL as well
    authority        signed all of them
    users            {name: password}, for SASL PLAIN; SCRAM-SHA-512 knows those of add_user
    """

    LISTENERS = {"TLS": "SSL", "SASL": "SASL_SSL", "EXPIRED": "SASL_SSL", "ELSEWHERE": "SASL_SSL"}

    def __init__(self, session, users, name="secure-kafka", conf=None):
        self.users = users
        self.authority = Authority("authority")
        self.ports = {listener: free_port() for listener in self.LISTENERS}
        self.addresses = {listener: f"127.0.0.1:{port}" for listener, port in self.ports.items()}
        self.stores = session.environment.make_directory(session.data / f"{name}-stores", 0o700)
        super().__init__(session, name, conf={**self._security(session), **(conf or {})})

    def _security(self, session):
        certificates = {
            "TLS": self.authority.issue("127.0.0.1"),
            "SASL": self.authority.issue("127.0.0.1"),
            "EXPIRED": self.authority.issue("127.0.0.1", expired=True),
            "ELSEWHERE": self.authority.issue("elsewhere.example"),
        }
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self.LISTENERS}
        values = {
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
            "auto.create.topics.enable": "false",
        }
        known = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        for listener, pem in certificates.items():
            path = self.stores / f"{listener}.pem"
            path.write_text(pem)
            session.environment.give(path)
            prefix = f"listener.name.{listener.lower()}"
            values[f"{prefix}.ssl.keystore.type"] = "PEM"
            values[f"{prefix}.ssl.keystore.location"] = str(path)
            values[f"{prefix}.scram-sha-512.sasl.jaas.config"] = (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            values[f"{prefix}.plain.sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};"
            )
        return values

    def _listeners(self, controller):
        more = "".join(f",{listener}://{address}" for listener, address in self.addresses.items())
        return {name: value + more for name, value in super()._listeners(controller).items()}

    def add_user(self, name, password):
        """A user of SCRAM-SHA-512."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, credential, password.encode())
        for done in self.admin.alter_user_scram_credentials([change]).values():
            done.result(30)

    def allow(self, user, kind, name, *operations):
        """Let a user do operations on the "topic", "group", "transactional_id" or "broker" of that name; * = all."""
        bindings = [_binding(AclBinding, user, kind, name, operation) for operation in operations]
        for done in self.admin.create_acls(bindings).values():
            done.result(30)

    def forbid(self, user, kind, name, *operations):
        """Take back what allow() gave."""
        filters = [_binding(AclBindingFilter, user, kind, name, operation) for operation in operations]
        for done in self.admin.delete_acls(filters).values():
            done.result(30)


def _binding(make, user, kind, name, operation):
    return make(ResourceType[kind.upper()], name, ResourcePatternType.LITERAL, f"User:{user}", "*",
                AclOperation[operation.upper()], AclPermissionType.ALLOW)
