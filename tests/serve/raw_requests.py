"""Requests byte by byte: those that a server must refuse, and those that it must serve.

The bad ones are what two parties can read differently, or what has no end; the good ones are what
clients of this world send, some of it seldom.
"""

HOST = b"Host: shop.example:8000\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"1.1", host: bytes = HOST) -> bytes:
    """A GET with these header lines, each with its line end."""
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + host + b"".join(lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST with these header lines and this body."""
    return b"POST / HTTP/" + version + b"\r\n" + HOST + b"".join(lines) + b"\r\n" + body


BAD = {
    # How a request ends, and where the next begins.
    "Content-Length and Transfer-Encoding": post(
        b"Content-Length: 5\r\n", CHUNKED, body=b"0\r\n\r\n"
    ),
    "Transfer-Encoding and Content-Length": post(
        CHUNKED, b"Content-Length: 5\r\n", body=b"0\r\n\r\n"
    ),
    "two Content-Length that differ": post(
        b"Content-Length: 3\r\n", b"Content-Length: 5\r\n", body=b"abc"
    ),
    "two Content-Length that agree": post(
        b"Content-Length: 3\r\n", b"Content-Length: 3\r\n", body=b"abc"
    ),
    "Content-Length as a list": post(b"Content-Length: 3, 3\r\n", body=b"abc"),
    "Content-Length with a sign": post(b"Content-Length: +3\r\n", body=b"abc"),
    "negative Content-Length": post(b"Content-Length: -3\r\n", body=b"abc"),
    "Content-Length in hexadecimal": post(b"Content-Length: 0x3\r\n", body=b"abc"),
    "empty Content-Length": post(b"Content-Length: \r\n"),
    "Content-Length of 30 digits": post(b"Content-Length: " + b"9" * 30 + b"\r\n", body=b"abc"),
    "Transfer-Encoding twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "Transfer-Encoding chunked, chunked": post(
        b"Transfer-Encoding: chunked, chunked\r\n", body=b"0\r\n\r\n"
    ),
    "Transfer-Encoding gzip, chunked": post(
        b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n"
    ),
    "Transfer-Encoding chunked, identity": post(
        b"Transfer-Encoding: chunked, identity\r\n", body=b"0\r\n\r\n"
    ),
    "Transfer-Encoding identity": post(b"Transfer-Encoding: identity\r\n", body=b"0\r\n\r\n"),
    "Transfer-Encoding xchunked": post(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"),
    "Transfer-Encoding behind a vertical tab": post(
        b"Transfer-Encoding:\x0bchunked\r\n", body=b"0\r\n\r\n"
    ),
    "Transfer-Encoding in HTTP/1.0": post(CHUNKED, body=b"0\r\n\r\n", version=b"1.0"),
    "a chunk size with 0x": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a negative chunk size": post(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size that overflows": post(CHUNKED, body=b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with a bare LF": post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"),
    "a chunk without its size": post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n"),
    "a handshake of a websocket with a body": get(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n"
    )
    + b"hello",
    # Where a line ends.
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: shop.example\n\n",
    "a bare LF between headers": get(b"A: a\nB: b\r\n"),
    "a bare CR in a header": get(b"A: a\rB: b\r\n"),
    "a header on two lines": get(b"A: a\r\n b\r\n"),
    # Headers.
    "a space before the colon": get(b"Content-Length : 0\r\n"),
    "a header without a colon": get(b"nothing\r\n"),
    "a header without a name": get(b": nothing\r\n"),
    "a space in a header's name": get(b"X Y: z\r\n"),
    "NUL in a header's name": get(b"X\x00Y: z\r\n"),
    "NUL in a header's value": get(b"X: y\x00z\r\n"),
    "a control character in a header's value": get(b"X: y\x01z\r\n"),
    "a space before the first header": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    # Whom it is for.
    "no Host": get(host=b""),
    "two Hosts": get(b"Host: other.example\r\n"),
    "two Hosts that agree": get(HOST),
    "two Hosts in HTTP/1.0": get(b"Host: other.example\r\n", version=b"1.0"),
    "an empty Host": get(host=b"Host: \r\n"),
    "a path in Host": get(host=b"Host: shop.example/admin\r\n"),
    "a query in Host": get(host=b"Host: shop.example?x\r\n"),
    "a fragment in Host": get(host=b"Host: shop.example#x\r\n"),
    "a user in Host": get(host=b"Host: shop.example@evil.example\r\n"),
    "a space in Host": get(host=b"Host: shop.example evil.example\r\n"),
    "a port that is no number in Host": get(host=b"Host: shop.example:80x\r\n"),
    "a list in Host": get(host=b"Host: shop.example, evil.example\r\n"),
    "another host in the target": get(target=b"http://evil.example/"),
    "a scheme that is not ours": get(target=b"ftp://shop.example:8000/"),
    # The line it begins with.
    "no version": b"GET /\r\n\r\n",
    "HTTP/0.9": get(version=b"0.9"),
    "HTTP/1.2": get(version=b"1.2"),
    "HTTP/2.0": get(version=b"2.0"),
    "a method in lower case": get().replace(b"GET", b"get", 1),
    "a method that is none": get().replace(b"GET", b"G@T", 1),
    "a tab behind the method": get().replace(b"GET ", b"GET\t", 1),
    "a space behind the version": get().replace(b"HTTP/1.1", b"HTTP/1.1 ", 1),
    "a space in the target": get(target=b"/a b"),
    "a byte above ASCII in the target": get(target=b"/\xff"),
    "a fragment in the target": get(target=b"/a#b"),
    "a target without a slash": get(target=b"items"),
    "GET *": get(target=b"*"),
    "CONNECT": b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    + b"a" * 40
    + b"\r\n\r\n",
    # What has no end.
    "101 headers": get(*(b"X-%d: y\r\n" % number for number in range(100))),
    "a header of 33 KiB": get(b"X: " + b"y" * 33 * 1024 + b"\r\n"),
    "a header of 1 MiB": get(b"X: " + b"y" * 2**20 + b"\r\n"),
    "a target of 9 KiB": get(target=b"/" + b"y" * 9 * 1024),
    "a chunk extension of 1 MiB": post(
        CHUNKED, body=b"5;" + b"y" * 2**20 + b"\r\nhello\r\n0\r\n\r\n"
    ),
    "40,000 trailers": post(
        CHUNKED,
        body=b"0\r\n" + b"".join(b"X-%d: yyyyyyyyy\r\n" % n for n in range(40_000)) + b"\r\n",
    ),
}

GOOD = {
    "GET": get(),
    "GET with what a browser sends": get(
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        b"Accept-Language: en-GB,en;q=0.7\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
        b"Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\n"
    ),
    "HEAD": get().replace(b"GET", b"HEAD", 1),
    "OPTIONS *": get(target=b"*").replace(b"GET", b"OPTIONS", 1),
    "DELETE": get().replace(b"GET", b"DELETE", 1),
    "PUT": post(b"Content-Length: 5\r\n", body=b"hello").replace(b"POST", b"PUT", 1),
    "PATCH": post(b"Content-Length: 5\r\n", body=b"hello").replace(b"POST", b"PATCH", 1),
    "PROPFIND": get().replace(b"GET", b"PROPFIND", 1),
    "POST": post(b"Content-Length: 5\r\n", body=b"hello"),
    "POST without a body": post(b"Content-Length: 0\r\n"),
    "POST without a length": post(),
    "GET with a body": get(b"Content-Length: 5\r\n") + b"hello",
    "chunks": post(CHUNKED, body=b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    "chunks of one byte": post(CHUNKED, body=b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"),
    "a chunk extension": post(CHUNKED, body=b"5;name=value\r\nhello\r\n0\r\n\r\n"),
    "a trailer": post(
        b"Trailer: X-Checksum\r\n", CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Checksum: 7\r\n\r\n"
    ),
    "a chunk size in capitals": post(CHUNKED, body=b"A\r\n0123456789\r\n0\r\n\r\n"),
    "Transfer-Encoding in capitals": post(b"TRANSFER-ENCODING: Chunked\r\n", body=b"0\r\n\r\n"),
    "Expect: 100-continue with its body": post(
        b"Expect: 100-continue\r\n", b"Content-Length: 5\r\n", body=b"hello"
    ),
    "HTTP/1.0 with Host": get(version=b"1.0"),
    "HTTP/1.0 without Host, as a health check": get(version=b"1.0", host=b""),
    "HTTP/1.0 with keep-alive": get(b"Connection: keep-alive\r\n", version=b"1.0"),
    "Connection: close": get(b"Connection: close\r\n"),
    "Host without a port": get(host=b"Host: shop.example\r\n"),
    "Host as IPv4": get(host=b"Host: 192.0.2.7:8000\r\n"),
    "Host as IPv6": get(host=b"Host: [2001:db8::7]:8000\r\n"),
    "Host with an underscore, as of a container": get(host=b"Host: my_service:8000\r\n"),
    "Host with a final dot": get(host=b"Host: shop.example.\r\n"),
    "Host in capitals": get(host=b"HOST: SHOP.EXAMPLE\r\n"),
    "no space behind the colon": get(host=b"Host:shop.example\r\n"),
    "spaces and tabs around a value": get(b"X: \t y \t \r\n"),
    "an empty value": get(b"X:\r\n"),
    "bytes above ASCII in a value": get(b"X: caf\xc3\xa9\r\n"),
    "a header twice": get(b"Cookie: a=1\r\nCookie: b=2\r\n"),
    "an empty line before it": b"\r\n" + get(),
    "a URL as the target": get(target=b"http://shop.example:8000/items?x=1"),
    "a query": get(target=b"/items?q=a%20b&q=%C3%A9&empty="),
    "escapes in the path": get(target=b"/caf%C3%A9/a%2Fb"),
    "signs in the path": get(target=b"/~a/b;c=1,2/(d)/e'f!g$h*i@j:k"),
    "two slashes": get(target=b"//a//b"),
    "a target of 7 KiB": get(target=b"/" + b"y" * 7 * 1024),
    "a cookie of 30 KiB": get(b"Cookie: a=" + b"y" * 30 * 1024 + b"\r\n"),
    "99 headers": get(*(b"X-%d: y\r\n" % number for number in range(98))),
    "Upgrade: h2c": get(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    ),
}
