"""`lit-ghibli data fetch`: download a published data set and unpack it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.data.download import Report, fetch
from lit_ghibli.errors import UserError, did_you_mean, one_line, say


@command("data fetch")
def data_fetch(config: DictConfig) -> None:
    """Make the folder ``out/name`` from the data set's archive, unless it is there."""
    if config.name not in config.datasets:
        raise UserError(_no_such_name(config.name, config.datasets))
    for value in ("timeout", "max_hours", "max_megabytes"):
        if not isinstance(config[value], int | float) or config[value] <= 0:
            raise UserError(f"{value} must be a number above 0; got {config[value]!r}")
    published = config.datasets[config.name]
    sha256 = config.sha256 or published.sha256
    with _progress_bar(config.name) as report:
        fetched = fetch(
            config.name,
            config.url or published.url,
            output_folder(config.out),
            sha256=None if sha256 is None else str(sha256),
            max_bytes=round(config.max_megabytes * 10**6),
            timeout=config.timeout,
            max_seconds=3600 * config.max_hours,
            report=report,
        )
    splits = sorted(path for path in fetched.folder.iterdir() if path.is_dir())
    counts = (f"{len(list(split.iterdir()))} files in {one_line(split.name)}" for split in splits)
    say(f"{fetched.folder}: {', '.join(counts)}")
    if not fetched.fresh:
        print("it was there already, so nothing was downloaded")
    if fetched.sha256:
        say(f"sha256 of its archive, noted in {fetched.folder}.sha256: {fetched.sha256}")


def _no_such_name(name: str | None, known: Iterable[str]) -> str:
    known = sorted(known)
    if name is None:
        return f"which data set? lit-ghibli data fetch {'|'.join(known)}"
    return f"there is no data set '{name}', only {', '.join(known)}{did_you_mean(str(name), known)}"


@contextmanager
def _progress_bar(description: str) -> Iterator[Report]:
    """Yield what a download reports to; it is shown on a terminal only."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    with Progress(text, *columns, console=console, disable=not console.is_terminal) as bar:

        def report(done: int, total: int | None) -> None:
            if bar.tasks:
                bar.update(bar.task_ids[0], completed=done, total=total)
            else:  # only now, so that what an earlier run has received does not count as speed
                bar.add_task(description, completed=done, total=total)

        yield report


if __name__ == "__main__":
    data_fetch()
