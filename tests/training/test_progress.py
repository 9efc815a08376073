"""The progress line."""

import io

from hjepa_gfn.training import progress as module
from hjepa_gfn.training.progress import Progress, duration


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


def test_duration():
    assert [duration(s) for s in (0, 59.4, 75, 3700)] == ["0:00", "0:59", "1:15", "1:01:40"]


def run(monkeypatch, stream, **options):
    """100 iterations that begin at 20, 2 a second, the first one ten seconds longer (it compiles)."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    line = Progress(120, 20, stream=stream, **options)
    clock.now += 10
    for step in range(21, 121):
        clock.now += 0.5
        line.update(step, {"a/acc": 0.5, "jepa/loss": 1.23456, "em/loss": 2.0} if step % 10 == 0 else None)
    line.close(120)
    return line


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    stream = io.StringIO()
    line = run(monkeypatch, stream)
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 6 and "\r" not in stream.getvalue()
    assert lines[-1] == "train  120/120  100%  2 it/s  0:00 left  jepa/loss 1.235  em/loss 2"
    assert lines[1].endswith("left  jepa/loss 1.235  em/loss 2") and "2 it/s" in lines[1]
    assert line.rate(120) == 2.0  # the compilation does not count


def test_a_terminal_gets_one_line_rewritten(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    run(monkeypatch, stream, show=["a/acc"])
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().count("\r") > 50
    assert stream.getvalue().endswith("  0:00 left  a/acc 0.5\n")


def test_quiet(monkeypatch):
    stream = io.StringIO()
    run(monkeypatch, stream, enabled=False)
    assert stream.getvalue() == ""
