"""Which parameters learn how fast, as published: facts that a recipe needs."""

BASE_RATE = 1e-4
ENCODER_MULTIPLIER = 0.1  # of the learning rate, but not in the first epoch
EPOCHS = 50
MILESTONE = 35  # epochs, after which all rates are a tenth


def learns_slowly(name: str) -> bool:
    """Whether a parameter is in the slow group: the encoder but for its position embeddings.

    Args:
        name: in the model, under our names.
    """
    return name.startswith("encoder.") and not name.endswith("position_embedding")


def published_rates(epoch: int) -> tuple[float, float]:
    """Learning rates of the slow group and of the rest in an epoch, counted from 1.

    The authors name the slow rate where only the schedule reads it, which first runs after an
    epoch: in the first one both groups learn at the full rate.
    """
    rate = BASE_RATE * (0.1 if epoch > MILESTONE else 1.0)
    return (rate if epoch == 1 else rate * ENCODER_MULTIPLIER), rate
