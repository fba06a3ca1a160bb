"""VQ-I2I: translation of vector-quantised content in a style of its own.

Chen, Tzeng, Chen, Chu, Chiu 2022, "Vector Quantized Image-to-Image Translation", ECCV, arXiv:2207.13286; with AdaIN as
Santoso et al. 2024, arXiv:2412.19455, section 5.1 have it: VQI2I_AdaIN and VQI2ICrossGAN_AdaIN there. Domain A holds
photographs, domain B anime pictures. c(.) is the content of a picture, as features, and q(.) the same as codes; s_A(.),
s_B(.) are its style; G_A(q, s), G_B(q, s) paint. Of a and b there are two reconstructions, G_A(q(a), s_A(a)) = a~ and
b~, and two translations, G_B(q(a), s_B(b)) = ab and G_A(q(b), s_A(a)) = ba.

(1) gan      for D_B half of E[max(0, 1 - D_B(b))] + E[max(0, 1 + D_B(ab))], and of the same with b~ for ab, weighted by
             ``judged``; -E[D_B(ab)] and -E[D_B(b~)], so weighted, for all other networks; likewise for D_A
(2) l1       E[|a~ - a|_1] + E[|b~ - b|_1]
(3) lpips    the same by LPIPS
(4) codebook distance of c and q of both pictures, that moves codes to features and, times beta, features to codes
(5) style    E[|s_B(ab) - s_B(b)|_1] + E[|s_A(ba) - s_A(a)|_1]                                     (re-encoding)
(6) content  E[|c(ab) - c(a)|_1] + E[|c(ba) - c(b)|_1]                                             (re-encoding)
and for pairs (a, b), if there is a weight:
(7) pair          half of E[|ab - b|_1] + E[|ba - a|_1]                                   (authors' code alone)
(8) pair_content  E[|c(a) - c(b)|_1] + E[|q(a) - q(b)|_1]                                 (authors' code alone)

Deviations: the second stage, a transformer that continues pictures, is no part of the report's recipe, nor of this one.
By (5) and (6) decoders learn, and neither the encoders nor what they aim at: with all learning, styles were nothing
after a hundred steps, for nothing is easier to encode again; with the aims alone held, they grew without bounds. Beta
weighs the commitment, as in van den Oord et al. 2017; ``beta_weighs`` brings the released code's slip back.
``faithful``: the released code computes (5) and (6) for unpaired pictures and leaves them out of the sum. Each
decoder's losses are backpropagated before the next one's are computed, which changes no gradient.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.errors import UserError
from lit_ghibli.losses.adversarial import hinge_discriminator_loss, hinge_generator_loss
from lit_ghibli.losses.codebook import BetaWeighs, codebook_loss
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.lpips import Lpips
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.quantizer import Quantized, perplexity
from lit_ghibli.networks.sizes import pad_to_multiple
from lit_ghibli.networks.vqi2i import Domain, VqGenerator
from lit_ghibli.training.schedules import check_initialization
from lit_ghibli.training.updates import check_weights, collected, detached, held, update, weighted_sum

SlowAdam = partial(GanAdam, lr=1e-5)
AffineDiscriminator = partial(PatchDiscriminator, norm="affine_instance")
WEIGHTS = {"gan": 0.1, "l1": 5.0, "lpips": 5.0, "codebook": 1.0, "style": 1.0, "content": 0.2}
WEIGHTS |= {"pair": 0.0, "pair_content": 0.0}
TRANSLATED = ("gan", "style", "content", "pair")  # terms that need translations
JUDGED = {"translation": 1.0, "reconstruction": 0.2}


class VQI2I(Translation):
    """Encoders of content and style, a codebook and two decoders, trained on unpaired pictures or on pairs.

    Args:
        generator: Makes the networks that translate.
        discriminator: Makes one discriminator; called twice.
        lpips: Makes the network of (3); only for a training with that weight.
        optimizer_g: Makes the optimiser of the generator from its parameters.
        optimizer_d: Makes the optimiser of both discriminators from their parameters.
        weights: Weights of (1) to (8) by name. With (7) or (8) batches are pairs.
        judged: Weights within (1) of ``translation`` and ``reconstruction``.
        beta: Of (4).
        beta_weighs: ``commitment`` or ``codebook``; see :func:`~lit_ghibli.losses.codebook.codebook_loss`.
        faithful: Leave (5) and (6) out of a training on unpaired pictures.
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        initialization_epochs: How many of these, the first, learn (2) to (4) and (8) alone; the discriminators of
            Esser et al. 2021, VQGAN, start late, too.
        metrics: What held-out photographs are judged by.

    Raises:
        UserError: Settings that fit no configuration.
    """

    joinable = ("discriminator_a", "discriminator_b")

    def __init__(
        self,
        generator: Callable[[], VqGenerator] = VqGenerator,
        discriminator: Callable[[], nn.Module] = AffineDiscriminator,
        lpips: Callable[[], Lpips] = Lpips,
        optimizer_g: Callable[..., Optimizer] = SlowAdam,
        optimizer_d: Callable[..., Optimizer] = SlowAdam,
        weights: Mapping[str, float] | None = None,
        judged: Mapping[str, float] | None = None,
        beta: float = 0.25,
        beta_weighs: BetaWeighs = "commitment",
        faithful: bool = False,
        epochs: int = 1000,
        decay_epochs: int = 0,
        initialization_epochs: int = 0,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights(WEIGHTS if weights is None else weights, set(WEIGHTS))
        self.judged = check_weights(JUDGED if judged is None else judged, set(JUDGED), "method.judged")
        self.paired = bool(self.weights["pair"] or self.weights["pair_content"])
        self.batch_keys = ("input", "target") if self.paired else ("photo", "anime")
        if beta_weighs not in ("commitment", "codebook"):
            raise UserError(f"method.beta_weighs is {beta_weighs!r}; it must be 'commitment' or 'codebook'")
        self.beta, self.beta_weighs, self.faithful = beta, beta_weighs, faithful
        if faithful and not self.paired:
            self.weights |= {"style": 0.0, "content": 0.0}
        self.generator = generator()
        self.discriminator_a, self.discriminator_b = discriminator(), discriminator()
        self.make_lpips, self.lpips = lpips, None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        reconstructing = {name: self.weights[name] for name in ("l1", "lpips")}
        check_initialization(initialization_epochs, epochs, decay_epochs, reconstructing)
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.initialization_epochs = initialization_epochs
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Make LPIPS where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and self.weights["lpips"]:
            self.lpips = self.make_lpips()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """For each domain its discriminator's update and what its decoder owes; then the generator's update.

        In the initialisation pictures are reconstructed alone.
        """
        a, b = (batch[key] for key in self.batch_keys)
        optimizer_g, optimizer_d = self.optimizers()
        initializing = self.iteration < self.initialization_steps
        weights = self.weights | (dict.fromkeys(TRANSLATED, 0.0) if initializing else {})

        with update(self, optimizer_g):
            contents = [self.generator.encode_content(pictures) for pictures in (a, b)]
            codes = [content.straight_through for content in contents]
            styles = [self.generator.encode_style(a, "a"), self.generator.encode_style(b, "b")]
            q_a, q_b, s_a, s_b = copies = detached(*codes, *styles)
            c_a, c_b = (content.features.detach() for content in contents)
            _, terms_a = self.backward_from("a", a, q_a, s_a, q_b, c_b, optimizer_d, weights)
            ab, terms_b = self.backward_from("b", b, q_b, s_b, q_a, c_a, optimizer_d, weights)
            losses = terms_a | terms_b | {name: terms_a[name] + terms_b[name] for name in terms_a if name in terms_b}

            terms = self.encoding_terms(*contents, *codes)
            behind = collected(self, [*codes, *styles], copies)
            self.manual_backward(behind + weighted_sum(terms, self.weights) if terms else behind)
            optimizer_g.step()

        self.generator.quantizer.observe(*contents)
        self.generator.observe_styles(styles[1].detach())
        in_use = self.generator.quantizer.in_use
        num_codes = len(self.generator.quantizer.codebook)
        chosen = torch.cat([content.codes.flatten() for content in contents])
        self.log_dict({"train/codes_in_use": in_use * num_codes, "train/perplexity": perplexity(chosen, num_codes)})
        pictures = {} if ab is None else {"input": a, "output": ab}
        return self.report(losses | terms, **pictures, codes_in_use=in_use)

    def backward_from(
        self,
        domain: Domain,
        real: Tensor,
        codes: Tensor,
        style: Tensor,
        other_codes: Tensor,
        other_content: Tensor,
        optimizer_d: Any,
        weights: Mapping[str, float],
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Update a domain's discriminator, then backpropagate what its decoder owes: (1) to (3) and (5) to (7).

        Args:
            domain: That is painted.
            real: Its pictures.
            codes: Their content.
            style: Their style.
            other_codes: Content of the other domain's pictures, to be painted in that style.
            other_content: The same before quantisation, which (6) aims at.
            optimizer_d: Of both discriminators.
            weights: Of the terms, at this step.

        Returns:
            The translation of the other domain's pictures, None without a weight for it, and the unweighted terms that
            have one, all detached.
        """
        discriminator = self.discriminator_a if domain == "a" else self.discriminator_b
        pictures = {}
        if any(weights[name] for name in TRANSLATED):
            pictures["translation"] = self.generator.decode(other_codes, style, domain)
        if weights["l1"] or weights["lpips"] or (weights["gan"] and self.judged["reconstruction"]):
            pictures["reconstruction"] = self.generator.decode(codes, style, domain)
        fake, losses, terms = pictures.get("translation"), {}, {}
        if weights["gan"]:
            judged = {name: picture for name, picture in pictures.items() if self.judged[name]}
            with update(self, optimizer_d):
                logits, *others = self.passes(discriminator, real, *(each.detach() for each in judged.values()))
                compared = {
                    name: hinge_discriminator_loss(logits, other) for name, other in zip(judged, others, strict=True)
                }
                losses[f"discriminator_{domain}"] = weighted_sum(compared, self.judged)
                self.manual_backward(losses[f"discriminator_{domain}"])
                optimizer_d.step()
            taken = {name: hinge_generator_loss(discriminator(picture)) for name, picture in judged.items()}
            terms["gan"] = weighted_sum(taken, self.judged)
        if weights["l1"]:
            terms["l1"] = F.l1_loss(pictures["reconstruction"], real)
        if weights["lpips"]:
            terms["lpips"] = self.lpips(pictures["reconstruction"], real)
        with held(self.generator):
            if weights["style"]:
                terms["style"] = F.l1_loss(self.generator.encode_style(fake, domain), style.detach())
            if weights["content"]:
                terms["content"] = F.l1_loss(self.generator.encode_content(fake).features, other_content)
        if weights["pair"]:
            terms["pair"] = 0.5 * F.l1_loss(fake, real)
        if terms:
            self.manual_backward(weighted_sum(terms, weights))
        return fake if fake is None else fake.detach(), {name: term.detach() for name, term in (terms | losses).items()}

    def encoding_terms(
        self, content_a: Quantized, content_b: Quantized, codes_a: Tensor, codes_b: Tensor
    ) -> dict[str, Tensor]:
        """(4) and (8), which need no decoder."""
        terms = {}
        if self.weights["codebook"]:
            pair = (content_a, content_b)
            terms["codebook"] = sum(codebook_loss(c.features, c.nearest, self.beta, self.beta_weighs) for c in pair)
        if self.weights["pair_content"]:
            terms["pair_content"] = F.l1_loss(content_a.features, content_b.features) + F.l1_loss(codes_a, codes_b)
        return terms

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        return self.gan_optimizers([self.generator], [self.discriminator_a, self.discriminator_b])

    def translator(self) -> nn.Module:
        return self.generator

    @torch.no_grad()
    def picture_columns(self, input: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Input, reconstruction, translation in the mean style, and in three styles that stay the same."""
        draws = torch.Generator().manual_seed(0)
        styles = {f"style {number}": self.generator.sample_style(draws) for number in (1, 2, 3)}
        height, width = input.shape[-2:]
        padded = pad_to_multiple(input, self.generator.size_multiple, self.generator.minimum_size)
        columns = {"reconstruction": self.generator.reconstruct(padded), "translation": self.generator(padded)}
        columns |= {title: self.generator(padded, style) for title, style in styles.items()}
        columns = {title: picture[..., :height, :width].clamp(-1, 1) for title, picture in columns.items()}
        columns = {"input": input, **columns}
        return columns if target is None else {**columns, "target": target}
