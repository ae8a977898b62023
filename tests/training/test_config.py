import pytest

from edgefer.errors import EdgeferError
from edgefer.training import TrainConfig
from edgefer.training.config import DEFAULT_RECIPE, RECIPES


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"epochs": 0}, "epochs is 0", "it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0", "it must be 1 or more"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0", "it must be more than 0"),
        ({"lr": -1.0}, "lr is -1.0", "it must be more than 0"),
        ({"lr": float("nan")}, "lr is nan", "it must be more than 0"),
        ({"clip": 0.0}, "clip is 0.0", "it must be more than 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1", "it must be 0 or more"),
        ({"seed": -1}, "seed is -1", "it must be from 0 to below 2⁶³"),
        ({"seed": 2**63}, "seed is 9223372036854775808", "it must be from 0 to below 2⁶³"),
        ({"warmup": 1.0}, "warmup is 1.0", "it must be from 0 to below 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0", "it must be from 0 to below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1", "it must be from 0 to below 1"),
        ({"augment": 4.0}, "augment is 4.0", "it must be from 0 (none) to 3"),
        ({"erasing": 1.1}, "erasing is 1.1", "it must be a probability from 0 to 1"),
        ({"noise": 0.6}, "noise is 0.6", "it must be a share from 0 to 0.5"),
        ({"head_lr": 0.0}, "head_lr is 0.0", "it must be more than 0"),
        ({"frozen": 1.0}, "frozen is 1.0", "it must be from 0 to below 1"),
        ({"teacher_share": 0.0}, "teacher_share is 0.0", "it must be above 0, to 1"),
        ({"schedule": "linear"}, "schedule is 'linear'", "choose one of cosine, step"),
        ({"sampling": "rare"}, "sampling is 'rare'", "choose one of shuffled, balanced"),
        ({"keep": "last"}, "keep is 'last'", "choose one of top1, loss"),
        ({"threads": 0}, "threads is 0", "it must be 1 or more"),
        ({"patience": 0}, "patience is 0", "it must be 1 or more"),
        ({"optimiser": "lion"}, "optimiser is 'lion'", "choose one of adamw, adam, sgd"),
        ({"class_weights": "yes"}, "class_weights is 'yes'", "choose one of none, sqrt, balanced"),
        ({"precision": "int8"}, "precision is 'int8'", "choose one of fp32, bf16"),
    ],
)
def test_bad_settings(settings, message, hint):
    with pytest.raises(EdgeferError) as caught:
        TrainConfig(**settings)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_recipe_fills_what_was_not_given():
    assert (TrainConfig().resolved("vgg9").batch_size, TrainConfig().resolved("vgg9").lr) == RECIPES["vgg9"]
    other = TrainConfig(batch_size=5).resolved("resnet11")
    assert (other.batch_size, other.lr) == (5, DEFAULT_RECIPE[1])
    assert TrainConfig(lr=0.5).resolved("vgg9").lr == 0.5
