import pytest

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.limits import Limits


@pytest.fixture
def config() -> PreprocessConfig:
    return PreprocessConfig()


@pytest.fixture
def limits() -> Limits:
    return Limits()
