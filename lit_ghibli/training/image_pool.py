"""A history of generated images for the discriminator."""

import torch
from torch import Tensor


class ImagePool:
    """Shows the discriminator generated images of earlier steps half of the time.

    While the pool fills, images pass through. After that each image is, with probability 0.5, returned as it
    is, or else exchanged for a random one of the pool. Draws come from the pool's own generator, so that they
    neither disturb nor depend on the global random state.

    Source: Shrivastava et al. 2017, section 2.3; Zhu et al. 2017, section 4 (50 images).

    Args:
        size: Number of images held; 0 turns the pool off.
        seed: Seed of the draws; give every rank its own.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        if size < 0:
            raise ValueError(f"the size of an image pool must be 0 or more; got {size}")
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def query(self, images: Tensor) -> Tensor:
        """Exchange images ``(N, 3, H, W)`` for a mix of them and of the pool's: detached, the same shape."""
        images = images.detach()
        if self.size == 0:
            return images
        return torch.stack([self._exchange(image) for image in images])

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        keep, index = torch.rand(2, generator=self.generator).tolist()
        if keep < 0.5:
            return image
        index = int(index * self.size)
        stored = self.images[index].to(image.device)
        self.images[index] = image.clone()
        return stored

    def state_dict(self) -> dict:
        """State for a checkpoint: plain tensors only."""
        return {"images": [image.cpu() for image in self.images], "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` gave; images beyond this pool's size are left out."""
        self.images = list(state["images"])[: self.size]
        self.generator.set_state(state["generator"])
