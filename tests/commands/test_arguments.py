"""What users type, and what becomes of it, without starting a process."""

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lit_ghibli.checkpoints import CheckpointError
from lit_ghibli.commands import COMMANDS, TEXTS, completion, module_of, to_overrides
from lit_ghibli.commands._hydra import job_overrides
from lit_ghibli.commands.rerun import expand_run
from lit_ghibli.commands.train import expand_resume
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote
from lit_ghibli.recipes import check, config_dir, parse, typed_path
from lit_ghibli.recipes import compose as compose_checked

CONF = Path(config_dir())
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (CONF / "preset").glob("*.yaml"))
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
TRAINERS = sorted(path.stem for path in (CONF / "trainer").glob("*.yaml"))

AWKWARD = [
    "a b.jpg",
    "a=b.jpg",
    "it's.jpg",
    'say "cheese".jpg',
    "a\\b.jpg",
    'a\\".jpg',
    "ends with \\",
    "x${y}.jpg",
    "x\\${y}.jpg",
    "a,b[1]{2}(3).jpg",
    "süß 宮崎.jpg",
    "$HOME",
    "null",
    "1",
    " space around ",
    "~x",
    "%:@#!?",
]


@pytest.fixture(autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train_config(*overrides: str):
    config = compose("train", [*overrides, "name=any", "run_dir=/run"])
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_every_experiment_composes_with_every_preset(experiment, preset):
    config = train_config(
        *([f"experiment={experiment}"] if experiment else []), *([f"preset={preset}"] if preset else [])
    )
    assert config["method"]["_target_"].startswith("lit_ghibli.methods.")
    assert config["trainer"]["max_epochs"] == config["method"]["epochs"] > 0
    assert config["data"]["seed"] == config["seed"] == config["metrics"]["seed"]
    assert "${" not in str(config)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_size_for_every_method(preset, method):
    plain, sized = (method_config(f"method={method}", *more) for more in ([], [f"preset={preset}"]))
    assert plain != sized


@cache
def method_config(*overrides: str):
    return train_config(*overrides)["method"]


@pytest.mark.parametrize("derive", sorted(path.stem for path in (CONF / "data" / "derive").glob("*.yaml")))
def test_every_derivation_composes(derive):
    config = train_config("experiment=pix2pix_colorize", f"data/derive={derive}", "data.root=/x")
    assert instantiate(config["data"], _convert_="object").source.derive == instantiate(config["data"]["derive"])


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "wandb"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_and_logger_composes(trainer, logger):
    config = train_config(f"trainer={trainer}", f"logger={logger}")
    assert {"compile", "channels_last", "batch_passes"} == set(config["runtime"])
    assert logger in config["logger"]
    assert "csv" in config["logger"], "resume and reports read it"


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_survives_hydras_grammar(name):
    config = compose(
        "stylize",
        to_overrides("stylize", [name, "--out", name])
        if "=" not in name and name[0] != "~"
        else [f"inputs=[{quote(name)}]", f"out={quote(name)}"],
    )
    assert list(config.inputs) == [name]
    assert config.out == name


def test_photographs_folders_and_overrides_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b.jpg").touch()
    Path("c=d").mkdir()
    words = ["a=b.jpg", "x y.jpg", "tile=512", "c=d", "--out", "my out", "overwrite=true", "not=there.jpg"]
    expanded = to_overrides("stylize", words)
    assert sorted(expanded[:4]) == ["not=there.jpg", 'out="my out"', "overwrite=true", "tile=512"]
    assert expanded[4:] == ['inputs=["a=b.jpg","x y.jpg","c=d"]']
    config = compose("stylize", [word for word in expanded if not word.startswith("not=")])
    assert (config.inputs, config.out, config.tile, config.overwrite) == (
        ["a=b.jpg", "x y.jpg", "c=d"],
        "my out",
        512,
        True,
    )


@pytest.mark.parametrize("words", [["--out", "o p"], ["-o", "o p"], ["--out=o p"], ['out="o p"']])
def test_forms_of_out(words):
    assert to_overrides("stylize", ["a.jpg", *words]) == ['out="o p"', 'inputs=["a.jpg"]']
    assert to_overrides("scenes", words) == ['out="o p"']
    assert to_overrides("train", words) == ['hydra.run.dir="o p"']
    assert to_overrides("train", ["-m", *words]) == ["-m", 'hydra.sweep.dir="o p"']
    assert to_overrides("rerun", ["run", *words]) == ['hydra.run.dir="o p"', 'run="run"']


def test_hydras_own_flags_and_their_values_pass():
    words = ["--cfg", "job", "-cd", "folder", "--help", "~hydra.x", "a.jpg"]
    assert to_overrides("stylize", words) == [*words[:-1], 'inputs=["a.jpg"]']
    assert to_overrides("stylize", ["tile=0"]) == ["tile=0"]


@pytest.mark.parametrize("flag", ["--out", "-o"])
def test_out_without_a_folder_is_refused(flag):
    with pytest.raises(UserError, match=f"{flag} needs a folder"):
        to_overrides("stylize", ["a.jpg", flag])


def test_values_of_the_checkpoints_data_can_be_replaced():
    words = ["data.root=/x", "seed=1", "++data.y=2"]
    assert to_overrides("evaluate", words) == ['++data.root="/x"', "seed=1", "++data.y=2"]


@pytest.mark.parametrize("words", [["--method.epochs", "5"], ["--method.epochs=5"], ["method.epochs=5"]])
def test_keys_may_be_options(words):
    assert to_overrides("train", words) == ["method.epochs=5"]


def test_options_take_negative_numbers_and_dashes():
    words = ["a.jpg", "--on-bad-file", "skip", "--seed", "-1"]
    assert to_overrides("stylize", words) == ["on_bad_file=skip", "seed=-1", 'inputs=["a.jpg"]']


PATHS = [
    "my run (1)", "epoch=3-step=60.ckpt", "a,b.ckpt", "it's.ckpt", "[v2].ckpt", "{x}.ckpt", "2024", "1e5", "true",
    'say "cheese".ckpt', "interval(1,2)", "a\\b", "x$y", "a:b", "süß 宮崎", "#1 %&", "a;b|c",
]  # fmt: skip
KEYS = [
    ("stylize", "checkpoint"), ("evaluate", "checkpoint"), ("pseudo-pair", "teacher"), ("mos score", "key"),
    ("train", "data.root"), ("train", "method.generator.weights"), ("import", "file"), ("style", "photos"),
    ("sweep", "study"), ("compare", "mos"), ("data check", "data.root"), ("train", "name"), ("mos build", "inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "key"), KEYS)
def test_paths_are_what_was_typed(command, key):
    for path in PATHS:
        (override,) = to_overrides(command, [f"{key}={path}"])
        assert parse(override).value() == path
    check("stylize", to_overrides("stylize", [f"checkpoint={PATHS[0]}"]))


def test_paths_in_lists_and_of_several_runs_are_what_was_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    for typed, meant in [
        ("inputs=[a (1).jpg, it's.jpg]", ["a (1).jpg", "it's.jpg"]),
        ("methods={x: a (1)/, y: ~/b}", {"x": "a (1)/", "y": "/home/me/b"}),
        ("methods=[x:a (1)/,y:~/b]", ["x:a (1)/", "y:/home/me/b"]),
        ("methods={x: 'a, b'}", {"x": "a, b"}),
        ("out=~/o", "/home/me/o"),
        ("out=null", None),
        ("out='a b'", "a b"),
    ]:
        assert parse(to_overrides("mos build", [typed])[0]).value() == meant
    assert to_overrides("mos build", ["--out=~/o", "-o", "~/p"]) == ['out="/home/me/o"', 'out="/home/me/p"']
    assert to_overrides("compare", ["x:~/a", "~/b"]) == ['subjects=["x:/home/me/a","/home/me/b"]']
    assert to_overrides("train", ["-m", "data.root=a (1),~/b"]) == ["-m", 'data.root="a (1)","/home/me/b"']
    Path("a,[b]").mkdir()
    assert to_overrides("train", ["-m", "data.root=a,[b]"]) == ["-m", 'data.root="a,[b]"']
    assert to_overrides("sweep", ["s", "data.root=x (1)"]) == ['study="s"', r'overrides=["data.root=\"x (1)\""]']


def test_every_key_of_a_path_is_known_as_such():
    """By what the comments in conf/ say of keys that have no number, no switch and no list."""
    found = 0
    for file in CONF.rglob("*.yaml"):
        for line in file.read_text().splitlines():
            if named := re.match(r" *(\w+): (?!true|false|\d|\[|\$|\{|error)\S+ # .*\b(folder|path)\b", line):
                keys = [prefix + named[1] for prefix in ("", "data.", "method.", "method.generator.", "method.vgg.")]
                assert any(map(TEXTS.fullmatch, keys)), f"{file}: {line}"
                found += 1
    assert found > 20


def understand(command: str, words: str) -> None:
    overrides = to_overrides(command, words.split())
    check(module_of(command), [word for word in overrides if word != "-m"], sweeps="-m" in overrides)


WRONG = [
    ("train", "--mul", ["no option --mul"]),
    ("train", "--ver", ["no option --ver", "did you mean --version"]),
    ("train", "-x", ["no option -x"]),
    ("train", "--method.epochs", ["--method.epochs needs a value", "method.epochs=VALUE"]),
    ("train", "--out", ["--out needs a folder"]),
    ("train", "--cfg", ["--cfg needs a value"]),
    ("train", "-m seed=1,2 --cfg job", ["--multirun and --cfg cannot be had at once"]),
    ("train", "-m seed=range(3,1)", ["seed=range(3,1): there is no such value"]),
    ("train", "-m method=glob(zz*)", ["method=glob(zz*): there is no such value"]),
    ("train", "fetch", ["'fetch'", "key=value"]),
    ("stylize", "checkpint=x", ["stylize has no 'checkpint'", "did you mean checkpoint?"]),
    ("stylize", "--checkpint x", ["stylize has no 'checkpint'", "did you mean checkpoint?"]),
    ("train", "method.epoch=3", ["no 'method.epoch'", "method.epochs"]),
    ("train", "epochs=3", ["no 'epochs'", "method.epochs"]),
    ("train", "~method.epochz", ["no 'method.epochz'", "method.epochs"]),
    ("train", "+seed=3", ["'seed' is there already"]),
    ("train", "hydra.run.dri=x", ["no 'hydra.run.dri'", "hydra.run.dir"]),
    ("train", "method=cyclgan", ["method=cyclgan", "did you mean cyclegan?", "nijigan"]),
    ("train", "-m method=cyclegan,pix", ["method=pix", "cyclegan"]),
    ("train", "data=scene", ["data=scene", "did you mean scenes?"]),
    ("train", "logger=[csv,wandbb]", ["logger=wandbb", "did you mean wandb?"]),
    ("train", "method/bottleneck=od", ["method/bottleneck=od", "did you mean ode?"]),
    ("stylize", "method=cyclegan", ["method", "stylize has nothing of that name"]),
    ("train", "experiment=null", ["experiment=null", "leave the word out"]),
    ("stylize", "tile=-5", ["tile must be a whole number of at least 0", "-5"]),
    ("train", "resume=", ["resume is empty"]),
    ("train", "data.root=''", ["data.root is empty"]),
    ("scenes", "--out=", ["out is empty"]),
    ("stylize", "tile=abc", ["tile must be a whole number of at least 0", "'abc'"]),
    ("stylize", "tile=1.5", ["tile must be a whole number", "1.5"]),
    ("stylize", "tile=null", ["tile must be a whole number", "None"]),
    ("stylize", "overwrite=maybe", ["overwrite must be true or false", "'maybe'"]),
    ("stylize", "steps=abc", ["steps must be a whole number of at least 1", "'abc'"]),
    ("stylize", "quality=101", ["quality must be a whole number of 1 ... 100", "101"]),
    ("profile", "method=cyclegan repeats=3", ["repeats must be a list", "3"]),
    ("scenes", "size=31", ["size must be a whole number of 32 ... 512", "31"]),
    ("scenes", "count=0", ["count must be a whole number of at least 1", "0"]),
    ("data check", "samples=-1", ["samples must be a whole number of at least 0", "-1"]),
    ("pseudo-pair", "keep=many", ["keep must be a number", "'many'"]),
    ("nst", "beta=x", ["beta must be a number", "'x'"]),
    ("train", "method.generator.smoothing=1.5", ["method.generator.smoothing must be a whole number", "1.5"]),
    ("train", "method.epochs=abc", ["method.epochs must be a whole number of at least 1", "'abc'"]),
    ("train", "-m method.epochs=3,abc", ["method.epochs must be a whole number", "'abc'"]),
    ("train", "data.batch_size=0", ["data.batch_size must be a whole number of at least 1", "0"]),
    ("train", "data.flip=yes", ["data.flip must be a number", "'yes'"]),
    ("train", "seed=x", ["seed must be a whole number", "'x'"]),
    ("train", "seed=-1", ["seed must be a whole number", "-1"]),
    ("train", "trainer.devices=abc", ["trainer.devices must be a number of devices", "auto", "'abc'"]),
    ("train", "method.weights=3", ["method.weights must be changed value by value", "method.weights.gan="]),
    ("train", "method.weights={gann:1}", ["no 'method.weights.gann'", "method.weights.gan"]),
    ("train", "method.weights.cycle=[1", ["method.weights.cycle=[1: cannot be read"]),
    ("train", "name=${oops", ["name=${oops: cannot be read"]),
    ("train", "name=${nope}", ["name", "'nope' not found"]),
    ("train", "seed=1,2", ["seed=1,2", "-m"]),
    ("train", "method.epochs=1e0", ["method.epochs must be a whole number of at least 1", "1.0"]),
    ("train", "method.generator.num_blocks=0", ["method.generator.num_blocks must be a whole number of at least 1"]),
    ("train", "method.weights.cycle=nan", ["method.weights.cycle must be a finite number", "nan"]),
    ("train", "method.optimizer_g.lr=-1", ["method.optimizer_g.lr must be a number of at least 0", "-1"]),
    ("train", "method.optimizer_g.betas=[0.5]", ["method.optimizer_g.betas must be a list of 2 numbers"]),
    ("train", "method.optimizer_g.betas=[0.5,a]", ["method.optimizer_g.betas must be a list, each of it a number"]),
    ("train", "trainer.check_val_every_n_epoch=-1", ["check_val_every_n_epoch must be a whole number of at least 1"]),
    ("train", "callbacks.checkpoints.keep_epochs=-2", ["keep_epochs must be a whole number of at least -1"]),
    ("train", "callbacks.watch.every_n_batches=null", ["every_n_batches must be a whole number of at least 1"]),
    ("train", "data=unpaired data.min_side=-1", ["data.min_side must be a whole number of at least 1"]),
    ("train", "data=unpaired data.on_bad_file=ignore", ["data.on_bad_file must be error or skip", "'ignore'"]),
    ("train", "data.cache=tape", ["data.cache must be disk or ram", "'tape'"]),
    ("train", "logger=wandb logger.wandb.tags=one", ["logger.wandb.tags must be a list", "'one'"]),
    ("train", "logger=null", ["logger=null", "logger=none"]),
    ("train", "optimized_metric=5", ["optimized_metric must be a metric's name", "5"]),
    ("train", "name=null", ["name must be a value, not null"]),
    ("train", "name=[a,b]", ["name must be one value"]),
    ("train", "trainer.devices=0", ["trainer.devices must be a number of devices", "0"]),
    ("stylize", "device=0", ["device must be auto, cpu or cuda", "0"]),
    ("stylize", "device=mps", ["device must be auto, cpu or cuda", "'mps'"]),
    ("stylize", "quality=95.5", ["quality must be a whole number of 1 ... 100", "95.5"]),
    ("stylize", "keep_colors=yes", ["keep_colors must be true or false", "'yes'"]),
    ("rerun", "r trust=no", ["trust must be true or false", "'no'"]),
    ("rerun", "r trust=off", ["trust must be true or false", "'off'"]),
    ("mos build", "inputs=a methods={a:b} out=o overwrite=no", ["overwrite must be true or false", "'no'"]),
    ("pseudo-pair", "teacher=null", ["teacher must be a value, not null"]),
    ("rerun", "a b", ["one run at a time", "a, b"]),
    ("rerun", "a -m seed=1,2", ["rerun takes one value"]),
    ("sweep", "a b", ["one study at a time", "a, b"]),
    ("import", "a b", ["one file at a time", "a, b"]),
    ("import", "a famly=cut", ["import has no 'famly'", "family"]),
    ("sweep", "a jobs=x", ["jobs must be a whole number of at least 1", "'x'"]),
]


@pytest.mark.parametrize(("command", "words", "parts"), WRONG, ids=[f"{each[0]} {each[1]}" for each in WRONG])
def test_wrong_words_are_answered_in_a_line_or_two(command, words, parts):
    with pytest.raises(UserError) as error:
        understand(command, words)
    message = str(error.value)
    assert message.count("\n") <= 1
    for part in parts:
        assert part in message


def test_an_empty_word_of_a_shell_is_told():
    with pytest.raises(UserError, match="one word is empty"):
        to_overrides("stylize", ["", "--out", "o"])
    with pytest.raises(UserError, match="out is empty"):
        to_overrides("stylize", ["a.jpg", "--out", ""])
    assert to_overrides("train", ["logger.wandb.group="]) == ["logger.wandb.group="]


RIGHT = [
    ("train", "trainer.devices=auto"),
    ("train", "trainer.devices=2"),
    ("train", "trainer.max_time=00:01:00:00"),
    ("train", "callbacks.checkpoints.keep_epochs=-1"),
    ("train", "callbacks.checkpoints.monitor=null"),
    ("train", "~callbacks.doctor"),
    ("train", "method.weights.cycle=1e1"),
    ("train", "-m method=cyclegan,pix2pix data=scenes,scene_pairs method.generator.base_channels=4,8"),
    ("train", "-m method.weights.cycle=interval(1,20)"),
    ("train", "-m method.weights.cycle=interval(1,20) seed=1,2 data.test_count=${data.count}"),
    ("train", "-m method=glob(c*)"),
    ("train", "launcher=slurm seed=0,1,2 launcher.partition=gpu"),
    ("train", "+callbacks.mine={_target_:x.Y,a:1}"),
    ("train", "++method.new=3"),
    ("train", "seed=${data.count}"),
    ("train", "data.cache_dir=/x"),
    ("stylize", "inputs=a.jpg out=x"),
    ("mos build", "inputs=a methods=[a:b,c:d] out=x"),
    ("nst", "beta=[1e3,1e4]"),
    ("nst", "pairs=pairs.csv checkpoint=arbitrary strength=[0.3,1] size=[256,512]"),
    ("import", "a.pth --out x family=cut generator.upsample=legacy"),
    ("train", "method.generator.weights=a.pth"),
    ("pseudo-pair", "min_structure=null keep=0.5"),
    ("rerun", "r trust=false"),
    ("rerun", "r trust=True"),
    ("train", "callbacks.doctor=null logger=none"),
    ("train", "trainer.check_val_every_n_epoch=null +trainer.val_check_interval=10"),
    ("train", "optimized_metric=[val/swd,train_seconds]"),
    ("train", "name='abc"),
    ("stylize", "device=cuda:1"),
]


def test_what_hydra_alone_knows_is_checked_alike_inside_of_its_programs(monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", compose("train", [], return_hydra_config=True))
    with pytest.raises(UserError, match="name must be a value, not null"):
        check("train", ["name=null"])


@pytest.mark.parametrize(("command", "words"), RIGHT, ids=[f"{each[0]} {each[1]}" for each in RIGHT])
def test_what_can_be_meant_is_let_through(command, words):
    understand(command, words)


def test_configurations_in_another_folder_count(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [cyclegan]\n")
    check("train", ["method=mine", "method.epochs=3"], folder=str(tmp_path))
    with pytest.raises(UserError, match="did you mean mine"):
        check("train", ["method=mne"], folder=str(tmp_path))


def test_a_composed_training_has_its_name_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose_checked("train", ["method=pix2pix", "data=scene_pairs"])
    assert config.name == "pix2pix"
    assert config.run_dir.startswith(f"{tmp_path}/outputs/pix2pix_20")
    assert "hydra" not in config
    assert compose_checked("train", ["name=x", "run_dir=/y"]).run_dir == "/y"
    assert GlobalHydra.instance().is_initialized(), "the program around it goes on"


# --- completion ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        ([""], {"train", "help", "data", "mos"}),
        (["sty"], {"style", "stylize"}),
        (["data", ""], {"fetch", "check"}),
        (["help", "tr"], {"train"}),
        (["train", "metho"], {"method=", "method.", "method/bottleneck="}),
        (["train", "method.epo"], {"method.epochs="}),
        (
            ["train", "method=nst", "method.cont"],
            {"method.content=", "method.content_mask=", "method.content_layers=", "method.content_layer_weights="},
        ),
        (["train", "method", "=", "cy"], {"method=cyclegan"}),
        (["train", "method="], {f"method={name}" for name in METHODS}),
        (["train", "data.root=x"], set()),
        (["stylize", "--o"], {"--out"}),
        (["stylize", "--out", "ov"], set()),
        (["stylize", "overwrite="], {"overwrite=true", "overwrite=false"}),
        (["sweep", "x", "--d"], {"--dry-run"}),
        (["sweep", "x", "data.ro"], set()),
        (["completion", ""], {"bash", "zsh"}),
    ],
)
def test_words_are_completed(words, replies):
    found = set(completion.replies(words))
    assert found >= replies
    assert found == replies or words in ([""], ["data", ""])


PROGRAM = f'lit-ghibli() {{ {shlex.quote(sys.executable)} -m lit_ghibli "$@"; }}; '


def printed(tmp_path, shell: str, script: str) -> list[str]:
    Path(tmp_path / "my holiday").mkdir()
    done = subprocess.run([shell, "-c", PROGRAM + script], cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_bash_completes_commands_keys_choices_and_files(tmp_path):
    script = 'eval "$(lit-ghibli completion bash)"; '
    for words in (["styli"], ["train", "method", "=", "cyc"], ["stylize", "my"]):
        script += f"COMP_WORDS=(lit-ghibli {' '.join(words)}); COMP_CWORD={len(words)}; _lit_ghibli; "
        script += r"""printf "%s\n" "${COMPREPLY[@]}"; """
    assert printed(tmp_path, "bash", script) == ["stylize", "cyclegan", r"my\ holiday/"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes_commands_keys_choices_and_files(tmp_path):
    # What adds replies in an interactive shell, which alone has it; what follows a finished word is a space.
    script = r"""compdef() { }; _files() { print files }; compset() { print prefix $2 }
        compadd() { for reply in ${(P)${@[-1]}}; do print -r -- "$reply${${(M)1:#-a}:+ }|"; done }
        eval "$(lit-ghibli completion zsh)"; """
    for words in ("styli", r"stylize 'my\ ho'", "train data.root=m"):
        script += f"words=(lit-ghibli {words}); CURRENT=$#words; _lit_ghibli; "
    expected = ["stylize |", "my holiday/|", "prefix *=", "files"]
    assert printed(tmp_path, "zsh", script) == expected


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes_what_is_typed(tmp_path):
    """On a terminal, where the line that a key has made is written into a file."""
    (tmp_path / "my holiday").mkdir()
    ready = 'said() { print -r -- "$BUFFER" >> lines; BUFFER= }; zle -N said; bindkey "^X^B" said; print > lines\n'
    (tmp_path / ".zshrc").write_text(
        f'{PROGRAM}\nautoload -Uz compinit; compinit -u\neval "$(lit-ghibli completion zsh)"\n{ready}'
    )
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-i"], {**os.environ, "ZDOTDIR": str(tmp_path), "TERM": "xterm"})
    lines, typed = tmp_path / "lines", ["tr", "train method=cyc", "stylize my"]
    try:
        for count in range(1, len(typed) + 2):
            while not lines.exists() or lines.read_text().count("\n") < count:  # what it draws has to be read
                if select.select([terminal], [], [], 0.1)[0]:
                    os.read(terminal, 4096)
            if count <= len(typed):
                os.write(terminal, f"lit-ghibli {typed[count - 1]}\t\x18\x02".encode())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    completed = ["train ", "train method=cyclegan ", r"stylize my\ holiday/"]
    assert lines.read_text().splitlines() == ["", *(f"lit-ghibli {line}" for line in completed)]


def test_every_command_has_a_summary_and_a_configuration():
    for name, command in COMMANDS.items():
        assert command.summary
        assert (CONF / f"{module_of(name)}.yaml").is_file() or name in ("completion", "wandb-trial")


@pytest.mark.parametrize("command", [name for name, grammar in COMMANDS.items() if grammar.passed_on != r"(?!)"])
def test_a_key_of_a_commands_own_does_not_go_to_its_trainings(command):
    own = OmegaConf.load(CONF / f"{module_of(command)}.yaml").keys() - {"defaults", "hydra", "run_dir"}
    assert not [key for key in own if re.match(COMMANDS[command].passed_on, key)]


def test_a_style_may_start_from_nothing_or_from_a_file():
    words = to_overrides("style", ["paintings", "name=x", "start=null", "method.epochs=3"])
    assert words == ['name="x"', "start=null", 'paintings="paintings"', 'overrides=["method.epochs=3"]']
    assert 'start="my run (1)"' in to_overrides("style", ["paintings", "start=my run (1)"])


# --- resume --------------------------------------------------------------------


def made_run(folder: Path, *overrides: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides) or "[]\n")
    return folder


@pytest.mark.parametrize("quoted", ["", '"', "'"])
def test_resume_becomes_the_runs_own_command_line(tmp_path, quoted):
    run = made_run(tmp_path / "a run", "data=scenes", "seed=3", "resume=older")
    ours = expand_resume(["method.epochs=9", f"resume={quoted}{run}{quoted}"])
    last = run / "checkpoints" / "last.ckpt"
    assert ours == ["data=scenes", "seed=3", "method.epochs=9", f'resume="{last}"', f'hydra.run.dir="{run}"']
    assert expand_resume(ours) == ours, "a further process of a DDP run has it expanded already"
    config = compose("train", [*ours, "name=x", "run_dir=y"], return_hydra_config=True)
    assert (config.resume, config.hydra.run.dir, config.seed) == (str(last), str(run), 3)


def test_resume_takes_a_checkpoint_of_the_run(tmp_path):
    run = made_run(tmp_path / "run")
    epoch = run / "checkpoints" / "epoch_0001.ckpt"
    epoch.touch()
    assert expand_resume([f"resume={epoch}"]) == [f'resume="{epoch}"', f'hydra.run.dir="{run}"']


@pytest.mark.parametrize(
    "name", ["my run (1), [v2] = x", "it's ${data.root}", 'the "good" one', "a\\${b}\\", "5", "null "]
)
def test_a_run_may_be_called_like_a_word_of_the_grammar(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    last = made_run(tmp_path / name) / "checkpoints" / "last.ckpt"
    resume, folder = expand_resume(to_overrides("train", [f"resume={name}"]))
    config = compose("train", [resume, folder, "name=x", "run_dir=y"], return_hydra_config=True)
    assert (config.resume, config.hydra.run.dir) == (str(last), str(last.parents[1]))
    assert typed_path(expand_run(to_overrides("rerun", [name]))[-1]) == str(tmp_path / name)


def test_nothing_to_resume_is_a_new_run_and_what_is_no_path_is_refused():
    assert expand_resume(["resume=null", "seed=1"]) == ["resume=null", "seed=1"]
    for word in ("resume=[a,b]", "resume={a: b}", "resume=a,b", "resume=5"):
        with pytest.raises(UserError, match=rf"^{re.escape(word)}: resume is one path$"):
            expand_resume([word])


def test_resume_leaves_values_that_follow_others_as_they_were_typed(tmp_path):
    word = "method.decay_epochs='${half:${method.epochs}}'"
    assert expand_resume([f"resume={made_run(tmp_path, word)}"])[0] == word


EVIL = "+callbacks.x={_target_: os.mkdir, path: x}"


def test_resume_of_a_strangers_folder_is_refused_unless_trusted(tmp_path):
    run = made_run(tmp_path / "run", f"'{EVIL}'", "trust=true")  # which only counts where it is typed
    for words in ([], ["trust=false"]):
        with pytest.raises(UserError, match=r"run is refused: its word .*os\.mkdir.* add trust=true"):
            expand_resume([f"resume={run}", *words])
    with pytest.raises(UserError, match="trust must be true or false; got 'no'"):
        expand_resume([f"resume={run}", "trust=no"])
    assert expand_resume([f"resume={run}", "trust=true"])[0] == EVIL
    assert EVIL.replace("x}", "y}") in expand_resume([f"resume={run}", EVIL.replace("x}", "y}")]), (
        "what is typed is one's own"
    )


def test_trust_is_true_or_false_also_where_none_is_needed(tmp_path, monkeypatch):
    run = made_run(tmp_path / "run", "seed=1")
    monkeypatch.setattr("lit_ghibli.trust.is_own", lambda *_: True)
    with pytest.raises(UserError, match="trust must be true or false; got 'maybe'"):
        expand_resume([f"resume={run}", "trust=maybe"])


def test_resume_of_words_that_are_none_is_a_line(tmp_path):
    with pytest.raises(UserError, match=r"overrides\.yaml: \[0\] must be text; got null"):
        expand_resume([f"resume={made_run(tmp_path, 'null')}"])


def test_resume_leaves_other_command_lines_alone():
    assert expand_resume(["seed=1", "data=scenes"]) == ["seed=1", "data=scenes"]


def test_runs_that_cannot_be_resumed_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such run"):
        expand_resume([f"resume={tmp_path / 'nowhere'}"])
    with pytest.raises(CheckpointError, match="nothing was saved yet"):
        expand_resume([f"resume={tmp_path}"])
    stray = tmp_path / "stray" / "checkpoints" / "x.ckpt"
    stray.parent.mkdir(parents=True)
    stray.touch()
    with pytest.raises(UserError, match=r"not a run's folder, since it has no record\.json"):
        expand_resume([f"resume={stray}"])


@pytest.mark.parametrize(
    ("command", "word", "key", "expected"),
    [
        ("evaluate", "style=a.png", "checkpoint", "a.png"),
        ("evaluate", "checkpoint=a.png:0.7,b.png:0.3", "checkpoint", "a.png:0.7,b.png:0.3"),
        ("evaluate", "style=nearest:x y", "checkpoint", "nearest:x y"),
        ("pseudo-pair", "style=magenta26:7", "teacher", "magenta26:7"),
        ("pseudo-pair", "teacher=mean:folder", "teacher", "mean:folder"),
        ("profile", "style=a.png", "checkpoints", ["a.png"]),
        ("profile", "checkpoint=a.png:0.7,b.png:0.3", "checkpoints", ["a.png:0.7,b.png:0.3"]),
        ("profile", "checkpoint=meadow,magenta26:7,a.png", "checkpoints", ["meadow", "magenta26:7", "a.png"]),
        ("profile", "checkpoint=nearest:x,meadow", "checkpoints", ["nearest:x", "meadow"]),
        ("compare", "mix:a.png:0.7,b.png:0.3", "subjects", ["mix:a.png:0.7,b.png:0.3"]),
        ("mos build", "methods={one: a.png, m7: 'magenta26:7'}", "methods", {"one": "a.png", "m7": "magenta26:7"}),
    ],
)
def test_styles_by_pictures_are_words_of_every_command(command, word, key, expected):
    config = compose(module_of(command), to_overrides(command, [word]))
    found = config[key]
    assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == expected


def test_what_a_run_was_composed_with_is_noted_as_it_was_typed():
    typed = ["+passes=4", "method.epochs=${passes}", "method.decay_epochs='${half:${method.epochs}}'"]
    config = compose("train", [*typed, "+number='${hydra:job.num}'", "hydra.job.num=3"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        noted = job_overrides()
    finally:
        HydraConfig.instance().cfg = None
    assert noted == [*typed, "+number='3'"]
    assert compose("train", noted).method.decay_epochs == 2
