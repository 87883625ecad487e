"""Whose signature is on what. Nothing here raises: what cannot be verified is not signed."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from .facts import WEAK_HASHES


def is_signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except Exception:  # names, signature, or what the library does not know or verifies no more
        return _is_signed_with_a_broken_hash(certificate, by)
    return True


def _is_signed_with_a_broken_hash(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """What is wrong with it is said as that, and not as an issuer that nobody knows."""
    try:
        hashed = certificate.signature_hash_algorithm
        if hashed is None or hashed.name not in WEAK_HASHES or certificate.issuer != by.subject:
            return False
        return verifies(by.public_key(), certificate.signature, certificate.tbs_certificate_bytes, hashed)
    except Exception:
        return False


def verifies(key: Any, signature: bytes, data: bytes, hashed: hashes.HashAlgorithm | None) -> bool:
    """hashed  with what, by keys that leave one the choice"""
    try:
        if isinstance(key, rsa.RSAPublicKey) and hashed:
            key.verify(signature, data, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey) and hashed:
            key.verify(signature, data, ec.ECDSA(hashed))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, data)
        else:
            return False
    except Exception:
        return False
    return True
