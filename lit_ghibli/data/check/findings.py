"""Looks a data set's folders through for what would stop a training, falsify its scores, or surprise its user."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lit_ghibli.data.check.files import COLORS, Folder, Pairing, PictureFile
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.image_folders import count_unread, list_images
from lit_ghibli.data.near_duplicates import BITS, find_near_duplicates, find_nearest
from lit_ghibli.data.sources import Folders, near_twins, stem
from lit_ghibli.data.transforms import Resize

Verdict = Literal["stops", "leaks", "warning", "note"]
Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]

_STRONG = 0.8  # standard deviations between pictures: a large effect by Cohen 1988
_CERTAIN = 3.0  # standard errors: not by chance
_STRANGERS = 0.95  # quantile of the likeness of strangers, above which partners are
_FEWEST_PAIRS = 5  # that a shift in numbering can be told from


@dataclass
class Finding:
    """Something that the user should know.

    Attributes:
        verdict: ``stops`` a training; ``leaks`` held-out pictures into it; is a ``warning``; or only a ``note``.
        kind: What it is, the same words for all of its kind.
        detail: This one, in words.
        advice: What to do, the same words for all of its kind.
        folder: That it is of, if it is of one.
        file: That it is of, if it is of one.
        other: The other file that it is about, if there is one.
        distance: Of near-copies: bits of 64 in which their hashes differ.
    """

    verdict: Verdict
    kind: str
    detail: str
    advice: str
    folder: Folder | None = None
    file: Path | None = None
    other: Path | None = None
    distance: int | None = None


def find_files(folders: Sequence[Folder], pairings: Sequence[Pairing]) -> tuple[list[PictureFile], list[Finding]]:
    """List the picture files of all folders, none of which is opened, and complain about folders.

    Args:
        folders: To be searched.
        pairings: Of which a training refuses one held-out folder without the other.
    """
    files, findings = [], []
    needed = [folder for pairing in pairings if pairing.needed for folder in (pairing.inputs, pairing.targets)]
    some_held_out = any(folder.split == "test" and folder.path.is_dir() for folder in needed)
    for folder in folders:
        if folder.split == "test" and not folder.path.is_dir():
            findings.append(_no_held_out(folder, stops=some_held_out))
            continue
        try:
            files += [PictureFile(folder, path) for path in list_images(folder.path)]
        except FolderError as error:
            findings.append(Finding("stops", "folder", str(error), "name folders that hold pictures", folder))
            continue
        if unread := count_unread(folder.path):
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
            detail = f"{folder.path} holds pictures or videos that are passed over: {counts}"
            findings.append(Finding("note", "other files", detail, "convert pictures among them to PNG", folder))
    return files, findings


def find_bad(files: Sequence[PictureFile], *, skipped: bool) -> list[Finding]:
    """Files that cannot be used, which a training skips or stops at."""
    advice = "they are skipped; repair or remove them" if skipped else "repair or remove them, or data.on_bad_file=skip"
    return [
        Finding(
            "warning" if skipped else "stops", "bad file", f"{file.path} {file.problem}", advice, file.folder, file.path
        )
        for file in files
        if file.problem
    ]


def find_too_few(folders: Sequence[Folder], files: Sequence[PictureFile], batch_size: int) -> list[Finding]:
    """A training set that is smaller than one batch."""
    usable = Counter(file.folder for file in files if not file.problem and file.folder.split == "train")
    needed = [folder for folder in folders if folder.split == "train"]
    most = max(usable[folder] for folder in needed)
    if most >= batch_size and all(usable[folder] for folder in needed):
        return []
    counts = ", ".join(f"{usable[folder]} in {folder.path}" for folder in needed)
    detail = f"pictures that can be used: {counts}; one batch takes {batch_size}"
    return [Finding("stops", "too few", detail, "add pictures, or lower data.batch_size")]


def find_duplicates(files: Sequence[PictureFile], distance: int) -> list[Finding]:
    """Copies and near-copies: of training pictures among held-out ones, within either, and across the domains.

    Args:
        files: That were inspected.
        distance: The most bits of 64 in which the hashes of near-copies differ.
    """
    usable = [file for file in files if file.hash is not None]
    findings = []
    for domain in dict.fromkeys(file.folder.domain for file in usable):
        train, test = (
            [file for file in usable if file.folder.domain == domain and file.folder.split == split]
            for split in ("train", "test")
        )
        findings += _leaks(train, test, distance)
        findings += _repeats(train, distance)
        findings += _repeats(test, distance)
    return findings + _across_domains(usable)


def find_misfits(pairings: Sequence[Pairing], files: Sequence[PictureFile], source: Folders) -> list[Finding]:
    """Files without a partner, and partners whose aspects differ."""
    findings = []
    strict = "warning" if source.on_bad_file == "skip" else "stops"
    for pairing in pairings:
        inputs, targets = (_by_stem(files, folder) for folder in (pairing.inputs, pairing.targets))
        if not pairing.needed and not inputs.keys() & targets.keys():
            continue  # held-out pictures of unpaired domains
        findings += _ambiguous(pairing, files)
        findings += _alone(inputs, targets, pairing, strict)
        for name in (name for name in inputs if name in targets):
            findings += _two_aspects(inputs[name], targets[name], pairing, source.resize, strict)
    return findings


def find_strangers(
    pairings: Sequence[Pairing], files: Sequence[PictureFile], likeness: Likeness
) -> tuple[list[Finding], list[tuple[PictureFile, PictureFile | None, float]]]:
    """Partners that look no more alike than pictures that do not belong together.

    Args:
        pairings: Folders of partners.
        files: That were inspected, their grids kept.
        likeness: Of grids ``(N, 32, 32)`` and others like them, ``(N,)``: more is more alike.

    Returns:
        The findings, and all pairs with their likeness; the second file is None of pairs that are in one file.
    """
    findings, compared = [], []
    for name, pairs in _grids_of_pairs(pairings, files).items():
        if len(pairs) < _FEWEST_PAIRS:
            continue
        inputs, targets = (np.stack([pair[place] for pair in pairs]) for place in (2, 3))
        own = likeness(inputs, targets)
        threshold = float(np.quantile(likeness(inputs, np.roll(targets, 1, axis=0)), _STRANGERS))
        compared += [(first, second, float(value)) for (first, second, *_), value in zip(pairs, own, strict=True)]
        if np.median(own) <= threshold:
            detail = f"{name}: partners look no more alike than strangers (median {np.median(own):.2f} against "
            detail += f"{threshold:.2f} for the most alike strangers)"
            advice = "look at the sheet: the numbering may be shifted, or the two may have nothing in common to compare"
            findings.append(Finding("warning", "pairs unlike", detail, advice, pairs[0][0].folder))
            continue
        for (first, second, *_), value in zip(pairs, own, strict=True):
            if value <= threshold:
                other = second.path if second else None
                detail = f"{first.path} looks no more like {other or 'its other half'} than strangers do ({value:.2f})"
                advice = "look whether they belong together, and remove those that do not"
                findings.append(Finding("warning", "pair unlike", detail, advice, first.folder, first.path, other))
    return findings, compared


def find_color_differences(files: Sequence[PictureFile]) -> list[Finding]:
    """Strong differences of color between training and test, and between the two domains."""
    groups: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for file in files:
        if not file.problem:
            groups.setdefault((file.folder.split, file.folder.domain), []).append(file.colors)
    findings = []
    for domain in ("input", "target", "both"):
        told = _tell_apart(groups.get(("train", domain), []), groups.get(("test", domain), []))
        if told:
            detail = f"{domain} pictures differ between training and test (means): {told}"
            advice = "scores are of pictures unlike those trained on; draw both from the same"
            findings.append(Finding("warning", "train unlike test", detail, advice))
    if told := _tell_apart(groups.get(("train", "input"), []), groups.get(("train", "target"), [])):
        detail = f"inputs and targets differ (means): {told}"
        advice = "the translation will learn it; where it is no part of the style, choose other pictures"
        findings.append(Finding("note", "domains unlike", detail, advice))
    return findings


def _no_held_out(folder: Folder, stops: bool) -> Finding:
    if stops:
        detail = f"no folder {folder.path}, though there are other held-out pictures: pairs need both"
        return Finding("stops", "folder", detail, "add it, or remove the other", folder)
    detail = f"no folder {folder.path}: pictures and metrics would use training images instead"
    return Finding("warning", "nothing held out", detail, "hold some pictures out, or scores mean little", folder)


def _leaks(train: Sequence[PictureFile], test: Sequence[PictureFile], distance: int) -> list[Finding]:
    findings = []
    copies = {file.digest: file for file in reversed(train)}
    nearest = find_nearest([file.hash for file in test], [file.hash for file in train], distance)
    for file, place in zip(test, nearest, strict=True):
        if twin := copies.get(file.digest):
            detail, advice = f"{file.path} is the training picture {twin.path}", "remove it from one of the two"
            findings.append(Finding("stops", "leak", detail, advice, file.folder, file.path, twin.path))
        elif place is not None:
            twin, bits = train[place], (file.hash ^ train[place].hash).bit_count()
            detail = f"{file.path} nearly is the training picture {twin.path} ({bits} of {BITS} bits differ)"
            advice = "look at the sheet; remove it from one of the two, or lower duplicate_distance where they differ"
            findings.append(Finding("leaks", "near leak", detail, advice, file.folder, file.path, twin.path, bits))
    return findings


def _repeats(files: Sequence[PictureFile], distance: int) -> list[Finding]:
    """Copies and near-copies within one split of one domain."""
    findings = []
    originals = find_near_duplicates([file.hash for file in files], distance)
    for file, place in zip(files, originals, strict=True):
        if place is not None:
            twin = files[place]
            bits = None if file.digest == twin.digest else (file.hash ^ twin.hash).bit_count()
            how = "is a copy of" if bits is None else f"nearly is ({bits} of {BITS} bits differ)"
            kind = f"repeated in {file.folder.split}"
            advice = "it counts more than the others; remove one of the two"
            if file.folder != twin.folder:
                kind, advice = "in two training folders", "it is trained on in both ways; remove one unless you mean it"
            detail = f"{file.path} {how} {twin.path}"
            findings.append(Finding("warning", kind, detail, advice, file.folder, file.path, twin.path, bits))
    return findings


def _across_domains(files: Sequence[PictureFile]) -> list[Finding]:
    """Files of targets that are copies of inputs."""
    inputs = {file.digest: file for file in files if file.folder.domain == "input"}
    twins = [(file, inputs[file.digest]) for file in files if file.folder.domain == "target" and file.digest in inputs]
    return [
        Finding(
            "warning",
            "in both domains",
            f"{file.path} is also the input {twin.path}",
            "a picture is of one domain; remove it from the other",
            file.folder,
            file.path,
            twin.path,
        )
        for file, twin in twins
    ]


def _by_stem(files: Sequence[PictureFile], folder: Folder) -> dict[Path, PictureFile]:
    return {stem(file.path.relative_to(folder.path)): file for file in files if file.folder == folder}


def _ambiguous(pairing: Pairing, files: Sequence[PictureFile]) -> list[Finding]:
    """Files of one folder that are named alike but for the extension, which a training refuses."""
    findings = []
    for folder in (pairing.inputs, pairing.targets) if pairing.needed else ():
        first: dict[Path, PictureFile] = {}
        for file in files:
            if file.folder == folder:
                twin = first.setdefault(stem(file.path.relative_to(folder.path)), file)
                if twin is not file:
                    detail = f"{twin.path} and {file.path} would both be the same half of a pair"
                    facts = (folder, file.path, twin.path)
                    findings.append(Finding("stops", "two of one name", detail, "remove one of them", *facts))
    return findings


def _alone(
    inputs: dict[Path, PictureFile], targets: dict[Path, PictureFile], pairing: Pairing, strict: Verdict
) -> list[Finding]:
    """Files without a partner."""
    verdict, advice = strict, "add the partner, rename one of the two, or remove the file"
    sides = [(inputs, targets, pairing.inputs, pairing.targets), (targets, inputs, pairing.targets, pairing.inputs)]
    if not pairing.needed:
        verdict, advice = "note", "scores against true partners need one for every held-out input"
        sides = sides[:1]
    findings = []
    for mine, others, folder, other in sides:
        alone = [file.path for name, file in mine.items() if name not in others]
        hints = near_twins(folder.path, alone, other.path, [file.path for file in others.values()])
        findings += [
            Finding(verdict, "no partner", f"{path} has no partner in {other.path}{hint}", advice, folder, path)
            for path, hint in zip(alone, hints, strict=True)
        ]
    return findings


def _two_aspects(
    first: PictureFile, second: PictureFile, pairing: Pairing, mode: str, strict: Verdict
) -> list[Finding]:
    """Partners that are not of one shape: a training stops where they are not even after resizing."""
    if first.problem or second.problem or first.size == second.size:
        return []
    shapes = [Resize(pairing.size, mode)(Image.new("1", file.size)).size for file in (first, second)]
    resized_alike = all(abs(a - b) <= 2 for a, b in zip(*shapes, strict=True))
    aspects = [file.size[0] / file.size[1] for file in (first, second)]
    if resized_alike and abs(aspects[0] / aspects[1] - 1) < 2 / min(*first.size, *second.size):
        return []
    verdict = "warning" if resized_alike or not pairing.needed else strict
    sizes = " and ".join("{}x{}".format(*file.size) for file in (first, second))
    detail = f"{first.path} and its partner {second.path} have different aspects: {sizes}"
    advice = "cut both to the same part of the scene"
    return [Finding(verdict, "two aspects", detail, advice, first.folder, first.path, second.path)]


def _grids_of_pairs(pairings: Sequence[Pairing], files: Sequence[PictureFile]) -> dict[str, list[tuple]]:
    """By the folders' names, ``(file, partner or None, grid, partner's grid)`` of all good pairs."""
    pairs: dict[str, list[tuple]] = {}
    for pairing in pairings:
        inputs, targets = (_by_stem(files, folder) for folder in (pairing.inputs, pairing.targets))
        title = f"{pairing.inputs.path} and {pairing.targets.path}"
        for name, first in inputs.items():
            second = targets.get(name)
            if second and not (first.problem or second.problem):
                pairs.setdefault(title, []).append((first, second, first.grids[0], second.grids[0]))
    for file in files:
        if len(file.grids) == 2 and not file.problem:
            pairs.setdefault(str(file.folder.path), []).append((file, None, *file.grids))
    return pairs


def _tell_apart(first: Sequence[tuple[float, ...]], second: Sequence[tuple[float, ...]]) -> str:
    """In which colors two groups of pictures differ strongly and surely, in words; empty where in none."""
    if min(len(first), len(second)) < 2:
        return ""
    groups = np.array(first), np.array(second)
    means = [group.mean(axis=0) for group in groups]
    variances = [group.var(axis=0, ddof=1) for group in groups]
    effect = np.abs(means[0] - means[1]) / np.sqrt(np.maximum((variances[0] + variances[1]) / 2, 1e-12))
    error = np.sqrt(sum(variance / len(group) for variance, group in zip(variances, groups, strict=True)))
    strong = (effect > _STRONG) & (np.abs(means[0] - means[1]) > np.maximum(_CERTAIN * error, 1 / 255))
    return ", ".join(
        f"{name} {means[0][place]:.2f} and {means[1][place]:.2f}" for place, name in enumerate(COLORS) if strong[place]
    )
