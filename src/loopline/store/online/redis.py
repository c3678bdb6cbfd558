"""Latest value by key, in Redis or Valkey."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from loopline.base.errors import Invalid, Unavailable, install
from loopline.store.online.protocol import place
from loopline.store.online.sqlite import micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS, _BIAS = 17, 10**16
"""A value begins with its event time as text of fixed width, so that the server can compare two."""
_PUT = """
for i, key in ipairs(KEYS) do
  local old = redis.call('GETRANGE', key, 0, 16)
  if old == '' or tonumber(old) <= tonumber(string.sub(ARGV[i], 1, 17)) then redis.call('SET', key, ARGV[i]) end
end
"""
_WRITE = """
local last = #KEYS
if ARGV[1] ~= '' then
  local held = redis.call('GET', KEYS[last])
  if held then held = string.sub(held, 18) end
  if ARGV[1] == 'none' then if held then return 0 end
  elseif held ~= string.sub(ARGV[1], 2) then return 0 end
  last = last - 1
end
local set = tonumber(ARGV[2])
for i = 1, set do redis.call('SET', KEYS[i], ARGV[i + 2]) end
for i = set + 1, last do redis.call('DEL', KEYS[i]) end
return 1
"""
_MOST = 5_000
"""Keys in one call of the server, which does nothing else meanwhile."""


class RedisOnline:
    """`Online` in a Redis or Valkey server: one `MGET` a request, one script a batch.

    Parameters
    ----------
    url : str
        For example `redis://:password@host:6379/0` or `rediss://host` (TLS).
    prefix : str
        Begins every key; stands in braces, so that a cluster keeps all keys in one slot.
    timeout_s : float
        A server that does not answer for so long counts as down.

    Notes
    -----
    How durable values are is the server's choice (`appendonly`); what is lost is built from the tables again.
    A server that may drop keys for want of memory must not: set `maxmemory-policy noeviction`.
    """

    def __init__(self, url: str, *, prefix: str = "loopline", timeout_s: float = 2.0) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise Unavailable(
                f"online values in {_public(url)} need the redis client: {error}",
                why="it is an extra of its own",
                fix=install("redis"),
            ) from error
        self._url, self._prefix = url, f"{{{prefix}}}:"
        self._error: type[Exception] = redis.RedisError
        try:
            self._make: Callable[[], Any] = lambda: redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 1),
                protocol=2,
            )
            self._client = self._make()
        except ValueError as error:
            raise Invalid(
                f"{_public(url)} is no address of a Redis server: {error}",
                why="LOOPLINE_ONLINE names where online values live",
                fix="write for example redis://localhost:6379/0",
            ) from error
        self._pid = os.getpid()
        self._scripts: dict[str, Any] = {}

    def put_many(self, view: str, values: Mapping[str, tuple[datetime, bytes]]) -> None:
        """Keep values by key, all or none; an older event time changes nothing."""
        packed = {self._prefix + place(view, key): _packed(micros(at), value) for key, (at, value) in values.items()}
        if packed:
            with self._reached():
                self._script(_PUT)(keys=list(packed), args=list(packed.values()))

    def get(self, view: str, key: str) -> tuple[datetime, bytes] | None:
        """The newest value of a key with its event time (UTC); null when never put."""
        return self.get_many(view, [key])[0]

    def get_many(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, bytes] | None]:
        """As `get`, in the order of `keys`, as of one moment."""
        return [None if raw is None else _unpacked(raw) for raw in self._raw([place(view, key) for key in keys])]

    def delete(self, view: str, key: str) -> None:
        """Forget a key."""
        with self._reached() as client:
            client.delete(self._prefix + place(view, key))

    def read(self, places: Sequence[str]) -> list[bytes | None]:
        """The values at some places, as of one moment."""
        return [None if raw is None else raw[_DIGITS:] for raw in self._raw(places)]

    def write(
        self,
        values: Mapping[str, bytes],
        at: datetime,
        *,
        gone: Sequence[str] = (),
        only_if: tuple[str, bytes | None] | None = None,
    ) -> bool:
        """Keep values by place and forget others, all or none; false where `only_if` does not hold."""
        moment = micros(at)
        keys = [self._prefix + one for one in (*values, *gone)]
        held: bytes = b""
        if only_if is not None:
            keys.append(self._prefix + only_if[0])
            held = b"none" if only_if[1] is None else b"=" + only_if[1]
        with self._reached():
            args = [held, len(values), *(_packed(moment, value) for value in values.values())]
            return bool(self._script(_WRITE)(keys=keys, args=args))

    def keys(self, view: str) -> list[str]:
        """The keys of a view, sorted."""
        start = self._prefix + place(view, "")
        pattern = "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in start) + "*"
        with self._reached() as client:
            found = [raw.decode() for raw in client.scan_iter(match=pattern, count=_MOST)]
        return sorted({one[len(start) :] for one in found if one.startswith(start)})

    def count(self, view: str) -> int:
        """How many keys a view has: every key of the server is looked at."""
        return len(self.keys(view))

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _raw(self, places: Sequence[str]) -> list[bytes | None]:
        if not places:
            return []
        prefix = self._prefix
        with self._reached() as client:
            found: list[bytes | None] = client.mget([prefix + one for one in places])
        return found

    def _script(self, text: str) -> Any:
        if text not in self._scripts:
            self._scripts[text] = self._client.register_script(text)
        return self._scripts[text]

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        if self._pid != os.getpid():  # a connection is not shared with a forked process
            self._client, self._pid, self._scripts = self._make(), os.getpid(), {}
        try:
            yield self._client
        except self._error as error:
            raise Unavailable(
                f"the online values in {_public(self._url)} cannot be used: {error}",
                why="the server is down, refuses, or does not answer in time",
                fix="start it, or correct LOOPLINE_ONLINE; values are built again by `loopline features publish`",
            ) from error


def _packed(moment: int, value: bytes) -> bytes:
    return f"{moment + _BIAS:0{_DIGITS}d}".encode() + value


def _unpacked(raw: bytes) -> tuple[datetime, bytes]:
    return _EPOCH + timedelta(microseconds=int(raw[:_DIGITS]) - _BIAS), raw[_DIGITS:]


def _public(url: str) -> str:
    """An address without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else url
