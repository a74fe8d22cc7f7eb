"""Decoding an HTTP body piece by piece with a cap, so that neither a bomb nor a body that ends early passes unseen."""

from __future__ import annotations

import zlib


class BodyError(Exception):
    """The body cannot be decoded."""


class BodyTooLarge(BodyError):
    """The decoded body exceeds the cap."""


class Decoder:
    """Decodes chunks by `encoding` ("" or identity, gzip); at most `max_bytes` come out.

    >>> Decoder("", 10).feed(b"plain")
    b'plain'
    """

    def __init__(self, encoding: str, max_bytes: int):
        self.encoding = encoding.strip().lower()
        if self.encoding not in ("", "identity", "gzip", "x-gzip"):
            raise BodyError(f"the answer's encoding {self.encoding[:40]!r} was not asked for")
        self._inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if "gzip" in self.encoding else None
        self._left = max_bytes

    def feed(self, chunk: bytes) -> bytes:
        """The decoded part of `chunk`; `BodyTooLarge` past the cap, `BodyError` for a damaged stream."""
        if self._inflater is not None:
            try:
                chunk = self._inflater.decompress(chunk, self._left + 1)
            except zlib.error as error:
                raise BodyError(f"the compressed answer is damaged ({error})") from None
        self._left -= len(chunk)
        if self._left < 0:
            raise BodyTooLarge
        return chunk

    def end(self) -> None:
        """Nothing more comes: a compressed body must have reached its end mark and checksum."""
        if self._inflater is not None and not self._inflater.eof:
            raise BodyError("the compressed answer ends early")
