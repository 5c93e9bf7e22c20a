"""The summaries that ``oneglance watch`` prints at the end."""

from oneglance_apps.text import joined
from oneglance_apps.watch.outbox import Outbox
from oneglance_apps.watch.record_text import latency
from oneglance_apps.watch.watcher import Watcher


def progress_line(watcher: Watcher) -> str:
    counts, length = watcher.counts, watcher.source.length
    whole = f" of {length:.1f}" if length else ""
    events = counts.identified + counts.unknown
    return f"{counts.seconds:.1f}{whole} s, {counts.answered} frames, {events} events"


def source_summary(watcher: Watcher) -> str:
    """What became of the frames of a source: those that came are those answered, skipped and dropped."""
    counts, frames, source = watcher.counts, watcher.frames, watcher.source
    measured = watcher.latency(of_run=True)
    return joined(
        f"{frames.read} frames: {frames.answered} answered, {frames.skipped} skipped, {frames.dropped} dropped",
        f"{counts.faces} faces, {counts.identified} identified, {counts.unknown} unknown",
        latency(measured) if source.live and measured.p50 is not None else "",
        f"{counts.lost} frames lost with the server" if counts.lost else "",
        f"{source.damaged} damaged packets" if source.damaged else "",
        f"{source.missing} frames missing" if source.missing else "",
        f"{counts.refused} frames refused, the last: {counts.refusal}" if counts.refused else "",
    )


def output_summary(outbox: Outbox) -> str:
    counts = outbox.counts
    return joined(
        f"{outbox.name}: {counts.delivered} events delivered, {counts.failed} not",
        f"{counts.expired} expired" if counts.expired else "",
        f"{counts.refused} refused" if counts.refused else "",
        f"{counts.unanswered} without an answer" if counts.unanswered else "",
        f"{counts.overflowed} too many" if counts.overflowed else "",
        f"{counts.unsent} not sent before the end" if counts.unsent else "",
    )
