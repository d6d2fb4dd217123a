"""The small data set of the encoders' tests."""

from tests.model_ext.train.encoders.conftest import world as world
