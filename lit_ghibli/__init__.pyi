from lit_ghibli.commands.train import train_here as train
from lit_ghibli.inference.load import load as load

__all__ = ["load", "train"]
__version__: str
