"""`lit-ghibli data check`: look the folders of a training through before it starts."""

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import say
from lit_ghibli.files import write_picture
from lit_ghibli.recipes import build
from lit_ghibli.reports.tables import markdown_table


@command("data check")
def data_check(config: DictConfig) -> None:
    """Write ``findings.csv``, ``files.csv``, ``summary.*`` and ``sheet.png``; exit with 1 if something is wrong."""
    from lit_ghibli.data.check import files as dataset_files  # here, so that --help answers at once
    from lit_ghibli.data.check import findings as check
    from lit_ghibli.data.check.likeness import likeness
    from lit_ghibli.data.check.report import VERDICTS, draw_sheet, in_words, write_tables

    if "root" not in config.data:
        print("these data are rendered, or none are needed: there are no folders to look through")
        return
    datamodule = build(config.data)
    source = datamodule.source
    out = output_folder(config.out, source.reads)
    folders, pairings = dataset_files.layout(source)
    listed, findings = check.find_files(folders, pairings)
    keep_grids = any(folder.halves for folder in folders) or bool(pairings)
    inspecting = dataset_files.inspect_files(listed, source.smallest, keep_grids=keep_grids)
    files = list(track(inspecting, "Looking through", len(listed), console=Console(stderr=True)))
    findings += check.find_bad(files, skipped=source.on_bad_file == "skip")
    findings += check.find_too_few(folders, files, datamodule.batch_size)
    findings += check.find_duplicates(files, config.duplicate_distance)
    findings += check.find_misfits(pairings, files, source)
    strangers, compared = check.find_strangers(pairings, files, likeness)
    findings += strangers + check.find_color_differences(files)
    findings.sort(key=lambda finding: list(VERDICTS).index(finding.verdict))
    rows = [dataset_files.summarize(folder, files) for folder in folders]
    write_tables(out, rows, findings, files)
    print(
        markdown_table([{name: row[name] for name in row if name not in dataset_files.COLOR_COLUMNS} for row in rows])
    )
    colors = ("folder", *dataset_files.COLOR_COLUMNS)  # a table of their own, since a terminal is narrow
    print(markdown_table([{name: row[name] for name in row if name in colors} for row in rows]))
    print(in_words(findings))
    title = f"{source.root}: {len(files):,} files, {len(findings):,} findings"
    if sheet := draw_sheet(title, findings, compared, folders, files, config.samples):
        write_picture(sheet, out / "sheet.png")
    say(f"tables and sheet: {out}")
    if any(finding.verdict in ("stops", "leaks") for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    data_check()
