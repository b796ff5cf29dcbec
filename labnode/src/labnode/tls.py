# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's TLS certificate: self-signed, made once, kept in STATE/etc/nodes/NODE."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labnode.store import Store

_YEARS = 10


def ensure_certificate(store: Store, node: str) -> tuple[Path, Path]:
    """Paths of certificate and key (PEM), made when either is missing."""
    cert_rel, key_rel = f"etc/nodes/{node}/pve-ssl.pem", f"etc/nodes/{node}/pve-ssl.key"
    if not (store.exists(cert_rel) and store.exists(key_rel)):
        cert, key = _make(node)
        store.write(key_rel, key, 0o600)
        store.write(cert_rel, cert)
    return store.path(cert_rel), store.path(key_rel)


def _make(node: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(node), x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return cert.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def fingerprint(cert: Path) -> str:
    """SHA-256 of the certificate as ``AA:BB:...``."""
    digest = x509.load_pem_x509_certificate(cert.read_bytes()).fingerprint(hashes.SHA256())
    return ":".join(f"{byte:02X}" for byte in digest)


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A server-side context with the certificate loaded."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context
