"""`lit-ghibli completion bash|zsh`: print a script that makes a shell complete the words of every command."""

import glob
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_ghibli.commands import COMMANDS, module_of, to_overrides
from lit_ghibli.errors import UserError

_SCRIPTS = {
    "bash": """\
_lit_ghibli() {
    local i IFS=$'\\n' now="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    COMPREPLY=($(lit-ghibli completion reply "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    for i in "${!COMPREPLY[@]}"; do  # names of files may hold spaces
        [[ ! -e ${COMPREPLY[i]} ]] || COMPREPLY[i]=$(printf %q "${COMPREPLY[i]}")
    done
    # Readline replaces what stands after the last separator only.
    if [[ $now == = || $before == = ]]; then COMPREPLY=("${COMPREPLY[@]#*=}"); fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=./] ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _lit_ghibli lit-ghibli
""",
    "zsh": """\
#compdef lit-ghibli
_lit_ghibli() {
    local -a replies whole begun
    replies=("${(@f)$(lit-ghibli completion reply "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    whole=(${replies:#*[=./]}) begun=(${(M)replies:#*[=./]})
    if [[ -n $replies ]]; then
        compadd -a whole
        compadd -S '' -a begun
    else
        compset -P '*='
        _files
    fi
}
compdef _lit_ghibli lit-ghibli
""",
}
_HELP = """lit-ghibli completion bash|zsh: print what makes a shell complete commands, keys, choices and files.

  eval "$(lit-ghibli completion bash)"     in ~/.bashrc
  eval "$(lit-ghibli completion zsh)"      in ~/.zshrc, after compinit"""


def replies(words: Sequence[str]) -> list[str]:
    """What the last of the words after the program's name may become; nothing where it is to be a file's name.

    Args:
        words: As they stand, or as bash cuts them, which makes a word of each equals sign.
    """
    *before, word = _glued(words) or [""]
    command = next((name for name in (" ".join(before[:2]), *before[:1]) if name in COMMANDS), None)
    if before[:1] == ["help"] and len(before) == 1:
        before = []
    if command is None:
        seconds = [name.split()[1] for name in COMMANDS if before and name.split()[:-1] == before]
        firsts = [] if before else ["help", *dict.fromkeys(name.split()[0] for name in COMMANDS)]
        return [name for name in (*seconds, *firsts) if name.startswith(word)]
    if before[-1] in ("--out", "-o"):
        return []
    if command in ("completion", "wandb-trial"):
        known = [*_SCRIPTS] if command == "completion" else []
    elif word.startswith("-"):
        known = ["--help", "--version", "--out", "--cfg", "--multirun", *COMMANDS[command].flags]
    else:
        known = _keys_and_values(command, before[len(command.split()) :], word)
        if COMMANDS[command].words and "=" not in word:
            paths = glob.glob(glob.escape(word) + "*")
            known = [*(path + "/" * Path(path).is_dir() for path in sorted(paths)), *known]
    return [name for name in known if name.startswith(word)]


def _keys_and_values(command: str, before: Sequence[str], word: str) -> list[str]:
    """Keys up to their next dot, or the choices and truth values of the one that is given."""
    from lit_ghibli.recipes import keys_and_choices  # here, as it imports Hydra

    inner = "train" if re.match(COMMANDS[command].passed_on, "method.x") else command
    chosen = []
    for given in before:
        try:
            chosen += [each for each in to_overrides("train", [given]) if not each.startswith("-")]
        except UserError:  # no word of a training's
            continue
    keys, groups = keys_and_choices(module_of(inner), chosen)
    if command != inner:
        keys = {**keys_and_choices(module_of(command), [])[0], **keys}
    key, equals, _ = word.partition("=")
    if equals:
        values = groups.get(key) or (["true", "false"] if isinstance(keys.get(key), bool) else [])
        return [f"{key}={value}" for value in values]
    level = word.count(".")
    names = [*groups, *(".".join(name.split(".")[: level + 1]) for name in keys)]
    return [
        f"{name}{end}"
        for name in dict.fromkeys(names)
        for end in "=."
        if (end == "=" and (name in keys or name in groups))
        or (end == "." and any(other.startswith(f"{name}.") for other in keys))
    ]


def _glued(words: Sequence[str]) -> list[str]:
    """Words that bash has cut at equals signs and colons."""
    whole: list[str] = []
    for number, word in enumerate(words):
        if whole and (re.fullmatch("[=:]+", word) or (number and re.fullmatch("[=:]+", words[number - 1]))):
            whole[-1] += word
        else:
            whole.append(word)
    return whole


def main(arguments: Sequence[str]) -> None:
    """Print a script, or, for such a script, replies.

    Raises:
        SystemExit: There is no script for that shell.
    """
    if arguments[:1] == ["reply"]:
        try:
            print(*replies(arguments[1:]), sep="\n")
        except UserError:  # words that are not finished yet
            return
    elif not arguments or {"-h", "--help"} & set(arguments):
        print(_HELP)
    elif arguments[0] in _SCRIPTS:
        print(_SCRIPTS[arguments[0]], end="")
    else:
        raise SystemExit(
            f"lit-ghibli completion: there is no script for {arguments[0]}, only for {' and '.join(_SCRIPTS)}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
