"""Networks by name."""

import subprocess
import sys

import pytest

from tda_utils.models import model_builder
from tda_utils.models.convolutional import CNN2L, CNN3L
from tda_utils.models.vision_transformer import LoRAVisionTransformer
from tests.refusals import refused


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("cnn2", {}, CNN2L),
        ("cnn3", {}, CNN3L),
        ("vit", {"backbone": "tiny", "image_size": 14}, LoRAVisionTransformer),
    ],
)
def test_each_name_builds_a_fresh_network(name, options, kind):
    build = model_builder(name, 3, **options)
    one, other = build(), build()
    assert type(one) is kind and one is not other
    assert next(p for p in one.parameters() if p.ndim == 4).shape[1] == 3


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: model_builder("vgg", 1), ["model is 'vgg'", "'cnn2'", "'cnn3'", "'vit'"]),
        (lambda: model_builder("cnn2", 1, backbone="tiny"), ["backbone is 'tiny'", "'vit'"]),
        (lambda: model_builder("cnn3", 1, image_size=14), ["image_size is 14", "'vit'"]),
        (lambda: model_builder("cnn2", 2)(), ["channels is 2"]),
    ],
)
def test_bad_arguments_get_one_clear_sentence(call, facts):
    refused(ValueError, call, *facts)


def test_the_package_does_without_transformers():
    """It is not loaded until it is asked for, and one sentence says what is missing."""
    code = (
        "import sys; sys.modules['transformers'] = None; import tda_utils as tda\n"
        "assert 'onnx' not in sys.modules and 'peft' not in sys.modules\n"
        "assert tda.model_builder('cnn2', 1)() and tda.Experiment\n"
        "try: tda.model_builder('vit', 1)\n"
        "except ImportError as problem: print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (sentence,) = done.stdout.splitlines()
    assert all(fact in sentence for fact in ("'vit'", "transformers", "peft", "bayes-tda[vit]"))
