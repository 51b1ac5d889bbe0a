"""Ask the operations port of a running service: what commands do.

By hand over `http.client`: no proxy of the environment stands between, and no redirect takes the
token elsewhere.
"""

import http.client
import ssl
from typing import Any, final
from urllib.parse import quote, urlsplit

import orjson

from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.operations.endpoint import JSON, PROBLEM
from shipworthy.redact import printable, redact

# The port promises an answer within 1 s; the rest is for the network.
ANSWER_SECONDS = 5.0
_ANSWER_BYTES_MAX = 16 * 1024 * 1024


class PortUnreachable(ShipworthyError):
    """Nobody answered as an operations port does; the message says who was asked."""


class PortRefused(ShipworthyError):
    """The port answered no for now; the message is its reason."""


@final
class OperationsClient:
    """Asks one operations port, one connection for each question.

    Raises `Misuse` for a URL or a token that cannot be one.
    """

    def __init__(self, url: str, token: str = "") -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # brackets that do not close, a port that is no number
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise Misuse(
                f"'{redact(url)}' is no address of an operations port; write one as in "
                f"http://127.0.0.1:9000"
            )
        if not (token.isascii() and token.isprintable()):
            raise Misuse(
                "the token cannot be one: it has a line break, or a character that is not ASCII; "
                "set operations.token as the service has it"
            )
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._token = token
        self._address = (parts.hostname, port)
        self._tls = parts.scheme == "https"

    def ask(self, path: str, *, method: str = "GET", body: object = None) -> Any:
        """Return what is answered, within 5 s.

        Raises `PortUnreachable`, `Misuse` when the token or a name is wrong, and `PortRefused`.
        """
        headers = {"Accept": f"{JSON}, {PROBLEM}", "Connection": "close"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = orjson.dumps(body), JSON
        try:
            status, said = self._exchange(method, path, content, headers)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise PortUnreachable(
                f"nobody answers as an operations port at {self.url}: {_reason(error)}; is the "
                f"service running, and is this its address (--ops)?"
            ) from error
        return self._understood(status, said, path)

    def _exchange(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        host, port = self._address
        connection = (
            http.client.HTTPSConnection(
                host, port, timeout=ANSWER_SECONDS, context=ssl.create_default_context()
            )
            if self._tls
            else http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
        )
        try:
            connection.request(method, quote(path, safe="/:"), content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()

    def _understood(self, status: int, said: bytes, path: str) -> Any:
        try:
            facts = orjson.loads(said)
        except orjson.JSONDecodeError:
            facts = None
        problem = isinstance(facts, dict) and "detail" in facts and "status" in facts
        if status >= 300 and problem:
            detail = printable(redact(str(facts["detail"])))
            if status == 401:
                raise Misuse(
                    f"{self.url} answers: {detail}; set operations.token as the service has it, or "
                    f"give it with --token"
                )
            if status in {400, 404, 421, 422}:
                raise Misuse(detail)
            raise PortRefused(f"{self.url} answers {status}: {detail}")
        if status >= 300 or facts is None:
            raise PortUnreachable(
                f"{self.url} answers {status} at {path}, as no operations port does; is this its "
                f"address (--ops)?"
            )
        return facts


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
