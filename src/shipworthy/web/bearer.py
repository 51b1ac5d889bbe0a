"""The claims of a bearer token (RFC 7519), read for a name, and verified where there is a key.

The algorithm is that of the key, never that of the token. Who lets a request in is the application:
here a token that is wrong in any way names nobody.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

Verify = Callable[[bytes, bytes], bool]

# Of a token; what is longer is not looked at.
TOKEN_BYTES: Final = 16 * 1024
# Clocks of other machines are off by so much.
LEEWAY_SECONDS: Final = 60.0


def read_claims(
    token: bytes, verifier: tuple[str, Verify] | None, now: float
) -> Mapping[str, Any] | None:
    """Return the claims of a token, None for what is no token, has been forged or is out of date.

    Without a `verifier` only its dates are looked at. `now` is in seconds since 1970.
    """
    parts = token.split(b".")
    if len(token) > TOKEN_BYTES or len(parts) != 3:
        return None
    try:
        header, claims = (orjson.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except (ValueError, NotBase64):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    if verifier is not None:
        algorithm, verify = verifier
        if header.get("alg") != algorithm or not verify(parts[0] + b"." + parts[1], signature):
            return None
    return claims if _in_force(claims, now) else None


def _in_force(claims: Mapping[str, Any], now: float) -> bool:
    until, since = claims.get("exp"), claims.get("nbf")
    over = isinstance(until, int | float) and until + LEEWAY_SECONDS < now
    return not over and not (isinstance(since, int | float) and since - LEEWAY_SECONDS > now)


def verifier_of(key: str) -> tuple[str, Verify]:
    """Return the algorithm of a key and what verifies with it.

    Raises `ValueError` for a PEM of a kind that is not RSA, P-256 or Ed25519.
    """
    if "-----BEGIN" not in key:
        secret = key.encode()
        return "HS256", lambda signed, signature: hmac.compare_digest(
            hmac.digest(secret, signed, hashlib.sha256), signature
        )
    return _public(key)


def _public(pem: str) -> tuple[str, Verify]:
    # Only where there is such a key: it takes a while to import.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem.encode())

    def checked(call: Callable[[bytes, bytes], None]) -> Verify:
        def verify(signed: bytes, signature: bytes) -> bool:
            try:
                call(signature, signed)
            except InvalidSignature:
                return False
            return True

        return verify

    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA", checked(key.verify)
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256", checked(
            lambda signature, signed: key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        )
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):

        def verify_es256(signature: bytes, signed: bytes) -> None:
            # JOSE writes the two numbers one after the other, and not as DER.
            numbers = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
            der = utils.encode_dss_signature(*numbers)
            if len(signature) != 64:
                raise InvalidSignature
            key.verify(der, signed, ec.ECDSA(SHA256()))

        return "ES256", checked(verify_es256)
    raise ValueError("is a key of a kind that is not known here; use RSA, P-256 or Ed25519")


def _decoded(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"=" * (-len(part) % 4))
