"""A TLS server on loopback whose certificate, made here, is about to end and can be renewed."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(days=90)


class Endpoint:
    """Shows whoever connects a certificate for `name`; root: the file of the authority that signed it."""

    def __init__(self, name: str, folder: Path, left: timedelta) -> None:
        self.name, self._folder = name, folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        root = self._signed("The demo's own authority", self._key, datetime.now(UTC) + 10 * LIFETIME, ca=True)
        self.root = folder / "root.pem"
        self.root.write_bytes(root.public_bytes(Encoding.PEM))
        self.renew(left)
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def target(self) -> str:
        return f"{self.name}@127.0.0.1:{self._listener.getsockname()[1]}"

    def renew(self, left: timedelta = LIFETIME) -> None:
        """From now on another certificate is shown, of which so much is left."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(self.name, key, datetime.now(UTC) + left)
        file = self._folder / "shown.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + made.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self._context = context

    def close(self) -> None:
        self._listener.close()

    def _signed(
        self, name: str, key: ec.EllipticCurvePrivateKey, until: datetime, *, ca: bool = False
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("The demo's own authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - (20 if ca else 1) * LIFETIME)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([x509.DNSName(name)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                accepted, _ = self._listener.accept()
                with suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as shown:
                    shown.recv(1)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
