"""What decides a training run."""

from dataclasses import dataclass

from centroidlib.adversarial import GAMES
from centroidlib.losses import UNITS
from centroidlib.machine import PRECISIONS
from centroidlib.models import ARCHITECTURES

SPACES = ("phi", "discriminator")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what is trained; the defaults are the paper's, or DCGAN's where it is silent."""

    steps: int = 10_000
    batch_size: int = 128
    lambda_: float = 0.1  # λ of Eq. 4; 0 is plain DCGAN
    warmup: int = 0  # steps over which λ rises from 0; the paper has none
    adapt: float = 0.0  # share of the first λ that it moves by at most in a step, towards what real images pay; 0 for a fixed λ
    space: str = "phi"  # whose features the constraint is on: phi, or discriminator: its own, around a moving centroid
    unit: str = "raw"  # of the distances in Eq. 3: raw or d_ref
    centroid_samples: int = 0  # M of Eq. 3, images of the batch it is taken over; 0 for the whole batch
    instance_noise: float = 0.0  # standard deviation of noise on all that D sees, of images in [-1, 1]; the paper has none
    learning_rate: float = 2e-4
    game: str = "bce"  # of D and G: bce, hinge, relativistic
    r1: float = 0.0  # γ of the gradient penalty R1, at real images; 0 for none, as in the paper
    r2: float = 0.0  # the same at generated images
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.0  # decay of a moving average of the generator, kept beside it; 0 for none, as in the paper
    architecture: str = "dcgan"  # of both networks: dcgan, resnet
    latent: int = 100
    width: int = 64
    flip: bool = False  # show each image mirrored half of the time
    precision: str = "auto"  # networks' arithmetic: float32, bfloat16, or auto: bfloat16 where the processor has it
    deterministic: bool = False  # on a GPU the same bits in every run, at some cost; a CPU gives them with the same threads
    seed: int = 0  # of initial weights, latents and data order, each a stream of its own

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "latent", "width", "learning_rate"):
            if not getattr(self, name) > 0:  # NaN neither
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm has no variance of a single image.")
        if not 0 <= self.centroid_samples <= self.batch_size:
            raise ValueError(f"centroid_samples must be 0 (the whole batch) to {self.batch_size}, not {self.centroid_samples}.")
        for name in ("instance_noise", "r1", "r2"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or above, not {getattr(self, name)}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be 0 or above and below 1, not {getattr(self, name)}.")
        if not 0 <= self.lambda_ < float("inf"):
            raise ValueError(f"lambda_ must be 0 (no centroid loss) or above, not {self.lambda_}.")
        if self.warmup < 0 or not 0 <= self.adapt <= 1:
            raise ValueError(f"warmup is steps and adapt a share of λ, 0 to 1, not {self.warmup} and {self.adapt}.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is a decay, 0 (no average) or above and below 1, not {self.ema}.")
        choices = {"unit": UNITS, "space": SPACES, "precision": PRECISIONS, "game": GAMES, "architecture": tuple(ARCHITECTURES)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}.")
