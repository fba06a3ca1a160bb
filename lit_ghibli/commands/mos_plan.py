"""`lit-ghibli mos plan`: how many raters and pictures an opinion study needs."""

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.errors import UserError
from lit_ghibli.reports.tables import markdown_table


@command("mos plan")
def mos_plan(config: DictConfig) -> None:
    """Print how often studies of these sizes find the difference, and the smallest that do as often as is asked for."""
    # Here, so that --help answers at once.
    from lit_ghibli.opinion.planning import Spread, power

    if config.methods < 2 or min(config.raters) < 2 or min(config.sets) < 1 or not 0 < config.power < 1:
        raise UserError("a study has two methods, two raters and one set at least, and a power between 0 and 1")
    if config.difference <= 0 or min(config.spread.values()) < 0:
        raise UserError("difference is above 0, and no spread below it")
    spread = Spread(**config.spread)
    rows, enough = [], {}
    for raters in sorted(config.raters):
        row = {"raters": raters}
        for sets in sorted(config.sets):
            found = power(raters, sets, config.methods, config.difference, spread, config.studies, config.seed)
            row[f"{sets} sets"] = found
            if found >= config.power:
                enough.setdefault(sets, raters)
        rows.append(row)
    others = config.methods - 1
    print(
        f"How often it is found that one method is better than {others} other{'s' * (others > 1)} by "
        f"{config.difference:g} of 5 ({config.studies} simulated studies of each size):\n\n{markdown_table(rows)}"
    )
    for sets, raters in enough.items():
        print(f"{sets} sets: {raters} raters find it in {config.power:.0%} of studies, or more")
    if not enough:
        print(f"none finds it in {config.power:.0%} of studies: try more raters, raters=[60,100,200], or sets")
    print("The spread is a guess: with a few raters' answers at hand, set spread.noise and spread.taste by them.")


if __name__ == "__main__":
    mos_plan()
