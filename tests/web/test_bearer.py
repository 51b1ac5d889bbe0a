"""Tokens: verified by the key's own algorithm, or taken for what they claim."""

import base64
import hashlib
import hmac

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shipworthy.context import Actor
from shipworthy.settings import Secret
from shipworthy.web import ActorFinder, ActorSettings, ActorUnreadable
from web.conftest import http_scope

NOW = 1_800_000_000.0


def found(*sources, headers=(), **settings):
    """Return who is found where a request has these headers."""
    asked = ActorFinder(
        ActorSettings(from_=sources, **settings), lambda _: "/route", wall=lambda: NOW
    )
    return asked.actor_of(http_scope("/") | {"headers": list(headers)})


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(claims, sign, algorithm):
    signed = b".".join(encoded(orjson.dumps(part)) for part in ({"alg": algorithm}, claims))
    return [(b"authorization", b"Bearer " + signed + b"." + encoded(sign(signed)))]


def hs256(key):
    return lambda signed: hmac.digest(key, signed, hashlib.sha256)


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_the_claim_of_a_token_that_nobody_can_verify_is_only_claimed():
    """It is recorded as what it is."""
    sent = token({"sub": "ana"}, hs256(b"whatever"), "HS256")

    assert found("jwt:sub", headers=sent) == Actor("ana", "claimed")


def test_the_claim_of_a_verified_token_is_a_user():
    """By a shared secret, and by each kind of public key."""
    edwards, curve = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def es256(signed):
        r, s = utils.decode_dss_signature(curve.sign(signed, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    for key, algorithm, sign in (
        ("secret", "HS256", hs256(b"secret")),
        (pem(edwards), "EdDSA", edwards.sign),
        (pem(curve), "ES256", es256),
        (pem(big), "RS256", lambda signed: big.sign(signed, padding.PKCS1v15(), SHA256())),
    ):
        sent = token({"sub": "ana", "exp": NOW}, sign, algorithm)
        forged = token({"sub": "ana"}, lambda _: b"\x00" * 64, algorithm)
        assert found("jwt:sub", headers=sent, jwt_key=Secret(key)) == Actor("ana"), algorithm
        assert found("jwt:sub", headers=forged, jwt_key=Secret(key)) is None, algorithm


def test_a_token_cannot_choose_how_it_is_verified():
    """Neither not at all, nor by taking a public key for a shared secret."""
    key = pem(ed25519.Ed25519PrivateKey.generate())
    for algorithm, sign in (("none", lambda _: b""), ("HS256", hs256(key.encode()))):
        sent = token({"sub": "ana"}, sign, algorithm)
        assert found("jwt:sub", headers=sent, jwt_key=Secret(key)) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ana", "exp": NOW - 61},
        {"sub": "ana", "nbf": NOW + 61},
        {"name": "ana"},
        {"sub": ""},
    ],
)
def test_a_token_out_of_its_time_or_without_the_claim_names_nobody(claims):
    """Clocks may be off by a minute, not more."""
    assert found("jwt:sub", headers=token(claims, hs256(b"k"), "HS256")) is None


@pytest.mark.parametrize(
    "sent",
    [b"Basic YTpi", b"Bearer", b"Bearer a.b", b"Bearer a.b.c", b"Bearer !.!.!",
     b"Bearer " + b"a" * 20000, b"Bearer MQ.MQ.MQ"],
)  # fmt: skip
def test_what_is_no_token_names_nobody(sent, heard):
    """And is nobody's failure."""
    assert found("jwt:sub", headers=[(b"authorization", sent)]) is None
    assert not [fact for fact in heard if isinstance(fact, ActorUnreadable)]


def test_who_acts_for_another_is_named_with_him():
    """Token exchange (RFC 8693)."""
    sent = token({"sub": "ben", "act": {"sub": "ana"}}, hs256(b"k"), "HS256")

    assert found("jwt:sub", headers=sent, jwt_key=Secret("k")) == Actor(
        "ana", "user", on_behalf_of="ben"
    )
