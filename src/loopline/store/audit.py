"""The audit trail: a hash chain in the records, and a signed head outside them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.base.clock import SystemClock
from loopline.base.errors import NotFound, Unavailable
from loopline.base.ids import canonical
from loopline.base.keys import SigningKey, fingerprint, verify
from loopline.base.log import logger
from loopline.store.records.chain import GENESIS, entry_hash
from loopline.store.records.protocol import Records

_PAGE = 5000
_HEAD = 512
NEW_KEY = "workspace.new_key"
"""Action of the entry that says that another key seals from here on."""
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What `Audit.verify` found. `problems` name entries by sequence number; `notes` are no damage."""

    ok: bool
    entries: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Audit:
    """Seals and verifies the chain that `Tx.audit` appends to.

    After each commit a head (last sequence number and hash, signed with the key
    of the workspace) goes to `head.json`. Beside the key, outside the workspace,
    stand a copy of the head and the hash of every sealed entry: so an entry that
    was edited, removed or cut off is named, even when the chain after it was
    computed anew.

    Parameters
    ----------
    records : Records
        They hold the entries.
    folder : Path
        `audit/` of the workspace.
    workspace : str, optional
        Its id; read from `workspace.json` beside the folder if not given.
    """

    def __init__(self, records: Records, folder: Path, *, workspace: str | None = None) -> None:
        self._records, self._folder, self._workspace = records, Path(folder), workspace

    @property
    def workspace(self) -> str:
        """The id of the workspace."""
        if self._workspace is None:
            marker = self._folder.parent / "workspace.json"
            try:
                self._workspace = str(json.loads(marker.read_text())["id"])
            except (OSError, ValueError, KeyError) as error:
                raise NotFound(
                    f"{self._folder.parent} is not a workspace",
                    why=f"{marker.name} cannot be read: {error}",
                    fix="restore it from a backup",
                ) from error
        return self._workspace

    def seal(self) -> None:
        """Sign the newest entry as the head; what was sealed already is left as it is.

        A chain that no longer continues the last head is not sealed: the old
        head stays, so that `verify` can name what was changed.

        Raises
        ------
        Unavailable
            If the key or a head cannot be written; the next call makes up for it.
        """
        try:
            with self._alone():
                self._seal()
        except OSError as error:
            raise Unavailable(
                f"the head of the audit trail cannot be written: {error.strerror or error}",
                why=f"{self._folder} or {settings.keys_folder()} is full or read-only; the records are safe",
                fix="free some space or make it writable; the next command seals what is missing",
            ) from error

    def _seal(self) -> None:
        witness = Witness(self.workspace)
        sealed, last = witness.last()
        head = _read_head(self._head)
        fresh = self._records.entries(after=sealed)
        if not fresh and (not sealed or (head is not None and head["seq"] == sealed and head["hash"] == last)):
            return
        began, hashes = sealed, _sound(fresh, sealed, last)
        if head is not None and not self._continues(head, witness, began, hashes):
            _log.error("the audit trail does not continue its sealed head; run `loopline audit verify`")
            return
        if began + len(hashes):
            key = SigningKey.load(f"workspace-{self.workspace}", create=True)
            if not began and head is not None and self._vouches(head) and head["public"] != key.public:
                self._tell_new_key(head, key)
                hashes = _sound(self._records.entries(after=began), began, last)
            witness.append(began, hashes)
            self._sign(key, began + len(hashes), hashes[-1] if hashes else last, witness)

    def _vouches(self, head: dict[str, Any]) -> bool:
        return head["workspace"] == self.workspace and _is_signed(head)

    def _tell_new_key(self, head: dict[str, Any], key: SigningKey) -> None:
        """Put on record that another key than before seals from here on: the workspace came without its own."""
        before = fingerprint(head["public"])
        _log.warning(
            "this machine lacks the key %s of the workspace; %s seals the audit trail from here on",
            before,
            key.fingerprint,
        )
        doc = {"key": key.fingerprint, "before": before, "sealed": head["seq"]}
        with self._records.transaction() as tx:
            tx.audit(NEW_KEY, settings.actor_name(), self.workspace, doc, at=SystemClock()())

    def _continues(self, head: dict[str, Any], witness: Witness, began: int, hashes: list[str]) -> bool:
        """Whether a chain of `began` sealed entries and then `hashes` holds the entry that `head` vouches for.

        A head of another workspace or without a good signature vouches for
        nothing; `verify` names it. One signed by another machine's key counts
        where this machine has sealed nothing yet.
        """
        if not self._vouches(head):
            return True
        if began and head["public"] != SigningKey.load(f"workspace-{self.workspace}", create=True).public:
            return True
        seq = head["seq"]
        if seq > began + len(hashes):
            return False
        return bool(head["hash"] == (hashes[seq - began - 1] if seq > began else witness.hash_of(seq)))

    def _sign(self, key: SigningKey, seq: int, last: str, witness: Witness) -> None:
        head = {"workspace": self.workspace, "seq": seq, "hash": last, "public": key.public}
        doc = {**head, "signature": key.sign(canonical(head))}
        _replace(self._head, doc)
        witness.write_head(doc)

    def verify(self) -> AuditReport:
        """Check every entry against the chain, the signed heads and the hashes kept outside."""
        witness = Witness(self.workspace)
        known = witness.hashes()
        problems: list[str] = []
        notes: list[str] = []
        hashes: dict[int, str] = {}
        count, prev, expected, rewritten = 0, GENESIS, 1, False
        for entry in self._entries():
            seq, count = entry["seq"], count + 1
            gap = seq != expected
            if gap:
                problems.append(_span(expected, seq - 1, "removed"))
            if entry_hash(entry) != entry["hash"]:
                problems.append(f"entry {seq} was edited")
            elif not rewritten and seq <= len(known) and known[seq - 1] != entry["hash"]:
                problems.append(f"entry {seq} was edited, and the chain from there on was written anew")
                rewritten = True
            elif not gap and entry["prev"] != prev and not _names(problems, seq - 1):
                problems.append(f"entry {seq - 1} was edited")
            if entry["action"] == NEW_KEY:
                told = entry["doc"]
                came = f"the workspace came here without its key {told['before']}"
                notes.append(f"entry {seq}: {came}; {told['key']} seals since then")
            hashes[seq] = prev = entry["hash"]
            expected = seq + 1
        heads = [head for head in (self._check(self._head, problems), self._check(witness.head, problems)) if head]
        furthest = max([len(known), *(head["seq"] for head in heads)])
        if furthest >= expected:
            problems.append(_span(expected, furthest, "cut off"))
        for head in heads:
            if hashes.get(head["seq"], head["hash"]) != head["hash"] and not problems:
                problems.append(f"an entry up to {head['seq']} was edited, and the chain was written anew")
        if not self._head.exists() and count and furthest:
            problems.append(f"{self._head.name} was removed; it had sealed entry {furthest}")
        if rewritten or len(known) >= expected:
            notes.append(
                "a copy of this workspace that wrote with the same keys folder leaves the same trace; "
                "in a copy, `loopline fork` gives it an id and a key of its own"
            )
        if count and not heads:
            notes.append("no head is sealed yet")
        elif heads and expected - 1 > furthest:
            notes.append(f"{expected - 1 - furthest} entries follow the sealed head; the next command seals them")
        if heads and not witness.head.exists():
            notes.append("this machine holds no copy of the head: the workspace was sealed elsewhere")
        return AuditReport(not problems, count, tuple(problems), tuple(notes))

    @property
    def _head(self) -> Path:
        return self._folder / "head.json"

    def _entries(self) -> Iterator[dict[str, Any]]:
        after = 0
        while page := self._records.entries(after=after, limit=_PAGE):
            yield from page
            after = page[-1]["seq"]

    def _check(self, path: Path, problems: list[str]) -> dict[str, Any] | None:
        if not path.exists():
            return None
        head = _read_head(path)
        if head is None:
            problems.append(f"{path.name} cannot be read as a head")
            return None
        try:
            trusted: str | None = SigningKey.load(f"workspace-{self.workspace}", create=False).public
        except NotFound:
            trusted = None
        if head["workspace"] != self.workspace:
            problems.append(f"{path.name} belongs to the workspace {head['workspace']}")
        elif not _is_signed(head):
            problems.append(f"{path.name} was changed: its signature does not hold")
        elif trusted is not None and head["public"] != trusted:
            problems.append(f"{path.name} is signed by another key than this workspace's")
        else:
            return head
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process seals at a time, so that a head never goes back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Witness:
    """What is kept beside the key: the head, and 32 bytes of hash per sealed entry."""

    def __init__(self, workspace: str) -> None:
        folder = settings.keys_folder()
        self.head = folder / f"workspace-{workspace}.head.json"
        self.file = folder / f"workspace-{workspace}.hashes"

    def last(self) -> tuple[int, str]:
        """Number and hash of the last sealed entry; 0 and the genesis hash before any."""
        try:
            with self.file.open("rb") as handle:
                count = os.fstat(handle.fileno()).st_size // 32
                if not count:
                    return 0, GENESIS
                handle.seek((count - 1) * 32)
                return count, handle.read(32).hex()
        except FileNotFoundError:
            return 0, GENESIS

    def hashes(self) -> list[str]:
        """The hash of every sealed entry, from the first."""
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return []
        return [data[at : at + 32].hex() for at in range(0, len(data) - len(data) % 32, 32)]

    def hash_of(self, seq: int) -> str:
        """The hash of a sealed entry."""
        with self.file.open("rb") as handle:
            handle.seek((seq - 1) * 32)
            return handle.read(32).hex()

    def write_head(self, doc: dict[str, Any]) -> None:
        """Keep a copy of the head: padded to one size, so that one write replaces it."""
        handle = os.open(self.head, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, (json.dumps(doc) + "\n").encode().rjust(_HEAD), 0)
        finally:
            os.close(handle)

    def append(self, after: int, hashes: list[str]) -> None:
        """Add hashes behind the entry `after`; a torn last one is overwritten."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.file.open("r+b" if self.file.exists() else "w+b") as handle:
            handle.seek(after * 32)
            handle.write(b"".join(bytes.fromhex(mark) for mark in hashes))
            handle.truncate()


def _sound(entries: Iterable[dict[str, Any]], seq: int, last: str) -> list[str]:
    """Hashes of the entries that continue the chain after the entry `seq` with the hash `last`."""
    hashes: list[str] = []
    for entry in entries:
        if entry["prev"] != last or entry["seq"] != seq + 1 or entry["hash"] != entry_hash(entry):
            _log.error("the audit trail is broken at entry %s; run `loopline audit verify`", entry["seq"])
            break
        seq, last = entry["seq"], entry["hash"]
        hashes.append(last)
    return hashes


def _read_head(path: Path) -> dict[str, Any] | None:
    try:
        head = json.loads(path.read_text())
        valid = isinstance(head["seq"], int) and all(
            isinstance(head[name], str) for name in ("workspace", "hash", "public", "signature")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return head if valid else None


def _is_signed(head: dict[str, Any]) -> bool:
    unsigned = {name: head[name] for name in ("workspace", "seq", "hash", "public")}
    return verify(head["public"], head["signature"], canonical(unsigned))


def _replace(path: Path, doc: dict[str, Any]) -> None:
    """Write a head whole or not at all.

    It is not forced to disk: after a power cut a head may lag behind the
    entries, which are, and the next seal brings it up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w") as handle:
            handle.write(json.dumps(doc, indent=1) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _span(first: int, last: int, what: str) -> str:
    return f"entry {first} was {what}" if first == last else f"entries {first} to {last} were {what}"


def _names(problems: list[str], seq: int) -> bool:
    return any(problem.startswith(f"entry {seq} ") for problem in problems)
