"""Every spelling of what is optimised."""

from __future__ import annotations

import pytest

from ditflow.sampling.variables import VARIABLES
from trainers.motion.signal_option import variable_kind
from trainers.parser_errors import in_one_sentence


@pytest.mark.parametrize("kind", VARIABLES)
def test_a_variable_goes_by_its_kind_its_class_and_the_name_of_it(kind):
    variable = VARIABLES[kind]
    assert {variable_kind(spelling) for spelling in (kind, variable, variable.__name__)} == {kind}


def test_an_option_of_a_class_that_is_not_named_says_so():
    message = "Parser key \"model.signal\":\n  Got value: NestedArg(key='temperature', val='3')"
    sentence = in_one_sentence(message, "fit")
    assert sentence.startswith("--model.signal.temperature belongs to a class: name it first")
