"""What was found while a feed was read: counts that stand in the report, and how they are said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from appliedpapers.plugins.volatility_images.market import Session

_WORDS = {
    "messages": "{n} messages read",
    "quotes_read": "{n} quotes read",
    "trades_read": "{n} trades read",
    "quotes_removed": "{n} quotes removed (a zero side, or an offer not above the bid)",
    "out_of_session_quotes": "{n} quotes before or after the session (they still give the opening book)",
    "out_of_session_trades": "{n} trades outside the session left out",
    "corrected_trades": "{n} trades with a correction code left out",
    "auction_trades": "{n} auction prints in the session kept out of the flow",
    "auction_trades_kept": "{n} auction prints in the session counted as flow",
    "odd_price_trades": "{n} trades at a price or size that is not positive left out",
    "crossed": "{n} crossed or locked books repaired: the last sound book stood instead",
    "crossed_venues": "{n} seconds in which venues lock or cross each other, kept as they are",
    "stale_levels": "{n} levels beyond the touch left out (stale depth)",
    "stale_orders": "{n} orders pruned that a later order of the other side would have met",
    "unknown_orders": "{n} changes of orders that were never seen left out",
    "sequence_gaps": "{n} gaps in the sequence numbers: no window crosses them",
    "old_updates": "{n} updates older than the snapshot left out",
    "before_snapshot": "{n} updates before the first snapshot left out",
    "empty_side": "{n} books with an empty side: the last sound book stood instead",
    "duplicates": "{n} repeated rows left out",
    "time_gaps": "{n} gaps of more than the largest that is bridged: no window crosses them",
    "filled_seconds": "{n} seconds without an update filled with the last book",
    "halted": "{n} seconds of a halt: no window crosses them",
    "scale_changes": "{n} changes of the price scale: no window crosses them",
    "not_market_trades": "{n} trades of another kind than MARKET left out (insurance fund, liquidation)",
    "trades_outside_book": "{n} trades outside the time of the book left out",
    "unsigned_trades": "{n} trades without a direction",
    "empty_sessions": "{n} sessions without a usable second left out",
}


@dataclass
class CleaningReport:
    """Counts by what was found, in the order in which they were met.

    Attributes:
        counts: Of the kinds that sentences are known for.
        clock: Which clock times are of, such as ``"local"``.
        said: Further sentences.
    """

    counts: dict[str, int] = field(default_factory=dict)
    clock: str = ""
    said: list[str] = field(default_factory=list)

    def add(self, kind: str, count: int = 1) -> None:
        """Count something that was found.

        Raises:
            KeyError: No sentence is known for it.
        """
        if kind not in _WORDS:
            raise KeyError(kind)
        self.counts[kind] = self.counts.get(kind, 0) + int(count)

    def sentences(self) -> Iterator[str]:
        """Yield the report in words; what was looked for and not found is left out."""
        yield from self.said
        for kind, count in self.counts.items():
            if count:
                yield _WORDS[kind].format(n=f"{count:,}")


@dataclass
class Feed:
    """What a reader makes of files.

    Attributes:
        sessions: In the order of time.
        report: What was found.
        files: Names of what was read.
        direction: Where the side of trades comes from: ``given``, ``prevailing``, ``snapshot`` or ``none``.
    """

    sessions: list[Session]
    report: CleaningReport
    direction: str = "given"
