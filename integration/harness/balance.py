"""The collector's closing balance sheet, read back, and the laws it must obey."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

Account = dict[str, int]

_LISTS = ("records", "connections", "left out by the probes, events", "left out by the probes, bytes")


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of itself at its end."""

    bytes: Account
    plain: Account
    """Of TLS; empty where there was none."""
    requests: Account
    exports: dict[str, Account]
    """By exporter."""
    lists: dict[str, Account]
    """The one-line counts, by their title."""

    def assert_balanced(self) -> None:
        """Every byte, every request and every span is in exactly one column, and the sheet itself says so."""
        assert_account("bytes", self.bytes, "sent and received, says the kernel", ("seen", "not seen: "))
        if self.plain:
            assert_account("plain text", self.plain, "written and read, says the library", ("seen", "not seen: "))
        assert_account("requests", self.requests, "begun", ("spans", "lost: "))
        for name, account in self.exports.items():
            assert_account(name, account, "accepted", ("exported", "lost: ", "still queued"))
            assert account["accepted"] == self.requests["spans"], f"{name} was not given every span"

    def assert_nothing_lost(self, *, but: Collection[str] = ()) -> None:
        """Balanced, and every request was told, `but` for those lost for these reasons."""
        self.assert_balanced()
        assert self.lost.keys() <= set(but), self.lost

    def exporter(self, kind: str) -> Account:
        """The account of the one exporter of this kind."""
        (account,) = [account for name, account in self.exports.items() if name.startswith(kind)]
        return account

    @property
    def lost(self) -> Account:
        """Requests that became no span, by reason."""
        return {name.removeprefix("lost: "): n for name, n in self.requests.items() if name.startswith("lost: ")}

    @property
    def unseen(self) -> Account:
        """Bytes not seen, by reason."""
        return {name.removeprefix("not seen: "): n for name, n in self.bytes.items() if name.startswith("not seen: ")}


def assert_account(name: str, account: Account, total: str, columns: tuple[str, ...]) -> None:
    """The columns add up to the total, and the difference the sheet states is the 0 it must be."""
    summed = sum(count for title, count in account.items() if title.startswith(columns))
    assert (account[total], account["difference"]) == (summed, 0), f"{name} does not balance: {account}"


def parse(text: str) -> Sheet:
    """The sheet in what the collector wrote to standard error; there must be exactly one."""
    _, *rest = text.split("balance sheet\n")
    assert len(rest) == 1, f"{len(rest)} balance sheets in:\n{text}"
    sections: dict[str, Account] = {}
    lists: dict[str, Account] = {}
    current: Account = {}
    for line in rest[0].splitlines():
        if line.startswith("    "):
            name, _, count = line.strip().rpartition(" ")
            current[name.strip()] = int(count.replace(",", ""))
        elif line.startswith("  ") and line.strip().startswith(_LISTS):
            title, _, told = line.strip().partition(": ")
            pairs = [pair.rpartition(" ") for pair in told.split(", ")]
            lists[title] = {name: int(count.replace(",", "")) for name, _, count in pairs}
        elif line.startswith("  "):
            current = sections[line.strip()] = {}
        else:
            break
    given = "spans given to "
    return Sheet(
        bytes=sections["bytes of traced connections"],
        plain=sections.get("plain text of TLS sessions", {}),
        requests=sections["requests"],
        exports={name.removeprefix(given): account for name, account in sections.items() if name.startswith(given)},
        lists=lists,
    )
